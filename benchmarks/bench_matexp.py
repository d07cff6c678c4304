"""`expm` beside `torch.linalg.matrix_exp` and `scipy.linalg.expm`: time, and error at the same inputs.

python benchmarks/bench_matexp.py [--rounds 9]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import mpmath
import scipy.linalg
import torch
from _common import ROOT, begin, interleave, write_json
from torch import Tensor
from tqdm import tqdm

from gantext.matexp import expm, expm_ref, logdet_expm

sys.path.insert(0, str(ROOT / "tests"))
from _compare import errors  # the measure of error is the tests' own

SIZES = [(4096, 2), (4096, 4), (4096, 8), (1024, 16), (256, 32), (64, 64), (8, 256)]
JOBS = [(torch.float32, size) for size in SIZES] + [(torch.float64, size) for size in SIZES[1::2]]
SPREAD = 40.0
EQUAL = 1.2  # mean errors this close count as equal: both are rounding
Row = dict[str, Any]


def gradient(f: Callable[[Tensor], Tensor], A: Tensor, G: Tensor) -> Tensor:
    A = A.detach().requires_grad_()
    return torch.autograd.grad(f(A), A, G)[0]


def mean_error(out: Any, ref: Tensor | None) -> float | None:
    """Mean relative error of the first matrices, as many as there are references."""
    return None if ref is None else errors(torch.as_tensor(out).to(ref.device)[: len(ref)], ref).mean().item()


def high_precision(A: Tensor) -> Tensor:
    """exp with 50 digits: what float64 is judged by."""
    with mpmath.workdps(50):
        exact = [mpmath.expm(mpmath.matrix(X.tolist()), method="taylor") for X in A]
    return torch.tensor([[[float(x) for x in row] for row in X.tolist()] for X in exact], dtype=torch.float64)


def row(what: str, A: Tensor, calls: dict[str, Callable[[], Any]], ref: Tensor | None, rounds: int) -> Row:
    times = interleave(calls, rounds)
    results = {name: {**times[name], "error": mean_error(call(), ref)} for name, call in calls.items()}
    B, n = A.shape[0], A.shape[-1]
    ratio = results["torch"]["median_ms"] / results["ours"]["median_ms"]
    dtype = str(A.dtype).removeprefix("torch.")
    return {"what": what, "dtype": dtype, "size": f"{B} x {n} x {n}", "results": results, "ratio": ratio}


def matrices(B: int, n: int, dtype: torch.dtype) -> Tensor:
    """Gaussian with variance 1/n: spectral radius about 1 at every size, the scale of a flow or a rotation layer."""
    return (torch.randn(B, n, n, dtype=torch.float64) / n**0.5).to(dtype)


def compare(A: Tensor, rounds: int) -> list[Row]:
    G = torch.randn_like(A)
    A_host = A.cpu().numpy()
    ref = gradient_ref = None
    if A.dtype == torch.float32:
        ref = expm_ref(A.double())
        gradient_ref = gradient(expm_ref, A.double(), G.double())
    elif A.shape[-1] <= 16:
        ref = high_precision(A[:48])
    forward = {
        "ours": lambda: expm(A),
        "torch": lambda: torch.linalg.matrix_exp(A),
        "scipy": lambda: scipy.linalg.expm(A_host),
    }
    both = {"ours": lambda: gradient(expm, A, G), "torch": lambda: gradient(torch.linalg.matrix_exp, A, G)}
    return [
        row("forward", A, forward, ref, rounds),
        row("forward+backward", A, both, gradient_ref, rounds),
    ]


def logdet(place: torch.device, rounds: int) -> Row:
    """Full symmetric matrices of trace n whose eigenvalues are spread over 40."""
    B, n = 1024, 8
    Q = torch.linalg.qr(torch.randn(B, n, n, dtype=torch.float64)).Q
    values = torch.linspace(-SPREAD / 2, SPREAD / 2, n, dtype=torch.float64) + 1
    A = (Q * values @ Q.mT).to(place, torch.float32)
    exact = A.double().diagonal(dim1=-2, dim2=-1).sum(-1)
    calls: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: logdet_expm(A),
        "torch": lambda: torch.linalg.slogdet(torch.linalg.matrix_exp(A)).logabsdet,
    }
    out = row("log det exp, eigenvalues spread over 40", A, calls, None, rounds)
    for name, call in calls.items():  # of numbers, not of matrices
        out["results"][name]["error"] = ((call() - exact).abs() / exact.abs()).median().item()
    return out


def claims(rows: list[Row]) -> list[Row]:
    def where(row: Row) -> str:
        return f"{row['dtype']}, {row['size']}"

    def speed(what: str, dtype: str, least: float, text: str) -> Row:
        chosen = [r for r in rows if r["what"] == what and r["dtype"] == dtype]
        slow, *_, fast = sorted(chosen, key=lambda r: r["ratio"])
        measured = f"{slow['ratio']:.2f} to {fast['ratio']:.2f} times as fast"
        pairs = [tuple(r["results"][name]["error"] for name in ("ours", "torch")) for r in chosen]
        worst = max((ours / theirs for ours, theirs in pairs if ours is not None), default=None)
        if worst is not None:
            measured += f"; error at most {worst:.2f} of torch's"
        behind = [where(r) for r in chosen if r["ratio"] < least]
        place = "below it: " + "; ".join(behind) if behind else "every size; least at " + where(slow)
        holds = not behind and (worst is None or worst <= EQUAL)
        return {"claim": text, "measured": measured, "verdict": verdict(holds), "where": place}

    def verdict(holds: bool) -> str:
        return "holds" if holds else "fails"

    trace = next(r for r in rows if r["what"].startswith("log det"))
    exact, lost = (trace["results"][name]["error"] for name in ("ours", "torch"))
    both, alone = "forward+backward", "forward"
    return [
        speed(both, "float32", 2.0, f"{both} at least 2x torch.linalg.matrix_exp at equal error, float32"),
        speed(both, "float64", 2.0, f"{both} at least 2x torch.linalg.matrix_exp, float64"),
        speed(alone, "float32", 1.0, f"{alone} not slower than torch.linalg.matrix_exp at equal error, float32"),
        speed(alone, "float64", 1.0, f"{alone} not slower than torch.linalg.matrix_exp at equal error, float64"),
        {
            "claim": "slogdet(exp A) loses every digit in float32 where the trace loses none",
            "measured": f"median relative error {lost:.1e} against {exact:.1e}",
            "verdict": verdict(lost > 1 and exact < 1e-5),
            "where": where(trace),
        },
    ]


def main() -> None:
    rounds, place, record = begin(__doc__, "tests/test_matexp.py", "scipy")
    rows: list[Row] = []
    for dtype, (B, n) in tqdm(JOBS, desc="matexp", file=sys.stderr):
        rows += compare(matrices(B, n, dtype).to(place), rounds)
    rows.append(logdet(place, rounds))
    result = {
        "schema": 1,
        "title": "Matrix exponential of a batch",
        "chapter": "det-exp",
        "command": "python benchmarks/bench_matexp.py",
        **record,
        "rows": rows,
        "claims": claims(rows),
    }
    write_json("matexp", result)
    for r in rows:
        times = "  ".join(
            f"{name} {t['median_ms']:.3g} ms" + (f" ({t['error']:.1e})" if t["error"] is not None else "")
            for name, t in r["results"].items()
        )
        print(f"{r['what']:40} {r['dtype']:8} {r['size']:16} ratio {r['ratio']:5.2f}  {times}")
    for c in result["claims"]:
        print(f"{c['verdict']:6} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
