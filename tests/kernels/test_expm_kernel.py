"""The kernels of the matrix exponential against float64: memory, strides, hostile input, derivatives, compiled code."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import mpmath
import pytest
import torch
from _compare import assert_close
from _kernels import DEVICE, INTERPRETED, compiler, cross_compile, guarded, kernel, poisoned
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck

from gantext import matexp
from gantext.kernels import expm as operators
from gantext.kernels.expm import exponential
from gantext.kernels.expm_formula import centred, composed
from gantext.kernels.expm_scaling import scaled_powers, squarings_by_norm
from gantext.matexp import THETA18, WIDEST, expm, expm_ref

F32, F64 = torch.float32, torch.float64
REAL = [F32, F64]
by_kernel = partial(expm, backend="triton")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def gaussian(*shape: int, scale: float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    return (scale * torch.randn(*shape, dtype=F64) / shape[-1] ** 0.5).to(DEVICE, dtype)


def eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def compare(A: Tensor, digits: float = 100, given: int | None = None) -> Tensor:
    """Value and gradient, guard bands round the input, fresh memory NaN, against the series in float64."""
    G = gaussian(*A.shape, dtype=A.dtype)
    with poisoned():
        (X, intact), (H, also) = guarded(A) if A.is_contiguous() else (A, lambda: None), guarded(G)
        X = X.detach().requires_grad_()
        out = by_kernel(X, squarings=given)
        (found,) = grad(out, X, H)
    intact()
    also()
    exact = A.detach().double().requires_grad_()
    want = torch.stack([expm_ref(one) for one in exact.reshape(-1, *A.shape[-2:])]).reshape(A.shape)
    assert out.dtype == found.dtype == A.dtype and out.shape == found.shape == A.shape
    assert_close(out, want, digits * eps(A.dtype))
    assert_close(found, grad(want, exact, G.double())[0], digits * eps(A.dtype))
    return out


@kernel
@pytest.mark.parametrize(
    ("n", "dtype"), [*((n, dtype) for n in (2, 3, 4, 7, 8, 13, 16) for dtype in REAL), (17, F32), (32, F32)]
)
def test_it_is_the_series(n: int, dtype: torch.dtype) -> None:
    few = 3 if n <= 8 else 1  # more than one program for the small
    sizes = torch.tensor([1e-3, 1.0, 12.0], dtype=F64).repeat(few)[:, None, None]
    A = (sizes.to(DEVICE) * gaussian(len(sizes), n, n)).to(dtype)
    compare(A, 8 * n * A.abs().sum(-2).max().item())  # what rounding A costs the exponential, a few times over


@kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    A = gaussian(3, 4, 4, dtype=dtype)
    assert torch.equal(by_kernel(A), by_kernel(A.float()).to(dtype))
    compare(A, 4)
    assert by_kernel(torch.full((2, 2), 12.0, dtype=dtype, device=DEVICE)).isinf().all() == (dtype == torch.float16)


HARD: dict[str, list[list[float]]] = {
    "zero": [[0, 0], [0, 0]],
    "overscaled": [[1, 1e8], [0, -1]],
    "overscaled, stable": [[-0.7, 1e12], [0, -1.1]],
    "Jordan": [[0.5, 1, 0], [0, 0.5, 1], [0, 0, 0.5]],
    "Jordan, stable": [[-9, 1, 0], [0, -9, 1], [0, 0, -9]],
    "nilpotent": [[0, 1e3, 1e4], [0, 0, 1e3], [0, 0, 0]],
    "turn": [[0, -40], [40, 0]],
    "Moler, Van Loan": [[-49, 24], [-64, 31]],
    "Ward": [[-131, 19, 18], [-390, 56, 54], [-387, 57, 52]],
    "generator": [[-300, 300, 0], [1, -2, 1], [0, 200, -200]],
    "top of the range": [[0, 1e38], [0, 0]],
    "far from normal": [[0, 1e20], [1e-20, 0]],
}


@kernel
@pytest.mark.parametrize("dtype", REAL)
def test_hard_matrices_by_the_same_rule_at_most_ten_times_the_error_of_the_formula(dtype: torch.dtype) -> None:
    theta = THETA18[dtype]
    for name, rows in HARD.items():
        A = torch.tensor([rows], dtype=dtype, device=DEVICE)
        with mpmath.workdps(120):
            true = mpmath.expm(mpmath.matrix(A[0].tolist()), method="taylor").tolist()
        largest = max(abs(x) for row in true for x in row)
        exact = torch.tensor([[[float(x / largest) for x in row] for row in true]], dtype=F64)
        ours, plain = (
            ((X.double().cpu() / float(largest) - exact).norm() / exact.norm()).item()
            for X in (by_kernel(A), composed(A, None, theta))
        )
        assert ours <= 10 * max(plain, 2 * eps(dtype)), f"{name}: {ours:.1e}, PyTorch {plain:.1e}"
        means, counts = torch.ops.gantext.expm(A, None, theta)[1:]
        X, mean, norm = centred(A)
        s = scaled_powers(X, mean, norm, theta, squarings_by_norm(norm, mean, theta))[1]
        assert counts.tolist() == s.tolist(), f"{name}: squarings {counts.tolist()}, by the rule {s.tolist()}"
        assert_close(means[:, None, None], mean[:, None, None], eps(dtype)) if mean.any() else None


@kernel
@pytest.mark.parametrize("n", [2, 5, 16])
def test_a_batch_is_its_members(n: int) -> None:
    A = gaussian(5, n, n, dtype=F32) * torch.tensor([1e-3, 30.0, 1.0, 7.0, 1e-9], device=DEVICE)[:, None, None]
    A.requires_grad_()
    out, G = by_kernel(A), gaussian(5, n, n, dtype=F32)
    (whole,) = grad(out, A, G)
    for k in range(5):
        one = A[k].detach().requires_grad_()
        alone = by_kernel(one)
        for found, want in ((alone, out[k]), (grad(alone, one, G[k])[0], whole[k])):
            # Compiled, one matrix has a program of its own, which may round in another order.
            bound = 0 if INTERPRETED else 4 * eps(F32) * max(4, A[k].abs().sum(0).max().item())
            assert (found - want).norm() <= bound * want.norm()
    again = by_kernel(A)
    assert torch.equal(again, out) and torch.equal(grad(again, A, G)[0], whole)


@kernel
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # NumPy's, which interprets
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_a_bad_matrix_spoils_only_itself(value: float) -> None:
    good = gaussian(4, 3, 3, dtype=F32)
    bad = good.clone()
    bad[2, 1:, 2] = value  # twice 3e38 is a norm beyond the range
    bad.requires_grad_()
    out = by_kernel(bad)
    (found,) = grad(out.sum(), bad)
    rest = [0, 1, 3]
    assert out[2].isnan().all() and torch.equal(out[rest], by_kernel(good)[rest])
    assert found[2].isnan().all() and found[rest].isfinite().all()
    shear = torch.tensor([[0.0, 3e38], [0.0, 0.0]], device=DEVICE)  # a norm at the edge, and an exponential that fits
    assert_close(by_kernel(shear), shear + torch.eye(2, device=DEVICE), eps(F32))
    large = by_kernel(torch.tensor([[100.0, 0.0], [0.0, 1.0]], device=DEVICE))
    assert large[0, 0] == math.inf  # an entry beyond the type


@kernel
def test_too_few_squarings_become_nan() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], device=DEVICE)
    out = by_kernel(torch.stack([3.9 * turn, 4.1 * turn]) * THETA18[F32], squarings=2)
    assert out[0].isfinite().all() and out[1].isnan().all()
    compare(gaussian(2, 3, 3, scale=3, dtype=F32), given=4)


@kernel
def test_shapes_and_strides() -> None:
    wide = gaussian(3, 8, 8)
    for A in (wide[:, 2:5, 1:4], wide.mT, wide[::2, ::2, ::2], wide[:1].expand(3, 8, 8), wide.permute(1, 2, 0)[:3, :3]):
        compare(A.to(DEVICE), 200) if A.shape[-1] == A.shape[-2] else None
    compare(gaussian(2, 2, 3, 3))
    compare(gaussian(2, 2))
    for shape in ((0, 3, 3), (2, 0, 3, 3), (2, 0, 0)):
        empty = torch.zeros(shape, device=DEVICE, requires_grad=True)
        assert by_kernel(empty).shape == shape and grad(by_kernel(empty).sum(), empty)[0].shape == shape
    assert_close(by_kernel(gaussian(2, 1, 1)), torch.ones(2, 1, 1, device=DEVICE), 50)  # the scalar exponential
    leaf = gaussian(2, 3, 3).requires_grad_()
    (found,) = grad(by_kernel(leaf).sum(), leaf)  # the gradient of a sum has strides 0
    assert_close(found, grad(expm(leaf, backend="reference").sum(), leaf)[0], 1e-13)


@kernel
@pytest.mark.parametrize("squarings", [None, 4])
def test_gradcheck_and_gradgradcheck(squarings: int | None) -> None:
    A = torch.stack([0.2 * gaussian(3, 3), 6 * gaussian(3, 3)]).requires_grad_()
    f = lambda X: by_kernel(X, squarings=squarings)
    assert gradcheck(f, (A,), fast_mode=True) and gradgradcheck(f, (A,), fast_mode=True)


@kernel
def test_operators_are_registered_as_they_behave() -> None:
    A, theta = gaussian(2, 3, 3), THETA18[F64]
    for X in (A, A.mT, A[:0]):
        torch.library.opcheck(torch.ops.gantext.expm, (X.detach().requires_grad_(), None, theta))
    out, means, counts = torch.ops.gantext.expm(A.requires_grad_(), 4, theta)
    assert out.requires_grad and not means.requires_grad and not counts.requires_grad
    G = gaussian(2, 3, 3)
    torch.library.opcheck(torch.ops.gantext.expm_adjoint, (G, A.detach(), means, counts, theta))


@kernel
def test_where_only_autograd_looks_on_no_operator_is_called_for_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    A, G = gaussian(3, 4, 4, dtype=F32).requires_grad_(), gaussian(3, 4, 4, dtype=F32)

    def both() -> list[Tensor]:
        out = by_kernel(A)
        return [out.detach(), grad(out, A, G)[0]]

    with monkeypatch.context() as patched:
        patched.setattr(operators, "unobserved", lambda *tensors: False)
        want = both()
    for name in ("expm", "expm_adjoint"):
        monkeypatch.setattr(torch.ops.gantext, name, lambda *given: pytest.fail("an operator was called"))
    assert all(map(torch.equal, both(), want)) and torch.equal(by_kernel(A.detach()), want[0])
    assert torch.equal(by_kernel(torch.nn.Parameter(A.detach())), want[0])
    monkeypatch.undo()
    with torch.inference_mode():
        assert torch.equal(by_kernel(A), want[0])


@kernel
def test_a_batch_of_gradients_is_each_of_them() -> None:
    A, G = gaussian(3, 4, 4, scale=2).requires_grad_(), gaussian(2, 3, 4, 4)
    out = by_kernel(A)
    each = torch.stack([grad(out, A, g, retain_graph=True)[0] for g in G])
    (batched,) = grad(out, A, G, is_grads_batched=True, retain_graph=True)
    assert_close(batched, each, 1e-13)
    (graphed,) = grad(out, A, G, is_grads_batched=True, create_graph=True)
    assert_close(graphed.detach(), each, 1e-13)
    alone = [grad(by_kernel(A), A, g, create_graph=True)[0] for g in G]
    (again,) = grad(torch.stack(alone).square().sum(), A)
    assert_close(grad(graphed.square().sum(), A)[0], again, 1e-12)
    assert_close(torch.func.vmap(lambda g: grad(out, A, g, retain_graph=True)[0])(G), each, 1e-13)
    loss = lambda A: by_kernel(A).square().sum()
    small = A.detach()[:2]
    each, batched = (torch.autograd.functional.hessian(loss, small, vectorize=many) for many in (False, True))
    torch.testing.assert_close(batched, each, rtol=1e-12, atol=1e-12)


@kernel
def test_a_forced_kernel_survives_the_compiler() -> None:
    f: Any = torch.compile(by_kernel, backend="aot_eager", fullgraph=True)
    A, G = gaussian(2, 3, 3).requires_grad_(), gaussian(2, 3, 3)
    assert_close(f(A), by_kernel(A), eps(F64))
    with pytest.raises(ValueError, match=r"expm: A is of order 17 in torch\.float64, must be at most 16"):
        exponential(gaussian(1, 17, 17), None, THETA18[F64])  # which is where a trace arrives
    assert_close(grad(f(A), A, G)[0], grad(by_kernel(A), A, G)[0], eps(F64))


@kernel
def test_what_the_kernel_cannot_do_says_so_or_goes_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    A = gaussian(2, 3, 3, dtype=F32)
    with pytest.raises(ValueError, match="because the matrices are of order 33, above 32"):
        by_kernel(gaussian(1, 33, 33, dtype=F32))
    with pytest.raises(ValueError, match="because the matrices are of order 17, above 16"):
        by_kernel(gaussian(1, 17, 17, dtype=F32), compute_dtype=F64)
    with pytest.raises(ValueError, match=r"because torch\.complex64 has no kernel"):
        by_kernel(A.to(torch.complex64))
    with pytest.raises(ValueError, match="because a function transform"):
        torch.func.vmap(lambda X: by_kernel(X, squarings=3))(A)
    with pytest.raises(ValueError, match="backend is 'gpu', must be None, 'reference' or 'triton'"):
        expm(A, backend="gpu")
    if INTERPRETED:
        assert torch.equal(expm(A), expm(A, backend="reference"))  # the interpreter is forced, never picked
    monkeypatch.setenv("GANTEXT_BACKEND", "triton")
    assert torch.equal(expm(A), by_kernel(A))
    monkeypatch.setattr(matexp, "rounds_products", lambda *device: True)  # no switch reaches products of the kernel
    assert torch.equal(expm(A), by_kernel(A))


@compiler
def test_tiles_hold_every_matrix() -> None:
    from gantext.kernels import expm_triton

    for dtype, widest in WIDEST.items():
        for n in range(2, widest + 1):
            itemsize = dtype.itemsize
            for most in (expm_triton.FORWARD, expm_triton.ADJOINT):
                tile, warps = expm_triton.tiles(n, itemsize, most)
                assert n <= tile["N"] < max(2 * n, 3) and tile["DOT"] == (n > 8)
                size = tile["M"] * tile["N"] ** 2 * itemsize
                assert expm_triton.SMALLEST <= size <= warps * most and warps in (1, 2, 4, 8)
                assert warps == 1 or size == warps * most


@compiler
@pytest.mark.parametrize(
    ("capability", "n", "dtype"), [(75, 4, F32), (80, 8, F64), (80, 16, F32), (75, 32, F32), (90, 16, F64)]
)
def test_compiled_kernels_fit_their_registers(capability: int, n: int, dtype: torch.dtype) -> None:
    from gantext.kernels import expm_triton

    number, theta = f"*fp{8 * dtype.itemsize}", THETA18[dtype]
    types = dict.fromkeys("A G out grad means".split(), number) | {"counts": "*i32"}
    types |= dict.fromkeys("B n most a_b a_i a_j g_b g_i g_j".split(), "i32")
    for name, most, more in (
        ("forward_matrices", expm_triton.FORWARD, expm_triton.limits(dtype, n, theta)),
        ("adjoint_matrices", expm_triton.ADJOINT, {}),
    ):
        tile, warps = expm_triton.tiles(n, dtype.itemsize, most)
        used = cross_compile(getattr(expm_triton, name), types, {**tile, **more}, capability, warps)
        assert used.registers <= 65536 // (32 * max(8, warps)), f"{name}: {used.registers} registers"
        assert used.stack == used.spills == 0, f"{name}: {used.stack} bytes of stack, {used.spills} spills"
        assert used.count("HMMA", "IMMA", "QGMMA", "HGMMA") == 0, f"{name} rounds its products"
        assert used.count("ATOM", "RED") == 0, f"{name} uses atomics"
        assert used.count("FFMA", "DFMA", "DMMA") > 0, f"{name} multiplies nothing"
        assert used.count("LDG") > 0 and used.count("STG") > 0, f"{name} reads or writes nothing"
