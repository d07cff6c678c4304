"""Collect equations, entries and references from the pages, and stop the build where they part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

from texledger._entry import MIME, Entry, LedgerError
from texledger._gate import Equation, Fault, Made, Statement, faults, marked


class entry_output(nodes.General, nodes.Element):  # noqa: N801 - docutils names its nodes so
    """An entry among a code cell's outputs, until it has been collected."""


class checked_mark(nodes.General, nodes.Inline, nodes.Element):  # noqa: N801  # docutils names its nodes so
    """The mark of a statement in running text, until all pages have been read."""


class CheckedRole(SphinxRole):
    """``{checked}`label``` behind a statement; ``{checked}`TeX <label>``` prints the formula as well."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        source = self.rawtext.partition("`")[2].rpartition("`")[0]  # as written, with its backslashes
        label, tex = marked(source)
        mark = checked_mark("", label=label, tex=tex)
        self.set_source_info(mark)
        return [*([nodes.math(tex, tex)] if tex else []), mark], []


class EntryOutput:
    """MyST-NB's plug-in for the ledger's outputs: without it they are skipped with a warning."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """The entry as a node; other outputs are left to MyST-NB."""
        if data.mime_type != MIME:
            return None
        content = data.content
        return [entry_output("", data=json.loads(content) if isinstance(content, str) else content)]


@dataclass
class Book:
    """All equations, entries and references; kept in the build environment.

    Lists of them are in the order of the pages' names, however many processes read these, and whichever was read last.
    """

    equations: dict[str, list[Equation]] = field(default_factory=dict)  # per page
    entries: dict[str, list[Made]] = field(default_factory=dict)
    statements: dict[str, list[Statement]] = field(default_factory=dict)  # the marks in running text
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    uses: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # an equation, and one that it uses
    silent: set[str] = field(default_factory=set)  # pages with code cells of which none has an output
    made: set[str] = field(default_factory=set)  # pages computed from the records of others
    tables: dict[str, list[str]] = field(default_factory=dict)  # pages that list equations: of which pages ("": all)

    def forget(self, docname: str) -> None:
        for records in (self.equations, self.entries, self.statements, self.faults, self.uses, self.tables):
            records.pop(docname, None)
        self.silent.discard(docname)
        self.made.discard(docname)

    def take(self, other: Book, docnames: set[str]) -> None:
        """Take over what another process has read."""
        for name in ("equations", "entries", "statements", "faults", "uses", "tables"):
            mine, theirs = getattr(self, name), getattr(other, name)
            mine.update({doc: theirs[doc] for doc in docnames if doc in theirs})
        self.silent |= other.silent & docnames
        self.made |= other.made & docnames

    def all_equations(self) -> list[Equation]:
        return [e for _, page in sorted(self.equations.items()) for e in page if e.label]

    def all_entries(self) -> list[Made]:
        return [m for _, page in sorted(self.entries.items()) for m in page]

    def all_statements(self) -> list[Statement]:
        return [s for _, page in sorted(self.statements.items()) for s in page]

    def entry(self, label: str) -> Made | None:
        return next((m for m in self.all_entries() if m.entry.label == label), None)

    def equation(self, label: str) -> Equation | None:
        return next((e for e in self.all_equations() if e.label == label), None)

    def problems(self, unlabelled: bool = True) -> list[Fault]:
        """Everything that keeps the book from being complete; empty if it may be published."""
        equations = [e for page in self.equations.values() for e in page]
        found = [fault for page in self.faults.values() for fault in page]
        found += faults(equations, self.all_entries(), unlabelled, (), self.all_statements())
        short = {e.page for e in equations if e.label and not self.entry(e.label)}
        return found + [
            Fault(doc, None, "no code cell of this page has an output: was it executed? (nb_execution_mode)")
            for doc in sorted(self.silent & short)
        ]


def book(env: BuildEnvironment) -> Book:
    """The records, made on first use."""
    if not hasattr(env, "texledger_book"):
        env.texledger_book = Book()  # type: ignore[attr-defined]
    return env.texledger_book  # type: ignore[attr-defined]


def use_outputs(app: Sphinx) -> None:
    """``builder-inited``: let MyST-NB hand over the ledger's outputs where the entry point does not do it.

    A package that lies on the path without having been installed has no entry points.
    """
    try:
        from myst_nb.core.render import load_mime_renders
    except ImportError:  # entries come from the notebooks beside the pages
        return
    plugins: list[Any] = load_mime_renders()  # one list for the whole process
    if EntryOutput not in plugins:
        plugins.append(EntryOutput)


def stored_entries(notebook: Path, docname: str) -> tuple[list[Made], list[Fault]]:
    """The ledger's entries in a notebook's outputs, and what is wrong with those that cannot be read."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found: list[Made] = []
    wrong: list[Fault] = []
    for number, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
        for output in cell.get("outputs", []):
            if (data := output.get("data", {}).get(MIME)) is not None:
                _add(data, docname, number, found, wrong)
    return found, wrong


def _add(data: Any, docname: str, cell: int, found: list[Made], wrong: list[Fault]) -> None:
    try:
        found.append(Made(Entry.from_json(data), docname, cell=cell))
    except LedgerError as error:
        wrong.append(Fault(f"{docname}, code cell {cell + 1}", None, str(error)))


def code_cells(doctree: nodes.document) -> list[nodes.container]:
    """The code cells that the page shows, in order."""
    return [n for n in doctree.findall(nodes.container) if n.get("nb_element") == "cell_code"]


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: note the page's display equations, entries and references."""
    docname = app.env.docname
    mine = book(app.env)
    blocks = list(doctree.findall(nodes.math_block))
    mine.equations[docname] = [Equation(n.get("label") or None, n.astext(), docname, n.line) for n in blocks]
    mine.uses[docname] = sorted(set(_uses(doctree)))
    mine.statements[docname] = _statements(doctree, docname)
    found: list[Made] = []
    wrong: list[Fault] = []
    cells = code_cells(doctree)
    for number, cell in enumerate(cells):
        for output in list(cell.findall(entry_output)):
            before = len(found)
            _add(output["data"], docname, number, found, wrong)
            cell["ledger"] = [*cell.get("ledger", ()), *(m.entry.label for m in found[before:])]
            shell = output.parent
            (shell if shell.get("mime_type") else output).replace_self([])
    beside = Path(app.env.doc2path(docname)).with_suffix(".ipynb")
    if not found and not wrong and cells and beside.exists() and beside != Path(app.env.doc2path(docname)):
        app.env.note_dependency(str(beside))
        found, wrong = _beside(beside, docname, cells)
    mine.entries[docname], mine.faults[docname] = found, wrong
    outputs = any(n.get("nb_element") in {"cell_code_output", "mime_bundle"} for n in doctree.findall(nodes.container))
    if cells and not outputs and not found:
        mine.silent.add(docname)


def _statements(doctree: nodes.document, docname: str) -> list[Statement]:
    """The marks of the running text, each with the formulas of its paragraph or table row."""
    found: list[Statement] = []
    for node in doctree.findall(checked_mark):
        block: Any = node.parent
        while not isinstance(block, nodes.row | nodes.TextElement | nodes.document) or isinstance(block, nodes.Inline):
            block = block.parent
        row: Any = block
        while row is not None and not isinstance(row, nodes.row):
            row = row.parent
        beside = tuple(formula.astext() for formula in (row or block).findall(nodes.math))
        number = sum(s.label == node["label"] for s in found)
        found.append(Statement(node["label"], node["tex"], docname, node.line, beside, number))
        node["ids"] = [found[-1].anchor]
    return found


def _beside(notebook: Path, docname: str, cells: list[nodes.container]) -> tuple[list[Made], list[Fault]]:
    """Entries of the notebook beside a page, if it has the page's code; they are named in the page's cells."""
    found, wrong = stored_entries(notebook, docname)
    if not found and not wrong:
        return [], []
    stored = [
        "".join(c["source"])
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]
    shown = [next((b.astext() for b in cell.findall(nodes.literal_block)), "") for cell in cells]
    if [s.strip() for s in stored] != [s.strip() for s in shown]:
        says = f"the code of {notebook.name}, which stores this page's entries, is not the page's code: run it again"
        return [], [Fault(docname, None, says)]
    for item in found:
        cells[item.cell]["ledger"] = [*cells[item.cell].get("ledger", ()), item.entry.label]
    return found, wrong


NEAR = 2  # blocks of text between a reference and the equation to which it may belong


def _uses(doctree: nodes.document) -> Iterator[tuple[str, str]]:
    r"""Which equation uses which, by the ``{eq}`` references of the text.

    A reference belongs to the equation that directly follows its paragraph ("by (1), $$...$$"), else to the one that
    directly precedes it ("..., which follows from (1)"), else to the next or the last one within two blocks of text. In
    a theorem or a proof it belongs to the next or the last equation, however far; in a proof without equations to those
    of the theorem directly before it. Other references, as those of a summary, belong to none.
    """
    for node in doctree.findall(pending_xref):
        if node.get("refdomain") == "math" and node.get("reftype") == "eq":
            used = node["reftarget"]
            for user in _users(node):
                if user != used:
                    yield user, used


def _users(node: Any) -> list[str]:
    """The equations to which a reference belongs."""
    block = node
    while not isinstance(block.parent, nodes.section | nodes.document | nodes.Admonition):
        block = block.parent
    scope: Any = block.parent
    blocks: list[Any] = [child for child in scope.children if child is block or not _is_aside(child)]
    at = blocks.index(block)
    boxed = issubclass(type(scope), nodes.Admonition)
    own = _labels(block)
    following = [(near, label) for near, b in enumerate(blocks[at + 1 :]) for label in _labels(b)[:1]]
    preceding = [(near, label) for near, b in enumerate(reversed(blocks[:at])) for label in _labels(b)[-1:]]
    if own:  # in a list or a quotation with an equation of its own
        return own[:1]
    for reach in range(len(blocks) if boxed else NEAR + 1):
        for found in (following, preceding):
            if found and found[0][0] <= reach:
                return [found[0][1]]
    if boxed and scope.parent is not None:
        around: list[Any] = [c for c in scope.parent.children if c is scope or not _is_aside(c)]
        before = around[: around.index(scope)][-1:]
        return [label for b in before if issubclass(type(b), nodes.Admonition) for label in _labels(b)]
    return []


def _is_aside(node: Any) -> bool:
    """Code cells, targets and what else is no text."""
    return isinstance(node, nodes.Invisible | nodes.title) or bool(node.get("nb_element"))


def _labels(node: Any) -> list[str]:
    """Labels of the equations in a block; a section within the section is another matter."""
    if isinstance(node, nodes.section):
        return []
    return [n["label"] for n in node.findall(nodes.math_block) if n.get("label")]


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """``env-purge-doc``: forget a page that is read again or gone."""
    book(env).forget(docname)


def merge(app: Sphinx, env: BuildEnvironment, docnames: set[str], other: BuildEnvironment) -> None:
    """``env-merge-info``: take over what a parallel process has read."""
    book(env).take(book(other), set(docnames))


def verify(app: Sphinx, env: BuildEnvironment) -> None:
    """``env-check-consistency``: stop the build if an equation is unchecked or a check is no good."""
    if problems := book(env).problems(app.config.ledger_unlabelled == "error"):
        listed = "\n  ".join(map(str, problems))
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise ExtensionError(
            f"the ledger is not complete ({count}; `texledger check FILE` says why a cell's check failed):\n  {listed}"
        )


def labels_of(text: str) -> list[str]:
    """Labels named in the HTML of entries."""
    return re.findall(r'<div class="gantext-check" data-label="([^"]*)"', text)
