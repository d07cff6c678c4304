"""Tell a refuted statement from other false ones: by the values that its sides have at the counterexample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import mpmath as mp

from texledger._arithmetic import Arithmetic, is_matrix, magnitude
from texledger._claim import Part, Structural, finite, same_shape, structural, value_of
from texledger._entry import CheckFailed, LedgerError
from texledger._hold import Outcome
from texledger._mutants import mutants

CLOSE = mp.mpf("1e-9")  # to which numbers agree, relative to their size; strings agree to the digits that they show


def refuse_other_sides(label: str, sides: Sequence[Any], found: Sequence[Any]) -> None:
    """The sides of a statement must have the values that its author says they have.

    Raises:
        LedgerError: there are not as many of them, or one is no number.
        CheckFailed: a side has another value, so the statement is not the one that was meant.
    """
    if isinstance(sides, str) or len(sides) != len(found):
        raise LedgerError(
            f"{label}: sides={sides!r}: give a value for each of the {len(found)} sides of the statement."
        )
    for said, value in zip(sides, found, strict=True):
        try:
            agrees = _agree(said, value)
        except (InvalidOperation, TypeError, ValueError) as error:
            raise LedgerError(
                f"{label}: sides={sides!r}: {said!r} is no number, no string that shows one, and no matrix."
            ) from error
        if not agrees:
            raise CheckFailed(
                f"{label}: by sides={sides!r} a side of the statement is {said}, but it is {mp.nstr(value, 12)}: it is "
                "not the statement that was meant, or not its counterexample."
            )


def misquoted(
    outcome: Outcome, parts: Sequence[Part], sides: Sequence[Any], arithmetic: Arithmetic, env: Mapping[str, Any]
) -> None:
    """Try the damaged copies of the statement: each whose side has the stated value all the same is not told apart."""
    for part, said in zip(parts, sides, strict=False):
        if not part.read:
            continue
        for slip, damaged in mutants(part.what):
            name = f"stated with {slip}"
            try:
                value = value_of(damaged, arithmetic, env)
                if not is_matrix(value) and not finite(value):
                    raise Structural("has no finite value")
                same = _agree(said, value)
            except Exception as error:
                why = structural(error)
                if why is None:
                    continue  # it cannot be tried
                outcome.mutants[name], outcome.ill_formed[name] = True, why
                continue
            if same:
                outcome.undecided.append(name)
            else:
                outcome.mutants[name] = True


def _agree(said: Any, value: Any) -> bool:
    if isinstance(said, str):
        shown = Decimal(said)
        exponent = shown.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ValueError(f"{said!r} is no number")
        if is_matrix(value):
            return False
        return bool(abs(value - mp.mpf(said)) <= mp.mpf(10) ** exponent / 2)
    given = mp.matrix(said) if isinstance(said, list) else said if is_matrix(said) else mp.mpmathify(said)
    if not same_shape(given, value):
        return False
    return bool(magnitude(given - value) <= CLOSE * max(magnitude(given), magnitude(value)))
