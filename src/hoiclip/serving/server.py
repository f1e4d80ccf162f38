"""The page and plain HTTP on one port."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from hoiclip.errors import HoiError
from hoiclip.serving.service import DetectionService


def serve(service: DetectionService, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve until interrupted.

    Args:
        service: what answers.
        host: to listen at; ``127.0.0.1`` is this machine alone.
        port: of both the page and the HTTP interface.

    Raises:
        HoiError: if the address cannot be listened at.
    """
    with tempfile.TemporaryDirectory(prefix="hoiclip-serve-") as folder:
        # gradio asks its makers about versions and reports use unless told otherwise before it is imported
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder}
        import gradio as gr
        import uvicorn

        from hoiclip.serving.http_api import make_app
        from hoiclip.serving.web_page import CSS, HEAD, SYSTEM_FONTS, make_page

        listening = _listen(host, port)
        app = make_app(service)
        theme = gr.themes.Default(font=SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"])
        page = make_page(service, Path(folder))
        app = gr.mount_gradio_app(
            app, page, path="/", theme=theme, css=CSS, head=HEAD, allowed_paths=[folder], ssr_mode=False,
            show_error=True, max_file_size=int(service.limits.megabytes * 1e6),
        )  # fmt: skip
        print(f"hoiclip: http://{host}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=15, timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise HoiError(f"{host}:{port}: cannot be listened at ({error}); choose another --port") from None
    return listening
