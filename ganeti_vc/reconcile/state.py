# SPDX-License-Identifier: BSD-2-Clause
"""What is on the machine now, as far as it concerns us, and the ledger of what we made on its network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from ganeti_vc.machine import hosts, network
from ganeti_vc.machine.ganeti_files import Initialised
from ganeti_vc.machine.node_disk import Disk
from ganeti_vc.model import names
from ganeti_vc.model.addresses import Address, Network
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, NodeId


@dataclass(frozen=True)
class Ledger:
    """What we made on the network for one cluster, and must take away again."""

    device: str
    own_bridge: bool
    addresses: frozenset[Address]
    networks: frozenset[Network]

    def to_json(self) -> str:
        """Return the text of the ledger's file."""
        return json.dumps(
            {
                "schema": 1,
                "device": self.device,
                "own_bridge": self.own_bridge,
                "addresses": sorted(map(str, self.addresses)),
                "networks": sorted(map(str, self.networks)),
            },
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> Ledger:
        """Read what `to_json` has written. Raises ValueError for anything else."""
        try:
            raw = json.loads(text)
            return Ledger(
                raw["device"],
                raw["own_bridge"],
                frozenset(map(ip_address, raw["addresses"])),
                frozenset(map(ip_network, raw["networks"])),
            )
        except (KeyError, TypeError) as err:
            raise ValueError(str(err)) from None

    def united_with(self, other: Ledger) -> Ledger:
        """Return a ledger of this device with the addresses and networks of both."""
        addresses, networks = self.addresses | other.addresses, self.networks | other.networks
        return Ledger(self.device, self.own_bridge, addresses, networks)

    @staticmethod
    def of(config: ClusterConfig) -> Ledger:
        return Ledger(config.device, config.own_bridge, frozenset(config.addresses), frozenset(config.networks))


@dataclass(frozen=True)
class MachineState:
    """What is there now, as far as it concerns us (observe.observe)."""

    network: network.NetworkState
    hosts: str
    ledgers: Mapping[ClusterId, Ledger]  #: of a file that is damaged: what is in it by the configuration
    files: Mapping[Path, tuple[str, int]]  #: text and mode of what we write or may remove
    links: Mapping[Path, str]  #: our links, by path
    directories: frozenset[Path]  #: of those we make
    keys: frozenset[ClusterId]  #: clusters that have an ssh key
    host_keys: tuple[Path, ...] = ()
    known_hosts: Mapping[ClusterId, str] = field(default_factory=dict)
    use_pam: bool = False
    insecure: tuple[
        tuple[Path, str], ...
    ] = ()  #: directories because of which sshd refuses keys, and the command that makes them safe
    login_obstacles: Mapping[ClusterId, tuple[tuple[str, str], ...]] = field(default_factory=dict)  #: with remedies
    masked: frozenset[str] = frozenset()  #: units of ours that systemd must not start
    has_hosts: bool = True  #: there is an /etc/hosts
    initialised: Mapping[ClusterId, Initialised] = field(default_factory=dict)
    filters: frozenset[str] | None = frozenset()  #: our tables of nft; None: this machine cannot have one
    nameservers: frozenset[Address] = frozenset()
    user_namespace: bool = False  #: we are root of a sandbox only
    disks: Mapping[NodeId, Disk] = field(default_factory=dict)
    volumes: Mapping[NodeId, Disk] = field(default_factory=dict)
    damaged_ledgers: frozenset[ClusterId] = frozenset()

    def addresses_of(self, device: str) -> set[Address]:
        """Return the addresses that a network device has."""
        return {address for name, address in self.network.addresses if name == device}

    @property
    def own_bridges(self) -> set[str]:
        """The bridges that we have made."""
        return {ledger.device for ledger in self.ledgers.values() if ledger.own_bridge}


def member_nodes(cluster: ClusterId, state: MachineState) -> list[NodeId]:
    """Return the nodes that are members of a cluster by systemd's links."""
    return cluster.members(state.links)


def known_clusters(state: MachineState) -> set[ClusterId]:
    """Return the clusters of which something is recorded, linked or written, whether declared or not."""
    clusters = set(state.ledgers) | set(hosts.clusters_in(state.hosts))
    clusters |= {ClusterId(table.removeprefix(names.FILTER_PREFIX)) for table in state.filters or ()}
    for path in state.links:
        if path.parent.name == f"{names.ALL_TARGET}.wants" and path.name.startswith("ganeti-vcluster@"):
            clusters.add(ClusterId(path.name.removeprefix("ganeti-vcluster@").removesuffix(".target")))
        if path.name.startswith("ganeti-vcluster-nodes@"):
            clusters.add(ClusterId(path.name.removeprefix("ganeti-vcluster-nodes@").removesuffix(".target")))
    return clusters
