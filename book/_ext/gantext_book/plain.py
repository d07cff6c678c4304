r"""MyST to the plain Markdown of Colab, GitHub and Jupyter, with the numbers that the HTML shows.

Colab, GitHub and Jupyter print a `{math}` fence, a `{prf:theorem}` box or an `{eq}` role as raw text. Here the house
subset of MyST becomes what they understand: equations carry `\tag{2.1}`, boxes are quotations under a bold head, and
references are text that links into the book. Markup outside the subset is an error, never raw text before a reader.
"""

import copy
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from docutils.nodes import make_id
from docutils.parsers.rst.directives.misc import TestDirective
from myst_parser.mdit_to_docutils.base import default_slugify
from myst_parser.parsers.directives import parse_directive_text
from nbformat import NotebookNode
from pybtex.backends.markdown import Backend
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style
from texledger.sphinx import MARKS, marked

from . import widgets
from .source import ROOT, Site, chapters, fill, pages, read_notebook, site

PROOFS = ("theorem", "lemma", "proposition", "corollary", "definition", "remark", "example")
NOTES = ("note", "tip", "important", "warning")
API = ("func", "class", "mod", "meth", "attr", "data", "exc")
DIRECTIVES = (
    *(f"prf:{kind}" for kind in (*PROOFS, "proof")),
    *("exercise", "exercise-start", "exercise-end", "solution", "solution-start", "solution-end"),
    *(*NOTES, "admonition", "dropdown", "margin", "figure", "image", "math", "bibliography", "raw"),
    *("folded", "widget"),
)
REFERENCES = ("eq", "prf:ref", "ref", "numref", "doc", "cite:p", "cite:t")
ROLES = (*REFERENCES, "math", "checked", *API, *(f"py:{role}" for role in API))
# What they hold is not Markdown.
LEAVES = ("math", "raw", "bibliography", "image", "exercise-end", "solution-end", "folded", "widget")

OPEN = re.compile(r"^(?P<prefix>\s*(?:(?:[-*+]|\d+[.)])\s+)?)(?P<fence>`{3,}(?=[^`]*$)|~{3,}|:{3,})(?P<info>.*)$")
MATH = re.compile(r"^(?P<prefix>\s*)\$\$(?P<rest>.*)$")
MATH_END = re.compile(r"^(?P<tex>.*?)\$\$\s*(?:\((?P<label>[^)$]+)\)\s*)?$")
TARGET = re.compile(r"^\((?P<name>[^()]+)\)=\s*$")
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.*?)\s*$")
INLINE = re.compile(
    r"""\{(?P<role>[A-Za-z][\w:.+-]*)\}(?P<ticks>`+)(?P<content>.+?)(?<!`)(?P=ticks)(?!`)
    | (?P<code>(?<!`)(?P<marks>`+)(?!`).+?(?<!`)(?P=marks)(?!`))
    | (?P<odd>\$\$ | \{\{\s*\w+\s*\}\} | \[\^[^\]]+\] | (?<=[\])])\{[.\#][^}]*\} | ^[ ]*:(?:[a-z-]+:)?(?=\s|$) | ^\+\+\+
        | ^[ ]*:::+ | ^[ ]*\\begin\{\w+\*?\} | <(?:project|inv|path|doc):[^>]*>)
    | \\.
    | (?P<math>\$(?:\\.|[^$\\])+\$)
    | (?P<image>!\[(?:\\.|[^\]\\])*\]\([^)]*\))
    | \[(?P<text>(?:\\.|[^\[\]\\]|\[[^\]]*\])*)\]\((?P<url>[^()\s]*)(?:\s+"[^"]*")?\)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


CHECK = re.compile(r"\bledger\.(?P<kind>\w+)\(\s*\"(?P<label>[\w:-]+)\"")  # where an entry is made
PLACE = "\0widget {}\0"  # in a text that is not yet split into cells
FOLDED = {"ledger", "setup", "hide-input"}
ITALIC = re.compile(r"[*_](?![*_\s])")


class MarkupError(ValueError):
    """A chapter holds markup that cannot be shown outside the book."""


@dataclass(frozen=True)
class Label:
    """What a label stands for and where in the book it is."""

    kind: str  # equation, figure, section, exercise, solution, or one of PROOFS
    page: str
    anchor: str
    number: str = ""  # as printed, such as 2.1; empty where the book prints none
    title: str = ""  # heading or caption; for a solution, the label of its exercise


@dataclass(frozen=True)
class Context:
    """What the rendering of one chapter needs to know of the whole book."""

    path: Path
    number: int
    site: Site
    root: Path
    labels: dict[str, Label]
    bibliography: dict[str, Entry]
    cited: frozenset[str]
    modules: dict[str, str]  # for each module or function, the page that documents it
    checks: dict[str, tuple[str, str]] = field(default_factory=dict)  # of each label's check: its page and its kind

    @property
    def page(self) -> str:
        """The document name of the chapter, such as `notebooks/gan-qp`."""
        return f"{self.path.parent.name}/{self.path.stem}"


@dataclass
class Block:
    """A piece of a text cell: a paragraph, a display equation, a code fence, a target, a comment or a directive."""

    kind: str
    line: int  # from 0, within the cell
    text: str = ""  # paragraph, code, TeX, or name of the target
    prefix: str = ""  # indentation or list marker
    name: str = ""  # of the directive
    label: str = ""
    argument: str = ""
    options: dict[str, str] = field(default_factory=dict)
    children: list["Block"] = field(default_factory=list)
    tight: bool = False  # no blank line before it
    problem: str = ""
    caption: bool = False  # of the picture before it


def _directive(block: Block, info: str, lines: list[str]) -> None:
    match = re.match(r"\{([^}]*)\}\s*(.*)$", info)
    block.name, first = match.groups() if match else (info, "")
    takes_argument = block.name not in (*NOTES, "prf:proof", "bibliography")
    spec = type("_Spec", (TestDirective,), {"optional_arguments": int(takes_argument)})
    result = parse_directive_text(spec, first, "\n".join(lines))
    block.argument = " ".join(result.arguments)
    block.options = result.options
    block.label = block.options.get("label") or block.options.get("name", "")
    if result.warnings:
        block.problem = result.warnings[0].msg
    if block.name in LEAVES:
        block.kind = "math" if block.name == "math" else "directive"
        block.text = "\n".join([*result.arguments, *result.body] if block.name == "math" else result.body)
    else:
        block.children = parse(result.body, block.line + 1 + result.body_offset)


def parse(lines: Sequence[str], start: int = 0) -> list[Block]:
    """Split the lines of a text cell into blocks; never raises, so that it can also look at foreign text."""
    blocks: list[Block] = []
    paragraph: list[str] = []
    tight, i = False, 0

    def add(kind: str, at: int, text: str = "", prefix: str = "", problem: str = "") -> Block:
        nonlocal tight
        blocks.append(Block(kind, start + at, text, prefix, problem=problem, tight=tight))
        tight = True
        return blocks[-1]

    def flush() -> None:
        if paragraph:
            add("text", i - len(paragraph), text="\n".join(paragraph))
            paragraph.clear()

    def dedented(line: str, prefix: str) -> str:
        return line[min(len(prefix), len(line) - len(line.lstrip())) :]

    while i < len(lines):
        line = lines[i]
        opened, math = OPEN.match(line), MATH.match(line)
        if not line.strip():
            flush()
            tight = False
        elif opened:
            flush()
            fence, info, prefix = opened["fence"], opened["info"].strip(), opened["prefix"]
            closing = re.compile(rf"^\s*{re.escape(fence[0])}{{{len(fence)},}}\s*$")
            end = next((j for j in range(i + 1, len(lines)) if closing.match(lines[j])), len(lines))
            isdirective = info.startswith("{") or fence[0] == ":"
            block = add("directive" if isdirective else "code", i, prefix=prefix, text="\n".join(lines[i : end + 1]))
            if isdirective:
                _directive(block, info, [dedented(inner, prefix) for inner in lines[i + 1 : end]])
            if end == len(lines):
                block.problem = "the fence is never closed"
            i = end
        elif math:
            problem = "leave a blank line before a display equation" if paragraph else ""
            flush()
            rest, tex, first = math["rest"], [], i
            while (end_match := MATH_END.match(rest)) is None and i + 1 < len(lines):
                tex.append(rest)
                i += 1
                rest = dedented(lines[i], math["prefix"])
            block = add("math", first, prefix=math["prefix"], problem=problem)
            if end_match is None:
                block.problem = "the display equation is never closed by `$$ (label)`"
            else:
                tex.append(end_match["tex"])
                block.label = re.sub(r"\s+", "-", end_match["label"] or "")
            block.text = "\n".join(tex)
        elif target := TARGET.match(line):
            flush()
            add("target", i, text=target["name"])
        elif line.startswith("%"):
            flush()
            add("comment", i, text=line)
        else:
            paragraph.append(line)
        i += 1
    flush()
    return blocks


def parse_cell(source: str, before: NotebookNode | None) -> list[Block]:
    """The blocks of a text cell; a paragraph in italics right behind a picture is its caption, as it is on the page.

    The picture is a `widget`, or what the code cell `before` shows: an image, which has its alt text there, or HTML.
    """
    blocks = parse(source.splitlines())
    picture = False
    if before is not None and before.cell_type == "code":
        picture = "image" in before.metadata.get("mystnb", {}) or "HTML(" in before.source
    for block in blocks:
        if block.kind != "target":
            block.caption = picture and block.kind == "text" and ITALIC.match(block.text) is not None
            picture = block.name == "widget"
    return blocks


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """All blocks in the order in which the book numbers them: a box comes before what it holds."""
    for block in blocks:
        yield block
        yield from walk(block.children)


def leftovers(text: str) -> list[str]:
    """The MyST markup that a reader of this Markdown would see as raw text."""
    found: list[str] = []
    for block in walk(parse([re.sub(r"^\s*(?:>\s?)+", "", line) for line in text.splitlines()])):
        if block.kind in ("directive", "target", "comment"):
            found.append(f"{{{block.name}}}" if block.kind == "directive" else block.text)
        elif block.kind == "math" and (block.label or block.name):
            found.append(f"$$ ({block.label})")
        elif block.kind == "text":
            for match in INLINE.finditer(block.text):
                url = match["url"] or ""
                if match["role"] or match["odd"] or (url.startswith("#") or re.search(r"^[^:]*\.md(#|$)", url)):
                    found.append(match.group())
    return found


def _collect(path: Path, number: int, nb: NotebookNode) -> tuple[dict[str, Label], set[str], dict[str, str]]:
    """The labels that a chapter defines, numbered as Sphinx numbers them, the works that it cites, and its checks."""
    labels: dict[str, Label] = {}
    cited: set[str] = set()
    checks: dict[str, str] = {}
    count: Counter[str] = Counter()
    page = f"{path.parent.name}/{path.stem}"

    def define(name: str, kind: str, anchor: str, number: str = "", title: str = "") -> None:
        if name in labels:
            raise MarkupError(f"{path}: the label `{name}` is defined twice; give each its own")
        labels[name] = Label(kind, page, anchor, number, title)

    def next_number(kind: str) -> str:
        count[kind] += 1
        return f"{number}.{count[kind]}"

    for before, cell in zip([None, *nb.cells], nb.cells, strict=False):
        if cell.cell_type == "code":
            checks |= {m["label"]: m["kind"] for m in CHECK.finditer(cell.source)}
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if figure.get("caption") and not {"remove-output", "remove-cell"} & set(cell.metadata.get("tags", [])):
                printed = next_number("figure")
                if name := figure.get("name"):
                    define(name, "figure", make_id(name), printed, figure["caption"].strip())
            continue
        cites = re.findall(r"\{cite:[pt]\}`([^`]+)`", cell.source)
        cited |= {key.strip() for keys in cites for key in keys.split(",")}
        pending: list[str] = []
        for block in walk(parse_cell(cell.source, before)):
            if block.kind == "target":
                pending.append(block.text)
                continue
            kind, printed, title, anchor = "section", "", "", block.label
            if block.kind == "math" and block.label:
                kind, printed, anchor = "equation", next_number("equation"), make_id(f"equation-{block.label}")
            elif block.caption:
                kind, printed = "figure", next_number("figure")
            elif block.kind == "text":
                heading = HEADING.match(block.text.splitlines()[0])
                title = heading["title"] if heading else ""
            elif block.kind == "directive":
                name = block.name.removeprefix("prf:").removesuffix("-start")
                if name in (*PROOFS, "exercise"):
                    kind, title = name, block.argument
                    printed = "" if "nonumber" in block.options else next_number(name)
                elif name == "solution":
                    kind, title = name, block.argument
                elif name == "figure" and block.children:
                    kind, printed, anchor = name, next_number(name), make_id(block.label)
                    title = block.children[0].text
            if block.label and kind != "section":
                define(block.label, kind, anchor, printed, title)
            if block.kind != "comment":
                seen = kind if kind in ("figure", "section") else ""  # Sphinx knows a title for these two only
                for name in pending:
                    define(name, seen or "section", make_id(name), printed if seen else "", title if seen else "")
                pending.clear()
    return labels, cited, checks


def contexts(root: Path = ROOT) -> dict[Path, Context]:
    """The context of every chapter, by its path; one reading of the whole book."""
    facts = site(root)
    labels: dict[str, Label] = {}
    cited: dict[Path, set[str]] = {}
    modules: dict[str, str] = {}
    checks: dict[str, tuple[str, str]] = {}
    numbers = {path: number for number, path in enumerate(chapters(root), start=1)}
    for path in pages(root):
        if path in numbers:
            own, cited[path], checked = _collect(path, numbers[path], read_notebook(path, facts))
            name = path.relative_to(root).with_suffix("").as_posix()
            checks |= {label: (name, kind) for label, kind in checked.items()}
        else:  # other pages give targets only: they are not numbered and have no notebook
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            found = re.findall(r"^\(([^()\n]+)\)=\n+(?:#+ +(.*))?", text, re.MULTILINE)
            name = path.relative_to(root).with_suffix("").as_posix()
            own = {label: Label("section", name, make_id(label), title=title) for label, title in found}
            modules |= dict.fromkeys(re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)", text, re.MULTILINE), name)
        if twice := sorted(labels.keys() & own.keys()):
            raise MarkupError(
                f"{path}: the label `{twice[0]}` is already defined in {labels[twice[0]].page}; rename it"
            )
        labels |= own
    references = root / "book" / "references.bib"
    entries = dict(parse_file(str(references), "bibtex").entries.items()) if references.exists() else {}
    return {
        path: Context(path, number, facts, root, labels, entries, frozenset(cited[path]), modules, checks)
        for path, number in numbers.items()
    }


class _Renderer:
    """Renders the text cells of one chapter; `line` is where in the file the current cell begins."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.line = 1
        self.count: Counter[str] = Counter()

    def fail(self, line: int, construct: str, rule: str) -> NoReturn:
        raise MarkupError(f"{self.context.path}:{self.line + line}: {construct}: {rule}")

    def cell(self, source: str, before: NotebookNode | None = None) -> str:
        blocks = parse_cell(source, before)
        self.folds(blocks)
        text = self.blocks(blocks, boxed=False)
        if found := leftovers(text):
            self.fail(
                0, found[0], "not readable outside the book in this place; move it out of the quotation or rewrite"
            )
        return text

    def folds(self, blocks: Sequence[Block]) -> None:
        """Hold each `folded` to its place: the first thing under the heading of the section that it closes."""
        above = ""
        for block in blocks:
            if block.name == "folded":
                heading = re.match(r"(#+)\s", above)
                rule = ""
                if not block.argument or block.text or block.options or block.prefix:
                    rule = "it is empty, with one line behind its name that says what the section holds"
                elif heading is None:
                    rule = "it must be the first thing under a heading, in the same text cell"
                elif len(heading[1]) == 1:
                    rule = "the opening of a chapter stays open; put it under a heading of a section"
                elif "*" in INLINE.sub("", block.argument):
                    rule = "write its line without emphasis: notebooks print the whole of it in italics"
                if rule:
                    self.fail(block.line, "`folded`", rule)
            elif inner := next((b for b in walk(block.children) if b.name == "folded"), None):
                self.fail(inner.line, "`folded`", "it must stand by itself, not inside of something")
            elif inner := next((b for b in walk(block.children) if b.name == "widget"), None):
                self.fail(inner.line, "`widget`", "it must stand by itself, not inside of something")
            if block.kind not in ("target", "comment"):
                above = block.text.splitlines()[-1] if block.kind == "text" else ""

    def blocks(self, blocks: Sequence[Block], boxed: bool) -> str:
        result = ""
        previous = ""
        for block in blocks:
            if block.problem:
                self.fail(block.line, f"`{block.name or block.text.splitlines()[0]}`", block.problem)
            text = self.block(block, boxed)
            if text:
                joined = block.tight and {previous, block.kind} <= {"text", "code"}
                result += ("\n" if joined else "\n\n") * bool(result) + text
            previous = block.kind if text else ""
        return result

    def block(self, block: Block, boxed: bool) -> str:
        if block.kind in ("target", "comment"):
            return ""
        if block.kind == "code":
            return block.text
        if block.caption:
            self.count["figure"] += 1  # in the order in which _collect numbers them
            return f"**Figure {self.context.number}.{self.count['figure']}.** {self.inline(block.text, block.line)}"
        if block.kind == "text":
            return self.inline(block.text, block.line)
        text = self.equation(block, boxed) if block.kind == "math" else self.directive(block)
        rest = " " * len(block.prefix)
        return "\n".join((rest if i else block.prefix) + line for i, line in enumerate(text.split("\n"))).rstrip()

    def equation(self, block: Block, boxed: bool) -> str:
        if not block.label:
            self.fail(
                block.line, "display equation", "it has no label; close it with `$$ (label)`, and give it its check"
            )
        if re.search(r"\\(tag|label)\b", block.text):
            self.fail(block.line, f"equation `{block.label}`", r"the book numbers it; remove \tag and \label")
        lines = [re.sub(r"(?<!\\)%.*", "", line).strip() for line in block.text.splitlines()]
        lines = [*filter(None, lines), rf"\tag{{{self.label(block.label, block.line).number}}}"]
        # In a quotation Jupyter takes the `>` of each further line for TeX.
        shown = " ".join(["$$", *lines, "$$"]) if boxed or len(lines) == 2 else "\n".join(["$$", *lines, "$$"])
        # No front end shows the comment; by it the ledger's cells find their equation where no page lies beside.
        return f"{shown}\n<!-- ({block.label}) -->"

    def directive(self, block: Block) -> str:
        name, page = block.name, self.context.page
        if name not in DIRECTIVES:
            self.fail(
                block.line, f"directive `{{{name}}}`", f"not in the house subset; supported: {', '.join(DIRECTIVES)}"
            )
        if name == "raw":
            return f"*(interactive figure: see [the page in the book]({self.context.site.page(page)}))*"
        if name == "widget":
            return self.widget(block)
        if name == "bibliography":
            return self.works()
        if name in ("figure", "image"):
            return self.figure(block)
        if name == "folded":
            return f"*{self.inline(block.argument, block.line)}*"
        if name == "exercise-end":
            return ""
        if name == "solution-end":
            return "*End of the solution.*"
        kind = name.removeprefix("prf:").removesuffix("-start")
        if kind in (*PROOFS, "exercise"):
            head = kind.title()
            if "nonumber" not in block.options:
                self.count[kind] += 1  # boxes are rendered in the order in which _collect numbers them
                head += f" {self.context.number}.{self.count[kind]}"
            head += f" ({block.argument})" if block.argument else ""
        elif kind == "solution":
            head = "Solution to " + self.reference(self.label(block.argument, block.line), block.line)
        elif kind == "proof":
            head = "Proof"
        else:
            head = block.argument or {"margin": "Aside", "dropdown": "Details"}.get(name, name.title())
        body = self.blocks(block.children, boxed=not name.endswith("-start"))
        first, last = (block.children[0], block.children[-1]) if block.children else (None, None)
        plain = first is not None and first.kind == "text" and not re.match(r"\s*([-*+#|<>]|\d+[.)])", first.text)
        text = f"**{self.inline(head, block.line).rstrip('.')}.**" + (" " if plain else "\n\n" if body else "") + body
        if kind == "proof":
            text += " ∎" if last is not None and last.kind == "text" else "\n\n∎"
        if name.endswith("-start"):  # it runs on over code cells, which no quotation can hold
            return text
        return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))

    def widget(self, block: Block) -> str:
        """The place of an interactive figure, for which `render` puts a cell of its own."""
        if block.text or block.options or block.prefix or not block.argument:
            self.fail(block.line, "`widget`", "it is empty and stands by itself, its name behind it")
        try:
            widgets.html(block.argument)
        except ValueError as error:
            self.fail(block.line, "`widget`", str(error))
        return PLACE.format(block.argument)

    def figure(self, block: Block) -> str:
        alt, path = block.options.get("alt", ""), block.argument
        if not alt:
            self.fail(block.line, f"`{block.name}` {path}", "it has no `:alt:`; say what there is to see")
        image = f"![{alt}]({f'..{path}' if path.startswith('/') else path})"
        caption = self.blocks(block.children, boxed=False)
        if not caption:
            return image
        self.count["figure"] += 1
        if not block.label:
            self.fail(block.line, f"`figure` {path}", "the book numbers a captioned figure: give it a `:name:`")
        return f"{image}\n\n**{self.reference(self.label(block.label, block.line), block.line)}.** {caption}"

    def label(self, name: str, line: int) -> Label:
        if name not in self.context.labels:
            self.fail(line, f"label `{name}`", "no page of _toc.yml defines it; correct the name")
        return self.context.labels[name]

    def reference(self, label: Label, line: int) -> str:
        """The words by which the book refers to a labelled thing."""
        if label.kind == "equation":
            return f"({label.number})"
        if label.kind == "figure":
            return f"Figure {label.number}"
        if label.kind == "solution":
            return f"Solution to {self.reference(self.label(label.title, line), line)}"
        if label.kind == "section":
            return label.title or self.fail(
                line, f"target `{label.anchor}`", "no heading follows it; give the link a text"
            )
        return f"{label.kind.title()} {label.number}".rstrip()

    def inline(self, text: str, line: int) -> str:
        def replace(match: re.Match[str]) -> str:
            at = line + text.count("\n", 0, match.start())
            if match["role"]:
                return self.role(match["role"], " ".join(match["content"].split()), at)
            if match["odd"]:
                rule = "not in the house subset; a display equation is `$$ ... $$ (label)` after a blank line"
                self.fail(at, f"`{match['odd'].strip()}`", rule)
            if match["math"]:
                return match["math"].replace("\n", " ")  # within a quotation the next line starts with `>`
            if match["url"] is not None:
                return self.link(match["text"], match["url"], at)
            return match.group()

        return INLINE.sub(replace, text)

    def role(self, role: str, content: str, line: int) -> str:
        if role not in ROLES:
            self.fail(line, f"role `{{{role}}}`", f"not in the house subset; supported: {', '.join(ROLES)}")
        if role == "math":
            return f"${content}$"
        if role.startswith("cite:"):
            return self.citation(role, [key.strip() for key in content.split(",")], line)
        if role == "checked":
            return self.checked(content, line)
        explicit = re.fullmatch(r"(.+?)\s*<([^<>]+)>", content)
        words, target = explicit.groups() if explicit else ("", content)
        if role == "doc":
            return self.link(words, target.removesuffix(".md") + ".md", line)
        if role.removeprefix("py:") in API:
            path = target.removeprefix("~")
            words = words or (path.rpartition(".")[2] if target.startswith("~") else path)
            if not path.startswith("gantext"):
                return f"`{words}`"
            anchor = f"module-{path}" if role.endswith("mod") else path
            modules = self.context.modules
            page = next((modules[m] for m in sorted(modules, reverse=True) if f"{path}.".startswith(f"{m}.")), None)
            if page is None:
                self.fail(line, f"{{{role}}}`{target}`", "no page of _toc.yml documents its module; correct the name")
            return f"[`{words}`]({self.context.site.page(page, anchor)})"
        label = self.label(target, line)
        allowed = {
            "eq": ("equation",),
            "prf:ref": PROOFS,
            "ref": ("section", "figure", "exercise", "solution"),
            "numref": ("figure", "exercise"),
        }[role]
        if label.kind not in allowed:
            self.fail(line, f"{{{role}}}`{target}`", f"it is a label of kind {label.kind}; this role takes {allowed}")
        if role == "numref" and words:
            words = words.replace("%s", label.number).replace("{number}", label.number)
        if role == "ref" and label.kind == "figure":
            words = words or label.title
        words = words or self.reference(label, line)
        return f"[{self.inline(words, line)}]({self.context.site.page(label.page, label.anchor)})"

    def checked(self, content: str, line: int) -> str:
        """A statement's mark as a link to its check; ``texledger check`` reads the link's title."""
        label, tex = marked(content)
        if label not in self.context.checks:
            self.fail(line, f"{{checked}}`{label}`", "no chapter has a check of that label; correct the name")
        page, kind = self.context.checks[label]
        place = self.context.site.page(page, make_id(f"check-{label}"))
        mark = f'[{MARKS.get(kind, "✓")}]({place} "checked{" as printed" if tex else ""}: {label}")'
        return f"${tex}$ {mark}" if tex else mark

    def link(self, words: str, url: str, line: int) -> str:
        context = self.context
        scheme = re.match(r"([a-z][a-z0-9+.-]*):", url)
        if scheme and scheme[1] not in ("http", "https", "mailto"):
            self.fail(line, f"link `{url}`", "supported are http(s) addresses, files, `other.md` and `#label`")
        path, _, anchor = url.partition("#")
        if scheme:
            target = url
        elif path:
            file = (context.root / path[1:] if path.startswith("/") else context.path.parent / path).resolve()
            if not file.exists():
                self.fail(line, f"link `{url}`", "there is no such file; correct the path")
            target = url
            if file.suffix == ".md":
                name = file.relative_to(context.root.resolve()).with_suffix("").as_posix()
                text = file.read_text(encoding="utf-8")
                if anchor and anchor not in _slugs(text):
                    self.fail(
                        line, f"link `{url}`", "that page has no such heading; refer to a label by `#label` alone"
                    )
                target = context.site.page(name, anchor)
                heading = re.search(r"^# +(.*?)\s*$", text, re.MULTILINE)
                words = words or (heading[1] if heading else name)
        elif anchor in context.labels:
            label = context.labels[anchor]
            words = words or self.reference(label, line)
            target = context.site.page(label.page, label.anchor)
        else:
            if anchor not in _slugs(context.path.read_text(encoding="utf-8")):
                self.fail(line, f"link `{url}`", "it is neither a label of the book nor a heading of this chapter")
            target = context.site.page(context.page, anchor)
        return f"[{self.inline(words, line)}]({target})"

    def citation(self, role: str, keys: list[str], line: int) -> str:
        entries = []
        for key in keys:
            if key not in self.context.bibliography:
                self.fail(line, f"{{{role}}}`{key}`", "book/references.bib has no such entry; add it")
            entries.append(_author_year(self.context.bibliography[key]))
        if role == "cite:t":
            return ", ".join(f"{author} ({year})" for author, year in entries)
        return "(" + "; ".join(f"{author}, {year}" for author, year in entries) + ")"

    def works(self) -> str:
        entries = [e for key, e in self.context.bibliography.items() if key in self.context.cited]
        formatted = Style().format_entries(sorted(entries, key=_author_year))
        texts = (" ".join(entry.text.render(Backend()).split()) for entry in formatted)
        # The backend also escapes what Markdown reads literally in running text.
        return "\n".join("- " + re.sub(r"\\([.\-!()+#])", r"\1", text) for text in texts)


def _slugs(text: str) -> set[str]:
    return {default_slugify(heading) for heading in re.findall(r"^#+ +(.*?)\s*$", text, re.MULTILINE)}


def _author_year(entry: Entry) -> tuple[str, str]:
    persons, fields = entry.persons or {}, entry.fields or {}
    people = persons.get("author") or persons.get("editor") or []
    names = [str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names]))) for person in people]
    author = f"{names[0]} et al." if len(names) > 2 else " & ".join(names)
    return author or fields.get("title", entry.key or ""), fields.get("year", "n.d.")


def render(nb: NotebookNode, context: Context) -> NotebookNode:
    """Return the notebook with its text cells in plain Markdown; code cells and ids are those of `nb`.

    Checks, set-ups and figures fold their code there as they do on the page: `cellView` for Colab, `source_hidden` for
    JupyterLab; a `widget` becomes a folded cell of HTML. Raises MarkupError, naming file and line, for markup outside
    the house subset or a name that leads nowhere.
    """
    nb = copy.deepcopy(nb)
    renderer = _Renderer(context)
    text = fill(context.path.read_text(encoding="utf-8"), context.site)
    cells, start, titled = [], 0, False
    for before, cell in zip([None, *nb.cells], nb.cells, strict=False):
        found = text.find(cell.source, start)
        if found >= 0:
            renderer.line = text.count("\n", 0, found) + 1
            start = found + len(cell.source)
        if cell.cell_type == "markdown":
            source = renderer.cell(cell.source, before)
            if not titled:
                titled = True
                link = (
                    f"*This notebook runs a chapter of the book: [read it there]({context.site.page(context.page)}).*"
                )
                head, _, rest = source.partition("\n") if source.startswith("# ") else ("", "", source)
                source = "\n\n".join(filter(None, [head, link, rest.strip("\n")]))
            if not source:
                continue
            for k, piece in enumerate(re.split(PLACE.format("(.+?)"), source)):
                identity = f"{cell.id}-w{k}" if k else cell.id
                if k % 2:
                    cells.append(widgets.cell(piece, identity))
                elif piece.strip():
                    cells.append(NotebookNode(cell, source=piece.strip("\n"), id=identity))
            continue
        renderer.count["figure"] += bool(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"))
        if FOLDED & set(cell.metadata.get("tags", [])):
            folded = NotebookNode(cell.metadata, cellView="form", jupyter=NotebookNode(source_hidden=True))
            cell = NotebookNode(cell, metadata=folded)
        cells.append(cell)
    return NotebookNode(nb, cells=cells)
