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
            if b != int(mp.nint(b)):
                raise ValueError(f"a matrix is raised to the power {b}: only whole powers are read")
            return a ** int(mp.nint(b))
        return mp.power(a, b)

    def adjoint(self, x: Any) -> Any:
        return x.H if is_matrix(x) else mp.conj(x)

    def norm(self, x: Any, which: str) -> Any:
        if which == "F" or (which == "2" and is_vector(x)):
            return mp.sqrt(sum((abs(v) ** 2 for v in x), mp.mpf(0)))
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

    def integral(self, f: Callable[[Any], Any], low: Any, high: Any) -> Any:
        first = f((low + high) / 2)
        if not is_matrix(first):
            return mp.quad(f, [low, high])
        entry = lambda i, j: mp.quad(lambda x: f(x)[i, j], [low, high])
        return mp.matrix([[entry(i, j) for j in range(first.cols)] for i in range(first.rows)])

    def limit(self, f: Callable[[Any], Any], target: Any) -> Any:
        """Richardson extrapolation in 1/n (n -> infinity) or h (h -> target from above), doubling sixteen times."""
        with mp.workdps(2 * mp.mp.dps):
            at = (lambda n: n) if target == mp.inf else (lambda n: target + 1 / n)
            row: list[Any] = []
            for level in range(17):
                fresh = [f(at(mp.mpf(8 * 2**level)))]
                for j, old in enumerate(row, start=1):
                    fresh.append(fresh[-1] + (fresh[-1] - old) / (2**j - 1))
                row = fresh
            return row[-1]

    def fn_exp(self, x: Any) -> Any:
        return mp.expm(x, method="taylor") if is_matrix(x) else mp.exp(x)

    def fn_log(self, x: Any) -> Any:
        return mp.logm(x) if is_matrix(x) else mp.log(x)

    def fn_det(self, x: Any) -> Any:
        return mp.det(x) if square_size(x, "det") else mp.mpf(1)

    def fn_abs(self, x: Any) -> Any:
        return self.fn_det(x) if is_matrix(x) else abs(x)

    def fn_diag(self, *x: Any) -> Any:
        return mp.diag(list(x[0]) if len(x) == 1 and is_matrix(x[0]) else list(x))

    def fn_binom(self, a: Any, b: Any) -> Any:
        return mp.binomial(a, b)

    def __getattr__(self, name: str) -> Any:
        simple = {"sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt", "factorial", "sign"}
        inverse = {"arccos": "acos", "arctan": "atan"}
        stem = name.removeprefix("fn_")
        if name.startswith("fn_") and (stem in simple or stem in inverse):
            return getattr(mp, inverse.get(stem, stem))
        raise AttributeError(name)


def _scalar(x: Any) -> Any:
    if isinstance(x, numbers.Complex) and not isinstance(x, numbers.Real):
        return mp.mpmathify(complex(x))
    return mp.mpmathify(x)
