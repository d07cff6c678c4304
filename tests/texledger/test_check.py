"""``texledger check``: what it reads of a page, what it runs of a notebook, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent

import jupytext
import pytest
from texledger._check import check, main
from texledger._needs import analyse, needed
from texledger._pages import Cell, read_page

from texledger import LedgerError

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.md"))

HEAD = """
```{code-cell} python
from texledger import Ledger

ledger = Ledger()
two = lambda draw: {"a": draw.real(), "b": draw.real()}
```
"""
SQUARE = r"""
$$
(a + b)^2 = a^2 + 2 a b + b^2
$$ (square)

```{code-cell} python
ledger.numeric("square", r"(a + b)^2 = a^2 + 2 a b + b^2", where=two)
```
"""


def write(folder: Path, text: str, name: str = "page.md") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def says(path: Path, **options: object) -> list[str]:
    return [str(fault) for fault in check([path], **options).faults]  # type: ignore[arg-type]  # options of any type


# --- Reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_chapters_are_read_as_jupytext_and_the_labels_say(path: Path) -> None:
    page, text = read_page(path), path.read_text(encoding="utf-8")
    cells = [c.source.strip() for c in jupytext.read(path).cells if c.cell_type == "code"]
    assert [cell.source.strip() for cell in page.cells] == cells
    lines = text.splitlines()
    assert all(lines[cell.line - 1] == cell.source.split("\n")[0] for cell in page.cells)
    assert [e.label for e in page.equations] == re.findall(r"^\$\$ \(([\w:-]+)\)$", text, re.MULTILINE)
    assert all(lines[e.line - 1].startswith("$$") for e in page.equations if e.line)


def test_every_way_of_writing_an_equation_is_read(tmp_path: Path) -> None:
    text = r"""
    ---
    title: $$ no = equation $$
    ---

    $$ a = 1 $$ (one)

    > $$
    > b = 2
    > $$ (two)

    ````{prf:theorem}
    :label: no-equation

    ```{math}
    :label: three

    c = 3
    ```

    Words.

    $$
    d = 4
    $$ (four)
    ````

    :::{note}
    $$ e = 5 $$ (five)
    :::

    ```{math} f = 6
    :label: six
    ```

    \begin{equation}\label{seven}
    g = 7
    \end{equation}

    $$ h = 8 \label{eight} $$

    1. In a list:

       $$
       i = 9
       $$ (nine)

    Costs \$\$ and `$$` and ``$$ x $$`` are none. % neither
    % $$ commented = 1 $$ (comment)
    <!-- $$ commented = 1 $$ -->

    ```
    $$ literal = 1 $$
    ```

    ~~~python
    "$$ literal = 1 $$"
    ~~~

    ```{raw} html
    $$ raw = 1 $$
    ```

    In the text: $$ j = 10 $$ (ten) and $$ k = 11 $$ (eleven), both.

    $$
    \text{none} = 12
    $$
    """
    page = read_page(write(tmp_path, dedent(text).lstrip()))
    found = {e.label: " ".join(e.tex.split()) for e in page.equations}
    words = "one two three four five six seven eight nine ten eleven".split()
    assert found == {w: f"{x} = {i}" for i, (w, x) in enumerate(zip(words, "abcdefghijk", strict=True), 1)} | {
        None: r"\text{none} = 12"
    }


def test_quarto_and_notebooks_are_read(tmp_path: Path) -> None:
    text = "---\ntitle: x\n---\n\n::: {.callout}\n$$\na = 1\n$$ {#eq-one}\n:::\n\n"
    text += "```{python}\n#| echo: false\nx = 1\n```\n\n```{r}\ny\n```\n"
    page = read_page(write(tmp_path, text, "page.qmd"))
    assert [(e.label, e.tex, e.line) for e in page.equations] == [("eq-one", "a = 1", 6)]
    assert [(c.source, c.line) for c in page.cells] == [("#| echo: false\nx = 1", 12)]
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "$$ a = 1 $$ (one)"], "metadata": {}},
        {"cell_type": "code", "source": "x = 1", "metadata": {"tags": ["t"]}, "outputs": []},
    ]
    page = read_page(write(tmp_path, json.dumps({"cells": cells, "nbformat": 4}), "page.ipynb"))
    assert [(e.label, e.tex, e.line) for e in page.equations] == [("one", "a = 1", 3)]
    assert page.equations[0].page.endswith("page.ipynb[1]")
    assert [(c.source, c.tags) for c in page.cells] == [("x = 1", ("t",))]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [("page.txt", "", "a page is one of"), ("page.ipynb", "{", "not a notebook"), ("none.md", None, "cannot be read")],
)
def test_what_is_no_page_is_refused(tmp_path: Path, name: str, text: str | None, match: str) -> None:
    if text is not None:
        write(tmp_path, text, name)
    with pytest.raises(LedgerError, match=match):
        read_page(tmp_path / name)


# --- What is run -------------------------------------------------------------------------------------------------


def lines_run(source: str, tags: dict[int, tuple[str, ...]] | None = None) -> list[str]:
    """The first lines of the statements that the ledger's calls need; cells are divided by `# ---`."""
    cells = [Cell(s, "page", 1, (tags or {}).get(i, ())) for i, s in enumerate(dedent(source).strip().split("# ---\n"))]
    program = analyse(cells)
    assert not program.unreadable
    import ast

    todo = needed(program, program.ledger())
    return [ast.unparse(program.statements[i].node).split("\n")[0] for i in todo]


LEDGER = "from texledger import Ledger\nledger = Ledger()\n"


@pytest.mark.parametrize(
    ("source", "run"),
    [
        # What no check reads is left out: imports, training, plots, other names.
        ("import torch\nm = train()\nfor i in range(9): step(m)\nx = 1\nledger.numeric('l', 't', x)", ["x = 1"]),
        # A function's names are needed, too, and looked up where it is used.
        ("def f(): return g()\ndef g(): return 1\nh = 2\nledger.numeric('l', 't', f)", ["def f():", "def g():"]),
        # The last binding before the check counts, not a later one.
        ("x = 1\nx = 2\nledger.numeric('l', 't', x)\nx = 3", ["x = 2"]),
        ("x = 1\nif y: x = 2\ny = 3\nledger.numeric('l', 't', x)", ["x = 1", "if y:"]),
        ("x = 1\nx += 1\nledger.numeric('l', 't', x)", ["x = 1", "x += 1"]),
        # What changes the object is needed.
        ("e = {}\ne['x'] = y = 1\ne.update(z=2)\nprint(e)\nledger.numeric('l', 't', e)",
         ["e = {}", "e['x'] = y = 1", "e.update(z=2)"]),
        ("m = []\nfor i in range(3):\n    m.append(i)\nledger.numeric('l', 't', m)", ["m = []", "for i in range(3):"]),
        # Settings of needed modules and of the process; calls on modules with values are no settings.
        ("import torch as t\nimport mpmath as mp\nmp.mp.dps = 3\nt.seed(0)\nt.save(x)\nledger.exact('l', 't', mp, t)",
         ["import torch as t", "import mpmath as mp", "mp.mp.dps = 3", "t.seed(0)"]),
        ("import sys\nsys.path.insert(0, 'code')\nimport mine\nledger.numeric('l', 't', mine.f)",
         ["import sys", "sys.path.insert(0, 'code')", "import mine"]),
        # Names of a comprehension or a lambda's parameters are its own.
        ("k = slow()\nx = [k for k in (1, 2)]\nledger.numeric('l', 't', lambda k: x)", ["x = [k for k in (1, 2)]"]),
        # A helper that makes entries, in a loop.
        ("def two(x): return ledger.numeric(x, 't')\ny = 1\nfor n in ('a', 'b'):\n    two(n)", ["def two(x):"]),
        # One check does not need the others.
        ("x = 1\nclass A:\n    y = x\n%time slow()\n!ls\nledger.numeric('l', 't', A)", ["x = 1", "class A:"]),
    ],
)  # fmt: skip
def test_only_what_the_checks_need_is_run(source: str, run: list[str]) -> None:
    found = lines_run(LEDGER + source)
    own = [line for line in found if "edger" not in line or line.startswith("def ")]
    assert [line for line in own if not line.startswith("for n in")] == run


def test_a_cell_may_ask_to_be_run() -> None:
    source = LEDGER + "# ---\nregister()\n# ---\nother()\n# ---\nledger.numeric('l', 't')"
    assert "register()" in lines_run(source, {1: ("ledger-setup",)})
    assert "register()" not in lines_run(source)


def test_experiments_are_not_run(tmp_path: Path) -> None:
    slow = "\n```{code-cell} python\nraise SystemExit('the experiment ran')\n```\n"
    path = write(tmp_path, HEAD + slow + SQUARE)
    assert says(path) == []
    assert any("the experiment ran" in fault for fault in says(path, everything=True))


def test_functions_of_the_page_are_found_and_their_folder_is_the_current_one(tmp_path: Path) -> None:
    write(tmp_path, "def half(x):\n    return x / 2\n", "mine.py")
    body = r"""
$$ h(a) = \frac{a}{2} $$ (half)

```{code-cell} python
import inspect
import mine

def h(a):
    return mine.half(a)

assert inspect.getsource(h).startswith("def h(a):")
ledger.implementation("half", r"h(a) = \frac{a}{2}", lambda draw: {"a": draw.real()}, function=h, name="h")
```
"""
    path = write(tmp_path, HEAD + body)
    verdict = check([path])
    assert [str(f) for f in verdict.faults] == []
    assert [m.entry.functions for m in verdict.entries] == [("__main__.h",)]


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + SQUARE + "\n$$ x = y $$ (other)\n", r":\d+: equation other has no entry"),
        (HEAD + SQUARE + "\n$$ x = y $$\n", r":\d+: a display equation has no label"),
        (HEAD + SQUARE.replace("(square)", "(round)"), "entry for square, but no page has an equation of that label"),
        (HEAD + SQUARE.replace("2 a b + b^2\n", "2 b a + b^2\n"), "equation square is not what its entry quotes"),
        (HEAD + SQUARE.replace("2 a b", "3 a b"), r":\d+: square: draw 1: the side .* is .*; the side .* is"),
        (HEAD + SQUARE.replace("where=two", "where=three"), r":\d+: square: NameError: name 'three' is not defined"),
        (HEAD + SQUARE.replace("where=two", "where=two, lhs=1"), r":\d+: square: .*"),
        (HEAD + SQUARE + SQUARE.split("```{code")[0], "two equations have the label square"),
        (HEAD + SQUARE.replace('ledger.numeric("', 'ledger.numeric(  )("'), r":\d+: "),
        (HEAD + SQUARE + "\n```{code-cell} python\nx = = 1\n```\n", r":\d+: no Python"),
        (HEAD.replace("two =", "import os\nos._exit(3)\ntwo =") + SQUARE, "process ended before"),
    ],
)  # fmt: skip
def test_a_fault_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    assert main(["check", str(path), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(re.match(re.escape(str(path)) + f".*{expected}", line) for line in lines[:-1]), lines
    assert not lines[-1].endswith(" 0 faults")


def test_a_broken_value_is_named_as_the_reason(tmp_path: Path) -> None:
    broken = HEAD.replace("two =", 'broken = {"a": 1 / 0, "b": 2}\ntwo =')
    path = write(tmp_path, broken + SQUARE.replace("where=two", "where=broken"))
    found = says(path)
    assert any("ZeroDivisionError" in f for f in found)
    assert any("square: NameError" in f and "ZeroDivisionError" in f for f in found)


def test_labels_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    other = SQUARE.replace("square", "cube").replace("where=two", "where=undefined")
    path = str(write(tmp_path, HEAD + SQUARE + other))
    assert main(["check", path, "-q"]) == 1
    assert main(["check", path, "-q", "--label", "square"]) == 0
    assert main(["check", path, "-q", "-k", "squ"]) == 0
    assert main(["check", path, "-q", "--label", "cube"]) == 1
    capsys.readouterr()
    assert main(["check", path, "-q", "--label", "squar"]) == 2
    assert "Is it square?" in capsys.readouterr().err
    assert main(["check", path, "-q", "-k", "nothing"]) == 2
    assert main(["check", str(tmp_path / "none.md"), "-q"]) == 2


def test_equations_without_a_label_may_be_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + SQUARE + "\n$$ x = y $$\n")
    assert len(says(path)) == 1
    assert says(path, unlabelled=False) == []


def test_pages_are_one_book_and_run_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    equation, cell = SQUARE.split("```{code")
    one, two = write(tmp_path, equation, "one.md"), write(tmp_path, HEAD + "```{code" + cell, "two.md")
    third = write(tmp_path, HEAD + SQUARE.replace("square", "third"), "three.md")
    assert main(["check", str(one), str(two), str(third), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert "2 equations checked (2 both sides" in said.out
    assert "[2/2]" in said.err
    assert main(["check", str(one), "-q"]) == 1
