"""The weights of Hugging Face's BERT and RoBERTa, by the names of `gantext.seq2seq.transformer.Transformer`.

The chapter is `prefix-lm`; the model itself is made by `Transformer.from_bert`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["read_bert"]

_NAMES = {"gelu": "gelu", "relu": "relu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}  # of transformers


def read_bert(bert: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a `Transformer` needs to be this BERT or RoBERTa: arguments of its `Config`, and its weights by name.

    Argument and errors as `Transformer.from_bert`; most weights are `bert`'s own parameters and not copies.

    Source: Devlin et al., arXiv 1810.04805; Liu et al., arXiv 1907.11692.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        >>> arguments, weights = read_bert(BertModel(small))
        >>> arguments["width"], weights["blocks.0.qkv.weight"].shape
        (8, torch.Size([24, 8]))
    """
    core: Any = getattr(bert, "bert", getattr(bert, "roberta", bert))
    head: Any = getattr(getattr(bert, "cls", None), "predictions", getattr(bert, "lm_head", None))
    try:
        sizes, parts, unread = _bert_parts(core, head)
    except AttributeError as error:
        rule = f"must be a BERT or RoBERTa of transformers ({error}). Load it with BertForMaskedLM.from_pretrained."
        raise TypeError(f"from_bert: bert is {type(bert).__name__}, {rule}") from error
    source, where = core.config, getattr(core.config, "position_embedding_type", "absolute")
    known = ("gelu",) if hasattr(bert, "lm_head") else tuple(_NAMES)  # RoBERTa's head has gelu, whatever the layers
    if source.hidden_act not in known or where != "absolute":
        found = f"activation {source.hidden_act!r} and positions {where!r}"
        raise ValueError(
            f"from_bert: bert has {found}, must be one of {known} and 'absolute'. Take another checkpoint."
        )
    if unread:
        found = f"{unread[0]} and {len(unread) - 1} more weights beside BERT's"
        raise ValueError(f"from_bert: bert has {found}, must have none. Take an encoder, or another checkpoint.")
    if head is not None and not torch.equal(head.decoder.weight, core.embeddings.word_embeddings.weight):
        rule = "must use its token embedding. Pass the part without the head, bert.bert or bert.roberta."
        raise ValueError(f"from_bert: bert has an output layer of its own, {rule}")
    sizes |= {"activation": _NAMES[source.hidden_act], "eps": source.layer_norm_eps, "norm": "post"}
    return sizes, parts


def _bert_parts(core: Any, head: Any) -> tuple[dict[str, Any], dict[str, Tensor], list[str]]:
    """Sizes, weights by their names here, and the names of other weights; AttributeError for another kind of model."""
    layers, embed = list(core.encoder.layer), core.embeddings
    modules = {"tokens": embed.word_embeddings, "segments": embed.token_type_embeddings, "norm": embed.LayerNorm}
    # RoBERTa's embeddings, and only they, know the number of the padding token: real tokens are counted from behind it.
    parts: dict[str, Tensor] = {
        "positions.weight": embed.position_embeddings.weight[getattr(embed, "padding_idx", -1) + 1 :]
    }
    others: list[nn.Module] = [embed.position_embeddings]
    for i, layer in enumerate(layers):
        own, after = layer.attention.self, layer.attention.output
        others += (joined := [own.query, own.key, own.value])
        for kind in ("weight", "bias"):
            parts[f"blocks.{i}.qkv.{kind}"] = torch.cat([getattr(m, kind) for m in joined])
        modules |= {
            f"blocks.{i}.out": after.dense,
            f"blocks.{i}.norm1": after.LayerNorm,
            f"blocks.{i}.up": layer.intermediate.dense,
            f"blocks.{i}.down": layer.output.dense,
            f"blocks.{i}.norm2": layer.output.LayerNorm,
        }
    if head is not None:
        inner = getattr(head, "transform", head)  # RoBERTa's has the layers themselves
        modules |= {"transform": inner.dense, "transform_norm": getattr(inner, "LayerNorm", None) or inner.layer_norm}
        parts["bias"] = head.bias
    parts |= {f"{name}.{kind}": w for name, module in modules.items() for kind, w in module.named_parameters()}
    sizes = {
        "vocabulary": len(embed.word_embeddings.weight),
        "width": core.config.hidden_size,
        "layers": len(layers),
        "heads": core.config.num_attention_heads,
        "inner": core.config.intermediate_size,
        "positions": len(parts["positions.weight"]),
        "segments": len(embed.token_type_embeddings.weight),
        "transform": head is not None,
    }
    read = {id(w) for module in (*modules.values(), *others) for w in module.parameters()}
    unread = [n for n, w in core.named_parameters() if id(w) not in read and not n.startswith("pooler.")]
    return sizes, parts, unread
