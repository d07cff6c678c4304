"""A small book of one extension, built in this process."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, docutils_namespace, patch_docutils


def built(root: Path, settings: dict[str, Any], directives: dict[str, type[SphinxDirective]] | None = None) -> Path:
    """The folder of its HTML; warnings are errors."""
    settings = {
        # Stated, because Sphinx lets one build of a process inherit the suffixes of another.
        "source_suffix": {".md": "markdown"},
        "html_theme": "basic",
        "exclude_patterns": ["_build"],
        "numfig": True,
        **settings,
    }
    said, out = StringIO(), root / "_build"
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            str(root), None, str(out), str(out / "doctrees"), "html", confoverrides=settings,
            status=said, warning=said, freshenv=True, warningiserror=True, keep_going=True,
        )  # fmt: skip
        for name, directive in (directives or {}).items():
            app.add_directive(name, directive)
        app.build()
        assert app.statuscode == 0, said.getvalue()
    return out
