"""The way to a consent page and back: once, within ten minutes, in the same browser; and whose the channel is then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from waddlebot.community.communities import ensure_community
from waddlebot.community.consent import Consenter, NotYourCommunity, ensure_user, leave, list_owned, settle
from waddlebot.community.directory import add_server
from waddlebot.community.oauth import BadState, OAuthStates, OtherBrowser, StateExpired, StateUsed
from waddlebot.data.database import fetch, fetch_one


@pytest.fixture
def states(simulated) -> OAuthStates:
    return OAuthStates(simulated.database, "twitch", path="/twitch/auth", secure=True)


def cookie_of(started) -> str:
    return started.set_cookie.partition(";")[0]


def test_a_state_brings_back_what_it_was_made_with_once(states):
    started = states.start({"community": "demo"})
    assert states.finish(started.state, cookie_of(started)) == {"community": "demo"}
    with pytest.raises(StateUsed):
        states.finish(started.state, cookie_of(started))


def test_the_cookie_is_for_this_path_and_no_script(states, simulated):
    attributes = states.start({}).set_cookie.split("; ")[1:]
    assert attributes == ["Max-Age=600", "Path=/twitch/auth", "HttpOnly", "SameSite=Lax", "Secure"]
    at_home = OAuthStates(simulated.database, "twitch", path="/twitch/auth", secure=False)
    assert "Secure" not in at_home.start({}).set_cookie


def test_two_tabs_of_one_browser_do_not_disturb_each_other(states):
    first, second = states.start({"tab": 1}), states.start({"tab": 2})
    cookies = f"other=1; {cookie_of(first)}; {cookie_of(second)}"
    assert states.finish(second.state, cookies) == {"tab": 2}
    assert states.finish(first.state, cookies) == {"tab": 1}


def test_a_state_that_was_never_made_is_refused(states, simulated):
    with pytest.raises(BadState):
        states.finish("forged", "")
    slack = OAuthStates(simulated.database, "slack", path="/slack/auth", secure=True)
    started = slack.start({})
    with pytest.raises(BadState):
        states.finish(started.state, cookie_of(started))


def test_a_state_ends_after_ten_minutes(states, simulated):
    started = states.start({})
    simulated.advance(minutes=11)
    with pytest.raises(StateExpired):
        states.finish(started.state, cookie_of(started))


@pytest.mark.parametrize("cookies", ["", "nonsense", "waddlebot_oauth_0=1"])
def test_another_browser_is_refused_and_the_state_is_used_up(states, cookies):
    started = states.start({})
    with pytest.raises(OtherBrowser):
        states.finish(started.state, cookies)
    with pytest.raises(StateUsed):
        states.finish(started.state, cookie_of(started))


def test_of_many_that_come_back_at_once_one_gets_in(states):
    started = states.start({})

    def finish(_: int) -> bool:
        try:
            states.finish(started.state, cookie_of(started))
        except StateUsed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(finish, range(8))) == 1


def test_only_hashes_are_stored_and_old_rows_go(states, simulated):
    started = states.start({"a": 1})
    with simulated.database.transaction() as db:
        stored = str(fetch(db, "SELECT * FROM oauth_states"))
    assert started.state not in stored
    assert cookie_of(started).partition("=")[2] not in stored
    simulated.advance(hours=2)
    states.start({})
    with simulated.database.transaction() as db:
        assert len(fetch(db, "SELECT 1 FROM oauth_states")) == 1


# Whose the channel is

ADA = Consenter("twitch", "501", "ada", "Ada")
BOB = Consenter("twitch", "502", "bob", "Bob")


@pytest.fixture
def db(simulated):
    with simulated.database.transaction() as db:
        yield db


def settled(db, person=ADA, **options):
    return settle(db, person, channel=person.platform_user_id, name=person.display_name, **options)


def test_a_channel_gets_a_community_named_after_it_owned_by_who_consented(db):
    home = settled(db)
    assert (str(home.entity), home.slug, home.community_name, home.is_new) == ("twitch::501", "ada", "Ada", True)
    owner = fetch_one(db, "SELECT owner_id FROM communities WHERE id = %s", (home.community_id,))
    role = fetch_one(db, "SELECT user_id, role FROM community_rbac WHERE community_id = %s", (home.community_id,))
    assert owner["owner_id"] == home.user_id == ensure_user(db, ADA)
    assert role == {"user_id": home.user_id, "role": "owner"}
    assert [each["slug"] for each in list_owned(db, home.user_id)] == ["ada"]


def test_consenting_again_changes_nothing(db):
    first, second = settled(db), settled(db)
    assert (second.community_id, second.user_id, second.is_new) == (first.community_id, first.user_id, False)


def test_a_name_that_is_taken_gets_a_number(db):
    ensure_community(db, "ada", "Somebody else's")
    assert settled(db).slug == "ada-2"


def test_a_name_in_another_script_falls_back_to_the_login(db):
    assert settled(db, Consenter("twitch", "503", "vera", "Вера")).slug == "vera"


def test_they_may_choose_a_community_of_theirs_and_no_other(db):
    home = settled(db)
    second = settle(db, ADA, channel="777", name="Second channel", community="ada")
    assert second.community_id == home.community_id
    with pytest.raises(NotYourCommunity):
        settle(db, BOB, channel="502", name="Bob", community="ada")
    with pytest.raises(NotYourCommunity):
        settle(db, ADA, channel="501", name="Ada", community="global")
    with pytest.raises(NotYourCommunity):
        settle(db, ADA, channel="501", name="Ada", community="no such")


def test_a_channel_in_the_operators_community_stays_there_and_makes_nobody_its_owner(db):
    add_server(db, "twitch", "501", community="demo")
    home = settled(db)
    assert (home.slug, home.is_new) == ("demo", False)
    assert list_owned(db, home.user_id) == []


def test_leaving_stops_serving_and_coming_back_finds_everything(db):
    home = settled(db)
    assert leave(db, home.entity)
    assert not leave(db, home.entity)
    active = fetch_one(db, "SELECT is_active FROM entities WHERE entity_id = 'twitch::501'")
    assert active == {"is_active": False}
    assert settled(db).community_id == home.community_id


def test_a_channel_that_left_somebody_elses_community_gets_its_own(db):
    add_server(db, "twitch", "501", community="demo")
    leave(db, settled(db).entity)
    assert settled(db).slug == "ada"
