"""What is written is whole, or it is not there; what a crash leaves is removed or completed by the next process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from esl_neuro import storage
from esl_neuro.errors import BadInput
from esl_neuro.storage import (
    PLAN,
    STAGED,
    append,
    create_folder,
    finish_replacing,
    locked,
    read_together,
    remove_folder,
    replacing,
    unfinished_folder,
    write,
    write_arrays,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_with(number, monkeypatch, function="fsync"):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, fail)


def test_file_is_replaced_whole(tmp_path):
    path = tmp_path / "x.json"
    write(path, "old and long")
    write(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "the disk reports an error"),
    ],
)
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_error_keeps_the_earlier_file_and_leaves_nothing(tmp_path, monkeypatch, number, words, function):
    path = tmp_path / "x"
    write(path, "old")
    fail_with(number, monkeypatch, function)
    with pytest.raises(BadInput, match=words) as caught:
        write(path, "new")
    assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert "\n" not in str(caught.value)
    assert (path.read_text(), names(tmp_path)) == ("old", ["x"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_device_is_written_and_not_replaced():
    with pytest.raises(BadInput, match="/dev/full: cannot be written: the disk is full"):
        write(storage.Path("/dev/full"), "x" * 100_000)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    write(storage.Path(os.devnull), "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_missing_folder_and_folder_in_the_way_are_named(tmp_path):
    with pytest.raises(BadInput, match="its folder does not exist"):
        write(tmp_path / "a" / "b", "")
    with pytest.raises(BadInput, match="it is a folder"):
        write(tmp_path, "")


def test_link_and_mode_of_a_file_stay(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_arrays_come_back(tmp_path):
    write_arrays(tmp_path / "a.npz", {"x": np.arange(3)})
    assert np.load(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2]


def test_line_that_does_not_fit_is_not_written(tmp_path):
    import resource

    path = tmp_path / "log"
    append(path, "1234")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7, before[1]))
    try:
        with pytest.raises(BadInput, match="larger than the system allows"):
            append(path, "56789")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "1234\n"


# A crash.


def run_and_kill(code, folder):
    """Run code that ends in a SIGKILL, in a folder."""
    script = f"import os, signal\nfrom pathlib import Path\nfrom esl_neuro.storage import *\nhere = Path.cwd()\n{code}"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, check=False, env=os.environ | path_of_package())
    assert done.returncode == -signal.SIGKILL


def path_of_package():
    return {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_unfinished_file_of_a_killed_process_goes_at_the_next_write(tmp_path):
    run_and_kill("with writing(here / 'x') as file: file.write(b'1'); os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert len(names(tmp_path)) == 1
    write(tmp_path / "y", "")
    assert names(tmp_path) == ["y"]


def test_unfinished_work_of_a_living_process_stays(tmp_path):
    with storage.writing(tmp_path / "x") as file:
        file.write(b"1")
        with unfinished_folder(tmp_path):
            write(tmp_path / "y", "")
            assert len(names(tmp_path)) == 3
    assert names(tmp_path) == ["x", "y"]


def fill(folder, content, files=("a", "b")):
    with replacing(folder, last="b", earlier=("c",)) as new:
        for name in files:
            write(new / name, content)


def state(folder):
    return {name: (folder / name).read_text() for name in names(folder)}


def test_files_that_belong_together_are_replaced_together(tmp_path):
    fill(tmp_path / "set", "old", ("a", "b", "c"))
    (tmp_path / "set" / "mine").write_text("stays")
    fill(tmp_path / "set", "new")
    assert state(tmp_path / "set") == {"a": "new", "b": "new", "mine": "stays"}


def contents(folder):
    return "".join((folder / name).read_text() for name in "abc")


def test_a_set_that_is_replaced_while_it_is_read_is_read_again(tmp_path):
    fill(tmp_path / "set", "old", ("a", "b", "c"))
    seen = []

    def read():
        first = (tmp_path / "set" / "a").read_text()
        if not seen:
            fill(tmp_path / "set", "new", ("a", "b", "c"))
        seen.append(first + (tmp_path / "set" / "b").read_text())
        if seen[-1] == "oldnew":
            raise BadInput("a and b contradict each other")
        return contents(tmp_path / "set")

    assert read_together(tmp_path / "set", read) == "newnewnew"
    assert seen == ["oldnew", "newnew"]


def test_a_set_that_never_stays_the_same_is_refused(tmp_path):
    fill(tmp_path / "set", "old", ("a", "b", "c"))
    with pytest.raises(BadInput, match="is being written by another process"):
        read_together(tmp_path / "set", lambda: fill(tmp_path / "set", "new", ("a", "b", "c")))


def test_a_set_that_is_damaged_and_stays_so_is_refused_for_what_it_is(tmp_path):
    with pytest.raises(BadInput, match="damaged"):
        read_together(tmp_path, partial(refuse, "damaged"))


def refuse(text):
    raise BadInput(text)


@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_error_keeps_the_earlier_set(tmp_path, monkeypatch, function):
    fill(tmp_path / "set", "old", ("a", "b", "c"))
    fail_with(errno.ENOSPC, monkeypatch, function)
    with pytest.raises(BadInput, match="the disk is full"):
        fill(tmp_path / "set", "new")
    monkeypatch.undo()
    assert state(tmp_path / "set") == {"a": "old", "b": "old", "c": "old"}


def test_error_removes_the_folders_that_it_made(tmp_path, monkeypatch):
    fail_with(errno.ENOSPC, monkeypatch)
    with pytest.raises(BadInput, match="the disk is full"):
        fill(tmp_path / "deep" / "set", "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_move_that_a_crash_interrupted_is_finished_by_the_next_reader(tmp_path, moved):
    folder = tmp_path / "set"
    fill(folder, "old", ("a", "b", "c"))
    code = (
        "replace, left = os.replace, [MOVED]\n"
        "def crash(source, target):\n"
        "    if STAGED in str(source):\n"
        "        left[0] or os.kill(os.getpid(), signal.SIGKILL)\n"
        "        left[0] -= 1\n"
        "    replace(source, target)\n"
        "os.replace = crash\n"
        "with replacing(here, last='b', earlier=('c',)) as new:\n"
        "    write(new / 'a', 'new'); write(new / 'b', 'new')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run_and_kill(code.replace("MOVED", str(moved)), folder)
    assert (STAGED in names(folder)) == (moved < 2)
    finish_replacing(folder)
    assert state(folder) == {"a": "new", "b": "new"}


def test_plan_of_a_stranger_leads_nowhere_else(tmp_path):
    (tmp_path / "precious").write_text("x")
    staged = tmp_path / "set" / STAGED
    staged.mkdir(parents=True)
    (staged / PLAN).write_text('{"files": [], "removed": ["../precious"]}')
    finish_replacing(tmp_path / "set")
    assert (tmp_path / "precious").exists()


def test_folder_appears_with_its_files_under_the_first_free_name(tmp_path):
    (tmp_path / "r" / "1").mkdir(parents=True)
    (tmp_path / "r" / "1" / "x").touch()
    folder = create_folder(tmp_path / "r", iter("12"), lambda folder: write(folder / "f", ""))
    assert (folder.name, names(folder), names(tmp_path / "r")) == ("2", ["f"], ["1", "2"])


# Locks.


def test_second_process_is_refused_and_told_who_works_there(tmp_path):
    code = (
        "from esl_neuro.errors import BadInput\n"
        "try:\n    Lock(here, 'is in use')\nexcept BadInput as error:\n    Path('said').write_text(str(error))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with locked(tmp_path, "is in use"):
        run_and_kill(code, tmp_path)
    said = (tmp_path / "said").read_text()
    assert said.startswith(f"{tmp_path}: is in use")
    assert f"process {os.getpid()}" in said or not os.path.exists("/proc/locks")


def test_killed_process_releases_its_lock_and_leaves_no_file(tmp_path):
    run_and_kill("lock = Lock(here, ''); os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    with locked(tmp_path, "is in use"):
        assert names(tmp_path) == []


def test_where_a_folder_cannot_be_locked_a_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_try_lock", lambda _: None)
    with locked(tmp_path, "is in use"), pytest.raises(BadInput, match="is in use"), locked(tmp_path, "is in use"):
        pass
    with locked(tmp_path, "is in use"):
        pass


def test_a_folder_is_removed_as_a_whole(tmp_path, monkeypatch):
    """What a crash leaves of it has the name of an unfinished folder, which the next write removes."""
    folder = tmp_path / "kept"
    (folder / "below").mkdir(parents=True)
    write(folder / "below" / "x.json", "{}")
    with monkeypatch.context() as patch:
        patch.setattr(storage.shutil, "rmtree", lambda *_, **__: None)
        remove_folder(folder)
    assert not folder.exists()
    assert len(names(tmp_path)) == 1
    write(tmp_path / "y.json", "{}")
    assert names(tmp_path) == ["y.json"]


def test_a_folder_that_cannot_be_removed_stays_whole(tmp_path, monkeypatch):
    write(tmp_path / "x.json", "{}")
    fail_with(errno.EACCES, monkeypatch, "rename")
    with pytest.raises(BadInput, match="cannot be removed: permission denied"):
        remove_folder(tmp_path)
    assert names(tmp_path) == ["x.json"]
