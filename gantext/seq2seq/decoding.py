"""Decoding of a prefix-LM: greedy, beam search with votes and copied spans, sampling; the source is read once.

The chapter is `reading-comprehension`; the model is `gantext.seq2seq.transformer.Transformer`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gantext._checks import check_count, check_dtype, check_number, check_shape, check_type, wide
from gantext.seq2seq.cache import Cache
from gantext.seq2seq.inputs import allowed, evaluating, opened
from gantext.seq2seq.transformer import Transformer

__all__ = ["Answers", "beam_search", "beam_search_ref", "greedy", "largest", "mean", "sample", "squares"]

Vote = Callable[[Tensor, Tensor], Tensor]
TOGETHER = 256  # samples drawn at once: the mask of a step has a row and columns for each, and grows with their square


def squares(p: Tensor, alive: Tensor) -> Tensor:
    """S = sum p_i^2 / (1 + sum p_i) over the passages i (equation `reading-comprehension:vote`).

    Args:
        p: (Q, N, K, V), probabilities, 0 for a passage that has no vote. All votes take these two arguments.
        alive: (Q, N) bool, which passages vote.
    Returns:
        (Q, K, V), from 0 to 1.

    The commonest surprise: not a distribution: one certain passage gives 1/2, and a lukewarm one can lower S.

    Source: Su Jianlin, kexue.fm 5409 and 7115.

    >>> p = torch.tensor([0.2, 0.2, 0.2, 0.2]).view(1, 4, 1, 1)  # four that are hardly sure
    >>> f"{squares(p, torch.ones(1, 4, dtype=torch.bool)).item():.3f}"  # a single 0.7 gives 0.288
    '0.089'
    """
    return p.square().sum(1) / (1 + p.sum(1))


def mean(p: Tensor, alive: Tensor) -> Tensor:
    """Mean of the probabilities over the passages that vote, 0 if none does; arguments as `squares`."""
    if p.shape[1] == 1:
        return p[:, 0]
    return p.sum(1) / alive.sum(1).clamp(min=1)[:, None, None]


def largest(p: Tensor, alive: Tensor) -> Tensor:
    """Largest probability of any passage; arguments as `squares`."""
    return p.amax(1)


@dataclasses.dataclass(frozen=True, eq=False)  # tensors have no one truth
class Answers:
    """What was decoded for Q questions, K hypotheses each, the best first.

    tokens (Q, K, T) int64, filled with the separator; lengths (Q, K), without it; scores (Q, K), -inf where there is no
    hypothesis; ended (Q, K) bool, whether the separator was reached; alive (Q, N) bool, the sources that voted;
    separator (Q, N), the probability each source gave the separator as first token: that it has no answer.

    >>> answers = Answers(torch.tensor([[[7, 8, 3]]]), *torch.tensor([[[2]], [[-1]], [[1]], [[1]], [[0]]]))
    >>> answers.best()
    [[7, 8]]
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    ended: Tensor
    alive: Tensor
    separator: Tensor

    def best(self) -> list[list[int]]:
        """The best answer of each question as a list of token ids; empty: no answer."""
        pairs = zip(self.tokens[:, 0].tolist(), self.lengths[:, 0].tolist(), strict=True)
        return [tokens[:n] for tokens, n in pairs]


@torch.no_grad()
def beam_search(
    model: Transformer,
    sources: Tensor,
    lengths: Tensor | None = None,
    *,
    separator: int,
    beams: int = 4,
    steps: int = 32,
    valid: Tensor | None = None,
    spans: Tensor | None = None,
    exclude: bool = False,
    vote: Vote = mean,
    allow: Tensor | None = None,
    min_tokens: int = 0,
) -> Answers:
    """The K best target sequences of each question, over several sources that vote on each token.

    Maximises sum_t log S(y_t), S(w) = vote of the p_i(w | source i, y_<t), over sequences that end with the separator
    (equation `reading-comprehension:beam`). Of the 2K best continuations of the K beams, those that end within the
    best K are finished, and the K best others go on, until none can become better than the best finished one; after
    the last step the unfinished compete as they are. Of equal scores the earlier finished, the better beam's, the
    smaller token comes first.

    Args:
        model: Transformer; in evaluation mode for the call.
        sources: (Q, N, L) int64, N sources a question, padded on the right with any token; or (Q, L), one each.
        lengths: (Q, N) or (Q,) int64, >= 1 where valid. None: L.
        separator: the token that ends a target.
        beams: K >= 1; 1 is greedy. steps: most tokens, the separator counted.
        valid: (Q, N) bool, False for a source that is only there to fill. None: all.
        spans: (Q, N, L) or (Q, L) bool, positions that may be copied. The answer is then a contiguous run of them in
            at least one surviving source, or empty. None: free.
        exclude: drop the sources whose most probable first token is the separator.
        vote: from p (Q, N, K, C) and alive (Q, N) to S (Q, K, C) in [0, 1]: `squares`, `mean`, `largest` or another
            that treats all C tokens alike. Those are all V or, with `spans`, the tokens of the question's sources;
            what concerns one token is for `allow` and `min_tokens`.
        allow: (V,) bool, tokens that may be generated at all, the separator included. None: all.
        min_tokens: fewest tokens of an answer, the separator not counted, from 0 to steps. What has fewer and cannot
            go on, as at the end of its span, is given up.

    Returns:
        `Answers`. Where every candidate is masked, or no source is alive: length 0, score -inf, not ended. Scores and
        probabilities are float32 or better; a vote below their least normal number, 1e-38, counts as that.

    Raises:
        TypeError, ValueError: tensors that do not fit, tokens outside the vocabulary, a valid source of length 0,
            source and steps together longer than the model; NaN, a vote above 1 or of another shape.

    The commonest surprise: probabilities that the constraints exclude are not given to the others, so an answer with a
    forced token still pays for it, as with Hugging Face's `prefix_allowed_tokens_fn`. Sources that are excluded or
    decided leave the batch: a condition per source that some module holds is for `sample`, which keeps all.

    Source: the chapter `reading-comprehension`; Su Jianlin, kexue.fm 7115.

    Example:
        >>> from gantext.seq2seq.transformer import Config
        >>> _ = torch.manual_seed(0)
        >>> model = Transformer(Config(12, width=16, layers=1, heads=2))
        >>> source = torch.tensor([[[2, 5, 6, 7, 3, 9, 3]]])  # one question, one passage: 5 6 7
        >>> copied = torch.tensor([[[0, 1, 1, 1, 0, 0, 0]]]).bool()
        >>> answer = beam_search(model, source, separator=3, spans=copied, steps=5)
        >>> answer.tokens.shape, set(answer.best()[0]) <= {5, 6, 7}
        (torch.Size([1, 4, 5]), True)
    """
    name = "beam_search"
    beams = check_count(name, "beams", beams)
    tokens, n, valid = opened(name, model, sources, lengths, separator, steps, valid)
    check_type(name, "vote", vote, Callable, "Write squares, mean, largest or a function of p and alive.")
    check_count(name, "min_tokens", min_tokens, 0)
    if min_tokens > steps:
        raise ValueError(f"{name}: min_tokens is {min_tokens}, must be at most steps, {steps}. Allow more steps.")
    separator, K, T = int(separator), beams, int(steps)  # of NumPy's kinds too
    (Q, N, L), V = tokens.shape, model.config.vocabulary
    start = valid[..., None] & (torch.arange(L, device=n.device) < n[..., None]) & (tokens != separator)  # (Q, N, L)
    if spans is not None:
        check_dtype(name, "spans", spans, torch.bool)
        check_shape(name, "spans", spans, sources.shape, "Mark every token of the passages.")
        start &= spans.reshape(Q, N, -1)[..., :L]
    allow = allowed(name, allow, V, tokens.device)
    new = lambda *shape, fill=0.0, dtype=torch.int64: torch.full(shape, fill, dtype=dtype, device=tokens.device)
    with evaluating(model):
        rows, alive = valid.flatten().nonzero()[:, 0], valid  # the sources that are still read
        rows = rows if len(rows) else rows.new_zeros(1)
        question = rows // N
        cache = Cache(model, tokens.flatten(0, 1)[rows], n.flatten()[rows], K, T)
        h = cache.first
        scores = new(Q, K, fill=-math.inf, dtype=torch.promote_types(h.dtype, torch.float32))  # of the unfinished
        scores[:, 0] = 0
        history = new(Q, K, T, fill=separator)
        finished = new(Q, K, fill=-math.inf, dtype=scores.dtype), history
        none = scores.new_zeros(Q, N)
        words = torch.arange(V, device=rows.device).expand(Q, V)  # (Q, C), the tokens that can come next
        places, match = words[:, :0], start[:, :, None]
        if spans is not None:  # a place more after each source, the separator's, that never matches
            start, tokens = F.pad(start, (0, 1)), F.pad(tokens, (0, 1))
            words, places = _vocabulary(tokens.masked_fill(~start, separator), separator)
        allow = allow[words][:, None]  # (Q, 1, C)
        for t in range(T):
            p = model.logits(h).to(scores.dtype).softmax(-1)  # (R, 1 or K, V), of the sources that are read
            if t == 0:
                none.view(-1)[rows] = p[:, 0, separator]
                none = none * valid
                if exclude:
                    alive = alive.clone()
                    alive.view(-1)[rows] &= p[:, 0].argmax(-1) != separator
                scores = scores.masked_fill(~alive.any(1, keepdim=True), -math.inf)
                allow = allow & alive.any(1)[:, None, None]
                start = start & alive[..., None]
                match = start[:, :, None]  # (Q, N, 1 or K, L + 1)
            if spans is not None:
                p = p.gather(2, words[question][:, None].expand(-1, p.shape[1], -1))
            if len(rows) < Q * N:
                p = p.new_zeros(Q * N, *p.shape[1:]).index_copy_(0, rows, p)
            p = p.unflatten(0, (Q, N))  # (Q, N, 1 or K, C)
            if t == 0 and exclude:
                p = p * alive[..., None, None]
            S = vote(p, alive)  # (Q, 1 or K, C)
            if S.shape != (Q, *p.shape[2:]):
                rule = f"must be {(Q, *p.shape[2:])}. Reduce the second dimension, of the sources, alone."
                raise ValueError(f"{name}: vote gives shape {tuple(S.shape)}, {rule}")
            may = allow
            if spans is not None:
                may = may & _next_tokens(match, places, words.shape[1])
            if t < min_tokens:
                may = may & (words != separator)[:, None]
            S = S.to(scores.dtype).clamp(min=torch.finfo(scores.dtype).tiny).masked_fill(~may, -1)
            logs = S.log().masked_fill_(S < 0, -math.inf)
            best, flat = _largest((scores[..., None] + logs).flatten(1), 2 * K)  # of (Q, K C): by beam, then by token
            parent, column = flat // words.shape[1], flat % words.shape[1]
            stop = words.gather(1, column) == separator
            stop_score = best.masked_fill(~stop, -math.inf)[:, :K]  # one that ends outside the beam is no candidate
            finished = _better(finished, stop_score, _of(parent[:, :K], history))
            scores, order = _first(best.masked_fill(stop, -math.inf), K)
            parent, column = parent.gather(1, order), column.gather(1, order)  # (Q, K)
            token = words.gather(1, column)
            history = _of(parent, history)
            history[..., t] = token
            done = finished[0][:, 0] >= scores[:, 0]
            scores = scores.masked_fill(done[:, None], -math.inf)  # what is decided does not depend on the others
            going = (alive & ~done[:, None]).flatten()
            most, left = torch.stack([S.amax(), going[rows].sum().to(S.dtype)]).tolist()  # the one host read
            if math.isnan(most):
                raise ValueError(f"{name}: model or vote gives NaN, must be numbers. Look for NaN weights.")
            if most > 1 + 1e-3:  # more than rounding
                raise ValueError(f"{name}: vote gives {most:.4g}, must be at most 1. Divide it by its largest value.")
            if t == T - 1 or left == 0:
                break
            if left <= 3 * len(rows) / 4 or (t == 0 and left < len(rows)):
                keep = going[rows].nonzero()[:, 0]
                rows, question = rows[keep], question[keep]
                cache.select(keep)
            if t > 0 and K > 1:
                cache.reorder(parent[question])
            if spans is not None:
                match = _advance(match, start, tokens, parent, token)
            h = cache.step(token[question])
        scores, tokens = _better(finished, scores, history)  # what is unfinished competes as it is
    empty = scores == -math.inf
    tokens = tokens.masked_fill(empty[..., None], separator)
    lengths = (tokens != separator).sum(-1)  # no answer holds the separator
    return Answers(tokens, lengths, scores, (lengths < T) & ~empty, alive, none)


def greedy(model: Transformer, sources: Tensor, lengths: Tensor | None = None, **options: Any) -> Answers:
    """The most probable token at each step until the separator: `beam_search` with one beam; options as there.

    >>> from gantext.seq2seq.transformer import Config
    >>> _ = torch.manual_seed(0)
    >>> model = Transformer(Config(12, width=16, layers=1, heads=2))
    >>> len(greedy(model, torch.tensor([[2, 5, 3], [2, 6, 3]]), separator=3, steps=4).best())
    2
    """
    return beam_search(model, sources, lengths, beams=1, **options)


@torch.no_grad()
def sample(
    model: Transformer,
    sources: Tensor,
    lengths: Tensor | None = None,
    *,
    separator: int,
    samples: int = 1,
    steps: int = 32,
    top_p: float = 1.0,
    temperature: float = 1.0,
    allow: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Answers:
    """Random target sequences by nucleus sampling.

    Each token is drawn from softmax(logits / temperature) restricted to its nucleus, the fewest most probable tokens
    that together have probability at least top_p (equation `conditional-layer-norm:nucleus`).

    Args:
        model, sources, lengths, separator, steps, allow: as `beam_search`, with one source a question: (Q, L).
        samples: K >= 1 sequences for each source, drawn independently.
        top_p: in (0, 1]; 1 draws from all. temperature: > 0; near 0 is greedy.
        generator: of the device of `sources`; None: torch's own.

    Returns:
        `Answers`, in the order drawn, whose scores are the log-probabilities under the model itself, before
        temperature, nucleus and `allow`.

    Raises:
        TypeError, ValueError: as `beam_search`; temperature or top_p out of range.

    The commonest surprise: modules with a condition per source, (Q, ...), see states (Q, L, D), then (Q, K, D).

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv 1904.09751.

    Example:
        >>> from gantext.seq2seq.transformer import Config
        >>> model = Transformer(Config(12, width=16, layers=1, heads=2))
        >>> prompt = torch.tensor([[2, 5, 3]])
        >>> sample(model, prompt, separator=3, samples=5, steps=4, top_p=0.9).tokens.shape
        torch.Size([1, 5, 4])
    """
    name = "sample"
    samples = check_count(name, "samples", samples)
    temperature = check_number(name, "temperature", temperature, 0)
    top_p = check_number(name, "top_p", top_p, 0)
    if top_p > 1:
        raise ValueError(f"{name}: top_p is {top_p}, must be at most 1. 0.9 is usual.")
    if isinstance(sources, Tensor) and sources.dim() != 2:
        raise ValueError(f"{name}: sources has shape {tuple(sources.shape)}, must be (Q, L). Flatten the sources.")
    if samples > TOGETHER:
        settings = {"separator": separator, "steps": steps, "top_p": top_p, "temperature": temperature}
        parts = [
            sample(model, sources, lengths, samples=K, allow=allow, generator=generator, **settings)
            for K in (min(TOGETHER, samples - k) for k in range(0, samples, TOGETHER))
        ]
        drawn = ("tokens", "lengths", "scores", "ended")  # the rest is the source's
        return dataclasses.replace(parts[0], **{k: torch.cat([getattr(part, k) for part in parts], 1) for k in drawn})
    tokens, n, valid = opened(name, model, sources, lengths, separator, steps, None)
    separator, steps, K = int(separator), int(steps), samples  # of NumPy's kinds too
    Q, V, temperature = len(tokens), model.config.vocabulary, max(temperature, torch.finfo(torch.float32).tiny)
    allow = allowed(name, allow, V, tokens.device)
    out = tokens.new_full((Q, K, steps), separator)
    live = torch.full((Q, K), bool(allow.any()), device=tokens.device)  # with nothing allowed there is nothing to draw
    with evaluating(model):
        cache = Cache(model, tokens[:, 0], n[:, 0], K, steps)
        h = cache.first
        kind = torch.promote_types(h.dtype, torch.float32)
        scores = torch.zeros_like(live, dtype=kind).masked_fill(~live, -math.inf)
        none, counts = scores[:, :1], tokens.new_zeros(Q, K)
        for t in range(steps):
            logits = model.logits(h).to(kind)  # (Q, 1 or K, V)
            logs = logits.log_softmax(-1)
            if t == 0:
                none = logs[:, :, separator].exp()
            if not live.any():
                break
            logits = logits.masked_fill(~allow, -math.inf)
            p = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
            if top_p < 1:  # 1 is all: a sum that rounding brings to 1 early would cut the last ones off
                ranked, index = p.sort(-1, descending=True)
                outside = ranked.cumsum(-1) - ranked >= top_p  # the tokens before it have enough
                p = p.scatter(-1, index, ranked.masked_fill(outside, 0))
            p = p.expand(Q, K, V)
            if p.isnan().any():
                raise ValueError(f"{name}: model gives NaN, must be numbers. Look for NaN weights.")
            token = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(Q, K)
            token = token.masked_fill(~live, separator)
            scores = scores + logs.expand(Q, K, V).gather(2, token[..., None])[..., 0].masked_fill(~live, 0)
            out[..., t] = token
            live = live & (token != separator)
            counts = counts + live
            if t < steps - 1:
                h = cache.step(token)
    ended = ~live & (scores > -math.inf)
    return Answers(out, counts, scores, ended, valid, none)


@torch.no_grad()
def beam_search_ref(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    *,
    separator: int,
    beams: int,
    steps: int,
    texts: Sequence[Sequence[int]] | None = None,
    exclude: bool = False,
    vote: Vote = mean,
    min_tokens: int = 0,
) -> list[tuple[list[int], float]]:
    """One question by the textbook: no cache, no batch, n-grams by comparison. The reference of `beam_search`.

    Args:
        sources: N lists of token ids, without padding.
        texts: for each source the tokens that may be copied, in one piece; None: free. The others: as `beam_search`.
    Returns:
        (tokens without separator, score), the best first, at most K; empty if no source survives.

    >>> from gantext.seq2seq.transformer import Config
    >>> model = Transformer(Config(12, width=16, layers=1, heads=2))
    >>> answers = beam_search_ref(model, [[2, 5, 6, 3, 9, 3]], separator=3, beams=2, steps=3, texts=[[5, 6]])
    >>> {token for tokens, _ in answers for token in tokens} <= {5, 6}
    True
    """

    def predict(source: Sequence[int], target: list[int]) -> Tensor:
        tokens = torch.tensor([[*source, *target]], device=model.bias.device)
        return wide(model.logits(model.hidden(tokens, len(source))[0, -1])).softmax(-1)  # (V,)

    voters = range(len(sources))
    with evaluating(model):
        if exclude:
            voters = [i for i in voters if predict(sources[i], []).argmax() != separator]
        beam: list[tuple[list[int], float]] = [([], 0.0)] if voters else []
        finished: list[tuple[list[int], float]] = []
        for t in range(steps):
            candidates = []
            for target, score in beam:
                p = torch.stack([predict(sources[i], target) for i in voters])[None, :, None]  # (1, N, 1, V)
                S = vote(p, torch.ones(p.shape[:2], dtype=torch.bool, device=p.device))[0, 0]
                words = set(range(len(S)))
                if texts is not None:
                    runs = [(texts[i], j) for i in voters for j in range(len(texts[i]) - t)]
                    words = {separator} | {text[j + t] for text, j in runs if list(text[j : j + t]) == target}
                words -= {separator} if t < min_tokens else set()
                logs = S.clamp(min=torch.finfo(S.dtype).tiny).log().tolist()
                candidates += [([*target, w], score + logs[w]) for w in sorted(words)]
            candidates.sort(key=lambda pair: -pair[1])
            finished += [(y[:-1], score) for y, score in candidates[:beams] if y[-1] == separator]
            beam = [pair for pair in candidates if pair[0][-1] != separator][:beams]
            if not beam or max((score for _, score in finished), default=-math.inf) >= beam[0][1]:
                beam = []
                break
    return sorted(finished + beam, key=lambda pair: -pair[1])[:beams]


def _first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of the last dimension, in order, and where they are: of equal ones the first, unlike `topk`."""
    found, order = scores.sort(dim=-1, descending=True, stable=True)
    return found[..., :k], order[..., :k]


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `_first` of (Q, n), without sorting all where `topk` can do no harm; -inf is no candidate, wherever it is."""
    if scores.is_cuda or scores.shape[1] <= k:  # sorting is fast there, and to ask for ties would stop the queue
        return _first(scores, k)
    found, order = scores.topk(k + 1)
    if any(a == b > -math.inf for row in found.tolist() for a, b in itertools.pairwise(row)):
        return _first(scores, k)
    return found[:, :k], order[:, :k]


def _of(rows: Tensor, values: Tensor) -> Tensor:
    """Rows (Q, K) of values (Q, 1 or K', ...), all of its one."""
    return values if values.shape[1] == 1 else values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))


def _better(best: tuple[Tensor, Tensor], scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The K best of hypotheses and further ones, scores (Q, K) and tokens (Q, K, T), the best first."""
    scores, order = _first(torch.cat([best[0], scores], 1), scores.shape[1])
    return scores, _of(order, torch.cat([best[1], tokens], 1))


def _vocabulary(tokens: Tensor, separator: int) -> tuple[Tensor, Tensor]:
    """The different tokens of each question, (Q, C) in ascending order, filled up with the separator, among them too.

    And the column of each position of tokens (Q, N, L): (Q, N L).
    """
    found, order = tokens.flatten(1).sort(1)
    rank = F.pad((found[:, 1:] != found[:, :-1]).cumsum(1), (1, 0))  # column of each sorted token
    places = torch.empty_like(rank).scatter_(1, order, rank)
    most = max(2, int(rank[:, -1].max()) + 1)  # with one beam two candidates are asked for
    return found.new_full((len(found), most), separator).scatter_(1, rank, found), places


def _next_tokens(match: Tensor, places: Tensor, C: int) -> Tensor:
    """The columns at matching positions (Q, N, K, L), as (Q, K, C) bool, and the last position's, the separator's."""
    index = places[:, None].where(match.transpose(1, 2).flatten(2), places[:, None, -1:])  # (Q, K, N L)
    return index.new_zeros(*index.shape[:2], C, dtype=torch.bool).scatter_(2, index, True)


def _advance(match: Tensor, start: Tensor, tokens: Tensor, parent: Tensor, token: Tensor) -> Tensor:
    """Positions after those that matched and hold the chosen token: one comparison and one shift, (Q, N, K, L)."""
    Q, N, _, L = match.shape
    if match.shape[2] > 1:
        match = match.gather(2, parent[:, None, :, None].expand(Q, N, -1, L))
    match = match & (tokens[:, :, None] == token[:, None, :, None])
    return F.pad(match[..., :-1], (1, 0)) & start[:, :, None]
