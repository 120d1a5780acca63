# SPDX-License-Identifier: BSD-2-Clause
# long: the rows of one table share a cluster.
"""What Ganeti's design for virtual clusters lists (doc/design-virtual-clusters.rst), row by row, with Ganeti's own commands.

Each test is named after its row. Node 1 is the master, node 2 has hardware of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support import fingerprint
from tests.support.fingerprint import daemons, on_master, status, strays, verify_errors
from tests.support.machine import Machine

DOMAIN = "example.com"
NODE1, NODE2, NODE3, NODE4 = (f"node{number}.{DOMAIN}" for number in (1, 2, 3, 4))
CONF = "/etc/ganeti-vcluster/default.conf"
DATA = "/var/lib/ganeti-vcluster/default"
SMALL = ("-B", "memory=128", "--no-nics", "--no-name-check", "--no-ip-check")


@pytest.fixture(scope="module")
def four(machine: Machine) -> Iterator[Machine]:
    """A cluster of four nodes with hardware of their own."""
    # Where a container has no loop devices, the kernel's are still there to be named.
    machine.sh("[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; "
               "for n in $(seq 0 15); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done")  # fmt: skip
    machine.run("gnt-vcluster", "create", "--nodes", "4", "--domain", DOMAIN)
    machine.sh(f"sed -i 's/^# memory =.*/memory = 16G/; s/^# cpus =.*/cpus = 8/; s/^# disk =.*/disk = 3G/' {CONF} && "
               f"printf '[[{NODE2}]]\nmemory = 4G\ncpus = 2\ndisk = 2G\n' >>{CONF}")  # fmt: skip
    machine.run("gnt-vcluster", "up")
    yield machine
    assert verify_errors(machine) == []


@pytest.fixture(autouse=True)
def nothing_is_left(four: Machine) -> Iterator[None]:
    """After each row no process is outside of its unit, and after the last one the cluster is right."""
    yield
    for name in on_master(four, "gnt-instance", "list", "--no-headers", "-o", "name").split():
        on_master(four, "gnt-instance", "remove", "-f", "--shutdown-timeout=0", name)
    assert strays(four) == ""


def add(machine: Machine, name: str, *options: str) -> None:
    on_master(machine, "gnt-instance", "add", "-o", "dummy", *SMALL, *options, name)


def listed(machine: Machine, fields: str, *names: str) -> list[list[str]]:
    out = on_master(machine, "gnt-instance", "list", "--no-headers", "--separator=|", "-o", fields, *names)
    return [line.split("|") for line in out.splitlines()]


def nodes(machine: Machine, fields: str, *options: str) -> list[list[str]]:
    out = on_master(machine, "gnt-node", "list", "--no-headers", "--separator=|", *options, "-o", fields)
    return [line.split("|") for line in out.splitlines()]


def on(machine: Machine, node: str, script: str) -> str:
    return fingerprint.on(machine, node, "sh", "-c", script)


def disk_text(machine: Machine, node: str, instance: str) -> str:
    """What the OS definition wrote at the beginning of an instance's file-based disk, as the node sees it."""
    script = f"head -c 512 /srv/ganeti/file-storage/{instance}/*disk0 | tr -d '\\0'"
    return on(machine, node, script)


def test_the_example_of_the_documentation(four: Machine) -> None:
    command = ("gnt-instance add --os-size 1G --disk-template=file --os-type dummy -B memory=192 -I hail "
               "instance1.example.com")  # fmt: skip
    on_master(four, *command.split())
    assert listed(four, "name,status,disk_template") == [["instance1.example.com", "running", "file"]]


@pytest.mark.parametrize("template", ["diskless", "file", "sharedfile"])
def test_disk_operations(four: Machine, template: str) -> None:
    disk = () if template == "diskless" else ("-s", "64M")
    add(four, "one", "-t", template, *disk, "-n", NODE2)
    if disk:
        on_master(four, "gnt-instance", "grow-disk", "one", "0", "64M")
        assert listed(four, "disk.sizes") == [["128"]]
    on_master(four, "gnt-instance", "shutdown", "one")
    if template == "file":
        before = disk_text(four, NODE2, "one")
        on_master(four, "gnt-instance", "move", "-f", "-n", NODE3, "one")
        assert "instance=one" in before and disk_text(four, NODE3, "one") == before
    if disk:  # Ganeti converts neither from nor to diskless
        other = "sharedfile" if template == "file" else "file"
        on_master(four, "gnt-instance", "modify", "-t", other, "one")
        assert listed(four, "disk_template") == [[other]]
        on(four, NODE1, "rm -rf /srv/ganeti/shared-file-storage/one")
        on(four, f"node[2-3].{DOMAIN}", "rm -rf /srv/ganeti/file-storage/one")
        on_master(four, "gnt-instance", "recreate-disks", "one")
    on_master(four, "gnt-instance", "startup", "one")


def test_disk_query(four: Machine) -> None:
    """Total and free space are those of the node's own storage."""
    add(four, "one", "-t", "file", "-s", "512M", "-n", NODE2, "-O", "note=x")
    on(four, NODE2, "dd if=/dev/zero of=/srv/ganeti/file-storage/filler bs=1M count=500 status=none")
    try:
        figures = {name: (int(total), int(free)) for name, total, free in nodes(four, "name,dtotal,dfree", "--units=m")}
        assert 3000 < figures[NODE1][0] <= 3072 and 2000 < figures[NODE2][0] <= 2048
        assert figures[NODE1][1] > 2900 and figures[NODE2][1] < 1600
        storage = on_master(four, "gnt-node", "list-storage", "--storage-type=file", "--no-headers", "--separator=|",
                            "--units=m", "-o", "node,size")  # fmt: skip
        (size,) = (line.split("|")[1] for line in storage.splitlines() if line.startswith(NODE2))
        assert abs(int(size) - figures[NODE2][0]) <= 1
        assert "DSK" in on_master(four, "hspace", "-L", "--machine-readable", "--disk-template", "file")
    finally:
        on(four, NODE2, "rm /srv/ganeti/file-storage/filler")


def test_file_storage(four: Machine) -> None:
    """Each node has its own behind the same path, for daemons and sessions; the shared one is shared."""
    for node in (NODE2, NODE3):
        on(four, node, "echo $GANETI_HOSTNAME >/srv/ganeti/file-storage/mark; "
                       "echo $GANETI_HOSTNAME >>/srv/ganeti/shared-file-storage/mark")  # fmt: skip
    assert on(four, NODE2, "cat /srv/ganeti/file-storage/mark").strip() == NODE2
    assert four.run("ssh", NODE3, "cat /srv/ganeti/file-storage/mark").stdout.strip() == NODE3
    assert on(four, NODE1, "cat /srv/ganeti/shared-file-storage/mark").split() == [NODE2, NODE3]
    on(four, NODE1, "rm /srv/ganeti/shared-file-storage/mark")
    on(four, "node[2-3]", "rm /srv/ganeti/file-storage/mark")
    assert four.sh("ls /srv").stdout == "", "nothing of the machine's own is touched"
    add(four, "one", "-t", "file", "-s", "64M", "-n", NODE2, "--no-start")
    four.sh(f"ssh {NODE2} tar cC /srv/ganeti/file-storage one | ssh {NODE4} tar xC /srv/ganeti/file-storage")
    on_master(four, "gnt-instance", "modify", f"--new-primary={NODE4}", "one")
    on(four, NODE2, "rm -r /srv/ganeti/file-storage/one")
    assert "instance=one" in disk_text(four, NODE4, "one")


def test_hypervisor_operations(four: Machine) -> None:
    add(four, "one", "-t", "sharedfile", "-s", "64M", "-n", NODE2)
    on_master(four, "gnt-instance", "reboot", "one")
    on_master(four, "gnt-instance", "migrate", "-f", "-n", NODE3, "one")
    on_master(four, "gnt-instance", "failover", "-f", "-n", NODE4, "one")
    assert listed(four, "pnode,status") == [[NODE4, "running"]]
    assert "not available" in on_master(four, "gnt-instance", "console", "one")
    on_master(four, "gnt-instance", "shutdown", "one")
    assert listed(four, "status") == [["ADMIN_down"]]
    on_master(four, "gnt-instance", "startup", "one")


def test_instance_networking(four: Machine) -> None:
    on_master(four, "gnt-network", "add", "--network=10.20.0.0/29", "--gateway=10.20.0.1", "pool")
    on_master(four, "gnt-network", "connect", "--nic-parameters=mode=bridged,link=gnt-default", "pool")
    for name, nic in (
        ("one", "0:ip=pool,network=pool"),
        ("two", "0:mode=routed,ip=10.30.0.7,link=gnt-default"),
        ("three", "0"),
    ):
        on_master(four, "gnt-instance", "add", "-o", "dummy", "-t", "diskless", "-B", "memory=128", "--no-name-check",
                  "--no-ip-check", "--net", nic, "-I", "hail", name)  # fmt: skip
    assert listed(four, "name,nic.mode/0,nic.ip/0,nic.link/0") == [
        ["one", "bridged", "10.20.0.2", "gnt-default"], ["three", "bridged", "-", "gnt-default"],
        ["two", "routed", "10.30.0.7", "gnt-default"]]  # fmt: skip
    on_master(four, "gnt-instance", "remove", "-f", "one")
    on_master(four, "gnt-network", "disconnect", "pool")
    on_master(four, "gnt-network", "remove", "pool")


def test_instance_os_operations(four: Machine) -> None:
    assert "dummy" in on_master(four, "gnt-os", "list").split()
    assert on_master(four, "gnt-os", "list", "--no-headers").count("dummy-variants+") == 3
    assert on_master(four, "gnt-os", "diagnose").count("valid") >= 3
    add(four, "one", "-t", "file", "-s", "64M", "-n", NODE2, "-O", "note=hello world")
    text = disk_text(four, NODE2, "one").splitlines()
    assert text[1:] == ["script=create", "instance=one", "variant=", "note=hello world"]
    on_master(four, "gnt-instance", "shutdown", "one")
    on_master(four, "gnt-instance", "reinstall", "-f", "-o", "dummy-variants+small", "one")
    assert "variant=small" in disk_text(four, NODE2, "one")
    # The new name must resolve: Ganeti 3.0 looks by itself, 3.1 when told to.
    check = () if four.release == "bookworm" else ("--name-check",)
    on_master(four, "gnt-instance", "rename", *check, "one", f"instance2.{DOMAIN}")
    on_master(four, "gnt-instance", "rename", *check, f"instance2.{DOMAIN}", f"instance3.{DOMAIN}")
    assert f"script=rename\ninstance=instance3.{DOMAIN}" in disk_text(four, NODE2, f"instance3.{DOMAIN}")
    for wrong, word in (("fail=everything", "fail"), ("delay=long", "delay"), ("unknown=1", "unknown")):
        done = on_master(four, "gnt-instance", "modify", "-O", wrong, f"instance3.{DOMAIN}", check=False)
        assert word in done
    done = on_master(four, "gnt-instance", "add", "-o", "dummy", *SMALL, "-t", "file", "-s", "64M", "-O", "fail=create", "-n", NODE3,
                     "three", check=False)  # fmt: skip
    assert "Could not add os" in done


def test_node_networking(four: Machine) -> None:
    shown = "ip -o addr show dev gnt-default to 192.0.2.1/32"
    assert "192.0.2.1/32" in four.sh(shown).stdout
    on_master(four, "gnt-cluster", "deactivate-master-ip", "--yes")
    assert four.sh(shown).stdout == ""
    ping = ("fping", "-c", "1", "192.0.2.1")
    assert on_master(four, *ping, check=False) == "192.0.2.1 is unreachable\n"
    on_master(four, "gnt-cluster", "activate-master-ip")
    assert "bytes" in on_master(four, *ping)
    assert "192.0.2.1/32" in four.sh(shown).stdout
    on(four, NODE2, "gnt-cluster master-failover")
    assert "192.0.2.1/32" in four.wait_for(f"{shown} | grep .")
    four.wait_for("curl -sk https://192.0.2.1:5080/version | grep 401")  # it answers, and asks for a password
    on(four, NODE1, "gnt-cluster master-failover")


@pytest.mark.parametrize("how", ["stopped cleanly", "killed", "powered off"])
def test_master_failover(four: Machine, how: str) -> None:
    if how == "stopped cleanly":
        on(four, NODE1, "/usr/lib/ganeti/daemon-util stop-master")
    elif how == "killed":
        four.sh(f"systemctl kill -s KILL 'ganeti-*@{NODE1}.service'")
        four.wait_for(f"[ $(systemctl show -P NRestarts ganeti-noded@{NODE1}) -gt 0 ] && "
                      f"systemctl is-active ganeti-noded@{NODE1}")  # fmt: skip
    else:
        four.run("/usr/lib/ganeti-vcluster/power", "off", NODE1)
    on(four, NODE2, "gnt-cluster master-failover")
    assert {"luxid", "wconfd", "rapi"} <= set(daemons(four)[NODE2])
    four.run("gnt-vcluster", "up")
    on(four, NODE1, "gnt-cluster master-failover")
    assert status(four)["master"] == NODE1


def test_file_upload(four: Machine) -> None:
    four.put(f"{DATA}/{NODE1}/etc/ganeti/note", "copied\n")
    on_master(four, "gnt-cluster", "copyfile", f"{DATA}/{NODE1}/etc/ganeti/note")
    for node in (NODE2, NODE3, NODE4):
        assert on(four, node, "cat /etc/ganeti/note") == "copied\n"
    add(four, "one", "-t", "diskless", "-n", NODE2)
    on_master(four, "gnt-cluster", "redist-conf")
    same = (
        f"cd {DATA} && md5sum */var/lib/ganeti/config.data */var/lib/ganeti/queue/serial | cut -c1-32 | sort | uniq -c"
    )
    assert four.wait_for(f"[ $({same} | wc -l) = 2 ] && {same}").split()[::2] == ["4", "4"]


def processes(machine: Machine, node: str) -> list[str]:
    """Those below a node's slice."""
    return machine.sh(
        f"cat /sys/fs/cgroup/ganeti.slice/ganeti-vnode.slice/ganeti-vnode-{node}.slice/*/cgroup.procs", check=False
    ).stdout.split()


@pytest.fixture
def paused_watcher(four: Machine) -> Iterator[None]:
    """For one row, nothing starts an instance again but the row itself."""
    on_master(four, "gnt-cluster", "watcher", "pause", "1h")
    yield
    on_master(four, "gnt-cluster", "watcher", "continue")


@pytest.mark.usefixtures("paused_watcher")
def test_node_oob(four: Machine) -> None:
    assert on_master(four, "gnt-node", "power", "status").count("powered") == 4 and processes(four, NODE4)
    add(four, "one", "-t", "diskless", "-n", NODE4)
    script = "echo here; exec sleep 3210"
    inside = four.popen("gnt-vcluster", "exec", NODE4, "--", "sh", "-c", script)
    sessions = [four.popen("ssh", NODE4, script), inside, four.popen("ssh", NODE3, script)]
    for session in sessions:
        assert session.stdout and session.stdout.readline() == "here\n"
    on_master(four, "gnt-node", "power", "-f", "off", NODE4)
    assert processes(four, NODE4) == [], "power off stops every process of the node"
    *cut, kept = sessions
    assert all(session.wait(10) for session in cut) and kept.poll() is None, "and its sessions, but no others"
    assert four.run("pgrep", "-cx", "sleep").stdout == "1\n"
    four.run("pkill", "-x", "sleep")
    kept.wait(10)
    assert "unpowered" in on_master(four, "gnt-node", "power", "status", NODE4)
    assert nodes(four, "name,offline,powered")[3] == [NODE4, "Y", "N"]
    assert "UNKNOWN" in on_master(four, "gnt-node", "health", NODE4)
    on_master(four, "gnt-node", "power", "on", NODE4)
    on_master(four, "gnt-node", "modify", "-f", "-O", "no", NODE4)
    # One may have come by its timer while an earlier test had the master off.
    four.sh("systemctl reset-failed 'ganeti-watcher@*'")
    health = on_master(four, "gnt-node", "health", check=False)
    assert health.count("=OK") == 4, four.run("systemctl", "list-units", "--state=failed", "ganeti-*").stdout
    assert listed(four, "status") == [["ERROR_down"]], "an instance does not survive its node's power"
    four.run("systemctl", "stop", f"ganeti-mond@{NODE3}.service")
    before = main_pids(four)
    on_master(four, "gnt-node", "power", "-f", "cycle", NODE3)
    after = main_pids(four)
    assert "mond" in daemons(four)[NODE3] and {node for node in after if after[node] != before[node]} == {NODE3}
    on_master(four, "gnt-node", "modify", "-f", "-O", "no", NODE3, check=False)


def test_epo(four: Machine) -> None:
    """Emergency power off, and on again with the instances that ran."""
    add(four, "one", "-t", "diskless", "-n", NODE4)
    on_master(four, "gnt-cluster", "epo", "-f", NODE4)
    assert processes(four, NODE4) == []
    assert nodes(four, "name,powered")[3] == [NODE4, "N"]
    on_master(four, "gnt-cluster", "epo", "--on", "-f", NODE4)
    assert nodes(four, "name,powered")[3] == [NODE4, "Y"]
    assert "noded" in daemons(four)[NODE4] and listed(four, "status") == [["running"]]


def main_pids(machine: Machine) -> dict[str, str]:
    return {node: machine.run("systemctl", "show", "-P", "MainPID", f"ganeti-noded@{node}").stdout.strip()
            for node in (NODE1, NODE2, NODE3, NODE4)}  # fmt: skip


def test_powercycle(four: Machine) -> None:
    """It cycles that node and nothing else, and nothing on a node can do more."""
    boot, before = four.get("/proc/sys/kernel/random/boot_id"), main_pids(four)
    on_master(four, "gnt-node", "powercycle", "--yes", "-f", NODE2)
    four.wait_for(f"p=$(systemctl show -P MainPID ganeti-noded@{NODE2}); [ $p != 0 ] && [ $p != {before[NODE2]} ]")
    four.run("ssh", NODE3, "reboot")
    four.wait_for(f"p=$(systemctl show -P MainPID ganeti-noded@{NODE3}); [ $p != 0 ] && [ $p != {before[NODE3]} ]")
    four.run("gnt-vcluster", "up")
    after = main_pids(four)
    assert (before[NODE1], before[NODE4]) == (after[NODE1], after[NODE4])
    assert "would act on the machine" in four.run("ssh", NODE3, "systemctl rescue", check=False).stderr
    # The two ways of the fake hypervisor, tried directly (hv_base.LinuxPowercycle).
    reboot = "import ctypes; print(ctypes.CDLL(None, use_errno=True).reboot(0x1234567), ctypes.get_errno())"
    assert four.run("gnt-vcluster", "exec", NODE4, "--", "python3", "-c", reboot).stdout == "-1 1\n"
    trigger = four.sh(f"gnt-vcluster exec {NODE4} -- sh -c 'echo h >/proc/sysrq-trigger'", check=False)
    assert trigger.returncode != 0 and ("Read-only" in trigger.stderr or "nonexistent" in trigger.stderr)
    assert four.get("/proc/sys/kernel/random/boot_id") == boot and four.run(
        "systemctl", "is-system-running", check=False
    )


def test_hooks(four: Machine) -> None:
    """A hook is on its node: gnt-* talk to its cluster, the standard paths and the host name are the node's."""
    hook = "#!/bin/sh\nexec >/srv/hook-log 2>&1\nuname -n\ncat /var/lib/ganeti/ssconf_master_node\n[ $(uname -n) = $GANETI_MASTER ] && gnt-node list --no-headers -o name\n"
    for node in (NODE1, NODE2):
        directory = f"{DATA}/{node}/etc/ganeti/hooks/instance-add-post.d"
        four.run("mkdir", "-p", directory)
        four.put(f"{directory}/10log", hook, 0o755)
    add(four, "one", "-t", "diskless", "-n", NODE2)
    for node in (NODE1, NODE2):
        seen = four.get(f"{DATA}/{node}/srv/hook-log").split()
        assert seen == [node, NODE1, *((NODE1, NODE2, NODE3, NODE4) if node == NODE1 else ())]
        four.sh(f"rm -r {DATA}/{node}/etc/ganeti/hooks {DATA}/{node}/srv/hook-log")


def test_os_discovery_is_per_node(four: Machine) -> None:
    four.sh(f"cp -rL /usr/share/ganeti/os/dummy {DATA}/{NODE3}/srv/ganeti/os/local")
    assert "local" not in on_master(four, "gnt-os", "list").split()
    assert "local [global status: partial valid]" in on_master(four, "gnt-os", "diagnose", check=False)
    four.sh(f"rm -r {DATA}/{NODE3}/srv/ganeti/os/local")


def test_iallocator(four: Machine) -> None:
    on_master(four, "gnt-cluster", "modify", "--default-iallocator=hail")
    for name in ("one", "two"):
        add(four, name, "-t", "sharedfile", "-s", "64M")
    primary = listed(four, "pnode", "one")[0][0]
    on_master(four, "gnt-node", "evacuate", "-f", "-p", primary, check=primary != NODE1)
    assert primary == NODE1 or listed(four, "pnode", "one")[0][0] != primary
    on_master(four, "gnt-instance", "change-group", "one", check=False)


def test_export_and_import_on_any_node(four: Machine) -> None:
    add(four, "one", "-t", "file", "-s", "64M", "-n", NODE2, "-O", "note=precious")
    assert on_master(four, "gnt-backup", "list", "--no-headers").split() == []
    on_master(four, "gnt-backup", "export", "--long-sleep", "-n", NODE3, "one")
    assert on_master(four, "gnt-backup", "list", "--no-headers").split() == [NODE3, "one"]
    source = f"{DATA}/{NODE1}/var/lib/ganeti/export/one"
    for target in (NODE1, NODE4):
        on_master(four, "gnt-backup", "import", "-t", "file", "-n", target, f"--src-node={NODE3}", f"--src-dir={source}",
                  "--no-nics", "--no-name-check", "--no-ip-check", f"copy-{target}")  # fmt: skip
        assert "note=precious" in disk_text(four, target, f"copy-{target}")
    on_master(four, "gnt-backup", "remove", "one")


def test_node_information(four: Machine) -> None:
    """Memory, processors and disk are the node's, for gnt-node, htools and programs on the node; and change live."""
    figures = {name: rest for name, *rest in nodes(four, "name,mtotal,ctotal", "--units=m")}
    assert figures == {NODE1: ["16384", "8"], NODE2: ["4096", "2"], NODE3: ["16384", "8"], NODE4: ["16384", "8"]}
    assert on(four, NODE2, "free -m | awk '/Mem:/ {print $2}'") == "4096\n"
    assert four.sh("free -m | awk '/Mem:/ {print $2}'").stdout != "4096\n"
    four.sh(f"sed -i 's/^memory = 4G/memory = 8G/; s/^cpus = 2/cpus = 4/' {CONF} && systemctl reload ganeti-vcluster")
    assert nodes(four, "mtotal,ctotal", "--units=m")[1] == ["8192", "4"]
    assert f"HTS_CLUSTER_MEM={3 * 16384 + 8192}" in on_master(four, "hspace", "-L", "--machine-readable")
    # Where root has CAP_SYS_RESOURCE a mounted disk grows at once; everywhere it grows when the manager starts.
    four.sh(f"sed -i 's/^disk = 2G/disk = 2500M/' {CONF}; systemctl stop ganeti-vcluster.target ganeti-vcluster.service && "
            "! findmnt -t ext4 | grep file-storage && systemctl start ganeti-vcluster.target")  # fmt: skip
    assert 2400 < int(nodes(four, "dtotal", "--units=m")[1][0]) <= 2500
    four.sh(f"sed -i 's/^disk = 2500M/disk = 1G/' {CONF}")
    refused = four.run("gnt-vcluster", "up", check=False)
    assert refused.returncode == 1 and "can only become larger" in refused.stderr
    four.sh(f"sed -i 's/^memory = 8G/memory = 4G/; s/^cpus = 4/cpus = 2/; s/^disk = 1G/disk = 2500M/' {CONF} && "
            "systemctl reload ganeti-vcluster")  # fmt: skip


def test_memory_limits_what_hail_places(four: Machine) -> None:
    done = on_master(four, "gnt-instance", "add", "-o", "dummy", "-t", "diskless", "--no-nics", "--no-name-check",
                     "--no-ip-check", "-B", "memory=20G", "-I", "hail", "large", check=False)  # fmt: skip
    assert "FailMem" in done


def test_rapi(four: Machine) -> None:
    """On the master's address, with a user made at init, through Ganeti's own client."""
    assert four.sh(f"stat -c '%a %U' {DATA}/rapi-password").stdout == "600 root\n"
    client = (
        "from ganeti.rapi import client\n"
        "import sys, pycurl\n"
        "c = client.GanetiRapiClient('cluster.example.com', username='gnt-vcluster', password=open(sys.argv[1]).read().strip())\n"
        "print(len(c.GetNodes()), c.GetInfo()['master'])\n"
        "job = c.CreateInstance('create', 'one', 'diskless', [], [], os='dummy', pnode=sys.argv[2], name_check=False,\n"
        "                       ip_check=False, beparams={'memory': 128})\n"
        "print(c.WaitForJobCompletion(job), c.GetInstance('one')['status'])\n"
    )
    four.put("/root/rapi-client", client)
    out = four.run(
        "env",
        "PYTHONPATH=/usr/share/ganeti/default",
        "/usr/bin/python3",
        "/root/rapi-client",
        f"{DATA}/rapi-password",
        NODE2,
    ).stdout
    assert out == f"4 {NODE1}\nTrue running\n"
    refused = four.sh("curl -sk -o /dev/null -w '%{http_code}' -X PUT https://192.0.2.1:5080/2/redistribute-config")
    assert refused.stdout == "401"


def test_confd_mond_and_the_rest_answer_on_their_own_address(four: Machine) -> None:
    query = (
        "import sys\n"
        "from ganeti import constants, pathutils, utils\n"
        "from ganeti.confd import client\n"
        "found = []\n"
        "key = utils.ReadFile(pathutils.CONFD_HMAC_KEY)\n"
        "c = client.ConfdClient(key, [sys.argv[1]], lambda reply: found.append(reply.server_reply.answer if reply.type == client.UPCALL_REPLY else None))\n"
        "c.SendRequest(client.ConfdClientRequest(type=constants.CONFD_REQ_CLUSTER_MASTER), async_=False)\n"
        "c.ReceiveReply(timeout=5)\n"
        "print(found)\n"
    )
    four.put("/root/confd-query", query)
    for number, node in enumerate((NODE1, NODE2, NODE3, NODE4), 10):
        address = f"192.0.2.{number}"
        env = "PYTHONPATH=/usr/share/ganeti/default"
        assert (
            NODE1
            in four.run("gnt-vcluster", "exec", node, "--", "env", env, "python3", "/root/confd-query", address).stdout
        )
        assert json.loads(four.sh(f"curl -sf http://{address}:1815/1/list/collectors").stdout)
    assert on_master(four, "gnt-node", "list-drbd", "--no-headers", NODE2) == ""
    assert four.sh("ss -Hlntu | grep -E ':(1811|1814|1815|5080|80) ' | grep -v 192.0.2.", check=False).stdout == ""


def test_watcher(four: Machine) -> None:
    add(four, "one", "-t", "diskless", "-n", NODE1)
    pause = on_master(four, "gnt-cluster", "watcher", "pause", "1h")
    assert "paused" in pause
    four.sh(f"rm {DATA}/{NODE1}/var/run/ganeti/fake-hypervisor/one")
    four.run("systemctl", "start", f"ganeti-watcher@{NODE1}.service")
    assert listed(four, "status") == [["ERROR_down"]]
    on_master(four, "gnt-cluster", "watcher", "continue")
    four.run("systemctl", "start", f"ganeti-watcher@{NODE1}.service")
    four.wait_for(f"{DATA}/{NODE1}/cmd 'gnt-instance list --no-headers -o status' | grep -q running")
    rapi = four.run("systemctl", "show", "-P", "MainPID", f"ganeti-rapi@{NODE1}").stdout
    four.run("systemctl", "start", f"ganeti-watcher@{NODE1}.service")
    on_master(four, "ganeti-watcher")
    assert four.run("systemctl", "show", "-P", "MainPID", f"ganeti-rapi@{NODE1}").stdout == rapi, "it lives: it stays"
    assert four.sh(f"grep 'RAPI is not responding' {DATA}/{NODE1}/var/log/ganeti/watcher.log", check=False).stdout == ""
    four.sh(f"mkdir {DATA}/{NODE1}/var/lib/ganeti/watcher.pause")
    assert four.run("systemctl", "start", f"ganeti-watcher@{NODE1}.service", check=False).returncode != 0
    assert four.run("systemctl", "is-failed", f"ganeti-watcher@{NODE1}.service").stdout == "failed\n"
    four.sh(f"rmdir {DATA}/{NODE1}/var/lib/ganeti/watcher.pause")
    four.run("systemctl", "start", f"ganeti-watcher@{NODE1}.service")


def test_log_rotation(four: Machine) -> None:
    """logrotate with the package's configuration, or a reload of the units, has every daemon write to a new file."""
    four.sh("logrotate --force /etc/logrotate.d/ganeti-vcluster")
    for node in (NODE1, NODE2):
        logs = f"{DATA}/{node}/var/log/ganeti"
        four.wait_for(f"test -e {logs}/node-daemon.log.1 && test -s {logs}/node-daemon.log")
    four.sh(
        f"mv {DATA}/{NODE2}/var/log/ganeti/node-daemon.log /root/ && "
        f"systemctl reload ganeti-noded@{NODE2} ganeti-mond@{NODE2} ganeti-confd@{NODE2}"
    )
    four.wait_for(f"test -s {DATA}/{NODE2}/var/log/ganeti/node-daemon.log")


def test_node_states_and_jobs(four: Machine) -> None:
    on_master(four, "gnt-node", "modify", "-D", "yes", NODE4)
    assert nodes(four, "name,role")[3] == [NODE4, "D"]
    refused = on_master(
        four, "gnt-instance", "add", "-o", "dummy", *SMALL, "-t", "diskless", "-n", NODE4, "one", check=False
    )
    assert "drained" in refused
    on_master(four, "gnt-node", "modify", "-D", "no", NODE4)
    on_master(four, "gnt-node", "modify", "-C", "no", "--auto-promote", NODE4, check=False)
    on_master(four, "gnt-node", "modify", "-O", "yes", NODE4)
    assert nodes(four, "name,role")[3] == [NODE4, "O"]
    on_master(four, "gnt-node", "modify", "-f", "-O", "no", NODE4)
    on_master(four, "gnt-node", "modify", "-C", "yes", NODE4)
    assert "gnt-instance" not in on_master(four, "gnt-instance", "add", "--dry-run", "-o", "dummy", *SMALL, "-t", "diskless",
                                           "-n", NODE4, "one")  # fmt: skip
    assert listed(four, "name") == []
    first = on_master(four, "gnt-debug", "delay", "--submit", "60", check=False).split()[-1]
    second = on_master(four, "gnt-debug", "delay", "--submit", "--priority=low", "60", check=False).split()[-1]
    on_master(four, "gnt-job", "cancel", second)
    on_master(four, "gnt-job", "cancel", "--kill", "--yes-do-it", first, check=False)
    four.wait_for(
        f"{DATA}/{NODE1}/cmd 'gnt-job list --no-headers -o status {first} {second}' | grep -qvE 'running|waiting|queued'"
    )
    on_master(four, "gnt-job", "archive", second)


def test_htools(four: Machine) -> None:
    for name in ("one", "two", "three"):
        add(four, name, "-t", "sharedfile", "-s", "64M", "-n", NODE1)
    on_master(four, "hbal", "-L", "-X")
    assert {pnode for (pnode,) in listed(four, "pnode")} != {NODE1}
    assert "HTS_OK=1" in on_master(four, "hspace", "-L", "--machine-readable", "--disk-template", "sharedfile")
    on_master(four, "gnt-instance", "stop", "--all", "--force-multiple")
    assert "Node Reboot Groups" in on_master(four, "hroller", "-L")
    on_master(four, "gnt-instance", "start", "--all", "--force-multiple")
    assert "Cluster is" in on_master(four, "hcheck", "-L", check=False)
    assert "Healthy: 3" in on_master(four, "harep", "-L")
