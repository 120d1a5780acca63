# SPDX-License-Identifier: BSD-2-Clause
"""status and list: the state of clusters and nodes, from Ganeti's files and from systemd. No daemon is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import cgroups, config_files, ganeti_files, network
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.daemons import DAEMONS
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.operations.lookup import undeclared
from ganeti_vc.reconcile import observe, plan

NODE_FIELDS = {
    "node": "Node",
    "address": "Address",
    "role": "Role",
    "state": "State",
    "daemons": "Daemons",
    "missing": "Missing",
    "memory": "Memory",
}
CLUSTER_FIELDS = {
    "cluster": "Cluster",
    "name": "Name",
    "nodes": "Nodes",
    "network": "Network",
    "master": "Master",
    "state": "State",
}


@dataclass(frozen=True)
class NodeStatus:
    """A line of `gnt-vcluster status`."""

    node: str
    address: str
    role: str  #: Ganeti's word: master, candidate, regular, offline; or "none": in no Ganeti cluster
    state: str  #: running, degraded, stopped
    daemons: list[str]
    missing: list[str]  #: daemons that ought to run and do not; "address" when no device carries it
    memory: int  #: bytes, with the node's part of each shared page

    def row(self) -> dict[str, object]:
        return {**vars(self), "memory": f"{self.memory / 2**20:.0f}M" if self.memory else ""}


def roles(nodes: Iterable[NodeId], master: NodeId | None) -> dict[str, str]:
    """Return the role of each node, by the master's ssconf files."""
    if master is None:
        return {node.name: "none" for node in nodes}
    known = set((ganeti_files.ssconf(master, "node_list") or "").split())
    offline = set((ganeti_files.ssconf(master, "offline_nodes") or "").split())
    candidates = set((ganeti_files.ssconf(master, "master_candidates") or "").split())
    by_name = {}
    for node in nodes:
        if node == master:
            by_name[node.name] = "master"
        elif node.name not in known:
            by_name[node.name] = "none"
        elif node.name in offline:
            by_name[node.name] = "offline"
        else:
            by_name[node.name] = "candidate" if node.name in candidates else "regular"
    return by_name


def memory_of(node: NodeId) -> int:
    """Return the bytes of a node's processes, with their part of each shared page (smaps_rollup, Pss)."""
    return sum(cgroups.memory(pid).get("Pss", 0) for _, pid in cgroups.processes(node.control_group))


def node_statuses(config: ClusterConfig, systemd: Systemd, memory: bool = True) -> list[NodeStatus]:
    """Return the state of each node. `memory`: measure that as well, which takes longer."""
    active = {unit.name for unit in systemd.list_units("ganeti-*@*") if unit.active == "active"}
    master = ganeti_files.master_of(node.id for node in config.nodes)
    role = roles((node.id for node in config.nodes), master)
    addresses = network.addresses()
    statuses = []
    for node in config.nodes:
        running = [daemon.name for daemon in DAEMONS if node.id.service(daemon.name) in active]
        expected = ganeti_files.expected_units(node.id, master)
        missing = [daemon.name for daemon in DAEMONS
                   if node.id.service(daemon.name) in expected and daemon.name not in running]  # fmt: skip
        on = node.id.target in active
        if on and node.address not in addresses:
            missing.append("address")
        state = "stopped" if not on and not running else "degraded" if missing or not on else "running"
        statuses.append(
            NodeStatus(
                node.id.name,
                str(node.address),
                role[node.id.name],
                state,
                sorted(running),
                missing,
                memory_of(node.id) if memory else 0,
            )
        )
    return statuses


def repairs(config: ClusterConfig, nodes: Sequence[NodeStatus]) -> list[str]:
    """Return what `up` would repair around the nodes of a cluster that runs: network, names, ssh; a line each."""
    if all(node.state == "stopped" for node in nodes):
        return []
    try:
        state = observe.observe({config.id: config}, lasting=False)
    except VclusterError as err:
        return [str(err)]
    return [str(step) for step in plan.surroundings(config, state)]


def remedy(cluster: ClusterId, steps: Sequence[str]) -> str:
    """Return the remedy for what is missing around the nodes, with the steps that it would do."""
    more = f", and {len(steps) - 1} more" if len(steps) > 1 else ""
    return f"gnt-vcluster up {cluster.name}, which would {steps[0]}{more}" if steps else ""


def damage(cluster: ClusterId, steps: Sequence[str]) -> str:
    """Return the line that says that something is missing around the nodes, and the remedy."""
    return f"cluster {cluster.name}: network, names or ssh: something is missing ({remedy(cluster, steps)})"


def cluster_state(nodes: Sequence[NodeStatus], steps: Sequence[str]) -> str:
    """Return the state that all nodes have.

    "degraded" if they differ, if some are not in the Ganeti cluster, or if there is something to repair around them.
    """
    states, joined = {node.state for node in nodes}, {node.role != "none" for node in nodes}
    return states.pop() if len(states) == 1 and len(joined) == 1 and not steps else "degraded"


def cluster_rows(systemd: Systemd) -> list[dict[str, object]]:
    """Return a row for each cluster that is declared or has data. The row of one that cannot be used says why."""
    rows: list[dict[str, object]] = []
    nothing: dict[str, object] = dict.fromkeys(CLUSTER_FIELDS)
    for cluster in config_files.declared():
        row = {**nothing, "cluster": cluster.name}
        try:
            config = config_files.load_present(cluster)
        except VclusterError as err:
            row |= {"state": "invalid", "error": str(err)}
        else:
            master = ganeti_files.master_of(node.id for node in config.nodes)
            nodes = node_statuses(config, systemd, memory=False)
            steps = repairs(config, nodes)
            row |= {
                "name": config.name,
                "nodes": len(config.nodes),
                "network": str(config.network),
                "master": master.name if master else None,
                "state": cluster_state(nodes, steps),
                "up_would": steps,
            }
            if steps:
                row["error"] = damage(cluster, steps)
        rows.append(row)
    rows += [{**nothing, "cluster": name, "state": "invalid", "error": str(err)}
             for name, err in config_files.misnamed().items()]  # fmt: skip
    rows += [{**nothing, "cluster": cluster.name, "state": "undeclared", "error":
              f"{cluster.directory} has data of a cluster without a configuration file "
              f"(put {cluster.config_file} back, or: gnt-vcluster destroy {cluster.name})"}
             for cluster in undeclared()]  # fmt: skip
    return rows
