"""PyTorch: a reference of the method, the comparison with it, and weights both ways. torch is imported here alone."""
