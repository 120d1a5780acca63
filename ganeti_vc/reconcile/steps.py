# SPDX-License-Identifier: BSD-2-Clause
"""The steps of which plans are made. Data only: apply.py does them; as text they say what they do."""

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
    paths: tuple[Path, ...]
    mode: int = 0o755

    def __str__(self) -> str:
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return f"make directory {self.paths[0]}{more}"


@dataclass(frozen=True)
class WriteFile:
    path: Path
    text: str
    mode: int = 0o644

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True)
class ShowHardware:
    """A file below NODE/proc, to be seen at its place on the node from now on; without a text, the machine's again."""

    node: NodeId
    path: Path
    text: str | None

    def __str__(self) -> str:
        return f"{'write' if self.text else 'remove'} {self.path}"


@dataclass(frozen=True)
class SetDisk:
    """A node's own disk: made if missing, grown to `size` MiB, mounted."""

    node: NodeId
    size: int

    def __str__(self) -> str:
        return f"mount a disk of {self.size} MiB on {self.node.name}"


@dataclass(frozen=True)
class Unmount:
    """A node's own disk."""

    node: NodeId

    def __str__(self) -> str:
        return f"unmount the disk of {self.node.name}"


@dataclass(frozen=True)
class AttachVolumes:
    """A node's own volume group: made if missing, grown to `size` MiB."""

    node: NodeId
    group: str
    size: int

    def __str__(self) -> str:
        return f"attach the volume group {self.group} of {self.size} MiB to {self.node.name}"


@dataclass(frozen=True)
class DetachVolumes:
    """A node's own volume group."""

    node: NodeId

    def __str__(self) -> str:
        return f"detach the volume group of {self.node.name}"


@dataclass(frozen=True)
class Remove:
    """A file, a link, or a directory with all that is in it."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True)
class Discard:
    """A directory with data: renamed first, so that nobody finds half of it."""

    path: Path

    @property
    def trash(self) -> Path:
        return self.path.with_name(f".{self.path.name}.discarded")

    def __str__(self) -> str:
        return f"discard {self.path}"


@dataclass(frozen=True)
class RemoveEmpty:
    """Directories that are removed if nothing is in them."""

    paths: tuple[Path, ...]

    def __str__(self) -> str:
        return f"remove {', '.join(map(str, self.paths))} if empty"


@dataclass(frozen=True)
class Link:
    path: Path
    target: str

    def __str__(self) -> str:
        return f"link {self.path} to {self.target}"


@dataclass(frozen=True)
class MakeKey:
    cluster: ClusterId

    def __str__(self) -> str:
        return f"make the ssh key {ssh.private_key(self.cluster)}"


@dataclass(frozen=True)
class SetHosts:
    """The cluster's block in /etc/hosts; no lines: no block."""

    cluster: ClusterId
    lines: tuple[tuple[Address, str], ...]

    def __str__(self) -> str:
        if not self.lines:
            return f"remove the block of {self.cluster.name} from {names.HOSTS_FILE}"
        return f"write {len(self.lines)} names of {self.cluster.name} into {names.HOSTS_FILE}"


@dataclass(frozen=True)
class WriteLedger:
    """Written before the network is touched, so that whatever happens then can be undone."""

    cluster: ClusterId
    ledger: Ledger

    def __str__(self) -> str:
        return f"record the network of {self.cluster.name} in {self.cluster.ledger}"


@dataclass(frozen=True)
class MakeBridge:
    device: str

    def __str__(self) -> str:
        return f"make bridge {self.device}"


@dataclass(frozen=True)
class RemoveBridge:
    device: str

    def __str__(self) -> str:
        return f"remove bridge {self.device}"


@dataclass(frozen=True)
class ChangeAddresses:
    device: str
    add: tuple[Address, ...]
    remove: tuple[Address, ...]

    def __str__(self) -> str:
        parts = [f"{verb} {len(what)} ({what[0]}, ...)" if len(what) > 1 else f"{verb} {what[0]}"
                 for verb, what in (("add", self.add), ("remove", self.remove)) if what]  # fmt: skip
        return f"addresses of {self.device}: {', '.join(parts)}"


@dataclass(frozen=True)
class ChangeRoute:
    network: Network
    present: bool

    def __str__(self) -> str:
        return f"{'add' if self.present else 'remove'} route: unreachable {self.network}"


@dataclass(frozen=True)
class StopUnits:
    """Units, and slices which systemd would keep; none of them is to be loaded any more."""

    units: tuple[str, ...]
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return f"stop {', '.join(self.units)}"


@dataclass(frozen=True)
class ReloadSystemd:
    def __str__(self) -> str:
        return "systemctl daemon-reload"


@dataclass(frozen=True)
class ReloadSshd:
    cluster: ClusterId

    def __str__(self) -> str:
        return f"reload {self.cluster.sshd_service}"


Step: TypeAlias = (
    MakeDirectories | WriteFile | Remove | Discard | RemoveEmpty | Link | MakeKey | SetHosts | WriteLedger
    | MakeBridge | RemoveBridge | ChangeAddresses | ChangeRoute | StopUnits | ReloadSystemd | ReloadSshd
    | ShowHardware | SetDisk | Unmount | AttachVolumes | DetachVolumes
)  # fmt: skip
