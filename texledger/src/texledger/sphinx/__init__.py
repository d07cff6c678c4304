"""The gate as a Sphinx extension: ``extensions = ["texledger.sphinx"]``, or ``extra_extensions`` of Jupyter Book 1.

It collects the display equations of all pages and the entries in the outputs of their code cells (as MyST-NB executed
them, or stored in the ``.ipynb`` beside a page), and stops the build where an equation has no entry, a check failed, a
damaged formula passed, or an equation is not what its entry quotes. On the pages it marks each equation's number, with
a link to the check, and folds the check's cell under one line that leads back. It works with any math renderer.

Directives:

* ``{ledger-count}``: the whole book in a sentence.
* ``{ledger-chapters}``: the counts of each page, with links to the pages that list its equations.
* ``{ledger-table}``: every equation with its check; with the name of a page, that page's equations.
* ``{ledger-code} package.function``: links to the equations that the function computes (autodoc gets it by itself).

The role ``{checked}`label``` marks a statement in running text that the entry of that label checks;
``{checked}`TeX <label>``` prints the formula, too, which must be the entry's.

Settings of ``conf.py``: ``ledger_unlabelled`` (``"error"``, or ``"ignore"``: display equations without a label are no
fault), ``ledger_stamp`` (True: a line under a page's title counts its checks), ``ledger_templates`` (folders with
templates that are used in place of the extension's own).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from texledger._gate import Equation, Fault, Made, Statement, marked
from texledger.sphinx._collect import Book, EntryOutput, book, stored_entries
from texledger.sphinx._view import MARKS, View, made, raw

__all__ = [
    "MARKS",
    "Book",
    "EntryOutput",
    "Equation",
    "Fault",
    "Made",
    "Statement",
    "View",
    "book",
    "made",
    "marked",
    "raw",
    "setup",
    "stored_entries",
]

STATIC = Path(__file__).parent / "static"


def _fingerprint() -> int:
    """A number that changes with the extension's own files, so that Sphinx then builds every page anew."""
    here = Path(__file__).parent.parent
    files = sorted(p for p in here.rglob("*") if p.suffix in {".py", ".html", ".js", ".css"})
    return zlib.crc32(b"".join(p.read_bytes() for p in files)) & 0x7FFFFFFF


def setup(app: Sphinx) -> dict[str, Any]:
    """Wire the extension to Sphinx's events."""
    from texledger.sphinx import _collect, _view

    app.add_config_value("ledger_unlabelled", "error", "env", [str])
    app.add_config_value("ledger_stamp", True, "env", [bool])
    app.add_config_value("ledger_templates", [], "env", [list])
    app.add_node(made)
    app.add_node(_collect.entry_output)
    app.add_node(_collect.checked_mark)
    app.add_role("checked", _collect.CheckedRole())
    for name in ("ledger-count", "ledger-table", "ledger-chapters", "ledger-code"):
        app.add_directive(name, _view.Place)
    app.add_css_file("texledger.css", priority=300)
    app.add_js_file("texledger.js", loading_method="defer")
    app.connect("config-inited", _check_settings)
    app.connect("builder-inited", _collect.use_outputs)
    app.connect("builder-inited", _view.mark_numbers, priority=900)
    app.connect("builder-inited", lambda app: app.config.html_static_path.append(str(STATIC)))
    app.connect("doctree-read", _collect.collect)
    app.connect("env-purge-doc", _collect.purge)
    app.connect("env-merge-info", _collect.merge)
    app.connect("env-updated", _view.made_pages)
    app.connect("env-get-updated", _view.changed_pages, priority=900)
    app.connect("env-check-consistency", _collect.verify)
    app.connect("doctree-resolved", _view.fill_pages)
    app.connect("build-finished", _view.write_graph)
    app.connect("build-finished", _view.note_written)
    if "autodoc-process-docstring" in app.events.events:
        app.connect("autodoc-process-docstring", _view.link_equations)
    else:
        app.connect("config-inited", _autodoc_came_later)
    return {
        "version": "1",
        "env_version": _fingerprint(),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }


def _check_settings(app: Sphinx, config: Any) -> None:
    from sphinx.errors import ConfigError

    if config.ledger_unlabelled not in {"error", "ignore"}:
        raise ConfigError(f"ledger_unlabelled = {config.ledger_unlabelled!r}: it is 'error' or 'ignore'.")


def _autodoc_came_later(app: Sphinx, config: Any) -> None:
    from texledger.sphinx import _view

    if "autodoc-process-docstring" in app.events.events:
        app.connect("autodoc-process-docstring", _view.link_equations)
