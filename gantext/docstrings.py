"""Real English to train on without a download: the docstrings of the scientific packages that are installed.

A docstring's label is its package and submodule, as in "scipy.stats". Sources are parsed, never imported or run, so
nothing is printed, compiled or warned about. The texts belong to their packages and follow their versions: the lock
fixes both for the book, elsewhere numbers may move.
"""

from __future__ import annotations

import ast
import random
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gantext._checks import check_count

__all__ = ["TOPICS", "Document", "documents", "topics", "words"]

TOPICS = (
    *("numpy.lib", "numpy.ma", "numpy.polynomial"),
    *("scipy.interpolate", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.sparse", "scipy.spatial"),
    *("scipy.special", "scipy.stats", "sklearn.linear_model", "sklearn.metrics"),
    *("sympy.combinatorics", "sympy.geometry", "sympy.physics", "sympy.polys", "sympy.stats"),
    *("torch.distributions", "torch.fx", "torch.nn", "torch.optim"),
)
"""The 22 submodules that the book's experiments tell apart, large and each about one thing."""


class Document(NamedTuple):
    """One docstring: where it stands, as "scipy.stats._entropy.entropy"; its label, "scipy.stats"; its text."""

    name: str
    label: str
    text: str


def documents(
    labels: Sequence[str] = TOPICS, *, shortest: int = 200, skipped: list[str] | None = None
) -> list[Document]:
    """Every docstring of these submodules, sorted by name; of equal texts the first stays.

    Args:
        labels: "package.submodule" each, of installed packages; ModuleNotFoundError for others. Tests and private
            packages (`_name/`) are passed over.
        shortest: characters, >= 1; what is shorter says too little.
        skipped: a list that gets the report of each file that this Python cannot parse, which is then passed over;
            None: ValueError.

    The commonest surprise: text that reaches `help()` only at run time (most of NumPy's random generators, functions
    in C) is not in any source file and not here.

    >>> found = documents(["scipy.ndimage"])
    >>> len(found) > 50, found[0].label, len(found[0].text) >= 200
    (True, 'scipy.ndimage', True)
    """
    shortest = check_count("documents", "shortest", shortest)
    if skipped is not None and not isinstance(skipped, list):
        raise TypeError(f"documents: skipped is {type(skipped).__name__}, must be a list or None. Write skipped=[].")
    folders = {label: _folder(label) for label in _labels("documents", labels)}
    seen: dict[str, Document] = {}
    found: list[Document] = []
    for label, folder in folders.items():
        read, damaged = _read(label, folder)
        found += read
        if skipped is not None:
            skipped += damaged
        elif damaged:
            raise ValueError(f"documents: {damaged[0]}, must be. Repair it, or collect such reports with skipped=[].")
    for document in sorted(found):
        if len(document.text) >= shortest:
            seen.setdefault(document.text, document)
    return list(seen.values())


def topics(most: int = 150, length: int = 600, *, labels: Sequence[str] = TOPICS) -> tuple[list[list[str]], list[int]]:
    """Documents as lists of words, and their labels as numbers: a corpus for clustering and classification.

    At most `most` documents a label, drawn with a fixed seed where there are more, and the first `length` words of all,
    in the order of `labels`, then of the names.

    >>> documents, labels = topics(20, 50, labels=["numpy.ma", "torch.optim"])
    >>> len(documents), sorted(set(labels)), max(len(document) for document in documents)
    (40, [0, 1], 50)
    """
    most = check_count("topics", "most", most)
    length = check_count("topics", "length", length)
    texts, numbers = [], []
    for number, label in enumerate(_labels("topics", labels)):
        found = documents([label])
        if len(found) > most:
            found = sorted(random.Random(0).sample(found, most))
        texts += [words(document.text)[:length] for document in found]
        numbers += [number] * len(found)
    return texts, numbers


def words(text: str) -> list[str]:
    """The lower-case words of two letters or more; signs, digits and single letters separate them.

    >>> words("The norm of x_1, i.e. its L2-norm.")
    ['the', 'norm', 'of', 'its', 'norm']
    """
    return re.findall(r"[a-z]{2,}", text.lower())


def _labels(name: str, labels: Sequence[str]) -> list[str]:
    """The labels, of which each is a text."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        given = f"{labels!r} ({type(labels).__name__})"
        raise TypeError(f"{name}: labels is {given}, must be a sequence of names. Write [{labels!r}].")
    found = list(labels)
    if odd := [label for label in found if not isinstance(label, str)]:
        raise TypeError(f"{name}: labels has {odd[0]!r}, must be names. Choose from gantext.docstrings.TOPICS.")
    return found


def _folder(label: str) -> Path:
    package, _, submodule = label.partition(".")
    found = find_spec(package) if package.isidentifier() and submodule.isidentifier() else None
    for root in (found and found.submodule_search_locations) or ():
        for path in (Path(root, submodule), Path(root, f"{submodule}.py")):
            if path.exists():
                return path
    remedy = "Install the package, or choose from gantext.docstrings.TOPICS."
    raise ModuleNotFoundError(f"documents: label is {label!r}, must be an installed package.submodule. {remedy}")


@cache
def _read(label: str, folder: Path) -> tuple[list[Document], list[str]]:
    """The docstrings, and reports of what could not be parsed."""
    found, damaged = [], []
    for file in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        try:
            found += [Document(name, label, text) for name, text in _file(label, folder, file)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # zeros, as in UTF-16; deep nesting
            where = f"{file}, line {error.lineno}" if isinstance(error, SyntaxError) else str(file)
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            damaged.append(f"{where}: not Python {sys.version_info.major}.{sys.version_info.minor} ({what})")
    return found, damaged


def _file(label: str, folder: Path, file: Path) -> list[tuple[str, str]]:
    parts = [*label.split("."), *file.relative_to(folder).with_suffix("").parts] if folder.is_dir() else [label]
    inner = parts[2:-1]
    if any("test" in part for part in parts) or any(part.startswith("_") for part in inner) or not file.is_file():
        return []  # a folder or a pipe may have such a name too
    with warnings.catch_warnings(action="ignore"):  # a file's own bad escapes
        tree = ast.parse(file.read_bytes())
    return list(_walk(tree, ".".join(parts).removesuffix(".__init__")))


def _walk(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(node):
        yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _walk(child, f"{name}.{child.name}")
