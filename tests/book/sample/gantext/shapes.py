"""Uses a sibling."""

from . import kernels


def area(x: float) -> float:
    """Square."""
    return kernels.square(x)
