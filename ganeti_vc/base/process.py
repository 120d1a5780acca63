# SPDX-License-Identifier: BSD-2-Clause
"""Running other programs: argv lists only, output kept, failures that say what was run."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from ganeti_vc.base.errors import StepFailed

log = logging.getLogger(__name__)

#: A line with one of these says what went wrong.
_TELLING = re.compile("error|failure|cannot", re.IGNORECASE)

#: The environment of the programs that we start: nothing of the caller's leaks into a node.
BASE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
}


def run(
    argv: Sequence[str],
    *,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    check: bool = True,
    bound: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in a session of its own, without standard input.

    Neither Ctrl-C nor the death of this process cuts it short. It inherits the lock (locks.lock), so the next command
    waits for its end. Its output goes to files, because a pipe would break. With `bound` it is killed when this process
    ends. `prefix` stands before the program, and in no message. With `check`, raises StepFailed with the program's own
    words.
    """
    if bound:
        prefix = [*prefix, "setpriv", "--pdeathsig", "KILL"]
    log.debug("run: %s", shlex.join([*prefix, *argv]))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [*prefix, *argv],
            env={**BASE_ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            close_fds=False,
        )
        try:
            child.wait()
        except BaseException:
            if bound:
                child.kill()
                child.wait()
            raise
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    done = subprocess.CompletedProcess(list(argv), child.returncode, *texts)
    if check and done.returncode:
        raise StepFailed(
            f"{shlex.join(argv[:2])} ended with {done.returncode}: {reason(done)}",
            f"the whole command: {shlex.join(argv)}",
        )
    return done


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return the most telling line of what a failed program printed."""
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if _TELLING.search(line):
            # Ganeti announces the reason with a colon and gives it on the next lines.
            more = lines[number + 1 : number + 3] if line.endswith(":") else []
            return " ".join([line, *more])
    return lines[-1] if lines else "it printed nothing"
