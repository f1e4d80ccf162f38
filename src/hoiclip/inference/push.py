"""A detector to the hub: all that a load needs, and a model card, in one commit."""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip.backends.manifest import MANIFEST, Manifest
from hoiclip.errors import HoiError
from hoiclip.hub import is_hub_id, push_files
from hoiclip.inference.model_card import CARD, model_card
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.text_embedder import TextEmbedder
from hoiclip.score_calibration import CALIBRATION_FILE
from hoiclip.vocabulary import VOCABULARY_FILE

if TYPE_CHECKING:
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.exported_detector import ExportedDetector


def push_detector(
    detector: HoiDetector | ExportedDetector,
    repository: str,
    *,
    private: bool | None,
    token: str | None,
    revision: str | None,
    commit_message: str | None,
    license: str | None,
) -> str:
    """See :meth:`hoiclip.HoiDetector.push_to_hub`."""
    try:
        with tempfile.TemporaryDirectory(prefix="hoiclip-push-") as scratch:
            files = _graph_files(detector) if detector.model is None else _model_files(detector, Path(scratch))
            if detector.probabilities is not None:
                probabilities = detector.probabilities.for_vocabulary(detector.vocabulary)
                files[CALIBRATION_FILE] = probabilities.save(scratch)
            files[CARD] = Path(scratch) / CARD
            files[CARD].write_text(model_card(detector, repository, revision, license), encoding="utf-8")
            message = commit_message or f"Upload a model with hoiclip {version('hoiclip')}"
            return push_files(files, repository, private=private, token=token, revision=revision, message=message)
    except OSError as error:
        raise HoiError(
            f"{tempfile.gettempdir()}: the files to push cannot be written ({error.strerror or error}); free some space"
        ) from error


def _graph_files(detector: ExportedDetector) -> dict[str, Path]:
    """Name -> file of an exported folder; what else lies there is not pushed."""
    folder = detector.folder
    graph = Path(Manifest.read(folder).graph).stem
    names = [path.name for path in sorted(folder.glob(f"{graph}.*")) if path.is_file()]
    return {name: folder / name for name in (*names, MANIFEST, VOCABULARY_FILE, "processor_config.json")}


def _model_files(detector: HoiDetector, scratch: Path) -> dict[str, Path]:
    """Write a model folder into ``scratch``: name -> file."""
    model = detector.model
    _fetch_tokenizer(model)
    model.save_pretrained(scratch)
    detector.processor.save_pretrained(scratch)
    if not is_hub_id(model.config.tokenizer):  # a path of this machine; the tokenizer itself lies beside
        settings = json.loads((scratch / "config.json").read_text(encoding="utf-8"))
        settings.pop("tokenizer", None)
        (scratch / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return {path.name: path for path in sorted(scratch.iterdir())}


def _fetch_tokenizer(model: HoiClipModel) -> None:
    """Have the tokenizer at hand where new words need one; without it the push goes on, and says so."""
    if not model.takes_new_words:
        return
    model.text_embedder = model.text_embedder or TextEmbedder(model.config.tokenizer)
    try:
        _ = model.text_embedder.tokenizer
    except HoiError as error:
        print(f"hoiclip: pushed without a tokenizer, so new words need one of their own: {error}", file=sys.stderr)
