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


def test_arguments_for_one_start(tmp_path: Path) -> None:
    assert launch.onetime_args("ganeti-luxid", str(tmp_path)) == []
    (tmp_path / ".onetime-ganeti-luxid").write_text("--no-voting\n--yes-do-it\n")
    assert launch.onetime_args("ganeti-luxid", str(tmp_path)) == ["--no-voting", "--yes-do-it"]
    assert launch.onetime_args("ganeti-wconfd", str(tmp_path)) == []
