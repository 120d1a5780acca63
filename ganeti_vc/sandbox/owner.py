# SPDX-License-Identifier: BSD-2-Clause
"""Who owns a running sandbox: a unit of the user's systemd, or a process."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
import time
from pathlib import Path

from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.sandbox import container
from ganeti_vc.sandbox.container import tool
from ganeti_vc.sandbox.sandboxes import STOP_TIMEOUT, Sandbox, data_directory


def user_manager() -> dict[str, str] | None:
    """Return the environment in which systemctl --user reaches the user's systemd; None where there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not container.rootless() or not os.access(f"{runtime}/systemd/private", os.W_OK):
        return None
    return {**os.environ, "XDG_RUNTIME_DIR": runtime}


def systemctl_user(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", "--user", *words], env=environment, capture_output=True, text=True)


def unit_name(sandbox: Sandbox) -> str:
    """Return the name of its user unit: that of the package, or another one for a data directory of the user's choice."""
    if data_directory() == Path(_user().pw_dir, ".local/share/ganeti-vcluster"):
        return f"ganeti-vcluster-sandbox@{sandbox.name}.service"
    digest = hashlib.sha256(str(data_directory()).encode()).hexdigest()[:8]
    return f"ganeti-vcluster-sandbox-{digest}-{sandbox.name}.service"


def owner_unit(sandbox: Sandbox) -> str:
    """Return the user unit that owns it now, or "process"."""
    environment = user_manager()
    if environment:
        state = systemctl_user(environment, "show", "-P", "ActiveState", unit_name(sandbox)).stdout.strip()
        if state not in ("inactive", "failed", ""):
            return unit_name(sandbox)
    return "process"


def lingers() -> bool:
    """Tell whether the user's systemd goes on after the last log-out."""
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


def start_unit(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Start the sandbox in a user unit, and wait until it is booted. Raises StepFailed."""
    name, begin = unit_name(sandbox), int(time.time())
    if "LoadState=loaded" in systemctl_user(environment, "show", "-p", "LoadState", name).stdout:
        systemctl_user(environment, "reset-failed", name)
        done = systemctl_user(environment, "start", name)
    else:  # the properties of units/user, for another data directory or without the package
        done = subprocess.run(
            ["systemd-run", "--user", "--quiet", f"--unit={name}", "--property=Type=notify", "--property=Delegate=yes",
             "--property=KillMode=mixed", f"--property=TimeoutStopSec={STOP_TIMEOUT + 30}",
             f"--setenv=XDG_DATA_HOME={data_directory().parent}", "--collect", str(tool("sandbox")), sandbox.name],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        log = subprocess.run(["journalctl", "--user", "-q", "-n1", "-o", "cat", f"--since=@{begin}", f"--user-unit={name}", "-t", "sandbox"],
                             env=environment, capture_output=True, text=True)  # fmt: skip
        raise StepFailed(
            f"the sandbox {sandbox.name} does not start: {log.stdout.strip() or done.stderr.split(chr(10))[0]}",
            f"journalctl --user -u {name}, and {sandbox.directory / 'console'}",
        )


def start_process(sandbox: Sandbox) -> None:
    """Start the sandbox in a session of its own, and wait until it is booted. Raises StepFailed."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    with open(sandbox.directory / "log", "wb") as log:
        subprocess.Popen(
            [str(tool("sandbox")), sandbox.name, str(write)],
            pass_fds=[write],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )
    os.close(write)
    with open(read) as pipe:
        answer = pipe.readline().strip()
    if answer != "ready":
        raise StepFailed(
            f"the sandbox {sandbox.name} does not start: {answer or 'its owner was killed'}",
            f"look at {sandbox.directory / 'console'}",
        )


def delegation_remedy() -> str:
    """Return the command that gives this shell a control group of its own."""
    try:
        mount = container.all_groups()
    except container.ContainerError as err:
        return f"sudo {err.hint}"
    group = f"{mount}/gnt-vcluster-{user_name()}"
    # In double quotes, $$ is the shell in which this is typed.
    return (f'sudo sh -c "mkdir -p {group} && cd {group} && chown {os.getuid()} . cgroup.procs cgroup.subtree_control '
            '&& echo $$ >cgroup.procs"')  # fmt: skip
