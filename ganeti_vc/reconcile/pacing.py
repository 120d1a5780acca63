# SPDX-License-Identifier: BSD-2-Clause
"""Starting the nodes of a cluster, in windows, until the cluster answers.

systemd skips what lies beneath a target that is active already. So starting the cluster's target again would not start
a node that was stopped, and each node's target is started by itself.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator

from ganeti_vc.base.errors import StepFailed
from ganeti_vc.machine import ganeti_files, network
from ganeti_vc.machine.systemd import Job, Systemd
from ganeti_vc.model import names
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.reconcile.plan import PACED_FROM

#: Seconds that systemd has to restart daemons that failed: for all, and more for each.
RESTART_LIMIT = 20.0
RESTART_LIMIT_EACH = 0.05
#: Of many nodes, so many start at the same time: they keep two cores busy.
WINDOW = 16
#: Seconds to wait for the cluster's address.
ADDRESS_LIMIT = 10.0


def members(cluster: ClusterId) -> list[NodeId]:
    """Return the nodes of a cluster, by systemd's links."""
    return cluster.members(names.LINK_DIR.glob(f"*.requires/{cluster.nodes_target}"))


def wait(cluster: ClusterId, systemd: Systemd, progress: Callable[[Job], None] = lambda _: None) -> None:
    """Start what is missing and wait. Raises StepFailed that names what did not come up."""
    nodes = members(cluster)
    master = ganeti_files.master_of(nodes)
    # Wait for what systemd starts already. A second job would begin again with all that has ended since.
    coming = [unit.name for unit in systemd.list_units("ganeti-vnode@*.target") if unit.job in ("start", "restart")]
    systemd.jobs("StartUnit", sorted({node.target for node in nodes} & set(coming)), progress, "ignore-dependencies")
    systemd.start(cluster.sshd_service)
    missing = incomplete(nodes, master, systemd)
    for window in _windows(missing, master):
        systemd.start(*(node.target for node in window), progress=progress)
    _wait_for_units([unit for node in nodes for unit in ganeti_files.expected_units(node, master)], systemd)
    if master:
        _wait_for_address(master)


def incomplete(nodes: Iterable[NodeId], master: NodeId | None, systemd: Systemd) -> list[NodeId]:
    """Return the nodes of which a unit that ought to run is not active.

    Starting a node that is complete costs systemd as much as starting one that is stopped.
    """
    active = {unit.name for unit in systemd.list_units("ganeti-*") if unit.active == "active"}
    expected = {node: [node.target, node.watcher_timer, *ganeti_files.expected_units(node, master)] for node in nodes}
    return [node for node, units in expected.items() if not active.issuperset(units)]


def wait_until_stopped(cluster: ClusterId, systemd: Systemd) -> None:
    """Wait for the stop jobs of the cluster's nodes. In a restart the jobs are others, and this returns at once."""
    systemd.jobs("StopUnit", [*(node.target for node in members(cluster)), cluster.sshd_service], mode="fail")


def _windows(nodes: list[NodeId], master: NodeId | None) -> Iterator[list[NodeId]]:
    """Yield the nodes to start together: few all at once, as systemd does at boot. Of many, the master comes last, as it asks all."""
    if len(nodes) < PACED_FROM:
        yield nodes
        return
    others = [node for node in nodes if node != master]
    for at in range(0, len(others), WINDOW):
        yield others[at : at + WINDOW]
    if master in nodes:
        yield [master]


def _wait_for_units(expected: list[str], systemd: Systemd) -> None:
    """Wait until all are active, while systemd still tries: a daemon may fail once for a passing reason."""
    deadline = time.monotonic() + RESTART_LIMIT + RESTART_LIMIT_EACH * len(expected)
    while True:
        states = {unit.name: unit.active for unit in systemd.list_units("ganeti-*@*.service")}
        missing = {unit: states.get(unit, "inactive") for unit in expected if states.get(unit) != "active"}
        if not missing:
            return
        unit, state = next(iter(missing.items()))
        reason = systemd.service_property(unit, "StatusText", "s")  # tools/units/launch says why it cannot start
        trying = {"activating", "deactivating", "reloading"} & set(missing.values())
        if reason or not trying or time.monotonic() > deadline:
            raise StepFailed(f"{unit} is {state}{reason and f': {reason}'}", f"look at: journalctl -u {unit}")
        systemd.wait_for_change()


def _wait_for_address(master: NodeId) -> None:
    """Wait for the cluster's address, which luxid has noded set: a failover before that would fail.

    After the limit this returns all the same: another machine may have the address, and Ganeti leaves it there.
    """
    text = ganeti_files.ssconf(master, "master_ip") or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise StepFailed(
            f"{master.data_dir}/ssconf_master_ip has no address",
            "gnt-vcluster exec master -- gnt-cluster redist-conf",
        ) from None
    deadline = time.monotonic() + ADDRESS_LIMIT
    while time.monotonic() < deadline and address not in network.addresses():
        time.sleep(0.1)  # netlink could tell, but not with a deadline
