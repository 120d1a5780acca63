# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster at the edge of a sandbox: the commands for sandboxes, and all others run_in_sandbox one."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.base.progress import PROGRAM_VARIABLE, Progress
from ganeti_vc.cli import output
from ganeti_vc.sandbox import container, debian_trees, forwarding, life, owner, requirements, sandboxes
from ganeti_vc.sandbox.sandboxes import Sandbox

if TYPE_CHECKING:
    from ganeti_vc.model.feature import Feature

PROGRAM = "/usr/bin/gnt-vcluster"

#: Commands that start the sandbox; the others have nothing to do in one that does not run.
STARTERS = ("up", "create", "start", "restart", "scale", "run", "qa", "bench")
#: Options that name a file to write. It is written inside, and brought out.
FILES = ("html", "save", "junit", "log")


def chosen(args: argparse.Namespace) -> tuple[Sandbox | None, str]:
    """The sandbox a command goes run_in_sandbox, and why, where nobody has said so; None: it works right here."""
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


def run_in_sandbox(
    box: Sandbox, reason: str, args: argparse.Namespace, argv: Sequence[str], behind: Sequence[str]
) -> int:
    """Run gnt-vcluster inside; `behind` is what stands behind a `--`, with it."""
    progress = Progress(quiet=getattr(args, "json", False) and not sys.stderr.isatty())
    if reason:
        progress.say(f"{reason}: this works in the sandbox {box.name} (gnt-vcluster sandbox --help)")
    if args.command == "doctor":
        return _doctor(box, args, argv)
    if not box.leader and args.command in STARTERS:
        if getattr(args, "dry_run", False):
            lines = [f"{'boot' if box.exists else 'make and boot'} the sandbox {box.name}"]
            if args.json:
                output.print_json({"dry_run": True, "changes": lines})
            else:
                print(f"would {lines[0]}")
            return 0
        check(box)
        life.start(box, progress)
        _notice(box, progress)
    variables = {} if reason else {PROGRAM_VARIABLE: f"gnt-vcluster --sandbox={box.name}"}
    wanted = {name: Path(value).absolute() for name in FILES if (value := getattr(args, name, None))}
    if not wanted:
        sys.stdout.flush()
        line = life.command(box, [PROGRAM, *argv, *behind], variables)
        os.execvp(line[0], line)
    place = f"/var/tmp/gnt-vcluster-{secrets.token_hex(8)}"
    outside = Path(f"/proc/{box.leader}/root{place}")
    options = [word for name in wanted for word in (f"--{name}", f"{place}/{name}")]
    line = life.command(box, [PROGRAM, *argv, *options, *behind], variables)
    outside.mkdir()
    try:
        status = subprocess.run(line).returncode
        for name, path in wanted.items():
            if (outside / name).exists():
                shutil.copyfile(outside / name, path)
        return status
    finally:
        shutil.rmtree(outside, ignore_errors=True)


def _doctor(box: Sandbox, args: argparse.Namespace, argv: Sequence[str]) -> int:
    """What the machine has for sandboxes, then what the sandbox has for clusters, if it runs."""
    found = list(requirements.read())
    missing = [one for one in found if one.state == "missing"]
    done = None
    if box.exists and box.leader:
        capture = subprocess.PIPE if args.json else None
        if not args.json:
            _print(found, args)
        done = subprocess.run(life.command(box, [PROGRAM, *argv]), stdout=capture, text=True)
    if args.json:
        inside = json.loads(done.stdout) if done and done.stdout else None
        output.print_json({"rootless": [asdict(one) | {"state": one.state} for one in found], "inside": inside})
    elif done is None:
        _print(found, args)
    if missing:
        more = f", and {len(missing) - 1} more" if missing[1:] else ""
        raise VclusterError(f"{missing[0].what}: {missing[0].word}{more}", missing[0].remedy)
    return done.returncode if done else 0


def _print(found: Sequence[Feature], args: argparse.Namespace) -> None:
    fields = {"what": "What", "present": "Present", "state": "State", "remedy": "Remedy"}
    rows = [{"what": one.what, "present": one.word, "state": one.state, "remedy": "" if one.there else one.remedy}
            for one in found]  # fmt: skip
    output.print_table(fields, rows, not args.no_headers, args.separator)
    sys.stdout.flush()


# -- gnt-vcluster sandbox --

FIELDS = {
    "sandbox": "Sandbox",
    "state": "State",
    "system": "System",
    "pid": "PID",
    "owner": "Owner",
    "memory": "Memory",
    "disk": "Disk",
}


def _row(box: Sandbox) -> dict[str, object]:
    leader = box.leader
    state = "running" if leader else "changing" if box.is_owned else "stopped"
    try:
        system = debian_trees.suite_of(box.base) if box.base else "host"
    except VclusterError:
        system = "damaged"
    return {
        "sandbox": box.name,
        "state": state,
        "system": system,
        "pid": leader or None,
        "owner": owner.owner_unit(box) if leader else None,
        "memory": _memory(leader) if leader else None,
        "disk": _disk(box.directory),
    }


def _disk(directory: Path) -> str:
    done = subprocess.run(container.in_own_mapping("du", "-sh", str(directory)), capture_output=True, text=True)
    return done.stdout.split()[0] if done.stdout else "-"


def _memory(leader: int) -> str | None:
    """What its control group has, where the controller is delegated."""
    with contextlib.suppress(OSError, container.ContainerError):
        for parent in container.group_of(leader).parents:
            if parent.name.startswith("gnt-vcluster-"):
                return f"{int((parent / 'memory.current').read_text()) / 2**20:.0f}M"
    return None


def check(box: Sandbox) -> None:
    """Raises VclusterError when this machine has not what booting it needs."""
    if os.geteuid() == 0:
        if not shutil.which("systemd-nspawn"):
            raise VclusterError("systemd-nspawn is missing", "apt-get install systemd-container")
        return
    for one in requirements.read():
        if one.state == "missing" and one.key != "packages":
            raise VclusterError(f"{one.what}: {one.word}", one.remedy)


def _notice(box: Sandbox, progress: Progress) -> None:
    if owner.user_manager() and not owner.lingers():
        progress.say("The sandbox ends when you log out. To keep it: sudo loginctl enable-linger; "
                     f"to have it after a reboot: systemctl --user enable {owner.unit_name(box)}")  # fmt: skip


def _start(box: Sandbox, args: argparse.Namespace) -> int:
    progress = output.progress(args)
    if not box.leader:
        check(box)
    started = life.start(box, progress, args.suite or "", args.deb or "")
    if args.json:
        output.print_json(_row(box))
    else:
        print(f"The sandbox {box.name} {'runs' if started else 'runs already'}: gnt-vcluster --sandbox={box.name} up")
        _notice(box, progress)
    return 0


def _enter(box: Sandbox, args: argparse.Namespace) -> int:
    line = life.command(box, ["bash", "--login"])
    os.execvp(line[0], line)


def _exec(box: Sandbox, args: argparse.Namespace) -> int:
    if not args.remainder:
        raise UsageError("no command is given", "gnt-vcluster sandbox exec [NAME] -- COMMAND [ARGUMENT...]")
    line = life.command(box, args.remainder)
    os.execvp(line[0], line)


def _status(box: Sandbox, args: argparse.Namespace) -> int:
    if args.box is not None:
        box.check_exists()
    rows = [_row(one) for one in (sandboxes.all_sandboxes() if args.box is None else [box])]
    if args.json:
        output.print_json({"sandboxes": rows})
    else:
        output.print_listing(FIELDS, rows, args)
    return 0 if args.box is None or rows[0]["state"] == "running" else 1


def _stop(box: Sandbox, args: argparse.Namespace) -> int:
    stopped = life.stop(box, output.progress(args))
    if args.json:
        output.print_json({"sandbox": box.name, "stopped": stopped})
    return 0


def _remove(box: Sandbox, args: argparse.Namespace) -> int:
    if not box.directory.exists() and owner.owner_unit(box) == "process":
        box.check_exists()
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"removing the sandbox {box.name} removes its clusters", "say --yes")
        if input(f"Remove the sandbox {box.name} with all its clusters ({box.directory})? [y/N] ").lower() != "y":
            raise VclusterError("nothing was changed")
    life.remove(box, output.progress(args), args.base)
    if args.json:
        output.print_json({"sandbox": box.name, "removed": True})
    return 0


def _forward(box: Sandbox, args: argparse.Namespace) -> int:
    forwarding.forward(box, args.listen, args.target)
    return 1


ACTIONS: dict[str, Callable[[Sandbox, argparse.Namespace], int]] = {
    "start": _start, "enter": _enter, "exec": _exec, "status": _status, "stop": _stop, "remove": _remove,
    "forward": _forward,
}  # fmt: skip


def do_sandbox(args: argparse.Namespace) -> int:
    return ACTIONS[args.action](Sandbox(sandboxes.DEFAULT if args.box is None else args.box), args)
