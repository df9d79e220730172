"""The earlier name of `mdp_jax.studies`, which users' files of suites import from."""

import sys

from mdp_jax.studies import experiments

sys.modules[f"{__name__}.experiments"] = sys.modules[f"{__name__}.own_suites"] = experiments
