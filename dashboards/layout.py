"""Turns boards into Grafana's classic dashboards, by the foundation SDK; for the build, never for the daemon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models.text import TextMode

from dashboards.views import GREY, HERE, Board, Query, Section, View

WIDTH = 24
SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
BUILDERS: dict[str, Any] = {
    "stat": stat.Panel, "bars": bargauge.Panel, "timeline": statetimeline.Panel, "history": statushistory.Panel,
    "series": timeseries.Panel, "table": table.Panel, "text": text.Panel,
}  # fmt: skip
# The time and what was chosen go along.
TO = "/d/{uid}?${{__url_time_range}}&${{datasource:queryparam}}&${{pipeline:queryparam}}"


def rendered(board: Board) -> str:
    """Return a dashboard as JSON, the same bytes every time."""
    builder = (
        dashboard.Dashboard(board.title).uid(board.uid).description(board.description).tags(["recwatch"]).readonly()
        .time(board.back, "now").refresh(board.refresh).timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )  # fmt: skip
    for variable in _variables(board):
        builder = builder.with_variable(variable)
    for annotation in _annotations():
        builder = builder.annotation(annotation)
    menu = dashboard.DashboardLink("recwatch").type(models.DashboardLinkType.DASHBOARDS).tags(["recwatch"])
    builder = builder.link(menu.as_dropdown(True).keep_time(True).include_vars(True))
    place = _Place()
    for section in board.sections:
        builder = _with_section(builder, section, place)
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


class _Place:
    """Where the next panel goes, and its number."""

    def __init__(self) -> None:
        self.row, self._column, self._height, self._number = 0, 0, 0, 0

    def number(self) -> int:
        self._number += 1
        return self._number

    def heading(self) -> models.GridPos:
        self._wrap()
        self.row += 1
        return models.GridPos(h=1, w=WIDTH, x=0, y=self.row - 1)

    def panel(self, size: tuple[int, int]) -> models.GridPos:
        width, height = size
        if self._column + width > WIDTH:
            self._wrap()
        position = models.GridPos(h=height, w=width, x=self._column, y=self.row)
        self._column, self._height = self._column + width, max(self._height, height)
        return position

    def _wrap(self) -> None:
        self.row, self._column, self._height = self.row + self._height, 0, 0


@dataclass(frozen=True)
class Placed:
    """Where a panel or a heading stands, in units of a 24th of the width."""

    x: int
    y: int
    w: int
    h: int
    title: str


def placed(board: Board) -> list[tuple[View | None, Placed]]:
    """Return every panel with its place in reading order, headings as None; collapsed sections as if opened."""
    place, found = _Place(), list[tuple[View | None, Placed]]()
    for section in board.sections:
        if section.title:
            at = place.heading()
            found.append((None, Placed(at.x, at.y, at.w, at.h, section.title)))
        for view in section.views:
            at = place.panel(view.size)
            found.append((view, Placed(at.x, at.y, at.w, at.h, view.title)))
    return found


def _with_section(builder: dashboard.Dashboard, section: Section, place: _Place) -> dashboard.Dashboard:
    if not section.title:
        for view in section.views:
            builder = builder.with_panel(_panel(view, place))
        return builder
    row = dashboard.Row(section.title).grid_pos(place.heading()).id(place.number())
    if section.repeat:
        row = row.repeat(section.repeat)
    panels = [_panel(view, place) for view in section.views]
    if section.collapsed:
        row = row.collapsed(True)
        for panel in panels:
            row = row.with_panel(panel)
        return builder.with_row(row)
    builder = builder.with_row(row)
    for panel in panels:
        builder = builder.with_panel(panel)
    return builder


def _panel(view: View, place: _Place) -> Any:
    panel = BUILDERS[view.kind]().id(place.number()).title(view.title).description(view.description)
    panel = panel.grid_pos(place.panel(view.size))
    if view.kind == "text":
        return panel.mode(TextMode.MARKDOWN).content(view.text)
    panel = panel.datasource(SOURCE).unit(view.unit)
    for letter, query in zip("ABCDEFGHIJ", view.queries, strict=False):
        panel = panel.with_target(_target(query, letter, view.kind == "table"))
    if view.every:
        panel = panel.interval(view.every)
    if view.no_data:
        panel = panel.no_value(view.no_data)
    if view.link:
        panel = panel.links([dashboard.DashboardLink("more").url(TO.format(uid=view.link))])
    low, high = view.bounds
    panel = panel if low is None else panel.min(low)
    panel = panel if high is None else panel.max(high)
    if view.words:
        named = {
            value: models.ValueMappingResult(text=word, color=colour, index=at)
            for at, (value, (word, colour)) in enumerate(view.words.items())
        }
        panel = panel.mappings([models.ValueMap(options=named)])
    steps = view.steps or ((None, "text" if view.kind in ("stat", "table") else "green"),)
    limits = [models.Threshold(value=value, color=colour) for value, colour in steps]
    panel = panel.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(limits))
    return _FINISH[view.kind](panel, view)


def _target(query: Query, letter: str, as_table: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(SOURCE)
    target = target.instant() if query.instant else target.range()
    if as_table:
        return target.format(prometheus_models.PromQueryFormat.TABLE)
    return target.legend_format(query.legend)


# -- by kind ---------------------------------------------------------------------------------


def _stat(panel: Any, _view: View) -> Any:
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)).text_mode(
        common_models.BigValueTextMode.VALUE_AND_NAME
    )


def _bars(panel: Any, _view: View) -> Any:
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)).orientation(
        common_models.VizOrientation.HORIZONTAL
    )


def _states(panel: Any, _view: View) -> Any:
    return (
        panel.show_value(common_models.VisibilityMode.NEVER)
        .fill_opacity(80)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    )


def _series(panel: Any, view: View) -> Any:
    panel = panel.line_width(1).fill_opacity(25 if view.stacked else 0).legend(
        common.VizLegendOptions().show_legend(True).display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM).calcs([])
    )  # fmt: skip
    panel = panel.tooltip(
        common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
        .sort(common_models.SortOrder.DESCENDING)
    )  # fmt: skip
    if view.stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if view.steps:
        panel = panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    for letter, query in zip("ABCDEFGHIJ", view.queries, strict=False):
        if query.dashed:
            dashes = {"fill": "dash", "dash": [8, 6]}
            panel = panel.override_by_query(letter, [models.DynamicConfigValue("custom.lineStyle", dashes)])
    return panel


def _table(panel: Any, view: View) -> Any:
    panel = panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    # Whatever column comes back beyond those named would be noise.
    keep = models.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(view.columns)}})
    order = {column: at for at, column in enumerate(view.columns)}
    named = {"renameByName": dict(view.columns), "indexByName": order, "excludeByName": {}}
    panel = panel.with_transformation(keep)
    panel = panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=named))
    for column, unit in view.column_units.items():
        panel = panel.override_by_name(column, [models.DynamicConfigValue("unit", unit)])
    return panel


_FINISH = {
    "stat": _stat, "bars": _bars, "timeline": _states, "history": _states, "series": _series, "table": _table,
}  # fmt: skip


# -- around the panels -----------------------------------------------------------------------


def _variables(board: Board) -> Iterator[Any]:
    yield dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    yield _choice("pipeline", "label_values(recwatch_build_info, pipeline)", "Pipeline")
    if board.has_slo:
        yield _choice("slo", f"label_values(recwatch_slo_info{{{HERE}}}, slo)", "Objective")


def _choice(name: str, query: str, label: str) -> Any:
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
        .multi(True).include_all(True).all_value(".+").current(everything)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip


def _annotations() -> Sequence[Any]:
    firing = (
        'max by (pipeline, alertname, slo) (ALERTS{alertname=~"Recwatch.*", alertname!="RecwatchWatchdog",'
        f' alertstate="firing", {HERE}}})'
    )
    reloads = (
        f"max by (pipeline) (changes(recwatch_config_last_reload_success_timestamp_seconds{{{HERE}}}[$__interval])) > 0"
    )
    changed = f"max by (pipeline, kind) (changes(recwatch_last_change_timestamp_seconds{{{HERE}}}[$__interval])) > 0"
    marks = (("Alerts", "red", firing, "{{alertname}}", "{{pipeline}} {{slo}}"),
             ("Changes", "blue", changed, "{{kind}}", "{{pipeline}}"),
             ("Reloads", GREY, reloads, "configuration read", "{{pipeline}}"))  # fmt: skip
    return [
        dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)
        .title_format(title).text_format(words).step("60s")
        for name, colour, expression, title, words in marks
    ]  # fmt: skip
