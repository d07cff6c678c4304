r"""A ledger of checked equations.

Every numbered equation of a page gets one entry, made by one call in a notebook. The call names the equation's label,
quotes its TeX, and either computes with that TeX itself (the entry is then *bound*) or compares two computations
written beside it (*quoted*). Damaged copies of the formula, the mutants, are checked too: a check that does not reject
them all is not accepted. The entry is the cell's value, so it is stored with the notebook, and the book's build reads
it from there.

>>> ledger = Ledger("demo")
>>> ledger.numeric("demo:square", r"(a+b)^2 = a^2 + 2ab + b^2", where=lambda draw: {"a": draw.real(), "b": draw.real()})
✓ demo:square: numeric, computed from the page's own TeX; 26 of 26 mutants rejected
  both sides on 3 draws, 50 digits, relative difference below 1e-20

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
from texledger._entry import KINDS, MIME, CheckFailed, Entry, LedgerError, normal
from texledger._ledger import Ledger
from texledger._tree import Unreadable

__version__ = "0.1.0"
__all__ = [
    "KINDS",
    "MIME",
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
    "normal",
]
