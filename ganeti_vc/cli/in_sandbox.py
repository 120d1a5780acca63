# SPDX-License-Identifier: BSD-2-Clause
"""Running a command of gnt-vcluster inside a sandbox, for a user who is not root and where PID 1 is not systemd."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.base.progress import PROGRAM_VARIABLE, Progress
from ganeti_vc.cli import output
from ganeti_vc.cli.arguments import Split
from ganeti_vc.sandbox import life, owner, requirements, sandboxes, terminal
from ganeti_vc.sandbox.sandboxes import Sandbox

if TYPE_CHECKING:
    from ganeti_vc.model.feature import Feature

PROGRAM = "/usr/bin/gnt-vcluster"

#: Options that name a file to write. The file is written inside, and copied to its place outside.
FILES = ("html", "save", "junit", "log")


def chosen(args: argparse.Namespace) -> tuple[Sandbox | None, str]:
    """Return the sandbox in which a command runs, and the reason where the user has not chosen it; None: it runs here.

    Raises UsageError.
    """
    if args.sandbox is not None and args.command == "sandbox":
        raise UsageError(
            "--sandbox does not go together with this command", f"gnt-vcluster sandbox {args.action} {args.sandbox}"
        )
    if args.sandbox is not None:
        return Sandbox(args.sandbox), ""
    if args.command == "sandbox" or getattr(args, "compare", None):
        return None, ""
    if os.geteuid() != 0:
        return Sandbox(sandboxes.DEFAULT), "you are not root"
    if not os.path.isdir("/run/systemd/system"):
        return Sandbox(sandboxes.DEFAULT), "PID 1 is not systemd"
    return None, ""


def run_in_sandbox(box: Sandbox, reason: str, args: argparse.Namespace, starts: bool) -> int:
    """Run gnt-vcluster inside. Returns its exit status, unless this process becomes that one.

    `starts`: the command boots a sandbox that does not run. Raises VclusterError.
    """
    split: Split = args.split
    progress = Progress(quiet=getattr(args, "json", False) and not sys.stderr.isatty())
    if reason:
        progress.say(f"{reason}: this works in the sandbox {box.name} (gnt-vcluster sandbox --help)")
    if args.command == "doctor":
        return _doctor(box, args, split.words)
    if not box.leader and starts:
        if getattr(args, "dry_run", False):
            verb = "boot" if box.exists else "make and boot"
            return output.print_dry_run([f"{verb} the sandbox {box.name}"], args)
        check(box)
        life.start(box, progress)
        notice(box, progress)
    variables = {} if reason else {PROGRAM_VARIABLE: f"gnt-vcluster --sandbox={box.name}"}
    wanted = {name: Path(value).absolute() for name in FILES if (value := getattr(args, name, None))}
    if not wanted:
        return terminal.run(life.command(box, [PROGRAM, *split.words, *split.behind], variables))
    return _run_and_bring_out(box, split, variables, wanted)


def _run_and_bring_out(box: Sandbox, split: Split, variables: Mapping[str, str], wanted: Mapping[str, Path]) -> int:
    """Run gnt-vcluster inside, and copy the files that it writes. `wanted`: their places outside, by option.

    Programs of the sandbox copy: from outside, a link that was made inside would lead to a file of the machine.
    """
    place = f"/var/tmp/gnt-vcluster-{secrets.token_hex(8)}"
    options = [word for name in wanted for word in (f"--{name}", f"{place}/{name}")]
    line = life.command(box, [PROGRAM, *split.words, *options, *split.behind], variables)
    life.run(box, ["mkdir", "--mode=700", place])
    try:
        status = terminal.run_and_return(line)
        for name, path in wanted.items():
            if life.run(box, ["test", "-f", f"{place}/{name}"], check=False).returncode == 0:
                with open(path, "wb") as target:
                    life.run(box, ["cat", f"{place}/{name}"], output=target)
        return status
    finally:
        with contextlib.suppress(VclusterError):  # it has been stopped meanwhile
            life.run(box, ["rm", "-rf", place])


def _doctor(box: Sandbox, args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Show what the machine has for sandboxes, then what the sandbox, if it runs, has for clusters."""
    features = list(requirements.read())
    missing = [feature for feature in features if feature.state == "missing"]
    line = [PROGRAM, *argv]
    runs, status = box.exists and box.leader, 0
    if args.json:
        done = life.run(box, line, check=False) if runs else None
        inside, status = (json.loads(done.stdout), done.returncode) if done and done.stdout else (None, 0)
        output.print_json({"rootless": [asdict(one) | {"state": one.state} for one in features], "inside": inside})
    else:
        _print(features, args)
        if runs:
            status = terminal.run_and_return(life.command(box, line))
    if missing:
        more = f", and {len(missing) - 1} more" if missing[1:] else ""
        raise VclusterError(f"{missing[0].what}: {missing[0].word}{more}", missing[0].remedy)
    return status


def _print(features: Sequence[Feature], args: argparse.Namespace) -> None:
    fields = {"what": "What", "present": "Present", "state": "State", "remedy": "Remedy"}
    rows = [{"what": one.what, "present": one.word, "state": one.state, "remedy": "" if one.there else one.remedy}
            for one in features]  # fmt: skip
    output.print_table(fields, rows, not args.no_headers, args.separator)
    sys.stdout.flush()


def check(box: Sandbox) -> None:
    """Raise VclusterError if this machine lacks something that booting the sandbox needs."""
    if os.geteuid() == 0:
        if not shutil.which("systemd-nspawn"):
            raise VclusterError("systemd-nspawn is missing", "apt-get install systemd-container")
        return
    for one in requirements.read():
        if one.state == "missing" and one.key != "packages":
            raise VclusterError(f"{one.what}: {one.word}", one.remedy)


def notice(box: Sandbox, progress: Progress) -> None:
    """Tell a user whose systemd ends at log-out that the sandbox ends then, too."""
    if owner.user_manager() and not owner.lingers():
        progress.say(
            "The sandbox ends when you log out. To keep it: sudo loginctl enable-linger; "
            f"to have it after a reboot: systemctl --user enable {owner.unit_name(box)}"
        )
