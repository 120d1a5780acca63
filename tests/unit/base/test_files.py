# SPDX-License-Identifier: BSD-2-Clause
"""Files: nobody sees half of one, also after a power cut, and no link of others is followed."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganeti_vc.base import files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file"
    files.write(path, "one\n", 0o600)
    inode = path.stat().st_ino
    files.write(path, "two\n", 0o640)
    assert path.read_text() == "two\n" and path.stat().st_mode & 0o777 == 0o640 and path.stat().st_ino != inode
    assert os.listdir(path.parent) == ["file"]


def test_file_and_name_are_on_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            what = stat.S_ISDIR(os.fstat(args[0]).st_mode) if name == "fsync" else None
            calls.append({True: "sync the directory", False: "sync the file", None: "rename"}[what])
            return original(*args, **kwargs)

        return call

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    order = ["sync the file", "rename", "sync the directory"]
    files.write(tmp_path / "file", "text")
    assert calls == order
    files.edit(tmp_path / "file", str.upper)
    assert calls == order * 2 and (tmp_path / "file").read_text() == "TEXT"


def test_what_a_killed_process_left_is_replaced_or_swept(tmp_path: Path) -> None:
    left = tmp_path / files.temporary("file")
    precious = tmp_path / "precious"
    precious.write_text("precious")
    left.symlink_to(precious)
    files.write(tmp_path / "file", "text")
    assert precious.read_text() == "precious" and sorted(os.listdir(tmp_path)) == ["file", "precious"]
    left.write_text("half")
    files.sweep(tmp_path, tmp_path / "none")
    assert sorted(os.listdir(tmp_path)) == ["file", "precious"]


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_only_regular_files_of_others_are_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text("secret")
    path = tmp_path / "file"
    if kind == "link":
        path.symlink_to("secret")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with files.directory(tmp_path) as place:
        assert files.read_in(place, "secret")[0] == b"secret"
        with pytest.raises(OSError):
            files.read_in(place, "file")


def test_no_link_to_a_directory_of_others_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with files.directory(tmp_path) as place:
        with files.directory("real", inside=place) as real:
            assert os.listdir(real) == []
        with pytest.raises(OSError), files.directory("link", inside=place):
            pass


@pytest.mark.parametrize("text", ["", "shorter", "much longer than the text before"])
def test_a_file_that_is_not_ours_keeps_what_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"the text before\r\n")
    path.chmod(0o604)
    files.edit(path, lambda before: before + text)
    assert path.read_bytes() == b"the text before\r\n" + text.encode() and path.stat().st_mode & 0o777 == 0o604
    inode = path.stat().st_ino
    files.rewrite_in_place(path, f"{text}\n")
    assert path.read_text() == f"{text}\n" and path.stat().st_ino == inode
    assert os.listdir(tmp_path) == ["hosts"]


def test_an_edit_loses_nothing_that_others_write_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("first\n")

    def change(text: str) -> str:
        if "other" not in text:
            path.write_text("first\nother\n")
        return f"{text}ours\n"

    files.edit(path, change)
    assert path.read_text() == "first\nother\nours\n"

    def always(text: str) -> str:
        path.write_text(f"{text}more\n")
        return "ours\n"

    with pytest.raises(OSError, match="all the time"):
        files.edit(path, always)
    assert "more" in path.read_text() and os.listdir(tmp_path) == ["hosts"]


def test_what_a_user_names_is_written_where_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["cat", tmp_path / "fifo"], stdout=subprocess.PIPE) as reader:
        files.write_in_place(tmp_path / "fifo", "text")
        assert reader.communicate(timeout=10)[0] == b"text"
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    (tmp_path / "target").write_text("longer than before")
    (tmp_path / "link").symlink_to("target")
    files.write_in_place(tmp_path / "link", "text")
    assert (tmp_path / "target").read_text() == "text" and (tmp_path / "link").is_symlink()


def test_only_empty_directories_go(tmp_path: Path) -> None:
    (tmp_path / "full" / "file").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    files.remove_empty(tmp_path / "empty", tmp_path / "full", tmp_path / "none")
    assert os.listdir(tmp_path) == ["full"]


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        with pytest.raises(OSError):
            files.write(tmp_path / "file", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "before"
