"""Reached only through the subpackage."""


def square(x: float) -> float:
    """Square."""
    return x * x
