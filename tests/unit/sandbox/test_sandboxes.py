# SPDX-License-Identifier: BSD-2-Clause
"""Sandboxes: names, the command line, and files of the machine. What boots is in tests/system/test_110_sandbox.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganeti_vc.base.errors import UsageError
from ganeti_vc.cli import main
from ganeti_vc.sandbox.requirements import free, ranges, subordinate
from ganeti_vc.sandbox.sandboxes import Sandbox, data_directory


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "../a", "a" * 33, "a b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError):
        Sandbox(name)


def test_a_directory_is_in_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert Sandbox("a").directory == Path("/elsewhere/ganeti-vcluster/a")
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("HOME", "/home/one")
    assert data_directory() == Path("/home/one/.local/share/ganeti-vcluster")


@pytest.mark.parametrize(
    ("argv", "sandbox", "inside"),
    [
        (["up"], None, ["up"]),
        (["--sandbox", "up", "lab"], "default", ["up", "lab"]),
        (["--sandbox=x", "--debug", "up"], "x", ["--debug", "up"]),
        (["exec", "master", "--", "prog", "--sandbox"], None, ["exec", "master"]),
        (["--sandbox", "run", "prog", "--sandbox=y"], "default", ["run", "prog", "--sandbox=y"]),
    ],
)
def test_the_command_line(argv: list[str], sandbox: str | None, inside: list[str]) -> None:
    args = main.parse(argv)
    words, behind = args.split.words, args.split.behind
    assert (args.sandbox, list(words)) == (sandbox, inside)
    assert [*words, *behind] == [word for word in argv if word not in ("--sandbox", "--sandbox=x") or word in behind]


def test_subordinate_ids(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    assert ranges(file) == []
    file.write_text("two:100000:65536\none:1:10\nbroken\n1000:165536:65536\n")
    found = ranges(file)
    assert [subordinate(found, *who) for who in (("two", 7), ("one", 1000), ("three", 1000), ("three", 1002))] == [
        65536,
        10,
        65536,
        0,
    ]
    assert (free(found), free([])) == (231072, 100000)
