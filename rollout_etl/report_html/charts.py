"""Charts of a profile, drawn by Altair when the report is written: static SVG whose colours are the page's CSS variables.

Every chart has the same width, narrow enough to be read on a phone as it is; the page places them side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from rollout_etl.stats.conversation import one_line
from rollout_etl.stats.distribution import UNIT_EDGES, binned
from rollout_etl.stats.groups import scored_groups
from rollout_etl.stats.narrow import Narrow
from rollout_etl.stats.scopes import scoped
from rollout_etl.stats.terminal import number, share, signed

WIDTH = 340
_HEIGHT = 190
NAME = 60
"""Characters of a name to show."""
_BARS = 12
"""Number of names in a bar chart."""
_POINTS = 300
_BINS = 10
_LABEL = {"fill": "var(--muted)", "fontSize": 11}
_CONFIG: dict[str, Any] = {
    # Screen readers get the title of the figure and the tables below; a label for each mark would be noise.
    "aria": False, "background": None, "padding": 2, "view": {"stroke": None},
    "axis": {
        "domain": False, "ticks": False, "gridColor": "var(--line)", "labelPadding": 6, "labelLimit": 104, "titlePadding": 8, "titleFontWeight": "normal",
    },
    "style": {"guide-label": _LABEL, "guide-title": _LABEL},
    "legend": {"orient": "top", "title": None, "symbolSize": 60, "offset": 4},
}


@dataclass(frozen=True)
class Figure:
    """A chart: `title`, what it `says` in a sentence, and the `svg`."""

    title: str
    says: str
    svg: str


def figures(found: dict[str, Any], data: Narrow) -> list[Figure]:
    """The charts for which there is data."""
    return list(_figures(found, data))


def _figures(found: dict[str, Any], data: Narrow) -> Iterator[Figure]:
    overall = found["overall"]
    if overall["reward"] is None:
        return
    sound = data.rollouts.filter("is_sound")
    yield _rewards(overall["reward"])
    if overall["groups"]["several"]:
        yield _outcomes(overall["groups"])
        yield _group_rates(sound, found["success"])
    if len(overall["pass_at"]) > 1:
        yield _pass_at(overall)
    for title, scopes in (("task", found["tasks"]), ("agent", found["agents"])):
        if sum(1 for scope in scopes if scope["reward"]) > 1:
            yield _success(title, scopes)
    if (drawn := _lengths(sound, overall["length"]["correlation"])) is not None:
        yield drawn
    if overall["tools"]:
        yield _tools(overall["tools"])
    if found["trend"]:
        yield _trend(found["trend"])


def _svg(chart: alt.Chart | alt.LayerChart | alt.FacetChart, height: int = _HEIGHT) -> str:
    spec = chart.properties(width=WIDTH, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding")).to_dict()
    return vl_convert.vegalite_to_svg({**spec, "config": _CONFIG})


def _data(rows: Sequence[dict[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=list(rows))


def _columns(rows: Sequence[dict[str, Any]], title: str, colour: str = "var(--accent)") -> str:
    """Vertical bars of `count` by `label`, in the order of the rows, with their counts on top."""
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("label:N", sort=None, title=title, axis=alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=8)),
        y=alt.Y("count:Q", title=None, axis=alt.Axis(format="~s", tickCount=4)),
    )
    text = base.mark_text(dy=-7, fontSize=11, color="var(--ink)").encode(text="shown:N")
    return _svg(base.mark_bar(color=colour, cornerRadiusEnd=2) + text)


def _rows(rows: Sequence[dict[str, Any]], domain: tuple[float, float] | None = None) -> str:
    """Horizontal bars of `value` by `label`, in the order of the rows; each has its own `colour` and says what is `shown`."""
    scale = alt.Scale(domain=domain) if domain else alt.Scale()
    base = alt.Chart(_data(rows)).encode(
        # Room for the widest label: the page's font may be wider than the one that charts are measured with.
        y=alt.Y("label:N", sort=None, title=None, scale=alt.Scale(paddingInner=0.35), axis=alt.Axis(minExtent=126, maxExtent=126)),
        x=alt.X("value:Q", title=None, scale=scale, axis=None),
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(color=alt.Color("colour:N", scale=None))
    text = base.mark_text(align="left", dx=5, fontSize=11, color="var(--ink)").encode(text="shown:N")
    return _svg(bars + text, 26 * len(rows) + 8)


def _rewards(reward: dict[str, Any]) -> Figure:
    values, bins = reward["values"], reward["histogram"]
    title, counted = "reward", bins
    if values is not None and len(values) <= 8:
        labels, counted = _labels([row["value"] for row in values], 6), values
    elif len(bins) < len(UNIT_EDGES):
        labels = [f"{row['from']:.2g} to {row['to']:.2g}" for row in bins]
    else:
        # There is no room for both ends of ten bins.
        title, labels = "reward, from", _labels([row["from"] for row in bins], 4)
    rows = [
        {"label": label, "count": row["count"], "shown": share(row["count"] / reward["count"]) if row["count"] and len(counted) <= 8 else ""}
        for label, row in zip(labels, counted, strict=True)
    ]
    says = f"{reward['count']:,} sound rewards, mean {number(reward['mean'])}, std {number(reward['std'])}"
    return Figure("Rewards", says, _columns(rows, title))


def _labels(numbers: Sequence[float], digits: int) -> list[str]:
    """Different numbers with so many digits, or more if some would look the same: bars with the same label are drawn as one."""
    labels = [f"{number:.{digits}g}" for number in numbers]
    return labels if len(set(labels)) == len(labels) or digits > 16 else _labels(numbers, digits + 1)


def _outcomes(groups: dict[str, Any]) -> Figure:
    kinds = {
        "solved by some": ("solved_by_some", "var(--accent)"), "solved by all": ("solved_by_all", "var(--good)"),
        "solved by none": ("solved_by_none", "var(--bad)"), "equal rewards": ("no_spread", "var(--quiet)"),
    }
    rows = [
        {"label": label, "value": groups["shares"][name], "colour": colour, "shown": f"{groups[name]:,} ({share(groups['shares'][name])})"}
        for label, (name, colour) in kinds.items()
    ]
    says = f"{groups['several']:,} groups with several attempts; if rewards are equal, there is nothing to learn"
    return Figure("Outcomes of groups", says, _rows(rows, (0, 1.35)))


def _group_rates(sound: pl.DataFrame, success: float) -> Figure:
    """How many groups are solved how often; never and always are separate, because those groups teach nothing."""
    solved = scored_groups(scoped(sound, "overall"), success).filter(pl.col("n") > 1).select(rate=pl.col("c") / pl.col("n"))["rate"]
    inner = binned(solved.filter((solved > 0) & (solved < 1)), UNIT_EDGES)
    fifths = dict(zip(("1-19", "20-39", "40-59", "60-79", "80-99"), inner, strict=True))
    counts = {"0": int((solved == 0).sum()), **fifths, "100": int((solved == 1).sum())}
    rows = [{"label": label, "count": count, "shown": f"{count:,}" if count else ""} for label, count in counts.items()]
    return Figure("Pass rates of tasks", f"groups by the share of their attempts that reach {success:g}", _columns(rows, "attempts that succeed, %"))


def _lines(rows: Sequence[dict[str, Any]], x: alt.X, colours: dict[str, str], y: alt.Y) -> alt.LayerChart | alt.FacetChart:
    colour = alt.Color("of:N", sort=None, scale=alt.Scale(domain=list(colours), range=list(colours.values())))
    base = alt.Chart(_data(rows)).encode(x=x, y=y, color=colour)
    return alt.layer(base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=28, opacity=1))


def _pass_at(overall: dict[str, Any]) -> Figure:
    curves = {"pass@k": "pass_at", "mean@k": "mean_at"}
    rows = [{"k": int(k), "value": value, "of": label} for label, name in curves.items() for k, value in overall[name].items()]
    most = max(row["k"] for row in rows)
    scale = alt.Scale(domain=(1, most), type="log" if most > 32 else "linear", nice=False)
    x = alt.X("k:Q", title="attempts k", axis=alt.Axis(tickMinStep=1, grid=False, format="d"), scale=scale)
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5))
    svg = _svg(_lines(rows, x, {"pass@k": "var(--accent)", "mean@k": "var(--quiet)"}, y))
    return Figure("pass@k", f"one attempt solves {share(overall['pass_at'][1])}; the best of {most:,} solves {share(overall['pass_at'][most])}", svg)


def _success(title: str, scopes: Sequence[dict[str, Any]]) -> Figure:
    scored = [scope for scope in scopes if scope["reward"]]
    rows = [
        {"label": one_line(name or "(none)", NAME), "value": rate, "colour": "var(--accent)", "shown": share(rate)}
        for name, rate in sorted(((scope["name"], scope["reward"]["success_rate"]) for scope in scored[:_BARS]), key=lambda scope: -scope[1])
    ]
    more = f"; the {_BARS} largest of {len(scored):,}" if len(scored) > _BARS else ""
    return Figure(f"Success by {title}", f"share of rewards that count as a success{more}", _rows(rows, (0, 1.2)))


def _lengths(sound: pl.DataFrame, correlation: float | None) -> Figure | None:
    """Reward over length: the mean of each tenth of the rollouts by length over a sample of single ones."""
    found = sound.select(length=pl.col("completion_chars").cast(pl.Float64).clip(1), reward="reward").sort("length", "reward")
    if correlation is None or len(found) < 3:
        return None
    # Equal lengths stay together.
    tenth = ((pl.col("length").rank("max").cast(pl.Int64) - 1) * min(_BINS, len(found) // 3 or 1)).floordiv(pl.len())
    means = found.group_by(tenth=tenth).agg(pl.col("length").median(), pl.col("reward").mean()).sort("length")
    points = found.gather_every(max(len(found) // _POINTS, 1))
    skewed = found["length"].quantile(0.99, "linear") > 20 * (found["length"].median() or 1)  # type: ignore[operator]
    scale, axis = alt.Scale(type="log" if skewed else "linear", zero=False), alt.Axis(grid=False, format="~s", tickCount=5)
    x = alt.X("length:Q", title="characters that the model wrote", scale=scale, axis=axis)
    y = alt.Y("reward:Q", title=None, axis=alt.Axis(tickCount=5))
    cloud = alt.Chart(_data(points.to_dicts())).mark_circle(color="var(--quiet)", size=22, opacity=0.45).encode(x=x, y=y)
    dots = {"color": "var(--accent)", "filled": True, "size": 34}
    mean = alt.Chart(_data(means.to_dicts())).mark_line(color="var(--accent)", strokeWidth=2, point=dots).encode(x=x, y=y)
    drawn = f"dots: {'a sample of ' if len(points) < len(found) else ''}{len(points):,} rollouts; line: means of equal parts"
    return Figure("Length and reward", f"correlation {signed(correlation)}; {drawn}", _svg(cloud + mean))


def _tools(tools: Sequence[dict[str, Any]]) -> Figure:
    rows = [
        {"label": one_line(row["tool"] or "(no name)", NAME), "value": row["calls"], "colour": "var(--accent)", "shown": f"{row['calls']:,}"}
        for row in tools[:_BARS]
    ]
    more = f", the {_BARS} most used of {len(tools):,}" if len(tools) > _BARS else ""
    return Figure("Tools", f"{sum(row['calls'] for row in tools):,} calls{more}", _rows(rows, (0, 1.25 * max(row["value"] for row in rows))))


def _trend(trend: Sequence[dict[str, Any]]) -> Figure:
    shown = {"mean reward": ("mean", "var(--accent)"), "success rate": ("success_rate", "var(--good)"), "equal groups": ("no_spread", "var(--quiet)")}
    stems = [Path(point["inputs"][0]).name.split(".")[0] for point in trend]
    # The positions distinguish files with the same name.
    order = [f"{place} {one_line(stem, 14)}" for place, stem in enumerate(stems, start=1)]
    rows = [
        {"at": order[place], "value": point[name], "of": label}
        for label, (name, _) in shown.items() for place, point in enumerate(trend) if point[name] is not None
    ]
    x = alt.X("at:N", sort=None, title=None, axis=alt.Axis(labelAngle=0 if len(trend) <= 3 else -40, grid=False), scale=alt.Scale(padding=0.3))
    svg = _svg(_lines(rows, x, {label: colour for label, (_, colour) in shown.items()}, alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5))))
    return Figure("Trend", f"{len(trend):,} sets of rollouts, oldest first", svg)
