"""Keys and values of a prefix-LM: the source's once for all beams, and what each beam generates.

The chapter is `prefix-lm`; `gantext.seq2seq.decoding` decodes with it.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gantext.seq2seq.prefixlm import Attend, Layout, additive
from gantext.seq2seq.transformer import Transformer

__all__ = ["Cache"]


class Cache:
    """Keys and values of sources, once for all beams, and of what each beam has generated.

    In a prefix-LM no source state depends on the target (equation `prefix-lm:cache`), so one reading is exact. It is
    for decoding, and has no graph.

    Args:
        model: Transformer.
        sources: (B, L) int64, padded on the right.
        lengths: (B,) int64 >= 1.
        beams: K >= 1.
        steps: most tokens that will be generated after each source.
    Attributes:
        first: (B, 1, D), hidden state of each source's last token, which predicts the first generated one.

    The commonest surprise: memory for the generated part is taken at once, 2 layers B K steps D numbers.

    >>> from gantext.seq2seq.transformer import Config
    >>> model = Transformer(Config(20, width=8, layers=1, heads=2)).eval()
    >>> cache = Cache(model, torch.tensor([[5, 6, 7]]), torch.tensor([3]), beams=2, steps=4)
    >>> cache.step(torch.tensor([[8, 9]])).shape  # two continuations
    torch.Size([1, 2, 8])
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, sources: Tensor, lengths: Tensor, beams: int, steps: int) -> None:
        B, L = sources.shape
        config, place = model.config, sources.device
        self.model, self.beams, self.room, self.t = model, beams, steps * beams, 0
        lengths = lengths.cpu()  # a GPU is read once
        layout = Layout(0 if config.causal else lengths, B, L, lengths=lengths, device=place, name="Cache")
        real = (torch.arange(L) < lengths[:, None])[:, None, None].to(place)  # (B, 1, 1, L)
        found: list[Tensor] = []  # k and v of each layer, all in one tensor; then the mask of the real ones
        rooms = itertools.count()

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if not found:
                found.append(k.new_zeros(2 * config.layers, B, k.shape[1], L + self.room, k.shape[3]))
            for part in (k, v):
                found[0][next(rooms), :, :, :L] = part
            if q.shape == k.shape:
                return layout(q, k, v)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=additive(real, q.dtype))  # of the last row: all

        before = F.pad(sources, (2, 0), value=-1) if config.shift else None  # (B, 2 + L)
        last = (lengths - 1)[:, None].to(place)  # (B, 1)
        self.first = h = model.run(
            sources,
            torch.arange(L, device=place).expand(B, L),
            torch.zeros_like(sources),
            () if before is None else (before[:, 1:-1], before[:, :-2]),
            [attend] * config.layers,
            last,
        )
        (self.stored,) = found  # k and v of each layer: (2 layers, B, H, L + steps K, d)
        self.recent = None  # the two tokens before, which only `shift` asks for, (2, B, K)
        if before is not None:
            self.recent = torch.stack([before.gather(1, last + 2), before.gather(1, last + 1)]).expand(-1, -1, beams)
        self.places = last + 1 + torch.arange(steps, device=place)  # (B, steps)
        self.segments = torch.full((B, beams), min(1, config.segments - 1), device=place)
        # Rows of a mask start at multiples of 8 numbers, as the kernels of a GPU want them: any other is copied there.
        self.hide = h.new_full((B, 1, beams, -(-(L + self.room) // 8) * 8), -math.inf)
        self.hide[..., :L] = additive(real, h.dtype)
        if beams == 1:
            self.hide[..., L:] = 0  # a beam alone sees all that it generates
        self.own = h.new_full((beams, beams), -math.inf).fill_diagonal_(0)

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, K, D) of the next token of each beam, (B, K); ValueError after the last of the steps."""
        if self.t * self.beams >= self.room:
            raise ValueError(f"step: {self.t} steps have been taken, must be at most {self.t}. Ask the Cache for more.")
        end = self.stored.shape[3] - self.room + (self.t + 1) * self.beams
        if self.beams > 1:
            self.hide[..., end - self.beams : end] = self.own
        hide, seen = self.hide[..., :end], self.stored[..., :end, :]
        new, seen = seen[..., end - self.beams :, :].unbind(), seen.unbind()  # all layers' at once: views cost time too

        def attend(layer: int) -> Attend:
            keys, values = 2 * layer, 2 * layer + 1

            def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                new[keys].copy_(k)
                new[values].copy_(v)
                return F.scaled_dot_product_attention(q, seen[keys], seen[values], attn_mask=hide)

            return call

        h = self.model.run(
            tokens,
            self.places[:, self.t : self.t + 1].expand_as(tokens),
            self.segments,
            () if self.recent is None else self.recent.unbind(),
            [attend(layer) for layer in range(len(seen) // 2)],
        )
        if self.recent is not None:
            self.recent = torch.stack([tokens, self.recent[0]])
        self.t += 1
        return h

    def reorder(self, parents: Tensor) -> None:
        """Beam k continues beam parents[b, k]: it sees what that one saw. No key and no value moves."""
        if self.recent is not None:
            self.recent = self.recent.gather(2, parents.expand(2, -1, -1))
        self.hide = self.hide.gather(2, parents[:, None, :, None].expand(self.hide.shape))

    def select(self, rows: Tensor) -> None:
        """Keep these sources, (R,) int64, only."""
        self.stored, self.hide, self.places = self.stored[:, rows], self.hide[rows], self.places[rows]
        self.segments = self.segments[: len(rows)]
        if self.recent is not None:
            self.recent = self.recent[:, rows]
