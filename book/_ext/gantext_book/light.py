"""Light pages: what no page uses is left out of what every page loads.

The theme brings its icons as 1.8 MB of scripts and fonts, half a megabyte of styles for components that this book has
not, and the whole search index to pages that do not search. Icons are drawn by `gantext.css`; here scripts and styles
are left out page by page, pictures become WebP and are loaded when they come into view, and after the
build every style sheet loses the rules that nothing can match and the variables that nothing reads. What the pages
themselves need not say is left out by `compact`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tinycss2
from docutils import nodes
from pygments.lexers.javascript import JavascriptLexer
from pygments.token import String
from sphinx.application import Sphinx

from gantext_book import compact
from gantext_book.pictures import Pictures, to_webp

# What `page.js` does in a tenth of the bytes (menus, colours, lists of pages and sections), and Sphinx's own search.
UNUSED = re.compile(
    r"thebe|design-tabs|sphinx-book-theme\.js|sphinx-design|togglebutton|toggleHint|toggleOpen|fontawesome|clipboard|copybutton|"
    r"sphinx_highlight|doctools",
    re.IGNORECASE,
)
STATES = {"show", "active", "disabled", "collapsing", "collapse", "open"}  # classes that scripts set
# Elements and classes that no style of this book tells apart from those that stay.
WRAPPER = re.compile(r'(<div class="cell(?:_input|_output|)\b[^"]*?) docutils container"')
CODE = re.compile(
    r'<div class="highlight-[\w-]+ notranslate"><div class="highlight">(<pre>.*?</pre>)</div>\n?</div>', re.DOTALL
)
INDENTED = re.compile(r"(?<=\n) {4,}")
PRINTED = re.compile(r'(<div class="output [\w ]+?) highlight-[\w-]+ notranslate(?=")')
# What `page.js` adds instead: to a mark the words of its check, to a heading the link to its section.
SAID = re.compile(
    r'(?<=<div class="gantext-check") data-label="[^"]*"|'
    r'<a class="headerlink" href="#[^"]*" title="Link to this heading">.*?</a>(?=</h[1-6]>)|'
    r'(<a class="(?:eq|checked)-mark [^"]*"(?: id="[^"]*")? href="#[^"]*") title="[^"]*"'
)
# Parts of the theme that this book has nowhere, though its scripts know them or an empty element waits for them.
ABSENT = re.compile(
    r"version-switcher|version-warning|header-announcement|list-group|dropdown-menu-dark|collapse-sidebar|carousel|"
    r"\.bd-header(?![\w-])(?!:not)|navbar-expand|\.ratio\b|#searchbox|html:not\(\[data-theme\]\)|tooltip|\[list\]|"
    r"file-selector|webkit-date|pst-squeeze|pst-expand|admonition\.toggle|aside\.sidebar|admonition\.sidebar|legend|"
    r"fieldset|versionadded|deprecated|\.row\b|nboutput|nbinput|jp-Rendered|reference\.external:after|"
    r"output_scroll|scroll-output|textarea|type=file|\.collapsing|\[open\] #search-results|ul\.search|"
    r"navbar-nav li|figure a\.headerlink|eqno a\.headerlink|\.onthispage:after"
)
OTHERWISE = re.compile(r":not\((?!\[data-theme\])(?:[^()]|\([^()]*\))*\)")  # what need not be there
# Places of the theme's where this book puts nothing, and what its tooltips ask.
EMPTY = re.compile(
    r'<div id="pst-scroll-pixel-helper"></div>|<button type="button" class="[^"]*" id="pst-back-to-top">.*?</button>|'
    r'<div class="pst-async-banner-revealer[^>]*>\s*<aside[^>]*>\s*</aside>\s*</div>|'
    r'<header id="pst-header"[^>]*>\s*</header>|<div id="ethical-ad-placement"[^>]*>\s*</div>|'
    r'<footer class="bd-footer">\s*</footer>|'
    r'\sdata-bs-placement="\w+"|\sdata-bs-toggle="tooltip"|(?<=<li class="toc-h)(\d) nav-item(?= toc-entry)',
    re.DOTALL,
)


def lighten(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """``html-page-context``: leave out scripts and styles that the page has no use for; thin its code and pictures."""
    body = WRAPPER.sub(r'\1"', context.get("body", "")).replace('<a class="reference internal" href', "<a href")
    body = CODE.sub(_block, PRINTED.sub(r"\1", compact.code(body)))
    body = SAID.sub(lambda found: found[1] or "", body)
    context["body"] = re.sub(r"<img (?![^>]*loading=)", '<img loading="lazy" decoding="async" ', body)
    unused = [UNUSED] if 'class="ledger"' in body else [UNUSED, re.compile("texledger.js")]  # it filters tables
    for key in ("script_files", "css_files"):
        files = _once(context.get(key, []))
        context[key] = [file for file in files if not any(pattern.search(_says(file)) for pattern in unused)]


def _block(code: re.Match[str]) -> str:
    """A block of code in one element; its lines begin with tabs, which `page.js` makes spaces again."""
    tabs = INDENTED.sub(lambda line: "\t" * (len(line[0]) // 4) + " " * (len(line[0]) % 4), code[1])
    return f'<div class="highlight">{tabs}</div>'


def _once(files: list[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    for file in files:
        seen.setdefault(_says(file), file)
    return list(seen.values())


def _says(file: Any) -> str:
    return f"{getattr(file, 'filename', file) or ''} {getattr(file, 'attributes', {}).get('body', '')}"


@dataclass
class _Ahead:
    """What the other core does while this one writes the pages of the package's sources."""

    pool: ProcessPoolExecutor
    sheets: dict[str, Future[tuple[_Rule, ...]]]
    pictures: list[Future[None]]


def begin(app: Sphinx) -> list[Any]:
    """``html-collect-pages``: other processes draw the pictures and read the style sheets, which takes their time."""
    builder: Any = app.builder
    if builder.format == "html":
        out, pool = Path(app.outdir).resolve(), ProcessPoolExecutor(os.cpu_count())
        first = Path(builder.get_outfilename(app.config.root_doc)).resolve()
        asked = _asked(first, first.read_text(encoding="utf-8"))
        texts = {_whole(sheet, out) for sheet in asked if sheet.suffix == ".css" and sheet.is_file()}
        images = {Path(app.srcdir, file): out / "_images" / name for file, name in builder.images.items()}
        build: Any = app  # Sphinx hands nothing from one event to another
        build.gantext_ahead = _Ahead(
            pool,
            {text: pool.submit(_parsed, text) for text in sorted(texts, key=len, reverse=True)},
            [pool.submit(to_webp, file, at.with_suffix(".webp")) for file, at in images.items() if at.suffix == ".png"],
        )
    return []


def shrink(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: pictures as WebP, compact pages, styles without rules that match nothing."""
    ahead: _Ahead | None = getattr(app, "gantext_ahead", None)
    if ahead is None:
        return
    with ahead.pool:
        if exception is not None:
            ahead.pool.shutdown(cancel_futures=True)
            return
        out = Path(app.outdir).resolve()
        for picture in ahead.pictures:
            picture.result()
        files = sorted(path for path in out.rglob("*.html") if "_static" not in path.parts)
        pages = dict(zip(files, ahead.pool.map(partial(_compact, Pictures(out)), files, chunksize=4), strict=True))
    own = out / "_static" / "page.js"
    if own.is_file():  # its comments and its indentation are for those who read the source
        own.write_text(INDENT.sub("", COMMENT.sub("", own.read_text(encoding="utf-8"))), encoding="utf-8")
    read = {text: sheet.result() for text, sheet in ahead.sheets.items()}
    chapters = {path: text for path, text in pages.items() if CELL.search(text)}
    _restyle(out, chapters, CHAPTER, read)  # the styles of a chapter know no front page, no search and no package
    _restyle(out, {path: text for path, text in pages.items() if path not in chapters}, "", read)


def _compact(pictures: Pictures, path: Path) -> str:
    """Write a page anew that says the same in fewer signs, and return it."""
    text = path.read_text(encoding="utf-8")
    short = compact.page(pictures.place(EMPTY.sub(lambda found: found[1] or "", text)))
    if CELL.search(text):
        short = LINKED.sub(rf"\1{CHAPTER}.css", short.replace(f"{CHAPTER}.css", ".css"))
    if short != text:
        path.write_text(short, encoding="utf-8")
    return short


def _asked(page: Path, text: str) -> set[Path]:
    """The style sheets and scripts of a page, by the names that they have before they are cut."""
    addresses = {unquote(urlsplit(a).path).replace(f"{CHAPTER}.css", ".css") for a in set(ASKED.findall(text))}
    return {(page.parent / address).resolve() for address in addresses}


def _whole(sheet: Path, out: Path) -> str:
    """A style sheet before it is cut: what Sphinx does not copy anew must be cut from the whole text again."""
    kept, text = out.parent / "styles" / sheet.relative_to(out), sheet.read_text(encoding="utf-8")
    if text.startswith(CUT):
        return kept.read_text(encoding="utf-8")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    return text


def _restyle(out: Path, pages: dict[Path, str], ending: str, read: dict[str, tuple[_Rule, ...]]) -> None:
    """Write the style sheets that the pages ask for with only the rules that these pages use; ``ending`` names them.

    ``read`` has the rules of sheets that have been read before.
    """
    used = _Used()
    asked: set[Path] = set()
    for path, text in pages.items():
        used.page(text)
        asked |= _asked(path, text)
    written = replace(used, classes=used.classes - compact.COLOURED.keys() - compact.PLAIN)  # no such spans are left
    for script in asked:
        if script.suffix == ".js" and script.is_file() and script.name not in {"searchtext.js", "language_data.js"}:
            used.script(script.read_text(encoding="utf-8"))
    sheets, waiting = {}, sorted(sheet for sheet in asked if sheet.suffix == ".css" and sheet.is_file())
    while waiting:
        sheet = waiting.pop()
        text = _whole(sheet, out)
        rules = read[text] if text in read else _parsed(text)
        sheets[sheet] = purge(rules, written if sheet.name == "pygments.css" else used)
        imported = [(sheet.parent / name).resolve() for name in IMPORTED.findall(text)]
        waiting += [other for other in imported if other.is_file() and other not in sheets]
    for sheet, text in zip(sheets, without_unread(list(sheets.values()), used.text), strict=True):
        text = IMPORTED.sub(lambda found: found[0].removesuffix(".css") + f"{ending}.css", text)
        sheet.with_name(f"{sheet.stem}{ending}.css").write_text(CUT + text, encoding="utf-8")


CELL = re.compile(r'<div class="?cell_input')  # on the pages that are executed, which are the chapters
CHAPTER = ".chapter"  # in the names of their style sheets
LINKED = re.compile(r"(<link\b[^>]*?\shref=\"?[^\s\">]+)\.css")
CUT = "/*cut*/"
COMMENT = re.compile(r"^ *// .*\n|(?<=[;{}(,]) +// .*$", re.MULTILINE)  # a line of its own in a script, or its end
INDENT = re.compile(r"^\s+", re.MULTILINE)
MADE = re.compile(r"""(?:class(?:Name|List\.\w+\()?|createElement\w*\()[\s=(\\"'+]*([\w -]+)""")
IMPORTED = re.compile(r'@import\s+(?:url\()?["\']?([^"\')\s;]+\.css)')
ASKED = re.compile(r'<(?:link|script)\b[^>]*?\s(?:href|src)="?([^\s">]+\.(?:css|js)\b[^\s">]*)')


@dataclass
class _Used:
    """What the pages and their scripts name: tags, classes, ids; and their text as far as it may name variables."""

    tags: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=lambda: set(STATES))
    ids: set[str] = field(default_factory=set)
    text: str = ""
    attributes: str = ""

    def page(self, text: str) -> None:
        tags, classes, ids = compact.words(text)
        self.tags |= tags
        self.classes |= classes
        self.ids |= ids
        self.attributes += " ".join(set(re.findall(r"\s(data-[\w-]+)=", text))) + " "
        self.text += " ".join(re.findall(r"--[\w-]+", text)) + " "
        for script in re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", text, re.DOTALL):
            self._may_name(" ".join(MADE.findall(script)))  # not the words of its data

    def script(self, text: str) -> None:
        """A script names in its strings what it makes or looks for."""
        strings = " ".join(value for kind, value in JavascriptLexer().get_tokens(text) if kind in String)
        self._may_name(strings)
        self.text += " ".join(re.findall(r"--[\w-]+", text)) + " "
        self.attributes += " ".join(re.findall(r"dataset\.(\w+)", text)) + " "

    def _may_name(self, text: str) -> None:
        words = set(re.findall(r"[A-Za-z][\w-]*", text))
        self.tags |= words
        self.classes |= words
        self.ids |= words
        self.attributes += " ".join(word for word in words if word.startswith("data-")) + " "

    def matches(self, selector: str) -> bool:
        """Whether each tag, class, id and ``data-`` attribute of the selector is somewhere."""
        if ABSENT.search(OTHERWISE.sub(":not", selector)):
            return False
        kinds = {"": self.tags, ".": self.classes, "#": self.ids}
        return all(
            (f"{name} " in self.attributes or _camel(name) in self.attributes) if kind == "[" else name in kinds[kind]
            for kind, name in _names(selector)
        )


def _camel(attribute: str) -> str:
    """The name by which scripts know an attribute: ``data-bs-theme`` is ``bsTheme``.

    >>> _camel("data-bs-theme")
    'bsTheme '
    """
    return re.sub(r"-(\w)", lambda m: m[1].upper(), attribute.removeprefix("data-")) + " "


@dataclass(frozen=True)
class _Rule:
    """A rule of a style sheet: its selectors or, of one that begins with @, its head; its text or the rules in it."""

    selectors: tuple[str, ...] = ()
    head: str = ""
    text: str = ""
    rules: tuple[_Rule, ...] | None = None


@cache
def _parsed(css: str) -> tuple[_Rule, ...]:
    """The rules of a sheet, which is cut twice: for the chapters and for the other pages."""
    return tuple(_rules(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)))


def _rules(rules: list[Any]) -> Iterator[_Rule]:
    for rule in rules:
        if rule.type == "qualified-rule":
            yield _Rule(tuple(_selectors(rule.prelude)), text=_tight(tinycss2.serialize(rule.content)))
        elif rule.type == "at-rule":
            name, head = rule.lower_at_keyword, f"@{rule.lower_at_keyword} {tinycss2.serialize(rule.prelude).strip()}"
            if rule.content is None:
                yield _Rule(head=head, text=";")
            elif name in {"media", "supports", "layer", "container"}:
                inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
                yield _Rule(head=head, rules=tuple(_rules(inner)))
            elif not (name == "font-face" and re.search("Font ?Awesome", tinycss2.serialize(rule.content))):
                yield _Rule(head=head, text=f"{{{_tight(tinycss2.serialize(rule.content))}}}")


def purge(rules: Iterable[_Rule], used: _Used) -> str:
    """A sheet without comments and without the rules whose selectors name a class, id or tag that is nowhere used.

    >>> purge(_parsed(".a{x:1} .b, .a em {y:2} @media print{.b{z:3}}"), _Used(tags={"em"}, classes={"a"}))
    '.a{x:1}.a em{y:2}'
    """
    out = []
    for rule in rules:
        if rule.selectors:
            selectors = [s for s in rule.selectors if used.matches(s)]
            if selectors and rule.text:
                out.append(f"{','.join(selectors)}{{{rule.text}}}")
        elif rule.rules is None:
            out.append(rule.head + rule.text)
        elif text := purge(rule.rules, used):
            out.append(f"{rule.head}{{{text}}}")
    return "".join(out)


QUOTED = r"\"[^\"]*\"|'[^']*'"
BRACKETS = rf"\((?:[^()\"']|{QUOTED}|\([^()]*\))*\)"
# At the beginning of a block or after another declaration; the value may hold brackets and quoted text.
VARIABLE = re.compile(rf"(?<=[{{;])(--[\w-]+):((?:[^;{{}}()\"']|{QUOTED}|{BRACKETS})*)(?:;|(?=}}))")


def without_unread(sheets: list[str], elsewhere: str = "") -> list[str]:
    """Style sheets without the variables that no sheet and no script reads, again and again until all are read.

    >>> without_unread([":root{--a:1;--b:var(--a);x:y}", "p{--c:2;color:var(--c)}"])
    [':root{x:y}', 'p{--c:2;color:var(--c)}']
    """
    while True:
        read = set(re.findall(r"var\(\s*(--[\w-]+)", "".join(sheets))) | set(elsewhere.split())
        unread = {name for sheet in sheets for name, _ in VARIABLE.findall(sheet)} - read
        if not unread:
            return [re.sub(r"(?<=[{};])[^{};@]+{}", "", sheet) for sheet in sheets]
        keep = lambda found, unread=unread: "" if found[1] in unread else found[0]
        sheets = [VARIABLE.sub(keep, sheet) for sheet in sheets]


def _tight(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    if "url(" in text:  # an address may hold anything
        return text.strip()
    parts = re.split(rf"({QUOTED})", text)  # what is quoted is text to be read
    parts[::2] = [re.sub(r"\s*([;:{},])\s*", r"\1", re.sub(r"\s+", " ", part)) for part in parts[::2]]
    return "".join(parts).strip(" ;")


def _selectors(prelude: list[Any]) -> list[str]:
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [re.sub(r"\s+", " ", tinycss2.serialize(part)).strip() for part in parts]


@cache
def _names(selector: str) -> tuple[tuple[str, str], ...]:
    """Tags, classes (``.``), ids (``#``) and ``data-`` attributes (``[``) that the selector asks for.

    What stands inside of :not() need not be there, of :is() not all of it.

    >>> _names('html[data-x="1"] p.a:not(.b) > #c')
    (('', 'html'), ('', 'p'), ('.', 'a'), ('#', 'c'), ('[', 'data-x'))
    """
    selector = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    attributes = re.findall(r"\[(data-[\w-]+)", selector)
    selector = re.sub(r"\[[^\]]*\]|::?[\w-]+(?:\([^()]*\))?", "", selector)
    named = re.findall(r"((?<!\\)[.#]|(?<![\w.#\\-]))((?:[A-Za-z_-]|\\.)(?:[\w-]|\\.)*)", selector)
    return (*((kind, name.replace("\\", "")) for kind, name in named), *(("[", name) for name in attributes))


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("html-page-context", lighten, priority=950)
    app.connect("html-collect-pages", begin, priority=100)  # before the sources, which take the longest
    app.connect("build-finished", shrink, priority=900)
