"""Small valid files of every kind, made once: what the tries damage."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hico_release import empty, example, single, write_anno_bbox, write_release
from PIL import Image, features
from training_world import write_custom

from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.evaluation import load_detections
from hoiclip.evaluation.written_forms import write_detections
from hoiclip.vocabulary import HoiVocabulary

TESTS = Path(__file__).resolve().parents[1]
SAVED = TESTS / "saved_by_0.1"
WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half(), "n": torch.tensor(3)}


@dataclass
class World:
    """Everything valid, in one folder."""

    folder: Path

    @property
    def model(self) -> Path:
        return SAVED / "model"

    @cached_property
    def exported(self) -> list[Path]:
        return [SAVED / "exported-onnx", SAVED / "exported-openvino"]

    # --- images ------------------------------------------------------------------------------------

    @cached_property
    def images(self) -> dict[str, bytes]:
        """By file name, in every format and mode that is read."""
        rng = np.random.default_rng(0)
        rgb = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[274] = 6
        exif[271] = "camera"
        made: dict[str, bytes] = {}

        def add(name: str, image: Image.Image, kind: str, **options: Any) -> None:
            file = io.BytesIO()
            image.save(file, kind, **options)
            made[name] = file.getvalue()

        for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16"):
            image = Image.fromarray(rng.integers(0, 65536, (18, 24), dtype=np.uint16)) if mode == "I;16" else None
            add(f"{mode.replace(';', '')}.png", image or rgb.convert(mode), "PNG")
        add("exif.jpg", rgb, "JPEG", exif=exif, quality=80)
        add("progressive.jpg", rgb.resize((200, 150)), "JPEG", progressive=True)
        add("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
        add("moving.gif", rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.convert("P").rotate(90)])
        add("plain.bmp", rgb, "BMP")
        add("plain.ppm", rgb, "PPM")
        for compression in ("raw", "tiff_lzw", "tiff_deflate", "jpeg"):
            add(f"{compression}.tif", rgb, "TIFF", compression=compression)
        add("float.tif", Image.fromarray(rng.random((18, 24), dtype=np.float32)), "TIFF")
        for name, kind in (("a.webp", "WEBP"), ("a.jp2", "JPEG2000"), ("a.avif", "AVIF")):
            if features.check({"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}[kind]):
                add(name, rgb, kind)
        return made

    # --- annotations and detections ----------------------------------------------------------------

    @cached_property
    def custom(self) -> Path:
        return write_custom(self.folder / "custom", train=3, test=2)

    @cached_property
    def hico(self) -> HoiVocabulary:
        return HoiVocabulary.from_name("hico")

    @cached_property
    def hico_images(self) -> list[AnnotatedImage]:
        return [example(), single(), empty()]

    @cached_property
    def annotations(self) -> dict[str, Any]:
        """JSON trees by file name; the names tell which form it is."""
        save_hoia(self.hico_images, self.folder / "test_hico.json", self.hico)
        words = sorted(self.hico.objects), list(self.hico.verbs)
        hoi = 245
        pairs = {
            "boxes_h": [[1, 2, 20, 40]], "boxes_o": [[5, 20, 60, 48]], "hoi": [hoi],
            "object": [words[0].index(self.hico.objects[self.hico.object_ids[hoi]])],
            "verb": [int(self.hico.verb_ids[hoi])],
        }  # fmt: skip
        instances = {
            "annotation": [pairs], "filenames": ["HICO_test2015_00000001.jpg"], "size": [[64, 48]], "empty": [],
            "objects": words[0], "verbs": words[1],
        }  # fmt: skip
        return {
            "test_hico.json": json.loads((self.folder / "test_hico.json").read_text()),
            "instances_test2015.json": instances,
            "custom/train.json": json.loads((self.custom / "train.json").read_text()),
            "named.json": {"box_format": "xywh", "images": [{
                "file_name": "a.jpg", "width": 60, "height": 50,
                "annotations": [{"bbox": [1, 2, 20, 30], "category_id": "person"},
                                {"bbox": [5, 6, 30, 30], "category_id": "horse"}],
                "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": "ride"}]}]},
        }  # fmt: skip

    @cached_property
    def mat(self) -> bytes:
        write_anno_bbox(self.folder / "anno_bbox.mat", self.hico_images, self.hico_images)
        return (self.folder / "anno_bbox.mat").read_bytes()

    @cached_property
    def vcoco(self) -> dict[str, Any]:
        """The official list and COCO's instances of five images, by the path they have in a V-COCO folder."""
        folder = TESTS / "golden" / "eval" / "vcoco_synth"
        actions = json.loads(gzip.decompress((folder / "vcoco.json.gz").read_bytes()))
        coco = json.loads(gzip.decompress((folder / "coco.json.gz").read_bytes()))
        few = {image["id"] for image in coco["images"][:5]}
        for action in actions:
            count = len(action["image_id"])
            keep = [i for i, image in enumerate(action["image_id"]) if image in few]
            for key, values in action.items():
                if isinstance(values, list) and values and len(values) % count == 0 and key != "role_name":
                    parts = len(values) // count  # role_object_id: all of the first role, then of the next
                    action[key] = [values[p * count + i] for p in range(parts) for i in keep]
        coco["images"] = [image for image in coco["images"] if image["id"] in few]
        coco["annotations"] = [box for box in coco["annotations"] if box["image_id"] in few]
        return {
            "data/vcoco/vcoco_test.json": actions,
            "annotations/instances_train2014.json": coco,
            "data/splits/vcoco_test.ids": sorted(few),
        }

    @cached_property
    def detections(self) -> list[dict[str, Any]]:
        """Lines for ``test_hico.json``."""
        lines = []
        for image in self.hico_images:
            triplets = [
                {
                    "human_box": image.boxes[h].tolist(), "object_box": image.boxes[o].tolist(), "score": 0.5,
                    "interaction_score": 0.25, "hoi_id": int(hoi), "verb": self.hico.verbs[self.hico.verb_ids[hoi]],
                    "object": self.hico.objects[self.hico.object_ids[hoi]],
                    "interaction": self.hico.interaction_name(hoi),
                }
                for (h, o), hoi in zip(image.pairs, image.hoi_ids, strict=True)
            ]  # fmt: skip
            lines.append({"file_name": image.file_name, "image_size": list(image.size or ()), "triplets": triplets})
        return lines

    @cached_property
    def forms(self) -> dict[str, dict[str, bytes]]:
        """The same detections in the forms of other programs: names and contents of the files of each."""
        folder = self.folder / "forms"
        lines = folder / "lines"
        folder.mkdir(exist_ok=True)
        lines.write_text("\n".join(map(json.dumps, self.detections)))
        found = load_detections(lines, self.hico)
        for form in ("qpic", "coco", "parquet", "hico-mat"):
            write_detections(found, form, folder / form)
        (folder / "images").mkdir()
        by_name = {}
        for name, one in found.items():
            count = len(one)
            pairing = np.stack([np.arange(count), np.arange(count) + count])
            entry = {"boxes": np.vstack([one.human_boxes, one.object_boxes]), "pairing": pairing, "scores": one.scores,
                     "labels": one.verb_ids, "objects": one.object_ids}  # fmt: skip
            np.savez(folder / "images" / Path(name).stem, **entry)
            by_name[name] = entry
        tensors = {name: {k: torch.as_tensor(v) for k, v in entry.items()} for name, entry in by_name.items()}
        torch.save(tensors, folder / "torch")
        torch.save(tensors, folder / "old torch", _use_new_zipfile_serialization=False)
        for protocol in (0, 2, 4):
            (folder / f"pickle {protocol}").write_bytes(pickle.dumps(by_name, protocol))
        person = {"image_id": 1, "person_box": np.ones(4), "hold_agent": np.float32(0.5), "hold_obj": [1, 1, 9, 9, 0.5]}
        (folder / "people").write_bytes(pickle.dumps([person] * 3, 2))
        return {
            form.name: {p.name: p.read_bytes() for p in (sorted(form.iterdir()) if form.is_dir() else [form])}
            for form in sorted(folder.iterdir())
        }

    # --- archives ----------------------------------------------------------------------------------

    @cached_property
    def release(self) -> dict[str, bytes]:
        """Files of a small HICO-DET by path."""
        root = self.folder / "release" / "hico_20160224_det"
        write_release(root, [example("HICO_train2015_00000001.jpg")], self.hico_images)
        return {
            str(path.relative_to(root.parent)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
        }


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, method)
    return file.getvalue()


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))
