r"""Read the TeX of an equation into a tree that can be evaluated and mutated.

The subset is the algebra, calculus and probability of scalars and matrices; ``SUBSET.md`` shows it by examples.
Products keep their order, nothing is simplified while it is read, and what is not understood is refused: a check must
compute what the page shows or nothing at all.

Conventions, those of the printed page:

* a function without parentheses takes the product that follows (``\det \exp tA``), with parentheses only those
  (``\det(A)\,x`` is det(A) times x); an operator (sum, product, limit, derivative, integral) takes the product that
  follows, so ``\sum_k a_k + b`` is (sum of a_k) + b; if a later term holds the operator's own index, it is refused;
* a letter followed by a parenthesis is applied if it is declared a function, else multiplied;
* ``e^{X}`` is the exponential and ``X^{\top}`` the transpose; every other superscript that is a name, a mark or an
  index has a meaning only if it is declared;
* ``a/b`` must not be followed by a further factor: write ``\frac``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

from texledger._declared import Indexed, Means, Operator, Optimum, Over, Superscript, is_declaration
from texledger._tokens import (
    CLOSE,
    OPEN,
    STYLES,
    SWITCHES,
    Apart,
    Glued,
    Numbered,
    Spaced,
    spelled,
    split,
    tokens,
    top_level,
)
from texledger._tree import Node, Reading, Relation, Unreadable, nodes, show

FUNCTIONS = set(
    "exp log ln lg det tr Tr adj diag sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan max min sup inf "
    "sign sgn gcd lcm rank erf Re Im".split()
)
NUMERIC = FUNCTIONS | set("sqrt root abs floor ceil factorial doublefactorial binom inner".split())
OVER_PRODUCTS = set("det tr Tr rank diag vec".split())  # of the whole product of letters
DISTANCES = set("d D W H B rho".split())  # their squares are powers; P^2(x, y) may be two steps of a chain
ENDLESS = set("log ln lg det tr Tr sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan rank".split())
ACCENTS = set("dot ddot dddot hat widehat tilde widetilde bar overline vec check acute grave breve mathring".split())
RELATIONS = {
    "=": "=", "<": "<", ">": ">", r"\le": "<=", r"\ge": ">=", r"\ne": "!=", ":=": ":=", "=:": ":=", r"\equiv": "≡",
    r"\approx": "≈", r"\simeq": "≈", r"\sim": "∼", r"\propto": "∝", r"\in": "∈", r"\notin": "∉", r"\subset": "⊂",
    r"\subseteq": "⊂", r"\to": "→", r"\mapsto": "→", r"\ll": "≪", r"\gg": "≫", r"\gets": "←",
}  # fmt: skip
ORDERED = {"=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\notin", r"\sim", r"\subset", r"\subseteq"}
GREEK = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi rho varrho "
    "sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega "
    "ell hbar infty emptyset aleph varkappa digamma imath jmath complement".split()
)
CLOSERS = set("+-*/,;.&!^_':") | CLOSE | {r"\\", r"\cdot", r"\times", r"\mid", r"\pm", r"\mp", r"\bmod", r"\ldots"}
CLOSERS |= {"=:", r"\quad", r"\qquad", r"\implies", r"\iff", r"\colon", r"\forall", r"\exists", r"\wedge", r"\vee"}
INFIX = {r"\odot", r"\otimes", r"\oplus", r"\circ", r"\star", r"\ast", r"\cup", r"\cap", r"\setminus", r"\bullet"}
INFIX |= {
    r"\pm",
    r"\mp",
    r"\wedge",
    r"\vee",
    r"\ltimes",
    r"\oslash",
    r"\ominus",
    r"\circledast",
    r"\div",
    r"\bmod",
    "*",
}
UNRANKED = {r"\otimes", r"\circ", r"\star", r"\ast", "*", r"\times"}  # nothing says whether a product binds closer
MARKS = {"*", r"\ast", r"\star", r"\dagger", r"\circ", r"\prime", "+", "-", r"\#", r"\perp", r"\sharp", r"\flat", "'"}
MARKS |= {r"\ddagger", r"\ominus", r"\oplus", r"\pm", r"\infty", r"\bullet", r"\wedge", r"\vee", r"\times"}
OPERATORS = {"operatorname", "operatorname*", "mathop"}
BOLD = {"mathbf", "boldsymbol", "bm", "pmb"}
PROBLEMS = {"minimize": "min", "minimise": "min", "Minimize": "min", "maximize": "max", "maximise": "max"}
PROBLEMS |= {"Maximize": "max", "Minimise": "min", "Maximise": "max"}
LONG = {r"\sum": "sum", r"\prod": "prod", r"\max": "max", r"\min": "min", r"\sup": "sup", r"\inf": "inf"}
LONG |= {r"\argmax": "argmax", r"\argmin": "argmin", r"\bigcup": "union", r"\bigcap": "intersection"}
OPTIMA = {"max", "min", "sup", "inf", "argmax", "argmin", "esssup", "essinf"}
PROBABILITY = {"E": "E", "Var": "Var", "Cov": "Cov", "Pr": "Pr", "P": "Pr", "V": "Var", "Corr": "Corr"}
MEANINGS = {"expectation": "E", "probability": "Pr", "variance": "Var", "covariance": "Cov"}
DOTS = Node("dots", ())
EXPONENTIAL = re.compile(r"(?<![A-Za-z\\])e\s*\^\s*\{?\s*(?!2\b|\\top|T\b)\S")  # e as Euler's number, not as an error
ROWS = set("aligned align align* alignedat alignat alignat* split gather gather* gathered eqnarray eqnarray*".split())
ROWS |= set("multline multline* equation equation* flalign flalign* dcases".split()) - {"dcases"}
MATRICES = set(
    "pmatrix bmatrix matrix vmatrix Vmatrix Bmatrix smallmatrix array pmatrix* bmatrix* psmallmatrix".split()
)

GUARDS = (
    "for for all|for every|for each|for any|for some|if|where|with|when|while|whenever|at|given|subject to|s.t|s. t|st|"
    "such that|provided|provided that|as|and where|if and only if|in which|assuming|on|for all|where also|iff"
).replace("for for all", "for|for all")
GUARD_WORDS = set(GUARDS.split("|")) - {"if and only if", "iff"}
JOINING = {"and", "and so", "so", "hence", "thus", "so that", "therefore", "then", "and thus", "&", "and hence", ""}
COUNTS = {"i", "j", "k", "l", "m", "n", "mu", "nu"}
CONSTRAINTS = {"subject to", "s.t", "s. t", "st", "such that"}
BETWEEN = set(
    "in on over under or but near between from to by via using since because unless until during within inside outside "
    "after before only either both denotes means implies i.e e.g a.s w.p vs versus almost whose which that is are be "
    "has".split()
)
OTHERWISE = {"otherwise", "else", "if otherwise", "or else", "elsewhere", "in all other cases", "in other cases"}


class _Page:
    """What is known while one equation is read: declarations, bound names, spellings."""

    def __init__(self, declared: Mapping[str, Any] | None, source: str) -> None:
        self.strict = declared is not None
        self.declared: dict[str, Any] = {}
        for key, value in (declared or {}).items():
            self.declared[key_of(key)] = value
        self.together = {n.strip() for k in self.declared for n in k.split(",") if "(" not in k}  # "x, y": one law
        self.functions = {k for k, v in self.declared.items() if is_function(v)}
        self.functions |= {k.partition("(")[0] for k in self.declared if "(" in k and "^" not in k.partition("(")[0]}
        self.indexed = {k for k, v in self.declared.items() if isinstance(v, Indexed)}
        self.source = source
        self.bound: list[str] = []
        self.spellings: dict[str, str] = {}
        self.unread: list[str] = []

    @contextmanager
    def binding(self, *names: str) -> Any:
        self.bound += names
        try:
            yield
        finally:
            del self.bound[len(self.bound) - len(names) :]

    def means(self, name: str) -> str | None:
        value = self.declared.get(name)
        return MEANINGS.get(value.what) if isinstance(value, Means) else None

    def is_value(self, name: str) -> bool:
        """True if ``name`` has, or will be given, a number or matrix: what a power can be taken of."""
        if name in self.bound:
            return True
        if name in self.declared:
            value = self.declared[name]
            return not is_function(value) and not isinstance(value, Means | Operator | Superscript | Indexed)
        if name in {"e", "i", "I", "pi"}:
            return True
        base, _, index = name.partition("_")
        return bool(index) and base in self.declared and not is_function(self.declared[base])


def is_function(value: Any) -> bool:
    """True for a function, or a declaration whose values are functions."""
    import mpmath as mp
    import sympy as sp

    if isinstance(value, Optimum):
        return is_function(value.at)
    if isinstance(value, Over):
        return bool(value.items) and is_function(value.items[0])
    if is_declaration(value):
        return False
    constant = hasattr(value, "_mpf_")  # mp.e and mp.pi can be called
    return callable(value) and not constant and not isinstance(value, sp.Basic | sp.MatrixBase | mp.mpc | mp.matrix)


def key_of(key: str) -> str:
    r"""The spelling of a key of ``where``; a key in TeX is spelled as the reader spells it.

    >>> key_of(r"\hat{x}_i^{(k)}"), key_of("x^*"), key_of(r"V^\pi")
    ('hat x_i^(k)', 'x^*', 'V^pi')
    """
    if key.startswith("^"):
        return "^" + spelled(tokens(key[1:]))
    if "\\" not in key and "{" not in key:
        return key.strip()
    if key[0] == "\\" and key.replace("\\", "").isalpha() and key[1:] not in GREEK | STYLES:
        return key  # the command of an operator
    if key in {r"\langle\rangle", r"\{\}"}:
        return key
    page = _Page(None, key)
    reader = _Reader(tokens(key), page)
    name = reader.raw_name()
    if reader.peek() == "^":
        reader.next()
        name += "^" + spelled(reader.argument_tokens())
        if reader.peek() == "_":
            reader.next()
            base, _, upper = name.partition("^")
            name = f"{base}_{spelled(reader.argument_tokens())}^{upper}"
    if reader.peek() is not None:
        raise Unreadable(f"{key!r} in `where` is no name: {reader.peek()!r} is too much")
    return name


def keyed(where: Mapping[str, Any]) -> dict[str, Any]:
    """``where`` with its keys spelled as the reader spells names, for :meth:`Arithmetic.evaluate`.

    Raises:
        Unreadable: two keys are spelled alike.
    """
    found: dict[str, Any] = {}
    for key, value in where.items():
        if (name := key_of(key)) in found:
            raise Unreadable(f"two keys of `where` are spelled {name!r}")
        found[name] = value
    return found


def statements(tex: str, declared: Mapping[str, Any] | None = None, macros: Mapping[str, str] | None = None) -> Reading:
    r"""Everything that ``tex`` states: relations, the conditions under which they hold, and words that were not read.

    Args:
        tex: the equation as the page has it.
        declared: ``where``: names and their values, functions and declarations (:mod:`texledger._declared`). Without
            it nothing is known about a name, and superscripts that are letters are read as powers.
        macros: TeX commands of the page and what they stand for.

    Raises:
        Unreadable: some part lies outside the subset, or has a meaning only if it is declared.
    """
    page = _Page(declared, tex)
    try:
        reading = _Statements(page).read(tokens(tex, macros))
    except RecursionError as error:
        raise Unreadable(f"cannot read {tex[:80]!r}...: brackets are nested too deeply") from error
    if not reading.relations and not reading.expressions:
        raise Unreadable(f"cannot read {tex!r}: it states nothing")
    return reading


def read(tex: str, declared: Mapping[str, Any] | None = None, macros: Mapping[str, str] | None = None) -> Node:
    """One expression (no relation sign), read as :func:`statements` reads a side."""
    return _Reader(tokens(tex, macros), _Page(declared, tex)).whole()


class _Statements:
    """Rows, statements and conditions: what stands around the formulas."""

    def __init__(self, page: _Page) -> None:
        self.page = page
        self.reading = Reading()
        self.guarding = False  # what follows are conditions: words such as "where" came before
        self.constrained = False  # so are all later rows: "subject to" came before
        self.said: list[str] = []  # such words that nothing has followed yet
        self.order: list[tuple[int, bool, Relation]] = []  # rows of relations; whether they are conditions

    def read(self, items: list[str]) -> Reading:
        for number, row in enumerate(self.rows(items)):
            self.guarding = self.constrained
            for piece in split(row, {r"\quad", r"\qquad", ";"}):
                before = len(self.reading.relations), len(self.reading.conditions)
                self.piece(piece)
                stated, guards = self.reading.relations[before[0] :], self.reading.conditions[before[1] :]
                self.order += [(number, False, r) for r in stated]
                if not self.constrained:
                    self.order += [(number, True, c) for c in guards if isinstance(c, Relation)]
            if self.said and not self.constrained:
                self.reading.conditions.append(_said(self.said))
                self.said = []
        if len(self.reading.expressions) > bool(not self.reading.relations):
            raise Unreadable(
                f"cannot read {self.page.source!r}: {self.reading.expressions[-1]} stands beside other statements and "
                "says nothing. If it goes on with the row before, begin it with the sign between them."
            )
        self.whose()
        self.reading.unread.extend(self.page.unread)
        return self.reading

    def whose(self) -> None:
        """Refuse a condition that may belong to one of several statements or to all of them.

        It belongs to all if it comes last and alone in its row, or last in the only row; to one, if the others do not
        hold its names.
        """
        last = max((row for row, _, _ in self.order), default=0)
        for place, (row, guard, one) in enumerate(self.order):
            if not guard:
                continue
            names = {one.left.args[0]} if one.left.op == "sym" else _free(one.left)
            names |= _free(one.right) if one.sign == "!=" else set()
            alone = all(g for r, g, _ in self.order if r == row)
            later = [s for _, g, s in self.order[place:] if not g]
            above = [s for r, g, s in self.order if not g and r != row]
            doubt = later if alone or last == 0 else [*above, *later]
            rivals = [
                c
                for r, g, c in self.order
                if g and r != row and not alone and any(not h and q == r for q, h, _ in self.order)
            ]
            doubt += [c for c in rivals if names & _free(c.left)]
            held = [names & (_free(s.left) | _free(s.right)) for s in doubt]
            if any(h == names if one.sign == "!=" else h for h in held):
                raise Unreadable(
                    f"cannot read {self.page.source!r}: is the condition {one} one of all statements or of one? Print "
                    "it last, in a row of its own, or display the statements apart."
                )

    def rows(self, items: list[str]) -> list[list[str]]:
        """Statements of an aligned display; a row that begins or ends with an operator belongs to its neighbour."""
        lines: list[list[str]] = [[]]
        i, depth, column, inner, eqnarray = 0, 0, 0, 0, False
        while i < len(items):
            t = items[i]
            kind, after = self.environment(items, i) if t in {r"\begin", r"\end"} else ("", i)
            if kind in ROWS:
                eqnarray = "eqnarray" in kind
                i, column = after, 0
                if t == r"\begin" and kind.startswith("aligned") and items[i : i + 1] == ["["] and "]" in items[i:]:
                    i = items.index("]", i) + 1
                if "alignat" in kind or kind == "alignedat":
                    i = self.skip_group(items, i) if t == r"\begin" else i
                continue
            if kind:
                inner += 1 if t == r"\begin" else -1
            depth += (t in OPEN) - (t in CLOSE)
            if inner == 0 and not kind and t == r"\\":
                i, column = i + 1, 0
                if i < len(items) and items[i] == "[" and "]" in items[i : i + 4]:
                    i = items.index("]", i) + 1
                lines.append([])
                continue
            if inner == 0 and t == "&":
                column += 1
                before, following = lines[-1][-1:], [x for x in items[i + 1 : i + 4] if x != "&"][:1]
                is_sign = (before and before[0] in RELATIONS) or (following and following[0] in RELATIONS)
                if column % 2 == 0 and not is_sign and not eqnarray and depth <= 0:
                    lines[-1].append(r"\qquad")
                i += 1
                continue
            lines[-1].append(t)
            i += 1
        joined: list[list[str]] = []
        stepwise: set[int] = set()
        for line in lines:
            while line and line[0] in {r"\quad", r"\qquad"}:
                line = line[1:]
            while line and line[-1] in {r"\quad", r"\qquad"}:
                line = line[:-1]
            if not line:
                continue
            begins = line[0] in RELATIONS or line[0] in {"+", "-", r"\cdot", r"\times", "/", "*"} or line[0] in CLOSE
            last = joined[-1][-1] if joined else ""
            ends = last in RELATIONS or last in {"+", "-", r"\cdot", r"\times", "/", "*", r"\left."}
            open_ = bool(joined) and sum((t in OPEN) - (t in CLOSE) for t in joined[-1]) > 0
            if joined and line[0] in RELATIONS and not open_ and (cut := self.remark(joined[-1])) is not None:
                self.step_only(joined[-1][cut:])
                joined[-1] = joined[-1][:cut]
                stepwise.add(len(joined) - 1)
                last = joined[-1][-1]
            signs = [t for _, t in top_level(line) if t in RELATIONS]
            if joined and line[0] in {"+", "-"} and signs and not open_ and not ends:
                raise Unreadable(
                    f"cannot read {self.page.source!r}: a row that begins with {line[0]!r} and holds {signs[0]!r} "
                    "may go on with the row before or state something new. Break the row before the relation."
                )
            if joined and (begins or ends or open_):
                line = [r"\cdot", *line[1:]] if line[0] == r"\times" else line
                joined[-1] = [*joined[-1][:-1], r"\cdot"] if joined[-1][-1] == r"\times" else joined[-1]
                if line[0] in {"=", r"\approx", r"\le", r"\ge"} and last in {",", "."}:
                    joined[-1] = joined[-1][:-1]
                if line[0] == last and last in {"+", "-", r"\cdot", r"\times"}:
                    line = line[1:]  # the sign is printed at the end of a row and again at the next one's beginning
                joined[-1] = joined[-1] + line
            else:
                joined.append(line)
        for k in stepwise:
            if (cut := self.remark(joined[k])) is not None:  # what is said beside the last step
                self.step_only(joined[k][cut:])
                joined[k] = joined[k][:cut]
        return joined

    def step_only(self, items: list[str]) -> None:
        """What is said beside one step of a chain is no condition of the whole: it stays words."""
        self.reading.conditions.append(_said([t for t in items if t not in {r"\quad", r"\qquad"}]))

    def remark(self, line: list[str]) -> int | None:
        """Where the words or the condition beside a step of a chain begin, which the next row goes on with."""
        cuts = [
            i for i, t in top_level(line) if i and (t in {r"\quad", r"\qquad"} or (t[0] == '"' and _is_connective(t)))
        ]
        for i in cuts:
            tail = [t for t in line[i:] if t not in {r"\quad", r"\qquad"}]
            worded = bool(tail) and tail[0][0] == '"' and _is_connective(tail[0])
            bracketed = tail[:1] == ["("] and _closing(tail, 0) == len(tail) - 1 and any(t in RELATIONS for t in tail)
            if worded or bracketed or tail[:1] == [r"\forall"]:
                return i
        return None

    def environment(self, items: list[str], i: int) -> tuple[str, int]:
        end = i + 1
        while end < len(items) and items[end] != "}":
            end += 1
        return "".join(items[i + 2 : end]), end + 1

    def skip_group(self, items: list[str], i: int) -> int:
        if i < len(items) and items[i] == "{":
            return items.index("}", i) + 1
        return i + 1

    def piece(self, items: list[str]) -> None:
        """One part between wide spaces: a statement, a condition, or both with words between."""
        items = _trimmed(items)
        if not items:
            return None
        cut = next((i for i, t in top_level(items) if i and t[0] == '"' and _is_connective(t)), None)
        if cut is not None:
            self.piece(items[:cut])
            self.piece(items[cut:])
            return None
        if items[0][0] == '"' and _is_connective(items[0]):
            return self.words(items)
        if items[0] == r"\forall":
            return self.condition(items[1:], items)
        if items[0] == "(" and items[-1] == ")" and _closing(items, 0) == len(items) - 1:
            if any(t in RELATIONS for _, t in top_level(items[1:-1])):
                return self.condition(items[1:-1], items)
            if any(t[0] == '"' for t in items):
                self.reading.conditions.append(_said(items))
                return None
        logic = [i for i, t in top_level(items) if t in {r"\implies", r"\iff"}]
        if logic:
            self.implication(items, logic)
            return None
        if r"\forall" in items:
            cut = items.index(r"\forall")
            self.piece(items[:cut])
            self.condition(items[cut + 1 :], items[cut:])
            return None
        if self.guarding:
            whole, self.said = [*self.said, *items], []
            return self.condition(items, whole)
        found = self.stated(items)
        later = bool(self.reading.relations or self.reading.expressions)
        before: Node | None = None
        for one in found:
            member = isinstance(one, Relation) and one.sign in {"∈", "∉"}
            stated = not self.reading.expressions and all(r.sign in {"∈", "∉"} for r in self.reading.relations)
            if isinstance(one, Relation) and member and later and not stated:
                self.reading.conditions.append(one)
            elif isinstance(one, Relation):
                bare = all(s.op in {"sym", "num"} or _integer(s) is not None for s in (one.left, one.right))
                if (
                    later
                    and bare
                    and before is not one.left
                    and one.sign in {"<", ">", "<=", ">=", "!="}
                    and self.page.strict
                ):
                    raise Unreadable(
                        f"cannot read {self.page.source!r}: {one} may be a claim or a condition. Write \\text{{for}} "
                        "before a condition; display a claim by itself."
                    )
                self.reading.relations.append(one)
            else:
                self.reading.expressions.append(one)
            later, before = True, one.right if isinstance(one, Relation) else None
        return None

    def implication(self, items: list[str], cuts: list[int]) -> None:
        if len(cuts) > 1:
            raise Unreadable(f"cannot read {self.page.source!r}: a chain of implications; state one at a time")
        left = [r for r in self.stated(_trimmed(items[: cuts[0]])) if isinstance(r, Relation)]
        right = [r for r in self.stated(_trimmed(items[cuts[0] + 1 :])) if isinstance(r, Relation)]
        if not left or not right:
            raise Unreadable(f"cannot read {self.page.source!r}: an implication needs a relation on both sides")
        if items[cuts[0]] == r"\iff":
            both = [_conjunction([Node("holds", (r.left, r.sign, r.right)) for r in part]) for part in (left, right)]
            self.reading.relations.append(Relation(both[0], "⟺", both[1]))
        elif self.reading.relations:
            raise Unreadable(f"cannot read {self.page.source!r}: an implication beside other statements")
        else:
            self.reading.conditions.extend(left)
            self.reading.relations.extend(right)

    def words(self, items: list[str]) -> None:
        said = _normal(items[0])
        rest = _trimmed(items[1:])
        if said in JOINING:
            return self.piece(rest) if rest else None
        if said in GUARD_WORDS:
            self.guarding = True
            self.constrained |= said in CONSTRAINTS
            if rest:
                self.condition(rest, items)
            else:
                self.said = items
            return None
        if any(t in RELATIONS for _, t in top_level(rest)):
            raise Unreadable(
                f"cannot read {self.page.source!r}: what follows {items[0][1:]!r} states something, but the words say "
                "neither 'and' nor 'if'. Separate it by \\qquad, or begin the condition with 'for', 'if' or 'where'."
            )
        self.reading.conditions.append(_said(items))
        return None

    def condition(self, items: list[str], whole: list[str]) -> None:
        """A guard if it can be read, else its words."""
        try:
            found = self.stated(_trimmed(items))
        except Unreadable:
            if any(t in RELATIONS for t in items) and self.page.strict:
                raise
            found = []
        if found and all(isinstance(r, Relation) for r in found):
            self.reading.conditions.extend(r for r in found if isinstance(r, Relation))
        else:
            self.reading.conditions.append(_said(whole))

    def stated(self, items: list[str]) -> list[Relation | Node]:
        """The relations (or the lone expression) of one statement; commas separate statements and lists."""
        segments = self.ranges(split(items, {","}))
        groups: list[list[list[str]]] = []
        pending: list[list[str]] = []
        for segment in segments:
            has_sign = any(t in RELATIONS for _, t in top_level(segment))
            if has_sign:
                groups.append([*pending, segment])
                pending = []
            elif groups and not pending and self.continues(groups[-1], segment):
                groups[-1].append(segment)
            else:
                pending.append(segment)
        found: list[Relation | Node] = []
        for group in groups:
            found += self.group(group)
        if pending and not groups and len(pending) == 1:
            return [_Reader(_trimmed(pending[0]), self.page).whole()]
        if pending:
            raise Unreadable(
                f"cannot read {self.page.source!r}: {' '.join(pending[0]) or 'a comma'!r} stands between commas and "
                "belongs to nothing. Separate statements by \\qquad, write a list in brackets."
            )
        return found

    def ranges(self, segments: list[list[str]]) -> list[list[str]]:
        """``1 \\le i, j \\le n`` says the same of each name.

        Raises:
            Unreadable: ``a < i, j < b`` may be two statements, or the same of each name.
        """
        order = {"<", r"\le"}
        k = 0
        while k + 1 < len(segments):
            first, last = (split(s, set(RELATIONS)) for s in segments[k : k + 2])
            signs = [t for s in segments[k : k + 2] for _, t in top_level(s) if t in RELATIONS]
            alone = [len(p) == 1 and (p[0].isalpha() or p[0][1:] in GREEK) for p in (first[-1], last[0])]
            if len(first) == len(last) == 2 and set(signs) <= order and len(signs) == 2 and all(alone):
                if not first[0][0].isdigit():
                    raise Unreadable(
                        f"cannot read {self.page.source!r}: two statements, or a range of two names? Separate "
                        "statements by \\qquad, and give each name its range."
                    )
                low, high = [*first[0], signs[0]], [signs[1], *last[1]]
                segments[k : k + 2] = [[*low, *first[1], *high], [*low, *last[0], *high]]
            k += 1
        return segments

    def continues(self, group: list[list[str]], segment: list[str]) -> bool:
        """``i = 1, \\ldots, n``: dots or further items after a relation."""
        if len(segment) == 1 and segment[0].isdigit() and len(segment[0]) == 3:
            raise Unreadable(f"cannot read {self.page.source!r}: is {segment[0]} an item, or are they thousands?")
        following = segment == [r"\ldots"] or any(s == [r"\ldots"] for s in group)
        return following or (bool(segment) and all(t.isdigit() for t in segment))

    def group(self, group: list[list[str]]) -> list[Relation | Node]:
        at = next(i for i, s in enumerate(group) if any(t in RELATIONS for _, t in top_level(s)))
        main = group[at]
        signs = [t for _, t in top_level(main) if t in RELATIONS]
        parts = split(main, set(RELATIONS))
        if any(t in {r"\wedge", r"\vee"} for p in parts[1:-1] for _, t in top_level(p)):
            raise Unreadable(
                f"cannot read {self.page.source!r}: \\wedge between relations may join them or what stands beside it: "
                "separate them by commas"
            )
        if group[at + 1 :]:
            *head, start = parts
            if signs[-1] not in {"=", r"\in"} or len(signs) > 1:
                raise Unreadable(f"cannot read {self.page.source!r}: a list after {signs[-1]!r}")
            domain = _listed([start, *group[at + 1 :]], self.page)
            names = [*group[:at], head[0]]
            return [Relation(_Reader(_trimmed(n), self.page).whole(), "∈", domain) for n in names]
        if group[:at] and signs[0] not in {r"\in", r"\notin", r"\sim", ">", r"\ge", "<", r"\le"}:
            raise Unreadable(f"cannot read {self.page.source!r}: a list before {signs[0]!r}; state each by itself")
        colon = [i for i, t in top_level(main) if t in {":", r"\colon"}]
        if colon and signs == [r"\to"]:
            name, arrow = main[: colon[0]], split(main[colon[0] + 1 :], {r"\to"})
            sets = tuple(_domain(p, self.page) for p in arrow)
            return [Relation(_Reader(name, self.page).whole(), "∈", Node("infix", (r"\to", *sets)))]
        left = main.index(signs[0])
        sides_ = []
        for k, part in enumerate(parts):
            before = signs[k - 1] if k else ""
            part = _trimmed(part)
            if before in {r"\in", r"\notin", r"\subset", r"\subseteq"} or (k == 0 and signs[0] in {r"\subset"}):
                sides_.append(_domain(part, self.page))
            else:
                side = _Reader(part, self.page).whole()
                if before == r"\sim" and side.op == "pow" and self.page.strict:
                    what = f"{side} may be a power or the name of a law"
                    raise _undeclared(self.page, what, str(side), f"Declare {str(side)!r}.")
                sides_.append(side)
        found: list[Relation | Node] = []
        for extra in group[:at]:
            found.append(Relation(_Reader(_trimmed(extra), self.page).whole(), RELATIONS[signs[0]], sides_[1]))
        del left
        for a, s, b in zip(sides_, signs, sides_[1:], strict=False):
            flipped = s == "=:"
            found.append(Relation(b, RELATIONS[s], a) if flipped else Relation(a, RELATIONS[s], b))
        return found


def _parallel(items: list[str]) -> list[str]:
    r"""The arguments of ``D(p \| q)``, ``D(p \parallel q)`` and ``D(p || q)`` with a semicolon between them."""
    bars = [i for i, t in top_level(items) if t in {r"\|", r"\parallel"}]
    single = [i for i, t in top_level(items) if t == "|"]
    if len(bars) == 1 and not single:
        return [*items[: bars[0]], ";", *items[bars[0] + 1 :]]
    if not bars and len(single) == 2 and single[1] == single[0] + 1 and 0 < single[0] < len(items) - 2:
        return [*items[: single[0]], ";", *items[single[1] + 1 :]]
    return items


def _undeclared(page: _Page, what: str, needs: str, remedy: str) -> Unreadable:
    error = Unreadable(f"cannot read {page.source!r}: {what}. {remedy}")
    error.needs = needs
    return error


def _trimmed(items: list[str]) -> list[str]:
    while items and items[-1] in {",", ".", ";", r"\quad", r"\qquad", ":"}:
        items = items[:-1]
    while items and items[0] in {",", ";", r"\quad", r"\qquad"}:
        items = items[1:]
    return items


def _normal(word: str) -> str:
    return word[1:].strip(" ,.;:()").lower()


def _is_connective(word: str) -> bool:
    """Words between formulas, not a name in letters such as ``\\text{loss}``."""
    said = _normal(word)
    first = said.split(" ")[0] if said else ""
    apart = word[1:2].isspace() and word[-1:].isspace()  # "\\text{ in }"
    apart |= word[1:].strip()[:1] == "(" and word.strip()[-1:] == ")"  # "\\text{(remark)}"
    return said in GUARD_WORDS | JOINING | OTHERWISE | BETWEEN or " " in said or first in GUARD_WORDS | {"or"} or apart


def _said(items: list[str]) -> str:
    return " ".join(t[1:].strip() if t[0] == '"' else t for t in items)


def _closing(items: list[str], start: int) -> int:
    depth = 0
    for i in range(start, len(items)):
        depth += (items[i] in OPEN) - (items[i] in CLOSE)
        if depth == 0:
            return i
    return -1


def _conjunction(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Node("and", tuple(parts))


def _conditions(items: list[str], page: _Page) -> list[Node]:
    """``1 \\le i < j \\le n, i \\ne k`` as a list of comparisons."""
    found = []
    for r in _Statements(page).stated(_trimmed(items)):
        if not isinstance(r, Relation):
            raise Unreadable(f"cannot read {page.source!r}: {r} stands where a condition belongs: print its relation")
        found.append(Node("holds", (r.left, r.sign, r.right)))
    return found


def _listed(parts: list[list[str]], page: _Page) -> Node:
    """``1, \\ldots, n`` or ``1, 3, 5`` as a set."""
    dots = [i for i, p in enumerate(parts) if p == [r"\ldots"]]
    if not dots:
        return Node("set", tuple(_Reader(p, page).whole() for p in parts))
    at = dots[0]
    before = [_Reader(p, page).whole() for p in parts[:at]]
    after = [_Reader(p, page).whole() for p in parts[at + 1 :]]
    if len(dots) > 1 or not before or len(after) > 1:
        raise Unreadable(f"cannot read {page.source!r}: dots in a list need what comes before them and one last item")
    first = _integer(before[0])
    if first is None or [_integer(b) for b in before] != list(range(first, first + len(before))):
        if not after:
            raise Unreadable(f"cannot read {page.source!r}: the list before the dots does not count up")
        return _pattern_list(before, after[0], page)
    last = after[0] if after else Node("sym", ("infty",))
    return Node("range", (before[0], last))


def _pattern_list(before: list[Node], last: Node, page: _Page) -> Node:
    body, low, high = _pattern(before, last, page)
    return Node("seq", (body, "•", low, high))


def _integer(node: Node) -> int | None:
    if node.op == "neg":
        inner = _integer(node.args[0])
        return None if inner is None else -inner
    return int(node.args[0]) if node.op == "num" and node.args[0].isdigit() else None


def _pattern(before: list[Node], last: Node, page: _Page) -> tuple[Node, Node, Node]:
    """The term that ``first, second, ..., last`` follow, with the index ``•``, and its ends.

    Raises:
        Unreadable: the terms do not show one whole number that counts up to what stands in its place in the last one.
    """
    first = before[0]
    pairs: set[tuple[Node, Node]] = set()
    body = _unify(first, last, pairs, page)
    if body is None or len(pairs) != 1:
        raise Unreadable(
            f"cannot read {page.source!r}: the dots between {first} and {last} follow no single index; write a sum or "
            "product with its limits"
        )
    ((low, high),) = pairs
    start = _integer(low)
    assert start is not None
    for k, term in enumerate(before):
        if _as_names(_put(body, start + k)) != _as_names(term):
            raise Unreadable(f"cannot read {page.source!r}: {term} before the dots is not the next after {before[0]}")
    return body, low, high


BULLET = Node("sym", ("•",))


def _unify(a: Any, b: Any, pairs: set[tuple[Node, Node]], page: _Page) -> Any:
    if a == b:
        return a
    if not isinstance(a, Node) or not isinstance(b, Node):
        return None
    if a.op == "num" and a.args[0].isdigit():
        pairs.add((a, b))
        return BULLET
    if b.op == "pow" and b.args[0] == a:  # x, ..., x^n
        pairs.add((Node("num", ("1",)), b.args[1]))
        return Node("pow", (a, BULLET))
    if a.op == "sym" and b.op == "sym":
        (stem, _, low), (other, _, high) = a.args[0].partition("_"), b.args[0].partition("_")
        if stem != other or not low or not high:
            return None
        first, last = (tokens(_unspelled(x)) for x in (low, high))
        if len(first) == 1 and first[0].isdigit() and len(first[0]) == len(last):
            first = list(first[0])  # a_{11}, ..., a_{nn}
        if len(first) == len(last) > 1 and all(t.isalnum() or t[1:] in GREEK for t in [*first, *last]):
            ends = [(_Reader([x], page).whole(), _Reader([y], page).whole()) for x, y in zip(first, last, strict=True)]
            places = [_unify(x, y, pairs, page) for x, y in ends]
            return None if None in places else Node("item", (stem, *places))
        try:
            first, last = (_Reader(tokens(_unspelled(x)), _Page(None, x)).whole() for x in (low, high))
        except Unreadable:
            return None
        place = _unify(first, last, pairs, page)
        if place is None:
            return None
        return Node("sym", (stem + "_•",)) if place == BULLET else Node("item", (stem, place))
    if a.op != b.op or len(a.args) != len(b.args):
        return None
    args = [x if x == y else _unify(x, y, pairs, page) for x, y in zip(a.args, b.args, strict=True)]
    return None if None in args else Node(a.op, tuple(args))


def _unspelled(text: str) -> str:
    return "".join(rf"\{w} " if w in GREEK else w for w in re.findall(r"[A-Za-z]+|[^A-Za-z]+", text))


def _as_names(node: Any) -> Any:
    """Entries of a list as the names they are printed by, so that two readings of an index compare equal."""
    if not isinstance(node, Node):
        return node
    if node.op == "item":
        index = "".join(str(x).replace(" ", "").replace("·", "") for x in node.args[1:])
        return Node("sym", (f"{node.args[0]}_{index.replace(',', '')}",))
    if node.op == "sym":
        return Node("sym", (node.args[0].replace(",", ""),))
    return Node(node.op, tuple(_as_names(x) for x in node.args))


def _put(body: Any, k: int) -> Any:
    if not isinstance(body, Node):
        return body
    if body == BULLET:
        return Node("num", (str(k),))
    if body.op == "pow" and body.args[1] == BULLET and k == 1:
        return _put(body.args[0], k)
    if body.op == "sym":
        return Node("sym", (body.args[0].replace("_•", f"_{k}"),))
    return Node(body.op, tuple(_put(x, k) for x in body.args))


def _domain(items: list[str], page: _Page) -> Node:
    """A set: braces, an interval, number sets, a product or union of sets, a name."""
    items = _trimmed(items)
    if not items:
        raise Unreadable(f"cannot read {page.source!r}: a set is missing")
    for command in (r"\cup", r"\cap", r"\setminus", r"\times"):
        parts = split(items, {command})
        if len(parts) > 1:
            node = _domain(parts[0], page)
            for part in parts[1:]:
                node = Node("infix", (command, node, _domain(part, page)))
            return node
    if items[0] in {"[", "("} and items[-1] in {"]", ")"} and _closing(items, 0) == len(items) - 1:
        ends = split(items[1:-1], {","})
        if len(ends) == 2 and [r"\ldots"] not in ends:
            low, high = (_Reader(_trimmed(e), page).whole() for e in ends)
            return Node("interval", (low, high, items[0] + items[-1]))
        if len(ends) == 1 and items[0] == "[" and page.strict:
            raise Unreadable(
                f"cannot read {page.source!r}: {' '.join(items)!r} as a set. Write \\{{1, \\ldots, n\\}} "
                "or an interval."
            )
    if items[0] == r"\{" and _closing(items, 0) == len(items) - 1:
        return _set(items[1:-1], page)
    if items[0] == r"\mathbb" or (items[0] in {r"\mathbf", r"\mathds"} and spelled(items[1:2]) in set("RNZQC")):
        end = _after_argument(items, 1)
        while end < len(items) and items[end] in {"_", "^"}:
            end = _after_argument(items, end + 1)
        if end < len(items):
            raise Unreadable(
                f"cannot read {page.source!r}: {' '.join(items[end:])!r} after a set of numbers. A condition on its "
                "members follows \\mid or a colon."
            )
        return Node("numbers", (spelled(items).replace("^", "^").replace("_", "_"),))
    if len(items) == 1 and items[0] in {r"\R", r"\N", r"\Z", r"\Q", r"\C", r"\reals"}:
        return Node("numbers", (items[0][1:],))
    if items[0] in {r"\R", r"\N", r"\Z", r"\C", r"\reals"}:
        return Node("numbers", (spelled(items),))
    reader = _Reader(items, page)
    node = reader.expression()
    if reader.peek() is not None:
        raise reader.refuse("is not expected in a set")
    return node


def _set(items: list[str], page: _Page) -> Node:
    bars = [i for i, t in top_level(items) if t in {r"\mid", ":", r"\colon"}]
    if not bars and sum(t == "|" for _, t in top_level(items)) == 1:
        bars = [i for i, t in top_level(items) if t == "|"]
    if bars:
        head = items[: bars[0]]
        if any(t == r"\in" for _, t in top_level(head)):
            inside = _conditions(head, page)
            body = inside[0].args[0]
        else:
            body, inside = _Reader(head, page).whole(), []
        return Node("setof", (body, *inside, *_conditions(items[bars[0] + 1 :], page)))
    return _listed(split(items, {","}), page) if items else Node("set", ())


def _free(node: Any) -> set[str]:
    """The names that ``node`` uses, with the letters of their indices, except those that it binds itself."""
    if isinstance(node, tuple):
        return set().union(*(_free(n) for n in node)) if node else set()
    if not isinstance(node, Node):
        return set()
    op, args = node.op, node.args
    if op == "sym":
        stem, _, index = args[0].partition("_")
        upper = stem.partition("^")[0]
        return {args[0], stem, upper, *index, index} - {""}
    if op == "call":
        return {args[0]} | _free(args[1:])
    if op in {"sum", "prod", "int", "seq"}:
        return (_free(args[0]) - {args[1]}) | _free(args[2]) | _free(args[3])
    if op in {"lim"}:
        return (_free(args[0]) - {args[1]}) | _free(args[2])
    if op == "integral":
        return _free(args[0]) - {args[1]}
    if op == "each":
        return (_free(args[1]) | _free(args[3:])) - set(args[2])
    if op == "expect":
        bound = {n.strip() for names, _ in args[1] for n in names.split(",")}
        return _free(args[2:]) - bound
    if op in {"diff", "grad", "at"}:
        return _free(args[0]) | ({args[1]} if args[1] else set())
    return _free(args)


def _open_names(node: Node) -> set[str]:
    """Names bound by operators whose body runs to the end of this term."""
    if node.op in {"sum", "prod", "lim"}:
        return {node.args[1]} | _open_names(node.args[0])
    if node.op == "each":
        return set(node.args[2]) | _open_names(node.args[1])
    if node.op == "expect" and len(node.args) == 3:
        return {n.strip() for names, _ in node.args[1] for n in names.split(",")} - {""}
    if node.op in {"mul", "neg", "add"}:
        return _open_names(node.args[-1])
    return set()


def _styled_each(items: list[str], style: str) -> list[str]:
    """The names of a product, each in the style that was around all of them; indices as they are."""
    found: list[str] = []
    i = 0
    while i < len(items):
        t = items[i]
        i += 1
        if t in {"_", "^"}:
            end = _after_argument(items, i)
            found += [t, *items[i:end]]
            i = end
        elif t[0] == "\\" and t[1:] in ACCENTS | STYLES:
            end = _after_argument(items, i)
            found += [style, "{", t, *items[i:end], "}"]
            i = end
        elif t.isalpha() or t[1:] in GREEK:
            found += [style, "{", str(t), "}"]
        else:
            found.append(t)
    return found


def _after_argument(items: list[str], i: int) -> int:
    if i >= len(items) or items[i] != "{":
        return i + 1
    end = _closing(items, i)
    return end + 1 if end >= 0 else len(items)


class _Reader:
    """Recursive descent over the tokens of one side of an equation."""

    def __init__(self, items: list[str], page: _Page) -> None:
        self.items, self.at, self.page = items, 0, page
        self.bars = 0  # open |...| pairs
        self.integrals = 0
        self.differential: str | None = None  # of an integral, found in a numerator

    # Tokens

    def whole(self) -> Node:
        node = self.expression()
        if self.peek() is not None:
            raise self.refuse("is not expected here")
        if any(inner.op == "dots" for inner in nodes(node)):
            raise self.refuse("comes after dots that stand for nothing definite, which")
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

    def refuse(self, why: str, needs: str | None = None) -> Unreadable:
        here = self.peek()
        before = " ".join(self.items[max(0, self.at - 6) : self.at])
        error = Unreadable(
            f"cannot read {self.page.source!r}: {'the end' if here is None else repr(here)} after {before!r} {why}. "
            "Write it in the subset of texledger (SUBSET.md), add a macro, or give the sides as `lhs=` and `rhs=`."
        )
        error.needs = needs
        return error

    def undeclared(self, what: str, needs: str, remedy: str) -> Unreadable:
        return _undeclared(self.page, what, needs, remedy)

    def sub(self, items: list[str]) -> Node:
        return _Reader(items, self.page).whole()

    def argument_tokens(self) -> list[str]:
        r"""The tokens of a TeX argument: a braced group or one token, of a number one digit (``\frac12`` is 1/2)."""
        token = self.peek()
        if token != "{":
            token = self.next()
            if token[0].isdigit() and len(token) > 1:
                self.items = [*self.items[: self.at], token[1:], *self.items[self.at :]]
                return [token[0]]
            if token[0] == "\\" and (token[1:] in STYLES or token[1:] in ACCENTS):
                return [token, "{", *self.argument_tokens(), "}"]
            if token in {r"\frac", r"\sqrt", r"\binom"} or (token in {"+", "-"} and (self.peek() or " ")[0].isdigit()):
                raise self.refuse("stands where TeX takes one token: put it in braces, it")
            return [token]
        start, depth = self.at + 1, 0
        while True:
            token = self.next()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return self.items[start : self.at - 1]

    def argument(self) -> Node:
        return self.sub(self.argument_tokens())

    def bracket_tokens(self) -> list[str]:
        """What stands in the bracket that opens here."""
        end = _closing(self.items, self.at)
        if end < 0:
            raise self.refuse("is never closed")
        inside = self.items[self.at + 1 : end]
        self.at = end + 1
        return inside

    # Sums and products

    def expression(self) -> Node:
        terms: list[Node] = []
        signs: list[str] = []
        sign = self.next() if self.peek() in {"+", "-"} else "+"
        while True:
            if self.peek() == r"\ldots" and terms and self.peek(1) in {"+", "-", None, ",", ")", "]"}:
                self.next()
                term = DOTS
            else:
                term = self.term()
            if terms and term is not DOTS:
                term = self.join(terms, term)
            signs.append(sign)
            terms.append(Node("neg", (term,)) if sign == "-" and term is not DOTS else term)
            token = self.peek()
            operator = self.page.declared.get(token or "")
            if token in {"+", "-"}:
                sign = self.next()
            elif token is not None and isinstance(operator, Operator) and operator.binds == "sum":
                self.next()
                left = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
                terms, signs, sign = [Node("infix", (token, left, self.term()))], ["+"], "+"
                if self.peek() not in {"+", "-"}:
                    return terms[0]
                sign = self.next()
            elif token in {r"\pm", r"\mp"}:
                raise self.undeclared(
                    f"{token} has two meanings at once", token, f"Write both cases, or declare {token!r}: Operator(f)."
                )
            else:
                break
        if DOTS in terms:
            terms = self.with_dots(terms, signs, "sum")
        ends = [t.args[0] if t.op == "neg" else t for t in terms[1:]]
        if self.page.strict and any(t.op == "infix" and t.args[0] == r"\bmod" for t in ends):
            raise self.refuse("ends a sum before \\bmod: is all of it meant? Put brackets; this")
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def join(self, terms: list[Node], term: Node) -> Node:
        """Refuse a sum, limit or optimum whose own index occurs in a later term: where does it end?"""
        names = _open_names(terms[-1]) & _free(term)
        names -= set(self.page.bound)
        names = {n for n in names if not self.given(n)}
        if names:
            name = sorted(names)[0]
            raise Unreadable(
                f"cannot read {self.page.source!r}: {terms[-1]} ends before {term}, but both hold {name!r}. Put "
                "brackets around what the sum, limit, mean or optimum is of."
            )
        return term

    def given(self, name: str) -> bool:
        value = self.page.declared.get(name)
        return name in self.page.declared and not isinstance(value, Over | Optimum)

    def with_dots(self, terms: list[Node], signs: list[str], op: str) -> list[Node]:
        at = terms.index(DOTS)
        if terms.count(DOTS) > 1 or at == 0 or at + 1 >= len(terms):
            raise self.refuse("comes after dots that have no term on both sides, which")
        start, sign = at - 1, signs[at - 1]
        if {*signs[start : at + 2]} != {sign}:
            raise self.refuse("comes after dots between terms of different sign, which")
        bare = [t.args[0] if sign == "-" and t.op == "neg" else t for t in terms]
        body, low, high = _pattern([bare[start]], bare[at + 1], self.page)
        first = _integer(low)
        assert first is not None
        while start and signs[start - 1] == sign and _as_names(_put(body, first - 1)) == _as_names(bare[start - 1]):
            start, first = start - 1, first - 1
        if first < 0:
            raise self.refuse("comes after dots that count from below zero, which")
        node = Node(op, (body, "•", Node("num", (str(first),)), high))
        node = Node("neg", (node,)) if sign == "-" else node
        return [*terms[:start], node, *terms[at + 2 :]]

    def term(self, operand: bool = False, argument: bool = False) -> Node:
        """A product.

        As the ``operand`` of a sum, limit or derivative it leaves a bar ``|_{t=0}`` to the whole; as the ``argument``
        of a bare function it also ends at an explicit dot, a slash and the next function.
        """
        factors = [self.factor()]
        dots: list[int] = []
        while True:
            token = self.peek()
            if token == r"\times" and isinstance(self.page.declared.get(token), Operator) and not argument:
                factors = [self.infix(factors)]
            elif token in {r"\cdot", r"\times"} and not argument:
                self.next()
                if self.peek() == r"\ldots":
                    continue
                factors.append(self.factor())
                if token == r"\times" and self.page.strict and not any(_is_scalar(x) for x in factors[-2:]):
                    what = r"\times may be a product of numbers, of vectors or of sets"
                    raise self.undeclared(what, token, r"Write \cdot for numbers, or declare r'\times': Operator(f).")
            elif token == r"\ldots" and not argument and self.starts_factor(1, after_dots=True):
                self.next()
                dots.append(len(factors))
                if self.peek() in {r"\cdot", r"\times"}:
                    self.next()
                factors += [DOTS, self.factor()]
            elif token == "/" and not argument:
                self.next()
                below = self.factor()
                if self.starts_factor() or (self.page.strict and self.peek() == "/"):
                    raise self.refuse("follows a/b: is it above or below the bar? Use \\frac, which")
                factors[-1] = Node("div", (factors[-1], below))
            elif token == "|" and self.peek(1) == "_":
                if operand or argument:
                    break
                self.at += 2
                node = factors[0] if len(factors) == 1 else Node("mul", tuple(factors))
                factors = [self.evaluated_at(node)]
            elif token in INFIX and not argument:
                factors = [self.infix(factors)]
                if factors[0].op == "stop":
                    factors = list(factors[0].args)
                    break
            elif self.starts_factor():
                if argument and self.starts_function():
                    break
                self.no_application(factors[-1])
                if self.page.strict and isinstance(self.peek(), Apart):
                    raise self.refuse("comes after a wide space: a factor, or the next of a list? It")
                if self.page.strict and (self.peek() or " ")[0].isdigit() and not isinstance(self.peek(), Spaced):
                    raise self.refuse("is a number behind a factor: an index, a name or a product? Put it first; it")
                factors.append(self.factor())
            else:
                break
        if dots:
            factors = self.with_dots(factors, ["+"] * len(factors), "prod")
        if self.page.strict and len(factors) > 1:
            if any(f.op in {"tuple", "set", "setof", "seq", "range"} for f in factors):
                raise self.refuse("comes after a product with a list or set: declare a function for it, or it")
            bare = [f.args[0] for f in factors if f.op == "sym" and f.args[0] in self.page.functions]
            if bare:
                raise self.refuse(f"comes after a product with the function {bare[0]}, which is of nothing; it")
        return factors[0] if len(factors) == 1 else Node("mul", tuple(factors))

    def no_application(self, before: Node) -> None:
        """Refuse ``(T v)(i)`` and ``x(t)``: a bracket around a lone name, a number or a list is no factor."""
        end = _closing(self.items, self.at) if self.peek() in {"(", "["} else -1
        if end < 0:
            return
        inside = self.items[self.at + 1 : end]
        if self.items[self.at - 1] in {")", "]"}:
            functions = any(n.op == "sym" and n.args[0] in self.page.functions for n in nodes(before))
            if functions or (len(inside) == 1 and (inside[0].isalpha() or inside[0][1:] in GREEK)):
                raise self.refuse("(a bracket applied to a name) is no product: declare a function for it, it")
            return
        base = before.args[0] if before.op == "pow" else before
        if not self.page.strict or base.op not in {"sym", "item", "upper", "entry", "diff"}:
            return
        if not self.is_lone(inside) and len(split(inside, {","})) == 1:
            return
        shown = show(before)
        if before.op == "pow" and base.op == "sym":
            shown = f"{base.args[0]}^{show(before.args[1]).replace(' ', '')}"
        what = f"{shown}({_said(inside)}) is no product: one is written without the brackets"
        needs = shown if before.op in {"sym", "pow"} else ""
        remedy = f"Declare {shown!r} a function." if needs else "Declare a name for it by a macro."
        raise self.undeclared(what, needs, remedy)

    def is_lone(self, items: list[str]) -> bool:
        """Whether ``items`` are a single name, with its index and marks, or a number."""
        if len(items) == 1 and items[0][0].isdigit():
            return True
        reader = _Reader(items, _Page(None, self.page.source))
        try:
            node = reader.atom() if items and items[0] not in {"(", "[", "{", "|"} else None
        except Unreadable as error:
            return error.needs is not None and reader.peek() is None
        return node is not None and reader.peek() is None and node.op in {"sym", "item", "pow"}

    def infix(self, factors: list[Node]) -> Node:
        token = self.peek() or ""
        operator = self.page.declared.get(token)
        if (isinstance(operator, Operator) and operator.binds == "sum") or token in {r"\pm", r"\mp"}:
            return Node("stop", tuple(factors))
        known = isinstance(operator, Operator) or (token == r"\bmod" and operator is None)
        if not known:
            raise self.undeclared(
                f"the operator {token} is not declared",
                token,
                ("A product is written without it or with \\cdot. Else g" if token == "*" else "G")
                + f"ive it in `where`: {{r'{token}': Operator(f)}}.",
            )
        self.next()
        left = factors[0] if len(factors) == 1 else Node("mul", tuple(factors))
        other = left.op == "infix" and left.args[0] != token and self.items[self.at - 2] != ")"
        right = [self.factor()]
        while self.starts_factor():
            right.append(self.factor())
        several = token in UNRANKED and (len(right) > 1 or left.op == "mul")
        if self.page.strict and (other or several or (token == r"\circ" and right[-1].op == "call")):
            raise self.refuse(f"ends what stands beside {token}: put each side of it in brackets; this")
        return Node("infix", (token, left, right[0] if len(right) == 1 else Node("mul", tuple(right))))

    def evaluated_at(self, node: Node) -> Node:
        """What follows ``|_``: ``{t = 0}``, or ``a^b`` after an antiderivative."""
        items = self.argument_tokens()
        if self.peek() == "^":
            raise self.refuse("comes after a bar with two ends; write the difference, which")
        for part in split(items, {","}):
            cut = next((i for i, t in top_level(part) if t in {"=", r"\to"}), None)
            if cut is None:
                raise self.refuse(f"comes after a bar with {' '.join(items)!r}: give it as 'name = value', which")
            name = _Reader(part[:cut], self.page).lone_name()
            node = Node("at", (node, name, self.sub(part[cut + 1 :])))
        return node

    def lone_name(self) -> str:
        if not self.items:
            raise Unreadable("a name is missing where an index or a variable is named, as in \\sum_{=1}^{n}.")
        node = self.atom()
        if self.peek() is not None or node.op != "sym":
            raise self.refuse("should be a single name")
        return node.args[0]

    def starts_function(self) -> bool:
        token = self.peek() or ""
        return token[1:] in FUNCTIONS or token in {r"\operatorname", r"\operatorname*", r"\arg", r"\Pr"}

    def starts_factor(self, ahead: int = 0, after_dots: bool = False) -> bool:
        token = self.peek(ahead)
        if after_dots and token in {r"\cdot", r"\times"}:
            return True
        if token is None or token in RELATIONS or token in CLOSERS or token in INFIX:
            return False
        if token in {"|", r"\|"}:
            return not self.bars and self.peek(ahead + 1) not in {"_"}
        return not (self.integrals and self.is_differential(ahead))

    def is_differential(self, ahead: int = 0) -> bool:
        return self.differential_length(ahead) > 0

    def differential_length(self, ahead: int = 0) -> int:
        """How many tokens the d of a differential takes (0 if there is none)."""
        here = self.items[self.at + ahead :]
        for head in (["d"], [r"\mathrm", "{", "d", "}"], [r"\mathrm", "d"], ['"d'], [r"\rm", "d"], [r"\mathop", "d"]):
            if here[: len(head)] == head and len(here) > len(head):
                following = here[len(head)]
                name = following[1:] if following[0] == "\\" else ""
                if following.isalpha() or name in GREEK or name in STYLES or name in ACCENTS:
                    return len(head)
        return 0

    # Factors

    def factor(self) -> Node:
        node = self.base()
        while True:
            token = self.peek()
            if token == "^":
                self.next()
                node = self.raised(node, self.argument_tokens(), None)
            elif token == "!":
                self.next()
                name = "factorial"
                if self.peek() == "!":
                    self.next()
                    name = "doublefactorial"
                node = Node("call", (name, node))
            elif token == "'" and node.op in {"call", "add", "mul"}:
                raise self.refuse("(a prime on an expression) should be written as a derivative; it")
            elif token == "_" and node.op in {"add", "mul", "pow", "transpose", "adjoint", "call", "neg", "postfix"}:
                if self.page.strict and node.op == "call" and node.args[0] in FUNCTIONS | {"sqrt", "root", "binom"}:
                    raise self.refuse(f"may be an index of {node} or of what it is of: put one of them in brackets; it")
                self.next()
                places = self.places(self.argument_tokens())
                odd = [p.args[0] for p in places if p.op == "sym" and p.args[0] not in {*COUNTS, *self.page.bound}]
                if self.page.strict and any(n not in self.page.declared for n in odd):
                    what = f"the index {odd[0]} of {node} may be a mark"
                    raise self.undeclared(what, odd[0], f"Give {odd[0]!r} a value.")
                node = Node("entry", (node, *places))
            elif token in {"(", "["} and node.op == "diff" and self.items[self.at - 1] == "}" and self.page.strict:
                raise self.refuse("after a derivative may be its argument or a factor: write \\cdot for a product; it")
            else:
                return node

    def places(self, items: list[str]) -> list[Node]:
        """The indices in a subscript: separated by commas, or one letter or number each."""
        parts = split(items, {","})
        if len(parts) > 1:
            return [self.sub(p) for p in parts]
        if len(items) > 1 and all(t.isalpha() or t[1:] in GREEK for t in items):
            return [self.sub([t]) for t in items]
        return [self.sub(items)]

    def raised(self, base: Node, upper: list[str], name: str | None) -> Node:
        """``base`` with the superscript ``upper``; ``name`` is how the base is spelled, if it is a name."""
        page, text = self.page, spelled(upper)
        if not upper:
            return base
        if upper[0] in {r"\prime", "'"} and len(upper) > 1:
            raise self.refuse("follows a prime and more in one superscript: put the primed name in braces; it")
        if upper in ([r"\top"], [r"\mathsf", "T"], [r"\mathsf", "{", "T", "}"], [r"\sf", "T"]):
            return Node("transpose", (base,))
        named = name or (base.args[0] if base.op == "sym" else None)
        operation = page.declared.get(f"{named}^{text}") if named else None
        if not isinstance(operation, Superscript):
            operation = page.declared.get("^" + text)
        if isinstance(operation, Superscript):
            if operation.f == "inverse":
                return Node("pow", (base, Node("neg", (Node("num", ("1",)),))))
            return Node(operation.f, (base,)) if isinstance(operation.f, str) else Node("postfix", ("^" + text, base))
        key = f"{named}^{text}" if named else f"^{text}"
        number = base.op == "num" or base == Node("sym", ("e",))
        remedy = f"Give it in `where` under {key!r}; an operation on every base is '^{text}': Superscript(...)."
        if upper[0] in MARKS and not (upper[0] in {"+", "-"} and len(upper) > 1) and not (number and len(upper) > 1):
            raise self.undeclared(f"the superscript {text!r} of {named or base} is not declared", key, remedy)
        if upper[-1] in {"+", "-", "*"}:
            raise self.undeclared(f"the superscript {text!r} of {named or base} is not declared", key, remedy)
        if upper[0] in {"(", "["} and _closing(upper, 0) == len(upper) - 1 and not number:
            raise self.undeclared(
                f"the superscript {text!r} of {named or base} may be an index or a power",
                key,
                f"Declare it: {{{key!r}: value}}, or Indexed(values) under it; a power has no parentheses.",
            )
        styled = upper[0][0] == '"' or (upper[0][0] == "\\" and upper[0][1:] in STYLES - OPERATORS)
        styled = styled or any(
            t[1:] in STYLES for t in upper[1:] if t[0] == "\\" and t[1:] not in {"mathrm", *OPERATORS}
        )
        if (styled and not number) or any(t in {",", r"\mid", ":", "|"} for _, t in top_level(upper)):
            raise self.undeclared(f"the superscript {text!r} of {named or base} is a name", key, remedy)
        if (
            page.strict
            and base == Node("sym", ("e",))
            and upper[0] in {"(", "["}
            and _closing(upper, 0) == len(upper) - 1
        ):
            raise self.undeclared(
                f"e^{text} may be an index or the exponential",
                f"e^{text}",
                "Leave the brackets out for the exponential.",
            )
        exponent = self.sub(upper)
        if base == Node("sym", ("e",)) and "e" not in page.declared:
            return Node("call", ("exp", exponent))
        if not number:
            self.check_power(named, exponent, key, name is not None)
        return Node("pow", (base, exponent))

    def check_power(self, named: str | None, exponent: Node, key: str, direct: bool) -> None:
        """A power needs a base that has a value and an exponent that is a number; else it may be an index."""
        page = self.page
        is_group = named is None
        if page.strict and not is_group and exponent in {Node("num", ("0",)), Node("num", ("1",))}:
            raise self.undeclared(
                f"{key} is no power, which nobody prints for the power 0 or 1",
                key,
                f"Give it in `where` under {key!r}.",
            )
        index = [t for t in (named or "").partition("_")[2] if t != ","]
        of_entry = len(index) > 1 and set(index) <= COUNTS and (named or "").rpartition(" ")[2][:1].isupper()
        if page.strict and exponent.op == "neg" and of_entry and direct:
            raise self.undeclared(
                f"{key} may be a power of an entry or an entry of a power",
                key,
                f"Print brackets around the power or the entry, or declare {key!r}.",
            )
        stem = (named or "").partition("_")[0]
        names = [k.partition("^") for k in page.declared if "^" in k]
        if exponent.op == "num" and any(up.isdigit() and low.partition("_")[0] == stem for low, _, up in names if low):
            raise self.undeclared(
                f"{key} may be a power or a name, as others of {named!r} are", key, f"Give it in `where` under {key!r}."
            )
        if exponent == Node("sym", ("pi",)) and not is_group and "pi" not in page.declared:
            raise self.undeclared(
                f"{key} may be a power or a name",
                key,
                f"Give it in `where` under {key!r}; as a power, bracket the base.",
            )
        inner = exponent.args[0] if exponent.op == "neg" else None
        if page.strict and inner in {Node("sym", ("T",)), Node("sym", ("H",)), Node("sym", ("top",))}:
            raise self.undeclared(f"{key} may be a power or an inverse transpose", key, f"Declare {key!r}.")
        if exponent == Node("sym", ("T",)):
            value, base = page.declared.get("T"), page.declared.get(named or "")
            plain_power = (
                value is not None and not _is_matrix(value) and (is_group or base is None or not _is_matrix(base))
            )
            if not plain_power or is_group:
                raise self.undeclared(
                    f"{key} may be a power or a transpose",
                    key,
                    "Write \\top, or declare '^T': Superscript('transpose').",
                )
        if not page.strict:
            if named in page.functions and exponent.op == "neg":
                raise self.undeclared(f"{key} may be an inverse or a reciprocal", key, f"Declare {key!r}: f.")
            return
        if not is_group and not page.is_value(named or ""):
            raise self.undeclared(
                f"the superscript of {key} is a power only if {named!r} has a value", key, f"Give {named!r} or {key!r}."
            )
        for inner in nodes(exponent):
            if inner.op == "sym":
                letter = inner.args[0]
                value = page.declared.get(letter)
                imaginary = letter == "i" and value is None and letter not in page.bound
                if (
                    imaginary
                    or not page.is_value(letter)
                    or is_function(value)
                    or (value is not None and _is_matrix(value))
                ):
                    if _is_matrix(value) or (letter in page.declared and not is_function(value)):
                        continue
                    raise self.undeclared(
                        f"{key} is a power only if {letter!r} has a value",
                        key,
                        f"Give {letter!r}, or declare {key!r} as a name or Indexed.",
                    )

    def group(self, close: str) -> Node:
        bars, self.bars = self.bars, 0
        integrals, self.integrals = self.integrals, 0
        node = self.expression()
        if self.peek() == "," and close == ")":
            items = [node]
            while self.peek() == ",":
                self.next()
                items.append(DOTS if self.peek() == r"\ldots" and self.next() else self.expression())
            if DOTS in items:
                raise self.refuse("comes after a list with dots that belongs to no function or set, which")
            node = Node("tuple", tuple(items))
        self.expect(close)
        self.bars, self.integrals = bars, integrals
        return node

    def base(self) -> Node:
        token = self.peek()
        if token is None:
            raise self.refuse("ends too early")
        if token in {"(", "["}:
            brackets = self.page.declared.get("[]")
            if token == "[" and isinstance(brackets, Operator):
                return Node("call", ("[]", *self.arguments(self.bracket_tokens())))
            self.next()
            return self.group({"(": ")", "[": "]"}[token])
        if token == "{":
            before = self.items[self.at - 1] if self.at else "+"
            return self.unprinted(self.braces(), before)
        if token == r"\{":
            return self.curly()
        if token[0].isdigit():
            return Node("num", (self.next(),))
        if token in {"|", r"\lvert"}:
            if token == "|" and self.peek(1) == "|":
                return self.double_bar()
            return self.enclosed("|" if token == "|" else r"\rvert", "abs")
        if token in {r"\|", r"\lVert"}:
            return self.norm(r"\|" if token == r"\|" else r"\rVert")
        if token in {r"\lfloor", r"\lceil"}:
            self.next()
            close = token.replace(r"\l", r"\r")
            node = self.group(close) if close in self.items[self.at :] else None
            if node is None:
                raise self.refuse("is not closed by " + close)
            return Node("call", (token[2:], node))
        if token == r"\langle":
            return self.angle()
        if token == r"\llbracket":
            return Node("indicator", (_conjunction(_conditions(self.bracket_tokens(), self.page)),))
        if token in LONG or token == r"\arg" or token in {r"\limsup", r"\liminf"}:
            return self.long()
        if token == r"\Pr":
            self.next()
            return self.expectation("Pr")
        if problem := self.problem():
            return self.over(problem)
        name = token[1:] if token[0] == "\\" else ""
        if name in BOLD and self.peek(1) == "{" and (found := self.bold()):
            return found
        method = getattr(self, "read_" + name, None) if name.isalpha() else None
        if method:
            self.next()
            return method()
        return self.atom()

    def problem(self) -> str | None:
        """``\\text{minimize}``, in any style: an optimum, not a factor."""
        at, token = self.at, self.next()
        word = token[1:]
        if token[0] == "\\" and word in STYLES and self.peek() == "{":
            word = spelled(self.argument_tokens())
        elif token[0] != '"':
            word = ""
        word = word.strip("~ ").replace(" ", "").replace("~", "")
        if word in OPTIMA and self.peek() == "_":
            return word
        if word := PROBLEMS.get(word):
            if self.peek() is None:
                raise self.refuse(
                    f"comes where {word} is of nothing: write it before what it is of, \\{word}_x f(x), it"
                )
            return word
        self.at = at
        return None

    def bold(self) -> Node | None:
        r"""``\mathbf{A b_i}``: a product in one style. One name in it is left to be read as any other.

        Raises:
            Unreadable: letters printed without a space, which may be a word or a product.
        """
        at, style = self.at, self.next()
        inside = self.argument_tokens()
        end, self.at = self.at, at
        reader = _Reader(inside, _Page(None, self.page.source))
        try:
            name = reader.raw_name()
        except Unreadable:
            return None
        if reader.peek() is None or not all(t.isalnum() or t[0] == "\\" or t in "_^{},+-'" for t in inside):
            return None
        if all(t.isalnum() for t in inside):
            if not all(isinstance(t, Glued | Numbered) for t in inside[1:]):
                pass  # letters with spaces between: a product
            elif (name := "".join(inside)) in self.page.declared or not self.page.strict or name.isdigit():
                return None
            else:
                raise self.undeclared(
                    f"{name} in one style may be a word or a product",
                    name,
                    f"Declare {name!r} for a word; for a product put each letter into a style of its own.",
                )
        self.items = [*self.items[:at], "{", *_styled_each(inside, style), "}", *self.items[end:]]
        return self.unprinted(self.braces())

    def unprinted(self, node: Node, before: str = "+") -> Node:
        """``node`` from a TeX group.

        Raises:
            Unreadable: an index or power follows, which on the page belongs to the last factor, or a sum is a factor.
        """
        split_ = before not in {"+", "(", "[", "|", ",", r"\{", "{"} or self.starts_factor()
        if node.op in {"add", "neg"} and split_ and self.page.strict:
            raise self.refuse(f"comes after {node} in braces, which print no brackets: print them, it")
        if self.peek() in {"_", "^"} and self.page.strict and node.op in {"add", "neg", "mul", "div"}:
            raise self.refuse(f"comes after {node} in braces, which print no brackets: print them, it")
        return node

    def braces(self) -> Node:
        """A TeX group: a font switch, a binomial with \\choose, or a bracket that is not printed."""
        inside = self.argument_tokens()
        if not inside:
            if (self.peek() == "_" and (self.peek(2) or "").isalpha()) or (self.peek() == "_" and self.peek(1) == "{"):
                self.next()
                before = spelled(self.argument_tokens())
                if (self.peek() or "").isalpha():
                    self.items = [*self.items[: self.at], f'"{before}{self.peek()}', *self.items[self.at + 1 :]]
                    return self.base()
            if self.starts_factor():
                return self.factor()
            raise self.refuse("comes after an empty group, which")
        if inside[0] in SWITCHES:
            reader = _Reader([inside[0].replace(r"\rm", r"\mathrm"), "{", *inside[1:], "}"], self.page)
            self.items = [*self.items[: self.at], *reader.items, *self.items[self.at :]]
            self.items[self.at] = r"\mathrm" if inside[0] == r"\rm" else r"\mathbf"
            return self.base()
        if r"\choose" in inside:
            cut = inside.index(r"\choose")
            return Node("call", ("binom", self.sub(inside[:cut]), self.sub(inside[cut + 1 :])))
        if r"\over" in inside:
            cut = inside.index(r"\over")
            return self.quotient(inside[:cut], inside[cut + 1 :])
        reader = _Reader(inside, self.page)
        is_function_ = len(inside) == 1 and inside[0][1:] in FUNCTIONS
        is_function_ |= inside[0] in {r"\operatorname", r"\operatorname*"} and _after_argument(inside, 1) == len(inside)
        if is_function_ or ((found := reader.meaning()) and found[1] == len(inside)):
            self.items = [*self.items[: self.at], *inside, *self.items[self.at :]]
            return self.base()
        reader.integrals = self.integrals
        return reader.whole()

    def curly(self) -> Node:
        if isinstance(self.page.declared.get(r"\{\}"), Operator):
            return Node("call", (r"\{\}", *self.arguments(self.bracket_tokens())))
        if self.page.source and r"\begin" in self.items[self.at + 1 : self.at + 2]:
            inside = self.environment_kind(self.at + 1)
            if inside in {"array", "aligned", "matrix", "cases"} and self.items[-1] != r"\}":
                self.next()
                return self.table(as_cases=True)
        inside = self.bracket_tokens()
        if any(t in {",", r"\mid", ":", r"\ldots"} for _, t in top_level(inside)) or not inside:
            return _set(inside, self.page)
        if self.page.strict and self.is_lone(inside):
            raise self.refuse(f"comes after {_said(inside)} in braces, which may be a set or brackets; it")
        return self.sub(inside)

    def environment_kind(self, i: int) -> str:
        end = i + 1
        while end < len(self.items) and self.items[end] != "}":
            end += 1
        return "".join(self.items[i + 2 : end])

    def double_bar(self) -> Node:
        """``||x||``: a norm, if no single bar stands between."""
        self.at += 2
        start = self.at
        while self.peek() is not None and self.peek() != "|":
            self.at += 1
        if self.peek() != "|" or self.peek(1) != "|" or self.at == start:
            raise self.refuse("(bars within bars) can be read in more than one way; write \\lvert, \\rvert or \\|, it")
        inside = self.sub(self.items[start : self.at])
        self.at += 2
        return self.norm_of(inside)

    def enclosed(self, close: str, function: str) -> Node:
        self.next()
        start = self.at
        if close == r"\rvert":
            bars, self.bars = self.bars, 0
            node = self.expression()
            self.bars = bars
        else:
            self.bars += 1
            node = self.expression()
            self.bars -= 1
        self.expect(close)
        if function == "abs" and isinstance(self.page.declared.get("||"), Operator):
            return Node("call", ("||", node))
        sets = [
            t for _, t in top_level(self.items[start : self.at - 1]) if t in {r"\mathcal", r"\mathscr", r"\mathfrak"}
        ]
        name = self.thing(node) or (str(node) if sets and self.page.strict else None)
        if function == "abs" and name:
            what = f"|{node}| may be an absolute value, a determinant or a number of elements"
            raise self.undeclared(what, "||", f"Give {name!r} a number, or declare '||': Operator(f).")
        return Node("call", (function, node))

    def thing(self, node: Node) -> str | None:
        """A capital letter in ``node``, outside of arguments, that ``where`` does not say to be a number."""
        if not self.page.strict or node.op in {"expect", "sum", "each", "diff"}:
            return None
        if node.op == "call":
            name = str(node.args[0])
            stem = name.partition("_")[0].rpartition(" ")[2].rstrip("'")
            size = len(stem) > 1 and (stem not in GREEK or stem[0].isupper()) and name not in NUMERIC
            return name if size else None
        if node.op == "sym":
            value = self.page.declared.get(node.args[0])
            if value is None and self.page.is_value(node.args[0]):
                return None  # an entry
            capital = node.args[0].rpartition(" ")[2][:1].isupper()
            return node.args[0] if _is_matrix(value) or (capital and value is None) else None
        return next((n for a in node.args if isinstance(a, Node) and (n := self.thing(a))), None)

    def norm(self, close: str) -> Node:
        return self.norm_of(self.enclosed(close, "norm").args[1])

    def norm_of(self, inside: Node) -> Node:
        which, power = "2", None
        if self.peek() == "^":
            self.next()
            power = self.argument_tokens()
        if self.peek() == "_":
            self.next()
            which = spelled(self.argument_tokens())
        node = Node("norm", (inside, which))
        return node if power is None else self.raised(node, power, None)

    def angle(self) -> Node:
        end = _closing(self.items, self.at)
        if any(t in {"|", r"\mid"} for _, t in top_level(self.items[self.at + 1 : end])):
            raise self.refuse("with a bar between angle brackets is no inner product; it")
        parts = self.arguments(self.bracket_tokens())
        declared = isinstance(self.page.declared.get(r"\langle\rangle"), Operator)
        if not declared and len(parts) != 2:
            raise self.undeclared(
                "angle brackets around one thing are not declared",
                r"\langle\rangle",
                r"Give Operator(f) in `where` under r'\langle\rangle'.",
            )
        if self.peek() == "_" and not declared:
            raise self.refuse("(an inner product with an index) is not declared; it")
        name = r"\langle\rangle" if declared else "inner"
        return Node("call", (name, *parts))

    # Names

    def raw_name(self) -> str:
        """A name with accents, style, primes and subscript, as it is spelled in ``where``."""
        start = self.at
        name = self.stem()
        while self.peek() == "'":
            name += self.next()
        if self.peek() == "_":
            self.next()
            name += "_" + spelled(self.argument_tokens())
            while self.peek() == "'":
                name += self.next()
            if self.peek() == "_":
                raise self.refuse("(a second subscript) is not expected here; it")
        look = " ".join(t for t in self.items[start : self.at] if t not in {"{", "}"})
        known = self.page.spellings.setdefault(name, look)
        if known != look and name not in {"infty", "e"}:
            raise Unreadable(
                f"cannot read {self.page.source!r}: {known!r} and {look!r} are both spelled {name!r}. Tell them apart "
                "by a macro, as in {r'\\mathbf{x}': r'\\vec{x}'}."
            )
        return name

    def word(self) -> str | None:
        """Letters printed without a space: a declared word, or a product of letters that all have a value.

        Raises:
            Unreadable: some letter has none, so that nothing says which of both it is.
        """
        first = self.peek() or ""
        behind = self.at > 1 and self.items[self.at - 2] == "_" and isinstance(self.peek(1), Glued)  # x_max
        if not first.isalpha() or len(first) > 1 or (isinstance(first, Glued) and not behind):
            return None
        end = self.at + 1
        while end < len(self.items) and isinstance(self.items[end], Glued):
            if self.integrals and self.items[end] == "d" and self.differential_length(end - self.at):
                break
            end += 1
        run = "".join(self.items[self.at : end])
        if end < len(self.items) and isinstance(self.items[end], Numbered):
            name = run + self.items[end]
            if name in self.page.declared:
                self.at = end + 1
                return name
            if self.page.strict:
                raise self.undeclared(
                    f"{name} may be a name or a product",
                    name,
                    f"Declare {name!r} for a name; for a product put the number first, for an index write _.",
                )
        for stop in range(len(run), 1, -1):
            if run[:stop] in self.page.declared:
                self.at += stop
                return run[:stop]
        if run in FUNCTIONS | {"lim"} and self.page.strict:
            raise self.undeclared(f"{run} is spelled like the function", run, f"Write \\{run}, or declare {run!r}.")
        if len(run) > 1 and self.page.strict:
            ahead = self.items[end:] if self.integrals else []
            running = {b for a, b in itertools.pairwise(ahead) if a == "d"}
            indexed = end < len(self.items) and self.items[end] == "_" and run.count(run[-1]) == 1
            for letter in sorted(set(run[:-1] if indexed else run) - running, key=run.index):
                if (
                    letter not in self.page.declared
                    and not self.page.is_value(letter)
                    and letter not in self.page.functions
                ):
                    raise self.undeclared(
                        f"{run} may be a word or a product in which {letter} has no value",
                        run,
                        f"Give {letter!r} a value for a product; for a word declare {run!r}.",
                    )
        return None

    def change(self) -> str | None:
        r"""``\Delta x`` where that is declared as a name.

        Raises:
            Unreadable: neither the name nor Δ alone has a value.
        """
        sign = self.peek() or ""
        if sign != "d" and (length := self.differential_length()) and not self.integrals and self.page.strict:
            at, self.at = self.at, self.at + length
            name = f"d {self.raw_name()}"
            if name not in self.page.declared:
                self.at = at
                raise self.undeclared(f"{name} is a differential outside an integral", name, f"Declare {name!r}.")
            return name
        if sign not in {r"\Delta", r"\delta", "d"} or isinstance(sign, Glued):
            return None
        following = self.peek(1) or ""
        names = (GREEK - {"infty", "emptyset"}) | ACCENTS | (STYLES - OPERATORS)
        is_name = following.isalpha() or following[1:] in names
        loose = sign != "d" and not is_name and following not in {"(", "["} and self.starts_factor(1)
        if loose and self.page.strict and not self.page.is_value(sign[1:]):
            what = f"{sign} before {following} may be a change, an operator or a factor"
            raise self.undeclared(what, sign[1:], f"Give {sign[1:]!r} a value for a factor.")
        if not is_name:
            return None
        if (
            sign == "d"
            and not isinstance(following, Glued)
            and following.isalpha()
            and (self.integrals or not self.page.strict)
        ):
            return None
        if sign == "d" and isinstance(self.peek(2), Glued):
            return None  # diag(x): a word of more letters
        letter = sign.lstrip("\\")
        at = self.at
        self.next()
        known = dict(self.page.spellings)
        name = f"{letter} {self.raw_name()}"
        self.page.spellings.clear()
        self.page.spellings.update(known)
        if name in self.page.declared:
            return name
        self.at = at
        if self.page.strict and not self.page.is_value(letter) and letter not in self.page.functions:
            raise self.undeclared(
                f"{name} may be a change or a product", name, f"Declare {name!r} as a name, or give {letter!r} a value."
            )
        return None

    def stem(self) -> str:
        if word := self.word():
            return word
        token = self.next()
        if token[0] == '"':
            name = token[1:].strip()
        elif token[0] == "\\" and token[1:] in STYLES:
            inside = self.argument_tokens()
            name = self.styled(inside)
        elif token[0] == "\\" and token[1:] in ACCENTS:
            accent = {"widehat": "hat", "widetilde": "tilde"}.get(token[1:], token[1:])
            inside = self.argument_tokens()
            if any(t in {"+", "-", r"\cdot", "=", r"\frac"} for t in inside):
                self.at -= 1
                raise self.refuse(f"ends {token} over more than a name, which")
            reader = _Reader(inside, _Page(None, self.page.source))
            name = accent + " " + reader.raw_name()
            if reader.peek() is not None:
                name = accent + " " + spelled(inside)
                if self.page.strict and not any(k.startswith(name) for k in self.page.declared):
                    raise self.undeclared(f"{name!r} covers more than a name", name, f"Declare {name!r}.")
        elif token[0] == "\\" and (token[1:] in GREEK or token[1:] in FUNCTIONS):
            name = token[1:]
        elif token.isalpha():
            name = token
        elif token in {r"\nabla", r"\top", r"\bot", r"\#"}:
            name = token[1:]
        else:
            self.at -= 1
            raise self.refuse("is not understood")
        if not name:
            raise self.refuse("comes after an empty name, which")
        return name

    def styled(self, inside: list[str]) -> str:
        """``\\mathbf{x}`` is spelled x; an accent within the style stays."""
        if inside and inside[0][0] == "\\" and inside[0][1:] in ACCENTS | STYLES:
            reader = _Reader(inside, _Page(None, self.page.source))
            name = reader.stem()
            if reader.peek() is None:
                return name
        commands = {t[1:] for t in inside if t[0] == "\\" and t[1:].isalpha()}
        if (
            any(t in {"+", "=", "(", ")"} for t in inside)
            or inside[-1:] == [":"]
            or commands - GREEK - ACCENTS - STYLES
        ):
            raise self.refuse("comes after a style around more than a name, which")
        return spelled(inside)

    def meaning(self) -> tuple[str, int] | None:
        """The probabilistic operator that begins here (E, Var, Cov, Pr) and how many tokens its name takes."""
        token = self.peek() or ""
        if token in {r"\mathbb", r"\mathrm", r"\operatorname", r"\mathsf", r"\operatorname*", r"\mathop", r"\mathds"}:
            following = self.peek(1)
            if following == "{":
                end = _closing(self.items, self.at + 1)
                name, length = spelled(self.items[self.at + 1 : end + 1]), end + 1 - self.at
            else:
                name, length = following or "", 2
            wide = token != r"\mathbb" and name in {"P", "V", "Pr"}
            if name in PROBABILITY and name not in self.page.functions:
                after = self.peek(length)
                if wide and after not in {"(", "[", r"\{", "_"}:
                    return None
                if (
                    token in {r"\mathrm", r"\mathsf"}
                    and name in {"E", "P", "V"}
                    and after not in {"(", "[", r"\{", "_"}
                ):
                    return None
                if name in self.page.declared and self.page.means(name) is None:
                    return None
                return PROBABILITY[name], length
            return None
        if token[:1] == '"' and (name := token[1:].strip()) in PROBABILITY and name not in self.page.functions:
            return (PROBABILITY[name], 1) if self.peek(1) in {"(", "[", r"\{", "_"} else None
        if token == r"\E" or token == r"\Var" or token == r"\Cov":
            return PROBABILITY[token[1:]], 1
        if token.isalpha() and (what := self.page.means(token)):
            return what, 1
        return None

    def atom(self) -> Node:
        """A symbol, an indexed symbol, or a function applied to its argument."""
        if found := self.meaning():
            self.at += found[1]
            return self.expectation(found[0])
        if special := self.special():
            return special
        if name := self.change():
            node = Node("sym", (name,))
            if self.peek() == "^":
                self.next()
                return self.raised(node, self.argument_tokens(), name)
            return node
        start = self.at
        wide = self.items[start] in {r"\operatorname", r"\operatorname*"}
        upright = self.items[start][0] == '"' or self.items[start] in {r"\mathrm", r"\operatorname", r"\operatorname*"}
        name = self.raw_name()
        page = self.page
        self.no_law(name, self.items[start : self.at])
        upper: list[str] | None = None
        if self.peek() == "^":
            mark = self.at
            self.next()
            upper = self.argument_tokens()
            while upper and all(t in {r"\prime", "'"} for t in upper):
                name, upper = name + "'" * len(upper), None
                if self.peek() == "_" and "_" not in name:
                    self.next()
                    name += "_" + spelled(self.argument_tokens())
                if self.peek() == "^":
                    mark = self.at
                    self.next()
                    upper = self.argument_tokens()
            if upper is not None and self.peek() == "_" and "_" not in name:
                self.next()
                index = self.argument_tokens()
                letters = [t for t in index if t != ","]
                whole = f"{name}_{spelled(index)}^{spelled(upper)}"
                entry = len(letters) > 1 and all(t in COUNTS or t.isalpha() for t in letters) and upper[-1].isdigit()
                if page.strict and name.rpartition(" ")[2][:1].isupper() and entry and whole not in page.declared:
                    raise self.undeclared(
                        f"{whole} may be a power of an entry or an entry of a power",
                        whole,
                        f"Print brackets around the power or the entry, or declare {whole!r}.",
                    )
                name += "_" + spelled(index)
            if upper is not None and self.peek() == "^":
                raise self.refuse("(a second superscript) is not expected here; it")
            del mark
        if upper is not None and f"{name}^{spelled(upper)}" in page.declared:
            operation = page.declared[f"{name}^{spelled(upper)}"]
            if not isinstance(operation, Superscript | Indexed):
                name, upper = f"{name}^{spelled(upper)}", None
                while self.peek() == "'":
                    name += self.next()
        if upper and not page.strict and name != "e" and self.is_label(upper):
            if name in page.functions or self.peek() in {"(", "["}:
                page.functions.add(f"{name}^{spelled(upper)}")
            name, upper = f"{name}^{spelled(upper)}", None
        if upper is not None and (index := self.upper_index(name, upper)):
            return index
        plain_name = name.rstrip("'")
        is_known = name in FUNCTIONS and name not in page.declared
        is_declared = name in page.functions or plain_name in page.functions
        if page.strict and upright and plain_name.lower() in BETWEEN | JOINING | GUARD_WORDS | OTHERWISE:
            raise self.refuse(f"comes after the word {plain_name!r}, which is no factor; it")
        if name.partition("_")[0] in FUNCTIONS and not is_declared and not is_known and "_" in name:
            return self.based(name, upper)
        opens = self.peek() in {"(", "[", r"\{"}
        if not is_known and not is_declared and opens and upper is None and len(plain_name) > 1:
            is_declared = plain_name not in page.declared and (wide or (upright and not page.strict))
        if page.strict and isinstance(page.declared.get(name), Means):
            raise self.refuse(f"comes after {name!r} in a style that is not that of the notation it means; it")
        if page.strict and not is_known and not is_declared:
            self.must_mean(name, self.items[start : self.at], opens, upper)
        if not is_known and not is_declared:
            bare = wide and len(plain_name) > 1 and name not in page.declared and upper is None
            if bare and page.strict and not opens and self.starts_factor():
                raise self.undeclared(
                    f"the operator {name} may be a function or a factor", name, f"Declare {name!r}: f, or a value."
                )
            if opens and name in page.declared and isinstance(page.declared[name], Indexed):
                raise self.refuse("comes after an indexed name, which")
            if self.no_conditional(name):
                return self.applied(name, upper, False)
            if page.strict and upright and len(plain_name.partition("_")[0]) > 1:
                beside = self.items[start - 1] if start else "+"
                if self.starts_factor() or not (
                    beside in CLOSERS - CLOSE or beside in OPEN | set(RELATIONS) or beside[0].isdigit()
                ):
                    raise self.refuse(f"stands beside the word {name!r}: write \\cdot for a product; it")
            node = self.symbol(name)
            return node if upper is None else self.raised(node, upper, name)
        if wide and not is_known and not opens and upper is None and self.starts_factor():
            return Node("call", (name, self.bare_argument(name)))
        return self.applied(name, upper, is_known, start)

    def no_law(self, name: str, items: list[str]) -> None:
        r"""Refuse ``E_{x \sim p}`` as a name: it is a mean, of what follows."""
        letter, _, index = name.partition("_")
        value = self.page.declared.get(name)
        if isinstance(value, Means) and index:
            raise self.undeclared(f"{name!r} means nothing with its index", letter, f"Declare {letter!r} alone.")
        if self.page.strict and index and r"\sim" in items and value is None:
            raise self.undeclared(
                f"{name} names a law below it, and is no factor", letter, f"Declare {letter!r}: Means('expectation')."
            )

    def must_mean(self, name: str, items: list[str], opens: bool, upper: list[str] | None) -> None:
        """Refuse a name that is read in one way only if ``where`` says so: nothing printed decides it."""
        page = self.page
        if name in page.declared or name in page.bound or name in page.together:
            return
        stem = name.partition("_")[0]
        if name.endswith("'"):
            what = f"the prime of {name} may be a derivative, a transpose or another name"
            raise self.undeclared(what, name, f"Declare {name!r}: a value or a function.")
        if items[0][0] == '"' and name[-1] in ":.;,":
            raise self.refuse(f"comes after {name!r}, which is a remark and no factor; it")
        if any(t in RELATIONS for t in items):
            raise self.undeclared(f"{name} has a condition for an index", name, f"Declare {name!r}.")
        if name == "e" and upper is None and not EXPONENTIAL.search(page.source):
            raise self.undeclared("e may be Euler's number or a name", "e", "Declare 'e'.")
        upright = items[0][0] == '"' or items[0] in {r"\mathrm", r"\rm", r"\textsc", r"\mathsf", r"\mathtt"}
        if upright and len(stem.replace(" ", "")) > 1 and not page.is_value(name):
            raise self.undeclared(f"the upright word {name!r} is no factor", name, f"Declare {name!r}.")
        if opens and self.peek() == "(" and upper is None and not (page.is_value(name) and name not in {"I", "i"}):
            raise self.undeclared(
                f"{name}(...) may be a function or a value and a bracket", name, f"Declare {name!r}: f, or a value."
            )

    def is_label(self, upper: list[str]) -> bool:
        """Whether a superscript is a name or mark, where nothing is declared: it is then part of the name."""
        styled = upper[0][0] == '"' or (upper[0][0] == "\\" and upper[0][1:] in STYLES - OPERATORS)
        if styled and upper not in ([r"\mathsf", "T"], [r"\mathsf", "{", "T", "}"]):
            return True
        if upper[0] in MARKS and (len(upper) == 1 or upper[0] not in {"+", "-"}):
            return upper != ["'"]
        bracketed = upper[0] in {"(", "["} and _closing(upper, 0) == len(upper) - 1
        return bracketed or upper in (["T"], [r"\pi"]) or upper[-1] in {"+", "-", "*"}

    def symbol(self, name: str) -> Node:
        """A plain symbol; a compound index into a declared list becomes an entry of it."""
        stem, _, index = name.partition("_")
        page = self.page
        if index and name not in page.declared and stem in page.declared and not index.replace(",", "").isalnum():
            places = [p for p in index.split(",") if p]
            try:
                found = [self.sub(tokens(_unspelled(p))) for p in places]
            except Unreadable:
                return Node("sym", (name,))
            letters = {n.args[0] for f in found for n in nodes(f) if n.op == "sym"}
            if page.strict and not all(page.is_value(n) for n in letters):
                return Node("sym", (name,))
            if any(f.op == "add" and any(t.op == "mul" for t in f.args) for f in found):
                raise self.undeclared(
                    f"{index} may be one index or two", name, f"Separate them by a comma, or declare {name!r}."
                )
            if not is_function(page.declared[stem]) and not any(ch in index for ch in ":'"):
                return Node("item", (stem, *found))
        return Node("sym", (name,))

    def upper_index(self, name: str, upper: list[str]) -> Node | None:
        """``x^{(i)}`` or ``x^{t+1}`` where such an index is declared."""
        stem = name.partition("_")[0]
        for key in self.page.indexed:
            base, _, letter = key.partition("^")
            if base not in {name, stem}:
                continue
            place = None
            if letter.startswith("(") and upper[0] == "(":
                place = self.sub(upper[1:-1])
            elif letter.startswith("(") or not letter:
                continue
            elif letter in [t.lstrip("\\") for t in upper]:
                place = self.sub(upper)
            elif all(t.isdigit() for t in upper):
                raise self.undeclared(
                    f"{name}^{spelled(upper)} may be an entry of {key} or a power",
                    f"{name}^{spelled(upper)}",
                    f"Write ({name})^{spelled(upper)} for the power, or declare that name.",
                )
            if place is not None:
                node = Node("upper", (key, place))
                index = name.partition("_")[2] if base == stem else ""
                return Node("entry", (node, *self.places(tokens(_unspelled(index))))) if index else node
        return None

    def no_conditional(self, name: str) -> bool:
        """Refuse ``p(x | y)`` of a letter that is not declared a function, rather than multiply.

        Where nothing is declared it is a function all the same: True.
        """
        if self.peek() in {"(", "["}:
            end = _closing(self.items, self.at)
            inside = [t for _, t in top_level(self.items[self.at + 1 : end])] if end > 0 else []
            bars = sum(t == "|" for t in inside)
            if r"\mid" in inside or ";" in inside or bars % 2 or any(t in RELATIONS for t in inside):
                if not self.page.strict:
                    return True
                raise self.undeclared(
                    f"{name}(...) is no product", name, f"Declare {name!r} a function, or Means('probability')."
                )
        known = name in self.page.declared or name in self.page.bound
        if self.page.strict and self.peek() in {"[", r"\{"} and not known:
            letter = name.partition("_")[0]
            raise self.undeclared(
                f"{name}[...] may be a mean, a function or a product",
                letter if letter in PROBABILITY else name,
                f"Declare {name!r}: a value or a function; or {letter!r}: Means('expectation').",
            )
        return False

    def special(self) -> Node | None:
        """An indicator ``\\mathbf{1}\\{...\\}``, a digit in bold, a text that is no name."""
        token = self.peek() or ""
        if token in {r"\mathbf", r"\mathbb", r"\mathds", r"\mathbbm", r"\boldsymbol", r"\bm"}:
            end = _closing(self.items, self.at + 1) if self.peek(1) == "{" else self.at + 1
            inside = spelled(self.items[self.at + 1 : end + 1])
            if inside in {"1", "I"} and end + 1 < len(self.items):
                after = self.items[end + 1]
                if after == "_" or after in {"(", "[", r"\{"}:
                    at = self.at
                    self.at = end + 1
                    if after == "_":
                        self.next()
                        content = self.argument_tokens()
                        if content[:1] == [r"\{"]:
                            content = content[1:-1]
                    else:
                        content = self.bracket_tokens()
                    if any(t in RELATIONS for _, t in top_level(content)):
                        return Node("indicator", (_conjunction(_conditions(content, self.page)),))
                    self.at = at
            if inside.isdigit():
                self.at = end + 1
                if self.peek() == "_":
                    self.next()
                    return Node("sym", (f"{inside}_{spelled(self.argument_tokens())}",))
                return Node("sym", (inside,))
        return None

    def based(self, name: str, upper: list[str] | None) -> Node:
        """``\\log_2 x``; every other function with a subscript must be declared."""
        stem, _, index = name.partition("_")
        is_word = index.isalpha() and len(index) > 1 and index not in GREEK  # log_softmax is a name
        if stem not in {"log", "lg"} or upper is not None or is_word:
            raise self.undeclared(
                f"the function {name} is not known", name, f"Give it in `where` under {name!r}, as a function."
            )
        value = self.applied("log", None, True)
        base = self.sub(tokens(_unspelled(index)))
        return Node("div", (value, Node("call", ("log", base))))

    def stands_alone(self, start: int) -> bool:
        """Whether the name that was read from ``start`` on is no factor: a whole side, or beside an operator."""
        before = self.items[start - 1] if start > 0 else None
        return (before is None or before in INFIX) and (self.peek() is None or self.peek() in INFIX)

    def applied(self, name: str, upper: list[str] | None, is_known: bool, start: int = 0) -> Node:
        power: Node | None = None
        upper = upper or None  # an empty one prints nothing
        text = spelled(upper or [])
        if upper is not None:
            if text == "-1" or text.startswith("-"):
                raise self.undeclared(
                    f"{name}^{text} may be the inverse function or the reciprocal",
                    f"{name}^{text}",
                    f"Declare {name + '^' + text!r}: f, or write \\arc..., or 1/{name}(...).",
                )
            if not is_known and (upper[0] in MARKS or upper[0] in {"(", "["} or not text.isdigit()):
                raise self.undeclared(
                    f"the superscript of {name}^{text} is not declared",
                    f"{name}^{text}",
                    f"Declare {name + '^' + text!r}.",
                )
            if is_known and (upper[0] in MARKS or upper[0] in {"(", "["}):
                raise self.undeclared(
                    f"the superscript of {name}^{text} is not declared",
                    f"{name}^{text}",
                    f"Declare {name + '^' + text!r}.",
                )
            power = self.sub(upper)
        opens = self.peek() in {"(", "["} or (
            self.peek() == r"\{" and r"\begin" not in self.items[self.at : self.at + 2]
        )
        token = self.peek()
        if opens:
            inside = self.bracket_tokens()
            if inside in ([r"\cdot"], []):
                if inside:
                    return Node("sym", (name,))
                values: list[Node] = []
            elif token == r"\{" and name in OPTIMA:
                built = any(t in {r"\mid", "|", ":", r"\colon"} for _, t in top_level(inside))
                values = [_set(inside, self.page)] if built else self.arguments(inside)
            else:
                values = self.arguments(inside)
            letter = name.partition("_")[0].rpartition(" ")[2]
            one_letter = len(letter) == 1 or letter in GREEK
            if token == "[" and len(values) > 1 and one_letter and values[-1].op != "given" and self.page.strict:
                raise self.refuse(f"after {name} and a list in square brackets may be a commutator: use (...), it")
        elif name in OPTIMA and self.starts_factor():
            raise self.refuse(
                f"follows {name} with neither a name below it nor brackets, {name}_x ... or {name}(a, b), which"
            )
        elif is_known and self.starts_factor():
            values = [self.bare_argument(name)]
        elif is_known and not self.starts_factor():
            if self.peek() in {"-", "+"}:
                raise self.refuse("follows a function without brackets, which")
            if power is None and self.page.strict and name not in OPTIMA and not self.stands_alone(start):
                raise self.undeclared(f"{name} is of nothing", name, f"Say what of, or declare {name!r}.")
            return Node("sym", (name,)) if power is None else self.lonely(name)
        elif power is not None:
            return self.lonely(name)
        else:
            return Node("sym", (name,))
        call = Node("call", (name, *values))
        if is_known and opens and self.peek() == "_" and self.page.strict:
            raise self.refuse(
                f"may be an index of what {name} is of, or of its value: bracket the one or the other; this"
            )
        beyond = is_known and opens and name in ENDLESS and self.page.strict and self.starts_factor()
        if beyond and not self.starts_function() and not isinstance(self.peek(), Spaced):
            raise self.refuse(
                f"follows {name}(...): is it of this too? Put what {name} is of in brackets, or \\, behind it; this"
            )
        if power is None:
            return call
        if not is_known and not (len(values) == 2 and name.partition("_")[0] in DISTANCES):
            raise self.undeclared(
                f"{name}^{text}(...) may be a power or {name} applied {text} times",
                f"{name}^{text}",
                f"Write {name}(...)^{text} for the power, or declare {name + '^' + text!r}: f.",
            )
        return Node("pow", (call, power))

    def bare_argument(self, name: str) -> Node:
        """The product after a function without brackets.

        Raises:
            Unreadable: it is no single factor, nor a number with letters as in ``\\cos 2 \\pi x``: the function may end
                before the last factor.
        """
        start = self.at
        value = self.term(argument=True)
        factors = value.args if value.op == "mul" else ()
        letters = [f.args[0] if f.op in {"pow", "transpose", "adjoint"} else f for f in factors]
        plain_ = all(f.op in {"num", "sym", "item"} for f in letters)
        counted = bool(factors) and factors[0].op == "num"
        spaced = any(isinstance(t, Spaced) for t in self.items[start + 1 : self.at])
        if factors and (spaced or not (plain_ and (counted or name in OVER_PRODUCTS))) and self.page.strict:
            raise self.refuse(
                f"ends the product after {name}: does {name} end before? Put what it is of in brackets; this"
            )
        if self.peek() == "/" and self.page.strict:
            raise self.refuse(f"may divide {name} or what it is of: put brackets, it")
        return value

    def lonely(self, name: str) -> Node:
        raise self.refuse(f"comes after a power of the function {name} without an argument, which")

    def arguments(self, inside: list[str]) -> list[Node]:
        """Arguments between commas; after a bar or a semicolon those that are given."""
        inside = _parallel(inside)
        cuts = [i for i, t in top_level(inside) if t == r"\mid"]
        bars = [i for i, t in top_level(inside) if t == "|"]
        if not cuts and len(bars) % 2:
            if len(bars) > 1:
                raise self.refuse("comes after an odd number of bars; write \\mid for the condition, which")
            cuts = bars
        if len(cuts) > 1:
            raise self.refuse("comes after two conditional bars, which")
        if cuts:
            given = self.arguments(inside[cuts[0] + 1 :])
            return [*self.arguments(inside[: cuts[0]]), Node("given", tuple(given))]
        parts = [_trimmed(p) for p in split(inside, {",", ";"})]
        if [r"\ldots"] in parts:
            at = parts.index([r"\ldots"])
            if parts.count([r"\ldots"]) > 1 or at == 0 or at + 2 > len(parts):
                raise self.refuse("comes after dots that do not stand between a first and a last item, which")
            start = at - 1
            before = [self.sub(p) for p in parts[:at]]
            last = self.sub(parts[at + 1])
            while start and _follows(before[start - 1], before[start], last, self.page):
                start -= 1
            rest = [self.sub(p) for p in parts[at + 2 :]]
            return [*before[:start], _pattern_list(before[start:], last, self.page), *rest]
        values = []
        for part in parts:
            if part[:1] == ["["] and self.page.strict and _closing(part, 0) == len(part) - 1:
                self.bracketed()
            if any(t in RELATIONS for _, t in top_level(part)):
                values.append(_conjunction(_conditions(part, self.page)))
            else:
                values.append(self.sub(part))
        return values

    def bracketed(self) -> None:
        """Refuse ``P([n])`` unless square brackets are declared: they may be a set or a whole part."""
        if not isinstance(self.page.declared.get("[]"), Operator):
            raise self.undeclared(
                "square brackets around the whole of an argument may be a set or a whole part",
                "[]",
                "Leave them out, or declare '[]': Operator(f).",
            )

    # Probability

    def expectation(self, what: str) -> Node:
        r"""After ``\mathbb{E}``: the laws below it, then a bracket with a condition, or the product that follows."""
        laws: list[tuple[str, str]] = []
        power: Node | None = None
        while self.peek() in {"_", "^"}:
            sign = self.next()
            items = self.argument_tokens()
            if sign == "^" and all(t.isdigit() for t in items):
                power = self.sub(items)
            elif sign == "^":
                laws.append(("", spelled(items)))
            else:
                laws += self.laws(items)
        names = [n.strip() for group, _ in laws for n in group.split(",") if n.strip()]
        with self.page.binding(*names):
            token = self.peek()
            if token in {"[", r"\{", "("}:
                at = self.at
                inside = self.bracket_tokens()
                parts = self.event(inside) if what == "Pr" else self.arguments(inside)
                if self.page.strict and any(p.op in {"set", "setof", "seq", "range"} for p in parts):
                    raise self.refuse(f"comes after {what} of a set, which")
                if what == "E" and token == "(" and (self.peek() == "^" or self.starts_factor()):
                    self.at = at
                    raise self.refuse("after a mean is followed by more: does it end here? Use \\mathbb{E}[...], which")
                if what in {"E", "Var", "Pr"} and len([p for p in parts if p.op != "given"]) != 1:
                    raise self.refuse(f"comes after {what} of a list, which")
                if what in {"Cov", "Corr"} and len([p for p in parts if p.op != "given"]) not in {1, 2}:
                    raise self.refuse(f"comes after {what} of a list, which")
            elif what in {"Pr", "Cov", "Corr", "Var"}:
                raise self.refuse(f"follows {what}: put what it is of in brackets, which")
            else:
                parts = [self.mean_of()]
                self.ends_here(names)
        node = Node("expect", (what, tuple(laws), *parts))
        return node if power is None else Node("pow", (node, power))

    def ends_here(self, names: list[str]) -> None:
        """Refuse ``\\mathbb{E} x + y`` if y may be random: a mean without brackets and names may reach over it."""
        if names or self.peek() not in {"+", "-"} or not self.page.strict:
            return
        at = self.at
        rest = self.expression()
        self.at = at
        inside = {n for e in nodes(rest) if e.op in {"expect", "int", "sum"} for n in nodes(e)}
        for name in {n.args[0] for n in nodes(rest) if n.op == "sym" and n not in inside}:
            value = self.page.declared.get(name)
            if value is None or (is_declaration(value) and name not in self.page.bound):
                raise self.refuse(
                    f"may belong to the mean before, for {name!r} may be random: use \\mathbb{{E}}[...], it"
                )

    def mean_of(self) -> Node:
        """The product after an expectation without brackets; it ends at a dot and at the next expectation."""
        factors = [self.factor()]
        while self.starts_factor() and not self.meaning():
            factors.append(self.factor())
        if self.peek() == "/" or (len(factors) > 1 and self.page.strict):
            raise self.refuse("follows a mean without brackets: where does it end? Use \\mathbb{E}[...], it")
        return factors[0] if len(factors) == 1 else Node("mul", tuple(factors))

    def laws(self, items: list[str]) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        pending: list[str] = []
        for part in split(items, {",", ";"}):
            part = _trimmed(part)
            sims = split(part, {r"\sim"})
            if len(sims) == 2:
                reader = _Reader(sims[0], self.page)
                first = reader.tuple_names() if sims[0][:1] == ["("] else [reader.lone_name()]
                found.append((", ".join([*pending, *first]), spelled(sims[1])))
                pending = []
            elif len(sims) > 2:
                raise self.refuse("comes after two laws that are not separated by a comma, which")
            else:
                if part:
                    pending.append(spelled(part))
        return [*found, *(("", name) for name in pending)]

    def tuple_names(self) -> list[str]:
        inside = self.bracket_tokens()
        return [_Reader(_trimmed(p), self.page).lone_name() for p in split(inside, {","})]

    def event(self, inside: list[str]) -> list[Node]:
        """Events between commas happen together; after a bar those that are given."""
        cuts = [i for i, t in top_level(inside) if t == r"\mid"]
        bars = [i for i, t in top_level(inside) if t == "|"]
        if not cuts and len(bars) % 2:
            cuts = [bars[len(bars) // 2]] if len(bars) == 1 else []
            if not cuts:
                raise self.refuse("comes after an odd number of bars; write \\mid for the condition, which")
        head, given = (inside[: cuts[0]], inside[cuts[0] + 1 :]) if cuts else (inside, [])
        parts = split(head, {r"\cap", r"\wedge"})
        holds = [h for p in parts for h in self.happens(p)]
        found = [_conjunction(holds)]
        return [*found, Node("given", tuple(self.happens(given)))] if given else found

    def happens(self, items: list[str]) -> list[Node]:
        if any(t in RELATIONS for _, t in top_level(items)):
            segments = split(items, {","})
            if not all(any(t in RELATIONS for _, t in top_level(s)) for s in segments):
                return [h for s in segments for h in self.happens(s)]
            return _conditions(items, self.page)
        return [self.sub(_trimmed(p)) for p in split(items, {","})]

    # Operators with limits

    def long(self) -> Node:
        token = self.next()
        if token in {r"\limsup", r"\liminf"}:
            raise self.refuse("comes after an upper or lower limit, which")
        if token == r"\arg":
            token = r"\arg" + (self.next()[1:] if self.peek() in {r"\max", r"\min"} else "?")
            if token == r"\arg?":
                raise self.refuse("follows \\arg, which")
        op = LONG[token]
        return self.over(op)

    def over(self, op: str) -> Node:
        """What stands below (and above) a sum, product or optimum, then the product that follows."""
        lower: list[str] | None = None
        upper: list[str] | None = None
        while self.peek() in {"_", "^"}:
            if self.next() == "_":
                lower = self.argument_tokens()
            else:
                upper = self.argument_tokens()
        if op in OPTIMA and lower is None:
            if op in {"argmax", "argmin"}:
                raise self.refuse(f"follows {op} without a name below it, which")
            return self.applied(op, upper, True)
        if lower is None:
            raise self.refuse("comes after a sum or product without its index, which")
        if lower[:1] == [r"\substack"]:
            lower = [("," if t == r"\\" else t) for t in lower[2:-1]]
        if op in OPTIMA and upper is not None:
            raise self.refuse(f"comes after {op} with something above it, which")
        if upper is not None:
            return self.counted(op, lower, upper)
        names, which = self.binder(lower, op)
        with self.page.binding(*names):
            body = self.body(op, names)
        self.no_idle(op, names, body)
        return Node("each", (op, body, tuple(names), *which))

    def no_idle(self, op: str, names: list[str], body: Node) -> None:
        """Refuse a sum or product whose index does not occur in what it is of."""
        if self.page.strict and op in {"sum", "prod"} and not set(names) & _free(body) and body.op != "num":
            raise self.refuse(f"ends a {op} over {', '.join(names)} of {body}, which does not hold it: print it; this")

    def body(self, op: str, names: list[str]) -> Node:
        """The product after the sign; an optimum reaches over later terms that hold its own name."""
        start = self.at
        body = self.term(operand=True)
        self.no_tail(op, body, names, start)
        if op not in OPTIMA or self.peek() not in {"+", "-"}:
            return body
        after = self.at
        try:
            rest = self.expression()
        except Unreadable:
            self.at = after
            return body
        mine = {n for n in names if n in _free(rest)}
        self.at = after
        if not mine and not self.page.strict:
            return body
        if any(self.given(n) for n in mine) or not mine or (self.page.strict and not self.leads(start)):
            raise self.refuse(f"follows {op}: does it reach over this? Put what it is of in brackets, which")
        self.at = start
        return self.expression()

    def leads(self, end: int) -> bool:
        """Whether the operator that ends before ``end`` is the first thing on its side."""
        i, found = 0, []
        while i < end:
            t = self.items[i]
            i = _after_argument(self.items, i + 1) if t in {"_", "^"} or t[1:] in STYLES else i + 1
            found.append(t)
        return len([t for t in found if t not in {"_", "^"}]) <= 1 + (found[:1] == [r"\arg"])

    def no_tail(self, op: str, body: Node, names: list[str], start: int) -> None:
        r"""Refuse ``\prod_i x_i y`` and ``\max_x f(x) / y``: is the last factor under the sign?"""
        if op == "sum":
            return
        slashes = [t for _, t in top_level(self.items[start : self.at]) if t == "/"]
        last = body.args[-1] if body.op == "mul" else None
        if slashes or (last is not None and not set(names) & _free(last) and set(names) & _free(body)):
            raise self.refuse(
                f"ends what follows {op}: does it reach over the last factor? Put what it is of in brackets; this"
            )

    def counted(self, op: str, lower: list[str], upper: list[str]) -> Node:
        """``_{i=1}^{n}``, also with further conditions below."""
        segments = split(lower, {","})
        high = self.sub(upper)
        first = next((k for k, s in enumerate(segments) if any(t == "=" for _, t in top_level(s))), None)
        if first is None:
            raise self.refuse("comes after a sum or product with an upper limit whose index has no start, which")
        names = [_Reader(_trimmed(s), self.page).lone_name() for s in segments[:first]]
        name, start = split(segments[first], {"="})
        names.append(_Reader(_trimmed(name), self.page).lone_name())
        low = self.sub(start)
        with self.page.binding(*names):
            which = [c for s in segments[first + 1 :] for c in _conditions(s, self.page)]
            start_at = self.at
            body = self.term(operand=True)
            self.no_tail(op, body, names, start_at)
        self.no_idle(op, names, body)
        if which:
            inside = [Node("holds", (Node("sym", (n,)), "∈", Node("range", (low, high)))) for n in names]
            return Node("each", (op, body, tuple(names), *inside, *which))
        for name_ in reversed(names):
            body = Node(op, (body, name_, low, high))
        return body

    def binder(self, lower: list[str], op: str) -> tuple[list[str], list[Node]]:
        """The names that run, and the conditions on them."""
        colon = [i for i, t in top_level(lower) if t in {":", r"\mid", "|"}]
        if colon and sum(t == "|" for _, t in top_level(lower)) != 2:
            head, tail = lower[: colon[0]], lower[colon[0] + 1 :]
            names, which = self.binder(head, op)
            with self.page.binding(*names):
                return names, [*which, *_conditions(tail, self.page)]
        segments = _Statements(self.page).ranges([_trimmed(s) for s in split(lower, {","})])
        signed = [any(t in RELATIONS for _, t in top_level(s)) for s in segments]
        if not any(signed):
            if [r"\ldots"] in segments:
                names = [self.list_name(s) for s in segments if s != [r"\ldots"]]
                return [names[0] + ",…," + names[-1]], []
            if len(segments) == 1 and len(segments[0]) > 1 and all(t.isalpha() or t == "'" for t in segments[0]):
                return self.letters(segments[0]), []
            return [self.list_name(s) for s in segments], []
        if [r"\ldots"] in segments or (signed[0] and not any(signed[1:]) and len(segments) > 1):
            which = _conditions([t for s in segments for t in [*s, ","]][:-1], self.page)
        else:
            which = []
            waiting: list[list[str]] = []
            for segment, has in zip(segments, signed, strict=True):
                if not has:
                    waiting.append(segment)
                    continue
                which += _conditions([t for w in waiting for t in [*w, ","]] + segment, self.page)
                waiting = []
            names_only = [self.list_name(w) for w in waiting]
            if names_only:
                found, _ = self.running(which)
                return [*found, *[n for n in names_only if n not in found]], which
        names, which = self.running(which)
        if op in {"sum", "prod"} and any(c.args[1] == "=" and c.args[0].op == "sym" for c in which):
            raise self.refuse(f"comes below a {op} that starts and does not end: print its upper limit, it")
        return names, which

    def letters(self, items: list[str]) -> list[str]:
        names: list[str] = []
        for t in items:
            if t == "'" and names:
                names[-1] += "'"
            else:
                names.append(t)
        return names

    def list_name(self, items: list[str]) -> str:
        node = _Reader(items, self.page).whole()
        if node.op == "call" and len(node.args) == 2 and node.args[1].op == "sym":
            return str(node)
        if node.op != "sym":
            raise self.refuse(f"comes below a sign with {' '.join(items)!r}, which is no name; it")
        return node.args[0]

    def running(self, which: list[Node]) -> tuple[list[str], list[Node]]:
        """Which names of the conditions run.

        Those declared to; else those on the left of \\in; else those on the left of the first condition, with what a
        chain ``1 <= i < j <= n`` goes on with. Every other name must have a value.
        """
        page = self.page
        sides = [side for c in which for side in (c.args[:1] if c.args[1] == "∈" else c.args[::2])]
        names = [n.args[0] for side in sides for n in nodes(side) if n.op == "sym"]
        running = [n for n in names if isinstance(page.declared.get(n), Over | Optimum)]
        members = [c.args[0] for c in which if c.args[1] == "∈"]
        lone, groups = ([m for m in members if m.op == op] for op in ("sym", "tuple"))
        if not running and lone and groups and page.strict:
            raise self.refuse("comes below a sign where a name and a group of names run: declare one as Over(...), it")
        if not running:
            running = [n.args[0] for m in [*lone, *groups] for n in nodes(m) if n.op == "sym"]
        if not running:
            first = which[0].args
            sides = [n.args[0] for n in nodes(first[0]) if n.op == "sym"] or [str(first[2])]
            running = [n for n in sides if n not in page.declared and n not in page.bound]
            if page.strict and len(running) < len(set(sides)) and len(set(sides)) == 1:
                raise self.refuse(
                    f"comes below a sign where {sides[0]} has a value: declare Over(...) to let it run, it"
                )
            starts = {str(c.args[0]) for c in which[1:]}
            running += [str(c.args[2]) for c in which if str(c.args[0]) in running and str(c.args[2]) in starts]
        running = list(dict.fromkeys(running))
        if not running:
            raise self.refuse("comes below a sign where no name is free to run; declare one as Over(...), it")
        compared = [n.args[0] for c in which if c.args[1] != "∈" for n in nodes(c.args[2]) if n.op == "sym"]
        for name in compared if page.strict else []:
            known = name in page.declared or (page.is_value(name) and name not in {"i", "I", "e"})
            if name not in {*running, *page.bound, "infty"} and not known:
                what = f"{name!r} below a sign may run or have a value"
                raise self.undeclared(what, name, f"Give {name!r} a value, or Over(...).")
        return running, which

    def read_lim(self) -> Node:
        self.expect("_")
        items = self.argument_tokens()
        cut = next((i for i, t in top_level(items) if t in {r"\to", r"\downarrow", r"\uparrow", r"\searrow"}), None)
        if cut is None:
            raise self.refuse("comes after a limit whose name goes nowhere, which")
        name = _Reader(items[:cut], self.page).lone_name()
        target, side = items[cut + 1 :], ""
        if target[-2:-1] == ["^"] and target[-1] in {"+", "-"}:
            target, side = target[:-2], target[-1]
        elif target[-4:-1] in (["^", "{", "+"], ["^", "{", "-"]):
            target, side = target[:-4], target[-2]
        elif items[cut] in {r"\downarrow", r"\searrow"}:
            side = "+"
        elif items[cut] == r"\uparrow":
            side = "-"
        goal = self.sub(target)
        with self.page.binding(name):
            body = self.term(operand=True)
        return Node("lim", (body, name, goal, side)) if side else Node("lim", (body, name, goal))

    def read_int(self, count: int = 1) -> Node:
        lower: list[str] | None = None
        upper: list[str] | None = None
        while self.peek() in {"_", "^"}:
            if self.next() == "_":
                lower = self.argument_tokens()
            else:
                upper = self.argument_tokens()
        if upper is not None and lower is None:
            raise self.refuse("comes after an integral with one limit, which")
        printed = None
        if upper is not None and (cut := next((i for i, t in top_level(lower or []) if t == "="), None)) is not None:
            printed, lower = _Reader((lower or [])[:cut], self.page).lone_name(), (lower or [])[cut + 1 :]
        ends = (self.sub(lower or []), self.sub(upper)) if upper is not None else None
        names: list[str] = []
        if self.is_differential():
            names = self.differentials()
            with self.page.binding(*names):
                body = self.term(operand=True)
        else:
            self.integrals += 1
            kept, self.differential = self.differential, None
            with self.page.binding(*self.differentials_ahead()):
                body = self.expression()
            self.integrals -= 1
            found, self.differential = self.differential, kept
            names = [found] if found else self.differentials()
        if len(names) != count:
            if count == 1 and len(names) == 2 and body.op in {"int", "integral"}:
                pass
            if ends is not None or len(names) < count:
                raise self.refuse("comes after an integral with another number of differentials than signs, which")
        if printed is not None and names != [printed]:
            raise self.refuse(f"comes after an integral over {printed} and a differential of {names[0]}, which")
        if ends is not None:
            return Node("int", (body, names[0], *ends))
        lower = self.integrated_over(lower, names)
        domain = (_domain(lower, self.page),) if lower is not None else ()
        if domain and len(names) > 1:
            return Node("integral", (body, ", ".join(names), *domain))
        for name in names:
            body = Node("integral", (body, name, *domain))
        return body

    def integrated_over(self, lower: list[str] | None, names: list[str]) -> list[str] | None:
        r"""The domain below an integral: ``\int_x f(x) dx`` names its variable only, ``\int_{x \in S}`` both."""
        if lower is None:
            return None
        if names == [spelled(p) for p in split(lower, {","})]:
            if any(n[:1].isupper() for n in names):
                raise self.refuse("comes after an integral whose domain is named as its variable: tell them apart, it")
            return None
        parts = split(lower, {r"\in"})
        if len(parts) == 2 and [spelled(parts[0])] == names:
            return parts[1]
        if (
            len(lower) == 1
            and spelled(lower).islower()
            and spelled(lower) not in self.page.declared
            and self.page.strict
        ):
            raise self.refuse(
                f"comes after an integral by {names[0]} over {spelled(lower)}, which is no variable of it; it"
            )
        return lower

    def read_iint(self) -> Node:
        return self.read_int(2)

    def read_iiint(self) -> Node:
        return self.read_int(3)

    def read_oint(self) -> Node:
        raise self.refuse("comes after a line integral, which")

    def differentials_ahead(self) -> list[str]:
        """The variables of the differentials to come: the body before them may raise them to powers."""
        names = []
        for ahead in range(len(self.items) - self.at):
            if length := self.differential_length(ahead):
                reader = _Reader(self.items[self.at + ahead + length :], self.page)
                try:
                    names.append(reader.raw_name())
                except Unreadable:  # no differential after all, or one that is refused where it is read
                    continue
        return names

    def differentials(self) -> list[str]:
        names = []
        while length := self.differential_length():
            self.at += length
            name = self.raw_name()
            if self.peek() in {"(", "^"}:
                raise self.refuse("comes after the differential of a measure or power, which")
            names.append(name)
            if self.integrals:
                break
        if not names:
            raise self.refuse("should be a differential such as dx")
        return names

    # Fractions and derivatives

    def read_frac(self) -> Node:
        if self.peek() == "/":
            raise self.refuse("comes after \\frac, which")
        return self.quotient(self.argument_tokens(), self.argument_tokens())

    def quotient(self, above: list[str], below: list[str]) -> Node:
        head = next((d for d in DIFFERENTIALS if above[: len(d)] == d and below[: len(d)] == d), None)
        if head is not None and len(below) > len(head) and below[len(head)] not in {"+", "-", "^", "_", ")"}:
            return self.derivative(above[len(head) :], below, head)
        letter = next((t for t in (r"\delta", r"\Delta") if above[:1] == [t] and below[:1] == [t]), None)
        if letter and len(above) > 1 and len(below) > 1 and letter[1:] not in self.page.declared and self.page.strict:
            raise self.refuse("comes after a quotient of differences, which is no product; declare a name for it, it")
        reader = _Reader(above, self.page)
        reader.integrals = self.integrals
        if self.integrals and reader.is_differential():
            name = reader.differentials()[0]
            if reader.peek() is None:
                self.differential = name
                return Node("div", (Node("num", ("1",)), self.sub(below)))
        return Node("div", (self.sub(above), self.sub(below)))

    def derivative(self, above: list[str], below: list[str], head: list[str]) -> Node:
        order, at = 1, 0
        if above[:1] == ["^"]:
            reader = _Reader(above, self.page)
            reader.next()
            digits = reader.argument_tokens()
            if len(digits) != 1 or not digits[0].isdigit() or not 1 <= int(digits[0]) <= 8:
                raise self.refuse(
                    f"comes after a derivative of order {spelled(digits)!r}, which is no small number; it"
                )
            order, above = int(digits[0]), reader.items[reader.at :]
        names: list[str] = []
        while at < len(below):
            if below[at : at + len(head)] != head:
                raise self.refuse(f"comes after a derivative by {_said(below)!r}, which")
            end = at + len(head)
            while end < len(below) and below[end : end + len(head)] != head:
                end += 1
            names += self.variable(below[at + len(head) : end])
            at = end
        if len(names) != order:
            raise self.refuse(
                f"comes after a derivative of order {order} by {', '.join(names)}: write \\frac{{d^n f}}{{dx^n}} or "
                "\\frac{\\partial^2 f}{\\partial x \\partial y}; this"
            )
        start = self.at
        body = self.sub(above) if above else self.term(operand=True)
        bracketed = self.peek(start - self.at) in {"(", "["} and _closing(self.items, start) == self.at - 1
        factors = [f for f in body.args if f.op != "num"] if body.op == "mul" else []
        if len(factors) > 1 and not above and not bracketed and self.page.strict:
            raise self.refuse("ends a product after a derivative: is it of all of it? Put brackets; this")
        for name in reversed(names):
            body = Node("diff", (body, name))
        return body

    def variable(self, items: list[str]) -> list[str]:
        """The name after one d below the bar, as often as its power says."""
        times = 1
        caret = [i for i, t in enumerate(items) if t == "^"]
        node = None
        if caret:
            power = items[caret[-1] + 1 :]
            digits = [t for t in power if t not in {"{", "}"}]
            if len(digits) == 1 and digits[0].isdigit():
                times, items = int(digits[0]), items[: caret[-1]]
        node = _Reader(items, self.page).atom() if items else None
        reader = _Reader(items, self.page)
        if node is None or reader.lone_name() != (node.args[0] if node.op == "sym" else None):
            raise self.refuse(f"comes after a derivative by {_said(items)!r}, which is no name; it")
        return [node.args[0]] * times

    def read_partial(self) -> Node:
        r"""``\partial_x f``."""
        if self.peek() != "_":
            raise self.refuse("comes after \\partial without a variable below it, which")
        self.next()
        items = self.argument_tokens()
        names = [self.list_name(s) for s in split(items, {","})]
        if len(names) == 1 and len(items) > 1 and all(t.isalpha() for t in items):
            names = self.letters(items)
        for name in names:
            if self.page.strict and name in COUNTS and name not in self.page.declared:
                raise self.refuse(f"comes after a derivative by the index {name!r}: print the variable, x_{name}, it")
        body = self.gradient_body(names[0])
        for name in reversed(names):
            body = Node("diff", (body, name))
        return body

    def read_nabla(self) -> Node:
        name = ""
        second = False
        while self.peek() in {"_", "^"}:
            if self.next() == "_":
                name = _Reader(self.argument_tokens(), self.page).lone_name()
            elif self.argument_tokens() == ["2"]:
                second = True
            else:
                raise self.refuse("comes after a power of nabla, which")
        if self.peek() == r"\cdot":
            self.next()
            body = self.factor()
            if self.starts_factor():
                raise self.refuse("comes after a divergence: is it of this too? Put what it is of in brackets; this")
            return Node("divergence", (body, name))
        if self.peek() in {r"\times", r"\wedge"}:
            raise self.refuse("comes after nabla (a curl), which")
        if second:
            kind = self.page.declared.get("nabla^2")
            if not isinstance(kind, Means):
                raise self.undeclared(
                    "nabla^2 may be the Hessian or the Laplacian", "nabla^2", "Declare 'nabla^2': Means('hessian')."
                )
            return Node(kind.what, (self.gradient_body(name), name))
        return Node("grad", (self.gradient_body(name), name))

    def gradient_body(self, name: str) -> Node:
        """The bracket, function or quotient that follows.

        Raises:
            Unreadable: more factors follow and the gradient may be of them too.
        """
        if not self.starts_factor():
            raise self.refuse("follows a gradient or derivative, which")
        if self.peek() == r"\frac":
            return self.term(operand=True)
        ahead = _Reader(self.items[self.at :], _Page(None, self.page.source))
        token = self.peek() or ""
        if token.isalpha() or token[1:] in GREEK:
            name_ahead = ahead.raw_name()
            if ahead.peek() == "(" and name_ahead not in self.page.declared:
                self.page.functions.add(name_ahead)  # the gradient of a number is none: it is a function
        body = self.factor()
        if self.starts_factor():
            at = self.at
            rest = self.term()
            self.at = at
            closed = body.op in {"call", "add", "at", "norm", "entry", "diff", "expect", "sym"}
            if not closed or (name or "•") in _free(rest):
                raise self.refuse("comes after a gradient: is it of this too? Put what it is of in brackets; this")
        return body

    # The rest

    def read_sqrt(self) -> Node:
        if self.peek() == "[":
            index = self.bracket_tokens()
            return Node("call", ("root", self.argument(), self.sub(index)))
        return Node("call", ("sqrt", self.argument()))

    def read_binom(self) -> Node:
        return Node("call", ("binom", self.argument(), self.argument()))

    def read_mathop(self) -> Node:
        inside = self.argument_tokens()
        text = spelled(inside)
        if text in OPTIMA or inside[:1] == [r"\arg"]:
            return self.over(text if text in OPTIMA else "".join(t.lstrip("\\") for t in inside))
        if not (inside and inside[0] in {r"\operatorname", r"\operatorname*"}) and len(text) > 1:
            inside = [r"\operatorname", "{", *inside, "}"]
        self.items = [*self.items[: self.at], *inside, *self.items[self.at :]]
        return self.base()

    def read_operatorname(self, before: int = 1) -> Node:
        at = self.at
        inside = self.argument_tokens()
        text = spelled([t for t in inside if t not in {r"\,", r"\!"}]).replace(" ", "")
        if text in {"argmax", "argmin", "esssup", "essinf"} or (text in OPTIMA and self.peek() == "_"):
            return self.over(text)
        self.at = at - before
        return self.atom()

    def __getattr__(self, name: str) -> Any:
        if name in {"read_operatorname*", "read_mathrm"}:
            raise AttributeError(name)
        raise AttributeError(name)

    def read_begin(self) -> Node:
        self.at -= 1
        if self.at and self.items[self.at - 1] == "(" and self.environment_kind(self.at) == "array":
            end = _closing(self.items, self.at - 1)
            inside = self.items[self.at : end]
            if inside.count(r"\\") == 1 and "&" not in inside:
                raise self.refuse("may be a column or a binomial: write \\begin{pmatrix} or \\binom, it")
        return self.table()

    def table(self, as_cases: bool = False) -> Node:
        r"""A matrix or cases, from ``\begin`` to ``\end``."""
        self.expect(r"\begin")
        kind = "".join(self.argument_tokens())
        if kind not in MATRICES | {"cases", "dcases", "rcases", "aligned"}:
            raise self.refuse(f"follows \\begin{{{kind}}}, which")
        if kind in {"array"} or (kind.endswith("*") and self.peek() == "["):
            self.bracket_tokens() if self.peek() in {"{", "["} else None
        rows: list[list[list[str]]] = [[[]]]
        depth = 0
        while True:
            token = self.peek()
            if token is None:
                raise self.refuse("ends a table too early, which")
            if token == r"\end" and depth == 0:
                break
            depth += (token == r"\begin") - (token == r"\end")
            self.next()
            if token == "&" and depth == 0:
                rows[-1].append([])
            elif token == r"\\" and depth == 0:
                if self.peek() == "[":
                    self.bracket_tokens()
                rows.append([[]])
            elif token != r"\hline":
                rows[-1][-1].append(token)
        self.next()
        self.argument_tokens()
        rows = [row for row in rows if any(row)]
        if as_cases or "cases" in kind:
            return self.cases(rows)
        if any(r"\ldots" in cell or r"\vdots" in cell or r"\ddots" in cell for row in rows for cell in row):
            raise self.refuse("comes after a matrix with dots, which has no definite size; it")
        if len({len(row) for row in rows}) > 1:
            raise self.refuse("comes after a matrix whose rows differ in length, which")
        matrix = Node("matrix", tuple(tuple(self.sub(cell) for cell in row) for row in rows))
        column = kind in {"pmatrix", "psmallmatrix"} and [len(row) for row in rows] == [1, 1]
        if column and self.page.strict and self.starts_factor():
            raise self.refuse("follows two rows in round brackets: a column or a binomial? Use \\binom or bmatrix; it")
        if kind == "vmatrix":
            return Node("call", ("det", matrix))
        if kind == "Vmatrix":
            raise self.refuse("comes after a matrix in double bars, which")
        return matrix

    def cases(self, rows: list[list[list[str]]]) -> Node:
        parts: list[Node | None] = []
        for row in rows:
            value, condition = row[0], [t for cell in row[1:] for t in cell]
            if not condition:
                words = next((i for i, t in top_level(value) if t[0] == '"' or t in {r"\quad", r"\qquad"}), None)
                if words is None:
                    raise self.refuse("comes after a case without its condition, which")
                value, condition = value[:words], value[words:]
            value, condition = _trimmed(value), _trimmed(condition)
            if value and value[-1] == ",":
                value = value[:-1]
            parts += [self.sub(value), self.case_condition(condition)]
        return Node("cases", tuple(parts))

    def case_condition(self, items: list[str]) -> Node | None:
        found: list[Node] = []
        ways: list[Node] = []
        run: list[str] = []
        for token in [*items, '"']:
            if token[0] != '"':
                run.append(token)
                continue
            said = _normal(token)
            if run := _trimmed(run):
                found += _conditions(run, self.page)
            run = []
            if said in OTHERWISE:
                if found or ways or token is not items[-1]:
                    raise self.refuse("comes after 'otherwise' beside a condition, which")
                return None
            if said == "or":
                ways.append(_conjunction(found))
                found = []
            elif said not in GUARD_WORDS | {"and", ""}:
                raise self.refuse(f"comes after the condition {token[1:]!r} in words, which")
        if not found:
            raise self.refuse("comes after a case without its condition, which")
        ways.append(_conjunction(found))
        return ways[0] if len(ways) == 1 else Node("or", tuple(ways))


DIFFERENTIALS = [["d"], [r"\partial"], [r"\mathrm", "{", "d", "}"], [r"\mathrm", "d"], ['"d'], [r"\rm", "d"]]


def _follows(a: Node, b: Node, last: Node, page: _Page) -> bool:
    try:
        _pattern([a, b], last, page)
    except Unreadable:
        return False
    return True


def _is_scalar(node: Node) -> bool:
    """Whether what is printed is a number, whatever its letters are."""
    inner = node.args[0] if node.op in {"neg", "pow"} else node
    return inner.op in {"num", "div", "norm"} or (inner.op == "call" and inner.args[0] in {"det", "tr", "Tr", "abs"})


def _is_matrix(value: Any) -> bool:
    shape = getattr(value, "shape", None)
    if hasattr(value, "rows") and hasattr(value, "cols"):
        return (value.rows, value.cols) != (1, 1)
    return bool(shape) and len(shape) == 2
