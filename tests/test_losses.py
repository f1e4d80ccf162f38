"""Matching and losses: golden numbers for saturated logits, and every odd batch a data set can produce."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_config
from torch import Tensor

from hoiclip import HoiClipConfig, HoiVocabulary
from hoiclip.errors import HoiError
from hoiclip.losses import HoiCriterion, cxcywh_to_xyxy, focal, generalized_box_iou
from hoiclip.models.outputs import HoiClipOutput

GOLDEN = Path(__file__).parent / "golden" / "model"


def golden_recipe() -> Any:
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDEN / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_output(config: HoiClipConfig, batch: int, layers: int = 2, columns: int | None = None) -> HoiClipOutput:
    """Predictions as the model makes them, leaves of the graph."""
    torch.manual_seed(3)
    n, k, width = config.num_queries, columns or config.num_interactions, config.clip.projection_dim

    def layer() -> dict[str, Tensor]:
        return {
            "human_boxes": torch.rand(batch, n, 4).requires_grad_(),
            "object_boxes": torch.rand(batch, n, 4).requires_grad_(),
            "object_logits": torch.randn(batch, n, config.num_objects + 1).requires_grad_(),
            "interaction_logits": torch.randn(batch, n, k).requires_grad_(),
            "interaction_features": torch.randn(batch, n, width).requires_grad_(),
        }

    found = [layer() for _ in range(layers)]
    return HoiClipOutput(**found[-1], auxiliary_outputs=found[:-1], clip_features=torch.randn(batch, width))


def random_targets(config: HoiClipConfig, counts: list[int], columns: int | None = None) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    k = columns or config.num_interactions
    targets = []
    for n in counts:
        labels = torch.zeros(n, k)
        labels[torch.arange(n), torch.randint(0, k, (n,), generator=generator)] = 1
        targets.append(
            {
                "human_boxes": 0.2 + 0.5 * torch.rand(n, 4, generator=generator),
                "object_boxes": 0.2 + 0.5 * torch.rand(n, 4, generator=generator),
                "object_labels": torch.randint(0, config.num_objects, (n,), generator=generator),
                "interaction_labels": labels,
            }
        )
    return targets


def test_saturated_logits_match_the_golden_numbers() -> None:
    golden = np.load(GOLDEN / "train_criterion_saturated.npz")
    names = {
        "pred_sub_boxes": "human_boxes",
        "pred_obj_boxes": "object_boxes",
        "pred_obj_logits": "object_logits",
        "pred_hoi_logits": "interaction_logits",
    }
    inputs = {mine: torch.from_numpy(golden[f"in_{theirs}"]).requires_grad_() for theirs, mine in names.items()}
    targets = [
        {
            "human_boxes": torch.from_numpy(t["sub_boxes"]),
            "object_boxes": torch.from_numpy(t["obj_boxes"]),
            "object_labels": torch.from_numpy(t["obj_labels"]),
            "interaction_labels": torch.from_numpy(t["hoi_labels"]),
        }
        for t in golden_recipe().targets(int(golden["target_seed"]), [4, 2], 600, 80, [(1, 0)])
    ]
    criterion = HoiCriterion(HoiClipConfig(clip=tiny_config().clip))
    out = HoiClipOutput(**inputs)
    for image, (query, target) in enumerate(criterion.match(out, targets)):
        assert query.tolist() == golden[f"match{image}_query"].tolist()
        assert target.tolist() == golden[f"match{image}_target"].tolist()
        assert query.dtype == target.dtype == torch.int64
    loss, terms = criterion(out, targets)
    expected = dict(zip(golden["loss_names"].tolist(), golden["loss_values"].tolist(), strict=True))
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[name], rel=2e-5), name
    assert loss.item() == pytest.approx(float(golden["total"]), rel=2e-5)
    loss.backward()
    for theirs, mine in names.items():
        grad, wanted = inputs[mine].grad, torch.from_numpy(golden[f"grad_{theirs}"])
        assert grad is not None
        torch.testing.assert_close(grad, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_a_perfect_prediction_costs_almost_nothing() -> None:
    config = tiny_config()
    targets = random_targets(config, [3, 2])
    out = random_output(config, 2, layers=1)
    with torch.no_grad():
        out.object_logits.fill_(-20.0)[..., -1] = 20.0
        out.interaction_logits.fill_(-20.0)
        for i, t in enumerate(targets):
            for row in range(len(t["object_labels"])):
                out.human_boxes[i, row] = t["human_boxes"][row]
                out.object_boxes[i, row] = t["object_boxes"][row]
                out.object_logits[i, row, -1] = -20.0
                out.object_logits[i, row, t["object_labels"][row]] = 20.0
                out.interaction_logits[i, row] = 40 * t["interaction_labels"][row] - 20
    criterion = HoiCriterion(config)
    assert [(q.tolist(), t.tolist()) for q, t in criterion.match(out, targets)] == [
        ([0, 1, 2], [0, 1, 2]),
        ([0, 1], [0, 1]),
    ]
    loss, terms = criterion(out, targets)
    assert set(terms) == {
        "loss_hoi_labels",
        "loss_obj_ce",
        "loss_sub_bbox",
        "loss_obj_bbox",
        "loss_sub_giou",
        "loss_obj_giou",
    }
    assert loss.item() < 1e-5


def test_the_loss_is_the_weighted_sum_of_its_terms_over_all_layers() -> None:
    config = tiny_config()
    loss, terms = HoiCriterion(config)(random_output(config, 2, layers=3), random_targets(config, [2, 1]))
    weights = {"hoi_labels": 2, "obj_ce": 1, "sub_bbox": 2.5, "obj_bbox": 2.5, "sub_giou": 1, "obj_giou": 1}
    assert set(terms) == {f"loss_{name}{suffix}" for name in weights for suffix in ("", "_0", "_1")}
    total = sum(w * terms[f"loss_{name}{suffix}"] for name, w in weights.items() for suffix in ("", "_0", "_1"))
    assert loss.item() == pytest.approx(float(total.detach()), rel=1e-6)


@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [9, 1], [4, 4]])
def test_images_without_pairs_and_with_more_pairs_than_queries_train(counts: list[int]) -> None:
    config = tiny_config()  # four queries
    out = random_output(config, 2)
    criterion = HoiCriterion(config)
    targets = random_targets(config, counts)
    loss, terms = criterion(out, targets)
    loss.backward()
    for field in ("human_boxes", "object_boxes", "object_logits", "interaction_logits"):
        grad = getattr(out, field).grad
        assert grad is not None
        assert grad.isfinite().all(), field
    for (query, target), count in zip(criterion.match(out, targets), counts, strict=True):
        assert len(query) == len(target) == min(count, config.num_queries)
        assert (query[1:] > query[:-1]).all()
        assert len(set(target.tolist())) == len(target)
    if counts == [0, 0]:
        assert [terms[f"loss_{n}"].item() for n in ("sub_bbox", "obj_bbox", "sub_giou", "obj_giou")] == [0, 0, 0, 0]
        p = out.interaction_logits.detach().sigmoid()
        assert terms["loss_hoi_labels"].item() == pytest.approx(float(-0.5 * ((1 - p).log() * p**2).sum()), rel=1e-5)


def test_targets_of_an_image_without_boxes_may_be_flat() -> None:
    config = tiny_config()
    targets = random_targets(config, [2, 0])
    targets[1] = {"human_boxes": torch.zeros(0), "object_boxes": torch.zeros(0), "object_labels": torch.zeros(0)}
    targets[1]["interaction_labels"] = torch.zeros(0, config.num_interactions)
    loss, _ = HoiCriterion(config)(random_output(config, 2), targets)
    assert math.isfinite(loss.item())


def test_an_absent_object_has_no_box_loss() -> None:
    config = tiny_config()
    out = random_output(config, 1, layers=1)
    targets = random_targets(config, [1])
    targets[0]["object_boxes"][:] = 0
    loss, terms = HoiCriterion(config)(out, targets)
    loss.backward()
    assert terms["loss_obj_bbox"].item() == 0
    assert terms["loss_obj_giou"].item() == 0
    assert terms["loss_sub_bbox"].item() > 0
    assert out.object_boxes.grad.abs().sum().item() == 0


def test_each_image_of_a_batch_is_matched_as_if_it_were_alone() -> None:
    config = tiny_config()
    out, targets = random_output(config, 3), random_targets(config, [2, 0, 4])
    criterion = HoiCriterion(config)
    together = criterion.match(out, targets)
    for i in range(3):
        fields = ("human_boxes", "object_boxes", "object_logits", "interaction_logits")
        alone = HoiClipOutput(**{f: getattr(out, f)[i : i + 1] for f in fields})
        query, target = criterion.match(alone, targets[i : i + 1])[0]
        assert query.tolist() == together[i][0].tolist()
        assert target.tolist() == together[i][1].tolist()


def test_unseen_columns_may_be_in_the_labels_or_in_the_logits() -> None:
    vocabulary = HoiVocabulary.from_words("ride horse, feed horse, hold umbrella, ride bicycle", name="some")
    config = tiny_config(vocabulary=vocabulary)
    config.unseen_interactions = [1]
    seen = [0, 2, 3]
    narrow = random_targets(config, [2, 1], columns=3)
    wide = [{**t, "interaction_labels": torch.zeros(len(t["object_labels"]), 4)} for t in narrow]
    for w, t in zip(wide, narrow, strict=True):
        w["interaction_labels"][:, seen] = t["interaction_labels"]
    criterion = HoiCriterion(config)
    reference, _ = criterion(random_output(config, 2, columns=3), narrow)
    from_wide_labels, _ = criterion(random_output(config, 2, columns=3), wide)
    # bit for bit: same machine, same number of threads
    assert reference.item() == from_wide_labels.item()
    full = random_output(config, 2)
    restricted = random_output(config, 2)
    for mine, theirs in ((restricted, full), (restricted.auxiliary_outputs[0], full.auxiliary_outputs[0])):
        mine["interaction_logits"] = theirs["interaction_logits"][..., seen]
    assert criterion(full, narrow)[0].item() == criterion(restricted, narrow)[0].item()
    with pytest.raises(HoiError, match="interaction_labels have 2 columns"):
        criterion(full, random_targets(config, [1, 1], columns=2))


def test_targets_that_do_not_fit_are_refused() -> None:
    config = tiny_config()
    out = random_output(config, 2)
    with pytest.raises(HoiError, match="1 targets for 2 images"):
        HoiCriterion(config)(out, random_targets(config, [1]))
    targets = random_targets(config, [1, 1])
    targets[0]["object_labels"][0] = config.num_objects + 1
    with pytest.raises(HoiError, match=r"object_labels must lie in 0\.\.4"):
        HoiCriterion(config)(out, targets)
    targets = random_targets(config, [1, 1])
    targets[1]["human_boxes"] = torch.zeros(3, 4)
    with pytest.raises(HoiError, match="human_boxes has 4 rows for 2"):
        HoiCriterion(config)(out, targets)


def test_distillation_belongs_to_the_baseline_alone() -> None:
    baseline = tiny_config(variant="gen-vlkt", distillation_weight=20.0)
    out, targets = random_output(baseline, 2), random_targets(baseline, [1, 2])
    with_teacher, terms = HoiCriterion(baseline)(out, targets)
    student = out.interaction_features.mean(1)
    assert terms["loss_feat_mimic"].item() == pytest.approx((student - out.clip_features).abs().mean().item(), rel=1e-6)
    without, fewer = HoiCriterion(tiny_config(variant="gen-vlkt", distillation_weight=0.0))(out, targets)
    assert "loss_feat_mimic" not in fewer
    mimic = terms["loss_feat_mimic"] + terms["loss_feat_mimic_0"]
    assert (with_teacher - without).item() == pytest.approx(20 * mimic.item(), rel=1e-4)
    assert "loss_feat_mimic" not in HoiCriterion(tiny_config())(out, targets)[1]


def test_half_precision_predictions_are_judged_in_full_precision() -> None:
    config = tiny_config()
    out, targets = random_output(config, 2), random_targets(config, [3, 1])
    halved = HoiClipOutput(
        **{k: v.detach().bfloat16() for k, v in out.items() if isinstance(v, Tensor)},
        auxiliary_outputs=[{k: v.detach().bfloat16() for k, v in out.auxiliary_outputs[0].items()}],
    )
    loss, _ = HoiCriterion(config)(halved, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(HoiCriterion(config)(out, targets)[0].item(), rel=2e-2)


def test_a_prediction_that_is_not_a_number_reaches_the_loss_instead_of_breaking_the_assignment() -> None:
    config = tiny_config()
    out, targets = random_output(config, 1), random_targets(config, [2])
    with torch.no_grad():
        out.interaction_logits[0, 0] = math.nan
    assert not math.isfinite(HoiCriterion(config)(out, targets)[0].item())


def test_the_focal_gradient_stops_at_the_probability_floor() -> None:
    logits = torch.tensor([-12.0, 0.0, 12.0]).requires_grad_()
    focal(logits, torch.tensor([1.0, 1.0, 0.0]), alpha=0.5).sum().backward()
    assert logits.grad.tolist() == pytest.approx([0.0, -0.14914, 0.0], abs=1e-4)


boxes = st.tuples(*[st.floats(0, 1, width=32)] * 4).map(lambda b: torch.tensor(b))


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_giou_is_symmetric_bounded_and_one_only_for_equal_boxes(a: Tensor, b: Tensor) -> None:
    a, b = cxcywh_to_xyxy(a), cxcywh_to_xyxy(b)
    value = generalized_box_iou(a, b).item()
    assert -1.0001 <= value <= 1.0001
    assert value == pytest.approx(generalized_box_iou(b, a).item(), abs=1e-5)
    if (a[2:] - a[:2]).min() > 1e-3:
        assert generalized_box_iou(a, a).item() == pytest.approx(1, abs=1e-5)


# --- normalisers of the published programs ---------------------------------------------------------

NORMALISERS = json.loads((Path(__file__).parent / "golden" / "recipe" / "normalisers.json").read_text())


def normaliser_batch() -> tuple[HoiClipConfig, HoiClipOutput, list[dict[str, Tensor]]]:
    """The batch that ``normalisers.json`` was made of."""
    random, batch, queries = np.random.RandomState(NORMALISERS["seed"]), len(NORMALISERS["pairs"]), 16

    def draw(*shape: int, scale: float, shift: float, kind: str = "randn") -> Tensor:
        return torch.from_numpy((getattr(random, kind)(*shape) * scale + shift).astype(np.float32))

    out = HoiClipOutput(
        interaction_logits=draw(batch, queries, 600, scale=1.5, shift=-4),
        object_logits=draw(batch, queries, 81, scale=1.5, shift=0),
        human_boxes=draw(batch, queries, 4, scale=0.5, shift=0.2, kind="rand"),
        object_boxes=draw(batch, queries, 4, scale=0.5, shift=0.2, kind="rand"),
    )
    absent = [tuple(place) for place in NORMALISERS["no_object"]]
    recipe = golden_recipe().targets(NORMALISERS["target_seed"], NORMALISERS["pairs"], 600, 80, absent)
    targets = [
        {
            "human_boxes": torch.from_numpy(t["sub_boxes"]),
            "object_boxes": torch.from_numpy(t["obj_boxes"]),
            "object_labels": torch.from_numpy(t["obj_labels"]),
            "interaction_labels": torch.from_numpy(t["hoi_labels"]),
        }
        for t in recipe
    ]
    return HoiClipConfig(num_queries=queries), out, targets


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_normalisers_of_published_processes(processes: int) -> None:
    config, out, targets = normaliser_batch()
    expected = NORMALISERS["processes"][str(processes)]
    loss, terms = HoiCriterion(config, processes=processes)(out, targets)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected["terms"], rel=1e-5)
    assert loss.item() == pytest.approx(expected["total"], rel=1e-5)


def test_one_share_is_the_whole_batch_and_shares_may_be_uneven() -> None:
    config, out, targets = normaliser_batch()
    whole, _ = HoiCriterion(config)(out, targets)
    assert HoiCriterion(config, processes=1)(out, targets)[0].item() == pytest.approx(whole.item(), rel=1e-6)
    uneven, _ = HoiCriterion(config, processes=3)(out, targets)  # shares of 2, 1 and 1 images
    assert uneven.isfinite()
    assert HoiCriterion(config, processes=9)(out, targets)[0] == HoiCriterion(config, processes=4)(out, targets)[0]


def test_matching_and_losses_are_computed_in_full_precision_under_autocast() -> None:
    config, out, targets = normaliser_batch()
    exact, terms = HoiCriterion(config)(out, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, mixed_terms = HoiCriterion(config)(out, targets)
    assert mixed == exact  # bit for bit: same machine, same number of threads
    assert mixed_terms == terms
