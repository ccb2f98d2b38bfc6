"""Places for checkpoints: the same behaviour in a folder and in an object store."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from aiq_search.errors import InputError
from aiq_search.places import (
    LocalPath,
    StorageError,
    StorageProbe,
    StoredPath,
    answer_probe,
    chosen_storage,
    patiently,
    place_of,
    shared_place,
    store,
)
from aiq_search.places import place as place_module
from aiq_search.study import Phase, Study, TrialKey
from tests.s3 import BUCKET, s3_server
from tests.search.simulation import finish, new_study

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def s3():
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    if request.param == "folder":
        return LocalPath(tmp_path)
    request.getfixturevalue("s3")
    return shared_place(f"s3://{BUCKET}/{request.node.name.partition('[')[0]}")


def test_what_is_written_is_read_counted_found_and_removed(place):
    folder = place / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "a.safetensors"
    assert not file.is_file()
    file.write_whole(b"first")
    file.write_whole(b"second")
    (folder / "b.part").write_whole(b"1234")
    assert file.read_bytes() == b"second"
    assert file.size() == 6
    assert place.size() == 10
    assert list(folder.glob("*.safetensors")) == [file]
    assert place_of(str(file)) == file
    file.unlink()
    assert not file.is_file()
    file.unlink(missing_ok=True)
    place.remove_tree()
    place.remove_tree()
    assert not (folder / "b.part").is_file()


def test_reading_what_is_not_there_is_an_error(place):
    with pytest.raises(FileNotFoundError):
        (place / "nothing").read_bytes()


def test_a_discarded_file_goes_and_none_is_no_error(place):
    (place / "a").write_whole(b"1")
    for _ in range(2):
        (place / "a").discard()
    store._deleters().submit(int).result()
    store._deleters.cache_clear()  # the old one's threads end when their work is done
    patiently(lambda: gone(place / "a"))


def gone(file):
    if file.is_file():
        raise OSError("still there")


def test_a_folder_that_is_not_there_is_not_made_by_writing(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        (LocalPath(tmp_path) / "unmounted" / "a").write_whole(b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_an_error_of_the_storage(s3):
    with pytest.raises(StorageError, match="does not exist"):
        shared_place("s3://no-such-bucket/a").write_whole(b"1")


def test_an_endpoint_may_stand_in_the_address(s3):
    host = s3.removeprefix("http://")
    file = shared_place(f"s3://{BUCKET}/endpoint?scheme=http&endpoint_override={host}") / "a"
    file.write_whole(b"1")
    assert shared_place(f"s3://{BUCKET}/endpoint/a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "uri", ["s3://key:secret@bucket/a", "s3://bucket/a?access_key=x&secret_key=y", "file://a:b@host/a"]
)
def test_credentials_are_not_taken_with_the_address(uri):
    with pytest.raises(InputError, match="put them into the environment"):
        shared_place(uri)


@pytest.mark.parametrize("uri", ["relative/path", "gs://bucket/a", "s3:///a", "file://host/a", ""])
def test_an_address_of_another_kind_is_refused_in_one_sentence(uri):
    with pytest.raises(InputError) as refused:
        shared_place(uri)
    assert "expected s3://bucket/prefix, or an absolute path" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the folder cannot be created"):
        chosen_storage(str(tmp_path / "file" / "folder"))


@pytest.mark.parametrize("query", ["unknown=1", "region=us-east-1&scheme=http&endpoint_override=127.0.0.1:9"])
def test_a_store_that_does_not_answer_is_refused_in_one_sentence(s3, query):
    with pytest.raises(InputError) as refused:
        chosen_storage(f"s3://{BUCKET}/a?{query}")
    assert "correct its address, region, endpoint or credentials." in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_place_that_comes_back_is_waited_for_and_a_full_disk_is_not(monkeypatch):
    monkeypatch.setattr(place_module.time, "sleep", lambda _: None)
    answers = [OSError("away"), OSError("away"), 7]

    def use():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(use) == 7
    answers[:] = [OSError(errno.ENOSPC, "No space left on device"), 7]
    with pytest.raises(StorageError, match="No space left"):
        patiently(use)
    monkeypatch.setattr(place_module, "_PATIENCE", -1.0)
    answers[:] = [OSError("away"), 7]
    with pytest.raises(StorageError, match="away"):
        patiently(use)


def test_a_probe_is_answered_through_the_place_and_leaves_nothing(place):
    folder = place / "checkpoints"
    with StorageProbe(folder) as probe:
        assert answer_probe(str(folder), probe.name, "ada") is None
        assert probe.sees("ada")
        assert not probe.sees("grace")
    store._deleters().submit(int).result()
    patiently(lambda: gone(folder / probe.name))
    assert "not there" in answer_probe(str(folder), ".probe-of-another", "ada")


def test_a_study_keeps_its_weights_in_s3_and_deletes_them_with_itself(s3, tmp_path):
    study = new_study(tmp_path, "there").moved(f"s3://{BUCKET}/studies")
    finish(study)
    key = TrialKey(study.id, Phase.EXPLORE, 0)
    assert str(study.weights_path(key)) == f"s3://{BUCKET}/studies/there/checkpoints/explore-0000.safetensors"
    assert list((study.directory / "checkpoints").iterdir()) == []
    study.weights_path(key).write_whole(b"weights")
    with study.held():
        study.files.remove_tree()
    assert not study.weights_path(key).is_file()


def test_files_move_with_a_study_that_goes_on_elsewhere(s3, tmp_path):
    study = new_study(tmp_path)
    for name in ("explore-0000.safetensors", "explore-0001.unfinished.safetensors"):
        (study.checkpoints / name).write_whole(name.encode())
    assert isinstance(study.moved(f"s3://{BUCKET}/moved").checkpoints, StoredPath)
    again = Study.open(study.id, tmp_path)
    assert (again.checkpoints / "explore-0000.safetensors").read_bytes() == b"explore-0000.safetensors"
    assert list((study.directory / "checkpoints").iterdir()) == []
    assert again.moved(f"s3://{BUCKET}/moved") is again


def test_a_local_study_needs_no_pyarrow():
    code = "import sys; import aiq_search.places as p; p.place_of('/a'); sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
