# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's daemons: the one table of which there are and where they run.

The unit templates in units/ and the shell of tools/daemon-util name them too; a unit test holds
the three together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Runs(StrEnum):
    """Where a daemon is to be found running on a healthy cluster."""

    EVERYWHERE = "on every node"
    CANDIDATES = "on master candidates"
    MASTER = "on the master"
    ON_DEMAND = "on demand"


@dataclass(frozen=True)
class Daemon:
    """One daemon; `name` without Ganeti's ``ganeti-`` prefix."""

    name: str
    runs: Runs
    binds: bool  #: takes ``-b ADDRESS``

    @property
    def args_key(self) -> str:
        """Its variable in etc/default/ganeti."""
        return f"{self.name.upper()}_ARGS"


#: In the order in which upstream's daemon-util starts them.
DAEMONS = (
    Daemon("noded", Runs.EVERYWHERE, binds=True),
    Daemon("confd", Runs.CANDIDATES, binds=True),
    Daemon("wconfd", Runs.MASTER, binds=False),
    Daemon("rapi", Runs.MASTER, binds=True),
    Daemon("luxid", Runs.MASTER, binds=False),
    Daemon("kvmd", Runs.ON_DEMAND, binds=False),
    Daemon("mond", Runs.EVERYWHERE, binds=True),
    Daemon("metad", Runs.ON_DEMAND, binds=True),
)
