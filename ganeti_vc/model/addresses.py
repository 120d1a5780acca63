# SPDX-License-Identifier: BSD-2-Clause
"""The address plan: which address the cluster, each node and each instance name gets.

In a /24 it is upstream's (tools/vcluster-setup): cluster .1, nodes .10 to .99, instances .100 to
.254. Smaller and larger networks are divided alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Networks for documentation and benchmarks (RFC 5737, RFC 2544), the smallest first: a new cluster takes one of these
#: unless the user gives another.
DEFAULT_NETWORKS = tuple(
    ipaddress.ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
)
#: Examples of networks with room, by IP version.
LARGE_NETWORKS = {4: "198.18.0.0/15", 6: "2001:db8::/64"}
#: For the IPv4 secondary addresses that Ganeti demands beside IPv6 primary ones (bootstrap.InitCluster).
DEFAULT_SECONDARY = DEFAULT_NETWORKS[-1]
#: Networks whose addresses no node can have, or with which Ganeti does not work: this network, loopback, link-local,
#: multicast, reserved and broadcast (RFC 6890).
NO_NODES = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
                 "::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8")
)  # fmt: skip

_NO_BROADCAST = 1


@dataclass(frozen=True)
class AddressPlan:
    """How one network is divided. Offsets count from the network's first address."""

    network: Network

    @property
    def _size(self) -> int:
        # Of an IPv6 network the beginning is enough.
        return min(self.network.num_addresses, 1 << 20)

    @property
    def _first_node(self) -> int:
        return 10 if self._size >= 64 else 2

    @property
    def _first_instance(self) -> int:
        return 100 if self._size == 256 else self._size // 2

    @property
    def max_nodes(self) -> int:
        return max(0, self._first_instance - self._first_node)

    @property
    def max_instances(self) -> int:
        return max(0, self._size - _NO_BROADCAST - self._first_instance)

    def fits(self, nodes: int, instances: int) -> bool:
        return nodes <= self.max_nodes and instances <= self.max_instances

    @property
    def reserved(self) -> dict[Address, str]:
        """The addresses that no node can have, and what they are."""
        if self.network.version == 6:
            return {self.network[0]: "the routers' address"}  # RFC 4291, 2.6.1
        return {self.network[0]: "the address", self.network[-1]: "the broadcast address"}

    @property
    def cluster(self) -> Address:
        return self.network[1]

    def node(self, index: int) -> Address:
        """Address of the node with this index, counted from 0."""
        return self.network[self._first_node + index]

    def instance(self, index: int) -> Address:
        """Address of the instance name with this index, counted from 0."""
        return self.network[self._first_instance + index]


def many_networks(nodes: int, instances: int) -> Iterator[Network]:
    """Yield networks for many clusters side by side: the usual ones, then equal parts of the largest of them."""
    yield from DEFAULT_NETWORKS[:-1]
    large = DEFAULT_NETWORKS[-1]
    for length in range(24, large.prefixlen - 1, -1):
        parts: Iterator[Network] = iter(large.subnets(new_prefix=length))
        first = next(parts)
        if AddressPlan(first).fits(nodes, instances):
            yield first
            yield from parts
            return
