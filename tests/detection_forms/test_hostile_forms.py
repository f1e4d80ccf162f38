"""No file of others runs code, and whatever is wrong with one is told in a sentence with exit code 2."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forms import HICO, NAMES, annotations, detections, dump, predictions
from scipy.io import savemat

from hoiclip import cli
from hoiclip.cli import main
from hoiclip.data import save_hoia
from hoiclip.detection_forms import pickled
from hoiclip.evaluation import load_detections
from hoiclip.evaluation.written_forms import write_detections
from hoiclip.vocabulary import HoiVocabulary


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


class RunsASystem:
    """Asks a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"mkdir {self.folder}",)


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Evaluates a file, which must be refused in one sentence that names it; gives the sentence."""
    save_hoia(annotations(), tmp_path / "test_hico.json", HICO)

    def run(path: Path, protocol: str = "hicodet", annotated: str = "test_hico.json") -> str:
        command = ["evaluate", protocol, "--detections", str(path), "--annotations", str(tmp_path / annotated)]
        assert main([*command, "--out", str(tmp_path / "metrics.json")]) == cli.BAD_INPUT
        told = capsys.readouterr()
        lines = [line for line in told.err.splitlines() if line.startswith("hoiclip: ")]
        assert len(lines) == len(told.err.splitlines()), told.err
        assert str(path) in lines[-1]
        assert not told.out
        assert not (tmp_path / "metrics.json").exists()
        return lines[-1]

    return run


@pytest.mark.parametrize("large", [pickled.LARGE, 0])
@pytest.mark.parametrize("kind", [Runs, RunsASystem])
@pytest.mark.parametrize("inside", ["alone", "a list", "a record", "an image", "torch", "old torch", "npz"])
def test_nothing_in_a_file_is_ever_run(
    tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, kind: Any, inside: str, large: int
) -> None:
    monkeypatch.setattr(pickled, "LARGE", large)
    proof, path = tmp_path / "was_run", tmp_path / "file"
    code = kind(proof)
    if inside in ("torch", "old torch"):
        torch.save(dump(NAMES[0]) | {"x": code}, path, _use_new_zipfile_serialization=inside == "torch")
    elif inside == "npz":
        with path.open("wb") as file:
            np.savez(file, **dump(NAMES[0]), x=np.array([code], dtype=object))
    else:
        content = {"alone": code, "a list": [code], "a record": [{"image_id": 1, "person_box": code}],
                   "an image": dump(NAMES[0]) | {"size": code}}[inside]  # fmt: skip
        path.write_bytes(pickle.dumps(content))
    message = told(path)
    assert "wants to run code" in message or "Python objects" in message
    assert not proof.exists()
    assert isinstance(pickle.dumps(code), bytes)  # what would have run:
    pickle.loads(pickle.dumps(code))
    assert proof.is_dir()


MKDIR, ARRAY = b"cos\nmkdir\n", b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize("large", [pickled.LARGE, 0])
@pytest.mark.parametrize(
    "operations",
    [
        MKDIR + b"(U\x03ranltR.",
        MKDIR + b"U\x03ran\x85\x81.",  # NEWOBJ
        MKDIR + b"U\x03ran\x85}\x92.",  # NEWOBJ_EX
        b"(" + MKDIR + b"U\x03rano.",  # OBJ
        b"(U\x03ranios\nmkdir\n.",  # INST
        b"\x8c\x02os\x8c\x05mkdir\x93U\x03ran\x85R.",  # STACK_GLOBAL
        b"\x8c\x05numpy\x8c\x0bos.path.sep\x93.",
        ARRAY + b"N}U\x04nameU\x08os.mkdirs\x86bU\x03ran\x85R.",  # another name put into that of an array's maker
        ARRAY + b"N}U\x08__call__" + MKDIR + b"s\x86bU\x03ran\x85R.",
        MKDIR + b"}U\x03ranU\x03rans.",
        b"\x82\x01.",  # EXT1
        b"Pran\n.",
        b"U\x03ranQ.",
        b"\x97.",  # NEXT_BUFFER
        ARRAY + b"(U\x03ranltR}b.",
    ],
)
def test_no_operation_of_a_pickle_runs_anything(
    tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, operations: bytes, large: int
) -> None:
    monkeypatch.setattr(pickled, "LARGE", large)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs").write_bytes(b"\x80\x04" + operations)
    told(tmp_path / "theirs")
    assert not (tmp_path / "ran").exists()


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    entries = copy.deepcopy(predictions("coco", 1))
    change(entries)
    return entries


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e[0]["hoi_prediction"][0].update(score=float("nan")), "NaN"),
        (lambda e: e[0]["hoi_prediction"][0].update(score=-1), "below 0"),
        (lambda e: e[0]["hoi_prediction"][0].update(score=99), "not in 0..10"),
        (lambda e: e[0]["hoi_prediction"][0].update(score="high"), "score must be one number"),
        (lambda e: e[0]["hoi_prediction"][0].update(subject_id=40), "none of the 4 predictions"),
        (lambda e: e[0]["hoi_prediction"][0].update(object_id="0"), "none of the 4 predictions"),
        (lambda e: e[0]["hoi_prediction"][0].update(category_id=4000), "no numbering that is known"),
        (lambda e: e[0]["hoi_prediction"][0].update(category_id=10**30), "not a whole number"),
        (lambda e: e[0]["hoi_prediction"][0].update(category_id=None), "not a whole number"),
        (lambda e: e[0]["predictions"][0].update(category_id=7), "no numbering that is known"),
        (lambda e: e[0]["predictions"][1].update(category_id=12), "no numbering that is known"),
        (lambda e: e[0]["predictions"][0].update(bbox=[1, 2, 3]), "four numbers"),
        (lambda e: e[0]["predictions"][0].update(bbox={"x": 1}), "four numbers"),
        (lambda e: e[0]["predictions"][0].update(bbox=[1, float("inf"), 3, 4]), "NaN or infinity"),
        (lambda e: e[0]["predictions"][0].update(bbox=[200, 200, 30, 40]), "x2 < x1"),
        (lambda e: [b.update(bbox=[0.1, 0.2, 0.3, 0.4]) for b in e[0]["predictions"]], "fractions of the image"),
        (lambda e: e[0].update(hoi_prediction={"a": 1}), "must be a list of objects"),
        (lambda e: e[1].update(predictions=[1, 2]), "must be a list of objects"),
        (lambda e: e[1].update(file_name="other.jpg"), "do not contain 'other.jpg'"),
        (lambda e: e[1].update(file_name=NAMES[0]), "occurs a second time"),
        (lambda e: e[1].update(file_name=7), "needs the keys 'file_name'"),
        (lambda e: e.append(3), "needs the keys 'file_name'"),
    ],
)
def test_wrong_predictions_are_told(
    tmp_path: Path, told: Callable[..., str], change: Callable[..., Any], words: str
) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(changed(change)))
    assert words in told(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairing": np.array([[0, 1], [2, 9]])}, "none of the 4 boxes"),
        ({"pairing": np.array([[0, -1], [2, 3]])}, "none of the 4 boxes"),
        ({"pairing": np.array([[0, 2]])}, "2 x 2"),
        ({"pairing": np.array([[0, 1], [2, 0.5]])}, "whole numbers"),
        ({"labels": np.array([1.0, np.nan])}, "labels"),
        ({"labels": np.array([1])}, "2 labels"),
        ({"labels": np.array([1e300, 1.0])}, "labels"),
        ({"labels": np.array(["ride", "hold"])}, "whole numbers"),
        ({"scores": np.array([np.nan, 0.5])}, "NaN"),
        ({"scores": np.array([[0.5, 0.5]])}, "one number"),
        ({"boxes": np.zeros((4, 5))}, "four numbers"),
        ({"boxes": np.full((4, 4), np.nan)}, "NaN"),
        ({"boxes": np.array([[0.1, 0.2, 0.3, 0.4]] * 4), "size": np.array([480, 640])}, "fractions"),
        ({"size": np.array([0, 640])}, "height and width"),
        ({"size": np.array([1, 2, 3])}, "height and width"),
        ({"objects": np.array([1])}, "2 objects"),
        ({"objects": np.array([400, 1])}, "no numbering that is known"),
        ({"boxes": None}, "needs the arrays"),
    ],
)
def test_wrong_dumps_are_told(tmp_path: Path, told: Callable[..., str], change: dict[str, Any], words: str) -> None:
    (tmp_path / "annotated").mkdir()
    with_sizes(tmp_path / "annotated" / "instances_test2015.json")
    entry = {k: v for k, v in (dump(NAMES[0]) | change).items() if v is not None}
    folder = tmp_path / "theirs"
    folder.mkdir()
    np.savez(folder / Path(NAMES[0]).with_suffix(".npz").name, **entry)
    assert words in told(folder, annotated="annotated/instances_test2015.json")


def with_sizes(path: Path) -> None:
    """The annotations in hicodet's form, which knows the sizes of images."""
    images = annotations()
    path.write_text(json.dumps({
        "filenames": [image.file_name for image in images],
        "size": [[640, 480]] * len(images),
        "annotation": [{"boxes_h": image.human_boxes.tolist(), "boxes_o": image.object_boxes.tolist(),
                        "hoi": image.hoi_ids.tolist()} for image in images],
    }))  # fmt: skip


def test_wrong_folders_of_mat_files_are_told(tmp_path: Path, told: Callable[..., str]) -> None:
    folder = tmp_path / "mat"
    write_detections(detections(), "hico-mat", folder, NAMES)
    first = folder / "detections_02.mat"
    whole = first.read_bytes()
    assert "give the folder of all of them" in told(first)
    for content, words in (
        (whole[:200], "damaged"),
        (whole[:120] + bytes(len(whole) - 120), "damaged"),
        (b"MATLAB 7.3 MAT-file" + bytes(200), "7.3"),
        (b"MATLAB 5.0 MAT-file" + b"\xff" * 4000, "damaged"),
    ):
        first.write_bytes(content)
        message = told(folder)
        assert words in message
        assert "detections_02.mat" in message
    for content, words in (
        ({"all_boxes": np.zeros((14, 2))}, "no cell array"),
        ({"other": np.zeros(1)}, "no variable 'all_boxes'"),
        ({"all_boxes": cells(14, 3)}, "2 annotated images are expected"),
        ({"all_boxes": cells(14, 2, np.ones((2, 8)))}, "rows of 9 numbers"),
        ({"all_boxes": cells(14, 2, np.full((2, 9), np.nan))}, "NaN"),
        ({"all_boxes": cells(14, 2, np.array([["ride"]]))}, "rows of 9 numbers"),
    ):
        savemat(first, content)
        assert words in told(folder)
    variable = zlib.compress(bytes(300 << 20))
    first.write_bytes(whole[:128] + struct.pack("<II", 15, len(variable)) + variable)
    assert "unpacks to more than" in told(folder)
    first.unlink()
    assert "detections_02.mat is missing" in told(folder)


def cells(rows: int, columns: int, full: Any = None) -> np.ndarray:
    content = np.empty((rows, columns), dtype=object)
    content.fill(np.zeros((0, 9)))
    if full is not None:
        content[0, 0] = full
    return content


def test_wrong_vcoco_pickles_are_told(tmp_path: Path, told: Callable[..., str]) -> None:
    words = HoiVocabulary.from_name("vcoco")
    boxes = np.array([[10, 10, 60, 110], [20, 60, 90, 140]])
    image = annotations()[0]
    hoi = words.interactions.index((words.verbs.index("hold_obj"), words.objects.index("cup")))
    own = type(image)("COCO_val2014_000000000007.jpg", boxes, [0, 41], [[0, 1]], [hoi], (480, 640))
    save_hoia([own], tmp_path / "test_vcoco.json", words)
    good = {"image_id": 7, "person_box": [10, 10, 60, 110], "hold_agent": 0.9, "hold_obj": [20, 60, 90, 140, 0.9]}
    for change, said in (
        ({"image_id": 8}, "do not contain"),
        ({"image_id": "seven"}, "no whole number"),
        ({"image_id": [7]}, "no whole number"),
        ({"person_box": [10, 10, 60]}, "not 4"),
        ({"person_box": [0.1, 0.1, 0.6, 0.9]}, "fractions"),
        ({"person_box": [60, 10, 10, 90]}, "x2 < x1"),
        ({"person_box": [float("nan")] * 4}, "NaN"),
        ({"hold_agent": float("inf")}, "infinity"),
        ({"hold_agent": "sure"}, "not 1 numbers"),
        ({"hold_obj": [1, 2, 3, 4]}, "not 5"),
    ):
        (tmp_path / "theirs.pkl").write_bytes(pickle.dumps([good | change]))
        assert said in told(tmp_path / "theirs.pkl", "vcoco", "test_vcoco.json")
    for content in (pickle.dumps([good])[:-20], pickle.dumps([]), pickle.dumps({"a": 1}), pickle.dumps([good, 3])):
        (tmp_path / "theirs.pkl").write_bytes(content)
        told(tmp_path / "theirs.pkl", "vcoco", "test_vcoco.json")
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps([good]))
    assert "evaluate it with: vcoco" in told(tmp_path / "theirs.pkl")
    assert main(["evaluate", "vcoco", "--detections", str(tmp_path / "theirs.pkl"), "--annotations",
                 str(tmp_path / "test_vcoco.json")]) == 0  # fmt: skip


@pytest.mark.parametrize("large", [pickled.LARGE, 0])
def test_pickles_that_repeat_themselves_end(
    tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(pickled, "LARGE", large)
    row: Any = [1]
    for _ in range(18):  # 20 to the power of 18 numbers, if each were looked at
        row = [row] * 20
    endless: list[Any] = []
    endless.append({"pairing": endless})
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for content in (row, (row, row), endless, deep, {(1, 2): dump(NAMES[0])}):
        (tmp_path / "theirs").write_bytes(pickle.dumps(content))
        told(tmp_path / "theirs")


@pytest.mark.parametrize("form", ["qpic", "coco", "npz", "torch", "pickle"])
def test_a_file_cut_off_anywhere_is_told(tmp_path: Path, told: Callable[..., str], form: str) -> None:
    path = tmp_path / "theirs"
    if form in ("qpic", "coco"):
        write_detections(detections(), form, path)
    elif form == "torch":
        torch.save({name: dump(name, with_size=False) for name in NAMES}, path)
    elif form == "npz":
        with path.open("wb") as file:
            np.savez(file, file_name=NAMES[0], **dump(NAMES[0], with_size=False))
    else:
        path.write_bytes(pickle.dumps({name: dump(name, with_size=False) for name in NAMES}))
    whole = path.read_bytes()
    for cut in np.linspace(1, len(whole) - 3, 12).astype(int):
        path.write_bytes(whole[:cut])
        told(path)


def test_an_archive_that_grows_without_end_is_refused(tmp_path: Path, told: Callable[..., str]) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (1 << 27,)})
    bomb = zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED)
    with bomb as archive, archive.open("boxes.npy", "w") as file:
        file.write(head.getvalue())
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert "unpacks to more than" in told(tmp_path / "bomb")


@pytest.mark.slow
def test_a_million_predictions_are_read_within_a_minute(tmp_path: Path) -> None:
    one = predictions("coco", 1)[0]
    image = {"predictions": one["predictions"], "hoi_prediction": one["hoi_prediction"] * 50}
    path = tmp_path / "many.json"
    path.write_text(json.dumps([{"file_name": f"{i}.jpg", **image} for i in range(10_000)]))
    begin = time.monotonic()
    found = load_detections(path, HICO)
    assert time.monotonic() - begin < 60
    assert sum(map(len, found.values())) == 1_000_000
