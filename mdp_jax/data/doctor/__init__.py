"""What `mdp data check` and `mdp data browse` find in datasets."""
