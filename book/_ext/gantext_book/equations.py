"""Hold the pages' equations against the ledger's entries, and fail the build where they disagree.

The pages are Sphinx's; the entries are read from the outputs stored in the chapters' notebooks, where each is the JSON
part of the cell that made it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from texledger import MIME, Entry, LedgerError, normal


@dataclass(frozen=True)
class Equation:
    """A display equation of a page."""

    label: str
    tex: str
    docname: str
    line: int | None

    @property
    def place(self) -> str:
        return f"{self.docname}:{self.line or '?'}"

    @property
    def anchor(self) -> str:
        return f"equation-{nodes.make_id(self.label)}"


@dataclass(frozen=True)
class Stored:
    """An entry and the code cell (counted from 0 among the page's code cells) that made it."""

    entry: Entry
    docname: str
    cell: int

    @property
    def anchor(self) -> str:
        return f"check-{nodes.make_id(self.entry.label)}"


@dataclass
class Book:
    """All equations and entries; kept in the build environment."""

    equations: dict[str, list[Equation]] = field(default_factory=dict)  # per page
    unlabelled: dict[str, list[tuple[str, int | None]]] = field(default_factory=dict)
    entries: dict[str, list[Stored]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # pages computed from the records of others
    documenting: set[str] = field(default_factory=set)  # pages of functions, which lead to the equations they compute

    def forget(self, docname: str) -> None:
        self.equations.pop(docname, None)
        self.unlabelled.pop(docname, None)
        self.made.discard(docname)
        self.documenting.discard(docname)

    def all_equations(self) -> list[Equation]:
        return [e for page in self.equations.values() for e in page]

    def all_entries(self) -> list[Stored]:
        return [s for page in self.entries.values() for s in page]

    def entry(self, label: str) -> Stored | None:
        return next((s for s in self.all_entries() if s.entry.label == label), None)

    def problems(self) -> list[str]:
        """Everything that keeps the book from being complete; empty if it may be published."""
        found = [f"{doc}: {fault}" for doc, faults in sorted(self.faults.items()) for fault in faults]
        for doc, items in sorted(self.unlabelled.items()):
            for tex, line in items:
                found.append(f"{doc}:{line or '?'}: a display equation has no label, so nothing checks it: {tex[:60]}")
        equations = {e.label: e for e in self.all_equations()}
        entries: dict[str, Stored] = {}
        for stored in self.all_entries():
            label = stored.entry.label
            if label in entries:
                found.append(f"{stored.docname}: two entries for {label} (the other in {entries[label].docname})")
            entries[label] = stored
        for label, equation in equations.items():
            if label not in entries:
                found.append(f"{equation.place}: equation {label} has no entry in the ledger")
        for label, stored in entries.items():
            found += [f"{stored.docname}: the entry of {label} {problem}" for problem in stored.entry.problems()]
            found += self._mismatch(stored, equations.get(label))
        return found

    @staticmethod
    def _mismatch(stored: Stored, equation: Equation | None) -> list[str]:
        tex, label = stored.entry.tex, stored.entry.label
        if tex is None:
            return [f"{equation.place}: equation {label} has an entry that quotes no TeX"] if equation else []
        if equation is None:
            return [f"{stored.docname}: the ledger has an entry for {label}, but no page has an equation of that label"]
        page, quote = normal(equation.tex), normal(tex)
        if page == quote:
            return []
        says = f"{equation.place}: equation {label} is not what its entry quotes; look at the check again."
        return [f"{says}\n      page:  {page}\n      entry: {quote}"]


def book(env: BuildEnvironment) -> Book:
    """The book's equations and entries, made on first use."""
    if not hasattr(env, "gantext_book"):
        env.gantext_book = Book()  # type: ignore[attr-defined]
    return env.gantext_book  # type: ignore[attr-defined]


def stored_entries(notebook: Path, docname: str) -> tuple[list[Stored], list[str]]:
    """The ledger's entries in a notebook's outputs, and what is wrong with those that cannot be read."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found, faults = [], []
    for number, cell in enumerate(c for c in cells if c["cell_type"] == "code"):
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get(MIME)
            if data is None:
                continue
            try:
                found.append(Stored(Entry.from_json(data), docname, number))
            except LedgerError as error:
                faults.append(f"code cell {number + 1}: {error}")
    return found, faults


def notebook_of(env: BuildEnvironment, docname: str) -> Path:
    """Where the executed twin of a page is, if it has one."""
    return Path(env.doc2path(docname)).with_suffix(".ipynb")


def load_entries(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """``env-before-read-docs``: read all notebooks' entries, so that every page may refer to them."""
    mine = book(env)
    mine.entries, mine.faults = {}, {}
    for docname in sorted(env.found_docs):
        notebook = notebook_of(env, docname)
        if notebook.exists():
            mine.entries[docname], mine.faults[docname] = stored_entries(notebook, docname)


def collect(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: note the page's display equations."""
    docname = app.env.docname
    mine = book(app.env)
    blocks = list(doctree.findall(nodes.math_block))
    mine.equations[docname] = [Equation(n["label"], n.astext(), docname, n.line) for n in blocks if n.get("label")]
    mine.unlabelled[docname] = [(n.astext(), n.line) for n in blocks if not n.get("label")]


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """``env-purge-doc``: forget a page that is read again or gone."""
    book(env).forget(docname)


def documenting_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], gone: set[str]
) -> list[str]:
    """``env-get-outdated``: pages of functions are read again whenever a chapter's equations may have changed."""
    return sorted(book(env).documenting & env.found_docs) if added | changed | gone else []


def made_pages(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """``env-updated``: pages computed from other pages' records are written at every build."""
    return sorted(book(env).made)


def verify(app: Sphinx, env: BuildEnvironment) -> None:
    """``env-check-consistency``: stop the build if an equation is unchecked or a check is no good."""
    if problems := book(env).problems():
        listed = "\n  ".join(problems)
        raise ExtensionError(
            f"the ledger is not complete ({len(problems)} problem{'s' * (len(problems) > 1)}):\n  {listed}"
        )
