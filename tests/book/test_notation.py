"""The page of notation agrees with the chapters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.md")}
PAGE, REST = (ROOT / "book/notation.md").read_text(encoding="utf-8").split("\n## Words\n")
WORDS = re.findall(r"(?m)^\| ([^|]+?) \| ([^|]*[\u4e00-\u9fff][^|]*?) \|$", REST)[1:]  # below the head of the table
PARTS = {part.split("\n", 1)[0]: part for part in re.split(r"(?m)^## ", PAGE)[1:]}


def bare(tex: str) -> str:
    """TeX without blanks and braces, and with one sign for a norm's bars: two spellings of a symbol become one."""
    return re.sub(r"[\s{}]", "", re.sub(r"\\Vert(?![a-zA-Z])|\\\|", "‖", tex))


def listed(part: str) -> list[str]:
    """The symbols in the first column of a part's table."""
    rows = re.findall(r"(?m)^\| (\$.*?) \|", part)
    return [bare(symbol) for row in rows for symbol in re.findall(r"\$(.*?)\$", row)]


def chapters(part: str) -> list[str]:
    """The chapters that a part names, or all."""
    return re.findall(r"<\.\./notebooks/([\w-]+)>", part) or list(CHAPTERS)


def test_every_chapter_belongs_to_a_part() -> None:
    named = [name for part in PARTS.values() for name in re.findall(r"<\.\./notebooks/([\w-]+)>", part)]
    assert sorted(named) == sorted(CHAPTERS)


@pytest.mark.parametrize("name", PARTS)
def test_a_table_lists_a_symbol_once_and_only_if_its_chapters_use_it(name: str) -> None:
    symbols = listed(PARTS[name])
    assert symbols and len(set(symbols)) == len(symbols)
    text = bare("".join(CHAPTERS[chapter] for chapter in chapters(PARTS[name])))
    assert [symbol for symbol in symbols if symbol not in text] == []


def test_the_words_are_those_of_the_chapters_once_and_in_order() -> None:
    assert len(WORDS) > 50
    english, chinese = ([pair[i] for pair in WORDS] for i in (0, 1))
    assert english == sorted(set(english), key=str.lower) and len(set(chinese)) == len(chinese)
    text = re.sub(r"\s+", " ", " ".join(CHAPTERS.values())).lower().replace("iz", "is")
    parts = {word: re.findall(r"\w{3,}", re.sub(r" \(.*\)", "", word).lower()) for word in english}
    missing = {
        word: part for word in english for part in parts[word] if part.replace("iz", "is").rstrip("s") not in text
    }
    assert missing == {}
