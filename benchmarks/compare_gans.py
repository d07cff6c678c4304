"""Ten ways to train a GAN on three laws, eight seeds each, with one loop and one budget: `make compare`.

The protocol is fixed here, before any result: the same networks, optimiser, batch, generator steps and two critic steps
for all; beside it WGAN and WGAN-GP with five critic steps, WGAN-GP also without momentum, as their authors train them.
Each run is kept in `_build/gans` the moment it ends, so that an interrupted sweep goes on where it stopped;
`benchmarks/results/gans.json` is written when all are there.
"""

from __future__ import annotations

import argparse
import itertools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _common
import torch
from tqdm import tqdm

from gantext.gan import features, laws, methods, metrics, networks, training
from gantext.gan.objectives import HINGE, NON_SATURATING, SATURATING, WASSERSTEIN

RUNS = _common.ROOT / "_build" / "gans"
SEEDS = range(8)
SAMPLES = 5000  # of each trained generator


@dataclass(frozen=True)
class Method:
    """A game, which may depend on the numbers in a sample, and how its players step."""

    game: Any
    n_critic: int = 2
    betas: tuple[float, float] = (0.5, 0.9)


METHODS = {
    "SGAN, saturating": Method(lambda size: methods.game(SATURATING)),
    "SGAN, non-saturating": Method(lambda size: methods.game(NON_SATURATING)),
    "hinge": Method(lambda size: methods.game(HINGE)),
    "WGAN, clipped, 5 critic steps": Method(lambda size: methods.game(WASSERSTEIN, clip=0.01, name="WGAN"), n_critic=5),
    "WGAN-GP": Method(lambda size: methods.wgan_gp()),
    "WGAN-GP, its authors' way": Method(lambda size: methods.wgan_gp(), n_critic=5, betas=(0.0, 0.9)),
    "WGAN-div, interpolates": Method(lambda size: methods.wgan_div()),
    "WGAN-div, real and fake": Method(lambda size: methods.wgan_div(at="samples")),
    "GAN-QP, L1": Method(lambda size: methods.qp(10 / size, "L1")),
    "GAN-QP, L2": Method(lambda size: methods.qp(10 / size**0.5, "L2")),
}


@dataclass(frozen=True)
class Task:
    """A law, and the budget that all methods share on it."""

    law: Any
    steps: int
    batch_size: int
    learning_rate: float


TASKS = {
    "ring": Task(laws.ring, 3000, 128, 1e-3),
    "grid": Task(laws.grid, 4000, 128, 1e-3),
    "digits": Task(laws.digits, 3000, 64, 4e-4),
}


def train(task: str, method: str, seed: int, steps: int | None = None, callbacks: Any = ()) -> training.Fit:
    """One run."""
    budget, way = TASKS[task], METHODS[method]
    law = budget.law()
    torch.manual_seed(seed)
    generator, critic = networks.generator(law.shape), networks.critic(law.shape)
    return training.fit(
        generator, critic, law.sample, way.game(law.shape[0]), steps=steps or budget.steps, n_critic=way.n_critic,
        batch_size=budget.batch_size, learning_rate=budget.learning_rate, betas=way.betas, seed=seed,
        callbacks=callbacks, progress=False,
    )  # fmt: skip


def path(task: str, method: str, seed: int) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in method)
    return RUNS / f"{task}-{name}-{seed}.pt"


def keep(task: str, method: str, seed: int) -> None:
    """Train, and keep samples of the last generator and of its running average."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    begin, kept = time.process_time(), {"steps": TASKS[task].steps, "last": None, "average": None}
    try:
        run = train(task, method, seed)
        z = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(1000 + seed))
        with torch.no_grad():
            kept |= {name: net.eval()(z) for name, net in (("last", run.generator), ("average", run.ema))}
    except FloatingPointError as error:
        kept["diverged"] = str(error)
    kept["seconds"] = time.process_time() - begin
    _common.store(path(task, method, seed), kept)


def scores(task: str, x: torch.Tensor) -> dict[str, float]:
    """What is reported of `SAMPLES` samples."""
    if task != "digits":
        return metrics.mode_coverage(x, TASKS[task].law())._asdict()
    ruler = features.Features()
    real, fake = ruler(laws.digits().images), ruler(x)
    as_many = fake[: len(real)]
    near, kernel = metrics.precision_recall(real, as_many), metrics.kernel_distance(real, as_many)
    return {"frechet": metrics.frechet_distance(real, fake), "kernel": kernel.value, **near._asdict()}


def judged(task: str, method: str, seed: int) -> dict[str, Any]:
    """The record of one run: scores of the last generator and of its running average, or none if it diverged."""
    torch.set_num_threads(1)
    kept = torch.load(path(task, method, seed))
    ends = {end: None if kept[end] is None else scores(task, kept[end]) for end in ("last", "average")}
    return {"task": task, "method": method, "seed": seed, "steps": kept["steps"], **ends}


def time_per_step(steps: int = 40) -> dict[str, dict[str, float]]:
    """Median time of a generator step with its critic steps, relative to the non-saturating SGAN's, in one process."""
    ratios = {}
    for task in ("ring", "digits"):
        calls = {method: partial(train, task, method, 0, steps) for method in METHODS}
        times = {method: t["median_ms"] for method, t in _common.interleave(calls, rounds=7, sample=0).items()}
        ratios[task] = {method: t / times["SGAN, non-saturating"] for method, t in times.items()}
    return ratios


def tables(runs: list[dict[str, Any]], times: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """For the page of results: one table a law, a row a method, mean ± 95 % interval over the seeds."""
    made = []
    for task in TASKS:
        some = next(run["last"] for run in runs if run["task"] == task and run["last"])
        head = ["method", "runs", *[f"{score}, {end}" for end in ("last", "average") for score in some]]
        body = []
        for method in METHODS:
            mine = [run for run in runs if run["task"] == task and run["method"] == method]
            good = [run for run in mine if run["last"]]
            cells = [_common.spread([run[end][score] for run in good]) for end in ("last", "average") for score in some]
            body.append([method, f"{len(good)} of {len(mine)}", *cells])
        made.append(
            {"title": f"{task}: {TASKS[task].steps} generator steps, mean ± 95 % interval", "head": head, "rows": body}
        )
    body = [[method, *[f"{times[task][method]:.2f}" for task in times]] for method in METHODS]
    title = "time of a generator step with its critic steps, relative to the non-saturating SGAN's"
    return [*made, {"title": title, "head": ["method", *times], "rows": body}]


def report(jobs: int) -> None:
    """Score every run, time the methods, write the result."""
    everything = list(itertools.product(TASKS, METHODS, SEEDS))
    with ProcessPoolExecutor(jobs) as pool:
        scored = pool.map(judged, *zip(*everything, strict=True), chunksize=8)
        runs = list(tqdm(scored, desc="scores", total=len(everything)))
    torch.set_num_threads(1)
    times = time_per_step()
    real = features.Features()(laws.digits().images)
    floor = metrics.frechet_floor(real, SAMPLES)
    _common.write_json("gans", {
        "schema": 1, "title": "Ten ways to train a GAN on three laws", "chapter": "gan-comparison",
        "command": "python benchmarks/compare_gans.py",
        **_common.environment("accelerate", "scikit-learn"), "rows": [], "tables": tables(runs, times), "times": times,
        "floor": {
            "frechet": floor.mean, "spread": floor.std,
            "test": metrics.frechet_distance(real, features.Features()(laws.digits("test").images)),
        },
        "runs": runs,
    })  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    arguments.add_argument("--jobs", type=int, default=2, help="runs side by side")
    options = arguments.parse_args()
    runs = [(task, method, seed) for seed in SEEDS for task, method in itertools.product(options.tasks, METHODS)]
    _common.sweep(keep, runs, path, options.jobs)
    if all(path(*run).exists() for run in itertools.product(TASKS, METHODS, SEEDS)):
        report(options.jobs)
