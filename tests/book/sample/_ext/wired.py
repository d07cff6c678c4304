"""The wiring that the book's own extension does."""

from gantext_book import folds, stored
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    stored.connect(app)
    folds.setup(app)
    return {"parallel_read_safe": True}
