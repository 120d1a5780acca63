# SPDX-License-Identifier: BSD-2-Clause
"""A machine that is a Ganeti node itself: its own cluster is not ours, and nothing of it changes."""

from __future__ import annotations

from tests.support.fingerprint import verify_errors
from tests.support.machine import Machine

ADDRESS = "10.11.12.1"
NETWORK = f"""
ip link add hostbr type bridge && ip link set hostbr up && ip addr add {ADDRESS}/24 dev hostbr
printf '{ADDRESS} host1.example.org\\n10.11.12.2 hostcluster.example.org\\n' >>/etc/hosts
hostname host1.example.org
"""
#: A cluster of one node, as an administrator makes it, with a ganeti.target as newer packages have.
INIT = """
gnt-cluster init --no-ssh-init --no-etc-hosts --master-netdev=hostbr --enabled-hypervisors=fake \
  --enabled-disk-templates=diskless --nic-parameters=link=hostbr hostcluster.example.org
printf '[Unit]\\nDescription=The machine\\47s own Ganeti\\n' >/etc/systemd/system/ganeti.target
systemctl daemon-reload && systemctl start ganeti.target
"""
BIND = "for d in NODED CONFD MOND RAPI; do echo \"${d}_ARGS='-b " + ADDRESS + "'\"; done >/etc/default/ganeti"

#: The daemons of the machine's own Ganeti by pid, its files, its unit, and what it answers.
HOSTS_OWN = r"""
for pid in $(pgrep -P 1 -f '(^|/)ganeti-(noded|confd|wconfd|luxid|rapi|mond)'); do
  grep -q ganeti-vnode /proc/$pid/cgroup || echo "$pid $(tr '\0' ' ' </proc/$pid/cmdline)"
done
find /etc/default/ganeti /etc/ganeti /var/lib/ganeti -type f ! -name 'job-*' -exec sha256sum {} + | sort
find /etc/default/ganeti /etc/ganeti /var/lib/ganeti /var/log/ganeti /run/ganeti -printf '%p %y %m %u %g\n' | sort
systemctl show -p ActiveState,ActiveEnterTimestampMonotonic,Wants,Requires,RequiredBy,WantedBy ganeti.target
gnt-cluster getmaster; gnt-node list --no-headers -o name
"""


def test_the_machine_has_a_ganeti_that_takes_all_addresses(machine: Machine) -> None:
    machine.sh(NETWORK)
    machine.sh(INIT)
    before = machine.sh(HOSTS_OWN).stdout
    assert "host1.example.org" in before and "ganeti-luxid" in before
    done = machine.run("gnt-vcluster", "up", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "port 1811" in done.stderr and "/etc/default/ganeti" in done.stderr
    assert machine.sh(HOSTS_OWN).stdout == before


def test_one_bound_to_its_address_is_left_alone_by_everything_we_do(machine: Machine) -> None:
    machine.sh(BIND)
    # By init script, as Debian's package does; systemctl knows no units of its daemons.
    machine.sh("rm /etc/systemd/system/ganeti.target && systemctl daemon-reload")
    machine.sh("/usr/lib/ganeti/daemon-util stop-all")
    machine.wait_for("! pgrep -f sbin/[g]aneti-noded")
    machine.sh("/usr/lib/ganeti/daemon-util start-all")
    machine.sh("printf '[Unit]\\nDescription=Ganeti\\n' >/etc/systemd/system/ganeti.target")
    machine.sh("systemctl daemon-reload && systemctl start ganeti.target")
    machine.wait_for("gnt-node list --no-headers -o mtotal | grep -v '?'")
    before = machine.sh(HOSTS_OWN).stdout
    for command in (
        "gnt-vcluster up --nodes 2",
        "systemctl restart ganeti-vcluster.target",
        "gnt-vcluster exec node2 -- gnt-cluster master-failover",
        "gnt-vcluster exec all -- ganeti-watcher",
        "cd /var/lib/ganeti-vcluster/default && ./stop-all && ./start-all",
        "gnt-vcluster scale --nodes 3",
        "gnt-vcluster stop node3 && gnt-vcluster start node3",
        "systemctl stop ganeti-vcluster.target",
        "systemctl start ganeti-vcluster.target",
    ):
        machine.sh(command)
        assert machine.sh(HOSTS_OWN).stdout == before, command
    assert verify_errors(machine) == []
    machine.sh("gnt-vcluster destroy --yes")
    assert machine.sh(HOSTS_OWN).stdout == before
    machine.sh("gnt-vcluster up --nodes 2 && apt-get purge -y ganeti-vcluster")
    assert machine.sh(HOSTS_OWN).stdout == before
