r"""A ledger of checked equations.

Every numbered equation of a page gets one entry, made by one call in a notebook. The call names the equation's label,
takes its TeX from the page, and computes with that TeX: both sides of it, or one side against code written beside it;
what is not read is named and excused in print. Damaged copies of the formula, the mutants, are checked too: a check
that does not reject them all is not accepted. The entry is the cell's value, so it is stored with the notebook, and the
book's build reads it from there.

Where no page displays the equation, as in this text, the TeX is given:

>>> ledger = Ledger("demo")
>>> ledger.numeric("demo:square", r"(a+b)^2 = a^2 + 2ab + b^2", where=lambda draw: {"a": draw.real(), "b": draw.real()})
✓ demo:square: numeric, both sides computed from the page's own TeX; 26 of 26 mutants rejected
  both sides to 50 digits; a difference counts from 1e-20 times the largest term that is added
  read as: (a + b)^2 = a^2 + 2·a·b + b^2
  drawn: 3 draws: a in [-1, 1]; b in [-1, 1]

The words: the book says *checked*, never *proved*. Relatives of the idea are Sage's doctested textbooks and Lean's
blueprints, which link a text to formal proofs; this ledger claims less and asks less of the author.
"""

from texledger._declared import (
    By,
    Density,
    Derived,
    Indexed,
    Interval,
    Law,
    Means,
    Operator,
    Optimum,
    Over,
    Samples,
    Superscript,
)
from texledger._draw import Draw
from texledger._entry import KINDS, MIME, STRENGTHS, CheckFailed, Entry, LedgerError, normal
from texledger._home import equations
from texledger._ledger import Ledger
from texledger._tree import Unreadable

__version__ = "0.1.0"
__all__ = [
    "KINDS",
    "MIME",
    "STRENGTHS",
    "By",
    "CheckFailed",
    "Density",
    "Derived",
    "Draw",
    "Entry",
    "Indexed",
    "Interval",
    "Law",
    "Ledger",
    "LedgerError",
    "Means",
    "Operator",
    "Optimum",
    "Over",
    "Samples",
    "Superscript",
    "Unreadable",
    "equations",
    "normal",
]
