"""A pt2 or ONNX that would run code, read files or exhaust the memory is refused before it is loaded.

Each has correct checksums. For the pt2, torch.export.load alone would fall for most of them.
"""

import contextlib
import io
import json
import os
import pickle
import zipfile

import pytest
import torch

from aiq_search.export import BundleError, running, verify_bundle
from aiq_search.export.pt2 import load_pt2
from tests.export.hostile import archive_of, edit_pt2, edit_pt2_json, members_of, replace_file

WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"


class Shell:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (os.system, (f"touch {self.proof}",))


def _torch_pickle(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture
def proof(bundle):
    return bundle.parent / "proof"


@pytest.fixture
def no_loading(monkeypatch):
    """torch must not even see a file that is refused, in this process or another."""
    monkeypatch.setattr(torch.export, "load", lambda *args: pytest.fail("torch was given a refused file"))
    monkeypatch.setattr(running, "run_bounded", lambda *args: pytest.fail("a refused file was run"))


def _set_samples(value):
    def edit(members, root):
        members[f"{root}/data/sample_inputs/model.pt"] = _torch_pickle(value)

    return edit


@pytest.mark.filterwarnings("ignore")
def test_the_attack_by_sample_inputs_is_real(bundle, proof):
    edit_pt2(bundle, _set_samples(((Shell(proof),), {})))
    torch.export.load(bundle / "model.pt2")
    assert proof.exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: _sizes_of_inputs("__import__('os').system('touch proof')")(document),
        lambda document: document.update(guards_code=["__import__('os').system('touch proof') == 0"]),
    ],
    ids=["symbolic size", "guard"],
)
def test_the_attacks_by_text_that_torch_evaluates_are_real(bundle, edit, proof, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    edit_pt2_json(bundle, GRAPH, edit)
    with contextlib.suppress(Exception):
        torch.export.load(bundle / "model.pt2").module()(torch.zeros((2, 1, 8, 8), dtype=torch.uint8))
    assert proof.exists()


def test_malicious_sample_inputs_are_refused(bundle, proof, no_loading):
    edit_pt2(bundle, _set_samples(((Shell(proof),), {})))
    with pytest.raises(BundleError, match=r"model\.pt2: refused: its sample inputs are a pickle with more"):
        verify_bundle(bundle, with_data=False)
    assert not proof.exists()


def test_sample_inputs_in_the_old_pickle_format_are_refused(bundle, proof, no_loading):
    def edit(members, root):
        members[f"{root}/data/sample_inputs/model.pt"] = pickle.dumps(((Shell(proof),), {}))

    edit_pt2(bundle, edit)
    with pytest.raises(BundleError, match="sample inputs"):
        verify_bundle(bundle, with_data=False)
    assert not proof.exists()


def test_sample_inputs_that_are_something_else_are_refused(bundle, no_loading):
    edit_pt2(bundle, _set_samples({"a": 1}))
    with pytest.raises(BundleError, match="not one tensor"):
        verify_bundle(bundle, with_data=False)


def test_a_pickled_weight_is_refused(bundle, proof, no_loading):
    def edit(members, root):
        config = json.loads(members[f"{root}/{WEIGHTS}"])
        next(iter(config["config"].values()))["use_pickle"] = True
        members[f"{root}/{WEIGHTS}"] = json.dumps(config).encode()
        members[f"{root}/data/weights/weight_0"] = _torch_pickle(Shell(proof))

    edit_pt2(bundle, edit)
    with pytest.raises(BundleError, match="is pickled"):
        verify_bundle(bundle, with_data=False)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0", "tensor_0"])
def test_a_pickled_constant_is_refused(bundle, proof, name, no_loading):
    def edit(members, root):
        entry = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[f"{root}/{CONSTANTS}"] = json.dumps({"config": {"c": entry}}).encode()
        members[f"{root}/data/constants/{name}"] = pickle.dumps(Shell(proof))

    edit_pt2(bundle, edit)
    with pytest.raises(BundleError, match=r"model\.pt2: refused"):
        verify_bundle(bundle, with_data=False)
    assert not proof.exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/aotinductor/model/model.so",
        "models/another.json",
        "extra/notes.txt",
        "data/weights/../../evil",
    ],
)
def test_members_that_a_plain_graph_does_not_have_are_refused(bundle, name, no_loading):
    edit_pt2(bundle, lambda members, root: members.update({f"{root}/{name}": b"anything"}))
    with pytest.raises(BundleError, match=r"model\.pt2: refused: its member"):
        verify_bundle(bundle, with_data=False)


def _first_node(edit):
    return lambda document: edit(document["graph_module"]["graph"]["nodes"][0])


def _sizes_of_inputs(text):
    def edit(document):
        values = document["graph_module"]["graph"]["tensor_values"]
        values["inputs"]["sizes"][0]["as_expr"]["expr_str"] = text

    return edit


def _rename_input(document):
    text = json.dumps(document).replace('"inputs"}', "\"inputs=__import__('os').getpid()\"}")
    document.update(json.loads(text))


def _argument(kind, value):
    return _first_node(lambda node: node["inputs"][0].update(arg={kind: value}))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_first_node(lambda node: node.update(target="torch.os.system")), "calls 'torch.os.system'"),
        (_first_node(lambda node: node.update(target="torch.hub.load")), "calls 'torch.hub.load'"),
        (_first_node(lambda node: node.update(target="torch.ops.aten.from_file.default")), "from_file"),
        (_first_node(lambda node: node.update(target="torch.ops.aten.zeros.default")), "zeros"),
        (_first_node(lambda node: node.update(target="#evil:op")), "calls '#evil:op'"),
        (_first_node(lambda node: node.update(target="_operator.call")), "calls '_operator.call'"),
        (_argument("as_operator", "torch.os.system"), "as_operator"),
        (_argument("as_string", "/etc/passwd"), "'/etc/passwd'"),
        (_argument("as_graph", {"name": "g", "graph": {}}), "as_graph"),
        (_argument("as_int", 2**62), "a number is larger than"),
        (_sizes_of_inputs("__import__('os').system('touch proof')"), "expr_str"),
        (_sizes_of_inputs("Symbol('s0', positive=True)**10**10"), "expr_str"),
        (_sizes_of_inputs("Symbol('s0').__class__"), "expr_str"),
        (_rename_input, "the text"),
        (lambda d: d.update(guards_code=["__import__('os').system('touch proof')"]), "guards"),
        (lambda d: d["graph_module"].update(module_call_graph=[{"fqn": "", "signature": None}]), "damaged"),
        (
            lambda d: d["graph_module"]["module_call_graph"][0]["signature"].update(in_spec="[1, {}]"),
            "does not take one tensor",
        ),
        (lambda d: d["graph_module"].update(graph=[]), "damaged"),
        (lambda d: d["graph_module"]["graph"].update(custom_obj_values={"o": {}}), "no tensors"),
        (lambda d: d["graph_module"].update(treespec_namedtuple_fields={"os.x": {}}), "no tensors"),
        (lambda d: d["graph_module"].update(metadata={"a": "x = 1; import os"}), "the text"),
    ],
)
def test_a_graph_with_more_than_a_network_is_refused(bundle, edit, reason, no_loading, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    edit_pt2_json(bundle, GRAPH, edit)
    with pytest.raises(BundleError, match=rf"model\.pt2: refused: .*{reason}"):
        verify_bundle(bundle, with_data=False)
    assert not (bundle.parent / "proof").exists()


def _nested(depth):
    return [_nested(depth - 1)] if depth else "import os"


def _first_weight(edit):
    return lambda document: edit(next(iter(document["config"].values())))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": 2**39}]), "declares shape"),
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": 2**62}]), "no whole number"),
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": -1}]), "no whole number"),
        (lambda w: w.update(path_name="weight_99"), "damaged"),
        (lambda w: w.update(path_name="../sample_inputs/model.pt"), "damaged"),
        (lambda w: w["tensor_meta"].update(dtype=99), "damaged"),
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": int("9" * 4000)}] * 3), "no whole number"),
        (
            lambda w: w["tensor_meta"].update(sizes=[{"as_int": 0}, {"as_int": 2**40}, {"as_int": 2**40}]),
            "more than",
        ),
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": 1}] * 10_000), "10,000 dimensions"),
        (lambda w: w["tensor_meta"].update(sizes=[{"as_int": 2**20}] * 2), "declares shape"),
        (lambda w: w["tensor_meta"].update(requires_grad=_nested(400)), "the text"),
        (lambda w: w["tensor_meta"].update(layout=int("9" * 4000)), "a number is larger"),
        (lambda w: w["tensor_meta"]["device"].update(type="__import__('os')"), "the text"),
    ],
)
def test_weights_of_a_graph_that_declare_what_is_not_there_are_refused(bundle, edit, reason, no_loading):
    edit_pt2_json(bundle, WEIGHTS, _first_weight(edit))
    with pytest.raises(BundleError, match=rf"model\.pt2: refused: .*{reason}"):
        verify_bundle(bundle, with_data=False)


def test_a_second_archive_behind_the_first_is_not_what_is_loaded(bundle, proof):
    """Readers of zip files differ in which of two archives they see; torch is given one made anew."""
    content = (bundle / "model.pt2").read_bytes()
    edit_pt2(bundle, _set_samples(((Shell(proof),), {})))
    both = (bundle / "model.pt2").read_bytes() + content
    assert load_pt2(both)(torch.zeros((1, 1, 8, 8), dtype=torch.uint8))["logits"].shape == (1, 10)
    assert not proof.exists()
    with pytest.raises(BundleError, match="sample inputs"):
        load_pt2(content + (bundle / "model.pt2").read_bytes())
    assert not proof.exists()


def test_a_compressed_pt2_is_refused(bundle, no_loading):
    members = members_of((bundle / "model.pt2").read_bytes())
    replace_file(bundle, "model.pt2", archive_of(members, zipfile.ZIP_DEFLATED))
    with pytest.raises(BundleError, match="compressed"):
        verify_bundle(bundle, with_data=False)


def test_a_graph_that_contradicts_itself_is_refused_not_crashed_on(bundle):
    def edit(document):
        document["graph_module"]["graph"]["outputs"][0]["as_tensor"]["name"] = "nothing"

    edit_pt2_json(bundle, GRAPH, edit)
    with pytest.raises(BundleError, match="torch cannot load it"):
        verify_bundle(bundle, with_data=False, trusted=True)
    with pytest.raises(BundleError, match=r"model\.pt2: cannot be run \(\w+: [^\n]*\)\.$"):
        verify_bundle(bundle, with_data=False)


onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")


@pytest.fixture
def no_session(monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, **k: pytest.fail("onnxruntime was given a refused file")
    )
    monkeypatch.setattr(running, "run_bounded", lambda *args: pytest.fail("a refused file was run"))


def _external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _dims(*lengths):
    def edit(model):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(lengths)

    return edit


def _type(number):
    return lambda model: setattr(model.graph.initializer[0], "data_type", number)


def _branch(model):
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(
        onnx.helper.make_node("If", ["logits"], ["x"], then_branch=body, else_branch=body)
    )


def _body_in_a_known_operator(model):
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))


def _foreign(model):
    model.graph.node[0].domain = "com.evil"


def _bomb(model):
    model.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["logits"], ["x"]))


def _external_attribute(model):
    tensor = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["x"], value=tensor))


def _other_outputs(model):
    model.graph.output[0].name = "something"


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_external, "are in another file"),
        (_external_attribute, "are in another file"),
        (_dims(2**40), "declares shape"),
        (_dims(2**62, 2**62), "whole number from 0"),
        (_dims(-1, -512), "whole number from 0"),
        (_dims(0, 2**40, 2**40), "more than"),
        (_dims(*[1] * 1000), "1,000 dimensions"),
        (_type(99), "of a type that no network has"),
        (_type(8), "of a type that no network has"),
        (_type(0), "of a type that no network has"),
        (_branch, "ai.onnx::If"),
        (_body_in_a_known_operator, "a graph or a sparse tensor inside"),
        (_foreign, "com.evil::"),
        (_bomb, "ConstantOfShape"),
        (_other_outputs, "must take inputs"),
    ],
)
def test_an_onnx_with_more_than_a_network_is_refused(bundle, edit, reason, no_session):
    model = onnx.load_model_from_string((bundle / "model.onnx").read_bytes())
    edit(model)
    replace_file(bundle, "model.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=rf"model\.onnx: refused: .*{reason}"):
        verify_bundle(bundle, with_data=False)


@pytest.mark.parametrize("content", [b"", b"not an onnx file", b"\x08"])
def test_bytes_that_are_no_onnx_are_refused(bundle, content, no_session):
    replace_file(bundle, "model.onnx", content)
    with pytest.raises(BundleError, match=r"model\.onnx: refused"):
        verify_bundle(bundle, with_data=False)
