"""Detections as rows of Parquet: what is written is read, whatever a job that was killed left there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hoiclip.detection_files import load_detections
from hoiclip.errors import HoiError
from hoiclip.parquet_rows import parquet_files, read_rows, row, schema, settle, write_rows
from hoiclip.vocabulary import HoiVocabulary

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'hoiclip[results]'")

HICO = HoiVocabulary.from_name("hico")
MADE_BY = json.dumps({"model": "m", "options": {"top_k": 10}})


def found(name: str, score: float = 0.75) -> dict[str, Any]:
    """A row of one triplet."""
    triplet = {"human_box": [1.25, 2.0, 30.5, 40.0], "object_box": [5.0, 6.0, 20.0, 21.13], "verb": HICO.verbs[4],
               "object": "airplane", "interaction": HICO.interaction_name(0), "score": score, "hoi_id": 0,
               "interaction_score": 0.5}  # fmt: skip
    return row(name, {"image_size": [48, 64], "triplets": [triplet]})


def broken(name: str) -> dict[str, Any]:
    return row(name, None, f"{name}: is no image that can be read; give a JPEG, PNG, WebP or the like")


def names(folder: Path) -> list[str]:
    return sorted(entry["file_name"] for _, entry in read_rows(folder))


def test_rows_come_back_as_they_were_with_the_place_where_they_stand(tmp_path: Path) -> None:
    nothing = {"image_size": [4, 6], "calibration": [0.8, -0.5], "triplets": []}
    rows = [found("a.jpg"), row("nothing.jpg", nothing), broken("broken.jpg")]
    write_rows(str(tmp_path), rows, MADE_BY)
    (file,) = parquet_files(tmp_path)
    assert [entry for _, entry in read_rows(tmp_path)] == rows
    assert [where for where, _ in read_rows(file)] == [f"{file}: row {n}" for n in (1, 2, 3)]


def test_a_file_written_again_takes_its_own_place_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for score in (0.5, 0.25):
        write_rows(str(tmp_path), [found("a.jpg", score), found("b.jpg", score)], MADE_BY)
    assert len(list(tmp_path.iterdir())) == 1
    assert [entry["triplets"][0]["score"] for _, entry in read_rows(tmp_path)] == [0.25, 0.25]


def test_a_uri_names_the_same_folder(tmp_path: Path) -> None:
    write_rows(f"{tmp_path.as_uri()}/out", [found("a.jpg")], MADE_BY)
    assert names(tmp_path / "out") == ["a.jpg"]
    assert settle(f"{tmp_path.as_uri()}/out", MADE_BY, drop_failed=False) == ({"a.jpg"}, set())


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb"])
def test_other_programs_read_the_folder(reader: str, tmp_path: Path) -> None:
    write_rows(str(tmp_path), [found("a.jpg"), broken("b.jpg")], MADE_BY)
    write_rows(str(tmp_path), [found("c.jpg")], MADE_BY)
    module = pytest.importorskip(reader)
    if reader == "pandas":
        rows = module.read_parquet(tmp_path).to_dict("records")
    elif reader == "polars":
        rows = module.read_parquet(tmp_path).to_dicts()
    else:
        rows = module.sql(f"select * from '{tmp_path}/*.parquet'").to_arrow_table().to_pylist()
    by_name = {r["file_name"]: r for r in rows}
    assert sorted(by_name) == ["a.jpg", "b.jpg", "c.jpg"]
    assert list(by_name["a.jpg"]["triplets"][0]["human_box"]) == [1.25, 2.0, 30.5, 40.0]
    assert by_name["a.jpg"]["triplets"][0]["interaction"] == HICO.interaction_name(0)
    assert by_name["b.jpg"]["triplets"] is None
    assert "no image" in by_name["b.jpg"]["error"]


def test_detections_of_parquet_are_those_of_the_same_lines(tmp_path: Path) -> None:
    rows = [found("a.jpg"), found("b.jpg", 1.5)]
    write_rows(str(tmp_path / "found"), [*rows, broken("c.jpg")], MADE_BY)
    lines = [json.dumps({key: value for key, value in r.items() if key != "error"}) for r in rows]
    (tmp_path / "found.jsonl").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="1 images could not be read when they were detected in"):
        mine = load_detections(tmp_path / "found", HICO)
    theirs = load_detections(tmp_path / "found.jsonl", HICO)
    assert {k: d.to_dict() for k, d in mine.items()} == {k: d.to_dict() for k, d in theirs.items()}
    assert sorted(mine) == ["a.jpg", "b.jpg"]


def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(str(tmp_path), [found("a.jpg")], MADE_BY)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(HoiError, match=r"^this needs pyarrow: pip install 'hoiclip\[results\]'$"):
        load_detections(tmp_path, HICO)


def test_what_is_wrong_with_a_row_names_file_and_row(tmp_path: Path) -> None:
    write_rows(str(tmp_path), [found("a.jpg"), found("b.jpg", 77.0)], MADE_BY)
    with pytest.raises(HoiError, match=r"part-\w+\.parquet: row 2: the score of triplet 0 is 77"):
        load_detections(tmp_path, HICO)


def test_damaged_and_foreign_files_are_one_sentence(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "half.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(HoiError, match=r"half\.parquet: is damaged or no Parquet file"):
        load_detections(tmp_path / "half.parquet", HICO)
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a.jpg"]}), tmp_path / "other.parquet")
    with pytest.raises(HoiError, match=r"other\.parquet: has no column 'file_name'"):
        load_detections(tmp_path / "other.parquet", HICO)
    with pytest.raises(HoiError, match=r"gone\.parquet: no such file"):
        load_detections(tmp_path / "gone.parquet", HICO)


def test_settling_keeps_each_image_once_and_drops_what_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(str(tmp_path), [found("a.jpg"), found("b.jpg")], MADE_BY)
    write_rows(str(tmp_path), [found("b.jpg"), found("c.jpg")], MADE_BY)
    (tmp_path / "part-half.parquet").write_bytes((tmp_path / parquet_files(tmp_path)[0]).read_bytes()[:100])
    assert settle(str(tmp_path), MADE_BY, drop_failed=False) == ({"a.jpg", "b.jpg", "c.jpg"}, set())
    assert "part-half.parquet: was cut off by a crash" in capsys.readouterr().err
    assert names(tmp_path) == ["a.jpg", "b.jpg", "c.jpg"]
    assert settle(str(tmp_path), MADE_BY, drop_failed=True) == ({"a.jpg", "b.jpg", "c.jpg"}, set())


def test_failed_images_are_tried_again_when_asked(tmp_path: Path) -> None:
    write_rows(str(tmp_path), [found("a.jpg"), broken("b.jpg")], MADE_BY)
    write_rows(str(tmp_path), [broken("c.jpg")], MADE_BY)
    assert settle(str(tmp_path), MADE_BY, drop_failed=False) == ({"a.jpg", "b.jpg", "c.jpg"}, {"b.jpg", "c.jpg"})
    assert settle(str(tmp_path), MADE_BY, drop_failed=True) == ({"a.jpg"}, set())
    assert names(tmp_path) == ["a.jpg"]


def test_results_of_other_options_and_foreign_files_are_refused_and_stay(tmp_path: Path) -> None:
    import pyarrow.parquet

    write_rows(str(tmp_path / "out"), [found("a.jpg")], MADE_BY)
    other = json.dumps({"model": "m", "options": {"top_k": 5}})
    with pytest.raises(HoiError, match=r'another options \(\{"top_k": 10\}, now \{"top_k": 5\}\); go on with the same'):
        settle(str(tmp_path / "out"), other, drop_failed=True)
    assert names(tmp_path / "out") == ["a.jpg"]
    (tmp_path / "mine").mkdir()
    pyarrow.parquet.write_table(schema().empty_table(), tmp_path / "mine" / "mine.parquet")
    with pytest.raises(HoiError, match="was not written by hoiclip detect --ray"):
        settle(str(tmp_path / "mine"), MADE_BY, drop_failed=True)
    assert (tmp_path / "mine" / "mine.parquet").is_file()
