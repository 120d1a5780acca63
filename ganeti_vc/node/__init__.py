# SPDX-License-Identifier: BSD-2-Clause
"""What runs in the nodes' units, at each start of a daemon: the standard library only."""
