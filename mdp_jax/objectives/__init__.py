"""The objectives of pretraining: a file for each."""
