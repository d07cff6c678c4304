"""The matrix exponential: the laws it obeys, its error beside PyTorch's, its gradients, and bad input."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import zip_longest
from typing import Any, cast

import _pretended
import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch
from _compare import assert_close, assert_not_worse, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gantext import matexp
from gantext.kernels import expm_eager, expm_scaling
from gantext.kernels.expm_formula import T18, THETA18, centred, composed
from gantext.matexp import expm, expm_ref, logdet_expm

F64 = torch.float64
REAL = [torch.float32, torch.float64]
FULL = [*REAL, torch.complex64, torch.complex128]
HALF = [torch.float16, torch.bfloat16]


@pytest.fixture
def matmul_precision() -> Iterator[Callable[[str], None]]:
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision("highest")


def eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def gaussian(*shape: int, scale: float = 1.0, dtype: torch.dtype = F64) -> Tensor:
    return scale * torch.randn(*shape, dtype=dtype) / max(1, shape[-1]) ** 0.5


def one_norm(A: Tensor) -> float:
    return A.abs().sum(-2).max().item()


def spread(n: int = 5, dtype: torch.dtype = F64) -> Tensor:
    """Sixteen matrices whose norms lie between 2^-10 and 2^5, in no order."""
    A = gaussian(16, n, n, dtype=dtype)
    powers = torch.randperm(16).to(dtype).sub_(10)
    return A / A.abs().sum(-2).amax(-1)[:, None, None] * torch.exp2(powers)[:, None, None]


def high_precision(A: Tensor) -> Tensor:
    """exp of each matrix with 50 digits, rounded to float64 or complex128."""
    wide = torch.complex128 if A.is_complex() else F64
    with mpmath.workdps(50):
        exact = [mpmath.expm(mpmath.matrix(X.tolist()), method="taylor") for X in A.reshape(-1, *A.shape[-2:])]
    number = complex if A.is_complex() else float
    rows = [[[number(x) for x in row] for row in X.tolist()] for X in exact]
    return torch.tensor(rows, dtype=wide).reshape(A.shape)


# --- the polynomial and the reference


class Polynomial:
    """A polynomial in one unknown with rational coefficients."""

    def __init__(self, *coefficients: Fraction | float) -> None:
        self.c = [Fraction(c) for c in coefficients]

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial(*(a + b for a, b in zip_longest(self.c, other.c, fillvalue=Fraction(0))))

    def __mul__(self, other: Polynomial) -> Polynomial:
        out = [Fraction(0)] * (len(self.c) + len(other.c) - 1)
        for i, a in enumerate(self.c):
            for j, b in enumerate(other.c):
                out[i + j] += a * b
        return Polynomial(*out)


def test_five_products_expand_to_the_taylor_polynomial() -> None:
    B1, B2, B3, B4, B5 = (Polynomial(*row[:4], 0, 0, row[4]) for row in T18)
    A9 = B1 * B5 + B4
    total = (B2 + (B3 + A9) * A9).c
    for k, c in enumerate(total[:19]):  # rational arithmetic on the float64 weights: nothing is rounded here
        assert abs(c * math.factorial(k) - 1) < 1e-15, f"coefficient {k} off by {float(c * math.factorial(k) - 1):.2e}"
    assert not any(total[19:])


def test_five_products_are_five(monkeypatch: pytest.MonkeyPatch) -> None:
    A, made = gaussian(4, 3, 3, scale=0.1), []
    with monkeypatch.context() as patched:
        for name in ("bmm", "baddbmm"):
            plain = getattr(torch, name)
            patched.setattr(torch, name, lambda *given, plain=plain, **more: made.append(1) or plain(*given, **more))
        expm(A)
    assert len(made) == 5

    class Count(TorchDispatchMode):
        products = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.products += func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
            return func(*args, **(kwargs or {}))

    with Count() as count:
        expm(A)  # a mode looks on: the formula that PyTorch differentiates itself
    assert count.products == 5


def test_reference_against_fifty_digits() -> None:
    A = gaussian(4, 5, 5, scale=3)
    assert_close(expm_ref(A), high_precision(A), 1e-14)
    C = torch.complex(gaussian(2, 4, 4), gaussian(2, 4, 4))
    assert_close(expm_ref(C), high_precision(C), 1e-14)
    edge = torch.full((3, 3), 1 / 6, dtype=F64)  # spectral radius and norm 1/2: the most the series must do unscaled
    assert_close(expm_ref(edge), high_precision(edge), 1e-15)


def test_reference_edges() -> None:
    assert expm_ref(torch.zeros(0, 3, 3)).shape == (0, 3, 3)
    assert torch.equal(expm_ref(torch.zeros(3, 3)), torch.eye(3))
    with pytest.raises(ValueError, match="1-norm nan, must be finite"):
        expm_ref(torch.full((2, 2), math.nan))


# --- accuracy beside PyTorch's own


def classes(n: int, dtype: torch.dtype) -> dict[str, Tensor]:
    G = gaussian(16, n, n, dtype=dtype)
    return {
        "tiny": 1e-4 * G,
        "gaussian": G,
        "large": 4 * G,
        "skew": 3 * (G - G.mT),
        "hermitian": 2 * (G + G.mH),
        "nilpotent": 8 * G.triu(1),
        "generator": 5 * (G.abs() - torch.diag_embed(G.abs().sum(-1))).to(dtype),  # zero row sums
        "mixed": spread(n, dtype),
    }


@pytest.mark.parametrize("n", [2, 3, 5, 17, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_single_precision_error_at_most_twice_torch(n: int, dtype: torch.dtype) -> None:
    for A in classes(n, dtype).values():
        ref = torch.cat([expm_ref(X[None].to(torch.complex128 if dtype.is_complex else F64)) for X in A])
        assert_not_worse(expm(A), torch.linalg.matrix_exp(A), ref)
        assert_not_worse(expm(A, squarings=8), torch.linalg.matrix_exp(A), ref)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_double_precision_error_at_most_twice_torch(n: int, dtype: torch.dtype) -> None:
    for A in classes(n, dtype).values():
        assert_not_worse(expm(A), torch.linalg.matrix_exp(A), high_precision(A))


def public(n: int = 6) -> dict[str, Tensor]:
    """Matrices that others test with, from their definitions; float64."""
    eye, ones = torch.eye(n, dtype=F64), torch.ones(n - 1, dtype=F64)
    up = torch.diag(ones, 1)
    G, T = torch.randn(n, n, dtype=F64), torch.randn(n, n, dtype=F64).triu(1)
    Q = torch.linalg.qr(G).Q
    scales = torch.logspace(-4, 4, n, dtype=F64)
    found = {
        "zero": 0 * eye,
        "identity": 300 * eye,
        "diagonal": torch.linspace(-9, 9, n, dtype=F64).diag(),
        "Jordan": up + 0.5 * eye,
        "Jordan, stable": up - 3 * eye,
        "Jordan, wide": 1e3 * up - eye,
        "companion": torch.cat([torch.linspace(-3, 3, n, dtype=F64)[None], eye[:-1]]),
        "Laplacian": n * n * (up + up.mT - 2 * eye),
        "path": up + up.mT - (up + up.mT).sum(0).diag(),
        "nilpotent": 1e3 * T,
        "graded": G * torch.logspace(2, -6, n, dtype=F64)[:, None],
        "scaled": scales[:, None] * G / scales,
        "triangular": T * torch.logspace(0, 6, n, dtype=F64) + G.diag().diag(),
        "nonnormal": Q @ (20 * T + G.diag().diag()) @ Q.mT,
        "nonnormal, stable": Q @ (20 * T - 30 * torch.rand(n, dtype=F64).diag()) @ Q.mT,
        "Forsythe": up + 1e-8 * eye[-1][:, None] * eye[0],
        "Grcar": eye + up + up @ up + up @ up @ up - up.mT,
        "Kahan": eye - 1.2 * torch.ones(n, n, dtype=F64).triu(1),
        "rotation": 200 * (up - up.mT),
        "Gauss": 4 * G,
        "Moler, Van Loan": torch.tensor([[-49, 24], [-64, 31]], dtype=F64),
        "Ward": torch.tensor([[-131, 19, 18], [-390, 56, 54], [-387, 57, 52]], dtype=F64),
        "control": torch.tensor([[0, 1e-8, 0], [-2e10 - 4e8 / 6, -3, 2e10], [200 / 3, 0, -200 / 3]], dtype=F64),
        # the companion matrix of jax-ml/jax#26802
        "companion, 1e19": torch.tensor(
            [[-0.06, -1.4e9, -1.2e19, 1e-12], [1e-12, 0, 0, 0], [0, 1e-12, 0, 0], [0, 0, 0, 0]], dtype=F64
        ),
    }
    for b in (1.0, 1e2, 1e4, 1e8, 1e12):
        for low, high in ((1.0, -1.0), (1.0, 2.0), (-0.7, -1.1)):
            found[f"{b:g} over {low:g}, {high:g}"] = torch.tensor([[low, b], [0.0, high]], dtype=F64)
    return found


def mp_error(X: Tensor, true: Any) -> float:
    """Normwise, in the 1-norm."""
    if not X.isfinite().all():
        return math.inf
    rows = X.to(torch.complex128 if X.is_complex() else F64).tolist()
    return float(mpmath.mnorm(mpmath.matrix(rows) - true, 1) / mpmath.mnorm(true, 1))


def counts(A: Tensor, dtype: torch.dtype) -> tuple[int, int]:
    """Squarings of one matrix, and how many its norm alone would ask for."""
    X, mean, norm = centred(A[None])
    asked = expm_scaling.squarings_by_norm(norm, mean, THETA18[dtype])
    used = int(expm_scaling.scaled_powers(X, mean, norm, THETA18[dtype], asked)[1].item())
    return used, max(0, math.ceil(math.log2(max(one_norm(A), 1e-9) / THETA18[dtype])))


@pytest.mark.parametrize("dtype", FULL)
def test_error_at_most_ten_times_scipys_with_fewer_squarings(dtype: torch.dtype) -> None:
    double = torch.complex128 if dtype.is_complex else F64
    real = F64 if dtype in (F64, torch.complex128) else torch.float32
    total = [0, 0]
    for name, A in public().items():
        A = (A * (1 + 0.5j) if dtype.is_complex else A).to(dtype)
        with mpmath.workdps(120):
            true = mpmath.expm(mpmath.matrix(A.to(double).tolist()), method="taylor")
            if mpmath.mnorm(true, 1) > torch.finfo(dtype).max:
                continue

            with np.errstate(all="ignore"):
                rival = mp_error(torch.from_numpy(scipy.linalg.expm(A.numpy())), true)
            if torch.equal(A, A.diagonal().diag()):  # where SciPy takes the entries' exponentials, without a matrix's
                rival = max(rival, eps(dtype) / 2 * one_norm(A))
            limit = 10 * max(rival, 2 * eps(dtype))
            if name.startswith(("nonnormal", "triangular")):
                limit = math.inf  # left to the next tests: of one draw, both errors are luck
            if name == "graded":  # below what its condition allows both are luck, and each processor's own
                limit = max(limit, float(scipy.linalg.expm_cond(A.to(double).numpy())) * eps(dtype))
            found = {"chosen": expm(A), "given": expm(A, squarings=12), "batched": expm(torch.stack([0 * A, A]))[1]}
            for route, X in found.items():
                assert mp_error(X, true) <= limit, (
                    f"{name}, {route}: error {mp_error(X, true):.1e}, SciPy's {rival:.1e}"
                )
        used, by_norm = counts(A, real)
        assert used <= by_norm, name
        total = [total[0] + used, total[1] + by_norm]
    assert total[0] < total[1] / 2


@pytest.mark.parametrize("dtype", REAL)
def test_few_squarings_are_counted_by_the_norm_and_need_no_bounds(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, closer = [], expm_scaling.squarings_by_powers
    spy = lambda powers, *rest, **how: seen.append(len(powers[0])) or closer(powers, *rest, **how)
    for module in (expm_eager, expm_scaling):
        monkeypatch.setattr(module, "squarings_by_powers", spy)
    A = gaussian(8, 6, 6, dtype=F64)
    calm = (A * (THETA18[dtype] * 7.9 / one_norm(A))).to(dtype)
    wild = torch.block_diag(torch.tensor([[1, 1e7], [0, -1]], dtype=dtype), torch.eye(4, dtype=dtype) / 4)
    alone = expm(calm)
    assert not seen  # at most three squarings each
    both = expm(torch.cat([calm, wild[None]]))
    assert seen == [1] and torch.equal(both[:8], alone)  # and the same three beside a matrix that asks for bounds
    assert torch.equal(both, expm(torch.cat([calm, wild[None]]), squarings=4))
    many = torch.cat([calm[:2], wild.expand(6, -1, -1)])
    assert torch.equal(expm(many), torch.cat([both[:2], both[8:].expand(6, -1, -1)]))
    assert seen[2:] == [8]  # most ask for them: then all are looked at, to the same end
    theta, scale = THETA18[dtype], 4 * eps(dtype)
    assert_close(composed(torch.cat([calm, wild[None]]), None, theta), both, scale)
    assert_close(composed(calm, None, theta), alone, scale)
    assert seen[3:] == [9]


def nonnormal() -> Tensor:
    T, G = torch.randn(6, 6, dtype=F64).triu(1), torch.randn(6, 6, dtype=F64)
    Q = torch.linalg.qr(G).Q
    return Q @ (20 * T + G.diag().diag()) @ Q.mT


def triangular() -> Tensor:
    return public()["triangular"]


@pytest.mark.parametrize(("draw", "below"), [(nonnormal, 1), (triangular, 16)])
def test_error_is_scipys_on_average_and_below_pytorchs(draw: Callable[[], Tensor], below: float) -> None:
    logs = []
    for _ in range(40):
        A = draw()
        exact = high_precision(A)
        both = expm(A), torch.from_numpy(scipy.linalg.expm(A.numpy())), torch.linalg.matrix_exp(A)
        logs.append([math.log2(max(relative_error(X, exact), eps(F64) / 8)) for X in both])
    gap = torch.tensor([ours - rival for ours, rival, _ in logs])
    ours, rival, torchs = torch.tensor(logs).mean(0).tolist()
    found = f"2^{ours:.1f}, SciPy 2^{rival:.1f}, PyTorch 2^{torchs:.1f}"
    assert gap.mean() < 0.5 + 2 * gap.std() / len(gap) ** 0.5, found  # a single gap varies by two bits
    assert ours < torchs - below, found


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("dtype", FULL)
def test_graded_triangular_matrices_lose_no_digits_to_squarings(dtype: torch.dtype, n: int) -> None:
    real = F64 if dtype in (F64, torch.complex128) else torch.float32
    theta = THETA18[real]
    for _ in range(5):
        A = public(n)["triangular"]
        A = (A * (1 + 0.5j) if dtype.is_complex else A).to(dtype)
        with mpmath.workdps(60):
            X, power, asked = mpmath.matrix(A.tolist()), mpmath.eye(n), 0.0
            for k in range(1, 37):  # the least s for which ||X^k|| <= (2^s theta)^k from k = 18 on
                power = power * X
                if k >= 18:
                    asked = max(asked, float(mpmath.log(mpmath.mnorm(power, 1), 2)) / k - math.log2(theta))
        assert -1 <= counts(A, real)[0] - math.ceil(asked) <= 2
        assert relative_error(expm(A), high_precision(A)) <= n * 2**asked * eps(dtype)


def test_squarings_that_the_docstring_and_the_review_name() -> None:
    assert counts(torch.tensor([[1.0, 1e12], [0.0, -1.0]]), torch.float32) == (1, 39)
    assert counts(torch.tensor([[1.0, 1e8], [0.0, -1.0]]), torch.float32) == (0, 25)  # as the chapter says
    assert counts(public()["companion, 1e19"], F64) == (0, 64)
    turn = torch.tensor([[0.0, -40.0], [40.0, 0.0]])  # normal and without a mean: all that the norm asks for
    assert counts(turn, torch.float32) == (4, 4)


def test_gradients_are_scipys_frechet_derivatives() -> None:
    for name, A in public().items():
        if one_norm(A) > 1e6:
            continue
        X, G = A.clone().requires_grad_(), torch.randn_like(A)
        (grad,) = torch.autograd.grad(expm(X), X, G)
        n = len(A)
        block = torch.zeros(2 * n, 2 * n, dtype=F64)  # its exponential holds that of A^T along G, the gradient
        block[:n, :n], block[n:, n:], block[:n, n:] = A.mT, A.mT, G
        with mpmath.workdps(80):
            exact = mpmath.expm(mpmath.matrix(block.tolist()), method="taylor").tolist()
        exact = torch.tensor([[float(x) for x in row[n:]] for row in exact[:n]], dtype=F64)
        rival = scipy.linalg.expm_frechet(A.mT.numpy(), G.numpy(), compute_expm=False)
        errors = [one_norm(torch.as_tensor(X) - exact) / one_norm(exact) for X in (grad, rival)]
        assert errors[0] <= 10 * max(errors[1], 2 * eps(F64)), f"{name}: {errors[0]:.1e}, SciPy's {errors[1]:.1e}"


@pytest.mark.parametrize("dtype", REAL)
def test_extremes_of_the_range_stay_in_range(dtype: torch.dtype) -> None:
    far, top = (1e20, 1e38) if dtype is torch.float32 else (1e150, 1e307)
    for A in ([[0, top], [0, 0]], [[1, far], [0, -1]], [[-1, far], [0, -2]], [[0, far], [1 / far, 0]]):
        X = torch.tensor(A, dtype=dtype)
        with mpmath.workdps(400):
            true = mpmath.expm(mpmath.matrix(X.tolist()), method="taylor").tolist()
        ref = torch.tensor([[float(x) for x in row] for row in true], dtype=F64) / X.max().item()
        s, by_norm = counts(X, dtype)
        assert s <= by_norm / (6 if X.max() < top else 2)  # once in the bound, as in A^6; at the top of the range, more
        assert_close(expm(X).double() / X.max().item(), ref, 4 * 2**s * eps(dtype))
    for A in ([[1, top], [0, -1]], [[-1, top], [0, -2]], [[-300, top], [0, -300]]):  # overscaled, but numbers
        assert expm(torch.tensor(A, dtype=dtype)).isfinite().all()


@pytest.mark.parametrize("b", [1e2, 1e4])
def test_non_normal(b: float) -> None:
    A = torch.tensor([[1.0, b], [0.0, 2.0]]).expand(2, 2, 2)
    ref = high_precision(A)
    ours, rival = expm(A), torch.linalg.matrix_exp(A)
    for i in (0, 1):  # entrywise, where the norm would hide it
        error, limit = ((X[0, i, i] - ref[0, i, i]).abs().item() / ref[0, i, i].item() for X in (ours, rival))
        assert error <= 2 * limit + 4 * eps(torch.float32)


def test_one_large_matrix_costs_its_neighbours_no_digits() -> None:
    A = gaussian(8, 4, 4, scale=0.5, dtype=torch.float32)
    batch = torch.cat([A, 2.0**12 * gaussian(1, 4, 4, dtype=torch.float32).triu(1)])
    for out in (expm(batch), expm(batch, squarings=14)):
        assert_close(out[:8], expm_ref(A.double()), 10 * eps(torch.float32))
    assert relative_error(expm_ref(batch)[:8], expm_ref(A.double())) > 100 * eps(
        torch.float32
    )  # one s for all: they lose


def test_double_on_request() -> None:
    A = gaussian(8, 6, 6, scale=12, dtype=torch.float32)
    out, ref = expm(A, compute_dtype=F64), expm_ref(A.double())
    assert out.dtype == torch.float32
    assert_close(out, ref, eps(torch.float32))
    assert relative_error(expm(A), ref) > 2 * eps(torch.float32)
    C = torch.complex(A, A)
    assert_close(expm(C, compute_dtype=F64), expm_ref(C.to(torch.complex128)), eps(torch.float32))


# --- laws


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("n", [2, 3, 7, 16])
def test_laws(n: int, dtype: torch.dtype) -> None:
    tol = 400 * eps(dtype)
    A, B = gaussian(3, n, n, dtype=dtype), gaussian(3, n, n, dtype=dtype)
    eye = torch.eye(n, dtype=dtype).expand_as(A)
    P = eye + 0.3 * B
    E = expm(A)
    assert_close(E @ expm(-A), eye, tol)
    assert_close(expm(A.mT), E.mT, tol)
    assert_close(expm(A.mH), E.mH, tol)
    assert_close(expm(P @ A @ torch.linalg.inv(P)), P @ E @ torch.linalg.inv(P), 10 * tol)
    assert_close(expm(A + A @ A), E @ expm(A @ A), 10 * tol)  # A and A^2 commute
    assert_close(expm(3 * A), E @ E @ E, 10 * tol)
    block = torch.zeros(3, 2 * n, 2 * n, dtype=dtype)
    block[:, :n, :n], block[:, n:, n:] = A, B
    out = expm(block)
    assert_close(out[:, :n, :n], E, tol)
    assert_close(out[:, n:, n:], expm(B), tol)
    assert not out[:, :n, n:].any() and not out[:, n:, :n].any()


def test_matrices_that_do_not_commute_break_the_sum() -> None:
    A, B = gaussian(2, 1, 4, 4)
    assert relative_error(expm(A + B), expm(A) @ expm(B)) > 1e-2


@pytest.mark.parametrize("dtype", REAL)
def test_zero_diagonal_nilpotent(dtype: torch.dtype) -> None:
    zero = torch.zeros(2, 5, 5, dtype=dtype)
    assert_close(expm(zero), torch.eye(5, dtype=dtype).expand(2, 5, 5), 2 * eps(dtype))
    d = torch.linspace(-2, 9, 5, dtype=dtype)
    assert torch.allclose(expm(d.diag()).diagonal(), d.exp(), rtol=100 * eps(dtype), atol=0)
    N = torch.tensor([[0, 3, 5], [0, 0, 7], [0, 0, 0]], dtype=dtype)
    assert_close(expm(N), torch.eye(3, dtype=dtype) + N + N @ N / 2, 20 * eps(dtype))  # the series stops: N^3 = 0


@pytest.mark.parametrize("dtype", REAL)
def test_skew_gives_rotations(dtype: torch.dtype) -> None:
    A = gaussian(4, 6, 6, scale=2, dtype=dtype)
    Q = expm(A - A.mT)
    assert_close(Q @ Q.mT, torch.eye(6, dtype=dtype).expand_as(Q), 200 * eps(dtype))
    assert torch.allclose(torch.linalg.det(Q), torch.ones(4, dtype=dtype), rtol=0, atol=200 * eps(dtype))
    angle = torch.tensor(0.7, dtype=dtype)
    turn = expm(angle * torch.tensor([[0, -1], [1, 0]], dtype=dtype))
    exact = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    assert_close(turn, exact, 4 * eps(dtype))


# --- log det exp A = Tr A


def test_determinant_is_the_exponential_of_the_trace() -> None:
    A = gaussian(6, 5, 5)
    sign, value = torch.linalg.slogdet(expm(A))
    assert torch.equal(sign, torch.ones(6, dtype=F64))
    assert torch.allclose(value, logdet_expm(A), rtol=0, atol=1e-12)
    flat = A - logdet_expm(A)[:, None, None] / 5 * torch.eye(5, dtype=F64)
    assert torch.allclose(torch.linalg.det(expm(flat)), torch.ones(6, dtype=F64), rtol=0, atol=1e-12)


def test_gradient_of_logdet_is_the_identity() -> None:
    A = gaussian(3, 4, 4).requires_grad_()
    eye = torch.eye(4, dtype=F64).expand(3, 4, 4)
    (direct,) = torch.autograd.grad(logdet_expm(A).sum(), A)
    assert torch.equal(direct, eye)
    (through,) = torch.autograd.grad(torch.linalg.slogdet(expm(A)).logabsdet.sum(), A)
    assert_close(through, eye, 1e-12)


def test_slogdet_loses_every_digit_where_the_trace_loses_none() -> None:
    Q = torch.linalg.qr(gaussian(8, 8)).Q
    A = (Q @ torch.linspace(-20, 20, 8, dtype=F64).add(1).diag() @ Q.mT).float()  # trace 8, eigenvalues 40 apart
    exact = A.double().trace().item()
    assert abs(logdet_expm(A).item() - exact) < 1e-5
    assert abs(torch.linalg.slogdet(expm(A)).logabsdet.item() - exact) > 8
    assert abs(torch.linalg.slogdet(torch.linalg.matrix_exp(A)).logabsdet.item() - exact) > 8


@pytest.mark.parametrize("dtype", [*HALF, *FULL])
def test_logdet_dtype_and_shape(dtype: torch.dtype) -> None:
    A = gaussian(2, 3, 700, 700).to(dtype)
    A.diagonal(dim1=-2, dim2=-1).add_(1)
    out = logdet_expm(A)
    assert out.shape == (2, 3) and out.dtype == (torch.float32 if dtype in HALF else dtype)
    ref = A.to(torch.complex128).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert torch.allclose(out.to(torch.complex128), ref, rtol=2e-6, atol=0)
    assert logdet_expm(A[..., :0, :0]).tolist() == [[0, 0, 0], [0, 0, 0]]


# --- gradients


@pytest.mark.parametrize("squarings", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradcheck_and_gradgradcheck(dtype: torch.dtype, squarings: int | None) -> None:
    A = torch.stack([0.2 * gaussian(3, 3, dtype=dtype), 3 * gaussian(3, 3, dtype=dtype), gaussian(3, 3, dtype=dtype)])
    assert len({math.ceil(math.log2(one_norm(X) / THETA18[F64])) for X in A}) == 3  # three counts: the batch is sorted
    A.requires_grad_()
    assert torch.autograd.gradcheck(lambda X: expm(X, squarings=squarings), (A,))
    assert torch.autograd.gradgradcheck(lambda X: expm(X, squarings=squarings), (A,))


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize("squarings", [None, 8])
def test_gradient_equals_torchs(dtype: torch.dtype, squarings: int | None) -> None:
    A, G = spread(6, dtype), gaussian(16, 6, 6, dtype=dtype)

    def gradient(f: Callable[[Tensor], Tensor], X: Tensor) -> Tensor:
        X = X.detach().requires_grad_()
        return torch.autograd.grad(f(X), X, G.to(X.dtype))[0]

    ours, rival = (gradient(f, A) for f in (lambda X: expm(X, squarings=squarings), torch.linalg.matrix_exp))
    if dtype in (torch.float32, torch.complex64):
        wide = torch.complex128 if dtype.is_complex else F64
        assert_not_worse(ours, rival, gradient(torch.linalg.matrix_exp, A.to(wide)))
    else:
        assert_close(ours, rival, 1e-13)


@pytest.mark.parametrize("dtype", FULL)
def test_written_out_derivative_is_the_products_own(dtype: torch.dtype) -> None:
    real = F64 if dtype in (F64, torch.complex128) else torch.float32
    for A in classes(5, dtype).values():
        A, G = A.clone().requires_grad_(), gaussian(len(A), 5, 5, dtype=dtype)
        out = expm(A)
        (grad,) = torch.autograd.grad(out, A, G, retain_graph=True)
        (again,) = torch.autograd.grad(out, A, G, retain_graph=True)
        (graphed,) = torch.autograd.grad(out, A, G, create_graph=True)
        assert torch.equal(grad, again) and not grad.requires_grad and graphed.requires_grad
        plain = composed(A, None, THETA18[real])
        assert_close(out, plain.detach(), 1e3 * eps(dtype))
        assert_close(grad, torch.autograd.grad(plain, A, G)[0], 1e3 * eps(dtype))
        assert_close(grad, graphed.detach(), 1e3 * eps(dtype))


@pytest.mark.parametrize("squarings", [None, 9])
def test_a_batch_of_gradients_is_each_of_them(squarings: int | None) -> None:
    A, G = spread(4).requires_grad_(), gaussian(3, 16, 4, 4)
    out = expm(A, squarings=squarings)
    each = torch.stack([torch.autograd.grad(out, A, g, retain_graph=True)[0] for g in G])
    (batched,) = torch.autograd.grad(out, A, G, is_grads_batched=True, retain_graph=True)
    assert_close(batched, each, 1e-13)
    (graphed,) = torch.autograd.grad(out, A, G, is_grads_batched=True, create_graph=True)
    assert_close(graphed.detach(), each, 1e-13)
    assert_close(torch.func.vmap(lambda g: torch.autograd.grad(out, A, g, retain_graph=True)[0])(G), each, 1e-13)
    loss = lambda A: expm(A, squarings=squarings).square().sum()
    small = A.detach()[:2]
    each, batched = (torch.autograd.functional.hessian(loss, small, vectorize=many) for many in (False, True))
    torch.testing.assert_close(batched, each, rtol=1e-12, atol=1e-12)


def test_result_may_be_changed_in_place() -> None:
    A = spread(4).requires_grad_()
    (want,) = torch.autograd.grad((3 * expm(A)).sum(), A)
    for squarings in (None, 8):
        assert_close(torch.autograd.grad(expm(A, squarings=squarings).mul_(3).sum(), A)[0], want, 1e-13)


def test_a_private_name_of_pytorch_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    A = spread(4)
    want = expm(A)
    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")
    monkeypatch.setattr(expm_eager, "exponential", lambda *given: pytest.fail("the formula serves"))
    assert_close(expm(A), want, 1e-14)
    monkeypatch.undo()
    A.requires_grad_()
    (grad,) = torch.autograd.grad(expm(A).sum(), A)
    monkeypatch.delattr(cast(Any, torch._C)._functorch, "is_legacy_batchedtensor")
    assert_close(torch.autograd.grad(expm(A).sum(), A)[0], grad, 1e-13)


def test_parts_of_a_batch_are_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    A = torch.cat([spread(4), spread(4)]).requires_grad_()
    G = gaussian(32, 4, 4)
    whole = expm(A)
    (grad,) = torch.autograd.grad(whole, A, G)
    monkeypatch.setattr(expm_eager, "PART", 16 * 5 // torch.get_num_threads())
    parts = expm(A)
    # to the bit on most processors; on some a product of another number of matrices rounds otherwise
    assert_close(parts, whole, 1e-14)
    assert_close(expm(A.detach()), whole, 1e-14)
    assert_close(torch.autograd.grad(parts, A, G)[0], grad, 1e-14)


@pytest.mark.parametrize("squarings", [None, 2])
def test_derivative_at_zero_is_the_identity_map(squarings: int | None) -> None:
    A, G = torch.zeros(2, 4, 4, dtype=F64, requires_grad=True), gaussian(2, 4, 4)
    assert_close(torch.autograd.grad(expm(A, squarings=squarings), A, G)[0], G, 1e-15)


def test_functorch_transforms() -> None:
    A = gaussian(3, 4, 4)

    def one(X: Tensor) -> Tensor:
        return expm(X, squarings=4)

    assert_close(torch.func.vmap(one)(A), expm(A), 1e-14)
    with pytest.raises(ValueError, match="squarings is None, must be an int under"):
        torch.func.vmap(expm)(A)
    E = gaussian(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch 2.13 scripts its own decompositions on first use
        tangent = torch.func.jvp(one, (A[0],), (E,))[1]
    block = torch.zeros(8, 8, dtype=F64)  # exp [[A, E], [0, A]] holds the derivative of exp at A along E
    block[:4, :4], block[4:, 4:], block[:4, 4:] = A[0], A[0], E
    assert_close(tangent, expm_ref(block)[:4, 4:], 1e-13)


# --- half types, autocast, reduced products


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("batch", [1, 5])
def test_half_types(dtype: torch.dtype, batch: int) -> None:
    A = gaussian(batch, 8, 8, scale=0.2).to(dtype).requires_grad_()
    out, ref = expm(A), expm_ref(A.detach().double())
    assert out.dtype == dtype
    assert_close(out, ref, eps(dtype))
    (grad,) = torch.autograd.grad(out.float().square().sum(), A)
    wide = A.detach().double().requires_grad_()
    assert_close(grad, torch.autograd.grad(torch.linalg.matrix_exp(wide).square().sum(), wide)[0], 2 * eps(dtype))
    if torch.__version__.startswith("2.13.0"):  # what makes the cast necessary; a later release may refuse or be right
        naive = relative_error(torch.linalg.matrix_exp(A), ref)
        assert not naive < 1e4, f"torch.linalg.matrix_exp is right on {dtype} (error {naive:.1e}): the text must say so"


@pytest.mark.parametrize("squarings", [None, 3])
def test_autocast_changes_nothing(squarings: int | None) -> None:
    A = gaussian(4, 8, 8, dtype=torch.float32).requires_grad_()

    def derivatives() -> list[Tensor]:
        out = expm(A, squarings=squarings)
        (alone,) = torch.autograd.grad(out.square().sum(), A, retain_graph=True)
        (first,) = torch.autograd.grad(out.square().sum(), A, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), A)
        return [out, alone, first, second]

    plain = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (A @ A).dtype == torch.bfloat16  # autocast does reach a bare product
        assert all(torch.equal(X, Y) for X, Y in zip(derivatives(), plain, strict=True))
        out = expm(A, squarings=squarings)
    assert torch.equal(torch.autograd.grad(out.square().sum(), A)[0], plain[1])
    out = expm(A, squarings=squarings)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the backward pass alone
        assert torch.equal(torch.autograd.grad(out.square().sum(), A)[0], plain[1])


def test_autocast_does_not_reach_a_compiled_backward_pass() -> None:
    warnings.filterwarnings("ignore", ".* should not be instantiated", DeprecationWarning)  # dynamo's own making of one
    compiled = torch.compile(lambda X: expm(X, squarings=2), fullgraph=True, backend="aot_eager")
    A = gaussian(4, 8, 8, dtype=torch.float32).requires_grad_()
    (want,) = torch.autograd.grad(expm(A, squarings=2).square().sum(), A)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (grad,) = torch.autograd.grad(compiled(A).square().sum(), A)
    assert_close(grad, want, 8 * eps(torch.float32))


def test_global_reduced_precision_is_met_with_float64(matmul_precision: Callable[[str], None]) -> None:
    A = gaussian(4, 8, 8, scale=2, dtype=torch.float32)
    assert not matexp.rounds_products("cpu", None)
    plain = relative_error(expm(A, squarings=3), expm_ref(A.double()))
    for setting in ("high", "medium"):
        matmul_precision(setting)
        assert matexp.rounds_products("cpu", None)
        out = expm(A, squarings=3)
        assert out.dtype == torch.float32
        assert relative_error(out, expm_ref(A.double())) < min(plain, eps(torch.float32))
        assert torch.get_float32_matmul_precision() == setting
    # theta is that of the precision asked for: the same squarings cover the same matrices under every setting
    edge = A / one_norm(A) * THETA18[torch.float32] * 2**3 * 0.999
    assert expm(edge, squarings=3).isfinite().all()


# --- shapes, strides, hostile values


@given(
    batch=st.lists(st.integers(0, 3), max_size=3),
    n=st.integers(0, 6),
    scale=st.sampled_from([1e-6, 0.5, 5.0]),
    dtype=st.sampled_from(FULL),
    layout=st.sampled_from(["plain", "transposed", "sliced", "expanded"]),
    squarings=st.sampled_from([None, 6]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_shapes_and_strides(
    batch: list[int], n: int, scale: float, dtype: torch.dtype, layout: str, squarings: int | None
) -> None:
    A = gaussian(*batch, n, n, scale=scale, dtype=dtype)
    if layout == "transposed":
        A = A.mT
    elif layout == "sliced":
        A = torch.stack([A, A + 1], -1)[..., 0]
    elif layout == "expanded":
        A = A.expand(2, *A.shape)
    out = expm(A, squarings=squarings)
    assert out.shape == A.shape and out.dtype == dtype
    assert_close(out, torch.linalg.matrix_exp(A.contiguous()), 60 * eps(dtype))  # torch refuses some expanded input


def test_input_is_left_alone() -> None:
    A = gaussian(4, 3, 3)
    before = A.clone()
    expm(A)
    assert torch.equal(A, before)
    assert expm(A[:0]).shape == (0, 3, 3) and expm(A[:, :0, :0]).shape == (4, 0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("squarings", [None, 6])
def test_a_bad_matrix_spoils_only_itself(value: float, squarings: int | None) -> None:
    good = spread(4)
    bad = good.clone()
    bad[3, 1, 2] = value
    bad.requires_grad_()
    out = expm(bad, squarings=squarings)
    rest = torch.arange(16) != 3
    assert out[3].isnan().all()
    assert_close(out[rest], expm(good)[rest], 1e-14)
    (grad,) = torch.autograd.grad(out.sum(), bad)
    clean = good.requires_grad_()
    assert grad[3].isnan().all()
    assert_close(grad[rest], torch.autograd.grad(expm(clean).sum(), clean)[0][rest], 1e-13)


def test_width_one_is_the_scalar_exponential() -> None:
    a = torch.tensor([0.0, 3.0, -math.inf, math.inf, math.nan, 89.0])
    assert torch.equal(expm(a[:, None, None])[:, 0, 0].nan_to_num(-1), a.exp().nan_to_num(-1))


def test_overflow_is_not_hidden() -> None:
    out = expm(torch.diag(torch.tensor([100.0, -100.0])))
    assert out[0, 0] == math.inf and logdet_expm(torch.diag(torch.tensor([100.0, -100.0]))) == 0
    assert expm(torch.full((2, 2), 12.0, dtype=torch.float16)).isinf().all()  # e^24 / 2 > 65504, finite in float32
    shear = torch.tensor([[0.0, 3e38], [0.0, 0.0]])  # a norm at the edge of float32, an exponential that fits
    assert_close(expm(shear), shear + torch.eye(2), eps(torch.float32))
    assert expm(torch.full((4, 4), 3e38)).isnan().all()  # the norm itself overflows


def test_too_few_squarings_become_nan() -> None:
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # normal: its powers are as large as its norm says
    A = torch.stack([3.9 * turn, 4.1 * turn]) * THETA18[torch.float32]
    out = expm(A, squarings=2)
    assert out[0].isfinite().all() and out[1].isnan().all()
    assert expm(A, squarings=3).isfinite().all()


# --- on a GPU, where each operation costs a launch

FREE = set(  # no launch
    "_conj _unsafe_view alias as_strided detach diagonal empty empty_like expand lift_fresh new_empty permute select "
    "slice split split_with_sizes t transpose unbind unfold unsqueeze view view_as_real".split()
)
READS = {"_local_scalar_dense", "nonzero", "to the CPU"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is launched on a GPU that is not there, where nothing looks on, and what is read from it."""
    pytest.importorskip("accelerate", reason="the pretended GPU needs it")
    if not _pretended.POSSIBLE:
        pytest.skip("this PyTorch lacks what a pretended GPU is made of")
    names, plain = Counter[str](), _pretended.perform

    def spy(func: Any, args: Any, kwargs: Any) -> Any:
        name = func.overloadpacket.__name__
        there = any(isinstance(t, _pretended.Pretended) for t in tree_leaves((args, kwargs)))
        if name == "_to_copy" and there:
            name = "to the CPU"
        elif name == "_to_copy":
            name = "from the CPU"
        if name not in FREE and (there or "device" in kwargs):
            names[name] += 1
        return plain(func, args, kwargs)

    monkeypatch.setattr(_pretended, "perform", spy)
    monkeypatch.setattr(matexp, "unobserved", lambda *tensors: True)
    monkeypatch.setattr(expm_eager, "WEIGHTS", dict(expm_eager.WEIGHTS))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return names


@pytest.mark.parametrize("dtype", FULL)
@pytest.mark.parametrize(
    ("kind", "squarings", "forward", "backward"),
    [
        ("calm", None, 23, 20),  # as many products as they are; torch.linalg.matrix_exp takes about 70 forward
        ("centred", None, 40, 20),
        ("wild", None, 65, 24),
        ("mixed", None, 95, 40),
        ("bad", None, 35, 30),
        ("mixed", 6, 180, 32),
        ("bad", 6, 180, 32),
    ],
)
def test_on_a_gpu_few_operations_give_the_bits_of_a_cpu(
    kind: str, squarings: int | None, forward: int, backward: int, dtype: torch.dtype, launched: Counter[str]
) -> None:
    A, G = gaussian(16, 40, 40, dtype=dtype), gaussian(16, 40, 40, dtype=dtype)
    theta = THETA18[F64 if dtype in (F64, torch.complex128) else torch.float32]
    if kind == "mixed":
        A = spread(40, dtype)
    elif kind == "centred":
        A[::2] -= 3 * torch.eye(40)
    else:
        A = A / A.abs().sum(-2).amax(-1)[:, None, None] * theta * (30 if kind == "wild" else 3.5)
    if kind == "bad":
        A[3, 2, 1] = math.nan
    A.requires_grad_()
    out = composed(A, squarings, theta) if squarings else expm_eager.exponential(A, None, theta)
    (grad,) = torch.autograd.grad(out, A, G)
    with _pretended.gpu():
        X, H = A.detach().cuda().requires_grad_(), G.cuda()
        expm(X[:1], squarings=squarings)  # the first copies the weights there
        launched.clear()
        Y = expm(X, squarings=squarings)
        assert sum(launched.values()) <= forward, launched
        assert squarings is None or not launched.keys() & {*READS, "from the CPU"}, launched
        launched.clear()
        (found,) = torch.autograd.grad(Y, X, H)
        assert sum(launched.values()) <= backward, launched
        assert not launched.keys() & {*READS, "from the CPU"}, launched
        Y, found = Y.detach().cpu(), found.cpu()
    good = torch.arange(16) != (3 if kind == "bad" else -1)
    assert Y[~good].isnan().all() and found[~good].isnan().all()
    for ours, cpu in ((Y[good], out.detach()[good]), (found[good], grad[good])):
        assert_close(ours, cpu, 8 * eps(dtype)) if squarings else torch.testing.assert_close(ours, cpu, rtol=0, atol=0)


def test_a_capture_copies_nothing_from_the_cpu(launched: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    A = spread(40)
    with _pretended.gpu():
        X = A.cuda().requires_grad_()
        launched.clear()
        want = expm(X, squarings=6)
        assert launched["from the CPU"] == 1 and expm_eager.WEIGHTS.pop((F64, X.device)).shape == (5, 4)
        launched.clear()
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            Y = expm(X, squarings=6)
            torch.autograd.grad(Y.sum(), X)
        assert not launched.keys() & {*READS, "from the CPU"} and torch.equal(Y.cpu(), want.cpu())
        assert (F64, X.device) not in expm_eager.WEIGHTS  # no number is in it before the first replay


# --- graphs


def test_given_squarings_nothing_is_read_back() -> None:
    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    reads = {"_local_scalar_dense", "nonzero", "lift_fresh", "unique_consecutive", "masked_select"}
    names: set[str] = set()
    with Seen():
        expm(spread(4), squarings=6)
    assert "bmm" in names and not names & reads, names & reads
    with pytest.raises(ValueError, match="expm: A is on the device meta, must hold numbers"):
        expm(torch.empty(4, 3, 3, device="meta"))  # chosen counts are read
    assert expm(torch.empty(4, 3, 3, device="meta"), squarings=2).shape == (4, 3, 3)  # no data to read at all


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_in_one_graph(dtype: torch.dtype, matmul_precision: Callable[[str], None]) -> None:
    warnings.filterwarnings("ignore", ".* should not be instantiated", DeprecationWarning)  # dynamo's own making of one
    compiled = torch.compile(lambda X: expm(X, squarings=3), fullgraph=True, backend="aot_eager")
    A = gaussian(4, 6, 6).to(dtype).requires_grad_()
    for setting in ("highest", "high"):  # changing the switch must retrace
        matmul_precision(setting)
        out = compiled(A)
        want = expm(A, squarings=3)
        assert_close(out, want, eps(dtype))
        assert_close(torch.autograd.grad(out.sum(), A)[0], torch.autograd.grad(want.sum(), A)[0], 4 * eps(dtype))


# --- bad input: argument, value received, rule, remedy

SQUARE = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: expm(cast(Any, [[1.0]])), TypeError, ["A is [[1.0]] (list), must be a Tensor", "as_tensor"]),
        (lambda: expm(torch.ones(2, 2, dtype=torch.long)), TypeError, ["A has dtype torch.int64", "float32", "A.to("]),
        (lambda: expm(torch.ones(2, 2, dtype=torch.bool)), TypeError, ["A has dtype torch.bool", "A.to("]),
        (lambda: expm(torch.ones(2)), ValueError, ["A has shape (2,)", "(..., n, n)", "Put"]),
        (lambda: expm(torch.ones(4, 2, 3)), ValueError, ["A has shape (4, 2, 3)", "(..., n, n)", "Put"]),
        (lambda: expm(torch.ones(2, 2).to_sparse()), ValueError, ["layout torch.sparse_coo", "A.to_dense()"]),
        (lambda: expm(SQUARE, squarings=-1), ValueError, ["squarings is -1", "int >= 0", "docstring"]),
        (lambda: expm(SQUARE, squarings=cast(Any, 2.0)), TypeError, ["squarings is 2.0 (float)", "an int >= 0"]),
        (lambda: expm(SQUARE, squarings=True), TypeError, ["squarings is True (bool)", "an int >= 0"]),
        (lambda: expm(SQUARE, compute_dtype=torch.float16), TypeError, ["compute_dtype is torch.float16", "float64"]),
        (
            lambda: expm(SQUARE.double(), compute_dtype=torch.float32),
            ValueError,
            ["compute_dtype is torch.float32", "torch.float64", "convert A first"],
        ),
        (lambda: expm_ref(torch.ones(3)), ValueError, ["expm_ref: A has shape (3,)"]),
        (lambda: logdet_expm(torch.ones(3)), ValueError, ["logdet_expm: A has shape (3,)"]),
        (lambda: logdet_expm(cast(Any, 3.0)), TypeError, ["logdet_expm: A is 3.0 (float), must be a Tensor"]),
    ],
)
def test_bad_input_is_refused_in_words(call: Callable[[], Tensor], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_the_default_dtype_changes_nothing() -> None:
    A = spread(dtype=torch.float32)
    want = [expm(A), expm(A, squarings=6), expm_ref(A), logdet_expm(A)]
    torch.set_default_dtype(F64)
    try:
        found = [expm(A), expm(A, squarings=6), expm_ref(A), logdet_expm(A)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(X.dtype == torch.float32 and torch.equal(X, Y) for X, Y in zip(found, want, strict=True))


def test_numpys_integers_are_integers() -> None:
    A = spread()
    assert torch.equal(expm(A, squarings=cast(int, np.int64(6))), expm(A, squarings=6))
