"""Decoding of a prefix-LM: greedy, beam search with votes and copied spans, sampling; the source is read once.

The chapter is `reading-comprehension`; the model is `gantext.seq2seq.transformer.Transformer`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gantext._checks import check_count, check_dtype, check_number, check_shape, check_type, wide
from gantext.seq2seq.beams import Copied, Trace, candidates, forbidden, put, vocabulary
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
        `Answers`. Where every candidate is masked, or no source is alive, it has length 0, score -inf, and has not
        ended. Scores and probabilities are float32 or better; a vote below their least normal number, 1e-38, counts as
        that.

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
    (Q, N, L), V, place = tokens.shape, model.config.vocabulary, sources.device
    span = None  # (Q, N, L), what may be copied
    if spans is not None:
        check_dtype(name, "spans", spans, torch.bool)
        check_shape(name, "spans", spans, sources.shape, "Mark every token of the passages.")
        real = valid[..., None] & (torch.arange(L) < n[..., None]) & (tokens != separator)
        span = spans.cpu().reshape(Q, N, -1)[..., :L] & real
    allow = allowed(name, allow, V)
    # What the beams are is decided on the host, which reads the best candidates anyway: on a GPU a step is what the
    # model and the vote compute, one read and two uploads, and not a launch for each of three dozen tiny operations.
    with evaluating(model):
        rows = valid.numpy().ravel().nonzero()[0]  # the sources that are still read
        rows = rows if len(rows) else np.zeros(1, dtype=np.int64)
        question = rows // N
        cache = Cache(model, put(tokens.flatten(0, 1)[rows], place), n.flatten()[rows], K, T)
        kind = torch.promote_types(cache.first.dtype, torch.float32)
        p = model.logits(cache.first).softmax(-1, dtype=kind)  # (R, 1 or K, V), of the sources that are read
        at = None if len(rows) == Q * N else put(torch.from_numpy(rows), place)  # its rows among all Q N
        alive, silent = put(valid, place), p[:, 0, separator]
        none = (silent if at is None else silent.new_zeros(Q * N).index_copy_(0, at, silent)).view(Q, N)
        none = none if valid.all() else none * alive
        if exclude:
            says = p[:, 0].argmax(-1) != separator
            says = says if at is None else says.new_zeros(Q * N).index_copy_(0, at, says)
            alive = alive & says.view(Q, N)
            valid = alive.cpu()
        there = valid.any(1, keepdim=True)  # (Q, 1)
        trace = Trace(separator, there.numpy(), K, np.float32 if kind == torch.float32 else np.float64)
        scores = put(torch.from_numpy(trace.scores), place)
        words = spelt = picked = asked = copied = None  # (Q, C), the tokens that can come next where they are not all
        if span is not None:
            words, columns = vocabulary(tokens.masked_fill(~span, separator), separator)
            picked, spelt = put(words, place), words.numpy()
            copied = Copied(tokens, span & valid[..., None], columns, words, separator, place)
        blocked, shorter = forbidden(allow, there, words, V, separator if min_tokens else None, place)
        for t in range(T):
            if picked is not None:
                if asked is None:
                    asked = picked if at is None and N == 1 else picked[put(torch.from_numpy(question), place)]
                    asked = asked[:, None]  # (R, 1, C), for the sources that are read
                p = p.gather(2, asked.expand(-1, p.shape[1], -1))
            if at is not None:
                p = p.new_zeros(Q * N, *p.shape[1:]).index_copy_(0, at, p)
            p = p.unflatten(0, (Q, N))  # (Q, N, 1 or K, C)
            if t == 0 and exclude:
                p = p * alive[..., None, None]
            S = vote(p, alive)  # (Q, 1 or K, C)
            if S.shape != (Q, *p.shape[2:]):
                rule = f"must be {(Q, *p.shape[2:])}. Reduce the second dimension, of the sources, alone."
                raise ValueError(f"{name}: vote gives shape {tuple(S.shape)}, {rule}")
            logs = S.to(kind).clamp(min=torch.finfo(kind).tiny).log_()
            if copied is not None:
                logs.masked_fill_(copied.blocked(), -math.inf)
            if (never := shorter if t < min_tokens else blocked) is not None:
                logs.masked_fill_(never, -math.inf)
            C = logs.shape[2]
            found, flat, most = candidates((scores[..., None] + logs).flatten(1), 2 * K, logs.amax())
            if math.isnan(most):
                raise ValueError(f"{name}: model or vote gives NaN, must be numbers. Look for NaN weights.")
            if most > math.log1p(1e-3):  # more than rounding
                rule = "must be at most 1. Divide it by its largest value."
                raise ValueError(f"{name}: vote gives {math.exp(most):.4g}, {rule}")
            parent, token = trace.step(found, *np.divmod(flat, C), spelt)  # of K C: by beam, then by token
            going = (valid.numpy() & ~trace.done[:, None]).ravel()[rows]
            left = np.count_nonzero(going)
            if t == T - 1 or left == 0:
                break
            if left <= 3 * len(rows) / 4 or (t == 0 and left < len(rows)):
                rows, question, asked = rows[going], question[going], None
                at = put(torch.from_numpy(rows), place)
                cache.select(put(torch.from_numpy(going.nonzero()[0]), place))
            scores = put(torch.from_numpy(trace.scores), place)
            chosen = np.stack([parent, token])  # (2, Q, K), then with the sources' rows (2, Q + R, K)
            alone = len(rows) == Q and N == 1
            chosen = chosen if alone else np.concatenate([chosen, chosen[:, question]], 1)
            sent = put(torch.from_numpy(chosen), place)
            parents, tokens_next = sent[:, 0 if alone else Q :]
            if t > 0 and K > 1:
                cache.reorder(parents)
            if copied is not None:
                copied.step(sent[0, :Q], sent[1, :Q])
            p = model.logits(cache.step(tokens_next)).softmax(-1, dtype=kind)
    tokens, lengths, scores, ended = (put(x, place) for x in trace.answers(T))
    return Answers(tokens, lengths, scores, ended, alive, none)


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
    allow, place = allowed(name, allow, V), sources.device
    refused = None if allow is None or allow.all() else put(~allow, place)
    out = torch.full((Q, K, steps), separator, device=place)
    drawing = allow is None or bool(allow.any())  # with nothing allowed there is nothing to draw
    live = torch.full((Q, K), drawing, device=place)
    with evaluating(model):
        cache = Cache(model, put(tokens[:, 0], place), n[:, 0], K, steps)
        h = cache.first
        kind = torch.promote_types(h.dtype, torch.float32)
        scores = torch.zeros_like(live, dtype=kind).masked_fill(~live, -math.inf)
        none, counts = scores[:, :1], out.new_zeros(Q, K)
        for t in range(steps):
            logits = model.logits(h).to(kind)  # (Q, 1 or K, V)
            logs = logits.log_softmax(-1)
            if t == 0:
                none = logs[:, :, separator].exp()
            if not drawing:
                break
            logits = logits if refused is None else logits.masked_fill(refused, -math.inf)
            p = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)
            if top_p < 1:  # 1 is all: a sum that rounding brings to 1 early would cut the last ones off
                ranked, index = p.sort(-1, descending=True)
                outside = ranked.cumsum(-1) - ranked >= top_p  # the tokens before it have enough
                p = p.scatter(-1, index, ranked.masked_fill(outside, 0))
            drawing, wrong = torch.stack([live.any(), p.isnan().any()]).tolist()  # the one host read
            if not drawing:
                break
            if wrong:
                raise ValueError(f"{name}: model gives NaN, must be numbers. Look for NaN weights.")
            p = p.expand(Q, K, V)
            token = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(Q, K)
            token = token.masked_fill(~live, separator)
            scores = scores + logs.expand(Q, K, V).gather(2, token[..., None])[..., 0].masked_fill(~live, 0)
            out[..., t] = token
            live = live & (token != separator)
            counts = counts + live
            if t < steps - 1:
                h = cache.step(token)
    ended = ~live & (scores > -math.inf)
    return Answers(out, counts, scores, ended, put(valid, place), none)


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
