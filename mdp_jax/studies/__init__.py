"""Studies: runs of many seeds and settings, compared with intervals and verdicts.

A study is a Python file with a function `get_suite()` that returns a `Suite`; `mdp reproduce --suite FILE` runs it.
This module has all that such a file needs. `compare_settings` makes the usual suite from a few settings; `Pretraining`,
`Target` and `Contrast` are the parts of any other. The files in `configs/studies/` are examples.
"""

from mdp_jax.studies.experiments import (
    EQUIVALENT,
    GREATER,
    MEASURED,
    Contrast,
    Curve,
    Overrides,
    Pretraining,
    Suite,
    Target,
    compare_settings,
)

__all__ = [
    "EQUIVALENT",
    "GREATER",
    "MEASURED",
    "Contrast",
    "Curve",
    "Overrides",
    "Pretraining",
    "Suite",
    "Target",
    "compare_settings",
]
