"""One source, three forms: what is written, what is executed, and what the check sees."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from gantext_book import twins, widgets
from gantext_book.source import read_notebook, site
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample book with twins made by one real execution."""
    root = Path(shutil.copytree(SAMPLE, tmp_path_factory.mktemp("twins") / "sample"))
    assert twins.main([], root) == 0
    return root


@pytest.fixture
def root(executed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(executed, tmp_path / "sample"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the chapters that were executed; nothing really is."""
    names: list[str] = []

    def execute(nb: NotebookNode, cwd: Path, root: Path, name: str) -> None:
        names.append(name)
        for cell in twins.code_cells(nb):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="again\n")]

    monkeypatch.setattr(twins, "execute", execute)
    return names


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    folder = root / "notebooks"
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.suffix in (".py", ".ipynb")}


def test_twin_holds_outputs_plain_text_and_its_provenance(executed: Path) -> None:
    text = (executed / "notebooks" / "first.ipynb").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert '\n "cells": [' in text
    nb = nbformat.reads(text, as_version=4)
    nbformat.validate(nb)
    code = twins.code_cells(nb)
    assert [cell.execution_count for cell in code] == [1]
    assert code[0].outputs == [nbformat.v4.new_output("stream", name="stdout", text="area 9\n")]
    assert "\\tag{1.1}" in nb.cells[2].source
    assert set(nb.metadata.gantext) == {"code", "equations", "package", "verified"}
    assert set(nb.metadata.gantext.verified) == {"date", "device", "versions"}
    assert nb.metadata.gantext.verified.versions["gantext"] == "0.3.0"
    assert set(nb.metadata.gantext.verified.versions) == {"python", "torch", "numpy", "sympy", "matplotlib", "gantext"}
    assert not [cell for cell in nb.cells if "execution" in cell.metadata]
    assert str(executed) not in text


def test_script_is_percent_format_without_version_noise(executed: Path) -> None:
    text = (executed / "notebooks" / "first.py").read_text(encoding="utf-8")
    assert text.startswith("# ---\n# jupyter:\n#   jupytext:\n#     text_representation:\n#       extension: .py\n")
    assert "version" not in text.split("# %%")[0]
    assert "metadata_filter" not in text
    assert '# %% tags=["hide-input"]\n# %matplotlib inline\nfrom gantext.shapes import area\n' in text


def test_a_second_run_touches_nothing(root: Path, runs: list[str]) -> None:
    before = files(root)
    assert twins.main([], root) == 0
    assert runs == []
    assert files(root) == before


def test_an_edited_equation_is_judged_again(root: Path, runs: list[str]) -> None:
    """Ledger cells do not repeat their equation, so the code is as it was."""
    edit(root / "notebooks" / "first.md", "a = b\n", "a = c\n")
    assert twins.main([], root) == 0
    assert runs == ["first"]
    edit(root / "notebooks" / "first.md", "$$\na = c\n$$", "$$\na  =\nc.\n$$")  # nothing that is judged
    edit(root / "notebooks" / "first.md", "## Next", "Text.\n\n## Next")
    assert twins.main([], root) == 0
    assert runs == ["first"]


def test_new_text_keeps_the_outputs(root: Path, runs: list[str]) -> None:
    edit(root / "notebooks" / "first.md", "Install from", "Take it from")
    verified = json.loads((root / "notebooks" / "first.ipynb").read_text())["metadata"]["gantext"]
    assert twins.main([], root) == 0
    assert runs == []
    nb = nbformat.read(root / "notebooks" / "first.ipynb", as_version=4)
    assert "Take it from" in nb.cells[0].source
    assert nb.cells[1].outputs[0].text == "area 9\n"
    assert nb.metadata.gantext == verified


def test_what_matplotlib_says_of_fonts_is_not_stored(root: Path) -> None:
    """An old cache of the machine is to blame, and no chapter; any other warning is refused."""
    nb = nbformat.read(root / "notebooks" / "first.ipynb", as_version=4)
    missing = "findfont: Font family ['STIXGeneral'] not found. Falling back to DejaVu Sans.\n"
    nb.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text=missing))
    twins.normalise(nb, root)
    assert [output.text for output in nb.cells[1].outputs] == ["area 9\n"]
    nb.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text=missing + "a warning\n"))
    with pytest.raises(ValueError, match="a warning"):
        twins.normalise(nb, root)


def test_a_stored_warning_asks_for_a_new_run(root: Path, runs: list[str]) -> None:
    path = root / "notebooks" / "first.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="a warning\n"))
    path.write_text(twins.dumps(nb), encoding="utf-8")
    assert twins.main([], root) == 0
    assert runs == ["first"]
    stored = nbformat.read(path, as_version=4).cells[1].outputs
    assert [output.text for output in stored] == ["again\n"]  # what `runs` writes


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("notebooks/first.md", "area(3)", "area(4)", ["first"]),
        ("gantext/kernels/fast.py", "x * x", "x**2", ["first"]),
        ("gantext/kernels/__init__.py", "A subpackage", "The subpackage", ["first"]),
        ("gantext/__init__.py", "stand-in", "small", ["first"]),
        ("notebooks/first.ipynb", "area(3)", "area(5)", ["first"]),
        ("notebooks/first.ipynb", '"execution_count": 1', '"execution_count": null', ["first"]),
        ("gantext/unused.py", "nobody", "no one", []),
    ],
)
def test_only_what_changed_is_executed(
    root: Path, runs: list[str], file: str, old: str, new: str, expected: list[str]
) -> None:
    edit(root / file, old, new)
    assert twins.main([], root) == 0
    assert runs == expected
    assert twins.main([], root) == 0
    assert runs == expected


def test_a_widget_needs_no_execution(root: Path, runs: list[str]) -> None:
    edit(root / "notebooks" / "second.md", "## References", "```{widget} wasserstein\n```\n\n## References")
    assert twins.main([], root) == 0
    assert runs == []
    nb = nbformat.read(root / "notebooks" / "second.ipynb", as_version=4)
    (at,) = [k for k, cell in enumerate(nb.cells) if widgets.is_widget(cell)]
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)]  # as one run from the top would number them
    assert twins.check(root / "notebooks" / "second.md", site(root)) == []
    change(root, lambda nb: nb.cells[at].outputs.clear())
    (found,) = twins.check(root / "notebooks" / "second.md", site(root))
    assert "its stored output is not the figure" in found


def test_force_executes_the_named_chapter(root: Path, runs: list[str]) -> None:
    assert twins.main(["--force", "second"], root) == 0
    assert runs == ["second"]
    with pytest.raises(SystemExit):
        twins.main(["third"], root)


def test_package_files_are_the_import_closure(root: Path) -> None:
    nb = read_notebook(root / "notebooks" / "first.md", site(root))
    found = [path.relative_to(root / "gantext").as_posix() for path in twins.package_files(nb, root)]
    assert found == ["__init__.py", "kernels/__init__.py", "kernels/fast.py", "shapes.py"]


def test_a_failing_cell_leaves_the_twins_alone(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(root / "notebooks" / "first.md", 'print("area", area(3))', 'raise ValueError("spoiled")')
    before = files(root)
    assert twins.main(["first"], root) == 1
    assert files(root) == before
    said = capfd.readouterr().err
    assert "first: failed; first.ipynb is as it was" in said
    assert 'raise ValueError("spoiled")' in said
    assert "Traceback" in said


def test_an_interrupt_leaves_the_twins_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(twins, "execute", interrupted)
    before = files(root)
    assert twins.main(["--force"], root) == 130
    assert files(root) == before


def test_kernel_is_this_interpreter_whatever_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "other", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import os, sys; print(sys.executable, os.getcwd())")]
    )
    twins.execute(nb, tmp_path, tmp_path, "probe")
    assert nb.cells[0].outputs[0].text == f"{sys.executable} {tmp_path}\n"
    with pytest.raises(ValueError, match="code cell 1 prints a path of this machine"):
        twins.normalise(nb, tmp_path)
    nb.cells[0].source = "import warnings; warnings.warn('beware')"
    twins.execute(nb, tmp_path, tmp_path, "probe")
    with pytest.raises(ValueError, match=r"code cell 1 warns(.|\n)*beware"):
        twins.normalise(nb, tmp_path)
    nb.cells[0].source = "1 / 0"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        twins.execute(nb, tmp_path, tmp_path, "probe")
    with pytest.raises(ValueError, match="code cell 1 ends in ZeroDivisionError"):
        twins.normalise(nb, tmp_path)


def change(root: Path, alter: Callable[[NotebookNode], None]) -> None:
    path = root / "notebooks" / "second.ipynb"
    nb = nbformat.read(path, as_version=4)
    alter(nb)
    nbformat.write(nb, path)


DIFFERENCES: dict[str, tuple[Callable[[Path], None], str]] = {
    "text": (lambda r: edit(r / "notebooks/second.md", "With code:", "With this:"), "cell 1: its source differs"),
    "code": (lambda r: edit(r / "notebooks/second.md", '"stored"', '"other"'), '+print("other")'),
    "tags": (lambda r: edit(r / "notebooks/second.md", "nbval-ignore-output", "x"), "cell 4: its tags"),
    "script": (lambda r: edit(r / "notebooks/second.py", '"stored"', '"other"'), "second.py is not what"),
    "no script": (lambda r: (r / "notebooks/second.py").unlink(), "there is no second.py"),
    "no notebook": (lambda r: (r / "notebooks/second.ipynb").unlink(), "there is no second.ipynb"),
    "id": (lambda r: change(r, lambda nb: nb.cells[0].update(id="x")), "cell 1: its id differs"),
    "order": (lambda r: change(r, lambda nb: nb.cells.reverse()), "cell 1: its source differs"),
    "number": (lambda r: change(r, lambda nb: nb.cells.pop()), "has 5 cells and second.ipynb 4"),
    "edited": (lambda r: change(r, lambda nb: nb.cells[1].update(source="2")), "cell 2: its source differs"),
    "unexecuted": (lambda r: change(r, lambda nb: nb.cells[1].update(execution_count=None)), "cell 2: it has not been"),
    "error": (
        lambda r: change(r, lambda nb: nb.cells[1].outputs.append(nbformat.v4.new_output("error", ename="E"))),
        "cell 2: its stored output is an error",
    ),
    "warning": (
        lambda r: change(r, lambda nb: nb.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr"))),
        "cell 2: its stored output holds a warning",
    ),
    "equation": (lambda r: edit(r / "notebooks/first.md", "a = b", "a = c"), "the equations have changed since"),
    "package": (lambda r: edit(r / "gantext/shapes.py", "Square", "The square"), "`gantext` has changed"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_check_sees(root: Path, difference: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = site(root)
    paths = [root / "notebooks" / f"{name}.md" for name in ("first", "second")]
    assert [twins.check(path, facts) for path in paths] == [[], []]
    alter, message = DIFFERENCES[difference]
    alter(root)
    found = [line for path in paths for line in twins.check(path, facts)]
    assert [line for line in found if message in line and line.startswith(("first", "second"))]
    assert twins.main(["--check"], root) == 1
    assert message in capsys.readouterr().out
