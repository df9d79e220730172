"""Figures, pages, tables and progress."""
