"""What a training script says about its architecture beside the weights, where shapes do not show it.

A DETR with dilation, norms before the layers or another number of heads has the same tensors as one
without, and another function.  The options are in the file: each is computed as trained or told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import DetrConfig

from hoiclip.checkpoints.key_mapping import printable
from hoiclip.checkpoints.pickles import Inert, entries_of, value_of
from hoiclip.checkpoints.reading import Checkpoint
from hoiclip.errors import HoiError

OPTIONS = ("args", "config", "cfg", "opt", "opts", "options", "hparams", "hyper_parameters", "hyperparameters",
           "settings", "model_args", "arguments", "params", "kwargs")  # fmt: skip
WEIGHTS = ("model", "state_dict", "model_state_dict", "optimizer", "lr_scheduler")
DILATION = ("dilation", "dc5", "use_dc5")
PRE_NORM = ("pre_norm", "normalize_before", "prenorm", "norm_first")
HEADS = ("nheads", "nhead", "num_heads", "n_heads", "num_attention_heads")
ACTIVATION = ("activation", "transformer_activation", "activation_function")
MOST_GROUPS = 500
POSITIONS = ("position_embedding", "pos_embedding", "position_embedding_type")


def detector_changes(checkpoint: Checkpoint, *, only_relu: bool, only_eight_heads: bool) -> dict[str, Any]:
    """What the options beside the weights change in ``DetrConfig``: heads and activation.

    Args:
        checkpoint: with its options.
        only_relu, only_eight_heads: the model has parts which cannot be computed otherwise.

    Raises:
        HoiError: naming an option that was trained with and that no part here computes.
    """
    options = dict(_options(checkpoint.beside))
    origin = checkpoint.origin
    _refuse_variants(options, origin)
    changes: dict[str, Any] = {}
    for name in _present(options, HEADS):
        heads = options[name]
        if isinstance(heads, float) and heads.is_integer():
            heads = int(heads)
        if not isinstance(heads, int) or isinstance(heads, bool) or not 1 <= heads <= 256:
            raise _unsupported(origin, name, heads, "a whole number of attention heads")
        if only_eight_heads and heads != 8:
            raise _unsupported(origin, name, heads, "8 heads")
        changes |= {"encoder_attention_heads": heads, "decoder_attention_heads": heads}
    for name in _present(options, ACTIVATION):
        kind = str(options[name]).lower()
        if kind not in (("relu",) if only_relu else ("relu", "gelu")):
            raise _unsupported(origin, name, options[name], "relu" if only_relu else "relu or gelu")
        changes["activation_function"] = kind
    return changes


def _refuse_variants(options: Mapping[str, Any], origin: str) -> None:
    for names, supported in ((DILATION, "a backbone without dilation"), (PRE_NORM, "norms after each layer")):
        for name in _present(options, names):
            if str(options[name]).strip().lower() not in ("false", "0", "0.0", "", "no", "off", "none"):
                raise _unsupported(origin, name, options[name], supported)
    for name in _present(options, POSITIONS):
        if str(options[name]).lower() not in ("sine", "v2"):
            raise _unsupported(origin, name, options[name], "sine positions")
    if "dc5" in Path(origin).name.lower():
        raise HoiError(
            f"{origin}: is a DC5 checkpoint by its name (dilated last stage), which is not supported: its tensors fit, "
            "but would compute something else; give one without DC5"
        )


def check_detr_config(config: DetrConfig, source: str | Path) -> None:
    """Raise HoiError if a DETR of transformers has what the detector here does not compute."""
    backbone = config.backbone_config
    for name, value, supported in (
        ("dilation", bool(config.dilation), False),
        ("position_embedding_type", config.position_embedding_type, "sine"),
        ("output_stride", getattr(backbone, "output_stride", None) or 32, 32),
    ):
        if value != supported:
            raise _unsupported(str(source), name, value, str(supported))


def _unsupported(origin: str, name: str, value: Any, supported: str) -> HoiError:
    shown = printable(value.kind if isinstance(value, Inert) else str(value), 60)
    return HoiError(
        f"{origin}: was trained with {name} = {shown}, which is not supported (only {supported}); its tensors fit, but "
        "would compute something else; give another checkpoint"
    )


def _present(options: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [name for name in names if options.get(name) is not None]


def _options(beside: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Options by name, those nested in groups too, values plain; an outer one is given last and so wins."""
    for name, value in beside.items():
        if isinstance(name, str) and name.lower() in OPTIONS:
            yield from _flat(value, set())
    for name, value in beside.items():
        if isinstance(name, str) and name in (*DILATION, *PRE_NORM, *HEADS, *ACTIVATION, *POSITIONS):
            yield name, value_of(value)


def _flat(group: Any, above: set[int]) -> Iterator[tuple[str, Any]]:
    entries = entries_of(group)
    if id(group) in above or len(above) > MOST_GROUPS:  # a group may contain itself
        return
    above.add(id(group))
    for value in entries.values():
        if entries_of(value):
            yield from _flat(value, above)
    for name, value in entries.items():
        plain = value_of(value)
        if isinstance(name, str) and not entries_of(plain):
            yield name.lower(), plain
