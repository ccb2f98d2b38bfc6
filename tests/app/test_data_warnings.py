"""What to know of the data reaches the user before the first trial."""

import logging

import numpy as np

from aiq_search.app.prepare import load_data, prepare_space


def test_uneven_classes_are_logged_when_the_data_are_loaded(tmp_path, caplog):
    x = np.random.default_rng(0).random((110, 3))
    np.savez(tmp_path / "rare.npz", x_train=x, y_train=(np.arange(110) == 3).astype(int))
    space = prepare_space(
        {
            "schema_version": 1,
            "name": "rare",
            "model": {"name": "mlp"},
            "dataset": {"name": str(tmp_path / "rare.npz")},
            "parameters": {"model.hidden1": {"type": "int", "low": 2, "high": 8}},
        }
    )
    with caplog.at_level(logging.WARNING, "aiq_search.search"):
        dataset = load_data(space)
    assert tuple(record.getMessage() for record in caplog.records) == dataset.warnings
    assert "1 of class '1', 109 of class '0'" in caplog.text
