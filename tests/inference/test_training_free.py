"""Triplets without training: any detector's boxes, CLIP's sentences, names that mean the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_clip, tiny_detector, tiny_tokenizer
from transformers import BertConfig, BertTokenizerFast, CLIPModel, CLIPTokenizer, DetrForObjectDetection

import hoiclip
from hoiclip import HoiVocabulary
from hoiclip.cli import BAD_INPUT, main
from hoiclip.errors import HoiError
from hoiclip.evaluation.runner import evaluate_model
from hoiclip.experiments import load_experiment
from hoiclip.inference.training_free import object_detection
from hoiclip.inference.training_free.detector import TrainingFreeDetector, pairs_of
from hoiclip.inference.training_free.object_detection import PERSON, FoundObjects, open_object_detector
from hoiclip.inference.training_free.object_names import match_names
from hoiclip.inference.training_free.pair_scoring import BACKGROUND, square_crop
from hoiclip.playground.dataset import PlaygroundDataset

WORDS = "ride bicycle, hold cell phone, hold umbrella"
NAMES = {0: "person", 1: "bicycle", 2: "mobile phone", 3: "N/A"}
CPU = torch.device("cpu")


# --- detectors as the hub has them, tiny ------------------------------------------------------------


def write_detr(folder: Path) -> Path:
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    config = tiny_detector(id2label=NAMES, label2id={name: i for i, name in NAMES.items()})
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def write_rt_detr(folder: Path) -> Path:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=16,
        encoder_attention_heads=2, d_model=16, num_queries=12, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
        decoder_n_points=2, decoder_layers=1, decoder_attention_heads=2, num_denoising=0,
        id2label=NAMES, label2id={name: i for i, name in NAMES.items()},
    )  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def write_owlv2(folder: Path) -> Path:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = Owlv2Config(
        text_config={**sizes, "num_attention_heads": 4, "vocab_size": 514, "max_position_embeddings": 77,
                     "bos_token_id": 512, "eos_token_id": 513},
        vision_config={**sizes, "num_attention_heads": 4, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )  # fmt: skip
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(tiny_tokenizer(folder / "tokenizer"))
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def write_grounding_dino(folder: Path) -> Path:
    from transformers import (
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
        ResNetConfig,
    )
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "person", "bicycle", "cell", "phone", "umbrella"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    text = BertConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
                      vocab_size=len(pieces))  # fmt: skip
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, d_model=32, num_queries=12, encoder_layers=1, encoder_ffn_dim=32,
        encoder_attention_heads=4, decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=4,
        num_feature_levels=4, encoder_n_points=2, decoder_n_points=2, max_text_len=32,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


WRITERS = {
    "detr": write_detr,
    "rt_detr": write_rt_detr,
    "owlv2": write_owlv2,
    "grounding_dino": write_grounding_dino,
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clip`` with its tokenizer, and a folder of each kind of detector."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    CLIPModel(tiny_clip()).save_pretrained(folder / "clip")
    tiny_tokenizer(folder / "clip")
    for name, write in WRITERS.items():
        write(folder / name)
    return folder


def photo(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", WRITERS)
def test_any_detector_gives_boxes_of_the_vocabulary_inside_the_image(
    kind: str, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_detection, "LEAST_SCORE", 0.0)
    find = open_object_detector(parts / kind, CPU)
    unknown = find.set_vocabulary(HoiVocabulary.from_words(WORDS))
    assert unknown == (["umbrella"] if kind in ("detr", "rt_detr") else [])
    with torch.inference_mode():
        found, again = find([find.inputs(photo())] * 2, [(60, 90), (120, 180)])
    assert len(found.scores) > 0
    assert (np.diff(found.scores) <= 0).all()
    assert found.boxes.min() >= 0
    assert (found.boxes.max(axis=0) <= [90, 60, 90, 60]).all()
    assert set(found.object_ids.tolist()) <= {PERSON, 0, 1, 2}
    np.testing.assert_array_equal(found.people, found.object_ids == PERSON)
    if kind != "owlv2":  # whose square padding is another for another size
        np.testing.assert_allclose(again.boxes[: len(found.boxes)], 2 * found.boxes, atol=1e-3)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_whole_way_from_file_to_json(
    kind: str, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(object_detection, "LEAST_SCORE", 0.0)
    photo().save(tmp_path / "a.png")
    options = ["--detector", str(parts / kind), "--clip", str(parts / "clip"), "--interactions", WORDS]
    options += ["--threshold", "0", "--out", str(tmp_path / "out")]
    assert main(["detect", str(tmp_path / "a.png"), "--model", "training-free", *options]) == 0
    assert (tmp_path / "out" / "a.jpg").is_file()
    found = json.loads((tmp_path / "out" / "detections.jsonl").read_text())
    assert found["image_size"] == [60, 90]
    assert {triplet["object"] for triplet in found["triplets"]} <= {"bicycle", "cell_phone", "umbrella"}
    told = capsys.readouterr().err
    assert ("knows no umbrella" in told) is (kind in ("detr", "rt_detr"))


def test_names_that_mean_the_same_meet() -> None:
    labels = {1: "tvmonitor", 2: "Motorbike", 3: "dining table", 4: "aeroplane", 5: "N/A", 6: "zebra"}
    objects = ["motorcycle", "tv", "dining_table", "airplane", "giraffe"]
    assert match_names(labels, objects) == {1: 1, 2: 0, 3: 2, 4: 3}


def test_all_of_hicos_objects_have_a_coco_name(parts: Path) -> None:
    coco = {i: name.replace("_", " ") for i, name in enumerate(HoiVocabulary.from_name("vcoco").objects[:-1])}
    assert set(match_names(coco, HoiVocabulary.from_name("hico").objects).values()) == set(range(80))


def test_pairs_are_people_with_things_surest_first() -> None:
    boxes = np.tile([0.0, 0, 9, 9], (4, 1))
    ids, people = np.array([PERSON, 0, PERSON, 1]), np.array([True, False, True, False])
    pairs = pairs_of(FoundObjects(boxes, ids, people, np.array([0.9, 0.8, 0.7, 0.2])))
    assert pairs.tolist() == [[0, 1], [2, 1], [0, 3], [2, 3]]


def test_people_are_things_too_where_the_vocabulary_says_so() -> None:
    boxes = np.tile([0.0, 0, 9, 9], (2, 1))
    pairs = pairs_of(FoundObjects(boxes, np.array([0, 0]), np.array([True, True]), np.array([0.9, 0.8])))
    assert sorted(pairs.tolist()) == [[0, 1], [1, 0]]


def test_a_crop_is_square_undistorted_and_holds_the_whole_pair() -> None:
    image = Image.new("RGB", (200, 60), "white")
    image.paste("red", (10, 10, 190, 50))
    crop = np.asarray(square_crop(image, np.array([10, 10, 190, 50]), 0.0, 90))
    assert crop.shape == (90, 90, 3)
    assert tuple(crop[0, 45]) == BACKGROUND  # above a wide image there is nothing
    red = (crop[..., 0] > 200) & (crop[..., 1] < 60)
    assert red.any(axis=0).sum() == pytest.approx(90, abs=2)  # 180 of 180 pixels wide
    assert red.any(axis=1).sum() == pytest.approx(20, abs=2)  # 40 of 180 high
    inside = np.asarray(square_crop(image, np.array([150, 5, 195, 55]), 0.0, 50))
    assert not (inside == BACKGROUND).all(-1).any()


def test_the_playground_without_training_on_interactions() -> None:
    experiment = load_experiment("playground", ["--data.evaluation_images", "40", "--data.seed", "8"])
    experiment.data.evaluation_split = "test"
    detector = hoiclip.load("training-free", detector="playground", clip="playground", device="cpu")
    found = evaluate_model(experiment, detector, progress=False)["official, default"]
    assert found.full_with_gt > 0.6  # 0.75 of 1,000 scenes; crops without their pairs give a tenth of it


def test_a_result_does_not_depend_on_the_call_and_words_can_change() -> None:
    detector = hoiclip.load("training-free", detector="playground", clip="playground", device="cpu")
    scenes = PlaygroundDataset(3, 4, "test")
    images = [scenes[i][0] for i in range(4)]
    together = detector(images, threshold=0.0)
    for image, found in zip(images, together, strict=True):
        alone = detector(image, threshold=0.0)
        np.testing.assert_array_equal(alone.scores, found.scores)
        np.testing.assert_array_equal(alone.hoi_ids, found.hoi_ids)
    assert any((found.scores > 0.3).any() for found in together)
    detector.set_vocabulary("playground_uv")
    assert detector.vocabulary.name == "playground_uv"
    few = detector.set_vocabulary(HoiVocabulary.from_words("ride horse, hold ball"))(images[0], threshold=0.0)
    assert set(few.hoi_ids.tolist()) <= {0, 1}


def test_files_stream_and_a_broken_one_is_told(parts: Path, tmp_path: Path) -> None:
    detector = hoiclip.load("training-free", detector=parts / "detr", clip=parts / "clip", vocabulary="hico")
    photo().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no")
    (_, image, found), (_, _, wrong) = detector.detect_files([tmp_path / "a.png", tmp_path / "b.png"])
    assert image.size == (90, 60)
    assert found.source == tmp_path / "a.png"
    assert found.draw().size == found.draw(image).size
    assert "no image that can be read" in str(wrong)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--detector", "clip"], "is a clip, no object detector"),
        (["--detector", "missing"], "no object detector can be loaded"),
        (["--interactions", "ride unicycle", "--detector", "detr"], "finds none of the objects asked for"),
        (["--backend", "onnx"], "computes with torch"),
        (["--precision", "int8"], "computes in fp32, bf16, fp16"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    options: list[str], told: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "a.png")
    named = [str(parts / word) if word in ("clip", "missing", "detr") else word for word in options]
    if "--detector" not in named:
        named += ["--detector", str(parts / "detr")]
    command = ["detect", str(tmp_path / "a.png"), "--model", "training-free", "--clip", str(parts / "clip")]
    assert main([*command, *named, "--out", str(tmp_path / "out")]) == BAD_INPUT
    errors = capsys.readouterr().err.strip().splitlines()
    assert told in errors[-1]
    assert not (tmp_path / "out" / "detections.jsonl").exists()


def test_parts_belong_to_training_free_alone(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo().save(tmp_path / "a.png")
    assert main(["detect", str(tmp_path / "a.png"), "--clip", str(parts / "clip"), "--out", str(tmp_path)]) == BAD_INPUT
    assert "is a part of training-free" in capsys.readouterr().err


def test_half_a_detector_is_refused(parts: Path, tmp_path: Path) -> None:

    folder = shutil.copytree(parts / "detr", tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    weights.pop("class_labels_classifier.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(HoiError, match="does not hold all of its weights"):
        open_object_detector(folder, CPU)


def test_the_default_detector_follows_the_words(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def opened(source: Any, device: Any) -> Any:
        asked.append(source)
        return open_object_detector(parts / "owlv2", device)

    monkeypatch.setattr("hoiclip.inference.training_free.detector.open_object_detector", opened)
    for words in ("hico", HoiVocabulary.from_words("ride unicycle")):
        TrainingFreeDetector.from_parts(words, clip=parts / "clip")
    assert asked == ["facebook/detr-resnet-50", "google/owlv2-base-patch16-ensemble"]


def test_half_precision_finds_nearly_the_same() -> None:
    scenes = PlaygroundDataset(3, 6, "test")
    images = [scenes[i][0] for i in range(6)]
    named = []
    for precision in ("fp32", "bf16"):
        detector = hoiclip.load(
            "training-free", detector="playground", clip="playground", device="cpu", precision=precision
        )
        named.append([{triplet.name for triplet in found[:3]} for found in detector(images, threshold=0.1)])
    alike = sum(len(full & half) for full, half in zip(*named, strict=True))
    assert alike >= 0.8 * sum(map(len, named[0])) > 8
