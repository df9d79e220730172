"""The networks; the only package that imports Linen."""
