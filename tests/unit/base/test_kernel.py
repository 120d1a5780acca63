# SPDX-License-Identifier: BSD-2-Clause
"""What /proc says; and locks and files, whose contents nobody sees half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganeti_vc.base import files, kernel, locks
from ganeti_vc.base.errors import VclusterError


def test_where_something_is_mounted() -> None:
    assert kernel.mount_of("proc") == "/proc"
    assert kernel.mount_of("proc", "rw") in ("/proc", None) and kernel.mount_of("proc", "nosuchoption") is None
    assert kernel.mount_of("nosuchfs") is None


def test_numbers_of_the_kernel(tmp_path: Path) -> None:
    pid_max = kernel.number(Path("/proc/sys/kernel/pid_max"))
    assert pid_max and pid_max > 300
    assert kernel.number(tmp_path / "none") is None and kernel.number(Path("/proc/self/status/none")) is None


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with locks.try_lock(tmp_path) as first, locks.try_lock(tmp_path) as second:
        assert first and not second
    with locks.lock(tmp_path), locks.try_lock(locks.lock_file(tmp_path)) as other:
        assert locks.lock_file(tmp_path).stat().st_mode & 0o777 == 0o600
        assert not other
    with pytest.raises(VclusterError, match="reinstall"), locks.lock(tmp_path / "none"):
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file"
    files.write(path, "one\n", 0o600)
    inode = path.stat().st_ino
    files.write(path, "two\n", 0o640)
    assert path.read_text() == "two\n" and path.stat().st_mode & 0o777 == 0o640 and path.stat().st_ino != inode
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("text", ["", "shorter", "much longer than the text before"])
def test_a_file_that_is_not_ours_keeps_what_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text("the text before\n")
    path.chmod(0o604)
    files.rewrite(path, text)
    assert path.read_text() == text and path.stat().st_mode & 0o777 == 0o604
    inode = path.stat().st_ino
    files.rewrite_in_place(path, f"{text}\n")
    assert path.read_text() == f"{text}\n" and path.stat().st_ino == inode


def test_only_empty_directories_go(tmp_path: Path) -> None:
    (tmp_path / "full" / "file").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    files.remove_empty(tmp_path / "empty", tmp_path / "full", tmp_path / "none")
    assert os.listdir(tmp_path) == ["full"]
