# SPDX-License-Identifier: BSD-2-Clause
"""Given a machine, what the doctor says of it comes true; what it raises is raised, and kept until the package is purged."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.machine import Machine

FILE = "/etc/sysctl.d/60-ganeti-vcluster.conf"
CONF = "/etc/ganeti-vcluster/default.conf"
#: A parameter that a network namespace has to itself, so that the real machine's stays as it is.
OWN = "net.core.somaxconn"
#: How much there really is of what the doctor says beforehand.
REAL = {
    "units": "systemctl show -P NNames",
    "streams": "ls /run/systemd/journal/streams | wc -l",
    "files-of-systemd": "ls /proc/1/fd | wc -l",
    "fs.inotify.max_user_instances": "find /proc/[0-9]*/fd -lname anon_inode:inotify -printf '%u\\n' | grep -c gnt-confd",
}


def examined(machine: Machine, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("gnt-vcluster", "doctor", "--json", *options, check=False).stdout)
    return found


def limits(machine: Machine, *options: str) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in examined(machine, *options)["limits"]}


def parameter(machine: Machine) -> int:
    return int(machine.run("sysctl", "-n", OWN).stdout)


def test_three_nodes_fit(machine: Machine) -> None:
    done = machine.run("gnt-vcluster", "doctor", "--nodes", "3")
    assert "fits here" in done.stderr and "too low" not in done.stdout
    document = examined(machine, "--nodes", "3")
    assert document["schema"] == 1 and document["fits"] and document["nodes"] == 3
    assert [row for row in document["features"] if row["state"] == "missing"] == []
    assert {"memory", "disk", "streams", "units", "rootdir"} <= {row["key"] for row in document["limits"]}


def test_too_many_nodes_are_refused_by_the_first_limit(machine: Machine) -> None:
    done = machine.run("gnt-vcluster", "doctor", "--nodes", "100000", check=False)
    document = examined(machine, "--nodes", "100000")
    first = next(row for row in document["limits"] if row["key"] == document["first"])
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and not document["fits"]
    assert error.startswith(f"gnt-vcluster: 100000 nodes do not fit: {first['what']}: ") and first["remedy"] in error
    # Memory may be the first, and what is free of it changes.
    assert machine.run("gnt-vcluster", "doctor", "--nodes", str(document["largest"] * 9 // 10)).returncode == 0
    assert not examined(machine, "--nodes", str(document["largest"] * 11 // 10 + 1))["fits"]


def test_without_a_cluster_it_says_how_many_fit(machine: Machine) -> None:
    document = examined(machine)
    assert document["fits"] and document["nodes"] > 50


def test_it_changes_nothing_by_looking(machine: Machine) -> None:
    loaded = "systemctl list-units --all --plain --no-legend 'ganeti-*' | wc -l; cat /proc/modules 2>/dev/null | wc -l; ip -o link | wc -l"
    before = machine.sh(loaded).stdout
    machine.run("gnt-vcluster", "doctor")
    machine.run("gnt-vcluster", "doctor", "--dry-run")
    assert machine.sh(loaded).stdout == before
    assert machine.run("test", "-e", FILE, check=False).returncode == 1


def test_a_port_that_is_taken_is_in_the_way(machine: Machine) -> None:
    listener = "import socket, time; s = socket.socket(); s.bind(('', 1815)); s.listen(); time.sleep(60)"
    process = machine.popen("python3", "-c", listener)
    machine.wait_for("ss -Hlnt | grep -q ':1815 '")
    done = machine.run("gnt-vcluster", "doctor", "--nodes", "3", check=False)
    assert done.returncode == 1 and "port 1815 (mond): taken" in done.stderr and "MOND_ARGS" in done.stderr
    machine.run("pkill", "-f", "[s]ocket.socket")
    process.communicate(timeout=20)


def test_a_cluster_that_cannot_be_is_in_the_way(machine: Machine) -> None:
    machine.run("gnt-vcluster", "create")
    machine.sh("cp /etc/hosts /root/hosts && echo '10.0.0.1 node2' >>/etc/hosts")
    done = machine.run("gnt-vcluster", "doctor", check=False)
    assert done.returncode == 1 and "cluster: default: refused" in done.stderr and "node2" in done.stderr
    machine.sh(f"cat /root/hosts >/etc/hosts && sed -i 's/^nodes = .*/nodes = no/' {CONF}")
    done = machine.run("gnt-vcluster", "doctor", check=False)
    assert done.returncode == 1 and "cluster: default: refused" in done.stderr and CONF in done.stderr
    machine.run("rm", CONF)


def test_fix_raises_what_is_too_low_and_keeps_it(machine: Machine) -> None:
    machine.run("sysctl", "-q", f"{OWN}=100")
    planned = machine.run("gnt-vcluster", "doctor", "--nodes", "3", "--dry-run").stdout
    assert planned == f"would set {OWN} from 100 to 1024\nwould write {FILE}\n" and parameter(machine) == 100
    done = machine.run("gnt-vcluster", "doctor", "--nodes", "3", "--fix")
    assert f"{OWN}: 100 -> 1024" in done.stderr and parameter(machine) == 1024
    text = machine.get(FILE)
    assert [line for line in text.splitlines() if not line.startswith("#")] == [f"{OWN} = 1024"]
    again = machine.run("gnt-vcluster", "doctor", "--nodes", "3", "--fix")
    assert "nothing to raise" in again.stderr and machine.get(FILE) == text
    machine.run("sysctl", "-q", f"{OWN}=100")
    machine.sh("systemctl restart systemd-sysctl")
    assert parameter(machine) == 1024


def test_nothing_is_lowered(machine: Machine) -> None:
    machine.run("sysctl", "-q", f"{OWN}=9999")
    machine.run("gnt-vcluster", "doctor", "--nodes", "3", "--fix")
    assert parameter(machine) == 9999


def test_what_cannot_be_raised_here_says_so(machine: Machine) -> None:
    """More candidates than a user may have instances of inotify."""
    if machine.run("test", "-w", "/proc/sys/fs/inotify/max_user_instances", check=False).returncode == 0:
        pytest.skip("it would change the real machine")
    before = machine.get(FILE)
    machine.run("gnt-vcluster", "create", "--nodes", "3000", "--network", "198.18.0.0/15")
    machine.sh(rf"sed -i 's/^.*candidate_pool_size = .*/candidate_pool_size = 3000/' {CONF}")
    row = limits(machine)["fs.inotify.max_user_instances"]
    assert row["needed"] == 3000 and row["state"] == "too low" and "doctor --fix" in row["remedy"]
    done = machine.run("gnt-vcluster", "doctor", "--fix", check=False)
    assert done.returncode == 1 and "fs.inotify.max_user_instances stays at" in done.stderr and "outside" in done.stderr
    assert machine.get(FILE) == before
    machine.run("rm", CONF)


def test_what_it_says_comes_true(machine: Machine) -> None:
    """Before there is a cluster, and while it runs: the same. And as much as it says is really used."""
    before = limits(machine, "--nodes", "5")
    machine.run("gnt-vcluster", "up", "--nodes", "5", "--join", "seeding")
    machine.wait_for("! systemctl list-jobs --no-legend | grep -q .")
    time.sleep(1)  # units that have ended are collected
    after = limits(machine)
    for key, command in REAL.items():
        real, said = int(machine.sh(command).stdout), before[key]["needed"]
        assert real <= said + 5, key
        if key != "files-of-systemd":  # 252 needs a third of what 257 does
            assert said - real <= 0.1 * said + 5 and abs(after[key]["needed"] - said) <= 0.1 * said + 5, key
    assert limits(machine, "--instances", "50000")["ssconf_instance_list"]["state"] == "too low"
    assert examined(machine)["nodes"] == 5 and examined(machine)["fits"]


def test_purge_removes_the_file(machine: Machine) -> None:
    machine.sh("apt-get remove -y ganeti-vcluster")
    assert machine.run("test", "-e", FILE, check=False).returncode == 0
    machine.sh("apt-get purge -y ganeti-vcluster")
    assert machine.run("test", "-e", FILE, check=False).returncode == 1
