"""Triplets without any training on interactions: an object detector finds, a frozen CLIP reads the pairs.

photo -> object_detection: people and things, by any detector of transformers
      -> pair_scoring:     each person with each thing, scored against the vocabulary's sentences
      -> detector:         ranked triplets, with the same face as a trained model
"""
