"""Find checks that pass for another reason than the equation: special draws, trivial identities, one call twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from texledger._arithmetic import is_matrix
from texledger._claim import Claim, is_function
from texledger._declared import is_declaration
from texledger._draw import Draw, as_array, shape, symmetric
from texledger._tree import Node, nodes
from texledger._watch import Watch


def names(trees: Sequence[Node], env: Mapping[str, Any]) -> list[str]:
    """The keys of ``env`` that the trees use, in their order."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in nodes(tree):
            for word in _words(node):
                for key in _keys(word):
                    if key in env:
                        found[key] = None
                        break
    return list(found)


def _words(node: Node) -> Iterator[str]:
    if node.op in {"sym", "call", "upper", "item", "infix", "postfix"}:
        yield str(node.args[0])
    elif node.op in {"diff", "grad", "expect", "integral", "each", "lim"}:
        for arg in node.args[1:2]:
            for word in arg if isinstance(arg, tuple) else (arg,):
                yield from word if isinstance(word, tuple) else (str(word),)


def _keys(word: str) -> Iterator[str]:
    """A name and what it may be an index or a derivative of: ``x_ij``, ``x``."""
    yield word
    yield word.rstrip("'")
    while True:
        cut = max(word.rfind("_"), word.rfind("^"))
        if cut <= 0:
            return
        word = word[:cut]
        yield word


def weaknesses(
    claim: Claim,
    envs: Sequence[Mapping[str, Any]],
    draws: Sequence[Draw],
    used: Sequence[str],
    watch: Watch,
    sides: Mapping[str, Any],
) -> list[str]:
    """What makes the check weaker than it looks; empty for a good one.

    Args:
        claim: what is stated.
        envs: the values of each draw.
        draws: the draws themselves; none if the values are given.
        used: the names that the formula uses.
        watch: what ran in the first draw.
        sides: the values of ``lhs`` and ``rhs`` there, under ``left`` and ``right``.
    """
    found = []
    for c in claim.comparisons:
        if c.left.read and c.right.read and reduced(c.left.what) == reduced(c.right.what):
            found.append(f"both sides of {c.left.what} {c.sign} {c.right.what} are the same formula")
    values = {name: [env[name] for env in envs] for name in used}
    numbers = {name: v for name, v in values.items() if _is_number(v[0])}
    free = any(_is_free(v[0]) for v in values.values())
    drawn = any(d.used for d in draws)
    if numbers and not (drawn and (free or len(envs) == 1)) and not _symbols(values) and _all_constant(numbers):
        shown = ", ".join(numbers)
        found.append(f"it is tried at one fixed value of {shown} only: let `where` be a function of a draw")
    whole = {word for tree in claim.trees() for node in nodes(tree) for word in _words(node)}  # not by its entries only
    found += _special_matrices({n: v for n, v in numbers.items() if is_matrix(v[0]) and (n in whole or not claim.read)})
    says = {"left": "`lhs`", "right": "`rhs`"}
    if both := watch.common("left", "right"):
        found.append(f"`lhs` and `rhs` come from the same call of {', '.join(sorted(both))}")
    for side, value in sides.items():  # a value of `where` that is the side itself, by the same function
        if both := [name for name, result in watch.common("where", side).items() if same_value(result, value)]:
            found.append(f"a value of `where` and {says[side]} come from the same call of {', '.join(sorted(both))}")
    return found


def _is_number(x: Any) -> bool:
    if is_declaration(x) or is_function(x) or isinstance(x, str | bool) or x is None:
        return False
    if isinstance(x, sp.Basic | sp.MatrixBase):
        return not x.free_symbols and not x.atoms(sp.core.function.AppliedUndef)
    return True


def _is_free(x: Any) -> bool:
    return is_function(x) or is_declaration(x)


def _symbols(values: Mapping[str, Sequence[Any]]) -> bool:
    return any(isinstance(v[0], sp.Basic | sp.MatrixBase) and not _is_number(v[0]) for v in values.values())


def _all_constant(numbers: Mapping[str, Sequence[Any]]) -> bool:
    return all(_constant(v) for v in numbers.values())


def _constant(values: Sequence[Any]) -> bool:
    return all(same_value(values[0], v) for v in values[1:])


def same_value(a: Any, b: Any) -> bool:
    """True if two values of ``where`` are equal; functions and declarations cannot be told apart."""
    if is_function(a) or is_declaration(a) or is_function(b) or is_declaration(b):
        return True
    if type(a) is not type(b):
        return False
    if is_matrix(a):
        return shape(a) == shape(b) and (a.tolist() == b.tolist() if hasattr(a, "tolist") else list(a) == list(b))
    if isinstance(a, np.ndarray) or hasattr(a, "detach"):
        return tuple(a.shape) == tuple(b.shape) and bool((a == b).all())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same_value(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float | complex | str | mp.mpf | mp.mpc | sp.Basic):
        return bool(a == b) or (a != a and b != b)
    return True


def _special_matrices(matrices: Mapping[str, Sequence[Any]]) -> list[str]:
    square = {n: v for n, v in matrices.items() if all(shape(x)[0] == shape(x)[1] > 1 for x in v)}
    if not square:
        return []
    listed = ", ".join(square)
    found = []
    if all(shape(x)[0] == 2 for v in square.values() for x in v):
        found.append(f"{listed} {'is' if len(square) == 1 else 'are'} of order 2 in every draw: draw orders 2, 3 and 4")
    arrays = {n: [as_array(x) for x in v] for n, v in square.items()}
    if "I" in arrays and all(np.array_equal(x, np.eye(len(x))) for x in arrays["I"]):
        del square["I"], arrays["I"]  # the identity has to be symmetric, and to commute
        listed = ", ".join(square)
    if square and all(symmetric(x) for v in square.values() for x in v):
        found.append(f"{listed} {'is' if len(square) == 1 else 'are'} symmetric in every draw")
    together = [[v[k] for v in arrays.values()] for k in range(len(next(iter(arrays.values()), ())))]
    pairs = [(a, b) for draw in together for i, a in enumerate(draw) for b in draw[:i] if a.shape == b.shape]
    if pairs and all(_commute(a, b) for a, b in pairs):
        found.append(f"{listed} commute in every draw")
    return found


def _commute(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(abs(a @ b - b @ a).max() <= 1e-12 * (1e-300 + abs(a).max() * abs(b).max()))


def reduced(node: Any) -> Any:
    """A tree without what cancels by writing alone: ``a - a``, ``x/x``, double signs, the order of terms."""
    if isinstance(node, tuple):
        return tuple(reduced(x) for x in node)
    if not isinstance(node, Node):
        return node
    args = tuple(reduced(x) for x in node.args)
    zero, one = Node("num", ("0",)), Node("num", ("1",))
    if node.op == "neg" and args[0].op == "neg":
        return args[0].args[0]
    if node.op == "neg" and args[0] == zero:
        return zero
    if node.op == "div" and args[0] == args[1]:
        return one
    if node.op == "div" and args[1] == one:
        return args[0]
    if node.op == "mul":
        args = tuple(a for a in args if a != one)
        if zero in args:
            return zero
        if len(args) < 2:
            return args[0] if args else one
        return Node("mul", args)
    if node.op == "add":
        left: list[Node] = []
        for term in args:
            for piece in term.args if term.op == "add" else (term,):
                opposite = piece.args[0] if piece.op == "neg" else Node("neg", (piece,))
                if opposite in left:
                    left.remove(opposite)
                elif piece != zero:
                    left.append(piece)
        if len(left) < 2:
            return left[0] if left else zero
        return Node("add", tuple(sorted(left, key=str)))
    return Node(node.op, args)
