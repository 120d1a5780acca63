# SPDX-License-Identifier: BSD-2-Clause
"""Who reaches a cluster, and what others on the machine and around it can do to it."""

from __future__ import annotations

import json

import pytest

from tests.support.fingerprint import on_master
from tests.support.machine import Machine

CONF = "/etc/ganeti-vcluster/default.conf"
DATA = "/var/lib/ganeti-vcluster/default"
#: A neighbour of the machine, with a route to the cluster's network.
NEIGHBOUR = """
ip netns add lan && ip link add out0 type veth peer name in0 netns lan
ip addr add 10.99.0.1/24 dev out0 && ip link set out0 up
ip -n lan addr add 10.99.0.2/24 dev in0 && ip -n lan link set in0 up && ip -n lan link set lo up
ip -n lan route add 192.0.2.0/24 via 10.99.0.1
nft 'table inet foreign { chain input { type filter hook input priority 0; }; }'
"""
#: rapi, noded, mond, the cluster's sshd, and what the machine itself offers its neighbours.
PLACES = ("192.0.2.1:5080", "192.0.2.10:1811", "192.0.2.11:1815", "192.0.2.12:1822", "10.99.0.1:7777")
MACHINES_OWN = PLACES[-1]
#: Prints those of its arguments that accept a connection.
TRY = """
import selectors, socket, sys, time
waiting = selectors.DefaultSelector()
for place in sys.argv[1:]:
    sock = socket.socket()
    sock.setblocking(False)
    host, port = place.split(":")
    sock.connect_ex((host, int(port)))
    waiting.register(sock, selectors.EVENT_WRITE, place)
end = time.monotonic() + 1
while waiting.get_map() and (left := end - time.monotonic()) > 0:
    for key, _ in waiting.select(left):
        waiting.unregister(key.fileobj)
        if not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            print(key.data)
"""


#: Connects as often as the first argument says, then waits.
FLOOD = """
import socket, sys, time
held = [socket.create_connection((sys.argv[2], 1822)) for _ in range(int(sys.argv[1]))]
print("connected", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def neighbour(cluster: Machine) -> Machine:
    """The machine, with a neighbour and a firewall of its own."""
    cluster.sh(NEIGHBOUR)
    cluster.put("/root/try", TRY)
    cluster.sh("systemd-run -q --unit=own socat TCP-LISTEN:7777,bind=10.99.0.1,fork EXEC:/bin/date")
    return cluster


def reached(machine: Machine) -> set[str]:
    return set(machine.run("ip", "netns", "exec", "lan", "python3", "/root/try", *PLACES).stdout.split())


def test_neighbours_reach_a_cluster_only_if_its_owner_wants_it(neighbour: Machine) -> None:
    machine = neighbour
    machine.wait_for(f"ip netns exec lan python3 /root/try {MACHINES_OWN} | grep .")
    assert reached(machine) == {MACHINES_OWN}
    assert set(machine.run("python3", "/root/try", *PLACES).stdout.split()) == set(PLACES), "the machine itself does"
    machine.sh(f"sed -i 's/^reachable = no/reachable = yes/' {CONF} && systemctl reload ganeti-vcluster")
    assert reached(machine) == set(PLACES)
    machine.sh(f"sed -i 's/^reachable = yes/reachable = no/' {CONF} && systemctl reload ganeti-vcluster")
    assert reached(machine) == {MACHINES_OWN}
    # As a firewall does it when it is loaded again.
    machine.sh("nft list table inet foreign >/root/foreign && nft flush ruleset && nft -f /root/foreign")
    assert reached(machine) == set(PLACES)
    machine.sh("systemctl reload ganeti-vcluster")
    assert reached(machine) == {MACHINES_OWN}
    assert machine.sh("nft list tables | sort").stdout.split() == [
        "table", "inet", "foreign", "table", "inet", "ganeti-vcluster-default",
    ]  # fmt: skip


def test_rapi_tells_nothing_without_a_password(cluster: Machine) -> None:
    # As ganeti-vcluster(7) says it.
    curl = (
        f"curl -s -w '%{{http_code}}' -o /dev/null --cacert {DATA}/node1/var/lib/ganeti/rapi.pem "
        "--connect-to ganeti.example.com::cluster: https://ganeti.example.com:5080/2/nodes"
    )
    assert cluster.sh(curl, check=False).stdout == "401"
    assert cluster.sh(f'{curl} -u "gnt-vcluster:$(cat {DATA}/rapi-password)"').stdout == "200"
    on_master(cluster, "ganeti-watcher", "--rapi-ip=192.0.2.1")
    assert (
        cluster.sh(f"grep 'RAPI is not responding' {DATA}/node1/var/log/ganeti/watcher.log", check=False).stdout == ""
    )


def test_the_ssh_server_holds_out_against_a_flood(cluster: Machine) -> None:
    cluster.sh("useradd mallory")
    cluster.put("/root/flood", FLOOD)
    cluster.sh("chmod 755 /root && chmod 644 /root/flood")
    cluster.sh("systemd-run -q --unit=flood --uid=mallory python3 /root/flood 200 node2")
    cluster.wait_for("journalctl -u flood | grep connected")
    cluster.wait_for("journalctl -u ganeti-vcluster-sshd@default | grep 'has too many connections: 10, of 10'")
    # sshd has two processes for each.
    group = cluster.sh("systemctl show -P ControlGroup ganeti-vcluster-sshd@default").stdout.strip()
    assert len(cluster.get(f"/sys/fs/cgroup{group}/cgroup.procs").split()) <= 2 * 10 + 1
    # Ganeti logs in as root, as often as it likes.
    many = "for n in $(seq 20); do ssh node2 'echo in; sleep 2' & done; wait"
    assert cluster.sh(many).stdout == "in\n" * 20
    cluster.sh("systemctl stop flood")


def test_a_users_own_unit_is_not_noded(cluster: Machine) -> None:
    """A user's systemd can have a unit of that name, and Ganeti's users can write its pid into the file."""
    user = "setpriv --reuid=mallory --regid=mallory --init-groups env XDG_RUNTIME_DIR=/run/user/$(id -u mallory)"
    cluster.sh("systemd-run -q --wait loginctl enable-linger mallory")
    cluster.wait_for(f"{user} systemd-run -q --user --unit=ganeti-noded@node2.service sleep 5555")
    cluster.wait_for("pgrep -u mallory -x sleep")
    file = f"{DATA}/node2/var/run/ganeti/ganeti-noded.pid"
    cluster.sh(f"cp -a {file} /root/pid && pgrep -u mallory -x sleep >{file}")
    assert (
        cluster.run("python3", "-c", "from ganeti_vc.node import view; print(view.noded_pid('node2'))").stdout == "0\n"
    )
    cluster.sh(f"rm {file} && mkfifo {file} && timeout 10 gnt-vcluster exec node2 -- hostname | grep -x node2")
    cluster.sh(f"rm {file} && cp -a /root/pid {file} && pkill -u mallory -x sleep; "
               "systemd-run -q --wait loginctl disable-linger mallory")  # fmt: skip
    assert (
        cluster.run("python3", "-c", "from ganeti_vc.node import view; print(view.noded_pid('node2'))").stdout != "0\n"
    )


def test_sessions_outlive_the_ssh_server_and_end_with_the_cluster(cluster: Machine) -> None:
    unit = "ganeti-vcluster-sshd@default"
    pid = f"systemctl show -P MainPID {unit}"
    session = cluster.popen("ssh", "node2", "trap '' HUP; echo in; sleep 7777; echo survived")
    try:
        cluster.wait_for("pgrep -xf 'sleep 7777'")
        cluster.sh(f"systemctl show -P MainPID {unit} >/root/before; kill -KILL $(cat /root/before)")
        cluster.wait_for(f'test "$({pid})" != "$(cat /root/before)" && systemctl is-active {unit} && ssh node3 true')
        cluster.sh("pkill -xf 'sleep 7777'")
        assert "survived\n" in session.communicate(timeout=30)[0]
        session = cluster.popen("ssh", "node2", "sleep 8888")
        cluster.wait_for("pgrep -xf 'sleep 8888'")
        cluster.sh(f"systemctl stop {unit}")
        assert cluster.sh("pgrep -xf 'sleep 8888'", check=False).stdout == ""
    finally:
        session.kill()
        session.wait()
        cluster.sh("gnt-vcluster start")


#: A user takes the places of a node's daemons, of a master's rapi, and a port of all addresses.
TAKE = """
import socket, sys, time
held = [socket.create_server((host, int(port))) for host, port in (place.split(":") for place in sys.argv[1:])]
print("listening", flush=True)
time.sleep(1000)
"""


def take(machine: Machine, *places: str) -> None:
    machine.put("/root/take", TAKE)
    machine.run("systemd-run", "-q", "--unit=take", "--uid=mallory", "python3", "/root/take", *places)
    machine.wait_for("journalctl -u take | grep listening")


def test_who_takes_a_daemons_place_is_named(cluster: Machine) -> None:
    uid = cluster.sh("id -u mallory").stdout.strip()
    release = "systemctl stop take; systemctl reset-failed take"

    def says(unit: str, port: int, address: str) -> None:
        said = f"uid {uid} listens on port {port} of {address}, so ganeti-{unit.split('@')[0]} cannot"
        cluster.wait_for(f"systemctl show -P StatusText ganeti-{unit} | grep -F '{said}'")

    cluster.sh("systemctl stop ganeti-rapi@node1")
    take(cluster, "192.0.2.1:5080")
    cluster.run("systemctl", "start", "ganeti-rapi@node1.service", check=False)
    says("rapi@node1", 5080, "192.0.2.1")  # before, it was taken for the rapi of another master
    cluster.sh(release, check=False)
    cluster.wait_for("systemctl is-active ganeti-rapi@node1")
    cluster.sh("gnt-vcluster stop node3")
    take(cluster, "192.0.2.12:1811", "192.0.2.12:1815")
    up = cluster.run("gnt-vcluster", "up", check=False)
    assert up.returncode == 1 and f"uid {uid} listens on port 1811 of 192.0.2.12" in up.stderr.splitlines()[-1]
    says("mond@node3", 1815, "192.0.2.12")
    cluster.sh(release, check=False)
    cluster.run("gnt-vcluster", "up", "--no-verify")
    cluster.sh("systemctl stop ganeti-vcluster.target")
    take(cluster, "0.0.0.0:1811")
    refused = cluster.run("gnt-vcluster", "up", check=False)
    assert f"uid {uid} listens on port 1811 of all addresses" in refused.stderr
    cluster.sh(release, check=False)


def test_destroy_leaves_the_firewall_of_others(neighbour: Machine) -> None:
    neighbour.run("gnt-vcluster", "destroy", "--yes")
    assert neighbour.sh("nft list tables").stdout == "table inet foreign\n"


def test_without_nft_nothing_is_made(cluster: Machine) -> None:
    cluster.sh("mv /usr/sbin/nft /root/")
    try:
        up = cluster.run("gnt-vcluster", "up", check=False)
        assert up.returncode == 1 and up.stderr.count("\n") == 1
        assert "reachable: this machine cannot keep packets from outside away" in up.stderr
        assert cluster.sh("ls /etc/ganeti-vcluster; ip -o link show | grep ' gnt-'", check=False).stdout == ""
        features = json.loads(cluster.run("gnt-vcluster", "doctor", "--json", check=False).stdout)["features"]
        assert [one["state"] for one in features if one["key"] == "nft"] == ["missing"]
    finally:
        cluster.sh("mv /root/nft /usr/sbin/")
