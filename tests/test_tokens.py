"""OAuth tokens: sealed at rest, refreshed by one replica only, and never a hang when a platform says no."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from waddlebot.base.encryption import CannotOpen, Keyring
from waddlebot.base.errors import NotConfigured, UpstreamTimeout
from waddlebot.base.logs import AAALog
from waddlebot.base.settings import Settings
from waddlebot.community.tokens import Grant, NeedsReauth, NoToken, RefreshRefused, Token, Tokens
from waddlebot.data.database import fetch
from waddlebot.fleet.home import make_encryption_key
from waddlebot.testing.plugin import eventually

OLD, NEW = make_encryption_key("old"), make_encryption_key("new")
TABLE = "twitch_tokens"


def tokens_on(simulated, keys=OLD) -> Tokens:
    keyring = Keyring(Settings(DATABASE_URL="postgresql://h/d", WADDLEBOT_ENCRYPTION_KEYS=keys))
    return Tokens(simulated.database, TABLE, keyring, log=AAALog("test", "1"))


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
def platform() -> Platform:
    return Platform()


def test_a_token_is_sealed_at_rest_and_silent_in_the_log(tokens, simulated):
    keep(tokens, simulated, access="the-access", refresh="the-refresh")
    found = tokens.find("7")
    assert (found.access, found.refresh, found.scopes) == ("the-access", "the-refresh", ("chat",))
    for shown in (str(row(simulated)), repr(found), str(found), repr(Grant("the-access", "the-refresh"))):
        assert "the-access" not in shown
        assert "the-refresh" not in shown


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
    assert tokens.check() == "1 kept; 1 must consent again, the latest 7"
    assert tokens.states(["7", "8"])["7"].needs_reauth

    keep(tokens, simulated, access="again")
    assert tokens.fresh("7", never).access == "again"
    assert tokens.check() == "1 kept"


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
