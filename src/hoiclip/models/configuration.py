"""Every size and switch of the model, with the paper's values as defaults."""

from __future__ import annotations

from typing import Any

from transformers import CLIPConfig, DetrConfig, PreTrainedConfig

from hoiclip import published
from hoiclip.errors import HoiError
from hoiclip.models.ranges import check_ranges
from hoiclip.vocabulary import HoiVocabulary

RESNETS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}


# width, layers, heads, patch, image size, embedding width; text width, text heads
CLIPS = {
    "ViT-B/32": (768, 12, 12, 32, 224, 512, 512, 8),
    "ViT-B/16": (768, 12, 12, 16, 224, 512, 512, 8),
    "ViT-L/14": (1024, 24, 16, 14, 224, 768, 768, 12),
    "ViT-L/14@336": (1024, 24, 16, 14, 336, 768, 768, 12),
}
CLIP_IDS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336": "openai/clip-vit-large-patch14-336",
}


def detector_config(backbone: str = "resnet50", *, dropout: float = published.DROPOUT, **changes: Any) -> DetrConfig:
    """DETR's sizes with a ``resnet50`` or ``resnet101``; three decoder layers as in paper section 4.1.

    Args:
        backbone: ``resnet50`` or ``resnet101``.
        dropout: of attention, hidden layers and residual branches alike.
        changes: of ``transformers.DetrConfig``.

    Raises:
        HoiError: if the backbone is not one of them.
    """
    if backbone not in RESNETS:
        raise HoiError(f"unknown backbone {backbone!r}: choose one of {', '.join(RESNETS)}")
    backbone_config = {"model_type": "resnet", "depths": RESNETS[backbone], "out_features": ["stage4"]}
    sizes = {"backbone_config": backbone_config, "decoder_layers": published.INTERACTION_LAYERS}
    return DetrConfig(**{**sizes, **dropout_everywhere(dropout), **changes})


def dropout_everywhere(probability: float) -> dict[str, float]:
    """transformers' three settings of DETR: residual branches, attention, hidden layers of feed-forward blocks."""
    return dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), probability)


def clip_config(name: str = "ViT-B/32") -> CLIPConfig:
    """The sizes of one of OpenAI's CLIP vision transformers."""
    if name not in CLIPS:
        raise HoiError(f"unknown CLIP {name!r}: choose one of {', '.join(CLIPS)}")
    width, layers, heads, patch, image, embedding, text_width, text_heads = CLIPS[name]
    return CLIPConfig(
        projection_dim=embedding,
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "patch_size": patch,
            "image_size": image,
            "projection_dim": embedding,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_attention_heads": text_heads,
            "projection_dim": embedding,
        },
    )


class HoiClipConfig(PreTrainedConfig):
    """Sizes and switches of :class:`~hoiclip.HoiClipModel`.

    Args:
        backbone: ``resnet50`` or ``resnet101``; read only when ``detector`` is not given.
        clip_name: one of OpenAI's vision transformers; read only when ``clip`` is not given.
        detector: DETR sizes (``transformers.DetrConfig`` or its dict), encoder and instance decoder.
        clip: CLIP sizes (``transformers.CLIPConfig`` or its dict).
        tokenizer: hub id or folder of CLIP's tokenizer, read when another vocabulary is embedded and the
            model folder brings none.
        vocabulary: name, file or :class:`HoiVocabulary` whose sizes the classifiers take.
        variant: ``hoiclip``, or ``gen-vlkt`` for the paper's baseline.
        num_queries: pairs per image, so many human and so many object queries (N_q, section 3.1).
        interaction_layers, interaction_heads, interaction_ffn_dim: the interaction decoder (section 3.2).
        interaction_memory: what it attends to: ``detector`` (V_d), ``clip`` (V_s) or ``both``.
        interaction_classifier: ``text`` scores interactions against their sentences (section 3.4);
            ``learned`` starts from noise and is trained, the control that cannot know unseen ones.
        verb_classifier: score verbs too (section 3.3).
        verb_weight: alpha of Eq. 19.
        zero_shot_top_k: K of Eq. 17, the default of post-processing; None switches it off.
        mask_padding: keep the interaction decoder from attending to padded cells.  The published
            model does not mask, so converted checkpoints set False.
        classifier_bias: the text classifiers carry a bias.  Published checkpoints hold a frozen
            random one by accident; models trained here have none.  GEN-VLKT always has one.
        logit_scale_init: initial learned temperature, log(1 / 0.07) as in CLIP.
        unused_parameters: hold the 4.9 M weights which the published model trains but never reaches.
            Converted checkpoints do, so that they convert without loss and count the paper's 66.1 million.
        eos_weight, cost_*, weight_*, focal_alpha: the matcher and the losses (section 3.5).
        carries_clip: False for a baseline without its teacher: it detects, but cannot learn or take
            another vocabulary.
        distillation_weight: GEN-VLKT's mimic loss; 0 gives *Base* of Table 5.
    """

    model_type = "hoiclip"
    sub_configs = {"detector": DetrConfig, "clip": CLIPConfig}  # noqa: RUF012

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        clip_name: str = "ViT-B/32",
        detector: DetrConfig | dict[str, Any] | None = None,
        clip: CLIPConfig | dict[str, Any] | None = None,
        tokenizer: str | None = None,
        vocabulary: HoiVocabulary | str = "hico",
        variant: str = "hoiclip",
        num_queries: int = published.NUM_QUERIES,
        interaction_layers: int = published.INTERACTION_LAYERS,
        interaction_heads: int = published.INTERACTION_HEADS,
        interaction_ffn_dim: int = published.INTERACTION_FFN_DIM,
        interaction_memory: str = "both",
        interaction_classifier: str = "text",
        verb_classifier: bool = True,
        verb_weight: float = published.VERB_WEIGHT,
        zero_shot_top_k: int | None = published.ZERO_SHOT_TOP_K,
        mask_padding: bool = True,
        classifier_bias: bool = False,
        logit_scale_init: float = 2.6592600369327783,
        unused_parameters: bool = False,
        eos_weight: float = 0.1,
        cost_interaction: float = 1.0,
        cost_object: float = 1.0,
        cost_box: float = 2.5,
        cost_giou: float = 1.0,
        weight_interaction: float = 2.0,
        weight_object: float = 1.0,
        weight_box: float = 2.5,
        weight_giou: float = 1.0,
        focal_alpha: float = 0.5,
        distillation_weight: float = published.DISTILLATION_WEIGHT,
        carries_clip: bool = True,
        **kwargs: Any,
    ) -> None:
        detr = DetrConfig(**detector) if isinstance(detector, dict) else detector or detector_config(backbone)
        self.detector: DetrConfig = detr
        self.clip: CLIPConfig = CLIPConfig(**clip) if isinstance(clip, dict) else clip or clip_config(clip_name)
        self.tokenizer = tokenizer or CLIP_IDS.get(clip_name, CLIP_IDS["ViT-B/32"])
        self.variant = _one_of("variant", variant, ("hoiclip", "gen-vlkt"))
        self.interaction_memory = _one_of("interaction_memory", interaction_memory, ("detector", "clip", "both"))
        self.interaction_classifier = _one_of("interaction_classifier", interaction_classifier, ("text", "learned"))
        self.num_queries, self.interaction_layers = num_queries, interaction_layers
        self.interaction_heads, self.interaction_ffn_dim = interaction_heads, interaction_ffn_dim
        self.verb_classifier, self.verb_weight = verb_classifier, verb_weight
        self.zero_shot_top_k, self.mask_padding = zero_shot_top_k, mask_padding
        self.classifier_bias, self.logit_scale_init = classifier_bias, logit_scale_init
        self.unused_parameters, self.carries_clip = unused_parameters, carries_clip
        self.cost_interaction, self.cost_object = cost_interaction, cost_object
        self.cost_box, self.cost_giou = cost_box, cost_giou
        self.weight_interaction, self.weight_object = weight_interaction, weight_object
        self.weight_box, self.weight_giou = weight_box, weight_giou
        self.eos_weight, self.focal_alpha, self.distillation_weight = eos_weight, focal_alpha, distillation_weight
        self._check()
        if not self._take_saved_sizes(kwargs):
            self.take_sizes(HoiVocabulary.coerce(vocabulary))
        super().__init__(**kwargs)

    def _check(self) -> None:
        """Raise HoiError where a size cannot be meant, or two switches do not go together."""
        check_ranges(self)
        instance_layers = self.detector.decoder_layers
        if self.variant == "gen-vlkt" and self.interaction_layers != instance_layers:
            raise HoiError(
                f"interaction_layers is {self.interaction_layers} and the detector has {instance_layers} decoder "
                "layers: in the gen-vlkt variant each guides one; give both the same number"
            )
        if self.interaction_layers > instance_layers:  # layer i predicts together with instance layer i
            raise HoiError(f"interaction_layers must be at most {instance_layers}, the detector's decoder layers")
        if not self.carries_clip and self.variant != "gen-vlkt":
            raise HoiError("carries_clip: only the gen-vlkt variant detects without CLIP")

    def _take_saved_sizes(self, kwargs: dict[str, Any]) -> bool:
        """Take the sizes out of a saved config, where there are any; the vocabulary lies in a file beside it."""
        sizes = {key: kwargs.pop(key) for key in _SIZES if key in kwargs}
        for key in _SIZES if sizes else ():
            setattr(self, key, sizes[key])
        return bool(sizes)

    def take_sizes(self, vocabulary: HoiVocabulary) -> None:
        """Store the sizes of a vocabulary."""
        self.vocabulary_name = vocabulary.name
        self.num_verbs = len(vocabulary.verbs)
        self.num_objects = len(vocabulary.objects)
        self.num_interactions = vocabulary.num_interactions
        self.unseen_interactions = sorted(vocabulary.unseen)


_SIZES = ("vocabulary_name", "num_verbs", "num_objects", "num_interactions", "unseen_interactions")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise HoiError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value
