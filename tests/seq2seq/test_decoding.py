"""Decoding: the cache, a correct beam search, votes, copied spans, Hugging Face's answers, sampling, and bad input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import _pretended
import numpy as np
import pytest
import torch
from _gpt2 import copying, gpt2, same
from _launches import launches
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gantext.seq2seq import beams as bookkeeping
from gantext.seq2seq import decoding
from gantext.seq2seq.cache import Cache
from gantext.seq2seq.decoding import Answers, beam_search, beam_search_ref, greedy, largest, mean, sample, squares
from gantext.seq2seq.inputs import evaluating
from gantext.seq2seq.transformer import Config, Transformer

SEP, V = 3, 12


def small(**changes: Any) -> Transformer:
    sizes: dict[str, Any] = {"vocabulary": V, "width": 16, "layers": 2, "heads": 2, "positions": 40}
    model = Transformer(Config(**sizes | changes))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model.eval()


def questions(Q: int, N: int, L: int) -> dict[str, Any]:
    """Random sources of different lengths, some missing; of each, positions 1 to hi may be copied."""
    n, place = torch.randint(3, L + 1, (Q, N)), torch.arange(L)
    valid = torch.rand(Q, N) > 0.2
    valid[:, 0] = True
    spans = (place >= 1) & (place < torch.randint(1, L, (Q, N, 1))) & (place < n[..., None])
    return {"sources": torch.randint(4, V, (Q, N, L)), "lengths": n, "valid": valid, "spans": spans}


def silence(model: Transformer, data: dict[str, Any], share: float) -> None:
    """Raise the separator until about this share of the sources would say nothing."""
    with torch.no_grad():
        logits = model.logits(Cache(model, data["sources"].flatten(0, 1), data["lengths"].flatten(), 1, 1).first[:, 0])
        model.bias[SEP] += (logits.amax(1) - logits[:, SEP]).quantile(share)


def hypotheses(answers: Answers, q: int) -> list[tuple[list[int], float]]:
    rows = zip(answers.tokens[q].tolist(), answers.lengths[q].tolist(), answers.scores[q].tolist(), strict=True)
    return [(tokens[:n], score) for tokens, n, score in rows if score > -math.inf]


def agree(got: list[tuple[list[int], float]], want: list[tuple[list[int], float]]) -> None:
    assert [tokens for tokens, _ in got] == [tokens for tokens, _ in want]
    assert [score for _, score in got] == pytest.approx([score for _, score in want], abs=1e-4)


variants = pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "post", "transform": True}, {"shift": True}, {"causal": True, "shift": True}, {"segments": 0}],
    ids=str,
)

# --- the cache


@variants
def test_cached_states_are_those_of_whole_sequences(changes: dict[str, Any]) -> None:
    model, (B, L, K, T) = small(**changes).double(), (5, 7, 3, 6)
    sources, n = torch.randint(V, (B, L)), torch.tensor([7, 1, 2, 4, 7])
    made = torch.zeros(B, K, 0, dtype=torch.int64)
    rows = torch.arange(B)

    def whole(b: int, k: int) -> Tensor:
        m = int(n[rows[b]])
        tokens = torch.cat([sources[rows[b], :m], made[b, k]])
        return model.hidden(tokens[None], m)[0, -1]

    with torch.no_grad():
        cache = Cache(model, sources, n, K, T)
        for b in range(B):
            torch.testing.assert_close(cache.first[b, 0], whole(b, 0), rtol=0, atol=1e-10)
        for t in range(T):
            tokens = torch.randint(V, (len(rows), K))
            made = torch.cat([made, tokens[..., None]], -1)
            h = cache.step(tokens)
            for b, k in itertools.product(range(len(rows)), range(K)):
                torch.testing.assert_close(h[b, k], whole(b, k), rtol=0, atol=1e-10)
            parents = torch.randint(K, (len(rows), K))
            cache.reorder(parents)
            made = made.gather(1, parents[..., None].expand(made.shape))
            if t == 2:
                keep = torch.tensor([3, 0, 1])
                cache.select(keep)
                rows, made = rows[keep], made[keep]


def test_the_source_is_stored_once_and_not_moved() -> None:
    model = small()
    cache = Cache(model, torch.randint(V, (2, 7)), torch.tensor([7, 5]), 4, 3)
    layers = lambda: list(cache.stored)
    assert [tuple(t.shape) for t in layers()] == [(2, 2, 7 + 3 * 4, 8)] * 4  # no dimension of beams
    before, places = [t[:, :, :7].clone() for t in layers()], [t.data_ptr() for t in layers()]
    for _ in range(3):
        cache.step(torch.randint(V, (2, 4)))
        made = [t.clone() for t in layers()]
        cache.reorder(torch.randint(4, (2, 4)))
        assert all(map(torch.equal, layers(), made))  # nor does what was generated move
    assert [t.data_ptr() for t in layers()] == places
    assert all(torch.equal(t[:, :, :7], old) for t, old in zip(layers(), before, strict=True))


@pytest.mark.parametrize("beams", [1, 2])
def test_a_step_beyond_the_room_is_refused(beams: int) -> None:
    """With one beam it went on without a word, and saw nothing of what it was given."""
    cache = Cache(small(), torch.randint(V, (1, 7)), torch.tensor([7]), beams, 2)
    tokens = torch.full((1, beams), 5)
    for _ in range(2):
        cache.step(tokens)
    with pytest.raises(ValueError, match=r"step: 2 steps have been taken, must be at most 2"):
        cache.step(tokens)


# --- what a GPU is asked for

needs_inside = pytest.mark.skipif(not _pretended.POSSIBLE, reason="this PyTorch lacks what a pretended GPU is made of")


@needs_inside
@pytest.mark.parametrize(
    ("beams", "constrained", "exclude", "most"), [(4, True, False, 64), (1, True, True, 60), (4, False, False, 54)]
)
def test_a_token_takes_few_launches_and_one_read(beams: int, constrained: bool, exclude: bool, most: int) -> None:
    """It took 104 where it now takes 64: each costs a GPU's host 10 to 20 us, more than what it computes."""
    model, data = small(layers=3, positions=60).eval(), questions(3, 1, 20)
    data["lengths"][:] = 20
    data["spans"] = torch.ones(3, 1, 20, dtype=torch.bool)
    options: dict[str, Any] = {"separator": SEP, "beams": beams, "exclude": exclude}
    if not constrained:
        del data["spans"]

    def counts(steps: int) -> Any:
        return launches(lambda: beam_search(model, **there, **options, steps=steps, min_tokens=steps))

    with _pretended.gpu():
        model.cuda()
        there = {name: t.cuda() for name, t in data.items()}
        before, after = counts(6), counts(7)
    launched, waited, sent = (b - a for a, b in zip(before.totals(), after.totals(), strict=True))
    copies = 3  # of what attention gave, on this device alone: a GPU's kernels give it in the order that is wanted
    assert 0 < launched <= most + copies and waited == 1 and sent == 2
    # All else: what three layers take to read the sources, tables sent once, and what the answers are made of.
    start = [total - 5 * each for total, each in zip(before.totals(), (launched, waited, sent), strict=True)]
    assert start[0] <= 90 and start[1] <= 6 and start[2] <= 20


@needs_inside
@pytest.mark.parametrize("seed", range(4))
def test_a_gpu_decides_as_the_cpu(seed: int) -> None:
    """Sources of several lengths, some not there, some that leave the batch; what is read comes in one tensor."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {"separator": SEP, "steps": 6, "beams": 1 + seed, "exclude": seed > 1}
    model = small(shift=seed == 1, causal=seed == 2).to(torch.float64 if seed == 3 else torch.float32)
    data = questions(4, 2, 9)
    if seed % 2:
        data["spans"] = torch.rand(4, 2, 9) < 0.8
        options["allow"] = torch.rand(V) < 0.9
        options["min_tokens"] = 1
    want = beam_search(model, **data, **options)
    drawn = sample(model, data["sources"][:, 0], data["lengths"][:, 0], separator=SEP, steps=3, temperature=1e-6)
    with _pretended.gpu():
        model.cuda()
        there = {name: t.cuda() for name, t in data.items()}
        got = beam_search(model, **there, **options)
        assert all(t.is_cuda for t in vars(got).values())
        for name, t in vars(want).items():
            torch.testing.assert_close(getattr(got, name).cpu(), t, rtol=0, atol=1e-5, msg=name)
        again = sample(model, there["sources"][:, 0], there["lengths"][:, 0], separator=SEP, steps=3, temperature=1e-6)
        assert torch.equal(again.tokens.cpu(), drawn.tokens)
    model.cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_read_together_is_what_it_was(dtype: torch.dtype) -> None:
    found = torch.tensor([[0.1, -math.inf, -0.0], [math.nan, 1e-40, -3e38]], dtype=dtype)
    order, most = torch.tensor([[2**30, 0, 7], [1, 2, 3]]), torch.tensor(-1.5, dtype=dtype)
    got = bookkeeping.unpacked(bookkeeping.packed(found, order, most), found)
    for a, b in zip(got, (found, order, most), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


# --- beam search


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("vote", [mean, squares, largest], ids=lambda f: f.__name__)
def test_beams_are_those_of_the_reference(seed: int, constrained: bool, vote: Any) -> None:
    torch.manual_seed(seed)
    model = small(shift=seed % 2 == 1, causal=seed == 4, norm="post" if seed == 5 else "pre")
    K, exclude, data = (1, 2, 3, 5)[seed % 4], seed >= 3, questions(4, 3, 9)
    if exclude:
        silence(model, data, 0.4)
    else:
        model.bias.data[SEP] -= 2  # answers of some length
    spans = data.pop("spans")
    options: dict[str, Any] = {"separator": SEP, "beams": K, "steps": 5, "exclude": exclude, "vote": vote}
    got = beam_search(model, **data, spans=spans if constrained else None, **options)
    lengths = set()
    for q in range(4):
        there = [i for i in range(3) if data["valid"][q, i]]
        sources = [data["sources"][q, i, : data["lengths"][q, i]].tolist() for i in there]
        texts = [data["sources"][q, i][spans[q, i]].tolist() for i in there]
        want = beam_search_ref(model, sources, texts=texts if constrained else None, **options)
        agree(hypotheses(got, q), want)
        lengths |= {len(tokens) for tokens, _ in want}
    assert exclude or max(lengths) > 0
    assert not exclude or (got.alive != data["valid"]).any()


def scripted(steps: Sequence[Any], words: Sequence[int] = range(V)) -> Callable[[Tensor, Tensor], Tensor]:
    """A vote that ignores the model: a step's table of token and probability, or one for each beam.

    `words` are the tokens that the columns stand for.
    """
    count = itertools.count()

    def vote(p: Tensor, alive: Tensor) -> Tensor:
        tables = steps[min(next(count), len(steps) - 1)]
        S = torch.zeros(len(p), p.shape[2], len(words))
        assert p.shape[3] == len(words)
        for k in range(p.shape[2]):
            for token, value in (tables[k] if isinstance(tables, list) else tables).items():
                if token in words:
                    S[:, k, words.index(token)] = value
        return S

    return vote


SOURCE = torch.tensor([[2, 5, 6, 3]])


def test_a_finished_hypothesis_is_kept_though_it_was_not_the_best() -> None:
    # At step 0 the end has .4 and token 5 has .5; later everything is at most .3.
    vote = scripted([{5: 0.5, SEP: 0.4}, {6: 0.3, 7: 0.29, SEP: 0.2}])
    got = beam_search(small(), SOURCE, separator=SEP, beams=2, steps=6, vote=vote)
    assert got.best() == [[]] and got.ended[0, 0] and got.scores[0, 0].item() == pytest.approx(math.log(0.4))
    # the search that drops it, or that goes on while only the best beam counts, answers 5 ...: worth .5 * .2 at most
    assert got.scores[0, 1] < math.log(0.4)


def test_two_candidates_a_beam_so_that_ends_do_not_thin_the_beam_out() -> None:
    # After step 1 the best two are 5 7 (.3) and the end of 5 (.27); 6 8 (.24) must go on beside 5 7.
    # The best answer never needs it, for what is beyond the first K is below the end among them; the second best does.
    second = [{7: 0.5, SEP: 0.45}, {8: 0.6}]
    vote = scripted([{5: 0.6, 6: 0.4}, second, [{SEP: 0.5}, {SEP: 0.9}]])
    got = beam_search(small(), SOURCE, separator=SEP, beams=2, steps=6, vote=vote)
    agree(hypotheses(got, 0), [([5], math.log(0.27)), ([6, 8], math.log(0.216))])


def test_it_stops_when_the_best_finished_is_as_good_as_the_best_unfinished_and_not_before() -> None:
    calls = []

    def counted(steps: list[dict[int, float]]) -> Any:
        inner = scripted(steps)
        return lambda p, alive: (calls.append(1), inner(p, alive))[1]

    later = [{SEP: 0.4, 5: 0.5}, {6: 1.0}, {7: 1.0}, {SEP: 0.9}]  # .5 * .9 = .45 wins in the end
    got = beam_search(small(), SOURCE, separator=SEP, beams=2, steps=9, vote=counted(later))
    assert got.best() == [[5, 6, 7]] and len(calls) == 4
    calls.clear()
    tie = [{SEP: 0.5, 5: 0.5}, {SEP: 1.0}]
    assert beam_search(small(), SOURCE, separator=SEP, beams=2, steps=9, vote=counted(tie)).best() == [[]]
    assert len(calls) == 1


def test_wide_beams_find_the_best_sequence_of_all() -> None:
    model, T, source = small(vocabulary=4, positions=12), 4, [2, 0, 1]
    with torch.no_grad():
        scores = {}
        for y in itertools.product(range(4), repeat=T):
            y = y[: y.index(SEP) + 1] if SEP in y else y
            logs = model.logits(model.hidden(torch.tensor([[*source, *y]]), 3))[0].log_softmax(-1)
            scores[y] = sum(logs[2 + i, token].item() for i, token in enumerate(y))
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    got = beam_search(model, torch.tensor([source]), separator=SEP, beams=3**T, steps=T)
    best, score = ranked[0]
    assert got.best()[0] == [token for token in best if token != SEP]
    assert got.scores[0, 0].item() == pytest.approx(score, abs=1e-4)
    narrow = greedy(model, torch.tensor([source]), separator=SEP, steps=T)
    assert narrow.scores[0, 0] <= got.scores[0, 0] + 1e-5


@variants
def test_greedy_is_the_argmax_of_whole_sequences(changes: dict[str, Any]) -> None:
    model, sources, n = small(**changes), torch.randint(4, V, (6, 8)), torch.tensor([8, 3, 5, 8, 1, 7])
    got = greedy(model, sources, n, separator=SEP, steps=7)
    for q in range(6):
        y: list[int] = []
        while len(y) < 7:
            tokens = torch.tensor([[*sources[q, : n[q]].tolist(), *y]])
            token = int(model.logits(model.hidden(tokens, int(n[q]))[0, -1]).argmax())
            if token == SEP:
                break
            y.append(token)
        assert got.best()[q] == y and bool(got.ended[q, 0]) == (len(y) < 7)
        assert (got.tokens[q, 0, len(y) :] == SEP).all()


def test_questions_do_not_depend_on_those_beside_them_nor_on_filling() -> None:
    model, data = small(shift=True), questions(6, 3, 9)
    options: dict[str, Any] = {"separator": SEP, "beams": 3, "steps": 6, "exclude": True, "vote": squares}
    together = beam_search(model, **data, **options)
    assert len(set(together.alive.sum(1).tolist())) > 1  # so sources were dropped, and rows moved
    for q in range(6):
        alone = beam_search(model, **{name: t[q : q + 1] for name, t in data.items()}, **options)
        agree(hypotheses(together, q), hypotheses(alone, 0))
    wider: dict[str, Any] = {
        "sources": torch.nn.functional.pad(data["sources"], (0, 4, 0, 2), value=5),
        "spans": torch.nn.functional.pad(data["spans"], (0, 4, 0, 2), value=True),
        "lengths": torch.nn.functional.pad(data["lengths"], (0, 2)),
        "valid": torch.nn.functional.pad(data["valid"], (0, 2)),
    }
    padded = beam_search(model, **wider, **options)
    for q in range(6):
        agree(hypotheses(padded, q), hypotheses(together, q))
    assert torch.equal(padded.alive[:, :3], together.alive) and not padded.alive[:, 3:].any()


@given(
    seed=st.integers(0, 10**6),
    Q=st.integers(2, 4),
    N=st.integers(1, 3),
    length=st.integers(1, 9),
    vocabulary=st.integers(4, 9),
    separator=st.integers(0, 3),
    beams=st.integers(1, 6),
    steps=st.integers(1, 4),
    min_tokens=st.integers(0, 2),
    vote=st.sampled_from([mean, squares, largest]),
    exclude=st.booleans(),
    constrained=st.booleans(),
    covered=st.booleans(),
    limited=st.booleans(),
    ties=st.booleans(),
)
@example(0, 2, 1, 6, 6, 3, 2, 3, 0, mean, False, True, True, False, False)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_batch_is_its_questions(
    seed: int,
    Q: int,
    N: int,
    length: int,
    vocabulary: int,
    separator: int,
    beams: int,
    steps: int,
    min_tokens: int,
    vote: Any,
    exclude: bool,
    constrained: bool,
    covered: bool,
    limited: bool,
    ties: bool,
) -> None:
    """Whatever the others are: ties, a question that holds every token, one without a source or without a span."""
    torch.manual_seed(seed)
    model = small(vocabulary=vocabulary, layers=1)
    if ties:  # logits are the bias, at every step
        nn.init.zeros_(model.tokens.weight)
        model.bias.data = torch.randint(-1, 2, (vocabulary,)).float()
    L = max(length, vocabulary) if covered else length
    sources, n = torch.randint(vocabulary, (Q, N, L)), torch.randint(1, L + 1, (Q, N))
    data: dict[str, Any] = {"sources": sources, "lengths": n, "valid": torch.rand(Q, N) < 0.8}
    if constrained:
        data["spans"] = torch.rand(Q, N, L) < 0.7
    if covered:
        sources[0, 0, :vocabulary], n[0, 0], data["valid"][0, 0] = torch.randperm(vocabulary), L, True
        if constrained:
            data["spans"][0, 0] = True
    allow = torch.rand(vocabulary) < 0.8 if limited else None
    options: dict[str, Any] = {"separator": separator, "beams": beams, "steps": steps, "exclude": exclude, "vote": vote}
    options["min_tokens"] = min(min_tokens, steps)
    together = beam_search(model, **data, **options, allow=allow)
    for q in range(Q):
        alone = beam_search(model, **{name: t[q : q + 1] for name, t in data.items()}, **options, allow=allow)
        agree(hypotheses(together, q), hypotheses(alone, 0))
        assert torch.equal(together.ended[q], alone.ended[0]) and torch.equal(together.alive[q], alone.alive[0])
        torch.testing.assert_close(together.separator[q], alone.separator[0], rtol=0, atol=1e-6)
        if ties or limited or (constrained and not all(_one_piece(s) for s in data["spans"][q])):
            continue  # the reference sums in float64, has no `allow`, and takes texts in one piece
        there = [i for i in range(N) if data["valid"][q, i]]
        read = [sources[q, i, : n[q, i]].tolist() for i in there]
        texts = None
        if constrained:
            spans = [data["spans"][q, i, : n[q, i]] & (sources[q, i, : n[q, i]] != separator) for i in there]
            if not all(map(_one_piece, spans)):
                continue
            texts = [sources[q, i, : n[q, i]][s].tolist() for i, s in zip(there, spans, strict=True)]
        agree(hypotheses(together, q), beam_search_ref(model, read, texts=texts, **options))


def _one_piece(span: Tensor) -> bool:
    places = span.nonzero()[:, 0]
    return len(places) == 0 or len(places) == int(places[-1] - places[0]) + 1


def test_of_equal_candidates_the_smaller_token_is_first() -> None:
    model = small(vocabulary=3000, layers=1)
    with torch.no_grad():
        model.tokens.weight.zero_()
        model.bias.zero_()
    for dtype in (torch.float32, torch.float64, torch.float16):
        got = beam_search(model.to(dtype), torch.tensor([[7, 8]]), separator=2999, beams=4, steps=1)
        assert got.tokens[0, :, 0].tolist() == [0, 1, 2, 3]
        words = torch.tensor([[2998, 5, 1700, 40, 9, 6, 2]])
        got = beam_search(model, words, separator=2999, beams=3, steps=1, spans=words > 0)
        assert got.tokens[0, :, 0].tolist() == [2, 5, 6]


class Rounded(Transformer):
    """Logits that are half-precision numbers, given in this dtype: every dtype has the same."""

    kind = torch.float32

    def logits(self, hidden: Tensor) -> Tensor:
        return (4 * super().logits(hidden)).half().to(self.kind)


@given(
    seed=st.integers(0, 10**6),
    beams=st.integers(1, 4),
    vote=st.sampled_from([mean, squares, largest]),
    constrained=st.booleans(),
    exclude=st.booleans(),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_half_precision_decides_as_float32(seed: int, beams: int, vote: Any, constrained: bool, exclude: bool) -> None:
    torch.manual_seed(seed)
    model, data = Rounded(small().config).eval(), questions(4, 2, 8)
    model.load_state_dict(small().state_dict())
    if not constrained:
        del data["spans"]
    options: dict[str, Any] = {"separator": SEP, "beams": beams, "steps": 5, "vote": vote, "exclude": exclude}
    found = []
    for kind in (torch.float32, torch.float16):
        model.kind = kind
        draws: dict[str, Any] = {"samples": 3, "steps": 5, "top_p": 0.8}
        draws |= {"separator": SEP, "generator": torch.Generator().manual_seed(seed)}
        drawn = sample(model, data["sources"][:, 0], data["lengths"][:, 0], **draws)
        found.append([*vars(beam_search(model, **data, **options)).values(), *vars(drawn).values()])
    for want, got in zip(*found, strict=True):
        assert got.dtype == want.dtype and torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("vote", [mean, squares, largest])
def test_what_is_improbable_in_half_precision_is_told_apart(dtype: torch.dtype, vote: Any) -> None:
    model = small()
    with torch.no_grad():
        model.tokens.weight.zero_()  # logits are the bias: 9 before 7, 6, 5, and the separator last
        model.bias.copy_(torch.tensor([0, 0, 0, -4.0, 0, 0.0, 4.0, 8.0, 0, 30.0, 0, 0]))
    source, spans = torch.tensor([[2, 5, 6, 7, 3, 9, 3]]), torch.tensor([[0, 1, 1, 1, 0, 0, 0]]).bool()
    options: dict[str, Any] = {"separator": SEP, "spans": spans, "steps": 1, "vote": vote}
    want = beam_search(model, source, **options)
    got = beam_search(model.to(dtype), source, **options)
    assert want.tokens[0, :3, 0].tolist() == [7, 6, 5] and want.scores[0, 0] < -21.9
    assert torch.equal(got.tokens, want.tokens) and torch.equal(got.scores, want.scores)
    assert torch.equal(got.separator, want.separator)


def test_excluded_sources_are_those_that_would_say_nothing() -> None:
    model, data = small(), questions(30, 3, 8)
    silence(model, data, 0.6)
    got = beam_search(model, **data, separator=SEP, steps=4, exclude=True)
    for q, i in itertools.product(range(30), range(3)):
        tokens = data["sources"][q, i, : data["lengths"][q, i]][None]
        p = model.logits(model.hidden(tokens, tokens.shape[1])[0, -1]).softmax(-1)
        there = bool(data["valid"][q, i])
        assert bool(got.alive[q, i]) == (there and int(p.argmax()) != SEP)
        assert got.separator[q, i].item() == pytest.approx(p[SEP].item() if there else 0, abs=1e-5)
    silent = ~got.alive.any(1)
    assert 0 < silent.sum() < 30
    for q in silent.nonzero()[:, 0].tolist():
        assert got.best()[q] == [] and (got.scores[q] == -math.inf).all() and not got.ended[q].any()
    assert beam_search(model, **data, separator=SEP, steps=4).alive.equal(data["valid"])


# --- votes and spans


def test_votes_by_hand() -> None:
    p = torch.tensor([0.7, 0.2, 0.0]).view(1, 3, 1, 1)
    alive = torch.tensor([[True, True, False]])
    assert squares(p, alive).item() == pytest.approx(0.53 / 1.9)
    assert mean(p, alive).item() == pytest.approx(0.45) and largest(p, alive).item() == pytest.approx(0.7)
    assert mean(0 * p, ~alive & False).item() == 0


def test_answers_are_runs_of_one_surviving_passage() -> None:
    model = small()
    with torch.no_grad():
        model.bias[SEP] -= 4  # long answers
    data = questions(20, 3, 12)
    data["spans"][:, :, 4] = False  # a hole that no answer may cross
    got = beam_search(model, **data, separator=SEP, beams=4, steps=6, exclude=True)
    lengths = set()
    for q in range(20):
        runs = set()
        for i in range(3):
            if not got.alive[q, i]:
                continue
            open_ = [bool(s) for s in data["spans"][q, i]]
            words = data["sources"][q, i].tolist()
            runs |= {tuple(words[a:b]) for a in range(12) for b in range(a, 13) if all(open_[a:b])}
        for tokens, _ in hypotheses(got, q):
            assert tuple(tokens) in runs
            lengths.add(len(tokens))
    assert len(lengths) > 3
    free = beam_search(model, data["sources"], data["lengths"], separator=SEP, beams=4, steps=6)
    assert free.best() != got.best()


def test_nothing_is_copied_from_an_excluded_passage() -> None:
    model, data = small(), questions(20, 3, 12)
    silence(model, data, 0.5)
    got = beam_search(model, **data, separator=SEP, beams=8, steps=4, exclude=True)  # more beams than good answers
    dropped = 0
    for q in range(20):
        texts = [data["sources"][q, i][data["spans"][q, i]].tolist() for i in range(3) if got.alive[q, i]]
        dropped += 0 < len(texts) < data["valid"][q].sum()
        for tokens, _ in hypotheses(got, q):
            n = len(tokens)
            assert any(tokens == text[j : j + n] for text in texts for j in range(len(text) - n + 1))
    assert dropped > 5


def test_what_is_not_allowed_is_not_copied_either() -> None:
    sources = torch.tensor([[4, 5, 6], [8, 9, 10]])
    options: Any = {"separator": SEP, "spans": sources > 0, "beams": 9, "steps": 1}
    for forbidden, possible in (([SEP], {4, 5, 6, 8, 9, 10}), ([SEP, 5, 8], {4, 6, 9, 10})):
        allow = torch.ones(V, dtype=torch.bool)
        allow[forbidden] = False
        got = beam_search(small(), sources, allow=allow, **options)
        assert {token for q in (0, 1) for tokens, _ in hypotheses(got, q) for token in tokens} == possible


def test_a_span_is_followed_from_all_its_places() -> None:
    """5 occurs twice; what follows it in either place stays possible, what follows neither does not."""
    source = torch.tensor([[[2, 5, 6, 5, 7, 8, 3, 9, 3]]])
    spans = torch.tensor([[[0, 1, 1, 1, 1, 1, 0, 0, 0]]]).bool()
    options: dict[str, Any] = {"separator": SEP, "spans": spans, "beams": 2, "steps": 6}
    run = lambda *steps: beam_search(small(), source, vote=scripted(steps, (SEP, 5, 6, 7, 8)), **options)
    sure = {SEP: 0.001}
    assert run({5: 1.0} | sure, {6: 0.9, 7: 0.8, 8: 1.0} | sure, {5: 0.1, 8: 0.9, SEP: 0.2}, {SEP: 1.0}).best() == [
        [5, 7, 8]
    ]
    assert run({8: 1.0} | sure, {9: 1.0, 3: 0.5}).best() == [[8]]  # the separator in the source is no part of the text
    assert run({9: 1.0} | sure, {SEP: 1.0}).best() == [[]]  # the question is not copied


def test_the_end_is_allowed_where_every_position_matches() -> None:
    source = torch.tensor([[5]])
    options: dict[str, Any] = {"separator": SEP, "spans": source > 0, "steps": 2}
    vote = lambda *steps: scripted(steps, (SEP, 5))
    assert beam_search(small(), source, vote=vote({5: 0.1, SEP: 0.9}), **options).best() == [[]]
    assert beam_search(small(), source, vote=vote({5: 0.9, SEP: 0.1}, {SEP: 1.0}), **options).best() == [[5]]


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("constrained", [True, False])
def test_answers_have_the_fewest_tokens_asked_for(K: int, constrained: bool) -> None:
    source, spans = torch.tensor([[[2, 5, 6, 7, 3, 9, 3]]]), torch.tensor([[[0, 1, 1, 1, 0, 0, 0]]]).bool()
    first, shorter = set(), 0
    for seed in range(60):
        torch.manual_seed(seed)
        model = Transformer(Config(V, width=16, layers=1, heads=2))
        nn.init.normal_(model.bias, 0, 3)
        options: dict[str, Any] = {"separator": SEP, "beams": K, "steps": 4}
        for least in (0, 1, 2):
            data = {"spans": spans} if constrained else {}
            got = hypotheses(beam_search(model, source, **data, **options, min_tokens=least), 0)
            texts = [[5, 6, 7]] if constrained else None
            agree(got, beam_search_ref(model, source[0].tolist(), texts=texts, **options, min_tokens=least))
            shorter += bool(got) and got[0][0] == []
            assert all(len(tokens) >= least for tokens, _ in got) and (got or least == 2)
            first |= {tokens[0] for tokens, _ in got if least == 1}
    assert shorter > 0  # unless it is forbidden
    assert first == {5, 6, 7} if constrained else len(first) > 5  # 7 has the column 3, the separator's number


def test_a_span_too_short_for_the_fewest_tokens_leaves_nothing() -> None:
    source = torch.tensor([[5]])
    got = beam_search(small(), source, separator=SEP, spans=source > 0, steps=3, min_tokens=2)
    assert got.best() == [[]] and (got.scores == -math.inf).all() and not got.ended.any()


def test_an_empty_span_leaves_the_empty_answer() -> None:
    source = torch.randint(4, V, (2, 2, 6))
    got = beam_search(small(), source, separator=SEP, spans=torch.zeros(2, 2, 6, dtype=torch.bool), steps=4)
    assert got.best() == [[], []] and got.ended[:, 0].all() and (got.scores[:, 1:] == -math.inf).all()
    model, source = (
        small(vocabulary=2, layers=1),
        torch.tensor([[0, 0, 1]]),
    )  # as many columns as tokens: which is which?
    says = model.logits(model.hidden(source, 3)[0, -1]).log_softmax(-1)
    for separator in (0, 1):
        got = beam_search(model, source, separator=separator, spans=source < 0, beams=1, steps=2)
        assert got.best() == [[]] and got.scores.item() == pytest.approx(says[separator].item(), abs=1e-5)


def test_every_candidate_masked_and_nobody_there() -> None:
    nothing = torch.zeros(V, dtype=torch.bool)
    source = torch.randint(4, V, (2, 3, 6))
    options: dict[str, Any]
    for options in ({"allow": nothing}, {"valid": torch.zeros(2, 3, dtype=torch.bool)}):
        got = beam_search(small(), source, separator=SEP, steps=4, **options)
        assert got.best() == [[], []] and (got.scores == -math.inf).all() and not got.ended.any()
        assert (got.tokens == SEP).all() and (got.lengths == 0).all()
    got = sample(small(), source[:, 0], separator=SEP, steps=4, samples=2, allow=nothing)
    assert got.best() == [[], []] and (got.scores == -math.inf).all() and not got.ended.any()
    only = nothing.clone()
    only[7] = True  # not even the separator: it goes on to the last step
    got = beam_search(small(), source, separator=SEP, steps=4, allow=only)
    assert got.best() == [[7] * 4] * 2 and not got.ended.any()
    assert sample(small(), source[:, 0], separator=SEP, steps=4, allow=only).best() == [[7] * 4] * 2


def test_sources_that_are_not_there_give_no_probability_of_silence() -> None:
    source, valid = torch.randint(4, V, (2, 3, 6)), torch.zeros(2, 3, dtype=torch.bool)
    assert (beam_search(small(), source, separator=SEP, steps=2, valid=valid).separator == 0).all()
    valid[1, 2] = True
    got = beam_search(small(), source, separator=SEP, steps=2, valid=valid).separator
    assert (got > 0).tolist() == valid.tolist()


def test_a_vote_need_not_care_for_questions_without_a_source() -> None:
    model, source, valid = small(), torch.randint(4, V, (2, 2, 6)), torch.tensor([[True, True], [False, False]])
    naive = lambda p, alive: p.sum(1) / alive.sum(1)[:, None, None]  # 0 / 0 for the second question
    got = beam_search(model, source, separator=SEP, steps=3, valid=valid, vote=naive)
    agree(hypotheses(got, 0), hypotheses(beam_search(model, source, separator=SEP, steps=3, valid=valid), 0))
    assert got.best()[1] == []


def test_probabilities_that_underflow_are_still_candidates() -> None:
    two = torch.zeros(V, dtype=torch.bool)
    two[5:7] = True
    got = beam_search(small(), SOURCE, separator=SEP, steps=2, beams=4, vote=scripted([{5: 0.0, 6: 0.0}]), allow=two)
    found = sorted(tokens for tokens, _ in hypotheses(got, 0))
    assert found == [[5, 5], [5, 6], [6, 5], [6, 6]] and got.scores.isfinite().all()


def test_one_step_more_beams_than_tokens_and_as_long_as_the_model() -> None:
    model = small(vocabulary=4, positions=9)
    source = torch.tensor([[2, 0, 1, 2, 0, 1]])
    got = beam_search(model, source, separator=SEP, beams=9, steps=1)
    assert len(hypotheses(got, 0)) == 4 and got.lengths[0, :4].sum() == 3
    assert beam_search(model, source, separator=SEP, beams=9, steps=4).tokens.shape == (
        1,
        9,
        4,
    )  # the 4th is never read
    with pytest.raises(ValueError, match=r"6 positions and 4 new ones, must be at most 9. Cut the passage"):
        beam_search(model, source, separator=SEP, steps=5)


# --- Hugging Face


@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_hugging_face(constrained: bool, beams: int) -> None:
    Q, L, T = 8, 24, 9
    theirs = gpt2(SEP, L + 4, vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=48)
    ours = same(theirs)
    n = torch.randint(12, L + 1, (Q,))
    n[0] = L
    sources = torch.randint(4, 60, (Q, L))
    real = torch.arange(L) < n[:, None]
    with torch.no_grad():
        h = ours.hidden(sources, 0)
        torch.testing.assert_close(ours.logits(h), theirs(sources).logits, rtol=1e-5, atol=1e-5)
    spans = real & (torch.arange(L) >= 1) & (torch.arange(L) < n[:, None] - 4)
    got = beam_search(ours, sources, n, separator=SEP, beams=beams, steps=T, spans=spans if constrained else None)
    left = torch.stack([torch.cat([row[m:], row[:m]]) for row, m in zip(sources, n.tolist(), strict=True)])
    texts = [row[s].tolist() for row, s in zip(sources, spans, strict=True)]
    options: dict[str, Any] = {"prefix_allowed_tokens_fn": copying(texts, SEP, L)} if constrained else {}
    want = theirs.generate(
        left,
        attention_mask=(torch.arange(L) >= L - n[:, None]).long(),
        num_beams=beams,
        max_new_tokens=T,
        do_sample=False,
        length_penalty=0.0,
        **options,
    )[:, L:].tolist()
    assert got.best() == [row[: row.index(SEP)] if SEP in row else row for row in want]
    assert len({len(row) for row in got.best()}) > 1 or not constrained


# --- sampling


def test_samples_have_the_models_frequencies() -> None:
    model, draws = small(), 20_000
    with torch.no_grad():
        p = model.logits(model.hidden(SOURCE, 4)[0, -1]).softmax(-1)
    got = sample(model, SOURCE, separator=SEP, samples=draws, steps=1)
    counts = got.tokens[0, :, 0].bincount(minlength=V).double()
    sigma = (draws * p * (1 - p)).sqrt()
    assert ((counts - draws * p).abs() <= 4.5 * sigma + 1e-9).all()
    assert torch.equal(got.ended[0], got.tokens[0, :, 0] == SEP) and (got.lengths[0] == (~got.ended[0]).long()).all()


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_nucleus_is_the_fewest_tokens_that_have_enough(top_p: float, temperature: float) -> None:
    model = small()
    with torch.no_grad():
        p = (model.logits(model.hidden(SOURCE, 4)[0, -1]) / temperature).softmax(-1)
    ranked, index = p.sort(descending=True)
    nucleus = set(index[: int((ranked.cumsum(0) < top_p - 1e-6).sum()) + 1].tolist())
    got = sample(model, SOURCE, separator=SEP, samples=3000, steps=1, top_p=top_p, temperature=temperature)
    seen = set(got.tokens[0, :, 0].tolist())
    likely = {w for w in nucleus if p[w] > 0.01}  # the others may not come up
    assert likely <= seen <= nucleus


@variants
def test_scores_of_samples_are_the_models_log_probabilities(changes: dict[str, Any]) -> None:
    model, sources, n = small(**changes), torch.randint(4, V, (3, 6)), torch.tensor([6, 2, 4])
    got = sample(model, sources, n, separator=SEP, samples=4, steps=5, top_p=0.9, temperature=2.0)
    for q, k in itertools.product(range(3), range(4)):
        y = got.tokens[q, k, : got.lengths[q, k] + got.ended[q, k]].tolist()
        tokens = torch.tensor([[*sources[q, : n[q]].tolist(), *y]])
        with torch.no_grad():
            logs = model.logits(model.hidden(tokens, int(n[q])))[0].log_softmax(-1)
        want = sum(logs[int(n[q]) - 1 + i, token].item() for i, token in enumerate(y))
        assert got.scores[q, k].item() == pytest.approx(want, abs=1e-4)
        assert y[-1] == SEP or len(y) == 5


def test_cold_samples_are_greedy_and_a_generator_repeats_them() -> None:
    model, sources = small(), torch.randint(4, V, (4, 6))
    want = greedy(model, sources, separator=SEP, steps=5).best()
    options: dict[str, Any]
    for options in ({"temperature": 1e-30}, {"temperature": 1e-50}, {"top_p": 1e-9}):
        assert sample(model, sources, separator=SEP, steps=5, **options).best() == want
    draw = lambda seed: (
        sample(model, sources, separator=SEP, samples=3, steps=6, generator=torch.Generator().manual_seed(seed)).tokens
    )
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_norms_see_one_row_a_source_and_the_model_returns_to_training() -> None:
    model, shapes = small(dropout=0.5).train(), []
    model.blocks[0].get_submodule("norm1").register_forward_pre_hook(
        lambda _, args: shapes.append(tuple(args[0].shape))
    )
    frozen = model.blocks[1].eval()
    sources = torch.randint(4, V, (3, 6))
    a, b = (sample(model, sources, separator=SEP, samples=5, steps=3, temperature=1e-30) for _ in range(2))
    assert torch.equal(a.tokens, b.tokens)  # no dropout
    assert shapes[0] == (3, 6, 16) and set(shapes[1:]) <= {(3, 6, 16), (3, 5, 16)} and (3, 5, 16) in shapes
    assert model.training and model.blocks[0].training and not frozen.training


def test_many_samples_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, 40,000 samples of one step took 13 GB for the masks of a step."""
    asked: list[int] = []

    class Counted(decoding.Cache):
        def __init__(self, *args: Any) -> None:
            asked.append(args[3])
            super().__init__(*args)

    monkeypatch.setattr(decoding, "Cache", Counted)
    model, n = small(), 2 * decoding.TOGETHER + 1
    draws: dict[str, Any] = {"separator": SEP, "steps": 3, "temperature": 2.0}
    got = sample(model, SOURCE, samples=n, generator=torch.Generator().manual_seed(0), **draws)
    assert asked == [decoding.TOGETHER, decoding.TOGETHER, 1]
    assert got.tokens.shape == (len(SOURCE), n, 3) and got.separator.shape == (len(SOURCE), 1)
    rng, k = torch.Generator().manual_seed(0), 0
    for part in tuple(asked):
        alone = sample(model, SOURCE, samples=part, generator=rng, **draws)
        for name in ("tokens", "lengths", "scores", "ended"):
            assert torch.equal(getattr(got, name)[:, k : k + part], getattr(alone, name)), name
        k += part


def test_two_decodings_at_a_time_both_run_without_dropout() -> None:
    """The first to leave must not switch dropout on under the second; in threads they overlap like this."""
    model = small(dropout=0.5).train()
    frozen = model.blocks[1].eval()
    first, second = evaluating(model), evaluating(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(m.training for m in model.modules())
    part = evaluating(model.blocks[0])
    part.__enter__()
    second.__exit__(None, None, None)
    assert model.training and not frozen.training
    assert not any(m.training for m in model.blocks[0].modules())  # who shares a part is not disturbed either
    part.__exit__(None, None, None)
    assert model.blocks[0].training and not frozen.training and model.blocks[0].get_submodule("dropout").training


def test_decoding_in_threads_is_decoding_one_after_the_other() -> None:
    model, data = small(dropout=0.5).train(), questions(12, 2, 8)
    call = lambda q: beam_search(
        model, **{name: t[q : q + 1] for name, t in data.items()}, separator=SEP, beams=1 + q % 3, steps=5
    )
    want = [call(q) for q in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for got, alone in zip(pool.map(call, range(12)), want, strict=True):
                assert torch.equal(got.tokens, alone.tokens) and torch.equal(got.scores, alone.scores)
    assert all(m.training for m in model.modules())


def test_integers_of_numpy_are_integers() -> None:
    model, sources = small(), torch.randint(4, V, (2, 6))
    options: Any
    for number in (np.int64, np.int32, np.uint8):
        for f, count in ((beam_search, "beams"), (sample, "samples")):
            found = []
            for kind in (int, number):
                options = {"separator": kind(SEP), "steps": kind(4), count: kind(2)}
                if f is sample:
                    options["generator"] = torch.Generator().manual_seed(0)
                found.append(f(model, sources, **options))
            assert torch.equal(found[0].tokens, found[1].tokens) and torch.equal(found[0].scores, found[1].scores)
    options = {"vocabulary": np.int64(10), "width": np.int32(16), "eps": np.float32(0.5)}
    assert repr(Config(**options)) == repr(Config(10, width=16, eps=0.5))  # what a checkpoint's recipe holds
    options = {"separator": SEP, "steps": 4, "min_tokens": np.int64(1)}
    assert beam_search(model, sources, **options).lengths[:, 0].min() >= 1


# --- bad input


@pytest.mark.parametrize("f", [beam_search, sample])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": None}, TypeError, r"model is None \(NoneType\), must be a Transformer"),
        ({"separator": V}, ValueError, f"separator is {V}, must be a token of the model's vocabulary, below {V}"),
        ({"separator": -1}, ValueError, "separator is -1"),
        ({"steps": 0}, ValueError, "steps is 0"),
        ({"sources": torch.zeros(2, 4)}, TypeError, "sources is torch.float32, must be .*torch.int64"),
        ({"sources": torch.zeros(2, 0, dtype=torch.int64)}, ValueError, "not empty. Give at least one token"),
        ({"sources": torch.full((2, 4), V)}, ValueError, "must be from 0 to 11. Map unknown tokens"),
        ({"sources": torch.full((2, 39), 5)}, ValueError, "39 positions and 3 new ones, must be at most 40"),
        ({"lengths": torch.tensor([0, 4])}, ValueError, "lengths is from 0 to 4, must be from 1 to 4 where valid"),
        ({"lengths": torch.tensor([1, 5])}, ValueError, "must be from 1 to 4"),
        ({"lengths": torch.tensor([1, 2, 3])}, ValueError, r"lengths has shape \(3,\), must be \(2,\)"),
        ({"lengths": torch.tensor([1.0, 2.0])}, TypeError, "lengths is torch.float32"),
        ({"lengths": [1, 2]}, TypeError, "lengths is .*list"),
        ({"allow": torch.ones(V)}, TypeError, "allow is torch.float32, must be .*torch.bool"),
        ({"allow": torch.ones(3).bool()}, ValueError, r"allow has shape \(3,\), must be \(12,\)"),
    ],
)
def test_bad_input(f: Any, change: dict[str, Any], error: type[Exception], words: str) -> None:
    good: dict[str, Any] = {"model": small(), "sources": torch.full((2, 4), 5), "separator": SEP, "steps": 4}
    f(**good)
    with pytest.raises(error, match=words):
        f(**good | change)


def test_a_vote_below_zero_counts_as_the_least() -> None:
    model, source = small(), torch.randint(4, V, (2, 5))
    options: dict[str, Any] = {"separator": SEP, "beams": 3, "steps": 3, "vote": lambda p, alive: p.mean(1) - 0.5}
    got = beam_search(model, source, **options)
    for q in range(2):
        agree(hypotheses(got, q), beam_search_ref(model, [source[q].tolist()], **options))


def test_answers_are_equal_to_themselves_alone() -> None:
    one, other = (greedy(small(), torch.full((2, 4), 5), separator=SEP, steps=2) for _ in range(2))
    assert one == one and one != other and len({one, other}) == 2


def test_bad_options_of_each() -> None:
    source = torch.full((2, 4), 5)
    change: dict[str, Any]
    for change, error, words in (
        ({"beams": 0}, ValueError, "beams is 0"),
        ({"valid": torch.ones(2)}, TypeError, "valid is torch.float32"),
        ({"valid": torch.ones(2, 1).bool()}, ValueError, "valid has shape"),
        ({"spans": torch.ones(2, 4)}, TypeError, "spans is torch.float32"),
        ({"spans": torch.ones(2, 5).bool()}, ValueError, r"spans has shape \(2, 5\), must be \(2, 4\)"),
        ({"vote": lambda p, alive: p.sum(1) * math.nan}, ValueError, "model or vote gives NaN"),
        ({"vote": lambda p, alive: 9 * p.sum(1)}, ValueError, "vote gives .*, must be at most 1"),
        ({"vote": "mean"}, TypeError, r"vote is 'mean' \(str\), must be a Callable"),
        ({"vote": lambda p, alive: p}, ValueError, r"vote gives shape \(2, 1, 1, 12\), must be \(2, 1, 12\)"),
        ({"min_tokens": 33}, ValueError, "min_tokens is 33, must be at most steps, 32"),
        ({"min_tokens": -1}, ValueError, "min_tokens is -1"),
    ):
        with pytest.raises(error, match=words):
            beam_search(small(), source, separator=SEP, **change)
    for change, error, words in (
        ({"temperature": 0.0}, ValueError, "temperature is 0.0"),
        ({"top_p": 1.5}, ValueError, "top_p is 1.5, must be at most 1"),
        ({"top_p": 0.0}, ValueError, "top_p is 0.0"),
        ({"samples": 0}, ValueError, "samples is 0"),
        ({"sources": source[None]}, ValueError, r"must be \(Q, L\)"),
    ):
        with pytest.raises(error, match=words):
            sample(**{"model": small(), "sources": source, "separator": SEP, **change})
    broken = small()
    with torch.no_grad():
        broken.bias[5] = math.nan
    for f in (beam_search, sample):
        with pytest.raises(ValueError, match=r"gives NaN"):
            f(broken, source, separator=SEP)
