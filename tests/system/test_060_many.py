# SPDX-License-Identifier: BSD-2-Clause
"""More nodes, fewer nodes, several clusters, and that nothing is left of any of them."""

from __future__ import annotations

import json

from tests.support.fingerprint import (
    CANDIDATE,
    MASTER,
    changes,
    daemons,
    difference,
    fingerprint,
    on_master,
    planned,
    status,
    verify_errors,
)
from tests.support.machine import Machine

FINGERPRINTS: dict[str, str] = {}


def test_the_machine_before_anything(bare: Machine, deb: object) -> None:
    bare.sh("mkdir -p -m 700 /root/.ssh && echo 'ssh-ed25519 AAAA mine' >/root/.ssh/authorized_keys")
    bare.sh("printf '10.0.0.1 elsewhere' >>/etc/hosts")
    # Without a server of the machine's own there is no /run/sshd, which ours needs.
    bare.sh("systemctl disable --now ssh && rm -rf /run/sshd")
    FINGERPRINTS[bare.release] = fingerprint(bare)


def test_scale_up_and_down(machine: Machine) -> None:
    machine.run("gnt-vcluster", "up")
    coming = planned(machine, "scale", "--nodes", "5")
    document = json.loads(machine.run("gnt-vcluster", "scale", "--nodes", "5", "--json").stdout)
    assert changes(document) == coming and "gnt-node add node5" in coming
    assert document["verify_errors"] == [] and len(document["nodes"]) == 5
    assert daemons(machine) == {"node1": MASTER, **{f"node{n}": CANDIDATE for n in (2, 3, 4, 5)}}
    coming = planned(machine, "scale", "--nodes", "3")
    document = json.loads(machine.run("gnt-vcluster", "scale", "--nodes", "3", "--json").stdout)
    assert changes(document) == coming and "gnt-node remove node4" in coming
    assert daemons(machine) == {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
    assert machine.sh("ls -d /var/lib/ganeti-vcluster/default/node*").stdout.count("node") == 3
    assert on_master(machine, "gnt-node", "list", "--no-headers", "-o", "name").split() == ["node1", "node2", "node3"]
    assert machine.sh("ip -o addr | grep -c 192.0.2.1[34]", check=False).stdout.strip() == "0"


def test_scale_refuses_nodes_with_instances_and_changes_nothing(machine: Machine) -> None:
    on_master(machine, "gnt-instance", "add", "-t", "diskless", "-o", "noop", "--no-nics", "-B", "memory=128",
              "-n", "node3", "instance1")  # fmt: skip
    done = machine.run("gnt-vcluster", "scale", "--nodes", "2", check=False)
    assert done.returncode == 1 and "node3" in done.stderr and "instance1" in done.stderr
    assert len(status(machine)["nodes"]) == 3
    on_master(machine, "gnt-instance", "remove", "-f", "instance1")


def test_editing_the_file_and_reload_applies_the_difference(machine: Machine) -> None:
    machine.sh("sed -i 's/^nodes = 3/nodes = 4/' /etc/ganeti-vcluster/default.conf && systemctl reload ganeti-vcluster")
    assert "192.0.2.13" in machine.sh("ip -o addr show gnt-default; grep node4 /etc/hosts").stdout
    machine.run("gnt-vcluster", "up")
    assert daemons(machine)["node4"] == CANDIDATE
    machine.run("gnt-vcluster", "scale", "--nodes", "3")


def test_reload_refuses_a_broken_file_and_leaves_the_cluster_alone(machine: Machine) -> None:
    machine.sh("cp /etc/ganeti-vcluster/default.conf /root/ && echo 'nonsense = 1' >>/etc/ganeti-vcluster/default.conf")
    done = machine.run("systemctl", "reload", "ganeti-vcluster", check=False)
    assert done.returncode != 0
    assert "nonsense" in machine.run("journalctl", "-u", "ganeti-vcluster", "-n", "20").stdout
    machine.sh("cp /root/default.conf /etc/ganeti-vcluster/ && systemctl reload ganeti-vcluster")
    assert daemons(machine)["node1"] == MASTER


def test_a_second_cluster_beside_the_first(machine: Machine) -> None:
    machine.run(
        "gnt-vcluster", "up", "second", "--nodes", "2", "--domain", "example.com", "--network", "198.51.100.0/24"
    )
    assert verify_errors(machine, "second") == [] and verify_errors(machine) == []
    listing = json.loads(machine.run("gnt-vcluster", "list", "--json").stdout)["clusters"]
    assert {row["cluster"]: row["name"] for row in listing} == {"default": "cluster", "second": "cluster.example.com"}


def test_a_file_that_names_other_nodes_is_refused(machine: Machine) -> None:
    """Commands for one cluster never act on the nodes of another."""
    file = "/etc/ganeti-vcluster/second.conf"
    machine.sh(f"cp {file} /root/")
    for change, named in ((f": >{file}", "node1 belongs to the cluster default"),
                          (f"sed -i 's/^domain = .*/domain = other.example/' {file}", "called node1.example.com")):  # fmt: skip
        machine.sh(change)
        for argv in (
            ("status", "second"),
            ("exec", "-c", "second", "all", "--", "true"),
            ("snapshot", "save", "second", "s"),
        ):
            done = machine.run("gnt-vcluster", *argv, check=False)
            assert done.returncode == 1 and done.stdout == "" and file in done.stderr and named in done.stderr
        assert named in machine.run("gnt-vcluster", "list").stderr
        machine.sh(f"cp /root/second.conf {file}")
    assert len(status(machine, "second")["nodes"]) == 2


def test_upstreams_example_works_as_printed(machine: Machine) -> None:
    here = "cd /var/lib/ganeti-vcluster/second && "
    out = machine.sh(here + "node1.example.com/cmd gnt-cluster info").stdout
    assert "Cluster name: cluster.example.com" in out and "Master node: node1.example.com" in out
    assert (
        machine.sh(here + "node2.example.com/cmd 'echo $GANETI_HOSTNAME | tr a-z A-Z'").stdout == "NODE2.EXAMPLE.COM\n"
    )
    assert machine.sh(here + "node2.example.com/cmd printf '%s|' 'a  b' '$x'").stdout == "a  b|$x|"
    machine.sh(here + "./stop-all")
    assert machine.sh(here + "./status-all", check=False).returncode == 1
    machine.sh(here + "./start-all && ./status-all && ./watcher-all")
    machine.sh(here + "./restart-all && ./status-all")


def test_an_instance_moves_to_another_cluster(machine: Machine) -> None:
    """With Ganeti's own move-instance, through both remote APIs."""
    data = "/var/lib/ganeti-vcluster"
    machine.sh("head -c 48 /dev/urandom | base64 >/root/secret")
    for cluster, node in (("default", "node1"), ("second", "node1.example.com")):
        machine.sh(f"cp /root/secret {data}/{cluster}/{node}/tmp/")
        on_master(machine, "gnt-cluster", "renew-crypto", "-f", "--new-confd-hmac-key",
                  f"--cluster-domain-secret={data}/{cluster}/{node}/tmp/secret", cluster=cluster)  # fmt: skip
        machine.sh(
            f"cp {data}/{cluster}/{node}/var/lib/ganeti/rapi.pem /root/{cluster}.pem; rm {data}/{cluster}/{node}/tmp/secret"
        )
    on_master(machine, "gnt-instance", "add", "-o", "dummy", "-t", "file", "-s", "64M", "-B", "memory=128", "--no-nics",
              "-O", "note=precious", "-n", "node2", "instance1")  # fmt: skip
    machine.run(
        "env", "PYTHONPATH=/usr/share/ganeti/default", "/usr/lib/ganeti/tools/move-instance",
        "--src-ca-file=/root/default.pem", "--src-username=gnt-vcluster", f"--src-password-file={data}/default/rapi-password",
        "--dest-ca-file=/root/second.pem", "--dest-username=gnt-vcluster", f"--dest-password-file={data}/second/rapi-password",
        "--dest-instance-name=instance1.example.com", "--dest-disk-template=file", "--iallocator=hail",
        "cluster", "cluster.example.com", "instance1",
    )  # fmt: skip
    assert on_master(machine, "gnt-instance", "list", "--no-headers") == ""
    listed = ("gnt-instance", "list", "--no-headers", "-o", "name,status,pnode")
    name, state, node = on_master(machine, *listed, cluster="second").split()
    assert (name, state) == ("instance1.example.com", "running")
    disk = f"{data}/second/{node}/srv/ganeti/file-storage/{name}/*disk0"
    assert "note=precious" in machine.sh(f"head -c 512 {disk} | tr -d '\\0'").stdout
    on_master(machine, "gnt-instance", "remove", "-f", name, cluster="second")
    assert verify_errors(machine) == [] and verify_errors(machine, "second") == []


def test_a_cluster_with_ipv6_addresses(machine: Machine) -> None:
    machine.run("gnt-vcluster", "up", "six", "--nodes", "2", "--domain", "six.example", "--network", "2001:db8:1::/64")
    assert verify_errors(machine, "six") == []
    assert daemons(machine, "six") == {"node1.six.example": MASTER, "node2.six.example": CANDIDATE}
    machine.run("gnt-vcluster", "destroy", "six", "--yes")
    assert verify_errors(machine) == []


def test_destroying_one_leaves_the_other(machine: Machine) -> None:
    machine.run("gnt-vcluster", "destroy", "second", "--yes")
    assert verify_errors(machine) == []
    assert machine.sh("ip -o addr | grep 198.51.100", check=False).stdout == ""
    units = "systemctl list-units --all --plain | grep example.com"
    assert machine.sh(units, check=False).stdout == ""


def test_after_the_last_destroy_everything_is_as_before(machine: Machine) -> None:
    machine.run("gnt-vcluster", "destroy", "--yes")
    left = [line for line in difference(FINGERPRINTS[machine.release], fingerprint(machine))
            if line not in ("+/etc/ganeti-vcluster", "+/var/lib/ganeti-vcluster")]  # the package's own  # fmt: skip
    assert left == []


def test_data_on_a_file_system_of_their_own_are_purged(machine: Machine) -> None:
    machine.sh("mount -t tmpfs -o mode=755 data /var/lib/ganeti-vcluster")
    machine.run("gnt-vcluster", "up", "--nodes", "2")
    machine.sh("apt-get purge -y ganeti-vcluster")
    assert machine.sh("ls -A /var/lib/ganeti-vcluster").stdout == ""
    machine.sh(
        "umount /var/lib/ganeti-vcluster && rm -f /var/lib/ganeti-vcluster/.lock && rmdir /var/lib/ganeti-vcluster"
    )
    assert difference(FINGERPRINTS[machine.release], fingerprint(machine)) == []
    machine.sh("apt-get install -y /root/ganeti-vcluster_*.deb")


def test_removal_keeps_data_and_purge_does_not(machine: Machine) -> None:
    machine.run("gnt-vcluster", "up")
    machine.sh("apt-get remove -y ganeti-vcluster")
    assert machine.sh("ls /etc/ganeti-vcluster /var/lib/ganeti-vcluster").stdout.split() == [
        "/etc/ganeti-vcluster:", "default.conf", "/var/lib/ganeti-vcluster:", "default"]  # fmt: skip
    assert machine.sh("pgrep -af 'sbin/ganeti-|^ganeti-'", check=False).stdout == ""
    machine.sh("apt-get install -y /root/ganeti-vcluster_*.deb")
    machine.run("gnt-vcluster", "up")
    assert verify_errors(machine) == []


def test_purge_of_a_running_cluster_leaves_nothing(machine: Machine) -> None:
    machine.sh("apt-get purge -y ganeti-vcluster")
    assert difference(FINGERPRINTS[machine.release], fingerprint(machine)) == []
