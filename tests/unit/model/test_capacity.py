# SPDX-License-Identifier: BSD-2-Clause
"""What clusters take of a machine: the formulas beside what was measured, and the sums made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ganeti_vc.model import capacity, config
from ganeti_vc.model.capacity import LIMITS, MIB, Limit, Row, Size, Stock
from ganeti_vc.model.names import ClusterId

BY_KEY = {limit.key: limit for limit in LIMITS}
#: What a cluster of so many nodes, 40 of them with mond, added to an empty container, by version and nodes.
MEASURED = {
    ("3.0", 40): {"fs.file-max": 1083, "files-of-systemd": 96, "streams": 96, "units": 731, "kernel.pid_max": 99,
                  "fs.inotify.max_user_instances": 10, "inodes": 4050, "disk": 9732 << 10},
    ("3.1", 40): {"fs.file-max": 1327, "files-of-systemd": 288, "streams": 96, "units": 731, "kernel.pid_max": 151,
                  "fs.inotify.max_user_instances": 10, "inodes": 4050, "disk": 9976 << 10},
    ("3.0", 90): {"fs.file-max": 1733, "files-of-systemd": 146, "streams": 146, "units": 1631, "kernel.pid_max": 149,
                  "fs.inotify.max_user_instances": 10, "inodes": 8740, "disk": 19296 << 10},
    ("3.1", 90): {"fs.file-max": 2077, "files-of-systemd": 438, "streams": 146, "units": 1631, "kernel.pid_max": 201,
                  "fs.inotify.max_user_instances": 10, "inodes": 8740, "disk": 19536 << 10},
}  # fmt: skip
#: MiB of rss and kmem it added, by version, nodes and instances.
MEASURED_MEMORY = {("3.0", 40, 0): 719, ("3.0", 90, 0): 1220, ("3.0", 40, 2000): 1740,
                   ("3.1", 40, 0): 918, ("3.1", 90, 0): 1395, ("3.1", 40, 1000): 1305}  # fmt: skip


def measured(version: str, nodes: int, instances: int = 0) -> Size:
    return replace(Size.new(nodes, instances, version), monds=40)


def new(nodes: int) -> Size:
    return Size.new(nodes, 0, "3.0")


@pytest.mark.parametrize(("version", "nodes"), MEASURED)
@pytest.mark.parametrize("key", MEASURED["3.0", 40])
def test_formulas_say_no_less_than_what_was_measured(version: str, nodes: int, key: str) -> None:
    assert BY_KEY[key].cost(measured(version, nodes)) >= MEASURED[version, nodes][key]


@pytest.mark.parametrize(("version", "nodes"), MEASURED)
@pytest.mark.parametrize("key", ["streams", "units", "fs.inotify.max_user_instances"])
def test_what_can_be_counted_is_exact(version: str, nodes: int, key: str) -> None:
    assert BY_KEY[key].cost(measured(version, nodes)) == MEASURED[version, nodes][key]


@pytest.mark.parametrize(("version", "nodes", "instances"), MEASURED_MEMORY)
def test_memory_is_at_most_a_third_more_than_measured(version: str, nodes: int, instances: int) -> None:
    found = MEASURED_MEMORY[version, nodes, instances]
    assert found <= BY_KEY["memory"].cost(measured(version, nodes, instances)) / MIB <= found * 4 / 3


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.key)
def test_more_never_needs_less(limit: Limit) -> None:
    for sizes in ((1, 2), (3, 9, 10, 50), (51, 99, 100, 101, 5000)):
        costs = [limit.cost(Size.new(nodes, 10 * nodes, "3.1")) for nodes in sizes]
        assert costs == sorted(costs)


def test_a_number_that_becomes_cheaper_is_found() -> None:
    """50 nodes have a mond each, 51 do not."""
    row = find(capacity.rows({"streams": Stock(90)}, [new(3)], [], [], new), "streams")
    assert row.nodes == 64
    row = find(capacity.rows({"streams": Stock(70)}, [new(3)], [], [], new), "streams")
    assert row.nodes == 27


def find(rows: list[Row], key: str) -> Row:
    return next(row for row in rows if row.limit.key == key)


def test_what_runs_already_is_not_counted_twice() -> None:
    stocks = {"units": Stock(131072, 200 + BY_KEY["units"].cost(new(5)))}
    row = find(capacity.rows(stocks, [new(7)], [new(5)], [], new), "units")
    assert row.needed == 200 + BY_KEY["units"].cost(new(7))
    stopped = find(capacity.rows(stocks, [new(7)], [replace(new(5), nodes=0)], [], new), "units")
    assert stopped.needed == stocks["units"].used + BY_KEY["units"].cost(new(7))


def test_the_disk_counts_what_is_stopped() -> None:
    stocks = {"disk": Stock(1 << 40, 1 << 30)}
    row = find(capacity.rows(stocks, [new(5)], [], [new(5)], new), "disk")
    assert row.needed == 1 << 30


def test_clusters_add_up_unless_each_has_its_own() -> None:
    stocks = {"memory": Stock(1 << 60), "files-of-a-daemon": Stock(1024)}
    found = capacity.rows(stocks, [new(30), new(50)], [], [], new)
    assert find(found, "memory").needed == sum(BY_KEY["memory"].cost(new(count)) for count in (30, 50))
    assert find(found, "files-of-a-daemon").needed == 66


def test_the_largest_number_is_the_last_that_fits() -> None:
    stocks = {"streams": Stock(4096, 10), "files-of-a-daemon": Stock(1024)}
    found = capacity.rows(stocks, [new(3)], [], [], new)
    row = find(found, "streams")
    assert row.nodes == 4060
    for nodes, state in ((4060, "ok"), (4061, "too low")):
        assert find(capacity.rows(stocks, [new(nodes)], [], [], new), "streams").state == state
    assert capacity.first(found).limit.key == "files-of-a-daemon" and capacity.first(found).nodes == 1008


def test_what_only_gets_slow_is_no_limit() -> None:
    found = capacity.rows({"processors": Stock(1000)}, [new(100)], [], [], new)
    assert find(found, "processors").state == "tight"
    assert capacity.first(found).limit.key != "processors"


def test_nothing_is_said_of_what_is_not_asked_for() -> None:
    """Instances without any, neighbours of an IPv4 network, limits the machine does not have."""
    keys = {row.limit.key for row in capacity.rows({}, [new(3)], [], [], new)}
    assert keys == {"units", "ssconf_node_primary_ips", "rootdir", "nodes"}
    six = replace(new(3), ipv6=True)
    assert "net.ipv6.neigh.default.gc_thresh3" in {
        row.limit.key for row in capacity.rows({"net.ipv6.neigh.default.gc_thresh3": Stock(1024)}, [six], [], [], new)
    }


def test_a_configured_cluster_as_a_size() -> None:
    text = "[cluster]\nnodes = 20\ndomain = lab.example\nnetwork = 2001:db8::/64\n[ganeti]\ncandidate_pool_size = 4\n"
    size = Size.of(config.parse(ClusterId("lab"), text), 7, "3.1")
    assert (size.nodes, size.candidates, size.instances, size.ipv6, size.fork_server) == (20, 4, 7, True, True)
    assert BY_KEY["rootdir"].cost(size) == len("/var/lib/ganeti-vcluster/lab/node20.lab.example")


@pytest.mark.parametrize(
    ("version", "streams"),
    [("252.39-1~deb12u2", 4096), ("257.13-1~deb13u1", 4096), ("258~rc1-1", 65536), ("261", 65536), ("weekly", 65536)],
)
def test_streams_by_systemds_version(version: str, streams: int) -> None:
    assert capacity.journald_streams(version) == streams


@pytest.mark.parametrize(("needed", "value"), [(1, 1), (128, 128), (129, 256), (1000, 1024)])
def test_a_parameter_gets_some_room(needed: int, value: int) -> None:
    assert capacity.enough(needed) == value
