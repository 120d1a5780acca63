# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's daemons: the table of their names, and of where they run.

The unit templates in units/ and tools/nodes/daemon-util name them as well; a unit test compares the three.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ganeti_vc.base.constants import TCP_PORTS, UDP_PORTS


class Runs(StrEnum):
    """Where a daemon runs on a healthy cluster."""

    EVERYWHERE = "on every node"
    AS_CONFIGURED = "on every node, or on master candidates only"  #: key mond
    CANDIDATES = "on master candidates"
    MASTER = "on the master"
    ON_DEMAND = "on demand"


@dataclass(frozen=True)
class Daemon:
    """One daemon; `name` without Ganeti's ``ganeti-`` prefix."""

    name: str
    runs: Runs

    @property
    def port(self) -> int | None:
        """The port on which it listens; then it takes ``-b ADDRESS``. None: it listens on no port."""
        return {**TCP_PORTS, **UDP_PORTS}.get(self.name)

    @property
    def args_key(self) -> str:
        """Its variable in etc/default/ganeti."""
        return f"{self.name.upper()}_ARGS"


#: In the order in which upstream's daemon-util starts them.
DAEMONS = (
    Daemon("noded", Runs.EVERYWHERE),
    Daemon("confd", Runs.CANDIDATES),
    Daemon("wconfd", Runs.MASTER),
    Daemon("rapi", Runs.MASTER),
    Daemon("luxid", Runs.MASTER),
    Daemon("kvmd", Runs.ON_DEMAND),
    Daemon("mond", Runs.AS_CONFIGURED),
    Daemon("metad", Runs.ON_DEMAND),
)
