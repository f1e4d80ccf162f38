"""The published sizes and numbers, written once: paper section 4.1, and the published code where the paper is silent.

The model's configuration, the processor, the augmentation and the options of a run take their defaults from here.
"""

from __future__ import annotations

# the images
SHORTEST_EDGE, LONGEST_EDGE = 800, 1333  # pixels, of the detector's view
CLIP_SIZE = 224  # pixels, of CLIP's view

# the data
RARE_BELOW = 10  # training instances (section 4.1); Table 1 counts them in the training file of each share

# the model
NUM_QUERIES = 64  # N_q: human and object queries each
INTERACTION_LAYERS, INTERACTION_HEADS, INTERACTION_FFN_DIM = 3, 8, 2048
VERB_WEIGHT = 0.5  # alpha of Eq. 19
ZERO_SHOT_TOP_K = 10  # K of Eq. 17
DISTILLATION_WEIGHT = 20.0  # GEN-VLKT's mimic loss
DROPOUT = 0.1  # of attention, hidden layers and residual branches of encoder and decoders

# the training
BATCH_SIZE = 16  # of an optimizer step, which the learning rates belong to
LEARNING_RATE, BACKBONE_LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-4, 1e-5, 1e-4, 0.1
EPOCHS, DROP_EPOCH, DROP_FACTOR = 90.0, 60.0, 0.1

# the augmentation, DETR's
FLIP_PROBABILITY, JITTER, CROP_PROBABILITY = 0.5, 0.4, 0.5
SCALES = tuple(range(480, 801, 32))  # shorter sides, pixels
CROP_SCALES = (400, 500, 600)  # shorter sides before cutting, pixels
CROP_RANGE = (384, 600)  # smallest and largest side of the window, pixels
