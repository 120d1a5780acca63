# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster bench: clusters that come, are measured and go, and what is saved of them."""

from __future__ import annotations

import json
import signal
import time

from ganeti_vc.operations.bench.figures import CPU, IDLE, MEMORY, WALL, BenchResult, Quantity, figures
from tests.support.fingerprint import difference, fingerprint
from tests.support.machine import Machine

FINGERPRINTS: dict[str, str] = {}


def bench(machine: Machine, *options: str) -> str:
    # Entering the machine does not enter its control group, and then it would not count what the command costs.
    return machine.run("systemd-run", "--quiet", "--wait", "--pipe", "gnt-vcluster", "bench", *options).stdout


def test_two_sizes_are_measured_and_nothing_is_left(machine: Machine) -> None:
    machine.run("systemd-run", "--wait", "true")  # leaves an empty directory behind
    FINGERPRINTS[machine.release] = before = fingerprint(machine)
    out = bench(machine, "--sizes", "3,4", "--idle", "2", "--only", "idle,node-list,noded-start,node-remove",
                "--instances-per-node", "0", "--save", "/root/a.json")  # fmt: skip
    raw = json.loads(machine.get("/root/a.json"))
    machine.sh("mv /root/a.json /tmp/")
    assert difference(before, fingerprint(machine)) == []
    lines = [line.split() for line in out.splitlines()]
    assert ["What", "Unit", "3", "nodes", "4", "nodes"] in lines
    assert any(line[:3] == ["node-list", "CPU", "s"] and len(line) == 5 for line in lines), out
    result = BenchResult.from_document(raw, "a.json")
    assert [sample.nodes for sample in result.samples] == [3, 4] and result.about["settings"] == {}
    for sample in result.samples:
        assert list(sample.costs) == ["create", "node-list", "noded-start", "node-add", "node-remove"]
        for name, cost in sample.costs.items():
            # Nothing else runs here, so that the account of the cluster has to be that of the machine.
            assert cost.seconds > 0 and 0.9 * cost.machine - 0.05 < cost.cpu < 1.1 * cost.machine + 0.05, (name, cost)
        assert {"noded", "mond", "confd", "luxid", "wconfd", "rapi", "helpers"} <= set(sample.daemons)
        assert sample.daemons["noded"].units == sample.nodes
    found = figures(result)
    assert 4 < found[Quantity("noded", MEMORY)][3] < 20
    assert found[Quantity("create", CPU)][3] > 10 * found[Quantity("node-list", CPU)][3]
    assert found[Quantity("cluster", IDLE)][3] < 10 and found[Quantity("create", WALL)][4] > 1


def test_a_setting_and_the_comparison(machine: Machine) -> None:
    bench(machine, "--sizes", "3", "--idle", "1", "--only", "noded-start,idle", "--setting", "fork_server=no",
          "--instances-per-node", "0", "--save", "/tmp/b.json")  # fmt: skip
    out = machine.run("gnt-vcluster", "bench", "--compare", "/tmp/a.json", "/tmp/b.json").stdout
    assert "A: Ganeti" in out and out.splitlines()[1].endswith("fork_server = no")
    rows = json.loads(machine.run("gnt-vcluster", "bench", "--compare", "/tmp/a.json", "/tmp/b.json", "--json").stdout)
    ratios = {(row["what"], row["unit"]): row["ratio"] for row in rows["comparison"]}
    assert ratios["noded", MEMORY] > 2 and ratios["noded-start", CPU] > 1.5 and ("node-list", CPU) not in ratios


def test_an_interruption_removes_the_cluster(machine: Machine) -> None:
    for after in (
        "test -e /etc/ganeti-vcluster/bench.conf",
        "test -e /var/lib/ganeti-vcluster/bench/node1.bench/var/lib/ganeti/config.data",
    ):
        process = machine.popen("gnt-vcluster", "bench", "--sizes", "3", "--only", "node-list")
        machine.wait_for(after)
        time.sleep(1)
        machine.sh("kill -INT $(pgrep -xf '/usr/bin/python3 -I /usr/bin/gnt-vcluster bench .*')")
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGINT, out
        machine.sh("rm -f /tmp/[ab].json")
        assert difference(FINGERPRINTS[machine.release], fingerprint(machine)) == []


def test_what_cannot_be_done_is_said_before(machine: Machine) -> None:
    def refused(*options: str) -> str:
        done = machine.run("gnt-vcluster", "bench", *options, check=False)
        assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    assert "apt-get install python3-matplotlib" in refused("--html", "/tmp/page.html")
    assert "nonsense" in refused("--only", "nonsense") and "nonsense" in refused("--setting", "nonsense=1")
    assert "nosuch" in refused("--compare", "/nosuch", "/nosuch")
    assert "maybe" in refused("--setting", "fork_server=maybe")
    machine.run("gnt-vcluster", "create", "bench")
    assert "gnt-vcluster destroy bench" in refused("--sizes", "3")
    machine.run("gnt-vcluster", "destroy", "bench", "--yes")
