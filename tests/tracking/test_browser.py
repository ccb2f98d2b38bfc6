"""What a person sees: the report and MLflow's pages in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiq_search.app.publish import keep_report
from aiq_search.report.figures import NetworkView
from aiq_search.report.page import write_report
from aiq_search.tracking import MlflowListener, Outbox
from aiq_search.tracking.server import page_of, serving
from tests.tracking.conftest import runs_of
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, SimulatedTrial, simulated_study, study_ended, study_started

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs Debian's chromium and chromium-driver"),
]

VIEW = NetworkView(
    confusion=[[30 if i == j else (i + j) % 3 for j in range(10)] for i in range(10)],
    states={"conv1": [([True, False, True], 0.5), ([False, False, True], 0.25)]},
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(simulated_study(30), file, view=VIEW).as_uri()


def test_the_report_draws_every_picture_without_a_network_and_without_an_error(
    browser: Browser, report: str
) -> None:
    browser.emulate("Network.enable")
    browser.emulate("Network.setBlockedURLs", urls=["http://*", "https://*"])
    browser.requests()
    browser.driver.get(report)
    browser.draw_all()
    assert browser.run("document.querySelectorAll('.plot').length") == 12
    assert browser.run("document.querySelectorAll('.plot .main-svg').length") >= 12
    assert browser.errors() == []
    assert browser.requests() == []
    browser.emulate("Network.setBlockedURLs", urls=[])


@pytest.mark.parametrize(("scheme", "darker"), [("light", False), ("dark", True)])
def test_the_report_is_light_or_dark_as_the_reader_likes(
    browser: Browser, report: str, scheme: str, darker: bool
) -> None:
    def brightness(color: str) -> float:
        return sum(int(x) for x in color[color.index("(") + 1 : -1].split(",")[:3]) / 3

    browser.emulate(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    browser.driver.get(report)
    browser.draw_all()
    page = brightness(browser.run("getComputedStyle(document.body).backgroundColor"))
    title = "getComputedStyle(document.querySelector('.plot .xtitle')).fill"
    assert (page < 128) is darker
    assert abs(page - brightness(browser.run(title))) > 120
    browser.emulate("Emulation.setEmulatedMedia", features=[])


def test_the_pictures_change_with_the_scheme(browser: Browser, report: str) -> None:
    browser.emulate(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}]
    )
    browser.driver.get(report)
    browser.draw_all()
    title = "getComputedStyle(document.querySelector('.plot .xtitle')).fill"
    before = browser.run(title)
    browser.emulate(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    browser.wait(lambda: browser.run(title) != before)
    browser.emulate("Emulation.setEmulatedMedia", features=[])


def test_the_report_fits_a_phone(browser: Browser, report: str) -> None:
    browser.emulate(
        "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True
    )
    browser.driver.get(report)
    browser.draw_all()
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.querySelector('#tradeoff .main-svg').clientWidth") <= 390
    assert browser.errors() == []
    browser.emulate("Emulation.clearDeviceMetricsOverride")


def test_mlflow_shows_parent_children_and_artifacts(
    browser: Browser, study_directory: Path, outbox: Outbox, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = simulated_study(12)
    listener = MlflowListener(study_directory, store)
    monkeypatch.setattr(listener, "_keep_delivering", lambda: None)
    listener.put([study_started(), *(e for t in study.trials for e in t.events()), study_ended(study.trials)])
    keep_report(study, listener, None, [])
    deliver(outbox, store)
    best = f"{runs_of(store)[STUDY].data.metrics['aiq']:.6f}"[:6]
    with serving(store) as server:
        table, run = page_of(server, "lenet-5-digits"), page_of(server, "lenet-5-digits", STUDY)
        browser.driver.get(table)
        browser.wait(lambda: STUDY[:20] in browser.text() and best in browser.text())
        assert "Model training" in browser.text()
        for column in ("aiq", "accuracy", "efficiency", "parameters"):
            assert column in browser.text()
        browser.run("document.querySelector('.ag-row button').click()")  # open the study
        name = f"trial-0000 {'-'.join(map(str, SimulatedTrial(0).widths))}"
        browser.wait(lambda: name in browser.run("document.body.textContent"))
        browser.driver.get(run)
        browser.wait(lambda: " won" in browser.text() and best in browser.text())
        browser.driver.get(run.replace("?", "/artifacts/report.html?"))
        browser.wait(lambda: browser.run("document.querySelectorAll('iframe').length"))
        browser.driver.switch_to.frame(browser.driver.find_element("tag name", "iframe"))
        browser.run("document.querySelector('.plot').scrollIntoView()")
        browser.wait(lambda: browser.run("document.querySelectorAll('.js-plotly-plot').length > 0"))
        browser.driver.switch_to.default_content()
        assert browser.errors() == []
