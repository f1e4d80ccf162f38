"""``hoiclip data prepare hicodet`` fetches what is missing, tells licences first, and goes on where it was cut off."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zoo_world
from drive_server import QUOTA, Drive, serving
from hico_release import example, single, write_anno_bbox, write_images

from hoiclip.cli import main
from hoiclip.model_zoo import find_entry

IMAGES, ANNOTATIONS, SHARES = "hicodet-images", "hicodet-annotations", "hicodet-annotations-fractions"
ENTRY = {
    "file_name": "HICO_train2015_00000001.jpg",
    "annotations": [{"bbox": [1, 2, 20, 40], "category_id": 1}, {"bbox": [5, 20, 60, 48], "category_id": 15}],
    "hoi_annotation": [{"subject_id": 0, "object_id": 1, "category_id": 76, "hoi_category_id": 246}],
}


def zipped(**files: list) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "%.").replace("_json", ".json"), json.dumps(content))
    return packed.getvalue()


def release(folder: Path) -> bytes:
    made = folder / "hico_20160224_det"
    train, test = [example("HICO_train2015_00000001.jpg")], [single("HICO_test2015_00000002.jpg")]
    write_images(made / "images" / "train2015", train)
    write_images(made / "images" / "test2015", test)
    write_anno_bbox(made / "anno_bbox.mat", train, test)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(made, made.name)
    return packed.getvalue()


def serve(drive: Drive, name: str, content: bytes) -> None:
    drive.files[find_entry(name).address.rpartition("/")[2]] = content


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    monkeypatch.setattr("hoiclip.model_zoo.TABLE", zoo_world.write_table(tmp_path / "table.tsv"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serving() as drive:
        monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", drive.origin)
        serve(drive, IMAGES, release(tmp_path / "made"))
        test = ENTRY | {"file_name": "HICO_test2015_00000002.jpg"}
        serve(drive, ANNOTATIONS, zipped(trainval_hico_json=[ENTRY], test_hico_json=[test]))
        serve(drive, SHARES, zipped(**{"trainval_hico_5__json": [ENTRY]}))
        yield drive


def prepare(root: Path, *options: str) -> int:
    return main(["data", "prepare", "hicodet", "--root", str(root), *options])


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.iterdir()) if root.is_dir() else []


def test_annotations_and_images_are_fetched_once(drive: Drive, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(tmp_path / "root") == 0
    told = capsys.readouterr()
    assert told.err.count("licence: none stated") == 2
    assert told.err.index(f"fetching {ANNOTATIONS}") < told.err.index(f"fetching {IMAGES}")
    assert names(tmp_path / "root") == ["annotations", "hico_20160224_det"]
    (tmp_path / "root" / "hicodet-images.archive").touch()  # of a process that was killed at the end
    assert prepare(tmp_path / "root") == 0
    assert names(tmp_path / "root") == ["annotations", "hico_20160224_det"]
    again = capsys.readouterr()
    assert again.out == told.out
    assert again.err == ""
    assert len(drive.log) == 2


def test_shares_are_fetched_where_they_are_asked_for(drive: Drive, tmp_path: Path) -> None:
    assert prepare(tmp_path / "root", "--shares") == 0
    assert prepare(tmp_path / "root", "--shares") == 0
    assert (tmp_path / "root" / "annotations-fractions" / "trainval_hico_5%.json").is_file()
    assert len(drive.log) == 3


def test_what_was_cut_off_goes_on(drive: Drive, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    drive.cut = 1200
    assert prepare(tmp_path / "root") == 2  # of the images; the annotations are smaller than that
    assert f"unpack a copy downloaded by hand into {tmp_path / 'root'}" in capsys.readouterr().err
    drive.cut = None
    before = len(drive.log)
    assert prepare(tmp_path / "root") == 0
    assert drive.log[before] == "bytes=0-"  # all that is here is within the overlap, and compared
    assert names(tmp_path / "root") == ["annotations", "hico_20160224_det"]


def test_a_refusal_and_a_damaged_archive_leave_nothing(
    drive: Drive, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    drive.page = 200, QUOTA
    assert prepare(tmp_path / "root") == 2
    assert "too many have downloaded it" in capsys.readouterr().err
    drive.page = None
    serve(drive, ANNOTATIONS, b"PK\x03\x04 and no more")
    assert prepare(tmp_path / "root") == 2
    assert "it was removed, so the same command begins anew" in capsys.readouterr().err
    assert names(tmp_path / "root") == []


def test_offline_says_what_to_put_where(drive: Drive, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "root"
    assert prepare(root, "--offline") == 2
    told = capsys.readouterr().err
    for part in (find_entry(ANNOTATIONS).address, f"unpacked into {root / 'annotations'}", "--archive FILE or --url"):
        assert part in told
    assert not root.exists()
    root.mkdir()
    write_anno_bbox(root / "anno_bbox.mat", [example("HICO_train2015_00000001.jpg")], [])
    assert prepare(root, "--offline") == 0  # what is there is checked, as ever
    told = capsys.readouterr()
    assert f"lacks {find_entry(IMAGES).address}" in told.err
    assert find_entry(ANNOTATIONS).address not in told.err
    assert drive.log == []
