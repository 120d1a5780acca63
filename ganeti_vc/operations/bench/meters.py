# SPDX-License-Identifier: BSD-2-Clause
"""Reading what the processes of clusters use."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.machine import cgroups
from ganeti_vc.model import names
from ganeti_vc.model.names import NodeId
from ganeti_vc.operations.bench.figures import Cost

#: Parent of the groups of system services.
SYSTEM = names.CGROUPS / "system.slice"


#: Groups in system.slice that work for the cluster, besides those of ours.
HELPER_UNITS = ("systemd-journald.service", "dbus.service")


@dataclass(frozen=True)
class Reading:
    """All meters at one moment."""

    seconds: float
    nodes: float
    other_nodes: Mapping[Path, float]
    system: float
    other_system: Mapping[Path, float]
    systemd: float
    command: float
    machine: float

    def since(self, before: Reading) -> Cost:
        """Return what was used between two readings."""

        def ours(total: float, others: Mapping[Path, float], earlier: Mapping[Path, float]) -> float:
            # By subtraction: so units count that have ended since.
            return total - sum(value - earlier.get(group, 0.0) for group, value in others.items())

        parts = {
            "nodes": ours(self.nodes - before.nodes, self.other_nodes, before.other_nodes),
            "helpers": ours(self.system - before.system, self.other_system, before.other_system),
            "systemd": self.systemd - before.systemd,
            "command": self.command - before.command,
        }
        return Cost(self.seconds - before.seconds, parts, self.machine - before.machine)


def _others(parent: Path, ours: Callable[[str], bool]) -> dict[Path, float]:
    groups = [path for path in parent.glob("*") if path.is_dir() and not ours(path.name)]
    return {path: cgroups.cpu_seconds(path) for path in groups}


def is_ours(unit: str, nodes: Collection[NodeId]) -> bool:
    """Tell whether a unit in system.slice belongs to this cluster, or to all of ours."""
    if not unit.startswith("ganeti-"):
        return False
    instance = unit.partition("@")[2].rpartition(".")[0]
    return not instance or any(instance in (node.name, node.cluster.name) for node in nodes)


def read(nodes: Collection[NodeId]) -> Reading:
    """Read all meters, for the cluster of these nodes."""

    def has_ours(name: str) -> bool:
        return any(node.slice == name or node.slice.startswith(f"{name.removesuffix('.slice')}-") for node in nodes)

    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Reading(
        seconds=time.monotonic(),
        nodes=cgroups.cpu_seconds(cgroups.ALL_NODES),
        other_nodes=_others(cgroups.ALL_NODES, has_ours),
        system=cgroups.cpu_seconds(SYSTEM),
        other_system=_others(SYSTEM, lambda name: name in HELPER_UNITS or is_ours(name, nodes)),
        systemd=cgroups.cpu_seconds(names.CGROUPS / "init.scope"),
        command=own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        machine=cgroups.cpu_seconds(names.CGROUPS),
    )
