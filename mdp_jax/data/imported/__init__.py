"""Other people's forms of annotations become photos and masks of class ids: what `mdp data import` does.

A form of annotations is one file here and its name in registry.py (form.py describes the record).
"""
