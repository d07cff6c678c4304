"""Puts the wheels of the book's packages beside its pages, so that a copy of the site alone serves its notebooks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


def build_wheels(folder: Path, root: Path) -> None:
    """Write `NAME-VERSION-py3-none-any.whl` of each package of the repository `root` into the folder.

    That of gantext has, in `gantext/_edition`, the records and programs that the notebooks read, where
    `gantext.book.fetched` finds them. Raises ExtensionError with the log where a wheel cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
            command = [sys.executable, "-c", BUILD, str(folder.resolve())]
            ran = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if ran.returncode:
            raise ExtensionError(f"the wheel of {package} cannot be built:\n{ran.stderr}")


def begin(app: Sphinx) -> list[Any]:
    """``html-collect-pages``: build them beside the last pages into `wheels/`, which the set-up cells know."""
    if app.builder.format == "html":
        pool = ThreadPoolExecutor(1)
        build: Any = app  # Sphinx hands nothing from one event to another
        build.gantext_wheels = pool.submit(build_wheels, Path(app.outdir, "wheels"), Path(app.srcdir))
        pool.shutdown(wait=False)
    return []


def finish(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: wait for them, and let a failure be the build's."""
    begun: Future[None] | None = getattr(app, "gantext_wheels", None)
    if begun is not None and exception is None:
        begun.result()


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("html-collect-pages", begin, priority=200)
    app.connect("build-finished", finish, priority=990)
