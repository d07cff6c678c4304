"""Convolutional networks: shapes, where they start, norms that hold, penalties that fit, precision and layout."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gantext.gan import convolutional, methods, training
from gantext.gan.cascades import CascadeHead
from gantext.gan.convolutional import (
    dcgan_critic,
    dcgan_generator,
    gulrajani_critic,
    resnet_critic,
    resnet_generator,
)
from gantext.gan.objectives import HINGE, gradient_penalty
from gantext.gan.ogan import o_gan
from gantext.gan.penalties import is_piecewise_linear, tangent_penalty

SIZES = tuple(convolutional.SIZES)
CRITICS = (dcgan_critic, resnet_critic, gulrajani_critic)
PAIRS = (
    (dcgan_generator, dcgan_critic),
    (resnet_generator, resnet_critic),
    (lambda *args, **kwargs: dcgan_generator(*args, **kwargs, kernel=5, growth=16), gulrajani_critic),
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(net: nn.Module) -> list[tuple[str, Any]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return [(name, layer) for name, layer in net.named_modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize(("pair", "size"), [*itertools.product(PAIRS, SIZES)])
def test_images_of_every_size_are_made_and_scored(pair: Any, size: int) -> None:
    shape = (1 if size == 28 else 3, size, size)
    x = pair[0](shape, latent=5, width=2).eval()(noise(2, 5))
    assert x.shape == (2, *shape) and (x.abs() < 1).all() and x.std() > 0
    assert pair[1](shape, width=2)(x).shape == (2,)
    assert pair[1](shape, width=2, outputs=7)(x).shape == (2, 7)


def test_widths_are_those_of_the_sources() -> None:
    def widths(net: nn.Module) -> list[int]:
        return [m.out_channels for _, m in weights(net) if not isinstance(m, nn.Linear)]

    generator = dcgan_generator((3, 64, 64), 100, 2)  # DCGAN's 128 are 2 here
    assert widths(generator) == [8, 4, 2, 3] and weights(generator)[0][1].out_features == 4 * 4 * 16
    assert widths(resnet_generator((3, 32, 32), 1)) == [256] * 9 + [3]
    assert widths(resnet_critic((3, 32, 32), norm=None)) == [128] * 10  # two blocks have a convolution as shortcut
    assert widths(resnet_generator((3, 64, 64), 1, 1))[::3] == [8, 4, 2, 1, 3]
    assert widths(resnet_critic((3, 64, 64), 1, norm=None))[1::3] == [1, 2, 4, 8, 16]
    assert widths(resnet_generator((3, 128, 128), 1, 1))[::3] == [16, 8, 4, 2, 1, 3]
    assert widths(resnet_critic((3, 128, 128), 1, norm=None)) == [1, 1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16, 16]
    assert widths(resnet_critic((3, 64, 64), norm=None))[0] == 64
    # Gulrajani et al. at 64 pixels: (long way, shortcut) of four blocks each
    assert widths(resnet_generator((3, 64, 64), 1, 1, growth=8))[::3] == [8, 4, 2, 1, 3]
    assert weights(resnet_generator((3, 64, 64), 1, 1, growth=8))[0][1].out_features == 4 * 4 * 8
    critic = gulrajani_critic((3, 64, 64), 1)
    assert widths(critic) == [1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8] and weights(critic)[-1][1].in_features == 4 * 4 * 8
    # Su at 128 pixels: 5 x 5 and 64 to 1024 channels
    su = dcgan_generator((3, 128, 128), 1, 1, kernel=5, growth=16), dcgan_critic((3, 128, 128), 1, kernel=5, growth=16)
    assert widths(su[0]) == [8, 4, 2, 1, 3] and widths(su[1]) == [1, 2, 4, 8, 16]
    assert weights(su[0])[0][1].out_features == 4 * 4 * 16 == weights(su[1])[-1][1].in_features
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    assert {m.kernel_size for net in su for _, m in weights(net) if isinstance(m, kinds)} == {(5, 5)}


@pytest.mark.parametrize("norm", convolutional.NORMS)
def test_weights_start_as_the_sources_say(norm: Any) -> None:
    torch.manual_seed(0)
    plain = [dcgan_generator((3, 32, 32), 64, 32)] + (
        [dcgan_critic((3, 32, 32), 64, norm=norm)] if norm == "batch" else []
    )
    for net in plain:
        for _, layer in weights(net):
            assert math.isclose(layer.weight.std().item(), 0.02, rel_tol=0.1)
        scales = torch.cat([m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)])
        assert abs(scales.mean() - 1) < 0.01 and 0.01 < scales.std() < 0.03
    if norm in (None, "layer"):
        for _, layer in weights(dcgan_critic((3, 32, 32), 64, norm=norm)):
            wanted = (2 / 1.04 / layer.weight[0].numel()) ** 0.5
            assert math.isclose(layer.weight.std().item(), wanted, rel_tol=0.1)
    critic = resnet_critic((3, 32, 32), 64, norm=None if norm == "spectral" else norm)
    for name, layer in weights(critic)[:-1]:
        fans = layer.weight[0].numel() + layer.weight[:, 0].numel()
        bound = (6 / fans) ** 0.5 * (2**0.5 if ".way." in name else 1)
        assert 0.95 * bound < layer.weight.abs().max() <= bound, name
        assert not layer.bias.any()


def test_one_seed_gives_one_network() -> None:
    def made(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [
            *dcgan_critic((1, 28, 28), 4, norm="spectral").parameters(),
            *resnet_generator((1, 28, 28), 4, 4).parameters(),
        ]

    assert all(torch.equal(a, b) for a, b in zip(made(3), made(3), strict=True))
    assert not torch.equal(made(3)[-2], made(4)[-2])


@pytest.mark.parametrize("build", CRITICS)
def test_spectral_norm_bounds_every_layer(build: Any) -> None:
    torch.manual_seed(0)
    critic = build((3, 32, 32), 8, norm="spectral").train()
    with torch.no_grad():
        for name, layer in weights(critic):
            layer.parametrizations.weight.original.mul_(30)
            for _ in range(400):
                layer.weight  # noqa: B018  in training mode each look is a step of the power iteration
            assert 0.99 < torch.linalg.matrix_norm(layer.weight.flatten(1), 2) <= 1.001, name
        before = [layer.weight.clone() for _, layer in weights(critic.eval())]
        assert all(torch.equal(a, layer.weight) for a, (_, layer) in zip(before, weights(critic), strict=True))


@pytest.mark.parametrize("build", CRITICS)
def test_a_penalty_refuses_batch_norm_and_takes_the_others(build: Any) -> None:
    x = noise(4, 1, 28, 28)
    for norm in convolutional.NORMS:
        critic = build((1, 28, 28), 4, norm=norm)
        if norm == "batch":
            with pytest.raises(ValueError, match="must score samples alone"):
                gradient_penalty(critic, x)
        else:
            assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in critic.modules())
            alone = torch.cat([critic.eval()(part) for part in x.split(1)])
            torch.testing.assert_close(critic(x), alone, rtol=1e-4, atol=1e-5)
            assert gradient_penalty(critic, x).isfinite()


@pytest.mark.parametrize("norm", [None, "spectral"])
def test_the_exact_penalty_is_that_of_double_backward(norm: str | None) -> None:
    torch.manual_seed(0)
    critic = dcgan_critic((1, 28, 28), 4, norm=norm).double().eval()
    x = noise(4, 1, 28, 28).double()
    found = []
    for penalty in (tangent_penalty, gradient_penalty):
        value = penalty(critic, x, centre=0.0, power=6.0)
        found.append((value, torch.autograd.grad(value, [p for p in critic.parameters() if p.dim() > 1])))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize(
    ("build", "norm"), [(dcgan_critic, "layer"), (resnet_critic, None), (resnet_critic, "spectral")]
)
def test_where_the_exact_penalty_does_not_apply_the_remedy_is_named(build: Any, norm: Any) -> None:
    critic = build((1, 28, 28), 4, norm=norm)
    assert not is_piecewise_linear(critic)
    with pytest.raises(ValueError, match="Use gradient_penalty"):
        tangent_penalty(critic, noise(2, 1, 28, 28))


@pytest.mark.parametrize(("pair", "size"), [*itertools.product(PAIRS, (28, 64))])
def test_channels_last_changes_nothing(pair: Any, size: int) -> None:
    torch.manual_seed(0)
    generator, critic = pair[0]((3, size, size), 4, 4).eval(), pair[1]((3, size, size), 4).eval()
    other = [copy.deepcopy(net).to(memory_format=torch.channels_last) for net in (generator, critic)]
    x, y = generator(noise(2, 4)), other[0](noise(2, 4))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(other[1](y), critic(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", PAIRS)
def test_autocast_stays_near_float32(pair: Any) -> None:
    torch.manual_seed(0)
    generator, critic = pair[0]((1, 28, 28), 4, 8).eval(), pair[1]((1, 28, 28), 8, norm="layer").eval()
    wide = critic(generator(noise(8, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        half = critic(generator(noise(8, 4)))
    assert half.dtype == torch.bfloat16
    assert (half.float() - wide).norm() < 0.05 * wide.norm()


def heads(shape: Any) -> nn.Sequential:
    critic = dcgan_critic(shape, 4, norm="spectral")
    return nn.Sequential(*list(critic.children())[:-2], CascadeHead(critic[-2].in_features, 3))  # pyright: ignore[reportArgumentType]  # a Linear's int


@pytest.mark.parametrize(
    ("game", "critic"),
    [
        (methods.wgan_gp(), lambda shape: resnet_critic(shape, 4, norm="layer")),
        (methods.wgan_div(at="samples"), lambda shape: dcgan_critic(shape, 4)),
        (methods.qp(norm="L1"), lambda shape: dcgan_critic(shape, 4, norm="batch")),
        (methods.game(HINGE), lambda shape: resnet_critic(shape, 4)),
        (methods.game(HINGE), heads),
        (o_gan(), lambda shape: dcgan_critic(shape, 4, outputs=6)),
    ],
)
def test_every_game_trains_them(game: methods.Game, critic: Any) -> None:
    shape = (1, 28, 28)
    torch.manual_seed(0)
    nets = dcgan_generator(shape, 6, 4), critic(shape)
    before = [copy.deepcopy([*net.parameters()]) for net in nets]
    real = lambda n, rng: torch.rand(n, *shape, generator=rng) * 2 - 1
    run = training.fit(*nets, real, game, steps=2, latent=6, batch_size=4, progress=False)
    assert all(math.isfinite(v) for values in run.history.values() for v in values)
    for net, old in zip(nets, before, strict=True):
        moved = [not torch.equal(p, q) for p, q in zip(net.parameters(), old, strict=True)]
        assert sum(moved) >= len(moved) - 1, moved  # a bias of the last layer may drop out of a Wasserstein loss


def test_a_critic_learns_which_half_is_bright() -> None:
    torch.manual_seed(0)
    critic, optimizer = dcgan_critic((1, 28, 28), 4, norm="layer"), None
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3)
    top = torch.zeros(1, 28, 28)
    top[:, :14] = 1
    for step in range(30):
        x = noise(16, 1, 28, 28, seed=step)
        loss = HINGE.critic_loss(critic(x + top), critic(x + 1 - top))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = noise(64, 1, 28, 28, seed=1000)
    assert (critic(x + top) > critic(x + 1 - top)).float().mean() > 0.95


@pytest.mark.parametrize(
    "shape", [(1, 27, 27), (1, 28, 32), (28, 28), 28, "28", (0, 28, 28), (1.0, 28, 28), (1, 256, 256)]
)
@pytest.mark.parametrize("build", [dcgan_generator, resnet_generator, *CRITICS])
def test_other_shapes_are_refused(build: Any, shape: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{build.__name__}: shape"):
        build(shape)


@pytest.mark.parametrize("build", CRITICS)
@pytest.mark.parametrize("bad", [{"norm": "instance"}, {"norm": True}, {"width": 0}, {"outputs": 0}, {"outputs": 1.5}])
def test_other_arguments_are_refused(build: Any, bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises((TypeError, ValueError), match=f"{build.__name__}: {name} is"):
        build((1, 28, 28), **bad)


@pytest.mark.parametrize("build", [dcgan_generator, dcgan_critic])
@pytest.mark.parametrize("bad", [{"kernel": 3}, {"kernel": "4"}, {"growth": 0}, {"growth": 2.5}])
def test_other_kernels_are_refused(build: Any, bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises((TypeError, ValueError), match=f"{build.__name__}: {name} is"):
        build((1, 28, 28), **bad)
