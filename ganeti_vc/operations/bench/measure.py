# SPDX-License-Identifier: BSD-2-Clause
"""Measuring what clusters cost: one of each size is made, measured and removed.

What counts as the cluster's CPU time, by the kernel's account of control groups, so that processes
count that have ended, too:

  nodes     the slices of its nodes
  helpers   the manager, the fork server, the cluster's ssh server and their like; and, because they work
            for it, the journal and the message bus, whole
  systemd   PID 1, whole
  command   the command that is measured, with the processes it waited for

What else the machine did meanwhile is not in it, but in the figure for the whole machine beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganeti_vc import VERSION
from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed, UsageError
from ganeti_vc.base.process import BASE_ENVIRONMENT, run
from ganeti_vc.base.progress import Progress
from ganeti_vc.base.signals import interrupted_by_sigterm
from ganeti_vc.machine import cgroups, ganeti, ganeti_files
from ganeti_vc.machine.systemd import Systemd, connect
from ganeti_vc.model import config, config_text, keys, options
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.node import view
from ganeti_vc.operations import bring_up, declare, destroy
from ganeti_vc.operations.bench.figures import HELPERS, NEEDED, OPERATIONS, BenchResult, DaemonUse, Idle, Sample
from ganeti_vc.operations.bench.meters import SYSTEM, is_ours, read
from ganeti_vc.reconcile import locking, pacing

#: Keys of the configuration file that are not to be set: the benchmark does.
OWN_KEYS = ("name", "domain", "nodes", "instances", "address")
#: Seconds until a new cluster has done what it does after its start.
SETTLE = 5.0


@dataclass(frozen=True)
class BenchOptions:
    """What the options ask for."""

    sizes: Sequence[int]
    instances_per_node: int
    runs: int
    operations: Sequence[str]
    idle: float
    settings: Mapping[str, str]


def operations(wanted: Collection[str]) -> list[str]:
    """The operations to measure, in their order, with what they need; all, if none is named. Raises UsageError.

    A cluster is always created, and what that costs is always measured.
    """
    for name in wanted:
        if name not in OPERATIONS:
            raise UsageError(f"there is no operation {name!r}", f"operations are {', '.join(OPERATIONS)}")
    chosen = {"create", *wanted, *(NEEDED[name] for name in wanted if name in NEEDED)} if wanted else {*OPERATIONS}
    return [name for name in OPERATIONS if name in chosen]


def settings(words: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE, each for the key of that name in the configuration file. Raises UsageError."""
    known = [key.name for key in keys.KEYS if key.name not in OWN_KEYS]
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UsageError(f"{word!r} is no KEY=VALUE of the configuration file", f"keys are {', '.join(known)}")
        found[key] = value
    return found


def _gnt_vcluster(*argv: str) -> None:
    """Run one of our own commands as a user does; an interruption interrupts it, too."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(["/usr/bin/gnt-vcluster", *argv], env=BASE_ENVIRONMENT, stdin=subprocess.DEVNULL,
                                 stdout=out, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            child.wait()
        except BaseException:
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
        if child.returncode:
            out.seek(0)
            last = out.read().strip().splitlines()[-1:] or ["it printed nothing"]
            raise StepFailed(f"{shlex.join(['gnt-vcluster', *argv])} ended with {child.returncode}: {last[0]}")


class _Bench:
    """One cluster that is measured."""

    def __init__(
        self, made: ClusterConfig, spare: NodeId, sample: Sample, wishes: BenchOptions, progress: Progress
    ) -> None:
        self._made = made
        self._spare = spare
        self._nodes = [node.id for node in made.nodes]
        self._sample = sample
        self._wishes = wishes
        self._progress = progress
        self._instance = f"bench-instance.{made.name}"
        self._special: dict[str, Callable[[], None]] = {
            "create": self._create, "idle": self._idle, "watcher": self._watcher, "noded-start": self._noded_start,
            "node-add": self._node_add, "master-failover": self._master_failover,
        }  # fmt: skip
        self._plain: dict[str, Callable[[], object]] = {
            "node-list": lambda: self._on_master("gnt-node", "list"),
            "instance-list": lambda: self._on_master("gnt-instance", "list"),
            # It ends with 1 when it finds something, and its costs are the same.
            "verify": lambda: ganeti.verify(self._master),
            "redist-conf": lambda: self._on_master("gnt-cluster", "redist-conf"),
            "hbal": lambda: self._on_master("hbal", "-L"),
            "instance-add": lambda: ganeti.add_instance(self._master, self._instance),
            "instance-remove": lambda: self._on_master("gnt-instance", "remove", "-f", self._instance),
            "stop": lambda: _gnt_vcluster("stop", made.id.name),
            "start": lambda: _gnt_vcluster("start", made.id.name),
            "node-remove": lambda: ganeti.node_remove(self._master, spare),
        }  # fmt: skip

    def run(self, name: str) -> None:
        """Measure one operation."""
        with self._progress.step(f"{self._sample.nodes} nodes: {name}"):
            if name in self._special:
                self._special[name]()
            else:
                with self._measured(name):
                    self._plain[name]()

    @property
    def _master(self) -> NodeId:
        master = ganeti_files.master_of(self._nodes)
        assert master
        return master

    def _on_master(self, *argv: str) -> None:
        ganeti.command(self._master, *argv)

    @contextlib.contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before = read(self._nodes)
        yield
        self._sample.costs[name] = read(self._nodes).since(before)

    def _split(self, name: str, part: str, seconds: float) -> None:
        """Show something apart that the nodes have used in an operation."""
        cost = self._sample.costs[name]
        parts = {**cost.parts, "nodes": cost.parts["nodes"] - seconds, part: seconds}
        self._sample.costs[name] = replace(cost, parts=parts)

    def _create(self) -> None:
        with self._measured("create"):
            _gnt_vcluster("up", self._made.id.name, f"--instances={self._sample.instances}", "--no-verify")
        time.sleep(SETTLE)

    def _idle(self) -> None:
        begin, units, before = time.time(), self._daemons(), read(self._nodes)
        time.sleep(self._wishes.idle)
        cost, later = read(self._nodes).since(before), self._daemons()
        self._sample.idle = Idle(cost, self._watchers_since(begin))
        for name, daemon in later.items():
            used = cost.parts["helpers"] if name == HELPERS else daemon.cpu - (units[name].cpu if name in units else 0)
            self._sample.daemons[name] = DaemonUse(daemon.units, daemon.private, daemon.pss, used)

    def _daemons(self) -> dict[str, DaemonUse]:
        """Each daemon's units, memory and CPU time up to now."""
        found: dict[str, DaemonUse] = {}

        def add(name: str, group: Path) -> None:
            sums = [cgroups.memory(pid) for _, pid in cgroups.processes(group)]
            old = found.get(name, DaemonUse(0, 0, 0))
            if sums:
                found[name] = DaemonUse(
                    old.units + 1,
                    old.private + sum(memory.get("Private_Clean", 0) + memory.get("Private_Dirty", 0) for memory in sums),
                    old.pss + sum(memory.get("Pss", 0) for memory in sums),
                    old.cpu + cgroups.cpu_seconds(group),
                )  # fmt: skip

        for node in self._nodes:
            for group in node.control_group.glob(f"ganeti-*@{node.name}.service"):
                add(group.name.removeprefix("ganeti-").partition("@")[0], group)
        for group in SYSTEM.glob("ganeti-*.service"):
            if is_ours(group.name, self._nodes):
                add(HELPERS, group)
        return found

    def _watchers_since(self, begin: float) -> int:
        timers = run(
            ["systemctl", "list-timers", "--all", "--output=json", *(node.watcher_timer for node in self._nodes)]
        )
        return sum((timer["last"] or 0) / 1e6 >= begin for timer in json.loads(timers.stdout))

    def _in_windows(self, systemd: Systemd, method: str, service: str) -> None:
        """As many at a time as are started with a cluster."""
        for at in range(0, len(self._nodes), pacing.WINDOW):
            units = [node.service(service) for node in self._nodes[at : at + pacing.WINDOW]]
            for job in systemd.jobs(method, units):
                if job.result != "done":
                    raise StepFailed(f"{job.unit}: {job.result}", f"look at: journalctl -u {job.unit}")

    def _watcher(self) -> None:
        with connect() as systemd, self._measured("watcher"):
            self._in_windows(systemd, "StartUnit", "watcher")

    def _noded_start(self) -> None:
        with connect() as systemd:
            self._in_windows(systemd, "StopUnit", "noded")
            with self._measured("noded-start"):
                self._in_windows(systemd, "StartUnit", "noded")
        # Beside what systemd, its launcher and ensure-dirs did for it.
        self._split("noded-start", "noded", sum(cgroups.cpu_of(view.noded_pid(node.name)) for node in self._nodes))

    def _master_failover(self) -> None:
        candidates = (ganeti_files.ssconf(self._master, "master_candidates") or "").split()
        new = self._made.id.node(next(name for name in candidates if name != self._master.name))
        with self._measured("master-failover"):
            ganeti.command(new, "gnt-cluster", "master-failover")

    def _node_add(self) -> None:
        """The one more node gets its directory, address and power before."""
        cluster = self._made.id
        text = config_text.replace_key(cluster.config_file.read_text(), "cluster", "nodes", str(len(self._nodes) + 1))
        larger = config.parse(cluster, text)
        with locking.exclusive(self._progress.say), connect() as systemd:
            declare.write_config(cluster, text)
            bring_up.BringUp(larger, systemd, Progress(quiet=True)).surroundings_and_start()
        self._nodes.append(self._spare)
        with self._measured("node-add"):
            ganeti.node_add(self._master, larger.nodes[-1])


def _configure(cluster: ClusterId, nodes: int, wishes: BenchOptions) -> tuple[ClusterConfig, str, NodeId]:
    """A configuration for a cluster of this size, its text, and the node that may be added to it later."""
    instances = nodes * wishes.instances_per_node
    larger, text = declare.new_config(cluster, options.UpOptions(nodes=nodes + 1, instances=instances))
    text = config_text.replace_key(text, "cluster", "nodes", str(nodes))
    sections = {key.name: key.section for key in keys.KEYS}
    for key, value in wishes.settings.items():
        text = config_text.replace_key(text, sections[key], key, value)
    return config.parse(cluster, text), text, larger.nodes[-1].id


def _measure(cluster: ClusterId, nodes: int, wishes: BenchOptions, progress: Progress) -> Sample:
    """Make a cluster, measure, and remove it, whatever happens."""
    sample = Sample(nodes, nodes * wishes.instances_per_node, os.getloadavg()[0])
    with locking.exclusive(progress.say):
        made, text, spare = _configure(cluster, nodes, wishes)
        declare.write_config(cluster, text)
    try:
        bench = _Bench(made, spare, sample, wishes, progress)
        for name in wishes.operations:
            bench.run(name)
    finally:
        destroy.destroy(cluster, progress)
    return sample


def about(wishes: BenchOptions) -> dict[str, object]:
    """What the figures depend on."""
    package = run(["dpkg-query", "--show", "--showformat=${Version}", "ganeti"], check=False).stdout
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    model = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    debian = files.read(Path("/etc/debian_version")) or ""
    return {
        "version": VERSION,
        "ganeti": package or ganeti.version(),
        "system": f"Debian {debian.strip()}",
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": model[0] if model else platform.machine(),
        "memory_mib": int(memory.split()[1]) // 1024,
        "instances_per_node": wishes.instances_per_node,
        "runs": wishes.runs,
        "settings": dict(wishes.settings),
        "begin": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def bench(
    cluster: ClusterId, wishes: BenchOptions, save: Callable[[BenchResult], None], progress: Progress
) -> BenchResult:
    """Make and measure a cluster for each size and run; what is found is handed to `save` after each."""
    ganeti.check_installed()
    declare.check_absent(cluster, "the benchmark")
    result = BenchResult(about(wishes))
    save(result)  # rather now than after an hour
    with interrupted_by_sigterm():
        for nodes in wishes.sizes:
            for _ in range(wishes.runs):
                result.samples.append(_measure(cluster, nodes, wishes, progress))
                save(result)
    return result
