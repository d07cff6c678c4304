"""The mask, attention without a masked kernel, and the Transformer: definitions, rivals, gradients, bad input."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from _compare import enlarge, errors
from _launches import launches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad, grad, gradcheck, gradgradcheck

from gantext.seq2seq import prefixlm
from gantext.seq2seq.prefixlm import Layout, attention, attention_ref, mask, segment_mask
from gantext.seq2seq.transformer import Config, Transformer

F64 = torch.float64


def close(a: Tensor, b: Tensor, tol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@st.composite
def batches(draw: st.DrawFn, longest: int = 12) -> tuple[int, int, list[int], list[int]]:
    B, S = draw(st.integers(1, 5)), draw(st.integers(1, longest))
    n = draw(st.lists(st.integers(0, S), min_size=B, max_size=B))
    return B, S, [draw(st.integers(0, m)) for m in n], n


# --- mask


@given(batches())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_mask_is_its_definition_and_the_running_sum_of_segments(batch: tuple[Any, ...]) -> None:
    B, S, prefix, n = batch
    want = [[[(j < s or j <= i) and j < m for j in range(S)] for i in range(S)] for s, m in zip(prefix, n, strict=True)]
    got = mask(torch.tensor(prefix), S, lengths=n)
    assert got.dtype == torch.bool and got.tolist() == want
    segments = torch.zeros(B, S, dtype=torch.int64)
    for row, s, m in zip(segments, prefix, n, strict=True):
        row[s:m] = 1
    by_sums = segment_mask(segments, n)
    for ours, theirs, m in zip(got, by_sums, n, strict=True):
        assert torch.equal(ours[:m], theirs[:m])  # what rows of padding see has no meaning
    pairs = [s * s + s * (m - s) + (m - s) * (m - s + 1) // 2 for s, m in zip(prefix, n, strict=True)]
    assert [int(g[:m].sum()) for g, m in zip(got, n, strict=True)] == pairs


def test_padding_is_seen_by_the_last_target_alone_unless_lengths_are_given() -> None:
    segments = torch.tensor([0, 0, 0, 1, 1, 0, 0])  # 3 of source, 2 of target, 2 of padding
    wrong = segment_mask(segments)[:5] ^ mask(3, 7, lengths=5)[:5]
    assert wrong.nonzero().tolist() == [[4, 5], [4, 6]]
    assert torch.equal(segment_mask(segments, 5)[:5], mask(3, 7, lengths=5)[:5])


def test_extremes_and_shapes_of_the_mask() -> None:
    assert torch.equal(mask(0, 5), torch.ones(5, 5).tril().bool()) and mask(5, 5).all()
    assert mask(2, 5).shape == mask(torch.tensor(2), 5, lengths=4).shape == (5, 5)
    assert mask([2], 5).shape == mask(2, 5, lengths=[3]).shape == (1, 5, 5) and mask(2, 5, lengths=[3, 4]).shape[0] == 2


# --- attention


def qkv(B: int, H: int, S: int, D: int, layout: str = "plain") -> list[Tensor]:
    if layout == "heads last":
        return [torch.randn(B, S, H, D, dtype=F64).transpose(1, 2) for _ in range(3)]
    if layout == "one projection":
        return list(torch.randn(B, S, 3, H, D, dtype=F64).permute(2, 0, 3, 1, 4))
    if layout == "expanded":
        return [torch.randn(B, 1, S, D, dtype=F64).expand(B, H, S, D) for _ in range(3)]
    return [torch.randn(B, H, S, D, dtype=F64) for _ in range(3)]


def with_gradients(f: Any, tensors: list[Tensor], G: Tensor) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = f(*leaves)
    return [out.detach(), *grad(out, leaves, G)]


@given(
    batch=batches(),
    H=st.integers(1, 3),
    D=st.sampled_from([1, 2, 7, 8]),
    padded=st.booleans(),
    one=st.booleans(),
    layout=st.sampled_from(["plain", "heads last", "one projection", "expanded"]),
    backend=st.sampled_from([None, "two-call", "mask"]),
    block=st.sampled_from([1, 3, 256]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_attention_is_the_dense_formula_forward_and_backward(
    batch: tuple[Any, ...], H: int, D: int, padded: bool, one: bool, layout: str, backend: str | None, block: int
) -> None:
    B, S, prefix, n = batch
    tensors = qkv(B, H, S, D, layout)
    s: Any = min(prefix) if one else torch.tensor(prefix)
    lengths = torch.tensor(n) if padded else None
    G = torch.randn(B, H, S, D, dtype=F64)
    kept, prefixlm.BLOCK = prefixlm.BLOCK, block
    try:
        got = with_gradients(lambda q, k, v: attention(q, k, v, s, lengths=lengths, backend=backend), tensors, G)
    finally:
        prefixlm.BLOCK = kept
    want = with_gradients(lambda q, k, v: attention_ref(q, k, v, s, lengths=lengths), tensors, G)
    for a, b in zip(got, want, strict=True):
        assert a.isfinite().all()
        close(a, b)
    if padded:
        assert all((row[:, m:] == 0).all() for row, m in zip(got[0], n, strict=True))


@pytest.mark.parametrize(("S", "P"), [(600, 300), (513, 1), (700, 699), (300, 0), (300, 300), (1030, 8)])
@pytest.mark.parametrize("per_row", [False, True])
def test_long_sequences_cross_blocks_and_the_choice_of_backend(S: int, P: int, per_row: bool) -> None:
    tensors = qkv(3, 1, S, 8)
    s = [P, S // 2, P] if per_row else P
    G = torch.randn_like(tensors[0])
    got, want = (with_gradients(lambda q, k, v, f=f: f(q, k, v, s), tensors, G) for f in (attention, attention_ref))
    for a, b in zip(got, want, strict=True):
        close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prefix", [100, [100, 300]])
def test_error_is_that_of_the_dense_mask(dtype: torch.dtype, prefix: Any) -> None:
    tensors = [t.to(dtype) for t in qkv(2, 2, 400, 32)]
    G = torch.randn(2, 2, 400, 32).to(dtype)
    seen = mask(prefix, 400)
    dense = lambda q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=seen if seen.dim() == 2 else seen[:, None]
    )
    exact = with_gradients(lambda q, k, v: attention_ref(q, k, v, prefix), [t.double() for t in tensors], G.double())
    ours = with_gradients(lambda q, k, v: attention(q, k, v, prefix, backend="two-call"), tensors, G)
    theirs = with_gradients(dense, tensors, G)
    for a, b, e in zip(ours, theirs, exact, strict=True):
        assert a.dtype == dtype
        mine, peer = (errors(t.flatten()[None, None].double(), e.flatten()[None, None]).item() for t in (a, b))
        assert mine <= 2 * peer, (mine, peer)


def test_gradcheck() -> None:
    tensors = tuple(t.requires_grad_() for t in qkv(2, 1, 5, 3))
    for prefix in (2, [1, 4]):
        for backend in ("two-call", "mask"):
            assert gradcheck(
                lambda q, k, v, p=prefix, b=backend: attention(q, k, v, p, lengths=[4, 5], backend=b), tensors
            )


@pytest.mark.parametrize("backend", ["two-call", "mask"])
@pytest.mark.parametrize("prefix", [0, 2, 5, [1, 4], [4, 5]])
def test_gradients_can_be_differentiated(backend: str, prefix: Any) -> None:
    tensors = tuple(t.requires_grad_() for t in qkv(2, 1, 5, 3))
    lengths = [4, 5] if isinstance(prefix, list) else None
    f = lambda q, k, v: attention(q, k, v, prefix, lengths=lengths, backend=backend)
    assert gradgradcheck(f, tensors)
    G = torch.randn(2, 1, 5, 3, dtype=F64)
    for a, b in zip(grad(f(*tensors), tensors, G, create_graph=True), grad(f(*tensors), tensors, G), strict=True):
        close(a, b)
    layout = Layout(prefix, 2, 5, lengths=lengths, backend=backend)  # where rows of padding have gradients as well
    for a, b in zip(
        grad(layout(*tensors), tensors, G, create_graph=True), grad(layout(*tensors), tensors, G), strict=True
    ):
        close(a, b)


def test_a_gradient_penalty_through_the_transformer() -> None:
    model, tokens = small(layers=2), torch.randint(20, (3, 7))
    weights = dict(model.named_parameters())
    logits = lambda w: torch.func.functional_call(model, {**weights, "positions.weight": w}, (tokens, 4))
    call = lambda w: logits(w).square().mean()
    w, v = model.positions.weight.detach().requires_grad_(), torch.randn_like(model.positions.weight)
    (slope,) = grad(call(w), w, create_graph=True)
    (product,) = grad((slope * v).sum(), w)
    step = 1e-4
    up, down = (grad(call(w + sign * step * v), w)[0] for sign in (1, -1))
    close(product, (up - down) / (2 * step), 1e-5)


def test_integers_of_numpy_are_integers() -> None:
    q, k, v = qkv(2, 1, 5, 3)
    want = attention(q, k, v, [2, 3], lengths=[4, 5])
    array: Any = np.array([2, 3])
    few: Any = [np.int64(4), np.int32(5)]
    one: Any = np.int64(2)
    assert torch.equal(attention(q, k, v, array, lengths=few), want)
    assert torch.equal(attention(q, k, v, one), attention(q, k, v, 2)) and mask(one, 5).shape == (5, 5)
    wrong: Any
    for wrong in (np.array([1.0, 2.0]), np.array([True, False]), "2", np.float64(2)):
        with pytest.raises(TypeError, match="must be an int or ints"):
            attention(q, k, v, wrong)
    with pytest.raises(ValueError, match="must be one int or"):
        attention(q, k, v, array[:, None])


def test_under_autocast_the_result_is_in_its_dtype() -> None:
    tensors = [t.float().requires_grad_() for t in qkv(2, 1, 5, 3)]
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(tensors[0], tensors[1], tensors[2], 2)
    assert out.dtype == torch.bfloat16
    slopes = grad(out.float().square().sum(), tensors, create_graph=True)
    assert all(g.dtype == torch.float32 for g in slopes)
    assert grad([g.sum() for g in slopes], tensors)[0].isfinite().all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")  # PyTorch's own use
@pytest.mark.parametrize("backend", ["two-call", "mask"])
@pytest.mark.parametrize(("prefix", "lengths"), [(2, None), ([1, 3], [4, 5])])
def test_function_transforms_and_forward_mode_see_the_formula(backend: str, prefix: Any, lengths: Any) -> None:
    """The fused kernels have no forward derivative, and PyTorch maps them one by one, with a warning."""
    q, k, v = qkv(2, 1, 5, 3)
    tangents = tuple(torch.randn_like(q) for _ in "qkv")
    ours = lambda q, k, v: attention(q, k, v, prefix, lengths=lengths, backend=backend)
    plain = lambda q, k, v: attention_ref(q, k, v, prefix, lengths=lengths)
    for f in (lambda g: torch.func.jvp(g, (q, k, v), tangents)[1], lambda g: torch.func.jacrev(g)(q, k, v)):
        close(f(ours), f(plain))
    close(*(torch.func.hessian(lambda q, g=g: g(q, k, v).square().sum())(q) for g in (ours, plain)))
    many = torch.stack([q, 2 * q, q - 1])
    close(torch.func.vmap(ours, (0, None, None))(many, k, v), torch.stack([ours(each, k, v) for each in many]))
    want = torch.func.jvp(plain, (q, k, v), tangents)[1]
    with forward_ad.dual_level():
        out = ours(*(forward_ad.make_dual(t, tangent) for t, tangent in zip((q, k, v), tangents, strict=True)))
        tangent = forward_ad.unpack_dual(out).tangent
        assert tangent is not None
        close(tangent, want)


@pytest.mark.parametrize(
    ("prefix", "length", "backend", "forward", "backward"),
    [
        (3, 8, "two-call", 3, 5),  # two attentions and what joins them; of each two gradients added where they lie
        (100, 600, "two-call", 4, 8),  # two blocks of targets
        ([3, 3, 5], 8, "two-call", 7, 13),  # sequences that stand together are not brought together
        ([5, 3, 5], 8, "two-call", 11, 25),
        ([5, 3, 5], 8, "mask", 1, 1),
    ],
)
def test_a_layer_takes_few_launches(prefix: Any, length: int, backend: str, forward: int, backward: int) -> None:
    """Each costs the host of a GPU more than such attention takes. Masks are made by the first layer, for all."""
    layout = Layout(prefix, 3, length, backend=backend)
    q, k, v, g = torch.randn(4, 3, 2, length, 8)
    leaves = [t.requires_grad_() for t in (q, k, v)]
    layout(*leaves)
    made: list[Tensor] = []
    assert launches(lambda: made.append(layout(*leaves))).totals() == (forward, 0, 0)
    counts = launches(lambda: torch.autograd.grad(made[0], leaves, g))
    assert counts.totals()[0] <= backward and counts.totals()[1:] == (0, 0)
    assert {"slice_backward", "add"}.isdisjoint(counts.launched)  # full sizes, most of them zeros


def test_a_mask_is_made_once_for_each_dtype() -> None:
    for backend in ("two-call", "mask"):
        layout = Layout([3, 5], 2, 8, backend=backend)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
            q, k, v = torch.randn(3, 2, 2, 8, 4).to(dtype)
            want = attention_ref(q.double(), k.double(), v.double(), [3, 5])
            close(layout(q, k, v).double(), want, 0.05)
            assert layout(q, k, v).dtype == dtype


def test_the_gradients_given_are_left_as_they_are() -> None:
    """Gradients are added in place inside: not in what the caller gives, nor in what he gets for another."""
    q = torch.randn(2, 2, 9, 4, dtype=torch.float64).requires_grad_()
    for g in (torch.randn(2, 2, 9, 4, dtype=torch.float64), torch.ones((), dtype=torch.float64).expand(2, 2, 9, 4)):
        kept = g.clone()
        layout = Layout(4, 2, 9, backend="two-call")
        out = layout(q, q, q)
        first = torch.autograd.grad(out, q, g, retain_graph=True)[0]
        again = torch.autograd.grad(out, q, g)[0]
        assert torch.equal(first, again) and torch.equal(g, kept)
        close(first, torch.autograd.grad(attention_ref(q, q, q, 4), q, g)[0])


def test_the_branch_for_gpus_has_the_right_alignment() -> None:
    """Its kernel is not there on a CPU, where the same bias object builds the mask it stands for."""
    q, k, v = qkv(2, 2, 9, 4)
    (out,) = prefixlm._targets_flash([q[:, :, 4:]], [k], [v], {})
    close(out, attention_ref(q, k, v, 4)[:, :, 4:])
    top_left = F.scaled_dot_product_attention(q[:, :, 4:], k, v, is_causal=True)
    assert (top_left - out).abs().max() > 0.1  # the commonest mistake
    assert (top_left[:, :, 0] - v[:, :, 0]).abs().max() < 1e-12


def test_keys_of_padding_and_of_later_targets_do_not_matter() -> None:
    q, k, v = qkv(2, 2, 8, 4)
    for prefix, n in ((3, 6), ([3, 5], [6, 5])):
        for backend in ("two-call", "mask"):
            outs = []
            for noise in (0, 1e3):
                k2, v2 = k.clone(), v.clone()
                for b, m in enumerate(n if isinstance(n, list) else [n, n]):
                    k2[b, :, m:] += noise
                    v2[b, :, m:] -= noise
                outs.append(attention(q, k2, v2, prefix, lengths=n, backend=backend))
            assert torch.equal(*outs)


def test_empty_sequences_in_a_batch_are_zero_and_have_finite_gradients() -> None:
    tensors, G = qkv(3, 2, 6, 4), torch.randn(3, 2, 6, 4, dtype=F64)
    for backend in ("two-call", "mask"):
        f = lambda q, k, v, b=backend: attention(q, k, v, [0, 4, 6], lengths=[0, 4, 6], backend=b)
        out, *slopes = with_gradients(f, tensors, G)
        assert (out[0] == 0).all() and all(g.isfinite().all() and (g[0] == 0).all() for g in slopes)


def test_the_choice_of_backend() -> None:
    pick = lambda *args, **options: Layout(*args, **options).backend
    assert pick(3, 8, 256) == pick([3] * 8, 8, 256) == pick(0, 8, 9) == pick(9, 8, 9) == "two-call"
    assert pick(3, 8, 255) == pick([3, 4], 2, 1023) == "mask" and pick([3, 4], 2, 1024) == "two-call"
    assert pick([3, 400], 2, 1024, lengths=[3, 400]) == "mask"  # sources alone: one row of mask a sequence
    assert pick(3, 8, 64, backend="two-call") == "two-call" and pick(3, 8, 1024, backend="mask") == "mask"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"q": None}, TypeError, "q is NoneType, must be a floating tensor"),
        ({"k": torch.zeros(2, 2, 6, 4, dtype=torch.int64)}, TypeError, "k is torch.int64"),
        ({"v": torch.zeros(2, 2, 5, 4)}, ValueError, "must be \\(B, H, S, D\\) like q"),
        ({"v": torch.zeros(2, 2, 6, 4, dtype=F64)}, ValueError, "torch.float64"),
        ({"q": torch.zeros(2, 0, 6, 4)}, ValueError, "must not be empty"),
        ({"prefix": -1}, ValueError, "prefix is \\[-1\\], must be from 0"),
        ({"prefix": 7}, ValueError, "must be from 0 to the valid length, \\[6\\]"),
        ({"prefix": 2.0}, TypeError, "prefix is 2.0, must be an int"),
        ({"prefix": torch.tensor([1.0, 2.0])}, TypeError, "must be an int or ints"),
        ({"prefix": True}, TypeError, "must be an int"),
        ({"prefix": [1, 2, 3]}, ValueError, "prefix has 3 entries, must be one or 2"),
        ({"prefix": []}, ValueError, "must be one int or"),
        ({"prefix": [1, 2], "lengths": [3, 4, 5]}, ValueError, "prefix has 2 entries and lengths 3"),
        ({"prefix": 3, "lengths": [2, 6]}, ValueError, "must be from 0 to the valid length"),
        ({"prefix": 3, "lengths": [7, 6]}, ValueError, "lengths is \\[7, 6\\], must be from 0 to 6"),
        ({"backend": "fast"}, ValueError, "backend is 'fast', must be None or one of"),
    ],
)
def test_bad_input_of_attention(change: dict[str, Any], error: type[Exception], words: str) -> None:
    good: dict[str, Any] = {name: torch.zeros(2, 2, 6, 4) for name in "qkv"} | {"prefix": 3}
    assert attention(**good).shape == (2, 2, 6, 4)
    with pytest.raises(error, match=words):
        attention(**good | change)


def test_bad_input_of_the_masks() -> None:
    with pytest.raises(TypeError, match=r"length is 3.0"):
        mask(1, 3.0)  # pyright: ignore[reportArgumentType]  # the mistake that is tested
    with pytest.raises(TypeError, match=r"segments is torch.float32"):
        segment_mask(torch.zeros(3))
    for segments in (torch.tensor([0, 2]), torch.zeros(0, dtype=torch.int64), torch.zeros(1, 1, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"must be \(S,\) or \(B, S\), not empty, of 0 and 1"):
            segment_mask(segments)


def test_segments_of_one_sequence_with_several_lengths() -> None:
    got = segment_mask(torch.tensor([0, 0, 1, 1]), [2, 3, 4])
    assert torch.equal(got, torch.stack([mask(2, 4, lengths=n) for n in (2, 3, 4)]))


# --- the Transformer


def small(**changes: Any) -> Transformer:
    sizes: dict[str, Any] = {"vocabulary": 20, "width": 16, "layers": 3, "heads": 2, "positions": 30}
    model = Transformer(Config(**sizes | changes))
    enlarge(model, 0.3)
    return model.double().eval()


variants = pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "post"}, {"shift": True}, {"transform": True, "activation": "relu"}, {"segments": 0, "shift": True}],
    ids=str,
)


@variants
def test_source_states_do_not_depend_on_the_target_nor_targets_on_later_ones(changes: dict[str, Any]) -> None:
    model, tokens = small(**changes), torch.randint(20, (3, 12))
    prefix = torch.tensor([5, 2, 8])
    h = model.hidden(tokens, prefix)
    for place in range(12):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 20
        moved = (model.hidden(other, prefix) - h).abs().amax(-1) > 1e-9  # (B, S)
        for row, s in zip(moved, prefix.tolist(), strict=True):
            first = 0 if place < s else place
            assert not row[:first].any() and row[first:].all()  # exact, not small, before; everything after


def test_a_causal_model_ignores_the_prefix_but_for_segments() -> None:
    model, tokens = small(causal=True, segments=0), torch.randint(20, (2, 9))
    h = model.hidden(tokens, 5)
    assert torch.equal(h, model.hidden(tokens, [1, 2])) and torch.equal(h, small_copy(model).hidden(tokens, 0))
    with pytest.raises(ValueError, match=r"prefix is"):
        model.hidden(tokens, 10)


def small_copy(model: Transformer) -> Transformer:
    """The same weights with the prefix mask."""
    other = copy.deepcopy(model)
    other.config = Config(**{**vars(model.config), "causal": False})
    return other


def test_the_shift_adds_the_two_tokens_before() -> None:
    model, tokens = small(shift=True, layers=1), torch.randint(20, (1, 6))
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.hidden(tokens, 6)
    e = model.tokens(tokens)[0]
    one, two = (m.weight for m in model.previous)
    assert model.segments is not None
    for i in range(6):
        want = e[i] + model.positions.weight[i] + model.segments.weight[0]
        want = want + (one @ e[i - 1] if i >= 1 else 0) + (two @ e[i - 2] if i >= 2 else 0)
        close(seen[0][0, i], want)


@variants
def test_the_loss_counts_each_target_once_from_the_row_before(changes: dict[str, Any]) -> None:
    model, tokens = small(**changes), torch.randint(20, (4, 9))
    prefix, n = [3, 0, 8, 9], [6, 5, 9, 9]  # the last has no target, the second no row before its first token
    terms = []
    for row, s, m in zip(tokens, prefix, n, strict=True):
        logs = model.logits(model.hidden(row[None, :m], s)[0]).log_softmax(-1)
        terms += [-logs[i - 1, row[i]] for i in range(max(s, 1), m)]
    want = torch.stack(terms).mean()
    close(model.loss(tokens, torch.tensor(prefix), torch.tensor(n)), want)
    other = tokens.clone()
    for row, m in zip(other, n, strict=True):
        row[m:] = 7
    close(model.loss(other, prefix, n), want)  # padding counts nowhere


def test_a_target_is_learned_and_nothing_else() -> None:
    model = Transformer(Config(20, width=32, layers=2, heads=2, positions=12, shift=True))
    tokens, prefix = torch.randint(20, (8, 10)), torch.full((8,), 6)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(120):
        loss = model.loss(tokens, prefix)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert 2.5 < losses[0] < 3.5 and losses[-1] < 0.1
    logits = model.logits(model.hidden(tokens, prefix))
    right = (logits[:, :-1].argmax(-1) == tokens[:, 1:]).float().mean(0)
    assert right[5:].min() == 1 and right[:5].mean() < 0.5  # rows that predict source tokens were never asked


def test_norms_may_be_replaced_in_place_and_are_called_with_one_row_a_sequence() -> None:
    model, tokens = small(transform=True), torch.randint(20, (3, 7))
    want, shapes = model.logits(model.hidden(tokens, 4)), []

    class Recorded(nn.Module):
        def __init__(self, inner: nn.LayerNorm) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return self.inner(x)

    norms = [
        (parent, name) for parent in model.modules() for name, m in parent.named_children() if type(m) is nn.LayerNorm
    ]
    for parent, name in norms:
        setattr(parent, name, Recorded(getattr(parent, name)))
    assert len(norms) == 2 * 3 + 2
    close(model.logits(model.hidden(tokens, 4)), want)
    assert shapes == [(3, 7, 16)] * len(norms)


def test_dropout_is_where_the_documentation_says() -> None:
    """Of the embeddings, and of what each of the two sublayers adds."""
    model, dropped = small(dropout=0.5, layers=2).train(), []
    for name, m in model.named_modules():
        if isinstance(m, nn.Dropout):
            m.register_forward_hook(lambda _, args, out, name=name: dropped.append((name, args[0], out)))
    model.hidden(torch.randint(20, (8, 20)), 4)
    assert [name for name, _, _ in dropped] == ["dropout", *["blocks.0.dropout"] * 2, *["blocks.1.dropout"] * 2]
    for _, before, after in dropped:
        close(after, torch.where(after == 0, 0, 2 * before))
        assert 0.4 < (after == 0).double().mean() < 0.6


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_a_model_is_copied_pickled_and_saved(activation: str) -> None:
    model = small(activation=activation, shift=True, transform=True)
    tokens, file = torch.randint(20, (2, 8)), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    other = Transformer(model.config).double()
    other.load_state_dict(model.state_dict())
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), torch.load(file, weights_only=False), other]
    want = model.loss(tokens, 3)
    for made in copies:
        assert torch.equal(made.loss(tokens, 3), want) and made.config == model.config
    assert pickle.loads(pickle.dumps(model.config)) == model.config


@variants
def test_parameters_are_reset_wherever_they_come_from(changes: dict[str, Any]) -> None:
    config = small(**changes).config
    with torch.device("meta"):
        model = Transformer(config)
    model.to_empty(device="cpu")
    inner = nn.Sequential(nn.LayerNorm(16))  # a norm put in place of another, with modules of its own

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.zero = nn.Linear(16, 16)

        def reset_parameters(self) -> None:
            nn.init.zeros_(self.zero.weight)
            nn.init.zeros_(self.zero.bias)

    model.blocks[0].norm1 = inner
    model.blocks[1].norm2 = own = Own()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(torch.nan)  # what `to_empty` may hold
    model.reset_parameters()
    fresh = Transformer(config)
    for name, p in model.named_parameters():
        if name.startswith(("blocks.0.norm1", "blocks.1.norm2")):
            continue
        q = fresh.get_parameter(name)
        assert (p == q).all() if q.unique().numel() == 1 else 0.015 < p.std() < 0.025
    assert torch.equal(inner[0].get_parameter("weight"), torch.ones(16)) and torch.equal(
        own.zero.weight, torch.zeros(16, 16)
    )
    torch.manual_seed(3)
    first = Transformer(config)
    torch.manual_seed(3)
    again = Transformer(config)
    for p, q in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_default_dtype_of_float64_changes_nothing_but_the_models_own() -> None:
    from gantext.seq2seq.decoding import beam_search, sample

    tokens = torch.randint(4, 20, (2, 8))
    narrow = small().float()
    want = beam_search(narrow, tokens, separator=3, steps=4)
    try:
        torch.set_default_dtype(F64)
        wide = Transformer(Config(20, width=16, layers=1, heads=2))
        assert wide.loss(tokens, 3).dtype == F64
        assert beam_search(wide, tokens, separator=3, steps=4, exclude=True).scores.dtype == F64
        got = beam_search(narrow, tokens, separator=3, steps=4)
        assert torch.equal(got.tokens, want.tokens) and torch.equal(got.scores, want.scores)
        for model, dtype in ((narrow, torch.float32), (narrow.half(), torch.float32), (wide, F64)):
            drawn = sample(model, tokens, separator=3, steps=4, top_p=0.5)
            assert drawn.scores.dtype == drawn.separator.dtype == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_a_half_precision_model_is_that_of_its_logits_in_float32(dtype: torch.dtype) -> None:
    """The sum over 10,000 targets is beyond the largest float16."""
    model, tokens = small(vocabulary=50, positions=300).to(dtype), torch.randint(50, (40, 300))
    with torch.no_grad():
        model.bias.add_(10 * torch.randn(50))
        logits = model.logits(model.hidden(tokens, 1))[:, :-1].float()
        want = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss = model.loss(tokens, 1)
    assert loss.dtype == torch.float32 and loss == want


def test_a_model_that_is_called_gives_the_logits_of_every_row() -> None:
    model, tokens = small(), torch.randint(20, (2, 7))
    with torch.no_grad():
        want = model.logits(model.hidden(tokens, [3, 4], [6, 7]))
        for call in (model, nn.DataParallel(model), torch.compile(model, backend="eager")):  # each calls `forward`
            close(call(tokens, [3, 4], [6, 7]), want)
    weights = {name: 2 * w for name, w in model.named_parameters()}
    other = small()
    other.load_state_dict(weights)
    close(torch.func.functional_call(model, weights, (tokens, 4)), other(tokens, 4))


# --- bad input of the Transformer


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"vocabulary": 1}, ValueError, "vocabulary is 1, must be an int >= 2"),
        ({"width": None}, TypeError, "width is None"),
        ({"width": "15"}, TypeError, "width is '15'"),
        ({"width": 15}, ValueError, "width is 15, must be a multiple of heads, 4"),
        ({"heads": 0}, ValueError, "heads is 0"),
        ({"layers": 1.5}, TypeError, "layers is 1.5"),
        ({"norm": "rms"}, ValueError, "norm is 'rms', must be one of"),
        ({"activation": "silu"}, ValueError, "activation is 'silu'"),
        ({"dropout": 1.0}, ValueError, "dropout is 1.0, must be below 1"),
        ({"eps": 0.0}, ValueError, "eps is 0.0"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    sizes: dict[str, Any] = {"vocabulary": 10, "width": 16}
    with pytest.raises(error, match=words):
        Config(**sizes | changes)


@pytest.mark.parametrize(
    ("tokens", "error", "words"),
    [
        (torch.zeros(2, 3), TypeError, "tokens is torch.float32, must be .*torch.int64"),
        ([[1, 2]], TypeError, "tokens is list"),
        (torch.zeros(2, 0, dtype=torch.int64), ValueError, "must be \\(B, S\\), not empty"),
        (torch.zeros(3, dtype=torch.int64), ValueError, "must be \\(B, S\\)"),
        (
            torch.zeros(1, 31, dtype=torch.int64),
            ValueError,
            "tokens has 31 positions, must be at most 30. Cut the passage",
        ),
        (torch.tensor([[1, 20]]), ValueError, "tokens is from 1 to 20, must be from 0 to 19"),
        (torch.tensor([[-1, 3]]), ValueError, "tokens is from -1 to 3"),
    ],
)
def test_bad_tokens(tokens: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        small().hidden(tokens, 0)


@pytest.mark.parametrize(
    ("segments", "error", "words"),
    [
        (torch.zeros(2, 3), TypeError, "segments is torch.float32, must be .*torch.int64"),
        ([[0, 0, 1]] * 2, TypeError, "segments is list"),
        (torch.zeros(2, 4, dtype=torch.int64), ValueError, r"segments has shape \(2, 4\) .* must be \(2, 3\)"),
        (torch.full((2, 3), -1), ValueError, "lowest number -1, must be .* from 0 on"),
    ],
)
def test_bad_segments(segments: Any, error: type[Exception], words: str) -> None:
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    small().hidden(tokens, 2, segments=torch.ones_like(tokens))
    with pytest.raises(error, match=words):
        small().hidden(tokens, 2, segments=segments)


def test_defined_edges() -> None:
    model, tokens = small(), torch.randint(20, (2, 30))  # as long as the model
    for prefix, n in itertools.product((0, 1), (1, 30)):
        assert model.hidden(tokens, prefix, n).isfinite().all()
    assert model.hidden(tokens, 30).isfinite().all()
    with pytest.raises(ValueError, match=r"no sequence has a target beyond its prefix"):
        model.loss(tokens, 30)
    with pytest.raises(TypeError, match=r"config is .*\(dict\), must be a Config"):
        Transformer({"vocabulary": 3})  # pyright: ignore[reportArgumentType]  # the mistake that is tested
    training = small(dropout=0.5).train()
    assert not torch.equal(training.hidden(tokens, 3), training.hidden(tokens, 3))


def test_off_the_cpu_two_calls_must_save_more() -> None:
    chosen = lambda length, place, s=100: Layout(s, 1, length, device=place).backend
    assert [chosen(n, "cpu") for n in (255, 256)] == [chosen(n, "meta") for n in (1023, 1024)] == ["mask", "two-call"]
    assert chosen(128, "meta", 0) == chosen(128, "meta", 128) == "two-call"  # no mask at all
