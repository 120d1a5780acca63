# SPDX-License-Identifier: BSD-2-Clause
"""Waiting until the nodes of a cluster answer, so that its master can vote.

Ganeti's master daemons ask every node who the master is, once, as they start, and end when no majority agrees. So this
runs before them, and waits for all nodes that are not offline. It does not wait for a node whose noded neither runs nor
is about to run, as long as a majority answers. After the time limit it returns: then Ganeti decides by itself.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable

from ganeti_vc.base.constants import TCP_PORTS
from ganeti_vc.node.listening import bound, local
from ganeti_vc.node.untrusted import read

LIMIT = 60.0  #: seconds
PAUSE = 50  #: milliseconds


def _ssconf(data: str, name: str) -> list[str]:
    return (read(f"{data}/ssconf_{name}") or "").split("\n")


def nodes_to_wait_for(primary_ips: Iterable[str], offline: Iterable[str]) -> dict[str, str]:
    """Return addresses by name, from the lines of ssconf_node_primary_ips and ssconf_offline_nodes."""
    pairs = [line.split() for line in primary_ips if line]
    excluded = set(offline)
    return {name: address for name, address in pairs if name not in excluded}


def running_or_coming(shown: str) -> set[str]:
    """Return the nodes whose noded runs, starts, or will be restarted, from what `systemctl show` prints."""
    nodes = set()
    for block in shown.split("\n\n"):
        state = dict(line.split("=", 1) for line in block.split("\n") if line)
        # Job= is there only while there is one; a unit that waits for its restart is "activating" as well.
        if state.get("ActiveState") in ("active", "activating", "reloading") or "Job" in state:
            nodes.add(state["Id"].removeprefix("ganeti-noded@").removesuffix(".service"))
    return nodes


def _expected(names: Iterable[str]) -> set[str]:
    import subprocess  # seldom needed, and its import takes as long as the rest

    units = [f"ganeti-noded@{name}.service" for name in names]
    if not units:  # then systemctl would show itself
        return set()
    command = ["systemctl", "show", "--property=Id,ActiveState,Job", *units]
    return running_or_coming(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _votes_are_not_asked(rootdir: str) -> bool:
    """Tell whether a daemon is about to start without the nodes' votes."""
    for name in os.listdir(rootdir):
        if name.startswith(".onetime-"):
            with open(f"{rootdir}/{name}") as stream:
                if "--no-voting" in stream.read():
                    return True
    return False


def main() -> None:
    """Entry point of tools/units/wait-nodes."""
    rootdir = os.environ["GANETI_ROOTDIR"]
    if _votes_are_not_asked(rootdir):
        return
    data = f"{rootdir}/var/lib/ganeti"
    primary_ips = [line for line in _ssconf(data, "node_primary_ips") if line]
    nodes = nodes_to_wait_for(primary_ips, _ssconf(data, "offline_nodes"))
    deadline = time.monotonic() + LIMIT
    pause = select.poll()
    while True:
        present = bound("tcp")
        # noded has this program's user. Where somebody else listens, it cannot come.
        users = {name: present.get(local(address, TCP_PORTS["noded"])) for name, address in nodes.items()}
        missing = [name for name, user in users.items() if user != os.geteuid()]
        if not missing:
            return
        majority = 2 * (len(nodes) - len(missing)) > len(primary_ips)
        if majority and not _expected(name for name in missing if users[name] is None):
            print(f"going on without {', '.join(missing)}: not running")
            return
        if time.monotonic() > deadline:
            print(f"no answer from {', '.join(missing)} within {LIMIT:.0f} s, Ganeti decides", file=sys.stderr)
            return
        pause.poll(PAUSE)
