"""`benchmarks/compare_smollm.py`: what is read of a message, and that every way starts as the model itself."""

from __future__ import annotations

import sys

import pytest
import torch
from gantext_book.source import ROOT
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(ROOT / "benchmarks"))
import compare_smollm as script


class Words:
    """A tokenizer of words by their length."""

    def __call__(self, text: str, **_: object) -> Words:
        self.input_ids = [3 + len(word) for word in text.split()]
        return self


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_only_what_the_author_wrote_is_read() -> None:
    raw = "From: a\nSubject: b\n\nIn article <1> x@y writes:\n> old\nJB> older\nmy own\nwords: here\n-- \nsignature\n"
    assert script.body(raw) == "my own words: here"
    assert script.body("From: a\n\nJohn Doe writes:\nyes") == "yes"


@pytest.mark.parametrize("method", script.METHODS)
def test_a_way_starts_as_the_model_itself(method: str) -> None:
    tokens, topics = torch.randint(4, 40, (5, 7), generator=torch.Generator().manual_seed(1)), torch.arange(5) % 4
    net = tiny().eval()
    told = script.Told(method, tiny(), Words())
    found = told(tokens, topics)
    opening = torch.tensor([told.opening(int(topic)) for topic in topics]) if method != script.PROMPT else None
    for k in range(5):
        first = torch.tensor(told.opening(int(topics[k]))) if opening is None else opening[k]
        row = torch.cat([first, tokens[k]])[None]
        expected = net(row, labels=row.masked_fill(torch.arange(row.shape[1]) < len(first), -100)).loss
        assert found[k].item() == pytest.approx(expected.item(), rel=1e-5)
    if method == script.PROMPT:
        assert not list(told.learned())
        return
    found.mean().backward()  # and learns: every topic that was told, and no weight of the model
    assert all(p.grad is not None for p in told.learned())
    learned = {id(p) for p in told.learned()}
    assert all(p.grad is None for p in told.parameters() if id(p) not in learned)
    with torch.no_grad():
        for p in told.learned():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    moved = told(tokens, topics)
    other = told(tokens, (topics + 1) % 4)
    assert not torch.allclose(moved, found)
    assert torch.equal(moved, other) == (method == script.SAME)


def test_beginnings_that_are_too_short_are_left_out() -> None:
    long = " ".join(["a"] * script.LENGTH)
    tokens, topics = script.tokens_of(Words(), [(long, 2), ("short", 1), (long + " more", 3)])
    assert tokens.shape == (2, script.LENGTH) and topics.tolist() == [2, 3]


@pytest.mark.parametrize("best", script.LADDER)
def test_a_search_goes_on_until_a_worse_rate_stands_on_either_side(
    best: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder, tried = script.LADDER, dict[float, float]()
    monkeypatch.setattr(script, "searched", lambda method: tried)
    while (rate := script.next_rate(script.ALL)) is not None:
        assert rate not in tried
        tried[rate] = abs(ladder.index(rate) - ladder.index(best))
    assert script.rate_of(script.ALL) == best and set(script.RATES) <= set(tried)
    at = ladder.index(best)
    assert set(ladder[max(0, at - 1) : at + 2]) <= set(tried) and len(tried) <= len(script.RATES) + 4
