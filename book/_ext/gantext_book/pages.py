"""What this book adds to the ledger's pages: its errata, its measured results, the stamp under a chapter's title.

The HTML itself is in ``templates/``, one file for each piece.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from texledger.sphinx import View, book, made, raw

from gantext_book.math import render

TEMPLATES = str(Path(__file__).parent / "templates")


class Made(SphinxDirective):
    """``{errata}``, ``{results}``: computed from stored records."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        book(self.env).made.add(self.env.docname)
        if self.name == "results":
            for file in results(self.env.srcdir):
                self.env.note_dependency(str(file))
        return [made("", what=self.name, argument="")]


def results(srcdir: str | Path) -> list[Path]:
    """The stored results, one file for each benchmark."""
    return sorted((Path(srcdir) / "benchmarks" / "results").glob("*.json"))


def notebook_of(env: BuildEnvironment, docname: str) -> Path:
    """Where the executed twin of a page is, if it has one."""
    return Path(env.doc2path(docname)).with_suffix(".ipynb")


def fill_pages(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: stamp the chapter, fill the made places."""
    view = BookView(app, docname)
    writers: dict[str, Callable[[], str]] = {"errata": view.errata, "results": view.results}
    for node in list(doctree.findall(made)):
        if node["what"] in writers:
            node.replace_self(raw(writers[node["what"]]()))
    title = next(iter(doctree.findall(nodes.title)), None)
    if title is not None and notebook_of(app.env, docname).exists():
        title.parent.insert(title.parent.index(title) + 1, raw(view.stamp()))


def fold_set_ups(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: fold the code of set-up cells, as the notebooks on Colab do; its line of versions stays."""
    for cell in doctree.findall(nodes.container):
        if "tag_setup" in cell["classes"]:
            prompts = {"prompt_show": app.config.nb_code_prompt_show, "prompt_hide": app.config.nb_code_prompt_hide}
            cell.attributes |= {"hide_mode": "input", **prompts}


class BookView(View):
    """The records as a page of this book shows them: formulas are rendered in place."""

    def formula(self, tex: str, display: bool = False) -> Markup:
        """TeX as static MathML."""
        span = '<span class="notranslate" translate="no" data-tex="{}">{}</span>'
        return Markup(span).format(tex, Markup(render(tex, display)))

    def stamp(self) -> str:
        """When and on what the chapter last ran, its count of checks, and its notebook."""
        notebook = notebook_of(self.app.env, self.docname)
        stored = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("gantext", {}).get("verified", {})
        verified = {"date": None, "device": None, "versions": {}} | stored
        return self.fill("stamp", verified=verified, notebook=notebook.name, **self.tally([self.docname]))

    def errata(self) -> str:
        """Every refuted statement with its counterexample and correction."""
        return self.fill("errata", items=[self.item(m) for m in self.book.all_entries() if m.entry.refutes])

    def results(self) -> str:
        """Every stored measurement and claim."""
        files: list[dict[str, Any]] = [json.loads(f.read_text(encoding="utf-8")) for f in results(self.app.srcdir)]
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


def setup(app: Sphinx) -> None:
    """Register the directives and connect the handlers; the ledger is any book's (``texledger.sphinx``)."""
    app.setup_extension("texledger.sphinx")
    app.config.ledger_stamp = False  # the chapters have one of their own
    app.config.ledger_templates = [TEMPLATES]
    for name in ("errata", "results"):
        app.add_directive(name, Made)
    app.connect("doctree-read", fold_set_ups)
    app.connect("doctree-resolved", fill_pages)
    app.connect("build-finished", copy_notebooks)
