"""The matrix exponential where only autograd looks on: few passes over memory, a backward pass written out.

The five products of T18 are between sums of the same four powers: at small n it is those sums that cost, and one matrix
product of weights with powers forms all of them. What autograd would keep for each product is kept once, and a
derivative of the derivative goes through the plain formula, `gantext.kernels.expm_formula`. The norms and the means are
read, so that s is chosen on the CPU: on a GPU that is a wait instead of dozens of launches of a few numbers each. With
`squarings` given nothing is read on a GPU, and a CUDA graph may capture both passes.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gantext._checks import no_autocast, transformed
from gantext.kernels.expm_formula import SLIGHT, T18, centred, composed
from gantext.kernels.expm_scaling import (
    FEW,
    cube_size,
    scaled_powers,
    squarings_by_norm,
    squarings_by_powers,
    steps_down,
)

__all__ = ["exponential"]

# For each B_k its weights of A, A^2, A^3, A^6. Made at import, for no trace and no dispatch mode to see; on a GPU once.
CPU = torch.device("cpu")
WEIGHTS = {
    (dtype, CPU): torch.tensor([row[1:] for row in T18], dtype=dtype, device=CPU)
    for dtype in (torch.float32, torch.float64)
}
PART = 2**17  # numbers of a part of the batch for each thread of a CPU: what it allocates is used again for the next


class _Tape(NamedTuple):
    powers: Tensor  # (4, B, n, n), of A / 2^s
    sums: Tensor  # (5, B, n, n): B1, B2, B3 + A9, A9, B5
    scale: Tensor | None  # (B,), 2^-s
    factor: Tensor | None  # (B,), e^(mu / 2^s), or NaN
    squared: list[tuple[Tensor | None, Tensor]]  # for each squaring which matrices, None for all, or a mask; of what


def exponential(X: Tensor, squarings: int | None, theta: float) -> Tensor:
    """exp of X (B, n, n), on a CPU or a GPU, in eager mode; `squarings` and `theta` as in `gantext.matexp.expm`.

    >>> exponential(torch.zeros(1, 2, 2), None, 3.0)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    if torch.is_grad_enabled() and X.requires_grad:
        run = lambda part: _Exponential.apply(part, squarings, theta)
    else:
        run = lambda part: _evaluate(part, squarings, theta)[0]
    few = max(1, (2**28 if X.is_cuda else PART * torch.get_num_threads()) // X[0].numel())  # 10 GB on a GPU
    return run(X) if len(X) <= few else torch.cat([run(part) for part in X.split(few)])


def _evaluate(X: Tensor, squarings: int | None, theta: float) -> tuple[Tensor, _Tape]:
    if X.is_cuda and squarings is not None:
        return _evaluate_unread(X, squarings, theta)
    mean, norm = _centre(X)
    bad = None if norm.max() < math.inf else ~norm.isfinite()
    if bad is not None:
        norm = norm.masked_fill(bad, 0.0)
        mean = mean if mean is None else mean.masked_fill(bad, 0.0)
    s = squarings_by_norm(norm, mean, theta)
    powers, s, most, scale = _powers(X, mean, norm, s, theta)
    if squarings is not None and most > squarings:
        bad = s > squarings if bad is None else bad | (s > squarings)
        s = s.masked_fill(bad, 0.0)
        most = s.max().item()
    factor = None if mean is None else torch.exp(mean * torch.exp2(-s))
    if bad is not None:  # a factor NaN spreads over its own matrix, forward and backward
        factor = torch.ones_like(norm).to(X.dtype) if factor is None else factor
        factor = factor.masked_fill(bad, math.nan)
    factor = None if factor is None else _put(factor, X.device)

    out, sums = _taylor18(powers)
    if factor is not None:
        out.mul_(factor[:, None, None])
    out, squared = _square(out, s, int(most))
    return out, _Tape(powers, sums, scale, factor, squared)


def _evaluate_unread(X: Tensor, squarings: int, theta: float) -> tuple[Tensor, _Tape]:
    """The same by the operations of `expm_formula.composed`, which leave every number on the device."""
    X, mean, norm = centred(X)
    by_powers, s = scaled_powers(X, mean, norm, theta, squarings_by_norm(norm, mean, theta))
    bad, scale, powers = ~norm.isfinite() | (s > squarings), torch.exp2(-s), torch.stack(by_powers)
    factor = torch.exp(mean * scale).masked_fill(bad, math.nan)
    s = s.masked_fill(bad, 0)
    out, sums = _taylor18(powers)
    out.mul_(factor[:, None, None])
    squared = []
    for k in range(squarings):
        at = (s > k)[:, None, None]
        squared.append((at, out))
        out = torch.where(at, torch.bmm(out, out), out)
    return out, _Tape(powers, sums, scale, factor, squared)


def _taylor18(powers: Tensor) -> tuple[Tensor, Tensor]:
    """T18, and B1, B2, B3 + A9, A9, B5, from the powers 1, 2, 3, 6."""
    sums = powers.new_empty(5, *powers.shape[1:])
    torch.mm(_weights(_flat(powers).dtype, powers.device), _flat(powers), out=_flat(sums))
    B1, B2, B3, B4, B5 = sums.unbind()
    for B, weights in ((B3, T18[2]), (B4, T18[3])):
        _diagonal(B).add_(weights[0])
    A9 = B4.add_(torch.bmm(B1, B5))
    return torch.bmm(B3.add_(A9), A9).add_(B2), sums


def _centre(X: Tensor) -> tuple[Tensor | None, Tensor]:
    """mu (B,) or None, and the norm of X - mu I from the column sums, without a second pass; both on the CPU."""
    columns, diagonal = X.abs().sum(-2), _diagonal(X)
    means = diagonal.mean(-1)
    norm, mean = columns.amax(-1).cpu(), means.cpu()
    at = (mean.real < -SLIGHT).nonzero()[:, 0]
    if not len(at):
        return None, norm
    there, whole, moved = _put(at, X.device), norm.index_select(0, at), mean.index_select(0, at)
    columns, diagonal, means = (t.index_select(0, there) for t in (columns, diagonal, means))
    less = (columns - diagonal.abs() + (diagonal - means[:, None]).abs()).amax(-1).cpu()
    found = less < whole
    mean = torch.zeros_like(mean).index_copy_(0, at, moved.where(found, 0))
    return mean, norm.index_copy(0, at, torch.minimum(less, whole))


def _powers(
    X: Tensor, mean: Tensor | None, norm: Tensor, by_norm: Tensor, theta: float
) -> tuple[Tensor, Tensor, float, Tensor | None]:
    """The powers 1, 2, 3, 6 of X / 2^s in one tensor; s (B,), from bounds where `by_norm` is not small; the largest;
    2^-s, or None. s and what it is chosen from are on the CPU."""
    P, s, most = X.new_empty(4, *X.shape), by_norm, by_norm.max().item()
    closer = there = down = None
    put = lambda t: _put(t, X.device)
    take = lambda t: t
    if most > FEW:
        large = by_norm > FEW
        if 2 * large.sum() < len(X):  # else it costs less to look at all than to gather the large ones
            closer = large.nonzero()[:, 0]
            there = put(closer)
            take = lambda t: t.index_select(0, closer)
        down = steps_down(take(norm))
        s = down if closer is None else s.index_copy(0, closer, down)
        most = s.max().item()
    scale = _scale(s, most, X.device)
    if scale is not None:
        torch.mul(X, scale[:, None, None], out=P[0])
    else:
        P[0].copy_(X)
    if mean is not None:
        _diagonal(P[0]).sub_(put(mean * torch.exp2(-s))[:, None])
    torch.bmm(P[0], P[0], out=P[1])
    torch.bmm(P[0], P[1], out=P[2])
    if down is None or closer is not None:
        torch.bmm(P[2], P[2], out=P[3])
    if down is None:
        return P, s, most, scale
    X1, X2, X3 = (t if there is None else t.index_select(0, there) for t in P[:3])
    size = cube_size(X3).cpu()
    unit = X3 * put(torch.exp2(-size))[:, None, None]
    X6 = torch.bmm(unit, unit)
    mean, few = mean if mean is None else take(mean), take(by_norm)
    found = squarings_by_powers((X1, X2, unit, X6), size, down, mean, take(norm), theta, read=True)
    found = torch.minimum(found, few).where(few > FEW, few)
    r = down - found
    factors = put(torch.exp2(torch.stack([r, 2 * r, 3 * r, 2 * size + 6 * r])))[..., None, None]
    for k, (power, f) in enumerate(zip((X1, X2, X3, X6), factors, strict=True)):
        if there is None:
            torch.mul(power, f, out=P[k])
        else:
            P[k].index_copy_(0, there, power.mul_(f))
    s = found if closer is None else s.index_copy(0, closer, found)
    most = s.max().item()
    return P, s, most, _scale(s, most, X.device)


def _square(X: Tensor, s: Tensor, most: int) -> tuple[Tensor, list[tuple[Tensor | None, Tensor]]]:
    """X^(2^s), in place where not all matrices are squared; which of them, None for all, and what is squared."""
    squared = []
    least = s.min().item() if most else 0
    for k in range(most):
        at = None if least > k else _put((s > k).nonzero()[:, 0], X.device)
        part = X if at is None else X.index_select(0, at)
        squared.append((at, part))
        X = torch.bmm(part, part) if at is None else X.index_copy_(0, at, torch.bmm(part, part))
    return X, squared


class _Exponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, X: Tensor, squarings: int | None, theta: float) -> Tensor:
        out, tape = _evaluate(X, squarings, theta)
        ctx.save_for_backward(X, *tape[:-1], *itertools.chain(*tape.squared))
        ctx.given = squarings, theta
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # the base takes anything
        X, *kept = ctx.saved_tensors
        with no_autocast(X.device):
            if torch.is_grad_enabled():  # to be differentiated again
                out = composed(X, *ctx.given)
                return torch.autograd.grad(out, X, G, create_graph=True)[0], None, None
            if transformed(G):
                return torch.func.vjp(lambda X: composed(X, *ctx.given), X)[1](G)[0], None, None
            powers, sums, scale, factor, *squared = kept
            pairs = list(zip(squared[::2], squared[1::2], strict=True))
            return _adjoint(G, _Tape(powers, sums, scale, factor, pairs)), None, None


def _adjoint(G: Tensor, tape: _Tape) -> Tensor:
    """The gradient with respect to X, from that with respect to exp X: the products backwards, two for each."""
    own = False
    for at, X in reversed(tape.squared):
        if at is not None and at.dtype == torch.bool:
            G = torch.where(at, torch.bmm(G, X.mH).baddbmm_(X.mH, G), G)
            continue
        g = G if at is None else G.index_select(0, at)
        g = torch.bmm(g, X.mH).baddbmm_(X.mH, g)
        G, own = g if at is None else (G if own else G.clone()).index_copy_(0, at, g), True
    B1, _, C, A9, B5 = tape.sums.unbind()
    grads = torch.empty_like(tape.sums)
    g1, g2, g3, g4, g5 = grads.unbind()  # with respect to B1 ... B5
    if tape.factor is None:
        g2.copy_(G)
    else:
        torch.mul(G, tape.factor.conj_physical()[:, None, None], out=g2)
    torch.bmm(g2, A9.mH, out=g3)
    torch.baddbmm(g3, C.mH, g2, out=g4)
    torch.bmm(g4, B5.mH, out=g1)
    torch.bmm(B1.mH, g4, out=g5)
    powers = torch.empty_like(tape.powers)
    torch.mm(_weights(_flat(powers).dtype, G.device).T, _flat(grads), out=_flat(powers))
    A1, A2, A3, _ = tape.powers.unbind()
    p1, p2, p3, p6 = powers.unbind()  # with respect to A, A^2, A^3, A^6
    p3.baddbmm_(p6, A3.mH).baddbmm_(A3.mH, p6)
    p1.baddbmm_(p3, A2.mH)
    p2.baddbmm_(A1.mH, p3)
    p1.baddbmm_(p2, A1.mH).baddbmm_(A1.mH, p2)
    return p1.clone() if tape.scale is None else p1 * tape.scale[:, None, None]


def _put(t: Tensor, device: torch.device) -> Tensor:
    return t.to(device, non_blocking=True)


def _weights(dtype: torch.dtype, device: torch.device) -> Tensor:
    found = WEIGHTS.get((dtype, device))
    if found is None:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():  # which a copy from the CPU would end
            rows = [[torch.full((), c, dtype=dtype, device=device) for c in row[1:]] for row in T18]
            return torch.stack([torch.stack(row) for row in rows])  # not kept: no number is in it before a replay
        found = WEIGHTS[dtype, device] = WEIGHTS[dtype, CPU].to(device)
    return found


def _scale(s: Tensor, most: float, device: torch.device) -> Tensor | None:
    """2^-s: None where all are 1, and no copy from the CPU where all are equal."""
    if not most:
        return None
    same = s.min().item() == most
    return torch.full((1,), 2.0**-most, dtype=s.dtype, device=device) if same else _put(torch.exp2(-s), device)


def _diagonal(X: Tensor) -> Tensor:
    return X.diagonal(dim1=-2, dim2=-1)


def _flat(t: Tensor) -> Tensor:
    """One row a matrix of the first dimension, real: the weights are."""
    return (torch.view_as_real(t) if t.is_complex() else t).view(len(t), -1)
