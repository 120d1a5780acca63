# SPDX-License-Identifier: BSD-2-Clause
"""What Ganeti's files say: the master, and the daemons that ought to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ganeti_vc.machine import ganeti_files
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
    finished: set[str] = set()
    assert ganeti_files.unfinished_job(node, finished) == "2"
    assert finished == {"job-1"}
