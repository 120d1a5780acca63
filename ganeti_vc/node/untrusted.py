# SPDX-License-Identifier: BSD-2-Clause
"""Files that Ganeti's users may write, read by root: only regular files of a sensible size, and no links.

Imported at each start of a session: the standard library only.
"""

from __future__ import annotations

import errno
import os
import stat

#: Bytes. The configuration of 1000 nodes and 5000 instances takes 15 MiB.
MAX_SIZE = 256 << 20


def read(path: str | os.PathLike[str]) -> str | None:
    """Return the text of a file that Ganeti's users may write; None when there is no such regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    status = os.fstat(fd)  # first: a directory cannot become a stream
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SIZE:
        os.close(fd)
        return None
    with open(fd, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()
