# SPDX-License-Identifier: BSD-2-Clause
"""snapshot and run: a cluster as it was, one for a single command, and what is left when somebody is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest

from tests.support.fingerprint import CANDIDATE, MASTER, daemons, difference, fingerprint, on, on_master, verify_errors
from tests.support.machine import Machine

STATE = "/var/lib/ganeti-vcluster"
DATA = f"{STATE}/default"
SNAPSHOTS = f"{STATE}/.snapshots/default"
SNAPSHOT = ("gnt-vcluster", "snapshot")
#: How often `save` and `restore` are killed.
KILL_ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))
#: Control groups that stand still, and what was noted of them.
FROZEN = (
    "find /sys/fs/cgroup/ganeti.slice -name cgroup.freeze | xargs grep -l 1; ls /run/ganeti-vcluster/frozen 2>/dev/null"
)


@pytest.fixture(scope="module")
def saved(machine: Machine, untouched: str) -> Machine:
    """A cluster of three nodes, with two instances, of which there is the snapshot `clean`."""
    machine.run("gnt-vcluster", "up", "--instances", "2")
    machine.run(*SNAPSHOT, "save", "clean")
    return machine


def refused(machine: Machine, *argv: str) -> str:
    done = machine.run(*argv, check=False)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stdout + done.stderr
    return done.stderr


def instances(machine: Machine) -> dict[str, str]:
    out = on_master(machine, "gnt-instance", "list", "--no-headers", "--separator=|", "-o", "name,status")
    return dict(line.split("|") for line in out.splitlines())


def names(machine: Machine) -> list[str]:
    return machine.run(*SNAPSHOT, "list", "--no-headers", "-o", "snapshot").stdout.split()


def still(machine: Machine) -> str:
    """Empty when nothing is frozen."""
    return machine.sh(FROZEN, check=False).stdout


def test_a_running_cluster_is_saved_and_brought_back(saved: Machine) -> None:
    before = saved.sh("for n in 1 2 3; do systemctl show -P MainPID ganeti-noded@node$n; done").stdout
    document = json.loads(saved.run(*SNAPSHOT, "save", "default", "again", "--json").stdout)
    assert document["schema"] == 1 and document["state"] == "running" and document["nodes"] == 3
    assert 0 < document["stood_still"] <= document["seconds"]
    after = saved.sh("for n in 1 2 3; do systemctl show -P MainPID ganeti-noded@node$n; done").stdout
    assert after == before and still(saved) == "", "the nodes run on"
    on_master(saved, "gnt-instance", "shutdown", "instance1")
    on_master(saved, "gnt-instance", "remove", "-f", "instance2")
    saved.sh(f"echo '# remark' >>/etc/ganeti-vcluster/default.conf; touch {DATA}/node2/stray")
    dry = saved.run(*SNAPSHOT, "restore", "clean", "--keep", "changed", "--dry-run").stdout
    assert f"would replace {DATA}" in dry and "changed" in dry and names(saved) == ["clean", "again"]
    saved.run(*SNAPSHOT, "restore", "clean", "--keep", "changed")
    assert instances(saved) == {"instance1": "running", "instance2": "running"}
    assert daemons(saved) == {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
    assert verify_errors(saved) == []
    assert (
        saved.sh(
            f"test ! -e {DATA}/node2/stray && ! grep remark /etc/ganeti-vcluster/default.conf; ls -A -I .lock {STATE}"
        ).stdout
        == ".snapshots\ndefault\n"
    )
    saved.run(*SNAPSHOT, "restore", "changed")
    assert instances(saved) == {"instance1": "ADMIN_down"}
    assert saved.sh(f"cat {DATA}/node2/stray; tail -n 1 /etc/ganeti-vcluster/default.conf").stdout == "# remark\n"
    saved.run(*SNAPSHOT, "delete", "changed")
    saved.run(*SNAPSHOT, "delete", "default", "again")
    assert names(saved) == ["clean"]


def test_a_stopped_cluster(saved: Machine) -> None:
    saved.run(*SNAPSHOT, "restore", "clean")
    saved.run("gnt-vcluster", "stop")
    assert "copy" in saved.run(*SNAPSHOT, "save", "stopped", "--dry-run").stdout
    document = json.loads(saved.run(*SNAPSHOT, "save", "stopped", "--json").stdout)
    assert document["state"] == "stopped" and document["stood_still"] == 0
    saved.run(*SNAPSHOT, "restore", "stopped", "--no-start")
    assert all(running == [] for running in daemons(saved).values())
    saved.run("gnt-vcluster", "start")
    assert instances(saved) == {"instance1": "running", "instance2": "running"} and verify_errors(saved) == []
    saved.run(*SNAPSHOT, "delete", "stopped")


def test_what_is_refused(saved: Machine) -> None:
    assert "clean" in refused(saved, *SNAPSHOT, "save", "clean")
    assert "snapshot list" in refused(saved, *SNAPSHOT, "restore", "none")
    assert "there is no cluster none and no snapshot of it" in refused(saved, *SNAPSHOT, "list", "none")
    assert "clean" in refused(saved, *SNAPSHOT, "restore", "clean", "--keep", "clean")
    assert ".bad" in refused(saved, *SNAPSHOT, "save", ".bad")
    assert "there is no cluster none" in refused(saved, *SNAPSHOT, "save", "none", "one")
    saved.sh(f"""sed -i 's/"ganeti": "3/"ganeti": "2/' {SNAPSHOTS}/clean/about.json""")
    assert "Ganeti 2." in refused(saved, *SNAPSHOT, "restore", "clean")
    saved.sh(f"""sed -i 's/"ganeti": "2/"ganeti": "3/' {SNAPSHOTS}/clean/about.json""")
    assert names(saved) == ["clean"] and saved.sh(f"ls -A -I .lock {STATE}").stdout == ".snapshots\ndefault\n"


def test_jobs(saved: Machine) -> None:
    job = on_master(saved, "gnt-debug", "delay", "--submit", "1000", check=False).split()[-1]
    saved.wait_for(f"{DATA}/node1/cmd 'gnt-job list --no-headers -o status {job}' | grep running")
    assert f"the job {job} is running" in refused(saved, *SNAPSHOT, "save", "live")
    assert json.loads(saved.run(*SNAPSHOT, "save", "live", "--live", "--json").stdout)["state"] == "live"
    assert on_master(saved, "gnt-job", "list", "--no-headers", "-o", "status", job) == "running\n"
    saved.run(*SNAPSHOT, "restore", "live")
    # As after a power cut: luxid looks for it every 307 seconds (constants.LUXID_JOBQUEUE_POLL_INTERVAL).
    assert on_master(saved, "gnt-job", "list", "--no-headers", "-o", "status", job) in ("running\n", "error\n")
    on_master(saved, "gnt-instance", "shutdown", "instance1")
    assert verify_errors(saved) == []
    saved.run(*SNAPSHOT, "delete", "live")


def test_a_master_that_moved(saved: Machine) -> None:
    """The snapshot's master is another than the present one."""
    saved.run(*SNAPSHOT, "restore", "clean")
    on(saved, "node2", "gnt-cluster", "master-failover")
    saved.run(*SNAPSHOT, "restore", "clean")
    assert daemons(saved) == {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
    assert saved.sh("ip -o addr show to 192.0.2.1 | wc -l").stdout == "1\n" and verify_errors(saved) == []


def kill_at(machine: Machine, command: str, when: str, seconds: float) -> bool:
    """Kill a command so long after a condition came true. Returns whether it was there to be killed."""
    return machine.sh(
        f"{command} >/root/killed.log 2>&1 & pid=$!\n"
        f"until {when} || ! kill -0 $pid 2>/dev/null; do sleep 0.002; done; sleep {seconds:.3f}\n"
        "kill -KILL $pid 2>/dev/null && echo killed; wait $pid; true"
    ).stdout.startswith("killed")  # fmt: skip


def test_save_killed_at_any_moment(saved: Machine) -> None:
    # So that the nodes stand still for a while.
    saved.sh(f"head -c 200M /dev/zero >{DATA}/node2/ballast")
    begin = time.monotonic()
    saved.run(*SNAPSHOT, "save", "whole")
    whole = time.monotonic() - begin
    saved.run(*SNAPSHOT, "delete", "whole")
    frozen = 0
    for number in range(KILL_ROUNDS):
        at_random = number % 3 == 2
        seconds = random.uniform(0, whole if at_random else whole / 3)
        when = "true" if at_random else "[ -e /run/ganeti-vcluster/frozen ]"
        killed = kill_at(saved, "gnt-vcluster snapshot save killed", when, seconds)
        saved.wait_for(f'test -z "$({FROZEN})"')
        assert len(on_master(saved, "gnt-node", "list", "--no-headers").splitlines()) == 3
        left = saved.sh(f"ls -A {SNAPSHOTS}").stdout.split()
        frozen += any(name.endswith(".partial") for name in left)
        present = names(saved)  # which cleans
        assert killed or "killed" in present, saved.get("/root/killed.log")
        assert sorted(present) == sorted(saved.sh(f"ls -A {SNAPSHOTS}").stdout.split()), seconds
        if "killed" not in present:
            saved.run(*SNAPSHOT, "save", "killed")
        assert saved.sh(f"diff -r --no-dereference {DATA}/node3/etc {SNAPSHOTS}/killed/cluster/node3/etc").stdout == ""
        saved.run(*SNAPSHOT, "delete", "killed")
    assert frozen or KILL_ROUNDS < 6, "none was killed while it copied"
    saved.sh(f"rm {DATA}/node2/ballast")


def test_both_killed(saved: Machine) -> None:
    """With the process that would have thawed the nodes: the manager does it, when it is told to look."""
    saved.sh(f"head -c 200M /dev/zero >{DATA}/node2/ballast")
    saved.sh(
        "gnt-vcluster snapshot save killed & pid=$!; until [ -e /run/ganeti-vcluster/frozen ] && pgrep -x cp; do :; done\n"
        "kill -KILL $(pgrep -f '^/bin/sh /usr/lib/ganeti-vcluster/thaw') $pid; wait", check=False
    )  # fmt: skip
    assert "node2" in still(saved)
    saved.run("systemctl", "reload", "ganeti-vcluster")
    assert still(saved) == ""
    saved.sh(f"rm {DATA}/node2/ballast")
    assert names(saved) == ["clean"] and verify_errors(saved) == []


def test_restore_killed_at_any_moment(saved: Machine) -> None:
    """The same command again comes to its end; the state before is kept, once."""
    begin = time.monotonic()
    saved.run(*SNAPSHOT, "restore", "clean")
    whole = time.monotonic() - begin
    moments = []
    for number in range(KILL_ROUNDS):
        saved.sh(f"echo {number} >{DATA}/node2/marker")
        if number % 2:
            when, seconds = f"[ -e {STATE}/.default.restore/journal.json ]", random.uniform(0, 0.6)
        else:
            when, seconds = "true", random.uniform(0, whole)
        command = f"gnt-vcluster snapshot restore clean --keep kept{number}"
        kill_at(saved, command, when, seconds)
        left = saved.sh(f"ls -A {STATE}/.default.restore {STATE}/.default.restore/old 2>/dev/null", check=False).stdout
        moments.append((seconds, left.split()))
        again = saved.run(*command.split(), check=False)
        if again.returncode:
            # The first one had come to its end before it was killed.
            assert "already" in again.stderr and not left, (moments[-1], again.stderr)
        marker = f"{SNAPSHOTS}/kept{number}/cluster/node2/marker"
        assert saved.get(marker) == f"{number}\n", moments[-1]
        assert (
            saved.sh(f"ls -A -I .lock {STATE}; ls {DATA}/node2/marker", check=False).stdout == ".snapshots\ndefault\n"
        )
        assert still(saved) == ""
        assert instances(saved) == {"instance1": "running", "instance2": "running"}, moments[-1]
        saved.run(*SNAPSHOT, "delete", f"kept{number}")
    assert verify_errors(saved) == [], moments
    assert any(left for _, left in moments) or KILL_ROUNDS < 6, moments


def test_a_reboot_in_the_middle_of_the_exchange(saved: Machine) -> None:
    """As if killed between the two renames: the manager finishes it before it looks at anything."""
    saved.run("gnt-vcluster", "stop")
    place = f"{STATE}/.default.restore"
    saved.sh(f"mkdir -p {place}/old {place}/new && cp -a {SNAPSHOTS}/clean/cluster* {place}/new/ &&"
             f' echo \'{{"snapshot": "clean", "keep": ""}}\' >{place}/journal.json && mv {DATA} {place}/old/cluster')  # fmt: skip
    saved.run("systemctl", "restart", "ganeti-vcluster")
    assert saved.sh(f"ls -A -I .lock {STATE}").stdout == ".snapshots\ndefault\n"
    saved.run("gnt-vcluster", "start")
    assert instances(saved) == {"instance1": "running", "instance2": "running"} and verify_errors(saved) == []


def test_another_number_of_nodes(saved: Machine) -> None:
    saved.run("gnt-vcluster", "destroy", "--yes")
    saved.run("gnt-vcluster", "up", "--nodes", "2", "--network", "198.51.100.0/24")
    saved.run(*SNAPSHOT, "restore", "clean", "--keep", "two")
    assert daemons(saved) == {"node1": MASTER, "node2": CANDIDATE, "node3": CANDIDATE}
    assert saved.sh("ip -o addr show dev gnt-default | grep -c ' 192.0.2.1[012]/'").stdout == "3\n"
    assert verify_errors(saved) == []
    saved.run(*SNAPSHOT, "restore", "two")
    assert daemons(saved) == {"node1": MASTER, "node2": CANDIDATE} and verify_errors(saved) == []
    assert saved.sh("grep node3 /etc/hosts; ls /etc/systemd/system | grep node3; ip -o addr | grep 192.0.2;"
                    " systemctl list-units --plain --no-legend '*node3*'", check=False).stdout == ""  # fmt: skip
    saved.run(*SNAPSHOT, "delete", "two")


def test_a_cluster_that_was_destroyed_comes_back_where_there_is_room(saved: Machine, untouched: str) -> None:
    assert "kept" in saved.run("gnt-vcluster", "destroy", "--yes").stderr
    assert difference(untouched, fingerprint(saved)) == []
    saved.run("gnt-vcluster", "create", "lab", "--network", "192.0.2.0/25")
    assert "192.0.2.0/25 of the cluster lab" in refused(saved, *SNAPSHOT, "restore", "default", "clean")
    saved.run("gnt-vcluster", "destroy", "lab", "--yes")
    assert "keep" in refused(saved, *SNAPSHOT, "restore", "clean", "--keep", "nothing")
    saved.run(*SNAPSHOT, "restore", "clean")
    assert instances(saved) == {"instance1": "running", "instance2": "running"} and verify_errors(saved) == []


def test_nodes_with_disks(saved: Machine, untouched: str) -> None:
    """The image is copied, not what is mounted, and is a sound file system although somebody writes to it."""
    saved.sh("[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; "
             "for n in $(seq 0 15); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done")  # fmt: skip
    saved.run("gnt-vcluster", "create", "disks", "--nodes", "1", "--domain", "d.example")
    saved.sh("sed -i 's/^# disk =.*/disk = 128M/' /etc/ganeti-vcluster/disks.conf")
    saved.run("gnt-vcluster", "up", "disks")
    node = f"{STATE}/disks/node1.d.example"
    storage = f"{node}/srv/ganeti/file-storage"
    saved.sh(f"echo before >{storage}/text; sync")
    saved.sh(f"(while :; do head -c 100k /dev/urandom >{storage}/$RANDOM; rm -f {storage}/[1-9]*; done) & "
             f"sleep 0.5; gnt-vcluster snapshot save disks with; status=$?; kill $!; exit $status")  # fmt: skip
    copy = f"{STATE}/.snapshots/disks/with/cluster/node1.d.example"
    assert saved.sh(f"ls -A {copy}/srv/ganeti/file-storage").stdout == ""
    assert saved.sh(f"e2fsck -fn {copy}/disk.img").returncode == 0
    saved.sh(f"echo after >{storage}/text")  # it is not frozen
    saved.run(*SNAPSHOT, "restore", "disks", "with")
    assert saved.get(f"{storage}/text") == "before\n" and saved.sh(f"findmnt -n {storage}").stdout.count("loop") == 1
    saved.run("gnt-vcluster", "destroy", "disks", "--yes", "--snapshots")
    assert saved.sh(f"ls -A {STATE} {STATE}/.snapshots; losetup -a", check=False).stdout.split().count("disks") == 0


RUN = ("gnt-vcluster", "run", "--from", "clean")
LEFT = f"ls -A -I .lock {STATE}; ls /etc/ganeti-vcluster; pgrep -af 'sleep 100[0]|ganeti-noded'"


def test_a_cluster_for_one_command(saved: Machine, untouched: str) -> None:
    """A new one beside others; its output and status are the command's."""
    done = saved.run("gnt-vcluster", "run", "--nodes", "2", "--", "sh", "-c",
                     "gnt-node list --no-headers -o name; echo $GANETI_VCLUSTER_NAME; exit 7", check=False)  # fmt: skip
    one, two, name = done.stdout.split()
    assert done.returncode == 7 and (one, two) == (f"node1.{name}", f"node2.{name}")
    assert saved.run("gnt-vcluster", "list", "--no-headers", "-o", "cluster,state").stdout.split() == [
        "default",
        "running",
    ]
    assert "default" in refused(saved, *RUN, "true")
    saved.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(saved)) == []


def test_from_a_snapshot(saved: Machine, untouched: str) -> None:
    done = saved.run(*RUN, "gnt-instance", "list", "--no-headers", "-o", "name", "--", check=False)
    assert done.stdout.split() == ["instance1", "instance2"] and done.returncode == 0
    assert saved.run(*RUN, "nonsense", check=False).returncode == 127
    assert "--from" in refused(saved, *RUN, "--nodes", "3", "true")
    assert "none" in refused(saved, "gnt-vcluster", "run", "--from", "none", "true")
    assert difference(untouched, fingerprint(saved)) == []


def start(machine: Machine) -> subprocess.Popen[str]:
    """A throw-away cluster whose command waits."""
    machine.run("gnt-vcluster", "destroy", "default", "--yes", check=False)
    process = subprocess.Popen(
        machine.enter(["script", "-qec", " ".join([*RUN, "sleep", "1000"]), "/dev/null"]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    machine.wait_for("pgrep -x sleep -a | grep 1000")
    return process


def test_ctrl_c(saved: Machine, untouched: str) -> None:
    process = start(saved)
    assert process.stdin
    process.stdin.write("\x03")
    process.stdin.flush()
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in out, out
    assert difference(untouched, fingerprint(saved)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(saved: Machine, untouched: str, number: signal.Signals) -> None:
    process = start(saved)
    saved.sh(f"kill -{number.value} $(pgrep -f '^/usr/bin/python3 -I /usr/bin/gnt-vcluster run')")
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number and "Traceback" not in out, out
    assert difference(untouched, fingerprint(saved)) == []


def test_a_signal_while_the_cluster_comes_up(saved: Machine, untouched: str) -> None:
    process = saved.popen("gnt-vcluster", "run", "--nodes", "2", "true")
    saved.wait_for(f"ls {STATE}/run*/node1.run*/var/lib/ganeti/server.pem")
    saved.sh("kill -TERM $(pgrep -f '^/usr/bin/python3 -I /usr/bin/gnt-vcluster run')")
    out = process.communicate(timeout=90)[0]
    assert process.returncode == 143 and "Traceback" not in out, out
    assert difference(untouched, fingerprint(saved)) == []


def test_the_next_run_cleans_what_a_killed_one_left(saved: Machine, untouched: str) -> None:
    process = start(saved)
    saved.sh("kill -KILL $(pgrep -f '^/usr/bin/python3 -I /usr/bin/gnt-vcluster run')")
    process.communicate(timeout=60)
    assert "default" in saved.sh(LEFT).stdout
    saved.wait_for("! pgrep -f 'sleep 100[0]'")
    done = saved.run("gnt-vcluster", "run", "--nodes", "1", "true")
    assert "removing default" in done.stderr
    assert difference(untouched, fingerprint(saved)) == []
    assert saved.sh(f"ls -A -I .lock {STATE}").stdout == ".snapshots\n"


def test_what_is_asked_for_by_its_name_is_not_cleaned(saved: Machine) -> None:
    process = start(saved)
    saved.sh("kill -KILL $(pgrep -f '^/usr/bin/python3 -I /usr/bin/gnt-vcluster run')")
    process.communicate(timeout=60)
    saved.run("gnt-vcluster", "up")
    saved.run("gnt-vcluster", "run", "--nodes", "1", "true")
    assert instances(saved) == {"instance1": "running", "instance2": "running"}


def test_purging_the_package_removes_snapshots(saved: Machine) -> None:
    saved.sh("apt-get purge -y ganeti-vcluster", timeout=120)
    assert saved.run("ls", STATE, check=False).returncode != 0
