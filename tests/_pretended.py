"""A GPU that is not there: tensors that say they are on "cuda:0" and hold their numbers on the CPU.

What a GPU refuses is refused, with its words: two devices in one operation, `numpy()`, a generator of another device.
So a machine without one finds the cells and functions that forget to move a tensor. Nothing is faster, no kernel runs,
and a wrong synchronisation is not seen. Only for tests: it replaces parts of `torch.cuda` while it is on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA, META, CPU = torch.device("cuda:0"), torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten
_C: Any = torch._C
# What of PyTorch's inside is used here; where a version lacks it, there is nothing to pretend with.
POSSIBLE = all(
    hasattr(owner, name)
    for owner, name in (
        (getattr(_C, "_nn", None), "_parse_to"),
        (getattr(_C, "_functorch", None), "maybe_current_level"),
        (torch.Generator(), "_cdata"),
        (torch.Tensor, "_make_wrapper_subclass"),
    )
)
_CROSSING = {aten.copy_.default, aten._to_copy.default}  # what may have two devices
_INDEXED = {  # whose indices may be on the CPU
    aten.index.Tensor,
    aten.index_put_.default,
    aten.index_put.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
}


class Pretended(Tensor):
    """A tensor on the GPU that is not there; `numbers` has them.

    To PyTorch's C++ it lies on "meta", the one device besides the CPU for which every build has what it needs.
    """

    numbers: Tensor
    device = property(lambda self: CUDA)  # pyright: ignore[reportAssignmentType]  # Tensor has getters
    is_cuda = property(lambda self: True)  # pyright: ignore[reportAssignmentType]  # Tensor has getters
    is_meta = property(lambda self: False)  # pyright: ignore[reportAssignmentType]  # Tensor has getters
    is_cpu = property(lambda self: False)  # pyright: ignore[reportAssignmentType]  # Tensor has getters

    @staticmethod
    def __new__(cls, inner: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=META,
            requires_grad=False,
        )
        made.numbers = inner
        return made

    __torch_function__ = _C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return perform(func, args, kwargs or {})

    def __repr__(self, **_: object) -> str:
        return f"{self.numbers!r} on cuda:0"

    def to(self, *args: Any, **kwargs: Any) -> Any:
        copy = kwargs.pop("copy", False)
        device, dtype, _, layout = _C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type != "cuda":
            return super().to(*args, copy=copy, **kwargs)
        if dtype in (None, self.dtype) and layout is None and not copy:
            return self
        return super().to(dtype or self.dtype, copy=copy, memory_format=layout or torch.preserve_format)

    def cuda(self, *args: object, **kwargs: object) -> Any:
        return self

    def tolist(self) -> Any:
        return self.detach().numbers.tolist()  # pyright: ignore[reportAttributeAccessIssue]  # the subclass's own

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host memory.")

    def __array__(self, *args: object, **kwargs: object) -> Any:
        return self.numpy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) in memo:
            return memo[id(self)]
        copy = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        else:
            copy.requires_grad_(self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.numbers.__reduce_ex__(protocol)


class Mode(TorchDispatchMode):
    """Sees what is made on the GPU without a tensor that is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return perform(func, args, kwargs or {})


class Functions(TorchFunctionMode):
    """Asks C++ for "meta" where "cuda" was asked for, which a build for the CPU refuses before any mode is called."""

    meta = 0  # how many calls that are under way did ask for "meta"

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wanted = lambda t: isinstance(t, torch.device) and t.type == "cuda"
        swap = lambda t: META if wanted(t) else t
        named = lambda t: torch.device(t) if isinstance(t, str) and t.split(":")[0] == "cuda" else t
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = named(kwargs["device"])
        if func is Tensor.to:
            args = (args[0], *map(named, args[1:]))
        if func is Tensor.cuda:
            func, args, kwargs = Tensor.to, (args[0], CUDA), {}
        if func in (torch.device, _C._nn._parse_to):
            return func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor) and any(map(wanted, kwargs.values())):
            return func(*args, **{**kwargs, "device": CPU}).to(CUDA)  # no mode sees what they do inside
        meant = any(str(t) == "meta" for t in (*args, *kwargs.values()) if isinstance(t, (str, torch.device)))
        meant = meant and _C._functorch.maybe_current_level() is None  # a wrapper of vmap says what C++ sees
        Functions.meta += meant
        try:
            return func(*map(swap, args), **{key: swap(value) for key, value in kwargs.items()})
        finally:
            Functions.meta -= meant


def perform(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on the numbers, if a GPU would do it."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    there = [isinstance(t, Pretended) for t in tensors]
    asked = kwargs.get("device")
    target = torch.device(asked).type if asked is not None else None
    if target == "meta" and not Functions.meta and not any(t.is_meta for t in tensors):
        target = "cuda"  # C++ asks for the device that it sees
    generator = kwargs.get("generator")
    on_gpu = target == "cuda" or (target is None and any(there))
    if any(there) and not all(there) and func not in _CROSSING:
        strange = [t for t, here in zip(tensors, there, strict=True) if not here]
        pointwise = torch.Tag.pointwise in func.tags
        allowed = all(t.dim() == 0 for t in strange) if pointwise or "fill" in func.name() else False
        if func in _INDEXED:
            allowed = isinstance(args[0], Pretended)
            if len(args) > 2:
                allowed = allowed and (isinstance(args[2], Pretended) or args[2].dim() == 0)
        if not allowed:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                f"({func}, shapes {[tuple(t.shape) for t in strange]} on the CPU)"
            )
    if generator is not None and (generator._cdata in _generators) != on_gpu:
        found, wanted = ("cpu", "cuda") if on_gpu else ("cuda", "cpu")
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")
    inner_args, inner_kwargs = tree_map_only(Pretended, lambda t: t.numbers, (args, kwargs))
    if target is not None:
        inner_kwargs["device"] = CPU
        inner_kwargs.pop("pin_memory", None)
    if func is aten._to_copy.default and target == "cpu" and any(there):
        inner_kwargs.pop("non_blocking", None)
        out = func(*inner_args, **inner_kwargs)
        return out.clone() if out is inner_args[0] else out
    out = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default and args and not isinstance(args[0], Pretended):
        return args[0]
    if not on_gpu:
        return out
    wrapped = tree_map_only(Tensor, lambda t: t if isinstance(t, Pretended) else Pretended(t), out)
    if not any(there):
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


_generators: dict[int, torch.Generator] = {}  # those made for the GPU, by what is the same in all their wrappers


class _Event:
    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def record(self, *args: object) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: object) -> float:
        return 1.0


def _forget_device() -> None:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@contextlib.contextmanager
def gpu() -> Iterator[None]:
    """While it is on, there is one GPU, by all that PyTorch says."""
    import torch._dynamo  # before anything is replaced, of which it makes a list

    plain = torch.Generator

    class There(plain):
        device = property(lambda self: CUDA)  # pyright: ignore[reportAssignmentType]  # Tensor has getters

    class Either(type):
        def __instancecheck__(cls, thing: object) -> bool:
            return isinstance(thing, plain)

    class Generator(metaclass=Either):
        def __new__(cls, device: Any = "cpu") -> Any:
            if torch.device(device).type != "cuda":
                return plain(device)
            made: Any = There(device="cpu")
            _generators[made._cdata] = made
            return made

    submit = ThreadPoolExecutor.submit

    def within(self: Any, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A thread has modes of its own."""

        def run() -> Any:
            with Mode(), Functions():
                return call(*args, **kwargs)

        return submit(self, run)

    nothing = lambda *args, **kwargs: None
    told = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "_lazy_init": nothing,
        "set_device": nothing,
        "synchronize": nothing,
        "empty_cache": nothing,
        "get_device_name": lambda *args: "a GPU that is not there",
        "get_device_capability": lambda *args: (9, 0),
        "is_bf16_supported": lambda *args, **kwargs: True,
        "is_current_stream_capturing": lambda: False,
        "manual_seed_all": nothing,
        "manual_seed": nothing,
        "Event": _Event,
        "device_of": lambda *args: contextlib.nullcontext(),
        "max_memory_allocated": lambda *args: 0,
        "reset_peak_memory_stats": nothing,
    }
    swapped = torch.__future__.get_swap_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        _forget_device()  # Accelerate keeps for all accelerators what the first one of the process found
        stack.callback(_forget_device)
        for name, value in told.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(ThreadPoolExecutor, "submit", within))
        stack.enter_context(mock.patch.dict("os.environ", {"GANTEXT_BACKEND": "reference"}))
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapped)
        stack.callback(_generators.clear)
        stack.enter_context(Mode())
        stack.enter_context(Functions())
        yield
