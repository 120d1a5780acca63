# SPDX-License-Identifier: BSD-2-Clause
"""Start, stop and restart from every state, kills and a reboot: through systemd, as any service."""

from __future__ import annotations

import os

import pytest

from tests.support.fingerprint import CANDIDATE, MASTER, daemons, on_master, strays, verify_errors
from tests.support.machine import Machine

ALL_UP = {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
#: Ganeti and what serves the clusters, as processes.
OURS = "pgrep -af 'ganeti-|ganeti-vcluster/|sshd-listen'"


def main_pid(machine: Machine, unit: str) -> str:
    pid = machine.run("systemctl", "show", "-P", "MainPID", unit).stdout.strip()
    assert pid != "0", f"{unit} does not run"
    return pid


def wait_for_another(machine: Machine, unit: str, before: str) -> None:
    """Until the unit is active again, with another main process."""
    machine.wait_for(
        f"pid=$(systemctl show -P MainPID {unit}); test $pid != {before} && test $pid != 0"
        f" && systemctl is-active --quiet {unit}")  # fmt: skip


def test_the_cluster_answers_right_after_each_restart(cluster: Machine) -> None:
    for _ in range(int(os.environ.get("RESTARTS", "3"))):
        cluster.run("systemctl", "restart", "ganeti-vcluster.target")
        out = on_master(cluster, "gnt-node", "list", "--no-headers", "--separator=|", "-o", "name,mtotal")
        assert len(out.splitlines()) == 3 and "?" not in out
        assert cluster.sh("ip -o addr show to 192.0.2.1 | wc -l").stdout == "1\n"
    assert daemons(cluster) == ALL_UP
    assert strays(cluster) == ""


@pytest.mark.parametrize("unit", ["ganeti-vcluster@default.target", "ganeti-vcluster.target"])
def test_stop_leaves_no_process_and_no_port(cluster: Machine, unit: str) -> None:
    cluster.run("systemctl", "stop", unit)
    if unit == "ganeti-vcluster.target":
        assert cluster.sh(OURS, check=False).stdout == ""
        assert cluster.sh("ip -o addr show | grep 192.0.2", check=False).stdout == ""
        assert cluster.sh("grep -c ganeti-vcluster /etc/hosts", check=False).stdout.strip() == "0"
    else:
        assert cluster.sh("pgrep -af 'sbin/ganeti-|^ganeti-|sshd-listen'", check=False).stdout == ""
    assert cluster.sh("ss -Hlntu | grep 192.0.2", check=False).stdout == ""
    cluster.run("systemctl", "start", "ganeti-vcluster.target")
    assert daemons(cluster) == ALL_UP


def test_start_and_stop_of_one_node(cluster: Machine) -> None:
    cluster.run("gnt-vcluster", "stop", "node3")
    assert daemons(cluster) == {**ALL_UP, "node3": []}
    assert cluster.sh("ss -Hlntu | grep 192.0.2.12 | grep -v :1822", check=False).stdout == ""
    refused = cluster.run("gnt-vcluster", "exec", "all", "--", "echo", "here", check=False)
    assert (
        refused.returncode == 1
        and refused.stdout == ""
        and "node3 is powered off (gnt-vcluster start" in refused.stderr
    )
    refused = cluster.run("ssh", "node3", "echo", "here", check=False)
    assert refused.returncode == 255 and refused.stdout == "" and "node3 is powered off" in refused.stderr
    assert cluster.sh("/var/lib/ganeti-vcluster/default/node3/cmd uname -n").stdout == "node3\n"
    cluster.run("gnt-vcluster", "start", "node3")
    assert daemons(cluster) == ALL_UP


def test_restart_of_one_node_leaves_the_others_alone(cluster: Machine) -> None:
    pids = "for n in 1 2 3; do systemctl show -P MainPID ganeti-noded@node$n; done"
    before = cluster.sh(pids).stdout.split()
    cluster.run("gnt-vcluster", "restart", "node2")
    after = cluster.sh(pids).stdout.split()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


HALF = {
    "daemons stopped by hand": "systemctl stop ganeti-noded@node2 ganeti-luxid@node1 ganeti-confd@node3",
    "a node stopped": "systemctl stop ganeti-vnode@node2.target",
    "the master stopped": "systemctl stop ganeti-vnode@node1.target",
    "sshd stopped": "systemctl stop ganeti-vcluster-sshd@default",
    "nothing but one node": "systemctl stop ganeti-vcluster.target; systemctl start ganeti-vnode@node3.target",
    "a daemon failed": "systemctl kill -s KILL ganeti-wconfd@node1; systemctl stop ganeti-rapi@node1",
    "a unit that failed": "systemctl stop ganeti-noded@node2; mv /var/lib/ganeti-vcluster/default/node2/etc/default/ganeti /root/;"
    " systemctl start ganeti-noded@node2; mv /root/ganeti /var/lib/ganeti-vcluster/default/node2/etc/default/; true",
    "the cluster's target stopped alone": "systemctl stop ganeti-vcluster@default.target",
}


@pytest.mark.parametrize("how", [HALF[name] for name in HALF], ids=list(HALF))
def test_start_from_half_stopped(cluster: Machine, how: str) -> None:
    cluster.sh(how, check=False)
    cluster.run("systemctl", "start", "ganeti-vcluster.target")
    out = on_master(cluster, "gnt-node", "list", "--no-headers", "--separator=|", "-o", "name,mtotal")
    assert len(out.splitlines()) == 3 and "?" not in out
    assert daemons(cluster) == ALL_UP
    assert cluster.sh("ssh node2 echo up").stdout == "up\n"


def test_a_stop_during_a_start_waits_and_takes_the_address(cluster: Machine) -> None:
    cluster.run("gnt-vcluster", "stop", "node1")
    drop_in = "/run/systemd/system/ganeti-mond@node1.service.d"
    cluster.sh(
        f"mkdir {drop_in} && printf '[Service]\\nExecStartPre=/bin/sleep 1000\\n' >{drop_in}/slow.conf && systemctl daemon-reload"
    )
    cluster.run("systemctl", "start", "--no-block", "ganeti-vnode@node1.target")
    cluster.wait_for("ip -o addr show to 192.0.2.1 | grep -q .")
    cluster.run("gnt-vcluster", "stop", "node1")
    assert daemons(cluster) == {**ALL_UP, "node1": []}
    assert cluster.sh("pgrep -af '192.0.2.10( |$)'; ip -o addr show to 192.0.2.1", check=False).stdout == ""
    cluster.sh(f"rm -r {drop_in} && systemctl daemon-reload && gnt-vcluster start node1")
    assert daemons(cluster) == ALL_UP


def test_a_former_master_that_was_off_leaves_the_role_alone(cluster: Machine) -> None:
    """Its own files still say that it is the master, and rapi would ask nobody."""
    cluster.run("gnt-vcluster", "stop", "node1")
    cluster.run("gnt-vcluster", "exec", "node2", "--", "gnt-cluster", "master-failover")
    cluster.run("gnt-vcluster", "start", "node1")
    cluster.run("systemctl", "restart", "ganeti-vcluster.target")
    assert cluster.get("/run/ganeti-vcluster/nodes/node1/var/lib/ganeti/ssconf_master_node") == "node1\n"
    assert daemons(cluster) == {**ALL_UP, "node1": CANDIDATE, "node2": MASTER}
    on_master(cluster, "gnt-cluster", "redist-conf")
    cluster.run("gnt-vcluster", "exec", "node1", "--", "gnt-cluster", "master-failover")
    assert daemons(cluster) == ALL_UP and verify_errors(cluster) == []


SERVICES = ("ganeti-noded@node2", "ganeti-luxid@node1", "ganeti-wconfd@node1", "ganeti-rapi@node1",
            "ganeti-confd@node3", "ganeti-mond@node1", "ganeti-vcluster-sshd@default")  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "signal"),
    # SIGTERM is how systemd stops the manager: it takes the network away, as it should.
    [("ganeti-vcluster", "KILL"), *((unit, signal) for unit in SERVICES for signal in ("KILL", "TERM"))],
)
def test_what_is_killed_comes_back(cluster: Machine, unit: str, signal: str) -> None:
    before = main_pid(cluster, unit)
    cluster.run("kill", f"-{signal}", before)
    wait_for_another(cluster, unit, before)
    cluster.wait_for("gnt-vcluster exec master -- gnt-node list")
    assert daemons(cluster) == ALL_UP


def test_the_manager_killed_does_not_disturb_the_nodes(cluster: Machine) -> None:
    pids = "for n in 1 2 3; do systemctl show -P MainPID ganeti-noded@node$n; done; cat /etc/hosts; ip -o addr"
    assert daemons(cluster) == ALL_UP
    before = cluster.sh(pids).stdout
    pid = main_pid(cluster, "ganeti-vcluster")
    cluster.run("kill", "-KILL", pid)
    wait_for_another(cluster, "ganeti-vcluster", pid)
    assert cluster.sh(pids).stdout == before


def test_stopping_the_manager_stops_the_nodes_and_restarting_it_does_not(cluster: Machine) -> None:
    noded = main_pid(cluster, "ganeti-noded@node2")
    cluster.run("systemctl", "restart", "ganeti-vcluster")
    assert main_pid(cluster, "ganeti-noded@node2") == noded
    cluster.run("systemctl", "stop", "ganeti-vcluster")
    assert cluster.sh(OURS, check=False).stdout == ""
    assert cluster.sh("ip -o addr show | grep 192.0.2", check=False).stdout == ""
    cluster.run("systemctl", "start", "ganeti-vcluster.target")
    assert daemons(cluster) == ALL_UP


def test_a_reboot_brings_it_back(cluster: Machine) -> None:
    cluster.reboot()
    cluster.wait_for("systemctl is-active ganeti-vcluster.target")
    assert daemons(cluster) == ALL_UP
    assert verify_errors(cluster) == []
