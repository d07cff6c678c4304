"""Questions about texts, made from the docstrings that are installed, and the score of an answer.

The chapter is `reading-comprehension`. Files of other people are read by `gantext.qa.files`; `gantext.qa.sources`
turns questions into tokens, `gantext.qa.reader` answers them.
"""

from __future__ import annotations

import random
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from gantext._checks import check_count
from gantext.docstrings import documents

__all__ = ["LABELS", "TOKEN", "Passage", "Record", "Score", "exact", "f1", "normalise", "parameters", "score"]

# Han with extensions and compatibility forms, the iteration mark and the zero that are written among them; and kana.
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_ALONE = f"{_HAN}\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_MARKS = "\u0300-\u036f"  # accents that stand alone in the normal form NFD
TOKEN = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w[{_MARKS}]*)+|[^\w\s]")
"""The tokens of `gantext.qa.sources.Words`, each a word, a Chinese character or kana, or a punctuation mark."""

LABELS = (
    *(f"numpy.{name}" for name in ("fft", "lib", "linalg", "ma", "polynomial")),
    *(f"scipy.{name}" for name in ("cluster", "fft", "integrate", "interpolate", "io", "linalg", "ndimage", "odr")),
    *(f"scipy.{name}" for name in ("optimize", "signal", "sparse", "spatial", "special", "stats")),
    *(f"sklearn.{name}" for name in ("cluster", "compose", "covariance", "datasets", "decomposition", "ensemble")),
    *(f"sklearn.{name}" for name in ("feature_extraction", "feature_selection", "gaussian_process", "impute")),
    *(f"sklearn.{name}" for name in ("inspection", "linear_model", "manifold", "metrics", "mixture", "naive_bayes")),
    *(f"sklearn.{name}" for name in ("model_selection", "neighbors", "neural_network", "preprocessing", "svm", "tree")),
    "sklearn.utils",
)
"""Submodules whose docstrings have *Parameters* sections in the style of numpydoc."""


class Passage(NamedTuple):
    """A text, and the answer in it; "" if the question cannot be answered from it.

    `start` is the character at which the answer begins, where that is known; else None, and it is looked for.
    """

    text: str
    answer: str = ""
    start: int | None = None


class Record(NamedTuple):
    """A question about several passages, with every accepted answer, the best first; none if it has no answer."""

    name: str
    question: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...]


def parameters(
    labels: Sequence[str] = LABELS, *, length: int = 48, passages: int = 4, longest: int = 14, seed: int = 0
) -> tuple[list[Record], list[Record]]:
    """Questions about the parameters of installed functions: what type has `axis`?

    The question is a parameter's name, the answer its type as the docstring states it. The first half of the passages
    are windows of that docstring's *Parameters* section in which the entry stands; of the others one is a window of the
    same section without it, if the section is long enough, the rest are from functions that have no such parameter (if
    there are none, it is not asked for).

    Args:
        labels: as `gantext.docstrings.documents`, whose errors are raised.
        length: tokens of a window at most, as `Words` counts them, >= 20.
        passages: of a question, >= 2.
        longest: tokens of an answer, >= 1 and at most length - 5; longer types are left out.
        seed: of the windows, and of the order of the passages.
    Returns:
        Records for training and for testing, about 5 to 1, split by function, so that no *Parameters*
        section is in both.

    The commonest surprise: `fft` and `ifft` say nearly the same, and answering by the name alone is right for 44 % of
    the test questions; a reader must be compared with that.

    Example:
        >>> train, test = parameters(["scipy.fft", "scipy.odr"])
        >>> len(train) > 4 * len(test) > 0
        True
        >>> [bool(p.answer) for p in sorted(test[0].passages, key=lambda p: not p.answer)]
        [True, True, False, False]
    """
    length = check_count("parameters", "length", length, 20)
    passages = check_count("parameters", "passages", passages, 2)
    longest = check_count("parameters", "longest", longest)
    seed = check_count("parameters", "seed", seed, 0)
    if longest > length - 5:
        raise ValueError(f"parameters: longest is {longest}, must be at most length - 5 = {length - 5}. Raise length.")
    sections: dict[str, _Section] = {}
    for document in documents(labels, shortest=1):
        lines = _lines(document.text)
        if lines and (text := "\n".join(lines)) not in sections:
            sections[text] = _section(document.name, text, lines)
    rng, split = random.Random(seed), ([], [])
    halves = [[s for s in sections.values() if s.test == half] for half in (False, True)]
    for section in sections.values():
        others = halves[section.test]
        for entry in section.entries:
            if not 0 < entry.end - entry.type <= longest or entry.type - entry.head > length - longest:
                continue
            chosen = _windows(section, entry, others, length, passages, rng)
            if not chosen:
                continue
            answer, at = section.cut(entry.type, entry.end), section.spans[entry.type][0]
            holds = (passages + 1) // 2
            found = [
                Passage(text, answer, at - begin) if k < holds else Passage(text)
                for k, (text, begin) in enumerate(chosen)
            ]
            rng.shuffle(found)
            split[section.test].append(Record(section.name, entry.name, tuple(found), (answer,)))
    return split


class _Entry(NamedTuple):
    name: str
    head: int  # token numbers: of the line, of the type, and of the end of the type; type = end if it is not known
    type: int
    end: int


class _Section(NamedTuple):
    name: str
    text: str
    spans: list[tuple[int, int]]
    entries: list[_Entry]
    test: bool

    def cut(self, start: int, end: int) -> str:
        """The text of these tokens as it stands."""
        return self.text[self.spans[start][0] : self.spans[end - 1][1]]


def _lines(text: str) -> list[str]:
    """The *Parameters* section of a docstring, without its heading and its indentation."""
    lines = text.splitlines()
    ruled = [k for k, line in enumerate(lines[1:]) if line.strip() and not line.strip().strip("-")]
    start = next((k for k in ruled if lines[k].strip() == "Parameters"), None)
    if start is None:
        return []
    end = next((k for k in ruled if k > start), len(lines))
    indent = len(lines[start]) - len(lines[start].lstrip())
    return [
        line[min(indent, len(line) - len(line.lstrip())) :].rstrip() for line in lines[start + 2 : end] if line.strip()
    ]


def _section(name: str, text: str, lines: list[str]) -> _Section:
    spans = [match.span() for match in TOKEN.finditer(text)]
    number, entries, at = {start: k for k, (start, _) in enumerate(spans)}, [], 0
    for line in lines:
        if found := re.match(r"(\*{0,2}\w+(?:, *\*{0,2}\w+)*) ?: ?(\S.*)", line):
            head, kind = number[at], number[at + found.start(2)]
            whole = not found[2].endswith((",", "\\"))  # else it goes on in the next line
            end = kind + len(TOKEN.findall(found[2])) if whole else kind
            entries += [_Entry(each.strip("* "), head, kind, end) for each in found[1].split(",")]
        at += len(line) + 1
    names = Counter(entry.name for entry in entries)
    entries = [entry if names[entry.name] == 1 else entry._replace(end=entry.type) for entry in entries]
    return _Section(name, text, spans, entries, zlib.crc32(text.encode()) % 6 == 0)


def _windows(
    section: _Section, entry: _Entry, others: list[_Section], length: int, passages: int, rng: random.Random
) -> list[tuple[str, int]]:
    """Texts with the entry, the first half, and without, and their places in the sections; [] if all have it."""
    last = len(section.spans)

    def window(chosen: _Section, low: int, high: int, stop: int) -> tuple[str, int]:
        start = rng.randint(low, max(low, high))
        return chosen.cut(start, min(start + length, stop)), chosen.spans[start][0]

    low = max(0, entry.end - length)
    found = [window(section, low, min(entry.head, max(low, last - length)), last) for _ in range((passages + 1) // 2)]
    heads = [e.head for e in section.entries if e.name == entry.name]  # a name may stand there twice
    free = [
        (a, b)
        for a, b in ((0, min(heads)), (max([*heads, entry.end]), last))
        if b - a >= length // 2 and len(heads) == 1
    ]
    if free:
        a, b = rng.choice(free)
        found.append(window(section, a, b - length, b))
    fits = lambda other: (
        other is not section and all(e.name != entry.name for e in other.entries) and len(other.spans) >= length // 4
    )
    if len(found) < passages and not any(map(fits, others)):
        return []
    while len(found) < passages:
        other = rng.choice(others)
        if fits(other):
            found.append(window(other, 0, len(other.spans) - length, len(other.spans)))
    return found


class Score(NamedTuple):
    """Means over the questions: exact matches, character F1, and the mean of both."""

    em: float
    f1: float

    @property
    def final(self) -> float:
        return (self.em + self.f1) / 2


def normalise(text: str) -> str:
    """Compatibility forms to plain ones (Unicode's NFKC), lower case, then punctuation marks and symbols to blanks.

    The commonest surprise: blanks still separate the parts of an answer here; scores are taken without them, and then
    "3.5" is "35", and "C++" is "C".

    >>> normalise("ＡＢ，c-1")
    'ab c 1'
    """
    kept, ignored = [], True
    for c in _plain(text):
        category = unicodedata.category(c)
        ignored = category in _IGNORED or (ignored and category[0] == "M")  # a mark goes with its sign
        kept.append(" " if ignored else c)
    return "".join(kept)


_IGNORED = {"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf"}


def exact(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is an accepted answer, or has the parts of the first in any order, else 0.

    Compared after `normalise`, without blanks; of a text that has nothing but signs, as "$" or "->", the signs are
    compared. If nothing is accepted, an empty prediction is right, or one of signs; else an empty one is wrong.
    TypeError unless prediction is a text and accepted a list of them.

    >>> exact("Array-like", ["array_like"]), exact("b, a", ["a b"]), exact("", ["a"]), exact("", []), exact("$", ["$"])
    (1.0, 1.0, 0.0, 1.0, 1.0)
    """
    _check("exact", prediction, accepted)
    if not accepted:
        return float(not normalise(prediction).split())
    parts = _parts(prediction)
    if not parts:
        return 0.0
    return float("".join(parts) in map(_bare, accepted) or sorted(parts) == sorted(_parts(accepted[0])))


def f1(prediction: str, accepted: Sequence[str]) -> float:
    """Overlap of the characters, counted with repetition: the largest 2 c / (a + b) over the accepted answers.

    a and b characters have the prediction and the answer after `normalise` without blanks, c both (equation
    `reading-comprehension:f1`). Empty ones, those of signs alone, and errors as in `exact`.

    >>> f1("float", ["floats"]), f1("stale", ["least"])
    (0.9090909090909091, 1.0)
    """
    _check("f1", prediction, accepted)
    if not accepted:
        return float(not normalise(prediction).split())
    if not (mine := _bare(prediction)):
        return 0.0
    common = ((Counter(mine) & Counter(_bare(a))).total() * 2 / (len(mine) + len(_bare(a))) for a in accepted)
    return max(common)


def score(predictions: Sequence[str], accepted: Sequence[Sequence[str]]) -> Score:
    """Both means over the questions; errors as in `exact`, and ValueError unless there are as many, and at least one.

    >>> score(["float", ""], [["float"], ["int"]]).final
    0.5
    """
    for argument, value in (("predictions", predictions), ("accepted", accepted)):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            rule = "must be a list with an entry for each question. Write it in brackets."
            raise TypeError(f"score: {argument} is {value!r} ({type(value).__name__}), {rule}")
    if not predictions or len(predictions) != len(accepted):
        found, rule = len(predictions), 'must be as many, not none. Answer "" where there is no answer.'
        raise ValueError(f"score: predictions has {found} entries for {len(accepted)} questions, {rule}")
    pairs = list(zip(predictions, accepted, strict=True))
    for pair in pairs:
        _check("score", *pair)
    return Score(fmean(exact(*pair) for pair in pairs), fmean(f1(*pair) for pair in pairs))


def _check(name: str, prediction: str, accepted: Sequence[str]) -> None:
    if not isinstance(prediction, str):
        raise TypeError(f'{name}: prediction is {prediction!r}, must be str. Answer "" where there is no answer.')
    if isinstance(accepted, str | bytes) or not isinstance(accepted, Sequence):
        raise TypeError(f"{name}: accepted is {accepted!r}, must be a list of texts. Write [{accepted!r}].")
    if odd := [a for a in accepted if not isinstance(a, str)]:
        raise TypeError(f"{name}: accepted has {odd[0]!r}, must be texts. Convert it.")


_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # between pictures of one and the same character


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", _SELECTORS.sub("", text)).lower())


def _parts(text: str) -> list[str]:
    return normalise(text).split() or _plain(text).split()


def _bare(text: str) -> str:
    return "".join(_parts(text))
