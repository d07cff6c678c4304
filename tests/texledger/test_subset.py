"""Every example of the page that describes the subset is read as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
from texledger._declared import DECLARATIONS, Indexed, Means, Operator, Superscript
from texledger._tex import key_of, statements
from texledger._tree import plain_reading

PAGE = Path(__file__).parents[2] / "texledger" / "SUBSET.md"
OPERATIONS = {"^T": "transpose", "^*": "adjoint"}


def rows() -> list[tuple[str, str, str]]:
    found, inside = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells or cells[0] in {"TeX", "declaration"}:
            inside = bool(cells) and cells[0] == "TeX"
        elif inside and not cells[0].startswith("-"):
            found.append((cells[0][1:-1], cells[1][1:-1], cells[2]))
    return found


def declared(cell: str) -> dict[str, Any]:
    """``f()`` is a function, ``x[]`` a list, ``^T`` an operation, everything else a number."""
    where: dict[str, Any] = {}
    if "means" in cell:
        return {"E": Means("expectation")}
    for name in re.findall(r"`([^`]+)`", cell):
        if name.endswith("()"):
            where[name[:-2]] = lambda *x: x[0]
        elif name.endswith("[]"):
            where[name[:-2]] = Indexed([1, 2]) if "^" in name else [1, 2, 3]
        elif name in OPERATIONS:
            where[name] = Superscript(OPERATIONS[name])
        elif name.startswith("\\"):
            where[name] = Operator(lambda a, b: a * b)
        else:
            where[name] = mp.mpf(2)
    return where


@pytest.mark.parametrize(("tex", "reading", "cell"), rows(), ids=[r[0] for r in rows()])
def test_an_example_is_read_as_the_page_says(tex: str, reading: str, cell: str) -> None:
    where = declared(cell)
    assert plain_reading(statements(tex, where or None)) == reading


def test_the_page_has_examples_and_names_every_declaration() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(rows()) >= 80
    assert [d.__name__ for d in DECLARATIONS if f"`{d.__name__}(" not in text] == []


@pytest.mark.parametrize("tex", [r"1/2 x", r"\sum_i a_i - b_i", r"\mathbb{E}(x)^2", r"f^2(x)", r"f^{-1}(x)", r"ab"])
def test_what_the_page_says_is_refused_is_refused(tex: str) -> None:
    from texledger import Unreadable

    with pytest.raises(Unreadable):
        statements(tex, {"f": lambda x: x, "x": 1.0, "a": 1.0})


def test_every_example_of_the_last_table_is_refused() -> None:
    """What may be read in two ways, in the table's first column, where nothing is declared that decides it."""
    from texledger import Unreadable

    text = PAGE.read_text(encoding="utf-8").partition("## What is refused until it says one thing")[2]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    found = [tex for line in lines for tex in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1])]
    where: dict[str, Any] = {"zeta": 1.0, "f": lambda x: x, "x": 1.0, "s": 1.0, "A": mp.eye(2)}
    for tex in found:
        indices = {"i": 1.0, "t": 1.0} if tex == "x_{it-1}" else {}
        with pytest.raises(Unreadable):
            statements(tex, {**where, **indices})
    assert len(found) >= 30


def test_keys_in_tex_are_spelled_as_names() -> None:
    assert key_of(r"\hat{x}_i^{(k)}") == "hat x_i^(k)"
    assert key_of(r"\theta^+") == "theta^+"
    assert key_of(r"x^{t}_i") == "x_i^t"
    assert key_of(r"\odot") == r"\odot"
    assert key_of(r"\sigma") == "sigma"
