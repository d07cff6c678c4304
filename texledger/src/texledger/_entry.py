"""One line of the ledger: what was checked, how, how much of the page was read, and whether the check can fail."""

from __future__ import annotations

import html
import re
from dataclasses import asdict, dataclass, field
from typing import Any

MIME = "application/vnd.gantext.ledger+json"
SCHEMA = 2
KINDS = {
    "symbolic": "symbols, simplified to zero",
    "exact": "integers and rationals, equal to the last digit",
    "numeric": "random draws at high precision",
    "gradient": "automatic differentiation against the formula",
    "statistical": "random samples, within a stated number of standard errors",
    "implementation": "the named function computes the formula",
    "definition": "it introduces a name; where a function computes it, the two are compared",
    "refutation": "a published statement that fails, and what holds instead",
}
STRENGTHS = {
    "both sides": "every side of the page's own TeX was computed",
    "one side": "a part of the page's own TeX was computed and compared with code; what is not read is named",
    "quoted": "the TeX is quoted; code written beside it was compared",
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
        tex: the equation that was judged, as the page had it then (``None`` for a refuted statement in words).
        strength: how much of the TeX was computed, one of :data:`STRENGTHS`; ``None`` for a definition.
        passed: the check's verdict.
        how: one line for the reader: what was compared, on what, how closely.
        read: the TeX as it was read, in plain notation.
        unread: parts of the TeX that no check reads, each with the reason.
        drawn: sizes and ranges of the values that the symbols had.
        mutants: each damaged formula and whether the check rejected it.
        ill_formed: those among them that have no value, with the reason; the others were rejected by their values.
        also_true: damaged formulas that are true as well, with the reason.
        weaker: damaged inequalities that say less than the page and hold as well.
        undecided: damaged inequalities that a loose bound cannot tell from the page's.
        functions: dotted names of the functions that ran during the check.
        see_also: dotted names of functions that did not.
        loose: why the bound of an inequality is not nearly attained by any draw.
        weak: why the draws are special, or the identity trivial.
        refutes: for a refutation, what was stated where, by how much it fails and what holds.
    """

    label: str
    kind: str
    tex: str | None
    strength: str | None
    passed: bool
    how: str
    read: str = ""
    unread: dict[str, str] = field(default_factory=dict)
    drawn: str = ""
    mutants: tuple[tuple[str, bool], ...] = ()
    ill_formed: dict[str, str] = field(default_factory=dict)
    also_true: dict[str, str] = field(default_factory=dict)
    weaker: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    see_also: tuple[str, ...] = ()
    loose: str | None = None
    weak: str | None = None
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
        if self.kind == "definition":
            if self.strength is not None:
                found.append(f"is a definition, but claims the strength {self.strength!r}")
        elif self.strength not in STRENGTHS:
            found.append(f"has the unknown strength {self.strength!r} (known: {', '.join(STRENGTHS)})")
        if not self.passed:
            found.append("failed its check")
        if self.kind != "definition" and not self.mutants:
            found.append("has no mutants, so nothing shows that its check can fail")
        found += [f"lets a mutant survive: {name}" for name, dead in self.mutants if not dead]
        dead = {name for name, dead in self.mutants if dead}
        if dead and dead <= set(self.ill_formed):
            found.append("rejects no damaged formula by its value: all that it rejects are ill-formed")
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
            lists = {name: tuple(fields[name]) for name in ("weaker", "undecided", "functions", "see_also")}
            mutants = tuple((name, bool(dead)) for name, dead in fields["mutants"])
            return cls(**{**fields, **lists, "mutants": mutants, "unread": dict(fields["unread"])})
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerError(f"a stored entry is incomplete ({error}): run the notebook again") from error

    @property
    def headline(self) -> str:
        """Kind, strength and mutants in a few words."""
        if self.kind == "definition" and not self.mutants:
            return "definition, nothing is checked"
        strength = {
            None: "compared with the function that computes it",
            "both sides": "both sides computed from the page's own TeX",
            "one side": "one side computed from the page's own TeX",
            "quoted": "TeX quoted",
        }.get(self.strength, str(self.strength))
        return f"{self.kind}, {strength}; {self.killed} of {len(self.mutants)} mutants rejected"

    def lines(self) -> list[tuple[str, str]]:
        """What the entry says of itself beside the headline: pairs of a caption and a text."""
        found = [("how", self.how)]
        found += [("read as", self.read)] if self.read else []
        found += [("not read", f"{part}, because {why}") for part, why in self.unread.items()]
        found += [("drawn", self.drawn)] if self.drawn else []
        found += [("loose", self.loose)] if self.loose else []
        found += [("weak", self.weak)] if self.weak else []
        if self.ill_formed:
            count = len(self.ill_formed)
            found.append(("ill-formed", f"{count} of the rejected mutants ha{'s' if count == 1 else 've'} no value"))
        return found

    def __repr__(self) -> str:
        mark = "✓" if not self.problems() else "✗"
        rest = "\n".join(f"  {text if name == 'how' else f'{name}: {text}'}" for name, text in self.lines())
        return f"{mark} {self.label}: {self.headline}\n{rest}"

    def _repr_html_(self) -> str:
        esc = html.escape
        rows = [f"<b>{'✓' if not self.problems() else '✗'} {esc(self.headline)}</b>"]
        rows += [esc(text) if name == "how" else f"<i>{name}</i>: {esc(text)}" for name, text in self.lines()]
        if self.refutes:
            rows += [f"<i>{esc(key)}</i>: {esc(value)}" for key, value in self.refutes.items()]
        for caption, names in (("computed by", self.functions), ("see also", self.see_also)):
            if names:
                rows.append(f"{caption} " + ", ".join(f"<code>{esc(f)}</code>" for f in names))
        body = "<br>".join(rows)
        if self.mutants:
            items = [(n, self.ill_formed.get(n, "rejected") if dead else "SURVIVES") for n, dead in self.mutants]
            items += [(name, f"also true, {why}") for name, why in self.also_true.items()]
            items += [(name, "says less, holds as well") for name in self.weaker]
            items += [(name, "not told apart") for name in self.undecided]
            listed = "".join(f"<li>{esc(name)}: {esc(fate)}</li>" for name, fate in items)
            body += f"<details><summary>damaged formulas tried</summary><ul>{listed}</ul></details>"
        return f'<div class="gantext-check" data-label="{esc(self.label)}">{body}</div>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: self.as_json()}


def counted(number: int, thing: str) -> str:
    """``number`` of them, in words that a reader expects.

    >>> counted(1, "definition"), counted(0, "definition")
    ('1 definition', '0 definitions')
    """
    return f"{number} {thing}{'s' * (number != 1)}"


def normal(tex: str) -> str:
    """``tex`` without what does not change its meaning: comments, white space around tokens and closing punctuation.

    >>> normal(" a  = b \\\\, , ") == normal("a=b")
    True
    """
    tex = re.sub(r"(?<!\\)((?:\\\\)*)%.*", r"\1", tex)
    tex = re.sub(r"\s+", " ", tex).strip()
    tex = re.sub(r"(?<![A-Za-z]) | (?![A-Za-z])", "", tex)
    while True:
        shorter = re.sub(r"(?:\\[,;:! ]|\\q?quad|[.,;]|\s)$", "", tex)
        if shorter == tex:
            return tex
        tex = shorter
