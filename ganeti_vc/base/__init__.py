# SPDX-License-Identifier: BSD-2-Clause
"""For everybody, and knows no cluster: errors, files, processes, progress."""
