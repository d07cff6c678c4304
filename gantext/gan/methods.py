"""The games that GANs play: what the critic and the generator of each method minimise.

A `Game` is two losses, which `gantext.gan.training.fit` alternates. An argument of the wrong kind raises TypeError, one
outside its range ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from gantext._checks import check_number, wide
from gantext.gan.objectives import WASSERSTEIN, Objective, gan_qp, gradient_penalty, interpolate
from gantext.gan.penalties import is_piecewise_linear, scores_and_penalty

__all__ = ["Batch", "Game", "game", "qp", "wgan_div", "wgan_gp"]

Critic = Callable[[Tensor], Tensor]


class Batch(NamedTuple):
    """What a loss may use: samples (n, ...) of both laws, the fakes' latent codes, and a source of random numbers."""

    real: Tensor
    fake: Tensor
    latent: Tensor | None
    rng: torch.Generator


@dataclass(frozen=True)
class Game:
    """What the two players minimise: `critic_loss(critic, batch)` and `generator_loss(critic, batch)`, scalars.

    In the critic's turn the fakes carry no graph; in the generator's turn they do, and the critic is frozen. `clip`
    bounds the critic's weights after each of its steps (WGAN). `settings` names the losses' numbers: a checkpoint is
    resumed only with the same. Build a game with `game`, or write one; those built here can be compared and pickled.
    """

    name: str
    critic_loss: Callable[[Critic, Batch], Tensor]
    generator_loss: Callable[[Critic, Batch], Tensor]
    clip: float | None = None
    settings: str = ""


def game(
    objective: Objective,
    *,
    penalty: float = 0.0,
    centre: float = 0.0,
    power: float = 2.0,
    at: str = "interpolates",
    clip: float | None = None,
    name: str | None = None,
) -> Game:
    """The game of an objective, with `penalty * gradient_penalty(centre, power)` added to the critic's loss alone.

    Args:
        objective: one of `gantext.gan.objectives`: `SATURATING`, `NON_SATURATING`, `HINGE`, `WASSERSTEIN`.
        penalty: >= 0, the factor (lambda of WGAN-GP, k of WGAN-div).
        centre, power: as in `gantext.gan.objectives.gradient_penalty`.
        at: where gradients are taken, "interpolates" or "samples" (the real and the fake batch, so r = (p + q) / 2).
        clip: > 0, bound on the critic's weights, or None.
        name: for reports; None: the objective's.

    The penalty is computed in float32 under mixed precision too. For "samples" and a piecewise linear critic it comes
    with the scores, without double backward, from `gantext.gan.penalties.scores_and_penalty`.

    >>> game(WASSERSTEIN, clip=0.01).generator_loss(lambda x: x.sum(1), Batch(None, torch.ones(2, 3), None, None))
    tensor(-3.)
    """
    if not isinstance(objective, Objective):
        raise TypeError(
            f"game: objective is {objective!r}, must be a gantext.gan.objectives.Objective. Try WASSERSTEIN."
        )
    penalty = float(check_number("game", "penalty", penalty, 0, included=True))
    centre = float(check_number("game", "centre", centre, 0, included=True))
    power = float(check_number("game", "power", power, 0))
    if at not in ("interpolates", "samples"):
        raise ValueError(f"game: at is {at!r}, must be 'interpolates' or 'samples'. See the docstring.")
    if clip is not None:
        clip = float(check_number("game", "clip", clip, 0))

    settings = f"{objective.name}, penalty {penalty}, centre {centre}, power {power}, at {at}"
    losses = PenalisedLoss(objective, penalty, centre, power, at), GeneratorLoss(objective)
    return Game(name or objective.name, *losses, clip, settings)


@dataclass(frozen=True)
class PenalisedLoss:
    """The critic's loss of `game`: that of the objective, plus `penalty` times the gradient penalty."""

    objective: Objective
    penalty: float
    centre: float
    power: float
    at: str

    def __call__(self, critic: Critic, batch: Batch) -> Tensor:
        device, settings = batch.real.device.type, {"centre": self.centre, "power": self.power}
        alike = self.penalty and self.at == "samples" and not torch.is_autocast_enabled(device)
        if alike and is_piecewise_linear(critic):
            x = torch.cat([batch.real, batch.fake])
            scores, punished = scores_and_penalty(cast(nn.Module, critic), x, **settings)
            return self.objective.critic_loss(*scores.tensor_split([len(batch.real)])) + self.penalty * punished
        loss = self.objective.critic_loss(critic(batch.real), critic(batch.fake))
        if self.penalty:
            with torch.autocast(device, enabled=False):
                between = self.at == "interpolates"
                x = interpolate(batch.real, batch.fake, batch.rng) if between else torch.cat([batch.real, batch.fake])
                loss = loss + self.penalty * gradient_penalty(critic, x, **settings)
        return loss


@dataclass(frozen=True)
class GeneratorLoss:
    """The generator's loss of an objective: of the scores of its samples alone."""

    objective: Objective

    def __call__(self, critic: Critic, batch: Batch) -> Tensor:
        return self.objective.generator_loss(critic(batch.fake))


def wgan_gp(weight: float = 10.0) -> Game:
    """WGAN with a one-centred penalty on interpolates (`wasserstein:gradient-penalty`; Gulrajani et al. 2017)."""
    weight = check_number("wgan_gp", "weight", weight, 0, included=True)
    return game(WASSERSTEIN, penalty=weight, centre=1.0, name="WGAN-GP")


def wgan_div(k: float = 2.0, power: float = 6.0, at: str = "interpolates") -> Game:
    """WGAN-div (`w-divergence:definition`; Wu et al. 2018; `at="samples"` is the choice of most public code)."""
    k = check_number("wgan_div", "k", k, 0, included=True)
    return game(WASSERSTEIN, penalty=k, power=power, at=at, name="WGAN-div")


def qp(lambda_: float = 1.0, norm: str = "L2") -> Game:
    """GAN-QP with the one-argument critic that is trained in practice (`gan-qp:objective`).

    Args:
        lambda_: > 0, score per distance.
        norm: d(x, y) of each pair of samples, a sum over all of their numbers: "L1", "L2" or "squared" (of L2). Su's
            code takes means over D numbers with factor 10: `lambda_ = 10 / D` for L1, `10 / D^(1/2)` for L2.

    Source: Su, arXiv 1811.07296.

    >>> batch = Batch(torch.full((1, 2), 3.0), torch.zeros(1, 2), None, torch.Generator())
    >>> qp(norm="L1").critic_loss(lambda x: x.sum(1), batch)  # D = 6, d = 6
    tensor(-3.)
    """
    if norm not in NORMS:
        raise ValueError(f"qp: norm is {norm!r}, must be one of {sorted(NORMS)}. The paper uses L1 and L2.")
    lambda_ = float(check_number("qp", "lambda_", lambda_, 0))
    losses = PairLoss(norm, lambda_), GeneratorLoss(WASSERSTEIN)
    return Game(f"GAN-QP-{norm}", *losses, settings=f"lambda {lambda_}")


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "L1": lambda x: x.abs().sum(1),
    "L2": lambda x: x.norm(dim=1),
    "squared": lambda x: x.square().sum(1),
}


@dataclass(frozen=True)
class PairLoss:
    """The critic's loss of `qp`: `gan_qp` on the pairs of a batch and their distance in the norm."""

    norm: str
    lambda_: float

    def __call__(self, critic: Critic, batch: Batch) -> Tensor:
        distance = NORMS[self.norm]((wide(batch.real) - wide(batch.fake)).detach().flatten(1))  # (n,)
        return gan_qp(critic(batch.real).flatten(), critic(batch.fake).flatten(), distance, self.lambda_)
