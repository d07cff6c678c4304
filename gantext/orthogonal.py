"""A vector split into a part along a direction and a part across it: O-GAN's codes, and cascading rejection's heads.

`split`, `pearson` and `o_gan` are the chapter `o-gan`: the critic's output is a code, whose mean is the score and whose
direction is the encoding. `cascade_ref`, `cascade_directions` and `CascadeHead` are the chapter `cascading-rejection`:
what one weight vector has scored is projected away before the next one scores.

Everything is computed in float32 or better, also under autocast, and can be differentiated twice, so that gradient
penalties may run through it. An argument of the wrong kind raises TypeError, one outside its stated range ValueError,
before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantext._checks import check_count, check_number, floating, wide
from gantext.games import Batch, Critic, Game, game
from gantext.matexp import _no_autocast, _rounds_products
from gantext.objectives import Objective, gan_qp

__all__ = ["CascadeHead", "Split", "cascade_directions", "cascade_ref", "o_gan", "o_gan_ref", "pearson", "split"]


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
        """`n^(1/2) direction`: mean 0 and population standard deviation 1, what O-GAN's generator decodes."""
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

    The commonest surprise: the scale is a length, n^(1/2) times the population standard deviation, which is `std`; and
    the code that a standard normal latent is compared with is `normalized`, not the unit vector.
    Source: Su, arXiv 1903.01931; the chapter `o-gan`.

    >>> split(torch.tensor([1.0, 1.0, 4.0])).mean
    tensor([2.])
    >>> split(torch.tensor([1.0, 1.0, 4.0])).join()
    tensor([1., 1., 4.])
    """
    z = wide(floating("split", "z", z))
    mean = z.mean(dim, keepdim=True)
    constant = z.detach().amax(dim, keepdim=True) - z.detach().amin(dim, keepdim=True) == 0
    # Centred twice: beside a mean of 1e4 the first difference carries the mean's own rounding. Direction and scale do
    # not depend on a shift, so the first needs no graph; nor does the unit, which keeps squares in range.
    centred = z - mean.detach()
    centred = centred - centred.mean(dim, keepdim=True)
    unit = centred.detach().abs().amax(dim, keepdim=True).masked_fill(constant, 1)
    centred = (centred / unit).masked_fill(constant, 0)
    length = centred.square().sum(dim, keepdim=True).masked_fill(constant, 1).sqrt()
    return Split(mean, (length * unit).masked_fill(constant, 0), centred / length)


def pearson(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Pearson's correlation of two vectors, the cosine of the angle between their centred forms.

    `rho = <direction(x), direction(y)>` with the `split` of either. Its gradient in y, `(direction(x) - rho
    direction(y)) / scale(y)` (equation `o-gan:pearson-gradient`), is orthogonal to those of y's mean and scale.

    Args:
        x, y: floating, of one shape (..., n, ...).
        dim: along which to correlate. For O-GAN the numbers of one code, never the batch.
    Returns:
        (...), float32 or better; beyond ±1 only by rounding. 0, with gradient 0, where either vector is constant.

    The commonest surprise: the one-pass formula, n sum xy - sum x sum y over its root, is NaN or noise in float32
    as soon as the means are 1e4 times the spread, which the score of a trained critic may be.
    Source: Su, arXiv 1903.01931.

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
        code = self.critic(x)
        if code.dim() != 2:
            raise ValueError(
                f"o_gan: critic returned shape {tuple(code.shape)}, must be codes (N, n). Drop a last Flatten(0)."
            )
        if x is self.fake:
            self.code = code
        return wide(code).mean(1)


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
        A game for `gantext.gan.fit`, whose critic maps samples (N, ...) to codes (N, n) as wide as the latent vectors.
    Raises:
        ValueError: codes of another shape than the latent vectors, n < 3 (a direction needs it), or no latent vectors.

    As in Su's code: the correlation is along the code and not over the batch, is rewarded in both losses, and is taken
    on fakes only. Not as in his code: large scores are real (reflecting the mean of a code leaves its direction alone,
    so nothing else changes); and the players take turns with their own optimisers, where his take one joint step of the
    single loss `o_gan_ref`, whose gradients are those of the two losses here.
    The commonest surprise: of independent vectors the correlation is not 0 but ± 1 / (n - 1)^(1/2).
    Source: Su, arXiv 1903.01931, and his code, bojone/o-gan.

    >>> batch = Batch(torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 2.0]]), torch.Generator())
    >>> o_gan().critic_loss(lambda x: x + torch.tensor([0.0, 1.0, 2.0]), batch)  # 1 / 4 - 1 - 0.5
    tensor(-1.2500)
    """
    check_number("o_gan", "weight", weight, 0, included=True)
    if match not in ("correlation", "squared"):
        raise ValueError(f"o_gan: match is {match!r}, must be 'correlation' or 'squared'. See the docstring.")
    if not isinstance(objective, Objective | Game | None):
        raise TypeError(f"o_gan: objective is {objective!r}, must be an Objective, a Game or None. Try HINGE.")
    base = objective if isinstance(objective, Game) else game(objective) if objective else _SQUARED_QP

    def player(loss: Callable[[Critic, Batch], Tensor]) -> Callable[[Critic, Batch], Tensor]:
        def total(critic: Critic, batch: Batch) -> Tensor:
            score = _Score(critic, batch)
            value = loss(score, batch)
            return value + weight * _mismatch(score, batch, match) if weight else value

        return total

    settings = f"weight {weight}, match {match}, {base.name}: {base.settings}"
    return Game("O-GAN", player(base.critic_loss), player(base.generator_loss), base.clip, settings)


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


_SQUARED_QP = Game(
    "GAN-QP-mean-squared",
    lambda critic, batch: gan_qp(critic(batch.real), critic(batch.fake), _distance(batch), 2.0),
    lambda critic, batch: -critic(batch.fake).mean(),
)


def o_gan_ref(critic: Critic, batch: Batch, weight: float = 0.5) -> Tensor:
    """O-GAN's single loss: one number, whose gradients are the critic's and the generator's own (`o-gan:game`).

    With F the fakes, F' the same without a graph, T the mean of the code, d the mean squared difference of x and F',
    the mean of `t1^2 / (4 d) - t1 - t2 - weight rho(z, E(F))` where t1 = T(x) - T(F') and t2 = T(F) - T(F').

    Args:
        critic: as in `o_gan`.
        batch: its fakes *with* the generator's graph, its latent vectors not None.
        weight: as in `o_gan`.
    Returns:
        Scalar; one backward pass leaves both players' gradients.

    The commonest surprise: t2 is always 0. Its gradient is not: that of the generator's score, and nothing for the
    critic, whose two terms cancel unless dropout or noise tells the two passes apart. Source: Su's code, bojone/o-gan.

    >>> z = torch.tensor([[0.0, 1.0, 2.0]])
    >>> o_gan_ref(lambda x: x + z, Batch(torch.ones(1, 3), torch.zeros(1, 3), z, torch.Generator()))
    tensor(-1.2500)
    """
    if batch.latent is None:
        raise ValueError("o_gan_ref: latent is None, must be the fakes' latent vectors. Put them into the batch.")
    code, stopped = critic(batch.fake), critic(batch.fake.detach()).mean(1)
    t1 = critic(batch.real).mean(1) - stopped
    t2 = code.mean(1) - stopped
    return (t1.square() / (4 * _distance(batch)) - t1 - t2 - weight * pearson(batch.latent, code)).mean()


def cascade_ref(v: Tensor, W: Tensor, orthogonal: bool = False) -> Tensor:
    """Cascading rejection, literally: score, project what was scored away, score again. The reference of `CascadeHead`.

    `D_i = <v_i, w_i>`, `v_(i+1) = v_i - (D_i / |w_i|^2) w_i` from v_1 = v on (equation `cascading-rejection:step`).
    A w of zeros removes nothing.

    Args:
        v: (N, d), floating.
        W: (K, d), the w_i as rows, or (N, K, d), a set for each sample; in the dtype of v, which is kept.
        orthogonal: project against the w_i's part across the earlier ones instead, the Gram-Schmidt form, in which
            v_(i+1) is orthogonal to all of w_1 ... w_i and not to the last alone.
    Returns:
        Scores (N, K).

    The commonest surprise: v_3 is orthogonal to w_2 and in general not to w_1. Source: Shin et al., arXiv 1911.10979.

    >>> cascade_ref(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))  # 4 of 7: the 3 is gone
    tensor([[6., 4.]])
    """
    v, W = floating("cascade_ref", "v", v), floating("cascade_ref", "W", W)
    if v.dim() != 2 or W.dim() not in (2, 3) or W.shape[-1] != v.shape[1] or (W.dim() == 3 and len(W) != len(v)):
        raise ValueError(
            f"cascade_ref: v and W have shapes {tuple(v.shape)} and {tuple(W.shape)}, must be (N, d) and (K, d) or "
            "(N, K, d). Put the vectors into rows."
        )
    rows, scores = list(W.unbind(-2)), []
    for i, w in enumerate(rows, 1):
        scores.append(_dot(v, w))
        if i < len(rows):  # the last rejection would be for nothing
            v = _reject(v, w, scores[-1])
        if orthogonal:
            rows[i:] = [_reject(later, w, _dot(later, w)) for later in rows[i:]]
    return torch.stack(scores, -1)


def _dot(v: Tensor, w: Tensor) -> Tensor:
    return v @ w if w.dim() == 1 else (v * w).sum(-1)


def _reject(v: Tensor, w: Tensor, score: Tensor) -> Tensor:
    return v - (score * _reciprocal(_dot(w, w)))[..., None] * w


def _reciprocal(s: Tensor, least: Tensor | float = 0.0) -> Tensor:
    """1 / s where s > least, else 0 with gradient 0: guarded before the division, as a `where` after it leaves NaN."""
    dead = s <= least
    return s.masked_fill(dead, 1).reciprocal().masked_fill(dead, 0)


def cascade_directions(W: Tensor, orthogonal: bool = False) -> Tensor:
    """The weights of the linear head that cascading rejection is: `D_i = <v, w~_i>`.

    `w~_i = P_1 P_2 ... P_(i-1) w_i`, with P_j the projection across w_j (equation `cascading-rejection:collapsed`), all
    at once from one triangular system of the w's Gram matrix; with `orthogonal`, w_i less its components along all
    earlier ones (equation `cascading-rejection:gram-schmidt`).

    Args:
        W: (..., K, d), floating.
        orthogonal: Gram-Schmidt instead of the product of projections.
    Returns:
        (..., K, d), float32 or better; the first row is w_1. A w of zeros removes nothing, and neither does, in the
        orthogonal form, one that the earlier ones span: `cascade_ref` takes what rounding leaves of it for a direction.

    The commonest surprise: w~_2, w~_3, ... are orthogonal to w~_1, but not to one another, unless `orthogonal`.
    Source: the chapter `cascading-rejection`, after Shin et al., arXiv 1911.10979.

    >>> cascade_directions(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor([[2., 0.],
            [0., 1.]])
    """
    W = wide(floating("cascade_directions", "W", W))
    if W.dim() < 2:
        raise ValueError(f"cascade_directions: W has shape {tuple(W.shape)}, must be (..., K, d). Stack the vectors.")
    if W.shape[-2] == 1:
        return W
    with _no_autocast(W.device):
        # A w~ is the small difference of large vectors: not from products that a global switch rounds to TF32.
        rounded = W.dtype == torch.float32 and _rounds_products(W.device.type, W.device.index)
        exact = W.double() if rounded else W
        # w~_i is proportional to w_i and independent of the other lengths, so a unit per row needs no graph.
        unit = torch.linalg.vector_norm(exact.detach(), torch.inf, -1, keepdim=True)
        unit = unit.masked_fill(unit == 0, 1)
        project = _gram_schmidt if orthogonal and W.shape[-2] > 2 else _projections  # of two rows they are the same
        return (project(exact / unit) * unit).to(W.dtype)


def _projections(W: Tensor) -> Tensor:
    """v_i = v - sum_(j<i) (D_j / |w_j|^2) w_j, scored by w_i: a triangular system for D, hence for the directions.

    The largest entry of a row is 1 or 0 here, so |w|^2 is at least 1 or 0, and then its column of the Gram matrix too.
    """
    gram = W @ W.mT
    L = gram / gram.diagonal(dim1=-2, dim2=-1).clamp(min=1)[..., None, :]  # only what is below the diagonal is used
    if L.shape[-1] == 2:
        first, second = W[..., :1, :], W[..., 1:, :]
        return torch.cat([first, second - L[..., 1:, :1] * first], -2)
    eye = torch.eye(L.shape[-1], dtype=W.dtype, device=W.device).expand_as(L)
    return torch.linalg.solve_triangular(L, eye, upper=False, unitriangular=True) @ W  # K x K: W need not be reordered


def _gram_schmidt(W: Tensor) -> Tensor:
    done = W[..., :1, :]
    least = (10 * torch.finfo(W.dtype).eps) ** 2  # of |w|^2: below it what is left of w is rounding
    squared = W.square().sum(-1, keepdim=True)  # (..., K, 1)
    inverse = _reciprocal(squared[..., :1, :])
    for i in range(1, W.shape[-2]):
        w = W[..., i : i + 1, :]
        for _ in range(2):  # once leaves rounding along the earlier ones where w is nearly in their span
            w = w - (w @ done.mT * inverse.mT) @ done
        done = torch.cat([done, w], -2)
        if i + 1 < W.shape[-2]:  # the last row is projected and projects nothing
            left = _reciprocal(w.square().sum(-1, keepdim=True), least * squared[..., i : i + 1, :])
            inverse = torch.cat([inverse, left], -2)
    return done


class CascadeHead(nn.Linear):
    """The last layer of a critic with cascading rejection: an `nn.Linear` whose rows are projected before use.

    Scores `<v, w~_i> + b_i`, one product of (N, d) and (d, K) with the `cascade_directions` of the weight (equation
    `cascading-rejection:collapsed`); the biases take no part in the projections. Equal to `cascade_ref` plus bias.

    Args:
        features: d >= 1.
        heads: K >= 1; with 1 it is `nn.Linear(features, 1)`.
        orthogonal: reject against Gram-Schmidt directions, so that no score repeats another's; K <= d.
        classes: number of classes C of the conditional form, the projection discriminator's: samples of class y are
            scored by w_i + e_i(y). The e, `embedding` of shape (C, K, d), start at 0.
        bias: add the b_i.
    Returns of a call `head(v)`, or `head(v, y)` with classes y (N,) of int64:
        Scores (N, K), float32 or better, large for real.

    The commonest surprise: average the K *losses*, as every `Objective` does with (N, K) scores, not the scores: their
    mean is one linear score again, and so is what a generator with a linear loss sees.
    Spectral normalisation (`torch.nn.utils.parametrizations.spectral_norm`) acts on the weight before the projections.
    Source: Shin et al., arXiv 1911.10979; Miyato, Koyama 2018 for the conditional form.

    >>> _ = torch.manual_seed(0)
    >>> head, v = CascadeHead(8, heads=3), torch.randn(5, 8)
    >>> torch.allclose(head(v), cascade_ref(v, head.weight) + head.bias, atol=1e-6)
    True
    """

    def __init__(
        self, features: int, heads: int = 1, orthogonal: bool = False, classes: int | None = None, bias: bool = True
    ) -> None:
        for argument, count in (
            ("features", features),
            ("heads", heads),
            ("classes", 1 if classes is None else classes),
        ):
            check_count("CascadeHead", argument, count)
        if orthogonal and heads > features:
            raise ValueError(
                f"CascadeHead: heads is {heads}, must be <= {features} features if orthogonal: the others would always "
                "score 0. Use fewer."
            )
        super().__init__(features, heads, bias)
        self.orthogonal, self.classes = orthogonal, classes
        self.embedding = None if classes is None else nn.Parameter(torch.zeros(classes, heads, features))

    # The base is nn.Linear, for its weights and their start; a class for each sample is this head's own.
    def forward(self, v: Tensor, y: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        v = wide(floating("CascadeHead", "v", v))
        if v.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"CascadeHead: v has shape {tuple(v.shape)}, must be (N, {self.in_features}). Flatten the features."
            )
        if y is not None and y.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"CascadeHead: y is {y.dtype}, must be torch.int64, classes. Convert it with y.long().")
        if (y is None) != (self.embedding is None) or (y is not None and y.shape != v.shape[:-1]):
            got = "None" if y is None else f"of shape {tuple(y.shape)}"
            want = "None without classes" if self.embedding is None else f"classes of shape {tuple(v.shape[:-1])}"
            raise ValueError(f"CascadeHead: y is {got}, must be {want}. Pass one class for each sample.")
        with _no_autocast(v.device):
            bias = None if self.bias is None else wide(self.bias)
            if y is None or self.embedding is None:
                return F.linear(v, cascade_directions(self.weight, self.orthogonal), bias)
            W = cascade_directions(wide(self.weight) + wide(self.embedding), self.orthogonal)  # (C, K, d)
            rows = F.embedding(y, W.flatten(1)).unflatten(-1, W.shape[1:])  # (N, K, d)
            scores = (rows @ v[..., None])[..., 0]
            return scores if bias is None else scores + bias

    def extra_repr(self) -> str:
        more = "" if self.classes is None else f", classes={self.classes}"
        return (
            f"features={self.in_features}, heads={self.out_features}, orthogonal={self.orthogonal}{more}, "
            f"bias={self.bias is not None}"
        )
