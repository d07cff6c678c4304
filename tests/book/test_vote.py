"""The figure of the vote in `reading-comprehension` computes by itself: all its sliders against the package."""

from pathlib import Path
from typing import Any

import torch

from gantext.seq2seq.decoding import largest, mean, squares

PLACES = """() => {
  const get = id => document.getElementById("rv-" + id), found = [];
  for (let q = 1; q <= 20; q++) for (let n = 1; n <= 9; n++) for (let p = 1; p <= 20; p++) {
    get("q").value = q / 20; get("n").value = n; get("p").value = p / 20;
    get("p").dispatchEvent(new Event("input"));
    const bars = [...document.querySelectorAll("#rv .rv-bar")];
    found.push([+get("q").value, +get("n").value, +get("p").value,
      bars.map(bar => [+bar.style.getPropertyValue("--v"), bar.textContent.trim(), bar.classList.contains("rv-won")])]);
  }
  return found;
}"""


def votes(p: list[float]) -> list[float]:
    """The three votes of the figure, in its order, for a token to which the passages give p."""
    given, alive = torch.tensor(p, dtype=torch.float64).view(1, -1, 1, 1), torch.ones(1, len(p), dtype=torch.bool)
    return [vote(given, alive).item() for vote in (mean, squares, largest)]


def test_the_figure_of_the_vote_votes_as_the_package_does(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "notebooks" / "reading-comprehension.html").as_uri())
    found = page.evaluate(PLACES)
    page.close()
    assert len(found) == 20 * 9 * 20
    for q, n, p, bars in found:
        pairs = list(zip(votes([q] + [0.0] * n), votes([0.0] + [p] * n), strict=True))
        expected = [value for pair in pairs for value in pair]
        assert len(bars) == len(expected)
        for (value, text, _), name, right in zip(bars, ["float", "int"] * 3, expected, strict=True):
            assert abs(value - right) < 1e-12
            assert text.split()[0] == name and abs(float(text.split()[1]) - right) < 5.001e-4
        won = [bar[2] for bar in bars]
        assert won == [side for a, b in pairs for side in (a > b + 1e-9, b > a + 1e-9)]
