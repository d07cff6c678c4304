"""The gate: a book's equations held against its ledger; what is missing, edited or unchecked is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from texledger._entry import Entry, normal


def identifier(text: str) -> str:
    """``text`` as Sphinx makes an anchor of it.

    >>> identifier("equation-det_exp:Main 1")
    'equation-det-exp-main-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def one_line(text: str) -> str:
    """The lines of a message as one; a line that is set deeper goes on with the one before.

    >>> one_line("this is\\n  1\\nthat is\\n  2")
    'this is 1; that is 2'
    """
    whole, before = "", 0
    for line in text.splitlines():
        words, depth = " ".join(line.split()), len(line) - len(line.lstrip())
        if words:
            goes_on = depth > before or whole.endswith((".", ":", ";", ",", " is"))
            whole += ("" if not whole else " " if goes_on else "; ") + words
            before = depth
    return whole


@dataclass(frozen=True)
class Equation:
    """A display equation of a page; ``label`` is None if it has none."""

    label: str | None
    tex: str
    page: str
    line: int | None

    @property
    def place(self) -> str:
        cell, line = divmod(self.line or 0, 10_000)  # MyST-NB counts so in .ipynb, and its first line as 2
        return f"{self.page}[{cell}]:{line - 1}" if cell else f"{self.page}:{line or '?'}"

    @property
    def anchor(self) -> str:
        return identifier(f"equation-{self.label}")


@dataclass(frozen=True)
class Made:
    """An entry and where it was made: a page, and a line of it or the number of the code cell."""

    entry: Entry
    page: str
    line: int | None = None
    cell: int = 0

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}" if self.line else f"{self.page}, code cell {self.cell + 1}"

    @property
    def anchor(self) -> str:
        return identifier(f"check-{self.entry.label}")


@dataclass(frozen=True)
class Fault:
    """What keeps a book from being published: where, which label, what to do."""

    place: str
    label: str | None
    says: str

    def __str__(self) -> str:
        return f"{self.place}: {self.says}"


def faults(
    equations: Sequence[Equation], entries: Sequence[Made], unlabelled: bool = True, excused: Iterable[str] = ()
) -> list[Fault]:
    """Everything in which pages and ledger part; empty if each equation has one good entry that quotes it.

    Args:
        equations: of all pages.
        entries: of all pages.
        unlabelled: a display equation without a label is a fault, since nothing can check it.
        excused: labels whose missing entry has been reported already, with its reason.
    """
    found = []
    known: dict[str, Equation] = {}
    for equation in equations:
        label = equation.label
        if label is None:
            if unlabelled:
                short = " ".join(equation.tex.split())[:60]
                says = f"a display equation has no label, so nothing checks it: give it one, or set it inline: {short}"
                found.append(Fault(equation.place, None, says))
        elif label in known:
            found.append(
                Fault(equation.place, label, f"two equations have the label {label} (the other: {known[label].place})")
            )
        else:
            known[label] = equation
    made: dict[str, Made] = {}
    for item in entries:
        label = item.entry.label
        if label in made:
            found.append(Fault(item.place, label, f"two entries for {label} (the other: {made[label].place})"))
        made[label] = item
    silent = set(excused)
    for label, equation in known.items():
        if label not in made and label not in silent:
            says = f"equation {label} has no entry in the ledger: add a cell with ledger.numeric({label!r}, ...)"
            found.append(Fault(equation.place, label, says))
    for label, item in made.items():
        found += [Fault(item.place, label, f"the entry of {label} {problem}") for problem in item.entry.problems()]
        found += _mismatch(item, known.get(label))
    return found


def _mismatch(item: Made, equation: Equation | None) -> list[Fault]:
    tex, label = item.entry.tex, item.entry.label
    if tex is None:
        return [Fault(equation.place, label, f"equation {label} has an entry that quotes no TeX")] if equation else []
    if equation is None:
        says = f"the ledger has an entry for {label}, but no page has an equation of that label"
        return [Fault(item.place, label, says)]
    page, quote = normal(equation.tex), normal(tex)
    if page == quote:
        return []
    says = f"equation {label} is not what its entry quotes; look at the check again."
    return [Fault(equation.place, label, f"{says}\n      page:  {page}\n      entry: {quote}")]
