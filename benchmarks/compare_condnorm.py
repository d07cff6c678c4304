"""Seven ways to tell a small language model the subject of what it writes, three seeds each, one loop and one budget.

Docstrings of 22 submodules in windows of 16 words, a fifth of the documents held out; the label is the submodule. A
causal Transformer of BERT's shape is told nothing; it is told the label through all its norms, through the last norm
alone, by a code in place of the start token, by a vector added to every word; it is trained without label, and then
only the maps of its conditional norms are; and it is told labels that were shuffled in training. Told nothing and told
through all norms once more with windows of 64 words, and once more with four times the steps. One rate for all, no
search.

Like the maps of the norms the added vector starts at zero: at its first step every model is the one told nothing. Once
more with the start that an embedding usually has, normal numbers, here of norm 1 beside words of norm .48.

Each run is kept in `_build/condnorm` the moment it ends, so that an interrupted sweep goes on where it stopped;
`benchmarks/results/conditions.json` is written when all are there. 25 minutes of one core.
"""

from __future__ import annotations

import argparse
import collections
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _common
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gantext import docstrings
from gantext.norm import condition_all_norms, conditioned
from gantext.seq2seq.transformer import Config, Transformer

RUNS = _common.ROOT / "_build" / "condnorm"
SEEDS = range(3)
VOCABULARY, WIDTH, LAYERS, HEADS, CONDITION = 2000, 64, 2, 4, 32
TOKENS, STEPS, MAPS_STEPS, LATE_STEPS, RATE, WARM = 1024, 500, 250, 2000, 5e-3, 20  # TOKENS: words of a batch
JUDGED = 1000  # windows whose label is guessed
NONE, ALL, HEAD, PREFIX, ADDED, LOUD, MAPS, SHUFFLED, LONG_NONE, LONG_ALL, LATE_NONE, LATE_ALL = METHODS = (
    "told nothing",
    "all norms",
    "last norm only",
    "code as first token",
    "vector added to every word",
    "vector added, started at norm 1",
    "trained model, maps of the norms only",
    "all norms, labels shuffled in training",
    "told nothing, 64 words",
    "all norms, 64 words",
    "told nothing, 2000 steps",
    "all norms, 2000 steps",
)
TITLE = "Nats a word, seed by seed: below 0 the first is better"
UNTOLD = (NONE, LONG_NONE, LATE_NONE)


class Windows(NamedTuple):
    """Windows (N, 1 + S), each after a start token 0, and their labels (N,)."""

    tokens: Tensor
    labels: Tensor


@functools.cache
def windows(length: int) -> tuple[Windows, Windows]:
    """Training and held-out windows; a word outside the vocabulary is 1. The split is by documents, always the same."""
    documents, labels = docstrings.topics()
    held = set(
        torch.randperm(len(documents), generator=torch.Generator().manual_seed(0))[: len(documents) // 5].tolist()
    )
    count = collections.Counter(word for k, text in enumerate(documents) if k not in held for word in text)
    number = {word: k + 2 for k, (word, _) in enumerate(count.most_common(VOCABULARY - 2))}
    parts: list[list[tuple[list[int], int]]] = [[], []]
    for k, (text, label) in enumerate(zip(documents, labels, strict=True)):
        ids = [number.get(word, 1) for word in text]
        parts[k in held] += [([0, *ids[i : i + length]], label) for i in range(0, len(ids) - length + 1, length)]
    train, test = (Windows(torch.tensor([t for t, _ in part]), torch.tensor([y for _, y in part])) for part in parts)
    return train, test


def language_model(length: int, extra: int = 0) -> Transformer:
    """A causal Transformer of BERT's shape, six norms; its bias starts at the logarithms of the words' frequencies."""
    net = Transformer(
        Config(
            VOCABULARY + extra,
            width=WIDTH,
            layers=LAYERS,
            heads=HEADS,
            positions=length + 1,
            segments=0,
            norm="post",
            transform=True,
            causal=True,
        )
    )
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.06)
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    counts = torch.bincount(windows(length)[0].tokens[:, 1:].flatten(), minlength=VOCABULARY + extra) + 1.0
    net.bias.data = (counts / counts.sum()).log()
    return net


class Told(nn.Module):
    """A language model that is told a label: (N, 1 + S) tokens and (N,) labels to (N, S) nats."""

    def __init__(self, method: str, net: Transformer) -> None:
        super().__init__()
        self.method, self.net = method, net
        self.classes = nn.Embedding(len(docstrings.TOPICS), WIDTH if method in (ADDED, LOUD) else CONDITION)
        nn.init.normal_(self.classes.weight, std=0 if method == ADDED else self.classes.embedding_dim**-0.5)
        if method in (ALL, LONG_ALL, LATE_ALL, SHUFFLED, MAPS):
            condition_all_norms(net, CONDITION)
        if method == HEAD:
            condition_all_norms(net, CONDITION, select=lambda name: name == "transform_norm")

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        if self.method in UNTOLD:
            h = self.net.hidden(inputs, 1)
        elif self.method == PREFIX:
            h = self.net.hidden(torch.cat([VOCABULARY + labels[:, None], inputs[:, 1:]], 1), 1)
        elif self.method in (ADDED, LOUD):
            add = lambda module, given, out: out + self.classes(labels)[:, None]
            hook = self.net.tokens.register_forward_hook(add)
            h = self.net.hidden(inputs, 1)
            hook.remove()
        else:
            with conditioned(self.net, self.classes(labels)):
                return self.nats(self.net.hidden(inputs, 1), targets)
        return self.nats(h, targets)

    def nats(self, h: Tensor, targets: Tensor) -> Tensor:
        logits = self.net.logits(h)[..., :VOCABULARY]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def fit(told: Callable[..., Tensor], parameters: list[nn.Parameter], train: Windows, steps: int, seed: int) -> None:
    """AdamW, twenty steps of warm-up, then linear decay."""
    optimizer, rng = torch.optim.AdamW(parameters, RATE), torch.Generator().manual_seed(seed)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1, (k + 1) / WARM) * (1 - k / steps))
    batch = TOKENS // (train.tokens.shape[1] - 1)
    for _ in range(steps):
        i = torch.randint(len(train.tokens), (batch,), generator=rng)
        loss = told(train.tokens[i], train.labels[i]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()


@torch.no_grad()
def judged(told: Told, test: Windows, seed: int) -> dict[str, Any]:
    """Held-out nats a word: by position, with the right and with a wrong label; and the guesses of the label."""
    nats = lambda labels: torch.cat(
        [told(t, y) for t, y in zip(test.tokens.split(512), labels.split(512), strict=True)]
    )
    right, classes = nats(test.labels).double(), len(docstrings.TOPICS)
    record: dict[str, Any] = {"nats": right.mean().item(), "by position": right.mean(0).tolist()}
    if told.method in UNTOLD:
        return record
    rng = torch.Generator().manual_seed(1000 + seed)
    wrong = (test.labels + torch.randint(1, classes, test.labels.shape, generator=rng)) % classes
    some = torch.randperm(len(test.tokens), generator=rng)[:JUDGED]
    each = [told(test.tokens[some], torch.full((len(some),), c)).sum(1) for c in range(classes)]
    guess = torch.stack(each, 1).argmin(1)
    return record | {
        "wrong": nats(wrong).double().mean().item(),
        "accuracy": (guess == test.labels[some]).double().mean().item(),
    }


def path(method: str, seed: int) -> Path:
    return RUNS / f"{''.join(c if c.isalnum() else '-' for c in method)}-{seed}.pt"


def keep(method: str, seed: int) -> None:
    """Train and judge."""
    torch.set_num_threads(1)
    begin, length = time.process_time(), 64 if method in (LONG_NONE, LONG_ALL) else 16
    train, test = windows(length)
    torch.manual_seed(seed)
    net = language_model(length, len(docstrings.TOPICS) if method == PREFIX else 0)
    if method == MAPS:
        fit(Told(NONE, net), list(net.parameters()), train, STEPS, seed)
        net.requires_grad_(False)
    told = Told(method, net)
    if method == SHUFFLED:
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(2000 + seed))
        train = train._replace(labels=train.labels[order])
    unused = {told.classes.weight} if method in (*UNTOLD, PREFIX) else set()
    learned = [p for p in told.parameters() if p.requires_grad and p not in unused]
    steps = MAPS_STEPS if method == MAPS else LATE_STEPS if method in (LATE_NONE, LATE_ALL) else STEPS
    fit(told, learned, train, steps, seed)
    _common.store(
        path(method, seed),
        {
            "method": method,
            "seed": seed,
            "parameters": sum(p.numel() for p in learned),
            **judged(told.eval(), test, seed),
            "seconds": time.process_time() - begin,
            **{key: value for key, value in _common.environment().items() if key in ("date", "device")},
        },
    )


def tables(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results."""
    body = []
    for method in METHODS:
        mine = [run for run in runs if run["method"] == method]
        columns = [[run[name] for run in mine if name in run] for name in ("nats", "wrong", "accuracy")]
        cells = [_common.spread(column) if column else "–" for column in columns]
        body.append([method, f"{mine[0]['parameters']:,}", *cells])
    head = [
        "the label enters by",
        "trained parameters",
        "nats a word",
        "with a wrong label",
        "label guessed (chance 0.05)",
    ]
    title = f"Held-out docstrings, {STEPS} steps, {len(SEEDS)} seeds: mean ± 95 % interval"
    return [{"title": title, "head": head, "rows": body}, _common.paired_table(TITLE, compared(runs))]


def compared(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nats a word, seed by seed: every way of 16 words against "told nothing", the others against all norms."""
    of = lambda method: [run["nats"] for run in runs if run["method"] == method]
    ways = [way for way in METHODS[1:] if way not in (SHUFFLED, LONG_NONE, LONG_ALL, LATE_NONE, LATE_ALL)]
    pairs = [(way, NONE) for way in [*ways, SHUFFLED]] + [(way, ALL) for way in ways if way != ALL]
    pairs += [(LONG_ALL, LONG_NONE), (LATE_ALL, LATE_NONE)]
    found = _common.paired([[x - y for x, y in zip(of(a), of(b), strict=True)] for a, b in pairs])
    return [{"of": a, "minus": b} | one for (a, b), one in zip(pairs, found, strict=True)]


def report() -> None:
    """Put the runs together and write the result."""
    torch.set_num_threads(1)
    kept = [torch.load(path(method, seed)) for method in METHODS for seed in SEEDS]
    runs = _common.rounded(kept)  # before the tables: whoever computes them from the record gets the same digits
    bounds = {}
    for length in (16, 64):
        _, test = windows(length)
        share = torch.bincount(test.labels).double() / len(test.labels)
        bounds[str(length)] = -(share * share.log()).sum().item() / length
    _common.write_json(
        "conditions",
        {
            "schema": 1,
            "title": "A language model told its subject",
            "chapter": "conditional-layer-norm",
            "command": "python benchmarks/compare_condnorm.py",
            **_common.environment("scipy", "scikit-learn", "sympy"),
            "rows": [],
            "tables": tables(runs),
            "comparisons": compared(runs),
            "bounds": bounds,
            "runs": [{k: v for k, v in run.items() if k != "seconds"} for run in runs],
            "processor seconds": sum(run["seconds"] for run in runs),
        },
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=1, help="runs side by side")
    chosen = arguments.parse_args()
    _common.sweep(keep, [(method, seed) for seed in SEEDS for method in METHODS], path, chosen.jobs)
    report()
