"""The miniature world: scenes drawn on the fly, a dataset of the same kind as HICO-DET."""
