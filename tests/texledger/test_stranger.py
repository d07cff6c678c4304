"""Someone who has the README and nothing else: a fresh environment, a book of two pages, a first green check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from texledger import Ledger, LedgerError

ROOT = Path(__file__).parents[2]
README = ROOT / "texledger" / "README.md"
LIMIT = 300  # seconds from the fresh environment to the first green check
UNCHECKED = "\n$$\n(a - b)^2 = a^2 + b^2\n$$ (wrong)\n"


def files_of_the_readme() -> dict[str, str]:
    """The files of the section that starts a book, as they stand there."""
    section = README.read_text(encoding="utf-8").split("## Five minutes")[1].split("\n## ")[0]
    found = re.findall(r"^`([\w.]+)`[^\n]*:\n\n(`{3,})\w+\n(.*?)^\2$", section, re.DOTALL | re.MULTILINE)
    return {name: text for name, _, text in found}


class Stranger:
    """A fresh environment into which the wheel has been installed, and an empty folder."""

    def __init__(self, root: Path) -> None:
        self.book = root / "book"
        self.book.mkdir()
        home = root / "env"
        venv.create(home, with_pip=True)
        self.bin = home / ("Scripts" if os.name == "nt" else "bin")
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
        self.python = (str(self.bin / "python"),)
        self.environment = {k: v for k, v in os.environ.items() if k in kept}
        self.environment["PATH"] = f"{self.bin}{os.pathsep}{self.environment.get('PATH', '')}"
        self.environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
        # No network: the locked packages are linked in, but not this repository's own.
        site = next(home.glob("lib/python*/site-packages"), home / "Lib" / "site-packages")
        (site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
        wheels = root / "wheels"
        options = ("--no-deps", "-q")
        source = str(ROOT / "texledger")
        self.run(*self.python, "-m", "pip", "wheel", *options, "--no-build-isolation", "-w", str(wheels), source)
        (wheel,) = wheels.glob("texledger-*.whl")
        self.run(*self.python, "-m", "pip", "install", *options, "--force-reinstall", str(wheel))

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.book, env=self.environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == (status == 0), said
        return said

    def check(self, status: int = 0) -> str:
        return self.run("texledger", "check", "intro.md", "binomial.md", status=status)

    def build(self, status: int = 0) -> str:
        """What the README's line does, with the environment's Python, warnings as errors."""
        program = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"  # the linked packages' script
        return self.run(*self.python, "-c", program, "build", "-W", "--keep-going", ".", status=status)

    def page(self, name: str) -> BeautifulSoup:
        text = (self.book / "_build" / "html" / f"{name}.html").read_text(encoding="utf-8")
        return BeautifulSoup(text, "html.parser")


def test_five_minutes_from_nothing_to_a_green_check(tmp_path: Path) -> None:
    began = time.monotonic()
    stranger = Stranger(tmp_path)
    where = stranger.run(*stranger.python, "-c", "import texledger; print(texledger.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path), "the installed wheel is used, not this checkout"
    files = files_of_the_readme()
    assert set(files) == {"_config.yml", "_toc.yml", "intro.md", "binomial.md"}
    for name, text in files.items():
        (stranger.book / name).write_text(text, encoding="utf-8")
    said = stranger.check()
    seconds = time.monotonic() - began
    assert "2 equations checked (2 both sides" in said
    assert "0 faults" in said
    assert seconds < LIMIT, f"the first green check took {seconds:.0f} s"

    built = stranger.build()
    assert "unknown output mime type" not in built
    page, front = stranger.page("binomial"), stranger.page("intro")
    assert [mark.text for mark in page.select(".eqno .eq-mark")] == ["✓", "✓"]
    for mark in page.select(".eq-mark"):
        assert page.find(id=str(mark["href"]).removeprefix("#")) is not None
    assert "2 equations checked: 2 both sides" in page.text
    assert len(front.select("table.ledger tbody tr")) == 2
    assert front.select("table.ledger .math"), "formulas are left to the book's own renderer"
    assert any("mathjax" in str(script.get("src", "")).lower() for script in front.select("script"))

    binomial = stranger.book / "binomial.md"
    binomial.write_text(files["binomial.md"] + UNCHECKED, encoding="utf-8")
    line = files["binomial.md"].count("\n") + 2
    assert f"binomial.md:{line}: equation wrong has no entry in the ledger" in stranger.check(status=1)
    assert "equation wrong has no entry in the ledger" in stranger.build(status=1)

    assert files["binomial.md"].count("2 a b") == 1, "the README's page has each equation once"
    binomial.write_text(files["binomial.md"].replace("2 a b", "3 a b"))
    assert re.search(
        r"binomial.md:\d+: square: draw 1: the side `.*` is .*; the side `.*` is ", stranger.check(status=1)
    )
    assert "equation square has no entry in the ledger" in stranger.build(status=1), "its cell failed"


@pytest.mark.parametrize("name", ["pyproject.toml"])
def test_the_ledger_itself_needs_three_packages(name: str) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "texledger" / name).read_text(encoding="utf-8"))["project"]
    assert sorted(re.match(r"\w+", d)[0] for d in project["dependencies"]) == ["mpmath", "numpy", "sympy"]  # type: ignore[index]
    code = "import sys, texledger, texledger._check; print(sorted({'torch', 'sphinx', 'IPython'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_torch_is_asked_for_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    ledger = Ledger()
    one = lambda draw: {"a": draw.real(1, 2)}
    assert ledger.implementation("double", "f(a) = 2 a", one, function=lambda a: 2 * a, name="f").passed
    squares = lambda a, n, rng: (a + rng.choice([-1.0, 1.0], n)) ** 2
    excuse = {"m": "its law is in the code"}
    assert ledger.statistical("mean", "m = a^2 + 1", one, samples=squares, n=10_000, unread=excuse).passed
    remedy = r"needs PyTorch: pip install 'texledger\[torch\]'"
    with pytest.raises(LedgerError, match=f"slope: a gradient {remedy}"):
        ledger.gradient("slope", r"\nabla_a a^2 = 2 a", one, of=lambda a: a * a, wrt="a")
    matrix = lambda draw: {"A": draw.matrix(draw.turn(2, 3))}
    with pytest.raises(LedgerError, match=remedy):
        ledger.implementation("matrix", "f(A) = 2 A", matrix, function=lambda A: 2 * A, name="f")


@pytest.mark.parametrize("label", ["", "two words", "a(b)", "$x$", None])
def test_without_a_chapter_a_label_is_any_but_these(label: str) -> None:
    with pytest.raises(LedgerError, match="a label is the page's"):
        Ledger().definition(label, "a := b")
    assert Ledger().definition("eq-Any_Thing.1/2", "a := b").label == "eq-Any_Thing.1/2"
