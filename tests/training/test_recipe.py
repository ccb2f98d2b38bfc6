"""Step sizes, augmentation, smoothing, clipping and class weights: on both engines, and across a break."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.errors import InputError
from aiq_search.models import Architecture
from aiq_search.training import AugmentOptions, TrainingOptions, TrainingRun, load_checkpoint, save_checkpoint
from aiq_search.training.augment import Augmentation, Mixing, warped
from aiq_search.training.engines.torch_engine import balanced_weights
from aiq_search.training.schedule import learning_rates


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DatasetOptions(name="digits", validation=360, test=360))


@pytest.fixture(scope="module")
def small(digits):
    return Architecture("cnn", {"width1": 3, "width2": 4, "stride1": 2}, digits.input_shape, 10)


def options(**fields):
    return TrainingOptions(**{"epochs": 2, "batch_size": 60, "learning_rate": 0.05, **fields})


# ---- step sizes -------------------------------------------------------------------------------------------


def test_one_cycle_is_torchs():
    chosen = TrainingOptions(epochs=5, learning_rate=0.3, schedule="one_cycle")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=35)
    expected = []
    for _ in range(35):
        expected.append(cycle.get_last_lr()[0])
        optimizer.step()
        cycle.step() if len(expected) < 35 else None
    rates = [rate for epoch in range(5) for rate in learning_rates(chosen, epoch, 7)]
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", range(1, 12))
def test_one_cycle_of_few_steps_stays_within_its_bounds(steps):
    rates = learning_rates(TrainingOptions(epochs=1, learning_rate=1.0, schedule="one_cycle"), 0, steps)
    assert len(rates) == steps
    assert all(0 < rate <= 1 for rate in rates)


def test_a_warm_up_rises_to_the_schedule():
    cosine = TrainingOptions(epochs=4, learning_rate=1.0, schedule="cosine", warmup=1.5)
    rates = [rate for epoch in range(4) for rate in learning_rates(cosine, epoch, 4)]
    shares = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4) for _ in range(4)]
    assert rates == pytest.approx([min(1, (i + 1) / 6) * share for i, share in enumerate(shares)])


# ---- augmentation -----------------------------------------------------------------------------------------

CHANGES = [{"shift": 0.2}, {"rotation": 30.0}, {"flip": 1.0}, {"crop": 0.5}, {"erase": 1.0}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 10, 14)])
def test_each_change_changes_the_images_and_keeps_their_shape(change, kind, shape):
    raw = torch.randint(1, 256, (20, *shape)).to(kind)
    before = raw.clone()
    augment = Augmentation(AugmentOptions(**change), shape)
    torch.manual_seed(0)
    first = augment(raw)
    assert (first.shape, first.dtype) == (raw.shape, torch.float32)
    assert not torch.equal(first, raw.float())
    assert torch.equal(raw, before)
    torch.manual_seed(0)
    assert torch.equal(augment(raw), first)
    assert not torch.equal(augment(raw), first) or change == {"flip": 1.0}


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 10, 16)])
def test_a_turned_and_moved_image_is_torchvisions(shape):
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional as reference

    images, angles = torch.rand(4, *shape), torch.tensor([0.0, 0.3, -0.2, 1.5])
    moved = torch.tensor([[0.25, 0.0], [0.0, 0.0], [0.125, -0.1], [0.0, 0.2]])
    size = torch.tensor([shape[2], shape[1]])
    ours = warped(images, angles, torch.ones(4), torch.zeros(4, 2))
    for index, angle in enumerate(angles):
        turned = reference.rotate(
            images[index], math.degrees(angle), interpolation=v2.InterpolationMode.BILINEAR
        )
        torch.testing.assert_close(ours[index], turned, rtol=0, atol=1e-4)
    pixels = (moved * size).round()
    ours = warped(images, torch.zeros(4), torch.ones(4), pixels / size)
    for index, (right, down) in enumerate(pixels.tolist()):
        shifted = reference.affine(images[index], 0.0, [-right, -down], 1.0, [0.0, 0.0])
        torch.testing.assert_close(ours[index], shifted, rtol=0, atol=1e-4)


def test_a_crop_is_a_part_of_the_image_in_its_size():
    steps = torch.arange(32.0).expand(200, 1, 32, 32)
    changed = Augmentation(AugmentOptions(crop=0.75), (1, 32, 32))(steps)
    inner = changed[:, 0, 8:24, 8:24]
    slopes = (inner[:, :, 1:] - inner[:, :, :-1]).mean((1, 2))
    assert 0.49 < slopes.min() < 0.6
    assert 0.9 < slopes.max() < 1.01
    # Nothing comes from outside the image, but for the border that interpolation blends.
    assert (changed[:, 0, 16, 2:-2] > 0).all()


def test_each_sample_of_a_batch_has_its_own_draw():
    raw = torch.zeros(60, 1, 16, 16)
    raw[:, :, 8, 8] = 1
    torch.manual_seed(1)
    changed = Augmentation(AugmentOptions(shift=0.4), (1, 16, 16))(raw)
    places = changed.flatten(1).argmax(1)
    assert len(set(places.tolist())) > 30
    flipped = Augmentation(AugmentOptions(flip=0.5), (1, 16, 16))(raw).flatten(1).argmax(1)
    assert set(flipped.tolist()) == {8 * 16 + 8, 8 * 16 + 7}


def test_an_erased_rectangle_is_a_part_of_some_images():
    raw = torch.ones(300, 2, 20, 30)
    gone = Augmentation(AugmentOptions(erase=0.5), (2, 20, 30))(raw) == 0
    assert torch.equal(gone[:, 0], gone[:, 1])
    shares = gone[:, 0].float().mean((1, 2))
    some = shares > 0
    assert 100 < some.sum() < 200
    assert shares.max() < 0.36
    area = gone[some, 0].any(2).sum(1) * gone[some, 0].any(1).sum(1)
    assert torch.equal(area, gone[some, 0].sum((1, 2)))


def test_what_is_moved_in_is_nothing():
    raw = torch.full((64, 1, 10, 10), 200, dtype=torch.uint8)
    changed = Augmentation(AugmentOptions(shift=0.5), (1, 10, 10))(raw)
    assert changed.min() == 0
    assert changed.max() <= 200.001
    assert (changed == 0).any(3).any(2).float().mean() > 0.9


def test_samples_that_are_no_images_cannot_be_shifted(digits):
    with pytest.raises(InputError, match=r"augment.rotation changes images .* has the shape \(5, 40\)"):
        Augmentation(AugmentOptions(rotation=5.0, mixup=0.2), (5, 40))
    assert not Augmentation(AugmentOptions(mixup=0.2), (5, 40)).changes


def test_mixup_mixes_the_samples_and_their_losses_alike():
    inputs, labels = torch.randn(6, 5), torch.arange(6) % 3
    torch.manual_seed(3)
    mix = Mixing(0.4)
    mixed, loss = mix(inputs, labels, functional.cross_entropy, mix.draw())
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs.roll(1, 0))
    soft = functional.one_hot(labels, 3).float()
    logits = torch.randn(6, 3)
    expected = functional.cross_entropy(logits, share * soft + (1 - share) * soft.roll(1, 0))
    torch.testing.assert_close(loss(logits), expected)


def test_augmentation_keeps_a_network_from_learning_the_samples_by_heart(digits, small):
    plain, shifted = (
        TrainingRun(small, digits, options(augment=augment), seed=0)
        for augment in (AugmentOptions(), AugmentOptions(shift=0.2, rotation=20.0))
    )
    assert shifted.run_epoch().train_loss > plain.run_epoch().train_loss


# ---- both engines -----------------------------------------------------------------------------------------

EVERYTHING = {
    "schedule": "one_cycle",
    "warmup": 0.5,
    "gradient_clipping": 0.5,
    "label_smoothing": 0.1,
    "augment": AugmentOptions(shift=0.1, rotation=10.0, flip=0.5, crop=0.2, erase=0.3),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_engines_give_the_same_numbers(digits, small, optimizer):
    fields = {**EVERYTHING, "optimizer": optimizer, "learning_rate": 0.01}
    runs = [TrainingRun(small, digits, options(engine=e, **fields), seed=3) for e in ("torch", "compiled")]
    torch.manual_seed(11)
    first = runs[0].run_epoch()
    torch.manual_seed(11)
    second = runs[1].run_epoch()
    assert second.train_loss == pytest.approx(first.train_loss, rel=1e-3)
    assert second.validation.loss == pytest.approx(first.validation.loss, rel=1e-2)


@pytest.mark.parametrize("engine", ["torch", "compiled"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_break_changes_nothing_bit_for_bit(tmp_path, digits, small, engine, inside):
    fields = dict(EVERYTHING)
    if engine == "torch":
        fields["class_weights"] = "balanced"
        fields["augment"] = AugmentOptions(**{**EVERYTHING["augment"].model_dump(), "mixup": 0.3})
    chosen = options(engine=engine, **fields)
    whole = TrainingRun(small, digits, chosen, seed=1)
    while not whole.finished:
        whole.run_epoch()
    interrupted = TrainingRun(small, digits, chosen, seed=1)
    interrupted.run_part(0.4, 50) if inside else interrupted.run_epoch()
    save_checkpoint(interrupted, tmp_path / "checkpoint")
    resumed = TrainingRun(small, digits, chosen, seed=77)
    load_checkpoint(resumed, tmp_path / "checkpoint")
    while not resumed.finished:
        resumed.run_epoch()
    assert resumed.history == whole.history
    assert all(torch.equal(resumed.best_weights[name], t) for name, t in whole.best_weights.items())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"class_weights": "balanced"}, "training.class_weights: balanced"),
        ({"augment": AugmentOptions(mixup=0.2)}, "training.augment.mixup: 0.2"),
    ],
)
def test_what_the_compiled_engine_does_not_do_torch_does_and_says_why(digits, small, fields, said):
    run = TrainingRun(small, digits, options(**fields), seed=0)
    assert (run.engine.name, run.engine.reason) == ("torch", f"the compiled engine does not know {said}")
    with pytest.raises(InputError, match="does not know this network"):
        TrainingRun(small, digits, options(engine="compiled", **fields), seed=0)
    assert TrainingRun(small, digits, options(engine="torch", **fields), seed=0).engine.reason is None
    assert TrainingRun(small, digits, options(), seed=0).engine.reason is None


# ---- the loss and the gradient ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_a_clipped_step_is_no_longer_than_the_norm(digits, small, engine):
    run = TrainingRun(
        small,
        digits,
        options(engine=engine, gradient_clipping=1e-3, momentum=0.0, nesterov=False, weight_decay=0.0),
        seed=0,
    )
    before = torch.cat([p.detach().flatten().clone() for p in run.model.parameters()])
    run.engine.train(run.train_split, [torch.arange(60)], [2.0])
    after = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(2e-3, rel=1e-2)


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0, 0, 0, 1, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert balanced_weights(torch.from_numpy(labels), 3).tolist() == pytest.approx(expected)
    assert balanced_weights(torch.from_numpy(labels), 4)[3] == 0


def test_balanced_weights_count_in_the_loss(digits, small):
    runs = [
        TrainingRun(small, digits, options(engine="torch", class_weights=weights), seed=0)
        for weights in ("none", "balanced")
    ]
    few = torch.arange(60)
    logits = runs[0].model.train()(runs[0].train_split.batch(few)[0])
    labels = runs[0].train_split.labels
    expected = functional.cross_entropy(logits, labels[few], weight=balanced_weights(labels, 10))
    (loss,) = runs[1].engine.train(runs[1].train_split, [few], [0.0])
    assert loss == pytest.approx(60 * expected.item(), rel=1e-5)
    (plain,) = runs[0].engine.train(runs[0].train_split, [few], [0.0])
    assert loss != pytest.approx(plain, rel=1e-7)
