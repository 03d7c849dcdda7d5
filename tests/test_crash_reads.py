"""kill -9 at every database step of what only reads, and is on record with its event. In a file of its own for a worker
of its own."""

from __future__ import annotations

import pytest
from crashing_fleet import at_every_step, crashing_fleet, event_for


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "where", [pytest.param({}, id="here"), pytest.param({"CRASHING_ELSEWHERE": "1"}, id="elsewhere")]
)
def test_what_only_reads_is_said_once(tmp_path, where):
    with crashing_fleet(tmp_path, environment=where) as crashing:
        crashing.submit_until_done(event_for("!inventory add Shield x"))
        crashing.submit_until_done(event_for('!alias add !where "!inventory status {arg1}"'))
        crashing.submit_until_done(event_for("!where Shield"))

        def is_right(said: str) -> None:
            assert said == "“Shield” is available – x."

        def nothing_else_is_there(said: str) -> None:
            is_right(said)
            ended = crashing.rows(
                "SELECT command, status, count(r.id) AS responses FROM command_executions x"
                " LEFT JOIN module_responses r USING (execution_id) WHERE session_id ="
                " (SELECT session_id FROM router_events ORDER BY session_id DESC LIMIT 1)"
                " GROUP BY execution_id, command, status ORDER BY execution_id"
            )
            assert [tuple(row.values()) for row in ended] == [("!where", "success", 1), ("!inventory", "success", 1)]

        # Reading, the one statement, and the answer at least.
        assert at_every_step(crashing, lambda: "!inventory status Shield", is_right) >= 3
        crashing.start()  # Steps are counted from the start of a process.
        assert at_every_step(crashing, lambda: "!where Shield", nothing_else_is_there) >= 4
