"""Exact distances against other libraries, laws and each other; hostile input, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import ot as pot
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from _compare import randn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import grad

from gantext.gan.distances import (
    ClosedForm,
    bures,
    gan_qp_binary,
    gan_qp_unary,
    jensen_shannon,
    wasserstein_1d,
    wgan_div_1d,
    wgan_gp_1d,
)

F64 = torch.float64
ot: Any = pot  # its annotations admit tuples that it returns with log=True only


def law(n: int) -> Tensor:
    return torch.rand(n, dtype=F64).softmax(0)


# --- the Wasserstein distance on a line


def test_wasserstein_of_a_shift_is_the_shift() -> None:
    x = randn(101)
    for p in (1.0, 2, 7.5, 300):
        for c in (3.0, 1e4, 0.0):
            assert wasserstein_1d(x, (x + c)[torch.randperm(101)], p).item() == pytest.approx(c, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_wasserstein_agrees_with_pot(p: float) -> None:
    x, y, a, b = randn(13), 2 * randn(8) + 1, law(13), law(8)
    ours = wasserstein_1d(x, y, p, a, b).item()
    assert ours == pytest.approx(float(ot.wasserstein_1d(x.numpy(), y.numpy(), a.numpy(), b.numpy(), p=p)) ** (1 / p))
    cost = (x[:, None] - y).abs().pow(p).numpy()
    assert ours == pytest.approx(ot.emd2(a.numpy(), b.numpy(), cost) ** (1 / p), rel=1e-9)
    assert ours == pytest.approx(wasserstein_1d(y.flip(0), x, p, b.flip(0), a).item(), rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 8.0, 16.0])
def test_equal_laws_are_zero_apart_however_they_are_written(p: float) -> None:
    ten = torch.arange(10, dtype=F64)
    assert wasserstein_1d(ten, ten.repeat(3), p) == 0  # POT has 2e-2 for p = 8
    for weights in (torch.full((10,), 0.1), torch.full((10,), 0.1, dtype=F64)):
        assert (
            wasserstein_1d(ten, ten.repeat(7), p, weights) == 0 == wasserstein_1d(ten.repeat(7), ten, p, None, weights)
        )
    assert wasserstein_1d(torch.tensor([0.0, 1]), torch.tensor([0.0] + [1.0] * 9), p, torch.tensor([0.1, 0.9])) == 0
    rng = np.random.default_rng(0)
    for k in range(60):
        n, dtype = rng.integers(1, 30), (F64, torch.float32)[k % 2]
        weights = torch.tensor(rng.dirichlet(np.full(n, rng.choice([0.1, 1.0, 10.0]))), dtype=dtype)  # down to 1e-30
        parts = torch.tensor(rng.integers(1, 9, n))
        order = torch.randperm(int(parts.sum()))
        points = torch.tensor(rng.standard_normal(n))
        split = (points.repeat_interleave(parts)[order], (weights / parts).repeat_interleave(parts)[order])
        assert wasserstein_1d(points, split[0], p, weights, split[1]) == 0
        assert (
            wasserstein_1d(torch.cat([points, points + 1]), points, p, torch.cat([weights, 0 * weights]), weights) == 0
        )


def test_no_mass_is_lost_to_the_rounding_that_is_forgiven() -> None:
    zero, pair = torch.zeros(1, dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    for mass, dtype in ((1e-7, torch.float32), (1e-15, F64)):
        weights = torch.tensor([1 - mass, mass], dtype=dtype)
        share = (weights[1] / weights.double().sum()).item()
        for p in (1.0, 2.0, 8.0):
            want = pytest.approx(share ** (1 / p), rel=0.2)  # mass itself is rounded by 1e-16 of 1
            assert (
                wasserstein_1d(pair, zero, p, weights).item()
                == want
                == wasserstein_1d(zero, pair, p, None, weights).item()
            )
    ten = torch.arange(10, dtype=F64)
    moved = ten.repeat(3)
    moved[0] = 1e-4  # one thirtieth of the mass, by 1e-4
    assert wasserstein_1d(ten, moved, 8.0).item() == pytest.approx(1e-4 * (1 / 30) ** (1 / 8), rel=1e-9)


def test_wasserstein_agrees_with_scipy_on_unequal_samples_and_ties() -> None:
    for n, m in [(1, 1), (1, 5), (7, 3), (6, 6), (100, 101)]:
        x, y = randn(n).round(decimals=1), randn(m).round(decimals=1)
        assert wasserstein_1d(x, y).item() == pytest.approx(
            scipy.stats.wasserstein_distance(x, y), rel=1e-12, abs=1e-15
        )
    x, y, a = torch.tensor([0.0, 1, 2]), torch.tensor([5.0]), torch.tensor([0.5, 0.0, 0.5])  # a point of weight zero
    assert wasserstein_1d(x, y, 1, a) == 4


@given(seed=st.integers(0, 10_000), p=st.sampled_from([1.0, 1.5, 2.0, 6.0]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_wasserstein_is_a_metric(seed: int, p: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 7, (3,), generator=generator).tolist()
    points = [torch.randn(n, generator=generator) for n in sizes]
    laws = [torch.randn(n, generator=generator).mul(3).softmax(0) for n in sizes]
    d = lambda i, j: wasserstein_1d(points[i], points[j], p, laws[i], laws[j]).item()
    assert d(0, 1) == pytest.approx(d(1, 0), rel=1e-9)
    assert d(0, 2) <= d(0, 1) + d(1, 2) + 1e-9
    assert d(0, 0) == 0 and d(0, 1) >= 0


# --- Gaussians


def covariance(d: int, rank: int | None = None) -> Tensor:
    X = randn(d, rank or d)
    return X @ X.mT / d


@pytest.mark.parametrize("d", [1, 2, 9])
def test_bures_agrees_with_pot_and_is_symmetric(d: int) -> None:
    m, n, C, D = randn(d), randn(d), covariance(d), covariance(d)
    ours = bures(m, C, n, D).item()
    theirs = ot.gaussian.bures_wasserstein_distance(*(t.numpy() for t in (m, n, C, D)))
    assert ours == pytest.approx(float(theirs), rel=1e-9)
    assert ours == pytest.approx(bures(n, D, m, C).item(), rel=1e-12)
    E = covariance(d)
    assert ours <= (bures(m, C, m, E) + bures(m, E, n, D)).item() + 1e-12
    root = [t.diagonal().sqrt() for t in (C.diagonal().diag(), D.diagonal().diag())]  # commuting: roots subtract
    diagonal = bures(m, C.diagonal().diag(), n, D.diagonal().diag()).item()
    assert diagonal == pytest.approx(math.hypot((m - n).norm(), (root[0] - root[1]).norm()), rel=1e-12)


def test_bures_in_one_dimension_is_the_quantile_distance() -> None:
    u = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    z = torch.special.ndtri(u)
    exact = bures(torch.zeros(1), torch.ones(1, 1), torch.full((1,), 2.0), torch.full((1, 1), 9.0)).item()
    assert exact == pytest.approx(math.hypot(2, 2), rel=1e-12)
    assert wasserstein_1d(z, 3 * z + 2, 2).item() == pytest.approx(exact, rel=1e-4)


def test_bures_of_nearly_equal_covariances_keeps_its_digits() -> None:
    C, zero = covariance(6), torch.zeros(6, dtype=F64)
    assert bures(zero, C, zero, C).item() < 1e-14
    for c in (1e-6, 1e-9):  # (1 + c)^2 C: the root is (1 + c) C^(1/2), so the distance c (Tr C)^(1/2)
        assert bures(zero, C, zero, (1 + c) ** 2 * C).item() == pytest.approx(c * C.trace().sqrt().item(), rel=2e-6)

    def naive(C: Tensor, D: Tensor) -> Tensor:
        values, V = torch.linalg.eigh(C)
        R = V * values.sqrt() @ V.mT
        return (
            (C.trace() + D.trace() - 2 * torch.linalg.eigvalsh(R @ D @ R).clamp(min=0).sqrt().sum()).clamp(min=0).sqrt()
        )

    want = 1e-9 * C.trace().sqrt()
    assert (naive(C, (1 + 1e-9) ** 2 * C) / want - 1).abs() > 0.5


def test_bures_forgives_rounding_and_no_more() -> None:
    mean, skew = torch.zeros(2), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert bures(mean, torch.eye(2) + 5e-6 * skew, mean, torch.eye(2)) < 1e-5
    assert bures(mean, torch.diag(torch.tensor([1.0, -5e-6])), mean, torch.eye(2)) == pytest.approx(1.0, abs=1e-5)
    for wrong in (torch.eye(2) + 1e-4 * skew, torch.diag(torch.tensor([1.0, -1e-4]))):
        with pytest.raises(ValueError, match=r"symmetric and finite|eigenvalue"):
            bures(mean, wrong, mean, torch.eye(2))


def test_bures_of_singular_covariances() -> None:
    C, D, zero = covariance(5, 2), covariance(5, 1), torch.zeros(5)
    trace = C.trace() + D.trace() - 2 * (D @ C).trace().sqrt()  # D of rank one
    assert bures(zero, C, zero, D).item() == pytest.approx(trace.sqrt().item(), rel=1e-6)
    nothing = torch.zeros(5, 5)
    assert bures(zero, nothing, zero, nothing) == 0
    assert bures(zero, nothing, zero, C).item() == pytest.approx(C.trace().sqrt().item(), rel=1e-7)
    sample = torch.randn(20, 50).T.cov().float()  # of rank 19, with negative eigenvalues from rounding
    assert bures(torch.zeros(50), sample, torch.zeros(50), sample).item() < 1e-6


# --- Jensen-Shannon


def test_best_sgan_critic_gives_the_jensen_shannon_divergence() -> None:
    p, q = law(6), law(6)
    T = p.log() - q.log()
    loss = (p * -torch.sigmoid(T).log()).sum() + (q * -torch.sigmoid(-T).log()).sum()
    assert (math.log(2) - loss / 2).item() == pytest.approx(jensen_shannon(p, q).item(), rel=1e-12)


def test_jensen_shannon_laws() -> None:
    p, q = law(9), law(9)
    ours = jensen_shannon(p, q).item()
    assert ours == pytest.approx(float(scipy.spatial.distance.jensenshannon(p, q)) ** 2, rel=1e-10)
    assert ours == pytest.approx(jensen_shannon(q, p).item(), rel=1e-14)
    assert jensen_shannon(p, p) == 0
    p, q = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.5, 0.5, 0.0])  # 0 log 0 on both sides and on one
    assert jensen_shannon(p, q).item() == pytest.approx(math.log(2) / 2, rel=1e-15)
    for a in (1, 4):  # two point masses: log 2, whatever their distance
        x = torch.eye(5)
        assert jensen_shannon(x[0], x[a]).item() == math.log(2)


def test_jensen_shannon_of_nearby_laws_keeps_its_digits() -> None:
    p = law(4)
    q = p + 1e-9 * torch.tensor([1.0, -2, 4, -3], dtype=F64)
    m, exact = (p + q) / 2, ((q - p).square() / (8 * p)).sum().item()  # to first order in q / p - 1
    naive = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()).item() / 2
    assert jensen_shannon(p, q).item() == pytest.approx(exact, rel=1e-6)
    assert abs(naive / exact - 1) > 0.5


# --- closed forms on a line


def normal(x: Tensor, mean: float, variance: float | Tensor) -> Tensor:
    return (-((x - mean) ** 2) / (2 * variance)).exp() / (2 * math.pi * torch.as_tensor(variance, dtype=F64)).sqrt()


def interpolated(x: Tensor, mean: float, variance: float) -> Tensor:
    """Density of u X + (1 - u) Y, X from N(0, 1), Y from N(mean, variance): Gaussian for each u, averaged over u."""
    nodes, weights = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(64))
    u = (1 + nodes[:, None]) / 2
    each = normal(x - (1 - u) * mean, 0, u**2 + (1 - u) ** 2 * variance)
    return weights / 2 @ each


def gaussians(mean: float, variance: float, sampler: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.linspace(-12, 12 + mean, 20_001, dtype=F64)
    p, q = normal(x, 0, 1), normal(x, mean, variance)
    return p, q, interpolated(x, mean, variance) if sampler == "interp" else (p + q) / 2, x


@pytest.mark.parametrize(
    ("mean", "sampler", "value"),
    [(1, "interp", 1.027227), (2, "interp", 2.105172), (4, "interp", 4.406503), (2, "mix", 2.109428)],
)
def test_wgan_gp_closed_form(mean: float, sampler: str, value: float) -> None:
    p, q, r, x = gaussians(mean, 1, sampler)
    form = wgan_gp_1d(p, q, r, x, weight=10.0)
    assert form.value.item() == pytest.approx(value, abs=1e-6)
    assert (form.slope.abs() >= 1).all()
    assert_optimal(form, p, q, r, x, lambda slope: 10 * (slope.abs() - 1) ** 2)


TABLE: dict[
    tuple[float, float], tuple[float, list[float], list[float]]
] = {  # (mean, variance): W_1, then with r = (p + q)/2 and with r of interpolation
    (1, 1): (1.0, [0.504864, 0.126216, 0.507590, 0.367891], [0.544536, 0.511539]),
    (2, 1): (2.0, [2.188568, 0.547142, 1.178556, 0.854193], [2.103447, 1.171263]),
    (4, 1): (4.0, [15.324913, 3.831228, 2.908922, 2.108327], [8.130068, 2.680788]),
    (2, 4): (2.016981, [2.655989, 0.663997, 1.222922, 0.886349], [2.593251, 1.211538]),
}


@pytest.mark.parametrize(("mean", "variance"), TABLE)
def test_wgan_div_closed_form(mean: float, variance: float) -> None:
    W1, mix, interp = TABLE[mean, variance]
    p, q, r, x = gaussians(mean, variance, "mix")
    assert wasserstein_1d(x, x, 1, p / p.sum(), q / q.sum()).item() == pytest.approx(W1, abs=2e-6)
    found = [wgan_div_1d(p, q, r, x, k, power).value.item() for k, power in ((0.5, 2), (2, 2), (2, 6), (10, 6))]
    assert found == pytest.approx(mix, abs=2e-6)
    p, q, r, x = gaussians(mean, variance, "interp")
    found = [wgan_div_1d(p, q, r, x, k, power).value.item() for k, power in ((0.5, 2), (2, 6))]
    assert found == pytest.approx(interp, abs=2e-6)


@pytest.mark.parametrize("power", [1.5, 2.0, 6.0])
def test_wgan_div_critic_is_optimal_and_its_gap_is_power_times_the_penalty(power: float) -> None:
    p, q, r, x = gaussians(2, 1, "mix")
    form = wgan_div_1d(p, q, r, x, 2.0, power)
    assert_optimal(form, p, q, r, x, lambda slope: 2 * slope.abs() ** power)
    penalty = 2 * torch.trapezoid(r * form.slope.abs() ** power, x)
    assert penalty.item() == pytest.approx(form.value.item() / (power - 1), rel=1e-5)


def assert_optimal(
    form: ClosedForm, p: Tensor, q: Tensor, r: Tensor, x: Tensor, cost: Callable[[Tensor], Tensor]
) -> None:
    """The critic with this slope attains the value, and no perturbation of it does better."""

    def objective(slope: Tensor) -> float:
        T = torch.cat([torch.zeros(1, dtype=F64), torch.cumulative_trapezoid(slope, x)])
        return torch.trapezoid((p - q) * T - r * cost(slope), x).item()

    best = objective(form.slope)
    assert best == pytest.approx(form.value.item(), rel=1e-5)
    for t in range(1, 6):
        assert objective(form.slope + 0.2 * torch.sin(t * x)) < best
        assert objective(form.slope * (1 + 0.1 * torch.sin(t * x))) < best


def test_wgan_div_corollaries() -> None:
    p, q, r, x = gaussians(2, 1, "mix")
    towards_w1 = [wgan_div_1d(p, q, r, x, 2.0, power).value.item() for power in (2, 6, 20, 100, 1000)]
    assert towards_w1 == pytest.approx([0.5471, 1.1786, 1.6274, 1.8910, 1.9843], abs=6e-5)
    one, five = (wgan_div_1d(p, q, r, x, k) for k in (2.0, 10.0))
    assert five.value.item() == pytest.approx(one.value.item() * 5**-0.2, rel=1e-12)
    torch.testing.assert_close(five.slope, one.slope * 5**-0.2)
    back = wgan_div_1d(q, p, r, x)
    torch.testing.assert_close((back.value, back.slope), (one.value, -one.slope))
    x = torch.linspace(-12, 12, 20_001, dtype=F64)  # r uniform on [-12, 12], k = 1/2: 12 times the Cramer distance
    flat = torch.full_like(x, 1 / 24)
    cramer = wgan_div_1d(normal(x, 0, 1), normal(x, 2, 1), flat, x, 0.5, 2)
    assert cramer.value.item() == pytest.approx(11.665559, abs=2e-6)
    Phi = lambda t: torch.special.erfc(-t / math.sqrt(2)) / 2  # torch.special.ndtr loses its tail
    D = torch.where(x < 1, Phi(x) - Phi(x - 2), Phi(2 - x) - Phi(-x))
    # r in proportion to |D|: the critic is the potential of W_1, of slope 1
    form = wgan_div_1d(normal(x, 0, 1), normal(x, 2, 1), D / torch.trapezoid(D, x), x, k=1.0, power=2.0)
    assert form.value.item() == pytest.approx(1, abs=1e-6)
    assert (form.slope[5000:15000] + 1).abs().max() < 1e-5


def test_tails_are_summed_from_the_nearer_end() -> None:
    x = torch.linspace(-20, 22, 20_001, dtype=F64)
    p, q = normal(x, 0, 1), normal(x, 2, 1)
    r = (p + q) / 2  # 1e-88 at the ends
    assert wgan_div_1d(p, q, r, x, 0.5, 2).value.item() == pytest.approx(2.188568, abs=2e-6)
    D = torch.cat([torch.zeros(1, dtype=F64), torch.cumulative_trapezoid(p - q, x)])  # summed from the left only
    assert torch.trapezoid(D**2 / (2 * r), x) > 1e6


def test_value_is_infinite_where_mass_must_cross_what_is_not_penalised() -> None:
    x = torch.linspace(0, 3, 3001, dtype=F64)
    p, q = (x < 1).double(), (x > 2).double()
    p, q = (f / torch.trapezoid(f, x) for f in (p, q))
    assert wgan_div_1d(p, q, (p + q) / 2, x).value == math.inf
    assert wgan_gp_1d(p, q, (p + q) / 2, x, 10.0).value == math.inf
    assert wgan_div_1d(p, q, torch.ones_like(x) / 3, x).value.isfinite()
    same = wgan_div_1d(p, p, q, x), wgan_gp_1d(p, p, q, x, 10.0)  # p = q: 0, though r misses them; GP still has slope 1
    assert same[0].value == 0 and not same[0].slope.any()
    assert same[1].value == 0 and (same[1].slope == 1).all()


# --- GAN-QP on finitely many points


def apart(x: Tensor) -> Tensor:
    return (x[:, None] - x).abs()


def symmetric(n: int) -> Tensor:
    """Dissimilarities that break the triangle inequality."""
    return (lambda d: (d + d.T) / 2)(torch.rand(n, n, dtype=F64).square() + 1e-3)


def pairwise(p: Tensor, q: Tensor, delta: Tensor, d: Tensor, lambda_: float) -> Tensor:
    """E over x ~ p and y ~ q of Delta - Delta^2 / (2 lambda d), pair by pair."""
    terms = [
        p[i] * q[j] * (delta[i, j] - delta[i, j] ** 2 / (2 * lambda_ * d[i, j]))
        for i in range(len(p))
        for j in range(len(q))
        if i != j
    ]
    return torch.stack(terms).sum()


@pytest.mark.parametrize("n", [2, 5, 6])
def test_gan_qp_critics_are_optimal(n: int) -> None:
    p, q, d, lambda_ = law(n), law(n), symmetric(n), 0.7
    binary, unary = gan_qp_binary(p, q, d, lambda_), gan_qp_unary(p, q, d, lambda_)
    S = binary.critic.clone().requires_grad_()  # any matrix S gives an antisymmetric Delta
    best = pairwise(p, q, (S - S.T) / 2, d, lambda_)
    assert best.item() == pytest.approx(binary.value.item(), rel=1e-12)
    assert grad(best, S)[0].abs().max() < 1e-14
    assert (binary.critic.abs() <= lambda_ * d).all()
    T = unary.critic.clone().requires_grad_()
    best = pairwise(p, q, T[:, None] - T, d, lambda_)
    assert best.item() == pytest.approx(unary.value.item(), rel=1e-12)
    assert grad(best, T)[0].abs().max() < 1e-14
    assert unary.value <= binary.value * (1 + 1e-12)  # the objectives are concave: zero gradient is a maximum
    for _ in range(5):
        S, T = binary.critic + 0.1 * randn(n, n), unary.critic + 0.1 * randn(n)
        assert pairwise(p, q, (S - S.T) / 2, d, lambda_) < binary.value
        assert pairwise(p, q, T[:, None] - T, d, lambda_) < unary.value


@pytest.mark.parametrize("oracle", [gan_qp_binary, gan_qp_unary])
def test_gan_qp_laws(oracle: Callable[..., Any]) -> None:
    p, q, d = law(6), law(6), symmetric(6)
    value, critic = oracle(p, q, d, 1.0)
    assert value > 0 and oracle(p, p, d, 1.0).value == 0
    back = oracle(q, p, d, 1.0)
    torch.testing.assert_close((back.value, back.critic), (value, -critic))
    five = oracle(p, q, d, 5.0)  # lambda is a unit
    torch.testing.assert_close((five.value, five.critic), (5 * value, 5 * critic))
    order = torch.randperm(6)
    moved = oracle(p[order], q[order], d[order][:, order], 1.0)
    assert moved.value.item() == pytest.approx(value.item(), rel=1e-12)
    two = torch.eye(2), 3 * (1 - torch.eye(2))
    assert oracle(two[0][0], two[0][1], two[1], 0.5).value.item() == pytest.approx(0.75, rel=1e-15)
    alone = oracle(torch.ones(1), torch.ones(1), torch.zeros(1, 1), 1.0)
    assert alone.value == 0 and not alone.critic.any()


@pytest.mark.parametrize(
    ("mean", "binary", "unary"),
    [(0.5, 0.12458, 0.10793), (1, 0.38991, 0.36330), (2, 0.96449, 0.95388), (4, 1.99923, 1.99903)],
)
def test_gan_qp_of_two_gaussians(mean: float, binary: float, unary: float) -> None:
    x = torch.linspace(-9, 13, 301, dtype=F64)  # tails of 1e-63
    p, q = (torch.softmax(-((x - m) ** 2) / 2, 0) for m in (0, mean))
    assert gan_qp_binary(p, q, apart(x), 1.0).value.item() == pytest.approx(binary, abs=6e-6)
    assert gan_qp_unary(p, q, apart(x), 1.0).value.item() == pytest.approx(unary, abs=6e-6)
    product = p[:, None] * q
    for d in (apart(x), apart(x) ** 2):  # a linear critic is a lower bound: E Delta^2 / d known, Delta = theta (y - x)
        theta = mean / (product * torch.where(d > 0, apart(x) ** 2 / d, 0.0)).sum()
        assert mean * theta / 2 < gan_qp_unary(p, q, d, 1.0).value < (product * d).sum() / 2


def test_gan_qp_disjoint_supports_and_points_never_drawn() -> None:
    p, q = torch.tensor([0.25, 0.75, 0, 0, 0]), torch.tensor([0, 0, 0.5, 0.5, 0])
    d = symmetric(5)
    binary, unary = gan_qp_binary(p, q, d, 2.0), gan_qp_unary(p, q, d, 2.0)
    mean = (p.double() @ d @ q.double()).item()  # of the distance; the two-argument critic attains lambda / 2 times it
    assert binary.value.item() == pytest.approx(mean, rel=1e-14) and unary.value < mean
    assert unary.critic[:4].isfinite().all() and unary.critic[4].isnan()
    drawn = torch.zeros(5, 5, dtype=torch.bool)
    drawn[:2, 2:4] = drawn[2:4, :2] = True
    drawn.fill_diagonal_(True)
    assert torch.equal(binary.critic.isfinite(), drawn)


def test_gan_qp_of_nearby_laws_keeps_its_digits() -> None:
    p, d = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64), apart(torch.tensor([0.0, 1, 4, 6], dtype=F64))
    c, step = 2.0**-44, torch.tensor([1.0, -2, 4, -3], dtype=F64)
    q, tilt = p + c * step, step[:, None] * p - step * p[:, None]
    exact = (d * tilt**2 / (8 * p[:, None] * p)).sum().item()  # of value / c^2, to first order in c
    assert gan_qp_binary(p, q, d, 1.0).value.item() / c**2 == pytest.approx(exact, rel=1e-11)
    A, B = p[:, None] * q, q[:, None] * p
    naive = (d * (A - B) ** 2 / (A + B)).sum().item() / 4
    assert abs(naive / c**2 / exact - 1) > 1e-5
    w = (2 * p[:, None] * p / (d + torch.eye(4))).fill_diagonal_(0)
    T = torch.linalg.lstsq((w.sum(1).diag() - w), step[:, None], driver="gelsd").solution[:, 0]
    assert gan_qp_unary(p, q, d, 1.0).value.item() / c**2 == pytest.approx((step @ T).item() / 2, rel=1e-11)


def test_the_critic_of_gan_qp_unary_has_mean_zero_under_both_laws() -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1], dtype=F64), torch.tensor([0.1, 0.1, 0.8], dtype=F64)
    T = gan_qp_unary(p, q, torch.tensor([[0.0, 1, 4], [1, 0, 3], [4, 3, 0]]), 1.0).critic
    assert ((p + q) / 2 @ T).abs() < 1e-15 < T.mean().abs()


def test_gan_qp_unary_is_solved_without_the_pseudo_inverse() -> None:
    """Weights of 1e-40 next to 1: a pseudo-inverse takes the small eigenvalues for zeros."""
    x = torch.linspace(0, 1, 6, dtype=F64)
    p = torch.tensor([1, 1, 1e-30, 1e-30, 1e-30, 1e-36], dtype=F64)
    q = torch.tensor([1e-30, 1e-30, 1e-36, 3e-30, 1, 1], dtype=F64)
    p, q = p / p.sum(), q / q.sum()
    T, w = gan_qp_unary(p, q, apart(x), 1.0).critic, (p[:, None] * q + q[:, None] * p) / (apart(x) + torch.eye(6))
    flow = (w * (T[:, None] - T)).sum(1)
    torch.testing.assert_close(flow, p - q, rtol=1e-9, atol=0)
    naive = torch.linalg.pinv(w.sum(1).diag() - w) @ (p - q)
    assert ((naive - naive[0]) - (T - T[0])).abs().max() > 0.1


@pytest.mark.parametrize("oracle", [wasserstein_1d, jensen_shannon])
def test_oracles_take_float32_and_return_float64_without_graph(oracle: Callable[..., Tensor]) -> None:
    p = torch.tensor([0.25, 0.75], requires_grad=True)
    q = torch.tensor([0.75, 0.25])
    out = oracle(p, q)
    assert out.dtype == F64 and not out.requires_grad


def test_rounding_of_the_given_laws_is_normalised_away() -> None:
    p, q, x = law(5), law(5), randn(5)
    near = p * (1 + 5e-6)
    assert jensen_shannon(near, q).item() == pytest.approx(jensen_shannon(p, q).item(), rel=1e-12)
    for order in (1, 3):
        exact = wasserstein_1d(x, x + 1, order, p, q).item()
        assert wasserstein_1d(x, x + 1, order, near, q).item() == pytest.approx(exact, rel=1e-12)
    p, q, r, x = gaussians(2, 1, "mix")
    off = wgan_div_1d(1.0005 * p, 0.9995 * q, 1.0005 * r, x)
    torch.testing.assert_close(off, wgan_div_1d(p, q, r, x), rtol=1e-9, atol=1e-12)


# --- bad input: argument, value received, rule, remedy

ONE, TWO, EYE = torch.ones(3), torch.ones(2), torch.eye(2)
GRID = torch.linspace(0, 1, 11)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: wasserstein_1d(ONE, EYE), ValueError, ["y of shape (2, 2)", "(n,)", "Flatten"]),
        (lambda: wasserstein_1d(ONE, ONE * math.inf), ValueError, ["y of shape", "finite"]),
        (lambda: wasserstein_1d(ONE, ONE, 0.5), ValueError, ["p is 0.5", ">= 1"]),
        (lambda: wasserstein_1d(ONE, ONE, math.inf), ValueError, ["p is inf", "finite"]),
        (lambda: wasserstein_1d(ONE, ONE, 1, TWO / 2), ValueError, ["x_weights of shape (2,)", "(3,)"]),
        (lambda: wasserstein_1d(ONE, TWO, 1, None, TWO), ValueError, ["y_weights", "sum 2", "sum to 1", "Divide"]),
        (lambda: jensen_shannon(torch.tensor([1.5, -0.5]), TWO / 2), ValueError, ["p has minimum -0.5", ">= 0"]),
        (lambda: jensen_shannon(TWO / 2, ONE / 3), ValueError, ["q of shape (3,)", "(2,)"]),
        (lambda: bures(TWO, EYE, ONE, EYE), ValueError, ["mean_y of shape (3,)", "(2,)"]),
        (lambda: bures(TWO, torch.eye(3), TWO, EYE), ValueError, ["cov_x of shape (3, 3)", "(2, 2)"]),
        (lambda: bures(TWO, EYE, TWO, torch.ones(2, 2).triu()), ValueError, ["cov_y", "symmetric", "C.mT"]),
        (lambda: bures(TWO, EYE * math.nan, TWO, EYE), ValueError, ["cov_x", "finite"]),
        (lambda: bures(TWO, -EYE, TWO, EYE), ValueError, ["cov_x has eigenvalue -1", "Pass"]),
        (lambda: wgan_gp_1d(GRID, GRID, GRID, -GRID, 1.0), ValueError, ["grid of 11 points", "increasing", "Sort"]),
        (lambda: wgan_gp_1d(GRID, GRID, GRID, GRID, 1.0), ValueError, ["density_p", "integral 0.5", "Normalise"]),
        (lambda: wgan_gp_1d(2 * GRID, ONE, GRID, GRID, 1.0), ValueError, ["density_q of shape (3,)", "(11,)"]),
        (lambda: wgan_gp_1d(2 * GRID, 2 * GRID, 4 * GRID - 1, GRID, 1.0), ValueError, ["density_r", "minimum -1"]),
        (lambda: wgan_gp_1d(GRID, GRID, GRID, GRID, -1.0), ValueError, ["weight is -1.0", "> 0"]),
        (lambda: gan_qp_binary(TWO / 2, TWO / 2, 1 - EYE, 0.0), ValueError, ["gan_qp_binary: lambda_ is 0.0", "> 0"]),
        (lambda: gan_qp_binary(TWO, TWO / 2, 1 - EYE, 1.0), ValueError, ["p has minimum 1 and sum 2", "Divide"]),
        (lambda: gan_qp_unary(TWO / 2, ONE / 3, 1 - EYE, 1.0), ValueError, ["gan_qp_unary: q of shape (3,)", "(2,)"]),
        (lambda: gan_qp_unary(TWO / 2, TWO / 2, ONE, 1.0), ValueError, ["distance of shape (3,)", "(2, 2)", "Merge"]),
        (lambda: gan_qp_unary(TWO / 2, TWO / 2, EYE, 1.0), ValueError, ["least entry 0", "> 0 off", "Merge"]),
        (lambda: gan_qp_unary(TWO / 2, TWO / 2, 1 + EYE.roll(1, 0).triu(), 1.0), ValueError, ["symmetric"]),
        (lambda: gan_qp_unary(TWO / 2, TWO / 2, EYE.long(), 1.0), TypeError, ["distance is torch.int64", "floating"]),
        (lambda: wgan_div_1d(GRID, GRID, GRID, GRID, 0.0), ValueError, ["k is 0.0", "> 0"]),
        (lambda: wgan_div_1d(GRID, GRID, GRID, GRID, 1.0, 1.0), ValueError, ["power is 1.0", "> 1"]),
    ],
)
def test_bad_input_is_refused_in_words(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_probabilities_of_half_precision_sum_to_one_as_well_as_they_can() -> None:
    logits = randn(1000)
    for dtype in (torch.float16, torch.bfloat16):
        law = logits.softmax(0).to(dtype)
        assert abs(law.double().sum() - 1) > 1e-6
        torch.testing.assert_close(jensen_shannon(law, law), torch.zeros((), dtype=torch.float64))
        exact = law.double() / law.double().sum()
        x = torch.arange(1000.0)
        torch.testing.assert_close(
            wasserstein_1d(x, x, 1, law, None), wasserstein_1d(x, x, 1, exact, None), rtol=1e-2, atol=0
        )
    with pytest.raises(ValueError, match="sum to 1"):
        jensen_shannon(torch.tensor([0.5, 0.52]).half(), torch.tensor([0.5, 0.5]).half())
