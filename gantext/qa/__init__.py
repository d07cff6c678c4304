"""Reading comprehension as generation: for who answers questions from passages.

`questions` (records made from docstrings, and the score), `files` (SQuAD, CMRC 2018, WebQA, SogouQA), with `streaming`
(JSON of any size) behind it, `sources` (both as tokens) and `reader` (training, answers).
"""
