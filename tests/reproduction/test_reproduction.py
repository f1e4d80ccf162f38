"""``hoiclip reproduce``: which runs a table needs, that none is made twice, and what is written of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from training_world import tiny_options, write_parts

from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.data import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.experiments.data import SHIPPED_PARTS
from hoiclip.experiments.loading import load_experiment
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.reproduction import plan as reproduce
from hoiclip.reproduction import run_queue, runs
from hoiclip.reproduction.figure1 import render_groups, verb_groups
from hoiclip.reproduction.figures import draw_table, panels_of
from hoiclip.reproduction.plan import Plan, cell_experiment
from hoiclip.reproduction.tables import (
    CONTROL,
    DATASETS,
    TABLES,
    mean_and_deviation,
    paper_table,
    render_markdown,
    render_number,
)
from hoiclip.training.callbacks import read_log
from hoiclip.training.trainer import HoiTrainer
from hoiclip.vocabulary import HoiVocabulary


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def options(parts: Path) -> list[str]:
    small = tiny_options(
        parts,
        Path("nowhere"),
        data__shorter=64,
        data__longest=64,
        data__augment=False,
        data__train_images=6,
        data__evaluation_images=3,
        verbs__images=3,
        train__max_steps=2,
        train__checkpoint_every_steps=1,
        evaluation__batch_size=3,
    )
    return [option for option in small if not option.startswith("--out")]


# --- from training to Markdown ---------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_a_table_is_trained_once_and_written_beside_the_papers_numbers(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["reproduce", "table5", "--seeds", "0", "--out", str(tmp_path), *options]
    real = HoiTrainer.training_step
    steps: list[tuple[str, int]] = []

    def killed_in_the_third_run(trainer: HoiTrainer, *args: Any, **kwargs: Any) -> Any:
        steps.append((trainer.run_folder.name, trainer.state.global_step))
        if len(steps) == 6:
            raise KeyboardInterrupt
        return real(trainer, *args, **kwargs)

    monkeypatch.setattr(HoiTrainer, "training_step", killed_in_the_third_run)
    assert main(command) == 130
    assert [name for name, _ in steps] == [
        name
        for name in ("playground_base-seed0", "playground_clip-seed0", "playground_integration-seed0")
        for _ in "ab"
    ]
    first = (tmp_path / "table5.md").read_text()
    assert "| +CLIP | 0." in first
    assert "| +integration |  | 34.13 |" in first

    assert main(command) == 0  # goes on where it was
    assert steps[6:] == [("playground_integration-seed0", 1), ("playground-seed0", 0), ("playground-seed0", 1)]
    folders = sorted(folder.name for folder in (tmp_path / "runs").iterdir())
    assert folders == [f"playground{part}-seed0" for part in ("", "_base", "_clip", "_integration")]  # +free is +verb
    assert not list(tmp_path.glob("runs/*/checkpoint-*"))
    shown = capsys.readouterr().out
    assert "table5: 4 runs, 0 of them finished" in shown
    assert "table5: 4 runs, 2 of them finished" in shown
    assert "[2/2] playground-seed0: full" in shown

    content = json.loads((tmp_path / "table5.json").read_text())
    by_row = {cell["row"]: cell for cell in content["cells"]}
    assert by_row["+verb"]["runs"] == [{"seed": 0, "run": "playground-seed0", "top_k": 0}]
    assert by_row["+free"]["runs"] == [{"seed": 0, "run": "playground-seed0", "top_k": 20}]
    stored = json.loads((tmp_path / "runs" / "playground-seed0" / "test.json").read_text())
    assert list(stored["by_top_k"]) == ["0", "20"]
    assert by_row["+free"]["numbers"]["full"]["runs"] == [stored["by_top_k"]["20"]["full"]]
    assert stored["by_top_k"]["0"]["classes"][0]["interaction"] == "hold ball"
    assert stored["judged_on"]["split"] == "test"
    lines = (tmp_path / "table5.md").read_text().splitlines()
    assert "| row | Full | paper | Rare (fixed 20) | paper | Non-rare (fixed 70) | paper |" in lines
    for row, full, rare, non_rare in (("Base", 32.09, 26.68, 33.71), ("+free", 34.69, 31.12, 35.74)):
        line = next(line for line in lines if line.startswith(f"| {row} |"))
        assert [float(x) for x in line.split("|")[3:8:2]] == [full, rare, non_rare]
    assert Image.open(tmp_path / "table5.png").width > 900

    before = {file: os.stat(file).st_mtime_ns for file in tmp_path.glob("runs/*/*")}
    assert main(command) == 0
    assert len(steps) == 9
    assert {file: os.stat(file).st_mtime_ns for file in tmp_path.glob("runs/*/*")} == before

    assert main([*command, "--train.learning_rate", "0.5"]) == BAD_INPUT
    assert "playground_base-seed0: was trained with train.learning_rate" in capsys.readouterr().err


@pytest.mark.usefixtures("one_thread")
def test_a_run_killed_before_its_result_was_saved_needs_no_further_step(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: HoiTrainer) -> None:
        raise KeyboardInterrupt

    plan = Plan(paper_table("table6"), [0], tmp_path, options)
    run = plan.runs[0]
    with monkeypatch.context() as patched:
        patched.setattr(HoiTrainer, "save_result", killed)
        with pytest.raises(KeyboardInterrupt):
            runs.make_run(run)
    assert not run.trained
    monkeypatch.setattr(HoiTrainer, "training_step", None)
    assert runs.make_run(run).state == "done"
    assert run.finished
    assert [record["step"] for _, record in read_log(run.folder / "log.jsonl") if "loss" in record] == [1, 2]


@pytest.mark.slow
def test_two_processes_share_the_runs(options: list[str], tmp_path: Path) -> None:
    path = reproduce.reproduce("table6", seeds=[0], out=tmp_path, options=options, jobs=2)
    assert path is not None
    assert path.read_text().count("| 0.00 |") == 9
    with pytest.raises(HoiError, match="no such file; make it with"):  # told by the other process, raised here
        reproduce.reproduce(
            "table6", seeds=[1], out=tmp_path, options=[*options, "--verbs.file=missing.safetensors"], jobs=2
        )


def test_another_process_at_work_on_a_run_is_left_alone(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Plan(paper_table("table6"), [0], tmp_path, options).runs[0]
    with runs._claimed(run.folder, patient=False) as mine:
        assert mine
        assert runs.make_run(run).state == "busy"
    tried: list[bool] = []

    def make_run(_: runs.Run, *, patient: bool) -> runs.Outcome:
        tried.append(patient)
        return runs.Outcome("done" if patient or len(tried) > 1 else "busy")

    monkeypatch.setattr(run_queue, "make_run", make_run)
    assert [outcome.state for _, outcome in run_queue.run_all([run, run], jobs=1)] == ["done", "done"]
    assert tried == [False, False, True]


# --- which runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", TABLES)
def test_every_line_is_an_experiment(name: str, dataset: str, tmp_path: Path) -> None:
    table = paper_table(name, dataset)
    plan = Plan(table, [0, 1], tmp_path, [])
    expected = {"table1": 10, "table2": 8, "table5": 4, "table6": 3, "table7": 5, "figure1": 10}[name]
    if (name, dataset) == ("table2", "playground"):
        expected += 2  # the learned classifier
    assert len(plan.runs) == 2 * expected
    assert [run.experiment.seed for run in plan.runs] == [0] * expected + [1] * expected
    for run in plan.runs:
        assert run.experiment.data.source == dataset
        assert run.experiment.train.resume
        assert run.experiment.evaluation.every == 0  # judged once, at the end
        if name == "table7" and dataset == "hicodet":
            assert run.experiment.data.hold_out == 0.1
        elif dataset == "playground":
            assert run.experiment.data.evaluation_split == ("validation" if name == "table7" else "test")
        else:
            assert (run.experiment.data.hold_out, run.experiment.data.evaluation_split) == (0, None)
    for cell in table.cells:
        ours = {"rare"} if name == "table1" else set()  # the fixed list is not what the paper averages there
        assert (set(table.metrics) - ours <= set(dict(cell.paper))) is (cell.method != CONTROL)


@pytest.mark.parametrize(
    ("table", "method", "row", "config"),
    [
        ("table1", "HOICLIP", "15 %", "hicodet_15"),
        ("table1", "GEN-VLKT", "5 %", "gen_vlkt_5"),
        ("table2", "HOICLIP", "NF-UC", "hicodet_nf_uc"),
        ("table2", "GEN-VLKT", "UO", "gen_vlkt_uo"),
        ("table5", "", "Base", "hicodet_base"),
        ("table5", "", "+integration", "hicodet_integration"),
        ("table6", "", "“A photo of person doing”", "hicodet_verbs_sentence"),
        ("table6", "", "Average of HOI representation", "hicodet_verbs_average"),
        ("table7", "α", "0.25", "hicodet_alpha_025"),
        ("table7", "K", "10", "hicodet_top_k_10"),
    ],
)
def test_a_line_is_trained_as_its_shipped_experiment(table: str, method: str, row: str, config: str) -> None:
    found = paper_table(table, "hicodet")
    cell = next(cell for cell in found.cells if (cell.method, cell.row) == (method, row))
    ours = cell_experiment(cell, split=found.split)
    assert runs._deciding(ours) == runs._deciding(load_experiment(config))


def test_the_shipped_detector_can_guide_the_playgrounds_gen_vlkt() -> None:
    detector = json.loads((SHIPPED_PARTS / "detector" / "config.json").read_text())
    for cell in {cell.config: cell for table in TABLES for cell in paper_table(table).cells}.values():
        model = cell_experiment(cell).model
        if model.variant == "gen-vlkt":
            assert model.interaction_layers == detector["decoder_layers"], cell.config


def test_equal_weights_have_one_folder_and_options_of_the_line_win(tmp_path: Path) -> None:
    names = {table: {run.folder.name for run in Plan(paper_table(table), [2], tmp_path, []).runs} for table in TABLES}
    assert names["table1"] == names["figure1"]
    shared = [names[table] for table in ("table1", "table5", "table6", "table7")]
    assert set.intersection(*shared) == {"playground-seed2"}
    assert "playground_gen_vlkt-fraction-0.05-seed2" in names["table1"]
    assert "playground-vocabulary-playground_uv-seed2" in names["table2"]
    plan = Plan(paper_table("table1"), [0], tmp_path, ["--data.fraction=0.5", "--train.epochs=3"])
    assert {run.experiment.data.fraction for run in plan.runs} == {1.0, 0.5, 0.25, 0.15, 0.05}
    assert {run.experiment.train.epochs for run in plan.runs} == {3}
    enhanced = Plan(paper_table("table2"), [0], tmp_path, ["--model.zero_shot_top_k=5"])
    assert {run.top_ks for run in enhanced.runs} == {(0,), (0, 5)}


def test_the_command_of_every_line_is_listed_and_trains_that_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table2", "--dataset", "hicodet", "--list", "--data.root", "hico"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = paper_table("table2", "hicodet").cells
    assert len(lines) == len(cells)
    assert "HOICLIP RF-UC: hoiclip train hicodet --data.root=hico --vocabulary hico_rf_uc" in lines
    for line, cell in zip(lines, cells, strict=True):
        words = line.partition("hoiclip train ")[2].partition("#")[0].split()
        typed = load_experiment(words[0], words[1:])
        ours = cell_experiment(cell, ["--data.root=hico"])
        assert runs._deciding(typed) == runs._deciding(ours)


def test_mistakes_get_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "table5", "--out", str(tmp_path), "--train.epoch", "3"])
    assert stop.value.code == BAD_INPUT
    assert "unrecognized arguments: --train.epoch 3; did you mean --train.epochs" in capsys.readouterr().err
    assert main(["reproduce", "table5", "--dataset", "hicodet", "--data.root", str(tmp_path / "no"), "--out",
                 str(tmp_path)]) == BAD_INPUT  # fmt: skip
    assert str(tmp_path / "no") in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["reproduce", "table5", "--seeds", "0;1"])
    assert "'0;1' is no list of whole numbers such as 0,1,2" in capsys.readouterr().err
    with pytest.raises(HoiError, match="unknown table 'table3': choose one of table1"):
        paper_table("table3")


def test_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HoiError, match="start it without a launcher, with --jobs"):
        reproduce.reproduce("table5", out=tmp_path)


# --- numbers ---------------------------------------------------------------------------------------


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    assert mean_and_deviation([0.2, 0.4, 0.9]) == (pytest.approx(0.5), pytest.approx(0.13**0.5))
    assert mean_and_deviation([0.25]) == (0.25, None)
    assert render_number([0.2, 0.4, 0.9]) == "50.00 ± 36.06"
    assert render_number([0.25]) == "25.00"
    assert render_number([]) == ""


def fake(table: Any, number: Callable[[Any, str, int], float]) -> dict[Any, list[dict[str, Any]]]:
    return {cell: [{m: number(cell, m, k) for m in table.metrics} for k in range(3)] for cell in table.cells}


def test_markdown_says_how_many_runs_there_are() -> None:
    table = paper_table("table5")
    results = fake(table, lambda cell, metric, k: 0.5 + 0.1 * k)
    results[table.cells[1]] = results[table.cells[1]][:2]
    del results[table.cells[2]]
    lines = render_markdown(table, results, [0, 1, 2], "Verb vectors: `paper`.").splitlines()
    assert lines[2].startswith("mAP in percent on the test split of the playground, seeds 0, 1, 2, mean ± sample")
    assert lines[2].endswith("Verb vectors: `paper`.")
    assert "| Base | 60.00 ± 10.00 | 32.09 | 60.00 ± 10.00 | 26.68 | 60.00 ± 10.00 | 33.71 |" in lines
    assert any(line.startswith("| +CLIP (2 of 3 runs) | 55.00 ± 7.07 | 32.72 |") for line in lines)
    assert "| +integration |  | 34.13 |  | 30.54 |  | 35.20 |" in lines


def table_of_stored_runs(out: Path, options: list[str], recorded: bool) -> tuple[str, dict[str, Any]]:
    """Table 1 of runs that exist on disk alone: those that learned from more saw more of each interaction."""
    plan = Plan(paper_table("table1"), [0], out, options)
    vocabulary = HoiVocabulary.from_name("playground")
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        (run.folder / "trained.json").write_text("{}")
        classes = [{"ap": k / 90} for k in range(89)] + [{"ap": None}]
        result = {"full": 0.5, "rare": 0.25, "non_rare": 0.75, "unseen": None, "seen": None, "classes": classes}
        stored = {"judged_on": run.evaluated_on, "by_top_k": {str(k): result for k in run.top_ks}}
        (run.folder / "test.json").write_text(json.dumps(stored))
        if recorded:  # 100 %: classes 0 and 1 are rare; 5 %: 0 to 40
            few = 2 if run.experiment.data.fraction == 1 else 41
            counts = {vocabulary.interaction_name(k): 9 if k < few else 10 for k in range(90)}
            (run.folder / "data.json").write_text(json.dumps({"instances": counts}))
    path = plan.write(figure=False)
    return path.read_text(), json.loads(path.with_suffix(".json").read_text())


def test_table1_has_the_papers_rare_and_that_of_the_fixed_list(tmp_path: Path, options: list[str]) -> None:
    text, content = table_of_stored_runs(tmp_path, options, recorded=True)
    assert "| share | method | Full | paper | Rare (< 10 in the training data) | paper | Rare (fixed 20) |" in text
    assert "it is the paper's Rare" in text
    rows = [line for line in text.splitlines() if line.startswith("| 100 % | HOICLIP |")]
    assert rows == ["| 100 % | HOICLIP | 50.00 | 34.69 | 0.56 | 31.30 | 25.00 |"]
    assert "| 5 % | GEN-VLKT | 50.00 | 15.84 | 22.22 | 13.31 | 25.00 |" in text
    cell = next(cell for cell in content["cells"] if (cell["method"], cell["row"]) == ("HOICLIP", "5 %"))
    assert cell["runs"][0]["rare_classes_in_training"] == 41
    assert cell["numbers"]["rare_in_training"]["paper"] == 21.94
    assert cell["numbers"]["rare"] == {"mean": 0.25, "std": None, "runs": [0.25], "paper": None}


def test_runs_of_earlier_versions_without_a_record_are_counted_anew(tmp_path: Path, options: list[str]) -> None:
    few = [*options, "--data.train_images", "40"]
    _, content = table_of_stored_runs(tmp_path, few, recorded=False)
    by_row = {cell["row"]: cell for cell in content["cells"] if cell["method"] == "HOICLIP"}
    scenes = PlaygroundDataset(0, 40)
    counts = np.bincount(np.concatenate([scenes.annotation(i).hoi_ids for i in range(40)]), minlength=90)
    rare = np.flatnonzero(counts[:89] < 10)
    assert by_row["100 %"]["runs"][0]["rare_classes_in_training"] == (counts < 10).sum()
    assert by_row["100 %"]["numbers"]["rare_in_training"]["mean"] == pytest.approx((rare / 90).mean())


def test_the_figure_shows_ours_solid_with_its_spread_and_the_papers_dashed(tmp_path: Path) -> None:
    for dataset, shape in (("playground", [2, 2]), ("hicodet", [2])):
        table = paper_table("table1", dataset)
        rows = panels_of(table, fake(table, lambda cell, metric, k: 0.3 + 0.1 * k))
        assert [len(panels) for panels in rows] == shape
        curves = {(c.label, c.dashed): c for panels in rows for panel in panels[:1] for c in panel.curves}
        assert set(curves) == {(m, d) for m in ("HOICLIP", "GEN-VLKT") for d in (False, True)}
        assert rows[0][0].ticks == ["5 %", "15 %", "25 %", "50 %", "100 %"]
        assert curves["HOICLIP", True].values == pytest.approx([22.64, 27.07, 28.44, 30.88, 34.69])
        assert curves["HOICLIP", False].values == pytest.approx([40] * 5)
        assert curves["HOICLIP", False].deviations == pytest.approx([10] * 5)
    for name in ("table2", "table6", "table7"):
        draw_table(paper_table(name), {}, tmp_path / f"{name}.png")  # nothing has been run yet
        assert Image.open(tmp_path / f"{name}.png").height > 400


def test_verbs_are_grouped_by_their_training_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = HoiVocabulary.from_words("ride horse, ride bicycle, feed horse, hold umbrella")
    hoi_ids = np.array([0, 0, 1, 1, 1, 2, 2, 3])
    pair = np.tile([[0, 1]], (8, 1))
    image = AnnotatedImage("a.jpg", np.array([[0, 0, 9, 9], [5, 5, 9, 9]]), np.array([0, 1]), pair, hoi_ids, (10, 10))

    data = SimpleNamespace(train=[(None, image)], vocabulary=vocabulary)
    monkeypatch.setattr("hoiclip.reproduction.figure1.open_run_data", lambda experiment: data)
    table = paper_table("figure1")
    judged = [{"classes": [{"ap": ap} for ap in aps]} for aps in ([0.2, 0.4, 0.5, None], [0.4, 0.6, 0.7, None])]
    results = {next(c for c in table.cells if (c.method, c.row) == ("HOICLIP", "100 %")): judged}
    monkeypatch.setattr("hoiclip.reproduction.figure1.GROUPS", 2)
    rare, common = verb_groups(table, results, load_experiment("playground"))
    assert (rare["instances"], rare["verbs"]) == ([1, 2], ["hold", "feed"])
    assert rare["HOICLIP"] == {"mean": pytest.approx(0.6), "variance": 0}  # hold was never judged
    assert (common["instances"], common["verbs"]) == ([5, 5], ["ride"])
    assert common["HOICLIP"]["mean"] == pytest.approx(0.4)  # (0.3 + 0.5) / 2
    assert "| 1\N{EN DASH}2 | hold, feed | 60.00 ± 0.00 |" in render_groups([rare, common])
