"""Descent on the unit sphere: projection, retraction, exponential map, distance, and one update of spherical text.

Rows are points of the sphere S^(p-1) in R^p: the last dimension is p, the ones before it are a batch and broadcast.
Everything can be differentiated. An argument of the wrong kind raises TypeError, one of the wrong shape or device
ValueError. Sources, unless said: Absil, Mahony, Sepulchre, "Optimization Algorithms on Matrix Manifolds" (Princeton
2008), sections 3.6, 4.1 and 5.4. The chapter is `jose`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gantext._checks import check_number
from gantext.kernels.sphere import MODES, Mode, unit_rows

__all__ = ["MODES", "dist", "egrad2rgrad", "expmap", "projx", "retr", "step", "update_ref"]


def projx(x: Tensor) -> Tensor:
    """The nearest point of the sphere, `x / |x|`.

    Rows (..., p) of any length: neither overflow nor underflow of `|x|^2` matters. A zero row has no direction and
    becomes (1, 0, ..., 0), with gradient 0, so that no NaN enters a table; a row with NaN or infinity is NaN.

    >>> projx(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1e-30]]))
    tensor([[0.6000, 0.8000],
            [1.0000, 0.0000],
            [0.0000, 1.0000]])
    """
    return unit_rows(*_rows("projx", x=x))


def egrad2rgrad(x: Tensor, g: Tensor) -> Tensor:
    """Riemannian gradient: the part of a Euclidean gradient that is tangent at x, g - <x, g> x.

    It needs unit rows x: at another length the result is not orthogonal to x.

    >>> egrad2rgrad(torch.tensor([1.0, 0.0]), torch.tensor([5.0, 2.0]))
    tensor([0., 2.])
    """
    x, g = _rows("egrad2rgrad", x=x, g=g)
    return g - _dot(x, g) * x


def retr(x: Tensor, z: Tensor) -> Tensor:
    """Retraction: the step z tangent at the unit row x, then straight back to the sphere, `(x + z) / |x + z|`.

    It turns by `arctan |z| = |z| - |z|^3 / 3 + ...`, not by `|z|` as `expmap`: no step exceeds a quarter turn.

    >>> retr(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    tensor([0.7071, 0.7071])
    """
    x, z = _rows("retr", x=x, z=z)
    return projx(x + z)


def expmap(x: Tensor, z: Tensor) -> Tensor:
    """Exponential map: along the great circle with velocity z for unit time, `cos |z| x + sin |z| z / |z|`.

    x are unit rows, z tangent there; `|z|` is an angle in radians, 0 gives x itself.

    >>> expmap(torch.tensor([1.0, 0.0]), torch.tensor([0.0, torch.pi / 2])).round(decimals=6).abs()
    tensor([0., 1.])
    """
    x, z = _rows("expmap", x=x, z=z)
    angle = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return projx(angle.cos() * x + torch.sinc(angle / torch.pi) * z)


def dist(x: Tensor, y: Tensor) -> Tensor:
    """The angle between unit rows, `2 atan2(|x - y|, |x + y|)`, in [0, pi] radians, (...) without p.

    The commonest surprise: arccos <x, y> is no substitute. In float32 it sees no angle below 3e-4 and is NaN where
    rounding makes the product exceed 1, and its derivative is infinite at 0 and pi; here gradients are 0 there.
    Source: Kahan, "How Futile are Mindless Assessments of Roundoff in Floating-Point Computation?" (2006), section 12.

    >>> x = torch.tensor([1.0, 0.0])
    >>> dist(x, torch.tensor([[1.0, 1e-6], [-1.0, 0.0]]))
    tensor([1.0000e-06, 3.1416e+00])
    """
    x, y = _rows("dist", x=x, y=y)
    return 2 * torch.atan2(torch.linalg.vector_norm(x - y, dim=-1), torch.linalg.vector_norm(x + y, dim=-1))


def step(x: Tensor, g: Tensor, rate: float, *, angle: bool = True) -> Tensor:
    """One step of Riemannian descent with retraction, plain or with the factor of spherical text embedding.

    x' = R_x(-rate s grad f), with grad f = g - <x, g> x, and `s = 1 + <x, g> / |g| = 1 - cos(x, -g)` in [0, 2] if
    `angle`, else s = 1.

    Args:
        x: unit rows. g: Euclidean gradients of f there; where g is 0, x stays.
        rate: learning rate, >= 0. angle: multiply by s.

    The commonest surprise: s slows what is nearly right. For f = -<a, x> the angle to a falls with it like
    `1 / sqrt(rate |a| t)`, geometrically without.
    Source: Meng et al., "Spherical Text Embedding", NeurIPS 2019 (arXiv 1911.01196), section 4.

    >>> x, g = torch.tensor([0.6, 0.8]), torch.tensor([-1.0, 0.0])  # minimise -x_0
    >>> ratio = dist(x, step(x, g, 0.1)) / dist(x, step(x, g, 0.1, angle=False))
    >>> round(ratio.item(), 2)  # s = 1 - 0.6
    0.4
    """
    rate = check_number("step", "rate", rate, 0, included=True)
    x, g = _rows("step", x=x, g=g)
    s = 1 + _dot(x, projx(g)) if angle else 1  # projx(0) is some unit vector, but then the gradient is 0
    return retr(x, -rate * s * egrad2rgrad(x, g))


def update_ref(
    u: Tensor, v: Tensor | None, d: Tensor | None, n: Tensor, *, rate: float, margin: float = 0.15, mode: Mode = "paper"
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """One update of spherical text embedding for one tuple, in float64, as it is written on paper.

    The loss is `max(0, margin - <u, v> - <u, d> + <n, v> + <n, d>)` for a centre word u, a context word v, a document
    d and a negative word n. Where it is 0 nothing moves; else every row takes one `step`, from the old values of all.

    Args:
        u, n: (p,) unit rows. v, d: likewise, or None for either: the hinge of the other alone.
        rate: learning rate, >= 0. margin: > 0.
        mode: "paper": every step has the factor s of `step`. "plain": none has. "reference": what the program released
            with the paper does: a hinge of (u, v, n) and then one of (u, d, n), each with its own margin, where with
            f = <u, v> and h = <n, v> the factors are 1 - f for u, 2 h for n (which descends h^2, not h), and
            1 - (f - h) for v; with d in place of v in the second.

    Returns:
        (u, v, d, n) afterwards, float64, None where None was given.

    The commonest surprise: rows, not words, are given here. A tuple whose negative is the word of u or of v is to be
    skipped in every mode, and that is for the caller to do.
    Source: Meng et al., NeurIPS 2019, equations 4 to 6; for "reference" the program's behaviour, in our words.

    >>> u, v, n = torch.eye(3)
    >>> u, v, d, n = update_ref(u, v, None, n, rate=0.1)
    >>> dist(torch.stack([u, n]), v).div(torch.pi / 2).round(decimals=2)  # each was a right angle
    tensor([0.8700, 1.1300], dtype=torch.float64)
    """
    rate = check_number("update_ref", "rate", rate, 0, included=True)
    margin = check_number("update_ref", "margin", margin, 0)
    if mode not in MODES:
        raise ValueError(f"update_ref: mode is {mode!r}, must be one of {', '.join(MODES)}. See its docstring.")
    partners = {name: row for name, row in {"v": v, "d": d}.items() if row is not None}
    if not partners:
        raise ValueError("update_ref: v and d are both None, one must be given. Pass the context or the document.")
    u, n, *rows = (row.detach().double() for row in _rows("update_ref", u=u, n=n, **partners))
    if any(row.dim() != 1 for row in (u, n, *rows)):
        raise ValueError("update_ref: u, v, d and n must each be one row, (p,). Call it for each tuple.")
    if mode == "reference":
        for k, x in enumerate(rows):
            f, h = u @ x, n @ x
            if margin - f + h > 0:
                u, n, rows[k] = (
                    retr(u, rate * (1 - f) * (x - f * u)),
                    retr(n, rate * 2 * h * (h * n - x)),
                    retr(x, rate * (1 - (f - h)) * (u - n - (f - h) * x)),
                )
    else:
        total = torch.stack(rows).sum(0)  # v + d
        if margin - u @ total + n @ total > 0:
            go = lambda x, g: step(x, g, rate, angle=mode == "paper")
            u, n, rows = go(u, -total), go(n, total), [go(x, n - u) for x in rows]
    after = dict(zip(partners, rows, strict=True))
    return u, after.get("v"), after.get("d"), n


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


def _rows(name: str, **rows: Tensor) -> list[Tensor]:
    for argument, t in rows.items():
        if not isinstance(t, Tensor) or not t.is_floating_point():
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"{name}: {argument} is {got}, must be a floating tensor. Use torch.as_tensor(...).float()."
            )
        if t.dim() == 0 or t.shape[-1] == 0:
            raise ValueError(f"{name}: {argument} has shape {tuple(t.shape)}, must be (..., p), p >= 1. Give it rows.")
    given = list(rows.values())
    try:
        torch.broadcast_shapes(*(t.shape[:-1] for t in given))
        fit = len({(t.shape[-1], t.device) for t in given}) == 1
    except RuntimeError:
        fit = False
    if not fit:
        found = ", ".join(f"{argument} {tuple(t.shape)} on {t.device}" for argument, t in rows.items())
        raise ValueError(
            f"{name}: the rows are {found}, must be of one width and device, and broadcast. Use rows of one table."
        )
    return given
