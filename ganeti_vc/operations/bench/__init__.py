# SPDX-License-Identifier: BSD-2-Clause
"""gnt-vcluster bench: what clusters cost."""
