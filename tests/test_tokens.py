"""OAuth tokens: sealed at rest, refreshed by one replica only, and never a hang when a platform says no."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import redis
from waddlebot.base.checks import Counted
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import NotConfigured, UpstreamTimeout
from waddlebot.base.logs import AAAFormatter, AAALog
from waddlebot.base.settings import Settings
from waddlebot.community.tokens import Grant, NeedsReauth, NoToken, RefreshRefused, Token, Tokens
from waddlebot.data.database import DatabaseUnavailable, fetch
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

OLD, NEW = make_encryption_key("old"), make_encryption_key("new")
TABLE = "twitch_tokens"
SPARES = f"waddlebot:token:{TABLE}:*"


def tokens_on(simulated, keys=OLD, **options) -> Tokens:
    keyring = Keyring(Settings(DATABASE_URL="postgresql://h/d", WADDLEBOT_ENCRYPTION_KEYS=keys))
    return Tokens(simulated.database, TABLE, keyring, log=AAALog("test", "1"), **options)


@pytest.fixture
def tokens(simulated) -> Tokens:
    return tokens_on(simulated)


def keep(tokens, simulated, owner="7", **changes) -> None:
    grant = {"access": "a1", "refresh": "r1", "expires_at": now(simulated) + timedelta(hours=4), "scopes": ("chat",)}
    with simulated.database.transaction() as db:
        tokens.keep(db, owner, Grant(**{**grant, **changes}))


def now(simulated) -> datetime:
    with simulated.database.transaction() as db:
        return fetch(db, "SELECT now() AS now")[0]["now"]


def row(simulated, owner="7") -> dict:
    with simulated.database.transaction() as db:
        return fetch(db, f"SELECT * FROM {TABLE} WHERE owner_id = %s", (owner,))[0]


def never(_: Token) -> Grant:
    raise AssertionError("there is nothing to refresh")


class Platform:
    """Renews tokens, slowly enough that others come while it is at it; each refresh token works once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer_now = threading.Event()
        self.answer_now.set()
        self.error: Exception | None = None

    def refresh(self, token: Token) -> Grant:
        self.asked.append(token.refresh)
        assert self.answer_now.wait(10)
        if self.error:
            raise self.error
        number = int(token.refresh[1:]) + 1
        return Grant(f"a{number}", f"r{number}", datetime.now(UTC) + timedelta(days=1))


@pytest.fixture
def valkey(stack) -> Iterator[redis.Redis]:
    """The real one, with nothing of another test in it."""
    client = redis.Redis(port=stack.valkey.port, password=stack.valkey.password, decode_responses=True)
    yield client
    for key in client.scan_iter(SPARES):
        client.delete(key)
    client.close()


@pytest.fixture
def platform() -> Platform:
    return Platform()


def test_a_token_is_sealed_at_rest_and_silent_in_the_log(tokens, simulated):
    keep(tokens, simulated, access="the-access", refresh="the-refresh")
    found = tokens.find("7")
    assert (found.access, found.refresh, found.scopes) == ("the-access", "the-refresh", ("chat",))
    for shown in (str(row(simulated)), repr(found), str(found), repr(Grant("the-access", "the-refresh"))):
        assert "the-access" not in shown
        assert "the-refresh" not in shown


def test_what_becomes_of_a_consent_is_in_the_log(tokens, simulated, platform, caplog):
    with caplog.at_level("INFO", logger="waddlebot.test"):
        keep(tokens, simulated)
        tokens.fresh("7", platform.refresh, refused=tokens.find("7"))
        tokens.refuse("7", "taken back")
        for _ in range(2):
            with simulated.database.transaction() as db:
                tokens.forget(db, "7")

    lines = [AAAFormatter().format(record) for record in caplog.records]
    assert [re.search(r" AUTH .*action=(\w+) .*owner=7", line)[1] for line in lines] == [
        "consent_given",
        "token_refreshed",
        "consent_lost",
        "consent_withdrawn",
    ]


def test_a_row_copied_to_another_owner_does_not_open(tokens, simulated):
    keep(tokens, simulated)
    with simulated.database.transaction() as db:
        fetch(db, f"UPDATE {TABLE} SET owner_id = '8'")
    with pytest.raises(CannotOpen):
        tokens.find("8")


def test_a_refresh_seals_with_the_new_key(simulated, tokens, platform):
    keep(tokens, simulated)
    assert row(simulated)["access_token"].startswith("old:")
    rotated = tokens_on(simulated, f"{NEW},{OLD}")
    assert rotated.find("7").access == "a1"
    rotated.fresh("7", platform.refresh, refused=rotated.find("7"))
    assert row(simulated)["access_token"].startswith("new:")
    assert row(simulated)["refresh_token"].startswith("new:")


def test_without_keys_nothing_is_kept(simulated):
    with pytest.raises(NotConfigured):
        keep(tokens_on(simulated, None), simulated)


def test_a_good_token_is_used_as_it_is(tokens, simulated):
    keep(tokens, simulated)
    assert tokens.fresh("7", never).access == "a1"
    keep(tokens, simulated, "8", expires_at=None)
    assert tokens.fresh("8", never).access == "a1"


def test_who_never_consented_has_no_token(tokens):
    assert tokens.find("7") is None
    with pytest.raises(NoToken):
        tokens.fresh("7", never)


def test_what_is_about_to_end_is_refreshed_and_keeps_its_scopes(tokens, simulated, platform):
    keep(tokens, simulated, expires_at=now(simulated) + timedelta(minutes=4))
    fresh = tokens.fresh("7", platform.refresh)
    assert (fresh.access, fresh.refresh, fresh.scopes) == ("a2", "r2", ("chat",))
    assert tokens.fresh("7", never) == fresh


def test_two_replicas_with_many_threads_refresh_once(simulated, platform):
    replicas = [tokens_on(simulated), tokens_on(simulated)]
    keep(replicas[0], simulated)
    refused = replicas[0].find("7")
    platform.answer_now.clear()
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(replicas[n % 2].fresh, "7", platform.refresh, refused=refused) for n in range(12)]
        eventually(lambda: platform.asked)
        platform.answer_now.set()
        assert {each.result().access for each in asked} == {"a2"}
    assert platform.asked == ["r1"]


def test_a_token_that_was_replaced_since_is_not_refreshed_again(tokens, simulated, platform):
    keep(tokens, simulated)
    first = tokens.find("7")
    assert tokens.fresh("7", platform.refresh, refused=first).access == "a2"
    assert tokens.fresh("7", never, refused=first).access == "a2"


def test_a_refused_refresh_asks_for_consent_and_hangs_nobody(tokens, simulated, platform):
    keep(tokens, simulated)
    platform.error = RefreshRefused("Twitch does not know this consent any more")
    with pytest.raises(NeedsReauth, match="does not know this consent"):
        tokens.fresh("7", platform.refresh, refused=tokens.find("7"))
    assert tokens.find("7") is None
    with pytest.raises(NeedsReauth, match="does not know this consent"):
        tokens.fresh("7", never)
    assert tokens.check() == Counted("1 kept; 1 must consent again", "7")
    assert tokens.states(["7", "8"])["7"].needs_reauth

    keep(tokens, simulated, access="again")
    assert tokens.fresh("7", never).access == "again"
    assert tokens.check() == Counted("1 kept")


def test_a_platform_that_is_away_costs_nothing_while_the_token_still_works(tokens, simulated, platform):
    keep(tokens, simulated, expires_at=now(simulated) + timedelta(minutes=4))
    platform.error = UpstreamTimeout()
    assert tokens.fresh("7", platform.refresh).access == "a1"
    with pytest.raises(UpstreamTimeout):
        tokens.fresh("7", platform.refresh, refused=tokens.find("7"))
    simulated.advance(minutes=5)
    with pytest.raises(UpstreamTimeout):
        tokens.fresh("7", platform.refresh)
    platform.error = None
    assert tokens.fresh("7", platform.refresh).access == "a2"


def test_a_bug_in_a_refresh_leaves_no_lock(tokens, simulated, platform):
    keep(tokens, simulated)
    platform.error = KeyError("data")
    with pytest.raises(KeyError):
        tokens.fresh("7", platform.refresh, refused=tokens.find("7"))
    platform.error = None
    assert tokens.fresh("7", platform.refresh, refused=tokens.find("7")).access == "a2"


def test_a_replica_that_died_while_refreshing_is_replaced_when_its_lease_ends(simulated, platform):
    dying, living = tokens_on(simulated), tokens_on(simulated)
    keep(dying, simulated)
    refused = dying.find("7")
    platform.answer_now.clear()
    another = Platform()
    with ThreadPoolExecutor(2) as pool:
        dead = pool.submit(dying.fresh, "7", platform.refresh, refused=refused)
        eventually(lambda: platform.asked)
        waiting = pool.submit(living.fresh, "7", another.refresh, refused=refused)
        assert not another.asked
        simulated.advance(seconds=21)
        assert waiting.result().access == "a2"
        # What comes back from the dead finds that it is too late, and is refused for nothing.
        platform.error = RefreshRefused("used before")
        platform.answer_now.set()
        assert dead.result().access == "a2"
    assert another.asked == ["r1"]


def test_who_consents_while_a_refresh_is_under_way_wins(tokens, simulated, platform):
    keep(tokens, simulated)
    platform.answer_now.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(tokens.fresh, "7", platform.refresh, refused=tokens.find("7"))
        eventually(lambda: platform.asked)
        keep(tokens, simulated, access="consented", refresh="r9")
        platform.answer_now.set()
        assert asked.result().access == "consented"
    assert tokens.find("7").refresh == "r9"


def test_news_of_lost_consent_that_comes_late_does_not_end_a_new_one(tokens, simulated):
    keep(tokens, simulated)
    simulated.advance(minutes=1)
    disconnected_at = now(simulated)
    simulated.advance(minutes=1)
    keep(tokens, simulated, access="again")
    assert not tokens.refuse("7", "they left", known_at=disconnected_at)
    assert tokens.find("7").access == "again"
    simulated.advance(minutes=1)
    assert tokens.refuse("7", "they left", known_at=now(simulated))
    assert tokens.find("7") is None


def test_without_a_refresh_token_consent_is_asked_for(tokens, simulated):
    keep(tokens, simulated, refresh="", expires_at=now(simulated) - timedelta(minutes=1))
    with pytest.raises(NeedsReauth, match="cannot be renewed"):
        tokens.fresh("7", never)


def test_each_token_is_checked_by_one_replica_an_hour(simulated, tokens):
    for owner in ("1", "2", "3"):
        keep(tokens, simulated, owner)
    hour = timedelta(hours=1)
    assert tokens.take_unchecked(older_than=hour, limit=10) == []
    simulated.advance(minutes=61)
    first = tokens.take_unchecked(older_than=hour, limit=2)
    assert len(first) == 2
    rest = tokens_on(simulated).take_unchecked(older_than=hour, limit=10)
    assert {each.owner for each in first + rest} == {"1", "2", "3"}
    assert tokens.take_unchecked(older_than=hour, limit=10) == []


def test_a_token_whose_key_is_gone_is_not_in_the_others_way(simulated, tokens):
    keep(tokens, simulated, "1")
    rotated = tokens_on(simulated, NEW)
    keep(rotated, simulated, "2")
    simulated.advance(minutes=61)
    assert [each.owner for each in rotated.take_unchecked(older_than=timedelta(hours=1), limit=10)] == ["2"]
    with pytest.raises(CannotOpen):
        rotated.find("1")


def test_a_forgotten_token_is_gone(tokens, simulated):
    keep(tokens, simulated)
    with simulated.database.transaction() as db:
        tokens.forget(db, "7")
    with pytest.raises(NoToken):
        tokens.fresh("7", never)


class Losing(Platform):
    """Renews tokens, and the database is gone before the answer can be stored."""

    def __init__(self, simulated) -> None:
        super().__init__()
        self.simulated = simulated

    def refresh(self, token: Token) -> Grant:
        grant = super().refresh(token)
        self.simulated.lose()
        return grant


# The same in a process that is killed before it can do anything about it.
DIES = """
import os, signal, redis
from waddlebot.base.encryption import Keyring
from waddlebot.base.logs import AAALog
from waddlebot.base.settings import Settings
from waddlebot.community.tokens import Grant, Tokens
from waddlebot.testing.simulated import SimulatedDatabase

simulated = SimulatedDatabase(os.environ["SERVER"], os.environ["NAME"])
keyring = Keyring(Settings(DATABASE_URL="postgresql://h/d", WADDLEBOT_ENCRYPTION_KEYS=os.environ["KEYS"]))
spare = redis.Redis(port=int(os.environ["PORT"]), password=os.environ["PASSWORD"], decode_responses=True)
tokens = Tokens(simulated.database, "twitch_tokens", keyring, log=AAALog("test", "1"), spare=spare)

def refresh(token):
    simulated.lose()
    return Grant("a2", "r2")

print(tokens.fresh("7", refresh, refused=tokens.find("7")).access, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def die_refreshing(simulated, stack) -> None:
    environment = {
        **AS_STARTED,
        "SERVER": simulated.server_url,
        "NAME": simulated.name,
        "KEYS": OLD,
        "PORT": str(stack.valkey.port),
        "PASSWORD": stack.valkey.password,
    }
    died = subprocess.run([sys.executable, "-c", DIES], env=environment, capture_output=True, text=True, check=False)
    simulated.restore()
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "a2\n"), died.stderr


def stored(simulated):
    return row(simulated)["version"], row(simulated)["state"]


def test_a_refresh_that_cannot_be_stored_is_used_and_stored_later(simulated, tokens):
    losing = Losing(simulated)
    keep(tokens, simulated)
    fresh = tokens.fresh("7", losing.refresh, refused=tokens.find("7"))
    assert (fresh.access, fresh.refresh, fresh.version) == ("a2", "r2", 2)
    # While the database is away the new token is at hand, and nobody asks the platform again.
    assert tokens.fresh("7", never) == tokens.find("7") == fresh
    with pytest.raises(DatabaseUnavailable):
        tokens.fresh("7", never, refused=fresh)
    assert losing.asked == ["r1"]

    simulated.restore()
    eventually(lambda: stored(simulated) == (2, "ok"))
    other = tokens_on(simulated)
    assert (other.find("7").access, other.find("7").refresh) == ("a2", "r2")
    # The next one is bought with what was rescued.
    assert other.fresh("7", Platform().refresh, refused=other.find("7")).access == "a3"


def test_what_a_dead_process_could_not_store_is_found_by_the_next_refresh(simulated, stack, valkey):
    living = tokens_on(simulated, spare=valkey)
    keep(living, simulated)
    refused = living.find("7")
    die_refreshing(simulated, stack)
    (copy,) = [valkey.get(key) for key in valkey.scan_iter(SPARES)]
    assert "r2" not in copy.replace(json.loads(copy)["refresh"], "")
    assert stored(simulated) == (1, "ok")

    found = living.fresh("7", never, refused=refused)
    assert (found.access, found.refresh, found.version) == ("a2", "r2", 2)
    assert stored(simulated) == (2, "ok")
    assert list(valkey.scan_iter(SPARES)) == []


def test_a_replica_that_tried_the_used_up_refresh_token_does_not_end_the_new_one(simulated, stack, valkey):
    living, blind = tokens_on(simulated, spare=valkey), tokens_on(simulated)
    keep(living, simulated)
    refused = living.find("7")
    die_refreshing(simulated, stack)
    simulated.advance(seconds=21)
    platform = Platform()
    platform.error = RefreshRefused("it was used before")
    with pytest.raises(NeedsReauth):
        blind.fresh("7", platform.refresh, refused=refused)

    assert living.fresh("7", never).access == "a2"
    assert stored(simulated) == (2, "ok")
    # A refusal of that one counts.
    platform.error = RefreshRefused("they left")
    with pytest.raises(NeedsReauth, match="they left"):
        living.fresh("7", platform.refresh, refused=living.find("7"))
    with pytest.raises(NeedsReauth, match="they left"):
        living.fresh("7", never)


def test_who_consented_meanwhile_is_not_overruled(simulated, stack, valkey):
    living = tokens_on(simulated, spare=valkey)
    keep(living, simulated)
    refused = living.find("7")
    die_refreshing(simulated, stack)
    keep(living, simulated, access="consented", refresh="r9")
    assert living.fresh("7", never, refused=refused).access == "consented"
    assert living.fresh("7", Platform().refresh, refused=living.find("7")).access == "a10"


def test_who_left_meanwhile_and_comes_back_has_only_what_they_granted_then(simulated, stack, valkey, platform):
    living = tokens_on(simulated, spare=valkey)
    keep(living, simulated)
    die_refreshing(simulated, stack)
    with simulated.database.transaction() as db:
        living.forget(db, "7")
    with pytest.raises(NoToken):
        living.fresh("7", never)
    keep(living, simulated, access="again", refresh="r9")
    assert living.fresh("7", platform.refresh, refused=living.find("7")).access == "a10"


def test_a_copy_that_another_key_sealed_is_no_worse_than_none(simulated, stack, valkey, platform):
    living = tokens_on(simulated, NEW, spare=valkey)
    keep(living, simulated)
    refused = living.find("7")
    copy = {"access": "old:x", "refresh": "old:x", "expires_at": None, "scopes": [], "version": 2}
    valkey.set(f"waddlebot:token:{TABLE}:7", json.dumps(copy))
    assert living.fresh("7", platform.refresh, refused=refused).access == "a2"
