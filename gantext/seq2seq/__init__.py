"""Sequence to sequence with one Transformer: for who conditions a language model on a source.

`prefixlm` (the mask, and attention without a masked kernel), `transformer` (the model), `pretrained` (BERT's weights),
`cache` (keys and values) and `decoding` (greedy, beams that vote and copy, sampling), with `inputs` behind it.
"""
