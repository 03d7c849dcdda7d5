"""The router's figures: what this process did, what the tables hold, how the last hour went."""

from __future__ import annotations

from typing import Any

from waddlebot.base.contracts import ExecutionStatus
from waddlebot.base.metrics import Metrics
from waddlebot.data.database import Database, fetch_one

from ..catalogue.cache_manager import CacheManager
from .rule_book import RuleBook

FINE = ExecutionStatus.SUCCESS.value
LIMITED = ExecutionStatus.RATE_LIMITED.value


class StatisticsService:
    def __init__(self, db: Database, lookups: CacheManager, rules: RuleBook, metrics: Metrics) -> None:
        self._db = db
        self._lookups = lookups
        self._rules = rules
        self._metrics = metrics

    def figures(self) -> dict[str, Any]:
        """`processor` counts since this process started, `database` and `recent_performance` (one hour) the fleet."""
        with self._db.lookup() as db:
            totals = fetch_one(
                db,
                "SELECT (SELECT count(*) FROM commands WHERE is_active) AS total_commands,"
                " (SELECT count(*) FROM entities WHERE is_active) AS total_entities,"
                # Exact enough, and no walk through the largest table.
                " (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'command_executions'::regclass)"
                " AS total_executions",
            )
            recent = fetch_one(
                db,
                "SELECT count(*) FILTER (WHERE status = 'success') AS successful_executions,"
                " count(*) FILTER (WHERE status IN ('failed', 'timeout')) AS failed_executions,"
                " round(avg(execution_time_ms)::numeric, 2)::float AS avg_execution_time_ms"
                " FROM command_executions WHERE created_at > now() - interval '1 hour'",
            )
        assert totals is not None
        assert recent is not None
        done = recent["successful_executions"] + recent["failed_executions"]
        recent["success_rate"] = round(recent["successful_executions"] / done, 4) if done else None
        return {
            "processor": self.processor(),
            "string_matcher": self._string_matcher(),
            "database": totals,
            "recent_performance": recent,
        }

    def _string_matcher(self) -> dict[str, Any]:
        with self._db.lookup() as db:
            counts = fetch_one(
                db,
                "SELECT count(*) AS total_rules, count(*) FILTER (WHERE action = 'warn') AS warn_rules,"
                " count(*) FILTER (WHERE action = 'block') AS block_rules,"
                " count(*) FILTER (WHERE action = 'command') AS command_rules,"
                " count(*) FILTER (WHERE action = 'webhook') AS webhook_rules,"
                " coalesce(sum(match_count), 0)::bigint AS total_matches FROM stringmatch WHERE is_active",
            )
        assert counts is not None
        compiled = self._rules.counts()
        return {**counts, "compiled": compiled, "compiled_regex_cache_size": compiled["rules"]}

    def _total(self, name: str) -> float:
        return float(sum(each["value"] for each in self._metrics.as_json().get(name, [])))

    def processor(self) -> dict[str, Any]:
        hits, misses = self._lookups.hits_and_misses
        ended = self._metrics.as_json().get("waddlebot_router_executions_total", [])
        fine = sum(each["value"] for each in ended if each["status"] == FINE)
        processed = sum(each["value"] for each in ended)
        took = [self._total(f"waddlebot_router_execution_seconds_{each}") for each in ("sum", "count")]
        return {
            "commands_processed": int(processed),
            "commands_successful": int(fine),
            "commands_failed": int(processed - fine),
            "success_rate": round(fine / processed, 4) if processed else None,
            "rate_limits_hit": int(sum(each["value"] for each in ended if each["status"] == LIMITED)),
            "string_matches": self._rules.matches,
            # In ms, as all execution times are.
            "avg_execution_time": round(took[0] / took[1] * 1e3, 2) if took[1] else None,
            "cache_hits": hits,
            "cache_misses": misses,
        }
