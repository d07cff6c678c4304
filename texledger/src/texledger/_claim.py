"""What an equation states, as comparisons between its parts, and when two values count as equal."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp
from mpmath.libmp import NoConvergence

from texledger._arithmetic import Arithmetic, is_matrix, magnitude
from texledger._draw import shape
from texledger._entry import LedgerError
from texledger._size import size
from texledger._tree import Node, Relation, Unreadable, show
from texledger._watch import Watch

Side = Callable[..., Any] | Any


@dataclass(eq=False)
class Part:
    """One side of the page's equation, read from its TeX, or a computation beside it; parts are told apart by identity.

    Attributes:
        what: a tree, a function of names of ``where``, or a value.
        name: how messages call it.
        phase: under which name its calls are watched, if it is code.
    """

    what: Any
    name: str
    phase: str = ""

    @property
    def read(self) -> bool:
        """True if it is the page's own TeX."""
        return isinstance(self.what, Node)


@dataclass(frozen=True)
class Comparison:
    """Two parts and the sign between them. ``test`` decides about equality."""

    left: Part
    sign: str
    right: Part
    test: Test


@dataclass
class Claim:
    """All that an entry states: comparisons, and which parts of the page they were read from."""

    comparisons: list[Comparison]
    strength: str | None
    read: str = ""
    unread: dict[str, str] = field(default_factory=dict)
    guards: Sequence[Relation] = field(default_factory=list)

    def parts(self) -> list[Part]:
        """Every part once, in the order of the page."""
        both = [p for c in self.comparisons for p in (c.left, c.right)]
        return list(dict.fromkeys(both))

    def trees(self) -> list[Node]:
        """The parts that were read from the TeX."""
        return [p.what for p in self.parts() if p.read]


class Values:
    """The values of a claim's parts in one environment; each is computed once."""

    def __init__(self, arithmetic: Arithmetic, env: Mapping[str, Any], watch: Watch | None = None) -> None:
        self.arithmetic, self.env, self.watch = arithmetic, env, watch
        self._found: dict[Part, tuple[Any, Any]] = {}
        self._sizes: dict[Part, Any] = {}

    def of(self, part: Part) -> Any:
        """The part's value."""
        return self._both(part)[0]

    def error(self, part: Part) -> Any:
        """The standard error of the part's value, if it is a mean over samples (else 0)."""
        return self._both(part)[1]

    def size(self, part: Part) -> Any:
        """The size of the largest term that is added in the part."""
        if part not in self._sizes:
            known = magnitude(self.of(part))
            self._sizes[part] = max(known, size(part.what, self.arithmetic, self.env)) if part.read else known
        return self._sizes[part]

    def _both(self, part: Part) -> tuple[Any, Any]:
        if part not in self._found:
            before = len(self.arithmetic.errors)
            with self.watch.on(part.phase) if self.watch else nullcontext():
                value = value_of(part.what, self.arithmetic, self.env)
            errors = [abs(mp.mpmathify(e)) ** 2 for _, e in self.arithmetic.errors[before:]]
            self._found[part] = value, mp.sqrt(sum(errors, mp.mpf(0)))
        return self._found[part]


def value_of(side: Any, arithmetic: Arithmetic, env: Mapping[str, Any]) -> Any:
    """The value of a tree, a function of the environment's names, or a value."""
    if isinstance(side, Node):
        return arithmetic.evaluate(side, env)
    return arithmetic.value(applied(side, env) if is_function(side) else side)


def is_function(x: Any) -> bool:
    """True for what is called, false for values (SymPy's are callable too)."""
    return callable(x) and not isinstance(x, sp.Basic | sp.MatrixBase | mp.mpf | mp.mpc | mp.matrix)


def applied(function: Callable[..., Any], env: Mapping[str, Any]) -> Any:
    """Call ``function`` with those of ``env`` that its parameters name (a built-in one with all, in their order)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # built-in functions have no names to go by
        return function(*env.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return function(**env)
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if missing := [name for name in wanted if name not in env]:
        raise LedgerError(f"a side asks for {', '.join(missing)}, but `where` gives {', '.join(env) or 'nothing'}.")
    return function(**{p.name: env[p.name] for p in parameters if p.name in env})


def torch_for(what: str) -> Any:
    """PyTorch, which only the checks that ask for it need.

    Raises:
        LedgerError: it is not installed; the message says how to get it.
    """
    try:
        import torch
    except ImportError as error:
        raise LedgerError(f"{what} needs PyTorch: pip install 'texledger[torch]'.") from error
    return torch


def tensor(x: Any) -> Any:
    """mpmath and SymPy values as float64 tensors or Python numbers; everything else as it is."""
    if is_matrix(x) and not isinstance(x, np.ndarray) and not hasattr(x, "detach"):
        rows = [[complex(v) for v in row] for row in x.tolist()]
        torch = torch_for("A matrix that is handed to code")
        made = torch.tensor(rows, dtype=torch.complex128)
        return made.real.clone() if not made.imag.any() else made
    if isinstance(x, np.ndarray):
        return torch_for("An array that is handed to code").from_numpy(x)
    if isinstance(x, mp.mpf | sp.Rational | sp.Float):
        return float(x)
    return x


class Test:
    """Decides whether two values are equal, and whether they are seen to differ."""

    exact = False

    def equal(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        raise NotImplementedError

    def differ(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        return not self.equal(a, b, size, error)


class Near(Test):
    """Equal up to ``tol`` times the size of the values, or of the largest term that was added on either side."""

    def __init__(self, tol: Any, scale: Any = 0, errors: float = 4.0) -> None:
        self.tol, self.scale, self.errors = tol, scale, errors

    def equal(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        if not same_shape(a, b):
            return False
        gap = magnitude(a - b)
        if mp.isnan(gap) or mp.isinf(gap):
            return False
        if error:
            return bool(gap <= self.errors * error)
        near = gap <= self.tol * max(magnitude(a), magnitude(b), self.scale)
        return bool(near or gap <= self.tol * size())


class Sampled(Test):
    """Within ``errors`` standard errors of a mean; ``standard`` has the error of each mean that was taken."""

    def __init__(self, errors: float, standard: Mapping[Any, float]) -> None:
        self.errors, self.standard = errors, standard

    def equal(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        if is_matrix(a) or is_matrix(b):
            return False
        standard = self.standard.get(a, 0.0) or self.standard.get(b, 0.0)
        if error:  # the other side is a mean over samples of its own
            standard = math.hypot(standard, float(error))
        return bool(standard > 0 and magnitude(a - b) <= self.errors * standard)


class Simplified(Test):
    """Equal if the difference simplifies to zero.

    With ``witness`` a damaged formula counts as different only if numbers put in for the symbols show it.
    """

    exact = True

    def __init__(self, witness: bool) -> None:
        self.witness = witness

    def equal(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        return simplifies(a, b)

    def differ(self, a: Any, b: Any, size: Callable[[], Any], error: Any) -> bool:
        return witness(a, b) if self.witness else not simplifies(a, b)


def finite(x: Any) -> bool:
    """True if no entry is infinite or undefined."""
    entries = list(x) if is_matrix(x) else [x]
    if any(isinstance(v, sp.Basic) for v in entries):
        return not any(sp.sympify(v).has(sp.nan, sp.zoo, sp.oo, -sp.oo) for v in entries)
    return all(mp.isfinite(v) for v in entries)


def same_shape(a: Any, b: Any) -> bool:
    """True for two numbers, or two matrices of one shape."""
    return is_matrix(a) == is_matrix(b) and (not is_matrix(a) or shape(a) == shape(b))


def holds(comparison: Comparison, values: Values, original: Values | None = None, margin: Any = 0) -> bool:
    """True if the comparison holds between the values of its parts.

    Args:
        comparison: what is compared.
        values: of its parts.
        original: those whose sizes count, for a damaged copy (default: the same).
        margin: by which share of their size an inequality must hold with room to spare.
    """
    a, b = values.of(comparison.left), values.of(comparison.right)
    equal = comparison.test.equal(a, b, lambda: _size(comparison, original or values), _error(comparison, values))
    if comparison.sign in {"=", "!="}:
        return equal == (comparison.sign == "=")
    a, b = ordered(a), ordered(b)
    if comparison.sign in {">", ">="}:
        a, b = b, a
    if margin:
        return bool(a + margin <= b)
    return (bool(a < b) and not (comparison.sign in "<>" and equal)) or (equal and comparison.sign in {"<=", ">="})


def seen_to_fail(comparison: Comparison, values: Values, original: Values) -> bool:
    """True if a damaged comparison is seen to be false (an equality: by the test's own standard of a difference)."""
    if comparison.sign != "=":
        return not holds(comparison, values, original)
    a, b = values.of(comparison.left), values.of(comparison.right)
    if not same_shape(a, b):
        raise Structural("has another shape than the other side")
    if not (finite(a) and finite(b)):
        raise Structural("has no finite value")
    return comparison.test.differ(a, b, lambda: _size(comparison, original), _error(comparison, values))


def _size(comparison: Comparison, values: Values) -> Any:
    return max(values.size(p) for p in (comparison.left, comparison.right) if p in values._found)


def _error(comparison: Comparison, values: Values) -> Any:
    a, b = values.error(comparison.left), values.error(comparison.right)
    return mp.sqrt(a * a + b * b) if a or b else 0


def ordered(x: Any) -> Any:
    """``x`` as a real number; a matrix or a complex number has no order."""
    if is_matrix(x):
        raise Structural("a matrix has no order")
    if isinstance(x, mp.mpc):
        if abs(x.imag) > mp.mpf(10) ** (-mp.mp.dps // 2) * abs(x):
            raise Structural("a complex number has no order")
        return x.real
    if isinstance(x, sp.Basic) and x.is_real is False:
        raise Structural("a complex number has no order")
    if isinstance(x, sp.Basic) and not x.is_number:
        raise LedgerError("symbols have no order: check an inequality with `numeric` or `exact`.")
    if x != x:
        raise Structural("it is not a number")
    return x


class Structural(ValueError):
    """A damaged formula has no value, for the reason in the message."""


def structural(error: Exception) -> str | None:
    """Why a formula has no value, if the reason lies in the formula; ``None`` if the code that ran went wrong."""
    says = re.sub(r"<function .*? at 0x[0-9a-f]+>", "a function", str(error))  # an address differs in every run
    if isinstance(error, Structural):
        return says
    if isinstance(error, ZeroDivisionError):
        return "has no value: division by zero"
    if isinstance(error, ArithmeticError) and not isinstance(error, OverflowError | AssertionError):
        return f"has no value: {says}"
    if isinstance(error, IndexError):
        return "has no value: an index runs off"
    if any(word in says for word in ("singular", "not invertible")):
        return "has no value: a singular matrix has no inverse"
    if isinstance(error, NoConvergence):
        return "has no value: it does not converge"
    if isinstance(error, ValueError) and "pole" in says:
        return "has no value: a function has a pole there"
    shapes = ("dimension", "not compatible", "Matrix size mismatch", "square", "must match", "shape", "not conformable")
    if isinstance(error, ValueError | RuntimeError | TypeError) and any(word in says for word in shapes):
        return "has no value: shapes differ"
    known = ("added to a matrix", "division by the matrix", "is raised to the power", "does not settle", "count from 1")
    known += ("the declared optimum", "no value of", "attained more than once", "has probability zero", "not to 1")
    known += ("there is no entry", "out of range", "stands in a block", "are added in", "is compared")
    known += ("no case of the formula holds",)
    if isinstance(error, Unreadable) and "has no value by itself" in says:
        return "has no value: a law or another declared thing stands where a number belongs"
    if isinstance(error, ValueError) and any(word in says for word in known):
        return f"has no value: {says.splitlines()[0]}"
    if isinstance(error, ValueError) and "is random: give a Law" in says:
        return "has no value: a mean over nothing that is random"
    if isinstance(error, TypeError) and any(word in says for word in ("unsupported operand", "bad operand", "mpmath")):
        return "has no value: a number, a matrix or a function stands where another kind belongs"
    return None


def simplifies(a: Any, b: Any) -> bool:
    """True if the difference of two SymPy values simplifies to zero."""
    if not same_shape(a, b):
        return False
    difference = a - b
    entries = list(difference) if is_matrix(difference) else [difference]
    return all(e == 0 or sp.expand(e) == 0 or sp.simplify(sp.expand(e)) == 0 for e in entries)


def witness(a: Any, b: Any) -> bool:
    """True if numbers put in for the symbols show that a and b differ."""
    if not same_shape(a, b):
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


def relative_gap(a: Any, b: Any) -> Any:
    """The difference of two values relative to the larger one."""
    if not same_shape(a, b):
        return mp.inf
    gap = magnitude(a - b)
    if mp.isnan(gap):
        return mp.inf
    return gap / max(magnitude(a), magnitude(b)) if gap else mp.mpf(0)


def failing(sign: str, a: Any, b: Any) -> Any:
    """By how much a statement fails, relative to the larger side; 0 if it holds."""
    if sign == "=":
        return relative_gap(a, b)
    if sign == "!=":
        return mp.mpf(0) if relative_gap(a, b) else mp.inf
    low, high = (ordered(a), ordered(b)) if sign in {"<", "<="} else (ordered(b), ordered(a))
    return max(mp.mpf(0), (low - high) / max(abs(low), abs(high))) if low != high else mp.mpf(0)


def changes(value: Any) -> Iterable[tuple[str, Callable[[Any], Any]]]:
    """Ways to damage a value whose formula is not at hand."""
    yield "the right side negated", lambda v: -v
    yield "the right side doubled", lambda v: 2 * v
    yield (
        "the right side one per cent larger",
        lambda v: v * (sp.Rational(101, 100) if isinstance(v, sp.Basic | sp.MatrixBase) else mp.mpf("1.01")),
    )
    if is_matrix(value) and shape(value)[0] == shape(value)[1] > 1 and value != value.T:
        yield "the right side transposed", lambda v: v.T
    terms = value.args if isinstance(value, sp.Add) else ()
    for k, term in enumerate(terms):
        yield f"sign of {term}", lambda v, k=k: v - 2 * v.args[k]
        yield f"without {term}", lambda v, k=k: v - v.args[k]


def described(part: Part) -> str:
    """How messages call a part: the formula as it was read, or the computation's name."""
    return f"{part.name} `{show(part.what)}`" if part.read else part.name
