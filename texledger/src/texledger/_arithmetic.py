"""Evaluate a formula's tree; what arithmetic the values obey is left to ``_exact`` and ``_numeric``.

Both kinds of value obey the same few rules: products keep their order, a number is never added to a matrix, and an
infinite sum, a limit, a derivative or an integral is computed, not recognised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import mpmath as mp
import sympy as sp

from texledger._tree import Node, Unreadable, show

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
            function: Callable[[Any], Any] = lambda x: self.value(env[stem](x))  # rebound below per prime
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
        return sum((x[i, i] for i in range(square_size(x, "tr"))), self.number("0"))

    def fn_adj(self, x: Any) -> Any:
        n = square_size(x, "adj")
        cofactor = lambda i, j: (-1) ** (i + j) * self.fn_det(self.minor(x, i, j))
        return self.matrix([[cofactor(j, i) for j in range(n)] for i in range(n)])

    def minor(self, x: Any, i: int, j: int) -> Any:
        n = square_size(x, "minor")
        return self.matrix([[x[r, c] for c in range(n) if c != j] for r in range(n) if r != i])


def is_matrix(x: Any) -> bool:
    """True for SymPy and mpmath matrices and two-dimensional arrays."""
    return isinstance(x, sp.MatrixBase | mp.matrix) or getattr(x, "ndim", 0) == 2


def is_vector(x: Any) -> bool:
    return is_matrix(x) and 1 in (x.rows, x.cols)


def is_square(x: Any) -> bool:
    shape = (x.rows, x.cols) if hasattr(x, "rows") else x.shape
    return shape[0] == shape[1]


def square_size(x: Any, name: str) -> int:
    if not is_matrix(x) or not is_square(x):
        raise ValueError(f"{name} is applied to something that is not a square matrix")
    return x.rows


def magnitude(x: Any) -> Any:
    """The largest absolute entry of a number or an mpmath matrix (0 for an empty one)."""
    return max((abs(v) for v in x), default=mp.mpf(0)) if is_matrix(x) else abs(x)
