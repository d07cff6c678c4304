"""Builds the pages from the stored outputs: MyST-NB reads each chapter together with its twin, and executes nothing.

No GPU is needed, and a page shows exactly what nbval compared. A cache of outputs, as MyST-NB has one, would be filled
from the same twins, page by page before each build, and asked for them again.
"""

from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from . import widgets
from .source import LANGUAGE, Site, chapters, fill, site


def attach(path: Path, notebook: NotebookNode) -> NotebookNode:
    """Give the code cells of a chapter, as myst-nb reads it, the outputs of its twin."""
    twin_path = path.with_suffix(".ipynb")
    remedy = "run `make notebooks`"
    if not twin_path.exists():
        raise ExtensionError(f"{path.name}: there is no {twin_path.name} to take outputs from; {remedy}")
    twin = nbformat.read(twin_path, as_version=4)
    own = [cell for cell in notebook.cells if cell.cell_type == "code"]
    stored = [cell for cell in twin.cells if cell.cell_type == "code" and not widgets.is_widget(cell)]
    for number, (cell, other) in enumerate(zip(own, stored, strict=False), start=1):
        if widgets.fill(cell.source) != other.source:
            raise ExtensionError(
                f"{path.name}: code cell {number} is not the one whose outputs {twin_path.name} stores; {remedy}\n"
                f"source:\n{cell.source}\n\ntwin:\n{other.source}"
            )
        if other.execution_count is None:
            raise ExtensionError(f"{twin_path.name}: code cell {number} has not been executed; {remedy}")
        cell.outputs, cell.execution_count = other.outputs, number
    if len(own) != len(stored):
        where = f"{path.name} has {len(own)} code cells and {twin_path.name} {len(stored)}"
        raise ExtensionError(f"{where}, from code cell {min(len(own), len(stored)) + 1} on; {remedy}")
    # Without it MyST-NB knows no lexer for the code; chapters have no magics, whose lexer takes three times as long.
    notebook.metadata["language_info"] = NotebookNode(LANGUAGE, pygments_lexer="python3")
    return notebook


def read(text: str, path: str, config: MdParserConfig) -> NotebookNode:
    """A chapter as MyST-NB reads it, with the stored outputs.

    Raises ExtensionError, naming chapter and code cell, where the twin does not belong to its source.
    """
    return attach(Path(path), read_myst_markdown_notebook(text, config=config, add_source_map=True, path=path))


def use_twins(app: Sphinx) -> None:
    """``builder-inited``: let MyST-NB read the chapters by `read`, and know once what every page is filled with."""
    if app.config.nb_execution_mode != "off":
        raise ExtensionError(
            f"nb_execution_mode is {app.config.nb_execution_mode!r}: the pages would not show the stored outputs; "
            'set `execute: execute_notebooks: "off"` in _config.yml'
        )
    root = Path(app.srcdir)
    env: Any = app.env  # MyST-NB adds its settings to it
    own = {str(path) for path in chapters(root)}
    readers = {path: ("gantext_book.stored.read", {"path": path, "config": env.myst_config}) for path in own}
    env.mystnb_config = env.mystnb_config.copy(custom_formats=readers)
    app.connect("source-read", partial(fill_source, site(root), own), priority=100)  # before whatever looks at the text


def fill_source(facts: Site, own: set[str], app: Sphinx, docname: str, source: list[str]) -> None:
    """``source-read``: fill the site's tokens, and let a page depend on what it takes from other files."""
    root = Path(app.srcdir)
    filled = fill(source[0], facts)
    if filled != source[0]:
        source[0] = filled
        app.env.note_dependency(str(root / "_config.yml"))
        app.env.note_dependency(str(root / "gantext" / "__init__.py"))
    path = Path(app.env.doc2path(docname))
    if str(path) in own:
        app.env.note_dependency(str(path.with_suffix(".ipynb")))
        for file in widgets.FOLDER.iterdir() if widgets.TOKEN.search(filled) else ():
            app.env.note_dependency(str(file))


def connect(app: Sphinx) -> None:
    """Hook both into a build; called once from the extension's `setup`."""
    app.connect("builder-inited", use_twins, priority=900)  # after MyST-NB has made its settings
