"""What training runs share: Accelerate without its warning, equal processes, memory that ends, resumption."""

from __future__ import annotations

import difflib
import math
import numbers
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gantext._files import held, placed, whole

if TYPE_CHECKING:
    from accelerate import Accelerator


RUNNING = ("running_mean", "running_var")  # the buffers that are means themselves, and so may be averaged


def resolve(accelerator: Accelerator | None) -> Accelerator:
    """The one given, or a new one, which obeys `accelerate launch`."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():  # Accelerate imports tqdm's bar for notebooks, which asks for ipywidgets
        warnings.simplefilter("ignore", TqdmWarning)
        from accelerate import Accelerator
    return accelerator or Accelerator()


def known(given: Iterable[str], names: Sequence[str], others: Iterable[str], place: str) -> None:
    """TypeError for a keyword of `fit` that is none of these names of a place, with the nearest, others among them."""
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, [*names, *others], 3) or names
            rule = f"must be one of fit or {place}. Do you mean {' or '.join(near)}?"
            raise TypeError(f"fit: {name} is no argument, {rule}")


def agree(*networks: nn.Module) -> None:
    """All processes start from the main process's weights."""
    from accelerate.utils import broadcast

    state: Any = [t for network in networks for t in network.state_dict().values()]
    for t, first in zip(state, broadcast(state), strict=True):
        t.copy_(first)


def average_gradients(accelerator: Accelerator, optimizer: Optimizer) -> None:
    """Over the processes, in one message. DistributedDataParallel does not support the penalty's `autograd.grad`."""
    _average(accelerator, [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])


def average_statistics(accelerator: Accelerator, *networks: nn.Module) -> None:
    """Of batch norms, over the processes: each normalises its own batch, and all end with the same running values."""
    buffers = (named for network in networks for named in network.named_buffers())
    _average(accelerator, [t for name, t in buffers if name.endswith(RUNNING)])


def _average(accelerator: Accelerator, tensors: Sequence[Tensor]) -> None:
    if accelerator.num_processes > 1 and tensors:
        mean: Any = accelerator.reduce(torch.cat([t.flatten() for t in tensors]), "mean")
        for t, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view_as(t))


@contextmanager
def affordable(attempt: Callable[[int], object], n: int, accelerator: Accelerator) -> Iterator[None]:
    """Where a batch of n does not fit into memory, says which of n / 2, n / 4, ... 1 does, whose `attempt` succeeds."""
    try:
        yield
    except RuntimeError as error:
        if not _exhausted(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what does not fit
        remedy = "not even one fits: take a smaller network"
        if found := _fitting(attempt, n):
            batches = math.ceil(n / found) * accelerator.gradient_accumulation_steps
            remedy = f"{found} fit: pass batch_size={found}, and for as many in a step "
            remedy += f"accelerator=Accelerator(gradient_accumulation_steps={batches})"
        where = f"do not fit into the memory of {accelerator.device}"
        raise torch.OutOfMemoryError(f"fit: batches of {n} {where}; {remedy}.") from error


def _exhausted(error: BaseException) -> bool:
    """Whether a device, or the machine, has run out of memory."""
    words = ("can't allocate memory", "not enough memory")  # of the CPU's allocator, by system
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _fitting(attempt: Callable[[int], object], n: int) -> int:
    """The first of n / 2, n / 4, ... 1 whose attempt does not run out of memory; 0 if none is."""
    while n > 1:
        n //= 2
        try:
            attempt(n)
            return n
        except RuntimeError as error:
            if not _exhausted(error):
                raise
            traceback.clear_frames(error.__traceback__)
    return 0


def layout(network: nn.Module) -> list[Any]:
    """What must agree for a checkpoint to fit: the layers, and names, shapes, dtypes, and what is trained."""
    state = network.state_dict(keep_vars=True).items()
    return [plain(repr(network)), {name: (tuple(t.shape), str(t.dtype), t.requires_grad) for name, t in state}]


def plain(value: object) -> Any:
    """The value as Python's own numbers, texts, lists; of all else its repr, without the address in memory."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", value if isinstance(value, str) else repr(value))


def settings(optimizer: Optimizer) -> list[Any]:
    """The optimizer's class, and of each group its settings and the shapes that it trains."""
    found: list[Any] = [f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"]
    for group in optimizer.param_groups:
        numbers = {name: plain(value) for name, value in group.items() if name != "params"}
        found.append([numbers, [tuple(p.shape) for p in group["params"]]])
    return found


class Checkpoint:
    """A run's file, replaced as a whole, and refused where the recipe is another.

    `parts` have a state: networks, optimizers, the accelerator's gradient scaler. `recipe` is what must agree, beside
    the settings of the optimizers. Without a path nothing is read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        parts: Sequence[Any],
        recipe: Mapping[str, Any],
        accelerator: Accelerator,
    ) -> None:
        self.path = None if path is None else placed("fit", "checkpoint", path)
        self.accelerator, self.lock, scaler = accelerator, ExitStack(), accelerator.scaler
        self.parts = [*parts, *([] if scaler is None else [scaler])]
        batches = accelerator.gradient_accumulation_steps
        self.recipe = {
            **recipe,
            "optimizers": [settings(part) for part in parts if isinstance(part, Optimizer)],
            "processes": accelerator.num_processes,
            "accumulated batches": None if batches == 1 else batches,  # None is also what a file without it has
            "mixed precision": accelerator.mixed_precision,
        }

    def __enter__(self) -> Checkpoint:
        """No other process may write it meanwhile; ValueError if one does. The main process looks."""
        if self.path is not None and self.accelerator.is_main_process:
            self.lock.enter_context(held("fit", self.path))
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.close()

    def load(self, steps: int) -> tuple[int, Any]:
        """Steps done, and the history; the parts get their states. (0, None) if there is no file."""
        if self.path is None or not self.path.exists():
            return 0, None
        remedy = "Name another file, or delete it."
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            recipe, parts, done, history = (state[key] for key in ("recipe", "parts", "step", "history"))
            different = ", ".join(name for name, value in self.recipe.items() if recipe.get(name) != value)
            later = done > steps
        except Exception as error:
            raise ValueError(f"fit: checkpoint {self.path} is damaged, must be one that fit wrote. {remedy}") from error
        if different:
            raise ValueError(
                f"fit: checkpoint {self.path} has another {different}, must be of the same recipe. {remedy}"
            )
        if later:
            raise ValueError(f"fit: steps is {steps}, must be >= {done} as in checkpoint {self.path}. {remedy}")
        try:
            for part, saved in zip(self.parts, parts, strict=True):
                part.load_state_dict(saved)
        except Exception as error:
            raise ValueError(f"fit: checkpoint {self.path} is damaged, must be one that fit wrote. {remedy}") from error
        return done, history

    def save(self, step: int, history: Any) -> None:
        """Write the state of the parts after so many steps, in the main process; the others wait."""
        if self.path is not None and self.accelerator.is_main_process:
            parts = [part.state_dict() for part in self.parts]
            try:
                with whole(self.path) as draft:
                    torch.save({"recipe": self.recipe, "step": step, "history": history, "parts": parts}, draft)
            except (OSError, RuntimeError) as error:  # RuntimeError: of PyTorch's own writer, as on a full disk
                kept = "the last one is kept" if self.path.exists() else "there is none yet"
                raise OSError(
                    f"fit: checkpoint {self.path} cannot be written at step {step} ({error}); {kept}. Make room, or "
                    "name a file elsewhere."
                ) from error
        self.accelerator.wait_for_everyone()
