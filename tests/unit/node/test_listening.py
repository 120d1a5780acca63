# SPDX-License-Identifier: BSD-2-Clause
"""What listens on this machine, seen in the kernel's tables; and messages to systemd."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from ganeti_vc.node import adopt_identity, listening, notify


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_socket_that_listens_is_found(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        place = listening.local(address, sock.getsockname()[1])
        assert place not in listening.bound("tcp")
        sock.listen()
        assert listening.bound("tcp")[place] == os.getuid()
    assert place not in listening.bound("tcp")


@pytest.mark.parametrize(("family", "server"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")])
def test_whose_a_connection_is(family: socket.AddressFamily, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(family) as client:
        client.connect((server, listener.getsockname()[1]))
        accepted, peer = listener.accept()
        near, far = listening.local(*peer), listening.local(*accepted.getsockname())
        assert listening.owner(near, far) == os.getuid()
        client.close()
        assert listening.owner(near, far) is None, "nobody has it any more"
        accepted.close()


def test_a_port_of_all_addresses_is_found() -> None:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        assert listening.ports_on_all_addresses()[sock.getsockname()[1]] == os.getuid()


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_is_connected_is_found(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as server, socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such address")
        server.listen()
        port = server.getsockname()[1]
        assert listening.peers({port}) == set()
        client.connect(server.getsockname())
        assert listening.peers({port}) == {address} and listening.peers({port - 1}) == set()


def test_systemd_is_told_by_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify.notify("READY=1")
        data, ancillary, *_ = systemd.recvmsg(64, 64)
        assert data == b"READY=1"
        assert struct.unpack("3i", ancillary[0][2]) == (os.getpid(), os.getuid(), os.getgid())


def test_nobody_is_told_without_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.notify("READY=1")


def test_the_barrier_falls_when_systemd_closes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        read = notify.barrier()
        data, fds, *_ = socket.recv_fds(systemd, 64, 1)
        assert data == b"BARRIER=1"
        os.close(fds[0])
        assert os.read(read, 1) == b""
        os.close(read)


def test_the_status_of_a_process() -> None:
    status = adopt_identity.status_of(os.getpid())
    assert int(status["Umask"], 8) == os.umask(int(status["Umask"], 8))
    assert status["Uid"].split()[0] == str(os.getuid())
