"""A page to try a network: what it shows (session.py), what may be sent to it (uploads.py), its routes (app.py)."""
