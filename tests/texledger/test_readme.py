"""What the README shows an author works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from texledger import Ledger

README = Path(__file__).parents[2] / "texledger" / "README.md"


def test_the_examples_run_and_have_the_strengths_that_are_claimed() -> None:
    space: dict = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "README", "exec"), space)
    ledger = space["ledger"]
    assert isinstance(ledger, Ledger)
    strengths = {label.removeprefix("demo:"): entry.strength for label, entry in ledger.entries.items()}
    assert strengths.pop("one") == "one side"
    assert strengths.pop("name") is None
    assert set(strengths.values()) == {"both sides"}
    assert len(strengths) == 10
    assert all(entry.mutants for entry in ledger.entries.values())


def test_every_keyword_has_its_line() -> None:
    from texledger._ledger import Options

    text = README.read_text(encoding="utf-8")
    assert [name for name in Options.__annotations__ if f"`{name}=" not in text] == []
