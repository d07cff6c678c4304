"""What an equation states, how it is damaged, and when two values count as equal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from texledger._arithmetic import Arithmetic, is_matrix, magnitude
from texledger._entry import LedgerError
from texledger._mutants import ZERO, mutants
from texledger._tree import Node

Side = Callable[..., Any] | Any
Test = Callable[[Any, Any], bool]
ILL_FORMED = (ValueError, TypeError, ArithmeticError, IndexError, AttributeError)


class Claim:
    """What an equation states: relations between sides, each a tree, a function or a value."""

    def __init__(self, found: Iterable[tuple[Any, str, Any]], bound: bool) -> None:
        self.relations = list(found)
        self.bound = bound

    @classmethod
    def given(cls, pair: tuple[Side, Side]) -> Claim:
        return cls([(pair[0], "=", pair[1])], bound=False)

    def values(self, arithmetic: Arithmetic, env: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
        for left, _, right in self.relations:
            yield value_of(left, arithmetic, env), value_of(right, arithmetic, env)

    def damaged(
        self, arithmetic: Arithmetic, env: Mapping[str, Any], named: Mapping[str, Side]
    ) -> Iterable[tuple[str, Claim]]:
        for i, (left, sign, right) in enumerate(self.relations):
            if sign != "=":
                flipped = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "!=": "="}[sign]
                yield f"{sign} turned into {flipped}", Claim([(left, flipped, right)], self.bound)
                continue
            against_zero = ZERO in (left, right)
            if isinstance(right, Node):
                for name, node in mutants(right, against_zero):
                    yield name, Claim([(left, "=", node)], self.bound)
            else:
                for name, change in changes(value_of(right, arithmetic, env)):
                    yield name, Claim([(left, "=", _changed(right, change, arithmetic))], self.bound)
            if isinstance(left, Node):
                for name, node in mutants(left, against_zero):
                    yield name, Claim([(node, "=", right)], self.bound)
            for name, side in named.items() if i == len(self.relations) - 1 else ():
                yield name, Claim([(left, "=", side)], self.bound)


def changes(value: Any) -> Iterable[tuple[str, Callable[[Any], Any]]]:
    """Ways to damage a value whose formula is not at hand."""
    yield "the right side negated", lambda v: -v
    yield "the right side doubled", lambda v: 2 * v
    yield (
        "the right side one per cent larger",
        lambda v: v * (sp.Rational(101, 100) if isinstance(v, sp.Basic | sp.MatrixBase) else mp.mpf("1.01")),
    )
    if is_matrix(value) and value.rows == value.cols > 1 and value != value.T:
        yield "the right side transposed", lambda v: v.T
    terms = value.args if isinstance(value, sp.Add) else ()
    for k, term in enumerate(terms):
        yield f"sign of {term}", lambda v, k=k: v - 2 * v.args[k]
        yield f"without {term}", lambda v, k=k: v - v.args[k]


def _changed(side: Side, change: Callable[[Any], Any], arithmetic: Arithmetic) -> Side:
    """The side as a function of the environment, damaged by ``change``; no symbol's name can get in the way."""
    return lambda **env: change(value_of(side, arithmetic, env))


def value_of(side: Any, arithmetic: Arithmetic, env: Mapping[str, Any]) -> Any:
    if isinstance(side, Node):
        return arithmetic.evaluate(side, env)
    return arithmetic.value(applied(side, env) if is_function(side) else side)


def is_function(x: Any) -> bool:
    return callable(x) and not isinstance(x, sp.Basic | sp.MatrixBase | mp.mpf | mp.mpc | mp.matrix)


def applied(function: Callable[..., Any], env: Mapping[str, Any]) -> Any:
    """Call ``function`` with those of ``env`` that its parameters name."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function(**env)
    wanted = [p.name for p in parameters if p.default is p.empty]
    if missing := [name for name in wanted if name not in env]:
        raise LedgerError(f"a side asks for {', '.join(missing)}, but `where` gives {', '.join(env) or 'nothing'}.")
    return function(**{p.name: env[p.name] for p in parameters if p.name in env})


def tensor(x: Any) -> Any:
    """mpmath and SymPy values as float64 tensors or Python numbers; everything else as it is."""
    import torch

    if is_matrix(x) and not isinstance(x, np.ndarray | torch.Tensor):
        rows = [[complex(v) for v in row] for row in x.tolist()]
        tensor = torch.tensor(rows, dtype=torch.complex128)
        return tensor.real.clone() if not tensor.imag.any() else tensor
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x)
    if isinstance(x, mp.mpf | sp.Rational | sp.Float):
        return float(x)
    return x


def simplifies(a: Any, b: Any) -> bool:
    if is_matrix(a) != is_matrix(b) or (is_matrix(a) and a.shape != b.shape):
        return False
    difference = a - b
    entries = list(difference) if is_matrix(difference) else [difference]
    return all(e == 0 or sp.expand(e) == 0 or sp.simplify(sp.expand(e)) == 0 for e in entries)


def witness(a: Any, b: Any) -> bool:
    """True if numbers put in for the symbols show that a and b differ."""
    if is_matrix(a) != is_matrix(b) or (is_matrix(a) and a.shape != b.shape):
        return True
    entries = list(a - b) if is_matrix(a) else [a - b]
    rng = np.random.default_rng(7)
    x = sp.Dummy("x")
    for _ in range(3):
        number = lambda: sp.Rational(int(rng.integers(1, 50)), 53)
        for entry in entries:
            applied = {f.func for f in entry.atoms(sp.core.function.AppliedUndef)}
            for f in sorted(applied, key=str):
                entry = entry.replace(f, sp.Lambda(x, number() + number() * x + number() * x**2 + number() * x**3))
            entry = entry.doit()
            value = sp.N(entry.subs({s: number() for s in sorted(entry.free_symbols, key=str)}), 30)
            if value.is_number and abs(value) > sp.Float("1e-10"):
                return True
    return False


def differs(a: Any, b: Any) -> bool:
    return not simplifies(a, b)


def negation(same: Test) -> Test:
    return lambda a, b: not same(a, b)


def rejects(a: Any, b: Any, differ: Test) -> bool:
    try:
        return differ(a, b)
    except ILL_FORMED:
        return True


def gap_between(a: Any, b: Any) -> Any:
    if is_matrix(a) != is_matrix(b) or (is_matrix(a) and (a.rows, a.cols) != (b.rows, b.cols)):
        return mp.inf
    gap = magnitude(a - b) / max(mp.mpf(1), magnitude(a), magnitude(b))
    return mp.inf if mp.isnan(gap) else gap


def within(tol: float) -> Test:
    return lambda a, b: bool(gap_between(a, b) <= tol)


def holds_between(a: Any, sign: str, b: Any, same: Test) -> bool:
    if sign in {"=", "!="}:
        return same(a, b) == (sign == "=")
    return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign])
