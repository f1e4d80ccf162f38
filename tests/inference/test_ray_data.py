"""What `hoiclip detect --ray` decides before and beside Ray: sources, pieces, lost workers, refusals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hoiclip.cli import BAD_INPUT, main
from hoiclip.cli.detect_ray import find_sources, left_of, pieces_of
from hoiclip.errors import HoiError
from hoiclip.inference.loading import load
from hoiclip.inference.ray_data import RowDetector, find_columns, opener
from hoiclip.inference.ray_job import Done, Job, Piece, PieceWorker, Resources, choose_resources
from hoiclip.parquet_rows import read_rows

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'hoiclip[ray]'")

MADE_BY = json.dumps({"model": "m"})
OPTIONS = {"top_k": 5, "threshold": 0.0, "zero_shot_top_k": None, "draft": False}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures and a broken one."""
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(random.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(folder / name)
    (folder / "d.png").write_bytes(b"no image")
    return folder


def write_table(path: Path, columns: dict[str, Any], group: int = 2) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
    return path


# --- rows ----------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_detector_however_an_image_is_given(photos: Path, model_folder: Path) -> None:
    detector = load(model_folder, device="cpu")
    rows = RowDetector(opener(str(model_folder), device="cpu"), 1, OPTIONS).rows
    path = photos / "a.png"
    wanted = detector(str(path), top_k=5, threshold=0.0).to_dict()
    assert wanted["triplets"]
    content = path.read_bytes()
    forms = [str(path), content, {"bytes": content, "path": "x"}, {"bytes": None, "path": str(path)}, path.as_uri()]
    forms.append(np.asarray(Image.open(path)))
    for n, form in enumerate(forms):
        assert list(rows([(f"key {n}", form)])) == [{"file_name": f"key {n}", **wanted, "error": None}]


def test_images_that_cannot_be_read_have_rows_with_the_detectors_own_sentence(photos: Path, model_folder: Path) -> None:
    rows = RowDetector(opener(model_folder, device="cpu"), 1, OPTIONS).rows
    given = [("d.png", str(photos / "d.png")), ("gone.png", str(photos / "gone.png")), ("e", b"no image"), ("f", None)]
    given.append(("g", (photos / "gone.png").as_uri()))
    errors = [row["error"] for row in rows([*given, ("a", str(photos / "a.png"))])]
    assert errors[0] == "d.png: is no image that can be read; give a JPEG, PNG, WebP or the like"
    assert errors[1] == "gone.png: no such image; check the path"
    assert errors[2] == "e: is no image that can be read; give a JPEG, PNG, WebP or the like"
    assert errors[3] == "f: has neither bytes nor a path in its row; fill the image's column"
    assert errors[4] == "g: no such file; check the path"
    assert errors[5] is None


def test_images_are_taken_a_few_ahead(photos: Path, model_folder: Path) -> None:
    taken = []

    def images() -> Iterator[tuple[str, bytes]]:
        content = (photos / "a.png").read_bytes()
        for n in range(50):
            taken.append(n)
            yield f"{n}", content

    rows = RowDetector(opener(model_folder, device="cpu"), 1, OPTIONS).rows(images())
    assert next(rows)["file_name"] == "0"
    assert len(taken) < 6
    assert [row["file_name"] for row in rows] == [f"{n}" for n in range(1, 50)]


def test_columns_are_found_by_their_usual_names_or_told() -> None:
    assert find_columns(["bytes", "path"], None, None) == ("path", "bytes")
    assert find_columns(["uri", "x"], None, None) == ("uri", "uri")
    assert find_columns(["a", "b"], "a", "b") == ("a", "b")
    with pytest.raises(HoiError, match="key_column 'z': there is no such column; there are a, b"):
        find_columns(["a", "b"], "z", None)
    with pytest.raises(HoiError, match="no column file_name or path or uri or image_path"):
        find_columns(["bytes"], None, None)


# --- what there is to do -------------------------------------------------------------------------------


def arguments(*sources: Any) -> argparse.Namespace:
    return argparse.Namespace(sources=[str(s) for s in sources], key_column=None, image_column=None)


def test_pieces_hold_what_is_not_done_yet(photos: Path, tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "t.parquet", {"path": ["k0", "k1", "k2", "k3", "k4"], "image": [b"0", b"1"] * 2 + [b"4"]}
    )
    images, groups = find_sources(arguments(photos, table))
    assert list(images) == [str(photos / name) for name in ("a.png", "b.png", "c.png", "d.png")]
    done = {str(photos / "b.png"), "k0", "k2", "k3"}
    pieces = list(pieces_of(images, done, rows=2))
    assert [[Path(key).name for key in piece.keys] for piece in pieces] == [["a.png", "c.png"], ["d.png"]]
    left = list(left_of(groups, done))
    assert [list(piece.named()) for piece in left] == [[("k1", b"1")], [("k4", b"4")]]
    whole = groups[0]
    assert [list(half.named()) for half in whole.halves()] == [[("k0", b"0")], [("k1", b"1")]]


def test_a_folder_at_an_address_is_listed(photos: Path) -> None:
    images, _ = find_sources(arguments(photos.as_uri()))
    assert images == {
        (photos / name).as_uri(): (photos / name).as_uri() for name in ("a.png", "b.png", "c.png", "d.png")
    }


def test_a_key_that_stands_for_two_images_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", {"path": ["k0", "k1", "k0"], "image": [b"0", b"1", b"2"]})
    with pytest.raises(HoiError, match=r"t\.parquet: the key 'k0' stands for two images; name another --key-column"):
        find_sources(arguments(table))


def test_workers_by_cores_and_accelerators() -> None:
    def ray(*nodes: dict[str, float]) -> Any:
        return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])

    small = ray({"CPU": 2.0}, {"CPU": 16.0}, {})
    assert choose_resources(small, None, on_cpu=True) == Resources(2)
    assert Resources(2).workers(small.nodes()) == 9
    plenty, short = ({"CPU": 16.0, "memory": 16.0 * each * 2**30} for each in (5, 1.5))
    assert choose_resources(ray(plenty), None, on_cpu=True) == Resources(1)
    assert choose_resources(ray(plenty, short), None, on_cpu=True) == Resources(3)
    assert choose_resources(small, 8, on_cpu=True) == Resources(8)
    assert Resources(8).workers(small.nodes()) == 2
    mixed = ray({"CPU": 64.0, "GPU": 4.0}, {"CPU": 32.0})
    assert choose_resources(mixed, None, on_cpu=False) == Resources(8, 1)
    assert Resources(8, 1).workers(mixed.nodes()) == 4
    assert choose_resources(mixed, None, on_cpu=True) == Resources(4)
    dead = [{"Alive": False, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 8.0}}]
    assert Resources(4).workers(dead) == 2


# --- workers that die ----------------------------------------------------------------------------------


class Died(Exception):
    """What Ray raises for an actor that is gone."""


class FakeRay:
    """The few functions of Ray that a job uses, in this process: a worker dies of what ``deadly`` says."""

    exceptions = SimpleNamespace(RayError=Died)

    def __init__(self, deadly: Callable[[Piece], bool], workers: int = 2) -> None:
        self.deadly, self.count, self.made, self.results = deadly, workers, 0, {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(self.count)}}]

    def remote(self, **options: Any) -> Callable[[type], Any]:
        assert options["max_restarts"] == 0

        def make(kind: type) -> Any:
            def start(*args: Any) -> Any:
                self.made += 1
                worker, alive = kind(*args), [True]

                def work(piece: Piece) -> Any:
                    alive[0] = alive[0] and not self.deadly(piece)
                    return self.kept(worker.work(piece) if alive[0] else Died("The actor died."))

                return FakeWorker(lambda: self.kept(worker.ready()), work)

            return SimpleNamespace(remote=start)

        return make

    def kept(self, result: Any) -> int:
        self.results[len(self.results)] = result
        return len(self.results) - 1

    def wait(self, refs: list[int], **_: Any) -> tuple[list[int], list[int]]:
        return refs[:1], refs[1:]

    def get(self, ref: int) -> Any:
        if isinstance(self.results[ref], Died):
            raise self.results[ref]
        return self.results[ref]

    def kill(self, worker: Any) -> None:
        pass


class FakeWorker:
    def __init__(self, ready: Callable[[], int], work: Callable[[Piece], int]) -> None:
        self.ready, self.work = SimpleNamespace(remote=ready), SimpleNamespace(remote=work)


def run_job(ray: FakeRay, model_folder: Path, photos: Path, out: Path) -> list[Done]:
    images, _ = find_sources(arguments(photos))
    make = (opener(model_folder, device="cpu"), OPTIONS, str(out), MADE_BY)
    return list(Job(ray, list(pieces_of(images, set(), 4)), Resources(1), make, lambda said: None).run())


def test_a_worker_that_dies_once_loses_nothing(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    deaths = [True]
    ray = FakeRay(lambda piece: bool(deaths) and deaths.pop())
    done = run_job(ray, model_folder, photos, tmp_path / "out")
    assert sum(d.images for d in done) == 4
    assert [Path(row["file_name"]).name for _, row in read_rows(tmp_path / "out")] == [
        "a.png",
        "b.png",
        "c.png",
        "d.png",
    ]
    assert ray.made == 2


def test_an_image_that_kills_its_workers_is_told_and_the_others_are_found(
    photos: Path, model_folder: Path, tmp_path: Path
) -> None:
    ray = FakeRay(lambda piece: any(key.endswith("b.png") for key in piece.keys))
    done = run_job(ray, model_folder, photos, tmp_path / "out")
    assert sum(d.images for d in done) == 4
    rows = {Path(row["file_name"]).name: row["error"] for _, row in read_rows(tmp_path / "out")}
    assert rows.keys() == {"a.png", "b.png", "c.png", "d.png"}
    assert rows["b.png"] == f"{photos / 'b.png'}: 3 workers died of it (The actor died.); look at it by itself"
    assert rows["a.png"] is None
    assert rows["c.png"] is None
    assert len([error for d in done for error in d.errors]) == 2


def test_a_model_that_cannot_be_opened_is_one_sentence(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(HoiError, match="no such model folder"):
        run_job(FakeRay(lambda piece: False), tmp_path / "gone", photos, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_one_sentence(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(HoiError, match=r"out/part-.*cannot be written"):
        run_job(FakeRay(lambda piece: False), model_folder, photos, tmp_path / "out")


def test_what_a_model_says_while_it_is_opened_is_handed_on(model_folder: Path, tmp_path: Path) -> None:
    def open_detector() -> Any:
        print("hoiclip: a word", file=sys.stderr)
        return load(model_folder, device="cpu")

    problem, said = PieceWorker(open_detector, 1, OPTIONS, str(tmp_path), MADE_BY).ready()
    assert problem is None
    assert said.startswith("hoiclip: a word\n")


# --- the command ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray", "photos"], "--ray photos: was taken for the address of a cluster; put --ray behind the sources"),
        (["photos", "--ray", "--html"], "--html: is not for --ray, which writes triplets of images only"),
        (["photos", "--ray", "--every", "2"], "--every: is not for --ray, which writes triplets of images only"),
        (["photos", "--ray-cpus", "2"], "--ray-cpus: is for --ray, which was not given"),
        (["photos", "--out", "s3://b/x"], "--out s3://b/x: is no folder of this machine; only --ray writes there"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", *options]) == BAD_INPUT
    assert capsys.readouterr().err == f"hoiclip: {sentence}\n"


def test_without_ray_one_sentence_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["detect", str(photos), "--ray", "--out", str(tmp_path / "out")]) == BAD_INPUT
    assert capsys.readouterr().err == "hoiclip: this needs ray: pip install 'hoiclip[ray]'\n"
