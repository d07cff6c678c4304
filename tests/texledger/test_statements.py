"""Marks ``{checked}`` in running text: what they tie to an entry, and what the gate refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from _stored_book import SECOND, Site
from sphinx.errors import ExtensionError
from texledger._check import check
from texledger._gate import Made, faults
from texledger._pages import read_page

from texledger import Entry, Ledger

SHOWN = r"(a + b)^2 = a^2 + 2 a b + b^2"
OWN = r"(a + b) (a - b) = a^2 - b^2"
BOUND = r"a b < a^2 + b^2"
PAGE = rf"$$ {SHOWN} $$ (square)" + "\n\n"


def two(draw):
    a = draw.real(1, 2)
    return {"a": a, "b": draw.turn(a, draw.real(1, 2))}


@pytest.fixture(scope="module")
def entries() -> list[Made]:
    ledger = Ledger()
    ledger.numeric("square", SHOWN, two)
    ledger.numeric("own", OWN, two)
    ledger.numeric("less", BOUND, two, loose="the sides differ by a factor of two at least")
    ledger.definition("name", r"c := a + b")
    ledger.definition("compared", r"c := a + b", two, call=lambda a, b: a + b)
    ledger.numeric("quoted", r"\odd = 2 a", two, lhs=lambda a: 2 * a, rhs=lambda a: a + a, unread="no reader reads it")
    return [Made(entry, "page.md", 1) for entry in ledger.entries.values()]


def says(tmp_path: Path, text: str, entries: list[Made], *labels: str) -> list[str]:
    """The faults of a page with the entries of ``labels``."""
    path = tmp_path / "page.md"
    path.write_text(PAGE + text, encoding="utf-8")
    page = read_page(path)
    chosen = [m for m in entries if m.entry.label in {"square", *labels}]
    return [str(f).replace(str(path), "page") for f in faults(page.equations, chosen, statements=page.statements)]


GOOD = {
    "a displayed equation": "Squares have a mixed term {checked}`square`.",
    "a displayed equation once more": rf"Indeed {{checked}}`{SHOWN} <square>`, as above.",
    "white space": "Indeed {checked}`(a+b)^2 = a^2 +\n2 a b + b^2 <square>`.",
    "printed by the mark": rf"Indeed {{checked}}`{OWN} <own>`.",
    "printed beside the mark": rf"Indeed ${OWN}$ {{checked}}`own`, in words.",
    "printed by a role": rf"Indeed {{math}}`{OWN}`{{checked}}`own`.",
    "a sign that looks like a bracket": rf"Indeed {{checked}}`{BOUND} <less>`.",
    "a row of a table": f"| a | b |\n| - | - |\n| $x$ | $y$ |\n| ${OWN}$ | {{checked}}`own` |",
    "a box": f"````{{prf:theorem}}\n:label: thm\n\n1. Words.\n2. ${OWN}$ {{checked}}`own`\n````",
    "a quotation": f"> It is\n> ${OWN}$ {{checked}}`own`",
    "a plain link": rf'Indeed ${OWN}$ [✓](page.html#check-own "checked: own")',
    "a plain link behind the formula": rf'Indeed ${SHOWN}$ [✓](page.html#check-square "checked as printed: square")',
    "a comparison with code": "The name {checked}`c := a + b <compared>`.",
    "one label twice": rf"Once {{checked}}`square`, twice {{checked}}`square` and {{checked}}`{OWN} <own>`.",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_mark_is_accepted(tmp_path: Path, entries: list[Made], text: str) -> None:
    own = "own" if "own" in text else "less" if "less" in text else "compared"
    assert says(tmp_path, text, entries, own if own in text else "square") == []
    path = tmp_path / "page.md"
    marks = text.count("{checked}") + text.count('"checked')
    assert len(read_page(path).statements) == marks > 0


REFUSED = {
    "an unknown label": ("So {checked}`sqare`.", "page:3: the mark {checked}`sqare`: the ledger has no entry"),
    "a definition": (
        "So {checked}`name`.",
        r"its entry is a definition that nothing checks: refer to it by {eq}`name`",
    ),
    "a quoted one": ("So {checked}`quoted`.", r"its entry only quotes the TeX: let the check read it"),
    "an edit": (
        r"So {checked}`(a + b)^2 = a^2 + 2 a b - b^2 <square>`.",
        "look at the check, and run its cell again.\n      page:  (a+b)^2=a^2+2a b-b^2\n",
    ),
    "nothing printed": (
        "Words\nand so {checked}`own`.",
        "page:4: the mark {checked}`own`: no page displays",
    ),
    "printed in another paragraph": (f"${OWN}$\n\nSo {{checked}}`own`.", "in one paragraph or table row with just"),
    "printed in another item": (f"- ${OWN}$\n- So {{checked}}`own`.", "in one paragraph or table row with just"),
    "printed in another row": (
        f"| a |\n| - |\n| ${OWN}$ |\n| {{checked}}`own` |",
        "in one paragraph or table row with just",
    ),
    "printed as code": (f"`${OWN}$` {{checked}}`own`.", "in one paragraph or table row with just"),
    "another formula before a plain link": (
        f'${OWN}$ and $a$ [✓](x.html "checked as printed: own")',
        "does not print what its entry quotes",
    ),
    "no formula before a plain link": (f'${OWN}$ so [✓](x.html "checked as printed: own")', "does not print what"),
    "no mark": ("Words.", "no page has an equation of that label, nor a mark {checked}`TeX <own>` in its text"),
    "a mark in code": (f"``{{checked}}`{OWN} <own>` ``", "nor a mark {checked}"),
    "a mark in a block of code": (f"```\n{{checked}}`{OWN} <own>`\n```", "nor a mark {checked}"),
    "a mark in a comment": (f"% {{checked}}`{OWN} <own>`", "nor a mark {checked}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mark_is_refused(tmp_path: Path, entries: list[Made], case: str) -> None:
    text, expected = REFUSED[case]
    labels = {"a definition": "name", "a quoted one": "quoted"}.get(case, "own" if "own" in text + expected else "x")
    found = "\n".join(says(tmp_path, text, entries, labels))
    assert expected in found


def test_check_counts_marks_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from texledger._check import main

    head = """
```{code-cell} python
from texledger import Ledger

ledger = Ledger()
two = lambda draw: {"a": draw.real(), "b": draw.real()}
"""
    cells = head + f'ledger.numeric("square", r"{SHOWN}", two)\nledger.numeric("own", r"{OWN}", two)\n```\n'
    path = tmp_path / "page.md"
    path.write_text(f"{PAGE}Indeed {{checked}}`{OWN} <own>` {{checked}}`square`.\n{cells}", encoding="utf-8")
    assert main(["check", "-q", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "1 equation checked (1 both sides, 0 one side, 0 quoted), 0 definitions; 2 statements in text, 1 with an entry"
    )
    path.write_text(path.read_text().replace("(a - b) = a^2 - b^2 <own>", "(a - b) = a^2 + b^2 <own>"))
    (fault,) = check([path], ["own"]).faults
    assert f"{path}:3: the mark {{checked}}`own` does not print what its entry quotes" in str(fault)


def test_the_example_of_the_readme(tmp_path: Path, entries: list[Made]) -> None:
    text = (Path(__file__).parents[2] / "texledger" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```md\n(.*?)```", text, re.DOTALL)
    ledger = Ledger()
    ledger.numeric("difference", OWN, two)
    ledger.numeric("cube", r"(a + b)^3 = a^3 + 3 a^2 b + 3 a b^2 + b^3", two)
    more = [Made(entry, "page.md") for entry in ledger.entries.values()]
    assert says(tmp_path, example, entries + more, "difference", "cube") == []
    assert len(says(tmp_path, example.replace("3 a^2 b", "2 a^2 b"), entries + more, "difference", "cube")) == 1


MARKED = (
    SECOND
    + rf"""
Also {{checked}}`{OWN} <own>`, and {{eq}}`cube` {{checked}}`cube`, as {{checked}}`thrice` says. Once
more {{checked}}`own`: $(a + b) (a - b) = a^2 - b^2$.

| what | is |
| --- | --- |
| $({{}}a + b) (a - b) = a^2 - b^2$ | {{checked}}`cube` |
"""
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    ledger = Ledger()
    one = lambda draw: {"a": draw.real(1, 2)}
    made: dict[str, Entry] = {
        label: ledger.numeric(label, tex, one)
        for label, tex in {
            "Double_It": "a + a = 2 a", "thrice": "a + a + a = 3 a", "part-two-square": "a a = a^2",
            "cube": "a^2 a = a^3",
        }.items()
    }  # fmt: skip
    made["own"] = ledger.numeric("own", OWN, two)
    built = Site(tmp_path / "book", made)
    built.of["second"] = ["cube", "own"]
    built.texts["second"] = MARKED
    return built


def test_marks_on_a_page(site: Site) -> None:
    site.write()
    site.build()
    page, listed, index = site.page("second"), site.page("lists/of-second"), site.page("index")
    marks = page.select("a.checked-mark")
    assert [m["href"] for m in marks] == [
        "#check-own", "#check-cube", "deep/er/first.html#check-thrice", "#check-own", "#check-cube",
    ]  # fmt: skip
    assert [m["id"] for m in marks] == [
        "statement-own", "statement-cube", "statement-thrice", "statement-own-2", "statement-cube-2",
    ]  # fmt: skip
    assert all(m.text == "✓" and str(m["aria-label"]).startswith("Check: Numeric, both sides") for m in marks)
    before = marks[0].find_previous_sibling()
    assert before is not None
    assert "math" in str(before["class"])
    place = page.find(id="check-own")
    assert place is not None
    assert [a["href"] for a in place.select("a")] == ["#statement-own", "#statement-own-2"]
    assert len(page.select("[id=statement-own]")) == 1
    assert "1 equation checked: 1 both sides ·" in " ".join(page.text.split())
    assert "5 statements in text" in page.text
    row = listed.find(id="ledger-own")
    assert row is not None
    assert [str(a["href"]).split("#")[1] for a in row.select("td")[0].select("a")] == [
        "statement-own",
        "statement-own-2",
    ]
    assert "5 statements in running text" in index.text
    assert "in\n2 of them" in index.text
    rows = [[c.text for c in row.select("td")] for row in index.select("table.ledger-chapters tbody tr")]
    assert [row[5] for row in rows] == ["0", "5", "5"]
    graph = json.loads((site.root / "_build" / "ledger-graph.json").read_text(encoding="utf-8"))
    assert [s["label"] for s in graph["statements"]] == ["own", "cube", "thrice", "own", "cube"]
    assert graph["statements"][0] == {"label": "own", "tex": OWN, "href": "second.html#statement-own"}


def test_the_build_refuses_what_check_refuses(site: Site) -> None:
    site.texts["second"] = MARKED.replace("{checked}`cube`", "{checked}`cub`").replace(
        "a^2 - b^2 <own>", "a^2 + b^2 <own>"
    ).replace("$(a + b) (a - b) = a^2 - b^2$", "$a$")  # fmt: skip
    site.write()
    with pytest.raises(ExtensionError) as caught:
        site.build()
    found = str(caught.value)
    assert "4 problems" in found
    assert found.count("the ledger has no entry of that label. Is it cube?") == 2
    assert "{checked}`own` does not print what its entry quotes" in found
    assert "{checked}`own`: no page displays that equation, so the mark must print it" in found


def test_notebooks_are_read_too(tmp_path: Path) -> None:
    text = f'${OWN}$ [✓](x.html#check-own "checked as printed: own"), {{checked}}`square`'
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_markdown_cell(text)]
    path = tmp_path / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    found = read_page(path).statements
    assert [(s.label, s.tex, s.place.replace(str(path), "")) for s in found] == [
        ("own", OWN, "[2]:1"), ("square", None, "[2]:1"),
    ]  # fmt: skip
