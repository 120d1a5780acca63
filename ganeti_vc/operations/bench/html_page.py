# SPDX-License-Identifier: BSD-2-Clause
"""One or two benchmarks as one HTML page: plots of cost against size, and the figures. It needs no network."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ganeti_vc.base.errors import VclusterError
from ganeti_vc.operations.bench import figures
from ganeti_vc.operations.bench.figures import BenchResult, Quantity

COLUMNS = 4  #: plots side by side
COLOURS = ("#1f5fa8", "#c2571a")
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 74em; margin: 2em auto; padding: 0 1em; color: #222; }}
h1, h2 {{ font-weight: 600; }} svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .15em .8em; border-bottom: 1px solid #ddd; text-align: left; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def check() -> None:
    """Raise VclusterError when matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise VclusterError("the page needs matplotlib", "apt-get install python3-matplotlib")


def _plots(quantities: Sequence[Quantity], series: Sequence[Mapping[Quantity, Mapping[int, float]]]) -> str:
    """Return a small plot for each quantity, with a line in the colour of each result, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = -(-len(quantities) // COLUMNS)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": quantities[0].unit, "font.size": 8}):
        figure = Figure(figsize=(3 * COLUMNS, 2.5 * rows), layout="constrained")
        for at, quantity in enumerate(quantities):
            _plot(
                figure.add_subplot(rows, COLUMNS, at + 1), quantity, [figures.get(quantity, {}) for figures in series]
            )
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _plot(axes: Any, quantity: Quantity, series: Sequence[Mapping[int, float]]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    title = [quantity.what]
    for values, colour in zip(series, COLOURS, strict=False):
        fitted = figures.fit(values)
        axes.plot(list(values), list(values.values()), "o" if fitted else "o-", color=colour, markersize=4)
        if fitted:
            axes.plot(list(values), [fitted.at(size) for size in values], "--", color=colour, linewidth=1)
            title.append(str(fitted))
    sizes = sorted({size for values in series for size in values})
    costs = [value for values in series for value in values.values()]
    axes.set_title("   ".join(title), fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("nodes", fontsize=7)
    if min(costs) > 0:
        # As many decades up as to the right, at least: so a slope is the exponent, and noise stays small.
        middle = math.sqrt(min(costs) * max(costs))
        half = 1.2 * math.sqrt(max(max(costs) / min(costs), sizes[-1] / sizes[0]))
        axes.set_yscale("log")
        axes.set_ylim(middle / half, middle * half)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, max(costs) * 1.1 or 1)
    axes.grid(alpha=0.3)


def _table(columns: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    lines = ("".join(f"<td>{escape(str(row[name]))}</td>" for name in columns) for row in rows)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def page(results: Sequence[BenchResult]) -> str:
    """Return the page for one result, or for two side by side. Raises VclusterError."""
    check()
    by_result = [figures.figures(result) for result in results]
    body = []
    for result, letter, colour in zip(results, "AB", COLOURS, strict=False):
        mark = f'<b style="color: {colour}">{letter}</b>: ' if len(results) > 1 else ""
        body.append(
            f"<p>{mark}{escape(figures.summary(result))}; {escape(str(result.about['cpu_model']))}, "
            f"{result.about['memory_mib']} MiB; {escape(str(result.about['begin']))}</p>"
        )
    body += [f"<p>{escape(line)}</p>" for line in figures.remarks(results)]
    for unit, title in figures.UNITS.items():
        quantities = [
            quantity for quantity in dict.fromkeys(q for figures in by_result for q in figures) if quantity.unit == unit
        ]
        if quantities:
            body.append(f"<h2>{escape(title)}</h2>\n{_plots(quantities, by_result)}")
    body.append("<h2>Figures</h2>")
    if len(results) > 1:
        body.append(_table(figures.COMPARED, figures.compared_cells(figures.compare(*results))))
    else:
        body.append(_table(*figures.table(results[0])))
    return _PAGE.format(title="What virtual Ganeti clusters cost", body="\n".join(body))
