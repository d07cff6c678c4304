"""The Triton kernels of `gantext.kernels.expm`: a few small matrices in each program, all products in its registers.

No product is rounded to TF32 or bfloat16, nothing asks for a matrix unit, there are no atomics, and no number is read
back by the host: each program counts its own squarings. The backward pass keeps nothing from the forward pass but s and
mu: it carries each power together with its derivative, L(A^T, G), which by the block-triangular identity stands in the
upper right of exp [[A^T, G], [0, A^T]], in three products for one.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gantext.kernels import launch
from gantext.kernels.expm_formula import SLIGHT, T18
from gantext.kernels.expm_scaling import FEW, LONG, LONGER, MEAN, room

__all__ = ["adjoint", "adjoint_matrices", "forward", "forward_matrices", "tiles"]

# Bytes of a program's tile at least, and at most for each warp: an adjoint has a dozen tiles in its registers. The
# fastest of those tried on an NVIDIA H200 that leave no register to memory.
SMALLEST, FORWARD, ADJOINT = 256, 2048, 512

ROWS = tl.constexpr(T18)
COUNTED, SHIFT = tl.constexpr(FEW), tl.constexpr(SLIGHT)
LOG_LONG, LOG_LONGER, LOG_MEAN = (tl.constexpr(math.log2(c)) for c in (LONG, LONGER, MEAN))


@triton.jit
def times(a, b, DOT: tl.constexpr):
    """a b of (M, N, N). With k first each thread sums on its own; from N = 16 `tl.dot` does so, by plain FMA."""
    if DOT:
        return tl.dot(a, b, input_precision="ieee", out_dtype=a.dtype)
    return tl.sum(tl.expand_dims(tl.permute(a, (2, 0, 1)), 3) * tl.expand_dims(tl.permute(b, (1, 0, 2)), 2), 0)


@triton.jit
def two_to(e, like):
    """2^e for integers e in the range of normal numbers: exactly, which `exp2` does not promise."""
    if like.dtype == tl.float64:
        power = ((e.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        power = ((e.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return power


@triton.jit
def scaled(a, e):
    """a 2^e, (M, N, N) and integers (M,), in two steps: e may be as large as the exponents of a range are apart."""
    most: tl.constexpr = 2044 if a.dtype == tl.float64 else 252  # pyright: ignore[reportAssignmentType]  # Triton's own
    e = tl.minimum(tl.maximum(e, -most), most).to(tl.int32)
    half = e >> 1
    return a * two_to(half, a)[:, None, None] * two_to(e - half, a)[:, None, None]


@triton.jit
def norm_of(a):
    return tl.max(tl.sum(tl.abs(a), 1), 1)  # (M,)


@triton.jit
def row_times(v, a):
    return tl.sum(v[:, :, None] * tl.abs(a), 1)  # (M, N)


@triton.jit
def log2_max(v, LEAST: tl.constexpr):
    return tl.log2(tl.maximum(tl.max(v, 1), LEAST))


@triton.jit
def times_six(row, log, a6, known, LEAST: tl.constexpr):
    """row 2^log bounds the column sums of a power: the same of the power times X^6, which is a6 2^known."""
    row = tl.maximum(row_times(row, a6), LEAST)
    top = tl.max(row, 1)
    return row / top[:, None], log + known + tl.log2(top)


@triton.jit
def asked(k: tl.constexpr, row, log, X1, X2, unit, size, LOG_THETA: tl.constexpr, LEAST: tl.constexpr):
    """Squarings for the powers k ... k + 5."""
    more = row_times(row, unit)
    need = tl.maximum((log2_max(row, LEAST) + log) / k, (log2_max(row_times(row, X1), LEAST) + log) / (k + 1))
    need = tl.maximum(need, (log2_max(row_times(row, X2), LEAST) + log) / (k + 2))
    need = tl.maximum(need, (log2_max(more, LEAST) + log + size) / (k + 3))
    need = tl.maximum(need, (log2_max(row_times(more, X1), LEAST) + log + size) / (k + 4))
    return tl.maximum(need, (log2_max(row_times(more, X2), LEAST) + log + size) / (k + 5)) - LOG_THETA


@triton.jit
def combine(k: tl.constexpr, eye, p1, p2, p3, p6):
    """B_k, a sum of powers; the zeros among its weights are left out."""
    out = ROWS[k - 1][3] * p3 + ROWS[k - 1][2] * p2
    if ROWS[k - 1][1] != 0:
        out += ROWS[k - 1][1] * p1
    if ROWS[k - 1][4] != 0:
        out += ROWS[k - 1][4] * p6
    if ROWS[k - 1][0] != 0:
        out += ROWS[k - 1][0] * eye
    return out


@triton.jit
def place(B, n, M: tl.constexpr, N: tl.constexpr):
    """Matrix, row, column of each number of a tile, as 64-bit offsets; which are inside; which on the diagonal."""
    m = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    i, j = tl.arange(0, N)[None, :, None], tl.arange(0, N)[None, None, :]
    b = m[:, None, None]
    return m, b, i.to(tl.int64), j.to(tl.int64), (b < B) & (i < n) & (j < n), (b < B) & (i == j) & (i < n)


@triton.jit
def forward_matrices(
    A, out, means, counts, B, n, most, a_b, a_i, a_j,
    LOG_THETA: tl.constexpr, ROOM: tl.constexpr, LEAST: tl.constexpr, LOST: tl.constexpr, MAX: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """exp of M matrices, mu (NaN of a matrix that must be NaN) and s, by the rule of `gantext.matexp.expm`."""
    m, b, i, j, inside, diagonal = place(B, n, M, N)  # pyright: ignore[reportGeneralTypeIssues]  # Triton's own
    X = tl.load(A + b * a_b + i * a_i + j * a_j, mask=inside, other=0.0)
    bad = tl.max((~(tl.sum(tl.abs(X), 1) <= MAX)).to(tl.int32), 1) > 0  # a maximum may pass over NaN
    X = tl.where(bad[:, None, None], 0.0, X)
    mean = tl.sum(tl.sum(tl.where(diagonal, X, 0.0), 2), 1) / n
    Y = X - tl.where(diagonal, mean[:, None, None], 0.0)
    norm, less = norm_of(X), norm_of(Y)
    found = (mean < -SHIFT) & (less < norm)
    X = tl.where(found[:, None, None], Y, X)
    mean, norm = tl.where(found, mean, 0.0), tl.where(found, less, norm)
    of_mean = tl.log2(tl.maximum(tl.abs(mean), 1.0)) - LOG_MEAN
    by_norm = tl.ceil(tl.maximum(tl.maximum(tl.log2(tl.maximum(norm, 1.0)) - LOG_THETA, of_mean), 0.0))
    down = tl.maximum(tl.ceil(tl.log2(tl.maximum(norm, 1.0)) - ROOM), 0.0)
    X1 = scaled(X, -down)
    X2 = times(X1, X1, DOT)
    X3 = times(X1, X2, DOT)
    size = tl.floor(tl.log2(tl.maximum(norm_of(X3), two_to(tl.full((M,), -3 * ROOM, tl.int32), X))) + 0.5)
    unit = scaled(X3, -size)
    X6 = times(unit, unit, DOT)

    row = tl.sum(tl.abs(X6), 1)  # what follows is `gantext.kernels.expm_scaling.squarings_by_powers`
    shift = tl.floor(tl.log2(tl.maximum(tl.max(row, 1), LEAST)) + 0.5)
    a6, row = scaled(X6, -shift), row * two_to(-shift, X)[:, None]
    six = tl.log2(tl.maximum(tl.max(row, 1), LEAST)) + shift + 2 * size
    known = shift + 2 * size  # log2 of what a6 has been divided by
    row, twelve = times_six(row, known, a6, known, LEAST)
    row, log = times_six(row, twelve, a6, known, LEAST)
    need = asked(18, row, log, X1, X2, unit, size, LOG_THETA, LEAST)
    row, log = times_six(row, log, a6, known, LEAST)
    longer = tl.maximum(asked(24, row, log, X1, X2, unit, size, LOG_THETA, LEAST), twelve / 12 - LOG_LONGER)
    need = tl.where(six / 6 - LOG_LONG > need, tl.maximum(need, longer), need)
    need = tl.maximum(tl.maximum(need, (six - 3 * ROOM) / 6), tl.maximum((LOST + 2 * size) / 6 - LOG_LONG, -ROOM))
    need = tl.maximum(need + down, of_mean)
    s = tl.where(by_norm > COUNTED, tl.minimum(tl.maximum(tl.ceil(need), 0.0), by_norm), by_norm)
    bad = bad | (s > most)
    s = tl.where(bad, 0.0, s)
    mean = tl.where(bad, float("nan"), mean)

    r = down - s
    p1, p2, p3 = scaled(X1, r), scaled(X2, 2 * r), scaled(X3, 3 * r)
    p6 = scaled(X6, 2 * size + 6 * r)
    eye = tl.where(diagonal, 1.0, 0.0).to(X.dtype)
    A9 = combine(4, eye, p1, p2, p3, p6)
    A9 += times(combine(1, eye, p1, p2, p3, p6), combine(5, eye, p1, p2, p3, p6), DOT)
    T = times(combine(3, eye, p1, p2, p3, p6) + A9, A9, DOT) + combine(2, eye, p1, p2, p3, p6)
    T *= factor(mean, s)[:, None, None]
    for k in range(tl.max(s.to(tl.int32), 0)):
        T = tl.where((s > k)[:, None, None], times(T, T, DOT), T)
    tl.store(out + b * n * n + i * n + j, T, mask=inside)
    tl.store(means + m, mean, mask=m < B)
    tl.store(counts + m, s.to(tl.int32), mask=m < B)


@triton.jit
def factor(mean, s):
    """e^(mu / 2^s), in float64: its error is raised to the 2^s, and the fast exponential of float32 has some."""
    return tl.exp((mean * two_to(-s, mean)).to(tl.float64)).to(mean.dtype)


@triton.jit
def both(a, da, b, db, DOT: tl.constexpr):
    """The derivative of a b."""
    return times(da, b, DOT) + times(a, db, DOT)


@triton.jit
def adjoint_matrices(
    A, G, grad, means, counts, B, n, a_b, a_i, a_j, g_b, g_i, g_j,
    M: tl.constexpr, N: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """L(A^T, G), the gradient of sum(G exp A)."""
    m, b, i, j, inside, diagonal = place(B, n, M, N)  # pyright: ignore[reportGeneralTypeIssues]  # Triton's own
    mean = tl.load(means + m, mask=m < B, other=0.0)
    s = tl.load(counts + m, mask=m < B, other=0)
    X = tl.load(A + b * a_b + j * a_i + i * a_j, mask=inside, other=0.0)
    p1 = scaled(X - tl.where(diagonal, mean[:, None, None], 0.0), -s)
    d1 = scaled(tl.load(G + b * g_b + i * g_i + j * g_j, mask=inside, other=0.0), -s)
    p2, d2 = times(p1, p1, DOT), both(p1, d1, p1, d1, DOT)
    p3, d3 = times(p1, p2, DOT), both(p1, d1, p2, d2, DOT)
    p6, d6 = times(p3, p3, DOT), both(p3, d3, p3, d3, DOT)
    eye = tl.where(diagonal, 1.0, 0.0).to(X.dtype)
    B1, D1 = combine(1, eye, p1, p2, p3, p6), combine(1, 0 * eye, d1, d2, d3, d6)
    B5, D5 = combine(5, eye, p1, p2, p3, p6), combine(5, 0 * eye, d1, d2, d3, d6)
    A9 = combine(4, eye, p1, p2, p3, p6) + times(B1, B5, DOT)
    D9 = combine(4, 0 * eye, d1, d2, d3, d6) + both(B1, D1, B5, D5, DOT)
    C, DC = combine(3, eye, p1, p2, p3, p6) + A9, combine(3, 0 * eye, d1, d2, d3, d6) + D9
    f = factor(mean, s)[:, None, None]
    T = (combine(2, eye, p1, p2, p3, p6) + times(C, A9, DOT)) * f
    D = (combine(2, 0 * eye, d1, d2, d3, d6) + both(C, DC, A9, D9, DOT)) * f
    for k in range(tl.max(s, 0)):
        D = tl.where((s > k)[:, None, None], both(T, D, T, D, DOT), D)
        T = tl.where((s > k)[:, None, None], times(T, T, DOT), T)
    tl.store(grad + b * n * n + i * n + j, D, mask=inside)


@functools.cache
def tiles(n: int, itemsize: int, most: int) -> tuple[dict[str, int], int]:
    """Constants of a kernel for matrices of order n in numbers of so many bytes, and number of warps."""
    N = max(2, 1 << (n - 1).bit_length())
    size = N * N * itemsize
    return {"M": max(1, SMALLEST // size), "N": N, "DOT": N >= 16}, max(1, size // most)


@functools.cache
def limits(dtype: torch.dtype, n: int, theta: float) -> dict[str, float]:
    """Constants of the choice of s."""
    info = torch.finfo(dtype)
    lost = math.log2(n * info.tiny / info.eps)
    return {"LOG_THETA": math.log2(theta), "ROOM": room(dtype), "LEAST": n * info.tiny, "LOST": lost, "MAX": info.max}


def forward(A: Tensor, out: Tensor, means: Tensor, counts: Tensor, squarings: int | None, theta: float) -> None:
    """Fill out, means (B,) and counts (B,); A (B, n, n) of float32 or float64, 2 <= n <= WIDEST."""
    (B, n, _), (tile, warps) = A.shape, tiles(A.shape[-1], A.element_size(), FORWARD)
    most = 2**30 if squarings is None else squarings
    constants = tile | limits(A.dtype, n, theta)
    if B:
        programs = -(-B // tile["M"])
        launch(forward_matrices, programs, A, out, means, counts, B, n, most, *A.stride(), **constants, num_warps=warps)


def adjoint(G: Tensor, A: Tensor, means: Tensor, counts: Tensor, grad: Tensor) -> None:
    """Fill grad, the gradient with respect to A."""
    (B, n, _), (tile, warps) = A.shape, tiles(A.shape[-1], A.element_size(), ADJOINT)
    if B:
        strides = *A.stride(), *G.stride()
        launch(adjoint_matrices, -(-B // tile["M"]), A, G, grad, means, counts, B, n, *strides, **tile, num_warps=warps)
