"""Cascading rejection: identities, rivals that fail, gradients, and bad input."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch
from _compare import randn
from _launches import launches
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.utils import parametrizations

from gantext.gan import cascades
from gantext.gan.cascades import CascadeHead, cascade_directions, cascade_ref
from gantext.gan.methods import game
from gantext.gan.objectives import HINGE, NON_SATURATING, WASSERSTEIN, gradient_penalty
from gantext.gan.training import fit_critic

F64 = torch.float64
both_forms = pytest.mark.parametrize("orthogonal", [False, True], ids=["projections", "gram-schmidt"])


def nearly_parallel(K: int, d: int, gap: float) -> Tensor:
    return randn(1, d) + gap * randn(K, d)


@both_forms
@pytest.mark.parametrize(("K", "d"), [(1, 1), (1, 5), (2, 2), (2, 3), (4, 16), (7, 7), (5, 33)])
def test_the_cascade_is_a_linear_head(K: int, d: int, orthogonal: bool) -> None:
    v, W, G = randn(9, d).requires_grad_(), randn(K, d).requires_grad_(), randn(9, K)
    literal, collapsed = cascade_ref(v, W, orthogonal), v @ cascade_directions(W, orthogonal).mT
    torch.testing.assert_close(collapsed, literal, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad(collapsed, (v, W), G), grad(literal, (v, W), G), rtol=1e-9, atol=1e-11)


def test_directions_are_the_products_of_projections_in_this_order() -> None:
    W = randn(5, 8)
    P = [torch.eye(8, dtype=F64) - torch.outer(w, w) / (w @ w) for w in W]
    product = lambda factors, w: torch.linalg.multi_dot([torch.eye(8, dtype=F64), *factors, w])
    U = cascade_directions(W)
    for i in range(5):
        torch.testing.assert_close(U[i], product(P[:i], W[i]))
    assert (U[4] - product(P[:4][::-1], W[4])).norm() > 0.01 * U[4].norm()


def test_pythagoras_for_any_directions() -> None:
    v, W = randn(6, 9), nearly_parallel(4, 9, 0.1)
    rest = v
    for w in W:
        rest = rest - (rest @ w / (w @ w))[:, None] * w
    parts = (cascade_ref(v, W) ** 2 / (W * W).sum(1)).sum(1) + (rest * rest).sum(1)
    torch.testing.assert_close(parts, (v * v).sum(1))


def test_only_gram_schmidt_makes_the_features_not_overlap() -> None:
    W = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=F64)
    U = cascade_directions(W)
    torch.testing.assert_close(U, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=F64) + 0)
    W[2] = torch.tensor([0.0, 1, 1])  # now P_1 P_2 w_3 = (0, 1/2, 1), which is not across w~_2 = (0, 1, 0)
    torch.testing.assert_close(cascade_directions(W)[2], torch.tensor([0, 0.5, 1], dtype=F64))
    torch.testing.assert_close(cascade_directions(W, orthogonal=True)[2], torch.tensor([0, 0, 1.0], dtype=F64))
    W = randn(6, 10)
    first, gram = cascade_directions(W), cascade_directions(W, orthogonal=True)
    off = lambda U: (U @ U.mT).fill_diagonal_(0).abs()
    assert off(first)[0].max() < 1e-14 and off(first).max() > 0.1
    assert off(gram).max() < 1e-14
    Q, R = torch.linalg.qr(W.mT)
    torch.testing.assert_close(gram, (Q * R.diagonal()).mT)


@both_forms
def test_scores_scale_with_their_own_vector_and_with_no_other(orthogonal: bool) -> None:
    v, W, c = randn(5, 8), randn(4, 8), torch.tensor([2.0, -3, 0.5, 7], dtype=F64)
    torch.testing.assert_close(cascade_ref(v, W * c[:, None], orthogonal), cascade_ref(v, W, orthogonal) * c)
    U = cascade_directions(W * c[:, None], orthogonal)
    torch.testing.assert_close(U, cascade_directions(W, orthogonal) * c[:, None])


def test_backward_of_one_step() -> None:
    v, w, g = randn(6, 5).requires_grad_(), randn(5).requires_grad_(), randn(6, 5)
    a, b = (t @ w / (w @ w) for t in (v.detach(), g))
    got = grad(v - (v @ w / (w @ w))[:, None] * w, (v, w), g)
    wanted = g - b[:, None] * w, (-a[:, None] * g - b[:, None] * (v - 2 * a[:, None] * w)).sum(0)
    torch.testing.assert_close(got, tuple(t.detach() for t in wanted))
    W = randn(2, 5).requires_grad_()
    (slope,) = grad(cascade_ref(v, W)[:, 1].sum(), W)
    assert abs((slope[1] @ W[0]).item()) < 1e-13  # D_2 is blind to what w_2 has of w_1


@both_forms
def test_a_linear_generator_loss_sees_one_direction(orthogonal: bool) -> None:
    head, v = CascadeHead(6, 4, orthogonal).double(), randn(8, 6).requires_grad_()
    seen = lambda objective: torch.linalg.matrix_rank(grad(objective.generator_loss(head(v)), v)[0]).item()
    assert seen(HINGE) == seen(WASSERSTEIN) == 1
    assert seen(NON_SATURATING) == 4
    (slope,) = grad(HINGE.generator_loss(head(v)), v)
    want = -cascade_directions(head.weight, orthogonal).mean(0).expand(8, 6) / 8
    torch.testing.assert_close(slope, want.detach())


@both_forms
def test_gradcheck_and_gradgradcheck(orthogonal: bool) -> None:
    W = randn(4, 6).requires_grad_()
    directions = lambda W: cascade_directions(W, orthogonal)
    assert gradcheck(directions, (W,)) and gradgradcheck(directions, (W,))
    sets = randn(2, 3, 4).requires_grad_()
    assert gradcheck(directions, (sets,)) and gradgradcheck(directions, (sets,))
    head, v, y = CascadeHead(4, 3, orthogonal, classes=2).double(), randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
    names, weights = zip(*head.named_parameters(), strict=True)
    call = lambda v, *weights: torch.func.functional_call(head, dict(zip(names, weights, strict=True)), (v, y))
    inputs = v.requires_grad_(), *(randn(*w.shape).requires_grad_() for w in weights)
    assert gradcheck(call, inputs) and gradgradcheck(call, inputs)


@both_forms
def test_a_gradient_penalty_runs_through_the_head(orthogonal: bool) -> None:
    body, head, x = (
        nn.Sequential(nn.Linear(3, 6), nn.SiLU()).double(),
        CascadeHead(6, 3, orthogonal).double(),
        randn(4, 3),
    )

    def slopes(scores: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        penalties = [gradient_penalty(lambda x, k=k: scores(body(x))[:, k], x) for k in range(3)]
        return grad(torch.stack(penalties).sum(), [head.weight, *list(body.parameters())[:2]])

    torch.testing.assert_close(slopes(head), slopes(lambda f: cascade_ref(f, head.weight, orthogonal) + head.bias))


@both_forms
@pytest.mark.parametrize("dead", [0, 1, 3])
def test_a_zero_vector_removes_nothing_and_keeps_its_gradient(dead: int, orthogonal: bool) -> None:
    W = torch.randn(4, 6)
    W[dead] = 0
    W.requires_grad_()
    v = torch.randn(5, 6)
    others = [i for i in range(4) if i != dead]
    literal, collapsed = cascade_ref(v, W, orthogonal), v @ cascade_directions(W, orthogonal).mT
    slopes = [grad(s.sum(), W, retain_graph=True)[0] for s in (literal, collapsed)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)
    for scores in (literal, collapsed):
        assert (scores[:, dead] == 0).all()
        torch.testing.assert_close(scores[:, others], cascade_ref(v, W[others], orthogonal))
        (first,) = grad(scores.square().sum() + scores.sum(), W, create_graph=True)
        assert first.isfinite().all() and first[dead].norm() > 0.1  # it can grow again
        assert grad(first.square().sum(), W)[0].isfinite().all()
    empty = CascadeHead(6, 4, orthogonal)
    nn.init.zeros_(empty.weight)
    HINGE.critic_loss(empty(v), empty(-v)).backward()
    assert cast(Tensor, empty.weight.grad).isfinite().all()
    w = torch.zeros(6, requires_grad=True)
    naive = torch.where(w @ w > 0, (v @ w) / (w @ w), 0.0).sum()
    assert grad(naive, w)[0].isnan().all()


@both_forms
def test_repeated_vectors_score_zero(orthogonal: bool) -> None:
    W = torch.randn(1, 50) * torch.tensor([[1.0], [3.0], [-0.7]])
    W = torch.cat([W, torch.randn(2, 50)]).requires_grad_()
    v = torch.randn(7, 50)
    U = cascade_directions(W, orthogonal)
    assert (v @ U[1:3].mT).abs().max() < 1e-5
    (first,) = grad((v @ U.mT).square().sum(), W, create_graph=True)
    assert first.isfinite().all() and grad(first.sum(), W)[0].isfinite().all()
    if orthogonal:  # the noise that is left of them is not taken for a direction
        torch.testing.assert_close(U[3:], cascade_directions(W[[0, 3, 4]], True)[1:])


@both_forms
def test_tiny_and_huge_vectors(orthogonal: bool) -> None:
    W, c = torch.randn(4, 8), torch.tensor([[1e-30], [1e30], [1e-20], [1.0]])
    scaled = (W * c).requires_grad_()
    U = cascade_directions(scaled, orthogonal)
    torch.testing.assert_close(U / c, cascade_directions(W, orthogonal), rtol=1e-4, atol=1e-5)
    assert grad((U / c).square().sum(), scaled)[0].isfinite().all()
    assert not ((scaled @ scaled.mT).detach().diagonal() > 0).all()  # the plain Gram matrix has underflowed


@pytest.mark.parametrize("gap", [1e-2, 1e-3])
def test_float32_is_no_worse_than_the_literal_loop_with_nearly_parallel_vectors(gap: float) -> None:
    errors, sets = {"ours": 0.0, "literal": 0.0}, [nearly_parallel(4, 64, gap).float() for _ in range(20)]
    for W in sets:
        v = torch.randn(32, 64)
        exact = cascade_ref(v.double(), W.double())
        for name, out in (("ours", v @ cascade_directions(W).mT), ("literal", cascade_ref(v, W))):
            errors[name] += (out - exact).norm().item() / 20
    assert errors["ours"] <= 2 * errors["literal"]
    W = sets[0]
    gram = cascade_directions(W, orthogonal=True)
    unit = gram / gram.norm(dim=1, keepdim=True)
    assert (unit @ unit.mT - torch.eye(4)).abs().max() < 1e-5
    once = W[:1] / W[0].norm()
    for w in W[1:]:  # Gram-Schmidt without the second pass
        w = w - (once @ w) @ once
        once = torch.cat([once, (w / w.norm())[None]])
    assert (once @ once.mT - torch.eye(4)).abs().max() > 1e-5


@both_forms
def test_scores_are_float32_under_autocast(orthogonal: bool) -> None:
    head, v = CascadeHead(64, 4, orthogonal), torch.randn(16, 64).bfloat16()
    with torch.no_grad():
        head.weight.copy_(nearly_parallel(4, 64, 0.05))
    want = cascade_ref(v.double(), head.weight.double(), orthogonal) + head.bias.double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = head(v)
        directions = cascade_directions(head.weight, orthogonal)
        low = cascade_ref(v, head.weight, orthogonal) + head.bias
    assert out.dtype == directions.dtype == torch.float32
    ours, theirs = ((t.double() - want).norm() / want.norm() for t in (out, low))
    assert ours < 1e-6 and theirs > 1e-3  # what autocast makes of the literal loop
    half = copy.deepcopy(head).bfloat16()
    assert half(v).dtype == torch.float32
    grad(half(v).sum(), half.weight)


@pytest.fixture
def reduced_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@both_forms
@pytest.mark.usefixtures("reduced_precision")
def test_directions_ignore_the_switch_that_rounds_float32_products(orthogonal: bool) -> None:
    W = nearly_parallel(4, 64, 1e-3).float()
    exact = cascade_directions(W.double(), orthogonal)[1:]

    def error() -> float:
        out = cascade_directions(W, orthogonal)
        assert out.dtype == torch.float32
        return ((out[1:] - exact).norm() / exact.norm()).item()

    plain = error()
    torch.set_float32_matmul_precision("medium")  # read, whether or not this processor obeys it
    assert error() < min(1e-7, plain / 10)


def test_with_one_head_it_is_a_linear_layer() -> None:
    v = torch.randn(5, 7)
    torch.manual_seed(3)
    linear = nn.Linear(7, 1)
    torch.manual_seed(3)
    head = CascadeHead(7)
    assert torch.equal(head.weight, linear.weight)
    torch.testing.assert_close(head(v), linear(v))
    assert CascadeHead(7, 3, bias=False).bias is None
    flat = CascadeHead(7, 3)
    torch.testing.assert_close(flat(torch.stack([v, -v]))[1], flat(-v))
    torch.testing.assert_close(flat(v.T.contiguous().T), flat(v))
    assert repr(flat) == "CascadeHead(features=7, heads=3, orthogonal=False, bias=True)"
    assert "classes=4" in repr(CascadeHead(7, classes=4))


@both_forms
def test_spectral_norm_acts_before_the_projections(orthogonal: bool) -> None:
    head = CascadeHead(7, 3, orthogonal)
    weight = head.weight.detach().clone()
    parametrizations.spectral_norm(head, n_power_iterations=50)
    head.eval()
    v = torch.randn(5, 7)
    want = cascade_ref(v, weight / torch.linalg.matrix_norm(weight, 2), orthogonal) + head.bias
    torch.testing.assert_close(head(v), want, rtol=1e-3, atol=1e-4)


@both_forms
def test_conditional_samples_have_the_cascade_of_their_class(orthogonal: bool) -> None:
    head, v, y = CascadeHead(6, 3, orthogonal, classes=4).double(), randn(9, 6), torch.randint(0, 3, (9,))
    plain = CascadeHead(6, 3, orthogonal).double()
    plain.load_state_dict({k: t for k, t in head.state_dict().items() if k != "embedding"})
    torch.testing.assert_close(head(v, y), plain(v))  # the embedding starts at 0
    embedding = cast(Tensor, head.embedding)
    nn.init.normal_(embedding)
    torch.testing.assert_close(head(v, y), cascade_ref(v, head.weight + embedding[y], orthogonal) + head.bias)
    for c in range(3):
        own = cascade_ref(v[y == c], head.weight + embedding[c], orthogonal) + head.bias
        torch.testing.assert_close(head(v, y)[y == c], own)
    (slope,) = grad(head(v, y).sum(), embedding)
    assert (slope[3] == 0).all() and (slope[:3].abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("classes", [None, 3])
def test_state_dict_round_trip(classes: int | None) -> None:
    a, b, v = CascadeHead(5, 2, True, classes), CascadeHead(5, 2, True, classes), torch.randn(4, 5)
    if a.embedding is not None:
        nn.init.normal_(a.embedding)
    y = None if classes is None else torch.tensor([0, 2, 1, 1])
    assert not torch.equal(a(v, y), b(v, y))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(v, y), b(v, y)) and torch.equal(copy.deepcopy(a)(v, y), a(v, y))


def test_a_critic_with_the_head_trains() -> None:
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), CascadeHead(16, 3))
    draw = lambda mean: lambda n, rng: mean + torch.randn(n, 2, generator=rng)
    losses = fit_critic(critic, draw(0.0), draw(2.0), game(NON_SATURATING), steps=400)
    assert losses[-1] < math.log(2) < losses[0]  # half of what knows nothing


@both_forms
@pytest.mark.parametrize("heads", [2, 4])
def test_autocast_reaches_no_derivative(orthogonal: bool, heads: int) -> None:
    head, v, y = CascadeHead(8, heads, orthogonal, classes=3), torch.randn(6, 8), torch.randint(0, 3, (6,))
    plain_head, inputs = CascadeHead(8, heads, orthogonal), v.requires_grad_()
    nn.init.normal_(cast(Tensor, head.embedding))

    def derivatives() -> list[Tensor]:
        found: list[Tensor] = []
        for out in (head(v, y), plain_head(v), cascade_directions(plain_head.weight, orthogonal)):
            weights = [*head.parameters(), *plain_head.parameters(), inputs]
            first = grad(out.square().sum(), weights, create_graph=True, allow_unused=True)
            first = [t for t in first if t is not None]
            second = grad(torch.stack([t.square().sum() for t in first]).sum(), weights, allow_unused=True)
            found += [out, *first, *(t for t in second if t is not None)]
        return found

    plain = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (v @ v.T).dtype == torch.bfloat16
        cast_too = derivatives()
    assert len(cast_too) == len(plain) > 15
    assert all(torch.equal(a, b) for a, b in zip(cast_too, plain, strict=True))


@both_forms
def test_transforms_of_functorch(orthogonal: bool) -> None:
    W = randn(3, 4, 6)
    directions = lambda W: cascade_directions(W, orthogonal)
    torch.testing.assert_close(torch.func.vmap(directions)(W), directions(W))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch 2.13 scripts its own decompositions on first use
        forward, backward = torch.func.jacfwd(directions)(W[0]), torch.func.jacrev(directions)(W[0])
    torch.testing.assert_close(forward, backward)


@both_forms
def test_it_compiles_in_one_graph(orthogonal: bool) -> None:
    warnings.filterwarnings("ignore", ".* should not be instantiated", DeprecationWarning)  # dynamo's own making of one
    head, v = CascadeHead(6, 3, orthogonal), torch.randn(5, 6)
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            torch.testing.assert_close(compiled(v), head(v))
            slopes = [grad(call(v).square().sum(), head.weight)[0] for call in (compiled, head)]
        torch.testing.assert_close(*slopes)


def test_it_resets_after_to_empty() -> None:
    with torch.device("meta"):
        head = CascadeHead(4, 2, classes=3)
    head.to_empty(device="cpu")
    for p in head.parameters():
        nn.init.constant_(p, math.nan)
    torch.manual_seed(3)
    head.reset_parameters()
    torch.manual_seed(3)
    linear = nn.Linear(4, 2)
    assert torch.equal(head.weight, linear.weight) and torch.equal(head.bias, linear.bias)
    assert torch.equal(cast(Tensor, head.embedding), torch.zeros(3, 2, 4))
    copied = pickle.loads(pickle.dumps(head))
    v, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 2, 0])
    assert torch.equal(copied(v, y), head(v, y))


def test_the_default_dtype_changes_nothing() -> None:
    head, W, v = CascadeHead(6, 3), torch.randn(4, 6), torch.randn(5, 6)
    torch.set_default_dtype(F64)
    try:
        assert head(v).dtype == cascade_directions(W).dtype == cascade_directions(W, True).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@both_forms
@pytest.mark.parametrize("K", [3, 4, 8])
def test_a_layer_takes_few_launches(K: int, orthogonal: bool) -> None:
    """Each costs the host of a GPU 10 to 20 us. By autograd 8 heads took 359 in the form of Gram-Schmidt."""
    v, W, G = (t.float().requires_grad_() for t in (randn(16, 32), randn(K, 32), randn(16, K)))
    made: list[Tensor] = []
    forward = launches(lambda: made.append(v @ cascade_directions(W, orthogonal).mT)).totals()
    backward = launches(lambda: grad(made[0], (v, W), G)).totals()
    assert forward[0] <= (9 * K + 4 if orthogonal else 12) and backward[0] <= 14
    assert forward[1:] == backward[1:] == (0, 0)  # the host waits for nothing


@pytest.mark.parametrize(
    "rows", ["independent", "a zero first", "a zero", "a repeated one", "spanned", "all zero", "sets"]
)
@both_forms
def test_the_gradient_in_closed_form_is_that_of_autograd(orthogonal: bool, rows: str) -> None:
    """Whether or not it is to be differentiated, and for many at once."""
    W = randn(5, 8)
    if "zero" in rows:
        W[{"a zero first": 0, "a zero": 2}.get(rows, slice(None))] = 0
    if rows == "a repeated one":
        W[3] = -2 * W[1]
    if rows == "spanned":
        W[2] = W[0] - 3 * W[1]
    W, G = (torch.stack([W, randn(5, 8)]) if rows == "sets" else W).requires_grad_(), randn(3, *W.shape[-2:])
    G = G[:, None].expand(3, *W.shape) if rows == "sets" else G

    def plain(W: Tensor) -> Tensor:
        X, unit = cascades._scaled(W)
        return (cascades._gram_schmidt(X) if orthogonal else cascades._projections(X)[0]) * unit

    out, want = cascade_directions(W, orthogonal), plain(W)
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    for g in G:
        (slope,) = grad(want, W, g, retain_graph=True)
        for again in (False, True):
            found = grad(out, W, g, retain_graph=True, create_graph=again)[0]
            torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-9)
    many = grad(out, W, G, is_grads_batched=True, retain_graph=True)[0]
    torch.testing.assert_close(
        many, torch.stack([grad(want, W, g, retain_graph=True)[0] for g in G]), rtol=1e-9, atol=1e-9
    )


# --- bad input

BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: cascade_ref(torch.ones(3), torch.ones(2, 3)), ValueError, r"cascade_ref: .*\(3,\) and \(2, 3\)"),
    (lambda: cascade_ref(torch.ones(4, 3), torch.ones(2, 5)), ValueError, "cascade_ref: v and W"),
    (lambda: cascade_ref(torch.ones(4, 3), torch.ones(2, 2, 3)), ValueError, "cascade_ref: v and W"),
    (lambda: cascade_directions(torch.ones(3)), ValueError, r"cascade_directions: W has shape \(3,\)"),
    (lambda: cascade_directions(cast(Any, None)), TypeError, "cascade_directions: W is NoneType"),
    (lambda: CascadeHead(0), ValueError, "CascadeHead: features is 0, must be an int >= 1"),
    (lambda: CascadeHead(4, heads=cast(Any, 2.0)), TypeError, "CascadeHead: heads is 2.0"),
    (lambda: CascadeHead(4, classes=0), ValueError, "CascadeHead: classes is 0"),
    (lambda: CascadeHead(4, 5, orthogonal=True), ValueError, "CascadeHead: heads is 5, must be <= 4 features"),
    (lambda: CascadeHead(4)(torch.ones(2, 5)), ValueError, r"CascadeHead: v has shape \(2, 5\), must be \(N, 4\)"),
    (lambda: CascadeHead(4)(torch.ones(2, 4), torch.zeros(2).long()), ValueError, "y is of shape .* None without"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(2, 4)), ValueError, r"y is None, must be classes of shape \(2,\)"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(2, 4), torch.zeros(3).long()), ValueError, r"y is of shape \(3,\)"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(2, 4), torch.zeros(2)), TypeError, "y is torch.float32"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(1, 4), torch.tensor([2])), ValueError, "y has classes from"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(1, 4), torch.tensor([-1])), ValueError, "y has classes from"),
    (lambda: CascadeHead(4, classes=2)(torch.ones(2, 4), cast(Any, [0, 1])), TypeError, "y is list"),
    (lambda: CascadeHead(4)(cast(Any, [1.0])), TypeError, "CascadeHead: v is list"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_refused(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("classes", [None, 3])
def test_it_is_placed_typed_and_skipped_as_linear_is(classes: int | None) -> None:
    head = CascadeHead(4, 2, classes=classes, dtype=F64)
    assert all(p.dtype == F64 for p in head.parameters()) and head.weight.any()
    skipped = cast(CascadeHead, nn.utils.skip_init(CascadeHead, 4, 2, classes=classes))
    skipped.reset_parameters()
    y = None if classes is None else torch.tensor([2, 0])
    assert skipped(torch.ones(2, 4), y).isfinite().all()
    assert all(p.is_meta for p in CascadeHead(4, 2, classes=classes, device="meta").parameters())


@pytest.mark.parametrize("classes", [None, 3])
def test_features_of_float64_keep_their_digits_beside_weights_of_float32(classes: int | None) -> None:
    head, v, y = CascadeHead(4, 2, classes=classes), randn(3, 4).double(), torch.tensor([2, 0, 2])
    chosen = () if classes is None else (y,)
    found = head(v, *chosen)
    assert found.dtype == F64
    torch.testing.assert_close(found, head.double()(v, *chosen), rtol=1e-6, atol=1e-6)
