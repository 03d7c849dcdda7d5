"""The hub as a page meets it: what it gets, what it says, and what happens when something dies."""

from __future__ import annotations

import contextlib
import signal
import socket as sockets
import threading
from urllib.parse import quote

import pytest
from overlay_doubles import HubProcess, Overlay, database_away, redis_away
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.plugin import eventually
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def texts(frames):
    return [frame["data"]["text"] for frame in frames if frame["type"] == "item"]


def refused(live: Overlay, path: str) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(f"{live.hub.url}{path}"):
        pass
    return caught.value.response.status_code


def closed_with(socket) -> int:
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            socket.connection.recv(timeout=10)
    return caught.value.rcvd.code


# What a page gets


def test_an_item_reaches_an_open_page(live):
    page = live.connect().hello()

    seq = live.ticker("hello", style="success", display_s=7)

    item = page.receive()
    assert (item["seq"], item["action"], item["display_s"], item["test"]) == (seq, "ticker", 7, False)
    assert item["data"] == {"text": "hello", "priority": 5, "style": "success"}


def test_only_the_community_and_the_source_meant_get_an_item(live, fleet):
    stranger = Overlay(fleet.bot(), live.hub)
    others = [stranger.connect().hello(), live.connect("media").hello(), live.connect("general").hello()]
    mine = live.connect().hello()

    live.ticker("for one")

    assert mine.receive()["data"]["text"] == "for one"
    frames = [frame for other in others for frame in other.receive_until_pong()]
    assert {each["type"] for each in frames} <= {"lead"}
    stranger.open_sockets.close()


def test_a_page_that_was_away_gets_what_nobody_was_shown_in_order(live):
    for n in range(5):
        live.ticker(f"item {n}")

    page = live.connect().hello()

    assert texts(page.receive_until_pong()) == [f"item {n}" for n in range(5)]


def test_a_page_that_comes_back_gets_the_rest_once(live):
    page = live.connect().hello()
    first = live.ticker("first")
    assert page.receive()["seq"] == first
    page.ack(first, "received")
    page.receive_until_pong()
    page.close()
    live.ticker("second")
    live.ticker("third")

    back = live.connect().hello(last_seq=first)

    assert texts(back.receive_until_pong()) == ["second", "third"]


def test_what_no_page_confirmed_comes_again(live):
    """The frame may have been lost with the socket, whatever the page says to have seen since."""
    page = live.connect().hello()
    first, second = live.ticker("first"), live.ticker("second")
    assert [page.receive()["seq"], page.receive()["seq"]] == [first, second]
    page.ack(second, "received")
    page.receive_until_pong()
    page.close()

    back = live.connect().hello(last_seq=second)

    assert texts(back.receive_until_pong()) == ["first"]


@pytest.mark.parametrize("state", ["shown", "done"])
def test_what_was_shown_does_not_come_again(live, state):
    page = live.connect().hello()
    seq = live.ticker("once")
    page.receive()
    page.ack(seq, state)
    page.receive_until_pong()

    other = live.connect().hello()

    assert other.receive_until_pong() == []
    eventually(lambda: live.states() == [state])
    row = live.rows()[0]
    assert row["received_at"] and row["shown_at"] and bool(row["done_at"]) == (state == "done")


def test_a_confirmation_never_takes_a_later_one_back(live):
    page = live.connect().hello()
    seq = live.ticker("once")
    page.receive()
    for state in ("done", "shown", "received"):
        page.ack(seq, state)

    page.receive_until_pong()
    eventually(lambda: live.states() == ["done"])
    page.ack(seq, "shown")
    live.connect().hello().receive_until_pong()
    assert live.states() == ["done"]


def test_what_stands_until_it_is_replaced_stands_again_after_a_reload(live):
    page = live.connect("general").hello()
    seq = live.display("general", {"kind": "announcement", "text": "stands", "display_s": 0})["seq"]
    page.receive()
    page.ack(seq, "shown")
    page.receive_until_pong()

    reloaded = live.connect("general").hello(last_seq=0)
    reconnected = live.connect("general").hello(last_seq=seq)

    assert texts(reloaded.receive_until_pong()) == ["stands"]
    assert reconnected.receive_until_pong() == []


def test_a_page_that_says_nothing_gets_what_comes_from_then_on(live):
    live.ticker("before")
    page = live.connect()
    page.receive("hello")

    live.ticker("after")

    assert page.receive()["data"]["text"] == "after"


def test_the_same_item_again_is_not_sent_again(live):
    page = live.connect().hello()
    first = live.display("ticker", {"text": "one"}, item_id="same")
    again = live.display("ticker", {"text": "two"}, item_id="same")

    assert (first["seq"], first["duplicate"]) == (again["seq"], False)
    assert again["duplicate"]
    assert texts(page.receive_until_pong()) == ["one"]


def test_many_at_the_same_moment_arrive_in_the_order_of_their_numbers(live):
    page = live.connect().hello()
    numbers = list(range(60))
    threads = [
        threading.Thread(target=lambda part=numbers[n::6]: [live.ticker(f"t{n}") for n in part]) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    seqs = [page.receive()["seq"] for _ in numbers]
    assert seqs == list(range(1, 61))


def test_an_item_whose_time_is_over_is_not_sent(live, fleet):
    live.ticker("old")
    with fleet.database.transaction() as db:
        db.executesql(
            "UPDATE browser_source_history SET expires_at = now() WHERE community_id = %s", (live.bot.community_id,)
        )

    assert live.connect().hello().receive_until_pong() == []
    eventually(lambda: live.states() == ["expired"])


def test_a_page_that_was_away_for_long_gets_the_most_important_of_what_is_too_much(live, fleet):
    """TICKER_QUEUE_SIZE is 100."""
    for n in range(130):
        live.ticker(f"item {n}", priority=1 if n == 0 else 5)
    with fleet.database.transaction() as db:
        db.executesql(
            "UPDATE browser_source_history SET created_at = now() - interval '2 minutes' WHERE community_id = %s",
            (live.bot.community_id,),
        )
    eventually(lambda: live.states().count("dropped") == 30)

    assert texts(live.connect().hello().receive_until_pong()) == ["item 0", *(f"item {n}" for n in range(31, 130))]


# What moderators do


def test_controls_reach_open_pages(live):
    page = live.connect().hello()
    seq = live.ticker("on the screen")
    page.receive()
    page.ack(seq, "shown")
    page.receive_until_pong()
    eventually(lambda: live.states() == ["shown"])

    for action in ("pause", "resume", "skip", "clear"):
        live.control(action)

    controls = [page.receive("control") for _ in range(4)]
    assert [each["action"] for each in controls] == ["pause", "resume", "skip", "clear"]
    assert controls[2]["seq"] == seq
    assert live.states() == ["skipped"]


def test_a_page_that_comes_later_knows_of_the_pause(live):
    live.control("pause")

    assert live.connect().receive("hello")["paused"] is True


def test_a_page_that_was_away_is_told_what_was_skipped_meanwhile(live):
    page = live.connect()
    known = page.receive("hello")["control"]
    page.send(type="hello", last_seq=0)
    seq = live.ticker("waits")
    page.receive()
    page.close()
    live.control("skip")

    back = live.connect().hello(last_seq=seq, control=known)

    assert [(each["action"], each["seq"]) for each in back.receive_until_pong()] == [("skip", seq)]


def test_replay_brings_the_last_item_back(live):
    page = live.connect().hello()
    seq = live.ticker("again")
    page.receive()
    page.ack(seq, "done")
    page.receive_until_pong()
    eventually(lambda: live.states() == ["done"])

    live.control("replay")

    assert page.receive()["data"]["text"] == "again"


def test_an_item_of_the_history_can_be_named_for_replay(live):
    page = live.connect().hello()
    live.display("ticker", {"text": "one"}, item_id="first")
    live.display("ticker", {"text": "two"}, item_id="second")

    live.control("replay", item_id="first")

    assert texts([page.receive() for _ in range(3)]) == ["one", "two", "one"]


def test_a_theme_reaches_open_pages_and_later_ones(live, fleet):
    page = live.connect().hello()
    body = {"community_id": live.bot.slug, "variables": {"--accent": "#ff00aa", "scale": 1.25}}
    assert fleet.request("PUT", "/browser/source/admin/theme", body).status == 200

    control = page.receive("control")
    assert (control["action"], control["variables"]) == ("theme", {"accent": "#ff00aa", "scale": "1.25"})
    assert live.connect().receive("hello")["theme"] == control["variables"]


# Who may connect


def test_a_wrong_token_is_refused(live):
    assert refused(live, f"/ws/{'x' * 43}/ticker") == 403


def test_a_token_opens_its_own_source_only(live):
    token = live.tokens()["ticker"]["token"]

    live.connect("ticker", token).receive("hello")
    assert refused(live, f"/ws/{token}/media") == 403
    assert refused(live, f"/ws/{token}/other") == 404


def test_a_revoked_token_ends_the_page_and_opens_nothing(live, fleet):
    token = live.tokens()["ticker"]
    page = live.connect("ticker", token["token"]).hello()
    page.receive_until_pong()

    assert fleet.request("DELETE", f"/browser/source/admin/tokens/{token['id']}").status == 200

    assert closed_with(page) == 4403
    assert refused(live, f"/ws/{token['token']}/ticker") == 403


def test_after_a_regeneration_the_old_token_works_for_the_grace_that_was_chosen(live, fleet):
    old = live.tokens()["ticker"]
    path = f"/browser/source/admin/tokens/{old['token']}/regenerate"
    answer = fleet.request("POST", path, {"grace_s": 600}).json()

    pages = [live.connect("ticker", token).hello() for token in (old["token"], answer["token"]["token"])]
    live.ticker("both")
    assert [page.receive()["data"]["text"] for page in pages] == ["both", "both"]

    assert fleet.request("POST", path, {"grace_s": 0}).status == 200
    assert closed_with(pages[0]) == 4403
    pages[1].receive_until_pong()


def test_a_token_whose_grace_runs_out_is_closed_without_anybody_doing_anything(live, fleet):
    old = live.tokens()["ticker"]
    page = live.connect("ticker", old["token"]).hello()
    fleet.request("POST", f"/browser/source/admin/tokens/{old['id']}/regenerate", {"grace_s": 0.5})

    assert closed_with(page) == 4403


@pytest.mark.parametrize("token", ["x", "short", "x" * 43, "x" * 129, "x" * 2000, "%00", "ä"])
def test_a_wrong_token_is_refused_whatever_it_looks_like(live, token):
    assert refused(live, f"/ws/{quote(token, safe='%')}/ticker") == 403


def test_a_page_that_was_open_for_a_moment_has_been_seen(live):
    live.connect("ticker").hello().close()

    eventually(lambda: live.stats("ticker")["last_seen"] is not None, within_s=30)


@pytest.mark.parametrize("path", ["/", "/ws", "/ws//ticker", "/ws/../../etc/passwd"])
def test_other_paths_lead_nowhere(live, path):
    assert refused(live, path) == 404


# What a page may not do


def test_a_binary_frame_ends_the_page(live):
    page = live.connect().hello()
    page.connection.send(b"\x00")

    assert closed_with(page) == 1003


def test_an_oversize_frame_ends_the_page(live):
    page = live.connect().hello()
    page.send(type="error", message="x" * 100_000)

    assert closed_with(page) == 1009


def test_a_flood_ends_the_page_that_makes_it_and_no_other(live):
    other, page = live.connect().hello(), live.connect().hello()

    def flood() -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(50_000):
                page.send(type="ping")

    flooding = threading.Thread(target=flood)
    flooding.start()
    assert closed_with(page) == 1008
    flooding.join(10)

    live.ticker("still here")
    assert other.receive()["data"]["text"] == "still here"


@pytest.mark.parametrize(
    "frame",
    ["", "not json", "[]", "1", '{"type": 5}', '{"type":"ack"}', '{"type":"ack","seq":1,"state":"eaten"}',
     '{"type":"ack","seq":"1","state":"shown"}', '{"type":"hello","last_seq":"x"}', "[" * 1000],
)  # fmt: skip
def test_nonsense_is_passed_over_and_much_of_it_ends_the_page(live, frame):
    page = live.connect().hello()
    seq = live.ticker("fine")
    page.receive()
    page.connection.send(frame)
    assert page.receive_until_pong() == []

    with contextlib.suppress(ConnectionClosed):
        for _ in range(40):
            page.connection.send(frame)

    assert closed_with(page) == 1008
    assert live.rows()[0]["seq"] == seq and live.states() == ["queued"]


def test_what_was_never_sent_cannot_be_confirmed(live):
    page = live.connect().hello()
    page.ack(1, "done")
    page.receive_until_pong()

    live.ticker("new")

    assert page.receive()["seq"] == 1
    assert live.states() == ["queued"]


def test_a_page_that_does_not_read_is_dropped_and_delays_nobody(live):
    page = live.connect("general").hello()
    page.receive_until_pong()
    dropped = live.hub.health()["counts"].get("too_slow", 0)
    token = live.tokens()["general"]["token"]
    port = int(live.hub.environment["WEBSOCKET_PORT"])
    with sockets.socket() as deaf:
        deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.sendall(
            f"GET /ws/{token}/general HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        eventually(lambda: live.stats("general")["connections"] == 2)

        html = "<p>" + "x" * 45_000 + "</p>"
        for n in range(150):
            live.display("general", {"kind": "html", "html": f"{n}{html}"})
            assert page.receive()["data"]["html"].startswith(str(n))

        eventually(lambda: live.hub.health()["counts"].get("too_slow", 0) == dropped + 1)


def test_a_hub_holds_no_more_than_its_limit(live):
    small = HubProcess(WEBSOCKET_PORT=str(free_port()), MAX_CONNECTIONS="3").start()
    try:
        pages = [live.connect(hub=small).hello() for _ in range(3)]
        for page in pages:
            page.receive_until_pong()
        with pytest.raises(InvalidStatus) as caught:
            live.connect(hub=small)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"]

        pages[0].close()
        eventually(lambda: small.health()["connections"] == 2)
        live.connect(hub=small).hello().receive_until_pong()
    finally:
        small.end()


# When something dies


def test_two_hubs_serve_the_same_overlay(live):
    second = HubProcess(WEBSOCKET_PORT=str(free_port())).start()
    try:
        pages = [live.connect().hello(), live.connect(hub=second).hello()]
        for page in pages:
            page.receive_until_pong()
        seq = live.ticker("everywhere")
        assert [page.receive()["data"]["text"] for page in pages] == ["everywhere"] * 2

        pages[1].ack(seq, "done")
        eventually(lambda: live.states() == ["done"])
        eventually(lambda: live.stats("ticker")["connections"] == 2)
    finally:
        second.end()


def test_a_hub_that_stops_tells_its_pages_to_come_back(live):
    page = live.connect().hello()
    seq = live.ticker("seen")
    page.receive()
    page.ack(seq, "done")
    page.receive_until_pong()

    live.hub.restart()

    assert closed_with(page) == 1012
    assert live.states() == ["done"]


def test_after_a_hub_was_killed_its_pages_get_what_they_missed(live):
    page = live.connect().hello()
    first = live.ticker("before")
    page.receive()
    page.ack(first, "received")
    page.receive_until_pong()
    eventually(lambda: live.rows()[0]["received_at"])

    live.hub.end(signal.SIGKILL)
    live.ticker("meanwhile")
    live.hub.start()

    back = live.connect().hello(last_seq=first)
    assert texts(back.receive_until_pong()) == ["meanwhile"]


def test_while_redis_is_away_items_come_all_the_same(live, stack):
    page = live.connect().hello()
    page.receive_until_pong()
    with redis_away(stack):
        live.ticker("without redis")
        assert page.receive()["data"]["text"] == "without redis"
        live.control("pause")
        assert page.receive("control")["action"] == "pause"

    live.ticker("with redis")
    assert page.receive()["data"]["text"] == "with redis"


def test_while_the_database_is_away_open_pages_stay(live, stack):
    page = live.connect().hello()
    live.ticker("before")
    seq = page.receive()["seq"]
    with database_away(stack):
        page.ack(seq, "shown")
        assert page.receive_until_pong() == []
        assert live.try_display("ticker", {"text": "nobody can keep it"}).status == 503

    eventually(lambda: live.try_display("ticker", {"text": "after"}).status == 200)
    assert page.receive()["data"]["text"] == "after"
    eventually(lambda: live.states()[0] == "shown")


# What is known of pages


def test_a_page_that_is_open_twice_is_told_so_and_both_work(live):
    first, second = live.connect(), live.connect()
    hellos = [page.receive("hello") for page in (first, second)]
    for page in (first, second):
        page.send(type="hello", last_seq=0)
    live.ticker("twice")

    assert [page.receive()["data"]["text"] for page in (first, second)] == ["twice", "twice"]
    assert hellos[1]["pages"] == 2
    first.send(type="ping")
    assert first.receive("pong")["pages"] == 2


def test_figures_tell_of_connections_deliveries_and_acknowledgements(live):
    page = live.connect("media").hello()
    for title in ("one", "two", "three"):
        live.display("media", {"media_type": "music", "title": title})
    seqs = [page.receive()["seq"] for _ in range(3)]
    page.ack(seqs[0], "done")
    page.ack(seqs[1], "shown")
    page.ack(seqs[2], "received")
    page.send(type="ping", hidden=True)
    page.receive("pong")

    eventually(lambda: live.stats("media")["hidden"] == 1)
    eventually(lambda: live.stats("media")["acknowledgements"] == {"received": 3, "shown": 2, "done": 1})
    figures = live.stats("media")
    assert (figures["connections"], figures["deliveries"], figures["waiting"]) == (1, 3, 1)
    assert figures["last_seen"] is None or figures["average_ms_to_shown"] >= 0
    page.close()
    eventually(lambda: live.stats("media")["connections"] == 0)
