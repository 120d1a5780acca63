# SPDX-License-Identifier: BSD-2-Clause
"""What clusters cost: the figures the project has goals for, each measured now, in machines of their own.

    tests/programs/bench.py RELEASE DEB [PART...]

    up        seconds and CPU seconds of `gnt-vcluster up`, compared with upstream's method, both with gnt-cluster verify; 3 and 10 nodes
    creation  CPU seconds of the same without gnt-cluster verify, which is Ganeti's own; 30 nodes
    noded     CPU seconds of its start and its private memory, with the fork server and without; 30 nodes
    sandbox   of a user without rights: seconds to boot one, to have a stopped one with 3 nodes answer again, and its memory
    idle      CPU seconds a minute of a cluster of which nothing is asked, ganeti-watcher included; 100 nodes

The environment variables RUNS (default: 3 of up, 1 of the others) and SIZES ("3 10") hold for all parts.

Every measurement of up and creation boots a machine, and counts the CPU seconds of everything in it
(its control group), so what systemd and sshd do for a cluster counts. Upstream's way is what its
documentation says, by script: vcluster-setup, gnt-cluster init, gnt-node add and the daemons of each
node; root's ssh keys, which it needs, are there before the clock starts: that is why it is done here and
not by `gnt-vcluster bench`, which measures the other two parts.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ganeti_vc.operations.bench.figures import CPU, IDLE, MEMORY, BenchResult, Quantity, Sample, figures
from tests.support.machine import RELEASES, Machine

#: root may log in as root, as upstream's Ganeti wants it; the bridge is for `gnt-cluster verify`.
PREPARE_UPSTREAM = """
mkdir -p /root/.ssh && chmod 700 /root/.ssh
ssh-keygen -q -t rsa -N '' -f /root/.ssh/id_rsa && cp /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys
printf 'StrictHostKeyChecking accept-new\\n' >/root/.ssh/config
systemctl start ssh
ip link add gnt0 type bridge && ip link set gnt0 up
mkdir -p /srv/vcluster /srv/ganeti/file-storage /srv/ganeti/shared-file-storage
"""

#: What upstream's documentation tells people to do (doc/virtual-cluster.rst), for {nodes} nodes.
UPSTREAM = """
/usr/lib/ganeti/tools/vcluster-setup -c {nodes} -n lo /srv/vcluster
cd /srv/vcluster
for n in $(seq {nodes}); do
  mkdir -p node$n/etc/ganeti
  printf '/srv/ganeti/file-storage\\n/srv/ganeti/shared-file-storage\\n' >node$n/etc/ganeti/file-storage-paths
done
node1/cmd gnt-cluster init --no-etc-hosts --no-ssh-init --master-netdev=lo --enabled-hypervisors=fake \
  --enabled-disk-templates=diskless,file,sharedfile --file-storage-dir=/srv/ganeti/file-storage \
  --shared-file-storage-dir=/srv/ganeti/shared-file-storage --nic-parameters=link=gnt0 cluster
for n in $(seq 2 {nodes}); do
  node1/cmd gnt-node add --no-ssh-key-check node$n </dev/null
  # node add leaves confd out
  node$n/cmd /usr/lib/ganeti/daemon-util start ganeti-confd
done
{verify}
node1/cmd gnt-node list --no-headers
"""
UPSTREAM_VERIFY = "node1/cmd gnt-cluster verify || :"
LIMIT = 3600  #: seconds


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu: float


def cpu_seconds(machine: Machine) -> float:
    """CPU time of everything that ever ran in the machine (cgroup v2, cpu.stat)."""
    for line in (machine.cgroup / "cpu.stat").read_text().splitlines():
        key, value = line.split()
        if key == "usage_usec":
            return int(value) / 1e6
    raise AssertionError("cpu.stat has no usage_usec")


def in_unit(machine: Machine, *argv: str) -> str:
    """Entering a container does not enter its control group; a unit is in it."""
    return machine.run("systemd-run", "--quiet", "--wait", "--pipe", "--setenv=HOME=/root", *argv, timeout=LIMIT).stdout


def measure(machine: Machine, script: str, nodes: int) -> Cost:
    """What a script costs that brings a cluster up; the last lines it prints are its nodes."""
    begin, cpu = time.monotonic(), cpu_seconds(machine)
    out = in_unit(machine, "bash", "-c", f"set -e\n{script}")
    cost = Cost(time.monotonic() - begin, cpu_seconds(machine) - cpu)
    listed = out.splitlines()[-nodes:]
    assert [line.split()[0] for line in sorted(listed)] == sorted(f"node{n}" for n in range(1, nodes + 1)), out
    assert not any("?" in line for line in listed), out
    return cost


def ours(release: str, deb: Path, nodes: int, verify: bool, option: str = "") -> Cost:
    with Machine(release) as machine:
        machine.install(deb)
        options = f"--nodes {nodes} {option} {'' if verify else '--no-verify'}"
        return measure(
            machine, f"gnt-vcluster up {options}; gnt-vcluster exec master -- gnt-node list --no-headers", nodes
        )


def own_keys(release: str, deb: Path, nodes: int, verify: bool) -> Cost:
    return ours(release, deb, nodes, verify, "--no-shared-key")


def upstream(release: str, _: Path, nodes: int, verify: bool) -> Cost:
    with Machine(release) as machine:
        machine.sh(PREPARE_UPSTREAM)
        return measure(machine, UPSTREAM.format(nodes=nodes, verify=UPSTREAM_VERIFY if verify else ""), nodes)


Way = Callable[[str, Path, int, bool], Cost]
WAYS: dict[str, Way] = {"upstream": upstream, "gnt-vcluster up": ours}


@dataclass(frozen=True)
class Order:
    """What is to be measured."""

    release: str
    deb: Path
    runs: int
    sizes: Sequence[int]


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu for cost in costs))


def goal(text: str, value: float, wanted: float, unit: str, at_least: bool = True) -> None:
    reached = value >= wanted if at_least else value < wanted
    print(f"       {text}: {value:.2f}{unit} (goal: {'at least' if at_least else 'under'} {wanted:g}{unit}; "
          f"{'reached' if reached else 'NOT reached'})", flush=True)  # fmt: skip


def compare(order: Order, nodes: int, verify: bool, ways: dict[str, Way]) -> list[float]:
    """Print what each way costs beside the first. Returns how many times less CPU time the others take."""
    # In turns, so that whatever else the machine does disturbs all.
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(order.runs):
        for way, run in ways.items():
            costs[way].append(run(order.release, order.deb, nodes, verify))
    base, *others = (median(costs[way]) for way in ways)
    for way, cost in zip(ways, (base, *others), strict=True):
        print(f"{nodes:>5}  {way:<28} {cost.seconds:>8.1f} {cost.cpu:>8.1f}"
              f" {base.seconds / cost.seconds:>8.2f} {base.cpu / cost.cpu:>8.2f}", flush=True)  # fmt: skip
    return [base.cpu / cost.cpu for cost in others]


HEADINGS = f"{'nodes':>5}  {'way':<28} {'seconds':>8} {'CPU s':>8} {'ratios':>8}"


def up(order: Order) -> None:
    print(f"up: to a verified cluster, median of {order.runs}")
    print(HEADINGS)
    for nodes in order.sizes:
        compare(order, nodes, verify=True, ways=WAYS)


def creation(order: Order) -> None:
    print(f"creation: without gnt-cluster verify, median of {order.runs}")
    print(HEADINGS)
    for nodes in order.sizes:
        times, _ = compare(order, nodes, verify=False, ways={**WAYS, "gnt-vcluster up --no-shared-key": own_keys})
        goal(f"CPU seconds, {nodes} nodes", times, 15, " times less")


def benchmark(order: Order, nodes: int, *options: str) -> BenchResult:
    """gnt-vcluster bench in a machine."""
    with Machine(order.release) as machine:
        machine.install(order.deb)
        out = in_unit(machine, "gnt-vcluster", "bench", "--json", f"--sizes={nodes}", f"--runs={order.runs}",
                      "--instances-per-node=0", *options)  # fmt: skip
        return BenchResult.from_document(json.loads(out), "gnt-vcluster bench --json")


def noded(order: Order) -> None:
    def process(sample: Sample) -> float:
        return sample.costs["noded-start"].parts["noded"] / sample.nodes

    print(f"noded: each, median of {order.runs}")
    print(f"{'nodes':>5}  {'fork server':<16} {'CPU s':>8} {'CPU s of all':>14} {'private MiB':>12}")
    for nodes in order.sizes:
        found = {}
        for word in ("no", "yes"):
            result = benchmark(order, nodes, "--only=noded-start,idle", "--idle=1", f"--setting=fork_server={word}")
            values = figures(result)
            found[word] = (
                statistics.median(map(process, result.samples)),
                values[Quantity("noded-start", CPU)][nodes] / nodes,
                values[Quantity("noded", MEMORY)][nodes],
            )
            print(f"{nodes:>5}  {word:<16} {found[word][0]:>8.4f} {found[word][1]:>14.4f} {found[word][2]:>12.1f}")
        own, everything, memory = (plain / forked for plain, forked in zip(found["no"], found["yes"], strict=True))
        print(f"{nodes:>5}  {'ratio':<16} {own:>8.2f} {everything:>14.2f} {memory:>12.2f}", flush=True)
        goal("CPU seconds of noded itself until it answers", own, 10, " times less")
        goal("private memory", memory, 3, " times less")


def idle(order: Order) -> None:
    print(f"idle: 6 minutes, median of {order.runs}")
    for nodes in order.sizes:
        result = benchmark(order, nodes, "--only=idle", "--idle=360")
        watchers = [sample.idle.watchers for sample in result.samples if sample.idle]
        print(f"{nodes:>5}  runs of ganeti-watcher: {', '.join(map(str, watchers))}")
        value = figures(result)[Quantity("cluster", IDLE)][nodes]
        goal("of the cluster", value, 2, " CPU seconds a minute", at_least=False)


#: Each with its sizes and its number of runs.
#: MiB of all processes that are in another user namespace than PID 1.
PSS = r"""
for pid in /proc/[0-9]*; do
  [ "$(readlink $pid/ns/user)" = "$(readlink /proc/1/ns/user)" ] || cat $pid/smaps_rollup 2>/dev/null
done | awk '$1 == "Pss:" { sum += $2 } END { print sum / 1024 }'
"""


def sandbox(order: Order) -> None:
    """In a machine, as a user of it."""
    print(f"sandbox: of a user without rights, median of {order.runs}")
    print(f"{'nodes':>5}  {'boot s':>8} {'up s':>8} {'start to an answer s':>22} {'MiB':>6} {'MiB without nodes':>19}")
    for nodes in order.sizes:
        with Machine(order.release, nested=True) as machine:
            machine.install(order.deb)
            machine.sh("useradd -m one && systemd-run -q --wait loginctl enable-linger one")
            machine.wait_for("test -S /run/user/$(id -u one)/systemd/private")
            found = [_sandbox(machine, nodes) for _ in range(order.runs)]
        boot, up, again, full, empty = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{nodes:>5}  {boot:>8.1f} {up:>8.1f} {again:>22.1f} {full:>6.0f} {empty:>19.0f}", flush=True)
        goal("start of a stopped one to an answer", again, 10, " s", at_least=False)


def _sandbox(machine: Machine, nodes: int) -> list[float]:
    def seconds(*argv: str) -> float:
        begin = time.monotonic()
        machine.run(
            "setpriv", "--reuid=one", "--regid=one", "--init-groups", "env", "HOME=/home/one", "gnt-vcluster", *argv
        )
        return time.monotonic() - begin

    def memory() -> float:
        return float(machine.sh(PSS).stdout)

    boot, empty = seconds("sandbox", "start"), memory()
    up, full = seconds("up", f"--nodes={nodes}"), memory()
    seconds("sandbox", "stop")
    again = seconds("sandbox", "start") + seconds("exec", "master", "--", "gnt-node", "list")
    seconds("sandbox", "remove", "--yes")
    return [boot, up, again, full, empty]


PARTS: dict[str, tuple[Callable[[Order], None], Sequence[int], int]] = {
    "up": (up, (3, 10), 3),
    "creation": (creation, (30,), 1),
    "noded": (noded, (30,), 1),
    "sandbox": (sandbox, (3,), 3),
    "idle": (idle, (100,), 1),
}


def main(argv: Sequence[str]) -> int:
    if len(argv) < 2 or argv[0] not in RELEASES or not set(argv[2:]) <= set(PARTS):
        print(__doc__, file=sys.stderr)
        return 2
    print(f"Debian {argv[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    for name in argv[2:] or PARTS:
        part, sizes, runs = PARTS[name]
        wanted = [int(word) for word in os.environ.get("SIZES", "").split()]
        part(Order(argv[0], Path(argv[1]), int(os.environ.get("RUNS") or runs), wanted or sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
