"""The Triton kernels of `gantext.kernels.sphere.batch_update`: same bits at every run, no atomics, no host read.

1. `hinges`: a tile of tuples a program; the hinge and the signed, scaled factors of the (up to) four steps.
2. `sums`: the steps sorted by row; a program sums up to CHUNK consecutive steps of one row, so that a row with
   thousands of them (a document, a frequent word) does not wait on one program.
3. `retract`: a program a touched row; the sums of its chunks, projected onto the tangent space, one retraction.

The first two only read the tables, so every step is that of the old rows. A tangent step is linear in the gradient,
hence the sum of tangent steps is the tangent part of the sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gantext.kernels import launch
from gantext.kernels.sphere import Batch

__all__ = ["CHUNK", "hinges", "retract", "sums", "tiles", "update"]

CHUNK = 128  # steps per partial sum
TILE = 8192  # bytes of a gathered tile: 16 registers a thread with 4 warps


@triton.jit
def hinges(
    U, V, D, centre, negative, context, document, margin, rate, steps, loss, n, words, contexts, documents,
    P: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, MODE: tl.constexpr, WORD: tl.constexpr,
    DOCUMENT: tl.constexpr,
):  # fmt: skip
    """Hinge and signed factors of the steps of ROWS tuples."""
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)[None, :]
    inside = t < n
    a = tl.load(centre + t, mask=inside, other=0)
    b = tl.load(negative + t, mask=inside, other=0)
    valid = inside & (a >= 0) & (a < words) & (b >= 0) & (b < words)
    if WORD:
        j = tl.load(context + t, mask=inside, other=0)
        valid = valid & (j >= 0) & (j < contexts)
    if DOCUMENT:
        k = tl.load(document + t, mask=inside, other=0)
        valid = valid & (k >= 0) & (k < documents)
    lanes = valid[:, None] & (col < P)
    u = tl.load(U + a[:, None] * P + col, mask=lanes, other=0.0)
    x = tl.load(U + b[:, None] * P + col, mask=lanes, other=0.0)
    w = tl.zeros_like(u)
    e = u - x
    along_v = tl.zeros_like(tl.sum(u, 1))
    along_d = tl.zeros_like(along_v)
    if WORD:
        v = tl.load(V + j[:, None] * P + col, mask=lanes, other=0.0)
        w += v
        along_v = tl.sum(v * e, 1)
    if DOCUMENT:
        d = tl.load(D + k[:, None] * P + col, mask=lanes, other=0.0)
        w += d
        along_d = tl.sum(d * e, 1)
    f = tl.sum(u * w, 1)
    h = tl.sum(x * w, 1)
    gap = tl.load(margin) - f + h
    live = valid & (a != b)
    one = tl.full(f.shape, 1.0, f.dtype)
    if MODE == "paper":
        size_w = tl.sqrt(tl.sum(w * w, 1))
        size_e = tl.sqrt(tl.sum(e * e, 1))
        size_w = tl.where(size_w > 0, size_w, one)  # without a direction there is no step, whatever the factor
        size_e = tl.where(size_e > 0, size_e, one)
        su = one - f / size_w
        sn = one + h / size_w
        sv = one - along_v / size_e
        sd = one - along_d / size_e
    elif MODE == "reference":
        su = one - f
        sn = 2 * h
        sv = one - (f - h)
        sd = sv
    else:
        su = one
        sn = one
        sv = one
        sd = one
    scale = tl.where(live & (gap > 0), tl.load(rate), 0.0)
    tl.store(steps + t, tl.where(scale > 0, scale * su, 0.0), mask=inside)
    tl.store(steps + (t + n), tl.where(scale > 0, -scale * sn, 0.0), mask=inside)
    if WORD:
        tl.store(steps + (t + n + n), tl.where(scale > 0, scale * sv, 0.0), mask=inside)
    if DOCUMENT:
        tl.store(steps + (t + n + n + n), tl.where(scale > 0, scale * sd, 0.0), mask=inside)
    hinge = tl.where(live, tl.where(gap <= 0, 0.0, gap), 0.0)
    tl.store(loss + t, tl.where(valid, hinge, float("nan")), mask=inside)


@triton.jit
def sums(
    factors, order, first, last, A, in_a, B, in_b, out, n, P: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    LENGTH: tl.constexpr, PAIR: tl.constexpr, SIGN: tl.constexpr,
):  # fmt: skip
    """Sum of up to LENGTH consecutive steps of one row, factor times (A + SIGN B)."""
    i = tl.program_id(0).to(tl.int64)
    if (i - tl.load(first + i)) % LENGTH == 0:
        end = tl.minimum(tl.load(last + i), i + LENGTH)
        col = tl.arange(0, BLOCK)
        total = tl.zeros((BLOCK,), out.dtype.element_ty)
        for j in range(i, end, ROWS):
            at = j + tl.arange(0, ROWS)
            step = tl.load(order + at, mask=at < end, other=0)
            factor = tl.load(factors + step, mask=at < end, other=0.0)
            moves = factor != 0  # hence all indices of its tuple are in range
            t = tl.where(step < n, step, step - n)
            lanes = moves[:, None] & (col < P)[None, :]
            a = tl.load(in_a + t, mask=moves, other=0)
            g = tl.load(A + a[:, None] * P + col[None, :], mask=lanes, other=0.0)
            if PAIR:
                b = tl.load(in_b + t, mask=moves, other=0)
                g += SIGN * tl.load(B + b[:, None] * P + col[None, :], mask=lanes, other=0.0)
            total += tl.sum(factor[:, None] * g, 0)
        tl.store(out + i * P + col, total, mask=col < P)


@triton.jit
def retract(X, keys, first, last, partial, P: tl.constexpr, BLOCK: tl.constexpr, LENGTH: tl.constexpr):
    """One step of one row: its partial sums, made tangent, added, normalised."""
    i = tl.program_id(0).to(tl.int64)
    if tl.load(first + i) == i:
        col = tl.arange(0, BLOCK)
        total = tl.zeros((BLOCK,), partial.dtype.element_ty)
        for j in range(i, tl.load(last + i), LENGTH):
            total += tl.load(partial + j * P + col, mask=col < P, other=0.0)
        if tl.max(tl.abs(total)) > 0:  # else the row keeps its bits; so it does if it is no row of the table
            x = X + tl.load(keys + i) * P + col
            old = tl.load(x, mask=col < P, other=0.0)
            new = old + (total - tl.sum(total * old) * old)
            new = new / tl.max(tl.abs(new))  # the square of a long step may overflow
            tl.store(x, new / tl.sqrt(tl.sum(new * new)), mask=col < P)


def tiles(p: int, itemsize: int = 4) -> dict[str, int]:
    """The tile of a kernel for rows of length p: the least power of two >= p, and how many rows fit."""
    block = 1 << (p - 1).bit_length()
    return {"P": p, "BLOCK": block, "ROWS": max(1, min(16, TILE // (block * itemsize)))}


def update(batch: Batch, rate: float, margin: float, mode: str) -> Tensor:
    """What `gantext.kernels.sphere.batch_update` does, with its arguments checked and n > 0."""
    U, V, D, centre, negative, context, document = batch
    n, p = len(centre), U.shape[1]
    tile = tiles(p, U.element_size())
    # Scalars in the tables' own precision: Triton would take a Python float for a float32.
    number = lambda value: torch.full((), value, dtype=U.dtype, device=U.device)
    steps, loss = U.new_empty(4, n), U.new_empty(n)
    tables = [U if t is None else t for t in (U, V, D)]
    indices = [centre if t is None else t.contiguous() for t in (centre, negative, context, document)]
    forms = {**tile, "MODE": mode, "WORD": V is not None, "DOCUMENT": D is not None}
    given = (*tables, *indices, number(margin), number(rate), steps, loss, n, *map(len, tables))
    launch(hinges, -(-n // tile["ROWS"]), *given, **forms)
    words, pair = (*tables[1:], *indices[2:]), V is not None and D is not None
    a, b, in_a, in_b = words if V is not None else (words[1], words[0], words[3], words[2])
    jobs = [(U, torch.cat(indices[:2]), steps[:2], (a, in_a, b, in_b), pair, 1)]
    for table, index, row in ((V, context, steps[2]), (D, document, steps[3])):
        if table is not None and index is not None:
            jobs.append((table, index, row, (U, indices[0], U, indices[1]), True, -1))
    moved = []
    for table, index, factors, others, both, sign in jobs:
        keys, order = index.sort(stable=True)  # stable: equal keys keep the order of the tuples, hence the same bits
        first, last = torch.searchsorted(keys, keys), torch.searchsorted(keys, keys, right=True)
        partial = U.new_empty(len(keys), p)
        given = (factors, order, first, last, *others, partial, n)
        launch(sums, len(keys), *given, **tile, LENGTH=CHUNK, PAIR=both, SIGN=sign)
        moved.append((table, keys, first, last, partial))
    for table, keys, *rest in moved:
        launch(retract, len(keys), table, keys, *rest, P=p, BLOCK=tile["BLOCK"], LENGTH=CHUNK)
    return loss.sum() / (indices[0] != indices[1]).sum().clamp(min=1)
