"""Generative adversarial networks: for who trains one, or wants exact distances to hold its critic against.

`objectives` (what critic and generator minimise), `penalties` (gradient penalties without double backward), `distances`
(exact values), `methods` (the games), `training` (the loop), `networks` (dense) and `convolutional`, `laws` (what is
imitated) and `images` (real ones), `metrics` (how well) and `features` (seen by which network), `ogan` (a critic
that encodes) and `cascades` (heads that reject what earlier ones scored).
"""
