r"""Read the TeX of an equation into a tree that can be evaluated and mutated.

The subset is the algebra and calculus of scalars and matrices. Products keep their order, nothing is simplified while
it is read, and what is not understood is refused: a check must compute what the page shows or nothing at all.

Conventions, those of the printed page:

* a function without parentheses takes the product that follows (``\det \exp tA``), with parentheses only those
  (``\det(A)\,x`` is det(A) times x); an operator (sum, product, limit, derivative, integral) takes the product that
  follows, so ``\sum_k a_k + b`` is (sum of a_k) + b;
* a letter followed by a parenthesis is applied if it is declared a function, else multiplied;
* ``e^{X}`` is the exponential, ``X^{\top}`` the transpose, ``X^{*}`` the conjugate transpose;
* ``a/b`` must not be followed by a further factor: write ``\frac``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from texledger._tree import Node, Reading, Relation, Unreadable

FUNCTIONS = set("exp log ln det tr Tr adj diag sin cos tan sinh cosh tanh arccos arctan max min sign".split())
STYLES = set("mathbf boldsymbol bm mathrm mathsf mathcal mathbb mathit operatorname text".split())
ACCENTS = set("dot ddot hat tilde bar vec".split())
SPACES = set(
    "left right limits nolimits displaystyle textstyle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr "
    "mathopen mathclose , ; : !".split()
) | {" "}
RELATIONS = {"=": "=", "<": "<", ">": ">", r"\le": "<=", r"\leq": "<=", r"\ge": ">=", r"\geq": ">=", r"\ne": "!="}
RELATIONS[r"\neq"] = "!="
GREEK = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell".split()
)
CLOSERS = set("+-*/)]},;.&!^_'") | {r"\\", r"\end", r"\cdot", r"\times", r"\}"}
TOKEN = re.compile(r"\\[A-Za-z]+|\\\\|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)


def tokens(tex: str, macros: dict[str, str] | None = None) -> list[str]:
    """Split ``tex`` after replacing ``macros`` (command -> TeX), without spaces and sizing commands."""
    for name, body in (macros or {}).items():
        boundary = r"(?![A-Za-z])" if name[-1].isalpha() else ""
        tex = re.sub(re.escape(name) + boundary, lambda _, body=body: f" {body} ", tex)
    found = [t for t in TOKEN.findall(tex) if not t.isspace()]
    return [t for t in found if not (t[0] == "\\" and len(t) > 1 and t[1:] in SPACES)]


def relations(tex: str, functions: Iterable[str] = (), macros: dict[str, str] | None = None) -> list[Relation]:
    r"""Every relation that ``tex`` states.

    Statements are separated by ``\qquad`` (or ``,\quad``); a part that begins with ``\text`` is a condition in words
    and is not read. A chain ``a = b = c`` gives two relations.

    Raises:
        Unreadable: some part lies outside the subset.
    """
    found = []
    for statement in _split(tokens(tex, macros), {r"\quad", r"\qquad"}):
        while statement and statement[-1] in {",", ".", ";"}:
            statement = statement[:-1]
        if not statement or statement[0] in {r"\text", r"\textrm", r"\mbox"}:
            continue
        signs = [t for t in _top_level(statement) if t in RELATIONS]
        sides = [_Reader(side, functions, tex).whole() for side in _split(statement, set(RELATIONS))]
        if not signs:
            raise Unreadable(f"{tex!r}: '{' '.join(statement)}' states no relation. Give `lhs=` and `rhs=` instead.")
        found += [Relation(a, RELATIONS[s], b) for a, s, b in zip(sides, signs, sides[1:], strict=False)]
    return found


def statements(tex: str, declared: Mapping[str, Any] | None = None, macros: dict[str, str] | None = None) -> Reading:
    r"""Everything that ``tex`` states: relations, the conditions under which they hold, and words that were not read.

    Args:
        tex: the equation as the page has it.
        declared: ``where``: names and their values, functions and declarations (:mod:`texledger._declared`).
        macros: TeX commands of the page and what they stand for.

    Raises:
        Unreadable: some part lies outside the subset, or has a meaning only if it is declared.
    """
    functions = [k for k, v in (declared or {}).items() if callable(v)]
    return Reading(relations(tex, functions, macros))


def sides(tex: str, macros: dict[str, str] | None = None) -> tuple[str, str]:
    """The raw TeX before the first relation sign and after it (for checks that read one side only)."""
    statement = _split(tokens(tex, macros), {r"\quad", r"\qquad"})[0]
    parts = _split(statement, {"="})
    if len(parts) < 2:
        raise Unreadable(f"{tex!r} has no '=': give `rhs=` instead.")
    last = parts[-1][:-1] if parts[-1] and parts[-1][-1] in {",", ".", ";"} else parts[-1]
    return " ".join(parts[0]), " ".join(last)


def read(tex: str, functions: Iterable[str] = (), macros: dict[str, str] | None = None) -> Node:
    """Read one expression (no relation sign)."""
    return _Reader(tokens(tex, macros), functions, tex).whole()


def _top_level(items: list[str]) -> Iterable[str]:
    depth = 0
    for t in items:
        depth += (t in {"{", r"\begin"}) - (t in {"}", r"\end"})
        if depth == 0:
            yield t


def _split(items: list[str], at: set[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    depth = 0
    for t in items:
        depth += (t in {"{", r"\begin"}) - (t in {"}", r"\end"})
        if depth == 0 and t in at:
            parts.append([])
        else:
            parts[-1].append(t)
    return parts


class _Reader:
    """Recursive descent over the tokens of one side of an equation."""

    def __init__(self, items: list[str], functions: Iterable[str], source: str) -> None:
        self.items, self.at, self.source = items, 0, source
        self.functions = FUNCTIONS | set(functions)
        self.bars = 0  # open |...| pairs
        self.integrals = 0

    def whole(self) -> Node:
        node = self.expression()
        if self.peek() is not None:
            raise self.refuse("is not expected here")
        return node

    def peek(self, ahead: int = 0) -> str | None:
        i = self.at + ahead
        return self.items[i] if i < len(self.items) else None

    def next(self) -> str:
        token = self.peek()
        if token is None:
            raise self.refuse("ends too early")
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.peek() != token:
            raise self.refuse(f"should be {token!r}")
        self.at += 1

    def refuse(self, why: str) -> Unreadable:
        here = self.peek()
        before = " ".join(self.items[max(0, self.at - 6) : self.at])
        return Unreadable(
            f"cannot read {self.source!r}: {'the end' if here is None else repr(here)} after {before!r} {why}. "
            "Write it in the subset of texledger, add a macro, or give the sides as `lhs=` and `rhs=`."
        )

    def expression(self) -> Node:
        terms = []
        sign = self.next() if self.peek() in {"+", "-"} else "+"
        while True:
            term = self.term()
            terms.append(Node("neg", (term,)) if sign == "-" else term)
            if self.peek() not in {"+", "-"}:
                return terms[0] if len(terms) == 1 else Node("add", tuple(terms))
            sign = self.next()

    def term(self, operand: bool = False, argument: bool = False) -> Node:
        """A product.

        As the ``operand`` of a sum, limit or derivative it leaves a bar ``|_{t=0}`` to the whole; as the ``argument``
        of a bare function it also ends at an explicit dot, a slash and the next function.
        """
        factors = [self.factor()]
        while True:
            token = self.peek()
            if token in {r"\cdot", r"\times", "*"} and not argument:
                self.next()
                factors.append(self.factor())
            elif token == "/" and not argument:
                self.next()
                below = self.factor()
                if self.starts_factor():
                    raise self.refuse("follows a/b: is it above or below the bar? Use \\frac, which")
                factors[-1] = Node("div", (factors[-1], below))
            elif token == "|" and self.peek(1) == "_":
                if operand or argument:
                    break
                self.at += 2
                node = factors[0] if len(factors) == 1 else Node("mul", tuple(factors))
                factors = [self.evaluated_at(node)]
            elif self.starts_factor():
                if argument and self.starts_function():
                    break
                factors.append(self.factor())
            else:
                break
        return factors[0] if len(factors) == 1 else Node("mul", tuple(factors))

    def evaluated_at(self, node: Node) -> Node:
        self.expect("{")
        variable = self.name()
        if self.peek() not in {"=", r"\to"}:
            raise self.refuse("should be '='")
        self.next()
        value = self.expression()
        self.expect("}")
        return Node("at", (node, variable, value))

    def starts_function(self) -> bool:
        token = self.peek() or ""
        return token[1:] in FUNCTIONS or token == r"\operatorname"

    def starts_factor(self) -> bool:
        token = self.peek()
        if token is None or token in RELATIONS or token in CLOSERS:
            return False
        if token in {"|", r"\|", r"\rVert", r"\rvert", r"\rangle"}:
            return token in {"|", r"\|"} and not self.bars and self.peek(1) != "_"
        return not (self.integrals and self.is_differential())

    def is_differential(self) -> bool:
        if self.peek() == "d":
            following = self.peek(1) or ""
            return following.isalpha() or following[1:] in GREEK
        return self.items[self.at : self.at + 4] == [r"\mathrm", "{", "d", "}"]

    def skip_differential(self) -> None:
        if self.items[self.at : self.at + 4] == [r"\mathrm", "{", "d", "}"]:
            self.at += 4
        elif self.peek() in {"d", r"\partial"}:
            self.at += 1
        else:
            raise self.refuse("should be a differential such as dx")

    def factor(self) -> Node:
        node = self.base()
        while True:
            token = self.peek()
            if token == "^":
                self.next()
                node = self.raised(node)
            elif token == "!":
                self.next()
                node = Node("call", ("factorial", node))
            else:
                return node

    def raised(self, base: Node) -> Node:
        upper = self.argument_tokens()
        if upper in ([r"\top"], [r"\mathsf", "T"], [r"\mathsf", "{", "T", "}"]):
            return Node("transpose", (base,))
        if upper in (["*"], [r"\ast"], [r"\dagger"]):
            return Node("adjoint", (base,))
        exponent = _Reader(upper, self.functions - FUNCTIONS, self.source).whole()
        return Node("call", ("exp", exponent)) if base == Node("sym", ("e",)) else Node("pow", (base, exponent))

    def argument_tokens(self) -> list[str]:
        r"""The tokens of a TeX argument: a braced group or one token, of a number one digit (``\frac12`` is 1/2)."""
        if self.peek() != "{":
            token = self.next()
            if token[0].isdigit() and len(token) > 1:
                self.items = [*self.items[: self.at], token[1:], *self.items[self.at :]]
            return [token[0] if token[0].isdigit() else token]
        start, depth = self.at + 1, 0
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return self.items[start : self.at - 1]

    def argument(self) -> Node:
        return _Reader(self.argument_tokens(), self.functions - FUNCTIONS, self.source).whole()

    def group(self, close: str) -> Node:
        bars, self.bars = self.bars, 0
        integrals, self.integrals = self.integrals, 0
        node = self.expression()
        self.expect(close)
        self.bars, self.integrals = bars, integrals
        return node

    def base(self) -> Node:
        token = self.peek()
        if token is None:
            raise self.refuse("ends too early")
        if token in "([{":
            self.next()
            return self.group({"(": ")", "[": "]", "{": "}"}[token])
        if token[0].isdigit():
            return Node("num", (self.next(),))
        if token in {"|", r"\lvert"}:
            return self.enclosed("|" if token == "|" else r"\rvert", "abs")
        if token in {r"\|", r"\lVert"}:
            return self.norm(r"\|" if token == r"\|" else r"\rVert")
        method = getattr(self, "read_" + token[1:], None) if token[0] == "\\" else None
        if method:
            self.next()
            return method()
        return self.named()

    def enclosed(self, close: str, function: str) -> Node:
        self.next()
        self.bars += 1
        node = self.expression()
        self.bars -= 1
        self.expect(close)
        return Node("call", (function, node))

    def norm(self, close: str) -> Node:
        node = self.enclosed(close, "norm")
        which = "2"
        if self.peek() == "_":
            self.next()
            which = "".join(self.argument_tokens())
        return Node("norm", (node.args[1], which))

    def named(self) -> Node:
        """A symbol, an indexed symbol, or a function applied to its argument."""
        name = self.name()
        if name not in self.functions and name.rstrip("'") not in self.functions - FUNCTIONS:
            return Node("sym", (name,))
        power = None
        if self.peek() == "^":
            self.next()
            power = self.argument()
        if self.peek() in {"(", "["}:
            close = {"(": ")", "[": "]"}[self.next()]
            values = [self.expression()]
            while self.peek() == ",":
                self.next()
                values.append(self.expression())
            self.expect(close)
        elif name in FUNCTIONS:
            values = [self.term(argument=True)]
        else:
            return Node("sym", (name,))
        call = Node("call", (name, *values))
        return call if power is None else Node("pow", (call, power))

    def name(self) -> str:
        token = self.next()
        if token[0] == "\\" and token[1:] in STYLES:
            name = "".join(self.argument_tokens())
        elif token[0] == "\\" and token[1:] in ACCENTS:
            name = token[1:] + " " + "".join(t.lstrip("\\") for t in self.argument_tokens())
        elif token[0] == "\\" and (token[1:] in GREEK or token[1:] in FUNCTIONS):
            name = token[1:]
        elif token == r"\infty":
            name = "infty"
        elif token.isalpha():
            name = token
        else:
            self.at -= 1
            raise self.refuse("is not understood")
        while self.peek() == "'":
            name += self.next()
        if self.peek() == "_":
            self.next()
            name += "_" + "".join(t.lstrip("\\") for t in self.argument_tokens())
            while self.peek() == "'":
                name += self.next()
        return name

    def read_frac(self) -> Node:
        above, below = self.argument_tokens(), self.argument_tokens()
        differentials = [["d"], [r"\partial"], [r"\mathrm", "{", "d", "}"], [r"\mathrm", "d"]]
        head = next((d for d in differentials if above[: len(d)] == d and below[: len(d)] == d), None)
        if head is None:
            return Node("div", (self.sub(above), self.sub(below)))
        variable = _Reader(below[len(head) :], (), self.source).name()
        body = self.sub(above[len(head) :]) if above[len(head) :] else self.term(operand=True)
        return Node("diff", (body, variable))

    read_tfrac = read_dfrac = read_frac

    def sub(self, items: list[str]) -> Node:
        return _Reader(items, self.functions - FUNCTIONS, self.source).whole()

    def read_sqrt(self) -> Node:
        if self.peek() == "[":
            raise self.refuse("(a root of higher order) should be written as a power; it")
        return Node("call", ("sqrt", self.argument()))

    def read_binom(self) -> Node:
        return Node("call", ("binom", self.argument(), self.argument()))

    def read_lim(self) -> Node:
        self.expect("_")
        self.expect("{")
        variable = self.name()
        self.expect(r"\to")
        target = self.expression()
        self.expect("}")
        return Node("lim", (self.term(operand=True), variable, target))

    def bounds(self) -> tuple[str | None, Node, Node]:
        """Read ``_{k=a}^{b}`` or ``_a^b`` in either order."""
        variable, low, high = None, None, None
        while self.peek() in {"_", "^"}:
            if self.next() == "^":
                high = self.argument()
                continue
            items = self.argument_tokens()
            if "=" in items:
                cut = items.index("=")
                variable = _Reader(items[:cut], (), self.source).name()
                items = items[cut + 1 :]
            low = self.sub(items)
        if low is None or high is None:
            raise self.refuse("comes after a sum, product or integral without both limits, which")
        return variable, low, high

    def read_sum(self, op: str = "sum") -> Node:
        variable, low, high = self.bounds()
        if variable is None:
            raise self.refuse("comes after a sum or product whose index is not named, which")
        return Node(op, (self.term(operand=True), variable, low, high))

    def read_prod(self) -> Node:
        return self.read_sum("prod")

    def read_int(self) -> Node:
        _, low, high = self.bounds()
        self.integrals += 1
        body = self.expression()
        self.integrals -= 1
        self.skip_differential()
        return Node("int", (body, self.name(), low, high))

    def read_begin(self) -> Node:
        kind = "".join(self.argument_tokens())
        if kind not in {"pmatrix", "bmatrix", "matrix", "vmatrix"}:
            raise self.refuse(f"follows \\begin{{{kind}}}, which")
        rows: list[list[Node]] = [[]]
        while self.peek() != r"\end":
            rows[-1].append(self.expression())
            if self.peek() == "&":
                self.next()
            elif self.peek() == r"\\":
                self.next()
                rows.append([])
        self.next()
        self.argument_tokens()
        matrix = Node("matrix", tuple(tuple(row) for row in rows if row))
        return Node("call", ("det", matrix)) if kind == "vmatrix" else matrix
