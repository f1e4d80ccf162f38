"""The page: an image, words, the triplets, and where the model looked for each."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.images import to_rgb
from hoiclip.inference.loaded_detector import LoadedDetector
from hoiclip.serving.service import MOST_TRIPLETS, PUBLISHED, DetectionService, TooLarge

KEPT = 3600  # seconds that a visitor's files stay
SYSTEM_FONTS = ["system-ui", "sans-serif"]  # others would be fetched from elsewhere
HEADERS = ["#", "interaction", "score"]
CSS = """
.gradio-container { max-width: 1400px !important; }
footer { display: none !important; }
.or, .min_value, .max_value, .label { color: var(--body-text-color) !important; }
::placeholder, .info-text {
  color: color-mix(in srgb, var(--body-text-color) 72%, transparent) !important; opacity: 1 !important;
}
button[role="tab"] { color: var(--body-text-color) !important; }
button.primary { background: #b93c04 !important; }
"""
# names and roles that gradio leaves out, and screen readers need: of an empty picture, of an example's button
HEAD = """<script>
new MutationObserver(() => {
  document.querySelectorAll(".empty[aria-label]:not([role])").forEach((empty) => empty.setAttribute("role", "img"));
  document.querySelectorAll("button.gallery-item:not([aria-label])").forEach(
    (button, i) => button.setAttribute("aria-label", `example ${i + 1}`));
}).observe(document, { childList: true, subtree: true });
</script>"""


def make_page(service: DetectionService, folder: Path) -> gr.Blocks:
    """Build the page.

    Args:
        service: what answers.
        folder: for files to download; emptied of old ones as new ones come.
    """
    page = _Page(service, folder)
    with gr.Blocks(title="hoiclip", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as blocks:
        gr.Markdown(f"# hoiclip\n{page.about()}")
        with gr.Tab("Image"):
            _image_tab(page, service)
        with gr.Tab("Video"):
            _video_tab(page, service)
        gr.api(page.answer, api_name="detect")
    blocks.queue(max_size=service.limits.waiting, default_concurrency_limit=4)
    return blocks


def _image_tab(page: _Page, service: DetectionService) -> None:
    found = gr.State(None, time_to_live=KEPT)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image = gr.Image(
                label="Image",
                alt_text="the image given",
                type="pil",
                sources=["upload", "webcam", "clipboard"],
                height=320,
            )
            words = _words()
            threshold = gr.Slider(0, 1, value=service.detector.default_threshold, step=0.01, label="Least probability")
            top_k = gr.Slider(1, MOST_TRIPLETS, value=10, step=1, label="Most triplets")
            button = gr.Button("Detect", variant="primary")
            examples = page.examples()
            if examples:
                gr.Examples(examples, [image], label="Examples", cache_examples=False)
        with gr.Column(scale=2, min_width=320):
            drawing = gr.Image(
                label="Found", alt_text="the image with what was found", type="pil", format="jpeg",
                interactive=False, buttons=["download", "fullscreen"],
            )  # fmt: skip
            table = gr.Dataframe(headers=HEADERS, datatype=["number", "str", "number"], interactive=False,
                                 label="Triplets: click a row to see it alone")  # fmt: skip
            looked = gr.Image(
                label="Where the model looked",
                alt_text="attention over the image, in both streams",
                type="pil",
                format="jpeg",
                interactive=False,
                visible=False,
                buttons=["download", "fullscreen"],
            )
            with gr.Row():
                everything = gr.Button("Show all", size="sm")
                download = gr.DownloadButton("Download JSON", size="sm", interactive=False)
    inputs, shown = [image, words, threshold, top_k], [found, drawing, table, looked, download]
    for event in (button.click, words.submit):
        event(page.found, inputs, shown, api_visibility="private", show_progress_on=[drawing])
    table.select(page.one, [found], [drawing, looked], api_visibility="private", show_progress_on=[drawing])
    everything.click(page.all, [found], [drawing, looked], api_visibility="private")


def _video_tab(page: _Page, service: DetectionService) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            video = gr.Video(label="Video", sources=["upload", "webcam"], height=320)
            words = _words()
            threshold = gr.Slider(0, 1, value=service.detector.default_threshold, step=0.01, label="Least probability")
            button = gr.Button("Detect in video", variant="primary")
            gr.Markdown(f"The first {service.limits.video_seconds:g} seconds are looked at.")
        with gr.Column(scale=2, min_width=320):
            drawn = gr.Video(label="Found in the video", interactive=False, autoplay=True)
            lines = gr.File(label="Triplets of each frame, JSON lines", interactive=False)
    button.click(page.film, [video, words, threshold], [drawn, lines], api_visibility="private")


def _words() -> gr.Textbox:
    return gr.Textbox(
        label="Interactions to look for", lines=2,
        placeholder="ride unicycle, hold umbrella   (empty: what the model knows)",
        info=f"Words of your own, or a published vocabulary: {', '.join(PUBLISHED)}",
    )  # fmt: skip


class _Page:
    """What the page does; one for all visitors, so it keeps nothing of any."""

    def __init__(self, service: DetectionService, folder: Path) -> None:
        self.service, self.folder = service, folder

    def about(self) -> str:
        """Which model it is, and what it knows."""
        own = self.service.own
        examples = ", ".join(
            own.interaction_name(k) for k in range(0, own.num_interactions, -(-own.num_interactions // 5))
        )
        known = f"It knows {own.num_interactions} interactions ({examples}, ...)."
        if own.name.startswith("playground") and isinstance(self.service.detector, LoadedDetector):
            known += " It was trained on drawn scenes only: photographs mean nothing to it."
        return f"Human - verb - object triplets. Model: **{self.service.name}**. {known}"

    def examples(self) -> list[str]:
        """Scenes of the playground, where the model knows them."""
        if not self.service.own.name.startswith("playground"):
            return []
        from hoiclip.playground.dataset import PlaygroundDataset

        scenes = PlaygroundDataset(12, 4, "test")
        (self.folder / "examples").mkdir(parents=True, exist_ok=True)
        paths = [self.folder / "examples" / f"scene{i}.png" for i in range(len(scenes))]
        for i, path in enumerate(paths):
            scenes[i][0].save(path)
        return [str(path) for path in paths]

    def found(self, image: Image.Image | None, words: str, threshold: float, top_k: float) -> tuple[Any, ...]:
        """All that is shown of one image."""
        if image is None:
            raise gr.Error(
                "Give an image first: upload one, paste it, or take one of the examples.", print_exception=False
            )
        try:
            upright = to_rgb(image)
            if upright.width * upright.height > self.service.limits.megapixels * 1e6:
                raise TooLarge(f"the image has more than {self.service.limits.megapixels:g} million pixels")
            found = self.service.detect(upright, words, threshold, int(top_k)).most_probable(MOST_TRIPLETS)
        except HoiError as error:
            raise gr.Error(str(error), print_exception=False) from None
        rows = [
            [i + 1, t.name, round(float(s), 3)] for i, (t, s) in enumerate(zip(found, found.confidence, strict=True))
        ]
        file = self._file(found)
        return (
            (upright, found), found.draw(upright), rows, gr.Image(visible=False, value=None),
            gr.DownloadButton(value=str(file), interactive=True),
        )  # fmt: skip

    def film(self, video: str | None, words: str, threshold: float) -> tuple[str, str]:
        """A video with what was found drawn in, and its lines."""
        if video is None:
            raise gr.Error("Give a video first: upload one, or film one.", print_exception=False)
        try:
            drawing, lines = self.service.film(video, self._own_folder(), words, threshold)
        except HoiError as error:
            raise gr.Error(str(error).replace(str(video), "the video"), print_exception=False) from None
        return str(drawing), str(lines)

    def one(self, kept: tuple[Image.Image, Detections] | None, event: gr.SelectData) -> tuple[Any, Any]:
        """One triplet alone, and where the model looked for it."""
        if kept is None:
            return gr.skip(), gr.skip()
        image, found = kept
        row = int(event.row_value[0]) - 1  # its number, wherever the table was sorted to
        alone = found[row]
        try:
            looked = self.service.attention(image, alone)
        except HoiError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return alone.draw(image), gr.Image(value=looked, visible=looked is not None)

    def all(self, kept: tuple[Image.Image, Detections] | None) -> tuple[Any, Any]:
        """Everything that was found, again."""
        if kept is None:
            return gr.skip(), gr.skip()
        return kept[1].draw(kept[0]), gr.Image(visible=False, value=None)

    def answer(self, image: dict, interactions: str = "", threshold: float | None = None, top_k: int = 10) -> dict:
        """For programs: the same as ``POST /detect``, by gradio_client."""
        try:
            content = Path(image["path"]).read_bytes()
            return self.service.detect(self.service.open(content), interactions, threshold, top_k).to_dict()
        except HoiError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def _file(self, found: Detections) -> Path:
        """The triplets as a file to download."""
        file = self._own_folder() / "detections.json"
        file.write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
        return file

    def _own_folder(self) -> Path:
        """A new folder for a visitor's files; those of an hour ago go."""
        for old in self.folder.glob("found-*"):
            if old.stat().st_mtime < time.time() - KEPT:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix="found-", dir=self.folder))
