"""``hoiclip demo``: the whole way once, on a picture of the playground, with nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import CLIPConfig, DetrConfig

from hoiclip.configuration import HoiClipConfig
from hoiclip.detector import DetectionLog, HoiDetector
from hoiclip.files import replacing
from hoiclip.modeling import HoiClipModel
from hoiclip.playground.dataset import PlaygroundDataset
from hoiclip.processing import HoiClipProcessor
from hoiclip.visualize import draw_annotations, draw_triplets

SCENES = 6


def show(out: Path, seed: int = 0) -> int:
    """Draw scenes, let an untrained model look at them, write picture and triplets.

    Args:
        out: folder for ``demo.jpg`` and ``detections.jsonl``.
        seed: of the scenes and of the model's random weights.
    """
    print(f"hoiclip demo: {SCENES} generated pictures, and a small UNTRAINED model that looks at them.")
    print(
        "Its boxes and verbs are random. It shows the way from a picture to triplets, not what a trained model finds."
    )
    detector = untrained_detector(seed)
    scenes = PlaygroundDataset(seed=seed, length=SCENES, split="test")
    log = DetectionLog(out / "detections.jsonl")
    rows = []
    for image, annotated in scenes:
        found = detector(image, top_k=3, threshold=0.0)
        log.add(annotated.file_name, found)
        rows.append((draw_annotations(image, annotated, scenes.vocabulary), draw_triplets(image, found, max_labels=1)))
    with replacing(out / "demo.jpg") as temporary:
        contact_sheet(rows, "what was drawn", "what the untrained model says").save(temporary, quality=92)
    print(f"pictures: {out / 'demo.jpg'}   triplets: {log.path}")
    print("next: hoiclip convert hoiclip CHECKPOINT.pth --vocabulary hico --out model/")
    print("      hoiclip detect YOUR_PHOTO.jpg --model model/")
    return 0


def untrained_detector(seed: int) -> HoiDetector:
    """Every part of the real model, small, with random weights."""
    backbone = {
        "model_type": "resnet",
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 64],
        "depths": [1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage3"],
    }
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = HoiClipConfig(
        vocabulary="playground",
        detector=DetrConfig(
            backbone_config=backbone, d_model=64, encoder_layers=2, decoder_layers=2, dropout=0.0,
            encoder_ffn_dim=128, decoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4,
        ),
        clip=CLIPConfig(
            projection_dim=64,
            vision_config={**tower, "image_size": 128, "patch_size": 16, "projection_dim": 64},
            text_config={**tower, "vocab_size": 128, "projection_dim": 64},
        ),
        num_queries=16, interaction_layers=2, interaction_heads=4, interaction_ffn_dim=128, unused_parameters=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HoiClipModel(config)
    processor = HoiClipProcessor("playground", shortest_edge=128, longest_edge=128, clip_size=128)
    assert model.verbs is not None
    model.vocabulary = processor.vocabulary
    model.verbs.verb_to_interaction = torch.from_numpy(processor.vocabulary.verb_to_interaction)
    return HoiDetector(model, processor, device="cpu")


def contact_sheet(rows: list[tuple[Image.Image, Image.Image]], left: str, right: str, gap: int = 12) -> Image.Image:
    """Pairs of equally large pictures, three pairs to a line, with a heading over each column."""
    width, height = rows[0][0].size
    lines = -(-len(rows) // 3)
    head = 34
    sheet = Image.new("RGB", (3 * (2 * width + 3 * gap), head + lines * (height + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=18)
    for i, pair in enumerate(rows):
        x0, y = (i % 3) * (2 * width + 3 * gap), head + (i // 3) * (height + gap)
        for j, (picture, title) in enumerate(zip(pair, (left, right), strict=True)):
            x = x0 + gap + j * (width + gap // 2)
            sheet.paste(picture, (x, y))
            if i < 3:
                draw.text((x, 7), title, fill="black", font=font)
    return sheet
