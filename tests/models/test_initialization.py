"""What a published run starts from: the distribution of every fresh parameter, and what comes from DETR."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from reference import HERE, checkpoint
from tiny import tiny_detector, tiny_model, tiny_vocabulary
from torch import Tensor
from training_world import write_parts

from hoiclip import HoiClipConfig, HoiClipModel, HoiVocabulary
from hoiclip.checkpoints.convert import convert_hoiclip
from hoiclip.checkpoints.initialise import initialise_from, load_detr

FRESH = HERE.parent / "recipe" / "fresh_parameters_hoiclip.json"


@cache
def fresh_model() -> HoiClipModel:
    torch.manual_seed(0)
    return HoiClipModel(HoiClipConfig(unused_parameters=True, classifier_bias=True))


@cache
def names_of_published_ones() -> dict[str, list[str]]:
    """Published name -> ours, read off a conversion in which every published parameter is its own number."""
    published = json.loads(FRESH.read_text())
    weights = dict(checkpoint("hico"))
    for number, name in enumerate(published, 1):
        weights[name] = torch.full(weights[name].shape, float(number))
    found: dict[str, list[str]] = {name: [] for name in published}
    for ours, value in convert_hoiclip(weights, "hico").state_dict().items():
        number = value.flatten()[0].item() if value.numel() else 0.0
        if number.is_integer() and 1 <= number <= len(published) and bool((value == number).all()):
            name = list(published)[int(number) - 1]
            if value.numel() * (3 if "in_proj" in name else 1) == weights[name].numel():
                found[name].append(ours)
    return found


def check(name: str, value: Tensor, expected: dict[str, float]) -> None:
    count, kind = value.numel(), expected["kind"]
    if kind == "constant":
        assert value.min() == value.max() == pytest.approx(expected["value"], abs=1e-5), name
        return
    if kind == "uniform":
        low, high = expected["low"], expected["high"]
        mean, spread = (low + high) / 2, (high - low) / 12**0.5
        margin = (high - low) * 1e-5
        assert low - margin <= value.min() <= low + 40 * (high - low) / count, name
        assert high - 40 * (high - low) / count <= value.max() <= high + margin, name
    else:
        mean, spread = expected["mean"], expected["std"]
    assert value.mean().item() == pytest.approx(mean, abs=6 * spread / count**0.5), name
    assert value.std().item() == pytest.approx(spread, rel=6 / count**0.5), name


@pytest.mark.parametrize("name", list(json.loads(FRESH.read_text())))
def test_fresh_parameters_are_drawn_as_published(name: str) -> None:
    expected = json.loads(FRESH.read_text())[name]
    ours = names_of_published_ones()[name]
    assert len(ours) == (3 if "in_proj" in name else 1), ours
    for parameter in ours:
        check(f"{name} -> {parameter}", fresh_model().state_dict()[parameter], expected)


@pytest.mark.parametrize("name", ["interactions", "objects"])
def test_the_bias_by_accident_lies_within_one_over_the_root_of_the_width(name: str) -> None:
    bias = getattr(fresh_model(), name).bias
    bound = 512**-0.5
    assert not bias.requires_grad
    assert bias.abs().max() <= bound
    assert bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.3)


def test_a_start_from_parts_keeps_the_bias_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    parts = write_parts(tmp_path)

    def start(seed: int) -> HoiClipModel:
        return initialise_from(parts / "detr", parts / "clip", tiny_vocabulary(), seed=seed, classifier_bias=True,
                               num_queries=4, interaction_layers=2, interaction_heads=4)  # fmt: skip

    one, again, other = start(3), start(3), start(4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.interactions.bias, other.interactions.bias)
    assert 0 < one.interactions.bias.abs().max() <= 16**-0.5
    assert 0 < one.objects.bias.abs().max() <= 16**-0.5


def test_the_detector_starts_from_detr(tmp_path: Path) -> None:
    parts = write_parts(tmp_path)
    model = initialise_from(parts / "detr", parts / "clip", tiny_vocabulary(), num_queries=4, interaction_layers=2,
                            interaction_heads=4)  # fmt: skip
    detr = load_detr(parts / "detr")[0]
    ours = model.detector.state_dict()
    taken = {"backbone.": "model.backbone.", "input_projection.": "model.input_projection.",
             "encoder.": "model.encoder.layers.", "decoder.": "model.decoder.layers.",
             "decoder_norm.": "model.decoder.layernorm."}  # fmt: skip
    for name, value in ours.items():
        for start, source in taken.items():
            if name.startswith(start):
                assert torch.equal(value, detr[source + name.removeprefix(start)]), name
    for i in range(3):
        for head in ("human_box_head", "object_box_head"):
            assert torch.equal(ours[f"{head}.{2 * i}.weight"], detr[f"bbox_predictor.layers.{i}.weight"])
            assert torch.equal(ours[f"{head}.{2 * i}.bias"], detr[f"bbox_predictor.layers.{i}.bias"])
    fresh = {n.split(".")[0] for n in ours} - {n.split(".")[0] for n in taken} - {"human_box_head", "object_box_head"}
    assert fresh == {"human_queries", "object_queries", "pair_positions", "object_projection", "object_norm"}


def baseline_from_parts(folder: Path, vocabulary: HoiVocabulary) -> tuple[HoiClipModel, dict[str, Tensor]]:
    parts = write_parts(folder)
    layers = {"num_queries": 4, "interaction_layers": 2}
    model = initialise_from(parts / "detr", parts / "clip", vocabulary, variant="gen-vlkt", **layers)
    return model, load_detr(parts / "detr")[0]


def test_both_decoders_of_the_baseline_start_from_detr(tmp_path: Path) -> None:
    model, detr = baseline_from_parts(tmp_path, tiny_vocabulary())
    starts = {"detector.decoder.": "model.decoder.layers.", "interaction_decoder.layers.": "model.decoder.layers.",
              "detector.decoder_norm.": "model.decoder.layernorm.",
              "interaction_decoder.norm.": "model.decoder.layernorm."}  # fmt: skip
    compared = 0
    for name, value in model.state_dict().items():
        for ours, theirs in starts.items():
            if name.startswith(ours):
                assert torch.equal(value, detr[theirs + name.removeprefix(ours)]), name
                compared += 1
    assert compared == 2 * (2 * 26 + 2)  # two decoders of two layers, each with 26 weights and biases, and a norm


def test_what_hoiclip_inherits_from_the_baseline_starts_from_detr_too_and_its_own_decoder_does_not(
    tmp_path: Path,
) -> None:
    parts = write_parts(tmp_path)
    model = initialise_from(parts / "detr", parts / "clip", tiny_vocabulary(), unused_parameters=True,
                            num_queries=4, interaction_layers=2, interaction_heads=4)  # fmt: skip
    detr = load_detr(parts / "detr")[0]
    assert torch.equal(model.unused.gen_vlkt.layers[1].mlp.fc1.weight, detr["model.decoder.layers.1.mlp.fc1.weight"])
    assert not torch.equal(model.interaction_decoder.layers[1].expand.weight, model.detector.decoder[1].mlp.fc1.weight)


def test_the_baseline_trains_its_text_rows_slowly_and_freezes_them_in_zero_shot_settings(tmp_path: Path) -> None:
    from hoiclip.training.optimization import optimizer_groups

    model, _ = baseline_from_parts(tmp_path, tiny_vocabulary())
    groups = {group["name"]: group for group in optimizer_groups(model, 1e-4, 1e-5)}
    assert groups["classifiers"]["lr"] == 1e-5
    assert len(groups["classifiers"]["params"]) == 4  # rows and bias, of interactions and of objects
    words = tiny_vocabulary()
    zero_shot = HoiVocabulary(**{**words.__dict__, "unseen": frozenset({1})})
    frozen, _ = baseline_from_parts(tmp_path / "zero_shot", zero_shot)
    assert "classifiers" not in {group["name"] for group in optimizer_groups(frozen, 1e-4, 1e-5)}
    assert frozen.interactions.bias is not None
    assert 0 < frozen.interactions.bias.abs().max() <= 16**-0.5


# --- dropout -----------------------------------------------------------------------------------------


def dropped(model: HoiClipModel, monkeypatch: pytest.MonkeyPatch, training: bool) -> list[tuple[str, float]]:
    """Every place where a forward pass drops, in order: what is dropped from, and the probability."""
    places: list[tuple[str, float]] = []

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        kind = "attention" if x.dim() == 4 else "hidden" if x.shape[-1] == 48 else "residual"
        if training:
            places.append((kind, p))
        return x

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    model.set_attn_implementation("eager")  # attention drops through the same function
    model.train(training)
    model(torch.zeros(1, 3, 64, 64), None, torch.zeros(1, 3, 32, 32))
    return [place for place in places if place[1]]


@pytest.mark.parametrize(
    ("variant", "places"),
    [  # (attention, hidden, residual): encoder layer 1, 1, 2; DETR's decoder layer 2, 1, 3; knowledge layer 3, 1, 4
        ("hoiclip", (1 + 2 * 2 + 2 * 3, 1 + 2 + 2, 2 + 2 * 3 + 2 * 4)),
        ("gen-vlkt", (1 + 2 * 2 + 2 * 2, 1 + 2 + 2, 2 + 2 * 3 + 2 * 3)),
    ],
)
def test_dropout_is_a_tenth_at_every_place_and_nowhere_else(
    variant: str, places: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DetrForObjectDetection

    parts = write_parts(tmp_path)
    wide = {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    DetrForObjectDetection(tiny_detector(num_labels=3, **wide)).save_pretrained(parts / "detr")
    model = initialise_from(parts / "detr", parts / "clip", tiny_vocabulary(), variant=variant, num_queries=4,
                            interaction_layers=2, interaction_heads=4, interaction_ffn_dim=48)  # fmt: skip
    found = dropped(model, monkeypatch, training=True)
    assert {probability for _, probability in found} == {0.1}
    assert tuple(sum(kind == k for k, _ in found) for kind in ("attention", "hidden", "residual")) == places
    assert dropped(model, monkeypatch, training=False) == []


@torch.no_grad()
def test_dropout_reaches_fused_attention_and_leaves_evaluation_alone() -> None:
    def model(dropout: float) -> HoiClipModel:
        detector = tiny_detector(dropout=dropout, attention_dropout=dropout, activation_dropout=dropout)
        return tiny_model(detector=detector)

    inputs = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)), None, torch.zeros(1, 3, 32, 32))
    plain, dropping = model(0.0), model(0.1)
    assert torch.equal(plain(*inputs).interaction_logits, dropping(*inputs).interaction_logits)
    attention_only = tiny_model(detector=tiny_detector(attention_dropout=0.1)).train()
    assert attention_only.config._attn_implementation == "sdpa"
    torch.manual_seed(0)
    first, second = (attention_only(*inputs).interaction_logits for _ in range(2))
    assert not torch.equal(first, second)
