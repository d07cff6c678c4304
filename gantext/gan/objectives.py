"""What critic and generator minimise: objectives, and the gradient penalties that go with them.

A critic T gives **large scores to real samples** throughout this package, and every loss is minimised. Two public codes
of WGAN-div, its authors' and Su's, have *small* scores for real: there the terms in T change sign and the penalty does
not. It is **added** to the critic's loss, with its factor (10 for WGAN-GP, k = 2 for WGAN-div), not to the generator's.

An argument of the wrong kind raises TypeError, one outside its stated range ValueError, before anything is computed.
The values that optimal critics reach are in `gantext.gan.distances`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from gantext._checks import check_number, floating, wide

__all__ = [
    "HINGE", "NON_SATURATING", "SATURATING", "WASSERSTEIN", "Objective", "check_scores", "gan_qp", "gradient_norms",
    "gradient_penalty", "interpolate", "safe_power", "scaled_squares", "squared_norms",
]  # fmt: skip

_BATCH_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d,
)  # fmt: skip


@dataclass(frozen=True)
class Objective:
    """The losses of a game, each a mean of functions of one score (equation `wasserstein:game`).

    The critic minimises E_p on_real(T) + E_q on_fake(T), the generator E_q on_generated(T). `SATURATING` and
    `NON_SATURATING` are the games of SGAN: the discriminator is sigmoid(T), never formed, and the best critic loss
    2 log 2 - 2 JS(p, q) (`wasserstein:game-value`). `HINGE` has the margins ±1. `WASSERSTEIN` is `wasserstein:dual`;
    its generator loss is also that of WGAN-GP, WGAN-div and GAN-QP.

    Both methods take scores (floating, any shapes, not empty) and return a scalar in float32 or better.
    Source: Goodfellow et al. 2014, section 3; Arjovsky et al. 2017; Lim, Ye 2017.

    >>> real, fake = torch.tensor([2.0, 4.0]), torch.tensor([-1.0, 0.0])
    >>> WASSERSTEIN.critic_loss(real, fake), WASSERSTEIN.generator_loss(fake), HINGE.critic_loss(real, fake)
    (tensor(-3.5000), tensor(0.5000), tensor(0.5000))
    """

    name: str
    on_real: Callable[[Tensor], Tensor] = field(repr=False)
    on_fake: Callable[[Tensor], Tensor] = field(repr=False)
    on_generated: Callable[[Tensor], Tensor] = field(repr=False)

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = wide(floating(self.name, "real", real)), wide(floating(self.name, "fake", fake))
        return self.on_real(real).mean() + self.on_fake(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return self.on_generated(wide(floating(self.name, "fake", fake))).mean()


# Functions with names, which a process that an objective is sent to can find. F.softplus(t) drops log1p(exp(-t)) beyond
# t = 20, which float64 still resolves.
def _minus_log_sigmoid(t: Tensor) -> Tensor:
    return -logsigmoid(t)


def _softplus(t: Tensor) -> Tensor:
    return -logsigmoid(-t)


def _minus_softplus(t: Tensor) -> Tensor:
    return logsigmoid(-t)


def _below_one(t: Tensor) -> Tensor:
    return relu(1 - t)


def _above_minus_one(t: Tensor) -> Tensor:
    return relu(1 + t)


SATURATING = Objective("saturating", _minus_log_sigmoid, _softplus, _minus_softplus)
NON_SATURATING = Objective("non-saturating", _minus_log_sigmoid, _softplus, _minus_log_sigmoid)
HINGE = Objective("hinge", _below_one, _above_minus_one, torch.neg)
WASSERSTEIN = Objective("wasserstein", torch.neg, torch.positive, torch.neg)


def gan_qp(real: Tensor, fake: Tensor, distance: Tensor, lambda_: float) -> Tensor:
    """Critic loss of GAN-QP: the mean of D^2 / (2 lambda d) - D, D = T(x) - T(y) (equation `gan-qp:objective`).

    Args:
        real, fake: T(x_i) and T(y_i) of pairs, floating, of one shape.
        distance: d(x_i, y_i) >= 0 in that shape; below 1e-6 it counts as 1e-6, and a negative one gives NaN.
        lambda_: > 0, score per distance, a mere unit (`gan-qp:unit`). Su: 10 / (numbers in an image) for the L1 norm.
    Returns:
        Scalar, float32 or better; its minimum is minus the divergence. The generator's is `WASSERSTEIN.generator_loss`.

    Source: Su, arXiv 1811.07296.

    >>> gan_qp(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([2.0]), lambda_=1.0)  # two points, optimal T
    tensor(-1.)
    """
    lambda_ = check_number("gan_qp", "lambda_", lambda_, 0)
    scores = (("real", real), ("fake", fake), ("distance", distance))
    real, fake, d = (wide(floating("gan_qp", argument, t)) for argument, t in scores)
    if not real.shape == fake.shape == d.shape:
        raise ValueError(
            f"gan_qp: real, fake, distance have shapes {tuple(real.shape)}, {tuple(fake.shape)}, {tuple(d.shape)}, "
            "must be equal: (N, 1) beside (N,) would broadcast to all N x N pairs. Flatten the scores."
        )
    delta = real - fake
    d = d.clamp(min=1e-6).masked_fill(d < 0, math.nan)
    return (delta.square() / (2 * lambda_ * d) - delta).mean()


def interpolate(real: Tensor, fake: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """u x + (1 - u) y, one u uniform on [0, 1) for each pair of samples (equation `wasserstein:gradient-penalty`).

    Args:
        real, fake: (N, ...), floating, of one shape. A graph behind them is kept: in a critic's step detach the fakes.
        generator: source of the N numbers; None is PyTorch's own.

    Source: Gulrajani et al. 2017.

    >>> x = interpolate(torch.ones(2, 3), torch.zeros(2, 3))
    >>> bool((x == x[:, :1]).all())  # one u for a sample, not for each of its numbers
    True
    """
    shape = floating("interpolate", "real", real).shape
    if floating("interpolate", "fake", fake).shape != shape or not shape:
        raise ValueError(
            f"interpolate: real and fake have shapes {tuple(shape)} and {tuple(fake.shape)}, must be one (N, ...). "
            "Draw as many fakes as there are reals."
        )
    dtype = torch.promote_types(real.dtype, fake.dtype)
    real, fake = wide(real), wide(fake)  # in half precision u would have 11 bits or 8, and the difference may overflow
    precise = torch.promote_types(real.dtype, fake.dtype)
    u = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=generator, device=real.device, dtype=precise)
    return (fake + u * (real - fake)).to(dtype)


def gradient_norms(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Euclidean norm of the critic's gradient at each sample, ready for a second backward pass.

    `n_i = |grad T(x_i)|` (equation `wasserstein:gradient-penalty`). Where it is 0 the norm has no derivative, and 0 is
    taken in every order: the square root gives NaN in the first, `Tensor.norm` in the second.

    Args:
        critic: maps (N, ...) to one score per sample, (N,) or (N, 1), each a function of its own sample alone.
        x: (N, ...), floating. It need not require gradients, and grad mode may be off.
    Returns:
        (N,), float32 or better also under autocast, with the graph that leads to the critic's parameters.
    Raises:
        ValueError: the critic holds a batch norm on batch statistics (inside a plain function it is not found); its
            scores have another shape, or no graph to x.

    Source: Gulrajani et al. 2017, section 4.

    >>> gradient_norms(lambda x: x[:, 0] * 3 + x[:, 1] * 4, torch.zeros(2, 2))
    tensor([5., 5.])
    """
    return _norms(_gradients("gradient_norms", critic, x))


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, *, centre: float = 1.0, power: float = 2.0
) -> Tensor:
    """Mean over the samples of `|n_i - centre|^power`, where n_i are the `gradient_norms`.

    1 and 2 give WGAN-GP (`wasserstein:gradient-penalty`); 0 and 6 WGAN-div (`w-divergence:definition`), for which
    no root is taken. The power is that of the norm: `(sum g^2)^6` is power 12.

    Args:
        critic, x: as in `gradient_norms`; x from the law r, by `interpolate` or real and fake samples side by side.
        centre: >= 0.
        power: > 0. Below 2 a derivative at n_i = centre is infinite or jumps; 0 is taken there.
    Returns:
        Scalar, float32 or better; n_i^6 overflows float32 beyond n_i = 2e6.
    Raises:
        TypeError, ValueError: as `gradient_norms`; also, unless grad mode is off, for a critic without a second
            derivative: PyTorch has none of its fused attention, nor of compiled backward passes.

    Source: Gulrajani et al. 2017, equation 3; Wu et al. 2018, arXiv 1712.01026.

    >>> gradient_penalty(lambda x: 2 * x.sum(1), torch.zeros(5, 1), centre=0.0, power=6.0)
    tensor(64.)
    """
    centre = check_number("gradient_penalty", "centre", centre, 0, included=True)
    power = check_number("gradient_penalty", "power", power, 0)
    gradients = _gradients("gradient_penalty", critic, x)
    if torch.is_grad_enabled():
        _check_twice("gradient_penalty", gradients)
    if power < 2:
        return safe_power((_norms(gradients) - centre).abs(), power).mean()
    squares = squared_norms(gradients) if centre == 0 else (_norms(gradients) - centre).square()
    return safe_power(squares, power / 2).mean()


def _gradients(name: str, critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not callable(critic):
        raise TypeError(f"{name}: critic is a {type(critic).__name__}, must be a function or module. Pass it itself.")
    if not floating(name, "x", x).dim():
        raise ValueError(f"{name}: x has shape (), must be (N, ...), one row per sample. Unsqueeze it.")
    root = getattr(critic, "__self__", critic)  # critic.forward is as good as critic
    for path, module in root.named_modules() if isinstance(root, nn.Module) else ():
        if isinstance(module, _BATCH_NORMS) and (module.training or module.running_mean is None):
            raise ValueError(
                f"{name}: critic has {type(module).__name__} '{path}' on batch statistics, must score samples alone: "
                "scores that mix a batch have no per-sample gradients. Use a layer or instance norm, or eval()."
            )
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone() if x.is_inference() else x
        x = x if x.requires_grad else x.detach().requires_grad_()
        scores, grad = critic(x), None
        check_scores(name, scores, x)
        if scores.requires_grad:  # summed, not averaged: g_i is the gradient of the sample's own score
            (grad,) = torch.autograd.grad(scores, x, torch.ones_like(scores), create_graph=True, allow_unused=True)
    if grad is None:
        raise ValueError(f"{name}: critic has no graph from x to its scores, must have. Remove detach() or no_grad().")
    return grad


# The nodes of the autograd graph that PyTorch puts where it has no derivative, by their names. Where a release renames
# them nothing is refused here, and its own error comes, in the backward pass.
_NO_DERIVATIVE = {
    "torch::autograd::NotImplemented": "an operation without a second derivative, as the kernels of fused attention, "
    "must not have. Call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH).",
    "CompiledFunctionBackwardBackward": "a compiled backward pass, which has no second derivative, must not have. Pass "
    "the module as it was before it was compiled.",
}


def _check_twice(name: str, gradients: Tensor) -> None:
    nodes = [gradients.grad_fn]
    seen = set(nodes)
    for node in nodes:
        if node is None:
            continue
        if node.name() in _NO_DERIVATIVE:
            raise ValueError(f"{name}: critic has {_NO_DERIVATIVE[node.name()]}")
        for before, _ in node.next_functions:
            if before not in seen:
                seen.add(before)
                nodes.append(before)


def check_scores(name: str, scores: Any, x: Tensor) -> None:
    """ValueError unless there is one score per sample, (N,) or (N, 1)."""
    if not isinstance(scores, Tensor) or scores.shape[:1] != x.shape[:1] or scores.numel() != len(x):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        rule = "must be one score per sample, (N,) or (N, 1). Average the scores of a sample."
        raise ValueError(f"{name}: critic returned {got} for x of shape {tuple(x.shape)}, {rule}")


def squared_norms(gradients: Tensor) -> Tensor:
    """The squared norm `|g_i|^2` of each sample, (N,), in float32 or better."""
    return wide(gradients).reshape(len(gradients), -1).square().sum(1)


def scaled_squares(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """`(|g_i| / unit_i)^2` of each sample, (N,), float32 or better, and the unit, a power of two near max `|g_ij|`.

    Division by it rounds nothing, while `|g_i|^2` itself is 0 in float32 for a norm of 1e-25, and infinite for 1e25.

    >>> squares, unit = scaled_squares(torch.tensor([[3e-25, 4e-25]]))
    >>> squares.sqrt() * unit
    tensor([5.0000e-25])
    """
    rows = wide(gradients).reshape(len(gradients), -1)
    largest = rows.detach().abs().amax(1)
    unit = torch.where((largest > 0) & largest.isfinite(), largest / (2 * largest.frexp().mantissa), 1.0)
    return squared_norms(rows / unit[:, None]), unit


def _norms(gradients: Tensor) -> Tensor:
    squares, unit = scaled_squares(gradients)
    return safe_power(squares, 0.5) * unit


def safe_power(s: Tensor, exponent: float) -> Tensor:
    """s^exponent for s >= 0, with derivatives 0 at 0 where there are none."""
    if exponent == int(exponent):
        return s.pow(exponent)
    zero = s == 0  # and not s > 0, which would make a NaN a 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, s).pow(exponent))  # guarded before the root, too
