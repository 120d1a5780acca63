# SPDX-License-Identifier: BSD-2-Clause
"""What the verbs of gnt-vcluster do: a module for each work, whose docstring begins with its verbs."""
