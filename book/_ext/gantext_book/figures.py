"""Figures of chapters: the paragraph in italics behind one is its caption, and gets a number, as in *Figure 3.2*.

A figure is a cell that shows a picture, or a ``{widget}``. That every picture has a caption is checked; the figure that
opens a chapter need not have one, since the text around it is about nothing else. A caption stands under its picture,
before what the cell prints besides. One with a target before it, ``(NAME)=``, is referred to by ``{numref}`NAME```, as
any figure of Sphinx is: the numbers are Sphinx's own.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

CHAPTERS = "notebooks/"
PICTURES = "<svg", "<img", 'class="widget'


class picture_caption(nodes.paragraph):  # noqa: N801, docutils names its nodes so; a `caption` it has itself
    """The paragraph that says what a picture shows."""


def is_picture(node: nodes.Node) -> bool:
    """Whether the node shows one: as an image, or in HTML of its own."""
    if isinstance(node, nodes.container) and "cell" in node["classes"]:
        outputs = [part for part in node.findall(nodes.container) if "cell_output" in part["classes"]]
        return any(_shows(part) for out in outputs for part in out.findall())
    return isinstance(node, nodes.raw) and _shows(node)


def _shows(node: nodes.Node) -> bool:
    html = isinstance(node, nodes.raw) and any(picture in node.astext() for picture in PICTURES)
    return isinstance(node, nodes.image) or html


def _behind(node: nodes.Node) -> nodes.Node | None:
    """What follows the node, past the targets that name it."""
    behind = node.next_node(descend=False, siblings=True)
    while isinstance(behind, nodes.target):
        behind = behind.next_node(descend=False, siblings=True)
    return behind


def _put_under(picture: nodes.Node, words: picture_caption) -> None:
    """Move the caption up to its picture, if the cell prints something behind it."""
    for outputs in list(picture.findall(nodes.container)):
        if "cell_output" not in outputs["classes"]:
            continue
        shown = [k for k, output in enumerate(outputs) if any(_shows(part) for part in output.findall())]
        if shown and shown[-1] < len(outputs) - 1:
            words.parent.remove(words)
            outputs.insert(shown[-1] + 1, words)


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: make captions of the paragraphs that are, before Sphinx numbers figures and resolves names."""
    if not app.env.docname.startswith(CHAPTERS):
        return
    for picture in [node for node in doctree.findall() if is_picture(node)]:
        words = _behind(picture)
        if isinstance(words, nodes.paragraph) and words.children and isinstance(words[0], nodes.emphasis):
            made = picture_caption(words.rawsource, "", *words.children, **words.attributes)
            words.replace_self(made)
            if not made["ids"]:  # no target stands before it; Sphinx counts what has one
                made["ids"].append(f"caption-{sum(1 for _ in doctree.findall(picture_caption))}")
            doctree.ids |= dict.fromkeys(made["ids"], made)


def number(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: write the numbers."""
    if not docname.startswith(CHAPTERS) or docname not in app.env.toc_secnumbers:
        return
    numbers = app.env.toc_fignumbers.get(docname, {}).get("figure", {})
    for picture in [node for node in doctree.findall() if is_picture(node)]:
        words = _behind(picture)
        if isinstance(words, picture_caption):
            name = ".".join(map(str, numbers[words["ids"][0]]))
            words["classes"].append("caption")
            words["ids"] = [*(words["ids"] if words["names"] else []), f"figure-{name.replace('.', '-')}"]
            words.insert(0, nodes.inline("", f"Figure {name}. ", classes=["figure-number"]))
            _put_under(picture, words)
        elif isinstance(picture.parent.parent, nodes.section) and isinstance(picture, nodes.container):
            place = picture.parent[0].astext()
            raise ExtensionError(
                f"{docname}: the picture under “{place}” has no caption; begin the paragraph behind it in italics."
            )


def _open(writer: Any, node: nodes.Element) -> None:
    writer.visit_paragraph(node)


def _close(writer: Any, node: nodes.Element) -> None:
    writer.depart_paragraph(node)


def setup(app: Sphinx) -> None:
    """Connect the handlers; numbers are written before pages are folded, for the tree is theirs then."""
    app.add_enumerable_node(picture_caption, "figure", lambda node: node.astext(), override=True, html=(_open, _close))
    app.connect("doctree-read", mark)
    app.connect("doctree-resolved", number)
