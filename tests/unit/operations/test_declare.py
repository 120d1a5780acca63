# SPDX-License-Identifier: BSD-2-Clause
"""What a new cluster gets that is not asked for, and what keeps it from being made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from ganeti_vc.base.errors import ConfigError
from ganeti_vc.machine import ganeti_files
from ganeti_vc.machine.ganeti_files import Initialised
from ganeti_vc.model import names
from ganeti_vc.model.addresses import DEFAULT_NETWORKS
from ganeti_vc.model.names import ClusterId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.operations import declare
from ganeti_vc.reconcile import observe
from ganeti_vc.reconcile.state import MachineState
from tests.unit.reconcile.test_plan import CONFIG, NOTHING, after

LAB = ClusterId("lab")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration files of a machine on which there is nothing else."""
    monkeypatch.setattr(names, "CONFIG_DIR", tmp_path)
    see(monkeypatch, NOTHING)
    return tmp_path


def see(monkeypatch: pytest.MonkeyPatch, observed: MachineState) -> None:
    monkeypatch.setattr(observe, "observe", lambda configs: observed)


def test_the_first_network_that_is_free(directory: Path) -> None:
    assert str(declare.new_config(LAB, UpOptions())[0].network) == "192.0.2.0/24"
    (directory / "default.conf").write_text("[cluster]\n")
    assert str(declare.new_config(LAB, UpOptions())[0].network) == "198.51.100.0/24"
    assert str(declare.new_config(LAB, UpOptions(nodes=300))[0].network) == "198.18.0.0/15"
    with pytest.raises(ConfigError, match=r"overlaps with .*--network"):
        declare.new_config(LAB, UpOptions(network="192.0.2.0/25"))


def test_when_none_is_free_it_says_which_were_tried(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = frozenset(("eth0", ip_address(str(net[5]))) for net in DEFAULT_NETWORKS)
    see(monkeypatch, replace(NOTHING, network=replace(NOTHING.network, addresses=addresses)))
    with pytest.raises(ConfigError, match=r"lab: no network is free .*192.0.2.0/24, .*198.18.0.0/15 .*--network CIDR"):
        declare.new_config(LAB, UpOptions())
    with pytest.raises(ConfigError, match=r"by default: 198.18.0.0/15 \(give another one \(--network CIDR"):
        declare.new_config(LAB, UpOptions(nodes=300))
    assert str(declare.new_config(LAB, UpOptions(network="10.1.0.0/24"))[0].network) == "10.1.0.0/24"


def test_a_broken_file_of_another_cluster_is_only_said(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    (directory / "broken.conf").write_text("[cluster]\nnodes = many\n")
    (directory / "default.conf").write_text("[cluster]\n")
    assert str(declare.new_config(LAB, UpOptions())[0].network) == "198.51.100.0/24"
    (line,) = caplog.messages
    assert "left out" in line and "broken.conf, line 2" in line and "many" in line


def test_but_its_addresses_are_known_to_ganeti(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "default.conf").write_text("nonsense\n")
    monkeypatch.setattr(ganeti_files, "initialised", lambda cluster: Initialised({"node1": "192.0.2.10"}, 1822))
    assert str(declare.new_config(LAB, UpOptions())[0].network) == "198.51.100.0/24"
    with pytest.raises(ConfigError, match="192.0.2.10 of node1 of the cluster default .*--network"):
        declare.new_config(LAB, UpOptions(network="192.0.2.0/25"))


def test_and_its_nodes_to_systemd(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "default.conf").write_text("nonsense\n")
    see(monkeypatch, after(CONFIG, NOTHING))
    assert str(declare.new_config(LAB, UpOptions())[0].network) == "198.51.100.0/24"
    with pytest.raises(ConfigError, match="node1 belongs to a node of the cluster default .*--domain"):
        declare.new_config(LAB, UpOptions(domain=""))


def test_a_name_with_network_in_it_does_not_hide_what_is_wrong(directory: Path) -> None:
    (directory / "default.conf").write_text("[cluster]\n")
    with pytest.raises(ConfigError, match=r"new cluster network-lab: .*the name \S+ belongs to the cluster default"):
        declare.new_config(ClusterId("network-lab"), UpOptions(domain=""))
