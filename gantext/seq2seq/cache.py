"""Keys and values of a prefix-LM: the source's once for all beams, and what each beam generates.

The chapter is `prefix-lm`; `gantext.seq2seq.decoding` decodes with it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gantext.seq2seq.prefixlm import Attend, Layout
from gantext.seq2seq.transformer import Transformer

__all__ = ["Cache"]


class Cache:
    """Keys and values of sources, once for all beams, and of what each beam has generated.

    In a prefix-LM no source state depends on the target (equation `prefix-lm:cache`), so one reading is exact.

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

    def __init__(self, model: Transformer, sources: Tensor, lengths: Tensor, beams: int, steps: int) -> None:
        B, L = sources.shape
        config, place = model.config, sources.device
        self.model, self.lengths, self.beams, self.room, self.t = model, lengths, beams, steps * beams, 0
        layout = Layout(0 if config.causal else lengths, B, L, lengths=lengths, device=place, name="Cache")
        self.layers: list[tuple[Tensor, Tensor]] = []  # k and v of each, (B, H, L + steps K, d)
        real = (torch.arange(L, device=place) < lengths[:, None])[:, None, None]  # (B, 1, 1, L)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.layers.append((F.pad(k, (0, 0, 0, self.room)), F.pad(v, (0, 0, 0, self.room))))
            if q.shape == k.shape:
                return layout(q, k, v)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=real)  # the last row sees its whole source

        positions = torch.arange(L, device=place).expand(B, L)
        before = F.pad(sources, (2, 0), value=-1)
        last = (lengths - 1)[:, None]  # (B, 1)
        self.first = h = model.run(
            sources,
            positions,
            torch.zeros_like(sources),
            (before[:, 1:-1], before[:, :-2]),
            [attend] * config.layers,
            last,
        )
        self.recent = torch.stack([before.gather(1, last + 2), before.gather(1, last + 1)]).expand(-1, -1, beams)
        hide = h.new_zeros(real.shape).masked_fill(~real, -math.inf)
        self.hide = F.pad(hide.expand(-1, -1, beams, -1), (0, self.room), value=-math.inf)  # (B, 1, K, L + steps K)
        self.own = h.new_full((beams, beams), -math.inf).fill_diagonal_(0)

    def step(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, K, D) of the next token of each beam, (B, K); ValueError after the last of the steps."""
        if self.t * self.beams >= self.room:
            raise ValueError(f"step: {self.t} steps have been taken, must be at most {self.t}. Ask the Cache for more.")
        positions = (self.lengths + self.t)[:, None].expand_as(tokens)
        before = (self.recent[0], self.recent[1])
        end = self.hide.shape[3] - self.room + (self.t + 1) * self.beams
        new = slice(end - self.beams, end)
        self.hide[..., new] = self.own
        hide = self.hide[..., :end]

        def attend(layer: tuple[Tensor, Tensor]) -> Attend:
            def call(q: Tensor, *kv: Tensor) -> Tensor:
                for whole, part in zip(layer, kv, strict=True):
                    whole[:, :, new] = part
                return F.scaled_dot_product_attention(q, *(whole[:, :, :end] for whole in layer), attn_mask=hide)

            return call

        h = self.model.run(tokens, positions, torch.ones_like(tokens), before, [attend(kv) for kv in self.layers])
        self.recent = torch.stack([tokens, self.recent[0]])
        self.t += 1
        return h

    def reorder(self, parents: Tensor) -> None:
        """Beam k continues beam parents[b, k]: it sees what that one saw. No key and no value moves."""
        self.recent = self.recent.gather(2, parents.expand(2, -1, -1))
        self.hide = self.hide.gather(2, parents[:, None, :, None].expand(self.hide.shape))

    def select(self, rows: Tensor) -> None:
        """Keep these sources, (R,) int64, only."""
        self.lengths, self.hide, self.recent = self.lengths[rows], self.hide[rows], self.recent[:, rows]
        self.layers = [(k[rows], v[rows]) for k, v in self.layers]
