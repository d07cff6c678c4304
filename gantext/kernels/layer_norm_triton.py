"""The Triton kernels of `gantext.kernels.layer_norm`: same bits at every run, no atomics, each number read once.

A program has a chunk of consecutive tokens of *one* sequence, walks it in tiles of whole rows, and keeps the scale and
shift of the sequence in registers. The backward pass sums its gradients of the two there as well and stores one partial
sum a chunk; the few partial sums of a sequence are added afterwards, in PyTorch.
"""

from __future__ import annotations

import functools

import triton
import triton.language as tl
from torch import Tensor

from gantext.kernels import launch

__all__ = ["backward", "backward_rows", "forward", "forward_rows", "tiles"]

TILE = 512  # numbers of a tile for each warp, 16 a thread
PROGRAMS = 2048  # enough to fill a large GPU; with more the chunks become longer, and the partial sums fewer


@triton.jit
def forward_rows(
    x, gamma, beta, y, mean, rstd, T, chunks, x_b, x_t, gamma_b, gamma_t, beta_b, beta_t,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr, EPS: tl.constexpr,
    TOKEN: tl.constexpr,
):  # fmt: skip
    """Result, mean and 1 / (variance + EPS)^(1/2) of ROWS STEPS tokens."""
    wide = mean.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    b = i // chunks
    col = tl.arange(0, BLOCK)[None, :]
    inside = col < D
    g = tl.zeros((ROWS, BLOCK), wide)
    s = tl.zeros((ROWS, BLOCK), wide)
    if not TOKEN:
        g = tl.load(gamma + b * gamma_b + col, mask=inside, other=0.0).to(wide)
        s = tl.load(beta + b * beta_b + col, mask=inside, other=0.0).to(wide)
    for step in range(STEPS):
        t = (i % chunks) * (ROWS * STEPS) + step * ROWS + tl.arange(0, ROWS)
        row = t[:, None]
        lanes = (row < T) & inside
        if TOKEN:
            g = tl.load(gamma + b * gamma_b + row * gamma_t + col, mask=lanes, other=0.0).to(wide)
            s = tl.load(beta + b * beta_b + row * beta_t + col, mask=lanes, other=0.0).to(wide)
        v = tl.load(x + b * x_b + row * x_t + col, mask=lanes, other=0.0).to(wide)
        m = tl.sum(v, 1) / D
        v = tl.where(lanes, v - m[:, None], 0.0)  # before squaring: beyond the row stands - m
        r = 1 / tl.sqrt(tl.sum(v * v, 1) / D + EPS)
        out = v * r[:, None] * g + s
        tl.store(y + (b * T + row) * D + col, out.to(y.dtype.element_ty), mask=lanes)
        tl.store(mean + b * T + t, m, mask=t < T)
        tl.store(rstd + b * T + t, r, mask=t < T)


@triton.jit
def backward_rows(
    grad, x, gamma, mean, rstd, dx, kept, T, chunks, grad_b, grad_t, x_b, x_t, gamma_b, gamma_t,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr, TOKEN: tl.constexpr,
    INPUT: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """If INPUT its gradient, for ROWS STEPS tokens; if SCALE, by token, the scale's, or sums of its and the shift's."""
    wide = mean.dtype.element_ty
    i = tl.program_id(0).to(tl.int64)
    b = i // chunks
    col = tl.arange(0, BLOCK)[None, :]
    inside = col < D
    g = tl.zeros((ROWS, BLOCK), wide)
    if not TOKEN:
        g = tl.load(gamma + b * gamma_b + col, mask=inside, other=0.0).to(wide)
    sum_g = tl.zeros((ROWS, BLOCK), wide)
    sum_b = tl.zeros((ROWS, BLOCK), wide)
    for step in range(STEPS):
        t = (i % chunks) * (ROWS * STEPS) + step * ROWS + tl.arange(0, ROWS)
        row = t[:, None]
        lanes = (row < T) & inside
        m = tl.load(mean + b * T + t, mask=t < T, other=0.0)
        r = tl.load(rstd + b * T + t, mask=t < T, other=0.0)
        if TOKEN:
            g = tl.load(gamma + b * gamma_b + row * gamma_t + col, mask=lanes, other=0.0).to(wide)
        e = tl.load(grad + b * grad_b + row * grad_t + col, mask=lanes, other=0.0).to(wide)
        v = tl.load(x + b * x_b + row * x_t + col, mask=lanes, other=0.0).to(wide)
        v = tl.where(lanes, (v - m[:, None]) * r[:, None], 0.0)
        if INPUT:
            h = e * g
            along = tl.sum(h * v, 1) / D
            h = (h - (tl.sum(h, 1) / D)[:, None] - v * along[:, None]) * r[:, None]
            tl.store(dx + (b * T + row) * D + col, h.to(dx.dtype.element_ty), mask=lanes)
        if SCALE:
            if TOKEN:
                tl.store(kept + (b * T + row) * D + col, (e * v).to(kept.dtype.element_ty), mask=lanes)
            else:
                sum_g += e * v
                sum_b += e
    if SCALE and not TOKEN:
        line = tl.arange(0, BLOCK)
        end = tl.num_programs(0).to(tl.int64) * D
        tl.store(kept + i * D + line, tl.sum(sum_g, 0), mask=line < D)
        tl.store(kept + end + i * D + line, tl.sum(sum_b, 0), mask=line < D)


@functools.cache
def tiles(B: int, T: int, D: int, itemsize: int = 4) -> tuple[dict[str, int], int, int]:
    """Constants of the kernels for x (B, T, D) and statistics of so many bytes, number of warps, chunks a sequence."""
    block = max(16, 1 << (D - 1).bit_length())
    warps = max(4, block // TILE)
    rows = max(1, min(16, 4 * warps * TILE // (block * itemsize)))
    steps = 16 // rows
    while steps * rows < 64 and B * -(-T // (2 * steps * rows)) >= PROGRAMS:
        steps *= 2
    return {"D": D, "BLOCK": block, "ROWS": rows, "STEPS": steps}, warps, -(-T // (rows * steps))


def _strides(*tensors: Tensor) -> list[int]:
    """Of sequence and token, 0 where one row serves all tokens."""
    return [n for t in tensors for n in (t.stride(0), t.stride(1) if t.dim() == 3 else 0)]


def forward(x: Tensor, gamma: Tensor, beta: Tensor, y: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> None:
    """Fill y, mean and rstd; x (B, T, D), gamma and beta (B, D) or (B, T, D), the last dimension dense."""
    (B, T, D), token = x.shape, gamma.dim() == 3
    tile, warps, chunks = tiles(B, T, D, mean.element_size())
    if B * chunks:
        given = x, gamma, beta, y, mean, rstd, T, chunks, *_strides(x, gamma, beta)
        launch(forward_rows, B * chunks, *given, **tile, EPS=eps, TOKEN=token, num_warps=warps)


def backward(
    grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, dx: Tensor | None = None, scale: bool = True
) -> Tensor | None:
    """Fill dx, unless None; return, if `scale`, the gradient of a gamma for each token, its shift's being grad itself,
    or else (2, B, chunks, D), whose sums over the chunks are the gradients of gamma and beta."""
    (B, T, D), token = x.shape, gamma.dim() == 3
    tile, warps, chunks = tiles(B, T, D, mean.element_size())
    shape = gamma.shape if token else (2, B, chunks, D)
    kept = (gamma if token else mean).new_empty(shape) if scale else None
    if B * chunks:
        out = x if kept is None else kept  # stands in for what is not asked for
        given = grad, x, gamma, mean, rstd, out if dx is None else dx, out, T, chunks, *_strides(grad, x, gamma)
        flags = {"TOKEN": token, "INPUT": dx is not None, "SCALE": scale}
        launch(backward_rows, B * chunks, *given, **tile, **flags, num_warps=warps)
    return kept
