"""The notebooks on Colab: the set-up cell adds the book's packages and what is missing, and touches nothing else.

Colab is played by an interpreter that has of this environment only what Colab's own list names, and a module
`google.colab`. Versions are ours, not Colab's.
"""

import ast
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from gantext_book.source import ROOT, chapters, site
from gantext_book.twins import code_cells
from gantext_book.wheels import asked_for, build_wheels
from IPython.core.inputtransformer2 import TransformerManager
from packaging.utils import canonicalize_name

import gantext
import texledger

NOTEBOOKS = [path.with_suffix(".ipynb") for path in chapters(ROOT)]
LINE = rf"gantext {re.escape(gantext.__version__)} · Python [\d.]+\S* · torch \S+ · device .+ · backend .+"
LINE += r" · SCALE that fits: .+"
LISTED = Path(__file__).with_name("data") / "colab-2026-08.txt"
COLAB = {line for line in LISTED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
ADDED = {"ijson", "pot", "gensim"}  # what the set-up cell adds where it is missing
OWN = {"gantext", "texledger"}

RUN = """
import importlib.machinery, json, sys, types
from importlib.metadata import distributions

def installed():
    return sorted({(d.metadata["Name"].lower(), d.version) for d in distributions()})

for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
cell, report, *imports = sys.argv[1:]
before = installed()
exec(compile(open(cell, encoding="utf-8").read(), "set-up cell", "exec"), {"__name__": "__main__"})
failed = []
for line in imports:
    try:
        exec(line, {})
    except Exception as error:
        failed.append(f"{line}: {error!r}")
with open(report, "w", encoding="utf-8") as file:
    places = [sys.modules[name].__file__ for name in ("gantext",)]
    json.dump({"before": before, "after": installed(), "from": places, "failed": failed}, file)
"""


def code(notebook: Path) -> list[str]:
    return [cell.source for cell in code_cells(nbformat.read(notebook, as_version=4))]


def setup_cell(notebook: Path) -> str:
    """The first cell of Python, which must be the one tagged `setup`; a figure may stand before it."""
    cells = code_cells(nbformat.read(notebook, as_version=4))
    tagged = [i for i, cell in enumerate(cells) if "setup" in cell.metadata.get("tags", [])]
    assert tagged == [0], f"{notebook.name}: the first code cell, and no other, is tagged `setup`"
    assert cells[0].metadata.cellView == "form" and cells[0].metadata.jupyter.source_hidden
    return cells[0].source


def imports(notebook: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    transform = TransformerManager().transform_cell
    for source in code(notebook)[1:]:
        for node in ast.walk(ast.parse(transform(source))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield node


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site with the wheels of both packages, as the build puts them there."""
    out = tmp_path_factory.mktemp("site") / "wheels"
    build_wheels(out, ROOT)
    assert {path.name.split("-")[0] for path in out.glob("*.whl")} == OWN
    return out


def linked(found: Distribution, folder: Path) -> None:
    """Let the folder have a distribution's packages and its record."""
    for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(found.locate_file(top))), folder / top
        if source.exists() and not target.exists():
            target.symlink_to(source)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A clean interpreter for which all of Colab's packages that this one has, and no others, are pre-installed."""
    before = tmp_path / "pre-installed"  # outside the environment, where pip would refuse to remove anything
    before.mkdir()
    for found in distributions():
        if canonicalize_name(found.metadata["Name"]) in (COLAB | {"pip", "nvidia-nccl-cu13"}) - OWN:
            linked(found, before)
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
        assert f'site = "{facts.baseurl}/wheels"' in setup_cell(notebook)
        source = notebook.with_suffix(".md").read_text(encoding="utf-8")
        assert '"{{ repository }}/archive/refs/tags/v{{ edition }}.zip"' in source
    assert gantext.__version__ == texledger.__version__ == facts.edition


@pytest.mark.parametrize("place", ["beside the notebook", "a copy of the site", "the book's site"])
def test_colab_gets_this_edition_and_nothing_else_changes(
    place: str, python: Path, wheels: Path, tmp_path: Path
) -> None:
    cell, script, report = tmp_path / "cell.py", tmp_path / "run.py", tmp_path / "report.json"
    script.write_text(RUN, encoding="utf-8")
    text = setup_cell(NOTEBOOKS[0])  # the others are equal to it, as tested above
    extra = tmp_path / "extra"  # what Colab lacks comes from a registry there, from this environment here
    extra.mkdir()
    for found in distributions():
        if canonicalize_name(found.metadata["Name"]) in ADDED:
            linked(found, extra)
    here = tmp_path / "_sources" / "notebooks"  # where the site has its notebooks
    here.mkdir(parents=True)
    if place == "the book's site":
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "wheels").symlink_to(wheels)
        text = text.replace(site(ROOT).baseurl, (tmp_path / "site").as_uri())
    else:
        beside = here if place == "beside the notebook" else tmp_path / "wheels"
        beside.mkdir(exist_ok=True)
        for path in wheels.glob("*.whl"):
            (beside / path.name).symlink_to(path)
    cell.write_text(text, encoding="utf-8")
    ours = lambda node: find_spec(str(getattr(node, "module", None) or node.names[0].name).partition(".")[0])
    lines = sorted({ast.unparse(node) for notebook in NOTEBOOKS for node in imports(notebook) if ours(node)})
    files = [*asked_for(ROOT)]  # what a notebook reads is in the wheel: no network, no copy of the repository
    assert "benchmarks/results/gans.json" in files and "benchmarks/compare_expm.py" in files
    edition = f"https://nowhere.invalid/raw/v{gantext.__version__}"
    lines += [f"from gantext import book; book.fetched({file!r}, {edition!r}).stat()" for file in files]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": str(extra)}
    ran = subprocess.run(
        [python, script, cell, report, *lines], cwd=here, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(report.read_text(encoding="utf-8"))
    names = {name for name, _ in facts["before"]}
    assert {"torch", "numpy", "sympy", "pip"} <= names
    assert not OWN & names
    assert [item for item in facts["before"] if item not in facts["after"]] == []
    added = [item for item in facts["after"] if item not in facts["before"]]
    assert added == [["gantext", gantext.__version__], ["texledger", texledger.__version__]]
    assert all(Path(path).is_relative_to(tmp_path / "clean") for path in facts["from"])
    assert facts["failed"] == []
    first, second = ran.stdout.strip().splitlines()
    shown = "beside the notebook" if place == "a copy of the site" else place
    assert first == f"installed from {shown}" and [*here.glob("gantext-v*")] == []  # nothing was downloaded
    assert re.fullmatch(LINE, second), ran.stdout


def test_every_import_is_on_colab_or_added() -> None:
    known, wrong = packages_distributions(), []
    for notebook in NOTEBOOKS:
        for node in imports(notebook):
            for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]:
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top in OWN:
                    continue
                if not {canonicalize_name(found) for found in known.get(top, [top])} & (COLAB | ADDED):
                    wrong.append(f"{notebook.stem}: {name}")
    assert wrong == []


def test_elsewhere_it_only_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def forbidden(*args: object, **options: object) -> None:
        raise AssertionError(f"the set-up cell runs a program outside Colab: {args}")

    for name in ("run", "call", "check_call", "check_output", "Popen"):
        monkeypatch.setattr(subprocess, name, forbidden)
    monkeypatch.setattr(os, "system", forbidden)
    assert "google.colab" not in sys.modules
    exec(compile(setup_cell(NOTEBOOKS[0]), "set-up cell", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(LINE, capsys.readouterr().out.strip())


def test_the_versions_that_are_tried_are_of_colabs_list_and_enough() -> None:
    lines = (Path(__file__).with_name("data") / "colab-versions.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lines if not line.startswith("#"))
    assert pinned <= {canonicalize_name(name) for name in COLAB}
    tops = {
        str(getattr(node, "module", None) or node.names[0].name).partition(".")[0]
        for notebook in NOTEBOOKS for node in imports(notebook)
    }  # fmt: skip
    owners = packages_distributions()
    asked = {canonicalize_name(owners[top][0]) for top in tops if top in owners}
    assert asked - OWN - ADDED <= pinned


def test_every_cell_ran_under_colabs_versions() -> None:
    """The record of `on_colab.py`, which no test can run: of each notebook as many cells as it has today."""
    record = json.loads((ROOT / "benchmarks" / "results" / "colab.json").read_text(encoding="utf-8"))
    text = (Path(__file__).with_name("data") / "colab-versions.txt").read_text(encoding="utf-8")
    listed = dict(line.split("==") for line in text.splitlines() if not line.startswith("#"))
    assert record["versions"]["python"].startswith("3.13.")
    assert record["versions"]["torch"].split("+")[0] == listed["torch"]
    assert [record["versions"][name] for name in ("numpy", "ipython")] == [listed["numpy"], listed["ipython"]]
    assert list(record["notebooks"]) == [notebook.stem for notebook in NOTEBOOKS]
    for notebook in NOTEBOOKS:
        ran = record["notebooks"][notebook.stem]
        assert ran["failed"] is None
        assert (
            ran["run"]
            == ran["cells"]
            == sum(cell.cell_type == "code" for cell in nbformat.read(notebook, as_version=4).cells)
        )
