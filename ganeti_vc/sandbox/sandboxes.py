# SPDX-License-Identifier: BSD-2-Clause
"""Sandboxes: a private system for clusters, for whoever is not root or has no systemd as PID 1.

Everything in one is as on a machine of its own: the same units, the same manager, the same commands.
All of its files are in one directory below the user's data directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.base.process import reason
from ganeti_vc.cli.output import Progress
from ganeti_vc.sandbox import container, debian_trees
from ganeti_vc.sandbox.container import TOOLS, Plan

DEFAULT = "default"
#: How long its owner gives a sandbox to end.
STOP_TIMEOUT = 120

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def data_directory() -> Path:
    """Where sandboxes live (XDG Base Directory Specification)."""
    return _base("XDG_DATA_HOME", ".local/share") / "ganeti-vcluster"


def cache_directory() -> Path:
    """Where their Debian trees live."""
    return _base("XDG_CACHE_HOME", ".cache") / "ganeti-vcluster"


def _base(variable: str, otherwise: str) -> Path:
    """Relative ones are to be ignored."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / otherwise


@dataclass(frozen=True, order=True)
class Sandbox:
    """One sandbox of this user, whether it exists or not."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"{self.name!r} cannot name a sandbox", "use lower-case letters, digits and -, at most 32")

    @property
    def directory(self) -> Path:
        return data_directory() / self.name

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    @property
    def settings(self) -> Path:
        """What it is made of; written when it is complete enough to be started."""
        return self.directory / "settings.json"

    @property
    def exists(self) -> bool:
        return self.settings.exists()

    @property
    def base(self) -> Path | None:
        """The tree below its own changes; None: the machine's /usr."""
        try:
            found = json.loads(self.settings.read_text())["base"]
            if not isinstance(found, str):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise VclusterError(f"{self.settings} is damaged",
                                'write {"schema": 1, "base": ""} into it, where base names the sandbox\'s own Debian, if it has one') from None  # fmt: skip
        return Path(found) if found else None

    def plan(self) -> Plan:
        """What its owner boots."""
        return Plan(f"sandbox-{self.name}", self.directory, self.base)

    def check_exists(self) -> None:
        if not self.exists:
            raise VclusterError(f"there is no sandbox {self.name}", f"gnt-vcluster sandbox status lists those there are, "
                                f"gnt-vcluster sandbox start {self.name} makes it")  # fmt: skip

    @property
    def is_owned(self) -> bool:
        """Whether a process owns it: it runs, starts or stops."""
        try:
            with open(self.lock) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def record(self, fd: int, leader: int) -> None:
        """For its owner: write into the lock's file who it is, and the PID 1 inside."""
        os.pwrite(fd, f"{os.getpid():<10} {leader:<10}\n".encode(), 0)

    def _recorded(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, ValueError):
            owner, leader = map(int, self.lock.read_text().split())
            if self.is_owned:
                return owner, leader
        return 0, 0

    @property
    def owner(self) -> int:
        """The process that owns it; 0 when nobody does."""
        return self._recorded()[0]

    @property
    def leader(self) -> int:
        """Its PID 1, as seen from here; 0 when it is not booted."""
        return self._recorded()[1]


def every() -> list[Sandbox]:
    """Those there are."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            Sandbox(path.name) for path in data_directory().iterdir()
            if _NAME.fullmatch(path.name) and Sandbox(path.name).exists
        )  # fmt: skip
    return []


# -- the user's manager --


def user_manager() -> dict[str, str] | None:
    """The environment in which systemctl --user reaches the user's systemd; None where there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not container.rootless() or not os.access(f"{runtime}/systemd/private", os.W_OK):
        return None
    return {**os.environ, "XDG_RUNTIME_DIR": runtime}


def _systemctl(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--user", *words], env=environment, capture_output=True, text=True)


def unit(sandbox: Sandbox) -> str:
    """The user unit that owns it: the package's, or one of its own where the data directory is not the one that would take."""
    if data_directory() == Path(_user().pw_dir, ".local/share/ganeti-vcluster"):
        return f"ganeti-vcluster-sandbox@{sandbox.name}.service"
    digest = hashlib.sha256(str(data_directory()).encode()).hexdigest()[:8]
    return f"ganeti-vcluster-sandbox-{digest}-{sandbox.name}.service"


def owner(sandbox: Sandbox) -> str:
    """The user unit that owns it now, or "process"."""
    environment = user_manager()
    if environment:
        state = _systemctl(environment, "show", "-P", "ActiveState", unit(sandbox)).stdout.strip()
        if state not in ("inactive", "failed", ""):
            return unit(sandbox)
    return "process"


def lingers() -> bool:
    """Whether the user's systemd outlives the last log-out."""
    return Path("/var/lib/systemd/linger", _user().pw_name).exists()


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        raise VclusterError(
            f"there is no user with the number {os.getuid()}", "it needs a name and subordinate IDs: useradd"
        ) from None


def user_name() -> str:
    return _user().pw_name


def _start_unit(sandbox: Sandbox, environment: dict[str, str]) -> None:
    name, begin = unit(sandbox), int(time.time())
    if "LoadState=loaded" in _systemctl(environment, "show", "-p", "LoadState", name).stdout:
        _systemctl(environment, "reset-failed", name)
        done = _systemctl(environment, "start", name)
    else:  # as units/user has it: another data directory, or the package is not installed
        done = subprocess.run(
            ["systemd-run", "--user", "--quiet", f"--unit={name}", "--property=Type=notify", "--property=Delegate=yes",
             "--property=KillMode=mixed", f"--property=TimeoutStopSec={STOP_TIMEOUT + 30}",
             f"--setenv=XDG_DATA_HOME={data_directory().parent}", "--collect", str(TOOLS / "sandbox"), sandbox.name],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        log = subprocess.run(["journalctl", "--user", "-q", "-n1", "-o", "cat", f"--since=@{begin}", f"--user-unit={name}", "-t", "sandbox"],
                             env=environment, capture_output=True, text=True)  # fmt: skip
        raise StepFailed(f"the sandbox {sandbox.name} does not start: {log.stdout.strip() or done.stderr.split(chr(10))[0]}",
                         f"journalctl --user -u {name}, and {sandbox.directory / 'console'}")  # fmt: skip


def _start_process(sandbox: Sandbox) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with open(sandbox.directory / "log", "wb") as log:
        subprocess.Popen(
            [str(TOOLS / "sandbox"), sandbox.name, str(write)], pass_fds=[write], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
        )  # fmt: skip
    os.close(write)
    with open(read) as told:
        answer = told.readline().strip()
    if answer != "ready":
        raise StepFailed(f"the sandbox {sandbox.name} does not start: {answer or 'its owner was killed'}",
                         f"look at {sandbox.directory / 'console'}")  # fmt: skip


def delegation_remedy() -> str:
    """The one command that gives this shell a control group of its own."""
    try:
        mount = container.all_groups()
    except container.ContainerError as err:
        return f"sudo {err.hint}"
    group = f"{mount}/gnt-vcluster-{user_name()}"
    # In double quotes, $$ is the shell in which this is typed.
    return (f'sudo sh -c "mkdir -p {group} && cd {group} && chown {os.getuid()} . cgroup.procs cgroup.subtree_control '
            '&& echo $$ >cgroup.procs"')  # fmt: skip


# -- life --


def start(sandbox: Sandbox, progress: Progress, suite: str = "", deb: str = "") -> bool:
    """Make it, if it does not exist, and boot it, if it does not run. Returns whether anything was to do."""
    if sandbox.exists and (suite or deb):
        raise UsageError(f"the sandbox {sandbox.name} exists: it keeps its system",
                         f"gnt-vcluster sandbox remove {sandbox.name}, or give another name")  # fmt: skip
    if settled(sandbox):
        _install(sandbox, progress)
        return False
    if not sandbox.exists:
        create(sandbox, progress, suite, deb)
    if sandbox.base and not sandbox.base.is_dir():
        raise VclusterError(f"the Debian of the sandbox {sandbox.name} is gone: {sandbox.base}",
                            f"gnt-vcluster sandbox remove {sandbox.name}, and start it anew")  # fmt: skip
    with progress.step(f"booting the sandbox {sandbox.name}"):
        environment = user_manager()
        if environment:
            _start_unit(sandbox, environment)
        else:
            _start_process(sandbox)
    if not sandbox.leader:
        if owner(sandbox) != "process":  # it runs, and nothing says where
            raise VclusterError(f"files of the sandbox {sandbox.name} were removed while it runs",
                                f"gnt-vcluster sandbox remove {sandbox.name}")  # fmt: skip
        raise StepFailed(f"the sandbox {sandbox.name} ended at once", f"look at {sandbox.directory / 'console'}")
    _install(sandbox, progress)
    return True


def settled(sandbox: Sandbox) -> int:
    """Its PID 1, or 0 when it does not run: once it neither starts nor stops, however long that takes."""
    deadline = time.monotonic() + STOP_TIMEOUT + 10
    while not (leader := sandbox.leader) and sandbox.is_owned and time.monotonic() < deadline:
        time.sleep(0.05)  # its owner has no event for us
    return leader


def create(sandbox: Sandbox, progress: Progress, suite: str, deb: str) -> None:
    """Make its directory. Raises VclusterError; then nothing is left."""
    if bool(suite) != bool(deb):
        raise UsageError("--suite and --deb go together", "a Debian of its own, and the package ganeti-vcluster for it")
    if suite:
        base = str(debian_trees.for_package(suite, Path(deb), cache_directory(), progress))
    else:
        base = ""
        if not Path("/usr/lib/ganeti-vcluster/manager").exists():
            raise VclusterError("the packages ganeti and ganeti-vcluster are not installed on this machine",
                                "install them, or give the sandbox a Debian of its own: --suite bookworm --deb FILE")  # fmt: skip
    try:
        sandbox.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        if deb:
            shutil.copyfile(deb, sandbox.directory / "package.deb")
        files.write(sandbox.settings, json.dumps({"schema": 1, "base": base}) + "\n")
    except OSError as err:
        # Only what is new: whatever else may be in the directory is somebody's.
        with contextlib.suppress(OSError):
            (sandbox.directory / "package.deb").unlink(missing_ok=True)
            sandbox.directory.rmdir()
        raise VclusterError(
            f"cannot make {sandbox.directory}: {err.strerror}",
            "make room, look at who may write there, or set XDG_DATA_HOME",
        ) from None


def _install(sandbox: Sandbox, progress: Progress) -> None:
    """Install the package into a tree of its own, once."""
    package = sandbox.directory / "package.deb"
    if not package.exists():
        return
    with progress.step(f"installing ganeti-vcluster in the sandbox {sandbox.name}"), open(package, "rb") as stream:
        script = (
            "cat >/root/ganeti-vcluster.deb && DEBIAN_FRONTEND=noninteractive "
            "apt-get install -qq -y --no-install-recommends /root/ganeti-vcluster.deb && rm /root/ganeti-vcluster.deb"
        )
        done = subprocess.run(container.enter(sandbox.leader, ["sh", "-c", script]), stdin=stream,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            raise StepFailed(f"apt-get has not installed {package}: {reason(done)}",
                             f"gnt-vcluster sandbox enter {sandbox.name}")  # fmt: skip
    package.unlink()


def stop(sandbox: Sandbox, progress: Progress) -> bool:
    """Power it off and wait for its end. Returns whether it ran."""
    environment, name = user_manager(), owner(sandbox)
    if name == "process" and not sandbox.is_owned:
        sandbox.check_exists()
        return False
    with progress.step(f"stopping the sandbox {sandbox.name}"):
        if environment and name != "process":
            _systemctl(environment, "stop", name)
        elif pid := sandbox.owner:
            os.kill(pid, signal.SIGTERM)
        if sandbox.directory.exists():
            with _owned(sandbox):
                pass
    return True


@contextlib.contextmanager
def _owned(sandbox: Sandbox) -> Iterator[None]:
    """Wait until nobody owns it, and keep it so."""
    fd = os.open(sandbox.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove(sandbox: Sandbox, progress: Progress, with_base: bool = False) -> None:
    """Stop it and remove all its files, those of users that are others outside, too; with its Debian, if no other has it."""
    base = None
    if with_base and sandbox.exists:
        with contextlib.suppress(VclusterError):  # damaged, which is no reason to keep it
            base = sandbox.base
    if sandbox.is_owned or owner(sandbox) != "process":
        stop(sandbox, progress)
    if not sandbox.directory.exists():
        return
    with progress.step(f"removing the sandbox {sandbox.name}"), _owned(sandbox):
        debian_trees.discard(sandbox.directory)
    files.remove_empty(data_directory())
    if base and not any(other.base == base for other in every()):
        with progress.step(f"removing {base}"):
            debian_trees.remove(base)
        files.remove_empty(cache_directory())


def command(sandbox: Sandbox, argv: Sequence[str], variables: Mapping[str, str] | None = None) -> list[str]:
    """A command line that runs `argv` inside. Raises VclusterError when the sandbox does not run."""
    sandbox.check_exists()
    leader = settled(sandbox)
    if not leader:
        raise VclusterError(f"the sandbox {sandbox.name} does not run", f"gnt-vcluster sandbox start {sandbox.name}")
    # What is run for somebody ends with him.
    argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    kept = {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES", "COLORTERM") if name in os.environ}
    return container.enter(leader, argv, {**kept, **(variables or {})})
