"""What the notebooks of the book share: the look of figures, seeds, stored records, and tables of results in HTML.

`BLUE`, `ORANGE`, `GREEN` and `RED` are of Okabe and Ito's palette (*Color Universal Design*, 2008), which colour-blind
readers tell apart; `GREY` is for what needs no colour. The lines of a figure take them in this order.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

from gantext import __version__

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "RED",
    "Html",
    "claims",
    "fetched",
    "record",
    "set_up",
    "table",
    "trained",
]

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
_HYPHEN = re.compile(r"(?<![^\s(])-(?=\.?\d)")  # before a number, at the start of a word
CLAIM = ("claim", "source's number", "measured here", "device", "verdict")


class Html(str):
    """HTML that a notebook shows as such; what is added behind it stays HTML: `table(...) + "<p>Eight seeds.</p>"`."""

    def __add__(self, more: str) -> Html:
        return Html(f"{self}{more}")

    def __repr__(self) -> str:
        return "<HTML for a notebook>"

    def _repr_html_(self) -> str:
        return str(self)


def set_up(*, seed: int = 0, threads: int | None = 1) -> None:
    """Give Matplotlib the book's look (the style `gantext.book`), seed PyTorch, and limit its threads.

    Args:
        seed: of PyTorch's global generators, an int >= 0. The notebooks ask no other global generator.
        threads: of an operation on the CPU, >= 1; one, because the networks of the book are so small that sharing the
            work costs more than the work. None leaves them as they are.
    """
    import torch
    from matplotlib import style

    from gantext._checks import check_count

    seed = check_count("set_up", "seed", seed, 0)
    if threads is not None:
        torch.set_num_threads(check_count("set_up", "threads", threads))
    style.use("gantext.book")
    torch.manual_seed(seed)


def fetched(path: str, address: str) -> Path:
    """A file of the book's repository: of the copy in which the notebook lies, of the site's wheel, else a fetched one.

    Args:
        path: in the repository, with "/" between its parts: "benchmarks/compare_expm.py".
        address: of the repository's files at the notebook's edition, ending in that edition.
    Returns:
        Path of the file, below the working directory or its parent if one of them is the copy; else in the installed
        package, if that is the site's wheel of this edition, which has what the notebooks ask for; else below a folder
        `gantext-EDITION` of the working directory, where it is kept whole and asked for once.
    Raises:
        FileNotFoundError: it is in no copy and cannot be fetched; says which file to put where.
        TypeError, ValueError: no texts, a path that leads out of the repository.

    >>> fetched("benchmarks/compare_expm.py", "https://example.org/raw/v0.1.0").name  # in a copy
    'compare_expm.py'
    """
    from gantext._checks import check_type

    check_type("fetched", "path", path, str, 'Write "benchmarks/results/gans.json".')
    check_type("fetched", "address", address, str, "Write that of the repository.")
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"fetched: path is {path!r}, must lie in the repository. Begin with one of its folders.")
    edition = address.rsplit("/", 1)[-1]
    kept = Path(f"gantext-{edition}", path)  # files of two editions are never mixed
    carried = [Path(__file__).with_name("_edition") / path] if edition == f"v{__version__}" else []
    for file in (Path("..", path), Path(path), *carried, kept):
        if file.is_file():
            return file
    from http.client import HTTPException
    from urllib.request import urlopen

    from gantext._files import whole

    try:
        with urlopen(f"{address}/{path}", timeout=30) as answer:
            content = answer.read()
    except (OSError, HTTPException, ValueError) as error:  # no network, no such file, cut short, no address at all
        remedy = f"Try again, or put the file {address}/{path} there."
        raise FileNotFoundError(
            f"fetched: {path} cannot be had ({error}), must be at {kept.absolute()}. {remedy}"
        ) from error
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole(kept) as draft:
        draft.write_bytes(content)
    return kept


def record(name: str, address: str) -> dict[str, Any]:
    """What a benchmark has stored, `benchmarks/results/NAME.json`, `fetched` from this address if it is not at hand.

    Raises:
        FileNotFoundError: as `fetched`.
        ValueError: it is no JSON; says which file to delete.

    >>> sorted(record("gans", "https://example.org/raw/v0.1.0")["tables"][0])  # in a copy
    ['head', 'rows', 'title']
    """
    file = fetched(f"benchmarks/results/{name}.json", address)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        reason = f"record: {file.absolute()} is damaged ({error}), must be JSON. Delete it: it is fetched again."
        raise ValueError(reason) from error


def table(head: Iterable[str], rows: Iterable[Iterable[object]], title: str = "") -> Html:
    """A table of results. On a phone its rows become cards if it has more than four columns, or is wider than the page.

    Args:
        head: what stands above each column, plain text.
        rows: as many cells each as the head has; `str` of each is shown, as plain text, a number below zero with a
            minus sign. A line may be broken before a ±, but not behind it, and not before a %.
        title: what stands above the table; none if empty.

    A table as the records of `benchmarks/results` hold it is shown by
    `table(**record("gans", address)["tables"][0])`.

    >>> "<td>8</td><td>1 ±&nbsp;2</td>" in table(["seeds", "error"], [[8, "1 ± 2"]])
    True
    """
    return _table("table", head, rows, title)


def claims(rows: Iterable[Iterable[object]]) -> Html:
    """What sources claim beside what was measured: rows of claim, source's number, measured here, device, verdict.

    >>> "<th>verdict</th>" in claims([["it is faster", "2 times", "1.1 times", "CPU", "fails"]])
    True
    """
    return _table("claims", CLAIM, rows, "")


def trained(runs: Sequence[Mapping[str, Any]]) -> Html:
    """What a chapter's experiment at SCALE = "gpu" made: its pictures, drawn with Matplotlib, and its scores, a table.

    Args:
        runs: those of a chapter in the record `sizes`, `record("sizes", address)["chapters"]["o-gan"]`.

    The last row has the digits that were trained on in the place of fakes: no generator need be nearer to the others.
    """
    import matplotlib.pyplot as plt

    pictures = [item for run in runs for item in run["pictures"].items()]
    columns = min(2, len(pictures))
    fig, axes = plt.subplots(-(-len(pictures) // columns), columns, squeeze=False, layout="constrained")
    titles = [fill(title, 60 // columns) for title, _ in pictures]
    lines = 1 + max(title.count("\n") for title in titles)
    fig.set_size_inches(5.4, (2.8 / columns + 0.2 * lines) * len(axes))  # letters of 9 pixels on a phone
    for ax, title, (_, picture) in zip(axes.flat, titles, pictures, strict=False):
        ax.imshow(plt.imread(BytesIO(b64decode(picture))), cmap="gray_r")  # ink on the page, by day and by night
        ax.set_title(title)
    for ax in axes.flat:
        ax.axis("off")
    plt.show()
    scores = ("frechet, seen", "frechet, held out", "precision", "recall")
    head = ["game", "steps", "Fréchet distance to training digits", "to held-out digits", "precision", "recall"]
    rows = [[run["game"], f"{run['steps']:,}", *(f"{run['scores'][name]:.3g}" for name in scores)] for run in runs]
    best = runs[0]["digits"]
    return table(head, [*rows, ["training digits", "–", "0", *(f"{best[name]:.3g}" for name in scores[1:])]])


def _table(name: str, head: Iterable[str], rows: Iterable[Iterable[object]], title: str) -> Html:
    top, *lines = [_cells(name, "head", head), *(_cells(name, f"rows[{k}]", row) for k, row in enumerate(rows))]
    if not lines:
        raise ValueError(f"{name}: rows is empty, must have a row. Leave out a table of nothing.")
    for k, cells in enumerate(lines):
        if len(cells) != len(top):
            rule = f"must have {len(top)}: {', '.join(top)}"
            raise ValueError(f'{name}: rows[{k}] has {len(cells)} cells, {rule}. Write "–" where there is nothing.')
    kind = " claims" if name == "claims" else " cards" if len(top) > 4 else ""
    body = ""
    for cells in lines:  # which of the two columns of a claim is longer, the style sheet cannot know
        longer = ' class="long-claim"' if name == "claims" and len(cells[0]) > len(cells[2]) else ""
        body += f"<tr{longer}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    heads = "".join(f"<th>{cell}</th>" for cell in top)
    above = f"<caption>{escape(title, quote=False)}</caption>" if title else ""
    return Html(f'<table class="table{kind}">{above}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>')


def _cells(name: str, argument: str, row: Iterable[object]) -> list[str]:
    if isinstance(row, str | bytes | dict | set) or not isinstance(row, Iterable):
        raise TypeError(f"{name}: {argument} is {row!r}, must be a sequence of cells. Write [{row!r}].")
    texts = [escape(_HYPHEN.sub("\N{MINUS SIGN}", str(cell)), quote=False) for cell in row]
    return [text.replace("± ", "±&nbsp;").replace(" %", "&nbsp;%") for text in texts]
