# SPDX-License-Identifier: BSD-2-Clause
"""A Debian booted in a container of its own: real systemd as its PID 1, in a private network.

There are two ways; tools/services/sandbox-init does the work of both, in the new namespaces:

- root uses systemd-nspawn;
- other users use two user namespaces, one within the other: what the first mounts read-only stays so in the second. Inside,
  root is the user, and 1 to 65535 are the user's subordinate IDs. nspawn needs root, so the same steps are done by hand.

The end of the process that booted it ends everything inside. Standard library only: the tests boot their machines with it,
too (tests/support/machine.py).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base import kernel
from ganeti_vc.base.constants import LIB_DIR
from ganeti_vc.base.errors import VclusterError
from ganeti_vc.base.process import BASE_ENVIRONMENT

#: systemd.special(7): poweroff.target.
POWEROFF = signal.SIGRTMIN + 4
#: Exit statuses that mean a reboot: systemd-nspawn(1), --keep-unit, and reboot(2) in a PID namespace.
REBOOTED = (133, 128 + signal.SIGHUP, -signal.SIGHUP)
CONSOLE_SIZE = 1 << 20
POWERED_OFF = (0, 128 + signal.SIGINT, -signal.SIGINT)


def tool(name: str) -> Path:
    """Return the path of one of our programs: in the source tree, where this package lies in it, or installed."""
    in_source_tree = Path(__file__).resolve().parents[2].glob(f"tools/*/{name}")
    return next(in_source_tree, Path(LIB_DIR, name))


class ContainerError(VclusterError):
    """The container could not be booted."""


def rootless() -> bool:
    return os.geteuid() != 0


def in_own_mapping(*argv: str) -> list[str]:
    """Return a command line that runs as root of the user namespace of this user's containers."""
    return ["unshare", "--user", "--map-root-user", "--map-auto", "--", *argv] if rootless() else list(argv)


def all_groups() -> Path:
    """Return where the unified hierarchy of control groups is mounted. Raises ContainerError where it is not."""
    root = kernel.mount_of("cgroup2")
    if not root:
        raise ContainerError("control groups v2 are not mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    return Path(root)


def group_of(process: int | str) -> Path:
    """Return the control group of a process. Raises ContainerError as `all_groups`, OSError when the process has ended."""
    path = next(line for line in Path(f"/proc/{process}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return all_groups() / path.removeprefix("0::").lstrip("/")


def own_group() -> Path:
    return group_of("self")


def group_is_ours(group: Path) -> bool:
    """Tell whether this process may make control groups below this one, and move processes (cgroups(7), delegation)."""
    return os.access(group, os.W_OK) and os.access(group / "cgroup.procs", os.W_OK)


@contextlib.contextmanager
def new_group(name: str) -> Iterator[Path]:
    """Make a control group for a container; remove it with all below it at the end. Raises ContainerError."""
    own = own_group()
    if not group_is_ours(own):
        raise ContainerError(f"the control group {own} is not delegated to you")
    if rootless() and (own / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        # This is a unit's group, and this process is alone in it. Controllers work only below a group without processes.
        supervisor = own / "supervisor"
        supervisor.mkdir(exist_ok=True)
        (supervisor / "cgroup.procs").write_text(str(os.getpid()))
        for controller in (own / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):  # as many as there are
                (own / "cgroup.subtree_control").write_text(f"+{controller}")
    group = own / name
    group.mkdir(exist_ok=True)  # a process that was killed may have left it
    try:
        yield group
    finally:
        _remove_group(group)


def _remove_group(group: Path) -> None:
    deadline = time.monotonic() + 10
    while "populated 1" in (group / "cgroup.events").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)  # the kernel is still killing what was inside
    # Where the old hierarchy is mounted beside, systemd-nspawn makes the same groups there, and leaves them.
    for top in (group, Path("/sys/fs/cgroup/systemd") / group.relative_to(all_groups())):
        for path, *_ in os.walk(top, topdown=False):
            os.rmdir(path)


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


def enter(leader: int, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Return a command line that runs `argv` as root in the container with the PID 1 `leader`, with that environment only."""
    namespaces = ["-m", "-u", "-i", "-n", "-p", "-C"]
    if os.readlink(f"/proc/{leader}/ns/user") != os.readlink("/proc/self/ns/user"):
        namespaces.append("-U")
    variables = [f"{name}={value}" for name, value in {**BASE_ENVIRONMENT, **(environment or {})}.items()]
    # A process in the background of a shell ignores SIGINT, and so would all that it starts.
    return ["nsenter", "-t", str(leader), *namespaces, "-r", "-w", "--",
            "env", "-i", "--default-signal", *variables, *argv]  # fmt: skip


@dataclass(frozen=True)
class BootSpec:
    """What to boot."""

    name: str  #: of the container, and host name inside
    directory: Path  #: for its files: root, upper, work, console, notify
    base: Path | None = None  #: a Debian tree, below an overlay; None: the machine's own /usr
    memory: str = ""  #: size of a tmpfs for all changes, which are lost at the end; empty: they are kept on disk
    binds: Sequence[Path] = ()  #: places of the machine that are seen inside, read-only; for root only
    nested: bool = False  #: whether a user can boot containers inside; for root only. Root inside may change the machine's /proc/sys then.


class Container:
    """One container, from its boot to its end."""

    def __init__(self, spec: BootSpec, group: Path) -> None:
        self.spec = spec
        self.leader = 0  #: its PID 1, once it is booted
        self._group = group
        self._process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._terminal, self._slave = os.openpty()

    def start(self) -> None:
        """Begin to boot. Raises ContainerError."""
        notify = self.spec.directory / "notify"
        with contextlib.suppress(FileNotFoundError):
            notify.unlink()
        try:
            self._notify.bind(str(notify))
        except OSError as err:
            raise ContainerError(
                f"cannot make the socket {notify}: {err.strerror or err}",
                "a shorter or another directory: XDG_DATA_HOME",
            ) from None
        self._spawn()

    def _spawn(self) -> None:
        spec = self.spec
        environment = {
            "PATH": BASE_ENVIRONMENT["PATH"], "LANG": "C.UTF-8",
            "BOX_NAME": spec.name, "BOX_DIRECTORY": str(spec.directory), "BOX_BASE": str(spec.base or ""),
            "BOX_MEMORY": spec.memory, "BOX_GROUP": str(self._group), "BOX_CONSOLE": os.ttyname(self._slave),
            "BOX_BINDS": " ".join(f"--bind-ro={path.resolve()}" for path in spec.binds),
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes" if spec.nested else "no",
        }  # fmt: skip
        # A process that becomes root of a user namespace loses pdeathsig, so it is set after that.
        bound = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        own = [] if rootless() else ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        init = [str(tool("sandbox-init")), "user" if rootless() else "root"]
        # The control group comes first: the namespace of control groups begins there.
        join = ["sh", "-c", 'echo 0 >"$BOX_GROUP/cgroup.procs" && exec "$@"', "sh"]
        self._process = subprocess.Popen(
            [*join, *in_own_mapping(*bound, *own, "--", *init)], env=environment, stdin=subprocess.DEVNULL,
            stdout=self._slave, stderr=self._slave,
        )  # fmt: skip

    def _find_leader(self) -> int:
        """Find the PID 1 below unshare, or below the shell and systemd-nspawn; 0 if it is not there yet."""
        assert self._process
        pids = [self._process.pid]
        for _ in range(4):
            pids = [child for pid in pids for child in _children(pid)]
            for pid in pids:
                if _comm(pid) == "systemd":
                    return pid
        return 0

    def wait_booted(self, timeout: float = 60) -> None:
        """Serve the container until its systemd has started, and `leader` is set. Raises ContainerError."""
        deadline = time.monotonic() + timeout
        self.leader = 0
        while not self.leader:
            if not self.serve(deadline - time.monotonic()):
                raise ContainerError(f"it ended while it booted: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ContainerError(f"no boot within {timeout:.0f} s: {self.last_words()}")

    def serve(self, timeout: float | None = None) -> bool:
        """Handle one event: a line on the console, the end of a boot, a reboot. Return False when it is powered off."""
        assert self._process
        with selectors.DefaultSelector() as selector, _fd_of(self._process.pid) as pidfd:
            for what in (self._terminal, self._notify, pidfd):
                selector.register(what, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(None if timeout is None else max(timeout, 0))}
        if self._terminal in ready:
            self._log(os.read(self._terminal, 65536))
        if self._notify in ready and b"READY=1" in self._notify.recv(4096).split(b"\n"):
            self.leader = self._find_leader()
        if pidfd in ready:
            status = self._process.wait()
            self.leader = 0
            if status not in REBOOTED:
                return False
            self._spawn()
        return True

    @property
    def status(self) -> int:
        """How it ended: 0 for a power-off."""
        assert self._process
        status = self._process.wait()
        return 0 if status in POWERED_OFF else status

    @property
    def console(self) -> Path:
        return self.spec.directory / "console"

    def _log(self, text: bytes) -> None:
        # Programs inside can write as much as they like; the container goes on when the disk is full.
        with contextlib.suppress(OSError), open(self.console, "ab") as stream:
            if stream.tell() > CONSOLE_SIZE:
                stream.truncate(0)
            stream.write(text)

    def last_words(self) -> str:
        """Return the last lines of the console."""
        with contextlib.suppress(OSError):
            return " / ".join(self.console.read_text(errors="replace").split("\n")[-6:]).strip()
        return "it has said nothing"

    def poweroff(self) -> None:
        """Ask systemd to power off; `serve` returns False at the end."""
        if leader := self.leader or self._find_leader():
            os.kill(leader, POWEROFF)
        else:
            self.kill()

    def kill(self) -> None:
        """End the container at once."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the container if it runs, and close what this object holds."""
        self.kill()
        self._notify.close()
        os.close(self._terminal)
        os.close(self._slave)


@contextlib.contextmanager
def _fd_of(pid: int) -> Iterator[int]:
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)
