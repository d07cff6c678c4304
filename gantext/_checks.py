"""What every module asks of its arguments; each function takes the name of the caller and of the argument."""

from __future__ import annotations

import contextlib
import math
import numbers

import torch
from torch import Tensor


def check_number(name: str, argument: str, value: float, low: float, *, included: bool = False) -> float:
    """The value as Python's own int or float; TypeError unless a number, ValueError unless finite and beyond `low`.

    What counts as a number registers itself with `numbers.Real`: NumPy's scalars do, bool is refused all the same.
    """
    rule = f"must be a finite number {'>=' if included else '>'} {low}. See the usual values in its docstring."
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real):
        raise TypeError(f"{name}: {argument} is {value!r} ({type(value).__name__}), {rule}")
    value = int(value) if isinstance(value, int | numbers.Integral) else float(value)
    if not math.isfinite(value) or value < low or (value == low and not included):
        raise ValueError(f"{name}: {argument} is {value}, {rule}")
    return value


def check_count(name: str, argument: str, value: int, least: int = 1) -> int:
    """The value as Python's own int, NumPy's among others; TypeError unless an integer, ValueError below `least`."""
    rule = f"must be an int >= {least}. See the usual values in its docstring."
    if isinstance(value, bool) or not isinstance(value, int | numbers.Integral):
        raise TypeError(f"{name}: {argument} is {value!r} ({type(value).__name__}), {rule}")
    if value < least:
        raise ValueError(f"{name}: {argument} is {value}, {rule}")
    return int(value)


def floating(name: str, argument: str, t: Tensor) -> Tensor:
    """The tensor itself; TypeError unless floating, ValueError if empty."""
    if not isinstance(t, Tensor) or not t.is_floating_point():
        got = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"{name}: {argument} is {got}, must be a floating tensor. Use torch.as_tensor(...).float().")
    if t.numel() == 0:
        raise ValueError(f"{name}: {argument} has shape {tuple(t.shape)}, must not be empty. Skip empty batches.")
    return t


def vector(name: str, argument: str, t: Tensor, n: int | None = None) -> Tensor:
    """A finite vector (of length n) in float64, without its graph."""
    if floating(name, argument, t).dim() != 1 or n not in (None, len(t)) or not t.isfinite().all():
        shape = "(n,)" if n is None else (n,)
        raise ValueError(
            f"{name}: {argument} of shape {tuple(t.shape)} must be {shape} and finite. Flatten and clean it."
        )
    return t.detach().double()


def probabilities(name: str, argument: str, t: Tensor, n: int | None = None) -> Tensor:
    """Probabilities (of n outcomes) in float64, summing to exactly 1."""
    law = vector(name, argument, t, n)
    total = law.sum()
    if law.min() < 0 or abs(total - 1) > 1e-5:
        found = f"minimum {law.min():.3g} and sum {total:.6g}"
        raise ValueError(f"{name}: {argument} has {found}, must be >= 0 and sum to 1. Divide it by its sum.")
    return law / total


def wide(t: Tensor) -> Tensor:
    """In float32 or better."""
    return t.float() if t.dtype.itemsize < 4 else t


@torch.compiler.assume_constant_result  # a read of global switches: evaluated once when a graph is traced
def rounds_products(device: str, index: int | None) -> bool:
    """Whether float32 matrix products on this device are rounded to TF32 or bfloat16."""
    # Computing in float64 instead of switching the switch off for a moment: other threads do not see a changed switch,
    # and the products of the backward pass, which run later, are covered as well.
    if device == "cuda":
        fast = torch.backends.cuda.matmul.fp32_precision == "tf32"
        return fast and torch.cuda.get_device_capability(index) >= (8, 0)
    if device == "cpu":
        return torch.backends.mkldnn.matmul.fp32_precision in ("tf32", "bf16")  # pyright: ignore[reportAttributeAccessIssue]
    return False


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on such a device."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()
