"""The architecture is read from the file: computed as trained, or told; never a library's default."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import HERE, _fill
from test_foreign_files import foreign_class, forget_foreign_classes
from tiny import tiny_clip, tiny_detector
from transformers import CLIPModel, DetrConfig, DetrForObjectDetection
from transformers.models.detr.modeling_detr import DetrEncoderLayer

from hoiclip import HoiError
from hoiclip.checkpoints.convert import convert_gen_vlkt, convert_hoiclip
from hoiclip.checkpoints.initialise import load_clip, load_detr


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    """DETR's official file cut to one decoder layer."""
    manifest = json.loads((HERE / "manifest_detr_r50.json").read_text())
    kept = {k: v for k, v in manifest.items() if not re.match(r"transformer\.decoder\.layers\.[1-5]\.", k)}
    return {key: _fill(key, tuple(shape)) for key, (shape, _) in kept.items()}


UNSUPPORTED: dict[str, dict[str, Any]] = {
    "dilation": {"dilation": True},
    "dilation as a number": {"dilation": 1},
    "dilation of NumPy": {"dilation": np.bool_(True)},
    "pre-norm": {"pre_norm": True},
    "pre-norm by another name": {"normalize_before": True},
    "learned positions": {"position_embedding": "learned"},
    "positions of version 3": {"position_embedding": "v3"},
    "no heads": {"nheads": 0},
    "heads in words": {"nheads": "many"},
    "another activation": {"activation": "glu"},
}
HARMLESS: dict[str, Any] = {
    "defaults": {
        "dilation": False,
        "pre_norm": False,
        "nheads": 8,
        "position_embedding": "sine",
        "backbone": "resnet50",
    },
    "none": {"dilation": None, "activation": None},
    "numpy": {"dilation": np.bool_(False), "nheads": np.int64(8)},
}


def as_namespace(options: dict) -> Any:
    return argparse.Namespace(lr=1e-4, out=Path("x"), **options)


def as_omegaconf(options: dict) -> Any:
    container, node = foreign_class("omegaconf.dictconfig", "DictConfig"), foreign_class("omegaconf.nodes", "AnyNode")
    inner, outer = container(), container()

    def value(content: Any) -> Any:
        made = node()
        made.__dict__.update(_metadata=None, _parent=inner, _val=content)
        return made

    inner.__dict__.update(_metadata=None, _parent=outer, _content={k: value(v) for k, v in options.items()})
    outer.__dict__.update(_metadata=None, _parent=None, _content={"model": inner, "lr": value(1.0)})
    return outer


FORMS: dict[str, Callable[[dict], dict]] = {
    "args": lambda o: {"args": as_namespace(o)},
    "args in a dictionary": lambda o: {"args": dict(o)},
    "hyper_parameters": lambda o: {"hyper_parameters": {"args": as_namespace(o)}},
    "config in groups": lambda o: {"config": {"train": {"lr": 1}, "model": {"transformer": dict(o)}}},
    "omegaconf": lambda o: {"cfg": as_omegaconf(o)},
    "beside": dict,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_cannot_be_computed_as_trained_is_told(tmp_path: Path, what: str, form: str) -> None:
    options = UNSUPPORTED[what]
    torch.save({"model": {"input_proj.weight": torch.ones(1)}, **FORMS[form](options)}, tmp_path / "x.pth")
    forget_foreign_classes()
    for convert in (load_detr, convert_hoiclip, convert_gen_vlkt):
        with pytest.raises(HoiError) as error:
            convert(tmp_path / "x.pth")
        assert str(error.value).startswith(f"{tmp_path / 'x.pth'}: was trained with {next(iter(options))} = ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_the_usual_is_read(tmp_path: Path, small: dict, what: str, form: str) -> None:
    torch.save({"model": small, **FORMS[form](HARMLESS[what])}, tmp_path / "x.pth")
    forget_foreign_classes()
    _, config = load_detr(tmp_path / "x.pth")
    assert (config.encoder_attention_heads, config.activation_function) == (8, "relu")


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("heads", "activation"), [(4, "relu"), (16, "gelu"), (np.int64(4), "gelu")])
def test_heads_and_activation_compute_as_trained(
    tmp_path: Path, small: dict, form: str, heads: int, activation: str
) -> None:
    options = {"nheads": heads, "activation": activation}
    torch.save({"model": small, **FORMS[form](options)}, tmp_path / "x.pth")
    forget_foreign_classes()
    weights, config = load_detr(tmp_path / "x.pth")
    ours = DetrEncoderLayer(config).eval()
    start = "model.encoder.layers.0."
    ours.load_state_dict({k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)})
    theirs = torch.nn.TransformerEncoderLayer(256, int(heads), activation=activation, batch_first=True).eval()
    start = "transformer.encoder.layers.0."
    theirs.load_state_dict({k.removeprefix(start): v for k, v in small.items() if k.startswith(start)})
    x = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0))
    found = ours(x, None, spatial_position_embeddings=torch.zeros_like(x))
    assert torch.allclose(found, theirs(x), atol=1e-5)
    ours = DetrEncoderLayer(DetrConfig(encoder_attention_heads=8)).eval()
    ours.load_state_dict({k.removeprefix("model.encoder.layers.0."): v for k, v in weights.items()
                          if k.startswith("model.encoder.layers.0.")})  # fmt: skip
    other = ours(x, None, spatial_position_embeddings=torch.zeros_like(x))
    assert not torch.allclose(other, theirs(x), atol=1e-3)  # the same tensors, another function


def test_the_interaction_decoder_of_hoiclip_has_eight_heads_and_relu(tmp_path: Path) -> None:
    for options in ({"nheads": 4}, {"activation": "gelu"}):
        torch.save({"model": {"a": torch.ones(1)}, "args": as_namespace(options)}, tmp_path / "x.pth")
        with pytest.raises(HoiError, match="was trained with"):
            convert_hoiclip(tmp_path / "x.pth")


def test_a_dilated_checkpoint_without_options_is_known_by_its_name(tmp_path: Path, small: dict) -> None:
    torch.save({"model": small}, tmp_path / "detr-r50-dc5-f0fb7ef5.pth")
    with pytest.raises(HoiError, match="DC5"):
        load_detr(tmp_path / "detr-r50-dc5-f0fb7ef5.pth")


@pytest.mark.parametrize("changes", [{"dilation": True}, {"position_embedding_type": "learned"}])
def test_a_folder_says_it_in_its_config(tmp_path: Path, changes: dict) -> None:
    DetrForObjectDetection(tiny_detector()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(HoiError) as error:
        load_detr(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")


def test_a_clip_file_that_does_not_say_its_activation(tmp_path: Path) -> None:
    names = ("visual.conv1.weight", "visual.positional_embedding", "token_embedding.weight")
    torch.save({name: torch.zeros(4, 4, 4, 4) for name in names}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(HoiError) as error:
        load_clip(tmp_path / "open_clip_pytorch_model.bin")
    assert "does not say which activation" in str(error.value)
    assert "transformers folder" in str(error.value)
    config = tiny_clip()
    config.vision_config.hidden_act = config.text_config.hidden_act = "gelu"
    CLIPModel(config).save_pretrained(tmp_path / "folder")
    assert load_clip(tmp_path / "folder").config.vision_config.hidden_act == "gelu"


@pytest.mark.parametrize("kind", ["detector", "clip"])
def test_code_in_a_folder_is_neither_asked_for_nor_run(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question"))
    trace = tmp_path / "executed"
    (tmp_path / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    load, model, automatic = {
        "detector": (load_detr, DetrForObjectDetection(tiny_detector()), "AutoModelForObjectDetection"),
        "clip": (load_clip, CLIPModel(tiny_clip()), "AutoModel"),
    }[kind]
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for model_type in (config["model_type"], "their_own"):
        own = {"AutoConfig": "code.Config", automatic: "code.Model"}
        (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": model_type, "auto_map": own}))
        with pytest.raises(HoiError, match=r"wants to run code of its own"):
            load(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3, 1, 1)])
@pytest.mark.parametrize("name", ["visual.conv1.weight", "visual.positional_embedding", "visual.proj",
                                  "transformer.resblocks.0.attn.in_proj_weight"])  # fmt: skip
def test_tensors_of_odd_shapes_are_told(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    told = ("input_resolution", "context_length", "vocab_size", "visual.conv1.weight")
    torch.save({**dict.fromkeys(told, torch.tensor(1.0)), name: torch.zeros(shape)}, tmp_path / "x.pt")
    with pytest.raises(HoiError, match=r"x\.pt"):
        load_clip(tmp_path / "x.pt")
    row = {"visual_projection.weight": torch.tensor(1.0), name: torch.zeros(shape)}
    with pytest.raises(HoiError, match="the given state dict"):
        convert_hoiclip(row)


def test_weights_that_are_no_numbers_are_told_by_name(tmp_path: Path, small: dict) -> None:
    for value in (float("nan"), float("inf")):
        broken = small["transformer.encoder.layers.0.norm1.bias"].clone()
        broken[3] = value
        torch.save({"model": {**small, "transformer.encoder.layers.0.norm1.bias": broken}}, tmp_path / "x.pth")
        with pytest.raises(HoiError, match=r"x\.pth: transformer\.encoder\.layers\.0\.norm1\.bias holds NaN"):
            load_detr(tmp_path / "x.pth")
