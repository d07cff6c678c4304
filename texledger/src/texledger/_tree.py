"""A formula as a tree of operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class Unreadable(ValueError):
    """The TeX lies outside the subset that the ledger reads; the message says where and what to do.

    Attributes:
        needs: the key of ``where`` whose declaration would give what was refused a meaning, if that is the remedy.
    """

    needs: str | None = None


@dataclass(frozen=True)
class Node:
    """One operation of a formula: its name and its operands (nodes, names or numbers)."""

    op: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return show(self)


@dataclass(frozen=True)
class Relation:
    """Two neighbouring sides of a chain such as ``a = b <= c``.

    ``sign`` is a comparison (``= < <= > >= !=``), or one of ``:= ≡ ≈ ∼ ∝ ∈ ∉ ⊂ → ≪ ≫ ⟺``. Those are read, so that an
    edit shows; a check compares only definitions, identities and, if told how closely, approximations.
    """

    left: Node
    sign: str
    right: Node

    def __str__(self) -> str:
        return f"{show(self.left)} {self.sign} {show(self.right)}"


@dataclass(frozen=True)
class Reading:
    """What was read from the TeX of one equation.

    Attributes:
        relations: every relation that is stated, in the order of the page.
        conditions: where they hold; a relation that was read, to be used as a guard of the draws, or the words of one
            that was not.
        unread: words of the equation that are no condition and were not read.
        expressions: what stands by itself and claims nothing (an optimisation problem, say).
    """

    relations: list[Relation] = field(default_factory=list)
    conditions: list[Relation | str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    expressions: list[Node] = field(default_factory=list)


def show(node: Any) -> str:
    """A short plain-text form, for messages and the names of mutants."""
    return _Printer(strict=False).text(node)


def plain(node: Any) -> str:
    """One line of plain notation with every grouping in parentheses: how the formula was read.

    >>> half = Node("div", (Node("num", ("1",)), Node("num", ("2",))))
    >>> plain(Node("mul", (half, Node("pow", (Node("sym", ("x",)), Node("num", ("2",)))))))
    '(1/2)·(x^2)'
    """
    return _Printer(strict=True).text(node)


def plain_reading(reading: Reading) -> str:
    """The plain notation of a whole :class:`Reading`: relations, then conditions, then what was not read."""
    stated = [f"{plain(r.left)} {r.sign} {plain(r.right)}" for r in reading.relations]
    parts = ["; ".join(stated + [plain(x) for x in reading.expressions])]
    read = [f"{plain(c.left)} {c.sign} {plain(c.right)}" for c in reading.conditions if isinstance(c, Relation)]
    unread = [c for c in reading.conditions if isinstance(c, str)] + reading.unread
    if read:
        parts.append("for " + ", ".join(read))
    if unread:
        parts.append("not read: " + ", ".join(repr(u) for u in unread))
    return " | ".join(p for p in parts if p)


def nodes(node: Any) -> Iterator[Node]:
    """``node`` and every node below it."""
    if isinstance(node, Node):
        yield node
        for child in node.args:
            yield from nodes(child)
    elif isinstance(node, tuple):
        for child in node:
            yield from nodes(child)


class _Printer:
    def __init__(self, strict: bool) -> None:
        self.strict = strict

    def text(self, node: Any) -> str:
        if not isinstance(node, Node):
            return str(node)
        method = getattr(self, "print_" + node.op, None)
        return method(*node.args) if method else f"{node.op}({self.list(node.args)})"

    def list(self, items: Any) -> str:
        return ", ".join(self.text(x) for x in items)

    def tight(self, node: Any) -> str:
        loose = {"add", "neg", "mul", "div", "holds", "and", "or"}
        if self.strict:
            loose |= {"pow", "sum", "prod", "int", "lim", "diff", "at", "each", "grad", "integral", "infix"}
        return f"({self.text(node)})" if isinstance(node, Node) and node.op in loose else self.text(node)

    def term(self, node: Any) -> str:
        """A term of a sum: in strict form what runs to the right is closed by parentheses."""
        open_ended = {"sum", "prod", "int", "lim", "diff", "at", "each", "grad", "integral", "infix", "add"}
        if isinstance(node, Node) and (node.op == "add" or (self.strict and node.op in open_ended)):
            return f"({self.text(node)})"
        return self.text(node)

    def print_num(self, text: str) -> str:
        return text

    def print_sym(self, name: str) -> str:
        return name

    def print_neg(self, x: Node) -> str:
        return "-" + self.tight(x)

    def print_add(self, *terms: Node) -> str:
        found = [self.text(terms[0]) if terms[0].op != "add" else self.term(terms[0])]
        if self.strict:
            found = [self.term(terms[0])]
        for t in terms[1:]:
            if t.op == "neg":
                found.append("- " + self.tight(t.args[0]))
            else:
                found.append("+ " + self.term(t))
        return " ".join(found)

    def print_mul(self, *factors: Node) -> str:
        return "·".join(self.tight(f) for f in factors)

    def print_div(self, a: Node, b: Node) -> str:
        return f"{self.tight(a)}/{self.tight(b)}"

    def print_pow(self, a: Node, b: Node) -> str:
        return f"{self.tight(a)}^{self.tight(b)}"

    def print_call(self, name: str, *args: Node) -> str:
        return f"{name}({self.list(args)})"

    def print_infix(self, name: str, a: Node, b: Node) -> str:
        return f"{self.tight(a)} {name.removeprefix(chr(92))} {self.tight(b)}"

    def bounds(self, op: str, body: Node, name: str, low: Node, high: Node) -> str:
        return f"{op}[{name}={self.text(low)}..{self.text(high)}] {self.tight(body)}"

    def print_sum(self, *args: Any) -> str:
        return self.bounds("sum", *args)

    def print_prod(self, *args: Any) -> str:
        return self.bounds("prod", *args)

    def print_int(self, *args: Any) -> str:
        return self.bounds("int", *args)

    def print_seq(self, *args: Any) -> str:
        return self.bounds("list", *args)

    def print_integral(self, body: Node, name: str, *domain: Node) -> str:
        where = f" in {self.text(domain[0])}" if domain else ""
        return f"int[{name}{where}] {self.tight(body)}"

    def print_each(self, op: str, body: Node, names: tuple[str, ...], *which: Node) -> str:
        conditions = "; " + self.list(which) if which else ""
        return f"{op}[{', '.join(names)}{conditions}] {self.tight(body)}"

    def print_lim(self, body: Node, name: str, target: Node, side: str = "") -> str:
        return f"lim[{name}→{self.text(target)}{side}] {self.tight(body)}"

    def print_diff(self, body: Node, name: str) -> str:
        return f"d/d{name} {self.tight(body)}"

    def print_grad(self, body: Node, name: str) -> str:
        return f"grad{'[' + name + ']' if name else ''} {self.tight(body)}"

    def print_hessian(self, body: Node, name: str) -> str:
        return f"hessian{'[' + name + ']' if name else ''} {self.tight(body)}"

    def print_laplacian(self, body: Node, name: str) -> str:
        return f"laplacian{'[' + name + ']' if name else ''} {self.tight(body)}"

    def print_divergence(self, body: Node, name: str) -> str:
        return f"div{'[' + name + ']' if name else ''} {self.tight(body)}"

    def print_at(self, body: Node, name: str, value: Node) -> str:
        return f"{self.tight(body)}|{name}={self.text(value)}"

    def print_between(self, body: Node, low: Node, high: Node) -> str:
        return f"[{self.text(body)}] from {self.text(low)} to {self.text(high)}"

    def print_transpose(self, x: Node) -> str:
        return self.tight(x) + "ᵀ"

    def print_adjoint(self, x: Node) -> str:
        return self.tight(x) + "*"

    def print_upper(self, name: str, index: Node) -> str:
        return f"{name}^[{self.text(index)}]"

    def print_item(self, name: str, *places: Node) -> str:
        return f"{name}[{self.list(places)}]"

    def print_entry(self, node: Node, *places: Node) -> str:
        return f"{self.tight(node)}[{self.list(places)}]"

    def print_range(self, low: Node, high: Node) -> str:
        return f"{{{self.text(low)}..{self.text(high)}}}"

    def print_postfix(self, sign: str, x: Node) -> str:
        return self.tight(x) + sign

    def print_norm(self, x: Node, which: str) -> str:
        return f"‖{self.text(x)}‖_{which}"

    def print_matrix(self, *rows: tuple[Node, ...]) -> str:
        return "[" + "; ".join(self.list(row) for row in rows) + "]"

    def print_holds(self, a: Node, sign: str, b: Node) -> str:
        return f"{self.text(a)} {sign} {self.text(b)}"

    def print_and(self, *parts: Node) -> str:
        return " and ".join(self.text(p) for p in parts)

    def print_or(self, *parts: Node) -> str:
        return " or ".join(self.tight(p) for p in parts)

    def print_indicator(self, condition: Node) -> str:
        return f"1[{self.text(condition)}]"

    def print_expect(self, what: str, laws: tuple[tuple[str, str], ...], *parts: Node) -> str:
        under = ", ".join(f"{name}~{law}" if name else law for name, law in laws)
        return f"{what}{'_{' + under + '}' if under else ''}[{self.list(parts)}]"

    def print_given(self, *parts: Node) -> str:
        return "given " + self.list(parts)

    def print_cases(self, *parts: Any) -> str:
        found = []
        for value, condition in zip(parts[::2], parts[1::2], strict=True):
            found.append(self.text(value) + (f" if {self.text(condition)}" if condition is not None else " otherwise"))
        return "{" + "; ".join(found) + "}"

    def print_set(self, *items: Node) -> str:
        return "{" + self.list(items) + "}"

    def print_setof(self, body: Node, *which: Node) -> str:
        return "{" + self.text(body) + " : " + self.list(which) + "}"

    def print_tuple(self, *items: Node) -> str:
        return "(" + self.list(items) + ")"

    def print_interval(self, a: Node, b: Node, kind: str) -> str:
        return f"{kind[0]}{self.text(a)}, {self.text(b)}{kind[1]}"

    def print_numbers(self, name: str) -> str:
        return name
