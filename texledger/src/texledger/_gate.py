"""The gate: a book's equations held against its ledger; what is missing, edited or unchecked is named."""

from __future__ import annotations

import difflib
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
class Statement:
    """A mark ``{checked}`` in running text, a theorem box or a table, which ties the words before it to an entry.

    Attributes:
        label: of the entry.
        tex: the formula that the mark itself prints, or that it says to stand before it; None if there is none.
        page: where it is.
        line: of the page, or None.
        beside: formulas of the same paragraph or table row.
        number: how many marks of this label are before it on its page.
    """

    label: str
    tex: str | None
    page: str
    line: int | None
    beside: tuple[str, ...] = ()
    number: int = 0

    @property
    def place(self) -> str:
        return Equation(self.label, "", self.page, self.line).place

    @property
    def anchor(self) -> str:
        return identifier(f"statement-{self.label}") + (f"-{self.number + 1}" if self.number else "")

    def prints(self, tex: str) -> bool:
        """True if the statement is printed as ``tex``, in the mark or beside it."""
        return any(normal(found) == normal(tex) for found in (self.beside if self.tex is None else (self.tex,)))


ROLE = re.compile(r"^(?P<tex>.*\S)\s*<(?P<label>[^<>\s]+)>$", re.DOTALL)


def marked(content: str) -> tuple[str, str | None]:
    r"""Label and formula of what stands in a mark ``{checked}``.

    >>> marked(r"a < b <order:main>")
    ('order:main', 'a < b')
    >>> marked("order:main")
    ('order:main', None)
    """
    content = " ".join(content.split())
    found = ROLE.match(content)
    return (found["label"], found["tex"]) if found else (content, None)


@dataclass(frozen=True)
class Fault:
    """What keeps a book from being published: where, which label, what to do."""

    place: str
    label: str | None
    says: str

    def __str__(self) -> str:
        return f"{self.place}: {self.says}"


def faults(
    equations: Sequence[Equation],
    entries: Sequence[Made],
    unlabelled: bool = True,
    excused: Iterable[str] = (),
    statements: Sequence[Statement] = (),
) -> list[Fault]:
    """Everything in which pages and ledger part; empty if each equation has one good entry that quotes it.

    Args:
        equations: of all pages.
        entries: of all pages.
        unlabelled: a display equation without a label is a fault, since nothing can check it.
        excused: labels whose missing entry has been reported already, with its reason.
        statements: the marks in running text, of all pages.
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
        found += _mismatch(item, known.get(label), any(s.label == label for s in statements))
    for statement in statements:
        if statement.label not in silent:
            found += _unproven(statement, made.get(statement.label), known, made)
    return found


def _unproven(
    statement: Statement, item: Made | None, known: dict[str, Equation], made: dict[str, Made]
) -> list[Fault]:
    """Why a mark in running text promises what the ledger does not have."""
    label = statement.label
    says = f"the mark {{checked}}`{label}`"
    if item is None:
        near = difflib.get_close_matches(label, sorted(made), 3, 0.6)
        hint = f" Is it {', '.join(near)}?" if near else " If its check is on another page, name that page as well."
        return [Fault(statement.place, label, f"{says}: the ledger has no entry of that label.{hint}")]
    entry = item.entry
    if entry.kind == "definition" and not entry.mutants:
        says += f": its entry is a definition that nothing checks: refer to it by {{eq}}`{label}`, or compare it with "
        return [Fault(statement.place, label, says + "the function that computes it (`where=` and `code=`)")]
    if entry.strength == "quoted" or entry.tex is None:
        says += ": its entry only quotes the TeX: let the check read it (neither `lhs` with `rhs` nor `published`), "
        return [Fault(statement.place, label, says + f"or refer to it by {{eq}}`{label}`")]
    if statement.prints(entry.tex):
        return []
    if statement.tex is not None:
        says += " does not print what its entry quotes; look at the check, and run its cell again."
        pair = f"\n      page:  {normal(statement.tex)}\n      entry: {normal(entry.tex)}"
        return [Fault(statement.place, label, says + pair)]
    if label in known:
        return []
    says += f": no page displays that equation, so the mark must print it, {{checked}}`{entry.tex} <{label}>`, "
    return [Fault(statement.place, label, says + "or stand in one paragraph or table row with just this formula")]


def _mismatch(item: Made, equation: Equation | None, stated: bool) -> list[Fault]:
    tex, label = item.entry.tex, item.entry.label
    if tex is None:
        return [Fault(equation.place, label, f"equation {label} has an entry that quotes no TeX")] if equation else []
    if equation is None and stated:  # a statement in running text, held against its marks
        return []
    if equation is None:
        says = f"the ledger has an entry for {label}, but no page has an equation of that label, nor a mark "
        says += f"{{checked}}`TeX <{label}>` in its text"
        return [Fault(item.place, label, says)]
    page, quote = normal(equation.tex), normal(tex)
    if page == quote:
        return []
    says = f"equation {label} is not what its entry quotes; look at the check, and run its cell again."
    return [Fault(equation.place, label, f"{says}\n      page:  {page}\n      entry: {quote}")]
