"""Read pages without Sphinx or Jupyter: the display equations and code cells of MyST Markdown, Quarto and notebooks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from texledger._entry import LedgerError
from texledger._gate import Equation, Statement, marked

SUFFIXES = (".md", ".qmd", ".ipynb")
VERBATIM = set("bibliography code code-block eval-rst literalinclude mermaid parsed-literal raw sourcecode".split())
LANGUAGES = {"python", "python3", "ipython", "ipython3"}
FENCE = re.compile(r"^(?P<indent>(?:\s|>)*)(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>.*?)\s*$")
LABEL = re.compile(r"\\label\s*\{([^{}]+)\}")
AFTER = re.compile(r"\s*(?:\((?P<myst>[^()\s]+)\)|\{#(?P<quarto>[^{}\s]+)[^{}]*\})")
HIDDEN = re.compile(r"^(?:\s|>)*<!--\s*\((?P<label>[^()\s]+)\)\s*-->\s*$")  # a label in a notebook, unseen
TAG = re.compile(r"\\tag\*?\s*\{[^{}]*\}")
AMS = ("equation", "align", "gather", "multline", "eqnarray", "alignat", "flalign")
DISPLAYED = re.compile(r"(?<!\\)\$\$.*?(?<!\\)\$\$(?:[ ]*(?:\([^()\s]+\)|\{#[^{}]*\}))?", re.DOTALL)
INLINE = re.compile(  # marks and formulas of running text; code and escaped characters are passed over
    r"""\{checked\}(?P<ticks>`+)(?P<checked>.+?)(?<!`)(?P=ticks)(?!`)
    | \{math\}(?P<marks>`+)(?P<role>.+?)(?<!`)(?P=marks)(?!`)
    | (?P<code>`+)(?!`).+?(?<!`)(?P=code)(?!`)
    | \[[^\]]*\]\([^()\s]*\s+"checked(?P<printed>[ ]as[ ]printed)?:\s*(?P<linked>[^\s"]+)"\)
    | \\.
    | \$(?P<dollars>(?:\\.|[^$\\])+)\$""",
    re.VERBOSE | re.DOTALL,
)
BEGIN = re.compile(rf"^(?:\s|>)*\\begin\{{(?P<name>(?:{'|'.join(AMS)})\*?)\}}")


@dataclass(frozen=True)
class Cell:
    """A code cell: its text, where the text begins, and its tags."""

    source: str
    file: str  # where its lines are counted
    line: int  # of the first line of `source`, from 1
    tags: tuple[str, ...] = ()


@dataclass
class Page:
    """What the gate needs of a page."""

    path: Path
    equations: list[Equation] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


def read_page(path: Path) -> Page:
    """The equations and code cells of ``path``.

    Raises:
        LedgerError: it is no page, or cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise LedgerError(f"{path}: a page is one of {', '.join(SUFFIXES)}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from error
    page = Page(path)
    if path.suffix != ".ipynb":
        _markdown(text.splitlines(), page, str(path), path.suffix == ".qmd")
        return page
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"{path}: not a notebook (nbformat 4): {error!r}") from error
    return read_notebook(notebook, path)


def read_notebook(notebook: Any, path: Path) -> Page:
    """The equations and code cells of a notebook's JSON; ``path`` is how messages call it.

    Raises:
        LedgerError: it is no notebook.
    """
    page = Page(path)
    try:
        for number, cell in enumerate(notebook["cells"], start=1):
            source, name = "".join(cell.get("source", "")), f"{path}[{number}]"
            if cell.get("cell_type") == "markdown":
                _markdown(source.splitlines(), page, name, False)
            elif cell.get("cell_type") == "code":
                page.cells.append(Cell(source, name, 1, tuple(cell.get("metadata", {}).get("tags", ()))))
    except (KeyError, TypeError, AttributeError) as error:
        raise LedgerError(f"{path}: not a notebook (nbformat 4): {error!r}") from error
    return page


def _markdown(lines: list[str], page: Page, name: str, quarto: bool) -> None:
    at = 0
    if lines and lines[0].strip() == "---":  # front matter
        end = next((i for i, text in enumerate(lines[1:], start=1) if text.strip() in ("---", "...")), 0)
        at = end + 1 if end else 0
    comment = False
    text_lines = _Text(page, name)
    around: list[str] = []  # the fences of the directives that hold the line
    while at < len(lines):
        text = lines[at]
        if comment or re.match(r"^\s*<!--", text):
            text_lines.end()
            comment = "-->" not in text
            at += 1
            continue
        fence = FENCE.match(text)
        if fence or BEGIN.match(text) or text.lstrip().startswith("%"):
            text_lines.end()
        if fence and not fence["info"] and around and fence["fence"].startswith(around[-1]):
            around.pop()
            at += 1
        elif fence and fence["fence"][0] in "`~:":
            at = _fenced(lines, at, fence, page, name, quarto, around)
        elif begin := BEGIN.match(text):
            at = _ams(lines, at, begin["name"], page, name)
        elif text.lstrip().startswith("%"):  # a comment of MyST
            at += 1
        else:
            after = _dollars(lines, at, page, name)
            text_lines.take(lines[at:after], at + 1)
            at = after
    text_lines.end()


class _Text:
    """Gathers the lines of a paragraph, a list item, a heading or a table row, and finds the marks in it."""

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        self.lines: list[str] = []
        self.first = 1

    def take(self, lines: list[str], number: int) -> None:
        """The next lines, from line ``number``: one, or more with a display equation."""
        text = "\n".join(lines)
        if len(lines) > 1 or "$$" in _blank_code(text):  # an equation of its own ends the paragraph for us
            self.end()
            text = DISPLAYED.sub(lambda m: "\n" * m[0].count("\n"), text)
        bare = re.sub(r"^(?:\s|>)*", "", text)
        if not bare.strip() or re.match(r"[-*+]\s|\d+[.)]\s|#|\||:\s", bare):
            self.end()
        if bare.strip():
            if not self.lines:
                self.first = number
            self.lines.append(text.replace(r"\|", "|") if bare.startswith("|") else text)
        if bare.startswith(("|", "#")):
            self.end()

    def end(self) -> None:
        """The paragraph is complete."""
        text = "\n".join(re.sub(r"^(?:\s*>)+", "", line) for line in self.lines)
        self.lines = []
        if "checked" not in text:
            return
        found = list(INLINE.finditer(text))
        formula = lambda m: m["dollars"] or m["role"]
        beside = tuple(formula(m) for m in found if formula(m))
        for before, mark in zip([None, *found], found, strict=False):
            if mark["checked"]:
                label, tex = marked(mark["checked"])
            elif mark["linked"]:
                label, tex = mark["linked"], None
                if mark["printed"]:
                    near = before is not None and not text[before.end() : mark.start()].strip()
                    tex = (formula(before) if near and before else None) or ""
            else:
                continue
            line = self.first + text.count("\n", 0, mark.start())
            number = sum(s.label == label for s in self.page.statements)
            self.page.statements.append(Statement(label, tex, self.name, line, beside, number))


def _close(lines: list[str], at: int, fence: str) -> int:
    """The line that ends the block begun on line ``at``; behind the last line if none does."""
    ends = re.compile(rf"^(?:\s|>)*{re.escape(fence[0])}{{{len(fence)},}}\s*$")
    return next((i for i in range(at + 1, len(lines)) if ends.match(lines[i])), len(lines))


def _fenced(
    lines: list[str], at: int, fence: re.Match[str], page: Page, name: str, quarto: bool, around: list[str]
) -> int:
    """Read what begins with the fence on line ``at``; returns the next line to be read."""
    marks = fence["fence"]
    found = re.match(r"^\{([\w:+-]+)[^}]*\}\s*(.*)$", fence["info"])
    kind, argument = (found[1], found[2]) if found else ("", "")
    language = (argument.split() or ["python"])[0]
    python = (quarto and kind == "python") or (kind == "code-cell" and language in LANGUAGES)
    if found is None and marks[0] == ":":  # a div of Quarto, or the end of one
        return at + 1
    if found and not (quarto and kind != "python") and kind not in {*VERBATIM, "code-cell", "math", "python"}:
        around.append(marks)  # an admonition, a theorem, ...: what it holds is read on
        return at + 1
    end = _close(lines, at, marks)
    body = lines[at + 1 : end]
    if python:
        tags, skip = _options(body)
        page.cells.append(Cell("\n".join(body[skip:]), name, at + 2 + skip, tags))
    elif kind == "math":
        label, skip = _math_options(body)
        _equation("\n".join(([argument] if argument else []) + body[skip:]), label, page, name, at + 1)
    return end + 1


def _options(body: list[str]) -> tuple[tuple[str, ...], int]:
    """Tags of a code cell, and how many lines its options take."""
    skip = 0
    if body and body[0].strip() == "---":
        skip = next((i + 1 for i, text in enumerate(body[1:], start=1) if text.strip() == "---"), 0)
    else:
        while skip < len(body) and re.match(r"^:[\w-]+:", body[skip]):
            skip += 1
    head = "\n".join(body[:skip])
    listed = re.search(r"^:?tags:\s*\[([^\]]*)\]", head, re.MULTILINE)
    items = listed[1].split(",") if listed else re.findall(r"^\s*-\s+(.+)$", head, re.MULTILINE)
    while skip < len(body) and not body[skip].strip():
        skip += 1
    return tuple(item.strip().strip("\"'") for item in items if item.strip()), skip


def _math_options(body: list[str]) -> tuple[str | None, int]:
    label, skip = None, 0
    while skip < len(body) and (option := re.match(r"^\s*:([\w-]+):\s*(.*)$", body[skip])):
        if option[1] in {"label", "name"} and option[2].strip():
            label = option[2].strip()
        skip += 1
    return label, skip


def _ams(lines: list[str], at: int, kind: str, page: Page, name: str) -> int:
    end = next((i for i in range(at, len(lines)) if rf"\end{{{kind}}}" in lines[i]), len(lines) - 1)
    block = "\n".join(lines[at : end + 1])
    inner = block.partition(rf"\begin{{{kind}}}")[2].partition(rf"\end{{{kind}}}")[0]
    _equation(inner if kind.rstrip("*") == "equation" else block.strip(), None, page, name, at + 1)
    return end + 1


def _dollars(lines: list[str], at: int, page: Page, name: str) -> int:
    """Read ``$$ ... $$ (label)`` from line ``at``, in a paragraph of its own or not; returns the next line."""
    text = _blank_code(lines[at])
    first = re.search(r"(?<!\\)\$\$", text)
    if first is None:
        return at + 1
    start, rest, last = at, lines[at][first.end() :], at
    while (end := re.search(r"(?<!\\)\$\$", rest)) is None:
        last += 1
        if last >= len(lines):
            return at + 1  # never closed: no equation
        rest += "\n" + re.sub(r"^\s*(?:>\s?)+", "", lines[last])
    tex, after = rest[: end.start()], rest[end.end() :]
    label = AFTER.match(after)
    remains = after[label.end() :] if label else after
    last_words = not label and not remains.strip() and last + 1 < len(lines)
    hidden = HIDDEN.match(lines[last + 1]) if last_words and page.path.suffix == ".ipynb" else None
    named = (label["myst"] or label["quarto"]) if label else hidden["label"] if hidden else None
    _equation(tex, named, page, name, start + 1)
    if "$$" in remains:  # another one on the same line
        lines = [*lines[:last], " " * 1 + remains, *lines[last + 1 :]]
        return _dollars(lines, last, page, name)
    return last + (2 if hidden else 1)


def _blank_code(text: str) -> str:
    """``text`` with its inline code blanked, since dollars in code are no formulas."""
    return re.sub(r"(`+)(.+?)\1", lambda m: " " * len(m[0]), text)


def _equation(tex: str, label: str | None, page: Page, name: str, line: int) -> None:
    if label is None and (found := LABEL.search(tex)):
        label = found[1].strip()
    page.equations.append(Equation(label, TAG.sub("", LABEL.sub("", tex)).strip(), name, line))
