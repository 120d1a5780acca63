# SPDX-License-Identifier: BSD-2-Clause
"""How little each unit may do, by systemd's own measure."""

from __future__ import annotations

import re

from tests.support.machine import Machine

#: The highest exposure of each unit (systemd-analyze security; lower is better).
GOALS = {
    "ganeti-confd@node1": 1.8,
    "ganeti-luxid@node1": 1.8,
    "ganeti-wconfd@node1": 1.8,
    "ganeti-rapi@node1": 1.8,
    "ganeti-metad@node1": 1.8,
    "ganeti-cleaner-master@node1": 1.8,
    "ganeti-vcluster-ready@default": 2.5,
    "ganeti-vcluster-off@default": 2.5,
    "ganeti-vcluster-off": 2.5,
    "ganeti-vnode-off@node1": 2.5,
    "ganeti-noded@node1": 8.3,
    "ganeti-mond@node1": 8.3,
    "ganeti-quorum@node1": 8.3,
    "ganeti-watcher@node1": 8.3,
    "ganeti-cleaner@node1": 8.3,
    "ganeti-kvmd@node1": 8.3,
    "ganeti-vnode-reboot@node1": 8.3,
    "ganeti-vnode-poweroff@node1": 8.3,
    "ganeti-vcluster": 7.3,
    "ganeti-vcluster-sshd@default": 9.1,
    "ganeti-vcluster-forkserver": 9.1,
}


def test_units_are_tight(cluster: Machine) -> None:
    """See systemd-analyze(1). Units with other names of nodes and clusters are instances of the same templates."""
    out = cluster.run("systemd-analyze", "security", "--no-pager", *(f"{unit}.service" for unit in GOALS)).stdout
    found = dict(re.findall(r"Overall exposure level for (\S+)\.service: ([\d.]+)", out))
    print(*(f"{found[unit]:>4} {unit}" for unit in GOALS), sep="\n")
    assert {unit: level for unit, level in found.items() if float(level) > GOALS[unit]} == {}
    assert set(found) == set(GOALS)


def test_all_units_of_the_package_are_in_the_table(cluster: Machine) -> None:
    files = cluster.sh("dpkg -L ganeti-vcluster | grep '^/usr/lib/systemd/system/.*[.]service$'").stdout.split()
    units = {file.rpartition("/")[2].removesuffix(".service") for file in files}
    assert units == {re.sub("@.*", "@", unit) for unit in GOALS}
