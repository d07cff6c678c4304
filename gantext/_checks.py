"""What every module asks of its arguments; each function takes the name of the caller and of the argument."""

from __future__ import annotations

import contextlib
import math
import numbers
import reprlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def check_number(name: str, argument: str, value: float, low: float, *, included: bool = False) -> float:
    """The value as Python's own int or float; TypeError unless a number, ValueError unless finite and beyond `low`.

    What counts as a number registers itself with `numbers.Real`: NumPy's scalars do, bool is refused all the same.
    """
    if type(value) is float and low < value < math.inf:
        return value  # at once: what calls a small kernel waits for its checks
    rule = f"must be a finite number {'>=' if included else '>'} {low}. See the usual values in its docstring."
    if isinstance(value, bool) or not isinstance(value, (int, float, numbers.Real)):
        raise TypeError(f"{name}: {argument} is {value!r} ({type(value).__name__}), {rule}")
    value = int(value) if isinstance(value, (int, numbers.Integral)) else float(value)
    if not math.isfinite(value) or value < low or (value == low and not included):
        raise ValueError(f"{name}: {argument} is {value}, {rule}")
    return value


def check_count(name: str, argument: str, value: int, least: int = 1) -> int:
    """The value as Python's own int, NumPy's among others; TypeError unless an integer, ValueError below `least`."""
    rule = f"must be an int >= {least}. See the usual values in its docstring."
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)):
        raise TypeError(f"{name}: {argument} is {value!r} ({type(value).__name__}), {rule}")
    if value < least:
        raise ValueError(f"{name}: {argument} is {value}, {rule}")
    return int(value)


def check_type(name: str, argument: str, value: Any, kind: Any, remedy: str) -> None:
    """TypeError unless the value is of this class, or of this kind of `collections.abc`."""
    if not isinstance(value, kind):
        got = f"{' '.join(reprlib.repr(value).split())} ({type(value).__name__})"
        raise TypeError(f"{name}: {argument} is {got}, must be a {kind.__name__}. {remedy}")


def check_dtype(name: str, argument: str, t: Tensor, *dtypes: torch.dtype) -> Tensor:
    """The tensor itself; TypeError unless it is one, of one of these dtypes."""
    if not isinstance(t, Tensor) or t.dtype not in dtypes:
        got = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"{name}: {argument} is {got}, must be a {dtypes[0]} tensor. Use .to({dtypes[0]}).")
    return t


def check_shape(name: str, argument: str, t: Tensor, shape: Sequence[int], remedy: str) -> None:
    """ValueError unless the tensor has this shape."""
    if t.shape != tuple(shape):
        raise ValueError(f"{name}: {argument} has shape {tuple(t.shape)}, must be {tuple(shape)}. {remedy}")


def floating(name: str, argument: str, t: Tensor) -> Tensor:
    """The tensor itself; TypeError unless floating, ValueError if empty."""
    if not isinstance(t, Tensor) or not t.is_floating_point():
        got = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"{name}: {argument} is {got}, must be a floating tensor. Use torch.as_tensor(...).float().")
    if t.numel() == 0:
        raise ValueError(f"{name}: {argument} has shape {tuple(t.shape)}, must not be empty. Skip empty batches.")
    return t


def samples_of(name: str, argument: str, x: Tensor, least: int, width: int | None = None) -> Tensor:
    """Samples (n, d), one a row and at least so many, in float64 on the CPU without their graph; all must be finite."""
    shape = tuple(floating(name, argument, x).shape)
    if len(shape) != 2 or shape[0] < least or width not in (None, shape[1]):
        rule = f"(n, {'d' if width is None else width}) with n >= {least}"
        raise ValueError(f"{name}: {argument} has shape {shape}, must be {rule}. Draw enough samples, one a row.")
    if not (x.abs() < 1e150).all():
        raise ValueError(
            f"{name}: {argument} has NaN or infinite entries, or some beyond 1e150, whose squares are; must have none. "
            "A generator diverged: count it as failed."
        )
    return x.detach().to("cpu", torch.float64)


def vector(name: str, argument: str, t: Tensor, n: int | None = None) -> Tensor:
    """A finite vector (of length n) in float64, without its graph."""
    if floating(name, argument, t).dim() != 1 or n not in (None, len(t)) or not t.isfinite().all():
        rule = f"{'(n,)' if n is None else (n,)} and finite. Flatten and clean it."
        raise ValueError(f"{name}: {argument} of shape {tuple(t.shape)} must be {rule}")
    return t.detach().double()


def probabilities(name: str, argument: str, t: Tensor, n: int | None = None) -> Tensor:
    """Probabilities (of n outcomes) in float64, summing to exactly 1; they may be as inexact as their dtype."""
    law = vector(name, argument, t, n)
    total = law.sum()
    if law.min() < 0 or abs(total - 1) > max(1e-5, torch.finfo(t.dtype).eps):
        found = f"minimum {law.min():.3g} and sum {total:.6g}"
        raise ValueError(f"{name}: {argument} has {found}, must be >= 0 and sum to 1. Divide it by its sum.")
    return law / total


def wide(t: Tensor) -> Tensor:
    """In float32 or better."""
    return t.float() if t.dtype.itemsize < 4 else t


def rounds_products(device: str, index: int | None) -> bool:
    """Whether float32 matrix products on this device are rounded to TF32 or bfloat16."""
    # Computing in float64 instead of switching the switch off for a moment: other threads do not see a changed switch,
    # and the products of the backward pass, which run later, are covered as well.
    if device == "cuda":
        fast = torch.backends.cuda.matmul.fp32_precision == "tf32"
        return fast and torch.cuda.get_device_capability(index) >= (8, 0)
    if device == "cpu":
        return torch.backends.mkldnn.matmul.fp32_precision in ("tf32", "bf16")  # pyright: ignore[reportAttributeAccessIssue]  # newer than the stubs
    return False


# A read of global switches, evaluated once when a graph is traced. `torch.compiler.assume_constant_result` sets this
# mark on a function, having imported the whole compiler and SymPy. A release that knew another mark would break the
# graph here, or refuse `fullgraph=True`, as a test would; no result would change.
rounds_products._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]  # TorchDynamo reads it


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on such a device, for one pass: what is differentiated goes through `product`."""
    if device.type == "meta":  # the one without autocast; PyTorch 2.9 cannot trace `is_autocast_available`
        return contextlib.nullcontext()
    if not torch.compiler.is_compiling() and not torch.is_autocast_enabled(device.type):
        return contextlib.nullcontext()  # to make the other one costs as much as a small product
    return torch.autocast(device.type, enabled=False)


def transformed(*gradients: Tensor) -> bool:
    """Whether a function transform or forward-mode differentiation is under way, or one of these stands for a batch of
    gradients (`is_grads_batched`): none of them sees into what is by hand."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    level = getattr(forward_ad, "_current_level", None)
    batched = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None)
    if active is None or level is None or batched is None:  # private names, gone: plain PyTorch is right everywhere
        return True
    return active() or level >= 0 or any(map(batched, gradients))


def product(A: Tensor, B: Tensor) -> Tensor:
    """A @ B of (..., n, k) and (..., k, m), in the dtype of both, in this pass and in every derivative's.

    Autocast acts where a pass runs: a plain product, formed without it, is differentiated in bfloat16 when `backward`
    is called within it.
    """
    if not torch.is_grad_enabled():
        with no_autocast(A.device):
            return A @ B
    if torch.compiler.is_compiling():  # which takes neither a forward derivative nor one tensor twice
        return _Product.apply(A, B.view_as(B) if B is A else B)
    return _DifferentiableProduct.apply(A, B)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(A: Tensor, B: Tensor) -> Tensor:
        with no_autocast(A.device):
            return A @ B

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch: *args
        A, B = ctx.saved_tensors
        left = product(G, B.mH).sum_to_size(A.shape) if ctx.needs_input_grad[0] else None
        right = product(A.mH, G).sum_to_size(B.shape) if ctx.needs_input_grad[1] else None
        return left, right

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Tensor) -> tuple[Tensor, int]:
        rank = max(t.dim() - (d is not None) for t, d in zip(args, in_dims, strict=True))
        A, B = (  # the mapped dimension first, before the batch of either
            t if d is None else t.movedim(d, 0)[(slice(None), *(None,) * (rank + 1 - t.dim()))]
            for t, d in zip(args, in_dims, strict=True)
        )
        return product(A, B), 0


class _DifferentiableProduct(_Product):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, a: Tensor | None, b: Tensor | None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch: *args
        A, B = ctx.saved_tensors
        parts = [product(X, Y) for X, Y in ((a, B), (A, b)) if X is not None and Y is not None]
        return sum(parts[1:], parts[0]) if parts else None


def solve_unit(L: Tensor, B: Tensor, upper: bool = False) -> Tensor:
    """X of L X = B with the unit triangle of L, whose other entries are not read; autocast-free as `product`."""
    if not torch.is_grad_enabled():
        return torch.linalg.solve_triangular(L, B, upper=upper, unitriangular=True)
    return (_SolveUnit if torch.compiler.is_compiling() else _DifferentiableSolveUnit).apply(L, B, upper)


def _strict(X: Tensor, upper: bool) -> Tensor:
    return X.triu(1) if upper else X.tril(-1)


class _SolveUnit(torch.autograd.Function):
    @staticmethod
    def forward(L: Tensor, B: Tensor, upper: bool) -> Tensor:
        return torch.linalg.solve_triangular(L, B, upper=upper, unitriangular=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.upper = inputs[2]

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  # torch: *args
        L, X = ctx.saved_tensors
        right = solve_unit(L.mH, G, not ctx.upper)
        return -_strict(product(right, X.mH), ctx.upper), right, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        L, B = (
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
            for t, d in zip(args[:2], in_dims[:2], strict=True)
        )
        return solve_unit(L, B, args[2]), 0


class _DifferentiableSolveUnit(_SolveUnit):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)
        ctx.upper = inputs[2]

    @staticmethod
    def jvp(ctx: Any, l: Tensor | None, b: Tensor | None, _: None) -> Tensor | None:  # noqa: E741  # pyright: ignore[reportIncompatibleMethodOverride]  # torch: *args
        L, X = ctx.saved_tensors
        moved = None if l is None else product(_strict(l, ctx.upper), X)
        if moved is None:
            return None if b is None else solve_unit(L, b, ctx.upper)
        return solve_unit(L, -moved if b is None else b - moved, ctx.upper)
