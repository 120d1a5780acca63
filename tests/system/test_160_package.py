# SPDX-License-Identifier: BSD-2-Clause
"""The package: its autopkgtest, an upgrade from the previous release with a cluster up, removal and purge.

What piuparts does, on a machine whose systemd runs, so that there is something to stop. `make piuparts` runs piuparts itself.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.fingerprint import difference, fingerprint, on_master, status, verify_errors
from tests.support.machine import Machine

#: The commit of the release before this one.
PREVIOUS = "523a41c"
#: All files, but for logs, caches, and what dpkg and apt know.
FILES = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /var/log -o -path /var/cache \
    -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/tmp -o -path /var/backups \) -prune \
    -o -type d -printf '%p %y %m %u %g\n' -o -printf '%p %y %m %u %g %s %l\n' | sort
"""
PIDS = "systemctl show -P MainPID ganeti-noded@node1 ganeti-noded@node2 ganeti-luxid@node1 ganeti-rapi@node1"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the previous release, built from its commit."""
    place = tmp_path_factory.mktemp("previous")
    (place / "source").mkdir()
    known = subprocess.run(["git", "-C", ROOT, "cat-file", "-e", PREVIOUS], capture_output=True)
    if known.returncode:
        pytest.skip(f"no history with {PREVIOUS} here")
    archive = subprocess.run(["git", "-C", ROOT, "archive", PREVIOUS], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", place / "source", "-x"], input=archive, check=True)
    subprocess.run(["dpkg-buildpackage", "-b", "-us", "-uc"], cwd=place / "source", check=True, capture_output=True)
    (built,) = place.glob("*.deb")
    return Path(shutil.move(built, place / f"previous_{built.name}"))


@pytest.fixture(scope="module")
def before(bare: Machine) -> tuple[str, str]:
    """The machine without the package."""
    bare.sh("systemctl stop cron", check=False)  # Debian's ganeti has a job that writes to its directories
    return bare.sh(FILES).stdout, fingerprint(bare)


def assert_as(before: tuple[str, str], machine: Machine) -> None:
    files, others = before
    assert difference(files, machine.sh(FILES).stdout) == []
    assert difference(others, fingerprint(machine)) == []


def test_autopkgtest(bare: Machine, before: tuple[str, str], deb: Path) -> None:
    bare.install(deb)
    bare.put("/root/cluster", (ROOT / "debian/tests/cluster").read_text(), 0o755)
    bare.run("/root/cluster")
    assert_as(before, bare)


def test_an_upgrade_leaves_the_cluster_running(
    bare: Machine, before: tuple[str, str], previous: Path, deb: Path
) -> None:
    bare.install(previous)
    bare.run("gnt-vcluster", "up", "--nodes", "2", "--no-verify")
    pids = bare.sh(PIDS).stdout
    manager = bare.sh("systemctl show -P MainPID ganeti-vcluster").stdout
    # Under dpkg, as the version may still be that of the previous release.
    bare.push(deb, "/root/new.deb")
    bare.sh("dpkg -i /root/new.deb")
    bare.wait_for(
        f'pid=$(systemctl show -P MainPID ganeti-vcluster); [ "$pid" != 0 ] && [ "$pid" != {manager.strip()} ]'
    )
    bare.sh("systemctl reload ganeti-vcluster")
    assert bare.sh(PIDS).stdout == pids
    assert status(bare)["state"] == "running" and verify_errors(bare) == []
    assert on_master(bare, "gnt-node", "list", "--no-headers", "-o", "name").split() == ["node1", "node2"]
    bare.sh("systemctl restart ganeti-vcluster.target && gnt-vcluster scale --nodes 3")
    assert status(bare)["state"] == "running"


def test_removal_keeps_the_data_and_purge_leaves_nothing(bare: Machine, before: tuple[str, str]) -> None:
    data = "/var/lib/ganeti-vcluster/default/node1/var/lib/ganeti/config.data"
    bare.sh("apt-get remove -y ganeti-vcluster")
    assert (
        bare.sh(
            f"test -s {data} && pgrep -af 'sbin/[g]aneti-|[s]shd-listen'; ip -o link show | grep ' gnt-'", check=False
        ).stdout
        == ""
    )
    bare.sh(f"test -s {data} && test -s /etc/ganeti-vcluster/default.conf")
    bare.sh("apt-get purge -y ganeti-vcluster")
    assert_as(before, bare)
