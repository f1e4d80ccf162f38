"""The notebooks run as they stand, without a network, and are stored without outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LONGEST = 12  # lines of a cell


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_methods", "own_data", "photos"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_have_the_form_of_nbformat_4_5_short_cells_and_no_outputs(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert set(document) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    for cell in document["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            keys |= {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
            assert len(cell["source"]) <= LONGEST
        assert set(cell) == keys


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        where = f"{path.name}, cell {number}"
        exec(compile(tree, where, "exec"), names)
        if last is not None:  # a notebook shows it
            shown = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if hasattr(shown, "_repr_html_"):
                assert shown._repr_html_()
            if "hoiclip([" in ast.unparse(last):
                assert shown == 0, where
    if path.stem == "photos":
        assert len(names["found"]) >= 1
        assert len(names["crops"]) == len(names["found"]) == len(names["table"])
        assert {t.verb for t in names["asked"]} <= {"ride", "push", "sit_on", "hold"}
    if path.stem == "compare_methods":
        trained, free = (names["results"][name].means()["full"] for name in ("trained", "training-free"))
        assert trained > free > 0
    if path.stem == "own_data":
        assert (names["run"] / "model.safetensors").is_file()
