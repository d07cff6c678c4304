"""The book's own look on top of sphinx-book-theme: options that Jupyter Book's configuration cannot set.

What the theme or the bibliography looks up for every page or citation anew is looked up once: the list of pages beside
the text, the parts of Pybtex.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from pybtex.plugin import find_plugin, register_plugin
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

OPTIONS = {
    "navbar_persistent": [],  # else a second search field stands above the page
    "show_navbar_depth": 1,
    "collapse_navigation": True,  # pages below a page are listed where one has gone there
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "toc_title": "On this page",
}


def set_options(app: Sphinx, config: Config) -> None:
    """``config-inited``: add to the theme options that Jupyter Book made from ``_config.yml``."""
    config.html_context.setdefault("default_mode", "auto")  # without it the theme complains on every page
    if config.html_theme == "sphinx_book_theme":
        config.html_theme_options.update(OPTIONS)


PYBTEX = {  # what a citation and a bibliography ask for; each time Pybtex reads what all installed packages offer
    "pybtex.backends": ("docutils", "plaintext"),
    "pybtex.style.formatting": ("unsrtalpha",),
    "pybtex.style.labels": ("alpha",),
    "pybtex.style.names": ("plain",),
    "pybtex.style.sorting": ("none",),
}


@dataclass
class Listed:
    """A part of the book or a page: its title with its number, and what is listed below it."""

    title: str
    doc: str = ""
    pages: list[Listed] = field(default_factory=list)

    @property
    def below(self) -> set[str]:
        """The pages below it, and theirs."""
        return {page.doc for page in self.pages}.union(*(page.below for page in self.pages))


def parts(env: BuildEnvironment) -> list[Listed]:
    """The parts that the front page's lists of pages make, with all pages."""

    def listed(toctree: addnodes.toctree) -> list[Listed]:
        return [page(title, doc) for title, doc in toctree["entries"] if doc in env.found_docs]

    def page(title: str | None, doc: str) -> Listed:
        number = env.toc_secnumbers.get(doc, {}).get("") or ()
        title = title or env.titles[doc].astext()
        name = f"{'.'.join(map(str, number))}{env.config.html_secnumber_suffix}{title}" if number else title
        return Listed(name, doc, [below for tree in env.tocs[doc].findall(addnodes.toctree) for below in listed(tree)])

    trees = env.tocs[env.config.root_doc].findall(addnodes.toctree)
    return [Listed(tree.get("caption") or "", pages=listed(tree)) for tree in trees]


def list_pages(app: Sphinx, builder: Builder) -> None:
    """``write-started``: what `sbt-sidebar-nav.html` lists."""
    found = parts(builder.env)
    app.connect("html-page-context", lambda app, page, name, context, tree: context.update(book_parts=found))


def mend_bibliography(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """``html-page-context``: docutils gives bibliographies roles that screen readers have dropped or misread."""
    body = context.get("body", "").replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    context["body"] = re.sub(r'(<div class="citation"[^>]*) role="doc-biblioentry"', r"\1", body)


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    for group, names in PYBTEX.items():
        for name in names:
            register_plugin(group, name, find_plugin(group, name), force=True)
    app.add_css_file("gantext.css", priority=900)
    app.add_js_file("page.js", loading_method="defer")
    app.connect("config-inited", set_options)
    app.connect("write-started", list_pages)
    app.connect("html-page-context", mend_bibliography, priority=900)
