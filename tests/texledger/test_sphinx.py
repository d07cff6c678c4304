"""``texledger.sphinx`` in a book that is not this one: other folders, other labels, MathJax, entries from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from _stored_book import INDEX, SECOND, Site
from bs4 import Tag
from sphinx.errors import ConfigError, ExtensionError

from texledger import MIME, Entry, Ledger

LABELS = {
    "Double_It": "a + a = 2 a",
    "thrice": "a + a + a = 3 a",
    "part-two-square": "a a = a^2",
    "cube": "a^2 a = a^3",
}


def entries() -> dict[str, Entry]:
    ledger = Ledger()
    one = lambda draw: {"a": draw.real(1, 2)}
    return {label: ledger.numeric(label, tex, one) for label, tex in LABELS.items()}


@pytest.fixture(scope="module")
def made() -> dict[str, Entry]:
    return entries()


@pytest.fixture
def site(tmp_path: Path, made: dict[str, Entry]) -> Site:
    return Site(tmp_path / "book", made)


@pytest.mark.parametrize("parallel", [0, 2])
def test_a_whole_book(site: Site, parallel: int) -> None:
    site.write()
    assert "unknown output mime type" not in site.build(parallel)
    first, index, listed = site.page("deep/er/first"), site.page("index"), site.page("lists/of-first")
    marks = first.select(".eqno .eq-mark")
    assert [m["href"] for m in marks] == ["#check-double-it", "#check-thrice", "#check-part-two-square"]
    for mark in marks:
        place = first.find(id=str(mark["href"]).removeprefix("#"))
        assert place is not None
        assert place.find_parent("details", class_="check") is not None
        back = place.find("a")
        assert back is not None
        assert first.find(id=str(back["href"]).split("#")[1]) is not None
    assert "3 equations checked: 3 both sides ·" in " ".join(first.text.split())  # what is not there is not counted
    assert "4 of 4" in index.text
    rows = [[c.text for c in row.select("td")] for row in index.select("table.ledger-chapters tbody tr")]
    assert [row[:2] for row in rows] == [["First", "3"], ["Second", "1"], ["all", "4"]]
    links = [str(a["href"]) for a in index.select("table.ledger-chapters a")]
    assert links == ["lists/of-first.html", "lists/of-second.html"]
    assert [row["id"] for row in listed.select("table.ledger tbody tr")] == [
        "ledger-double-it", "ledger-thrice", "ledger-part-two-square",
    ]  # fmt: skip
    assert listed.select("table.ledger .math")
    assert any("mathjax" in str(s.get("src", "")).lower() for s in listed.select("script"))


def test_the_damaged_formulas_are_listed_once(site: Site) -> None:
    site.write()
    site.build()
    first, listed = site.page("deep/er/first"), site.page("lists/of-first")
    names = [name for name, _ in site.made["thrice"].mutants]
    assert names
    assert "damaged formulas tried" not in first.text
    link = first.select_one('.gantext-check[data-label="thrice"] a')
    assert link is not None
    assert link["href"] == "../../lists/of-first.html#ledger-thrice"
    before = link.previous_sibling
    assert isinstance(before, Tag) and before.name == "br"  # on a line of its own
    shown = first.select_one('.gantext-check[data-label="thrice"]')
    assert shown is not None and not shown.select("b")  # the line that folds the check says it
    fold = shown.find_parent("details")
    assert fold is not None and fold.summary is not None
    assert site.made["thrice"].kind in fold.summary.text
    row = listed.find(id="ledger-thrice")
    assert row is not None
    assert all(name in row.text for name in names)


def test_without_a_page_that_lists_them_they_stay(site: Site) -> None:
    (site.root / "index.md").write_text("# Book\n\n```{toctree}\ndeep/er/first\nsecond\n```\n")
    for path in (site.root / "lists").glob("*.md"):
        path.unlink()
    site.write()
    site.build()
    assert "damaged formulas tried" in site.page("deep/er/first").text


def test_which_equation_uses_which(site: Site) -> None:
    site.write()
    site.build()
    graph = json.loads((site.root / "_build" / "ledger-graph.json").read_text(encoding="utf-8"))
    assert [e["label"] for e in graph["equations"]] == list(LABELS)
    assert graph["equations"][3]["href"].endswith("second.html#equation-cube")
    assert sorted(map(tuple, graph["uses"])) == [
        ("cube", "Double_It"),  # after it
        ("cube", "part-two-square"),
        ("cube", "thrice"),  # before it
        ("part-two-square", "thrice"),  # in the proof
        ("thrice", "Double_It"),  # before it
    ]
    row = site.page("lists/of-first").find(id="ledger-thrice")
    assert row is not None
    uses = row.find_all("td")[-1]
    assert [a["href"].split("#")[1] for a in uses.find_all("a")] == [  # type: ignore[union-attr]
        "equation-double-it", "equation-cube", "equation-part-two-square",
    ]  # fmt: skip
    assert "used by" in uses.text


def test_the_picture_of_the_graph_is_light_and_says_what_it_shows(site: Site) -> None:
    site.write()
    site.build()
    (picture,) = site.page("index").select("figure.ledger-graph svg")
    assert len(str(picture)) < 30_000
    assert picture["role"] == "img"
    names = str(picture["aria-labelledby"]).split()
    title, description = (picture.find(id=name) for name in names)
    assert title is not None
    assert description is not None
    assert "4 equations on a line" in description.text
    assert "2 arcs within a page, 3 between pages" in description.text
    paths = [picture.select_one(f"path.{kind}") for kind in ("within", "between")]
    assert [str(p["d"]).count("M") for p in paths if p is not None] == [2, 3]
    assert [text.text for text in picture.select("text")] == ["1", "2"]
    caption = site.page("index").select_one("figure.ledger-graph figcaption")
    assert caption is not None
    assert [a["href"] for a in caption.select("a")] == ["ledger-graph.json"]


def test_excuses_stand_beside_the_entry(site: Site) -> None:
    ledger = Ledger()
    site.made["cube"] = ledger.numeric(
        "cube", LABELS["cube"], lambda draw: {"a": draw.real(1, 2)}, lhs=lambda a: a**3, unread={}
    )
    data = site.made["cube"].as_json() | {"unread": {"a^2 a": "it is a name"}, "weak": "special draws will do"}
    site.made["cube"] = Entry.from_json(data)
    site.write()
    site.build()
    row = site.page("lists/of-second").find(id="ledger-cube")
    assert row is not None
    assert "it is a name" in row.text
    assert "special draws will do" in row.text


@pytest.mark.parametrize("doc", ["deep/er/first", "second"])
def test_each_page_has_the_gate(site: Site, doc: str) -> None:
    label = site.of[doc][0]
    del site.made[label]
    site.write()
    with pytest.raises(ExtensionError, match=f"equation {label} has no entry"):
        site.build()


def test_an_edit_and_a_survivor_stop_the_build(site: Site) -> None:
    site.texts["second"] = SECOND.replace("a^2 a = a^3", "a^2 a = a^4")
    data = site.made["thrice"].as_json()
    data["mutants"] = [(data["mutants"][0][0], False), *data["mutants"][1:]]
    site.made["thrice"] = Entry.from_json(data)
    site.write()
    says = r"(?s)2 problems.*thrice lets a mutant survive.*cube is not what its entry quotes"
    with pytest.raises(ExtensionError, match=says):
        site.build()


def test_a_page_that_was_not_executed_is_named(site: Site) -> None:
    site.made = {}
    site.write()
    with pytest.raises(ExtensionError, match=r"second: no code cell of this page has an output: was it executed\?"):
        site.build()


def test_equations_without_a_label(site: Site) -> None:
    site.texts["second"] += "\n$$ x = y $$\n"
    site.write()
    with pytest.raises(ExtensionError, match=r"second\[1\]:9: a display equation has no label"):
        site.build()
    site.build(ledger_unlabelled="ignore")
    with pytest.raises(ConfigError, match="ledger_unlabelled = 'never'"):
        site.build(ledger_unlabelled="never")


def test_a_text_page_takes_its_entries_from_the_notebook_beside_it(site: Site) -> None:
    site.write()
    cells = "\n".join(f"```{{code-cell}} python\ncheck('{label}')\n```\n" for label in site.of["second"])
    head = "---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n\n"
    (site.root / "second.md").write_text(head + SECOND + cells)
    beside: dict[str, Any] = {"exclude_patterns": ["_build", "jupyter_execute", "second.ipynb"]}
    beside["suppress_warnings"] = ["myst-nb.lexer"]  # a text that is not executed names no language
    site.build(**beside)
    assert site.page("second").select(".eq-mark")
    assert site.page("second").select("details.check")
    (site.root / "second.md").write_text(head + SECOND + cells.replace("check('cube')", "other('cube')"))
    with pytest.raises(ExtensionError, match=r"the code of second.ipynb, .* is not the page's code"):
        site.build(**beside)


def test_an_unknown_page_in_a_table_is_refused(site: Site) -> None:
    (site.root / "lists" / "of-second.md").write_text("# Checks\n\n```{ledger-table} elsewhere\n```\n")
    site.write()
    with pytest.raises(ExtensionError, match="there is no page 'elsewhere'"):
        site.build()


def test_pages_that_are_not_read_again_keep_their_records(site: Site) -> None:
    site.write()
    site.build()
    (site.root / "index.md").write_text(INDEX.replace("# Book", "# The book"))
    site.build(fresh=False)
    assert "4 of 4" in site.page("index").text
    site.texts["second"] = SECOND.replace("a^2 a = a^3", "a^2 a = a^4")
    site.write()
    with pytest.raises(ExtensionError, match="cube is not what its entry quotes"):
        site.build(fresh=False)


def test_the_outputs_of_other_programs_are_left_alone() -> None:
    from types import SimpleNamespace

    from texledger.sphinx import EntryOutput

    other = SimpleNamespace(mime_type="application/json", content="{}")
    assert EntryOutput.handle_mime(None, other, False) is None
    mine = SimpleNamespace(mime_type=MIME, content={"label": "x"})
    (node,) = EntryOutput.handle_mime(None, mine, False) or []
    assert node["data"] == {"label": "x"}
