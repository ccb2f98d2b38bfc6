r"""Search-space files with one or two faults of a kind, made from a seed.

Each kind is a function that takes a random generator and gives the bytes of a file. A file begins as a valid
document, in which the kind puts its faults; some remain valid.
"""

# ruff: noqa: SIM905 - words in a text are easier to read and to add to

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

Kind = Callable[[random.Random], bytes]

KINDS: dict[str, Kind] = {}


class Raw(str):
    """YAML that is written as it is."""


def kind(make: Kind) -> Kind:
    KINDS[make.__name__] = make
    return make


# ---- valid documents --------------------------------------------------------------------------------------


@kind
def valid(rng: random.Random) -> bytes:
    """Files in which nothing is wrong."""
    return text(document(rng))


def document(rng: random.Random) -> dict[str, Any]:
    model, parameters = rng.choice(
        [
            ({"name": "mlp"}, {"model.hidden1": _width(rng), "model.hidden2": _width(rng)}),
            ({"name": "mlp", "activation": "relu"}, {"model.hidden1": _width(rng)}),
            ({"name": "lenet_300_100"}, {"model.hidden1": _width(rng), "model.hidden2": _width(rng)}),
            ({"name": "lenet_5", "conv1": 4}, {"model.conv2": _width(rng), "model.fc": _width(rng)}),
            ({"name": "trap:network"}, {"model.width": _width(rng)}),
        ]
    )
    extra = {
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "training.learning_rate": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
        "training.batch_size": {"type": "categorical", "choices": [32, 64, 128]},
    }
    chosen = rng.sample(sorted(extra), rng.randint(0, len(extra)))
    whole: dict[str, Any] = {
        "schema_version": 1,
        "name": "fuzz",
        "model": model,
        "dataset": {"name": "mnist" if model["name"] == "lenet_5" else rng.choice(["digits", "mnist"])},
        "parameters": parameters | {name: extra[name] for name in chosen},
        "objective": {"maximize": "aiq", "beta": 2, "constraints": ["accuracy >= 0.9"]},
        "search": {"trials": 10, "sampler": rng.choice(["tpe", "random", "gp"]), "seed": rng.randint(0, 9)},
        "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.01},
        "confirm": {"finalists": 2, "seeds": 2},
        "resources": {"cpu": 1, "gpu": 0},
    }
    optional = ["objective", "search", "training", "confirm", "resources"]
    for section in rng.sample(optional, rng.randint(0, 3)):
        del whole[section]
    return whole


def _width(rng: random.Random) -> dict[str, Any]:
    low = rng.choice([1, 2, 4])
    scale = rng.choice([{}, {"log": True}, {"powers_of": 2}])
    return {"type": "int", "low": low, "high": low * rng.choice([1, 8, 64])} | scale


# ---- YAML -------------------------------------------------------------------------------------------------


def yaml(value: Any) -> str:
    """A value in YAML's flow style."""
    match value:
        case Raw():
            return str(value)
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | float():
            return repr(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        case dict():
            return "{" + ", ".join(f"{yaml(key)}: {yaml(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(yaml, value)) + "]"
    raise TypeError(type(value))


def text(whole: dict[Any, Any]) -> bytes:
    """A file: a line for each key at the top, and for each parameter."""
    lines = []
    for key, value in whole.items():
        if key == "parameters" and isinstance(value, dict) and value:
            lines.append("parameters:")
            lines += [f"  {yaml(name)}: {yaml(item)}" for name, item in value.items()]
        else:
            lines.append(f"{yaml(key)}: {yaml(value)}")
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a document."""
    found = [at] if at else []
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for part, value in parts:
        found += paths(value, (*at, part))
    return found


def get(node: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        node = node[part]
    return node


def faulty(
    rng: random.Random, values: Callable[[random.Random], Any], leaf: type | tuple[type, ...] = object
) -> bytes:
    """A valid document with one or two values replaced, most often leaves of a type."""
    whole = copy.deepcopy(document(rng))
    for _ in range(rng.randint(1, 2)):
        places = paths(whole)
        leaves = [path for path in places if not isinstance(get(whole, path), dict | list)]
        leaves = [path for path in leaves if isinstance(get(whole, path), leaf)]
        *way, last = rng.choice(leaves if leaves and rng.random() < 0.7 else places)
        get(whole, tuple(way))[last] = values(rng)
    return text(whole)


# ---- expressions ------------------------------------------------------------------------------------------


def plausible_expression(rng: random.Random, names: list[str], depth: int = 0) -> str:
    """Arithmetic and comparisons of numbers and names, as a user writes them."""
    if depth > 3 or rng.random() < 0.3:
        return rng.choice([*names, *names, "1", "2", "0.5", "64", "-1", "True", "'a'"])
    one, two = (plausible_expression(rng, names, depth + 1) for _ in range(2))
    sign = rng.choice(["+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", ">", "and", "or"])
    function = rng.choice(["min", "max", "round"])
    return rng.choice(
        [f"({one} {sign} {two})", f"{one} {sign} {two}", f"{function}({one}, {two})", f"not {one}"]
    )


LITERALS = """0 1 -1 2.5 1e308 1e999 0x1F 0o17 1_000 1j True None 'a' '%9999999999d' '' b'a' f'{1}' ... () []
{} nan inf x model model.missing 9999999999999999999 999999999999999999999999999999999999999999""".split()
SIGNS = "+ - * / // % ** < <= == != >= and or is in @ << | & not".split()
FUNCTIONS = "min max round abs pow sum open eval print getattr type len range".split()


def wild_expression(rng: random.Random, names: list[str], depth: int = 0) -> str:
    """Anything that Python's grammar has, and that an expression might be mistaken for."""
    if depth > 4 or rng.random() < 0.3:
        return rng.choice([*names, *LITERALS])
    one, two = (wild_expression(rng, names, depth + 1) for _ in range(2))
    return rng.choice(
        [
            *(f"{one} {rng.choice(SIGNS)} {two}" for _ in range(4)),
            f"({one})",
            f"-{one}",
            f"~{one}",
            f"{rng.choice(FUNCTIONS)}({one}, {two})",
            f"{rng.choice(FUNCTIONS)}({one}, key={two})",
            f"{one} if {two} else {one}",
            f"[{one} for x in {two}]",
            f"lambda: {one}",
            f"{one}[{two}]",
            f"{one}.__class__",
            f"{one} < {two} < {one}",
            f"(x := {one})",
            f"*{one}",
        ]
    )


def long_expression(rng: random.Random, names: list[str]) -> str:
    """What takes long, deep recursion or much memory where nothing bounds it."""
    number = rng.choice([10, 90, 300, 2000, 20_000])
    sign, term = rng.choice(["-", "not ", "+", "~"]), rng.choice(["1", *names, "9" * 18])
    opening, closing = rng.choice([("(", ")"), ("[", "]"), ("round(", ")"), ("max(1, ", ")")])
    return rng.choice(
        [
            sign * number + term,
            f" {rng.choice(['+', '*', '-', '//', 'and', '<', '**'])} ".join([term] * number),
            opening * number + term + closing * number,
            " ** ".join(rng.choice(["2", "9", "64", *names]) for _ in range(rng.randint(2, 9))),
            f"{rng.randint(2, 99)} ** {rng.randint(0, 10**9)} > 1",
            f"round({term}, {rng.choice([-1, 1]) * 10 ** rng.randint(0, 12)})",
            f"{rng.choice([*names, '2.5', '10'])} ** {rng.choice([64, 65, -64, 0.5, 1e9])}",
            f"'{'a' * rng.randint(0, 9)}' * {10 ** rng.randint(0, 12)}",
            f"'%{10 ** rng.randint(0, 12)}d' % {rng.choice(['1', term])}",
            f"{'9' * number} == 1",
            f"1 / ({term} - {term})",
            f"{'model.' * number}x > 1",
            "'" + "\\x41" * number + "' == 'A'",
        ]
    )


@kind
def expressions(rng: random.Random) -> bytes:
    """Expressions as conditions, derived values and constraints."""
    whole = document(rng)
    make = rng.choice([plausible_expression, plausible_expression, wild_expression, long_expression])
    names = list(whole["parameters"])
    place = rng.randrange(3)
    if place == 0:
        whole["parameters"][names[-1]] |= {"when": make(rng, names[:-1] or ["1"])}
    elif place == 1:
        name = rng.choice(["model.hidden3", "training.batch_size", "training.epochs", names[0]])
        whole["parameters"] |= {name: {"type": "derived", "value": make(rng, names)}}
    else:
        starts = ["", f"{names[0]} > ", f"{names[-1]} * "]
        constraints = [rng.choice(starts) + make(rng, names) for _ in range(rng.randint(1, 3))]
        whole["objective"] = {"constraints": constraints}
    return text(whole)


@kind
def reported_numbers(rng: random.Random) -> bytes:
    """Constraints and objectives on reported numbers."""
    whole = document(rng)
    name = rng.choice(
        ["accuracy", "acuracy", "efficiency/hidden1", "efficiency/", "efficiency/" + "x" * 5000, ""]
    )
    bound = rng.choice(
        ["0.9", "nan", "inf", "1e999", "9" * 400, "-1", "", "0x1F", "1_0", "much", "0.9 and 1"]
    )
    objective = rng.choice(["aiq", ["aiq", "macs"], ["aiq", "aiq"], "x", [], 3, None, [[]]])
    whole["objective"] = {
        "constraints": [f"{name} {rng.choice(['>=', '<=', '>', '==', ''])} {bound}"] * rng.randint(0, 3),
        rng.choice(["maximize", "minimize"]): objective,
        "beta": rng.choice([2, 2, 0, -1, 1e308, 1e-320, Raw(".inf"), "2", True]),
    }
    target = rng.choice([0.9, 0.9, 1e308, Raw(".nan"), "x"])
    whole["search"] = {"target": target, "pruner": rng.choice(["none", "asha"])}
    return text(whole)


# ---- values -----------------------------------------------------------------------------------------------

NUMBERS = """.inf -.inf .nan .NaN +.INF 0x1F 0xFFFFFFFFFFFFFFFFFF 0o17 017 0b101 1_000 1__0 -0 -0.0 0.0 1. .5
5e-324 1e308 1.0 2.0e0 1e3 1e 0x 0o9 12:30:45 2026-01-01 +1 --1 1,000 0777 ١٢ ½
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
9007199254740993 1e-400 _1 1_ ._ 1e1_0 0_1 00 1e+3 1E3 +.5 0.1e-5""".split()


@kind
def numbers(rng: random.Random) -> bytes:
    """Numbers that a float or int64 does not hold, and other ways to write one."""

    def number(rng: random.Random) -> Raw:
        exponent = rng.choice([9, 15, 16, 18, 19, 30, 400, 5000])
        large = ["9" * exponent, f"-{'9' * exponent}", f"1e{exponent}", f"-1e{exponent}", f"1e-{exponent}"]
        return Raw(rng.choice([*large, *NUMBERS]))

    return faulty(rng, number, leaf=(int, float))


VALUES: list[Any] = [
    *([], {}, [1, 2], {"a": 1}, [[[1]]], {"name": {"name": "mlp"}}, None, True, False, "", "two", "1", "1.5"),
    *(
        1.5,
        0,
        -1,
        2,
        "true",
        ["elu"],
        [{"low": 2}],
        "elu",
        "\x1b[31m",
        "a\nb",
        "é" * 50,
        "x" * 9000,
        Raw("~"),
    ),
    *({"low": 1, "high": 2}, {"type": "int"}, {"type": ["int"], "low": 1, "high": 2}, {"type": {}, "low": 1}),
    *({"type": "int", "low": [1], "high": {"a": 2}}, {"type": "categorical", "choices": [[1], {"a": 1}]}),
    *({"type": "categorical", "choices": [1, 1.0, True]}, {"type": "categorical", "choices": "abc"}),
]


@kind
def types(rng: random.Random) -> bytes:
    """A value of another type anywhere."""
    return faulty(rng, lambda rng: copy.deepcopy(rng.choice(VALUES)))  # a second fault may go into the first


FIELDS = """training.batch_size training.epochs training.patience search.trials search.seed
search.concurrency confirm.finalists confirm.seeds resources.cpu resources.gpu
dataset.validation dataset.split_seed""".split()


@kind
def sizes(rng: random.Random) -> bytes:
    """Widths, depths, batches and counts beyond any machine."""
    whole = document(rng)
    parameters, name = whole["parameters"], next(iter(whole["parameters"]))
    large = 10 ** rng.randint(5, 18) * rng.choice([1, 2, 9])
    match rng.randrange(8):
        case 0:
            parameters[name] = {"type": "int", "low": rng.choice([1, large]), "high": large}
        case 1:
            parameters[name] = {"type": "categorical", "choices": [2, large]}
        case 2:
            argument = rng.choice(["depth", "conv1", "hidden1", "hidden2", "fc", "hidden9", "classes"])
            whole["model"] |= {argument: large}
        case 3:
            depth = rng.choice([large, "two", 2.0, 0, -1, True, [2], 10_000_000])
            parameters |= {"model.depth": {"type": "categorical", "choices": [depth]}}
        case 4:
            section, field = rng.choice(FIELDS).split(".")
            value = rng.choice([large, large * 10**9, 1 / large])
            whole[section] = {**whole.get(section, {}), field: value}
        case 5:
            width = {"type": "int", "low": 1, "high": large}
            parameters |= {f"model.hidden{i}": width for i in range(1, rng.choice([50, 499, 501, 900]))}
        case 6:
            choices = list(range(1, rng.choice([10, 2000, 12_000])))
            parameters[name] = {"type": "categorical", "choices": choices}
        case 7:
            whole["enqueue"] = [{name: 2}] * rng.choice([1, 1000, 4000])
            whole["objective"] = {"constraints": [f"{name} < {large}"] * rng.choice([1, 100, 1500])}
    return text(whole)


@kind
def ranges(rng: random.Random) -> bytes:
    """Bounds, steps and grids: no values, too many, or none that a constraint allows."""
    whole = document(rng)
    name, integral = rng.choice(
        [
            (next(iter(whole["parameters"])), True),
            ("training.weight_decay", False),
            ("training.learning_rate", False),
        ]
    )
    values: list[Any] = [0, 1, 3, 64, 10**9, 2**53, -1, 2**63 - 1, -(2**63)]
    values += [] if integral else [1e-320, 0.1, 0.5, 1e308, -1e308, 5e-324]
    low, high = sorted([rng.choice(values[:5]), rng.choice(values)], reverse=rng.random() < 0.1)
    step = rng.choice(
        [{}, {}, {"step": rng.choice(values)}, {"log": True}, {"powers_of": rng.choice([2, 3, 1])}]
    )
    whole["parameters"][name] = {"type": "int" if integral else "float", "low": low, "high": high} | step
    whole["search"] = {"sampler": rng.choice(["grid", "random", "tpe", "nsga2"])}
    rule = rng.choice(["< -1e300", ">= 0", f"== {name}", "% 7 == 3", "> 1", "!= 0"])
    whole["objective"] = {"constraints": [f"{name} {rule}"]}
    if rng.random() < 0.3:
        wide = {"type": "int", "low": 1, "high": 99}
        whole["parameters"] |= {f"model.hidden{i}": wide | {"when": f"{name} > {i}"} for i in range(3, 30)}
    return text(whole)


# ---- keys and YAML ----------------------------------------------------------------------------------------

KEYS: list[Any] = [
    *(
        "modle",
        "",
        "\x1b[2J\x07",
        "a" * 9000,
        "input_shape",
        "name",
        "\u202egnp",
        "model.hidden1",
        "__class__",
    ),
    *("model_config", "document", "\u0000", "x.y", "model", "training.learning_rate", "type", "when", "-"),
    *map(
        Raw,
        ["[1, 2]", "{a: b}", "null", "1", "true", ".nan", "? [a]\n", "<<", "*x", "&x k", "!!int 3", "0x1F"],
    ),
]
SECTIONS = "model dataset search training objective confirm resources".split()


@kind
def keys(rng: random.Random) -> bytes:
    """Keys that are unknown, double, no text, very long, or steer a terminal."""
    whole = document(rng)
    value = rng.choice([1, "x", {"type": "int", "low": 1, "high": 2}, None, []])
    entry = f"{yaml(rng.choice(KEYS))}: {yaml(value)}"
    target = rng.choice(["top", "parameters", *SECTIONS])
    if target == "top":
        return text(whole) + f"{entry}\n".encode("utf-8", "surrogatepass")
    if target == "parameters":
        return text(whole).replace(b"parameters:\n", b"parameters:\n  " + entry.encode() + b"\n", 1)
    whole[target] = Raw("{" + f"{entry}, " + yaml(whole.get(target, {}))[1:])
    return text(whole)


def _bomb(levels: int) -> str:
    more = (f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 4)}]\n" for i in range(1, levels))
    return "a0: &a0 [x,x]\n" + "".join(more)


SNIPPETS = [
    *(
        _bomb(5),
        _bomb(20),
        "x: &x [*x]",
        "x: *missing",
        "x: &" + "a" * 5000 + " 1",
        "<<: {a: 1}",
        "x: &a 1\ny: *a",
    ),
    *(
        "x: !!python/object/apply:os.system [touch pwned]",
        "x: !!binary aGVsbG8=",
        "x: !!set {a, b}",
        "x: !c 3",
    ),
    *(
        "x: !!omap [a: 1]",
        "x: !!int abc",
        "x: !!float [1]",
        "x: !!bool maybe",
        "x: !!null 3",
        "---",
        "...",
        "[]",
    ),
    *(
        "--- 1\n--- 2",
        "%YAML 1.1",
        "%TAG ! tag:x,2000:",
        "x: |\n  a\n b",
        "x: >-\n",
        "\tx: 1",
        "x: 'a",
        'x: "\\q"',
    ),
    *("x: [1, 2", "x: {a: b", "x: ]", "? x", "- a", ": 1", "x:\n  y: 1\n z: 2", "x: 1: 2", "# " + "c" * 9000),
    *(
        "x:" + "\n  - " * 50,
        "x: \ud800",
        "x: \u0085y",
        "x: \ufeff",
        "\ufeff",
        "x: \x00",
        "x: @a",
        "x: `a",
        "x: %a",
    ),
    *(
        "x: " + "a" * 90_000,
        "x: " + "a: " * 1000,
        "x: " + "'" * 999,
        "x: " + "\\" * 999,
        "? " * 500,
        "!" * 500,
    ),
    *(
        "&" * 500,
        "x: !!str\n",
        "x: !<tag:yaml.org,2002:str> y",
        "x: {? a, ? b}",
        "x: [a: 1, b: 2]",
        "x: {a, b}",
    ),
    *("x: " + "[{a: " * 90 + "1" + "}]" * 90, "x: {" + "a: 1, " * 3000 + "}", "x: [" + "[], " * 9000 + "]"),
    *(f"x: {'[' * n}{']' * n}" for n in (15, 30, 300, 3000, 30_000)),
    *(f"x: {'{a: ' * n}1{'}' * n}" for n in (15, 30, 300, 3000)),
    *("x: " + "- " * n for n in (30, 3000)),
    *("-" * n for n in (3, 3000)),
]


@kind
def yaml_features(rng: random.Random) -> bytes:
    """YAML beyond plain data."""
    lines = text(document(rng)).decode().splitlines()
    lines.insert(rng.randint(0, len(lines)), rng.choice(SNIPPETS))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


NAMES = [
    *"""os:system builtins:eval subprocess:run trap:network trap:missing trap.sub:network trap trap: :network
    a:b:c ../trap:network /etc/passwd trap.npz ../x.npz MLP lenet_6 torchvision.models:resnet18 os.path:join
    os:abort torchvision.models:get_model torchvision.datasets.utils:download_url importlib:import_module
    trap:network:x aiq_search.user_code:NO_CODE tráp:network __main__:main pickle:loads
    models:/x@champion http://127.0.0.1/x digits mnist lenet_5 mlp None lenet_300_100""".split(),
    *("", "mlp ", "a b:c", "x" * 5000, "x:" + "y" * 5000, "\x1b]0;x\x07", "trap:\nnetwork", "\u0000"),
]


@kind
def names(rng: random.Random) -> bytes:
    """Models and data by names that run code, lead elsewhere, or do not exist."""
    whole = document(rng)
    arguments = rng.choice(
        [
            {},
            {},
            {"command": "touch pwned"},
            {"width": 3},
            {"classes": 3},
            {"input_shape": [1]},
            {"hidden1": 3},
        ]
    )
    section = rng.choice(["model", "dataset"])
    whole[section] = {"name": rng.choice(NAMES)} | (arguments if section == "model" else {})
    return text(whole)


OPTIONS = """n_startup_trials n_ei_candidates gamma weights seed multivariate group constraints_func
population_size mutation crossover_prob min_resource reduction_factor n_warmup_steps
interval_steps prior_weight n_min_trials bootstrap_count self name x constant_liar
deterministic_objective swapping_prob""".split()


@kind
def samplers(rng: random.Random) -> bytes:
    """Samplers and pruners with options of every type."""
    whole = document(rng)
    which, names = rng.choice(
        [("sampler", "tpe tpe random grid gp nsga2 tpi"), ("pruner", "asha asha median none ash")]
    )
    name = rng.choice([*names.split(), *names.split(), "", 3, None])
    value = rng.choice([0, 1, 1, 3, 5, -1, 10**18, 0.5, True, None, "auto", "many", [], [1], {}, Raw(".inf")])
    whole["search"] = {which: {"name": name} | rng.choice([{}, {rng.choice(OPTIONS): value}])}
    return text(whole)


@kind
def enqueued(rng: random.Random) -> bytes:
    """Points to try first, most of which do not belong to the space."""
    whole = document(rng)
    value = rng.choice(
        [2, 4, 4, 0.01, 64, 0, 1.5, True, None, "2", "", [], {}, 10**18, 1e308, Raw(".nan"), "x" * 2000]
    )
    name = rng.choice(
        [*whole["parameters"], *whole["parameters"], "model.other", "training.momentum", "x", ""]
    )
    point = {name: value}
    whole["enqueue"] = rng.choice([[point], [point], point, [[name]], "x", [{}], [point] * 50, None, [None]])
    return text(whole)


# ---- bytes ------------------------------------------------------------------------------------------------


@kind
def damaged(rng: random.Random) -> bytes:
    """Bytes cut, changed, put in or doubled."""
    content = bytearray(text(document(rng)))
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(content) or 1)
        match rng.randrange(5):
            case 0:
                del content[at : at + rng.choice([1, 5, 500])]
            case 1:
                content[at : at + 1] = bytes([rng.randrange(rng.choice([128, 256]))])
            case 2:
                content[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                signs = [
                    b"{",
                    b"[",
                    b": ",
                    b"\n",
                    b"- ",
                    b"'",
                    b"&a ",
                    b"*a",
                    b"!!",
                    b"#",
                    b"\t",
                    b"? ",
                    b"9",
                    b"-",
                ]
                content[at:at] = rng.choice(signs)
            case 4:
                content[at:at] = content[: rng.randrange(len(content) or 1)]
    return bytes(content)


@kind
def overlong(rng: random.Random) -> bytes:
    """Files about as large as a file may be, and larger."""
    content = text(document(rng))
    line = rng.choice(
        ["# comment\n", "x{}: 1\n", "x{}: [1, 2, 3]\n", "x{}: {{a: b}}\n", "- {}\n", "\n", "x{}: 'a'\n"]
    )
    size = rng.choice([50_000, 99_000, 101_000, 1_100_000])
    more = "".join(line.format(i) for i in range(size // len(line)))
    return (content + more.encode())[:size]
