"""What the tests of all kernels share: marks, poisoned memory, guard bands, and what the compiler makes of a kernel.

How the marks are obeyed stands in `tests/kernels/conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor

kernel = pytest.mark.kernel  # launches a Triton kernel
compiler = pytest.mark.compiler  # compiles one, for GPUs that need not be there
both_routes = pytest.mark.parametrize("backend", ["reference", pytest.param("triton", marks=kernel)])

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
CAPABILITIES = (75, 80, 89, 90)  # T4, A100, L4, H100 and H200

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CANARY = {1: -1, 2: 0x7FC1, 4: 0x7FC1DEAD, 8: 0x7FF8DEADDEADDEAD}  # a NaN in every floating dtype, and no common one


def guarded(t: Tensor, band: int = 64) -> tuple[Tensor, Callable[[], None]]:
    """A copy of `t` between two bands of canaries, and a function that fails if one of them has changed.

    The interpreter says nothing of an access out of bounds. A write meets the band; a read gets NaN, or index -1.
    """
    buffer = torch.zeros(t.numel() + 2 * band, dtype=t.dtype, device=t.device)
    bits = buffer.view(_BITS[t.element_size()])
    bits.fill_(_CANARY[t.element_size()] if t.is_floating_point() else -1)
    canaries = bits.clone()
    inside = buffer[band : band + t.numel()].view(t.shape)
    inside.copy_(t)

    def intact() -> None:
        for name, part in {"before": slice(0, band), "after": slice(band + t.numel(), None)}.items():
            hit = (bits[part] != canaries[part]).nonzero().flatten().tolist()
            assert not hit, f"written out of bounds, {name} a tensor {tuple(t.shape)}: elements {hit} of the band"

    return inside, intact


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """All fresh memory (`torch.empty` and its kin) is NaN, or the largest integer, and lies between guard bands.

    What is read before it is written shows, also in a workspace that only the operation sees; the bands are looked at
    on leaving.
    """
    guards = []

    def poison(fresh: Tensor) -> Tensor:
        fresh.fill_(torch.nan if fresh.is_floating_point() else torch.iinfo(fresh.dtype).max)
        inside, intact = guarded(fresh)
        guards.append(intact)
        return inside if fresh.is_contiguous() else fresh

    with contextlib.ExitStack() as stack:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            plain = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, lambda *a, plain=plain, **k: poison(plain(*a, **k))))
        yield
    for intact in guards:
        intact()


class Usage(NamedTuple):
    """What a compiled kernel uses; `spills` counts the instructions that load from or store to local memory."""

    registers: int
    stack: int
    spills: int
    instructions: Counter[str]

    def count(self, *starts: str) -> int:
        """How many instructions begin with one of these words."""
        return sum(count for name, count in self.instructions.items() if name.startswith(starts))


def cross_compile(
    function: Any, signature: Mapping[str, str], constants: Mapping[str, object], capability: int, warps: int = 4
) -> Usage:
    """Compile a Triton kernel for a GPU that need not be there, down to machine code.

    Args:
        function: the `@triton.jit` function.
        signature: type of each argument by name, such as "*fp32" or "i32"; names that the function does not have are
            ignored, so that kernels may share one. Pointers count as aligned to 16 bytes, as tensors are.
        constants: the `tl.constexpr` arguments, and others for which a value is compiled in.
        capability: 90 for 9.0.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = function.arg_names
    fixed = {parameter.name for parameter in function.params if parameter.is_constexpr}
    assert fixed <= set(constants) <= set(names), f"constants {sorted(constants)}, tl.constexpr {sorted(fixed)}"
    types = {name: "constexpr" if name in constants else signature[name] for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if types[name].startswith("*")}
    source = ASTSource(function, types, dict(constants), aligned)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(built.asm["cubin"])
        run = lambda *words: subprocess.run([*words, str(cubin)], capture_output=True, text=True, check=True).stdout
        usage = run(str(tools / "cuobjdump"), "-res-usage")
        code = run(str(tools / "nvdisasm"), "-c")
    numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    line = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
    instructions = Counter(line.findall(code))
    assert instructions["EXIT"], f"no machine code was read: {code[:200]!r}"
    spills = sum(count for name, count in instructions.items() if name.startswith(("LDL", "STL")))
    return Usage(numbers["REG"], numbers["STACK"] + numbers["LOCAL"], spills, instructions)
