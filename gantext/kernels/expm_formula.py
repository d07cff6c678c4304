"""The matrix exponential of a batch by operations that PyTorch differentiates, traces and transforms itself.

The function is `gantext.matexp.expm`; its other routes, `expm_eager` and `expm_triton`, compute the same formula, and
the derivatives of their derivatives through this one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gantext._checks import product
from gantext.kernels.expm_scaling import FEW, norm_of, scaled_powers, squarings_by_norm

__all__ = ["T18", "THETA18", "WIDEST", "centred", "composed", "taylor18"]

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

WIDEST = {torch.float32: 32, torch.float64: 16}  # order for the kernel, by what it computes in: registers are full
SLIGHT = 0.5  # of -mu: below it the terms of T18 cancel by less than a factor e
_MAX_SQUARINGS = 1024  # log2 of the largest float64 norm over theta, rounded up


def composed(X: Tensor, squarings: int | None, theta: float) -> Tensor:
    """The matrix exponential of X (B, n, n) by operations that PyTorch differentiates, traces and transforms itself.

    Args: X in the dtype of the products; squarings and theta as in `expm`.

    >>> composed(torch.zeros(1, 2, 2), None, 3.0)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    X, mean, norm = centred(X)
    bad = ~norm.isfinite()
    s = squarings_by_norm(norm, mean, theta)
    most = math.inf if squarings is not None else _largest(s)
    if most > FEW:
        powers, s = scaled_powers(X, mean, norm, theta, s)
    else:
        powers = _powers(X * torch.exp2(-s)[:, None, None] if most else X)
    if squarings is not None:
        bad = bad | (s > squarings)
    # A factor NaN spreads over its own matrix in forward and backward, and costs no pass of its own.
    factor = torch.exp(mean * torch.exp2(-s)).masked_fill(bad, math.nan)
    s = s.masked_fill(bad, 0).long()
    X = taylor18(powers) * factor[:, None, None]
    if most:
        X = _square_sorted(X, s) if squarings is None else _square_masked(X, s, squarings)
    return X


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


def centred(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """X - mu I, mu (B,) and the norm of X - mu I. exp X does not depend on mu, so none needs a graph through it."""
    Y = X.detach()
    mean = Y.diagonal(dim1=-2, dim2=-1).mean(-1)
    eye = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    norm, less = norm_of(Y), norm_of(Y - mean[:, None, None] * eye)
    found = (mean.real < -SLIGHT) & (less < norm)
    mean = mean.where(found, 0)
    return X - mean[:, None, None] * eye, mean, less.where(found, norm)


def _powers(X: Tensor) -> tuple[Tensor, ...]:
    """X, X^2, X^3, X^6."""
    X2 = product(X, X)
    X3 = product(X, X2)
    return X, X2, X3, product(X3, X3)


def taylor18(powers: tuple[Tensor, ...]) -> Tensor:
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
