"""A real browser for pages: Chromium of the system, driven by selenium; skips where either is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


def open_browser(width: int, height: int, downloads: Path | None = None) -> Any:
    """A window of so many pixels, without a screen; what is downloaded goes into a folder."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def accessibility_faults(browser: Any) -> list[str]:
    """Serious and critical faults of the page that is shown, as axe finds them."""
    axe = pytest.importorskip("axe_core_python.selenium").Axe()
    found = axe.run(browser)["violations"]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:120]}" for fault in found
            if fault["impact"] in ("serious", "critical")]  # fmt: skip
