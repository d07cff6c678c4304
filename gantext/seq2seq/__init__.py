"""Sequence to sequence with one Transformer: for who conditions a language model on a source.

`attention` (the prefix-LM mask and attention without a masked kernel), `transformer` (the model, BERT included),
`cache` (keys and values) and `decoding` (greedy, beams that vote and copy, sampling).
"""
