# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti must be asked to do: a configuration and what Ganeti knows in, steps out. Pure, nothing is touched here.

The plan has two halves. `before_start` writes into the configuration of a stopped master. `after_start` uses Ganeti's
commands, which need running daemons. `up` starts the nodes between the two, and then asks the master for its state.
`--dry-run` starts nothing: it takes the state that the first half would lead to (`expected`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import seed
from ganeti_vc.model.config import ClusterConfig, NodeConfig
from ganeti_vc.model.names import NodeId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.reconcile.ganeti_steps import (
    ActivateMasterIp,
    AddInstance,
    AddNode,
    ClearInit,
    GanetiStep,
    InitCluster,
    RemoveNode,
    SeedCluster,
    StartNodes,
    VerifyCluster,
)

#: `up` verifies clusters of at most so many nodes: each master candidate logs in to each node, which takes long.
VERIFY_UP_TO = 40


@dataclass(frozen=True)
class GanetiState:
    """What Ganeti knows of a cluster, and what of it runs (ganeti_apply.observe)."""

    master: NodeId | None = None  #: None: the cluster is not initialised
    nodes: frozenset[str] = frozenset()  #: names of the nodes Ganeti knows
    complete: frozenset[str] = frozenset()  #: those that have the cluster's certificate
    instances: frozenset[str] = frozenset()
    half_initialised: bool = False  #: a `gnt-cluster init` of ours was interrupted
    stopped: tuple[NodeId, ...] = ()  #: nodes of which a unit is missing; only for the dry run
    running: bool = False  #: the master's luxid runs
    has_address: bool = False  #: the machine has the cluster's address


def _unknown(
    config: ClusterConfig, options: UpOptions, state: GanetiState
) -> tuple[tuple[NodeConfig, ...], tuple[str, ...]]:
    """Return the configured nodes, and the names of the wanted instances, that Ganeti does not know yet."""
    first = state.master or config.nodes[0].id  # gnt-cluster init itself adds the first node
    nodes = tuple(node for node in config.nodes if node.id.name not in state.nodes and node.id != first)
    wanted = (name for name, _ in config.instances[: options.instances or 0])
    return nodes, tuple(name for name in wanted if name not in state.instances)


def clearing(config: ClusterConfig, state: GanetiState) -> list[GanetiStep]:
    """Plan what comes before anything else is done to the cluster."""
    return [ClearInit(config)] if state.half_initialised else []


def before_start(config: ClusterConfig, options: UpOptions, state: GanetiState) -> list[GanetiStep]:
    """Plan what is done while the cluster is stopped."""
    steps: list[GanetiStep] = []
    nodes, instances = _unknown(config, options, state)
    if options.seeds(nodes, instances):
        if state.master is None:
            steps.append(InitCluster(config, brief=True))
        master = state.master or config.nodes[0].id
        fresh = state.master is None
        steps.append(SeedCluster(config, master, nodes, instances, options.shared_key, fresh))
    return steps


def after_start(config: ClusterConfig, options: UpOptions, state: GanetiState) -> list[GanetiStep]:
    """Plan what is done by the commands of a running cluster."""
    steps: list[GanetiStep] = []
    if state.master is None:
        steps.append(InitCluster(config))
        state = expected(state, steps)
    elif state.running and not state.has_address:
        steps.append(ActivateMasterIp(state.master))
    assert state.master
    groups, several = seed.groups(config), len(config.seeding.groups) > 1
    for node in config.nodes:
        known = node.id.name in state.nodes
        if not known or node.id.name not in state.complete:
            steps.append(AddNode(state.master, node, known, groups[node.id] if several else None))
    _, instances = _unknown(config, options, state)
    return [*steps, *(AddInstance(state.master, name) for name in instances)]


def whole(config: ClusterConfig, options: UpOptions, state: GanetiState, changed: bool = False) -> list[GanetiStep]:
    """Plan all of it, as far as it can be told before the nodes have started. `changed`: other steps come before."""
    steps = clearing(config, state)
    steps += before_start(config, options, expected(state, steps))
    if state.stopped:
        steps.append(StartNodes(state.stopped))
    steps += after_start(config, options, expected(state, steps))
    if (steps or changed) and options.verify and len(config.nodes) <= VERIFY_UP_TO:
        steps.append(VerifyCluster())
    return steps


def leaving(config: ClusterConfig, smaller: ClusterConfig, state: GanetiState) -> list[GanetiStep]:
    """Plan the removal of the nodes that the smaller configuration lacks, the last one first.

    Raises VclusterError when the master is among them.
    """
    stay = {node.id for node in smaller.nodes}
    surplus = [node.id for node in reversed(config.nodes) if node.id not in stay]
    if state.master is None:
        return []
    if state.master in surplus:
        raise VclusterError(
            f"{state.master.name} is the master and cannot be removed",
            f"first: gnt-vcluster exec {config.nodes[0].id.name} -- gnt-cluster master-failover",
        )
    return [RemoveNode(state.master, node) for node in surplus if node.name in state.nodes]


def expected(state: GanetiState, steps: Iterable[GanetiStep]) -> GanetiState:
    """Return what will be there when these steps are done."""
    for step in steps:
        match step:
            case ClearInit():
                state = GanetiState(stopped=state.stopped)
            case InitCluster(config):
                first = config.nodes[0].id
                state = replace(
                    state,
                    master=first,
                    nodes=frozenset({first.name}),
                    complete=frozenset({first.name}),
                    instances=frozenset(),
                )
            case SeedCluster(_, _, nodes, instances):
                names = frozenset(node.id.name for node in nodes)
                state = replace(
                    state,
                    nodes=state.nodes | names,
                    complete=state.complete | names,
                    instances=state.instances | set(instances),
                )
            case RemoveNode(_, node):
                state = replace(state, nodes=state.nodes - {node.name})
    return state
