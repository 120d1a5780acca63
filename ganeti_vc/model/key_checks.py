# SPDX-License-Identifier: BSD-2-Clause
"""What the keys of a configuration file allow: the checks that configobj's validator calls by name."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable

from configobj.validate import ValidateError, Validator

from ganeti_vc.model import names
from ganeti_vc.model.addresses import NO_NODES

#: MiB. Less makes no file system, and no Ganeti node.
SMALLEST_DISK = 64


#: Seconds. Runs of the watcher that follow each other more closely overlap; systemd ignores numbers that are too large.
SHORTEST_INTERVAL = 5
LONGEST_INTERVAL = 365 * 86400


_SYSTEMD_PART = re.compile(r"([0-9]+) ?([a-z]*)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SYSTEMD_SPAN = re.compile(r"([0-9]+ ?(s|sec|min|m|h|hr|d)? ?)+")


_SIZE = re.compile(r"[0-9]{1,7}[MGT]", re.ASCII)


#: objects.TaggableObject.VALID_TAG_RE
_TAG = re.compile(r"[\w.+*/:@-]{1,128}", re.ASCII)


_GROUP = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}")


#: -b ADDRESS or -p PORT of a daemon, perhaps behind other letters.
_OUR_OPTION = re.compile(r"-[a-zA-Z?]*[bp]")


_DEVICE = re.compile(r"[A-Za-z0-9_.-]*")


def _text(value: object) -> str:
    """Return a string that may hold commas; without quotes, configobj makes a list of it."""
    return ",".join(value) if isinstance(value, list) else str(value)


def _check_words(value: object, *known: str) -> list[str]:
    words = value if isinstance(value, list) else [str(value)]
    for word in words or [""]:
        if word not in known:
            raise ValidateError(f"{word!r} is not one of {', '.join(known)}")
    return words


def _check_host_name(value: object) -> str:
    if not isinstance(value, str) or not names.is_host_name(value):
        raise ValidateError(f"{value!r} is not a host name: use small letters, digits, '-' and '.'")
    return value


def _check_domain(value: object) -> str:
    return "" if value == "" else _check_host_name(value)


def _check_network(value: object) -> str:
    try:
        network = ipaddress.ip_network(str(value))
    except ValueError as err:
        raise ValidateError(f"{err}: give a network such as 192.0.2.0/24") from None
    for no_node in NO_NODES:
        if network.version == no_node.version and network.overlaps(no_node):
            raise ValidateError(
                f"{network} has addresses of {no_node}, which no node can have: give a network such as 192.0.2.0/24"
            )
    return str(network)


def _check_address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value))) if value else ""
    except ValueError as err:
        raise ValidateError(f"{err}: give an address such as 192.0.2.10") from None


def _check_size(value: object, smallest: str = str(SMALLEST_DISK)) -> str:
    if value and (not isinstance(value, str) or not _SIZE.fullmatch(value) or mebibytes(value) < int(smallest)):
        raise ValidateError(f"{value!r} is not a size of at least {smallest}M: write for example 16G or 1T")
    return str(value)


def mebibytes(size: str) -> int:
    """Return the MiB of a size such as 16G."""
    return int(size[:-1]) << {"M": 0, "G": 10, "T": 20}[size[-1]]


def _check_number(value: object) -> str:
    if value and (not isinstance(value, str) or not value.isdecimal() or not 1 <= int(value) <= 4096):
        raise ValidateError(f"{value!r} is not a number from 1 to 4096")
    return str(value)


def _each(check: Callable[[object], str]) -> Callable[[object], list[str]]:
    """Return the check of a list; an empty value is an empty list."""

    def check_all(value: object) -> list[str]:
        words = value if isinstance(value, list) else [value] if value else []
        return [check(word) for word in words]

    return check_all


def _check_tag(value: object) -> str:
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise ValidateError(f"{value!r} is not a tag: use letters, digits and .+*/:@_-, at most 128")
    return value


def _check_device(value: object) -> str:
    if not isinstance(value, str) or not _DEVICE.fullmatch(value) or len(value) > names.MAX_DEVICE:
        raise ValidateError(
            f"{value!r} is not a device name of at most {names.MAX_DEVICE} characters (Ganeti appends ':0')"
        )
    return value


def _check_group(value: object) -> str:
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        raise ValidateError(f"{value!r} is not a name of a volume group: use letters, digits, '_', '.', '+' and '-'")
    return value


def _check_interval(value: object) -> str:
    if not isinstance(value, str) or not _SYSTEMD_SPAN.fullmatch(value.strip()):
        raise ValidateError(f"{value!r} is not a time span: write for example 30s, 5min or 1h")
    # Python reads numbers of up to some thousand digits only, and the limit has nine.
    numbers = [(int(number[-12:]), unit) for number, unit in _SYSTEMD_PART.findall(value)]
    seconds = sum(number * _SECONDS[unit[:1]] for number, unit in numbers)
    if not SHORTEST_INTERVAL <= seconds <= LONGEST_INTERVAL or max(map(len, re.findall("[0-9]+", value))) > 12:
        raise ValidateError(f"{value!r} is not between {SHORTEST_INTERVAL}s and {LONGEST_INTERVAL // 86400}d")
    return value.strip()


def _check_text(value: object) -> str:
    text = _text(value)
    if "'" in text or "\n" in text:
        raise ValidateError("must not hold a quote (') or a line break")
    return text


def _check_shell(value: object) -> str:
    text = _check_text(value)
    try:
        shlex.split(text)
    except ValueError as err:
        raise ValidateError(f"{text!r} is no line of a shell ({str(err).lower()}): close what is open") from None
    return text


def _check_daemon(value: object) -> str:
    text = _check_shell(value)
    for word in shlex.split(text):
        option = word.partition("=")[0]
        long = len(option) > 2 and any(ours.startswith(option) for ours in ("--bind", "--port"))
        if long or _OUR_OPTION.match(word):
            raise ValidateError(
                f"{word!r}: the address is set by the key network, and the port must be Ganeti's: leave it out"
            )
    return text


def _check_rapi(value: object) -> str:
    """As `_check_daemon`, but rapi may listen on another single address, for example a node's."""
    words = shlex.split(_check_shell(value))
    if "-b" in words[:-1]:
        at = words.index("-b")
        address = _check_address(words[at + 1])
        if ipaddress.ip_address(address).is_unspecified:
            raise ValidateError(f"-b {address} is every address of the machine: give one of the cluster's")
        del words[at : at + 2]
    _check_daemon(shlex.join(words))
    return _check_text(value)


VALIDATOR = Validator(
    {
        "hostname": _check_host_name,
        "domain": _check_domain,
        "network": _check_network,
        "address": _check_address,
        "size": _check_size,
        "number": _check_number,
        "device": _check_device,
        "group": _check_group,
        "interval": _check_interval,
        "words": _check_words,
        "text": _check_text,
        "shell": _check_shell,
        "daemon": _check_daemon,
        "rapi": _check_rapi,
        "hostnames": _each(_check_host_name),
        "sizes": _each(_check_size),
        "numbers": _each(_check_number),
        "tags": _each(_check_tag),
    }
)
