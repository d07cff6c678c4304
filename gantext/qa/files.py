"""Questions from files of other people: SQuAD, CMRC 2018, WebQA and SogouQA, read piece by piece.

The chapter is `reading-comprehension`; what a record is stands in `gantext.qa.questions`, how JSON is read in
`gantext.qa.streaming`.
"""

from __future__ import annotations

import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gantext._files import readable
from gantext.qa.questions import Passage, Record
from gantext.qa.streaming import File, elements

__all__ = ["load"]


def load(
    path: str | os.PathLike[str], *, skipped: list[str] | None = None, encoding: str | None = None
) -> Iterator[Record]:
    """The questions of a JSON file, one after the other; the file is never in memory as a whole.

    The file is an array of elements, an object with such an array under "data", or an element a line (JSON Lines), as
    it is or packed by gzip. The layout is told from each element's keys: articles with `paragraphs` of a `context` and
    its `qas` (SQuAD 1 and 2); a `context_text` and `qas` of `query_text` (CMRC 2018); a `question` and `passages`, each
    a `passage` and its `answer`, "" if it has none (WebQA, SogouQA).

    Args:
        path: of the file.
        skipped: a list that gets the report of each malformed question, paragraph, element or line, which alone is then
            passed over; None: raise.
        encoding: of the text, as "gb18030"; None: UTF-8, or UTF-16 or UTF-32 if its first bytes say so.
    Yields:
        Records (`gantext.qa.questions.Record`), all texts in the normal form NFC. If a question has answers, one at
        least stands in the passage; the first that does is the passage's (with the passage's blanks, where they
        differ), and those that do not are accepted all the same, as by the data's own scores. In WebQA and SogouQA
        enumeration commas, semicolons and commas are all commas, in the passages blanks too; in `answers` blanks still
        separate the parts.
    Raises:
        FileNotFoundError, IsADirectoryError: no such file, a folder. ModuleNotFoundError: ijson is not installed.
        TypeError: skipped is not a list, path no path.
        ValueError: what is malformed, with file and line; no such encoding. What is not JSON, or not in the encoding,
            cannot be skipped, but for a line of JSON Lines.

    The commonest surprise: nothing is read before the first record is asked for, so errors come late.

    Example:
        >>> import tempfile
        >>> text = '[{"id": 1, "question": "q", "passages": [{"passage": "a b", "answer": "b"}]}]'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "sogou.json")
        ...     _ = file.write_text(text)
        ...     print(*load(file))
        Record(name='1', question='q', passages=(Passage(text='a,b', answer='b', start=None),), answers=('b',))
    """
    if skipped is not None and not isinstance(skipped, list):
        raise TypeError(f"load: skipped is {type(skipped).__name__}, must be a list or None. Write skipped=[].")
    if encoding is not None:
        try:
            "".encode(encoding)
        except (LookupError, TypeError, UnicodeError) as error:
            raise ValueError(f"load: encoding is {encoding!r} ({error}), must be one. Write 'gb18030'.") from error
    return _load(readable("load", path), skipped, encoding)


def _load(path: Path, skipped: list[str] | None, encoding: str | None) -> Iterator[Record]:
    file = File(path, skipped, encoding)
    for line, element in elements(file):
        for found in _records(element):
            if isinstance(found, Record):
                yield found
            else:
                file.report(line, found)


def _records(element: Any) -> Iterator[Record | str]:
    """The records of an element, and what is wrong where one is malformed."""
    if isinstance(element, ValueError):
        yield str(element)
    elif not isinstance(element, dict):
        yield f"{type(element).__name__} in place of an object"
    elif "paragraphs" in element:
        yield from _each(element, "paragraphs", lambda paragraph: _each(paragraph, "qas", _squad, paragraph))
    elif "context_text" in element:
        yield from _each(element, "qas", _cmrc, element)
    elif "passages" in element:
        yield from _guarded(_web, element)
    else:
        yield "no 'paragraphs', 'context_text' or 'passages'"


def _guarded(read: Callable[..., Iterator[Record | str]], *arguments: Any) -> Iterator[Record | str]:
    try:
        yield from read(*arguments)
    except (KeyError, TypeError, ValueError) as error:
        yield _what(error)


def _what(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


@contextmanager
def _question(name: str) -> Iterator[None]:
    """Errors say of which question."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"question {name}: {_what(error)}") from error


def _each(place: Any, key: str, read: Callable[..., Iterator[Record | str]], *more: Any) -> Iterator[Record | str]:
    """What is read from each item of a list."""

    def every() -> Iterator[Record | str]:
        for item in _list(place, key):
            yield from _guarded(read, item, *more)

    return _guarded(every)


def _squad(each: Any, paragraph: Any) -> Iterator[Record | str]:
    with _question(name := _name(each, "id")):
        impossible = each.get("is_impossible", False)
        if not isinstance(impossible, bool):
            raise TypeError(f"'is_impossible' is {reprlib.repr(impossible)}, not true or false")
        found = [] if impossible else [(_text(a, "text"), a.get("answer_start")) for a in _list(each, "answers")]
        record = _one(name, _text(each, "question"), paragraph, "context", found)
    yield record


def _cmrc(each: Any, element: Any) -> Iterator[Record | str]:
    with _question(name := _name(each, "query_id")):
        found = [(_string("answers", answer), None) for answer in _list(each, "answers")]
        record = _one(name, _text(each, "query_text"), element, "context_text", found)
    yield record


def _web(element: Any) -> Iterator[Record | str]:
    with _question(name := _name(element, "id")):
        read = [(_text(each, "passage"), _text(each, "answer", empty=True)) for each in _list(element, "passages")]
        if not read:
            raise ValueError("'passages' is empty")
        commas = lambda text: re.sub("[、；，]", ",", text)
        found = [(commas(text).replace(" ", ","), commas(answer.strip())) for text, answer in read]
        answers = tuple(dict.fromkeys(answer for _, answer in found if answer))
        passages = tuple(Passage(text, answer.replace(" ", ",")) for text, answer in found)
        record = Record(name, _text(element, "question"), passages, answers)
    yield record


def _one(name: str, question: str, place: Any, key: str, found: list[tuple[str, Any]]) -> Record:
    """A question about one passage, in which one of its answers stands."""
    text, raw = _text(place, key), place[key]
    accepted = tuple(dict.fromkeys(answer for answer, _ in found))
    for answer, start in found:
        if isinstance(start, int) and start >= 0:
            at = len(unicodedata.normalize("NFC", raw[:start]))
            if text.startswith(answer, at):
                return Record(name, question, (Passage(text, answer, at),), accepted)
        if stands := answer if answer in text else _blanks(text, answer):
            return Record(name, question, (Passage(text, stands),), accepted)
    if found:
        raise ValueError(f"answer {reprlib.repr(found[0][0])} does not stand in the passage")
    return Record(name, question, (Passage(text),), ())


def _blanks(text: str, answer: str) -> str:
    """The answer as it stands in the text with other blanks between its words, "" if it does not."""
    found = re.search(r"\s+".join(map(re.escape, answer.split())), text)
    return found[0] if found else ""


def _list(place: Any, key: str) -> list[Any]:
    value = _value(place, key)
    if not isinstance(value, list):
        raise TypeError(f"{key!r} is {reprlib.repr(value)}, not a list")
    return value


def _name(place: Any, key: str) -> str:
    value = _value(place, key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(key, value)


def _text(place: Any, key: str, *, empty: bool = False) -> str:
    return _string(key, _value(place, key), empty=empty)


def _value(place: Any, key: str) -> Any:
    if not isinstance(place, dict):
        raise TypeError(f"{type(place).__name__} in place of an object with {key!r}")
    return place[key]


def _string(key: str, value: Any, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value.strip()):
        raise TypeError(
            f"{key!r} is {reprlib.repr(value)}, not a text" + ("" if empty else " of at least one character")
        )
    value.encode()  # UnicodeEncodeError, a ValueError, for half of a surrogate pair, which no tokenizer takes
    return unicodedata.normalize("NFC", value)
