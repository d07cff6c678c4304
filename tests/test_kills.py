"""SIGKILL at random points, and start again: the end is that of the unbroken run, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

PROGRAM = Path(__file__).with_name("_kills.py")


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(np.all(a == b))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("kind", "kills"), [("gan", 20), ("reader", 5), ("jose", 5)])
def test_a_run_killed_anywhere_ends_as_the_unbroken_one(kind: str, kills: int, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", str(PROGRAM), kind, str(tmp_path), str(kills), "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["kills"] == kills and found["with a file"] > kills // 3, found
    assert found["in writing"] > 0 or kills < 20, found  # some of twenty strike while a file is being written
    assert found["left"] == ["run.checkpoint"], found  # what the killed had begun to write is cleared away
    whole, resumed = (torch.load(tmp_path / name, weights_only=False) for name in ("whole", "resumed"))
    assert alike(whole["states"], resumed["states"]) and alike(whole["history"], resumed["history"])
