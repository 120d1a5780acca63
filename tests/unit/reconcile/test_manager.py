# SPDX-License-Identifier: BSD-2-Clause
"""What the manager makes of clusters that it cannot use."""

from __future__ import annotations

from typing import cast

import pytest

from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.reconcile import manager


class Recorder:
    """A systemd that has the fork server in some state and notes what is asked of it."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.asked = ""

    def active_state(self, unit: str) -> str:
        return self.state

    def call(self, method: str, signature: str, *args: object) -> None:
        self.asked = method


@pytest.mark.parametrize(
    ("state", "wanted", "unknown", "asked"),
    [
        ("inactive", True, False, "StartUnit"),
        ("inactive", True, True, "StartUnit"),
        ("activating", True, True, ""),
        ("active", False, False, "StopUnit"),
        ("active", False, True, ""),
        ("inactive", False, True, ""),
    ],
)
def test_the_fork_server_stays_for_a_cluster_whose_file_is_broken(
    state: str, wanted: bool, unknown: bool, asked: str
) -> None:
    systemd = Recorder(state)
    manager._fork_server(cast(Systemd, systemd), wanted, unknown)
    assert systemd.asked == asked
