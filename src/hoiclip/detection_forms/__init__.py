"""Detections in the forms of other programs, known by content; nothing that a file holds is ever run."""
