# SPDX-License-Identifier: BSD-2-Clause
"""The measurements of a benchmark, and the figures that follow from them: medians, growth, and the ratios of two results.

A document keeps every measurement. Figures are derived when they are shown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.progress import counted

#: What can be measured, in this order.
OPERATIONS: Mapping[str, str] = {
    "create": "gnt-vcluster up, without the verification",
    "idle": "memory, and CPU time while the cluster has nothing to do",
    "node-list": "gnt-node list",
    "instance-list": "gnt-instance list",
    "verify": "gnt-cluster verify",
    "redist-conf": "gnt-cluster redist-conf",
    "hbal": "hbal -L, which looks for moves and makes none",
    "instance-add": "gnt-instance add, placed by hail",
    "instance-remove": "gnt-instance remove",
    "watcher": "ganeti-watcher once on every node",
    "noded-start": "start of noded on all nodes",
    "stop": "gnt-vcluster stop",
    "start": "gnt-vcluster start",
    "master-failover": "gnt-cluster master-failover",
    "node-add": "gnt-node add",
    "node-remove": "gnt-node remove of the same node",
}
#: Operations that need another one before them.
NEEDED = {"instance-remove": "instance-add", "node-remove": "node-add"}
#: Nodes. Without their master the others are a majority.
SMALLEST_SIZE = 3
#: The format of a saved file; it grows when a field changes its meaning or goes away.
FORMAT = 1
#: In `Sample.daemons`: the manager, the fork server and the ssh server together, which a cluster has once.
HELPERS = "helpers"
#: A curve needs more points than it has parameters.
SIZES_FOR_GROWTH = 3


@dataclass(frozen=True)
class Cost:
    """The cost of an operation."""

    seconds: float
    parts: Mapping[str, float]  #: CPU seconds of the cluster, by place
    machine: float  #: CPU seconds of the whole machine in that time

    @property
    def cpu(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class DaemonUse:
    """What all units of one daemon use, with the launcher that some of them have; or what the helpers use."""

    units: int
    private: int  #: bytes that no other process shares
    pss: int  #: bytes, with a part of each shared page
    cpu: float = 0.0  #: seconds while the cluster was idle


@dataclass(frozen=True)
class Idle:
    """A cluster that has nothing to do."""

    cost: Cost
    watchers: int  #: runs of ganeti-watcher in that time


@dataclass
class Sample:
    """One cluster that was made and measured."""

    nodes: int
    instances: int
    load: float  #: of the machine, before
    costs: dict[str, Cost] = field(default_factory=dict)
    daemons: dict[str, DaemonUse] = field(default_factory=dict)
    idle: Idle | None = None


@dataclass
class BenchResult:
    """A whole benchmark."""

    about: dict[str, Any]  #: versions, machine and settings
    samples: list[Sample] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """Return it for a file. The figures are for other readers; `from_document` derives them again."""
        return {
            "format": FORMAT,
            "about": self.about,
            "samples": [asdict(sample) for sample in self.samples],
            "figures": [
                {"what": quantity.what, "unit": quantity.unit, "values": {str(size): value for size, value in values.items()},
                 "growth": asdict(fitted) if (fitted := fit(values)) else None}
                for quantity, values in figures(self).items()
            ],
        }  # fmt: skip

    @staticmethod
    def from_document(raw: Mapping[str, Any], source: str) -> BenchResult:
        """Read what `document` has made. Raises VclusterError for another document, or another format."""
        if raw.get("format") != FORMAT:
            raise VclusterError(
                f"{source} is not a benchmark of format {FORMAT}", "gnt-vcluster bench --save FILE makes one"
            )
        try:
            return BenchResult(dict(raw["about"]), [_sample(sample) for sample in raw["samples"]])
        except (KeyError, TypeError, AttributeError) as err:
            raise VclusterError(f"{source} is incomplete: {err}", "measure again") from None


def _sample(raw: Mapping[str, Any]) -> Sample:
    idle = raw["idle"]
    return Sample(
        raw["nodes"],
        raw["instances"],
        raw["load"],
        {name: Cost(**cost) for name, cost in raw["costs"].items()},
        {name: DaemonUse(**daemon) for name, daemon in raw["daemons"].items()},
        Idle(Cost(**idle["cost"]), idle["watchers"]) if idle else None,
    )


@dataclass(frozen=True)
class Quantity:
    """Something that has one value for each size of a cluster."""

    what: str
    unit: str


CPU, WALL = "CPU s", "s"
IDLE, IDLE_EACH = "CPU s/min", "CPU ms/min"
MEMORY = "MiB"
#: Units, and what they measure.
UNITS = {
    CPU: "CPU seconds of an operation",
    WALL: "Seconds of an operation",
    IDLE: "CPU seconds a minute of an idle cluster",
    IDLE_EACH: "CPU milliseconds a minute of one such daemon",
    MEMORY: "Private memory of a node, and of one such daemon, in MiB",
}


def figures(result: BenchResult) -> dict[Quantity, dict[int, float]]:
    """Return each quantity's value by number of nodes: the median of the clusters of that size."""
    values: dict[Quantity, dict[int, list[float]]] = {}
    for sample in result.samples:
        for quantity, value in _values(sample):
            values.setdefault(quantity, {}).setdefault(sample.nodes, []).append(value)
    order = list(UNITS)
    return {
        quantity: {size: statistics.median(values[quantity][size]) for size in sorted(values[quantity])}
        for quantity in sorted(values, key=lambda quantity: order.index(quantity.unit))
    }


def _values(sample: Sample) -> Iterable[tuple[Quantity, float]]:
    for name, cost in sample.costs.items():
        yield Quantity(name, CPU), cost.cpu
        yield Quantity(name, WALL), cost.seconds
    if sample.idle:
        minutes = sample.idle.cost.seconds / 60
        yield Quantity("cluster", IDLE), sample.idle.cost.cpu / minutes
        for name, daemon in sample.daemons.items():
            yield Quantity(name, IDLE_EACH), daemon.cpu * 1000 / minutes / _count(name, daemon)
    if sample.daemons:
        private = sum(daemon.private for name, daemon in sample.daemons.items() if name != HELPERS)
        yield Quantity("node", MEMORY), private / sample.nodes / 2**20
    for name, daemon in sample.daemons.items():
        yield Quantity(name, MEMORY), daemon.private / _count(name, daemon) / 2**20


def _count(name: str, daemon: DaemonUse) -> int:
    return 1 if name == HELPERS else daemon.units


@dataclass(frozen=True)
class Growth:
    """cost = factor * nodes ** exponent."""

    factor: float
    exponent: float

    def __str__(self) -> str:
        return f"N^{self.exponent:.2f}"

    def at(self, nodes: float) -> float:
        return float(self.factor * nodes**self.exponent)


def fit(values: Mapping[int, float]) -> Growth | None:
    """Fit a power of the number of nodes (least squares of logarithms).

    None with too few sizes, and for a cost that was too small to be measured.
    """
    if len(values) < SIZES_FOR_GROWTH or min(values.values()) <= 0:
        return None
    line = statistics.linear_regression(
        [math.log(size) for size in values], [math.log(cost) for cost in values.values()]
    )
    return Growth(math.exp(line.intercept), line.slope)


def number(value: float) -> str:
    """Write a number with three significant digits and no exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def table(result: BenchResult) -> tuple[dict[str, str], list[dict[str, object]]]:
    """Return the columns, and a row for each quantity."""
    by_quantity = figures(result)
    sizes = sorted({size for values in by_quantity.values() for size in values})
    columns = {"what": "What", "unit": "Unit", **{str(size): f"{size} nodes" for size in sizes}}
    if len(sizes) >= SIZES_FOR_GROWTH:
        columns["growth"] = "Growth"
    rows: list[dict[str, object]] = []
    for quantity, values in by_quantity.items():
        cells = {str(size): number(values[size]) if size in values else "" for size in sizes}
        rows.append({"what": quantity.what, "unit": quantity.unit, **cells, "growth": str(fit(values) or "")})
    return columns, rows


COMPARED = {"what": "What", "unit": "Unit", "nodes": "Nodes", "a": "A", "b": "B", "ratio": "B/A"}


def compare(one: BenchResult, two: BenchResult) -> list[dict[str, object]]:
    """Return a row for each quantity and size that both results have."""
    first, second = figures(one), figures(two)
    return [
        {"what": quantity.what, "unit": quantity.unit, "nodes": size, "a": first[quantity][size], "b": second[quantity][size],
         "ratio": second[quantity][size] / first[quantity][size] if first[quantity][size] else None}
        for quantity in first if quantity in second
        for size in first[quantity] if size in second[quantity]
    ]  # fmt: skip


def compared_cells(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return the rows of `compare` with rounded numbers."""
    return [
        {**row, "a": number(row["a"]), "b": number(row["b"]), "ratio": "" if row["ratio"] is None else f"{row['ratio']:.2f}"}
        for row in rows
    ]  # fmt: skip


def summary(result: BenchResult) -> str:
    """Say in a line what was measured, and where."""
    about = result.about
    settings = ", ".join(f"{key} = {value}" for key, value in about["settings"].items())
    parts = [
        f"Ganeti {about['ganeti']}", f"ganeti-vcluster {about['version']}", about["system"], f"Linux {about['kernel']}",
        f"{about['cpus']} CPUs", f"{counted(about['instances_per_node'], 'instance')} a node",
        f"median of {about['runs']}" if about["runs"] > 1 else "", settings,
    ]  # fmt: skip
    return "; ".join(filter(None, parts))


def remarks(results: Sequence[BenchResult]) -> list[str]:
    """Return the lines that explain the figures."""
    lines = []
    if any(len({sample.nodes for sample in result.samples}) >= SIZES_FOR_GROWTH for result in results):
        lines.append(
            "Growth: cost ~ N^b over these sizes; b = 0: it does not depend on the number of nodes, 1: it is "
            "proportional to it, 2: to its square."
        )
    for result in results:
        for sample in result.samples:
            if sample.idle and sample.idle.watchers < sample.nodes:
                lines.append(
                    f"Idle, {sample.nodes} nodes: {counted(sample.idle.watchers, 'run')} of ganeti-watcher in "
                    f"{sample.idle.cost.seconds:.0f} s; a longer --idle has one for each node."
                )
    return list(dict.fromkeys(lines))
