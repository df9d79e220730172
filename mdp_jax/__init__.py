"""Multi-Dataset Pretraining for semantic segmentation in JAX and Flax (the method of arXiv 2106.04121)."""
