"""Models that travel through the hub, one on this machine (hub_server.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import READ, WRITE, Hub, Repository, serving
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import close_session
from PIL import Image
from tiny import tiny_model

import hoiclip
from hoiclip import HoiClipModel, HoiClipProcessor, HoiDetector, HoiError, HoiVocabulary, hub
from hoiclip.cli import main
from hoiclip.inference.export import export

NEEDED = {
    "README.md",
    "config.json",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocabulary.json",
}
NEW = HoiVocabulary.from_words("ride unicycle, hold cup")


@pytest.fixture
def at_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, an empty cache, no token."""
    with serving() as served:
        use(served.endpoint, tmp_path / "cache", monkeypatch)
        yield served
    close_session()


def use(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "no-token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", endpoint)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it keeps the endpoint it was made with
    monkeypatch.setattr(hub, "_answers", {})
    close_session()


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def found(detector: HoiDetector, image: Image.Image) -> list[Any]:
    inputs = detector.processor(image)
    with torch.inference_mode():
        outputs = detector.backend(**inputs)
    return [outputs.human_boxes, outputs.object_boxes, outputs.object_logits, outputs.interaction_logits]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def pushed(at_hub: Hub, model_folder: Path) -> Hub:
    hoiclip.load(model_folder, device="cpu").push_to_hub("owner/name", token=WRITE)
    return at_hub


# --- there and back ----------------------------------------------------------------------------------


def test_a_pushed_model_is_complete_and_one_commit(pushed: Hub, model_folder: Path) -> None:
    assert set(pushed.files("owner/name")) == NEEDED | {".gitattributes"}
    assert len(pushed.repositories["owner/name"].messages) == 2  # with the initial one
    assert not pushed.repositories["owner/name"].private
    small = b"".join(data for name, data in pushed.files("owner/name").items() if name != "model.safetensors")
    assert str(model_folder.parent).encode() not in small  # no path of this machine


def test_a_loaded_model_computes_bit_for_bit_what_was_pushed(
    pushed: Hub, model_folder: Path, image: Image.Image, one_thread: None
) -> None:
    before, after = hoiclip.load(model_folder, device="cpu"), hoiclip.load("owner/name", device="cpu")
    assert after.vocabulary == before.vocabulary
    assert same(found(before, image), found(after, image))


def test_new_words_are_read_by_the_tokenizer_of_the_repository(
    pushed: Hub, model_folder: Path, image: Image.Image, one_thread: None
) -> None:
    here, there = (hoiclip.load(source, device="cpu") for source in (model_folder, "owner/name"))
    asked = len(pushed.requests)
    assert same(found(here.set_vocabulary(NEW), image), found(there.set_vocabulary(NEW), image))
    assert len(pushed.requests) == asked  # of what the cache holds
    asked_at_once = hoiclip.load("owner/name", device="cpu", vocabulary=NEW)
    assert same(found(asked_at_once, image), found(there, image))


def test_a_second_load_needs_no_hub(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Image.Image, one_thread: None
) -> None:
    with serving() as served:
        use(served.endpoint, tmp_path / "cache", monkeypatch)
        hoiclip.load(model_folder, device="cpu").push_to_hub("owner/name", token=WRITE, revision="side")
        first = found(hoiclip.load("owner/name", revision="side", device="cpu"), image)
    monkeypatch.setattr(hub, "_answers", {})
    start = time.monotonic()
    detector = hoiclip.load("owner/name", revision="side", device="cpu")
    assert same(found(detector, image), first)
    detector.set_vocabulary(NEW)
    with pytest.raises(HoiError, match=r"owner/name: no folder .* cannot be reached, .* does not hold it; give"):
        hoiclip.load("owner/name")  # main was never asked for
    with pytest.raises(HoiError, match=r"does not hold it at revision other; give"):
        hoiclip.load("owner/name", revision="other")
    with pytest.raises(HoiError, match=r"owner/name: cannot be pushed to: the hub .* cannot be reached"):
        detector.push_to_hub("owner/name", token=WRITE)
    assert time.monotonic() - start < 20
    close_session()


def test_a_revision_is_what_was_pushed_to_it(at_hub: Hub, model_folder: Path) -> None:
    detector = hoiclip.load(model_folder, device="cpu")
    detector.push_to_hub("owner/name", token=WRITE)
    first = at_hub.repositories["owner/name"].branches["main"]
    detector.set_vocabulary(NEW).push_to_hub("owner/name", token=WRITE, revision="side", commit_message="other words")
    assert at_hub.repositories["owner/name"].branches["main"] == first
    assert at_hub.repositories["owner/name"].messages[-1] == "other words"
    tiny = hoiclip.load("owner/name", revision=first, device="cpu").vocabulary
    assert hoiclip.load("owner/name", device="cpu").vocabulary == tiny != NEW
    assert hoiclip.load("owner/name", revision="side", device="cpu").vocabulary == NEW
    assert HoiVocabulary.from_pretrained("owner/name", revision="side") == NEW
    assert HoiClipProcessor.from_pretrained("owner/name", revision="side").vocabulary == NEW
    assert HoiClipModel.from_pretrained("owner/name", revision="side").vocabulary == NEW
    assert 'revision="side"' in at_hub.files("owner/name", "side")["README.md"].decode()


@pytest.mark.parametrize(("to", "graph"), [("openvino", {"model.xml", "model.bin"}), ("onnx", {"model.onnx"})])
def test_an_exported_folder_travels_too(
    at_hub: Hub, model_folder: Path, tmp_path: Path, image: Image.Image, one_thread: None, to: str, graph: set[str]
) -> None:
    pytest.importorskip("openvino" if to == "openvino" else "onnxruntime")
    folder = export(model_folder, tmp_path / "graph", to)
    hoiclip.load(model_folder, device="cpu").push_to_hub("owner/name", token=WRITE)
    hoiclip.load(folder).push_to_hub("owner/name", token=WRITE)
    held = set(at_hub.files("owner/name"))
    assert graph | {"export.json", "vocabulary.json", "processor_config.json", "README.md"} <= held
    assert not held & {"config.json", "model.safetensors", "tokenizer.json"}  # of the model that was there before
    loaded = hoiclip.load("owner/name")
    assert loaded.backend.name == to
    assert same(found(hoiclip.load(folder), image), found(loaded, image))
    with pytest.raises(HoiError, match="keeps its vocabulary"):
        loaded.set_vocabulary(NEW)
    with pytest.raises(HoiError, match="owner/name: is exported already"):
        export("owner/name", tmp_path / "again", to)
    hoiclip.load(model_folder, device="cpu").push_to_hub("owner/name", token=WRITE)
    assert set(at_hub.files("owner/name")) == NEEDED | {".gitattributes"}  # and back
    assert hoiclip.load("owner/name", device="cpu").backend.name == "torch"


def test_what_save_pretrained_pushes_can_be_loaded(at_hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    detector = hoiclip.load(model_folder, device="cpu")
    assert detector.model is not None
    options = {"push_to_hub": True, "repo_id": "owner/name", "token": WRITE, "private": True}
    detector.model.save_pretrained(tmp_path / "model", **options)
    assert set(at_hub.files("owner/name")) >= NEEDED - {"processor_config.json"}
    with pytest.raises(HoiError, match=r"owner/name: no readable processor_config\.json"):
        hoiclip.load("owner/name", token=WRITE)
    detector.processor.save_pretrained(tmp_path / "processor", **options)
    assert set(at_hub.files("owner/name")) == NEEDED | {".gitattributes"}
    assert at_hub.repositories["owner/name"].private
    assert hoiclip.load("owner/name", token=WRITE, device="cpu").vocabulary == detector.vocabulary
    with pytest.raises(HoiError, match="forbids it to this token"):
        detector.processor.save_pretrained(tmp_path / "processor", **{**options, "token": READ})


def test_a_transformers_pipeline_gives_the_same_triplets(
    pushed: Hub, image: Image.Image, tmp_path: Path, one_thread: None
) -> None:
    from transformers import pipeline

    options = {"threshold": 0.0, "top_k": 3}
    pipe = pipeline("human-object-interaction", model="owner/name", device="cpu", **options)
    triplets = list(hoiclip.load("owner/name", device="cpu")(image, **options))
    assert len(triplets) == 3
    sides = ("xmin", "ymin", "xmax", "ymax")
    image.save(tmp_path / "photo.png")
    (one,) = pipe([str(tmp_path / "photo.png")])
    assert one == pipe(image)
    assert [(t["label"], t["score"]) for t in one] == [(t.name, t.score) for t in triplets]
    assert [t["object_box"] for t in one] == [dict(zip(sides, t.object_box, strict=True)) for t in triplets]
    assert len(pipe(image, top_k=1)) == 1
    with pytest.raises(TypeError, match="treshold: no option"):
        pipe(image, treshold=0.5)


def test_a_detector_made_of_parts_is_pushed_and_other_files_stay(at_hub: Hub, tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    others = {"notes.txt": b"mine", "pictures/one.json": b"{}", "checkpoint-1/model.safetensors": b"large"}
    at_hub.repositories["owner/name"] = Repository()
    at_hub.repositories["owner/name"].commit("main", {**others, "merges.txt": b"old"}, "first")
    assert model.vocabulary is not None
    HoiDetector(model, HoiClipProcessor(model.vocabulary, clip_size=32), device="cpu").push_to_hub(
        "owner/name", token=WRITE
    )
    files = at_hub.files("owner/name")
    assert set(files) == NEEDED | set(others)
    assert str(tokenizer).encode() not in files["config.json"]
    detector = hoiclip.load("owner/name", device="cpu")
    assert detector.folder is not None
    assert {path.name for path in detector.folder.iterdir()} == NEEDED - {"README.md"}


# --- who may -----------------------------------------------------------------------------------------


def test_a_private_model_needs_its_token_and_only_the_hub_sees_it(
    at_hub: Hub, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hoiclip.load(model_folder, device="cpu").push_to_hub("owner/secret", token=WRITE, private=True)
    assert at_hub.repositories["owner/secret"].private
    with pytest.raises(HoiError, match=r"owner/secret: the hub has no such model, or it is private; .*give a token"):
        hoiclip.load("owner/secret")
    assert hoiclip.load("owner/secret", token=READ, device="cpu").model is not None
    with pytest.raises(HoiError, match="or it is private"):
        hoiclip.load("owner/secret")  # an old copy in the cache is no leave
    assert {method for method, _ in at_hub.stored} == {"PUT", "GET"}
    assert {authorization for _, authorization in at_hub.stored} == {None}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5
    for token in (READ, WRITE):
        assert not [path for path in written if token.encode() in path.read_bytes()]
        assert token not in "".join(capsys.readouterr())
        assert not any(token.encode() in data for data in at_hub.files("owner/secret").values())


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("owner/other", {}, "no such model, or it is private; check the name, or give a token"),
        ("owner/other", {"token": READ}, "no such model, or this token may not see it"),
        ("owner/name", {"revision": "v9"}, "no branch, tag or commit 'v9'"),
        ("owner/name", {"token": "hf_wrong"}, "does not accept this token"),
        ("owner/na--me", {}, "is no folder here, and no id of the hub"),
        ("owner/", {}, "is no folder here, and no id of the hub"),
    ],
)
def test_a_refusal_is_one_sentence(pushed: Hub, source: str, options: dict[str, str], sentence: str) -> None:
    for load in (hoiclip.load, HoiClipModel.from_pretrained, HoiClipProcessor.from_pretrained):
        with pytest.raises(HoiError, match=f"^{source}: .*{sentence}") as told:
            load(source, **options)
        assert "\n" not in str(told.value)
        assert not [token for token in (READ, "hf_wrong") if token in str(told.value)]


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((403, ""), "forbids it to this token"),
        ((403, "GatedRepo"), "its owner wants to be asked first: ask at http://.*/owner/name"),
        ((418, ""), "refuses this with error 418"),
        ((503, ""), "answers with error 503; try again later"),
    ],
)
def test_a_hub_that_refuses_everything_is_told(pushed: Hub, refusal: tuple[int, str], sentence: str) -> None:
    pushed.refuse = refusal
    with pytest.raises(HoiError, match=f"^owner/name: .*{sentence}"):
        hoiclip.load("owner/name", token=READ)


def test_a_folder_has_no_revisions(model_folder: Path) -> None:
    with pytest.raises(HoiError, match=r"revision v1: .* has no revisions"):
        hoiclip.load(model_folder, revision="v1")


def test_a_repository_that_holds_no_model_is_told(at_hub: Hub) -> None:
    at_hub.repositories["owner/empty"] = Repository()
    at_hub.repositories["owner/empty"].commit("main", {"notes.txt": b"nothing"}, "first")
    with pytest.raises(HoiError, match=r"^owner/empty: no readable processor_config\.json"):
        hoiclip.load("owner/empty")


@pytest.mark.parametrize(
    ("repository", "options", "sentence"),
    [
        ("owner/name", {}, "pushing needs a token"),
        ("owner/name", {"token": READ}, "forbids it to this token"),
        ("else/name", {"token": WRITE}, "forbids it to this token"),
        ("owner/name", {"token": "hf_wrong"}, "does not accept this token"),
        ("name", {"token": WRITE}, "give owner/name"),
        ("owner/na--me", {"token": WRITE}, "no id of the hub"),
        ("owner/name", {"token": WRITE, "license": "nonsense"}, 'refuses what it is sent .*"license" must be one of'),
        ("owner/name", {"token": WRITE, "private": True}, "exists already and is public, so nothing was pushed"),
    ],
)
def test_a_push_that_is_refused_changes_nothing(
    pushed: Hub, model_folder: Path, repository: str, options: dict[str, Any], sentence: str
) -> None:
    before = dict(pushed.repositories["owner/name"].branches)
    with pytest.raises(HoiError, match=f"^{repository}: .*{sentence}"):
        hoiclip.load(model_folder, device="cpu", vocabulary=NEW).push_to_hub(repository, **options)
    assert pushed.repositories["owner/name"].branches == before


# --- the command, in a process of its own ------------------------------------------------------------


def environment(served: Hub, cache: Path, token: str | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    given = {"HF_ENDPOINT": served.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    return {**kept, **given, **({"HF_TOKEN": token} if token else {}), "OMP_NUM_THREADS": "1"}


def test_the_commands_push_and_detect(at_hub: Hub, model_folder: Path, tmp_path: Path, image: Image.Image) -> None:
    image.save(tmp_path / "photo.png")

    def run(*words: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hoiclip", *words],
            env=environment(at_hub, tmp_path / "home", token),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    push = run(
        "push", str(model_folder), "owner/name", "--private", "--revision", "v1", "--license", "mit", token=WRITE
    )
    assert push.returncode == 0, push.stderr
    assert push.stderr == ""
    assert push.stdout.startswith(f"{at_hub.endpoint}/owner/name/commit/")
    assert push.stdout.endswith("hoiclip detect PHOTO --model owner/name --revision v1\n")
    common = ("detect", "photo.png", "--model", "owner/name", "--revision", "v1", "--device", "cpu", "--threshold", "0")
    refused = run(*common)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "or it is private" in refused.stderr
    there = run(*common, "--token", READ, "--out", "there", "--interactions", "ride unicycle, hold cup")
    assert there.returncode == 0, there.stderr
    local = ("detect", "photo.png", "--model", str(model_folder), "--device", "cpu", "--threshold", "0")
    here = run(*local, "--out", "here", "--interactions", "ride unicycle, hold cup")
    assert here.returncode == 0, here.stderr
    assert (tmp_path / "there/detections.jsonl").read_bytes() == (tmp_path / "here/detections.jsonl").read_bytes()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if any(token.encode() in path.read_bytes() for token in (READ, WRITE))]


@pytest.mark.parametrize(
    "words", [["evaluate", "playground"], ["demo"], ["detect", "photo.png"]], ids=["evaluate", "demo", "detect"]
)
def test_every_command_that_takes_a_model_passes_revision_and_token_on(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    image: Image.Image,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(source: str, **options: Any) -> None:
        raise HoiError(f"asked for {source} at {options['revision']} with {options['token']}")

    monkeypatch.chdir(tmp_path)
    image.save("photo.png")
    monkeypatch.setattr("hoiclip.inference.loading.load", refuse)
    assert main([*words, "--model", "owner/name", "--revision", "v1", "--token", "hf_some"]) == 2
    assert capsys.readouterr().err == "hoiclip: asked for owner/name at v1 with hf_some\n"


def test_a_private_revision_can_be_exported(at_hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    detector = hoiclip.load(model_folder, device="cpu", vocabulary=NEW)
    detector.push_to_hub("owner/name", token=WRITE, private=True, revision="side")
    out = tmp_path / "graph"
    assert (
        main(["export", "owner/name", "--revision", "side", "--token", READ, "--to", "openvino", "--out", str(out)])
        == 0
    )
    assert HoiVocabulary.from_pretrained(out) == NEW


def test_a_killed_push_leaves_the_repository_as_it_was(pushed: Hub, model_folder: Path, tmp_path: Path) -> None:
    before = dict(pushed.repositories["owner/name"].branches)
    changed = hoiclip.load(model_folder, device="cpu")
    assert changed.model is not None
    with torch.no_grad():
        changed.model.logit_scale += 1
    changed.model.save_pretrained(tmp_path / "changed")
    changed.processor.save_pretrained(tmp_path / "changed")
    pushed.stuck = threading.Event()
    words = [sys.executable, "-m", "hoiclip", "push", str(tmp_path / "changed"), "owner/name"]
    with ExitStack() as stack:
        push = stack.enter_context(
            subprocess.Popen(words, env=environment(pushed, tmp_path / "home", WRITE), stderr=subprocess.DEVNULL)
        )
        assert pushed.stuck.wait(120)
        push.kill()
    pushed.stuck = None
    assert pushed.repositories["owner/name"].branches == before
    assert hoiclip.load("owner/name", device="cpu").model is not None
    hoiclip.load(tmp_path / "changed", device="cpu").push_to_hub("owner/name", token=WRITE)  # again, and whole
    detector = hoiclip.load("owner/name", device="cpu")
    assert detector.model is not None
    assert torch.equal(detector.model.logit_scale, changed.model.logit_scale)


# --- the card ----------------------------------------------------------------------------------------


def card_of(served: Hub, branch: str = "main") -> ModelCard:
    return ModelCard(served.files("owner/name", branch)["README.md"].decode(), ignore_metadata_errors=False)


def test_the_card_tells_what_the_folder_tells(at_hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    best = tmp_path / "run" / "best"
    shutil.copytree(model_folder, best)
    (best / "metrics.json").write_text('{"step": 40, "full": 0.25125, "rare": NaN, "seen": 0.5}')
    (tmp_path / "run" / "config.yaml").write_text(
        "name: mine\nseed: 7\ndata: {source: hicodet, root: /home/me/hico}\nevaluation: {protocol: official}\n"
        "model: {detr: facebook/detr-resnet-50, clip: /home/me/weights/ViT-B-32.pt, start: null}\n"
    )
    (tmp_path / "run" / "data.json").write_text('{"images": 37633, "labels": 117871, "instances": {}}')
    hoiclip.load(best, device="cpu").push_to_hub("owner/name", token=WRITE, license="apache-2.0")
    card = card_of(at_hub)
    assert card.data.license == "apache-2.0"
    assert (card.data.library_name, card.data.pipeline_tag) == ("hoiclip", "object-detection")
    assert "human-object-interaction" in card.data.tags
    for told in (
        'hoiclip.load("owner/name")',
        "hoiclip detect photo.jpg --model owner/name",
        "6 interactions of 4 verbs with 4 objects (vocabulary `tiny`)",
        "ride bicycle, hold bicycle",
        "(protocol `official`, data `hicodet`, after step 40)",
        "| full | 25.12 |\n| seen | 50.00 |\n",
        "`mine`, seed 7",
        "DETR `facebook/detr-resnet-50` and the CLIP `ViT-B-32.pt`",
        "`hicodet` in the folder `hico`, 37,633 training images with 117,871 labels",
        f"hoiclip {hoiclip.__version__}",
    ):
        assert told in card.text, told
    assert "/home/me" not in card.content
    hoiclip.load(best, device="cpu", vocabulary=NEW).push_to_hub("owner/name", token=WRITE)
    other = card_of(at_hub)
    assert "No metrics lie beside this model" in other.text  # they belong to other words
    assert "Its vocabulary was set after training" in other.text
    assert "license" not in other.data.to_dict()


def test_a_finished_run_is_told_by_its_last_evaluation(at_hub: Hub, model_folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(model_folder, tmp_path / "run")
    (run / "best").mkdir()
    (run / "best" / "metrics.json").write_text('{"step": 2, "full": 0.9}')
    (run / "log.jsonl").write_text(
        '{"step": 2, "eval_full": 0.9}\n{"step": 4, "loss": 1.0}\n{"step": 4, "eval_full": 0.25}\n'
    )
    hoiclip.load(run, device="cpu").push_to_hub("owner/name", token=WRITE)
    assert "(after step 4), in percent:\n\n| metric | value |\n|---|---|\n| full | 25.00 |" in card_of(at_hub).text
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "loss": 1.0}\n{"step": 8, "eval_fu')  # the weights went on
    hoiclip.load(run, device="cpu").push_to_hub("owner/name", token=WRITE)
    assert "No metrics lie beside this model" in card_of(at_hub).text


def test_a_card_of_ones_own_is_kept_and_its_license_stands(
    at_hub: Hub, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITE)
    folder = shutil.copytree(model_folder, tmp_path / "mine")
    assert main(["push", str(folder), "owner/name"]) == 0
    assert "no license is stated" in capsys.readouterr().err
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [kites]\n---\n# Kites\n\nMy own words.\n")
    assert main(["push", str(folder), "owner/name"]) == 0
    assert capsys.readouterr().err == ""
    card = card_of(at_hub)
    assert card.text.strip() == "# Kites\n\nMy own words."
    assert (card.data.license, card.data.library_name) == ("mit", "hoiclip")
    assert card.data.tags[:2] == ["kites", "human-object-interaction"]
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    assert main(["push", str(folder), "owner/name"]) == 2
    assert "README.md: its YAML header cannot be read" in capsys.readouterr().err
