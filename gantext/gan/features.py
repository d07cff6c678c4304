"""Networks whose features images are compared in: a pinned one for 8 x 8 digits, and rulers for larger images.

A distance between sets of images is `gantext.gan.metrics` in the features of one of these, and means nothing beside one
in another's: a `Ruler` says its name. `python -m gantext.gan.features` trains the classifier of `Features` anew and
writes its file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gantext._checks import check_count, check_dtype, check_shape, floating, samples_of
from gantext.gan.images import Images
from gantext.gan.laws import digits
from gantext.gan.metrics import frechet_distance, kernel_distance, precision_recall
from gantext.gan.networks import mlp

__all__ = ["Features", "Ruler", "classifier_ruler", "inception_ruler", "train_features"]

_WEIGHTS = "digits_features.npz"


class Features:
    """Penultimate features of the pinned digit classifier 64-64-32-10, (N, 64) to (N, 32), all >= 0.

    Its weights are a file of the package, so that every machine measures with the same ruler: those of
    `train_features(0)`, with test accuracy 0.978, used in float64. Five features are 0 on every training image: `bures`
    allows singular covariances.

    Args:
        classifier: another one of that layout, such as `train_features(1)`, to see what the ruler decides.

    >>> images = digits("test").images
    >>> Features()(images).shape, Features().logits(images).shape
    (torch.Size([597, 32]), torch.Size([597, 10]))
    """

    def __init__(self, classifier: nn.Sequential | None = None) -> None:
        self.classifier = _pinned() if classifier is None else copy.deepcopy(classifier).cpu().double()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.classifier[:4](samples_of("Features", "images", images, 1, 64))

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Scores of the ten digits, (N, 10); their softmax is a law of the label."""
        return self.classifier(samples_of("Features", "images", images, 1, 64))


@torch.inference_mode(False)
def train_features(seed: int = 0) -> nn.Sequential:
    """The classifier behind `Features`, trained anew on the 1200 training digits in well under a second.

    400 steps of Adam (0.003) on cross entropy, 128 images a step with noise of standard deviation 0.05, in float64: the
    weights of seed 0 then agree with the file's to its float32 rounding, on whatever processor. Another seed permutes
    and rescales the features, and with them every distance. PyTorch's global generator is left as it was.
    """
    seed = check_count("train_features", "seed", seed, 0)
    train, rng, start = digits(), torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    net = _layers().float().to_empty(device="cpu")
    for layer in net[::2]:  # as PyTorch starts them, from a generator of our own, and float32 whatever the default
        nn.init.kaiming_uniform_(layer.weight, math.sqrt(5), generator=start)
        nn.init.uniform_(layer.bias, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=start)
    return _trained(net.double(), train.images.double(), train.labels, rng, 400, batch=128, rate=3e-3, noise=0.05)


@torch.enable_grad()
def _trained(
    net: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    rng: torch.Generator,
    steps: int,
    *,
    batch: int,
    rate: float,
    noise: float,
) -> nn.Sequential:
    """A classifier after so many steps of Adam, each on a batch with noise; frozen."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,), generator=rng, device=images.device)
        x = images[rows]
        x = x + noise * torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        loss = nn.functional.cross_entropy(net(x), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def _pinned() -> nn.Sequential:
    with resources.files("gantext.gan").joinpath(_WEIGHTS).open("rb") as file, np.load(file) as stored:
        weights = {name: torch.from_numpy(stored[name]).double() for name in stored.files}
    net = _layers()
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)


def _layers() -> Any:
    """The classifier without weights: to draw some would move PyTorch's global generator."""
    with torch.device("meta"):
        return mlp([64, 64, 32, 10])


@dataclass(frozen=True)
class Ruler:
    """A feature network for images, with the name that belongs to every distance in it.

    Args:
        name: what the numbers may be compared with: those of the same ruler only.
        features: maps images (n, C, H, W) in [-1, 1] to features (n, d).
    """

    name: str
    features: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features, 256 images at a time, on the CPU. A network gets the images in its device and dtype."""
        weights = self.features.parameters() if isinstance(self.features, nn.Module) else iter(())
        like = next(weights, images)
        return torch.cat([self.features(x.to(like)).cpu() for x in floating("Ruler", "images", images).split(256)])

    def scores(self, fakes: Tensor, seen: Tensor, held_out: Tensor) -> dict[str, Any]:
        """How well fakes imitate images that were trained on, and images that were not: a generator that has learnt by
        heart is near the first and far from the second.

        Args:
            fakes, seen, held_out: images (n, C, H, W) in [-1, 1]; of each as many are used as the smallest set has.
        Returns:
            The ruler's name; Fréchet distances to both; kernel distance, precision and recall held out.
        """
        n = min(map(len, (fakes, seen, held_out)))
        x, near, far = (self(images[:n]) for images in (fakes, seen, held_out))
        found = {"frechet, seen": frechet_distance(near, x), "frechet, held out": frechet_distance(far, x)}
        found["kernel, held out"] = kernel_distance(far, x).value
        return {"ruler": self.name, "images": n, **found, **precision_recall(far, x)._asdict()}

    @torch.no_grad()
    def judge(
        self, generator: nn.Module, codes: Tensor, seen: Images, held_out: Images
    ) -> tuple[Tensor, dict[str, Any]]:
        """What a generator makes of codes (n, latent), 100 at a time on its device, and its `scores`.

        A copy in evaluation mode makes the images, (n, C, H, W), returned on the CPU; they are compared with the first
        n of the set that it was trained on, and of another.
        """
        net, device = copy.deepcopy(generator).eval(), next(generator.parameters()).device
        fakes = torch.cat([net(part.to(device)).cpu() for part in codes.split(100)])
        return fakes, self.scores(fakes, *(images.take(slice(len(fakes))) for images in (seen, held_out)))


@torch.inference_mode(False)
def classifier_ruler(images: Tensor, labels: Tensor, *, steps: int = 600, seed: int = 0) -> Ruler:
    """The book's own ruler for images, without a download: 64 features of a classifier trained on them, float32.

    A `gantext.gan.convolutional.dcgan_critic` of width 32 with 64 outputs, then ReLU, which gives the features, and a
    dense layer; trained by Adam (0.001) on cross entropy, 64 images a step with noise of standard deviation 0.1.

    Args:
        images: (N, C, H, W) in [-1, 1]; the ruler is trained and lies on their device.
        labels: (N,), int64, 0 to classes - 1.
        steps: >= 1.
        seed: of weights, batches and noise. PyTorch's global generators are left as they were.

    The commonest surprise: trained on another machine it is another ruler, by rounding: keep the state of `features`.
    """
    from gantext.gan.convolutional import dcgan_critic

    steps, seed = check_count("classifier_ruler", "steps", steps), check_count("classifier_ruler", "seed", seed, 0)
    images = floating("classifier_ruler", "images", images).float()
    if images.dim() != 4:
        raise ValueError(f"classifier_ruler: images has shape {tuple(images.shape)}, must be (N, C, H, W). Unflatten.")
    check_dtype("classifier_ruler", "labels", labels, torch.int64)
    check_shape("classifier_ruler", "labels", labels, images.shape[:1], "Give one class an image.")
    if labels.min() < 0:
        raise ValueError(f"classifier_ruler: labels has {labels.min()}, must be >= 0. Number the classes from 0.")
    channels, height, width = images.shape[1:]
    device, rng = images.device, torch.Generator(images.device).manual_seed(seed)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        body = dcgan_critic((channels, height, width), 32, outputs=64).append(nn.ReLU())
        net = nn.Sequential(body, nn.Linear(64, int(labels.max()) + 1)).to(device, torch.float32)
    _trained(net, images, labels.to(device), rng, steps, batch=64, rate=1e-3, noise=0.1)
    name = f"classifier of {len(images)} images {channels} x {height} x {width}, {steps} steps, seed {seed}"
    return Ruler(name, net[0])


def inception_ruler(device: str = "cpu") -> Ruler:
    """The ruler of the papers' FID and KID: 2048 features of Inception, as torchmetrics and torch-fidelity give them.

    Grey images are repeated in three channels; levels are rounded to bytes; torchmetrics scales to 299 x 299. FID is
    quoted for 10,000 or 50,000 images, and falls as they grow. Source: Heusel et al., arXiv 1706.08500.

    Raises:
        ModuleNotFoundError: torchmetrics or torch-fidelity is missing.
        FileNotFoundError: the weights could not be fetched; says where to put them.
    """
    try:
        # optional: the book installs no torchmetrics, so pyright cannot find it
        from torchmetrics.image.fid import NoTrainInceptionV3  # pyright: ignore[reportMissingImports]

        net = NoTrainInceptionV3("inception-v3-compat", ["2048"]).to(device)
    except ImportError as error:
        remedy = "Install them with `pip install torchmetrics torch-fidelity`, or use classifier_ruler."
        raise ModuleNotFoundError(f"inception_ruler: {error}; torchmetrics must be there. {remedy}") from error
    except OSError as error:
        place = Path(torch.hub.get_dir()) / "checkpoints"
        remedy = f"Put weights-inception-2015-12-05-6726825d.pth into {place}, or use classifier_ruler."
        raise FileNotFoundError(f"inception_ruler: no weights ({error}), must be there. {remedy}") from error
    to_bytes = lambda x: ((x.clamp(-1, 1) + 1) * 127.5).round().to(device, torch.uint8)
    return Ruler("Inception", lambda x: net(to_bytes(x).expand(-1, 3, -1, -1)))


if __name__ == "__main__":
    weights = {name: t.float().numpy() for name, t in train_features().state_dict().items()}
    np.savez(Path(__file__).with_name(_WEIGHTS), **weights)
