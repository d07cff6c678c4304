"""A batch of updates of spherical text embedding at once: all steps from the old rows, summed by row, one retraction.

The chapter is `jose`; one update of one tuple is `gantext.sphere.geometry.update_ref`.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gantext._checks import check_number
from gantext.kernels import dispatch, unobserved

__all__ = ["MODES", "Batch", "Mode", "batch_update", "batch_update_ref", "unit_rows"]

Mode = Literal["paper", "plain", "reference"]
MODES: tuple[Mode, ...] = ("paper", "plain", "reference")
DTYPES = (torch.float32, torch.float64)
LONGEST = 2048  # p up to which the kernels have no spills (see their tests)


class Batch(NamedTuple):
    """Tables of spherical text embedding, and n tuples of their rows.

    U is (words, p), V (contexts, p), D (documents, p), all unit rows; `centre` and `negative` are rows of U, `context`
    of V, `document` of D, each (n,) int64. Where `context` or `document` is None, its table is not read.
    """

    U: Tensor
    V: Tensor | None
    D: Tensor | None
    centre: Tensor
    negative: Tensor
    context: Tensor | None = None
    document: Tensor | None = None

    def used(self) -> dict[str, Tensor]:
        """The tables that an update reads and writes."""
        tables = {"U": self.U, "V": self.V if self.context is not None else None}
        tables["D"] = self.D if self.document is not None else None
        return {name: t for name, t in tables.items() if t is not None}

    def indices(self) -> dict[str, Tensor]:
        """The rows that are given; every tuple has a centre and a negative."""
        given = {"centre": self.centre, "negative": self.negative}
        others = {"context": self.context, "document": self.document}
        return given | {name: t for name, t in others.items() if t is not None}


def batch_update(
    batch: Batch, *, rate: float, margin: float = 0.15, mode: Mode = "paper", backend: str | None = None
) -> Tensor:
    """Update the tables of spherical text embedding in place for n tuples (centre, negative, context, document).

    Where the hinge `max(0, margin - <u, v> - <u, d> + <n, v> + <n, d>)` of a tuple is positive, each of its four rows
    gets the tangent step of `gantext.sphere.geometry.update_ref`, all from the rows before the call. The steps of a
    row are summed, not averaged, and `x' = (x + z) / |x + z|` with the sum z. A batch of one tuple is `update_ref`.

    Args:
        batch: tables in float32 or float64, of one dtype and device, p >= 1; n may be 0. A tuple with negative ==
            centre is skipped. Without context words or without documents: the hinge of the other alone.
        rate: learning rate, >= 0. margin: > 0.
        mode: "paper", "plain" or "reference", as in `update_ref`. "reference" has two hinges one after the other: call
            it with `document=None` and then with `context=None`.
        backend: None takes the Triton kernel on a GPU and else PyTorch; "triton" or "reference" forces it.
    Returns:
        The mean hinge before the update over the tuples that are not skipped, 0-d, in the tables' dtype; 0 if none.

    Rows that no active hinge steps keep their bits. A row of NaN steps nobody, and the result is NaN. The kernel is
    bitwise reproducible and reads nothing back to the host; its workspace is 4 n (p + 8) numbers. On an
    NVIDIA H200 it was right: eager, compiled, and captured in a CUDA graph.

    Raises:
        TypeError, ValueError: an argument that is not as above; tables that require grad or share memory; an index out
            of range, but the kernel does not raise for that: it skips the tuple, and the result is NaN.

    The commonest surprise: with the mean of the steps in place of their sum, frequent words and long documents hardly
    move and training fails; the retraction bounds the sum by itself, at a quarter turn.
    Source: Meng et al., "Spherical Text Embedding", NeurIPS 2019; the chapter `jose` on batches.

    >>> U, V = torch.eye(3), torch.eye(3)
    >>> word = torch.tensor([0, 0])
    >>> batch_update(Batch(U, V, None, word, word + 1, word + 2), rate=0.5)  # twice the same: a step of 2 x 0.5
    tensor(0.1500)
    >>> U
    tensor([[ 0.7071,  0.0000,  0.7071],
            [ 0.0000,  0.7071, -0.7071],
            [ 0.0000,  0.0000,  1.0000]])
    """
    if not torch.compiler.is_compiling():  # a traced rate is a symbol; the operator looks at its value
        rate, margin = _check_numbers(rate, margin)
    _check(batch)
    if mode not in MODES or (mode == "reference" and batch.context is not None and batch.document is not None):
        raise ValueError(
            f"batch_update: mode is {mode!r}, must be one of {', '.join(MODES)}, and 'reference' with one hinge at a "
            "time. Call it with document=None, then with context=None."
        )
    tables = batch.used()
    batch = batch._replace(V=tables.get("V"), D=tables.get("D"))
    given = (*batch, float(rate), float(margin), mode, backend)
    if not unobserved(*tables.values(), *batch.indices().values()):
        return torch.ops.gantext.sphere_update(*given)
    loss = _update(*given)  # without the operator, whose call costs more than the three launches
    torch.autograd.graph.increment_version([t for t in tables.values() if not t.is_inference()])
    return loss


def _update(*given: Any) -> Tensor:
    # What depends on values or environment is decided here, where `torch.compile` does not look.
    batch, (rate, margin, mode, backend) = Batch(*given[:7]), given[7:]
    rate, margin = _check_numbers(rate, margin)
    tables = [*batch.used().values()]
    spans = sorted((t.data_ptr(), t.data_ptr() + t.itemsize * _extent(t)) for t in tables)
    near = any(end > start for (_, end), (start, _) in itertools.pairwise(spans))
    if near and any(_overlap(a, b) for k, a in enumerate(tables) for b in tables[:k]):
        raise ValueError("batch_update: two tables share memory, must be separate. Clone one of them.")

    def triton() -> Tensor:
        from gantext.kernels.sphere_triton import update

        return update(batch, rate, margin, mode)

    reference = lambda: batch_update_ref(batch, rate=rate, margin=margin, mode=mode)
    if len(batch.centre) == 0:
        return batch.U.new_zeros(())
    p = batch.U.shape[1]
    unless = f"rows of {p} are longer than {LONGEST}" if p > LONGEST else None
    return dispatch("batch_update", backend, tables, reference=reference, triton=triton, dtypes=DTYPES, unless=unless)


torch.library.custom_op(
    "gantext::sphere_update",
    _update,
    mutates_args=("U", "V", "D"),
    schema="(Tensor(a!) U, Tensor(b!)? V, Tensor(c!)? D, Tensor centre, Tensor negative, Tensor? context, "
    "Tensor? document, float rate, float margin, str factors, str? backend) -> Tensor",
).register_fake(lambda U, *rest: U.new_empty(()))


def batch_update_ref(batch: Batch, *, rate: float, margin: float = 0.15, mode: Mode = "paper") -> Tensor:
    """`batch_update` in plain PyTorch, arguments as there and not checked, except that indices are in range.

    >>> U = torch.eye(2)
    >>> zero = torch.tensor([0])
    >>> batch_update_ref(Batch(U, None, torch.eye(2), zero, zero + 1, None, zero), rate=0.1)  # 0.15 - 1 + 0
    tensor(0.)
    """
    U, V, D, centre, negative, context, document = batch
    tables, given = {"centre": U, "negative": U, "context": V, "document": D}, batch.indices()
    bounds = torch.stack([torch.stack(index.aminmax()) for index in given.values()]).tolist() if len(centre) else []
    for name, (low, high) in zip(given, bounds, strict=False):
        table = tables[name]
        if table is not None and (low < 0 or high >= len(table)):
            raise ValueError(
                f"batch_update: {name} has indices {low} to {high}, must lie in 0 to {len(table) - 1}, the rows of its "
                "table. Enlarge the table, or drop these tuples."
            )
    u, n = U[centre], U[negative]  # (n, p)
    partners = [
        (t, index, t[index]) for t, index in ((V, context), (D, document)) if t is not None and index is not None
    ]
    w = torch.stack([rows for *_, rows in partners]).sum(0)  # v + d, minus the gradient in u
    e = u - n  # minus the gradient in v and in d
    gap = margin - _dot(u, w) + _dot(n, w)
    live = (centre != negative)[:, None]
    go = lambda s, g: (rate * s * g).masked_fill(~(live & (gap > 0)), 0)  # not times 0, which leaves a NaN
    if mode == "paper":
        su, sn = 1 - _cosine(u, w), 1 + _cosine(n, w)
        others = [1 - _cosine(rows, e) for *_, rows in partners]
    elif mode == "reference":
        su, sn = 1 - _dot(u, w), 2 * _dot(n, w)
        others = [1 - _dot(e, w)]
    else:
        su, sn, *others = [torch.ones_like(gap)] * (2 + len(partners))
    steps = [(U, torch.cat([centre, negative]), torch.cat([go(su, w), go(-sn, w)]))]
    steps += [(t, index, go(s, e)) for (t, index, _), s in zip(partners, others, strict=True)]
    for table, index, step in steps:
        rows, place = index.unique(return_inverse=True)
        old = table[rows]
        total = torch.zeros_like(old).index_add_(0, place, step)
        moved = (total != 0).any(1)
        table[rows[moved]] = unit_rows(old + (total - _dot(old, total) * old))[moved]
    hinge = torch.where(gap <= 0, 0, gap).masked_fill(~live, 0)
    return hinge.sum() / live.sum().clamp(min=1)


def unit_rows(x: Tensor) -> Tensor:
    """`x / |x|` for rows (..., p) of any length: `gantext.sphere.geometry.projx`, which says more, without its checks.

    >>> unit_rows(torch.tensor([[3e-30, 4e-30], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [1.0000, 0.0000]])
    """
    largest = x.detach().abs().amax(-1, keepdim=True)
    zero = largest == 0
    x = x / largest.masked_fill(zero, 1)
    first = torch.zeros_like(x[..., :1]) + 1
    x = torch.where(zero, torch.cat([first, torch.zeros_like(x[..., 1:])], -1), x)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(1, keepdim=True)


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(y, dim=1, keepdim=True)
    return _dot(x, y) / size.masked_fill(size == 0, 1)  # without a direction there is no step, whatever the factor


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tables have numbers in common, or lie so wildly in one memory that they might."""
    (first, end), (other, _) = sorted((t.data_ptr(), t.data_ptr() + t.itemsize * _extent(t)) for t in (a, b))
    if not a.numel() or not b.numel() or other >= end:
        return False
    if a.stride() != b.stride() or a.stride(1) != 1 or a.stride(0) < 1:
        return True
    apart = (other - first) // a.itemsize % a.stride(0)  # columns of one wide table may be two tables
    widths = (a.shape[1], b.shape[1]) if first == a.data_ptr() else (b.shape[1], a.shape[1])
    return apart < widths[0] or apart + widths[1] > a.stride(0)


def _extent(t: Tensor) -> int:
    """How many numbers lie from a table's first to its last."""
    if t.is_contiguous():
        return t.numel()
    return 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))


def _check_numbers(rate: float, margin: float) -> tuple[float, float]:
    rate = check_number("batch_update", "rate", rate, 0, included=True)
    return rate, check_number("batch_update", "margin", margin, 0)


def _check(batch: Batch) -> None:
    if not isinstance(batch, Batch):
        raise TypeError(f"batch_update: batch is {type(batch).__name__}, must be a Batch. Write Batch(U, V, D, ...).")
    U, centre = batch.U, batch.centre
    tables = {"U": U, **({} if batch.context is None else {"V": batch.V})}
    tables |= {} if batch.document is None else {"D": batch.D}
    if len(tables) == 1:
        raise ValueError("batch_update: context and document are both None, one must be given. Pass either.")
    for name, t in tables.items():
        if not isinstance(t, Tensor) or t.dtype not in DTYPES or t.dtype != U.dtype:
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"batch_update: {name} is {got}, must be a float32 or float64 tensor in the dtype of U. Use "
                ".float(); in half precision a step of 0.04 (1 - cos) vanishes."
            )
        if t.dim() != 2 or t.shape[1] == 0 or t.shape[1] != U.shape[-1] or t.layout != torch.strided:
            raise ValueError(
                f"batch_update: {name} has shape {tuple(t.shape)}, must be dense (rows, p), p >= 1, p that of U, here "
                f"{U.shape[-1]}. Give every table the same width."
            )
        if t.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"batch_update: {name} requires grad, must not: it changes in place. Use {name}.detach().")
        (near, step), (far, stride) = sorted(zip(t.shape, t.stride(), strict=True), key=lambda axis: axis[1])
        if t.numel() and ((near > 1 and step == 0) or (far > 1 and stride <= (near - 1) * step)):
            raise ValueError(f"batch_update: {name} is expanded, its rows must lie apart. Use {name}.clone().")
    for name, index in batch.indices().items():
        if not isinstance(index, Tensor) or index.dtype != torch.int64:
            got = index.dtype if isinstance(index, Tensor) else type(index).__name__
            raise TypeError(f"batch_update: {name} is {got}, must be an int64 tensor. Use torch.as_tensor(...).long().")
        if index.dim() != 1 or index.shape != centre.shape:
            raise ValueError(
                f"batch_update: {name} has shape {tuple(index.shape)}, must be (n,) as centre, {tuple(centre.shape)}. "
                "Give one index for each tuple."
            )
    devices = {t.device for t in (*tables.values(), *batch.indices().values())}
    if len(devices) > 1:
        found = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"batch_update: tensors lie on {found}, must be on one device. Move them with .to(U.device).")
