"""Arithmetic to many digits on mpmath numbers and matrices."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from texledger._arithmetic import Arithmetic, is_matrix, is_vector, magnitude, square_size
from texledger._tree import Unreadable


class Numeric(Arithmetic):
    """mpmath values at the working precision (50 digits unless the ledger says otherwise)."""

    i, infinity = mp.mpc(0, 1), mp.inf

    @property
    def pi(self) -> Any:
        return +mp.pi

    @property
    def e(self) -> Any:
        return +mp.e

    def number(self, text: str) -> Any:
        return mp.mpf(text)

    def value(self, x: Any) -> Any:
        if isinstance(x, mp.matrix | mp.mpf | mp.mpc) or (callable(x) and not isinstance(x, sp.Basic)):
            return x
        if hasattr(x, "detach"):  # a torch tensor; torch itself is not needed here
            x = np.asarray(x.detach().cpu())  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(x, sp.MatrixBase):
            return (
                mp.matrix(x.rows, x.cols)
                if 0 in x.shape
                else mp.matrix([[self.value(v) for v in row] for row in x.tolist()])
            )
        if isinstance(x, sp.Basic):
            number = sp.N(x, mp.mp.dps)
            return mp.mpmathify(number)
        array = np.asarray(x)
        if array.ndim == 0:
            return _scalar(array.item())
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2:
            raise ValueError(f"a value of shape {array.shape} is neither a number, a vector nor a matrix")
        return mp.matrix([[_scalar(v) for v in row] for row in array.tolist()])

    def matrix(self, rows: list[list[Any]]) -> Any:
        return mp.matrix(rows) if rows and rows[0] else mp.matrix(0, 0)

    def eye(self, n: int) -> Any:
        return mp.eye(n)

    def power(self, a: Any, b: Any) -> Any:
        if is_matrix(a):
            if 2 * b == 1:
                return mp.sqrtm(a)
            if b != int(mp.nint(b)):
                raise ValueError(f"a matrix is raised to the power {b}: only whole powers and 1/2 are read")
            return a ** int(mp.nint(b))
        return mp.power(a, b)

    def adjoint(self, x: Any) -> Any:
        return x.H if is_matrix(x) else mp.conj(x)

    def size(self, x: Any) -> Any:
        if callable(x) and not isinstance(x, mp.mpf | mp.mpc | mp.matrix):
            return None
        size = magnitude(x)
        return size if mp.isfinite(size) else None

    def positive(self, x: Any) -> bool:
        if mp.im(x) != 0 and abs(mp.im(x)) > mp.mpf(10) ** (-mp.mp.dps // 2) * (1 + abs(x)):
            raise ValueError(f"the complex number {mp.nstr(x, 8)} is compared")
        return bool(mp.re(x) > mp.mpf(10) ** (-mp.mp.dps // 2))

    def equal(self, a: Any, b: Any) -> bool:
        """Equal in half of the digits, or both as good as zero."""
        half, most = mp.mpf(10) ** (-mp.mp.dps // 2), mp.mpf(10) ** (5 - mp.mp.dps)
        return bool(abs(a - b) <= half * max(abs(a), abs(b)) + most)

    def above(self, a: Any, b: Any) -> bool:
        """Larger in half of the digits, however small both are."""
        if mp.im(a) != 0 or mp.im(b) != 0:
            return self.positive(a - b)
        return bool(a - b > mp.mpf(10) ** (-mp.mp.dps // 2) * max(abs(a), abs(b)))

    def norm(self, x: Any, which: str) -> Any:
        if which == "F" or (which == "2" and is_vector(x)):
            return mp.sqrt(sum((abs(v) ** 2 for v in x), mp.mpf(0)))
        if is_vector(x) and which in {"infty", "max"}:
            return max(abs(v) for v in x)
        if which == "infty":
            return mp.mnorm(x, mp.inf)
        if is_vector(x) and which.isdigit() and which != "0":
            return mp.root(sum((abs(v) ** int(which) for v in x), mp.mpf(0)), int(which))
        if which == "*":
            return sum(mp.svd_c(x, compute_uv=False), mp.mpf(0))
        if which == "1":
            return mp.mnorm(x, 1)
        if which == "2":
            return max(mp.svd_c(x, compute_uv=False))
        raise Unreadable(f"the norm with index {which!r} is not known")

    def series(self, op: str, term: Callable[[Any], Any], low: Any, high: Any) -> Any:
        total, first, k = None, None, int(low)
        small, quiet = mp.mpf(10) ** (-mp.mp.dps - 5), 0
        while k <= high:
            value = term(mp.mpf(k))
            total = value if total is None else (total + value if op == "sum" else total * value)
            if high == mp.inf:
                change = magnitude(value if op == "sum" else value - 1)
                first = change if first is None else first
                quiet = quiet + 1 if change <= small * (1 + magnitude(total)) else 0
                if quiet == 3:
                    break
                if change > 1e6 * (1 + first) or k - low > 5000:
                    raise ValueError("an infinite sum or product does not settle: choose other draws")
            k += 1
        return total if total is not None else mp.mpf(op == "prod")

    def derivative(self, f: Callable[[Any], Any], at: Any) -> Any:
        """Central difference at twice the digits: truncation and cancellation both stay below the working precision."""
        with mp.workdps(3 * mp.mp.dps):
            x, h = self.value(at), mp.mpf(10) ** (-mp.mp.dps // 3)
            return (f(x + h) - f(x - h)) / (2 * h)

    def integral(self, f: Callable[[Any], Any], low: Any, high: Any, points: tuple[Any, ...] = ()) -> Any:
        middle = 0 if low == -mp.inf and high == mp.inf else high - 1 if low == -mp.inf else low + 1
        first = f((low + high) / 2 if mp.isfinite(low) and mp.isfinite(high) else mp.mpf(middle))
        ends = [low, *points, high]
        if not is_matrix(first):
            return mp.quad(f, ends)
        entry = lambda i, j: mp.quad(lambda x: f(x)[i, j], ends)
        return mp.matrix([[entry(i, j) for j in range(first.cols)] for i in range(first.rows)])

    def limit(self, f: Callable[[Any], Any], target: Any, side: str = "") -> Any:
        """Richardson extrapolation in 1/n (n -> infinity, even and odd) or h (h -> target), doubling sixteen times.

        A limit at a number is taken from above, and from below too where f has values there; both must agree.

        Raises:
            ValueError: the last steps of the extrapolation differ by more than a thousandth, or the two sides do.
        """
        if abs(target) == mp.inf:
            sign = 1 if target == mp.inf else -1
            return self._extrapolated(f, lambda n: sign * n)
        if side == "-":
            return self._extrapolated(f, lambda n: target - 1 / n)
        above = self._extrapolated(f, lambda n: target + 1 / n)
        if not side:
            try:
                below = self._extrapolated(f, lambda n: target - 1 / n)
                gap, scale = magnitude(below - above), 1 + magnitude(above)
            except (ValueError, TypeError, ArithmeticError, Unreadable):
                return above
            if gap > mp.mpf("1e-3") * scale:
                raise ValueError("the limits from both sides differ: print the side, as in h \\to 0^+")
        return above

    def _extrapolated(self, f: Callable[[Any], Any], at: Callable[[Any], Any]) -> Any:
        with mp.workdps(2 * mp.mp.dps):
            row: list[Any] = []
            estimate = mp.inf
            places = [mp.mpf(8 * 2**level + level % 2) for level in range(17)]  # even and odd: (-1)^n has no limit
            for level, n in enumerate(places):
                fresh = [f(at(n))]
                for j, old in enumerate(row, start=1):
                    fresh.append(fresh[-1] + (fresh[-1] - old) / (n / places[level - j] - 1))
                if row:
                    estimate = magnitude(fresh[-1] - row[-1])
                row = fresh
            if not estimate <= mp.mpf("1e-3") * (1 + magnitude(row[-1])):
                raise ValueError(f"a limit does not settle: the last two estimates differ by {mp.nstr(estimate, 3)}")
            return row[-1]

    def fn_exp(self, x: Any) -> Any:
        return mp.expm(x, method="taylor") if is_matrix(x) else mp.exp(x)

    def fn_log(self, x: Any) -> Any:
        return mp.logm(x) if is_matrix(x) else mp.log(x)

    def fn_det(self, x: Any) -> Any:
        return mp.det(x) if square_size(x, "det") else mp.mpf(1)

    def fn_abs(self, x: Any) -> Any:
        if is_matrix(x) and is_vector(x) and x.rows != x.cols:
            raise ValueError("bars around a vector: write its norm as \\|v\\|")
        return self.fn_det(x) if is_matrix(x) else abs(x)

    def fn_diag(self, *x: Any) -> Any:
        return mp.diag(list(x[0]) if len(x) == 1 and is_matrix(x[0]) else list(x))

    def fn_binom(self, a: Any, b: Any) -> Any:
        return mp.binomial(a, b)

    def fn_rank(self, x: Any) -> Any:
        values = mp.svd_c(x, compute_uv=False)
        return mp.mpf(sum(v > mp.mpf(10) ** (-mp.mp.dps // 2) * max(values) for v in values))

    def fn_root(self, x: Any, n: Any) -> Any:
        return mp.root(x, int(n))

    def __getattr__(self, name: str) -> Any:
        simple = {"sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "factorial", "sign", "floor", "ceil", "erf"}
        inverse = {"arccos": "acos", "arctan": "atan", "arcsin": "asin", "doublefactorial": "fac2"}
        inverse |= {"Re": "re", "Im": "im"}
        stem = name.removeprefix("fn_")
        if name.startswith("fn_") and (stem in simple or stem in inverse):
            return getattr(mp, inverse.get(stem, stem))
        raise AttributeError(name)


def _scalar(x: Any) -> Any:
    if isinstance(x, numbers.Complex) and not isinstance(x, numbers.Real):
        return mp.mpmathify(complex(x))
    return mp.mpmathify(x)
