import copy
import json
import re
import time
from pathlib import Path

import pytest

from aiq_search.datasets import known_shape
from aiq_search.search.check import check_names, check_networks
from aiq_search.space import SearchSpace, SpaceError, load_space
from aiq_search.training import TrainingOptions

# Sample shape and classes of the shipped files that search a user's own data.
OWN_DATA = {
    "folder.yaml": ((1, 16, 16), 10),
    "signal_1d.yaml": ((1, 64), 3),
    "table.yaml": ((13,), 3),
}
SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_is_valid_and_its_networks_can_be_built(path):
    space = load_space(path)
    check_names(space)
    shape, classes = known_shape(space.dataset.name) or OWN_DATA.get(path.name, ((1, 8, 8), 10))
    check_networks(space, shape, classes)


def test_every_field_is_documented_in_the_file_for_digits():
    text = (SHIPPED[0].parent / "digits.yaml").read_text()
    sections = {**SearchSpace.model_fields, "augment": TrainingOptions.model_fields["augment"]}
    for section, model in sections.items():
        fields = getattr(model.annotation, "model_fields", {})
        for field in (section, *fields):
            assert re.search(rf"\b{field}\b", text), f"{section}.{field}"


def test_numbers_in_scientific_notation_are_numbers(load):
    assert load().parameters["training.learning_rate"].low == 0.001


def test_a_space_survives_its_document(load):
    space = load()
    assert load_space(space.document()) == space
    assert SearchSpace.model_validate(space.document()).fingerprint == space.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("trials: 60", "trails: 60", 13, 'search.trails: unknown key; did you mean "trials"?'),
        (
            "low: 2, high: 256, log",
            "low: 8, high: 4, log",
            6,
            "low <= high must hold, but got low=8, high=4.",
        ),
        ("low: 1e-3", "low: 0", 11, "a log range must start above 0, but got low=0"),
        ("low: 1e-3", "low: .inf", 11, "expected a finite number, but got .inf"),
        ("accuracy >= 0.95", "acuracy >= 0.95", 12, 'not a reported number; did you mean "accuracy"?'),
        ("accuracy >= 0.95", "accuracy is good", 12, "expected NAME >= NUMBER or NAME <= NUMBER"),
        ("accuracy >= 0.95", "model.fcc <= 3", 12, "'model.fcc' in 'model.fcc <= 3' is no parameter"),
        ("name: lenet-5-mnist", "name: x\nname: y", 3, "duplicate key 'name'; keep one"),
        ("{type: float, low: 0.0", "{type: flot, low: 0.0", 9, "but got 'flot'"),
        ("{type: float, low: 0.0", "{low: 0.0", 9, "parameters.model.dropout.type: is required"),
        ("  model.fc: ", "  fc: ", 8, "the name of a parameter is model.<argument>, training.<field> or"),
        ("schema_version: 1", "schema_version: 2", 1, "schema_version"),
        ("epochs: 10", "epochs: ten", 14, "training.epochs"),
        ("epochs: 10", "epochs: 0", 14, "greater than or equal to 1, but got 0"),
        ("sampler: tpe", "sampler: tpi", 13, "'tpe', 'random', 'grid', 'gp' or 'nsga2', but got 'tpi'"),
        ("model.fc >= 4", "model.fcc >= 4", 9, 'did you mean "model.fc"?'),
        ("model.fc >= 4", "open(1)", 9, "is not allowed"),
        ("high: 0.5, when", "hi: 0.5, when", 9, 'hi: unknown key; did you mean "high"?'),
        ("beta: 2", "beta: -1", 12, "objective.beta"),
        ("powers_of: 2", "powers_of: 3", 7, "must be powers of 3, but got 2"),
        ("choices: [false, true]", "choices: [true, true]", 10, "choices must differ"),
        ("choices: [false, true]", "choices: []", 10, "choices: at least 1 item is required"),
        ("model: {name: lenet_5, activation: elu}", "model: [lenet_5]", 3, "expected a mapping"),
        ("maximize: aiq", "maximize: [aiq, accuracy]", 13, "there are several objectives"),
        ("search: {trials", "\tsearch: {trials", 13, "not valid YAML"),
        ("search: {trials", "search: !!python/object:os.system {trials", 13, "is not supported"),
        ("resources", "enqueue: [{model.conv1: 1000}]\nresources", 15, "1000 is outside its range"),
        ("resources", "enqueue: [{model.conv2: 3}]\nresources", 15, "3 is outside its range"),
        ("resources", "enqueue: [{model.conv: 3}]\nresources", 15, "is not searched"),
        (
            "name: lenet_5, activation: elu",
            "name: lenet_5, &a activation: &b elu",
            3,
            "anchors and aliases (a)",
        ),
        ("activation: elu", "activation: *b", 3, "not valid YAML: found undefined alias"),
        ("activation: elu", "<<: {activation: elu}", 3, "the tag tag:yaml.org,2002:merge is not supported"),
        (
            "activation: elu",
            "activation: !!binary aGk=",
            3,
            "the tag tag:yaml.org,2002:binary is not supported",
        ),
        ("activation: elu", "? [activation]\n  : elu", 3, "a key must be text, but one is ['activation']"),
        ("activation: elu", "3: elu", 3, "a key must be text, but one is 3"),
        ("activation: elu", "x: " + "[" * 25 + "]" * 25, 3, "nested more than 20 levels deep"),
        ("activation: elu", "activation: \x00", 3, "not valid YAML: character"),
        ("low: 2, high: 256, log", f"low: 2, high: {'9' * 400}, log", 6, "… does not fit 64 bits"),
        (
            "low: 2, high: 256, log",
            f"low: 2, high: {2**63}, log",
            6,
            "9223372036854775808 does not fit 64 bits",
        ),
        (
            "low: 2, high: 256, log",
            f"low: 2, high: {2**62}, log",
            6,
            "less than or equal to 9007199254740992",
        ),
        ("low: 2, high: 256, log", "low: 0x2, high: 256, log", 6, "write '0x2' as a decimal number"),
        ("low: 2, high: 256, log", "low: 0o2, high: 256, log", 6, "write '0o2' as a decimal number"),
        ("low: 2, high: 256, log", "low: 02, high: 256, log", 6, "write '02' as a decimal number"),
        (
            "low: 2, high: 256, log",
            "low: 2.0, high: 256, log",
            6,
            "low: expected a whole number, but got 2.0",
        ),
        ("low: 2, high: 256, log", "low: true, high: 256, log", 6, "expected a whole number, but got True"),
        ("low: 2, high: 256, log", 'low: "2", high: 256, log', 6, "expected a whole number, but got '2'"),
        ("low: 2, high: 256, log: true", "low: 2, high: 256, log: 1", 6, "expected true or false, but got 1"),
        ("low: 1e-3", "low: 1e999", 11, "expected a finite number, but got 1e999"),
        ("low: 1e-3", "low: .nan", 11, "expected a finite number, but got .nan"),
        ("low: 0.0, high: 0.5", "low: -1e308, high: 1e308", 9, "the range is too large"),
        ("low: 0.0, high: 0.5", "low: 0.0, high: 0.5, step: 1e-300", 9, "the range is too large"),
        ("batch_size: 200", f"batch_size: {2**62}", 14, "less than or equal to 2147483647"),
        ("beta: 2", "beta: .inf", 12, "expected a finite number"),
        (
            "choices: [false, true]",
            "choices: [[1, 2], true]",
            10,
            "choices.0: expected true or false, a number or",
        ),
        ("choices: [false, true]", "choices: [1, true]", 10, "choices must differ"),
        ("name: lenet_5,", "name: [lenet_5],", 3, "model.name: expected text, but got ['lenet_5']"),
        ("model.fc >= 4", "9 ** 9 ** 9 > 1", 9, "the exponent 387420489 is over 64"),
        ("model.fc >= 4", "round(model.fc, -999999999, 1)", 9, "round takes 1 to 2 numbers, but got 3"),
        ("model.fc >= 4", "-" * 2000 + "1", 9, "has 2,001 characters"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_line_and_what_was_expected(load, old, new, line, said):
    with pytest.raises(SpaceError) as error:
        load((old, new))
    message = str(error.value)
    place = "space.yaml" if line is None else f"space.yaml:{line}"
    assert message.splitlines()[0].partition(": ")[0].endswith(place)
    assert said in message
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"- 1\n- 2\n", b"just text", b"&a [*a]", b"[" * 5000]
)
def test_what_is_no_mapping_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(SpaceError, match=r"space\.yaml"):
        load_space(path)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(b"name: x\nmodel: \xff\n")
    with pytest.raises(SpaceError, match=r"space\.yaml:2: not text in UTF-8: byte 0xff"):
        load_space(path)


def test_aliases_are_refused_before_they_are_expanded(tmp_path):
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]
    path = tmp_path / "space.yaml"
    path.write_text("\n".join(lines))
    started = time.process_time()
    with pytest.raises(SpaceError, match=r"space\.yaml:1: a0: anchors and aliases \(a0\) are not supported"):
        load_space(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("size", [100_001, 5_000_000])
def test_a_file_that_is_too_large_is_not_parsed(tmp_path, size):
    path = tmp_path / "space.yaml"
    path.write_bytes(b"x: 1\n" * (size // 5 + 1))
    with pytest.raises(SpaceError, match="over 100,000 bytes"):
        load_space(path)


def test_a_file_of_many_mistakes_lists_the_first(load):
    with pytest.raises(SpaceError) as error:
        load(("epochs: 10", ", ".join(f"x{i}: 1" for i in range(300))))
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 280 more."


@pytest.mark.parametrize("name", ["\x1b[2J\x07", "\u202egnp", "a" * 900])
def test_a_message_is_short_and_steers_no_terminal(load, name):
    with pytest.raises(SpaceError, match="unknown key") as error:
        load(overrides=[f"search={{{json.dumps(name)}: 1}}"])
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "search.target: expected a finite number, but got nan"),
        (10**30, "search.target: a whole number does not fit 64 bits"),
        ({3: 1}, "search.target: a key must be text, but one is 3"),
        ({1, 2}, "search.target: expected plain data, but got set"),
        (Path("x"), "search.target: expected plain data, but got PosixPath"),
    ],
)
def test_a_document_is_held_to_the_rules_of_a_file(load, value, said):
    document = load().document()
    document["search"]["target"] = value
    with pytest.raises(SpaceError, match=f"^the search space: {re.escape(said)}"):
        load_space(document)
    document["search"]["target"] = document
    with pytest.raises(SpaceError, match="nested more than 20 levels deep"):
        load_space(document)


def test_a_space_remembers_where_it_was_written_and_is_equal_to_one_that_was_not(load):
    space = load(overrides=["search.trials=20"])
    assert str(space.error(("search", "seed"), "no")).endswith("space.yaml:13: search.seed: no.")
    assert str(space.error(("search", "trials"), "no")) == "--set: search.trials: no."
    assert str(space.error(("training", "momentum"), "no")).endswith("space.yaml:14: training.momentum: no.")
    assert space == load_space(space.document())


def test_a_missing_file_offers_the_nearest(tmp_path):
    (tmp_path / "digits.yaml").write_text("")
    with pytest.raises(SpaceError, match=r"no such file; did you mean .*digits\.yaml"):
        load_space(tmp_path / "digit.yaml")


def test_edits_reach_every_kind_of_field(load):
    space = load(
        overrides=[
            "search.trials=20",
            "search.sampler.n_startup_trials=3",
            "parameters.model.conv1.low=4",
            "parameters.training.momentum={type: float, low: 0.5, high: 0.9}",
            "objective.constraints=['accuracy >= 0.9']",
            "model.activation=relu",
        ]
    )
    assert space.search.trials == 20
    assert space.search.sampler.model_extra == {"n_startup_trials": 3}
    assert space.parameters["model.conv1"].low == 4
    assert space.parameters["training.momentum"].high == 0.9
    assert space.objective.constraints == ("accuracy >= 0.9",)
    assert space.model.arguments == {"activation": "relu"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.trials", "expected dotted.key=value"),
        ("search..trials=3", "expected dotted.key=value"),
        ("search.trils=3", 'did you mean "trials"'),
        ("name.x=3", "--set: name: is not a mapping"),
        ("parameters.model.conv1.low.x=3", "--set: parameters.model.conv1.low: is not a mapping"),
        ("search.seed=1e999", "--set: search.seed: expected a finite number"),
        ("search={trials: &a 3}", "--set: search.trials: anchors and aliases"),
        ("enqueue=[{model.conv1: 3000}]", "--set: enqueue.0.model.conv1: 3000 is outside its range"),
        ("search.trials=[", "not valid YAML"),
    ],
)
def test_a_wrong_edit_is_one_sentence(load, override, said):
    with pytest.raises(SpaceError, match=said):
        load(overrides=[override])


def test_the_fingerprint_ignores_budgets_and_sees_ranges(load):
    base = load().fingerprint
    assert load(overrides=["search.trials=7"]).fingerprint == base
    assert load(overrides=["confirm.seeds=9"]).fingerprint == base
    assert load(overrides=["parameters.model.conv1.low=3"]).fingerprint != base
    assert load(overrides=["search.seed=1"]).fingerprint != base


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("model.conv3={type: int, low: 1, high: 2}", 'did you mean "conv2"'),
        ("model.activation={type: categorical, choices: [elu]}", "is fixed in the section model"),
        ("training.learning={type: float, low: 1, high: 2}", 'did you mean "learning_rate"'),
        ("training.momentum={type: float, low: 0.5, high: 1.5}", "1.5 is not possible"),
        ("training.optimizer={type: categorical, choices: [sgd, sgdd]}", "'sgdd' is not possible"),
    ],
)
def test_a_parameter_that_sets_nothing_is_refused(load, parameter, said):
    with pytest.raises(SpaceError, match=said):
        check_names(load(overrides=[f"parameters.{parameter}"]))


def test_what_a_file_names_is_blamed_with_its_line(load):
    for old, new, said in [
        (
            "name: lenet_5,",
            "name: lenet_6,",
            "3: model.name: unknown model 'lenet_6'; did you mean \"lenet_5\"?",
        ),
        (
            "name: mnist,",
            "name: mnits,",
            "4: dataset.name: unknown data set 'mnits'; did you mean \"mnist\"?",
        ),
        ("activation: elu", "activatoin: elu", "3: model.activatoin: model 'lenet_5' takes no argument"),
        ("  model.conv2:", "  model.conv3:", "7: parameters.model.conv3: model 'lenet_5' takes no argument"),
    ]:
        with pytest.raises(SpaceError) as error:
            check_names(load((old, new)))
        assert f"space.yaml:{said}" in str(error.value)


def test_networks_that_do_not_fit_the_data_are_refused(load):
    with pytest.raises(SpaceError, match="at least 16x16"):
        check_networks(load(), (1, 8, 8), 10)


def test_edits_of_a_document_are_not_the_caller_s():
    document = {
        "schema_version": 1,
        "name": "s",
        "model": {"name": "mlp"},
        "dataset": {"name": "digits"},
        "parameters": {"model.hidden1": {"type": "int", "low": 1, "high": 4}},
        "search": {"trials": 60},
    }
    before = copy.deepcopy(document)
    edits = ["search.trials=3", "search.sampler.n_startup_trials=2", "parameters.model.hidden1.low=2"]
    assert load_space(document, edits).search.trials == 3
    assert document == before


AUGMENTED = (
    "training.learning_rate: {",
    "training.augment.shift: {type: float, low: 0.0, high: 0.2}\n  training.learning_rate: {",
)


def test_augmentation_is_searched_by_its_dotted_name(load):
    space = load(
        AUGMENTED, overrides=["parameters.training.augment.shift.high=0.1", "training.augment.flip=0.5"]
    )
    check_names(space)
    options = space.training_options({"training.augment.shift": 0.05, "training.learning_rate": 0.01})
    assert (options.augment.shift, options.augment.flip, options.learning_rate) == (0.05, 0.5, 0.01)
    assert space.parameters["training.augment.shift"].high == 0.1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("augment.shift", "augment.shfit", "training.augment has no field 'shfit'; did you mean \"shift\"?"),
        ("high: 0.2", "high: 2.0", "parameters.training.augment.shift: 2.0 is not possible"),
        ("epochs: 10", "augment: {shfit: 0.1}, epochs: 10", 'shfit: unknown key; did you mean "shift"?'),
        ("epochs: 10", "augment: {shift: -1}, epochs: 10", "training.augment.shift: "),
        ("epochs: 10", "schedule: one_cicle, epochs: 10", "'one_cycle'"),
        ("epochs: 10", "label_smoothing: 1, epochs: 10", "training.label_smoothing: "),
    ],
)
def test_a_mistake_in_the_recipe_is_one_sentence(load, old, new, said):
    def checked():
        edited = AUGMENTED[1].replace(old, new), (old, new)
        check_names(
            load((AUGMENTED[0], edited[0])) if edited[0] != AUGMENTED[1] else load(AUGMENTED, edited[1])
        )

    with pytest.raises(SpaceError, match=re.escape(said)):
        checked()


def test_a_file_from_before_the_recipe_searches_the_same(load):
    """Its fingerprint, by which a study is found again, does not change."""
    assert "augment" not in load().fingerprinted["training"]
    assert load().fingerprint != load(("epochs: 10", "warmup: 1.0, epochs: 10")).fingerprint
    augmented = load(("epochs: 10", "augment: {flip: 0.5}, epochs: 10"))
    assert augmented.fingerprinted["training"]["augment"]["flip"] == 0.5


def test_a_file_without_a_capture_searches_what_it_searched_before(load):
    space = load()
    document = space.document()
    assert "capture" not in space.fingerprinted["objective"]
    other = {**document, "objective": {**document["objective"], "capture": "before"}}
    assert load_space(other).fingerprint != space.fingerprint
