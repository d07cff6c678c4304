"""Vectors on the unit sphere: embeddings of words and documents with JoSE, and descent on a sphere by itself.

`jose` has the scikit-learn estimator, `geometry` the projection, the retraction and one step. Behind them stand
`vocabulary` (a corpus as numbers), `training` (rounds and threads), `files` and `processes`.
"""
