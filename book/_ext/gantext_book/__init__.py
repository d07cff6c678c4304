"""The book's Sphinx extension: stored outputs in, pages out.

``source``, ``plain`` and ``twins`` make the notebooks from the edited text; ``stored`` gives their outputs to Sphinx;
``math`` and ``pages`` write what the reader sees. Holding pages against the ledger is ``texledger.sphinx``'s.
"""

from __future__ import annotations

import atexit
import gc
import os
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sphinx import builders
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.parallel import ParallelTasks


def _fingerprint() -> int:
    """A number that changes with the extension's own files, so that Sphinx then builds every page anew."""
    files = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in {".py", ".html", ".js"})
    return zlib.crc32(b"".join(p.read_bytes() for p in files))


SILENT = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")  # they keep nothing of a page, but do not say so


class PageTasks(ParallelTasks):
    """Sphinx's tasks, but an error always arrives.

    Sphinx drops a task's error that it meets while it hands out another task, and the build succeeds without the page.
    """

    failure: Exception | None = None

    def _join_one(self) -> bool:
        try:
            return super()._join_one()
        except Exception as error:
            self.failure = error
            raise

    def join(self) -> None:
        super().join()
        if self.failure is not None:
            raise self.failure


def use_every_core(app: Sphinx, config: Config) -> None:
    """``config-inited``: pages are read side by side, which Jupyter Book has no setting for."""
    for name in SILENT:
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = app.extensions[name].parallel_write_safe = True
    if "sphinx_proof" in app.extensions:
        from sphinx_proof.domain import ProofDomain

        class Proofs(ProofDomain):
            """Its list of proofs is merged by an event; the domain itself has nothing to merge, but must say so."""

            def merge_domaindata(self, docnames: Collection[str], otherdata: dict[str, Any]) -> None:
                pass

        app.add_domain(Proofs, override=True)
    builders.ParallelTasks = PageTasks  # pyright: ignore[reportPrivateImportUsage]  # Sphinx has no setting
    app.parallel = max(app.parallel, os.cpu_count() or 1)


def collect_less(app: Sphinx) -> None:
    """``builder-inited``: the trees of all pages stay until the end, and looking through them for garbage takes an
    eighth of a build, and as long again when it ends."""
    gc.set_threshold(200_000, 20, 100)
    atexit.register(gc.freeze)


def write_on_every_core(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """``env-updated``: pages are written side by side; more at a time than read, since they come one after the other.

    Sphinx copies style sheets and scripts only when it writes a page, and each page names the version of all of them.
    """
    if app.parallel > 1:
        app.parallel = max(app.parallel, 4 * (os.cpu_count() or 1))
    if app.builder.format != "html":
        return []
    folders = (Path(app.confdir, folder) for folder in (*app.config.html_static_path, *app.config.html_extra_path))
    newest = max((p.stat().st_mtime for folder in folders for p in folder.rglob("*")), default=0.0)
    pages = {doc: Path(app.builder.get_outfilename(doc)) for doc in env.found_docs}  # type: ignore[attr-defined]  # of HTML
    old = {doc for doc, page in pages.items() if not page.exists() or page.stat().st_mtime < newest}
    return sorted(old | {env.config.root_doc})


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
    wheels.setup(app)
    app.connect("config-inited", use_every_core)
    app.connect("builder-inited", collect_less)
    app.connect("env-updated", write_on_every_core)
    return {"version": "1", "env_version": _fingerprint(), "parallel_read_safe": True, "parallel_write_safe": True}
