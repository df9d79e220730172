"""Pretraining and fine-tuning: the loop, the steps, the state."""
