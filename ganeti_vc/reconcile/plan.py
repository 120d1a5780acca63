# SPDX-License-Identifier: BSD-2-Clause
"""What must be done: configurations and the machine's state in, steps out. Pure, nothing is touched here.

`up`, `scale`, `destroy`, `--dry-run` and the manager all go through these functions, and apply.py
does what they say. Two kinds of things are made for a cluster:

  lasting   directories, scripts, keys, systemd's links: they go with `destroy`
  runtime   network, /etc/hosts, ssh drop-in, everything in /run: they go when the manager stops
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    SetFilter,
    SetHosts,
    ShowHardware,
    Step,
    StopUnits,
    Unmount,
    WriteFile,
    WriteLedger,
)

#: Starts the clusters at boot.
BOOT_LINK = names.LINK_DIR / "multi-user.target.wants" / names.ALL_TARGET
#: From this many nodes on ganeti_vc/reconcile/pacing.py starts them: systemd would start all at once.
PACED_FROM = 40


def unit_links(config: ClusterConfig) -> dict[Path, str]:
    """Return systemd's links that make the nodes members of their cluster, and the cluster start at boot."""

    def template(unit: str) -> str:
        prefix, _, rest = unit.partition("@")
        return str(names.UNIT_DIR / (f"{prefix}@.{rest.rpartition('.')[2]}" if rest else unit))

    def link(user: str, kind: str, unit: str) -> tuple[Path, str]:
        return names.LINK_DIR / f"{user}.{kind}" / unit, template(unit)

    cluster = config.id
    pairs = [
        # The first, as `_boot_decided` looks at the others.
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


def _boot_decided(state: MachineState) -> bool:
    """Tell whether there was a cluster before. Then systemctl enable, or disable, has decided what starts at boot."""
    return any(path.parent.name == f"{names.ALL_TARGET}.wants" for path in state.links)


def lasting_files(config: ClusterConfig) -> dict[Path, tuple[str, int]]:
    """Return the text and the mode of the files that go with `destroy`."""
    files = node_directory.files(config)
    if config.watcher_interval != DEFAULT_INTERVAL:
        # A template cannot take its interval from a file. So there is a drop-in for each node, if the interval is not ours.
        interval = config.watcher_interval
        text = f"[Timer]\nOnActiveSec=\nOnActiveSec={interval}\nOnUnitActiveSec={interval}\n"
        files |= {node.id.watcher_drop_in: (text, 0o644) for node in config.nodes}
    return files


def runtime_files(config: ClusterConfig, state: MachineState) -> dict[Path, tuple[str, int]]:
    """Return the text and the mode of the files that go when the manager stops."""
    directory = ssh.SSH_RUN_DIR / config.id.name
    return {
        directory / "sshd_config": (
            ssh.server_config(config.id, state.host_keys, state.use_pam),
            0o600,
        ),
        directory / "listen": (ssh.listen_file(config), 0o644),
        ssh.known_hosts(config.id): (state.known_hosts.get(config.id, ""), 0o644),
        config.id.ssh_drop_in: (ssh.client_drop_in(config), 0o644),
    }


def runtime_links(config: ClusterConfig) -> dict[Path, str]:
    """Return the targets of the links in /run, by path."""
    links = {node.id.registry_link: str(node.id.rootdir) for node in config.nodes}
    links |= {names.ADDRESSES_DIR / str(node.address): str(node.id.rootdir) for node in config.nodes}
    if config.mond_on_all:
        links |= {node.id.mond_link: str(node.id.rootdir) for node in config.nodes}
    return links


def _write(wanted: Mapping[Path, tuple[str, int]], state: MachineState) -> list[Step]:
    return [
        WriteFile(path, text, mode) for path, (text, mode) in wanted.items() if state.files.get(path) != (text, mode)
    ]


def _link(wanted: Mapping[Path, str], state: MachineState) -> list[Step]:
    return [Link(path, target) for path, target in wanted.items() if state.links.get(path) != target]


def lasting(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan what makes the cluster exist: its directories, scripts, keys and links."""
    steps: list[Step] = []
    missing = tuple(path for path in node_directory.directories(config) if path not in state.directories)
    if missing:
        steps.append(MakeDirectories(missing))
    if config.id not in state.keys:
        steps.append(MakeKey(config.id))
    files = _write(lasting_files(config), state)
    obsolete: list[Step] = []
    for path in _obsolete_units(config, state):
        obsolete += _unlink(path)
    steps += _link(node_directory.links(config), state)
    wanted = unit_links(config)
    if _boot_decided(state):
        del wanted[BOOT_LINK]
    links = _link(wanted, state)
    steps += [*files, *obsolete, *links]
    if links or obsolete or any(isinstance(step, WriteFile) and names.LINK_DIR in step.path.parents for step in files):
        steps.append(ReloadSystemd())
    return steps


def _unlink(path: Path) -> list[Step]:
    """Plan the removal of a link, or of a drop-in with its directory. Drop-ins of the user's own stay."""
    return [Remove(path), *([RemoveEmpty((path.parent,))] if path.parent.suffix == ".d" else [])]


def _obsolete_units(config: ClusterConfig, state: MachineState) -> Iterator[Path]:
    """Yield drop-ins of timers that have the packaged interval again, and links of nodes that systemd is not to start."""
    for node in config.nodes:
        if config.watcher_interval == DEFAULT_INTERVAL and node.id.watcher_drop_in in state.files:
            yield node.id.watcher_drop_in
    wanted, targets = unit_links(config), {node.id.target for node in config.nodes}
    for path in state.links:
        if path.parent.name == f"{config.id.target}.wants" and path not in wanted and path.name in targets:
            yield path


def runtime(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan what makes the cluster usable: network, names, ssh, the registry in /run.

    Raises ConfigError when this machine cannot have it.
    """
    check_host(config, state)
    return surroundings(config, state)


def surroundings(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan as `runtime` does, for a machine that has been checked."""
    steps = _network(config, state)
    if hosts.with_block(state.hosts, config.id, config.hosts) != state.hosts:
        steps.append(SetHosts(config.id, config.hosts))
    links = runtime_links(config)
    steps += [Remove(path) for path in _runtime_links_of(config.id, state) if path not in links]
    files = _write(runtime_files(config, state), state)
    steps += [*files, *_link(links, state)]
    if any(isinstance(step, WriteFile) and step.path.name == "listen" for step in files):
        steps.append(ReloadSshd(config.id))
    return [*steps, *hardware(config, state)]


def _network(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan bridge, routes and addresses. The ledger is written before, with what is there and what will be."""
    steps: list[Step] = []
    wanted, present = Ledger.of(config), state.ledgers.get(config.id)
    if present and (present.device, present.own_bridge) != (wanted.device, wanted.own_bridge):
        steps += _network_gone(config.id, present, state)
        present = None
    if present != wanted or config.id in state.damaged_ledgers:
        steps.append(WriteLedger(config.id, wanted.united_with(present or wanted)))
    steps += _filter(config, state)
    if wanted.own_bridge and wanted.device not in state.network.links:
        steps.append(MakeBridge(wanted.device))
    recorded = present or Ledger(wanted.device, wanted.own_bridge, frozenset(), frozenset())
    steps += [ChangeRoute(net, present=False) for net in sorted(recorded.networks - wanted.networks, key=str)]
    steps += [ChangeRoute(net, present=True) for net in config.networks if net not in state.network.unreachable]
    there = state.addresses_of(wanted.device)
    add = tuple(address for address in config.addresses if address not in there)
    remove = tuple(sorted((recorded.addresses - wanted.addresses) & there, key=str))
    if add or remove:
        steps.append(ChangeAddresses(wanted.device, add, remove))
    if present not in (None, wanted):
        steps.append(WriteLedger(config.id, wanted))
    return steps


def _filter(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan the table that drops packets from outside. The ledger says for which device and networks the present one is."""
    present = config.id.filter_table in (state.filters or ())
    if config.reachable:
        return [SetFilter(config.id, config.device, ())] if present else []
    recorded, wanted = state.ledgers.get(config.id), Ledger.of(config)
    if present and recorded and (recorded.device, recorded.networks) == (wanted.device, wanted.networks):
        return []
    return [SetFilter(config.id, config.device, config.networks)]


def _runtime_links_of(cluster: ClusterId, state: MachineState) -> list[Path]:
    """Return the links in /run that lead to the cluster's nodes."""
    return [
        path
        for path, target in state.links.items()
        if names.RUN_DIR in path.parents and Path(target).parent == cluster.directory
    ]


def hardware(config: ClusterConfig, state: MachineState) -> list[Step]:
    """Plan the nodes' memory, processors and disks."""
    steps: list[Step] = []
    for node in config.nodes:
        wanted = node_directory.hardware_files(node)
        for path in node_directory.hardware_paths(node.id):
            present = state.files[path][0] if path in state.files else None
            if wanted.get(path) != present:
                steps.append(ShowHardware(node.id, path, wanted.get(path)))
        disk = state.disks.get(node.id)
        if node.disk and _lacks(disk, node.disk):
            steps.append(SetDisk(node.id, node.disk))
        volumes = state.volumes.get(node.id)
        if node.volume_group and _lacks(volumes, node.volume_group):
            steps.append(AttachVolumes(node.id, config.ganeti.vg_name, node.volume_group))
    return steps


def _lacks(present: Disk | None, size: int) -> bool:
    return present is None or not present.mounted or present.size < size


def _storage_gone(nodes: Iterable[NodeId], state: MachineState) -> list[Step]:
    """Plan the release of the disks and volume groups of nodes that are stopped."""
    steps: list[Step] = []
    for node in sorted(nodes):
        if node in state.disks and state.disks[node].mounted:
            steps.append(Unmount(node))
        if node in state.volumes and state.volumes[node].mounted:
            steps.append(DetachVolumes(node))
    return steps


def _network_gone(cluster: ClusterId, ledger: Ledger, state: MachineState) -> list[Step]:
    steps: list[Step] = []
    if ledger.device in state.network.links:
        if ledger.own_bridge:
            steps.append(RemoveBridge(ledger.device))
        else:
            remove = tuple(sorted(ledger.addresses & state.addresses_of(ledger.device), key=str))
            if remove:
                steps.append(ChangeAddresses(ledger.device, (), remove))
    routes = sorted(ledger.networks & state.network.unreachable, key=str)
    steps += [ChangeRoute(net, present=False) for net in routes]
    steps.append(Remove(cluster.ledger))
    return steps


def runtime_gone(cluster: ClusterId, state: MachineState) -> list[Step]:
    """Plan the end of everything `runtime` made for this cluster, by what is recorded and found."""
    stored = {*state.disks, *state.volumes}
    steps = _storage_gone((node for node in stored if node.cluster == cluster), state)
    if cluster in state.ledgers:
        steps += _network_gone(cluster, state.ledgers[cluster], state)
    if cluster.filter_table in (state.filters or ()):
        steps.append(SetFilter(cluster, "", ()))
    steps += [Remove(path) for path in _runtime_links_of(cluster, state)]
    directory = ssh.SSH_RUN_DIR / cluster.name
    if any(directory in path.parents for path in state.files):
        steps.append(Remove(directory))
    if cluster.ssh_drop_in in state.files:
        steps.append(Remove(cluster.ssh_drop_in))
    if cluster in hosts.clusters_in(state.hosts):
        steps.append(SetHosts(cluster, ()))  # last: it fails if the block is damaged
    return steps


def stopped(cluster: ClusterId, state: MachineState) -> list[Step]:
    """Plan the stop of a cluster, with whatever else runs on its nodes, and the release of the nodes' disks."""
    nodes = member_nodes(cluster, state)
    stored = {node for node in (*state.disks, *state.volumes) if node.cluster == cluster}
    return [_stop(cluster, nodes), *_storage_gone(stored, state)]


def _stop(cluster: ClusterId, nodes: Iterable[NodeId]) -> StopUnits:
    return StopUnits(
        (cluster.target, *(node.target for node in nodes)),
        (*cluster.units, *(pattern for node in nodes for pattern in (*node.unit_patterns, node.slice))),
    )


def nodes_gone(cluster: ClusterId, nodes: Iterable[NodeId], state: MachineState) -> list[Step]:
    """Plan to stop nodes and unlink them from their cluster. Their directories stay."""
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
        link = names.LINK_DIR / f"{cluster.target}.wants" / node.target
        unlinked += [Remove(link)] if link in state.links else []
        unlinked.append(Remove(names.LINK_DIR / f"{node.target}.requires"))
        if node.watcher_drop_in in state.files:
            unlinked += _unlink(node.watcher_drop_in)
    return [*steps, *unlinked, *_storage_gone(nodes, state), ReloadSystemd()]


def cluster_gone(cluster: ClusterId, state: MachineState, last: bool) -> list[Step]:
    """Plan to stop a cluster, unlink it and take its runtime away. Its directory stays.

    `last`: no other cluster is left, so that nothing of ours has to start at boot.
    """
    steps: list[Step] = []
    nodes = member_nodes(cluster, state)
    links = [
        path
        for path in state.links
        if path.parent.name == f"{names.ALL_TARGET}.wants" and path.name in (cluster.target, cluster.ready_service)
    ]
    if nodes or links:
        steps.append(_stop(cluster, nodes))
        steps += [step for step in nodes_gone(cluster, nodes, state) if isinstance(step, (Remove, RemoveEmpty))]
        steps += [Remove(path) for path in links]
        empty = [names.LINK_DIR / f"{cluster.target}.wants"]
        if last:
            steps.append(Remove(BOOT_LINK))
            empty.append(names.LINK_DIR / f"{names.ALL_TARGET}.wants")
        steps += [RemoveEmpty(tuple(empty)), ReloadSystemd()]
    return [*steps, *runtime_gone(cluster, state)]


def undeclared(declared: Iterable[ClusterId], state: MachineState) -> dict[ClusterId, list[Step]]:
    """Plan the end of each cluster that is no longer declared."""
    declared = set(declared)
    gone = sorted(known_clusters(state) - declared)
    return {cluster: cluster_gone(cluster, state, last=not declared) for cluster in gone}


def reconcile(configs: Mapping[ClusterId, ClusterConfig], state: MachineState) -> list[Step]:
    """Plan everything that separates these clusters as they are declared from what is there of them."""
    steps: list[Step] = []
    for cluster, config in configs.items():
        declared = {node.id for node in config.nodes}
        steps += nodes_gone(cluster, [n for n in member_nodes(cluster, state) if n not in declared], state)
        steps += lasting(config, state)
        steps += runtime(config, state)
    return steps
