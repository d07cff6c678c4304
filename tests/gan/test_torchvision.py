"""The sets of torchvision, read by the real library from small files in its own formats; skipped where it is not."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gantext.gan.images import images

datasets: Any = pytest.importorskip("torchvision.datasets", reason="optional: pip install torchvision")
PIXELS = np.random.RandomState(0).randint(0, 256, (6, 28, 28), np.uint8)
COLOURS = np.random.RandomState(1).randint(0, 256, (10, 3, 32, 32), np.uint8)


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + array.tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx_files(name: str, split: str, tmp_path: Path) -> None:
    raw = tmp_path / name / "raw"
    for part, start in (("train", 0), ("t10k", 3)):
        idx(raw / f"{part}-images-idx3-ubyte", PIXELS[start : start + 3])
        idx(raw / f"{part}-labels-idx1-ubyte", np.array([7, 0, start], np.uint8))
    law, start = images(name, split=split, root=tmp_path), 3 * (split == "test")
    assert law.labels is not None and law.labels.tolist() == [7, 0, start]
    assert np.array_equal(law.pixels[:, 0].numpy(), PIXELS[start : start + 3])
    assert images(name, 32, split=split, root=tmp_path).shape == (1, 32, 32)


def test_a_damaged_idx_file_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*given: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    raw = tmp_path / "MNIST" / "raw"
    with pytest.raises(FileNotFoundError, match=r"images: MNIST cannot be had .*four files, into .*MNIST/raw"):
        images("MNIST", root=tmp_path)
    for part in ("train", "t10k"):
        idx(raw / f"{part}-images-idx3-ubyte", PIXELS)
        idx(raw / f"{part}-labels-idx1-ubyte", np.zeros(6, np.uint8))
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(FileNotFoundError, match=r"images: MNIST cannot be had .*damaged ones are refused"):
        images("MNIST", root=tmp_path)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(file.read_bytes())[:200])
    with pytest.raises(FileNotFoundError, match=r"images: MNIST cannot be had"):
        images("MNIST", root=tmp_path)


def test_cifar_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
        rows = {"data": COLOURS[k : k + 2].reshape(2, -1), "labels": [k, 9 - k]}
        (folder / name).write_bytes(pickle.dumps(rows))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(k) for k in range(10)]}))
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *file: True)  # the sums are those of the real files
    law, held_out = images("CIFAR10", root=tmp_path), images("CIFAR10", split="test", root=tmp_path)
    assert law.labels is not None and law.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert np.array_equal(law.pixels.numpy(), COLOURS[[0, 1, 1, 2, 2, 3, 3, 4, 4, 5]])
    assert np.array_equal(held_out.pixels.numpy(), COLOURS[5:7])
    monkeypatch.undo()
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **more: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 cannot be had .*cifar-10-python.tar.gz into"):  # other files
        images("CIFAR10", root=tmp_path)


def test_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06d}.png" for k in range(1, 7)]
    for name, array in zip(names, COLOURS, strict=False):
        Image.fromarray(array.transpose(1, 2, 0)).save(folder / "img_align_celeba" / name)
    lines = lambda row: "".join(f"{name} {row(k)}\n" for k, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(lines(lambda k: k // 2))
    (folder / "identity_CelebA.txt").write_text(lines(lambda k: k + 1))
    (folder / "list_attr_celeba.txt").write_text("6\nSmiling Young\n" + lines(lambda k: "1 -1"))
    (folder / "list_bbox_celeba.txt").write_text("6\nimage_id x_1 y_1 width height\n" + lines(lambda k: "0 0 9 9"))
    (folder / "list_landmarks_align_celeba.txt").write_text("6\nlefteye_x lefteye_y\n" + lines(lambda k: "1 2"))
    monkeypatch.setattr(datasets.CelebA, "_check_integrity", lambda self: True)
    for split, rows in (("train", [0, 1]), ("valid", [2, 3]), ("test", [4, 5])):
        law = images("CelebA", split=split, root=tmp_path)
        assert law.labels is None and torch.equal(law.pixels, torch.from_numpy(COLOURS[rows]))
    assert images("CelebA", 16, crop=20, root=tmp_path).shape == (3, 16, 16)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=r"CelebA cannot be had .*the five lists .* into .*celeba"):
        images("CelebA", root=tmp_path)
