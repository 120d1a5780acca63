# SPDX-License-Identifier: BSD-2-Clause
"""What goes wrong: bad input, interruptions, a full disk, Ganeti missing. One clear line, nothing lost.

Killed daemons and half-started clusters are in test_040_power.py, killed snapshots in test_080_snapshot.py.
"""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support import fingerprint as fingerprint_of
from tests.support.fingerprint import CANDIDATE, MASTER, daemons, difference, fingerprint, status, verify_errors
from tests.support.machine import Machine

#: As small as a cluster can be: it is made often here.
UP_AND_VERIFY = ("gnt-vcluster", "up", "--nodes", "2")
UP = (*UP_AND_VERIFY, "--no-verify")  # healthy() verifies
ALL_UP = {"node1": MASTER, "node2": CANDIDATE}
CONF = "/etc/ganeti-vcluster/default.conf"
DATA = "/var/lib/ganeti-vcluster/default"


def refused(machine: Machine, *argv: str) -> str:
    return fingerprint_of.refused(machine, *argv, statuses=(1, 2))


def healthy(machine: Machine) -> None:
    assert daemons(machine) == ALL_UP
    assert verify_errors(machine) == []


BAD_OPTIONS = {
    "a network that is none": (("--network", "192.0.2.0/99"), "192.0.2.0/99"),
    "a network of the machine": (("--network", "127.0.0.0/24"), "127"),
    "a network that is too small": (("--network", "198.51.100.0/30"), "198.51.100.0/30"),
    "no nodes": (("--nodes", "0"), "nodes"),
    "too many nodes for the network": (("--nodes", "300", "--network", "198.51.100.0/24"), "198.51.100.0/24"),
    "a domain that is none": (("--domain", "no_domain!"), "no_domain!"),
    "names that are too long": (("--domain", f"{'a' * 60}.{'b' * 60}"), "71"),
    "a cluster's name that is none": (("Nonsense!",), "Nonsense!"),
    "a cluster that would be called as a node": (("node2", "--domain", ""), "node2"),
    "a number that is none": (("--nodes", "²"), "whole number"),
    "more instances than names": (("--instances", "300", "--network", "198.51.100.0/24"), "198.51.100.0/24"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_up_refuses(machine: Machine, untouched: str, case: str) -> None:
    argv, named = BAD_OPTIONS[case]
    assert named in refused(machine, "gnt-vcluster", "up", *argv)
    assert CONF not in refused(machine, "gnt-vcluster", "up", "--dry-run", *argv), "there is no such file"
    assert difference(untouched, fingerprint(machine)) == []


def test_up_refuses_a_network_that_is_in_use_and_takes_another_by_itself(machine: Machine, untouched: str) -> None:
    machine.sh("ip addr add 192.0.2.77/24 dev lo")
    try:
        assert "192.0.2.77" in refused(machine, "gnt-vcluster", "up", "--network", "192.0.2.0/24")
        machine.run("gnt-vcluster", "up", "--nodes", "2")
        assert machine.sh(f"grep ^network {CONF}").stdout == "network = 198.51.100.0/24\n"
        machine.run("gnt-vcluster", "destroy", "--yes")
    finally:
        machine.sh("ip addr del 192.0.2.77/24 dev lo")
    assert difference(untouched, fingerprint(machine)) == []


def test_a_network_that_is_taken_later(machine: Machine, untouched: str) -> None:
    machine.run("gnt-vcluster", "create", "--nodes", "2")
    machine.sh("ip addr add 192.0.2.77/24 dev lo")
    try:
        assert "192.0.2.77" in refused(machine, "gnt-vcluster", "up")
    finally:
        machine.sh("ip addr del 192.0.2.77/24 dev lo")
    machine.run(*UP)
    healthy(machine)
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_without_root_and_without_what_a_sandbox_needs(machine: Machine, untouched: str) -> None:
    done = machine.sh("setpriv --reuid=65534 --clear-groups gnt-vcluster up", check=False)
    said, error = done.stderr.splitlines()
    assert (
        done.returncode == 1
        and said.startswith("you are not root")
        and "65535 IDs of nobody: missing (sudo usermod" in error
    )
    assert difference(untouched, fingerprint(machine)) == []


def test_without_ganeti(machine: Machine, untouched: str) -> None:
    machine.sh("mv /usr/lib/ganeti /usr/lib/ganeti.away")
    try:
        assert "apt-get install ganeti" in refused(machine, "gnt-vcluster", "up")
    finally:
        machine.sh("mv /usr/lib/ganeti.away /usr/lib/ganeti")
    assert difference(untouched, fingerprint(machine)) == []


BAD_FILES = {
    "an unknown key": ("s/^nodes = .*/nodos = 3/", "nodos"),
    "a bad value": ("s/^nodes = .*/nodes = many/", "many"),
    "an unknown section": (r"s/^\[cluster\]/[clusters]/", "clusters"),
    "a line that is none": ("s/^nodes = .*/nonsense/", "nonsense"),
    "an unknown disk template": ("s/.*enabled_disk_templates = .*/enabled_disk_templates = nonsense/", "nonsense"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_configuration_file(machine: Machine, untouched: str, case: str) -> None:
    edit, named = BAD_FILES[case]
    machine.run("gnt-vcluster", "create", "--nodes", "2")
    before = fingerprint(machine)
    machine.sh(f"sed -i '{edit}' {CONF}")
    line = refused(machine, "gnt-vcluster", "up")
    assert named in line and CONF in line
    assert difference(before, fingerprint(machine)) == []
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_a_cluster_that_does_not_exist(machine: Machine, untouched: str) -> None:
    for command in (("destroy", "nosuch"), ("destroy", "nosuch", "--dry-run"), ("status", "nosuch"), ("stop", "nosuch"),
                    ("scale", "nosuch", "--nodes", "3")):  # fmt: skip
        assert "nosuch" in refused(machine, "gnt-vcluster", *command)
    assert difference(untouched, fingerprint(machine)) == []


def test_an_output_that_cannot_be_written(machine: Machine) -> None:
    closed = machine.sh("gnt-vcluster list | true; echo ${PIPESTATUS[0]}")
    assert closed.stderr == "" and closed.stdout in ("0\n", "141\n")
    full = machine.sh("gnt-vcluster list >/dev/full", check=False)
    assert full.returncode == 1 and full.stderr == "gnt-vcluster: [Errno 28] No space left on device\n"


def test_a_full_disk(machine: Machine, untouched: str) -> None:
    machine.sh("mount -t tmpfs -o size=1M,mode=755 tmpfs /var/lib/ganeti-vcluster")
    try:
        assert "19 MiB are needed" in refused(machine, "gnt-vcluster", "up")
        machine.sh("mount -o remount,size=30M /var/lib/ganeti-vcluster")
        # Ganeti hangs when the disk is full in the middle; a user who loses patience goes on later.
        process = machine.popen(*UP)
        machine.wait_for(POINTS["gnt-cluster init has begun"])
        machine.sh("cat /dev/zero >/var/lib/ganeti-vcluster/filler", check=False)
        machine.run("pkill", "-INT", "-f", "gnt-vcluster up", check=False)
        process.communicate(timeout=120)
        machine.run("rm", "/var/lib/ganeti-vcluster/filler")
        machine.run(*UP)
        healthy(machine)
        machine.run("gnt-vcluster", "destroy", "--yes")
    finally:
        machine.sh("umount /var/lib/ganeti-vcluster")
    assert difference(untouched, fingerprint(machine)) == []


def test_a_broken_block_in_etc_hosts_is_mended_and_foreign_lines_stay(machine: Machine) -> None:
    machine.run(*UP)
    machine.sh("sed -i '/node2/d' /etc/hosts && echo '10.9.8.7 mine' >>/etc/hosts")
    machine.run(*UP)
    assert machine.sh("grep -c 'node2$' /etc/hosts; tail -n 1 /etc/hosts").stdout == "1\n10.9.8.7 mine\n"
    machine.sh("sed -i '/10.9.8.7 mine/d' /etc/hosts")
    healthy(machine)


LIVE_CHANGES = {
    "network": "s#^network = .*#network = 10.77.0.0/24#",
    "ssh_port": "s/^ssh_port = .*/ssh_port = 1900/",
    "nodes": "s/^nodes = .*/nodes = 1/",
    "domain": "s/.*domain =.*/domain = other.example/",
}


@pytest.mark.parametrize("key", LIVE_CHANGES)
def test_what_ganeti_has_recorded_is_not_changed_below_it(machine: Machine, key: str) -> None:
    machine.run(*UP)
    machine.sh(f"cp {CONF} /root/ && sed -i '{LIVE_CHANGES[key]}' {CONF}")
    assert machine.run("systemctl", "reload", "ganeti-vcluster", check=False).returncode != 0
    assert f"[cluster] {key}: " in refused(machine, "gnt-vcluster", "up")
    machine.sh(f"cp /root/default.conf {CONF} && systemctl reload ganeti-vcluster")
    assert daemons(machine) == ALL_UP


def test_a_bad_file_in_any_letters_is_reported_and_the_manager_goes_on(machine: Machine) -> None:
    machine.run(*UP)
    machine.sh(f"cp {CONF} /root/ && printf 'domain “x”\n' >>{CONF}")
    assert machine.run("systemctl", "reload", "ganeti-vcluster", check=False).returncode != 0
    machine.sh(f"cp /root/default.conf {CONF}")
    machine.run("systemctl", "reload", "ganeti-vcluster")
    assert daemons(machine) == ALL_UP


def test_a_cluster_whose_file_cannot_be_read_can_be_stopped(machine: Machine) -> None:
    machine.run(*UP)
    machine.sh(f"cp {CONF} /root/ && echo nonsense >>{CONF}")
    machine.run("gnt-vcluster", "stop", "node2")
    machine.run("gnt-vcluster", "stop")
    assert machine.sh("pgrep -af 'sbin/ganeti-|^ganeti-'", check=False).stdout == ""
    assert "nonsense" in refused(machine, "gnt-vcluster", "start")
    machine.sh(f"cp /root/default.conf {CONF}")
    machine.run("gnt-vcluster", "start")
    healthy(machine)


def test_a_file_that_was_renamed(machine: Machine, untouched: str) -> None:
    """The cluster of the old name stops and keeps its data, which `list` shows; the new one is a new one."""
    machine.run(*UP)
    machine.sh(f"mv {CONF} /etc/ganeti-vcluster/other.conf && touch /etc/ganeti-vcluster/no_name.conf")
    assert "systemctl reload" in refused(machine, "gnt-vcluster", "up", "other", "--dry-run")
    assert machine.run("systemctl", "reload", "ganeti-vcluster", check=False).returncode != 0, "no_name is none"
    machine.run(*UP, "other")
    assert daemons(machine, "other") == ALL_UP
    listing = machine.run("gnt-vcluster", "list", "-o", "cluster,state", "--no-headers", "--separator=:")
    assert listing.stdout == "other:running\nno_name:invalid\ndefault:undeclared\n"
    assert len(listing.stderr.splitlines()) == 2 and "gnt-vcluster destroy default" in listing.stderr
    machine.sh("rm /etc/ganeti-vcluster/no_name.conf")
    machine.run("gnt-vcluster", "destroy", "other", "--yes")
    machine.run("gnt-vcluster", "destroy", "default", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_a_bridge_that_was_removed_comes_back_with_all_addresses(machine: Machine) -> None:
    machine.run(*UP)
    machine.sh("ip link del gnt-default")
    seen = status(machine)
    assert seen["state"] == "degraded" and all("address" in node["missing"] for node in seen["nodes"])
    machine.run(*UP)
    healthy(machine)


def test_where_the_old_cluster_was(machine: Machine) -> None:
    """People stand in a cluster's directory, and make it again."""
    machine.run(*UP)
    machine.sh(
        f"cd {DATA} && gnt-vcluster destroy --yes && {' '.join(UP)} && gnt-vcluster exec master -- gnt-node list"
    )
    healthy(machine)


def test_two_at_once(machine: Machine, untouched: str) -> None:
    machine.run("gnt-vcluster", "destroy", "--yes")
    both = [machine.popen(*UP) for _ in range(2)]
    outs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    healthy(machine)
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


#: Conditions that come true one after the other while `up` works.
POINTS = {
    "the configuration is written": f"test -e {CONF}",
    "the first directory is there": f"test -e {DATA}/node1",
    "the bridge is there": "test -e /sys/class/net/gnt-default",
    "the manager runs": "systemctl is-active ganeti-vcluster",
    "gnt-cluster init has begun": f"test -e {DATA}/node1/var/lib/ganeti/server.pem",
    "gnt-cluster init has written": f"test -e {DATA}/node1/var/lib/ganeti/config.data",
    "the master runs": "systemctl is-active ganeti-luxid@node1",
    "gnt-node add has begun": f"test -e {DATA}/node2/var/lib/ganeti/server.pem",
    "the last node is added": f"test -e {DATA}/node2/var/lib/ganeti/config.data",
}


def interrupt(machine: Machine, point: str, number: signal.Signals) -> str:
    """Send a signal to `gnt-vcluster up` once the point is reached; returns what it printed."""
    process = machine.popen(*UP_AND_VERIFY)
    machine.wait_for(POINTS[point])
    machine.run("pkill", f"-{number.name.removeprefix('SIG')}", "-f", "gnt-vcluster up", check=False)
    out: str = process.communicate(timeout=120)[0]
    assert process.returncode != 0, out
    return out


# Each point once, in turns with `up` (after either signal) and `destroy`: all of both takes too long.
@pytest.mark.parametrize(
    ("point", "number"),
    [(point, (signal.SIGKILL, signal.SIGINT)[at % 2]) for at, point in enumerate(list(POINTS)[::2])],
    ids=list(POINTS)[::2],
)
def test_up_interrupted_goes_on(machine: Machine, untouched: str, point: str, number: signal.Signals) -> None:
    out = interrupt(machine, point, number)
    assert "Traceback" not in out
    machine.run(*UP)
    healthy(machine)
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


@pytest.mark.parametrize("point", list(POINTS)[1::2])
def test_destroy_cleans_after_an_interruption(machine: Machine, untouched: str, point: str) -> None:
    interrupt(machine, point, signal.SIGKILL)
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_the_manager_outlives_who_asks(machine: Machine) -> None:
    machine.run(*UP)
    ask = """
import socket, sys
for word in (b"reload", b"", b"nonsense"):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("/run/ganeti-vcluster/manager.socket")
        sock.sendall(word)
"""
    before = machine.sh("systemctl show -P MainPID -P NRestarts ganeti-vcluster").stdout
    machine.run("python3", "-c", ask)
    machine.run("systemctl", "reload", "ganeti-vcluster")  # answered after those
    assert machine.sh("systemctl show -P MainPID -P NRestarts ganeti-vcluster").stdout == before


def test_the_watchdog_does_not_end_a_long_update(machine: Machine) -> None:
    """As of many nodes on a busy machine: here somebody holds the manager's lock for longer than the watchdog's time."""
    machine.run(*UP)
    drop_in = "/run/systemd/system/ganeti-vcluster.service.d"
    machine.sh(
        f"mkdir {drop_in} && printf '[Service]\nWatchdogSec=1\n' >{drop_in}/watchdog.conf && systemctl daemon-reload"
    )
    machine.run("systemctl", "restart", "ganeti-vcluster.target")
    machine.sh("flock /var/lib/ganeti-vcluster/.lock sh -c 'touch /run/held; exec sleep 3' & until [ -e /run/held ]; do :; done; "
               "systemctl reload ganeti-vcluster && wait")  # fmt: skip
    assert machine.run("systemctl", "show", "-P", "NRestarts", "ganeti-vcluster").stdout == "0\n"
    machine.sh(f"rm -r {drop_in} /run/held && systemctl daemon-reload && systemctl restart ganeti-vcluster.target")


def test_destroy_while_the_manager_is_dead(machine: Machine, untouched: str) -> None:
    machine.run(*UP)
    machine.sh("systemctl kill -s KILL --kill-whom=main ganeti-vcluster && gnt-vcluster destroy --yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_destroy_while_the_manager_reloads(machine: Machine, untouched: str) -> None:
    """It waits for the lock then, and finds the configuration, which goes last."""
    machine.run(*UP)
    machine.sh(f"gnt-vcluster destroy --yes & while [ -e {DATA}/node1/var/run/ganeti/socket/ganeti-query ]; do :; done;"
               "systemctl kill -s HUP --kill-whom=main ganeti-vcluster; wait $!")  # fmt: skip
    assert difference(untouched, fingerprint(machine)) == []


def test_destroy_interrupted_goes_on(machine: Machine, untouched: str) -> None:
    for condition in (f"test ! -e {DATA}/node1/var/run/ganeti/socket/ganeti-query", f"test ! -e {DATA}"):
        machine.run(*UP)
        process = machine.popen("gnt-vcluster", "destroy", "--yes")
        machine.wait_for(condition)
        machine.run("pkill", "-KILL", "-f", "gnt-vcluster destroy", check=False)
        process.communicate(timeout=60)
        again = machine.run("gnt-vcluster", "destroy", "--yes", check=False)
        # The first one may have come to its end before it was killed.
        assert again.returncode == 0 or "there is no cluster" in again.stderr
        assert difference(untouched, fingerprint(machine)) == []


def test_ctrl_c_on_a_terminal_says_what_to_do(machine: Machine) -> None:
    """The signal goes to the whole process group, Ganeti's commands included."""
    process = subprocess.Popen(
        machine.enter(["script", "-qec", " ".join(UP), "/dev/null"]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    machine.wait_for(POINTS["gnt-cluster init has begun"])
    assert process.stdin
    process.stdin.write("\x03")
    process.stdin.flush()
    out = process.communicate(timeout=60)[0]
    assert process.returncode != 0 and "Traceback" not in out and "interrupted" in out
    machine.run(*UP)
    healthy(machine)
