# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti must be asked to do, from any state of a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.model import config, keys
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.reconcile import ganeti_plan
from ganeti_vc.reconcile.ganeti_plan import GanetiState
from ganeti_vc.reconcile.ganeti_steps import (
    ActivateMasterIp,
    AddInstance,
    AddNode,
    ClearInit,
    InitCluster,
    RemoveNode,
    SeedCluster,
    StartNodes,
    VerifyCluster,
)

LAB = ClusterId("default")


def cluster(nodes: int) -> ClusterConfig:
    return config.parse(LAB, keys.render({"nodes": str(nodes)}))


def complete(nodes: int, **more: object) -> GanetiState:
    """A cluster that runs, with nothing missing."""
    names = frozenset(node.id.name for node in cluster(nodes).nodes)
    state = GanetiState(LAB.node("node1"), names, names, running=True, has_address=True)
    return replace(state, **more)  # type: ignore[arg-type]


THREE, TEN = cluster(3), cluster(10)
NODES = tuple(node.id for node in THREE.nodes)


def test_from_nothing_each_node_is_added_and_the_whole_verified() -> None:
    steps = ganeti_plan.whole(THREE, UpOptions(instances=1), GanetiState(stopped=NODES))
    start, init, *others = steps
    assert start == StartNodes(NODES) and init == InitCluster(THREE)
    assert [str(step) for step in others] == [
        "gnt-node add node2", "gnt-node add node3", "gnt-instance add instance1", "gnt-cluster verify"]  # fmt: skip
    assert str(init).startswith("on node1: gnt-cluster init --no-etc-hosts")


def test_many_nodes_are_written_before_the_start() -> None:
    init, seed, start, verify = ganeti_plan.whole(TEN, UpOptions(), GanetiState(stopped=(NODES[0],)))
    assert init == InitCluster(TEN, brief=True)
    assert isinstance(seed, SeedCluster) and seed.fresh and seed.nodes == TEN.nodes[1:]
    assert str(seed) == "write 9 nodes and 0 instances into Ganeti's configuration"
    assert isinstance(start, StartNodes) and isinstance(verify, VerifyCluster)


def test_the_user_may_say_how_nodes_join() -> None:
    by_ganeti = ganeti_plan.whole(TEN, UpOptions(join="ganeti"), GanetiState())
    assert sum(isinstance(step, AddNode) for step in by_ganeti) == 9
    seeded = ganeti_plan.before_start(THREE, UpOptions(join="seeding"), complete(2))
    assert [step.title for step in seeded] == ["writing 1 node and 0 instances"]


def test_nothing_is_done_to_what_is_complete() -> None:
    assert ganeti_plan.whole(THREE, UpOptions(), complete(3)) == []
    assert ganeti_plan.whole(THREE, UpOptions(), complete(3), changed=True) == [VerifyCluster()]
    assert ganeti_plan.whole(THREE, UpOptions(verify=False), complete(3), changed=True) == []


def test_a_node_that_was_half_added_is_added_again() -> None:
    half = complete(3, complete=frozenset({"node1", "node2"}))
    assert ganeti_plan.after_start(THREE, UpOptions(), half) == [AddNode(NODES[0], THREE.nodes[2], readd=True)]


def test_only_instances_that_are_missing_are_added() -> None:
    present = complete(3, instances=frozenset({"instance1"}))
    assert ganeti_plan.after_start(THREE, UpOptions(instances=2), present) == [AddInstance(NODES[0], "instance2")]


def test_the_address_is_missed_only_where_the_master_runs() -> None:
    assert ganeti_plan.after_start(THREE, UpOptions(), complete(3, has_address=False)) == [ActivateMasterIp(NODES[0])]
    stopped = complete(3, has_address=False, running=False, stopped=NODES)
    assert ganeti_plan.whole(THREE, UpOptions(), stopped) == [StartNodes(NODES), VerifyCluster()]


def test_what_an_interrupted_init_left_is_cleared_first() -> None:
    half = GanetiState(NODES[0], frozenset({"node1"}), frozenset({"node1"}), half_initialised=True)
    clear, init, *_ = ganeti_plan.whole(THREE, UpOptions(), half)
    assert clear == ClearInit(THREE) and init == InitCluster(THREE)


def test_surplus_nodes_leave_from_the_last_one_on() -> None:
    steps = ganeti_plan.leaving(TEN, cluster(8), complete(10))
    assert [str(step) for step in steps] == ["gnt-node remove node10", "gnt-node remove node9"]
    assert ganeti_plan.expected(complete(10), steps).nodes == complete(8).nodes
    assert ganeti_plan.leaving(TEN, cluster(8), complete(9)) == [RemoveNode(NODES[0], LAB.node("node9"))]
    assert ganeti_plan.leaving(TEN, cluster(8), GanetiState()) == []


def test_the_master_does_not_leave() -> None:
    with pytest.raises(VclusterError, match="node3 is the master .*master-failover"):
        ganeti_plan.leaving(THREE, cluster(2), complete(3, master=LAB.node("node3")))
