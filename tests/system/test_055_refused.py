# SPDX-License-Identifier: BSD-2-Clause
"""What the machine is in the way with: seen before anything is made, in one line; and what is gone later is seen, too."""

from __future__ import annotations

import pytest

from tests.support.fingerprint import status
from tests.support.machine import Machine

UP = ("gnt-vcluster", "up", "--nodes", "2")


DENY = "echo 'ALL: ALL' >/etc/hosts.deny && echo 'sshd: 10.0.0.0/8' >/etc/hosts.allow"
PROXY = "printf '# ours\\nHost *\\n  User deploy\\n  ProxyJump bastion.example.com\\n'"
#: What is in the way: how it comes, what the line names, and how it goes again.
IN_THE_WAY = {
    "no include": (
        "cp /etc/ssh/ssh_config /root/ && sed -i 's/^Include/#&/' /etc/ssh/ssh_config",
        ("/etc/ssh/ssh_config ", "first line: Include /etc/ssh/ssh_config.d/*.conf"),
        "cp /root/ssh_config /etc/ssh/",
    ),
    "a proxy of the site": (
        f"{PROXY} >/etc/ssh/ssh_config.d/00-site.conf",
        ("/etc/ssh/ssh_config.d/00-site.conf, line 4", "ProxyJump bastion.example.com", "Host * !node1"),
        "rm /etc/ssh/ssh_config.d/00-site.conf",
    ),
    "a proxy of root": (
        f"mkdir -p /root/.ssh && {PROXY} >/root/.ssh/config",
        ("/root/.ssh/config, line 4", "ProxyJump bastion.example.com"),
        "rm /root/.ssh/config",
    ),
    "hosts.deny": (
        DENY,
        ("/etc/hosts.deny", "192.0.2.10", "add to /etc/hosts.allow: sshd: 192.0.2.0/24"),
        "rm /etc/hosts.deny /etc/hosts.allow",
    ),
    "nologin": ("usermod -s /usr/sbin/nologin root", ("/usr/sbin/nologin", "usermod -s"), "usermod -s /bin/bash root"),
    "a missing shell": (
        "usermod -s /usr/bin/missing root",
        ("/usr/bin/missing", "usermod -s /bin/bash root"),
        "usermod -s /bin/bash root",
    ),
    "no hosts file": ("mv /etc/hosts /root/hosts", ("no /etc/hosts", "echo"), "mv /root/hosts /etc/hosts"),
    "capital letters": (
        "cp /etc/hosts /root/hosts && echo '10.20.30.41 NODE2' >>/etc/hosts",
        ("node2 stands in /etc/hosts, line ", "10.20.30.41"),
        "cp /root/hosts /etc/hosts",
    ),
    "a nameserver": (
        "cp /etc/resolv.conf /root/; echo 'nameserver 192.0.2.53' >>/etc/resolv.conf",
        ("192.0.2.53, a nameserver in /etc/resolv.conf", "--network"),
        "cp /root/resolv.conf /etc/resolv.conf || rm /etc/resolv.conf",
    ),
}


#: What a cluster would be seen in.
PLACES = """
ls -A -I .lock /etc/ganeti-vcluster /var/lib/ganeti-vcluster /run/ganeti-vcluster /etc/systemd/system /etc/ssh/ssh_config.d 2>&1
ip -o addr; ip route; cat /etc/hosts
"""


def refused(machine: Machine, *argv: str) -> str:
    """Run a command that must fail with one line, and return that line."""
    done = machine.run(*argv, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == "", done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_it_is_refused_before_anything_is_made(machine: Machine, case: str) -> None:
    change, named, back = IN_THE_WAY[case]
    machine.sh(change)
    before = machine.sh(PLACES, check=False).stdout
    try:
        # What a chosen network does, another one would not.
        lines = [
            refused(machine, *UP, *more)
            for more in (("--network", "192.0.2.0/24"), ("--network", "192.0.2.0/24", "--dry-run"))
        ]
        machine.put("/etc/ganeti-vcluster/default.conf", "[cluster]\nnodes = 2\n")
        lines += [refused(machine, "gnt-vcluster", "up"), machine.run("gnt-vcluster", "doctor", check=False).stdout]
        machine.sh("rm /etc/ganeti-vcluster/default.conf")
        assert machine.sh(PLACES, check=False).stdout == before
    finally:
        machine.sh(f"{back}; rm -f /etc/ganeti-vcluster/default.conf")
    for line in lines:
        assert [words for words in named if words not in line] == []


def test_wider_routes_and_public_networks_are_taken(machine: Machine) -> None:
    """As OpenVPN sets them in place of a default route; a network of others is somebody's mistake."""
    machine.sh("ip link add tun9 type bridge && ip link set tun9 up && ip addr add 10.99.0.2/32 dev tun9")
    machine.sh("for route in 0.0.0.0/1 128.0.0.0/1 10.0.0.0/8; do ip route add $route dev tun9; done")
    try:
        for network in ("192.0.2.0/24", "10.77.0.0/24"):
            done = machine.run("gnt-vcluster", "create", "--dry-run", "--network", network)
            assert done.stderr == ""
        done = machine.run("gnt-vcluster", "create", "--dry-run", "--network", "8.8.8.0/24")
        assert done.stderr.count("\n") == 1 and "8.8.8.0/24 has public addresses" in done.stderr
        machine.sh("ip route add 10.77.0.128/25 dev tun9")
        assert "10.77.0.128/25" in refused(machine, *UP, "--network", "10.77.0.0/24")
    finally:
        machine.sh("ip link del tun9")


@pytest.fixture(scope="module")
def two_nodes(machine: Machine) -> Machine:
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


def test_what_starts_at_boot_is_the_administrators(two_nodes: Machine) -> None:
    two_nodes.sh("systemctl disable ganeti-vcluster.target && systemctl reload ganeti-vcluster")
    two_nodes.run(*UP)
    assert two_nodes.run("systemctl", "is-enabled", "ganeti-vcluster.target", check=False).stdout == "disabled\n"
    two_nodes.run("systemctl", "enable", "ganeti-vcluster.target")
    assert two_nodes.run("systemctl", "is-enabled", "ganeti-vcluster.target").stdout == "enabled\n"
    for unit in ("ganeti-vcluster.target", "ganeti-vnode@node2.target"):
        two_nodes.run("systemctl", "mask", "--runtime", unit)
        try:
            assert f"{unit} is masked (systemctl unmask" in refused(two_nodes, *UP)
        finally:
            two_nodes.run("systemctl", "unmask", "--runtime", unit)


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


def test_the_configuration_of_an_older_ganeti(two_nodes: Machine) -> None:
    """As after an upgrade of the machine's Debian: Ganeti reads it, and `up` says how to upgrade it."""
    config = "/var/lib/ganeti-vcluster/default/node1/var/lib/ganeti/config.data"
    installed = two_nodes.sh("basename $(readlink -f /usr/share/ganeti/default)").stdout.strip()
    assert "to upgrade it" not in two_nodes.run(*UP).stderr
    two_nodes.sh(f'gnt-vcluster stop && sed -i --follow-symlinks \'s/"version": *3[0-9]*/"version":2160000/\' {config}')
    two_nodes.sh(f"chown gnt-masterd:gnt-confd {config}")
    line = next(line for line in two_nodes.run(*UP).stderr.splitlines() if "to upgrade it: " in line)
    assert "of Ganeti 2.16" in line
    assert line.endswith(f": gnt-vcluster exec -c default master -- gnt-cluster upgrade --to={installed}")
