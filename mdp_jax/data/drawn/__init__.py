"""The built-in drawn scenes."""
