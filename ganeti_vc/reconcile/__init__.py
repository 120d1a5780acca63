# SPDX-License-Identifier: BSD-2-Clause
"""From what is declared and what is there to steps, and the steps done: the one idea of the project."""
