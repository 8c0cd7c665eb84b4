"""The rows of `make scale`, one module per subject. `scale.py` selects and prints them.

Each row runs with a tenth of the objects and with all of them, and checks its result before it returns figures: a run
that fails, or that ends in another state than expected, is a failure and has no figures.
"""
