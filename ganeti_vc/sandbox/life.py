# SPDX-License-Identifier: BSD-2-Clause
"""The life of a sandbox: made, started, entered, stopped, removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from ganeti_vc.base import files
from ganeti_vc.base.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.base.process import reason
from ganeti_vc.base.progress import Progress
from ganeti_vc.sandbox import container, debian_trees
from ganeti_vc.sandbox.owner import owner_unit, start_process, start_unit, systemctl_user, user_manager
from ganeti_vc.sandbox.sandboxes import STOP_TIMEOUT, Sandbox, all_sandboxes, cache_directory, data_directory


def start(sandbox: Sandbox, progress: Progress, suite: str = "", deb: str = "") -> bool:
    """Make the sandbox if it does not exist, and boot it if it does not run. Return False if it ran already.

    Raises VclusterError.
    """
    if sandbox.exists and (suite or deb):
        raise UsageError(
            f"the sandbox {sandbox.name} exists: it keeps its system",
            f"gnt-vcluster sandbox remove {sandbox.name}, or give another name",
        )
    if settled(sandbox):
        _install(sandbox, progress)
        return False
    if not sandbox.exists:
        create(sandbox, progress, suite, deb)
    if sandbox.base and not sandbox.base.is_dir():
        raise VclusterError(
            f"the Debian of the sandbox {sandbox.name} is gone: {sandbox.base}",
            f"gnt-vcluster sandbox remove {sandbox.name}, and start it again",
        )
    with progress.step(f"booting the sandbox {sandbox.name}"):
        environment = user_manager()
        if environment:
            start_unit(sandbox, environment)
        else:
            start_process(sandbox)
    if not sandbox.leader:
        if owner_unit(sandbox) != "process":  # it runs, but its lock's file is gone
            raise VclusterError(
                f"files of the sandbox {sandbox.name} were removed while it runs",
                f"gnt-vcluster sandbox remove {sandbox.name}",
            )
        raise StepFailed(f"the sandbox {sandbox.name} ended at once", f"look at {sandbox.directory / 'console'}")
    _install(sandbox, progress)
    return True


def settled(sandbox: Sandbox) -> int:
    """Wait until the sandbox neither starts nor stops. Return the pid of its PID 1, or 0 when it does not run."""
    deadline = time.monotonic() + STOP_TIMEOUT + 10
    while not (leader := sandbox.leader) and sandbox.is_owned and time.monotonic() < deadline:
        time.sleep(0.05)  # its owner has no event for us
    return leader


def create(sandbox: Sandbox, progress: Progress, suite: str, deb: str) -> None:
    """Make the sandbox's directory. Raises VclusterError; then nothing is left of it."""
    if bool(suite) != bool(deb):
        raise UsageError("--suite and --deb go together", "a Debian of its own, and the package ganeti-vcluster for it")
    if suite:
        base = str(debian_trees.for_package(suite, Path(deb), cache_directory(), progress))
    else:
        base = ""
        if not Path("/usr/lib/ganeti-vcluster/manager").exists():
            raise VclusterError(
                "the packages ganeti and ganeti-vcluster are not installed on this machine",
                "install them, or give the sandbox a Debian of its own: --suite bookworm --deb FILE",
            )
    try:
        sandbox.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        if deb:
            shutil.copyfile(deb, sandbox.directory / "package.deb")
        files.write(sandbox.settings, json.dumps({"schema": 1, "base": base}) + "\n")
    except OSError as err:
        # Only what is new: the user may have other files in the directory.
        with contextlib.suppress(OSError):
            (sandbox.directory / "package.deb").unlink(missing_ok=True)
            sandbox.directory.rmdir()
        raise VclusterError(
            f"cannot make {sandbox.directory}: {err.strerror}",
            "make room, look at who may write there, or set XDG_DATA_HOME",
        ) from None


def _install(sandbox: Sandbox, progress: Progress) -> None:
    """Install the package into a sandbox with a Debian of its own, once. Raises StepFailed."""
    package = sandbox.directory / "package.deb"
    if not package.exists():
        return
    with progress.step(f"installing ganeti-vcluster in the sandbox {sandbox.name}"), open(package, "rb") as stream:
        script = (
            "cat >/root/ganeti-vcluster.deb && DEBIAN_FRONTEND=noninteractive "
            "apt-get install -qq -y --no-install-recommends /root/ganeti-vcluster.deb && rm /root/ganeti-vcluster.deb"
        )
        done = subprocess.run(container.enter(sandbox.leader, ["sh", "-c", script]), stdin=stream,
                              capture_output=True, text=True, start_new_session=True)  # fmt: skip
        if done.returncode:
            raise StepFailed(
                f"apt-get has not installed {package}: {reason(done)}", f"gnt-vcluster sandbox enter {sandbox.name}"
            )
    package.unlink()


def stop(sandbox: Sandbox, progress: Progress) -> bool:
    """Power the sandbox off and wait for its end. Return whether it ran. Raises VclusterError if it does not exist."""
    environment, name = user_manager(), owner_unit(sandbox)
    if name == "process" and not sandbox.is_owned:
        sandbox.check_exists()
        return False
    with progress.step(f"stopping the sandbox {sandbox.name}"):
        if environment and name != "process":
            systemctl_user(environment, "stop", name)
        elif pid := sandbox.owner_pid:
            os.kill(pid, signal.SIGTERM)
        if sandbox.directory.exists():
            with _owned(sandbox):
                pass
    return True


@contextlib.contextmanager
def _owned(sandbox: Sandbox) -> Iterator[None]:
    """Wait until no process owns the sandbox, and keep others from owning it."""
    fd = os.open(sandbox.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove(sandbox: Sandbox, progress: Progress, with_base: bool = False) -> None:
    """Stop the sandbox and remove all its files, also those of subordinate users.

    `with_base`: and its Debian, if no other sandbox uses that. Raises StepFailed.
    """
    base = None
    if with_base and sandbox.exists:
        with contextlib.suppress(VclusterError):  # damaged; it goes all the same
            base = sandbox.base
    if sandbox.is_owned or owner_unit(sandbox) != "process":
        stop(sandbox, progress)
    if not sandbox.directory.exists():
        return
    with progress.step(f"removing the sandbox {sandbox.name}"), _owned(sandbox):
        debian_trees.discard(sandbox.directory)
    files.remove_empty(data_directory())
    if base and not any(other.base == base for other in all_sandboxes()):
        with progress.step(f"removing {base}"):
            debian_trees.remove(base)
        files.remove_empty(cache_directory())


def run(
    sandbox: Sandbox, argv: Sequence[str], *, check: bool = True, output: IO[bytes] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    """Run a program inside, without a terminal. With `check`, raises StepFailed with the program's own words."""
    done = subprocess.run(command(sandbox, argv), stdin=subprocess.DEVNULL, stdout=output,
                          stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    if check and done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise StepFailed(f"{argv[0]} in the sandbox {sandbox.name} ended with {done.returncode}: {said}")
    return done


def command(sandbox: Sandbox, argv: Sequence[str], variables: Mapping[str, str] | None = None) -> list[str]:
    """Return a command line that runs `argv` inside. Raises VclusterError when the sandbox does not run."""
    sandbox.check_exists()
    leader = settled(sandbox)
    if not leader:
        raise VclusterError(f"the sandbox {sandbox.name} does not run", f"gnt-vcluster sandbox start {sandbox.name}")
    # A command that is run for a process ends with that process.
    argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    kept = {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES", "COLORTERM") if name in os.environ}
    return container.enter(leader, argv, {**kept, **(variables or {})})
