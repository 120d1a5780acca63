# SPDX-License-Identifier: BSD-2-Clause
"""The table of commands and the parser that is made from it."""

from __future__ import annotations

import pytest

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.cli import main, parser
from ganeti_vc.cli.parser import COMMANDS, Command


def by_name(command: Command) -> str:
    return command.name


def test_each_command_is_named_once() -> None:
    names = [command.name for command in COMMANDS]
    assert len(names) == len(set(names)) == len(parser.BY_NAME)


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_what_a_command_runs_exists(command: Command) -> None:
    assert callable(main._function(command))


@pytest.mark.parametrize("command", COMMANDS, ids=by_name)
def test_each_command_has_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.parse([command.name, "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0 and command.name in out and "gnt-vcluster(8)" in out


@pytest.mark.parametrize(
    ("argv", "remainder"),
    [
        (["exec", "node1", "--", "ls", "--", "-l"], ["ls", "--", "-l"]),
        (["exec", "node1"], []),
        (["run", "--", "sh", "-c", "true"], ["sh", "-c", "true"]),
        (["run", "sh", "--", "x"], ["--", "x"]),
        (["qa", "--quick", "--", "--dry-run"], ["--dry-run"]),
        (["sandbox", "exec", "mine", "--", "id"], ["id"]),
    ],
)
def test_what_is_meant_for_another_program(argv: list[str], remainder: list[str]) -> None:
    assert main.parse(argv).remainder == remainder


@pytest.mark.parametrize(
    "argv",
    [
        ["nosuch"],
        ["up", "--nodes", "0"],
        ["up", "--nodes", "x"],
        ["scale"],
        ["up", "a", "b"],
        ["bench", "--sizes", "1"],
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.parse(argv)
    message = capsys.readouterr().err
    assert caught.value.code == 2 and message.count("\n") == 1 and "--help shows the usage" in message


def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(args: object) -> int:
        raise VclusterError("it is broken", "fix it")

    monkeypatch.setattr(main, "_run", fail)
    assert main.main(["list"]) == 1
    assert capsys.readouterr().err == "gnt-vcluster: it is broken (fix it)\n"
