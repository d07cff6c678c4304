"""UniLM's prefix-LM mask, and attention under it without a masked kernel.

The chapter is `prefix-lm`. Positions j < s, the prefix, are seen by all rows; from s on row i sees j <= i. The model is
`gantext.seq2seq.transformer.Transformer`, decoding is `gantext.seq2seq.decoding`.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gantext._checks import check_count, floating, transformed, wide

__all__ = ["Layout", "additive", "attention", "attention_ref", "mask", "segment_mask"]

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v (B, H, R, D) -> (B, H, R, D)
Lengths = int | Sequence[int] | Tensor  # one for the batch, or one a sequence

BLOCK = 256  # target rows of one call where there is no bottom-right aligned kernel
SHORT, MANY = 256, 1024  # lengths from which two calls, or two for each different prefix, beat a dense mask on a CPU
LONG = 1024  # and on a GPU: for 512 tokens in half precision, one call with the mask is the faster (gpu-h200.json)
BACKENDS = ("two-call", "mask")


def mask(prefix: Lengths, length: int, *, lengths: Lengths | None = None) -> Tensor:
    """Which keys each query may see under the prefix-LM mask.

    M[i, j] = (j < s or j <= i) and j < n (equation `prefix-lm:predicate`), s the prefix length, n the valid length.

    Args:
        prefix: s, an int or B ints (int tensor or sequence), 0 <= s <= n: 0 is the causal mask, n the bidirectional.
        length: S >= 1, of the padded sequence.
        lengths: n, an int or B ints, 0 <= n <= S; padding is on the right. None: S.

    Returns:
        (S, S) if prefix and lengths are single, else (B, S, S); bool, True where seen, on the device of a tensor given.

    Raises:
        TypeError, ValueError: not ints, out of range, or of different number.

    The commonest surprise: `j <= s` shows the prefix its first target; the loss goes to 0 and nothing is learned.

    Source: Dong et al., "Unified Language Model Pre-training", arXiv 1905.03197, section 2.3.

    Example:
        >>> mask(2, 4).int()
        tensor([[1, 1, 0, 0],
                [1, 1, 0, 0],
                [1, 1, 1, 0],
                [1, 1, 1, 1]], dtype=torch.int32)
    """
    length = check_count("mask", "length", length)
    s, n = _check_lengths("mask", prefix, length, lengths)
    place = next((t.device for t in (prefix, lengths) if isinstance(t, Tensor)), None)
    j = torch.arange(length, device=place)  # (S,)
    column = lambda values: torch.tensor(values, device=place)[:, None, None]  # (B, 1, 1)
    seen = ((j < column(s)) | (j <= j[:, None])) & (j < column(n))  # (B, S, S)
    return seen[0] if _single(prefix) and _single(lengths) else seen


def segment_mask(segments: Tensor, lengths: Lengths | None = None) -> Tensor:
    """The same mask from segment ids, by comparing their running sums.

    M[i, j] = (a_j <= a_i) and j < n with a_i = g_0 + ... + g_i (equation `prefix-lm:cumsum`); g is 0 on the prefix
    and 1 on the target.

    Args:
        segments: (S,) or (B, S), integers 0 or 1. Every 1 starts a step that sees all before it: all 1 is causal.
        lengths: as `mask`; None: S.

    Returns:
        (S, S) if segments and lengths are single, else (B, S, S); bool, True where seen.

    Raises:
        TypeError, ValueError: segments not of an integer type, empty, or with other values; lengths as `mask`.

    The commonest surprise: padding has g = 0, so without `lengths` the last target row sees it.

    Source: bert4keras (Su Jianlin), `UniLM_Mask`.

    Example:
        >>> bool((segment_mask(torch.tensor([0, 0, 1, 1])) == mask(2, 4)).all())
        True
    """
    if not isinstance(segments, Tensor) or segments.is_floating_point() or segments.is_complex():
        got = segments.dtype if isinstance(segments, Tensor) else type(segments).__name__
        raise TypeError(f"segment_mask: segments is {got}, must be an integer tensor. Use torch.tensor([0, 0, 1, 1]).")
    if segments.dim() not in (1, 2) or segments.numel() == 0 or not ((segments == 0) | (segments == 1)).all():
        found, rule = tuple(segments.shape), "must be (S,) or (B, S), not empty, of 0 and 1. Mark the target with 1."
        raise ValueError(f"segment_mask: segments of shape {found} {rule}")
    S = segments.shape[-1]
    a = segments.long().cumsum(-1).view(-1, S)  # (1 or B, S)
    _, n = _check_lengths("segment_mask", [0] * len(a), S, lengths)
    real = torch.arange(S, device=a.device) < torch.tensor(n, device=a.device)[:, None, None]
    seen = (a[:, None] <= a[..., None]) & real  # (B, S, S)
    return seen[0] if segments.dim() == 1 and _single(lengths) else seen


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where seen, (..., S) bool, else -inf, which is what attention makes of a bool mask, at every call.

    Rows start at multiples of 8 numbers, as the kernels of a GPU want them: any other mask is copied, at every call.

    >>> additive(torch.tensor([True, False]), torch.float32)
    tensor([0., -inf])
    """
    S = seen.shape[-1]
    bias = torch.zeros(*seen.shape[:-1], -(-S // 8) * 8, dtype=dtype, device=seen.device)[..., :S]
    return bias.masked_fill_(~seen, -torch.inf)


class Layout:
    """The prefixes of a batch, checked and read once, and the way to attend under them; call it in every layer.

    Args:
        prefix: as `mask`; an int holds for every sequence.
        batch: B >= 1.
        length: S >= 1.
        lengths: as `mask`; None: no padding.
        device: of the tensors that will come.
        backend: None, or one of those of `attention`.
    Returns of a call `layout(q, k, v)`:
        as `attention`, but rows of padding hold finite numbers without meaning, which saves a pass.

    Example:
        >>> q = torch.randn(2, 1, 5, 4)
        >>> layout = Layout([2, 3], 2, 5)
        >>> torch.allclose(layout(q, q, q), attention(q, q, q, [2, 3]))
        True
    """

    def __init__(
        self,
        prefix: Lengths,
        batch: int,
        length: int,
        *,
        lengths: Lengths | None = None,
        device: torch.device | str = "cpu",
        backend: str | None = None,
        name: str = "Layout",
    ) -> None:
        if backend not in (None, *BACKENDS):
            raise ValueError(f"{name}: backend is {backend!r}, must be None or one of {BACKENDS}. Leave it None.")
        batch = check_count(name, "batch", batch)
        length = check_count(name, "length", length)
        s, n = _check_lengths(name, prefix, length, lengths)
        if len(s) not in (1, batch):
            raise ValueError(f"{name}: prefix has {len(s)} entries, must be one or {batch}. Give one a sequence.")
        self.prefix, self.lengths = (s[:1] if len(set(s)) == 1 else s), (None if lengths is None else n)
        self.length = length
        place = torch.device(device)
        if len(self.prefix) == 1:
            least = SHORT if place.type == "cpu" else LONG
            two = self.prefix[0] in (0, length) or length >= least  # 0 and S have no mask at all
        else:  # the CPU measured by benchmarks/bench_prefixlm.py; on a GPU two launches a group are taken to cost more
            two = place.type == "cpu" and length >= MANY and self.prefix != self.lengths
        self.backend = backend or ("two-call" if two else "mask")
        grouped = self.backend == "two-call"
        self._attend: Attend = _Grouped(self.prefix, place) if grouped else _Masked(self.seen().to(place))

    def seen(self) -> Tensor:
        """The mask as one tensor, (1 or B, 1, 1 or S, S) bool."""
        if self.backend == "mask" and self.prefix == self.lengths:  # sources alone: every real row sees what is real
            return (torch.arange(self.length) < torch.tensor(self.prefix).clamp(min=1)[:, None, None])[:, None]
        return mask(self.prefix, self.length)[:, None]

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """The weights of the formula, (B, H, S, S), for what the fused kernels cannot do; in float32 or better."""
        scores = wide(q) @ wide(k).mT * q.shape[3] ** -0.5
        return scores.masked_fill(~self.seen().to(q.device), -torch.inf).softmax(-1)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # compiled code has no double backward anyway
            return self._attend(q, k, v)
        if transformed():  # no kernel has a forward derivative, nor a rule for `vmap`
            return (self.weights(q, k) @ wide(v)).to(v.dtype)
        out = self._attend(q, k, v)
        return _Twice.apply(out, q, k, v, self) if out.requires_grad else out


def attention(
    q: Tensor, k: Tensor, v: Tensor, prefix: Lengths, *, lengths: Lengths | None = None, backend: str | None = None
) -> Tensor:
    """Scaled dot-product attention under the prefix-LM mask.

    softmax(q k^T / sqrt(D) where `mask`, else -inf) v, computed as two attentions without a mask (equation
    `prefix-lm:two-call`): prefix rows over the prefix, target rows over everything, causal from the bottom right.

    Args:
        q, k, v: (B, H, S, D), floating, of one dtype and device; float32 or float64 on the CPU for the accuracy stated.
        prefix: s, an int or B ints (int tensor or sequence), 0 <= s <= n.
        lengths: n, valid lengths, an int or B ints, or None. Padding, on the right, needs no mask either.
        backend: None picks. "two-call": the form above, sequences with the same s together. "mask": one call with the
            dense mask.

    Returns:
        (B, H, S, D) in the dtype of q; rows of padding are 0.

    Raises:
        TypeError: not floating tensors, not ints.
        ValueError: different or empty shapes, s or n out of range.

    The commonest surprise: `is_causal=True` with fewer queries than keys is aligned at the top left, so that the first
    target row sees one key. The fused kernels have no second derivative, none in forward mode, and no rule for
    `torch.func`: there, and with `create_graph=True` (equation `prefix-lm:softmax-backward`), the formula is computed,
    with S^2 weights a head in memory. Under autocast the result is in its dtype, as that of PyTorch's attention.

    Source: the chapter `prefix-lm`.

    Example:
        >>> q, k, v = torch.randn(3, 2, 4, 6, 8)
        >>> dense = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask(3, 6))
        >>> torch.allclose(attention(q, k, v, 3), dense, atol=1e-6)
        True
    """
    for argument, t in (("q", q), ("k", k), ("v", v)):
        floating("attention", argument, t)
        if t.dim() != 4 or t.shape != q.shape or t.dtype != q.dtype or t.device != q.device:
            found, want = (f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in (t, q))
            raise ValueError(f"attention: {argument} is {found}, must be (B, H, S, D) like q, {want}. Convert it.")
    B, _, S, _ = q.shape
    layout = Layout(prefix, B, S, lengths=lengths, device=q.device, backend=backend, name="attention")
    out = layout(q, k, v)
    if layout.lengths is None:
        return out
    padding = torch.arange(S) >= torch.tensor(layout.lengths)[:, None]  # (1 or B, S)
    return out.masked_fill(padding.to(q.device)[:, None, :, None], 0)


def attention_ref(q: Tensor, k: Tensor, v: Tensor, prefix: Lengths, *, lengths: Lengths | None = None) -> Tensor:
    """Attention under the prefix-LM mask by its formula. The reference of `attention`.

    softmax(q k^T / sqrt(D) where `mask`, else -inf) v (equation `prefix-lm:attention`), rows of padding 0; arguments,
    result and errors as `attention`, with B H S^2 weights in memory, in the dtype of q.

    Source: Vaswani et al., arXiv 1706.03762, equation 1.

    Example:
        >>> q, k, v = torch.randn(3, 1, 1, 3, 2)
        >>> bool((attention_ref(q, k, v, 0)[0, 0, 0] == v[0, 0, 0]).all())  # the first causal row sees itself alone
        True
    """
    S = q.shape[2]
    seen = mask(prefix, S).to(q.device)  # (S, S) or (B, S, S)
    scores = (q @ k.mT / q.shape[3] ** 0.5).masked_fill(~(seen if seen.dim() == 2 else seen[:, None]), -torch.inf)
    out = scores.softmax(-1) @ v
    if lengths is None:
        return out
    _, n = _check_lengths("attention_ref", prefix, S, lengths)
    return out * (torch.arange(S) < torch.tensor(n)[:, None]).to(q)[:, None, :, None]  # (1 or B, 1, S, 1)


class _Twice(torch.autograd.Function):
    """The identity on what a fused kernel gave. A gradient that is to be differentiated does not enter that kernel.

    It goes straight to q, k and v by the formula, which can be differentiated as often as one likes.
    """

    @staticmethod
    def forward(ctx: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.layout = layout
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if not torch.is_grad_enabled():
            return grads[0], None, None, None, None
        w = ctx.layout.weights(*ctx.saved_tensors[:2])
        g, q, k, v = (t.to(w.dtype) for t in (grads[0], *ctx.saved_tensors))
        of_w = g @ v.mT
        of_scores = q.shape[3] ** -0.5 * w * (of_w - (w * of_w).sum(-1, keepdim=True))
        return None, of_scores @ k, of_scores.mT @ q, w.mT @ g, None


class _Masked:
    """One call with a bool mask as what attention adds, made once for all layers: it depends on the dtype of q."""

    def __init__(self, seen: Tensor) -> None:
        self.seen = seen
        self.made: dict[torch.dtype, Tensor] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # a trace keeps nothing
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self.seen)
        made = self.made.get(q.dtype)
        if made is None:
            made = additive(self.seen, q.dtype)
            if not (made.is_cuda and torch.cuda.is_current_stream_capturing()):  # what a graph makes is its own
                self.made[q.dtype] = made
        return F.scaled_dot_product_attention(q, k, v, attn_mask=made)


class _Grouped:
    """Two calls for the sequences of each prefix length, which are brought together, unless they stand together."""

    def __init__(self, prefix: list[int], device: torch.device) -> None:
        groups = sorted(set(prefix))
        order = sorted(range(len(prefix)), key=prefix.__getitem__)
        self.groups: list[tuple[int, Kept]] = [(s, {}) for s in groups]
        self.counts = [prefix.count(s) for s in groups]
        self.order = self.back = None
        if order != list(range(len(prefix))):
            self.order = torch.tensor(order, device=device)
            self.back = torch.tensor(sorted(range(len(prefix)), key=order.__getitem__), device=device)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return _two_call(q, k, v, *self.groups[0])
        # Split, not sliced: backward, a split is one concatenation, and B slices are B sums of full size.
        parts = [(t if self.order is None else t.index_select(0, self.order)).split(self.counts) for t in (q, k, v)]
        out = torch.cat([_two_call(a, b, c, *kept) for a, b, c, kept in zip(*parts, self.groups, strict=True)])
        return out if self.back is None else out.index_select(0, self.back)


Kept = dict[str, Any]  # what the calls of all layers share


def _two_call(q: Tensor, k: Tensor, v: Tensor, s: int, kept: Kept) -> Tensor:
    S = q.shape[2]
    if s == S:
        return F.scaled_dot_product_attention(q, k, v)
    if s == 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    ends = [s, S] if q.is_cuda else [s, *range(s + BLOCK, S, BLOCK), S]  # of the rows, and of the keys they see
    forks = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    forks = forks and (q.requires_grad or k.requires_grad or v.requires_grad)
    parts = (_Fork.apply if forks else _fork)(q, k, v, ends)
    n = len(ends)
    (head, *rows), (first, *keys), (second, *values) = parts[:n], parts[n : 2 * n], parts[2 * n :]
    top = F.scaled_dot_product_attention(head, first, second)
    return torch.cat([top, *(_targets_flash if q.is_cuda else _targets_blocks)(rows, keys, values, kept)], 2)


def _targets_flash(rows: list[Tensor], keys: list[Tensor], values: list[Tensor], kept: Kept) -> list[Tensor]:
    bias = kept.get("bias")
    if bias is None:
        from torch.nn.attention.bias import causal_lower_right  # here: it imports the whole compiler

        bias = causal_lower_right(rows[0].shape[2], keys[0].shape[2])
        if not torch.compiler.is_compiling():  # a trace keeps nothing
            kept["bias"] = bias
    return [F.scaled_dot_product_attention(rows[0], keys[0], values[0], attn_mask=bias)]


def _targets_blocks(rows: list[Tensor], keys: list[Tensor], values: list[Tensor], kept: Kept) -> list[Tensor]:
    """Without a kernel aligned at the bottom right: rows in blocks, each over the keys up to its end."""
    masks = kept.get("masks")
    if masks is None:
        shapes = [(q.shape[2], k.shape[2]) for q, k in zip(rows, keys, strict=True)]
        masks = [_Masked(torch.ones(n, m, dtype=torch.bool, device=rows[0].device).tril(m - n)) for n, m in shapes]
        if not torch.compiler.is_compiling():
            kept["masks"] = masks
    return [attend(q, k, v) for q, k, v, attend in zip(rows, keys, values, masks, strict=True)]


def _fork(q: Tensor, k: Tensor, v: Tensor, ends: list[int]) -> tuple[Tensor, ...]:
    rows = q.split([end - start for start, end in itertools.pairwise([0, *ends])], 2)
    return *rows, *(t[:, :, :end] for t in (k, v) for end in ends)


class _Fork(torch.autograd.Function):
    """Rows of q in parts, and the keys and values up to the end of each, at last all.

    Backward, autograd would fill each slice up with zeros and add them in full size, for keys and for values.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ends: list[int]) -> tuple[Tensor, ...]:
        ctx.ends = ends
        return _fork(q, k, v, ends)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        n, sums = len(ctx.ends), []
        for parts in (grads[n : 2 * n], grads[2 * n :]):
            sums.append(parts[-1])  # what the last attention has just made, and gives to nobody else
            for end, part in zip(ctx.ends[:-1], parts, strict=False):
                sums[-1][:, :, :end].add_(part)
        return torch.cat(grads[:n], 2), *sums, None


def _check_lengths(name: str, prefix: Lengths, length: int, lengths: Lengths | None) -> tuple[list[int], list[int]]:
    """Prefix and valid lengths as lists of one length, 0 <= s <= n <= S."""
    s = _ints(name, "prefix", prefix)
    n = [length] if lengths is None else _ints(name, "lengths", lengths)
    if len(s) != len(n) and 1 not in (len(s), len(n)):
        found = f"prefix has {len(s)} entries and lengths {len(n)}"
        raise ValueError(f"{name}: {found}, must be equally many. Give one a sequence.")
    s, n = s * max(1, len(n) // len(s)), n * max(1, len(s) // len(n))
    if min(n) < 0 or max(n) > length:
        raise ValueError(f"{name}: lengths is {n}, must be from 0 to {length}. Count the tokens before the padding.")
    if min(s) < 0 or any(a > b for a, b in zip(s, n, strict=True)):
        rule = f"must be from 0 to the valid length, {n}. The prefix is part of the sequence."
        raise ValueError(f"{name}: prefix is {s}, {rule}")
    return s, n


def _single(lengths: Lengths | None) -> bool:
    return lengths is None or isinstance(lengths, numbers.Integral) or getattr(lengths, "ndim", 1) == 0


def _ints(name: str, argument: str, value: Any) -> list[int]:
    found = value.tolist() if hasattr(value, "tolist") else value  # PyTorch's and NumPy's
    found = found if isinstance(found, Sequence) else [found]
    if isinstance(found, str) or any(isinstance(x, bool) or not isinstance(x, (numbers.Integral, list)) for x in found):
        raise TypeError(f"{name}: {argument} is {value!r}, must be an int or ints. Pass an int tensor of shape (B,).")
    if not found or any(isinstance(x, list) for x in found):
        raise ValueError(f"{name}: {argument} is {value!r}, must be one int or (B,) ints. Skip empty batches.")
    return [int(x) for x in found]
