"""How the playground's CLIP and detector were pretrained."""
