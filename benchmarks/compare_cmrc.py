"""CMRC 2018, Chinese questions about Chinese texts, read by the book's small model without any pre-training.

The training file is not at hand. So the model learns from the development file (3,219 questions on 848 texts) and is
asked the trial file (1,002 questions on 256 texts, two of them empty and left out; no text is in both), and no
published number compares. Model, optimiser, rate, batch, steps and decoding are those of the chapter's own reader
(`compare_reading.py`), untuned. A text is cut into windows of 160 characters or words, each 96 behind the one before,
which are the passages of its question; trained on are the windows that hold the answer and as many of the others. All
windows vote.

Scored by the rule of the data's own program (cmrc2018_evaluate.py of ymcui/cmrc2018), written anew: EM is equality
without its list of signs; F1 is that of the longest common run of segments, a Chinese character or a word each. Beside
it what needs no training: the sentence, and the clause, that shares most characters with the question.

The protocol is fixed here, before any result: three seeds, "as it is" named first; "always answered" drops no window
and ends no answer before it has begun, since every question has one. Give the folder of cmrc2018_dev.json and
cmrc2018_trial.json with --data. Each run is kept in `_build/cmrc` the moment it ends, in the middle of it every 100
steps; `benchmarks/results/cmrc.json` is written from those that are there. A quarter of
an hour of one core.
"""

from __future__ import annotations

import argparse
import functools
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _common
import torch

from gantext.qa.files import load
from gantext.qa.questions import TOKEN, Passage, Record
from gantext.qa.reader import answer, fit, muon
from gantext.qa.sources import Words
from gantext.seq2seq.transformer import Config, Transformer
from gantext.statistics import half_width

RUNS = _common.ROOT / "_build" / "cmrc"
SEEDS = range(3)
STEPS, BATCH, WARMUP = 700, 32, 50
WINDOW, STRIDE, QUESTION, LONGEST, LEAST = 160, 96, 40, 32, 4
SIZES: dict[str, Any] = {
    "width": 128, "layers": 2, "heads": 4, "positions": WINDOW + QUESTION + LONGEST + 4, "shift": True,
}  # fmt: skip
LENGTHS: dict[str, Any] = {"length": WINDOW + 2, "question_length": QUESTION}
WAYS: dict[str, dict[str, Any]] = {"as it is": {}, "always answered": {"exclude": False, "min_tokens": 1}}
SHOWN = 6  # questions that the record prints with their answers
# The signs that the published program leaves out; its list has the two characters "……" as one sign, which no single
# character equals, so a "…" stays.
SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
WORD = re.compile(r"""(?:[^\s;@#$%&?!()\[\]{}<>",]|,(?=\d))+|\S""")


def segments(text: str) -> list[str]:
    """Chinese characters (U+4E00 to U+9FA5) one by one, words between them, without `SIGNS`; lower case.

    The published program leaves the words to nltk; of the 5,188 accepted answers 22 are cut otherwise here, mostly in
    how a quotation mark is written.

    >>> segments("《战国无双3》由 Omega Force 开发。")
    ['战', '国', '无', '双', '3', '由', 'omega', 'force', '开', '发']
    """
    found: list[str] = []
    kept = "".join(c for c in text.lower().strip() if c not in SIGNS)
    for part in re.split("([\u4e00-\u9fa5])", kept):
        found += [part] if re.fullmatch("[\u4e00-\u9fa5]", part) else WORD.findall(part)
    return found


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest run that stands in both."""
    before, most = [0] * (len(b) + 1), 0
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else 0)
        before, most = row, max(most, *row)
    return most


def official(prediction: str, accepted: Sequence[str]) -> tuple[float, float]:
    """EM and F1 of one answer, the best over what is accepted.

    >>> official("光荣和ω-force", ["光荣和ω-force"]), official("光荣", ["光荣和ω-force"])
    ((1.0, 1.0), (0.0, 0.6666666666666666))
    """
    bare = lambda text: "".join(c for c in text.lower().strip() if c not in SIGNS)
    mine, best = segments(prediction), 0.0
    for one in accepted:
        theirs = segments(one)
        common = longest_common(theirs, mine)
        best = max(best, 2 * common / (len(mine) + len(theirs)) if common else 0.0)
    return float(any(bare(prediction) == bare(one) for one in accepted)), best


def windows(record: Record) -> Record:
    """The same question about the windows of its text; a window has the answer if it stands there."""
    (passage,) = record.passages
    spans = [match.span() for match in TOKEN.finditer(passage.text)]
    pieces, at = [], 0
    while True:
        piece = passage.text[spans[at][0] : spans[min(at + WINDOW, len(spans)) - 1][1]]
        pieces.append(Passage(piece, passage.answer if passage.answer in piece else ""))
        if at + WINDOW >= len(spans):
            return record._replace(passages=tuple(pieces))
        at += STRIDE


def balanced(record: Record, rng: random.Random) -> Record:
    """All windows with the answer, and at most as many without it."""
    useful = [p for p in record.passages if p.answer]
    others = [p for p in record.passages if not p.answer]
    return record._replace(passages=(*useful, *rng.sample(others, min(len(others), max(1, len(useful))))))


@functools.cache
def everything(folder: Path) -> tuple[list[Record], list[Record], list[str], Words, dict[str, int]]:
    """Training records, test records, the text of each test question, the tokenizer, sizes."""
    skipped: list[str] = []
    train, test = (list(load(folder / f"cmrc2018_{part}.json", skipped=skipped)) for part in ("dev", "trial"))
    texts = {record.passages[0].text for record in train}
    words = Words(texts, least=LEAST)
    sizes = {
        "training questions": len(train), "training texts": len(texts), "asked": len(test),
        "texts asked about": len({record.passages[0].text for record in test}), "left out as malformed": len(skipped),
        "texts in both": len(texts & {record.passages[0].text for record in test}), "vocabulary": len(words),
    }  # fmt: skip
    rng = random.Random(0)
    cut = [balanced(windows(record), rng) for record in train]
    sizes["training windows"] = sum(len(record.passages) for record in cut)
    asked = [windows(record) for record in test]
    sizes["asked, answer in a window"] = sum(any(p.answer for p in record.passages) for record in asked)
    return cut, asked, [record.passages[0].text for record in test], words, sizes


def nearest(text: str, question: str, ends: str) -> str:
    """Of the pieces of a text that end with one of these signs the one most like the question: no training."""
    asked, pieces = Counter(segments(question)), [p for p in re.split(f"[{ends}]", text) if segments(p)]

    def alike(piece: str) -> float:
        mine = Counter(segments(piece))
        return 2 * (mine & asked).total() / (mine.total() + asked.total())

    return max(pieces, key=alike, default="")


def path(seed: int) -> Path:
    return RUNS / f"{seed}.pt"


def keep(folder: Path, seed: int, steps: int = STEPS) -> None:
    """Train, answer, score each question."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train, test, _, words, _ = everything(folder)
    begin = time.process_time()
    torch.manual_seed(seed)
    model = Transformer(Config(len(words), **SIZES))
    losses = fit(
        model, train, words, steps=steps, batch_size=BATCH, warmup=WARMUP, optimizers=muon, seed=seed, progress=False,
        checkpoint=RUNS / f"unfinished-{seed}.pt", save_every=100, longest=LONGEST, **LENGTHS,
    )  # fmt: skip
    trained = time.process_time() - begin
    kept: dict[str, Any] = {"losses": losses, "steps": steps, "seconds of training": trained, "scores": {}, "read": {}}
    for way, options in WAYS.items():
        read = answer(model, test, words, steps=LONGEST, **LENGTHS, **options)
        kept["scores"][way] = [official(r.text, record.answers) for r, record in zip(read, test, strict=True)]
        kept["read"][way] = [r.text for r in read]
    kept["parameters"] = sum(p.numel() for p in model.parameters())
    kept |= {name: _common.environment()[name] for name in ("date", "device")}
    _common.store(path(seed), kept | {"seconds": time.process_time() - begin})
    (RUNS / f"unfinished-{seed}.pt").unlink(missing_ok=True)


def by_texts(scores: Sequence[float], texts: Sequence[str]) -> float:
    """Half of the 95 % interval of the mean over questions, drawn text by text: those of one text go together."""
    mean, sums = statistics.fmean(scores), Counter[str]()
    for score, text in zip(scores, texts, strict=True):
        sums[text] += score - mean  # type: ignore[assignment]  # a Counter adds floats as well
    n = len(sums)
    return 1.96 * (n / (n - 1) * sum(s * s for s in sums.values())) ** 0.5 / len(scores)


def means(scores: Sequence[tuple[float, float]]) -> dict[str, float]:
    em, f1 = zip(*scores, strict=True)
    return {"em": 100 * statistics.fmean(em), "f1": 100 * statistics.fmean(f1)}


def report(folder: Path) -> None:
    """Put the runs that are there together, and write the result."""
    _, test, texts, _, sizes = everything(folder)
    kept = {seed: torch.load(path(seed)) for seed in SEEDS if path(seed).exists()}
    if not kept:
        raise SystemExit("No run has ended: nothing is written.")
    guesses: dict[str, Callable[[str, str], str]] = {
        "nearest sentence": lambda text, question: nearest(text, question, "。！？；\n"),
        "nearest clause": lambda text, question: nearest(text, question, "，。！？；：、\n"),
        "the whole text": lambda text, question: text,
    }
    baselines: dict[str, Any] = {}
    for name, guess in guesses.items():
        found = [official(guess(t, r.question), r.answers) for t, r in zip(texts, test, strict=True)]
        baselines[name] = means(found)
        for k, score in enumerate(("em", "f1")):
            baselines[name][f"{score}, half width, texts"] = 100 * by_texts([f[k] for f in found], texts)
    runs, ways = [], {}
    for seed, run in kept.items():
        losses, by_way = run["losses"], {way: means(run["scores"][way]) for way in WAYS}
        for way in WAYS:
            by_way[way]["empty"] = 100 * statistics.fmean(not text for text in run["read"][way])
        curve = [statistics.fmean(losses[k : k + 10]) for k in range(0, len(losses), 10)]
        hidden = ("losses", "scores", "read")
        runs.append(
            {"seed": seed, "scores": by_way, "curve": curve, **{k: v for k, v in run.items() if k not in hidden}}
        )
    for way in WAYS:
        ways[way] = {}
        for k, score in enumerate(("em", "f1")):
            of = [run["scores"][way][score] for run in runs]
            ways[way][score] = statistics.fmean(of)
            ways[way][f"{score}, half width, seeds"] = half_width(of) if len(of) > 1 else None
            each = [statistics.fmean(run["scores"][way][i][k] for run in kept.values()) for i in range(len(test))]
            ways[way][f"{score}, half width, texts"] = 100 * by_texts(each, texts)
    seed = min(kept)
    samples = [
        {"question": r.question, "accepted": list(r.answers), "read": {way: kept[seed]["read"][way][i] for way in WAYS}}
        for i, r in [*enumerate(test)][:: max(1, len(test) // SHOWN)]
    ][:SHOWN]  # fmt: skip
    plus = lambda value: "–" if value is None else f"± {value:.1f}"
    body = [
        [name, "none", f"{b['em']:.1f}", "–", plus(b["em, half width, texts"]), f"{b['f1']:.1f}", "–",
         plus(b["f1, half width, texts"])]
        for name, b in baselines.items()
    ]  # fmt: skip
    for way, w in ways.items():
        cells = []
        for score in ("em", "f1"):
            halves = [plus(w[f"{score}, half width, {over}"]) for over in ("seeds", "texts")]
            cells += [f"{w[score]:.1f}", *halves]
        body.append([f"small prefix-LM, {way}", str(len(runs)), *cells])
    head = ["answers by", "seeds", "EM", "± seeds", "± texts", "F1", "± seeds", "± texts"]
    _common.write_json("cmrc", {
        "schema": 1, "title": "CMRC 2018 without pre-training", "chapter": "reading-comprehension",
        **_common.environment(), "command": "python benchmarks/compare_cmrc.py --data FOLDER", "rows": [],
        "tables": [{"title": "The trial questions, by the official rule; 95 % intervals", "head": head, "rows": body}],
        "settings": {"steps": runs[0]["steps"], "batch": BATCH, "window": WINDOW, "stride": STRIDE, "longest": LONGEST,
                     **SIZES},
        "sizes": sizes, "baselines": baselines, "ways": ways, "runs": runs, "samples": samples,
        "missing seeds": [seed for seed in SEEDS if seed not in kept],
    })  # fmt: skip


def main(folder: Path, jobs: int) -> None:
    for part in ("dev", "trial"):
        file = folder / f"cmrc2018_{part}.json"
        if not file.exists():  # the other comparisons of `make compare` go on
            print(
                f"Left out: {file} is not there; it is data/ of github.com/ymcui/cmrc2018. Give --data.",
                file=sys.stderr,
            )
            return
    RUNS.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        _common.sweep(functools.partial(keep, folder), [(seed,)], path, jobs)
        report(folder)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=_common.ROOT / "_build" / "data", help="with both files")
    chosen = arguments.parse_args()
    main(chosen.data, 1)
