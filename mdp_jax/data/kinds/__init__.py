"""One file a dataset kind, with all that is special to it; KINDS has the record of each by name."""

from mdp_jax.data.kinds.registry import DEFAULT_KIND, KINDS

__all__ = ["DEFAULT_KIND", "KINDS"]
