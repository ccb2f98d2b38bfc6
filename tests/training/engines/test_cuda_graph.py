"""A captured training step learns what the step learns, bit for bit.

A CPU has no CUDA graphs. Here a captured step is the step itself, run on the buffers of the graph, so that
all but the capture is tested; ``tests/training/test_cuda.py`` has the captures, for a GPU.
"""

import pytest
import torch

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.models import Architecture
from aiq_search.training import AugmentOptions, TrainingOptions, TrainingRun, load_checkpoint, save_checkpoint
from aiq_search.training.engines.cuda_graph import WARM_UP, GraphedStep
from aiq_search.training.engines.torch_engine import TorchEngine


class Rerun:
    """A captured step on a CPU: the step again, on the same buffers, its result in the same place."""

    made = 0

    def __init__(self, compute):
        type(self).made += 1
        self._compute = compute
        self.result = torch.zeros(())

    def replay(self):
        self.result.copy_(self._compute())


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


NETWORKS = {
    "mlp": {"hidden1": 12, "hidden2": 8, "dropout": 0.1, "batch_norm": True},
    "cnn": {"width1": 3, "width2": 4, "stride1": 2},
}

# Step sizes that 32 bits hold exactly, as a GPU's memory does: what remains is the same, bit for bit.
RECIPES = {
    "sgd": {"optimizer": "sgd", "learning_rate": 2**-5, "warmup": 0.5, "batch_size": 57},
    "without momentum": {"optimizer": "sgd", "learning_rate": 2**-5, "momentum": 0.0},
    "adam": {"optimizer": "adam", "learning_rate": 2**-7, "gradient_clipping": 0.5},
    "adamw": {"optimizer": "adamw", "learning_rate": 2**-7, "class_weights": "balanced"},
    "augmented": {"learning_rate": 2**-5, "augment": AugmentOptions(flip=0.5, erase=0.3, mixup=0.3)},
}


@pytest.fixture(params=sorted(RECIPES))
def recipe(request):
    fields = RECIPES[request.param]
    model = "cnn" if "augment" in fields else "mlp"
    return model, TrainingOptions(**{"epochs": 3, "batch_size": 50, "engine": "torch", **fields})


def begin(digits, recipe, seed=1, graphs=False):
    model, options = recipe
    architecture = Architecture(model, NETWORKS[model], digits.input_shape, 10)
    run = TrainingRun(architecture, digits, options, seed=seed)
    if graphs:
        captured = options.model_copy(update={"cuda_graphs": True})
        run.engine = TorchEngine(run.model, captured, run.train_split, record=Rerun)
    return run


def finish(run):
    while not run.finished:
        run.run_epoch()
    return run


def assert_same(run, other):
    assert run.history == other.history
    assert all(torch.equal(t, run.model.state_dict()[name]) for name, t in other.model.state_dict().items())


def test_a_captured_step_learns_what_the_step_learns(digits, recipe):
    made = Rerun.made
    assert_same(finish(begin(digits, recipe, graphs=True)), finish(begin(digits, recipe)))
    assert Rerun.made == made + 1  # one capture serves all epochs, measured in between


@pytest.mark.parametrize("inside", [False, True])
def test_a_break_changes_nothing_and_captures_anew(tmp_path, digits, recipe, inside):
    whole = finish(begin(digits, recipe, graphs=True))
    interrupted = begin(digits, recipe, graphs=True)
    interrupted.run_part(0.4, 50) if inside else interrupted.run_epoch()
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    for graphs in (True, False):
        resumed = begin(digits, recipe, seed=99, graphs=graphs)
        load_checkpoint(resumed, tmp_path / "checkpoint")
        assert_same(finish(resumed), whole)


def test_what_was_learnt_may_be_loaded_into_a_run_under_way(tmp_path, digits, recipe):
    whole = begin(digits, recipe, graphs=True)
    whole.run_epoch()
    save_checkpoint(whole, tmp_path / "checkpoint")
    finish(whole)
    run = begin(digits, recipe, graphs=True)
    run.run_epoch()
    run.run_epoch()
    load_checkpoint(run, tmp_path / "checkpoint")
    assert_same(finish(run), whole)


def test_other_sizes_are_learnt_from_one_by_one_and_every_batch_once():
    seen = []

    def step(batch):
        seen.append(batch["indices"].tolist())
        return batch["indices"].sum()

    def capture(compute):
        captured.append(len(seen))
        return Rerun(compute)

    captured = []
    graphed = GraphedStep(step, 4, capture)
    order = torch.arange(40).reshape(10, 4)
    batches = [*order[:3], torch.tensor([7, 8]), *order[3:], torch.tensor([9])]
    losses = [graphed({"indices": batch}, len(batch)) for batch in batches]
    assert seen == [batch.tolist() for batch in batches]
    assert [int(loss) for loss in losses] == [int(batch.sum()) for batch in batches]
    assert captured == [WARM_UP + 1]  # the steps before it, and the short batch


def test_the_step_size_keeps_its_place(digits, recipe):
    run = begin(digits, recipe, graphs=True)
    group = run.engine._optimizer.param_groups[0]
    place = group["lr"]
    run.run_epoch()
    run.engine.load_optimizer_state(run.engine.optimizer_state())
    run.run_epoch()
    assert run.engine._optimizer.param_groups[0]["lr"] is place


def test_a_network_on_a_cpu_is_refused(digits):
    architecture = Architecture("mlp", NETWORKS["mlp"], digits.input_shape, 10)
    for device in ("cpu",) if torch.cuda.is_available() else ("cpu", "auto"):
        with pytest.raises(
            InputError, match=r"training\.cuda_graphs is true, but the network trains on a CPU"
        ):
            TrainingRun(architecture, digits, TrainingOptions(cuda_graphs=True, device=device), seed=0)
