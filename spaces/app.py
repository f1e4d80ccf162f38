"""A hoiclip model as a Space of the hub: the page of ``hoiclip serve``."""

import os
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import hoiclip
from hoiclip.serving.service import DetectionService, ServiceLimits
from hoiclip.serving.web_page import CSS, HEAD, make_page

model = os.environ.get("HOICLIP_MODEL") or None
folder = Path(tempfile.mkdtemp(prefix="hoiclip-"))
service = DetectionService(hoiclip.load(model), ServiceLimits(), model or "playground (drawn scenes)")
page = make_page(service, folder)

if __name__ == "__main__":
    page.launch(css=CSS, head=HEAD, allowed_paths=[str(folder)], max_file_size="20mb")
