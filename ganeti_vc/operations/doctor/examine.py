# SPDX-License-Identifier: BSD-2-Clause
"""doctor: what this machine can hold, and which limit ends it first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import counted
from ganeti_vc.machine import config_files, ganeti, ganeti_files
from ganeti_vc.machine.systemd import Systemd
from ganeti_vc.model import capacity
from ganeti_vc.model.capacity import Row, Size
from ganeti_vc.model.config import ClusterConfig
from ganeti_vc.model.feature import Feature
from ganeti_vc.model.names import ClusterId
from ganeti_vc.operations.doctor import features, stocks
from ganeti_vc.operations.status import remedy
from ganeti_vc.reconcile import observe, plan, refusals

FIELDS = {
    "what": "What",
    "needed": "Needed",
    "present": "Present",
    "nodes": "Nodes",
    "state": "State",
    "remedy": "Remedy",
}


@dataclass(frozen=True)
class Report:
    """The limits of this machine, and its features."""

    nodes: int
    instances: int
    rows: Sequence[Row]
    features: Sequence[Feature]

    @property
    def first(self) -> Row:
        return capacity.first(self.rows)

    @property
    def largest(self) -> int | None:
        return self.first.nodes

    @property
    def failures(self) -> list[Row | Feature]:
        """What is in the way, the scarcest first."""
        low = [row for row in self.rows if row.state == "too low"]
        low.sort(key=lambda row: -1 if row.nodes is None else row.nodes)
        return [*(feature for feature in self.features if feature.state == "missing"), *low]

    def summary(self) -> str:
        """Return the result in a line."""
        if self.largest is None:
            return "no limit of this machine is in sight"
        soft = [row for row in self.rows if row.limit.soft and row.nodes is not None and row.nodes < self.largest]
        rest = "".join(f"; from {row.nodes} on it becomes tight ({row.limit.what})" for row in soft)
        fits = (
            f"a cluster of up to {counted(self.largest, 'node')} fits here"
            if self.largest
            else "no such cluster fits here"
        )
        return f"{fits}; the first limit is {self.first.limit.what}{rest}"

    def error(self) -> VclusterError:
        """Return the first thing that is in the way as an error."""
        one, more = self.failures[0], len(self.failures) - 1
        rest = f", and {more} more" if more else ""
        if isinstance(one, Feature):
            return VclusterError(f"{one.what}: {one.word}{rest}", one.remedy)
        needed, present = (_figure(number, one.limit.unit) for number in (one.needed, one.present))
        what = counted(self.nodes, "node") + (f" and {counted(self.instances, 'instance')}" if self.instances else "")
        verb = "does" if (self.nodes, self.instances) == (1, 0) else "do"
        return VclusterError(
            f"{what} {verb} not fit: {one.limit.what}: {needed} needed, {present} there{rest}", one.remedy
        )

    def table(self) -> list[dict[str, object]]:
        """Return the rows of a table, by the names in `FIELDS`."""
        cells: list[dict[str, object]] = []
        for row in self.rows:
            needed, present = (_figure(number, row.limit.unit) for number in (row.needed, row.present))
            nodes = "any" if row.nodes is None else row.nodes
            cells.append(
                {
                    "what": row.limit.what,
                    "needed": needed,
                    "present": present,
                    "nodes": nodes,
                    "state": row.state,
                    "remedy": row.remedy,
                }
            )
        for feature in self.features:
            cells.append(
                {
                    "what": feature.what,
                    "needed": None,
                    "present": feature.word,
                    "nodes": None,
                    "state": feature.state,
                    "remedy": feature.remedy if feature.there is False else "",
                }
            )
        return cells

    def document(self) -> dict[str, object]:
        """Return it for --json."""
        return {
            "nodes": self.nodes,
            "instances": self.instances,
            "fits": not self.failures,
            "largest": self.largest,
            "first": self.first.limit.key,
            "limits": [
                {"key": row.limit.key, "what": row.limit.what, "needed": row.needed, "present": row.present,
                 "nodes": row.nodes, "state": row.state, "remedy": row.remedy}
                for row in self.rows
            ],
            "features": [
                {"key": feature.key, "what": feature.what, "there": feature.there, "state": feature.state,
                 "remedy": feature.remedy}
                for feature in self.features
            ],
        }  # fmt: skip


def _figure(number: int, unit: str) -> str:
    if unit == "ms":
        return f"{number / 1000:.1f}s"
    if unit == "bytes":
        for name, size in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
            if number >= size:
                return f"{number / size:.1f}{name}"
    return "no limit" if number >= capacity.NO_LIMIT else str(number)


def _instances(config: ClusterConfig) -> int:
    """Return the number of instances in Ganeti's files."""
    master = ganeti_files.master_of(node.id for node in config.nodes)
    return len((ganeti_files.ssconf(master, "instance_list") or "").split()) if master else 0


def _existing(config: ClusterConfig, instances: int, version: str) -> Size:
    """Return the part of a cluster that has its files already, as a size."""
    return replace(Size.of(config, instances, version), nodes=sum(node.id.rootdir.exists() for node in config.nodes))


def _running(config: ClusterConfig, active: Collection[str], instances: int, version: str) -> Size:
    """Return the part of a cluster that runs, as a size."""

    def count(daemon: str) -> int:
        return sum(node.id.service(daemon) in active for node in config.nodes)

    return replace(Size.of(config, instances, version), nodes=count("noded"), pool=count("confd"), monds=count("mond"))


def _clusters(
    good: Mapping[ClusterId, ClusterConfig], bad: Mapping[ClusterId, VclusterError], active: Collection[str]
) -> Iterator[Feature]:
    """Tell for each cluster whether this machine can have it; of one that runs, whether something is missing around it."""
    refused = dict(bad)
    try:
        observed = observe.observe(good, logins=True)
    except VclusterError:
        return  # an ssh host key is missing; another row says so
    for cluster, config in good.items():
        try:
            refusals.check_host(config, observed)
        except VclusterError as err:
            refused[cluster] = err
    for cluster in sorted({*good, *bad}):
        yield Feature(
            f"cluster-{cluster.name}",
            f"cluster: {cluster.name}",
            cluster not in refused,
            str(refused.get(cluster, "")),
            words=("refused", "possible"),
        )
        for doubt in refusals.doubts(good[cluster]) if cluster in good else ():
            words = ("of others", "")
            yield Feature(f"network-{cluster.name}", f"cluster: {cluster.name}: network", False, doubt, True, words)
        if cluster not in refused and any(node.id.service("noded") in active for node in good[cluster].nodes):
            steps = [str(step) for step in plan.surroundings(good[cluster], observed)]
            yield Feature(
                f"surroundings-{cluster.name}",
                f"cluster: {cluster.name}: network, names, ssh",
                not steps,
                remedy(cluster, steps),
                words=("something is missing", "there"),
            )


def examine(systemd: Systemd, nodes: int | None, instances: int | None) -> Report:
    """Look at the machine, and work out whether so many nodes and instances fit.

    None: those of the existing clusters; without a cluster, as many nodes as fit. Configuration files with errors do not
    count.
    """
    version = ganeti.version()
    good, bad = config_files.read_configs()
    configs = list(good.values())
    active = {unit.name for unit in systemd.list_units("ganeti-*@*.service") if unit.active == "active"}
    present = {config.id: _instances(config) for config in configs}
    running = [_running(config, active, present[config.id], version) for config in configs]
    existing = [_existing(config, present[config.id], version) for config in configs]

    def new(count: int) -> Size:
        return Size.new(count, instances or 0, version)

    def rows(wanted: Sequence[Size]) -> list[Row]:
        return capacity.rows(there, wanted, running, existing, new)

    there = stocks.read(systemd)
    if nodes is not None:
        wanted = [new(nodes)]
    elif configs:
        wanted = [Size.of(config, present[config.id], version) for config in configs]
        if instances is not None:
            # All in the largest cluster: some of Ganeti's limits are a cluster's.
            wanted.sort(key=lambda size: size.nodes)
            wanted = [*(replace(size, instances=0) for size in wanted[:-1]), replace(wanted[-1], instances=instances)]
    else:
        wanted = [new(max(1, capacity.first(rows([new(1)])).nodes or 0))]
    return Report(
        sum(size.nodes for size in wanted),
        sum(size.instances for size in wanted),
        rows(wanted),
        [*features.read(configs), *_clusters(good, bad, active)],
    )
