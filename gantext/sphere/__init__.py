"""Vectors on the unit sphere: for who embeds words and documents with JoSE, or descends on a sphere.

`geometry` (projection, retraction, one step), `jose` (the scikit-learn estimator), with `vocabulary` (a corpus as
numbers), `training` (its rounds and threads), `files` and `processes` behind it.
"""
