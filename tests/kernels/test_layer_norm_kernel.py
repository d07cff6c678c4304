"""The kernels of conditional layer norm against the textbook: memory, strides, hostile input, compiled code."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from _compare import assert_close, assert_not_worse
from _kernels import CAPABILITIES, DEVICE, INTERPRETED, compiler, cross_compile, guarded, kernel, poisoned
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn.functional import layer_norm
from torch.utils._python_dispatch import TorchDispatchMode

from gantext.kernels import layer_norm as operators
from gantext.kernels.layer_norm import conditional_layer_norm, conditional_layer_norm_ref

F32, F64 = torch.float32, torch.float64
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2, F32: 1e-5, F64: 1e-13}
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=lambda dtype: str(dtype)[6:])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randn(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, dtype=F64).to(DEVICE, dtype)


def run(f: Any, tensors: Sequence[Tensor], G: Tensor) -> list[Tensor]:
    y = f(*tensors)
    return [y.detach(), *grad(y, tensors, G.to(y.dtype))]


def compare(tensors: Sequence[Tensor], eps: float = 1e-5) -> list[Tensor]:
    """Value and gradients by the kernel, with guard bands round every input and fresh memory NaN."""
    G = randn(*tensors[0].shape, dtype=tensors[0].dtype)
    (G, intact), *copies = (guarded(t) if t.is_contiguous() else (t, lambda: None) for t in (G, *tensors))
    with poisoned():
        leaves = [t.detach().requires_grad_() for t, _ in copies]
        out = run(lambda *t: conditional_layer_norm(*t, eps=eps, backend="triton"), leaves, G)
    for check in (intact, *(check for _, check in copies)):
        check()
    exact = [t.detach().double().requires_grad_() for t in tensors]
    ref = run(lambda *t: conditional_layer_norm_ref(*t, eps=eps), exact, G.double())
    for found, want, like in zip(out, ref, [tensors[0], *tensors], strict=True):
        assert found.dtype == like.dtype and found.shape == want.shape
        if want.any():
            assert_close(found[None], want[None], TOLERANCE[like.dtype])
        elif INTERPRETED or not want.numel():
            assert torch.equal(found.double(), want)
        else:  # compiled, a product and a difference may be one operation, which leaves the product's rounding
            terms = G.abs().max().item() * max(t.abs().max().item() for t in tensors) / eps**0.5
            assert found.abs().max() <= 4 * torch.finfo(like.dtype).eps * terms
    return out


def given(x: tuple[int, ...], gamma: tuple[int, ...], dtype: torch.dtype = F32) -> tuple[Tensor, Tensor, Tensor]:
    return randn(*x, dtype=dtype), randn(*gamma, dtype=dtype), randn(*gamma, dtype=dtype)


@kernel
@every_dtype
@pytest.mark.parametrize("token", [False, True], ids=["sequence", "token"])
def test_it_is_the_textbook(dtype: torch.dtype, token: bool) -> None:
    for B, L, D in ((2, 5, 3), (3, 37, 16), (1, 2, 100), (2, 3, 1030)):  # also more tokens than a chunk has
        compare(given((B, L, D), (B, L, D) if token else (B, D), dtype))


@kernel
@pytest.mark.parametrize(("D", "dtype"), [(8192, F32), (4096, F64), (8191, torch.bfloat16)])
def test_the_widest_rows(D: int, dtype: torch.dtype) -> None:
    compare(given((2, 2, D), (2, D), dtype))
    with pytest.raises(ValueError, match=r"must be at most (8192|4096) for the kernel"):
        conditional_layer_norm(*given((1, 1, 8193), (1, 8193), dtype), backend="triton")
    wide = given((2, 1, 8193), (2, 8193), dtype)
    torch.testing.assert_close(conditional_layer_norm(*wide), conditional_layer_norm(*wide, backend="reference"))


@kernel
def test_shapes_of_every_kind() -> None:
    compare(given((5,), (5,)))
    compare(given((6, 5), (5,)))
    compare(given((6, 5), (6, 5)))
    compare(given((3, 4, 5), (5,)))
    compare(given((3, 4, 5), (1, 5)))
    compare(given((3, 4, 5), (1, 4, 5)))
    compare(given((2, 3, 4, 5), (2, 5)))
    compare(given((2, 3, 4, 5), (2, 1, 4, 5)))
    compare([randn(3, 4, 5), randn(3, 5), randn(3, 4, 5)])
    compare([randn(3, 4, 5, dtype=torch.bfloat16), randn(3, 5, dtype=F32), randn(3, 5, dtype=F32)])
    compare([randn(3, 4, 5, dtype=F32), randn(3, 5), randn(3, 5, dtype=torch.float16)])


@kernel
def test_empty_and_single() -> None:
    for shape in ((0, 3, 4), (2, 0, 4), (0, 0, 4)):
        compare(given(shape, (shape[0], 4)))
        compare(given(shape, shape))
        compare(given(shape, (4,)))
    y, dx, dgamma, dbeta = compare(given((2, 3, 1), (2, 1)))  # a row of one number is constant
    assert (dgamma == 0).all() and (dbeta != 0).all() and y.isfinite().all()
    assert (dx == 0).all() or not INTERPRETED


@kernel
def test_strides_are_read_not_assumed() -> None:
    wide = randn(3, 6, 40)
    x = {
        "chunk": wide[..., 10:20],
        "every other token": wide[:, ::2, :10],
        "transposed": wide[..., :10].transpose(0, 1).contiguous().transpose(0, 1),
        "columns": randn(3, 10, 6).mT,
        "expanded": wide[:1, :, :10].expand(3, 6, 10),
        "expanded tokens": wide[:, :1, :10].expand(3, 6, 10),
    }
    both = randn(3, 20)
    for name, t in x.items():
        assert not t.is_contiguous(), name
        compare([t, both[:, :10], both[:, 10:]])
        compare([t, both[:, :10], t.flip(0).transpose(1, 2).contiguous().mT])
        tokens = randn(3, t.shape[1], 20)
        compare([t, tokens[..., :10], tokens[..., 10:]])
    leaves = given((2, 3, 4), (2, 4), F64)
    [t.requires_grad_() for t in leaves]  # the gradient of a sum has strides 0
    found = grad(conditional_layer_norm(*leaves, backend="triton").sum(), leaves)
    torch.testing.assert_close(found, grad(conditional_layer_norm_ref(*leaves).sum(), leaves), rtol=0, atol=1e-13)


@kernel
def test_hostile_numbers() -> None:
    scale = (randn(2, 33, dtype=F32), randn(2, 33, dtype=F32))
    for size, eps in ((1e-12, 1e-30), (1e-4, 1e-12), (1e4, 1e-5), (1e12, 1e-5)):
        compare([randn(2, 3, 33, dtype=F32) * size, *scale], eps)
    x = randn(2, 3, 33, dtype=F32)
    compare([x, torch.tensor([0.0, -1.0, 1.0] * 11, device=DEVICE).expand(2, 33), scale[1]])  # gamma is not divided by
    for value in (0.0, 0.1, -1e4, 1e30):
        x[0, 1] = value
        y, dx, *_ = run(
            lambda *t: conditional_layer_norm(*t, backend="triton"),
            [x.requires_grad_(), *(s.requires_grad_() for s in scale)],
            x.detach(),
        )
        x = x.detach()
        assert y.isfinite().all() and dx.isfinite().all()
    x[1, 1, 5] = torch.nan
    bad = conditional_layer_norm(x, scale[0], scale[1], backend="triton").isnan().any(-1)
    assert bad.tolist() == [[False] * 3, [False, True, False]]


@kernel
def test_a_large_mean_costs_no_more_than_pytorchs_own() -> None:
    tensors = [1e4 + randn(2, 8, 64, dtype=F32), randn(2, 64, dtype=F32), randn(2, 64, dtype=F32)]
    G, leaves = randn(2, 8, 64, dtype=F32), [t.requires_grad_() for t in tensors]
    exact = run(conditional_layer_norm_ref, [t.detach().double().requires_grad_() for t in tensors], G.double())
    ours = run(lambda *t: conditional_layer_norm(*t, backend="triton"), leaves, G)
    own = run(lambda x, g, b: layer_norm(x, (64,)) * g[:, None] + b[:, None], leaves, G)
    for a, b, c in zip(ours, own, exact, strict=True):
        assert_not_worse(a[None], b[None], c[None])


@kernel
def test_statistics_are_saved_in_float32_and_in_float64() -> None:
    for dtype, saved in ((torch.bfloat16, F32), (torch.float16, F32), (F32, F32), (F64, F64)):
        x, gamma, beta = given((2, 3, 5), (2, 5), dtype)
        _, mean, rstd = torch.ops.gantext.layer_norm(x, gamma, beta, 1e-5)
        assert mean.dtype == rstd.dtype == saved
        torch.testing.assert_close(mean, x.to(saved).mean(-1))
        torch.testing.assert_close(rstd, (x.to(saved).var(-1, correction=0) + 1e-5).rsqrt())
    x, gamma, beta = given((1, 1, 3), (1, 3), F64)
    for eps in (1e-5, 1e-12, 0.1):  # eps in the precision of the statistics, not of float32
        rstd = torch.ops.gantext.layer_norm(0 * x, gamma, beta, eps)[2]
        torch.testing.assert_close(rstd, torch.full_like(rstd, eps**-0.5), rtol=1e-15, atol=0)


@kernel
def test_repetition_is_exact_and_sums_have_their_order() -> None:
    tensors = [t.requires_grad_() for t in given((2, 70, 24), (2, 24))]
    G = randn(2, 70, 24, dtype=F32)
    first, second = (run(lambda *t: conditional_layer_norm(*t, backend="triton"), tensors, G) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone = [t[1:].detach().requires_grad_() for t in tensors]  # and a sequence does not depend on its neighbours
    third = run(lambda *t: conditional_layer_norm(*t, backend="triton"), alone, G[1:])
    assert all(torch.equal(a[1:], b) for a, b in zip(first, third, strict=True))


KINDS = [  # of gamma and beta beside x (3, 70, 8)
    ((3, 8), (3, 8)),
    ((8,), (8,)),
    ((1, 8), (3, 8)),
    ((3, 70, 8), (3, 70, 8)),
    ((1, 70, 8), (3, 1, 8)),
]
MIXED = [(F32, F32), (F32, torch.float16), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, F32)]


@kernel
@pytest.mark.parametrize("dtypes", MIXED, ids=str)
def test_where_only_autograd_looks_on_no_operator_is_called_for_the_same_bits(
    dtypes: tuple[torch.dtype, torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    f: Any = partial(conditional_layer_norm, backend="triton")
    for gamma, beta in KINDS:
        x, scale, shift = randn(3, 70, 8, dtype=dtypes[0]), randn(*gamma, dtype=dtypes[1]), randn(*beta, dtype=F32)
        tensors, G = [torch.nn.Parameter(t) for t in (x, scale, shift)], randn(3, 70, 8, dtype=dtypes[0])
        with monkeypatch.context() as patched:
            patched.setattr(operators, "unobserved", lambda *tensors: False)
            want = run(f, tensors, G)
        with monkeypatch.context() as patched:
            for name in ("layer_norm", "layer_norm_backward"):
                patched.setattr(torch.ops.gantext, name, lambda *given: pytest.fail("an operator was called"))
            found = run(f, tensors, G)
            assert all(map(torch.equal, found, want)), (gamma, beta)
            assert torch.equal(f(*(t.detach() for t in tensors)), want[0])


@kernel
def test_only_what_is_asked_for_is_computed_and_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    from gantext.kernels import layer_norm_triton

    flags: list[tuple[bool, bool]] = []
    plain = layer_norm_triton.launch

    def spy(kernel: Any, *given: Any, **constants: Any) -> None:
        if kernel is layer_norm_triton.backward_rows:
            flags.append((constants["INPUT"], constants["SCALE"]))
        plain(kernel, *given, **constants)

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(layer_norm_triton, "launch", spy)
    f: Any = partial(conditional_layer_norm, backend="triton")
    G = randn(3, 70, 8, dtype=F32)
    for kinds in KINDS:
        tensors = [randn(*shape, dtype=F32) for shape in ((3, 70, 8), *kinds)]
        whole = run(f, [t.requires_grad_() for t in tensors], G)[1:]
        token = max(map(len, kinds)) == 3
        for asked in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
            leaves = [t.detach().requires_grad_(k in asked) for k, t in enumerate(tensors)]
            y = f(*leaves)
            flags.clear()
            names = Counter[str]()
            with Count():
                found = grad(y, [leaves[k] for k in asked], G)
            for a, k in zip(found, asked, strict=True):  # a program for each choice: compiled, each rounds in its way
                rtol, atol = (0, 0) if INTERPRETED else (1e-5, 1e-6)
                torch.testing.assert_close(a, whole[k], rtol=rtol, atol=atol)
            expected = (0 in asked, 1 in asked or (2 in asked and not token))
            assert flags == ([expected] if any(expected) else []), (kinds, asked)
            if kinds[0] == (3, 8):  # one sum for both gradients, and none that nobody asked for
                assert names["sum"] == expected[1] and not names["_to_copy"]


@kernel
def test_a_batch_of_gradients_and_function_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    f: Any = partial(conditional_layer_norm, backend="triton")
    for kinds in KINDS:
        tensors = [randn(*shape).requires_grad_() for shape in ((3, 70, 8), *kinds)]
        y, G = f(*tensors), randn(2, 3, 70, 8)
        each = [grad(y, tensors, g, retain_graph=True, create_graph=True) for g in G]
        for batched in (
            grad(y, tensors, G, is_grads_batched=True, retain_graph=True),
            grad(y, tensors, G, is_grads_batched=True, create_graph=True),
            torch.func.vmap(lambda g, y=y, tensors=tensors: grad(y, tensors, g, retain_graph=True))(G),
        ):
            for k, t in enumerate(batched):
                torch.testing.assert_close(t, torch.stack([one[k] for one in each]), rtol=0, atol=1e-13)
        with monkeypatch.context() as patched:
            patched.setenv("GANTEXT_BACKEND", "triton")  # transforms do not see into a kernel: the formula serves
            loss: Any = lambda *given, G=G: (conditional_layer_norm(*given) * G[0]).sum()
            for a, b in zip(torch.func.grad(loss, (0, 1, 2))(*(t.detach() for t in tensors)), each[0], strict=True):
                torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-13)


@kernel
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_gradcheck_and_gradgradcheck(shape: tuple[int, ...]) -> None:
    tensors = [t.requires_grad_() for t in given((2, 2, 3), shape, F64)]
    f = lambda *t: conditional_layer_norm(*t, backend="triton")
    assert gradcheck(f, tensors, fast_mode=True) and gradgradcheck(f, tensors, fast_mode=True)


@kernel
def test_operators_are_registered_as_they_behave() -> None:
    for shape in ((2, 5), (2, 3, 5)):
        x, gamma, beta = (t.requires_grad_() for t in given((2, 3, 5), shape, F64))
        torch.library.opcheck(torch.ops.gantext.layer_norm, (x, gamma, beta, 1e-5))
        mean, rstd = x.detach().mean(-1), x.detach().std(-1).reciprocal()
        torch.library.opcheck(torch.ops.gantext.layer_norm_backward, (x, x, gamma, mean, rstd, 1e-5))
        strided = [t.detach().mT.contiguous().mT.requires_grad_() for t in (x, gamma, beta)]
        assert not strided[0].is_contiguous()
        torch.library.opcheck(torch.ops.gantext.layer_norm, (*strided, 1e-5))
        _, mean, rstd = torch.ops.gantext.layer_norm(x, gamma, beta, 1e-5)
        assert not mean.requires_grad and not rstd.requires_grad


@kernel
def test_a_forced_kernel_survives_the_compiler() -> None:
    f: Any = torch.compile(partial(conditional_layer_norm, backend="triton"), backend="aot_eager", fullgraph=True)
    tensors = [t.requires_grad_() for t in given((2, 3, 5), (2, 5), F64)]
    G = randn(2, 3, 5)
    for a, b in zip(run(f, tensors, G), run(conditional_layer_norm_ref, tensors, G), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@kernel
def test_offsets_beyond_two_to_the_31(tmp_path: Path) -> None:
    D, step = 1000, 1_100_000  # strides that fit 32 bits, and offsets that do not
    rows = 2 * step + 1  # on the CPU a file with holes, which takes up next to no space
    if DEVICE == "cuda":
        big = torch.zeros(rows, D, dtype=torch.float16, device=DEVICE)
    else:
        big = torch.from_file(str(tmp_path / "x"), shared=True, size=rows * D, dtype=torch.float16).view(rows, D)
    small, gamma, beta = given((3, D), (3, D), torch.float16)
    far = big[::step]
    far.copy_(small)
    compare([far[:, None], gamma, beta])  # three sequences of one token
    compare([far[None], gamma[:1], beta[:1]])  # three tokens of one sequence
    compare([small[:, None], far[:, None], beta[:, None]])  # a gamma for each token
    compare([small[:, None], far, beta])


@compiler
def test_tiles_cover_every_row_and_fill_a_gpu() -> None:
    from gantext.kernels import layer_norm_triton as triton

    for B, T, D in ((1, 1, 1), (64, 512, 768), (16, 4096, 128), (2, 100_000, 8192), (1000, 1, 33), (3, 0, 5)):
        for (itemsize, read), token in itertools.product(((4, 2), (4, 4), (8, 8)), (False, True)):
            tensors = 3 if token else 2
            tile, warps, chunks = triton.backward_tiles(B, T, D, itemsize, read, token)
            rows = tile["ROWS"] * tile["STEPS"]
            assert (chunks - 1) * rows < T <= chunks * rows or T == chunks == 0
            assert D <= tile["BLOCK"] < max(2 * D, 17) and 16 <= rows <= 64 and 4 <= warps <= 16
            assert rows == 16 or B * chunks >= triton.PROGRAMS
            assert tile["ROWS"] * tile["BLOCK"] <= 16 * 32 * warps  # numbers a thread
            waiting = (tile["STAGES"] - 1) * tensors * tile["ROWS"] * tile["BLOCK"] * read
            assert waiting <= triton.SHARED and (tile["STAGES"] == 1 or read == 2)
            tile, warps, chunks = triton.forward_tiles(T, D, itemsize, read, token)
            rows = tile["ROWS"] * tile["STEPS"]
            assert (chunks - 1) * rows < T <= chunks * rows or T == chunks == 0
            assert D <= tile["BLOCK"] < max(2 * D, 17) and tile["ROWS"] <= 16 and 1 <= warps <= 16
            assert tile["ROWS"] * tile["BLOCK"] * itemsize <= 4096 * warps  # bytes a warp
            waiting = (tile["STAGES"] - 1) * (tensors - 1 + token) * tile["ROWS"] * tile["BLOCK"] * read
            assert waiting <= triton.SHARED


STRIDES = "x_b x_t gamma_b gamma_t beta_b beta_t grad_b grad_t".split()


@compiler
@pytest.mark.parametrize("token", [False, True], ids=["sequence", "token"])
@pytest.mark.parametrize(
    ("capability", "D", "dtype", "dense"),
    [
        *((c, 768, F32, True) for c in CAPABILITIES),
        (90, 768, F32, False),
        (80, 768, torch.bfloat16, True),
        (75, 8192, F32, True),
        (90, 8192, F32, True),
        (90, 4096, F64, True),
    ],
)
def test_compiled_kernels_fit_their_registers(
    capability: int, D: int, dtype: torch.dtype, dense: bool, token: bool
) -> None:
    from gantext.kernels import layer_norm_triton

    itemsize = max(4, dtype.itemsize)
    tiles = {
        "forward_rows": layer_norm_triton.forward_tiles(512, D, itemsize, dtype.itemsize, token),
        "backward_rows": layer_norm_triton.backward_tiles(32, 512, D, itemsize, dtype.itemsize, token),
    }
    number = {torch.bfloat16: "*bf16"}.get(dtype, f"*fp{8 * dtype.itemsize}")
    types = dict.fromkeys("x gamma beta y grad dx".split(), number) | dict.fromkeys(["T", "chunks"], "i32")
    types |= dict.fromkeys("mean rstd kept".split(), "*fp64" if dtype == F64 else "*fp32")
    types |= {"kept": number} if token else {}
    types |= dict.fromkeys(STRIDES, "i32")
    strides = (
        dict.fromkeys(STRIDES, 512 * D) if dense else {}
    )  # any multiple of 16: rows may be read 16 bytes at a time
    for name, (tile, warps, _) in tiles.items():
        function = getattr(layer_norm_triton, name)
        constants = {**tile, "EPS": 1e-5, "TOKEN": token, "INPUT": True, "SCALE": True, **strides}
        constants = {key: value for key, value in constants.items() if key in function.arg_names}
        used = cross_compile(function, types, constants, capability, warps)
        budget = 128 if D == 768 else 65_536 // (32 * warps)  # from 16 warps on a multiprocessor; or one program at all
        assert used.registers <= budget, f"{name} uses {used.registers} registers"
        assert used.stack == used.spills == 0, f"{name}: {used.stack} bytes of stack, {used.spills} spills"
        assert used.count("ATOM", "RED") == 0, f"{name} uses atomics: its sums would depend on the order of arrival"
        assert used.count("LDG") > 0 and used.count("STG") > 0, f"{name} reads or writes nothing"
        wide = sum(count for op, count in used.instructions.items() if op.startswith("LDG") and ".128" in op)
        assert not dense or wide >= 3, f"{name} has {wide} loads of 16 bytes from rows that allow them"


@compiler
@pytest.mark.parametrize("token", [False, True], ids=["sequence", "token"])
def test_gradients_that_nobody_asked_for_are_not_compiled_in(token: bool) -> None:
    from gantext.kernels import layer_norm_triton

    tile, warps, _ = layer_norm_triton.backward_tiles(32, 512, 128, 4, 4, token)
    types: dict[str, str] = dict.fromkeys("grad x gamma mean rstd dx kept".split(), "*fp32")
    types |= dict.fromkeys(["T", "chunks", *STRIDES], "i32")
    stores = {}
    for flags in ((True, True), (True, False), (False, True)):
        constants = {**tile, "TOKEN": token, **dict(zip(("INPUT", "SCALE"), flags, strict=True))}
        stores[flags] = cross_compile(layer_norm_triton.backward_rows, types, constants, 90, warps).count("STG")
    assert 0 < stores[True, False] < stores[True, True] and 0 < stores[False, True] < stores[True, True]


def test_importing_the_operators_needs_no_triton() -> None:
    assert operators.conditional_layer_norm.__doc__  # the kernels themselves are imported when they are launched
