# SPDX-License-Identifier: BSD-2-Clause
"""Large clusters in seconds: nodes and instances written into the stopped cluster's configuration (tools/seed).

What is to be written is worked out here, from the configuration file alone: the same file gives the same
cluster again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganeti_vc.model.config import ClusterConfig, NodeConfig
    from ganeti_vc.model.names import NodeId

#: From how many on it is done this way, unless the user says how. `gnt-node add` gets dearer with every node.
NODES_FROM, INSTANCES_FROM = 8, 20


def wanted(join: str, nodes: Collection[object], instances: Collection[object]) -> bool:
    """Whether these missing nodes and instances are to be seeded; `join` is the user's word: auto, seeding, ganeti."""
    if join == "auto":
        return len(nodes) >= NODES_FROM or len(instances) >= INSTANCES_FROM
    return join == "seeding" and bool(nodes or instances)


def groups(config: ClusterConfig) -> dict[NodeId, str]:
    """The node group of each node: they take turns."""
    return {node.id: name for node, name in zip(config.nodes, itertools.cycle(config.seeding.groups))}


def document(
    config: ClusterConfig, nodes: Sequence[NodeConfig], instances: Iterable[str], shared_key: bool
) -> dict[str, Any]:
    """What tools/seed is told. The nodes take turns for the instances, unless these are spread at random."""
    settings, group = config.seeding, groups(config)
    turn = {name: at for at, (name, _) in enumerate(config.instances)}
    made = []
    for name in instances:
        # By its name, so that it has the same shape however many are made with it.
        chance = random.Random(f"{settings.random_seed}/{name}")
        at = chance.randrange(len(config.nodes)) if settings.spread == "random" else turn[name] % len(config.nodes)
        made.append({
            "name": name, "node": config.nodes[at].id.name, "os": "noop", "memory": chance.choice(settings.memory),
            "vcpus": chance.choice(settings.vcpus), "up": chance.randrange(100) >= settings.down,
            "tags": list(settings.instance_tags),
        })  # fmt: skip
    return {
        "groups": list(settings.groups),
        "nodes": [
            {"name": node.id.name, "address": str(node.address),
             "secondary": str(node.secondary or ""), "group": group[node.id], "tags": list(settings.node_tags)}
            for node in nodes
        ],
        "instances": made,
        "shared_key": shared_key,
    }  # fmt: skip
