# SPDX-License-Identifier: BSD-2-Clause
"""What the machine is in the way with: seen before anything is made, in one line; and what is gone later is seen, too."""

from __future__ import annotations

import pytest

from tests.support.fingerprint import fingerprint, status
from tests.support.machine import Machine

UP = ("gnt-vcluster", "up", "--nodes", "2")


@pytest.fixture(scope="module")
def untouched(machine: Machine) -> str:
    """What the machine looks like with the package and without a cluster."""
    return fingerprint(machine)


@pytest.fixture(scope="module")
def two_nodes(machine: Machine, untouched: str) -> Machine:
    """A machine with a cluster of two nodes."""
    machine.run(*UP)
    return machine


GONE = {
    "names": (
        "cp /etc/hosts /root/hosts && printf '127.0.0.1 localhost\\n' >/etc/hosts",
        "/etc/hosts",
        "cat /root/hosts >/etc/hosts",
    ),
    "route": ("ip route del unreachable 192.0.2.0/24", "192.0.2.0/24", "ip route add unreachable 192.0.2.0/24"),
    "address": ("ip addr del 192.0.2.11/32 dev gnt-default", "address", "ip addr add 192.0.2.11/32 dev gnt-default"),
    "ssh": (
        "mv /etc/ssh/ssh_config.d/ganeti-vcluster-default.conf /root/",
        "/etc/ssh/ssh_config.d/",
        "mv /root/ganeti-vcluster-default.conf /etc/ssh/ssh_config.d/",
    ),
}


@pytest.mark.parametrize("what", GONE)
def test_what_is_gone_around_the_nodes_is_seen(two_nodes: Machine, what: str) -> None:
    remove, named, put_back = GONE[what]
    two_nodes.sh(remove)
    try:
        shown = two_nodes.run("gnt-vcluster", "status", check=False)
        listed = two_nodes.run("gnt-vcluster", "list", "-o", "state", "--no-headers", check=False)
        doctor = two_nodes.run("gnt-vcluster", "doctor", check=False)
        seen = status(two_nodes)
    finally:
        two_nodes.sh(put_back)
    assert (shown.returncode, listed.stdout, doctor.returncode) == (1, "degraded\n", 1)
    for text in (shown.stderr, listed.stderr, doctor.stderr):
        assert "gnt-vcluster up default" in text and named in text
    assert seen["state"] == "degraded" and any(named in step for step in seen["up_would"])
    done = two_nodes.run("gnt-vcluster", "status")
    assert done.stderr == "" and status(two_nodes)["up_would"] == []
