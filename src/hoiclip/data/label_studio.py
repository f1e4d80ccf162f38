"""Label Studio's JSON export: rectangles in percent of the image, relations between them.

A task holds ``data`` with the image's address and ``annotations``, each one person's work: a list of results.  A
rectangle has ``value`` (x, y, width, height in percent, ``rotation`` in degrees about its upper left corner), a
relation has ``from_id``, ``to_id``, ``direction`` (right, left, bi) and ``labels``, its verbs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import is_number, read_size
from hoiclip.data.json_files import listed_keys, looks_like, parse_json, read_json_text
from hoiclip.data.labelled import Box, Findings, ImageReader, LabelledImage, upright_box
from hoiclip.errors import HoiError
from hoiclip.vocabulary import HoiVocabulary

SIDES = ("x", "y", "width", "height")
PERCENT = 0.01  # that a box may leave the image by: the tool rounds
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what the tool puts before the name of an uploaded file
LOCAL_FILES = "/data/local-files/?d="  # how the tool calls files of its own machine


def read_label_studio(path: str | Path, findings: Findings) -> list[LabelledImage]:
    """Read an export of the kind "JSON".

    Of several annotations of a task the one changed last is taken; cancelled (skipped) ones do not count.  Tasks
    without an annotation are left out.

    Args:
        path: the file.
        findings: takes what cannot be meant and what is unusual.

    Raises:
        HoiError: no such export.
    """
    tasks = parse_json(read_json_text(path), path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise HoiError(f"{path}: holds no list of tasks{looks_like(tasks)}; export from Label Studio as JSON")
    if tasks and not any("annotations" in task and "data" in task for task in tasks):
        raise HoiError(
            f"{path}: tasks lack 'annotations' and 'data', they have {listed_keys(tasks[0])}; export from Label Studio "
            "as JSON (JSON-MIN has no relations)"
        )
    images = []
    for position, task in enumerate(tasks):
        names = _file_names(task.get("data"))
        where = f"task {task.get('id', position + 1)} ({names[0] if names else 'no image'})"
        annotation = _annotation(task, where, findings)
        if not names:
            findings.impossible.append(f"{where}: its data names no image, it has {listed_keys(task.get('data'))}")
        elif annotation is not None:
            images.append(_read_results(annotation["result"], where, findings).image(names))
    return images


def _annotation(task: dict[str, Any], where: str, findings: Findings) -> dict[str, Any] | None:
    """The annotation of a task that counts."""
    found = task.get("annotations")
    found = found if isinstance(found, list) else []
    made = [one for one in found if isinstance(one, dict) and isinstance(one.get("result"), list)]
    if len(made) < len(found):
        findings.impossible.append(f"{where}: an annotation has no list 'result'")
    kept = [one for one in made if not one.get("was_cancelled")]
    findings.unusual["skipped (cancelled) annotations were left out"] += len(made) - len(kept)
    if not kept:
        findings.unusual["tasks without an annotation were left out"] += 1
        return None
    findings.unusual["tasks have several annotations: the one changed last was taken"] += len(kept) > 1
    return max(kept, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))


def _read_results(results: list[Any], where: str, findings: Findings) -> ImageReader:
    """The boxes and relations of one annotation."""
    shapes: dict[str, dict[str, Any]] = {}
    labels: dict[str, list[Any]] = {}
    relations: list[dict[str, Any]] = []
    reader = ImageReader(where, None, findings)
    for result in results:
        kind = result.get("type") if isinstance(result, dict) else None
        if kind == "relation":
            relations.append(result)
        elif kind in ("rectanglelabels", "rectangle", "labels") and isinstance(result.get("value"), dict):
            key = str(result.get("id"))
            if kind != "labels":
                if key in shapes:
                    reader.wrong(f"two boxes are called {key!r}")
                shapes[key] = result
            shapes.setdefault(key, result)
            named = result["value"].get(kind)  # rectangle and labels are two results of one id
            labels.setdefault(key, []).extend(named if isinstance(named, list) else [])
        else:
            findings.unusual[f"results of the kind {str(kind)[:40]} were left out"] += 1
    for key, shape in shapes.items():
        size = read_size(shape.get("original_height"), shape.get("original_width"))
        if size is None or reader.size not in (None, size):
            reader.wrong(f"box {key!r} gives no original_width and original_height, or others than its neighbours")
            continue
        reader.size = size
        if len(set(map(str, labels[key]))) > 1:
            reader.wrong(f"box {key!r} has {len(labels[key])} labels; give it one")
        box = _box(shape, key, reader)
        if box is not None:
            reader.add_box(key, str(labels[key][0]) if labels[key] else "", box)
    for relation in relations:
        _add_relation(relation, reader, shapes)
    return reader


def _box(shape: dict[str, Any], key: str, reader: ImageReader) -> Box | None:
    """A rectangle in pixels, or None where it cannot be meant."""
    value = shape["value"]
    sides, turned = [value.get(side) for side in SIDES], value.get("rotation") or 0
    if not all(map(is_number, [*sides, turned])):
        reader.wrong(f"box {key!r} has no numbers x, y, width, height and rotation")
        return None
    if shape.get("image_rotation"):
        reader.wrong(f"box {key!r} was drawn on the image turned by {shape['image_rotation']} degrees; turn the file")
        return None
    x, y, width, height = sides
    if not turned and (min(x, y) < -PERCENT or max(x + width, y + height) > 100 + PERCENT):
        reader.wrong(f"box {key!r} reaches {max(x + width, y + height):.2f} percent of the image, or begins below 0")
        return None
    assert reader.size is not None
    high, wide = reader.size
    box = (x * wide / 100, y * high / 100, (x + width) * wide / 100, (y + height) * high / 100)
    if not turned:
        return box
    reader.findings.unusual["boxes are turned: the upright box around each was taken, inside the image"] += 1
    x1, y1, x2, y2 = upright_box(box, turned, box[:2])
    return (max(x1, 0.0), max(y1, 0.0), min(x2, float(wide)), min(y2, float(high)))


def _add_relation(relation: dict[str, Any], reader: ImageReader, shapes: dict[str, dict[str, Any]]) -> None:
    start, end = str(relation.get("from_id")), str(relation.get("to_id"))
    direction = relation.get("direction") or "right"
    if direction not in ("right", "left", "bi"):
        reader.wrong(f"the relation from {start!r} has the direction {direction!r}")
        return
    if direction == "left":
        start, end = end, start
    if any(key in shapes and key not in reader.rows for key in (start, end)):
        return  # its box is told already
    verbs = relation.get("labels")
    for verb in verbs if isinstance(verbs, list) and verbs else [None]:
        reader.add_relation(start, end, verb, both_ways=direction == "bi")


def _file_names(data: Any) -> tuple[str, ...]:
    """Where the image of a task may lie: below the local files, by its name alone, without the upload's prefix."""
    texts = [value for value in (data if isinstance(data, dict) else {}).values() if isinstance(value, str)]
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        texts = [data["image"]]
    if len(texts) != 1 or not texts[0].strip():
        return ()
    address = urlsplit(texts[0])
    local = parse_qs(address.query).get("d") if "local-files" in address.path else None
    whole = local[0] if local else unquote(address.path)
    name = re.split(r"[/\\]", whole)[-1]
    names = [whole.lstrip("/")] if local or not address.scheme else []
    return tuple(dict.fromkeys(found for found in (*names, name, UPLOADED.sub("", name)) if found))


# --- writing -----------------------------------------------------------------------------------------


def label_studio_tasks(
    images: Sequence[AnnotatedImage], sizes: Sequence[tuple[int, int]], vocabulary: HoiVocabulary
) -> list[dict[str, Any]]:
    """Tasks with one annotation each, for the tool's import; images are addressed as its local files.

    Args:
        images: what to write.
        sizes: (height, width) of each, in pixels.
        vocabulary: what the ids mean.
    """
    tasks = []
    for number, (image, (height, width)) in enumerate(zip(images, sizes, strict=True), 1):
        around = {"from_name": "label", "to_name": "image", "original_width": width, "original_height": height}
        results: list[dict[str, Any]] = []
        for i, (box, kind) in enumerate(zip(image.boxes.tolist(), image.object_ids.tolist(), strict=True)):
            x, y, right, bottom = (v * 100 / side for v, side in zip(box, (width, height) * 2, strict=True))
            value = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
            named = {"rectanglelabels": [vocabulary.objects[kind]]}
            results.append({"id": f"b{i}", "type": "rectanglelabels", "image_rotation": 0, **around,
                            "value": {**value, **named}})  # fmt: skip
        for (human, thing), verb in zip(image.pairs.tolist(), image.verbs(vocabulary).tolist(), strict=True):
            if thing < 0:
                raise HoiError(f"{image.file_name}: Label Studio has no relation without an object; export to coco")
            results.append({"type": "relation", "from_id": f"b{human}", "to_id": f"b{thing}", "direction": "right",
                            "labels": [vocabulary.verbs[verb]]})  # fmt: skip
        address = LOCAL_FILES + quote(image.file_name)
        tasks.append({"id": number, "data": {"image": address}, "annotations": [{"result": results}]})
    return tasks
