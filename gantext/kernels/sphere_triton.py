"""The Triton kernels of `gantext.kernels.sphere.batch_update`: same bits at every run, no atomics, no host read.

1. `hinges`: a tile of tuples a program; the hinge, the signed, scaled factors of the (up to) four steps, and for each
   step its key: the row that it moves, the tables' rows being numbered through. What moves nothing has the key of no
   row, which is last when the keys are sorted: no later kernel looks at it, so skipped tuples change no bit.
2. `sums`: the steps sorted by key; of each row, those that lie in one block of LENGTH of them are summed, so that a row
   with thousands (a document, a frequent word) does not wait on one program.
3. `retract`: for each touched row the sums of its blocks, projected onto the tangent space, one retraction.

The first two only read the tables, so every step is that of the old rows. A tangent step is linear in the gradient,
hence the sum of tangent steps is the tangent part of the sum.
"""

from __future__ import annotations

import functools
import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from gantext.kernels import launch
from gantext.kernels.sphere import Batch

__all__ = ["GROUP", "LENGTH", "hinges", "retract", "sums", "tiles", "update"]

# These sizes, and those of `tiles`, were the fastest of those tried on an NVIDIA H200 at p = 100 and 300.
LENGTH = 64  # steps of a block
GROUP = 16  # positions of a program: most of them begin no row, and a program that finds nothing to do is not free
KEYS = (torch.int16, torch.int32, torch.int64)  # the narrower, the fewer passes has the sort
SIZES = ["parts", "n", "words", "contexts", "documents"]  # one compiled kernel for all of them
TILE = 4096  # bytes of a gathered tile


@triton.jit(do_not_specialize=[*SIZES[1:], "rate", "margin"])
def hinges(
    U, V, D, centre, negative, context, document, margin, rate, steps, keys, loss, n, words, contexts, documents,
    P: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, MODE: tl.constexpr, WORD: tl.constexpr,
    DOCUMENT: tl.constexpr, BITS: tl.constexpr, MEMORY: tl.constexpr,
):  # fmt: skip
    """Hinge, and factors and keys of the steps, of ROWS tuples; BITS: scalars are those of a float64, in an integer."""
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
    if BITS:
        margin = margin.to(tl.int64).to(tl.float64, bitcast=True)
    if MEMORY:
        rate = tl.load(rate)
    elif BITS:
        rate = rate.to(tl.int64).to(tl.float64, bitcast=True)
    gap = margin - f + h
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
    scale = tl.where(live & (gap > 0), rate, 0.0)
    moves = scale > 0
    partner = words.to(tl.int64)  # its first key
    rows = partner + contexts + documents
    tl.store(steps + t, scale * su, mask=inside)
    tl.store(keys + t, tl.where(moves, a, rows), mask=inside)
    t += n
    tl.store(steps + t, -scale * sn, mask=inside)
    tl.store(keys + t, tl.where(moves, b, rows), mask=inside)
    if WORD:
        t += n
        tl.store(steps + t, scale * sv, mask=inside)
        tl.store(keys + t, tl.where(moves, partner + j, rows), mask=inside)
    if DOCUMENT:
        t += n
        tl.store(steps + t, scale * sd, mask=inside)
        tl.store(keys + t, tl.where(moves, partner + contexts + k, rows), mask=inside)
    hinge = tl.where(live, tl.where(gap <= 0, 0.0, gap), 0.0)
    hinge = tl.where(inside & (valid == 0), float("nan"), hinge)
    tl.store(loss + tl.program_id(0), tl.sum(hinge, 0))
    tl.store(loss + (tl.num_programs(0) + tl.program_id(0)), tl.sum(live.to(f.dtype), 0))


@triton.jit
def summed(
    factors, order, i, end, A, in_a, B, in_b, n, P: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    FIRST: tl.constexpr, SECOND: tl.constexpr, SIGN: tl.constexpr,
):  # fmt: skip
    """Sum of the steps from i to before end: factor times (A + SIGN B), or one of the two."""
    col = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), A.dtype.element_ty)
    for j in range(i, end, ROWS):
        at = j + tl.arange(0, ROWS)
        step = tl.load(order + at, mask=at < end, other=0).to(tl.int32)
        factor = tl.load(factors + step, mask=at < end, other=0.0)
        t = tl.where(step - n >= n, step - n - n, step)
        t = tl.where(t >= n, t - n, t)  # the tuple of the step
        lanes = (at < end)[:, None] & (col < P)[None, :]
        g = tl.zeros((ROWS, BLOCK), A.dtype.element_ty)
        if FIRST:
            a = tl.load(in_a + t, mask=at < end, other=0)
            g += tl.load(A + a[:, None] * P + col[None, :], mask=lanes, other=0.0)
        if SECOND:
            b = tl.load(in_b + t, mask=at < end, other=0)
            g += SIGN * tl.load(B + b[:, None] * P + col[None, :], mask=lanes, other=0.0)
        total += tl.sum(factor[:, None] * g, 0)
    return total


@triton.jit(do_not_specialize=SIZES[1:])
def sums(
    U, V, D, centre, negative, context, document, factors, keys, order, partial, n, words, contexts, documents,
    P: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, WORD: tl.constexpr, DOCUMENT: tl.constexpr,
    GROUP: tl.constexpr, LENGTH: tl.constexpr,
):  # fmt: skip
    """For each of GROUP positions at which a row or a block begins: the sum of that row's steps in that block."""
    first = tl.program_id(0) * GROUP  # no more than 2^31 steps can be sorted
    last = n * (2 + WORD + DOCUMENT)
    rows = words.to(tl.int64) + contexts + documents
    stride = tl.full((), P, tl.int64)
    before = tl.load(keys + (first - 1), mask=first > 0, other=-1)
    for i in range(first, tl.minimum(first + GROUP, last)):
        key = tl.load(keys + i)
        into = tl.cast(i, tl.int32) % LENGTH  # its block
        if (key < rows) & ((key != before) | (into == 0)):
            at = i + tl.arange(0, LENGTH)
            inside = at < tl.minimum(i - into + LENGTH, last)
            same = tl.load(keys + at, mask=inside, other=-1) == key
            end = i + tl.sum(same.to(tl.int32), 0)
            if key < words:  # a centre or a negative: along the partners
                total = summed(
                    factors, order, i, end, V, context, D, document, n, P, BLOCK, ROWS, WORD, DOCUMENT, 1
                )  # fmt: skip
            else:
                total = summed(factors, order, i, end, U, centre, U, negative, n, P, BLOCK, ROWS, True, True, -1)
            col = tl.arange(0, BLOCK)
            tl.store(partial + i * stride + col, total, mask=col < P)
        before = key


@triton.jit(do_not_specialize=SIZES)
def retract(
    U, V, D, keys, partial, loss, mean, total_loss, parts, n, words, contexts, documents, P: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, SECTIONS: tl.constexpr, GROUP: tl.constexpr, LENGTH: tl.constexpr,
    TOTAL: tl.constexpr,
):  # fmt: skip
    """For each of GROUP positions at which a row begins: its step, made tangent, added, normalised. Once: the loss."""
    first = tl.program_id(0) * GROUP
    last = n * SECTIONS
    rows = words.to(tl.int64) + contexts + documents
    col = tl.arange(0, BLOCK)
    stride = tl.full((), P, tl.int64)
    before = tl.load(keys + (first - 1), mask=first > 0, other=-1)
    for i in range(first, tl.minimum(first + GROUP, last)):
        key = tl.load(keys + i)
        if (key < rows) & (key != before):
            total = tl.load(partial + i * stride + col, mask=col < P, other=0.0)
            j = i - tl.cast(i, tl.int32) % LENGTH + LENGTH  # where the next block begins, in which the row may go on
            while tl.load(keys + j, mask=j < last, other=-1) == key:
                at = j + tl.arange(0, ROWS) * LENGTH
                here = (tl.load(keys + at, mask=at < last, other=-1) == key)[:, None] & (col < P)[None, :]
                rest = partial + at[:, None] * stride + col[None, :]
                total += tl.sum(tl.load(rest, mask=here, other=0.0), 0)
                j += ROWS * LENGTH
            if tl.max(tl.abs(total)) > 0:  # else the row keeps its bits
                row = key.to(tl.int64)
                x = U + row * P + col
                if row >= words:
                    x = V + (row - words) * P + col
                if row - words >= contexts:
                    x = D + (row - words - contexts) * P + col
                old = tl.load(x, mask=col < P, other=0.0)
                new = old + (total - tl.sum(total * old) * old)
                new = new / tl.max(tl.abs(new))  # the square of a long step may overflow
                tl.store(x, new / tl.sqrt(tl.sum(new * new)), mask=col < P)
        before = key
    if tl.program_id(0) == 0:
        hinge = tl.zeros((8 * LENGTH,), partial.dtype.element_ty)
        live = tl.zeros((8 * LENGTH,), partial.dtype.element_ty)
        for j in range(0, parts, 8 * LENGTH):
            at = j + tl.arange(0, 8 * LENGTH)
            hinge += tl.load(loss + at, mask=at < parts, other=0.0)
            live += tl.load(loss + (parts + at), mask=at < parts, other=0.0)
        sum_of = tl.sum(hinge, 0)
        tl.store(mean, sum_of / tl.maximum(tl.sum(live, 0), 1.0))
        if TOTAL:
            tl.store(total_loss, tl.load(total_loss) + sum_of)


@functools.cache
def tiles(p: int, itemsize: int, kernel: str) -> tuple[dict[str, int], int]:
    """The tile of a kernel for rows of length p: the least power of two >= p, and how many rows; number of warps.

    A warp has whole rows, up to 2048 bytes: sums over a row that lies in several wait for each other.
    """
    block = 1 << (p - 1).bit_length()
    row = block * itemsize
    rows = max(1, min({"hinges": 16, "sums": 4, "retract": 8}[kernel], TILE // row))
    warps = 4 if kernel == "hinges" and row <= 512 else max(1, row // 2048)
    return {"P": p, "BLOCK": block, "ROWS": rows}, warps


def update(batch: Batch, rate: float | Tensor, margin: float, mode: str, total: Tensor | None = None) -> Tensor:
    """What `gantext.kernels.sphere.batch_update` does, with its arguments checked and n > 0.

    For a captured graph, whose numbers are fixed, the rate may lie in memory, 0-d, in the tables' dtype; and `total`,
    alike, gets the sum of the hinges added.
    """
    U, V, D, centre, negative, context, document = batch
    n, p = len(centre), U.shape[1]
    each, few, rest = (
        {**tile, "num_warps": warps}
        for tile, warps in (tiles(p, U.element_size(), kernel) for kernel in ("hinges", "sums", "retract"))
    )
    word, about = V is not None, D is not None
    tables = (U, V if word else U, D if about else U)
    indices = [centre if t is None else t.contiguous() for t in (centre, negative, context, document)]
    sizes = (n, len(U), 0 if V is None else len(V), 0 if D is None else len(D))
    m, parts, rows = (2 + word + about) * n, -(-n // each["ROWS"]), sum(sizes[1:])
    keys = U.new_empty(m, dtype=next(kind for kind in KEYS if rows <= torch.iinfo(kind).max))
    steps, loss, mean = U.new_empty(m), U.new_empty(2 * parts), U.new_empty(())
    # Scalars in the tables' own precision: Triton takes a Python float for a float32.
    bits = U.dtype == torch.float64
    scalar = lambda x: struct.unpack("<q", struct.pack("<d", x))[0] if bits and not isinstance(x, Tensor) else x
    forms = {"WORD": word, "DOCUMENT": about}
    given = (*tables, *indices, scalar(margin), scalar(rate), steps, keys, loss, *sizes)
    launch(hinges, parts, *given, **each, **forms, MODE=mode, BITS=bits, MEMORY=isinstance(rate, Tensor))
    keys, order = keys.sort(stable=True)  # stable: equal keys keep the order of the tuples, hence the same bits
    partial, cut = U.new_empty(m, p), {"GROUP": GROUP, "LENGTH": LENGTH}
    launch(sums, -(-m // GROUP), *tables, *indices, steps, keys, order, partial, *sizes, **few, **cut, **forms)
    given = (*tables, keys, partial, loss, mean, mean if total is None else total, parts, *sizes)
    launch(retract, -(-m // GROUP), *given, **rest, **cut, SECTIONS=m // n, TOTAL=total is not None)
    return mean
