"""The method in plain PyTorch, and how far the two versions are apart."""
