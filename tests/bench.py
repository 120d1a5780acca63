# SPDX-License-Identifier: BSD-2-Clause
"""How long a cluster takes: `gnt-vcluster up` beside upstream's way, in one run, with the ratios.

    tests/bench.py RELEASE DEB [RUNS] [NODES...]

Every measurement boots a machine of its own. CPU seconds are those of everything in the container
(its control group), so what systemd and sshd do for a cluster counts. Upstream's way is what its
documentation says, by script: vcluster-setup, gnt-cluster init, gnt-node add and the daemons of each
node; root's ssh keys, which it needs, are there before the clock starts. Both ways end with
`gnt-cluster verify`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.machine import RELEASES, Machine

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
node1/cmd gnt-cluster verify || :
node1/cmd gnt-node list --no-headers
"""


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


def measure(machine: Machine, script: str, nodes: int) -> Cost:
    """What a script costs that brings a cluster up; the last lines it prints are its nodes."""
    begin, cpu = time.monotonic(), cpu_seconds(machine)
    # Entering a container does not enter its control group; a unit is in it.
    out = machine.run("systemd-run", "--quiet", "--wait", "--pipe", "--setenv=HOME=/root",
                      "bash", "-c", f"set -e\n{script}").stdout  # fmt: skip
    cost = Cost(time.monotonic() - begin, cpu_seconds(machine) - cpu)
    listed = out.splitlines()[-nodes:]
    assert [line.split()[0] for line in sorted(listed)] == sorted(f"node{n}" for n in range(1, nodes + 1)), out
    assert not any("?" in line for line in listed), out
    return cost


def ours(release: str, deb: Path, nodes: int) -> Cost:
    with Machine(release) as machine:
        machine.install(deb)
        return measure(
            machine,
            f"gnt-vcluster up --nodes {nodes}; gnt-vcluster exec master -- gnt-node list --no-headers",
            nodes,
        )


def upstream(release: str, _: Path, nodes: int) -> Cost:
    with Machine(release) as machine:
        machine.sh(PREPARE_UPSTREAM)
        return measure(machine, UPSTREAM.format(nodes=nodes), nodes)


WAYS: dict[str, Callable[[str, Path, int], Cost]] = {"upstream": upstream, "gnt-vcluster up": ours}


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu for cost in costs))


def main(argv: Sequence[str]) -> int:
    if len(argv) < 2 or argv[0] not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    release, deb = argv[0], Path(argv[1])
    runs, sizes = int(argv[2]) if argv[2:] else 3, [int(word) for word in argv[3:]] or [3, 10]
    print(f"Debian {release}, median of {runs} runs, to a verified cluster")
    print(f"{'nodes':>5}  {'way':<16} {'seconds':>8} {'CPU s':>8}")
    for nodes in sizes:
        # In turns, so that whatever else the machine does disturbs both.
        costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
        for _ in range(runs):
            for way, run in WAYS.items():
                costs[way].append(run(release, deb, nodes))
        base, mine = (median(costs[way]) for way in WAYS)
        for way, cost in zip(WAYS, (base, mine), strict=True):
            print(f"{nodes:>5}  {way:<16} {cost.seconds:>8.1f} {cost.cpu:>8.1f}")
        print(f"{nodes:>5}  {'ratio':<16} {base.seconds / mine.seconds:>8.2f} {base.cpu / mine.cpu:>8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
