# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots on the disk, and the exchange of a cluster's directory: interrupted anywhere, it loses nothing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.cli import main, snapshot_commands
from ganeti_vc.machine import exchange, ganeti_files, snapshots
from ganeti_vc.machine.exchange import Journal
from ganeti_vc.machine.snapshots import ABOUT, CONFIG, DATA, About, Snapshot
from ganeti_vc.model import names
from ganeti_vc.model.addresses import DEFAULT_NETWORKS, AddressPlan, many_networks
from ganeti_vc.model.names import ClusterId, is_snapshot_name

DEFAULT = ClusterId("default")
ABOUT_IT = About(created=1, nodes=1, state="running", ganeti="3.0", size=4096)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's directories, elsewhere."""
    state = tmp_path / "state"
    for name, path in (("STATE_DIR", state), ("SNAPSHOT_DIR", state / ".snapshots"), ("CONFIG_DIR", tmp_path / "etc")):
        path.mkdir(exist_ok=True)
        monkeypatch.setattr(names, name, path)
    monkeypatch.setattr(snapshots, "copy", lambda source, target: shutil.copytree(source, target))
    return tmp_path


def put(directory: Path, config: Path, text: str) -> None:
    """A state of a cluster: its files all say the same."""
    for name in ("node1", "node2"):
        (directory / name).mkdir(parents=True)
        (directory / name / "file").write_text(text)
    config.write_text(text)


def state(directory: Path, config: Path) -> set[str]:
    """What the files say; one word where they are of the same state and complete."""
    if not config.exists():
        return set()
    return {config.read_text()} | {
        (directory / name / "file").read_text() if (directory / name / "file").exists() else "missing"
        for name in ("node1", "node2")
    }


def make_snapshot(name: str, text: str) -> Snapshot:
    snapshot = DEFAULT.snapshot(name)
    with snapshots.making(snapshot) as partial:
        put(partial / DATA, partial / CONFIG, text)
        (partial / ABOUT).write_text(ABOUT_IT.to_json())
    return snapshots.load(snapshot)


class Killed(BaseException):
    """As SIGKILL: nothing of ours runs any more."""


def kill_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let nothing more happen to the file system after that many changes."""
    left = itertools.count(count, -1)

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left) <= 0:
                raise Killed
            return original(*args, **kwargs)

        return call

    for name in ("rename", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))


def restore(snapshot: Snapshot, keep: str) -> bool:
    """What `snapshot restore` does to the disk. Returns whether it only went on."""
    journal = Journal(snapshot.id.name, keep)
    resumed = exchange.resume(DEFAULT, journal)
    if not resumed:
        exchange.finish_interrupted(all_of_them=True)
        if keep:
            snapshots.check_new(DEFAULT.snapshot(keep))
        exchange.prepare(snapshot, journal, replace(ABOUT_IT, state="stopped") if keep else None)
        exchange.exchange(DEFAULT)
    exchange.end(DEFAULT)
    return resumed


@pytest.mark.parametrize(("keep", "destroyed"), [("", False), ("before", False), ("", True)])
def test_an_exchange_can_be_interrupted_anywhere(machine: Path, keep: str, destroyed: bool) -> None:
    for count in itertools.count():
        for path in (names.STATE_DIR, names.CONFIG_DIR):
            shutil.rmtree(path)
            path.mkdir()
        if not destroyed:
            put(DEFAULT.directory, DEFAULT.config_file, "old")
        new = make_snapshot("one", "new")
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, count)
            try:
                restore(new, keep)
                killed = False
            except Killed:
                killed = True
        assert state(new.data, new.config) == {"new"}, "the snapshot is as it was"
        place = DEFAULT.restore_directory
        if not destroyed and state(DEFAULT.directory, DEFAULT.config_file) != {"new"}:
            wherever = (DEFAULT.directory, place / "old" / DATA, DEFAULT.snapshot("before").directory / DATA)
            assert any(
                (path / "node2/file").exists() and (path / "node2/file").read_text() == "old" for path in wherever
            )
        exchange.finish_interrupted(all_of_them=False)  # as the manager does, when it starts at this moment
        assert state(DEFAULT.directory, DEFAULT.config_file) in ({"old"}, {"new"}, set()), count
        if killed and not (keep and snapshots.exists(DEFAULT.snapshot(keep))):
            restore(new, keep)
        assert state(DEFAULT.directory, DEFAULT.config_file) == {"new"}
        if keep:
            kept = snapshots.load(DEFAULT.snapshot(keep))
            assert state(kept.data, kept.config) == {"old"} and kept.about.state == "stopped"
        exchange.finish_interrupted(all_of_them=True)
        assert not place.exists()
        if not killed:
            break
    assert count > 10


def test_the_same_restore_goes_on_without_a_manager_between(machine: Path) -> None:
    for count in itertools.count():
        for path in (names.STATE_DIR, names.CONFIG_DIR):
            shutil.rmtree(path)
            path.mkdir()
        put(DEFAULT.directory, DEFAULT.config_file, "old")
        new = make_snapshot("one", "new")
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, count)
            try:
                restore(new, "before")
                return
            except Killed:
                pass
        complete = not (DEFAULT.restore_directory / "journal.json").exists()
        if not (complete and snapshots.exists(DEFAULT.snapshot("before"))):
            restore(new, "before")
        kept = snapshots.load(DEFAULT.snapshot("before"))
        assert state(kept.data, kept.config) == {"old"} and state(DEFAULT.directory, DEFAULT.config_file) == {"new"}


def test_what_a_manager_made_meanwhile_gives_way(machine: Path) -> None:
    put(DEFAULT.directory, DEFAULT.config_file, "old")
    new = make_snapshot("one", "new")
    exchange.prepare(new, Journal("one", ""), None)
    DEFAULT.directory.rename(DEFAULT.restore_directory / "old" / DATA)
    (DEFAULT.directory / "node1").mkdir(parents=True)
    exchange.finish_interrupted(all_of_them=False)
    assert state(DEFAULT.directory, DEFAULT.config_file) == {"new"} and not DEFAULT.restore_directory.exists()


def test_a_restore_that_only_copied_is_given_up(machine: Path) -> None:
    put(DEFAULT.directory, DEFAULT.config_file, "old")
    exchange.prepare(make_snapshot("one", "new"), Journal("one", ""), None)
    exchange.finish_interrupted(all_of_them=False)  # somebody may be at it
    assert DEFAULT.restore_directory.exists()
    exchange.finish_interrupted(all_of_them=True)
    assert state(DEFAULT.directory, DEFAULT.config_file) == {"old"} and not DEFAULT.restore_directory.exists()


def test_half_a_snapshot_is_none_and_is_cleaned(machine: Path) -> None:
    with pytest.raises(Killed), snapshots.making(DEFAULT.snapshot("one")) as partial:
        (partial / DATA).mkdir()
        shutil.copytree(partial, partial.with_name(".two.x.partial"))
        raise Killed
    assert snapshots.ids() == [] and DEFAULT.snapshots.exists()
    snapshots.clean()
    assert not names.SNAPSHOT_DIR.exists()


def test_a_snapshot_is_found_by_its_name(machine: Path) -> None:
    one = make_snapshot("one", "text")
    assert snapshots.find("one") == snapshots.find("default/one") == one.id and snapshots.ids(ClusterId("lab")) == []
    other = ClusterId("lab").snapshot("one")
    other.directory.parent.mkdir()
    shutil.copytree(one.id.directory, other.directory)
    assert snapshots.find("lab/one") == other and len(snapshots.ids()) == 2
    for text in ("one", "two", "lab/two"):
        with pytest.raises(VclusterError):
            snapshots.find(text)
    snapshots.delete(one.id)
    assert snapshots.ids() == [other]


def test_a_list_of_nothing_is_an_error_only_where_there_is_no_cluster(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_snapshot("one", "text")
    for words, out in (([], "one\n"), (["default"], "one\n")):
        assert (
            snapshot_commands.do_snapshot(main.parse(["snapshot", "list", *words, "--no-headers", "-o", "snapshot"]))
            == 0
        )
        assert capsys.readouterr().out == out
    with pytest.raises(VclusterError, match="no cluster lab and no snapshot of it .*snapshot list"):
        snapshot_commands.do_snapshot(main.parse(["snapshot", "list", "lab"]))
    ClusterId("lab").config_file.touch()
    assert snapshot_commands.do_snapshot(main.parse(["snapshot", "list", "lab", "--json"])) == 0


@pytest.mark.parametrize(("name", "good"), [("one", True), ("2026-11-21_a.b+c", True), (".one", False), ("-a", False),
                                            ("a/b", False), ("", False), ("a" * 65, False)])  # fmt: skip
def test_names_of_snapshots(name: str, good: bool) -> None:
    assert is_snapshot_name(name) is good


def test_jobs_that_are_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "STATE_DIR", tmp_path)
    master = DEFAULT.node("node1")
    queue = master.data_dir / "queue"
    queue.mkdir(parents=True)
    (queue / "serial").write_text("3")
    for number, words in enumerate((["success"], ["success", "error", "error"], ["success", "waiting"])):
        (queue / f"job-{number}").write_text(json.dumps({"id": number, "ops": [{"status": word} for word in words]}))
    seen: set[str] = set()
    assert ganeti_files.unfinished_job(master, seen) == "2" and seen == {"job-0", "job-1"}
    (queue / "job-2").unlink()
    assert ganeti_files.unfinished_job(master, seen) is None


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("node1", "ganeti-vnode-node1.slice"),
        ("node1.a-b.c", "ganeti-vnode-node1.a.slice/ganeti-vnode-node1.a-b.c.slice"),
    ],
)
def test_where_the_control_group_of_a_node_is(node: str, path: str) -> None:
    assert DEFAULT.node(node).control_group == names.CGROUPS / "ganeti.slice/ganeti-vnode.slice" / path


def test_networks_for_many_clusters() -> None:
    small = list(many_networks(3, 10))
    assert small[:3] == list(DEFAULT_NETWORKS[:3]) and str(small[3]) == "198.18.0.0/24" and len(small) == 3 + 512
    large = list(many_networks(300, 3000))
    assert all(AddressPlan(network).fits(300, 3000) for network in large[3:]) and len(large) > 4


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["run", "gnt-node", "list", "-o", "name"], ["gnt-node", "list", "-o", "name"]),
        (["run", "--nodes", "2", "--", "sh", "-c", "exit 3", "--", "x"], ["sh", "-c", "exit 3", "--", "x"]),
        (["run", "--nodes", "2", "sh", "-c", "a", "--", "x"], ["sh", "-c", "a", "--", "x"]),
        (["run", "--from", "one", "cmd", "--help", "--"], ["cmd", "--help", "--"]),
    ],
)
def test_the_command_of_run_is_left_alone(argv: list[str], command: list[str]) -> None:
    args = main.parse(argv)
    assert [*args.words, *args.remainder] == command


def test_the_cluster_of_a_snapshot_may_be_left_out() -> None:
    for argv, cluster in ((["one"], None), (["lab", "one"], "lab"), (["lab", "one", "--live"], "lab")):
        args = main.parse(["snapshot", "save", *argv])
        assert (args.cluster, args.name) == (cluster, "one")


DAMAGED = {
    "empty": "", "not json": "text", "no object": "[]", "another schema": ABOUT_IT.to_json().replace('"schema": 1', '"schema": 2'),
    "incomplete": '{"schema": 1, "created": 1}', "a wrong type": ABOUT_IT.to_json().replace('"nodes": 1', '"nodes": "x"'),
    "missing": None,
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_description_is_named_and_the_others_go_on(
    machine: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_snapshot("good", "text")
    about = make_snapshot("bad", "text").id.directory / ABOUT
    about.unlink()
    if (text := DAMAGED[case]) is not None:
        about.write_text(text)
    for place in (names.SNAPSHOT_DIR, DEFAULT.snapshots):
        (place / "lost+found" / "#12").mkdir(parents=True)
    with pytest.raises(VclusterError, match=f"{about}: .*gnt-vcluster snapshot delete default bad"):
        snapshots.load(DEFAULT.snapshot("bad"))
    listing = ["snapshot", "list", "-o", "snapshot,state", "--no-headers", "--separator=:"]
    assert snapshot_commands.do_snapshot(main.parse(listing)) == 0
    shown = capsys.readouterr()
    assert shown.out == "good:running\nbad:damaged\n" and str(about) in shown.err and shown.err.count("\n") == 1
    assert snapshot_commands.do_snapshot(main.parse(["snapshot", "list", "--json"])) == 0
    assert [row["snapshot"] for row in json.loads(capsys.readouterr().out)["snapshots"]] == ["good", "bad"]
    snapshots.check_exists(DEFAULT.snapshot("bad"))
    snapshots.delete(DEFAULT.snapshot("bad"))
    assert snapshots.ids() == [DEFAULT.snapshot("good")]
    snapshots.delete(DEFAULT.snapshot("good"))
    assert (names.SNAPSHOT_DIR / "lost+found").exists(), "it is not ours"


@pytest.mark.parametrize("text", ["", "{}", '{"snapshot": "one", "keep": "../x"}'])
def test_a_damaged_journal_stops_only_its_own_cluster(
    machine: Path, text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(DEFAULT.directory, DEFAULT.config_file, "old")
    one = make_snapshot("one", "new")
    exchange.prepare(one, Journal("one", "before"), ABOUT_IT)
    journal = DEFAULT.restore_directory / "journal.json"
    journal.write_text(text)
    DEFAULT.directory.rename(DEFAULT.restore_directory / "old" / DATA)
    exchange.finish_interrupted(all_of_them=True)
    assert str(journal) in caplog.text and state(DEFAULT.directory, DEFAULT.config_file) == {"new"}
    assert (DEFAULT.restore_directory / "old" / DATA).exists(), "nothing is lost"
    with pytest.raises(VclusterError, match=str(journal)):
        exchange.resume(DEFAULT, Journal("one", "before"))
