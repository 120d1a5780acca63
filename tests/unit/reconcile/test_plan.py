# SPDX-License-Identifier: BSD-2-Clause
"""Planning: from what is declared and what is there to steps, nothing is touched."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ganeti_vc.base.errors import ConfigError, VclusterError
from ganeti_vc.machine import hosts, network, node_directory, ssh
from ganeti_vc.machine.ganeti_files import Initialised
from ganeti_vc.machine.node_disk import Disk
from ganeti_vc.model import config, names
from ganeti_vc.model.names import ClusterId
from ganeti_vc.reconcile import plan, refusals
from ganeti_vc.reconcile.state import Ledger, MachineState
from ganeti_vc.reconcile.steps import (
    AttachVolumes,
    ChangeAddresses,
    DetachVolumes,
    Link,
    MakeBridge,
    Remove,
    RemoveBridge,
    RemoveEmpty,
    SetDisk,
    SetFilter,
    SetHosts,
    StopUnits,
    Unmount,
    WriteLedger,
)

DEFAULT = ClusterId("default")
CONFIG = config.parse(DEFAULT, "")
NOTHING = MachineState(
    network=network.NetworkState(frozenset({"lo"}), frozenset(), frozenset(), frozenset()),
    hosts="127.0.0.1 localhost\n", ledgers={}, files={}, links={}, directories=frozenset(), keys=frozenset(),
)  # fmt: skip


def after(made: config.ClusterConfig, before: MachineState) -> MachineState:
    """What is there once a cluster's plan is carried out."""
    return replace(
        before,
        network=network.NetworkState(
            before.network.links | {made.device},
            before.network.addresses | {(made.device, address) for address in made.addresses},
            before.network.unreachable | set(made.networks),
            before.network.routes,
        ),
        hosts=hosts.with_block(before.hosts, made.id, made.hosts),
        ledgers={**before.ledgers, made.id: Ledger.of(made)},
        files={**before.files, **plan.lasting_files(made), **plan.runtime_files(made, before)},
        links={**before.links, **plan.unit_links(made), **plan.runtime_links(made), **node_directory.links(made)},
        directories=before.directories | set(node_directory.directories(made)),
        keys=before.keys | {made.id},
        filters=frozenset() if made.reachable else frozenset({made.id.filter_table}),
    )


def test_what_is_there_needs_no_step() -> None:
    assert plan.reconcile({DEFAULT: CONFIG}, after(CONFIG, NOTHING)) == []


def test_a_target_that_was_disabled_stays_disabled() -> None:
    there = after(CONFIG, NOTHING)
    disabled = replace(there, links={path: to for path, to in there.links.items() if path != plan.BOOT_LINK})
    assert plan.reconcile({DEFAULT: CONFIG}, disabled) == []
    lab = config.parse(ClusterId("lab"), "[cluster]\ndomain = lab\nnetwork = 10.0.0.0/24\n")
    assert plan.BOOT_LINK not in [step.path for step in plan.lasting(lab, disabled) if isinstance(step, Link)]
    assert plan.BOOT_LINK in [step.path for step in plan.lasting(CONFIG, NOTHING) if isinstance(step, Link)]


def test_a_masked_unit_is_refused() -> None:
    for unit in (names.ALL_TARGET, DEFAULT.target, CONFIG.nodes[1].id.target):
        with pytest.raises(ConfigError, match=f"{unit} is masked .systemctl unmask {unit}."):
            refusals.check_host(CONFIG, replace(NOTHING, masked=frozenset({unit})))
    refusals.check_host(CONFIG, replace(NOTHING, masked=frozenset({"ganeti-vnode@other.target"})))


def test_the_ledger_comes_before_the_network() -> None:
    kinds = [type(step) for step in plan.runtime(CONFIG, NOTHING)]
    assert kinds.index(WriteLedger) < kinds.index(MakeBridge) < kinds.index(ChangeAddresses)


def test_packets_from_outside_are_dropped_before_there_is_an_address() -> None:
    steps = plan.runtime(CONFIG, NOTHING)
    kept_out = SetFilter(DEFAULT, "gnt-default", CONFIG.networks)
    assert [step for step in steps if isinstance(step, (SetFilter, ChangeAddresses))][0] == kept_out
    up = after(CONFIG, NOTHING)
    assert plan.runtime(CONFIG, replace(up, filters=frozenset())) == [kept_out], "somebody has flushed the rules"
    elsewhere = config.parse(DEFAULT, "[cluster]\nnetwork = 198.51.100.0/24\n")
    (again,) = [step for step in plan.runtime(elsewhere, up) if isinstance(step, SetFilter)]
    assert again.networks == elsewhere.networks, "the table is for another network"


def test_others_reach_a_cluster_whose_owner_wants_it() -> None:
    opened = config.parse(DEFAULT, "[cluster]\nreachable = yes\n")
    assert not any(isinstance(step, SetFilter) for step in plan.runtime(opened, NOTHING))
    assert plan.runtime(opened, replace(NOTHING, filters=None)) == plan.runtime(opened, NOTHING)
    closed = after(CONFIG, NOTHING)
    assert plan.runtime(opened, closed) == [SetFilter(DEFAULT, "gnt-default", ())]
    assert SetFilter(DEFAULT, "", ()) in plan.runtime_gone(DEFAULT, closed)
    with pytest.raises(ConfigError, match=r"reachable: this machine cannot keep packets .*set reachable = yes"):
        plan.runtime(CONFIG, replace(NOTHING, filters=None))


def test_more_nodes_add_only_what_is_new() -> None:
    five = config.parse(DEFAULT, "[cluster]\nnodes = 5\n")
    steps = plan.reconcile({DEFAULT: five}, after(CONFIG, NOTHING))
    (change,) = [step for step in steps if isinstance(step, ChangeAddresses)]
    assert [str(address) for address in change.add] == ["192.0.2.13", "192.0.2.14"] and not change.remove
    assert not any(isinstance(step, (MakeBridge, Remove)) for step in steps)


def test_fewer_nodes_are_stopped_before_their_addresses_go() -> None:
    two = config.parse(DEFAULT, "[cluster]\nnodes = 2\n")
    steps = plan.reconcile({DEFAULT: two}, after(CONFIG, NOTHING))
    stop = next(n for n, step in enumerate(steps) if isinstance(step, StopUnits))
    change = next(n for n, step in enumerate(steps) if isinstance(step, ChangeAddresses))
    assert stop < change and steps[stop].units == ("ganeti-vnode@node3.target",)  # type: ignore[union-attr]
    assert CONFIG.nodes[2].id.rootdir not in [step.path for step in steps if isinstance(step, Remove)]


def test_what_is_no_longer_declared_is_taken_away_completely() -> None:
    there = after(CONFIG, NOTHING)
    steps = plan.undeclared([], there)[DEFAULT]
    removed = {step.path for step in steps if isinstance(step, Remove)}
    left = [path for path in there.links
            if path not in removed and not (removed | {DEFAULT.directory}) & set(path.parents)]  # fmt: skip
    assert left == []
    assert any(isinstance(step, RemoveBridge) for step in steps)
    assert SetHosts(DEFAULT, ()) in steps


def test_a_cluster_whose_file_is_broken_is_left_alone() -> None:
    assert plan.undeclared([DEFAULT], after(CONFIG, NOTHING)) == {}


def test_stop_keeps_links_and_directories() -> None:
    steps = plan.runtime_gone(DEFAULT, after(CONFIG, NOTHING))
    removed = [step.path for step in steps if isinstance(step, Remove)]
    assert not [path for path in removed if names.LINK_DIR in path.parents or names.STATE_DIR in path.parents]


def test_a_cluster_to_be_replaced_is_stopped_and_unmounted() -> None:
    node1 = CONFIG.nodes[0].id
    there = replace(after(CONFIG, NOTHING), disks={node1: Disk(1024, True), ClusterId("lab").node("x"): Disk(64, True)})
    stop, unmount = plan.stopped(DEFAULT, there)
    assert isinstance(stop, StopUnits) and unmount == Unmount(node1)
    assert set(stop.units) == {DEFAULT.target, *(node.id.target for node in CONFIG.nodes)}
    assert {node.id.slice for node in CONFIG.nodes} <= set(stop.patterns)


@pytest.mark.parametrize(
    ("observed", "word"),
    [
        ({"addresses": frozenset({("eth0", ip_address("192.0.2.200"))})}, "192.0.2.200"),
        ({"routes": frozenset({(ip_network("192.0.2.0/24"), "tun0")})}, "routes 192.0.2.0/24"),
        ({"routes": frozenset({(ip_network("192.0.2.64/28"), "tun0")})}, "routes 192.0.2.64/28"),
        (
            {
                "routes": frozenset({(ip_network("192.0.0.0/16"), "eth0")}),
                "connected": frozenset({ip_network("192.0.0.0/16")}),
            },
            "routes 192.0.0.0/16",
        ),
        ({"gateways": frozenset({ip_address("192.0.2.254")})}, "192.0.2.254, a gateway"),
        ({"peers": frozenset({ip_address("192.0.2.7")})}, "192.0.2.7, from where"),
        ({"unreachable": frozenset({ip_network("192.0.2.0/24")})}, "not ours"),
        ({"links": frozenset({"lo", "gnt-default"})}, "gnt-default"),
    ],
)
def test_what_the_machine_uses_is_refused(observed: dict[str, object], word: str) -> None:
    there = replace(NOTHING, network=replace(NOTHING.network, **observed))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=word):
        refusals.check_host(CONFIG, there)


def test_a_network_with_a_nameserver_is_refused() -> None:
    with pytest.raises(ConfigError, match="192.0.2.53, a nameserver in /etc/resolv.conf"):
        refusals.check_host(CONFIG, replace(NOTHING, nameservers=frozenset({ip_address("192.0.2.53")})))


def test_wider_routes_of_a_vpn_do_no_harm() -> None:
    wider = ("0.0.0.0/1", "128.0.0.0/1", "192.0.0.0/8", "2000::/3")
    routes = frozenset((ip_network(text), "tun0") for text in wider)
    refusals.check_host(CONFIG, replace(NOTHING, network=replace(NOTHING.network, routes=routes)))


@pytest.mark.parametrize(
    ("network", "count"),
    [("192.0.2.0/24", 0), ("203.0.113.0/24", 0), ("198.18.0.0/15", 0), ("10.0.0.0/8", 0), ("100.64.0.0/16", 0),
     ("fd00::/64", 0), ("8.8.8.0/24", 1), ("2600::/64", 1)],
)  # fmt: skip
def test_networks_of_others_are_doubtful(network: str, count: int) -> None:
    assert len(list(refusals.doubts(config.parse(DEFAULT, f"[cluster]\nnetwork = {network}\n")))) == count


@pytest.mark.parametrize(
    "line", ["10.20.30.41 NODE2", "10.20.30.41 other node2.", "192.0.2.11 node2\n10.20.30.41 Node2"]
)
def test_names_in_etc_hosts_are_compared_as_the_resolver_does(line: str) -> None:
    with pytest.raises(ConfigError, match=r"node2 stands in /etc/hosts, line \d, already, with 10.20.30.41"):
        refusals.check_host(CONFIG, replace(NOTHING, hosts=f"127.0.0.1 localhost\n{line}\n"))


def test_directories_that_sshd_does_not_trust_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "lib" / "state"
    state.mkdir(parents=True)
    monkeypatch.setattr(names, "STATE_DIR", state)
    state.parent.chmod(0o775)
    found = dict(ssh.insecure_directories())
    assert found[state.parent] == f"{'chown root' if os.getuid() else 'chmod go-w'} {state.parent}"
    assert os.getuid() or state not in found
    with pytest.raises(ConfigError, match="may write to /var, .*chmod go-w /var"):
        refusals.check_host(CONFIG, replace(NOTHING, insecure=((Path("/var"), "chmod go-w /var"),)))


def test_a_name_in_etc_hosts_is_refused() -> None:
    with pytest.raises(ConfigError, match="node2"):
        refusals.check_host(CONFIG, replace(NOTHING, hosts="10.0.0.1 node2\n"))


def test_a_ledger_survives_being_written() -> None:
    ledger = Ledger.of(CONFIG)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_links_point_to_units_that_are_shipped() -> None:
    shipped = {path.name for path in (Path(__file__).parents[3] / "units").iterdir()}
    assert {Path(target).name for target in plan.unit_links(CONFIG).values()} <= shipped


RECORDED = Initialised({f"node{n}": f"192.0.2.{9 + n}" for n in (1, 2, 3)}, 1822, "gnt-default")


@pytest.mark.parametrize(
    ("text", "key"),
    [("", ""), ("nodes = 4", ""), ("nodes = 2", "nodes"), ("network = 10.77.0.0/24", "network"),
     ("domain = other.example", "domain"), ("ssh_port = 1900", "ssh_port"), ("device = lo", "device")],
)  # fmt: skip
def test_what_ganeti_has_recorded_stays(text: str, key: str) -> None:
    changed = config.parse(DEFAULT, f"[cluster]\n{text}\n")
    observed = replace(NOTHING, initialised={DEFAULT: RECORDED})
    if key:
        with pytest.raises(ConfigError, match=rf"\[cluster\] {key}: "):
            refusals.check_host(changed, observed)
    else:
        refusals.check_host(changed, observed)


STORAGE = "[nodes]\ndisk = 1G\n[[node2]]\nvolume_group = 32G\n"


def test_storage_is_made_once_and_grows() -> None:
    made = config.parse(DEFAULT, STORAGE)
    node1, node2, node3 = (node.id for node in made.nodes)
    steps = plan.hardware(made, NOTHING)
    assert [step for step in steps if isinstance(step, AttachVolumes)] == [AttachVolumes(node2, "xenvg", 32768)]
    assert [step.node for step in steps if isinstance(step, SetDisk)] == [node1, node2, node3]
    there = replace(
        NOTHING, disks={node.id: Disk(1024, True) for node in made.nodes}, volumes={node2: Disk(32768, True)}
    )
    assert plan.hardware(made, there) == []
    assert plan.hardware(made, replace(there, volumes={node2: Disk(1024, True)})) == [
        AttachVolumes(node2, "xenvg", 32768)
    ]
    assert plan.hardware(made, replace(there, disks={**there.disks, node1: Disk(1024, False)})) == [
        SetDisk(node1, 1024)
    ]
    gone = plan.runtime_gone(DEFAULT, there)
    assert gone[:4] == [Unmount(node1), Unmount(node2), DetachVolumes(node2), Unmount(node3)]


def test_storage_with_data_does_not_become_smaller() -> None:
    made = config.parse(DEFAULT, STORAGE)
    there = {made.nodes[1].id: Disk(65536, True)}
    with pytest.raises(ConfigError, match="disk: node1.* loop device"):
        refusals.check_host(made, replace(NOTHING, user_namespace=True))
    with pytest.raises(ConfigError, match="disk: .*65536M"):
        refusals.check_host(made, replace(NOTHING, disks=there))
    with pytest.raises(ConfigError, match="volume_group: .*65536M"):
        refusals.check_host(made, replace(NOTHING, volumes=there))


def test_a_watcher_interval_that_is_taken_back_leaves_no_directory() -> None:
    node = CONFIG.nodes[0].id
    there = after(CONFIG, NOTHING)
    there = replace(there, files={**there.files, node.watcher_drop_in: ("[Timer]\n", 0o644)})
    for steps in (plan.reconcile({DEFAULT: CONFIG}, there), plan.undeclared([], there)[DEFAULT]):
        removed = [step for step in steps if node.watcher_drop_in.parent in getattr(step, "paths", ())
                   or getattr(step, "path", None) == node.watcher_drop_in]  # fmt: skip
        # Not with all that is in it: an administrator may have a drop-in there.
        assert removed == [Remove(node.watcher_drop_in), RemoveEmpty((node.watcher_drop_in.parent,))]


def test_a_damaged_block_in_etc_hosts_stops_nothing_else() -> None:
    there = after(CONFIG, NOTHING)
    there = replace(there, hosts=there.hosts.replace("# END ganeti-vcluster default\n", "10.7.7.7 important\n"))
    with pytest.raises(VclusterError, match="/etc/hosts"):
        refusals.check_host(CONFIG, there)
    assert plan.runtime_gone(DEFAULT, there)[-1] == SetHosts(DEFAULT, ())
    lab = config.parse(ClusterId("lab"), "[cluster]\nnetwork = 198.51.100.0/24\ndomain = lab\n")
    assert SetHosts(lab.id, lab.hosts) in plan.reconcile({lab.id: lab}, there)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"device": 1}', '{"schema": 2}', "not json"])
def test_a_damaged_ledger_is_written_again(text: str) -> None:
    with pytest.raises(ValueError):
        Ledger.from_json(text)
    there = replace(after(CONFIG, NOTHING), damaged_ledgers=frozenset({DEFAULT}))
    assert plan.reconcile({DEFAULT: CONFIG}, there) == [WriteLedger(DEFAULT, Ledger.of(CONFIG))]
