# SPDX-License-Identifier: BSD-2-Clause
"""Measuring what clusters cost: a cluster of each size is new, measured and removed.

The cluster's CPU time comes from the kernel's account of control groups, so that processes that have ended count:

  nodes     the slices of its nodes
  helpers   our other services, for example manager, fork server and ssh server; and the whole of the journal and
            the message bus, which work for the cluster
  systemd   the whole of PID 1
  command   the command that is measured, with the processes that it waited for

The figure for the whole machine has everything else, too.
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
from ganeti_vc.model import config, config_text, keys
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.names import ClusterId, NodeId
from ganeti_vc.model.options import UpOptions
from ganeti_vc.node import view
from ganeti_vc.operations import bring_up, declare, destroy
from ganeti_vc.operations.bench.figures import HELPERS, NEEDED, OPERATIONS, BenchResult, DaemonUse, Idle, Sample
from ganeti_vc.operations.bench.meters import SYSTEM, is_ours, read
from ganeti_vc.reconcile import locking, pacing

#: Keys of the configuration file that the benchmark sets itself.
OWN_KEYS = ("name", "domain", "nodes", "instances", "address")
#: Seconds until a new cluster is at rest.
SETTLE = 5.0


@dataclass(frozen=True)
class BenchOptions:
    """What the user asks for."""

    sizes: Sequence[int]
    instances_per_node: int
    runs: int
    operations: Sequence[str]
    idle: float
    settings: Mapping[str, str]


def operations(wanted: Collection[str]) -> list[str]:
    """Return the operations to measure, in their order, with those that they need; all, if none is named.

    `create` is always among them. Raises UsageError.
    """
    for name in wanted:
        if name not in OPERATIONS:
            raise UsageError(f"there is no operation {name!r}", f"operations are {', '.join(OPERATIONS)}")
    chosen = {"create", *wanted, *(NEEDED[name] for name in wanted if name in NEEDED)} if wanted else {*OPERATIONS}
    return [name for name in OPERATIONS if name in chosen]


def settings(words: Sequence[str]) -> dict[str, str]:
    """Parse KEY=VALUE, for keys of the configuration file. Raises UsageError."""
    known = [key.name for key in keys.KEYS if key.name not in OWN_KEYS]
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise UsageError(f"{word!r} is not a KEY=VALUE of the configuration file", f"keys are {', '.join(known)}")
        values[key] = value
    return values


def _gnt_vcluster(*argv: str) -> None:
    """Run gnt-vcluster as a user does. An interruption interrupts it, too."""
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
        self, new: ClusterConfig, spare: NodeId, sample: Sample, options: BenchOptions, progress: Progress
    ) -> None:
        self._config = new
        self._spare = spare
        self._nodes = [node.id for node in new.nodes]
        self._sample = sample
        self._options = options
        self._progress = progress
        self._instance = f"bench-instance.{new.name}"
        self._special: dict[str, Callable[[], None]] = {
            "create": self._create, "idle": self._idle, "watcher": self._watcher, "noded-start": self._noded_start,
            "node-add": self._node_add, "master-failover": self._master_failover,
        }  # fmt: skip
        self._plain: dict[str, Callable[[], object]] = {
            "node-list": lambda: self._on_master("gnt-node", "list"),
            "instance-list": lambda: self._on_master("gnt-instance", "list"),
            # It may find errors; its cost is the same.
            "verify": lambda: ganeti.verify(self._master),
            "redist-conf": lambda: self._on_master("gnt-cluster", "redist-conf"),
            "hbal": lambda: self._on_master("hbal", "-L"),
            "instance-add": lambda: ganeti.add_instance(self._master, self._instance),
            "instance-remove": lambda: self._on_master("gnt-instance", "remove", "-f", self._instance),
            "stop": lambda: _gnt_vcluster("stop", new.id.name),
            "start": lambda: _gnt_vcluster("start", new.id.name),
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
        """Show a part of what the nodes have used in an operation by itself."""
        cost = self._sample.costs[name]
        parts = {**cost.parts, "nodes": cost.parts["nodes"] - seconds, part: seconds}
        self._sample.costs[name] = replace(cost, parts=parts)

    def _create(self) -> None:
        with self._measured("create"):
            _gnt_vcluster("up", self._config.id.name, f"--instances={self._sample.instances}", "--no-verify")
        time.sleep(SETTLE)

    def _idle(self) -> None:
        begin, units, before = time.time(), self._daemons(), read(self._nodes)
        time.sleep(self._options.idle)
        cost, later = read(self._nodes).since(before), self._daemons()
        self._sample.idle = Idle(cost, self._watchers_since(begin))
        for name, daemon in later.items():
            used = cost.parts["helpers"] if name == HELPERS else daemon.cpu - (units[name].cpu if name in units else 0)
            self._sample.daemons[name] = DaemonUse(daemon.units, daemon.private, daemon.pss, used)

    def _daemons(self) -> dict[str, DaemonUse]:
        """Return each daemon's units, memory and CPU time up to now."""
        uses: dict[str, DaemonUse] = {}

        def add(name: str, group: Path) -> None:
            sums = [cgroups.memory(pid) for _, pid in cgroups.processes(group)]
            old = uses.get(name, DaemonUse(0, 0, 0))
            if sums:
                uses[name] = DaemonUse(
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
        return uses

    def _watchers_since(self, begin: float) -> int:
        timers = run(
            ["systemctl", "list-timers", "--all", "--output=json", *(node.watcher_timer for node in self._nodes)]
        )
        return sum((timer["last"] or 0) / 1e6 >= begin for timer in json.loads(timers.stdout))

    def _in_windows(self, systemd: Systemd, method: str, service: str) -> None:
        """Start or stop as many at a time as the start of a cluster does."""
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
        # The rest is what systemd, the launcher and ensure-dirs did.
        self._split("noded-start", "noded", sum(cgroups.cpu_of(view.noded_pid(node.name)) for node in self._nodes))

    def _master_failover(self) -> None:
        candidates = (ganeti_files.ssconf(self._master, "master_candidates") or "").split()
        new = self._config.id.node(next(name for name in candidates if name != self._master.name))
        with self._measured("master-failover"):
            ganeti.command(new, "gnt-cluster", "master-failover")

    def _node_add(self) -> None:
        """Add one more node, which gets its directory, address and power before the measurement."""
        cluster = self._config.id
        text = config_text.replace_key(cluster.config_file.read_text(), "cluster", "nodes", str(len(self._nodes) + 1))
        larger = config.parse(cluster, text)
        with locking.exclusive(self._progress.say), connect() as systemd:
            declare.write_config(cluster, text)
            bring_up.BringUp(larger, systemd, Progress(quiet=True)).surroundings_and_start()
        self._nodes.append(self._spare)
        with self._measured("node-add"):
            ganeti.node_add(self._master, larger.nodes[-1])


def _configure(cluster: ClusterId, nodes: int, options: BenchOptions) -> tuple[ClusterConfig, str, NodeId]:
    """Return a configuration for a cluster of this size, its text, and the node that may be added later."""
    instances = nodes * options.instances_per_node
    larger, text = declare.new_config(cluster, UpOptions(nodes=nodes + 1, instances=instances))
    text = config_text.replace_key(text, "cluster", "nodes", str(nodes))
    sections = {key.name: key.section for key in keys.KEYS}
    for key, value in options.settings.items():
        text = config_text.replace_key(text, sections[key], key, value)
    return config.parse(cluster, text), text, larger.nodes[-1].id


def _measure(cluster: ClusterId, nodes: int, options: BenchOptions, progress: Progress) -> Sample:
    """Make a cluster, measure it, and remove it, also after an error."""
    sample = Sample(nodes, nodes * options.instances_per_node, os.getloadavg()[0])
    with locking.exclusive(progress.say):
        new, text, spare = _configure(cluster, nodes, options)
        declare.write_config(cluster, text)
    try:
        bench = _Bench(new, spare, sample, options, progress)
        for name in options.operations:
            bench.run(name)
    finally:
        destroy.destroy(cluster, progress)
    return sample


def about(options: BenchOptions) -> dict[str, object]:
    """Return what the figures depend on."""
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
        "instances_per_node": options.instances_per_node,
        "runs": options.runs,
        "settings": dict(options.settings),
        "begin": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def bench(
    cluster: ClusterId, options: BenchOptions, save: Callable[[BenchResult], None], progress: Progress
) -> BenchResult:
    """Make and measure a cluster for each size and run; `save` gets the result after each. Raises VclusterError."""
    ganeti.check_installed()
    declare.check_absent(cluster, "the benchmark")
    result = BenchResult(about(options))
    save(result)  # an error comes now rather than after an hour
    with interrupted_by_sigterm():
        for nodes in options.sizes:
            for _ in range(options.runs):
                result.samples.append(_measure(cluster, nodes, options, progress))
                save(result)
    return result
