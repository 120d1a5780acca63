# SPDX-License-Identifier: BSD-2-Clause
"""A throw-away Debian, booted: real systemd in a container that leaves nothing behind.

It is a sandbox (ganeti_vc/sandbox/container.py) over an overlay in memory: when the process that booted it
ends, for whatever reason, the container, its mounts and its data are gone.

As a program it serves people who want to look around::

    tests/support/machine.py rootfs bookworm          # make the cached rootfs, print its path
    tests/support/machine.py boot bookworm [DEB]      # boot, install DEB, open a shell
    tests/support/machine.py qa bookworm DEB          # `make qa`: the whole of Ganeti's QA suite in it
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from ganeti_vc.base.progress import Progress
from ganeti_vc.sandbox.container import BootSpec, Container, enter, new_group
from ganeti_vc.sandbox.debian_trees import SUITES, debian

RELEASES = SUITES

#: What a rootfs holds: the dependencies of the package, and the tools the tests look with.
PACKAGES = (
    "systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "uidmap", "ganeti", "ganeti-os-noop", "openssh-server", "iproute2", "nftables", "procps",
    "python3-configobj", "python3-openssl", "python3-pyroute2",
    "python3-pystemd", "python3-rich", "python3-setproctitle",
    "e2fsprogs", "ganeti-testsuite", "logrotate", "fping", "iptables", "net-tools", "curl", "lsof", "man-db", "bash-completion", "strace",
)  # fmt: skip

CACHE = Path(os.environ.get("GANETI_VCLUSTER_TEST_CACHE", "/var/cache/ganeti-vcluster-tests"))


def rootfs(release: str) -> Path:
    """The cached root file system of a Debian release; made when missing (about 40 s)."""
    return debian(release, PACKAGES, CACHE, Progress())


class Machine:
    """One booted container.

    Use it as a context manager. `run` and `sh` execute inside it, as root, with the exit
    status kept.
    """

    def __init__(self, release: str, binds: Sequence[Path] = (), memory: str = "4G", nested: bool = False) -> None:
        self.release = release
        self.name = f"gvc-{release}-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
        self._stack = contextlib.ExitStack()
        self._binds, self._memory, self._nested = binds, memory, nested

    def __enter__(self) -> Machine:
        base = rootfs(self.release)
        with contextlib.ExitStack() as stack:
            work = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{self.name}-", ignore_cleanup_errors=True))
            )
            self.cgroup = stack.enter_context(new_group(self.name))
            spec = BootSpec("vctest", work, base, self._memory, self._binds, self._nested)
            self.container = stack.enter_context(contextlib.closing(Container(spec, self.cgroup)))
            self.container.start()
            self.container.wait_booted()
            # Its console and its reboots.
            self._server = threading.Thread(target=self._serve, daemon=True)
            self._server.start()
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while self.container.serve():
                pass

    def _end(self) -> None:
        self.container.kill()
        self._server.join()

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def leader(self) -> int:
        """Its PID 1, as seen from here."""
        return self.container.leader

    def enter(self, argv: Sequence[str]) -> list[str]:
        return enter(self.leader, argv, {"TERM": "xterm"})

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

    def journal(self) -> str:
        """The last of its journal."""
        return self.run("journalctl", "-n", "100", "-o", "short-monotonic", "--no-pager", check=False).stdout

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

    def reboot(self, hard: bool = False) -> None:
        """Reboot the container and wait until it is up again. `hard`: at once, nothing is stopped or synced before."""
        before = self.leader
        self.run("systemctl", "reboot", *(("--force", "--force") if hard else ()), check=False)
        deadline = time.monotonic() + 60
        while self.leader in (0, before):
            assert time.monotonic() < deadline, self.container.last_words()
            time.sleep(0.02)  # the other thread sets it

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
    if len(argv) < 2 or argv[0] not in ("rootfs", "boot", "qa") or argv[1] not in RELEASES:
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
        if sys.stdin.isatty():
            return machine.interactive("bash", "-l")
        if argv[0] == "boot":
            print(f"{machine.name}: enter with: nsenter -t {machine.leader} -a -r -w", file=sys.stderr, flush=True)
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
