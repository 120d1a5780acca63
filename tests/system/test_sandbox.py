# SPDX-License-Identifier: BSD-2-Clause
"""Clusters without root: a user of the machine, his sandboxes, and what the machine notices of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine

#: What a user may change of the machine, and what changes by itself.
LISTING = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log \
    -o -path '/home/*/.local/share/ganeti-vcluster' -o -path /root \) -prune -o -printf '%p %y %m %u %g %s %l\n' | sort
ip -o addr; ip -o link | sed 's/qlen.*//'; ip route show table all; cat /etc/hosts
"""


class User:
    """A user of the machine, logged in or not."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name
        self.id = int(machine.run("id", "-u", name).stdout)

    def argv(self, *argv: str) -> list[str]:
        return ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups", "--inh-caps=-all",
                "env", "-C", f"/home/{self.name}", f"HOME=/home/{self.name}", f"USER={self.name}", *argv]  # fmt: skip

    def run(self, *argv: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return self.machine.run(*self.argv(*argv), check=check, timeout=timeout)

    def vcluster(self, *argv: str, check: bool = True) -> str:
        done = self.run("gnt-vcluster", *argv, check=check)
        return done.stdout + ("" if check else done.stderr)

    def states(self) -> dict[str, str]:
        found = json.loads(self.vcluster("sandbox", "status", "--json"))["sandboxes"]
        return {one["sandbox"]: one["state"] for one in found}

    @property
    def data(self) -> str:
        return f"/home/{self.name}/.local/share/ganeti-vcluster"


@pytest.fixture(scope="module")
def machine(release: str, deb: Path) -> Iterator[Machine]:
    with Machine(release, nested=True) as booted:
        booted.install(deb)
        booted.sh("useradd -m one && useradd -m two && loginctl enable-linger one")
        booted.wait_for("test -S /run/user/$(id -u one)/systemd/private")
        yield booted


@pytest.fixture(scope="module")
def one(machine: Machine) -> User:
    return User(machine, "one")


@pytest.fixture(scope="module")
def listing(machine: Machine, one: User) -> str:
    one.run("mkdir", "-p", ".local/share")
    return machine.sh(LISTING).stdout


def test_up_as_a_user(one: User, listing: str) -> None:
    out = one.vcluster("up")
    assert "Cluster default is up: 3 nodes, master node1" in out
    assert one.vcluster("exec", "master", "--", "gnt-node", "list", "--no-headers", "-o", "name,role").split() == \
        ["node1", "M", "node2", "C", "node3", "C"]  # fmt: skip
    assert one.run("gnt-vcluster", "exec", "node2", "--", "sh", "-c", "exit 42", check=False).returncode == 42
    assert one.vcluster("logs", "node3", "-n", "3")
    assert one.states() == {"default": "running"}
