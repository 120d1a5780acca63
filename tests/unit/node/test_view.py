# SPDX-License-Identifier: BSD-2-Clause
"""A node's view of the machine: what it is made of. Its mounts need a machine (tests/system)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganeti_vc.node import view

NODES = ["node1", "node2", "node3"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three set-up nodes and their registry, and one directory that is not a node's."""
    registry = tmp_path / "registry"
    registry.mkdir()
    monkeypatch.setattr(view, "REGISTRY_DIR", str(registry))
    directory = tmp_path / "cluster"
    for node in NODES:
        (directory / node / "var/lib/ganeti").mkdir(parents=True)
        (directory / node / "var/run/ganeti").mkdir(parents=True)
        (registry / node).symlink_to(directory / node)
    (directory / "rest").mkdir()
    return directory


def test_ganetis_variables(cluster: Path) -> None:
    rootdir = str(cluster / "node1")
    assert view.environment("node1") == {
        "GANETI_ROOTDIR": rootdir,
        "GANETI_HOSTNAME": "node1",
        "TMPDIR": f"{rootdir}/tmp",
    }


def test_a_node_that_is_not_set_up(cluster: Path) -> None:
    with pytest.raises(FileNotFoundError):
        view.rootdir_of("node4")
    assert view.noded_pid("node4") == 0


@pytest.mark.parametrize("text", ["", "not a pid", "0", "999999999", str(os.getpid())])
def test_a_pid_file_alone_proves_nothing(cluster: Path, text: str) -> None:
    assert view.noded_pid("node1") == 0
    (cluster / "node1/var/run/ganeti/ganeti-noded.pid").write_text(text)
    assert view.noded_pid("node1") == 0


def test_the_other_nodes(cluster: Path) -> None:
    assert sorted(view._others(str(cluster / "node1"))) == [f"{cluster}/node2", f"{cluster}/node3"]


def test_of_many_nodes_only_candidates_count(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cluster / "node1"
    monkeypatch.setattr(view, "MANY_NODES", 2)
    assert len(list(view._others(str(own)))) == 2  # without Ganeti's list: all
    (own / "var/lib/ganeti/ssconf_master_candidates").write_text("node1\nnode3\n")
    assert list(view._others(str(own))) == [f"{cluster}/node3"]


def test_a_link_is_replaced_only_when_it_differs(tmp_path: Path) -> None:
    link = tmp_path / "link"
    view._link("a", str(link))
    inode = link.lstat().st_ino
    view._link("a", str(link))
    assert (os.readlink(link), link.lstat().st_ino) == ("a", inode)
    view._link("b", str(link))
    assert os.readlink(link) == "b"


def test_settings_of_packages_show_through(tmp_path: Path) -> None:
    machine, own = tmp_path / "machine", tmp_path / "own"
    for path in (machine / "instance-debootstrap", machine / "hooks", machine / "scripts", own / "instance-mine"):
        path.mkdir(parents=True)
    (machine / "instance-mine").touch()
    for _ in range(2):
        view._link_settings(str(machine), str(own))
        assert sorted(os.listdir(own)) == ["instance-debootstrap", "instance-mine"]
    assert os.readlink(own / "instance-debootstrap") == f"{view.MACHINE_ETC}/instance-debootstrap"
    assert (own / "instance-mine").is_dir(), "the node's own counts"
    (machine / "instance-debootstrap").rmdir()
    view._link_settings(str(machine), str(own))
    assert os.listdir(own) == ["instance-mine"]
