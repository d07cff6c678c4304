"""Random values for a check, the same at every run, and a line that says what was drawn."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from texledger._arithmetic import is_matrix
from texledger._declared import is_declaration


class Draw:
    """Random values for one check. The seed is the equation's label, so every run draws the same.

    Attributes:
        rng: a NumPy generator, for anything that the methods do not offer.
        number: which draw of the check this is, counted from 0.
    """

    def __init__(self, label: str, number: int, exact: bool = False) -> None:
        self.rng = np.random.default_rng([zlib.crc32(label.encode()), number])
        self.exact = exact
        self.number = number
        self._start = self.rng.bit_generator.state
        self._turned = False
        self._made: dict[int, tuple[Any, str]] = {}  # by identity: the value itself, kept alive, and its range

    def turn(self, *choices: Any) -> Any:
        """One of ``choices``, in turn: the first in the first draw. So sizes do not depend on which cells ran before.

        >>> [Draw("demo:a", k).turn(2, 3, 4) for k in range(4)]
        [2, 3, 4, 2]
        """
        if not choices:
            raise ValueError("turn() needs the choices to take in turn, as in draw.turn(2, 3, 4)")
        self._turned = self._turned or len(set(map(str, choices))) > 1
        return choices[self.number % len(choices)]

    @property
    def used(self) -> bool:
        """True once a value was drawn; what never was is fixed."""
        return self._turned or self.rng.bit_generator.state != self._start

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return self._note(int(self.rng.integers(low, high + 1)), f"in {low}…{high}")

    def real(self, low: float = -1.0, high: float = 1.0) -> Any:
        """A number between ``low`` and ``high``: an mpmath float, or a SymPy rational in an exact check."""
        return self._note(self._real(low, high), f"in [{_short(low)}, {_short(high)}]")

    def complex(self) -> Any:
        """A complex number with both parts between -1 and 1."""
        return self._note(self._complex(), "complex, both parts in [-1, 1]")

    def matrix(self, rows: int, columns: int | None = None, complex: bool = False) -> Any:  # noqa: A002 - the field's word
        """A matrix of independent entries between -1 and 1 (``columns`` defaults to ``rows``)."""
        one = self._complex if complex else self._real
        entries = [[one() for _ in range(columns or rows)] for _ in range(rows)]
        made = sp.Matrix(entries) if self.exact else mp.matrix(entries)
        return self._note(made, "entries in [-1, 1]" + (" + i[-1, 1]" if complex else ""))

    def described(self, value: Any) -> str | None:
        """The range that ``value`` was drawn from, if it is the very object that a method returned."""
        made = self._made.get(id(value))
        return made[1] if made and made[0] is value and not isinstance(value, int) else None

    def _note(self, value: Any, text: str) -> Any:
        self._made[id(value)] = value, text
        return value

    def _real(self, low: float = -1.0, high: float = 1.0) -> Any:
        if not self.exact:
            return mp.mpf(float(self.rng.uniform(low, high)))
        least, most = int(np.ceil(low * 60)), int(np.floor(high * 60))
        return sp.Rational(int(self.rng.integers(least, most + 1)), 60)

    def _complex(self) -> Any:
        a, b = self._real(), self._real()
        return a + sp.I * b if self.exact else mp.mpc(a, b)


def drawn(envs: Sequence[Mapping[str, Any]], draws: Sequence[Draw], names: Iterable[str]) -> str:
    """What the values of ``names`` were: sizes, kinds, and the ranges they were drawn from or seen in."""
    parts = [f"{name} {_kind([env[name] for env in envs], draws)}" for name in names if name in envs[0]]
    head = f"{len(envs)} draw{'s' if len(envs) > 1 else ''}" if draws else "the given values"
    return f"{head}: {'; '.join(parts)}" if parts else head


def _kind(values: Sequence[Any], draws: Sequence[Draw]) -> str:
    first = values[0]
    if is_declaration(first):
        return "a " + type(first).__name__
    if isinstance(first, sp.Expr) and first.free_symbols:
        return "a symbol" if isinstance(first, sp.Symbol) else "symbolic"
    if is_matrix(first):
        return _matrices(values, draws)
    if isinstance(first, list | tuple) or getattr(first, "ndim", 0) == 1:
        return "of length " + " or ".join(dict.fromkeys(str(len(v)) for v in values))
    if callable(first) and not isinstance(first, sp.Basic | mp.mpf | mp.mpc):
        return "a function"
    ranges = {d.described(v) for v, d in zip(values, draws, strict=True)} if draws else {None}
    if len(ranges) == 1 and None not in ranges:
        return str(ranges.pop())
    try:
        numbers = [complex(v) for v in values]
    except (TypeError, ValueError):
        return "given"
    if any(z.imag for z in numbers):
        return f"complex, of size {_span([abs(z) for z in numbers])}"
    return _span([z.real for z in numbers])


def _matrices(values: Sequence[Any], draws: Sequence[Draw]) -> str:
    shapes = dict.fromkeys(f"{shape(v)[0]}×{shape(v)[1]}" for v in values)
    ranges = {d.described(v) for v, d in zip(values, draws, strict=True)} if draws else {None}
    text = " ".join([", ".join(shapes), "symbolic" if _symbolic(values[0]) else _field(values)])
    if all(shape(v)[0] == shape(v)[1] > 1 and symmetric(v) for v in values):
        text += " symmetric"
    return text + (f", {ranges.pop()}" if len(ranges) == 1 and None not in ranges else "")


def shape(x: Any) -> tuple[int, int]:
    """Rows and columns of any matrix."""
    return (x.rows, x.cols) if hasattr(x, "rows") else tuple(x.shape)


def symmetric(x: Any) -> bool:
    """True if ``x`` is its own transpose up to rounding (or its own conjugate transpose)."""
    if _symbolic(x):
        return bool(x == x.T)
    a = as_array(x)
    close = lambda b: bool(abs(a - b).max(initial=0.0) <= 1e-12 * (1e-300 + abs(a).max(initial=0.0)))
    return close(a.T) or close(a.conj().T)


def as_array(x: Any) -> np.ndarray:
    """Any matrix of numbers as a complex NumPy array."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    rows = x.tolist()
    return np.array([[complex(v) for v in row] for row in rows], dtype=complex).reshape(shape(x))


def _symbolic(x: Any) -> bool:
    return isinstance(x, sp.MatrixBase) and bool(x.free_symbols or x.atoms(sp.core.function.AppliedUndef))


def _field(values: Sequence[Any]) -> str:
    if any(_symbolic(v) for v in values):
        return ""
    return "complex" if any(np.imag(as_array(v)).any() for v in values) else "real"


def _span(numbers: Sequence[float]) -> str:
    least, most = min(numbers), max(numbers)
    return f"= {_short(least)}" if least == most else f"from {_short(least)} to {_short(most)}"


def _short(x: Any) -> str:
    return f"{float(x):.3g}"
