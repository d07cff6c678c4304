"""Two runs into one file or folder: the second is refused, told who has it, and waits for nobody who is dead."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from _kills import KINDS
from gantext_book.source import ROOT

from gantext._files import held, placed, whole

sys.path.insert(0, str(ROOT / "benchmarks"))
import _common
import compare_cascades
import compare_jose

pytest.importorskip("fcntl")  # Windows has no such locks, and nothing of this

HOLDER = """
import os, sys, time
from gantext._files import held
with held("other", sys.argv[1]):
    if sys.argv[2] == "forks":
        began, begin = os.pipe()
        if not os.fork():
            os.write(begin, b"1")  # only now has it let go of what it was forked with
            time.sleep(60)
        os.read(began, 1)
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def elsewhere(path: Path, how: str = "waits") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock; killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(path), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None and int(process.stdout.readline()) == process.pid
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


USERS: dict[str, Callable[[Path], Any]] = {
    **{kind: lambda path, kind=kind: KINDS[kind](path, lambda: None) for kind in KINDS},
    "a sweep": lambda path: _common.sweep(print, [("run",)], lambda run: path / run, 1),
}


@pytest.mark.parametrize("kind", USERS)
def test_a_second_run_is_refused_and_told_who_has_it(kind: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "run"
    if kind == "a sweep":
        path.mkdir()
        (path / "run").touch()  # it is done
    with elsewhere(path) as other:
        began = time.strftime("%Y-%m-%d")
        with pytest.raises(ValueError, match="in use") as refused:
            USERS[kind](path)
        message = str(refused.value)
        rule = rf"^\w+: {re.escape(str(path))} is in use by process {other.pid} on \S+ since [\d-]+ [\d:]+, must be of"
        end = "or name another folder." if path.is_dir() else "or name another."
        assert re.match(rule, message) and message.endswith(end), message
        assert began in message or began != time.strftime("%Y-%m-%d")
        assert path.is_dir() or not path.exists()  # nothing was computed
    assert (tmp_path / "run.lock").exists()  # the killed one left it
    USERS[kind](path)
    assert [each.name for each in tmp_path.iterdir()] == ["run"]


def test_the_comparisons_with_loops_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_cascades, "RUNS", tmp_path / "cascades")
    monkeypatch.setattr(compare_jose, "RUNS", tmp_path / "jose")
    scale = compare_jose.Scale(1, 0, None)
    folder = compare_jose.path(compare_jose.jobs()[0], scale).parent
    with elsewhere(tmp_path / "cascades"), pytest.raises(ValueError, match=r"sweep: .*cascades is in use by process"):
        compare_cascades.sweep([])
    folder.parent.mkdir(exist_ok=True)
    with elsewhere(folder), pytest.raises(ValueError, match=r"sweep: .* is in use by process"):
        compare_jose.sweep(scale, 0)


def test_a_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    """Workers of a pool outlive a parent that is killed by -9."""
    with elsewhere(tmp_path / "run", "forks") as parent:
        with pytest.raises(ValueError, match="in use"), held("mine", tmp_path / "run"):
            pass
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        os.killpg(parent.pid, 0)  # the child is alive
        with held("mine", tmp_path / "run"):
            pass


def test_two_threads_and_the_same_one_again(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with held("first", path):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"), held("second", path):
            pass
        with held("third", tmp_path / "other"):
            pass
    with pytest.raises(KeyboardInterrupt), held("fourth", path):
        raise KeyboardInterrupt
    with held("fifth", path):
        pass
    assert [*tmp_path.iterdir()] == []


def test_where_a_file_cannot_be_written(tmp_path: Path) -> None:
    for path, rule in ((tmp_path, "in a folder that exists"), (tmp_path / "no" / "file", "in a folder that exists")):
        with pytest.raises(ValueError, match=f"^fit: checkpoint is {re.escape(str(path))}, must be a file {rule}"):
            placed("fit", "checkpoint", path)
        with pytest.raises(ValueError, match=r"^fit: checkpoint is"):
            KINDS["jose"](path / "x" if path == tmp_path / "no" / "file" else path / "no" / "x", lambda: None)
    os.mkfifo(tmp_path / "pipe")  # as a device would be, if root says `save("/dev/null")`
    with pytest.raises(ValueError, match="pipe, must be a file in a folder that exists"):
        placed("fit", "checkpoint", tmp_path / "pipe")
    with pytest.raises(TypeError, match=r"checkpoint is 3 \(int\), must be the path"):
        placed("fit", "checkpoint", 3)  # type: ignore[arg-type]  # what is refused


def test_a_link_stays_one_and_two_threads_do_not_share_a_draft(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "drive" / "real")
    with whole(tmp_path / "run") as draft:
        assert draft.parent == tmp_path / "drive"  # where a replacement is atomic
        draft.write_text("first")
    with whole(tmp_path / "run") as one, whole(tmp_path / "run") as other:
        one.write_text("half of it")
        other.write_text("all of it")
        assert one.read_text() == "half of it"
    assert (tmp_path / "run").is_symlink() and (tmp_path / "drive" / "real").read_text() == "half of it"
    assert [each.name for each in (tmp_path / "drive").iterdir()] == ["real"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_is_refused_before_hours_are_lost(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:  # it will be replaced, for which the folder has to take a draft
        (tmp_path / "run").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    with pytest.raises(ValueError, match="run, must be in a folder that can be written"):
        placed("fit", "checkpoint", tmp_path / "run")
    monkeypatch.undo()
    assert placed("fit", "checkpoint", tmp_path / "run") == tmp_path / "run"


def test_a_link_to_a_run_in_use_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with held("first", tmp_path / "link"):
        for path in (tmp_path / "run", tmp_path / "link"):
            with pytest.raises(ValueError, match="in use"), held("second", path):
                pass


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_in_joses_fit_says_so(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    from gantext.sphere import files
    from gantext.sphere.jose import JoSE

    file, written, save = tmp_path / "run", [], files.save_file

    def full(tables: Any, draft: Path, about: Any) -> None:
        written.append(draft)
        if len(written) == 1 and there:
            return save(tables, draft, about)
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    corpus = [["a", "b", "c", "a"], ["x", "y", "z", "y"]] * 4
    kept = "2 epochs .*; the last one is kept" if there else "1 epochs .*; there is none yet"
    with pytest.raises(OSError, match=rf"^fit: checkpoint .*run cannot be written after {kept}. Make room"):
        JoSE(4, epochs=3, min_count=1, sample=0).fit(corpus, checkpoint=file)
    assert [each.name for each in tmp_path.iterdir()] == ["run"] * there
    if there:
        monkeypatch.undo()
        whole = JoSE(4, epochs=3, min_count=1, sample=0).fit(corpus)
        resumed = JoSE.load(file).fit(corpus, resume=True)
        assert torch.equal(*(torch.from_numpy(model.word_vectors_) for model in (whole, resumed)))
