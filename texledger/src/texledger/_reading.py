"""From the TeX of an equation, and the code that an author puts beside it, to a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from texledger._arithmetic import Arithmetic
from texledger._claim import Claim, Comparison, Part, Side, Test
from texledger._entry import LedgerError
from texledger._tex import FUNCTIONS, RELATIONS, statements
from texledger._tokens import tokens
from texledger._tree import Node, Reading, Relation, Unreadable, plain_reading, show

EQUAL = {"=", ":=", "≡"}  # a definition or identity that is checked is checked as an equality
SEPARATORS = {r"\quad", r"\qquad", ",", ";", "."}
UNREAD = "unread"


class Reader:
    """Reads one equation for one check.

    Args:
        label: of the equation, for messages.
        tex: as the page has it.
        macros: of the page.
        env: the values of one draw: what names mean.
        unread: parts that no check reads, each with the reason; or one reason for all of it.
        test: decides about equality with code beside the page.
        between: decides about equality between two sides of the page.
        approx: the same where the page says "about".
        name: of the function that is computed beside the page.
    """

    def __init__(
        self,
        label: str,
        tex: str,
        macros: dict[str, str],
        env: Mapping[str, Any],
        unread: Mapping[str, str] | str,
        test: Test,
        between: Test,
        approx: Test | None = None,
        name: str | None = None,
    ) -> None:
        self.label, self.tex, self.macros, self.env = label, tex, macros, env
        self.test, self.between, self.approx = test, between, approx
        self.name = name
        self.named = False  # the kind of check takes the name of what it computes
        self.reasons = {} if isinstance(unread, str) else dict(unread)
        self.all_unread = unread if isinstance(unread, str) else None
        for part, why in self.reasons.items():
            if not isinstance(why, str) or not why.strip():
                raise LedgerError(f"{label}: unread[{part!r}] needs a reason, which is printed.")
        if self.all_unread is not None and not self.all_unread.strip():
            raise LedgerError(f"{label}: `unread=` needs a reason, which is printed.")

    def reading(self) -> tuple[Reading, dict[str, str]]:
        """What the TeX states; sides that are excused are symbols whose names begin with ``(not read``.

        Raises:
            LedgerError: a part cannot be read and is not excused, or what is excused is not there.
        """
        items, placeholders, used = tokens(self.tex, self.macros), {}, set[str]()
        for number, part in enumerate(self.reasons):
            key = _stripped(tokens(part, self.macros))
            if not key:
                raise LedgerError(f"{self.label}: `unread=` names an empty part.")
            if key[0].startswith('"'):
                continue  # words: found among the conditions below
            if any(t in RELATIONS for t in _top(key)):
                shorter = _without_statement(items, key)
            else:
                name = UNREAD + "abcdefghijklmnopqrstuvwxyz"[number % 26] * (number // 26 + 1)
                shorter = _with_side(items, key, [r"\mathrm", "{", *name, "}"])
                placeholders[name] = part
            if shorter is None:
                raise LedgerError(
                    f"{self.label}: unread names {part!r}, which is no whole side, statement or condition of "
                    f"{self.tex!r}."
                )
            items = shorter
            used.add(part)
        declared = {**self.env, **dict.fromkeys(placeholders, 0)}
        if self.name is not None:
            declared[self.name] = _a_function
        try:
            found = statements(_joined(items) if used else self.tex, declared, self.macros)
        except Unreadable as error:
            raise LedgerError(
                f"{self.label}: {error}\nA side, statement or condition that no check can read is excused by "
                "`unread={r'its TeX': 'the reason, which is printed'}`; a side so excused needs `lhs=` or `rhs=`."
            ) from error
        if found.expressions:
            raise LedgerError(
                f"{self.label}: {self.tex!r} has a part that states no relation: `{show(found.expressions[0])}`. "
                "Excuse it: unread={r'its TeX': 'the reason, which is printed'}."
            )
        found, words = self._without_words(found)
        for name in placeholders:
            if not any(_is(side, name) for r in found.relations for side in (r.left, r.right)):
                raise LedgerError(
                    f"{self.label}: unread names {placeholders[name]!r}, which is not a whole side of {self.tex!r}."
                )
        if missing := set(self.reasons) - used - words:
            raise LedgerError(f"{self.label}: unread names {sorted(missing)}, which {self.tex!r} does not contain.")
        return found, placeholders

    def _without_words(self, found: Reading) -> tuple[Reading, set[str]]:
        """Drop the words that are excused.

        Raises:
            LedgerError: there are others.
        """
        keys = {_joined(tokens(part, self.macros)): part for part in self.reasons}
        used, left = set(), []
        for words in [c for c in found.conditions if isinstance(c, str)] + list(found.unread):
            match = next((part for key, part in keys.items() if _same_words(key, words)), None)
            if match is None:
                left.append(words)
            else:
                used.add(match)
        if left:
            raise LedgerError(
                f"{self.label}: no check reads {left[0]!r}. Excuse it by its TeX: "
                "unread={r'...': 'the reason, which is printed'}."
            )
        return Reading(found.relations, [c for c in found.conditions if isinstance(c, Relation)], []), used

    def claim(self, lhs: Side = None, rhs: Side = None, reads_left: Callable[[Node], bool] | None = None) -> Claim:
        """Every comparison that the page states, and those of the code beside it with the sides that were read.

        Args:
            lhs: a computation of the first side.
            rhs: a computation of the first statement's last side.
            reads_left: says whether a first side that has no value from the TeX is the very name that ``lhs`` computes.
        """
        beside = Part(lhs, "`lhs`", "left"), Part(rhs, "`rhs`", "right")
        if self.all_unread is not None:
            if lhs is None or rhs is None:
                raise LedgerError(f"{self.label}: `unread=` with one reason for all needs both `lhs=` and `rhs=`.")
            compared = [Comparison(beside[0], "=", beside[1], self.test)]
            return Claim(compared, "quoted", "", {self.tex: self.all_unread})
        self.named = reads_left is not None
        reading, placeholders = self.reading()
        if not reading.relations:
            raise LedgerError(f"{self.label}: {self.tex!r} states no relation that can be checked.")
        statements = _chains(reading.relations)
        parts = [[self._part(side) for side in _sides(chain)] for chain in statements]
        extra: list[Comparison] = []
        bound_name = False
        for code, chain, place in ((beside[0], 0, 0), (beside[1], 0, -1)):
            if code.what is None:
                continue
            side = parts[chain][place]
            named = side.read and place == 0 and reads_left is not None and reads_left(side.what)
            if named and not self._has_value(side):
                parts[chain][place], bound_name = code, True
            elif side.read:
                self._needs_value(side, code)
                extra.append(Comparison(code, "=", side, self.test))
            else:
                parts[chain][place] = code
        compared = [c for chain, sides in zip(statements, parts, strict=True) for c in self._compared(chain, sides)]
        compared = extra + compared
        if not compared:
            raise LedgerError(f"{self.label}: nothing of {self.tex!r} is left to compare: read at least two sides.")
        read = any(p.read for chain in parts for p in chain)
        excused_all = not read and not bound_name
        whole = not any(p.what is None for chain in parts for p in chain) and not placeholders
        dropped = any(self._is_statement(part) for part in self.reasons)
        strength = "quoted" if excused_all else "both sides" if whole and not dropped else "one side"
        shown = plain_reading(_renamed(reading, placeholders))
        guards = [c for c in reading.conditions if isinstance(c, Relation)]
        return Claim(compared, strength, shown, dict(self.reasons), guards)

    def _is_statement(self, part: str) -> bool:
        key = _stripped(tokens(part, self.macros))
        return not key[0].startswith('"') and any(t in RELATIONS for t in _top(key)) and not self._condition(key)

    @staticmethod
    def _condition(key: list[str]) -> bool:
        return key[0] in {"(", "["} or any(t.startswith('"') for t in key)

    def _part(self, side: Node) -> Part:
        if side.op == "sym" and str(side.args[0]).startswith(UNREAD):
            return Part(None, "a side that is not read")
        return Part(side, "the side")

    def _has_value(self, side: Part) -> bool:
        try:
            arithmetic(self.between).evaluate(side.what, self.env)
        except Unreadable:
            return False
        return True

    def _needs_value(self, side: Part, code: Part) -> None:
        """A side that was read beside a computation of it must have a value as well.

        Raises:
            LedgerError: it has none.
        """
        try:
            arithmetic(self.between).evaluate(side.what, self.env)
        except Unreadable as error:
            keyword = code.name.strip("`")
            inside = side.what.args[0] if side.what.op in {"diff", "grad"} else side.what
            applied = isinstance(inside, Node) and inside.op == "mul"  # L(x), not declared as a function
            inside = inside.args[0] if applied else inside
            name = inside.args[0] if isinstance(inside, Node) and inside.op in {"sym", "call"} else None
            if self.named and keyword == "lhs":
                remedy = (
                    f"If `{name or 'the name on the left'}` is what is computed here, say so: name={name or '...'!r}."
                )
            elif side.what.op == "sym":
                remedy = f"Give its value under that name instead of {keyword}=: computed={{{name!r}: the function}}."
            elif side.what.op == "call" or (applied and name is not None and name not in self.env):
                what = f"Give {name!r} in `where`, as a function of the arguments that are printed."
                remedy = what if name not in FUNCTIONS else "Give the names in it their values in `where`."
            else:
                remedy = (
                    "Declare in `where` what it needs: a Law, a Density, an Optimum, Over (README, Writing checks)."
                )
            raise LedgerError(
                f"{self.label}: beside the page's side `{show(side.what)}` stands a computation, but the side itself "
                f"is not read: {error}\n{remedy} Or excuse it: unread={{r'its TeX': 'the reason, which is printed'}}."
            ) from error
        except Exception:
            return

    def _compared(self, chain: list[Relation], sides: list[Part]) -> list[Comparison]:
        """The comparisons of one chain; over a side that nothing computes, equalities reach to the next."""
        found: list[Comparison] = []
        last: Part | None = None
        sign = "="
        for part, step in zip(sides, ["", *(r.sign for r in chain)], strict=True):
            if step:
                sign = step if sign in EQUAL else sign if step in EQUAL or step == sign else "?"
            if part.what is None:
                continue
            if last is not None:
                found.append(self._comparison(last, sign, part))
            last, sign = part, "="
        return found

    def _comparison(self, left: Part, sign: str, right: Part) -> Comparison:
        test = self.between if left.read and right.read else self.test
        if sign in EQUAL:
            return Comparison(left, "=", right, test)
        if sign == "≈":
            if self.approx is None:
                raise LedgerError(
                    f"{self.label}: how closely must the sides of ≈ agree? Say so: approx=0.01 (relative, printed)."
                )
            return Comparison(left, "=", right, self.approx)
        if sign not in {"<", "<=", ">", ">=", "!="}:
            raise LedgerError(
                f"{self.label}: the sign {sign!r} is read, but no check decides it. Make the equation a `definition`, "
                "or excuse the statement in `unread=`."
            )
        return Comparison(left, sign, right, test)


def _a_function(*_: Any) -> Any:
    """Stands for a function that has a name on the page, while the page is read."""
    raise NotImplementedError


def arithmetic(test: Test) -> Arithmetic:
    """The arithmetic in which ``test`` compares."""
    from texledger._exact import Exact
    from texledger._numeric import Numeric

    return Exact() if test.exact else Numeric()


def _chains(relations: list[Relation]) -> list[list[Relation]]:
    """Relations that share a side belong to one statement, ``a = b <= c``."""
    chains: list[list[Relation]] = []
    for relation in relations:
        if chains and chains[-1][-1].right is relation.left:
            chains[-1].append(relation)
        else:
            chains.append([relation])
    return chains


def _sides(chain: list[Relation]) -> list[Node]:
    return [chain[0].left, *(r.right for r in chain)]


def _is(side: Node, name: str) -> bool:
    return side == Node("sym", (name,))


def _renamed(reading: Reading, placeholders: Mapping[str, str]) -> Reading:
    new = lambda side: Node("sym", ("(not read)",)) if any(_is(side, n) for n in placeholders) else side
    return Reading(
        [replace(r, left=new(r.left), right=new(r.right)) for r in reading.relations], reading.conditions, []
    )


def _stripped(items: list[str]) -> list[str]:
    while items and items[-1] in SEPARATORS:
        items = items[:-1]
    while items and items[0] in SEPARATORS:
        items = items[1:]
    return items


def _top(items: list[str]) -> list[str]:
    """The tokens outside braces, environments and parentheses."""
    depth, found = 0, []
    for t in items:
        depth += (t in {"{", r"\begin", "(", "["}) - (t in {"}", r"\end", ")", "]"})
        if depth == 0:
            found.append(t)
    return found


def _places(items: list[str], key: list[str]) -> list[int]:
    return [i for i in range(len(items) - len(key) + 1) if items[i : i + len(key)] == key]


def _bounded(items: list[str], start: int, end: int) -> bool:
    """True if a side of a relation begins at ``start`` and ends before ``end``."""
    before = items[start - 1] if start else r"\qquad"
    after = items[end] if end < len(items) else r"\qquad"
    edges = set(RELATIONS) | SEPARATORS | {"&", r"\\"}
    return before in edges | {"}"} and (after in edges or after.startswith('"'))


def _with_side(items: list[str], key: list[str], new: list[str]) -> list[str] | None:
    found = [i for i in _places(items, key) if _bounded(items, i, i + len(key))]
    for i in reversed(found):
        items = [*items[:i], *new, *items[i + len(key) :]]
    return items if found else None


def _without_statement(items: list[str], key: list[str]) -> list[str] | None:
    found = _places(items, key)
    if not found:
        return None
    start, end = found[0], found[0] + len(key)
    if items[start - 1 : start] == ["("] and items[end : end + 1] == [")"]:
        start, end = start - 1, end + 1
    while start and items[start - 1] in SEPARATORS:
        start -= 1
    rest = [*items[:start], *items[end:]]
    while rest and rest[0] in SEPARATORS:
        rest = rest[1:]
    return rest


def _joined(items: list[str]) -> str:
    """TeX of the tokens; words are one token that begins with a quotation mark."""
    return " ".join(r"\text{" + t[1:] + "}" if t.startswith('"') else t for t in items)


def _same_words(key: str, words: str) -> bool:
    """True if an excuse is for these words: letters, digits and signs agree."""
    bare = lambda text: "".join(c for c in text.replace(r"\text", "") if c.isalnum() or c in r"<>=+-^_\\")
    return bare(key) == bare(words)
