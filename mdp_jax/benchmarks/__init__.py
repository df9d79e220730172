"""The cases of `mdp bench`, a module each."""
