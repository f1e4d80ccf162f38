"""Golden inputs: annotations and pseudo-predictions on the HICO-DET test set."""

import sys
from pathlib import Path

import numpy as np

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.postprocessing import rank_batch, training_free_enhancement
from hoiclip.vocabulary import HoiVocabulary

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "eval"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
sys.path.insert(0, str(GOLDEN))

import predictions  # noqa: E402


class HicoInputs:
    """Annotations and ranked pseudo-predictions of some test images."""

    def __init__(self, facts, seed=1):
        self.source = predictions.Hico(facts)
        self.seed = seed
        self.vocabulary = HoiVocabulary.from_name("hico")

    def annotations(self, indices):
        return [annotated(self.source.images[i], self.source.coco91_to_80) for i in indices]

    def rank(self, indices, run, dtype=np.float64):
        """Final detections by file name for run "nms", "no_nms" or "nms_tfe10"."""
        found = {}
        for start in range(0, len(indices), 8):
            part = indices[start : start + 8]
            made = [predictions.predict(self.source, i, self.seed) for i in part]
            arrays = {k: np.stack([m[k] for m in made]).astype(dtype) for k in made[0]}
            if run == "nms_tfe10":
                arrays["hoi_scores"] = (
                    arrays["hoi_scores"] + training_free_enhancement(arrays["clip_scores"], 10)[:, None]
                )
            ranked = rank_batch(
                *(arrays[k] for k in ("boxes_h", "boxes_o", "obj_scores", "hoi_scores")),
                self.vocabulary,
                nms_threshold=None if run == "no_nms" else 0.7,
            )
            found |= {self.source.images[i]["file_name"]: d for i, d in zip(part, ranked, strict=True)}
        return found


def annotated(image, category_to_object):
    """One entry of a HOIA file."""
    return AnnotatedImage(
        image["file_name"],
        np.array([a["bbox"] for a in image["annotations"]]),
        np.array([category_to_object[a["category_id"]] for a in image["annotations"]]),
        np.array([[h["subject_id"], h["object_id"]] for h in image["hoi_annotation"]]),
        np.array([h["hoi_category_id"] - 1 for h in image["hoi_annotation"]]),
    )
