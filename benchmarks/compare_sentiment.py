"""Six ways to tell a small Chinese language model whether to write a good or a bad review, on the article's data.

Su's data: 21,105 reviews of hotels, books, computers and more, each good or bad (bert4keras, examples/datasets). They
repeat themselves: a review counts once here, one with both labels not at all, and only what stands in no training or
validation part is tested on; that leaves 1,370 of 2,111.

As in the article one language model that was trained without labels is trained on with them, and every way starts as
that very model: told nothing; through all its norms, or the last one alone (maps zero); by a code in the slot before
the start (the slot's own embedding); by a character of the vocabulary, 好 (good) or 差 (bad), written into that slot;
by a vector added to every character (zero). The same characters, batches and steps for all; the rates by validation
text, with all steps: one for the model's weights, found with the model told nothing and used by all, and one for what a
way adds. A search begins with three rates and goes on until a worse one stands on either side of the best; the written
character adds nothing to be searched for. A seed draws the batches of this second training, the vectors
of the labels and the reviews written; the first training is one, as a pre-trained model is. One run more, all norms
with eight times the steps, is compared with nothing: it shows what is written after longer training.

Changed on the way: at first searches had 40 steps and three rates. The smallest won, at which nothing new is learned in
so few, and some best rates stood at an edge. So the searches were given all the steps and let go on past the edges, the
written character joined the other ways, and all was run anew.

Judged on reviews and by their first 64 characters: perplexity told the right label, the wrong one and none (the two
likelihoods mixed, which is exact); the label that the likelihoods tell; and, in what the model writes, how often the
wish is seen by a classifier which was trained on reviews that no language model saw. A wish between the two is the
condition interpolated.

Give the folder of sentiment.zip with --data. Each run is kept in `_build/sentiment` the moment it ends;
`benchmarks/results/sentiment.json` is written when all are there. Three quarters of an hour of
one core without products in bfloat16.
"""

from __future__ import annotations

import argparse
import collections
import functools
import math
import statistics
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import _common
import torch
import torch.nn.functional as F
from compare_cascades import detectable
from torch import Tensor, nn

from gantext.norm import condition_all_norms, conditioned
from gantext.seq2seq import decoding
from gantext.seq2seq.transformer import Config, Transformer
from gantext.statistics import half_width

RUNS = _common.ROOT / "_build" / "sentiment"
SEEDS = range(3)
VOCABULARY, WIDTH, LAYERS, HEADS, CONDITION, LENGTH = 2500, 128, 2, 2, 32, 64
BATCH, BASE_STEPS, STEPS, WARM = 20, 2000, 250, 20
BASE_RATE = 3e-3
RATES = (1.5e-5, 5e-5, 1.5e-4, 5e-4, 1.5e-3, 5e-3, 1.5e-2)
OWN_RATES = (1e-4, 4e-4, 2e-3, 1e-2, 5e-2, 0.25, 1.25)  # of what a way adds: maps, vectors, labels' embeddings
CLASSIFIED = 4000  # training reviews for the classifier, hidden from the language models
POINTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # 0: bad, 1: good
DRAWN, BETWEEN, SHOWN, TEMPERATURE = 120, 40, 5, 0.8  # reviews written for a wish, for one between, and printed
LATE_STEPS, COOL = 2000, 0.5  # of one run more of all norms, and the temperature of what is shown of it
VALID = 400  # validation reviews that judge a rate
BLANK, START, AGAIN, END, UNKNOWN = range(5)  # AGAIN: a piece that goes on
NONE, ALL, HEAD, CODE, ADDED, PROMPT = METHODS = (
    "told nothing",
    "all norms",
    "last norm only",
    "code as first token",
    "vector added to every character",
    "a character written in front",
)
WISHES, WORDS = ("bad", "good"), ("差", "好")


class Reviews(NamedTuple):
    """Pieces (N, 2 + LENGTH) after a slot for the code and a start, padded by BLANK; and their labels (N,)."""

    tokens: Tensor
    labels: Tensor


class Data(NamedTuple):
    """Every part knows nothing of the others; `first` are the reviews' beginnings, which are what is judged."""

    characters: list[str]
    train: Reviews
    valid: Reviews
    test: Reviews
    known: list[tuple[str, int]]
    judge: list[tuple[str, int]]
    unseen: list[tuple[str, int]]
    sizes: dict[str, int]


def split(archive: Path) -> tuple[dict[str, list[tuple[str, int]]], dict[str, int]]:
    """Reviews by part, each once: what is in training is in no other part, what is in validation not in the test."""
    labels: dict[str, set[int]] = collections.defaultdict(set)
    raw: dict[str, list[str]] = {}
    with zipfile.ZipFile(archive) as opened:
        for part in ("train", "valid", "test"):
            lines = opened.read(f"sentiment/sentiment.{part}.data").decode("utf-8").split("\n")
            rows = [line.rpartition("\t") for line in lines if line.strip()]
            raw[part] = [text for text, _, _ in rows]
            for text, _, label in rows:
                labels[text].add(int(label))
    sizes = {f"{part}, as published": len(texts) for part, texts in raw.items()}
    sizes["test, also in train or valid"] = sum(text in {*raw["train"], *raw["valid"]} for text in raw["test"])
    sizes["with both labels"] = sum(len(found) > 1 for found in labels.values())
    parts: dict[str, list[tuple[str, int]]] = {}
    taken = {text for text, found in labels.items() if len(found) > 1}
    for part, texts in raw.items():
        fresh = [text for text in dict.fromkeys(texts) if text not in taken]
        taken |= set(fresh)
        parts[part] = [(text, min(labels[text])) for text in fresh]
    return parts, sizes


@functools.cache
def data(archive: Path) -> Data:
    parts, sizes = split(archive)
    order = torch.randperm(len(parts["train"]), generator=torch.Generator().manual_seed(0)).tolist()
    judge = [parts["train"][k] for k in order[:CLASSIFIED]]
    known = [parts["train"][k] for k in order[CLASSIFIED:]]
    count = collections.Counter(character for text, _ in known for character in text)
    characters = ["", "", "", "", "□", *(c for c, _ in count.most_common(VOCABULARY - 5))]
    number = {c: k for k, c in enumerate(characters) if k > UNKNOWN}

    def pieces(reviews: list[tuple[str, int]], first: bool) -> Reviews:
        rows, labels = [], []
        for text, label in reviews:
            ids = [*(number.get(c, UNKNOWN) for c in text), END]
            for i in range(0, LENGTH if first else len(ids), LENGTH):
                piece = ids[i : i + LENGTH]
                rows.append([BLANK, AGAIN if i else START, *piece, *[BLANK] * (LENGTH - len(piece))])
                labels.append(label)
        return Reviews(torch.tensor(rows), torch.tensor(labels))

    sizes |= {"language models": len(known), "classifier": len(judge)}
    parts["valid"] = parts["valid"][:VALID]
    sizes |= {"validation": len(parts["valid"]), "test": len(parts["test"])}
    train = pieces(known, first=False)
    sizes["characters of training"] = int((train.tokens[:, 2:] != BLANK).sum())
    return Data(
        characters,
        train,
        pieces(parts["valid"], first=True),
        pieces(parts["test"], first=True),
        known,
        judge,
        parts["test"],
        sizes,
    )


@functools.cache
def classifier(archive: Path) -> Any:
    """Logistic regression on one to three characters of the beginnings of reviews; and its accuracy on the test's."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
    judge = data(archive).judge
    model.fit([text[:LENGTH] for text, _ in judge], [label for _, label in judge])
    return model


def judged_good(archive: Path, texts: list[str]) -> Tensor:
    return torch.tensor(classifier(archive).predict(texts)).bool()


def language_model() -> Transformer:
    return Transformer(
        Config(
            VOCABULARY,
            width=WIDTH,
            layers=LAYERS,
            heads=HEADS,
            positions=2 + LENGTH,
            segments=0,
            norm="pre",
            activation="relu",
            causal=True,
        )
    )


class Told(nn.Module):
    """A language model with a wish; `wish` is its weight on the label 1, (N,) or a number: 0 bad, 1 good."""

    def __init__(self, method: str, net: Transformer, words: tuple[int, int]) -> None:
        super().__init__()
        self.method, self.net, self.words = method, net, words  # the numbers of the two WORDS
        if method == PROMPT:
            return
        self.classes = nn.Embedding(2, CONDITION if method in (ALL, HEAD) else WIDTH)
        with torch.no_grad():
            if method == ADDED:
                self.classes.weight.zero_()
            elif method == CODE:
                self.classes.weight.copy_(net.tokens.weight[BLANK].expand(2, -1))
            else:
                nn.init.normal_(self.classes.weight, std=CONDITION**-0.5)
        if method in (ALL, HEAD):
            condition_all_norms(net, CONDITION, select=None if method == ALL else lambda name: name == "norm")

    def condition(self, wish: Tensor | float) -> Tensor:
        """(N, C), or (C,) for a number."""
        bad, good = self.net.tokens.weight[list(self.words)] if self.method == PROMPT else self.classes.weight
        return torch.lerp(bad, good, wish[:, None] if isinstance(wish, Tensor) else wish)

    def within(self, wish: Tensor | float, call: Callable[[], Any]) -> Any:
        """What `call()` gives while the model is told the wish."""
        if self.method == NONE:
            return call()
        h = self.condition(wish)
        if self.method in (ALL, HEAD):
            with conditioned(self.net, h):
                return call()
        h = h if h.dim() == 1 else h[:, None]  # the same for every character

        def hook(module: nn.Module, given: tuple[Tensor], out: Tensor) -> Tensor:
            return out + h if self.method == ADDED else torch.where((given[0] == BLANK)[..., None], h, out)

        handle = self.net.tokens.register_forward_hook(hook)
        try:
            return call()
        finally:
            handle.remove()

    def forward(self, tokens: Tensor, wish: Tensor | float) -> tuple[Tensor, Tensor]:
        """Nats of all targets of a batch, (M,), and the row of each, (M,)."""
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        real = targets != BLANK
        real[:, 0] = False  # the start is given
        # the padding too is BLANK, which a code would replace: no target sees it
        h = self.within(wish, lambda: self.net.hidden(inputs, 1))
        return F.cross_entropy(self.net.logits(h[real]).float(), targets[real], reduction="none"), real.nonzero()[:, 0]


def fit(told: Told, train: Reviews, steps: int, rate: float, own: float, seed: int) -> None:
    """AdamW, fifty steps of warm-up, then linear decay; where the CPU has it, products in bfloat16."""
    new = {name: p for name, p in told.named_parameters() if ".W_" in name or name == "classes.weight"}
    old = [p for name, p in told.named_parameters() if name not in new]
    added = [] if told.method == NONE else list(new.values())  # none for a written character either
    groups = [{"params": old, "lr": rate}, {"params": added, "lr": own}]
    rng = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        i = torch.randint(len(train.tokens), (BATCH,), generator=rng)
        return told(train.tokens[i], train.labels[i].float())[0].mean()

    _common.descend(torch.optim.AdamW([group for group in groups if group["params"]]), loss, steps, WARM)


@torch.no_grad()
def nats(told: Told, reviews: Reviews, wish: Tensor) -> Tensor:
    """Of each text, (N,)."""
    sums = torch.zeros(len(wish), dtype=torch.float64)
    for i in torch.arange(len(wish)).split(256):
        each, row = told(reviews.tokens[i], wish[i])
        sums[i] = sums[i].index_add(0, row, each.double())
    return sums


def lengths(reviews: Reviews) -> Tensor:
    return (reviews.tokens[:, 2:] != BLANK).sum(1)


@torch.no_grad()
def written(
    told: Told, characters: list[str], wish: float, count: int, seed: int, temperature: float = TEMPERATURE
) -> list[str]:
    """Reviews drawn from the model."""
    allow = torch.ones(VOCABULARY, dtype=torch.bool)
    allow[[BLANK, START, AGAIN, UNKNOWN]] = False
    rng = torch.Generator().manual_seed(seed)
    draw = lambda: decoding.sample(
        told.net,
        torch.tensor([[BLANK, START]]),
        separator=END,
        samples=count,
        steps=LENGTH,
        temperature=temperature,
        allow=allow,
        generator=rng,
    )
    answers = told.within(wish, draw)
    return [
        "".join(characters[k] for k in row[:n])
        for row, n in zip(answers.tokens[0].tolist(), answers.lengths[0].tolist(), strict=True)
    ]


def path(kind: str, *which: Any) -> Path:
    return RUNS / ("-".join("".join(c if c.isalnum() else "-" for c in str(w)) for w in (kind, *which)) + ".pt")


def words_of(parts: Data) -> tuple[int, int]:
    bad, good = map(parts.characters.index, WORDS)
    return bad, good


def model_of(method: str, seed: int, parts: Data) -> Told:
    """The trained model, with a way to tell it that is still to be learned."""
    net = language_model()
    net.load_state_dict(torch.load(path("base"))["state"])
    torch.manual_seed(seed)
    return Told(method, net, words_of(parts))


def ladder(method: str) -> tuple[float, ...]:
    return RATES if method == NONE else OWN_RATES


def searched(method: str) -> dict[float, float]:
    """Validation nats by rate, of those that were tried."""
    tried = {rate: path("search", method, rate) for rate in ladder(method)}
    return {rate: torch.load(file)["nats"] for rate, file in tried.items() if file.exists()}


def rate_of(method: str) -> float:
    """The best rate of what a way adds; that of the model's own weights for "told nothing", and it is everybody's."""
    found = searched(NONE if method == PROMPT else method)  # a written character adds nothing
    return min(found, key=lambda rate: found[rate])


def per_character(sums: Tensor, reviews: Reviews) -> float:
    return (sums.sum() / lengths(reviews).sum()).item()


def keep(archive: Path, kind: str, *which: Any) -> None:
    """One task: the first training, one rate of the search, or a model trained on and judged."""
    torch.set_num_threads(1)
    begin, parts = time.process_time(), data(archive)
    kept: dict[str, Any] = {}
    if kind == "base":
        torch.manual_seed(0)
        told = Told(NONE, language_model(), words_of(parts))
        counts = torch.bincount(parts.train.tokens[:, 2:].flatten(), minlength=VOCABULARY) + 1.0
        counts[BLANK] = 1.0  # the padding
        told.net.bias.data = (counts / counts.sum()).log()
        fit(told, parts.train, BASE_STEPS, BASE_RATE, 0.0, 0)
        valid = per_character(nats(told.eval(), parts.valid, parts.valid.labels.float()), parts.valid)
        kept = {"state": told.net.state_dict(), "nats": valid}
    elif kind == "search":
        method, rate = which
        told = model_of(method, 0, parts)
        fit(told, parts.train, STEPS, rate if method == NONE else rate_of(NONE), rate, 1000)
        kept = {"nats": per_character(nats(told.eval(), parts.valid, parts.valid.labels.float()), parts.valid)}
    else:
        method, seed = which
        told = model_of(method, seed, parts)
        fit(told, parts.train, LATE_STEPS if kind == "late" else STEPS, rate_of(NONE), rate_of(method), 100 + seed)
        kept = judged(told.eval(), archive, seed)
        if kind == "late":
            write = lambda wish: written(told, parts.characters, wish, SHOWN, seed, COOL)
            kept["samples"] = {name: write(float(wish)) for wish, name in enumerate(WISHES)}
    stamp = {key: value for key, value in _common.environment().items() if key in ("date", "device")}
    _common.store(path(kind, *which), {**kept, "seconds": time.process_time() - begin, **stamp})


def judged(told: Told, archive: Path, seed: int) -> dict[str, Any]:
    """Perplexity of reviews, and what the classifier sees in what is written; nats of each text, for pairs."""
    parts = data(archive)
    test, n = parts.test, lengths(parts.test)
    right = nats(told, test, test.labels.float())
    kept: dict[str, Any] = {"parameters": sum(p.numel() for p in told.net.parameters()), "texts": right, "lengths": n}
    kept["right"] = kept["none"] = (right.sum() / n.sum()).item()
    points = POINTS
    if told.method == NONE:
        points = (0.0,)
    else:
        wrong = nats(told, test, 1.0 - test.labels)
        mixed = math.log(2) - torch.logaddexp(-right, -wrong)
        kept["wrong"], kept["none"] = ((sums.sum() / n.sum()).item() for sums in (wrong, mixed))
        kept["guessed"] = (right < wrong).double().mean().item()
        kept["parameters"] += 0 if told.method == PROMPT else told.classes.weight.numel()
    ends = (0.0, 1.0)
    drawn = {t: written(told, parts.characters, t, DRAWN if t in ends else BETWEEN, 10 * seed + 7) for t in points}
    good = {t: judged_good(archive, texts) for t, texts in drawn.items()}
    kept["good"] = {t: int(seen.sum()) for t, seen in good.items()}
    kept["drawn"] = {t: len(texts) for t, texts in drawn.items()}
    if told.method == NONE:  # no wish: it is obeyed by chance
        kept["obeyed"] = 0.5
    else:
        kept["obeyed"] = statistics.fmean([(~good[0.0]).double().mean().item(), good[1.0].double().mean().item()])
    told_texts = [text for t in ends if t in drawn for text in drawn[t]]
    store = "\n".join(text for text, _ in parts.known)
    kept["copied"] = sum(len(text) >= 10 and text in store for text in told_texts) / len(told_texts)
    kept["different"] = len(set(told_texts)) / len(told_texts)
    kept["characters"] = statistics.fmean(map(len, told_texts))
    kept["samples"] = {WISHES[int(t)]: drawn[t][:SHOWN] for t in ends if t in drawn}
    if told.method == NONE:
        kept["samples"] = {"no wish": drawn[0.0][:SHOWN]}
    return kept


def comparisons(runs: list[dict[str, Any]], texts: dict[tuple[str, int], Tensor], total: float) -> list[dict[str, Any]]:
    """Paired by seed: nats and obedience of every pair that a sentence speaks of, each family corrected by Holm."""
    import scipy.stats

    seeds = sorted({run["seed"] for run in runs})
    of = lambda method, score: [
        run[score] for seed in seeds for run in runs if (run["method"], run["seed"]) == (method, seed)
    ]
    found: list[dict[str, Any]] = []
    pairs = [("right", m, NONE) for m in METHODS[1:]] + [("right", ALL, m) for m in METHODS[2:]]
    pairs += [(score, ALL, m) for score in ("guessed", "obeyed") for m in METHODS[2:]]
    for score, a, b in pairs:
        gaps = [x - y for x, y in zip(of(a, score), of(b, score), strict=True)]
        one: dict[str, Any] = {"score": score, "of": a, "minus": b, "mean": statistics.fmean(gaps), "n": len(gaps)}
        one["gaps"] = gaps
        if len(gaps) > 2:
            one["half width"] = half_width(gaps)
            spread = statistics.stdev(gaps)
            test = lambda gaps=gaps: float(cast(Any, scipy.stats.ttest_1samp(gaps, 0)).pvalue)
            one["p"] = test() if spread > 0 else float(not any(gaps))  # all alike: SciPy divides by zero
            one["detectable"] = detectable(len(gaps)) * spread
        if score == "right":  # the test's own sampling error: over its texts, of the seeds' mean
            each = torch.stack([texts[a, seed] - texts[b, seed] for seed in seeds]).mean(0)
            one["half width, texts"] = 1.96 * (each.std() * len(each) ** 0.5 / total).item()
        found.append(one)
    for score in ("right", "guessed", "obeyed"):
        _common.holm([one for one in found if one["score"] == score and "p" in one])
    return found


def spread(values: list[float], digits: int) -> str:
    """Mean and 95 % interval over seeds, with so many digits after the point."""
    half = half_width(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {half:.{digits}f}"


def tables(runs: list[dict[str, Any]], compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the chapter and the page of results."""
    body = []
    for method in METHODS:
        mine = [run for run in runs if run["method"] == method]
        columns = [[math.exp(run[score]) for run in mine if score in run] for score in ("right", "wrong", "none")]
        columns += [[100 * run[score] for run in mine if score in run] for score in ("guessed", "obeyed")]
        columns[-1] = [] if method == NONE else columns[-1]
        digits = (2, 2, 2, 1, 1)
        cells = [spread(column, k) if column else "–" for column, k in zip(columns, digits, strict=True)]
        body.append([method, *cells])
    seeds = len({run["seed"] for run in runs})
    head = ["the wish enters by", "perplexity, right label", "wrong label", "no label"]
    head += ["label guessed, %", "wish obeyed, %"]
    first = {"title": f"Reviews, {seeds} seeds: mean ± 95 % interval over seeds", "head": head, "rows": body}
    body = []
    for one in compared:
        unit, digits = (1, 5) if one["score"] == "right" else (100, 1)
        cell = lambda name, one=one, unit=unit, digits=digits: f"{unit * one[name]:.{digits}f}" if name in one else "–"
        mean = f"{unit * one['mean']:+.{digits}f}"
        score = "nats a character" if unit == 1 else f"{one['score']}, points"
        row = [score, one["of"], one["minus"], mean]
        row += [cell("half width"), cell("half width, texts")]
        row += [f"{one[name]:.2g}" if name in one else "–" for name in ("p", "holm")]
        body.append([*row, cell("detectable")])
    head = ["difference in", "of", "minus", "mean", "± seeds", "± texts", "p", "p after Holm", "found in 80 %"]
    return [first, {"title": "Paired differences", "head": head, "rows": body}]


def report(archive: Path, seeds: list[int]) -> None:
    """Put the runs together and write the result."""
    torch.set_num_threads(1)
    parts = data(archive)
    kept = {(method, seed): torch.load(path("told", method, seed)) for seed in seeds for method in METHODS}
    texts = {which: run["texts"] for which, run in kept.items()}
    n = lengths(parts.test)
    hidden = ("texts", "lengths", "seconds")
    public = lambda method, seed, run: (
        {"method": method, "seed": seed, "rate": rate_of(method)} | {k: v for k, v in run.items() if k not in hidden}
    )
    runs = [public(*which, run) for which, run in kept.items()]
    late = public(ALL, seeds[0], torch.load(path("late", ALL, seeds[0])))
    for run in [*runs, late]:  # JSON's keys are strings
        shown = {wish: judged_good(archive, drawn).tolist() for wish, drawn in run["samples"].items()}
        run["seen"] = {wish: [WISHES[good] for good in seen] for wish, seen in shown.items()}
        run["good"], run["drawn"] = ({str(t): c for t, c in run[key].items()} for key in ("good", "drawn"))
    compared = _common.rounded(comparisons(runs, texts, float(n.sum())))  # of all digits
    runs = _common.rounded(runs)  # before the tables: whoever computes them from the record gets the same digits
    real = [(text[:LENGTH], label) for text, label in parts.unseen]
    seen = judged_good(archive, [text for text, _ in real])
    truth = torch.tensor([label for _, label in real]).bool()
    accuracy = (seen == truth).double().mean().item()
    tries = [
        {"method": method, "rate": rate, "nats": n, "above the best": n - min(found.values())}
        for method, found in ((method, searched(method)) for method in METHODS[:-1])
        for rate, n in found.items()
    ]
    files = [path("base"), path("late", ALL, seeds[0]), *(path("told", *which) for which in kept)]
    files += [path("search", one["method"], one["rate"]) for one in tries]
    _common.write_json(
        "sentiment",
        {
            "schema": 1,
            "title": "Chinese reviews by wished sentiment",
            "chapter": "conditional-layer-norm",
            **_common.environment("scipy", "scikit-learn"),
            "command": "python benchmarks/compare_sentiment.py --data FOLDER",
            "rows": [],
            "tables": tables(runs, compared),
            "settings": {
                "vocabulary": VOCABULARY,
                "width": WIDTH,
                "layers": LAYERS,
                "characters": LENGTH,
                "condition": CONDITION,
                "batch": BATCH,
                "steps before": BASE_STEPS,
                "steps": STEPS,
                "rate before": BASE_RATE,
                "products": _common.products(),
                "temperature": TEMPERATURE,
                "seeds": seeds,
            },
            "sizes": {**parts.sizes, "characters of the test": int(n.sum())},
            "classifier": {
                "accuracy": accuracy,
                "half width": 1.96 * (accuracy * (1 - accuracy) / len(real)) ** 0.5,
                "bad seen": (~seen[~truth]).double().mean().item(),
                "good seen": seen[truth].double().mean().item(),
            },
            "ceiling": math.log(2) * len(n) / n.sum().item(),
            "before": torch.load(path("base"))["nats"],
            "search": tries,
            "runs": runs,
            "late": late | {"steps": LATE_STEPS, "temperature of samples": COOL},
            "comparisons": compared,
            "processor seconds": sum(torch.load(file)["seconds"] for file in files),
        },
    )


def main(folder: Path, seeds: list[int], jobs: int) -> None:
    archive = folder / "sentiment.zip"
    if not archive.exists():
        _common.not_run(
            f"{archive} is not there.",
            "It is examples/datasets/sentiment.zip of github.com/bojone/bert4keras; give its folder with --data.",
        )
    call = functools.partial(keep, archive)
    _common.sweep(call, [("base",)], path, jobs)
    for ways in ([NONE], METHODS[1:-1]):  # the rate of the weights first: the others' searches use it
        search = lambda ways=ways: [
            ("search", way, rate)
            for way in ways
            if (rate := _common.next_rate(searched(way), ladder(way), ladder(way)[2:5])) is not None
        ]
        while tasks := search():
            _common.sweep(call, tasks, path, jobs)
    _common.sweep(call, [("late", ALL, seeds[0])], path, jobs)
    for seed in seeds:
        _common.sweep(call, [("told", method, seed) for method in METHODS], path, jobs)
        report(archive, [s for s in seeds if s <= seed])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=_common.ROOT / "_build" / "data", help="with sentiment.zip")
    arguments.add_argument("--seeds", type=int, default=len(SEEDS))
    arguments.add_argument("--jobs", type=int, default=1, help="runs side by side")
    chosen = arguments.parse_args()
    main(chosen.data, list(range(chosen.seeds)), chosen.jobs)
