"""O-GAN: the critic's output is a code, whose mean is the score and whose direction is the encoding.

Everything is computed in float32 or better, also under autocast, backward passes included, and can be differentiated
twice, so that gradient penalties may run through it. An argument of the wrong kind raises TypeError, one outside its
stated range ValueError, before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gantext._checks import check_number, floating, wide
from gantext.gan.methods import Batch, Critic, Game, GeneratorLoss, game
from gantext.gan.objectives import WASSERSTEIN, Objective, gan_qp

__all__ = ["Split", "o_gan", "o_gan_ref", "pearson", "split"]


class Split(NamedTuple):
    """A vector as `mean 1 + scale direction`: n numbers as 1 + 1 + (n - 2) (equation `o-gan:split`).

    `direction` has length 1 and sum 0, `scale` >= 0 is the length of the centred vector. The split dimension is kept
    with size 1 in `mean` and `scale`, so that the formula can be written as it stands.
    """

    mean: Tensor
    scale: Tensor
    direction: Tensor

    def join(self) -> Tensor:
        """The vector itself."""
        return self.mean + self.scale * self.direction

    @property
    def std(self) -> Tensor:
        """The population standard deviation (divisor n, not n - 1), `scale / n^(1/2)`."""
        return self.scale / self._n**0.5

    @property
    def normalized(self) -> Tensor:
        """What O-GAN's generator decodes, the direction times `n^(1/2)`.

        Its mean is 0, its population standard deviation 1.
        """
        return self.direction * self._n**0.5

    @property
    def _n(self) -> int:
        return self.direction.numel() // self.mean.numel()


def split(z: Tensor, dim: int = -1) -> Split:
    """Mean, scale and direction of the vectors along one dimension (equation `o-gan:split`).

    `z = mean 1 + scale direction` with `<direction, 1> = 0` and `|direction| = 1`.

    Args:
        z: floating, (..., n, ...).
        dim: where the n numbers of a vector lie.
    Returns:
        `Split(mean, scale, direction)`, float32 or better, (..., 1, ...) twice and (..., n, ...). A constant vector has
        scale 0 and direction 0, both with gradient 0.

    The commonest surprise: the code that a standard normal latent is compared with is `normalized`, not the unit
    vector.
    Source: Su, arXiv 1903.01931; the chapter `o-gan`.

    >>> import torch
    >>> split(torch.tensor([1.0, 1.0, 4.0])).mean
    tensor([2.])
    >>> split(torch.tensor([1.0, 1.0, 4.0])).join()
    tensor([1., 1., 4.])
    """
    z = wide(floating("split", "z", z))
    top, low = z.detach().amax(dim, keepdim=True), z.detach().amin(dim, keepdim=True)
    constant = top - low == 0
    # A power of two, so that nothing is rounded: 1 but where a sum or a difference would overflow.
    room = 2.0 ** -(2 + math.ceil(math.log2(z.numel() // top.numel())))
    part = torch.where(torch.maximum(top.abs(), low.abs()) > room * torch.finfo(z.dtype).max, room, 1.0).to(z.dtype)
    z = z * part
    mean = z.mean(dim, keepdim=True)
    # Centred twice: beside a mean of 1e4 the first difference carries the mean's own rounding. Direction and scale do
    # not depend on a shift, so the first needs no graph; nor does the unit, which keeps squares in range.
    centred = z - mean.detach()
    centred = centred - centred.mean(dim, keepdim=True)
    unit = centred.detach().abs().amax(dim, keepdim=True).masked_fill(constant, 1)
    centred = (centred / unit).masked_fill(constant, 0)
    length = centred.square().sum(dim, keepdim=True).masked_fill(constant, 1).sqrt()
    return Split(mean / part, (length * unit / part).masked_fill(constant, 0), centred / length)


def pearson(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Pearson's correlation of two vectors, the cosine of the angle between their centred forms.

    `rho = <direction(x), direction(y)>` with the `split` of either: two passes, while the one-pass formula is noise in
    float32 once the means are 1e4 times the spread. Its gradient in y, `(direction(x) - rho direction(y)) / scale(y)`
    (equation `o-gan:pearson-gradient`), is orthogonal to those of y's mean and scale.

    Args:
        x, y: floating, of one shape (..., n, ...).
        dim: along which to correlate. For O-GAN the numbers of one code, never the batch.
    Returns:
        (...), float32 or better; beyond ±1 only by rounding. 0, with gradient 0, where either vector is constant.

    Source: Su, arXiv 1903.01931.

    >>> import torch
    >>> pearson(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[10_004.0, 10_002.0, 10_000.0]]))
    tensor([-1.0000])
    """
    x, y = floating("pearson", "x", x), floating("pearson", "y", y)
    if x.shape != y.shape:
        raise ValueError(
            f"pearson: x and y have shapes {tuple(x.shape)} and {tuple(y.shape)}, must have one. Expand the smaller."
        )
    return (split(x, dim).direction * split(y, dim).direction).sum(dim)


class _Score(nn.Module):
    """The mean of a critic's code. It keeps the code of the batch's own fakes, which the latent is compared with."""

    def __init__(self, critic: Critic, batch: Batch) -> None:
        super().__init__()
        self.critic, self.fake, self.code = critic, batch.fake, None

    def forward(self, x: Tensor) -> Tensor:
        code = floating("o_gan", "the critic's code", self.critic(x))
        if code.dim() != 2:
            raise ValueError(
                f"o_gan: critic returned shape {tuple(code.shape)}, must be codes (N, n). Drop a last Flatten(0)."
            )
        if x is self.fake:
            self.code = code
        return wide(code).mean(1)

    def __getstate__(self) -> dict[str, Any]:
        """Without the batch, whose tensors have a graph: what is copied or sent is the network."""
        return {**self.__dict__, "fake": None, "code": None}


@dataclass(frozen=True)
class _Player:
    """One player's loss: a class and not a closure, so that a game can be pickled."""

    loss: Callable[[Critic, Batch], Tensor]
    weight: float
    match: str

    def __call__(self, critic: Critic, batch: Batch) -> Tensor:
        score = _Score(critic, batch)
        value = self.loss(score, batch)
        return value + self.weight * _mismatch(score, batch, self.match) if self.weight else value


def o_gan(weight: float = 0.5, *, objective: Objective | Game | None = None, match: str = "correlation") -> Game:
    """O-GAN: the critic is an encoder, the score the mean of its code, the code's direction that of the latent vector.

    Both players minimise their loss of the objective, in which the score of x is `mean(E(x))`, plus the same term
    `-weight mean_i rho(z_i, E(G(z_i)))` (equation `o-gan:game`). Encode with `split(critic(x)).normalized`.

    Args:
        weight: >= 0, lambda_2, per sample and not per coordinate. Su's scripts have 0.5 at 128 x 128, 1 at 256 x 256.
        objective: an `Objective`, or a `Game` such as `wgan_div()`, whose penalty is then on the mean of the code. None
            is Su's own, GAN-QP of the squared distance with `lambda d = 2 |x - y|^2 / D` over the D numbers of a
            sample, which is `qp(2 / D, "squared")`.
        match: "correlation", or "squared": weight times the mean over n of `(z - E(G(z)))^2`, the rival that O-GAN's
            article rejects. It fixes the score of the fakes as well, which the correlation leaves free.
    Returns:
        A game for `gantext.gan.training.fit`, whose critic maps samples (N, ...) to codes (N, n) as wide as the latent
        vectors, n >= 3; its losses raise ValueError for others.

    As in Su's code, the correlation is along the code, is rewarded in both losses, and is taken on fakes only. Unlike
    there, large scores are real, and the players take turns with their own optimisers, where his take one joint step of
    the single loss `o_gan_ref`, whose gradients are those of the two losses here.
    The commonest surprise: of independent vectors the correlation is not 0 but ± 1 / (n - 1)^(1/2).
    Source: Su, arXiv 1903.01931, and his code, bojone/o-gan.

    >>> import torch
    >>> batch = Batch(torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 2.0]]), torch.Generator())
    >>> o_gan().critic_loss(lambda x: x + torch.tensor([0.0, 1.0, 2.0]), batch)  # 1 / 4 - 1 - 0.5
    tensor(-1.2500)
    """
    weight = check_number("o_gan", "weight", weight, 0, included=True)
    if match not in ("correlation", "squared"):
        raise ValueError(f"o_gan: match is {match!r}, must be 'correlation' or 'squared'. See the docstring.")
    if not isinstance(objective, Objective | Game | None):
        raise TypeError(f"o_gan: objective is {objective!r}, must be an Objective, a Game or None. Try HINGE.")
    base = objective if isinstance(objective, Game) else game(objective) if objective else _SQUARED_QP

    settings = f"weight {weight}, match {match}, {base.name}: {base.settings}"
    critic_loss, generator_loss = (_Player(loss, weight, match) for loss in (base.critic_loss, base.generator_loss))
    return Game("O-GAN", critic_loss, generator_loss, base.clip, settings)


def _mismatch(score: _Score, batch: Batch, match: str) -> Tensor:
    if score.code is None:  # an objective that never scored the fakes by themselves
        score(batch.fake)
    z, code = batch.latent, score.code
    if z is None:
        raise ValueError("o_gan: latent is None, must be the fakes' latent vectors. Train with fit, or set weight=0.")
    if code is None or code.shape != z.shape or code.shape[1] < 3:
        shape = None if code is None else tuple(code.shape)
        raise ValueError(
            f"o_gan: critic returned codes {shape} for latent vectors {tuple(z.shape)}, must be of one shape (N, n) "
            "with n >= 3. Change the critic's last layer, or latent."
        )
    return -pearson(z, code).mean() if match == "correlation" else (wide(z) - wide(code)).square().mean()


def _distance(batch: Batch) -> Tensor:
    return wide(batch.real - batch.fake).detach().flatten(1).square().mean(1)  # (N,)


def _squared_qp(critic: Critic, batch: Batch) -> Tensor:
    return gan_qp(critic(batch.real), critic(batch.fake), _distance(batch), 2.0)


_SQUARED_QP = Game("GAN-QP-mean-squared", _squared_qp, GeneratorLoss(WASSERSTEIN))


def o_gan_ref(critic: Critic, batch: Batch, weight: float = 0.5) -> Tensor:
    """O-GAN's single loss: one number, whose gradients are the critic's and the generator's own (`o-gan:game`).

    With F the fakes, F' the same without a graph, T the mean of the code, d the mean squared difference of x and F',
    the mean of `t1^2 / (4 d) - t1 - t2 - weight rho(z, E(F))` where t1 = T(x) - T(F') and t2 = T(F) - T(F'); a d below
    1e-6 counts as 1e-6, as in `gantext.gan.objectives.gan_qp`. t2 is always 0, but its gradient is that of the
    generator's score, and nothing for the critic, unless dropout or noise tells the two passes apart.

    Args:
        critic: as in `o_gan`.
        batch: its fakes *with* the generator's graph, its latent vectors not None.
        weight: as in `o_gan`.

    Source: Su's code, bojone/o-gan.

    >>> import torch
    >>> z = torch.tensor([[0.0, 1.0, 2.0]])
    >>> o_gan_ref(lambda x: x + z, Batch(torch.ones(1, 3), torch.zeros(1, 3), z, torch.Generator()))
    tensor(-1.2500)
    """
    weight = check_number("o_gan_ref", "weight", weight, 0, included=True)
    if batch.latent is None:
        raise ValueError("o_gan_ref: latent is None, must be the fakes' latent vectors. Put them into the batch.")
    code, stopped = critic(batch.fake), critic(batch.fake.detach()).mean(1)
    t1 = critic(batch.real).mean(1) - stopped
    t2 = code.mean(1) - stopped
    return (
        t1.square() / (4 * _distance(batch).clamp(min=1e-6)) - t1 - t2 - weight * pearson(batch.latent, code)
    ).mean()
