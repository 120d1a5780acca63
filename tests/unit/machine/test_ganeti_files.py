# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti's files say: the master, and the daemons that ought to run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ganeti_vc.machine import ganeti_files
from ganeti_vc.machine.ganeti_files import Initialised
from ganeti_vc.model import names
from ganeti_vc.model.daemons import DAEMONS, Runs
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import launch


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeId:
    monkeypatch.setattr(names, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(names, "MOND_DIR", tmp_path / "mond")
    (tmp_path / "mond").mkdir()
    node = ClusterId("lab").node("node1")
    node.data_dir.mkdir(parents=True)
    return node


def daemons(node: NodeId, master: NodeId | None = None) -> set[str]:
    units = ganeti_files.expected_units(node, master)
    return {unit.removeprefix("ganeti-").removesuffix("@node1.service") for unit in units}


def test_nothing_runs_on_a_node_that_has_not_joined(node: NodeId) -> None:
    assert daemons(node) == set()


def test_what_runs_follows_from_the_role(node: NodeId) -> None:
    (node.data_dir / "server.pem").touch()
    assert daemons(node) == {"noded"}
    node.mond_link.symlink_to("/")
    assert daemons(node) == {"noded", "mond"}
    node.mond_link.unlink()
    (node.data_dir / "config.data").touch()
    assert daemons(node) == {"noded", "mond", "confd"}
    assert daemons(node, node) == {"noded", "mond", "confd", "wconfd", "luxid", "rapi"}


@pytest.mark.parametrize(
    ("text", "version"),
    [('{"cluster":{},"version":3010000}', "3.1"), ('{"version": 2160000,', "2.16"), ("not json", None), ("", None)],
)
def test_the_version_of_a_configuration(node: NodeId, text: str, version: str | None) -> None:
    assert ganeti_files.config_version(node) is None
    (node.data_dir / "config.data").write_text(text)
    assert ganeti_files.config_version(node) == version


def test_the_launcher_knows_the_daemons_of_the_master() -> None:
    assert set(launch.MASTER_DAEMONS) == {f"ganeti-{daemon.name}" for daemon in DAEMONS if daemon.runs is Runs.MASTER}


@pytest.mark.parametrize(
    ("status", "ended"), [("success", True), ("error", True), ("canceled", True), ("running", False), ("queued", False)]
)
def test_whether_a_job_has_ended(status: str, ended: bool) -> None:
    assert ganeti_files.is_finished(json.dumps({"ops": [{"status": "success"}, {"status": status}]})) is ended


def test_a_job_that_has_ended_is_read_once(node: NodeId) -> None:
    queue = node.data_dir / "queue"
    queue.mkdir()
    (queue / "job-1").write_text('{"ops": [{"status": "success"}]}')
    (queue / "job-2").write_text('{"ops": [{"status": "running"}]}')
    (queue / "job-1dklc7r.new").write_text('{"ops": [{"status": "running"}]}')
    finished: set[str] = set()
    assert ganeti_files.unfinished_job(node, finished) == "2"
    assert finished == {"job-1"}


def claim(node: NodeId, master: str, serial: object) -> NodeId:
    """A node whose files name a master, and whose configuration has that serial number."""
    node.data_dir.mkdir(parents=True, exist_ok=True)
    (node.data_dir / "ssconf_master_node").write_text(f"{master}\n")
    if serial is not None:
        (node.data_dir / "config.data").write_text(json.dumps({"serial_no": serial, "cluster": {}}))
    return node


@pytest.mark.parametrize(
    ("claims", "master"),
    [
        ([("node1", 5), ("node1", 5), ("node1", None)], "node1"),
        ([("node1", 5), ("node2", 7), ("node2", None)], "node2"),  # node1 was off during the failover
        ([("node1", 5), ("node2", 7), ("node1", None)], "node2"),  # and node3, too
        ([("node1", 9), ("node2", 7), ("node2", None)], "node1"),
        ([("node1", 5), ("node2", 5), ("node2", None)], "node2"),
        ([("node1", "x"), ("node2", 1)], "node2"),
        ([("node2", 5), ("node1", 5)], None),
        ([("node1", None)], None),  # gnt-cluster init has not ended
    ],
)
def test_the_newest_configuration_decides(node: NodeId, claims: list[tuple[str, object]], master: str | None) -> None:
    nodes = [
        claim(node.cluster.node(f"node{number}"), named, serial) for number, (named, serial) in enumerate(claims, 1)
    ]
    future = time.time() + 3600
    for number, other in enumerate(nodes):  # the time of a file says nothing
        os.utime(other.data_dir / "ssconf_master_node", (future - number, future - number))
    found = ganeti_files.master_of(nodes)
    assert (found.name if found else None) == master


@pytest.mark.parametrize("text", ["[]", "{}", '{"cluster": {}}', '{"cluster": []}', "not json", "", "[" * 100000])
def test_a_damaged_configuration_is_not_fatal(node: NodeId, text: str) -> None:
    claim(node, "node1", None)
    (node.data_dir / "config.data").write_text(text)
    (node.data_dir / "ssconf_node_primary_ips").write_text("node1 192.0.2.10\nodd\n")
    assert ganeti_files.initialised(node.cluster) == Initialised({"node1": "192.0.2.10"}, None)


def test_what_is_no_file_is_not_read(node: NodeId, tmp_path: Path) -> None:
    path = node.data_dir / "ssconf_master_node"
    os.mkfifo(path)
    assert ganeti_files.ssconf(node, "master_node") is None
    path.unlink()
    (tmp_path / "secret").write_text("node1")
    path.symlink_to(tmp_path / "secret")
    assert ganeti_files.ssconf(node, "master_node") is None
    path.unlink()
    path.mkdir()
    assert ganeti_files.ssconf(node, "master_node") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"ops": [1]}'])
def test_a_damaged_job_is_none_that_runs(text: str) -> None:
    assert ganeti_files.is_finished(text)
