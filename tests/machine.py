# SPDX-License-Identifier: BSD-2-Clause
"""A throw-away Debian, booted: real systemd in a container that leaves nothing behind.

``Rootfs`` makes (once, cached) a minimal Debian with what ganeti-vcluster depends on.
``Machine`` boots it with systemd-nspawn in a private network, over an overlay in memory that
lives in a mount namespace of its own: when the process that booted it ends, for whatever
reason, the container, its mounts and its data are gone.

As a program it serves `make demo` and people who want to look around::

    tests/machine.py rootfs bookworm          # make the cached rootfs, print its path
    tests/machine.py boot bookworm [DEB]      # boot, install DEB, open a shell
    tests/machine.py demo bookworm DEB        # the same, with a cluster brought up and shown first
    tests/machine.py qa bookworm DEB          # `make qa`: the whole of Ganeti's QA suite in it
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

RELEASES = ("bookworm", "trixie")

#: What a rootfs holds: the dependencies of the package, and the tools the tests look with.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "ganeti", "ganeti-os-noop", "openssh-server", "iproute2", "procps",
    "python3-configobj", "python3-dbus", "python3-gi", "python3-openssl", "python3-pyroute2",
    "python3-pystemd", "python3-rich", "python3-sdnotify", "python3-setproctitle",
    "e2fsprogs", "ganeti-testsuite", "logrotate", "fping", "iptables", "net-tools", "curl", "lsof", "man-db", "bash-completion", "strace",
)  # fmt: skip

CACHE = Path(os.environ.get("GANETI_VCLUSTER_TEST_CACHE", "/var/cache/ganeti-vcluster-tests"))


class MachineError(Exception):
    """The container could not be made, booted or entered."""


def rootfs(release: str) -> Path:
    """The cached root file system of a Debian release; made when missing (about 40 s)."""
    key = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    target = CACHE / f"{release}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            partial = CACHE / f"{release}-{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            print(f"making the {release} root file system in {target}", file=sys.stderr)
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}",
                 # apt-get inside must work without a network: keep the package lists.
                 "--skip=cleanup/apt", release, str(partial)],
                check=True,
            )  # fmt: skip
            partial.rename(target)
    return target


def _own_cgroup() -> Path:
    """This process's control group in the unified hierarchy, wherever that is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    if not root:
        raise MachineError("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    path = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path(root) / path.removeprefix("0::").lstrip("/")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Machine:
    """One booted container.

    Use it as a context manager. `run` and `sh` execute inside it, as root, with the exit
    status kept.
    """

    def __init__(self, release: str, binds: Sequence[Path] = (), memory: str = "4G") -> None:
        self.release = release
        self.name = f"gvc-{release}-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
        self._binds = binds
        self._memory = memory
        self._work: Path | None = None
        self.cgroup = _own_cgroup() / self.name
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._console: IO[bytes] | None = None
        self.leader = 0

    def __enter__(self) -> Machine:
        base = rootfs(self.release)
        self._work = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._console = open(CACHE / f"{self.name}.log", "wb")
        binds = " ".join(f"--bind-ro={path.resolve()}" for path in self._binds)
        # nspawn puts what it boots into "payload" below its own control group: with one of its own
        # for each container, no two systemds manage the same groups.
        self.cgroup.mkdir()
        script = f"""set -e
            echo 0 >{self.cgroup}/cgroup.procs
            mount -t tmpfs -o mode=755 tmpfs /run
            mount -t tmpfs -o size={self._memory},mode=755 tmpfs {self._work}
            mkdir {self._work}/upper {self._work}/work {self._work}/root
            mount -t overlay -o lowerdir={base},upperdir={self._work}/upper,workdir={self._work}/work \
                overlay {self._work}/root
            rm -f {self._work}/root/etc/machine-id; : >{self._work}/root/etc/machine-id
            status=133 # a reboot: with --keep-unit nspawn leaves it to its caller
            while [ $status = 133 ]; do status=0; systemd-nspawn --quiet -D {self._work}/root --private-network --register=no \
                --keep-unit --link-journal=no --console=pipe --hostname=vctest -M {self.name} {binds} --boot || status=$?; done"""
        self._nspawn = subprocess.Popen(
            # Whatever ends us ends the namespace of processes, and with it everything inside.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
             "--mount", "--propagation", "private", "sh", "-c", script],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL, stdout=self._console, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            self.wait_booted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._nspawn and self._nspawn.poll() is None:
            self._nspawn.kill()
            self._nspawn.wait()
        if self._console:
            self._console.close()
            os.unlink(self._console.name)
        if self._work:
            shutil.rmtree(self._work, ignore_errors=True)
        if self.cgroup.is_dir():
            deadline = time.monotonic() + 10
            while "populated 1" in (self.cgroup / "cgroup.events").read_text() and time.monotonic() < deadline:
                time.sleep(0.02)  # the kernel is still killing what was inside
            for path, *_ in os.walk(self.cgroup, topdown=False):
                os.rmdir(path)

    def _find_leader(self) -> int:
        """The container's PID 1: below unshare, the shell and systemd-nspawn."""
        assert self._nspawn
        pids = [self._nspawn.pid]
        for _ in range(3):
            pids = [child for pid in pids for child in _children(pid)]
        return next((pid for pid in pids if _comm(pid) == "systemd"), 0)

    def wait_booted(self, timeout: float = 60, not_leader: int = 0) -> None:
        """Wait until systemd has finished its start-up; `not_leader` is a PID 1 of before a reboot."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self._nspawn
            if self._nspawn.poll() is not None:
                raise MachineError(f"the container ended: {self.console()}")
            self.leader = self._find_leader()
            if self.leader and self.leader != not_leader:
                state = self.run("systemctl", "is-system-running", "--wait", check=False)
                if state.stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.05)  # until the deadline: nspawn has no event to wait for
        raise MachineError(f"no boot within {timeout} s: {self.console()}")

    def console(self) -> str:
        """The last lines the container printed."""
        assert self._console
        return "".join(Path(self._console.name).read_text(errors="replace").splitlines(keepends=True)[-20:])

    def enter(self, argv: Sequence[str]) -> list[str]:
        # What runs in the background of a shell has SIGINT ignored, and so would all it starts.
        return ["nsenter", "-t", str(self.leader), "-a", "-r", "-w",
                "env", "-i", "--default-signal", "HOME=/root", "TERM=xterm", "LANG=C.UTF-8", "USER=root",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv]  # fmt: skip

    def run(
        self, *argv: str, check: bool = True, input: str | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run one command inside, without a shell. With `check`, a failure raises and shows its output."""
        done = subprocess.run(
            self.enter(argv), input=input, stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True, text=True, timeout=timeout, start_new_session=True,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def sh(self, script: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside (bash, pipefail)."""
        return self.run("bash", "-o", "pipefail", "-c", script, check=check, timeout=timeout)

    def popen(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command inside and do not wait for it."""
        return subprocess.Popen(
            self.enter(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def interactive(self, *argv: str) -> int:
        """Run a command inside with this terminal."""
        return subprocess.run(self.enter(argv)).returncode

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        self.run("sh", "-c", 'cat >"$1" && chmod "$2" "$1"', "sh", path, f"{mode:o}", input=text)

    def get(self, path: str) -> str:
        return self.run("cat", path).stdout

    def push(self, source: Path, target: str) -> None:
        """Copy a file into the container."""
        with open(source, "rb") as stream:
            subprocess.run(self.enter(["sh", "-c", 'cat >"$1"', "sh", target]), stdin=stream, check=True)

    def install(self, deb: Path) -> None:
        """apt-get install the package, as a user does."""
        self.push(deb, f"/root/{deb.name}")
        self.sh(f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /root/{deb.name}")

    def reboot(self) -> None:
        """Reboot the container and wait until it is up again."""
        before = self.leader
        self.run("systemctl", "reboot", check=False)
        self.wait_booted(not_leader=before)

    def wait_for(self, script: str, timeout: float = 60) -> str:
        """Repeat a shell condition until it succeeds; returns its output."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.sh(script, check=False)
            if done.returncode == 0:
                return done.stdout
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {script}\n{done.stdout}{done.stderr}")
            time.sleep(0.1)


@contextlib.contextmanager
def booted(release: str, deb: Path | None = None) -> Iterator[Machine]:
    """A booted machine, with the package installed when one is given."""
    with Machine(release) as machine:
        if deb:
            machine.install(deb)
        yield machine


def _main(argv: Sequence[str]) -> int:
    if len(argv) < 2 or argv[0] not in ("rootfs", "boot", "demo", "qa") or argv[1] not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    if argv[0] == "rootfs":
        print(rootfs(argv[1]))
        return 0
    deb = Path(argv[2]) if len(argv) > 2 else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with booted(argv[1], deb) as machine:
        if argv[0] == "qa":
            return machine.interactive("gnt-vcluster", "qa")
        if argv[0] == "demo":
            for command in ("gnt-vcluster up", "gnt-vcluster status", "gnt-vcluster exec master -- gnt-node list"):
                print(f"# {command}", flush=True)
                if status := machine.interactive("sh", "-c", command):
                    return status
        if sys.stdin.isatty():
            return machine.interactive("bash", "-l")
        if argv[0] == "boot":
            print(f"{machine.name}: enter with: nsenter -t {machine.leader} -a -r -w", file=sys.stderr, flush=True)
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
