"""SIGKILL at random points, and start again: the end is that of the unbroken run, to the bit.

And the converse: a run that has forgotten any one part of its checkpoint ends elsewhere, so the kills would find it.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _kills import KINDS, STEPS
from gantext_book.source import ROOT

from gantext._training import Checkpoint
from gantext.sphere import files, training

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
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_anywhere_ends_as_the_unbroken_one(kind: str, tmp_path: Path) -> None:
    kills = 20
    command = [sys.executable, "-W", "ignore", str(PROGRAM), kind, str(tmp_path), str(kills), "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["kills"] == kills and found["with a file"] > kills // 3, found
    assert found["in writing"] >= 3, found  # some of twenty strike while a file is being written
    assert found["left"] == ["run.checkpoint"], found  # what the killed had begun to write is cleared away
    whole, resumed = (torch.load(tmp_path / name, weights_only=False) for name in ("whole", "resumed"))
    assert alike(whole["states"], resumed["states"]) and alike(whole["history"], resumed["history"])


# --- one part forgotten

Name = tuple[Any, ...]


class Stopped(Exception):
    pass


def after(calls: int) -> Callable[[], None]:
    """Stops a run at one of the calls that it makes of its data or its model."""
    left = iter(range(calls))

    def begin() -> None:
        if next(left, None) is None:
            raise Stopped

    return begin


def ends_alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return alike(a["states"], b["states"]) and alike(a["history"], b["history"])


def entries(state: Any, name: Name = ()) -> Iterator[Name]:
    """The names of all numbers and tensors of a state."""
    if isinstance(state, dict | list):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from entries(value, (*name, key))
    elif isinstance(state, torch.Tensor | int | float) and not isinstance(state, bool):
        yield name


def at(state: Any, name: Name) -> Any:
    for key in name:
        if state is None or (isinstance(state, dict) and key not in state):
            return None
        state = state[key]
    return state


def without(state: Any, fresh: Any, name: Name) -> Any:
    """The state with one entry as a new run has it; where that has none yet, as optimizers have no moments, zeros."""
    if not name:
        return torch.zeros_like(state) if fresh is None else fresh
    made = copy.copy(state)
    made[name[0]] = without(state[name[0]], at(fresh, name[:1]), name[1:])
    return made


@pytest.mark.parametrize(("kind", "calls"), [("gan", 3 * 26), ("reader", 9)])
def test_each_part_of_a_checkpoint_is_needed(
    kind: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number and tensor that is not as in a new run, but for rates, which follow from the step, and SILENT."""
    run, file, load = KINDS[kind], tmp_path / "run", Checkpoint.load
    whole = run(None, lambda: None)
    with pytest.raises(Stopped):
        run(file, after(calls))
    kept, fresh, forgotten = file.read_bytes(), [], []

    def forgetting(self: Checkpoint, steps: int) -> tuple[int, Any]:
        fresh[:] = [copy.deepcopy(part.state_dict()) for part in self.parts]
        found = load(self, steps)
        for name in forgotten:
            part = self.parts[name[0]]
            part.load_state_dict(without(part.state_dict(), fresh[name[0]], name[1:]))
        return found

    def resumed(*without: Name) -> dict[str, Any]:
        forgotten[:] = without
        file.write_bytes(kept)
        return run(file, lambda: None)

    monkeypatch.setattr(Checkpoint, "load", forgetting)
    assert ends_alike(whole, resumed())
    file.write_bytes(kept)
    state = torch.load(file)
    names = [*entries(state["parts"])]
    new = lambda name: at(fresh, name)
    moved = [name for name in names if new(name) is None or not alike(at(state["parts"], name), new(name))]
    survived = [name for name in moved if ends_alike(whole, resumed(name))]
    assert survived == [name for name in moved if name[-1] == "lr" or name in SILENT[kind]]
    ends = [str(name[-1]) for name in moved]
    assert [end for end in NEEDED[kind] if not any(name.endswith(end) for name in ends)] == []
    monkeypatch.undo()
    for key, instead in (("step", 0), ("history", None)):
        torch.save(state | {key: instead}, file)
        assert not ends_alike(whole, run(file, lambda: None)), key


SILENT: dict[str, dict[Name, str]] = {
    "gan": {
        (1, "0.parametrizations.weight.0._u"): "the next forward pass makes it from _v",
        (1, "2.parametrizations.weight.0._v"): "of a weight of one row: its direction, up to the sign",
        (2, "module.1.num_batches_tracked"): "of the average, which copies it in every step",
        **{(3, "state", 2, name): "of the critic's last bias: its gradient is 0 where scores are subtracted"
           for name in ("step", "exp_avg", "exp_avg_sq")},
    },
    "reader": {},
}  # fmt: skip
NEEDED = {  # ends of names, among those that were left out
    "gan": (
        *("0.weight", "0.parametrizations.weight.original", "0.parametrizations.weight.0._v"),
        *("module.0.weight", "1.running_mean", "1.running_var", "1.num_batches_tracked", "n_averaged"),
        *("module.1.running_var", "exp_avg", "exp_avg_sq", "step", "lr"),
    ),
    "reader": ("exp_avg", "exp_avg_sq", "step", "momentum_buffer", "lr", "weight", "bias"),
}


@pytest.mark.parametrize("noise", [False, True], ids=["data", "codes and penalties"])
def test_a_run_needs_the_random_numbers_of_its_step(
    noise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They follow from the step: no file has them. Here one of the two sources begins anew when the run resumes."""
    run, done = KINDS["gan"], 12
    whole, sequence = run(None, lambda: None), np.random.SeedSequence
    with pytest.raises(Stopped):
        run(tmp_path / "run", after(3 * done))
    seen = []

    def anew(key: Any) -> np.random.SeedSequence:
        seed, process, step, kind = key
        seen.append(step)
        return sequence((seed, process, step - done if kind == noise else step, kind))

    monkeypatch.setattr(np.random, "SeedSequence", anew)
    assert not ends_alike(whole, run(tmp_path / "run", lambda: None))
    assert sorted(set(seen)) == [*range(done, STEPS["gan"])]


@pytest.mark.parametrize("part", [None, "U", "V", "D", "touched", "position", "sums", "history", "seed"])
def test_each_part_of_joses_file_is_needed(part: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is interrupted within its last epoch; rate, orders and random numbers follow from position and seed."""
    run, file, step, load = KINDS["jose"], tmp_path / "run", training.sequential, files.load
    whole, calls = run(None, lambda: None), iter(range(1000))

    def interrupted(*given: Any, **more: Any) -> Any:
        if next(calls) == training.ROUNDS * STEPS["jose"] - 4:
            signal.raise_signal(signal.SIGINT)
        return step(*given, **more)

    def forgetting(path: Path) -> Any:
        found, counts, about = load(path)
        assert found.position == training.ROUNDS * STEPS["jose"] - 3 and found.sums.all()
        settings = about["settings"]
        if part == "seed":
            about["settings"], about["params"]["random_state"] = settings._replace(seed=4), 4
        elif part:
            new = training.begin(len(counts), len(found.touched), settings, torch.device("cpu"))
            setattr(found, part, getattr(new, part))
        return found, counts, about

    with monkeypatch.context() as patch:
        patch.setattr(training, "sequential", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(file, lambda: None)
    monkeypatch.setattr(files, "load", forgetting)
    assert ends_alike(whole, run(file, lambda: None)) == (part is None)


# --- a chapter's own loop


def test_the_loop_of_conditional_layer_norm_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its larger sizes: the functions of the page itself, stopped between two files, end as if they were not."""
    from accelerate import Accelerator
    from torch.optim.lr_scheduler import LambdaLR
    from tqdm import tqdm

    tree = ast.parse((ROOT / "notebooks" / "conditional-layer-norm.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ("orders", "descend")]
    scope: dict[str, Any] = {"torch": torch, "tqdm": tqdm, "Path": Path, "Accelerator": Accelerator}
    scope |= {"SCALE": "gpu", "device": torch.device("cpu")}
    exec(compile(tree, "conditional-layer-norm", "exec"), scope)
    monkeypatch.chdir(tmp_path)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))

    def train(name: str, calls: int = 10**6) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net, begin = torch.nn.Linear(3, 1), after(calls)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        rate = LambdaLR(optimizer, lambda k: 1 - k / 2000)
        loss = lambda i: (begin(), (net(x[i]) - x[i, :1]).square())[1]
        scope["descend"](name, scope["orders"](50, 2000, 4), loss, optimizer, rate, net)
        return [t.clone() for t in net.state_dict().values()]

    whole = train("whole")
    with pytest.raises(Stopped):
        train("run", 1500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["norm-run-gpu.pt", "norm-whole-gpu.pt"]
    assert alike(train("run", 1000), whole)  # of 2,000 steps 1,000 are left
    assert torch.load(tmp_path / "norm-run-gpu.pt")["step"] == 2000
