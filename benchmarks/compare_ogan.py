"""Encoders beside a GAN of handwritten digits, eight seeds each, with one loop and one budget.

O-GAN without its extra term (a plain GAN), with the correlation at three weights and with the squared error at three,
each half of the correlation's beside it: once the scale has settled, an error of weight w pulls at the angle as hard as
a correlation of weight 2w does. Next to them a bidirectional GAN and an autoencoder with the same encoder and decoder.
The protocol is fixed here, before any result; steps, batch and rate are those of the digits in `compare_gans.py`.
Each run is kept in `_build/ogan` the moment it ends, so that an interrupted sweep goes on where it stopped;
`benchmarks/results/ogan.json` is written when all are there. Some three quarters of an hour of one core, by a hundred
steps of each kind.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _common
import torch
from torch import Tensor, nn
from tqdm import tqdm

from gantext.gan import laws, methods, metrics, networks, training
from gantext.gan.features import Features
from gantext.gan.objectives import NON_SATURATING
from gantext.gan.ogan import o_gan, pearson, split

RUNS = _common.ROOT / "_build" / "ogan"
SEEDS = range(8)
WIDTH = 16  # of latent vector and code
STEPS, BATCH, RATE = 3000, 64, 4e-4
SAMPLES = 5000
O_GANS = {
    "plain GAN": (0.0, "correlation"),
    "correlation, 0.5": (0.5, "correlation"),
    "squared error, 0.25": (0.25, "squared"),
    "correlation, 1": (1.0, "correlation"),
    "squared error, 0.5": (0.5, "squared"),
    "correlation, 10": (10.0, "correlation"),
    "squared error, 5": (5.0, "squared"),
}
BIGAN, AUTOENCODER, READ = "bidirectional GAN", "autoencoder", "plain GAN, latent vector read off its features"


def optimizer(parameters: Any) -> torch.optim.Optimizer:
    """As in O-GAN's scripts, with the rate of this book's digits."""
    return torch.optim.RMSprop(parameters, RATE, alpha=0.99)


def encoder() -> nn.Sequential:
    """From digits to codes, (N, 64) to (N, 16). No batch norm: the code of a digit is its own."""
    return networks.mlp([64, 128, 128, WIDTH], lambda: nn.LeakyReLU(0.2))


class Pair(nn.Module):
    """The generator's side of a bidirectional GAN: decoder and encoder, trained as one player."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.encoder = networks.generator((64,), WIDTH), encoder()

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)


def bidirectional(pair: Pair) -> methods.Game:
    """Tell (x, E(x)) from (G(z), z); the non-saturating losses of Donahue et al. and Dumoulin et al."""
    T = NON_SATURATING

    def critic_loss(critic: training.Critic, batch: methods.Batch) -> Tensor:
        with torch.no_grad():
            code = pair.encoder(batch.real)
        return T.critic_loss(*scores(critic, batch, code))

    def generator_loss(critic: training.Critic, batch: methods.Batch) -> Tensor:
        real, fake = scores(critic, batch, pair.encoder(batch.real))
        return T.generator_loss(fake) + T.generator_loss(-real)  # the encoder wants its pairs taken for the other kind

    def scores(critic: training.Critic, batch: methods.Batch, code: Tensor) -> tuple[Tensor, Tensor]:
        assert batch.latent is not None
        return critic(torch.cat([batch.real, code], 1)), critic(torch.cat([batch.fake, batch.latent], 1))

    return methods.Game(BIGAN, critic_loss, generator_loss)


def train(method: str, seed: int, steps: int = STEPS) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """One run: generator and encoder at the end, and their running averages where there are any."""
    law = laws.digits()
    torch.manual_seed(seed)
    budget: dict[str, Any] = {
        "steps": steps, "latent": WIDTH, "batch_size": BATCH, "optimizer": optimizer, "seed": seed, "progress": False,
    }  # fmt: skip
    if method == AUTOENCODER:
        generator, critic = networks.generator((64,), WIDTH), encoder()
        step, rng = optimizer([*generator.parameters(), *critic.parameters()]), torch.Generator().manual_seed(seed)
        for _ in range(steps):
            x = law.sample(BATCH, rng)
            loss = (generator(split(critic(x)).normalized) - x).square().mean()
            step.zero_grad()
            loss.backward()
            step.step()
        return generator, critic, generator, critic
    if method == BIGAN:
        pair = Pair()
        critic = networks.mlp([64 + WIDTH, 128, 64, 1], lambda: nn.LeakyReLU(0.2)).append(nn.Flatten(0))
        run = training.fit(pair, critic, law.sample, bidirectional(pair), **budget)
        average: Any = run.ema
        return pair.generator, pair.encoder, average.generator, average.encoder
    generator, critic = networks.generator((64,), WIDTH), encoder()
    weight, match = O_GANS[method]
    run = training.fit(generator, critic, law.sample, o_gan(weight, match=match), **budget)
    return run.generator, run.critic, run.ema, run.critic


def path(method: str, seed: int) -> Path:
    return RUNS / f"{''.join(c if c.isalnum() else '-' for c in method)}-{seed}.pt"


def keep(method: str, seed: int) -> None:
    """Train, and keep the networks."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    begin, kept = time.process_time(), {}
    try:
        kept["networks"] = [net.state_dict() for net in train(method, seed)]
    except FloatingPointError as error:
        kept["diverged"] = str(error)
    kept["seconds"] = time.process_time() - begin
    _common.store(path(method, seed), kept)


def read_off(generator: nn.Module, critic: nn.Sequential, seed: int) -> Callable[[Tensor], Tensor]:
    """An encoder made afterwards: the linear least-squares guess of z from the critic's last hidden layer, on fakes."""
    z = torch.randn(SAMPLES, WIDTH, generator=torch.Generator().manual_seed(2000 + seed))
    features = lambda x: torch.cat([critic[:-1](x), torch.ones(len(x), 1)], 1).double()
    weights = torch.linalg.lstsq(features(generator(z)), z.double(), driver="gelsd").solution
    return lambda x: split(features(x) @ weights).normalized.float()


def probe(features: Callable[[Tensor], Tensor]) -> float:
    """Accuracy on the test digits of a linear least-squares classifier fitted to the training digits' features."""
    train, test = laws.digits(), laws.digits("test")
    design = lambda images: torch.cat([features(images), torch.ones(len(images), 1)], 1).double()
    goal = nn.functional.one_hot(train.labels, 10).double()
    weights = torch.linalg.lstsq(design(train.images), goal, driver="gelsd").solution
    return float(((design(test.images) @ weights).argmax(1) == test.labels).double().mean())


def between(a: Tensor, b: Tensor) -> Tensor:
    """Half-way from code to code on the sphere."""
    middle = a + b
    return middle * ((a.norm(dim=1) + b.norm(dim=1)) / (2 * middle.norm(dim=1)))[:, None]


def doubt(images: Tensor) -> float:
    """Share of images to whose likeliest class the classifier gives less than nine tenths."""
    return float((Features().logits(images).softmax(1).amax(1) < 0.9).double().mean())


def scored(
    generator: nn.Module, critic: nn.Sequential, code: Callable[[Tensor], Tensor], seed: int
) -> dict[str, float]:
    """Samples, and what the 597 test digits become by way of their codes."""
    ruler, train, test = Features(), laws.digits(), laws.digits("test")
    real, rng = ruler(train.images), torch.Generator().manual_seed(1000 + seed)
    verdict = lambda images: ruler.logits(images).argmax(1)
    z = torch.randn(SAMPLES, WIDTH, generator=rng)
    a, b = torch.randint(len(test.images), (2, SAMPLES), generator=rng)
    fake, codes = generator(z), code(test.images)
    again, halfway = generator(codes), generator(between(codes[a], codes[b]))
    raw = split(critic(fake))
    return {
        "frechet": metrics.frechet_distance(real, ruler(fake)),
        "correlation": pearson(z, code(fake)).mean().item(),
        "error": (again - test.images).square().mean().item(),
        "agreement": (verdict(again) == verdict(test.images)).double().mean().item(),
        "label": (verdict(again) == test.labels).double().mean().item(),
        "between": metrics.frechet_distance(real, ruler(halfway)),
        "doubt": doubt(halfway),
        "probe": probe(code),
        "hidden": probe(critic[:-1]),
        "mean": raw.mean.mean().item(),
        "gap": (split(critic(train.images)).mean.mean() - raw.mean.mean()).item(),
        "spread": raw.mean.std().item(),
        "std": raw.std.mean().item(),
    }


@torch.no_grad()
def judged(method: str, seed: int) -> dict[str, Any]:
    """The record of one run: scores of the last networks and with the running average, or none if it diverged."""
    kept = torch.load(path("plain GAN" if method == READ else method, seed))
    record: dict[str, Any] = {"method": method, "seed": seed, "steps": STEPS, "last": None, "average": None}
    if "diverged" in kept:
        return record
    ends = [networks.generator((64,), WIDTH), encoder(), networks.generator((64,), WIDTH), encoder()]
    for net, state in zip(ends, kept["networks"], strict=True):
        net.load_state_dict(state)
        net.eval()
    for end, (generator, critic) in {"last": ends[:2], "average": ends[2:]}.items():
        code = critic if method == BIGAN else partial(_direction, critic)
        code = read_off(generator, critic, seed) if method == READ else code
        record[end] = scored(generator, critic, code, seed)
    return record


def _direction(critic: nn.Module, x: Tensor) -> Tensor:
    return split(critic(x)).normalized


@torch.no_grad()
def walks(frames: int = 17) -> list[dict[str, Any]]:
    """Ways from one held-out digit to another, by the running averages of seed 0; 16 grey levels, a hex digit a pixel.

    The digits are the first of their class in the test split.
    """
    test, paths = laws.digits("test"), []
    first = [int((test.labels == digit).nonzero()[0]) for digit in range(10)]
    t = torch.linspace(0, 1, frames)[:, None]
    grey = lambda images: ["".join(f"{v:x}" for v in row) for row in ((images + 1) * 7.5).round().clamp(0, 15).int()]
    for start, end in ((3, 8), (0, 6), (1, 7), (4, 9)):
        x = test.images[[first[start], first[end]]]
        ways = {"pixels": grey(x[0] + t * (x[1] - x[0]))}
        for method in ("autoencoder", "plain GAN", "correlation, 0.5"):
            kept = torch.load(path(method, 0))["networks"]
            generator, critic = networks.generator((64,), WIDTH), encoder()
            generator.load_state_dict(kept[2])
            critic.load_state_dict(kept[3])
            a, b = split(critic(x)).direction
            angle = torch.arccos((a @ b).clamp(-1, 1))
            code = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
            ways[method] = grey(generator.eval()(code * WIDTH**0.5))
        paths.append({"from": start, "to": end, "ends": grey(x), "ways": ways})
    return paths


def references() -> dict[str, float]:
    """What the scores are read against."""
    ruler, train, test = Features(), laws.digits(), laws.digits("test")
    real, rng = ruler(train.images), torch.Generator().manual_seed(1000)
    a, b = torch.randint(len(test.images), (2, SAMPLES), generator=rng)
    distance = lambda images: metrics.frechet_distance(real, ruler(images))
    blend = (test.images[a] + test.images[b]) / 2
    return {
        "frechet, floor": metrics.frechet_floor(real, SAMPLES).mean,
        "frechet, test digits": distance(test.images),
        "correlation, by chance": (WIDTH - 1) ** -0.5,
        "error, mean image": (train.images.mean(0) - test.images).square().mean().item(),
        "error, another digit": (test.images[a] - test.images[b]).square().mean().item(),
        "between, pixels": distance(blend),
        "doubt, pixels": doubt(blend),
        "doubt, test digits": doubt(test.images),
        "probe, pixels": probe(lambda x: x),
    }


COLUMNS = {
    "frechet": "Fréchet distance of samples", "correlation": "ρ on fakes", "error": "reconstruction error",
    "agreement": "same class", "between": "Fréchet distance half-way", "doubt": "doubt half-way",
    "probe": "linear probe of the code",
    "hidden": "of the hidden layer",
}  # fmt: skip


def tables(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results: a table for either generator, a row a method, mean ± 95 % interval over the seeds."""
    made = []
    for end, words in (("last", "last networks"), ("average", "running average of the generator")):
        body = []
        for method in [*O_GANS, READ, BIGAN, AUTOENCODER]:
            mine = [run for run in runs if run["method"] == method]
            good = [run[end] for run in mine if run[end]]
            cells = [_common.spread([score[column] for score in good]) for column in COLUMNS]
            body.append([method, f"{len(good)} of {len(mine)}", *cells])
        title = f"Held-out digits, {words}, {STEPS} steps: mean ± 95 % interval"
        made.append({"title": title, "head": ["method", "runs", *COLUMNS.values()], "rows": body})
    return made


def report() -> None:
    """Score every run and write the result."""
    torch.set_num_threads(1)
    everything = list(itertools.product([*O_GANS, READ, BIGAN, AUTOENCODER], SEEDS))
    runs = [judged(*run) for run in tqdm(everything, desc="scores")]
    _common.write_json("ogan", {
        "schema": 1, "title": "Encoders beside a GAN of handwritten digits", "chapter": "o-gan",
        "command": "python benchmarks/compare_ogan.py",
        **_common.environment("accelerate", "scikit-learn"), "rows": [], "tables": tables(runs),
        "references": references(), "runs": runs, "walks": walks(),
    })  # fmt: skip


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=1, help="runs side by side")
    runs = [(method, seed) for seed in SEEDS for method in [*O_GANS, BIGAN, AUTOENCODER]]
    _common.sweep(keep, runs, path, arguments.parse_args().jobs)
    report()
