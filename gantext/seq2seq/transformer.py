"""A small Transformer that is a prefix-LM, and BERT when given its weights.

The chapter is `prefix-lm`; attention is `gantext.seq2seq.prefixlm.attention`, decoding is `gantext.seq2seq.decoding`,
BERT is read by `gantext.seq2seq.pretrained`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gantext._checks import check_count, check_dtype, check_number, check_type, wide
from gantext.seq2seq.prefixlm import Attend, Layout, Lengths
from gantext.seq2seq.pretrained import read_bert

__all__ = ["Block", "Config", "Transformer"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What a `Transformer` is made of.

    Args:
        vocabulary: V >= 2, number of tokens.
        width: D >= 1, a multiple of heads; heads H >= 1; layers >= 1.
        inner: width of the feed-forward layer; None: 4 D.
        positions: longest sequence, of source and target together.
        segments: number of segment embeddings; 2: source and target, 0: none.
        norm: "pre" normalises the input of each sublayer and the last output, "post" each sublayer's sum and the
            embedding, as BERT does.
        shift: add learned linear maps of the two previous tokens' embeddings to the input, a causal convolution.
        transform: BERT's dense layer, activation and norm before the output layer.
        activation: "gelu", "gelu_tanh" or "relu".
        causal: the prefix too sees only what is before it: an ordinary language model.
        dropout: of embeddings and sublayers, not of attention weights; eps: of the norms.
    Raises:
        TypeError, ValueError: another kind, or a value out of range.

    Example:
        >>> Config(100, width=32).inner
        128
    """

    vocabulary: int
    width: int = 128
    layers: int = 3
    heads: int = 4
    inner: int | None = None
    positions: int = 512
    segments: int = 2
    norm: str = "pre"
    shift: bool = False
    transform: bool = False
    activation: str = "gelu"
    causal: bool = False
    dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        least = {"vocabulary": 2, "width": 1, "layers": 1, "heads": 1, "inner": 1, "positions": 1, "segments": 0}
        for field, low in least.items():
            value = 4 * self.width if field == "inner" and self.inner is None else getattr(self, field)
            object.__setattr__(self, field, check_count("Config", field, value, low))
        for field, values in (("norm", ("pre", "post")), ("activation", tuple(ACTIVATIONS))):
            if getattr(self, field) not in values:
                raise ValueError(f"Config: {field} is {getattr(self, field)!r}, must be one of {values}. Choose one.")
        object.__setattr__(self, "eps", check_number("Config", "eps", self.eps, 0))
        object.__setattr__(self, "dropout", check_number("Config", "dropout", self.dropout, 0, included=True))
        if self.dropout >= 1:
            raise ValueError(f"Config: dropout is {self.dropout}, must be below 1. 0.1 is usual, 0 for small models.")
        if self.width % self.heads:
            raise ValueError(f"Config: width is {self.width}, must be a multiple of heads, {self.heads}. Change one.")


class Block(nn.Module):
    """One layer: attention and a feed-forward net, each added to its input; pre-norm or post-norm.

    It does not know the mask nor the cache: `attend` takes q, k, v (B, H, R, D/H) of the R rows given and returns
    what they attend to, of the shape of q.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        D, inner = config.width, config.inner or 0
        self.heads, self.pre = config.heads, config.norm == "pre"
        self.norm1, self.norm2 = nn.LayerNorm(D, config.eps), nn.LayerNorm(D, config.eps)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, inner), nn.Linear(inner, D)
        self.activation, self.dropout = config.activation, nn.Dropout(config.dropout)  # a name: functions do not pickle

    def forward(self, x: Tensor, attend: Attend, rows: Tensor | None = None) -> Tensor:
        """The layer's output (B, R, D); with rows (B, R') that of these alone, (B, R', D)."""
        a = self._attention(self.norm1(x) if self.pre else x, attend, rows)
        x = _take(x, rows) + a
        if self.pre:
            return x + self._feed(self.norm2(x))
        x = self.norm1(x)
        return self.norm2(x + self._feed(x))

    def _attention(self, x: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        B, R, D = x.shape
        q, k, v = self.qkv(x).view(B, R, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)  # (B, H, R, D/H) each
        q = q if rows is None else q.gather(2, rows[:, None, :, None].expand(*q.shape[:2], -1, q.shape[3]))
        return self.dropout(self.out(attend(q, k, v).transpose(1, 2).flatten(2)))

    def _feed(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(ACTIVATIONS[self.activation](self.up(x))))


class Transformer(nn.Module):
    """Source and target in one sequence: a prefix-LM from token ids to hidden states, and from them to logits.

    Inputs are token, position and segment embeddings; the output layer is the token embedding with a bias. `hidden`
    and `logits` are apart so that the vocabulary, most of the work in a small model, is computed only where a target
    is. All norms are `nn.LayerNorm` modules, called with (B, R, D), in decoding the beams: any module that takes and
    returns that may be put in their place.

    The commonest surprise: rows of padding hold finite numbers without meaning; do not average over them.

    Source: Vaswani et al., arXiv 1706.03762; Devlin et al., arXiv 1810.04805; Dong et al., arXiv 1905.03197.

    Example:
        >>> model = Transformer(Config(50, width=16, layers=2, heads=2))
        >>> tokens = torch.tensor([[2, 7, 8, 3, 9, 3, 0]])  # [CLS] 7 8 [SEP] 9 [SEP], and padding
        >>> h = model.hidden(tokens, prefix=4, lengths=6)
        >>> h.shape, model.logits(h[:, 3]).shape
        (torch.Size([1, 7, 16]), torch.Size([1, 50]))
        >>> model.loss(tokens, prefix=4, lengths=6).shape  # 9 and [SEP], given what is before them
        torch.Size([])
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_type("Transformer", "config", config, Config, "Write Config(vocabulary).")
        D, V = config.width, config.vocabulary
        self.config = config
        self.tokens, self.positions = nn.Embedding(V, D), nn.Embedding(config.positions, D)
        self.segments = nn.Embedding(config.segments, D) if config.segments else None
        self.previous = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2 if config.shift else 0))
        self.norm = nn.LayerNorm(D, config.eps)  # of the embedding in post-norm, of the last layer in pre-norm
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.transform = nn.Linear(D, D) if config.transform else None
        self.transform_norm = nn.LayerNorm(D, config.eps) if config.transform else None
        self.bias = nn.Parameter(torch.zeros(V))
        self.dropout = nn.Dropout(config.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every parameter as at the start, those of norms put in place later too; matrices are N(0, 0.02^2)."""
        nn.init.zeros_(self.bias)
        for child in self.children():
            _start(child)

    def hidden(
        self,
        tokens: Tensor,
        prefix: Lengths,
        lengths: Lengths | None = None,
        *,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of whole sequences.

        Args:
            tokens: (B, S) int64, padded on the right with any token.
            prefix: s, an int or B ints, 0 <= s <= n: length of the source.
            lengths: n, an int or B ints: valid lengths; None: S.
            segments: (B, S) int64; None: 0 in the prefix and 1 from s on.
        Returns:
            (B, S, D); rows from n on have no meaning.
        Raises:
            TypeError, ValueError: tokens not (B, S) int64 within the vocabulary, S beyond the positions; others as
                `attention`.
        """
        self.check(tokens)
        B, S = tokens.shape
        if segments is not None:
            check_dtype("hidden", "segments", segments, torch.int64)
            if segments.shape != tokens.shape or segments.min() < 0:
                found = f"shape {tuple(segments.shape)} and lowest number {segments.min()}"
                rule = f"must be {(B, S)} and from 0 on. Mark the target with 1."
                raise ValueError(f"hidden: segments has {found}, {rule}")
        # Built even if causal, so that a wrong prefix is an error all the same.
        layout = Layout(prefix, B, S, lengths=lengths, device=tokens.device, name="hidden")
        start = torch.tensor(layout.prefix, device=tokens.device)[:, None]  # (1 or B, 1)
        if self.config.causal:
            layout = Layout(0, B, S, device=tokens.device, name="hidden")
        place = torch.arange(S, device=tokens.device)
        if segments is None:
            segments = (place >= start).long().expand(B, S)
        segments = segments.clamp(max=max(0, self.config.segments - 1))
        return self.run(tokens, place.expand(B, S), segments, _before(tokens), [layout] * self.config.layers)

    def run(
        self,
        tokens: Tensor,
        positions: Tensor,
        segments: Tensor,
        before: Sequence[Tensor],
        attends: list[Attend],
        rows: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, R, D) of R rows a sequence, wherever they stand: nothing is checked.

        Args:
            tokens, positions: (B, R) int64. segments: the same, below the config's number of them.
            before: the previous and the second previous token of each row, (B, R) each, -1 where there is none; without
                `shift` they are not read.
            attends: for each layer, what q, k, v of these rows attend to; see `Block`.
            rows: (B, R') int64, the rows that are wanted; None: all R.
        """
        x = self.tokens(tokens) + self.positions(positions)
        if self.segments is not None:
            x = x + self.segments(segments)
        for linear, earlier in zip(self.previous, before, strict=False):  # none without shift
            x = x + linear(self.tokens(earlier.clamp(min=0)) * (earlier >= 0)[..., None])
        pre = self.config.norm == "pre"
        x = self.dropout(x if pre else self.norm(x))
        *early, last = zip(self.blocks, attends, strict=True)
        for block, attend in early:
            x = block(x, attend)
        x = last[0](x, last[1], rows)
        return self.norm(x) if pre else x

    def forward(self, tokens: Tensor, prefix: Lengths, lengths: Lengths | None = None, **options: Any) -> Tensor:
        """`logits` of every row of `hidden`, (B, S, V); the way in for what wraps a module, as `torch.func` does."""
        return self.logits(self.hidden(tokens, prefix, lengths, **options))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of all tokens, (..., V), for hidden states (..., D): call it with the rows that need them."""
        if self.transform is not None and self.transform_norm is not None:
            hidden = self.transform_norm(ACTIVATIONS[self.config.activation](self.transform(hidden)))
        return F.linear(hidden, self.tokens.weight, self.bias)

    def loss(self, tokens: Tensor, prefix: Lengths, lengths: Lengths | None = None, **options: Any) -> Tensor:
        """Mean cross-entropy of the target tokens, each predicted from the row before it.

        `-log p(y_r | source, y_<r)`, averaged over all targets of the batch (equation `prefix-lm:likelihood`), the
        final separator included if it is within the valid length.

        Args:
            tokens, prefix, lengths, options: as `hidden`. With prefix 0 the first token has no row before it and is
                not counted.
        Returns:
            A scalar, in float32 or better.
        Raises:
            TypeError, ValueError: as `hidden`; ValueError if no sequence has a target.

        The commonest surprise: a long answer weighs more than a short one.
        """
        h = self.hidden(tokens, prefix, lengths, **options)
        B, S = tokens.shape
        column = lambda value: torch.as_tensor(value, device=tokens.device).reshape(-1, 1)  # (1 or B, 1)
        target = torch.arange(1, S, device=tokens.device).expand(B, -1)  # the position that is predicted
        counted = (target >= column(prefix)) & (target < column(S if lengths is None else lengths))
        wanted = tokens[:, 1:][counted]  # (M,)
        if len(wanted) == 0:
            rule = "must be at least one. Append answer and separator to the source."
            raise ValueError(f"loss: no sequence has a target beyond its prefix, {rule}")
        return F.cross_entropy(wide(self.logits(h[:, :-1][counted])), wanted)

    def check(self, tokens: Tensor, most: int = 0) -> None:
        """Tokens (B, S), with room for `most` more."""
        check_dtype("Transformer", "tokens", tokens, torch.int64)
        if tokens.dim() != 2 or tokens.numel() == 0:
            found = tuple(tokens.shape)
            raise ValueError(f"Transformer: tokens has shape {found}, must be (B, S), not empty. Give at least one.")
        V, room = self.config.vocabulary, self.config.positions
        if tokens.shape[1] + most > room:
            more = f" and {most} new ones" if most else ""
            rule = f"must be at most {room}. Cut the passage, or make a Config with more positions."
            raise ValueError(f"Transformer: tokens has {tokens.shape[1]} positions{more}, {rule}")
        low, high = torch.stack(tokens.aminmax()).tolist()  # one host read
        if low < 0 or high >= V:
            rule = f"must be from 0 to {V - 1}. Map unknown tokens to one of them, and pad with any."
            raise ValueError(f"Transformer: tokens is from {low} to {high}, {rule}")

    @classmethod
    def from_bert(cls, bert: nn.Module, *, keep: Tensor | None = None, **changes: Any) -> Transformer:
        """A Transformer with the weights of a Hugging Face BERT or RoBERTa.

        Args:
            bert: `transformers.BertModel`, or a model that has one as `.bert`; or the same of RoBERTa, XLM-RoBERTa or
                CamemBERT, `.roberta`. The output layer's transform and bias come from the head for masked words, as
                in `BertForMaskedLM`; without one there is no transform and a bias 0.
            keep: (V',) int64, token ids to keep, in their new order; None: all.
            changes: of `Config`, such as dropout or causal; not those that give the weights their shapes.
        Returns:
            The model, in training mode, weights copied.
        Raises:
            TypeError: not such a model; keep is no int64 tensor.
            ValueError: an activation, position embedding, shape or output layer that this Transformer does not have, or
                weights besides; a token to keep that there is not.

        The commonest surprise: BERT's own output is that of prefix = n; a prefix-LM needs fine-tuning. RoBERTa mostly
        has one segment embedding: a target is then not marked by its segment.

        Example:
            `Transformer.from_bert(transformers.BertForMaskedLM.from_pretrained("bert-base-uncased"))`
        """
        sizes, parts = read_bert(bert)
        if keep is not None:
            most = sizes["vocabulary"] - 1
            check_dtype("from_bert", "keep", keep, torch.int64)
            if keep.dim() != 1 or ((keep < 0) | (keep > most)).any():
                rule = f"must be (V',), of tokens from 0 to {most}. Look them up in the tokenizer."
                raise ValueError(f"from_bert: keep of shape {tuple(keep.shape)} {rule}")
            sizes["vocabulary"] = len(keep)
            for name in {"tokens.weight", "bias"} & parts.keys():
                parts[name] = parts[name][keep]
        model = cls(Config(**{**sizes, **changes}))
        own = model.state_dict()
        for name in sorted(own.keys() | (parts.keys() - {"bias"})):
            want, got = (tuple(d[name].shape) if name in d else None for d in (own, parts))
            if want != got and name != "bias":
                rule = f"must be {want}. Leave out the changes that give another shape, or take another checkpoint."
                raise ValueError(f"from_bert: the checkpoint's {name} has shape {got}, {rule}")
        model.load_state_dict({"bias": own["bias"], **parts})
        return model


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    elif callable(reset := getattr(module, "reset_parameters", None)):  # a norm: what is in it is its own
        reset()
    else:
        for child in module.children():
            _start(child)


def _take(x: Tensor, rows: Tensor | None) -> Tensor:
    return x if rows is None else x.gather(1, rows[..., None].expand(-1, -1, x.shape[2]))


def _before(tokens: Tensor) -> tuple[Tensor, Tensor]:
    return F.pad(tokens, (1, 0), value=-1)[:, :-1], F.pad(tokens, (2, 0), value=-1)[:, : tokens.shape[1]]
