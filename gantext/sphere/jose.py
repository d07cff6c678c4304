"""Spherical text embedding (JoSE): words and documents as unit vectors, trained together, as a scikit-learn estimator.

The chapter is `jose`; one update is `gantext.sphere.geometry.update_ref`. On a CPU updates follow one another,
compiled by numba; on a GPU, or with `batch_size`, they are made in batches by `gantext.kernels.sphere.batch_update`.
Under `accelerate launch` or `torchrun` each process reads the corpus and trains on its share of it.
"""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from gantext._checks import check_count, no_autocast
from gantext._files import held, placed
from gantext.sphere import files, training
from gantext.sphere.geometry import Mode, projx
from gantext.sphere.processes import World
from gantext.sphere.training import Run, Settings
from gantext.sphere.vocabulary import Corpus, Tokens, encode, read

if TYPE_CHECKING:
    from sklearn.utils import Tags  # of scikit-learn 1.6 and later, which alone asks for them

__all__ = ["JoSE"]


class JoSE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Unit vectors of words and documents whose cosines tell what belongs together.

    Minimises `max(0, margin - <u, v> - <u, d> + <n, v> + <n, d>)` over all pairs of a centre word u and a context word
    v in a window of document d, with negative words n drawn in proportion to count^0.75, by steps on the sphere
    (`gantext.sphere.geometry.update_ref`).

    Args:
        dimension: p >= 2, width of every vector.
        mode: "paper": the published rule, steps scaled by 1 - cos(x, -gradient). "plain": Riemannian gradient steps,
            which the book finds better. "reference": as the program released with the paper.
        margin: in (0, 4); cosines differ by 4 at most in the joint hinge.
        rate: learning rate at the start, in (0, 1]; it falls linearly to 1e-4 of that.
        window: largest distance of a pair, in kept words; each position draws its own from 1 to `window`.
        negatives: negative words to a pair.
        epochs: passes over the corpus.
        min_count: occurrences below which a word is not known.
        sample: subsampling threshold of frequent words, >= 0; 0 keeps all.
        n_jobs: threads; -1 for every core, None for 1. Each has copies of the rows of the 8192 most frequent words,
            brought together between rounds (`gantext.sphere.training.Lanes`); rarer words race without locks.
        random_state: int, `numpy.random.RandomState` or None. With an int and the same number of threads and processes
            the result is the same to the last bit; with several threads, if there are at most 8192 known words.
        progress: show a bar.
        batch_size: None updates one tuple after another, on the CPU. A number sums the steps of so many tuples before
            it moves (then `n_jobs` is for `transform`); other devices take 16384 if None.
        device: where the tables are trained: "cpu", "cuda", ... backend: of `batch_update`.
        sync_every: under several processes, rounds (about 30,000 words in each) after which the word tables are
            averaged and put back on the sphere. So they are not as one process with all documents, by design: a batch
            moves few rows, and takes less time than to exchange tables after it. Nor has `accelerate launch` a say in
            precision or accumulation: no update is a backward pass.

    Attributes, after `fit`:
        `vocabulary_`: known words, the most frequent first. `counts_`: (V,) their counts.
        `word_vectors_`, `context_vectors_`: (V, p) float32 rows u and v. `document_vectors_`: (documents, p).
        `history_`: {"loss": mean hinge, "active": share of tuples with a loss, not in batches}, one number an epoch.

    Memory of `fit`: the tables, 4 p (2 V + documents) bytes; 200 bytes a different word and 40 bytes a document;
    the longest document; 64 MB; and 65,536 p bytes for each of several threads. The text is not kept: word numbers lie
    in a mapped temporary file of 4 bytes a word. Training in batches adds about 200 MB on its device.

    A document without a known word gets the direction of the sum of all documents, and a warning; one that was never
    trained, too short or emptied by subsampling throughout, that of its words' sum.

    The commonest surprise: `fit_transform` gives the vectors that were trained, `transform` infers them anew with the
    words frozen; they are close, not equal. And a corpus is lists of words, not strings.
    Source: Meng et al., "Spherical Text Embedding", NeurIPS 2019 (arXiv 1911.01196).

    >>> corpus = [["red", "green", "blue", "red"], ["one", "two", "three", "two"]] * 40
    >>> model = JoSE(dimension=8, mode="plain", epochs=20, sample=0).fit(corpus)
    >>> sorted(word for word, cosine in model.most_similar("red", 2))
    ['blue', 'green']
    >>> model.transform([["green", "blue"], ["two", "one"]]).shape
    (2, 8)
    """

    def __init__(
        self,
        dimension: int = 100,
        *,
        mode: Mode = "paper",
        margin: float = 0.15,
        rate: float = 0.04,
        window: int = 10,
        negatives: int = 2,
        epochs: int = 10,
        min_count: int = 5,
        sample: float = 1e-3,
        n_jobs: int | None = 1,
        random_state: int | np.random.RandomState | None = 0,
        progress: bool = False,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        backend: str | None = None,
        sync_every: int = 4,
    ) -> None:
        self.dimension = dimension
        self.mode: Mode = mode
        self.margin = margin
        self.rate = rate
        self.window = window
        self.negatives = negatives
        self.epochs = epochs
        self.min_count = min_count
        self.sample = sample
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.progress = progress
        self.batch_size = batch_size
        self.device = device
        self.backend = backend
        self.sync_every = sync_every

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = False, True  # lists of words
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []  # float32 always
        return tags

    def fit(
        self,
        corpus: Corpus,
        y: object = None,
        *,
        resume: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callable[[JoSE], object]] = (),
    ) -> JoSE:
        """Learn the vocabulary, then the vectors.

        Args:
            corpus: documents, each a sequence of words, from any iterable, a generator too; or the path of a UTF-8 text
                file, one document a line. Words of more than 100 characters are passed over. Read once.
            y: ignored.
            resume: go on where an interrupted `fit` of the same settings and corpus stopped, in this object or in the
                one that `load` gave, as if it had not been interrupted.
            checkpoint: file to `save` to after every epoch and on an interrupt; of one run at a time.
            callbacks: each is called with the estimator after every epoch; its vectors are the live ones.

        Returns:
            The estimator. An interrupt (Ctrl-C) lets the round end, saves, and leaves the vectors so far usable.

        Raises:
            TypeError, ValueError: a setting out of its range, a document that is no sequence of words, a line that is
                not UTF-8, a vocabulary of fewer than two words, `resume` with another corpus or other settings.
        """
        settings = Settings.of(self.get_params())
        device = training.place(self.device, there=True)
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise TypeError(f"fit: callbacks is {callbacks!r}, must be a sequence of functions. Put one in a list.")
        file = None if checkpoint is None else placed("fit", "checkpoint", checkpoint)
        if not World.find().main:
            file = None

        def keep() -> None:
            try:
                if file is not None:
                    self.save(file)
            except (OSError, ValueError) as error:  # ValueError: of a folder that is gone
                kept = "the last one is kept" if file and file.exists() else "there is none yet"
                raise OSError(
                    f"fit: checkpoint {file} cannot be written after {len(self.history_['loss'])} epochs ({error}); "
                    f"{kept}. Make room and fit with resume=True, or name a file elsewhere."
                ) from error

        with contextlib.nullcontext() if file is None else held("fit", file):
            words, counts, tokens = read("fit", corpus, self.min_count)
            if len(words) < 2:
                raise ValueError(
                    f"fit: the vocabulary has {len(words)} words of min_count {self.min_count}, must have at least 2: "
                    "a negative has to differ. Lower min_count or give more text."
                )
            checksum = zlib.crc32("\n".join(words).encode("utf-8", "surrogatepass"), tokens.checksum())
            if resume:
                settings, run = self._same(settings, checksum), self._run
                run.U, run.V, run.D = (t.to(device) for t in (run.U, run.V, run.D))
            else:
                run = training.begin(len(words), len(tokens.lengths), settings, device)
            self._take(words, counts, run, settings, checksum)

            def each_epoch() -> None:
                self._publish()
                keep()
                for callback in callbacks:
                    callback(self)

            try:
                training.train(
                    run, tokens, counts, settings, backend=self.backend, progress=self.progress, each_epoch=each_epoch
                )
            except KeyboardInterrupt:
                self._publish()
                if World.find().size == 1:
                    keep()
                raise
            if run.seen == 0:
                warnings.warn(
                    "fit: nothing was learned: subsampling left no pair of words, or no word is left to differ from "
                    "both as a negative. Give more text, lower min_count, or set sample=0.",
                    UserWarning,
                    stacklevel=2,
                )
            never = np.flatnonzero(~run.touched)
            with no_autocast(run.D.device):
                total = torch.from_numpy(run.touched).to(run.D) @ run.D
            self._start("fit", run, tokens, never, total)
            self._publish()
            keep()
            return self

    def fit_transform(self, X: Corpus, y: object = None, **fit_params: Any) -> NDArray[np.float32]:
        """The trained vectors of the documents, `document_vectors_`; arguments as `fit`."""
        return self.fit(X, y, **fit_params).document_vectors_

    def transform(self, corpus: Corpus) -> NDArray[np.float32]:
        """Unit vectors of unseen documents (documents, p): descent on each one's row, with all words frozen.

        It starts at the direction of the words' sum, takes `epochs` passes and draws from `seed_`: the same document
        always gets the same vector, whatever stands beside it. No documents give (0, p); a corpus is refused as by
        `fit`.
        """
        check_is_fitted(self, "word_vectors_")
        settings = Settings.of({**self.get_params(), "random_state": self.seed_})  # nothing is drawn from the user's
        tokens = encode("transform", corpus, self._numbers)
        U, V = torch.from_numpy(self.word_vectors_), torch.from_numpy(self.context_vectors_)
        n = len(tokens.lengths)
        run = Run(U, V, U.new_empty(n, U.shape[1]), np.zeros(n, np.bool_))
        total = torch.from_numpy(self.document_vectors_.sum(0))
        self._start("transform", run, tokens, np.arange(n), total)
        training.infer(run, tokens, self.counts_, settings)
        return run.D.numpy()

    def most_similar(self, word: str | Sequence[str], n: int = 10) -> list[tuple[str, float]]:
        """The words nearest to a word, or to the sum of several, with their cosines, itself left out.

        ValueError if one is not known.
        """
        query, given = self._query("most_similar", word, n)
        cosines = self.word_vectors_ @ query
        cosines[given] = -math.inf
        return [(self.vocabulary_[k], float(cosines[k])) for k in _largest(cosines, min(n, len(cosines) - len(given)))]

    def search(self, words: str | Sequence[str], n: int = 10) -> list[tuple[int, float]]:
        """The documents that fit some words best: their numbers, and cosines with the direction of the words' sum.

        A document's sum of <u, d> over the words orders them, the model's log-likelihood up to a constant. ValueError
        if a word is not known.
        """
        query, _ = self._query("search", words, n)
        cosines = self.document_vectors_ @ query
        return [(k, float(cosines[k])) for k in _largest(cosines, n)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, as a whole or not at all: settings, words, vectors, and where training stands."""
        check_is_fitted(self, "word_vectors_")
        path = placed("save", "path", path)
        params = {**self.get_params(), "random_state": self.seed_, "device": str(self.device)}
        about = {"settings": self._done._asdict(), "checksum": self._checksum, "vocabulary": self.vocabulary_}
        files.save(path, self._run, self.counts_, {"params": params, **about})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> JoSE:
        """The estimator of a file that `save` wrote: ready to `transform`, or to go on with `fit(corpus, resume=True)`.

        ValueError for another file or a damaged one.
        """
        run, counts, about = files.load(path)
        if foreign := about["params"].keys() ^ cls().get_params().keys():
            names = ", ".join(sorted(foreign))
            raise ValueError(f"load: {path} has or lacks the parameters {names}, must have JoSE's. Fit anew.")
        model = cls(**about["params"])
        model._take(about["vocabulary"], counts, run, about["settings"], about["checksum"])
        return model

    def to_keyedvectors(self, path: str | os.PathLike[str]) -> None:
        """Write the centre words' vectors as text that `gensim.models.KeyedVectors.load_word2vec_format` reads.

        A line "words p", then one line a word, nine digits, which is float32 without loss. UTF-8; replaced as a whole.
        ValueError for a word that contains a blank or cannot be written as UTF-8.
        """
        check_is_fitted(self, "word_vectors_")
        files.write_vectors(placed("to_keyedvectors", "path", path), self.vocabulary_, self.word_vectors_)

    def _take(self, words: list[str], counts: NDArray[np.int64], run: Run, settings: Settings, checksum: int) -> None:
        self.vocabulary_, self.counts_, self.seed_ = words, counts, settings.seed
        self._numbers = {word: k for k, word in enumerate(words)}
        self._run, self._done, self._checksum = run, settings, checksum
        self._publish()

    def _same(self, settings: Settings, checksum: int) -> Settings:
        """The settings to go on with; ValueError if they or the corpus differ from the interrupted run's."""
        check_is_fitted(self, "word_vectors_")
        if not isinstance(self.random_state, numbers.Integral):
            settings = settings._replace(seed=self._done.seed)
        different = [f for f in Settings._fields if getattr(settings, f) != getattr(self._done, f)]
        if different or checksum != self._checksum:
            what = ", ".join(different) or "corpus"
            raise ValueError(
                f"fit: resume is True with another {what}, must be the same. Fit anew, or restore what was changed."
            )
        return settings

    def _publish(self) -> None:
        run = self._run
        self.word_vectors_, self.context_vectors_, self.document_vectors_ = (
            t.cpu().numpy() for t in (run.U, run.V, run.D)
        )
        self.history_ = run.history
        self._n_features_out = run.U.shape[1]

    def _start(self, name: str, run: Run, tokens: Tokens, which: NDArray[np.intp], total: Tensor) -> None:
        if empty := int((tokens.lengths == 0).sum()):
            warnings.warn(
                f"{name}: {empty} of {len(tokens.lengths)} documents have no known word; their vector is the mean "
                "direction of the trained documents.",
                UserWarning,
                stacklevel=3,
            )
        training.start_rows(run, tokens, self.counts_, self.sample, which, projx(total))

    def _query(self, name: str, words: str | Sequence[str], n: int) -> tuple[NDArray[np.float32], list[int]]:
        check_is_fitted(self, "word_vectors_")
        n = check_count(name, "n", n)
        asked = list(words) if isinstance(words, Iterable) and not isinstance(words, str) else [words]
        unknown = [word for word in asked if not isinstance(word, str) or word not in self._numbers]
        if unknown or not asked:
            raise ValueError(f"{name}: words are {words!r}, must be known ones. Not in vocabulary_: {unknown}.")
        given = [self._numbers[word] for word in asked]
        return projx(torch.from_numpy(self.word_vectors_[given].sum(0))).numpy(), given


def _largest(values: NDArray[np.float32], n: int) -> list[int]:
    n = min(n, len(values))
    top = np.argpartition(-values, max(n - 1, 0))[:n]
    return top[np.lexsort((top, -values[top]))].tolist()
