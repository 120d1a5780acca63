# SPDX-License-Identifier: BSD-2-Clause
"""The command line: what does not go together."""

from __future__ import annotations

import pytest

from ganeti_vc.cli import main


@pytest.mark.parametrize("command", [["list"], ["status"], ["doctor"], ["snapshot", "list"]])
@pytest.mark.parametrize("option", [["-o", "cluster"], ["--no-headers"], ["--separator=:"]])
def test_json_has_all_fields(command: list[str], option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.parse([*command, "--json"]).json and not main.parse([*command, *option]).json
    with pytest.raises(SystemExit) as caught:
        main.parse([*command, *option, "--json"])
    message = capsys.readouterr().err
    assert caught.value.code == 2 and message.count("\n") == 1 and "--json has all fields" in message
