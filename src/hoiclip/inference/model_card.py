"""The card of a model on the hub: what it is, how good, how to use it, and where it comes from.

Everything is read from the detector and from the files of its folder; what they do not tell is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hoiclip.backends.manifest import MANIFEST, Manifest
from hoiclip.errors import HoiError, first_line
from hoiclip.hub import is_hub_id
from hoiclip.vocabulary import HoiVocabulary

if TYPE_CHECKING:
    from hoiclip.inference.detector import HoiDetector
    from hoiclip.inference.exported_detector import ExportedDetector

CARD = "README.md"
WRITTEN = "<!-- written by hoiclip push; a README.md of your own in the model folder takes its place -->"
TAGS = ("human-object-interaction", "hoi-detection", "hoiclip", "clip", "detr")
SHOWN = 12  # verbs, objects and interactions that a card names of each
NO_METRICS = ("step", "images", "images_without_detections")  # numbers in metrics.json that are none


def model_card(
    detector: HoiDetector | ExportedDetector, repository: str, revision: str | None = None, license: str | None = None
) -> str:
    """The text of README.md, with its YAML header.

    A README.md of the user's own in the detector's folder is kept; its header gets what it lacks.

    Args:
        detector: what is pushed.
        repository, revision: where to.
        license: as the hub names it; by default what that README.md states, or nothing.

    Raises:
        HoiError: if the header of that README.md cannot be read.
    """
    from huggingface_hub import ModelCard

    own = stated_card(detector.folder)
    text = own.text if own is not None and WRITTEN not in own.content else _text(detector, repository, revision)
    header = {} if own is None else own.data.to_dict()
    header |= {"license": license or header.get("license")}
    header = {"library_name": "hoiclip", "pipeline_tag": "object-detection", **header}
    header["tags"] = list(dict.fromkeys([*(header.get("tags") or ()), *TAGS]))
    given = {name: value for name, value in header.items() if value is not None}
    return str(ModelCard(f"---\n{yaml.safe_dump(given, sort_keys=False)}---\n\n{text.strip()}\n"))


def stated_card(folder: Path | None) -> Any:
    """The ``ModelCard`` in a folder's README.md, or None where there is none.  Raises HoiError if it is no card."""
    from huggingface_hub import ModelCard

    if folder is None or not (folder / CARD).is_file():
        return None
    try:
        return ModelCard((folder / CARD).read_text(encoding="utf-8"), ignore_metadata_errors=False)
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise HoiError(
            f"{folder / CARD}: its YAML header cannot be read ({first_line(error)}); mend it, or take the file away"
        ) from error


def _text(detector: HoiDetector | ExportedDetector, repository: str, revision: str | None) -> str:
    folder = detector.folder
    known = folder is not None and _vocabulary_of(folder) == detector.vocabulary
    parts = [
        WRITTEN,
        f"# {repository.rpartition('/')[2]}",
        _summary(detector),
        "## How to use it",
        _usage(detector, repository, revision),
        "## What it finds",
        _words(detector.vocabulary),
        "## How good it is",
        _metrics(folder if known else None),
        "## What it cannot do",
        _bullets(_limits(detector)),
        "## Where it comes from",
        _bullets(_provenance(detector)),
    ]
    return "\n\n".join(parts) + "\n"


def _bullets(sentences: Iterator[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _summary(detector: HoiDetector | ExportedDetector) -> str:
    variant = "gen-vlkt" if detector.model is not None and detector.model.config.variant == "gen-vlkt" else "hoiclip"
    kind = {
        "hoiclip": "[HOICLIP](https://arxiv.org/abs/2303.15786) model",
        "gen-vlkt": "GEN-VLKT model, the baseline of [HOICLIP](https://arxiv.org/abs/2303.15786),",
    }
    what = kind[variant]
    if detector.model is None:
        manifest = Manifest.read(_folder(detector))
        what = f"graph for {manifest.format} in {manifest.precision}, exported from a model of HOICLIP's kind,"
    return f"A {what} for the package `hoiclip`: it finds human - verb - object triplets in images."


def _usage(detector: HoiDetector | ExportedDetector, repository: str, revision: str | None) -> str:
    at = f', revision="{revision}"' if revision else ""
    option = f" --revision {revision}" if revision else ""
    lines = ["```python", "import hoiclip", "", f'detector = hoiclip.load("{repository}"{at})']
    lines += ['for triplet in detector("photo.jpg"):', "    print(triplet.name, triplet.score)", "```", ""]
    lines += ["```bash", f"hoiclip detect photo.jpg --model {repository}{option}", "```", ""]
    if detector.model is None:
        package = Manifest.read(_folder(detector)).format
        lines.append(f"Its words are fixed. It needs `pip install 'hoiclip[{package}]'`.")
    elif detector.model.takes_new_words:
        lines.append("Ask for other interactions, trained on or not:")
        lines += ["", "```python", 'detector.set_vocabulary(hoiclip.HoiVocabulary.from_words("ride unicycle"))', "```"]
    else:
        lines.append("Its words are fixed.")
    return "\n".join(lines)


def _words(vocabulary: HoiVocabulary) -> str:
    names = [vocabulary.interaction_name(k) for k in range(vocabulary.num_interactions)]
    verbs = [verb.replace("_", " ") for verb in vocabulary.verbs]
    objects = [thing.replace("_", " ") for thing in vocabulary.objects]
    told = (
        f"{len(names)} interactions of {len(verbs)} verbs with {len(objects)} objects (vocabulary `{vocabulary.name}`)"
    )
    if vocabulary.unseen:
        told += f"; {len(vocabulary.unseen)} of them belong to its unseen classes"
    listed = [("Verbs", verbs), ("Objects", objects), ("Interactions", names)]
    return f"{told}.\n\n" + "\n".join(f"- {title}: {_some(words)}" for title, words in listed)


def _some(words: list[str]) -> str:
    """All words where they are few, else some from the whole list."""
    if len(words) <= SHOWN:
        return ", ".join(words)
    return ", ".join(words[k * len(words) // SHOWN] for k in range(SHOWN)) + ", …"


def _limits(detector: HoiDetector | ExportedDetector) -> Iterator[str]:
    yield "It names no interaction outside its vocabulary: it overlooks such a one, or takes it for another."
    if detector.model is not None:
        yield f"It finds at most {detector.model.config.num_queries} human-object pairs in an image."
        if detector.model.takes_new_words:
            yield "New words are judged by what CLIP knows of them, which is less certain than what was trained."
    size = detector.processor
    yield (
        f"The detector sees the image with a shorter side of {size.shortest_edge} pixels (the longer one at most "
        f"{size.longest_edge}), CLIP its middle square of {size.clip_size}: small and marginal things are missed first."
    )
    if detector.vocabulary.name.startswith("playground"):
        yield "Its vocabulary is that of the playground: it knows drawn scenes, not photographs."
    yield "It judges single images and inherits what its data and CLIP get wrong about people: do not judge them by it."


# --- what the files of the folder tell ---------------------------------------------------------------


def _folder(detector: HoiDetector | ExportedDetector) -> Path:
    assert detector.folder is not None
    return detector.folder


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """A mapping out of a file, empty where there is none or it cannot be read."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _vocabulary_of(folder: Path) -> HoiVocabulary | None:
    try:
        return HoiVocabulary.from_pretrained(folder)
    except HoiError:
        return None


def _run_folder(folder: Path) -> Path:
    """The run that a model folder belongs to: itself, or what ``best`` or a checkpoint lies in."""
    return folder.parent if folder.name == "best" or folder.name.startswith("checkpoint-") else folder


def _metrics(folder: Path | None) -> str:
    """A table of the means, of exactly these weights: ``metrics.json``, or the last line of the run's log."""
    found: dict[str, Any] = {}
    if folder is not None:
        found = _read(folder / "metrics.json", json.loads) or _last_evaluation(folder)
    means = {
        name: value
        for name, value in found.items()
        if name not in NO_METRICS and isinstance(value, (int, float)) and not isinstance(value, bool)
        and math.isfinite(value)
    }  # fmt: skip
    if not means:
        return "No metrics lie beside this model."
    rows = [f"| {name.replace('_', ' ')} | {100 * value:.2f} |" for name, value in means.items()]
    assert folder is not None
    run = _read(_run_folder(folder) / "config.yaml", yaml.safe_load)
    protocol = found.get("protocol") or (run.get("evaluation") or {}).get("protocol")
    told = [f"protocol `{protocol}`"] if protocol else []
    source = (run.get("data") or {}).get("source")
    told += [f"data `{source}`"] if source else []
    told += [f"{found['images']} images"] if "images" in found else []
    told += [f"after step {found['step']}"] if "step" in found else []
    heading = f"As measured by hoiclip ({', '.join(told)}), in percent:" if told else "In percent:"
    return "\n".join([heading, "", "| metric | value |", "|---|---|", *rows])


def _last_evaluation(folder: Path) -> dict[str, Any]:
    """The evaluation of a finished run's last step, whose weights lie in its folder; empty without one."""
    log = folder / "log.jsonl"
    records: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        with suppress(ValueError):  # the line that a crash cut off
            records.append(json.loads(line))
    last = max((record.get("step", 0) for record in records), default=0)
    for record in records:
        if record.get("step") == last and any(name.startswith("eval_") for name in record):
            means = {name.removeprefix("eval_"): value for name, value in record.items() if name.startswith("eval_")}
            return {"step": last, **means}
    return {}


def _provenance(detector: HoiDetector | ExportedDetector) -> Iterator[str]:
    folder = detector.folder
    if folder is not None:
        run = _run_folder(folder)
        yield from _run_sentences(_read(run / "config.yaml", yaml.safe_load), _read(run / "data.json", json.loads))
        if (folder / MANIFEST).is_file():
            manifest = Manifest.read(folder)
            counted = f", calibrated with {manifest.calibration} images" if manifest.calibration else ""
            yield f"Exported for {manifest.format} in {manifest.precision}{counted}."
        if _vocabulary_of(folder) != detector.vocabulary:
            yield "Its vocabulary was set after training."
    yield f"Pushed with hoiclip {version('hoiclip')}."


def _run_sentences(options: dict[str, Any], data: dict[str, Any]) -> Iterator[str]:
    """What a run's ``config.yaml`` and ``data.json`` say."""
    model, source = options.get("model") or {}, options.get("data") or {}
    if options.get("name"):
        yield f"Trained as the experiment `{options['name']}`, seed {options.get('seed')}."
    if model.get("start"):
        yield f"Started from {_named(model['start'])}."
    elif model.get("detr"):
        yield f"Started from the DETR {_named(model['detr'])} and the CLIP {_named(model.get('clip'))}."
    if source.get("source"):
        images = f", {data['images']:,} training images with {data['labels']:,} labels" if "labels" in data else ""
        folder = f" in the folder `{Path(str(source['root'])).name}`" if source.get("root") else ""
        yield f"Data: `{source['source']}`{folder}{images}."


def _named(place: Any) -> str:
    """A hub id as it stands; of a path the last part only, since the rest belongs to a machine."""
    text = str(place)
    return f"`{text}`" if is_hub_id(text) and not Path(text).suffix else f"`{Path(text).name}` (a file or folder)"
