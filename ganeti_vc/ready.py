# SPDX-License-Identifier: BSD-2-Clause
"""Bring every node of a cluster up, and return when the cluster answers.

systemd skips what lies beneath a target that is active already, so starting a cluster again would
not restart a node that was stopped. Each node's target is therefore started by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from ganeti_vc import ganeti, names
from ganeti_vc.errors import StepFailed
from ganeti_vc.names import ClusterId, NodeId
from ganeti_vc.systemd import Job, Systemd


def members(cluster: ClusterId) -> list[NodeId]:
    """The nodes of a cluster, as systemd's links have them."""
    links = (names.LINK_DIR / f"{cluster.target}.wants").glob("ganeti-vnode@*.target")
    return sorted(cluster.node(path.name.removeprefix("ganeti-vnode@").removesuffix(".target")) for path in links)


def wait(cluster: ClusterId, systemd: Systemd, progress: Callable[[Job], None] = lambda _: None) -> None:
    """Start what is missing and wait. Raises StepFailed that names what did not come up."""
    nodes = members(cluster)
    systemd.start(cluster.sshd_service, *(node.target for node in nodes), progress=progress)
    expected = [unit for node in nodes for unit in ganeti.expected_units(node)]
    if not expected:
        return
    states = {unit.name: unit for unit in systemd.list_units("ganeti-*@*.service")}
    for unit in expected:
        state = states[unit].active if unit in states else "inactive"
        if state != "active":
            raise StepFailed(f"{unit} is {state}", f"look at: journalctl -u {unit}")
