"""Datasets: their kinds, the drawn scenes, batches, checks and prepared records."""
