"""Penalties without double backward: equal to autograd's in value and gradient, cheaper, and refused when unknown."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from _compare import errors
from _launches import launches
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gantext.gan import networks
from gantext.gan.objectives import HINGE, WASSERSTEIN, gradient_norms, gradient_penalty
from gantext.gan.penalties import is_piecewise_linear, scores_and_penalty, tangent_penalty

F64 = torch.float64
PENALTIES = [(1.0, 2.0), (0.0, 6.0), (0.0, 2.0), (0.5, 3.0), (1.0, 1.0), (0.0, 1.5), (1.0, 6.0)]


def nested() -> nn.Sequential:
    """Convolutions with every option, a shared activation in place, pooling, and both ways of reshaping."""
    shared = nn.ReLU(inplace=True)
    body = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), shared, nn.AvgPool2d(2))
    return nn.Sequential(
        nn.Unflatten(1, (3, 12, 12)), nn.Conv2d(3, 4, 5, stride=2, padding=2), shared, nn.Identity(), body,
        nn.Conv2d(6, 5, 2, dilation=2, padding=1), nn.LeakyReLU(0.2, inplace=True), nn.AdaptiveAvgPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Linear(20, 1)), nn.Flatten(0),
    )  # fmt: skip


def scored(*layers: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 1))


CRITICS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "points": (lambda: networks.critic((2,)), (2,)),
    "digits": (lambda: networks.critic((64,)), (64,)),
    "spectral": (lambda: networks.critic((2,), spectral=True), (2,)),
    "mlp": (lambda: networks.mlp([5, 16, 8, 1]), (5,)),  # ReLU, scores (N, 1)
    "linear": (lambda: nn.Linear(3, 1), (3,)),
    "inverted": (lambda: networks.mlp([3, 8, 1], lambda: nn.LeakyReLU(-0.5)), (3,)),
    "relu last": (lambda: nn.Sequential(nn.ReLU(), *networks.mlp([3, 8, 1]), nn.LeakyReLU(0.1)), (3,)),
    "nested": (nested, (432,)),
    "conv 1d": (lambda: scored(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AvgPool1d(2), width=9), (2, 8)),
    "conv 3d": (lambda: scored(nn.Conv3d(2, 3, 2), nn.LeakyReLU(), width=24), (2, 3, 3, 3)),
    "rows": (lambda: scored(nn.Linear(4, 6), nn.ReLU(), width=18), (3, 4)),
}  # fmt: skip
every_critic = pytest.mark.parametrize("kind", CRITICS)
every_penalty = pytest.mark.parametrize(("centre", "power"), PENALTIES)


def make(kind: str, n: int = 6, dtype: torch.dtype = F64) -> tuple[nn.Module, Tensor]:
    build, shape = CRITICS[kind]
    return build().to(dtype), torch.randn(n, *shape, dtype=F64).to(dtype)


def twin(critic: nn.Module) -> nn.Module:
    return copy.deepcopy(critic)  # spectral norm changes its estimate at every pass


def gradients(critic: nn.Module, loss: Tensor) -> list[Tensor]:
    """Of every parameter that is not frozen; None is 0."""
    parameters = [p for p in critic.parameters() if p.requires_grad]
    found = grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def assert_equal(ours: list[Tensor], theirs: list[Tensor], tol: float = 1e-10) -> None:
    """Every tensor to `tol` of its own norm, zeros exactly."""
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and (a - b).norm() <= tol * b.norm()


# --- exactness


@every_critic
@every_penalty
def test_penalty_is_that_of_double_backward(kind: str, centre: float, power: float) -> None:
    critic, x = make(kind)
    ours, theirs = twin(critic), twin(critic)
    P = tangent_penalty(ours, x, centre=centre, power=power)
    Q = gradient_penalty(theirs, x, centre=centre, power=power)
    assert P.item() == pytest.approx(Q.item(), rel=1e-12) and Q > 0
    assert_equal(gradients(ours, P), gradients(theirs, Q))
    biases = [g for (name, _), g in zip(ours.named_parameters(), gradients(ours, P), strict=True) if "bias" in name]
    assert not any(b.any() for b in biases)


@every_critic
@every_penalty
def test_one_backward_serves_scores_and_penalty(kind: str, centre: float, power: float) -> None:
    critic, x = make(kind)
    ours, theirs = twin(critic), twin(critic).eval()
    if kind == "spectral":
        ours.eval()  # the reference scores twice
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    T, P = scores_and_penalty(ours, x_ours, centre=centre, power=power)
    scores = theirs(x_theirs)
    torch.testing.assert_close(T, scores, rtol=1e-12, atol=1e-12)
    loss = T.square().mean() - T[:3].sum() + 1.7 * P
    want = scores.square().mean() - scores[:3].sum() + 1.7 * gradient_penalty(theirs, x, centre=centre, power=power)
    assert_equal([grad(loss, x_ours, retain_graph=True)[0]], [grad(want, x_theirs, retain_graph=True)[0]])
    assert_equal(gradients(ours, loss), gradients(theirs, want))


@pytest.mark.parametrize("n", [1, 2])
@every_critic
def test_small_batches(kind: str, n: int) -> None:
    critic, x = make(kind, n)
    ours, theirs = twin(critic), twin(critic)
    P, Q = tangent_penalty(ours, x, centre=0, power=6), gradient_penalty(theirs, x, centre=0, power=6)
    assert_equal([P, *gradients(ours, P)], [Q, *gradients(theirs, Q)])


@pytest.mark.parametrize("activation", [nn.ReLU, lambda: nn.LeakyReLU(0.2), lambda: nn.LeakyReLU(-0.2)])
@every_penalty
def test_kinks_take_the_slope_that_pytorch_takes(
    activation: Callable[[], nn.Module], centre: float, power: float
) -> None:
    critic = networks.mlp([3, 16, 8, 1], activation).double()
    with torch.no_grad():
        for p in critic.parameters():
            p.copy_(p.mul(8).round())  # whole numbers: many z are 0 and exactly so
            p[1::3] = 0  # and in these units everywhere; the one score keeps its weights
    x = torch.randint(-2, 3, (64, 3)).double()
    kinks = sum(int((critic[:k](x) == 0).sum()) for k in (1, 3))
    P, Q = (f(critic, x, centre=centre, power=power) for f in (tangent_penalty, gradient_penalty))
    assert kinks > 200 and Q > 0 and all(g.any() for g in gradients(critic, Q)[::2])
    assert_equal([P, *gradients(critic, P)], [Q, *gradients(critic, Q)])


@every_penalty
def test_zero_gradients_follow_gradient_penalty(centre: float, power: float) -> None:
    critic = networks.mlp([3, 8, 1]).double()
    with torch.no_grad():
        cast(Tensor, critic[0].bias).fill_(-100)  # every unit dead
    x = torch.randn(5, 3, dtype=F64)
    x[0] = 1000.0 * cast(Tensor, critic[0].weight)[0].detach().sign()  # but for this sample
    norms = gradient_norms(critic, x)
    assert norms[0] > 0 and not norms[1:].any()
    P, Q = (f(critic, x, centre=centre, power=power) for f in (tangent_penalty, gradient_penalty))
    assert all(g.isfinite().all() for g in gradients(critic, P))
    assert_equal([P, *gradients(critic, P)], [Q, *gradients(critic, Q)])


def test_a_slope_exactly_at_the_centre_follows_gradient_penalty() -> None:
    critic = nn.Sequential(nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        cast(Tensor, critic[0].weight).copy_(torch.tensor([[3.0, 4.0]]))
    x = torch.zeros(4, 2, dtype=F64)
    for power in (1.0, 1.5, 2.0, 6.0):
        P, Q = (f(critic, x, centre=5, power=power) for f in (tangent_penalty, gradient_penalty))
        assert P == Q == 0
        assert_equal(gradients(critic, P), gradients(critic, Q), 0)


@pytest.mark.parametrize("kind", ["points", "digits", "mlp", "nested"])
@pytest.mark.parametrize(("centre", "power"), [(1.0, 2.0), (0.0, 6.0)])
def test_float32_is_as_accurate_as_double_backward(kind: str, centre: float, power: float) -> None:
    def error(f: Callable[..., Tensor]) -> float:
        total = 0.0
        for _ in range(8):  # of one draw the error is luck
            critic, x = make(kind, 32, torch.float32)
            wide = twin(critic).double()
            ref = flat(gradients(wide, gradient_penalty(wide, x.double(), centre=centre, power=power)))
            out = flat(gradients(critic, f(critic, x, centre=centre, power=power)))
            total += errors(out[None, None], ref[None, None]).item() / 8
        return total

    torch.manual_seed(1)
    ours = error(tangent_penalty)
    torch.manual_seed(1)
    assert 0 < ours <= 2 * error(gradient_penalty) < 1e-4


@pytest.mark.parametrize(("centre", "power"), [(1.0, 2.0), (0.0, 1.0), (1.0, 1.0), (0.5, 3.0)])
def test_small_gradients_in_half_precision_are_as_right_as_by_double_backward(centre: float, power: float) -> None:
    """1 / |g| is beyond the largest half where |g| is 1e-6."""
    torch.manual_seed(0)
    critic, x = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)), torch.randn(4, 3).half()
    with torch.no_grad():
        cast(Tensor, critic[2].weight).mul_(1e-6)
    exact = copy.deepcopy(critic.half()).double()
    want = gradients(exact, gradient_penalty(exact, x.double(), centre=centre, power=power))
    errors = [
        sum(float((g.double() - w).norm() / w.norm()) for g, w in zip(found, want, strict=True) if w.any())
        for found in (
            gradients(critic, penalty(critic, x, centre=centre, power=power))
            for penalty in (gradient_penalty, tangent_penalty)
        )
    ]
    assert errors[1] <= 1.5 * errors[0] < 0.6


def test_half_precision_is_penalised_in_float32() -> None:
    critic, x = make("points", 32, torch.bfloat16)
    P = tangent_penalty(critic, x, centre=0, power=6)
    assert P.dtype == torch.float32 and {g.dtype for g in gradients(critic, P)} == {torch.bfloat16}
    wide = twin(critic).double()
    Q = gradient_penalty(wide, x.double(), centre=0, power=6)
    torch.testing.assert_close(flat(gradients(critic, P)), flat(gradients(wide, Q)), rtol=0.1, atol=0.02 * Q.item())


# --- its use


@pytest.mark.parametrize("objective", [WASSERSTEIN, HINGE], ids=lambda o: o.name)
def test_fifty_steps_of_training_end_at_the_same_weights(objective: Any) -> None:
    def trained(step: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Tensor:
        torch.manual_seed(3)
        critic = networks.critic((2,)).double()
        optimiser = torch.optim.Adam(critic.parameters(), 1e-3)
        for _ in range(50):
            real, fake = torch.randn(16, 2, dtype=F64), torch.randn(16, 2, dtype=F64) * 0.3 + 1
            optimiser.zero_grad()
            step(critic, real, fake).backward()
            optimiser.step()
        return flat(list(critic.parameters()))

    def double_backward(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        P = gradient_penalty(critic, torch.cat([real, fake]), centre=0, power=6)
        return objective.critic_loss(critic(real), critic(fake)) + 2 * P

    def added(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        P = tangent_penalty(critic, torch.cat([real, fake]), centre=0, power=6)
        return objective.critic_loss(critic(real), critic(fake)) + 2 * P

    def shared(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        scores, P = scores_and_penalty(critic, torch.cat([real, fake]), centre=0, power=6)
        return objective.critic_loss(scores[: len(real)], scores[len(real) :]) + 2 * P

    want = trained(double_backward)
    start = trained(lambda critic, real, fake: 0 * critic(real).sum())
    assert (want - start).norm() > 0.1
    assert (trained(added) - want).abs().max() < 1e-9 and (trained(shared) - want).abs().max() < 1e-9


def test_backward_adds_to_what_is_there_and_frees() -> None:
    critic, x = make("digits")
    (critic(x).mean() + 3 * tangent_penalty(critic, x)).backward()
    want = gradients(critic, critic(x).mean() + 3 * gradient_penalty(critic, x))
    assert_equal([p.grad for p in critic.parameters() if p.grad is not None], want)
    P = tangent_penalty(critic, x)
    P.backward()
    with pytest.raises(RuntimeError, match="second time"):
        P.backward()


def test_there_is_no_second_derivative_and_it_says_so() -> None:
    critic, x = make("mlp")
    weights = list(critic.parameters())
    for call in (tangent_penalty, lambda *args: scores_and_penalty(*args)[0].sum()):
        with pytest.raises(RuntimeError, match=r"no derivative of its own\. Use gradient_penalty"):
            grad(call(critic, x), weights, create_graph=True)
    with pytest.raises(RuntimeError, match="scores_and_penalty: this gradient has no derivative"):
        gradient_penalty(lambda x: scores_and_penalty(critic, x)[0], x)


def test_weights_changed_before_backward_are_noticed() -> None:
    critic, x = make("mlp")
    P = tangent_penalty(critic, x)
    with torch.no_grad():
        next(critic.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        P.backward()


@every_critic
def test_frozen_weights_receive_nothing(kind: str) -> None:
    critic, x = make(kind)
    first = next(critic.parameters()).requires_grad_(False)
    ours, theirs = twin(critic), twin(critic)
    P, Q = tangent_penalty(ours, x), gradient_penalty(theirs, x)
    assert P.item() == pytest.approx(Q.item(), rel=1e-12)
    (P + 0 * ours(x).sum()).backward()
    (Q + 0 * theirs(x).sum()).backward()
    assert next(ours.parameters()).grad is None and not first.requires_grad
    found, want = ([p.grad for p in m.parameters() if p.grad is not None] for m in (ours, theirs))
    assert_equal(found, want)
    for p in critic.parameters():
        p.requires_grad_(False)
    assert not tangent_penalty(critic, x).requires_grad


def test_value_without_a_graph_under_no_grad() -> None:
    critic, x = make("nested")
    want = tangent_penalty(critic, x, centre=0, power=6)
    with torch.no_grad():
        P = tangent_penalty(critic, x, centre=0, power=6)
    assert not P.requires_grad and P.equal(want)


def test_autocast_is_kept_out() -> None:
    critic, x = make("nested", dtype=torch.float32)
    P = tangent_penalty(critic, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Q = tangent_penalty(critic, x)
        inside = gradients(critic, Q)
    assert P.equal(Q) and Q.dtype == torch.float32
    assert_equal(inside, gradients(critic, P), 0)


@pytest.mark.parametrize("kind", ["digits", "nested", "conv 3d"])
def test_any_strides(kind: str) -> None:
    critic, x = make(kind)
    wide = torch.randn(*x.shape[:-1], 2 * x.shape[-1], dtype=F64)
    for strided in (x.mT.contiguous().mT, wide[..., ::2].copy_(x), x.expand_as(x), x[:1].expand_as(x)):
        P, Q = tangent_penalty(critic, strided), gradient_penalty(critic, strided.contiguous())
        assert_equal([P, *gradients(critic, P)], [Q, *gradients(critic, Q)])


def test_a_layer_may_stand_in_two_places() -> None:
    block, kink = nn.Linear(4, 4), nn.ReLU(inplace=True)
    critic = nn.Sequential(block, kink, block, kink, nn.Linear(4, 1)).double()
    x = torch.randn(6, 4, dtype=F64)
    before = x.clone()
    P, Q = tangent_penalty(critic, x), gradient_penalty(critic, x)
    assert_equal([P, *gradients(critic, P)], [Q, *gradients(critic, Q)])
    assert x.equal(before)


def test_an_activation_in_place_leaves_x_alone() -> None:
    critic, x = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1)), torch.randn(5, 3)
    before = x.clone()
    tangent_penalty(critic, x).backward()
    assert x.equal(before)


def test_what_contains_no_weights() -> None:
    x = torch.randn(5, 1, dtype=F64, requires_grad=True)
    T, P = scores_and_penalty(nn.Sequential(nn.ReLU(), nn.Flatten(0)), x, centre=0, power=2)
    assert P.item() == pytest.approx((x > 0).double().mean().item())
    (T.sum() + P).backward()
    assert x.grad is not None and x.grad.equal((x > 0).double())


# --- cost


class Products(TorchDispatchMode):
    """Counts multiplications of matrix products and convolutions (times two)."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def products(call: Callable[[], object]) -> int:
    with Products() as counted:
        call()
    return counted.total


@pytest.mark.parametrize(("kind", "eager"), [("dense", 6.0), ("conv", 6.43)])
def test_four_forward_passes_instead_of_six(kind: str, eager: float) -> None:
    critic, x = networks.mlp([300, 200, 250, 1]), torch.randn(8, 300)
    if kind == "conv":
        convolutions = nn.Conv2d(3, 16, 5, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 5, 2, 2), nn.LeakyReLU(0.2)
        critic, x = scored(*convolutions, width=32 * 64), torch.randn(2, 3, 32, 32)
    F = products(lambda: critic(x))

    def shared() -> None:
        T, P = scores_and_penalty(critic, x)
        (T.mean() + P).backward()

    assert products(lambda: tangent_penalty(critic, x).backward()) / F == pytest.approx(4, abs=0.01)
    assert products(shared) / F == pytest.approx(4, abs=0.02)
    assert products(lambda: gradient_penalty(critic, x).backward()) / F == pytest.approx(eager, abs=0.02)


@pytest.mark.parametrize(("centre", "power", "most"), [(0.0, 6.0, 46), (0.0, 2.0, 46), (1.0, 2.0, 66)])
def test_few_launches_besides_the_products(centre: float, power: float, most: int) -> None:
    """Each costs the host of a GPU 10 to 20 us, as much as a product; with roots that nobody asked for they were 78."""
    critic, x = networks.mlp([30, 20, 25, 1]), torch.randn(8, 30)

    def step() -> None:
        T, P = scores_and_penalty(critic, x, centre=centre, power=power)
        (T.mean() + P).backward()

    def rival() -> None:
        kept: list[Tensor] = []

        def once(x: Tensor) -> Tensor:
            kept.append(critic(x))
            return kept[0]

        P = gradient_penalty(once, x, centre=centre, power=power)
        (kept[0].mean() + P).backward()

    step()  # there are gradients to add to
    ours, theirs = (launches(call).totals() for call in (step, rival))
    assert ours[0] <= most and ours[0] < theirs[0] and ours[1:] == (0, 0)


# --- refusals


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        return 2 * super().forward(input)


class Squeezed(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        return super().forward(input).square().squeeze(1)


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "SiLU": nn.SiLU, "Tanh": nn.Tanh, "ELU": nn.ELU, "PReLU": nn.PReLU, "LayerNorm": lambda: nn.LayerNorm(4),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4), "Dropout": nn.Dropout, "Softmax": lambda: nn.Softmax(1),
    "Bilinear": lambda: nn.Bilinear(4, 4, 4), "Scaled": lambda: Scaled(4, 4), "Squeezed": Squeezed,
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(4), "GELU": nn.GELU, "RReLU": nn.RReLU, "ModuleList": nn.ModuleList,
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_layers_are_refused_by_name(kind: str) -> None:
    critic = nn.Sequential(nn.Linear(4, 4), nn.Sequential(UNKNOWN[kind](), nn.Linear(4, 1)))
    for f in (tangent_penalty, scores_and_penalty):
        with pytest.raises(ValueError, match=rf"{f.__name__}: critic's layer '1.0' is {kind}, .* Use gradient_penalty"):
            f(critic, torch.zeros(2, 4))
    assert not is_piecewise_linear(critic) and not is_piecewise_linear(critic.eval())


def test_disguised_layers_are_refused() -> None:
    def refused(critic: nn.Module, words: str) -> None:
        assert not is_piecewise_linear(critic)
        with pytest.raises(ValueError, match=words):
            tangent_penalty(critic, torch.zeros(2, 4))

    def small() -> nn.Sequential:
        return networks.mlp([4, 4, 1])

    for hook in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        for k in (None, 1):
            critic = small()
            getattr(critic if k is None else critic[k], f"register_{hook}")(lambda *_: None)
            refused(critic, "with hooks")
    critic = small()
    critic[1].forward = torch.sin
    refused(critic, "layer '1' is ReLU, with hooks or a replaced forward")
    refused(cast(nn.Module, torch.compile(small(), backend="eager")), "OptimizedModule")
    refused(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")), "of 'circular'")
    refused(nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), "padding 'same'")
    assert is_piecewise_linear(small()) and is_piecewise_linear(nn.Sequential(small(), nn.Flatten(0)))
    assert is_piecewise_linear(parametrizations.weight_norm(nn.Linear(4, 1)))
    assert not is_piecewise_linear(torch.sin) and not is_piecewise_linear(None)


@pytest.mark.parametrize(
    ("layers", "shape", "words"),
    [
        ([nn.Linear(4, 2)], (3, 4), "one score per sample"),
        ([nn.Linear(4, 1), nn.Flatten(0)], (3, 2, 4), "one score per sample"),
        ([nn.Linear(4, 1), nn.Flatten(0), nn.Unflatten(0, (1, 3))], (3, 4), "one score per sample"),
        ([nn.Linear(3, 3)], (3,), "one row per sample"),  # features and samples confused: the shapes would fit
        ([nn.Conv1d(3, 3, 1), nn.AdaptiveAvgPool1d(1)], (3, 5), "one row per sample"),
        ([nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(4, 1)], (3, 2, 2), "one row per sample"),
        ([nn.Flatten(0), nn.Unflatten(0, (2, 6)), nn.Linear(6, 1)], (3, 4), "one row per sample"),
    ],
)
def test_samples_may_not_mix(layers: list[nn.Module], shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tangent_penalty(nn.Sequential(*layers), torch.zeros(shape))


def test_bad_arguments() -> None:
    critic, x = networks.mlp([4, 4, 1]), torch.zeros(3, 4)
    bad: Any = [
        (TypeError, "critic is function, must be an nn.Sequential", (lambda x: x.sum(1), x), {}),
        (TypeError, "x is torch.int64, must be a floating tensor", (critic, x.long()), {}),
        (TypeError, "x is list", (critic, [1.0]), {}),
        (ValueError, "x has shape .0, 4., must not be empty", (critic, x[:0]), {}),
        (ValueError, "x has dtype torch.float64, must have that of the critic's weights", (critic, x.double()), {}),
        (ValueError, "centre is -1", (critic, x), {"centre": -1}),
        (ValueError, "power is 0", (critic, x), {"power": 0}),
        (TypeError, "power is 'six'", (critic, x), {"power": "six"}),
    ]
    for kind, words, args, options in bad:
        for f in (tangent_penalty, scores_and_penalty):
            with pytest.raises(kind, match=f"{f.__name__}: {words}"):
                f(*args, **options)
