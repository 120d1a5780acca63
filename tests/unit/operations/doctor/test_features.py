# SPDX-License-Identifier: BSD-2-Clause
"""Whether a kernel has a module, told from its files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from ganeti_vc.operations.doctor.features import module

RELEASE = os.uname().release
BRIDGE = ("bridge", "CONFIG_BRIDGE")


def put(root: Path, name: str, data: bytes = b"") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_without_any_file_it_cannot_be_told(tmp_path: Path) -> None:
    assert module(*BRIDGE, tmp_path) is None


def test_one_that_is_loaded(tmp_path: Path) -> None:
    put(tmp_path, "sys/module/bridge/version")
    assert module(*BRIDGE, tmp_path) is True


@pytest.mark.parametrize(("name", "there"), [("bridge", True), ("dm_mod", True), ("loop", True), ("dummy", False)])
def test_one_that_could_be_loaded(tmp_path: Path, name: str, there: bool) -> None:
    put(tmp_path, f"lib/modules/{RELEASE}/modules.builtin", b"kernel/drivers/block/loop.ko\n")
    put(tmp_path, f"lib/modules/{RELEASE}/modules.dep",
        b"kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz\nkernel/drivers/md/dm-mod.ko:\n")  # fmt: skip
    assert module(name, "CONFIG_X", tmp_path) is there


@pytest.mark.parametrize(
    ("text", "there"), [("CONFIG_X=y\nCONFIG_BRIDGE=m\n", True), ("CONFIG_X=y\nCONFIG_BRIDGE_NETFILTER=m\n", False)]
)
def test_one_by_the_kernels_configuration(tmp_path: Path, text: str, there: bool) -> None:
    put(tmp_path, "proc/config.gz", gzip.compress(text.encode()))
    assert module(*BRIDGE, tmp_path) is there
    put(tmp_path, f"boot/config-{RELEASE}", text.encode())
    assert module(*BRIDGE, tmp_path) is there
