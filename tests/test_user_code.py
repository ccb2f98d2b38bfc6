import os
import sys
import zlib
from pathlib import Path

import pytest

from aiq_search.errors import InputError
from aiq_search.user_code import NO_CODE, CodePolicy, check_call, describe_error, is_reference

NET = "from pathlib import Path\nPath('imported').touch()\ndef net(input_shape, classes): return 'made'\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder; what is imported from it is forgotten afterwards."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.delenv("AIQ_ALLOW_CODE", raising=False)
    return work


def write(path, text=NET):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("file", "reference"),
    [
        ("nets_a.py", "nets_a:net"),
        ("package_b/__init__.py", "package_b:net"),
        ("package_c/nets.py", "package_c.nets:net"),
        ("package_d/deep/nets.py", "package_d.deep.nets:net"),
    ],
)
def test_a_module_of_the_working_folder_is_imported_by_a_command_that_runs(folder, file, reference):
    write(folder / file)
    code = CodePolicy.for_running()
    assert code.allows(reference)
    assert not (folder / "imported").exists()
    assert code.load(reference)((1,), 2) == "made"
    assert (folder / "imported").exists()


def test_a_project_that_is_installed_from_the_working_folder_is_its_own(folder):
    write(folder / "src" / "package_e" / "nets.py")
    sys.path.append(str(folder / "src"))
    assert CodePolicy.for_running().load("package_e.nets:net")((1,), 2) == "made"


@pytest.mark.parametrize(
    "reference",
    [
        "os:system",
        "builtins:eval",
        "subprocess:run",
        "json:dumps",
        "torch.hub:load",
        "numpy:load",
        "sys:exit",
    ],
)
def test_installed_code_is_imported_where_the_user_allows_it(folder, reference):
    code = CodePolicy.for_running()
    assert not code.allows(reference)
    with pytest.raises(InputError, match=r"is not in the working folder .*allow it with --allow-code"):
        code.load(reference)
    assert CodePolicy.for_running([reference.partition(":")[0].partition(".")[0]]).load(reference)


def test_installed_code_is_not_the_working_folder_s_because_it_lies_in_it(folder, monkeypatch):
    write(folder / ".venv" / "lib" / "site-packages" / "package_f.py")
    sys.path.append(str(folder / ".venv" / "lib" / "site-packages"))
    assert not CodePolicy.for_running().allows("package_f:net")
    monkeypatch.chdir(Path(os.__file__).parent)
    assert not CodePolicy.for_running().allows("os:system")


def test_a_module_beside_the_working_folder_is_another_s(folder):
    write(folder.parent / "nets_g.py")
    sys.path.append(str(folder.parent))
    with pytest.raises(InputError, match="is not in the working folder"):
        CodePolicy.for_running().load("nets_g:net")
    assert not (folder / "imported").exists()


def test_a_package_allows_its_modules_and_no_other_package(folder):
    code = CodePolicy(packages=("json", "os.path"))
    allowed = ["json:dumps", "json.decoder:JSONDecoder", "os.path:join"]
    assert [
        name for name in [*allowed, "jsonx:f", "os:system", "osx.path:join"] if code.allows(name)
    ] == allowed


def test_the_environment_allows_packages_too(folder, monkeypatch):
    monkeypatch.setenv("AIQ_ALLOW_CODE", "json, string xml.dom")
    assert CodePolicy.for_running(["zlib"]).packages == ("zlib", "json", "string", "xml.dom")
    with CodePolicy(packages=("zlib",)).in_child_processes():
        assert os.environ["AIQ_ALLOW_CODE"] == "zlib"
    assert os.environ["AIQ_ALLOW_CODE"] == "json, string xml.dom"
    monkeypatch.setenv("AIQ_ALLOW_CODE", "../json")
    with pytest.raises(InputError, match=r"'\.\./json': expected the name of a package"):
        CodePolicy.for_running()


def test_a_command_that_looks_imports_nothing(folder, monkeypatch):
    write(folder / "nets_h.py")
    monkeypatch.setenv("AIQ_ALLOW_CODE", "nets_h")
    for reference in ("nets_h:net", "os:system", "torchvision.models:resnet18"):
        with pytest.raises(InputError, match="is not imported here"):
            NO_CODE.load(reference)
    assert not (folder / "imported").exists()


def test_a_file_with_the_name_of_a_module_that_is_loaded_already_is_named(folder):
    write(folder / "string.py")
    with pytest.raises(
        InputError, match=r"string\.py is hidden by another module 'string'.*rename your file"
    ):
        CodePolicy.for_running().load("string:net")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def net(:\n", r"cannot import 'broken': SyntaxError: .*broken\.py, line 1"),
        (
            "x = 1\nimport missing_module_x\n",
            r"ModuleNotFoundError: .*missing_module_x.* \(broken\.py, line 2\)",
        ),
        ("def f():\n    return 1 / 0\nf()\n", r"ZeroDivisionError: division by zero \(broken\.py, line 2\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(broken\.py, line 2\)"),
        ("raise ValueError('x' * 5000)\n", r"ValueError: x{200,300}"),
        ("raise ValueError\n", r"cannot import 'broken': ValueError \(broken\.py, line 1\)"),
        ("net = 3\n", "module 'broken' has no function 'net'"),
        ("", "module 'broken' has no function 'net'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_sentence(folder, text, said):
    write(folder / "broken.py", text)
    with pytest.raises(InputError, match=said) as error:
        CodePolicy.for_running().load("broken:net")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "name", ["", "x", "x:", ":x", "x:y:z", "x y:z", "../x:y", "x.py", "x:y()", "x..y:z", "/x:y"]
)
def test_other_names_are_no_references(folder, name):
    assert not is_reference(name)
    with pytest.raises(InputError, match=r"expected package\.module:function"):
        CodePolicy.for_running().load(name)


def test_a_missing_module_is_one_sentence(folder):
    with pytest.raises(
        InputError, match=r"no module named 'no\.such' in the working folder .* run from the folder"
    ):
        CodePolicy.for_running().load("no.such:thing")


def takes_all(**anything):
    raise AssertionError("called")


@pytest.mark.parametrize(
    ("function", "names", "said"),
    [
        (os.system, ["input_shape", "classes", "command"], "unexpected keyword argument 'input_shape'"),
        (lambda x, y: None, ["x"], "missing a required argument: 'y'"),
        (lambda x: None, ["x", "z"], "unexpected keyword argument 'z'"),
        (lambda x, /: None, ["x"], "'x'"),
        (zlib.compress, ["level"], "missing a required"),
        (dict, ["input_shape"], "no signature found"),
    ],
)
def test_what_does_not_take_its_arguments_is_not_called(function, names, said):
    with pytest.raises(InputError, match=f"m:f cannot be called with {', '.join(names)}: .*{said}"):
        check_call("m:f", function, names)


def test_what_takes_its_arguments_is_not_called_either():
    check_call("m:f", takes_all, ["input_shape", "classes"])
    check_call("m:f", lambda input_shape, classes, width=3: None, ["input_shape", "classes"])


def test_an_error_is_described_in_a_line():
    assert describe_error(ValueError("first\nsecond")) == "ValueError: first"
    assert describe_error(ValueError()) == "ValueError"
