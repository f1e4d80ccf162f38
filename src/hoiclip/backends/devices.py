"""Which device a model runs on."""

from __future__ import annotations

import torch

from hoiclip.errors import HoiError


def choose_device(device: str | torch.device | None) -> torch.device:
    """Choose the device asked for, else CUDA, else Apple's, else the CPU.

    Raises:
        HoiError: if the device asked for is not there.
    """
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise HoiError(f"device {device!s} is not available here; use --device cpu") from error
    return chosen
