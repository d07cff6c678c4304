"""The edited source of the book: which chapters there are, and what a chapter's text says once filled in."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import yaml
from nbformat import NotebookNode

from . import widgets

ROOT = Path(__file__).resolve().parents[3]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}


@dataclass(frozen=True)
class Site:
    """The facts about the published book that its pages quote; each is written down in one place only."""

    repository: str  # no trailing slash
    branch: str
    baseurl: str  # no trailing slash
    edition: str

    def page(self, name: str, anchor: str = "") -> str:
        """Address of the page with document name `name` (such as `notebooks/gan-qp`)."""
        return f"{self.baseurl}/{name}.html" + (f"#{anchor}" if anchor else "")


def site(root: Path = ROOT) -> Site:
    """Read the site's facts from `_config.yml` and, without importing it, from `gantext/__init__.py`."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))

    def value(*keys: str) -> str:
        node: Any = config
        for key in keys:
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, str) or not node:
            raise ValueError(f"{root / '_config.yml'}: `{': '.join(keys)}` must be a string, got {node!r}; set it")
        return node

    init = root / "gantext" / "__init__.py"
    version = re.search(r'^__version__\s*=\s*"([^"]+)"', init.read_text(encoding="utf-8"), re.MULTILINE)
    if version is None:
        raise ValueError(f'{init}: no line `__version__ = "..."`; the book takes its edition from there')
    return Site(
        repository=value("repository", "url").rstrip("/"),
        branch=value("repository", "branch"),
        baseurl=value("sphinx", "config", "html_baseurl").rstrip("/"),
        edition=version.group(1),
    )


def pages(root: Path = ROOT) -> list[Path]:
    """All pages named in `_toc.yml`, in reading order."""

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections", "subtrees", "entries"):
                yield from files(node.get(key))
        elif isinstance(node, list):
            for item in node:
                yield from files(item)

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [root / (name.removesuffix(".md") + ".md") for name in files(toc)]


def chapters(root: Path = ROOT) -> list[Path]:
    """The chapters, `notebooks/*.md`, in reading order; the number of a chapter is its place here, from 1."""
    return [path for path in pages(root) if path.parent == root / "notebooks"]


def fill(text: str, site: Site) -> str:
    """Replace `{{ repository }}`, `{{ edition }}` and `{{ site }}`; other text in braces (TeX is full of it) stays."""
    for name, value in (("repository", site.repository), ("edition", site.edition), ("site", site.baseurl)):
        text = text.replace(f"{{{{ {name} }}}}", value)
    return text


def read_notebook(path: Path, site: Site) -> NotebookNode:
    """Read a chapter as a notebook without outputs, its cell ids derived from what the cells say.

    Text formats carry no ids: random ones would change every cell of the notebook at each conversion.
    """
    text = fill(path.read_text(encoding="utf-8"), site)
    nb = jupytext.reads(text, fmt={"extension": ".md", "format_name": "myst"})
    nb.metadata = NotebookNode(kernelspec=NotebookNode(KERNEL), language_info=NotebookNode(LANGUAGE))
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = widgets.fill(cell.source)
        digest = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    return nb
