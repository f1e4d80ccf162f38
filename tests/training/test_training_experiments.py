"""Every shipped experiment trains, on generated data; and the model can learn eight pictures by heart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_clip, tiny_tokenizer
from training_world import losses, tiny_options, write_custom, write_hoia, write_parts
from transformers import CLIPModel, DetrConfig, DetrForObjectDetection

import hoiclip
from hoiclip import HoiVocabulary
from hoiclip.experiments.loading import experiment_names, load_experiment
from hoiclip.training.callbacks import read_log
from hoiclip.training.run import train

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
FAST = {"hicodet_rf_uc", "vcoco", "playground_uv"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts, and a data set in each layout."""
    folder = tmp_path_factory.mktemp("world")
    write_parts(folder / "parts")
    write_custom(folder / "custom")
    hico = HoiVocabulary.from_name("hico")
    write_hoia(folder / "hicodet", hico, "trainval_hico.json", "test_hico.json", "images/train2015", "HICO_")
    (folder / "hicodet" / "images" / "test2015").symlink_to(folder / "hicodet" / "images" / "train2015")
    vcoco = HoiVocabulary.from_name("vcoco")
    write_hoia(folder / "vcoco", vcoco, "trainval_vcoco.json", "test_vcoco.json", "val2014", "COCO_val2014_00000000")
    return folder


@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in experiment_names()]
)
def test_every_experiment_trains(name: str, world: Path, tmp_path: Path) -> None:
    experiment = load_experiment(name)
    changes: dict[str, Any] = {
        "train__max_steps": 2,
        "train__checkpoint_every": 0,
        "data__train_images": 6,
        "data__evaluation_images": 2,
        "evaluation__every": 1,
    }
    if experiment.data.source != "playground":
        changes["data__root"] = world / experiment.data.source
    if experiment.model.start is not None:
        changes["model__start"] = "playground"
    out = train(name, tiny_options(world / "parts", tmp_path / name, **changes))
    assert list(losses(out)) == [1, 2]
    assert all(math.isfinite(loss) for loss in losses(out).values())
    metric = "eval_scenario_1" if experiment.evaluation.protocol == "vcoco" else "eval_full"
    judged = [record for _, record in read_log(out / "log.jsonl") if "eval_seen" in record or metric in record]
    assert judged
    model = hoiclip.HoiClipModel.from_pretrained(out)
    assert model.config.variant == experiment.model.variant
    assert (model.verbs is None) is (not experiment.model.verb_classifier)
    if experiment.model.verb_classifier:
        assert model.config.verb_weight == experiment.model.verb_weight
        assert (out / "verbs.safetensors").is_file() is (
            experiment.verbs.method != "sentence" and experiment.model.start is None
        )
    if experiment.vocabulary == "vcoco" and model.verbs is not None:
        # ours is (verb, interaction), not the published files' (verb, object), and there is no stray bias
        expected = torch.from_numpy(model.vocabulary.verb_to_interaction)
        assert torch.equal(model.verbs.verb_to_interaction, expected)
        assert model.interactions.bias is None


def test_the_published_vcoco_program_can_be_trained(world: Path, tmp_path: Path) -> None:
    changes = {"train__max_steps": 1, "train__batch_size": 2, "evaluation__every": 0, "data__root": world / "vcoco"}
    options = [*tiny_options(world / "parts", tmp_path / "run", **changes), "--model.published=true"]
    options.remove("--model.unused_parameters=false")
    model = hoiclip.HoiClipModel.from_pretrained(train("vcoco", options))
    ones = np.load(GOLDEN / "constants_vcoco.npz")["verb2hoi_nonzero"].tolist()  # (verb, column)
    assert sorted(ones) == model.verbs.verb_to_interaction.nonzero().tolist()
    assert set(model.verbs.verb_to_interaction.unique().tolist()) == {0.0, 1.0}
    assert model.config.verb_weight == 0.1
    assert model.config.mask_padding is False
    assert model.unused is not None
    assert not model.interactions.bias.requires_grad
    assert 0 < model.interactions.bias.abs().max() <= 16**-0.5


@pytest.mark.slow
def test_eight_images_are_overfitted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detr = DetrConfig(
        backbone_config={
            "model_type": "resnet",
            "embedding_size": 32,
            "hidden_sizes": [32, 48, 64, 96],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "out_features": ["stage3"],
        },
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        dropout=0.0,
        num_labels=13,
        init_xavier_std=1.0,
    )
    DetrForObjectDetection(detr).save_pretrained(tmp_path / "detr")
    CLIPModel(tiny_clip()).save_pretrained(tmp_path / "clip")
    tiny_tokenizer(tmp_path / "clip")
    options = tiny_options(
        tmp_path,
        tmp_path / "run",
        model__num_queries=12,
        model__dropout=0.0,
        model__zero_shot_top_k=None,
        verbs__method="text",
        data__train_images=8,
        data__evaluation_images=8,
        data__evaluation_split="train",
        data__shorter=128,
        data__longest=128,
        data__augment=False,
        train__batch_size=8,
        train__epochs=800,
        train__drop_epoch=700,
        train__learning_rate=1e-3,
        train__backbone_learning_rate=3e-4,
        train__clip_norm=1.0,
        train__freeze=[],
        train__cache_features=False,
        train__log_every=50,
        train__checkpoint_every=0,
        evaluation__every=200,
    )
    out = train("playground", options)
    found = [record["eval_full"] for _, record in read_log(out / "log.jsonl") if "eval_full" in record]
    assert max(found) >= 0.95, found
