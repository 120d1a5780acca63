# SPDX-License-Identifier: BSD-2-Clause
"""What /proc says; and locks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganeti_vc.base import kernel, locks
from ganeti_vc.base.errors import VclusterError


def test_where_something_is_mounted() -> None:
    assert kernel.mount_of("proc") == "/proc"
    assert kernel.mount_of("proc", "rw") in ("/proc", None) and kernel.mount_of("proc", "nosuchoption") is None
    assert kernel.mount_of("nosuchfs") is None


def test_numbers_of_the_kernel(tmp_path: Path) -> None:
    pid_max = kernel.number(Path("/proc/sys/kernel/pid_max"))
    assert pid_max and pid_max > 300
    assert kernel.number(tmp_path / "none") is None and kernel.number(Path("/proc/self/status/none")) is None


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with locks.try_lock(tmp_path) as first, locks.try_lock(tmp_path) as second:
        assert first and not second
    with locks.lock(tmp_path), locks.try_lock(locks.lock_file(tmp_path)) as other:
        assert not other
        assert locks.lock_file(tmp_path).stat().st_mode & 0o777 == 0o600
    with pytest.raises(VclusterError, match="reinstall"), locks.lock(tmp_path / "none"):
        pass


def test_what_is_mounted_below_a_directory(tmp_path: Path) -> None:
    assert kernel.mounts_at(tmp_path) == []
    below = kernel.mounts_at(Path("/"))
    assert Path("/proc") in below and below[-1] == Path("/"), "the innermost first"
    assert kernel.mounts_at(Path("/pro")) == []
