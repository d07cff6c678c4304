"""What a training run asks of its surroundings: the other processes, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from gantext.sphere.geometry import projx

ROWS = 2**14  # of a table, at a time


class World(NamedTuple):
    """The processes of this run. `PartialState` of Accelerate sets them up where a launcher started several."""

    rank: int
    size: int

    @classmethod
    def find(cls) -> World:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
            from accelerate import PartialState

            PartialState()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        return cls(0, 1)

    def sum(self, t: Tensor) -> Tensor:
        if self.size > 1:
            t = t.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu", copy=True)
            torch.distributed.all_reduce(t)
        return t

    def average(self, table: Tensor) -> None:
        """Mean over the processes, back on the sphere."""
        for part in table.split(ROWS):
            part.copy_(projx(self.sum(part)))

    def collect(self, table: Tensor, own: Tensor) -> None:
        """Every row of a table from the one process that owns it, a boolean (rows,)."""
        if self.size > 1:
            for part, mine in zip(table.split(ROWS), own.split(ROWS), strict=True):
                part.copy_(self.sum(part * mine[:, None]))

    @property
    def main(self) -> bool:
        return self.rank == 0


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted here instead of raised; only the main thread of a program can ask for that."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
