"""The HOICLIP model: pure networks and their configuration.

Importing this package makes ``transformers.AutoConfig`` and ``AutoModel`` know the model, and ``transformers.pipeline``
the task ``human-object-interaction``.
"""

from hoiclip.models.configuration import HoiClipConfig
from hoiclip.models.modeling import HoiClipModel
from hoiclip.models.outputs import HoiClipOutput

__all__ = ["HoiClipConfig", "HoiClipModel", "HoiClipOutput"]
