"""A corpus as numbers: words counted, documents streamed into an int32 file, negatives and subsampling as tables.

Nothing here holds the text: at any time one document of it is in memory.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gantext._files import opened

__all__ = ["LONGEST_WORD", "PIECE", "Corpus", "Tokens", "alias_table", "encode", "keep_chance", "plan", "read"]

Corpus = str | os.PathLike[str] | Iterable[Iterable[str]]
LONGEST_WORD = 100
"""Characters of the longest word; what is longer (an address, encoded data) is passed over like a rare word."""
PIECE = 10_000
"""Words of the longest piece that a document is trained in; pairs do not cross from one piece to the next."""
_BLOCK = 2**20  # words read back at a time


class Tokens(NamedTuple):
    """Documents as word numbers: piece i is ids[starts[i]:starts[i + 1]], a part of document owners[i].

    `ids` is a memory-mapped temporary file, which goes when the array goes; `lengths` has the known words of each
    document, 0 for one that has none (and no piece).
    """

    ids: NDArray[np.int32]  # (T,)
    starts: NDArray[np.int64]  # (pieces + 1,)
    owners: NDArray[np.int64]  # (pieces,)
    lengths: NDArray[np.int64]  # (documents,)

    def checksum(self) -> int:
        """A number that differs, but for one chance in 2^32, for any other text."""
        total = zlib.crc32(self.lengths.data)
        for at in range(0, len(self.ids), _BLOCK):
            total = zlib.crc32(self.ids[at : at + _BLOCK].data, total)
        return total


def read(name: str, corpus: Corpus, min_count: int) -> tuple[list[str], NDArray[np.int64], Tokens]:
    """Count the words of a corpus and number them, the most frequent first, in one pass over it.

    Args:
        name: of the caller, for its errors.
        corpus: documents, each a sequence of words, from any iterable; or the path of a UTF-8 text file, packed by gzip
            or not, one document a line, words between blanks. An empty line is an empty document.
        min_count: occurrences below which a word is not known.

    Returns:
        Words, their counts (V,), and the documents. Words of equal count stand in alphabetical order.

    Raises:
        TypeError: a document is a string (give a list of words), or no sequence; a word is none.
        ValueError: a line is not UTF-8; a pipe; damaged gzip. IsADirectoryError: a folder.

    Memory: 16 bytes a document, about 150 bytes a different word (before rare ones are dropped), one document, and
    a constant 16 MB. On disk, in `tempfile.gettempdir()`: 4 bytes a word of text, twice that while rare ones go.
    """
    numbers: dict[str, int] = {}
    raw, starts = _stream(name, corpus, lambda word: numbers.setdefault(word, len(numbers)))
    counts = np.zeros(len(numbers), np.int64)
    for at in range(0, len(raw), _BLOCK):
        counts += np.bincount(raw[at : at + _BLOCK], minlength=len(numbers))
    words = list(numbers)
    known = np.array(sorted(np.flatnonzero(counts >= min_count).tolist(), key=words.__getitem__), np.int64)
    known = known[np.argsort(-counts[known], kind="stable")]  # two sorts, for a pair a word takes memory
    final = np.full(len(words), -1, np.int32)
    final[known] = np.arange(len(known), dtype=np.int32)
    shifted, total = np.zeros_like(starts), 0
    with tempfile.TemporaryFile() as file:
        for at in range(0, len(raw), _BLOCK):
            ids = final[raw[at : at + _BLOCK]]
            stay = ids >= 0
            inside = slice(*np.searchsorted(starts, [at, at + len(ids)]))
            shifted[inside] = total + (np.cumsum(stay) - stay)[starts[inside] - at]
            total += int(stay.sum())
            ids[stay].tofile(file)
        ids = _mapped(file)
    shifted[starts == len(raw)] = total
    return [words[k] for k in known.tolist()], counts[known], _pieces(ids, shifted)


def encode(name: str, corpus: Corpus, numbers: Mapping[str, int]) -> Tokens:
    """Documents as numbers of known words; the others are passed over. Arguments, errors and memory as `read`."""
    return _pieces(*_stream(name, corpus, numbers.get))


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Walker's table: column k is drawn evenly, and stays k with chance limit[k] / 2^32, else becomes alias[k].

    Eight bytes an outcome and one random number a draw, whatever the weights (n,); ValueError unless they are finite,
    >= 0 and not all 0.

    Source: Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE TSE 17 (1991).

    >>> limit, alias = alias_table(np.array([3.0, 1.0]))
    >>> (limit / 2**32).round(2), alias[1]  # 1 keeps half of its column: a quarter in all
    (array([1. , 0.5]), np.int32(0))
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1 or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(f"alias_table: weights are {weights}, must be (n,), finite, >= 0 and not all 0. Count first.")
    share = (weights * (len(weights) / weights.sum())).tolist()  # mean 1
    limit, alias = np.full(len(share), 2**32 - 1, np.uint32), np.arange(len(share), dtype=np.int32)
    small = [k for k, s in enumerate(share) if s < 1]
    large = [k for k, s in enumerate(share) if s >= 1]
    while small and large:
        k, big = small.pop(), large[-1]
        limit[k], alias[k] = min(2**32 - 1, int(share[k] * 2**32)), big
        share[big] -= 1 - share[k]
        if share[big] < 1:
            small.append(large.pop())
    return limit, alias


def keep_chance(counts: NDArray[np.int64], sample: float) -> NDArray[np.float64]:
    """Chance of an occurrence to be kept, sqrt(s T / c) + s T / c but at most 1, for a word that is c of T words.

    counts are (V,) >= 1; s >= 0 is `sample`, and 0 keeps everything; ValueError if not.

    Source: the word2vec program (Mikolov et al. 2013; their paper has sqrt alone).
    """
    counts = np.asarray(counts)
    if not (counts >= 1).all() or not sample >= 0:
        raise ValueError(f"keep_chance: counts are {counts}, sample {sample}, must be >= 1 and >= 0. Use fewer words.")
    if sample == 0:
        return np.ones(len(counts))
    ratio = sample * counts.sum() / counts
    return np.minimum(1, np.sqrt(ratio) + ratio)


def _stream(
    name: str, corpus: Corpus, number: Callable[[str], int | None]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    starts = array("q", [0])
    with tempfile.TemporaryFile() as file:
        for k, document in enumerate(_documents(name, corpus)):
            if isinstance(document, str | bytes):
                raise TypeError(
                    f"{name}: document {k} is a {type(document).__name__}, must be a sequence of words. "
                    "Split it: corpus = [text.split() for text in corpus]."
                )
            if not isinstance(document, Iterable) or isinstance(document, Mapping | Set):  # words in no order
                raise TypeError(
                    f"{name}: document {k} is {document!r} ({type(document).__name__}), must be a sequence of words. "
                    "Give lists of words, and leave out what is missing."
                )
            ids = array("i")
            for word in document:
                if not isinstance(word, str):
                    raise TypeError(
                        f"{name}: document {k} has {word!r} ({type(word).__name__}), must be str. Convert it."
                    )
                if 0 < len(word) <= LONGEST_WORD and (found := number(word)) is not None:
                    ids.append(found)
            ids.tofile(file)
            starts.append(starts[-1] + len(ids))
        return _mapped(file), np.array(starts, np.int64)


def _documents(name: str, corpus: Corpus) -> Iterator[Iterable[str]]:
    if not isinstance(corpus, str | os.PathLike):
        if not isinstance(corpus, Iterable):
            raise TypeError(f"{name}: corpus is {type(corpus).__name__}, must be documents or a path. See `fit`.")
        yield from corpus
        return
    with opened(name, corpus) as file:
        for k, line in enumerate(file):
            try:
                zero = line.find(0)
                if zero >= 0:  # UTF-16 without its mark has one beside every letter, and would pass as UTF-8
                    raise UnicodeDecodeError("utf-8", line, zero, zero + 1, "not of a text")
                yield line.decode("utf-8-sig" if k == 0 else "utf-8").split()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name}: line {k + 1} of {corpus} has the byte 0x{line[error.start]:02x} at column "
                    f"{error.start + 1}, must be UTF-8. Convert the file, for instance with iconv."
                ) from error


def _mapped(file: BinaryIO) -> NDArray[np.int32]:
    file.flush()
    ids = np.asarray(np.memmap(file, np.int32, "r") if file.tell() else np.zeros(0, np.int32))  # outlives the file
    ids.flags.writeable = False  # one type for the compiler
    return ids


def _pieces(ids: NDArray[np.int32], starts: NDArray[np.int64]) -> Tokens:
    lengths = np.diff(starts)
    pieces = -(-lengths // PIECE)  # none for an empty document
    owners = np.repeat(np.arange(len(lengths)), pieces)
    nth = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return Tokens(ids, np.append(starts[owners] + nth * PIECE, len(ids)).astype(np.int64), owners, lengths)


def plan(tokens: Tokens, chunks: int, rng: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
    """So many lists of pieces, about equal in words and together all; no document is cut; in the order of `rng`.

    Lists may be empty.
    """
    pieces = np.bincount(tokens.owners, minlength=len(tokens.lengths))
    first = np.cumsum(pieces) - pieces
    documents = np.flatnonzero(pieces)
    if rng is not None:
        rng.shuffle(documents)
    pieces, first = pieces[documents], first[documents]
    ends = np.cumsum(pieces)
    order = np.repeat(first - ends + pieces, pieces) + np.arange(len(tokens.owners))
    words = np.cumsum(tokens.lengths[documents]) - tokens.lengths[documents]  # before each document
    cuts = np.searchsorted(words, np.arange(1, chunks) * (len(tokens.ids) / chunks))
    return np.split(order, np.append(0, ends)[cuts])
