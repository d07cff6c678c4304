"""The book's own look on top of sphinx-book-theme: options that Jupyter Book's configuration cannot set."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

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


def mend_bibliography(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """``html-page-context``: docutils gives bibliographies roles that screen readers have dropped or misread."""
    body = context.get("body", "").replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    context["body"] = re.sub(r'(<div class="citation"[^>]*) role="doc-biblioentry"', r"\1", body)


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.add_css_file("gantext.css", priority=900)
    app.add_js_file("page.js", loading_method="defer")
    app.connect("config-inited", set_options)
    app.connect("html-page-context", mend_bibliography, priority=900)
