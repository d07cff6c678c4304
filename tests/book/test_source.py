"""The edited source: which chapters there are and what they say."""

import shutil
from pathlib import Path

import nbformat
import pytest
from gantext_book.source import Site, chapters, fill, pages, read_notebook, site

SITE = Site("https://github.com/owner/sample", "main", "https://example.org/sample", "0.3.0")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "sample", tmp_path / "sample"))


def test_site_is_read_from_where_each_fact_stands(root: Path) -> None:
    assert site(root) == SITE
    assert SITE.page("notebooks/first", "x") == "https://example.org/sample/notebooks/first.html#x"


@pytest.mark.parametrize(
    ("file", "old", "named"),
    [
        ("_config.yml", "html_baseurl", "sphinx: config: html_baseurl"),
        ("_config.yml", "url", "repository: url"),
        ("gantext/__init__.py", "__version__", "__version__"),
    ],
)
def test_a_missing_fact_is_named(root: Path, file: str, old: str, named: str) -> None:
    text = (root / file).read_text()
    (root / file).write_text(text.replace(old, "other"))
    with pytest.raises(ValueError, match=named) as caught:
        site(root)
    assert file in str(caught.value)


def test_chapters_are_the_notebooks_of_the_contents_in_reading_order(root: Path) -> None:
    (root / "notebooks" / "draft.md").write_text("not in the contents")
    assert [path.name for path in chapters(root)] == ["first.md", "second.md"]
    assert [path.name for path in pages(root)] == ["index.md", "first.md", "second.md", "api.md"]
    toc = root / "_toc.yml"
    swapped = toc.read_text().replace("first", "@").replace("second", "first").replace("@", "second")
    toc.write_text(swapped)
    assert [path.stem for path in chapters(root)][-1] == "first"


def test_fill_knows_two_tokens_and_leaves_tex_alone() -> None:
    text = "{{ repository }}/blob/v{{ edition }} $x^{{a}}$ {{ other }}"
    assert fill(text, SITE) == "https://github.com/owner/sample/blob/v0.3.0 $x^{{a}}$ {{ other }}"


def test_notebook_is_valid_filled_and_without_noise(root: Path) -> None:
    nb = read_notebook(root / "notebooks" / "first.md", SITE)
    nbformat.validate(nb)
    assert (nb.nbformat, nb.nbformat_minor) == (4, 5)
    assert set(nb.metadata) == {"kernelspec", "language_info"}
    assert "Install from https://github.com/owner/sample at 0.3.0." in nb.cells[0].source
    assert nb.cells[1].metadata.tags == ["hide-input"]


def test_ids_follow_content_only(root: Path) -> None:
    path = root / "notebooks" / "second.md"
    same = "\n\n```{code-cell} ipython3\n1\n```\n" * 2
    path.write_text(path.read_text() + same)
    before = [cell.id for cell in read_notebook(path, SITE).cells]
    assert before == [cell.id for cell in read_notebook(path, SITE).cells]
    assert len(set(before)) == len(before)
    assert before[-1] == f"{before[-2]}-2"
    path.write_text(path.read_text().replace('print("stored")', 'print("other")'))
    after = [cell.id for cell in read_notebook(path, SITE).cells]
    assert [a != b for a, b in zip(before, after, strict=True)] == [i == 1 for i in range(len(before))]
