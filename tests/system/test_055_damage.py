# SPDX-License-Identifier: BSD-2-Clause
"""Damaged files, other users of the machine, and what a user names: one clear line, and nothing of others is lost."""

from __future__ import annotations

from tests.support.fingerprint import daemons, difference, fingerprint, refused, verify_errors
from tests.support.machine import Machine

UP = ("gnt-vcluster", "up", "--nodes", "2", "--no-verify")
DATA = "/var/lib/ganeti-vcluster/default"


def test_a_block_that_lost_its_end_is_refused_and_foreign_lines_stay(machine: Machine, untouched: str) -> None:
    machine.run(*UP)
    machine.sh("sed -i '/^# END ganeti-vcluster default/d' /etc/hosts && echo '10.7.7.7 important' >>/etc/hosts")
    for command in (UP, ("gnt-vcluster", "destroy", "--yes")):
        line = refused(machine, *command)
        assert "/etc/hosts" in line and "# END ganeti-vcluster default" in line
    machine.run("systemctl", "stop", "ganeti-vcluster")
    assert machine.sh("tail -n 1 /etc/hosts; ip link").stdout.partition("important\n")[2].count("gnt-default") == 0
    machine.sh("sed -i 's/^10.7.7.7 important/# END ganeti-vcluster default/' /etc/hosts")
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_a_damaged_ledger_stops_nothing(machine: Machine, untouched: str) -> None:
    ledger = "/run/ganeti-vcluster/clusters/default.json"
    machine.run(*UP)
    before = machine.get(ledger)
    machine.sh(f": >{ledger}")
    assert ledger in machine.run("gnt-vcluster", "up", "--dry-run").stderr
    machine.run(*UP)
    assert machine.get(ledger) == before
    machine.sh(f"echo '{{}}' >{ledger}")
    machine.run("gnt-vcluster", "destroy", "--yes")
    assert difference(untouched, fingerprint(machine)) == []


def test_no_user_stops_commands_by_a_lock(machine: Machine) -> None:
    machine.run(*UP)
    nobody = ("setpriv", "--reuid=65534", "--clear-groups")
    for directory in ("/etc/ganeti-vcluster", "/var/lib/ganeti-vcluster"):
        assert machine.run(*nobody, "flock", "-n", f"{directory}/.lock", "true", check=False).returncode == 66, (
            "EX_NOINPUT"
        )
        machine.popen(*nobody, "flock", directory, "sleep", "300")
        machine.wait_for(f"! flock -n {directory} true")
    try:
        machine.run("systemctl", "reload", "ganeti-vcluster", timeout=60)
        machine.run(*UP, timeout=60)
    finally:
        machine.run("pkill", "-u", "nobody")


def test_what_a_user_names_is_written_after_the_checks_and_in_place(machine: Machine) -> None:
    machine.run(*UP)
    for command in (
        ("qa", "default", "--log", "/dev/null", "--junit", "/root/new"),
        ("bench", "default", "--save", "/dev/null"),
    ):
        assert "default exists" in refused(machine, "gnt-vcluster", *command)
    assert machine.sh("stat -c %F /dev/null; ls /root/new", check=False).stdout == "character special file\n"


def test_the_umask_of_the_user_changes_nothing(machine: Machine) -> None:
    places = f"{DATA} /run/ganeti-vcluster /etc/ganeti-vcluster"
    modes = f"find {places} -printf '%p %y %m %u %g\n' | grep -v -e /log/ -e 'queue/' -e livelock | sort"
    machine.run("gnt-vcluster", "destroy", "--yes")
    machine.run(*UP)
    before = machine.sh(modes).stdout
    machine.run("gnt-vcluster", "destroy", "--yes")
    machine.sh(f"umask 077; {' '.join(UP)}")
    assert difference(before, machine.sh(modes).stdout) == []
    assert verify_errors(machine) == []


def test_what_others_have_mounted_or_linked_is_neither_removed_nor_left_out(machine: Machine) -> None:
    machine.run("gnt-vcluster", "destroy", "--yes", check=False)
    machine.run(*UP)
    before = daemons(machine)
    place = f"{DATA}/node2/srv/my images"
    machine.sh(
        f"mkdir /root/foreign '{place}' && echo mine >/root/foreign/file && mount --bind /root/foreign '{place}'"
    )
    commands = [("snapshot", "save", "a"), ("scale", "--nodes", "1"), ("destroy", "--yes")]
    for command in commands:
        line = refused(machine, "gnt-vcluster", *command)
        assert f"umount {place}" in line, line
    assert daemons(machine) == before and machine.get("/root/foreign/file") == "mine\n"
    machine.sh(f"umount '{place}' && gnt-vcluster stop && mv {DATA} /root/moved && ln -s /root/moved {DATA}")
    for command in (commands[0], commands[2]):
        assert f"{DATA} is a link" in refused(machine, "gnt-vcluster", *command)
    machine.sh(f"rm {DATA} && mv /root/moved {DATA}")
    # Behind the checks: a mount that has just come.
    code = f"from pathlib import Path; from ganeti_vc.base import files; files.remove_tree(Path('{DATA}'))"
    machine.sh(f"mount --bind /root/foreign '{place}' && ! python3 -c \"{code}\" && umount '{place}'")
    assert machine.get("/root/foreign/file") == "mine\n"
    machine.run("gnt-vcluster", "destroy", "--yes")


def test_the_whole_state_directory_may_be_elsewhere(machine: Machine) -> None:
    machine.sh("mkdir -p /root/state && mount --bind /root/state /var/lib/ganeti-vcluster")
    machine.run(*UP)
    machine.sh("gnt-vcluster snapshot save a && gnt-vcluster exec master -- gnt-cluster add-tags later && "
               "gnt-vcluster snapshot restore a")  # fmt: skip
    assert machine.run("gnt-vcluster", "exec", "master", "--", "gnt-cluster", "list-tags").stdout == ""
    machine.run("gnt-vcluster", "destroy", "--yes", "--snapshots")
    assert machine.sh("ls /root/state").stdout == ""
    machine.sh("umount /var/lib/ganeti-vcluster")
