# SPDX-License-Identifier: BSD-2-Clause
"""Having tools/seed write nodes and instances into the stopped cluster's configuration."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from ganeti_vc.base import constants
from ganeti_vc.base.errors import StepFailed
from ganeti_vc.base.process import BASE_ENVIRONMENT
from ganeti_vc.model import names

if TYPE_CHECKING:
    from ganeti_vc.model.names import NodeId


def seed(master: NodeId, what: dict[str, Any]) -> None:
    """Write it. The master's daemons must be stopped. Raises StepFailed; then nothing is changed."""
    # With the node's variables, but not in its view: that hides the other nodes' files.
    environment = {"GANETI_ROOTDIR": str(master.rootdir), "GANETI_HOSTNAME": master.name,
                   "PYTHONPATH": constants.GANETI_PYTHON}  # fmt: skip
    # And not longer than this command: the next one would find it at work.
    done = subprocess.run(["setpriv", "--pdeathsig", "KILL", "/usr/bin/python3", f"{names.LIB_DIR}/seed"], input=json.dumps(what), capture_output=True,
                          text=True, env={**BASE_ENVIRONMENT, **environment})  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise StepFailed(f"the configuration could not be written: {last[0]}", "the cluster is as it was")
