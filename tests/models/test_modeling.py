"""The model behaves like every other model of transformers, and its frozen parts stay frozen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_config, tiny_model, tiny_vocabulary
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.models.detr.modeling_detr import DetrConvEncoder

import hoiclip
from hoiclip import HoiClipConfig, HoiClipModel, HoiClipProcessor, HoiError, HoiVocabulary
from hoiclip.checkpoints.folders import save_model

PREDICTIONS = ("human_boxes", "object_boxes", "object_logits", "interaction_logits", "zero_shot_logits")


def batch(size: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(size, 64, 96, dtype=torch.int64)
    mask[-1, :, 64:] = 0
    pixels = torch.randn(size, 3, 64, 96, generator=generator) * mask[:, None]
    return pixels, mask, torch.randn(size, 3, 32, 32, generator=generator)


@torch.no_grad()
def test_outputs_have_the_documented_shapes() -> None:
    out = tiny_model()(*batch(), output_attentions=True)
    shapes = {name: tuple(out[name].shape) for name in PREDICTIONS}
    assert shapes == {
        "human_boxes": (2, 4, 4),
        "object_boxes": (2, 4, 4),
        "object_logits": (2, 4, 5),
        "interaction_logits": (2, 4, 6),
        "zero_shot_logits": (2, 6),
    }
    assert out.clip_attentions[1].shape == (2, 4, 4, 17)
    assert out.detector_attentions[1].shape == (2, 4, 4, 6)
    assert torch.allclose(out.detector_attentions[0].sum(-1), torch.ones(2, 4, 4))
    assert out.auxiliary_outputs is None


@torch.no_grad()
def test_saved_and_loaded_it_answers_bit_for_bit(tmp_path: Path, tokenizer: Path) -> None:
    """On the same machine with the same number of threads."""
    model = tiny_model(tokenizer)
    save_model(model, tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, HoiClipModel)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), HoiClipConfig)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), HoiClipProcessor)
    assert again.vocabulary == model.vocabulary
    before, after = model(*batch()), again(*batch())
    for name in PREDICTIONS:
        assert torch.equal(before[name], after[name])
    trained = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, again)]
    assert trained[0] == trained[1]


def test_frozen_parts_are_frozen_and_the_backbone_is_not() -> None:
    model = tiny_model()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("clip.", "interactions.", "objects.")) for name in trained)
    assert not any("embedder" in name or "stages.0" in name for name in trained)
    for stage in (1, 2, 3):
        assert any(f"backbone.model.encoder.stages.{stage}" in name for name in trained)
    assert {"verbs.weight", "logit_scale", "object_logit_scale", "detector.human_queries.weight"} <= trained
    model.train()
    assert not model.clip.training
    assert model.detector.training


def test_the_resnet_and_its_gradients_are_those_of_transformers() -> None:
    ours = tiny_model().detector.backbone.double()
    with torch.no_grad():
        for values in ours.buffers():  # fresh norms would only hand their input on
            values.uniform_(0.5, 1.5)
    plain = DetrConvEncoder(tiny_config().detector).double()
    plain.load_state_dict(ours.state_dict())
    for backbone in (ours, plain):
        backbone.requires_grad_(True)
    images, mask = torch.rand(2, 3, 75, 98, dtype=torch.float64), torch.ones(2, 75, 98, dtype=torch.int64)
    expected, _ = plain(images, mask)[-1]
    found, _ = ours(images.contiguous(memory_format=torch.channels_last), mask)[-1]
    assert torch.allclose(found, expected, rtol=1e-9, atol=0)
    assert found.abs().min() == 0 < found.abs().max()
    expected.square().sum().backward()
    found.square().sum().backward()
    with torch.no_grad():  # evaluation strides where training leaves pixels out
        assert torch.allclose(ours(images, mask)[-1][0], expected, rtol=1e-9, atol=0)
    for (name, weight), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert weight.grad.abs().max() > 0, name
        assert torch.allclose(other.grad, weight.grad, rtol=1e-8, atol=1e-12 * float(weight.grad.abs().max())), name


@torch.no_grad()
def test_a_batch_mate_changes_nothing_once_padding_is_masked_for_the_decoder() -> None:
    pixels, mask, clip = batch()
    changed = pixels.clone()
    changed[1] = 0.5 * mask[1]
    for masked in (True, False):
        model = tiny_model(mask_padding=masked)
        first, second = model(pixels, mask, clip), model(changed, mask, clip)
        assert torch.allclose(first.interaction_logits[0], second.interaction_logits[0], atol=1e-5)
    _, _, blocked = model.detector.encode(pixels, mask)
    assert blocked.shape == (2, 1, 1, 6)
    assert (blocked[1, 0, 0] < 0).tolist() == [False, False, True, False, False, True]


@torch.no_grad()
def test_masking_hides_padded_cells_from_the_interaction_decoder() -> None:
    pixels, mask, clip = batch()
    hidden = tiny_model(mask_padding=True)(pixels, mask, clip, output_attentions=True)
    open_ = tiny_model(mask_padding=False)(pixels, mask, clip, output_attentions=True)
    padded = [2, 5]
    assert hidden.detector_attentions[0][1][..., padded].max() == 0
    assert open_.detector_attentions[0][1][..., padded].max() > 0


@pytest.mark.parametrize("memory", ["detector", "clip", "both"])
@torch.no_grad()
def test_every_interaction_memory_runs_and_reads_only_its_streams(memory: str) -> None:
    model = tiny_model(interaction_memory=memory)
    pixels, mask, clip = batch()
    out = model(pixels, mask, clip, output_attentions=True)
    assert (out.clip_attentions is not None) == (memory != "detector")
    assert (out.detector_attentions is not None) == (memory != "clip")
    other = model(pixels, mask, clip + 1)
    same = torch.allclose(out.interaction_logits, other.interaction_logits, atol=1e-6)
    assert same == (memory == "detector")


@pytest.mark.parametrize("variant", ["hoiclip", "gen-vlkt"])
@torch.no_grad()
def test_mixed_precision_rounds_neither_boxes_nor_logits(variant: str) -> None:
    model = tiny_model(variant=variant, verb_classifier=variant == "hoiclip").train()
    exact = model(*batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(*batch())
    for layer in (mixed, *(SimpleNamespace(**layer) for layer in mixed.auxiliary_outputs)):
        for name in ("human_boxes", "object_boxes", "object_logits", "interaction_logits"):
            assert getattr(layer, name).dtype == torch.float32
        rounded = layer.human_boxes.bfloat16().float()  # steps of 1/256 between 0.5 and 1
        assert (rounded != layer.human_boxes).float().mean() > 0.9
    assert torch.allclose(mixed.human_boxes, exact.human_boxes, atol=0.05)  # another box would be off by more


@torch.no_grad()
def test_without_the_verb_classifier_only_sentences_score() -> None:
    model = tiny_model(verb_classifier=False)
    out = model(*batch())
    direction = torch.nn.functional.normalize(out.interaction_features, dim=-1)
    expected = model.logit_scale.exp() * direction @ model.interactions.weight.T
    assert torch.allclose(out.interaction_logits, expected, atol=1e-5)


@torch.no_grad()
def test_the_baseline_needs_clip_only_as_a_teacher() -> None:
    model = tiny_model(variant="gen-vlkt", verb_classifier=False)
    pixels, mask, clip = batch()
    out = model(pixels, mask)
    assert out.zero_shot_logits is None
    assert out.interaction_features.shape == (2, 4, 16)
    model.train()
    assert model(pixels, mask, clip).clip_features.shape == (2, 16)
    with pytest.raises(ValueError, match="clip_pixel_values"):
        model(pixels, mask)


@torch.no_grad()
def test_zero_shot_training_scores_seen_columns_and_evaluation_all() -> None:
    words = HoiVocabulary.from_dict({**tiny_vocabulary().to_dict(), "unseen": [1, 4]})
    model = tiny_model(vocabulary=words)
    everything = model(*batch()).interaction_logits
    model.train()
    seen = model(*batch()).interaction_logits
    assert seen.shape == (2, 4, 4)
    assert torch.allclose(seen, everything[..., [0, 2, 3, 5]], atol=1e-5)


@torch.no_grad()
def test_a_new_vocabulary_is_embedded_once_and_answers_at_once(tokenizer: Path, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    calls: list[int] = []
    original = model.clip.get_text_features
    model.clip.get_text_features = lambda **kw: calls.append(len(kw["input_ids"])) or original(**kw)
    before = model(*batch()).interaction_logits
    model.set_vocabulary(HoiVocabulary.from_words("ride unicycle, juggle ball, hold umbrella"))
    embedded = sum(calls)
    assert embedded == 4  # two new interactions, two new objects; the rest is remembered
    for _ in range(2):
        assert model(*batch()).interaction_logits.shape == (2, 4, 3)
    model.set_vocabulary(tiny_vocabulary())
    assert sum(calls) == embedded
    # trained verbs come back; bit for bit: same machine, same number of threads
    assert torch.equal(model(*batch()).interaction_logits, before)
    model.save_pretrained(tmp_path)
    assert HoiClipModel.from_pretrained(tmp_path).vocabulary == tiny_vocabulary()


@torch.no_grad()
def test_the_classifier_rows_are_the_sentences_of_the_text_tower(tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    tokens = model.text_embedder.tokenizer(["a photo of a person feeding a horse"], return_tensors="pt")
    row = model.clip.get_text_features(**tokens).pooler_output
    expected = torch.nn.functional.normalize(row, dim=-1)
    assert torch.allclose(model.interactions.weight[3], expected[0], atol=1e-6)


@torch.no_grad()
def test_export_gives_the_same_answer() -> None:
    model = tiny_model()
    exported = torch.export.export(model, batch())
    ours, theirs = model(*batch()), exported.module()(*batch())
    for name in PREDICTIONS:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5)


@torch.no_grad()
def test_bfloat16_autocast_stays_near() -> None:
    model = tiny_model()
    exact = model(*batch())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(*batch())
    assert (exact.human_boxes - rough.human_boxes).abs().max() < 0.05
    assert (exact.zero_shot_logits - rough.zero_shot_logits).abs().max() < 0.05


def test_checkpointed_gradients_equal_plain_ones() -> None:
    gradients = []
    for checkpointed in (False, True):
        model = tiny_model().train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        model(*batch()).interaction_logits.square().mean().backward()
        gradients.append(model.interaction_decoder.layers[0].expand.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_both_attention_implementations_agree(attention: str, tmp_path: Path, tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    save_model(model, tmp_path)
    other = HoiClipModel.from_pretrained(tmp_path, attn_implementation=attention)
    assert torch.allclose(model(*batch()).interaction_logits, other(*batch()).interaction_logits, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "width", "tokens", "joint"),
    [
        ("ViT-B/32", 768, 50, 512),
        ("ViT-B/16", 768, 197, 512),
        ("ViT-L/14", 1024, 257, 768),
        ("ViT-L/14@336", 1024, 577, 768),
    ],
)
def test_any_clip_and_resnet_by_config_alone(name: str, width: int, tokens: int, joint: int) -> None:
    config = HoiClipConfig(clip_name=name, backbone="resnet101", vocabulary="vcoco")
    with torch.device("meta"):
        model = HoiClipModel(config)
    assert model.interaction_decoder.norm.weight.shape == (width,)
    assert model.clip.vision_model.embeddings.position_embedding.weight.shape == (tokens, width)
    assert model.interactions.weight.shape == (263, joint)
    assert model.objects.weight.shape == (82, joint)
    assert len(model.detector.backbone.model.encoder.stages[2].layers) == 23


def test_the_paper_is_the_default() -> None:
    config = HoiClipConfig()
    assert config.detector.encoder_layers == 6
    assert config.detector.decoder_layers == 3
    assert config.num_queries == 64
    assert config.interaction_layers == 3
    assert config.clip.vision_config.patch_size == 32
    assert config.verb_weight == 0.5
    assert config.interaction_memory == "both"
    assert config.num_interactions == 600


def test_wrong_options_are_told_in_one_sentence() -> None:
    with pytest.raises(HoiError, match="detector, clip, both"):
        tiny_config(interaction_memory="text")
    with pytest.raises(HoiError, match="resnet50"):
        HoiClipConfig(backbone="vgg")
    with pytest.raises(HoiError, match="ViT-B/32"):
        HoiClipConfig(clip_name="ViT-H")
    with pytest.raises(HoiError, match="interaction_layers is 1 and the detector has 2 decoder layers"):
        tiny_config(variant="gen-vlkt", interaction_layers=1)
    with pytest.raises(HoiError, match="interaction_layers must be at most 2"):
        tiny_config(interaction_layers=3)


def test_public_names_are_there() -> None:
    for name in hoiclip.__all__:
        assert hasattr(hoiclip, name)
