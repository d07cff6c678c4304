"""A subpackage."""

from .fast import square as square
