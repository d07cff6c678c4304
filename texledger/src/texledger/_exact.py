"""Exact arithmetic on SymPy values: symbols, rationals and matrices of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import sympy as sp

from texledger._arithmetic import Arithmetic, is_matrix, is_vector, square_size
from texledger._tree import Unreadable


class Exact(Arithmetic):
    """SymPy values: symbols, rationals and matrices of them."""

    i, infinity = sp.I, sp.oo

    @property
    def pi(self) -> Any:
        return sp.pi

    @property
    def e(self) -> Any:
        return sp.E

    def number(self, text: str) -> Any:
        return sp.Rational(text)

    def value(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            raise TypeError("an exact check got floating-point numbers: use SymPy rationals, or `numeric`")
        return x if callable(x) and not isinstance(x, sp.Basic) else sp.sympify(x)

    def matrix(self, rows: list[list[Any]]) -> Any:
        return sp.Matrix(rows) if rows and rows[0] else sp.Matrix(0, 0, [])

    def eye(self, n: int) -> Any:
        return sp.eye(n)

    def power(self, a: Any, b: Any) -> Any:
        return a**b

    def adjoint(self, x: Any) -> Any:
        return x.H if is_matrix(x) else sp.conjugate(x)

    def size(self, x: Any) -> Any:
        numbers = [v for v in (x if is_matrix(x) else [x]) if isinstance(v, sp.Expr) and v.is_number and v.is_finite]
        return max((abs(sp.N(v)) for v in numbers), default=None)

    def positive(self, x: Any) -> bool:
        x = sp.nsimplify(x) if isinstance(x, float | int) else sp.simplify(x)
        if x.is_zero or x == 0:
            return False
        if x.is_extended_positive or x.is_extended_nonpositive:
            return bool(x.is_extended_positive)
        if x.is_number and x.is_real is not False:
            return bool(sp.N(x, 40) > 0)
        raise Unreadable(f"whether {x} is positive is not decided for these symbols: use numbers, or `numeric`")

    def norm(self, x: Any, which: str) -> Any:
        if which == "F" or (which == "2" and is_vector(x)):
            return sp.sqrt(sum((sp.Abs(v) ** 2 for v in x), sp.Integer(0)))
        if is_vector(x) and which in {"1", "infty", "max"}:
            sizes = [sp.Abs(v) for v in x]
            return sum(sizes, sp.Integer(0)) if which == "1" else sp.Max(*sizes)
        if which in {"1", "infty"}:
            lines = [x[:, j] for j in range(x.cols)] if which == "1" else [x[i, :] for i in range(x.rows)]
            return sp.Max(*(sum((sp.Abs(v) for v in line), sp.Integer(0)) for line in lines))
        raise Unreadable(f"the norm with index {which!r} is not known to exact checks")

    def series(self, op: str, term: Callable[[Any], Any], low: Any, high: Any) -> Any:
        if low.is_Integer and high.is_Integer:
            values = [term(sp.Integer(k)) for k in range(int(low), int(high) + 1)]
            if not values:
                return sp.Integer(op == "prod")
            total = values[0]
            for v in values[1:]:
                total = total + v if op == "sum" else total * v
            return total
        k = sp.Dummy("k", integer=True)
        return (sp.Sum if op == "sum" else sp.Product)(term(k), (k, low, high)).doit()

    def derivative(self, f: Callable[[Any], Any], at: Any) -> Any:
        x = sp.Dummy("x", **at.assumptions0) if isinstance(at, sp.Symbol) else sp.Dummy("x")
        return sp.diff(f(x), x).subs(x, at)

    def integral(self, f: Callable[[Any], Any], low: Any, high: Any, points: tuple[Any, ...] = ()) -> Any:
        x = sp.Dummy("x", real=True)
        body, ends = f(x), [low, *points, high]
        return sum((sp.integrate(body, (x, a, b)) for a, b in pairwise(ends)), 0 * body.subs(x, 1))

    def limit(self, f: Callable[[Any], Any], target: Any, side: str = "") -> Any:
        x = sp.Dummy("x", positive=True) if target in (0, sp.oo) and side != "-" else sp.Dummy("x", real=True)
        body = f(x)
        one = lambda e: sp.limit(e, x, target, side or "+")
        return body.applyfunc(one) if is_matrix(body) else one(body)

    def fn_exp(self, x: Any) -> Any:
        return x.exp() if is_matrix(x) else sp.exp(x)

    def fn_log(self, x: Any) -> Any:
        return x.log() if is_matrix(x) else sp.log(x)

    def fn_det(self, x: Any) -> Any:
        square_size(x, "det")
        return x.det(method="berkowitz") if x.rows else sp.Integer(1)

    def fn_abs(self, x: Any) -> Any:
        if is_matrix(x) and is_vector(x) and x.rows != x.cols:
            raise ValueError("bars around a vector: write its norm as \\|v\\|")
        return x.det() if is_matrix(x) else sp.Abs(x)

    def fn_diag(self, *x: Any) -> Any:
        return sp.diag(*(x[0] if len(x) == 1 and is_matrix(x[0]) else x))

    def fn_sqrt(self, x: Any) -> Any:
        return sp.sqrt(x)

    def fn_factorial(self, x: Any) -> Any:
        return sp.factorial(x)

    def fn_binom(self, a: Any, b: Any) -> Any:
        return sp.binomial(a, b)

    def fn_rank(self, x: Any) -> Any:
        return sp.Integer(x.rank())

    def fn_root(self, x: Any, n: Any) -> Any:
        return sp.root(x, n)

    def __getattr__(self, name: str) -> Any:
        simple = {"sin", "cos", "tan", "sinh", "cosh", "tanh", "sign", "floor", "erf"}
        inverse = {"arccos": "acos", "arctan": "atan", "arcsin": "asin", "doublefactorial": "factorial2"}
        inverse |= {"ceil": "ceiling", "Re": "re", "Im": "im"}
        stem = name.removeprefix("fn_")
        if name.startswith("fn_") and (stem in simple or stem in inverse):
            return getattr(sp, inverse.get(stem, stem))
        raise AttributeError(name)
