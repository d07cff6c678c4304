"""Spherical text embedding beside gensim's Doc2Vec, a floor, itself on two threads, and the size of its tables.

Words of text a second, on the same documents: python benchmarks/bench_jose.py [--rounds 5] [--documents N]
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import ROOT, device, environment, single_threaded, tests_pass, write_json
from gensim.models.doc2vec import Doc2Vec, TaggedDocument
from numba import njit
from tqdm import tqdm

from gantext import docstrings
from gantext.kernels import sphere_cpu
from gantext.kernels.sphere import MODES, Mode
from gantext.sphere import training
from gantext.sphere.jose import JoSE
from gantext.sphere.vocabulary import Tokens, plan, read

DIMENSION, WINDOW, NEGATIVES, SAMPLE, MIN_COUNT, EPOCHS = 100, 10, 2, 1e-3, 5, 5
DOC2VEC = "gensim Doc2Vec"
# Operations a number of a row: two products decide a tuple; products, then sums of rows, where it moves.
OPERATIONS = {"paper": (4, 26), "plain": (4, 26), "reference": (4, 16)}
CONSTANT = 64e6  # bytes, as the docstring of JoSE states, beside 200 a word and 40 a document
Row = dict[str, Any]
Call = Callable[[], float]


@njit(nogil=True, fastmath=sphere_cpu.FAST)
def short_vectors(T: Any, rows: Any) -> None:
    """Three products of rows and three sums of rows, 16 operations a number, as one tuple of "reference" has."""
    one, tiny = np.float32(1), np.float32(1e-7)
    for k in range(len(rows) - 2):
        u, v, n = T[rows[k]], T[rows[k + 1]], T[rows[k + 2]]
        f = g = h = np.float32(0)
        for i in range(len(u)):
            f += u[i] * v[i]
            g += n[i] * v[i]
            h += u[i] * n[i]
        a, b, c = one - tiny * f, one - tiny * g, one - tiny * h
        for i in range(len(u)):
            ui, vi, ni = u[i], v[i], n[i]
            u[i] = a * ui + tiny * vi
            n[i] = b * ni - tiny * vi
            v[i] = c * vi + tiny * (ui - ni)


def rate_of_short_vectors() -> Call:
    """Seconds of one operation on rows that lie in the first-level cache, the best that these row lengths allow."""
    rng = np.random.default_rng(0)
    T = (rng.standard_normal((48, DIMENSION)) / DIMENSION**0.5).astype(np.float32)
    rows = np.concatenate([rng.permutation(48)[:3] for _ in range(70_000)])

    def run() -> float:
        begin = time.process_time()
        short_vectors(T, rows)
        return (time.process_time() - begin) / ((len(rows) - 2) * 16 * DIMENSION)

    run()
    return run


def ours(
    mode: Mode, words: list[str], counts: Any, tokens: Tokens, jobs: int = 1, wall: bool = False, count: bool = True
) -> Callable[[], tuple[float, float, float, float]]:
    """Seconds of training, tuples, the share of those that moved, and the loss of the last epoch."""
    model = JoSE(DIMENSION, mode=mode, window=WINDOW, negatives=NEGATIVES, sample=SAMPLE, n_jobs=jobs, epochs=EPOCHS)
    settings = training.Settings.of(model.get_params())
    chances = training.Chances.of(counts, SAMPLE)
    clock = time.perf_counter if wall else time.process_time

    def run() -> tuple[float, float, float, float]:
        state = training.begin(len(words), len(tokens.lengths), settings, torch.device("cpu"))
        begin = clock()
        training.train(state, tokens, counts, settings, backend=None, progress=False, each_epoch=lambda: None)
        seconds = clock() - begin
        share = statistics.fmean(state.history["active"])
        if not count:
            return seconds, 0, share, state.history["loss"][-1]
        pieces = plan(tokens, 1)[0]  # tuples of an epoch, from one more
        alone = training.Lanes(state, 1).of(0)
        tuples, *_ = training.sequential(state, tokens, chances, settings, alone, pieces, (0.0, 0.0), np.uint64(1))
        return seconds, tuples * EPOCHS, share, state.history["loss"][-1]

    return run


def independent(calls: list[Callable[[], tuple[float, ...]]]) -> Call:
    """Elapsed seconds of trainings that share nothing, in a thread each: what this machine allows."""

    def run() -> float:
        with ThreadPoolExecutor(len(calls)) as pool:
            return max(pool.map(lambda call: call()[0], calls))

    return run


def doc2vec(text: list[list[str]]) -> Call:
    documents = [TaggedDocument(words, [k]) for k, words in enumerate(text)]

    def run() -> float:
        model = Doc2Vec(
            dm=0,
            dbow_words=1,
            vector_size=DIMENSION,
            window=WINDOW,
            negative=NEGATIVES,
            sample=SAMPLE,
            min_count=MIN_COUNT,
            workers=1,
            epochs=EPOCHS,
            seed=0,
        )
        model.build_vocab(documents)
        begin = time.process_time()  # of both its threads: the one that trains and the one that feeds it
        model.train(documents, total_examples=len(documents), epochs=EPOCHS)
        return time.process_time() - begin

    return run


MEMORY = """
import json, resource, sys
from gantext.sphere.jose import JoSE
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
small = JoSE(8, min_count=1, epochs=1).fit([["a", "b", "c"]] * 9)  # loads what was compiled
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()  # not the peak: it may lie behind, in the imports
model = JoSE(100, min_count=1, epochs=1, window=2).fit(sys.argv[1])
tables = sum(t.nbytes for t in (model.word_vectors_, model.context_vectors_, model.document_vectors_))
print(json.dumps({"grown": peak() - before, "tables": tables, "words": len(model.vocabulary_),
                  "documents": len(model.document_vectors_), "tokens": int(model.counts_.sum())}))
"""


def memory() -> dict[str, int]:
    """Peak of a process's memory above what it had, while it trains on 2 million words of 200,000 kinds; on Linux."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        with path.open("w") as file:
            for k in range(20_000):
                file.write(
                    " ".join(f"word{rng.randrange(200_000)}" if j else f"word{k * 10}" for j in range(100)) + "\n"
                )
        command = [sys.executable, "-c", MEMORY, str(path)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def claims(rows: list[Row], used: Mapping[str, int]) -> list[Row]:
    def claim(text: str, holds: bool, measured: str, where: str) -> Row:
        return {"claim": text, "measured": measured, "verdict": "holds" if holds else "fails", "where": where}

    each = lambda name: ", ".join(f"{r['size']} {r[name]:.2f}" for r in rows)
    least = lambda name: min(r[name] for r in rows)
    most = lambda name: max(r[name] for r in rows)
    stated = CONSTANT + 200 * used["words"] + 40 * used["documents"] + 4 * used["tokens"]
    extra = used["grown"] - used["tables"]
    return [
        claim(
            "words a second at least 1.6x gensim's Doc2Vec (dm=0, dbow_words=1), one thread",
            least("ratio") >= 1.6,
            each("ratio"),
            "processor time, the same documents and settings",
        ),
        claim(
            "a (pair, negative) takes at most 2x the time of 25 p operations at the rate of short vectors in cache",
            most("dense_ratio") <= 2,
            each("dense_ratio"),
            "25 p is what a tuple that moves takes; processor time",
        ),
        claim(
            "the same, counting 4 p operations for a tuple without a loss, 26 p or 16 p for one that moves",
            most("floor_ratio") <= 2,
            each("floor_ratio"),
            "drawing negatives, and rows that are not in the first-level cache, are not counted",
        ),
        claim(
            "two threads at least 1.7x one",
            least("threads_ratio") >= 1.7,
            each("threads_ratio"),
            "elapsed time: other work on the cores counts",
        ),
        claim(
            "and at least 0.9 of what two trainings that share nothing gain from two threads",
            min(r["threads_ratio"] / r["independent_ratio"] for r in rows) >= 0.9,
            ", ".join(f"{r['size']} {r['threads_ratio']:.2f} of {r['independent_ratio']:.2f}" for r in rows),
            "elapsed time, one after the other in each round",
        ),
        claim(
            "and at the end at most 1.05 of the loss of one",
            most("loss_ratio") <= 1.05,
            each("loss_ratio"),
            "mean hinge of the last epoch",
        ),
        claim(
            "memory of fit: tables, 200 bytes a word, 40 bytes a document, the mapped numbers and 64 MB",
            extra <= stated,
            f"{extra / 1e6:.0f} MB beside tables of {used['tables'] / 1e6:.0f} MB; stated {stated / 1e6:.0f} MB",
            f"{used['words']} words, {used['documents']} documents, {used['tokens']} words of text",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="samples per call, at least 3")
    parser.add_argument("--documents", type=int, help="so many, drawn at random, of the chapter's corpus; else all")
    given = parser.parse_args()
    single_threaded()
    if not tests_pass("tests/sphere/test_jose.py"):
        sys.exit("tests/sphere/test_jose.py fails: nothing is reported until it passes.")
    device()
    record = environment("gensim", "numba")
    text = docstrings.topics()[0]
    text = random.Random(0).sample(text, given.documents or len(text))
    words, counts, tokens = read("bench", text, MIN_COUNT)
    size = EPOCHS * sum(map(len, text))  # words of text, known or not, kept or not
    calls = {mode: ours(mode, words, counts, tokens) for mode in MODES}
    pairs = {(mode, n): ours(mode, words, counts, tokens, n, wall=True) for mode in MODES for n in (1, 2)}
    single = lambda mode: ours(mode, words, counts, tokens, wall=True, count=False)
    apart = {(mode, "apart"): independent([single(mode), single(mode)]) for mode in MODES}
    rival, rate = doc2vec(text), rate_of_short_vectors()
    for call in (*calls.values(), *pairs.values(), rival):
        call()  # compiles, fills caches
    seconds: dict[Any, list[float]] = {name: [] for name in (*calls, *pairs, *apart, DOC2VEC, "operation")}
    shape: dict[Any, tuple[float, ...]] = {}
    for k in tqdm(range(max(3, given.rounds)), desc="rounds", file=sys.stderr):
        order = [
            *calls,
            DOC2VEC,
            "operation",
            *itertools.chain(*zip(list(pairs)[::2], apart, list(pairs)[1::2], strict=True)),
        ]
        for name in order[:: 1 if k % 2 == 0 else -1]:
            if name == DOC2VEC:
                seconds[name].append(rival())
            elif name == "operation":
                seconds[name].append(rate())
            elif name in apart:
                seconds[name].append(apart[name]())
            else:
                spent, *rest = (calls[name] if name in calls else pairs[name])()
                seconds[name].append(spent)
                shape[name] = tuple(rest)
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    spread = lambda name: {
        "median_ms": 1e3 * middle[name],
        "min_ms": 1e3 * min(seconds[name]),
        "max_ms": 1e3 * max(seconds[name]),
        "error": None,
    }
    against = lambda a, b: statistics.median(x / y for x, y in zip(seconds[a], seconds[b], strict=True))
    rows: list[Row] = []
    for mode in MODES:
        tuples, active, loss = shape[mode]
        still, moving = OPERATIONS[mode]
        needed = (still + active * (moving - still)) * DIMENSION * middle["operation"]
        spent = middle[mode] / tuples
        rows.append(
            {
                "what": f"JoSE, {EPOCHS} epochs of {size // EPOCHS} words",
                "dtype": "float32",
                "size": mode,
                "results": {"ours": spread(mode), DOC2VEC: spread(DOC2VEC)},
                "ratio": against(DOC2VEC, mode),
                "words_per_second": size / middle[mode],
                "ns_per_tuple": spent * 1e9,
                "active": active,
                "floor_ratio": spent / needed,
                "dense_ratio": spent / (25 * DIMENSION * middle["operation"]),
                "threads_ratio": against((mode, 1), (mode, 2)),
                "independent_ratio": 2 * against((mode, 1), (mode, "apart")),
                "loss_ratio": shape[mode, 2][2] / loss,
            }
        )
    used = memory()
    result = {
        "schema": 1,
        "title": "Spherical text embedding on a CPU",
        "chapter": "jose",
        "command": "python benchmarks/bench_jose.py",
        **record,
        "settings": {
            "documents": len(text),
            "vocabulary": len(words),
            "dimension": DIMENSION,
            "window": WINDOW,
            "negatives": NEGATIVES,
            "sample": SAMPLE,
            "rounds": len(seconds[DOC2VEC]),
            "gflops_of_short_vectors": 1e-9 / middle["operation"],
        },
        "rows": rows,
        "memory": used,
        "claims": claims(rows, used),
    }
    write_json("jose", result)
    for r in rows:
        numbers = {name: f"{value:.4g}" for name, value in r.items() if isinstance(value, float)}
        print(r["size"], numbers)
    for c in result["claims"]:
        print(f"{c['verdict']:6} {c['claim']}: {c['measured']} [{c['where']}]")


if __name__ == "__main__":
    main()
