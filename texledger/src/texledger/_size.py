"""How large the terms are that a formula adds: rounding errors are measured by them, not by what is left of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mpmath as mp

from texledger._arithmetic import Arithmetic, is_matrix, magnitude
from texledger._tree import Node

BOUNDED = frozenset({"sin", "cos", "tan", "tanh", "sinh", "arctan", "arcsin"})
WHOLE = frozenset(
    {"expect", "each", "grad", "hessian", "laplacian", "divergence", "integral", "prod"}
)  # every term counts
TERMS = 64  # of a sum that are looked at


def size(node: Node, arithmetic: Arithmetic, env: Mapping[str, Any]) -> Any:
    """The largest term that is added on the way to the value of ``node``, carried through products and powers.

    ``x - x`` has the size of x though its value is 0; ``e^{-100}`` has only its own, tiny size.
    """
    try:
        found = _size(node, arithmetic, env)
    except (ValueError, TypeError, ArithmeticError, IndexError, AttributeError):
        return mp.mpf(0)
    return found if mp.isfinite(found) else mp.mpf(0)


def _size(node: Node, arithmetic: Arithmetic, env: Mapping[str, Any]) -> Any:
    op, args = node.op, node.args
    inner = lambda child, more=None: _size(child, arithmetic, {**env, **more} if more else env)
    value = lambda child: arithmetic.evaluate(child, env)
    match op:
        case "add":
            return max(inner(term) for term in args)
        case "neg" | "transpose" | "adjoint" | "norm":
            return inner(args[0])
        case "mul":
            total = mp.mpf(1)
            for factor in args:
                total *= inner(factor)
            return total
        case "div":
            below = magnitude(value(args[1]))
            return inner(args[0]) / below
        case "pow":
            base, power = value(args[0]), value(args[1])
            if is_matrix(base) or is_matrix(power) or mp.im(power) != 0 or mp.re(power) <= 0:
                return magnitude(value(node))
            return inner(args[0]) ** mp.re(power)
        case "sum":
            low, high = value(args[2]), value(args[3])
            last = min(high, low + TERMS)
            terms = [inner(args[0], {args[1]: mp.mpf(k)}) for k in range(int(low), int(last) + 1)]
            return max(terms, default=mp.mpf(0))
        case "at":
            return inner(args[0], {args[1]: value(args[2])})
        case "diff":
            at, _ = arithmetic.variable(args[1], env)  # an entry, as S_k, has its value by its list alone
            body = inner(args[0]) / max(mp.mpf(1), magnitude(at))
            return max(magnitude(value(node)), body)
        case "int":
            low, high = value(args[2]), value(args[3])
            if mp.isinf(low) or mp.isinf(high):
                return magnitude(value(node))
            places = [low + (high - low) * (2 * k + 1) / 16 for k in range(8)]
            return abs(high - low) * max(inner(args[0], {args[1]: x}) for x in places)
        case "lim":
            target = value(args[2])
            near = mp.mpf(8) if mp.isinf(target) else target + mp.mpf(1) / 8
            return max(magnitude(value(node)), inner(args[0], {args[1]: near}))
        case "call":
            return _call(node, args[0], args[1:], inner, value)
    if op in WHOLE:
        arithmetic.reset()
        return max(magnitude(value(node)), arithmetic.largest)
    return magnitude(value(node))


def _call(node: Node, name: str, args: tuple[Any, ...], inner: Any, value: Any) -> Any:
    if name in {"tr", "Tr", "abs", "adj", "diag"} and len(args) == 1 and not is_matrix_abs(name, value(args[0])):
        return inner(args[0])
    if name in {"inner", "dot"}:
        return inner(args[0]) * inner(args[-1])
    if name in {"log", "ln"} and not is_matrix(value(args[0])):
        return max(magnitude(value(node)), mp.mpf(1))  # an error of the argument, relative to it, is one of the value
    if name in BOUNDED and not is_matrix(value(args[0])):
        return max(magnitude(value(node)), min(mp.mpf(1), inner(args[0])))
    if name == "sqrt":
        return mp.sqrt(inner(args[0]))
    if name == "det":
        matrix = value(args[0])
        return inner(args[0]) ** matrix.rows
    return magnitude(value(node))


def is_matrix_abs(name: str, x: Any) -> bool:
    """True for bars around a matrix, which mean its determinant."""
    return name == "abs" and is_matrix(x)
