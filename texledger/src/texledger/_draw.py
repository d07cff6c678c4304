"""Random values for a check, the same at every run."""

from __future__ import annotations

import zlib
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp


class Draw:
    """Random values for one check. The seed is the equation's label, so every run draws the same.

    Attributes:
        rng: a NumPy generator, for anything that the methods do not offer.
    """

    def __init__(self, label: str, number: int, exact: bool = False) -> None:
        self.rng = np.random.default_rng([zlib.crc32(label.encode()), number])
        self.exact = exact

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def real(self, low: float = -1.0, high: float = 1.0) -> Any:
        """A number between ``low`` and ``high``: an mpmath float, or a SymPy rational in an exact check."""
        if not self.exact:
            return mp.mpf(float(self.rng.uniform(low, high)))
        return sp.Rational(self.integer(int(np.ceil(low * 60)), int(np.floor(high * 60))), 60)

    def complex(self) -> Any:
        """A complex number with both parts between -1 and 1."""
        a, b = self.real(), self.real()
        return a + sp.I * b if self.exact else mp.mpc(a, b)

    def matrix(self, rows: int, columns: int | None = None, complex: bool = False) -> Any:  # noqa: A002 - the field's word
        """A matrix of independent entries between -1 and 1 (``columns`` defaults to ``rows``)."""
        one = self.complex if complex else self.real
        entries = [[one() for _ in range(columns or rows)] for _ in range(rows)]
        return sp.Matrix(entries) if self.exact else mp.matrix(entries)
