"""The bytes of a checkout are those of the repository, whatever Git is told about line ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HASHED = ("gantext/**/*.py", "texledger/src/**/*.py", "notebooks/*", "jupytext.toml", "benchmarks/results/*.json")


def git(folder: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    author = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "core.safecrlf=false"]
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, env={**os.environ, **quiet}, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
@pytest.mark.parametrize("guarded", [True, False])
def test_a_checkout_for_windows_has_the_same_bytes(guarded: bool, tmp_path: Path) -> None:
    files = [
        file for pattern in HASHED for file in ROOT.glob(pattern) if file.is_file() and "__pycache__" not in file.parts
    ]
    before = {file.relative_to(ROOT): file.read_bytes() for file in files}
    assert len(before) > 60 and not any(b"\r" in data for name, data in before.items() if name.suffix == ".py")
    for name, data in before.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    if guarded:
        shutil.copy(ROOT / ".gitattributes", tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "all")
    for name in before:
        (tmp_path / name).unlink()
    git(tmp_path, "-c", "core.autocrlf=true", "-c", "core.eol=crlf", "checkout", "-q", "--", ".")
    changed = [name for name, data in before.items() if (tmp_path / name).read_bytes() != data]
    assert bool(changed) != guarded  # without the file nearly all would change: the test sees what it guards against
