"""The report shows the champion at work: in a real browser, with the answers of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import nn

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export.device.browser import demonstration, network_document
from aiq_search.lowering.planning import plan_network
from aiq_search.models import Architecture
from aiq_search.report.figures import NetworkView
from aiq_search.report.page import write_report
from aiq_search.training import TrainingOptions, TrainingRun
from tests.export.device.conftest import CASES
from tests.support.browser import NEEDS_CHROMIUM, Browser
from tests.tracking.simulated import simulated_study

# Strokes from the middle of the canvas.
ZERO = [[(60 * math.sin(math.pi * k / 8), -80 * math.cos(math.pi * k / 8)) for k in range(17)]]
ONE = [[(-30, -50), (0, -85)], [(0, -85), (0, 85)]]
TWO = [[(-45, -45), (-30, -75), (0, -85), (35, -70), (42, -40), (20, 0), (-45, 80), (50, 80)]]
FOUR = [[(-20, -80), (-50, 20), (50, 20)], [(30, -40), (30, 85)]]


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(scope="module")
def network(digits):
    architecture = Architecture("mlp", {"hidden1": 24, "hidden2": 16}, digits.input_shape, 10)
    run = TrainingRun(
        architecture, digits, TrainingOptions(epochs=20, learning_rate=0.05, batch_size=32), seed=0
    )
    while not run.finished:
        run.run_epoch()
    model = architecture.build()
    model.load_state_dict(run.best_weights)
    return model.eval()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def page(browser, network, digits, tmp_path_factory):
    """The report, opened without a network."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(simulated_study(10), path, NetworkView(demonstration=demonstration(network, digits)))
    browser.emulate("Network.enable")
    browser.emulate("Network.setBlockedURLs", urls=["http://*", "https://*"])
    browser.requests()
    browser.driver.get(path.as_uri())
    return browser


def _draw(page, strokes):
    from selenium.webdriver.common.action_chains import ActionChains

    page.run("document.getElementById('clear').click()")
    pad = page.driver.find_element("id", "pad")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    for first, *others in strokes:
        hand = ActionChains(page.driver, duration=10)
        hand.move_to_element_with_offset(pad, *map(round, first)).click_and_hold()
        for point in others:
            hand.move_to_element_with_offset(pad, *map(round, point))
        hand.release().perform()
    return page.driver.find_element("id", "answer").text


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_twelve_samples_have_the_answers_of_torch(page, network, digits):
    logits = np.array(page.run("champion.samples.map((sample) => champion.logits(sample.inputs))"))
    inputs = torch.tensor(digits.test.inputs[:12]).float()
    scale, shift = digits.normalization.scale[0], digits.normalization.shift[0]
    with torch.inference_mode():
        expected = network(inputs * scale + shift).numpy()
    assert np.abs(logits - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    shown = [each.text.split("\n") for each in page.driver.find_elements("css selector", "#samples .sample")]
    assert [int(answer.split()[0]) for answer, _ in shown] == expected.argmax(1).tolist()
    assert [truth for _, truth in shown] == [f"is {label}" for label in digits.test.labels[:12]]
    assert page.errors() == []
    assert page.requests() == []


@pytest.mark.slow
@NEEDS_CHROMIUM
@pytest.mark.parametrize(("strokes", "digit"), [(ZERO, "0"), (ONE, "1"), (TWO, "2"), (FOUR, "4")])
def test_a_drawn_digit_is_recognised(page, strokes, digit):
    assert _draw(page, strokes).startswith(f"{digit} (")
    assert len(page.driver.find_elements("css selector", "#chances div")) == 10


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_a_cleared_canvas_has_no_answer(page):
    _draw(page, ZERO)
    page.run("document.getElementById('clear').click()")
    assert page.driver.find_element("id", "answer").text == "\u2013"


@pytest.mark.slow
@NEEDS_CHROMIUM
@pytest.mark.parametrize("name", list(CASES))
def test_every_layer_runs_in_the_browser_as_in_torch(browser, name):
    torch.manual_seed(0)
    case = CASES[name]()
    script = files("aiq_search.report").joinpath("templates", "network.js").read_text(encoding="utf-8")
    samples = case.samples[:10].reshape(10, -1).tolist()
    logits = browser.driver.execute_script(
        f"{script}\nreturn arguments[1].map((inputs) => network.logits(arguments[0], inputs));",
        network_document(plan_network(case.network, case.raw)),
        samples,
    )
    expected = case.logits()[:10]
    assert np.abs(np.array(logits) - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_a_class_name_cannot_end_the_script(network, digits, tmp_path):
    shown = {**demonstration(network, digits), "classes": ["</script><script>alert(1)</script>"] * 10}
    path = write_report(simulated_study(10), tmp_path / "report.html", NetworkView(demonstration=shown))
    assert "alert(1)</script>" not in path.read_text(encoding="utf-8")


def test_a_page_does_not_carry_a_large_network(digits):
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 800), nn.Linear(800, 10))
    with pytest.raises(InputError, match="at most 50,000 weights"):
        demonstration(large, digits)


def test_a_table_is_shown_without_a_canvas(tmp_path):
    path = tmp_path / "table.npz"
    random = np.random.default_rng(0)
    np.savez(path, x_train=random.normal(size=(80, 4)), y_train=np.arange(80) % 3)
    dataset = load_dataset(DatasetOptions(name=str(path)))
    shown = demonstration(nn.Linear(4, 3), dataset)
    assert shown["picture"] is None
    report = write_report(simulated_study(10), tmp_path / "report.html", NetworkView(demonstration=shown))
    text = report.read_text(encoding="utf-8")
    assert 'id="samples"' in text
    assert 'id="pad"' not in text
