"""JoSE's sequential trainer on a CPU: one compiled pass over a piece of the corpus, tables in place.

Every update is `gantext.sphere.geometry.update_ref` in closed form: for u' = u + beta (w - <u, w> u) the new length
follows from products that are there already, |u'|^2 = c^2 |u|^2 + 2 c beta <u, w> + beta^2 |w|^2 with c = 1 - beta <u,
w>, and nothing is read again to be normalised. |u|^2 and |n|^2 are summed with the other products, not taken to be 1:
rounding in a negative's length would grow by 1 + beta <n, w> at each update, for ever.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

__all__ = ["MODE", "Rows", "merge", "train"]

MODE = {"paper": 0, "plain": 1, "reference": 2}
FAST = {"reassoc", "contract", "arcp", "nsz"}  # not "nnan", "ninf": a NaN must remain one
HALF, ONE, TWO, TINY = np.float32(0.5), np.float32(1), np.float32(2), np.float32(1e-12)


@njit(inline="always")
def _random(state):  # splitmix64; state is an array of one number
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def _below(z, n):  # 0 .. n - 1 from the high half of a random number
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(inline="always")
def _negative(state, limit, alias):  # alias table: the low half decides between a column and its alias
    z = _random(state)
    k = _below(z, len(limit))
    return k if (z & np.uint64(0xFFFFFFFF)) < np.uint64(limit[k]) else np.int64(alias[k])


def _row(own, table, k):  # of a thread's own copies, where they reach
    return own[k] if own is not None and k < len(own) else table[k]


@overload(_row, inline="always")
def _(own, table, k):  # to choose a row costs as much as a product: where there is no choice, none is compiled
    return (lambda own, table, k: table[k]) if isinstance(own, types.NoneType) else None


@overload(_row)
def _(own, table, k):
    return None if isinstance(own, types.NoneType) else lambda own, table, k: own[k] if k < len(own) else table[k]


@njit(inline="always")
def _count(moves, side, k):
    if k < moves.shape[1]:
        moves[side, k] += 1


@njit(inline="always", fastmath=FAST)
def _normalise(x):
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    scale = ONE / math.sqrt(total)
    for i in range(len(x)):
        x[i] *= scale


@njit(inline="always", fastmath=FAST)
def _dot(x, y):
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@njit(inline="always", fastmath=FAST)
def _three(x, y, z, w):
    """<x, w>, <y, w>, <z, w>."""
    a = b = c = np.float32(0)
    for i in range(len(w)):
        wi = w[i]
        a += x[i] * wi
        b += y[i] * wi
        c += z[i] * wi
    return a, b, c


@njit(inline="always", fastmath=FAST)
def _joint(u, v, d, n, w, a, b, rate, angle, frozen):
    """The step of a hinge of v and d together that has a loss; w is v + d, before and after, a = <u, w>, b = <n, w>.

    Returns <u, w> after it, which follows from products that are there.
    """
    r = fv = fd = ee = uu = nn = uv = np.float32(0)
    for i in range(len(u)):
        e = u[i] - n[i]
        r += v[i] * d[i]
        uv += u[i] * v[i]
        fv += e * v[i]
        fd += e * d[i]
        ee += e * e
        uu += u[i] * u[i]
        nn += n[i] * n[i]
    ww = TWO + TWO * r  # |v + d|^2
    su = sn = sv = sd = rate
    if angle:
        iw, ie = ONE / math.sqrt(max(ww, TINY)), ONE / math.sqrt(max(ee, TINY))
        su, sn, sv, sd = su * (ONE - a * iw), sn * (ONE + b * iw), sv * (ONE - fv * ie), sd * (ONE - fd * ie)
    cd = ONE - sd * fd
    td = ONE / math.sqrt(cd * cd + TWO * cd * sd * fd + sd * sd * ee)
    cd, sd = cd * td, sd * td
    ud, ue = a - uv, HALF * (uu + ee - nn)
    if frozen:
        for i in range(len(u)):
            d[i] = cd * d[i] + sd * (u[i] - n[i])
            w[i] = v[i] + d[i]
        return uv + cd * ud + sd * ue
    cu, cn, cv = ONE - su * a, ONE + sn * b, ONE - sv * fv
    tu = ONE / math.sqrt(cu * cu * uu + TWO * cu * su * a + su * su * ww)
    tn = ONE / math.sqrt(cn * cn * nn - TWO * cn * sn * b + sn * sn * ww)
    tv = ONE / math.sqrt(cv * cv + TWO * cv * sv * fv + sv * sv * ee)
    cu, su, cn, sn, cv, sv = cu * tu, su * tu, cn * tn, sn * tn, cv * tv, sv * tv
    for i in range(len(u)):
        ui, vi, di, ni = u[i], v[i], d[i], n[i]
        wi, e = vi + di, ui - ni
        u[i] = cu * ui + su * wi
        n[i] = cn * ni - sn * wi
        v[i] = cv * vi + sv * e
        d[i] = cd * di + sd * e
    for i in range(len(u)):  # apart: with five rows to be told apart the loop above would not be vectorised
        w[i] = v[i] + d[i]
    s = sv + sd
    return cu * (cv * uv + cd * ud + s * ue) + su * ((cv + cd) * (ONE + r) + s * (fv + fd))


@njit(inline="always", fastmath=FAST)
def _single(u, x, n, f, h, rate, frozen):
    """The same for one partner x, a context word or a document, with the released program's factors; f = <u, x>,
    h = <n, x>. Returns <u, x> after it, which follows from products that are there."""
    ee = uu = nn = np.float32(0)
    for i in range(len(u)):
        e = u[i] - n[i]
        ee += e * e
        uu += u[i] * u[i]
        nn += n[i] * n[i]
    su, sn, sx = rate * (ONE - f), rate * TWO * h, rate * (ONE - (f - h))
    cu, cn, cx = ONE - su * f, ONE + sn * h, ONE - sx * (f - h)
    tx = ONE / math.sqrt(cx * cx + TWO * cx * sx * (f - h) + sx * sx * ee)
    cx, sx = cx * tx, sx * tx
    ue = HALF * (uu + ee - nn)  # <u, u - n>
    if frozen:
        for i in range(len(u)):
            x[i] = cx * x[i] + sx * (u[i] - n[i])
        return cx * f + sx * ue
    tu = ONE / math.sqrt(cu * cu * uu + TWO * cu * su * f + su * su)
    tn = ONE / math.sqrt(cn * cn * nn - TWO * cn * sn * h + sn * sn)
    cu, su, cn, sn = cu * tu, su * tu, cn * tn, sn * tn
    for i in range(len(u)):
        ui, xi, ni = u[i], x[i], n[i]
        u[i] = cu * ui + su * xi
        n[i] = cn * ni - sn * xi
        x[i] = cx * xi + sx * (ui - ni)
    return cu * (cx * f + sx * ue) + su * (cx + sx * (f - h))


@intrinsic
def _ask(typing, address):  # for a cache line, without waiting for it
    def generate(context, builder, signature, arguments):
        line = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [line.type, *[ir.IntType(32)] * 3])
        call = builder.module.declare_intrinsic("llvm.prefetch", (), kind)
        builder.call(call, [line, *(ir.Constant(ir.IntType(32), k) for k in (1, 3, 1))])  # to write, to keep, data
        return context.get_dummy_value()

    return types.void(address), generate


@njit(inline="always")
def _prefetch(row):
    start = row.ctypes.data
    for offset in range(0, 4 * len(row), 64):
        _ask(start + offset)  # pyright: ignore[reportCallIssue]  # numba passes the first itself


class Rows(NamedTuple):
    """What `train` moves, in place: tables, a thread's own copies of their first rows, and records of the moves."""

    U: NDArray[np.float32]  # (V, p) centre words and negatives, unit rows as all
    V: NDArray[np.float32]  # (V, p) context words
    D: NDArray[np.float32]  # (documents, p)
    own_u: NDArray[np.float32]  # (H, p); stand in for the first H rows of U and V, which are then not looked at
    own_v: NDArray[np.float32]
    moves: NDArray[np.int32]  # (2, H); how often rows of own_u and own_v were moved is added to it
    touched: NDArray[np.bool_]  # (documents,); set where a document's row was moved


def train(text, order, rows, chances, window, negatives, mode, margin, rate, rate_end, seed, frozen):
    """Train on the pieces `order`, int64, of a corpus; return tuples looked at, tuples with a loss, sum of losses.

    Args:
        text: has `ids`, (T,) int32 word numbers, and `starts`, `owners`: piece i is ids[starts[i]:starts[i + 1]], part
            of document owners[i].
        rows: of `Rows`, which change in place; only D does if `frozen`.
        chances: has `keep`, (V,) uint32, the chance of a word to survive subsampling, times 2^32 - 1, and `limit`,
            `alias`, (V,) uint32 and int32: the alias table of the negatives.
        window, negatives: largest distance of a pair; negative words to each. mode: of `MODE`. seed: uint64.
        margin, rate, rate_end: float32; the rate falls linearly over these pieces.
    """
    own = len(rows.own_u)
    if own in (0, len(rows.U)):
        U, V = (rows.own_u, rows.own_v) if own else (rows.U, rows.V)
        rows = rows._replace(U=U, V=V, own_u=None, own_v=None)
    return _train(text, order, rows, chances, window, negatives, mode, margin, rate, rate_end, seed, frozen)


@njit(nogil=True, cache=True, fastmath=FAST)
def _train(text, order, rows, chances, window, negatives, mode, margin, rate, rate_end, seed, frozen):
    ids, starts, owners = text.ids, text.starts, text.owners
    U, V, D, own_u, own_v, moves, touched = rows
    keep, limit, alias = chances
    state = np.array([seed], np.uint64)
    longest, size, done = np.int64(1), np.int64(1), np.int64(0)
    for piece in order:
        length = starts[piece + 1] - starts[piece]
        longest = max(longest, length)
        size += length
    kept, w = np.empty(longest, np.int32), np.empty(U.shape[1], np.float32)
    drawn = np.empty((min(2 * window, longest) + 1) * negatives, np.int32)
    seen, active, total = 0, 0, 0.0
    for piece in order:
        now = rate + (rate_end - rate) * np.float32(done / size)
        done += starts[piece + 1] - starts[piece]
        if frozen:
            state[0] = seed  # so that no document depends on those before it
        d = D[owners[piece]]
        length, moved = 0, False
        for t in range(starts[piece], starts[piece + 1]):
            if (_random(state) >> np.uint64(32)) <= np.uint64(keep[ids[t]]):
                kept[length] = ids[t]
                length += 1
        for i in range(length):
            word = kept[i]
            v = _row(own_v, V, word)
            reach = 1 + _below(_random(state), window)
            first, last = max(0, i - reach), min(length, i + reach + 1)
            if mode == 2 and frozen:
                first = last  # documents learn from no pair
            draws = max(0, last - first - 1) + (mode == 2)  # of the pairs, then of the document
            for m in range(draws * negatives):  # before they are looked at, so that their rows are there
                drawn[m] = _negative(state, limit, alias)
                _prefetch(_row(own_u, U, drawn[m]))
            if i + 1 < length:
                _prefetch(_row(own_v, V, kept[i + 1]))
            if i + 1 + window < length:
                _prefetch(_row(own_u, U, kept[i + 1 + window]))
            if mode != 2:
                for q in range(len(w)):
                    w[q] = v[q] + d[q]
            partner = v if mode == 2 else w
            m = 0
            for j in range(first, last):
                if j == i:
                    continue
                centre = kept[j]
                u = _row(own_u, U, centre)
                ahead = negatives == 2
                near = one = other = np.float32(0)
                if ahead:
                    near, one, other = _three(u, _row(own_u, U, drawn[m]), _row(own_u, U, drawn[m + 1]), partner)
                else:
                    near = _dot(u, partner)
                for q in range(negatives):
                    k = drawn[m + q]
                    if k in (centre, word):
                        continue
                    n = _row(own_u, U, k)
                    far = (other if q else one) if ahead else _dot(n, partner)
                    loss = margin - near + far
                    seen += 1
                    if loss > 0:  # no NaN
                        active += 1
                        total += loss
                        if mode == 2:
                            near = _single(u, v, n, near, far, now, False)
                        else:
                            near = _joint(u, v, d, n, w, near, far, now, mode == 0, frozen)
                            moved = True
                        ahead = False
                        _count(moves, 1, word)
                        _count(moves, 0, centre)
                        _count(moves, 0, k)
                m += negatives
            if mode == 2:
                u = _row(own_u, U, word)
                near = _dot(u, d)
                for k in drawn[m : m + negatives]:
                    if k == word:
                        continue
                    n = _row(own_u, U, k)
                    far = _dot(n, d)
                    loss = margin - near + far
                    seen += 1
                    if loss > 0:
                        active += 1
                        total += loss
                        near = _single(u, d, n, near, far, now, frozen)
                        moved = True
                        _count(moves, 0, word)
                        _count(moves, 0, k)
            _normalise(d)  # their products above took |v| = |d| = 1
            if not frozen:
                _normalise(v)
        if moved:
            touched[owners[piece]] = True
    return seen, active, total


@njit(nogil=True, cache=True, fastmath=FAST)
def merge(U, V, copies, moves, rate, first, last):
    """Bring the rows first to last - 1 of both tables and of their copies together, on the sphere.

    Moves of a row that are few are added: they would have followed each other. Many moves bring each copy to the same
    place: they are averaged. Between them, with a relaxation by 1 - rate at each move, m moves go g(m) = 1 - (1 -
    rate)^m of the way, and the sum of the ways is shortened to g(m_1 + ... + m_n) / (g(m_1) + ... + g(m_n)) (equation
    `jose:copies`).

    Args:
        U, V: float32 (V, p). copies: float32 (2, n, H, p). moves: (n, 2, H) int32, set to 0. rate: in (0, 1).
    """
    n, p = copies.shape[1], copies.shape[3]
    way, stay = np.empty(p, np.float32), 1.0 - rate
    for side in range(2):
        table = U if side == 0 else V
        for k in range(first, last):
            row = table[k]
            all_moves, ways = 0, 0.0
            way[:] = 0
            for c in range(n):
                m = moves[c, side, k]
                if m > 0:
                    all_moves += m
                    ways += 1 - stay**m
                    moves[c, side, k] = 0
                    copy = copies[side, c, k]
                    for i in range(p):
                        way[i] += copy[i] - row[i]
            if all_moves > 0:
                share = np.float32((1 - stay**all_moves) / ways)
                for i in range(p):
                    row[i] += share * way[i]
                _normalise(row)
            for c in range(n):  # unmoved ones too, which may have been normalised again
                copies[side, c, k] = row
