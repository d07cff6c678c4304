"""``texledger damage``: misprints that no check makes by itself, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from texledger._check import main
from texledger._damage import chosen, damages

PAGE = r"""
```{code-cell} python
from texledger import Ledger

ledger = Ledger()
two = lambda draw: {"a": draw.real(1, 2), "b": draw.real(1, 2)}
```

$$ (a + b)^2 = a^2 + 2 a b + b^2 $$ (square)

```{code-cell} python
ledger.numeric("square", r"(a + b)^2 = a^2 + 2 a b + b^2", two)
```

$$ V = a b, \qquad a < 3 $$ (quoted)

```{code-cell} python
ledger.numeric(
    "quoted", r"V = a b, \qquad a < 3", two, lhs=lambda a, b: a * b, unread={"V": "a name", "a < 3": "never mind"}
)
```
"""


@pytest.mark.parametrize(
    ("tex", "kind", "damaged"),
    [
        ("x_{ij}", "indices exchanged", "x_{ji}"),
        ("x_i y_j", "another index", "x_{j} y_j"),
        (r"\sum_{k=0}^{n} k", "a sum begins elsewhere", r"\sum_{k = 1}^{n} k"),
        (r"\sum_{k=0}^{n} k", "a sum ends earlier", r"\sum_{k=0}^{n - 1} k"),
        (r"A^{\top} B", "transpose dropped", "A B"),
        ("e^{-x}", "an exponent's sign", "e^{x}"),
        ("a x", "a neighbouring symbol", "x  x"),
        (r"a \le b", "strict or not", "a <  b"),
        (r"\max_{g \ge 0} g", "another domain", r"\max_{g \le  0} g"),
        (r"(a + b) c", "a bracket moved", "(a + b c)"),
        ("f(x, y)", "arguments exchanged", "f(y, x)"),
        ("|x| y", "bars dropped", "(x) y"),
        ("a = b", "a factor near one", r"a = \frac{21}{20}  b"),
        (r"a = b \qquad (a > 0)", "a condition dropped", "a = b "),
        (r"a - b + c", "two signs", "a + b - c"),
        (r"\log x", "another function", r"\exp  x"),
    ],
)
def test_the_kinds_of_misprints(tex: str, kind: str, damaged: str) -> None:
    assert (kind, damaged) in [(k, "".join(d)) for k, d in damages(tex)]


def test_which_are_tried_depends_on_the_seed_and_the_label_only() -> None:
    tex = r"\sum_{i=1}^{n} x_{ij} (a + b) c = e^{-t}"
    assert chosen("a", tex, 2, 1) == chosen("a", tex, 2, 1)
    assert len({chosen(label, tex, 1, 1)[0] for label in "abcdefgh"}) > 2
    assert len({kind for kind, _ in chosen("a", tex, 5, 1)}) == 5


def test_what_is_accepted_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    assert main(["damage", str(path), "--each", "20"]) == 0
    said = capsys.readouterr().out
    assert "square (" not in said
    assert "quoted (one side): strict or not: V = a b, \\qquad a \\le 3" in said  # an excuse is edited with its page
    assert "not accepted" in said
