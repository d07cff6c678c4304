"""Questions from files of other people: SQuAD, CMRC 2018, WebQA and SogouQA, read piece by piece.

The chapter is `reading-comprehension`; what a record is stands in `gantext.qa.questions`. JSON is parsed by `json` line
by line, or by ijson (of the extra `train`) where a file is one document.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from gantext._files import opened
from gantext.qa.questions import Passage, Record

__all__ = ["load"]


def load(
    path: str | os.PathLike[str], *, skipped: list[str] | None = None, encoding: str | None = None
) -> Iterator[Record]:
    """The questions of a JSON file, one after the other; the file is never in memory as a whole.

    The layout is told from each element's keys. SQuAD 1 and 2, and what has their form: articles with `paragraphs` of
    a `context` and its `qas`; CMRC 2018's own: a `context_text` and `qas` of `query_text`; WebQA and SogouQA as the
    original experiment has them: a `question` and `passages`, each a `passage` and its `answer`, "" if it has none. The
    file is an array of elements, an object with such an array under "data", or an element a line (JSON Lines), as it is
    or packed by gzip.

    Args:
        path: of the file.
        skipped: a list that gets the report of each malformed question, paragraph, element or line, which alone is then
            passed over; None: raise.
        encoding: of the text, as "gb18030"; None: UTF-8, or UTF-16 or UTF-32 if its first bytes say so.
    Yields:
        `gantext.qa.questions.Record`s, all texts in the normal form NFC. If a question has answers, one at least stands
        in the passage; the first that does is the passage's (with the passage's blanks, where they differ), and those
        that do not are accepted all the same, as by the data's own scores. In WebQA and SogouQA enumeration commas,
        semicolons and commas are all commas, in the passages blanks too, as in the original, so that the parts of an
        answer can stand there in one piece; in `answers` blanks still separate the parts.
    Raises:
        FileNotFoundError: no such file.
        IsADirectoryError: a folder.
        TypeError: skipped is not a list, path no path.
        ValueError: what is malformed, with file and line; no such encoding. What is not JSON, or not in the encoding,
            cannot be skipped, but for a line of JSON Lines.
        ModuleNotFoundError: ijson is not installed.

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
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"load: path is {path!r} ({type(path).__name__}), must be the path of a file. Write a str.")
    if encoding is not None:
        try:
            "".encode(encoding)
        except (LookupError, TypeError) as error:
            raise ValueError(f"load: encoding is {encoding!r} ({error}), must be one. Write 'gb18030'.") from error
    return _load(Path(path), skipped, encoding)


_PIECE = 1 << 16  # characters read at a time
_HEAD = 100  # lines among which one that is an object makes a file that does not begin as JSON one of JSON Lines
_LONG = 1 << 24  # characters of such a line at most
_DEEPEST = 100  # brackets in brackets; a record has six
_DIGITS = 600  # of a number; Python may refuse integers of more than 640, and where it does ijson's C code crashes
_OPENING, _CLOSING = ("start_map", "start_array"), ("end_map", "end_array")
_UNDECODED = re.compile("[\udc80-\udcff]")  # what the handler "surrogateescape" makes of bytes that are no text


class _File:
    """Where the text comes from, and where reports go."""

    def __init__(self, path: Path, skipped: list[str] | None, encoding: str | None) -> None:
        self.path, self.skipped = path, skipped
        if encoding is None:
            with opened("load", path) as file:
                encoding = json.detect_encoding(file.read(4))
        self.encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding

    def pieces(self) -> Iterator[tuple[int, str]]:
        """Lines with their numbers, long ones in several pieces."""
        line = 1
        with opened("load", self.path) as file:
            text = io.TextIOWrapper(file, encoding=self.encoding, errors="surrogateescape")
            try:
                while piece := text.readline(_PIECE):
                    yield line, piece
                    line += piece.endswith("\n")
            except UnicodeError as error:  # in UTF-16 and UTF-32 a lost byte shifts all that follows
                raise ValueError(f"load: {self.path}, line {line}: {self.undecoded(str(error))}") from error
            finally:
                text.detach()  # who opened the file closes it

    def undecoded(self, what: str) -> str:
        name = self.encoding.removesuffix("-sig").upper()
        return f'not {name} ({what}), must be. Name its encoding, as encoding="gb18030", or convert it with iconv'

    def report(self, line: int, what: str, rule: str = ", must be a record. Repair it") -> None:
        """Raise, or write it down."""
        message = f"{self.path}, line {line}: {what}"
        if self.skipped is None:
            raise ValueError(f"load: {message}{rule}, or collect such reports with skipped=[].")
        self.skipped.append(message)

    def damaged(self, line: int, what: str) -> ValueError:
        where = f"{self.path}, line {line}"
        return ValueError(f"load: {where}: not JSON ({what}), must be. The file is damaged or cut off; fetch it again.")


def _load(path: Path, skipped: list[str] | None, encoding: str | None) -> Iterator[Record]:
    file = _File(path, skipped, encoding)
    for line, element in (_lines if _is_lines(file) else _document)(file):
        for found in _records(element):
            if isinstance(found, Record):
                yield found
            else:
                file.report(line, found)


def _is_lines(file: _File) -> bool:
    """Whether the first line is an object; or the file does not begin as JSON does, but a line in it is an object."""
    first = next((line for line, piece in file.pieces() if piece.strip()), None)
    if first is None:
        raise ValueError(f"load: {file.path}: empty, must have an array of records or one a line. Take another file.")
    depth, key, begun = 0, None, []
    try:
        for line, event, value in _events(file):
            begun = [*begun, event][:2]
            if begun == ["start_array", "start_map"] or (event == "start_array" and depth == 1 and key == "data"):
                return False
            if event == "map_key" and depth == 1:
                key = value
            depth += (event in _OPENING) - (event in _CLOSING)
            if not depth and begun[0] == "start_map":
                return line == first
    except ValueError:
        pass  # damaged: the first line only, or the document?
    for _, pieces in islice(groupby(file.pieces(), lambda pair: pair[0]), _HEAD):
        text = "".join(piece for _, piece in islice(pieces, _LONG // _PIECE))
        try:
            if text.lstrip().startswith("{") and isinstance(_parsed(text), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _lines(file: _File) -> Iterator[tuple[int, Any]]:
    """The elements of JSON Lines, each with its line. A file of one line may be the whole document."""
    for line, pieces in groupby(file.pieces(), lambda pair: pair[0]):
        text = "".join(piece for _, piece in pieces)
        if found := _UNDECODED.search(text):
            file.report(line, file.undecoded(_byte(found)), "")
        elif text.strip():
            try:
                value = _parsed(text)
            except json.JSONDecodeError as error:
                file.report(line, f"not JSON ({error.msg})")
            except RecursionError:
                file.report(line, "nested too deep")
            else:
                whole = isinstance(value, dict) and isinstance(value.get("data"), list)
                yield from ((line, element) for element in (value["data"] if whole else [value]))


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else None)


def _byte(found: re.Match[str]) -> str:
    return f"byte 0x{ord(found[0]) - 0xDC00:02x} at character {found.start() + 1}"


def _document(file: _File) -> Iterator[tuple[int, Any]]:
    """The elements of the array, or of that under "data", each with the line in which it begins.

    Not by ijson's `items`: it knows no lines, and its memory grows with the square of the depth.
    """
    from ijson import ObjectBuilder

    outer, inner, start, line = 0, 0, 0, 1  # brackets that are open around the elements, and in one
    array, found, deep, key, builder = False, False, False, None, ObjectBuilder()
    for line, event, value in _events(file):
        step = (event in _OPENING) - (event in _CLOSING)
        if array and (inner or step >= 0):
            if not inner:
                start, deep, builder = line, False, ObjectBuilder()
            inner += step
            deep = deep or inner > _DEEPEST
            if not deep:
                builder.event(event, value)
            if not inner:
                yield start, ValueError(f"nested more than {_DEEPEST} deep") if deep else builder.value
            continue
        if event == "start_array" and (not outer or (outer == 1 and key == "data")):
            array = found = True
        elif step < 0:
            array = False
        elif event == "map_key" and outer == 1:
            key = value
        outer += step
    if outer:
        raise file.damaged(line, "it ends too early")
    if not found:
        raise ValueError(f'load: {file.path}: no "data", must have an array of records under it. Take another file.')


def _events(file: _File) -> Iterator[tuple[int, str, Any]]:
    """ijson's events, each with its line; ValueError where the text is not JSON or not in the encoding."""
    import ijson

    events: Any = ijson.sendable_list()
    parser, plain, line = ijson.basic_parse_coro(events), _Plain(), 1
    wrong: ValueError | None = None

    def parse(line: int, text: bytes) -> None:
        nonlocal wrong
        try:
            parser.send(text) if text else None  # nothing would be the end
        except (ijson.JSONError, ValueError) as error:
            what = re.split(r"\n|\\n", str(error))[0].removeprefix("b'").rstrip(".")
            wrong = file.damaged(line, what)

    for line, piece in file.pieces():
        bad = None if piece.isascii() else _UNDECODED.search(piece)
        parse(line, plain(piece[: bad.start()] if bad else piece))
        for event, value in events:
            yield line, event, value
        events.clear()
        if bad and not wrong:
            wrong = ValueError(f"load: {file.path}, line {line}: {file.undecoded(_byte(bad))}.")
        if wrong:
            raise wrong
    parse(line, plain(""))
    yield from ((line, event, value) for event, value in events)
    try:
        parser.close()
    except ijson.JSONError as error:
        raise file.damaged(line, "it ends too early") from error
    if wrong:
        raise wrong


class _Plain:
    """JSON for ijson: null for NaN, which is not JSON but in many files, and for numbers of too many digits."""

    SPECIAL = re.compile(rf"\d{{{_DIGITS}}}")
    TOKEN = re.compile(rf'"[^"\\]*(?:\\.[^"\\]*)*(?:"|$)|-?(?:NaN|Infinity)|-?\d[\d.eE+-]{{{_DIGITS},}}', re.DOTALL)
    TAIL = re.compile(r"[\\\w.+-]*\Z", re.ASCII)

    def __init__(self) -> None:
        self.rest, self.text, self.number = "", False, False  # what waits; whether inside a string, or a long number

    def __call__(self, piece: str) -> bytes:
        special = "NaN" in piece or "Infinity" in piece or len(piece) > _DIGITS
        if not (special or self.rest or self.text or self.number) and piece.endswith("\n"):
            return piece.encode()  # nearly always
        whole = not piece or piece.endswith("\n")  # else the line goes on, and what stands at the cut may do so too
        piece, self.rest = self.rest + piece, ""
        if self.number:
            piece = piece.lstrip("0123456789.eE+-")
            self.number = not piece
        cut = len(piece)
        if not whole:
            least = max(0, cut - 2 * _DIGITS)
            found = self.TAIL.search(piece, least)
            # A longer tail does not wait, but for what may be half an escape.
            cut = found.start() if found and (found.start() > least or not least) else len(piece.rstrip("\\"))
        piece, self.rest = piece[:cut], piece[cut:]
        inside, quotes = self.text, piece.replace("\\\\", "").replace('\\"', "").count('"')
        self.text = not whole and inside ^ bool(quotes % 2)
        self.number = self.number or (not whole and not self.text and piece[-1:].isdigit())
        if "NaN" in piece or "Infinity" in piece or (len(piece) > _DIGITS and self.SPECIAL.search(piece)):
            piece = self.TOKEN.sub(lambda found: found[0] if found[0][0] == '"' else "null", '"' * inside + piece)
            piece = piece[inside:]
        return piece.encode()


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
