"""Generative adversarial networks, for whoever trains one or wants exact values to check a critic against.

`objectives` and `penalties` (what critic and generator minimise), `methods` (whole games), `training` (the loop),
`networks` (dense) and `convolutional`; `laws` and `images` (what is imitated); `distances` (exact values); `metrics`
and `features` (how good samples are); `ogan` (a critic that encodes), `cascades` (heads that reject what earlier ones
scored).
"""
