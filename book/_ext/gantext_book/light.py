"""Light pages: what no page uses is left out of what every page loads.

The theme brings its icons as 1.8 MB of scripts and fonts, half a megabyte of styles for components that this book has
not, and the whole search index to pages that do not search. Icons are drawn by `gantext.css`; here scripts and styles
are left out page by page, pictures become WebP of few colours and are loaded when they come into view, and after the
build every style sheet loses the rules that nothing can match and the variables that nothing reads. What the pages
themselves need not say is left out by `compact`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import tinycss2
from docutils import nodes
from PIL import Image
from pygments.lexers.javascript import JavascriptLexer
from pygments.token import String
from sphinx.application import Sphinx

from gantext_book import compact

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
DIFFERENCE = 2.0  # of 255, root mean square over a picture (42 dB): not seen in a drawing
NUMBERS = (16, 24, 32, 48, 64, 96, 128, 192, 256)  # of colours that are tried
STEPS = 4  # by which a palette comes nearer to a picture; more change nothing that is seen


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


def shrink(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: pictures as WebP, compact pages, styles without rules that match nothing."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir).resolve()
    pages = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.html") if "_static" not in path.parts}
    pictures = _Pictures(out)
    for path, text in pages.items():
        pages[path] = compact.page(pictures.place(EMPTY.sub(lambda found: found[1] or "", text)))
        if CELL.search(text):
            pages[path] = LINKED.sub(rf"\1{CHAPTER}.css", pages[path].replace(f"{CHAPTER}.css", ".css"))
        if pages[path] != text:
            path.write_text(pages[path], encoding="utf-8")
    own = out / "_static" / "page.js"
    if own.is_file():  # its comments and its indentation are for those who read the source
        own.write_text(INDENT.sub("", COMMENT.sub("", own.read_text(encoding="utf-8"))), encoding="utf-8")
    chapters = {path: text for path, text in pages.items() if CELL.search(text)}
    _restyle(out, chapters, CHAPTER)  # the styles of a chapter know no front page, no search and no package
    _restyle(out, {path: text for path, text in pages.items() if path not in chapters}, "")


def _restyle(out: Path, pages: dict[Path, str], ending: str) -> None:
    """Write the style sheets that the pages ask for with only the rules that these pages use; ``ending`` names them."""
    used = _Used()
    asked: set[Path] = set()
    for path, text in pages.items():
        used.page(text)
        addresses = {unquote(urlsplit(a).path).replace(f"{CHAPTER}.css", ".css") for a in set(ASKED.findall(text))}
        asked |= {(path.parent / address).resolve() for address in addresses}
    written = replace(used, classes=used.classes - compact.COLOURED.keys() - compact.PLAIN)  # no such spans are left
    for script in asked:
        if script.suffix == ".js" and script.is_file() and script.name not in {"searchtext.js", "language_data.js"}:
            used.script(script.read_text(encoding="utf-8"))
    originals = out.parent / "styles"  # what Sphinx does not copy anew must be cut from the whole text again
    sheets, waiting = {}, sorted(sheet for sheet in asked if sheet.suffix == ".css" and sheet.is_file())
    while waiting:
        sheet = waiting.pop()
        kept, text = originals / sheet.relative_to(out), sheet.read_text(encoding="utf-8")
        if text.startswith(CUT):
            text = kept.read_text(encoding="utf-8")
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text, encoding="utf-8")
        sheets[sheet] = purge(text, written if sheet.name == "pygments.css" else used)
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


def purge(css: str, used: _Used) -> str:
    """``css`` without comments and without the rules whose selectors name a class, id or tag that is nowhere used.

    >>> purge(".a{x:1} .b, .a em {y:2} @media print{.b{z:3}}", _Used(tags={"em"}, classes={"a"}))
    '.a{x:1}.a em{y:2}'
    """
    return _kept(_parsed(css), used)


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


def _kept(rules: Iterable[_Rule], used: _Used) -> str:
    out = []
    for rule in rules:
        if rule.selectors:
            selectors = [s for s in rule.selectors if used.matches(s)]
            if selectors and rule.text:
                out.append(f"{','.join(selectors)}{{{rule.text}}}")
        elif rule.rules is None:
            out.append(rule.head + rule.text)
        elif text := _kept(rule.rules, used):
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


class _Pictures:
    """The PNGs of the pages as WebP, where that is smaller; and how large each is, before it comes."""

    def __init__(self, out: Path) -> None:
        self.renamed: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._draw, (*(out / "_images").glob("*.png"), *(out / "_static" / "images").glob("*.png"))))

    def _draw(self, png: Path) -> None:
        webp = png.with_suffix(".webp")
        with Image.open(png) as image:
            self.sizes[png.name] = image.size
            if not webp.exists():
                few_colours(image).save(webp, lossless=True, method=4)
        if webp.stat().st_size < png.stat().st_size:
            self.renamed[png.name] = webp.name

    def place(self, text: str) -> str:
        """A page that shows the smaller files, each with its size."""
        text = re.sub(r'(<img [^>]*src="[^"]*_images/([\w.-]+\.png)"[^>]*?)(?=\s*/?>)', self._sized, text)
        text = text.replace('class="reference internal nav-link"', 'class="nav-link"')
        text = re.sub(r"(_images/|_static/images/)([\w.-]+\.png)", lambda m: m[1] + self.renamed.get(m[2], m[2]), text)
        return re.sub(r"<summary>(?=<span class=.toctree-toggle)", '<summary aria-label="Pages below">', text)

    def _sized(self, tag: re.Match[str]) -> str:
        width, height = self.sizes.get(tag[2], (0, 0))
        given = not width or re.search(r"\s(?:width|height|style)=", tag[0])
        return tag[0] if given else f'{tag[1]} width="{width}" height="{height}"'


def few_colours(image: Image.Image) -> Image.Image:
    """The picture in the fewest of 16 to 256 colours that leave it within `DIFFERENCE` of itself.

    Drawings have a dozen colours and hundreds of their blends, at the edges of lines and letters, which take most of
    the bytes. What has more, or is partly transparent, stays as it is. A palette of the boxes' means is moved to the
    means of what it stands for (Lloyd's steps), after which a third fewer colours do.
    """
    if "A" in image.getbands() and image.getextrema()[-1] != (255, 255):
        return image  # soft edges over a page of either colour
    drawn = image.convert("RGB")
    pixels = np.asarray(drawn, np.uint32)
    codes, places, counts = np.unique(pixels @ (65536, 256, 1), return_inverse=True, return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(float)
    for boxes in itertools.takewhile(lambda boxes: len(boxes) <= max(NUMBERS), _boxes(colours, counts)):
        if len(boxes) not in NUMBERS:
            continue
        palette = np.stack([np.average(colours[box], 0, counts[box]) for box in boxes]).round()
        for _ in range(STEPS):
            nearest = _nearest(colours, palette)
            weight = np.bincount(nearest, counts, len(palette))
            sums = [np.bincount(nearest, counts * colour, len(palette)) for colour in colours.T]
            used = weight > 0
            palette[used] = (np.stack(sums, 1)[used] / weight[used, None]).round()
        fewer = palette[_nearest(colours, palette)]
        if (counts @ (fewer - colours) ** 2 / counts.sum()).max() <= DIFFERENCE**2:
            return Image.fromarray(fewer.astype(np.uint8)[places.reshape(pixels.shape[:2])])
    return drawn


def _boxes(colours: np.ndarray, counts: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The colours in ever more boxes: the one that spreads most along a channel is cut at its mean there.

    Colours are counted once, and each cut goes on from the last: for every number of colours anew, as
    ``Image.quantize`` has it, takes four times as long.
    """

    def spread(box: np.ndarray) -> np.ndarray:
        return counts[box] @ (colours[box] - np.average(colours[box], 0, counts[box])) ** 2

    boxes = [np.arange(len(colours))]
    spreads = [spread(boxes[0])]
    while True:
        yield boxes
        widest = max(range(len(boxes)), key=lambda i: spreads[i].max())
        box, channel = boxes[widest], int(spreads[widest].argmax())
        if not spreads[widest][channel]:
            return  # each box is of one colour
        below = colours[box, channel] <= np.average(colours[box, channel], weights=counts[box])
        boxes[widest], other = box[below], box[~below]
        spreads[widest] = spread(boxes[widest])
        boxes.append(other)
        spreads.append(spread(other))


def _nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """For each colour, which of the palette's is nearest: the least of |p|² - 2 c·p."""
    size = (palette**2).sum(1)
    parts = np.array_split(colours, 1 + len(colours) // 20000)
    return np.concatenate([(size - 2 * part @ palette.T).argmin(1) for part in parts])


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("html-page-context", lighten, priority=950)
    app.connect("build-finished", shrink, priority=900)
