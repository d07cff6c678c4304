"""Sections that are closed until they are asked for: the ``{folded}`` directive.

It stands first under a heading and says in its argument what the section holds. On the page the section becomes a
``<details>`` behind its heading. The tree of sections stays as it is, so that the heading keeps its anchor, its level
and its place in every list of contents; ``page.js`` opens it for links from elsewhere and for the printer, browsers
open it themselves when they search the page.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


class folded(nodes.General, nodes.Element):  # noqa: N801, docutils names its nodes so
    """The place of the directive; its children are the words of its argument."""


class Folded(SphinxDirective):
    """``{folded} NOTE``: close the section below the heading above, and let the heading say NOTE."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True  # to be refused with a reason

    def run(self) -> list[nodes.Node]:
        if self.content:
            raise self.error("`folded` has no content: it closes the section that it stands in; end it before the text")
        words, messages = self.parse_inline(self.arguments[0])
        node = folded("", *words)
        self.set_source_info(node)
        return [node, *messages]


def check(app: Sphinx, doctree: nodes.document) -> None:
    """``doctree-read``: each stands first under the heading of a section, and not under the title of the page."""
    for node in doctree.findall(folded):
        section = node.parent
        rule = ""
        if not isinstance(section, nodes.section):
            rule = "it must stand by itself, not inside of something"
        elif not isinstance(section.parent, nodes.section):
            rule = "the opening of a page stays open; put it under a heading of a section"
        else:
            before = [
                n
                for n in section.children[: section.index(node)]
                if not isinstance(n, (nodes.Invisible, nodes.system_message))
            ]
            if len(before) != 1 or not isinstance(before[0], nodes.title):
                rule = "it must be the first thing under its heading"
        if rule:
            raise ExtensionError(f"{app.env.doc2path(app.env.docname)}:{node.line}: `folded`: {rule}")


def fold(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """``doctree-resolved``: write the ``<details>`` around what follows, the heading and the note its summary."""
    html = app.builder.format == "html"
    for node in list(doctree.findall(folded)):
        section = node.parent
        note = nodes.inline("", "", *node.children, classes=["folded-note"])
        if not html:
            node.replace_self(nodes.paragraph("", "", note))
            continue
        section.remove(node)
        title = next(n for n in section.children if isinstance(n, nodes.title))
        at = section.index(title)
        section.insert(at + 1, [note, _raw("</summary>")])
        section.insert(at, _raw('<details class="folded"><summary>'))
        section.append(_raw("</details>"))


def _raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def setup(app: Sphinx) -> None:
    """Register the directive; pages are folded last, when every other handler has seen its sections."""
    app.add_node(folded)
    app.add_directive("folded", Folded)
    app.connect("doctree-read", check)
    app.connect("doctree-resolved", fold, priority=950)
