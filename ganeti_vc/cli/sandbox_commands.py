# SPDX-License-Identifier: BSD-2-Clause
"""sandbox: start, enter, exec, status, stop, remove, forward."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ganeti_vc.base.errors import UsageError, VclusterError
from ganeti_vc.cli import in_sandbox, output
from ganeti_vc.sandbox import container, debian_trees, forwarding, life, owner, sandboxes, terminal
from ganeti_vc.sandbox.sandboxes import Sandbox

if TYPE_CHECKING:
    pass

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
    """Return the memory of its control group, where the controller is delegated."""
    with contextlib.suppress(OSError, container.ContainerError):
        for parent in container.group_of(leader).parents:
            if parent.name.startswith("gnt-vcluster-"):
                return f"{int((parent / 'memory.current').read_text()) / 2**20:.0f}M"
    return None


def _start(box: Sandbox, args: argparse.Namespace) -> int:
    progress = output.progress(args)
    if not box.leader:
        in_sandbox.check(box)
    started = life.start(box, progress, args.suite or "", args.deb or "")
    if args.json:
        output.print_json(_row(box))
    else:
        print(f"The sandbox {box.name} {'runs' if started else 'runs already'}: gnt-vcluster --sandbox={box.name} up")
        in_sandbox.notice(box, progress)
    return 0


def _enter(box: Sandbox, args: argparse.Namespace) -> int:
    return terminal.run(life.command(box, ["bash", "--login"]))


def _exec(box: Sandbox, args: argparse.Namespace) -> int:
    if not args.remainder:
        raise UsageError("no command is given", "gnt-vcluster sandbox exec [NAME] -- COMMAND [ARGUMENT...]")
    return terminal.run(life.command(box, args.remainder))


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
            raise UsageError(f"removing the sandbox {box.name} removes its clusters", "add --yes")
        if input(f"Remove the sandbox {box.name} with all its clusters ({box.directory})? [y/N] ").lower() != "y":
            raise VclusterError("nothing was changed")
    life.remove(box, output.progress(args), args.base)
    if args.json:
        output.print_json({"sandbox": box.name, "removed": True})
    return 0


def _forward(box: Sandbox, args: argparse.Namespace) -> int:
    return forwarding.forward(box, args.listen, args.target)


ACTIONS: dict[str, Callable[[Sandbox, argparse.Namespace], int]] = {
    "start": _start, "enter": _enter, "exec": _exec, "status": _status, "stop": _stop, "remove": _remove,
    "forward": _forward,
}  # fmt: skip


def do_sandbox(args: argparse.Namespace) -> int:
    return ACTIONS[args.action](Sandbox(sandboxes.DEFAULT if args.box is None else args.box), args)
