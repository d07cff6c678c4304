"""Language models that generate a target from a source: needed by who conditions text on text with one Transformer.

`transformer` is the model, `prefixlm` its mask and attention, `pretrained` reads BERT's weights; `decoding` is greedy
search, beam search with votes and copied spans, and sampling, over the keys and values in `cache`; what the beams of a
search are is kept by `beams`.
"""
