# SPDX-License-Identifier: BSD-2-Clause
"""Ganeti's own QA suite, the reduced run; `make qa` has the full one."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from tests.support.fingerprint import difference, fingerprint
from tests.support.machine import Machine

CLUSTER = "/var/lib/ganeti-vcluster/qa"


def test_the_suite_passes(machine: Machine) -> None:
    before = fingerprint(machine)
    done = machine.run("gnt-vcluster", "qa", "--quick", "--json", "--junit", "/root/qa.xml", timeout=900)
    document = json.loads(done.stdout)
    assert document["counts"]["failed"] == 0 and document["counts"]["passed"] >= 50, document["counts"]
    names = {test["name"] for test in document["tests"] if test["outcome"] == "passed"}
    assert {
        "TestClusterCopyfile",
        "TestInstanceExport",
        "TestInstanceModifyPrimaryAndBack",
        "TestNodeListDrbd",
    } <= names
    assert any(name.startswith("TestRapi") for name in names)
    junit = ElementTree.fromstring(machine.get("/root/qa.xml"))
    assert junit.get("failures") == "0" and int(junit.get("tests") or 0) == len(document["tests"])
    machine.sh("rm /root/qa.xml")
    assert difference(before, fingerprint(machine)) == []


def test_a_failure_is_shown_and_the_cluster_left(machine: Machine) -> None:
    """The suite's configuration wants what is not there: a test fails, and the cluster stays to be looked at."""
    machine.sh("mv /usr/share/ganeti/os/noop /root/")
    try:
        done = machine.run(
            "gnt-vcluster", "qa", "--only", "default-instance-tests,instance-add-diskless", check=False, timeout=300
        )
    finally:
        machine.sh("mv /root/noop /usr/share/ganeti/os/")
    assert done.returncode == 1 and "1 failed" in done.stdout
    assert "TestInstanceAddDiskless" in done.stderr and "gnt-vcluster destroy qa" in done.stderr
    refused = machine.run("gnt-vcluster", "qa", check=False)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1 and "destroy qa" in refused.stderr
    machine.run("gnt-vcluster", "destroy", "qa", "--yes")


def test_an_interruption_removes_the_cluster(machine: Machine) -> None:
    before = fingerprint(machine)
    machine.sh("gnt-vcluster qa --only env >/run/qa.log 2>&1 & echo $! >/run/qa.pid")
    machine.wait_for("pgrep -f [g]aneti-qa.py", timeout=180)
    machine.sh("kill -TERM $(cat /run/qa.pid) && tail --pid=$(cat /run/qa.pid) -f /dev/null")
    assert "removing qa" in machine.get("/run/qa.log") and "Traceback" not in machine.get("/run/qa.log")
    machine.sh("rm /run/qa.log /run/qa.pid")
    assert machine.sh("pgrep -f [g]aneti-qa.py", check=False).stdout == ""
    assert difference(before, fingerprint(machine)) == []


def test_a_switch_the_suite_does_not_know(machine: Machine) -> None:
    done = machine.run("gnt-vcluster", "qa", "--only", "env,nosuch", check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "nosuch" in done.stderr
