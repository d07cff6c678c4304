"""A critic's whole step with the gradient penalty by tangents beside double backward: time, and error of the gradient.

python benchmarks/bench_penalty.py [--rounds 9]
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from _common import ROOT, begin, interleave, write_json
from torch import Tensor, nn
from tqdm import tqdm

from gantext.gan.networks import mlp
from gantext.gan.objectives import WASSERSTEIN, gradient_penalty, interpolate
from gantext.gan.penalties import scores_and_penalty, tangent_penalty

sys.path.insert(0, str(ROOT / "tests"))
from _compare import errors  # the measure of error is the tests' own

K, POWER = 2.0, 6.0  # WGAN-div
AT_INTERPOLATES, AT_SAMPLES = "step, penalty on interpolates", "step, penalty on real and fake samples"
Row = dict[str, Any]
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def dense(*sizes: int) -> nn.Module:
    return mlp(sizes, lambda: nn.LeakyReLU(0.2)).append(nn.Flatten(0))


def convolutional(side: int) -> nn.Module:
    """Three 5 x 5 convolutions of stride 2, 32-64-128 channels, and a dense layer."""
    widths, layers = [3, 32, 64, 128], []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * (side // 8) ** 2, 1), nn.Flatten(0))


JOBS: list[tuple[str, Callable[[], nn.Module], tuple[int, ...], int]] = [
    ("2-96-96-1", lambda: dense(2, 96, 96, 1), (2,), 128),
    ("64-128-64-1", lambda: dense(64, 128, 64, 1), (64,), 64),
    ("784-512-256-1", lambda: dense(784, 512, 256, 1), (784,), 64),
    ("784-512-256-1", lambda: dense(784, 512, 256, 1), (784,), 256),
    ("conv, 3 x 32 x 32", lambda: convolutional(32), (3, 32, 32), 16),
    ("conv, 3 x 64 x 64", lambda: convolutional(64), (3, 64, 64), 8),
]


def plain(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
    return WASSERSTEIN.critic_loss(critic(real), critic(fake))


def by(penalty: Callable[..., Tensor], on_samples: bool) -> Loss:
    """The loss of `gantext.gan.training`: three calls of the critic."""

    def loss(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
        x = torch.cat([real, fake]) if on_samples else between
        return plain(critic, real, fake, between) + K * penalty(critic, x, centre=0.0, power=POWER)

    return loss


def ours_shared(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
    scores, penalty = scores_and_penalty(critic, torch.cat([real, fake]), centre=0.0, power=POWER)
    return WASSERSTEIN.critic_loss(scores[: len(real)], scores[len(real) :]) + K * penalty


def autograd_shared(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
    """Double backward at its best: one forward pass for scores and penalty."""
    kept: list[Tensor] = []

    def once(x: Tensor) -> Tensor:
        kept.append(critic(x))
        return kept[0]

    penalty = gradient_penalty(once, torch.cat([real, fake]), centre=0.0, power=POWER)
    return WASSERSTEIN.critic_loss(kept[0][: len(real)], kept[0][len(real) :]) + K * penalty


INTERPOLATES: dict[str, Loss] = {
    "ours": by(tangent_penalty, False),
    "double backward": by(gradient_penalty, False),
    "no penalty": plain,
}
SAMPLES: dict[str, Loss] = {
    "ours": ours_shared,
    "double backward": by(gradient_penalty, True),
    "double backward, shared forward": autograd_shared,
    "no penalty": plain,
}


def gradient(loss: Loss, critic: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    critic.zero_grad()
    loss(critic, *batch).backward()
    return torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])


def compare(what: str, losses: dict[str, Loss], critic: nn.Module, batch: tuple[Tensor, ...], rounds: int) -> Row:
    wide = tuple(t.double() for t in batch)
    exact = gradient(losses["double backward"], copy.deepcopy(critic).double(), wide)
    results = interleave(
        {name: lambda loss=loss: gradient(loss, critic, batch) for name, loss in losses.items()}, rounds, 0.05
    )
    for name, loss in losses.items():
        error = None if loss is plain else errors(gradient(loss, critic, batch)[None, None], exact[None, None]).item()
        cast(Row, results[name])["error"] = error  # beside the times; None where there is nothing to compare
    ratio = results["double backward"]["median_ms"] / results["ours"]["median_ms"]
    return {"what": what, "dtype": "float32", "results": results, "ratio": ratio}


def claims(rows: list[Row]) -> list[Row]:
    def speed(what: str, rival: str, least: float, text: str) -> Row:
        chosen = [
            (r["results"][rival]["median_ms"] / r["results"]["ours"]["median_ms"], r) for r in rows if r["what"] == what
        ]
        slow, *_, fast = sorted((ratio for ratio, _ in chosen))
        behind = [r["size"] for ratio, r in chosen if ratio < least]
        at = next(r["size"] for ratio, r in chosen if ratio == slow)
        return {
            "claim": text,
            "measured": f"{slow:.2f} to {fast:.2f} times as fast",
            "verdict": "fails" if behind else "holds",
            "where": "below it: " + "; ".join(behind) if behind else "every size; least at " + at,
        }

    pairs = [(r["results"]["ours"]["error"] / r["results"]["double backward"]["error"], r) for r in rows]
    worst, where = max(pairs, key=lambda pair: pair[0])
    return [
        speed(
            AT_INTERPOLATES,
            "double backward",
            1.0,
            "on interpolates a step is not slower than with double backward",
        ),
        speed(AT_SAMPLES, "double backward", 1.5, "on samples a step is at least 1.5x double backward, scores apart"),
        speed(
            AT_SAMPLES,
            "double backward, shared forward",
            1.0,
            "on samples a step is not slower than double backward with a shared forward pass",
        ),
        {
            "claim": "the gradient's float32 error is at most twice that of double backward",
            "measured": f"at most {worst:.2f} of it",
            "verdict": "holds" if worst <= 2 else "fails",
            "where": "every size; most at " + where["size"] if worst <= 2 else where["size"],
        },
    ]


def main() -> None:
    rounds, place, record = begin(__doc__, "tests/gan/test_penalties.py")
    rows: list[Row] = []
    for name, build, shape, n in tqdm(JOBS, desc="penalty", file=sys.stderr):
        critic = build().to(place)
        real, fake = torch.randn(n, *shape, device=place), torch.rand(n, *shape, device=place)
        batch = real, fake, interpolate(real, fake)
        for what, losses in ((AT_INTERPOLATES, INTERPOLATES), (AT_SAMPLES, SAMPLES)):
            rows.append({**compare(what, losses, critic, batch, rounds), "size": f"{name}, B = {n}"})
    result = {
        "schema": 1,
        "title": "Gradient penalty without double backward",
        "chapter": "w-divergence",
        "command": "python benchmarks/bench_penalty.py",
        **record,
        "rows": rows,
        "claims": claims(rows),
    }
    write_json("penalty", result)
    for r in rows:
        times = "  ".join(
            f"{name} {t['median_ms']:.3g} ms" + (f" ({t['error']:.1e})" if t["error"] is not None else "")
            for name, t in r["results"].items()
        )
        print(f"{r['what']:44} {r['size']:26} ratio {r['ratio']:5.2f}  {times}")
    for c in result["claims"]:
        print(f"{c['verdict']:6} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
