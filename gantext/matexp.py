"""The matrix exponential of a batch, differentiable any number of times, and the log-determinant that needs none.

The chapter is `det-exp`: det exp A = exp Tr A. One rule, three routes: passes written out
(`gantext.kernels.expm_eager`), Triton kernels for small real matrices on a GPU (`gantext.kernels.expm_triton`), and
plain operations wherever PyTorch itself is to trace, transform or differentiate again (`gantext.kernels.expm_formula`).
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from gantext._checks import check_count, check_type, no_autocast, rounds_products, transformed
from gantext.kernels import dispatch, unobserved
from gantext.kernels.expm_formula import THETA18, WIDEST, composed

__all__ = ["expm", "expm_ref", "logdet_expm"]

_WORK = {  # input dtype -> dtype of the products
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
_DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
KERNEL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def expm(
    A: Tensor,
    *,
    squarings: int | None = None,
    compute_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor:
    """Matrix exponential of a batch of square matrices.

    exp A = (e^(mu/2^s) T18((A - mu I) / 2^s))^(2^s) with one s and one mu per matrix (equations `det-exp:taylor18` and
    `det-exp:scaling-squaring`). T18 is the Taylor polynomial of degree 18, evaluated with five products. mu is the mean
    of the diagonal where that is below -1/2 and taking it off makes the 1-norm smaller, so that the terms of T18 cancel
    less, else 0. s is the smallest >= 0 for which ||A / 2^s||_1 <= theta, 3.01 in float32 and 1.09 in float64, if that
    is at most 3; else the smallest for which bounds on ||A^18||_1 ... ||A^29||_1 keep the backward error of T18 below
    the unit roundoff: never more, and far less where A is badly scaled or far from normal, one squaring instead of 39
    for [[1, 1e12], [0, -1]] in float32. Gradients of every order go through the products; the backward pass costs two
    forward passes. Neither sees autocast.

    Args:
        A: (..., n, n), real or complex, any strides; n and the batch may be 0. float16 and bfloat16 are computed in
            float32 and cast back.
        squarings: an upper bound k >= 0 of s. Given, nothing is read back from the device: the call compiles with
            `fullgraph=True`, runs under `torch.func.vmap` and can be captured in a CUDA graph. It covers ||A||_1 <=
            theta 2^k, and larger matrices whose s it is; **one that needs more becomes NaN** rather than silently
            inexact. None: norms are read, except by the kernel, and each squaring is of the matrices that need it.
        compute_dtype: torch.float32 or torch.float64 (complex input: the complex type of that precision), not below
            the precision of A; None keeps that of A. Recommended: torch.float64 where ||A||_1 > 10.
        backend: None takes the Triton kernel for real matrices on a GPU, n <= 32 (in float64 16), else PyTorch;
            "triton" or "reference" forces it. The kernel is deterministic and counts squarings without a read; on an
            NVIDIA H200 it was right.

    Returns:
        (..., n, n) in the dtype of A. A matrix with an entry that is NaN or infinite, or whose 1-norm overflows, is
        NaN throughout (n = 1: the scalar exponential, so -inf gives 0); the others of the batch are unaffected. An
        entry beyond the dtype becomes inf, and its neighbours may then be NaN, being differences of infinities.

    Raises:
        TypeError, ValueError: an argument that is not as above; "triton" where it cannot run, with the reason.

    The commonest surprise: the error is relative to the norm of exp A, not to each entry, so small eigenvalues of exp A
    are lost to large ones, and `slogdet(expm(A))` with them. The log-determinant is `logdet_expm`, exact and free.
    Where a global switch rounds float32 products to TF32 or bfloat16 (`torch.set_float32_matmul_precision`), float32 is
    computed in float64, except by the kernel, which the switch does not reach.

    Source: Bader, Blanes, Casas, "Computing the Matrix Exponential with an Optimized Taylor Polynomial
    Approximation", Mathematics 7 (2019) 1174.

    Example:
        >>> import math, torch
        >>> turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
        >>> expm(math.pi / 2 * turn).round(decimals=12).abs()  # a quarter turn
        tensor([[0., 1.],
                [1., 0.]], dtype=torch.float64)
    """
    _check_square(A, "expm")
    squarings = _check_options(A, squarings, compute_dtype)
    n = A.shape[-1]

    def run(by_kernel: bool) -> Tensor:
        work, theta = _precision(A, compute_dtype, exact=by_kernel)
        if A.numel() == 0:
            return A.clone()
        if n == 1:
            return A.to(work).exp().to(A.dtype)
        with no_autocast(A.device):
            X = A.to(work).reshape(-1, n, n)
            if by_kernel:
                from gantext.kernels.expm import exponential
            elif X.device.type in ("cpu", "cuda") and unobserved(X):
                from gantext.kernels.expm_eager import exponential
            else:
                exponential = composed
            return exponential(X, squarings, theta).reshape(A.shape).to(A.dtype)

    if torch.compiler.is_compiling():
        return run(backend == "triton")
    most = WIDEST.get(_precision(A, compute_dtype, exact=True)[0], n)
    unless = f"the matrices are of order {n}, above {most}" if n > most else None
    if unless is None and transformed():
        unless = "a function transform or forward-mode differentiation is under way"
    plain, kernel = (functools.partial(run, by_kernel) for by_kernel in (False, True))
    return dispatch(
        "expm", backend, [A], reference=plain, triton=kernel, dtypes=KERNEL_TYPES, unless=unless, strided=True
    )


def expm_ref(A: Tensor) -> Tensor:
    """Matrix exponential by the textbook: scale, sum the series, square back. The reference of `expm`.

    exp A = (sum_k (A/2^s)^k / k!)^(2^s), the sum up to k = 18 and s so large that ||A/2^s||_1 <= 1/2 for the whole
    batch (equation `det-exp:scaling-squaring`): the first neglected term is below 0.5^19/19! = 2e-23.

    A is (..., n, n), finite, and computed in its own dtype: pass float64 or complex128 to compare with it. With one s
    for the batch, a large matrix costs a small neighbour s digits (in base 2).

    Source: Higham, "Functions of Matrices" (SIAM 2008), section 10.3.

    Example:
        >>> expm_ref(torch.zeros(2, 2))
        tensor([[1., 0.],
                [0., 1.]])
    """
    _check_square(A, "expm_ref")
    if A.numel() == 0:
        return A.clone()
    norm = A.detach().abs().sum(-2).max().item()  # ||A||_1, the largest of the batch
    if not math.isfinite(2 * norm):
        raise ValueError(f"expm_ref: A has 1-norm {norm}, must be finite. expm gives NaN for such a matrix.")
    s = max(0, math.ceil(math.log2(2 * norm))) if norm > 0 else 0
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    X, term, total = A / 2**s, eye, eye
    for k in range(1, 19):
        term = term @ X / k  # X^k / k!
        total = total + term
    for _ in range(s):
        total = total @ total
    return total


def logdet_expm(A: Tensor) -> Tensor:
    """Logarithm of the determinant of the matrix exponential, which is the trace.

    log det exp A = Tr A (equation `det-exp:main`): n additions, no exponential, no factorisation, no overflow. From A
    (..., n, n) it is (...) in the dtype of A, float32 for float16 and bfloat16. Complex A: Tr A itself, which equals
    log det exp A up to a multiple of 2 pi i.

    The commonest surprise: `torch.linalg.slogdet(torch.linalg.matrix_exp(A))` is not a check of it. In float32 that
    has no correct digit once the eigenvalues of a full A spread over much more than 16: exp A has lost the small ones.

    Example:
        >>> logdet_expm(torch.tensor([[1.0, 500.0], [500.0, 2.0]]))  # exp A itself overflows
        tensor(3.)
    """
    _check_square(A, "logdet_expm")
    return A.diagonal(dim1=-2, dim2=-1).sum(-1, dtype=_WORK[A.dtype])


def _precision(A: Tensor, compute_dtype: torch.dtype | None, exact: bool) -> tuple[torch.dtype, float]:
    """The dtype of the products, which may be `exact` anyway, and the theta of the precision that was asked for."""
    work = _WORK[A.dtype]
    if compute_dtype == torch.float64:
        work = _DOUBLE.get(work, work)
    theta = THETA18[torch.float64 if work in (torch.float64, torch.complex128) else torch.float32]
    if not exact and work in _DOUBLE and rounds_products(A.device.type, A.device.index):
        work = _DOUBLE[work]  # theta stays, so a global switch never changes what a given number of squarings covers
    return work, theta


def _check_square(A: Tensor, name: str) -> None:
    check_type(name, "A", A, Tensor, "Convert it with torch.as_tensor(A).")
    if A.dtype not in _WORK:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in _WORK)
        raise TypeError(f"{name}: A has dtype {A.dtype}, must be one of {kinds}. Convert it with A.to(torch.float32).")
    if A.layout != torch.strided:
        raise ValueError(f"{name}: A has layout {A.layout}, must be dense. Convert it with A.to_dense().")
    if A.dim() < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(
            f"{name}: A has shape {tuple(A.shape)}, must be (..., n, n). Put the batch first, the matrix last."
        )


def _check_options(A: Tensor, squarings: int | None, compute_dtype: torch.dtype | None) -> int | None:
    if squarings is not None:
        squarings = check_count("expm", "squarings", squarings, 0)
    if compute_dtype is not None:
        if compute_dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"expm: compute_dtype is {compute_dtype!r}, must be torch.float32, torch.float64 or None. "
                "Complex input is computed in the complex type of that precision."
            )
        if compute_dtype == torch.float32 and A.dtype in (torch.float64, torch.complex128):
            raise ValueError(
                f"expm: compute_dtype is {compute_dtype}, below the precision of A ({A.dtype}). "
                "Use None, or convert A first if the loss is meant."
            )
    return squarings
