# SPDX-License-Identifier: BSD-2-Clause
"""Given a machine with the package, when a user types `gnt-vcluster up`, there is a real cluster."""

from __future__ import annotations

import json

import pytest

from tests.support.fingerprint import (
    CANDIDATE,
    MASTER,
    active,
    changes,
    daemons,
    on,
    on_master,
    planned,
    strays,
    verify_errors,
)
from tests.support.machine import Machine


def test_installation_starts_nothing(machine: Machine) -> None:
    assert active(machine, "ganeti-v*") == []
    assert machine.sh("ls /etc/ganeti-vcluster /var/lib/ganeti-vcluster").stdout.split() == [
        "/etc/ganeti-vcluster:", "/var/lib/ganeti-vcluster:"]  # fmt: skip
    assert machine.run("systemctl", "is-enabled", "ganeti-vcluster.target", check=False).stdout.strip() != "enabled"


def test_dry_run_changes_nothing(machine: Machine) -> None:
    out = machine.run("gnt-vcluster", "up", "--dry-run").stdout
    assert "would make bridge gnt-default" in out and "gnt-cluster init" in out
    assert machine.run("ls", "/etc/ganeti-vcluster").stdout == ""


def test_up_ends_with_a_running_cluster(machine: Machine) -> None:
    coming = planned(machine, "up")
    document = json.loads(machine.run("gnt-vcluster", "up", "--json").stdout)
    assert document["schema"] == 1 and document["changed"] and document["verify_errors"] == []
    assert document["nodes"] == ["node1", "node2", "node3"] and document["master"] == "node1"
    assert changes(document) == coming, "what the dry run says is what is done"


def test_verify_is_clean(machine: Machine) -> None:
    assert verify_errors(machine) == []


def test_node_list_has_figures(machine: Machine) -> None:
    out = on_master(machine, "gnt-node", "list", "--no-headers", "--separator=|",
                    "-o", "name,mtotal,mnode,mfree,ctotal")  # fmt: skip
    rows = [line.split("|") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["node1", "node2", "node3"]
    assert all("?" not in cell for row in rows for cell in row)


def test_up_again_changes_nothing(machine: Machine) -> None:
    before = on_master(machine, "gnt-job", "list", "--no-headers")
    document = json.loads(machine.run("gnt-vcluster", "up", "--json").stdout)
    assert not document["changed"] and document["changes"] == []
    assert on_master(machine, "gnt-job", "list", "--no-headers") == before


def test_every_daemon_is_in_its_unit_and_slice(machine: Machine) -> None:
    assert daemons(machine) == {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
    assert strays(machine) == ""
    for unit in active(machine, "ganeti-*@node2.service"):
        if "vnode-off" not in unit:  # it has no process, and waits for the slice to be empty
            assert machine.run("systemctl", "show", "-P", "Slice", unit).stdout.strip() == "ganeti-vnode-node2.slice"


def test_systemd_found_nothing_to_repair(machine: Machine) -> None:
    """Ordering cycles are broken by dropping a job: the next start then lacks something."""
    assert machine.sh("journalctl -b | grep -c -e 'ordering cycle' -e 'Ignoring unknown' || true").stdout.strip() == "0"


def test_a_watcher_per_node(machine: Machine) -> None:
    out = machine.run("systemctl", "list-timers", "--no-pager", "ganeti-watcher@*").stdout
    assert all(f"ganeti-watcher@node{n}.timer" in out for n in (1, 2, 3))


def test_journal_by_field_and_by_unit(machine: Machine) -> None:
    for query in (["GANETI_HOSTNAME=node2"], ["-u", "ganeti-*@node2.service"]):
        out = machine.run("journalctl", "-o", "json", *query).stdout
        entries = [json.loads(line) for line in out.splitlines()]
        assert any(entry.get("SYSLOG_IDENTIFIER") == "ganeti-confd" for entry in entries)
        about = {entry.get("GANETI_HOSTNAME") or entry.get("UNIT", "").partition("@")[2].partition(".")[0]
                 for entry in entries}  # fmt: skip
        assert about == {"node2"}


def test_gnt_vcluster_logs(machine: Machine) -> None:
    out = machine.run("gnt-vcluster", "logs", "node2", "-d", "noded").stdout
    assert "ganeti-noded@node2" in out and "node1" not in out


def test_nothing_listens_outside_of_the_nodes(machine: Machine) -> None:
    out = machine.sh("ss -Hlntup | grep -e ganeti -e sshd-listen | awk '{print $5}'").stdout
    addresses = {line.rpartition(":")[0] for line in out.splitlines()}
    assert addresses == {"192.0.2.1", "192.0.2.10", "192.0.2.11", "192.0.2.12"}


def test_unused_addresses_fail_at_once(machine: Machine) -> None:
    asked = machine.sh("timeout 60 bash -c '</dev/tcp/192.0.2.77/1811'", check=False)
    assert asked.returncode == 1 and "No route to host" in asked.stderr


def test_exec_keeps_arguments_and_status(machine: Machine) -> None:
    assert on(machine, "node2", "printf", "%s|", "a b", "$x", "*") == "a b|$x|*|"
    assert on(machine, "node2", "sh", "-c", "echo $GANETI_HOSTNAME $GANETI_ROOTDIR").split() == [
        "node2", "/var/lib/ganeti-vcluster/default/node2"]  # fmt: skip
    assert machine.run("gnt-vcluster", "exec", "node1", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    several = machine.run(
        "gnt-vcluster", "exec", "node[2-3]", "--", "sh", "-c", "echo $GANETI_HOSTNAME; exit 3", check=False
    )
    assert several.returncode == 3 and several.stdout == "node2: node2\nnode3: node3\n"
    unknown = machine.run("gnt-vcluster", "exec", "node1", "--", "no-such-command", check=False)
    assert unknown.returncode == 127 and unknown.stderr.count("\n") == 1 and "node1" in unknown.stderr
    document = json.loads(machine.run("gnt-vcluster", "exec", "--json", "all", "--", "true").stdout)
    assert [result["status"] for result in document["results"]] == [0, 0, 0]


def test_cluster_command_reaches_all_nodes_by_ssh(machine: Machine) -> None:
    out = on_master(machine, "gnt-cluster", "command", "echo =$GANETI_HOSTNAME=")
    assert all(f"=node{n}=" in out for n in (1, 2, 3))


def test_ssh_to_a_node_is_that_node_and_leaves_root_alone(machine: Machine) -> None:
    assert machine.run("ssh", "node3", "echo $GANETI_HOSTNAME").stdout.strip() == "node3"
    assert machine.run("ls", "-A", "/root/.ssh", check=False).stdout == ""


def test_list_and_status(machine: Machine) -> None:
    listing = json.loads(machine.run("gnt-vcluster", "list", "--json").stdout)
    assert listing["clusters"] == [{"cluster": "default", "name": "cluster", "nodes": 3, "network": "192.0.2.0/24",
                                    "master": "node1", "state": "running", "up_would": []}]  # fmt: skip
    assert machine.run("gnt-vcluster", "status", "-o", "node,role", "--no-headers", "--separator=:").stdout == (
        "node1:master\nnode2:candidate\nnode3:candidate\n")  # fmt: skip


def test_status_watch_shows_what_changes(machine: Machine) -> None:
    watch = "gnt-vcluster status --watch -o node,state,role,daemons,missing --no-headers --separator=: >/root/watched"
    process = machine.popen("sh", "-c", f"exec {watch}")
    machine.wait_for("test -s /root/watched")
    machine.run("gnt-vcluster", "stop", "node3")
    machine.wait_for("grep -q node3:stopped /root/watched")
    machine.run("gnt-vcluster", "start", "node3")
    machine.wait_for("tail -n 1 /root/watched | grep -q node3:running")
    machine.run("pkill", "-INT", "-f", "gnt-vcluster status")
    assert process.communicate(timeout=20)[0] == "" and process.returncode == 130
    lines = machine.get("/root/watched").splitlines()
    shown = [lines[at : at + 3] for at in range(0, len(lines), 3)]
    assert shown[0] == shown[-1] and all(one != two for one, two in zip(shown, shown[1:], strict=False))


def test_addresses_may_change_while_they_are_read(machine: Machine) -> None:
    machine.sh("""
        for i in $(seq 500); do echo "addr add 10.9.$((i / 250)).$((i % 250 + 1))/32 dev lo"; done | ip -batch -
        while sleep 0.1; do ip addr add 10.99.0.1/32 dev lo; ip addr del 10.99.0.1/32 dev lo; done & churn=$!
        trap 'kill $churn; ip addr flush dev lo to 10.0.0.0/8' EXIT
        python3 -c 'from ganeti_vc.machine import network; print({len(network.addresses()) > 500 for _ in range(100)})'""")
    assert verify_errors(machine) == []


def test_nodes_keep_their_programs_when_packages_bring_new_ones(machine: Machine) -> None:
    noded = machine.run("systemctl", "show", "-P", "MainPID", "ganeti-noded@node2").stdout
    theirs = "gnt-vcluster exec node2 -- md5sum /usr/bin/fping /usr/bin/systemctl /usr/sbin/gnt-node | cut -c -32"
    ours = machine.sh(
        "cd /usr/lib/ganeti-vcluster && md5sum node-fping node-systemctl node-gnt-node | cut -c -32"
    ).stdout
    assert machine.sh(theirs).stdout == ours
    # Ours: what nodes have is replaced by the same, and what has been mounted on files of ours is gone.
    machine.sh("dpkg -i /root/ganeti-vcluster_*.deb")
    assert machine.sh(theirs).stdout == ours
    # Another's, as dpkg replaces files.
    machine.sh("""
        for path in /usr/bin/fping /usr/bin/systemctl $(realpath /usr/sbin/gnt-node); do cp -p $path $path.dpkg-new; mv $path.dpkg-new $path; done
        dpkg-trigger --by-package=fping --no-await /usr/bin/fping""")
    assert machine.sh(theirs).stdout != ours
    machine.sh("dpkg --triggers-only --pending")
    assert machine.sh(theirs).stdout == ours
    on_master(machine, "gnt-node", "list")
    on(machine, "node2", "systemctl", "--version")
    assert machine.run("systemctl", "show", "-P", "MainPID", "ganeti-noded@node2").stdout == noded
    assert verify_errors(machine) == []


def test_instances_can_be_made(machine: Machine) -> None:
    assert "gnt-instance add instance2" in machine.run("gnt-vcluster", "up", "--instances", "2", "--dry-run").stdout
    document = json.loads(machine.run("gnt-vcluster", "up", "--instances", "2", "--json").stdout)
    assert document["changes"] == ["gnt-instance add instance1", "gnt-instance add instance2"]
    out = on_master(machine, "gnt-instance", "list", "--no-headers", "-o", "name,status")
    assert out.split() == ["instance1", "running", "instance2", "running"]


@pytest.mark.parametrize("page", ["gnt-vcluster.8", "ganeti-vcluster.conf.5", "ganeti-vcluster.7"])
def test_manual_pages_are_there(machine: Machine, page: str) -> None:
    assert machine.sh(f"ls /usr/share/man/man?/{page}.gz || dpkg -c /root/*.deb | grep {page}").stdout


def test_completion_knows_commands_and_nodes(machine: Machine) -> None:
    script = """
        source /usr/share/bash-completion/completions/gnt-vcluster
        complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            local f; f=$(complete -p gnt-vcluster | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f; echo "${COMPREPLY[@]}"; }
        complete_line gnt-vcluster st
        complete_line gnt-vcluster shell node"""
    first, second = machine.run("bash", "-c", script).stdout.splitlines()
    assert set(first.split()) == {"status", "start", "stop"}
    assert set(second.split()) == {"node1", "node2", "node3"}
