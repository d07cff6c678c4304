"""The Triton kernels of `gantext.kernels.layer_norm`: same bits at every run, no atomics, each number read once.

A program has a chunk of consecutive tokens of *one* sequence, walks it in tiles of whole rows, and keeps the scale and
shift of the sequence in registers; the next tiles are on their way while one is worked on. The backward pass sums its
gradients of the two there as well and stores one partial sum a chunk; the few partial sums of a sequence are added
afterwards, in PyTorch. The sizes below were the fastest of those tried on an NVIDIA H200.
"""

from __future__ import annotations

import functools

import triton
import triton.language as tl
from torch import Tensor

from gantext.kernels import launch

__all__ = ["backward", "backward_rows", "backward_tiles", "forward", "forward_rows", "forward_tiles"]

TILE = 512  # numbers of a backward tile for each warp, 16 a thread
PROGRAMS = 512  # enough to fill a large GPU; with more the chunks become longer, and the partial sums fewer
SHARED = 48 * 2**10  # bytes of shared memory that any GPU has for a program: tiles on their way wait there


@triton.jit
def forward_rows(
    x, gamma, beta, y, mean, rstd, T, chunks, x_b, x_t, gamma_b, gamma_t, beta_b, beta_t,
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr,
    STAGES: tl.constexpr, EPS: tl.constexpr, TOKEN: tl.constexpr,
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
    for step in tl.range(0, STEPS, num_stages=STAGES):
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
    D: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr,
    STAGES: tl.constexpr, TOKEN: tl.constexpr, INPUT: tl.constexpr, SCALE: tl.constexpr,
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
    for step in tl.range(0, STEPS, num_stages=STAGES):
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
def forward_tiles(T: int, D: int, itemsize: int, read: int, token: bool) -> tuple[dict[str, int], int, int]:
    """Constants of the kernel for x (B, T, D) with `read` bytes a number, computed in numbers of `itemsize` bytes;
    number of warps, so that one has whole rows unless they are wide; chunks a sequence."""
    block = _block(D)
    rows, warps = max(1, min(16, TILE // block)), max(1, block * itemsize // 4096)
    steps = 1 if rows >= T else 4
    stages = 3 if 2 * rows * block * read * (3 if token else 1) <= SHARED else 1
    return {"D": D, "BLOCK": block, "ROWS": rows, "STEPS": steps, "STAGES": stages}, warps, -(-T // (rows * steps))


@functools.cache
def backward_tiles(B: int, T: int, D: int, itemsize: int, read: int, token: bool) -> tuple[dict[str, int], int, int]:
    """The same for the backward kernel, whose chunks are longer."""
    block = _block(D)
    warps = max(4, block // TILE)
    rows = max(1, min(16, 4 * warps * TILE // (block * itemsize)))
    steps = 16 // rows
    while steps * rows < 64 and B * -(-T // (2 * steps * rows)) >= PROGRAMS:
        steps *= 2
    early = read < 4 and 3 * rows * block * read * (3 if token else 2) <= SHARED  # wider numbers gain nothing by it
    constants = {"D": D, "BLOCK": block, "ROWS": rows, "STEPS": steps, "STAGES": 4 if early else 1}
    return constants, warps, -(-T // (rows * steps))


def _block(D: int) -> int:
    return max(16, 1 << (D - 1).bit_length())


def _strides(*tensors: Tensor) -> list[int]:
    """Of sequence and token, 0 where one row serves all tokens."""
    return [n for t in tensors for n in (t.stride(0), t.stride(1) if t.dim() == 3 else 0)]


def forward(x: Tensor, gamma: Tensor, beta: Tensor, y: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> None:
    """Fill y, mean and rstd; x (B, T, D), gamma and beta (B, D) or (B, T, D), the last dimension dense."""
    (B, T, D), token = x.shape, gamma.dim() == 3
    tile, warps, chunks = forward_tiles(T, D, mean.element_size(), x.element_size(), token)
    if B * chunks:
        given = x, gamma, beta, y, mean, rstd, T, chunks, *_strides(x, gamma, beta)
        launch(forward_rows, B * chunks, *given, **tile, EPS=eps, TOKEN=token, num_warps=warps)


def backward(
    grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, dx: Tensor | None = None, scale: bool = True
) -> Tensor | None:
    """Fill dx, unless None; return, if `scale`, the gradient of a gamma for each token, its shift's being grad itself,
    or else (2, B, chunks, D), whose sums over the chunks are the gradients of gamma and beta."""
    (B, T, D), token = x.shape, gamma.dim() == 3
    tile, warps, chunks = backward_tiles(B, T, D, mean.element_size(), x.element_size(), token)
    shape = gamma.shape if token else (2, B, chunks, D)
    kept = (gamma if token else mean).new_empty(shape) if scale else None
    if B * chunks:
        out = x if kept is None else kept  # stands in for what is not asked for
        given = grad, x, gamma, mean, rstd, out if dx is None else dx, out, T, chunks, *_strides(grad, x, gamma)
        flags = {"TOKEN": token, "INPUT": dx is not None, "SCALE": scale}
        launch(backward_rows, B * chunks, *given, **tile, **flags, num_warps=warps)
    return kept
