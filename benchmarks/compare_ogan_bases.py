"""Does O-GAN depend on the loss that it is added to? Four base losses of handwritten digits, with the term and without.

The article on O-GAN says that the correlation can be put into any GAN, that its author tried several and that all
trained; it shows one, a variant of his GAN-QP. Here the base is that one, the non-saturating loss, the hinge, or the
Wasserstein divergence (k 2, power 6), each with weight 0 and with weight 0.5. Networks, batch, optimiser and budget are
those of `compare_ogan.py`. The protocol is fixed here, before any result:

1. Each of the eight arms searches its own learning rate on a seed of its own (100): the least Fréchet distance of
   its samples to the training digits; a run that diverged is worst.
2. Eight seeds an arm, the last networks judged. Differences are paired by seed, term minus none, and tested by
   Student's t; the two questions over the four bases are one family of eight tests (Holm).
3. First question, of each base: do more held-out digits keep their class on the way through code and generator? Second:
   does the term cost quality, log10 of the Fréchet distance of samples to held-out digits? Beside an open answer stands
   the difference that would have been found in four of five repetitions.

Each run is kept in `_build/ogan-bases` the moment it ends; `benchmarks/results/ogan-bases.json` is written when all are
there. About half an hour on one core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import _common
import compare_ogan
import torch
from torch import nn
from tqdm import tqdm

from gantext.gan import laws, methods, metrics, networks, training
from gantext.gan.features import Features
from gantext.gan.objectives import HINGE, NON_SATURATING
from gantext.gan.ogan import o_gan, split
from gantext.statistics import half_width

RUNS = _common.ROOT / "_build" / "ogan-bases"
SEEDS, SEARCH_SEED = range(8), 100
RATES = (1e-4, 4e-4, 1.6e-3)
WEIGHTS = NONE, TERM = (0.0, 0.5)
BASES = {
    "GAN-QP, squared distance": None,  # Su's own
    "non-saturating": NON_SATURATING,
    "hinge": HINGE,
    "WGAN-div": methods.wgan_div(),
}
Run = tuple[str, float, float | None, int]  # base, weight, learning rate of a search, seed


def searches() -> Iterator[Run]:
    yield from ((base, weight, rate, SEARCH_SEED) for base in BASES for weight in WEIGHTS for rate in RATES)


def runs() -> Iterator[Run]:
    yield from ((base, weight, None, seed) for seed in SEEDS for base in BASES for weight in WEIGHTS)


def path(base: str, weight: float, searched: float | None, seed: int) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in base)
    return RUNS / f"{name}-{weight:g}-{'own' if searched is None else f'{searched:g}'}-{seed}.pt"


def best(base: str, weight: float) -> float:
    """The rate that the search chose."""
    found = {rate: torch.load(path(base, weight, rate, SEARCH_SEED))["scores"] for rate in RATES}
    return min(RATES, key=lambda rate: (found[rate] or {"frechet": float("inf")})["frechet"])


def keep(base: str, weight: float, searched: float | None, seed: int) -> None:
    """Train and judge one run, and keep what was found."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    begin, rate = time.process_time(), searched or best(base, weight)
    kept: dict[str, Any] = {"base": base, "weight": weight, "seed": seed, "rate": rate}
    kept["searched"] = searched is not None
    torch.manual_seed(seed)
    generator, critic = networks.generator((64,), compare_ogan.WIDTH), compare_ogan.encoder()
    try:
        run = training.fit(
            generator, critic, laws.digits().sample, o_gan(weight, objective=BASES[base]), steps=compare_ogan.STEPS,
            latent=compare_ogan.WIDTH, batch_size=compare_ogan.BATCH, seed=seed, progress=False,
            optimizer=partial(torch.optim.RMSprop, lr=rate, alpha=0.99),
        )  # fmt: skip
        kept["scores"] = scored(run.generator.eval(), run.critic.eval(), seed)
    except FloatingPointError as error:
        kept |= {"scores": None, "diverged": str(error)}
    _common.store(path(base, weight, searched, seed), kept | {"seconds": time.process_time() - begin})


@torch.no_grad()
def scored(generator: nn.Module, critic: nn.Module, seed: int) -> dict[str, float]:
    """As in `compare_ogan`, and beside it what held-out digits say of the samples."""
    assert isinstance(critic, nn.Sequential)
    code = lambda x: split(critic(x)).normalized
    ruler, rng = Features(), torch.Generator().manual_seed(1000 + seed)
    fake = ruler(generator(torch.randn(compare_ogan.SAMPLES, compare_ogan.WIDTH, generator=rng)))
    unseen = ruler(laws.digits("test").images)
    found = compare_ogan.scored(generator, critic, code, seed)
    kept = {key: found[key] for key in ("frechet", "correlation", "error", "agreement")}
    return kept | {
        "frechet, held out": metrics.frechet_distance(unseen, fake),
        "recall": metrics.precision_recall(ruler(laws.digits().images), fake[:1200]).recall,
    }


QUESTIONS = {  # score, transformed; what the difference says
    "with the term more held-out digits keep their class": lambda s: s["agreement"],
    "the term costs quality: log10 of the Fréchet distance to held-out digits": lambda s: torch.tensor(
        s["frechet, held out"]
    ).log10().item(),
}  # fmt: skip


def tests(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Term minus none, paired by the seeds of which neither run diverged; Holm's p over all."""
    from scipy.stats import ttest_1samp

    by = {(run["base"], run["weight"], run["seed"]): run["scores"] for run in found if not run["searched"]}
    made: list[dict[str, Any]] = []
    for question, value in QUESTIONS.items():
        for base in BASES:
            both = [(by.get((base, TERM, seed)), by.get((base, NONE, seed))) for seed in SEEDS]
            d = [value(a) - value(b) for a, b in both if a and b]
            one: dict[str, Any] = {"question": question, "base": base, "n": len(d)}
            if len(d) > 1:
                test: Any = ttest_1samp(d, 0.0)
                one |= {"mean": statistics.fmean(d), "half": half_width(d), "p": float(test.pvalue)}
                one["detectable"] = _common.detectable(len(d)) * statistics.stdev(d)
            made.append(one)
    _common.holm([one for one in made if "p" in one])
    return made


def claims(made: list[dict[str, Any]]) -> list[dict[str, str]]:
    answers = []
    for one in (one for one in made if "holm" in one):
        clear = one["holm"] < 0.05
        open_ = f"; {one['detectable']:.2g} would have been found in four of five repetitions"
        answers.append({
            "claim": f"{one['base']}: {one['question']}, difference > 0",
            "measured": f"{one['mean']:.3f} ± {one['half']:.3f}, p {one['holm']:.2g} after Holm"
            + ("" if clear else open_),
            "verdict": ("holds" if one["mean"] > 0 else "fails") if clear else "open",
            "where": f"{one['n']} seeds, paired, {compare_ogan.STEPS} steps",
        })  # fmt: skip
    return answers


COLUMNS = {
    "agreement": "same class", "correlation": "ρ on fakes", "error": "reconstruction error",
    "frechet": "Fréchet distance of samples", "frechet, held out": "to held-out digits", "recall": "recall",
}  # fmt: skip


def table(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row an arm, mean ± 95 % interval over the seeds."""
    body = []
    for base in BASES:
        for weight in WEIGHTS:
            mine = [r for r in found if not r["searched"] and (r["base"], r["weight"]) == (base, weight)]
            good = [run["scores"] for run in mine if run["scores"]]
            cells = [_common.spread([score[column] for score in good]) if good else "–" for column in COLUMNS]
            body.append([base, f"{weight:g}", f"{len(good)} of {len(mine)}", f"{mine[0]['rate']:g}", *cells])
    title = f"Base losses of O-GAN, {compare_ogan.STEPS} steps, last networks: mean ± 95 % interval"
    return {"title": title, "head": ["base", "weight", "runs", "rate", *COLUMNS.values()], "rows": body}


def report() -> None:
    """Write what was found."""
    torch.set_num_threads(1)
    found = [torch.load(path(*run)) for run in tqdm([*searches(), *runs()], desc="runs")]
    made = tests(found)
    _common.write_json("ogan-bases", {
        "schema": 1, "title": "O-GAN's term on four base losses", "chapter": "o-gan",
        "command": "python benchmarks/compare_ogan_bases.py",
        **_common.environment("accelerate", "scikit-learn"), "rates": list(RATES), "claims": claims(made), "rows": [],
        "tables": [table(found)], "tests": made, "runs": found,
    })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    jobs = parser.parse_args().jobs
    _common.sweep(keep, list(searches()), path, jobs)  # the rates, before anything that needs them
    _common.sweep(keep, list(runs()), path, jobs)
    report()
