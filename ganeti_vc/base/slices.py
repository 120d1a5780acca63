# SPDX-License-Identifier: BSD-2-Clause
"""Where systemd puts slices. No imports: each start of a session reads this."""


def path(name: str) -> str:
    """Return the path of a slice among the control groups: one with a '-' in its name is nested (systemd.slice(5))."""
    words = name.removesuffix(".slice").split("-")
    return "/".join(f"{'-'.join(words[:count])}.slice" for count in range(1, len(words) + 1))
