"""Runs from start to end: what is written, how one goes on after any kind of end, and what stops it."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import tiny_model
from training_world import losses, tiny_options, write_custom, write_parts

import hoiclip
from hoiclip.data.training_dataset import HoiTrainingDataset
from hoiclip.errors import HoiError
from hoiclip.experiments.loading import load_experiment
from hoiclip.training.callbacks import EpochSampler, read_log
from hoiclip.training.optimization import MovingAverage, optimizer_groups
from hoiclip.training.run import _refuse_other_options, train
from hoiclip.training.run_folder import last_checkpoint
from hoiclip.training.trainer import HoiTrainer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``parts`` and ``data`` of a miniature run."""
    folder = tmp_path_factory.mktemp("world")
    write_parts(folder / "parts")
    write_custom(folder / "data")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def options(world: Path, out: Path, **changes: object) -> list[str]:
    """Eight images, batches of two: four steps an epoch."""
    few = {"data__root": world / "data", "train__epochs": 3, "train__drop_epoch": 2, "evaluation__every": 0}
    return tiny_options(world / "parts", out, **{**few, **changes})


@pytest.fixture(scope="module")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing disturbed, with a checkpoint every five steps and at each epoch."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return train("custom", options(world, out, evaluation__every=1, train__checkpoint_every_steps=5, train__ema=0.9))


def test_a_run_leaves_a_model_a_log_and_its_options(finished: Path) -> None:
    names = {entry.name for entry in finished.iterdir()}
    written = {"config.yaml", "data.json", "log.jsonl", "verbs.safetensors", "verbs.yaml", "best", "model.safetensors"}
    written |= {"training.png"}
    assert written <= names
    assert {n for n in names if n.startswith("checkpoint")} == {"checkpoint-10", "checkpoint-12"}
    assert not [n for n in names if n.startswith(".writing")]
    assert load_experiment(finished / "config.yaml").train.ema == 0.9
    steps = losses(finished)
    assert list(steps) == list(range(1, 13))
    assert all(value > 0 for value in steps.values())
    records = [record for _, record in read_log(finished / "log.jsonl")]
    rates = [r["learning_rate"] for r in records if "loss" in r]
    assert rates == [1e-4] * 8 + [pytest.approx(1e-5)] * 4
    evaluations = [r for r in records if "eval_full" in r]
    assert [r["step"] for r in evaluations] == [4, 8, 12]
    best = json.loads((finished / "best" / "metrics.json").read_text())
    assert best["full"] == max(r["eval_full"] for r in evaluations)
    assert {"loss_hoi_labels", "loss_obj_ce_0", "grad_norm"} <= set(records[0])
    detector = hoiclip.load(finished)
    assert detector.model.vocabulary.num_interactions == 5
    assert detector.processor.shortest_edge == 48
    hoiclip.load(finished / "best")


def test_a_folder_that_holds_a_run_is_not_overwritten(world: Path, finished: Path) -> None:
    with pytest.raises(HoiError, match="already holds a run"):
        train("custom", options(world, finished))
    with pytest.raises(HoiError, match=r"was started with data.fraction 1\.0, not 0\.5"):
        train("custom", options(world, finished, train__resume=True, data__fraction=0.5))


# --- kill it ---------------------------------------------------------------------------------------


def _train_alone(config: str, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    train(config, overrides)


def start(overrides: list[str]) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hoiclip.training.run"])
    process = context.Process(target=_train_alone, args=("custom", overrides))
    process.start()
    return process


def wait_until(condition: Callable[[], bool], process: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive() or condition(), "the run ended before it could be disturbed"
        assert time.monotonic() < end, "the run did not get that far"
        time.sleep(0.001)


def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(world: Path, finished: Path, tmp_path: Path) -> None:
    """On the same machine with the same number of threads: one."""
    run = tmp_path / "run"
    changes = {"evaluation__every": 1, "train__checkpoint_every_steps": 5, "train__ema": 0.9, "train__resume": True}
    overrides = options(world, run, **changes)

    def logged(step: int) -> Callable[[], bool]:
        return lambda: any(r["step"] >= step for _, r in read_log(run / "log.jsonl"))

    moments = [
        logged(3),  # before the first checkpoint
        lambda: any(run.glob(".writing-*/model.safetensors")),  # while a checkpoint is written
        logged(7),  # in the middle of an epoch
    ]
    for moment in moments:
        process = start(overrides)
        wait_until(moment, process)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with (run / "log.jsonl").open("a") as log:  # as a crash leaves it
            log.write('{"step": 99, "lo')
    train("custom", overrides)
    assert losses(run) == losses(finished)
    mine, theirs = (torch.load(f / "checkpoint-12" / "optimizer.pt", weights_only=True) for f in (run, finished))
    for found, expected in zip(mine["state"].values(), theirs["state"].values(), strict=True):
        assert torch.equal(found["exp_avg_sq"], expected["exp_avg_sq"])
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_a_run_with_workers_and_dropout_goes_on_bit_for_bit_from_any_checkpoint(world: Path, tmp_path: Path) -> None:
    changes = {"data__workers": 2, "model__dropout": 0.1, "train__checkpoint_every_steps": 2,
               "train__keep_checkpoints": 9, "train__epochs": 3, "train__drop_epoch": 2}  # fmt: skip
    whole = train("custom", options(world, tmp_path / "whole", **changes))
    for step in (4, 6):  # between two epochs, and in the middle of one
        resumed = tmp_path / f"from-{step}"
        shutil.copytree(whole, resumed)
        (resumed / "model.safetensors").unlink()
        for later in range(step + 2, 13, 2):
            shutil.rmtree(resumed / f"checkpoint-{later}")
        train("custom", options(world, resumed, **changes, train__resume=True))
        assert losses(resumed) == losses(whole)
        assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_termination_signal_saves_and_ends_cleanly(world: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = {"evaluation__every": 1, "train__checkpoint_every": 0, "train__ema": 0.9}
    process = start(options(world, run, **changes))
    wait_until(lambda: len(read_log(run / "log.jsonl")) >= 2, process)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 0
    stopped_at = max(losses(run))
    assert last_checkpoint(run) == str(run / f"checkpoint-{stopped_at}")
    assert not (run / "model.safetensors").exists()
    train("custom", options(world, run, **changes, train__resume=True))
    assert losses(run) == losses(finished)  # bit for bit: same machine, one thread


def test_a_half_written_checkpoint_is_not_taken(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoint-10", tmp_path / "checkpoint-4")
    (tmp_path / ".writing-8").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-4")
    assert not (tmp_path / ".writing-8").exists()
    assert last_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json",
                                  "rng_state.pth", "moving_average.pt", "config.json"])  # fmt: skip
@pytest.mark.parametrize("damage", ["cut", "empty", "missing"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(
    file: str, damage: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 12):
        shutil.copytree(finished / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    broken = tmp_path / "checkpoint-12" / file
    content = broken.read_bytes()
    broken.unlink()
    if damage != "missing":
        broken.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert last_checkpoint(tmp_path, averaged=True) == str(tmp_path / "checkpoint-10")
    assert "checkpoint-12: is damaged" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "checkpoint-10")
    with pytest.raises(HoiError, match="none of its checkpoints can be read"):
        last_checkpoint(tmp_path, averaged=True)


def test_an_evaluation_that_was_lost_is_made_up_for(world: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "best")
    records = [line for line, r in read_log(run / "log.jsonl") if not (r["step"] == 12 and "eval_full" in r)]
    (run / "log.jsonl").write_text("".join(f"{line}\n" for line in records))
    more = {"evaluation__every": 1, "train__checkpoint_every_steps": 5, "train__ema": 0.9, "train__resume": True}
    train("custom", options(world, run, **more))
    (lost,) = [r for _, r in read_log(run / "log.jsonl") if r["step"] == 12 and "eval_full" in r]
    (first,) = [r for _, r in read_log(finished / "log.jsonl") if r["step"] == 12 and "eval_full" in r]
    assert lost["eval_full"] == first["eval_full"]
    assert json.loads((run / "best" / "metrics.json").read_text())["step"] == 12
    assert losses(run) == losses(finished)


# --- what stops it ---------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_the_images_and_saves_the_batch(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hoiclip.losses import HoiCriterion

    judge, calls = HoiCriterion.forward, []

    def broken(self: HoiCriterion, out: Any, targets: Any) -> Any:
        loss, terms = judge(self, out, targets)
        calls.append(1)
        return (loss * float("nan") if len(calls) == 3 else loss), terms

    monkeypatch.setattr(HoiCriterion, "forward", broken)
    with pytest.raises(HoiError, match="the loss is nan at step 2 with the images train00") as error:
        train("custom", options(world, tmp_path / "run"))
    (folder,) = (tmp_path / "run").glob("broken-*")
    assert str(folder) in str(error.value)
    saved = torch.load(folder / "batch.pt", weights_only=True)
    assert all(name in str(error.value) for name in saved["file_names"])
    model = hoiclip.HoiClipModel.from_pretrained(folder).train()
    again = model(**saved["batch"])
    assert torch.isfinite(again.loss)  # the fault was in the loss, not in weights or pictures


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data__root": None}, r"data\.root is missing"),
        ({"data__root": "/nowhere"}, "/nowhere: no such"),
        ({"train__freeze": ["backbon"]}, r"train\.freeze: no parameter starts with 'backbon'"),
        ({"verbs__file": "missing.safetensors"}, "missing.safetensors: no such file"),
        ({"model__detr": "/nowhere/detr"}, "/nowhere/detr"),
    ],
)
def test_missing_things_are_named_before_training(
    world: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HoiError, match=sentence):
        train("custom", options(world, tmp_path / "run", **changes))


# --- other ways to train ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"train__accumulate": 2, "train__gradient_checkpointing": True, "model__dropout": 0.1},
        {"train__precision": "bf16", "data__augment": False},
        {"model__variant": "gen-vlkt", "model__verb_classifier": False},
        {"verbs__method": "sentence", "train__freeze": ["detector.backbone", "detector.encoder"]},
        {"verbs__method": "average", "verbs__source": "seen", "data__fraction": 0.5, "data__hold_out": 0.25},
    ],
    ids=["accumulated", "bf16", "gen-vlkt", "sentence", "fractional"],
)
def test_other_ways_to_train(world: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    out = train("custom", options(world, tmp_path / "run", train__max_steps=2, train__checkpoint_every=0, **changes))
    assert list(losses(out)) == [1, 2]
    assert hoiclip.HoiClipModel.from_pretrained(out).config.num_interactions == 5


def test_accumulated_gradients_see_the_same_images_as_one_batch(world: Path, tmp_path: Path) -> None:
    changes = {"train__max_steps": 1, "train__batch_size": 4, "data__augment": False, "train__checkpoint_every": 0}
    whole = train("custom", options(world, tmp_path / "whole", **changes))
    parts = train("custom", options(world, tmp_path / "parts", **changes, train__accumulate=2))
    assert losses(parts)[1] == pytest.approx(losses(whole)[1], rel=0.5)  # each pass is normalised by itself


def test_training_continues_from_a_trained_model(world: Path, finished: Path, tmp_path: Path) -> None:
    changes = {"model__start": finished, "train__max_steps": 1, "train__checkpoint_every": 0}
    out = train("custom", options(world, tmp_path / "run", **changes))
    assert losses(out)[1] < losses(finished)[1]


# --- parts -----------------------------------------------------------------------------------------


def test_the_backbone_learns_slower_and_frozen_parts_not_at_all() -> None:
    model = tiny_model()
    groups = {g["name"]: g for g in optimizer_groups(model, 1e-4, 1e-5)}
    names = {id(p): n for n, p in model.named_parameters()}
    assert set(groups) == {"rest", "backbone"}
    assert (groups["rest"]["lr"], groups["backbone"]["lr"]) == (1e-4, 1e-5)
    backbone = {names[id(p)] for p in groups["backbone"]["params"]}
    assert all(name.startswith("detector.backbone.") for name in backbone)
    assert any("stages.1" in name for name in backbone)
    assert not any("stages.0" in name or "embedder" in name for name in backbone)
    rest = {names[id(p)] for p in groups["rest"]["params"]}
    assert {"verbs.weight", "logit_scale", "detector.human_queries.weight"} <= rest
    assert not any(name.startswith(("clip.", "interactions.", "objects.")) for name in rest)


def test_the_baselines_text_classifiers_learn_as_slowly_as_the_backbone() -> None:
    groups = {g["name"]: g for g in optimizer_groups(tiny_model(variant="gen-vlkt"), 1e-4, 1e-5)}
    assert set(groups) == {"rest", "backbone", "classifiers"}
    assert groups["classifiers"]["lr"] == 1e-5
    assert len(groups["classifiers"]["params"]) == 4  # two weights, two biases


def test_the_moving_average_follows_and_swaps() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
        average = MovingAverage(layer, decay=0.5)
        layer.weight.fill_(1.0)
    average.update(layer)
    assert average.average["weight"].item() == pytest.approx(1 - 2 / 11)  # young averages forget faster
    average.swap(layer)
    assert layer.weight.item() == pytest.approx(9 / 11)
    average.swap(layer)
    assert layer.weight.item() == 1.0


def test_each_epoch_has_its_own_reproducible_order() -> None:
    order = EpochSampler(20, seed=1)
    first = list(order)
    assert sorted(first) == list(range(20))
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first


def test_what_fills_no_batch_is_left_out_other_images_in_each_epoch() -> None:
    everything = EpochSampler(11, seed=1)
    order = EpochSampler(11, seed=1, batch=4)
    assert len(order) == 8
    assert list(order) == list(everything)[:8]
    left_out = set()
    for epoch in range(20):
        order.set_epoch(epoch)
        assert len(set(order)) == 8
        left_out |= set(range(11)) - set(order)
    assert left_out == set(range(11))
    assert sorted(EpochSampler(12, seed=1, batch=4)) == list(range(12))
    assert sorted(EpochSampler(3, seed=1, batch=4)) == [0, 1, 2]  # the only batch there is


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 6),  # seven images, batches of two: three steps in each of two epochs
        ({"train__drop_last": False}, 8),
        ({"train__batch_size": 4, "train__accumulate": 2}, 2),  # a step of two passes, not one of a pass and a half
        ({"train__batch_size": 8, "train__accumulate": 2}, 2),  # fewer images than one batch: a short step an epoch
    ],
    ids=["dropped", "kept", "accumulated", "short"],
)
def test_the_last_short_batch_of_an_epoch_is_dropped(
    world: Path, tmp_path: Path, changes: dict[str, Any], steps: int
) -> None:
    few = {"data__train_images": 7, "train__epochs": 2, "train__drop_epoch": 1, "train__checkpoint_every": 0}
    out = train("custom", options(world, tmp_path / "run", **few, **changes))
    records = [record for _, record in read_log(out / "log.jsonl") if "loss" in record]
    assert [record["step"] for record in records] == list(range(1, steps + 1))
    assert records[-1]["epoch"] == 2
    assert [r["learning_rate"] for r in records] == [1e-4] * (steps // 2) + [pytest.approx(1e-5)] * (steps // 2)


def test_a_run_that_drops_batches_goes_on_where_it_was(world: Path, tmp_path: Path) -> None:
    few = {"data__train_images": 7, "train__epochs": 2, "train__drop_epoch": 1, "train__checkpoint_every_steps": 1}
    whole = train("custom", options(world, tmp_path / "whole", **few))
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patched:
        real = HoiTrainer.training_step

        def killed_in_the_second_epoch(trainer: HoiTrainer, *args: Any, **kwargs: Any) -> Any:
            if trainer.state.global_step == 4:
                raise KeyboardInterrupt
            return real(trainer, *args, **kwargs)

        patched.setattr(HoiTrainer, "training_step", killed_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train("custom", options(world, run, **few))
    train("custom", options(world, run, **few, train__resume=True))
    assert losses(run) == losses(whole)


def test_a_run_begun_before_an_option_existed_goes_on(world: Path, tmp_path: Path) -> None:
    changes = {"train__max_steps": 1, "train__checkpoint_every_steps": 1}
    run = train("custom", options(world, tmp_path / "run", **changes))
    config = yaml.safe_load((run / "config.yaml").read_text())
    for name in ("annotations", "merge_near_copies"):
        del config["data"][name]
    del config["train"]["drop_last"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    train("custom", options(world, run, train__max_steps=2, train__resume=True, data__merge_near_copies=None))
    assert list(losses(run)) == [1, 2]
    hicodet = load_experiment("hicodet")
    before = asdict(hicodet)
    del before["data"]["merge_near_copies"]  # where it would change what is learned from, its absence means none
    with pytest.raises(HoiError, match=r"run: was started with data\.merge_near_copies None, not 0\.5"):
        _refuse_other_options(run, before, hicodet)


def test_a_run_keeps_what_it_learned_from_and_its_boxes_are_as_many_as_queries(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = HoiTrainingDataset.__init__

    def recording(dataset: HoiTrainingDataset, *args: Any, **kwargs: Any) -> None:
        real(dataset, *args, **kwargs)
        seen.append(dataset.max_boxes)

    monkeypatch.setattr(HoiTrainingDataset, "__init__", recording)
    changes = {"data__fraction": 0.5, "train__max_steps": 1, "model__num_queries": 5, "train__checkpoint_every": 0}
    run = train("custom", options(world, tmp_path / "run", **changes))
    assert seen == [5]
    record = json.loads((run / "data.json").read_text())
    assert record["images"] == 4
    assert record["file"]["images"] == 8
    assert Path(record["file"]["path"]).name == "train.json"
    assert sum(record["instances"].values()) == record["labels"] > 0
    assert set(record["instances"]) == {"ride bicycle", "hold bicycle", "ride horse", "feed horse", "hold umbrella"}
    told = capsys.readouterr().out
    assert f"{record['file']['path']}: 8 images, of which 4 are learned from; left out: 0 without pairs" in told
    assert "of 5 interactions have fewer than 10 instances in the training data" in told
