"""Records that `mdp data prepare` makes from the official release of a dataset."""
