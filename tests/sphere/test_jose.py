"""The estimator and its trainers: equal to the oracle, quality on planted topics, interrupts, files, and bad input."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from _launches import operations
from gensim.models import KeyedVectors
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn import base
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from gantext.kernels.sphere_cpu import MODE, Rows, merge, train
from gantext.sphere import training, vocabulary
from gantext.sphere.geometry import MODES, Mode, update_ref
from gantext.sphere.jose import JoSE
from gantext.sphere.processes import World

Text = list[list[str]]
ROOT = Path(__file__).resolve().parent.parent
every_mode = pytest.mark.parametrize("mode", MODES)


def planted(documents: int = 150, length: int = 60, topics: int = 10, seed: int = 0) -> tuple[Text, list[int]]:
    """Documents whose words are 40 % of their topic's own twelve, the others common to all (Zipf)."""
    rng = np.random.default_rng(seed)
    common = 1 / np.arange(1, 121)
    labels = [k % topics for k in range(documents)]
    text = []
    for label in labels:
        shared = rng.choice(120, length, p=common / common.sum())
        own = 120 + 12 * label + rng.integers(12, size=length)
        text.append([f"w{k}" for k in np.where(rng.random(length) < 0.4, own, shared)])
    return text, labels


TEXT, LABELS = planted()
SMALL: dict[str, Any] = {"dimension": 24, "window": 4, "min_count": 1, "epochs": 8, "sample": 0.01}


def quality(rows: NDArray[np.float32]) -> float:
    runs = [KMeans(10, random_state=k).fit_predict(rows) for k in range(3)]
    return float(np.mean([normalized_mutual_info_score(LABELS, run) for run in runs]))


def small(**changes: Any) -> JoSE:
    return JoSE(**(SMALL | changes))


def clone(model: JoSE) -> JoSE:
    return cast(JoSE, base.clone(model))


@cache
def fitted(mode: Mode = "plain", seed: int = 0) -> JoSE:
    return small(mode=mode, random_state=seed).fit(TEXT)


def tables(model: JoSE) -> list[NDArray[np.float32]]:
    return [model.word_vectors_, model.context_vectors_, model.document_vectors_]


def same(a: JoSE, b: JoSE) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(tables(a), tables(b), strict=True)) and a.history_ == b.history_


def assert_unit(*rows: NDArray[np.float32]) -> None:
    for table in rows:
        assert np.abs(np.linalg.norm(table.astype(np.float64), axis=1) - 1).max(initial=0) < 1e-6


# --- the compiled trainer against the oracle


class Splitmix:
    """The trainer's random numbers, in Python integers."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def __call__(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31


def literal_train(
    pieces: list[tuple[int, list[int]]],
    U: NDArray[Any],
    V: NDArray[Any],
    D: NDArray[Any],
    chances: training.Chances,
    window: int,
    negatives: int,
    mode: Mode,
    margin: float,
    rates: tuple[float, float],
    seed: int,
    frozen: bool,
) -> tuple[int, int]:
    """One pass of `update_ref`, in float64; returns tuples seen and active."""
    rng, seen, active = Splitmix(seed), 0, 0
    total, done = 1 + sum(len(ids) for _, ids in pieces), 0

    def update(u: int, v: int | None, d: int | None, n: int, rate: float) -> None:
        nonlocal seen, active
        old = (U[u].copy(), None if v is None else V[v].copy(), None if d is None else D[d].copy(), U[n].copy())
        given = tuple(None if x is None else torch.from_numpy(x) for x in old)
        new = update_ref(*cast(Any, given), rate=rate, margin=margin, mode=mode)
        seen += 1
        active += any(a is not None and not np.array_equal(a, cast(Any, b)) for a, b in zip(old, new, strict=True))
        for table, k, x in ((U, u, new[0]), (V, v, new[1]), (D, d, new[2]), (U, n, new[3])):
            if k is not None and x is not None and (not frozen or table is D):
                table[k] = x.numpy()

    def negative() -> int:
        z = rng()
        column = (z >> 32) * len(U) >> 32
        return column if z % 2**32 < chances.limit[column] else int(chances.alias[column])

    for owner, ids in pieces:
        if frozen:
            rng = Splitmix(seed)
        rate = rates[0] + (rates[1] - rates[0]) * done / total
        done += len(ids)
        kept = [k for k in ids if rng() >> 32 <= chances.keep[k]]
        for i, word in enumerate(kept):
            reach = 1 + ((rng() >> 32) * window >> 32)
            for j in range(max(0, i - reach), min(len(kept), i + reach + 1)):
                if j == i or (mode == "reference" and frozen):
                    continue
                for _ in range(negatives):
                    if (n := negative()) not in (kept[j], word):
                        update(kept[j], word, None if mode == "reference" else owner, n, rate)
            if mode == "reference":
                for _ in range(negatives):
                    if (n := negative()) != word:
                        update(word, None, owner, n, rate)
    return seen, active


@pytest.mark.parametrize(
    ("frozen", "hot"), [(False, 0), (False, 4), (False, 11), (True, 0)], ids=["training", "some", "all", "frozen"]
)
@every_mode
def test_compiled_pass_is_the_oracle_tuple_by_tuple(mode: Mode, frozen: bool, hot: int) -> None:
    rng = np.random.default_rng(3)
    words, p = 11, 13
    counts = np.array([40, 20, 10, 9, 8, 7, 6, 5, 4, 3, 2])
    chances = training.Chances.of(counts, 0.02)
    assert chances.keep.min() < 2**31 < chances.keep.max()
    lengths = [14, 1, 9, 14]
    ids = rng.integers(words, size=sum(lengths)).astype(np.int32)
    ids.flags.writeable = False
    starts, owners = np.cumsum([0, *lengths]), np.array([0, 1, 2, 2])
    unit = lambda n: (x := rng.standard_normal((n, p))) / np.linalg.norm(x, axis=1, keepdims=True)
    exact = [unit(words), unit(words), unit(4)]
    U, V, D = (t.astype(np.float32) for t in exact)
    before = U.copy()
    own, moves = (U[:hot].copy(), V[:hot].copy()), np.zeros((2, hot), np.int32)
    U[:hot] = V[:hot] = np.nan  # not looked at
    touched, order = np.zeros(4, np.bool_), np.array([2, 0, 1, 3])
    settings = (0.3, (0.2, 0.05), 12345)
    text = vocabulary.Tokens(ids, starts, owners, np.array([14, 1, 23]))
    numbers = (np.float32(0.3), np.float32(0.2), np.float32(0.05), np.uint64(12345))
    rows = Rows(U, V, D, *own, moves, touched)
    seen, active, loss = train(text, order, rows, chances, 3, 2, MODE[mode], *numbers, frozen)
    pieces = [(int(owners[k]), ids[starts[k] : starts[k + 1]].tolist()) for k in order]
    margin, rates, seed = settings
    U64, V64, D64 = exact
    want = literal_train(pieces, U64, V64, D64, chances, 3, 2, mode, margin, rates, seed, frozen)
    assert (seen, active) == want and 0.2 < active / seen < 0.95 and loss > 0
    assert np.isnan(U[:hot]).all() and np.isnan(V[:hot]).all()
    U[:hot], V[:hot] = own
    assert np.array_equal(moves[0] > 0, (before != U).any(1)[:hot])
    if hot == words:  # of a pair's hinge three rows move; of a document's, which reference has apart, two
        pairs = moves[1].sum()
        assert moves.sum() == 2 * active + pairs and (pairs < active if mode == "reference" else pairs == active)
    for ours, oracle in zip((U, V, D), exact, strict=True):
        np.testing.assert_allclose(ours, oracle, rtol=0, atol=2e-5)
    assert_unit(U, V, D)
    assert touched.tolist() == [True, touched[1], True, False]


def test_lengths_stay_one_where_rounding_would_grow() -> None:
    """A negative that points at its context, pushed again and again: unit lengths taken for granted would drift off."""
    model = JoSE(8, window=2, min_count=1, epochs=40, sample=0, negatives=10, margin=3.5, rate=0.5, mode="plain")
    assert_unit(*tables(model.fit([["a", "b", "c", "a", "d"]] * 200)))


# --- the corpus as numbers


def test_alias_table_draws_in_proportion_and_subsampling_keeps_rare_words() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 1000):
        weights = rng.exponential(size=n) ** 3
        limit, alias = vocabulary.alias_table(weights)
        share = np.minimum(1, (limit + 1.0) / 2**32)
        law = (share + np.bincount(alias, 1 - share, n)) / n
        np.testing.assert_allclose(law, weights / weights.sum(), atol=1e-8)
    keep = vocabulary.keep_chance(np.array([1000, 100, 1]), 1e-3)
    x = 1e-3 * 1101 / np.array([1000, 100, 1])
    np.testing.assert_allclose(keep, np.minimum(1, np.sqrt(x) + x))
    assert (vocabulary.keep_chance(np.array([5, 1]), 0) == 1).all()


def test_reading_counts_numbers_and_drops_rare_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_BLOCK", 7)
    monkeypatch.setattr(vocabulary, "PIECE", 5)
    text = [["b", "a", "rare", "a"], [], ["c"] * 12 + ["x" * 101, ""], ["once"], ["b", "c"]]
    words, counts, tokens = vocabulary.read("fit", iter(text), 2)
    assert words == ["c", "a", "b"] and counts.tolist() == [13, 2, 2]
    assert tokens.ids.tolist() == [2, 1, 1, *[0] * 12, 2, 0] and tokens.lengths.tolist() == [3, 0, 12, 0, 2]
    assert tokens.starts.tolist() == [0, 3, 8, 13, 15, 17] and tokens.owners.tolist() == [0, 2, 2, 2, 4]
    again = vocabulary.encode("f", text, {word: k for k, word in enumerate(words)})
    assert all(np.array_equal(a, b) for a, b in zip(tokens, again, strict=True))
    assert tokens.checksum() == again.checksum() != vocabulary.read("fit", text[::-1], 2)[2].checksum()
    for chunks in (1, 2, 3, 40):
        for rng in (None, np.random.default_rng(1)):
            parts = vocabulary.plan(tokens, chunks, rng)
            assert len(parts) == chunks and sorted(np.concatenate(parts)) == [0, 1, 2, 3, 4]
            homes = [set(tokens.owners[part]) for part in parts]
            assert sum(map(len, homes)) == 3  # no document in two parts
            together = [k for part in parts for k in part if k in (1, 2, 3)]
            assert together == [1, 2, 3]


def test_a_path_a_list_and_a_generator_are_one_corpus(tmp_path: Path) -> None:
    text = [["größe", "maß", "größe"], [], ["maß", "x" * 500, "größe"], ["数学", "maß"]]
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(" ".join(words) for words in text).encode())  # no last newline
    with pytest.warns(UserWarning, match="1 of 4 documents"):
        models = [small(epochs=1, sample=0).fit(corpus) for corpus in (path, str(path), text, (d for d in text))]
    assert models[0].vocabulary_ == ["größe", "maß", "数学"] and models[0].document_vectors_.shape == (4, 24)
    assert all(same(models[0], model) for model in models[1:])


# --- quality and reproducibility


@every_mode
def test_topics_are_found_and_far_from_chance(mode: Mode) -> None:
    model = fitted(mode)
    assert_unit(*tables(model))
    assert (
        quality(model.document_vectors_)
        > 0.8
        > 0.4
        > quality(training.begin(2, 150, model._done, torch.device("cpu")).D.numpy())
    )
    own = {
        word for text, label in zip(TEXT, LABELS, strict=True) if label == 3 for word in text if int(word[1:]) >= 120
    }
    near = [word for word, _ in model.most_similar("w160", 8)]
    assert len(own & set(near)) >= 6
    hits = [k for k, _ in model.search(["w156", "w157", "w158"], 12)]
    assert np.mean([LABELS[k] == 3 for k in hits]) > 0.8
    assert len(model.history_["loss"]) == len(model.history_["active"]) == 8


@pytest.mark.parametrize("mode", ["plain", "reference"])
def test_batches_reach_the_sequential_quality(mode: Mode) -> None:
    model = small(mode=mode, batch_size=4096, backend="reference").fit(TEXT)
    assert_unit(*tables(model))
    assert quality(model.document_vectors_) > quality(fitted(mode).document_vectors_) - 0.05
    assert model.history_["loss"][-1] == pytest.approx(fitted(mode).history_["loss"][-1], rel=0.15)


def test_batched_tuples_are_the_sequential_ones_in_law() -> None:
    """Counts of centre, context and negative words, and of tuples, against the rule of the compiled pass."""
    draw = lambda k: (30 * np.random.default_rng(k).random(60) ** 2).astype(int)
    words, counts, tokens = vocabulary.read("f", [[f"w{k}" for k in draw(s)] for s in range(40)], 1)
    resolved = training.Settings.of(small(window=4, negatives=3, sample=0.05).get_params())
    chances = training.Chances.of(counts, 0.05)
    (pieces,) = vocabulary.plan(tokens, 1)
    on = chances.on(torch.device("cpu"))
    sets = [training.tuples(tokens, on, resolved, pieces, torch.Generator().manual_seed(k))[0] for k in range(8)]
    keep = vocabulary.keep_chance(counts, 0.05)
    kept = (keep * counts).sum() / 40  # of a document
    pairs = 40 * sum(2 * (kept - gap) * (4 - gap + 1) / 4 for gap in range(1, 5))
    q, r = counts**0.75 / (counts**0.75).sum(), keep * counts / (keep * counts).sum()  # of negatives, of positions
    free = q * (1 - r) ** 2  # of negatives that are neither word of the pair
    n = sum(len(c) for c, *_ in sets) / 8
    assert n == pytest.approx(3 * pairs * free.sum(), rel=0.03)
    centre, negative, context, document = (torch.cat(column) for column in zip(*sets, strict=True))
    assert not ((negative == centre) | (negative == context)).any()
    share = lambda rows: np.bincount(rows, minlength=len(words)) / len(rows)
    np.testing.assert_allclose(share(negative), free / free.sum(), rtol=0.1)
    for rows in (centre, context):
        np.testing.assert_allclose(share(rows), r * (1 - q) / (r * (1 - q)).sum(), rtol=0.2)
    assert (document.diff() != 0).double().mean() > 0.9  # shuffled: no batch is one document's
    _, second = training.tuples(tokens, on, resolved._replace(mode="reference"), pieces, torch.Generator())
    assert len(second[0]) == pytest.approx(3 * 40 * kept * (1 - (q * r).sum()), rel=0.05)
    assert torch.equal(second[0], second[2])


@pytest.mark.parametrize("mode", ["paper", "reference"])
def test_a_recorded_batch_takes_two_copies_or_three(mode: Mode) -> None:
    """Of its tuples, hinge by hinge, and of the rate: on a GPU the rest is one launch, that of the recording."""
    _, counts, tokens = vocabulary.read("f", TEXT[:20], 1)
    pieces, hinges = np.arange(len(tokens.owners)), 1 + (mode == "reference")
    work: list[int] = []
    batches: list[int] = []
    for size in (20_000, 50):
        settings = training.Settings.of(small(batch_size=size, mode=mode).get_params())
        run = training.begin(len(counts), 20, settings, torch.device("cpu"))
        repeated: list[int] = []
        quiet = lambda step, repeated=repeated: lambda: repeated.append(1)
        recorded = training.Batches(run, settings, training.Chances.of(counts, 0.01), None, quiet)
        with operations() as seen:
            recorded.train(tokens, pieces, (0.1, 0.05), np.uint64(3))
        work.append(sum("select" not in name and "unbind" not in name for name in seen))
        batches.append(len(repeated))
    assert batches[0] == 1 and batches[1] > 50
    assert work[1] - work[0] <= (hinges + 1) * (batches[1] - 1) + 1
    assert work[0] < 140, "a chunk that is one batch"


def test_where_nothing_can_be_recorded_training_goes_on_batch_by_batch() -> None:
    def refuse(step: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    _, counts, tokens = vocabulary.read("f", [*TEXT[:20], ["w0"]], 1)
    settings = training.Settings.of(small(batch_size=500).get_params())
    runs = [training.begin(len(counts), 21, settings, torch.device("cpu")) for _ in range(2)]
    chances = training.Chances.of(counts, 0.01)
    with pytest.warns(RuntimeWarning, match="fit: batches are launched one by one.*RuntimeError: operation not permi"):
        refused = training.Batches(runs[0], settings, chances, None, refuse)
    for batches in (refused, training.Batches(runs[1], settings, chances, None)):
        batches.train(tokens, np.arange(21), (0.1, 0.05), np.uint64(3))
    for name in ("U", "V", "D"):
        assert torch.equal(getattr(runs[0], name), getattr(runs[1], name))
    assert not torch.equal(runs[0].U, training.begin(len(counts), 21, settings, torch.device("cpu")).U)
    assert runs[0].touched.tolist() == runs[1].touched.tolist() == [True] * 20 + [False], "a word alone has no pair"


def test_a_graph_is_captured_after_two_steps_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls, where there is no GPU: what a capture records must have been compiled, and have its memory, before."""
    order: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            order.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            order.append("replay")

    @contextlib.contextmanager
    def within(what: Any, stream: Stream | None = None, capture_error_mode: str = "global") -> Iterator[None]:
        where = what.name if stream is None else f"graph on {stream.name}, {capture_error_mode}"
        order.append(f"into {where}")
        yield
        order.append(f"out of {where}")

    fakes = {"Stream": Stream, "stream": within, "graph": within, "CUDAGraph": Graph}
    for name, fake in (fakes | {"current_stream": lambda: Stream("main")}).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    training.captured(lambda: order.append("step"))()
    warm = ["side waits for main", "into side", "step", "step", "out of side", "main waits for side"]
    recorded = ["into graph on side, thread_local", "step", "out of graph on side, thread_local"]
    assert order == [*warm, *recorded, "replay"]


def test_no_batch_of_two_hinges_is_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where few words have neighbours, but all have a document."""
    sizes: list[int] = []
    update = training.batch_update
    monkeypatch.setattr(training, "batch_update", lambda b, **k: sizes.append(len(b.centre)) or update(b, **k))
    small(mode="reference", batch_size=30, sample=0, epochs=1).fit([[f"w{k % 20}"] for k in range(900)] + TEXT[:2])
    assert max(sizes) <= 30 < sum(sizes)


def test_one_thread_is_reproducible_to_the_bit_and_the_seed_matters() -> None:
    again = small(mode="plain").fit(TEXT)
    assert same(again, fitted()) and not same(fitted("plain", 1), again)
    batched = [small(batch_size=5000, epochs=1).fit(TEXT[:30]) for _ in range(2)]
    assert same(*batched)


def literal_tuples(
    tokens: vocabulary.Tokens, chances: training.Chances, window: int, negatives: int, pieces: Any, two: bool, seed: int
) -> list[tuple[torch.Tensor, ...]]:
    """A gap after the other, every draw where it is made."""
    rng = torch.Generator().manual_seed(seed)
    draw = lambda n: torch.rand(n, generator=rng, dtype=torch.float64)
    ids, owner, home = [], [], []
    for k in pieces:
        span = tokens.ids[tokens.starts[k] : tokens.starts[k + 1]].tolist()
        ids, owner, home = ids + span, owner + [tokens.owners[k]] * len(span), home + [k] * len(span)
    ids, owner, home = (torch.tensor(x, dtype=torch.int64) for x in (ids, owner, home))
    keep, limit, alias = (torch.from_numpy(x.astype(np.int64)) for x in chances)
    stay = draw(len(ids)) * 2**32 <= keep[ids]
    ids, owner, home = ids[stay], owner[stay], home[stay]
    reach = (draw(len(ids)) * window).long() + 1
    pairs: list[tuple[int, int]] = []
    for gap in range(1, min(window + 1, len(ids))):
        near = [k for k in range(len(ids) - gap) if home[k] == home[k + gap]]
        pairs += [(k, k + gap) for k in near if reach[k] >= gap]
        pairs += [(k + gap, k) for k in near if reach[k + gap] >= gap]
    found = []
    for cursor, word in ([*zip(*pairs, strict=True)] or [(), ()], (range(len(ids)),) * 2)[: 1 + two]:
        cursor, word = (torch.tensor(x, dtype=torch.int64).repeat_interleave(negatives) for x in (cursor, word))
        column = (draw(len(word)) * len(limit)).long()
        negative = torch.where(draw(len(word)) * 2**32 < limit[column], column, alias[column])
        stay = (negative != ids[word]) & ((negative != ids[cursor]) | torch.tensor(len(found) > 0))
        some = torch.arange(len(word))[stay][torch.randperm(int(stay.sum()), generator=rng)]
        found.append((ids[word[some]], negative[some], ids[cursor[some]], owner[cursor[some]]))
    return found


@pytest.mark.parametrize("mode", ["paper", "reference"])
def test_tuples_are_those_of_a_loop_over_gaps_and_read_the_device_rarely(mode: Mode) -> None:
    lengths = [(40, 3, 0, 25, 1), (1, 1), (30,), (2, 9, 1, 1, 14)]
    for k, (each, window, sample) in enumerate(itertools.product(lengths, (1, 5, 60), (0, 0.02, 1e-9))):
        draws = np.random.default_rng(k)
        text = [[f"w{int(12 * x**2)}" for x in draws.random(n)] for n in each]
        _, counts, tokens = vocabulary.read("f", text, 1)
        settings = training.Settings.of(small(window=window, negatives=3, sample=sample, mode=mode).get_params())
        chances = training.Chances.of(counts, sample)
        (pieces,) = vocabulary.plan(tokens, 1, draws)
        on = chances.on(torch.device("cpu"))
        for some in (pieces, pieces[:0]):
            with operations() as seen:
                found = training.tuples(tokens, on, settings, some, torch.Generator().manual_seed(k))
            wanted = literal_tuples(tokens, chances, window, 3, some, mode == "reference", k)
            assert len(found) == len(wanted) == 1 + (mode == "reference")
            for ours, theirs in zip(found, wanted, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
            reads = [name for name in seen if "nonzero" in name or "scalar" in name or "unique" in name]
            assert reads == ["aten.nonzero.default"] * (2 + len(found))  # as many numbers are drawn as are left
            assert len(seen) < 130


@pytest.mark.parametrize("hot", [0, 30, 2**13], ids=["no copies", "copies of some rows", "copies of all"])
@pytest.mark.parametrize("jobs", [2, 5])
def test_threads_lose_nothing(jobs: int, hot: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HOT", hot)
    models = [small(mode="plain", n_jobs=jobs).fit(TEXT) for _ in range(3)]  # unlike each other where threads race
    model, again, _ = models
    assert_unit(*tables(model))
    alone = [quality(fitted(seed=seed).document_vectors_) for seed in range(3)]  # 0.94 to 0.98, by seed
    assert np.median([quality(each.document_vectors_) for each in models]) > min(alone) - 0.05
    assert model.history_["loss"][-1] < 1.1 * fitted().history_["loss"][-1]
    if hot > len(model.vocabulary_):  # then nothing is shared that is written
        assert same(model, again) and not same(model, fitted())


def test_more_threads_than_documents() -> None:
    few = small(mode="plain", n_jobs=16).fit(TEXT[:3])
    assert_unit(*tables(few))
    assert np.array_equal(small(n_jobs=3).fit(TEXT).transform(TEXT[:5]).shape, (5, 24))


def test_copies_of_a_row_come_together_as_their_moves_say() -> None:
    rng = np.random.default_rng(0)
    unit = lambda *shape: (x := rng.standard_normal(shape)) / np.linalg.norm(x, axis=-1, keepdims=True)
    start, moved = unit(6, 4), unit(3, 6, 4)
    moves = np.array([[0, 3, 1, 1, 900, 7], [0, 0, 1, 0, 500, 2], [0, 0, 1, 5, 700, 0]], np.int32)
    moved = np.where(moves[..., None] > 0, moved, start)
    U, V = unit(6, 4).astype(np.float32), start.astype(np.float32)
    still, counts = U.copy(), np.stack([0 * moves, moves], 1)
    copies = np.stack([np.stack([U] * 3), moved.astype(np.float32)])
    merge(U, V, copies, counts, 1e-6, 0, 4)  # tiny steps: ways are added
    merge(U, V, copies, counts, 0.05, 4, 6)
    g = lambda m: 1 - 0.95**m
    share = g(9) / (g(7) + g(2))
    sums = start + (moved - start).sum(0)
    want = [start[0], moved[0, 1], sums[2], sums[3], moved[:, 4].mean(0), start[5] + share * (sums[5] - start[5])]
    for k, row in enumerate(want):
        np.testing.assert_allclose(V[k], row / np.linalg.norm(row), atol=1e-5)
    assert (counts == 0).all() and np.array_equal(U, still)
    assert all(np.array_equal(copy, V) for copy in copies[1]) and all(np.array_equal(copy, U) for copy in copies[0])


def test_copies_follow_an_average_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []
    plain = training.Lanes.merge

    class Pair(World):
        def average(self, table: torch.Tensor) -> None:
            table.neg_()

        def collect(self, table: torch.Tensor, own: torch.Tensor) -> None:
            pass

        def sum(self, t: torch.Tensor) -> torch.Tensor:
            return t

    def merge(lanes: training.Lanes, *rest: Any) -> None:
        for i, table in enumerate(lanes.tables):
            for c, copy in enumerate(lanes.copies[i]):
                still = lanes.moves[c, i] == 0
                np.testing.assert_allclose(copy[still], table.numpy()[: len(copy)][still], rtol=0, atol=1e-6)
                checked.append(still.sum())
        plain(lanes, *rest)

    monkeypatch.setattr(training.World, "find", lambda: Pair(0, 2))
    monkeypatch.setattr(training.Lanes, "merge", merge)
    small(n_jobs=2, epochs=1, sync_every=1, negatives=1, min_count=2).fit(TEXT[:30])
    assert len(checked) == 4 * 8 and sum(checked) > 100


def test_each_epoch_has_its_own_order_and_every_chunk_its_own_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the topics the joint hinge forgets all but the last, so the order must be drawn, and anew."""
    orders: list[NDArray[np.int64]] = []
    seeds: list[int] = []
    inner = training.sequential

    def spy(*args: Any) -> Any:
        orders.append(args[5])
        seeds.append(int(args[7]))
        return inner(*args)

    monkeypatch.setattr(training, "sequential", spy)
    small(epochs=2).fit(TEXT)
    assert len(orders) == 16 and len(set(seeds)) == 16
    first, second = np.concatenate(orders[:8]), np.concatenate(orders[8:])
    assert sorted(first) == sorted(second) == list(range(150))
    for a, b in ((first, second), (first, np.arange(150)), (second, np.arange(150))):
        assert (a == b).mean() < 0.1


def test_the_rate_falls_within_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[Any] = []
    rates: list[float] = []
    inner, update = training.sequential, training.batch_update
    monkeypatch.setattr(training, "sequential", lambda *args: spans.append(args[6]) or inner(*args))
    monkeypatch.setattr(training, "batch_update", lambda *a, **how: rates.append(how["rate"]) or update(*a, **how))
    small(epochs=2, rate=0.5).fit(TEXT[:40])
    assert spans == [pytest.approx([0.5 * (1 - k / 16), max(0.5e-4, 0.5 * (1 - (k + 1) / 16))]) for k in range(16)]
    small(epochs=2, rate=0.5, batch_size=200).fit(TEXT[:40])
    assert len(rates) > 64 and all(a > b for a, b in itertools.pairwise(rates)) and rates[-1] > 0.5e-4


def test_start_rows_weigh_each_word_with_its_chance_to_be_kept() -> None:
    counts = np.array([900, 90, 10])
    tokens = vocabulary.encode("f", [["a", "b", "c", "a"], ["c"]], {"a": 0, "b": 1, "c": 2})
    run = training.begin(3, 2, training.Settings.of(small().get_params()), torch.device("cpu"))
    training.start_rows(run, tokens, counts, 1e-3, np.arange(2), torch.zeros(24))
    chance = np.sqrt(1e-3 * 1000 / counts) + 1e-3 * 1000 / counts  # 0.03, 0.12, 0.42
    rows = run.U.numpy().astype(np.float64)
    want = 2 * chance[0] * rows[0] + chance[1] * rows[1] + chance[2] * rows[2]
    np.testing.assert_allclose(run.D[0].numpy(), want / np.linalg.norm(want), atol=1e-6)
    np.testing.assert_allclose(run.D[1].numpy(), rows[2], atol=1e-6)
    plain = 2 * rows[0] + rows[1] + rows[2]
    assert np.abs(run.D[0].numpy() - plain / np.linalg.norm(plain)).max() > 0.05


# --- interrupt and resume


class Stop:
    """A callback that interrupts after some epochs: at once, or by the signal that Ctrl-C sends."""

    def __init__(self, after: int, send: bool) -> None:
        self.after, self.send = after, send

    def __call__(self, model: JoSE) -> None:
        if len(model.history_["loss"]) == self.after:
            if self.send:
                signal.raise_signal(signal.SIGINT)
            else:
                raise KeyboardInterrupt


@pytest.mark.parametrize("send", [False, True], ids=["between epochs", "within an epoch"])
def test_an_interrupted_run_is_usable_and_resumes_to_the_bit(tmp_path: Path, send: bool) -> None:
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "run.safetensors"
    model = small(mode="plain")
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXT, callbacks=[Stop(2, send)], checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is before
    assert_unit(*tables(model), model.transform(TEXT[:3]))
    assert model._run.position == (2 * 8 + 1 if send else 2 * 8) and not same(model, fitted())
    loaded = JoSE.load(path)
    assert same(loaded, model)
    for each in (model, loaded):
        each.fit(TEXT, resume=True)
        assert same(each, fitted())
    loaded.fit(TEXT, resume=True)  # complete: nothing is left to do
    assert same(loaded, fitted())
    with pytest.raises(ValueError, match="another corpus"):
        loaded.fit(TEXT[1:], resume=True)
    with pytest.raises(ValueError, match="another corpus"):
        loaded.fit([[f"v{word}" for word in words] for words in TEXT], resume=True)
    with pytest.raises(ValueError, match="another rate, epochs"):
        loaded.set_params(rate=0.1, epochs=9).fit(TEXT, resume=True)
    with pytest.raises(NotFittedError):
        small().fit(TEXT, resume=True)


def test_threads_with_copies_of_all_rows_resume_to_the_bit() -> None:
    whole, model = small(mode="plain", n_jobs=3).fit(TEXT), small(mode="plain", n_jobs=3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXT, callbacks=[Stop(2, True)])
    assert not same(model.fit(TEXT, resume=True), fitted()) and same(model, whole)


def test_fit_in_another_thread_leaves_signals_alone() -> None:
    found: list[JoSE] = []
    thread = threading.Thread(target=lambda: found.append(small(mode="plain").fit(TEXT)))
    thread.start()
    thread.join()
    assert same(found[0], fitted())


# --- files


def test_saved_models_come_back_whole_and_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = tmp_path / "m.safetensors", fitted()
    model.save(path)
    loaded = JoSE.load(path)
    assert same(loaded, model) and loaded.vocabulary_ == model.vocabulary_ and loaded.get_params() == model.get_params()
    assert np.array_equal(loaded.counts_, model.counts_)
    assert np.array_equal(loaded.transform(TEXT[:4]), model.transform(TEXT[:4]))
    assert b"pickle" not in path.read_bytes() and path.read_bytes()[8:9] == b"{"  # a safetensors header
    before = path.read_bytes()
    fail = lambda self, target: (_ for _ in ()).throw(OSError("disk full"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            fitted("paper").save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="damaged"):
        JoSE.load(path)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="format None"):
        JoSE.load(path)
    with pytest.raises(FileNotFoundError):
        JoSE.load(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")  # which would be waited for
    for load, error, text in (("pipe", ValueError, "is a pipe"), (".", IsADirectoryError, "is a folder")):
        with pytest.raises(error, match=f"^load: .* {text}"):
            JoSE.load(tmp_path / load)
    with pytest.raises(TypeError, match=r"^load: path is 3 \(int\), must be the path of a file"):
        JoSE.load(cast(Any, 3))


@pytest.mark.parametrize("name", ["save", "to_keyedvectors"])
def test_where_a_model_cannot_be_written(name: str, tmp_path: Path) -> None:
    write = getattr(fitted(), name)
    for path in (tmp_path, tmp_path / "no" / "file"):
        with pytest.raises(ValueError, match=rf"^{name}: path is {path}, must be a file in a folder that exists"):
            write(path)
    with pytest.raises(TypeError, match=rf"^{name}: path is None \(NoneType\), must be the path of a file"):
        write(None)


def drop(name: str) -> Any:
    return lambda tables, about: tables.pop(name)


def put(name: str, value: Any) -> Any:
    return lambda tables, about: tables.__setitem__(name, value(tables[name]).contiguous().clone())


def say(*path: Any, value: Any) -> Any:
    def change(tables: Any, about: Any) -> None:
        for name in path[:-1]:
            about = about[name]
        about[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *((drop(name), "lacks a part") for name in ("U", "V", "D", "counts", "touched", "about")),
        (put("about", lambda t: t[:-9]), "lacks a part or has another in its place"),
        (put("about", lambda t: t * 0 + 255), "lacks a part or has another in its place"),
        (put("U", lambda t: t[:2]), "has shapes that do not fit"),
        (put("U", lambda t: t[:, :2]), "has shapes that do not fit"),
        (put("V", lambda t: t[:, :2]), "has shapes that do not fit"),
        (put("D", lambda t: t[0]), "has shapes that do not fit"),
        (put("D", lambda t: t[:-1]), "has shapes that do not fit"),
        (put("U", lambda t: t.double()), "has tables that do not fit"),
        (put("D", lambda t: t / 0), "has tables that do not fit"),
        (put("counts", lambda t: t[:2]), "has counts that do not fit"),
        (put("counts", lambda t: t.float()), "has counts that do not fit"),
        (put("counts", lambda t: t * 0), "has counts that do not fit"),
        (put("touched", lambda t: t.int()), "has touched that do not fit"),
        (say("params", "nope", value=1), "has or lacks the parameters nope, must have JoSE's"),
        (say("params", value=[1]), "that do not fit|lacks a part"),
        (say("settings", "nope", value=1), "lacks a part"),
        (say("settings", "dimension", value=7), "has shapes that do not fit"),
        (say("settings", "mode", value="code"), "has settings that do not fit"),
        (say("settings", "seed", value="x"), "has settings that do not fit"),
        (say("vocabulary", value=["a"]), "that do not fit"),
        (say("vocabulary", 1, value="w0"), "that do not fit"),
        (say("vocabulary", 1, value=3), "has vocabulary that do not fit"),
        (say("vocabulary", value=None), "lacks a part"),
        (say("history", value={"loss": [0.5]}), "lacks a part"),
        (say("history", "loss", value=["x"]), "has history that do not fit"),
        (say("sums", value=[0.0]), "has history that do not fit"),
        (say("position", value=-1), "has position that do not fit"),
        (say("position", value="x"), "has position that do not fit"),
        (say("checksum", value=None), "has checksum that do not fit"),
    ],
)
def test_a_damaged_file_is_one_clear_error(damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    fitted().save(path)
    tables = load_file(path)
    about = json.loads(tables["about"].numpy().tobytes())
    before = json.dumps(about)
    damage(tables, about)
    if before != json.dumps(about):
        tables["about"] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    save_file(tables, path, {"format": "gantext.jose 1"})
    with pytest.raises(ValueError, match=f"^load: {path} .*({message})"):
        JoSE.load(path)


PACKED = gzip.compress(b"x" * 99, mtime=0)  # with a time, each worker would have a test of another name


@pytest.mark.parametrize("content", [b"", b"words", b"x" * 99, b"\x80\x02}q\x00.", bytes(8), PACKED])
def test_other_peoples_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ValueError, match=r"^load: .* is damaged or no safetensors file .* must be a file of JoSE.save"):
        JoSE.load(tmp_path / "m")
    save_file({"U": torch.zeros(2, 2)}, tmp_path / "m", {"format": "pt"})
    with pytest.raises(ValueError, match=r"has the format 'pt', must be a file of JoSE\.save"):
        JoSE.load(tmp_path / "m")


def test_gensim_reads_the_exported_vectors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    model = small(epochs=1, sample=0).fit([["größe", "数学", "😀", "maß"] * 3] * 4)
    model.to_keyedvectors(path)
    vectors = KeyedVectors.load_word2vec_format(str(path))
    assert vectors.index_to_key == model.vocabulary_
    assert np.array_equal(vectors.vectors, model.word_vectors_)
    (near, cosine), *_ = vectors.most_similar("größe", topn=1)
    assert model.most_similar("größe", 1) == [(near, pytest.approx(cosine, abs=1e-6))]
    for word in ("new york", "\ud800"):
        other = small(epochs=1, sample=0).fit([[word, "b", "c"]] * 3)
        other.save(tmp_path / "any")
        assert JoSE.load(tmp_path / "any").vocabulary_ == other.vocabulary_
        with pytest.raises(ValueError, match="which the format cannot hold"):
            other.to_keyedvectors(path)
    assert KeyedVectors.load_word2vec_format(str(path)).index_to_key == model.vocabulary_


# --- unseen documents


def test_transform_is_near_the_trained_rows_and_sees_each_document_alone() -> None:
    for mode in MODES:
        model = fitted(mode)
        rows = model.transform(TEXT)
        assert_unit(rows)
        assert quality(rows) > quality(model.document_vectors_) - 0.1
        assert (rows * model.document_vectors_).sum(1).mean() > 0.7
        assert np.array_equal(model.transform(TEXT[40:43]), rows[40:43])
        assert np.array_equal(model.transform([[*TEXT[7], "unknown"]]), rows[7:8])
    unseen, labels = planted(60, seed=9)
    model = fitted()
    nearest = (model.transform(unseen) @ model.document_vectors_.T).argmax(1)
    assert np.mean([LABELS[k] == label for k, label in zip(nearest, labels, strict=True)]) > 0.8


def test_a_document_without_known_words_is_the_mean_direction_and_says_so() -> None:
    model = fitted()
    with pytest.warns(UserWarning, match="2 of 3 documents have no known word"):
        rows = model.transform([[], ["unknown"], TEXT[0]])
    mean = model.document_vectors_.sum(0)
    np.testing.assert_allclose(rows[:2], np.stack([mean, mean]) / np.linalg.norm(mean), atol=1e-6)
    assert model.transform([]).shape == (0, 24)
    with pytest.warns(UserWarning, match="fit: 2 of 152"):
        model = small(mode="plain").fit([[], *TEXT, []])
    assert_unit(*tables(model))
    mean = model.document_vectors_[1:-1].sum(0)
    np.testing.assert_allclose(model.document_vectors_[[0, -1]], [mean / np.linalg.norm(mean)] * 2, atol=1e-6)


def test_documents_too_short_or_emptied_by_subsampling_get_the_direction_of_their_words() -> None:
    model = small(mode="paper").fit([*TEXT, ["w130"]])  # one word: no pair
    np.testing.assert_allclose(
        model.document_vectors_[-1], model.word_vectors_[model.vocabulary_.index("w130")], atol=1e-6
    )
    with pytest.warns(UserWarning, match="nothing was learned"):
        model = small(mode="paper", sample=1e-12).fit(TEXT)  # nothing is ever kept
    assert_unit(*tables(model))
    assert model.history_["loss"] == [0.0] * 8 and not model._run.touched.any()
    assert_unit(model.transform(TEXT[:4]))
    with pytest.warns(UserWarning, match="nothing was learned"):
        assert_unit(*tables(small(batch_size=64, sample=1e-12).fit(TEXT)))


def test_two_words_that_leave_no_negative_are_said_to_teach_nothing() -> None:
    for mode, batch_size in (("plain", None), ("paper", None), ("plain", 64)):
        with pytest.warns(UserWarning, match="no word is left to differ from both as a negative"):
            model = small(mode=mode, batch_size=batch_size, sample=0).fit([["a", "b"]] * 9)
        assert_unit(*tables(model))
    assert (
        small(mode="reference", sample=0).fit([["a", "b"]] * 9).history_["loss"][-1] > 0
    )  # documents have negatives there
    assert small(negatives=5, sample=0).fit([["a", "b", "c"]] * 9).history_["loss"][0] > 0


# --- bad input


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"margin": 0}, ValueError, "margin is 0"),
        ({"margin": 4.5}, ValueError, "margin is 4.5, must be in"),
        ({"margin": math.nan}, ValueError, "margin is nan"),
        ({"rate": -0.1}, ValueError, "rate is -0.1"),
        ({"rate": 1.5}, ValueError, "rate is 1.5"),
        ({"rate": "fast"}, TypeError, "rate is 'fast'"),
        ({"dimension": 1}, ValueError, "dimension is 1"),
        ({"window": 0}, ValueError, "window is 0"),
        ({"negatives": 0}, ValueError, "negatives is 0"),
        ({"epochs": 2.0}, TypeError, "epochs is 2.0"),
        ({"min_count": 0}, ValueError, "min_count is 0"),
        ({"sample": -1}, ValueError, "sample is -1"),
        ({"mode": "code"}, ValueError, "mode is 'code'"),
        ({"n_jobs": 0}, ValueError, "n_jobs is 0"),
        ({"n_jobs": -2}, ValueError, "n_jobs is -2"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"sync_every": 0}, ValueError, "sync_every is 0"),
        ({"random_state": -1}, ValueError, "random_state is -1"),
        ({"random_state": np.int64(-1)}, ValueError, "random_state is -1"),
        ({"window": 10**30}, ValueError, "window is 10+, must be below"),
        ({"batch_size": 2**31}, ValueError, "batch_size is 2147483648, must be below"),
        ({"window": np.int64(0)}, ValueError, "window is 0"),
        ({"window": np.float64(2)}, TypeError, r"window is np.float64\(2.0\)"),
        ({"window": True}, TypeError, "window is True"),
        ({"rate": np.float32("nan")}, ValueError, "rate is nan"),
        ({"random_state": "x"}, ValueError, "random_state is x, must be >= 0, a RandomState or None"),
        ({"random_state": np.random.default_rng(0)}, ValueError, "random_state is Generator"),
        ({"backend": "cuda"}, ValueError, "backend is 'cuda', must be one of None, reference, triton"),
        ({"device": None}, ValueError, "device is None, must be one of this machine"),
        ({"device": "meta"}, ValueError, "device is 'meta', must be one of this machine"),
        ({"device": "gpu"}, ValueError, "device is 'gpu', must be one of this machine"),
        ({"device": "cuda:77"}, ValueError, "device is 'cuda:77', must be one of this machine"),
        ({"min_count": 10**6}, ValueError, "vocabulary has 0 words"),
    ],
)
def test_settings_out_of_range_are_refused_in_words(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        small(**settings).fit(TEXT[:5])


@pytest.mark.parametrize(
    ("corpus", "error", "text"),
    [
        (["the cat sat"], TypeError, "document 0 is a str, must be a sequence of words. Split it"),
        ([["a", "b"], b"bytes"], TypeError, "document 1 is a bytes"),
        ([["a", 3]], TypeError, "document 0 has 3"),
        ([["a", "b"], math.nan], TypeError, r"document 1 is nan \(float\), must be a sequence of words"),
        ([["a", "b"], None, ["b"]], TypeError, r"document 1 is None \(NoneType\)"),
        ([7], TypeError, r"document 0 is 7 \(int\)"),
        ([["a", "b"], {"text": ["a", "b"]}], TypeError, r"document 1 is \{.*\} \(dict\), must be a sequence of words"),
        ([{"a", "b"}], TypeError, r"document 0 is \{.*\} \(set\), must be a sequence"),
        (np.zeros(3), TypeError, r"document 0 is np.float64\(0.0\)"),
        (7, TypeError, "corpus is int"),
        ([], ValueError, "vocabulary has 0 words"),
        ([[], []], ValueError, "vocabulary has 0 words"),
        ([["only"] * 9], ValueError, "vocabulary has 1 words"),
        ([["x" * 101, "y" * 101]], ValueError, "vocabulary has 0 words"),
    ],
)
def test_corpora_that_cannot_be_trained_on_are_refused_in_words(corpus: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        small().fit(corpus)


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"fine words here\nna\xefve\n")
    for call in (small().fit, fitted().transform):
        with pytest.raises(ValueError, match=r"line 2 of .*latin\.txt has the byte 0xef at column 3"):
            call(path)
    with pytest.raises(FileNotFoundError):
        small().fit(tmp_path / "none.txt")


@every_mode
def test_two_words_are_enough(mode: Mode) -> None:
    model = small(mode=mode, sample=0).fit([["a", "b", "a"]] * 5)
    assert_unit(*tables(model), model.transform([["a"], ["b", "b"]]))
    assert model.most_similar("a") == [
        ("b", pytest.approx(float(model.word_vectors_[0] @ model.word_vectors_[1]), abs=1e-6))
    ]


def test_questions_about_unknown_words_are_refused_in_words() -> None:
    model = fitted()
    for ask in (model.most_similar, model.search):
        with pytest.raises(ValueError, match=r"Not in vocabulary_: \['zebra'\]"):
            ask(["w1", "zebra"])
        with pytest.raises(ValueError, match="must be known"):
            ask([])
        with pytest.raises(ValueError, match="n is 0"):
            ask("w1", 0)
        for words in (3, None, [["w1"]], b"w1", ["w1", 3]):
            with pytest.raises(ValueError, match=r"words are .*, must be known ones"):
                ask(cast(Any, words))
    assert len(model.search("w1", 10**6)) == len(TEXT)
    cosines = [cosine for _, cosine in model.most_similar(["w1", "w2"], 10**6)]
    assert len(cosines) == len(model.vocabulary_) - 2 and cosines == sorted(cosines, reverse=True)


# --- scikit-learn's conventions


class Coded(JoSE):
    """JoSE on scikit-learn's own test data, which are matrices: each number becomes a word."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags

    def _words(self, X: Any, reset: bool) -> Text:
        X = validate_data(self, X, reset=reset)
        return [[f"{column}:{np.floor(x)}" for column, x in enumerate(row)] for row in X]

    def fit(self, X: Any, y: object = None) -> Coded:  # pyright: ignore[reportIncompatibleMethodOverride]  # scikit-learn's signature
        super().fit(self._words(X, True))
        return self

    def fit_transform(self, X: Any, y: object = None) -> NDArray[np.float32]:  # pyright: ignore[reportIncompatibleMethodOverride]  # scikit-learn's signature
        return self.fit(X).document_vectors_

    def transform(self, X: Any) -> NDArray[np.float32]:  # pyright: ignore[reportIncompatibleMethodOverride]  # scikit-learn's signature
        check_is_fitted(self, "word_vectors_")
        return super().transform(self._words(X, False))


DIFFERENT = "fit_transform gives the trained vectors, transform infers them anew with the words frozen, as documented"


@pytest.mark.filterwarnings("ignore")  # its data are tiny: hardly a word is known twice
@pytest.mark.parametrize("model", [JoSE(), Coded(4, min_count=1, epochs=2)], ids=["itself", "on numbers"])
def test_scikit_learns_estimator_checks(model: JoSE) -> None:
    failing: Any = dict.fromkeys(("check_transformer_general", "check_transformer_data_not_an_array"), DIFFERENT)
    results = check_estimator(model, expected_failed_checks=failing)
    passed = [result["check_name"] for result in results if result["status"] == "passed"]
    assert len(passed) >= (1 if type(model) is JoSE else 35) and {r["status"] for r in results} <= {
        "passed",
        "xfail",
        "skipped",
    }


NUMPY: dict[str, Any] = {
    "dimension": np.int64(8), "margin": np.float64(0.2), "rate": np.float32(0.03125), "window": np.int32(3),
    "negatives": np.uint8(3), "epochs": np.int16(2), "min_count": np.int64(1), "sample": np.float64(0.01),
    "n_jobs": np.int64(1), "random_state": np.int64(3), "sync_every": np.int8(2), "mode": np.str_("plain"),
    "progress": np.bool_(False),
}  # fmt: skip


@pytest.mark.parametrize("batch_size", [None, np.int64(300)])
def test_numpys_numbers_are_numbers(batch_size: Any, tmp_path: Path) -> None:
    given = NUMPY | {"batch_size": batch_size}
    plain: dict[str, Any] = {name: value if value is None else value.item() for name, value in given.items()}
    model, same_in_python = JoSE(**given).fit(TEXT[:40]), JoSE(**plain).fit(TEXT[:40])
    assert same(model, same_in_python) and np.array_equal(model.transform(TEXT[:3]), same_in_python.transform(TEXT[:3]))
    assert model.get_params()["window"] is given["window"] and clone(model).get_params() == model.get_params()
    model.save(tmp_path / "m")
    loaded = JoSE.load(tmp_path / "m")
    assert same(loaded, model) and loaded.get_params() == plain | {"device": "cpu", "backend": None}
    assert same(loaded.fit(TEXT[:40], resume=True), model)
    assert model.most_similar(model.vocabulary_[0], cast(Any, np.int64(2))) == model.most_similar(
        model.vocabulary_[0], 2
    )


def test_it_is_searched_over_as_scikit_learn_does() -> None:
    models = [
        JoSE(**SMALL | params)
        for params in ParameterGrid({"window": np.arange(2, 4), "rate": np.linspace(0.02, 0.04, 2)})
    ]
    assert len({model.fit(TEXT[:20]).history_["loss"][-1] for model in models}) == 4
    corpus = [["red", "green", "blue", "red"], ["one", "two", "three", "two"]] * 20
    pipe = make_pipeline(JoSE(8, mode="plain", epochs=3, sample=0), LogisticRegression())
    search = GridSearchCV(pipe, {"jose__window": np.arange(1, 3)}, cv=2, error_score=cast(Any, "raise")).fit(
        corpus, [0, 1] * 20
    )
    assert search.best_score_ == 1.0


@pytest.mark.parametrize("batch_size", [None, 300])
def test_the_default_dtype_changes_nothing(batch_size: int | None) -> None:
    before = small(epochs=2, batch_size=batch_size).fit(TEXT[:20])
    rows = before.transform(TEXT[:3])
    torch.set_default_dtype(torch.float64)
    try:
        after = small(epochs=2, batch_size=batch_size).fit(TEXT[:20])
        again = after.transform(TEXT[:3])
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(before, after) and again.dtype == np.float32 and np.array_equal(rows, again)


@pytest.mark.filterwarnings("ignore:fit. 1 of 21 documents:UserWarning")
@pytest.mark.parametrize("batch_size", [None, 300])
def test_autocast_changes_nothing(batch_size: int | None) -> None:
    before = small(epochs=2, batch_size=batch_size, min_count=3).fit([*TEXT[:20], ["rare"]])  # which has no known word
    rows = before.transform(TEXT[:3])
    with torch.autocast("cpu", torch.bfloat16):
        after = small(epochs=2, batch_size=batch_size, min_count=3).fit([*TEXT[:20], ["rare"]])
        again = after.transform(TEXT[:3])
    assert same(before, after) and np.array_equal(rows, again)


@pytest.mark.parametrize("batch_size", [None, 300])
def test_the_default_device_changes_nothing(batch_size: int | None, tmp_path: Path) -> None:
    before = small(epochs=2, batch_size=batch_size).fit(TEXT[:20])
    with torch.device("meta"):  # a stand-in for the GPU of `torch.set_default_device("cuda")`
        after = small(epochs=2, batch_size=batch_size).fit(TEXT[:20], checkpoint=tmp_path / "run")
        loaded = JoSE.load(tmp_path / "run")
        assert same(before, after) and same(before, loaded)
        assert np.array_equal(loaded.transform(TEXT[:3]), before.transform(TEXT[:3]))
    assert np.array_equal(before.transform(TEXT[:3]), after.transform(TEXT[:3]))


def test_transform_draws_nothing_from_the_users_generators() -> None:
    mine = np.random.RandomState(3)
    for random_state, generator in ((mine, mine), (None, np.random.mtrand._rand)):
        model = small(epochs=1, random_state=random_state).fit(TEXT[:20])
        before = generator.get_state()
        model.transform(TEXT[:3])
        assert str(generator.get_state()) == str(before)


def test_it_is_a_scikit_learn_estimator(tmp_path: Path) -> None:
    model = small(mode="plain")
    copy = clone(model)
    assert copy is not model and copy.get_params() == model.get_params() and copy.fit(TEXT) is copy
    assert set(vars(small())) == set(model.get_params())  # the constructor stores, and nothing else
    assert np.array_equal(clone(model).fit_transform(TEXT), copy.document_vectors_)
    for ask in (model.transform, model.search, model.most_similar, model.save, model.to_keyedvectors):
        with pytest.raises(NotFittedError):
            ask(cast(Any, "w1"))
    assert list(copy.get_feature_names_out()[:2]) == ["jose0", "jose1"]
    pipe = make_pipeline(clone(model), Normalizer()).fit(TEXT)
    np.testing.assert_allclose(pipe.transform(TEXT[:3]), copy.transform(TEXT[:3]), atol=1e-6)
    assert same(pickle.loads(pickle.dumps(copy)), copy)
    assert clone(model).set_params(random_state=np.random.RandomState(3)).fit(TEXT).seed_ >= 0
    assert clone(model).set_params(random_state=None, epochs=1).fit(TEXT).seed_ >= 0


def test_callbacks_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []
    small(progress=True, epochs=3).fit(TEXT[:20], callbacks=[lambda m: seen.append(len(m.history_["loss"]))])
    assert seen == [1, 2, 3] and "24/24" in capsys.readouterr().err
    with pytest.raises(TypeError, match="callbacks is"):
        small().fit(TEXT, callbacks=cast(Any, print))


# --- many processes

SCRIPT = """
import json, sys
import numpy as np, torch
from gantext.sphere.jose import JoSE
torch.set_num_threads(1)
folder, settings = sys.argv[1], json.loads(sys.argv[2])
model = JoSE(mode="plain", sync_every=2, **settings).fit(folder + "/corpus.txt", checkpoint=folder + "/c.safetensors")
process = torch.distributed.get_rank()
print(torch.distributed.get_backend_config())
vectors = [model.word_vectors_, model.context_vectors_, model.document_vectors_]
np.savez(f"{folder}/{process}.npz", *vectors, np.array(model.history_["loss"]))
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_two_processes_share_the_corpus_and_agree(tmp_path: Path, threads: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    (tmp_path / "corpus.txt").write_text("\n".join(" ".join(words) for words in TEXT))
    command = [*launch, str(tmp_path), json.dumps(SMALL | {"n_jobs": threads})]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)
    assert ran.returncode == 0 and ran.stdout.count("cpu:gloo") == 2, ran.stdout + ran.stderr[-3000:]
    ranks = [np.load(tmp_path / f"{k}.npz") for k in (0, 1)]
    for name in ranks[0].files:
        assert np.array_equal(ranks[0][name], ranks[1][name])  # every process ends with the same
    saved = JoSE.load(tmp_path / "c.safetensors")
    assert all(np.array_equal(x, ranks[0][f"arr_{k}"]) for k, x in enumerate(tables(saved)))
    alone = [quality(fitted("plain", seed).document_vectors_) for seed in range(4)]
    assert_unit(*(ranks[0][f"arr_{k}"] for k in range(3)))
    together = quality(ranks[0]["arr_2"])
    assert together > min(alone) - (max(alone) - min(alone))
    assert not np.array_equal(ranks[0]["arr_0"], fitted().word_vectors_)
