# SPDX-License-Identifier: BSD-2-Clause
"""The text for nft."""

from __future__ import annotations

from ipaddress import ip_network

from ganeti_vc.machine.packet_filter import script
from ganeti_vc.model.names import ClusterId


def test_the_table_is_the_clusters_own_and_replaced_as_a_whole() -> None:
    networks = (ip_network("2001:db8::/64"), ip_network("192.0.2.0/24"))
    assert script(ClusterId("a-b"), "gnt-a-b", networks).splitlines() == [
        "add table inet ganeti-vcluster-a-b",
        "delete table inet ganeti-vcluster-a-b",
        "table inet ganeti-vcluster-a-b {",
        "chain outside {",
        "type filter hook prerouting priority raw; policy accept;",
        'iifname { "lo", "gnt-a-b" } accept',
        "ip6 daddr 2001:db8::/64 drop",
        "ip daddr 192.0.2.0/24 drop",
        "}",
        "}",
    ]
