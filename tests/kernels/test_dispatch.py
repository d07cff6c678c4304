"""Which route is taken and why; and that the helpers of these tests notice what they are for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from _kernels import INTERPRETED, compiler, cross_compile, guarded, kernel, poisoned

import gantext.kernels
from gantext.kernels import choose, dispatch, forced, obstacle
from gantext.kernels.layer_norm import conditional_layer_norm

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.zeros(4, 4)
GPU: Any = SimpleNamespace(device=torch.device("cuda"), is_cuda=False, dtype=torch.float32, is_contiguous=lambda: True)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantext.kernels, "_broken", {})
    monkeypatch.delenv("GANTEXT_BACKEND", raising=False)


def test_a_cpu_takes_the_reference_and_says_why_not_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("f", None, [CPU]) == choose("f", "reference", [CPU]) == "reference"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ValueError, match=r"f: backend is 'triton', must be 'reference' here, because .* on cpu"):
        choose("f", "triton", [CPU])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("f", "triton", [CPU]) == "triton"
    assert choose("f", None, [CPU]) == "reference"  # the interpreter is forced, never picked


def test_each_obstacle_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 5))
    assert obstacle([GPU]) is None
    assert choose("f", None, [GPU]) == "triton"
    assert choose("f", None, [GPU], unless="it rains") == "reference"
    cases: list[tuple[str, list[Any], dict[str, Any]]] = [
        ("torch.float32 has no kernel, which is for torch.float16", [GPU], {"dtypes": [torch.float16]}),
        ("the tensors lie on 2 devices", [GPU, CPU], {}),
        ("a tensor is not contiguous", [CPU.T[:, 1:]], {}),
        ("it rains", [GPU], {"unless": "it rains"}),
    ]
    for reason, tensors, options in cases:
        with pytest.raises(ValueError, match=reason):
            choose("f", "triton", tensors, **options)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (7, 0))
    assert choose("f", None, [GPU]) == "reference"
    with pytest.raises(ValueError, match=r"compute capability \(7, 0\) is below \(7, 5\)"):
        choose("f", "triton", [GPU])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose("f", None, [GPU]) == "reference"
    with pytest.raises(ValueError, match="Triton is not installed"):
        choose("f", "triton", [GPU])


def test_the_environment_stands_in_for_none_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantext.kernels, "obstacle", lambda *given: None)
    monkeypatch.setenv("GANTEXT_BACKEND", "reference")
    assert choose("f", None, [GPU]) == "reference" and choose("f", "triton", [GPU]) == "triton"
    monkeypatch.setenv("GANTEXT_BACKEND", "triton")
    assert choose("f", None, [CPU]) == "triton" and choose("f", "reference", [GPU]) == "reference"
    monkeypatch.setenv("GANTEXT_BACKEND", "gpu")
    with pytest.raises(ValueError, match="f: backend is 'gpu', must be None, 'reference' or 'triton'"):
        choose("f", None, [CPU])


def test_the_environment_is_read_at_each_call_with_and_without_its_private_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for value, want in (("reference", "reference"), ("", None), (None, None)):
        monkeypatch.delenv("GANTEXT_BACKEND", raising=False)
        if value is not None:
            monkeypatch.setenv("GANTEXT_BACKEND", value)
        assert forced() == want
        with monkeypatch.context() as patched:
            patched.setattr(gantext.kernels.os, "environ", dict(gantext.kernels.os.environ))
            assert forced() == want


def test_a_kernel_that_does_not_start_is_replaced_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantext.kernels, "obstacle", lambda *given: None)
    starts = []

    def broken() -> str:
        starts.append(1)
        raise RuntimeError("no such instruction")

    call = lambda backend=None, name="f": dispatch(name, backend, [GPU], reference=lambda: "plain", triton=broken)
    with pytest.warns(RuntimeWarning, match=r"f: the Triton kernel did not start .* RuntimeError: no such instruction"):
        assert call() == "plain"
    assert call() == "plain" and len(starts) == 1  # silently (a warning is an error here), and without a second try
    with pytest.warns(RuntimeWarning, match="g: the Triton"):  # another operation is another matter
        call(name="g")
    with pytest.raises(RuntimeError, match="no such instruction"):
        call("triton")
    monkeypatch.setenv("GANTEXT_BACKEND", "triton")
    with pytest.raises(RuntimeError, match="no such instruction"):
        call()

    def full() -> str:
        raise torch.OutOfMemoryError("full")

    monkeypatch.delenv("GANTEXT_BACKEND")
    with pytest.raises(torch.OutOfMemoryError):
        dispatch("h", None, [GPU], reference=lambda: "plain", triton=full)


def test_a_graph_being_traced_gets_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gantext.kernels, "obstacle", lambda *given: None)
    assert choose("f", None, [GPU]) == "triton"
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert choose("f", None, [GPU]) == "reference"


@pytest.mark.parametrize(
    ("owner", "name"), [(torch._C, "_are_functorch_transforms_active"), (torch.autograd.forward_ad, "_current_level")]
)
def test_a_private_name_of_pytorch_may_go(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, gamma, beta = torch.randn(2, 3, 8), torch.randn(2, 1, 8), torch.randn(2, 1, 8)
    want = conditional_layer_norm(x, gamma, beta)
    monkeypatch.delattr(owner, name)
    torch.testing.assert_close(conditional_layer_norm(x, gamma, beta), want)


def test_everything_but_the_kernels_works_without_triton() -> None:
    code = """
        import sys
        import torch, gantext.kernels, gantext.kernels.sphere
        assert "gantext.kernels.sphere_triton" not in sys.modules
        sys.modules["triton"] = None  # an import of it fails
        Batch = gantext.kernels.sphere.Batch
        tables, first = [torch.eye(3) for _ in range(3)], torch.tensor([0])
        gantext.kernels.sphere.batch_update(Batch(*tables, first, first + 1, first + 2, first), rate=0.1)
        try:
            given = Batch(*tables, first, first + 1, first, first)
            gantext.kernels.sphere.batch_update(given, rate=0.1, backend="triton")
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "because Triton is not installed" in ran.stdout


@kernel
def test_this_runs_where_kernels_run() -> None:
    assert INTERPRETED or torch.cuda.is_available()


def test_guards_notice_a_write_on_either_side() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64):
        for offset, side in ((-1, "before"), (6, "after")):
            t, intact = guarded(torch.ones(2, 3, dtype=dtype), band=8)
            intact()
            outside = t.as_strided((1,), (1,), t.storage_offset() + offset)
            assert outside.isnan() if dtype.is_floating_point else outside == -1
            t.zero_()
            intact()
            outside.fill_(float("nan") if dtype.is_floating_point else 0)  # a NaN of another's making is noticed too
            with pytest.raises(AssertionError, match=f"out of bounds, {side} a tensor"):
                intact()


@torch.library.custom_op("gantext_tests::workspace", mutates_args=())
def workspace(size: int, beyond: int) -> torch.Tensor:
    room = torch.empty(size)
    room.as_strided((1,), (1,), room.storage_offset() + beyond).zero_()
    return room.clone()


def test_fresh_memory_is_poisoned_and_guarded_inside_operators_too() -> None:
    with poisoned():
        fresh = [torch.empty(3), CPU.new_empty(3), torch.empty_like(CPU[0]), torch.empty(3, dtype=torch.float64)]
        assert all(t.isnan().all() for t in fresh)
        assert (torch.empty(3, dtype=torch.int64) == 2**63 - 1).all()
        assert workspace(4, 1).isnan().tolist() == [True, False, True, True]
    for outside, side in ((4, "after"), (-1, "before")):
        with pytest.raises(AssertionError, match=f"out of bounds, {side} a tensor"), poisoned():
            workspace(4, outside)


@compiler
def test_the_compilers_gate_sees_spills_and_atomics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import triton
        import triton.language as tl

        @triton.jit
        def hungry(x, y, N: tl.constexpr):
            i = tl.arange(0, N)
            rows = tl.load(x + i[:, None] * N + i[None, :])
            tl.store(y + i[:, None] * N + i[None, :], rows / tl.sum(rows, 0)[None, :] + tl.sum(rows, 1)[:, None])
            tl.atomic_add(y, tl.sum(tl.sum(rows, 0), 0))
    """
    (tmp_path / "hungry_kernel.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    import hungry_kernel  # pyright: ignore[reportMissingImports] written a line ago

    types = {"x": "*fp32", "y": "*fp32"}
    small = cross_compile(hungry_kernel.hungry, types, {"N": 16}, 80)
    large = cross_compile(hungry_kernel.hungry, types, {"N": 128}, 80, warps=2)
    assert small.registers < 64 and small.stack == small.spills == 0 < small.count("ATOM", "RED")
    assert large.stack > 0 and large.spills > 0
