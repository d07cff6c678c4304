"""Puts the wheels of the book's packages beside its pages, so that a copy of the site alone serves its notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BUILD = "import sys; from flit_core import buildapi; buildapi.build_wheel(sys.argv[1])"
PROJECTS = (".", "texledger")  # folders with a pyproject.toml


def build_wheels(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: write `wheels/NAME-VERSION-py3-none-any.whl`, whose addresses the set-up cells know.

    Raises ExtensionError with the log where a wheel cannot be built.
    """
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir, "wheels").resolve()
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    for project in (Path(app.srcdir, name) for name in PROJECTS):
        if not (project / "pyproject.toml").exists():
            continue
        command = [sys.executable, "-c", BUILD, str(folder)]
        ran = subprocess.run(command, cwd=project, capture_output=True, text=True)
        if ran.returncode:
            raise ExtensionError(f"the wheel of {project} cannot be built:\n{ran.stderr}")
