"""Whatever people have an image as: a path, an address, bytes, a file, an array, a tensor."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from PIL import Image

from hoiclip.errors import HoiError, first_line
from hoiclip.images import as_image, decode_image, load_image, to_rgb


class Tensor(Protocol):
    """A torch tensor, for which torch need not be loaded."""

    def detach(self) -> Any: ...


#: path, http(s) address, encoded bytes, binary file, Pillow image, (h, w, 3) uint8 array, or a torch tensor (3, h, w)
ImageLike: TypeAlias = "str | Path | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor"
MOST_BYTES = 200 << 20  # of an encoded image
TIMEOUT = 20  # seconds without a byte


def is_address(source: Any) -> TypeGuard[str]:
    """Whether an image is named by http or https."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def open_image(source: ImageLike) -> Image.Image:
    """Any image as upright 8-bit RGB.

    Args:
        source: see :data:`ImageLike`.  A tensor is (3, h, w) or (1, h, w), uint8 or floating point in 0..1.

    Raises:
        HoiError: if it is no image that can be read.
    """
    if is_address(source):
        return decode_image(fetch(source), source)
    if isinstance(source, (str, Path)):
        return load_image(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_image(bytes(source), "bytes")
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        content = source.read(MOST_BYTES + 1)
        if not isinstance(content, bytes):
            raise HoiError(f"{name or 'file'}: gives text; open it with mode 'rb'")
        return decode_image(_bounded(content, name or "file"), str(name or "file"))
    return to_rgb(as_image(_pixels(source) if hasattr(source, "detach") else source))


def fetch(address: str) -> bytes:
    """What lies at an http or https address.

    Raises:
        HoiError: if it cannot be reached, or sends more than :data:`MOST_BYTES`.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "hoiclip"})  # http and https alone
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return _bounded(answer.read(MOST_BYTES + 1), address)
    except urllib.error.HTTPError as error:
        raise HoiError(f"{address}: the server answers {error.code} {error.reason}; check the address") from None
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        reason = first_line(getattr(error, "reason", error))
        raise HoiError(f"{address}: cannot be fetched ({reason}); download the image and give its path") from None


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MOST_BYTES:
        raise HoiError(f"{name}: is larger than {MOST_BYTES >> 20} MiB; make it smaller first")
    return content


def _pixels(tensor: Any) -> Image.Image:
    """A torch tensor (3, h, w) as an image."""
    array = tensor.detach().cpu()
    if array.ndim != 3 or array.shape[0] not in (1, 3, 4):
        raise HoiError(f"a tensor of shape {tuple(array.shape)} is no image; give (3, h, w), one image at a time")
    if array.is_floating_point():
        if not 0 <= float(array.min()) <= float(array.max()) <= 1:
            raise HoiError("a floating-point tensor holds values outside 0..1; give it before it is normalised")
        array = (array.float() * 255).round()
    elif str(array.dtype) != "torch.uint8":
        raise HoiError(f"a tensor of {array.dtype} is no image; give uint8, or floating point in 0..1")
    values = array.permute(1, 2, 0).byte().numpy()  # (3, h, w) -> (h, w, 3)
    return as_image(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))
