"""Your own images: the layout, the example of the documentation, and what goes wrong."""

import json
import re
from pathlib import Path

import pytest

from hoiclip.data import check, load_custom, open_dataset
from hoiclip.data.custom import find_custom
from hoiclip.errors import HoiError

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
EXAMPLES = [code for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)]


@pytest.fixture
def circus(tmp_path, monkeypatch, capsys):
    """The folder that the documentation's example writes, and what it printed."""
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in EXAMPLES if "circus" in code]
    names = {}
    exec(compile(code, str(DOCS), "exec"), names)
    return tmp_path / "circus", names, capsys.readouterr().out


def test_example_of_the_documentation_runs_and_is_short(circus):
    root, names, printed = circus
    assert "no defects" in printed
    assert names["image"].size == (320, 240)
    assert names["clown"].boxes.tolist() == [[100, 20, 160, 170], [105, 140, 155, 230], [150, 30, 170, 50]]
    vocabulary = find_custom(root).vocabulary
    assert [vocabulary.interaction_name(k) for k in names["clown"].hoi_ids] == ["ride unicycle", "juggle ball"]
    code = next(code for code in EXAMPLES if "circus" in code)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]) <= 20


def test_other_examples_of_the_documentation_run():
    for code in EXAMPLES:
        if "circus" not in code:
            exec(compile(code, str(DOCS), "exec"), {})


def test_json_form_in_the_documentation_is_understood(tmp_path):
    from hoiclip.data import load_hoia

    (code,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    (tmp_path / "a.json").write_text(code)
    (image,) = load_hoia(tmp_path / "a.json")
    assert image.hoi_ids.tolist() == [131]
    assert check(tmp_path / "a.json").defects == 0


def test_numbers_count_from_one_in_the_order_of_the_vocabulary(circus):
    root, names, _ = circus
    entry = names["annotation"]
    for box, number in zip(entry["annotations"], (1, 2, 3), strict=True):
        box["category_id"] = number
    for pair, number in zip(entry["hoi_annotation"], (1, 2), strict=True):
        pair["category_id"] = number
    (root / "test.json").write_text(json.dumps([entry]))
    (image,) = load_custom(root, "test", box_format="xywh")
    (expected,) = load_custom(root, "train")
    assert image.boxes.tolist() == expected.boxes.tolist()
    assert image.hoi_ids.tolist() == expected.hoi_ids.tolist()
    assert image.object_ids.tolist() == [0, 1, 2]
    assert open_dataset(root).splits == ["train", "test"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry["annotations"][1].update(category_id="tricycle"), "'tricycle' is no object"),
        (lambda entry: entry["annotations"][1].update(category_id=4), "category_id 4 is no object"),
        (lambda entry: entry["hoi_annotation"][0].update(category_id="eat"), "'eat' is no verb"),
        (lambda entry: entry["hoi_annotation"][0].update(object_id=2), "'ride ball' is no interaction"),
        (lambda entry: entry["hoi_annotation"][0].update(object_id=-1), "object_id -1"),
    ],
)
def test_words_that_the_vocabulary_does_not_know_are_named(circus, change, words):
    root, names, _ = circus
    change(names["annotation"])
    (root / "train.json").write_text(json.dumps([names["annotation"]]))
    with pytest.raises(HoiError, match=words):
        load_custom(root)
    assert check(root).defects >= 1


def test_missing_parts_are_named(circus):
    root, _, _ = circus
    with pytest.raises(HoiError, match="has no split 'test'"):
        load_custom(root, "test")
    (root / "images" / "clown.jpg").unlink()
    assert [d.kind for d in check(root).splits[0].defects] == ["missing image"]
    (root / "train.json").unlink()
    with pytest.raises(HoiError, match=r"holds no train\.json"):
        open_dataset(root)
    (root / "vocabulary.yaml").unlink()
    with pytest.raises(HoiError, match=r"holds no vocabulary\.yaml"):
        find_custom(root)
    with pytest.raises(HoiError, match="no such folder"):
        find_custom(root / "nowhere")
