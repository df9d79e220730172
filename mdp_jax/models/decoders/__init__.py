"""Decoders: features of a backbone to features under the head."""
