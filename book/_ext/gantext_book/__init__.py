"""The book's Sphinx extension: stored outputs in, checked equations out.

``source``, ``plain`` and ``twins`` make the notebooks from the edited text; ``stored`` gives their outputs to Sphinx;
``equations`` holds pages against ledger; ``math`` and ``pages`` write what the reader sees.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def _fingerprint() -> int:
    """A number that changes with the extension's own files, so that Sphinx then builds every page anew."""
    files = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in {".py", ".html", ".js"})
    return zlib.crc32(b"".join(p.read_bytes() for p in files))


def setup(app: Sphinx) -> dict[str, Any]:
    """Wire the modules to Sphinx's events."""
    from gantext_book import (  # not at import: `make notebooks` needs none of it
        equations,
        light,
        math,
        pages,
        stored,
        theme,
        wheels,
    )

    stored.connect(app)
    math.setup(app)
    theme.setup(app)
    light.setup(app)
    app.add_node(pages.made)
    for name in ("ledger-table", "ledger-count", "errata", "results"):
        app.add_directive(name, pages.Made)
    app.connect("env-get-outdated", equations.documenting_pages)
    app.connect("env-before-read-docs", equations.load_entries)
    app.connect("doctree-read", equations.collect)
    app.connect("env-purge-doc", equations.purge)
    app.connect("env-updated", equations.made_pages)
    app.connect("env-check-consistency", equations.verify)
    app.connect("doctree-resolved", pages.fill_pages)
    app.connect("autodoc-process-docstring", pages.link_equations)
    app.connect("build-finished", pages.copy_notebooks)
    app.connect("build-finished", wheels.build_wheels)
    return {"version": "1", "env_version": _fingerprint(), "parallel_read_safe": False, "parallel_write_safe": True}
