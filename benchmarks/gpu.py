"""Everything that only a GPU can tell, in eight minutes: python benchmarks/gpu.py --minutes 8 --out DIR

Ceilings of the card, tests of every kernel, every kernel against its peers, each chapter's code at SCALE = "gpu", a
step of each recipe, a picture. Most valuable first; every result is on the disk as soon as it is there, and the same
command goes on where it was stopped. It needs PyTorch, NumPy, SciPy, SymPy and scikit-learn; what else is missing is
named and left out. DIR gets a file for each group and `gpu.json`, which is kept in `benchmarks/results` as
`gpu-CARD.json` and shown on the results page. On a CPU, `--device cpu --tiny` tests that all of it runs.

To put a kernel on the list, write one function here, in the order of value, under the decorator of `_gpu.item`.
"""

# ruff: noqa: B023  what is made in a loop is called in the same turn of it

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _gpu import ROOT, Bench, Leave, item, main, missing, write

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Call = Callable[..., Any]


# What the items share. ---------------------------------------------------------------------------------------------


def error(out: Tensor, ref: Tensor) -> float:
    """||out - ref|| / ||ref|| of all numbers; NaN where something is NaN."""
    from _compare import errors

    return errors(out.flatten()[None, None], ref.flatten()[None, None]).item()


def median(times: Mapping[str, float]) -> float:
    return times["median_ms"]


KERNEL = "each number read and written once; the device's time alone"
CAPTURED = ", captured"  # what a row's name ends with: a replay of a CUDA graph, the device's time alone


def compared(
    bench: Bench,
    what: str,
    size: str,
    calls: dict[str, Call],
    dtype: str = "float32",
    uncaptured: Sequence[str] = (),
    **more: Any,
) -> list[Any]:
    """Time calls side by side, and keep the row; on a GPU a second row of the calls captured in CUDA graphs.

    From Python, a call of small kernels takes the time of the host, not theirs. `uncaptured` are those that read the
    device. `errors` are by name; the ratio is that to the first rival.
    """
    errors = more.pop("errors", {})
    graphs: dict[str, Call] = {}
    for name, call in calls.items() if bench.gpu and "ours" not in uncaptured else ():
        if name in uncaptured:
            continue
        try:
            graphs[name] = captured(bench, call)
        except RuntimeError as refused:
            bench.fact(f"{what}, {size}, {dtype}: {name} not captured", str(refused)[:200])
    rows = []
    for kind, these in (("", calls), (CAPTURED, graphs)):
        rival = next((name for name in these if name != "ours"), None)
        if rival is None or "ours" not in these:
            continue
        results = {name: {**times, "error": errors.get(name)} for name, times in bench.interleave(these).items()}
        ratio = median(results[rival]) / median(results["ours"])
        rows.append({"what": what + kind, "dtype": dtype, "size": size, "results": results, "ratio": ratio, **more})
        bench.row(rows[-1])
    return rows


def goal(bench: Bench, text: str, least: float, rows: Sequence[Any], rival: str | None = None, unit: str = "") -> str:
    """Keep whether every row's ratio is at least so much, called and captured apart; a tiny run judges nothing."""
    from _common import speed_claim

    if not rows:
        bench.claim(text, None, "nothing", "no size was reached")
        return ""
    inside = [row for row in rows if row["what"].endswith(CAPTURED) and (rival or "ours") in row["results"]]
    kinds = [("", [row for row in rows if not row["what"].endswith(CAPTURED)]), (", in a CUDA graph", inside)]
    said = []
    for kind, these in kinds:
        if these:
            words = ", called from Python" if inside and not kind else kind
            claim = speed_claim(text + words, least, these, rival=rival, unit=unit or "times as fast")
            judged = None if bench.tiny else claim["verdict"] == "holds"
            where = "tiny sizes: not judged" if bench.tiny else claim["where"]
            bench.claim(claim["claim"], judged, claim["measured"], where)
            said.append(claim["measured"] + kind)
    return "; ".join(said)


def share(bench: Bench, text: str, least: float, bytes_moved: float, row: Any, copy_rate: float, where: str) -> None:
    """Keep which share of the speed of a copy the necessary bytes move at."""
    found = bytes_moved / median(row["results"]["ours"]) * 1e3 / copy_rate
    judged = None if bench.tiny else found >= least
    rates = f"{100 * found:.1f} % of {copy_rate / 1e9:.0f} GB/s"
    bench.claim(text, judged, rates, "tiny sizes: not judged" if bench.tiny else where)


def repeated(bench: Bench, what: str, call: Callable[[], Sequence[Tensor]], times: int = 20) -> None:
    """What is promised to be deterministic has the same bits every time; other work in between shifts the timing."""
    import torch

    first = [t.clone() for t in call()]
    noise = torch.randn(64 if bench.tiny else 1024, 64, device=bench.device)
    differ = 0
    for k in range(2 if bench.tiny else times):
        if k % 3 == 0:
            noise = noise @ noise.mT @ noise / noise.square().sum()
        differ += not all(map(torch.equal, first, call()))
    bench.check(f"{what}: the same bits {times} times", differ == 0, f"{differ} runs differ")


def captured(bench: Bench, step: Callable[[], Any], *states: torch.Generator) -> Callable[[], Any]:
    """A CUDA graph of a step, after three steps to warm up; on a CPU the step itself.

    `states` are the random generators that it draws from. What the step returns is overwritten by every replay.
    """
    import torch

    if not bench.gpu:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for state in states:
        graph.register_generator_state(state)
    with torch.cuda.graph(graph):
        out = step()

    def replay() -> Any:
        graph.replay()
        return out

    return replay


def randn(bench: Bench, *shape: int, dtype: Any = None) -> Tensor:
    """The same normal numbers in every dtype, up to its rounding."""
    import torch

    return torch.randn(*shape, dtype=torch.float64, device=bench.device).to(dtype or torch.float32)


# (a) Ceilings. -----------------------------------------------------------------------------------------------------


@item("a", "copy bandwidth and launches", seconds=25)
def copies(bench: Bench) -> str:
    """Bytes a second of copies of several sizes, and what a launch costs: the two floors of every kernel here."""
    import torch

    rate = bench.copy_rate()
    bench.fact("copy of 512 MB, GB/s", rate / 1e9)
    for size in (2**12,) if bench.tiny else (2**20, 2**23, 2**25):
        source = torch.zeros(size, device=bench.device)
        target = torch.empty_like(source)
        ms = median(bench.interleave({"copy": lambda s=source, t=target: t.copy_(s)}, 5)["copy"])
        bench.fact(f"copy of {4 * size / 1e6:.0f} MB, GB/s", 2 * source.nbytes / ms / 1e6)
    x = torch.zeros(1, device=bench.device)

    def many() -> None:
        for _ in range(100):
            x.add_(1)

    eager = median(bench.interleave({"many": many}, 5)["many"])
    bench.fact("launch from Python, us", 10 * eager)
    if bench.gpu:
        bench.fact("launch in a graph, us", 10 * median(bench.interleave({"graph": captured(bench, many)}, 5)["graph"]))
    return f"{rate / 1e9:.0f} GB/s"


@item("a", "matrix rate for each dtype", seconds=25)
def matrix_rates(bench: Bench) -> str:
    """Operations a second of a large product. A card without bfloat16 or TF32 is not asked for either."""
    import torch

    n, found = 64 if bench.tiny else 8192, []
    kinds: list[tuple[str, Any]] = [("float32", torch.float32), ("float64", torch.float64)]
    kinds += [(str(dtype).removeprefix("torch."), dtype) for dtype in bench.halves]
    if bench.gpu and bench.capability >= (8, 0):
        kinds.append(("tf32", torch.float32))
    before = torch.get_float32_matmul_precision()
    for name, dtype in kinds:
        m = n if dtype in bench.halves or name == "tf32" else n // 4  # float64 is slow on most cards
        a, b = (randn(bench, m, m, dtype=dtype) for _ in range(2))
        try:
            torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
            ms = median(bench.interleave({"product": lambda a=a, b=b: a @ b}, 5)["product"])
        finally:
            torch.set_float32_matmul_precision(before)
        bench.fact(f"{name}, TFLOP/s", 2 * m**3 / ms / 1e9)
        found.append(f"{name} {2 * m**3 / ms / 1e9:.3g}")
    return ", ".join(found) + " TFLOP/s"


# (b) Tests of every kernel on the device. --------------------------------------------------------------------------


@item("b", "conditional layer norm: right, repeatable, registered, compiled", seconds=60, needs=["triton"], apart=True)
def layer_norm_checks(bench: Bench) -> str:
    """The Triton kernel, forward and backward, against the formula in float64."""
    import torch

    from gantext.kernels.layer_norm import conditional_layer_norm, conditional_layer_norm_ref

    tolerance = {torch.float32: 1e-5, torch.float64: 1e-13, torch.float16: 2e-3, torch.bfloat16: 1e-2}

    def run(f: Call, tensors: Sequence[Tensor], G: Tensor) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in tensors]
        y = f(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, G.to(y.dtype))]

    kernel = functools.partial(conditional_layer_norm, backend="triton")
    sizes = [(2, 5, 3), (1, 37, 16)]
    if not bench.tiny:
        sizes += [(3, 2, 100), (16, 512, 768), (4, 1024, 1030), (64, 1, 128), (2, 3, 8192), (512, 16, 33)]
    worst = 0.0
    for B, L, D in sizes:
        for dtype in (torch.float32, torch.float64, *bench.halves):
            if D > 4096 and dtype == torch.float64:
                continue  # the kernel's limit
            for token in (False, True):
                shape = (B, L, D) if token else (B, D)
                given = [randn(bench, *s, dtype=dtype) for s in ((B, L, D), shape, shape)]
                G = randn(bench, B, L, D, dtype=dtype)
                ref = run(conditional_layer_norm_ref, [t.double() for t in given], G.double())
                for name, out, want in zip(("y", "dx", "dgamma", "dbeta"), run(kernel, given, G), ref, strict=True):
                    found = error(out, want)
                    worst = max(worst, found / tolerance[dtype])
                    label = f"{name} of {B} x {L} x {D}, {dtype}, gamma by {'token' if token else 'sequence'}"
                    bench.check(label, found <= tolerance[dtype], f"{found:.1e}")
    B, L, D = sizes[1 if bench.tiny else 3]
    given, G = [randn(bench, *s) for s in ((B, L, D), (B, D), (B, D))], randn(bench, B, L, D)
    repeated(bench, "value and gradients", lambda: run(kernel, given, G))
    x, gamma, beta = (t.double().requires_grad_() for t in (given[0][:, :3, :5], given[1][:, :5], given[2][:, :5]))
    torch.library.opcheck(torch.ops.gantext.layer_norm, (x.detach().requires_grad_(), gamma, beta, 1e-5))
    mean, rstd = x.detach().mean(-1), x.detach().std(-1).reciprocal()
    torch.library.opcheck(torch.ops.gantext.layer_norm_backward, (x.detach(), x.detach(), gamma, mean, rstd, 1e-5))
    bench.check("opcheck", True)
    eager = run(kernel, given, G)
    for name, f in {"forced": kernel, "left to choose": conditional_layer_norm}.items():
        # a NumPy-interpreted kernel cannot be traced in its default mode on a tiny run; its operator can
        compiled = run(bench.compile(f, fullgraph=True), given, G)
        found = max(error(a, b.double()) for a, b in zip(compiled, eager, strict=True))
        bench.check(f"compiled, {name}: as eager", found < 1e-5, f"{found:.1e}")
    out = captured(bench, lambda: run(kernel, given, G))()
    bench.check("captured in a graph: the bits of eager", all(map(torch.equal, out, eager)))
    return f"worst error {worst:.2f} of its tolerance"


@item("b", "JoSE batch update: right, repeatable, registered, compiled", seconds=60, needs=["triton"], apart=True)
def sphere_checks(bench: Bench) -> str:
    """The Triton kernels against the reference in float64, on tuples drawn as a corpus draws them."""
    import torch
    from bench_sphere_kernel import draw

    from gantext.kernels.sphere import Batch, batch_update, batch_update_ref

    worst = 0.0
    sizes = [(30, 16, 40)] if bench.tiny else [(14_000, 100, 65_536), (200, 300, 30_000), (50, 64, 1)]
    for words, p, n in sizes:
        for dtype, tol in ((torch.float32, 2e-6), (torch.float64, 1e-13)):
            tables, indices = draw(words, p, n, bench.device)
            for mode in ("paper",) if bench.tiny else ("paper", "plain"):
                ours, exact = ([t.to(kind) for t in tables] for kind in (dtype, torch.float64))
                ours = [t.clone() for t in ours]
                loss = batch_update(Batch(ours[0], ours[1], ours[2], *indices), rate=0.04, mode=mode, backend="triton")
                exact = [t.to(dtype).double() for t in tables]
                want = batch_update_ref(Batch(exact[0], exact[1], exact[2], *indices), rate=0.04, mode=mode)
                found = max(error(a, b) for a, b in zip(ours, exact, strict=True))
                worst = max(worst, found / tol)
                bench.check(f"{words} words, p = {p}, {n} tuples, {dtype}, {mode}", found <= tol, f"{found:.1e}")
                bench.check("its loss", abs(loss.item() - want.item()) <= 1e-4 * abs(want.item()) + 1e-7)
    tables, indices = draw(*sizes[0], bench.device)

    def run() -> list[Tensor]:
        rows = [t.clone() for t in tables]
        return [*rows, batch_update(Batch(rows[0], rows[1], rows[2], *indices), rate=0.04, backend="triton")]

    repeated(bench, "tables and loss", run)
    few = [index[:12] for index in indices]
    small = [t[:64].double() if len(t) > 64 else t.double() for t in tables]
    few = [index % len(t) for index, t in zip(few, (small[0], small[0], small[1], small[2]), strict=True)]
    torch.library.opcheck(torch.ops.gantext.sphere_update, (*small, *few, 0.3, 0.15, "paper", None))
    bench.check("opcheck", True)
    update = lambda rows, rate: batch_update(Batch(rows[0], rows[1], rows[2], *indices), rate=rate, backend="triton")
    plain, traced = ([t.clone() for t in tables] for _ in range(2))
    a, b = update(plain, 0.04), bench.compile(update, fullgraph=True)(traced, 0.04)
    bench.check("compiled: the bits of eager", torch.equal(a, b) and all(map(torch.equal, plain, traced)))
    rows = [t.clone() for t in tables]
    replay = captured(bench, lambda: update(rows, 0.04))
    for row, t in zip(rows, tables, strict=True):
        row.copy_(t)  # capture's warm-up has moved them
    replay()
    bench.check("captured in a graph: the bits of eager", all(map(torch.equal, plain, rows)))
    return f"worst error {worst:.2f} of its tolerance"


@item("b", "matrix exponential: right, compiled, captured", seconds=40, apart=True)
def expm_checks(bench: Bench) -> str:
    """Value and gradient against the textbook series in float64; no worse than PyTorch's own."""
    import torch

    from gantext.matexp import expm as either
    from gantext.matexp import expm_ref

    expm = functools.partial(either, backend="reference")  # the kernel has an item of its own

    def run(f: Call, A: Tensor, G: Tensor) -> list[Tensor]:
        A = A.detach().requires_grad_()
        return [f(A).detach(), torch.autograd.grad(f(A), A, G)[0]]

    worst = 0.0
    for B, n in ((8, 3), (4, 16)) if bench.tiny else ((10_000, 4), (10_000, 8), (4096, 16), (256, 32), (64, 64)):
        A, G = randn(bench, B, n, n) * (1.5 / n**0.5), randn(bench, B, n, n)
        exact = run(expm_ref, A.double(), G.double())
        theirs = run(torch.linalg.matrix_exp, A, G)
        for name, out, rival, want in zip(("exp", "its gradient"), run(expm, A, G), theirs, exact, strict=True):
            ours, other = error(out, want), error(rival, want)
            worst = max(worst, ours / other)
            bench.check(f"{name}, {B} x {n} x {n}", ours <= 2 * other + 5e-7, f"{ours:.1e}, PyTorch {other:.1e}")
    whole = functools.partial(expm, squarings=4)
    A, G = randn(bench, 16, 4, 4), randn(bench, 16, 4, 4)
    eager, compiled = run(whole, A, G), run(bench.compile(whole, fullgraph=True), A, G)
    found = max(error(a, b.double()) for a, b in zip(compiled, eager, strict=True))
    bench.check("compiled: as eager", found < 1e-5, f"{found:.1e}")
    out = captured(bench, lambda: run(whole, A, G))()
    found = max(error(a, b.double()) for a, b in zip(out, eager, strict=True))
    bench.check("captured in a graph: as eager", found < 1e-6, f"{found:.1e}")
    return f"error at most {worst:.2f} of PyTorch's"


@item("b", "batched expm kernel: right, repeatable, registered, compiled", seconds=120, needs=["triton"], apart=True)
def expm_kernel_checks(bench: Bench) -> str:
    """The Triton kernel, value and gradient, against the series in float64, and on matrices that are hard."""
    import torch

    from gantext.kernels.expm_formula import THETA18, composed
    from gantext.matexp import expm, expm_ref

    def run(f: Call, A: Tensor, G: Tensor) -> list[Tensor]:
        A = A.detach().requires_grad_()
        y = f(A)
        return [y.detach(), torch.autograd.grad(y, A, G.to(y.dtype))[0]]

    kernel, worst = functools.partial(expm, backend="triton"), 0.0
    for B, n in ((5, 3),) if bench.tiny else ((10_000, 2), (10_000, 4), (10_001, 7), (4096, 8), (1000, 13), (4096, 16)):
        for dtype in (torch.float32, torch.float64):
            A, G = randn(bench, B, n, n, dtype=dtype) / n**0.5, randn(bench, B, n, n, dtype=dtype)
            A = A * torch.logspace(-3, 1, B, dtype=dtype, device=bench.device)[:, None, None]
            for name, given in {"contiguous": A, "transposed": A.mT}.items():
                plain = run(functools.partial(expm, backend="reference"), given, G)
                exact = run(lambda A: composed(A, None, THETA18[torch.float64]), given.double(), G.double())
                for what, out, rival, want in zip(
                    ("exp", "its gradient"), run(kernel, given, G), plain, exact, strict=True
                ):
                    ours, other = error(out, want), error(rival, want)
                    # exp changes by at least ||A|| times as much as A, relative to its norm: no rounding is smaller
                    least = torch.finfo(dtype).eps * max(4.0, given.abs().sum(-2).max().item())
                    worst = max(worst, ours / max(other, least))
                    label = f"{what}, {B} x {n} x {n}, {dtype}, {name}"
                    bench.check(label, ours <= 4 * max(other, least), f"{ours:.1e}, plain {other:.1e}")
    B = 4 if bench.tiny else 2000
    for n in (3,) if bench.tiny else (17, 32):  # float32 alone
        A, G = randn(bench, B, n, n) / n**0.5, randn(bench, B, n, n)
        for what, out, want in zip(
            ("exp", "its gradient"), run(kernel, A, G), run(expm_ref, A.double(), G.double()), strict=True
        ):
            bench.check(f"{what}, {B} x {n} x {n}, float32", error(out, want) < 5e-6, f"{error(out, want):.1e}")
    for dtype in bench.halves:
        A = randn(bench, B, 4, 4, dtype=dtype)
        bench.check(f"{dtype}: float32, rounded once", torch.equal(kernel(A), kernel(A.float()).to(dtype)))
    for name, rows in {
        "overscaled": [[1, 1e8], [0, -1]],
        "stable Jordan": [[-9, 1], [0, -9]],
        "top of the range": [[0, 1e38], [0, 0]],
        "turn": [[0, -40], [40, 0]],
    }.items():
        A = torch.tensor([rows], dtype=torch.float32, device=bench.device)
        found = error(kernel(A).double() / A.max(), composed(A.double(), None, THETA18[torch.float64]) / A.max())
        bench.check(name, found < 1e-4, f"{found:.1e}")
    A, G = randn(bench, B, 4, 4), randn(bench, B, 4, 4)
    A[1, 2, 1] = math.nan
    spoiled = kernel(A).isnan().flatten(1)
    bench.check("a bad matrix spoils itself alone", bool(spoiled[1].all()) and int(spoiled.any(1).sum()) == 1)
    bench.check("an empty batch", kernel(A[:0]).shape == (0, 4, 4))
    A = randn(bench, B, 4, 4)
    repeated(bench, "value and gradient", lambda: run(kernel, A, G))
    few = A[:2].double()
    torch.library.opcheck(torch.ops.gantext.expm, (few.requires_grad_(), None, THETA18[torch.float64]))
    _, means, counts = torch.ops.gantext.expm(few.detach(), None, THETA18[torch.float64])
    given = (few.detach(), few.detach(), means, counts, THETA18[torch.float64])
    torch.library.opcheck(torch.ops.gantext.expm_adjoint, given)
    bench.check("opcheck", True)
    eager, compiled = run(kernel, A, G), run(bench.compile(kernel, fullgraph=True), A, G)
    bench.check("compiled: the bits of eager", all(map(torch.equal, compiled, eager)))
    out = captured(bench, lambda: run(kernel, A, G))()  # squarings not given: nothing is read back
    bench.check("captured in a graph: the bits of eager", all(map(torch.equal, out, eager)))
    return f"error at most {worst:.2f} of plain PyTorch's"


@item("b", "prefix-LM attention, exact penalty, cascade: right", seconds=40, apart=True)
def plain_checks(bench: Bench) -> str:
    """What is fast by its formula, not by a kernel of ours, against the plain formula in float64."""
    import torch
    from bench_penalty import convolutional, dense, gradient, ours_shared

    from gantext.gan.cascades import cascade_directions, cascade_ref
    from gantext.gan.objectives import WASSERSTEIN, gradient_penalty
    from gantext.seq2seq.prefixlm import Layout, attention_ref

    B, H, S, D = (2, 2, 12, 8) if bench.tiny else (4, 8, 512, 64)
    q, k, v, G = (randn(bench, B, H, S, D) for _ in range(4))
    for prefix in (S // 2, torch.linspace(S // 2, S - 1, B).long().tolist()):
        for backend in ("two-call", "mask"):
            leaves = [t.clone().requires_grad_() for t in (q, k, v)]
            y = Layout(prefix, B, S, device=bench.device, backend=backend)(*leaves)
            out = [y, *torch.autograd.grad(y, leaves, G)]
            wide = [t.double().requires_grad_() for t in (q, k, v)]
            want = attention_ref(wide[0], wide[1], wide[2], prefix)
            wants = [want, *torch.autograd.grad(want, wide, G.double())]
            found = max(error(a, b) for a, b in zip(out, wants, strict=True))
            bench.check(f"attention, prefix {prefix}, {backend}", found < 5e-5, f"{found:.1e}")

    def plain(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
        loss = WASSERSTEIN.critic_loss(critic(real), critic(fake))
        return loss + 2.0 * gradient_penalty(critic, torch.cat([real, fake]), centre=0.0, power=6.0)

    torch.backends.cudnn.allow_tf32, before = False, torch.backends.cudnn.allow_tf32
    try:
        for name, build, shape in (
            ("dense", lambda: dense(64, 128, 64, 1), (64,)),
            ("conv", lambda: convolutional(32), (3, 32, 32)),
        ):
            critic = build().to(bench.device)
            batch = tuple(randn(bench, 4 if bench.tiny else 64, *shape) for _ in range(3))
            want = gradient(plain, copy.deepcopy(critic).double(), tuple(t.double() for t in batch))
            found = error(gradient(ours_shared, critic, batch), want)
            bench.check(f"gradient of the exact penalty, {name}", found < 1e-4, f"{found:.1e}")
    finally:
        torch.backends.cudnn.allow_tf32 = before
    for orthogonal in (False, True):
        x, W = randn(bench, 64, 512), randn(bench, 4, 512) / 512**0.5
        found = error(x @ cascade_directions(W, orthogonal).mT, cascade_ref(x.double(), W.double(), orthogonal))
        bench.check(f"cascade, orthogonal {orthogonal}", found < 1e-5, f"{found:.1e}")
    return ""


# (c) Every kernel against its peers: goals as in the issue that asked for them, none moved to be met. --------------


@item(
    "c", "conditional layer norm against torch.compile", seconds=75, needs=["triton"], chapter="conditional-layer-norm"
)
def layer_norm_peers(bench: Bench) -> str:
    """Forward; backward alone, from saved statistics, as a compiled graph has it; both through autograd."""
    import torch
    from bench_condnorm import two_calls

    from gantext.kernels.layer_norm import conditional_layer_norm, conditional_layer_norm_ref

    def formula(grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The backward formula from saved statistics, computed in float32 as the kernel does."""
        g, v = grad.float(), (x.float() - mean[..., None]) * rstd[..., None]
        t = g * gamma.float()[:, None]
        dx = (t - t.mean(-1, keepdim=True) - v * (t * v).mean(-1, keepdim=True)) * rstd[..., None]
        return dx.to(x.dtype), (g * v).sum(1).to(gamma.dtype), g.sum(1).to(gamma.dtype)

    def both(f: Call, tensors: Sequence[Tensor], G: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(f(*tensors), tensors, G))

    half = bench.halves[-1]
    jobs: list[tuple[tuple[int, int, int], Any]] = [((2, 3, 16), torch.float32)]
    if not bench.tiny:
        jobs = [
            ((64, 512, 768), torch.float32),
            ((64, 512, 768), half),
            ((32, 1024, 1024), half),
            ((16, 256, 512), torch.float32),
        ]
    forward, backward = [], []
    for (B, L, D), dtype in jobs:
        if bench.left < 12 and backward:
            break
        name, size = str(dtype).removeprefix("torch."), f"{B} x {L} x {D}"
        x, gamma, beta, G = (randn(bench, *s, dtype=dtype) for s in ((B, L, D), (B, D), (B, D), (B, L, D)))
        rate = bench.copy_rate()
        textbook = bench.compile(conditional_layer_norm_ref, fullgraph=True, dynamic=False)
        kernel = functools.partial(conditional_layer_norm, backend="triton")
        calls: dict[str, Call] = {
            "ours": lambda: kernel(x, gamma, beta),
            "torch.compile": lambda: textbook(x, gamma, beta),
            "layer_norm and addcmul": lambda: two_calls(x, gamma, beta),
            "textbook": lambda: conditional_layer_norm_ref(x, gamma, beta),
        }
        with torch.no_grad():
            rows = compared(bench, "conditional layer norm, forward", size, calls, name)
        forward += rows
        large = x.nbytes > 2**25
        if large or bench.tiny:
            share(bench, f"forward, {size}, {name}: at least 70 % of copy", 0.7, 2 * x.nbytes, rows[-1], rate, KERNEL)
        mean, rstd = x.float().mean(-1), (x.float().var(-1, correction=0) + 1e-5).rsqrt()
        compiled = bench.compile(formula, fullgraph=True, dynamic=False)
        op = torch.ops.gantext.layer_norm_backward
        exact = formula(*(t.double().float() for t in (G, x, gamma, mean, rstd)))
        ours, theirs = op(G, x, gamma, mean, rstd, 1e-5), compiled(G, x, gamma, mean, rstd)
        worst = lambda out: max(error(a, b.double()) for a, b in zip(out, exact, strict=True))
        calls = {
            "ours": lambda: op(G, x, gamma, mean, rstd, 1e-5),
            "torch.compile": lambda: compiled(G, x, gamma, mean, rstd),
            "textbook": lambda: formula(G, x, gamma, mean, rstd),
        }
        errors = {"ours": worst(ours), "torch.compile": worst(theirs)}
        rows = compared(bench, "conditional layer norm, backward alone", size, calls, name, errors=errors)
        backward += rows
        if large or bench.tiny:
            words = f"backward, {size}, {name}: at least 70 % of copy"
            share(bench, words, 0.7, 3 * x.nbytes, rows[-1], rate, KERNEL)
        tensors = [t.detach().requires_grad_() for t in (x, gamma, beta)]
        calls = {
            "ours": lambda: both(kernel, tensors, G),
            "torch.compile": lambda: both(textbook, tensors, G),
            "layer_norm and addcmul": lambda: both(two_calls, tensors, G),
        }
        compared(bench, "conditional layer norm, forward and backward", size, calls, name)
        bench.free()
    found = goal(bench, "backward at least 1.3x torch.compile, B > 1", 1.3, backward)
    goal(bench, "forward at least 0.95x torch.compile", 0.95, forward)
    return f"backward {found}"


@item("c", "JoSE batch update against index_add_", seconds=45, needs=["triton"], chapter="jose")
def sphere_peers(bench: Bench) -> str:
    """Against the compiled dense route, and the share of a copy's speed at which the necessary bytes move."""
    import torch
    from bench_sphere_kernel import COMPILED, PLAIN, dense, draw

    from gantext.kernels.sphere import Batch, batch_update

    rows = []
    sizes = [(40, 8, 50)] if bench.tiny else [(14_000, 100, 65_536), (14_000, 300, 65_536), (200_000, 100, 65_536)]
    for words, p, n in sizes:
        if bench.left < 8 and rows:
            break
        tables, indices = draw(words, p, n, bench.device)
        rate, compiled = bench.copy_rate(), bench.compile(dense)
        calls: dict[str, Call] = {  # at a rate at which no bit changes: else the hinges fall silent as the clock runs
            "ours": lambda: batch_update(
                Batch(tables[0], tables[1], tables[2], *indices), rate=1e-12, backend="triton"
            ),
            COMPILED: lambda: compiled(tables, indices, 1e-12),
            PLAIN: lambda: dense(tables, indices, 1e-12),
        }
        size = f"{words} words, p = {p}, {n} tuples"
        found = compared(bench, "update of three tables", size, calls)
        rows += found
        touched = sum(len(torch.cat(i).unique()) for i in (indices[:2], indices[2:3], indices[3:]))
        moved = tables[0].element_size() * p * (4 * n + 2 * touched)
        where = "each tuple's rows, rows that change; the device's time alone"
        share(bench, f"at least 30 % of copy, {size}", 0.3, moved, found[-1], rate, where)
        for row in found:
            bench.fact(f"tuples a second, {row['what']}, {size}", n / median(row["results"]["ours"]) * 1e3)
    return goal(bench, "JoSE batch update at least 2x compiled index_add_", 2.0, rows)


@item("c", "JoSE: words a second against the CPU", seconds=75, needs=["triton", "numba"], chapter="jose")
def jose_words(bench: Bench) -> str:
    """Training on the docstrings, one thread of this machine's CPU beside the device."""
    import torch

    from gantext import docstrings
    from gantext.sphere import training
    from gantext.sphere.jose import JoSE
    from gantext.sphere.vocabulary import read

    text = docstrings.topics(2 if bench.tiny else 150)[0]
    text = text[:4] if bench.tiny else text * 4
    words, counts, tokens = read("gpu", text, 1 if bench.tiny else 5)
    size = sum(map(len, text))

    def train(device: str, part: Any) -> tuple[float, Any]:
        model = JoSE(8 if bench.tiny else 100, device=device, epochs=1)
        settings = training.Settings.of(model.get_params())
        state = training.begin(len(words), len(part.lengths), settings, torch.device(device))
        began = time.perf_counter()
        training.train(state, part, counts, settings, backend=None, progress=False, each_epoch=lambda: None)
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - began, state

    rates = {}
    for device in dict.fromkeys(("cpu", str(bench.device))):
        train(device, tokens)  # compiles
        rates[device] = size / min(train(device, tokens)[0] for _ in range(1 if bench.tiny else 2))
        bench.fact(f"words of text a second, {device}", rates[device])
    whole = train(str(bench.device), tokens)[1]
    with mock.patch.object(training, "RECORDED", 0):
        seconds, launched = train(str(bench.device), tokens)
    bench.fact("words of text a second, batches launched one by one", size / seconds)
    ratio = rates[str(bench.device)] / rates["cpu"]
    judged = ratio >= 10 if bench.gpu else None
    bench.claim(
        "JoSE on the GPU at least 10x the words a second of one CPU thread",
        judged,
        f"{ratio:.1f} times",
        f"{size} words of text",
    )
    same = all(map(torch.equal, (whole.U, whole.V, whole.D), (launched.U, launched.V, launched.D)))
    bench.check("recorded batches leave the bits of launched ones", same)
    return f"{rates[str(bench.device)]:.3g} words/s, {ratio:.1f} times one CPU thread"


def expm_compared(
    bench: Bench, sizes: Sequence[tuple[int, int]], routes: Mapping[str, Call], uncaptured: Sequence[str]
) -> list[Any]:
    """Rows of the routes at so many matrices of such an order, forward, and forward with backward; float32."""
    import torch

    from gantext.matexp import expm_ref

    def both(f: Call, A: Tensor, G: Tensor) -> Tensor:
        A = A.detach().requires_grad_()
        return torch.autograd.grad(f(A), A, G)[0]

    rows, worst = [], 0.0
    for B, n in sizes:
        if bench.left < 8 and rows:
            break
        A, G = randn(bench, B, n, n) / n**0.5, randn(bench, B, n, n)
        exact = expm_ref(A.double()), both(expm_ref, A.double(), G.double())
        for what, run, want in (("forward", lambda f, A, G: f(A), exact[0]), ("forward and backward", both, exact[1])):
            calls = {name: functools.partial(run, f, A, G) for name, f in routes.items()}
            errors = {name: error(call(), want) for name, call in calls.items()}
            worst = max(worst, errors["ours"] / errors["torch"])
            size = f"{B} x {n} x {n}"
            rows += compared(bench, f"expm, {what}", size, calls, uncaptured=uncaptured, errors=errors)
            for name in routes if bench.gpu else ():  # PyTorch's own reads the device, so there is no rival in a graph
                if name not in uncaptured:
                    graph = captured(bench, calls[name])
                    bench.fact(f"expm, {what}, {size}, {name}{CAPTURED}, ms", median(bench.interleave({"": graph})[""]))
    judged, where = None if bench.tiny else worst <= 1.2, "float32, mean of each size"
    bench.claim("expm: error at most 1.2 of PyTorch's", judged, f"at most {worst:.2f}", where)
    return rows


@item("c", "batched expm kernel against torch.linalg.matrix_exp", seconds=50, needs=["triton"], chapter="det-exp")
def expm_peers(bench: Bench) -> str:
    """10,000 small matrices. Where this goal is missed, the kernel goes."""
    import torch

    from gantext.matexp import expm

    routes: dict[str, Call] = {
        "ours": functools.partial(expm, backend="triton"),
        "torch": torch.linalg.matrix_exp,
        "plain PyTorch": functools.partial(expm, backend="reference"),
    }
    sizes = [(6, 4)] if bench.tiny else [(10_000, n) for n in (4, 8, 16, 32)]
    rows = expm_compared(bench, sizes, routes, ["torch", "plain PyTorch"])
    return goal(bench, "expm kernel at least 5x torch.linalg.matrix_exp at 10^4 matrices, n = 4 to 32", 5.0, rows)


@item("c", "expm of large matrices against torch.linalg.matrix_exp", seconds=30, chapter="det-exp")
def large_expm_peers(bench: Bench) -> str:
    """Plain PyTorch, from n = 64."""
    import torch

    from gantext.matexp import expm

    routes: dict[str, Call] = {
        "ours": expm,
        "torch": torch.linalg.matrix_exp,
        "squarings given": functools.partial(expm, squarings=4),
    }
    sizes = [(2, 64)] if bench.tiny else [(256, 64), (64, 128), (16, 512)]
    rows = expm_compared(bench, sizes, routes, ["ours", "torch"])
    return goal(bench, "expm at least 1.5x torch.linalg.matrix_exp, n >= 64", 1.5, rows)


@item("c", "prefix-LM attention against the dense mask and FlexAttention", seconds=50, chapter="prefix-lm")
def attention_peers(bench: Bench) -> str:
    """Two calls of PyTorch's attention, forward and with backward, in half precision and in float32."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from gantext.seq2seq.prefixlm import Layout, attention_ref, mask

    def both(f: Call, tensors: Sequence[Tensor], G: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(f(*tensors), tensors, G))

    dense_rows, flex_rows = [], []
    jobs = [(1, 2, 16, 8, 8)] if bench.tiny else [(8, 12, 1024, 512, 64), (16, 12, 512, 384, 64)]
    for (B, H, S, P, D), dtype in ((job, dtype) for job in jobs for dtype in (bench.halves[-1], torch.float32)):
        q, k, v, G = (randn(bench, B, H, S, D, dtype=dtype) for _ in range(4))
        name, size = str(dtype).removeprefix("torch."), f"{B} x {H} x {S} x {D}, P = {P}"
        seen = mask(P, S).to(bench.device)
        routes: dict[str, Call] = {
            "ours": Layout(P, B, S, device=bench.device, backend="two-call"),
            "dense mask": lambda q, k, v, seen=seen: scaled_dot_product_attention(q, k, v, attn_mask=seen),
        }
        if bench.gpu and bench.capability >= (8, 0) and bench.left > 15:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention

            blocks = create_block_mask(lambda b, h, i, j, P=P: (j < P) | (j <= i), None, None, S, S, device="cuda")
            flex = torch.compile(flex_attention, dynamic=False)
            routes["FlexAttention"] = lambda q, k, v, flex=flex, blocks=blocks: flex(q, k, v, block_mask=blocks)
        want = attention_ref(q[:1].double(), k[:1].double(), v[:1].double(), P)
        errors = {route: error(f(q, k, v)[:1], want) for route, f in routes.items()}
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        forward = {route: functools.partial(f, q, k, v) for route, f in routes.items()}
        backward = {route: functools.partial(both, f, leaves, G) for route, f in routes.items()}
        with torch.no_grad():
            rows = compared(bench, "prefix-LM attention, forward", size, forward, name, errors=errors)
        rows += compared(bench, "prefix-LM attention, forward and backward", size, backward, name)
        dense_rows += rows
        flex_rows += [row for row in rows if "FlexAttention" in row["results"]]
    if flex_rows:
        goal(bench, "two calls at least 1.0x compiled FlexAttention", 1.0, flex_rows, "FlexAttention")
    else:
        bench.claim(
            "two calls at least 1.0x compiled FlexAttention",
            None,
            "nothing",
            "not here: it needs a GPU of compute capability 8.0",
        )
    return goal(bench, "two calls at least 1.5x the dense mask", 1.5, dense_rows)


@item(
    "c",
    "constrained beams against transformers.generate",
    seconds=60,
    needs=["transformers"],
    chapter="reading-comprehension",
)
def beam_peers(bench: Bench) -> str:
    """The same model, the same answers, in a batch and for one question alone, beams and greedy."""
    from bench_generate import compare

    rows = []
    sizes = (
        [(1, 24, 2, 16, 1, 40)]
        if bench.tiny
        else [(16, 320, 4, 128, 3, 4005), (1, 320, 4, 128, 3, 4005), (16, 320, 1, 128, 3, 4005)]
    )
    for size in sizes:
        if bench.left < 8 and rows:
            break
        row = compare(*size, bench.device, 2 if bench.tiny else 5)
        bench.row(row)
        rows.append(row)
    same, asked = sum(r["same"] for r in rows), sum(r["questions"] for r in rows)
    bench.claim("beams: the same answers", same == asked, f"{same} of {asked} equal")
    beams = [r for r in rows if "beams" in r["what"]]
    return goal(
        bench,
        "constrained beams at least 5x transformers.generate, in batches and alone",
        5.0,
        beams,
        unit="times the questions a second",
    )


def critic_step(bench: Bench, critic: nn.Module, shape: tuple[int, ...], B: int, steps: int) -> Any:
    """One step of WGAN-GP's critic on batches drawn beforehand: (step, load a batch, start anew)."""
    import torch

    from gantext.gan.objectives import WASSERSTEIN, gradient_penalty

    rng = torch.Generator(bench.device).manual_seed(0)
    draw = lambda: torch.randn(B, *shape, generator=rng, device=bench.device)
    batches = [
        (draw(), draw() * 0.5, torch.rand(B, *[1] * len(shape), generator=rng, device=bench.device))
        for _ in range(steps)
    ]
    held = [t.clone() for t in batches[0]]
    first = [p.detach().clone() for p in critic.parameters()]
    adam = torch.optim.Adam(critic.parameters(), 1e-4, betas=(0.5, 0.9), capturable=bench.gpu)

    def step() -> Tensor:
        real, fake, between = held
        adam.zero_grad()
        loss = WASSERSTEIN.critic_loss(critic(real).flatten(), critic(fake).flatten())
        loss = loss + 10 * gradient_penalty(critic, torch.lerp(real, fake, between), centre=1.0)
        loss.backward()
        adam.step()
        return loss.detach()

    def load(k: int) -> None:
        for place, t in zip(held, batches[k % steps], strict=True):
            place.copy_(t)

    def anew() -> None:
        """In place: a graph has the addresses."""
        with torch.no_grad():
            for p, start in zip(critic.parameters(), first, strict=True):
                p.copy_(start)
        for state in adam.state.values():
            for value in state.values():
                value.zero_()

    return step, load, anew


@item("c", "critic step with penalty: a CUDA graph against eager", seconds=40, chapter="wasserstein")
def graph_peers(bench: Bench) -> str:
    """A whole step, double backward and Adam included; and the same losses for a hundred steps."""
    from bench_penalty import convolutional

    rows, gaps, steps = [], [], 3 if bench.tiny else 100
    for side, B in ((8, 2),) if bench.tiny else ((32, 64), (64, 64)):
        critics = [convolutional(side).to(bench.device)]
        critics.append(copy.deepcopy(critics[0]))
        eager, load, anew = critic_step(bench, critics[0], (3, side, side), B, steps)
        step, load2, anew2 = critic_step(bench, critics[1], (3, side, side), B, steps)
        replay = captured(bench, step)
        losses: list[list[Tensor]] = []
        for run, bring, start in ((eager, load, anew), (replay, load2, anew2)):
            start()
            found = []
            for k in range(steps):
                bring(k)
                found.append(run().clone())
            losses.append(found)
        a, b = ([loss.item() for loss in found] for found in losses)
        gaps.append(max(abs(x - y) / max(1.0, abs(x)) for x, y in zip(a, b, strict=True)))
        size = f"3 x {side} x {side}, B = {B}"
        calls = {"ours": replay, "eager": eager}
        rows += compared(bench, "critic step with penalty, its graph", size, calls, uncaptured=list(calls))
    bench.claim(
        f"captured: the same losses to 1e-3 over {steps} steps",
        max(gaps) <= 1e-3,
        f"at most {max(gaps):.1e} apart",
        "relative to max(1, |loss|)",
    )
    if not bench.gpu:
        bench.claim("a captured critic step at least 2x eager", None, "nothing", "a graph needs a GPU")
        return ""
    return goal(bench, "a captured critic step at least 2x eager", 2.0, rows)


@item("c", "exact penalty against double backward", seconds=40, chapter="w-divergence")
def penalty_peers(bench: Bench) -> str:
    """By tangents; dense and convolutional LeakyReLU critics; a whole loss and its gradient."""
    import torch
    from bench_penalty import AT_SAMPLES, INTERPOLATES, SAMPLES, convolutional, dense, gradient

    from gantext.gan.objectives import interpolate

    rows: list[Any] = []
    jobs: list[tuple[str, Call, tuple[int, ...], int]] = [("16-8-1", lambda: dense(16, 8, 1), (16,), 4)]
    if not bench.tiny:
        jobs = [
            ("784-512-256-1", lambda: dense(784, 512, 256, 1), (784,), 256),
            ("conv, 3 x 32 x 32", lambda: convolutional(32), (3, 32, 32), 64),
            ("conv, 3 x 64 x 64", lambda: convolutional(64), (3, 64, 64), 64),
        ]
    for name, build, shape, n in jobs:
        critic = build().to(bench.device)
        real, fake = randn(bench, n, *shape), randn(bench, n, *shape) * 0.5
        batch = real, fake, interpolate(real, fake)
        for what, losses in ((AT_SAMPLES, SAMPLES), ("step, penalty on interpolates", INTERPOLATES)):
            calls = {key: functools.partial(gradient, loss, critic, batch) for key, loss in losses.items()}
            ordered = {"ours": calls.pop("ours"), "double backward": calls.pop("double backward"), **calls}
            rows += compared(bench, what, f"{name}, B = {n}", ordered)
    torch.set_grad_enabled(True)
    on_samples = [r for r in rows if r["what"].startswith(AT_SAMPLES)]
    goal(
        bench,
        "on samples also 1.3x double backward with a shared forward pass",
        1.3,
        on_samples,
        "double backward, shared forward",
    )
    goal(bench, "on interpolates at least 1.3x double backward", 1.3, [r for r in rows if r not in on_samples])
    return goal(bench, "exact penalty on samples at least 1.3x eager double backward", 1.3, on_samples)


@item("c", "cascade head against the literal loop", seconds=25, chapter="cascading-rejection")
def cascade_peers(bench: Bench) -> str:
    """Forward and backward, both forms."""
    from bench_orthogonal import LITERAL, gradients
    from torch.nn.functional import linear

    from gantext.gan.cascades import cascade_directions, cascade_ref

    rows: list[Any] = []
    for N, d, K in ((8, 16, 2),) if bench.tiny else ((256, 2048, 4), (1024, 2048, 4), (1024, 512, 8)):
        inputs, G = [randn(bench, N, d), randn(bench, K, d) / d**0.5], randn(bench, N, K)
        for orthogonal in (False, True):
            forms: dict[str, Call] = {
                "ours": lambda v, W: v @ cascade_directions(W, orthogonal).mT,
                LITERAL: lambda v, W: cascade_ref(v, W, orthogonal),
                "linear": linear,
            }
            exact = gradients(forms[LITERAL], [t.double() for t in inputs], G.double())
            calls = {name: functools.partial(gradients, f, inputs, G) for name, f in forms.items()}
            errors = {name: error(call(), exact) for name, call in calls.items() if name != "linear"}
            what = f"{'Gram-Schmidt' if orthogonal else 'cascade'}, forward and backward"
            rows += compared(bench, what, f"{N} x {d}, K = {K}", calls, errors=errors)
    return goal(bench, "cascade head at least 3x the literal loop, forward and backward", 3.0, rows, LITERAL)


# (b), (d) What is not timed, side by side. -------------------------------------------------------------------------


@item("b", "tests/kernels on this device", seconds=150, needs=["pytest", "triton"], apart=True)
def kernel_tests(bench: Bench) -> str:
    """The tests of the repository that launch a kernel, compiled for this card."""
    import torch

    before = {"TRITON_INTERPRET": "1"} if not bench.gpu else {}
    chosen = ["tests/kernels/test_layer_norm_kernel.py", "-k", "empty_and_single"] if bench.tiny else ["tests/kernels"]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=--strict-markers", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:benchmark"]  # a plugin that would rather end the run than be one of several processes
    command += ["--tb=short", *chosen, *([] if bench.tiny else ["-m", "kernel"])]
    if not bench.tiny and not missing(["xdist"]):
        command += ["--numprocesses", str(max(1, min(8, (os.cpu_count() or 1) // 2)))]  # most of it is compiling
    torch.cuda.empty_cache()
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | before
    try:
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=max(5, bench.left - 5)
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        bench.fact("tail", (said if isinstance(said, str) else said.decode(errors="replace"))[-3000:])
        raise
    last = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ran.stderr[-300:]
    for line in ran.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            place, _, test = line.partition(" ")[2].split(" - ")[0].partition("::")
            bench.fact(f"failed: {test[:100]}", Path(place).name)
    bench.fact("tail", ran.stdout[-3000:] if ran.returncode else last)
    assert ran.returncode == 0, last
    return last.strip("= ")


CHAPTERS = (
    "gan-comparison",
    "o-gan",
    "cascading-rejection",
    "w-divergence",
    "gan-qp",
    "wasserstein",
    "jose",
    "conditional-layer-norm",
    "reading-comprehension",
    "prefix-lm",
    "det-exp",
)
DRAWING = ("matplotlib", "IPython", "gensim", "ot")  # there are stand-ins for these


def chapter(name: str, bench: Bench) -> str:
    """The code of a chapter at SCALE = "gpu", cut to a few steps; what raises is named with its line."""
    from _gpu_chapters import run

    path, absent = ROOT / "notebooks" / f"{name}.md", missing(DRAWING)
    if not path.exists():
        raise Leave("no such chapter")
    kept: list[str] = []

    def tell(record: dict[str, Any]) -> None:
        if record["kind"] == "failed":
            kept.append(record["error"][-1500:])
            bench.fact(f"line {record['line']}", record["error"][-1500:])

    with contextlib.redirect_stdout(None):
        found = run(path, tell, lambda: bench.left - 3, absent)
    for key in ("failed", "follows", "cut", "left out", "stand-ins"):
        if found[key]:
            bench.fact(key, "; ".join(found[key])[:3000])
    words = f"{found['run']} of {found['cells']} cells, {len(found['cut'])} assertions on cut runs"
    words += f", without {', '.join(absent)}" if absent else ""
    done = found["run"] + sum("summary" in line for line in found["left out"])
    assert done == found["cells"] or bench.tiny, f"only {words} in the time"
    assert found["run"], "no cell was run"
    assert not found["failed"], f"{words}, {len(found['failed'])} failed: {found['failed'][0]}"
    return words


for _name in CHAPTERS:
    item(
        "d",
        f"chapter {_name} at SCALE = gpu",
        seconds=120,
        tiny=120,
        needs=["sympy", "mpmath", "sklearn"],
        apart=True,
        name=f"chapter-{_name}",
    )(functools.partial(chapter, _name))


# (e) A step of each recipe. ----------------------------------------------------------------------------------------


def decoder(side: int, latent: int = 64) -> nn.Module:
    """From codes to 3 x side x side images, the mirror of `bench_penalty.convolutional`; no batch norm."""
    from torch import nn

    small = side // 8
    layers: list[nn.Module] = [nn.Linear(latent, 128 * small**2), nn.ReLU(), nn.Unflatten(1, (128, small, small))]
    for before, after in ((128, 64), (64, 32), (32, 3)):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Tanh())


def recipes() -> Mapping[str, Any]:
    """The games whose steps are timed."""
    from gantext.gan import methods
    from gantext.gan.objectives import HINGE, NON_SATURATING

    return {
        "non-saturating": methods.game(NON_SATURATING),
        "hinge": methods.game(HINGE),
        "WGAN-GP": methods.wgan_gp(),
        "WGAN-div on samples": methods.wgan_div(at="samples"),
        "GAN-QP": methods.qp(),
    }


def gan_step(played: Any, side: int, B: int, device: torch.device, **adam: Any) -> tuple[Callable[[], Tensor], Any]:
    """A step of both players, each one of Adam, on images of so many pixels, 0: of the digits; and its generator."""
    import torch
    from bench_penalty import convolutional

    from gantext.gan import methods, networks

    torch.manual_seed(0)
    if side:
        players, latent, shape = (convolutional(side), decoder(side)), 64, (3, side, side)
    else:
        players, latent, shape = (networks.critic((64,)), networks.generator((64,))), 16, (64,)
    critic, generator = (player.to(device) for player in players)
    adams = [torch.optim.Adam(net.parameters(), 1e-4, betas=(0.5, 0.9), **adam) for net in (critic, generator)]
    rng, real = torch.Generator(device).manual_seed(0), torch.randn(B, *shape, device=device)

    def step() -> Tensor:
        value = real.new_zeros(())
        for optimizer, loss in zip(adams, (played.critic_loss, played.generator_loss), strict=True):
            z = torch.randn(B, latent, device=device, generator=rng)
            fake = generator(z)
            training = loss is played.critic_loss
            optimizer.zero_grad()
            value = loss(critic, methods.Batch(real, fake.detach() if training else fake, z, rng))
            value.backward()
            optimizer.step()
        return value.detach()

    return step, rng


def sized(side: int, B: int) -> str:
    """The size of such a step, in a row's words."""
    return f"{f'3x{side}x{side}' if side else 64}, B = {B}"


@item("e", "a step of each GAN recipe, eager and captured", seconds=60, chapter="gan-comparison")
def gan_steps(bench: Bench) -> str:
    """Critic and generator, each one step of Adam: images a second, peak of memory."""
    import torch

    sides = [(0, 4)] if bench.tiny else [(64, 128), (32, 128), (0, 128)]  # 0: the dense networks of the digits
    best = 0.0
    for side, B in sides:
        for name, played in recipes().items():
            if bench.left < 4:
                return f"up to {best:.3g} images/s; not all were reached"
            step, rng = gan_step(played, side, B, bench.device, capturable=bench.gpu)
            if bench.gpu:
                torch.cuda.reset_peak_memory_stats()
            calls: dict[str, Call] = {"eager": step}
            step()
            peak = torch.cuda.max_memory_allocated() / 1e6 if bench.gpu else 0.0
            try:
                calls = {"ours": captured(bench, step, *([rng] if bench.gpu else [])), **calls}
            except RuntimeError as refused:
                bench.fact(f"{name}, {side or 'dense'}: not captured", str(refused)[:300])
                calls = {"ours": step, **calls}
            what = f"{name}: a step of both players, its graph"
            (row,) = compared(bench, what, sized(side, B), calls, uncaptured=list(calls))
            rate = B / median(row["results"]["ours"]) * 1e3
            best = max(best, rate)
            bench.fact(f"{name}, {sized(side, B)}: images/s, peak MB", f"{rate:.4g}, {peak:.4g}")
            bench.check(f"{name}, {sized(side, B)}: finite", math.isfinite(step().item()))
    return f"up to {best:.3g} images/s"


@item("e", "a step of the prefix-LM Transformer", seconds=30, chapter="prefix-lm")
def transformer_step(bench: Bench) -> str:
    """The reader's network: float32, and half precision under autocast; tokens a second, peak of memory."""
    import torch

    from gantext.seq2seq.transformer import Config, Transformer

    rates = {}
    for width, layers, B, S in ((16, 1, 2, 12),) if bench.tiny else ((128, 2, 128, 96), (768, 12, 32, 256)):
        model = Transformer(
            Config(
                400 if bench.tiny else 8000,
                width=width,
                layers=layers,
                heads=max(1, width // 64),
                positions=S,
                shift=True,
            )
        ).to(bench.device)
        adam = torch.optim.AdamW(model.parameters(), 1e-4, fused=bench.gpu)
        tokens = torch.randint(4, 400 if bench.tiny else 8000, (B, S), device=bench.device)

        def step(half: Any = None, model: Any = model, adam: Any = adam, tokens: Tensor = tokens, S: int = S) -> Tensor:
            with torch.autocast(bench.device.type, half, enabled=half is not None):
                loss = model.loss(tokens, S - 8)
            adam.zero_grad()
            loss.backward()
            adam.step()
            return loss.detach()

        if bench.gpu:
            torch.cuda.reset_peak_memory_stats()
        calls = {"ours": step, "autocast": functools.partial(step, bench.halves[-1])}
        size = f"width {width}, {layers} layers, {B} x {S}"
        (row,) = compared(bench, "a training step of the Transformer", size, calls, uncaptured=list(calls))
        for name in calls:
            rates[name] = B * S / median(row["results"][name]) * 1e3
            bench.fact(f"tokens a second, width {width}, {'float32' if name == 'ours' else name}", rates[name])
        if bench.gpu:
            bench.fact(f"peak MB, width {width}", torch.cuda.max_memory_allocated() / 1e6)
        bench.check("finite", math.isfinite(step().item()))
    return ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()) + " tokens/s"


# (f) A picture. ----------------------------------------------------------------------------------------------------


def png(images: Tensor, columns: int, scale: int = 4) -> bytes:
    """Grey images (N, h, w) with values in [-1, 1] as one PNG, by zlib alone."""
    import torch
    from torch.nn.functional import pad

    N, h, w = images.shape
    rows = -(-N // columns)
    padded = pad(images.detach().float().cpu().clamp(-1, 1), (1, 1, 1, 1), value=1.0)
    padded = torch.cat([padded, torch.ones(rows * columns - N, h + 2, w + 2)])
    grid = padded.reshape(rows, columns, h + 2, w + 2).transpose(1, 2).reshape(rows * (h + 2), columns * (w + 2))
    pixels = ((grid + 1) * 127.5).round().byte().repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    lines = b"".join(b"\0" + bytes(line.tolist()) for line in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


class _Over(Exception):
    """The minutes are over."""


@item("f", "digits by WGAN-div, to a picture", seconds=120, needs=["sklearn", "accelerate"])
def picture(bench: Bench) -> str:
    """The book's own recipe for digits, for the minutes that are left; Fréchet distance before and after."""
    import torch

    from gantext.gan import laws, methods, metrics, networks, training
    from gantext.gan.features import Features

    data, held_out = laws.digits("train"), laws.digits("test")
    torch.manual_seed(0)
    generator, critic = networks.generator(data.shape), networks.critic(data.shape)
    codes = torch.randn(597, 16, generator=torch.Generator().manual_seed(1))
    features = Features()
    wanted = features(held_out.sample(597, torch.Generator().manual_seed(2)))
    kept: dict[str, Any] = {}

    def drawn(network: nn.Module) -> Tensor:
        place = next(network.parameters()).device
        with torch.no_grad():
            return network.eval()(codes.to(place)).float().cpu()

    def look(run: training.Fit) -> None:
        kept["run"] = run
        if bench.left < (8 if bench.gpu else 3):
            raise _Over

    before = metrics.frechet_distance(features(drawn(generator)), wanted)
    generator.train()
    steps = 3 if bench.tiny else 30_000
    began = time.perf_counter()
    game = methods.wgan_div(at="samples")
    with contextlib.suppress(_Over):
        training.fit(generator, critic, data.sample, game, steps=steps, callbacks=[look], progress=False)
    run, spent = kept["run"], time.perf_counter() - began
    samples = drawn(run.ema)
    after = metrics.frechet_distance(features(samples), wanted)
    bench.fact("steps", run.step)
    bench.fact("steps a second", run.step / spent)
    bench.fact(
        "Frechet distance to held-out digits, in the book's own features: before, after", f"{before:.4g}, {after:.4g}"
    )
    write(bench.folder / "picture.png", png(samples[:64].reshape(-1, 8, 8), 16))
    bench.check("finite", bool(samples.isfinite().all()))
    if not bench.tiny:
        bench.check("the distance has fallen", after < before, f"{before:.3g} to {after:.3g}")
    return f"{run.step} steps, distance {before:.3g} to {after:.3g}"


if __name__ == "__main__":
    sys.exit(main(__file__))
