"""What the reader sees of the ledger: folded checks, the stamp under a title, the pages made from stored records.

The HTML itself is in ``templates/``, one file for each piece.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gantext_book.equations import Stored, book, notebook_of
from gantext_book.math import MARKS, render
from texledger import KINDS, STRENGTHS, Entry

API = "book/api"
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class made(nodes.General, nodes.Element):  # noqa: N801 - docutils names its nodes so
    """A place that is filled once all pages have been read."""


class Made(SphinxDirective):
    """``{ledger-count}``, ``{ledger-table}``, ``{errata}``, ``{results}``: computed from stored records."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        book(self.env).made.add(self.env.docname)
        if self.name == "results":
            for file in results(self.env.srcdir):
                self.env.note_dependency(str(file))
        return [made("", what=self.name)]


def results(srcdir: str | Path) -> list[Path]:
    """The stored results, one file for each benchmark."""
    return sorted((Path(srcdir) / "benchmarks" / "results").glob("*.json"))


def fill_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: fold the checks, stamp the chapter, fill the made places."""
    view = View(app, docname)
    writers: dict[str, Callable[[], str]] = {
        "ledger-count": view.count,
        "ledger-table": view.table,
        "errata": view.errata,
        "results": view.results,
    }
    for node in list(doctree.findall(made)):
        node.replace_self(_raw(writers[node["what"]]()))
    fold_checks(view, doctree)
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None and notebook_of(app.env, docname).exists():
        title.parent.insert(title.parent.index(title) + 1, _raw(view.stamp()))


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def fold_checks(view: View, doctree: nodes.document) -> None:
    """Fold each check's cell under one line that says what it is; inside, links lead back to its equation."""
    by_cell: dict[int, list[Stored]] = {}
    for stored in view.book.entries.get(view.docname, []):
        by_cell.setdefault(stored.cell, []).append(stored)
    cells = [n for n in doctree.findall(nodes.container) if n.get("nb_element") == "cell_code"]
    for number, cell in enumerate(cells):
        if number in by_cell and cell.parent is not None:
            at = cell.parent.index(cell)
            cell.parent.insert(at + 1, _raw("</details>"))
            items = [view.item(s) for s in by_cell[number]]
            summary, links = view.fill("summary", items=items), view.fill("links", items=items)
            # The anchors are inside the fold: a browser that follows a link into a closed <details> opens it.
            cell.parent.insert(at, _raw(f'<details class="check"><summary>{summary}</summary>{links}'))


class View:
    """The book's records as one page sees them: links are relative to it."""

    def __init__(self, app: Sphinx, docname: str) -> None:
        self.app, self.docname, self.book = app, docname, book(app.env)

    def fill(self, template: str, **values: Any) -> str:
        """The template's HTML, with the helpers that all templates share."""
        return TEMPLATES.get_template(f"{template}.html").render(
            page=self.page, function=self.function, formula=self.formula, sign=self.sign, **values
        )

    def page(self, docname: str) -> str:
        """Address of a page."""
        return self.app.builder.get_relative_uri(self.docname, docname)

    def function(self, name: str) -> Markup:
        """A function's name, linked to its place on the API page if it is the package's own."""
        shown = Markup("<code>{}</code>").format(name)
        if not name.startswith("gantext."):
            return shown
        return Markup('<a href="{}#{}">{}</a>').format(self.page(API), name, shown)

    @staticmethod
    def formula(tex: str, display: bool = False) -> Markup:
        """TeX as static MathML."""
        span = '<span class="notranslate" translate="no" data-tex="{}">{}</span>'
        return Markup(span).format(tex, Markup(render(tex, display)))

    @staticmethod
    def sign(entry: Entry) -> str:
        """The mark of an entry's kind."""
        return MARKS.get(entry.kind, "✓")

    def item(self, stored: Stored) -> dict[str, Any]:
        """An entry with the places of its check and its equation."""
        found = next((e for e in self.book.all_equations() if e.label == stored.entry.label), None)
        equation = None
        if found is not None:
            numbers = self.app.env.toc_fignumbers.get(found.docname, {}).get("displaymath", {}).get(found.anchor, ())
            number = ".".join(map(str, numbers))
            equation = {"href": f"{self.page(found.docname)}#{found.anchor}", "number": number, "tex": found.tex}
        return {
            "entry": stored.entry,
            "anchor": stored.anchor,
            "href": f"{self.page(stored.docname)}#{stored.anchor}",
            "equation": equation,
        }

    @staticmethod
    def tally(entries: list[Entry]) -> dict[str, int]:
        """Counts over entries that belong to an equation."""
        numbered = [e for e in entries if e.tex is not None]
        checked = [e for e in numbered if e.kind != "definition"]
        return {
            "checked": len(checked),
            "both": sum(e.strength == "both sides" for e in checked),
            "one": sum(e.strength == "one side" for e in checked),
            "quoted": sum(e.strength == "quoted" for e in checked),
            "excused": sum(e.strength == "both sides" and bool(e.unread) for e in checked),
            "killed": sum(e.killed for e in numbered),
            "mutants": sum(len(e.mutants) for e in numbered),
            "definitions": sum(e.kind == "definition" for e in entries),
            "compared": sum(e.kind == "definition" and bool(e.mutants) for e in entries),
        }

    def stamp(self) -> str:
        """When and on what the chapter last ran, its count of checks, and its notebook."""
        notebook = notebook_of(self.app.env, self.docname)
        stored = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("gantext", {}).get("verified", {})
        verified = {"date": None, "device": None, "versions": {}} | stored
        entries = [s.entry for s in self.book.entries.get(self.docname, [])]
        return self.fill("stamp", verified=verified, notebook=notebook.name, **self.tally(entries))

    def count(self) -> str:
        """The whole book in a sentence."""
        entries = [s.entry for s in self.book.all_entries()]
        return self.fill("count", equations=len(self.book.all_equations()), **self.tally(entries))

    def table(self) -> str:
        """Every equation and its check, by chapter."""
        chapters = [
            {"title": self.app.env.titles[doc].astext(), "checks": [self.item(s) for s in self.book.entries[doc]]}
            for doc in sorted(self.book.entries)
            if self.book.entries[doc]
        ]
        return self.fill("ledger", chapters=chapters, kinds=KINDS, strengths=STRENGTHS)

    def errata(self) -> str:
        """Every refuted statement with its counterexample and correction."""
        return self.fill("errata", items=[self.item(s) for s in self.book.all_entries() if s.entry.refutes])

    def results(self) -> str:
        """Every stored measurement and claim."""
        files = [json.loads(f.read_text(encoding="utf-8")) for f in results(self.app.srcdir)]
        for file in files:
            file.setdefault("claims", [])
            file.setdefault("tables", [])  # of numbers that are not times against rivals: a title, a head, rows
            file["rivals"] = sorted({name for row in file["rows"] for name in row["results"]} - {"ours"})
            file.setdefault("gpu", "nvidia" in file["device"].lower())  # a T4 calls itself Tesla
            for row in file["rows"]:
                row["results"] = {name: row["results"].get(name) for name in ["ours", *file["rivals"]]}
        files.sort(key=lambda file: not file["gpu"])
        return self.fill("results", files=files, gpu=any(file["gpu"] for file in files))


def copy_notebooks(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: put each chapter's notebook beside its page, and where the theme's button looks for it."""
    if exception is None and app.builder.format == "html":
        for docname in sorted(app.env.found_docs):
            notebook = notebook_of(app.env, docname)
            if notebook.exists():
                for folder in (Path(app.outdir), Path(app.outdir) / "_sources"):
                    target = folder / f"{docname}.ipynb"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(notebook.read_bytes())


def link_equations(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``autodoc-process-docstring``: a function's documentation links to the equations whose entries name it."""
    book(app.env).documenting.add(app.env.docname)
    entries = [s.entry for s in book(app.env).all_entries() if s.entry.tex]
    computed = {e.label for e in entries if name in e.functions}
    mentioned = {e.label for e in entries if name in e.see_also} - computed
    for says, labels in (("Computes", computed), ("See also", mentioned)):
        if labels:
            lines += ["", f"{says} " + ", ".join(f":eq:`{label}`" for label in sorted(labels)) + ".", ""]
