# SPDX-License-Identifier: BSD-2-Clause
"""The images of nodes' disks."""

from __future__ import annotations

import os
from pathlib import Path

from ganeti_vc.machine import node_disk


def test_an_image_is_for_root_only(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"data")
    old.chmod(0o644)
    umask = os.umask(0o022)
    try:
        for path in (new, old):
            node_disk.make_image(path, 8192)
    finally:
        os.umask(umask)
    assert {(path.stat().st_mode & 0o777, path.stat().st_size) for path in (new, old)} == {(0o600, 8192)}
    assert old.read_bytes().rstrip(b"\0") == b"data"
