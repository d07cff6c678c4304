"""How often the matrices of a batch are halved before T18, and squared after it: few by their norm, else by powers.

Used by every route of `gantext.matexp.expm`; the Triton kernel repeats it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gantext._checks import product

__all__ = ["cube_size", "norm_of", "room", "scaled_powers", "squarings_by_norm", "squarings_by_powers", "steps_down"]

LONG, LONGER = 3.5, 4.5  # of ||X^6||^(1/6) / 2^s and ||X^12||^(1/12) / 2^s, see `squarings_by_powers`
MEAN = 32.0  # of |mu| / 2^s: e^mu by itself leaves the range long before exp A
FEW = 3  # squarings by ||X|| alone that cost less than to look closer, and at most a factor 8 in the error


def norm_of(X: Tensor) -> Tensor:
    """||X||_1 (B,), the largest column sum; several times as fast as `torch.linalg.vector_norm` on a CPU."""
    return X.abs().sum(-2).amax(-1)


def squarings_by_norm(norm: Tensor, mean: Tensor | None, theta: float) -> Tensor:
    """Squarings (B,), as floats, for which ||X||_1 <= 2^s theta, and |mu| <= 2^s 32.

    >>> squarings_by_norm(torch.tensor([1.0, 9.0]), None, 3.0)
    tensor([0., 2.])
    """
    size = norm / theta
    if mean is not None:
        size = torch.maximum(size, mean.abs() / MEAN)
    return size.clamp(min=1).log2().ceil()


def scaled_powers(
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
        s = squarings_by_powers(tuple(P.detach() for P in (X1, X2, unit, X6)), size, down, mean, norm, theta)
        s = torch.minimum(s, by_norm).where(by_norm > FEW, by_norm)  # the powers are rounded, ||X|| is not
    r = down - s
    factors = r, 2 * r, 3 * r, 2 * size + 6 * r
    return tuple(P * at(torch.exp2(f)) for P, f in zip((X1, X2, X3, X6), factors, strict=True)), s


def room(dtype: torch.dtype) -> int:
    """log2 of what a matrix may be for its cube to lie within the range of the dtype."""
    return int(math.log2(torch.finfo(dtype).max) // 3 - 2)


def steps_down(norm: Tensor) -> Tensor:
    """Halvings (B,), as floats, after which a matrix of such a norm has a cube within the range; mostly none."""
    return (norm.clamp(min=1).log2() - room(norm.dtype)).ceil().clamp(min=0)


def cube_size(X3: Tensor) -> Tensor:
    """log2 (B,) of the norm of a cube, rounded; the square of X3 / 2^size is in range wherever it matters."""
    return norm_of(X3).clamp(min=2.0 ** (-3 * room(X3.dtype))).log2().round()


def squarings_by_powers(
    powers: tuple[Tensor, ...],
    size: Tensor,
    down: Tensor,
    mean: Tensor | None,
    norm: Tensor,
    theta: float,
    read: bool = False,
) -> Tensor:
    """Squarings (B,), as floats, for which the backward error of T18 stays below the unit roundoff.

    That error, relative to X / 2^s, is to first order at most the sum over k >= 18 of c_k ||X^k|| / 2^(sk) with
    c_k = 1 / (18! (k - 18)! (k + 1)), which is the unit roundoff at ||X^k|| = (2^s theta)^k. So ||X^k||^(1/k) <= 2^s
    theta is asked for k = 18 ... 23. Every higher power is one of them times powers of X^6: where ||X^6||^(1/6) <= 2^s
    `LONG`, their terms add less than another roundoff. Where it is not, as for a graded triangular matrix, k = 24 to 29
    are asked for too, and `LONGER` of ||X^12||^(1/12), by the same argument.

    No power beyond X^6 is formed: the column sums of a product of absolute values bound it, and cost a vector a factor.
    One badly scaled entry, b in [[1, b], [0, -1]], then enters the bound once and not once a factor.

    Args:
        powers: without a graph, of X1 = X / 2^down: X1, X1^2, X1^3 / 2^size, X1^6 / 4^size.
        mean, norm: mu, or None, and the norm of X.
        read: read what the powers say, and have on the CPU all that has a number for each matrix, given and returned;
            look whether any needs the longer bounds, which else are formed for all. The result is the same.

    >>> X = torch.diag_embed(torch.tensor([[8.0, -8.0]]))
    >>> zero = torch.zeros(1)
    >>> squarings_by_powers((X, X @ X, X @ X @ X, (X @ X @ X) @ (X @ X @ X)), zero, zero, None, zero + 8, 1.0)
    tensor([3.])
    """
    X1, X2, X3, X6 = powers
    n, most, log_theta = X1.shape[-1], room(X1.dtype), math.log2(theta)
    least = n * torch.finfo(X1.dtype).tiny  # all that a sum may have lost to underflow
    low, a6 = torch.cat([X1, X2, X3], -1).abs(), X6.abs()
    row = a6.sum(-2, keepdim=True)
    scale = row.amax(-1, keepdim=True).clamp(min=least)
    log_of = lambda t: (t.cpu() if read else t).log2()
    a6, row, six = a6 / scale, row / scale, log_of(scale[:, 0, 0]) + 2 * size

    def times_six(row: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
        """The column sums of a power are at most row 2^log: those of the power times X^6."""
        row = (row @ a6).clamp(min=least)
        top = row.amax(-1, keepdim=True)
        return row / top, log + six + log_of(top[:, 0, 0])

    row, twelve = times_six(row, six)
    row, log = times_six(row, twelve)
    rows, logs = row, log[:, None]
    # ||X^18|| alone asks for log / 18 - log_theta squarings. Not "greater", so that NaN of one does not hide another.
    longer = not read or not (six / 6 - log / 18).max().item() <= math.log2(LONG) - log_theta
    if longer:
        row, further = times_six(row, log)
        rows, logs = torch.cat([rows, row], 1), torch.stack([log, further], 1)
    first = rows @ low  # (B, 1 or 2, 3n): times X, X^2, X^3
    second = first[..., 2 * n :] @ low[..., : 2 * n]
    tops = log_of(torch.cat([rows, first, second], -1).unflatten(-1, (6, n)).amax(-1).clamp(min=least))
    tops += logs[..., None]
    tops[..., 3:] += size[:, None, None]
    k = torch.arange(18, 18 + 6 * rows.shape[1], dtype=size.dtype, device=size.device).view(-1, 6)
    need, *further = ((tops / k).amax(-1) - log_theta).unbind(1)
    if longer:
        further = torch.maximum(further[0], twelve / 12 - math.log2(LONGER))
        need = torch.maximum(need, further).where(six / 6 - math.log2(LONG) > need, need)
    # What follows keeps the powers of X / 2^s in range, and X^6 above what underflow may have left of it.
    lost = math.log2(least / torch.finfo(X1.dtype).eps) + 2 * size
    need = torch.maximum(need, torch.maximum((six - 3 * most) / 6, lost / 6 - math.log2(LONG))).clamp(min=-most) + down
    if mean is not None:
        need = torch.maximum(need, mean.abs().clamp(min=1).log2() - math.log2(MEAN))
    return need.ceil().clamp(min=0)
