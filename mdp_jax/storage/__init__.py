"""Files of workdirs: checkpoints, JSON, locks, paths."""
