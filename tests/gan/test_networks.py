"""Small networks: layouts, score shapes, seeds, spectral norm, their fitness for a gradient penalty, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from gantext.gan.laws import digits, ring
from gantext.gan.networks import critic, generator, mlp
from gantext.gan.objectives import gradient_norms, gradient_penalty

SHAPES: list[tuple[int, ...]] = [(1,), (2,), (3,), (64,)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def layout(network: nn.Module) -> list[str]:
    def name(m: nn.Module) -> str:
        return f"{m.in_features}-{m.out_features}" if isinstance(m, nn.Linear) else type(m).__name__

    return [name(m) for m in network.children()]


def test_layouts_are_the_documented_ones() -> None:
    assert layout(generator((2,))) == ["16-96", "ReLU", "96-96", "ReLU", "96-2"]
    assert layout(critic((2,))) == ["2-96", "LeakyReLU", "96-96", "LeakyReLU", "96-1", "Flatten"]
    batch_norm = ["BatchNorm1d", "ReLU"]
    assert layout(generator((64,), 8)) == ["8-128", *batch_norm, "128-128", *batch_norm, "128-64", "Tanh"]
    assert layout(critic((64,))) == ["64-128", "LeakyReLU", "128-64", "LeakyReLU", "64-1", "Flatten"]
    assert {m.negative_slope for m in critic((2,)).modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert layout(mlp([3, 4, 5], nn.SiLU, nn.LayerNorm)) == ["3-4", "LayerNorm", "SiLU", "4-5"]
    assert layout(mlp([3, 4])) == ["3-4"]


def test_mlp_is_the_formula() -> None:
    net, x = mlp([3, 5, 2], nn.Tanh).double(), torch.randn(4, 3, dtype=torch.float64)
    A, a, B, b = net.parameters()
    torch.testing.assert_close(net(x), torch.tanh(x @ A.mT + a) @ B.mT + b)


@every_shape
def test_shapes(shape: tuple[int, ...]) -> None:
    for n in (0, 1, 5):
        z = torch.randn(n, 7)
        g = generator(shape, 7).train(mode=n > 1)
        assert g(z).shape == (n, *shape)
        assert critic(shape)(g(z)).shape == (n,)
    assert shape != (64,) or generator(shape, 7)(50 * torch.randn(9, 7)).abs().max() <= 1


@every_shape
def test_one_seed_gives_one_network(shape: tuple[int, ...]) -> None:
    def weights(make: Callable[[tuple[int, ...]], nn.Module], seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(make(shape).parameters())

    for make in (generator, critic):
        assert torch.equal(weights(make, 0), weights(make, 0)) and not torch.equal(weights(make, 0), weights(make, 1))


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("law", [ring(), digits("test")])
def test_critics_take_a_gradient_penalty_down_to_every_weight(law: Any, spectral: bool) -> None:
    torch.manual_seed(0)
    T, x = critic(law.shape, spectral=spectral), law.sample(6, torch.Generator().manual_seed(0))
    gradient_penalty(T, x).backward()
    weights = [w.grad for name, w in T.named_parameters() if "bias" not in name]
    assert len(weights) == 3 and all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in weights)
    T.eval()
    alone = torch.cat([T(row[None]) for row in x])
    torch.testing.assert_close(T(x), alone)  # a sample's score does not depend on its batch


def test_a_batch_norm_generator_depends_on_its_batch_until_eval() -> None:
    torch.manual_seed(0)
    g, z = generator((64,)), torch.randn(6, 16)
    assert (g(z)[:3] - g(z[:3])).abs().max() > 1e-3
    g.eval()
    torch.testing.assert_close(g(z)[:3], g(z[:3]))
    with pytest.raises(ValueError, match="BatchNorm1d"):
        gradient_norms(generator((64,)), z)


def test_spectral_norm_makes_the_critic_1_lipschitz() -> None:
    torch.manual_seed(0)
    T, x = critic((2,), spectral=True), torch.randn(500, 2)
    for _ in range(200):
        T(x[:1])  # a power iteration each
    T.eval()
    sizes = [torch.linalg.matrix_norm(m.weight, 2).item() for m in T.modules() if isinstance(m, nn.Linear)]
    assert sizes == pytest.approx([1, 1, 1], abs=1e-3)
    assert gradient_norms(T, x).max() <= 1.001
    assert not [name for name, _ in critic((2,)).named_parameters() if "original" in name]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mlp([3]), ValueError, r"mlp: sizes is \[3\], must have two entries"),
        (lambda: mlp([]), ValueError, r"mlp: sizes is \[\]"),
        (lambda: mlp([3, 0, 1]), ValueError, r"mlp: sizes is 0, must be an int >= 1\."),
        (lambda: mlp([3, cast(Any, 2.0)]), TypeError, r"mlp: sizes is 2\.0 \(float\)"),
        (lambda: mlp([3, True]), TypeError, r"mlp: sizes is True"),
        (lambda: mlp(cast(Any, 5)), TypeError, r"mlp: sizes is 5, must be a list of ints"),
        (lambda: critic(cast(Any, 2)), ValueError, r"critic: shape is 2, must be \(1,\)"),
        (lambda: generator(cast(Any, 64)), ValueError, r"generator: shape is 64, must be \(1,\)"),
        (lambda: generator((2,), 0), ValueError, r"generator: latent is 0"),
        (lambda: generator((8, 8)), ValueError, r"generator: shape is \(8, 8\), must be .*\(64,\)\. Build your own"),
        (lambda: critic((65,)), ValueError, r"critic: shape is \(65,\)"),
        (lambda: critic(()), ValueError, r"critic: shape is \(\)"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
