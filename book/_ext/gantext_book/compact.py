"""Shorter HTML that says the same: what is repeated thousands of times on a page is written in fewer signs.

Highlighted code has one element for each run of a colour, named by a letter, and none where the colour is that of plain
text. In the rest, attributes lose quotes that HTML does not ask for, and the blanks between elements become one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape

CODE = re.compile(r'(<div class="highlight"><pre>)(.*?)(</pre>)', re.DOTALL)
MARKER = re.compile(r'<span class="c1"># (?:NBVAL_|@title )[^<]*</span>\n?')  # for programs, not for readers
TOKEN = re.compile(r'<span class="([a-z][a-z0-9]?)">([^<]*)</span>')
# What has a colour of its own (gantext.css), by Pygments' names: keywords, strings, comments, names that come with
# Python and decorators, names where they are defined. Numbers, operators and all other names are plain text.
COLOURED = {
    **dict.fromkeys("k kc kd kn kp kr kt ne".split(), "b"),
    **dict.fromkeys("s s1 s2 sa sb sc sd se sh sr ss sx dl".split(), "u"),
    **dict.fromkeys("c c1 ch cm cp cpf cs".split(), "i"),
    **dict.fromkeys("bp nb nd vm".split(), "var"),
    **dict.fromkeys("fm nc nf".split(), "dfn"),
}
PLAIN = frozenset("il kv m mb mf mh mi mo n ni nl nn no nx o ow p py si vc vg vi w".split())
RUN = re.compile(r"</(b|u|i|var|dfn)>([ \n]*)<\1>")

KEPT = re.compile(r"(<(pre|script|style|textarea)\b[^>]*>.*?</\2>)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# A tag with attributes or a slash, or blanks between tags; those inside of an attribute stay, and such as do not break.
TAG = re.compile(r"<([a-zA-Z][\w-]*)((?:\s+[^\s\"'<>=/]+(?:=(?:\"[^\"]*\"|[^\s\"'<>=`]+))?)*)\s*(/?)>|[ \t\n\r\f]+")
ATTRIBUTE = re.compile(r"\s+([^\s\"'<>=/]+)(?:=(?:\"([^\"]*)\"|([^\s\"'<>=`]+)))?")
BARE = re.compile(
    r"[^\s\"'=<>`]*[^\s\"'=<>`/]"
)  # a value that needs no quotes; after a slash at its end the tag might end
# Blanks at the beginning, at the end and between such elements are not seen. Those between two `div`, which may stand
# in a line, and all within a line of text stay.
BLOCKS = (
    "article|body|dd|dl|dt|figure|figcaption|footer|h[1-6]|head|header|html|li|link|main|meta|nav|ol|p|section|style|"
    "summary|table|tbody|td|tfoot|th|thead|title|tr|ul"
)
HEAD = r"(?: (?:[^>\"]|\"[^\"]*\")*)?>"
EDGE = re.compile(rf"(</?(?:{BLOCKS}){HEAD}) | (?=</?(?:{BLOCKS})[ >])|(<div{HEAD}) | (?=</div>)")
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


def code(body: str) -> str:
    """``body`` with highlighted code that has one element for each run of a colour.

    >>> code('<div class="highlight"><pre><span></span><span class="k">if</span> <span class="n">x</span></pre></div>')
    '<div class="highlight"><pre><b>if</b> x</pre></div>'
    """
    return CODE.sub(lambda block: block[1] + _thin(block[2]) + block[3], body)


def _thin(block: str) -> str:
    block = TOKEN.sub(_token, MARKER.sub("", block).replace("<span></span>", ""))
    while (shorter := RUN.sub(r"\2", block)) != block:  # a string of several pieces, a comment of several lines
        block = shorter
    return block


def _token(token: re.Match[str]) -> str:
    kind, text = token[1], token[2]
    if kind == "si" and len(text) > 2:  # braces in a string, which Pygments takes for a place to fill in
        kind = "s"
    if kind in PLAIN or not text:
        return text
    return f"<{tag}>{text}</{tag}>" if (tag := COLOURED.get(kind)) else token[0]


def page(html: str) -> str:
    """A whole page without quotes, blanks, comments, indentation and slashes that do nothing.

    >>> page('<p  class="a"  id="b c">x  <br /> y</p><!-- z --><pre>1  2</pre>')
    '<p class=a id="b c">x <br> y</p><pre>1  2</pre>'
    >>> page("<mtext>if\\xa0</mtext>") == "<mtext>if\\xa0</mtext>"
    True
    """
    pieces = KEPT.split(html)  # what lies between, what is kept, the name of its tag
    for i in range(0, len(pieces), 3):
        text = COMMENT.sub("", pieces[i]).replace("&#x27;", "'").replace("&#39;", "'")
        pieces[i] = EDGE.sub(_edge, TAG.sub(_tag, text))
    for i in range(1, len(pieces), 3):
        if pieces[i + 1] == "script":
            pieces[i] = re.sub(r"\n\s+", "\n", pieces[i])
        elif pieces[i + 1] == "style":
            pieces[i] = re.sub(r" *([;{},]) *", r"\1", re.sub(r"\s+", " ", pieces[i]))
    del pieces[2::3]
    return "".join(pieces).strip()


def _tag(found: re.Match[str]) -> str:
    name, attributes, slash = found.groups()
    if not name:
        return " "
    if not attributes and not slash:
        return found[0]
    return f"<{name}{_attributes(attributes)}{' /' if slash and name not in VOID else ''}>"


def _edge(found: re.Match[str]) -> str:
    return found[1] or found[2] or ""


@lru_cache(maxsize=65536)
def _attributes(text: str) -> str:
    written = []
    for name, quoted, unquoted in ATTRIBUTE.findall(text):
        value = quoted or unquoted
        bare = BARE.fullmatch(value) or not value
        written.append(f' {name}="{value}"' if not bare else f" {name}={value}" if value else f" {name}")
    return "".join(written)


def words(html: str) -> tuple[set[str], set[str], set[str]]:
    """Names of the tags, classes and ids of a page, with or without quotes around them.

    >>> [sorted(names) for names in words('<p class="a b"><b id=c class=d>')]
    [['b', 'p'], ['a', 'b', 'd'], ['c']]
    """
    found: dict[str, set[str]] = {"class": set(), "id": set()}
    for name, quoted, bare in set(re.findall(r'\b(class|id)=(?:"([^"]*)"|([^\s">]+))', html)):
        found[name].update(unescape(quoted or bare).split())
    return set(re.findall(r"<([a-z][a-z0-9-]*)", html)), found["class"], found["id"]
