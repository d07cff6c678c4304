"""How files of others are opened (no pipes, gzip as what it holds), and ours written: whole or not, by one run."""

from __future__ import annotations

import contextlib
import glob
import gzip
import itertools
import os
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast


def readable(name: str, path: str | os.PathLike[str]) -> Path:
    """The path of a file to read, if it is there; `name` is that of the caller, for its errors.

    Raises:
        TypeError: path is none. IsADirectoryError: a folder. ValueError: a pipe or a device, which could wait for ever.
    """
    path = _path(name, "path", path)
    if path.is_dir():
        raise IsADirectoryError(f"{name}: {path} is a folder, must be a file. Name one of its files.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{name}: {path} is a pipe or a device, must be a file. Write what it gives to a file first.")
    return path


def _path(name: str, argument: str, path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise TypeError(f"{name}: {argument} is {path!r} ({kind}), must be the path of a file. Write a str.")
    return Path(path)


@contextmanager
def opened(name: str, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The bytes of a `readable` file, unpacked if they are gzip's; ValueError for damaged gzip, once it is noticed."""
    path = readable(name, path)
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            file.seek(0)
            yield file
            return
    try:
        with gzip.open(path) as unpacked:
            yield cast(BinaryIO, unpacked)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: {path} is damaged gzip ({error}), must be whole. Fetch it again.") from error


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A draft beside the file, or beside what a link points to, which takes its place when it is complete."""
    path = Path(path).resolve()
    _clear(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{next(_drafts)}.tmp")  # each thread's its own
    try:
        yield draft
        draft.replace(path)  # atomic
    finally:
        draft.unlink(missing_ok=True)


_drafts = itertools.count()  # of this process


def _clear(path: Path) -> None:
    """Away with drafts of this file whose process is dead: it was killed in the middle, and nobody else would."""
    if os.name != "posix":
        return  # where signal 0 would do more than ask
    for draft in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        process, _, number = draft.name.removeprefix(f"{path.name}.").removesuffix(".tmp").partition(".")
        if process.isdecimal() and number.isdecimal():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                draft.unlink(missing_ok=True)
            except (PermissionError, OverflowError):  # of another user: it lives
                continue


def placed(name: str, argument: str, path: str | os.PathLike[str]) -> Path:
    """The path of a file to write; TypeError or ValueError if it is none, before anything is computed for it."""
    path = _path(name, argument, path)
    folder = path.resolve().parent  # where a draft of it will lie
    if (path.exists() and not path.is_file()) or not folder.is_dir():  # a device would be replaced by a file
        raise ValueError(f"{name}: {argument} is {path}, must be a file in a folder that exists. Make the folder.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{name}: {argument} is {path}, must be in a folder that can be written. Name another.")
    return path


@contextmanager
def held(name: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """One run alone works on this file or folder meanwhile; ValueError, with who does, if there is another.

    The lock is the system's, on PATH.lock: it ends with its process, whatever ends that, and children that are forked
    do not have it. Windows, and file systems without locks, have none.
    """
    lock = _locked(name, Path(path).resolve())  # a link to it is the same file
    owner = os.getpid()
    try:
        yield
    finally:
        if lock is not None and os.getpid() == owner:
            _locks.discard(lock)
            Path(lock.name).unlink(missing_ok=True)  # before it is let go: who waits finds that it is gone
            lock.close()


_locks: set[IO[str]] = set()  # of this process


def _forget() -> None:
    """In a forked child, which would keep a lock whose owner is dead."""
    for lock in _locks:
        lock.close()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _locked(name: str, path: Path) -> IO[str] | None:
    try:
        import fcntl
    except ImportError:
        return None
    beside = path.with_name(f"{path.name}.lock")
    while True:
        try:
            lock = beside.open("a+", encoding="utf-8")
        except OSError:  # nothing can be written there: the first `save` says so
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = " ".join(lock.read().split()) or "another process"
            lock.close()
            remedy = f"Wait for it or end it (what it has stored is kept), or name another {'folder' * path.is_dir()}"
            raise ValueError(
                f"{name}: {path} is in use by {holder}, must be of one run at a time. {remedy.strip()}."
            ) from None
        except OSError:
            lock.close()
            beside.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock.fileno()), beside.stat()):
                break
        lock.close()  # that of a run which has just ended
    with contextlib.suppress(OSError):  # a full disk: then it is another process without a name
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()} since {since}")
        lock.flush()
    _locks.add(lock)
    return lock
