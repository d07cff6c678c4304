"""Hugging Face's BERT and RoBERTa as a Transformer: the same states and scores, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hugging_face
from _compare import enlarge
from torch import nn

from gantext.seq2seq.prefixlm import mask
from gantext.seq2seq.transformer import Transformer

transformers: Any = hugging_face  # its configurations take more than their annotations say


def bert(kind: str = "BertForMaskedLM", **changes: Any) -> Any:
    sizes = {
        "vocab_size": 50,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    }
    model = getattr(transformers, kind)(transformers.BertConfig(**sizes | changes)).eval()
    enlarge(model, 0.2)
    return model


@pytest.mark.parametrize(
    "kind", ["RobertaForMaskedLM", "RobertaModel", "XLMRobertaForMaskedLM", "CamembertForMaskedLM"]
)
@pytest.mark.parametrize(("types", "pad"), [(1, 1), (2, 1), (1, 4)])
def test_hidden_states_and_logits_are_robertas(kind: str, types: int, pad: int) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 40, "type_vocab_size": types, "pad_token_id": pad}
    config = getattr(transformers, kind.replace("ForMaskedLM", "").replace("Model", "") + "Config")(**sizes)
    theirs = getattr(transformers, kind)(config).eval()
    enlarge(theirs, 0.2)
    ours = Transformer.from_bert(theirs).eval()
    assert ours.config.positions == 40 - pad - 1 and ours.config.segments == types
    n = torch.tensor([40 - pad - 1, 7, 13])  # the first as long as there are positions
    real = torch.arange(int(n.max())) < n[:, None]
    tokens = torch.randint(5, 50, real.shape).where(real, pad)
    with torch.no_grad():
        want = theirs(tokens, attention_mask=real.long(), output_hidden_states=True)
        h = ours.hidden(tokens, n, n)
    torch.testing.assert_close(h[real], want.hidden_states[-1][real], rtol=0, atol=1e-5)
    if "logits" in want:
        torch.testing.assert_close(ours.logits(h[real]), want.logits[real], rtol=0, atol=1e-5)
    keep = torch.tensor([9, 3])
    few = Transformer.from_bert(theirs, keep=keep).eval()
    torch.testing.assert_close(few.logits(h), ours.logits(h)[..., keep])


def test_weights_that_would_be_lost_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has encoder.layer.0.crossattention.* and 29 more weights beside BERT's"):
        Transformer.from_bert(bert("BertLMHeadModel", is_decoder=True, add_cross_attention=True))
    for kind in ("Bert", "Roberta"):
        sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
        config = getattr(transformers, f"{kind}Config")(**sizes, intermediate_size=48, tie_word_embeddings=False)
        model = getattr(transformers, f"{kind}ForMaskedLM")(config)
        with pytest.raises(ValueError, match="has an output layer of its own, must use its token embedding"):
            Transformer.from_bert(model)
        Transformer.from_bert(getattr(model, kind.lower()))
    config = transformers.RobertaConfig(**sizes, intermediate_size=48, hidden_act="relu")
    with pytest.raises(ValueError, match=r"activation 'relu' .* must be one of \('gelu',\)"):
        Transformer.from_bert(transformers.RobertaForMaskedLM(config))
    Transformer.from_bert(transformers.RobertaModel(config))


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertModel", "BertForPreTraining"])
@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu"])
def test_hidden_states_and_logits_are_berts(kind: str, act: str) -> None:
    theirs = bert(kind, hidden_act=act)
    ours = Transformer.from_bert(theirs).eval()
    tokens, segments = torch.randint(50, (3, 20)), torch.randint(2, (3, 20))
    n = torch.tensor([20, 7, 13])
    real = torch.arange(20) < n[:, None]
    with torch.no_grad():
        want = theirs(tokens, attention_mask=real.long(), token_type_ids=segments, output_hidden_states=True)
        h = ours.hidden(tokens, n, n, segments=segments)
    torch.testing.assert_close(h[real], want.hidden_states[-1][real], rtol=0, atol=1e-5)
    if kind != "BertModel":
        logits = want["logits" if kind == "BertForMaskedLM" else "prediction_logits"]
        torch.testing.assert_close(ours.logits(h[real]), logits[real], rtol=0, atol=1e-5)
    assert (h[real] - ours.hidden(tokens, n, n)[real]).abs().max() > 0.1  # segments matter


def test_under_the_prefix_mask_too() -> None:
    theirs = bert("BertModel")
    ours, tokens = Transformer.from_bert(theirs).eval(), torch.randint(50, (2, 12))
    prefix = [3, 7]
    segments = (torch.arange(12) >= torch.tensor(prefix)[:, None]).long()
    with torch.no_grad():
        seen = torch.zeros(2, 1, 12, 12).masked_fill(~mask(prefix, 12)[:, None], torch.finfo(torch.float32).min)
        want = theirs(tokens, attention_mask=seen, token_type_ids=segments).last_hidden_state
        torch.testing.assert_close(ours.hidden(tokens, prefix), want, rtol=0, atol=1e-5)


def test_a_vocabulary_cut_down_keeps_the_weights_of_what_is_left() -> None:
    theirs, keep = bert(), torch.tensor([7, 3, 40])
    all_, same, few = (
        Transformer.from_bert(theirs, **changes).eval()
        for changes in ({}, {"keep": keep}, {"keep": keep, "causal": True, "dropout": 0.1})
    )
    assert few.config.vocabulary == 3 and few.config.causal and few.config.dropout == 0.1
    h = all_.hidden(keep[torch.tensor([[1, 0, 2]])], 3)
    torch.testing.assert_close(few.logits(h), all_.logits(h)[..., keep])
    torch.testing.assert_close(same.hidden(torch.tensor([[1, 0, 2]]), 3), h)


def test_a_checkpoint_of_another_kind_or_shape_is_refused() -> None:
    with pytest.raises(TypeError, match=r"bert is Linear, must be a BERT or RoBERTa of transformers"):
        Transformer.from_bert(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"checkpoint's blocks.0.down.weight has shape \(32, 48\), must be \(32, 10\)"):
        Transformer.from_bert(bert(), inner=10)
    with pytest.raises(ValueError, match=r"checkpoint's blocks.2.down.bias has shape .* must be None"):
        Transformer.from_bert(bert(), layers=2)
    with pytest.raises(ValueError, match=r"checkpoint's transform.bias has shape None"):
        Transformer.from_bert(bert("BertModel"), transform=True)
    with pytest.raises(ValueError, match=r"activation 'silu'"):
        Transformer.from_bert(bert(hidden_act="silu"))
    broken = bert()
    broken.bert.embeddings.position_embeddings.weight = nn.Parameter(torch.zeros(40, 31))
    with pytest.raises(ValueError, match=r"checkpoint's positions.weight has shape \(40, 31\), must be \(40, 32\)"):
        Transformer.from_bert(broken)


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        ([7, 3], TypeError, r"keep is list, must be a torch.int64 tensor"),
        (torch.ones(50, dtype=torch.bool), TypeError, r"keep is torch.bool, must be a torch.int64 tensor"),
        (torch.tensor([[7, 3]]), ValueError, r"keep of shape \(1, 2\) must be \(V',\), of tokens from 0 to 49"),
        (torch.tensor([7, 50]), ValueError, r"must be \(V',\), of tokens from 0 to 49"),
        (torch.tensor([7, -1]), ValueError, r"must be \(V',\), of tokens from 0 to 49"),
    ],
)
def test_tokens_to_keep_are_those_of_the_checkpoint(keep: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Transformer.from_bert(bert("BertModel"), keep=keep)
