"""Ten ways to train a GAN on three laws, eight seeds each, with one loop and one budget: `make compare`.

The protocol is fixed here, before any result: the same networks, batch, generator steps and two critic steps for all;
beside it the clipped WGAN and WGAN-GP with five critic steps, WGAN-GP also without momentum, as their authors train
them. Digits have held-out data, and there more is asked for:

1. Optimiser: Adam, and for the clipped WGAN RMSProp, as its authors train it.
2. Rate: each of the ten ways searches its own, with a seed of its own (100) and the full number of steps, by the
   Frechet distance of the last generator to the digits that were trained on: among a third of the common rate, that and
   three times it, and on in steps of three until a worse one stands on either side of the best, or the ladder ends.
3. Eight seeds at that rate, 0 to 7. Scored are the last generator and the running average of its weights, both against
   the digits that were trained on and against held-out ones: Frechet distance of 5,000 samples; kernel distance,
   precision and recall of as many samples as there are digits, 1,200 and 597. And whether digits are copied: the share
   of 1,200 samples whose nearest digit, in pixels, is one that was trained on. The split was drawn by lot, so where a
   generator depends on neither part the share is 1200 / 1797 = 0.668 in the mean, with a standard deviation that
   follows from how often each digit is the nearest one. The same scores of 5,000 draws from the digits that were
   trained on are those of a generator that knows them by heart. (The shares were added when the first ten runs of the
   search were there.)
4. Compared, seed by seed: log10 of the Frechet distance of the way whose mean is least with each of the other nine, for
   both ends of training; one family of 18 differences for either set of digits, corrected by Holm.

The ring and the grid have no held-out data, and one rate for all, 0.001, without a search; there the clipped WGAN has
Adam. Their runs are older than the search on digits: with `--tasks digits` those of the record are kept, with the date
and the device of their own.

Each run is kept in `_build/gans` the moment it ends, so that an interrupted sweep goes on where it stopped;
`benchmarks/results/gans.json` is written when all that were asked for are there. In processor time the 114 runs on
digits took 71 minutes, the search 22 of them; the 160 on ring and grid take about two hours, by the time of 60 steps of
each way.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import _common
import torch
from torch import Tensor
from tqdm import tqdm

from gantext.gan import features, laws, methods, metrics, networks, training
from gantext.gan.objectives import HINGE, NON_SATURATING, SATURATING, WASSERSTEIN

RUNS = _common.ROOT / "_build" / "gans"
SEEDS, SEARCH_SEED = range(8), 100
SAMPLES = 5000  # of each trained generator


@dataclass(frozen=True)
class Method:
    """A game, which may depend on the numbers in a sample, and how its players step."""

    game: Any
    n_critic: int = 2
    betas: tuple[float, float] = (0.5, 0.9)
    rmsprop: bool = False  # where rates are searched


METHODS = {
    "SGAN, saturating": Method(lambda size: methods.game(SATURATING)),
    "SGAN, non-saturating": Method(lambda size: methods.game(NON_SATURATING)),
    "hinge": Method(lambda size: methods.game(HINGE)),
    "WGAN, clipped, 5 critic steps": Method(
        lambda size: methods.game(WASSERSTEIN, clip=0.01, name="WGAN"), n_critic=5, rmsprop=True
    ),
    "WGAN-GP": Method(lambda size: methods.wgan_gp()),
    "WGAN-GP, its authors' way": Method(lambda size: methods.wgan_gp(), n_critic=5, betas=(0.0, 0.9)),
    "WGAN-div, interpolates": Method(lambda size: methods.wgan_div()),
    "WGAN-div, real and fake": Method(lambda size: methods.wgan_div(at="samples")),
    "GAN-QP, L1": Method(lambda size: methods.qp(10 / size, "L1")),
    "GAN-QP, L2": Method(lambda size: methods.qp(10 / size**0.5, "L2")),
}


@dataclass(frozen=True)
class Task:
    """A law, and the budget that all methods share on it; with a ladder of rates, each method searches its own."""

    law: Any
    steps: int
    batch_size: int
    learning_rate: float
    ladder: tuple[float, ...] = ()

    @property
    def first(self) -> tuple[float, ...]:
        """Where a search begins."""
        at = self.ladder.index(self.learning_rate)
        return self.ladder[at - 1 : at + 2]


TASKS = {
    "ring": Task(laws.ring, 3000, 128, 1e-3),
    "grid": Task(laws.grid, 4000, 128, 1e-3),
    "digits": Task(laws.digits, 3000, 64, 4e-4, tuple(float(f"{4e-4 * 3.0**k:.3g}") for k in range(-4, 6))),
}
Run = tuple[str, str, float | None, int]  # task, method, learning rate of a search, seed


def train(
    task: str, method: str, rate: float, seed: int, steps: int | None = None, callbacks: Any = ()
) -> training.Fit:
    """One run."""
    budget, way = TASKS[task], METHODS[method]
    law, rmsprop = budget.law(), way.rmsprop and bool(budget.ladder)
    torch.manual_seed(seed)
    generator, critic = networks.generator(law.shape), networks.critic(law.shape)
    return training.fit(
        generator, critic, law.sample, way.game(law.shape[0]), steps=steps or budget.steps, n_critic=way.n_critic,
        batch_size=budget.batch_size, learning_rate=rate, betas=way.betas, seed=seed, callbacks=callbacks,
        optimizer=(lambda parameters: torch.optim.RMSprop(parameters, rate)) if rmsprop else None, progress=False,
    )  # fmt: skip


def path(task: str, method: str, rate: float | None, seed: int) -> Path:
    """Of a run with the rate of its task or its search, or, with a rate, of a search."""
    name = "".join(c if c.isalnum() else "-" for c in method)
    return RUNS / f"{task}-{name}-{'own' if rate is None else f'{rate:g}'}-{seed}.pt"


@cache
def rulers() -> tuple[features.Features, dict[str, Tensor]]:
    """The features, and those of the digits that were trained on and of the held-out ones."""
    ruler = features.Features()
    return ruler, {"seen": ruler(laws.digits().images), "held out": ruler(laws.digits("test").images)}


def searched(task: str, method: str) -> dict[float, float]:
    """Distances to what was trained on, by rate, of the rates that were tried; diverged is infinity."""
    tried = {rate: path(task, method, rate, SEARCH_SEED) for rate in TASKS[task].ladder}
    ends = {rate: torch.load(file)["last"] for rate, file in tried.items() if file.exists()}
    ruler, real = rulers()
    return {
        rate: torch.inf if x is None else metrics.frechet_distance(real["seen"], ruler(x)) for rate, x in ends.items()
    }


def rate_of(task: str, method: str) -> float:
    """The common one, or the best of its search."""
    found = searched(task, method)
    return min(found, key=lambda rate: found[rate]) if TASKS[task].ladder else TASKS[task].learning_rate


def search(tasks: Sequence[str], jobs: int) -> None:
    """Try rates, for all ways the next one, until none has another to try."""

    def lacking() -> Iterator[Run]:
        for task, method in itertools.product((task for task in tasks if TASKS[task].ladder), METHODS):
            rate = _common.next_rate(searched(task, method), TASKS[task].ladder, TASKS[task].first)
            if rate is not None:
                yield task, method, rate, SEARCH_SEED

    while runs := list(lacking()):
        _common.sweep(keep, runs, path, jobs)


def keep(task: str, method: str, rate: float | None, seed: int) -> None:
    """Train, and keep samples of the last generator and of its running average."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    begin, kept = time.process_time(), {"steps": TASKS[task].steps, "last": None, "average": None}
    kept["rate"] = rate or rate_of(task, method)
    try:
        run = train(task, method, kept["rate"], seed)
        z = torch.randn(SAMPLES, 16, generator=torch.Generator().manual_seed(1000 + seed))
        with torch.no_grad():
            made = {name: net.eval()(z) for name, net in (("last", run.generator), ("average", run.ema))}
        if not all(x.isfinite().all() for x in made.values()):
            raise FloatingPointError("samples are not finite")
        kept |= made
    except FloatingPointError as error:
        kept["diverged"] = str(error)
    kept["seconds"] = time.process_time() - begin
    _common.store(path(task, method, rate, seed), kept)


def scores(task: str, x: Tensor) -> dict[str, float]:
    """What is reported of `SAMPLES` samples."""
    if task != "digits":
        return metrics.mode_coverage(x, TASKS[task].law())._asdict()
    ruler, sets = rulers()
    fake, found = ruler(x), {}
    for name, real in sets.items():
        as_many = fake[: len(real)]
        near, kernel = metrics.precision_recall(real, as_many), metrics.kernel_distance(real, as_many)
        found |= {f"frechet, {name}": metrics.frechet_distance(real, fake), f"kernel, {name}": kernel.value}
        found |= {f"{score}, {name}": value for score, value in near._asdict().items()}
    return found | nearest(x, laws.digits().images, laws.digits("test").images)


def nearest(x: Tensor, seen: Tensor, unseen: Tensor) -> dict[str, float]:
    """Share of samples, as many as were seen, whose nearest digit is a seen one; and its standard deviation if what is
    seen were drawn by lot, whatever the samples.
    """
    n, total = len(seen), len(seen) + len(unseen)
    times = torch.cdist(x[:n], torch.cat([seen, unseen])).argmin(1).bincount(minlength=total).double()
    drawn = n * (1 - n / total) * times.var()  # variance of a sum over a random part, without replacement
    return {"nearest is seen": (times[:n].sum() / times.sum()).item(), "by lot": (drawn.sqrt() / times.sum()).item()}


def judged(task: str, method: str, seed: int) -> dict[str, Any]:
    """The record of one run: scores of the last generator and of its running average, or none if it diverged."""
    torch.set_num_threads(1)
    kept = torch.load(path(task, method, None, seed))
    ends = {end: None if kept[end] is None else scores(task, kept[end]) for end in ("last", "average")}
    said = {key: kept[key] for key in ("steps", "rate", "seconds")}
    return {"task": task, "method": method, "seed": seed, **said, **ends}


def time_per_step(tasks: Sequence[str], steps: int = 40) -> dict[str, dict[str, float]]:
    """Median time of a generator step with its critic steps, relative to the non-saturating SGAN's, in one process."""
    ratios = {}
    for task in tasks:
        rate = TASKS[task].learning_rate
        calls = {method: partial(train, task, method, rate, 0, steps) for method in METHODS}
        times = {method: t["median_ms"] for method, t in _common.interleave(calls, rounds=7, sample=0).items()}
        ratios[task] = {method: t / times["SGAN, non-saturating"] for method, t in times.items()}
    return ratios


def logs(runs: list[dict[str, Any]], method: str, score: str, end: str) -> dict[int, float]:
    """Logarithms to base 10 by seed, on the digits; a run that diverged is left out, and counted in the table."""
    mine = [run for run in runs if (run["task"], run["method"]) == ("digits", method) and run[end]]
    return {run["seed"]: math.log10(run[end][score]) for run in mine}


def comparisons(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best way by the mean of the logarithms against each of the others, seed by seed."""
    made: list[dict[str, Any]] = []
    for score in ("frechet, held out", "frechet, seen"):
        names, family = [], []
        for end in ("last", "average"):
            found = {method: logs(runs, method, score, end) for method in METHODS}
            best = min(METHODS, key=lambda method: statistics.fmean(found[method].values()))
            for method in METHODS:
                seeds = sorted(found[best].keys() & found[method].keys())
                if method != best and len(seeds) > 2:
                    names.append({"score": score, "end": end, "of": best, "minus": method})
                    family.append([found[best][seed] - found[method][seed] for seed in seeds])
        made += [name | one for name, one in zip(names, _common.paired(family), strict=True)]
    return made


def tables(
    runs: list[dict[str, Any]], times: dict[str, dict[str, float]], compared: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """For the page of results: one table a law, a row a method, mean ± 95 % interval over the seeds; differences."""
    made = []
    for task, budget in TASKS.items():
        here = [run for run in runs if run["task"] == task]
        names = list(next(run["last"] for run in here if run["last"]))
        for end, words in (("last", "last generator"), ("average", "running average")):
            body = []
            for method in METHODS:
                mine = [run for run in here if run["method"] == method]
                good = [run for run in mine if run[end]]
                cells = [_common.spread([run[end][score] for run in good]) for score in names]
                rate = f"{mine[0].get('rate', budget.learning_rate):g}"
                body.append([method, f"{len(good)} of {len(mine)}", rate, *cells])
            how = "a rate for each way" if budget.ladder else "one rate for all, not searched"
            title = f"{task}, {words}: {budget.steps} generator steps, {how}, mean ± 95 % interval"
            head = ["method", "runs", "rate", *(name.replace("frechet", "Fréchet") for name in names)]
            made.append({"title": title, "head": head, "rows": body})
    for (score, end), some in itertools.groupby(compared, key=lambda one: (one["score"], one["end"])):
        words = "digits that were trained on" if score.endswith("seen") else "held-out digits"
        title = f"digits, {end} weights: log10 of the Fréchet distance to {words}; below 0 the first is better"
        made.append(_common.paired_table(title, list(some)))
    body = [[method, *[f"{times[task][method]:.2f}" for task in times]] for method in METHODS]
    title = "time of a generator step with its critic steps, relative to the non-saturating SGAN's"
    return [*made, {"title": title, "head": ["method", *times], "rows": body}]


def report(tasks: Sequence[str], seeds: Sequence[int], jobs: int) -> None:
    """Score every run of these tasks, time the ways, write the result; the other tasks are those of the record."""
    old = json.loads((_common.RESULTS / "gans.json").read_text(encoding="utf-8")) if set(tasks) < set(TASKS) else {}
    everything = list(itertools.product(tasks, METHODS, seeds))
    with ProcessPoolExecutor(jobs) as pool:
        scored = pool.map(judged, *zip(*everything, strict=True), chunksize=8)
        new = _common.rounded(list(tqdm(scored, desc="scores", total=len(everything))))
    torch.set_num_threads(1)
    here = _common.environment("accelerate", "scikit-learn")
    timed = time_per_step([task for task in ("ring", "digits") if task in tasks])
    _, real = rulers()
    by_heart = laws.digits().sample(SAMPLES, torch.Generator().manual_seed(0))
    floor = metrics.frechet_floor(real["seen"], SAMPLES)
    tried = [
        torch.load(path(task, method, rate, SEARCH_SEED)) | {"task": task, "method": method, "distance": distance}
        for task, method in itertools.product(TASKS, METHODS) if task in tasks
        for rate, distance in searched(task, method).items()
    ]  # fmt: skip
    runs = [run for task in TASKS for run in (new if task in tasks else old["runs"]) if run["task"] == task]
    measured = {}
    for task, budget in TASKS.items():
        seconds = sum(run["seconds"] for run in [*new, *tried] if run["task"] == task)
        measured[task] = {
            "date": here["date"], "device": here["device"], "seeds": len(seeds), "processor seconds": seconds,
            "rate": "searched by each way" if budget.ladder else budget.learning_rate,
        } if task in tasks else old["measured"][task]  # fmt: skip
    times = {task: (timed if task in tasks else old["times"])[task] for task in ("ring", "digits")}
    compared = comparisons(runs)
    _common.write_json("gans", {
        "schema": 1, "title": "Ten ways to train a GAN on three laws", "chapter": "gan-comparison",
        "command": "python benchmarks/compare_gans.py", **here, "measured": measured, "rows": [],
        "tables": tables(runs, _common.rounded(times), compared), "times": times,
        "floor": {
            "frechet": floor.mean, "spread": floor.std,
            "test": metrics.frechet_distance(real["seen"], real["held out"]),
        },
        "by heart": scores("digits", by_heart),
        "search": [{"task": one["task"], "method": one["method"], "rate": one["rate"], "seed": SEARCH_SEED,
                    "frechet, seen": one["distance"] if one["distance"] < torch.inf else None,
                    "seconds": one["seconds"]} for one in tried],
        "rates": {task: {method: rate_of(task, method) for method in METHODS} for task in TASKS if TASKS[task].ladder},
        "comparisons": compared, "runs": runs,
    })  # fmt: skip


def main(tasks: Sequence[str], seeds: Sequence[int], jobs: int) -> None:
    search(tasks, jobs)
    runs = [(task, method, None, seed) for seed in seeds for task, method in itertools.product(tasks, METHODS)]
    _common.sweep(keep, runs, path, jobs)
    report(tasks, seeds, jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    chosen = parser.parse_args()
    _common.single_threaded()
    main(chosen.tasks, SEEDS, chosen.jobs)
