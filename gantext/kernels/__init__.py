"""Where an operation with a kernel picks its route: the Triton kernel, or the same in plain PyTorch.

An operation has one function `NAME(..., backend=None)`, its reference `NAME_ref` beside it, and its kernels in
`gantext/kernels/NAME_triton.py`, imported only when they are launched, so that `gantext` works without Triton and
without a GPU. The environment variable GANTEXT_BACKEND stands in for `backend=None`: it forces a route everywhere, for
a test or a suspicious reader.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from gantext._checks import transformed

__all__ = ["choose", "dispatch", "forced", "launch", "obstacle", "unobserved"]

BACKENDS = ("reference", "triton")
PLAIN = (Tensor, torch.nn.Parameter)
CAPABILITY = (7, 5)  # the least compute capability: a T4's
OVERRIDE = "GANTEXT_BACKEND"
_KEY = os.environ.encodekey(OVERRIDE)

_broken: dict[str, str] = {}  # operation -> what its kernel's launch raised
_Result = TypeVar("_Result")


_known = functools.cache(lambda find, what: find(what))  # what a process finds once; another `find` finds anew


def forced() -> str | None:
    """The route that GANTEXT_BACKEND forces; None where it is not set, or empty."""
    # `os.environ` raises twice for a name that is not set, and a small norm waits for that a fifth of its time. The
    # table that it wraps is private: without it, that is how it is read.
    table = getattr(os.environ, "_data", None)
    return None if table is not None and _KEY not in table else os.environ.get(OVERRIDE) or None


def unobserved(*tensors: Tensor) -> bool:
    """Whether nothing but plain autograd looks on: no trace, no transform, no dispatch mode, no subclass of Tensor.

    There an `autograd.Function` of our own serves, whose host time is a fraction of a registered operator's.

    >>> unobserved(torch.zeros(3)), torch.func.vmap(lambda t: t + unobserved(t))(torch.zeros(2))
    (True, tensor([0., 0.]))
    """
    if torch.compiler.is_compiling():
        return False
    modes = getattr(torch._C, "_len_torch_dispatch_stack", None)  # private: where it is gone, what is general serves
    return modes is not None and not modes() and not transformed() and all(type(t) in PLAIN for t in tensors)


def obstacle(
    tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype] = (torch.float32,), strided: bool = False
) -> str | None:
    """Why the Triton kernel of an operation, which has these dtypes, cannot run on these tensors; None where it can.

    On the CPU they will do if Triton interprets, that is if TRITON_INTERPRET=1 was set before the kernel was imported.
    A `strided` kernel takes any strides.

    >>> obstacle([torch.zeros(3, dtype=torch.int8)])
    'torch.int8 has no kernel, which is for torch.float32'
    """
    devices = {t.device for t in tensors}
    if wrong := [t.dtype for t in tensors if t.dtype not in dtypes]:
        return f"{wrong[0]} has no kernel, which is for {', '.join(map(str, dtypes))}"
    if len(devices) != 1:
        return f"the tensors lie on {len(devices)} devices"
    if not strided and not all(t.is_contiguous() for t in tensors):
        return "a tensor is not contiguous"
    if _known(importlib.util.find_spec, "triton") is None:
        return "Triton is not installed"
    (device,) = devices
    if device.type == "cuda":
        found = _known(torch.cuda.get_device_capability, device)
        return None if found >= CAPABILITY else f"compute capability {found} is below {CAPABILITY}"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return f"the tensors are on {device.type}, and there is no GPU kernel to run there"


def choose(
    name: str,
    backend: str | None,
    tensors: Sequence[Tensor],
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    unless: str | None = None,
    strided: bool = False,
) -> str:
    """The route of one call: "triton" or "reference".

    Args:
        name: the operation, for messages.
        backend: "reference" or "triton" forces that route, ValueError with the reason where it cannot run; None is the
            value of GANTEXT_BACKEND or, without that, "triton" where nothing stands in its way (`obstacle`), the
            tensors are on a GPU, no earlier launch failed, and no graph is being traced: there, plain PyTorch is what
            the compiler can fuse. The interpreter is never picked, only forced.
        tensors, dtypes, strided: as in `obstacle`.
        unless: an obstacle of the operation's own, such as rows too long for a tile; None if there is none.

    >>> choose("f", None, [torch.zeros(3)]) if not os.environ.get("GANTEXT_BACKEND") else "reference"
    'reference'
    """
    if backend is None:
        backend = forced()
    if backend not in (None, *BACKENDS):
        raise ValueError(f"{name}: backend is {backend!r}, must be None, 'reference' or 'triton'. Leave it None.")
    if backend == "reference" or (backend is None and tensors[0].device.type != "cuda"):
        return "reference"
    reason = unless or obstacle(tensors, dtypes, strided)
    if backend == "triton":
        if reason:
            raise ValueError(
                f"{name}: backend is 'triton', must be 'reference' here, because {reason}. Leave it None to have the "
                "route chosen."
            )
        return backend
    held = reason or name in _broken or torch.compiler.is_compiling()
    return "reference" if held else "triton"


def dispatch(
    name: str,
    backend: str | None,
    tensors: Sequence[Tensor],
    *,
    reference: Callable[[], _Result],
    triton: Callable[[], _Result],
    dtypes: Sequence[torch.dtype] = (torch.float32,),
    unless: str | None = None,
    strided: bool = False,
) -> _Result:
    """Take the route that `choose` names; where a kernel that nobody forced does not start, warn once and do without.

    `triton` imports its kernels itself, and must not have changed any argument when it raises. The rest as in `choose`.

    >>> dispatch("f", "reference", [], reference=lambda: 1, triton=lambda: 2)
    1
    """
    if choose(name, backend, tensors, dtypes, unless, strided) == "reference":
        return reference()
    try:
        with torch.cuda.device_of(tensors[0]):  # Triton launches on the current device, not on that of its arguments
            return triton()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler's refusal has many types: Triton's own, ptxas's, LLVM's, the driver's
        if backend or forced():
            raise
        _broken[name] = f"{type(error).__name__}: {error}"
        warnings.warn(
            f"{name}: the Triton kernel did not start and plain PyTorch does its work from now on. {_broken[name]}",
            RuntimeWarning,
            stacklevel=2,
        )
    return reference()


def launch(kernel: Any, programs: int, *arguments: object, **constants: object) -> None:
    """Start so many programs of a Triton kernel; its own types describe what it sees inside, not what is passed."""
    kernel[(programs,)](*arguments, **constants)
