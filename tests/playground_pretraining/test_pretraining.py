"""The pretraining of the mini CLIP and the mini DETR, on a scale of seconds."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, DetrForObjectDetection
from transformers.loss.loss_for_object_detection import HungarianMatcher

from hoiclip.image_preparation import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from hoiclip.playground_pretraining.captions import CaptionedScenes, sentences
from hoiclip.playground_pretraining.clip import build_clip, contrastive_loss, encode_images, encode_texts
from hoiclip.playground_pretraining.clip_training import ClipSettings, pretrain_clip
from hoiclip.playground_pretraining.detector import build_detector, decode, encode, frozen_copy, sine_points
from hoiclip.playground_pretraining.detector_losses import PaddedMatcher
from hoiclip.playground_pretraining.detector_training import DetectorSettings, pretrain_detector
from hoiclip.playground_pretraining.loop import load_checkpoint, normalise, save_checkpoint
from hoiclip.playground_pretraining.measurement import measure_detector
from hoiclip.playground_pretraining.tokenizer import build_tokenizer
from hoiclip.vocabulary import HoiVocabulary


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vocabulary():
    return HoiVocabulary.from_name("playground")


@pytest.fixture(scope="module")
def tokenizer(vocabulary):
    return build_tokenizer(sentences(vocabulary))


def test_tokenizer_round_trip(vocabulary, tokenizer, tmp_path):
    texts = sentences(vocabulary)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts, padding=True)["input_ids"] == tokenizer(texts, padding=True)["input_ids"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id == len(tokenizer) - 1
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_takes_any_text(tokenizer):
    batch = tokenizer(
        ["A photo of a PERSON riding a unicycle!", ""], padding="max_length", truncation=True, return_tensors="pt"
    )
    assert batch["input_ids"].shape == (2, tokenizer.model_max_length)
    assert tokenizer.unk_token_id in batch["input_ids"][0]
    assert batch["input_ids"][1, :2].tolist() == [tokenizer.bos_token_id, tokenizer.eos_token_id]


def test_no_two_sentences_mean_the_same_to_the_tokenizer(vocabulary, tokenizer):
    ids = [tuple(row) for row in tokenizer(sentences(vocabulary))["input_ids"]]
    assert len(set(ids)) == len(ids)


def test_captions(vocabulary):
    stream = CaptionedScenes(vocabulary, seed=0)
    count = vocabulary.num_interactions
    kinds = set()
    for index in range(60):
        for sample in stream.scene_samples(index):
            kinds.add(sample.kind)
            assert sample.image.shape == (128, 128, 3)
            assert sample.target.sum() == pytest.approx(1)
            assert not sample.banned[sample.target > 0].any()
            if sample.kind == "single":
                objects = {int(vocabulary.object_ids[k]) for k in np.nonzero(sample.target)[0]}
                assert len(objects) == 1
                assert sample.banned[count + objects.pop()]  # the object's own sentence is true as well
            if sample.kind in ("object", "empty"):
                assert np.nonzero(sample.target)[0].min() >= count
    assert kinds == {"single", "scene", "pair", "object", "empty"}
    again = CaptionedScenes(vocabulary, seed=0).scene_samples(7)[0]
    np.testing.assert_array_equal(again.image, stream.scene_samples(7)[0].image)


def test_contrastive_loss_counts_equal_captions_as_right():
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    nothing_banned = torch.zeros(3, 2, dtype=torch.bool)
    right = 20 * target
    assert contrastive_loss(right, target, nothing_banned) < contrastive_loss(-right, target, nothing_banned)
    shared = float(np.log(2)) / 2 / 2  # the first sentence belongs to two pictures
    assert contrastive_loss(1e3 * target, target, nothing_banned).item() == pytest.approx(shared, abs=1e-3)


def test_clip_encodes_like_transformers(vocabulary, tokenizer):
    torch.manual_seed(0)
    model = build_clip(tokenizer).eval()
    tokens = tokenizer(sentences(vocabulary)[:5], padding=True, return_tensors="pt")
    pixels = normalise(torch.randint(0, 255, (2, 128, 128, 3), dtype=torch.uint8), CLIP_MEAN, CLIP_STD)
    with torch.no_grad():
        out = model(pixel_values=pixels, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        torch.testing.assert_close(encode_texts(model, dict(tokens)), out.text_embeds)
        torch.testing.assert_close(encode_images(model, pixels)[0], out.image_embeds)


def test_clip_pretraining_runs_resumes_and_loads(tmp_path, vocabulary):
    small = {"batch": 8, "workers": 0, "measure_every": 10**9, "measure_scenes": 20, "checkpoint_every": 8}
    pretrain_clip(tmp_path, ClipSettings(samples=32, stop_after=1, **small))
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 1
    result = pretrain_clip(tmp_path, ClipSettings(samples=32, **small))
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
    assert {"crops", "scenes", "objects"} <= set(result)
    assert json.loads((tmp_path / "provenance.json").read_text())["seed"] == 0
    model = CLIPModel.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokens = tokenizer(list(vocabulary.interaction_prompts), padding=True, return_tensors="pt")
    features = encode_texts(model.float(), dict(tokens))
    assert torch.isfinite(features).all()
    assert len(features) == vocabulary.num_interactions


def test_detector_decodes_like_transformers(vocabulary):
    torch.manual_seed(0)
    model = build_detector(vocabulary, queries=8).eval()
    pixels = normalise(torch.randint(0, 255, (2, 128, 128, 3), dtype=torch.uint8), IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        expected = frozen_copy(model)(pixel_values=pixels)
        memory, positions = encode(model, pixels)
        output = decode(model, memory, positions, model.model.query_position_embeddings.weight.expand(2, -1, -1))[-1]
    torch.testing.assert_close(output["logits"], expected.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output["pred_boxes"], expected.pred_boxes, atol=1e-5, rtol=1e-4)


def test_queries_start_as_places(vocabulary):
    model = build_detector(vocabulary, queries=4)
    centres = (torch.arange(8) + 0.5) / 8
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="ij")[::-1], dim=-1).reshape(-1, 2)
    codes = model.model.position_embedding(torch.Size([1, 1, 8, 8]), "cpu", torch.float32).flatten(2).transpose(1, 2)
    torch.testing.assert_close(sine_points(grid, 128), codes[0], atol=1e-4, rtol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_matching_agrees_with_transformers():
    torch.manual_seed(0)
    outputs = {"logits": torch.randn(3, 9, 5), "pred_boxes": torch.rand(3, 9, 4) * 0.5 + 0.1}
    targets = [{"class_labels": torch.randint(0, 4, (n,)), "boxes": torch.rand(n, 4) * 0.5 + 0.1} for n in (2, 5, 1)]
    expected = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)(outputs, targets)
    for mine, theirs in zip(PaddedMatcher()(outputs, targets), expected, strict=True):
        assert [t.tolist() for t in mine] == [t.tolist() for t in theirs]


def test_detector_pretraining_runs_resumes_and_loads(tmp_path, vocabulary):
    small = {"batch": 4, "workers": 0, "groups": 2, "checkpoint_every": 4, "measure_every": 10**9, "measure_scenes": 8}
    pretrain_detector(tmp_path, DetectorSettings(samples=12, stop_after=1, **small))
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 1
    result = pretrain_detector(tmp_path, DetectorSettings(samples=12, **small))
    assert 0 <= result["map50"] <= 1
    model = DetrForObjectDetection.from_pretrained(tmp_path).float()
    assert model.config.id2label[0] == "person"
    assert set(measure_detector(model, vocabulary, scenes=4)) == {"map50", "recall50"}


def test_a_checkpoint_is_replaced_whole(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
