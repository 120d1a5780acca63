# SPDX-License-Identifier: BSD-2-Clause
"""Becoming a command on a node, with the node's variables and its view of the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ganeti_vc.base.signals import become
from ganeti_vc.node import view

#: The exit status of an ssh without an answer.
NO_ANSWER = 255
#: As a shell gives them.
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def main(argv: Sequence[str]) -> int:
    """Entry point of tools/nodes/enter: [--if-on] NODE COMMAND [ARG...]. Returns only when the command cannot be run.

    With --if-on, the node must have power.
    """
    if_on = argv[0] == "--if-on"
    node, *command = argv[1:] if if_on else argv
    if if_on and not view.is_on(node):
        print(f"{node} is powered off (gnt-vcluster start {node})", file=sys.stderr)
        return NO_ANSWER
    try:
        environment = {**os.environ, **view.environment(node)}
        view.enter(node)
    except FileNotFoundError:
        print(f"{node} is not set up on this machine now (systemctl start ganeti-vcluster.service)", file=sys.stderr)
        return 1
    try:
        become(command, environment)
    except OSError as err:
        print(f"cannot run {command[0]}: {err.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(err, FileNotFoundError) else NOT_EXECUTABLE
