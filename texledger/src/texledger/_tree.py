"""A formula as a tree of operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Unreadable(ValueError):
    """The TeX lies outside the subset that the ledger reads; the message says where and what to do."""


@dataclass(frozen=True)
class Node:
    """One operation of a formula: its name and its operands (nodes, names or numbers)."""

    op: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return show(self)


@dataclass(frozen=True)
class Relation:
    """Two neighbouring sides of a chain such as ``a = b <= c``."""

    left: Node
    sign: str
    right: Node


def show(node: Any) -> str:
    """A short plain-text form, for messages and the names of mutants."""
    if not isinstance(node, Node):
        return str(node)
    op, args = node.op, node.args
    match op:
        case "num" | "sym":
            return str(args[0])
        case "neg":
            return "-" + _tight(args[0])
        case "add":
            return " + ".join(show(a) for a in args).replace("+ -", "- ")
        case "mul":
            return "·".join(_tight(a) for a in args)
        case "div":
            return f"{_tight(args[0])}/{_tight(args[1])}"
        case "pow":
            return f"{_tight(args[0])}^{_tight(args[1])}"
        case "call":
            return f"{args[0]}({', '.join(show(a) for a in args[1:])})"
        case "sum" | "prod" | "int":
            return f"{op}[{args[1]}={show(args[2])}..{show(args[3])}] {_tight(args[0])}"
        case "lim":
            return f"lim[{args[1]}→{show(args[2])}] {_tight(args[0])}"
        case "diff":
            return f"d/d{args[1]} {_tight(args[0])}"
        case "at":
            return f"{_tight(args[0])}|{args[1]}={show(args[2])}"
        case "transpose":
            return _tight(args[0]) + "ᵀ"
        case "adjoint":
            return _tight(args[0]) + "*"
        case "norm":
            return f"‖{show(args[0])}‖_{args[1]}"
        case "matrix":
            return "[" + "; ".join(", ".join(show(x) for x in row) for row in args) + "]"
    return f"{op}{args}"


def _tight(node: Any) -> str:
    return f"({show(node)})" if isinstance(node, Node) and node.op in {"add", "neg", "mul", "div"} else show(node)
