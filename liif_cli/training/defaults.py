"""The default recipe. Importing this module loads nothing, so that `liif train --help` can name it."""

PRESET = "light"
QUERY_PRESET = "edsr-baseline-liif"
"""For architectures without a preset of their own; it trains on sampled queries, which every decoder supports."""
