"""Puts the wheels of the book's packages beside its pages, so that a copy of the site alone serves its notebooks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

BUILD = "import sys; from flit_core import buildapi; buildapi.build_wheel(sys.argv[1])"
PACKAGES = {"gantext": ".", "texledger": "texledger"}  # and the folder with its pyproject.toml
ASKED = re.compile(r'book\.(record|fetched)\(\s*"([^"]+)"')


def asked_for(root: Path) -> Iterator[str]:
    """What the notebooks read of the repository by `gantext.book`, as paths in it."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(root.glob("notebooks/*.md"))]
    for kind, name in sorted({found for text in texts for found in ASKED.findall(text)}):
        yield f"benchmarks/results/{name}.json" if kind == "record" else name


def build_wheels(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: write `wheels/NAME-VERSION-py3-none-any.whl`, whose addresses the set-up cells know.

    That of gantext has, in `gantext/_edition`, the records and programs that the notebooks read, where
    `gantext.book.fetched` finds them. Raises ExtensionError with the log where a wheel cannot be built.
    """
    if exception is not None or app.builder.format != "html":
        return
    folder, root = Path(app.outdir, "wheels").resolve(), Path(app.srcdir)
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    for package, place in PACKAGES.items():
        project = root / place
        if not (project / "pyproject.toml").exists():
            continue
        with TemporaryDirectory() as built:
            copy = Path(built, "project")
            sources = [project / name for name in ("pyproject.toml", "README.md", "LICENSE", package, f"src/{package}")]
            for source in filter(Path.exists, sources):
                target = copy / source.relative_to(project)
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
            for name in asked_for(root) if package == "gantext" else ():
                target = copy / package / "_edition" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, target)
            command = [sys.executable, "-c", BUILD, str(folder)]
            ran = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if ran.returncode:
            raise ExtensionError(f"the wheel of {package} cannot be built:\n{ran.stderr}")
