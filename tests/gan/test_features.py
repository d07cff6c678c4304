"""Rulers for images: one name for one network, what they rank, and what is missing."""

from __future__ import annotations

import sys
import types
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from gantext.gan.convolutional import dcgan_generator
from gantext.gan.features import Features, Ruler, classifier_ruler, inception_ruler, train_features
from gantext.gan.images import Images


def bars(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images with a bright bar in one of four places, and its place."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.randint(4, (n,), generator=rng)
    x = torch.zeros(n, 1, 28, 28) - 1
    for k in range(4):
        x[y == k, :, 7 * k : 7 * k + 5] = 0.5
    return (x + 0.2 * torch.randn(x.shape, generator=rng)).clamp(-1, 1), y


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return classifier_ruler(*bars(200, 0), steps=25)


def test_one_seed_is_one_ruler_and_moves_nothing_else(ruler: Ruler) -> None:
    x, y = bars(20, 0)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with torch.no_grad():
        again, other = classifier_ruler(x, y, steps=2), classifier_ruler(x, y, steps=2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(x), classifier_ruler(x, y, steps=2)(x))
    assert not torch.equal(again(x), other(x))
    assert len({ruler.name, again.name, other.name, "Inception"}) == 4
    assert again(x).shape == (20, 64) and (again(x) >= 0).all() and not again(x).requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_grad_mode_around_the_training_does_not_matter(mode: Any) -> None:
    x, y = bars(20, 0)
    digits, found = train_features(1), classifier_ruler(x, y, steps=2)(x)
    with mode():
        again = train_features(1)
        kept = x.clone()
        assert torch.equal(classifier_ruler(kept, y, steps=2)(kept), found)
    assert all(torch.equal(a, b) for a, b in zip(digits.parameters(), again.parameters(), strict=True))


def test_another_classifier_may_be_of_float32_and_stays_so() -> None:
    net = train_features(1)
    want, x = Features(net)(torch.zeros(3, 64)), torch.zeros(3, 64)
    torch.testing.assert_close(Features(net.float())(x), want, rtol=1e-6, atol=1e-6)
    assert next(net.parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_images_of_another_dtype_are_seen_as_float32(ruler: Ruler, dtype: torch.dtype) -> None:
    x, y = bars(20, 0)
    torch.testing.assert_close(ruler(x.to(dtype)), ruler(x.to(dtype).float()))
    assert classifier_ruler(x.to(dtype), y, steps=1)(x).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert classifier_ruler(x, y, steps=1)(x).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (
            torch.zeros(4, 784),
            torch.zeros(4).long(),
            ValueError,
            r"images has shape \(4, 784\), must be \(N, C, H, W\)",
        ),
        (torch.zeros(4, 1, 28, 28), None, TypeError, "labels is NoneType, must be a torch.int64 tensor"),
        (torch.zeros(4, 1, 28, 28), torch.zeros(3).long(), ValueError, r"labels has shape \(3,\), must be \(4,\)"),
        (torch.zeros(4, 1, 28, 28), torch.zeros(4), TypeError, "labels is torch.float32, must be a torch.int64"),
        (torch.zeros(4, 1, 28, 28), torch.tensor([0, 1, -1, 0]), ValueError, "labels has -1, must be >= 0"),
    ],
)
def test_what_cannot_be_classified_is_refused(
    images: Tensor, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^classifier_ruler: {message}"):
        classifier_ruler(images, labels)


def test_features_are_of_single_images_in_any_number(ruler: Ruler) -> None:
    x, _ = bars(300, 1)
    torch.testing.assert_close(ruler(x)[290:], ruler(x[290:]), rtol=1e-4, atol=1e-4)


def test_it_tells_good_images_from_bad_and_learnt_by_heart_from_new(ruler: Ruler) -> None:
    (seen, _), (held_out, _), (fresh, _) = bars(60, 0), bars(60, 1), bars(60, 2)
    good, copied = ruler.scores(fresh, seen, held_out), ruler.scores(seen, seen, held_out)
    noise = ruler.scores(torch.rand(60, 1, 28, 28) * 2 - 1, seen, held_out)
    one = ruler.scores(fresh[:1].expand(60, -1, -1, -1), seen, held_out)
    assert copied["frechet, seen"] < 1e-3 * copied["frechet, held out"]
    assert good["frechet, held out"] < 0.1 * min(noise["frechet, held out"], one["frechet, held out"])
    assert one["recall"] < 0.1 < good["recall"] and noise["precision"] < 0.5 < good["precision"]
    assert good["ruler"] == ruler.name and good["images"] == 60
    assert ruler.scores(fresh[:20], seen, held_out)["images"] == 20


def test_a_generator_is_judged_in_evaluation_mode_and_left_as_it_was(ruler: Ruler) -> None:
    G = dcgan_generator((1, 28, 28), latent=4, width=2).train()
    before = {name: t.clone() for name, t in G.state_dict().items()}
    codes, pixels = torch.randn(110, 4), torch.randint(256, (2, 120, 1, 28, 28), dtype=torch.uint8)
    seen, held_out = map(Images, pixels)
    fakes, row = ruler.judge(G, codes, seen, held_out)
    assert G.training and all(torch.equal(t, before[name]) for name, t in G.state_dict().items())
    with torch.no_grad():
        assert torch.allclose(fakes, G.eval()(codes), atol=1e-6) and not fakes.requires_grad
    assert row == ruler.scores(fakes, *(law.take(slice(110)) for law in (seen, held_out))) and row["images"] == 110


def test_samples_that_are_not_finite_are_refused(ruler: Ruler) -> None:
    x, _ = bars(10, 0)
    with pytest.raises(ValueError, match="diverged"):
        ruler.scores(x * torch.nan, x, x)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"seed": -1}, {"steps": 1.5}])
def test_bad_arguments_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="classifier_ruler: "):
        classifier_ruler(*bars(4, 0), **bad)


def torchmetrics(monkeypatch: pytest.MonkeyPatch, network: Any) -> None:
    for name in ("torchmetrics", "torchmetrics.image", "torchmetrics.image.fid"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["torchmetrics.image.fid"].__dict__["NoTrainInceptionV3"] = network


def test_inception_gets_bytes_in_three_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    class Network(nn.Module):
        def __init__(self, name: str, layers: list[str]) -> None:
            super().__init__()
            assert (name, layers) == ("inception-v3-compat", ["2048"])

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.float().flatten(1)[:, :2048]

    torchmetrics(monkeypatch, Network)
    ruler = inception_ruler()
    assert ruler.name == "Inception"
    ruler(torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(4, 1, 1, 1))
    assert seen[0].dtype == torch.uint8 and seen[0].shape == (4, 3, 1, 1)
    assert seen[0][:, 2, 0, 0].tolist() == [0, 128, 255, 255]


def test_what_inception_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(*arguments: Any) -> None:
        raise URLError("no network")

    torchmetrics(monkeypatch, network)
    with pytest.raises(FileNotFoundError, match=r"Put weights-inception-2015-12-05-6726825d\.pth into .*checkpoints"):
        inception_ruler()
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(ModuleNotFoundError, match="pip install torchmetrics torch-fidelity"):
        inception_ruler()


def test_judging_leaves_each_layer_in_its_mode(ruler: Ruler) -> None:
    generator, images = dcgan_generator((1, 28, 28), 4, 2), Images(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
    generator[2].eval()  # a frozen batch norm
    modes = [layer.training for layer in generator.modules()]
    statistics = {name: t.clone() for name, t in generator.named_buffers()}
    fakes, _ = ruler.judge(generator, torch.randn(5, 4), images, images)
    assert fakes.shape == (5, 1, 28, 28)
    assert [layer.training for layer in generator.modules()] == modes
    assert all(torch.equal(t, statistics[name]) for name, t in generator.named_buffers())
    with pytest.raises(RuntimeError):
        ruler.judge(generator, torch.randn(5, 3), images, images)  # codes of another width
    assert [layer.training for layer in generator.modules()] == modes
