# SPDX-License-Identifier: BSD-2-Clause
"""The steps of a plan. Data only: apply.py does them; as text they say what they do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ganeti_vc.machine import ssh
from ganeti_vc.model import names
from ganeti_vc.model.addresses import Address, Network
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.reconcile.state import Ledger


@dataclass(frozen=True)
class MakeDirectories:
    """Make directories, with their parents."""

    paths: tuple[Path, ...]
    mode: int = 0o755

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"make directory {self.paths[0]}{more}"


@dataclass(frozen=True)
class WriteFile:
    """Write a file: the old text or the new one is seen, never half."""

    path: Path
    text: str
    mode: int = 0o644

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True)
class ShowHardware:
    """Show a file below NODE/proc at its place on the node; without a text, the node sees the machine's file again."""

    node: NodeId
    path: Path
    text: str | None

    def __str__(self) -> str:
        return f"{'write' if self.text else 'remove'} {self.path}"


@dataclass(frozen=True)
class SetDisk:
    """Make a node's own disk if it is missing, grow it to `size` MiB, and mount it."""

    node: NodeId
    size: int

    def __str__(self) -> str:
        return f"mount a disk of {self.size} MiB on {self.node.name}"


@dataclass(frozen=True)
class Unmount:
    """Unmount a node's own disk."""

    node: NodeId

    def __str__(self) -> str:
        return f"unmount the disk of {self.node.name}"


@dataclass(frozen=True)
class AttachVolumes:
    """Make a node's own volume group if it is missing, grow it to `size` MiB, and activate it."""

    node: NodeId
    group: str
    size: int

    def __str__(self) -> str:
        return f"attach the volume group {self.group} of {self.size} MiB to {self.node.name}"


@dataclass(frozen=True)
class DetachVolumes:
    """Release a node's own volume group."""

    node: NodeId

    def __str__(self) -> str:
        return f"detach the volume group of {self.node.name}"


@dataclass(frozen=True)
class Remove:
    """Remove a file, a link, or a directory with all that is in it."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True)
class Discard:
    """Remove a directory with data. It is renamed first, so that nobody finds half of it."""

    path: Path

    @property
    def trash(self) -> Path:
        return self.path.with_name(f".{self.path.name}.discarded")

    def __str__(self) -> str:
        return f"discard {self.path}"


@dataclass(frozen=True)
class RemoveEmpty:
    """Remove directories if nothing is in them."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"remove {', '.join(map(str, self.paths))} if empty"


@dataclass(frozen=True)
class Link:
    """Make or correct a symbolic link."""

    path: Path
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True)
class MakeKey:
    """Make the cluster's own ssh key."""

    cluster: ClusterId

    def __str__(self) -> str:
        return f"make the ssh key {ssh.private_key(self.cluster)}"


@dataclass(frozen=True)
class SetHosts:
    """Write the cluster's block in /etc/hosts; without lines, remove it."""

    cluster: ClusterId
    lines: tuple[tuple[Address, str], ...]

    def __str__(self) -> str:
        if not self.lines:
            return f"remove the block of {self.cluster.name} from {names.HOSTS_FILE}"
        return f"write {len(self.lines)} names of {self.cluster.name} into {names.HOSTS_FILE}"


@dataclass(frozen=True)
class WriteLedger:
    """Record what is made on the network, before it is made: so it can be undone after any interruption."""

    cluster: ClusterId
    ledger: Ledger

    def __str__(self) -> str:
        return f"record the network of {self.cluster.name} in {self.cluster.ledger}"


@dataclass(frozen=True)
class MakeBridge:
    """Make the cluster's bridge."""

    device: str

    def __str__(self) -> str:
        return f"make bridge {self.device}"


@dataclass(frozen=True)
class RemoveBridge:
    """Remove the cluster's bridge, with the addresses on it."""

    device: str

    def __str__(self) -> str:
        return f"remove bridge {self.device}"


@dataclass(frozen=True)
class ChangeAddresses:
    """Add and remove addresses of a network device."""

    device: str
    add: tuple[Address, ...]
    remove: tuple[Address, ...]

    def __str__(self) -> str:
        parts = [f"{verb} {len(what)} ({what[0]}, ...)" if len(what) > 1 else f"{verb} {what[0]}"
                 for verb, what in (("add", self.add), ("remove", self.remove)) if what]  # fmt: skip
        return f"addresses of {self.device}: {', '.join(parts)}"


@dataclass(frozen=True)
class ChangeRoute:
    """Add or remove the unreachable route of a network: its unused addresses fail at once."""

    network: Network
    present: bool

    def __str__(self) -> str:
        return f"{'add' if self.present else 'remove'} route: unreachable {self.network}"


@dataclass(frozen=True)
class SetFilter:
    """Drop packets to these networks that come in by another device; without networks, no longer."""

    cluster: ClusterId
    device: str
    networks: tuple[Network, ...]

    def __str__(self) -> str:
        if not self.networks:
            return f"remove the table inet {self.cluster.filter_table} of nft"
        nets = ", ".join(map(str, self.networks))
        return f"drop packets to {nets} from outside: table inet {self.cluster.filter_table} of nft"


@dataclass(frozen=True)
class StopUnits:
    """Stop units, and slices, which systemd would keep. `patterns` match all that must not stay loaded."""

    units: tuple[str, ...]
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return f"stop {', '.join(self.units)}"


@dataclass(frozen=True)
class ReloadSystemd:
    """Have systemd read its units again."""

    def __str__(self) -> str:
        return "systemctl daemon-reload"


@dataclass(frozen=True)
class ReloadSshd:
    """Have the cluster's ssh server read its list of addresses again."""

    cluster: ClusterId

    def __str__(self) -> str:
        return f"reload {self.cluster.sshd_service}"


Step: TypeAlias = (
    MakeDirectories | WriteFile | Remove | Discard | RemoveEmpty | Link | MakeKey | SetHosts | WriteLedger
    | MakeBridge | RemoveBridge | ChangeAddresses | ChangeRoute | SetFilter | StopUnits | ReloadSystemd | ReloadSshd
    | ShowHardware | SetDisk | Unmount | AttachVolumes | DetachVolumes
)  # fmt: skip
