"""A stand-in package."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not a use: the notebooks do not depend on it
    from gantext import unused

__version__ = "0.3.0"
__all__ = ["unused"]
