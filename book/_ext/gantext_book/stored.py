"""Builds the pages from the stored outputs: before each build, jupyter-cache is emptied and filled from the twins.

Nothing is executed behind the reader's back, no GPU is needed, and a page shows exactly what nbval compared. The
cache is never reused between builds, because its key ignores changes in the package that the cells import.
"""

from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
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
    notebook.metadata["language_info"] = NotebookNode(LANGUAGE)  # else myst-nb knows no lexer for the code
    return notebook


def fill_cache(app: Sphinx) -> None:
    """Empty the jupyter-cache of this build and fill it from the notebooks' stored outputs.

    Raises ExtensionError, naming chapter and code cell, where a twin does not belong to its source.
    """
    if app.config.nb_execution_mode != "cache":
        raise ExtensionError(
            f"nb_execution_mode is {app.config.nb_execution_mode!r}: the pages would not show the stored outputs; "
            "set `execute: execute_notebooks: cache` in _config.yml"
        )
    root = Path(app.srcdir)
    facts = site(root)
    cache = get_cache(app.env.mystnb_config.execution_cache_path)  # pyright: ignore[reportAttributeAccessIssue]  # MyST-NB adds it
    cache.clear_cache()
    for path in chapters(root):
        text = fill(path.read_text(encoding="utf-8"), facts)
        md_config, nb_config = app.env.myst_config, app.env.mystnb_config  # pyright: ignore[reportAttributeAccessIssue]  # MyST-NB adds it
        reader = create_nb_reader(str(path), md_config, nb_config, text)
        if reader is None:
            raise ExtensionError(f"{path.name}: not a MyST notebook; give it the jupytext header of the other chapters")
        cache.cache_notebook_bundle(CacheBundleIn(attach(path, reader.read(text)), str(path)), overwrite=True)


def fill_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill the site's tokens in a page, and let a page depend on what it takes from other files."""
    root = Path(app.srcdir)
    facts: Site = site(root)
    filled = fill(source[0], facts)
    if filled != source[0]:
        source[0] = filled
        app.env.note_dependency(str(root / "_config.yml"))
        app.env.note_dependency(str(root / "gantext" / "__init__.py"))
    path = Path(app.env.doc2path(docname))
    if path in chapters(root):
        app.env.note_dependency(str(path.with_suffix(".ipynb")))


def connect(app: Sphinx) -> None:
    """Hook both into a build; called once from the extension's `setup`."""
    app.connect("builder-inited", fill_cache, priority=900)  # after myst-nb has settled where its cache is
    app.connect("source-read", fill_source, priority=100)  # before whatever looks at the text
