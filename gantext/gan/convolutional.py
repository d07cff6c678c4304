"""Convolutional networks for images of 28, 32, 64 and 128 pixels: DCGAN, and the residual networks of SN-GAN.

Generators map codes (N, latent) to images (N, C, H, W) in (-1, 1); critics map images to scores (N,), large for real.
All run in `channels_last` and under autocast. Layers start as their sources say: call `torch.manual_seed` before. An
argument of the wrong kind raises TypeError, one outside its stated range ValueError.

A critic's `norm` is None; "layer", over the channels and places of a sample (Gulrajani et al. 2017); "spectral", which
divides every weight by an estimate of its largest singular value, refined in each forward pass in training mode (Miyato
et al. 2018); or "batch", which every gradient penalty refuses. `dcgan_critic` with None or "spectral" is what
`gantext.gan.penalties.tangent_penalty` takes; `gantext.gan.methods.game` chooses by itself.

Sources: Radford et al., arXiv 1511.06434; Gulrajani et al., arXiv 1704.00028, and their code,
igul222/improved_wgan_training; Miyato et al., arXiv 1802.05957, tables 3 to 6, and what is not in them from the
authors' code, pfnet-research/sngan_projection.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gantext._checks import check_count

__all__ = [
    "NORMS", "SIZES", "dcgan_critic", "dcgan_generator", "gulrajani_critic", "resnet_critic", "resnet_generator",
]  # fmt: skip

SIZES = {28: (7, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}  # pixels: (pixels of the coarsest map, doublings)
NORMS = (None, "layer", "spectral", "batch")
Shape = tuple[int, int, int]


def dcgan_generator(
    shape: Shape, latent: int = 128, width: int = 64, *, kernel: int = 4, growth: int = 8
) -> nn.Sequential:
    """DCGAN's generator: a dense layer to the coarsest map, then transposed convolutions, each doubling it.

    Batch norm and ReLU after all but the last, which has tanh: call `eval()` to sample, else an image depends on its
    batch. Weights start from N(0, 0.02^2), those of batch norms from N(1, 0.02^2).

    Args:
        shape: (C, H, W) of an image, H = W in `SIZES`.
        latent: >= 1, numbers in a code.
        width: >= 1, channels of the finest map, doubled for each coarser one up to growth width. DCGAN has 128 at 64
            pixels.
        kernel: 4, a multiple of the stride, which meets every pixel alike, or 5 as the sources have it.
        growth: >= 1.

    >>> dcgan_generator((1, 28, 28), latent=16, width=8).eval()(torch.zeros(2, 16)).shape
    torch.Size([2, 1, 28, 28])
    """
    channels, start, doublings = _check("dcgan_generator", shape)
    latent, width = check_count("dcgan_generator", "latent", latent), check_count("dcgan_generator", "width", width)
    widths = _widths("dcgan_generator", width, growth, kernel, doublings)[::-1]
    up = (kernel, 2, (kernel - 1) // 2, kernel - 4)  # its stride, padding, and what a kernel of 5 leaves out
    layers = _project(latent, widths[0], start, bias=False)
    for before, after in pairwise(widths):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, *up, bias=False)]
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, channels, *up), nn.Tanh()]
    return _started(nn.Sequential(*layers), "normal")


def dcgan_critic(
    shape: Shape,
    width: int = 64,
    *,
    norm: str | None = None,
    outputs: int | None = None,
    kernel: int = 4,
    growth: int = 8,
) -> nn.Sequential:
    """DCGAN's critic: convolutions, each halving the map, with LeakyReLU(0.2), then a dense layer.

    Weights start from N(0, 0.02^2) with batch norm, as DCGAN's, else as He et al. (arXiv 1502.01852) scale them.
    Another head, such as `gantext.gan.cascades.CascadeHead`, goes behind `critic[:-2]`, of `critic[-2].in_features`
    features.

    Args:
        shape, width, kernel, growth: as in `dcgan_generator`.
        norm: one of `NORMS`, on all convolutions but the first; "spectral" on every layer.
        outputs: None for scores (N,), or n >= 1 for codes (N, n), as `gantext.gan.ogan.o_gan` wants them.

    >>> dcgan_critic((3, 32, 32), width=8, norm="spectral")(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5])
    """
    channels, start, doublings = _check("dcgan_critic", shape, norm)
    width = check_count("dcgan_critic", "width", width)
    widths, layers = [channels, *_widths("dcgan_critic", width, growth, kernel, doublings)], []
    for i, (before, after) in enumerate(pairwise(widths)):
        norms = _norms(norm, after) if i else []
        layers += [nn.Conv2d(before, after, kernel, 2, (kernel - 1) // 2, bias=not norms), *norms, nn.LeakyReLU(0.2)]
    layers += [nn.Flatten(), *_head("dcgan_critic", widths[-1] * start**2, outputs)]
    return _started(nn.Sequential(*layers), "normal" if norm == "batch" else "he", norm == "spectral")


def resnet_generator(shape: Shape, latent: int = 128, width: int | None = None, *, growth: int = 16) -> nn.Sequential:
    """SN-GAN's residual generator: a dense layer to the coarsest map, then blocks that double it.

    A block adds conv(relu(norm(conv(up(relu(norm(x))))))), 3 x 3 with batch norm, to a 1 x 1 convolution of up(x); up
    repeats pixels. Weights start as Glorot's, those of 3 x 3 in blocks times 2^(1/2). 28 pixels, which the paper does
    not have, come from 7 x 7 by two blocks.

    Args:
        shape, latent: as in `dcgan_generator`, and so is `eval()`.
        width: >= 1, channels of the finest map; each coarser one has as many up to 32 pixels, beyond twice as many, up
            to growth width. None takes the source's 256 and 64.
        growth: >= 1. Gulrajani et al. have 8 at 64 pixels.

    >>> resnet_generator((3, 32, 32), latent=16, width=8).eval()(torch.zeros(2, 16)).shape
    torch.Size([2, 3, 32, 32])
    """
    channels, start, doublings = _check("resnet_generator", shape)
    latent, small = check_count("resnet_generator", "latent", latent), shape[1] <= 32
    width = check_count("resnet_generator", "width", (256 if small else 64) if width is None else width)
    widths = _widths("resnet_generator", width, 1 if small else growth, 4, doublings + 1)[::-1]
    layers = _project(latent, widths[0], start)
    for before, after in pairwise(widths):
        way, up = _way("batch", before, after, after), nn.Upsample(scale_factor=2)
        layers.append(_Residual([*way[:2], up, *way[2:]], [up, nn.Conv2d(before, after, 1)]))
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()]
    return _started(nn.Sequential(*layers))


def resnet_critic(
    shape: Shape, width: int | None = None, *, norm: str | None = "spectral", outputs: int | None = None
) -> nn.Sequential:
    """SN-GAN's residual critic: blocks that halve the map, the sum over its places, a dense layer.

    A block adds pool(conv(relu(conv(relu(x))))), 3 x 3, to a 1 x 1 convolution of x, pooled by 2 x 2 means; the first
    begins with its convolution. Up to 32 pixels two blocks halve and two do not, beyond five halve, and at 128 pixels
    one more does not. Weights start as in `resnet_generator`.

    Args:
        shape, outputs: as in `dcgan_critic`.
        width: >= 1, channels of the finest map; each coarser one has as many up to 32 pixels, beyond twice as many.
            None takes the source's 128 and 64.
        norm: one of `NORMS`; "layer" and "batch" stand before the ReLUs of all blocks but the first.

    >>> resnet_critic((1, 28, 28), width=8)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5])
    """
    channels, _, _ = _check("resnet_critic", shape, norm)
    small, pool = shape[1] <= 32, nn.AvgPool2d(2)
    width = check_count("resnet_critic", "width", (128 if small else 64) if width is None else width)
    widths = [width] * 4 if small else [width * 2**k for k in range(5)] + [16 * width] * (shape[1] == 128)
    way = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), pool]
    layers: list[nn.Module] = [_Residual(way, [pool, nn.Conv2d(channels, width, 1)])]
    for i, (before, after) in enumerate(pairwise(widths), 2):
        way = _way(norm, before, before, after)
        end = [pool] if i <= (2 if small else 5) else []
        layers.append(_Residual([*way, *end], [nn.Conv2d(before, after, 1), *end] if end or before != after else []))
    layers += [nn.ReLU(), _SumPool(), *_head("resnet_critic", widths[-1], outputs)]
    return _started(nn.Sequential(*layers), spectral=norm == "spectral")


def gulrajani_critic(
    shape: Shape, width: int = 64, *, norm: str | None = "layer", outputs: int | None = None
) -> nn.Sequential:
    """The residual critic of Gulrajani et al. at 64 pixels, which WGAN-div took over.

    A 3 x 3 convolution, then blocks as in `resnet_critic` that each halve the map and double the channels up to
    8 width; the dense layer takes every place, where `resnet_critic` takes their sum. Other sizes end at 4 x 4 too, 28
    pixels at 7 x 7. Source: GoodDiscriminator of the authors' gan_64x64.py.

    Args:
        shape, width: as in `dcgan_generator`; outputs: as in `dcgan_critic`.
        norm: one of `NORMS`; "layer" and "batch" stand before the ReLUs of all blocks, the first too.

    >>> gulrajani_critic((3, 64, 64), width=8)(torch.zeros(5, 3, 64, 64)).shape
    torch.Size([5])
    """
    channels, start, doublings = _check("gulrajani_critic", shape, norm)
    width = check_count("gulrajani_critic", "width", width)
    widths = _widths("gulrajani_critic", width, 8, 4, doublings + 1)
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
    for before, after in pairwise(widths):
        way, pool = _way(norm, before, before, after), nn.AvgPool2d(2)
        layers.append(_Residual([*way, pool], [pool, nn.Conv2d(before, after, 1)]))
    layers += [nn.Flatten(), *_head("gulrajani_critic", widths[-1] * start**2, outputs)]
    return _started(nn.Sequential(*layers), spectral=norm == "spectral")


class _Residual(nn.Module):
    """The sum of a long way and a shortcut."""

    def __init__(self, way: list[nn.Module], shortcut: list[nn.Module]) -> None:
        super().__init__()
        self.way, self.shortcut = nn.Sequential(*way), nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x) + self.shortcut(x)


class _SumPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))  # (N, C)


def _widths(name: str, width: int, growth: int, kernel: int, maps: int) -> list[int]:
    """Channels from the finest map to the coarsest; the arguments are checked by the way."""
    if kernel not in (4, 5):
        raise ValueError(f"{name}: kernel is {kernel!r}, must be 4 or 5. Both halve a map with a stride of 2.")
    growth = check_count(name, "growth", growth)
    return [width * min(2**k, growth) for k in range(maps)]


def _project(latent: int, width: int, start: int, bias: bool = True) -> list[nn.Module]:
    return [nn.Linear(latent, width * start**2, bias=bias), nn.Unflatten(1, (width, start, start))]


def _norms(norm: str | None, width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(width)] if norm == "batch" else [nn.GroupNorm(1, width)] if norm == "layer" else []


def _way(norm: str | None, *widths: int) -> list[nn.Module]:
    """Norm, ReLU and 3 x 3 convolution, for each pair of widths."""
    layers = ([*_norms(norm, n), nn.ReLU(), nn.Conv2d(n, m, 3, padding=1)] for n, m in pairwise(widths))
    return [layer for each in layers for layer in each]


def _head(name: str, features: int, outputs: int | None) -> list[nn.Module]:
    if outputs is None:
        return [nn.Linear(features, 1), nn.Flatten(0)]
    return [nn.Linear(features, check_count(name, "outputs", outputs))]


@torch.no_grad()
def _started(net: nn.Sequential, start: str = "glorot", spectral: bool = False) -> nn.Sequential:
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.BatchNorm2d) and start == "normal":
            nn.init.normal_(layer.weight, 1, 0.02)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if start == "normal":
                nn.init.normal_(layer.weight, 0, 0.02)
            elif start == "he":
                nn.init.kaiming_normal_(layer.weight, 0.2)
            else:
                nn.init.xavier_uniform_(layer.weight, 2**0.5 if ".way." in name else 1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if spectral:
                spectral_norm(layer)
    return net


def _check(name: str, shape: Shape, norm: str | None = None) -> tuple[int, int, int]:
    """Channels, pixels of the coarsest map, doublings."""
    if not isinstance(shape, tuple | list) or len(shape) != 3 or shape[1] != shape[2] or shape[1] not in SIZES:
        rule = f"must be (C, H, W) with H = W in {list(SIZES)}. Read images in such a size: images(..., size=64)."
        raise ValueError(f"{name}: shape is {shape!r}, {rule}")
    if norm not in NORMS:
        raise ValueError(f"{name}: norm is {norm!r}, must be one of {NORMS}. A penalty allows all but batch.")
    return check_count(name, "shape[0]", shape[0]), *SIZES[shape[1]]
