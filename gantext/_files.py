"""How files of others are opened (no pipes, gzip as what it holds), and ours written: as a whole or not at all."""

from __future__ import annotations

import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast


@contextmanager
def opened(name: str, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if they are gzip's; `name` is that of the caller, for its errors.

    Raises:
        TypeError: path is none. FileNotFoundError. IsADirectoryError: a folder. ValueError: a pipe or a device, which
        could wait for ever, or gzip that is damaged, wherever that is noticed.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name}: path is {path!r} ({type(path).__name__}), must be the path of a file. Write a str.")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{name}: {path} is a folder, must be a file. Name one of its files.")
    if path.exists() and not path.is_file():
        raise ValueError(f"{name}: {path} is a pipe or a device, must be a file. Write what it gives to a file first.")
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
    """A draft beside the file, which takes its place when it is complete."""
    path = Path(path)
    _clear(path)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        draft.replace(path)  # atomic
    finally:
        draft.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Away with drafts of this file whose process is dead: it was killed in the middle, and nobody else would."""
    if os.name != "posix":
        return  # where signal 0 would do more than ask
    for draft in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        process = draft.name.removeprefix(f"{path.name}.").removesuffix(".tmp")
        if process.isdecimal():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                draft.unlink(missing_ok=True)
            except (PermissionError, OverflowError):  # of another user: it lives
                continue
