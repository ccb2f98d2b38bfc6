"""The JSON Schema that editors read accepts what the reader accepts."""

import jsonschema
import pytest
from ruamel.yaml import YAML

from aiq_search.app.space import json_schema
from aiq_search.space import load_space
from tests.space.test_file import SHIPPED


def valid(document):
    jsonschema.Draft202012Validator(json_schema()).validate(document)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_is_valid(path):
    valid(YAML(typ="safe", pure=True).load(path))


@pytest.mark.parametrize(
    "search",
    [
        {"sampler": "tpe", "pruner": "none"},
        {
            "sampler": {"name": "tpe", "n_startup_trials": 3},
            "pruner": {"name": "asha", "reduction_factor": 2},
        },
    ],
)
def test_a_sampler_and_a_pruner_are_a_name_or_a_mapping(base, search):
    document = YAML(typ="safe", pure=True).load(base)
    document["search"] = search
    valid(document)
    load_space(document)


@pytest.mark.parametrize("search", [{"sampler": "tpi"}, {"pruner": "tpe"}, {"sampler": 3}])
def test_an_unknown_name_is_marked(base, search):
    document = YAML(typ="safe", pure=True).load(base)
    document["search"] = search
    with pytest.raises(jsonschema.ValidationError):
        valid(document)
