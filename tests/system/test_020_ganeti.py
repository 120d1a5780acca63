# SPDX-License-Identifier: BSD-2-Clause
"""Whatever Ganeti itself starts and stops goes through the daemon-util hook and stays under its units."""

from __future__ import annotations

import shlex

import pytest

from tests.support.fingerprint import CANDIDATE, MASTER, daemons, on, on_master, status, strays, verify_errors
from tests.support.machine import Machine

DAEMON_UTIL = "/usr/lib/ganeti/daemon-util"
NODE1 = "/var/lib/ganeti-vcluster/default/node1"


def assert_healthy(machine: Machine, master: str = "node1") -> None:
    wanted = {f"node{n}": MASTER if f"node{n}" == master else CANDIDATE for n in (1, 2, 3)}
    assert daemons(machine) == wanted
    assert strays(machine) == ""
    assert verify_errors(machine) == []


def test_node_remove_and_add_by_hand(cluster: Machine) -> None:
    on_master(cluster, "gnt-node", "remove", "node3")
    assert daemons(cluster)["node3"] == []
    on_master(cluster, "gnt-node", "add", "--no-ssh-key-check", "node3")
    assert "noded" in daemons(cluster)["node3"] and strays(cluster) == ""
    # confd is started there by the watcher, as on any cluster
    on(cluster, "node3", "ganeti-watcher")
    assert_healthy(cluster)


def test_readd(cluster: Machine) -> None:
    on_master(cluster, "gnt-node", "add", "--readd", "--no-ssh-key-check", "node2")
    on(cluster, "node2", "ganeti-watcher")
    assert_healthy(cluster)


def test_watcher_restarts_what_was_stopped(cluster: Machine) -> None:
    cluster.run("systemctl", "stop", "ganeti-confd@node2", "ganeti-mond@node2")
    cluster.run("systemctl", "start", "ganeti-watcher@node2.service")
    assert_healthy(cluster)


def test_watcher_and_cleaner_units_work_on_master_and_others(cluster: Machine) -> None:
    for node in ("node1", "node2"):
        for job in ("watcher", "cleaner"):
            cluster.run("systemctl", "start", f"ganeti-{job}@{node}.service")
            result = cluster.run("systemctl", "show", "-P", "Result", f"ganeti-{job}@{node}.service").stdout
            # On node2 all runs that should: the watcher has nothing to do and is not even started.
            assert result == ("exec-condition\n" if (node, job) == ("node2", "watcher") else "success\n")


def test_the_cleaner_of_the_master_removes_old_jobs(cluster: Machine) -> None:
    archive = "/var/lib/ganeti-vcluster/default/node1/var/lib/ganeti/queue/archive/99"
    cluster.sh(f"install -d -o gnt-masterd -g gnt-daemons -m 750 {archive} && touch {archive}/job-999998 {archive}/job-999999 && "
               f"chown gnt-masterd {archive}/* && touch -d '40 days ago' {archive}/job-999998")  # fmt: skip
    cluster.run("systemctl", "start", "ganeti-cleaner@node1.service")
    cluster.wait_for(f"[ $(ls {archive}) = job-999999 ]")
    unit = "ganeti-cleaner-master@node1.service"
    cluster.wait_for(f"systemctl show -P ActiveState {unit} | grep -qx inactive")
    assert cluster.run("systemctl", "show", "-P", "Result", unit).stdout == "success\n"
    assert cluster.sh(f"ls {archive[: archive.index('/var/lib/ganeti/')]}/var/log/ganeti/master-cleaner").stdout
    cluster.sh(f"rm -r {archive}")


@pytest.mark.parametrize(
    "how", ["gnt-vcluster exec node1 --", f"{NODE1}/cmd", "ssh node1", "gnt-vcluster run --nodes 1 --"]
)
def test_a_pipeline_on_a_node_ends_as_after_a_login(cluster: Machine, how: str) -> None:
    pipeline = "seq 1 999999 | head -n1; echo ${PIPESTATUS[0]}; awk '/^SigIgn/ {print $2}' /proc/self/status"
    command = (
        shlex.quote(f"bash -c {shlex.quote(pipeline)}") if how.startswith("ssh") else f"bash -c {shlex.quote(pipeline)}"
    )
    done = cluster.sh(f"{how} {command}")
    first, status, ignored = done.stdout.split()
    # Of Linux's 64 signals, programs may use the first 31; the C library has two more.
    assert (first, status, int(ignored, 16) & 0x7FFFFFFF) == ("1", "141", 0) and "roken pipe" not in done.stderr


@pytest.mark.parametrize("how", ["gnt-vcluster exec node1 --", f"{NODE1}/cmd", "gnt-vcluster run --nodes 1 --"])
def test_a_working_directory_that_is_gone(cluster: Machine, how: str) -> None:
    assert cluster.sh(f"d=$(mktemp -d) && cd $d && rmdir $d && {how} pwd").stdout == "/\n"


def test_the_watcher_runs_where_it_might_have_something_to_do(cluster: Machine) -> None:
    root, unit = "/var/lib/ganeti-vcluster/default/node2", "ganeti-watcher@node2.service"
    health = f"{root}/var/lib/ganeti/ssconf_maintain_node_health"

    def result() -> str:
        cluster.run("systemctl", "start", unit)
        return cluster.run("systemctl", "show", "-P", "Result", unit).stdout.strip()

    for spoil, repair in (
        ("systemctl stop ganeti-mond@node2", "systemctl is-active ganeti-mond@node2"),
        (f"mkdir -p {root}/etc/ganeti/hooks/watcher", f"rm -r {root}/etc/ganeti/hooks"),
        (f"mv {health} /root/", f"mv /root/ssconf_maintain_node_health {health}"),
        (f"echo 1 >{root}/var/run/ganeti/ganeti-noded.pid", "systemctl restart ganeti-noded@node2"),
    ):
        assert result() == "exec-condition"
        cluster.sh(spoil)
        assert result() == "success", spoil
        cluster.sh(repair)
    assert result() == "exec-condition"


def test_master_failover_there_and_back(cluster: Machine) -> None:
    on(cluster, "node2", "gnt-cluster", "master-failover")
    assert_healthy(cluster, master="node2")
    cluster.run("systemctl", "restart", "ganeti-vcluster.target")
    assert_healthy(cluster, master="node2")
    on(cluster, "node1", "gnt-cluster", "master-failover")
    assert_healthy(cluster)


def test_master_failover_without_voting_when_the_majority_is_off(cluster: Machine) -> None:
    cluster.run("gnt-vcluster", "stop", "node1")
    cluster.run("gnt-vcluster", "stop", "node3")
    on(cluster, "node2", "gnt-cluster", "master-failover", "--no-voting", "--yes-do-it")
    assert set(MASTER) <= set(daemons(cluster)["node2"])
    # The address of the cluster went with the old master and came back with the new one.
    assert cluster.sh("ip -o address show to 192.0.2.1 | wc -l").stdout == "1\n"
    cluster.run("gnt-vcluster", "start", "node3")
    on_master(cluster, "gnt-cluster", "redist-conf")
    # The old master comes back: by its own files it is still the master, by the votes it is not. The clock was wrong then.
    cluster.sh("touch -d '+1 hour' /var/lib/ganeti-vcluster/default/node1/var/lib/ganeti/ssconf_master_node")
    assert status(cluster)["master"] == "node2"
    cluster.run("gnt-vcluster", "start", "node1")
    assert "luxid" not in daemons(cluster)["node1"]
    on_master(cluster, "gnt-cluster", "redist-conf")
    # rapi asks nobody for a vote: it believes the files it finds as it starts.
    cluster.run("gnt-vcluster", "restart", "node1")
    assert_healthy(cluster, master="node2")
    cluster.run("gnt-vcluster", "restart")
    assert_healthy(cluster, master="node2")
    on(cluster, "node1", "gnt-cluster", "master-failover")
    assert_healthy(cluster)


def test_one_time_arguments_reach_one_start_only(cluster: Machine) -> None:
    on_master(cluster, DAEMON_UTIL, "stop", "ganeti-mond")
    on_master(cluster, DAEMON_UTIL, "start", "ganeti-mond", "-d")
    arguments = "tr '\\0' ' ' </proc/$(systemctl show -P MainPID ganeti-mond@node1)/cmdline"
    assert cluster.sh(arguments).stdout.endswith("-b 192.0.2.10 -d ")
    cluster.sh("kill -KILL $(systemctl show -P MainPID ganeti-mond@node1)")
    cluster.wait_for("systemctl is-active ganeti-mond@node1")
    assert cluster.sh(arguments).stdout.endswith("-b 192.0.2.10 ")
    # Given to a daemon that runs already, they are gone as well.
    on_master(cluster, DAEMON_UTIL, "start", "ganeti-mond", "-d")
    cluster.run("systemctl", "restart", "ganeti-mond@node1")
    assert cluster.sh(arguments).stdout.endswith("-b 192.0.2.10 ")


def test_renew_crypto(cluster: Machine) -> None:
    on_master(cluster, "gnt-cluster", "renew-crypto", "-f", "--new-cluster-certificate", "--new-confd-hmac-key",
              "--new-rapi-certificate", "--new-cluster-domain-secret", "--new-node-certificates")  # fmt: skip
    assert_healthy(cluster)


VERBS = {
    "check ganeti-noded": (0, ""),
    "check ganeti-kvmd": (3, ""),
    "start ganeti-luxid": (11, ""),
    "start-all": (0, ""),
    "check-and-start ganeti-confd": (0, ""),
    "check-config": (0, ""),
    "check-exitcode 0": (0, ""),
    "check-exitcode 11": (0, "not master\n"),
    "check-exitcode 3": (1, "exit code 3\n"),
    "list-start-daemons": (
        0,
        "ganeti-noded\nganeti-confd\nganeti-wconfd\nganeti-rapi\nganeti-luxid\nganeti-kvmd\nganeti-mond\n",
    ),
    "is-daemon-name ganeti-luxid": (0, ""),
    "is-daemon-name nonsense": (1, ""),
    "daemon-pidfile ganeti-noded": (0, "/var/lib/ganeti-vcluster/default/node2/var/run/ganeti/ganeti-noded.pid\n"),
    "daemon-executable ganeti-noded": (0, "/usr/sbin/ganeti-noded\n"),
    "rotate-logs ganeti-noded": (0, ""),
    "rotate-all-logs": (0, ""),
    "reload-ssh-keys": (0, ""),
    "stop-master": (0, ""),
    "start_all": (1, ""),
    "nonsense": (1, ""),
}


@pytest.mark.parametrize("call", VERBS)
def test_daemon_util_verb(cluster: Machine, call: str) -> None:
    status, out = VERBS[call]
    done = cluster.run("gnt-vcluster", "exec", "node2", "--", DAEMON_UTIL, *call.split(), check=False)
    assert (done.returncode, done.stdout) == (status, out), done.stderr


def test_daemon_util_stop_all_and_start_all(cluster: Machine) -> None:
    on(cluster, "node2", DAEMON_UTIL, "stop-all")
    assert daemons(cluster)["node2"] == []
    on(cluster, "node2", DAEMON_UTIL, "start-all")
    assert_healthy(cluster)
    on(cluster, "node1", DAEMON_UTIL, "stop-master")
    assert daemons(cluster)["node1"] == CANDIDATE
    on(cluster, "node1", DAEMON_UTIL, "start-master")
    assert_healthy(cluster)


def test_daemon_util_reports_a_start_that_failed(cluster: Machine) -> None:
    cluster.sh(
        "cd /var/lib/ganeti-vcluster/default/node2/var/lib/ganeti && cp -a server.pem /root/ && echo broken >server.pem"
    )
    on(cluster, "node2", DAEMON_UTIL, "stop", "ganeti-noded")
    done = cluster.run("gnt-vcluster", "exec", "node2", "--", DAEMON_UTIL, "start", "ganeti-noded", check=False)
    cluster.sh("cp -a /root/server.pem /var/lib/ganeti-vcluster/default/node2/var/lib/ganeti/")
    assert done.returncode == 1
    cluster.wait_for("systemctl is-active ganeti-noded@node2")
    assert_healthy(cluster)


def test_log_rotation_reaches_the_daemon(cluster: Machine) -> None:
    log = "/var/lib/ganeti-vcluster/default/node2/var/log/ganeti/node-daemon.log"
    cluster.sh(f"mv {log} {log}.1")
    on(cluster, "node2", DAEMON_UTIL, "rotate-all-logs")
    cluster.wait_for(f"gnt-vcluster exec master -- gnt-node list >/dev/null; test -s {log}")


#: As Debian's ganeti-instance-debootstrap has it: the OS definition's lists are links to /etc/ganeti.
PACKAGED_OS = """
def=/usr/share/ganeti/os/packaged etc=/etc/ganeti/instance-packaged
cp -r /usr/share/ganeti/os/dummy-variants $def && mkdir -p $etc/variants
mv $def/variants.list $etc/ && ln -s $etc/variants.list $def/variants.list && touch $etc/variants/default.conf
ln -s /root /etc/ganeti/scripts
"""


def test_an_os_definition_of_a_package_keeps_its_settings(cluster: Machine) -> None:
    cluster.sh(PACKAGED_OS)
    cluster.run("gnt-vcluster", "restart")
    variants = {line.split()[0] for line in on_master(cluster, "gnt-os", "list", "--no-headers").splitlines()}
    assert {
        f"packaged+{name}" for name in cluster.get("/etc/ganeti/instance-packaged/variants.list").split()
    } <= variants
    assert (
        on(cluster, "node2", "sh", "-c", "ls -L /usr/share/ganeti/os/packaged /etc/ganeti").count("variants.list") == 1
    )
    assert "scripts" not in on(cluster, "node2", "ls", "/etc/ganeti"), "what belongs to the machine's own cluster"
    cluster.sh("rm -r /usr/share/ganeti/os/packaged /etc/ganeti/instance-packaged /etc/ganeti/scripts")
    cluster.run("gnt-vcluster", "restart")
    assert "instance-packaged" not in on(cluster, "node2", "ls", "/etc/ganeti")


#: An external storage provider that keeps its disks in files of the node.
PROVIDER = r"""
dir=/usr/share/ganeti/extstorage/tiny && mkdir -p $dir && cd $dir
printf 'name
' >parameters.list
printf '#!/bin/sh
' | tee verify setinfo detach grow >/dev/null
printf '#!/bin/sh
mkdir -p /srv/tiny && truncate -s "${VOL_SIZE}M" "/srv/tiny/$VOL_NAME"
' >create
printf '#!/bin/sh
rm -f "/srv/tiny/$VOL_NAME"
' >remove
printf '#!/bin/sh
echo "/srv/tiny/$VOL_NAME"
' >attach
chmod 755 verify setinfo detach grow create remove attach
"""


def test_a_provider_of_external_storage(cluster: Machine) -> None:
    cluster.sh(PROVIDER)
    on_master(cluster, "gnt-cluster", "modify", "--enabled-disk-templates=diskless,file,sharedfile,ext",
              "--ipolicy-disk-templates=diskless,file,sharedfile,ext")  # fmt: skip
    on_master(cluster, "gnt-storage", "diagnose")
    add = ("gnt-instance", "add", "-t", "ext", "--disk=0:size=64,provider=tiny", "-o", "dummy", "--no-start", "--no-install",
           "--no-nics", "--no-name-check", "--no-ip-check", "-n", "node2", "ext1")  # fmt: skip
    done = on_master(cluster, *add, check=False)
    assert "log directory" not in done and "Failure" not in done, done
    assert on(cluster, "node2", "sh", "-c", "ls /srv/tiny /var/log/ganeti/extstorage").count("\n") > 2
    on_master(cluster, "gnt-instance", "remove", "-f", "ext1")


def test_cluster_destroy_and_init_by_hand(cluster: Machine) -> None:
    for node in ("node3", "node2"):
        on_master(cluster, "gnt-node", "remove", node)
    on_master(cluster, "gnt-cluster", "destroy", "--yes-do-it")
    cluster.wait_for("gnt-vcluster status -o daemons --no-headers | sort -u | grep -qx -e -")
    assert strays(cluster) == ""
    cluster.run("gnt-vcluster", "up")
    assert_healthy(cluster)
