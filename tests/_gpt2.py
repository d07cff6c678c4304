"""A GPT-2 in both implementations: what Hugging Face's `generate` and `gantext.seq2seq.decoding` both decode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gantext.seq2seq.transformer import Config, Transformer


def gpt2(separator: int, ends: int, **sizes: Any) -> Any:
    """A random `transformers.GPT2LMHeadModel` that gives the separator at position `ends`, and hardly before."""
    import transformers  # here: seconds to import

    config = transformers.GPT2Config(
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=separator,
        pad_token_id=separator,
        **sizes,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4) if weight.dim() == 2 else None  # to have preferences
        sign = torch.nn.functional.normalize(torch.randn(config.n_embd), dim=0)
        model.transformer.wte.weight[separator] = sign
        model.transformer.wpe.weight[:ends] -= 4 * sign
        model.transformer.wpe.weight[ends:] += 4 * sign
    return model


def same(model: Any) -> Transformer:
    """The same network as a causal `Transformer`."""
    c, parts = model.config, model.transformer
    ours = Transformer(
        Config(
            c.vocab_size,
            c.n_embd,
            c.n_layer,
            c.n_head,
            positions=c.n_positions,
            segments=0,
            activation="gelu_tanh",
            causal=True,
            eps=c.layer_norm_epsilon,
        )
    )
    names = {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "attn.c_attn": "qkv",
        "attn.c_proj": "out",
        "mlp.c_fc": "up",
        "mlp.c_proj": "down",
    }
    weights: dict[str, Tensor] = {
        "bias": ours.bias.detach(),
        "tokens.weight": parts.wte.weight,
        "positions.weight": parts.wpe.weight,
        "norm.weight": parts.ln_f.weight,
        "norm.bias": parts.ln_f.bias,
    }
    for i, block in enumerate(parts.h):
        for theirs, name in names.items():
            module = block.get_submodule(theirs)
            flat = theirs.startswith("ln")  # a Conv1D is a Linear whose weight is transposed
            weights[f"blocks.{i}.{name}.weight"] = module.weight if flat else module.weight.T
            weights[f"blocks.{i}.{name}.bias"] = module.bias
    ours.load_state_dict(weights)
    return ours.eval()


def copying(spans: list[list[int]], separator: int, longest: int) -> Any:
    """`prefix_allowed_tokens_fn` for answers that are runs of the source's span; sources padded on the left."""

    def allowed(batch: int, tokens: Tensor) -> list[int]:
        made = tokens[longest:].tolist()
        text = spans[batch]
        t = len(made)
        if separator in made:
            return [separator]
        follows = {text[j + t] for j in range(len(text) - t) if text[j : j + t] == made}
        return [separator, *follows]

    return allowed
