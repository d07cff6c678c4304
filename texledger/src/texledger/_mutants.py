"""Damaged copies of a formula: each is a slip somebody could have printed, and every check must reject them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from texledger._tree import Node, show

TURNED = {"max": "min", "sup": "inf", "argmax": "argmin", "esssup": "essinf", "sum": "prod", "union": "intersection"}
TURNED |= {after: before for before, after in TURNED.items()}
SIGNS = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "!=", "!=": "="}
ZERO = Node("num", ("0",))  # it has no sign to get wrong


def mutants(node: Node, against_zero: bool = False) -> Iterator[tuple[str, Node]]:
    """Yield ``(name, damaged copy)`` for each single slip in ``node``, without repetition.

    With ``against_zero`` the equation says that ``node`` is zero, so the sign and size of the whole say nothing.

    The slips: the sign of the whole, of a term, an argument or an exponent; a factor 2 on the whole or on a term; a
    term or a factor left out; a number off by one; a fraction upside down; a maximum for a minimum, a mean for a
    variance; a comparison inside (of an event, an indicator, a case) turned round.
    """
    seen = {node}
    whole = [] if against_zero else [(f"−({show(node)})", Node("neg", (node,))), (f"2·({show(node)})", _twice(node))]
    for name, damaged in [*whole, *_inside(node)]:
        if damaged not in seen:
            seen.add(damaged)
            yield name, damaged


def _inside(node: Node) -> Iterator[tuple[str, Node]]:
    yield from _here(node)
    for i, child in enumerate(node.args):
        if isinstance(child, Node):
            for name, damaged in _inside(child):
                yield name, Node(node.op, (*node.args[:i], damaged, *node.args[i + 1 :]))
    if node.op == "matrix":
        for r, row in enumerate(node.args):
            for c, child in enumerate(row):
                signs = [] if child == ZERO else [(f"sign of entry {show(child)}", _negated(child))]
                for name, damaged in [*signs, *_inside(child)]:
                    rows = [list(line) for line in node.args]
                    rows[r][c] = damaged
                    yield name, Node("matrix", tuple(tuple(line) for line in rows))


def _here(node: Node) -> Iterator[tuple[str, Node]]:
    op, args = node.op, node.args
    if op == "num":
        raised = str(int(args[0]) + 1) if args[0].isdigit() else f"{float(args[0]) + 1}"
        yield f"{args[0]} → {raised}", Node("num", (raised,))
    elif op == "add":
        for i, term in enumerate(args):
            yield f"sign of {show(term)}", _with(node, i, _negated(term))
            yield f"2·({show(term)})", _with(node, i, _twice(term))
            yield f"without {show(term)}", _without(node, i)
    elif op == "mul":
        for i, factor in enumerate(args):
            yield f"without the factor {show(factor)}", _without(node, i)
    elif op == "div":
        yield f"{show(node)} upside down", Node("div", (args[1], args[0]))
        yield f"without the denominator {show(args[1])}", args[0]
    elif op == "pow":
        yield f"{show(node)} with the exponent's sign changed", Node("pow", (args[0], _negated(args[1])))
    elif op == "call" and args[0] not in {"adj", "abs"}:  # even functions of their argument (adj: of an odd-sized one)
        for i, value in enumerate(args[1:], start=1):
            if value.op == "given":  # a condition has no sign, the values that it names have
                for j, given in enumerate(value.args):
                    if isinstance(given, Node) and given.op != "holds":
                        turned = _with(value, j, _negated(given))
                        yield f"{args[0]} given −({show(given)})", _with(node, i, turned)
            elif value != ZERO:
                yield f"{args[0]} of −({show(value)})", _with(node, i, _negated(value))
    elif op in {"transpose", "adjoint"}:
        yield f"{show(args[0])} without its {op}", args[0]
    elif op == "each" and args[0] in TURNED:
        turned = TURNED[args[0]]
        yield f"{args[0]} turned into {turned}", Node("each", (turned, *args[1:]))
    elif op == "expect" and args[0] == "Var":
        yield "Var turned into E", Node("expect", ("E", *args[1:]))
    elif op == "holds" and args[1] in SIGNS:
        yield (
            f"{show(node)} with the sign turned into {SIGNS[args[1]]}",
            Node("holds", (args[0], SIGNS[args[1]], args[2])),
        )
    elif op == "diff":
        yield f"without {show(node).split(' ')[0]}", args[0]
    elif op in {"sum", "prod"} and args[3] != Node("sym", ("infty",)):
        yield f"{op} ends one later", _with(node, 3, Node("add", (args[3], Node("num", ("1",)))))


def exchanged(node: Node) -> Iterator[tuple[str, Node]]:
    """Copies in which a function has one of its arguments twice: a function that is constant does not notice.

    What is no value of the function may raise anything; such copies say nothing.
    """
    if node.op == "call":
        values = node.args[1:]
        for i, value in enumerate(values):
            other = values[i - 1]
            if other != value:
                name = f"{show(other)} for {show(value)} in {show(node)}"
                yield name, Node("call", (*node.args[: i + 1], other, *node.args[i + 2 :]))
    for i, child in enumerate(node.args):
        if isinstance(child, Node):
            for name, damaged in exchanged(child):
                yield name, Node(node.op, (*node.args[:i], damaged, *node.args[i + 1 :]))


def _negated(node: Any) -> Node:
    return node.args[0] if node.op == "neg" else Node("neg", (node,))


def _twice(node: Node) -> Node:
    return Node("mul", (Node("num", ("2",)), node))


def _with(node: Node, i: int, child: Node) -> Node:
    return Node(node.op, (*node.args[:i], child, *node.args[i + 1 :]))


def _without(node: Node, i: int) -> Node:
    rest = (*node.args[:i], *node.args[i + 1 :])
    return rest[0] if len(rest) == 1 else Node(node.op, rest)
