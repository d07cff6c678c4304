"""Evaluate a formula's tree; what arithmetic the values obey is left to ``_exact`` and ``_numeric``.

Both kinds of value obey the same few rules: products keep their order, a number is never added to a matrix, and an
infinite sum, a limit, a derivative or an integral is computed, not recognised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mpmath as mp
import numpy as np
import sympy as sp

from texledger._declared import (
    By,
    Density,
    Derived,
    Indexed,
    Interval,
    Law,
    Operator,
    Optimum,
    Over,
    Samples,
    Superscript,
    is_declaration,
)
from texledger._tree import Node, Unreadable, nodes, show

Environment = Mapping[str, Any]


class Arithmetic(ABC):
    """What the two arithmetics share: walking the tree and looking names up.

    Attributes:
        largest: the largest magnitude of any term of a sum since :meth:`reset`, so that a tolerance can be relative to
            what was added. What is added inside a limit or a derivative, which are computed with more digits, does not
            count; exact values that are no numbers do not either.
        errors: ``(mean, standard error)`` of every expectation over :class:`Samples` since :meth:`reset`.
    """

    i: Any
    infinity: Any
    # what both arithmetics know under these names
    fn_abs: Callable[[Any], Any]
    fn_floor: Callable[[Any], Any]
    fn_sqrt: Callable[[Any], Any]
    fn_sin: Callable[[Any], Any]
    fn_cos: Callable[[Any], Any]
    fn_tanh: Callable[[Any], Any]

    def __init__(self) -> None:
        self._whole: dict[int, Density] = {}  # densities that were seen to integrate to 1, kept alive
        self.reset()

    def reset(self) -> None:
        """Forget the magnitudes and errors of earlier evaluations."""
        self.largest: Any = 0
        self.errors: list[tuple[Any, Any]] = []
        self._silent = 0

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While terms are added that do not bear on a tolerance."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    def note(self, term: Any) -> Any:
        """Remember the size of a term of a sum."""
        if not self._silent and (size := self.size(term)) is not None and size > self.largest:
            self.largest = size
        return term

    @abstractmethod
    def size(self, x: Any) -> Any: ...

    @abstractmethod
    def positive(self, x: Any) -> bool:
        """Whether a real number is above zero beyond doubt of rounding."""

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
    def integral(self, f: Callable[[Any], Any], low: Any, high: Any, points: tuple[Any, ...] = ()) -> Any: ...

    @abstractmethod
    def limit(self, f: Callable[[Any], Any], target: Any, side: str = "") -> Any: ...

    @abstractmethod
    def fn_det(self, x: Any) -> Any: ...

    # Walking the tree

    def evaluate(self, node: Node, env: Environment) -> Any:
        """The value of ``node``; the keys of ``env`` are spelled as the reader spells names (``_tex.keyed``).

        Raises:
            Unreadable: a name has no value, or a declaration is missing.
            ValueError: the formula has no value (a number plus a matrix, an optimum that is none, ...).
        """
        method = getattr(self, "on_" + node.op, None)
        if method is None:
            raise Unreadable(f"no rule for {node.op!r} in {show(node)}: it can be read but not computed")
        return method(env, *node.args)

    def on_num(self, env: Environment, text: str) -> Any:
        return self.number(text)

    def on_sym(self, env: Environment, name: str) -> Any:
        return self.symbol(name, env)

    def on_neg(self, env: Environment, x: Node) -> Any:
        return -self.evaluate(x, env)

    def on_add(self, env: Environment, *terms: Node) -> Any:
        total = self.note(self.evaluate(terms[0], env))
        for term in terms[1:]:
            total = self.plus(total, self.note(self.evaluate(term, env)), Node("add", terms))
        return total

    def on_mul(self, env: Environment, *factors: Node) -> Any:
        product = self.evaluate(factors[0], env)
        wide = is_matrix(product) and (product.rows, product.cols) != (1, 1)
        for factor in factors[1:]:
            product = product * self.evaluate(factor, env)
            wide = wide or (is_matrix(product) and (product.rows, product.cols) != (1, 1))
        return _number_in(product) if wide else product  # a row times a column is a number

    def on_div(self, env: Environment, above: Node, under: Node) -> Any:
        below = _number_in(self.evaluate(under, env))
        if is_matrix(below):
            raise ValueError(f"division by the matrix {show(under)}: write its inverse on the side you mean")
        return self.evaluate(above, env) * (self.number("1") / below)

    def on_pow(self, env: Environment, base: Node, exponent: Node) -> Any:
        return self.power(_number_in(self.evaluate(base, env)), self.evaluate(exponent, env))

    def on_transpose(self, env: Environment, x: Node) -> Any:
        value = self.evaluate(x, env)
        return value.T if is_matrix(value) else value

    def on_adjoint(self, env: Environment, x: Node) -> Any:
        return self.adjoint(self.evaluate(x, env))

    def on_postfix(self, env: Environment, sign: str, x: Node) -> Any:
        operation = env.get(f"{x.args[0]}{sign}") if x.op == "sym" else None
        operation = operation if isinstance(operation, Superscript) else env.get(sign)
        if not isinstance(operation, Superscript) or isinstance(operation.f, str):
            raise Unreadable(f"the superscript {sign!r} is not declared: give Superscript(f) in `where`")
        return self.value(operation.f(self.evaluate(x, env)))

    def on_infix(self, env: Environment, sign: str, a: Node, b: Node) -> Any:
        operator = env.get(sign)
        values = self.evaluate(a, env), self.evaluate(b, env)
        if isinstance(operator, Operator):
            return self.value(operator.f(*values))
        if sign == r"\bmod":
            return values[0] - values[1] * self.fn_floor(values[0] / values[1])
        raise Unreadable(f"the operator {sign} is not declared: give Operator(f) in `where`")

    def on_norm(self, env: Environment, x: Node, which: str) -> Any:
        value = self.evaluate(x, env)
        declared = env.get("norm_" + which) or (env.get("norm") if which == "2" else None)
        if callable(declared):
            return self.value(declared(value))
        if which.isdigit() and callable(env.get(which)):
            raise Unreadable(f"the norm with index {which!r} is not known: give 'norm_{which}': f")
        if not is_matrix(value):
            if callable(value):
                raise Unreadable(f"the norm of the function {show(x)} is not known: give 'norm_{which}': f in `where`")
            return self.fn_abs(value)
        return self.norm(value, which)

    def on_matrix(self, env: Environment, *rows: tuple[Node, ...]) -> Any:
        """A matrix; if an entry is one, a matrix of blocks, in which 0 and I take the size of their place."""
        is_identity = lambda x: x == Node("sym", ("I",)) and "I" not in env
        values: list[list[Any]] = [
            [None if is_identity(x) else _number_in(self.evaluate(x, env)) for x in row] for row in rows
        ]
        if not any(is_matrix(v) for row in values for v in row) and not any(v is None for row in values for v in row):
            return self.matrix(values)
        heights = [next((v.rows for v in row if is_matrix(v)), None) for row in values]
        widths = [next((row[c].cols for row in values if is_matrix(row[c])), None) for c in range(len(values[0]))]
        for r, row in enumerate(values):
            for c, v in enumerate(row):
                if v is None:
                    heights[r], widths[c] = heights[r] or widths[c], widths[c] or heights[r]
        heights, widths = [h or 1 for h in heights], [w or 1 for w in widths]
        whole: list[list[Any]] = []
        for row, height in zip(values, heights, strict=True):
            lines: list[list[Any]] = [[] for _ in range(height)]
            for v, width in zip(row, widths, strict=True):
                block: Any = v
                if v is None:
                    if height != width:
                        raise ValueError("I stands in a block that is not square")
                    block = self.eye(height)
                elif not is_matrix(v):
                    if v != 0 and (height, width) != (1, 1):
                        raise ValueError(f"the number {v} stands in a block of {height} rows and {width} columns")
                    block = self.matrix([[v] * width for _ in range(height)])
                if (block.rows, block.cols) != (height, width):
                    raise ValueError(f"a block of shape {(block.rows, block.cols)} stands in one of {(height, width)}")
                for k in range(height):
                    lines[k] += [block[k, j] for j in range(width)]
            whole += lines
        return self.matrix(whole)

    def on_at(self, env: Environment, body: Node, name: str, value: Node) -> Any:
        """The body where a name has a value; a derivative inside is taken by the name before it gets it."""
        return self.evaluate(body, {**env, name: self.evaluate(value, env)})

    def on_sum(self, env: Environment, body: Node, name: str, low: Node, high: Node, op: str = "sum") -> Any:
        ends = self.evaluate(low, env), self.evaluate(high, env)
        term = lambda k: self.evaluate(body, {**env, name: k})
        return self.series(op, (lambda k: self.note(term(k))) if op == "sum" else term, *ends)

    def on_prod(self, env: Environment, *args: Any) -> Any:
        return self.on_sum(env, *args, op="prod")

    def on_call(self, env: Environment, name: str, *args: Node) -> Any:
        return self.call(name, args, env)

    def on_upper(self, env: Environment, key: str, place: Node) -> Any:
        indexed = env.get(key)
        if not isinstance(indexed, Indexed):
            raise Unreadable(f"{key!r} is no Indexed(...) of `where`")
        k = whole_number(self.evaluate(place, env)) - indexed.first
        if not 0 <= k < len(indexed.items):
            raise ValueError(
                f"{key} has {len(indexed.items)} entries from {indexed.first}; {k + indexed.first} is none"
            )
        return self.value(indexed.items[k])

    def on_item(self, env: Environment, stem: str, *places: Node) -> Any:
        found = [whole_number(self.evaluate(p, env)) for p in places]
        for key in (f"{stem}_{','.join(map(str, found))}", f"{stem}_{''.join(map(str, found))}"):
            if key in env:
                return self.symbol(key, env)
        return self.value(entry_of(self.known(stem, env), found, stem))

    def on_entry(self, env: Environment, x: Node, *places: Node) -> Any:
        value = self.evaluate(x, env)
        digits = places[0].args[0] if len(places) == 1 and places[0].op == "num" else ""
        if len(digits) > 1 and is_matrix(value) and not is_vector(value):
            return self.value(entry_of(value, [int(d) for d in digits], show(x)))  # a_{12} of a matrix
        return self.value(entry_of(value, [whole_number(self.evaluate(p, env)) for p in places], show(x)))

    # Truth

    def on_indicator(self, env: Environment, condition: Node) -> Any:
        return self.number("1" if self.truth(condition, env) else "0")

    def on_cases(self, env: Environment, *parts: Any) -> Any:
        for value, condition in zip(parts[::2], parts[1::2], strict=True):
            if condition is None or self.truth(condition, env):
                return self.evaluate(value, env)
        raise ValueError("no case of the formula holds here")

    def on_holds(self, env: Environment, *args: Any) -> bool:
        return self.truth(Node("holds", args), env)

    def truth(self, condition: Node, env: Environment) -> bool:
        """Whether a comparison, or several, hold.

        Raises:
            Unreadable: it cannot be decided.
        """
        if condition.op == "and":
            return all(self.truth(c, env) for c in condition.args)
        if condition.op == "or":
            return any(self.truth(c, env) for c in condition.args)
        if condition.op != "holds":
            value = self.evaluate(condition, env)
            if isinstance(value, bool):
                return value
            raise Unreadable(f"{show(condition)} is no event: it is neither true nor false")
        left, sign, right = condition.args
        if sign in {"∈", "∉"}:
            return self.member(self.evaluate(left, env), right, env) == (sign == "∈")
        a, b = self.evaluate(left, env), self.evaluate(right, env)
        for node, x, other in ((left, a, b), (right, b, a)):
            named = any(n.op == "sym" and n.args != ("infty",) for n in nodes(node))
            if named and is_matrix(other) and not is_matrix(x):  # A >= 0 is meant for every entry, i >= A is a slip
                raise ValueError(f"the number {show(node)} is compared with a matrix: print an entry of it, or a norm")
        return self.compare(a, sign, b)

    def compare(self, a: Any, sign: str, b: Any) -> bool:
        """``a sign b`` for numbers, and entry by entry where one is a matrix; equality up to rounding."""
        if is_matrix(a) or is_matrix(b):
            matrix = a if is_matrix(a) else b
            rows, columns = matrix.rows, matrix.cols
            each = lambda x: list(x) if is_matrix(x) else [x] * (rows * columns)
            if is_matrix(a) and is_matrix(b) and (b.rows, b.cols) != (rows, columns):
                if sign in {"=", "!="}:
                    return sign == "!="
                raise ValueError(f"a {rows}×{columns} matrix is compared with a {b.rows}×{b.cols} one")
            holds = [self.compare(x, "=" if sign == "!=" else sign, y) for x, y in zip(each(a), each(b), strict=True)]
            return not all(holds) if sign == "!=" else all(holds)
        if a in (self.infinity, -self.infinity) or b in (self.infinity, -self.infinity):
            return bool({"=": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign])
        if sign in {"=", "!="}:
            return self.equal(a, b) == (sign == "=")
        if sign in {"<", ">"}:
            return self.above(b, a) if sign == "<" else self.above(a, b)
        if sign in {"<=", ">="}:
            return not (self.above(a, b) if sign == "<=" else self.above(b, a))
        raise Unreadable(f"the relation {sign} cannot be decided")

    def equal(self, a: Any, b: Any) -> bool:
        difference = a - b
        return not self.positive(difference * self.conjugate(difference))

    def above(self, a: Any, b: Any) -> bool:
        return self.positive(a - b)

    def conjugate(self, x: Any) -> Any:
        return self.adjoint(x)

    def member(self, x: Any, domain: Node, env: Environment) -> bool:
        if domain.op == "interval":
            low, high = (self.evaluate(e, env) for e in domain.args[:2])
            kind = domain.args[2]
            return self.compare(low, "<=" if kind[0] == "[" else "<", x) and self.compare(
                x, "<=" if kind[1] == "]" else "<", high
            )
        if domain.op == "numbers":
            return self.is_kind(x, domain.args[0])
        if domain.op == "range":
            low, high = (self.evaluate(e, env) for e in domain.args)
            if is_matrix(low) or is_matrix(high):
                raise ValueError(f"{show(domain)} is compared with a number, but an end of it is a matrix")
            return is_whole(x) and self.compare(low, "<=", x) and self.compare(x, "<=", high)
        return any(self.same_value(x, y) for y in self.elements(domain, env))

    def same_value(self, x: Any, y: Any) -> bool:
        if is_matrix(x) != is_matrix(y):
            return False
        return self.compare(x, "=", y)

    def is_kind(self, x: Any, kind: str) -> bool:
        base, positive = kind[0], "+" in kind
        if is_matrix(x) or kind.partition("^")[2] not in {"", "+"}:
            raise Unreadable(f"membership in {kind} is not decided")
        if positive and not self.compare(x, ">=", self.number("0")):
            return False
        if base in {"N", "Z"}:
            return is_whole(x) and (base == "Z" or self.compare(x, ">=", self.number("0")))
        real = not self.positive((x - self.conjugate(x)) * self.conjugate(x - self.conjugate(x)))
        if base == "R":
            return real
        if base == "C":
            return True
        raise Unreadable(f"membership in {kind} is not decided")

    # Sets, sums over them, optima

    def elements(self, domain: Node, env: Environment) -> list[Any]:
        """The members of a finite set."""
        op, args = domain.op, domain.args
        if op == "set":
            return [v for x in args for v in self.spread(x, env)]
        if op == "seq":
            return self.spread(domain, env)
        if op == "range":
            low, high = whole_number(self.evaluate(args[0], env)), self.evaluate(args[1], env)
            if high == self.infinity:
                raise Unreadable(f"the set {show(domain)} is infinite: give the index Over(...) a finite part")
            return [self.number(str(k)) for k in range(low, whole_number(high) + 1)]
        if op in {"sym", "call", "item"}:
            name = args[0] if op == "sym" else show(domain)
            value = env.get(name) if name in env else None
            if isinstance(value, Over):
                return [self.item(v) for v in value.items]
            if isinstance(value, list | tuple | set | range):
                return [self.item(v) for v in value]
            if op == "call" and callable(env.get(args[0])):
                values = env[args[0]](*(self.evaluate(a, env) for a in args[1:]))
                return [self.item(v) for v in (values.items if isinstance(values, Over) else values)]
        if op == "setof":
            body, *which = args
            names = [body.args[0]] if body.op == "sym" else []
            found = []
            for inner in self.assignments(names, tuple(which), env):
                found.append(self.evaluate(body, inner))
            return found
        if op == "infix":
            a, b = self.elements(args[1], env), self.elements(args[2], env)
            if args[0] == r"\cup":
                return a + [y for y in b if not any(self.same_value(x, y) for x in a)]
            inside = lambda x: any(self.same_value(x, y) for y in b)
            if args[0] == r"\cap":
                return [x for x in a if inside(x)]
            if args[0] == r"\setminus":
                return [x for x in a if not inside(x)]
        raise Unreadable(f"the set {show(domain)} is not declared: give Over(...) in `where` under its name")

    def item(self, x: Any) -> Any:
        if isinstance(x, list):
            return self.matrix([[self.value(v)] for v in x])
        return x if callable(x) and not isinstance(x, sp.Basic) else self.value(x)

    def spread(self, x: Node, env: Environment) -> list[Any]:
        """The value of an item of a list; of one with dots, all that it stands for."""
        if x.op != "seq":
            return [self.evaluate(x, env)]
        body, name, low, high = x.args
        ends = whole_number(self.evaluate(low, env)), whole_number(self.evaluate(high, env))
        return [self.evaluate(body, {**env, name: self.number(str(k))}) for k in range(ends[0], ends[1] + 1)]

    def assignments(self, names: list[str], which: tuple[Node, ...], env: Environment) -> Iterator[dict[str, Any]]:
        """Environments in which ``names`` take every value that the conditions and ``where`` let them."""
        if not names:
            if all(self.truth(c, env) for c in which):
                yield dict(env)
            return
        name, *rest = names
        domain = next((c for c in which if c.op == "holds" and c.args[:2] == (Node("sym", (name,)), "∈")), None)
        if domain is not None:
            values = self.elements(domain.args[2], env)
        elif isinstance(env.get(name), Over):
            values = [self.item(v) for v in env[name].items]
        else:
            raise Unreadable(f"{name!r} runs over nothing: give {name!r}: Over(...) in `where`")
        left = tuple(c for c in which if c is not domain)
        for value in values:
            yield from self.assignments(rest, left, {**env, name: value})

    def on_each(self, env: Environment, op: str, body: Node, names: tuple[str, ...], *which: Node) -> Any:
        if op in {"max", "min", "sup", "inf", "argmax", "argmin"}:
            return self.optimum(op, body, names, which, env)
        total = None
        for inner in self.assignments(list(names), which, env):
            value = self.evaluate(body, inner)
            if op == "sum":
                self.note(value)
                total = value if total is None else self.plus(total, value, body)
            elif op == "prod":
                total = value if total is None else total * value
            else:
                raise Unreadable(f"{op} is not computed")
        return self.number("0" if op == "sum" else "1") if total is None else total

    def optimum(self, op: str, body: Node, names: tuple[str, ...], which: tuple[Node, ...], env: Environment) -> Any:
        best = None
        sign = self.number("1" if op in {"max", "sup", "argmax"} else "-1")
        declared = [n for n in names if isinstance(env.get(n), Optimum)]
        if not declared:
            ties = False
            for inner in self.assignments(list(names), which, env):
                value = self.real(self.evaluate(body, inner), op)
                if best is None or self.positive(sign * (value - best[0])):
                    best, ties = (value, inner), False
                elif not self.positive(sign * (best[0] - value)):
                    ties = True
            if best is None:
                raise ValueError(f"{op} over nothing: no value of {', '.join(names)} meets the conditions")
            if op in {"argmax", "argmin"}:
                if ties:
                    raise ValueError(f"{op} is attained more than once: choose other draws")
                return best[1][names[0]]
            return best[0]
        if len(declared) < len(names):
            raise Unreadable(f"{op} over {', '.join(names)}: give each of them an Optimum, or each a set")
        at = {n: self.item(env[n].at) for n in names}
        if not all(self.truth(c, {**env, **at}) for c in which):
            raise ValueError(f"the declared optimum of {op} breaks the condition {', '.join(map(show, which))}")
        value = self.real(self.evaluate(body, {**env, **at}), op)
        with self.silent():
            for rival in self.rivals({n: env[n] for n in names}, at):
                inner = {**env, **rival}
                if not all(self.truth(c, inner) for c in which):
                    continue
                if self.positive(sign * (self.real(self.evaluate(body, inner), op) - value)):
                    raise ValueError(f"the declared optimum is none: {op} is exceeded at {_brief(rival)}")
        return at[names[0]] if op in {"argmax", "argmin"} else value

    def rivals(self, optima: Mapping[str, Optimum], at: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(1)
        for name, optimum in optima.items():
            given = optimum.rivals
            found = [given(rng) for _ in range(12)] if callable(given) else list(given)
            if not found and callable(at[name]):
                raise Unreadable(f"{name!r} is a function: give its Optimum rivals to be compared with")
            for rival in found:
                yield {**at, name: self.item(rival)}
        plain = [n for n in at if not callable(at[n])]
        for scale in ("1/1000000", "1/1000", "1/10", "1", "5"):
            for _ in range(4 if plain else 0):
                yield {**at, **{n: self.moved(at[n], scale, rng) for n in plain}}
                for n in plain if len(plain) > 1 else ():
                    yield {**at, n: self.moved(at[n], scale, rng)}

    def moved(self, x: Any, scale: str, rng: np.random.Generator) -> Any:
        step = lambda: self.value(sp.Rational(scale) * sp.Rational(int(rng.integers(-100, 101)), 100))
        if is_matrix(x):
            return x + self.matrix([[step() for _ in range(x.cols)] for _ in range(x.rows)])
        return x + step()

    def real(self, x: Any, what: str) -> Any:
        x = _number_in(x)
        if is_matrix(x) or (callable(x) and not isinstance(x, sp.Basic)):
            raise ValueError(f"{what} of something that is not a number")
        return x

    # Derivatives, integrals, limits

    def on_diff(self, env: Environment, body: Node, name: str) -> Any:
        """The derivative by a number; by a matrix, of a number entry by entry, of a column its Jacobian matrix."""
        at, place = self.variable(name, env)
        function = lambda x: self.applied_to(self.evaluate(body, place(x)), x)
        with self.silent():
            return self.slope(function, at)

    def applied_to(self, value: Any, x: Any) -> Any:
        is_function = callable(value) and not isinstance(value, sp.Basic | sp.MatrixBase | mp.mpf | mp.mpc | mp.matrix)
        return self.value(value(x)) if is_function else value

    def variable(self, name: str, env: Environment) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
        """The value of the name by which is differentiated, and the environment in which it has another one."""
        stem, _, index = name.partition("_")
        if name not in env and index and stem in env and not is_declaration(env[stem]) and not callable(env[stem]):
            places = self.places(env[stem], index, env)

            def moved(x: Any) -> dict[str, Any]:
                known = env[stem]
                items = self.matrix(self.value(known).tolist()) if is_matrix(known) else [self.value(v) for v in known]
                if len(places) == 1:
                    items[places[0]] = x
                else:
                    items[tuple(places)] = x  # pyright: ignore[reportCallIssue, reportArgumentType]
                return {**env, stem: items}

            return self.value(entry_at(env[stem], places)), moved
        if name not in env:
            raise Unreadable(f"the derivative by {name!r} needs a value for {name!r} in `where`")
        value = self.symbol(name, env)
        if callable(value) and not isinstance(value, sp.Basic):
            raise Unreadable(f"the derivative by the function {name!r} is not computed")
        return value, lambda x: {**env, name: x}

    def slope(self, f: Callable[[Any], Any], at: Any) -> Any:
        if not is_matrix(at):
            return self.derivative(f, at)

        def along(i: int, j: int) -> Any:
            def moved(t: Any) -> Any:
                x = self.matrix(at.tolist())
                x[i, j] = t
                return f(x)

            return _number_in(self.derivative(moved, at[i, j]))

        found = [[along(i, j) for j in range(at.cols)] for i in range(at.rows)]
        first = found[0][0]
        if not is_matrix(first):
            return self.matrix(found)
        if at.cols != 1 or first.cols != 1:
            raise ValueError("the derivative of a matrix by a matrix has four indices and no place on the page")
        return self.matrix([[found[j][0][i] for j in range(at.rows)] for i in range(first.rows)])

    def wrt(self, body: Node, name: str, env: Environment) -> str:
        """The variable of a gradient: printed, the single name that a function is applied to, or declared."""
        if name:
            return name
        if isinstance(env.get("nabla"), By):
            return env["nabla"].name
        inside = [x for x in body.args[1:] if isinstance(x, Node)] if body.op == "call" else []
        if len(inside) == 1 and inside[0].op == "sym":
            return inside[0].args[0]
        raise Unreadable("the gradient names no variable: print it below the sign, or declare 'nabla': By(name)")

    def on_grad(self, env: Environment, body: Node, name: str) -> Any:
        variable = self.wrt(body, name, env)
        if is_matrix(self.evaluate(body, env)):
            raise ValueError("the gradient of something that is not a number")
        return self.on_diff(env, body, variable)

    def on_hessian(self, env: Environment, body: Node, name: str) -> Any:
        variable = self.wrt(body, name, env)
        at, place = self.variable(variable, env)
        first = lambda y: self.slope(lambda x: self.evaluate(body, place(x)), y)
        with self.silent():
            return self.slope(first, at)

    def on_laplacian(self, env: Environment, body: Node, name: str) -> Any:
        second = self.on_hessian(env, body, name)
        return self.fn_tr(second) if is_matrix(second) else second

    def on_divergence(self, env: Environment, body: Node, name: str) -> Any:
        variable = self.wrt(body, name, env)
        jacobian = self.on_diff(env, body, variable)
        return self.fn_tr(jacobian) if is_matrix(jacobian) else jacobian

    def on_int(self, env: Environment, body: Node, name: str, low: Node, high: Node) -> Any:
        ends = self.evaluate(low, env), self.evaluate(high, env)
        declared = env.get(name)
        points = declared.points if isinstance(declared, Interval) else ()
        with self.silent():
            return self.integral(lambda x: self.evaluate(body, {**env, name: x}), *ends, points)

    def on_integral(self, env: Environment, body: Node, name: str, domain: Node | None = None) -> Any:
        declared = env.get(name)
        points: tuple[Any, ...] = ()
        if domain is not None and domain.op == "interval":
            ends = tuple(self.evaluate(e, env) for e in domain.args[:2])
        elif domain is not None and domain.op == "numbers" and domain.args[0] in {"R", "R_+", "R_+^1"}:
            ends = (-self.infinity if domain.args[0] == "R" else self.number("0"), self.infinity)
        elif isinstance(declared, Interval | Density):
            ends, points = (self.value(declared.low), self.value(declared.high)), declared.points
        elif domain is not None and domain.op == "sym" and isinstance(env.get(domain.args[0]), Interval):
            given = env[domain.args[0]]
            ends, points = (self.value(given.low), self.value(given.high)), given.points
        else:
            raise Unreadable(f"the integral over {name!r} has no limits: give {name!r}: Interval(low, high) in `where`")
        with self.silent():
            inner = lambda x: self.evaluate(body, {**env, name: x})
            return self.integral(inner, ends[0], ends[1], tuple(self.value(p) for p in points))

    def on_lim(self, env: Environment, body: Node, name: str, target: Node, side: str = "") -> Any:
        goal = self.evaluate(target, env)
        with self.silent():
            return self.limit(lambda x: self.evaluate(body, {**env, name: x}), goal, side)

    # Probability

    def on_expect(self, env: Environment, what: str, laws: tuple[tuple[str, str], ...], *parts: Node) -> Any:
        given = next((p for p in parts if p.op == "given"), None)
        bodies = [p for p in parts if p.op != "given"]
        spelled = f"{what}({', '.join(map(show, bodies))}{'|' + ', '.join(map(show, given.args)) if given else ''})"
        if spelled in env:
            return self.value(env[spelled])
        random = self.random(laws, bodies + list(given.args if given else ()), env)
        condition = Node("and", given.args) if given else None
        mean = lambda f: self.mean(random, f, env, condition)
        if what == "Pr":
            return mean(lambda inner: self.number("1" if self.truth(bodies[0], inner) else "0"))
        values = [lambda inner, b=b: self.of_law(self.evaluate(b, inner), random, inner) for b in bodies]
        if what == "E":
            return mean(values[0])
        first, second = values[0], values[-1]
        centre = mean(first), mean(second)
        if what == "Corr":
            raise Unreadable("a correlation is not computed: write it by covariances")

        def product(inner: dict[str, Any]) -> Any:
            a, b = first(inner) - centre[0], second(inner) - centre[1]
            return a * b.T if is_matrix(a) or is_matrix(b) else a * b

        return mean(product)

    def of_law(self, value: Any, random: list[tuple[tuple[str, ...], Any]], inner: Environment) -> Any:
        """The mean of a function is that of its values at the atoms."""
        is_function = callable(value) and not isinstance(value, sp.Basic | sp.MatrixBase | mp.mpf | mp.mpc | mp.matrix)
        if not is_function:
            return value
        if len(random) != 1 or random[0][0] != ("·",):
            raise Unreadable("the mean of a function needs the one law of its argument below the sign")
        return self.value(value(inner["·"]))

    def random(
        self, laws: tuple[tuple[str, str], ...], bodies: list[Node], env: Environment
    ) -> list[tuple[tuple[str, ...], Any]]:
        """Which names are drawn, from which laws."""
        kinds = Law | Density | Samples
        found: list[tuple[tuple[str, ...], Any]] = []
        for group, name in laws:
            names = tuple(n.strip() for n in group.split(",") if n.strip())
            law = env.get(name, env.get(name.partition("(")[0]))
            if not isinstance(law, kinds):
                raise Unreadable(f"the law {name!r} is not declared: give Law, Density or Samples in `where`")
            if not names and (name in _used(bodies, env)):
                found.append(((name,), law))
            elif not names:
                found.append((("·",), law))
            elif len(names) > 1 and isinstance(law, Law) and isinstance(law.atoms[0], tuple):
                found.append((names, law))
            else:
                found += [((n,), law) for n in names]
        if laws:
            return found
        used = _used(bodies, env)
        for key, law in env.items():
            names = tuple(n.strip() for n in key.split(","))
            if isinstance(law, kinds) and used & set(names):
                found.append((names, law))
        if not found:
            raise Unreadable(f"nothing in {', '.join(map(show, bodies))} is random: give a Law in `where`")
        return found

    def mean(
        self,
        random: list[tuple[tuple[str, ...], Any]],
        f: Callable[[dict[str, Any]], Any],
        env: Environment,
        condition: Node | None,
    ) -> Any:
        if condition is not None:
            one, zero = self.number("1"), self.number("0")
            inside = lambda inner: self.truth(condition, inner)
            mass = self.mean(random, lambda inner: one if inside(inner) else zero, env, None)
            if not self.positive(mass):
                raise ValueError(f"the condition {show(condition)} has probability zero")
            sample = f
            return self.mean(random, lambda inner: sample(inner) if inside(inner) else zero, env, None) * (one / mass)
        if not random:
            return f(dict(env))
        (names, law), *rest = random
        inner = lambda x: self.mean(rest, f, {**env, **self.bound(names, x)}, None)
        if isinstance(law, Density):
            ends = self.value(law.low), self.value(law.high)
            points = tuple(self.value(p) for p in law.points)
            with self.silent():
                if id(law) not in self._whole:
                    total = self.integral(lambda x: self.value(law.pdf(x)), *ends, points)
                    if self.is_far(total - 1):
                        raise ValueError(f"the density of {names[0]} integrates to {_brief(total)}, not to 1")
                    self._whole[id(law)] = law
                return self.integral(lambda x: self.value(law.pdf(x)) * inner(x), *ends, points)
        if isinstance(law, Samples):
            if rest:
                raise Unreadable("Samples are drawn alone: no other law beside them")
            values = [_number_in(inner(x)) for x in law.values]
            n = self.number(str(len(values)))
            average = sum(values[1:], values[0]) / n
            if not is_matrix(average):
                spread = sum((v - average) ** 2 for v in values) / (n - 1) / n
                self.errors.append((average, self.fn_sqrt(spread)))
            return average
        weights = [self.value(w) for w in law.weights]
        if self.is_far(sum(weights[1:], weights[0]) - 1):
            raise ValueError(f"the weights of {names[0]} add up to {_brief(sum(weights[1:], weights[0]))}, not to 1")
        total = None
        for atom, weight in zip(law.atoms, weights, strict=True):
            value = self.note(inner(atom) * weight)
            total = value if total is None else total + value
        return total

    def is_far(self, x: Any) -> bool:
        return self.positive(x * x - self.value(sp.Rational(1, 10**20)))

    def bound(self, names: tuple[str, ...], atom: Any) -> dict[str, Any]:
        if len(names) == 1:
            return {names[0]: self.item(atom)}
        return {n: self.item(a) for n, a in zip(names, atom, strict=True)}

    # Names

    def symbol(self, name: str, env: Environment) -> Any:
        if name in env:
            return self.known(name, env)
        base, _, index = name.partition("_")
        if index and base in env and (not callable(env[base]) or isinstance(env[base], Derived)):
            return self.value(self.component(self.known(base, env), index, env))
        if index and (key := self.counted(base, index, env)) in env:
            return self.known(key, env)
        constant = {"pi": self.pi, "e": self.e, "i": self.i, "infty": self.infinity}.get(name)
        if constant is not None:
            return constant
        if name == "I":
            return self.identity(env)
        raise Unreadable(f"{name!r} has no value: add it to `where` (there are {', '.join(sorted(env)) or 'none'}).")

    def known(self, name: str, env: Environment) -> Any:
        value = env[name]
        if isinstance(value, Derived):
            inside = {k: v for k, v in env.items() if k != name}  # so that a circle ends in a name without a value
            made = value.f(*(self.known_or_symbol(n, inside) for n in value.of))
            return made if isinstance(made, list | tuple) else self.value(made)
        if isinstance(value, list | tuple):
            return value
        if is_declaration(value):
            kind = type(value).__name__
            raise Unreadable(f"{name!r} is declared as {kind} and has no value by itself, where {kind} does not apply")
        return self.value(value)

    def known_or_symbol(self, name: str, env: Environment) -> Any:
        if name not in env:
            raise Unreadable(f"a Derived name depends on {name!r}, which has no value in `where`")
        return self.known(name, env)

    def counted(self, base: str, index: str, env: Environment) -> str:
        """``lambda_2`` for ``lambda_i`` where i is 2."""
        parts = index.split(",") if "," in index else [index] if index in env else list(index)
        if not all(p.isdigit() or (p in env and is_whole(env[p])) for p in parts) or not parts:
            return ""
        values = [p if p.isdigit() else str(whole_number(env[p])) for p in parts]
        return base + "_" + ("," if "," in index else "").join(values)

    def component(self, items: Any, index: str, env: Environment) -> Any:
        """The entry that an index such as ``2``, ``i`` or ``ij`` names, counted from 1; its letters have values."""
        return entry_at(items, self.places(items, index, env))

    def places(self, items: Any, index: str, env: Environment) -> list[int]:
        if "," in index:
            letters = index.split(",")
        else:
            single = index in env or (index.isdigit() and not (is_matrix(items) and not is_vector(items)))
            letters = [index] if single else list(index)
        if unknown := [c for c in letters if c not in env and not c.isdigit()]:
            raise Unreadable(
                f"the index {unknown[0]!r} has no value: add it, or the indexed symbol itself, to `where`."
            )
        places = [whole_number(env.get(c, c)) - 1 for c in letters]
        if min(places) < 0:
            raise ValueError(f"the index {index!r} is {min(places) + 1}: indices count from 1")
        return places

    def identity(self, env: Environment) -> Any:
        found = [v for v in env.values() if is_matrix(v) and is_square(v)]
        sizes = {v.rows if hasattr(v, "rows") else v.shape[0] for v in found}
        if len(sizes) != 1:
            raise Unreadable(f"the size of I is not clear from the matrices in `where` ({sorted(sizes)}): give I there")
        return self.eye(sizes.pop())

    def plus(self, a: Any, b: Any, node: Node) -> Any:
        a, b = _number_in(a), _number_in(b)
        if is_matrix(a) != is_matrix(b):
            raise ValueError(f"a number is added to a matrix in {show(node)}: write a multiple of I")
        if is_matrix(a) and (a.rows, a.cols) != (b.rows, b.cols):
            raise ValueError(f"matrices of {a.rows}×{a.cols} and {b.rows}×{b.cols} are added in {show(node)}")
        return a + b

    def call(self, name: str, args: tuple[Any, ...], env: Environment) -> Any:
        given = next((a for a in args if isinstance(a, Node) and a.op == "given"), None)
        if given is not None:
            before = [a for a in args if a is not given]
            flat = [*before, *given.args]
            key = f"{name}({', '.join(map(show, before))}|{', '.join(map(show, given.args))})"
            function = env.get(key, env.get(name + "(|)"))
            if function is None:
                raise Unreadable(f"the conditional {key} is not declared: give it, or '{name}(|)': f(first, given)")
            if not callable(function):
                return self.value(function)
            return self.value(function(*(v for a in flat for v in self.spread(a, env))))
        stem = name.rstrip("'")
        declared = env.get(name)
        if isinstance(declared, Operator):
            return self.value(declared.f(*(v for a in args for v in self.spread(a, env))))
        if callable(declared):
            return self.value(declared(*(v for a in args for v in self.passed(a, env))))
        if name != stem and callable(env.get(stem)):
            function: Callable[[Any], Any] = lambda x: self.value(env[stem](x))  # rebound below per prime
            for _ in range(len(name) - len(stem)):
                function = (lambda f: lambda x: self.derivative(f, x))(function)
            return function(self.evaluate(args[0], env))
        renamed = {"Tr": "tr", "ln": "log", "sgn": "sign", "sup": "max", "inf": "min"}.get(name, name)
        method = getattr(self, "fn_" + renamed, None)
        if method is None:
            raise Unreadable(f"the function {name!r} is not known: add it to `where`.")
        values = [v for a in args for v in (self.elements(a, env) if a.op == "set" else self.spread(a, env))]
        return method(*values)

    def passed(self, x: Node, env: Environment) -> list[Any]:
        """The arguments of a declared function; a law is passed as it is."""
        law = env.get(x.args[0]) if x.op == "sym" else None
        return [law] if isinstance(law, Law | Density | Samples) else self.spread(x, env)

    def fn_inner(self, a: Any, b: Any) -> Any:
        """The inner product of real columns (of matrices: the sum over their entries)."""
        if not is_matrix(a) or not is_matrix(b) or (a.rows, a.cols) != (b.rows, b.cols):
            raise ValueError("an inner product of things that are not matrices of one shape")
        if any(self.compare(x, "!=", self.conjugate(x)) for x in [*a, *b]):
            raise Unreadable("an inner product of complex vectors: declare it, Operator(f), under r'\\langle\\rangle'")
        return sum((x * y for x, y in zip(a, b, strict=True)), self.number("0"))

    def fn_coth(self, x: Any) -> Any:
        return self.number("1") / self.fn_tanh(x)

    def fn_cot(self, x: Any) -> Any:
        return self.fn_cos(x) / self.fn_sin(x)

    def fn_sec(self, x: Any) -> Any:
        return self.number("1") / self.fn_cos(x)

    def fn_csc(self, x: Any) -> Any:
        return self.number("1") / self.fn_sin(x)

    def fn_gcd(self, *values: Any) -> Any:
        from math import gcd

        return self.number(str(gcd(*(whole_number(v) for v in values))))

    def fn_max(self, *values: Any) -> Any:
        return max(self.several(values, "max"))

    def fn_min(self, *values: Any) -> Any:
        return min(self.several(values, "min"))

    def several(self, values: tuple[Any, ...], name: str) -> list[Any]:
        """Numbers, or the entries of the one vector or list that is given."""
        if len(values) == 1 and (isinstance(values[0], list | tuple) or is_matrix(values[0])):
            return [self.value(v) for v in values[0]]
        if len(values) == 1:
            raise ValueError(f"{name} of a single number")
        return [self.real(v, name) for v in values]

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
    return is_matrix(x) and 1 in ((x.rows, x.cols) if hasattr(x, "rows") else x.shape)


def is_whole(x: Any) -> bool:
    """True for whole numbers of any kind."""
    if isinstance(x, str) or is_matrix(x) or is_declaration(x) or (callable(x) and not isinstance(x, sp.Basic)):
        return False
    try:
        return bool(x == int(x))  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return False


def whole_number(x: Any) -> int:
    """``x`` as an index.

    Raises:
        ValueError: it is no whole number.
    """
    if isinstance(x, str) and x.isdigit():
        return int(x)
    if not is_whole(x):
        raise ValueError(f"{x} is no whole number, where an index or a limit of a sum needs one")
    return int(x)


def entry_of(items: Any, places: list[int], name: str) -> Any:
    """The entry at ``places``, which count from 1."""
    if min(places) < 1:
        raise ValueError(f"the index {min(places)} of {name}: indices count from 1")
    return entry_at(items, [p - 1 for p in places])


def entry_at(items: Any, places: list[int]) -> Any:
    try:
        return items[places[0]] if len(places) == 1 else items[tuple(places)]
    except (IndexError, TypeError) as error:
        raise ValueError(f"there is no entry {', '.join(str(p + 1) for p in places)}: {error}") from error


def _number_in(x: Any) -> Any:
    """The number in a matrix of one row and one column, such as ``v^T A v``."""
    if is_matrix(x) and hasattr(x, "rows") and (x.rows, x.cols) == (1, 1):
        return x[0, 0]
    return x


def _used(bodies: list[Node], env: Environment) -> set[str]:
    """The names that formulas use, and those that these depend on."""
    todo = [
        part
        for body in bodies
        for inner in nodes(body)
        if inner.op in {"sym", "call", "item", "upper"}
        for part in (inner.args[0], inner.args[0].partition("_")[0])
    ]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            if isinstance(env.get(name), Derived):
                todo += env[name].of
    return seen


def _brief(x: Any) -> str:
    if isinstance(x, dict):
        return ", ".join(f"{k} = {_brief(v)}" for k, v in x.items())
    return str(mp.nstr(x, 8)) if isinstance(x, mp.mpf | mp.mpc | mp.matrix) else str(x)


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
