"""Counts that are summed in memory: nothing is lost but by a kill, and nothing is counted twice."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.base.background import Loops
from waddlebot.base.logs import AAALog
from waddlebot.data.database import Database, DatabaseUnavailable
from waddlebot.data.tally import Tally

SAVE = """
INSERT INTO counted AS c (name, uses, took_ms)
SELECT * FROM unnest(%(name)s::text[], %(uses)s::bigint[], %(took_ms)s::double precision[])
ON CONFLICT (name) DO UPDATE SET uses = c.uses + excluded.uses, took_ms = c.took_ms + excluded.took_ms
"""


@pytest.fixture
def database(simulated):
    database: Database = simulated.database
    database.statement("CREATE TABLE counted (name text PRIMARY KEY, uses bigint, took_ms double precision)")
    return database


@pytest.fixture
def tally(database) -> Tally:
    return Tally(database, SAVE, "name", "uses", "took_ms")


def written(database: Database) -> dict[str, tuple[int, float]]:
    rows = database.statement("SELECT * FROM counted")
    return {row["name"]: (row["uses"], row["took_ms"]) for row in rows}


def test_what_many_count_while_others_write_is_summed(database, tally):
    def count(n: int) -> None:
        for each in range(100):
            tally.add((f"name{each % 3}",), 1, 0.5)
            if each % 20 == n:
                tally.save()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(count, range(16)))
    tally.save()
    assert written(database) == {"name0": (544, 272), "name1": (528, 264), "name2": (528, 264)}


def test_what_the_database_did_not_take_is_written_the_next_time_with_what_came_since(simulated, database, tally):
    tally.add(("name",), 2, 1)
    simulated.lose()
    with pytest.raises(DatabaseUnavailable):
        tally.save()
    simulated.restore()
    tally.add(("name",), 3, 1)
    tally.save()
    assert written(database) == {"name": (5, 2)}


def test_what_is_counted_is_written_when_the_loops_end(database, tally):
    loops = Loops(AAALog("test", "1.0.0"))
    loops.add("uses", tally.save, every_s=3600, finish=tally.save)
    loops.start("service")
    tally.add(("name",), 1, 2.5)
    loops.stop()
    assert written(database) == {"name": (1, 2.5)}


COUNTER = """
import sys
from waddlebot.data.database import Database
from waddlebot.data.tally import Tally
tally = Tally(Database(sys.argv[1]), sys.argv[2], "name", "uses", "took_ms")
for _ in range(3):
    for _ in range(10):
        tally.add(("name",), 1, 0.5)
    tally.save()
tally.add(("name",), 1, 0.5)
print("counted", flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_killed_loses_what_it_has_not_written_and_no_more(simulated, database):
    command = [sys.executable, "-c", COUNTER, simulated.url, SAVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        process.kill()
    assert written(database) == {"name": (30, 15)}
