"""Conditional layer norm: the textbook, hostile input, the start at the plain norm, models changed in place."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import threading
from pathlib import Path
from typing import Any, cast

import _pretended
import numpy as np
import pytest
import safetensors.torch
import torch
from _compare import assert_close, assert_not_worse, randn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.deberta.modeling_deberta import DebertaLayerNorm
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from gantext.kernels import layer_norm, layer_norm_cpu
from gantext.kernels.layer_norm import (
    conditional_layer_norm,
    conditional_layer_norm_backward_ref,
    conditional_layer_norm_ref,
    conditional_rms_norm,
)
from gantext.norm import ConditionalLayerNorm, ConditionalRMSNorm, condition_all_norms, conditioned
from gantext.seq2seq.decoding import sample
from gantext.seq2seq.transformer import Config, Transformer

F64 = torch.float64
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5, F64: 1e-13}
both_routes = pytest.mark.parametrize("numba", [False, True], ids=["PyTorch", "numba"])


def with_gradients(f: Any, tensors: list[Tensor], G: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = f(*leaves)
    return [y.detach(), *grad(y, leaves, G.to(y.dtype))]


def compare(tensors: list[Tensor], eps: float = 1e-5) -> None:
    """Value and gradients against the textbook in float64, in the dtype of each tensor."""
    G = torch.randn(tensors[0].shape).to(tensors[0].dtype)
    out = with_gradients(lambda *t: conditional_layer_norm(*t, eps=eps), tensors, G)
    ref = with_gradients(lambda *t: conditional_layer_norm_ref(*t, eps=eps), [t.double() for t in tensors], G.double())
    for found, want, like in zip(out, ref, [tensors[0], *tensors], strict=True):
        assert found.dtype == like.dtype
        assert_close(found[None], want[None], TOLERANCE[like.dtype]) if want.any() else torch.equal(found, want)


# --- the function


@given(
    sizes=st.tuples(st.integers(0, 3), st.integers(0, 4), st.sampled_from([3, 7, 16, 33])),
    form=st.sampled_from(["all", "one", "sequence", "token", "mixed", "column"]),
    dtype=st.sampled_from(list(TOLERANCE)),
    layout=st.sampled_from(["plain", "sliced", "expanded", "transposed", "chunk"]),
    numba=st.booleans(),
    eps=st.sampled_from([1e-12, 1e-5, 0.1]),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_it_is_the_textbook(
    sizes: tuple[int, int, int], form: str, dtype: torch.dtype, layout: str, numba: bool, eps: float
) -> None:
    B, L, D = sizes
    shapes = {"all": (D,), "one": (1, D), "sequence": (B, D), "token": (B, L, D), "mixed": (B, D), "column": (1, L, D)}
    x, gamma, beta = (randn(*s, dtype=dtype) for s in (sizes, shapes[form], (B, L, D) if form == "mixed" else (B, D)))
    if layout == "sliced":
        x = torch.stack([x, x], -1)[..., 0]
    elif layout == "expanded":
        x = x[:, :1].expand(B, L, D)
    elif layout == "transposed":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "chunk":
        gamma = torch.cat([gamma, gamma], -1).chunk(2, -1)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
        compare([x, gamma, beta], eps)


@both_routes
def test_batches_of_rows_and_of_images(numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
    compare([randn(6), randn(6), randn(6)])
    compare([randn(5, 6), randn(5, 6), randn(6)])
    compare([randn(2, 3, 4, 6), randn(2, 6), randn(1, 6)])
    compare([randn(2, 3, 4, 6), randn(2, 1, 4, 6), randn(2, 6)])
    compare([randn(2, 3, 6).float(), randn(2, 6), randn(2, 6).bfloat16()])
    compare([randn(2, 3, 6).bfloat16(), randn(2, 6).float(), randn(2, 6).float()])


def test_who_computes_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []
    compiled = layer_norm_cpu.backward
    monkeypatch.setattr(layer_norm, "FEW", 105)
    monkeypatch.setattr(
        layer_norm_cpu, "backward", lambda grad, x, *r: (calls.append(x.shape), compiled(grad, x, *r))[1]
    )
    compare([randn(3, 5, 7), randn(3, 7), randn(3, 7)])
    compare([randn(3, 2, 5, 7), randn(1, 7), randn(3, 7)])
    assert calls == [(3, 5, 7), (3, 10, 7)]
    compare([randn(3, 4, 7), randn(3, 7), randn(3, 7)])  # few numbers
    compare([randn(3, 5, 7), randn(7), randn(7)])  # one for all: PyTorch's own norm
    compare([randn(3, 5, 7), randn(3, 5, 7), randn(3, 7)])  # one for each token
    x, gamma = randn(3, 5, 7), randn(3, 7).requires_grad_()
    grad(conditional_layer_norm(x, gamma, gamma).sum(), gamma, create_graph=True)
    monkeypatch.setattr(layer_norm, "_compiles", lambda: False)
    compare([randn(3, 5, 7), randn(3, 7), randn(3, 7)])
    assert len(calls) == 2


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_threads_change_no_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, G = [randn(*s, dtype=dtype) for s in ((5, 70, 33), (5, 33), (5, 33))], randn(5, 70, 33, dtype=dtype)
    monkeypatch.setattr(layer_norm, "FEW", 0)
    one = with_gradients(conditional_layer_norm, tensors, G)
    monkeypatch.setattr(layer_norm_cpu, "PART", 2000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all(map(torch.equal, one, with_gradients(conditional_layer_norm, tensors, G)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of torch.func.jvp itself
def test_transforms_and_forward_mode_go_through_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0)
    x, gamma, beta, dx, dgamma = randn(2, 3, 5), randn(2, 5), randn(2, 5), randn(2, 3, 5), randn(2, 5)
    f = lambda x, gamma: conditional_layer_norm(x, gamma, beta)
    ref = lambda x, gamma: conditional_layer_norm_ref(x, gamma, beta)
    same = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    same(torch.func.jvp(f, (x, gamma), (dx, dgamma)), torch.func.jvp(ref, (x, gamma), (dx, dgamma)))
    same(torch.func.jacrev(f)(x, gamma), torch.func.jacrev(ref)(x, gamma))
    leaf = gamma.clone().requires_grad_()  # outside of the transform
    same(
        torch.func.grad(lambda x: f(x, leaf).square().sum())(x),
        torch.func.grad(lambda x: ref(x, gamma).square().sum())(x),
    )
    same(torch.vmap(f, (None, 0))(x, torch.stack([leaf, leaf])), torch.stack([ref(x, gamma)] * 2))
    tangent = torch.func.jvp(ref, (x, gamma), (dx, 0 * dgamma))[1]
    with forward_ad.dual_level():
        same(forward_ad.unpack_dual(f(forward_ad.make_dual(x, dx), leaf)).tangent, tangent)


@both_routes
def test_a_batch_of_gradients_is_each_of_them(numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
    tensors, G = [t.requires_grad_() for t in (randn(2, 3, 5), randn(2, 5), randn(2, 5))], randn(4, 2, 3, 5)
    out = conditional_layer_norm(tensors[0], tensors[1], tensors[2])
    each = [grad(out, tensors, g, retain_graph=True) for g in G]
    for create_graph in (False, True):
        found = grad(out, tensors, G, is_grads_batched=True, retain_graph=True, create_graph=create_graph)
        for batched, *alone in zip(found, *each, strict=True):
            torch.testing.assert_close(batched.detach(), torch.stack(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
@both_routes
def test_gradcheck_and_gradgradcheck(shape: tuple[int, ...], numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
    tensors = [t.requires_grad_() for t in (randn(2, 2, 3), randn(*shape), randn(*shape))]
    assert gradcheck(conditional_layer_norm, tensors) and gradgradcheck(conditional_layer_norm, tensors)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 4, 5), (1, 4, 5)])
def test_the_written_gradient_is_that_of_autograd(shape: tuple[int, ...]) -> None:
    tensors, G = [randn(3, 4, 5), randn(*shape), randn(*shape)], randn(3, 4, 5)
    want = with_gradients(conditional_layer_norm_ref, tensors, G)[1:]
    found = conditional_layer_norm_backward_ref(G, tensors[0], tensors[1])
    for ours, theirs in zip(found, want, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@both_routes
def test_a_large_mean_costs_no_more_than_pytorchs_own(numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
    x, gamma, beta, G = 1e4 + torch.randn(2, 8, 64), torch.randn(2, 64), torch.randn(2, 64), torch.randn(2, 8, 64)
    exact = with_gradients(conditional_layer_norm_ref, [t.double() for t in (x, gamma, beta)], G.double())
    ours = with_gradients(conditional_layer_norm, [x, gamma, beta], G)
    own = with_gradients(lambda x, g, b: F.layer_norm(x, (64,)) * g[:, None] + b[:, None], [x, gamma, beta], G)
    for a, b, c in zip(ours, own, exact, strict=True):
        assert_not_worse(a[None], b[None], c[None])
    naive = (x.square().mean(-1) - x.mean(-1).square() + 1e-5).sqrt()  # the one-pass variance loses everything
    spread = x.double().std(-1, correction=0)
    assert not ((naive.double() / spread - 1).abs() < 0.1).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30])
@pytest.mark.parametrize("D", [1, 2, 7])
def test_constant_rows_give_beta_and_finite_gradients(value: float, D: int) -> None:
    x = torch.full((2, 3, D), value).requires_grad_()
    gamma, beta = torch.randn(2, D), torch.randn(2, D)
    y = conditional_layer_norm(x, gamma, beta)
    torch.testing.assert_close(y, beta[:, None].expand(2, 3, D), rtol=0, atol=1e-5 if abs(value) < 1 else 0.5)
    (slope,) = grad((y * torch.randn(2, 3, D)).sum(), x, create_graph=True)
    (second,) = grad(slope.square().sum(), x, allow_unused=True, materialize_grads=True)
    assert slope.isfinite().all() and second.isfinite().all()
    if D == 1:
        assert (slope == 0).all()


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1e4, 1e12])
def test_tiny_and_huge_rows(size: float) -> None:
    compare(
        [randn(2, 3, 16, dtype=torch.float32) * size, *(randn(2, 16, dtype=torch.float32) for _ in range(2))], 1e-12
    )


def test_a_bad_row_spoils_itself_alone() -> None:
    x = torch.randn(2, 4, 6)
    x[0, 1, 2], x[1, 3] = torch.nan, torch.inf
    bad = conditional_layer_norm(x, torch.randn(2, 6), torch.randn(2, 6)).isnan().any(-1)
    assert bad.tolist() == [[False, True, False, False], [False, False, False, True]]


def test_a_scale_of_zero_or_less_is_a_scale() -> None:
    x = randn(2, 5, 6)
    gamma = torch.tensor([[0.0, -1.0, 1.0, 0.0, -1e-30, 2.0]] * 2, dtype=F64)
    compare([x, gamma, randn(2, 6)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_half_types_are_summed_in_float32(dtype: torch.dtype) -> None:
    tensors = [randn(2, 512, 64, dtype=dtype), randn(2, 64, dtype=dtype), randn(2, 64, dtype=dtype)]
    compare(tensors)
    G = (0.5 + torch.randn(2, 512, 64)).to(dtype)
    exact = with_gradients(conditional_layer_norm_ref, [t.double() for t in tensors], G.double())
    ours = with_gradients(conditional_layer_norm, tensors, G)
    own = with_gradients(
        lambda x, g, b: torch.stack([F.layer_norm(*r[:1], (64,), *r[1:]) for r in zip(x, g, b, strict=True)]),
        tensors,
        G,
    )
    gap = lambda out, k: ((out[k].double() - exact[k]).norm() / exact[k].norm()).item()
    assert all(gap(own, k) > 5 * gap(ours, k) for k in (2, 3))  # PyTorch's own on a CPU keeps partial sums in half


def test_with_common_parameters_it_is_layer_norm_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    for D in (1, 3, 8, 17, 100, 768):
        for dtype in (torch.float32, F64):
            x, beta = 3 * randn(4, 9, D, dtype=dtype) + 1, randn(D, dtype=dtype)
            gamma = randn(D, dtype=dtype).requires_grad_()
            want = F.layer_norm(x, (D,), gamma, beta)
            for numba in (True, False):
                monkeypatch.setattr(layer_norm, "FEW", 0 if numba else 2**60)
                for shape in ((D,), (1, D), (4, D), (4, 9, D)):
                    out = conditional_layer_norm(x, gamma.expand(shape), beta.expand(shape))
                    assert torch.equal(out, want), (D, dtype, numba, shape)


def test_the_compiler_sees_the_formula() -> None:
    seen: list[list[str]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        seen.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    x, gamma, beta = torch.randn(3, 512, 128), torch.randn(3, 128), torch.randn(3, 128)
    compiled = torch.compile(conditional_layer_norm, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x, gamma, beta), conditional_layer_norm(x, gamma, beta))
    ((*names,),) = seen
    assert sum("layer_norm" in name for name in names) == 1 and not any("stack" in name for name in names)


def test_bad_arguments() -> None:
    x, g = torch.randn(2, 3, 4), torch.randn(2, 4)
    f = conditional_layer_norm
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (TypeError, "x is list", (x.tolist(), g, g)),
        (TypeError, "x is torch.int64", (x.long(), g, g)),
        (TypeError, "gamma is torch.complex64", (x, g.to(torch.complex64), g)),
        (TypeError, "beta is NoneType", (x, g, None)),
        (TypeError, "gamma is torch.float32 torch.sparse_coo", (x, g.to_sparse(), g)),
        (ValueError, r"gamma has shape \(2, 5\) on cpu, must end", (x, torch.randn(2, 5), g)),
        (ValueError, r"beta has shape \(4, 4\).*repeat_interleave", (x, g, torch.randn(4, 4))),
        (ValueError, r"gamma has shape \(2, 2, 4\)", (x, torch.randn(2, 2, 4), g)),
        (ValueError, r"gamma has shape \(1, 2, 3, 4\)", (x, torch.randn(1, 2, 3, 4), g)),
        (ValueError, r"gamma has shape \(2, 4\) for x of shape \(4,\)", (x[0, 0], g, g)),
        (ValueError, r"gamma has shape \(2, 4\) on meta", (x, g.to("meta"), g)),
        (ValueError, r"x has shape \(2, 3, 0\)", (x[..., :0], g, g)),
        (ValueError, r"x has shape \(\)", (x[0, 0, 0], g, g)),
        (ValueError, "eps is 0", (x, g, g, 0)),
        (TypeError, "eps is '1'", (x, g, g, "1")),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message):
            f(*arguments)
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        f(x, g, g, backend="cuda")
    with pytest.raises(ValueError, match=r"there is no GPU kernel|Triton is not installed"):
        f(x, g, g, backend="triton")
    for kind, upstream in ((TypeError, None), (TypeError, x.long()), (ValueError, x[:1]), (ValueError, x.to("meta"))):
        with pytest.raises(kind, match=r"^conditional_layer_norm_backward_ref: grad is .*, must be .* as x"):
            conditional_layer_norm_backward_ref(upstream, x, g)  # type: ignore[arg-type]  # what is refused


# --- the module


@pytest.mark.parametrize("hidden", [None, 3])
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
def test_it_starts_as_the_layer_norm_exactly(hidden: int | None, affine: bool, bias: bool) -> None:
    norm = nn.LayerNorm(6, 1e-7, affine, bias)
    for p in norm.parameters():
        nn.init.normal_(p)
    new = ConditionalLayerNorm.from_layer_norm(norm.eval(), 4, hidden_size=hidden)
    x = torch.randn(3, 5, 6)
    for condition in (torch.randn(4), torch.randn(3, 4), torch.randn(1, 4), 100 * torch.randn(3, 5, 4)):
        assert torch.equal(new(x, condition), norm(x))
    assert new.weight is norm.weight and new.bias is norm.bias and new.eps == norm.eps and not new.training
    for W in (new.W_gamma, new.W_beta):
        nn.init.normal_(W)
    condition = torch.randn(3, 4)
    h = condition if new.W_hidden is None else F.silu(condition @ new.W_hidden.T)
    scale = (1 if norm.weight is None else norm.weight) + h @ new.W_gamma.T
    shift = (0 if norm.bias is None else norm.bias) + h @ new.W_beta.T
    torch.testing.assert_close(new(x, condition), conditional_layer_norm_ref(x, scale, shift, 1e-7))
    torch.testing.assert_close(new(x[1:2], condition[1]), new(x, condition)[1:2])
    each = new(x, condition[:, None].expand(3, 5, 4))
    torch.testing.assert_close(each, new(x, condition))


def test_first_gradients_and_what_two_zero_layers_do() -> None:
    norm, embed = ConditionalLayerNorm(6, 4, hidden_size=3).double(), nn.Embedding(3, 4).double()
    x, G, labels = randn(3, 5, 6), randn(3, 5, 6), torch.arange(3)
    wanted = list(dict(norm.named_parameters()).values())
    grads = dict(zip(dict(norm.named_parameters()), grad((norm(x, embed(labels)) * G).sum(), wanted), strict=True))
    _, dG, dB = conditional_layer_norm_backward_ref(G, x, torch.ones(3, 6, dtype=F64))
    assert norm.W_hidden is not None
    h = F.silu(embed(labels) @ norm.W_hidden.T)
    torch.testing.assert_close(grads["W_gamma"], dG.T @ h)
    torch.testing.assert_close(grads["W_beta"], dB.T @ h)
    torch.testing.assert_close(grads["weight"], dG.sum(0))
    assert (grads["W_gamma"] != 0).all() and (grads["W_hidden"] == 0).all()
    nn.init.zeros_(norm.W_hidden)  # two zero maps in a row: no gradient anywhere, for ever
    found = grad((norm(x, embed(labels)) * G).sum(), [norm.W_gamma, norm.W_beta, norm.W_hidden, embed.weight])
    assert all((g == 0).all() for g in found)


def test_module_raises_rather_than_guess() -> None:
    norm, x = ConditionalLayerNorm(6, 4), torch.randn(4, 5, 6)
    with pytest.raises(RuntimeError, match="condition is missing"):
        norm(x)
    for shape in ((2, 4), (3, 4), (8, 4), (4, 4, 4), (1, 1, 1, 4)):
        with pytest.raises(ValueError, match="for input of shape"):
            norm(x, torch.randn(shape))
    with pytest.raises(ValueError, match="must end with 4"):
        norm(x, torch.randn(4, 3))
    with pytest.raises(TypeError, match="Embed labels"):
        norm(x, torch.arange(4))
    for kind, arguments in (
        (TypeError, {"normalized_shape": (6,)}),
        (ValueError, {"condition_size": 0}),
        (ValueError, {"eps": -1.0}),
        (TypeError, {"hidden_size": 2.0}),
        (TypeError, {"activation": "silu", "hidden_size": 2}),
        (ValueError, {"backend": "cuda"}),
    ):
        with pytest.raises(kind, match=next(iter(arguments))):
            ConditionalLayerNorm(**{"normalized_shape": 6, "condition_size": 4, **arguments})
    with pytest.raises(TypeError, match=r"condition is torch.float32 torch.sparse_coo, must be a dense floating"):
        ConditionalLayerNorm(4, 2)(torch.ones(2, 4), torch.eye(2).to_sparse())
    for call in (lambda m: condition_all_norms(m, 2), lambda m: conditioned(m, None).__enter__()):
        with pytest.raises(TypeError, match=r"module is \[.*\] \(list\), must be a Module"):
            call(cast(Any, [nn.LayerNorm(4)]))
    with pytest.raises(TypeError, match=r"select is '0' \(str\), must be a Callable"):
        condition_all_norms(nn.Sequential(nn.LayerNorm(4)), 2, select=cast(Any, "0"))
    with pytest.raises(TypeError, match=r"Use ConditionalRMSNorm.from_rms_norm"):
        ConditionalLayerNorm.from_layer_norm(nn.RMSNorm(4), 3)
    with pytest.raises(TypeError, match=r"Use ConditionalLayerNorm.from_layer_norm"):
        ConditionalRMSNorm.from_rms_norm(nn.LayerNorm(4), 3)
    for other in (ConditionalLayerNorm(4, 2), ConditionalRMSNorm(4, 2), "norm"):
        with pytest.raises(TypeError, match="must be a norm without a condition"):
            ConditionalLayerNorm.from_layer_norm(other, 3)  # pyright: ignore[reportArgumentType]  # that is the point


class Named(nn.LayerNorm):
    """A name of its own, and nothing else."""


class NamedRMS(nn.RMSNorm):
    """The same of the other kind."""


class Scaled(nn.LayerNorm):
    """PyTorch's arithmetic with a parameter more, which would be lost."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.scale = nn.Parameter(torch.ones(()))


def test_a_subclass_that_computes_as_pytorchs_is_taken_for_it() -> None:
    model, x = nn.Sequential(Named(4, eps=0.1), NamedRMS(4), Named(4, elementwise_affine=False)), torch.randn(3, 4)
    want = model(x)
    assert condition_all_norms(model, 2) == ["0", "1", "2"]
    with conditioned(model, torch.randn(3, 2)):
        assert torch.equal(model(x), want)
    with pytest.raises(TypeError, match="nothing else to keep"):
        condition_all_norms(nn.Sequential(Scaled(4)), 2)


@pytest.mark.parametrize("build", [nn.LayerNorm, nn.RMSNorm, LlamaRMSNorm])
def test_what_would_be_lost_is_refused(build: Any) -> None:
    def changed(change: Any) -> nn.Module:
        change(norm := build(4))
        return norm

    for change in (
        lambda norm: norm.register_forward_hook(lambda *_: None),
        lambda norm: norm.register_forward_pre_hook(lambda *_: None),
        lambda norm: norm.register_full_backward_hook(lambda *_: None),
        lambda norm: norm.register_full_backward_pre_hook(lambda *_: None),
        lambda norm: setattr(norm, "forward", lambda x: x),  # as accelerate does for models over several devices
        lambda norm: register_parametrization(norm, "weight", nn.Softplus()),
        lambda norm: prune.identity(norm, "weight"),
    ):
        model = nn.Sequential(nn.Linear(4, 4), changed(change))
        with pytest.raises(ValueError, match="must be without hooks"):
            condition_all_norms(model, 3)
        assert not any(isinstance(m, ConditionalLayerNorm | ConditionalRMSNorm) for m in model)
    for norm in (nn.LayerNorm([2, 4]), nn.RMSNorm([2, 4])):
        with pytest.raises(ValueError, match="over one dimension"):
            condition_all_norms(nn.Sequential(norm), 3)


def test_a_condition_holds_within_and_ends_with_the_block() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.LayerNorm(6))
    x, a, b = torch.randn(4, 5, 3), torch.randn(4, 2), torch.randn(4, 2)
    plain = model(x)
    assert condition_all_norms(model, 2, select=lambda name: name == "3") == ["3"]
    assert condition_all_norms(model, 2) == ["1"]
    for name, p in model.named_parameters():
        if "W_" in name:
            nn.init.normal_(p)
    explicit = lambda c: model[3](model[2](model[1](model[0](x), c)), c)
    with conditioned(model, a):
        assert torch.equal(model(x), explicit(a))
        with conditioned(model, b):
            assert torch.equal(model(x), explicit(b))
        with conditioned(model, None):
            assert torch.equal(model(x), plain)
        with pytest.raises(KeyError), conditioned(model, b):
            raise KeyError
        assert torch.equal(model(x), explicit(a))
    with pytest.raises(RuntimeError, match="condition is missing"):
        model(x)
    for bad, kind in ((torch.randn(4, 3), ValueError), (torch.arange(2), TypeError)):
        with pytest.raises(kind), conditioned(model, bad):
            pass
    with pytest.raises(ValueError, match="without conditional norms"), conditioned(nn.Linear(2, 2), a):
        pass
    a = a.requires_grad_()
    with conditioned(model, a):
        assert grad(model(x).square().sum(), a)[0].norm() > 0.1


def test_another_thread_is_refused_not_served() -> None:
    norm, x, found = ConditionalLayerNorm(4, 2), torch.randn(3, 4), []
    nn.init.normal_(norm.W_gamma)

    def other() -> None:
        try:
            with conditioned(norm, torch.zeros(2)):
                found.append("served")
        except RuntimeError as error:
            found.append(str(error))

    with conditioned(norm, torch.ones(2)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert torch.equal(norm(x), norm(x, torch.ones(2))) and not torch.equal(norm(x), norm(x, torch.zeros(2)))
    assert "by another thread" in found[0]
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found[1:] == ["served"]


def test_beams_take_their_sequences_condition_in_blocks() -> None:
    norm = ConditionalLayerNorm(4, 3)
    nn.init.normal_(norm.W_gamma)
    x, c = torch.randn(6, 5, 4), torch.randn(2, 3)
    with conditioned(norm, c), pytest.raises(ValueError, match="beams=True"):
        norm(x)
    with conditioned(norm, c, beams=True):
        assert torch.equal(norm(x), norm(x, c[[0, 0, 0, 1, 1, 1]]))
        assert torch.equal(norm(x[:2]), norm(x[:2], c))
        with pytest.raises(ValueError, match="for input of shape"):
            norm(x[:3])


def test_shared_norms_stay_shared_and_refusals_change_nothing() -> None:
    norm = nn.LayerNorm(4)
    model = nn.ModuleDict({"a": norm, "b": nn.Sequential(nn.Linear(4, 4), norm)})
    assert condition_all_norms(model, 2, hidden_size=3) == ["a", "b.1"]
    assert model["a"] is model.get_submodule("b.1") and isinstance(model["a"], ConditionalLayerNorm)
    with pytest.raises(ValueError, match=r"must contain at least one.*ConditionalLayerNorm': 1"):
        condition_all_norms(model, 2)
    for build in (nn.LayerNorm, nn.RMSNorm):
        with pytest.raises(ValueError, match=r"from_layer_norm or ConditionalRMSNorm.from_rms_norm"):
            condition_all_norms(build(4), 2)
    images = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"Norms met: {'BatchNorm2d': 2, 'GroupNorm': 1}"):
        condition_all_norms(images, 2)
    assert condition_all_norms(nn.Sequential(images, nn.LayerNorm(4)), 2) == ["1"]


class Loud(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that PyTorch gives it
        return 2 * super().forward(input)


class OwnRMSNorm(nn.Module):
    """A family of norms by its options; as in many programs, with no base class of PyTorch's."""

    def __init__(self, width: int = 8, kind: str = "") -> None:
        super().__init__()
        self.kind = kind
        if kind != "no weight":
            self.weight = nn.Parameter(torch.ones(width))
        if kind == "two":
            self.other = nn.Parameter(torch.ones(width))
        if kind == "matrix":
            self.weight = nn.Parameter(torch.ones(width, width))
        if kind == "buffer":
            self.register_buffer("running", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = x.float() / (x.float().square().mean(-1, keepdim=True) + 1e-6).sqrt()
        match self.kind:
            case "no weight":
                return y
            case "matrix":
                return y @ self.weight
            case "square":
                return y * self.weight.square()
            case "L1":
                return x / x.abs().mean(-1, keepdim=True) * self.weight
            case "fused":
                return F.rms_norm(x, (x.shape[-1],), self.weight)
        return (y * self.weight).to(x.dtype)


class OwnRMSNormGated(OwnRMSNorm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return super().forward(x) * (1 if gate is None else gate)


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (Loud(8), "take a weight for each sequence"),
        (OwnRMSNorm(kind="fused"), "take a weight for each sequence"),
        (OwnRMSNorm(kind="no weight"), "have a weight"),
        (OwnRMSNorm(kind="two"), "have a weight"),
        (OwnRMSNorm(kind="matrix"), "have a weight"),
        (OwnRMSNorm(kind="buffer"), "have a weight"),
        (OwnRMSNorm(kind="square"), "compute weight or 1"),
        (OwnRMSNorm(kind="L1"), "compute weight or 1"),
        (OwnRMSNormGated(), "take one tensor and nothing else, such as a gate"),
    ],
)
def test_norms_that_are_something_else_are_refused_with_the_reason_and_the_remedy(norm: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.LayerNorm(8), nn.Sequential(norm), OwnRMSNorm())
    with pytest.raises(TypeError, match=rf"{type(norm).__name__}.*must {reason}.*select.*\['1.0'") as caught:
        condition_all_norms(model, 2)
    assert type(model[0]) is nn.LayerNorm and "by hand" in str(caught.value)
    assert condition_all_norms(model, 2, select=lambda name: name != "1.0") == ["0", "2"]


def test_trying_a_norm_leaves_it_and_the_random_numbers_alone() -> None:
    model = nn.Sequential(LlamaRMSNorm(8), OwnRMSNorm(), nn.LayerNorm(8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    condition_all_norms(model, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(model.get_parameter(name), p) for name, p in before.items())
    assert [name for name, _ in model.named_parameters()] == [
        *(f"{k}.{name}" for k in (0, 1) for name in ("weight", "W_gamma", "W_beta")),
        *(f"2.{name}" for name in ("weight", "bias", "W_gamma", "W_beta")),
    ]
    assert len(list(model.modules())) == 4


# --- RMS norm


def rms_textbook(x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    place = lambda t: t if t.dim() in (1, x.dim()) else t.reshape(len(t), *(1,) * (x.dim() - 2), t.shape[-1])
    return place(gamma) * x / (x.square().mean(-1, keepdim=True) + eps).sqrt() + place(beta)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_the_rms_norm_is_the_textbook(dtype: torch.dtype) -> None:
    for x, gamma, beta in (
        ((2, 3, 7), (2, 7), (7,)),
        ((2, 3, 7), (2, 3, 7), (1, 7)),
        ((5, 7), (5, 7), (5, 7)),
        ((2, 3, 4, 6), (2, 6), (2, 1, 4, 6)),
        ((6,), (6,), (6,)),
        ((0, 3, 4), (0, 4), (4,)),
        ((2, 3, 1), (2, 1), (1,)),
    ):
        tensors = [randn(*shape, dtype=dtype) for shape in (x, gamma, beta)]
        G = randn(*x, dtype=dtype)
        out = with_gradients(functools.partial(conditional_rms_norm, eps=1e-5), tensors, G)
        ref = with_gradients(rms_textbook, [t.double() for t in tensors], G.double())
        for found, want in zip(out, ref, strict=True):
            assert found.dtype == dtype and found.shape == want.shape
            size = want.abs().max().item() if want.numel() else 1.0
            torch.testing.assert_close(found.double(), want, rtol=0, atol=2 * TOLERANCE[dtype] * max(size, 1))


def test_gradcheck_and_gradgradcheck_of_the_rms_norm() -> None:
    tensors = [t.requires_grad_() for t in (randn(2, 2, 3), randn(2, 3), randn(2, 2, 3))]
    f = lambda *t: conditional_rms_norm(*t, eps=0.1)
    assert gradcheck(f, tensors) and gradgradcheck(f, tensors)


def test_bad_arguments_of_the_rms_norm() -> None:
    x, g = torch.randn(2, 3, 4), torch.randn(2, 4)
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (TypeError, "conditional_rms_norm: x is torch.int64", (x.long(), g, g)),
        (ValueError, r"conditional_rms_norm: gamma has shape \(2, 5\)", (x, torch.randn(2, 5), g)),
        (ValueError, r"conditional_rms_norm: beta has shape \(4, 4\)", (x, g, torch.randn(4, 4))),
        (ValueError, "conditional_rms_norm: eps is 0", (x, g, g, 0)),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message):
            conditional_rms_norm(*arguments)


@pytest.mark.parametrize("hidden", [None, 3])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_it_starts_as_the_rms_norm_exactly(hidden: int | None, affine: bool, eps: float | None, dtype: Any) -> None:
    norm = nn.RMSNorm(6, eps, affine, dtype=dtype)
    for p in norm.parameters():
        nn.init.normal_(p)
    new = ConditionalRMSNorm.from_rms_norm(norm.eval(), 4, hidden_size=hidden, dtype=dtype)
    x = 1e-3 * torch.randn(3, 5, 6, dtype=dtype)  # small enough for the epsilon to be seen
    for condition in (torch.randn(4), torch.randn(3, 4), torch.randn(1, 4), 100 * torch.randn(3, 5, 4)):
        assert torch.equal(new(x, condition), norm(x))
    assert new.weight is norm.weight and new.eps == norm.eps and not new.training
    for W in (new.W_gamma, new.W_beta):
        nn.init.normal_(W)
    condition = torch.randn(3, 4, dtype=dtype)
    h = condition if new.W_hidden is None else F.silu(condition @ new.W_hidden.T)
    scale = torch.ones(6, dtype=F64) if norm.weight is None else norm.weight.double()
    want = rms_textbook(
        x.double(),
        scale + (h @ new.W_gamma.T).double(),
        (h @ new.W_beta.T).double(),
        eps or torch.finfo(torch.promote_types(dtype, torch.float32)).eps,
    )
    torch.testing.assert_close(new(x, condition).double(), want, rtol=0, atol=10 * TOLERANCE[dtype])
    with conditioned(new, None):
        assert torch.equal(new(x), norm(x))


# name, the class, what is added to its weight, whether it removes the mean
LIBRARIES = [
    (LlamaRMSNorm, 0, False),
    (MistralRMSNorm, 0, False),
    (Qwen2RMSNorm, 0, False),
    (Olmo2RMSNorm, 0, False),
    (T5LayerNorm, 0, False),
    (Gemma3nRMSNorm, 0, False),
    (GemmaRMSNorm, 1, False),
    (Gemma2RMSNorm, 1, False),
    (CohereLayerNorm, 0, True),
    (DebertaLayerNorm, 0, True),
    (OwnRMSNorm, 0, False),
]


@pytest.mark.parametrize(("build", "offset", "centred"), LIBRARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_norms_of_libraries_keep_their_arithmetic(build: Any, offset: int, centred: bool, dtype: Any) -> None:
    norm = build(8)
    for p in norm.parameters():
        nn.init.normal_(p)
    model = nn.Sequential(copy.deepcopy(norm).to(dtype))
    assert condition_all_norms(model, 3) == ["0"]
    new: Any = model[0]
    assert type(new) is (ConditionalLayerNorm if centred else ConditionalRMSNorm) and new.W_gamma.dtype == dtype
    plain, x, c = norm.to(dtype), torch.randn(2, 5, 8, dtype=dtype), torch.randn(2, 3)
    for rows in (x, x.float(), x.to(torch.bfloat16)):  # what T5 keeps in float32, what autocast makes
        want = plain(rows)
        assert torch.equal(new(rows, c), want) and new(rows, c).dtype == want.dtype
        with conditioned(model, None):
            assert torch.equal(model(rows), want)
    for W in (new.W_gamma, new.W_beta):
        nn.init.normal_(W)
    moved = copy.deepcopy(plain)
    for k in range(2):  # the weight of each sequence, put into the norm itself
        gamma, beta = new.gamma_beta(c[k])
        moved.weight.data = gamma.to(dtype)
        want = moved(x[k]) + beta.to(dtype) - (0 if new.bias is None else plain.bias)
        torch.testing.assert_close(new(x, c)[k], want.to(dtype), rtol=0, atol=20 * TOLERANCE[dtype])
    n = F.layer_norm(x.double(), (8,), eps=1e-6) if centred else F.rms_norm(x.double(), (8,), eps=1e-6)
    gamma, beta = (t.double()[:, None] for t in new.gamma_beta(c))
    torch.testing.assert_close(new(x, c).double(), n * (gamma + offset) + beta, rtol=0, atol=40 * TOLERANCE[dtype])
    assert ("scale = 1 + weight" in repr(new)) == bool(offset) and type(norm).__name__ in repr(new)


# --- the habits of a module of PyTorch

MODULES: dict[str, Any] = {
    "layer": lambda **o: ConditionalLayerNorm(6, 4, **o),
    "layer, hidden": lambda **o: ConditionalLayerNorm(6, 4, hidden_size=3, **o),
    "layer, no bias": lambda **o: ConditionalLayerNorm(6, 4, bias=False, **o),
    "layer, no weight": lambda **o: ConditionalLayerNorm(6, 4, elementwise_affine=False, **o),
    "RMS": lambda **o: ConditionalRMSNorm(6, 4, **o),
    "RMS, hidden, no weight": lambda **o: ConditionalRMSNorm(6, 4, None, False, hidden_size=3, **o),
    "Llama": lambda **o: ConditionalRMSNorm.from_rms_norm(LlamaRMSNorm(6).to(**o), 4, hidden_size=3),
    "Gemma": lambda **o: ConditionalRMSNorm.from_rms_norm(GemmaRMSNorm(6).to(**o), 4),
    "Deberta": lambda **o: ConditionalLayerNorm.from_layer_norm(DebertaLayerNorm(6).to(**o), 4),
}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES.keys())


def lively(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.normal_(p)
    return module


@every_module
def test_reset_parameters_fills_everything(make: Any) -> None:
    fresh, norm = make(), make(device="meta")
    assert all(p.is_meta for p in norm.parameters())
    norm.to_empty(device="cpu")
    for p in norm.parameters():
        p.data.fill_(torch.nan)  # what to_empty may hold
    norm.reset_parameters()
    for (name, p), q in zip(norm.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q) or (name == "W_hidden" and p.isfinite().all() and p.unique().numel() == p.numel())
        assert name != "W_hidden" or 0 < p.abs().max() < q.abs().max() * 3
    x, c = torch.randn(3, 5, 6), torch.randn(3, 4)
    assert torch.equal(norm(x, c), fresh(x, c))


@every_module
@pytest.mark.parametrize("through", ["deepcopy", "pickle", "torch.save", "state dict"])
def test_copies_and_files_hold_the_norm_and_no_condition(make: Any, through: str) -> None:
    norm, x, c = lively(make()), torch.randn(3, 5, 6), torch.randn(3, 4)
    want = norm(x, c)
    with conditioned(norm, c.clone().requires_grad_() * 2):  # with a graph: PyTorch refuses to copy such a tensor
        if through == "deepcopy":
            other = copy.deepcopy(norm)
        elif through == "pickle":
            other = pickle.loads(pickle.dumps(norm))
        elif through == "torch.save":
            torch.save(norm, file := io.BytesIO())
            file.seek(0)
            other = torch.load(file, weights_only=False)
        else:
            other = make()
            other.load_state_dict(norm.state_dict())
        with pytest.raises(RuntimeError, match="condition is missing"):
            other(x)
        with conditioned(other, c):
            assert torch.equal(other(x), want)
        assert torch.equal(norm(x), norm(x, 2 * c))
    assert repr(other) == repr(norm) and all(p.requires_grad for p in other.parameters())


@every_module
def test_moves_and_casts_like_any_module(make: Any) -> None:
    norm, x, c = lively(make()), torch.randn(3, 5, 6), torch.randn(3, 4)
    want = norm(x, c).double()
    for dtype in (F64, torch.bfloat16):
        moved = copy.deepcopy(norm).to(dtype)
        assert {p.dtype for p in moved.parameters()} == {dtype}
        out = moved(x.to(dtype), c)  # the condition follows the maps
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), want, rtol=0, atol=2e-1 if dtype == torch.bfloat16 else 1e-4)
    if getattr(norm, "form", None) is None:  # those of libraries have the scale in their weight's dtype
        quiet = make(dtype=torch.bfloat16)
        nn.init.constant_(quiet.W_gamma, 1e-3)
        gamma = quiet.gamma_beta(torch.ones(4))[0] if quiet.W_hidden is None else torch.full((6,), 1.004)
        assert (abs(gamma.double() - 1.004) < 1e-5).all()  # in bfloat16 it would be 1.0078
    ghost = make(device="meta")
    out = ghost(x.to("meta").requires_grad_(), c)
    assert out.is_meta and out.shape == x.shape and torch.autograd.grad(out.sum(), ghost.W_gamma)[0].is_meta


def test_the_default_dtype_is_followed_as_pytorch_follows_it() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6, elementwise_affine=False), LlamaRMSNorm(6))
    x, c, before = torch.randn(4, 5, 3), torch.randn(4, 2), torch.get_default_dtype()
    want = model(x)
    try:
        torch.set_default_dtype(F64)
        assert {p.dtype for build in MODULES.values() for p in build().parameters()} == {F64}
        condition_all_norms(model, 2)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        with conditioned(model, c):
            assert torch.equal(model(x), want)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("build", [nn.LayerNorm, nn.RMSNorm])
def test_norms_without_weights_get_maps_where_the_model_is(build: Any) -> None:
    bare = lambda: build(4, elementwise_affine=False)
    for change in (lambda m: m.double(), lambda m: m.bfloat16(), lambda m: m.to("meta")):
        model = change(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), bare()), bare()))
        like = model[0].weight
        condition_all_norms(model, 2, hidden_size=3)
        assert all(p.device == like.device and p.dtype == like.dtype for p in model.parameters())
        with conditioned(model, torch.zeros(5, 2)):
            assert model(torch.zeros(5, 3, device=like.device, dtype=like.dtype)).device == like.device
    halves = nn.ModuleList([nn.Sequential(nn.Linear(4, 4).double(), bare()), nn.Sequential(nn.Linear(4, 4), bare())])
    condition_all_norms(halves, 2)  # each by its neighbours
    assert [halves.get_parameter(f"{k}.1.W_gamma").dtype for k in range(2)] == [F64, torch.float32]
    codes = nn.Sequential(nn.Embedding(3, 4).half(), nn.ReLU(), bare())
    codes.register_parameter("quantized", nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False))
    condition_all_norms(codes, 2)
    assert codes.get_parameter("2.W_beta").dtype == torch.float16
    alone = nn.Sequential(bare())
    condition_all_norms(alone, 2)  # nothing near: the default
    assert alone.get_parameter("0.W_gamma").dtype == torch.get_default_dtype()


def test_numpy_numbers_are_numbers() -> None:
    layer: Any = ConditionalLayerNorm
    norm = layer(np.int64(6), np.int32(4), np.float32(1e-3), hidden_size=np.int64(3))
    assert norm.W_gamma.shape == (6, 3) and norm(torch.randn(2, 6), torch.randn(2, 4)).shape == (2, 6)
    rms: Any = ConditionalRMSNorm
    assert rms(np.int64(6), np.int64(4), np.float32(1e-3)).W_beta.shape == (6, 4)
    x, g = torch.randn(2, 3, 6), torch.randn(2, 6)
    f: Any
    for f in (conditional_layer_norm, conditional_rms_norm):
        assert torch.equal(f(x, g, g, np.float64(1e-3)), f(x, g, g, 1e-3))
        assert torch.equal(f(x, g, g, np.float32(1)), f(x, g, g, 1))


@every_module
def test_autocast_keeps_float32_statistics_forwards_and_backwards(make: Any) -> None:
    norm, x, c, G = lively(make()), 100 + torch.randn(3, 40, 6), torch.randn(3, 4), torch.randn(3, 40, 6)
    x.requires_grad_()
    out = norm(x, c)
    want = grad(out, x, G, create_graph=True)[0]
    second = grad(want.square().sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = norm(x, c)
        assert cast.dtype == torch.float32
        found = grad(cast, x, G, create_graph=True)[0]  # within the region, as a gradient penalty has it
        again = grad(found.square().sum(), x)[0]
    near = lambda a, b: (a - b).norm() < 0.02 * b.norm()  # the maps are rounded to bfloat16, the statistics are not
    assert near(cast, out) and near(found, want) and near(again, second)


def test_autocast_does_not_touch_the_operations() -> None:
    x, g, b, G = (
        t.requires_grad_() for t in (100 + torch.randn(3, 40, 64), *torch.randn(2, 3, 64), torch.randn(3, 40, 64))
    )
    for f in (conditional_layer_norm, conditional_rms_norm):
        plain = [*grad(y := f(x, g, b), (x, g, b), G, create_graph=True), y]
        plain += grad(plain[0].square().sum(), x)
        with torch.autocast("cpu", torch.bfloat16):
            cast = [*grad(y := f(x, g, b), (x, g, b), G, create_graph=True), y]
            cast += grad(cast[0].square().sum(), x)
        assert all(map(torch.equal, plain, cast))


@every_module
def test_parametrized_maps_are_used(make: Any) -> None:
    norm, x, c = lively(make()), torch.randn(3, 5, 6), torch.randn(3, 4)
    register_parametrization(norm, "W_gamma", Doubled())
    other = make()
    other.load_state_dict(
        {key.replace("parametrizations.W_gamma.original", "W_gamma"): v for key, v in norm.state_dict().items()}
    )
    other.W_gamma.data *= 2
    with conditioned(norm, c), conditioned(other, c):
        assert torch.equal(norm(x), other(x)) and torch.equal(copy.deepcopy(norm)(x, c), norm(x))
    remove_parametrizations(norm, "W_gamma")
    assert torch.equal(norm(x, c), other(x, c))
    spectral_norm(norm, "W_beta").eval()
    assert torch.linalg.matrix_norm(norm.W_beta, 2) < 1.5 and norm(x, c).isfinite().all()


class Doubled(nn.Module):
    def forward(self, W: Tensor) -> Tensor:
        return 2 * W

    def right_inverse(self, W: Tensor) -> Tensor:
        return W


@every_module
def test_modules_compile_whole(make: Any) -> None:
    norm, x = lively(make()), torch.randn(3, 5, 6)
    torch.compiler.reset()
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    for c in torch.randn(2, 3, 4):
        with conditioned(norm, c):
            torch.testing.assert_close(compiled(x), norm(x))


def test_without_pytorchs_private_functions_the_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_norm, "FEW", 0)
    tensors, G = [randn(2, 3, 5), randn(2, 5), randn(2, 5)], randn(2, 3, 5)
    want = with_gradients(conditional_layer_norm, tensors, G)
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    monkeypatch.delattr(forward_ad, "_current_level")
    for a, b in zip(with_gradients(conditional_layer_norm, tensors, G), want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_every_parameter_has_a_gradient_in_a_distributed_model(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.RMSNorm(6), LlamaRMSNorm(6))
        condition_all_norms(model, 2, hidden_size=3)
        wrapped, x = DistributedDataParallel(model), torch.randn(4, 3)
        for _ in range(3):  # an unused parameter would be an error at the second step
            with conditioned(wrapped, torch.randn(4, 2)):
                wrapped(x).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        with conditioned(wrapped, None):
            wrapped(x).square().sum().backward()
            with pytest.raises(RuntimeError, match="find_unused_parameters"):
                wrapped(x)
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        for condition in (None, torch.randn(4, 2), None):
            with conditioned(wrapped, condition):
                wrapped(x).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()


def test_initialising_linear_layers_leaves_the_start_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    condition_all_norms(model, 2)
    for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
        nn.init.normal_(linear.weight)
    assert all((p == 0).all() for name, p in model.named_parameters() if "W_" in name)


# --- whole models


def bert() -> nn.Module:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    )


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=50,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=32,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SMALL))


def gemma2() -> nn.Module:
    return Gemma2ForCausalLM(Gemma2Config(**SMALL))


def qwen3() -> nn.Module:
    return Qwen3ForCausalLM(Qwen3Config(**SMALL))  # with norms of queries and of keys, (B, L, heads, 8)


FAMILIES = [(bert, 6), (gpt2, 5), (llama, 5), (gemma2, 9), (qwen3, 9)]


@pytest.mark.parametrize(("build", "norms"), FAMILIES, ids=["BERT", "GPT-2", "Llama", "Gemma 2", "Qwen 3"])
@pytest.mark.parametrize("hidden", [None, 3])
def test_hugging_face_models_are_changed_in_place_without_a_change(build: Any, norms: int, hidden: int | None) -> None:
    model = build().eval()
    tokens, condition = torch.randint(1, 50, (3, 9)), torch.randn(3, 4)
    before, old = model(tokens).logits, dict(model.named_parameters())
    assert len(condition_all_norms(model, 4, hidden_size=hidden)) == norms
    kinds = {type(m) for m in model.modules() if "Norm" in type(m).__name__}
    assert kinds == {ConditionalLayerNorm if build in (bert, gpt2) else ConditionalRMSNorm}
    new = dict(model.named_parameters())
    assert all(new[name] is p for name, p in old.items())
    added = {name: p for name, p in new.items() if name not in old}
    assert len(added) == norms * (2 if hidden is None else 3) and all(".W_" in name for name in added)
    with pytest.raises(RuntimeError, match="condition is missing"):
        model(tokens)
    with conditioned(model, condition):
        assert torch.equal(model(tokens).logits, before)
    with conditioned(model, None):
        assert torch.equal(model(tokens).logits, before)
    again = build()
    condition_all_norms(again, 4, hidden_size=hidden)
    again.load_state_dict(model.state_dict())
    with conditioned(copy.deepcopy(model), None), pytest.raises(RuntimeError, match="condition is missing"):
        model(tokens)  # a copy is a model of its own
    optimizer = torch.optim.AdamW(added.values(), 0.05)
    with conditioned(model, condition):
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens).logits.flatten(0, 1), tokens.flatten()).backward()
            optimizer.step()
        changed = model(tokens).logits
    assert (changed - before).abs().max() > 0.01
    with conditioned(model, condition[[1, 0, 2]]):
        swapped = model(tokens).logits
    assert torch.equal(swapped[2], changed[2]) and (swapped[:2] - changed[:2]).abs().max() > 1e-4
    with conditioned(model, None):
        assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_activations_see_the_condition_or_fail(reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.LayerNorm(6))
    condition_all_norms(model, 2)
    for name, p in model.named_parameters():
        if "W_" in name:
            nn.init.normal_(p)
    x, condition = torch.randn(4, 5, 3, requires_grad=True), torch.randn(4, 2)
    saving = lambda: checkpoint(model, x, use_reentrant=reentrant).square().sum()
    wanted = [x, *model.parameters()]
    with conditioned(model, condition):
        want = grad(model(x).square().sum(), wanted)
        saving().backward()
        loss = saving()
    for p, g in zip(wanted, want, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, g)
    with pytest.raises(RuntimeError, match="condition is missing"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("build", [bert, llama, gemma2])
def test_half_models_start_exactly_too(build: Any, dtype: torch.dtype) -> None:
    model, tokens = build().to(dtype).eval(), torch.randint(1, 50, (3, 9))
    before = model(tokens).logits
    condition_all_norms(model, 4)
    with conditioned(model, torch.randn(3, 4)):
        assert torch.equal(model(tokens).logits, before)


def test_t5_in_half_precision_whose_output_layers_stay_in_float32() -> None:
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model: Any = T5ForConditionalGeneration(config)
    model.to(torch.bfloat16).eval()
    for name, m in model.named_modules():
        if name.endswith(".wo"):
            m.float()  # as T5's from_pretrained keeps them
    tokens = torch.randint(1, 50, (3, 9))
    before = model(tokens, decoder_input_ids=tokens).logits
    assert len(condition_all_norms(model, 4)) == 12
    with conditioned(model, torch.randn(3, 4)):
        assert torch.equal(model(tokens, decoder_input_ids=tokens).logits, before)
        lively_maps(model)
        changed = model(tokens, decoder_input_ids=tokens).logits
    assert changed.isfinite().all() and (changed - before).abs().max() > 0.01


def lively_maps(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if "W_" in name:
            nn.init.normal_(p)


class ToldLlama(LlamaForCausalLM):
    """The chapter's: all of `from_pretrained` for a conditional model."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        condition_all_norms(self, config.condition_size, hidden_size=config.condition_hidden)

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        model, report = super().from_pretrained(*args, **options, output_loading_info=True)  # pyright: ignore[reportGeneralTypeIssues]
        for name in {key.rpartition(".")[0] for key in report["missing_keys"] if ".W_" in key}:
            model.get_submodule(name).reset_maps()  # of a checkpoint without maps, as that of the plain model
        return model


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_saved_and_loaded_without_loss(tied: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    options = {"condition_size": 4, "condition_hidden": 3, "tie_word_embeddings": tied}
    config: Any = LlamaConfig(**SMALL, **options)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain = str(tmp_path / "plain")
    model.save_pretrained(plain)
    condition_all_norms(model, 4, hidden_size=3)
    lively_maps(model)
    tokens, c, folder = torch.randint(1, 50, (3, 9)), torch.randn(3, 4), str(tmp_path / "conditional")
    with conditioned(model.eval(), c):
        want = model(tokens).logits
        model.save_pretrained(folder)  # within, as a trainer's callback may
    again = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
    condition_all_norms(again, 4, hidden_size=3)
    safetensors.torch.load_model(again, f"{folder}/model.safetensors")
    whole = ToldLlama.from_pretrained(folder, dtype=dtype).eval()
    for loaded in (again, whole):
        assert {name: p.dtype for name, p in loaded.named_parameters()} == dict.fromkeys(
            dict(model.named_parameters()), dtype
        )
        with conditioned(loaded, c):
            assert torch.equal(loaded(tokens).logits, want)
        assert tied == (loaded.lm_head.weight is loaded.model.embed_tokens.weight)
    with conditioned(whole, c):
        whole.save_pretrained(folder + "-again", max_shard_size="5KB")
    assert len(list((tmp_path / "conditional-again").glob("*.safetensors"))) > 1
    with conditioned(shards := ToldLlama.from_pretrained(folder + "-again", dtype=dtype).eval(), c):
        assert torch.equal(shards(tokens).logits, want)
    start = ToldLlama.from_pretrained(plain, dtype=dtype).eval()  # from a checkpoint without maps: at the start
    old = LlamaForCausalLM.from_pretrained(plain, dtype=dtype).eval()
    for name, p in start.named_parameters():
        assert p.isfinite().all() and ("W_hidden" in name or "W_" not in name or (p == 0).all())
        assert "W_hidden" not in name or (p != 0).any()
    with conditioned(start, c):
        assert torch.equal(start(tokens).logits, old(tokens).logits)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_hugging_face_generation_with_beams(build: Any) -> None:
    model: Any = build().eval()
    condition_all_norms(model, 4)
    for name, p in model.named_parameters():
        if "W_" in name:
            nn.init.normal_(p)
    prompts, condition = torch.randint(1, 50, (3, 4)), torch.randn(3, 4)
    options: dict[str, Any] = {
        "num_beams": 3,
        "max_new_tokens": 5,
        "do_sample": False,
        "attention_mask": torch.ones(3, 4),
    }
    with conditioned(model, condition, beams=True):
        together = model.generate(prompts, **options)
    options["attention_mask"] = torch.ones(1, 4)
    for k in range(3):
        with conditioned(model, condition[k]):
            alone = model.generate(prompts[k : k + 1], **options)[0]
        assert torch.equal(together[k, : len(alone)], alone) and not together[k, len(alone) :].any()


def test_own_transformer_samples_under_a_condition() -> None:
    model = Transformer(Config(12, width=16, layers=2, heads=2, causal=True))
    condition_all_norms(model, 3)
    assert isinstance(model.norm, ConditionalLayerNorm)
    nn.init.normal_(model.norm.W_beta)
    condition = torch.tensor([[9.0, 0, 0], [0, 9.0, 0]])
    with conditioned(model, condition):
        out = sample(model, torch.tensor([[2], [2]]), separator=3, samples=6, steps=5, temperature=0.01)
    with torch.no_grad():
        favourite = (condition @ model.norm.W_beta.T @ model.tokens.weight.T).argmax(-1)
    assert favourite[0] != favourite[1] and 3 not in favourite
    shares = (out.tokens == favourite[:, None, None]).double().mean((1, 2))
    assert (shares > 0.9).all()  # the shift of the last norm is a shift of the log-odds of the words


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # PyTorch's encoder makes one itself
def test_the_fast_paths_of_pytorchs_encoder_do_not_lose_the_condition() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, condition = torch.randn(3, 5, 16), torch.randn(3, 4)
    condition_all_norms(model, 4)
    for name, p in model.named_parameters():
        if "W_" in name:
            nn.init.normal_(p)
    with conditioned(model, None):
        plain = model(x)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    with conditioned(model, condition):
        slow = model(x)
        with torch.inference_mode():
            torch.testing.assert_close(model(x), slow)
            with pytest.raises(ValueError, match="Set use_nested_tensor = False"):
                model(x, src_key_padding_mask=padding)
            model.use_nested_tensor = False
            padded = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(padded[0], slow[0])
    assert (slow - plain).abs().max() > 0.1


def test_conditioned_models_compile_whole() -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6))
    condition_all_norms(model, 2)
    nn.init.normal_(model.get_parameter("1.W_gamma"))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(4, 5, 3)
    for condition in torch.randn(2, 4, 2):
        with conditioned(model, condition):
            torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.skipif(not _pretended.POSSIBLE, reason="this PyTorch lacks what a pretended GPU is made of")
def test_a_gpu_takes_the_kernel_where_it_does_not_wait_for_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from gantext.kernels import layer_norm as operators

    monkeypatch.setattr(operators, "dispatch", lambda *given, **more: "kernel")
    monkeypatch.setattr(operators, "_plain", lambda *given: "plain")
    with _pretended.gpu():
        monkeypatch.delenv("GANTEXT_BACKEND")  # there, it forces plain PyTorch

        def taken(dtype: torch.dtype = torch.float32, rows: int = 3, **more: Any) -> object:
            x, g = torch.zeros(2, rows, 4, device="cuda", dtype=dtype), torch.ones(2, 4, device="cuda")
            return operators.conditional_layer_norm(x, g.to(dtype), g.to(dtype), **more)

        assert taken() == taken(torch.float64) == "plain"
        assert taken(torch.bfloat16) == "kernel"  # plain, it would be six launches
        assert taken(rows=2**19) == "kernel" and taken(backend="triton") == taken(backend="reference") == "kernel"
        with monkeypatch.context() as capturing:
            capturing.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
            assert taken() == "kernel"
        monkeypatch.setenv("GANTEXT_BACKEND", "triton")
        assert taken() == "kernel"
