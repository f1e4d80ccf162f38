"""``transformers.pipeline("human-object-interaction", model=...)``, for who works with pipelines.

``import hoiclip.models`` makes transformers know the task.  :func:`hoiclip.load` does more: backends, batches,
exported graphs.
"""

from __future__ import annotations

from typing import Any

from PIL import Image
from transformers import Pipeline
from transformers.image_utils import load_image as fetch_image

from hoiclip.detections import Detections
from hoiclip.images import load_image
from hoiclip.inference.detector import HoiDetector

OPTIONS = ("top_k", "threshold", "zero_shot_top_k", "nms")  # of calling a detector
SIDES = ("xmin", "ymin", "xmax", "ymax")


class HumanObjectInteractionPipeline(Pipeline):
    """Images in (path, URL or Pillow), for each a list of triplets out, best first.

    A triplet has ``score`` (0..2, see :class:`hoiclip.Detections`), ``label`` ("ride bicycle"), ``verb``,
    ``object``, and ``human_box`` and ``object_box`` with ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels.
    The options of calling a :class:`hoiclip.HoiDetector` are those of calling this, or of making it.
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.detector = HoiDetector(self.model, self.processor, device=self.device)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = sorted(set(kwargs) - {*OPTIONS, "local_files_only"})
        if unknown:
            raise TypeError(f"{', '.join(unknown)}: no option of this pipeline, which has {', '.join(OPTIONS)}")
        return {}, {name: kwargs[name] for name in OPTIONS if name in kwargs}, {}

    def preprocess(self, input_: Any, **_: Any) -> dict[str, Image.Image]:
        """The upright image.  Raises HoiError for a file that is none."""
        if isinstance(input_, str) and input_.startswith(("http://", "https://")):
            return {"image": fetch_image(input_)}
        return {"image": input_ if isinstance(input_, Image.Image) else load_image(input_)}

    def _forward(self, input_tensors: dict[str, Any], **options: Any) -> dict[str, Detections]:
        return {"found": self.detector(input_tensors["image"], **options)}

    def postprocess(self, model_outputs: dict[str, Detections], **_: Any) -> list[dict[str, Any]]:
        """One dict for each triplet."""
        return [
            {
                "score": triplet.score,
                "label": triplet.name,
                "verb": triplet.verb,
                "object": triplet.object,
                "human_box": dict(zip(SIDES, triplet.human_box, strict=True)),
                "object_box": dict(zip(SIDES, triplet.object_box, strict=True)),
            }
            for triplet in model_outputs["found"]
        ]
