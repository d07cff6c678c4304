"""Keys and values of a prefix-LM: the source's once for all beams, and what each beam generates.

The chapter is `prefix-lm`; `gantext.seq2seq.decoding` decodes with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gantext.seq2seq.prefixlm import Layout
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
        self.model, self.lengths, self.beams, self.t = model, lengths, beams, 0
        layout = Layout(0 if config.causal else lengths, B, L, lengths=lengths, device=place, name="Cache")
        self.sources: list[
            tuple[Tensor, Tensor]
        ] = []  # of each layer: k^T / sqrt(d), (B, H, d, L), and v, (B, H, L, d)

        real = (torch.arange(L, device=place) < lengths[:, None])[:, None, None]  # (B, 1, 1, L)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.sources.append(((k.mT * k.shape[-1] ** -0.5).contiguous(), v.contiguous()))  # no copy a step
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
        self.hide = h.new_zeros(real.shape).masked_fill(~real, -math.inf)
        shape = (B, beams, config.heads, steps, config.width // config.heads)
        self.made = [(h.new_zeros(shape), h.new_zeros(shape)) for _ in range(config.layers)]

    def step(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, K, D) of the next token of each beam, (B, K)."""
        positions = (self.lengths + self.t)[:, None].expand_as(tokens)
        before = (self.recent[0], self.recent[1])
        attends = [self._attend(*layer) for layer in zip(self.sources, self.made, strict=True)]
        h = self.model.run(tokens, positions, torch.ones_like(tokens), before, attends)
        self.recent = torch.stack([tokens, self.recent[0]])
        self.t += 1
        return h

    def _attend(self, source: tuple[Tensor, Tensor], made: tuple[Tensor, Tensor]) -> Callable[..., Tensor]:
        (K, V), t = source, self.t + 1

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            made[0][:, :, :, t - 1] = k.transpose(1, 2) * k.shape[-1] ** -0.5
            made[1][:, :, :, t - 1] = v.transpose(1, 2)
            new_k, new_v = (m[:, :, :, :t] for m in made)  # (B, K, H, t, d)
            old = q @ K + self.hide  # (B, H, K, L): the beams are rows of one product
            new = (new_k @ q.transpose(1, 2)[..., None])[..., 0]  # (B, K, H, t): each beam has its own
            w = torch.cat([old, new.transpose(1, 2)], -1).softmax(-1)
            old, new = w.split([K.shape[3], t], -1)
            return old @ V + (new.transpose(1, 2)[..., None, :] @ new_v)[..., 0, :].transpose(1, 2)

        return attend

    def reorder(self, parents: Tensor) -> None:
        """Beam k continues beam parents[b, k]; only what was generated moves."""
        B, K = parents.shape
        self.recent = self.recent.gather(2, parents.expand(2, -1, -1))
        index = (parents + K * torch.arange(B, device=parents.device)[:, None]).flatten()
        for pair in self.made:
            for m in pair:
                part = m.flatten(0, 1)[:, :, : self.t]  # (B K, H, t, d)
                part.copy_(part.index_select(0, index))

    def select(self, rows: Tensor) -> None:
        """Keep these sources, (R,) int64, only."""
        self.lengths, self.hide, self.recent = self.lengths[rows], self.hide[rows], self.recent[:, rows]
        self.sources = [(k[rows], v[rows]) for k, v in self.sources]
        self.made = [(k[rows], v[rows]) for k, v in self.made]
