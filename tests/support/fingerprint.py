# SPDX-License-Identifier: BSD-2-Clause
"""Looking at a machine with a user's own tools."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from tests.support.machine import Machine

#: Everything our package may touch outside of its own directories, as text that can be compared.
FINGERPRINT = r"""
echo "== addresses"; ip -o addr | sed -E 's/^[0-9]+: //; s/ +(valid_lft|preferred_lft).*//' | sort
echo "== links"; ip -o link | sed -E 's/^[0-9]+: //; s/qlen [0-9]+//' | sort
echo "== routes"; ip route show table all | sort; ip -6 route show table all | sort
echo "== hosts"; stat -c '%a %U %G' /etc/hosts; base64 /etc/hosts
echo "== ssh"; find /etc/ssh /root/.ssh -type f -exec sha256sum {} + 2>/dev/null | sort; find /root/.ssh -printf '%p %m %U %G %T@\n' 2>/dev/null
echo "== links of systemd"; find /etc/systemd /run/systemd/system /run/systemd/transient -printf '%p %y %l\n' 2>/dev/null | sort
echo "== ganeti"; find /var/lib/ganeti /etc/ganeti /etc/default/ganeti /var/log/ganeti /run/ganeti /srv -printf '%p %y %m %u %s\n' 2>/dev/null | sort
echo "== run"; ls -1d /run/* /etc/* /var/lib/* /var/lib/systemd/timers/* 2>/dev/null | sort
echo "== listening"; ss -Hlntu | awk '{print $1, $5}' | sort
echo "== processes"; ps -eo args | grep -i '[g]aneti' | grep -v -e 'bash -o' -e FINGERPRINT
echo "== units"; systemctl list-units --all --plain --no-legend | awk '{print $1, $2, $3, $4}' \
    | grep -v -e '^session-' -e '^user@' -e '^user-' -e '^run-user' -e '^systemd-tmpfiles-clean' -e '^apt-daily' -e '^man-db' \
              -e '^systemd-timedated' -e '^systemd-hostnamed' -e '^systemd-localed' -e '^dpkg-db-backup' | sort
exit 0
"""


def fingerprint(machine: Machine) -> str:
    return machine.sh(FINGERPRINT).stdout


def refused(machine: Machine, *argv: str, statuses: Collection[int] = (1,)) -> str:
    """Run a command that must fail with one line, and return that line. A wrong usage has the status 2."""
    done = machine.run(*argv, check=False)
    assert done.returncode in statuses and done.stdout == "", done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def difference(before: str, after: str) -> list[str]:
    old, new = before.splitlines(), after.splitlines()
    return [f"-{line}" for line in old if line not in new] + [f"+{line}" for line in new if line not in old]


def on_master(machine: Machine, *argv: str, cluster: str = "default", check: bool = True) -> str:
    done = machine.run("gnt-vcluster", "exec", "-c", cluster, "master", "--", *argv, check=check)
    return done.stdout + ("" if check else done.stderr)


def on(machine: Machine, node: str, *argv: str) -> str:
    return machine.run("gnt-vcluster", "exec", node, "--", *argv).stdout


def status(machine: Machine, cluster: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run("gnt-vcluster", "status", cluster, "--json", check=False).stdout)
    return found


def active(machine: Machine, pattern: str) -> list[str]:
    out = machine.run("systemctl", "list-units", "--plain", "--no-legend", "--state=active", pattern).stdout
    return [line.split()[0] for line in out.splitlines()]


def verify_errors(machine: Machine, cluster: str = "default") -> list[str]:
    """ERROR lines of gnt-cluster verify, but for the one about a kernel without sysrq."""
    has_sysrq = machine.run("test", "-e", "/proc/sysrq-trigger", check=False).returncode == 0
    lines = [line for line in on_master(machine, "gnt-cluster", "verify", cluster=cluster, check=False).splitlines()
             if "ERROR" in line]  # fmt: skip
    return [line for line in lines if has_sysrq or "/proc/sysrq-trigger" not in line]


#: Processes of Ganeti that are not where they belong: below their node's slice, in their unit.
STRAYS = r"""
for pid in $(pgrep -f '(^|/)ganeti-(noded|confd|wconfd|luxid|rapi|mond|metad|kvmd)'); do
  cgroup=$(sed -n 's/^0:://p' /proc/$pid/cgroup) || continue
  node=${cgroup##*@} # of what the fork server has started, the environment does not show
  node=${node%.service}
  case $cgroup in
    /ganeti.slice/ganeti-vnode.slice/*ganeti-vnode-$node.slice/ganeti-*@$node.service) ;;
    *) echo "$pid $cgroup $(tr '\0' ' ' </proc/$pid/cmdline)" ;;
  esac
done
"""


def strays(machine: Machine) -> str:
    """Empty when every Ganeti process is in its unit, in its node's slice."""
    return machine.sh(STRAYS).stdout


def daemons(machine: Machine, cluster: str = "default") -> dict[str, list[str]]:
    return {node["node"]: node["daemons"] for node in status(machine, cluster)["nodes"]}


MASTER = ["confd", "luxid", "mond", "noded", "rapi", "wconfd"]
CANDIDATE = ["confd", "mond", "noded"]


def planned(machine: Machine, *argv: str) -> list[str]:
    """What `gnt-vcluster ... --dry-run` says, without the starts of units and the verification."""
    return changes(json.loads(machine.run("gnt-vcluster", *argv, "--dry-run", "--json").stdout))


def changes(document: Mapping[str, list[str]]) -> list[str]:
    """What a command says that it has changed, or would change, without the starts of units and the verification."""
    return [line for line in document["changes"] if not line.startswith(("start ", "gnt-cluster verify"))]
