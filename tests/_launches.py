"""What a call asks of a GPU, counted without one: launches, reads for which the host waits, and what it sends.

On tensors of `_pretended.gpu()` what happens on the host is told apart; on the CPU's own all counts as launched.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from _pretended import Pretended
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAIT = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "detach",
    "lift_fresh",
    "_unsafe_view",
}


class Launches(TorchDispatchMode):
    """Counts by name: `launched`, what is no view and no bare allocation; `waited`, what the host reads; `sent`."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: collections.Counter[str] = collections.Counter()
        self.waited: collections.Counter[str] = collections.Counter()
        self.sent: collections.Counter[str] = collections.Counter()
        self.whole = 0  # how many operations are under way whose parts do not count

    def totals(self) -> tuple[int, int, int]:
        """Launched, waited, sent."""
        return sum(self.launched.values()), sum(self.waited.values()), sum(self.sent.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.whole:
            return out
        name = func.overloadpacket.__name__
        tensors = lambda tree: [t for t in tree_leaves(tree) if isinstance(t, Tensor)]
        there = lambda tree: any(isinstance(t, Pretended) for t in tensors(tree))
        reads, makes = there((args, kwargs)), there(out)
        if pretending() and not reads and not makes:
            return out  # on the host
        if pretending() and name in ("_to_copy", "copy_") and not (reads and makes and all_there(tensors(args))):
            (self.sent if makes else self.waited)[name] += 1
        elif name in WAIT or (name.startswith("index") and any(t.dtype == torch.bool for t in tensors(args[1:]))):
            self.waited[name] += 1
        elif not func.is_view and name not in FREE:
            self.launched[name] += 1
        return out


def all_there(tensors: list[Tensor]) -> bool:
    return all(isinstance(t, Pretended) for t in tensors)


def pretending() -> bool:
    return torch.cuda.is_available()  # as `_pretended.gpu` says; where a real one is, nothing is launched on it here


class _Whole(TorchFunctionMode):
    """Attention is one launch, whatever it is made of on the device at hand."""

    def __init__(self, counts: Launches) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.counts.launched["attention"] += not self.counts.whole
        self.counts.whole += 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.counts.whole -= 1


def launches(call: Callable[[], Any]) -> Launches:
    """The counts of one call, a backward pass inside it included."""
    counts, tolist = Launches(), Pretended.tolist

    def read(self: Any) -> Any:
        counts.waited["tolist"] += 1
        return tolist(self)

    with mock.patch.object(Pretended, "tolist", read), counts, _Whole(counts):
        call()
    return counts


@contextlib.contextmanager
def operations() -> Iterator[list[str]]:
    """Names of the operations that are dispatched within."""
    seen: list[str] = []

    class Listen(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Listen():
        yield seen
