"""The interactive figures compute by themselves: their functions and read-outs against the package, SciPy and SymPy.

Each chapter's page is opened once. Functions are compared to the digits of float64; read-outs, moved to every position
of a slider, or to a grid where there are several, to half a unit of the last digit that they show.
"""

from __future__ import annotations

import ast
import base64
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial
import sympy as sp
import torch
from bs4 import BeautifulSoup
from gantext_book import widgets
from gantext_book.source import ROOT, chapters
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import read

from gantext.gan.cascades import cascade_ref
from gantext.gan.distances import gan_qp_binary, gan_qp_unary, jensen_shannon, wasserstein_1d, wgan_div_1d
from gantext.seq2seq.decoding import largest, mean, squares
from gantext.seq2seq.prefixlm import mask

CHAPTERS = [path.stem for path in chapters(ROOT)]
every_chapter = pytest.mark.parametrize("name", CHAPTERS)
FURTHER = {
    "conditional-layer-norm-way": "conditional-layer-norm",
    "reading-comprehension-vote": "reading-comprehension",
}
FIGURES = [*((name, name) for name in CHAPTERS), *((chapter, name) for name, chapter in FURTHER.items())]
every_figure = pytest.mark.parametrize(("chapter", "name"), FIGURES)
Grid = Mapping[str, Iterable[Any]]

# Puts the controls of a figure into each of the given places, and reads them back with the texts asked for.
VISIT = """([name, grid, ids]) => grid.map(place => {
  const part = id => document.getElementById(`${name}-${id}`), found = {};
  for (const [id, value] of Object.entries(place)) {
    const control = part(id);
    if (control.matches("fieldset")) control.querySelector(`[value="${value}"]`).checked = true;
    else if (control.matches("[type=checkbox]")) control.checked = value;
    else control.value = value;
  }
  part(Object.keys(place)[0]).dispatchEvent(new Event("input", {bubbles: true}));
  for (const id of Object.keys(place)) if (part(id).matches("[type=range]")) found[id] = +part(id).value;
  for (const id of ids) {
    const element = part(id);
    found[id] = element.matches("path") ? element.getAttribute("d") : element.matches("circle")
      ? [+element.getAttribute("cx"), +element.getAttribute("cy")] : element.matches("g, .html, tbody")
      ? element.innerHTML : element.textContent;
  }
  return {...place, ...found};
})"""
CALL = """([name, path, args]) => {
  const f = path.split(".").reduce((o, key) => o[key], document.getElementById(`${name}-figure`).live);
  return args.map(a => f(...a));
}"""
UNFOLD = "document.querySelectorAll('details.folded').forEach(fold => fold.open = true)"
POSITIONS = """id => {
  const {min, max, step} = document.getElementById(id);
  return Array.from({length: Math.round((max - min) / step) + 1}, (_, k) => +min + k * step);
}"""


class Figure:
    """The figure of an open page."""

    def __init__(self, page: Any, name: str) -> None:
        self.page, self.name = page, name

    def visit(self, grid: Grid | list[dict[str, Any]], *ids: str) -> list[dict[str, Any]]:
        """What is read at every place of the grid, and where the sliders then stand."""
        if not isinstance(grid, list):
            grid = [dict(zip(grid, place, strict=True)) for place in itertools.product(*grid.values())]
        return self.page.evaluate(VISIT, [self.name, grid, list(ids)])

    def call(self, function: str, *arguments: Sequence[Any]) -> Any:
        """The results of one of its functions, for each tuple of arguments."""
        return self.page.evaluate(CALL, [self.name, function, arguments])

    def positions(self, slider: str, every: int = 1) -> list[float]:
        """The places of a slider; with `every`, some of them, the ends among them."""
        places = self.page.evaluate(POSITIONS, f"{self.name}-{slider}")
        return [*places[:-1:every], places[-1]]


@pytest.fixture(scope="module")
def figure(site: Path, browser: Any) -> Iterator[Callable[[str], Figure]]:
    """Opens the page of a chapter, once."""
    pages: dict[str, Any] = {}

    def opened(name: str) -> Figure:
        if name not in pages:
            pages[name] = browser.new_page(viewport={"width": 1280, "height": 800})
            pages[name].goto((site / "notebooks" / f"{name}.html").as_uri())
        return Figure(pages[name], name)

    yield opened
    for page in pages.values():
        page.close()


def shows(text: str, value: float, slack: float = 0.0) -> bool:
    """Whether a number in decimals is the value, rounded; `slack` in units of its last digit, for a computed value."""
    digits = len(text.partition(".")[2])
    return abs(float(text.replace("−", "-")) - value) <= (0.5 + 1e-6 + slack) * 10**-digits


def points(path: str) -> np.ndarray:
    """The points of a path of straight lines."""
    return np.array([[float(x) for x in pair.split()] for pair in re.findall(r"[ML]([^MLZ]+)", path)])


def rows_of(table: str) -> list[tuple[str, list[str]]]:
    """Of each row of a table: its class, and its cells' texts."""
    rows = re.findall(r'<tr(?: class="(\w+)")?>(.*?)</tr>', table)
    return [(kind, [unescape(text) for text in re.findall(r"<td>(.*?)</td>", cells)]) for kind, cells in rows]


def lies_on(dot: Sequence[float], path: str, within: float) -> bool:
    """Whether a dot lies on a curve, in units of the drawing."""
    x, y = points(path).T
    return bool(abs(np.interp(dot[0], x, y) - dot[1]) < within)


# --- One figure after the other ------------------------------------------------------------------------------------


def test_det_exp(figure: Callable[[str], Figure]) -> None:
    shown = figure("det-exp")
    winds = shown.page.evaluate("[...document.querySelectorAll('#det-exp-wind option')].map(o => o.value)")
    times = shown.positions("time")
    found = shown.visit(
        {"wind": winds, "time": times}, "area", "growth", "shape", "mark", "field", "dot", "curve", "time-out"
    )
    assert len(found) == 5 * 101
    corners = np.array([[0.1, 0.1], [1.1, 0.1], [1.1, 1.1], [0.1, 1.1]])
    for place in found:
        A, t = np.array([*map(float, place["wind"].split(","))]).reshape(2, 2), place["time"]
        image = scipy.linalg.expm(t * A)
        growth = np.exp(t * np.trace(A))
        assert np.isclose(np.linalg.det(image), growth, rtol=1e-12)
        assert shows(place["area"], np.linalg.det(image)) and shows(place["growth"], growth)
        assert shows(place["time-out"], t)
        drawn = points(place["shape"])
        np.testing.assert_allclose(drawn[::12] / [40, -40], corners @ image.T, atol=2e-4)
        np.testing.assert_allclose(points(place["mark"])[0] / [40, -40], image @ [0.4, 0.3], atol=2e-4)
        assert lies_on(place["dot"], place["curve"], 0.3)
    for A, place in zip(winds, found[:: len(times)], strict=True):
        strokes = [points(f"M{stroke}") for stroke in place["field"].split("M")[1:]]
        arrows = np.array([stroke for stroke in strokes if len(stroke) == 2]) / [40, -40]
        winds_there = arrows[:, 0] @ np.array([*map(float, A.split(","))]).reshape(2, 2).T
        assert len(arrows) == 35
        np.testing.assert_allclose(arrows[:, 1] - arrows[:, 0], 0.18 * winds_there, atol=5e-4)
    grid = [([*map(float, A.split(","))], t) for A in winds for t in times]
    exact = [scipy.linalg.expm(t * np.reshape(A, (2, 2))) for A, t in grid]
    np.testing.assert_allclose(shown.call("expm", *grid), [e.ravel() for e in exact], rtol=1e-12, atol=1e-13)
    triangle, pentagon = [[0, 0], [3, 0], [0, 2]], [[0, 0], [2, 0], [3, 1], [1, 3], [0, 2]]
    areas = [scipy.spatial.ConvexHull(polygon).volume for polygon in (triangle, pentagon)]  # the area, in a plane
    found_areas = shown.call("area", [triangle], [pentagon], [triangle[::-1]])
    np.testing.assert_allclose(found_areas, [*areas, -areas[0]], rtol=1e-12)


def test_wasserstein(figure: Callable[[str], Figure]) -> None:
    shown = figure("wasserstein")
    s, a, weight = sp.symbols("s a lambda", positive=True)
    gain = s * a - weight * (s - 1) ** 2  # of a critic of slope s on the way between the two points
    (best,) = sp.solve(sp.diff(gain, s), s)
    exact = sp.lambdify((a, weight), (gain.subs(s, best), best))
    names = ["js", "w", "gp"]
    parts = [f"{part}-{dot}{law}" for part in "vs" for dot in ("", "dot-") for law in names]
    grid = {"lambda": ["10", "2", "1"], "a": shown.positions("a")}
    found = shown.visit(grid, *names, "slope", "a-out", "fake", "pull", *parts)
    assert len(found) == 3 * 201
    for place in found:
        at, factor = place["a"], float(place["lambda"])
        value, steep = exact(at, factor)
        fake = torch.tensor([1.0, 0.0] if at == 0 else [0.0, 1.0])
        js = jensen_shannon(torch.tensor([1.0, 0.0]), fake).item()
        w = wasserstein_1d(torch.tensor([0.0]).double(), torch.tensor([at]).double()).item()
        expected = {"js": js, "w": w, "gp": value, "slope": steep, "a-out": at}
        for key, number in expected.items():
            assert shows(place[key], number), (key, place)
        for part, law in itertools.product("vs", names) if at >= 0.04 else ():
            assert lies_on(place[f"{part}-dot-{law}"], place[f"{part}-{law}"], 0.05), (part, law, place)
        arms = re.findall(r"[\d.-]+", place["pull"])
        assert np.isclose(float(arms[0]) - float(arms[2]), 30 * steep)  # the arrow is as long as the pull is strong
    pairs = [(at, factor) for at in np.linspace(0.01, 4, 40).tolist() for factor in (10, 2, 1)]
    np.testing.assert_allclose(shown.call("value.gp", *pairs), [exact(*pair)[0] for pair in pairs], rtol=1e-12)
    np.testing.assert_allclose(shown.call("slope.gp", *pairs), [exact(*pair)[1] for pair in pairs], rtol=1e-12)
    places = [(at,) for at in (0.01, 1, 4)]
    assert shown.call("slope.js", *places) == [0, 0, 0] and shown.call("slope.w", *places) == [1, 1, 1]


def best_slope(a: float, k: float, power: float) -> tuple[float, float]:
    """The slope s that maximises a s - k s^power, and the maximum, by search."""
    loss = lambda log: k * np.exp(power * log) - a * np.exp(log)
    found = scipy.optimize.minimize_scalar(loss, bounds=(-12, 6), method="bounded", options={"xatol": 1e-12})
    return float(np.exp(found.x)), float(-found.fun)


def test_w_divergence(figure: Callable[[str], Figure]) -> None:
    shown = figure("w-divergence")
    factors = ["0.5", "1", "2", "10"]
    parts = ("slope", "value", "bells", "gap", "penalty", "power-out", "a-out", "dot", "div", "gp")
    some = [-0.7, 0, 0.69, 1.1, 1.61, 2.4, 3]
    found = shown.visit({"k": factors, "power": shown.positions("power"), "a": [2.0]}, *parts)
    found += shown.visit({"k": factors, "power": some, "a": shown.positions("a")}, *parts)
    assert len(found) == 4 * (371 + len(some) * 100) and len(some) == 7
    powers = set()
    for place in found:
        a, k, power = place["a"], float(place["k"]), float(place["power-out"])
        powers.add(place["power-out"])
        assert abs(np.log(power - 1) - place["power"]) <= np.log((power - 0.95) / (power - 1.05)) and shows(
            place["a-out"], a
        )
        slope, value = best_slope(a, k, power)
        assert shows(place["slope"], slope, 0.02) and shows(place["value"], value, 0.02), place
        assert place["dot"][1] == 2 or lies_on(place["dot"], place["div"], 0.8)
        bells, gap, penalty = (float(place[key]) for key in ("bells", "gap", "penalty"))
        assert abs(gap - bells - penalty) < 1.51e-4 and abs(gap - power * penalty) < 1e-4 * (1 + power)
    assert {"1.5", "2.0", "3.0", "4.0", "6.0", "12.0"} <= powers  # what the text names
    line = points(found[0]["gp"])
    assert np.isclose(np.diff(line[:, 1])[0] / -68, 4 / 20)  # slope 1 + a / (2 lambda) of WGAN-GP with lambda 10
    assert np.isclose(line[0, 1], 140 - 68)
    rng = np.random.default_rng(0)
    for place in [found[i] for i in rng.choice(len(found), 250, replace=False)]:
        a, k, power = place["a"], float(place["k"]), float(place["power-out"])
        x = torch.linspace(-7, a + 7, 20_001, dtype=torch.float64)
        p, q = (torch.exp(-((x - m) ** 2) / 2) / (2 * torch.pi) ** 0.5 for m in (0, a))
        exact = wgan_div_1d(p, q, (p + q) / 2, x, k=k, power=power).value.item()
        for key, number in {"bells": exact, "gap": exact * power / (power - 1), "penalty": exact / (power - 1)}.items():
            assert abs(float(place[key]) - number) < 5.1e-5 + 4e-5 * number, (key, number, place)
    pairs = [(a, k, power) for a in (0.1, 1, 4) for k in (0.5, 2, 10) for power in (1.5, 2, 6, 20)]
    exact_pairs = [best_slope(*pair) for pair in pairs]
    np.testing.assert_allclose(shown.call("slope", *pairs), [slope for slope, _ in exact_pairs], rtol=1e-6)
    np.testing.assert_allclose(shown.call("value", *pairs), [value for _, value in exact_pairs], rtol=1e-9)


def test_gan_qp(figure: Callable[[str], Figure]) -> None:
    shown = figure("gan-qp")
    parts = ("value", "pairs", "rows", "wires", "points", "middle-out", "real-out", "fake-out")
    real, fake = shown.positions("real"), shown.positions("fake")
    found = shown.visit({"middle": shown.positions("middle", 24), "real": real, "fake": fake}, *parts)
    found += shown.visit({"middle": shown.positions("middle"), "real": real[::6], "fake": fake[::6]}, *parts)
    assert len(found) == 4 * 19 * 20 + 73 * 4 * 4
    for place in found:
        m, u, v = place["middle"], place["real"], place["fake"]
        x, p, q = (torch.tensor(law, dtype=torch.float64) for law in ([0, m, 4], [1 - u, u, 0], [v, 0, 1 - v]))
        d = (x[:, None] - x).abs()
        T = gan_qp_unary(p, q, d, 1.0).critic
        T = T - T[2]
        assert shows(place["value"], gan_qp_unary(p, q, d, 1.0).value.item())
        assert shows(place["pairs"], gan_qp_binary(p, q, d, 1.0).value.item())
        for key, number in {"middle-out": m, "real-out": u, "fake-out": v}.items():
            assert shows(place[key], number)
        drawn = 0
        for (kind, row), (i, j) in zip(rows_of(place["rows"]), [(0, 1), (0, 2), (1, 2)], strict=True):
            weight = ((p[i] * q[j] + p[j] * q[i]) / d[i, j]).item()
            current, steep = weight * (T[i] - T[j]).item(), ((T[i] - T[j]).abs() / d[i, j]).item()
            _, amount, ratio = row
            assert shows(amount.split()[0], abs(current))
            assert amount.split()[1:] == ([] if abs(current) < 5e-4 else ["→" if current > 0 else "←"])
            assert (ratio == "never drawn") == (weight == 0)
            if weight:
                drawn += 1
                broken = steep > 1 + 1e-9
                assert shows(ratio.removesuffix(" > 1"), steep)
                assert ratio.endswith(" > 1") == broken == (kind == "broken")
        assert place["wires"].count("<path") == drawn
        labels = re.findall(r">(?:T = )?(-?[\d.]+)</text>", place["points"])
        assert [shows(text, t) for text, t in zip(labels, T.tolist(), strict=True)] == [True] * 3
    laws = [
        {"x": [0, m, 4], "p": [1 - u, u, 0], "q": [v, 0, 1 - v]}
        for m in (0.2, 1, 3)
        for u in (0.1, 0.7)
        for v in (0, 0.4)
    ]
    for law, critic in zip(laws, shown.call("critic", *[[law] for law in laws]), strict=True):
        x, p, q = (torch.tensor(law[key], dtype=torch.float64) for key in "xpq")
        T = gan_qp_unary(p, q, (x[:, None] - x).abs(), 1.0).critic
        np.testing.assert_allclose(critic, T - T[2], rtol=1e-11, atol=1e-12)


def rejected(v: np.ndarray, heads: np.ndarray, orthogonal: bool) -> tuple[list[float], list[np.ndarray]]:
    """The scores of a cascade and what is left of v after each, by projections."""
    onto = lambda rows: np.linalg.pinv(rows, rcond=1e-6) @ rows if len(rows) else np.zeros((2, 2))
    scores, left = [], [v]
    for i, head in enumerate(heads):
        w = head - onto(heads[:i]) @ head if orthogonal else head
        scores.append(float(left[-1] @ w))
        left.append(v - onto(heads[: i + 1]) @ v if orthogonal else left[-1] - onto(head[None]) @ left[-1])
    return scores, left


def test_cascading_rejection(figure: Callable[[str], Figure]) -> None:
    shown = figure("cascading-rejection")
    sliders = ["v", "w1", "w2", "w3"]
    start = {"v": 70, "w1": 10, "w2": 55, "w3": 130, "steps": 3, "gs": False}
    places = [
        {**start, slider: angle, "gs": bool(angle % 2)} for slider in sliders for angle in shown.positions(slider)
    ]
    angles = np.random.default_rng(0).integers(-180, 181, size=(100, 4)).tolist()
    places += [
        {**dict(zip(sliders, angle, strict=True)), "steps": steps, "gs": gs}
        for angle in angles for steps in range(4) for gs in (False, True)
    ]  # fmt: skip
    found = shown.visit(places, "rows", "says", *(f"{slider}-out" for slider in sliders))
    assert len(found) == 4 * 361 + 100 * 4 * 2
    unit = lambda degrees: np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    for place in found:
        v, W, steps = unit(place["v"]), np.array([unit(place[slider]) for slider in sliders[1:]]), place["steps"]
        scores, left = rejected(v, W[:steps], place["gs"])
        kinds, rows = zip(*rows_of(place["rows"]), strict=True)
        assert [place[f"{slider}-out"].replace("−", "-") for slider in sliders] == [f"{place[s]}°" for s in sliders]
        assert "-" not in place["rows"] + "".join(place[f"{slider}-out"] for slider in sliders)
        if not steps:
            assert rows[0][:3] == ["–", "–", "1.000"] and shows(rows[0][3], v @ W[0])
            assert place["says"] == "Nothing is scored yet."
            continue
        assert len(rows) == steps
        for i, row in enumerate(rows):
            expected = [scores[i], np.linalg.norm(left[i + 1]), left[i + 1] @ W[0]]
            assert row[0] == str(i + 1) and all(map(shows, row[1:], expected)), (place, row, expected)
            assert (kinds[i] == "broken") == (abs(expected[2]) > 5e-4)
        size = re.search(r"length ([\d.]+) ", place["says"])
        assert size and shows(size[1], float(np.linalg.norm(left[-1])))
        assert ("is back" in place["says"]) == (steps > 1 and abs(left[-1] @ W[0]) > 5e-4)
    apart = [[a, b, c, d] for a, b, c, d in angles if min(abs((b - c) % 180), abs((c - d) % 180)) > 1]
    for orthogonal in (False, True):
        calls = [
            ([*unit(a)], [[*(k * unit(w))] for k, w in zip((2, 0.5, 3), rest, strict=True)], orthogonal)
            for a, *rest in apart
        ]
        js = [result["scores"] for result in shown.call("cascade", *calls)]
        package = [cascade_ref(torch.tensor([v]), torch.tensor(W), orthogonal)[0].tolist() for v, W, _ in calls]
        np.testing.assert_allclose(js, package, atol=1e-12)


def test_prefix_lm(figure: Callable[[str], Figure]) -> None:
    shown = figure("prefix-lm")
    masks = ["lm", "permuted", "bi", "prefix"]
    found = shown.visit({"mask": masks, "prefix": range(11), "row": range(1, 11)}, "says", "grid", "prefix-out")
    assert len(found) == 4 * 11 * 10
    words = ["Paris", "is", "in", "France", "[SEP]", "where", "[SEP]", "in", "France", "[SEP]"]
    order = np.array([5, 3, 8, 1, 10, 4, 7, 9, 2, 6]) - 1
    permuted = np.zeros((10, 10), dtype=bool)
    permuted[np.ix_(order, order)] = np.tri(10, dtype=bool)  # a triangle in the order in which the tokens are read
    for place in found:
        kind, s, row = place["mask"], place["prefix"], place["row"]
        length = {"lm": 0, "bi": 10, "prefix": s}.get(kind, 0)
        seen = permuted if kind == "permuted" else mask(length, 10).numpy()
        cells = re.findall(r'data-row="(\d+)"[^>]* class="(on|cell)( here)?"', place["grid"])
        assert [on == "on" for _, on, _ in cells] == seen.ravel().tolist()
        assert [bool(here) for *_, here in cells] == [int(i) == row - 1 for i, *_ in cells]
        assert place["prefix-out"] == (str(s) if kind == "prefix" else "–")
        who, count = 1 + np.flatnonzero(seen[row - 1]), int(seen[row - 1].sum())
        first = f"the first {count}" if who.tolist() == [*range(1, count + 1)] else ", ".join(map(str, who))
        who_says = "only itself" if count == 1 else "all of them" if count == 10 else first
        assert place["says"] == (
            f"Row {row}, “{words[row - 1]}”, sees {count} of 10 tokens: {who_says}. "
            f"The mask admits {seen.sum()} of 100 pairs"
            + ("; the tokens are read in the order 5, 3, 8, 1, 10, 4, 7, 9, 2, 6." if kind == "permuted" else ".")
        )


def test_prefix_lm_follows_the_pointer(figure: Callable[[str], Figure]) -> None:
    page = figure("prefix-lm").page
    page.locator("#prefix-lm-grid rect[data-row='2']").nth(4).hover()
    assert page.locator("#prefix-lm-row-out").text_content() == "3"


def test_conditional_layer_norm(figure: Callable[[str], Figure]) -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "sentiment.json").read_text(encoding="utf-8"))["late"]
    shown = figure("conditional-layer-norm")
    for wish, k in itertools.product(("bad", "good"), range(1, 5)):
        (place,) = shown.visit([{"wish": wish, "k": k}], "k-out")
        assert place["k-out"] == str(k)
        text, translated, verdict = shown.page.locator(
            "#conditional-layer-norm-figure blockquote:visible p"
        ).all_text_contents()
        assert text == record["samples"][wish][k - 1] and translated
        assert verdict == f"Wished: {wish}. Read as: {record['seen'][wish][k - 1]}."


def test_reading_comprehension(figure: Callable[[str], Figure]) -> None:
    """The votes of the figure, in its order, are the package's."""
    shown = figure("reading-comprehension")
    ways = [f"way-{k}" for k in range(3)]
    grid = {"q": shown.positions("q"), "n": shown.positions("n"), "p": shown.positions("p")}
    found = shown.visit(grid, *ways, "says", "q-out", "n-out", "p-out")
    assert len(found) == 20 * 9 * 20

    def votes(p: list[float]) -> list[float]:
        given, alive = torch.tensor(p, dtype=torch.float64).view(1, -1, 1, 1), torch.ones(1, len(p), dtype=torch.bool)
        return [vote(given, alive).item() for vote in (mean, squares, largest)]

    bar = re.compile(r'class="bar( won)?" style="--v: ([\d.e-]+)"><i></i><span>(float|int) ([\d.]+)<')
    for place in found:
        q, n, p = place["q"], int(place["n"]), place["p"]
        pairs = list(zip(votes([q] + [0.0] * n), votes([0.0] + [p] * n), strict=True))
        winners = []
        for way, pair in zip(ways, pairs, strict=True):
            bars = bar.findall(place[way])
            a, b = pair
            assert [name for _, _, name, _ in bars] == ["float", "int"]
            for (won, length, _, text), value, wins in zip(bars, pair, (a > b + 1e-9, b > a + 1e-9), strict=True):
                assert abs(float(length) - value) < 1e-12 and shows(text, value) and bool(won) == wins
            winners.append("either" if abs(a - b) < 1e-9 else "float" if a > b else "int")
        average, vote, most = winners
        assert place["says"].startswith(f"The article’s vote writes {vote}")
        rest = place["says"].removeprefix(f"The article’s vote writes {vote}").strip(",;. ")
        assert (
            rest
            == {
                (True, True): "as mean and maximum do",
                (True, False): f"as the mean does; the maximum writes {most}",
                (False, True): f"as the maximum does; the mean writes {average}",
                (False, False): f"the mean writes {average}, the maximum {most}",
            }[average == vote, most == vote]
        )
        assert shows(place["q-out"], q) and shows(place["p-out"], p) and place["n-out"] == str(n)


def test_o_gan(figure: Callable[[str], Figure]) -> None:
    record = json.loads((ROOT / "benchmarks" / "results" / "ogan.json").read_text(encoding="utf-8"))["walks"]
    shown = figure("o-gan")
    ways = ["pixels", "autoencoder", "plain GAN", "correlation, 0.5"]
    found = shown.visit({"pair": map(str, range(len(record))), "way": shown.positions("way")}, *"012345", "way-out")
    assert len(found) == len(record) * 17
    rect = re.compile(r'x="(\d)" y="(\d)" width="1.02" height="1.02" fill="rgb\((\d+),(\d+),(\d+)\)"')
    for place in found:
        walk, frame = record[int(place["pair"])], round(16 * place["way"])
        assert shows(place["way-out"], frame / 16)
        frames = [walk["ends"][0], *(walk["ways"][way][frame] for way in ways), walk["ends"][1]]
        for k, picture in enumerate(frames):
            drawn = np.full((8, 8), 255)
            for x, y, *rgb in rect.findall(place[str(k)]):
                assert len(set(rgb)) == 1
                drawn[int(y), int(x)] = int(rgb[0])
            ink = np.array([*bytes.fromhex("".join(f"0{digit}" for digit in picture))]).reshape(8, 8)
            np.testing.assert_array_equal(drawn, np.round(255 * (1 - ink / 15)))
    options = shown.page.locator("#o-gan-pair option").all_text_contents()
    assert options == [f"{walk['from']} to {walk['to']}" for walk in record]


def test_gan_comparison(figure: Callable[[str], Figure]) -> None:
    shown = figure("gan-comparison")
    text = (ROOT / "notebooks" / "gan-comparison.md").read_text(encoding="utf-8")
    size = re.search(r'^STEPS = .*"reduced": (\d+)', text, re.MULTILINE)
    formula = re.search(r"^FRAMES = (.*)$", text, re.MULTILINE)
    assert size and formula
    steps = [0, *eval(formula[1], {"STEPS": int(size[1])})]
    found = shown.visit({"step": range(15)}, "step-out", *map(str, range(6)))
    assert [place["step-out"] for place in found] == [str(step) for step in steps]
    films = shown.page.evaluate("document.getElementById('gan-comparison-figure').live.films")
    assert [len(film) for film in films] == [15] * 6
    for place in found:
        assert [place[str(game)] for game in range(6)] == [film[int(place["step"])] for film in films]
    dots = np.array([[int(x) for x in re.findall(r"\d+", film[-1].replace("h0", ""))] for film in films])
    assert dots.shape == (6, 300) and dots.min() >= 0 and dots.max() <= 200
    goals = re.findall(
        r"M(\d+) (\d+)h0", str(shown.page.locator("#gan-comparison-figure .goal").first.get_attribute("d"))
    )
    ring = (np.array(goals, dtype=float) - 100) * [6 / 200, -6 / 200]  # eight modes on a circle of radius 2
    np.testing.assert_allclose(np.hypot(*ring.T), 2, atol=0.03)


def test_gan_comparison_plays(figure: Callable[[str], Figure]) -> None:
    shown = figure("gan-comparison")
    shown.visit([{"step": 12}])
    shown.page.evaluate(UNFOLD)
    play = shown.page.locator("#gan-comparison-play")
    play.click()
    assert play.text_content() == "Stop"
    shown.page.wait_for_function(
        "document.getElementById('gan-comparison-play').textContent === 'Play'", timeout=20_000
    )
    assert shown.page.locator("#gan-comparison-step").input_value() == "14"
    play.click()
    assert shown.page.locator("#gan-comparison-step").input_value() == "0"
    play.click()
    assert play.text_content() == "Play"


def test_jose(figure: Callable[[str], Figure]) -> None:
    shown = figure("jose")
    box = shown.page.evaluate("document.getElementById('jose-figure').live.box")
    words, titles = box["words"].split(" "), box["titles"].split("\n")

    def unpacked(text: str) -> np.ndarray:
        found = np.frombuffer(base64.b64decode(text), np.uint8)
        rows = (np.stack([found >> 4, found & 15], 1) - 7.5).reshape(-1, box["p"])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    u, d = unpacked(box["u"]), unpacked(box["d"])
    assert (len(u), len(d)) == (len(words), len(titles)) == (270, 220)
    np.testing.assert_allclose(shown.call("rows", [box["u"]])[0], u, atol=1e-12)
    rng = np.random.default_rng(0)
    queries = [*words, *box["examples"], *(" ".join(rng.choice(words, 3, replace=False)) for _ in range(100))]
    found = shown.visit({"query": queries}, "near", "found", "note")
    documents = [box["topics"][k] + title for k, title in zip(box["of"], titles, strict=True)]
    for place in found:
        ids = [words.index(word) for word in place["query"].split()]
        q = u[ids].sum(0) / np.linalg.norm(u[ids].sum(0))
        for part, table, names, skipped in (("near", u, words, ids), ("found", d, documents, [])):
            cosines = table @ q
            cosines[skipped] = -2
            best = np.sort(cosines)[::-1][:5]
            rows = [unescape(li).split("  ", 1) for li in re.findall(r"<li [^>]*>(.*?)</li>", place[part])]
            assert len(rows) == 5 and place["note"] == ""
            for (text, name), cosine in zip(rows, best, strict=True):
                near = {names[k] for k in np.flatnonzero(abs(cosines - cosine) < 1e-9)}
                assert shows(text, cosine) and name in near, (place["query"], rows)
    (place,) = shown.visit([{"query": "fourier xyzzy"}], "near", "note")
    assert place["note"] == "Not among the 270 words of this box: xyzzy." and place["near"]
    (place,) = shown.visit([{"query": "?"}], "near", "found", "note")
    assert place["note"] == "Type a word of two letters or more." and not place["near"] + place["found"]
    shown.page.locator("#jose-examples button").nth(1).click()
    assert shown.page.locator("#jose-query").input_value() == box["examples"][1]


def test_the_way_between_two_wishes(figure: Callable[[str], Figure]) -> None:
    shown = figure("conditional-layer-norm")
    shown = Figure(shown.page, "conditional-layer-norm-way")
    data = shown.page.evaluate(f"document.getElementById('{shown.name}-figure').live.data")
    names, ways = data["names"], data["ways"]
    assert len(names) == 6 and len(ways) == 15 and all(len(way["bars"]) == 7 for way in ways.values())
    number = [str(k) for k in range(len(names))]
    ids = ("t-out", "first-says", "second-says", "text-0", "text-1")
    drawn = """name => ["first", "second"].map(id => document.getElementById(`${name}-${id}`)).map(
      rect => [+rect.getAttribute("x"), +rect.getAttribute("width")])"""
    for place in shown.visit({"from": number, "to": number, "t": range(7)}, *ids):
        a, b, t = int(place["from"]), int(place["to"]), place["t"]
        if a == b:  # at an end of any way, the wish is for that label alone
            low, high = (a, 1) if a == 0 else (0, a)
            way, k = ways[f"{low}-{high}"], 0 if a == 0 else 6
        else:
            low, high = sorted((a, b))
            way, k = ways[f"{low}-{high}"], t if a < b else 6 - t
        share = dict(zip((low, high), way["bars"][k], strict=True))
        assert float(place["t-out"]) == pytest.approx(t / 6, abs=0.0051)
        assert place["first-says"] == f"{names[a]} {share[a]} %"
        assert place["second-says"] == ("" if a == b else f"{names[b]} {share[b]} %")
        assert [place["text-0"], place["text-1"]] == way["text"][k]
    for a, b, t in ((0, 3, 0), (4, 1, 2), (5, 5, 6)):
        shown.visit([{"from": str(a), "to": str(b), "t": t}])
        place = shown.call("place", [a, b, t])[0]
        (x, first), (beyond, second) = shown.page.evaluate(drawn, shown.name)
        assert (x, first, beyond, second) == (0, 6 * place["shares"][0], 600 - 6 * place["shares"][1], second)
        assert second == 6 * place["shares"][1]


def test_the_vote_for_an_answer(figure: Callable[[str], Figure]) -> None:
    shown = Figure(figure("reading-comprehension").page, "reading-comprehension-vote")
    cases = shown.page.evaluate(f"document.getElementById('{shown.name}-figure').live.cases")
    assert len(cases) == 3 and any(case["answer"] != case["gold"] for case in cases)
    for number, case in enumerate(cases):
        n = len(case["steps"])
        grid = [{"step": t, "case": str(number)} for t in range(n + 1)]  # the slider first: a new question resets it
        for t, place in enumerate(shown.visit(grid, "said", "cards", "step-out")):
            assert (place["step"], place["step-out"]) == (t, f"{t} of {n}")
            said, cards = (BeautifulSoup(place[part], "html.parser") for part in ("said", "cards"))
            answer = " ".join(step["token"] for step in case["steps"][:t])
            vote = f", vote for the last token {case['steps'][t - 1]['vote']:.3f}" if t else ""
            right = case["answer"] == case["gold"]
            end = "" if t < n else " (right)" if right else f" (the documentation says: {case['gold']})"
            assert said.get_text() == f"answer: {answer}{vote}{end}"
            assert len(cards.select(".reader")) == len(case["texts"])
            for k, card in enumerate(cards.select(".reader")):
                assert card.select_one("pre") is not None
                assert card.select("pre")[0].get_text() == case["texts"][k]
                head, marks = card.select("p")[0].get_text(), [mark.get_text() for mark in card.select("mark")]
                if not case["alive"][k]:
                    assert head == "excluded: says [SEP]" and "out" in card["class"] and not marks
                    continue
                assert "out" not in card["class"]
                spans = case["spans"][k][:t]
                assert marks == ([case["texts"][k][spans[0][0] : spans[-1][1]]] if spans else [])
                if not t:
                    assert head == "votes"
                    continue
                token, p = case["steps"][t - 1]["token"], case["steps"][t - 1]["p"][k]
                assert head.startswith(f"gives “{token}” ") and shows(head.rsplit(" ", 1)[1], p)
                width = re.search(r"width: ([\d.]+)rem", str(card.select(".bar")[0]["style"]))
                assert width and shows(width[1], 4 * p)
    # Another question shows its finished answer first.
    shown.visit([{"step": 0, "case": "0"}])
    shown.page.evaluate(UNFOLD)
    shown.page.locator(f"#{shown.name}-case").select_option("1")
    n = len(cases[1]["steps"])
    assert shown.page.locator(f"#{shown.name}-step-out").text_content() == f"{n} of {n}"


# --- What they share -----------------------------------------------------------------------------------------------


@every_chapter
def test_the_file_says_what_the_script_computes(site: Path, browser: Any, name: str) -> None:
    """Numbers and texts that stand in the page before any script has run are those that the script then writes."""
    path = site / "notebooks" / f"{name}.html"
    before = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select(f"#{name}-figure")
    assert len(before) == 1
    written = {str(part["id"]): part.get_text() for part in before[0].select("output, strong[id], p[id], div.html[id]")}
    page = browser.new_page()
    page.goto(path.as_uri())
    shown = {key: page.locator(f"#{key}").text_content() for key in written}
    page.close()
    assert written and shown == written


# Values that the text names and a slider must reach.
NAMED = {
    "w-divergence": {"a": [1, 2]},
    "gan-qp": {"middle": [1, 2], "real": [0.5], "fake": [0.5]},
    "det-exp": {"time": [0, 1]},
    "wasserstein": {"a": [0, 1, 2]},
    "reading-comprehension": {"q": [0.7], "p": [0.2], "n": [4, 9]},
    "cascading-rejection": {"v": [0, 90], "w1": [0, 90]},
}


@pytest.mark.parametrize("name", NAMED)
def test_named_values_can_be_reached(figure: Callable[[str], Figure], name: str) -> None:
    for slider, values in NAMED[name].items():
        places = figure(name).positions(slider)
        assert all(min(abs(place - value) for place in places) < 1e-9 for value in values)


@every_chapter
def test_on_a_phone_each_slider_is_one_line_and_the_read_out_is_below(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto((site / "notebooks" / f"{name}.html").as_uri())
    page.evaluate(UNFOLD)
    lines = page.evaluate("""() => {
      const box = e => e.getBoundingClientRect(), middle = e => (box(e).top + box(e).bottom) / 2;
      return [...document.querySelectorAll(".live input[type=range]")].map(slider => {
        const label = document.querySelector(`label[for="${slider.id}"]`);
        const out = document.getElementById(`${slider.id}-out`);
        return [middle(slider) - middle(label), middle(slider) - middle(out), box(slider).width,
          box(slider).left - box(label).right, box(out).left - box(slider).right, innerWidth - box(out).right];
      });
    }""")
    order = page.evaluate("""() => {
      const box = part => document.querySelector(`.live ${part}`)?.getBoundingClientRect(), out = box(".read-out");
      const parts = document.querySelector(".live").querySelectorAll("svg, table, .way");
      const picture = [...parts].map(e => e.getBoundingClientRect().top);
      return out ? [out.top - box(".controls").bottom, Math.min(...picture, Infinity) - out.bottom] : [0, 0];
    }""")
    sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.close()
    for aside, beyond, width, *gaps in lines:
        assert abs(aside) < 6 and abs(beyond) < 6, "label, slider and value stand in one line"
        assert width >= 64 and min(gaps) >= 0
    assert lines or name == "jose"
    assert -1 <= order[0] < 30 and order[1] >= -1, "the read-out stands between the sliders and the picture"
    assert sideways <= 0


@every_chapter
def test_the_keyboard_moves_the_sliders(site: Path, browser: Any, name: str) -> None:
    page = browser.new_page()
    page.goto((site / "notebooks" / f"{name}.html").as_uri())
    page.evaluate(UNFOLD)
    for slider in page.locator(".live input[type=range]:enabled").all():
        out = page.locator(f"#{slider.get_attribute('id')}-out")
        before = out.text_content()
        slider.focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        if out.text_content() == before:  # it stood at its lowest place
            page.keyboard.press("ArrowRight")
        assert out.text_content() != before
    page.close()


@every_figure
def test_the_notebook_shows_the_same_figure(site: Path, chapter: str, name: str) -> None:
    """The stored output of the notebook's cell is the page's figure, and running the cell gives it again."""
    notebook = read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    made = [cell for cell in notebook.cells if cell.cell_type == "code" and f'id="{name}-figure"' in cell.source]
    assert len(made) == 1
    (cell,) = made
    (output,) = cell.outputs
    assert cell.metadata.cellView == "form" and cell.metadata.jupyter.source_hidden
    text = "".join(output.data["text/html"])
    script = lambda html: BeautifulSoup(html, "html.parser").select(f"#{name}-figure script")[0].get_text().split()
    page = (site / "notebooks" / f"{chapter}.html").read_text(encoding="utf-8")
    assert script(text) == script(page)
    assert "DATA" not in text and not re.search(r"(src|href)=|https?:", re.sub(r"www\.w3\.org", "", text))
    if not widgets.is_widget(cell):  # the cell computes data, and puts them into the same text
        assert widgets.html(name) in cell.source and '"""' not in widgets.html(name)
        return
    assert cell.source == f"%%html\n{widgets.html(name)}"
    (statement,) = ast.parse(TransformerManager().transform_cell(cell.source)).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    assert [ast.literal_eval(argument) for argument in statement.value.args] == ["html", "", text]
