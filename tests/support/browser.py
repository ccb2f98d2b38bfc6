"""Headless Chromium, as a person's eyes and hands."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")

__all__ = ["NEEDS_CHROMIUM", "Browser", "webdriver"]

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDS_CHROMIUM = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="needs Debian's chromium and chromium-driver"
)
STEADY = ("users/current",)  # MLflow's own complaints about itself


class Browser:
    """Headless Chromium."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1500,950",
        ):
            options.add_argument(argument)
        options.add_argument("--enable-unsafe-swiftshader")  # WebGL without a graphics card
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.chrome.service.Service(CHROMEDRIVER)
        self.driver: Any = webdriver.Chrome(options=options, service=service)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def emulate(self, command: str, **arguments: Any) -> None:
        self.driver.execute_cdp_cmd(command, arguments)

    def wait(self, holds: Callable[[], Any], seconds: float = 100) -> float:
        """Wait for something to be true; returns how long that took."""
        begun = time.monotonic()
        while not holds():
            if time.monotonic() - begun > seconds:
                raise TimeoutError(f"not there after {seconds} s; the page says: {self.text()[:2000]}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def errors(self) -> list[str]:
        lines = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        return [line for line in lines if not any(known in line for known in STEADY)]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, but for the file itself."""
        import json

        messages = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("file:", "blob:", "data:"))]

    def draw_all(self) -> None:
        """Scroll through the page, so that every picture is drawn."""
        plots = self.run("document.querySelectorAll('.plot').length")
        for i in range(plots):
            self.run(f"document.querySelectorAll('.plot')[{i}].scrollIntoView()")
            self.wait(
                lambda i=i: self.run(f"document.querySelectorAll('.plot')[{i}].matches('.js-plotly-plot')")
            )
