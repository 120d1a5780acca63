# SPDX-License-Identifier: BSD-2-Clause
"""Links, addresses and routes, through netlink in batches: one `ip` process for each address is slow.

Each cluster has a bridge, or a device that its file names, which carries the node addresses; and an `unreachable` route
over its network, so that unused addresses fail at once. Upstream routes the network to a device instead, and every
`gnt-instance add` then waits 10 s for a TCP ping.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ganeti_vc.model.addresses import Address, Network
from ganeti_vc.node import listening

if TYPE_CHECKING:
    from pyroute2 import IPRoute

T = TypeVar("T")

#: Attempts to read a table that changes meanwhile.
READINGS = 100
#: Of linux/rtnetlink.h and linux/if_addr.h; pyroute2 has them as well, but its import is what this module puts off.
_RTN_UNICAST = 1
_RTN_UNREACHABLE = 7
_RT_TABLE_MAIN = 254
_RTPROT_KERNEL = 2
_SSH_PORT = 22
_IFA_F_NODAD = 0x02


@dataclass(frozen=True)
class NetworkState:
    """The network as the kernel has it."""

    links: frozenset[str]
    addresses: frozenset[tuple[str, Address]]  #: (device, address)
    unreachable: frozenset[Network]
    routes: frozenset[tuple[Network, str]]  #: (destination, device), without default routes
    taken_ports: Mapping[int, int] = field(default_factory=dict)  #: on which a user listens on all addresses, and who
    connected: frozenset[Network] = frozenset()  #: those of `routes` that the kernel made for an address
    gateways: frozenset[Address] = frozenset()
    peers: frozenset[Address] = frozenset()  #: who has a connection to such a port, or to ssh's


# pyroute2 is imported where it is used: its import would double the time that gnt-vcluster exec takes to begin.


@contextlib.contextmanager
def _refusals(*ignored: int) -> Iterator[None]:
    """Turn refusals of the kernel into OSErrors, and ignore those that say "done already"."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as err:
        if err.code not in ignored:
            raise OSError(err.code, os.strerror(err.code)) from err


@contextlib.contextmanager
def _netlink(*ignored: int) -> Iterator[IPRoute]:
    """Open a netlink socket."""
    from pyroute2 import IPRoute

    with _refusals(*ignored), IPRoute() as ip:
        yield ip


def _settled(read: Callable[[], Iterable[T]]) -> list[T]:
    """Read a table of the kernel, and again when the kernel says that it changed meanwhile. Raises OSError."""
    from pyroute2.netlink.exceptions import NetlinkDumpInterrupted

    for _ in range(READINGS):
        with contextlib.suppress(NetlinkDumpInterrupted):
            return list(read())
    raise OSError(errno.EAGAIN, "the addresses and routes of this machine do not stop changing")


def _addresses(ip: IPRoute) -> Iterator[tuple[int, Address]]:
    """Yield the index of the device and the address."""
    for message in _settled(ip.get_addr):
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        yield message["index"], ipaddress.ip_address(text)


def addresses() -> frozenset[Address]:
    """Return all addresses of this machine, on all devices. Raises OSError."""
    with _netlink() as ip:
        return frozenset(address for _, address in _addresses(ip))


def _gateways(route: Any) -> set[Address]:
    """Return the gateways of a route, which may have several."""
    hops = [route, *(route.get_attr("RTA_MULTIPATH") or ())]
    return {ipaddress.ip_address(text) for hop in hops if (text := hop.get_attr("RTA_GATEWAY"))}


def observe() -> NetworkState:
    """Return what there is. Raises OSError."""
    with _netlink() as ip:
        index = {link["index"]: link.get_attr("IFLA_IFNAME") for link in _settled(ip.get_links)}
        addresses = {(index.get(number, "?"), address) for number, address in _addresses(ip)}
        unreachable, routes, connected, gateways = set(), set(), set(), set()
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in _settled(partial(ip.get_routes, family=family)):
                destination = message.get_attr("RTA_DST")
                if message.get_attr("RTA_TABLE") != _RT_TABLE_MAIN:
                    continue
                gateways |= _gateways(message)
                if not destination:
                    continue
                network = ipaddress.ip_network(f"{destination}/{message['dst_len']}", strict=False)
                if message["type"] == _RTN_UNREACHABLE:
                    unreachable.add(network)
                elif message["type"] == _RTN_UNICAST:
                    routes.add((network, index.get(message.get_attr("RTA_OIF"), "?")))
                    if message["proto"] == _RTPROT_KERNEL:
                        connected.add(network)
    taken_ports = listening.ports_on_all_addresses()
    return NetworkState(
        frozenset(index.values()),
        frozenset(addresses),
        frozenset(unreachable),
        frozenset(routes),
        taken_ports,
        frozenset(connected),
        frozenset(gateways),
        frozenset(map(ipaddress.ip_address, listening.peers({*taken_ports, _SSH_PORT}))),
    )


def _index(ip: IPRoute, device: str) -> int | None:
    indices = _settled(partial(ip.link_lookup, ifname=device))
    return int(indices[0]) if indices else None


def make_bridge(device: str) -> None:
    """Make a bridge, and bring it up. Raises OSError."""
    with _netlink(errno.EEXIST) as ip:
        ip.link("add", ifname=device, kind="bridge")
    with _netlink() as ip:
        ip.link("set", index=_index(ip, device), state="up")


def remove_link(device: str) -> None:
    """Remove a device with its addresses, if it exists. Raises OSError."""
    with _netlink() as ip:
        index = _index(ip, device)
        if index is not None:
            ip.link("del", index=index)


def _address(ip: IPRoute, action: str, index: int, address: Address) -> None:
    v4 = address.version == 4
    # Without this flag an IPv6 address on a bridge without carrier would stay tentative.
    flags = {} if v4 or action == "del" else {"flags": _IFA_F_NODAD}
    with _refusals(errno.EEXIST if action == "add" else errno.EADDRNOTAVAIL):
        ip.addr(action, index=index, address=str(address), mask=32 if v4 else 128, **flags)


def add_addresses(device: str, addresses: Iterable[Address]) -> None:
    """Add those addresses that a device lacks. Raises OSError."""
    with _netlink() as ip:
        index = _index(ip, device)
        if index is None:
            raise OSError(errno.ENODEV, f"there is no device {device}")
        for address in addresses:
            _address(ip, "add", index, address)


def remove_addresses(device: str, addresses: Iterable[Address]) -> None:
    """Remove those addresses that a device has. Raises OSError."""
    with _netlink() as ip:
        index = _index(ip, device)
        if index is not None:
            for address in addresses:
                _address(ip, "del", index, address)


def _route(ip: IPRoute, action: str, network: Network) -> None:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    ip.route(action, dst=str(network), type="unreachable", family=family)


def add_unreachable(network: Network) -> None:
    """Add the unreachable route of a network. Raises OSError."""
    with _netlink(errno.EEXIST) as ip:
        _route(ip, "add", network)


def remove_unreachable(network: Network) -> None:
    """Remove the unreachable route of a network. Raises OSError."""
    with _netlink(errno.ESRCH) as ip:
        _route(ip, "del", network)
