"""Visual semantic arithmetic: the equations, by hand, and the files they end in."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_clip, tiny_model
from training_world import tiny_options, write_custom, write_parts
from transformers import CLIPModel

from hoiclip import HoiVocabulary
from hoiclip.data import AnnotatedImage
from hoiclip.errors import HoiError
from hoiclip.processing import clip_view
from hoiclip.training.semantic_arithmetic import (
    image_regions,
    region_features,
    sum_regions,
    verb_representations,
)
from hoiclip.training.verb_files import load_verbs, read_published_verbs, read_verbs, save_verbs
from hoiclip.training.verb_initialization import compare_verbs, describe_verbs, extract_verbs

WORDS = HoiVocabulary(
    name="few",
    verbs=("ride", "hold", "feed"),
    gerunds=("riding", "holding", "feeding"),
    objects=("person", "bicycle", "horse"),
    articles=("a", "a", "a"),
    interactions=((0, 1), (1, 1), (0, 2), (2, 2)),
)
VIEW = partial(clip_view, size=32)
ROUNDING = 5e-6  # of unit vectors; a sum of unit vectors in place of the unit vector of a sum is off by 1e-3


def world() -> list[tuple[Image.Image, AnnotatedImage]]:
    """Two pictures; nobody feeds a horse."""
    rng = np.random.default_rng(0)
    person, bicycle, horse = range(3)
    pictures = [Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)) for _ in range(2)]
    first = AnnotatedImage(
        "a.png",
        boxes=np.array([[5, 5, 25, 50], [20, 30, 60, 58], [50, 5, 79.5, 40]]),
        object_ids=np.array([person, bicycle, horse]),
        pairs=np.array([[0, 1], [0, 1], [0, 2]]),
        hoi_ids=np.array([0, 1, 2]),
    )
    second = AnnotatedImage(
        "b.png",
        boxes=np.array([[10, 10, 30, 40], [-5, 35, 90, 70]]),
        object_ids=np.array([person, bicycle]),
        pairs=np.array([[0, 1]]),
        hoi_ids=np.array([0]),
    )
    return list(zip(pictures, (first, second), strict=True))


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    return CLIPModel(tiny_clip()).eval()


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def feature(clip: CLIPModel, picture: Image.Image, box: tuple[int, int, int, int]) -> torch.Tensor:
    return region_features(clip, VIEW(picture.crop(box))[None])[0]


def test_verbs_are_what_equations_11_to_14_say(clip: CLIPModel) -> None:
    samples = world()
    sums = sum_regions(samples, WORDS, clip, VIEW, progress=False)
    (a, _), (b, _) = samples
    ride_bicycle = unit(feature(clip, a, (5, 5, 60, 58)) + feature(clip, b, (0, 10, 80, 60)))
    hold_bicycle = unit(feature(clip, a, (5, 5, 60, 58)))
    ride_horse = unit(feature(clip, a, (5, 5, 80, 50)))
    bicycle = unit(feature(clip, a, (20, 30, 60, 58)) + feature(clip, b, (0, 35, 80, 60)))
    horse = unit(feature(clip, a, (50, 5, 80, 40)))
    expected = {
        "ride": unit(ride_bicycle - bicycle + ride_horse - horse),
        "hold": unit(hold_bicycle - bicycle),
    }
    rows, seen = verb_representations(sums, WORDS)
    for verb, wanted in expected.items():
        torch.testing.assert_close(rows[WORDS.verbs.index(verb)], wanted, rtol=0, atol=ROUNDING)
    assert {v for v, s in zip(WORDS.verbs, seen.tolist(), strict=True) if s} == {"ride", "hold"}
    assert not rows[WORDS.verbs.index("feed")].any()  # an unseen interaction takes no part

    average, _ = verb_representations(sums, WORDS, "average")
    torch.testing.assert_close(
        average[WORDS.verbs.index("ride")], unit(ride_bicycle + ride_horse), rtol=0, atol=ROUNDING
    )


def test_the_batch_size_changes_nothing(clip: CLIPModel) -> None:
    one, many = (sum_regions(world(), WORDS, clip, VIEW, batch_size=n, progress=False) for n in (1, 64))
    torch.testing.assert_close(one.interactions, many.interactions, rtol=0, atol=ROUNDING)
    assert one.interaction_counts.tolist() == many.interaction_counts.tolist() == [2, 1, 1, 0]
    assert one.objects.dtype == torch.float64


def test_a_pair_without_an_object_is_a_person_minus_the_mean_person(clip: CLIPModel) -> None:
    words = HoiVocabulary.from_name("vcoco")
    walk = next(k for k in range(words.num_interactions) if words.interaction_name(k).startswith("walk"))
    sit = next(k for k, (v, o) in enumerate(words.interactions) if words.verbs[v].startswith("sit") and o < 80)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    annotation = AnnotatedImage(
        "a.png",
        boxes=np.array([[5, 5, 25, 50], [40, 5, 70, 55], [38, 30, 75, 58]]),
        object_ids=np.array([0, 0, words.interactions[sit][1]]),
        pairs=np.array([[0, -1], [1, 2]]),
        hoi_ids=np.array([walk, sit]),
    )
    sums = sum_regions([(picture, annotation)], words, clip, VIEW, progress=False)
    rows, _ = verb_representations(sums, words)
    alone, sitter = feature(clip, picture, (5, 5, 25, 50)), feature(clip, picture, (40, 5, 70, 55))
    expected = unit(unit(alone) - unit(alone + sitter))
    torch.testing.assert_close(rows[words.interactions[walk][0]], expected, rtol=0, atol=ROUNDING)


def test_regions_stay_inside_the_picture_and_have_a_pixel() -> None:
    picture = Image.new("RGB", (20, 10))
    annotation = AnnotatedImage(
        "a.png", np.array([[-5, -5, 3.2, 4], [25, 12, 30, 15.0]]), np.array([0, 1]), np.array([[0, 1]]), np.array([0])
    )
    sizes = [(kind, crop.size) for crop, kind, _ in image_regions(picture, annotation)]
    assert sizes == [("object", (4, 4)), ("object", (1, 1)), ("interaction", (20, 10)), ("person", (4, 4))]


def test_an_interrupted_pass_goes_on_where_it_was(
    clip: CLIPModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoiclip.training.semantic_arithmetic.SAVE_EVERY", 1)
    samples = world() * 2
    opened: list[int] = []

    class Broken(list):
        def __getitem__(self, index: int) -> object:  # type: ignore[override]
            if index == 3 and 0 in opened and 4 not in opened:
                opened.append(4)
                raise KeyboardInterrupt
            opened.append(index)
            return super().__getitem__(index)

    unfinished, broken = tmp_path / "unfinished.safetensors", Broken(samples)
    with pytest.raises(KeyboardInterrupt):
        sum_regions(broken, WORDS, clip, VIEW, batch_size=1, unfinished=unfinished, progress=False)
    sums = sum_regions(broken, WORDS, clip, VIEW, batch_size=1, unfinished=unfinished, progress=False)
    assert opened == [0, 1, 2, 4, 3]
    whole = sum_regions(samples, WORDS, clip, VIEW, batch_size=1, progress=False)
    assert torch.equal(sums.interactions, whole.interactions)  # bit for bit: same machine, same number of threads
    assert torch.equal(sums.object_counts, whole.object_counts)


def test_a_file_of_verbs_fits_by_name(tmp_path: Path) -> None:
    model = tiny_model()
    verbs = model.vocabulary.verbs
    before = model.verbs.weight.clone()
    few = HoiVocabulary.from_words("hold bicycle, ride horse, climb ladder", name="other")
    rows = torch.nn.functional.normalize(torch.randn(3, 16, dtype=torch.float64), dim=-1)
    seen = torch.tensor([verb != "ride" for verb in few.verbs])
    save_verbs(tmp_path / "verbs.safetensors", rows, seen, few, {"source": "seen", "pairs": 3})
    assert load_verbs(model, tmp_path / "verbs.safetensors") == {"source": "seen", "pairs": 3}
    changed = verbs.index("hold")
    torch.testing.assert_close(model.verbs.weight[changed], rows[few.verbs.index("hold")].float())
    for i in range(len(verbs)):
        assert torch.equal(model.verbs.weight[i], before[i]) is (i != changed)


def test_equal_verbs_are_equal_files(tmp_path: Path) -> None:
    words = HoiVocabulary.from_words("hold bicycle", name="one")
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_verbs(file, torch.ones(1, 4), torch.tensor([True]), words, {"images": 3})
    assert len({file.read_bytes() for file in files}) == 1


def test_files_that_do_not_fit_are_refused(tmp_path: Path, clip: CLIPModel) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    for name in ("missing.safetensors", "text.safetensors"):
        with pytest.raises(HoiError, match="holds no verb vectors"):
            read_verbs(tmp_path / name)
    other = HoiVocabulary.from_words("climb ladder", name="other")
    save_verbs(tmp_path / "other.safetensors", torch.ones(1, 16), torch.tensor([True]), other, {})
    with pytest.raises(HoiError, match="do not fit this model"):
        load_verbs(tiny_model(), tmp_path / "other.safetensors")
    with pytest.raises(HoiError, match="no verb classifier"):
        load_verbs(tiny_model(verb_classifier=False), tmp_path / "other.safetensors")


def test_sentences_start_the_verb_classifier(tokenizer: Path) -> None:
    model = tiny_model(tokenizer)
    describe_verbs(model)
    expected = model.text_embedder(model.clip, model.vocabulary.verb_prompts)
    torch.testing.assert_close(model.verbs.weight.detach(), expected)
    assert "a photo of a person riding" in model.vocabulary.verb_prompts


def test_the_command_writes_vectors_with_their_provenance(tmp_path: Path) -> None:
    parts, data = write_parts(tmp_path / "parts"), write_custom(tmp_path / "data")
    overrides = tiny_options(parts, tmp_path / "run", data__root=data, data__fraction=0.5)
    whole = extract_verbs("custom", overrides, tmp_path / "paper.safetensors")
    few = extract_verbs("custom", [*overrides, "--verbs.source", "seen"], tmp_path / "seen.safetensors")
    rows, provenance = read_verbs(whole)
    assert (provenance["source"], provenance["images"], provenance["method"]) == ("paper", 8, "arithmetic")
    assert read_verbs(few)[1]["images"] == 4
    assert read_verbs(few)[1]["fraction"] == 0.5
    assert set(rows) <= {"ride", "hold", "feed"}
    assert all(row.norm().item() == pytest.approx(1, abs=1e-6) for row in rows.values())
    with pytest.raises(HoiError, match="needs no images"):
        extract_verbs("custom", [*overrides, "--verbs.method=text"])


def test_the_authors_file_is_a_tensor_with_a_row_for_each_verb(tmp_path: Path) -> None:
    model = tiny_model()
    verbs = model.vocabulary.verbs
    rows = torch.randn(len(verbs), 16) * torch.arange(1, len(verbs) + 1)[:, None]
    torch.save(rows, tmp_path / "published.pth")
    load_verbs(model, tmp_path / "published.pth")
    torch.testing.assert_close(model.verbs.weight, torch.nn.functional.normalize(rows, dim=-1))
    load_verbs(model, tmp_path / "published.pth", keep_lengths=True)
    torch.testing.assert_close(model.verbs.weight, rows)
    vocabulary = model.vocabulary
    save_verbs(tmp_path / "ours.safetensors", rows.double(), torch.ones(len(verbs), dtype=torch.bool), vocabulary, {})
    for broken, sentence in (
        (rows[1:], "not one row for each of the 4 verbs"),
        ({"rows": rows}, "holds a dict, not a tensor"),
        (rows * torch.tensor([[0.0], *[[1.0]] * (len(verbs) - 1)]), "zero or not finite"),
    ):
        torch.save(broken, tmp_path / "broken.pth")
        with pytest.raises(HoiError, match=sentence):
            read_published_verbs(tmp_path / "broken.pth", vocabulary)


def test_two_files_of_verbs_are_compared_by_cosine(tmp_path: Path) -> None:
    vocabulary = HoiVocabulary.from_name("playground")
    rows = torch.randn(len(vocabulary.verbs), 128)
    save_verbs(tmp_path / "ours.safetensors", rows, torch.ones(len(rows), dtype=torch.bool), vocabulary, {})
    other = rows.clone()
    other[3] = -2 * rows[3]
    torch.save(other, tmp_path / "theirs.pth")
    found = compare_verbs("playground", [], tmp_path / "ours.safetensors", tmp_path / "theirs.pth")
    assert found == pytest.approx({verb: -1.0 if i == 3 else 1.0 for i, verb in enumerate(vocabulary.verbs)}, abs=1e-6)
