"""The program of JoSE's authors beside the trainer on 20 Newsgroups: words a second, and how well topics are found.

The program is not part of this book. Clone github.com/yumeng5/Spherical-Text-Embedding, build `src/jose.c` with its own
makefile (gcc -O3 -march=native -funroll-loops), and give the path of what was built:

    python benchmarks/compare_program.py --program PATH --data FOLDER [--minutes M]

FOLDER as for `compare_jose.py`, whose messages and scores these are. **Speed**: one epoch over all words of all
messages in one shuffled order, one thread each, the program and the trainer's three rules by turns; processor time of
the training alone, which the program takes and prints itself. **Worth**: the program reads the messages as the file has
them, sorted by topic, and shuffled once, an order that it keeps for all epochs; so does the trainer, which has ten
readers in the place of ten threads. Its runs in the file's order, and in a new order for every epoch, are those of
`jose-20news.json`. At the paper's length (20 epochs, all words, twenty threads, as in its script for this corpus) both
orders once, and the trainer in a new order for every epoch.

Runs are kept in `_build/program`, and an interrupted call goes on; half an hour of one core, at the paper's length by
arithmetic another hour. Threads of the program race, so that its runs with more than one cannot be repeated exactly.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import _common
import compare_jose as news
import numpy as np
import torch
from tqdm import tqdm

from gantext.sphere import training
from gantext.sphere.geometry import Mode
from gantext.sphere.jose import JoSE
from gantext.sphere.vocabulary import read

RUNS = _common.ROOT / "_build" / "program"
SOURCE = "https://github.com/yumeng5/Spherical-Text-Embedding/blob/0ab4c5ee0f1c42a00be1c768cc20fa7eb1a16bd7/src/jose.c"
AUTHORS = "the authors' program"
PROGRAM, TRAINER = "the program", "the trainer, the program's rule"
FILE, SHUFFLED, ANEW = "file", "shuffled once", "shuffled in every epoch"
SHORT, PAPER = (4, 100), (20, 0)  # epochs and words of a message, 0 for all
ROUNDS = 3
PRIMARY = news.PRIMARY


class Job(NamedTuple):
    """One training: by whom, in which order, on how many threads, how long."""

    who: str
    order: str
    threads: int
    seed: int
    epochs: int
    longest: int


class Speed(NamedTuple):
    """One round of the comparison of speeds."""

    round: int


def jobs() -> list[Job | Speed]:
    """All that is to be done, the most telling first."""
    short = [Job(PROGRAM, order, 10, seed, *SHORT) for seed in range(5) for order in (FILE, SHUFFLED)]
    once = [Job(TRAINER, SHUFFLED, 10, seed, *SHORT) for seed in range(5)]
    paper = [
        Job(PROGRAM, FILE, 20, 0, *PAPER),
        Job(PROGRAM, SHUFFLED, 20, 0, *PAPER),
        Job(TRAINER, ANEW, 1, 0, *PAPER),
    ]
    return [*short, *once, Job(PROGRAM, FILE, 1, 0, *SHORT), *map(Speed, range(ROUNDS)), *paper]


def path(job: Job | Speed) -> Path:
    name = "-".join(re.sub(r"\W+", "-", str(part)) for part in (type(job).__name__, *job))
    return RUNS / f"{name}.pt"


def order_of(kind: str, n: int, seed: int) -> Any:
    """The messages (n,) in the order in which they are written for the program."""
    return np.random.default_rng([seed, n]).permutation(n) if kind == SHUFFLED else np.arange(n)


def run_program(program: Path, documents: Sequence[Sequence[str]], epochs: int, threads: int) -> dict[str, Any]:
    """Train on documents, one a line; the vectors (documents, p), in their order, and words a second of processor time.

    Raises:
        RuntimeError: the program fails, or does not write what it was asked for.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_text("".join(" ".join(words) + "\n" for words in documents), encoding="utf-8")
        settings = {
            "train": "text", "doc-output": "documents", "size": news.DIMENSION, "alpha": news.OWN_RATE, "margin": 0.15,
            "window": news.WINDOW, "negative": news.NEGATIVES, "sample": news.SAMPLE, "min-count": news.MIN_COUNT,
            "iter": epochs, "threads": threads,
        }  # fmt: skip
        command = [str(program), *(str(part) for name, value in settings.items() for part in (f"-{name}", value))]
        spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        begin, clock = spent(), time.perf_counter()
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        table = Path(folder, "documents")
        rates = re.findall(r"Words/thread/sec: ([\d.]+)k", ran.stdout)
        if ran.returncode or not rates or not table.exists():
            raise RuntimeError(f"{program} ended with {ran.returncode}: {ran.stdout[-300:]} {ran.stderr[-300:]}")
        rows = np.loadtxt(table, skiprows=1, dtype=np.float32)
        if rows.shape != (len(documents), news.DIMENSION + 1):
            raise RuntimeError(f"{program} wrote {rows.shape}, must be {(len(documents), news.DIMENSION + 1)}.")
    return {
        "vectors": rows[:, 1:],
        "words a second": 1e3 * float(rates[-1]),
        "processor seconds": spent() - begin,
        "seconds": time.perf_counter() - clock,
    }


def run_trainer(documents: Sequence[list[str]], reading: str, job: Job) -> dict[str, Any]:
    """Train with the program's rule on documents, read as `compare_jose.py` says; the vectors (documents, p)."""
    words, counts, tokens = read("compare_program", documents, news.MIN_COUNT)
    begin = time.process_time()
    run = news.sphere(words, counts, tokens, "reference", news.OWN_RATE, reading, job.seed, job.epochs)
    return {"vectors": run.D.numpy(), "processor seconds": time.process_time() - begin}


@functools.cache
def compiled() -> None:
    """The trainer's kernels, so that no timed call compiles them."""
    for rule in news.RULES:
        JoSE(news.DIMENSION, mode=cast(Mode, rule), window=2, min_count=1, epochs=1).fit([["a", "b", "c"]] * 9)


def rate_of(rule: str, scale: news.Scale) -> float:
    """Words a second of processor time, one epoch of the trainer, with lines' ends, as the program counts."""
    words, counts, tokens = news.numbered(scale)
    model = JoSE(
        news.DIMENSION,
        mode=cast(Mode, rule),
        window=news.WINDOW,
        negatives=news.NEGATIVES,
        sample=news.SAMPLE,
        epochs=1,
        n_jobs=1,
    )
    settings = training.Settings.of(model.get_params())
    state = training.begin(len(words), len(tokens.lengths), settings, torch.device("cpu"))
    begin = time.process_time()
    training.train(state, tokens, counts, settings, backend=None, progress=False, each_epoch=lambda: None)
    spent = time.process_time() - begin
    return (int(tokens.lengths.sum()) + len(tokens.lengths)) / spent


def keep(job: Job | Speed, program: Path, data: Path | None) -> None:
    """Do one of the jobs and store what came out."""
    where = {key: value for key, value in _common.environment().items() if key in ("date", "device", "load_before")}
    if isinstance(job, Speed):
        scale = news.Scale(1, 0, data)
        text = news.documents(scale)
        compiled()
        order = order_of(SHUFFLED, len(text), job.round)
        calls: dict[str, Any] = {
            PROGRAM: lambda: run_program(program, [text[k] for k in order], 1, 1)["words a second"]
        }
        calls |= {name: functools.partial(rate_of, rule, scale) for rule, name in news.RULES.items()}
        rates = {name: calls[name]() for name in list(calls)[:: 1 if job.round % 2 == 0 else -1]}
        _common.store(path(job), {**job._asdict(), "words a second": rates, **where})
        return
    scale = news.Scale(job.epochs, job.longest, data)
    found, text = news.news(data), news.documents(scale)
    order = order_of(job.order, len(text), job.seed)
    if job.who == TRAINER:
        made = run_trainer([text[k] for k in order], news.SHUFFLED if job.order == ANEW else news.TEN, job)
    else:
        made = run_program(program, [text[k] for k in order], job.epochs, job.threads)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    made["vectors"] = made["vectors"][back]
    scores = news.judged(news.normalised(made.pop("vectors")), found.topics, found.train)
    _common.store(path(job), {**job._asdict(), "scores": scores, **made, **where})


def scores_of(runs: Sequence[dict[str, Any]], job: Job) -> list[float]:
    """The primary score of a job's runs, one a seed."""
    same = lambda run: all(run[key] == value for key, value in job._asdict().items() if key != "seed")
    return [run["scores"][PRIMARY] for run in runs if same(run)]


def trainer_scores(order: str) -> list[float]:
    """The trainer's with the program's rule, in the record of `compare_jose.py`."""
    record = json.loads((_common.RESULTS / "jose-20news.json").read_text(encoding="utf-8"))
    assert [record["settings"][key] for key in ("epochs", "words of a message")] == list(SHORT)
    return list(news.by_seed(record["runs"], news.RULES["reference"], order, PRIMARY).values())


def tests(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Welch's t-tests of four questions, one family: seeds of program and trainer have nothing in common."""
    from scipy import stats

    of = lambda order, who=PROGRAM: scores_of(runs, Job(who, order, 10, 0, *SHORT))
    own = {"file": of(FILE), "once": of(SHUFFLED)}
    ours = {"file": trainer_scores(news.RACING), "once": of(SHUFFLED, TRAINER), "anew": trainer_scores(news.SHUFFLED)}
    asked = [
        (f"{PROGRAM}, {FILE}", own["file"], f"{PROGRAM}, {SHUFFLED}", own["once"]),
        (f"{PROGRAM}, {FILE}", own["file"], f"{TRAINER}, {news.RACING}", ours["file"]),
        (f"{PROGRAM}, {SHUFFLED}", own["once"], f"{TRAINER}, {SHUFFLED}", ours["once"]),
        (f"{TRAINER}, {ANEW}", ours["anew"], f"{TRAINER}, {SHUFFLED}", ours["once"]),
    ]
    made: list[dict[str, Any]] = []
    for first, x, second, y in asked:
        if min(len(x), len(y)) > 1:
            test: Any = stats.ttest_ind(x, y, equal_var=False)
            low, high = test.confidence_interval()
            made.append({
                "a": first, "b": second, "n": [len(x), len(y)], "mean": statistics.fmean(x) - statistics.fmean(y),
                "half": float(high - low) / 2, "p": float(test.pvalue),
            })  # fmt: skip
    _common.holm(made)
    return made


def speeds(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each rule beside the program: processor time of a million words; ratio of the medians, range of the rounds'."""

    def spent(name: str) -> dict[str, Any]:
        times = [1e9 / one["words a second"][name] for one in rounds]
        return {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times), "error": None}

    rows = []
    for rule, name in news.RULES.items():
        ratios = sorted(one["words a second"][name] / one["words a second"][PROGRAM] for one in rounds)
        rows.append({
            "what": "JoSE, a million words of 20 Newsgroups", "dtype": "float32", "size": rule,
            "results": {"ours": spent(name), AUTHORS: spent(PROGRAM)},
            "ratio": spent(PROGRAM)["median_ms"] / spent(name)["median_ms"], "least": ratios[0], "most": ratios[-1],
        })  # fmt: skip
    return rows


def tables(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results."""
    worth = []
    for job in dict.fromkeys(job._replace(seed=0) for job in jobs() if isinstance(job, Job)):
        if values := scores_of(runs, job):
            length = f"{job.epochs} epochs, {f'{job.longest} words' if job.longest else 'all words'}"
            worth.append([job.who, length, job.order, str(job.threads), str(len(values)), news.spread(values)])
    differences = [
        [
            *(t["a"], t["b"], " and ".join(map(str, t["n"]))),
            f"{t['mean']:+.3f} ± {t['half']:.3f}".replace("-", "−"),
            f"{t['holm']:.2g}",
        ]
        for t in tests(runs)
    ]
    table = lambda title, head, rows: {"title": title, "head": head, "rows": rows}
    return [
        table(
            "Topics found: mean ± 95 % interval over runs (one run: no interval)",
            ["by", "length", "order", "threads", "runs", PRIMARY],
            worth,
        ),
        table(
            f"{PRIMARY}, 4 epochs of the first 100 words, ten threads",
            ["a", "b", "runs", "a − b", "p after Holm"],
            differences,
        ),
    ]


def report(data: Path | None) -> None:
    """Put what is there together, and write the record."""
    there = [job for job in jobs() if path(job).exists()]
    kept = {job: torch.load(path(job), weights_only=True) for job in there}
    rounds = _common.rounded([kept[job] for job in there if isinstance(job, Speed)])
    runs = _common.rounded([kept[job] for job in there if isinstance(job, Job)])
    if not rounds or not runs:
        raise SystemExit("Not enough has run: nothing is written.")
    text = news.documents(news.Scale(1, 0, data))
    _common.write_json(
        "jose-program",
        {
            "schema": 1,
            "title": "JoSE beside its authors' program",
            "chapter": "jose",
            **_common.environment("numba", "scipy", "scikit-learn"),
            "program": {"source": SOURCE, "compiler": "gcc -O3 -march=native -funroll-loops"},
            "data": {"source": news.news(data).source, "documents": len(text), "words": sum(map(len, text))},
            "rows": speeds(rounds),
            "primary": PRIMARY,
            "tests": tests(runs),
            "tables": tables(runs),
            "rounds": rounds,
            "runs": runs,
            "missing": [list(job) for job in jobs() if job not in there],
            "command": "python benchmarks/compare_program.py --program PATH --data FOLDER",
            "processor seconds": sum(run["processor seconds"] for run in runs),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="what the makefile of the authors' repository builds")
    parser.add_argument("--data", type=Path, help="folder with 20news")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin nothing after so many; 0: report only"
    )
    given = parser.parse_args()
    _common.single_threaded()
    torch.set_num_threads(1)
    if given.program is None or not given.program.exists():
        _common.not_run(
            "JoSE's own program is not given.", "Build github.com/yumeng5/Spherical-Text-Embedding; --program PATH."
        )
    end = time.monotonic() + 60 * given.minutes
    with _common.alone(RUNS):
        missing = [job for job in jobs() if not path(job).exists()]
        for job in tqdm(missing, initial=len(jobs()) - len(missing), total=len(jobs()), file=sys.stderr):
            if time.monotonic() > end:
                break
            keep(job, given.program.resolve(), given.data)
    report(given.data)


if __name__ == "__main__":
    main()
