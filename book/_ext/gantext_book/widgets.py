"""Interactive figures: ``{widget} NAME`` on a page, a cell of HTML in its notebook, ``{{ widget NAME }}`` in code.

A figure is two files of ``book/widgets``: NAME.html, a template that fills the places of ``live.html``, and NAME.js,
its mathematics as functions and a function ``picture`` from the controls' values to what is drawn. Style and wiring are
shared, ``live.css`` and ``live.js``. All of it is written into one element, because pages are read from files and
notebooks in frames of their own: nothing is fetched. ``tests/book/test_widgets.py`` compares the functions and every
read-out with Python.

A figure whose data a cell of the chapter computes stands in that cell, as ``{{ widget NAME }}``; only the notebook, not
the page, shows it in full, and the cell puts its data in the place of the word ``DATA``.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from docutils import nodes
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).resolve().parents[2] / "widgets"
TAG = "widget"  # of the notebook's cell
TOKEN = re.compile(r"\{\{ widget ([\w-]+) \}\}")
REMARK = re.compile(r"^\s*//.*\n", re.MULTILINE)


@cache
def html(name: str) -> str:
    """The figure as one element of HTML.

    Raises ValueError where there is no such figure.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    read = lambda file: REMARK.sub("", (FOLDER / file).read_text(encoding="utf-8"))
    try:
        controls = environment.get_template("controls.html").make_module({"name": name})
        script = "live.js", f"{name}.js"
        environment.globals |= {
            "name": name,
            "css": read("live.css").strip(),
            "js": "".join(map(read, script)).strip(),
            **{key: value for key, value in vars(controls).items() if not key.startswith("_")},
        }
        text = environment.get_template(f"{name}.html").render()
    except (TemplateNotFound, OSError) as error:
        raise ValueError(
            f"widget `{name}`: {FOLDER.name}/ has no {name}.html and {name}.js; correct the name"
        ) from error
    return re.sub(r"\n\s*(?=\n)", "", text)


def fill(source: str) -> str:
    """Code with the figures in the places of their tokens."""
    return TOKEN.sub(lambda token: html(token[1]), source)


def cell(name: str, identity: str) -> NotebookNode:
    """The notebook's cell, which is folded; its output is its text, so that nothing needs to be executed."""
    folded = {"tags": [TAG, "hide-input"], "cellView": "form", "jupyter": {"source_hidden": True}}
    body = f"{html(name)}\n"
    data = {"text/html": body, "text/plain": "<IPython.core.display.HTML object>"}
    made = new_code_cell(f"%%html\n{html(name)}", metadata=folded, outputs=[new_output("display_data", data)])
    made.id = identity
    return made


def is_widget(cell: NotebookNode) -> bool:
    """Whether a notebook's cell is the figure of a ``{widget}``, for which the chapter has no code."""
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


class Widget(SphinxDirective):
    """``{widget} NAME``: the figure."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for file in FOLDER.iterdir():
            self.env.note_dependency(str(file))
        try:
            return [nodes.raw("", html(self.arguments[0]), format="html")]
        except ValueError as error:
            raise self.error(str(error)) from error


def setup(app: Sphinx) -> None:
    """Register the directive."""
    html.cache_clear()  # a build that follows in the same process may find other files
    app.add_directive("widget", Widget)
