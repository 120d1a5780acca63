# SPDX-License-Identifier: BSD-2-Clause
"""Sandboxes: private systems for clusters, for users who are not root, and where PID 1 is not systemd.

A sandbox has the same units, the same manager and the same commands as a machine. All of its files are in one directory
below the user's data directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.sandbox.container import BootSpec

DEFAULT = "default"
#: Seconds its owner gives a sandbox to end.
STOP_TIMEOUT = 120

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def data_directory() -> Path:
    """Return the directory of the sandboxes (XDG Base Directory Specification)."""
    return _base("XDG_DATA_HOME", ".local/share") / "ganeti-vcluster"


def cache_directory() -> Path:
    """Return the directory of their Debian trees."""
    return _base("XDG_CACHE_HOME", ".cache") / "ganeti-vcluster"


def _base(variable: str, otherwise: str) -> Path:
    """Return the directory that a variable names; the specification says to ignore relative ones."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / otherwise


@dataclass(frozen=True, order=True)
class Sandbox:
    """A sandbox of this user, whether it exists or not. Raises UsageError for a bad name."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} cannot name a sandbox", "use lower-case letters, digits and -, at most 32")

    @property
    def directory(self) -> Path:
        return data_directory() / self.name

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def settings(self) -> Path:
        """The file that says what it is made of; it is written last, when the sandbox can be started."""
        return self.directory / "settings.json"

    @property
    def exists(self) -> bool:
        return self.settings.exists()

    @property
    def base(self) -> Path | None:
        """The Debian tree below its own changes; None: the machine's /usr. Raises VclusterError when that is not known."""
        try:
            base = json.loads(self.settings.read_text())["base"]
            if not isinstance(base, str):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise VclusterError(
                f"{self.settings} is damaged",
                'write {"schema": 1, "base": ""} into it, where base names the sandbox\'s own Debian, if it has one',
            ) from None
        return Path(base) if base else None

    def boot_spec(self) -> BootSpec:
        """Return what its owner boots."""
        return BootSpec(f"sandbox-{self.name}", self.directory, self.base)

    def check_exists(self) -> None:
        """Raise VclusterError if it does not exist."""
        if not self.exists:
            raise VclusterError(
                f"there is no sandbox {self.name}",
                f"gnt-vcluster sandbox status lists the existing ones, gnt-vcluster sandbox start {self.name} makes it",
            )

    @property
    def is_owned(self) -> bool:
        """Whether a process owns it, so that it runs, starts or stops."""
        try:
            with open(self.lock) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def record(self, fd: int, leader: int) -> None:
        """Write the owner's pid, and that of the PID 1 inside, into the lock's file. For its owner only."""
        os.pwrite(fd, f"{os.getpid():<10} {leader:<10}\n".encode(), 0)

    def _recorded(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, ValueError):
            owner_unit, leader = map(int, self.lock.read_text().split())
            if self.is_owned:
                return owner_unit, leader
        return 0, 0

    @property
    def owner_pid(self) -> int:
        """The pid of the process that owns it; 0 without one."""
        return self._recorded()[0]

    @property
    def leader(self) -> int:
        """The pid of its PID 1, as seen from here; 0 when it is not booted."""
        return self._recorded()[1]


def all_sandboxes() -> list[Sandbox]:
    """Return all existing sandboxes."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            Sandbox(path.name)
            for path in data_directory().iterdir()
            if _NAME.fullmatch(path.name) and Sandbox(path.name).exists
        )
    return []


# -- the user's manager --


# -- life --
