"""The bookkeeping of a beam search: candidates read by the host, beams and where they came from, spans that are copied.

The search is `gantext.seq2seq.decoding.beam_search`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Copied", "Trace", "advance", "candidates", "first", "forbidden", "packed", "put", "unpacked", "vocabulary"]


def put(t: Tensor, place: torch.device) -> Tensor:
    """On this device, without waiting for it: what is sent is small, and staged before the call returns."""
    return t.to(place, non_blocking=True)


def first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of the last dimension, in order, and where they are: of equal ones the first, unlike `topk`."""
    found, order = scores.sort(dim=-1, descending=True, stable=True)
    return found[..., :k], order[..., :k]


def candidates(scores: Tensor, k: int, most: Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    """As `first` of (Q, n), and one number besides, read by the host at once.

    Without sorting all where `topk` can do no harm; -inf is no candidate, wherever it is.
    """
    if scores.shape[1] > k:
        found, order, number = _read(*scores.topk(k + 1), most)
        if not ((found[:, 1:] == found[:, :-1]) & (found[:, 1:] > -math.inf)).any():
            return found[:, :k], order[:, :k], number
    return _read(*first(scores, k), most)


def _read(found: Tensor, order: Tensor, most: Tensor) -> tuple[np.ndarray, np.ndarray, float]:
    if found.device.type != "cpu":
        found, order, most = unpacked(packed(found, order, most).cpu(), found)
    return found.numpy(), order.numpy(), most.item()


def packed(found: Tensor, order: Tensor, most: Tensor) -> Tensor:
    """Numbers, their places and one number more in one tensor of integers, the numbers bit by bit."""
    kind = torch.int32 if found.dtype == torch.float32 else torch.int64
    return torch.cat([found.view(kind).flatten(), order.to(kind).flatten(), most.view(1).view(kind)])


def unpacked(packed: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `packed` was made of; `like` has the shape and dtype of the numbers."""
    n = like.numel()
    numbers = packed.view(like.dtype)
    return numbers[:n].view(like.shape), packed[n : 2 * n].view(like.shape).long(), numbers[2 * n]


def forbidden(
    allow: Tensor | None, there: Tensor, words: Tensor | None, V: int, separator: int | None, place: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """What may not be generated, broadcast to (Q, 1, C), None if nothing; and what may not while the end may not."""
    word = torch.arange(V)[None] if words is None else words
    never = None
    if allow is not None or not there.all():
        never = ~there if allow is None else ~(allow[word] & there)
        never = never[:, None]  # (Q, 1, 1 or C)
    sent = None if never is None else put(never, place)
    if separator is None:
        return sent, None
    end = (word == separator)[:, None]
    return sent, put(end if never is None else end | never, place)


class Copied:
    """The places in the sources' spans that may come next for each beam, (Q, N, 1 or K, L + 1) bool.

    The last place, past the end of a source, never matches, and stands for the separator, which may always come.
    """

    def __init__(
        self, tokens: Tensor, span: Tensor, columns: Tensor, words: Tensor, separator: int, place: torch.device
    ) -> None:
        Q, N, L = tokens.shape
        self.C = words.shape[1]
        last = (words == separator).long().argmax(1)  # (Q,), a column that stands for the separator
        padded = last[:, None, None].expand(Q, N, 1)
        texts = F.pad(tokens.masked_fill(~span, -1), (0, 1), value=-1)
        columns = torch.cat([columns.view(Q, N, L), padded], 2)
        self.tokens, columns = put(torch.stack([texts, columns]), place)  # (Q, N, L + 1) each
        self.columns = columns.flatten(1)[:, None]  # (Q, 1, N (L + 1))
        self.start = self.tokens >= 0
        self.match = self.start[:, :, None]

    def blocked(self) -> Tensor:
        """The columns of what does not follow, (Q, 1 or K, C) bool."""
        index = torch.where(self.match.transpose(1, 2).flatten(2), self.columns, self.columns[..., -1:])
        return index.new_ones(*index.shape[:2], self.C, dtype=torch.bool).scatter_(2, index, False)

    def step(self, parent: Tensor, token: Tensor) -> None:
        """Beam k, (Q, K), continues beam `parent` with this token."""
        self.match = advance(self.match, self.start, self.tokens, parent, token)


def advance(match: Tensor, start: Tensor, tokens: Tensor, parent: Tensor, token: Tensor) -> Tensor:
    """Positions after those that matched and hold the chosen token: one comparison and one shift, (Q, N, K, L)."""
    Q, N, _, L = match.shape
    if match.shape[2] > 1:
        match = match.gather(2, parent[:, None, :, None].expand(Q, N, -1, L))
    match = match & (tokens[:, :, None] == token[:, None, :, None])
    return F.pad(match[..., :-1], (1, 0)) & start[:, :, None]


class Trace:
    """The beams of all steps, and from where each was continued: the bookkeeping of a search, on the host."""

    def __init__(self, separator: int, there: np.ndarray, K: int, kind: type[np.floating]) -> None:
        Q = len(there)  # (Q, 1), where a source has a vote
        self.separator, self.scores = separator, np.full((Q, K), -np.inf, kind)  # of the unfinished
        self.top, self.done = self.scores[:, 0].copy(), np.zeros(Q, dtype=bool)  # of the finished the best score
        self.scores[:, :1][there] = 0  # all beams start as one
        self.ends: list[tuple[np.ndarray, np.ndarray]] = []  # of each step: scores of those that end, their beams
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []  # the beams that are continued, and their next tokens
        self.row = np.arange(Q)[:, None]

    def step(
        self, best: np.ndarray, parent: np.ndarray, column: np.ndarray, words: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Parents and tokens (Q, K) of those that go on, from the 2 K best candidates in order."""
        K = self.scores.shape[1]
        token = column if words is None else words[self.row, column]
        stop = token == self.separator
        ended = np.where(stop[:, :K], best[:, :K], -np.inf)  # one that ends outside the beam is no candidate
        self.ends.append((ended, parent[:, :K]))
        best = np.where(stop, -np.inf, best)
        order = np.argsort(-best, axis=1, kind="stable")[:, :K]
        scores, parent, token = best[self.row, order], parent[self.row, order], token[self.row, order]
        self.steps.append((parent, token))
        self.top = np.maximum(self.top, ended.max(1))
        self.done = self.top >= scores[:, 0]
        scores[self.done] = -np.inf  # what is decided does not depend on the others
        self.scores = scores
        return parent, token

    def answers(self, T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """tokens, lengths, scores, ended as in `Answers`: of all that ended, and the unfinished as they are."""
        (Q, K), row = self.scores.shape, self.row
        scores = np.concatenate([*(ended for ended, _ in self.ends), self.scores], 1)
        beams = np.concatenate([*(beam for _, beam in self.ends), np.arange(K)[None].repeat(Q, 0)], 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :K]  # of equal ones the first
        scores, beam, length = scores[row, order], beams[row, order], order // K
        tokens = np.full((Q, K, T), self.separator)
        for t, (parent, token) in reversed(list(enumerate(self.steps))):
            within = t < length
            tokens[..., t] = np.where(within, token[row, beam], self.separator)
            beam = np.where(within, parent[row, beam], beam)
        empty = scores == -np.inf
        tokens[empty] = self.separator
        lengths = (tokens != self.separator).sum(-1)  # no answer holds the separator
        ended = (lengths < T) & ~empty
        there = torch.from_numpy
        return there(tokens), there(lengths), there(scores), there(ended)


def vocabulary(tokens: Tensor, separator: int) -> tuple[Tensor, Tensor]:
    """The different tokens of each question, (Q, C) in ascending order, filled up with the separator, among them too.

    And the column of each position of tokens (Q, N, L): (Q, N L).
    """
    Q = len(tokens)
    found, order = F.pad(tokens.flatten(1), (0, 1), value=separator).sort(1)
    rank = F.pad((found[:, 1:] != found[:, :-1]).cumsum(1), (1, 0))  # column of each sorted token
    places = torch.empty_like(rank).scatter_(1, order, rank)
    most = max(2, int(rank[:, -1].max()) + 1)  # with one beam two candidates are asked for
    return found.new_full((Q, most), separator).scatter_(1, rank, found), places[:, :-1]
