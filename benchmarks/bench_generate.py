"""Constrained beam search beside Hugging Face's `generate` with `prefix_allowed_tokens_fn`: same model, same answers.

The model is a random GPT-2 that both can run, made to end its answers after six tokens: each a run of its source.
Questions a second: python benchmarks/bench_generate.py [--rounds 7]
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from _common import ROOT, begin, interleave, speed_claim, write_json
from tqdm import tqdm

from gantext.seq2seq.decoding import beam_search

sys.path.insert(0, str(ROOT / "tests"))
from _gpt2 import copying, gpt2, same  # the model and the constraint are the tests' own

HF = "Hugging Face"
SEPARATOR, QUESTION, STEPS = 3, 8, 32  # an answer has six tokens, the longest allowed 32
SIZES = [  # questions in a batch, source tokens, beams, width, layers, vocabulary
    (16, 320, 4, 128, 3, 4005),
    (16, 96, 4, 128, 3, 4005),
    (1, 320, 4, 128, 3, 4005),
    (16, 320, 1, 128, 3, 4005),
    (8, 320, 4, 256, 4, 13584),
]
Row = dict[str, Any]


def compare(Q: int, L: int, K: int, D: int, layers: int, V: int, place: torch.device, rounds: int) -> Row:
    theirs = gpt2(SEPARATOR, L + 6, vocab_size=V, n_embd=D, n_layer=layers, n_head=4, n_positions=L + STEPS).to(place)
    ours = same(theirs).to(place)
    sources = torch.randint(4, V, (Q, L), device=place)
    spans = torch.zeros(Q, L, dtype=torch.bool, device=place)
    spans[:, 1 : L - QUESTION] = True
    texts = [row[1 : L - QUESTION].tolist() for row in sources]
    options: dict[str, Any] = {
        "attention_mask": torch.ones_like(sources),
        "num_beams": K,
        "max_new_tokens": STEPS,
        "do_sample": False,
        "length_penalty": 0.0,
        "prefix_allowed_tokens_fn": copying(texts, SEPARATOR, L),
    }
    calls = {
        "ours": lambda: beam_search(ours, sources, separator=SEPARATOR, beams=K, steps=STEPS, spans=spans),
        HF: lambda: theirs.generate(sources, **options),
    }
    made = calls[HF]()[:, L:].tolist()
    want = [row[: row.index(SEPARATOR)] if SEPARATOR in row else row for row in made]
    got = calls["ours"]().best()
    results: Row = {name: {**times, "error": None} for name, times in interleave(calls, rounds).items()}
    return {
        "what": "constrained, " + ("greedy" if K == 1 else f"{K} beams"),
        "dtype": "float32",
        "size": f"{Q} question{'s' * (Q > 1)}, {L} tokens, width {D}, {layers} layers, V = {V}",
        "results": results,
        "ratio": results[HF]["median_ms"] / results["ours"]["median_ms"],
        "questions": Q,
        "same": sum(a == b for a, b in zip(got, want, strict=True)),
        "tokens": sum(map(len, got)) / Q,
    }


def claims(rows: list[Row]) -> list[Row]:
    speed = functools.partial(speed_claim, unit="times the questions a second")
    batches = [r for r in rows if r["questions"] > 1 and "beams" in r["what"] and " 320 tokens" in r["size"]]
    equal, asked = sum(r["same"] for r in rows), sum(r["questions"] for r in rows)
    return [
        {
            "claim": "the same answers",
            "measured": f"{equal} of {asked} equal",
            "verdict": "holds" if equal == asked else "fails",
            "where": "mean length " + ", ".join(f"{r['tokens']:.1f}" for r in rows) + " tokens",
        },
        speed("at least 5x Hugging Face with 4 beams and sources of 320 tokens, in batches", 5.0, batches),
        speed("at least 5x with 4 beams at every size", 5.0, [r for r in rows if "beams" in r["what"]]),
        speed("faster at every size", 1.0, rows),
    ]


def main() -> None:
    rounds, place, record = begin(__doc__, "tests/seq2seq/test_decoding.py", "transformers")
    rows = [compare(*size, place, rounds) for size in tqdm(SIZES, file=sys.stderr)]
    result = {
        "schema": 1,
        "title": "Constrained decoding with the source read once",
        "chapter": "reading-comprehension",
        "command": "python benchmarks/bench_generate.py",
        **record,
        "rows": rows,
        "claims": claims(rows),
    }
    write_json("generate", result)
    for r in rows:
        times = "  ".join(
            f"{name} {t['median_ms'] / r['questions']:.3g} ms a question" for name, t in r["results"].items()
        )
        print(f"{r['what']:22} {r['size']:56} ratio {r['ratio']:5.2f}  {times}  same {r['same']}/{r['questions']}")
    for c in result["claims"]:
        print(f"{c['verdict']:7} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
