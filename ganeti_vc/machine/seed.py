# SPDX-License-Identifier: BSD-2-Clause
"""Large clusters in seconds: nodes and instances are written into the stopped cluster's configuration (tools/seeding/seed).

What to write follows from the cluster's configuration file alone: the same file gives the same cluster again.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from ganeti_vc.base import constants
from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import BASE_ENVIRONMENT
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.names import NodeId


def groups(config: ClusterConfig) -> dict[NodeId, str]:
    """The node group of each node: they take turns."""
    return {node.id: name for node, name in zip(config.nodes, itertools.cycle(config.seeding.groups))}


def document(
    config: ClusterConfig, nodes: Sequence[NodeConfig], instances: Iterable[str], shared_key: bool
) -> dict[str, Any]:
    """What tools/seeding/seed is told. The nodes take turns for the instances, unless these are spread at random."""
    settings, group = config.seeding, groups(config)
    turn = {name: at for at, (name, _) in enumerate(config.instances)}
    placed = []
    for name in instances:
        # By its name, so that it has the same shape however many are placed with it.
        chance = random.Random(f"{settings.random_seed}/{name}")
        at = chance.randrange(len(config.nodes)) if settings.spread == "random" else turn[name] % len(config.nodes)
        placed.append(
            {
                "name": name,
                "node": config.nodes[at].id.name,
                "os": "noop",
                "memory": chance.choice(settings.memory),
                "vcpus": chance.choice(settings.vcpus),
                "up": chance.randrange(100) >= settings.down,
                "tags": list(settings.instance_tags),
            }
        )
    return {
        "groups": list(settings.groups),
        "nodes": [
            {"name": node.id.name, "address": str(node.address),
             "secondary": str(node.secondary or ""), "group": group[node.id], "tags": list(settings.node_tags)}
            for node in nodes
        ],
        "instances": placed,
        "shared_key": shared_key,
    }  # fmt: skip


def seed(master: NodeId, what: dict[str, Any]) -> None:
    """Write it. The master's daemons must be stopped. Raises StepFailed; then nothing is changed."""
    # With the node's variables, but not in its view: that hides the other nodes' files.
    environment = {"GANETI_ROOTDIR": str(master.rootdir), "GANETI_HOSTNAME": master.name,
                   "PYTHONPATH": constants.GANETI_PYTHON}  # fmt: skip
    # And not longer than this command: the next one would find it at work.
    done = subprocess.run(["setpriv", "--pdeathsig", "KILL", "/usr/bin/python3", f"{names.LIB_DIR}/seed"], input=json.dumps(what), capture_output=True,
                          text=True, env={**BASE_ENVIRONMENT, **environment})  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise StepFailed(f"the configuration could not be written: {last[0]}", "the cluster is as it was")
