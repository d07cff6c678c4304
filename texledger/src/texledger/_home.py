"""Where a ledger finds the TeX of its equations: on the page that its cells are a part of.

The page is a file beside the running code, or, on Colab, the notebook itself as the front end hands it over. Files are
read anew when they have changed, so a cell that is run again judges what its page then displays.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from texledger._entry import LedgerError, normal
from texledger._gate import Equation
from texledger._pages import SUFFIXES, read_notebook, read_page

TIMEOUT = 30  # seconds for Colab's front end to hand over a notebook
_read: dict[Path, tuple[tuple[int, int], list[Equation]]] = {}
_handed: dict[Any, list[Equation]] = {}  # by the cell that asked: while it runs, the notebook is not asked for again
_running: list[Path] = []  # the page whose cells `texledger check` runs in this process


def running(page: Path) -> None:
    """Say which page the statements come from that this process runs from now on."""
    _running[:] = [page.resolve()]


def equations(page: str | Path) -> dict[str, str]:
    r"""The labelled display equations of a page: their TeX, by label.

    Args:
        page: a file: MyST Markdown (``.md``), Quarto (``.qmd``) or a notebook (``.ipynb``).

    Returns:
        TeX by label, in the order of the page, on one line each and without comments.

    Raises:
        LedgerError: the file cannot be read, is no page, or has two equations of one label.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     page = Path(folder) / "squares.md"
    ...     _ = page.write_text("$$\n(a - b)^2 = a^2\n- 2 a b + b^2\n$$ (square)\n")
    ...     equations(page)
    {'square': '(a - b)^2 = a^2 - 2 a b + b^2'}
    """
    found: dict[str, str] = {}
    for equation in _displayed(Path(page)):
        if equation.label in found:
            raise LedgerError(f"{equation.place}: two equations have the label {equation.label}.")
        if equation.label is not None:
            found[equation.label] = one_line_of(equation.tex)
    return found


def one_line_of(tex: str) -> str:
    """``tex`` on one line, without its comments."""
    return " ".join(re.sub(r"(?<!\\)((?:\\\\)*)%.*", r"\1", tex).split())


class Home:
    """Finds the equations of the page that a ledger belongs to.

    Args:
        chapter: the page's name, if it has one.
        page: the file, if the author names it.
    """

    def __init__(self, chapter: str | None, page: str | Path | None) -> None:
        if page is not None and (not isinstance(page, str | Path) or not str(page).strip()):
            raise LedgerError(f"page={page!r}: name the file that displays the equations, as in page='squares.md'.")
        self.chapter, self.page = chapter, page

    def tex(self, label: str, caller: str) -> str:
        """The TeX that the page displays under ``label``; ``caller`` is the file that the check stands in.

        Raises:
            LedgerError: no page has the label, or several have other TeX under it.
        """
        looked, seen = [], set[str]()
        for level in self._levels(caller, looked):
            found = [(name, e) for name, displayed in level for e in displayed if e.label == label]
            looked += [name for name, _ in level]
            seen.update(e.label for _, displayed in level for e in displayed if e.label)
            if len({normal(e.tex) for _, e in found}) > 1:
                places = ", ".join(sorted({f"{name}:{e.line}" for name, e in found}))
                raise LedgerError(
                    f"{label}: no TeX is given, and there are different equations of this label ({places}). Keep one "
                    "of them, or say which page is meant: Ledger(page='NAME.md')."
                )
            if found:
                return one_line_of(found[0][1].tex)
        near = difflib.get_close_matches(label, sorted(seen), 3, 0.6)
        hint = f" Is it {', '.join(near)}?" if near else ""
        where = ", ".join(dict.fromkeys(looked)) or f"no page ({', '.join(SUFFIXES)}) in {Path.cwd()}"
        raise LedgerError(
            f"{label}: no TeX is given, and no display equation of this label was found.{hint} Looked at: {where}. "
            "Save the page with the equation and its label as a file (NAME.md, NAME.qmd or NAME.ipynb) in the folder "
            "where this code runs; or say where it is, Ledger(page='folder/NAME.md'); or give the TeX: "
            f"({label!r}, r'...', ...)."
        )

    def _levels(self, caller: str, looked: list[str]) -> Iterator[list[tuple[str, list[Equation]]]]:
        """Pages to look at, the surest first: each with its equations; what is no page goes to ``looked``."""
        if "google.colab" in sys.modules:
            try:
                yield [("the notebook on Colab", _on_colab())]
            except LedgerError as error:
                looked.append(f"the notebook on Colab ({error})")
        script = Path(caller)
        folders = [Path.cwd()]
        if script.is_file() and script.resolve().parent != Path.cwd():
            folders.append(script.resolve().parent)
        if self.page is not None:
            named = [p for folder in folders for p in _suffixed(folder / self.page)][:1]
            if not named:
                looked.append(f"{self.page} (there is no such file in {', '.join(map(str, folders))})")
            for path in named:
                yield [(str(path), _displayed(path))]
            return
        for path in [*_running, *_open_notebook()]:
            yield from _read_if_page(path, looked)
        stems = list(dict.fromkeys(filter(None, [self.chapter, script.stem if script.is_file() else None])))
        for folder in folders:
            for stem in stems:
                for path in _suffixed(folder / stem)[:1]:
                    yield from _read_if_page(path, looked)
        for folder in folders:
            pages = sorted(p for suffix in SUFFIXES for p in folder.glob(f"*{suffix}") if p.is_file())
            first = {path.stem: _suffixed(path.with_suffix(""))[0] for path in pages}
            yield [item for path in first.values() for level in _read_if_page(path, []) for item in level]


def _suffixed(path: Path) -> list[Path]:
    """``path`` if it is a page, else the pages that have its name: text before notebooks, which may lag behind."""
    if path.suffix in SUFFIXES:
        return [path] if path.is_file() else []
    return [p for p in (path.with_name(path.name + suffix) for suffix in SUFFIXES) if p.is_file()]


def _read_if_page(path: Path, looked: list[str]) -> Iterator[list[tuple[str, list[Equation]]]]:
    """The page's equations, unless it cannot be read."""
    try:
        yield [(_shown(path), _displayed(path))]
    except LedgerError as error:
        looked.append(str(error))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _displayed(path: Path) -> list[Equation]:
    """The display equations of a file, read anew if it has changed."""
    path = path.resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from error
    state = status.st_mtime_ns, status.st_size
    if path not in _read or _read[path][0] != state:
        _read[path] = state, read_page(path).equations
    return _read[path][1]


def _open_notebook() -> list[Path]:
    """The notebook that is open in Jupyter or in VS Code, if they say so."""
    told = getattr(sys.modules.get("__main__"), "__vsc_ipynb_file__", None), os.environ.get("JPY_SESSION_NAME")
    paths = [Path(name) for name in told if isinstance(name, str) and name]
    return [path for path in paths if path.suffix in SUFFIXES and path.is_file()]


def _on_colab() -> list[Equation]:
    """The display equations of the notebook that is open on Colab, asked for once in the run of a cell.

    Raises:
        LedgerError: the front end did not hand the notebook over.
    """
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    cell = getattr(shell, "execution_count", None)
    if cell is None or cell not in _handed:
        _handed.clear()
        try:
            message = importlib.import_module("google.colab._message")
            answer = message.blocking_request("get_ipynb", request="", timeout_sec=TIMEOUT)
        except Exception as error:
            raise LedgerError(f"its front end did not hand it over: {type(error).__name__}: {error}") from error
        if answer is None:
            raise LedgerError(f"its front end did not hand it over within {TIMEOUT} s; is the browser's page open?")
        notebook = answer.get("ipynb") if isinstance(answer, dict) else None
        _handed[cell] = read_notebook(notebook, Path("notebook.ipynb")).equations
    return _handed[cell]
