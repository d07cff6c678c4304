"""The TeX is typed once: a check takes it from the page that displays it, wherever the page's cells run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from texledger._check import check
from texledger._damage import Damage, try_page
from texledger._gate import Made, faults
from texledger._pages import read_page

from texledger import By, CheckFailed, Derived, Ledger, LedgerError, Over, equations
from texledger import _home as home

SQUARE = r"(a + b)^2 = a^2 + 2 a b + b^2"
CUBE = r"a^3 - b^3 = (a - b) (a^2 + a b + b^2)"
two = lambda draw: {"a": draw.real(), "b": draw.real()}
CODE = """from texledger import Ledger

ledger = Ledger({chapter})
two = lambda draw: {{"a": draw.real(), "b": draw.real()}}
"""


def markdown(tex: str = SQUARE, label: str = "square", chapter: str = "") -> str:
    cell = CODE.format(chapter=chapter) + f'ledger.numeric("{label}", where=two)'
    return f"# A page\n\n$$\n{tex}\n$$ ({label})\n\n```{{code-cell}} python\n{cell}\n```\n"


def notebook(tex: str = SQUARE, label: str = "square", comment: bool = False, lines: bool = False) -> dict[str, Any]:
    """As Jupyter and Colab have it; with ``comment`` as the twins of this book are written."""
    shown = f"$$ {tex} \\tag{{1.1}} $$\n<!-- ({label}) -->" if comment else f"$$\n{tex}\n\\label{{{label}}}\n$$"
    text = f"# A page\n\n{shown}\n\nSo it is."
    code = CODE.format(chapter="") + f'ledger.numeric("{label}", where=two)'
    source = lambda s: s.splitlines(keepends=True) if lines else s
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": source(text)},
        {"cell_type": "code", "metadata": {}, "source": source(code), "outputs": [], "execution_count": None},
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the code runs, and nothing that another test or Jupyter left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(home, "_running", [])
    monkeypatch.setattr(home, "_handed", {})
    assert "google.colab" not in sys.modules
    return tmp_path


def test_every_form_of_a_page_will_do(folder: Path) -> None:
    (folder / "one.md").write_text(markdown())
    assert Ledger().numeric("square", where=two).tex == SQUARE
    (folder / "one.md").unlink()
    for comment in (False, True):
        (folder / "one.ipynb").write_text(json.dumps(notebook(comment=comment)))
        entry = Ledger().numeric("square", where=two)
        assert (entry.tex, entry.strength) == (SQUARE, "both sides")
    (folder / "one.ipynb").unlink()
    (folder / "one.qmd").write_text(f"# A page\n\n$$\n{SQUARE}\n$$ {{#eq-square}}\n")
    assert Ledger().numeric("eq-square", where=two).tex == SQUARE
    assert list(equations("one.qmd")) == ["eq-square"]


def test_the_entry_is_the_one_that_a_quote_would_have_made(folder: Path) -> None:
    long = "(a + b)^2\n= a^2  % the first square\n+ 2 a b\n+ b^2,"
    (folder / "one.md").write_text(markdown(long))
    given, taken = Ledger().numeric("square", SQUARE + ",", two).as_json(), Ledger().numeric("square", where=two)
    assert taken.as_json() == given
    assert equations("one.md") == {"square": SQUARE + ","}


def test_the_gate_sees_an_equation_that_was_edited_later(folder: Path) -> None:
    """The entry keeps the TeX that it judged, so a stored one does not follow the page."""
    page = folder / "one.md"
    page.write_text(markdown())
    entry = Ledger().numeric("square", where=two)
    assert faults(read_page(page).equations, [Made(entry, "one")]) == []
    page.write_text(markdown(SQUARE.replace("2", "3")))
    (fault,) = faults(read_page(page).equations, [Made(entry, "one")])
    assert "equation square is not what its entry quotes; look at the check, and run its cell again." in fault.says


def test_a_cell_run_again_judges_what_the_page_then_says(folder: Path) -> None:
    page, ledger = folder / "one.md", Ledger()
    for tex in (SQUARE, SQUARE, SQUARE.replace("2 a b", "b a + a b"), SQUARE):
        page.write_text(markdown(tex))
        assert ledger_cell(ledger).tex == tex
    page.write_text(markdown(SQUARE.replace("+ b^2", "+ 2 b^2")))
    with pytest.raises(CheckFailed, match="square: draw 1: the side"):
        ledger_cell(ledger)
    page.write_text(markdown())
    with pytest.raises(LedgerError, match="has an entry already"):
        ledger.numeric("square", where=two)  # another cell


def ledger_cell(ledger: Ledger) -> Any:
    return ledger.numeric("square", where=two)


KINDS = r"""
$$ a + 1 > a $$ (demo:exact)

$$ (a + b)^2 = a^2 + 2 a b + b^2 $$ (demo:symbolic)

$$ \nabla_M \det M = \operatorname{adj}(M)^{\top} $$ (demo:gradient)

$$ m = a^2 + 1 $$ (demo:statistical)

$$ T_2(M) = \sum_{k=0}^{2} \frac{M^k}{k!} $$ (demo:implementation)

$$ \kappa := \|M\|_F\, \|M^{-1}\|_F $$ (demo:definition)

$$ y := x $$ (demo:name)

$$ a^2 = 2 a $$ (demo:refuted)

$$ \frac{\partial L}{\partial v} = 2 v, \qquad \sum_i x_i = a + b $$ (demo:several)

$$ \nabla f(x) = a + 2 x \qquad \text{for every } x $$ (demo:words)
"""


def test_every_kind_of_check_takes_it_from_the_page(folder: Path) -> None:
    import numpy as np
    import sympy as sp
    import torch

    (folder / "demo.md").write_text(f"# Kinds\n{KINDS}")
    ledger = Ledger("demo")
    matrix = lambda draw: {"M": draw.matrix(draw.turn(2, 3))}
    one = lambda draw: {"a": draw.real(1, 2)}
    ledger.exact("demo:exact", where=lambda draw: {"a": draw.integer(-9, 9)}, loose="it never is one per cent of a")
    ledger.symbolic("demo:symbolic", where={"a": sp.Symbol("a"), "b": sp.Symbol("b")})
    ledger.gradient("demo:gradient", where=matrix, of=torch.linalg.det, wrt="M")
    squares = lambda a, n, rng: (a + rng.choice([-1.0, 1.0], n)) ** 2
    ledger.statistical("demo:statistical", where=one, samples=squares, n=10_000, unread={"m": "its law is in the code"})
    taylor = lambda X: torch.eye(len(X), dtype=X.dtype) + X + X @ X / 2
    ledger.implementation("demo:implementation", where=matrix, function=taylor, name="T_2")
    condition = lambda M: M.norm() * M.inverse().norm()
    ledger.definition("demo:definition", where=matrix, call=condition, name="kappa")
    ledger.definition("demo:name", "y := x")
    refuted = ledger.refutation(
        "demo:refuted", where={"a": 3}, source="nobody", counterexample="a = 3", holds="a^2 = 3 a", sides=(9, 6)
    )
    several = lambda draw: {
        **two(draw), "v": draw.real(1, 2), "L": Derived(lambda v: v * v), "x": Over([draw.real(1, 2)])
    }  # fmt: skip
    with pytest.raises(LedgerError, match="demo:several"):
        ledger.numeric("demo:several", where=several)  # the second statement is read, and `x` is no list
    listed = lambda draw: {**two(draw), "v": draw.real(1, 2), "L": Derived(lambda v: v * v), "i": Over([1, 2])}
    ledger.numeric("demo:several", where=lambda draw: (lambda w: {**w, "x": [w["a"], w["b"]]})(listed(draw)))

    def shifted(draw: Any) -> dict[str, Any]:
        a = draw.matrix(3, 1)
        return {"a": a, "f": lambda x: (a.T * x + x.T * x)[0], "x": draw.matrix(3, 1), "nabla": By("x")}

    ledger.numeric("demo:words", where=shifted, unread={r"\text{for every } x": "x is drawn"})
    shown = equations("demo.md")
    assert {label: entry.tex for label, entry in ledger.entries.items()} == shown
    assert refuted.strength == "both sides" and refuted.mutants
    assert {e.strength for e in ledger.entries.values()} == {"both sides", "one side", None}
    assert faults(read_page(folder / "demo.md").equations, [Made(e, "demo") for e in ledger.entries.values()]) == []
    assert np.isfinite(ledger.entries["demo:gradient"].killed)


UNREAD = {
    "a name that nothing checks": (lambda ledger: ledger.definition("demo:name"), "would pass unseen. Type the TeX"),
    "a name that is computed": (
        lambda ledger: ledger.definition("demo:name", where=lambda draw: {"x": draw.real()}, call=lambda x: x),
        "Say what it is, name='the name as it is read', or type the TeX",
    ),
    "another name": (
        lambda ledger: ledger.definition(
            "demo:name", where=lambda draw: {"x": draw.real()}, call=lambda x: x, name="z"
        ),
        "the page introduces `y`, the check says name='z'",
    ),
    "any false statement": (
        lambda ledger: ledger.refutation(
            "demo:refuted", where={"a": 3}, source="nobody", counterexample="a = 3", holds="a^2 = 3 a"
        ),
        "Give `sides=`, without `published=`, or type the TeX",
    ),
    "all of it": (
        lambda ledger: ledger.numeric(
            "demo:refuted", where={"a": 3}, lhs=9, rhs=9, unread="w", mutants={"x": lambda a: a}
        ),
        "type it as the page has it",
    ),
}


@pytest.mark.parametrize("part", UNREAD)
def test_what_no_check_reads_is_typed_twice(folder: Path, part: str) -> None:
    """Else an edit of the page would pass as soon as the cell has run again."""
    (folder / "demo.md").write_text(f"# Kinds\n{KINDS}")
    call, says = UNREAD[part]
    with pytest.raises(LedgerError, match=re.escape(says)):
        call(Ledger("demo"))


def test_a_part_that_is_excused_is_named_by_its_tex(folder: Path) -> None:
    """So an edit of what is not read is seen although nothing is typed twice."""
    page, excuse = folder / "one.md", {"m": "it is a name"}
    check = lambda: Ledger().numeric("one", where=two, lhs=lambda a, b: a + b, unread=excuse)
    page.write_text(markdown("m = a + b", "one"))
    assert check().strength == "one side"
    page.write_text(markdown("n = a + b", "one"))
    with pytest.raises(LedgerError, match="unread names 'm'"):
        check()


def test_a_statement_in_words_still_needs_no_equation() -> None:
    entry = Ledger("demo").refutation(
        "demo:words", None, where={"a": 3}, source="nobody", statement="a square is twice its root", holds="in words",
        counterexample="3", published=(9, 6), corrected=(lambda a: a * a, 9), mutants={"twice": lambda a: 2 * a},
    )  # fmt: skip
    assert entry.tex is None


def test_texledger_check_runs_a_page_from_anywhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    book = tmp_path_factory.mktemp("book")
    (book / "one.md").write_text(markdown())
    (book / "two.ipynb").write_text(json.dumps(notebook(CUBE, "cube", comment=True, lines=True)))
    verdict = check([book / "one.md", book / "two.ipynb"])
    assert (verdict.faults, {m.entry.label: m.entry.tex for m in verdict.entries}) == (
        [],
        {"square": SQUARE, "cube": CUBE},
    )
    (book / "one.md").write_text(markdown(SQUARE.replace("2 a b", "3 a b")))
    (book / "copy.md").write_text(markdown())  # another page's equation of that label is not the page's
    verdict = check([book / "one.md"])
    assert [f.label for f in verdict.faults] == ["square"]
    assert "draw 1: the side" in verdict.faults[0].says


def test_damage_misprints_what_the_page_displays(folder: Path) -> None:
    (folder / "one.md").write_text(markdown())
    found: list[Damage] = []
    try_page(folder / "one.md", 3, 0, found.append)
    assert len(found) == 3
    assert {d.tex for d in found} == {SQUARE}
    assert all(d.damaged != SQUARE for d in found)


class TestWhichPage:
    def test_the_page_that_is_named(self, folder: Path) -> None:
        (folder / "pages").mkdir()
        (folder / "one.md").write_text(markdown(CUBE))
        (folder / "pages" / "two.md").write_text(markdown())
        for page in ("pages/two.md", "pages/two", folder / "pages" / "two.md"):
            assert Ledger(page=page).numeric("square", where=two).tex == SQUARE
        with pytest.raises(LedgerError, match=r"no display equation.*Looked at: three\.md \(there"):
            Ledger(page="three.md").numeric("square", where=two)
        with pytest.raises(LedgerError, match="name the file"):
            Ledger(page=3)  # type: ignore[arg-type]  # what is refused

    def test_text_before_the_notebook_that_may_lag_behind(self, folder: Path) -> None:
        (folder / "one.ipynb").write_text(json.dumps(notebook(CUBE)))
        (folder / "one.md").write_text(markdown())
        assert Ledger().numeric("square", where=two).tex == SQUARE

    @pytest.mark.parametrize("told", ["JPY_SESSION_NAME", "__vsc_ipynb_file__"])
    def test_the_notebook_that_is_open(self, folder: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
        (folder / "one.md").write_text(markdown(CUBE))
        (folder / "one.ipynb").write_text(json.dumps(notebook()))
        if told == "JPY_SESSION_NAME":
            monkeypatch.setenv(told, str(folder / "one.ipynb"))
        else:
            monkeypatch.setattr(sys.modules["__main__"], told, str(folder / "one.ipynb"), raising=False)
        assert Ledger().numeric("square", where=two).tex == SQUARE

    def test_the_chapter_before_its_neighbours(self, folder: Path) -> None:
        (folder / "demo.md").write_text(markdown(label="demo:a"))
        (folder / "draft.md").write_text(markdown(CUBE, label="demo:a"))
        assert Ledger("demo").numeric("demo:a", where=two).tex == SQUARE

    def test_two_pages_that_differ_are_not_guessed_at(self, folder: Path) -> None:
        (folder / "one.md").write_text(markdown())
        (folder / "copy.md").write_text(markdown(SQUARE.replace(" ", "  ") + "."))
        assert Ledger().numeric("square", where=two).strength == "both sides"
        (folder / "copy.md").write_text(markdown(CUBE))
        with pytest.raises(LedgerError, match=r"different equations of this label \(copy.md:3, one.md:3\)"):
            Ledger().numeric("square", where=two)

    def test_a_script_finds_the_page_beside_it(self, folder: Path) -> None:
        (folder / "pages").mkdir()
        (folder / "pages" / "one.md").write_text(markdown())
        (folder / "pages" / "one.py").write_text(
            CODE.format(chapter="") + 'print(ledger.numeric("square", where=two).tex)'
        )
        path = os.pathsep.join(str(Path(entry or ".").resolve()) for entry in sys.path)
        ran = subprocess.run(
            [sys.executable, "pages/one.py"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert ran.stdout.strip() == SQUARE, ran.stderr


def test_what_is_not_found_says_what_to_do(folder: Path) -> None:
    with pytest.raises(LedgerError, match=r"no TeX is given.*Looked at: no page \(\.md, .* in .*Save the page"):
        Ledger().numeric("square", where=two)
    (folder / "one.md").write_text(markdown())
    (folder / "broken.ipynb").write_text("{")
    with pytest.raises(LedgerError, match=r"Is it square\? Looked at: one.md\. Save .*Ledger\(page=.*give the TeX"):
        Ledger().numeric("sqare", where=two)
    with pytest.raises(LedgerError, match="second argument is the equation's TeX: give the values as where="):
        Ledger().numeric("square", two)  # type: ignore[arg-type]  # what is refused
    (folder / "one.md").write_text(markdown() + markdown())
    with pytest.raises(LedgerError, match="two equations have the label square"):
        equations("one.md")


class Colab:
    """What of ``google.colab`` is used, with a front end that answers, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
        self.answer, self.asked = answer, 0
        for name in ("google", "google.colab", "google.colab._message"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["google.colab._message"].blocking_request = self.request  # type: ignore[attr-defined]  # a stand-in
        self.shell = types.SimpleNamespace(execution_count=1)
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: self.shell))

    def request(self, request_type: str, request: Any = "", timeout_sec: float = 5, parent: Any = None) -> Any:
        assert request_type == "get_ipynb"
        assert timeout_sec >= 10
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class TestOnColab:
    @pytest.mark.parametrize("lines", [False, True])
    def test_the_notebook_itself_is_the_page(self, folder: Path, monkeypatch: pytest.MonkeyPatch, lines: bool) -> None:
        colab = Colab(monkeypatch, {"ipynb": notebook(comment=True, lines=lines)})
        (folder / "other.md").write_text(markdown(CUBE))  # on a drive, from somewhere else
        ledger = Ledger()
        assert ledger_cell(ledger).tex == SQUARE
        assert ledger_cell(ledger).tex == SQUARE
        assert colab.asked == 1, "one cell asks once"
        colab.answer = {"ipynb": notebook(SQUARE.replace("2 a b", "3 a b"), comment=True)}
        colab.shell.execution_count += 1
        with pytest.raises(AssertionError, match="square"):
            ledger_cell(ledger)
        assert colab.asked == 2, "an edited page is seen when a cell runs"

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (None, "within 30 s; is the browser's page open"),
            (ValueError("no such request"), "ValueError: no such request"),
            ({}, "not a notebook"),
            ({"ipynb": {"cells": [3]}}, "not a notebook"),
            ("text", "not a notebook"),
            ({"ipynb": notebook(label="other")}, "Looked at: the notebook on Colab. Save"),
        ],
    )
    def test_without_an_answer_files_are_looked_at(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, says: str
    ) -> None:
        Colab(monkeypatch, answer)
        with pytest.raises(LedgerError, match=r"no TeX is given.*Looked at: the notebook on Colab") as caught:
            Ledger().numeric("square", where=two)
        assert says in str(caught.value)
        (folder / "one.md").write_text(markdown())
        assert Ledger().numeric("square", where=two).tex == SQUARE

    def test_another_colab_than_we_know(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Colab(monkeypatch, None)
        monkeypatch.setitem(sys.modules, "google.colab._message", None)
        with pytest.raises(LedgerError, match=r"did not hand it over: ModuleNotFoundError"):
            Ledger().numeric("square", where=two)
        assert Ledger().numeric("square", SQUARE, two).tex == SQUARE
