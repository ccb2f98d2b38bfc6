"""What a person sees: the report and MLflow's pages in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiq_search.app.publish import keep_report
from aiq_search.report.figures import NetworkView
from aiq_search.report.page import write_report
from aiq_search.tracking import MlflowListener, Outbox
from aiq_search.tracking.server import page_of, serving
from tests.support.browser import NEEDS_CHROMIUM, Browser
from tests.tracking.conftest import runs_of
from tests.tracking.delivering import deliver
from tests.tracking.simulated import STUDY, SimulatedTrial, simulated_study, study_ended, study_started

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

VIEW = NetworkView(
    confusion=[[30 if i == j else (i + j) % 3 for j in range(10)] for i in range(10)],
    states={"conv1": [([True, False, True], 0.5), ([False, False, True], 0.25)]},
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
    assert browser.run("document.querySelectorAll('.plot').length") == 13
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
        table, run = page_of(server, "lenet-5-digits"), page_of(server, "lenet-5-digits", [STUDY])
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
