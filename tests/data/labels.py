"""One scene, as each labelling tool writes it: a woman rides a bicycle and holds an umbrella, a dog looks on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

#: name -> (label, xyxy in pixels of 200 x 100)
BOXES = {
    "w": ("person", (20.0, 10.0, 60.0, 90.0)),
    "b": ("bicycle", (16.0, 50.0, 80.0, 96.0)),
    "u": ("umbrella", (30.0, 4.0, 70.0, 20.0)),
    "d": ("dog", (150.0, 60.0, 190.0, 90.0)),
}
RELATIONS = [("w", "b", "ride"), ("w", "u", "hold")]
SIZE = (200, 100)


def write_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("a.png",):
        Image.new("RGB", SIZE, "gray").save(folder / name)
    return folder


def rectangle(key: str, **value: Any) -> dict[str, Any]:
    label, (x1, y1, x2, y2) = BOXES[key]
    sides = {"x": x1 / 2, "y": y1, "width": (x2 - x1) / 2, "height": y2 - y1, "rotation": 0}
    around = {"original_width": 200, "original_height": 100, "image_rotation": 0, "from_name": "l", "to_name": "i"}
    return {"id": key, "type": "rectanglelabels", **around, "value": {**sides, "rectanglelabels": [label], **value}}


def relation(start: str, end: str, *labels: str, direction: str | None = "right") -> dict[str, Any]:
    return {"type": "relation", "from_id": start, "to_id": end, "labels": list(labels), "direction": direction}


def task(name: str = "a.png", number: int = 7, results: list[Any] | None = None) -> dict[str, Any]:
    if results is None:
        results = [*map(rectangle, BOXES), *(relation(*one) for one in RELATIONS)]
    return {"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"}, "annotations": [{"result": results}]}


def cvat(boxes: str | None = None, name: str = "a.png", size: str = 'width="200" height="100"') -> str:
    if boxes is None:
        boxes = "".join(map(cvat_box, BOXES))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
        f'<image id="3" name="{name}" {size}>{boxes}</image></annotations>'
    )


def cvat_box(key: str, box: tuple[float, ...] | None = None, more: str = "", **attributes: str) -> str:
    label, own = BOXES[key]
    corners = zip(("xtl", "ytl", "xbr", "ybr"), box or own, strict=True)
    said = {"w": {"id": "1"}, "b": {"person": "1", "verb": "ride"}, "u": {"person": "1", "verb": "hold"}}.get(key, {})
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in (said | attributes).items())
    sides = " ".join(f"{side}='{value}'" for side, value in corners)
    return f'<box label="{label}" {sides} {more}>{inner}</box>'


def coco() -> dict[str, Any]:
    labels = ["person", "bicycle", "umbrella", "dog"]
    rows = {key: i for i, key in enumerate(BOXES, 1)}
    return {
        "images": [{"id": 5, "file_name": "a.png", "width": 200, "height": 100}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(labels, 1)],
        "annotations": [
            {"id": rows[key], "image_id": 5, "category_id": labels.index(label) + 1,
             "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for key, (label, (x1, y1, x2, y2)) in BOXES.items()
        ],
        "relations": [
            {"image_id": 5, "subject_id": rows[s], "object_id": rows[o], "verb": verb} for s, o, verb in RELATIONS
        ],
    }  # fmt: skip


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path
