"""The pretrained parts that lie inside the package."""

import json
from importlib import resources

import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, DetrForObjectDetection

from hoiclip.playground_pretraining.captions import sentences
from hoiclip.playground_pretraining.measurement import measure_clip, measure_detector
from hoiclip.vocabulary import HoiVocabulary

ASSETS = resources.files("hoiclip") / "assets" / "playground"


@pytest.fixture(scope="module")
def vocabulary():
    torch.set_num_threads(1)
    return HoiVocabulary.from_name("playground")


@pytest.mark.parametrize("part", ["clip", "detector"])
def test_provenance_and_size(part):
    facts = json.loads((ASSETS / part / "provenance.json").read_text(encoding="utf-8"))
    assert {"commands", "seed", "date", "metrics", "held_out"} <= set(facts)
    weights = ASSETS / part / "model.safetensors"
    assert len(weights.read_bytes()) < 5_000_000


def test_tokenizer_knows_all_sentences(vocabulary):
    tokenizer = AutoTokenizer.from_pretrained(str(ASSETS / "clip"))
    ids = tokenizer(sentences(vocabulary), padding="max_length")["input_ids"]
    assert all(tokenizer.unk_token_id not in row for row in ids)
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_clip_names_interactions(vocabulary):
    model = CLIPModel.from_pretrained(str(ASSETS / "clip"), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(ASSETS / "clip"))
    found = measure_clip(model, tokenizer, vocabulary, seed=31, scenes=120)
    assert found["scenes"] > 0.5
    assert found["crops_alone"] > 0.7
    assert found["objects"] > 0.85


def test_detector_finds_persons_and_things(vocabulary):
    model = DetrForObjectDetection.from_pretrained(str(ASSETS / "detector"), dtype=torch.float32)
    promised = json.loads((ASSETS / "detector" / "provenance.json").read_text(encoding="utf-8"))["metrics"]["map50"]
    assert measure_detector(model, vocabulary, seed=31, scenes=100)["map50"] > promised - 0.08


def test_the_model_names_no_path_of_the_machine_it_was_made_on():
    text = (ASSETS / "model" / "config.json").read_text(encoding="utf-8")
    assert '"/' not in text
    assert (ASSETS / "model" / "tokenizer.json").is_file()
