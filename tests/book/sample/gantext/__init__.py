"""A stand-in package."""

__version__ = "0.3.0"
