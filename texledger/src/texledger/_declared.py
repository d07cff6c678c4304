r"""What an author declares in ``where`` beside plain values: laws, sets, optima, operators, superscripts.

The reader guesses nothing. A superscript that is a name, an infix operator, an expectation's law or the set of an index
has a meaning only if ``where`` gives one.

**Keys.** A key of ``where`` is the name as the reader spells it: letters as they are, Greek letters by name without the
backslash (``sigma``), an accent before its letter (``hat x``), then ``_`` and the subscript, then ``^`` and the
superscript, without braces, spaces, backslashes and styles: ``x_i``, ``W_k,alpha``, ``x^*``, ``x^(i)``, ``V^pi``,
``f^-1``, ``x_i^*``. A key may also be written as the page has it, ``r"\hat{x}_i^{(k)}"``: it is spelled so too. An
operator's key is its command (``r"\odot"``), that of a superscript for every base begins with ``^`` (``"^*"``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Law:
    r"""A discrete law: ``P(atoms[k]) = weights[k]``.

    Under the key of a random name (``"v"``, or ``"x, y"`` for names drawn together, each atom then a tuple), an
    expectation without a law takes the mean over that name. Under the key of a law (``"p"``) it serves
    ``\mathbb{E}_{x \sim p}``, and ``\mathbb{E}_p T`` for a function T.

    Raises:
        ValueError: lengths differ, there is no atom, or a weight is negative. The weights must sum to 1: that is
            checked when the mean is taken, in the arithmetic of the check.
    """

    atoms: Sequence[Any]
    weights: Sequence[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "atoms", list(self.atoms))
        object.__setattr__(self, "weights", list(self.weights))
        if len(self.atoms) != len(self.weights) or not self.atoms:
            raise ValueError(
                f"a Law has {len(self.atoms)} atoms and {len(self.weights)} weights: give as many of both, at least one"
            )
        if negative := [w for w in self.weights if w < 0]:
            raise ValueError(f"a Law has the negative weight {negative[0]}: probabilities are at least 0")

    @classmethod
    def uniform(cls, atoms: Iterable[Any]) -> Law:
        """Equal weights, as exact fractions."""
        from sympy import Rational

        atoms = list(atoms)
        return cls(atoms, [Rational(1, max(len(atoms), 1))] * len(atoms))

    def independent(self, n: int) -> Law:
        """The law of a column of ``n`` independent copies of a number (``len(atoms) ** n`` atoms)."""
        from itertools import product
        from math import prod

        from sympy import Matrix, sympify

        if n < 1:
            raise ValueError(f"n={n}: a column has at least one entry")
        pairs = list(product(zip(self.atoms, self.weights, strict=True), repeat=n))
        exact = lambda x: sympify(x)
        return Law([Matrix([exact(a) for a, _ in p]) for p in pairs], [prod(exact(w) for _, w in p) for p in pairs])

    @classmethod
    def normal(cls, nodes: int = 3) -> Law:
        """Gauss-Hermite nodes: the moments of the standard normal law up to order ``2 nodes - 1``, exactly."""
        from sympy import Dummy, Poly, factorial, roots
        from sympy.polys.orthopolys import hermite_prob_poly

        if not 1 <= nodes <= 5:
            raise ValueError(f"nodes={nodes}: from 1 to 5")
        x: Any = Dummy("x")
        polynomial = hermite_prob_poly(nodes, x)
        below: Any = hermite_prob_poly(nodes - 1, x)
        atoms = sorted(roots(Poly(polynomial, x)), key=lambda r: float(r.evalf().as_real_imag()[0]))
        return cls(atoms, [(factorial(nodes - 1) / (nodes * below.subs(x, a) ** 2)).simplify() for a in atoms])


@dataclass(frozen=True)
class Density:
    """A law with density ``pdf`` on ``(low, high)``; ``points`` split the integral at kinks of ``pdf`` or a body."""

    pdf: Callable[[Any], Any]
    low: Any
    high: Any
    points: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Samples:
    """An empirical law: the mean runs over ``values``, and its standard error is left in ``arithmetic.errors``."""

    values: Sequence[Any]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"{len(self.values)} samples have no standard error: give at least two")


@dataclass(frozen=True)
class Over:
    r"""A finite set: what an index runs over (key of the index, ``"i"``), or a set by name (``"S"`` in ``x \in S``)."""

    items: Sequence[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", list(self.items))


@dataclass(frozen=True)
class Interval:
    """The domain ``(low, high)`` of a variable of an integral that is printed without limits."""

    low: Any
    high: Any
    points: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Optimum:
    r"""Where a maximum or minimum over the key's name is attained.

    ``\max_x F`` is then F at ``at``, after F was seen to be no larger at ``rivals``: values to try, or a function of
    a NumPy generator that returns one. Numbers and matrices need none: points around ``at`` are tried, near and far. A
    rival that breaks a constraint printed below the sign is passed over.
    """

    at: Any
    rivals: Callable[[Any], Any] | Sequence[Any] = ()


@dataclass(frozen=True)
class Derived:
    """A name whose value depends on other names: ``f`` of those in ``of`` (default: the names of its parameters).

    A derivative by one of them, or a mean over it, then sees the dependence.
    """

    f: Callable[..., Any]
    of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.of or tuple(inspect.signature(self.f).parameters)
        object.__setattr__(self, "of", (names,) if isinstance(names, str) else tuple(names))


@dataclass(frozen=True)
class Indexed:
    """An upper index: under ``"x^(i)"`` every ``x^{(...)}``, under ``"x^t"`` every ``x^{...}`` that holds a ``t``."""

    items: Any
    first: int = 1


@dataclass(frozen=True)
class Superscript:
    """A superscript that is an operation: ``"transpose"``, ``"adjoint"``, ``"inverse"`` or a function of the base."""

    f: Callable[[Any], Any] | str

    def __post_init__(self) -> None:
        if isinstance(self.f, str) and self.f not in {"transpose", "adjoint", "inverse"}:
            raise ValueError(f"Superscript({self.f!r}): 'transpose', 'adjoint', 'inverse' or a function")


@dataclass(frozen=True)
class Operator:
    r"""An infix operator (key ``r"\odot"``), or brackets (``r"\langle\rangle"``, ``r"\{\}"``, ``"[]"``, ``"||"``).

    ``binds`` says how tightly an infix one does: like a ``"product"`` or like a ``"sum"``. It takes its operands from
    the left: ``a ⊙ b ⊙ c`` is ``(a ⊙ b) ⊙ c``.
    """

    f: Callable[..., Any]
    binds: str = "product"

    def __post_init__(self) -> None:
        if self.binds not in {"product", "sum"}:
            raise ValueError(f"binds={self.binds!r}: an operator binds like a 'product' or like a 'sum'")


@dataclass(frozen=True)
class Means:
    """A letter that stands for a notation: ``"expectation"``, ``"probability"``, ``"variance"``, ``"covariance"``.

    Under the key ``"nabla^2"``: ``"hessian"`` or ``"laplacian"``.
    """

    what: str

    def __post_init__(self) -> None:
        known = {"expectation", "probability", "variance", "covariance", "hessian", "laplacian"}
        if self.what not in known:
            raise ValueError(f"Means({self.what!r}): one of {', '.join(sorted(known))}")


@dataclass(frozen=True)
class By:
    r"""The variable of a gradient that is printed without one: ``{"nabla": By("x")}`` for ``\nabla f``."""

    name: str


Declaration = (
    Law | Density | Samples | Over | Interval | Optimum | Derived | Indexed | Superscript | Operator | Means | By
)
DECLARATIONS = (Law, Density, Samples, Over, Interval, Optimum, Derived, Indexed, Superscript, Operator, Means, By)


def is_declaration(value: Any) -> bool:
    """True for an object of this module, which is no value by itself."""
    return isinstance(value, DECLARATIONS)


def plain_values(where: Mapping[str, Any]) -> dict[str, Any]:
    """Those entries of ``where`` that are values or functions, not declarations."""
    return {k: v for k, v in where.items() if not is_declaration(v)}
