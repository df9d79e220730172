"""Multi-Dataset Pretraining for semantic segmentation in JAX and Flax (the method of arXiv 2106.04121)."""

from mdp_jax import runtime

runtime.set_cpu_flag()
runtime.set_compilation_cache()
