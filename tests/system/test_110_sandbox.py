# SPDX-License-Identifier: BSD-2-Clause
"""Clusters without root: a user of the machine, the user's sandboxes, and what the machine notices of them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fingerprint import difference
from tests.support.machine import Machine

#: What a user without rights must leave as it is: files, network, names, units.
LISTING = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run/user -o -path /run/systemd -o -path /run/log -o -path /var/log \
    -o -path '/home/*/.local/share/ganeti-vcluster' \) -prune -o -type d -printf '%p %y %m %u %g\n' -o -printf '%p %y %m %u %g %s %l\n' | sort
ip -o addr; ip -o link | sed 's/qlen.*//'; ip route show table all; cat /etc/hosts
"""
SANDBOX_PROCESSES = "ps -u {user} -o pid=,args= | grep -v -e 'systemd --user' -e '(sd-pam)' -e 'ps -u' -e dbus-daemon"


class User:
    """A user of the machine without a capability, by the commands that the user types."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine, self.name = machine, name

    def argv(self, *argv: str) -> list[str]:
        home = f"/home/{self.name}"
        return ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups", "--inh-caps=-all",
                "env", "-C", home, f"HOME={home}", f"USER={self.name}", *argv]  # fmt: skip

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run(*self.argv(*argv), check=check)

    def vcluster(self, *argv: str) -> str:
        return self.run("gnt-vcluster", *argv).stdout

    def journal(self) -> str:
        """The last lines of the journal of the user's sandbox."""
        argv = ("sandbox", "exec", "--", "journalctl", "-n", "100", "-o", "short-monotonic", "--no-pager")
        return self.run("gnt-vcluster", *argv, check=False).stdout

    def failure(self, *argv: str) -> str:
        done = self.run("gnt-vcluster", *argv, check=False)
        assert done.returncode == 1, done
        return done.stderr.splitlines()[-1]

    def states(self) -> dict[str, str]:
        found = json.loads(self.vcluster("sandbox", "status", "--json"))["sandboxes"]
        return {one["sandbox"]: one["state"] for one in found}

    def roles(self, *options: str) -> list[str]:
        return self.vcluster(
            *options, "exec", "master", "--", "gnt-node", "list", "--no-headers", "-o", "name,role"
        ).split()

    def processes(self) -> str:
        return self.machine.sh(SANDBOX_PROCESSES.format(user=self.name), check=False).stdout

    @property
    def data(self) -> str:
        return f"/home/{self.name}/.local/share/ganeti-vcluster"


THREE = ["node1", "M", "node2", "C", "node3", "C"]


@pytest.fixture(scope="module")
def machine(release: str, deb: Path) -> Iterator[Machine]:
    with Machine(release, nested=True) as booted:
        booted.install(deb)
        booted.sh("useradd -m one && useradd -m two && systemd-run -q --wait loginctl enable-linger one")
        booted.wait_for("test -S /run/user/$(id -u one)/systemd/private")
        booted.sh(
            "mkdir -p /home/one/.local/share /home/two/.local/share; chown -R one: /home/one; chown -R two: /home/two"
        )
        yield booted


@pytest.fixture(scope="module")
def one(machine: Machine) -> User:
    return User(machine, "one")


@pytest.fixture(scope="module")
def two(machine: Machine) -> User:
    return User(machine, "two")


@pytest.fixture(scope="module")
def listing(machine: Machine) -> str:
    return machine.sh(LISTING).stdout


@pytest.fixture(scope="module")
def up(one: User, listing: str) -> User:
    """A user whose default sandbox has a running cluster, made by `gnt-vcluster up` and nothing else."""
    done = one.run("gnt-vcluster", "up")
    assert "Cluster default is up: 3 nodes, master node1" in done.stdout
    assert done.stderr.startswith("you are not root: this works in the sandbox default")
    return one


def test_nothing_of_the_machine_has_changed(up: User, listing: str) -> None:
    assert difference(listing, up.machine.sh(LISTING).stdout) == []
    assert up.machine.run("gnt-vcluster", "list", "--no-headers").stdout == ""  # root's own clusters
    effective = up.machine.sh(
        f"grep CapEff /proc/$(pgrep -u {up.name} -f '^/usr/bin/python3 -I /usr/lib/ganeti-vcluster/sandbox')/status"
    )
    assert effective.stdout.split() == ["CapEff:", "0000000000000000"]


def test_every_command_works_through_it(up: User) -> None:
    assert up.roles() == THREE
    assert up.run("gnt-vcluster", "exec", "node2", "--", "sh", "-c", "exit 42", check=False).returncode == 42
    assert up.vcluster("logs", "node3", "-n", "3")
    assert json.loads(up.vcluster("status", "--json"))["state"] == "running"
    assert "ERROR" not in up.vcluster("exec", "master", "--", "gnt-cluster", "verify")
    up.vcluster("snapshot", "save", "three")
    up.vcluster("scale", "--nodes", "4")
    assert len(up.roles()) == 8
    up.vcluster("snapshot", "restore", "three")
    assert up.roles() == THREE
    up.vcluster("stop")
    up.vcluster("start")
    assert up.roles() == THREE
    # A link that root inside makes in the place of a file that is brought out leads nowhere outside.
    up.run("sh", "-c", "echo secret >secret")
    up.vcluster("sandbox", "exec", "--", "sh", "-c", "mkdir -p /home/one && echo inside >/home/one/secret")
    links = "while :; do for d in /var/tmp/gnt-vcluster-*/; do ln -sf /home/one/secret $d/log; done; sleep 0.05; done"
    up.vcluster("sandbox", "exec", "--", "systemd-run", "-q", "--unit=links", "sh", "-c", links.replace("$", "$$"))
    up.vcluster("qa", "--only", "cluster-info", "--junit", "qa.xml", "--log", "out")
    up.vcluster("sandbox", "exec", "--", "systemctl", "stop", "links")
    assert "<testsuite" in up.run("cat", "qa.xml").stdout
    assert "TestClusterDestroy" in up.run("cat", "out").stdout and up.run("cat", "secret").stdout == "secret\n"
    up.run("rm", "qa.xml", "out", "secret")


def test_the_daemons_are_units_of_its_systemd(up: User) -> None:
    units = up.vcluster("sandbox", "exec", "--", "systemctl", "list-units", "--plain", "--no-legend", "ganeti-noded@*")
    assert [line.split()[:4] for line in units.splitlines()] == [
        [f"ganeti-noded@node{number}.service", "loaded", "active", "running"] for number in (1, 2, 3)
    ]
    assert up.vcluster("sandbox", "exec", "--", "systemctl", "is-system-running").strip() == "running"


def test_from_inside_the_machine_cannot_be_harmed(up: User) -> None:
    def inside(script: str) -> subprocess.CompletedProcess[str]:
        return up.run("gnt-vcluster", "sandbox", "exec", "--", "sh", "-c", script, check=False)

    machine, mark = up.machine, "/usr/share/ganeti-vcluster-mark"
    for script in (f"echo >{mark}", "chmod 777 /usr", "rm -f /usr/bin/gnt-vcluster", "mount -o remount,rw /usr && touch /usr/x",
                   "mknod /tmp/disk b 8 0", "echo 1 >/proc/sys/kernel/sysrq", "echo b >/proc/sysrq-trigger", "modprobe dummy",
                   "date -s 2001-01-01", "swapoff -a && dmesg -c", "echo 1 >/proc/sys/vm/drop_caches"):  # fmt: skip
        assert inside(script).returncode != 0, script
    assert machine.sh(f"test ! -e {mark} && test -x /usr/bin/gnt-vcluster && date +%Y").stdout.strip() != "2001"
    # The machine's processes, files and network are out of sight.
    machine.sh("install -m 600 /dev/null /etc/secret && echo secret >/etc/secret")
    assert inside("cat /etc/secret").returncode != 0
    machine.sh("rm /etc/secret")
    seen = inside("ls -1 /sys/class/net").stdout.split()
    assert set(seen) <= {"lo", "gnt-default"}, seen
    pid = machine.sh("systemd-run -q --unit=victim sleep 1000 && systemctl show -P MainPID victim").stdout.strip()
    machine.sh("systemd-run -q --unit=server socat TCP-LISTEN:4444,bind=127.0.0.1,fork EXEC:/bin/date")
    machine.wait_for("socat -u TCP:127.0.0.1:4444 -")
    assert inside("socat -u TCP:127.0.0.1:4444 -").returncode != 0
    assert inside(f"test -e /proc/{pid} && grep -q sleep /proc/{pid}/cmdline").returncode != 0
    inside(f"kill -9 {pid}; kill -9 -1")
    assert machine.sh("systemctl is-active victim server && systemctl stop victim server").returncode == 0
    # A reboot is its own.
    up.vcluster("sandbox", "start")
    before, booted = (
        up.vcluster("sandbox", "status"),
        machine.sh("cat /proc/stat | grep btime; systemctl show -P UserspaceTimestampMonotonic").stdout,
    )
    up.run("gnt-vcluster", "sandbox", "exec", "--", "systemctl", "reboot", check=False)
    machine.wait_for(f"test $(awk '{{print $2}}' {up.data}/default/lock) != {re.search(r' ([0-9]+) ', before)[1]}")  # type: ignore[index]
    assert machine.sh("cat /proc/stat | grep btime; systemctl show -P UserspaceTimestampMonotonic").stdout == booted
    assert up.roles() == THREE


#: Runs a command in a terminal of its own, and says what a shell would read from there after it.
IN_TERMINAL = """
import os, pty, select, sys
pid, fd = pty.fork()
if pid == 0:
    os.spawnvp(os.P_WAIT, sys.argv[1], sys.argv[1:])
    print("typed", os.read(0, 100) if select.select([0], [], [], 0.5)[0] else "nothing")
    sys.exit()
said = b""
try:
    while chunk := os.read(fd, 4096):
        said += chunk
except OSError:
    print(said.decode())
"""
INJECT = """
import fcntl, os, sys, termios
print("terminal", os.isatty(0), os.isatty(1), flush=True)
for fd in (0, os.open("/dev/tty", os.O_RDWR)):
    for char in b"rm -rf something\\n":
        try:
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([char]))
        except OSError as err:
            print(err)
"""


@pytest.mark.parametrize("command", [("sandbox", "exec", "--"), ("exec", "node2", "--")])
def test_nothing_inside_types_into_the_terminal_of_its_user(up: User, command: tuple[str, ...]) -> None:
    up.machine.put("/usr/local/bin/in-terminal", IN_TERMINAL)
    said = up.run("python3", "/usr/local/bin/in-terminal", "gnt-vcluster", *command, "python3", "-c", INJECT).stdout
    up.machine.run("rm", "/usr/local/bin/in-terminal")
    assert "terminal True True" in said and "typed nothing" in said, said


def test_stop_leaves_no_process_and_start_brings_all_back(up: User) -> None:
    up.vcluster("sandbox", "stop")
    assert up.processes() == ""
    assert up.states() == {"default": "stopped"}
    assert "the sandbox default does not run (gnt-vcluster sandbox start" in up.failure("status")
    up.vcluster("sandbox", "start")
    assert up.roles() == THREE


def test_killed_it_comes_back(up: User) -> None:
    machine = up.machine
    machine.sh(f"pkill -KILL -u {up.name} -f '^/usr/bin/python3 -I /usr/lib/ganeti-vcluster/sandbox'")
    machine.wait_for(f"! {SANDBOX_PROCESSES.format(user=up.name)}")
    assert up.states() == {"default": "stopped"}
    up.vcluster("start")
    assert up.roles() == THREE


def test_forwarding(up: User) -> None:
    machine = up.machine
    address = "cluster:5080"
    forwards = [machine.popen(*up.argv("gnt-vcluster", "sandbox", "forward", "--listen", listen, "--to", target))
                for listen, target in (("5555", address), ("/home/one/node1.socket", "node1:1822"))]  # fmt: skip
    try:
        assert "401" in machine.wait_for("curl -sk https://127.0.0.1:5555/version")
        banner = machine.wait_for("(timeout 2 socat -u UNIX:/home/one/node1.socket - || :) | grep SSH")
        assert banner.startswith("SSH-2.0")
        assert machine.sh("stat -c '%a %U' /home/one/node1.socket").stdout.split() == ["600", "one"]
        assert "Address already in use" in up.failure("sandbox", "forward", "--listen", "5555", "--to", address)
    finally:
        machine.sh("pkill -TERM -u one -f systemd-socket-proxyd; rm -f /home/one/node1.socket", check=False)
        for forward in forwards:
            forward.communicate(timeout=30)
    assert machine.sh("curl -sk https://127.0.0.1:5555/version", check=False).returncode != 0


def test_two_sandboxes_and_two_users_with_the_same_names(up: User, two: User) -> None:
    up.vcluster("--sandbox=other", "up", "--nodes", "2", "--no-verify")
    assert up.roles("--sandbox=other") == THREE[:4] and up.roles() == THREE
    # A user who is not logged in has no systemd and no control group, and is told what to ask the administrator for.
    machine = two.machine
    refusal = two.failure("up", "--no-verify")
    assert "control group: yours, or a systemd of yours: missing" in refusal
    delegate = re.search(r'sudo sh -c "(mkdir -p (\S+) .*)"\)', refusal)
    assert delegate
    join = f'{delegate[1]} && exec "$@"'
    machine.run("sh", "-c", join, "sh", *two.argv("gnt-vcluster", "up", "--no-verify"))
    assert two.roles() == THREE and up.roles("--sandbox=other") == THREE[:4]
    assert json.loads(two.vcluster("sandbox", "status", "--json"))["sandboxes"][0]["owner"] == "process"
    machine.sh("pkill -KILL -u two -f /usr/lib/ganeti-vcluster/sandbox")
    machine.wait_for(f"! {SANDBOX_PROCESSES.format(user='two')}")
    machine.run("sh", "-c", join, "sh", *two.argv("gnt-vcluster", "sandbox", "start"))
    assert two.roles() == THREE
    two.vcluster("sandbox", "stop")
    assert two.processes() == ""
    two.vcluster("sandbox", "remove", "--yes")
    up.vcluster("sandbox", "remove", "other", "--yes")
    assert up.states() == {"default": "running"} and two.states() == {}
    machine.sh(f"rmdir {delegate[2]}")


def test_a_session_ends_and_the_cluster_stays_with_linger_only(up: User, two: User) -> None:
    """Logged in by PAM, as a person is."""
    machine = up.machine
    up.vcluster("sandbox", "stop")
    for user, state in ((up, "running"), (two, "stopped")):
        machine.run("systemd-run", "--quiet", "--wait", "--pipe", f"--uid={user.name}", "--property=PAMName=login",
                    "gnt-vcluster", "sandbox", "start")  # fmt: skip
        if state == "stopped":
            machine.wait_for(f"! loginctl show-user {user.name}")
        assert user.states() == {"default": state}
    assert up.roles() == THREE and two.processes() == ""
    two.vcluster("sandbox", "remove", "--yes")


def test_odd_names_places_and_moments(up: User) -> None:
    machine = up.machine
    for argv in (("sandbox", "remove", "", "--yes"), ("--sandbox=", "destroy", "--yes")):
        done = up.run("gnt-vcluster", *argv, check=False)
        assert done.returncode == 2 and "'' cannot name a sandbox" in done.stderr
    elsewhere = ("env", "XDG_DATA_HOME=/home/one/else where", "gnt-vcluster", "sandbox")
    up.run(*elsewhere, "start")
    assert json.loads(up.run(*elsewhere, "status", "--json").stdout)["sandboxes"][0]["state"] == "running"
    up.run(*elsewhere, "remove", "--yes")
    up.run("rmdir", "/home/one/else where")
    assert up.states() == {"default": "running"}
    # A start while it stops waits for that.
    stop = machine.popen(*up.argv("gnt-vcluster", "sandbox", "stop"))
    machine.wait_for(f"! grep -Eq '^[0-9]+ +[1-9]' {up.data}/default/lock")
    up.vcluster("sandbox", "start")
    assert stop.wait(60) == 0 and up.roles() == THREE
    # What belongs to the user below /usr is read-only inside, too.
    machine.sh("install -d -o one /usr/local/mine")
    for before in (
        "true",
        "mount -o remount,bind,rw /usr",
        "umount -l /usr",
        "mount --rbind /usr /mnt && mount -o remount,bind,rw /mnt",
    ):
        script = f"{before}; touch /usr/local/mine/file /mnt/local/mine/file"
        up.run("gnt-vcluster", "sandbox", "exec", "--", "unshare", "--mount", "sh", "-c", script, check=False)
        assert machine.run("ls", "/usr/local/mine").stdout == "", before
    machine.sh("rmdir /usr/local/mine")
    # A command ends with the process that had it run.
    machine.popen(*up.argv("gnt-vcluster", "sandbox", "exec", "--", "sleep", "777"))
    machine.wait_for("pgrep -xf 'sleep 777'")
    machine.sh("pkill -KILL -f '^nsenter .*sleep 777'")
    machine.wait_for("! pgrep -xf 'sleep 777'")


def test_what_is_missing_is_said_with_its_remedy(up: User, two: User) -> None:
    machine = up.machine
    up.vcluster("create", "disks")
    up.vcluster("sandbox", "exec", "--", "sed", "-i", "s/^# disk =.*/disk = 1G/", "/etc/ganeti-vcluster/disks.conf")
    assert "disk: node1.disks would need a loop device" in up.failure("up", "disks")
    up.vcluster("destroy", "disks", "--yes")
    assert "no sandbox nosuch" in up.failure("--sandbox=nosuch", "status")
    assert up.run("gnt-vcluster", "--sandbox=No_Name", "status", check=False).returncode == 2
    report = {one["key"]: one for one in json.loads(up.vcluster("doctor", "--json"))["rootless"]}
    assert all(one["state"] in ("ok", "hint") for one in report.values())
    machine.sh("mv /etc/subuid /etc/subuid.away && chmod a-x /usr/bin/newuidmap")
    try:
        assert (
            two.failure("doctor")
            == "gnt-vcluster: program: newuidmap: missing, and 2 more (sudo apt-get install uidmap)"
        )
        found = {
            one["key"]: one
            for one in json.loads(two.run("gnt-vcluster", "doctor", "--json", check=False).stdout)["rootless"]
        }
        assert {key for key, one in found.items() if one["state"] == "missing"} == {"uidmap", "subuid", "delegation"}
        assert found["subuid"]["remedy"] == "sudo usermod --add-subuids 100000-165535 two"
    finally:
        machine.sh("mv /etc/subuid.away /etc/subuid && chmod a+x /usr/bin/newuidmap")


def test_files_that_somebody_has_removed_or_changed(up: User) -> None:
    up.vcluster("sandbox", "start", "lost")
    up.run("rm", "-rf", f"{up.data}/lost", check=False)
    assert "lost were removed while it runs (gnt-vcluster sandbox remove lost)" in up.failure(
        "sandbox", "start", "lost"
    )
    up.vcluster("sandbox", "remove", "--yes", "lost")
    up.vcluster("sandbox", "start", "lost")
    up.vcluster("sandbox", "stop", "lost")
    write = f"printf '%s\\n' \"$0\" >{up.data}/lost/settings.json"
    up.run("sh", "-c", write, "nonsense")
    damaged = up.failure("sandbox", "start", "lost")
    assert "lost/settings.json is damaged (write {" in damaged
    up.run("sh", "-c", write, damaged[damaged.index("{") : damaged.index("}") + 1])
    up.vcluster("sandbox", "start", "lost")
    # A place into which the next start writes leads out of the sandbox.
    up.run("sh", "-c", "echo mine >precious")
    up.vcluster("sandbox", "exec", "lost", "--", "ln", "-sf", "/home/one/precious", "/etc/hostname")
    up.vcluster("sandbox", "stop", "lost")
    assert "lost/root/etc/hostname is a link" in up.failure("sandbox", "start", "lost")
    assert up.run("cat", "precious").stdout == "mine\n"
    up.run("rm", "precious", f"{up.data}/lost/root/etc/hostname")
    up.vcluster("sandbox", "start", "lost")
    up.vcluster("sandbox", "remove", "--yes", "lost")
    assert up.states() == {"default": "running"}


def test_remove_leaves_nothing(up: User, listing: str) -> None:
    assert "add --yes" in up.run("gnt-vcluster", "sandbox", "remove", check=False).stderr
    up.vcluster("destroy", "--yes")
    up.vcluster("sandbox", "remove", "--yes")
    assert up.processes() == "" and up.states() == {}
    assert difference(listing, up.machine.sh(LISTING).stdout) == []
    assert up.machine.run("ls", "-A", "/home/one/.local/share").stdout == ""
