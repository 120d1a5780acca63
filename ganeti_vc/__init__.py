# SPDX-License-Identifier: BSD-2-Clause
"""Real Ganeti clusters of virtual nodes on one machine, under systemd.

The layers, from the user inwards; each imports only from those below it:

    cli         the command gnt-vcluster; benchcli, snapshotcli; sandboxed, which has it run inside a sandbox
    operations  declare, up, scale, destroy, save, restore, throwaway, status, qa, bench, doctor; manager; plan, steps, apply, which they share
    sandboxes   sandbox, forwarding, supervisor, rootless; container, which boots one, trees of Debian: beside the operations, know nothing of them
    systems     systemd, cgroups, network, hosts, sshd, nodedir, ganeti, sysctl, stocks, freezer, snapshots, swap, view, identity, notification, libc:
                one per thing we change
    model       config, keys, names, addresses, daemons, observed, capacity: pure
"""

VERSION = "0.1.0"
