# SPDX-License-Identifier: BSD-2-Clause
"""Standing still: all processes of some nodes, and the nodes' own disks, for as long as somebody copies them.

The kernel freezes control groups (cgroup.freeze) and file systems (fsfreeze(8)). Nodes are frozen one after
the other, and yet the whole is a state that the cluster could have been in: what stands still sends nothing,
so nobody has received what was not sent.

Nothing may stay frozen, whatever happens to us. So what is going to be frozen is written down first
(names.FROZEN), and a process in a session of its own (tools/snapshots/thaw) waits for our end. Should it be
killed as well, the manager and the next one who freezes run it again.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.process import BASE_ENVIRONMENT, run
from ganeti_vc.machine import node_disk
from ganeti_vc.model import names
from ganeti_vc.model.names import NodeId

#: Seconds. Only a process that waits for a device keeps its group from standing still.
FREEZE_LIMIT = 20.0
_THAW = str(names.LIB_DIR / "thaw")


def _event(group: Path, name: str) -> bool:
    try:
        events = dict(line.split() for line in (group / "cgroup.events").read_text().splitlines())
    except OSError:  # no process has ever been in it, or none is any more
        return False
    return events[name] == "1"


def running(nodes: Sequence[NodeId]) -> list[NodeId]:
    """Return the nodes that have processes."""
    return [node for node in nodes if _event(node.control_group, "populated")]


def left_frozen() -> bool:
    """Tell whether a command that froze nodes was killed, and tools/snapshots/thaw with it."""
    return names.FROZEN.exists()


def thaw() -> None:
    """Let everything go on that we have frozen."""
    run([_THAW])


@contextlib.contextmanager
def frozen(nodes: Sequence[NodeId]) -> Iterator[None]:
    """Keep nodes from doing anything. Nodes that somebody else has frozen stay frozen.

    Call it with the lock of names.STATE_DIR, which tools/snapshots/thaw inherits. Raises VclusterError when a node
    cannot be frozen, StepFailed when one does not stand still.
    """
    if left_frozen():
        thaw()
    nodes = running(nodes)
    switches = _switches(nodes)
    own = {node: switch for node, switch in switches.items() if switch.read_text().strip() == "0"}
    mounts = [node_disk.mount_point(node) for node in nodes if node_disk.is_mounted(node)]
    if not (own or mounts):
        yield
        return
    files.write(names.FROZEN, "".join(f"{path}\n" for path in (*mounts, *own.values())))
    with subprocess.Popen(
        [_THAW], env=BASE_ENVIRONMENT, stdin=subprocess.PIPE, start_new_session=True, close_fds=False
    ) as guard:
        try:
            for switch in own.values():
                switch.write_text("1")
            _wait_until_still(switches)
            for path in mounts:  # last: a process that waits for a frozen file system cannot be frozen any more
                run(["fsfreeze", "--freeze", str(path)])
            yield
        finally:
            assert guard.stdin
            guard.stdin.close()
            if guard.wait():
                thaw()


def _switches(nodes: Sequence[NodeId]) -> dict[NodeId, Path]:
    """Return the files that freeze nodes. Raises VclusterError when a control group has none."""
    switches = {node: node.control_group / "cgroup.freeze" for node in nodes}
    for node, switch in switches.items():
        if not switch.exists():
            raise VclusterError(
                f"{node.name} cannot be frozen: there is no {switch}", f"first: gnt-vcluster stop {node.cluster.name}"
            )
    return switches


def _wait_until_still(switches: Mapping[NodeId, Path]) -> None:
    deadline = time.monotonic() + FREEZE_LIMIT
    for node, switch in switches.items():
        while switch.exists() and not _event(node.control_group, "frozen"):
            if time.monotonic() > deadline:
                raise StepFailed(
                    f"{node.name} does not stand still",
                    f"look at: systemctl status {node.slice}, or first: gnt-vcluster stop {node.cluster.name}",
                )
            time.sleep(0.002)  # poll(2) could tell, but only of one group at a time
