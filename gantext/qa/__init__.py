"""Reading comprehension as generation: needed by who trains a model to answer questions from several passages.

`questions` makes questions from docstrings and scores answers, `files` reads SQuAD, CMRC 2018, WebQA and SogouQA (by
`streaming`, JSON of any size), `sources` makes tokens of both, `reader` trains and answers.
"""
