"""The book's Sphinx extension: stored outputs in, pages out.

``source``, ``plain`` and ``twins`` make the notebooks from the edited text; ``stored`` gives their outputs to Sphinx;
``math`` and ``pages`` write what the reader sees. Holding pages against the ledger is ``texledger.sphinx``'s.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def _fingerprint() -> int:
    """A number that changes with the extension's own files, so that Sphinx then builds every page anew."""
    files = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in {".py", ".html", ".js"})
    return zlib.crc32(b"".join(p.read_bytes() for p in files))


def write_on_every_core(app: Sphinx, env: BuildEnvironment) -> None:
    """``env-updated``: pages are written side by side; they were read one after the other, as MyST-NB's cache asks."""
    app.parallel = max(app.parallel, os.cpu_count() or 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Wire the modules to Sphinx's events."""
    from gantext_book import (  # not at import: `make notebooks` needs none
        figures,
        folds,
        light,
        math,
        pages,
        search,
        stored,
        theme,
        wheels,
        widgets,
    )

    stored.connect(app)
    math.setup(app)
    figures.setup(app)
    folds.setup(app)
    widgets.setup(app)
    theme.setup(app)
    light.setup(app)
    search.setup(app)
    pages.setup(app)
    app.connect("env-updated", write_on_every_core)
    app.connect("build-finished", wheels.build_wheels)
    return {"version": "1", "env_version": _fingerprint(), "parallel_read_safe": False, "parallel_write_safe": True}
