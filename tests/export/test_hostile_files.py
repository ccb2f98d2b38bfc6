"""Each attack is refused with its reason, before anything is built, unpickled or imported."""

import io
import json
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from aiq_search.cli.export import predict as predict_command
from aiq_search.errors import InputError
from aiq_search.export import BundleError, load_bundle, verify_bundle
from tests.export.hostile import (
    archive_of,
    edit_json,
    members_of,
    npy_of,
    replace_file,
    write_checksums,
)


class Shell:
    """Pickled: a command that makes a file. Unpickled by mistake: the file is there."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (os.system, (f"touch {self.proof}",))


@pytest.fixture
def no_network(monkeypatch):
    """Nothing of a refused bundle is built: building raises."""

    def build(*args, **kwargs):
        pytest.fail("a network was built from a bundle that had to be refused")

    monkeypatch.setattr("aiq_search.models.build.build_model", build)


@pytest.mark.parametrize(
    "name",
    ["MODEL_CARD.md", "architecture.json", "metrics.json", "model.onnx", "model.pt2", "model.safetensors"],
)
def test_a_changed_byte_is_found(bundle, name, no_network):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"^{name}: damaged"):
        load_bundle(bundle)


def test_a_cut_file_is_found(bundle, no_network):
    content = (bundle / "model.safetensors").read_bytes()
    (bundle / "model.safetensors").write_bytes(content[:-4])
    with pytest.raises(BundleError, match=r"^model\.safetensors: damaged"):
        load_bundle(bundle)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "..\\secret", "folder/model.pt2", ".."])
def test_a_path_that_leaves_the_directory_is_refused(bundle, path, no_network):
    (bundle.parent / "secret").write_text("secret")
    with (bundle / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {path}\n")
    with pytest.raises(BundleError, match="outside of the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["model.safetensors", "SHA256SUMS", "metrics.json"])
def test_a_symlink_is_refused(bundle, name, no_network):
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")
    with pytest.raises(BundleError, match=f"^{name}: refused: expected a plain file"):
        load_bundle(bundle)


def test_a_pipe_is_refused_and_not_waited_for(bundle, no_network):
    (bundle / "metrics.json").unlink()
    os.mkfifo(bundle / "metrics.json")
    with pytest.raises(BundleError, match="expected a plain file"):
        load_bundle(bundle)


def test_a_file_that_is_not_listed_is_refused(bundle, no_network):
    (bundle / "model.onnx.data").write_bytes(b"weights from nowhere")
    with pytest.raises(BundleError, match="not listed"):
        load_bundle(bundle)


def test_a_file_that_no_bundle_has_is_refused_even_if_listed(bundle, no_network):
    (bundle / "setup.py").write_text("import os")
    write_checksums(bundle)
    with pytest.raises(BundleError, match="no file of a bundle"):
        load_bundle(bundle)


def test_a_script_that_is_not_ours_is_refused(bundle, no_network):
    script = (bundle / "predict.py").read_bytes()
    replace_file(bundle, "predict.py", script + b"import os; os.system('touch proof')\n")
    with pytest.raises(BundleError, match=r"predict\.py: refused: it is not the script"):
        load_bundle(bundle)


def test_a_missing_file_is_named(bundle, no_network):
    (bundle / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors: missing"):
        load_bundle(bundle)


def test_a_pickle_named_safetensors_is_refused(bundle, no_network):
    proof = bundle.parent / "proof"
    replace_file(bundle, "model.safetensors", pickle.dumps(Shell(proof)))
    with pytest.raises(BundleError, match=r"model\.safetensors: refused: not a (sound )?safetensors"):
        load_bundle(bundle)
    assert not proof.exists()


def test_a_torch_pickle_named_safetensors_is_refused(bundle, no_network):
    import torch

    proof = bundle.parent / "proof"
    buffer = io.BytesIO()
    torch.save({"hidden1.weight": Shell(proof)}, buffer)
    replace_file(bundle, "model.safetensors", buffer.getvalue())
    with pytest.raises(BundleError, match=r"model\.safetensors: refused: not a (sound )?safetensors"):
        load_bundle(bundle)
    assert not proof.exists()


def _safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _entry(shape, end=4, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


@pytest.mark.parametrize(
    ("header", "size", "reason"),
    [
        ({"w": _entry([2**40], 2**42)}, 0, "not fully covered"),
        ({"w": _entry([2**40], 0)}, 0, "invalid shape"),
        ({"w": _entry([1])}, 8, "not fully covered"),
        ({"a": _entry([1]), "b": _entry([1])}, 4, "invalid offset"),
        ({"w": _entry([-1], -4)}, 0, "expected usize"),
        ({"w": _entry({"a": 1})}, 4, "expected a sequence"),
        ({"w": _entry([0.5], 2)}, 2, "expected usize"),
        ({"w": _entry([int("9" * 4000)])}, 4, "number out of range"),
        ({"w": _entry([2**40] * 8)}, 4, "overflow"),
        ({"w": _entry([0, 2**63], 0)}, 0, "Overflow"),
        ({"w": _entry([1], dtype="OBJ")}, 4, "unknown variant"),
        ({"w": _entry([1], 1, dtype="F8_E8M0")}, 1, "F8_E8M0"),
        ({"w": []}, 0, "invalid length"),
        pytest.param(b'{"w":' + b"[" * 100_000, 0, "recursion limit", id="deep"),
        (b"", 0, "EOF"),
    ],
)
def test_weights_that_declare_what_is_not_there_are_refused(bundle, header, size, reason, no_network):
    replace_file(bundle, "model.safetensors", _safetensors(header, b"\0" * size))
    with pytest.raises(BundleError, match=rf"model\.safetensors: refused: not a sound .*{reason}"):
        load_bundle(bundle)


@pytest.mark.parametrize("entry", [_entry([1] * 100_000), _entry([8], 64, "C64")])
def test_weights_of_another_shape_or_type_are_refused_in_a_short_sentence(bundle, entry):
    data = b"\0" * entry["data_offsets"][1]
    replace_file(bundle, "model.safetensors", _safetensors({"hidden1.bias": entry}, data))
    with pytest.raises(
        BundleError, match=r"hidden1\.bias: the architecture has float32 \(8\), the"
    ) as refused:
        load_bundle(bundle)
    assert len(str(refused.value)) < 200


def test_a_header_longer_than_the_file_is_refused(bundle, no_network):
    replace_file(bundle, "model.safetensors", struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(BundleError, match="declares a header of 1,152,"):
        load_bundle(bundle)


def test_an_architecture_that_is_far_larger_than_its_weights_takes_no_memory(bundle):
    edit_json(bundle, "architecture.json", lambda document: document["arguments"].update(hidden1=900_000))
    with pytest.raises(BundleError, match=r"model\.safetensors: refused: hidden1\.bias"):
        load_bundle(bundle)  # one array of 230 MB, and its gradient


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda d: d["arguments"].update(hidden1=10**12), "at most 1,000,000"),
        (lambda d: d.update(input_shape=[1, 10**9, 10**9]), "less than or equal to 1000000"),
        (lambda d: d.update(classes=10**12), "less than or equal to 1000000"),
        (lambda d: d["arguments"].update(hidden1=int("9" * 4000)), "at most 1,000,000"),
        (lambda d: d["arguments"].update({f"hidden{i}": 2 for i in range(1, 600)}), "at most 1,000 names"),
        (lambda d: d.update(input_shape=[1] * 9), "at most 7 items"),
        (lambda d: d["arguments"].update(hidden1="8"), "hidden1 must be a whole number"),
        (lambda d: d["arguments"].update(dropout="much"), "must hold, but got dropout='much'"),
        (lambda d: d["arguments"].update(device="cuda"), "device"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.update(schema_version=2), "schema_version"),
    ],
)
def test_an_architecture_that_cannot_be_meant_is_refused(bundle, edit, reason):
    edit_json(bundle, "architecture.json", edit)
    with pytest.raises(BundleError, match=f"architecture.json: refused: .*{reason}"):
        load_bundle(bundle)


def test_what_is_quoted_from_a_strangers_file_cannot_steer_the_terminal(bundle, no_network):
    edit_json(bundle, "metrics.json", lambda d: d.update({"\x1b[2J" + "x" * 5000: 1}))
    with pytest.raises(BundleError) as refused:
        load_bundle(bundle)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1100


@pytest.fixture
def evil_module(tmp_path, monkeypatch):
    """A module in the current directory that leaves a proof when it is imported."""
    (tmp_path / "evil.py").write_text(
        "from pathlib import Path\n"
        "Path('proof').touch()\n"
        "def network(**arguments):\n"
        "    raise RuntimeError('called')\n"
        "def arrays():\n"
        "    raise RuntimeError('called')\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "proof"


def test_an_architecture_that_names_code_is_not_imported(bundle, evil_module):
    edit_json(bundle, "architecture.json", lambda document: document.update(name="evil:network"))
    with pytest.raises(InputError, match=r"(?s)refused: the network is code.*--allow-code"):
        load_bundle(bundle)
    assert not evil_module.exists()


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "evil.network", "__import__('os')", "../mlp"])
def test_no_name_but_that_of_a_model_is_believed(bundle, name, no_network):
    edit_json(bundle, "architecture.json", lambda document: document.update(name=name))
    with pytest.raises(InputError, match="refused: the network is code"):
        load_bundle(bundle)


def test_data_that_name_code_are_not_imported(bundle, evil_module):
    edit_json(bundle, "metrics.json", lambda d: d["dataset"]["options"].update(name="evil:arrays"))
    with pytest.raises(InputError, match=r"(?s)refused: the data come from code.*--no-data"):
        verify_bundle(bundle)
    assert not evil_module.exists()
    assert verify_bundle(bundle, with_data=False, trusted=True).checks


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("preprocessing.json", lambda d: d.update(scale=[1.0, 2.0])),
        ("preprocessing.json", lambda d: d.update(classes=["a"])),
        ("preprocessing.json", lambda d: d.update(input_shape=[1, 8, 9])),
        ("preprocessing.json", lambda d: d.update(input_dtype="object")),
        ("preprocessing.json", lambda d: d["classes"].__setitem__(0, "\x1b[2J")),
        ("metrics.json", lambda d: d["source"].update({"\x1b]0;title\x07": 1})),
        ("metrics.json", lambda d: d["conventions"].update(beta=-1)),
        ("metrics.json", lambda d: d["splits"]["test"].update(accuracy=1.5)),
        ("metrics.json", lambda d: d["splits"].pop("test")),
        ("metrics.json", lambda d: d["splits"]["test"]["layers"].update(another=0.5)),
        ("metrics.json", lambda d: d["splits"]["validation"]["layers"].clear()),
        ("preprocessing.json", lambda d: d.update(scale=[1e39])),
        ("preprocessing.json", lambda d: d.update(classes=["a"] * 10)),
        ("preprocessing.json", lambda d: d["classes"].__setitem__(0, "")),
    ],
)
def test_documents_that_contradict_themselves_are_refused(bundle, name, edit, no_network):
    edit_json(bundle, name, edit)
    with pytest.raises(BundleError, match=f"{name}: refused"):
        load_bundle(bundle)


def test_a_document_that_is_nested_without_end_is_refused(bundle, no_network):
    replace_file(bundle, "metrics.json", b"[" * 100_000)
    with pytest.raises(BundleError, match=r"metrics\.json: refused"):
        load_bundle(bundle)


def _npz(arrays, **options):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return archive_of(members_of(buffer.getvalue()), **options)


def _example(bundle):
    with np.load(bundle / "example_input.npz") as file:
        return {name: file[name] for name in file.files}


def test_an_example_with_pickled_objects_is_refused(bundle):
    proof = bundle.parent / "proof"
    arrays = {**_example(bundle), "labels": np.array([Shell(proof)] * 8, dtype=object)}
    replace_file(bundle, "example_input.npz", _npz(arrays))
    with pytest.raises(BundleError, match=r"example_input\.npz: labels\.npy: refused: it holds object"):
        verify_bundle(bundle, with_data=False)
    assert not proof.exists()


def test_an_example_that_unpacks_to_more_is_refused(bundle):
    arrays = {**_example(bundle), "inputs": np.zeros((100_000, 1, 8, 8), np.uint8)}
    replace_file(bundle, "example_input.npz", _npz(arrays, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(BundleError, match="compressed"):
        verify_bundle(bundle, with_data=False)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("(8, 1, 8,9**9)", "not a numpy array"),
        ("(88888888,8,8)", "declares shape"),
        ("(-8, 1, 8, -8)", "whole number"),
        ("(0, 8**20,8,1)", "not a numpy array"),
        ("(0,1000000000000000000,9)", "whole number"),
        ("(8, 1, 8, 8)", None),
    ],
)
def test_an_example_with_a_shape_that_cannot_be_true_is_refused(bundle, shape, reason):
    members = members_of((bundle / "example_input.npz").read_bytes())
    inputs = _example(bundle)["inputs"].tobytes()
    replace_file(
        bundle, "example_input.npz", archive_of({**members, "inputs.npy": npy_of("|u1", shape, inputs)})
    )
    if reason is None:
        verify_bundle(bundle, with_data=False, trusted=True)
        return
    with pytest.raises(BundleError, match=rf"example_input\.npz: inputs\.npy: refused: .*{reason}"):
        verify_bundle(bundle, with_data=False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("inputs", lambda array: array.astype(np.float32)),
        ("inputs", lambda array: array[:, :, :7]),
        ("inputs", lambda array: array[:7]),
        ("labels", lambda array: array[:, None]),
        ("labels", lambda array: array.astype("U8")),
        ("labels", lambda array: np.float64(1)),
        ("logits", lambda array: array[:, :9]),
        ("logits", lambda array: array.ravel()),
        ("logits", lambda array: array.astype("U8")),
        ("probabilities", lambda array: array.astype(bool)),
        ("probabilities", lambda array: array[..., None]),
    ],
)
def test_an_example_of_another_type_or_shape_is_refused(bundle, name, change):
    arrays = _example(bundle)
    replace_file(bundle, "example_input.npz", _npz({**arrays, name: change(arrays[name])}))
    with pytest.raises(
        BundleError, match=r"example_input\.npz: refused: its \w+ are .*, but this network has"
    ):
        verify_bundle(bundle, with_data=False)


def test_an_archive_whose_members_leave_it_is_refused(bundle):
    members = members_of((bundle / "example_input.npz").read_bytes())
    replace_file(bundle, "example_input.npz", archive_of({**members, "../../inputs.npy": b""}))
    with pytest.raises(BundleError, match="leaves the archive"):
        verify_bundle(bundle, with_data=False)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_members_of_one_name_is_refused(bundle):
    buffer = io.BytesIO((bundle / "example_input.npz").read_bytes())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("inputs.npy", b"another")
    replace_file(bundle, "example_input.npz", buffer.getvalue())
    with pytest.raises(BundleError, match="two members"):
        verify_bundle(bundle, with_data=False)


def test_predict_refuses_what_verify_refuses(bundle, tmp_path):
    replace_file(bundle, "model.safetensors", b"not weights at all")
    with pytest.raises(BundleError, match="refused"):
        predict_command(bundle, [tmp_path])


@pytest.mark.parametrize(
    ("name", "size"),
    [("SHA256SUMS", 2**31), ("metrics.json", 2**24), ("predict.py", 2**20), ("model.pt2", 2**40)],
)
def test_a_file_that_is_mostly_a_hole_is_refused_unread(bundle, name, size, no_network):
    os.truncate(bundle / name, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"refused: (it has|its files have) [\d,]+ bytes"):
        load_bundle(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
