# SPDX-License-Identifier: BSD-2-Clause
"""Debian trees, made by mmdebstrap with or without root, and cached for all containers."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ganeti_vc.base import process
from ganeti_vc.base.errors import StepFailed, UsageError, VclusterError
from ganeti_vc.base.progress import Progress
from ganeti_vc.sandbox import container

SUITES = ("bookworm", "trixie")
#: What a tree for the package holds besides the package's dependencies.
PACKAGES = ("systemd-sysv", "ganeti-testsuite", "fping", "procps", "less", "lsof", "net-tools", "man-db",
            "bash-completion", "logrotate", "python3-matplotlib")  # fmt: skip


def for_package(suite: str, deb: Path, cache: Path, progress: Progress) -> Path:
    """Return a Debian tree with what the package depends on. Raises VclusterError."""
    if not deb.is_file():
        raise UsageError(f"there is no file {deb}", "--deb is the package ganeti-vcluster, as a file")
    if not shutil.which("mmdebstrap"):
        raise VclusterError("mmdebstrap is missing", "apt-get install mmdebstrap")
    done = subprocess.run(["dpkg-deb", "--field", str(deb), "Depends"], capture_output=True, text=True)
    if done.returncode:
        raise VclusterError(f"{deb} is not a package", "--deb is the package ganeti-vcluster, as a file")
    depends = [re.split(r"[ (|:]", word.strip())[0] for word in done.stdout.split(",") if word.strip()]
    return debian(suite, sorted({*depends, *PACKAGES}), cache, progress)


def debian(suite: str, packages: Sequence[str], cache: Path, progress: Progress) -> Path:
    """Return a cached tree of a suite with packages; making it takes 40 s and 1 GB. Raises StepFailed."""
    key = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    target = cache / f"{suite}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(_lock(cache, suite), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            discard(partial)
            with progress.step(f"making a Debian {suite} in {target}"):
                done = subprocess.run(_bootstrap(suite, packages, partial), capture_output=True, text=True)
                if done.returncode:
                    discard(partial)
                    raise StepFailed(
                        f"mmdebstrap has not made a Debian {suite}: {process.reason(done)}", "is the network there?"
                    )
            partial.rename(target)
    return target


def _bootstrap(suite: str, packages: Sequence[str], target: Path) -> list[str]:
    # apt-get inside must work without a network: keep the package lists.
    make = ["mmdebstrap", "--quiet", "--variant=minbase", "--skip=cleanup/apt", f"--include={','.join(packages)}"]
    if not container.rootless():
        return [*make, "--mode=root", suite, str(target)]
    # Root is the first subordinate ID there, and the user here; an archive has neither. A user cannot make device nodes.
    target.mkdir()
    unpack = container.in_own_mapping("tar", "-C", str(target), "--numeric-owner", "--exclude=./dev/*", "-xpf", "-")
    line = f"{shlex.join([*make, '--mode=unshare', '--format=tar', suite, '-'])} | {shlex.join(unpack)}"
    return ["bash", "-o", "pipefail", "-c", line]


def discard(directory: Path) -> None:
    """Remove a directory with files of subordinate users. Raises StepFailed."""
    done = subprocess.run(container.in_own_mapping("rm", "-rf", "--one-file-system", str(directory)),
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        raise StepFailed(
            f"cannot remove {directory}: {process.reason(done)}",
            "fix that, then repeat the command",
        )


def suite_of(tree: Path) -> str:
    return tree.name.split("-")[0]


def remove(tree: Path) -> None:
    """Remove a tree from its cache. Raises StepFailed."""
    discard(tree)
    _lock(tree.parent, suite_of(tree)).unlink(missing_ok=True)


def _lock(cache: Path, suite: str) -> Path:
    return cache / f"{suite}.lock"
