"""Hold a claim against its draws, then every damaged copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mpmath as mp

from texledger._arithmetic import Arithmetic, magnitude
from texledger._claim import (
    Claim,
    Comparison,
    Part,
    Side,
    Structural,
    Values,
    changes,
    described,
    holds,
    ordered,
    relative_gap,
    seen_to_fail,
    structural,
    value_of,
)
from texledger._entry import CheckFailed, LedgerError
from texledger._mutants import ZERO, exchanged, mutants
from texledger._tree import Unreadable, show
from texledger._watch import Watch

REVERSED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
STRICT = {"<=": "<", ">=": ">"}
TIGHTER = mp.mpf("0.01")  # by which share a bound is damaged
DIFFERENT = mp.mpf("1e-6")  # by which share two sides must differ where the page says that they do
PRINTED = {"<=": "≤", ">=": "≥", "!=": "≠"}


@dataclass
class Outcome:
    """What became of the damaged copies."""

    mutants: dict[str, bool] = field(default_factory=dict)
    ill_formed: dict[str, str] = field(default_factory=dict)
    weaker: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


class Trial:
    """One claim on its draws.

    Args:
        label: of the equation, for messages.
        claim: what is stated.
        arithmetic: in which it is computed.
        envs: the values of each draw.
        watch: sees which functions run in the first draw.
        loose: why no draw comes near the bound of an inequality.
    """

    def __init__(
        self,
        label: str,
        claim: Claim,
        arithmetic: Arithmetic,
        envs: Sequence[Mapping[str, Any]],
        watch: Watch | None = None,
        loose: str | None = None,
    ) -> None:
        self.label, self.claim, self.arithmetic, self.loose = label, claim, arithmetic, loose
        self.values = [Values(arithmetic, env, watch if k == 0 else None) for k, env in enumerate(envs)]

    def check(self) -> None:
        """Every comparison on every draw.

        Raises:
            CheckFailed: one does not hold.
            LedgerError: a part has no value.
        """
        for number, values in enumerate(self.values, start=1):
            for comparison in self.claim.comparisons:
                self._values(number, values, comparison)
                if not self._holds(number, comparison, values):
                    a, b = values.of(comparison.left), values.of(comparison.right)
                    raise CheckFailed(
                        f"{self.label}: draw {number}: {described(comparison.left)} is\n{_short(a)}\n"
                        f"{described(comparison.right)} is\n{_short(b)}\n"
                        f"and '{comparison.sign}' does not hold between them.{self._hint(comparison, a, b, values)}"
                    )
                if comparison.sign == "!=":
                    gap = relative_gap(values.of(comparison.left), values.of(comparison.right))
                    if not gap > DIFFERENT:
                        raise CheckFailed(
                            f"{self.label}: draw {number}: the sides of ≠ differ by {mp.nstr(gap, 2)} only."
                        )

    def _values(self, number: int, values: Values, comparison: Comparison) -> None:
        for part in (comparison.left, comparison.right):
            try:
                values.of(part)
            except (Unreadable, LedgerError) as error:
                raise LedgerError(_labelled(self.label, error)) from error
            except Exception as error:
                why = structural(error)
                remedy = (
                    "look at the shapes and kinds of the values in `where`"
                    if part.read
                    else "it is code beside the page: call it with the values of `where` by hand"
                )
                raise LedgerError(
                    f"{self.label}: draw {number}: {described(part)} {why or f'raised {type(error).__name__}'} "
                    f"({type(error).__name__}: {error}); {remedy}."
                ) from error

    def _holds(self, number: int, comparison: Comparison, values: Values) -> bool:
        try:
            return holds(comparison, values)
        except Structural as error:
            raise LedgerError(
                f"{self.label}: draw {number}: '{comparison.sign}' stands between {described(comparison.left)} and "
                f"{described(comparison.right)}, but {error}; take its real part or a norm."
            ) from error
        except LedgerError as error:
            raise LedgerError(_labelled(self.label, error)) from error
        except TypeError as error:  # a list beside a number
            raise LedgerError(
                f"{self.label}: draw {number}: {described(comparison.left)} and {described(comparison.right)} cannot "
                f"be compared ({error}); a list has its entries under an index: print one."
            ) from error

    @staticmethod
    def _hint(comparison: Comparison, a: Any, b: Any, values: Values) -> str:
        """A remark on rounding, if the side that should be zero comes from code (a value of ``where`` may)."""
        test = comparison.test
        if comparison.sign != "=" or not hasattr(test, "tol"):
            return ""
        try:
            small = min(magnitude(a), magnitude(b)) == 0 and 0 < max(magnitude(a), magnitude(b)) < 1e-6
        except (TypeError, ValueError):
            return ""
        left = comparison.left if magnitude(a) else comparison.right
        tree = left.what if left.read else None
        if not small or (tree is not None and not (tree.op in {"sym", "call"} and tree.args[0] in values.env)):
            return ""
        return " If this is rounding left of terms that cancel inside code, say how large those terms are: scale=1."

    def damage(self, named: Mapping[str, Side], read: Callable[[str], Any]) -> Outcome:
        """Try every damaged copy; ``read`` reads the TeX of a named one."""
        outcome = Outcome()
        for comparison in self.claim.comparisons:
            if comparison.sign != "=":
                self._signs(comparison, outcome)
        for part, name, what in self._copies():
            self._record(outcome, name, part, Part(what, part.name))
        for part in self.claim.parts():
            for name, what in exchanged(part.what) if part.read else ():
                self._record(outcome, name, part, Part(what, part.name), may_break=True)
        last = self.claim.comparisons[-1].right
        for name, side in named.items():
            if name in outcome.mutants or name in outcome.weaker or name in outcome.undecided:
                raise LedgerError(
                    f"{self.label}: the ledger itself tries a mutant called {name!r}: give yours another name."
                )
            what = read(side) if isinstance(side, str) else side
            self._record(outcome, name, last, Part(what, f"the mutant {name!r}"), named=True)
        for name, why in outcome.broken.items():
            raise CheckFailed(
                f"{self.label} lets a mutant survive: {name}. It could not be tried ({why}), which is no rejection: "
                "let code that `where` gives return mpmath's nan, or raise ArithmeticError, where it has no value."
            )
        return outcome

    def _signs(self, comparison: Comparison, outcome: Outcome) -> None:
        sign, several = comparison.sign, sum(c.sign != "=" for c in self.claim.comparisons) > 1
        between = f" in {_name(comparison)}" if several else ""
        if sign == "!=":
            outcome.mutants[f"≠ turned into ={between}"] = True  # the sides were seen to differ on every draw
            return
        turned = replace(comparison, sign=REVERSED[sign])
        name = f"{PRINTED.get(sign, sign)} turned into {PRINTED.get(turned.sign, turned.sign)}{between}"
        outcome.mutants[name] = any(not holds(turned, values) for values in self.values)
        if sign in STRICT:  # which says more, and is false where the sides are equal
            name = f"{PRINTED[sign]} turned into {STRICT[sign]}{between}"
            if all(holds(replace(comparison, sign=STRICT[sign]), values) for values in self.values):
                outcome.undecided.append(name)
            else:
                outcome.mutants[name] = True
        closest = min(self._slack(comparison, values) for values in self.values)
        name = f"the bound one per cent tighter{between}"
        if closest < TIGHTER:
            outcome.mutants[name] = True
        elif self.loose:
            outcome.undecided.append(name)
        else:
            raise CheckFailed(
                f"{self.label}: a bound one per cent tighter than {_name(comparison)} passes as well: of all draws the "
                f"closest leaves {mp.nstr(100 * closest, 3)} % of its size. Let `where` draw values where the bound is "
                "nearly attained (small, equal, aligned ones), or say why there are none: loose='the reason, which is "
                "printed'."
            )

    def _slack(self, comparison: Comparison, values: Values) -> Any:
        """What is left between the sides, relative to the larger one (to the largest over all draws against zero)."""
        low, high = _ends(comparison, values)
        scale = max(abs(low), abs(high))
        if ZERO in (comparison.left.what, comparison.right.what):
            scale = max(abs(x) for other in self.values for x in _ends(comparison, other))
        return (high - low) / scale if scale else mp.mpf(0)

    def tightness_needed(self) -> bool:
        """False if every bound is nearly attained, so that ``loose`` has nothing to excuse."""
        bounds = [c for c in self.claim.comparisons if c.sign in REVERSED]
        return any(min(self._slack(c, values) for values in self.values) >= TIGHTER for c in bounds)

    def _copies(self) -> Iterator[tuple[Part, str, Any]]:
        for part in self.claim.parts():
            mine = [c for c in self.claim.comparisons if part in (c.left, c.right)]
            if all(c.sign == "!=" for c in mine):
                continue
            if part.read:
                against_zero = any(ZERO in (c.left.what, c.right.what) for c in mine)
                for name, node in mutants(part.what, against_zero):
                    yield part, name, node
            elif any(c.right is part and c.sign == "=" for c in mine):
                for name, change in changes(self.values[0].of(part)):
                    yield part, name, _changed(part.what, change, self.arithmetic)

    def _record(
        self, outcome: Outcome, name: str, part: Part, copy: Part, named: bool = False, may_break: bool = False
    ) -> None:
        """Try one copy; of copies with one name all must be rejected."""
        fate, why = self._fate(part, copy)
        if fate == "broken" and may_break:
            return
        if fate == "alive" and not named:
            fate = self._standing(part, copy)
        if fate == "weaker":
            outcome.weaker += [name] if name not in outcome.mutants else []
            return
        if fate == "tighter" and self.loose:
            outcome.undecided.append(name)
            return
        dead = fate in {"value", "ill-formed"}
        outcome.mutants[name] = dead and outcome.mutants.get(name, True)
        if name in outcome.weaker:
            outcome.weaker.remove(name)
        if fate == "ill-formed":
            outcome.ill_formed[name] = why
        elif fate == "value":
            outcome.ill_formed.pop(name, None)
        elif fate == "broken":
            outcome.broken[name] = why

    def _fate(self, part: Part, copy: Part) -> tuple[str, str]:
        reason, broken = "", ""
        for values in self.values:
            mine = self._with(values, copy)
            for comparison in self.claim.comparisons:
                if part not in (comparison.left, comparison.right):
                    continue
                try:
                    if seen_to_fail(_swapped(comparison, part, copy), mine, values):
                        return "value", ""
                except Exception as error:
                    why = structural(error)
                    reason, broken = (why, broken) if why else (reason, f"{type(error).__name__}: {error}")
        if broken:
            return "broken", broken
        return ("ill-formed", reason) if reason else ("alive", "")

    def _standing(self, part: Part, copy: Part) -> str:
        """Of a copy that survives: whether it says less than the page, more, or the same."""
        mine = [c for c in self.claim.comparisons if part in (c.left, c.right)]
        if any(c.sign not in REVERSED for c in mine):
            return "alive"
        looser = tighter = False
        for values in self.values:
            new = self._with(values, copy)
            for c in mine:
                old_value, new_value = ordered(values.of(part)), ordered(new.of(copy))
                if c.test.equal(old_value, new_value, lambda: mp.mpf(0), 0):
                    continue
                upper = (c.right is part) == (c.sign in {"<", "<="})
                grows = new_value > old_value
                looser, tighter = looser or grows == upper, tighter or grows != upper
        return "tighter" if tighter else "weaker" if looser else "alive"

    @staticmethod
    def _with(values: Values, copy: Part) -> Values:
        """The same values, all but the copy's known."""
        new = Values(values.arithmetic, values.env)
        new._found, new._sizes = dict(values._found), values._sizes
        return new


def _swapped(comparison: Comparison, part: Part, copy: Part) -> Comparison:
    if comparison.left is part:
        return replace(comparison, left=copy)
    return replace(comparison, right=copy)


def _ends(comparison: Comparison, values: Values) -> tuple[Any, Any]:
    a, b = ordered(values.of(comparison.left)), ordered(values.of(comparison.right))
    return (a, b) if comparison.sign in {"<", "<="} else (b, a)


def _changed(side: Side, change: Callable[[Any], Any], arithmetic: Arithmetic) -> Side:
    """The side as a function of the environment, damaged by ``change``; no symbol's name can get in the way."""
    return lambda **env: change(value_of(side, arithmetic, env))


def _name(comparison: Comparison) -> str:
    sides = [show(p.what) if p.read else p.name for p in (comparison.left, comparison.right)]
    return f"{sides[0]} {PRINTED.get(comparison.sign, comparison.sign)} {sides[1]}"


def _short(x: Any) -> str:
    return str(mp.nstr(x, 12)) if isinstance(x, mp.mpf | mp.mpc | mp.matrix) else str(x)


def _labelled(label: str, error: Exception) -> str:
    says = str(error)
    return says if says.startswith(label) else f"{label}: {says}"
