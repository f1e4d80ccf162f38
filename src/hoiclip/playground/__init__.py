"""The miniature world: scenes drawn on the fly, and its own pretrained CLIP and detector."""
