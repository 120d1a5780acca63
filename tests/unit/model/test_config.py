# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file: what it means, and that each mistake is one line that names its place."""

from __future__ import annotations

import pytest

from ganeti_vc.base.errors import ConfigError
from ganeti_vc.model import config, conflicts, keys
from ganeti_vc.model.names import ClusterId

DEFAULT = ClusterId("default")


def test_the_written_file_is_the_default() -> None:
    assert config.parse(DEFAULT, keys.render({})) == config.parse(DEFAULT, "")


def test_names_and_addresses_are_those_of_vcluster_setup() -> None:
    made = config.parse(DEFAULT, "[cluster]\nnodes = 90\ninstances = 155\n")
    assert [str(a) for a, _ in made.hosts[:2]] == ["192.0.2.1", "192.0.2.10"]
    assert str(made.nodes[-1].address) == "192.0.2.99" and str(made.instances[-1][1]) == "192.0.2.254"


def test_a_domain_is_appended_to_every_name() -> None:
    made = config.parse(DEFAULT, "[cluster]\ndomain = example.com\nnodes = 1\ninstances = 1\n")
    assert [name for _, name in made.hosts] == ["cluster.example.com", "node1.example.com", "instance1.example.com"]


def test_hardware_of_all_nodes_and_of_one() -> None:
    made = config.parse(DEFAULT, "[nodes]\nmemory = 16G\ncpus = 8\n[[node2]]\nmemory = 512M\ndisk = 1T\n")
    assert [(node.memory, node.cpus, node.disk) for node in made.nodes] == [
        (16384, 8, None), (512, 8, 1 << 20), (16384, 8, None)]  # fmt: skip


def test_ipv6_nodes_have_ipv4_secondaries() -> None:
    made = config.parse(DEFAULT, "[cluster]\nnetwork = fd00::/64\n")
    assert str(made.nodes[0].address) == "fd00::a" and str(made.nodes[0].secondary) == "198.18.0.10"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cluster]\nnodes = x\n", ["line 2", "[cluster]", "nodes", "x"]),
        ("[cluster]\nnodes = 0\n", ["line 2", "nodes", "0"]),
        ("[cluster]\nnods = 3\n", ["line 2", "[cluster]", "nods", "unknown key", "nodes"]),
        ("[clutser]\n", ["[clutser]", "unknown section"]),
        ("nodes = 3\n", ["line 1", "nodes", "outside of a section"]),
        ("[cluster\n", ["line 1"]),
        ("[cluster]\nnodes = 3\nnodes = 4\n", ["line 3", "nodes"]),
        ("[cluster]\nnodes = 91\n", ["nodes", "192.0.2.0/24", "198.18.0.0/15"]),
        ("[cluster]\nnetwork = 127.0.0.0/8\n", ["network", "127.0.0.0/8"]),
        ("[cluster]\nnetwork = 255.255.255.0/24\n", ["line 2", "network", "255.255.255.0/24", "give a network"]),
        ("[cluster]\nnetwork = 224.1.0.0/16\n", ["line 2", "network", "224.1.0.0/16", "give a network"]),
        ("[cluster]\nnetwork = 0.0.0.0/8\n", ["line 2", "network", "0.0.0.0/8", "give a network"]),
        ("[cluster]\nnetwork = 192.0.0.0/2\n", ["line 2", "network", "192.0.0.0/2", "224.0.0.0/4"]),
        ("[cluster]\nnetwork = ::/64\n", ["line 2", "network", "::/64", "give a network"]),
        ("[cluster]\nnetwork = fd00::/64\nsecondary_network = 127.0.0.0/8\n", ["line 3", "secondary_network"]),
        ("[cluster]\nnetwork = 192.0.2.1/24\n", ["network", "host bits"]),
        ("[cluster]\ndomain = " + "x" * 60 + "\n", ["domain", "71", "shorter"]),
        ("[cluster]\ndomain = Ex_ample\n", ["domain", "Ex_ample"]),
        ("[cluster]\nname = node1\n", ["name", "node1"]),
        ("[cluster]\nwatcher_interval = soon\n", ["watcher_interval", "soon", "5min"]),
        ("[cluster]\nwatcher_interval = 0min\n", ["line 2", "watcher_interval", "0min", "between 5s and 365d"]),
        ("[cluster]\nwatcher_interval = 366d\n", ["line 2", "watcher_interval", "366d", "between"]),
        (f"[cluster]\nwatcher_interval = {'9' * 5000}\n", ["line 2", "watcher_interval", "between"]),
        ("[cluster]\nssh_port = 1811\n", ["line 2", "ssh_port", "ganeti-noded", "another port"]),
        ("[cluster]\nssh_port = 80\n", ["line 2", "ssh_port", "ganeti-metad"]),
        ('[ganeti]\ninit_options = --mac-prefix="aa\n', ["line 2", "init_options", "close"]),
        ("[ganeti]\ninit_options = -d \\\n", ["line 2", "init_options", "close"]),
        ("[daemons]\nnoded = -b 0.0.0.0\n", ["line 2", "[daemons] noded", "-b", "leave it out"]),
        ("[daemons]\nconfd = -dp1811\n", ["line 2", "[daemons] confd", "-dp1811"]),
        ("[daemons]\nrapi = --bin=0.0.0.0\n", ["line 2", "[daemons] rapi", "--bin=0.0.0.0"]),
        ("[daemons]\nrapi = -b 0.0.0.0\n", ["line 2", "[daemons] rapi", "every address"]),
        ('[daemons]\nmond = -d "\n', ["line 2", "[daemons] mond", "close"]),
        ("[cluster]\ndevice = averyverylongname\n", ["device", "13"]),
        ("[ganeti]\nnic_mode = foo\n", ["line 2", "nic_mode", "foo", "bridged"]),
        ("[daemons]\nnoded = '-d; rm'\n[nodes]\n[[node1]]\naddress = 1.2.3.4\n", ["node1", "address", "192.0.2.0/24"]),
        ("[nodes]\nmemory = much\n", ["line 2", "[nodes]", "memory", "much", "16G"]),
        ("[nodes]\ncpus = 0\n", ["line 2", "cpus", "0"]),
        ("[nodes]\n[[node1]]\ndisk = 1K\n", ["line 3", "[[node1]]", "disk", "1K", "64M"]),
        ("[ganeti]\nenabled_disk_templates = plain\n", ["enabled_disk_templates", "plain", "node1", "volume_group"]),
        ("[nodes]\nvolume_group = 1G\n", ["line 2", "volume_group", "1G", "20488M"]),
        ("[ganeti]\nvg_name = a b\n", ["line 2", "vg_name", "a b"]),
        ("[nodes]\naddress = 192.0.2.11\n", ["line 2", "address", "unknown key", "memory"]),
        ("[nodes]\n[[node9]]\n", ["line 2", "[[node9]]", "no such node"]),
        ("[nodes]\n[[node1]]\nadress = 192.0.2.11\n", ["line 3", "[[node1]]", "adress", "unknown key"]),
        (
            "[nodes]\n[[node1]]\naddress = 192.0.2.255\n",
            ["line 3", "[[node1]] address", "broadcast address", "take another"],
        ),
        ("[nodes]\n[[node1]]\naddress = 192.0.2.0\n", ["line 3", "[[node1]] address", "192.0.2.0 is the address of"]),
        ("[nodes]\n[[node1]]\naddress = 127.0.0.1\n", ["line 3", "[[node1]] address", "127.0.0.1", "take an address"]),
        ("[cluster]\nnetwork = fd00::/64\n[nodes]\n[[node1]]\naddress = fd00::\n", ["line 5", "address", "routers"]),
        ("[nodes]\n[[node1]]\naddress = 192.0.2.11\n", ["192.0.2.11", "node1", "node2"]),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(DEFAULT, text)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("/etc/ganeti-vcluster/default.conf")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[cluster]\ndomain = b\n", "overlaps"),
        ("[cluster]\ndomain = b\nnetwork = 192.0.0.0/16\n", "overlaps"),
        ("[cluster]\nnetwork = 198.51.100.0/24\n", "belongs to the cluster default"),
    ],
)
def test_two_clusters_cannot_share(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        conflicts.check_against(config.parse(ClusterId("b"), text), [config.parse(DEFAULT, "")])


def test_rapi_may_listen_on_a_nodes_address() -> None:
    made = config.parse(DEFAULT, "[daemons]\nrapi = -b 192.0.2.10 -d\n")
    assert made.nodes[0].daemon_args["rapi"].endswith("-b 192.0.2.10 -d")
