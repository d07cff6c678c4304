"""TeX as tokens: macros, sizes and spaces taken out, what is written in two ways made one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from texledger._tree import Unreadable

TOKEN = re.compile(r"[A-Za-z]+(?:\\_[A-Za-z0-9]+)+|\\[A-Za-z]+\*?|\\\\|\\.|\d+(?:\.\d+)?|\.\.\.|\s+|.", re.DOTALL)
LEFT = set("left bigl Bigl biggl Biggl mathopen lvert lVert".split())
RIGHT = set("right bigr Bigr biggr Biggr mathclose".split())
SIZES = set("big Big bigg Bigg bigm Bigm biggm middle".split())
SPACES = set(
    "limits nolimits displaystyle textstyle scriptstyle scriptscriptstyle , ; : ! > thinspace medspace thickspace "
    "negthinspace negmedspace negthickspace enspace nonumber notag hfill hfil smallskip medskip bigskip noindent "
    "centering newline allowbreak strut mathstrut unskip mathbin mathrel mathord mathpunct mathinner nobreak "
    "vphantom* enskip large Large small normalsize relax ensuremath protect null".split()
) | {" "}
WITH_ARGUMENT = {r"\label", r"\tag", r"\tag*", r"\hspace", r"\hspace*", r"\vspace", r"\vspace*", r"\phantom"}
WITH_ARGUMENT |= {r"\hphantom", r"\vphantom", r"\color", r"\textcolor", r"\eqref", r"\ref", r"\mspace", r"\cite"}
STYLES = set(
    "mathbf boldsymbol bm mathrm mathsf mathcal mathbb mathit mathfrak mathscr mathtt mathds pmb bf rm it cal sf tt "
    "textbf textit textrm textsf texttt textnormal mathop operatorname operatorname* text mbox textsc hbox "
    "boldmath mathnormal bold scr frak Bbb symbf symup up".split()
)
SWITCHES = {r"\rm", r"\bf", r"\it", r"\cal", r"\sf", r"\tt", r"\boldmath", r"\bold"}
WORDS = {r"\text", r"\textrm", r"\mbox", r"\textnormal", r"\hbox", r"\textit", r"\textbf", r"\textsf", r"\texttt"}
SAME = {
    r"\lt": "<", r"\gt": ">", r"\leq": r"\le", r"\leqslant": r"\le", r"\geq": r"\ge", r"\geqslant": r"\ge",
    r"\leqq": r"\le", r"\geqq": r"\ge", r"\neq": r"\ne", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[",
    r"\rbrack": "]", r"\vert": "|", r"\Vert": r"\|", r"\dots": r"\ldots", r"\dotsc": r"\ldots", r"\dotsb": r"\ldots",
    r"\dotsm": r"\ldots", r"\dotsi": r"\ldots", r"\dotso": r"\ldots", r"\cdots": r"\ldots", "...": r"\ldots",
    r"\ast": "*", r"\rightarrow": r"\to", r"\longrightarrow": r"\to", r"\ni": r"\ni", r"\owns": r"\ni",
    r"\coloneqq": ":=", r"\coloneq": ":=", r"\triangleq": ":=", r"\doteq": ":=", r"\defeq": ":=",
    r"\eqdef": ":=", r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\nicefrac": r"\frac",
    r"\dbinom": r"\binom", r"\tbinom": r"\binom", r"\parallel": r"\parallel", r"\land": r"\wedge",
    r"\lor": r"\vee", r"\longmapsto": r"\mapsto", r"\Longrightarrow": r"\implies", r"\Rightarrow": r"\implies",
    r"\Leftrightarrow": r"\iff", r"\Longleftrightarrow": r"\iff", r"\varnothing": r"\emptyset",
    r"\thinspace": r"\,", r"\llbracket": r"\llbracket", r"\argmax": r"\argmax", r"\bigcdot": r"\cdot",
    r"\lparen": "(", r"\rparen": ")", r"\And": "&", r"\intercal": r"\top", r"\leftarrow": r"\gets",
    r"\longleftarrow": r"\gets",
}  # fmt: skip
OPEN = {"{", "(", "[", r"\{", r"\langle", r"\lfloor", r"\lceil", r"\lvert", r"\lVert", r"\begin", r"\llbracket"}
CLOSE = {"}", ")", "]", r"\}", r"\rangle", r"\rfloor", r"\rceil", r"\rvert", r"\rVert", r"\end", r"\rrbracket"}


OPERATORS = {"\\" + name for name in "min max sup inf sum prod lim int argmin argmax arg limsup liminf".split()}


UNDER = set("E P Pr Var max min sup inf argmax argmin sum prod lim esssup essinf arg max".split())


class Glued(str):
    """A letter printed without a space after another one: ``AB`` may be a product or a word."""

    __slots__ = ()


class Spaced(str):
    """What is printed with a thin or wider space before it: ``\\det(A)\\, x`` is a product."""

    __slots__ = ()


class Apart(Spaced):
    """What is printed behind more than one wider space: the next of a list, perhaps."""

    __slots__ = ()


class Numbered(str):
    """Digits printed without a space behind a letter: ``A2`` may be a name or a product."""

    __slots__ = ()


def tokens(tex: str, macros: Mapping[str, str] | None = None) -> list[str]:
    """Split ``tex`` after replacing ``macros`` (command -> TeX), without spaces and sizing commands."""
    for name, body in (macros or {}).items():
        boundary = r"(?![A-Za-z])" if name[-1].isalpha() else ""
        tex = re.sub(re.escape(name) + boundary, lambda _, body=body: f" {body} ", tex)
    tex = re.sub(r"(?<!\\)%[^\n]*", " ", tex)
    tex = re.sub(r"(?<![A-Za-z\\{.])(?<!\{ )s\.\s*t\.(?!\w)", r"\\text{subject to}", tex)
    return list(_delimited(_close_to_operators(_plain(_verbatim(tex)))))


def _close_to_operators(items: list[str]) -> list[str]:
    """Without the wide spaces between an operator and what it is of, ``\\min_x \\quad f(x)``."""
    found: list[str] = []
    for token in items:
        if token not in {r"\quad", r"\qquad"} or not _ends_with_operator(found):
            found.append(token)
    return found


def _ends_with_operator(items: list[str]) -> bool:
    end = len(items)
    while end:
        start = end - 1
        if items[start] == "}":
            depth = 0
            while start >= 0:
                depth += (items[start] == "}") - (items[start] == "{")
                if depth == 0:
                    break
                start -= 1
        if start > 1 and items[start - 1].startswith(r"\math"):
            start -= 1
        if start > 1 and items[start - 1] in {"_", "^"}:
            end = start - 1
            continue
        return bool(set(items[max(start, 0) : end]) & OPERATORS) and end - start <= 5
    return False


def _verbatim(tex: str) -> list[str]:
    """Raw tokens; the words in ``\\text{...}`` stay together as one token that begins with a quotation mark."""
    found: list[str] = []
    at = 0
    letter_ends = -1
    while at < len(tex):
        match = TOKEN.match(tex, at)
        assert match is not None
        token, start, at = match.group(), at, match.end()
        if r"\_" in token and len(token) > 2:
            found.append('"' + token.replace(r"\_", "_"))  # the name of a variable in code
            continue
        if len(token) == 1 and token.isalpha():
            token = Glued(token) if start == letter_ends else token
            letter_ends = at
        elif token.isdigit() and start == letter_ends:
            token = Numbered(token)
        if token.isspace() or token == "~":
            continue
        if not token.isascii():
            raise Unreadable(f"cannot read {tex!r}: {token!r} is no TeX: write its command, or put it into \\text")
        if token in WORDS:
            while at < len(tex) and tex[at].isspace():
                at += 1
            if at < len(tex) and tex[at] == "{":
                end, depth = at, 0
                while end < len(tex):
                    depth += (tex[end] == "{") - (tex[end] == "}")
                    end += 1
                    if depth == 0:
                        break
                if depth:
                    raise Unreadable(f"cannot read {tex!r}: a brace of {token} is not closed")
                found += _words(tex[at + 1 : end - 1])
                at = end
                continue
        found.append(token)
    return found


def _words(inside: str) -> list[str]:
    """Words as one token; a formula between dollars inside them is read as such."""
    found: list[str] = []
    for k, part in enumerate(inside.split("$")):
        if k % 2:
            found += _verbatim(part)
        elif part.strip() or "$" not in inside:
            words = re.sub(r"[{}]", "", part.replace("~", " ").replace(r"\ ", " ").replace(r"\_", "_"))
            found.append('"' + re.sub(r"\s+", " ", words))
    return found


def _plain(items: list[str]) -> list[str]:
    found: list[str] = []
    i = 0
    thin, wide = False, 0
    while i < len(items):
        t = SAME.get(items[i], items[i])
        i += 1
        if t in WITH_ARGUMENT:
            if i < len(items) and items[i] == "{":
                i = _after_group(items, i)
            continue
        if t in {"<", ">"} and i < len(items) and items[i] == "=":
            t, i = (r"\le" if t == "<" else r"\ge"), i + 1
        elif t == ":" and i < len(items) and items[i] == "=":
            t, i = ":=", i + 1
        elif t == "=" and i < len(items) and items[i] == ":":
            t, i = "=:", i + 1
        elif t in {r"\underbrace", r"\overbrace", r"\boxed", r"\underline", r"\fbox", r"\smash"}:
            end = _after_group(items, i)
            inside = _plain(items[i:end])
            i = end
            if t in {r"\underbrace", r"\overbrace"} and i < len(items) and items[i] in {"_", "^"}:
                i = _after_group(items, i + 1)
            found += inside
            continue
        elif t in {r"\stackrel", r"\overset", r"\underset"}:
            middle = _after_group(items, i)
            end = _after_group(items, middle)
            label, sign = _plain(_bare(items[i:middle])), _plain(_bare(items[middle:end]))
            i = end
            found += _stacked(t, label, sign)
            continue
        if t[0] == "\\" and len(t) > 1 and t[1:] in SPACES:
            wide += t[1:] in {";", ":", " ", "medspace", "thickspace", "enspace", "enskip"}
            thin |= t[1:] in {",", ";", ":", ">", " ", "thinspace", "medspace", "thickspace", "enspace", "enskip"}
            continue
        found.append(Apart(t) if wide > 1 else Spaced(t) if thin else t)
        thin, wide = False, 0
    return found


def _stacked(command: str, label: list[str], sign: list[str]) -> list[str]:
    if command == r"\underset" and spelled(sign).replace(" ", "") in UNDER:
        return [*sign, "_", "{", *label, "}"]
    name = "".join(label).replace("\\", "").replace("mathrm", "").strip('"{}').lower()
    if sign == ["="] and name in {"!", "?"}:
        return sign
    if sign == ["="] and name in {"def", "def.", "delta", "triangle", "set", "define", "."}:
        return [":="]
    if sign == ["="] and name in {"d", "law", "dist", "d.", "(d)", "mathcald"}:
        return [r"\sim"]
    relation = sign in ([r"\sim"], [r"\to"], ["="], [r"\le"], [r"\ge"], ["<"], [">"], [r"\approx"])
    if relation and (sign in ([r"\sim"], [r"\to"]) or name.strip("()").isdigit() or name.strip("()") in set("abcdei*")):
        return sign
    raise Unreadable(f"cannot read {' '.join(sign)!r} under {' '.join(label)!r}: write the sign alone, or a macro")


def _bare(items: list[str]) -> list[str]:
    return items[1:-1] if items[:1] == ["{"] else items


def _after_group(items: list[str], i: int) -> int:
    """The place after the TeX argument that begins at ``i``."""
    if i >= len(items):
        raise Unreadable("cannot read TeX that ends where a command needs an argument")
    if items[i] != "{":
        return i + 1
    depth = 0
    while i < len(items):
        depth += (items[i] == "{") - (items[i] == "}")
        i += 1
        if depth == 0:
            return i
    raise Unreadable("cannot read TeX with a brace that is not closed")


def _delimited(items: list[str]) -> Iterator[str]:
    """Drop ``\\left``, ``\\bigr`` and the like, but keep what they say about a bar: opening, closing or neither."""
    opened: list[str] = []
    i = 0
    while i < len(items):
        t = items[i]
        name = t[1:] if t[0] == "\\" else ""
        following = items[i + 1] if i + 1 < len(items) else ""
        if name in LEFT - {"lvert", "lVert"}:
            if name == "left":
                opened.append(following)
            i += 2 if following in {".", "|", r"\|"} else 1
            if following in {"|", r"\|"}:
                yield r"\lvert" if following == "|" else r"\lVert"
        elif name in RIGHT:
            partner = (opened.pop() if opened else "") if name == "right" else ""
            after = items[i + 2] if i + 2 < len(items) else ""
            i += 2 if following in {".", "|", r"\|"} else 1
            if following == "|":
                bar = partner == "." or (after == "_" and partner not in {"|"})
                yield "|" if bar else r"\rvert"
            elif following == r"\|":
                yield r"\rVert"
        elif name in SIZES:
            if name in {"middle", "bigm", "Bigm", "biggm"} and following == "|":
                yield r"\mid"
                i += 1
            i += 1
        else:
            yield t
            i += 1


def top_level(items: list[str]) -> Iterator[tuple[int, str]]:
    """The tokens that stand in no bracket, with their places."""
    depth = 0
    for i, t in enumerate(items):
        if t in CLOSE:
            depth = max(0, depth - 1)
        if depth == 0 and t not in OPEN and t not in CLOSE:
            yield i, t
        if t in OPEN:
            depth += 1


def split(items: list[str], at: set[str]) -> list[list[str]]:
    """The parts between those of ``at`` that stand in no bracket."""
    cuts = [i for i, t in top_level(items) if t in at]
    edges = [-1, *cuts, len(items)]
    return [items[a + 1 : b] for a, b in itertools.pairwise(edges)]


def spelled(items: list[str]) -> str:
    """How a subscript or superscript is spelled in a key of ``where``."""
    found = []
    for t in items:
        if t in {"{", "}"} or (t[0] == "\\" and t[1:] in STYLES):
            continue
        found.append({r"\prime": "'", r"\mid": "|"}.get(t, t[1:] if t[0] in '\\"' and len(t) > 1 else t))
    return "".join(found).strip()
