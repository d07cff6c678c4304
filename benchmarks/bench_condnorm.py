"""Conditional layer norm beside the textbook formula, its two-call form, and the formula compiled by torch.compile.

Time, and error at the same inputs: python benchmarks/bench_condnorm.py [--rounds 9]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from _common import ROOT, begin, interleave, speed_claim, write_json
from torch import Tensor
from torch.nn.functional import layer_norm
from tqdm import tqdm

from gantext.kernels.layer_norm import conditional_layer_norm, conditional_layer_norm_ref
from gantext.norm import ConditionalLayerNorm

sys.path.insert(0, str(ROOT / "tests"))
from _compare import errors  # the measure of error is the tests' own

LONG = [(16, 256, 512), (64, 128, 256), (8, 512, 768)]  # batch, tokens, width: 2^15 numbers a sequence or more
SHORT = [(32, 64, 128), (64, 16, 128), (64, 1, 128), (256, 16, 256)]  # the book's, a step of decoding
TEXTBOOK, TWO_CALLS, COMPILED = "textbook", "layer_norm and addcmul", "textbook, compiled"
FORWARD, BOTH = "forward", "forward+backward"
Row = dict[str, Any]
Call = Callable[..., Tensor]


def two_calls(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return torch.addcmul(beta[:, None], gamma[:, None], layer_norm(x, x.shape[-1:]))


def gradients(f: Call, inputs: Sequence[Tensor], G: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(f(*inputs), inputs, G)


def compare(B: int, L: int, D: int, calls: dict[str, Call], place: torch.device, rounds: int) -> Iterable[Row]:
    """One row forward, one forward and backward."""
    inputs = [torch.randn(*s, device=place) for s in ((B, L, D), (B, D), (B, D))]
    G = torch.randn(B, L, D, device=place)
    for mode in (FORWARD, BOTH):

        def run(f: Call, dtype: torch.dtype = torch.float32, mode: str = mode) -> tuple[Tensor, ...]:
            leaves = [t.to(dtype).detach().requires_grad_(mode == BOTH) for t in inputs]
            return (f(*leaves),) if mode == FORWARD else gradients(f, leaves, G.to(dtype))

        exact = run(conditional_layer_norm_ref, torch.float64)
        times = interleave({name: lambda f=f, run=run: run(f) for name, f in calls.items()}, rounds)
        results: Row = {}
        for name, f in calls.items():
            worst = max(
                errors(a.flatten()[None, None], b.flatten()[None, None]).item()
                for a, b in zip(run(f), exact, strict=True)
            )
            results[name] = {**times[name], "error": worst}
        ours = times["ours"]["median_ms"]
        size = f"{B} x {L} x {D}"
        row = {"what": mode, "dtype": "float32", "size": size, "results": results, "long": (B, L, D) in LONG}
        yield {**row, "ratio": times[TEXTBOOK]["median_ms"] / ours}


def module(B: int, L: int, D: int, C: int, place: torch.device, rounds: int) -> Row:
    """The whole conditional norm beside the unconditional one of PyTorch: what a condition costs."""
    norm, plain = ConditionalLayerNorm(D, C).to(place), torch.nn.LayerNorm(D).to(place)
    x, h, G = (torch.randn(*s, device=place) for s in ((B, L, D), (B, C), (B, L, D)))
    x.requires_grad_()
    calls = {
        "ours": lambda: torch.autograd.grad(norm(x, h), [x, *norm.parameters()], G),
        "nn.LayerNorm": lambda: torch.autograd.grad(plain(x), [x, *plain.parameters()], G),
    }
    results = {name: {**t, "error": None} for name, t in interleave(calls, rounds).items()}
    row = {"what": f"module with a condition of {C}, {BOTH}", "dtype": "float32", "size": f"{B} x {L} x {D}"}
    ratio = results["nn.LayerNorm"]["median_ms"] / results["ours"]["median_ms"]
    return {**row, "results": results, "long": False, "ratio": ratio}


def claims(rows: list[Row]) -> list[Row]:
    norms = [r for r in rows if TEXTBOOK in r["results"]]
    both = [r for r in norms if r["what"] == BOTH]
    long = [r for r in both if r["long"]]
    pairs = [(r["results"]["ours"]["error"] / r["results"][TEXTBOOK]["error"], r) for r in norms]
    worst, where = max(pairs, key=lambda pair: pair[0])
    return [
        speed_claim(
            "forward+backward at least 3x the textbook formula from 2^15 numbers a sequence on",
            3.0,
            long,
            rival=TEXTBOOK,
        ),
        speed_claim("there at least 0.95x the formula compiled by torch.compile", 0.95, long, rival=COMPILED),
        speed_claim(
            "for short sequences too at least 0.95x the formula compiled",
            0.95,
            [r for r in both if not r["long"]],
            rival=COMPILED,
        ),
        speed_claim(
            "forward+backward at least 1.5x the textbook formula for short sequences",
            1.5,
            [r for r in both if not r["long"]],
            rival=TEXTBOOK,
        ),
        speed_claim("nowhere slower than 0.8x layer_norm and addcmul", 0.8, norms, rival=TWO_CALLS),
        {
            "claim": "float32 error at most twice that of the textbook formula",
            "measured": f"at most {worst:.2f} of it",
            "verdict": "holds" if worst <= 2 else "fails",
            "where": f"most at {where['what']}, {where['size']}",
        },
    ]


def main() -> None:
    rounds, place, record = begin(__doc__, "tests/norm/test_norm.py")
    rows: list[Row] = []
    for size in tqdm(LONG + SHORT, desc="sizes", file=sys.stderr):
        calls: dict[str, Call] = {
            "ours": conditional_layer_norm,
            TEXTBOOK: conditional_layer_norm_ref,
            TWO_CALLS: two_calls,
            COMPILED: torch.compile(conditional_layer_norm_ref, dynamic=False, fullgraph=True),
        }
        torch.compiler.reset()  # compiled for each size anew: the strongest form, and most of this script's time
        rows += compare(*size, calls, place, rounds)
    rows += [module(*size, 128, place, rounds) for size in (LONG[0], SHORT[0])]
    result = {
        "schema": 1,
        "title": "Conditional layer norm",
        "chapter": "conditional-layer-norm",
        "command": "python benchmarks/bench_condnorm.py",
        **record,
        "rows": rows,
        "claims": claims(rows),
    }
    write_json("condnorm", result)
    for r in rows:
        times = "  ".join(
            f"{name} {t['median_ms']:.3g} ms" + (f" ({t['error']:.1e})" if t["error"] is not None else "")
            for name, t in r["results"].items()
        )
        print(f"{r['what']:44} {r['size']:15} ratio {r['ratio']:5.2f}  {times}")
    for c in result["claims"]:
        print(f"{c['verdict']:7} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
