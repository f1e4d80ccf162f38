"""Training at full size against golden numbers: matching, losses, gradients, one optimiser step, groups.

Needs the reference material beside the repository, so everything here is slow.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hoiclip import HoiClipModel
from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip
from hoiclip.losses import HoiCriterion
from hoiclip.models.outputs import HoiClipOutput
from hoiclip.processing import clip_view
from hoiclip.training.optimization import optimizer_groups

pytestmark = pytest.mark.slow

MODEL = Path(__file__).resolve().parents[3] / "shared" / "golden" / "model"
CONFIGS = ("hico", "hico_rf_uc", "vcoco")
QUERIES = ("query_embed_h.weight", "query_embed_o.weight", "pos_guided_embedd.weight")
# One rectifier of the baseline's first query has its input 1.5e-6 below zero, so rounding can open it on some
# processors, which moves these gradients by 2.3e-2 of their RMS.  A missing decoder layer moves them by 0.6;
# a missing box loss can stay within, but moves the total loss by 7e-4 or more, where 1e-4 is allowed.
FLIPPED_RECTIFIER = 7e-2


@pytest.fixture(scope="module", autouse=True)
def _reference_material(shared: Path) -> None:
    """Skips the module where there is none."""


# --- golden weights and images -----------------------------------------------------------------------


@cache
def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("golden_recipe", MODEL / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def golden_json(name: str) -> Any:
    return json.loads((MODEL / f"{name}.json").read_text())


def manifest(config: str) -> dict[str, tuple[list[int], str]]:
    return golden_json(f"manifest_{'gen_vlkt_hico' if config == 'gen_vlkt' else config}")


def golden_weights(config: str) -> dict[str, Tensor]:
    shapes = {name: shape for name, (shape, _) in manifest(config).items()}
    weights = {n: torch.from_numpy(recipe().fill(n, s)) for n, s in shapes.items() if not recipe().is_computed(n)}
    classifiers = np.load(MODEL / f"classifiers_{'vcoco' if config == 'vcoco' else 'hico'}.npz")
    constants = np.load(MODEL / f"constants_{'hico' if config == 'gen_vlkt' else config}.npz")
    seen = constants["seen_columns"].astype(int)
    rows = torch.from_numpy(classifiers["visual_projection"])
    weights["visual_projection.weight"] = rows[seen] if config == "hico_rf_uc" else rows
    weights["eval_visual_projection.weight"] = rows
    weights["obj_visual_projection.weight"] = torch.from_numpy(classifiers["obj_visual_projection"])
    verb, column = constants["verb2hoi_nonzero"].astype(int).T
    spread = torch.zeros(29 if config == "vcoco" else 117, len(rows))
    spread[verb, column] = 1
    weights["verb2hoi_proj"] = spread[:, seen] if config == "hico_rf_uc" else spread
    weights["verb2hoi_proj_eval"] = spread
    return {name: weights[name] for name in shapes}


def convert(config: str, weights: Mapping[str, Tensor]) -> HoiClipModel:
    return convert_gen_vlkt(weights, "hico") if config == "gen_vlkt" else convert_hoiclip(weights, config)


def golden_model(config: str) -> HoiClipModel:
    model = convert(config, golden_weights(config))
    if config == "gen_vlkt":  # its checkpoint brings no teacher
        model.clip = convert("hico", golden_weights("hico")).clip.requires_grad_(False)
    return model.train()


@cache
def parameter_parts(config: str) -> dict[str, tuple[str, ...]]:
    """Golden name -> our parameters, found by converting weights that carry numbers.

    A fused attention projection becomes three of ours.
    """
    names = [n for n in manifest(config) if not n.startswith("verb2hoi")]
    marked = golden_weights(config)
    for i, name in enumerate(names):
        marked[name] = torch.full_like(marked[name], float(i + 1))
    model = convert(config, marked)
    parts: dict[str, list[str]] = {name: [] for name in names}
    for mine, parameter in model.named_parameters():
        for mark in parameter.detach().unique().tolist():
            if mark > 0:
                parts[names[round(mark) - 1]].append(mine)
    order = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
    for found in parts.values():
        found.sort(key=lambda part: next((i for word, i in order.items() if word in part), 0))
    return {name: tuple(found) for name, found in parts.items()}


def golden_view(values: Mapping[str, Tensor | None], config: str, name: str) -> Tensor | None:
    """A golden tensor put together from our parameters' values (or gradients); None if all are None."""
    found = [values[mine] for mine in parameter_parts(config)[name]]
    if all(v is None for v in found):
        return None
    present = [v for v in found if v is not None]
    return present[0] if len(present) == 1 else torch.cat(present)


@cache
def images() -> dict[str, Tensor]:
    from PIL import Image

    pictures = [Image.fromarray(recipe().image(11, 320, 416)), Image.fromarray(recipe().image(12, 288, 480))]
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels, mask = torch.zeros(2, 3, 320, 480), torch.zeros(2, 320, 480)
    for i, picture in enumerate(pictures):
        view = (torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255 - mean) / std
        pixels[i, :, : view.shape[1], : view.shape[2]] = view
        mask[i, : view.shape[1], : view.shape[2]] = 1
    clip = torch.stack([clip_view(p) for p in pictures])
    return {"pixel_values": pixels, "pixel_mask": mask, "clip_pixel_values": clip}


def targets(case: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    absent = [tuple(pair) for pair in case["no_object"]]
    theirs = recipe().targets(case["target_seed"], case["pairs"], case["n_hoi"], case["n_obj"], absent)
    names = {
        "sub_boxes": "human_boxes",
        "obj_boxes": "object_boxes",
        "obj_labels": "object_labels",
        "hoi_labels": "interaction_labels",
    }
    return [{mine: torch.from_numpy(t[name]) for name, mine in names.items()} for t in theirs]


# --- comparisons -------------------------------------------------------------------------------------


def check_matching(model: HoiClipModel, out: HoiClipOutput, labels: list[dict[str, Tensor]], case: Any) -> None:
    criterion = HoiCriterion(model.config)
    layers = {"last": out, **{f"aux{i}": HoiClipOutput(**layer) for i, layer in enumerate(out.auxiliary_outputs)}}
    for name, layer in layers.items():
        found = [(q.tolist(), t.tolist()) for q, t in criterion.match(layer, labels)]
        assert found == [(m["query"], m["target"]) for m in case["matching"][name]], name


def check_losses(out: HoiClipOutput, case: Any) -> None:
    assert set(out.loss_dict) == {n for n in case["losses"] if "class_error" not in n}
    for name, value in out.loss_dict.items():
        assert value.item() == pytest.approx(case["losses"][name], rel=1e-4, abs=1e-6), name
    assert out.loss.item() == pytest.approx(case["total_loss"], rel=1e-4)


def check_gradients(model: HoiClipModel, config: str, expected: Mapping[str, Any]) -> None:
    mine = {name: p.grad for name, p in model.named_parameters()}
    for name, wanted in expected.items():
        found = golden_view(mine, config, name)
        if wanted is None:
            assert found is None or not found.any(), name
            continue
        assert found is not None, name
        assert found.norm().item() == pytest.approx(wanted["norm"], rel=3e-3, abs=1e-7), name
        rms = wanted["norm"] / found.numel() ** 0.5
        first = np.array(found.flatten()[:8].tolist())
        share = FLIPPED_RECTIFIER if config == "gen_vlkt" and name in QUERIES else 1e-2
        np.testing.assert_allclose(first, wanted["first8"], rtol=0, atol=max(share * rms, 1e-9), err_msg=name)


CASES = [(config, case) for config in CONFIGS for case in ("pairs", "one_empty", "all_empty")]


@pytest.mark.parametrize(("config", "case"), [*CASES, ("gen_vlkt", "pairs"), ("gen_vlkt", "one_empty")])
def test_a_training_step_is_the_golden_one(config: str, case: str) -> None:
    golden = golden_json(f"train_{config}")[case]
    model, labels = golden_model(config), targets(golden)
    out = model(**images(), labels=labels)
    if config == "hico_rf_uc" and case == "pairs":
        logits = torch.from_numpy(np.load(MODEL / "train_hico_rf_uc_logits.npz")["pred_hoi_logits"])
        torch.testing.assert_close(out.interaction_logits.detach(), logits, rtol=0, atol=5e-4)
    check_matching(model, out, labels, golden)
    check_losses(out, golden)

    if "grads_without_hoi" in golden:
        weights = HoiCriterion(model.config).weights()
        rest = {n: v for n, v in out.loss_dict.items() if "hoi" not in n}
        total = torch.stack([weights[n.rstrip("_0123456789")] * v for n, v in rest.items()]).sum()
        assert total.item() == pytest.approx(golden["total_loss_without_hoi"], rel=1e-4)
        total.backward(retain_graph=True)
        check_gradients(model, config, golden["grads_without_hoi"])
        model.zero_grad(set_to_none=True)

    out.loss.backward()
    check_gradients(model, config, golden["grads"])
    if "trainable_without_grad" in golden:
        without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
        expected = {mine for n in golden["trainable_without_grad"] for mine in parameter_parts(config)[n]}
        assert without == expected
    if "grad_total_norm" in golden:
        total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        assert total.item() == pytest.approx(golden["grad_total_norm"], rel=3e-3)
    if "after_one_step_first8" in golden:
        check_step(model, config, golden)


def check_step(model: HoiClipModel, config: str, golden: Mapping[str, Any]) -> None:
    """Clipping to 0.1 and one AdamW step: lr x sign(gradient) where the gradient is clearly not zero."""
    settings = golden_json(f"train_{config}")["_args"]
    groups = optimizer_groups(model, learning_rate=settings["lr"], backbone_learning_rate=settings["lr_backbone"])
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_max_norm"])
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    torch.optim.AdamW(groups, lr=settings["lr"], weight_decay=settings["weight_decay"]).step()
    after = {n: p.detach() for n, p in model.named_parameters()}
    for name, wanted in golden["after_one_step_first8"].items():
        gradient = golden_view(gradients, config, name)
        found = golden_view(after, config, name)
        assert found is not None
        first = found.flatten()[:8].double().numpy()
        clear = np.ones(len(first), dtype=bool)
        if gradient is not None:
            clear = gradient.flatten()[:8].abs().numpy() > 1e-6
        np.testing.assert_allclose(first[clear], np.array(wanted)[clear], rtol=0, atol=2e-7, err_msg=name)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_trained_and_how_fast_is_the_golden_grouping(config: str) -> None:
    golden = golden_json(f"param_groups_{config}")
    model = convert(config, golden_weights(config))
    by_name = {id(p): n for n, p in model.named_parameters()}
    groups = optimizer_groups(model, learning_rate=1e-4, backbone_learning_rate=1e-5)
    found = {g["lr"]: {by_name[id(p)] for p in g["params"]} for g in groups}
    parts = parameter_parts(config)
    expected = {g["lr"]: {mine for name in g["names"] for mine in parts[name]} for g in golden["groups"]}
    assert found == expected
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == golden["trainable_parameters"]
    if config == "hico":
        assert trainable == 66_176_010
