# SPDX-License-Identifier: BSD-2-Clause
"""What the doctor makes of its findings: the report, what is to be raised, and the file that keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganeti_vc.machine import sysctl
from ganeti_vc.model import capacity, names
from ganeti_vc.model.capacity import Size, Stock
from ganeti_vc.model.feature import Feature
from ganeti_vc.operations.doctor import raising
from ganeti_vc.operations.doctor.examine import Report
from ganeti_vc.operations.doctor.raising import Raise

INSTANCES, WATCHES = "fs.inotify.max_user_instances", "fs.inotify.max_user_watches"


def new(nodes: int) -> Size:
    return Size.new(nodes, 0, "3.0")


def report(nodes: int, stocks: dict[str, Stock], *features: Feature) -> Report:
    return Report(nodes, 0, capacity.rows(stocks, [new(nodes)], [], [], new), features)


def test_the_error_names_what_ends_first() -> None:
    found = report(3000, {"streams": Stock(2048), "files-of-a-daemon": Stock(1024)})
    assert found.largest == 1008
    assert (
        found.error().message
        == "3000 nodes do not fit: luxid, wconfd, sshd: open files: 3016 needed, 1024 there, and 1 more"
    )
    assert "LimitNOFILE=" in found.error().hint
    document = found.document()
    assert (document["fits"], document["first"], document["largest"]) == (False, "files-of-a-daemon", 1008)


def test_one_node_is_no_nodes() -> None:
    assert report(1, {"streams": Stock(0)}).error().message.startswith("1 node does not fit: ")
    assert "up to 1 node fits" in report(1, {"files-of-a-daemon": Stock(17)}).summary()


def test_what_is_missing_altogether_comes_before() -> None:
    found = report(
        3000, {"streams": Stock(2048)}, Feature("ganeti", "program: Ganeti", False, "apt-get install ganeti")
    )
    assert str(found.error()) == "program: Ganeti: missing, and 1 more (apt-get install ganeti)"


@pytest.mark.parametrize(("there", "optional", "state"), [(True, False, "ok"), (False, False, "missing"),
                                                          (False, True, "hint"), (None, False, "unknown")])  # fmt: skip
def test_only_what_is_known_to_be_missing_is_in_the_way(there: bool | None, optional: bool, state: str) -> None:
    found = report(3, {}, Feature("bridge", "kernel: bridge", there, "take another kernel", optional))
    assert found.features[0].state == state and bool(found.failures) == (state == "missing")
    assert {row["state"] for row in found.table()} == {"ok", state}


def test_only_parameters_that_are_too_low_are_raised() -> None:
    found = report(1000, {INSTANCES: Stock(8), WATCHES: Stock(8192), "streams": Stock(4)})
    assert raising.raises(found.rows, {}) == [Raise(INSTANCES, 8, 16)]
    assert raising.raises(found.rows, {INSTANCES: 512, WATCHES: 1}) == [Raise(INSTANCES, 8, 512)]


def test_what_cannot_be_raised_says_why() -> None:
    assert str(Raise(INSTANCES, 8, 16)) == f"{INSTANCES}: 8 -> 16"
    assert str(Raise(INSTANCES, 8, 16, "no")) == f"{INSTANCES} stays at 8 instead of 16: no"
    assert raising.fix_lines([Raise(INSTANCES, 8, 16, "no")]) == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc/sys and a sysctl.d of our own."""
    monkeypatch.setattr(names, "SYSCTL_FILE", tmp_path / "sysctl.d" / "60-ganeti-vcluster.conf")
    monkeypatch.setattr(sysctl, "path_of", lambda key: tmp_path / key)
    (tmp_path / INSTANCES).write_text("8\n")
    return tmp_path


def test_fix_raises_and_keeps(machine: Path) -> None:
    found = report(1000, {INSTANCES: Stock(8)})
    assert [one.refused for one in raising.fix(found)] == [""]
    assert sysctl.value(INSTANCES) == 16 and sysctl.kept() == {INSTANCES: 16}
    text = names.SYSCTL_FILE.read_text()
    assert raising.fix(report(1000, {INSTANCES: Stock(16)})) == []
    assert names.SYSCTL_FILE.read_text() == text
    # What else becomes too low comes beside it.
    (machine / WATCHES).write_text("10\n")
    raising.fix(report(1000, {INSTANCES: Stock(16), WATCHES: Stock(10)}))
    assert sysctl.kept() == {INSTANCES: 16, WATCHES: 4096}


def test_what_the_kernel_refuses_is_not_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(key: str, number: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(sysctl, "write", refuse)
    (one,) = raising.fix(report(1000, {INSTANCES: Stock(8)}))
    assert one.refused == "Invalid argument" and not names.SYSCTL_FILE.exists()


def test_what_is_read_only_is_left_out(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl, "is_writable", lambda key: False)
    (one,) = raising.fix(report(1000, {INSTANCES: Stock(8)}))
    assert "outside" in one.refused and not names.SYSCTL_FILE.exists() and sysctl.value(INSTANCES) == 8


def test_purge_removes_the_file_that_fix_writes() -> None:
    postrm = Path(__file__).parents[4] / "debian/ganeti-vcluster.postrm"
    assert f"rm -f {names.SYSCTL_FILE}\n" in postrm.read_text()
