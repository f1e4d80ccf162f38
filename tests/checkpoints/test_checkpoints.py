"""Other people's weights: nothing lost, nothing skipped silently, nothing executed."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
import torch
from reference import HERE, _fill, checkpoint, inputs
from tiny import tiny_clip, tiny_detector, tiny_vocabulary
from transformers import CLIPModel, DetrForObjectDetection

from hoiclip import HoiError, HoiVocabulary
from hoiclip.checkpoints.convert import convert_hoiclip
from hoiclip.checkpoints.initialise import initialise_from, load_clip, load_detr
from hoiclip.checkpoints.reading import read_weights


class RunsCode:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> tuple[Path, Path]:
    """DETR and CLIP folders as the hub has them, tiny."""
    torch.manual_seed(0)
    detr, clip = tmp_path_factory.mktemp("detr"), tmp_path_factory.mktemp("clip")
    DetrForObjectDetection(tiny_detector(decoder_layers=3)).save_pretrained(detr)
    CLIPModel(tiny_clip()).save_pretrained(clip)
    for file in tokenizer.iterdir():
        (clip / file.name).write_bytes(file.read_bytes())
    return detr, clip


def test_a_model_starts_from_detr_and_clip(parts: tuple[Path, Path]) -> None:
    detr_folder, clip_folder = parts
    model = initialise_from(
        detr_folder, clip_folder, tiny_vocabulary(), decoder_layers=2, interaction_layers=2, num_queries=4,
        interaction_heads=4, unused_parameters=False,
    )  # fmt: skip
    detr = DetrForObjectDetection.from_pretrained(detr_folder)
    ours, theirs = model.detector, detr.model
    pairs = [
        (ours.input_projection.weight, theirs.input_projection.weight),
        (ours.encoder[0].mlp.fc1.weight, theirs.encoder.layers[0].mlp.fc1.weight),
        (ours.decoder[1].encoder_attn.q_proj.weight, theirs.decoder.layers[1].encoder_attn.q_proj.weight),
        (ours.decoder_norm.weight, theirs.decoder.layernorm.weight),
        (ours.human_box_head[4].weight, detr.bbox_predictor.layers[2].weight),
        (ours.object_box_head[0].bias, detr.bbox_predictor.layers[0].bias),
        (model.clip.visual_projection.weight, CLIPModel.from_pretrained(clip_folder).visual_projection.weight),
    ]
    for a, b in pairs:
        assert torch.equal(a, b)
    assert len(ours.decoder) == 2
    assert model.objects.weight.shape == (5, 16)
    assert torch.allclose(model.interactions.weight.norm(dim=-1), torch.ones(6))
    assert model.interactions.bias is None
    assert torch.equal(model.verbs.verb_to_interaction, torch.from_numpy(tiny_vocabulary().verb_to_interaction))
    again = initialise_from(
        detr_folder, clip_folder, tiny_vocabulary(), decoder_layers=2, interaction_layers=2, num_queries=4,
        interaction_heads=4, unused_parameters=False,
    )  # fmt: skip
    assert torch.equal(model.detector.human_queries.weight, again.detector.human_queries.weight)


def test_our_own_vcoco_training_starts_with_the_true_matrix_and_no_bias(parts: tuple[Path, Path]) -> None:
    model = initialise_from(*parts, "vcoco", interaction_heads=4, unused_parameters=False)
    assert model.objects.weight.shape[0] == 82
    assert model.interactions.bias is None
    words = HoiVocabulary.from_name("vcoco")
    assert torch.equal(model.verbs.verb_to_interaction, torch.from_numpy(words.verb_to_interaction))


def test_the_official_detr_file_equals_the_same_detr_under_hub_names(tmp_path: Path) -> None:
    manifest = json.loads((HERE / "manifest_detr_r50.json").read_text())
    weights = {key: _fill(key, tuple(shape)) for key, (shape, _) in manifest.items()}
    torch.save({"model": weights, "args": argparse.Namespace(lr=1e-4)}, tmp_path / "detr.pth")
    renamed, config = load_detr(tmp_path / "detr.pth")
    model = DetrForObjectDetection(config)
    model.class_labels_classifier = torch.nn.Linear(256, 92)
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert missing == []
    assert unexpected == []
    fused = weights["transformer.decoder.layers.5.multihead_attn.in_proj_weight"]
    assert torch.equal(model.model.decoder.layers[5].encoder_attn.k_proj.weight, fused[256:512])
    weights.pop("transformer.encoder.layers.3.norm1.bias")
    weights["surprise"] = torch.zeros(1)
    torch.save({"model": weights}, tmp_path / "detr.pth")
    with pytest.raises(HoiError) as error:
        load_detr(tmp_path / "detr.pth")
    assert "missing: transformer.encoder.layers.3.norm1.bias" in str(error.value)
    assert "unexpected: surprise" in str(error.value)


def test_a_detr_file_with_three_decoder_layers_is_a_start(tmp_path: Path) -> None:
    manifest = json.loads((HERE / "manifest_detr_r50.json").read_text())
    three = {k: v for k, v in manifest.items() if not re.match(r"transformer\.decoder\.layers\.[345]\.", k)}
    weights = {key: _fill(key, tuple(shape)) for key, (shape, _) in three.items()}
    torch.save({"model": weights}, tmp_path / "pretrained.pth")
    renamed, config = load_detr(tmp_path / "pretrained.pth")
    assert config.decoder_layers == 3
    key = "transformer.decoder.layers.2.multihead_attn.out_proj.weight"
    assert torch.equal(renamed["model.decoder.layers.2.encoder_attn.o_proj.weight"], weights[key])
    weights.pop("transformer.decoder.layers.2.norm1.bias")
    torch.save({"model": weights}, tmp_path / "pretrained.pth")
    with pytest.raises(HoiError, match=r"missing: transformer\.decoder\.layers\.2\.norm1\.bias"):
        load_detr(tmp_path / "pretrained.pth")


@torch.no_grad()
def test_openais_archive_equals_the_tower_inside_a_published_checkpoint(tmp_path: Path) -> None:
    whole = checkpoint("vcoco")
    weights = {k.removeprefix("clip_model."): v for k, v in whole.items() if k.startswith("clip_model.")}
    extra = {
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    torch.save({**weights, **extra}, tmp_path / "ViT-B-32.pt")
    clip = load_clip(tmp_path / "ViT-B-32.pt")
    published = convert_hoiclip(whole, "vcoco").clip
    assert all(
        torch.equal(a, b) for a, b in zip(clip.state_dict().values(), published.state_dict().values(), strict=True)
    )
    image = inputs("single0")[2]
    # bit for bit: same machine, same number of threads
    assert torch.equal(clip.get_image_features(image).pooler_output, published.get_image_features(image).pooler_output)


def test_a_torchscript_archive_is_read_for_its_tensors(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    torch.jit.script(module).save(str(tmp_path / "clip.pt"))
    assert torch.equal(read_weights(tmp_path / "clip.pt")["weight"], module.weight)


def test_missing_unexpected_and_wrong_shapes_are_listed_by_name() -> None:
    weights = dict(checkpoint("vcoco"))
    weights.pop("transformer.encoder.layers.0.norm1.weight")
    weights["extra.weight"] = torch.zeros(1)
    with pytest.raises(HoiError) as error:
        convert_hoiclip(weights, "vcoco")
    assert "missing: transformer.encoder.layers.0.norm1.weight" in str(error.value)
    assert "unexpected: extra.weight" in str(error.value)
    weights = {**checkpoint("vcoco"), "input_proj.weight": torch.zeros(256, 1024, 1, 1)}
    with pytest.raises(HoiError, match=r"wrongly shaped: detector.input_projection.weight \(256, 1024, 1, 1\)"):
        convert_hoiclip(weights, "vcoco")


def test_the_wrong_vocabulary_is_named() -> None:
    with pytest.raises(HoiError, match=r"has 263 rows .* where the vocabulary 'hico' has 600"):
        convert_hoiclip(checkpoint("vcoco"), "hico")


def test_converted_vcoco_keeps_the_published_matrix_and_bias() -> None:
    model = convert_hoiclip(checkpoint("vcoco"), "vcoco")
    assert model.verbs.verb_to_interaction[:, 81:].abs().sum() == 0  # the published slip: indexed by object
    assert model.interactions.bias.abs().max() > 0
    assert model.config.verb_weight == 0.1
    assert model.config.mask_padding is False


def test_half_precision_checkpoints_become_single_precision() -> None:
    half = {k: v.half() if k.startswith("clip_model.") else v for k, v in checkpoint("vcoco").items()}
    model = convert_hoiclip(half, "vcoco")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "touched"
    torch.save({"model": {"w": torch.zeros(1)}, "args": RunsCode(trap)}, tmp_path / "bad.pth")
    with pytest.raises(HoiError, match="refused, since it wants to run code"):
        read_weights(tmp_path / "bad.pth")
    assert not trap.exists()
    torch.save({"model": {"w": torch.ones(1)}, "args": argparse.Namespace(a=1)}, tmp_path / "good.pth")
    assert read_weights(tmp_path / "good.pth")["w"].item() == 1


@pytest.mark.parametrize(("content", "complaint"), [(b"", "empty"), (b"garbage" * 100, "not a readable checkpoint")])
def test_files_that_are_no_checkpoints_are_told(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(HoiError, match=complaint):
        read_weights(tmp_path / "x.pth")
    with pytest.raises(HoiError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
