"""Losses and gradient penalties: formulas, curvature, hostile input, refusals."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from _compare import randn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel

from gantext.gan.objectives import (
    HINGE,
    NON_SATURATING,
    SATURATING,
    WASSERSTEIN,
    Objective,
    gan_qp,
    gradient_norms,
    gradient_penalty,
    interpolate,
)

F64 = torch.float64
HALF = [torch.float16, torch.bfloat16]
OBJECTIVES = [SATURATING, NON_SATURATING, HINGE, WASSERSTEIN]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)


def law(n: int) -> Tensor:
    return torch.rand(n, dtype=F64).softmax(0)


# --- objectives


def test_losses_are_the_textbook_formulas() -> None:
    real, fake = randn(7), randn(5, 2)
    D = torch.sigmoid
    sgan = -(D(real).log().mean() + (1 - D(fake)).log().mean())
    for objective in (SATURATING, NON_SATURATING):
        torch.testing.assert_close(objective.critic_loss(real, fake), sgan)
    torch.testing.assert_close(SATURATING.generator_loss(fake), (1 - D(fake)).log().mean())
    torch.testing.assert_close(NON_SATURATING.generator_loss(fake), -D(fake).log().mean())
    margin = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    torch.testing.assert_close(HINGE.critic_loss(real, fake), margin)
    torch.testing.assert_close(WASSERSTEIN.critic_loss(real, fake), fake.mean() - real.mean())
    for objective in (HINGE, WASSERSTEIN):
        torch.testing.assert_close(objective.generator_loss(fake), -fake.mean())


@every_objective
def test_large_means_real(objective: Objective) -> None:
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    down = grad(objective.critic_loss(real, fake), [real, fake])
    assert (down[0] < 0).all() and (down[1] > 0).all()
    assert (grad(objective.generator_loss(fake), fake)[0] < 0).all()


@every_objective
def test_extreme_scores_stay_finite(objective: Objective) -> None:
    t = torch.tensor([-1e4, 1e4], requires_grad=True)
    losses = torch.stack([objective.critic_loss(t, t), objective.generator_loss(t)])
    assert losses.isfinite().all() and grad(losses.sum(), t)[0].isfinite().all()
    assert not torch.sigmoid(t).log().isfinite().all()  # the naive form: log 0
    naive = grad(torch.sigmoid(t).log().sum(), t)[0]
    assert not naive.isfinite().all()


def test_sgan_keeps_its_gradient_where_sigmoid_has_rounded_to_one() -> None:
    t = torch.tensor([40.0], dtype=F64, requires_grad=True)
    (slope,) = grad(NON_SATURATING.generator_loss(t), t)
    assert slope.item() == pytest.approx(-math.exp(-40), rel=1e-12)
    assert NON_SATURATING.generator_loss(t).item() == pytest.approx(math.exp(-40), rel=1e-12)
    assert -torch.sigmoid(t).log().item() == 0
    u = -t.detach().requires_grad_()
    twenty_five = SATURATING.generator_loss(torch.tensor([25.0], dtype=F64)).item() + 25
    assert twenty_five == pytest.approx(-math.exp(-25), rel=1e-4)  # torch's softplus returns exactly 25 there
    assert grad(SATURATING.generator_loss(u), u)[0].item() == pytest.approx(-math.exp(-40), rel=1e-12)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, F64])
def test_losses_are_averaged_in_float32_or_better(dtype: torch.dtype) -> None:
    t = torch.full((300, 300), 3.0, dtype=dtype)
    t[0] = -400
    out = [loss for o in OBJECTIVES for loss in (o.critic_loss(t, t), o.generator_loss(t))] + [
        gan_qp(t, -t, t.abs(), 1)
    ]
    want = [loss for o in OBJECTIVES for loss in (o.critic_loss(t.double(), t.double()), o.generator_loss(t.double()))]
    want.append(gan_qp(t.double(), -t.double(), t.double().abs(), 1))
    wide = F64 if dtype == F64 else torch.float32
    assert all(loss.dtype == wide and loss.shape == () for loss in out)
    torch.testing.assert_close(torch.stack(out).double(), torch.stack(want), rtol=1e-6, atol=1e-6)


@every_objective
def test_losses_pass_gradcheck(objective: Objective) -> None:
    real, fake = randn(4, 1).requires_grad_(), randn(3).requires_grad_()
    assert gradcheck(objective.critic_loss, (real, fake))
    assert gradcheck(objective.generator_loss, (fake,))
    assert gradgradcheck(objective.critic_loss, (real, fake))


# --- GAN-QP


def test_gan_qp_formula_gradient_and_unit() -> None:
    real, fake, d = randn(4, 3), randn(4, 3), randn(4, 3).abs() + 0.1
    delta = real - fake
    torch.testing.assert_close(gan_qp(real, fake, d, 0.7), (delta**2 / (1.4 * d)).mean() - delta.mean())
    scaled = gan_qp(5 * real, 5 * fake, d, 5 * 0.7)  # lambda is a unit: critic and value scale with it
    torch.testing.assert_close(scaled, 5 * gan_qp(real, fake, d, 0.7))
    assert gradcheck(lambda r, f: gan_qp(r, f, d, 0.7), (real.requires_grad_(), fake.requires_grad_()))


def test_the_least_distance_of_gan_qp_is_the_documented_one() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    for distance, counts in ((1e-3, 1e-3), (1e-5, 1e-5), (1e-7, 1e-6), (0.0, 1e-6)):
        want = 0.25 / (2 * counts) - 0.5
        torch.testing.assert_close(gan_qp(0.5 * one, zero, distance * one, 1.0).item(), want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1e-30, 1e-25, 1e-3, 1.0, 1e25, 1e37])
def test_norms_of_any_size_are_measured(size: float) -> None:
    w = torch.tensor([3.0, 4.0, 0.0]) * size
    torch.testing.assert_close(
        gradient_norms(linear(w), torch.ones(2, 3)), torch.full((2,), 5 * size), rtol=1e-6, atol=0
    )
    w.requires_grad_()
    (slope,) = grad(gradient_penalty(linear(w), torch.ones(2, 3), centre=0.0, power=1.0), w)
    torch.testing.assert_close(slope, torch.tensor([0.6, 0.8, 0.0]))


def test_gradients_that_are_not_finite_stay_so() -> None:
    for value in (math.nan, math.inf):
        assert not gradient_norms(linear(torch.tensor([value, 1.0])), torch.ones(2, 2)).isfinite().any()


@pytest.mark.parametrize("objective", [SATURATING, NON_SATURATING, HINGE, WASSERSTEIN], ids=lambda it: it.name)
def test_objectives_can_be_sent_copied_and_compared(objective: Objective) -> None:
    for other in (pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective), copy.copy(objective)):
        assert other == objective and hash(other) == hash(objective)
        assert other.critic_loss(randn(5), randn(5)).isfinite()
    assert repr(objective) == f"Objective(name='{objective.name}')"


def test_gan_qp_unary_critic_is_a_graph_laplacian() -> None:
    # Points 0, 1, 4, p = (1/2, 1/2, 0), q = (1/2, 0, 1/2): the best critic is (3, 15/4, 0), and breaks |dT| <= d.
    X, T = torch.tensor([0.0, 1, 4], dtype=F64), torch.tensor([3.0, 3.75, 0.0], dtype=F64, requires_grad=True)
    i, j = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 0, 2])  # the four pairs of p x q, equally likely
    loss = gan_qp(T[i], T[j], (X[i] - X[j]).abs(), 1.0)
    assert grad(loss, T)[0].abs().max() < 1e-15
    p_minus_q = torch.tensor([0.0, 0.5, -0.5], dtype=F64)
    assert -loss.item() == pytest.approx((p_minus_q @ T.detach()).item() / 2, rel=1e-14)


def test_gan_qp_hostile_distances() -> None:
    t = torch.tensor([1e4, 1e4 + 1], requires_grad=True)
    zero = gan_qp(t, t.detach(), torch.zeros(2), 1.0)  # a fake that equals its real: no 0/0
    assert zero == 0 and torch.equal(grad(zero, t)[0], torch.full((2,), -0.5))
    assert gan_qp(t, t.detach(), torch.tensor([1.0, -1.0]), 1.0).isnan()


# --- gradient penalties


class Critic(nn.Module):
    """A smooth critic whose gradient and its derivatives are nowhere trivial."""

    def __init__(self, d: int = 3, *extra: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(d, 8), *extra, nn.SiLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(1))


def test_norms_are_those_of_each_sample_alone() -> None:
    critic, x = Critic().double(), randn(5, 3)
    alone = [grad(critic(row := x[i : i + 1].clone().requires_grad_()).sum(), row)[0].norm() for i in range(5)]
    torch.testing.assert_close(gradient_norms(critic, x), torch.stack(alone))
    with torch.no_grad():  # the classic slip: no grad mode, a leaf that requires no gradient
        torch.testing.assert_close(gradient_norms(critic, x), torch.stack(alone))
    assert not x.requires_grad and x.grad is None


@pytest.mark.parametrize(
    ("centre", "power"), [(1.0, 2.0), (0.0, 6.0), (0.0, 2.0), (0.0, 3.0), (0.0, 1.5), (0.7, 3.0), (1.0, 1.0)]
)
def test_penalty_value_gradcheck_and_gradgradcheck(centre: float, power: float) -> None:
    critic = Critic().double()
    x = randn(4, 3)
    norms = gradient_norms(critic, x)
    want = (norms - centre).abs().pow(power).mean()
    torch.testing.assert_close(gradient_penalty(critic, x, centre=centre, power=power), want)
    names, weights = zip(*critic.named_parameters(), strict=True)

    def penalty(x: Tensor, *weights: Tensor) -> Tensor:
        call = lambda x: torch.func.functional_call(critic, dict(zip(names, weights, strict=True)), x)
        return gradient_penalty(call, x, centre=centre, power=power)

    inputs = (x.requires_grad_(), *(w.detach().requires_grad_() for w in weights[:-1]), weights[-1].detach())
    assert gradcheck(penalty, inputs)
    assert gradgradcheck(penalty, inputs)


def linear(w: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x @ w


@pytest.mark.parametrize(("centre", "power"), [(1.0, 2.0), (0.0, 6.0), (0.0, 2.0), (0.0, 3.0), (0.0, 1.0), (0.0, 0.5)])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-8])
def test_zero_and_tiny_gradients_are_safe(centre: float, power: float, size: float) -> None:
    w = torch.full((3,), size, requires_grad=True)
    (first,) = grad(gradient_penalty(linear(w), torch.ones(4, 3), centre=centre, power=power), w, create_graph=True)
    assert first.isfinite().all()
    exact = 3**0.5 * size
    slope = 0.0 if size == 0 else power * (exact - centre) * abs(exact - centre) ** (power - 2) / 3**0.5
    torch.testing.assert_close(first, torch.full((3,), slope), rtol=1e-5, atol=0)  # 1e-30 squared is 0 in float32
    if size == 0:
        (second,) = grad(first.sum(), w, allow_unused=True, materialize_grads=True)
        want = 2.0 if (centre, power) == (0.0, 2.0) else 0.0  # |w|^2 has a second derivative at 0, and keeps it
        assert torch.equal(second, torch.full((3,), want))


def test_naive_norms_fail_at_zero() -> None:
    w = torch.zeros(3, requires_grad=True)
    assert grad((w.square().sum().sqrt() - 1) ** 2, w)[0].isnan().all()
    (first,) = grad((w.norm() - 1) ** 2, w, create_graph=True)
    assert first.isfinite().all() and grad(first.sum(), w)[0].isnan().all()
    where_after = torch.where(w.square().sum() > 0, w.square().sum().sqrt(), 0.0)
    assert grad(where_after, w)[0].isnan().all()
    (first,) = grad(gradient_penalty(linear(w), torch.ones(2, 3)), w, create_graph=True)
    (second,) = grad(first.sum(), w, allow_unused=True, materialize_grads=True)
    assert torch.equal(first, torch.zeros(3)) and torch.equal(second, torch.zeros(3))


def test_penalty_keeps_its_curvature_where_the_norm_is_at_the_centre() -> None:
    w = torch.tensor([0.6, 0.8], dtype=F64, requires_grad=True)
    (first,) = grad(gradient_penalty(linear(w), randn(3, 2)), w, create_graph=True)
    (second,) = grad(first @ torch.tensor([0.6, 0.8], dtype=F64), w)
    assert torch.allclose(second, 2 * w, atol=1e-12)  # |gap|^2 by abs() would give 0


def test_constant_critics() -> None:
    critic = Critic()
    nn.init.zeros_(cast(nn.Linear, critic.body[-1]).weight)  # connected, and constant: gradients are zero
    loss = gradient_penalty(critic, torch.randn(6, 3)) + gradient_penalty(
        critic, torch.randn(6, 3), centre=0.0, power=6
    )
    assert loss == 1
    loss.backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in critic.parameters())
    assert torch.equal(gradient_norms(lambda x: 0 * x.sum(1) + 7, torch.ones(3, 2)), torch.zeros(3))


@pytest.mark.parametrize("dtype", HALF)
def test_half_types_keep_float32_statistics(dtype: torch.dtype) -> None:
    w = torch.full((64,), 40.0, dtype=dtype, requires_grad=True)
    norms = gradient_norms(linear(w), torch.ones(3, 64, dtype=dtype))  # squares sum to 102400 > 65504
    assert norms.dtype == torch.float32 and torch.equal(norms, torch.full((3,), 320.0))
    loss = gradient_penalty(linear(w), torch.ones(3, 64, dtype=dtype), centre=0.0, power=6.0)
    assert loss.item() == pytest.approx(320.0**6, rel=1e-6)


def test_autocast_keeps_float32_statistics() -> None:
    critic, x = Critic(64), torch.randn(16, 64)
    want = gradient_penalty(critic, x)
    wants = grad(want, list(critic.parameters())[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert critic(x).dtype == torch.bfloat16
        out = gradient_penalty(critic, x)
        assert gradient_norms(critic, x).dtype == torch.float32
    assert out.dtype == torch.float32 and out.item() == pytest.approx(want.item(), rel=1e-2)
    for got, exact in zip(grad(out, list(critic.parameters())[:3]), wants, strict=True):
        assert (got - exact).norm() <= 0.05 * exact.norm()


def test_compiled_critic_and_bound_forward() -> None:
    critic, x = Critic(), torch.randn(4, 3)
    torch.testing.assert_close(gradient_norms(critic.forward, x), gradient_norms(critic, x))


class Attentive(nn.Module):
    """Scores samples by attention among three images of each."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 24), nn.Linear(8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).unflatten(1, (3, 8))
        return self.outer(self.attention(h, h, h, need_weights=False)[0].mean(1))


@pytest.mark.parametrize("power", [1.5, 2.0, 6.0])
def test_a_critic_without_second_derivative_is_refused_where_one_is_needed(power: float) -> None:
    critic, x = Attentive(), torch.randn(5, 3)
    with pytest.raises(ValueError, match=r"fused attention.*must.*SDPBackend\.MATH"):
        gradient_penalty(critic, x, power=power)
    with torch.no_grad():  # measured, it needs none
        measured = gradient_penalty(critic, x, power=power)
    with sdpa_kernel(SDPBackend.MATH):  # the remedy
        penalty = gradient_penalty(critic, x, power=power)
    torch.testing.assert_close(measured, penalty.detach())
    penalty.backward()
    weights = critic.inner.weight, critic.attention.in_proj_weight, critic.outer.weight
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in weights)
    assert gradient_norms(critic, x).shape == (5,)


def test_a_compiled_critic_is_refused_where_a_second_derivative_is_needed() -> None:
    critic, x = Critic(), torch.randn(4, 3)
    compiled = torch.compile(critic, backend="aot_eager")
    with pytest.raises(ValueError, match=r"compiled.*must.*before it was compiled"):
        gradient_penalty(compiled, x)
    with torch.no_grad():
        torch.testing.assert_close(gradient_penalty(compiled, x), gradient_penalty(critic, x))
    gradient_penalty(torch.compile(critic, backend="eager"), x).backward()  # traced only: the derivatives are PyTorch's


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False).eval(), nn.SyncBatchNorm(8), nn.LazyBatchNorm1d()],
)
def test_batch_norm_is_refused_before_anything_runs(norm: nn.Module) -> None:
    critic = Critic(3, norm)
    for call in (critic, critic.forward):
        with pytest.raises(
            ValueError, match=rf"gradient_penalty: .*{type(norm).__name__} 'body.1'.* alone.* layer"
        ) as e:
            gradient_penalty(cast(Any, call), torch.zeros(2, 99))  # the critic itself would fail on this shape
        assert "eval()" in str(e.value)


def test_per_sample_norms_are_accepted() -> None:
    x = torch.randn(4, 3)
    for norm in (nn.BatchNorm1d(8).eval(), nn.LayerNorm(8), nn.GroupNorm(2, 8)):
        assert gradient_norms(Critic(3, norm), x).shape == (4,)
    image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
    assert gradient_norms(image, torch.randn(4, 1, 4, 4)).shape == (4,)


def test_last_layer_batch_norm_makes_the_penalty_vanish() -> None:
    critic = nn.Sequential(Critic().double(), nn.BatchNorm1d(1, eps=1e-30).double())
    hidden = lambda x: critic(x)  # a plain function is not inspected
    assert gradient_norms(hidden, randn(16, 3)).max() < 1e-12
    assert gradient_norms(critic.eval(), randn(16, 3)).min() > 1e-3


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    dtype=st.sampled_from([*HALF, torch.float32, F64]),
    layout=st.sampled_from(["plain", "sliced", "expanded", "transposed"]),
    column=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_shapes_and_strides(shape: list[int], dtype: torch.dtype, layout: str, column: bool) -> None:
    x = torch.randn(*shape).to(dtype)
    if layout == "sliced":
        x = torch.stack([x, x], -1)[..., 0]
    elif layout == "expanded":
        x = x[:1].expand(5, *x.shape[1:])
    elif layout == "transposed":
        x = x.transpose(0, -1)
    n = len(x)

    def critic(x: Tensor) -> Tensor:
        scores = x.square().reshape(n, -1).sum(1) / 2  # gradient x
        return scores[:, None] if column else scores

    norms = gradient_norms(critic, x)
    assert norms.shape == (n,) and norms.dtype == (F64 if dtype == F64 else torch.float32)
    torch.testing.assert_close(norms.detach(), x.to(norms.dtype).reshape(n, -1).norm(dim=1))
    mixed = interpolate(x, -x)
    u = mixed.double().reshape(n, -1) / x.double().reshape(n, -1)  # 2u - 1, the same in all coordinates
    assert mixed.shape == x.shape and mixed.dtype == dtype
    assert ((u - u[:, :1]).abs() <= 4 * torch.finfo(dtype).eps).all() and (u.abs() <= 1 + torch.finfo(dtype).eps).all()


def test_interpolation_draws_one_seeded_number_per_sample() -> None:
    real, fake = torch.ones(1000, 2, 2), torch.zeros(1000, 2, 2, dtype=torch.bfloat16)
    x = interpolate(real, fake, torch.Generator().manual_seed(3))
    assert torch.equal(x, interpolate(real, fake, torch.Generator().manual_seed(3))) and x.dtype == torch.float32
    u = x[:, 0, 0]
    assert u.unique().numel() > 990 and scipy.stats.kstest(u.numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(x, u[:, None, None].expand_as(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_interpolation_in_half_precision_is_that_of_float32_rounded(dtype: torch.dtype) -> None:
    x, y = torch.tensor([[60000.0, 1.0]] * 500).to(dtype), torch.tensor([[-60000.0, 0.0]] * 500).to(dtype)
    found = interpolate(x, y, torch.Generator().manual_seed(0))
    want = interpolate(x.float(), y.float(), torch.Generator().manual_seed(0))
    assert found.dtype == dtype and torch.equal(found, want.to(dtype)) and found.isfinite().all()


def test_inference_mode_outside_or_before_does_not_matter() -> None:
    critic, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(5, 3)
    want = gradient_penalty(critic, x)
    with torch.inference_mode():
        made = x.clone()
        assert torch.equal(gradient_penalty(critic, x), want)
    found = gradient_penalty(critic, made)
    found.backward()
    assert torch.equal(found, want) and critic[0].weight.grad is not None


# --- bad input: argument, value received, rule, remedy

ONE = torch.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: HINGE.critic_loss(cast(Any, [1.0]), ONE), TypeError, ["hinge: real is list", "floating", "as_tensor"]),
        (lambda: HINGE.critic_loss(ONE, ONE.long()), TypeError, ["fake is torch.int64", "floating"]),
        (lambda: SATURATING.generator_loss(ONE[:0]), ValueError, ["saturating: fake has shape (0,)", "empty", "Skip"]),
        (
            lambda: gan_qp(ONE[:, None], ONE[:, None], ONE, 1.0),
            ValueError,
            ["(3, 1), (3, 1), (3,)", "equal", "Flatten"],
        ),
        (lambda: gan_qp(ONE, ONE, ONE, 0), ValueError, ["gan_qp: lambda_ is 0", "> 0", "docstring"]),
        (lambda: gan_qp(ONE, ONE, ONE, cast(Any, "1")), TypeError, ["lambda_ is '1' (str)", "finite number"]),
        (lambda: gradient_norms(linear(ONE), torch.ones(4, 3, dtype=torch.long)), TypeError, ["x is torch.int64"]),
        (lambda: gradient_norms(linear(ONE), torch.ones(0, 3)), ValueError, ["x has shape (0, 3)", "empty"]),
        (
            lambda: gradient_norms(lambda x: x, torch.tensor(1.0)),
            ValueError,
            ["x has shape ()", "(N, ...)", "Unsqueeze"],
        ),
        (lambda: gradient_norms(cast(Any, 3), torch.ones(4, 3)), TypeError, ["critic is a int", "function or module"]),
        (
            lambda: gradient_norms(cast(Any, lambda x: (x.sum(1), x)), torch.ones(4, 3)),
            ValueError,
            ["returned a tuple", "one score"],
        ),
        (lambda: gradient_norms(lambda x: x, torch.ones(4, 3)), ValueError, ["shape (4, 3)", "one score", "Average"]),
        (lambda: gradient_norms(lambda x: x.sum(), torch.ones(4, 3)), ValueError, ["returned shape ()"]),
        (lambda: gradient_norms(linear(torch.ones(3, 2)), torch.ones(4, 3)), ValueError, ["returned shape (4, 2)"]),
        (lambda: gradient_penalty(lambda x: x.detach().sum(1), torch.ones(4, 3)), ValueError, ["no graph", "detach()"]),
        (
            lambda: gradient_penalty(lambda x: torch.ones(4, requires_grad=True) * 1, torch.ones(4, 3)),
            ValueError,
            ["no graph", "detach()"],
        ),
        (lambda: gradient_penalty(linear(ONE), torch.ones(4, 3), centre=-1), ValueError, ["centre is -1", ">= 0"]),
        (lambda: gradient_penalty(linear(ONE), torch.ones(4, 3), power=0), ValueError, ["power is 0", "> 0"]),
        (lambda: gradient_penalty(linear(ONE), torch.ones(4, 3), power=math.nan), ValueError, ["power is nan"]),
        (lambda: gradient_penalty(linear(ONE), torch.ones(4, 3), power=True), TypeError, ["power is True (bool)"]),
        (
            lambda: interpolate(torch.ones(3, 1), torch.ones(2, 1)),
            ValueError,
            ["(3, 1) and (2, 1)", "(N, ...)", "Draw"],
        ),
        (lambda: interpolate(torch.tensor(1.0), torch.tensor(1.0)), ValueError, ["(N, ...)"]),
    ],
)
def test_bad_input_is_refused_in_words(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
