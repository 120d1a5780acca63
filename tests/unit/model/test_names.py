# SPDX-License-Identifier: BSD-2-Clause
"""Derived names, ranges of nodes, and the three places that must agree on the daemons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganeti_vc.base.errors import UsageError
from ganeti_vc.model.daemons import DAEMONS, Runs
from ganeti_vc.model.names import MAX_DEVICE, ClusterId, is_cluster_id, is_host_name
from ganeti_vc.operations import on_node

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["a", "default", "x" * 32, "long-name-of-a-cluster"])
def test_the_bridge_leaves_room_for_ganetis_label(name: str) -> None:
    assert len(ClusterId(name).bridge) <= MAX_DEVICE


def test_long_names_get_different_bridges() -> None:
    assert ClusterId("long-cluster-1").bridge != ClusterId("long-cluster-2").bridge


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "../x", "x" * 33])
def test_names_that_are_none(name: str) -> None:
    assert not is_cluster_id(name)


@pytest.mark.parametrize(
    ("name", "good"), [("node1", True), ("a.b-c.d", True), ("A", False), ("a..b", False), ("", False)]
)
def test_host_names(name: str, good: bool) -> None:
    assert is_host_name(name) is good


def test_ranges() -> None:
    assert on_node.expand("node[2-4].x") == ["node2.x", "node3.x", "node4.x"]
    assert on_node.expand("node1") == ["node1"]
    for wrong in ("node[1-", "node[3-1]", "node[a-b]", "node[1-999999999]", f"node[1-{'9' * 5000}]"):
        with pytest.raises(UsageError):
            on_node.expand(wrong)


def test_table_units_and_hook_agree_on_the_daemons() -> None:
    names = {f"ganeti-{daemon.name}" for daemon in DAEMONS}
    hook = (ROOT / "tools/nodes/daemon-util").read_text()
    stop_order = next(line for line in hook.splitlines() if line.startswith("stop_order="))
    assert set(stop_order.split("'")[1].split()) == names
    assert all((ROOT / f"units/{name}@.service").exists() for name in names)


@pytest.mark.parametrize("unit", sorted((ROOT / "units").glob("*@.service")), ids=lambda path: path.name)
def test_no_unit_gives_up(unit: Path) -> None:
    """systemd's start limit would leave a cluster half up after a few restarts."""
    assert "StartLimitIntervalSec=0" in unit.read_text()


@pytest.mark.parametrize("key", ["Wants", "After"])
def test_the_helper_that_switches_a_node_on_names_all_its_daemons(key: str) -> None:
    lines = (ROOT / "units/ganeti-vnode-on@.target").read_text().splitlines()
    named = re.findall(r"ganeti-([a-z]+)@%i\.service", " ".join(line for line in lines if line.startswith(f"{key}=")))
    assert set(named) == {daemon.name for daemon in DAEMONS if daemon.runs is not Runs.ON_DEMAND}
