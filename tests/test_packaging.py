"""What leaves the repository is whole: links lead somewhere, the source distribution holds what its files refer to."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HATCH = PROJECT["tool"]["hatch"]
PAGES = [p for where in (".", "docs", "benchmarks") for p in sorted((ROOT / where).glob("*.md"))]
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#]+)")


def packed(path: str) -> bool:
    """Whether the source distribution holds it; hatchling adds pyproject.toml and .gitignore by itself."""
    included = [entry.strip("/") for entry in HATCH["build"]["targets"]["sdist"]["include"]]
    included += ["pyproject.toml", ".gitignore"]
    return any(path == entry or path.startswith(f"{entry}/") for entry in included)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_that_are_packed(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve()
        assert file.exists(), target
        assert packed(str(file.relative_to(ROOT))), target


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_source_distribution_holds_the_whole_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "Makefile" in listed
    assert [path for path in listed.splitlines() if not packed(path)] == []


def test_paths_of_the_makefile_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    paths = re.findall(r"(?<=\s)(?:[\w-]+/[*\w./-]*|src|tests|docs|[A-Z]+\.md|[\w-]+\.txt)", makefile)
    assert {"benchmarks/*.py", "constraints.txt", "docs", "CONTRIBUTING.md"} <= set(paths)
    assert [path for path in paths if not list(ROOT.glob(path))] == []


def test_the_package_page_has_absolute_links_only() -> None:
    text = (ROOT / "README.md").read_text()
    for rule in HATCH["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert LINK.findall(text) == []
    home = PROJECT["project"]["urls"]["Homepage"]
    assert f"]({home}/blob/v$HFPR_VERSION/docs/guide.md)" in text
    raw = home.replace("github.com", "raw.githubusercontent.com")
    assert f"]({raw}/v$HFPR_VERSION/docs/demo.png)" in text


def test_the_citation_and_the_changes_name_this_version() -> None:
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert citation["license"] == PROJECT["project"]["license"]
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1) == version
