"""The HOICLIP model, top to bottom in the paper's order.

    photo -> InstanceDetector   boxes and object classes of N human-object pairs       section 3.1
          -> CLIP image tower   V_s, V_g (frozen)                                      section 3.2
          -> KnowledgeDecoder   interaction queries read V_s and V_d                   section 3.2
          -> VerbClassifier     verb adapter and verb classifier                       section 3.3
          -> TextClassifier     interactions scored against their sentences            section 3.4

B images, N queries, K interactions, C objects, V verbs; D is CLIP's joint width (512), W the width
of its image tower (768), S detector cells, P CLIP tokens (class token first).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, CLIPModel, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from hoiclip.errors import HoiError
from hoiclip.hub import hub_keywords, take_folder, telling
from hoiclip.losses import HoiCriterion
from hoiclip.models.classifiers import TextClassifier, VerbClassifier
from hoiclip.models.configuration import HoiClipConfig
from hoiclip.models.initialization import draw_layer, draw_parts
from hoiclip.models.instance_detector import InstanceDetector
from hoiclip.models.interaction_decoder import GenVlktDecoder, KnowledgeDecoder, UnusedParameters
from hoiclip.models.outputs import HoiClipOutput
from hoiclip.models.text_embedder import TextEmbedder, verb_directions
from hoiclip.vocabulary import HoiVocabulary


class HoiClipModel(PreTrainedModel):
    """Find human - verb - object triplets.

    >>> model = HoiClipModel.from_pretrained(path)
    >>> out = model(**processor(images, return_tensors="pt"))
    >>> model.set_vocabulary(HoiVocabulary.from_words("ride unicycle, hold umbrella"))
    """

    config: HoiClipConfig
    config_class = HoiClipConfig
    base_model_prefix = "hoiclip"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = (
        "DetrConvEncoder",
        "DetrEncoderLayer",
        "DetrDecoderLayer",
        "KnowledgeLayer",
        "CLIPEncoderLayer",
    )

    def __init__(self, config: HoiClipConfig) -> None:
        super().__init__(config)
        # DETR's layers are used without DETR's own model, and a ResNet has no attention to choose
        config.detector._attn_implementation = {"": config._attn_implementation, "backbone_config": "eager"}
        width = config.clip.projection_dim
        baseline = config.variant == "gen-vlkt"
        self.vocabulary: HoiVocabulary | None = None
        self.text_embedder: TextEmbedder | None = None
        self.loss_processes: int | None = None  # see HoiCriterion; a run sets it
        self._verb_rows: dict[str, Tensor] = {}  # of verbs asked for before, so that they can come back
        self.detector = InstanceDetector(config)
        self.clip = CLIPModel._from_config(config.clip) if config.carries_clip else None
        if baseline:
            self.interaction_decoder: KnowledgeDecoder | GenVlktDecoder = GenVlktDecoder(config)
        else:
            self.interaction_decoder = KnowledgeDecoder(config)
        self.verbs = VerbClassifier(config) if config.verb_classifier and not baseline else None
        self.unused = UnusedParameters(config) if config.unused_parameters and not baseline else None
        bias = config.classifier_bias or baseline
        self.interactions = TextClassifier(config.num_interactions, width, bias=bias)
        self.objects = TextClassifier(config.num_objects + 1, width, bias=bias)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        self.object_logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        self.post_init()
        self.freeze_frozen()
        # never reached by a loss: data-parallel training must not wait for their gradients
        self._ddp_params_and_buffers_to_ignore = [n for n, _ in self.named_parameters() if n.startswith("unused.")]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:  # comes last; transformers skips inner modules without parameters of their own
            draw_parts(self)
        elif not draw_layer(module):
            super()._init_weights(module)

    def freeze_frozen(self) -> None:
        """Mark what the paper keeps fixed: CLIP, the text classifiers, the backbone's first stage."""
        if self.clip is not None:
            self.clip.requires_grad_(False)
        # transformers 5.23 freezes every backbone stage by a misspelt name; the paper trains all
        # but the stem and the first stage.
        for name, parameter in self.detector.backbone.named_parameters():
            parameter.requires_grad_("embedder" not in name and "stages.0." not in name)
        self._freeze_classifiers()

    def _freeze_classifiers(self) -> None:
        """Text rows and bias are frozen; GEN-VLKT trains them, though not where some interactions are unseen."""
        baseline = self.config.variant == "gen-vlkt" and not self.config.unseen_interactions
        self.interactions.requires_grad_(baseline or self.config.interaction_classifier == "learned")
        self.objects.requires_grad_(baseline)

    def train(self, mode: bool = True) -> HoiClipModel:
        """Training mode for what is trained; CLIP stays frozen in evaluation mode."""
        super().train(mode)
        if self.clip is not None:
            self.clip.eval()
        return self

    # --- forward pass ---------------------------------------------------------------------

    def encode_images(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        clip_pixel_values: Tensor | None = None,
        learning: bool = False,
    ) -> dict[str, Tensor]:
        """Encode B images for the decoders: V_d, and V_s and V_g where CLIP is used.

        Args:
            pixel_values, pixel_mask, clip_pixel_values: as in :meth:`forward`.
            learning: GEN-VLKT needs CLIP, its teacher, too.

        Returns:
            ``memory`` and ``positions`` (B, S, 256), ``padding_mask`` (B, 1, 1, S) to add to attention
            logits; ``clip_tokens`` (B, P, W) after the last norm and ``clip_features`` (B, D).

        Raises:
            ValueError: if CLIP's view is missing where it is needed.
        """
        if pixel_mask is None:
            pixel_mask = pixel_values.new_ones(pixel_values.shape[0], *pixel_values.shape[2:])
        memory, positions, padding_mask = self.detector.encode(pixel_values, pixel_mask)
        encoded = {"memory": memory, "positions": positions, "padding_mask": padding_mask}
        clip_tokens, clip_features = self._encode_with_clip(clip_pixel_values, learning=learning)
        if clip_tokens is not None and clip_features is not None:
            encoded |= {"clip_tokens": clip_tokens, "clip_features": clip_features}
        return encoded

    def forward(
        self,
        pixel_values: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        clip_pixel_values: Tensor | None = None,
        labels: Sequence[dict[str, Tensor]] | None = None,
        output_attentions: bool = False,
        output_auxiliary: bool = False,
        encoded: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> HoiClipOutput:
        """Images to pairs of boxes, object classes and interactions.

        Args:
            pixel_values: (B, 3, H, W), the detector's view: ImageNet-normalised, zero-padded at the
                bottom and right.
            pixel_mask: (B, H, W), 1 on the image and 0 on padding; None means no padding.
            clip_pixel_values: (B, 3, 224, 224), CLIP's view of the same images.  GEN-VLKT needs it
                only while training.
            labels: one dict per image: ``human_boxes``, ``object_boxes`` (n, 4) cxcywh 0..1,
                ``object_labels`` (n,) int64, ``interaction_labels`` (n, K) float32, or (n, seen
                columns) in a zero-shot setting.
            output_attentions: return the interaction decoder's attention maps.
            output_auxiliary: return every layer's predictions, as training does.
            encoded: what :meth:`encode_images` returned for these images, instead of the images.

        Raises:
            ValueError: if CLIP's view is missing where it is needed.
        """
        if encoded is None:
            if pixel_values is None:
                raise ValueError("pixel_values is missing: pass what HoiClipProcessor returns")
            learning = self.training or labels is not None
            encoded = self.encode_images(pixel_values, pixel_mask, clip_pixel_values, learning)
        memory, positions, padding_mask = encoded["memory"], encoded["positions"], encoded["padding_mask"]
        clip_tokens, clip_features = encoded.get("clip_tokens"), encoded.get("clip_features")
        human, objects = self.detector.decode(memory, positions, padding_mask)  # 2 x (L, B, N, 256)

        auxiliary = self.training or labels is not None or output_auxiliary
        attentions: dict[str, Any] = {}
        if isinstance(self.interaction_decoder, GenVlktDecoder):
            features = self.interaction_decoder(human, objects, memory, positions, padding_mask)  # (L, B, N, D)
        else:
            queries = self.interaction_decoder.queries(human, objects)  # (B, N, W)
            streams = self.interaction_decoder.streams(clip_tokens, memory, padding_mask)
            assert self.clip is not None
            features = self.clip.visual_projection(self.interaction_decoder(queries, streams))  # (L, B, N, D), Eq. 10
            if output_attentions:
                names = {"detector": ("detector",), "clip": ("clip",), "both": ("clip", "detector")}
                maps = self.interaction_decoder.attention_maps(queries, streams)
                for name, found in zip(names[self.config.interaction_memory], maps, strict=True):
                    attentions[f"{name}_attentions"] = found

        columns = self._training_columns(labels)
        shown = range(len(features)) if auxiliary else (len(features) - 1,)
        device = features.device.type
        if torch.is_autocast_enabled(device):  # heads in float32: a bfloat16 box is rounded to 1/256 of the image
            with torch.autocast(device, enabled=False):
                states = [(human[i].float(), objects[i].float(), features[i].float()) for i in shown]
                layers = [self._classify(*state, columns) for state in states]
        else:
            layers = [self._classify(human[i], objects[i], features[i], columns) for i in shown]
        zero_shot = None
        text = self.config.variant != "gen-vlkt" and self.config.interaction_classifier == "text"
        if clip_features is not None and text:
            direction = nn.functional.normalize(clip_features, dim=-1)
            zero_shot = nn.functional.linear(direction, self.interactions.weight)  # (B, K), Eq. 17
        out = HoiClipOutput(
            **layers[-1],
            zero_shot_logits=zero_shot,
            auxiliary_outputs=layers[:-1] if auxiliary else None,
            clip_features=clip_features,
            **attentions,
        )
        if labels is not None:
            out.loss, out.loss_dict = HoiCriterion(self.config, self.loss_processes)(out, labels)
        return out

    def _encode_with_clip(
        self, clip_pixel_values: Tensor | None, *, learning: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """V_s (B, P, W) after the last norm and V_g (B, D), from the frozen image tower (Eq. 2)."""
        if self.config.variant == "gen-vlkt" and not (learning and self.config.distillation_weight > 0):
            return None, None  # the baseline needs CLIP only as its teacher
        if clip_pixel_values is None:
            raise ValueError("clip_pixel_values is missing: pass what HoiClipProcessor returns")
        if self.clip is None:
            raise ValueError("this baseline was converted without its teacher: convert it again with --clip")
        with torch.no_grad():
            vision = self.clip.vision_model
            tokens = vision.post_layernorm(vision(clip_pixel_values).last_hidden_state)
            return tokens, self.clip.visual_projection(tokens[:, 0])

    def _training_columns(self, labels: Sequence[dict[str, Tensor]] | None) -> Tensor | None:
        """The seen interactions while training in a zero-shot setting, else None for all."""
        unseen = set(self.config.unseen_interactions)
        if not unseen:
            return None
        seen = [k for k in range(self.config.num_interactions) if k not in unseen]
        labelled_as_seen = labels is not None and labels[0]["interaction_labels"].shape[-1] == len(seen)
        if not (self.training or labelled_as_seen):
            return None
        return torch.tensor(seen, device=self.logit_scale.device)

    def _classify(self, human: Tensor, objects: Tensor, features: Tensor, columns: Tensor | None) -> dict[str, Any]:
        """One layer's states (B, N, 256), (B, N, 256), (B, N, D) to its predictions."""
        scale = self.logit_scale.exp()
        direction = nn.functional.normalize(features, dim=-1)
        # the published zero-shot head has no bias where unseen classes are scored
        use_bias = columns is not None or not self.config.unseen_interactions or self.config.variant == "gen-vlkt"
        interaction_logits = scale * self.interactions(direction, columns, use_bias)  # (B, N, K), Eq. 18
        if self.verbs is not None:
            interaction_logits = interaction_logits + self.config.verb_weight * scale * self.verbs(features, columns)
        return {
            "human_boxes": self.detector.human_box_head(human).sigmoid(),
            "object_boxes": self.detector.object_box_head(objects).sigmoid(),
            "object_logits": self.object_logit_scale.exp() * self.objects(self.detector.object_features(objects)),
            "interaction_logits": interaction_logits,
            "interaction_features": features,
        }

    # --- vocabulary -----------------------------------------------------------------------------------

    @property
    def takes_new_words(self) -> bool:
        """Whether :meth:`set_vocabulary` can change what a trained model is asked for."""
        return self.clip is not None and self.config.interaction_classifier != "learned"

    @torch.no_grad()
    def set_vocabulary(self, vocabulary: HoiVocabulary | str | Path, tokenizer: Any = None) -> HoiClipModel:
        """Ask for other interactions: all classifiers are embedded again from text.

        Verbs the model was trained with keep their trained row; new ones get the difference between
        their sentences and those of their objects, Eq. 14 with CLIP's text tower.  Every sentence
        is embedded once and kept.

        Args:
            vocabulary: the new one (or a published name, or a YAML file).
            tokenizer: CLIP's tokenizer; by default the one saved beside the model, else that of
                ``config.tokenizer``.

        Raises:
            HoiError: if no tokenizer can be found or it cannot tell two sentences apart, a sentence is too long,
                the model carries no CLIP, or its classifier is learned; the model then stays as it was.
        """
        vocabulary = HoiVocabulary.coerce(vocabulary)
        if self.clip is None:
            raise HoiError(
                "this model was converted without CLIP and keeps its vocabulary: convert it again with --clip"
            )
        learned = self.config.interaction_classifier == "learned"
        if learned and self.vocabulary is not None:
            raise HoiError("this model learned its classifier instead of reading sentences: it keeps its vocabulary")
        embedder = self.text_embedder
        if tokenizer is not None or embedder is None:
            embedder = TextEmbedder(tokenizer or self.config.tokenizer)
        weight = self.interactions.weight
        sentences = (*vocabulary.interaction_prompts, *vocabulary.object_prompts)
        embedded = embedder(self.clip, sentences).to(weight)  # (K + C + 1, D)
        self.text_embedder = embedder  # it could read them: until now nothing has changed
        interactions, objects = embedded.split([vocabulary.num_interactions, len(vocabulary.objects) + 1])
        if self.verbs is not None:
            rows = verb_directions(interactions, objects, vocabulary)
            if self.vocabulary is not None:
                self._verb_rows |= dict(zip(self.vocabulary.verbs, self.verbs.weight.detach().clone(), strict=True))
            for i, verb in enumerate(vocabulary.verbs):
                if verb in self._verb_rows:
                    rows[i] = self._verb_rows[verb]
            self.verbs.resize(rows, torch.from_numpy(vocabulary.verb_to_interaction))
        first = self.vocabulary is None  # biases are fresh: they belong to no sentence yet
        if not learned:
            self.interactions.resize(interactions, keep_bias=first)
        self.objects.resize(objects, keep_bias=first)
        self.config.take_sizes(vocabulary)
        self._freeze_classifiers()
        self.vocabulary = vocabulary
        return self

    # --- files -----------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write config.json, model.safetensors, vocabulary.json and, where known, the tokenizer.

        With ``push_to_hub=True`` all of them are pushed then, as by ``push_to_hub``; a detector is
        pushed whole by :meth:`hoiclip.HoiDetector.push_to_hub`.
        """
        to_hub = hub_keywords(save_directory, kwargs)
        if self.vocabulary is None:
            raise HoiError("the model has no vocabulary yet: call set_vocabulary before saving it")
        for part in (self.config.detector, self.config.clip):
            part._name_or_path = ""  # where its weights came from is a path of this machine
        super().save_pretrained(save_directory, **kwargs)
        self.vocabulary.save(save_directory)
        if self.text_embedder is not None:
            self.text_embedder.save_tokenizer(save_directory)
        if to_hub is not None:
            with telling(to_hub["repo_id"], to_hub.get("token"), to_hub.get("revision")):
                self.push_to_hub(**to_hub)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> HoiClipModel:  # type: ignore[override]
        """Load a folder or hub id written by :meth:`save_pretrained`.

        Raises:
            HoiError: if the folder has no vocabulary.json or it does not fit the weights, or the hub does not
                give the id (its ``revision``, with ``token``).
        """
        source = str(pretrained_model_name_or_path)
        folder = take_folder(source, kwargs)
        loaded = super().from_pretrained(folder, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.config._name_or_path = model.name_or_path = source
        model.vocabulary = HoiVocabulary.from_pretrained(folder)
        if model.vocabulary.num_interactions != model.config.num_interactions:
            raise HoiError(
                f"{source}: vocabulary.json does not belong to these weights; convert or save the model again"
            )
        model.freeze_frozen()  # from_pretrained makes every parameter trainable again
        model.text_embedder = TextEmbedder.beside(folder, fallback=model.config.tokenizer)
        return loaded


AutoConfig.register(HoiClipConfig.model_type, HoiClipConfig)
AutoModel.register(HoiClipConfig, HoiClipModel)
# by its name, which transformers imports when the task is asked for: the class lies on a floor above
PIPELINE_REGISTRY.supported_tasks["human-object-interaction"] = {
    "impl": "hoiclip.inference.pipeline.HumanObjectInteractionPipeline",
    "pt": (AutoModel,),
    "type": "image",
}
