"""What every notebook takes from `gantext.book`: the palette, look, seed, records, and tables of plain text."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter

from gantext import book


@pytest.fixture
def settings() -> Iterator[None]:
    """Threads, seed and style as they were before."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with mpl.rc_context():
        yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


def cells(html: str, tag: str) -> list[list[str]]:
    rows = BeautifulSoup(html, "html.parser").select("tr")
    return [[cell.text for cell in row.select(tag)] for row in rows if row.select(tag)]


def test_colours_are_those_of_the_style(settings: None) -> None:
    mpl.rcdefaults()
    book.set_up(threads=None)
    names = (book.BLUE, book.ORANGE, book.GREEN, book.RED, book.GREY)
    assert [f"#{colour.lstrip('#')}" for colour in mpl.rcParams["axes.prop_cycle"].by_key()["color"]] == [*names]
    assert mpl.rcParams["savefig.facecolor"] == "white" and mpl.rcParams["font.size"] == 10.5


def test_a_notebook_is_set_up_by_one_line(settings: None) -> None:
    torch.set_num_threads(2)
    book.set_up(threads=None)
    first = torch.randn(3)
    assert torch.get_num_threads() == 2
    book.set_up()
    assert torch.get_num_threads() == 1 and torch.equal(torch.randn(3), first)
    torch.manual_seed(0)
    assert torch.equal(torch.randn(3), first)
    book.set_up(seed=1)
    assert not torch.equal(torch.randn(3), first)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"seed": -1}, ValueError, r"^set_up: seed is -1, must be an int >= 0\."),
        ({"seed": 0.5}, TypeError, r"^set_up: seed is 0\.5 \(float\), must be"),
        ({"threads": 0}, ValueError, r"^set_up: threads is 0, must be an int >= 1\."),
    ],
)
def test_a_bad_set_up_changes_nothing(settings: None, wrong: dict[str, Any], error: type[Exception], says: str) -> None:
    before = torch.get_num_threads(), torch.get_rng_state(), dict(mpl.rcParams)
    with pytest.raises(error, match=says):
        book.set_up(**wrong)
    assert torch.get_num_threads() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert dict(mpl.rcParams) == before[2]


RESULT = "benchmarks/results/a.json"


def put(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository's files at edition v2, elsewhere."""
    put(tmp_path / "origin" / "v2" / RESULT, '{"from": "address"}')
    return tmp_path / "origin" / "v2"


@pytest.mark.parametrize("where", ["notebooks", ".", "notebooks without a copy"])
def test_a_record_is_that_of_the_copy_or_else_of_the_address(
    where: str, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    if not where.endswith("copy"):
        put(copy / RESULT, '{"from": "the copy: ä"}')
    (copy / where).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(copy / where)
    expected = "address" if where.endswith("copy") else "the copy: ä"
    assert book.record("a", origin.as_uri()) == {"from": expected}
    assert Path("gantext-v2").exists() == where.endswith("copy")


def test_what_is_fetched_is_asked_for_once_an_edition(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colab").mkdir()
    monkeypatch.chdir(tmp_path / "colab")
    file = book.fetched(RESULT, origin.as_uri())
    assert file == Path("gantext-v2", RESULT) and [*file.parent.iterdir()] == [file]
    put(origin / RESULT, '{"from": "address, later"}')
    put(origin.parent / "v3" / RESULT, '{"from": "the next edition"}')
    assert book.record("a", origin.as_uri()) == {"from": "address"}
    assert book.record("a", (origin.parent / "v3").as_uri()) == {"from": "the next edition"}
    script = put(origin / "benchmarks" / "b.py", "")
    beside = book.fetched("benchmarks/b.py", origin.as_uri())
    assert beside.parent == file.parent.parent and script.name == beside.name  # programs find each other


@pytest.mark.parametrize("fault", [OSError("no network"), IncompleteRead(b"{", 9), TimeoutError("slow")])
def test_without_a_network_it_says_which_file_to_put_where(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer:
        def __init__(self, *given: Any, **more: Any) -> None: ...
        def __enter__(self) -> Answer:
            return self

        def __exit__(self, *given: object) -> None: ...
        def read(self) -> bytes:
            raise fault

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("urllib.request.urlopen", Answer)
    with pytest.raises(FileNotFoundError, match=r"^fetched: .* cannot be had ") as caught:
        book.record("a", "https://example.org/raw/v2")
    place = tmp_path / "gantext-v2" / RESULT
    assert f"at {place}. " in str(caught.value) and f"https://example.org/raw/v2/{RESULT} there" in str(caught.value)
    assert [*tmp_path.iterdir()] == []
    put(place, "{}")
    assert book.record("a", "https://example.org/raw/v2") == {}


def test_a_record_cut_short_says_which_file_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = put(tmp_path / RESULT, json.dumps({"runs": [1, 2]})[:-3])
    with pytest.raises(ValueError, match=r"^record: .* is damaged ") as caught:
        book.record("a", "https://example.org/raw/v2")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "address", "error", "says"),
    [
        ("/etc/passwd", "https://example.org/v2", ValueError, "path is '/etc/passwd', must lie in the repository"),
        ("a/../../b", "https://example.org/v2", ValueError, r"path is 'a/\.\./\.\./b', must lie"),
        (Path("a"), "https://example.org/v2", TypeError, "path is .*Path"),
        ("a", None, TypeError, "address is None"),
        ("a", "{{ repository }}/raw/v{{ edition }}", FileNotFoundError, "a cannot be had .unknown url type"),
    ],
)
def test_paths_and_addresses_that_are_none(
    path: Any, address: Any, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^fetched: {says}"):
        book.fetched(path, address)


def test_nothing_heavy_is_imported_for_colours_and_tables() -> None:
    code = (
        "import sys; from gantext.book import BLUE, claims, table; table(['a'], [['b']]);"
        "print(*sorted({'torch', 'numpy', 'matplotlib', 'IPython'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_cells_are_text_and_nothing_else() -> None:
    odd = "<script>&amp; \"x\" 'y'</script>"
    html = book.table([odd, "n"], [[odd, 3], ("–", np.float64(0.5))], odd)
    assert cells(html, "th") == [[odd, "n"]] and cells(html, "td") == [[odd, "3"], ["–", "0.5"]]
    page = BeautifulSoup(html, "html.parser")
    assert page.select("script") == [] and [caption.text for caption in page.select("caption")] == [odd]
    assert BeautifulSoup(book.table(["a"], [["b"]]), "html.parser").select("caption") == []


def test_a_spread_stays_with_its_sign() -> None:
    assert cells(book.table(["error"], [["1 ± 2, 3 ± 4"], ["± 5"]]), "td") == [["1 ±\xa02, 3 ±\xa04"], ["±\xa05"]]
    assert cells(book.table(["± 95 %"], [["10 % of 5 %"]]), "th") == [["±\xa095\xa0%"]]


def test_a_number_below_zero_has_a_minus_sign() -> None:
    row = ["-0.10 ± 0.15", "0.30; -.27 (-3)", "GAN-2, 1e-05, 3-5, -inf, - 1"]
    told = ["−0.10 ±\xa00.15", "0.30; −.27 (−3)", "GAN-2, 1e-05, 3-5, -inf, - 1"]
    assert cells(book.table([*"abc"], [row]), "td") == [told]


def test_wide_tables_are_cards() -> None:
    kind = lambda html: BeautifulSoup(html, "html.parser").select("table")[0]["class"]
    assert kind(book.table("abcd".split() * 4, [range(4)])) == ["table"]
    assert kind(book.table([*"abcde"], [range(5)])) == ["table", "cards"]
    assert kind(book.claims([range(5)])) == ["table", "claims"]


def test_trainings_are_drawn_and_told(settings: None) -> None:
    grey = io.BytesIO()
    plt.imsave(grey, np.zeros((28, 28)), cmap="gray", format="png")
    scores = {"frechet, seen": 30.04, "frechet, held out": 50.06, "precision": 0.75, "recall": 0.5}
    run = {"game": "hinge", "steps": 3000, "scores": scores, "digits": {**scores, "frechet, held out": 24.0}}
    picture = base64.b64encode(grey.getvalue()).decode()
    html = book.trained([run | {"pictures": {name: picture}} for name in "ab"])
    fig = plt.gcf()
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    points = min(float(ax.title.get_fontsize()) for ax in fig.axes)
    assert points * 343 / (72 * fig.get_figwidth()) > 8.5  # pixels on a phone
    plt.close("all")
    mine = ["hinge", "3,000", "30", "50.1", "0.75", "0.5"]
    assert cells(html, "td") == [mine, mine, ["training digits", "–", "0", "24", "0.75", "0.5"]]


def test_claims_have_one_head_and_say_which_column_is_longer() -> None:
    html = book.claims(
        [("short", "1", "a long measurement", "CPU", "holds"), ("a long claim", "–", "not run", "–", "–")]
    )
    assert cells(html, "th") == [["claim", "source's number", "measured here", "device", "verdict"]]
    assert cells(html, "td")[0] == ["short", "1", "a long measurement", "CPU", "holds"]
    rows = BeautifulSoup(html, "html.parser").select("tbody tr")
    assert [row.get("class") for row in rows] == [None, ["long-claim"]]


def test_html_is_shown_by_notebooks_and_may_be_joined() -> None:
    html = book.table(["a"], [["b"]]) + "<p>below</p>" + book.table(["c"], [["d"]])
    shown, _ = DisplayFormatter().format(html)
    assert shown == {"text/plain": "<HTML for a notebook>", "text/html": str(html)}
    assert html.count("<table") == 2 and html.count("<p>below</p>") == 1


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda: book.table(["a", "b"], [[1, 2], [3]]),
            ValueError,
            r"^table: rows\[1\] has 1 cells, must have 2: a, b\. ",
        ),
        (
            lambda: book.claims([("a", "b", "c", "d")]),
            ValueError,
            r"^claims: rows\[0\] has 4 cells, must have 5: claim, ",
        ),
        (lambda: book.table(["a"], []), ValueError, r"^table: rows is empty, must have a row\. "),
        (
            lambda: book.table("ab", [[1, 2]]),
            TypeError,
            r"^table: head is 'ab', must be a sequence of cells\. Write \['ab'\]",
        ),
        (lambda: book.table(["a", "b"], ["xy"]), TypeError, r"^table: rows\[0\] is 'xy', must be"),
        (lambda: book.table(["a"], [{"a": 1}]), TypeError, r"^table: rows\[0\] is \{'a': 1\}, must be"),
        (lambda: book.table(["a"], [1]), TypeError, r"^table: rows\[0\] is 1, must be"),  # pyright: ignore[reportArgumentType]  # what is refused
    ],
)
def test_rows_of_another_length_or_kind_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()
