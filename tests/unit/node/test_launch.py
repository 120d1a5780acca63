# SPDX-License-Identifier: BSD-2-Clause
"""Starting daemons: where they listen, and arguments for one start only."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ganeti_vc.node import launch


@pytest.mark.parametrize(
    ("argv", "address"),
    [
        (["ganeti-noded", "-b", "192.0.2.10"], "192.0.2.10"),
        (["ganeti-noded", "-b", "192.0.2.10", "-f", "-b", "2001:db8::1"], "2001:db8::1"),
        (["ganeti-wconfd", "-f"], ""),
        (["ganeti-noded", "-b"], ""),
    ],
)
def test_the_last_address_counts(argv: list[str], address: str) -> None:
    assert launch.address_of(argv) == address


def test_somebody_else_in_the_place_of_a_daemon_is_not_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/usr/sbin/ganeti-mond", "-f", "-b", "127.0.0.77"]
    launch.refuse_stranger(argv)  # nobody listens
    with socket.create_server(("127.0.0.77", 1815)):
        assert launch.answers("ganeti-mond", "", "127.0.0.77")
        launch.refuse_stranger(argv)  # its own user does
        uid = os.getuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        assert not launch.answers("ganeti-mond", "", "127.0.0.77")
        with pytest.raises(SystemExit, match=f"^uid {uid} listens on port 1815 of 127.0.0.77, so ganeti-mond cannot"):
            launch.refuse_stranger(argv)


def put(rootdir: Path, text: str) -> Path:
    file = rootdir / "var/run/ganeti/ganeti-luxid.onetime"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_arguments_are_for_one_start_only(tmp_path: Path) -> None:
    assert launch.onetime_args("ganeti-luxid", str(tmp_path)) == []
    file = put(tmp_path, "--no-voting\n--yes-do-it\n")
    assert launch.onetime_args("ganeti-luxid", str(tmp_path)) == ["--no-voting", "--yes-do-it"]
    assert not file.exists()
    assert launch.onetime_args("ganeti-luxid", str(tmp_path)) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    file = put(tmp_path, "")
    file.unlink()
    (tmp_path / "elsewhere").write_text("--evil\n")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        launch.onetime_args("ganeti-luxid", str(tmp_path))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_only_root_gives_arguments(tmp_path: Path) -> None:
    os.chown(put(tmp_path, "--evil\n"), 65534, 65534)
    with pytest.raises(SystemExit, match="does not belong to root"):
        launch.onetime_args("ganeti-luxid", str(tmp_path))
