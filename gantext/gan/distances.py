"""Distances between a real law p and a fake law q, exactly: the values and slopes that an optimal critic reaches.

All is computed in float64, without a graph. p is the law of the data and large scores are real, as in
`gantext.gan.objectives`. An argument of the wrong kind raises TypeError, one outside its stated range ValueError,
before anything is computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gantext._checks import check_number, floating, probabilities, vector

__all__ = [
    "ClosedForm", "PairForm", "bures", "gan_qp_binary", "gan_qp_unary", "jensen_shannon", "wasserstein_1d",
    "wgan_div_1d", "wgan_gp_1d",
]  # fmt: skip


def wasserstein_1d(
    x: Tensor, y: Tensor, p: float = 1.0, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> Tensor:
    """Exact W_p of two discrete laws on the line, `(integral of |F^-1(u) - G^-1(u)|^p du)^(1/p)`.

    Equation `wasserstein:line`: in one dimension the monotone plan is optimal for every p >= 1.

    Args:
        x, y: (n,) and (m,), in any order.
        p: finite, >= 1.
        x_weights, y_weights: probabilities of the points, (n,) and (m,); None: all equal.
    Returns:
        Scalar, the root and not W_p^p; exactly 0 for equal laws, whatever points and weights they are written with.

    Two values of F and G that differ by no more than the rounding of weights and sums are taken for one: a slice of
    mass 1e-16 between them, moved by 1, would weigh 1e-2 in W_8 (as in POT, whose `wasserstein_1d` this else equals).
    Source: Santambrogio 2015, chapter 2.

    >>> wasserstein_1d(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 4.0]))
    tensor(4., dtype=torch.float64)
    """
    p = check_number("wasserstein_1d", "p", p, 1, included=True)
    x, y = vector("wasserstein_1d", "x", x), vector("wasserstein_1d", "y", y)
    (x, f, F, slack_x), (y, g, G, slack_y) = _law(x, "x_weights", x_weights), _law(y, "y_weights", y_weights)
    slack = slack_x + slack_y
    if torch.equal(x, y) and ((f - g).abs() <= slack * f).all():  # its atoms may be below the rounding of F
        return x.new_zeros(())
    near = _nearest(F, G)
    alike = ((near - G).abs() <= slack) & (_nearest(G, near) == G)  # the nearest of each other: no atom is lost
    G = near.where(alike, G)
    levels = torch.cat([F, G]).sort().values
    gap = (_quantile(x, F, levels) - _quantile(y, G, levels)).abs()
    unit = gap.max().clamp(min=torch.finfo(gap.dtype).tiny)  # so that no p-th power overflows
    return unit * (levels.diff(prepend=levels.new_zeros(1)) * (gap / unit).pow(p)).sum().pow(1 / p)


def _law(points: Tensor, argument: str, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor, float]:
    """The different points in order, their weights, the distribution function, and how far it may be rounded."""
    n, eps = len(points), torch.finfo(points.dtype).eps
    if weights is None:
        points, counts = points.unique(return_counts=True)
        return points, counts.to(points.dtype) / n, counts.cumsum(0).to(points.dtype) / n, 2 * eps
    law = probabilities("wasserstein_1d", argument, weights, n)
    points, place = points[law > 0].unique(return_inverse=True)
    sums = torch.zeros_like(points).index_add_(0, place, law[law > 0])
    # A rounded weight is off by eps of itself, so all of them together by eps; sums add eps for each point.
    return points, sums, sums.cumsum(0), 2 * torch.finfo(weights.dtype).eps + n * eps


def _nearest(levels: Tensor, at: Tensor) -> Tensor:
    """The value in sorted `levels` that is nearest to each of `at`."""
    above = torch.searchsorted(levels, at).clamp(max=len(levels) - 1)
    below = (above - 1).clamp(min=0)
    return torch.where(levels[above] - at < at - levels[below], levels[above], levels[below])


def _quantile(points: Tensor, cdf: Tensor, levels: Tensor) -> Tensor:
    return points[torch.searchsorted(cdf, levels).clamp(max=len(points) - 1)]  # the least point with F >= level


def bures(mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
    """Exact W_2 of two Gaussians, `(|m - m'|^2 + Tr(C + C' - 2 (C^(1/2) C' C^(1/2))^(1/2)))^(1/2)`.

    Equation `wasserstein:bures`, computed as the least `|C^(1/2) - Q C'^(1/2)|` over orthogonal Q, a polar factor:
    where the covariances are nearly equal the trace loses half of the digits. Fréchet scores (FID) are its square.

    Args:
        mean_x, mean_y: (d,).
        cov_x, cov_y: (d, d), positive semi-definite; errors to 1e-5 of the largest entry are symmetrised and clipped.

    Source: Dowson, Landau, J. Multivar. Anal. 12 (1982).

    >>> bures(torch.zeros(2), torch.eye(2), torch.zeros(2) + 3, 4 * torch.eye(2))  # (9 + 9 + 1 + 1)^(1/2)
    tensor(4.4721, dtype=torch.float64)
    """
    m, n = vector("bures", "mean_x", mean_x), vector("bures", "mean_y", mean_y, len(mean_x))
    A, B = _root("cov_x", cov_x, len(m)), _root("cov_y", cov_y, len(m))
    U, _, Vh = torch.linalg.svd(B @ A)
    return torch.hypot((m - n).norm(), (A - (U @ Vh).mT @ B).norm())


def _root(argument: str, C: Tensor, d: int) -> Tensor:
    """Symmetric square root of a covariance."""
    C = floating("bures", argument, C).detach().double()
    slack = 1e-5 * C.abs().max()
    if C.shape != (d, d) or not (C - C.mT).abs().max() <= slack:
        raise ValueError(
            f"bures: {argument} of shape {tuple(C.shape)} must be {(d, d)}, symmetric and finite. Take (C + C.mT) / 2."
        )
    values, V = torch.linalg.eigh((C + C.mT) / 2)
    if values[0] < -slack:
        raise ValueError(f"bures: {argument} has eigenvalue {values[0]:.3g}, must have none < 0. Pass a covariance.")
    return V * values.clamp(min=0).sqrt() @ V.mT


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Exact Jensen-Shannon divergence of two discrete laws in nats, between 0 and log 2 (equation `wasserstein:js`).

    (KL(p, m) + KL(q, m)) / 2 with m = (p + q) / 2, computed as the sum of m (t artanh t + log(1 - t^2) / 2) where
    t = (p - q) / (p + q): no term is negative, while the logarithms of nearby laws cancel. 0 log 0 = 0.

    Args:
        p, q: (n,), probabilities of the same n outcomes.

    Source: Lin, IEEE Trans. Inf. Theory 37 (1991).

    >>> jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))  # log 2, however far apart the outcomes are
    tensor(0.6931, dtype=torch.float64)
    """
    p = probabilities("jensen_shannon", "p", p)
    q = probabilities("jensen_shannon", "q", q, len(p))
    t = (p - q) / (p + q).where(p + q > 0, 1.0)
    inside = t.where(t.abs() < 1, 0.0)
    each = inside * inside.atanh() + torch.log1p(-inside.square()) / 2
    return ((p + q) / 2 * each.where(t.abs() < 1, math.log(2))).sum()


class ClosedForm(NamedTuple):
    """Value of a penalised dual problem on a line, and the slope T' of its optimal critic at the grid points."""

    value: Tensor
    slope: Tensor


def wgan_gp_1d(density_p: Tensor, density_q: Tensor, density_r: Tensor, grid: Tensor, weight: float) -> ClosedForm:
    """Exact value of WGAN-GP on a line, the integral of `|D| + D^2 / (4 weight r)`, where D = F_p - F_q.

    Equation `wasserstein:penalty-value`: `|T'| = 1 + |D| / (2 weight r)`, with the sign of -D, and + where D = 0.

    Args:
        density_p, density_q, density_r: (M,), densities of p, q and of the points penalised, normalised over the grid
            here; their integrals must be 1 to 1e-3.
        grid: (M,), strictly increasing; 6 digits take some 20,000 points and tails to 6 standard deviations.
        weight: > 0, the penalty's factor.
    Returns:
        `ClosedForm(value, slope)`: a scalar, inf where mass must travel and r is 0, and (M,).

    >>> x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    >>> wgan_gp_1d(2 * x, 2 - 2 * x, torch.ones_like(x), x, weight=10.0).value  # 1/3 + (1/40) (2/15)
    tensor(0.3367, dtype=torch.float64)
    """
    weight = check_number("wgan_gp_1d", "weight", weight, 0)
    D, ratio, x = _cdf_gap("wgan_gp_1d", density_p, density_q, density_r, grid)
    slope = 1 + ratio / (2 * weight)
    return ClosedForm(torch.trapezoid(D.abs() * (1 + slope) / 2, x), slope.where(D <= 0, -slope))


def wgan_div_1d(
    density_p: Tensor, density_q: Tensor, density_r: Tensor, grid: Tensor, k: float = 2.0, power: float = 6.0
) -> ClosedForm:
    """Exact Wasserstein divergence on a line, the supremum of `E_p T - E_q T - k E_r |T'|^power`.

    Equation `w-divergence:closed-form`: `|T'| = (|D| / (k a r))^(1/(a - 1))` with a = power, D = F_p - F_q and the sign
    of -D; the value is (a - 1)/a times the integral of `|D| |T'|`, which is E_p T - E_q T at the optimum.

    Args:
        density_p, density_q, density_r, grid: as in `wgan_gp_1d`.
        k: > 0.
        power: > 1; at 1 the supremum is 0 or infinite.
    Returns:
        `ClosedForm(value, slope)` as `wgan_gp_1d`; the slope is 0 where D is.

    Source: Wu et al. 2018, arXiv 1712.01026, for the definition; the chapter `w-divergence`.

    >>> x = torch.linspace(0, 1, 1001, dtype=torch.float64)
    >>> wgan_div_1d(2 * x, 2 - 2 * x, torch.ones_like(x), x, k=0.5, power=2.0).value  # (1/2) (2/15)
    tensor(0.0667, dtype=torch.float64)
    """
    k = check_number("wgan_div_1d", "k", k, 0)
    power = check_number("wgan_div_1d", "power", power, 1)
    D, ratio, x = _cdf_gap("wgan_div_1d", density_p, density_q, density_r, grid)
    slope = (ratio / (k * power)).pow(1 / (power - 1))
    return ClosedForm((power - 1) / power * torch.trapezoid(D.abs() * slope, x), -D.sign() * slope)


class PairForm(NamedTuple):
    """Value of GAN-QP between two discrete laws, and its optimal critic: Delta of every pair, or T of every point."""

    value: Tensor
    critic: Tensor


def gan_qp_binary(p: Tensor, q: Tensor, distance: Tensor, lambda_: float) -> PairForm:
    """Exact value of GAN-QP with a critic of *two* arguments, the QP divergence (equation `gan-qp:binary-value`).

    Maximum of E_{p x q} (Delta - Delta^2 / (2 lambda d)) over antisymmetric Delta, attained by `gan-qp:binary-critic`,
    `Delta = lambda d (A - B) / (A + B)` with A = p_i q_j and B = p_j q_i, so that `|Delta| <= lambda d`. Nobody trains
    this critic: programs score single samples, `gan_qp_unary`, whose value is smaller.

    Args:
        p, q: (n,), probabilities of the same n points.
        distance: (n, n), d_ij = d_ji > 0 between different points; no triangle inequality is needed, and the diagonal
            is not used.
        lambda_: > 0, score per distance (`gan-qp:unit`).
    Returns:
        `PairForm(value, critic)`: a scalar in the unit of lambda d, and Delta_ij = T(i, j) - T(j, i), (n, n), large
        where i is the real one; NaN for a pair that is never drawn.

    Source: Su, arXiv 1811.07296.

    >>> gan_qp_binary(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 3], [3, 0]]), 1.0).value
    tensor(1.5000, dtype=torch.float64)
    """
    p, q, d = _pairs("gan_qp_binary", p, q, distance, lambda_)
    e, m = p - q, (p + q) / 2
    gap = e[:, None] * m - e * m[:, None]  # A - B, without cancellation where p and q are nearly equal
    both = p[:, None] * q + q[:, None] * p
    share = (gap / both).where(both > 0, math.nan).fill_diagonal_(0)
    return PairForm(lambda_ / 4 * (d * gap * share).nansum(), lambda_ * d * share)


def gan_qp_unary(p: Tensor, q: Tensor, distance: Tensor, lambda_: float) -> PairForm:
    """Exact value of GAN-QP with a critic of *one* argument, Delta = T_i - T_j (equation `gan-qp:unary-value`).

    The best T solves `L T = p - q` (`gan-qp:unary-critic`), where L is the Laplacian of the graph with the weights
    `w_ij = (p_i q_j + q_i p_j) / (lambda d_ij)`, and the value is `(p - q) . T / 2`: a network of resistors. A
    difference of T can exceed lambda d_ij (`gan-qp:lipschitz`).

    Args:
        p, q, distance, lambda_: as in `gan_qp_binary`; the value is never above its.
    Returns:
        `PairForm(value, critic)`: a scalar, and T, (n,), with mean 0 under (p + q) / 2; NaN where both laws are 0.

    >>> d = torch.tensor([[0.0, 1, 4], [1, 0, 3], [4, 3, 0]])  # the points 0, 1 and 4
    >>> T = gan_qp_unary(torch.tensor([0.5, 0.5, 0]), torch.tensor([0.5, 0, 0.5]), d, 1.0).critic
    >>> T - T[2]
    tensor([3.0000, 3.7500, 0.0000], dtype=torch.float64)
    """
    p, q, d = _pairs("gan_qp_unary", p, q, distance, lambda_)
    used = p + q > 0
    p, q, d = p[used], q[used], d[used][:, used]
    w = ((p[:, None] * q + q[:, None] * p) / (lambda_ * d)).fill_diagonal_(0)
    degree = w.sum(1).where(w.sum(1) > 0, 1.0)  # 0 only for a single point
    root = degree.sqrt()
    # Scaled by its diagonal the Laplacian stays well conditioned when tails have weights of 1e-40; T is fixed up to
    # a constant, and adding the projection on the constants chooses one.
    constant = root / root.norm()
    scaled = (degree.diag() - w) / (root[:, None] * root) + constant[:, None] * constant
    T = torch.linalg.solve(scaled, (p - q) / root) / root
    T = T - ((p + q) / 2) @ T
    critic = torch.full_like(used, math.nan, dtype=T.dtype)
    critic[used] = T
    return PairForm((p - q) @ T / 2, critic)


def _pairs(name: str, p: Tensor, q: Tensor, distance: Tensor, lambda_: float) -> tuple[Tensor, Tensor, Tensor]:
    """The checked laws and distances, these with ones on the diagonal."""
    lambda_ = check_number(name, "lambda_", lambda_, 0)
    p = probabilities(name, "p", p)
    n = len(p)
    q = probabilities(name, "q", q, n)
    d = floating(name, "distance", distance).detach().double()
    if d.shape == (n, n):
        d = d.clone().fill_diagonal_(1)
    if d.shape != (n, n) or not d.isfinite().all() or d.min() <= 0 or not torch.allclose(d, d.mT, rtol=1e-5, atol=0):
        raise ValueError(
            f"{name}: distance of shape {tuple(d.shape)}, least entry {d.min():.3g}, must be {(n, n)}, symmetric, "
            "finite and > 0 off the diagonal. Merge equal points, adding up their probabilities."
        )
    return p, q, (d + d.mT) / 2


def _cdf_gap(name: str, p: Tensor, q: Tensor, r: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D = F_p - F_q and |D| / r (0 where D = 0) at the grid points, and the grid."""
    x = vector(name, "grid", grid)
    if len(x) < 2 or not (x.diff() > 0).all():
        raise ValueError(f"{name}: grid of {len(x)} points must be strictly increasing, with at least 2. Sort it.")
    laws = []
    for argument, density in (("density_p", p), ("density_q", q), ("density_r", r)):
        f = vector(name, argument, density, len(x))
        mass = torch.trapezoid(f, x)
        if f.min() < 0 or abs(mass - 1) > 1e-3:
            raise ValueError(
                f"{name}: {argument} has minimum {f.min():.3g} and integral {mass:.6g} over the grid, must be >= 0 "
                "with integral 1 to 1e-3. Normalise it, or widen and refine the grid."
            )
        laws.append(f / mass)
    p, q, r = laws
    # Summed from the nearer end: a tail summed from the far one is rounding of size 1e-16, and r there may be 1e-40.
    left = _cumulative(p - q, x)
    right = _cumulative((p - q).flip(0), x.flip(0)).flip(0)
    D = torch.where(_cumulative(p + q, x) < 1, left, right)
    return D, torch.where(D == 0, 0.0, D.abs() / r), x


def _cumulative(f: Tensor, x: Tensor) -> Tensor:
    return torch.cat([f.new_zeros(1), torch.cumulative_trapezoid(f, x)])
