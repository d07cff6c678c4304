"""Two processes train as one on the joined batch, penalties and accumulated batches included, and end alike.

JoSE's processes do not, by design: see its own tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import _two
import pytest
import torch


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each of two processes ends with: the states of generator, critic and average, and the losses, by name."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-W", "ignore", str(Path(_two.__file__)), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    files = {**{name: str(k) for k, name in enumerate(_two.CASES)}, "resumed": "resumed", "reader": "reader"}
    return {name: [torch.load(folder / f"{file} {rank}") for rank in (0, 1)] for name, file in files.items()}


@pytest.mark.parametrize("name", [*_two.CASES, "resumed", "reader"])
def test_both_processes_end_with_the_same(name: str, pair: dict[str, list[Any]]) -> None:
    """Weights, vectors of spectral norm, statistics of batch norm, their averages, and losses, to the last bit."""
    for ours, other in zip(*pair[name], strict=True):
        assert [key for key in ours if not torch.equal(ours[key], other[key])] == []


@pytest.mark.parametrize("name", [name for name, case in _two.CASES.items() if case.frozen])
def test_convolutional_players_train_in_two_processes_as_in_one(name: str, pair: dict[str, list[Any]]) -> None:
    case = _two.CASES[name]
    one, begin = _two.train(case, 0, 1), _two.train(case, 0, 1, 1)
    torch.testing.assert_close(one, pair[name][0], rtol=1e-8, atol=1e-11)
    for ours, first in zip(one[:-1], begin[:-1], strict=True):  # it has moved
        assert any(not torch.allclose(ours[key], first[key], rtol=1e-5) for key in ours)


def test_the_reader_trains_in_two_processes_as_in_one(pair: dict[str, list[Any]]) -> None:
    """On four batches of different numbers of targets a step, two in each process, as on one of all."""
    (ours, losses), two = _two.read(0, 1), pair["reader"][0]
    torch.testing.assert_close([ours, losses], two, rtol=1e-8, atol=1e-11)
    assert losses["losses"][-1] < losses["losses"][0] - 0.1


def test_batch_norm_takes_its_own_process_and_its_statistics_all(pair: dict[str, list[Any]]) -> None:
    """As under DistributedDataParallel; a resumed run too."""
    name = [*_two.CASES][-1]
    for whole, resumed in zip(pair[name][0], pair["resumed"][0], strict=True):
        assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    one, two = _two.train(_two.CASES[name], 0, 1, 1)[0], pair[name][0][0]
    assert not torch.allclose(one["0.weight"], two["0.weight"], rtol=1e-6)
