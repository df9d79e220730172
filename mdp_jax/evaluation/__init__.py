"""Inference over photos, scores, and networks loaded from workdirs."""
