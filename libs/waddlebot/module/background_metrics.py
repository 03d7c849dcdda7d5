"""What runs beside requests, for Prometheus: in this process, and in those that cannot be asked over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as MetricsCollector

from ..base import watched
from ..base.errors import WaddleBotError
from ..base.watched import State
from ..data.processes import ProcessReports

LABELS = ["process", "name"]


class BackgroundMetrics(MetricsCollector):
    """Counted when they are asked for. Processes of one role are added up."""

    def __init__(self, reports: ProcessReports, module: str, prefix: str) -> None:
        self._reports = reports
        self._module = module
        self._prefix = f"waddlebot_{prefix}_background_"

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        alive = GaugeMetricFamily(self._prefix + "alive", "Whether it runs.", labels=LABELS)
        ended = CounterMetricFamily(self._prefix + "ended", "How often it ended unasked.", labels=LABELS)
        troubles = CounterMetricFamily(self._prefix + "troubles", "What it outlived.", labels=LABELS)
        found: dict[tuple[str, str], list[State]] = {}
        for role, state in self._states():
            found.setdefault((role, state.name), []).append(state)
        for labels, alike in found.items():
            alive.add_metric(labels, all(each.is_alive for each in alike))
            ended.add_metric(labels, sum(each.ended for each in alike))
            troubles.add_metric(labels, sum(each.troubles for each in alike))
        return alive, ended, troubles

    def _states(self) -> Iterator[tuple[str, State]]:
        yield from ((self._reports.role, state) for state in watched.states(self._module))
        try:
            others = self._reports.list_others(self._module)
        except WaddleBotError:
            return  # The health check says that the database is away.
        yield from (
            (other.role, state) for other in others if other.role != self._reports.role for state in other.states
        )
