"""Cascading rejection: what one weight vector has scored is projected away before the next one scores.

It makes several heads of a critic say different things. Everything is computed in float32 or better, also under
autocast, backward passes included, and can be differentiated twice, so that gradient penalties may run through it.
An argument of the wrong kind raises TypeError, one outside its stated range ValueError, before anything is computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gantext._checks import check_count, floating, no_autocast, product, rounds_products, solve_unit, transformed, wide

__all__ = ["CascadeHead", "cascade_directions", "cascade_ref"]


def cascade_ref(v: Tensor, W: Tensor, orthogonal: bool = False) -> Tensor:
    """Cascading rejection, literally: score, project what was scored away, score again. The reference of `CascadeHead`.

    `D_i = <v_i, w_i>`, `v_(i+1) = v_i - (D_i / |w_i|^2) w_i` from v_1 = v on (equation `cascading-rejection:step`).
    A w of zeros removes nothing.

    Args:
        v: (N, d), floating.
        W: (K, d), the w_i as rows, or (N, K, d), a set for each sample; in the dtype of v, which is kept.
        orthogonal: project against the w_i's part across the earlier ones instead, the Gram-Schmidt form, in which
            v_(i+1) is orthogonal to all of w_1 ... w_i and not to the last alone.
    Returns:
        Scores (N, K).

    Source: Shin et al., arXiv 1911.10979.

    >>> cascade_ref(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))  # 4 of 7: the 3 is gone
    tensor([[6., 4.]])
    """
    v, W = floating("cascade_ref", "v", v), floating("cascade_ref", "W", W)
    if v.dim() != 2 or W.dim() not in (2, 3) or W.shape[-1] != v.shape[1] or (W.dim() == 3 and len(W) != len(v)):
        raise ValueError(
            f"cascade_ref: v and W have shapes {tuple(v.shape)} and {tuple(W.shape)}, must be (N, d) and (K, d) or "
            "(N, K, d). Put the vectors into rows."
        )
    rows, scores = list(W.unbind(-2)), []
    for i, w in enumerate(rows, 1):
        scores.append(_dot(v, w))
        if i < len(rows):  # the last rejection would be for nothing
            v = _reject(v, w, scores[-1])
        if orthogonal:
            rows[i:] = [_reject(later, w, _dot(later, w)) for later in rows[i:]]
    return torch.stack(scores, -1)


def _dot(v: Tensor, w: Tensor) -> Tensor:
    return v @ w if w.dim() == 1 else (v * w).sum(-1)


def _reject(v: Tensor, w: Tensor, score: Tensor) -> Tensor:
    return v - (score * _reciprocal(_dot(w, w)))[..., None] * w


def _reciprocal(s: Tensor, least: Tensor | float = 0.0) -> Tensor:
    """1 / s where s > least, else 0 with gradient 0: guarded before the division, as a `where` after it leaves NaN."""
    dead = s <= least
    return s.masked_fill(dead, 1).reciprocal().masked_fill(dead, 0)


def cascade_directions(W: Tensor, orthogonal: bool = False) -> Tensor:
    """The weights of the linear head that cascading rejection is: `D_i = <v, w~_i>`.

    `w~_i = P_1 P_2 ... P_(i-1) w_i`, with P_j the projection across w_j (equation `cascading-rejection:collapsed`), all
    at once from one triangular system of the w's Gram matrix; with `orthogonal`, w_i less its components along all
    earlier ones (equation `cascading-rejection:gram-schmidt`).

    Args:
        W: (..., K, d), floating.
        orthogonal: Gram-Schmidt instead of the product of projections.
    Returns:
        (..., K, d), float32 or better; the first row is w_1, and the others are orthogonal to it, but not to one
        another, unless `orthogonal`. A w of zeros removes nothing, and neither does, in the orthogonal form, one that
        the earlier ones span: `cascade_ref` takes what rounding leaves of it for a direction.

    >>> cascade_directions(torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    tensor([[2., 0.],
            [0., 1.]])
    """
    W = wide(floating("cascade_directions", "W", W))
    if W.dim() < 2:
        raise ValueError(f"cascade_directions: W has shape {tuple(W.shape)}, must be (..., K, d). Stack the vectors.")
    if W.shape[-2] == 1:
        return W
    orthogonal = orthogonal and W.shape[-2] > 2  # of two rows they are the same
    with no_autocast(W.device):
        if torch.compiler.is_compiling() or transformed():  # they see into nothing that is by hand
            X, unit = _scaled(W)
            return ((_gram_schmidt(X) if orthogonal else _projections(X)[0]) * unit).to(W.dtype)
        return _Directions.apply(W, orthogonal)


def _scaled(W: Tensor) -> tuple[Tensor, Tensor]:
    """The rows over their largest entries, and those; 1 for a row of zeros."""
    # A w~ is the small difference of large vectors: not from products that a global switch rounds to TF32.
    exact = W.double() if W.dtype == torch.float32 and rounds_products(W.device.type, W.device.index) else W
    # w~_i is proportional to w_i and independent of the other lengths, so a unit per row needs no graph.
    unit = torch.linalg.vector_norm(exact.detach(), torch.inf, -1, keepdim=True)
    unit = unit.masked_fill(unit == 0, 1)
    return exact / unit, unit


class _Directions(torch.autograd.Function):
    """The directions, with the gradient in closed form: a quarter of what autograd would launch, whatever K is.

    X the scaled rows, U their directions, G the gradient of U. In both forms U = A X with A the inverse of a unit lower
    triangle. Projections: L_ij = <x_i, x_j> / |x_j|^2 below the diagonal, R = A^T G, and, from dL = -R U^T and the
    Gram matrix,

        M_ij = -<r_i, u_j> / |x_j|^2 (i > j),  m_j = -sum_i M_ij L_ij,  dX = R + (M + M^T + 2 diag(m)) X.

    Gram-Schmidt: X = L U with L_ij = <x_i, u_j> / |u_j|^2. From A dX = (A dL) U + dU and dU U^T + U dU^T = diagonal,

        Q_ij = <g_i, u_j> / |u_j|^2 (i > j),  dX = A^T (G - (Q + Q^T) U),

    where a u_j that is no direction counts as 0 in L and Q.
    """

    @staticmethod
    def forward(ctx: Any, W: Tensor, orthogonal: bool) -> Tensor:
        X, unit = _scaled(W)
        U, *rest = (_gram_schmidt_steps if orthogonal else _projections)(X)
        ctx.orthogonal = orthogonal
        ctx.save_for_backward(W, X, unit, U, *rest)
        return (U * unit).to(W.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        W, X, unit, *saved = ctx.saved_tensors
        with no_autocast(W.device):
            if torch.is_grad_enabled():  # the gradient is to be differentiated, by X too
                X, unit = _scaled(W)
                if ctx.orthogonal:
                    U = _gram_schmidt(X)
                    squared, left = (t.square().sum(-1, keepdim=True) for t in (X, U))
                    saved = [U, _reciprocal(left, _least(X) ** 2 * squared)]
                else:
                    saved = _projections(X)
            G = grads[0].to(X.dtype) * unit
            dX = (_gram_schmidt_backward if ctx.orthogonal else _projection_backward)(G, X, *saved)
            return (dX / unit).to(W.dtype), None


def _projections(W: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """v_i = v - sum_(j<i) (D_j / |w_j|^2) w_j, scored by w_i: a triangular system for D, hence for the directions A W.

    The largest entry of a row is 1 or 0 here, so |w|^2 is at least 1 or 0, and then its column of the Gram matrix too.
    Behind the directions come L, of which what is below the diagonal is used, its inverse A, and |w_j|^2, as a row.
    """
    gram = product(W, W.mT)
    squared = gram.diagonal(dim1=-2, dim2=-1).clamp(min=1)[..., None, :]
    L = gram / squared
    eye = torch.eye(L.shape[-1], dtype=W.dtype, device=W.device).expand_as(L)
    A = solve_unit(L, eye)  # K x K: W need not be reordered
    return product(A, W), L, A, squared


def _projection_backward(G: Tensor, X: Tensor, U: Tensor, L: Tensor, A: Tensor, squared: Tensor) -> Tensor:
    R = product(A.mT, G)
    minus = product(R, U.mT).tril(-1) / squared  # -M
    m = (minus * L).sum(-2)
    return torch.addcmul(R, m[..., None], X, value=2) - product(minus + minus.mT, X)


def _least(X: Tensor) -> float:
    """Of |x|, below it what is left of a row is rounding."""
    return 10 * torch.finfo(X.dtype).eps


def _gram_schmidt_steps(X: Tensor) -> tuple[Tensor, Tensor]:
    """`_gram_schmidt`, row by row in place, and 1 / |u_j|^2, (..., K, 1), 0 where u_j is no direction."""
    U = X.reshape(-1, *X.shape[-2:]).clone()  # (C, K, d)
    units = torch.empty_like(U)
    lengths = torch.linalg.vector_norm(U, dim=-1, keepdim=True)  # (C, K, 1)
    dead = lengths * _least(X)
    for i in range(U.shape[1]):
        u, earlier = U[:, i : i + 1], units[:, :i]
        if i:
            for _ in range(2):  # once leaves rounding along the earlier ones where u is nearly in their span
                u.baddbmm_(u @ earlier.mT, earlier, alpha=-1)
            lengths[:, i : i + 1] = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
        length = lengths[:, i : i + 1]
        length.masked_fill_(length <= dead[:, i : i + 1], torch.inf)
        torch.div(u, length, out=units[:, i : i + 1])
    return U.view_as(X), lengths.pow(-2).view(*X.shape[:-1], 1)


def _gram_schmidt_backward(G: Tensor, X: Tensor, U: Tensor, inverse: Tensor) -> Tensor:
    Q = (product(G, U.mT) * inverse.mT).tril(-1)
    L = product(X, U.mT) * inverse.mT
    return solve_unit(L.mT, G - product(Q + Q.mT, U), True)


def _gram_schmidt(W: Tensor) -> Tensor:
    done = W[..., :1, :]
    least = _least(W) ** 2
    squared = W.square().sum(-1, keepdim=True)  # (..., K, 1)
    inverse = _reciprocal(squared[..., :1, :])
    for i in range(1, W.shape[-2]):
        w = W[..., i : i + 1, :]
        for _ in range(2):  # once leaves rounding along the earlier ones where w is nearly in their span
            w = w - product(product(w, done.mT) * inverse.mT, done)
        done = torch.cat([done, w], -2)
        if i + 1 < W.shape[-2]:  # the last row is projected and projects nothing
            left = _reciprocal(w.square().sum(-1, keepdim=True), least * squared[..., i : i + 1, :])
            inverse = torch.cat([inverse, left], -2)
    return done


class CascadeHead(nn.Linear):
    """The last layer of a critic with cascading rejection: an `nn.Linear` whose rows are projected before use.

    Scores `<v, w~_i> + b_i`, one product of (N, d) and (d, K) with the `cascade_directions` of the weight (equation
    `cascading-rejection:collapsed`); the biases take no part in the projections. Equal to `cascade_ref` plus bias.

    Args:
        features: d >= 1.
        heads: K >= 1; with 1 it is `nn.Linear(features, 1)`.
        orthogonal: reject against Gram-Schmidt directions, so that no score repeats another's; K <= d.
        classes: number of classes C of the conditional form, the projection discriminator's: samples of class y are
            scored by w_i + e_i(y). The e, `embedding` of shape (C, K, d), start at 0.
        bias, device, dtype: as in `nn.Linear`.
    Returns of a call `head(v)`, or `head(v, y)` with classes y (N,) of int64:
        Scores (N, K), float32 or better, large for real.

    The commonest surprise: average the K *losses*, as every `Objective` does with (N, K) scores, not the scores: their
    mean is one linear score again. `torch.nn.utils.parametrizations.spectral_norm` acts before the projections.
    Source: Shin et al., arXiv 1911.10979; Miyato, Koyama 2018 for the conditional form.

    >>> _ = torch.manual_seed(0)
    >>> head, v = CascadeHead(8, heads=3), torch.randn(5, 8)
    >>> torch.allclose(head(v), cascade_ref(v, head.weight) + head.bias, atol=1e-6)
    True
    """

    def __init__(
        self,
        features: int,
        heads: int = 1,
        orthogonal: bool = False,
        classes: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        features = check_count("CascadeHead", "features", features)
        heads = check_count("CascadeHead", "heads", heads)
        classes = None if classes is None else check_count("CascadeHead", "classes", classes)
        if orthogonal and heads > features:
            raise ValueError(
                f"CascadeHead: heads is {heads}, must be <= {features} features if orthogonal: the others would always "
                "score 0. Use fewer."
            )
        super().__init__(features, heads, bias, device, dtype)
        self.orthogonal, self.classes = orthogonal, classes
        start = None if classes is None else torch.zeros(classes, heads, features, device=device, dtype=dtype)
        self.embedding = None if start is None else nn.Parameter(start)

    def reset_parameters(self) -> None:
        """Weight and bias as `nn.Linear` starts them, the classes' embedding at 0."""
        super().reset_parameters()
        embedding = getattr(self, "embedding", None)  # nn.Linear calls this before there is one
        if embedding is not None:
            nn.init.zeros_(embedding)

    # The base is nn.Linear, for its weights and their start; a class for each sample is this head's own.
    def forward(self, v: Tensor, y: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]  # nn.Linear takes no label
        v = wide(floating("CascadeHead", "v", v))
        if v.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"CascadeHead: v has shape {tuple(v.shape)}, must be (N, {self.in_features}). Flatten the features."
            )
        if y is not None and (not isinstance(y, Tensor) or y.dtype not in (torch.int32, torch.int64)):
            got = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise TypeError(f"CascadeHead: y is {got}, must be torch.int64, classes. Convert it with y.long().")
        if (y is None) != (self.embedding is None) or (y is not None and y.shape != v.shape[:-1]):
            got = "None" if y is None else f"of shape {tuple(y.shape)}"
            want = "None without classes" if self.embedding is None else f"classes of shape {tuple(v.shape[:-1])}"
            raise ValueError(f"CascadeHead: y is {got}, must be {want}. Pass one class for each sample.")
        with no_autocast(v.device):
            bias = None if self.bias is None else wide(self.bias)
            if y is None or self.embedding is None:
                W = cascade_directions(self.weight, self.orthogonal).to(v.dtype)  # (K, d)
                scores = product(v.reshape(-1, self.in_features), W.mT).reshape(*v.shape[:-1], len(W))
                return scores if bias is None else scores + bias
            W = cascade_directions(wide(self.weight) + wide(self.embedding), self.orthogonal)  # (C, K, d)
            try:
                rows = F.embedding(y, W.flatten(1)).unflatten(-1, W.shape[1:])  # (N, K, d)
            except IndexError as error:  # a GPU's own assertion comes too late to be caught
                rule = f"must be from 0 to {len(W) - 1}. Number them from 0."
                raise ValueError(f"CascadeHead: y has classes from {y.min()} to {y.max()}, {rule}") from error
            scores = product(rows.to(v.dtype), v[..., None])[..., 0]
        return scores if bias is None else scores + bias

    def extra_repr(self) -> str:
        more = "" if self.classes is None else f", classes={self.classes}"
        return (
            f"features={self.in_features}, heads={self.out_features}, orthogonal={self.orthogonal}{more}, "
            f"bias={self.bias is not None}"
        )
