# SPDX-License-Identifier: BSD-2-Clause
"""Which nodes a master waits for."""

from __future__ import annotations

from ganeti_vc.node import confd_bridge, readiness, ssh_listener


def test_nodes_that_are_offline_are_not_waited_for() -> None:
    lines = ["node1 192.0.2.10", "node2 192.0.2.11", "node3 192.0.2.12", ""]
    assert readiness.nodes_to_wait_for(lines, ["node2", ""]) == {"node1": "192.0.2.10", "node3": "192.0.2.12"}


def test_what_systemd_says_of_nodeds() -> None:
    shown = "\n\n".join(
        [
            "Id=ganeti-noded@node1.service\nActiveState=active",
            "Id=ganeti-noded@node2.example.com.service\nActiveState=inactive\nJob=17",
            "Id=ganeti-noded@node3.service\nActiveState=activating",
            "Id=ganeti-noded@node4.service\nActiveState=failed",
            "Id=ganeti-noded@node5.service\nActiveState=inactive\n",
        ]
    )
    assert readiness.running_or_coming(shown) == {"node1", "node2.example.com", "node3"}


def test_where_confd_listens() -> None:
    lines = ["# mine\n", "NODED_ARGS='-b 192.0.2.9'\n", "CONFD_ARGS='-d -b 192.0.2.9 -b 192.0.2.10'\n"]
    assert confd_bridge.confd_address(lines) == "192.0.2.10"


def test_where_the_ssh_server_listens() -> None:
    assert ssh_listener.wanted("192.0.2.10 1822\n2001:db8::1 1822\n") == {("192.0.2.10", 1822), ("2001:db8::1", 1822)}
    assert ssh_listener.wanted("") == set()
