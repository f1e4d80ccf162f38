"""What detectors share that are loaded from one folder with a processor_config.json."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from PIL import Image

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.image_preparation import ImagePreparation
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.inference.prefetch import PreparedImage, prepare
from hoiclip.score_calibration import Calibration
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.exported_detector import ExportedDetector
    from hoiclip.processing import HoiClipProcessor

Own = TypeVar("Own", bound="LoadedDetector")


class LoadedDetector(ImageDetector):
    """A trained model, in whatever form, and how images are prepared for it.

    Attributes:
        preparation: sizes, and the vocabulary of the answers.
        folder: what the detector was loaded from, on this machine; None if it was made of parts.
        probabilities: what ``hoiclip calibrate`` made of the scores; None where it was not called.
    """

    preparation: ImagePreparation
    folder: Path | None
    probabilities: Calibration | None = None

    @property
    @abstractmethod
    def processor(self) -> HoiClipProcessor:
        """Images to the model's inputs, its outputs to detections, as torch tensors."""

    @property
    def vocabulary(self) -> HoiVocabulary:
        """What the detector is asked for."""
        return self.preparation.vocabulary

    def set_size(self: Own, shorter: int) -> Own:
        """Resize images to so many pixels on the shorter side from now on; the limit of the longer one follows.

        Smaller images are faster and cost accuracy.

        Raises:
            HoiError: outside 32..4096 pixels.
        """
        self.preparation.set_size(shorter)
        return self

    def _calibrate(self, folder: str | Path) -> None:
        """Show probabilities from now on, if the folder says how.  Raises HoiError if what it says is damaged."""
        self.probabilities = Calibration.read(folder, HoiVocabulary.from_pretrained(folder))
        if self.probabilities is not None:
            self.default_threshold = self.probabilities.threshold

    def _shown(self, found: Detections, threshold: float | None) -> Detections:
        if self.probabilities is None:
            return super()._shown(found, threshold)
        assert found.interaction_scores is not None
        made = self.probabilities
        probabilities = made.probabilities(found.interaction_scores)
        found = replace(found, interaction_scores=probabilities, calibration=(made.temperature, made.bias))
        least = made.least(found.vocabulary)[found.hoi_ids] if threshold is None else threshold
        return found[found.confidence >= least]

    def _prepare(self, image: Image.Image) -> PreparedImage:
        return PreparedImage(self.preparation.views(image), (image.height, image.width))

    def _read(self, path: Path | str, *, keep_image: bool, draft: bool) -> PreparedImage | HoiError:
        return prepare(path, self.preparation, keep_image=keep_image, draft=draft)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        license: str | None = None,
    ) -> str:
        """Push all that :func:`load` needs, and a model card, in one commit: ``hoiclip.load("owner/name")``.

        Args:
            repository: ``owner/name``; made if there is none.
            private, token, revision: as for :func:`hoiclip.hub.push_files`.
            commit_message: by default what is pushed.
            license: of the model, as the hub names it (``apache-2.0``); by default the one that a README.md
                in the folder states, or none.

        Returns:
            Address of the commit.

        Raises:
            HoiError: as :func:`hoiclip.hub.push_files`; what is on the hub then stays as it was.
        """
        from hoiclip.inference.push import push_detector  # knows models, which an exported detector does without

        return push_detector(
            cast("HoiDetector | ExportedDetector", self),
            repository,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
            license=license,
        )
