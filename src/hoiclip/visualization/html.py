"""Results as a piece of a web page, for notebooks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from PIL import Image

WIDEST = 800  # pixels of the picture


def html_summary(title: str, rows: Sequence[tuple[str, float]], total: int, drawing: Image.Image | None) -> str:
    """A drawing and a table of names and scores, without anything from elsewhere.

    Args:
        title: above the table.
        rows: name and score.
        total: how many there are, where not all are in ``rows``.
        drawing: scaled down to :data:`WIDEST` pixels; None for the table alone.
    """
    picture = ""
    if drawing is not None:
        small = drawing.convert("RGB")
        small.thumbnail((WIDEST, WIDEST))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = f'<img alt="detections" src="data:image/jpeg;base64,{data}" style="max-width:100%">'
    body = "".join(f"<tr><td>{html.escape(name)}</td><td>{score:.2f}</td></tr>" for name, score in rows)
    more = f"<tr><td colspan=2>and {total - len(rows)} more</td></tr>" if total > len(rows) else ""
    return f"<div>{picture}<p>{html.escape(title)}</p><table>{body}{more}</table></div>"
