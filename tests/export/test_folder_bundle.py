"""A network of a folder of pictures: its bundle takes pictures of any size where the file resizes."""

import numpy as np
import pytest
from PIL import Image

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import BundleContents, load_bundle, predict, write_bundle
from aiq_search.models import Architecture
from aiq_search.training import TrainingOptions, TrainingRun


def picture(random, sort, size):
    """Dark above and bright below, or the other way round."""
    height, width = size
    rows = np.linspace(20, 220, height)[:: 1 if sort == "down" else -1]
    return Image.fromarray((rows[:, None] + random.integers(0, 30, (height, width))).astype(np.uint8))


@pytest.fixture(scope="module", params=[8, None], ids=["resized", "as they are"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for sort in ("down", "up"):
        (folder / "skies" / sort).mkdir(parents=True)
        for number in range(40):
            size = random.integers(8, 30, 2) if request.param else (8, 8)
            picture(random, sort, size).save(folder / "skies" / sort / f"{number}.png")
    options = DatasetOptions(name=f"{folder / 'skies'}/", size=request.param, channels=1)
    dataset = load_dataset(options, folder / "cache")
    architecture = Architecture("mlp", {"hidden1": 4}, dataset.input_shape, 2)
    training = TrainingOptions(epochs=10, learning_rate=0.05, batch_size=10, engine="torch")
    run = TrainingRun(architecture, dataset, training, seed=0)
    while not run.finished:
        run.run_epoch()
    write_bundle(folder / "champion", BundleContents(architecture, run.best_weights, dataset, options))
    return folder, request.param


def test_pictures_are_read_as_in_training(made):
    folder, _ = made
    bundle = load_bundle(folder / "champion")
    for sort in ("down", "up"):
        answers = predict(bundle, [folder / "skies" / sort]).answers
        assert sum(answer.label == sort for answer in answers) > 36


def test_a_picture_of_another_size_is_resized_only_where_the_training_did(made, tmp_path):
    folder, size = made
    picture(np.random.default_rng(1), "up", (50, 70)).save(tmp_path / "sky.jpg")
    bundle = load_bundle(folder / "champion")
    if size is None:
        with pytest.raises(InputError, match="expected 8x8 pixels as in training, but it has 70x50"):
            predict(bundle, [tmp_path / "sky.jpg"])
    else:
        assert predict(bundle, [tmp_path / "sky.jpg"]).answers[0].label == "up"
