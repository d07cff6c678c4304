"""Reading comprehension on the docstrings' parameters: what each ingredient is worth, three seeds each, one protocol.

Training is compared (mask, input convolution, optimiser), and, with the weights of the first method, decoding
(vote, exclusion, span constraint, beams). The protocol is fixed here, before any result, and is that of the
chapter's own run. Each run is kept in `_build/reading` the moment it ends, so that an interrupted sweep goes on where
it stopped; `benchmarks/results/reading.json` is written when all are there. Some half an hour of one core, estimated
from the chapter's run, which is one of them.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import _common
import torch
from torch import Tensor
from tqdm import tqdm

from gantext.qa.questions import Record, parameters, score
from gantext.qa.reader import answer, fit, muon
from gantext.qa.sources import Words
from gantext.seq2seq import decoding
from gantext.seq2seq.transformer import Config, Transformer

RUNS = _common.ROOT / "_build" / "reading"
SEEDS = range(3)
STEPS, BATCH, WARMUP = 700, 32, 50
SIZES: dict[str, Any] = {"width": 128, "layers": 2, "heads": 4, "positions": 96}
QUESTIONS = 400  # test questions, drawn once
ADAMW = 2e-3
METHODS: dict[str, tuple[dict[str, Any], Any]] = {
    "prefix-LM mask": ({"shift": True}, muon),
    "causal mask": ({"shift": True, "causal": True}, muon),
    "no input convolution": ({"shift": False}, muon),
    "AdamW for all": ({"shift": True}, lambda model: [torch.optim.AdamW(model.parameters(), ADAMW, betas=(0.9, 0.99))]),
}


def fair(p: Tensor, alive: Tensor) -> Tensor:
    """The vote of squares times (N + 1) / N, so that N certain passages give 1 (`reading-comprehension:fair`)."""
    n = alive.sum(1).clamp(min=1)[:, None, None]
    return decoding.squares(p, alive) * (n + 1) / n


DECODING: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no span constraint": {"spans": False},
    "no exclusion": {"exclude": False},
    "mean vote": {"vote": decoding.mean},
    "largest vote": {"vote": decoding.largest},
    "beams 3": {"beams": 3},
    "beams 3, mean vote": {"beams": 3, "vote": decoding.mean},
    "beams 3, no length penalty": {"beams": 3, "vote": fair},
    "beams 3, no length penalty, no empty answer": {"beams": 3, "vote": fair, "min_tokens": 1},
}


@cache
def everything() -> tuple[list[Record], list[Record], Words]:
    """Training records, the test questions, and the tokenizer."""
    train, test = parameters()
    return train, random.Random(0).sample(test, QUESTIONS), Words(p.text for record in train for p in record.passages)


def network(method: str, seed: int) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(Config(len(everything()[2]), **SIZES, **METHODS[method][0]))


def path(method: str, seed: int) -> Path:
    return RUNS / f"{method.replace(' ', '-')}-{seed}.pt"


def keep(method: str, seed: int) -> None:
    """Train, and keep the weights and the losses."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train, _, words = everything()
    model, begin = network(method, seed), time.process_time()
    losses = fit(
        model,
        train,
        words,
        steps=STEPS,
        batch_size=BATCH,
        warmup=WARMUP,
        optimizers=METHODS[method][1],
        seed=seed,
        progress=False,
    )
    seconds = time.process_time() - begin
    where = {name: _common.environment()[name] for name in ("date", "device")}
    kept = {"state": model.state_dict(), "losses": losses, "seconds": seconds, "where": where}
    _common.store(path(method, seed), kept)


def judged(method: str, seed: int) -> dict[str, Any]:
    """The record of one run: every way of decoding for the first method, the usual one for the others."""
    kept, (_, test, words) = torch.load(path(method, seed)), everything()
    model = network(method, seed)
    model.load_state_dict(kept["state"])
    model.eval()
    scores = {}
    for name, options in DECODING.items() if method == next(iter(METHODS)) else [("as it is", {})]:
        read = answer(model, test, words, steps=16, **options)
        found = score([r.text for r in read], [record.answers for record in test])
        scores[name] = {
            "em": found.em,
            "f1": found.f1,
            "final": found.final,
            "tokens": statistics.fmean(len(r.tokens) for r in read),
        }
        if name == "as it is":
            holds = [bool(p.answer) for record in test for p in record.passages]
            votes = [alive for r in read for alive in r.alive]
            scores[name]["decided"] = statistics.fmean(a == b for a, b in zip(holds, votes, strict=True))
    curve = [statistics.fmean(kept["losses"][k : k + 10]) for k in range(0, STEPS, 10)]
    return {"method": method, "seed": seed, "steps": STEPS, **kept["where"], "decoding": scores, "curve": curve}


def baselines() -> dict[str, dict[str, float]]:
    """Answers without reading: the most frequent one, and the most frequent one for that name."""
    train, test, _ = everything()
    usual, by_name = Counter(r.answers[0] for r in train), defaultdict(Counter)
    for r in train:
        by_name[r.question][r.answers[0]] += 1
    top = usual.most_common(1)[0][0]
    named = [by_name[r.question].most_common(1)[0][0] if r.question in by_name else top for r in test]
    accepted = [r.answers for r in test]
    guesses = {"most frequent answer": [top] * len(test), "most frequent answer for the name": named}
    return {name: score(guess, accepted)._asdict() for name, guess in guesses.items()}


def tables(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results: mean ± 95 % interval over the seeds."""
    head = ["EM", "F1", "final"]
    of = lambda method, way: [run["decoding"][way] for run in runs if run["method"] == method]
    cells = lambda found, columns: [_common.spread([one[c] for one in found]) for c in columns]
    first = next(iter(METHODS))
    return [
        {
            "title": f"Trained {STEPS} steps, {QUESTIONS} questions: mean ± 95 % interval over {len(SEEDS)} seeds",
            "head": ["training", *head, "passages decided right"],
            "rows": [[m, *cells(of(m, "as it is"), ["em", "f1", "final", "decided"])] for m in METHODS],
        },
        {
            "title": f"The same weights ({first}), decoded otherwise",
            "head": ["decoding", *head, "tokens of an answer"],
            "rows": [[way, *cells(of(first, way), ["em", "f1", "final", "tokens"])] for way in DECODING],
        },
        _common.paired_table("Exact matches, seed by seed", compared(runs), 3),
    ]


def compared(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exact matches, seed by seed: the other ways to train against the first, and to decode against greedy search."""
    of = lambda method, way: [run["decoding"][way]["em"] for run in runs if run["method"] == method]
    gaps = lambda one, other: [a - b for a, b in zip(of(*one), of(*other), strict=True)]
    first, usual = next(iter(METHODS)), next(iter(DECODING))
    ways = {(m, first): gaps((m, usual), (first, usual)) for m in METHODS if m != first}
    ways |= {(way, usual): gaps((first, way), (first, usual)) for way in DECODING if way != usual}
    return [{"of": a, "minus": b} | one for (a, b), one in zip(ways, _common.paired([*ways.values()]), strict=True)]


def report() -> None:
    """Score every run and write the result."""
    torch.set_num_threads(1)
    judgements = [judged(*run) for run in tqdm(list(itertools.product(METHODS, SEEDS)), desc="scores")]
    runs = _common.rounded(judgements)  # before the tables: whoever computes them from the record gets the same digits
    train, test, words = everything()
    _common.write_json(
        "reading",
        {
            "schema": 1,
            "title": "Reading comprehension on the docstrings' parameters",
            "chapter": "reading-comprehension",
            "command": "python benchmarks/compare_reading.py",
            **_common.environment("numpy", "scipy", "scikit-learn"),
            "rows": [],
            "tables": tables(runs),
            "comparisons": compared(runs),
            "data": {"train": len(train), "test": len(parameters()[1]), "asked": len(test), "vocabulary": len(words)},
            "baselines": baselines(),
            "runs": runs,
        },
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=1, help="runs side by side")
    _common.sweep(keep, [(m, s) for m in METHODS for s in SEEDS], path, arguments.parse_args().jobs)
    report()
