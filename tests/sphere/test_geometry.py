"""The sphere's maps: laws, stability where naive forms fail, the factor of the angle-aware step, and the oracle."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from _compare import randn
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck

from gantext.sphere.geometry import MODES, Mode, dist, egrad2rgrad, expmap, projx, retr, step, update_ref

F64 = torch.float64


def points(*shape: int) -> Tensor:
    return projx(randn(*shape))


def tangent(x: Tensor, size: float = 1.0) -> Tensor:
    return size * projx(egrad2rgrad(x, torch.randn_like(x)))


@pytest.mark.parametrize("p", [1, 2, 3, 100])
def test_projection_is_idempotent_and_gives_the_nearest_point(p: int) -> None:
    x = randn(50, p)
    y = projx(x)
    torch.testing.assert_close(y.norm(dim=-1), torch.ones(50, dtype=F64), rtol=0, atol=1e-15)
    torch.testing.assert_close(projx(y), y, rtol=0, atol=1e-15)
    others = points(200, 1, p)
    assert ((x - y).norm(dim=-1) <= (x - others).norm(dim=-1) + 1e-12).all()


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-5, 1.0, 1e20, 1e38])
def test_projection_neither_overflows_nor_underflows(size: float) -> None:
    base = torch.randn(20, 5).clamp(-3, 3)
    tol = 1e-3 if size < 1e-38 else 1e-6  # subnormal numbers have few digits
    torch.testing.assert_close(projx(base * size), projx(base), rtol=0, atol=tol)
    naive = base * size / (base * size).square().sum(-1, keepdim=True).sqrt()
    assert (1e-20 < size < 1e19) == bool(((naive - projx(base)).abs() < 1e-4).all())


def test_a_zero_row_is_the_first_axis_with_gradient_zero_and_its_neighbours_are_unharmed() -> None:
    x = torch.randn(3, 4)
    x[1] = 0
    x.requires_grad_()
    y = projx(x)
    assert y[1].tolist() == [1, 0, 0, 0]
    (g,) = grad((y * torch.arange(4.0)).sum(), x)
    assert g.isfinite().all() and (g[1] == 0).all() and (g[0] != 0).any()
    x = torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
    assert projx(x).isnan().all(1).tolist() == [True, False]


def test_riemannian_gradient_is_that_of_the_function_of_the_normalised_vector() -> None:
    theta, a = (3 * randn(20, 6)).requires_grad_(), randn(20, 6)
    f = lambda x: (x * a).sum(-1).exp() + x.pow(3).sum(-1)
    x = projx(theta).detach().requires_grad_()
    (free,) = grad(f(projx(theta)).sum(), theta)
    (euclidean,) = grad(f(x).sum(), x)
    riemannian = egrad2rgrad(x, euclidean)
    torch.testing.assert_close(free, (riemannian / theta.norm(dim=-1, keepdim=True)).detach())
    assert (riemannian * x).sum(-1).abs().max() < 1e-13  # tangent
    torch.testing.assert_close(egrad2rgrad(x, riemannian), riemannian)  # a projection


def test_both_maps_stay_on_one_great_circle_and_agree_to_third_order() -> None:
    x = points(30, 7)
    z = tangent(x)
    for size in (1e-3, 0.1, 1.0, 3.0):
        torch.testing.assert_close(dist(x, expmap(x, size * z)), torch.full((30,), size, dtype=F64))
        torch.testing.assert_close(dist(x, retr(x, size * z)), torch.full((30,), math.atan(size), dtype=F64))
        plane = torch.stack([x, z], -1)  # (30, 7, 2)
        for y in (expmap(x, size * z), retr(x, size * z)):
            torch.testing.assert_close((plane @ (plane.mT @ y[..., None]))[..., 0], y)
    gaps = [dist(expmap(x, t * z), retr(x, t * z)).mean().item() for t in (0.02, 0.01)]
    assert gaps[0] / gaps[1] == pytest.approx(8, rel=0.01) and gaps[1] == pytest.approx(1e-6 / 3, rel=0.01)
    assert torch.equal(expmap(x, 0 * z), projx(x))
    torch.testing.assert_close(expmap(x, 2 * math.pi * z), x)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-4, 0.01, 1.0, 3.14, math.pi - 1e-6, math.pi])
def test_distance_keeps_its_digits_at_0_and_pi_where_arccos_loses_them(angle: float) -> None:
    x = points(200, 50)
    y = expmap(x, tangent(x, angle))
    x, y = x.float(), y.float()
    tol = 1e-6 if angle < 3 else 2e-6
    torch.testing.assert_close(dist(x, y), torch.full((200,), angle), rtol=1e-6, atol=tol)
    naive = (x * y).sum(-1).acos()
    if angle in (0.0, 1e-7, 1e-4, math.pi):
        assert (naive.isnan() | ((naive - angle).abs() > 5e-5)).any()


def test_distance_is_a_metric_with_finite_gradients_everywhere() -> None:
    x, y, z = points(3, 40, 5)
    assert torch.equal(dist(x, y), dist(y, x))
    assert (dist(x, z) <= dist(x, y) + dist(y, z) + 1e-12).all()
    torch.testing.assert_close(dist(x, y), (x * y).sum(-1).acos())
    leaf = x.clone().requires_grad_()
    for other in (x, -x):
        (g,) = grad(dist(leaf, other).sum(), leaf)
        assert (g == 0).all()
    leaf = torch.eye(5, requires_grad=True)  # of length one exactly, so that no version's clamp hides the slope
    (naive,) = grad((leaf * leaf.detach()).sum(-1).acos().sum(), leaf)
    assert not naive.isfinite().all()


def test_every_map_passes_gradcheck_and_gradgradcheck() -> None:
    x, g = points(3, 4).requires_grad_(), randn(3, 4).requires_grad_()
    for f in (
        lambda x, g: projx(x + g),
        egrad2rgrad,
        retr,
        expmap,
        lambda x, g: dist(x, projx(g)),
        lambda x, g: step(x, g, 0.3),
    ):
        assert gradcheck(f, (x, g)) and gradgradcheck(f, (x, g))


def test_shapes_broadcast_and_dtypes_stay() -> None:
    x, y = projx(torch.randn(4, 1, 3)), projx(torch.randn(5, 3))
    assert dist(x, y).shape == (4, 5) and retr(x, y).shape == (4, 5, 3)
    assert {f(x, y).dtype for f in (egrad2rgrad, retr, expmap, dist)} == {torch.float32}
    assert projx(torch.zeros(0, 3)).shape == (0, 3)


# --- the step


def test_factor_is_one_minus_the_cosine_of_row_and_descent_direction() -> None:
    x, g = points(50, 6), 10 * randn(50, 6)
    s = 1 - torch.cosine_similarity(x, -g, dim=-1)
    plain, angled = (dist(x, step(x, g, 1e-3, angle=angle)).tan() for angle in (False, True))
    torch.testing.assert_close(angled / plain, s, rtol=1e-9, atol=1e-9)
    assert torch.equal(step(x, 0 * g, 0.1), projx(x))
    torch.testing.assert_close(step(x, -x, 1.0), x)  # there already
    torch.testing.assert_close(step(x, g, 0.1), step(x, 1e3 * g, 1e-4))  # the factor does not see the length


def test_descent_is_geometric_without_the_factor_and_like_one_over_root_t_with_it() -> None:
    a, start = torch.eye(2, dtype=F64)
    left = {}
    for angle in (False, True):
        x = projx(start + 0.5 * a)
        for _ in range(1000):
            x = step(x, -a, 0.1, angle=angle)
        left[angle] = dist(x, a).item()
    assert left[False] < 1e-12
    assert left[True] == pytest.approx(1 / math.sqrt(0.1 * 1000), rel=0.01)


# --- the oracle of one update


def loss(u: Tensor, v: Tensor | None, d: Tensor | None, n: Tensor, margin: float) -> Tensor:
    partners = torch.stack([x for x in (v, d) if x is not None]).sum(0)
    return (margin - u @ partners + n @ partners).clamp(min=0)


@pytest.mark.parametrize("partners", ["v", "d", "vd"])
@pytest.mark.parametrize("mode", ["paper", "plain"])
def test_update_descends_the_joint_hinge(mode: Mode, partners: str) -> None:
    moved = 0
    for _ in range(20):
        u, v, d, n = rows = points(4, 7)
        given = [u, v if "v" in partners else None, d if "d" in partners else None, n]
        leaves = [None if x is None else x.clone().requires_grad_() for x in given]
        value = loss(*cast(Any, leaves), margin=0.5)
        after = update_ref(*cast(Any, given), rate=0.2, margin=0.5, mode=mode)
        assert [x is None for x in after] == [x is None for x in given]
        if value == 0:
            assert all(torch.equal(cast(Tensor, y), x) for x, y in zip(given, after, strict=True) if x is not None)
            continue
        moved += 1
        value.backward()
        for x, y in zip(leaves, after, strict=True):
            if x is not None and y is not None:
                g = cast(Tensor, x.grad)
                s = 1 + x @ g / g.norm() if mode == "paper" else 1
                torch.testing.assert_close(y, projx(x - 0.2 * s * (g - (x @ g) * x)).detach())
        assert rows.norm(dim=1).sub(1).abs().max() < 1e-14
    assert 5 < moved < 20


def test_the_reference_mode_is_descent_on_its_own_squares() -> None:
    """u on (1 - f)^2 / 2, n on h^2: what the released rule amounts to, by autograd; v by its own factor."""
    u, v, d, n = points(4, 7)
    u, v = projx(u + 0.0), projx(v + 0.2 * u)
    leaves = [x.clone().requires_grad_() for x in (u, v, n)]
    lu, lv, ln = leaves
    f, h = lu @ lv, ln @ lv
    gu, gn = grad((1 - f) ** 2 / 2, lu, retain_graph=True)[0], grad(h**2, ln, retain_graph=True)[0]
    gv = (1 - (f - h).detach()) * grad(h - f, lv)[0]
    new = update_ref(u, v, None, n, rate=0.1, margin=5, mode="reference")
    for y, x, g in zip((new[0], new[1], new[3]), (u, v, n), (gu, gv, gn), strict=True):
        torch.testing.assert_close(y, retr(x, -0.1 * egrad2rgrad(x, g)))
    u1, v1, _, n1 = new
    u2, _, d2, n2 = update_ref(u1, None, d, n1, rate=0.1, margin=5, mode="reference")
    both = update_ref(u, v, d, n, rate=0.1, margin=5, mode="reference")
    for y, x in zip(both, (u2, v1, d2, n2), strict=True):
        torch.testing.assert_close(y, x)  # one hinge after the other


def test_the_reference_hinges_are_switched_off_one_by_one() -> None:
    u, v, d, n = points(4, 7)
    v, n = projx(u + 0.1 * v), projx(-u + 0.1 * n)  # word-context: far beyond the margin
    d = projx(d - 0.5 * u)  # word-document: not
    after = cast(tuple[Tensor, ...], update_ref(u, v, d, n, rate=0.1, mode="reference"))
    assert torch.equal(after[1], v) and not torch.equal(after[2], d)
    alone = cast(tuple[Tensor, ...], update_ref(u, None, d, n, rate=0.1, mode="reference"))
    assert torch.equal(after[0], alone[0]) and torch.equal(after[2], alone[2]) and torch.equal(after[3], alone[3])


def test_the_modes_differ_and_the_oracle_is_float64() -> None:
    u, v, d, n = projx(torch.randn(4, 9))
    outs = [update_ref(u, v, d, n, rate=0.1, margin=3, mode=mode) for mode in MODES]
    for i, a in enumerate(outs):
        assert all(x is not None and x.dtype == F64 for x in a)
        assert all(not torch.allclose(cast(Tensor, a[0]), cast(Tensor, b[0])) for b in outs[:i])


def test_opposed_partners_move_no_word() -> None:
    u, v, n = points(3, 5)
    after = update_ref(u, v, -v, n, rate=0.3, margin=0.15)  # v + d = 0
    torch.testing.assert_close(after[0], u)
    torch.testing.assert_close(after[3], n)
    assert all(x is not None and x.isfinite().all() for x in after)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: projx(cast(Any, [1.0])), TypeError, "x is list"),
        (lambda: projx(torch.arange(3)), TypeError, "x is torch.int64"),
        (lambda: projx(torch.tensor(1.0)), ValueError, r"\(\.\.\., p\)"),
        (lambda: projx(torch.zeros(2, 0)), ValueError, "p >= 1"),
        (
            lambda: retr(torch.ones(3), torch.ones(4)),
            ValueError,
            r"x \(3,\) on cpu, z \(4,\) on cpu, must be of one width",
        ),
        (lambda: dist(torch.ones(1), torch.ones(4)), ValueError, "must be of one width"),
        (lambda: dist(torch.ones(3, 2), torch.ones(4, 2)), ValueError, "one width and device, and broadcast"),
        (
            lambda: step(torch.ones(5, 3, 2), torch.ones(5, 1, 1, 2)[:, :, 0].expand(5, 2, 2), 0.1),
            ValueError,
            "broadcast",
        ),
        (lambda: expmap(torch.ones(2), torch.ones(2, device="meta")), ValueError, "z .* on meta, must be of one"),
        (lambda: step(torch.ones(2), torch.ones(2), -0.1), ValueError, "rate is -0.1"),
        (lambda: step(torch.ones(2), torch.ones(2), cast(Any, "1")), TypeError, "rate is '1'"),
        (lambda: update_ref(*torch.eye(4), rate=0.1, margin=0), ValueError, "margin is 0"),
        (lambda: update_ref(*torch.eye(4), rate=math.nan), ValueError, "rate is nan"),
        (lambda: update_ref(*torch.eye(4), rate=0.1, mode=cast(Any, "code")), ValueError, "mode is 'code'"),
        (lambda: update_ref(torch.ones(2), None, None, torch.ones(2), rate=0.1), ValueError, "both None"),
        (lambda: update_ref(*torch.ones(4, 1, 2), rate=0.1), ValueError, "must each be one row"),
    ],
)
def test_bad_input_is_refused_in_words(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
