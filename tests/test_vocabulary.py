"""Words: the published label spaces to the character, and a user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from reference import HERE

from hoiclip import HoiError, HoiVocabulary
from hoiclip.vocabulary import gerund, vocabulary_names

GOLDEN = json.loads((HERE / "prompts.json").read_text())
SPLITS = {"rare_first": "rf_uc", "non_rare_first": "nf_uc", "unseen_object": "uo", "unseen_verb": "uv"}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", ["hico", "vcoco"])
def test_prompts_equal_the_published_ones(name: str) -> None:
    words = HoiVocabulary.from_name(name)
    for prompts, golden in ((words.interaction_prompts, "hoi"), (words.object_prompts, "obj")):
        assert len(prompts) == GOLDEN[f"{name}_{golden}"]["count"]
        assert sha256("\n".join(prompts)) == GOLDEN[f"{name}_{golden}"]["sha256"]
    assert sha256(";".join(f"{v},{o}" for v, o in words.interactions)) == GOLDEN["hoi_pairs_sha256"][name]


@pytest.mark.parametrize("split", [s for s in GOLDEN["unseen"] if s != "default"])
def test_unseen_sets_equal_the_published_ones(split: str) -> None:
    words = HoiVocabulary.from_name(f"hico_{SPLITS.get(split, split)}")
    assert sha256(",".join(map(str, sorted(words.unseen)))) == GOLDEN["unseen"][split]["sha256_sorted"]
    assert sorted({*words.seen.tolist(), *words.unseen}) == list(range(600))


def test_label_spaces_have_the_published_sizes() -> None:
    hico, vcoco = HoiVocabulary.from_name("hico"), HoiVocabulary.from_name("vcoco")
    assert (len(hico.interactions), len(hico.verbs), len(hico.objects), len(hico.rare)) == (600, 117, 80, 138)
    assert (len(vcoco.interactions), len(vcoco.verbs), len(vcoco.objects)) == (263, 29, 81)
    assert hico.category_ids[-1] == 90
    assert hico.interaction_name(599) == "no interaction zebra"
    assert vcoco.interaction_name(4) == "sit"


def test_verb_to_interaction_marks_each_interaction_once_at_its_verb() -> None:
    words = HoiVocabulary.from_name("vcoco")
    matrix = words.verb_to_interaction
    assert matrix.shape == (29, 263)
    assert np.array_equal(matrix.argmax(0), words.verb_ids)
    assert np.array_equal(matrix.sum(0), np.ones(263))


def test_words_become_a_vocabulary() -> None:
    words = HoiVocabulary.from_words("ride unicycle, sit on park bench, hold umbrella, ride horse")
    assert words.verbs == ("ride", "sit_on", "hold")
    assert words.interaction_prompts == (
        "a photo of a person riding a unicycle",
        "a photo of a person sitting on a park bench",
        "a photo of a person holding an umbrella",
        "a photo of a person riding a horse",
    )
    assert words.object_prompts[-1] == "a photo of nothing"


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("juggle", "juggling"),
        ("tie", "tying"),
        ("sit_on", "sitting on"),
        ("see", "seeing"),
        ("play_with", "playing with"),
    ],
)
def test_gerunds_follow_english_spelling(verb: str, expected: str) -> None:
    assert gerund(verb) == expected


def test_a_yaml_file_becomes_a_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "circus.yaml"
    file.write_text(
        "verbs: [ride, {juggle: juggling with}]\nobjects: [unicycle, ball]\n"
        "pairs: [ride unicycle, juggle ball]\nunseen: [juggle ball]\n"
    )
    words = HoiVocabulary.from_yaml(file)
    assert words.name == "circus"
    assert words.interactions == ((0, 0), (1, 1))
    assert words.unseen == {1}
    assert words.interaction_prompts[1] == "a photo of a person juggling with a ball"
    file.write_text("verbs: [ride, hold]\nobjects: [unicycle, ball]\npairs: all\n")
    assert HoiVocabulary.from_yaml(file).num_interactions == 4


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("verbs: [ride\nobjects: [cat]", "line 2"),
        ("verbs: [ride]", "'objects'"),
        ("verbs: [ride]\nobjects: [cat]\npairs: [feed cat]", "'feed cat'"),
        ("verbs: [ride, ride]\nobjects: [cat]", "twice"),
        ("verbs: [ride]\nobjects: [cat]\ncolour: red", "'colour'"),
        ("verbs: ride\nobjects: [cat]", "'verbs'"),
    ],
)
def test_a_bad_yaml_file_is_told_in_one_sentence(tmp_path: Path, content: str, complaint: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(HoiError) as error:
        HoiVocabulary.from_yaml(file)
    assert str(file) in str(error.value)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(HoiError, match="hico_rf_uc"):
        HoiVocabulary.from_name("hicodet")


@pytest.mark.parametrize("name", vocabulary_names())
def test_every_vocabulary_survives_saving(name: str, tmp_path: Path) -> None:
    words = HoiVocabulary.from_name(name)
    words.save(tmp_path)
    assert HoiVocabulary.from_pretrained(tmp_path) == words


def test_keeping_to_verbs_pairs_them_with_every_object() -> None:
    words = HoiVocabulary.from_name("vcoco").with_verbs(["juggle", "hold_obj"])
    assert words.num_interactions == 2 * 80
    assert words.interaction_prompts[:2] == (
        "a photo of a person juggling a person",
        "a photo of a person holding a person",
    )


@pytest.mark.parametrize(
    "words",
    [
        "ride horse\nhold ball\nkick ball",
        "ride horse\r\nhold ball\r\n\r\nkick ball\r\n",
        "ride horse; hold ball;kick ball",
        "ride horse,\nhold ball;\n kick ball,",
        "Ride Horse, HOLD ball, kick Ball, ride horse",
        "ride horse，hold ball、kick ball；",
        "ride horse\u2028hold ball\u0085kick ball",
    ],
)
def test_lines_and_semicolons_separate_like_commas_and_case_agrees(words: str) -> None:
    found = HoiVocabulary.from_words(words)
    assert found == HoiVocabulary.from_words("ride horse, hold ball, kick ball")
    assert [found.interaction_name(k) for k in range(3)] == ["ride horse", "hold ball", "kick ball"]


def test_yaml_words_stay_words(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(
        "verbs: [on, Off, yes, no, null, 2020-13-45, 1_000, 0x1F, {ride: null}, {hold: }]\n"
        "objects: [Y, n, '12', 1e3, .inf, ~]\nunseen: null\ncategory_ids: [1, 2, 3, 4, 5, 6]\n"
    )
    words = HoiVocabulary.from_yaml(file)
    assert words.verbs == ("on", "off", "yes", "no", "null", "2020-13-45", "1_000", "0x1f", "ride", "hold")
    assert words.objects == ("y", "n", "12", "1e3", ".inf", "~")
    assert words.gerunds[-2:] == ("riding", "holding")
    assert words.category_ids[0] == 1
    file.write_text("verbs: [Ride, Sit On]\nobjects: [Horse]\npairs: [RIDE horse, sit on Horse]\nrare: [ride HORSE]\n")
    words = HoiVocabulary.from_yaml(file)
    assert (words.verbs, words.rare) == (("ride", "sit_on"), {0})
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_text("verbs: [ride]\r\nobjects: [horse]\r\n", encoding=encoding)
        assert HoiVocabulary.from_yaml(file).verbs == ("ride",)


@pytest.mark.parametrize(
    "content",
    [
        f"verbs: [ride]\nobjects: [cat]\ncategory_ids: [{'9' * 6000}]",
        f"verbs: [ride]\nobjects: [cat]\ncategory_ids: [{'9' * 3000}]",
        f"verbs: {'[' * 3000}{']' * 3000}\nobjects: [cat]",
        f"verbs: [ride]\nobjects: [cat]\npairs: {'[' * 300}{']' * 300}",
        "a: &a [x, x]\nb: &b [*a, *a]\nverbs: [*b]\nobjects: [cat]",
        "verbs: [[ride]]\nobjects: [cat]",
        "verbs: [{ride: [riding]}]\nobjects: [cat]",
        "verbs: [Ride, ride]\nobjects: [cat]",
        "verbs: [ride]\nobjects: [cat]\nrare: {ride: cat}",
    ],
)
def test_odd_yaml_is_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(content)
    with pytest.raises(HoiError) as error:
        HoiVocabulary.from_yaml(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_verbs_agree_in_case_and_slips_are_found() -> None:
    known = HoiVocabulary.from_words("ride horse, hold ball")
    assert known.with_verbs(["RIDE"]).verbs == ("ride",)
    assert known.with_verbs(["hodl", "kick", "ride"]).slips(known) == [("hodl", "hold")]
    assert HoiVocabulary.from_words("ride hrose, feed horse").slips(known) == [("hrose", "horse")]
    assert HoiVocabulary.from_words("ride house").slips(known) == [("house", "horse")]
    assert known.slips(known) == []


def test_a_saved_vocabulary_with_odd_numbers_is_told(tmp_path: Path) -> None:
    saved = HoiVocabulary.from_words("ride horse").to_dict()
    for broken in ({**saved, "verbs": [1]}, {**saved, "category_ids": [10**400]}):
        (tmp_path / "vocabulary.json").write_text(json.dumps(broken))
        with pytest.raises(HoiError, match=r"vocabulary\.json"):
            HoiVocabulary.from_pretrained(tmp_path)
    for text in ("[" * 100_000, '{"verbs": ' + "9" * 6000 + "}"):
        (tmp_path / "vocabulary.json").write_text(text)
        with pytest.raises(HoiError, match=r"vocabulary\.json"):
            HoiVocabulary.from_pretrained(tmp_path)
