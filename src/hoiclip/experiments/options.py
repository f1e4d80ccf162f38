"""Every option of a run, with its type, its default and one sentence (``hoiclip train --help`` shows them)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from hoiclip import published
from hoiclip.files import write_text_atomic


@dataclass
class DataOptions:
    """Images and annotations."""

    source: Literal["hicodet", "vcoco", "custom", "playground"] = "hicodet"
    """Kind of dataset; custom is a folder of your own (docs/data.md), playground is drawn while training."""
    root: str | None = None
    """Folder of the dataset; the playground needs none."""
    train_split: str | None = None
    """Split to train on; null takes the dataset's usual one."""
    evaluation_split: str | None = None
    """Split to evaluate on; null takes the dataset's usual one."""
    annotations: str | None = None
    """Annotation file to learn from instead of the split's own, such as the authors' share of HICO-DET."""
    merge_near_copies: float | None = 0.5
    """IoU above which boxes of anno_bbox.mat are one box while training (docs/data.md); null keeps them apart."""
    fraction: float = 1.0
    """Share of the training images to use (paper section 4.2)."""
    hold_out: float = 0.0
    """Share of the training images to evaluate on instead of the test split (Table 7)."""
    seed: int = 0
    """Seed of fraction, hold-out and playground scenes."""
    train_images: int | None = None
    """At most so many training images; the playground draws exactly so many."""
    evaluation_images: int | None = None
    """At most so many evaluation images; the playground draws exactly so many."""
    shorter: int | None = published.SHORTEST_EDGE
    """Shorter side of the detector's view at evaluation, in pixels; null takes that of model.start."""
    longest: int | None = published.LONGEST_EDGE
    """Limit of the longer side, in pixels; null takes that of model.start."""
    augment: bool = True
    """Flip, jitter, resize and crop while training; without it every image has the evaluation's size."""
    flip: float = published.FLIP_PROBABILITY
    """Probability of mirroring."""
    jitter: float = published.JITTER
    """Strength of the colour jitter, 0..1."""
    scales: list[int] = field(default_factory=lambda: list(published.SCALES))
    """Shorter sides to choose from while training, in pixels."""
    crop_scales: list[int] = field(default_factory=lambda: list(published.CROP_SCALES))
    """Shorter sides to choose from before cropping, in pixels."""
    crop_range: list[int] = field(default_factory=lambda: list(published.CROP_RANGE))
    """Smallest and largest side of the crop, in pixels."""
    crop: float = published.CROP_PROBABILITY
    """Probability of cropping."""
    workers: int = 2
    """Processes that load images."""


@dataclass
class ModelOptions:
    """The model, and what it starts from."""

    detr: str = "facebook/detr-resnet-50"
    """Hub id, folder, official file or name (hoiclip models) of the DETR to start from; playground for the shipped."""
    clip: str = "openai/clip-vit-base-patch32"
    """Hub id, folder or official file of CLIP; playground for the shipped one."""
    tokenizer: str | None = None
    """Hub id or folder of CLIP's tokenizer, where it does not lie beside clip."""
    queries: Literal["fresh", "detr"] = "fresh"
    """Where pairs begin: fresh as published, or at the queries of detr."""
    start: str | None = None
    """Folder, hub id or name (hoiclip models) of a trained HOICLIP to continue from, instead of detr and clip."""
    variant: Literal["hoiclip", "gen-vlkt"] = "hoiclip"
    """HOICLIP, or the paper's baseline."""
    num_queries: int = published.NUM_QUERIES
    """Pairs per image (N_q, section 3.1)."""
    interaction_layers: int = published.INTERACTION_LAYERS
    """Layers of the interaction decoder (section 3.2)."""
    interaction_heads: int = published.INTERACTION_HEADS
    """Attention heads of the interaction decoder."""
    interaction_ffn_dim: int = published.INTERACTION_FFN_DIM
    """Hidden width of the interaction decoder's feed-forward layers."""
    interaction_memory: Literal["detector", "clip", "both"] = "both"
    """What the interaction decoder attends to: V_d, V_s or both (Table 5)."""
    interaction_classifier: Literal["text", "learned"] = "text"
    """Sentences (section 3.4), or a classifier learned from noise, which cannot know unseen classes."""
    verb_classifier: bool = True
    """Score verbs too (section 3.3)."""
    verb_weight: float = published.VERB_WEIGHT
    """Weight alpha of the verb scores (Eq. 19)."""
    zero_shot_top_k: int | None = published.ZERO_SHOT_TOP_K
    """K of the training-free enhancement (Eq. 17); null for none."""
    mask_padding: bool = True
    """Keep the interaction decoder from attending to padding; the published code lets it."""
    unused_parameters: bool = False
    """Add the 4.9 M weights that the published model holds and never reaches."""
    distillation_weight: float = published.DISTILLATION_WEIGHT
    """Weight of GEN-VLKT's mimic loss; 0 gives Base of Table 5."""
    classifier_bias: Literal["none", "published"] = "none"
    """Bias of HOICLIP's text classifiers: none, or frozen at random as the published program leaves it by accident."""
    dropout: float | None = published.DROPOUT
    """Of attention, hidden layers and residual branches of encoder and decoders; null keeps that of model.start."""
    published: bool = False
    """Train the published program to the letter: sets what ours does otherwise on purpose (docs/recipe.md)."""


@dataclass
class VerbOptions:
    """The vectors the verb classifier starts from (Table 6)."""

    method: Literal["arithmetic", "average", "sentence", "text"] = "arithmetic"
    """Eq. 11-14 over training images, their pair features alone, verb sentences, or Eq. 14 over sentences."""
    source: Literal["paper", "seen"] = "paper"
    """Read all training pairs, also unseen and left-out ones, as the paper does; or only what the run learns from."""
    file: str | None = None
    """Vectors made before by hoiclip verbs, or the authors' .pth; null makes them at the start of the run."""
    keep_lengths: bool = False
    """Leave the rows of a .pth as long as they are instead of making them unit length (V-COCO's are 0.4 to 20.4)."""
    images: int | None = None
    """Read so many images only."""
    batch_size: int = 256
    """Crops per pass of CLIP."""


@dataclass
class TrainOptions:
    """Optimization, precision, checkpoints."""

    epochs: float = published.EPOCHS
    """Length of the training."""
    drop_epoch: float = published.DROP_EPOCH
    """Epoch after which the learning rates fall."""
    drop_factor: float = published.DROP_FACTOR
    """What the learning rates are multiplied by then."""
    max_steps: int | None = None
    """Stop after so many optimizer steps; the drop moves along."""
    batch_size: int = published.BATCH_SIZE
    """Images per optimizer step, over all processes and accumulated passes."""
    drop_last: bool = True
    """Leave out the short batch at the end of an epoch, as published; a set below one batch is one short batch."""
    accumulate: int = 1
    """Forward passes per optimizer step."""
    learning_rate: float = published.LEARNING_RATE
    """Of everything that is trained but the backbone."""
    backbone_learning_rate: float = published.BACKBONE_LEARNING_RATE
    """Of the ResNet."""
    weight_decay: float = published.WEIGHT_DECAY
    """Of AdamW."""
    clip_norm: float = published.CLIP_NORM
    """Largest norm of the gradient."""
    normalise: Literal["global", "process"] = "global"
    """Divide the losses by counts over all processes, or by those of each process as the published programs do."""
    virtual_processes: int = 2
    """With normalise process: so many shares of the batch, whatever the number of real processes (HOICLIP: 2)."""
    scale_learning_rate: bool = False
    """Multiply both learning rates by batch_size / 16."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass."""
    gradient_checkpointing: bool = False
    """Less memory for a third more time."""
    compile: bool = False
    """Use torch.compile; experimental."""
    ema: float | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and saved."""
    freeze: list[str] = field(default_factory=list)
    """Parts that do not learn, as prefixes of parameter names (detector.backbone)."""
    cache_features: bool = False
    """Compute what frozen backbone, encoder and CLIP give for each image once; needs data.augment false."""
    log_every: int = 50
    """Optimizer steps per log line."""
    checkpoint_every: int = 1
    """Epochs per checkpoint; 0 for none."""
    checkpoint_every_steps: int = 0
    """Optimizer steps per checkpoint; 0 for none."""
    keep_checkpoints: int = 2
    """How many checkpoints are kept."""
    resume: bool = False
    """Go on from the newest checkpoint in out, if there is one."""
    cpu: bool = False
    """Do not use an accelerator."""
    progress: bool = True
    """Show progress bars."""
    report_to: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = "none"
    """Send what is logged there too, while the run goes on; the package must be installed."""


@dataclass
class EvaluationOptions:
    """Evaluation while training, and of hoiclip evaluate."""

    every: int = 1
    """Epochs per evaluation; 0 for never."""
    protocol: Literal["hoiclip", "official", "vcoco"] = "hoiclip"
    """The authors' evaluator, HICO-DET's official one, or V-COCO's roles."""
    batch_size: int = 8
    """Images per forward pass, on each process."""


@dataclass
class Experiment:
    """Everything that decides the result of a run."""

    name: str = ""
    """Name of the run; that of the config by default."""
    vocabulary: str | None = "hico"
    """Published vocabulary (hico, hico_rf_uc, vcoco, ...) or YAML file; null takes that of a custom dataset."""
    seed: int = 0
    """Seed of fresh weights, of the order of the images and of their augmentation."""
    out: str = ""
    """Folder of the run; runs/NAME by default."""
    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    verbs: VerbOptions = field(default_factory=VerbOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    def to_yaml(self) -> str:
        """All options, those left at their default too; can be trained again as it stands."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_yaml`."""
        write_text_atomic(path, self.to_yaml())


@cache
def option_sentences(kind: Any) -> dict[str, str]:
    """The sentence under each field of an options class."""
    statements = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    return {
        ast.unparse(option.target): ast.literal_eval(sentence.value)
        for option, sentence in itertools.pairwise(statements)
        if isinstance(option, ast.AnnAssign) and isinstance(sentence, ast.Expr)
    }
