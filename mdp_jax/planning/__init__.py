"""Memory, FLOPs and collectives of programs for machines that are not present."""
