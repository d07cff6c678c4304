"""Light pages: what no page uses is left out of what every page loads.

The theme brings its icons as 1.8 MB of scripts and fonts, half a megabyte of styles for components that this book has
not, and the whole search index to pages that do not search. Icons are drawn by `gantext.css`; here scripts and styles
are left out page by page, highlighted code keeps only the spans that have a colour, pictures become WebP and are loaded
when they come into view, and after the build every style sheet loses the rules that nothing can match.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import tinycss2
from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

UNUSED = re.compile(r"thebe|design-tabs|sphinx-design|togglebutton|fontawesome", re.IGNORECASE)
PLAIN = ("n", "p", "o", "w", "nn", "nx", "si", "sa", "ow")  # tokens that read as well without a colour of their own
TOKEN = re.compile(rf'<span class="(?:{"|".join(PLAIN)})">([^<]*)</span>')
RUN = re.compile(r'(<span class="([a-z0-9]+)">[^<]*)</span><span class="\2">')
MARKER = re.compile(r'<span class="c1"># (?:NBVAL_|@title )[^<]*</span>\n?')  # for programs, not for readers
STATES = ("show", "active", "disabled", "collapsing", "collapse", "open")  # classes that scripts set


def lighten(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """``html-page-context``: leave out scripts and styles that the page has no use for; thin its code and pictures."""
    context["script_files"] = [s for s in _once(context.get("script_files", [])) if not UNUSED.search(_says(s))]
    context["css_files"] = [s for s in _once(context.get("css_files", [])) if not UNUSED.search(_says(s))]
    body = MARKER.sub("", TOKEN.sub(r"\1", context.get("body", "")))
    body = re.sub(r"<span></span>", "", body)
    while RUN.search(body):
        body = RUN.sub(r"\1", body)
    context["body"] = re.sub(r"<img (?![^>]*loading=)", '<img loading="lazy" decoding="async" ', body)


def _once(files: list[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    for file in files:
        seen.setdefault(_says(file), file)
    return list(seen.values())


def _says(file: Any) -> str:
    return f"{getattr(file, 'filename', file) or ''} {getattr(file, 'attributes', {}).get('body', '')}"


def shrink(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: styles without rules that match nothing, pictures as WebP."""
    if exception is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    pages = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.html") if "_static" not in path.parts}
    _pictures(out, pages)
    words = set(STATES)
    for text in pages.values():
        for value in set(re.findall(r'(?:class|id)="([^"]*)"', text)):
            words.update(value.split())
        words.update(re.findall(r"<([a-z][a-z0-9-]*)", text))
    for script in (out / "_static").rglob("*.js"):
        if "fontawesome" not in script.name and "bootstrap" not in script.name:
            words.update(re.findall(r"[A-Za-z][\w-]+", script.read_text(encoding="utf-8")))
    originals = out.parent / "styles"  # what Sphinx does not copy anew must be cut from the whole text again
    for sheet in out.rglob("*.css"):
        kept, text = originals / sheet.relative_to(out), sheet.read_text(encoding="utf-8")
        if text.startswith("/*cut*/"):
            text = kept.read_text(encoding="utf-8")
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text, encoding="utf-8")
        sheet.write_text("/*cut*/" + purge(text, frozenset(words)), encoding="utf-8")


def purge(css: str, words: frozenset[str]) -> str:
    """``css`` without comments and without the rules whose selectors name a class, id or tag that is not in ``words``.

    >>> purge(".a{x:1} .b, .a em {y:2} @media print{.b{z:3}}", frozenset({"a", "em"}))
    '.a{x:1}.a em{y:2}'
    """
    return _rules(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), words)


def _rules(rules: list[Any], words: frozenset[str]) -> str:
    out = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [s for s in _selectors(rule.prelude) if _matches(s, words)]
            if selectors:
                out.append(f"{','.join(selectors)}{{{_tight(tinycss2.serialize(rule.content))}}}")
        elif rule.type == "at-rule":
            name, prelude = rule.lower_at_keyword, tinycss2.serialize(rule.prelude).strip()
            if rule.content is None:
                out.append(f"@{name} {prelude};")
            elif name in {"media", "supports", "layer", "container"}:
                inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
                if text := _rules(inner, words):
                    out.append(f"@{name} {prelude}{{{text}}}")
            elif not (name == "font-face" and re.search("Font ?Awesome", tinycss2.serialize(rule.content))):
                out.append(f"@{name} {prelude}{{{_tight(tinycss2.serialize(rule.content))}}}")
    return "".join(out)


def _tight(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    if "url(" in text:  # an address may hold anything
        return text.strip()
    return re.sub(r"\s*([;:{},])\s*", r"\1", re.sub(r"\s+", " ", text)).strip(" ;")


def _selectors(prelude: list[Any]) -> list[str]:
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [re.sub(r"\s+", " ", tinycss2.serialize(part)).strip() for part in parts]


@cache
def _names(selector: str) -> tuple[str, ...]:
    """Classes, ids and tags that must be there for the selector to match; what stands inside :not() need not."""
    selector = re.sub(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)", "", selector)
    selector = re.sub(r"\[[^\]]*\]|::?[\w-]+(?:\([^()]*\))?", "", selector)
    return tuple(
        name.replace("\\", "")
        for name in re.findall(r"(?:(?<=[.#])|(?<![\w.#\\-]))((?:[A-Za-z_-]|\\.)(?:[\w-]|\\.)*)", selector)
    )


def _matches(selector: str, words: frozenset[str]) -> bool:
    return all(name in words for name in _names(selector))


def _pictures(out: Path, pages: dict[Path, str]) -> None:
    """Each PNG of the pages as WebP, lossless, where that is smaller; their sizes in the page before they come."""
    renamed, sizes = {}, {}
    for png in (out / "_images").glob("*.png"):
        webp = png.with_suffix(".webp")
        with Image.open(png) as image:
            sizes[png.name] = image.size
            if not webp.exists():
                image.save(webp, lossless=True, method=4)
        if webp.stat().st_size < png.stat().st_size:
            renamed[png.name] = webp.name

    def sized(tag: re.Match[str]) -> str:
        width, height = sizes.get(tag[2], (0, 0))
        given = not width or re.search(r"\s(?:width|height|style)=", tag[0])
        return tag[0] if given else f'{tag[1]} width="{width}" height="{height}"'

    for path, text in pages.items():
        new = re.sub(r'(<img [^>]*src="[^"]*_images/([\w.-]+\.png)"[^>]*?)(?=\s*/?>)', sized, text)
        new = re.sub(r"(_images/)([\w.-]+\.png)", lambda m: m[1] + renamed.get(m[2], m[2]), new)
        new = re.sub(r"<summary>(?=<span class=.toctree-toggle)", '<summary aria-label="Pages below">', new)
        if new != text:
            path.write_text(new, encoding="utf-8")
            pages[path] = new


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("html-page-context", lighten, priority=950)
    app.connect("build-finished", shrink, priority=900)
