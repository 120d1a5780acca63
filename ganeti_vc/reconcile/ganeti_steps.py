# SPDX-License-Identifier: BSD-2-Clause
"""The steps that Ganeti's own commands do. Data only: ganeti_apply.py does them; as text they say what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ganeti_vc.base.progress import counted
from ganeti_vc.machine import ganeti
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.names import NodeId


@dataclass(frozen=True)
class ClearInit:
    """Remove what an interrupted `gnt-cluster init` of ours left.

    It may look complete and not be: on a full disk Ganeti leaves an empty known_hosts behind.
    """

    config: ClusterConfig
    title = "clearing what an interrupted gnt-cluster init left behind"

    def __str__(self) -> str:
        return f"clear what an interrupted gnt-cluster init left on {self.config.nodes[0].id.name}"


@dataclass(frozen=True)
class InitCluster:
    """Initialise the cluster on its first node."""

    config: ClusterConfig
    brief: bool = False  #: the daemons are stopped again at once, so start only those that `gnt-cluster init` asks

    @property
    def title(self) -> str:
        return f"gnt-cluster init on {self.config.nodes[0].id.name}"

    def __str__(self) -> str:
        return f"on {self.config.nodes[0].id.name}: {' '.join(ganeti.init_command(self.config))}"


@dataclass(frozen=True)
class SeedCluster:
    """Stop the master, and write nodes and instances into its configuration."""

    config: ClusterConfig
    master: NodeId
    nodes: Sequence[NodeConfig]
    instances: Sequence[str]
    shared_key: bool
    fresh: bool = False  #: initialised just now, so that no job can run

    @property
    def _what(self) -> str:
        return f"{counted(len(self.nodes), 'node')} and {counted(len(self.instances), 'instance')}"

    @property
    def title(self) -> str:
        return f"writing {self._what}"

    def __str__(self) -> str:
        return f"write {self._what} into Ganeti's configuration"


@dataclass(frozen=True)
class StartNodes:
    """Power nodes on, and wait until the cluster answers."""

    nodes: Sequence[NodeId]
    title = "systemd units"

    def __str__(self) -> str:
        return f"start {', '.join(node.name for node in self.nodes)}"


@dataclass(frozen=True)
class ActivateMasterIp:
    """Give the master the cluster's address again. A bridge that was removed took it along."""

    master: NodeId
    title = "gnt-cluster activate-master-ip"

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True)
class AddNode:
    """Add a node to the Ganeti cluster; `readd` one of which an interrupted `gnt-node add` left half."""

    master: NodeId
    node: NodeConfig
    readd: bool = False
    group: str | None = None  #: node group; None: Ganeti's default
    title = "gnt-node add"

    def __str__(self) -> str:
        return f"gnt-node add {self.node.id.name}"


@dataclass(frozen=True)
class AddInstance:
    """Add a diskless instance."""

    master: NodeId
    name: str
    title = "gnt-instance add"

    def __str__(self) -> str:
        return f"gnt-instance add {self.name}"


@dataclass(frozen=True)
class RemoveNode:
    """Remove an empty node from the Ganeti cluster."""

    master: NodeId
    node: NodeId
    title = "gnt-node remove"

    def __str__(self) -> str:
        return f"gnt-node remove {self.node.name}"


@dataclass(frozen=True)
class VerifyCluster:
    """Have Ganeti verify the cluster. It changes nothing."""

    title = "gnt-cluster verify"

    def __str__(self) -> str:
        return self.title


GanetiStep: TypeAlias = (
    ClearInit | InitCluster | SeedCluster | StartNodes | ActivateMasterIp | AddNode | AddInstance | RemoveNode
    | VerifyCluster
)  # fmt: skip
