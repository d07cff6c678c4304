"""One line of the ledger: what was checked, how, and whether the check can fail."""

from __future__ import annotations

import html
import re
from dataclasses import asdict, dataclass, field
from typing import Any

MIME = "application/vnd.gantext.ledger+json"
SCHEMA = 1
KINDS = {
    "symbolic": "symbols, simplified to zero",
    "exact": "integers and rationals, equal to the last digit",
    "numeric": "random draws at high precision",
    "gradient": "automatic differentiation against the formula",
    "statistical": "random samples, within a stated number of standard errors",
    "implementation": "the named function computes the formula",
    "definition": "nothing to check: it introduces a name",
    "refutation": "a published statement that fails, and what holds instead",
}


class LedgerError(ValueError):
    """The ledger is used in a way that would leave an equation unchecked; the message says what to do."""


class CheckFailed(AssertionError):
    """The two sides differ, or a damaged formula passes."""


@dataclass(frozen=True)
class Entry:
    """The record of one equation's check; shown by notebooks, read by the book's build.

    Attributes:
        label: the equation's label on the page, ``chapter:name``.
        kind: one of :data:`KINDS`.
        tex: the equation as quoted from the page (``None`` for a refuted statement in words).
        bound: the check computed with this TeX itself, not with a transcription.
        passed: the check's verdict.
        how: one line for the reader: what was compared, on what, how closely.
        mutants: each damaged formula and whether the check rejected it.
        also_true: damaged formulas that are true as well, with the reason.
        functions: dotted names of the functions that compute the equation.
        refutes: for a refutation, what was stated where, by how much it fails and what holds.
    """

    label: str
    kind: str
    tex: str | None
    bound: bool
    passed: bool
    how: str
    mutants: tuple[tuple[str, bool], ...] = ()
    also_true: dict[str, str] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    refutes: dict[str, str] | None = None

    @property
    def killed(self) -> int:
        """How many damaged formulas the check rejected."""
        return sum(dead for _, dead in self.mutants)

    def problems(self) -> list[str]:
        """What keeps this entry from counting as a check; empty for a good one."""
        found = []
        if self.kind not in KINDS:
            found.append(f"has the unknown kind {self.kind!r} (known: {', '.join(KINDS)})")
        if not self.passed:
            found.append("failed its check")
        if self.kind != "definition" and not self.mutants:
            found.append("has no mutants, so nothing shows that its check can fail")
        found += [f"lets a mutant survive: {name}" for name, dead in self.mutants if not dead]
        return found

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Entry:
        """Rebuild a stored entry.

        Raises:
            LedgerError: it was written by another edition of the ledger, or a field is missing.
        """
        fields = {k: v for k, v in data.items() if k != "schema"}
        if data.get("schema") != SCHEMA:
            raise LedgerError(
                f"a stored entry has schema {data.get('schema')!r}, this edition reads {SCHEMA}: run the notebook again"
            )
        try:
            return cls(
                **{
                    **fields,
                    "mutants": tuple((name, bool(dead)) for name, dead in fields["mutants"]),
                    "functions": tuple(fields["functions"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise LedgerError(f"a stored entry is incomplete ({error}): run the notebook again") from error

    @property
    def headline(self) -> str:
        """Kind, strength and mutants in a few words."""
        if self.kind == "definition":
            return "definition"
        strength = "computed from the page's own TeX" if self.bound else "TeX quoted"
        return f"{self.kind}, {strength}; {self.killed} of {len(self.mutants)} mutants rejected"

    def __repr__(self) -> str:
        mark = "✓" if not self.problems() else "✗"
        return f"{mark} {self.label}: {self.headline}\n  {self.how}"

    def _repr_html_(self) -> str:
        esc = html.escape
        rows = [f"<b>{'✓' if not self.problems() else '✗'} {esc(self.headline)}</b>", esc(self.how)]
        if self.refutes:
            rows += [f"<i>{esc(key)}</i>: {esc(value)}" for key, value in self.refutes.items()]
        if self.functions:
            rows.append("computed by " + ", ".join(f"<code>{esc(f)}</code>" for f in self.functions))
        body = "<br>".join(rows)
        if self.mutants:
            items = "".join(
                f"<li>{esc(name)}: {'rejected' if dead else 'SURVIVES'}</li>" for name, dead in self.mutants
            )
            items += "".join(f"<li>{esc(name)}: also true, {esc(why)}</li>" for name, why in self.also_true.items())
            body += f"<details><summary>damaged formulas tried</summary><ul>{items}</ul></details>"
        return f'<div class="gantext-check" data-label="{esc(self.label)}">{body}</div>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: self.as_json()}


def normal(tex: str) -> str:
    """``tex`` without what does not change its meaning: white space around tokens and closing punctuation.

    >>> normal(" a  = b \\\\, , ") == normal("a=b")
    True
    """
    tex = re.sub(r"\s+", " ", tex).strip()
    tex = re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", tex)
    while True:
        shorter = re.sub(r"(?:\\[,;:! ]|\\q?quad|[.,;]|\s)$", "", tex)
        if shorter == tex:
            return tex
        tex = shorter
