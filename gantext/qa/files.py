"""Questions from files of other people: SQuAD, CMRC 2018, WebQA and SogouQA, read piece by piece.

The chapter is `reading-comprehension`; what a record is stands in `gantext.qa.questions`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gantext.qa.questions import Passage, Record

__all__ = ["load"]


def load(path: str | os.PathLike[str], *, skipped: list[str] | None = None) -> Iterator[Record]:
    """The questions of a JSON file, one after the other; the file is never in memory as a whole.

    The layout is told from each element's keys. SQuAD 1 and 2, and what has their form: articles with `paragraphs` of
    a `context` and its `qas`; CMRC 2018's own: a `context_text` and `qas` of `query_text`; WebQA and SogouQA as the
    original experiment has them: a `question` and `passages`, each a `passage` and its `answer`, "" if it has none. The
    file is an array of elements, an object with such an array under "data", or an element a line (JSON Lines); UTF-8.

    Args:
        path: of the file.
        skipped: a list that gets the report of each malformed element, which is then passed over; None: raise.
    Yields:
        `gantext.qa.questions.Record`s. In WebQA and SogouQA blanks, enumeration commas, semicolons and commas of a
        passage are all commas, as in the original, so that the parts of an answer can stand there in one piece; in
        `answers` blanks still separate the parts.
    Raises:
        FileNotFoundError: no such file. TypeError: skipped is not a list.
        ValueError: what is malformed, with file and line. What is not JSON cannot be skipped, but for a line of JSON
            Lines.

    The commonest surprise: nothing is read before the first record is asked for, so errors come late.

    Example:
        >>> import tempfile
        >>> text = '[{"id": 1, "question": "q", "passages": [{"passage": "a b", "answer": "b"}]}]'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "sogou.json")
        ...     _ = file.write_text(text)
        ...     print(*load(file))
        Record(name='1', question='q', passages=(Passage(text='a,b', answer='b'),), answers=('b',))
    """
    if skipped is not None and not isinstance(skipped, list):
        raise TypeError(f"load: skipped is {type(skipped).__name__}, must be a list or None. Write skipped=[].")
    return _load(Path(path), skipped)


def _load(path: Path, skipped: list[str] | None) -> Iterator[Record]:
    for line, element in _elements(path, skipped):
        try:
            records = list(_records(element))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            _report(path, line, what, skipped)
        else:
            yield from records


def _report(path: Path, line: int, what: str, skipped: list[str] | None) -> None:
    message = f"{path}, line {line}: {what}"
    if skipped is None:
        raise ValueError(f"load: {message}, must be a record. Repair it, or collect such reports with skipped=[].")
    skipped.append(message)


_CHUNK = 1 << 16  # characters read at a time
_LINE = 1 << 20  # characters of a first line up to which the file may be one of JSON Lines


def _elements(path: Path, skipped: list[str] | None) -> Iterator[tuple[int, Any]]:
    """The elements of the array, or of the lines, each with the line in which it begins."""
    with path.open(encoding="utf-8-sig") as file:
        head = ""
        while not head.strip() and (more := file.readline(_LINE)):
            head += more
        start = head.lstrip()[:1]
        if start == "{" and _is_json(head):  # an element a line
            file.seek(0)
            for line, text in enumerate(file, start=1):
                if text.strip():
                    try:
                        value = json.loads(text)
                    except json.JSONDecodeError as error:
                        _report(path, line, f"not JSON ({error.msg})", skipped)
                    else:
                        yield from ((line, element) for element in _data(value))
            return
        stream = _Stream(path, file, head)
        if start == "{":
            found = False
            for key in stream.members("{", "}"):
                stream.expect(":")
                if key == "data":
                    yield from stream.array()
                    found = True
                else:
                    stream.value()
            if not found:
                raise ValueError(f'load: {path}: no "data", must have an array of records under it. Take another file.')
        else:
            yield from stream.array()
        if stream.peek():
            stream.expect("the end")


def _data(value: Any) -> Iterator[Any]:
    """A file that is one line may be the whole object."""
    yield from value["data"] if isinstance(value, dict) and isinstance(value.get("data"), list) else [value]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


class _Stream:
    """JSON from a file by pieces: values of an array one at a time."""

    def __init__(self, path: Path, file: Any, text: str) -> None:
        self.path, self.file, self.text, self.at, self.line = path, file, text, 0, 1

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            rest = self.text[self.at :]
            blank = len(rest) - len(rest.lstrip())
            self.line += rest[:blank].count("\n")
            self.text, self.at = rest[blank:], 0
            if self.text or not self.more():
                return self.text[:1]

    def more(self) -> bool:
        piece = self.file.read(max(_CHUNK, len(self.text)))  # doubling, so that a long value is not parsed too often
        self.text += piece
        return bool(piece)

    def expect(self, *signs: str) -> str:
        if (found := self.peek()) not in signs or not found:
            raise ValueError(
                f"load: {self.path}, line {self.line}: {found or 'the end'!r}, must be {' or '.join(signs)}. "
                "The file is not JSON or is cut off; fetch it again."
            )
        self.at += 1
        return found

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.text)
                if end == len(self.text) and self.more():
                    continue  # a number may go on
            except json.JSONDecodeError as error:
                if self.more():
                    continue
                raise ValueError(
                    f"load: {self.path}, line {self.line + error.lineno - 1}: not JSON ({error.msg}), must be. "
                    "The file is damaged or cut off; fetch it again."
                ) from error
            self.line += self.text.count("\n", 0, end)
            self.text = self.text[end:]
            return value

    def members(self, opening: str, closing: str) -> Iterator[Any]:
        self.expect(opening)
        if self.peek() == closing:
            self.at += 1
            return
        while True:
            yield self.value()
            if self.expect(",", closing) == closing:
                return

    def array(self) -> Iterator[tuple[int, Any]]:
        self.expect("[")
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.peek()
            line = self.line
            yield line, self.value()
            if self.expect(",", "]") == "]":
                return


def _records(element: Any) -> Iterator[Record]:
    if not isinstance(element, dict):
        raise TypeError(f"{type(element).__name__} in place of an object")
    if "paragraphs" in element:
        for paragraph in element["paragraphs"]:
            text = _text(paragraph, "context")
            for each in paragraph["qas"]:
                impossible = each.get("is_impossible", False)
                answers = () if impossible else tuple(_text(answer, "text") for answer in each["answers"])
                yield _one(_text(each, "id"), _text(each, "question"), text, answers)
    elif "context_text" in element:
        text = _text(element, "context_text")
        for each in element["qas"]:
            answers = tuple(_string("answers", answer) for answer in each["answers"])
            yield _one(_text(each, "query_id"), _text(each, "query_text"), text, answers)
    else:
        passages = []
        for each in element["passages"]:
            passages.append(
                Passage(re.sub("[ 、；，]", ",", _text(each, "passage")), _text(each, "answer", empty=True))
            )
        answers = tuple(dict.fromkeys(p.answer for p in passages if p.answer))
        passages = tuple(p._replace(answer=p.answer.replace(" ", ",")) for p in passages)
        yield Record(_text(element, "id"), _text(element, "question"), passages, answers)


def _one(name: str, question: str, text: str, answers: tuple[str, ...]) -> Record:
    """A question about one passage, in which its answers stand."""
    if missing := [answer for answer in answers if answer not in text]:
        raise ValueError(f"question {name}: answer {missing[0]!r} does not stand in the passage")
    answers = tuple(dict.fromkeys(answers))
    return Record(name, question, (Passage(text, answers[0] if answers else ""),), answers)


def _text(place: Any, key: str, *, empty: bool = False) -> str:
    if not isinstance(place, dict):
        raise TypeError(f"{type(place).__name__} in place of an object with {key!r}")
    value = place[key]
    return _string(key, str(value) if isinstance(value, int) and key == "id" else value, empty=empty)


def _string(key: str, value: Any, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value.strip()):
        raise TypeError(f"{key!r} is {value!r}, not a text" + ("" if empty else " of at least one character"))
    return value
