"""The checker is checked: damage to the ledger's own source must change what becomes of one of the probes below.

A probe is a small check with its right fate. Each patch takes a rule out of the source; if every probe still has its
right fate, nothing tests the rule.
"""

from __future__ import annotations

import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from texledger import (
    CheckFailed,
    Draw,
    Entry,
    Law,
    Ledger,
    LedgerError,
    Samples,
    _claim,
    _draw,
    _entry,
    _hold,
    _ledger,
    _mutants,
    _reading,
    _refuted,
    _size,
    _watch,
    _weak,
)


def fate(check: Callable[[Ledger], Any], shows: Callable[[Entry], Any] = lambda e: e.strength) -> Any:
    """What becomes of a check: what the entry shows, or the kind of error."""
    try:
        return shows(check(Ledger("p")))
    except (CheckFailed, LedgerError) as error:
        return type(error).__name__
    except Exception as error:
        return f"raw {type(error).__name__}"


def numeric(tex: str, where: Any = None, **options: Any) -> Callable[[Ledger], Entry]:
    return lambda ledger: ledger.numeric("p:a", tex, where or two, **options)


def two(draw: Draw) -> dict:
    return {"x": draw.real(1, 2), "y": draw.real(1, 2)}


def square(draw: Draw) -> dict:
    n = draw.turn(2, 3)
    return {"A": draw.matrix(n), "B": draw.matrix(n)}


def small(draw: Draw) -> dict:
    return {"x": draw.real(0.01, 0.02)}


def close(draw: Draw) -> dict:
    x = draw.real(1.1, 2)
    return {"x": x, "y": x * draw.turn(mp.mpf("1.001"), mp.mpf("1.3"))}


def bounded(more: str) -> Callable[[Draw], dict]:
    """Values of which z is the product of the others and this share more in two draws, much more in the third."""

    def where(draw: Draw) -> dict:
        x, y = draw.real(1.1, 2), draw.real(1.1, 2)
        return {"x": x, "y": y, "z": x * y * (1 + mp.mpf(more) if draw.number < 2 else 1.3)}

    return where


def shifted(by: float) -> Callable[..., np.ndarray]:
    """Samples of mean ``1 + by`` standard errors, by construction."""

    def samples(n: int) -> np.ndarray:
        values = np.tile([-1.0, 1.0], n // 2)
        return 1 + values + by * values.std(ddof=1) / n**0.5

    return samples


def mean(by: float, **options: Any) -> Callable[[Ledger], Entry]:
    excuse = {r"\mathbb{E} x": "the law is that of the code"}
    return lambda ledger: ledger.statistical(
        "p:a", r"\mathbb{E} x = 1", {}, samples=shifted(by), n=10_000, unread=excuse, **options
    )


def names(entry: Entry) -> set[str]:
    return {name for name, _ in entry.mutants}


def stale(entry: Entry) -> bool:
    return "has no value" in " ".join(entry.ill_formed.values())


def stale_shape(entry: Entry) -> bool:
    return "has another shape than the other side" in entry.ill_formed.values()


def twice(ledger: Ledger, second: str) -> Entry:
    for tex in (r"2 x = x + x", second):
        made = ledger.numeric("p:a", tex, two)
    return made


def cube(x: Any) -> Any:
    return x**3


def on_the_way(x: Any) -> Any:
    return cube(x)


sizes = iter(range(2, 10**6))
X = sp.Symbol("x")
BOTH, ONE, QUOTED, FAILED, REFUSED = "both sides", "one side", "quoted", "CheckFailed", "LedgerError"

PROBES: dict[str, tuple[Callable[[], Any], Any]] = {
    "an identity": (lambda: fate(numeric(r"(x + y)^2 = x^2 + 2 x y + y^2")), BOTH),
    "a false one": (lambda: fate(numeric(r"(x + y)^2 = x^2 + 3 x y + y^2")), FAILED),
    "false by little": (
        lambda: fate(
            numeric(
                r"x = y",
                computed={},
                where=lambda d: (lambda x: {"x": x, "y": x * (1 + mp.mpf("1e-18"))})(d.real(1, 2)),
            )
        ),
        FAILED,
    ),
    "false in one draw": (
        lambda: fate(numeric(r"x = y", where=lambda d: (lambda x: {"x": x, "y": x + (d.number == 2)})(d.real(1, 2)))),
        FAILED,
    ),
    "true up to rounding": (lambda: fate(numeric(r"\sqrt{x}^2 = x")), BOTH),
    "tiny is not zero": (lambda: fate(numeric(r"e^{-100 - x} = 0")), FAILED),
    "cancelling terms": (lambda: fate(numeric(r"\sqrt{x}^2 - x + (\sqrt{y}^2 - y) = 0")), BOTH),
    "cancelling factors": (lambda: fate(numeric(r"(x - \sqrt{x}^2)\, 10^6 = 0")), BOTH),
    "shapes": (
        lambda: fate(numeric(r"A = x", where=lambda d: {"A": mp.eye(1), "x": d.real(1, 1)}, weak="why")),
        FAILED,
    ),
    "not a number": (lambda: fate(numeric(r"x = y", where={"x": mp.nan, "y": mp.nan}, weak="why")), FAILED),
    "<": (lambda: fate(numeric(r"\sin x < x", where=small)), BOTH),
    "< is strict": (lambda: fate(numeric(r"x < \sqrt{x}^2")), FAILED),
    "<= at the bound": (lambda: fate(numeric(r"x y \le \frac{x^2 + y^2}{2}", where=close)), BOTH),
    "> is not <": (lambda: fate(numeric(r"x > x + \frac{1}{1000}")), FAILED),
    ">= is not <=": (lambda: fate(numeric(r"x \ge x + \frac{1}{1000}")), FAILED),
    "!=": (lambda: fate(numeric(r"x \ne x + 1")), BOTH),
    "!= by little": (lambda: fate(numeric(r"x \ne x + 10^{-9}")), FAILED),
    "a loose bound": (lambda: fate(numeric(r"x \le 2 x")), FAILED),
    "a bound at two per cent": (lambda: fate(numeric(r"x \le 1.02 x")), FAILED),
    "a loose bound said to be": (
        lambda: fate(
            numeric(r"x \le 2 x", loose="why"),
            lambda e: ("the bound one per cent tighter" in e.undecided, len(e.weaker) > 0),
        ),
        (True, True),
    ),
    "loose without need": (lambda: fate(numeric(r"x y \le \frac{x^2 + y^2}{2}", where=close, loose="why")), REFUSED),
    "the bound up to rounding": (lambda: fate(numeric(r"x y \le z", where=bounded("-1e-30"))), BOTH),
    "a strict bound up to rounding": (lambda: fate(numeric(r"x y < z", where=bounded("1e-30"))), FAILED),
    "at two per cent": (lambda: fate(numeric(r"x y \le z", where=bounded("0.02"))), FAILED),
    "at half a per cent": (lambda: fate(numeric(r"x y \le z", where=bounded("0.005"))), BOTH),
    "not near zero": (lambda: fate(numeric(r"x > 0", where=lambda d: {"x": d.real(0.3, 0.9)})), FAILED),
    "near zero": (lambda: fate(numeric(r"x > 0", where=lambda d: {"x": d.real(0.3, 0.9) ** d.turn(1, 20)})), BOTH),
    "infinite": (lambda: _claim.Near(mp.mpf("1e-20")).equal(mp.inf, -mp.inf, lambda: mp.mpf(0), 0), False),
    "one entry of a matrix": (
        lambda: fate(
            lambda L: L.exact(
                "p:a", "A = B", lambda d: (lambda M: {"A": M, "B": M + sp.Matrix(3, 3, [0] * 8 + [1])})(d.matrix(3))
            )
        ),
        FAILED,
    ),
    "another shape": (
        lambda: fate(
            numeric(
                r"A v = w", where=lambda d: {"A": d.matrix(3), "v": d.matrix(3, 1)}, computed={"w": lambda A, v: A * v}
            ),
            stale_shape,
        ),
        True,
    ),
    "samples": (
        lambda: fate(lambda L: L.statistical("p:a", r"\mathbb{E}[x] = 1", {"x": Samples(list(shifted(3.9)(100)))})),
        BOTH,
    ),
    "samples at 6 errors": (
        lambda: fate(lambda L: L.statistical("p:a", r"\mathbb{E}[x] = 1", {"x": Samples(list(shifted(6)(100)))})),
        FAILED,
    ),
    "an excuse for other words": (lambda: fate(numeric(r"2 x = x + x", unread={r"\text{for all } y": "why"})), REFUSED),
    "a mutant of a bound that says more at a loose draw": (
        lambda: fate(numeric(r"x y \le \frac{x^2 + y^2}{2} + \frac{(x - y)^4}{10^9}", where=close)),
        FAILED,
    ),
    "a bound against zero": (lambda: fate(numeric(r"x > 0")), FAILED),
    "a bound turned": (
        lambda: fate(
            numeric(r"x y \le \frac{x^2 + y^2}{2}", where=close), lambda e: "the bound one per cent tighter" in names(e)
        ),
        True,
    ),
    "a false mutant of a bound": (
        lambda: fate(
            numeric(r"x y \le \frac{x^2 + y^2}{2}", where=close, mutants={"m": r"\frac{x y}{2}"}),
            lambda e: ("m", True) in e.mutants,
        ),
        True,
    ),
    "a true mutant of a bound": (
        lambda: fate(numeric(r"x y \le \frac{x^2 + y^2}{2}", where=close, mutants={"m": r"1000 x^2"})),
        FAILED,
    ),
    "a true named mutant": (
        lambda: fate(numeric(r"x + y = y + x + 0 x", mutants={"m": r"y + x"}, also_true={"0 → 1": "?"})),
        REFUSED,
    ),
    "a named mutant that is true": (lambda: fate(numeric(r"2 x = x + x", mutants={"m": r"3 x - x"})), FAILED),
    "a named mutant that raises": (lambda: fate(numeric(r"2 x = x + x", mutants={"m": lambda x: x.nonsense})), FAILED),
    "a named mutant, taken name": (lambda: fate(numeric(r"2 x = x + x", mutants={"sign of x": r"x - x"})), REFUSED),
    "vacuous": (lambda: fate(numeric(r"0 x = 0 y", weak="why")), FAILED),
    "a sign that cannot matter": (lambda: fate(numeric(r"\cosh^2 x - \sinh^2 x = 1")), FAILED),
    "excused": (
        lambda: fate(
            numeric(
                r"\cosh^2 x - \sinh^2 x = 1", also_true={"cosh of −(x)": "even", "sinh of −(x)": "its square is even"}
            )
        ),
        BOTH,
    ),
    "excused without need": (lambda: fate(numeric(r"2 x = x + x", also_true={"sign of x": "?"})), REFUSED),
    "ill-formed mutants are counted": (
        lambda: fate(
            numeric(
                r"\operatorname{tr}(A + x I) = \operatorname{tr} A + 2 x",
                where=lambda d: {"A": d.matrix(2), "x": d.real(1, 2)},
                weak="why",
            ),
            stale,
        ),
        True,
    ),
    "a function that is constant": (
        lambda: fate(
            numeric(
                r"W(x, y) = 1 + 0 x", where=lambda d: {**two(d), "W": lambda x, y: mp.mpf(1)}, also_true={"0 → 1": "?"}
            )
        ),
        REFUSED,
    ),
    "constant in its arguments": (
        lambda: fate(
            numeric(
                r"W(x, y) = c",
                where=lambda d: {**two(d), "W": lambda x, y: mp.mpf(3), "c": mp.mpf(3)},
                also_true={f"W of −({v})": "?" for v in "xy"},
            )
        ),
        FAILED,
    ),
    "only by shape": (
        lambda: fate(
            lambda L: L._store(
                Entry("p:a", "numeric", "a", BOTH, True, "", mutants=(("m", True),), ill_formed={"m": "?"})
            )
        ),
        FAILED,
    ),
    "a failed entry": (
        lambda: fate(lambda L: L._store(Entry("p:a", "numeric", "a", BOTH, False, "", mutants=(("m", True),)))),
        FAILED,
    ),
    "no mutants": (lambda: fate(lambda L: L._store(Entry("p:a", "numeric", "a", BOTH, True, ""))), FAILED),
    "another strength": (
        lambda: fate(lambda L: L._store(Entry("p:a", "numeric", "a", "all", True, "", mutants=(("m", True),)))),
        FAILED,
    ),
    "a tautology": (lambda: fate(numeric(r"x - x = 0")), REFUSED),
    "a tautology in order": (lambda: fate(numeric(r"x + y = y + x")), REFUSED),
    "weak without need": (lambda: fate(numeric(r"2 x = x + x", weak="why")), REFUSED),
    "one fixed value": (lambda: fate(numeric(r"x y = x + y", where={"x": 2, "y": 2})), REFUSED),
    "one fixed value, drawn": (lambda: fate(numeric(r"x y = x + y", where=lambda d: {"x": 2, "y": 2})), REFUSED),
    "one draw": (lambda: fate(numeric(r"2 x = x + x", draws=1)), BOTH),
    "order 2": (lambda: fate(numeric(r"\det(2 A) = 4 \det A", where=lambda d: {"A": d.matrix(2)})), REFUSED),
    "symmetric": (
        lambda: fate(
            numeric(r"A^{\top} A = A A", where=lambda d: (lambda M: {"A": M + M.T})(d.matrix(3)), also_true={})
        ),
        REFUSED,
    ),
    "commuting": (
        lambda: fate(numeric(r"A B = B A", where=lambda d: (lambda M: {"A": M, "B": M * M})(d.matrix(3)))),
        REFUSED,
    ),
    "one call twice": (
        lambda: fate(numeric(r"\iint f = g", lhs=lambda x: cube(x), rhs=lambda x: cube(x) + 0, unread="why")),
        REFUSED,
    ),
    "one call in where": (
        lambda: fate(
            numeric(r"c = x^3", where=lambda d: (lambda x: {"x": x, "c": cube(x)})(d.real(1, 2)), lhs=lambda x: cube(x))
        ),
        REFUSED,
    ),
    "order of cells": (
        lambda: fate(
            numeric(
                r"\operatorname{tr} A = \operatorname{tr} A^{\top}",
                where=lambda d: {"A": d.matrix(2 + next(sizes) % 2)},
            )
        ),
        REFUSED,
    ),
    "a condition": (lambda: fate(numeric(r"|x| = x \qquad (x > 0)", where=lambda d: {"x": d.real()}, draws=4)), BOTH),
    "a condition that is broken": (lambda: fate(numeric(r"x^2 = |x|^2 \qquad (x < 0)")), REFUSED),
    "a condition in words": (lambda: fate(numeric(r"2 x = x + x \qquad \text{for all } x")), REFUSED),
    "excused words": (
        lambda: fate(
            numeric(r"2 x = x + x \qquad \text{for all } x", unread={r"\text{for all } x": "x is drawn"}),
            lambda e: (e.strength, len(e.unread)),
        ),
        (BOTH, 1),
    ),
    "a chain": (lambda: fate(numeric(r"2 x = 3 x = x + x")), FAILED),
    "a second statement": (lambda: fate(numeric(r"2 x = x + x, \qquad y = 3 x")), FAILED),
    "an unread side": (lambda: fate(numeric(r"Q = x + x", lhs=lambda x: 2 * x)), REFUSED),
    "an excused side": (lambda: fate(numeric(r"Q = x + x", lhs=lambda x: 2 * x, unread={"Q": "a name"})), ONE),
    "an excused side without a computation": (lambda: fate(numeric(r"Q = x + x", unread={"Q": "a name"})), REFUSED),
    "a side beside code": (lambda: fate(numeric(r"2 x = x + x", lhs=lambda x: 3 * x)), FAILED),
    "a last side beside code": (lambda: fate(numeric(r"2 x = x + x", rhs=lambda x: 3 * x)), FAILED),
    "a dropped statement": (lambda: fate(numeric(r"2 x = x + x, \qquad z = 3 x", unread={"z = 3 x": "why"})), ONE),
    "an excused middle": (lambda: fate(numeric(r"2 x = Q = x + y", unread={"Q": "why"})), FAILED),
    "all quoted": (
        lambda: fate(numeric(r"\iint f = g", lhs=lambda x: 2 * x, rhs=lambda x: x + x, unread="why")),
        QUOTED,
    ),
    "quoted and false": (
        lambda: fate(numeric(r"\iint f = g", lhs=lambda x: 2 * x, rhs=lambda x: x, unread="why")),
        FAILED,
    ),
    "an excuse for nothing": (lambda: fate(numeric(r"2 x = x + x", unread={"3 x": "why"})), REFUSED),
    "an excuse without a reason": (
        lambda: fate(numeric(r"Q = x + x", lhs=lambda x: 2 * x, unread={"Q": " "})),
        REFUSED,
    ),
    "a computed name": (lambda: fate(numeric(r"Q = x + x", computed={"Q": lambda x: 2 * x})), BOTH),
    "a computed name that is not there": (
        lambda: fate(numeric(r"2 x = x + x", computed={"Q": lambda x: 2 * x})),
        REFUSED,
    ),
    "a code that ran": (
        lambda: fate(numeric(r"Q = x^3", computed={"Q": on_the_way}, code=cube), lambda e: len(e.functions)),
        1,
    ),
    "a code that did not": (lambda: fate(numeric(r"2 x = x + x", code=cube), lambda e: len(e.functions)), 0),
    "a mean": (lambda: fate(mean(3.9)), ONE),
    "a mean at 4.1 errors": (lambda: fate(mean(4.1)), FAILED),
    "a mean at 6 errors": (lambda: fate(mean(6.0)), FAILED),
    "a mean without spread": (
        lambda: fate(
            lambda L: L.statistical(
                "p:a", r"\mathbb{E} x = 1", {}, samples=np.ones, n=10, unread={r"\mathbb{E} x": "why"}
            )
        ),
        "LedgerError",
    ),
    "a mean of another law": (
        lambda: fate(
            lambda L: L.statistical(
                "p:a", r"\mathbb{E}[x] = \frac{11}{10}", {"x": Law.uniform([0, 2])}, samples=shifted(0), n=100
            )
        ),
        FAILED,
    ),
    "symbols": (lambda: fate(lambda L: L.symbolic("p:a", r"(x + 1)^2 = x^2 + 2 x + 1", {"x": X})), BOTH),
    "symbols, even": (lambda: fate(lambda L: L.symbolic("p:a", r"\cosh^2 x - \sinh^2 x = 1", {"x": X})), FAILED),
    "exact": (
        lambda: fate(
            lambda L: L.exact("p:a", r"\sum_{k=1}^{n} k = \frac{n (n + 1)}{2}", lambda d: {"n": d.integer(3, 9)})
        ),
        BOTH,
    ),
    "a refutation": (
        lambda: fate(
            lambda L: L.refutation(
                "p:a", r"x = 2 x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x", sides=(3, 6)
            )
        ),
        BOTH,
    ),
    "a refutation that does not say what the sides are": (
        lambda: fate(
            lambda L: L.refutation("p:a", r"x = 2 x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x")
        ),
        QUOTED,
    ),
    "a misprint of what is refuted": (
        lambda: fate(
            lambda L: L.refutation(
                "p:a", r"x = 2 + x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x", sides=(3, 6)
            )
        ),
        FAILED,
    ),
    "a refuted side that is rounded otherwise": (
        lambda: fate(
            lambda L: L.refutation(
                "p:a",
                r"x = \frac{1}{x}",
                {"x": 3},
                source="s",
                counterexample="c",
                holds="2 x = x + x",
                sides=(3, "0.34"),
            )
        ),
        FAILED,
    ),
    "a slip that the counterexample does not see": (
        lambda: fate(
            lambda L: L.refutation(
                "p:a",
                r"y = x^2 + y",
                {"x": 1, "y": 2},
                source="s",
                counterexample="c",
                holds="2 y = y + y",
                sides=(2, "3"),
            ),
            lambda e: [*e.undecided, *(n for n, _ in e.mutants if n.startswith("stated"))][:3],
        ),
        ["stated with x^2 with the exponent's sign changed", "stated with 2 → 3", "stated with −(y)"],
    ),
    "a bound is refuted": (
        lambda: fate(
            lambda L: L.refutation(
                "p:a", r"2 x \le x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x", sides=(6, 3)
            )
        ),
        BOTH,
    ),
    "a bound that holds is not": (
        lambda: fate(
            lambda L: L.refutation("p:a", r"x \le 2 x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x")
        ),
        FAILED,
    ),
    "a bound that holds with little to spare is not": (
        lambda: fate(
            lambda L: L.refutation("p:a", r"x \ge x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x")
        ),
        FAILED,
    ),
    "a table of distances is no matrix": (
        lambda: fate(
            numeric(
                r"d_{12} + d_{21} = 2 d_{12}",
                where=lambda d: (lambda M: {"d": M + M.T})(d.matrix(2)),
            )
        ),
        BOTH,
    ),
    "what is true is not refuted": (
        lambda: fate(
            lambda L: L.refutation("p:a", r"2 x = x + x", {"x": 3}, source="s", counterexample="c", holds="2 x = x + x")
        ),
        FAILED,
    ),
    "what holds instead must": (
        lambda: fate(
            lambda L: L.refutation("p:a", r"x = 2 x", {"x": 3}, source="s", counterexample="c", holds="3 x = x + x")
        ),
        FAILED,
    ),
    "one label, one equation": (lambda: fate(lambda L: twice(L, r"3 x = x + x + x")), REFUSED),
    "a cell runs twice": (lambda: fate(lambda L: twice(L, r"2 x = x + x")), BOTH),
    "mutants of everything": (
        lambda: fate(
            numeric(
                r"Q = \frac{x^{3} - 2 y}{y}\, \operatorname{tr}(A B^{\top})",
                where=lambda d: {**two(d), **square(d)},
                computed={"Q": lambda x, y, A, B: (x**3 - 2 * y) / y * sum((A * B.T)[i, i] for i in range(A.rows))},
            ),
            lambda e: (
                {
                    "2 → 3",
                    "3 → 4",
                    "sign of x^3",
                    "2·(x^3)",
                    "without x^3",
                    "sign of -(2·y)",
                    "without the factor y",
                    "x^3 with the exponent's sign changed",
                    "without the denominator y",
                    "(x^3 - (2·y))/y upside down",
                    "tr of −(A·Bᵀ)",
                    "B without its transpose",
                    "−(Q)",
                    "2·(Q)",
                }
                - names(e)
            ),
        ),
        set(),
    ),
    "ranges of an index": (
        lambda: fate(
            numeric(r"2 x_1 = x_1 + x_1", where=lambda d: {"x": [d.real(), d.real()]}, weak=None), lambda e: e.drawn
        ),
        "3 draws: x of length 2",
    ),
    "ranges": (lambda: fate(numeric(r"2 x = x + x"), lambda e: e.drawn), "3 draws: x in [1, 2]"),
}


PATCHES: list[tuple[Any, str, str]] = [
    (_claim.Near.equal, "self.errors * error", "2 * self.errors * error"),
    (_claim.Near.equal, "or mp.isinf(gap)", ""),
    (
        _claim.Near.equal,
        "self.tol * max(magnitude(a), magnitude(b), self.scale)",
        "self.tol * max(1, magnitude(a), magnitude(b))",
    ),
    (_claim.Near.equal, "or gap <= self.tol * size()", ""),
    (_claim.Near.equal, "near = gap <= self.tol", "near = gap <= 1000 * self.tol"),
    (_claim.Sampled.equal, "self.errors * standard", "2 * self.errors * standard"),
    (_claim.holds, 'and not (comparison.sign in "<>" and equal)', ""),
    (_claim.holds, 'or (equal and comparison.sign in {"<=", ">="})', ""),
    (_claim.holds, "a, b = b, a", "pass"),
    (_weak.names, "found[key] = None", "found[word] = None"),
    (_draw.Draw.turn, "self.number % len(choices)", "0"),
    (_claim.holds, 'equal == (comparison.sign == "=")', "equal"),
    (_claim.seen_to_fail, 'raise Structural("has another shape than the other side")', "return False"),
    (_claim.structural, "return None", "return 'has no value'"),
    (_claim.witness, "return True\n    return False", "return True\n    return True"),
    (_claim.simplifies, "all(", "any("),
    (_hold.Trial.check, "gap > DIFFERENT", "gap >= 0"),
    (
        _hold.Trial.check,
        "if not self._holds(number, comparison, values):",
        "if number == 1 and not self._holds(number, comparison, values):",
    ),
    (_hold.Trial.damage, "for name, side in named.items():", "for name, side in {}.items():"),
    (_hold.Trial.damage, "if name in outcome.mutants or", "if False and"),
    (_hold.Trial.damage, 'if comparison.sign != "=":', "if False:"),
    (_hold.Trial.damage, "for name, what in exchanged(part.what) if part.read else ():", "for name, what in ():"),
    (_hold.Trial._signs, "if closest < TIGHTER:", "if closest < 3 * TIGHTER:"),
    (_hold.Trial._signs, "elif self.loose:", "elif True:"),
    (_hold.Trial._record, 'if fate == "alive" and not named:', 'if fate == "alive":'),
    (_hold.Trial._record, 'dead = fate in {"value", "ill-formed"}', "dead = True"),
    (_hold.Trial._record, "outcome.ill_formed[name] = why", "pass"),
    (_hold.Trial._standing, "looser, tighter = looser or grows == upper, tighter or grows != upper", "looser = True"),
    (_hold.Trial._copies, "if part.read:", "if False:"),
    (_hold.Trial.tightness_needed, "return any(", "return bool(bounds) or any("),
    (_hold.Trial._slack, "scale = max(abs(x)", "scale = 1000 * max(abs(x)"),
    (_mutants._here, 'yield f"{args[0]} → {raised}", Node("num", (raised,))', "pass"),
    (_mutants._here, 'yield f"sign of {show(term)}", _with(node, i, _negated(term))', "pass"),
    (_mutants._here, 'yield f"2·({show(term)})", _with(node, i, _twice(term))', "pass"),
    (_mutants._here, 'yield f"without {show(term)}", _without(node, i)', "pass"),
    (_mutants._here, 'yield f"without the factor {show(factor)}", _without(node, i)', "pass"),
    (_mutants._here, 'yield f"{show(node)} upside down", Node("div", (args[1], args[0]))', "pass"),
    (_mutants._here, 'yield f"without the denominator {show(args[1])}", args[0]', "pass"),
    (
        _mutants._here,
        'yield f"{show(node)} with the exponent\'s sign changed", Node("pow", (args[0], _negated(args[1])))',
        "pass",
    ),
    (_mutants._here, 'yield f"{args[0]} of −({show(value)})", _with(node, i, _negated(value))', "pass"),
    (_mutants._here, 'yield f"{show(args[0])} without its {op}", args[0]', "pass"),
    (_mutants.mutants, "whole = [] if against_zero else", "whole = [] if True else"),
    (_weak.weaknesses, "reduced(c.left.what) == reduced(c.right.what)", "c.left.what == c.right.what"),
    (_weak.weaknesses, "_all_constant(numbers)", "False"),
    (_weak.weaknesses, 'if both := watch.common("left", "right"):', "if both := []:"),
    (_weak.weaknesses, "if both := [name for", "if both := [name for _ in () for"),
    (
        _weak._special_matrices,
        "found.append(f\"{listed} {'is' if len(square) == 1 else 'are'} of order 2",
        "(f\"{listed} {'is' if len(square) == 1 else 'are'} of order 2",
    ),
    (
        _weak._special_matrices,
        "found.append(f\"{listed} {'is' if len(square) == 1 else 'are'} symmetric",
        "(f\"{listed} {'is' if len(square) == 1 else 'are'} symmetric",
    ),
    (_weak._special_matrices, 'found.append(f"{listed} commute', '(f"{listed} commute'),
    (_weak.reduced, "sorted(left, key=str)", "left"),
    (_size._size, "return max(inner(term) for term in args)", "return magnitude(value(node))"),
    (_reading.Reader._compared, 'last, sign = part, "="', 'last, sign = last, "="'),
    (_reading.Reader._without_words, "if left:", "if False:"),
    (_reading.Reader.claim, 'extra.append(Comparison(code, "=", side, self.test))', "pass"),
    (_reading.Reader.claim, "and not dropped", ""),
    (_reading.Reader.claim, 'if whole and not dropped else "one side"', 'if True else "one side"'),
    (_reading.Reader.reading, "if missing := set(self.reasons) - used - words:", "if missing := set():"),
    (_ledger.Ledger._weak, "if found and weak is None:", "if False:"),
    (_ledger.Ledger._weak, "if weak and not found:", "if False:"),
    (_ledger.Ledger._try, "trial.check()", "pass"),
    (_ledger.Ledger._try, "if unknown := set(excused) - survivors:", "if unknown := set():"),
    (_ledger.Ledger._try, "if loose and not trial.tightness_needed():", "if False:"),
    (_ledger.Ledger._draws, "if guard is None or guard(env):", "if True:"),
    (_ledger.Ledger._draws, "self._repeats(label, where, draw.number, exact, env)", "pass"),
    (_ledger.Ledger._register, "if not same_tex or", "if False and not same_tex or"),
    (_ledger.Ledger._register, "not (site == self._sites.get(label) or _interactive())", "True"),
    (_ledger.Ledger._functions, "(ran if watch.ran(item) else others)", "ran"),
    (_ledger.Ledger._functions, "(ran if watch.ran(item) else others)", "others"),
    (_ledger.Ledger.refutation, "if not gap > 1e-3:", "if False:"),
    (_ledger.Ledger.refutation, "if sides is None:", "if False:"),
    (_refuted.refuse_other_sides, "if not agrees:", "if False:"),
    (_refuted.misquoted, "if same:", "if False:"),
    (_refuted._agree, "** exponent / 2", "** (exponent + 2)"),
    (_entry.Entry.problems, "if dead and dead <= set(self.ill_formed):", "if False:"),
    (_claim.failing, 'if sign == "=":', "if True:"),
    (_claim.failing, "max(mp.mpf(0), (low - high)", "abs((low - high)"),
    (_weak.weaknesses, "and (n in whole or not claim.read)", ""),
    (_entry.Entry.problems, "if not self.passed:", "if False:"),
    (_entry.Entry.problems, "elif self.strength not in STRENGTHS:", "elif False:"),
    (_entry.Entry.problems, 'if self.kind != "definition" and not self.mutants:', "if False:"),
    (_entry.Entry.problems, "for name, dead in self.mutants if not dead", "for name, dead in () if not dead"),
    (_draw.drawn, "in names if name in envs[0]", "in () if name in envs[0]"),
    (_watch.Watch._see, "self.codes.add(code)", "pass"),
]


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_has_its_right_fate(name: str) -> None:
    probe, right = PROBES[name]
    assert probe() == right


@pytest.mark.parametrize(("function", "old", "new"), PATCHES)
def test_damage_to_the_checker_is_noticed(function: Any, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    while lines[0].startswith("@"):
        lines = lines[1:]
    source = "\n".join(lines)
    assert old in source, f"{function.__qualname__} has changed: mend the patch"
    space: dict[str, Any] = {}
    patched = "from __future__ import annotations\n" + source.replace(old, new)
    exec(compile(patched, inspect.getfile(function), "exec"), function.__globals__, space)
    damaged = next(f for f in space.values() if isinstance(f, types.FunctionType))
    monkeypatch.setattr(function, "__code__", damaged.__code__)
    assert any(probe() != right for probe, right in PROBES.values()), "no probe notices"
