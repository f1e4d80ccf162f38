"""The model against numbers of the published code (tolerances: golden README, section 3)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import HERE, checkpoint, inputs

from hoiclip import HoiClipModel
from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip

FIELDS = {
    "pred_hoi_logits": ("interaction_logits", 5e-4),
    "pred_obj_logits": ("object_logits", 1e-4),
    "pred_sub_boxes": ("human_boxes", 5e-5),
    "pred_obj_boxes": ("object_boxes", 5e-5),
}
HALF = 6e-3  # rounding the reference to float16 costs up to 2e-3; a real mistake costs 1e-2 or more


@cache
def converted(config: str) -> HoiClipModel:
    if config == "gen_vlkt":
        return convert_gen_vlkt(checkpoint(config), "hico")
    return convert_hoiclip(checkpoint(config), config)


def assert_close(name: str, ours: torch.Tensor, reference: np.ndarray, tolerance: float) -> None:
    if reference.dtype == np.float16:
        tolerance = max(tolerance, HALF)
    assert ours.shape == reference.shape, name
    error = np.abs(ours.numpy().astype(np.float64) - reference.astype(np.float64)).max()
    assert error <= tolerance, f"{name}: off by {error:.2e}, allowed {tolerance:.0e}"


@torch.no_grad()
def compare(model: HoiClipModel, reference: Path, case: str) -> None:
    golden = np.load(reference)
    out = model(*inputs(case), output_auxiliary=True)
    for name, (field, tolerance) in FIELDS.items():
        assert_close(name, out[field], golden[name], tolerance)
        for layer, auxiliary in enumerate(out.auxiliary_outputs):
            if f"aux{layer}_{name}" in golden:
                assert_close(f"aux{layer}_{name}", auxiliary[field], golden[f"aux{layer}_{name}"], tolerance)
    if "clip_logits" in golden:
        assert_close("clip_logits", out.zero_shot_logits[:, None], golden["clip_logits"], 1e-5)
    if "inter_memory" in golden:
        assert_close("inter_memory", out.interaction_features, golden["inter_memory"], 5e-4)


@pytest.mark.parametrize(("config", "case"), [("hico_rf_uc", "single1"), ("vcoco", "single0"), ("gen_vlkt", "single0")])
def test_outputs_equal_the_published_model(config: str, case: str) -> None:
    compare(converted(config), HERE / f"outputs_{config}_{case}.npz", case)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["hico", "hico_rf_uc", "vcoco", "gen_vlkt"])
def test_all_outputs_equal_the_published_model(config: str, shared: Path) -> None:
    model = converted(config)
    for case in ("batch2", "single0", "single1"):
        compare(model, shared / "golden" / "model" / f"outputs_{config}_{case}.npz", case)


@pytest.mark.slow
@torch.no_grad()
def test_every_stage_equals_the_published_model(shared: Path) -> None:
    golden = np.load(shared / "golden" / "model" / "outputs_hico_batch2.npz")
    model = converted("hico")
    pixel_values, pixel_mask, clip_pixel_values = inputs("batch2")
    detector, decoder = model.detector, model.interaction_decoder
    features, mask = detector.backbone(pixel_values, pixel_mask)[-1]
    assert np.array_equal(~mask.numpy(), golden["i_mask"])
    memory, positions, blocked = detector.encode(pixel_values, pixel_mask)
    human, objects = detector.decode(memory, positions, blocked)
    vision = model.clip.vision_model
    tokens = vision.post_layernorm(vision(clip_pixel_values).last_hidden_state)
    queries = decoder.queries(human, objects)
    streams = decoder.streams(tokens, memory, blocked)
    states = decoder(queries, streams)
    stages = {
        "i_pos": positions.transpose(1, 2).reshape(golden["i_pos"].shape),
        "i_layer4_first256": features[:, :256],
        "i_src": detector.input_projection(features),
        "i_memory": memory,
        "i_h_hs": human,
        "i_o_hs": objects,
        "i_vd": streams[2],
        "i_q0": queries,
        "i_clip_tokens": tokens,
        "i_clip_tokens_proj": model.clip.visual_projection(tokens),
        "i_inter768": states,
        "i_inter512": model.clip.visual_projection(states),
        "i_verb512": model.verbs.adapter(model.clip.visual_projection(states)),
    }
    for name, ours in stages.items():
        assert_close(name, ours, golden[name], HALF)


@pytest.mark.slow
@torch.no_grad()
def test_post_processing_equals_the_published_one(shared: Path) -> None:
    golden = np.load(shared / "golden" / "model" / "outputs_hico_batch2.npz")
    model = converted("hico")
    out = model(*inputs("batch2"))
    assert_close("hoi scores", out.interaction_logits.sigmoid(), golden["post_hoi_scores"], 5e-4)
    assert_close("object scores", out.object_logits.sigmoid(), golden["post_obj_scores"], 5e-4)
    assert np.array_equal(out.object_logits[..., :-1].argmax(-1).numpy(), golden["post_labels"][:, 64:])
    from hoiclip import HoiClipProcessor
    from hoiclip.postprocessing import rank_triplets

    found = HoiClipProcessor("hico").post_process(out, golden["orig_sizes"].tolist(), zero_shot_top_k=None)
    for image, detections in enumerate(found):
        expected = rank_triplets(
            golden["post_sub_boxes"][image],
            golden["post_obj_boxes"][image],
            golden["post_obj_scores"][image],
            out.interaction_logits[image].sigmoid(),
            detections.vocabulary,
        )
        assert np.abs(detections.scores - expected.scores).max() < 5e-4
        same = detections.hoi_ids == expected.hoi_ids
        assert same.mean() > 0.95  # near ties may swap places
        assert np.abs(detections.human_boxes[same] - expected.human_boxes[same]).max() < 5e-2


@pytest.mark.parametrize(("config", "count"), [("hico", 66_176_010), ("gen_vlkt", 42_049_971)])
def test_as_many_parameters_are_trained_as_published(config: str, count: int) -> None:
    model = converted(config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
