"""Figures of chapters: the paragraph in italics behind one is its caption, and gets a number, as in *Figure 3.2*.

A figure is a cell that shows a picture, or a ``{widget}``. That every picture has a caption is checked; the figure that
opens a chapter need not have one, since the text around it is about nothing else. A caption stands under its picture,
before what the cell prints besides.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

CHAPTERS = "notebooks/"
PICTURES = "<svg", "<img", 'class="widget'


def is_picture(node: nodes.Node) -> bool:
    """Whether the node shows one: as an image, or in HTML of its own."""
    if isinstance(node, nodes.container) and "cell" in node["classes"]:
        outputs = [part for part in node.findall(nodes.container) if "cell_output" in part["classes"]]
        return any(_shows(part) for out in outputs for part in out.findall())
    return isinstance(node, nodes.raw) and _shows(node)


def _shows(node: nodes.Node) -> bool:
    html = isinstance(node, nodes.raw) and any(picture in node.astext() for picture in PICTURES)
    return isinstance(node, nodes.image) or html


def _put_under(picture: nodes.Node, caption: nodes.paragraph) -> None:
    """Move the caption up to its picture, if the cell prints something behind it."""
    for outputs in list(picture.findall(nodes.container)):
        if "cell_output" not in outputs["classes"]:
            continue
        shown = [k for k, output in enumerate(outputs) if any(_shows(part) for part in output.findall())]
        if shown and shown[-1] < len(outputs) - 1:
            caption.parent.remove(caption)
            outputs.insert(shown[-1] + 1, caption)


def caption_of(node: nodes.Node) -> nodes.paragraph | None:
    """The paragraph behind a picture, if it begins in italics."""
    behind = node.next_node(descend=False, siblings=True)
    if isinstance(behind, nodes.paragraph) and behind.children and isinstance(behind[0], nodes.emphasis):
        return behind
    return None


def number(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: write the numbers."""
    chapter = app.env.toc_secnumbers.get(docname, {}).get("")
    if not docname.startswith(CHAPTERS) or not chapter:
        return
    count = 0
    for picture in [node for node in doctree.findall() if is_picture(node)]:
        caption = caption_of(picture)
        if caption is not None:
            count += 1
            name = ".".join(map(str, (*chapter, count)))
            caption["classes"].append("caption")
            caption["ids"].append(f"figure-{name.replace('.', '-')}")
            caption.insert(0, nodes.inline("", f"Figure {name}. ", classes=["figure-number"]))
            _put_under(picture, caption)
        elif isinstance(picture.parent.parent, nodes.section) and isinstance(picture, nodes.container):
            place = picture.parent[0].astext()
            raise ExtensionError(
                f"{docname}: the picture under “{place}” has no caption; begin the paragraph behind it in italics."
            )


def setup(app: Sphinx) -> None:
    """Connect the handler: before pages are folded, for the tree is theirs then."""
    app.connect("doctree-resolved", number)
