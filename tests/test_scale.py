"""A chapter's SCALE that it does not have is told in its first cell, before anything runs."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from gantext_book.source import ROOT, chapters

from gantext import at_scale

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?:(?!^```).)*?^SCALE = .*?)^```$", re.MULTILINE | re.DOTALL)
RULE = "must be one of 'reduced', 'gpu'"
CHAPTERS = {path.stem: path for path in chapters(ROOT)}


def asked(name: str, scale: str) -> Any:
    """What the chapter's set-up makes of that SCALE; of the cell only the statement that looks it up is run."""
    source = CELL.search(CHAPTERS[name].read_text(encoding="utf-8"))
    assert source is not None
    cell = ast.parse(re.sub(r"\A(:.*\n|\n)*", "", source[1]))
    calls = [node for node in ast.walk(cell) if isinstance(node, ast.Call) and ast.unparse(node.func) == "at_scale"]
    assert len(calls) == 1 and ast.unparse(calls[0].args[0]) == "SCALE"
    lines = [node.lineno for node in cell.body if ast.unparse(node).startswith("SCALE = ")]
    assert len(lines) == 1 and calls[0].lineno - lines[0] < 4  # beside it: nothing is computed before
    return eval(ast.unparse(calls[0]), {"at_scale": at_scale, "SCALE": scale})


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_chapter_says_which_sizes_it_has(name: str) -> None:
    for scale in ("reduced", "gpu"):
        asked(name, scale)
    with pytest.raises(ValueError, match=rf"^SCALE is 'GPU', {RULE}.* here. Do you mean 'gpu'\?$"):
        asked(name, "GPU")
    with pytest.raises(ValueError, match=rf"^SCALE is 'x', {RULE}.* here. What each is, the chapter"):
        asked(name, "x")
    text = CHAPTERS[name].read_text(encoding="utf-8")
    compared = set(re.findall(r'SCALE [!=]= "(\w+)"', text)) - {"reduced"}
    for scale in compared | set(re.findall(r'`?SCALE = "(\w+)"`', text)):
        asked(name, scale)  # what the page speaks of is there


def test_a_size_that_is_near_and_one_of_another_kind() -> None:
    assert at_scale("paper", {"reduced": 1, "paper": 2}) == 2
    with pytest.raises(ValueError, match="Do you mean 'paper'"):
        at_scale("papers", {"reduced": 1, "gpu": 2, "paper": 3})
    with pytest.raises(ValueError, match="must be one of 'reduced', 'gpu' here"):  # the comparison has no paper
        at_scale("paper", {"reduced": 1, "gpu": 2})
    with pytest.raises(TypeError, match=r"SCALE is 2 \(int\), must be one of 'reduced'. Write a str"):
        at_scale(2, {"reduced": 1})  # type: ignore[arg-type]  # what is refused
