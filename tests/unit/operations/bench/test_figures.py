# SPDX-License-Identifier: BSD-2-Clause
"""Benchmarks as data: medians, growth, comparison, the document and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.cli import bench_commands, main, output
from ganeti_vc.operations.bench import figures, html_page, measure
from ganeti_vc.operations.bench.figures import (
    CPU,
    IDLE,
    IDLE_EACH,
    MEMORY,
    WALL,
    BenchResult,
    Cost,
    DaemonUse,
    Idle,
    Quantity,
    Sample,
)

MIB = 1 << 20


def cost(cpu: float, seconds: float = 1.0) -> Cost:
    return Cost(seconds, {"nodes": cpu * 0.75, "command": cpu * 0.25}, cpu + 1)


def sample(nodes: int, **costs: float) -> Sample:
    return Sample(
        nodes, nodes, 0.5, {name.replace("_", "-"): cost(cpu) for name, cpu in costs.items()},
        {"noded": DaemonUse(nodes, 7 * MIB * nodes, 9 * MIB * nodes, 0.001 * nodes), "helpers": DaemonUse(3, 60 * MIB, 70 * MIB, 0.1)},
        Idle(cost(0.5, seconds=30.0), 0),
    )  # fmt: skip


def result(*samples: Sample, ganeti: str = "3.0.2-3", **settings: str) -> BenchResult:
    about = {"version": "0.1.0", "ganeti": ganeti, "system": "Debian 12.11", "kernel": "6.1", "cpus": 2, "cpu_model": "A <CPU>",
             "memory_mib": 24000, "instances_per_node": 1, "runs": 1, "settings": settings, "begin": "2026-11-21T20:00:00"}  # fmt: skip
    return BenchResult(about, list(samples))


def test_several_clusters_of_a_size_have_a_median() -> None:
    found = figures.figures(result(sample(10, verify=9), sample(3, verify=2), sample(3, verify=1), sample(3, verify=9)))
    assert found[Quantity("verify", CPU)] == {3: 2, 10: 9}
    assert list(found[Quantity("verify", WALL)]) == [3, 10]


def test_idle_is_per_minute_and_helpers_are_no_part_of_a_node() -> None:
    found = figures.figures(result(sample(4)))
    assert found[Quantity("cluster", IDLE)] == {4: 1.0}
    assert found[Quantity("noded", IDLE_EACH)] == {4: pytest.approx(2.0)}
    assert found[Quantity("helpers", IDLE_EACH)] == {4: pytest.approx(200)}
    assert found[Quantity("node", MEMORY)] == {4: 7} == found[Quantity("noded", MEMORY)]
    assert found[Quantity("helpers", MEMORY)] == {4: 60}


def test_growth_is_the_power_of_the_number_of_nodes() -> None:
    square = figures.fit({3: 0.9, 10: 10.0, 30: 90.0})
    assert square and (round(square.factor, 6), round(square.exponent, 6)) == (0.1, 2.0)
    assert str(square) == "N^2.00" and square.at(100) == pytest.approx(1000)
    constant = figures.fit({3: 5.0, 10: 5.0, 30: 5.0})
    assert constant and abs(constant.exponent) < 1e-9
    # Between the points: what is above and below cancels out.
    near = figures.fit({1: 1.1, 10: 9.0, 100: 110.0})
    assert near and 0.95 < near.exponent < 1.05


def test_no_growth_without_enough_sizes_or_with_what_could_not_be_measured() -> None:
    assert figures.fit({3: 1.0, 10: 2.0}) is None
    assert figures.fit({3: 0.0, 10: 2.0, 30: 3.0}) is None
    assert "growth" not in figures.table(result(sample(3, verify=1), sample(10, verify=2)))[0]


def test_a_row_for_each_quantity() -> None:
    columns, rows = figures.table(result(*(sample(size, verify=size / 10, node_list=0.5) for size in (3, 10, 30))))
    assert list(columns.values()) == ["What", "Unit", "3 nodes", "10 nodes", "30 nodes", "Growth"]
    assert {"what": "verify", "unit": CPU, "3": "0.300", "10": "1.00", "30": "3.00", "growth": "N^1.00"} in rows
    assert {row["what"]: row["growth"] for row in rows if row["unit"] == CPU}["node-list"] in ("N^0.00", "N^-0.00")


def test_a_size_without_the_quantity_is_left_empty() -> None:
    _, rows = figures.table(result(sample(3, verify=1), sample(10)))
    assert next(row for row in rows if row["what"] == "verify")["10"] == ""


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.00123, "0.0012"), (0.0456, "0.0456"), (1.234, "1.23"),
                                             (12.34, "12.3"), (123.4, "123"), (1234.5, "1234"), (-1.5, "-1.50")])  # fmt: skip
def test_three_digits_that_count(value: float, text: str) -> None:
    assert figures.number(value) == text


def test_two_results_side_by_side() -> None:
    one, two = result(sample(3, verify=2, hbal=1), sample(10, verify=4)), result(sample(3, verify=1), fork_server="no")
    rows = [row for row in figures.compare(one, two) if row["unit"] == CPU]
    assert rows == [{"what": "verify", "unit": CPU, "nodes": 3, "a": 2.0, "b": 1.0, "ratio": 0.5}]
    assert figures.compared_cells(rows)[0] | {"ratio": "0.50", "a": "2.00"} == figures.compared_cells(rows)[0]
    assert figures.summary(two).endswith("fork_server = no")


def test_nothing_is_divided_by_zero() -> None:
    rows = figures.compare(result(sample(3, verify=0)), result(sample(3, verify=1)))
    assert rows[0]["ratio"] is None and figures.compared_cells(rows)[0]["ratio"] == ""


def test_what_is_saved_is_read_again() -> None:
    made = result(sample(3, verify=1), Sample(10, 0, 0.1))
    raw = json.loads(json.dumps({"schema": output.SCHEMA, **made.document()}))
    assert figures.BenchResult.from_document(raw, "file") == made
    assert set(raw) == {"schema", "format", "about", "samples", "figures"}
    verify = next(row for row in raw["figures"] if (row["what"], row["unit"]) == ("verify", CPU))
    assert verify == {"what": "verify", "unit": CPU, "values": {"3": 1.0}, "growth": None}


@pytest.mark.parametrize(
    "raw", [{}, {"format": 99}, {"format": 1}, {"format": 1, "about": {}, "samples": [{"nodes": 3}]}]
)
def test_what_is_no_benchmark_is_refused(raw: dict[str, object]) -> None:
    with pytest.raises(VclusterError, match=r"^file "):
        figures.BenchResult.from_document(raw, "file")


def test_a_window_without_watchers_is_said() -> None:
    assert any("0 runs of ganeti-watcher in 30 s" in line for line in figures.remarks([result(sample(3))]))
    assert not any("Growth" in line for line in figures.remarks([result(sample(3))]))


def test_operations_come_in_their_order_with_what_they_need() -> None:
    assert measure.operations(()) == list(figures.OPERATIONS)
    assert measure.operations(("node-remove", "verify")) == ["create", "verify", "node-add", "node-remove"]
    with pytest.raises(UsageError, match="nonsense"):
        measure.operations(("nonsense",))


def test_settings_are_keys_of_the_configuration_file() -> None:
    assert measure.settings(["fork_server=no", "noded=-d -x=1"]) == {"fork_server": "no", "noded": "-d -x=1"}
    for wrong in ("fork_server", "nonsense=1", "nodes=7"):
        with pytest.raises(UsageError, match=wrong.partition("=")[0]):
            measure.settings([wrong])


def test_the_page_is_complete_in_itself() -> None:
    one = result(*(sample(size, verify=size) for size in (3, 10, 30)))
    page = html_page.page([one])
    assert "N^1.00" in page and "A &lt;CPU&gt;" in page and page.count("<svg") == len(figures.UNITS)
    references = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', page)) | set(re.findall(r"@import|url\(http", page))
    assert references == set(), references
    assert "<svg" not in html_page.page([result()])  # before the first cluster
    both = html_page.page([one, result(sample(3, verify=1), ganeti="3.1.0")])
    assert "B/A" in both and "Ganeti 3.1.0" in both and all(colour in both for colour in html_page.COLOURS)


def test_a_saved_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for name, word in (("none", "No such file"), ("text", "not a JSON document"), ("", "directory")):
        with pytest.raises(VclusterError, match=f"{tmp_path / name}.*{word}.*--save FILE makes one"):
            bench_commands.do_bench(main.parse(["bench", "--compare", str(tmp_path / name), "other"]))
