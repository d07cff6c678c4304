"""Pictures of few colours: as PNG where a notebook stores them, as WebP beside the pages.

Drawings have a dozen colours and hundreds of their blends, at the edges of lines and letters, which take most of the
bytes. `thin` leaves out those that nobody sees, once, when a chapter has been executed; a build makes WebP of what is
left, which is smaller still.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

DIFFERENCE = 2.0  # of 255, root mean square over a picture (42 dB): not seen in a drawing
NUMBERS = (16, 24, 32, 48, 64, 96, 128, 192, 256)  # of colours that are tried
STEPS = 4  # by which a palette comes nearer to a picture; more change nothing that is seen


def thin(png: bytes) -> bytes:
    """The PNG with as few colours as `few_colours` finds, as palette and numbers; the same bytes if that is no shorter.

    What is thin stays as it is, byte by byte.
    """
    with Image.open(BytesIO(png)) as image:
        if image.mode == "P":
            return png
        pixels = np.asarray(few_colours(image))
    if pixels.shape[2:] != (3,):
        return png
    colours, numbers = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > max(NUMBERS):
        return png
    written = Image.fromarray(numbers.reshape(pixels.shape[:2]).astype(np.uint8)).convert("P")
    written.putpalette(colours.tobytes())
    buffer = BytesIO()
    written.save(buffer, "png", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def to_webp(png: Path, webp: Path) -> None:
    """Write the picture as WebP, unless it is there."""
    if not webp.exists():
        webp.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(png) as image:
            image.save(webp, lossless=True, method=4)


class Pictures:
    """The PNGs of the pages as WebP, where that is smaller; and how large each is, before it comes."""

    def __init__(self, out: Path) -> None:
        self.renamed: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        for png in (*(out / "_images").glob("*.png"), *(out / "_static" / "images").glob("*.png")):
            webp = png.with_suffix(".webp")
            to_webp(png, webp)
            with Image.open(png) as image:
                self.sizes[png.name] = image.size
            if webp.stat().st_size < png.stat().st_size:
                self.renamed[png.name] = webp.name

    def place(self, text: str) -> str:
        """A page that shows the smaller files, each with its size."""
        text = re.sub(r'(<img [^>]*src="[^"]*_images/([\w.-]+\.png)"[^>]*?)(?=\s*/?>)', self._sized, text)
        text = text.replace('class="reference internal nav-link"', 'class="nav-link"')
        text = re.sub(r"(_images/|_static/images/)([\w.-]+\.png)", lambda m: m[1] + self.renamed.get(m[2], m[2]), text)
        return re.sub(r"<summary>(?=<span class=.toctree-toggle)", '<summary aria-label="Pages below">', text)

    def _sized(self, tag: re.Match[str]) -> str:
        width, height = self.sizes.get(tag[2], (0, 0))
        given = not width or re.search(r"\s(?:width|height|style)=", tag[0])
        return tag[0] if given else f'{tag[1]} width="{width}" height="{height}"'


def few_colours(image: Image.Image) -> Image.Image:
    """The picture in the fewest of 16 to 256 colours that leave it within `DIFFERENCE` of itself.

    What has more, or is partly transparent, stays as it is. A palette of the boxes' means is moved to the means of what
    it stands for (Lloyd's steps), after which a third fewer colours do.
    """
    if "A" in image.getbands() and image.getextrema()[-1] != (255, 255):
        return image  # soft edges over a page of either colour
    drawn = image.convert("RGB")
    pixels = np.asarray(drawn, np.uint32)
    codes, places, counts = np.unique(pixels @ (65536, 256, 1), return_inverse=True, return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(float)
    for boxes in itertools.takewhile(lambda boxes: len(boxes) <= max(NUMBERS), _boxes(colours, counts)):
        if len(boxes) not in NUMBERS:
            continue
        palette = np.stack([np.average(colours[box], 0, counts[box]) for box in boxes]).round()
        for _ in range(STEPS):
            nearest = _nearest(colours, palette)
            weight = np.bincount(nearest, counts, len(palette))
            sums = [np.bincount(nearest, counts * colour, len(palette)) for colour in colours.T]
            used = weight > 0
            palette[used] = (np.stack(sums, 1)[used] / weight[used, None]).round()
        fewer = palette[_nearest(colours, palette)]
        if (counts @ (fewer - colours) ** 2 / counts.sum()).max() <= DIFFERENCE**2:
            return Image.fromarray(fewer.astype(np.uint8)[places.reshape(pixels.shape[:2])])
    return drawn


def _boxes(colours: np.ndarray, counts: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The colours in ever more boxes: the one that spreads most along a channel is cut at its mean there.

    Colours are counted once, and each cut goes on from the last: for every number of colours anew, as
    ``Image.quantize`` has it, takes four times as long.
    """

    def spread(box: np.ndarray) -> np.ndarray:
        return counts[box] @ (colours[box] - np.average(colours[box], 0, counts[box])) ** 2

    boxes = [np.arange(len(colours))]
    spreads = [spread(boxes[0])]
    while True:
        yield boxes
        widest = max(range(len(boxes)), key=lambda i: spreads[i].max())
        box, channel = boxes[widest], int(spreads[widest].argmax())
        if not spreads[widest][channel]:
            return  # each box is of one colour
        below = colours[box, channel] <= np.average(colours[box, channel], weights=counts[box])
        boxes[widest], other = box[below], box[~below]
        spreads[widest] = spread(boxes[widest])
        boxes.append(other)
        spreads.append(spread(other))


def _nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """For each colour, which of the palette's is nearest: the least of |p|² - 2 c·p."""
    size = (palette**2).sum(1)
    parts = np.array_split(colours, 1 + len(colours) // 20000)
    return np.concatenate([(size - 2 * part @ palette.T).argmin(1) for part in parts])
