import os
import stat
import subprocess

import pytest

from aiq_search.app.deploy import init_environment
from aiq_search.errors import InputError
from tests.deploy.conftest import ROOT, values
from tests.support.command_line import run_aiq

TEMPLATES = [ROOT, ROOT / "deploy" / "kubernetes"]


@pytest.fixture(params=TEMPLATES, ids=["compose", "kubernetes"])
def folder(request, tmp_path):
    (tmp_path / ".env.example").write_bytes((request.param / ".env.example").read_bytes())
    return tmp_path


def test_every_empty_value_becomes_a_secret_of_its_own_and_nothing_else_changes(folder):
    path, names = init_environment(folder)
    template, written = values(folder / ".env.example"), values(path)
    assert list(written) == list(template)
    assert [name for name, value in template.items() if not value] == names
    assert all(len(written[name]) == 64 for name in names)
    assert len({written[name] for name in names}) == len(names) > 4
    assert all(written[name] == value for name, value in template.items() if value)
    comments = [line for line in path.read_text().splitlines() if not line or line.startswith("#")]
    assert comments == [
        line
        for line in (folder / ".env.example").read_text().splitlines()
        if not line or line.startswith("#")
    ]


def test_two_deployments_share_no_secret(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / ".env.example").write_bytes((folder / ".env.example").read_bytes())
    first, names = init_environment(folder)
    second, _ = init_environment(other)
    assert not {values(first)[name] for name in names} & {values(second)[name] for name in names}


def test_the_file_is_its_owners_alone_whatever_the_umask(folder):
    previous = os.umask(0)
    try:
        path, _ = init_environment(folder)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_time_it_refuses_and_leaves_the_file(folder):
    path, _ = init_environment(folder)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists and was left as it is"):
        init_environment(folder)
    assert path.read_bytes() == before


def test_without_a_template_it_says_where_to_run_it(tmp_path):
    with pytest.raises(InputError, match="in a clone of the repository"):
        init_environment(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_file_and_no_secret_and_refuses_with_exit_code_2(folder):
    first, second = (
        run_aiq("deploy", "init", folder, folder=folder, environment=os.environ) for _ in range(2)
    )
    assert (first.code, first.out) == (0, f"{folder / '.env'}\n")
    secrets = [value for value in values(folder / ".env").values() if len(value) == 64]
    assert not any(secret in first.out + first.err for secret in secrets)
    assert second.code == 2


@pytest.mark.parametrize("template", TEMPLATES, ids=["compose", "kubernetes"])
def test_a_template_holds_no_secret_and_git_never_sees_what_is_made_of_it(template):
    given = values(template / ".env.example")
    secret = [name for name in given if any(word in name.upper() for word in ("PASSWORD", "SECRET", "TOKEN"))]
    assert secret
    assert not any(given[name] for name in secret)
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=template)
    if ignored.returncode == 128:
        pytest.skip("this is no git repository")
    assert ignored.returncode == 0
