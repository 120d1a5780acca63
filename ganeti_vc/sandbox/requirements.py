# SPDX-License-Identifier: BSD-2-Clause
"""What an unprivileged sandbox needs of the machine, and the command that provides each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ganeti_vc.base import kernel
from ganeti_vc.model.feature import Feature
from ganeti_vc.sandbox import container, owner, sandboxes

#: newuidmap and the users of Debian's packages: a sandbox maps 1 to 65535.
IDS = 65535
DISK = 1 << 29


Range = tuple[str, int, int]


def ranges(path: Path) -> list[Range]:
    """Return owner, first ID and number of IDs of each line of a file in the format of subuid(5)."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    words = [line.split(":") for line in lines]
    return [(w[0], int(w[1]), int(w[2])) for w in words if len(w) == 3 and w[1].isdecimal() and w[2].isdecimal()]


def subordinate(ranges: Sequence[Range], user: str, uid: int) -> int:
    """Return the number of subordinate IDs that unshare(1) takes for a user: those of the user's first line."""
    return next((count for owner, _, count in ranges if owner in (user, str(uid))), 0)


def free(ranges: Sequence[Range]) -> int:
    """Return the first ID behind those of all users."""
    return max([100000, *(first + count for _, first, count in ranges)])


def _sysctl(name: str) -> int | None:
    """Return a parameter of the kernel; None where it has none of that name, or a user may not read it."""
    try:
        return kernel.number(Path("/proc/sys", name))
    except PermissionError:
        return None


def read() -> Iterator[Feature]:
    """Check everything that an unprivileged sandbox of this user needs."""
    user = owner.user_name()
    yield from _namespaces(user)
    yield from _delegation(user)
    yield from _files()


def _namespaces(user: str) -> Iterator[Feature]:
    allowed = _sysctl("kernel/unprivileged_userns_clone") != 0 and (_sysctl("user/max_user_namespaces") or 0) > 0
    yield Feature(
        "user-namespaces",
        "kernel: user namespaces",
        allowed,
        "sudo sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1",
    )
    yield Feature(
        "apparmor",
        "AppArmor: user namespaces",
        _sysctl("kernel/apparmor_restrict_unprivileged_userns") in (0, None),
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        words=("restricted", "allowed"),
    )
    yield Feature("uidmap", "program: newuidmap", shutil.which("newuidmap") is not None, "sudo apt-get install uidmap")
    for kind in ("uid", "gid"):
        taken = ranges(Path(f"/etc/sub{kind}"))
        first = free(taken)
        yield Feature(
            f"sub{kind}",
            f"/etc/sub{kind}: {IDS} IDs of {user}",
            subordinate(taken, user, os.getuid()) >= IDS,
            f"sudo usermod --add-sub{kind}s {first}-{first + IDS} {user}",
        )


def _delegation(user: str) -> Iterator[Feature]:
    try:
        delegated = container.group_is_ours(container.own_group())
    except container.ContainerError:
        delegated = False
    manager = owner.user_manager() is not None
    remedy = owner.delegation_remedy()
    yield Feature("delegation", "control group: yours, or a systemd of yours", delegated or manager, remedy)
    if manager:
        remedy = f"sudo loginctl enable-linger {user}"
        yield Feature("linger", "systemd: outlives log-out", owner.lingers(), remedy, optional=True)


def _files() -> Iterator[Feature]:
    directory = sandboxes.data_directory()
    while not os.path.exists(directory):
        directory = directory.parent
    yield Feature(
        "disk",
        f"disk: {directory}",
        shutil.disk_usage(directory).free >= DISK,
        "make room, or set XDG_DATA_HOME",
        words=("less than 0.5G free", "free"),
    )
    installed = all(Path(path).exists() for path in ("/usr/lib/ganeti/daemon-util", "/usr/lib/ganeti-vcluster/manager"))
    yield Feature(
        "packages",
        "packages: ganeti and ganeti-vcluster",
        installed,
        "sudo apt-get install ./ganeti-vcluster_*.deb; or a Debian of its own: "
        "gnt-vcluster sandbox start --suite bookworm --deb FILE",
        optional=shutil.which("mmdebstrap") is not None,
    )
