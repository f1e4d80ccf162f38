"""What is written in a form of another program is read back as the same detections."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from forms import HICO, NAMES, annotations, detections, same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoiclip import Detections, HoiVocabulary
from hoiclip.cli import main
from hoiclip.data import AnnotatedImage, save_hoia
from hoiclip.detection_forms import pickled
from hoiclip.detection_forms.opening import open_detections
from hoiclip.errors import HoiError
from hoiclip.evaluation import evaluate_vcoco, load_detections
from hoiclip.evaluation.written_forms import WRITTEN, write_detections

PAIRS = [form for form in WRITTEN if form != "vcoco-pickle"]


def random_detections(seed: int, vocabulary: HoiVocabulary) -> dict[str, Detections]:
    """Two images with up to 30 triplets, some people and objects several times."""
    random = np.random.default_rng(seed)
    found = {}
    for name in NAMES:
        count = int(random.integers(0, 31))
        corners = random.uniform(0, 300, (8, 2))
        boxes = np.hstack([corners, corners + random.uniform(2, 300, (8, 2))])
        hoi = random.integers(0, vocabulary.num_interactions, count)
        human, thing = boxes[random.integers(0, 4, count)], boxes[random.integers(4, 8, count)]
        objects, verbs = vocabulary.object_ids[hoi], vocabulary.verb_ids[hoi]
        if "nothing" in vocabulary.objects:
            thing[objects == vocabulary.objects.index("nothing")] = 0
        scores = np.sort(random.choice(10_000, count, replace=False))[::-1] / 5000  # none twice
        found[name] = Detections(human, thing, objects, verbs, hoi, scores, vocabulary)
    return found


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("words", ["hico", "playground", "vcoco"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(seed=st.integers(0, 1 << 30))
def test_each_form_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, form: str, words: str, seed: int
) -> None:
    vocabulary = HoiVocabulary.from_name(words)
    found = random_detections(seed, vocabulary)
    out = tmp_path_factory.mktemp("written") / "out"
    write_detections(found, form, out, NAMES)
    same(load_detections(out, vocabulary, NAMES), found, 1e-9 if form in ("hico-mat", "coco") else 0)


def python_2_array(numbers: np.ndarray) -> bytes:
    """How NumPy under Python 2 is pickled: bytes in strings, the older name of its module."""
    content, code = numbers.tobytes(), numbers.dtype.str[1:].encode()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I%d\nt" % len(numbers)
        + b"cnumpy\ndtype\n(U\x02%sI0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\n" % code
        + b"U%c%stb" % (len(content), content)
    )


@pytest.mark.parametrize("large", [pickled.LARGE, 0])
def test_pickles_of_python_2_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr(pickled, "LARGE", large)
    box, role = np.array([10.5, 20, 250.25, 310]), np.array([1, 200, 130, 140.5, 0.75], dtype=np.float32)
    record = b"U\x08image_idK\x07U\x0aperson_box" + python_2_array(box) + b"U\x08hold_obj" + python_2_array(role)
    (tmp_path / "people.pkl").write_bytes(b"\x80\x02]}(" + record + b"ua.")
    (read,) = open_detections(tmp_path / "people.pkl", HoiVocabulary.from_name("vcoco"))
    assert read["image_id"] == 7
    np.testing.assert_array_equal(read["person_box"], box)
    np.testing.assert_array_equal(read["hold_obj"], role)


def test_parquet_of_another_name_is_told(tmp_path: Path) -> None:
    write_detections(detections(), "parquet", tmp_path / "found")
    (file,) = (tmp_path / "found").iterdir()
    same(load_detections(file, HICO), detections())
    with pytest.raises(HoiError, match=r"end its name in \.parquet"):
        load_detections(file.rename(tmp_path / "found.bin"), HICO)


def test_size_and_interaction_scores_stay_where_a_form_has_room(tmp_path: Path) -> None:
    one = detections()[NAMES[0]]
    columns = one.human_boxes, one.object_boxes, one.object_ids, one.verb_ids, one.hoi_ids, one.scores, HICO
    found = {NAMES[0]: Detections(*columns, (480, 640), np.array([0.25, 0.125]))}
    for form in ("jsonl", "parquet", "coco"):
        write_detections(found, form, tmp_path / form)
        again = load_detections(tmp_path / form, HICO)[NAMES[0]]
        assert again.image_size == (480, 640)
        assert again.interaction_scores is not None
        assert again.interaction_scores.tolist() == [0.25, 0.125]


def test_the_command_converts_from_any_form_to_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_hoia(annotations(), tmp_path / "test_hico.json", HICO)
    write_detections(detections(), "jsonl", tmp_path / "jsonl")
    before = "jsonl"
    for form in ("parquet", "qpic", "coco", "hico-mat", "jsonl"):
        command = ["data", "convert-detections", str(tmp_path / before), "--to", form]
        command += ["--out", str(tmp_path / f"to-{form}")]
        assert main([*command, "--annotations", str(tmp_path / "test_hico.json")]) == 0
        assert "3 detections in 2 images" in capsys.readouterr().out
        before = f"to-{form}"
    same(load_detections(tmp_path / "to-jsonl", HICO, NAMES), detections(), 1e-9)


@pytest.mark.parametrize("large", [pickled.LARGE, 0])
def test_a_vcoco_pickle_evaluates_as_its_triplets_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(pickled, "LARGE", large)
    words = HoiVocabulary.from_name("vcoco")
    names = ["COCO_val2014_000000000007.jpg", "COCO_val2014_000000000008.jpg"]
    found = dict(zip(names, random_detections(3, words).values(), strict=True))
    images = []
    for name, one in found.items():
        pairs = np.stack([np.arange(len(one)), np.arange(len(one)) + len(one)], axis=1)
        boxes = np.vstack([one.human_boxes, one.object_boxes])
        kinds = np.concatenate([np.zeros(len(one), dtype=np.int64), one.object_ids])
        pairs[one.object_ids == words.objects.index("nothing"), 1] = -1
        keep = kinds < len(words.category_ids)
        row = np.cumsum(keep) - 1
        pairs = np.where(pairs < 0, -1, row[pairs])
        images.append(AnnotatedImage(name, boxes[keep], kinds[keep], pairs, one.hoi_ids, (700, 700)))
    save_hoia(images, tmp_path / "test_vcoco.json", words)
    write_detections(found, "jsonl", tmp_path / "mine.jsonl")
    write_detections(found, "vcoco-pickle", tmp_path / "mine.pkl")
    arrays = pickle.loads((tmp_path / "mine.pkl").read_bytes())
    arrays = [{k: np.array(v) if isinstance(v, list) else np.float32(v) if k != "image_id" else v for k, v in r.items()}
              for r in arrays]  # fmt: skip
    for protocol in (0, 2, 5):
        (tmp_path / f"arrays{protocol}.pkl").write_bytes(pickle.dumps(arrays, protocol))
    shown = []
    for file in ("mine.jsonl", "mine.pkl", "arrays0.pkl", "arrays2.pkl", "arrays5.pkl"):
        command = ["evaluate", "vcoco", "--detections", str(tmp_path / file)]
        assert main([*command, "--annotations", str(tmp_path / "test_vcoco.json"), "--vocabulary", "vcoco"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown == shown[:1] * 5
    mean = evaluate_vcoco(found, images).mean
    assert 0 < mean < 1
    assert f"{100 * mean:.2f}" in shown[0]
    with pytest.raises(HoiError, match="no object classes"):
        load_detections(tmp_path / "mine.pkl", words)
    assert main(["evaluate", "hicodet", "--detections", str(tmp_path / "mine.pkl"), "--annotations",
                 str(tmp_path / "test_vcoco.json")]) == 2  # fmt: skip
