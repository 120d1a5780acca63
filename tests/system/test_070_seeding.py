# SPDX-License-Identifier: BSD-2-Clause
"""Nodes and instances written into the configuration: to Ganeti they are like any others."""

from __future__ import annotations

from collections import Counter

from tests.support.fingerprint import CANDIDATE, active, daemons, difference, on_master, strays, verify_errors
from tests.support.machine import Machine

CONF = "/etc/ganeti-vcluster/default.conf"
DATA = "/var/lib/ganeti-vcluster/default"
SHAPES = {
    "groups": "default, far", "node_tags": "rack:1", "instance_memory": "128M, 256M", "instance_vcpus": "1, 2",
    "instance_tags": "test", "instances_down": "30",
}  # fmt: skip
LISTED = ("gnt-instance", "list", "--no-headers", "--separator=|", "-o", "name,pnode,status,be/memory,be/vcpus,tags")


def different(machine: Machine, what: str, *nodes: int) -> int:
    """How many different keys (rsa) or certificates (x509) these nodes have."""
    pems = " ".join(f"{DATA}/node{node}/var/lib/ganeti/client.pem" for node in nodes)
    script = f"for pem in {pems}; do openssl {what} -in $pem 2>/dev/null | md5sum; done | sort -u | wc -l"
    return int(machine.sh(script).stdout)


def test_a_large_cluster_is_written(machine: Machine) -> None:
    machine.run("gnt-vcluster", "create", "--nodes", "9", "--instances", "30")
    edit = "; ".join(f"s/^# {key} =.*/{key} = {value}/" for key, value in SHAPES.items())
    machine.sh(f"sed -i '{edit}; s/^# candidate_pool_size =.*/candidate_pool_size = 4/' {CONF}")
    dry = machine.run("gnt-vcluster", "up", "--instances", "30", "--dry-run").stdout
    assert "8 nodes and 30 instances" in dry and "gnt-node add" not in dry
    machine.run("gnt-vcluster", "up", "--instances", "30", timeout=400)
    nodes = on_master(
        machine, "gnt-node", "list", "--no-headers", "--separator=|", "-o", "name,role,group,tags,pinst_cnt"
    ).split()
    assert len(nodes) == 9 and Counter(line.split("|")[1] for line in nodes) == {"M": 1, "C": 3, "R": 5}
    assert "node2|C|far|rack:1|4" in nodes and "node5|R|default|rack:1|3" in nodes
    instances = [line.split("|") for line in on_master(machine, *LISTED).splitlines()]
    states = Counter(state for _, _, state, *_ in instances)
    assert len(instances) == 30 and set(states) == {"running", "ADMIN_down"} and 3 <= states["ADMIN_down"] <= 15
    assert {memory for *_, memory, _, _ in instances} == {"128", "256"} and {tags for *_, tags in instances} == {"test"}
    assert {vcpus for *_, vcpus, _ in instances} == {"1", "2"}
    assert verify_errors(machine) == [] and strays(machine) == ""
    assert daemons(machine)["node2"] == CANDIDATE and daemons(machine)["node9"] == ["mond", "noded"]
    assert "nothing was changed" in machine.run("gnt-vcluster", "up", "--instances", "30").stdout


def test_the_files_are_those_of_their_roles(machine: Machine) -> None:
    def ours(node: str) -> set[str]:
        script = f"cd {DATA}/{node}/var/lib/ganeti && find . -type f -printf '%P %m %u %g\\n' | grep -v -e queue/ -e watcher -e jobs -e 'config.data[.]' -e tempres -e locks"
        return set(machine.sh(script).stdout.splitlines())

    joined = on_master(machine, "gnt-node", "list", "--no-headers", "-o", "name", "-F", 'role == "C"').split()
    machine.run("gnt-vcluster", "scale", "--nodes", "10")  # by gnt-node add
    seeded, added = ours("node9"), ours("node10")
    assert {line for line in seeded ^ added if "ssconf" not in line and "users" not in line} == set()
    assert {line.split()[0] for line in ours(joined[0]) - seeded} >= {"config.data"}
    config = machine.sh(f"md5sum {DATA}/*/var/lib/ganeti/config.data | cut -c1-32 | sort -u").stdout
    assert len(config.split()) == 1


def test_ganetis_own_commands_go_on_from_there(machine: Machine) -> None:
    on_master(machine, "gnt-instance", "shutdown", "instance1")
    on_master(machine, "gnt-instance", "failover", "-f", "--ignore-consistency", "instance2", check=False)
    on_master(machine, "gnt-instance", "add", "-t", "diskless", "-o", "noop", "--no-nics", "--no-name-check", "--no-ip-check",
              "-B", "memory=128", "-n", "node3", "another")  # fmt: skip
    on_master(machine, "gnt-node", "evacuate", "-f", "-p", "-n", "node3", "node9", check=False)
    machine.run("gnt-vcluster", "exec", "node2", "--", "gnt-cluster", "master-failover")
    assert verify_errors(machine) == []
    machine.run("gnt-vcluster", "exec", "node1", "--", "gnt-cluster", "master-failover")
    machine.run("gnt-vcluster", "scale", "--nodes", "9")
    assert verify_errors(machine) == []


def test_seeding_a_running_cluster(machine: Machine) -> None:
    delay = on_master(machine, "gnt-debug", "delay", "--submit", "100", check=False).split()[-1]
    machine.wait_for(f"{DATA}/node1/cmd 'gnt-job list --no-headers -o status {delay}' | grep running")
    refused = machine.run("gnt-vcluster", "scale", "--nodes", "11", "--join", "seeding", check=False)
    assert refused.returncode == 1 and f"job {delay} is running" in refused.stderr
    on_master(machine, "gnt-job", "cancel", "--kill", "--yes-do-it", delay, check=False)
    machine.wait_for(f"{DATA}/node1/cmd 'gnt-job list --no-headers --running' | wc -l | grep -x 0")
    before = on_master(machine, *LISTED)
    # Names that are written to, taken by one of Ganeti's users. And what Python and Haskell may order differently.
    machine.sh("echo secret >/root/precious && chmod 600 /root/precious")
    for name in ("node1/*/config.data.seed.seeded", "node2/*/ssconf_node_list.seeded", "node1/*/.config.data.ganeti-vcluster-new",
                 "node2/*/.ssconf_node_list.ganeti-vcluster-new"):  # fmt: skip
        machine.sh(f"ln -s /root/precious {DATA}/{name.replace('*', 'var/lib/ganeti')}")
    on_master(machine, "gnt-cluster", "add-tags", "prod", "htools:iextags:service", "alpha", "zeta")
    for number in (2, 1):
        on_master(machine, "gnt-network", "add", "--network", f"10.{number}.0.0/24", f"net{number}")
    machine.run("gnt-vcluster", "scale", "--nodes", "11", "--join", "seeding", "--no-shared-key")
    assert machine.sh("stat -c '%a %U' /root/precious; cat /root/precious").stdout == "600 root\nsecret\n"
    machine.sh(f"rm -f {DATA}/node[12]/var/lib/ganeti/*.seeded")
    assert machine.sh(f"find {DATA} -name '*.ganeti-vcluster-new'").stdout == ""
    # Without those that Ganeti is writing.
    sums = f"cd {DATA}/node11/var/lib/ganeti && find -name 'ssconf_*' -not -name '*.new' -exec md5sum {{}} +"
    seeded = machine.sh(sums).stdout
    # wconfd writes all of them.
    machine.sh(f"touch -d 2020-01-01 {DATA}/node11/var/lib/ganeti/ssconf_*")
    for verb in ("add-tags", "remove-tags"):
        on_master(machine, "gnt-cluster", verb, "later")
    machine.wait_for(f"! find {DATA}/node11/var/lib/ganeti -name 'ssconf_*' ! -newermt 2021-01-01 | grep .")
    machine.wait_for(f"! grep -q later {DATA}/node11/var/lib/ganeti/ssconf_cluster_tags")
    assert difference(seeded, machine.sh(sums).stdout) == []
    assert on_master(machine, *LISTED) == before and verify_errors(machine) == []
    assert different(machine, "rsa", 2, 3) == 1 and different(machine, "x509", 2, 3) == 2
    assert different(machine, "rsa", 3, 10, 11) == 3
    assert machine.sh(f"grep -c . {DATA}/node11/var/lib/ganeti/ssconf_node_list").stdout == "11\n"


def test_what_ganeti_does_not_take_is_not_written(machine: Machine) -> None:
    """The Haskell daemons are asked beforehand: values that Python does not look at. And no link of Ganeti's users is read."""
    machine.run("gnt-vcluster", "stop")
    data = f"{DATA}/node1/var/lib/ganeti"
    machine.sh(f"cp -p {data}/config.data /root/ && sed -i 's/^nodes = .*/nodes = 12/' {CONF}")

    def refused(change: str, reason: str) -> None:
        machine.sh(f"cd {data} && {change}")
        before = machine.sh(f"md5sum {data}/config.data").stdout
        done = machine.run("gnt-vcluster", "up", "--join", "seeding", check=False)
        assert done.returncode == 1 and "could not be written" in done.stderr and reason in done.stderr, done.stderr
        assert machine.sh(f"md5sum {data}/config.data").stdout == before and "node12" not in machine.get(
            f"{data}/config.data"
        )
        machine.sh(f"rm -f {data}/ssconf_zz && cp -p /root/config.data {data}/")

    for field, value in (("ndparams", {"nonsense": 1}), ("ctime", "never")):
        edit = f"c = json.load(open('config.data')); next(iter(c['nodes'].values()))['{field}'] = {value!r}"
        refused(
            f"python3 - <<'END'\nimport json; {edit}; open('config.data', 'w').write(json.dumps(c))\nEND",
            "ganeti-wconfd",
        )
    refused("ln -s /root/precious ssconf_zz", f"{data}/ssconf_zz")


def test_interrupted_it_goes_on(machine: Machine) -> None:
    process = machine.popen("gnt-vcluster", "up", "--join", "seeding")
    machine.wait_for(f"test -e {DATA}/node12/var/lib/ganeti/ssconf_node_list || pgrep -f 'ganeti-wconfd -f --no-user'")
    machine.sh("pkill -KILL -f 'gnt-vcluster up|ganeti-vcluster/seed'")
    process.communicate(timeout=60)
    assert machine.sh("find /run/ganeti-vcluster -name server.pem").stdout == ""
    machine.run("gnt-vcluster", "up", "--join", "seeding")
    assert verify_errors(machine) == [] and "node12" in on_master(machine, "gnt-node", "list")


def test_many_nodes_are_started_and_stopped_at_once(machine: Machine) -> None:
    """More than systemd is left to start by itself, beside another cluster that does not notice."""
    machine.run("gnt-vcluster", "destroy", "--yes")
    machine.run("gnt-vcluster", "up", "small", "--nodes", "2")
    machine.run("gnt-vcluster", "up", "default", "--nodes", "52")
    small = {f"node{n}.small": daemons(machine, "small")[f"node{n}.small"] for n in (1, 2)}
    found = daemons(machine)
    # mond only where it is a master candidate
    assert found["node10"] == CANDIDATE and all(found[f"node{n}"] == ["noded"] for n in range(11, 53))
    assert on_master(machine, "gnt-node", "list", "--no-headers").count("?") == 0 and strays(machine) == ""
    machine.run("systemctl", "restart", "ganeti-vcluster@default.target")
    assert daemons(machine) == found
    machine.run("gnt-vcluster", "stop", "default")
    assert "198.18." not in machine.run("ss", "-Hlntu").stdout
    assert active(machine, "ganeti-*@node[0-9]*.service") == active(machine, "ganeti-*@node*.small.service")
    assert daemons(machine, "small") == small
    # The names of small's nodes begin like those of default's.
    machine.run("gnt-vcluster", "destroy", "default", "--yes")
    assert daemons(machine, "small") == small
    assert machine.run("gnt-vcluster", "destroy", "--yes", check=False).returncode == 1, "small was not meant"
