# SPDX-License-Identifier: BSD-2-Clause
"""Looking at the machine: what is there of, or in the way of, clusters."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.machine import (
    config_files,
    ganeti_files,
    network,
    node_directory,
    node_disk,
    node_volumes,
    packet_filter,
    resolver,
    root_login,
    ssh,
)
from ganeti_vc.model import names
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId
from ganeti_vc.reconcile.state import Ledger, MachineState

log = logging.getLogger(__name__)


def _links(configs: Mapping[ClusterId, ClusterConfig], lasting: bool) -> dict[Path, str]:
    paths = [
        names.LINK_DIR / "multi-user.target.wants" / names.ALL_TARGET,
        *names.LINK_DIR.glob(f"{names.ALL_TARGET}.wants/*"),
        *names.LINK_DIR.glob("ganeti-vcluster@*.target.wants/*"),
        *names.LINK_DIR.glob("ganeti-vnode@*.target.requires/*"),
        *names.REGISTRY_DIR.glob("*"),
        *names.ADDRESSES_DIR.glob("*"),
        *names.MOND_DIR.glob("*"),
        *(path for config in configs.values() if lasting for path in node_directory.links(config)),
    ]
    return {path: os.readlink(path) for path in paths if path.is_symlink()}


def _ledgers() -> tuple[dict[ClusterId, Ledger], frozenset[ClusterId]]:
    """Return the ledgers, and the clusters whose file is damaged; what these have on the network is then derived."""
    ledgers, damaged = {}, set()
    for path in (names.RUN_DIR / "clusters").glob("*.json"):
        cluster = ClusterId(path.stem)
        try:
            ledgers[cluster] = Ledger.from_json(path.read_text())
        except ValueError:
            log.warning("%s is damaged: taken to be as %s says (up writes it again)", path, cluster.config_file)
            ledgers[cluster] = _derived_ledger(cluster)
            damaged.add(cluster)
    return ledgers, frozenset(damaged)


def _derived_ledger(cluster: ClusterId) -> Ledger:
    try:
        return Ledger.of(config_files.load(cluster))
    except VclusterError:
        return Ledger(cluster.bridge, own_bridge=True, addresses=frozenset(), networks=frozenset())


def _masked() -> frozenset[str]:
    places = (names.LINK_DIR, names.LINK_DIR_OF_THIS_BOOT)
    links = [path for place in places for path in place.glob("ganeti-*") if path.is_symlink()]
    return frozenset(path.name for path in links if os.readlink(path) == os.devnull)


def _contents(paths: Iterable[Path]) -> dict[Path, tuple[str, int]]:
    contents = {}
    for path in paths:
        text = files.read(path)
        if text is not None:
            contents[path] = (text, path.stat().st_mode & 0o777)
    return contents


def observe(configs: Mapping[ClusterId, ClusterConfig], lasting: bool = True, logins: bool = False) -> MachineState:
    """Return what is there of, or in the way of, these clusters and any others that left a trace.

    Without `lasting`, the clusters' directories are left out: they are most of the work, and `plan.surroundings` does not
    need them. `logins`: ask the programs whether root could log in to the nodes.
    """
    ledgers, damaged = _ledgers()
    host_keys = ssh.host_keys() if configs else ()
    paths = [
        *names.LINK_DIR.glob("ganeti-watcher@*.timer.d/interval.conf"),
        *names.SSH_CONFIG_DIR.glob("ganeti-vcluster-*.conf"),
        *ssh.SSH_RUN_DIR.glob("*/*"),
    ]
    for config in configs.values():
        if lasting:
            paths += node_directory.files(config)
        paths += (path for node in config.nodes for path in node_directory.hardware_paths(node.id))
        paths.append(ssh.known_hosts(config.id))
    return MachineState(
        network=network.observe(),
        hosts=files.read(names.HOSTS_FILE) or "",
        ledgers=ledgers,
        damaged_ledgers=damaged,
        files=_contents(paths),
        links=_links(configs, lasting),
        directories=frozenset(
            path
            for config in configs.values()
            if lasting
            for path in node_directory.directories(config)
            if path.is_dir()
        ),
        keys=frozenset(
            cluster
            for cluster in configs
            if ssh.private_key(cluster).exists() and ssh.authorized_keys(cluster).exists()
        ),
        host_keys=host_keys,
        known_hosts={config.id: ssh.known_hosts_file(config, host_keys) for config in configs.values()},
        filters=packet_filter.tables(),
        use_pam=ssh.root_is_locked(),
        insecure=ssh.insecure_directories(),
        login_obstacles={config.id: root_login.obstacles(config) for config in configs.values() if logins},
        masked=_masked(),
        has_hosts=names.HOSTS_FILE.exists(),
        nameservers=resolver.nameservers(),
        user_namespace=Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"],
        disks=node_disk.observe(),
        volumes=node_volumes.observe(),
        initialised={
            cluster: recorded for cluster in configs if lasting and (recorded := ganeti_files.initialised(cluster))
        },
    )
