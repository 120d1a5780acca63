# SPDX-License-Identifier: BSD-2-Clause
"""The fork server: what it starts is its unit's in every respect, and nodes do not depend on it."""

from __future__ import annotations

import os

import pytest

from tests.support.fingerprint import on_master, strays, verify_errors
from tests.support.machine import Machine

SERVER = "ganeti-vcluster-forkserver.service"
NODED = "ganeti-noded@node2.service"


def show(machine: Machine, unit: str, key: str) -> str:
    return machine.run("systemctl", "show", "-P", key, unit).stdout.strip()


def forked(machine: Machine, unit: str = NODED) -> bool:
    """Whether a unit's main process is a fork: libraries are where the server has them."""
    pids = show(machine, unit, "MainPID"), show(machine, SERVER, "MainPID")
    return len({machine.sh(f"grep -m 1 /libc.so /proc/{pid}/maps", check=False).stdout for pid in pids}) == 1


def test_nodes_are_forked_into_their_units(cluster: Machine) -> None:
    assert forked(cluster) and strays(cluster) == ""
    pid = show(cluster, NODED, "MainPID")
    assert (
        cluster.sh(f"tr '\\0' ' ' </proc/{pid}/cmdline")
        .stdout.strip()
        .endswith("ganeti-noded -f --no-mlock -b 192.0.2.11")
    )
    assert cluster.sh(f"ps -o comm=,ppid= -p {pid}").stdout.split() == ["ganeti-noded", "1"]
    environment = cluster.sh(f"tr '\\0' '\\n' </proc/{pid}/environ", check=False).stdout
    assert "NOTIFY_SOCKET" not in environment
    assert "ganeti-noded@node2" in cluster.get(f"/proc/{pid}/cgroup") and "node2.slice" in cluster.get(
        f"/proc/{pid}/cgroup"
    )
    # A line it writes is the node's in the journal.
    cluster.sh(f"kill -HUP {pid}")
    cluster.sh("gnt-vcluster exec node2 -- ls /srv/ganeti/file-storage")
    assert verify_errors(cluster) == []


def test_nodeds_stand_back_for_who_calls_them(cluster: Machine) -> None:
    if cluster.sh("test -e /proc/self/autogroup", check=False).returncode:
        pytest.skip("this kernel does not share the processors among sessions")

    def group(unit: str) -> list[str]:
        return cluster.get(f"/proc/{show(cluster, unit, 'MainPID')}/autogroup").split()

    assert group(NODED) == group("ganeti-noded@node3.service") == group(SERVER)
    assert group(NODED)[1:] == ["nice", "10"] and group("ganeti-luxid@node1.service")[1:] == ["nice", "0"]


def test_mond_is_started_by_it(cluster: Machine) -> None:
    unit = "ganeti-mond@node2.service"
    pid, noded = show(cluster, unit, "MainPID"), show(cluster, NODED, "MainPID")
    assert cluster.sh(f"ps -o comm=,ppid= -p {pid}").stdout.split() == ["ganeti-mond", "1"]
    assert unit in cluster.get(f"/proc/{pid}/cgroup")
    views = {cluster.sh(f"readlink /proc/{each}/ns/mnt").stdout for each in (pid, noded)}
    assert len(views) == 1, "it sees what noded sees"
    assert "NOTIFY_SOCKET" not in cluster.sh(f"tr '\\0' '\\n' </proc/{pid}/environ").stdout
    assert cluster.sh("curl -sf http://192.0.2.11:1815/").stdout == "[1]"


def test_it_takes_less_memory_and_less_time(cluster: Machine) -> None:
    private = "awk '/^Private/ {sum += $2} END {print sum}' /proc/$(systemctl show -P MainPID ganeti-noded@node2)/smaps_rollup"
    shared = int(cluster.sh(private).stdout)
    cluster.sh("sed -i 's/^fork_server = .*/fork_server = no/' /etc/ganeti-vcluster/default.conf && systemctl reload ganeti-vcluster && "
               "systemctl restart ganeti-vnode@node2.target")  # fmt: skip
    cluster.wait_for(f"systemctl is-active {NODED}")
    plain = int(cluster.sh(private).stdout)
    assert show(cluster, SERVER, "ActiveState") == "inactive"
    assert plain > 2 * shared, (plain, shared)
    cluster.sh("sed -i 's/^fork_server = .*/fork_server = auto/' /etc/ganeti-vcluster/default.conf && systemctl reload ganeti-vcluster && "
               "systemctl restart ganeti-vnode@node2.target")  # fmt: skip
    cluster.wait_for(f"systemctl is-active {NODED}")
    assert forked(cluster)


def test_a_killed_noded_is_restarted(cluster: Machine) -> None:
    before = show(cluster, NODED, "MainPID")
    cluster.sh(f"kill -KILL {before}")
    cluster.wait_for(f"[ $(systemctl show -P MainPID {NODED}) != {before} ] && systemctl is-active {NODED}")
    assert "signal" in cluster.run("journalctl", "-u", NODED, "-n", "20").stdout
    assert forked(cluster) and "node2" in on_master(cluster, "gnt-node", "list")


def restart_traced(machine: Machine, options: str) -> str:
    """Restart noded while the server is under strace; what that has seen."""
    server = show(machine, SERVER, "MainPID")
    machine.sh(f"strace -o /run/traced {options} -p {server} & "
               f"until grep -q 'TracerPid:.[1-9]' /proc/{server}/status; do sleep 0.05; done; "
               f"systemctl restart {NODED}; kill $!; wait")  # fmt: skip
    return machine.get("/run/traced")


def test_ready_is_said_in_the_name_of_the_main_process(cluster: Machine) -> None:
    """systemd ignores what a process has sent that has ended when it comes to it."""
    traced = restart_traced(cluster, "-e trace=sendmsg")
    (line,) = (line for line in traced.splitlines() if "READY=1" in line)
    assert f"pid={show(cluster, NODED, 'MainPID')}," in line


def test_a_main_process_is_a_child_of_systemd_from_the_start(cluster: Machine) -> None:
    """Also when the process between the server and noded is slow to end."""
    traced = restart_traced(cluster, "-f -e trace=exit_group -e inject=exit_group:delay_enter=500000")
    assert "exit_group(0)" in traced
    assert "not our child" not in cluster.run("journalctl", "-b", "-u", NODED).stdout


def test_where_no_process_can_be_forked_noded_starts_plainly(cluster: Machine) -> None:
    opened = f"ls /proc/{show(cluster, SERVER, 'MainPID')}/fd | wc -l"
    before = cluster.sh(opened).stdout
    assert "EAGAIN" in restart_traced(cluster, "-e trace=clone -e inject=clone:error=EAGAIN")
    assert not forked(cluster) and cluster.sh(opened).stdout == before
    assert "a request failed: BlockingIOError" in cluster.run("journalctl", "-u", SERVER).stdout
    cluster.sh(f"systemctl restart {NODED}")
    assert forked(cluster)


#: Is systemd to a process that says READY=1, and reads on only when asked for: prints what it got, and whether
#: the process was there still after the first message, and ended when all was read.
SLOW_SYSTEMD = """
import os, socket, subprocess, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind("/run/slow")
process = subprocess.Popen(sys.argv[1:], env={**os.environ, "NOTIFY_SOCKET": "/run/slow"})
first = server.recv(64)
data, fds, _, _ = socket.recv_fds(server, 64, 1)
there = process.poll() is None
os.close(fds[0])
print(first.decode(), data.decode(), there, process.wait())
"""


def test_who_says_ready_and_ends_waits_for_systemd(cluster: Machine) -> None:
    cluster.put("/run/slow.py", SLOW_SYSTEMD)
    pid = show(cluster, "ganeti-mond@node2.service", "MainPID")
    rootdir = cluster.sh("readlink /run/ganeti-vcluster/nodes/node2").stdout.strip()
    done = cluster.sh(f"GANETI_ROOTDIR={rootdir} python3 /run/slow.py "
                      f"/usr/lib/ganeti-vcluster/launch --wait {pid} ganeti-mond -f -b 192.0.2.11")  # fmt: skip
    assert done.stdout.split() == ["READY=1", "BARRIER=1", "True", "0"]


def test_killing_the_server_touches_no_node(cluster: Machine) -> None:
    before = [show(cluster, f"ganeti-noded@node{n}.service", "MainPID") for n in (1, 2, 3)]
    server = show(cluster, SERVER, "MainPID")
    cluster.sh(f"kill -KILL {server}")
    cluster.wait_for(f"systemctl is-active {SERVER} && [ $(systemctl show -P MainPID {SERVER}) != {server} ]")
    cluster.sh(f"systemctl restart {SERVER}")
    assert [show(cluster, f"ganeti-noded@node{n}.service", "MainPID") for n in (1, 2, 3)] == before
    cluster.sh(f"systemctl stop {SERVER} && systemctl restart {NODED}")
    assert not forked(cluster) and verify_errors(cluster) == []
    cluster.sh("systemctl reload ganeti-vcluster")
    cluster.wait_for(f"systemctl is-active {SERVER}")
    cluster.sh(f"systemctl restart {NODED}")
    assert forked(cluster)


def drop_in(machine: Machine, text: str) -> None:
    directory = f"/run/systemd/system/{NODED}.d"
    machine.run("mkdir", "-p", directory)
    machine.put(f"{directory}/test.conf", f"[Service]\n{text}\n")
    machine.sh(f"systemctl daemon-reload && systemctl restart {NODED}")


def test_what_a_unit_sets_holds(cluster: Machine) -> None:
    drop_in(cluster, "LimitNOFILE=5000\nOOMScoreAdjust=123\nNice=3\nUMask=0027\nPrivateTmp=yes\nNoNewPrivileges=yes\n"
                     "CapabilityBoundingSet=~CAP_SYS_TIME\nEnvironment=MINE=yes\nWorkingDirectory=/usr\n"
                     "StandardError=append:/run/noded-errors")  # fmt: skip
    assert forked(cluster)
    pid = show(cluster, NODED, "MainPID")
    assert "5000" in cluster.sh(f"grep 'open files' /proc/{pid}/limits").stdout
    assert cluster.get(f"/proc/{pid}/oom_score_adj") == "123\n"
    assert cluster.sh(f"ps -o ni= -p {pid}").stdout.strip() == "3"
    status = dict(line.split(":\t", 1) for line in cluster.get(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    bounding = int(status["CapBnd"], 16)
    assert status["Umask"] == "0027" and status["NoNewPrivs"] == "1"
    assert not bounding >> 25 & 1 and not bounding >> 22 & 1 and bounding >> 21 & 1  # SYS_TIME, SYS_BOOT, SYS_ADMIN
    assert int(status["CapEff"], 16) == bounding
    assert "systemd-private" in cluster.sh(f"grep ' /tmp ' /proc/{pid}/mountinfo").stdout
    assert cluster.sh(f"readlink /proc/{pid}/cwd").stdout == "/usr\n"
    opened = [cluster.sh(f"readlink /proc/{pid}/fd/{number}").stdout.split(":")[0].strip() for number in (0, 1, 2)]
    assert opened == ["/dev/null", "socket", "/run/noded-errors"]
    assert int(cluster.sh(f"awk '$1 == \"flags:\" {{ print $2 }}' /proc/{pid}/fdinfo/2").stdout, 8) & os.O_APPEND


def test_what_cannot_be_taken_over_is_started_plainly_and_said(cluster: Machine) -> None:
    drop_in(cluster, "SystemCallFilter=~swapon")
    assert not forked(cluster)
    assert "without the fork server: seccomp filter" in cluster.run("journalctl", "-u", SERVER).stdout
    cluster.sh(f"rm -r /run/systemd/system/{NODED}.d; systemctl daemon-reload; systemctl restart {NODED}")
    assert forked(cluster)


def test_a_changed_ganeti_is_loaded_again(cluster: Machine) -> None:
    cluster.sh("touch /usr/share/ganeti/default/ganeti/constants.py")
    cluster.sh(f"systemctl restart {NODED}")
    assert "Ganeti was changed" in cluster.run("journalctl", "-u", SERVER).stdout
    cluster.wait_for(f"systemctl restart {NODED}; journalctl -u {SERVER} | grep -q changed")
    assert verify_errors(cluster) == []


def test_an_unknown_ganeti_is_left_alone(cluster: Machine) -> None:
    """A module whose paths cannot be moved: the server says so and steps aside."""
    path = "/usr/share/ganeti/default/ganeti/server/noded.py"
    cluster.sh(
        f'cp -p {path} /root/ && printf \'\\nHIDDEN = [object(), type("T", (), {{"__slots__": ("p",)}})()]\\nHIDDEN[1].p = pathutils.DATA_DIR\\n\' >>{path}'
    )
    cluster.sh(f"systemctl restart {SERVER}; systemctl restart {NODED}")
    assert "not all of Ganeti can be moved" in cluster.run("journalctl", "-u", SERVER).stdout
    assert show(cluster, SERVER, "ActiveState") == "inactive" and "node2" in on_master(cluster, "gnt-node", "list")
    cluster.sh(f"cp -p /root/noded.py {path}; systemctl reload ganeti-vcluster")
    cluster.wait_for(f"systemctl is-active {SERVER}")
    cluster.run("systemctl", "restart", "ganeti-vcluster.target")
    assert forked(cluster) and verify_errors(cluster) == []
