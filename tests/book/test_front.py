"""Pages made from what is stored: the front page's equation and cards, the results, what the package computes."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup, Tag
from gantext_book.pages import minutes, place, summary, usual
from gantext_book.source import ROOT, chapters
from scipy.linalg import expm
from sphinx.errors import ExtensionError
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


def page_of(site: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


def one(tag: Tag, selector: str) -> Tag:
    """The first such element, which must be there."""
    found = tag.select_one(selector)
    assert found is not None, selector
    return found


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
    assert entry.how[1:] in text and entry.drawn[1:] in text and entry.read in text


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
    page = page_of(site, "book/index")
    cards = page.select(".chapter-card")
    assert [one(card, ".card-title a")["href"] for card in cards] == [
        f"../notebooks/{path.stem}.html" for path in chapters(ROOT)
    ]
    for card, path in zip(cards, chapters(ROOT), strict=True):
        picture = one(card, "img.card-picture")
        assert (site / "book" / str(picture["src"])).stat().st_size < 40_000 and len(picture["alt"]) > 30
        assert len(one(card, "p:not([class])").get_text().split()) > 10
        core, whole = minutes(path.read_text(encoding="utf-8"))
        assert 0 < core <= whole and str(core) in one(card, ".card-minutes").get_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A\n\n**Ten minutes** for this.\n\n## B\n\nText.\n\n```{folded} 3 minutes: a proof\n```\n", (10, 13)),
        ("# A\n\n**Ten minutes**.\n\n## B\n\n```{folded} 1 minute: x\n```\n\n" + "word " * 800, (10, 11)),
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


RECORDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
}
for _name, _record in list(RECORDS.items()):  # what was run on one device has a part for each operation
    for _part in _record.get("parts", []):
        RECORDS[f"{_name}-{_part['item']}"] = {**_record, **_part}


def test_results_say_how_fast_against_what_and_where(site: Path) -> None:
    page = page_of(site, "book/results")
    speeds = {name for name, record in RECORDS.items() if record["rows"]}
    lines = page.select("table.speeds tbody tr")
    assert {str(one(line, "a")["href"]) for line in lines} == {f"#speed-{name}" for name in speeds}
    for line in lines:
        record = RECORDS[str(one(line, "a")["href"]).removeprefix("#speed-")]
        _, rival, ratio, sizes, device, gpu = (cell.get_text().strip() for cell in line.select("td"))
        inside = rival.endswith(", captured")  # both, in CUDA graphs
        rival = rival.removesuffix(", captured")
        rows = [
            r["results"] for r in record["rows"] if rival in r["results"] and r["what"].endswith(", captured") == inside
        ]
        median = statistics.median(row[rival]["median_ms"] / row["ours"]["median_ms"] for row in rows)
        assert float(ratio.split(" ")[0]) == pytest.approx(median, abs=0.5 if median >= 10 else 0.005)
        assert (sizes, device) == (str(len(rows)), record["device"])
        if record["chapter"] not in {other["chapter"] for other in RECORDS.values() if other.get("gpu")}:
            assert gpu == "not run" or "nvidia" in device.lower()
    for name in speeds:
        section = one(page, f"#speed-{name}")
        assert len(section.select(".dots-row:has(.track:not(.ticks))")) == len(RECORDS[name]["rows"])
    experiments = {str(section["id"]) for section in page.select("#experiments section")}
    assert experiments == {f"experiment-{name}" for name in RECORDS.keys() - speeds}
    for name in RECORDS.keys() - speeds:  # what was trained on a CPU was not trained on a GPU, whatever else was
        stamp = one(page, f"#experiment-{name} .stamp").get_text()
        assert ("not run on a GPU" in stamp) == ("nvidia" not in RECORDS[name]["device"].lower()), name


def test_a_few_lines_answer_how_fast(site: Path) -> None:
    lines = page_of(site, "book/results").select("table.ten tbody tr")
    assert len(lines) == 11
    compared = 0
    for line in lines:
        cells = line.select("td")
        for cell, gpu, inside in zip(cells[2:], (False, True, True), (False, False, True), strict=True):
            for link in cell.select("a"):
                record = RECORDS[str(link["href"]).removeprefix("#speed-")]
                assert ("nvidia" in record["device"].lower()) == gpu and link["title"] == record["device"]
                rows = [
                    r["results"]
                    for r in record["rows"]
                    if r["what"].endswith(", captured") == inside or record.get("item") == "graph-peers"
                ]
                medians = [
                    statistics.median(r[rival]["median_ms"] / r["ours"]["median_ms"] for r in rows if rival in r)
                    for rival in {name for row in rows for name in row} - {"ours"}
                ]
                shown = float(link.get_text())
                assert min(abs(shown - median) for median in medians) < (0.51 if shown >= 10 else 0.006)
                compared += 1
            assert cell.select("a") or cell.get_text().strip() == "not compared"
    assert compared == 22  # on a CPU 8, on the H200 14


def test_a_line_that_no_record_answers_stops_the_build() -> None:
    with pytest.raises(ExtensionError, match=r"no record has matexp, torch, which the line 'Matrix exp"):
        usual([])


def test_a_dot_stands_where_its_ratio_is() -> None:
    assert place(0.01) == 0 and place(1e6) == 100 and 0 < place(0.5) < place(1) < place(2) < 100
    assert place(4) - place(2) == pytest.approx(place(2) - place(1), abs=0.2)  # logarithmic


def test_a_dot_beyond_the_scale_is_marked_and_named(site: Path) -> None:
    page = page_of(site, "book/results")
    shown = [mark.get_text() for mark in page.select(".track .beyond")]
    ratios = [
        result["median_ms"] / row["results"]["ours"]["median_ms"]
        for name, record in RECORDS.items()
        for row in record["rows"]
        for rival, result in row["results"].items()
        if rival != "ours" and result
    ]
    assert len(shown) == sum(place(ratio) in (0, 100) for ratio in ratios) > 10
    assert "336 ▸" in shown and "◂ 0.027" in shown


def test_words_of_keys_are_written_as_words(site: Path) -> None:
    text = one(page_of(site, "book/results"), "article").get_text()
    assert "Fréchet" in text and "frechet" not in text


def test_a_floor_is_no_rival_unless_there_is_no_other() -> None:
    row = lambda **errors: {
        "what": "f",
        "ratios": dict.fromkeys(errors, 2.0),
        "results": {name: {"error": error} for name, error in errors.items()},
    }
    lines = summary({"rivals": ["floor", "textbook"], "rows": [row(floor=None, textbook=1e-7), row(textbook=1e-7)]})
    assert [(line["rival"], line["sizes"], line["median"]) for line in lines] == [("textbook", 2, 2.0)]
    assert [line["rival"] for line in summary({"rivals": ["other"], "rows": [row(other=None)]})] == ["other"]


def test_the_package_shows_what_a_function_computes(site: Path) -> None:
    page = page_of(site, "book/api/gan")
    described = one(page, "[id='gantext.gan.objectives.gan_qp']").find_parent("dl")
    assert described is not None
    computed = described.select("ul.computes li")
    assert computed and all(item.select("math") and item.select("a[href*='#equation-']") for item in computed)
    text = one(page, "article").get_text()
    assert "wasserstein:gradient-penalty" not in text  # a label is a link that shows the equation's number
