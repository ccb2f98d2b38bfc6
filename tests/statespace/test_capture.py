import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from aiq_search.errors import InputError
from aiq_search.statespace import StateCapture, StateCounter

from .naive import naive_counts, table


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(6 * 36, 9), nn.ELU(inplace=True), nn.Linear(9, 3),
    )  # fmt: skip


def images(samples=20):
    return torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def outputs(model, inputs, *names):
    """What some layers give, copied at once by hooks of our own."""
    kept = {}
    named = dict(model.named_modules())
    handles = [
        named[name].register_forward_hook(
            lambda _m, _i, out, name=name: kept.setdefault(name, []).append(out.clone())
        )
        for name in names
    ]
    model(inputs)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in kept.items()}


def measured(model, run, **options):
    with StateCapture(model, **options) as capture:
        run(model)
    return {name: sorted(counts.counts.tolist()) for name, counts in capture.compute().items()}


def test_every_hidden_layer_is_counted_and_the_output_layer_left_out():
    model = small()
    found = measured(model, lambda m: m(images()))
    expected = outputs(model, images(), "0", "3")
    assert found == {name: naive_counts(values, 1) for name, values in expected.items()}


def test_an_operation_in_place_after_the_layer_changes_nothing():
    model = small()
    plain = nn.Sequential(*[nn.ReLU() if isinstance(m, nn.ReLU) else m for m in model])
    assert measured(model, lambda m: m(images())) == measured(plain, lambda m: m(images()))


class HeadFirst(nn.Module):
    """Registers its output layer first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 2)
        self.body = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.body(x))


def test_the_output_layer_is_the_last_one_called_not_the_last_registered():
    capture = StateCapture(HeadFirst())
    with capture:
        capture._model(torch.randn(6, 4))
        assert capture.output_layer == "head"
    assert list(capture.compute()) == ["body"]


def test_the_output_layer_is_found_when_only_parts_are_called():
    model = small()
    with StateCapture(model) as capture:
        model[5](model[3](torch.randn(4, 216)))
        model[0](images())
        model[5](torch.randn(4, 9))
    assert set(capture.compute()) == {"0", "3"}


def test_after_the_first_pass_the_output_layer_has_no_hook_of_ours():
    model = small()
    with StateCapture(model):
        assert len(model[5]._forward_hooks) == 1
        model(images())
        assert not model[5]._forward_hooks
        assert not model._forward_hooks


def test_hooks_of_others_stay_and_ours_go_even_after_an_error():
    model = small()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(RuntimeError), StateCapture(model):
        model(torch.randn(2, 3, 8, 8))
    with StateCapture(model):
        model(images())
    assert [len(m._forward_hooks) for m in model] == [1, 0, 0, 0, 0, 0]
    assert len(calls) == 1


def test_reset_keeps_the_hooks_so_that_each_epoch_is_counted_alone():
    model = small()
    with StateCapture(model) as capture:
        for samples in (20, 7):
            capture.reset()
            model(images(samples))
            assert capture.compute()["3"].observations == samples


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("3", ["3"]),
        (["3", "0"], ["0", "3"]),
        (nn.Linear, ["3", "5"]),
        (nn.Conv2d, ["0"]),
        ("[35]", ["3", "5"]),
        (lambda name, module: getattr(module, "out_features", 0) == 9, ["3"]),
    ],
)
def test_layers_are_selected_by_name_pattern_class_or_function(selector, names):
    assert list(measured(small(), lambda m: m(images()), layers=selector)) == names


def test_a_class_is_selected_by_its_name():
    found = measured(small(), lambda m: m(images()), layers=["Conv2d", "Linear"])
    assert found.keys() == measured(small(), lambda m: m(images()), layers=[nn.Conv2d, nn.Linear]).keys()
    assert "0" in found
    with pytest.raises(InputError, match=r"no layer that 'LSTM' selects. valid names: .*Linear"):
        StateCapture(small(), layers="LSTM")


def test_where_the_output_layer_is_left_out_no_other_takes_its_place():
    usual = measured(small(), lambda m: m(images()))
    last = list(StateCapture(small()).layers)[-1]
    assert measured(small(), lambda m: m(images()), exclude=last) == usual


def test_exclude_leaves_out():
    assert list(measured(small(), lambda m: m(images()), exclude="0")) == ["3"]
    with pytest.raises(InputError, match="No layer is left"):
        StateCapture(small(), layers="3", exclude=nn.Linear)


def test_an_unknown_layer_gets_the_nearest_name():
    model = nn.ModuleDict({"hidden1": nn.Linear(2, 2)})
    with pytest.raises(InputError, match='did you mean "hidden1"'):
        StateCapture(model, layers=["hiden1"])


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Linear(2, 2))])
def test_a_model_without_hidden_layers_is_refused(model):
    with pytest.raises(InputError, match=r"no hidden|no modules"):
        StateCapture(model)


def test_a_scripted_network_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="build it from its class"):
        StateCapture(torch.jit.trace(small(), images()))


def test_before_counts_the_inputs_of_a_layer():
    model = small()
    found = measured(model, lambda m: m(images()), layers="5", point="before")
    assert found["5"] == naive_counts(outputs(model, images(), "4")["4"], 1)
    with pytest.raises(InputError, match="point"):
        StateCapture(model, point="during")


@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv1d, (9,)), (nn.Conv2d, (7, 6)), (nn.Conv3d, (5, 4, 4))])
@pytest.mark.parametrize("batched", [True, False])
def test_convolutions_of_any_dimension_count_each_position(conv, shape, batched):
    layer = conv(2, 5, 3)
    x = torch.randn(*((4,) if batched else ()), 2, *shape)
    found = measured(nn.Sequential(layer), lambda m: m(x), layers="0")
    assert found["0"] == naive_counts(layer(x), 1 if batched else 0)


def test_a_sequence_counts_each_token_with_the_neurons_last():
    layer = nn.Linear(4, 6)
    x = torch.randn(3, 11, 4)
    found = measured(nn.Sequential(layer), lambda m: m(x), layers="0")
    assert found["0"] == naive_counts(layer(x), 2)


def test_a_module_that_returns_a_tuple_is_counted_at_the_chosen_output():
    lstm = nn.LSTM(3, 5, batch_first=True)
    x = torch.randn(4, 7, 3)
    model = nn.ModuleDict({"rnn": lstm})
    found = measured(model, lambda m: m["rnn"](x), layers="rnn")
    assert found["rnn"] == naive_counts(lstm(x)[0], 2)
    packed = nn.utils.rnn.pack_padded_sequence(x, [7, 5, 5, 2], batch_first=True)
    assert sum(measured(model, lambda m: m["rnn"](packed), layers="rnn")["rnn"]) == 19
    with pytest.raises(InputError, match=r"Layer 'rnn': .* output="):
        measured(model, lambda m: m["rnn"](x), layers="rnn", output=1)


class Named(nn.Module):
    """Returns a mapping."""

    def forward(self, x):
        return {"a": x, "b": -x}


def test_a_module_that_returns_a_mapping_is_counted_at_the_chosen_key():
    x = torch.randn(9, 3)
    found = measured(nn.Sequential(Named()), lambda m: m(x), layers="0", output={"0": "b"})
    assert found["0"] == naive_counts(-x, 1)


def test_an_ambiguous_axis_is_asked_for():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with pytest.raises(InputError, match=r"Layer '1': .*axis="):
        measured(model, lambda m: m(images()), layers="1")
    found = measured(model, lambda m: m(images()), layers="1", axis={"1": 1})
    assert found["1"] == naive_counts(model(images()), 1)
    assert sum(measured(model, lambda m: m(images()), layers="1", axis=-1)["1"]) == 20 * 4 * 6
    with pytest.raises(InputError, match="axis 7"):
        measured(model, lambda m: m(images()), layers="1", axis=7)


class Twice(nn.Module):
    """One layer called twice and known by two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.alias = self.first
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.alias(self.first(x)))


def test_a_shared_module_has_its_first_name_and_counts_every_call():
    model = Twice()
    x = torch.randn(10, 4)
    found = measured(model, lambda m: m(x))
    once = model.first(x)
    assert found == {"first": naive_counts(torch.cat([once, model.first(once)]), 1)}


class OwnSequential(nn.Sequential):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return super().forward(x) * 2


def test_a_subclass_of_sequential_is_nothing_special():
    model = OwnSequential(*small())
    assert measured(model, lambda m: m(images())) == measured(small(), lambda m: m(images()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("training", [True, False])
def test_neither_gradients_nor_the_mode_matter(mode, training):
    model = small().train(training)
    with mode():
        found = measured(model, lambda m: m(images()))
    assert found == measured(small(), lambda m: m(images()))


def test_gradients_flow_as_without_a_capture():
    model = small()
    with StateCapture(model):
        model(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_counted_as_they_are(dtype):
    model = small().to(dtype)
    found = measured(model, lambda m: m(images().to(dtype)))
    expected = outputs(model, images().to(dtype), "0", "3")
    assert found == {name: naive_counts(values, 1) for name, values in expected.items()}


def test_autocast_is_counted_in_its_type():
    model = small()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = measured(model, lambda m: m(images()))
        expected = outputs(model, images(), "0", "3")
    assert expected["0"].dtype == torch.bfloat16
    assert found == {name: naive_counts(values, 1) for name, values in expected.items()}


def test_batches_of_changing_size_and_empty_ones_add_up():
    model = small()
    pictures = images(20)
    found = measured(model, lambda m: [m(part) for part in pictures.split([3, 0, 16, 1])])
    assert found == measured(model, lambda m: m(pictures))


def test_what_a_checkpoint_computes_again_is_counted_once():
    model = small().train()

    def run(model):
        checkpoint(model[:4], images().requires_grad_(), use_reentrant=False).sum().backward()

    assert measured(model, run, layers=["0", "3"]) == measured(
        model, lambda m: m(images()), layers=["0", "3"]
    )


def test_threads_that_share_a_model_lose_no_observation():
    model = small()
    with StateCapture(model) as capture:
        model(images(1))
        threads = [threading.Thread(target=lambda: [model(images(5)) for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert capture.compute()["3"].observations == 201


def test_a_layer_that_never_ran_is_named():
    model = nn.ModuleDict({"used": nn.Linear(2, 3), "spare": nn.Linear(2, 3), "out": nn.Linear(3, 1)})
    with StateCapture(model) as capture:
        model["out"](model["used"](torch.ones(2, 2)))
    with pytest.raises(InputError, match=r"Layer 'spare' never ran.*exclude='spare'"):
        capture.compute()


def test_a_layer_without_observations_is_named():
    with StateCapture(small()) as capture:
        capture._model(images(0))
    with pytest.raises(InputError, match=r"Layer '0': No observation"):
        capture.compute()


def test_a_changed_number_of_neurons_is_named():
    model = nn.Sequential(nn.Identity())
    with StateCapture(model, layers="0") as capture:
        model(torch.ones(2, 3))
        with pytest.raises(InputError, match=r"Layer '0': Expected 3 neurons"):
            model(torch.ones(2, 4))
    assert capture.compute()["0"].observations == 2


def test_a_capture_is_not_entered_twice():
    with StateCapture(small()) as capture, pytest.raises(InputError, match="already active"):
        capture.__enter__()


def test_counters_of_two_captures_merge():
    model = small()
    captures = [StateCapture(model, layers="3") for _ in range(2)]
    for capture, part in zip(captures, images(20).split(10), strict=True):
        with capture:
            model(part)
    captures[0].counters["3"].merge(StateCounter.from_arrays(captures[1].counters["3"].to_arrays()))
    with StateCapture(model, layers="3") as whole:
        model(images(20))
    assert table(captures[0].compute()["3"]) == table(whole.compute()["3"])


def test_attention_stands_for_its_output_projection():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(3, 5, 8)
    with torch.inference_mode():
        found = measured(block, lambda m: m(x), layers=["self_attn", "linear1", "linear2"])
        default = measured(block, lambda m: m(x))
        attention = block.self_attn(x, x, x, need_weights=False)[0]
    assert found["self_attn"] == naive_counts(attention, 2)
    assert set(default) == {"self_attn", "linear1"}


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_a_compiled_model_gives_the_counts_of_the_plain_one_under_its_names(whole):
    expected = measured(small(), lambda m: m(images()))
    if whole:
        model = torch.compile(small(), backend="eager")
    else:
        model = small()
        model[3] = torch.compile(model[3], backend="eager")
    with torch.no_grad():
        before = model(images())
        assert measured(model, lambda m: m(images())) == expected
        assert torch.equal(model(images()), before)
