"""Cache the outputs of the frozen encoders: every image is encoded once, the epochs after that are cheap.

Where backbone, encoder and CLIP are frozen and images are not augmented, every epoch would compute
the same features again; in the playground that is most of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import TrainingArguments

from hoiclip.data.training_dataset import HoiTrainingDataset, collate
from hoiclip.data.transforms import FixedResize
from hoiclip.errors import HoiError
from hoiclip.models.modeling import HoiClipModel

FROZEN_ENCODERS = ("detector.backbone.", "detector.input_projection.", "detector.encoder.", "clip.")


class CachedFeatures(Dataset[dict[str, Any]]):
    """A training set of the frozen encoders' outputs.

    Args:
        images: without augmentation, all of one size once resized.
        model: whose :meth:`HoiClipModel.encode_images` is cached.
        arguments: of the run: device, precision, batch size and workers.

    Raises:
        HoiError: if a part that encoded is trained, or the images are augmented or differ in size.
    """

    def __init__(self, images: HoiTrainingDataset, model: HoiClipModel, arguments: TrainingArguments) -> None:
        if not (images.augmentation is None or isinstance(images.augmentation, FixedResize)):
            raise HoiError("train.cache_features: augmented images change; set data.augment false")
        learning = [n for n, p in model.named_parameters() if p.requires_grad and n.startswith(FROZEN_ENCODERS)]
        if learning or model.config.detector.dropout:
            if not learning:
                raise HoiError("train.cache_features: dropout changes what the encoder gives; set model.dropout 0")
            raise HoiError(f"train.cache_features: {learning[0]} changes while training; freeze it with train.freeze")
        self.labels: list[dict[str, Tensor]] = []
        self.file_names: list[str] = []
        self.shared: dict[str, Tensor] = {}  # the same for all images, as they have one size
        self.encoded = self._encode_all(images, model, arguments)

    @torch.no_grad()
    def _encode_all(
        self, images: HoiTrainingDataset, model: HoiClipModel, arguments: TrainingArguments
    ) -> dict[str, Tensor]:
        device = arguments.device
        model.to(device)  # type: ignore[arg-type]
        loader = DataLoader(
            images,
            batch_size=max(32, arguments.per_device_train_batch_size),
            num_workers=arguments.dataloader_num_workers,
            collate_fn=collate,
        )
        found: dict[str, list[Tensor]] = {}
        shape = None
        for batch in tqdm(loader, desc="encoding", unit="batch", disable=arguments.disable_tqdm):
            # copies: what a worker sent would hold a file descriptor for each tensor
            self.labels += [{name: value.clone() for name, value in label.items()} for label in batch["labels"]]
            self.file_names += batch["file_names"]
            shape = shape or batch["pixel_values"].shape[1:]
            if batch["pixel_values"].shape[1:] != shape or not batch["pixel_mask"].all():
                raise HoiError("train.cache_features: the images differ in size; leave it out")
            inputs = {n: t.to(device) for n, t in batch.items() if isinstance(t, Tensor)}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=arguments.bf16):
                encoded = model.encode_images(**inputs, learning=True)
            self.shared = {name: encoded.pop(name)[:1].cpu() for name in ("positions", "padding_mask")}
            for name, value in encoded.items():
                found.setdefault(name, []).append(value.cpu())
        return {name: torch.cat(values) for name, values in found.items()}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``encoded`` without a batch axis, ``shared`` ones with, ``labels`` and ``file_name``."""
        return {
            "encoded": {name: values[index] for name, values in self.encoded.items()},
            "shared": self.shared,
            "labels": self.labels[index],
            "file_name": self.file_names[index],
        }


def collate_features(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch for :meth:`HoiClipModel.forward`: ``encoded`` instead of images, ``labels``, ``file_names``."""
    encoded = {name: torch.stack([item["encoded"][name] for item in items]) for name in items[0]["encoded"]}
    encoded |= {name: value.expand(len(items), *value.shape[1:]) for name, value in items[0]["shared"].items()}
    return {
        "encoded": encoded,
        "labels": [item["labels"] for item in items],
        "file_names": [item["file_name"] for item in items],
    }
