# SPDX-License-Identifier: BSD-2-Clause
"""What the verbs of gnt-vcluster do, a module each."""
