"""Evaluate a formula's tree, exactly (SymPy) or to many digits (mpmath).

Both kinds of value obey the same few rules: products keep their order, a number is never added to a matrix, and an
infinite sum, a limit, a derivative or an integral is computed, not recognised.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from gantext.ledger._tex import Node, Unreadable, show

Environment = Mapping[str, Any]


class Arithmetic(ABC):
    """What the two arithmetics share: walking the tree and looking names up."""

    i: Any
    infinity: Any

    @property
    @abstractmethod
    def pi(self) -> Any: ...

    @property
    @abstractmethod
    def e(self) -> Any: ...

    @abstractmethod
    def number(self, text: str) -> Any: ...

    @abstractmethod
    def value(self, x: Any) -> Any: ...

    @abstractmethod
    def matrix(self, rows: list[list[Any]]) -> Any: ...

    @abstractmethod
    def eye(self, n: int) -> Any: ...

    @abstractmethod
    def power(self, a: Any, b: Any) -> Any: ...

    @abstractmethod
    def adjoint(self, x: Any) -> Any: ...

    @abstractmethod
    def norm(self, x: Any, which: str) -> Any: ...

    @abstractmethod
    def series(self, op: str, term: Callable[[Any], Any], low: Any, high: Any) -> Any: ...

    @abstractmethod
    def derivative(self, f: Callable[[Any], Any], at: Any) -> Any: ...

    @abstractmethod
    def integral(self, f: Callable[[Any], Any], low: Any, high: Any) -> Any: ...

    @abstractmethod
    def limit(self, f: Callable[[Any], Any], target: Any) -> Any: ...

    @abstractmethod
    def fn_det(self, x: Any) -> Any: ...

    def evaluate(self, node: Node, env: Environment) -> Any:
        op, args = node.op, node.args
        match op:
            case "num":
                return self.number(args[0])
            case "sym":
                return self.symbol(args[0], env)
            case "neg":
                return -self.evaluate(args[0], env)
            case "add":
                total = self.evaluate(args[0], env)
                for term in args[1:]:
                    total = self.plus(total, self.evaluate(term, env), node)
                return total
            case "mul":
                product = self.evaluate(args[0], env)
                for factor in args[1:]:
                    product = product * self.evaluate(factor, env)
                return product
            case "div":
                below = self.evaluate(args[1], env)
                if is_matrix(below):
                    raise ValueError(f"division by the matrix {show(args[1])}: write its inverse on the side you mean")
                return self.evaluate(args[0], env) * (self.number("1") / below)
            case "pow":
                return self.power(self.evaluate(args[0], env), self.evaluate(args[1], env))
            case "transpose":
                value = self.evaluate(args[0], env)
                return value.T if is_matrix(value) else value
            case "adjoint":
                return self.adjoint(self.evaluate(args[0], env))
            case "norm":
                return self.norm(self.evaluate(args[0], env), args[1])
            case "matrix":
                return self.matrix([[self.evaluate(x, env) for x in row] for row in args])
            case "call":
                return self.call(args[0], args[1:], env)
            case "at":
                body, name, value = args
                return self.evaluate(body, {**env, name: self.evaluate(value, env)})
            case "sum" | "prod":
                body, name, low, high = args
                ends = self.evaluate(low, env), self.evaluate(high, env)
                return self.series(op, lambda k: self.evaluate(body, {**env, name: k}), *ends)
            case "diff":
                body, name = args
                if name not in env:
                    raise Unreadable(f"the derivative by {name!r} needs a value for {name!r} in `where`")
                return self.derivative(lambda x: self.evaluate(body, {**env, name: x}), env[name])
            case "int":
                body, name, low, high = args
                ends = self.evaluate(low, env), self.evaluate(high, env)
                return self.integral(lambda x: self.evaluate(body, {**env, name: x}), *ends)
            case "lim":
                body, name, target = args
                return self.limit(lambda x: self.evaluate(body, {**env, name: x}), self.evaluate(target, env))
        raise Unreadable(f"no rule for {op!r} in {show(node)}")

    def symbol(self, name: str, env: Environment) -> Any:
        if name in env:
            return self.value(env[name])
        base, _, index = name.partition("_")
        if index and base in env and not callable(env[base]):
            return self.value(self.component(env[base], index, env))
        constant = {"pi": self.pi, "e": self.e, "i": self.i, "infty": self.infinity}.get(name)
        if constant is not None:
            return constant
        if name == "I":
            return self.identity(env)
        raise Unreadable(f"{name!r} has no value: add it to `where` (there are {', '.join(sorted(env)) or 'none'}).")

    def component(self, items: Any, index: str, env: Environment) -> Any:
        """The entry that an index such as ``2``, ``i`` or ``ij`` names, counted from 1; its letters have values."""
        letters = [index] if index in env or (index.isdigit() and not is_matrix(items)) else list(index)
        if unknown := [c for c in letters if c not in env and not c.isdigit()]:
            raise Unreadable(
                f"the index {unknown[0]!r} has no value: add it, or the indexed symbol itself, to `where`."
            )
        places = [int(env.get(c, c)) - 1 for c in letters]
        if min(places) < 0:
            raise ValueError(f"the index {index!r} is {min(places) + 1}: indices count from 1")
        return items[places[0]] if len(places) == 1 else items[tuple(places)]

    def identity(self, env: Environment) -> Any:
        sizes = {v.rows if hasattr(v, "rows") else v.shape[0] for v in env.values() if is_matrix(v) and is_square(v)}
        if len(sizes) != 1:
            raise Unreadable(f"the size of I is not clear from the matrices in `where` ({sorted(sizes)}): give I there")
        return self.eye(sizes.pop())

    def plus(self, a: Any, b: Any, node: Node) -> Any:
        if is_matrix(a) != is_matrix(b):
            raise ValueError(f"a number is added to a matrix in {show(node)}: write a multiple of I")
        return a + b

    def call(self, name: str, args: tuple[Any, ...], env: Environment) -> Any:
        stem = name.rstrip("'")
        if callable(env.get(name)):
            return self.value(env[name](*(self.evaluate(a, env) for a in args)))
        if name != stem and callable(env.get(stem)):
            function: Callable[[Any], Any] = lambda x: self.value(env[stem](x))  # noqa: E731 - rebound below per prime
            for _ in range(len(name) - len(stem)):
                function = (lambda f: lambda x: self.derivative(f, x))(function)
            return function(self.evaluate(args[0], env))
        values = [self.evaluate(a, env) for a in args]
        method = getattr(self, "fn_" + {"Tr": "tr", "ln": "log"}.get(name, name), None)
        if method is None:
            raise Unreadable(f"the function {name!r} is not known: add it to `where`.")
        return method(*values)

    def fn_max(self, *values: Any) -> Any:
        return max(values)

    def fn_min(self, *values: Any) -> Any:
        return min(values)

    def fn_tr(self, x: Any) -> Any:
        return sum((x[i, i] for i in range(_square(x, "tr"))), self.number("0"))

    def fn_adj(self, x: Any) -> Any:
        n = _square(x, "adj")
        cofactor = lambda i, j: (-1) ** (i + j) * self.fn_det(self.minor(x, i, j))  # noqa: E731 - a formula, used once
        return self.matrix([[cofactor(j, i) for j in range(n)] for i in range(n)])

    def minor(self, x: Any, i: int, j: int) -> Any:
        n = _square(x, "minor")
        return self.matrix([[x[r, c] for c in range(n) if c != j] for r in range(n) if r != i])


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

    def norm(self, x: Any, which: str) -> Any:
        if which == "F" or (which == "2" and is_vector(x)):
            return sp.sqrt(sum((sp.Abs(v) ** 2 for v in x), sp.Integer(0)))
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

    def integral(self, f: Callable[[Any], Any], low: Any, high: Any) -> Any:
        x = sp.Dummy("x", real=True)
        return sp.integrate(f(x), (x, low, high))

    def limit(self, f: Callable[[Any], Any], target: Any) -> Any:
        x = sp.Dummy("x", positive=True)
        body = f(x)
        return body.applyfunc(lambda e: sp.limit(e, x, target)) if is_matrix(body) else sp.limit(body, x, target)

    def fn_exp(self, x: Any) -> Any:
        return x.exp() if is_matrix(x) else sp.exp(x)

    def fn_log(self, x: Any) -> Any:
        return x.log() if is_matrix(x) else sp.log(x)

    def fn_det(self, x: Any) -> Any:
        _square(x, "det")
        return x.det(method="berkowitz") if x.rows else sp.Integer(1)

    def fn_abs(self, x: Any) -> Any:
        return x.det() if is_matrix(x) else sp.Abs(x)

    def fn_diag(self, *x: Any) -> Any:
        return sp.diag(*(x[0] if len(x) == 1 and is_matrix(x[0]) else x))

    def fn_sqrt(self, x: Any) -> Any:
        return sp.sqrt(x)

    def fn_factorial(self, x: Any) -> Any:
        return sp.factorial(x)

    def fn_binom(self, a: Any, b: Any) -> Any:
        return sp.binomial(a, b)

    def __getattr__(self, name: str) -> Any:
        simple = {"sin", "cos", "tan", "sinh", "cosh", "tanh", "sign"}
        inverse = {"arccos": "acos", "arctan": "atan"}
        stem = name.removeprefix("fn_")
        if name.startswith("fn_") and (stem in simple or stem in inverse):
            return getattr(sp, inverse.get(stem, stem))
        raise AttributeError(name)


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
        total, k = None, int(low)
        small, quiet = mp.mpf(10) ** (-mp.mp.dps - 5), 0
        while k <= high:
            value = term(mp.mpf(k))
            total = value if total is None else (total + value if op == "sum" else total * value)
            if high == mp.inf:
                change = magnitude(value if op == "sum" else value - 1)
                quiet = quiet + 1 if change <= small * (1 + magnitude(total)) else 0
                if quiet == 3:
                    break
                if k - low > 5000:
                    raise ValueError("an infinite sum or product has not settled after 5,000 terms: choose other draws")
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
        entry = lambda i, j: mp.quad(lambda x: f(x)[i, j], [low, high])  # noqa: E731 - a formula, used once
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
        return mp.det(x) if _square(x, "det") else mp.mpf(1)

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


def is_matrix(x: Any) -> bool:
    """True for SymPy and mpmath matrices and two-dimensional arrays."""
    return isinstance(x, sp.MatrixBase | mp.matrix) or getattr(x, "ndim", 0) == 2


def is_vector(x: Any) -> bool:
    return is_matrix(x) and 1 in (x.rows, x.cols)


def is_square(x: Any) -> bool:
    shape = (x.rows, x.cols) if hasattr(x, "rows") else x.shape
    return shape[0] == shape[1]


def _square(x: Any, name: str) -> int:
    if not is_matrix(x) or not is_square(x):
        raise ValueError(f"{name} is applied to something that is not a square matrix")
    return x.rows


def magnitude(x: Any) -> Any:
    """The largest absolute entry of a number or an mpmath matrix (0 for an empty one)."""
    return max((abs(v) for v in x), default=mp.mpf(0)) if is_matrix(x) else abs(x)
