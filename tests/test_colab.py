"""The set-up cell of every notebook: on Colab it adds this edition of gantext and touches nothing else."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
from gantext_book.source import ROOT, chapters, site

import gantext

NOTEBOOKS = [path.with_suffix(".ipynb") for path in chapters(ROOT)]
LINE = rf"gantext {re.escape(gantext.__version__)} · Python [\d.]+\S* · torch \S+ · device .+ · backend .+"

RUN = """
import json, sys, types
from importlib.metadata import distributions

def installed():
    return sorted({(d.metadata["Name"].lower(), d.version) for d in distributions()})

sys.modules["google"] = types.ModuleType("google")
sys.modules["google.colab"] = types.ModuleType("google.colab")
cell, report = sys.argv[1:]
before = installed()
exec(compile(open(cell, encoding="utf-8").read(), "set-up cell", "exec"), {"__name__": "__main__"})
with open(report, "w", encoding="utf-8") as file:
    json.dump({"before": before, "after": installed(), "from": sys.modules["gantext"].__file__}, file)
"""


def setup_cell(notebook: Path) -> str:
    """The first code cell, which must be the one tagged `setup`."""
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    tagged = [i for i, cell in enumerate(cells) if "setup" in cell.metadata.get("tags", [])]
    assert tagged == [0], f"{notebook.name}: the first code cell, and no other, is tagged `setup`"
    return cells[0].source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    (built,) = folder.glob("gantext-*.whl")
    return built


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A clean interpreter for which everything that this one has, but gantext, is pre-installed."""
    before = tmp_path / "pre-installed"  # outside the environment, where pip would refuse to remove anything
    before.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if not entry.name.lower().startswith(("gantext", "__editable__")):
                (before / entry.name).symlink_to(entry)
    venv.create(tmp_path / "clean", symlinks=True)
    (packages,) = (tmp_path / "clean").glob("lib/python*/site-packages")
    (packages / "pre-installed.pth").write_text(f"{before}\n", encoding="utf-8")
    return tmp_path / "clean" / "bin" / "python"


def test_all_set_up_cells_are_one() -> None:
    facts = site(ROOT)
    assert NOTEBOOKS
    assert len({setup_cell(notebook) for notebook in NOTEBOOKS}) == 1
    for notebook in NOTEBOOKS:
        assert f'"{facts.repository}/archive/refs/tags/v{facts.edition}.zip"' in setup_cell(notebook)
        source = notebook.with_suffix(".md").read_text(encoding="utf-8")
        assert '"{{ repository }}/archive/refs/tags/v{{ edition }}.zip"' in source


def test_colab_gets_this_edition_and_nothing_else_changes(python: Path, wheel: Path, tmp_path: Path) -> None:
    cell, script, report = tmp_path / "cell.py", tmp_path / "run.py", tmp_path / "report.json"
    script.write_text(RUN, encoding="utf-8")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "GANTEXT_ADDRESS": str(wheel)}
    cell.write_text(setup_cell(NOTEBOOKS[0]), encoding="utf-8")  # the others are equal to it, as tested above
    command = [python, script, cell, report]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(report.read_text(encoding="utf-8"))
    names = {name for name, _ in facts["before"]}
    assert {"torch", "numpy", "sympy", "pip"} <= names
    assert "gantext" not in names
    assert [item for item in facts["before"] if item not in facts["after"]] == []
    assert [item for item in facts["after"] if item not in facts["before"]] == [["gantext", gantext.__version__]]
    assert Path(facts["from"]).is_relative_to(tmp_path / "clean")
    assert re.fullmatch(LINE, ran.stdout.strip()), ran.stdout


def test_elsewhere_it_only_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError(f"the set-up cell runs a program outside Colab: {args}")

    for name in ("run", "call", "check_call", "check_output", "Popen"):
        monkeypatch.setattr(subprocess, name, forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    assert "google.colab" not in sys.modules
    exec(compile(setup_cell(NOTEBOOKS[0]), "set-up cell", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(LINE, capsys.readouterr().out.strip())
