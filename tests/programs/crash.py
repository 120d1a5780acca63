# SPDX-License-Identifier: BSD-2-Clause
"""Kill and power cut at random moments: nothing may be lost, and the same command must go on.

    tests/programs/crash.py RELEASE DEB [TRIAL...]

    commands  SIGKILL of up, destroy, scale, snapshot save and restore, stop, start, run; each is then repeated
    manager   SIGKILL of the manager while a cluster grows
    daemons   SIGKILL of Ganeti's daemons while jobs run
    power     the machine's power is cut while up, scale, save or restore work: what was not synced is lost

ROUNDS (default 50) says how often each of them; SEED repeats the moments of an earlier run. The moments are spread
evenly over the time that the command takes when nothing disturbs it.

For `power`, the configuration and all data lie on a file system of their own, which is shut down without its journal
(FS_IOC_SHUTDOWN of the kernel; ext4 with noauto_da_alloc): then the machine is reset and boots again.
"""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.fingerprint import CANDIDATE, MASTER, daemons, difference, fingerprint, on_master, verify_errors
from tests.support.machine import RELEASES, Machine, booted

ROUNDS = int(os.environ.get("ROUNDS", "50"))
SEED = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
DATA = "/var/lib/ganeti-vcluster/default"
#: What a cluster holds that no crash may take: an instance, a tag, a file of a node.
KEPT = "kept"
UP = "gnt-vcluster up --nodes 2 --no-verify"
DESTROY = "gnt-vcluster destroy --yes"
KILLED = 137

#: Mounts the file system of `power` before the manager starts, also at each boot.
MOUNT = f"""[Unit]
Before=ganeti-vcluster.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec '[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \\
  for n in $(seq 0 15); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; \\
  mkdir -p /mnt/power && mount -o loop,noauto_da_alloc /root/power.img /mnt/power && mkdir -p /mnt/power/etc /mnt/power/lib; \\
  mount --bind /mnt/power/etc /etc/ganeti-vcluster; mount --bind /mnt/power/lib {Path(DATA).parent}'
[Install]
WantedBy=multi-user.target
"""
CUT = "import fcntl, os, struct; fcntl.ioctl(os.open('/mnt/power', os.O_RDONLY), 0x8004587D, struct.pack('I', 2))"


class Crashes:
    """The rounds on one machine, and what came of them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.random = random.Random(SEED)
        self.untouched = fingerprint(machine)
        self._durations: dict[str, float] = {}

    def killed(self, command: str, finished: str = "") -> None:
        """Kill a command at a random moment, and repeat it; the first time it is only timed.

        `finished`: what the repeated one says when the killed one had done all of its work.
        """
        if command not in self._durations:
            begin = time.monotonic()
            self.machine.sh(command)
            self._durations[command] = time.monotonic() - begin
            return
        moment = self.random.uniform(0.05, self._durations[command])
        done = self.machine.sh(f"timeout --foreground -s KILL {moment:.3f} {command}", check=False)
        what = " ".join(command.split()[1:3])
        self.counts[f"{what}: {'killed' if done.returncode == KILLED else 'ended before'}"] += 1
        again = self.machine.sh(command, check=False)
        if again.returncode and not (finished and finished in again.stderr):
            raise AssertionError(f"{command}, killed after {moment:.3f} s, then: {again.stdout}{again.stderr}")

    def round(self, trial: str, number: int) -> None:
        """Do one round; a failure is kept, and the next round begins without a cluster."""
        try:
            TRIALS[trial](self)
        except Exception as err:
            self.failures.append(f"{trial}, round {number}: {err}")
            traceback.print_exc()
            print(self.machine.journal(), file=sys.stderr)
            self.machine.sh(f"{DESTROY} --snapshots", check=False)

    def cluster(self) -> None:
        """Have a cluster of two nodes that holds something."""
        if self.machine.run("test", "-e", f"{DATA}/node1/srv/{KEPT}", check=False).returncode:
            self.machine.sh(UP)
            on_master(self.machine, "gnt-cluster", "add-tags", KEPT)
            on_master(self.machine, "gnt-instance", "add", "-o", "dummy", "-t", "diskless", "--no-nics", "-B", "memory=128",
                      "--no-name-check", "--no-ip-check", "-n", "node2", KEPT)  # fmt: skip
            self.machine.sh(f"echo {KEPT} >{DATA}/node1/srv/{KEPT} && sync")

    def healthy(self, nodes: int = 2) -> None:
        """All daemons run, Ganeti finds no error, and nothing is lost."""
        wanted = {"node1": MASTER} | {f"node{number}": CANDIDATE for number in range(2, nodes + 1)}
        # metad runs where an instance with an OS is.
        found = {node: [name for name in names if name != "metad"] for node, names in daemons(self.machine).items()}
        assert found == wanted, found
        errors = verify_errors(self.machine)
        assert errors == [], errors
        self.nothing_lost()

    def nothing_lost(self) -> None:
        assert on_master(self.machine, "gnt-cluster", "list-tags") == f"{KEPT}\n"
        names = on_master(self.machine, "gnt-instance", "list", "--no-headers", "-o", "name").split()
        assert names == [KEPT], names
        assert self.machine.get(f"{DATA}/node1/srv/{KEPT}") == f"{KEPT}\n"


def up_and_destroy(crashes: Crashes) -> None:
    crashes.killed(UP)
    assert daemons(crashes.machine) == {"node1": MASTER, "node2": CANDIDATE}
    errors = verify_errors(crashes.machine)
    assert errors == [], errors
    crashes.killed(DESTROY, finished="there is no cluster")
    left = difference(crashes.untouched, fingerprint(crashes.machine))
    assert left == [], left


def scale(crashes: Crashes) -> None:
    crashes.cluster()
    crashes.killed("gnt-vcluster scale --nodes 3")
    crashes.healthy(3)
    crashes.killed("gnt-vcluster scale --nodes 2")
    crashes.healthy()


def snapshot(crashes: Crashes) -> None:
    crashes.cluster()
    machine = crashes.machine
    crashes.killed("gnt-vcluster snapshot save a", finished="already")
    crashes.nothing_lost()
    on_master(machine, "gnt-cluster", "add-tags", "later")
    machine.sh(f"echo later >{DATA}/node1/srv/{KEPT}")
    crashes.killed("gnt-vcluster snapshot restore a")
    crashes.healthy()
    crashes.killed("gnt-vcluster snapshot delete a", finished="there is no snapshot")
    assert machine.run("gnt-vcluster", "snapshot", "list", "--no-headers").stdout == ""


def stop_and_start(crashes: Crashes) -> None:
    crashes.cluster()
    for command in ("stop", "start", "restart"):
        crashes.killed(f"gnt-vcluster {command}")
    crashes.healthy()


def run(crashes: Crashes) -> None:
    crashes.killed("gnt-vcluster run --nodes 1 -- gnt-node list")
    crashes.machine.sh(DESTROY, check=False)
    left = difference(crashes.untouched, fingerprint(crashes.machine))
    assert left == [], left


def manager(crashes: Crashes) -> None:
    crashes.cluster()
    command = "gnt-vcluster scale --nodes 3"
    kill = "systemctl kill -s KILL --kill-whom=main ganeti-vcluster"
    done = crashes.machine.sh(
        f"(sleep {crashes.random.uniform(0, 4):.3f}; {kill}) & {command}; s=$?; wait; exit $s", check=False
    )
    crashes.counts[f"manager: the command {'went on' if done.returncode == 0 else 'ended with an error'}"] += 1
    assert "Traceback" not in done.stderr, done.stderr
    crashes.machine.sh(command)
    crashes.healthy(3)
    crashes.machine.sh("gnt-vcluster scale --nodes 2")
    crashes.healthy()


def kill_daemons(crashes: Crashes) -> None:
    crashes.cluster()
    machine = crashes.machine
    add = (
        "gnt-instance add --submit -o dummy -t diskless --no-nics --no-name-check --no-ip-check -B memory=128 -n node2"
    )
    unit = crashes.random.choice(
        [f"ganeti-{name}@node1" for name in MASTER] + [f"ganeti-{name}@node2" for name in CANDIDATE]
    )
    jobs = "; ".join(f"{add} load{number}" for number in range(4))
    script = f"(sleep {crashes.random.uniform(0, 3):.3f}; systemctl kill -s KILL {unit}) & gnt-vcluster exec master -- sh -c '{jobs}'; wait"
    machine.sh(script, check=False)
    crashes.counts[f"daemons: {unit}"] += 1
    # luxid finds jobs whose processes were killed every 307 s (constants.py, LUXID_JOBQUEUE_POLL_INTERVAL).
    machine.wait_for("gnt-vcluster status --json | grep -q '\"state\": \"running\"' && "
                     "jobs=$(gnt-vcluster exec master -- gnt-job list --no-headers -o status) && "
                     "! grep -e running -e waiting -e queued <<<$jobs", timeout=330)  # fmt: skip
    for name in on_master(machine, "gnt-instance", "list", "--no-headers", "-o", "name").split():
        if name != KEPT:
            on_master(machine, "gnt-instance", "remove", "-f", "--shutdown-timeout=0", name)
    crashes.healthy()


def power(crashes: Crashes) -> None:
    machine = crashes.machine
    if machine.run("test", "-e", "/root/power.img", check=False).returncode:
        machine.put("/etc/systemd/system/power.service", MOUNT)
        machine.sh("truncate -s 1G /root/power.img && mke2fs -q -t ext4 /root/power.img && mkdir -p /etc/ganeti-vcluster && "
                   "systemctl enable --now power.service")  # fmt: skip
    crashes.cluster()
    machine.sh("gnt-vcluster snapshot save a", check=False)
    command, seconds, nodes = crashes.random.choice(
        [("scale --nodes 3", 7, 3), ("snapshot save b", 0.8, 2), ("snapshot restore a", 5, 2), ("restart", 6, 2)]
    )
    moment = crashes.random.uniform(0, seconds)
    process = machine.popen("gnt-vcluster", *command.split())
    time.sleep(moment)  # the moment of the cut
    running = process.poll() is None
    machine.run("python3", "-c", CUT)
    machine.reboot(hard=True)
    process.wait()
    crashes.counts[f"power: {command}: {'cut in the middle' if running else 'cut after its end'}"] += 1
    machine.wait_for("systemctl is-system-running --wait | grep -qv starting")
    again = machine.sh(f"gnt-vcluster {command}", check=False)
    assert again.returncode == 0 or "already" in again.stderr, f"{command} after {moment:.3f} s: {again.stderr}"
    crashes.healthy(nodes)
    machine.sh("gnt-vcluster scale --nodes 2; gnt-vcluster snapshot delete b", check=False)


#: What a word on the command line stands for; rounds of one word share a machine.
TRIALS: dict[str, Callable[[Crashes], None]] = {
    "up": up_and_destroy, "scale": scale, "snapshot": snapshot, "stop": stop_and_start, "run": run,
    "manager": manager, "daemons": kill_daemons, "power": power,
}  # fmt: skip
COMMANDS = ("up", "scale", "snapshot", "stop", "run")


def main(argv: Sequence[str]) -> int:
    if len(argv) < 2 or argv[0] not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    wanted = list(argv[2:]) or ["commands", "manager", "daemons", "power"]
    trials = [trial for word in wanted for trial in (COMMANDS if word == "commands" else (word,))]
    failures: list[str] = []
    for trial in trials:
        with booted(argv[0], Path(argv[1])) as machine:
            crashes = Crashes(machine)
            begin = time.monotonic()
            for number in range(ROUNDS + 1):  # the first one only measures
                crashes.round(trial, number)
        failures += crashes.failures
        print(
            f"{trial}: {ROUNDS} rounds, seed {SEED}, {time.monotonic() - begin:.0f} s, {len(crashes.failures)} failed"
        )
        for what, count in sorted(crashes.counts.items()):
            print(f"  {count:4}  {what}", flush=True)
    for line in failures:
        print(line)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
