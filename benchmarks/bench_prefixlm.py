"""Prefix-LM attention without a mask beside the dense mask and FlexAttention, and the loss on target rows alone.

Time, and error at the same inputs: python benchmarks/bench_prefixlm.py [--rounds 9]
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from _common import ROOT, begin, interleave, speed_claim, write_json
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from tqdm import tqdm

from gantext.seq2seq.prefixlm import MANY, Layout, attention_ref, mask
from gantext.seq2seq.transformer import Config, Transformer

sys.path.insert(0, str(ROOT / "tests"))
from _compare import errors  # the measure of error is the tests' own

CLAIMED = (1, 8, 1024, 512, 64)  # batch, heads, S, P, width of a head
ONE: list[tuple[int, int, int, int, int]] = [
    CLAIMED,
    (1, 8, 1024, 256, 64),
    (4, 8, 512, 256, 64),
    (4, 12, 352, 320, 64),
    (32, 4, 110, 96, 32),
]
SEVERAL: list[tuple[int, int, int, int]] = [
    (4, 8, 1024, 64),
    (4, 8, 512, 64),
    (8, 12, 352, 64),
    (32, 4, 110, 32),
]  # batch, heads, S, width of a head
DENSE, FLEX, FORWARD, BOTH = "dense mask", "FlexAttention", "forward", "forward+backward"
Row = dict[str, Any]


def measured(what: str, size: str, calls: dict[str, Callable[[], Any]], exact: Tensor, rival: str, rounds: int) -> Row:
    with warnings.catch_warnings():
        results: Row = {name: {**times} for name, times in interleave(calls, rounds).items()}
        for name, call in calls.items():
            results[name]["error"] = errors(call().flatten()[None, None], exact.flatten()[None, None]).item()
    ratio = results[rival]["median_ms"] / results["ours"]["median_ms"]
    return {"what": what, "dtype": "float32", "size": size, "results": results, "ratio": ratio}


def run(f: Callable[..., Tensor], tensors: list[Tensor], G: Tensor, mode: str) -> Tensor:
    if mode == FORWARD:
        with torch.no_grad():
            return f(*tensors)
    leaves = [t.detach().requires_grad_() for t in tensors]
    return torch.cat([g.flatten() for g in torch.autograd.grad(f(*leaves), leaves, G)])


def one_prefix(B: int, H: int, S: int, P: int, D: int, place: torch.device, rounds: int) -> list[Row]:
    *tensors, G = torch.randn(4, B, H, S, D, device=place)
    seen = mask(P, S).to(place)  # ready made: its making is not timed
    calls: dict[str, Callable[..., Tensor]] = {
        "ours": Layout(P, B, S, device=place),  # made once for all layers, like the mask
        DENSE: lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=seen),
    }
    if (B, H, S, P, D) == CLAIMED:  # a compilation takes ten seconds
        blocks = create_block_mask(
            lambda b, h, i, j: (j < P) | (j <= i), B=None, H=None, Q_LEN=S, KV_LEN=S, device=str(place)
        )
        compiled = torch.compile(flex_attention)
        calls[FLEX] = lambda q, k, v: compiled(q, k, v, block_mask=blocks)
    rows = []
    for mode in (FORWARD, BOTH):
        some = {name: f for name, f in calls.items() if name != FLEX or mode == FORWARD or place.type == "cuda"}
        exact = run(lambda q, k, v: attention_ref(q, k, v, P), [t.double() for t in tensors], G.double(), mode)
        bound = {name: lambda f=f, mode=mode: run(f, tensors, G, mode) for name, f in some.items()}
        rows.append(measured(f"one prefix, {mode}", f"{B} x {H} x {S} x {D}, P = {P}", bound, exact, DENSE, rounds))
    return rows


def several_prefixes(B: int, H: int, S: int, D: int, place: torch.device, rounds: int) -> list[Row]:
    *tensors, G = torch.randn(4, B, H, S, D, device=place)
    prefix = torch.linspace(S // 2, S - 8, B).long().tolist()
    rows = []
    for mode in (FORWARD, BOTH):
        calls = {
            name: Layout(prefix, B, S, device=place, backend=backend)
            for name, backend in (("ours", None), (DENSE, "mask"), ("two calls a sequence", "two-call"))
        }
        exact = run(lambda q, k, v: attention_ref(q, k, v, prefix), [t.double() for t in tensors], G.double(), mode)
        bound = {name: lambda f=f, mode=mode: run(f, tensors, G, mode) for name, f in calls.items()}
        size = f"{B} x {H} x {S} x {D}, P from {S // 2} to {S - 8}"
        rows.append(measured(f"{B} prefixes, {mode}", size, bound, exact, DENSE, rounds))
    return rows


def training(place: torch.device, rounds: int) -> Row:
    """A step's loss and gradients, the logits of the target rows against those of all rows."""
    B, S, V, s, n = 32, 110, 4005, 96, 104
    model = Transformer(Config(V, positions=128, shift=True)).to(place)
    tokens = torch.randint(V, (B, S), device=place)
    weights = list(model.parameters())

    def everywhere(model: Transformer) -> Tensor:
        logits = model.logits(model.hidden(tokens, s, n))[:, :-1]
        target = tokens[:, 1:].clone()
        place_of = torch.arange(1, S, device=place)
        target[:, (place_of < s) | (place_of >= n)] = -100  # the loss's sign for: do not count
        return cross_entropy(logits.flatten(0, 1), target.flatten())

    def gradients(f: Callable[[Transformer], Tensor]) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(f(model), weights)])

    calls = {
        "ours": lambda: gradients(lambda m: m.loss(tokens, s, n)),
        "logits everywhere": lambda: gradients(everywhere),
    }
    model.double()
    exact = calls["ours"]()
    model.float()
    return measured(
        f"loss, {BOTH}", f"{B} x {S}, V = {V}, {n - s} targets each", calls, exact, "logits everywhere", rounds
    )


def claims(rows: list[Row]) -> list[Row]:
    one = [r for r in rows if r["what"].startswith("one prefix")]
    claimed = [r for r in one if r["size"] == "{0} x {1} x {2} x {4}, P = {3}".format(*CLAIMED)]
    several = [r for r in rows if "prefixes" in r["what"]]
    long = [r for r in several if int(r["size"].split(" x ")[2]) >= MANY]
    attentions = [*one, *several]
    worst = max(attentions, key=lambda r: r["results"]["ours"]["error"] / r["results"][DENSE]["error"])
    most = worst["results"]["ours"]["error"] / worst["results"][DENSE]["error"]
    return [
        speed_claim("at least 1.15x the dense mask at S = 1024, P = 512, forward and forward+backward", 1.15, claimed),
        speed_claim("nowhere slower than 0.9x the dense mask with one prefix length", 0.9, one),
        speed_claim(f"prefixes of their own: not slower than the dense mask from S = {MANY} on", 1.0, long),
        speed_claim(
            "a loss on target rows alone at least 1.5x one with logits everywhere",
            1.5,
            [r for r in rows if r["what"].startswith("loss")],
        ),
        {
            "claim": "float32 error at most twice that of the dense mask",
            "measured": f"at most {most:.2f} of it",
            "verdict": "holds" if most <= 2 else "fails",
            "where": f"most at {worst['what']}, {worst['size']}",
        },
    ]


def main() -> None:
    rounds, place, record = begin(__doc__, "tests/seq2seq/test_prefixlm.py")
    rows: list[Row] = []
    for size in tqdm(ONE, desc="one prefix", file=sys.stderr):
        rows += one_prefix(*size, place, rounds)
    for size in tqdm(SEVERAL, desc="several", file=sys.stderr):
        rows += several_prefixes(*size, place, rounds)
    rows.append(training(place, rounds))
    result = {
        "schema": 1,
        "title": "Prefix-LM attention without a mask",
        "chapter": "prefix-lm",
        "command": "python benchmarks/bench_prefixlm.py",
        **record,
        "rows": rows,
        "claims": claims(rows),
    }
    write_json("prefixlm", result)
    for r in rows:
        times = "  ".join(f"{name} {t['median_ms']:.3g} ms ({t['error']:.1e})" for name, t in r["results"].items())
        print(f"{r['what']:30} {r['size']:36} ratio {r['ratio']:5.2f}  {times}")
    for c in result["claims"]:
        print(f"{c['verdict']:7} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
