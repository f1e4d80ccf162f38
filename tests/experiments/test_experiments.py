"""Experiments: every shipped file is valid, says what the paper says, and mistakes get one sentence."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
import yaml

from hoiclip import HoiVocabulary
from hoiclip.errors import HoiError
from hoiclip.experiments.limits import LIMITS
from hoiclip.experiments.loading import experiment_names, load_experiment
from hoiclip.models.configuration import HoiClipConfig
from hoiclip.training.arguments import schedule_of, training_arguments

PAPER = [
    "hicodet",
    *(f"hicodet_{s}" for s in ("rf_uc", "nf_uc", "uo", "uv", "uc0", "uc1", "uc2", "uc3", "uc4", "5", "15", "25", "50")),
    *(f"hicodet_{s}" for s in ("base", "clip", "integration", "verb", "free")),
    *(f"hicodet_verbs_{s}" for s in ("sentence", "average", "arithmetic")),
    *(f"hicodet_alpha_{s}" for s in ("000", "025", "050", "075", "100")),
    *(f"hicodet_top_k_{s}" for s in ("00", "05", "10", "15", "20")),
    *(f"gen_vlkt{s}" for s in ("", "_rf_uc", "_nf_uc", "_uo", "_uv", "_5", "_15", "_25", "_50", "_vcoco")),
    "vcoco",
    "playground",
    *(f"playground_{s}" for s in ("rf_uc", "nf_uc", "uo", "uv")),
]


def test_every_cell_of_the_papers_tables_has_an_experiment() -> None:
    for name in PAPER:
        assert load_experiment(name).name == name


@pytest.mark.parametrize("name", [*experiment_names(), *(n for n in PAPER if n not in experiment_names())])
def test_every_shipped_experiment_is_valid(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.name == name
    assert experiment.out == f"runs/{name}"
    if experiment.vocabulary is not None:
        HoiVocabulary.from_name(experiment.vocabulary)
    model = experiment.model
    HoiClipConfig(variant=model.variant, interaction_memory=model.interaction_memory)
    schedule = schedule_of(experiment)
    assert 0 < schedule.drop_epoch <= schedule.epochs


def test_the_default_is_what_the_paper_says() -> None:
    experiment = load_experiment("hicodet")
    train, model = experiment.train, experiment.model
    assert (train.epochs, train.drop_epoch, train.drop_factor) == (90, 60, 0.1)
    assert (train.learning_rate, train.backbone_learning_rate, train.weight_decay) == (1e-4, 1e-5, 1e-4)
    assert (train.batch_size, train.clip_norm) == (16, 0.1)
    assert (model.num_queries, model.interaction_layers, model.verb_weight, model.zero_shot_top_k) == (64, 3, 0.5, 10)
    assert load_experiment("vcoco").model.verb_weight == 0.5  # unit rows and the true matrix, as on HICO-DET
    base = load_experiment("hicodet_base").model
    assert (base.variant, base.distillation_weight) == ("gen-vlkt", 0)
    assert load_experiment("hicodet_uc3").vocabulary == "hico_uc3"
    assert load_experiment("hicodet_15").data.fraction == 0.15


def test_published_sets_what_ours_does_otherwise_on_purpose() -> None:
    published = ["--model.published", "true"]
    ours, theirs = load_experiment("hicodet"), load_experiment("hicodet", published)
    assert (ours.model.classifier_bias, ours.model.mask_padding, ours.train.normalise) == ("none", True, "global")
    model, train = theirs.model, theirs.train
    assert (model.classifier_bias, model.mask_padding, model.unused_parameters) == ("published", False, True)
    assert (train.normalise, train.virtual_processes, model.verb_weight) == ("process", 2, 0.5)
    assert load_experiment("vcoco", published).model.verb_weight == 0.1
    baseline = load_experiment("gen_vlkt", published)
    assert (baseline.train.normalise, baseline.train.virtual_processes) == ("process", 8)
    assert baseline.model.unused_parameters is False
    assert load_experiment("hicodet", ["--model.published", "false"]).model.mask_padding is True


def test_an_option_given_beside_published_wins_and_a_saved_run_reads_the_same(tmp_path: Path) -> None:
    experiment = load_experiment("hicodet", ["--model.published", "--model.mask_padding", "true"])
    assert experiment.model.mask_padding is True
    experiment.save(tmp_path / "config.yaml")
    again = load_experiment(tmp_path / "config.yaml")
    assert (again.model, again.train) == (experiment.model, experiment.train)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--train.accumulate=0", "train.accumulate must be at least 1, not 0"),
        ("--seed=-1", "seed must be at least 0 and at most"),
        ("--train.epochs=.nan", "train.epochs must be above 0, not nan"),
        ("--train.epochs=0", "train.epochs must be above 0, not 0"),
        ("--data.shorter=0", "data.shorter must be at least 1, not 0"),
        ("--model.num_queries=0", "model.num_queries must be at least 1"),
        ("--train.batch_size=0", "train.batch_size must be at least 1"),
        ("--data.workers=-1", "data.workers must be at least 0, not -1"),
        ("--train.max_steps=0", "train.max_steps must be at least 1"),
        ("--data.train_images=0", "data.train_images must be at least 1"),
        ("--data.evaluation_images=0", "data.evaluation_images must be at least 1"),
        ("--data.fraction=0", "data.fraction must be above 0 and at most 1"),
        ("--data.hold_out=1", "data.hold_out must be at least 0 and below 1"),
        ("--model.dropout=1", "model.dropout must be at least 0 and below 1"),
        ("--train.learning_rate=.inf", "train.learning_rate must be at least 0, not inf"),
        ("--data.scales=[480, 0]", "data.scales must be at least 1"),
        ("--data.scales=[]", "data.scales is empty"),
        ("--data.crop_range=[600, 384]", "data.crop_range must be the smallest and the largest"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_read(option: str, message: str) -> None:
    with pytest.raises(HoiError, match=re.escape(message)):
        load_experiment("hicodet", [option])


def test_every_option_that_is_a_number_has_limits() -> None:
    experiment = load_experiment("hicodet")
    groups = {"": experiment, **{g: getattr(experiment, g) for g in ("data", "model", "verbs", "train", "evaluation")}}
    names = {
        f"{group}.{name}".lstrip(".")
        for group, options in groups.items()
        for name, kind in typing.get_type_hints(type(options)).items()
        if {int, float} & {kind, *typing.get_args(kind)} or kind == list[int]
    }
    assert names == set(LIMITS)


def test_options_on_the_command_line_win_over_files() -> None:
    experiment = load_experiment(
        "hicodet_rf_uc",
        ["--train.batch_size", "8", "--train.learning_rate=3e-4", "--train.resume", "--data.scales=[64,96]"],
    )
    assert experiment.vocabulary == "hico_rf_uc"
    assert experiment.train.batch_size == 8
    assert experiment.train.learning_rate == 3e-4
    assert experiment.train.resume is True
    assert experiment.data.scales == [64, 96]
    assert load_experiment("hicodet", ["--train.max-steps", "null"]).train.max_steps is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["--train.epoch", "3"], "hicodet: unknown option train.epoch: did you mean train.epochs"),
        (["--train.batch_size", "many"], "hicodet: train.batch_size must be int, not 'many'"),
        (["--model.variant", "other"], "hicodet: model.variant must be one of hoiclip, gen-vlkt, not 'other'"),
        (["--data", "3"], "hicodet: data holds options, not the value 3"),
        (["--train.max_steps", "1.5"], "hicodet: train.max_steps must be int | None, not '1.5'"),
        (["batch", "3"], "'batch' is not understood: options look like --train.batch_size 8"),
    ],
)
def test_wrong_options_are_refused_with_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(HoiError) as error:
        load_experiment("hicodet", overrides)
    assert str(error.value) == sentence


@pytest.mark.parametrize("option", ["data.crop_range", "data.scales", "train.batch_size", "data.flip"])
def test_null_is_refused_where_it_means_nothing(tmp_path: Path, option: str) -> None:
    group, name = option.split(".")
    (tmp_path / "mine.yaml").write_text(f"base: hicodet\n{group}: {{{name}: null}}\n")
    with pytest.raises(HoiError, match=rf"mine\.yaml: {option} must be [\w\[\]]+, not null"):
        load_experiment(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("base: hicodet\nname: null\nout: null\ntrain: {ema: null}\n")
    assert load_experiment(tmp_path / "mine.yaml").name == "mine"


def test_unknown_experiments_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(HoiError, match="unknown experiment 'hicode': did you mean hicodet"):
        load_experiment("hicode")
    with pytest.raises(HoiError, match="no such file"):
        load_experiment(str(tmp_path / "missing.yaml"))
    (tmp_path / "a.yaml").write_text("base: b")
    (tmp_path / "b.yaml").write_text("base: a")
    with pytest.raises(HoiError, match="builds on itself"):
        load_experiment(tmp_path / "a.yaml")
    (tmp_path / "c.yaml").write_text("train: [")
    with pytest.raises(HoiError, match="is no YAML"):
        load_experiment(tmp_path / "c.yaml")


def test_a_file_of_ones_own_builds_on_a_shipped_one_and_writes_all_it_means(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: hicodet_5\nname: mine\ntrain: {epochs: 3, drop_epoch: 2}\n")
    experiment = load_experiment(tmp_path / "mine.yaml")
    assert (experiment.name, experiment.data.fraction, experiment.train.epochs) == ("mine", 0.05, 3)
    experiment.save(tmp_path / "whole.yaml")
    assert load_experiment(tmp_path / "whole.yaml") == experiment
    assert set(yaml.safe_load((tmp_path / "whole.yaml").read_text())) >= {"train", "data", "model", "verbs"}


def test_learning_rates_follow_the_batch_size_only_when_asked() -> None:
    assert schedule_of(load_experiment("hicodet", ["--train.batch_size=32"])).learning_rate == 1e-4
    scaled = schedule_of(load_experiment("hicodet", ["--train.batch_size=32", "--train.scale_learning_rate"]))
    assert (scaled.learning_rate, scaled.backbone_learning_rate) == (2e-4, 2e-5)


def test_the_batch_is_shared_among_processes_and_accumulated_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    accumulated = load_experiment("hicodet", ["--train.accumulate=4", "--train.cpu"])
    arguments = training_arguments(accumulated)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (4, 4)
    assert arguments.max_grad_norm == 0.1
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(HoiError, match=r"train\.batch_size 16 cannot be shared by 3 processes"):
        training_arguments(load_experiment("hicodet", ["--train.cpu"]))


def test_a_rule_instead_of_a_file_for_what_changes_one_option() -> None:
    assert not {"hicodet_5", "hicodet_rf_uc", "hicodet_free", "hicodet_alpha_050"} & set(experiment_names())
    assert load_experiment("gen_vlkt_nf_uc").vocabulary == "hico_nf_uc"
    assert load_experiment("playground_uv").vocabulary == "playground_uv"
    assert load_experiment("playground_5").data.fraction == 0.05
    assert load_experiment("hicodet_free").model == load_experiment("hicodet").model
    average = load_experiment("hicodet_verbs_average")
    assert (average.verbs.method, average.model.zero_shot_top_k) == ("average", None)
    alpha = load_experiment("hicodet_alpha_075")
    assert (alpha.model.verb_weight, alpha.data.hold_out, alpha.model.zero_shot_top_k) == (0.75, 0.1, None)
    assert load_experiment("hicodet_top_k_00").model.zero_shot_top_k is None
    assert load_experiment("hicodet_top_k_15").model.zero_shot_top_k == 15
    assert (load_experiment("hicodet_rf_uc", ["--data.fraction", "0.05"]).data.fraction) == 0.05
    for unknown in ("hicodet_7", "hicodet_xx_uc", "custom_rf_uc_", "nothing_5"):
        with pytest.raises(HoiError, match="unknown experiment"):
            load_experiment(unknown)


def test_the_old_name_of_an_option_reads_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.yaml").write_text("base: hicodet\ntrain: {remember_looks: true}\n")
    assert load_experiment(tmp_path / "old.yaml").train.cache_features is True
    assert "train.remember_looks is now called train.cache_features" in capsys.readouterr().err
    assert load_experiment("playground", ["--train.remember_looks=false"]).train.cache_features is False
