"""From sources to batches: mixture, order, augmentation, pipeline."""
