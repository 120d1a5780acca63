# SPDX-License-Identifier: BSD-2-Clause
"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path


def read(path: Path) -> str | None:
    """Return the text of a file, None when there is none. Bytes that are not UTF-8 survive a round trip."""
    try:
        return path.read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file under a temporary name, then rename it: old or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(fd, "w", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def rewrite(path: Path, text: str) -> None:
    """Replace the text of a file that is not ours. Owner and mode stay; of a mount point, which cannot be renamed over,
    the inode as well.
    """
    path = path.resolve()
    status = path.stat()
    if not os.path.ismount(path):
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(fd, "w", errors="surrogateescape") as stream:
                stream.write(text)
                stream.flush()
                os.fchown(fd, status.st_uid, status.st_gid)
                shutil.copystat(path, temporary)
                os.utime(temporary)
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return
    rewrite_in_place(path, text)


def rewrite_in_place(path: Path, text: str) -> None:
    """Replace the text of a file, whose inode stays, in one go. A full disk leaves it as it was.

    A text that is longer than the old one first gets its room behind the old end: so a full disk is noticed while the
    old text is still there.
    """
    data = text.encode(errors="surrogateescape")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        try:
            file.seek(size)
            file.write(b"\n" * max(0, len(data) - size))
            file.flush()
        except OSError:
            file.truncate(size)
            raise
        file.seek(0)
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def symlink(path: Path, target: str) -> None:
    """Make or correct a symbolic link in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(path)


def remove_empty(*directories: Path) -> None:
    """Remove those directories that are empty. Mount points stay."""
    for path in directories:
        try:
            path.rmdir()
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY):
                raise
