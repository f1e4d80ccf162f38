"""Drawings for people; arrays and images in, images out."""
