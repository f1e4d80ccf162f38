import json

import pytest
from golden_inputs import GOLDEN, HicoInputs


@pytest.fixture(scope="session")
def golden_hico():
    return json.loads((GOLDEN / "golden_hico.json").read_text())


@pytest.fixture(scope="session")
def golden_official():
    return json.loads((GOLDEN / "golden_hico_official.json").read_text())


@pytest.fixture(scope="session")
def subset_inputs():
    return HicoInputs(GOLDEN / "facts")


@pytest.fixture(scope="session")
def ranked_subset(subset_inputs, golden_hico):
    """Detections of the 300 images by run."""
    indices = golden_hico["sets"]["subset300"]["image_indices"]
    return {run: subset_inputs.rank(indices, run) for run in ("nms", "no_nms", "nms_tfe10")}
