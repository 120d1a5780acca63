# SPDX-License-Identifier: BSD-2-Clause
"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from ganeti_vc.base import kernel

#: How often `edit` starts again because another program has written the file meanwhile.
MAX_EDITS = 20


def read(path: Path) -> str | None:
    """Return the text of a file, None when there is none. All bytes survive a round trip."""
    try:
        return _decoded(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _decoded(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def read_in(place: int, name: str) -> tuple[bytes, os.stat_result]:
    """Return the content and the status of a regular file in an open directory. Raises OSError for a link, and all else."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    with open(fd, "rb") as stream:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        return stream.read(), status


@contextlib.contextmanager
def directory(path: Path | str, inside: int | None = None) -> Iterator[int]:
    """Open a directory for the functions below. With `inside`, `path` is a name in that directory, and no link."""
    nofollow = 0 if inside is None else os.O_NOFOLLOW
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | nofollow, dir_fd=inside)
    try:
        yield fd
    finally:
        os.close(fd)


def temporary(name: str) -> str:
    """Return the name that a file has while it is written. A process that was killed leaves it, and the next one replaces it."""
    return f".{name}.ganeti-vcluster-new"


def stage(
    place: int, name: str, data: bytes, mode: int, owner: tuple[int, int] | None = None, sync: bool = True
) -> None:
    """Write a file under its temporary name in an open directory. No link is followed. With `sync`, it is on the disk then."""
    temporary_name = temporary(name)
    discard(place, name)
    fd = os.open(temporary_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=place)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            if owner:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            if sync:
                os.fsync(fd)
    except BaseException:
        discard(place, name)
        raise


def commit(place: int, name: str) -> None:
    """Give a staged file its name."""
    os.rename(temporary(name), name, src_dir_fd=place, dst_dir_fd=place)


def discard(place: int, name: str) -> None:
    """Remove a staged file, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary(name), dir_fd=place)


def write_in(place: int, name: str, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Write a file in an open directory: old or new, never half, also after a power cut."""
    stage(place, name, data, mode, owner)
    commit(place, name)
    os.fsync(place)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file under a temporary name, then rename it: old or new, never half, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with directory(path.parent) as place:
        write_in(place, path.name, _encoded(text), mode)


def sweep(*places: Path) -> None:
    """Remove from directories what processes that were killed have left of the files that they wrote.

    Nobody may write files there meanwhile.
    """
    for place in places:
        for path in place.glob(temporary("*")):
            path.unlink()


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a file that is not ours. Owner and mode stay; of a mount point, which cannot be renamed over,
    the inode as well.

    If another program writes the file meanwhile, `change` gets the new text. Raises OSError if it writes all the time.
    """
    path = path.resolve()
    for _ in range(MAX_EDITS):
        data = path.read_bytes()
        text = change(_decoded(data))
        if os.path.ismount(path):
            if path.read_bytes() == data:
                rewrite_in_place(path, text)
                return
        elif _replace(path, data, _encoded(text)):
            return
    raise OSError(errno.EBUSY, "another program writes it all the time", str(path))


def _replace(path: Path, old: bytes, new: bytes) -> bool:
    """Replace a file if its content is `old`. Tell whether it was."""
    status = path.stat()
    with directory(path.parent) as place:
        stage(place, path.name, new, 0o600, (status.st_uid, status.st_gid))
        fresh = path.with_name(temporary(path.name))
        try:
            shutil.copystat(path, fresh)
            os.utime(fresh)
            if path.read_bytes() != old:
                discard(place, path.name)
                return False
            commit(place, path.name)
        except BaseException:
            discard(place, path.name)
            raise
        os.fsync(place)
    return True


def write_in_place(path: Path, text: str) -> None:
    """Write a file that a user has named: a device or a pipe is written to, a link is followed."""
    with open(path, "wb") as stream:
        stream.write(_encoded(text))


def rewrite_in_place(path: Path, text: str) -> None:
    """Replace the text of a file, whose inode stays, in one go. A full disk leaves it as it was.

    A text that is longer than the old one first gets its room behind the old end: so a full disk is noticed while the
    old text is still there.
    """
    data = _encoded(text)
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


def sync_file(path: Path) -> None:
    """Write the content of a file to the disk, whichever program has written it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Write new names in a directory to the disk."""
    with directory(path) as place:
        os.fsync(place)


def symlink(path: Path, target: str) -> None:
    """Make or correct a symbolic link in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(temporary(path.name))
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(path)


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it. Raises OSError, and removes nothing, when something is mounted there."""
    check_unmounted(path)
    shutil.rmtree(path)


def check_unmounted(path: Path) -> None:
    """Raise OSError when something is mounted at or below a directory: what is there is not ours to remove."""
    if places := kernel.mounts_at(path):
        raise OSError(errno.EBUSY, "something is mounted there: unmount it first", str(places[0]))


def remove_empty(*directories: Path) -> None:
    """Remove those directories that are empty. Mount points stay."""
    for path in directories:
        try:
            path.rmdir()
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.EBUSY):
                raise
