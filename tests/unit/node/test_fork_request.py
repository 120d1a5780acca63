# SPDX-License-Identifier: BSD-2-Clause
"""Requests to the fork server."""

from __future__ import annotations

import socket

import pytest

from ganeti_vc.base.constants import ENSURE_DIRS, TCP_PORTS
from ganeti_vc.node import fork_request, listening
from ganeti_vc.node.fork_request import Request


def received(message: bytes) -> Request:
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, server:
        client.send(message)
        client.shutdown(socket.SHUT_WR)
        return Request.receive(server)


def test_arguments_and_environment() -> None:
    request = received(b"3\0/usr/sbin/ganeti-noded\0-b\x00192.0.2.10\0GANETI_HOSTNAME=node1\0OPTIONS=a=b\xff\0EMPTY=")
    assert request.program == "/usr/sbin/ganeti-noded"
    assert request.argv == ["/usr/sbin/ganeti-noded", "-b", "192.0.2.10"]
    assert request.environment == {"GANETI_HOSTNAME": "node1", "OPTIONS": "a=b\udcff", "EMPTY": ""}


@pytest.mark.parametrize("message", [b"", b"0", b"0\0A=1", b"noded", b"x\0noded", b"1\0noded\0no assignment"])
def test_what_is_not_a_request(message: bytes) -> None:
    with pytest.raises(ValueError):  # int()'s, dict()'s or our own
        received(message)


def test_a_client_that_sends_nothing() -> None:
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, server:
        server.settimeout(0.01)
        with pytest.raises(OSError, match="timed out"):
            Request.receive(server)


@pytest.mark.parametrize("daemon", fork_request.DAEMONS)
@pytest.mark.parametrize("address", ["192.0.2.10", "2001:db8::1"])
def test_where_a_daemon_will_listen(daemon: str, address: str) -> None:
    place = listening.local(address, TCP_PORTS[fork_request.DAEMONS[daemon]])
    assert Request([daemon, "-f", "-b", address], {}).listens == place


def test_another_program_listens_nowhere() -> None:
    assert Request([ENSURE_DIRS, "-b", "192.0.2.10"], {}).listens == ""
