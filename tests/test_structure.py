"""The house keeps its plan: imports run down the floors, doors open at once, rooms stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hoiclip

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "hoiclip"
LAZY = [
    "hoiclip",
    "hoiclip.data",
    "hoiclip.evaluation",
    "hoiclip.checkpoints",
    "hoiclip.experiments",
    "hoiclip.training",
]
HEAVY = ("torch", "transformers", "numpy", "scipy", "PIL", "matplotlib", "jsonargparse")


def modules_after(statement: str) -> set[str]:
    """Packages that a fresh Python has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_imports_run_down_the_floors_and_light_modules_need_no_torch() -> None:
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--config",
        str(ROOT / ".importlinter"),
        "--no-cache",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "Contracts: 2 kept, 0 broken." in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "statement",
    ["import hoiclip", "from hoiclip.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"],
)
def test_the_front_door_loads_nothing_heavy(statement: str) -> None:
    assert modules_after(statement).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "statement",
    [
        "from hoiclip.evaluation import evaluate_hicodet, evaluate_vcoco, load_detections, render_table",
        "from hoiclip import HoiVocabulary, Detections; HoiVocabulary.from_name('hico')",
        "from hoiclip.data import load_hoia, open_dataset, check",
        "from hoiclip.cli import command_parser; command_parser('train'); command_parser('detect')",
        "from hoiclip import load, ExportedDetector",
    ],
)
def test_metrics_readers_and_parsers_need_no_torch(statement: str) -> None:
    assert modules_after(statement).isdisjoint(("torch", "transformers", "matplotlib"))


def test_auto_classes_know_the_model_after_one_import(model_folder: Path) -> None:
    program = (
        "import hoiclip.models\nfrom transformers import AutoConfig, AutoModel\n"
        f"AutoConfig.from_pretrained({str(model_folder)!r})\n"
        f"print(type(AutoModel.from_pretrained({str(model_folder)!r})).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "HoiClipModel"


@pytest.mark.parametrize("package", LAZY)
def test_public_names_load_on_first_use_and_none_is_hidden_by_a_module(package: str) -> None:
    module = import_module(package)
    folder = SOURCE / Path(*package.split(".")[1:])
    modules = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    assert modules.isdisjoint(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    assert sorted(module.__all__) == module.__all__
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["data.load_hoia", "evaluation.evaluate_vcoco", "processing.clip_view", "losses"])
def test_modules_are_attributes_after_the_bare_import(name: str) -> None:
    assert modules_after(f"import hoiclip; hoiclip.{name}; assert {name.split('.')[0]!r} in dir(hoiclip)")


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert hoiclip.__version__ == version("hoiclip")


def test_no_file_is_too_long_and_no_function() -> None:
    long_files, long_functions = [], []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 450:
            long_files.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60 and node.name != "forward":
                long_functions.append(f"{path}: {node.name}")
    assert long_files == []
    assert long_functions == []


USER_SCRIPT = """
import hoiclip
from hoiclip import Detections

detector = hoiclip.load("model/", device="cpu")
found = detector("photo.jpg", threshold=0.5)
several = detector(["a.jpg", "b.jpg"], top_k=3)
reveal_type(found)
reveal_type(several)
reveal_type(found.scores)
for path, image, result in detector.detect_files(["a.jpg"], threshold=0.2):
    if isinstance(result, Detections):
        print(path, [triplet.name for triplet in result])
detector("photo.jpg", treshold=0.5)
hoiclip.load("model/", presicion="bf16")
"""


@pytest.mark.slow
def test_a_users_type_checker_sees_real_types_and_misspelt_keywords(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("script.py")]
    assert 'note: Revealed type is "hoiclip.detections.Detections"' in told
    assert any(
        line.startswith('note: Revealed type is "') and "list[hoiclip.detections.Detections]" in line for line in told
    )
    assert any("numpy.ndarray" in line for line in told)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line and line.startswith("script.py")]
    assert {line.split(":")[1] for line in errors} == {"14", "15"}
