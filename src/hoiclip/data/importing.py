"""From a labelling tool's file to a folder of one's own (``custom.py``), and back.

report = import_labels("export.json", "label-studio", "mine", images="photos", test_share=0.2)
export_labels("mine", "coco", "mine.json")
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from hoiclip.data.annotations import AnnotatedImage
from hoiclip.data.coco_relations import coco_document, read_coco_relations
from hoiclip.data.cvat import read_cvat
from hoiclip.data.dataset import Dataset, open_dataset
from hoiclip.data.hoia import save_hoia
from hoiclip.data.label_studio import label_studio_tasks, read_label_studio
from hoiclip.data.labelled import Findings, LabelledImage
from hoiclip.data.layout import existing_folder, leaves_folder
from hoiclip.data.subsets import hold_out
from hoiclip.errors import HoiError
from hoiclip.files import UNFINISHED, held_temporary, write_text_atomic
from hoiclip.images import declared_frames
from hoiclip.vocabulary import NOTHING, HoiVocabulary, article, gerund
from hoiclip.words import identifier

READERS: dict[str, Callable[[str | Path, Findings], list[LabelledImage]]] = {
    "label-studio": read_label_studio,
    "cvat": read_cvat,
    "coco": read_coco_relations,
}
PERSON = "person"
FEW = 10  # instances; HICO-DET calls interactions with fewer rare


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote.

    Attributes:
        folder: where.
        train, test: how many images each has.
        boxes, pairs: how many there are in all.
        vocabulary: its words.
        notes: what is unusual, one sentence each.
    """

    folder: Path
    train: int
    test: int
    boxes: int
    pairs: int
    vocabulary: HoiVocabulary
    notes: list[str]

    def to_text(self) -> str:
        """For the terminal."""
        words = self.vocabulary
        lines = [
            f"{self.folder}: {self.train} images to learn from, {self.test} to test on; {self.boxes} boxes, "
            f"{self.pairs} pairs of {words.num_interactions} interactions ({len(words.verbs)} verbs, "
            f"{len(words.objects)} objects)"
        ]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)]) + "\n"


def import_labels(
    path: str | Path,
    form: str,
    out: str | Path,
    *,
    images: str | Path | None = None,
    link: bool = False,
    test_share: float = 0.2,
    seed: int = 0,
    people: Sequence[str] = (PERSON,),
    vocabulary: HoiVocabulary | str | Path | None = None,
) -> ImportReport:
    """Make a folder of one's own out of a labelling tool's file.

    Args:
        path: the file.
        form: ``"label-studio"``, ``"cvat"`` or ``"coco"``.
        out: folder to write; it may be empty but not hold anything.
        images: folder of the images; by default that of the file, or ``images`` in it.
        link: make symbolic links to the images instead of copies.
        test_share: share of the images for ``test.json``; 0 for none.
        seed: of the split; with the file names it says all.
        people: labels that are people.
        vocabulary: words to keep to; by default those that occur.

    Raises:
        HoiError: something that cannot be meant, told by image; then nothing is written.
    """
    if not 0 <= test_share < 1:
        raise HoiError(f"the share of test images must be at least 0 and below 1, not {test_share}")
    out = Path(out)
    if os.path.lexists(out) and (not os.path.isdir(out) or any(os.scandir(out))):
        raise HoiError(f"{out}: is there already; give a new folder, or empty this one")
    findings = Findings(path)
    labelled = READERS[form](path, findings)
    if not labelled and not findings.impossible:
        raise HoiError(f"{path}: holds no annotated image; label some first")
    folder = existing_folder(images) if images is not None else Path(path).parent
    places = [folder, folder / "images"] if images is None else [folder]
    files = [_find(image, places, findings) for image in labelled]
    names = [name for name, _ in files]
    for name, count in Counter(names).items():
        if name and count > 1:
            at = [image.where for image, own in zip(labelled, names, strict=True) if own == name]
            findings.impossible.append(f"{at[0]} and {at[1]}: both have the image {name!r}")
    sizes = [_size(image, file, findings) for image, (_, file) in zip(labelled, files, strict=True)]
    turned = [_directed(image, people, findings) for image in labelled]
    findings.refuse()
    words = HoiVocabulary.coerce(vocabulary) if vocabulary is not None else _vocabulary(turned)
    annotated = [
        _annotated(image, name, size, words, findings) for image, name, size in zip(turned, names, sizes, strict=True)
    ]
    findings.refuse()
    return _write(out, annotated, dict(files), words, findings, link=link, test_share=test_share, seed=seed)


# --- images --------------------------------------------------------------------------------------------


def _find(image: LabelledImage, places: Sequence[Path], findings: Findings) -> tuple[str, Path | None]:
    """The name of an image below the folder it is in, with slashes, and its file."""
    for name in image.names:
        if leaves_folder(name):
            findings.impossible.append(f"{image.where}: the file name {name!r} leads out of the image folder")
            return "", None
        for place in places:
            if os.path.isfile(place / name):
                return name.replace("\\", "/"), place / name
    looked = " or ".join(str(place) for place in places)
    findings.impossible.append(f"{image.where}: no such image in {looked}; give the folder with --images")
    return "", None


def _size(image: LabelledImage, file: Path | None, findings: Findings) -> tuple[int, int] | None:
    """(height, width) of the frame that the boxes were drawn in."""
    if file is None:
        return None
    try:
        frames = set(declared_frames(file))
    except HoiError as error:
        findings.impossible.append(f"{image.where}: {error}")
        return None
    shown = " or ".join(f"{width} x {height}" for height, width in sorted(frames))
    if image.size is None and len(frames) > 1:
        findings.impossible.append(f"{image.where}: has no width and height, and the file can be seen as {shown}")
    elif image.size is not None and image.size not in frames:
        own = f"{image.size[1]} x {image.size[0]}"
        findings.impossible.append(f"{image.where}: was labelled as {own} pixels, the file has {shown}")
    return image.size or next(iter(frames))


# --- words ---------------------------------------------------------------------------------------------


def _directed(image: LabelledImage, people: Sequence[str], findings: Findings) -> LabelledImage:
    """The image in names of a vocabulary, every relation from a person; copies of a relation are left out."""
    human = {identifier(name) for name in people} | {PERSON}
    labels = [PERSON if identifier(label) in human else identifier(label) for label in image.labels]
    relations = []
    for relation in image.relations:
        subject, thing = relation.subject, relation.object
        ends = [labels[row] if row >= 0 else None for row in (subject, thing)]
        if PERSON not in ends:
            what = " and ".join(end or "nothing" for end in ends)
            findings.impossible.append(f"{image.where}: the relation {relation.verb!r} of {what} has no person")
            continue
        both = [(subject, thing)]
        if ends[0] != PERSON:
            both = [(thing, subject)]
            if not relation.both_ways:
                findings.unusual["relations lead to the person: they were turned round"] += 1
        elif ends[1] == PERSON and relation.both_ways:
            both.append((thing, subject))
        for pair in both:
            if pair[0] == pair[1]:
                findings.impossible.append(f"{image.where}: the relation {relation.verb!r} has one box as both ends")
            found = type(relation)(*pair, identifier(relation.verb))
            findings.unusual["relations are given twice: once was taken"] += found in relations
            relations += [found] if found not in relations else []
    return LabelledImage(image.where, image.names, image.size, labels, image.boxes, relations)


def _vocabulary(images: Sequence[LabelledImage]) -> HoiVocabulary:
    """The words that occur, people first, then by the alphabet."""
    pairs = sorted({pair for image in images for pair in _named_pairs(image)})
    if not pairs:
        raise HoiError("there is no relation in the file: connect each person with what they act on, and name the verb")
    objects = {label for image in images for label in image.labels} | {thing for _, thing in pairs}
    verbs, things = sorted({verb for verb, _ in pairs}), [PERSON, *sorted(objects - {PERSON})]
    return HoiVocabulary(
        name="vocabulary",
        verbs=tuple(verbs),
        gerunds=tuple(map(gerund, verbs)),
        objects=tuple(things),
        articles=tuple(map(article, things)),
        interactions=tuple((verbs.index(verb), things.index(thing)) for verb, thing in pairs),
    )


def _named_pairs(image: LabelledImage) -> Iterable[tuple[str, str]]:
    return ((r.verb, NOTHING if r.object < 0 else image.labels[r.object]) for r in image.relations)


def _annotated(
    image: LabelledImage, name: str, size: tuple[int, int] | None, words: HoiVocabulary, findings: Findings
) -> AnnotatedImage:
    """The image in numbers of a vocabulary."""
    unknown = sorted(set(image.labels) - set(words.objects))
    hois = [_interaction(pair, words) for pair in _named_pairs(image)]
    missing = [" ".join(pair) for pair, hoi in zip(_named_pairs(image), hois, strict=True) if hoi < 0]
    if unknown or missing:
        what = f"object {unknown[0]!r}" if unknown else f"interaction {missing[0]!r}"
        findings.impossible.append(f"{image.where}: the vocabulary has no {what}")
        return AnnotatedImage(name)
    findings.unusual["images have no box: they teach that there is nothing to find"] += not image.boxes
    findings.unusual["people take part in nothing: they teach that they do nothing"] += sum(
        label == PERSON and i not in {r.subject for r in image.relations} | {r.object for r in image.relations}
        for i, label in enumerate(image.labels)
    )
    return AnnotatedImage(
        file_name=name,
        boxes=np.round(np.array(image.boxes).reshape(-1, 4), 3),
        object_ids=np.array([words.objects.index(label) for label in image.labels]),
        pairs=np.array([(r.subject, r.object) for r in image.relations]),
        hoi_ids=np.array(hois),
        size=size,
    )


def _interaction(pair: tuple[str, str], words: HoiVocabulary) -> int:
    """Row of an interaction, -1 where the vocabulary has none."""
    if pair[0] not in words.verbs or pair[1] not in words.objects:
        return -1
    row = (words.verbs.index(pair[0]), words.objects.index(pair[1]))
    return words.interactions.index(row) if row in words.interactions else -1


def vocabulary_yaml(words: HoiVocabulary) -> str:
    """A vocabulary as the short YAML file that :meth:`HoiVocabulary.from_yaml` reads."""
    pairs = [[words.verbs[v], words.objects[o]] for v, o in words.interactions]
    verbs = [{verb: phrase} for verb, phrase in zip(words.verbs, words.gerunds, strict=True)]
    data = {"verbs": verbs, "objects": list(words.objects), "pairs": pairs}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


# --- files ---------------------------------------------------------------------------------------------


def _write(
    out: Path,
    images: list[AnnotatedImage],
    files: dict[str, Path | None],
    words: HoiVocabulary,
    findings: Findings,
    *,
    link: bool,
    test_share: float,
    seed: int,
) -> ImportReport:
    """The folder, whole or not at all."""
    train, test = hold_out(images, test_share, seed) if test_share and len(images) > 1 else (images, [])
    if not train:
        raise HoiError(
            f"{out}: a test share of {test_share:g} leaves no image of {len(images)} to learn from; lower it"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with held_temporary(out.parent, UNFINISHED, folder=True) as unfinished:
            fresh = unfinished / out.name
            for name, file in files.items():
                assert file is not None  # a missing one was refused
                target = fresh / "images" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(file.resolve()) if link else shutil.copyfile(file, target)
            write_text_atomic(fresh / "vocabulary.yaml", vocabulary_yaml(words))
            for split, part in (("train", train), ("test", test)):
                if part:
                    save_hoia(part, fresh / f"{split}.json", _without_numbers(words))
            if out.is_dir():
                out.rmdir()
            fresh.rename(out)
    except OSError as error:
        raise HoiError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from error
    notes = findings.sentences() + _balance(train, test, words)
    counted = (sum(len(image.boxes) for image in images), sum(len(image.pairs) for image in images))
    return ImportReport(out, len(train), len(test), *counted, words, notes)


def _without_numbers(words: HoiVocabulary) -> HoiVocabulary:
    """The vocabulary as its YAML file has it, so that annotations are written in names."""
    return replace(words, category_ids=(), name="vocabulary")


def _balance(train: Sequence[AnnotatedImage], test: Sequence[AnnotatedImage], words: HoiVocabulary) -> list[str]:
    """What a newcomer should know of the split."""
    learned, tested = (Counter(int(k) for image in part for k in image.hoi_ids) for part in (train, test))
    notes = []
    few = [words.interaction_name(k) for k in range(words.num_interactions) if learned[k] < FEW]
    if few:
        notes.append(f"{len(few)} interactions have fewer than {FEW} examples to learn from: {', '.join(few[:5])}")
    never = [words.interaction_name(k) for k in tested if not learned[k]]
    if never:
        notes.append(f"{len(never)} interactions are in test images only: {', '.join(never[:5])}")
    return notes


# --- the other way -------------------------------------------------------------------------------------


def export_labels(
    source: str | Path, form: str, out: str | Path, *, split: str | None = None, images: str | Path | None = None
) -> int:
    """Write a dataset in a form of other tools; sizes come from the annotations, else from the images.

    Args:
        source: folder or annotation file.
        form: ``"coco"`` or ``"label-studio"``.
        out: file to write.
        split: by default all there are.
        images: folder of the images, where it is not found beside.

    Returns:
        How many images were written.

    Raises:
        HoiError: a damaged dataset, or an image whose size nothing tells.
    """
    dataset = open_dataset(source, images=images)
    annotated: list[AnnotatedImage] = []
    sizes: list[tuple[int, int]] = []
    for name in [split] if split else dataset.splits:
        for image in dataset.load(name):
            annotated.append(image)
            sizes.append(image.size or _size_of_file(dataset, name, image.file_name))
    twice = [name for name, count in Counter(image.file_name for image in annotated).items() if count > 1]
    if twice:
        raise HoiError(f"{source}: the image {twice[0]!r} is there more than once; give one --split")
    made = coco_document if form == "coco" else label_studio_tasks
    document = made(annotated, sizes, dataset.vocabulary)
    write_text_atomic(out, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    return len(annotated)


def _size_of_file(dataset: Dataset, split: str, name: str) -> tuple[int, int]:
    file = dataset.files.image(split, name)
    frames = set(declared_frames(file)) if file is not None else set()
    if len(frames) != 1:
        raise HoiError(f"{name}: its size is not in the annotations, and its file does not tell; give --images FOLDER")
    return frames.pop()
