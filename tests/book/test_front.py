"""The front page: an equation that can be damaged, and a card for each chapter, both from what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from gantext_book.pages import minutes
from gantext_book.source import ROOT, chapters
from scipy.linalg import expm
from texledger.sphinx import stored_entries

# What each damaged form is, told once more: the left and the right side for a matrix.
SIDES = {
    "": (lambda a: np.linalg.det(expm(a)), lambda a: np.exp(np.trace(a))),
    "−(det(exp(A)))": (lambda a: -np.linalg.det(expm(a)), lambda a: np.exp(np.trace(a))),
    "2·(det(exp(A)))": (lambda a: 2 * np.linalg.det(expm(a)), lambda a: np.exp(np.trace(a))),
    "det of −(exp(A))": (lambda a: np.linalg.det(-expm(a)), lambda a: np.exp(np.trace(a))),
    "exp of −(A)": (lambda a: np.linalg.det(expm(-a)), lambda a: np.exp(np.trace(a))),
    "−(exp(Tr(A)))": (lambda a: np.linalg.det(expm(a)), lambda a: -np.exp(np.trace(a))),
    "2·(exp(Tr(A)))": (lambda a: np.linalg.det(expm(a)), lambda a: 2 * np.exp(np.trace(a))),
    "exp of −(Tr(A))": (lambda a: np.linalg.det(expm(a)), lambda a: np.exp(-np.trace(a))),
    "Tr of −(A)": (lambda a: np.linalg.det(expm(a)), lambda a: np.exp(np.trace(-a))),
}
TIMES = [i / 20 - 1 for i in range(41)]  # every place of the slider


@pytest.fixture
def tab(site: Path, browser: Any) -> Any:
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.goto((site / "book" / "index.html").as_uri())
    yield tab
    tab.close()


def test_the_damaged_forms_are_those_that_the_stored_check_refused(tab: Any) -> None:
    found, faults = stored_entries(ROOT / "notebooks" / "det-exp.ipynb", "notebooks/det-exp")
    (entry,) = (made.entry for made in found if made.entry.label == "det-exp:main")
    refused = {name for name, dead in entry.mutants if dead}
    offered = set(tab.evaluate("[...document.querySelectorAll('#apart-form option')].map(o => o.value)"))
    assert not faults and offered - {""} <= refused and len(offered) >= 7
    text = " ".join(tab.locator("#apart ~ p").all_text_contents())
    assert f"{entry.killed} of {len(entry.mutants)} damaged forms" in text
    assert entry.how[1:] in text and entry.drawn[1:].lower() in text.lower() and entry.read in text


@pytest.mark.parametrize("form", SIDES)
def test_both_sides_are_what_scipy_computes(tab: Any, form: str) -> None:
    matrices = tab.evaluate("takenApart.MATRICES")
    for order, matrix in matrices.items():
        sides = tab.evaluate("([f, o, ts]) => ts.map(t => takenApart.sides(f, o, t))", [form, order, TIMES])
        expected = [[side(t * np.array(matrix)) for side in SIDES[form]] for t in TIMES]
        np.testing.assert_allclose(sides, expected, rtol=1e-12, atol=1e-13)


def test_the_read_out_follows_the_controls(tab: Any) -> None:
    read = "[...['l', 'r', 'verdict', 'at']].map(name => document.getElementById(`apart-${name}`).textContent)"
    left, right, verdict, _ = tab.evaluate(read)
    assert left == right and verdict == "equal at every t"
    tab.select_option("#apart-form", "det of −(exp(A))")
    assert "this order cannot tell" in tab.evaluate(read)[2]  # the determinant of an even order does not see the sign
    tab.select_option("#apart-order", "3")
    tab.locator("#apart-t").fill("-0.5")
    left, right, verdict, at = tab.evaluate(read)
    matrix = -0.5 * np.array(tab.evaluate("takenApart.MATRICES[3]"))
    assert (at, verdict) == ("−0.50", "the sides part: refused")
    assert [left, right] == [f"{side(matrix):.6f}".replace("-", "−") for side in SIDES["det of −(exp(A))"]]


def test_each_chapter_has_a_card(site: Path) -> None:
    page = BeautifulSoup((site / "book" / "index.html").read_text(encoding="utf-8"), "html.parser")
    cards = page.select(".chapter-card")
    assert [card.select_one(".card-title a")["href"] for card in cards] == [
        f"../notebooks/{path.stem}.html" for path in chapters(ROOT)
    ]
    for card, path in zip(cards, chapters(ROOT), strict=True):
        picture = card.select_one("img.card-picture")
        assert (site / "book" / picture["src"]).stat().st_size < 40_000 and len(picture["alt"]) > 30
        assert len(card.select_one("p:not([class])").get_text().split()) > 10
        core, whole = minutes(path.read_text(encoding="utf-8"))
        assert 0 < core <= whole and str(core) in card.select_one(".card-minutes").get_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\n**Ten minutes** for this.\n\n## B\n\nText.\n\n```{folded} 3 minutes: a proof\n```\n", (10, 13)),
        (
            "# A\n\nThe core takes 8 minutes.\n\n## B\n\n:::{folded} Two minutes: x\n:::\n\n:::{folded} 4 minutes",
            (8, 14),
        ),
        ("# A\n\n" + "word " * 1000 + "\n\n## B\n\n```{folded} more\n```\n\n" + "word " * 400, (5, 7)),
        ("# A\n\n```{code-cell}\n" + "x = 1\n" * 900 + "```\n\nText.", (1, 1)),
    ],
)
def test_minutes_are_those_that_the_chapter_names_else_its_words(text: str, expected: tuple[int, int]) -> None:
    assert minutes(text) == expected
