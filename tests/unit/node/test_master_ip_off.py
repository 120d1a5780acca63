# SPDX-License-Identifier: BSD-2-Clause
"""tools/units/master-ip-off, with network devices and a /run of its own."""

import subprocess
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from ganeti_vc.reconcile.state import Ledger

PROGRAM = Path(__file__).parents[3] / "tools/units/master-ip-off"
NETWORKS = frozenset({ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")})
LEDGER = Ledger("vbr", True, frozenset({ip_address("192.0.2.1"), ip_address("192.0.2.10")}), NETWORKS)
ON_BRIDGE = ("192.0.2.1/32", "192.0.2.10/24", "198.51.100.7/24", "2001:db8::1/128")
ON_OTHER = ("192.0.2.77/32",)
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
root=/run/state/default/node1
mkdir -p $root/var/lib/ganeti /run/ganeti-vcluster/nodes /run/ganeti-vcluster/addresses /run/ganeti-vcluster/clusters
ln -s $root /run/ganeti-vcluster/nodes/node1
ln -s $root /run/ganeti-vcluster/addresses/192.0.2.10
printf %s "$LEDGER" >/run/ganeti-vcluster/clusters/default.json
ip link add vbr type bridge
ip link add other type bridge
for address in $ON_BRIDGE; do ip address add $address dev vbr; done
for address in $ON_OTHER; do ip address add $address dev other; done
cd $root/var/lib/ganeti
echo node1 >ssconf_master_node
echo vbr >ssconf_master_netdev
echo 32 >ssconf_master_netmask
eval "$FILES"
timeout 10 "$PROGRAM" node1 >&2
ip -o address show | awk '$2 != "lo" && $4 !~ /^fe80:/ { print $4 }'
"""


def left(files: str) -> set[str]:
    """Return the addresses that are there after a master with these files is switched off."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PROGRAM": str(PROGRAM), "LEDGER": LEDGER.to_json(), "FILES": files,
        "ON_BRIDGE": " ".join(ON_BRIDGE), "ON_OTHER": " ".join(ON_OTHER),
    }  # fmt: skip
    argv = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", SCRIPT]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def without(*gone: str) -> set[str]:
    everything: Iterable[str] = (*ON_BRIDGE, *ON_OTHER)
    return {address for address in everything if address not in gone}


def test_the_clusters_address_goes() -> None:
    assert left("echo 192.0.2.1 >ssconf_master_ip") == without("192.0.2.1/32")
    assert left("echo 2001:db8::1 >ssconf_master_ip; echo 128 >ssconf_master_netmask") == without("2001:db8::1/128")


@pytest.mark.parametrize(
    "files",
    [
        "echo 198.51.100.7 >ssconf_master_ip; echo 24 >ssconf_master_netmask",
        "echo 192.0.2.10 >ssconf_master_ip; echo 24 >ssconf_master_netmask",
        "echo 192.0.2.77 >ssconf_master_ip; echo other >ssconf_master_netdev",
        "echo 192.0.2.0/24 >ssconf_master_ip",
        ": >ssconf_master_ip",
        "mkfifo ssconf_master_ip",
        "rm ssconf_master_node; mkfifo ssconf_master_node",
        "echo 192.0.2.1 >elsewhere; ln -s elsewhere ssconf_master_ip",
    ],
    ids=[
        "another network's",
        "a node's",
        "another device's",
        "a network",
        "empty",
        "a pipe",
        "a pipe as node",
        "a link",
    ],
)
def test_nothing_else_goes(files: str) -> None:
    assert left(files) == without()
