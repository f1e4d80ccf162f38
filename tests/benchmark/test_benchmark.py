"""`hoiclip bench`: what is counted and compared is right; how long it takes is nobody's business here."""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_model
from torch import nn

from hoiclip.benchmark.baseline import PlainComposition
from hoiclip.benchmark.comparison import differences
from hoiclip.benchmark.job import BASELINE, BASELINE_KEEPING_MEMORY, Job
from hoiclip.benchmark.measurement import PeakMemory, count_operations, matmul_peak, resident_mib, seconds_of
from hoiclip.benchmark.report import comparison, doubts, read_results, table
from hoiclip.benchmark.runner import bench, parse_batches, parse_names, parse_sizes, run_in_process
from hoiclip.benchmark.synthetic import draw_photo, draw_photos
from hoiclip.benchmark.worker import measure
from hoiclip.cli import main
from hoiclip.cli.arguments import BAD_INPUT
from hoiclip.errors import HoiError
from hoiclip.images import resized_size

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


# --- instruments -----------------------------------------------------------------------------------


def test_operations_are_those_counted_by_hand() -> None:
    linear, convolution = nn.Linear(6, 10), nn.Conv2d(3, 5, 3, groups=1)
    q, k, v = torch.randn(2, 4, 10, 8), torch.randn(2, 4, 20, 8), torch.randn(2, 4, 20, 8)
    attention = nn.functional.scaled_dot_product_attention
    with torch.inference_mode():
        assert count_operations(lambda: linear(torch.zeros(7, 6))) == 2 * 7 * 6 * 10
        assert count_operations(lambda: convolution(torch.zeros(2, 3, 9, 9))) == 2 * 2 * 7 * 7 * 5 * 27
        products = 2 * 2 * 4 * 10 * 20 * (8 + 8)  # with the keys, then with the values
        assert count_operations(lambda: attention(q, k, v)) == products
        assert count_operations(lambda: attention(q, k, v, attn_mask=torch.zeros(2, 1, 1, 20))) == products
        assert count_operations(lambda: torch.relu(q) + 1) == 0


def test_a_model_has_twice_the_operations_on_two_pictures() -> None:
    model = tiny_model()

    def work(batch: int) -> Any:
        return model(torch.zeros(batch, 3, 64, 96), torch.ones(batch, 64, 96).long(), torch.zeros(batch, 3, 32, 32))

    with torch.inference_mode():
        one, two = count_operations(lambda: work(1)), count_operations(lambda: work(2))
    assert two == 2 * one > 10**6


def test_seconds_are_those_of_each_call() -> None:
    calls = []
    times = seconds_of(lambda: calls.append(1), 5, CPU)
    assert len(times) == len(calls) == 5
    assert all(0 <= t < 60 for t in times)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_matmul_peak_is_a_positive_number_or_none(precision: str) -> None:
    peak = matmul_peak(precision, CPU, side=64, seconds=0.01)
    assert peak is None if precision == "int8" and peak is None else peak > 10**6  # type: ignore[operator]


def test_peak_memory_sees_a_large_array() -> None:
    before = resident_mib()
    memory = PeakMemory(CPU)
    block = np.frombuffer(mmap.mmap(-1, 64 * 2**20))  # fresh pages, never what an earlier test has freed
    block[:] = 1
    assert memory.mib() > before + 60


# --- what is measured with -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(800, 1066), (800, 1333), (1066, 800), (640, 640), (97, 131)])
def test_photographs_are_seen_at_exactly_the_size_asked_for(tmp_path: Path, size: tuple[int, int]) -> None:
    assert resized_size((2 * size[0], 2 * size[1]), min(size), max(size)) == size
    small = (size[0] // 8, size[1] // 8)
    draw_photos(tmp_path / "photos", small, 2, seed=3)
    files = sorted((tmp_path / "photos").iterdir())
    assert [f.name for f in files] == ["0000.jpg", "0001.jpg"]
    with Image.open(files[0]) as picture:
        assert picture.size == (2 * small[1], 2 * small[0])
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_seed_draws_the_same_photograph() -> None:
    a, b, other = (np.asarray(draw_photo((30, 40), seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != other).mean() > 0.5


def test_the_plain_composition_is_the_models_detector_and_clip_without_our_decoder() -> None:
    config = tiny_config()
    plain, ours = PlainComposition(config).eval(), tiny_model()
    inputs = torch.zeros(1, 3, 64, 96), torch.ones(1, 64, 96).long(), torch.zeros(1, 3, 32, 32)
    with torch.inference_mode():
        detections, clip = plain(*inputs)
        assert detections.pred_boxes.shape == (1, 2 * config.num_queries, 4)
        assert clip.image_embeds.shape == (1, config.clip.projection_dim)
        assert count_operations(lambda: plain(*inputs)) < count_operations(lambda: ours(*inputs))
    assert len(plain.detector.model.decoder.layers) == len(ours.detector.decoder)


# --- how far apart answers are ---------------------------------------------------------------------


def outputs(seed: int = 0, images: int = 3, queries: int = 20, hoi: int = 12, objects: int = 5) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "human_boxes": random.random((images, queries, 4)),
        "object_boxes": random.random((images, queries, 4)),
        "object_logits": random.normal(size=(images, queries, objects + 1)),
        "interaction_logits": random.normal(size=(images, queries, hoi)),
        "object_ids": np.arange(hoi) % objects,
    }


def test_the_same_answers_are_all_alike() -> None:
    found = differences(outputs(), outputs())
    assert found == {"max_logit_difference": 0, "max_box_difference": 0, "top100_overlap": 1}


def test_differences_are_the_largest_and_the_overlap_is_of_queries_and_interactions() -> None:
    expected, got = outputs(), outputs()
    got["object_logits"] = got["object_logits"].copy()
    got["object_logits"][1, 2, -1] += 0.5  # "nothing there" takes no part in the ranking
    got["human_boxes"] = got["human_boxes"] - 0.25
    found = differences(expected, got)
    assert found["max_logit_difference"] == pytest.approx(0.5)
    assert found["max_box_difference"] == pytest.approx(0.25)
    assert found["top100_overlap"] == 1

    turned = {**expected, "interaction_logits": -expected["interaction_logits"]}
    turned["object_logits"] = -expected["object_logits"]
    # the best 100 of 240 against the worst 100
    assert differences(expected, turned)["top100_overlap"] < 0.2


def test_the_overlap_by_hand() -> None:
    expected = outputs(images=1, queries=1, hoi=102, objects=1)
    expected["object_logits"][:] = 0
    expected["interaction_logits"] = -np.arange(102.0)[None, None]
    got = {**expected, "interaction_logits": expected["interaction_logits"].copy()}
    got["interaction_logits"][0, 0, 101] = 1  # comes in; the hundredth goes out
    assert differences(expected, got)["top100_overlap"] == pytest.approx(0.99)


# --- rows ------------------------------------------------------------------------------------------


def test_one_row_in_this_process(tmp_path: Path, model_folder: Path) -> None:
    draw_photos(tmp_path / "photos", (64, 96), 3, seed=0)
    job = Job(
        str(model_folder),
        size=(64, 96),
        batch=2,
        repeats=2,
        photos=str(tmp_path / "photos"),
        keep=str(tmp_path / "kept.npz"),
    )
    row = measure(job)
    assert (row["backend"], row["precision"], row["size"], row["batch"]) == ("torch", "fp32", [64, 96], 2)
    for name in ("model_ms", "end_to_end_ms", "images_per_second", "peak_memory_mib", "matmul_peak_gflops", "load_s"):
        assert row[name] > 0, name
    with torch.inference_mode():
        model = tiny_model()
        inputs = torch.zeros(1, 3, 64, 96), torch.ones(1, 64, 96).long(), torch.zeros(1, 3, 32, 32)
        assert row["gflop_per_image"] == pytest.approx(count_operations(lambda: model(*inputs)) / 1e9)
    kept = np.load(tmp_path / "kept.npz")
    assert kept["interaction_logits"].shape == (3, 4, 6)  # three photographs, the last alone in its batch
    assert kept["object_ids"].tolist() == [0, 0, 1, 1, 2, 3]
    for baseline in (BASELINE, BASELINE_KEEPING_MEMORY):
        plain = measure(replace(job, backend=baseline))
        assert plain["backend"] == baseline
        assert plain["images_per_second"] is None
        assert 0 < plain["gflop_per_image"] < row["gflop_per_image"]


def test_graph_runtimes_are_measured_from_an_exported_folder(tmp_path: Path, model_folder: Path) -> None:
    draw_photos(tmp_path / "photos", (64, 96), 3, seed=0)
    kept = {}
    for backend in ("torch", "openvino"):
        keep = tmp_path / f"{backend}.npz"
        row = measure(
            Job(
                str(model_folder), backend, size=(64, 96), repeats=2, photos=str(tmp_path / "photos"),
                keep=str(keep),
            )
        )  # fmt: skip
        for name in ("model_ms", "end_to_end_ms", "images_per_second", "peak_memory_mib", "load_s"):
            assert row[name] > 0, name
        kept[backend] = dict(np.load(keep))
    assert kept["openvino"].keys() == kept["torch"].keys()
    difference = differences(kept["torch"], kept["openvino"])
    assert 0 < difference["max_logit_difference"] < 1e-3
    row = measure(Job(str(model_folder), "openvino", "int4", size=(64, 96)))
    assert row["error"].startswith("--precision int4: unknown; choose one of fp32, bf16, int8")


def test_a_row_in_a_fresh_process_and_what_goes_wrong_in_one(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    row = run_in_process(Job(str(model_folder), size=(64, 96), repeats=1))
    assert row["model_ms"] > 0
    assert row["size"] == [64, 96]
    monkeypatch.setattr("hoiclip.benchmark.runner.sys.executable", "false")
    broken = run_in_process(Job(str(model_folder), size=(64, 96)))
    assert set(broken) == {"backend", "precision", "device", "size", "batch", "error"}
    assert broken["error"] == "the process ended with code 1"


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    row = measure(Job(str(tmp_path / "nothing")))
    assert row["error"].startswith(f"{tmp_path / 'nothing'}: no such model folder")
    assert (row["backend"], row["precision"]) == ("torch", "fp32")


def fake(job: Job) -> dict[str, Any]:
    """Rows of a machine where everything takes a known time."""
    if job.backend == "compile":
        return {"backend": "compile", "precision": job.precision, "size": [64, 96], "batch": 1, "error": "no compiler"}
    seconds = {"torch-fp32": 2.0, "torch-bf16": 0.5, f"{BASELINE}-fp32": 3.0, f"{BASELINE_KEEPING_MEMORY}-fp32": 1.6}[
        f"{job.backend}-{job.precision}"
    ]
    if job.keep:
        np.savez(job.keep, **outputs())
    return {
        "backend": job.backend,
        "precision": job.precision,
        "size": list(job.size),
        "batch": job.batch,
        "model_ms": 1000 * seconds,
        "model_ms_best": 900 * seconds,
        "end_to_end_ms": 1100 * seconds if job.photos else None,
        "images_per_second": 0.9 / seconds if job.photos else None,
        "peak_memory_mib": 100.0,
        "matmul_peak_gflops": 160.0,
        **({"gflop_per_image": 80.0} if job.backend == "torch" and job.precision == "fp32" else {}),
    }


def test_ratios_are_to_eager_fp32_of_the_same_size_and_batch(model_folder: Path) -> None:
    results = bench(
        model_folder,
        backends=["torch", "compile"],
        precisions=["fp32", "bf16", "int8"],
        sizes=[(64, 96)],
        device="cpu",
        images=1,
        run=fake,
    )
    rows = {(r["backend"], r["precision"]): r for r in results["rows"]}
    assert list(rows) == [
        ("torch", "fp32"),
        (BASELINE, "fp32"),
        (BASELINE_KEEPING_MEMORY, "fp32"),
        ("torch", "bf16"),
        ("torch", "int8"),
        ("compile", "fp32"),
        ("compile", "bf16"),
        ("compile", "int8"),
    ]
    assert [rows[key]["speedup"] for key in list(rows)[:4]] == pytest.approx([1, 2 / 3, 1.25, 4])
    assert [rows[key]["baseline_speedup"] for key in list(rows)[:4]] == pytest.approx([1.5, 1, 1.875, 6])
    assert rows["torch", "bf16"]["speedup_best"] == pytest.approx(4)
    fast = rows["torch", "bf16"]
    assert fast["end_to_end_speedup"] == pytest.approx(4)
    assert fast["of_model_rate"] == pytest.approx(0.9)
    assert fast["gflops"] == pytest.approx(160)
    assert fast["fraction_of_peak"] == pytest.approx(1)
    assert fast["top100_overlap"] == 1
    assert rows["torch", "fp32"]["again"] == 1
    assert rows["compile", "fp32"]["error"] == "no compiler"
    assert "int8" in rows["torch", "int8"]["error"]  # no process is started for what does not exist
    text = table(results)
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 2 + 8
    assert (
        "| torch | bf16 | 64x96 | 1 | 500 | 4.00 | 6.00 | 550 | 1.80 | 4.00 | 0.90 | 100 | 80.0 | 160 | 100% | 0 |"
        in text
    )
    assert "compile fp32: no compiler" in lines
    json.dumps(results, allow_nan=False)


def results_of(model_folder: Path, **changes: Any) -> dict[str, Any]:
    results = bench(model_folder, precisions=["fp32", "bf16"], sizes=[(64, 96)], device="cpu", images=1, run=fake)
    results["machine"] |= {"processor": "known", "features": "avx2", "load": 0.1, **changes}
    return results


def test_a_loaded_machine_and_a_base_that_moved_are_told(model_folder: Path) -> None:
    assert list(doubts(results_of(model_folder))) == []
    (busy,) = doubts(results_of(model_folder, load=1.34))
    assert busy.startswith("other programs kept 1.3 cores busy when this began")
    for again, told in ((1.11, True), (1.09, False), (0.92, False), (0.90, True), (None, False)):
        results = results_of(model_folder)
        results["rows"][0]["again"] = again
        assert [f"took {again:.2f} times" in doubt for doubt in doubts(results)] == [True] * told


def test_numbers_of_another_day_stand_beside_todays(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "before.json"
    then = results_of(model_folder)
    then["settings"]["date"] = "2026-01-02"
    for row in then["rows"]:
        row["model_ms"] *= 2
    file.write_text(json.dumps(then))
    lines = comparison(results_of(model_folder), read_results(file)).splitlines()
    assert lines[0] == f"Beside {file}, of 2026-01-02 on known:"
    assert "| torch | bf16 | 64x96 | 1 | 1000 | 500 | 0.50 | 4.00 | 4.00 |" in lines
    other = comparison(results_of(model_folder, features="avx2 avx512f"), read_results(file))
    assert "another machine: only the speed-ups" in other
    then["rows"] = [row for row in then["rows"] if row["precision"] == "int8"]
    file.write_text(json.dumps(then))
    assert "no row in common" in comparison(results_of(model_folder), read_results(file))


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"rows": 3}', '{"rows": [{}]}', '{"rows": [], "settings": 1}']
)
def test_what_is_no_bench_is_refused_before_anything_is_measured(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "before.json"
    if content is not None:
        file.write_text(content)
    assert main(["bench", "--compare", str(file)]) == BAD_INPUT
    assert capsys.readouterr().err.startswith(f"hoiclip: {file}: ")


def test_what_would_take_minutes_a_pass_is_not_begun(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "hoiclip.benchmark.worker.matmul_peak", lambda precision, device: 8e8 if precision == "bf16" else 1e11
    )
    slow = Job(str(model_folder), precision="bf16", size=(64, 96), repeats=1, gflop=180.0)
    assert measure(slow)["error"].startswith("not measured: this machine multiplies 0.8 GFLOP/s in bf16")
    assert measure(replace(slow, gflop=0.1))["matmul_peak_gflops"] == 100  # openvino falls back to float32


def test_a_baseline_that_fails_ends_the_run(model_folder: Path) -> None:
    def broken(job: Job) -> dict[str, Any]:
        return {"backend": job.backend, "precision": job.precision, "error": "out of memory"}

    with pytest.raises(HoiError, match="eager fp32, the measure of all rows, failed: out of memory"):
        bench(model_folder, sizes=[(64, 96)], device="cpu", images=1, run=broken)


# --- the command -----------------------------------------------------------------------------------


def test_the_command_writes_rows_and_a_table(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip.benchmark.runner.run_in_process", measure)
    out = tmp_path / "deep" / "bench.json"
    options = ["--size", "64x96", "--images", "2", "--repeats", "2", "--device", "cpu"]
    assert main(["bench", "--model", str(model_folder), *options, "--precisions", "bf16", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("| torch | ") == 2
    assert "| transformers | fp32 |" in printed.out
    results = json.loads(out.read_text())
    ours, plain, kept, fast = results["rows"]
    assert (fast["backend"], fast["precision"]) == ("torch", "bf16")
    assert ours["speedup"] == 1
    assert ours["max_logit_difference"] == 0  # bit for bit: same machine, same number of threads
    assert ours["top100_overlap"] == 1
    assert 0 < fast["max_logit_difference"] < 1
    assert fast["speedup"] == pytest.approx(ours["model_ms"] / fast["model_ms"])
    assert plain["gflop_per_image"] == kept["gflop_per_image"] < ours["gflop_per_image"] == fast["gflop_per_image"]
    assert results["settings"]["seed"] == 0
    assert results["machine"]["versions"]["torch"] == torch.__version__
    assert all(math.isfinite(row["peak_memory_mib"]) for row in results["rows"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--backends", "tensorrt"], "unknown backend 'tensorrt': choose from torch, compile, onnx, openvino"),
        (["--precisions", "fp4"], "unknown precision 'fp4': choose from fp32, bf16, int8"),
        (["--backends", ","], "--backends: name at least one"),
        (["--size", "800"], "--size: '800' is no HEIGHTxWIDTH"),
        (["--size", "800x0"], "--size: '800x0' is no HEIGHTxWIDTH"),
        (["--batch", "1,x"], "--batch: '1,x' is no list of whole numbers"),
        (["--model", "nowhere"], "nowhere: no model folder"),
        (["--device", "cuda:99"], "device cuda:99 is not available here"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], complaint: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in options else ["--model", str(model_folder)]
    assert main(["bench", *model, *options]) == BAD_INPUT
    told = capsys.readouterr().err
    assert told.startswith(f"hoiclip: {complaint}")
    assert told.count("\n") == 1


def test_lists_between_commas() -> None:
    assert parse_names("--x", "a, b,a") == ["a", "b"]
    assert parse_sizes("800x1066,64x96") == [(800, 1066), (64, 96)]
    assert parse_batches("1,16") == [1, 16]
