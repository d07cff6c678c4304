"""The pages show the stored outputs, execute nothing, and carry the numbers of the notebooks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import nbformat
import pytest
from bs4 import BeautifulSoup
from gantext_book import source, stored
from gantext_book.plain import contexts, render
from gantext_book.twins import code_cells
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

EXTENSIONS = Path(stored.__file__).parents[1]
OUTPUTS = ("stored-one", "stored-two", "stored-three")


def store(path: Path, root: Path, texts: list[str]) -> None:
    """Write a twin whose outputs no execution would give."""
    context = contexts(root)[path]
    nb = render(source.read_notebook(path, context.site), context)
    for number, (cell, text) in enumerate(zip(code_cells(nb), texts, strict=True), start=1):
        cell.execution_count = number
        data = {"text/html": f"<p>{text}</p>", "text/plain": text}  # a stream would not become a figure
        cell.outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(nb, path.with_suffix(".ipynb"))


def build(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("jb")), "build", str(root), "-W", "-n", "--keep-going"]
    environment = {**os.environ, "PYTHONPATH": str(EXTENSIONS), "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The sample book, built from twins with made-up outputs, and what the build said."""
    root = Path(shutil.copytree(Path(__file__).parent / "sample", tmp_path_factory.mktemp("stored") / "sample"))
    first, second = source.chapters(root)
    store(first, root, [OUTPUTS[0]])
    store(second, root, list(OUTPUTS[1:]))
    result = build(root)
    assert result.returncode == 0, result.stdout + result.stderr
    return root, result.stdout + result.stderr


def html(root: Path, page: str) -> str:
    return (root / "_build" / "html" / f"{page}.html").read_text(encoding="utf-8")


def test_build_takes_the_stored_outputs_and_executes_nothing(book: tuple[Path, str]) -> None:
    root, said = book
    assert "Executing notebook" not in said
    assert not (root / "_build" / ".jupyter_cache").exists()
    assert not (root / "notebooks" / "executed.txt").exists()
    assert OUTPUTS[0] in html(root, "notebooks/first")
    assert "area 9" not in html(root, "notebooks/first")
    assert OUTPUTS[1] in html(root, "notebooks/second")
    assert OUTPUTS[2] in html(root, "notebooks/second")


def test_tokens_are_filled_in_the_pages(book: tuple[Path, str]) -> None:
    assert "at 0.3.0." in html(book[0], "notebooks/first")
    assert "{{ " not in html(book[0], "notebooks/first").split("<article")[1].split("</article")[0]


def test_notebook_carries_the_numbers_of_the_page(book: tuple[Path, str]) -> None:
    root, _ = book
    for path in source.chapters(root):
        page = BeautifulSoup(html(root, f"notebooks/{path.stem}"), "html.parser")
        nb = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
        text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")

        def printed(selector: str, pattern: str, page: BeautifulSoup = page) -> list[str]:
            found = (re.search(pattern, " ".join(node.get_text().split())) for node in page.select(selector))
            return [match[1] for match in found if match]

        tags = re.findall(r"\\tag\{([\d.]+)\}", text)
        assert tags
        assert tags == printed(".eqno", r"\(([\d.]+)\)")
        head = r"((?:Solution to )?(?!Figure)[A-Z]\w+ \d+\.\d+)"
        assert re.findall(rf"\*\*{head}", text) == printed("p.admonition-title", f"^{head}")
        captions = printed("figcaption", r"^(Figure [\d.]+\d)")
        in_text = [caption for caption in captions if caption != "Figure 2.1"]  # that one is the output of a code cell
        assert re.findall(r"\*\*(Figure [\d.]+)\.\*\*", text) == in_text
        assert len(captions) == (2 if path.stem == "second" else 0)


def test_links_of_the_notebooks_lead_to_anchors_of_the_pages(book: tuple[Path, str]) -> None:
    root, _ = book
    base = source.site(root).baseurl
    count = 0
    for path in source.chapters(root):
        for page, anchor in re.findall(
            rf"\({base}/([\w/]+)\.html(?:#([\w.:-]+))?\)", path.with_suffix(".ipynb").read_text()
        ):
            count += 1
            assert not anchor or f'id="{anchor}"' in html(root, page), f"{path.stem}: {page}#{anchor}"
    assert count > 20


def test_changed_output_rebuilds_the_page_and_changed_code_stops_the_build(book: tuple[Path, str]) -> None:
    root, _ = book
    first, second = source.chapters(root)
    store(first, root, ["stored-anew"])
    result = build(root)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "stored-anew" in html(root, "notebooks/first")
    assert OUTPUTS[0] not in html(root, "notebooks/first")
    second.write_text(second.read_text().replace('print("stored")', 'print("other")'))
    result = build(root)
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert "second.md: code cell 1 is not the one" in said
    assert "run `make notebooks`" in said
    assert not (root / "notebooks" / "executed.txt").exists()


def test_a_twin_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    with pytest.raises(ExtensionError, match=r"there is no x.ipynb.*make notebooks"):
        stored.attach(path, nb)
    nbformat.write(nb, tmp_path / "x.ipynb")
    with pytest.raises(ExtensionError, match="code cell 1 has not been executed"):
        stored.attach(path, nb)
    nb.cells[0].execution_count = 1
    nbformat.write(nb, tmp_path / "x.ipynb")
    longer = nbformat.v4.new_notebook(cells=[*nb.cells, nbformat.v4.new_code_cell("2")])
    with pytest.raises(ExtensionError, match=r"has 2 code cells and x.ipynb 1"):
        stored.attach(path, longer)
    assert stored.attach(path, nb).metadata.language_info.pygments_lexer == "python3"


def test_another_execution_mode_is_refused(tmp_path: Path) -> None:
    app = SimpleNamespace(config=SimpleNamespace(nb_execution_mode="force"), srcdir=tmp_path)
    with pytest.raises(ExtensionError, match='execute_notebooks: "off"'):
        stored.use_twins(cast("Sphinx", app))
