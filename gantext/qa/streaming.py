"""JSON of any size, one element at a time: a document is parsed by ijson (of the extra `train`), lines by `json`.

`gantext.qa.files` makes records of the elements.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from gantext._files import opened

__all__ = ["File", "elements"]

_PIECE = 1 << 16  # characters read at a time
_HEAD = 100  # lines among which one that is an object makes a file that does not begin as JSON one of JSON Lines
_LONG = 1 << 24  # characters of such a line at most
_DEEPEST = 100  # brackets in brackets; a record has six
_DIGITS = 600  # of a number; Python may refuse integers of more than 640, and where it does ijson's C code crashes
_OPENING, _CLOSING = ("start_map", "start_array"), ("end_map", "end_array")
_UNDECODED = re.compile("[\udc80-\udcff]")  # what the handler "surrogateescape" makes of bytes that are no text


class File:
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


def elements(file: File) -> Iterator[tuple[int, Any]]:
    """The elements of JSON Lines, or those of a document's array (under "data" if the document is an object).

    Each comes with the line in which it begins; of one that is nested too deep a ValueError that says so.

    Raises:
        ValueError, ModuleNotFoundError: as `gantext.qa.files.load`.

    The commonest surprise: NaN, infinities and numbers of more than 600 digits come as None from a document.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "f.json")
    ...     _ = path.write_text('{"data": [{"a": 1},' + chr(10) + '{"a": 2}]}')
    ...     list(elements(File(path, None, None)))
    [(1, {'a': 1}), (2, {'a': 2})]
    """
    return (_lines if _is_lines(file) else _document)(file)


def _is_lines(file: File) -> bool:
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


def _lines(file: File) -> Iterator[tuple[int, Any]]:
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


def _document(file: File) -> Iterator[tuple[int, Any]]:
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


def _events(file: File) -> Iterator[tuple[int, str, Any]]:
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
