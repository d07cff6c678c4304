"""The matrix exponential of a batch, differentiable any number of times, and the log-determinant that needs none.

The chapter is `det-exp`: det exp A = exp Tr A. One rule, three routes: passes written out for a CPU
(`gantext.kernels.expm_cpu`), Triton kernels for small real matrices on a GPU (`gantext.kernels.expm_triton`, which have
not run on a GPU yet), and, wherever PyTorch itself is to trace, transform or differentiate again, plain operations.
"""

from __future__ import annotations

import functools
import math
import numbers

import torch
from torch import Tensor

from gantext._checks import no_autocast, product, rounds_products, transformed
from gantext.kernels import dispatch

__all__ = ["expm", "expm_ref", "logdet_expm"]

# Row k: the weights of (I, A, A^2, A^3, A^6) in B_k; then A9 = B1 B5 + B4 and T18 = B2 + (B3 + A9) A9.
T18 = (
    (0.0, -1.00365581030144618291e-01, -8.02924648241156932449e-03, -8.92138498045729985177e-04, 0.0),
    (0.0, 3.97849749499645077844e-01, 1.36783778460411720168e00, 4.98289622525382669416e-01,
     -6.37898194594723280150e-04),
    (-1.09676396052962061844e01, 1.68015813878906206114e00, 5.71779846478865511061e-02, -6.98210122488052056106e-03,
     3.34975017086070470649e-05),
    (-9.04316832390810593223e-02, -6.76404519071381882256e-02, 6.75961301770459654925e-02, 2.95552570429315521194e-02,
     -1.39180257516060693404e-05),
    (0.0, 0.0, -9.23364619367118555360e-02, -1.69364939002081722752e-02, -1.40086798182036094347e-05),
)  # fmt: skip

# Largest 1-norm at which T18 has a relative backward error below the unit roundoff 2^-24 or 2^-53 (same paper).
THETA18 = {torch.float32: 3.010066362817634, torch.float64: 1.090863719290036}

_WORK = {  # input dtype -> dtype of the products
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.complex64: torch.complex64,
    torch.complex128: torch.complex128,
}
_DOUBLE = {torch.float32: torch.float64, torch.complex64: torch.complex128}
LONG = 14.0  # of ||X^6||^(1/6) / 2^s, see `squarings_by_powers`
MEAN = 32.0  # of |mu| / 2^s: e^mu by itself leaves the range long before exp A
WIDEST = {torch.float32: 32, torch.float64: 16}  # order for the kernel, by what it computes in: registers are full
KERNEL_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SLIGHT = 0.5  # of -mu: below it the terms of T18 cancel by less than a factor e
FEW = 3  # squarings by ||X|| alone that cost less than to look closer, and at most a factor 8 in the error
_MAX_SQUARINGS = 1024  # log2 of the largest float64 norm over theta, rounded up


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
    less, else 0. s is the smallest >= 0 for which ||A / 2^s||_1 <= theta, theta being 3.01 in float32 and 1.09 in
    float64, if that is at most 3. Else it is the smallest for which the backward error of T18 stays below the unit
    roundoff, by bounds on ||A^18||_1 ... ||A^23||_1 from the powers that T18 forms anyway: never more, and far less
    where A is badly scaled or far from normal: one squaring instead of 39 for [[1, 1e12], [0, -1]] in float32.
    Gradients of every order go through the products, so the backward pass costs two forward passes, where
    `torch.linalg.matrix_exp` exponentiates a matrix of twice the size, eight times the work. Neither pass sees
    autocast.

    Args:
        A: (..., n, n), real or complex, any strides; n and the batch may be 0. float16 and bfloat16 are computed in
            float32 and cast back.
        squarings: an upper bound k >= 0 of s. Given, nothing is read back from the device: the call compiles with
            `fullgraph=True`, runs under `torch.func.vmap` and can be captured in a CUDA graph; all matrices are
            squared k times and those that need fewer keep the earlier power. It covers ||A||_1 <= theta 2^k, and
            larger matrices whose s it is; **one that needs more becomes NaN** rather than silently inexact. None: the
            counts are read, except by the kernel, and each squaring is of the matrices that need it, so that one large
            matrix does not cost the others its own. (On a CPU reading is free, and the two are one route.)
        backend: None takes the Triton kernel for real matrices on a GPU, n <= 32 (in float64 16), else PyTorch;
            "triton" or "reference" forces it, and so does the environment variable GANTEXT_BACKEND. The kernel has a
            few matrices in a program, all products in its registers, counts squarings as above without a read, and is
            deterministic. **It has not run on a GPU yet**, only under Triton's interpreter, and compiled for GPUs.
        compute_dtype: torch.float32 or torch.float64 (complex input: the complex type of that precision), not below
            the precision of A; None keeps that of A. Recommended: torch.float64 where ||A||_1 > 10.

    Returns:
        (..., n, n) in the dtype of A. A matrix with an entry that is NaN or infinite, or whose 1-norm overflows, is
        NaN throughout (n = 1: the scalar exponential, so -inf gives 0); the others of the batch are unaffected. An
        entry beyond the dtype becomes inf, and its neighbours may then be NaN, being differences of infinities.

    Raises:
        TypeError: A is not a tensor or not of a dtype above; squarings not an int; compute_dtype not one of the two.
        ValueError: A is sparse, has fewer than two dimensions or is not square; squarings < 0; compute_dtype below A;
            an unknown backend, or "triton" where it cannot run, with the reason.

    The commonest surprise: the error is relative to the norm of exp A, not to each entry, so small eigenvalues of exp A
    are lost to large ones, and `slogdet(expm(A))` with them. The log-determinant is `logdet_expm`, exact and free.
    Float32 products rounded to TF32 or bfloat16 by a global switch (`torch.set_float32_matmul_precision`) would
    lose four more digits, in the backward pass too; where that switch is on, float32 is computed in float64, except by
    the kernel, which it does not reach.

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
            elif _eager_on_cpu(X):
                from gantext.kernels.expm_cpu import exponential
            else:
                exponential = composed
            return exponential(X, squarings, theta).reshape(A.shape).to(A.dtype)

    if torch.compiler.is_compiling():
        return run(backend == "triton")
    most = WIDEST.get(_precision(A, compute_dtype, exact=True)[0], n)
    unless = f"the matrices are of order {n}, above {most}" if n > most else None
    if unless is None and transformed():
        unless = "a function transform or forward-mode differentiation is under way"
    same = [A.new_empty(0)]  # a stand-in that is contiguous: the kernel takes any strides
    plain, kernel = (functools.partial(run, by_kernel) for by_kernel in (False, True))
    return dispatch("expm", backend, same, reference=plain, triton=kernel, dtypes=KERNEL_TYPES, unless=unless)


def _eager_on_cpu(X: Tensor) -> bool:
    """Whether nothing but plain autograd looks on, on a CPU, where reading a number costs nothing."""
    modes = getattr(torch._C, "_len_torch_dispatch_stack", None)  # private: where it is gone, the formula serves
    plain = type(X) is Tensor and X.device.type == "cpu" and not torch.compiler.is_compiling()
    return plain and modes is not None and not modes() and not transformed()


def composed(X: Tensor, squarings: int | None, theta: float) -> Tensor:
    """The matrix exponential of X (B, n, n) by operations that PyTorch differentiates, traces and transforms itself.

    Args: X in the dtype of the products; squarings and theta as in `expm`.

    >>> composed(torch.zeros(1, 2, 2), None, 3.0)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    X, mean, norm = _centred(X)
    bad = ~norm.isfinite()
    s = squarings_by_norm(norm, mean, theta)
    most = math.inf if squarings is not None else _largest(s)
    if most > FEW:
        powers, s = _scaled_powers(X, mean, norm, theta, s)
    else:
        powers = _powers(X * torch.exp2(-s)[:, None, None] if most else X)
    if squarings is not None:
        bad = bad | (s > squarings)
    # A factor NaN spreads over its own matrix in forward and backward, and costs no pass of its own.
    factor = torch.exp(mean * torch.exp2(-s)).masked_fill(bad, math.nan)
    s = s.masked_fill(bad, 0).long()
    X = _taylor18(powers) * factor[:, None, None]
    if most:
        X = _square_sorted(X, s) if squarings is None else _square_masked(X, s, squarings)
    return X


def squarings_by_norm(norm: Tensor, mean: Tensor | None, theta: float) -> Tensor:
    """Squarings (B,), as floats, for which ||X||_1 <= 2^s theta, and |mu| <= 2^s 32.

    >>> squarings_by_norm(torch.tensor([1.0, 9.0]), None, 3.0)
    tensor([0., 2.])
    """
    size = norm / theta
    if mean is not None:
        size = torch.maximum(size, mean.abs() / MEAN)
    return size.clamp(min=1).log2().ceil()


def _largest(s: Tensor) -> float:
    if s.is_meta:
        raise ValueError("expm: A is on the device meta, must hold numbers, from which s is chosen. Give squarings.")
    try:
        most = s.max().item()
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        raise ValueError(
            "expm: squarings is None, must be an int under torch.func.vmap. Give an upper bound."
        ) from error
    return most if most <= FEW else math.inf  # NaN is neither


def _norm(X: Tensor) -> Tensor:
    return X.abs().sum(-2).amax(-1)  # (B,), largest column sum; several times as fast as vector_norm on a CPU


def _centred(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X - mu I, mu (B,) and the norm of X - mu I. exp X does not depend on mu, so none needs a graph through it."""
    Y = X.detach()
    mean = Y.diagonal(dim1=-2, dim2=-1).mean(-1)
    eye = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    norm, less = _norm(Y), _norm(Y - mean[:, None, None] * eye)
    found = (mean.real < -SLIGHT) & (less < norm)
    mean = mean.where(found, 0)
    return X - mean[:, None, None] * eye, mean, less.where(found, norm)


def _powers(X: Tensor) -> tuple[Tensor, ...]:
    """X, X^2, X^3, X^6."""
    X2 = product(X, X)
    X3 = product(X, X2)
    return X, X2, X3, product(X3, X3)


def _scaled_powers(
    X: Tensor, mean: Tensor, norm: Tensor, theta: float, by_norm: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The powers 1, 2, 3, 6 of X / 2^s, and the counts s (B,) as floats: `by_norm` where that is small."""
    at = lambda t: t[:, None, None]
    down = steps_down(norm)
    X1 = X * at(torch.exp2(-down))
    X2 = product(X1, X1)
    X3 = product(X1, X2)
    size = cube_size(X3.detach())
    unit = X3 * at(torch.exp2(-size))
    X6 = product(unit, unit)  # times 2^(2 size)
    with torch.no_grad():
        s = squarings_by_powers((X1, X2, unit, X6), size, down, mean, norm, theta)
        s = torch.minimum(s, by_norm).where(by_norm > FEW, by_norm)  # the powers are rounded, ||X|| is not
    r = down - s
    factors = r, 2 * r, 3 * r, 2 * size + 6 * r
    return tuple(P * at(torch.exp2(f)) for P, f in zip((X1, X2, X3, X6), factors, strict=True)), s


def _room(dtype: torch.dtype) -> int:
    return int(math.log2(torch.finfo(dtype).max) // 3 - 2)  # of the exponent, for a cube


def steps_down(norm: Tensor) -> Tensor:
    """Halvings (B,), as floats, after which a matrix of such a norm has a cube within the range; mostly none."""
    return (norm.clamp(min=1).log2() - _room(norm.dtype)).ceil().clamp(min=0)


def cube_size(X3: Tensor) -> Tensor:
    """log2 (B,) of the norm of a cube, rounded; the square of X3 / 2^size is in range wherever it matters."""
    return _norm(X3).clamp(min=2.0 ** (-3 * _room(X3.dtype))).log2().round()


def squarings_by_powers(
    powers: tuple[Tensor, ...], size: Tensor, down: Tensor, mean: Tensor | None, norm: Tensor, theta: float
) -> Tensor:
    """Squarings (B,), as floats, for which the backward error of T18 stays below the unit roundoff.

    That error, relative to X / 2^s, is at most sum_(k >= 18) |c_k| ||X^k|| / 2^(sk), which reaches the unit roundoff at
    ||X^k|| = (2^s theta)^k. So ||X^k||^(1/k) <= 2^s theta is asked for k = 18 ... 23. Every higher power is a product
    of those, but for some below 72 that are one of them times X^6 or X^12; the coefficients fall so fast (c_25 / c_19
    = 19! / 25!) that `LONG` is what ||X^6||^(1/6) may be.

    No power beyond X^6 is formed: the column sums of a product of absolute values bound it, and cost a vector a factor.
    One badly scaled entry, b in [[1, b], [0, -1]], then enters the bound once and not once a factor.

    Args:
        powers: of X1 = X / 2^down: X1, X1^2, X1^3 / 2^size, X1^6 / 4^size.
        mean, norm: mu, or None, and the norm of X.

    >>> X = torch.diag_embed(torch.tensor([[8.0, -8.0]]))
    >>> zero = torch.zeros(1)
    >>> squarings_by_powers((X, X @ X, X @ X @ X, (X @ X @ X) @ (X @ X @ X)), zero, zero, None, zero + 8, 1.0)
    tensor([3.])
    """
    a1, a2, a3, a6 = (t.detach().abs() for t in powers)
    info = torch.finfo(a1.dtype)
    least = a1.shape[-1] * info.tiny / info.eps  # below it a sum may be what underflow has left; logs of 0 are slow
    log2 = lambda t: t.clamp(min=least).log2()
    sums = a6.sum(-2, keepdim=True)
    six = log2(sums.amax((-2, -1)))
    down6 = torch.exp2(-six.round())[:, None, None]
    for _ in range(2):
        sums = (sums * down6) @ a6
    sums = sums * down6
    both = torch.cat([sums, sums @ a3], -2)  # (B, 2, n): of 18 and 21
    bounds = torch.cat([both, both @ a1, both @ a2], -2).amax(-1)  # (B, 6): of 18, 21, 19, 22, 20, 23
    exponents = torch.arange(18, 24, dtype=six.dtype, device=six.device).view(2, 3).T.flatten()
    known = (3 * six.round() + 6 * size)[:, None] + (exponents > 20) * size[:, None]
    need = ((log2(bounds) + known) / exponents).amax(-1) - math.log2(theta)
    need = torch.maximum(need, (six + 2 * size) / 6 - math.log2(LONG)) + down
    need = torch.maximum(need, down - _room(a1.dtype))  # the powers of X / 2^s are in range
    if mean is not None:
        need = torch.maximum(need, mean.abs().clamp(min=1).log2() - math.log2(MEAN))
    return need.ceil().clamp(min=0)


def _taylor18(powers: tuple[Tensor, ...]) -> Tensor:
    """I + A + A^2/2! + ... + A^18/18! in two products from A, A^2, A^3, A^6 (equation `det-exp:taylor18`)."""
    eye = torch.eye(powers[0].shape[-1], dtype=powers[0].dtype, device=powers[0].device)
    B1, B2, B3, B4, B5 = (_combine(weights, eye, powers) for weights in T18)
    # Sums after the products: baddbmm starts its inner sums from the addend and rounds a fifth worse at n = 32.
    A9 = B4.add_(product(B1, B5))
    return B2.add_(product(B3.add_(A9), A9))  # B2 + (B3 + A9) A9


def _combine(weights: tuple[float, ...], eye: Tensor, powers: tuple[Tensor, ...]) -> Tensor:
    # Python scalars, not a tensor of weights: making one on a GPU copies from the host, which graph capture forbids.
    first, *others = ((c, P) for c, P in zip(weights[1:], powers, strict=True) if c)
    out = first[0] * first[1]
    for c, P in others:
        out.add_(P, alpha=c)
    return out.add_(eye, alpha=weights[0]) if weights[0] else out


def _square_masked(X: Tensor, s: Tensor, squarings: int) -> Tensor:
    for k in range(squarings):
        X = torch.where((s > k)[:, None, None], product(X, X), X)
    return X


def _square_sorted(X: Tensor, s: Tensor) -> Tensor:
    bins = torch.zeros(_MAX_SQUARINGS + 2, dtype=torch.long, device=s.device)
    counts = bins.scatter_add_(0, s, torch.ones_like(s)).tolist()  # the one host read
    top = max(k for k, count in enumerate(counts) if count)
    if counts[top] == len(X):
        for _ in range(top):
            X = product(X, X)
        return X
    order = s.argsort()
    X = X.index_select(0, order)
    done = []
    for count in counts[:top]:  # the matrices that need exactly k squarings leave before the next
        if count:
            ready, X = X.split([count, len(X) - count])
            done.append(ready)
        X = product(X, X)
    return torch.cat([*done, X]).index_select(0, order.argsort())


def expm_ref(A: Tensor) -> Tensor:
    """Matrix exponential by the textbook: scale, sum the series, square back. The reference of `expm`.

    exp A = (sum_k (A/2^s)^k / k!)^(2^s), the sum up to k = 18 and s so large that ||A/2^s||_1 <= 1/2 for the whole
    batch (equation `det-exp:scaling-squaring`): the first neglected term is below 0.5^19/19! = 2e-23.

    Args:
        A: (..., n, n), finite, computed in its own dtype: pass float64 or complex128 to compare with it.

    Returns:
        (..., n, n) in the dtype of A.

    Raises:
        TypeError, ValueError: as `expm`; ValueError for NaN or infinity.

    The commonest surprise: one s for the batch. A large matrix costs a small neighbour s digits (in base 2).

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

    log det exp A = Tr A (equation `det-exp:main`): n additions, no exponential, no factorisation, no overflow. The
    gradient is the identity matrix.

    Args:
        A: (..., n, n), real or complex; n and the batch may be 0.

    Returns:
        (...), in the dtype of A; float32 for float16 and bfloat16. Complex A: Tr A itself, whose imaginary part is not
        reduced to (-pi, pi]; it equals log det exp A up to a multiple of 2 pi i.

    Raises:
        TypeError, ValueError: as `expm`.

    The commonest surprise: `torch.linalg.slogdet(torch.linalg.matrix_exp(A))` is not a check of it. In float32 that
    has no correct digit once the eigenvalues of a full A spread over much more than 16: exp A has lost the small ones.

    Source: the chapter `det-exp`.

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
    if not isinstance(A, Tensor):
        raise TypeError(
            f"{name}: A must be a torch.Tensor, got {type(A).__name__}. Convert it with torch.as_tensor(A)."
        )
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
        if isinstance(squarings, bool) or not isinstance(squarings, (int, numbers.Integral)):
            raise TypeError(
                f"expm: squarings is {squarings!r} ({type(squarings).__name__}), must be a non-negative int or None. "
                "Use ceil(log2(largest 1-norm / theta)), or None to have it chosen."
            )
        squarings = int(squarings)
        if squarings < 0:
            raise ValueError(f"expm: squarings is {squarings}, must be at least 0. Use None to have it chosen.")
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
