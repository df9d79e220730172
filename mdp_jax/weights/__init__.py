"""Weights of torchvision and MMSegmentation: names, layouts, files."""
