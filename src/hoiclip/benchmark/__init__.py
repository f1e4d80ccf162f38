"""How fast each backend is, as ratios in the same run."""
