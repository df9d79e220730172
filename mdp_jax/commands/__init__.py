"""The parts of `mdp`: a module for each, with its arguments, its words and its files."""
