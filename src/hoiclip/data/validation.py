"""Count a dataset, compare it with the published counts, and list every defect.

report = check("data/hicodet")
print(report.to_text())
report.save("report.json")
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hoiclip.boxes import in_fractions, reversed_corners
from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.content import IN_FRACTIONS, NOT_FOUR_NUMBERS, OUT_OF_RANGE, REVERSED, Defect, HoiaContent, leaving
from hoiclip.data.dataset import Dataset, open_dataset
from hoiclip.data.layout import DatasetLayout, leaves_folder
from hoiclip.errors import HoiError
from hoiclip.files import write_text_atomic
from hoiclip.images import decoded_frames
from hoiclip.vocabulary import SPLITS as ZERO_SHOT_SPLITS
from hoiclip.vocabulary import HoiVocabulary

# Papers, and the counts of the real annotation files; boxes that come again in an image count once.
PUBLISHED: dict[str, dict[str, dict[str, int]]] = {
    "hicodet": {
        "train": {"images": 38_118, "classes with instances": 600, "classes with fewer than 10 instances": 138},
        "test": {
            "images": 9_658,
            "images without interactions": 112,
            "boxes": 56_786,
            "interactions": 33_405,
            "classes with instances": 600,
        },
        "all": {"images": 47_776},
    },
    "vcoco": {
        "train": {"images": 2_533},
        "val": {"images": 2_867},
        "trainval": {"images": 5_400},
        "test": {"images": 4_946},
        "all": {"images": 10_346},
    },
}
PUBLISHED_CLASSES = {
    "hicodet": {"rare": 138, "rf_uc": 120, "nf_uc": 120, "uo": 100, "uv": 84, **{f"uc{i}": 120 for i in range(5)}}
}


@dataclass(frozen=True)
class SplitReport:
    """Counts and defects of one split.

    Attributes:
        split: its name.
        counts: images, images without interactions, boxes, pairs (distinct human and object box),
            interactions (labels of pairs), classes with instances, classes with fewer than 10.
        published: the same names, as far as the authors say.
        per_class: (K,) labels of each interaction.
        sets: by name of a set of interactions (rare, non_rare, and unseen ones by setting): number of
            classes, how many were published (or None), and their labels in this split.
        defects: everything wrong, by image and position.
        image_files: how many image files were looked for; 0 where no image folder was found.
    """

    split: str
    counts: dict[str, int]
    published: dict[str, int]
    per_class: list[int]
    sets: dict[str, dict[str, int | None]]
    defects: list[Defect]
    image_files: int


@dataclass(frozen=True)
class CheckReport:
    """The splits of one dataset; :meth:`to_text` for the terminal, :meth:`save` for programs."""

    source: str
    kind: str
    vocabulary: str
    splits: list[SplitReport]

    @property
    def total_images(self) -> int:
        """Images of all splits; V-COCO's trainval is train and val together."""
        parts = {s.split: s.counts["images"] for s in self.splits}
        if "trainval" in parts:
            parts = {name: n for name, n in parts.items() if name not in ("train", "val")}
        return sum(parts.values())

    @property
    def defects(self) -> int:
        return sum(len(split.defects) for split in self.splits)

    @property
    def complete(self) -> bool:
        """Every published count is met and nothing is wrong."""
        return not self.defects and all(s.counts[k] == n for s in self.splits for k, n in s.published.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; every defect is listed."""
        return {**asdict(self), "total_images": self.total_images, "complete": self.complete}

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, all of it or nothing.  Raises HoiError if it cannot be written."""
        write_text_atomic(path, json.dumps(self.to_dict(), indent=1))

    def to_text(self, max_defects: int = 10) -> str:
        """The report for a terminal, ``max_defects`` examples of each kind of defect."""
        lines = [f"{self.source}: {self.kind}, vocabulary {self.vocabulary}"]
        for split in self.splits:
            lines += ["", f"{split.split:<40}{'found':>10}{'published':>12}"]
            lines += [_row(name, n, split.published.get(name)) for name, n in split.counts.items()]
            lines += _set_rows(split)
            lines += _class_rows(split)
            lines += _defect_rows(split, max_defects)
        together = PUBLISHED.get(self.kind, {}).get("all", {}).get("images")
        if len(self.splits) > 1:
            lines += ["", _row("images of all splits", self.total_images, together)]
        return "\n".join(lines) + "\n"


def check(
    source: str | Path | Dataset | Sequence[AnnotatedImage],
    *,
    split: str | None = None,
    vocabulary: HoiVocabulary | str | Path | None = None,
    images: str | Path | None = None,
    box_format: str | None = None,
) -> CheckReport:
    """Count and examine a dataset.

    Args:
        source: dataset folder, annotation file, opened dataset, or annotated images.
        split: only this one; None for all there are.
        vocabulary: label space; None takes the dataset's own (HICO-DET for a single file or a list).
        images: image folder, instead of the one found; without one, image files are not looked for.
        box_format: ``"xyxy"`` or ``"xywh"``, see :func:`load_hoia`.

    Raises:
        HoiError: if nothing can be read there at all; defects are in the report.
    """
    if isinstance(source, str | Path):
        source = open_dataset(source, vocabulary=vocabulary, images=images, box_format=box_format)
    if isinstance(source, Dataset):
        splits = [split] if split else source.splits
        reports = [_split_report(source.files, name, source.read(name)) for name in splits]
        return CheckReport(str(source.files.root), source.kind, source.vocabulary.name, reports)
    own = HoiVocabulary.coerce(vocabulary if vocabulary is not None else "hico")
    name = split or "annotations"
    folders: dict[str, tuple[Path, ...]] = {name: (Path(images),)} if images is not None else {}
    kind = {"hico": "hicodet", "vcoco": "vcoco"}.get(own.name.split("_")[0], "custom")
    files = DatasetLayout(kind, Path("."), own, {}, folders)
    return CheckReport("annotations", kind, own.name, [_split_report(files, name, HoiaContent(images=list(source)))])


def _split_report(files: DatasetLayout, split: str, content: HoiaContent) -> SplitReport:
    vocabulary, images = files.vocabulary, content.images
    known_as = split
    if files.kind == "hicodet":  # a file may have any name, its images tell
        name = images[0].file_name if images else ""
        known_as = "test" if name.startswith("HICO_test") else "train" if name.startswith("HICO_train") else ""
    hoi_ids = np.concatenate([np.zeros(0, dtype=np.int64), *(image.hoi_ids for image in images)])
    valid = hoi_ids[(hoi_ids >= 0) & (hoi_ids < vocabulary.num_interactions)]
    per_class = np.bincount(valid, minlength=vocabulary.num_interactions)
    counts = {
        "images": len(images),
        "images without interactions": sum(not len(image.pairs) for image in images),
        "boxes": sum(len(image.boxes) for image in images),
        "pairs": sum(len(set(map(tuple, image.pairs.tolist()))) for image in images),
        "interactions": len(hoi_ids),
        "classes with instances": int((per_class > 0).sum()),
        "classes with fewer than 10 instances": int((per_class < 10).sum()),
    }
    if content.unlisted:
        counts["interactions outside the vocabulary"] = content.unlisted
    return SplitReport(
        split=split,
        counts=counts,
        published=PUBLISHED.get(files.kind, {}).get(known_as, {}),
        per_class=per_class.tolist(),
        sets=_sets(files, per_class),
        defects=sorted(_examine(files, split, content), key=lambda d: (d.image, d.where != "image", d.where, d.index)),
        image_files=len(images) if files.images.get(split) else 0,
    )


def _sets(files: DatasetLayout, per_class: np.ndarray) -> dict[str, dict[str, int | None]]:
    """Rare, non-rare and the unseen set of each zero-shot setting the label space has."""
    vocabulary, base = files.vocabulary, files.vocabulary.name.split("_")[0]
    members = {"rare": vocabulary.rare} if vocabulary.rare else {}
    if vocabulary.rare:
        members["non_rare"] = frozenset(range(vocabulary.num_interactions)) - vocabulary.rare
    if base == "hico":
        members |= {name: HoiVocabulary.from_name(f"hico_{name}").unseen for name in ZERO_SHOT_SPLITS}
    elif vocabulary.unseen:
        members["unseen"] = vocabulary.unseen
    published = PUBLISHED_CLASSES.get(files.kind, {})
    return {
        name: {
            "classes": len(ids),
            "published_classes": published.get(name),
            "interactions": int(per_class[sorted(ids)].sum()),
        }
        for name, ids in members.items()
    }


# --- defects ---------------------------------------------------------------------------------------


def _examine(files: DatasetLayout, split: str, content: HoiaContent) -> list[Defect]:
    defects = list(content.defects)
    unreadable = {(d.image, d.index) for d in defects if d.where == "box"}
    names = Counter(image.file_name for image in content.images)
    checked = tqdm(content.images, desc=f"checking {split}", unit="image", disable=None, leave=False)
    for at, image in enumerate(checked):
        if names[image.file_name] > 1:
            detail = f"{names[image.file_name]} entries have this name"
            defects.append(Defect("image listed twice", image.file_name, at, "image", -1, detail))
        if leaves_folder(image.file_name):
            defects.append(leaving(at, image))
            continue
        size, complaint = _image_size(files, split, image)
        if complaint:
            defects.append(Defect(complaint[0], image.file_name, at, "image", -1, complaint[1]))
        defects += [d for d in _box_defects(at, image, size, files.vocabulary) if (at, d.index) not in unreadable]
        defects += _pair_defects(at, image, files.vocabulary, content.pair_positions.get(at))
    return defects


def _image_size(
    files: DatasetLayout, split: str, image: AnnotatedImage
) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
    """((height, width) as far as known, complaint)."""
    folders = files.images.get(split)
    if not folders:
        return image.size, None
    path = files.image(split, image.file_name)
    if path is None:
        return image.size, ("missing image", f"not in {', '.join(map(str, folders))}")
    try:
        size, upright = decoded_frames(path)
    except HoiError as error:
        return image.size, ("unreadable image", str(error))
    if upright is not None:
        return _turned(image, size, upright, published=files.kind != "custom")
    if image.size is not None and image.size != size:
        return size, ("size differs", f"annotated (height, width) {image.size}, image file {size}")
    return size, None


def _turned(
    image: AnnotatedImage, size: tuple[int, int], upright: tuple[int, int], *, published: bool
) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
    """What :func:`_image_size` says of an image that an EXIF tag turns."""
    told = image.size in (size, upright) and size != upright
    frame = upright if image.size == upright else size
    if told or published:
        which = "upright, by the annotated size" if told and frame == upright else "as stored"
        return frame, (
            "turned by EXIF",
            f"(height, width) {size} as stored, {upright} upright; boxes are taken {which}",
        )
    return None, ("turned by EXIF", "the annotation does not tell whether its boxes were drawn before or after; "
                  "turn the image and drop the tag, or annotate width and height")  # fmt: skip


def _box_defects(
    at: int, image: AnnotatedImage, size: tuple[int, int] | None, vocabulary: HoiVocabulary
) -> list[Defect]:
    def found(kind: str, rows: np.ndarray, detail: str) -> list[Defect]:
        return [
            Defect(kind, image.file_name, at, "box", i, detail.format(box=image.boxes[i].tolist()))
            for i in np.flatnonzero(rows).tolist()
        ]

    if not len(image.boxes):
        return []
    boxes = image.boxes
    bad = ~np.isfinite(boxes).all(axis=1)
    defects = found(NOT_FOUR_NUMBERS, bad, "{box}")
    small, turned = in_fractions(boxes), reversed_corners(boxes)
    defects += found(IN_FRACTIONS, small, "{box} is not in pixels")
    defects += found(REVERSED, turned & ~small, "{box} as x1, y1, x2, y2")
    with np.errstate(invalid="ignore"):
        flat = ~bad & ~small & ~turned & ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))
        defects += found("zero-area box", flat, "{box} has no area")
        if size is not None:
            height, width = size
            outside = ~bad & ((boxes < 0) | (boxes > np.array([width, height, width, height]))).any(axis=1)
            defects += found("box outside the image", outside, f"{{box}} leaves {width} x {height} pixels")
    unknown = (image.object_ids < 0) | (image.object_ids >= len(vocabulary.objects))
    return defects + found(OUT_OF_RANGE, unknown, "its object class is not in the vocabulary")


def _pair_defects(
    at: int, image: AnnotatedImage, vocabulary: HoiVocabulary, positions: Sequence[int] | None
) -> list[Defect]:
    def defect(kind: str, row: int, detail: str) -> Defect:
        return Defect(kind, image.file_name, at, "pair", positions[row] if positions else row, detail)

    defects: list[Defect] = []
    first: dict[tuple[int, ...], int] = {}
    person = vocabulary.person_id
    verbs = image.verb_ids.tolist() if image.verb_ids is not None else [-1] * len(image.pairs)
    for row, ((human, obj), hoi, verb) in enumerate(
        zip(image.pairs.tolist(), image.hoi_ids.tolist(), verbs, strict=True)
    ):
        if not (0 <= human < len(image.boxes) and -1 <= obj < len(image.boxes)):
            defects.append(defect(OUT_OF_RANGE, row, f"boxes {human} and {obj} of {len(image.boxes)}"))
            continue
        if hoi == -1:
            words = [vocabulary.verbs[verb] if verb >= 0 else "?"]
            words += [vocabulary.objects[image.object_ids[obj]]] if obj >= 0 else ["without an object"]
            detail = f"{' '.join(words)!r} is none of vocabulary {vocabulary.name!r}"
            defects.append(defect("not an interaction", row, detail))
        if not -1 <= hoi < vocabulary.num_interactions:
            defects.append(defect(OUT_OF_RANGE, row, f"interaction {hoi} of {vocabulary.num_interactions}"))
            continue
        if person is not None and image.object_ids[human] not in (person, -1):
            name = vocabulary.objects[image.object_ids[human]]
            defects.append(defect("subject is not a person", row, f"box {human} is {name!r}"))
        if hoi >= 0 and obj >= 0 and image.object_ids[obj] not in (vocabulary.interactions[hoi][1], -1):
            label, name = vocabulary.interaction_name(hoi), vocabulary.objects[image.object_ids[obj]]
            defects.append(defect("object does not fit", row, f"{label!r} with box {obj}, which is {name!r}"))
        label_of_pair = human, obj, hoi, verb
        if label_of_pair in first:
            earlier = positions[first[label_of_pair]] if positions else first[label_of_pair]
            defects.append(defect("duplicate pair", row, f"says the same as pair {earlier}"))
        first.setdefault(label_of_pair, row)
    return defects


# --- words -----------------------------------------------------------------------------------------


def _row(name: str, found: int, published: int | None) -> str:
    line = f"  {name:<38}{found:>10,}"
    if published is None:
        return line
    return f"{line}{published:>12,}  {'ok' if found == published else 'DIFFERS'}"


def _set_rows(split: SplitReport) -> list[str]:
    if not split.sets:
        return []
    lines = [f"  {'sets of interactions':<38}{'classes':>10}{'published':>12}{'labels':>10}"]
    for name, row in split.sets.items():
        published = "" if row["published_classes"] is None else f"{row['published_classes']:,}"
        what = name if name in ("rare", "non_rare", "unseen") else f"unseen in {name}"
        lines.append(f"    {what:<36}{row['classes']:>10,}{published:>12}{row['interactions']:>10,}")
    return lines


def _class_rows(split: SplitReport) -> list[str]:
    low, middle, high = np.percentile(split.per_class, [0, 50, 100]).tolist()
    return [f"  labels per class: fewest {low:,.0f}, median {middle:,.0f}, most {high:,.0f}"]


def _defect_rows(split: SplitReport, examples: int) -> list[str]:
    lines = [] if split.image_files else ["  no image folder: image files were not looked for"]
    if not split.defects:
        return [*lines, "  no defects"]
    kinds = Counter(defect.kind for defect in split.defects)
    for kind, count in kinds.most_common():
        lines.append(f"  {kind}: {count:,}")
        lines += [f"    {defect}" for defect in [d for d in split.defects if d.kind == kind][:examples]]
        if count > examples:
            lines.append(f"    ... and {count - examples:,} more")
    return lines
