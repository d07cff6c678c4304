"""Text cells outside the book: readable, with the book's numbers, and nothing but the house subset."""

import copy
import shutil
from pathlib import Path

import nbformat
import pytest
from gantext_book import widgets
from gantext_book.plain import MarkupError, contexts, leftovers, render
from gantext_book.source import ROOT, chapters, read_notebook
from gantext_book.twins import code_cells
from nbformat import NotebookNode
from texledger._pages import read_page

from texledger import equations, normal

BOOK = "https://example.org/sample"
SAMPLE = Path(__file__).parent / "sample"
SECOND = f"{BOOK}/notebooks/second.html"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "sample"))


def rendered(root: Path, name: str = "second") -> NotebookNode:
    path = root / "notebooks" / f"{name}.md"
    context = contexts(root)[path]
    return render(read_notebook(path, context.site), context)


def texts(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


EXPECTED = {
    "title": f"# The second\n\n*This notebook runs a chapter of the book: [read it there]({SECOND}).*\n\nA first",
    "code span": "with `{eq}` in code, \\$5, $x_1$ and $y^2$,",
    "eq": f"[(1.1)]({BOOK}/notebooks/first.html#equation-eq-one) and [(2.1)]({SECOND}#equation-eq-two)",
    "prf:ref": f"[Theorem 2.1]({SECOND}#thm-main), [the lemma]({SECOND}#lem-aux)",
    "ref to a chapter": f"[The first: $\\det$]({BOOK}/notebooks/first.html#first)",
    "ref to a heading": f"[this section]({SECOND}#inside), [The inside of it]({SECOND}#inside)",
    "ref to boxes": f"[Exercise 2.2]({SECOND}#ex-one), [Solution to Exercise 2.2]({SECOND}#sol-one)",
    "numref": f"[Figure 2.2]({SECOND}#fig-dot),\n[figure 2.1]({SECOND}#fig-plot)",
    "ref to another page": f"[Notation]({BOOK}/book/index.html#notation)",
    "cite": "By Wu et al. (2018) and others (Su, 2018; Schön & Grün, 2001).",
    "api": f"[`gantext.shapes.area`]({BOOK}/book/api.html#gantext.shapes.area), [`area`](",
    "links": f"[one]({BOOK}/notebooks/first.html), [there]({BOOK}/notebooks/first.html#next), [eq]({SECOND}#equation-",
    "slug": f"[slug]({SECOND}#the-inside-of-it),\n[The first: $\\det$]({BOOK}/notebooks/first.html), [out](https:",
    "comment": "[out](https://example.org/x).\n\n$$ a = b \\tag{2.1} $$\n<!-- (eq-two) -->",
    "math directive": "$$\nc = d \\\\\ne = f\n\\tag{2.2}\n$$\n<!-- (eq-three) -->\n\n## The inside of it\n",
    "table": f"| a | b |\n| --- | --- |\n| $x$ | [(2.2)]({SECOND}#equation-eq-three) |",
    "code fence": '```python\nx = {"eq": "`y`"}  # {eq}`z`\n```',
    "theorem": "> **Theorem 2.1 (Jacobi, $n=2$).** If $A$ is a\n> matrix then\n>\n",
    "equation in a box": ">\n> $$ \\det e^A = e^{\\mathrm{tr} A} \\tag{2.3} $$\n> <!-- (eq-det) -->\n>\n> - as [(2.3)]",
    "nesting": ">\n> > **Note.** Inside.\n",
    "proof": "> **Proof.** Clear by $a = b$. ∎",
    "list in a box": "> **Theorem 2.2.**\n>\n> 1. A list\n>\n>    $$ u = v \\tag{2.4} $$\n"
    ">    <!-- (eq-list) -->\n>\n> 2. ends.",
    "box without label": "> **Remark 2.1.** Remark.",
    "exercise": "> **The check.**\n>\n> > **Exercise 2.1 (Try).** Do it.",
    "gated exercise": "**Exercise 2.2.**\n\nWith code:",
    "solution": "> **Solution to Exercise 2.1.** It is [(2.4)]",
    "gated solution": "**Solution to Exercise 2.2.**",
    "end of a solution": "*End of the solution.*",
    "figure": "![A dot: black](dot.svg)\n\n**Figure 2.2.** The **dot**.\n\n![Again](dot.svg)",
    "boxes": "> **Tip.** T.\n\n> **Important.** I.\n\n> **Warning.** W.\n\n> **Own *title*.** O.\n\n> **Aside.** M.",
    "numbers by type": "> **Definition 2.1 (D).** D.\n\n> **Example 2.1.** E.\n\n> **Proposition 2.1.** P.\n\n> **Coro",
    "html": '<div class="x">raw</div>',
    "raw": f"*(interactive figure: see [the page in the book]({SECOND}))*",
    "folded": "## Later\n\n*3 minutes: why $x$ is so*\n\nFolded.\n\n## Ref",
    "bibliography": "- A. Schön and B. Grün. Two authors. *J*, 2001.\n- Jianlin Su. Quadratic potentials. 2018. Blog.",
}


@pytest.fixture(scope="module")
def second() -> str:
    return texts(rendered(SAMPLE))


@pytest.mark.parametrize("construct", EXPECTED)
def test_supported_markup(second: str, construct: str) -> None:
    assert EXPECTED[construct] in second


def test_a_twin_has_the_equations_of_its_source(tmp_path: Path) -> None:
    """The comments behind the equations are their labels for the ledger, wherever they stand."""
    (twin := tmp_path / "second.ipynb").write_text(nbformat.writes(rendered(SAMPLE)), encoding="utf-8")
    source = equations(SAMPLE / "notebooks" / "second.md")
    assert list(source) == ["eq-two", "eq-three", "eq-det", "eq-list"]
    assert equations(twin) == source


@pytest.mark.parametrize("path", chapters(ROOT), ids=lambda path: path.stem)
def test_a_chapters_twin_has_its_equations(path: Path, tmp_path: Path) -> None:
    context = contexts(ROOT)[path]
    (twin := tmp_path / path.with_suffix(".ipynb").name).write_text(
        nbformat.writes(render(read_notebook(path, context.site), context)), encoding="utf-8"
    )
    normalised = lambda page: {label: normal(tex) for label, tex in equations(page).items()}
    assert normalised(twin) == normalised(path)
    assert len(normalised(path)) > 10


def test_uncited_works_are_not_listed(second: str) -> None:
    assert "Nobody" not in second


AWKWARD = {
    "directive in a list": ("- a\n\n  ```{note}\n  b\n  ```\n- c", "- a\n\n  > **Note.** b\n\n- c"),
    "directive after a marker": ("1. ```{tip}\n   b\n   ```\n", "1. > **Tip.** b"),
    "code after a marker": ("- ```sh\n  {eq}`x`\n  ```\n- b", "- ```sh\n  {eq}`x`\n  ```\n- b"),
    "code in a quotation": ("> ```sh\n> x\n> ```\n> y", "> ```sh\n> x\n> ```\n> y"),
    "colons within colons": ("::::{note}\na\n:::{tip}\nb\n:::\n::::", "> **Note.** a\n>\n> > **Tip.** b"),
    "myst shown as code": ("````md\n```{note}\n$$\n```\n````", "````md\n```{note}\n$$\n```\n````"),
    "folded, with a role": (
        "### A\n% note\n:::{folded} {eq}`eq-two` and `x`\n:::\nB",
        f"### A\n\n*[(2.1)]({SECOND}#equation-eq-two) and `x`*\n\nB",
    ),
    "link with a title": ('[a](first.md "t")', f"[a]({BOOK}/notebooks/first.html)"),
    "math in a link": ("[$a_{[1]}$](#eq-two)", f"[$a_{{[1]}}$]({SECOND}#equation-eq-two)"),
    "address with brackets": ("[a](https://x.org/b_(c))", "[a](https://x.org/b_(c))"),
    "two equations": (
        "$$ p $$ (eq-p)\n\n$$ q % r\n$$ (eq-q)",
        "$$ p \\tag{2.5} $$\n<!-- (eq-p) -->\n\n$$ q \\tag{2.6} $$\n<!-- (eq-q) -->",
    ),
}


@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_places(root: Path, case: str) -> None:
    markup, expected = AWKWARD[case]
    path = root / "notebooks" / "second.md"
    path.write_text(path.read_text().replace("## References", f"{markup}\n\n## References"))
    assert f"\n\n{expected}\n\n## References" in texts(rendered(root))


CHECKS = """```{code-cell} ipython3
ledger.numeric("second:one", r"x < y", two)
```

```{code-cell} ipython3
ledger.refutation(
    "second:wrong", "x = y", two
)
```
"""


def test_marks_of_checks_are_links_that_texledger_reads(root: Path) -> None:
    path = root / "notebooks" / "second.md"
    marks = "By {checked}`x < y <second:one>`, and {checked}`second:wrong`."
    path.write_text(path.read_text().replace("## References", f"{marks}\n\n{CHECKS}\n## References"))
    expected = f'By $x < y$ [✓]({SECOND}#check-second-one "checked as printed: second:one"), and '
    expected += f'[✗]({SECOND}#check-second-wrong "checked: second:wrong").'
    nb = rendered(root)
    assert expected in texts(nb)
    twin = root / "second.ipynb"
    nbformat.write(nb, twin)
    assert [(s.label, s.tex) for s in read_page(twin).statements] == [("second:one", "x < y"), ("second:wrong", None)]
    path.write_text(path.read_text().replace("`second:wrong`", "`second:wong`"))
    with pytest.raises(MarkupError, match="no chapter has a check of that label"):
        rendered(root)


def test_nothing_is_left_over_and_code_is_as_it_was(root: Path) -> None:
    path = root / "notebooks" / "second.md"
    context = contexts(root)[path]
    nb = read_notebook(path, context.site)
    before = copy.deepcopy(nb)
    result = render(nb, context)
    assert nb == before
    assert [
        leftovers(cell.source) for cell in result.cells if cell.cell_type == "markdown" if leftovers(cell.source)
    ] == []
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert [cell for cell in result.cells if cell.cell_type == "code"] == code
    assert {cell.id for cell in result.cells} <= {cell.id for cell in nb.cells}


@pytest.mark.parametrize(
    "markup",
    [
        "see {eq}`x`",
        "> quoted {prf:ref}`x`",
        "```{note}\nx\n```",
        ":::{tip}\nx\n:::",
        "> ```{math}\n> x\n> ```",
        "(here)=\n# Title",
        "$$\nx\n$$ (label)",
        "% comment",
        "{{ edition }}",
        "a note[^1]",
        "[x](#label)",
        "[x](other.md)",
        "[x](https://example.org){.cls}",
        "+++",
        "Term\n: definition",
    ],
)
def test_leftovers_sees(markup: str) -> None:
    assert leftovers(f"Before.\n\n{markup}\n\nAfter.")


@pytest.mark.parametrize(
    "markdown",
    [
        "`{eq}` and ``{eq}`x` ``",
        "```python\n{eq}`x`\n(a)=\n% x\n```",
        "$$ x \\tag{2.1} $$",
        "$x^{{a}}$ (x)= 3",
        "[x](https://example.org/a.md#b)",
        "![a](x.png)",
        "> **T.** $x$",
        "- ```sh\n  x\n  ```\n- [x](y.py)",
    ],
)
def test_leftovers_accepts_plain_markdown(markdown: str) -> None:
    assert leftovers(markdown) == []


REFUSED = {
    "directive": ("```{tabs}\nx\n```", r"`\{tabs\}`.*supported: prf:theorem"),
    "colon directive": (":::{grid} 2\nx\n:::", r"`\{grid\}`"),
    "nested directive": ("````{note}\n```{tabs}\nx\n```\n````", r"`\{tabs\}`"),
    "role": ("an {abbr}`x`", r"`\{abbr\}`.*supported: eq"),
    "unlabelled equation": ("$$\nx\n$$", "no label"),
    "equation within a paragraph": ("text\n$$\nx\n$$ (eq-new)", "blank line before"),
    "double dollars in a line": ("text $$x$$ text", r"\$\$"),
    "environment": ("\\begin{align}\nx\n\\end{align}", "begin"),
    "own tag": ("$$ x \\tag{7} $$ (eq-new)", "the book numbers it"),
    "open fence": ("````{note}\nx", "never closed"),
    "open equation": ("$$\nx", "never closed"),
    "unknown label": ("{eq}`eq-none`", "`eq-none`.*defines it"),
    "wrong role": ("{ref}`eq-two`", "kind equation"),
    "undocumented module": ("{func}`gantext.shape.area`", "documents its module"),
    "unknown work": ("{cite:t}`nobody`", "references.bib"),
    "unknown link": ("[x](#nowhere)", "neither a label"),
    "unknown heading": ("[x](first.md#first)", "no such heading"),
    "missing file": ("[x](nothing.md)", "no such file"),
    "scheme": ("[x](project:first.md)", "supported are http"),
    "figure without alt": ("```{figure} dot.svg\nx\n```", "alt"),
    "figure without name": ("```{figure} dot.svg\n:alt: x\nx\n```", "name"),
    "target without heading": ("(no-heading)=\ntext\n\n{ref}`no-heading`", "no heading"),
    "footnote": ("text[^1]", "house subset"),
    "definition list": ("Term\n: definition", "house subset"),
    "substitution": ("{{ other }}", "house subset"),
    "attribute": ("[x](dot.svg){.wide}", "house subset"),
    "folded without a line": ("## A\n\n```{folded}\n```", "one line behind its name"),
    "folded with content": ("## A\n\n```{folded} x\ny\n```", "it is empty"),
    "folded with an option": ("## A\n\n```{folded} x\n:name: y\n```", "it is empty"),
    "folded after text": ("## A\n\nText.\n\n```{folded} x\n```", "first thing under a heading"),
    "folded after an equation": ("## A\n\n$$ x $$ (eq-new)\n\n```{folded} x\n```", "first thing under a heading"),
    "folded twice": ("## A\n\n```{folded} x\n```\n\n```{folded} y\n```", "first thing under a heading"),
    "folded code's section": ("## A\n\n```{code-cell}\n1\n```\n\n```{folded} x\n```", "first thing under a heading"),
    "folded opening": ("# A\n\n```{folded} x\n```", "the opening of a chapter stays open"),
    "folded in a box": ("## A\n\n````{note}\n```{folded} x\n```\n````", "not inside of something"),
    "folded in a list": ("## A\n\n- ```{folded} x\n  ```", "it is empty, with"),
    "folded with emphasis": ("## A\n\n```{folded} the *idea*\n```", "without emphasis"),
    "widget unknown": ("```{widget} nothing\n```", "no nothing.html"),
    "widget without a name": ("```{widget}\n```", "it is empty and stands by itself"),
    "widget with content": ("```{widget} wasserstein\nx\n```", "it is empty and stands by itself"),
    "widget in a list": ("- ```{widget} wasserstein\n  ```", "it is empty and stands by itself"),
    "widget in a box": ("````{note}\n```{widget} wasserstein\n```\n````", "not inside of something"),
    "directive in a quotation": ("> ```{note}\n> x\n> ```", "quotation"),
}


@pytest.mark.parametrize("construct", REFUSED)
def test_other_markup_is_refused_where_it_stands(root: Path, construct: str) -> None:
    markup, message = REFUSED[construct]
    path = root / "notebooks" / "second.md"
    text = path.read_text()
    path.write_text(text.replace("## References", f"{markup}\n\n## References"))
    with pytest.raises(MarkupError, match=message) as caught:
        rendered(root)
    line = int(str(caught.value).split("second.md:")[1].split(":")[0])
    first = text[: text.index("## References")].count("\n") + 1
    exact = construct != "directive in a quotation"  # found afterwards, by cell
    assert first <= line <= first + markup.count("\n") if exact else line <= first


def test_a_widget_is_a_cell_between_its_texts(root: Path) -> None:
    path = root / "notebooks" / "second.md"
    path.write_text(
        path.read_text().replace("## References", "Before.\n\n```{widget} wasserstein\n```\n\nAfter.\n\n## References")
    )
    context = contexts(root)[path]
    nb = read_notebook(path, context.site)
    result = render(nb, context)
    (at,) = [k for k, cell in enumerate(result.cells) if widgets.is_widget(cell)]
    before, cell, after = result.cells[at - 1 : at + 2]
    assert before.source.endswith("\n\nBefore.") and after.source.startswith("After.\n\n## References")
    assert cell.source == f"%%html\n{widgets.html('wasserstein')}" and cell.metadata.jupyter.source_hidden
    assert cell.outputs[0].data["text/html"] == f"{widgets.html('wasserstein')}\n"
    assert len({cell.id for cell in result.cells}) == len(result.cells)
    nbformat.validate(result)
    assert [cell.source for cell in code_cells(result)] == [cell.source for cell in code_cells(nb)]


def test_a_label_belongs_to_one_place(root: Path) -> None:
    path = root / "notebooks" / "second.md"
    path.write_text(path.read_text() + "\n$$ x $$ (eq:one)\n")
    with pytest.raises(MarkupError, match=r"eq:one.*notebooks/first"):
        contexts(root)


def test_numbers_follow_the_contents(root: Path) -> None:
    toc = root / "_toc.yml"
    toc.write_text(toc.read_text().replace("first", "@").replace("second", "first").replace("@", "second"))
    assert "> **Theorem 1.1 (Jacobi" in texts(rendered(root))
    assert "\\tag{2.1}" in texts(rendered(root, "first"))
