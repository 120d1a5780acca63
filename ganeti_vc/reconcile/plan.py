# SPDX-License-Identifier: BSD-2-Clause
"""What must be done: configurations and what is there in, steps out. Pure, nothing is touched here.

`up`, `scale`, `destroy`, `--dry-run` and the manager all go through these functions, and apply.py
does what they say. Two kinds of things are made for a cluster:

  lasting   directories, scripts, keys, systemd's links: they go with `destroy`
  runtime   network, /etc/hosts, ssh drop-in, everything in /run: they go when the manager stops
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ganeti_vc.machine import hosts, node_directory, ssh
from ganeti_vc.machine.node_disk import Disk
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.keys import DEFAULT_INTERVAL
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.reconcile.refusals import check_host
from ganeti_vc.reconcile.state import Ledger, MachineState, known_clusters, member_nodes
from ganeti_vc.reconcile.steps import (
    AttachVolumes,
    ChangeAddresses,
    ChangeRoute,
    DetachVolumes,
    Link,
    MakeBridge,
    MakeDirectories,
    MakeKey,
    ReloadSshd,
    ReloadSystemd,
    Remove,
    RemoveBridge,
    RemoveEmpty,
    SetDisk,
    SetHosts,
    ShowHardware,
    Step,
    StopUnits,
    Unmount,
    WriteFile,
    WriteLedger,
)

#: From this many nodes on systemd does not start them itself, which it would do all at once, but ganeti_vc/reconcile/pacing.py.
PACED_FROM = 40


def unit_links(config: ClusterConfig) -> dict[Path, str]:
    """systemd's links that make the nodes members of their cluster and the cluster start at boot."""

    def template(unit: str) -> str:
        prefix, _, rest = unit.partition("@")
        return str(names.UNIT_DIR / (f"{prefix}@.{rest.rpartition('.')[2]}" if rest else unit))

    def link(user: str, kind: str, unit: str) -> tuple[Path, str]:
        return names.LINK_DIR / f"{user}.{kind}" / unit, template(unit)

    cluster = config.id
    pairs = [
        link("multi-user.target", "wants", names.ALL_TARGET),
        link(names.ALL_TARGET, "wants", cluster.target),
        # Directly as well: see units/ganeti-vcluster-ready@.service.
        link(names.ALL_TARGET, "wants", cluster.ready_service),
    ]
    for node in config.nodes:
        if len(config.nodes) < PACED_FROM:
            pairs.append(link(cluster.target, "wants", node.id.target))
        pairs.append(link(node.id.target, "requires", cluster.nodes_target))
    return dict(pairs)


def lasting_files(config: ClusterConfig) -> dict[Path, tuple[str, int]]:
    made = node_directory.files(config)
    if config.watcher_interval != DEFAULT_INTERVAL:
        # A template cannot take its interval from a file; only who asks for another one pays for it.
        text = f"[Timer]\nOnActiveSec=\nOnActiveSec={config.watcher_interval}\n" \
               f"OnUnitActiveSec={config.watcher_interval}\n"  # fmt: skip
        made |= {node.id.watcher_drop_in: (text, 0o644) for node in config.nodes}
    return made


def runtime_files(config: ClusterConfig, observed: MachineState) -> dict[Path, tuple[str, int]]:
    directory = ssh.SSH_RUN_DIR / config.id.name
    return {
        directory / "sshd_config": (
            ssh.server_config(config.id, observed.host_keys, observed.use_pam),
            0o600,
        ),
        directory / "listen": (ssh.listen_file(config), 0o644),
        ssh.known_hosts(config.id): (observed.known_hosts.get(config.id, ""), 0o644),
        config.id.ssh_drop_in: (ssh.client_drop_in(config), 0o644),
    }


def runtime_links(config: ClusterConfig) -> dict[Path, str]:
    made = {node.id.registry_link: str(node.id.rootdir) for node in config.nodes}
    made |= {names.ADDRESSES_DIR / str(node.address): str(node.id.rootdir) for node in config.nodes}
    if config.mond_on_all:
        made |= {node.id.mond_link: str(node.id.rootdir) for node in config.nodes}
    return made


def _write(wanted: Mapping[Path, tuple[str, int]], observed: MachineState) -> list[Step]:
    return [
        WriteFile(path, text, mode) for path, (text, mode) in wanted.items() if observed.files.get(path) != (text, mode)
    ]


def _link(wanted: Mapping[Path, str], observed: MachineState) -> list[Step]:
    return [Link(path, target) for path, target in wanted.items() if observed.links.get(path) != target]


def lasting(config: ClusterConfig, observed: MachineState) -> list[Step]:
    """What makes the cluster exist: its directories, scripts, keys and links."""
    steps: list[Step] = []
    missing = tuple(path for path in node_directory.directories(config) if path not in observed.directories)
    if missing:
        steps.append(MakeDirectories(missing))
    if config.id not in observed.keys:
        steps.append(MakeKey(config.id))
    files = _write(lasting_files(config), observed)
    obsolete = [Remove(node.id.watcher_drop_in) for node in config.nodes
                if config.watcher_interval == DEFAULT_INTERVAL and node.id.watcher_drop_in in observed.files]  # fmt: skip
    steps += _link(node_directory.links(config), observed)
    wanted = unit_links(config)
    links = _link(wanted, observed)
    obsolete += [Remove(path) for path in observed.links
                 if path.parent.name == f"{config.id.target}.wants" and path not in wanted
                 and path.name in {node.id.target for node in config.nodes}]  # fmt: skip
    drop_ins = bool(obsolete) or any(
        isinstance(step, WriteFile) and names.LINK_DIR in step.path.parents for step in files
    )
    steps += [*files, *obsolete, *links]
    if links or drop_ins:
        steps.append(ReloadSystemd())
    return steps


def runtime(config: ClusterConfig, observed: MachineState) -> list[Step]:
    """What makes the cluster usable: network, names, ssh, the registry in /run."""
    check_host(config, observed)
    steps: list[Step] = []
    wanted, ledger = Ledger.of(config), observed.ledgers.get(config.id)
    if ledger and (ledger.device, ledger.own_bridge) != (wanted.device, wanted.own_bridge):
        steps += _network_gone(config.id, ledger, observed)
        ledger = None
    if ledger != wanted:
        both = ledger or wanted
        union = Ledger(wanted.device, wanted.own_bridge, both.addresses | wanted.addresses,
                       both.networks | wanted.networks)  # fmt: skip
        steps.append(WriteLedger(config.id, union))
    if wanted.own_bridge and wanted.device not in observed.network.links:
        steps.append(MakeBridge(wanted.device))
    for net in sorted((ledger.networks if ledger else frozenset()) - wanted.networks, key=str):
        steps.append(ChangeRoute(net, present=False))
    for net in config.networks:
        if net not in observed.network.unreachable:
            steps.append(ChangeRoute(net, present=True))
    present = {address for device, address in observed.network.addresses if device == wanted.device}
    add = tuple(address for address in config.addresses if address not in present)
    remove = tuple(sorted(((ledger.addresses if ledger else frozenset()) - wanted.addresses) & present, key=str))
    if add or remove:
        steps.append(ChangeAddresses(wanted.device, add, remove))
    if ledger != wanted and ledger is not None:
        steps.append(WriteLedger(config.id, wanted))
    if hosts.with_block(observed.hosts, config.id, config.hosts) != observed.hosts:
        steps.append(SetHosts(config.id, config.hosts))
    wanted_links = runtime_links(config)
    for path, target in observed.links.items():
        if names.RUN_DIR in path.parents and Path(target).parent == config.id.directory and path not in wanted_links:
            steps.append(Remove(path))
    files = _write(runtime_files(config, observed), observed)
    steps += [*files, *_link(wanted_links, observed)]
    if any(isinstance(step, WriteFile) and step.path.name == "listen" for step in files):
        steps.append(ReloadSshd(config.id))
    return [*steps, *hardware(config, observed)]


def hardware(config: ClusterConfig, observed: MachineState) -> list[Step]:
    """The nodes' memory, processors and disks."""
    steps: list[Step] = []
    for node in config.nodes:
        wanted = node_directory.hardware_files(node)
        for path in node_directory.hardware_paths(node.id):
            present = observed.files[path][0] if path in observed.files else None
            if wanted.get(path) != present:
                steps.append(ShowHardware(node.id, path, wanted.get(path)))
        disk = observed.disks.get(node.id)
        if node.disk and _lacks(disk, node.disk):
            steps.append(SetDisk(node.id, node.disk))
        volumes = observed.volumes.get(node.id)
        if node.volume_group and _lacks(volumes, node.volume_group):
            steps.append(AttachVolumes(node.id, config.ganeti.vg_name, node.volume_group))
    return steps


def _lacks(present: Disk | None, size: int) -> bool:
    return present is None or not present.mounted or present.size < size


def _storage_gone(nodes: Iterable[NodeId], observed: MachineState) -> list[Step]:
    """Release the disks and volume groups of nodes that are stopped."""
    steps: list[Step] = []
    for node in sorted(nodes):
        if node in observed.disks and observed.disks[node].mounted:
            steps.append(Unmount(node))
        if node in observed.volumes and observed.volumes[node].mounted:
            steps.append(DetachVolumes(node))
    return steps


def _network_gone(cluster: ClusterId, ledger: Ledger, observed: MachineState) -> list[Step]:
    steps: list[Step] = []
    if ledger.device in observed.network.links:
        if ledger.own_bridge:
            steps.append(RemoveBridge(ledger.device))
        else:
            present = {address for device, address in observed.network.addresses if device == ledger.device}
            remove = tuple(sorted(ledger.addresses & present, key=str))
            if remove:
                steps.append(ChangeAddresses(ledger.device, (), remove))
    steps += [ChangeRoute(net, present=False)
              for net in sorted(ledger.networks & observed.network.unreachable, key=str)]  # fmt: skip
    steps.append(Remove(cluster.ledger))
    return steps


def runtime_gone(cluster: ClusterId, observed: MachineState) -> list[Step]:
    """Take away everything `runtime` made for this cluster, by what is recorded and found."""
    stored = {*observed.disks, *observed.volumes}
    steps = _storage_gone((node for node in stored if node.cluster == cluster), observed)
    if cluster in observed.ledgers:
        steps += _network_gone(cluster, observed.ledgers[cluster], observed)
    if cluster in hosts.clusters_in(observed.hosts):
        steps.append(SetHosts(cluster, ()))
    steps += [Remove(path) for path, target in observed.links.items()
              if names.RUN_DIR in path.parents and Path(target).parent == cluster.directory]  # fmt: skip
    directory = ssh.SSH_RUN_DIR / cluster.name
    if any(directory in path.parents for path in observed.files):
        steps.append(Remove(directory))
    if cluster.ssh_drop_in in observed.files:
        steps.append(Remove(cluster.ssh_drop_in))
    return steps


def stopped(cluster: ClusterId, observed: MachineState) -> list[Step]:
    """Stop a cluster, with whatever else runs on its nodes, and release the nodes' disks."""
    nodes = member_nodes(cluster, observed)
    stored = {node for node in (*observed.disks, *observed.volumes) if node.cluster == cluster}
    return [_stop(cluster, nodes), *_storage_gone(stored, observed)]


def _stop(cluster: ClusterId, nodes: Iterable[NodeId]) -> StopUnits:
    return StopUnits(
        (cluster.target, *(node.target for node in nodes)),
        (*cluster.units, *(pattern for node in nodes for pattern in (*node.unit_patterns, node.slice))),
    )


def nodes_gone(cluster: ClusterId, nodes: Iterable[NodeId], observed: MachineState) -> list[Step]:
    """Stop nodes and unlink them from their cluster. Their directories stay."""
    nodes = list(nodes)
    if not nodes:
        return []
    steps: list[Step] = [
        StopUnits(
            tuple(node.target for node in nodes),
            tuple(pattern for node in nodes for pattern in (*node.unit_patterns, node.slice)),
        )
    ]
    unlinked: list[Step] = []
    for node in nodes:
        unlinked += [Remove(path) for path in observed.links
                     if path == names.LINK_DIR / f"{cluster.target}.wants" / node.target]  # fmt: skip
        unlinked.append(Remove(names.LINK_DIR / f"{node.target}.requires"))
        if node.watcher_drop_in in observed.files:
            unlinked.append(Remove(node.watcher_drop_in.parent))
    return [*steps, *unlinked, *_storage_gone(nodes, observed), ReloadSystemd()]


def cluster_gone(cluster: ClusterId, observed: MachineState, last: bool) -> list[Step]:
    """Stop a cluster, unlink it and take its runtime away. Its directory stays.

    `last`: no other cluster is left, so that nothing of ours is to be started at boot.
    """
    steps: list[Step] = []
    nodes = member_nodes(cluster, observed)
    links = [
        path
        for path in observed.links
        if path.parent.name == f"{names.ALL_TARGET}.wants" and path.name in (cluster.target, cluster.ready_service)
    ]
    if nodes or links:
        steps.append(_stop(cluster, nodes))
        steps += [step for step in nodes_gone(cluster, nodes, observed) if isinstance(step, Remove)]
        steps += [Remove(path) for path in links]
        empty = [names.LINK_DIR / f"{cluster.target}.wants"]
        if last:
            steps.append(Remove(names.LINK_DIR / "multi-user.target.wants" / names.ALL_TARGET))
            empty.append(names.LINK_DIR / f"{names.ALL_TARGET}.wants")
        steps += [RemoveEmpty(tuple(empty)), ReloadSystemd()]
    return [*steps, *runtime_gone(cluster, observed)]


def undeclared(declared: Iterable[ClusterId], observed: MachineState) -> list[Step]:
    """Takes away what is there of clusters that are no longer declared."""
    declared = set(declared)
    gone = sorted(known_clusters(observed) - declared)
    return [step for cluster in gone for step in cluster_gone(cluster, observed, last=not declared)]


def reconcile(configs: Mapping[ClusterId, ClusterConfig], observed: MachineState) -> list[Step]:
    """Everything that separates these clusters as they are declared from what is there of them."""
    steps: list[Step] = []
    for cluster, config in configs.items():
        declared = {node.id for node in config.nodes}
        steps += nodes_gone(cluster, [n for n in member_nodes(cluster, observed) if n not in declared], observed)
        steps += lasting(config, observed)
        steps += runtime(config, observed)
    return steps
