"""Music: what plays, what waits, skipping, and whose Spotify plays."""

from __future__ import annotations

from typing import Any

from py4web import request
from pydal.validators import IS_NOT_EMPTY
from waddlebot.base.errors import UpstreamError, UserError, WaddleBotError
from waddlebot.data.database import Database, Prepared, fetch
from waddlebot.web.forms import Field, PageForm
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.fleet_api import Answer, FleetAPI, FleetRefused
from ..services.seats import Seat, Seats
from .parts import Buttons, check_act, refuse, value

SHOWN, LATELY = 30, 8
# What a button does: which module's endpoint, and what is said then.
DOES = {
    "youtube-skip": ("/youtube/skip", "Skipped."),
    "youtube-stop": ("/youtube/stop", "Stopped. What waits stays."),
    "spotify-skip": ("/spotify/skip", "Skipped."),
    "spotify-pause": ("/spotify/pause", "Paused."),
    "spotify-resume": ("/spotify/resume", "It goes on."),
}
WAITING_ON_YOUTUBE = Prepared(
    "portal_youtube_queue",
    "SELECT title, artist, duration, requested_by, count(*) OVER () AS total FROM youtube_queue"
    " WHERE community_id = %(community)s::bigint ORDER BY rank, id LIMIT %(limit)s::bigint",
)
PLAYED_LATELY = Prepared(
    "portal_youtube_history",
    "SELECT title, artist, duration, requested_by FROM youtube_history WHERE community_id = %(community)s::bigint"
    " ORDER BY id DESC LIMIT %(lately)s::bigint",
)
WAITING_ON_SPOTIFY = Prepared(
    "portal_spotify_queue",
    "SELECT track_name AS title, artists AS artist, duration_ms / 1000 AS duration, requested_by FROM spotify_queue"
    " WHERE community_id = %(community)s::bigint AND state IN ('asked', 'queued') ORDER BY id LIMIT %(limit)s::bigint",
)


@page("GET POST", "/portal/c/<community>/music", "music.html")
def show_music(
    community: str,
    login: Login,
    session: PageSession,
    flash: PageFlash,
    seats: Seats,
    fleet: FleetAPI,
    database: Database,
) -> Any:
    """What plays and waits, from YouTube and from Spotify."""
    seat = seats.take(login, community, "music", "editor" if request.method == "POST" else "viewer")
    here = {"community_id": seat.community_id}
    fields = [Field("query", label="Song", requires=IS_NOT_EMPTY("Words, or a link of YouTube's."))]
    form = PageForm(fields, session, form_name="song", submit_value="Add song")
    if form.accepted:
        try:
            done = fleet.ask(seat, "music", "POST", "/youtube/play", {"query": form.vars["query"], **here})
        except FleetRefused as err:
            refuse(form, err)
        else:
            flash.set("It plays." if done["now_playing"] else f"{len(done['queued'])} in the queue.")
            return go_to(f"{seat.path}/music")
    youtube, spotify = _begin(seat, fleet, "/youtube/now-playing"), _begin(seat, fleet, "/spotify/now-playing")
    accounts = _begin(seat, fleet, "/spotify/account") if seat.may("music", "owner") else dict
    values = {"community": seat.community_id, "limit": SHOWN, "lately": LATELY}
    with database.reading() as db:
        queue, history, waiting = (
            fetch(db, each, values) for each in (WAITING_ON_YOUTUBE, PLAYED_LATELY, WAITING_ON_SPOTIFY)
        )
    return seat.shown(
        "Music",
        form=form,
        youtube=youtube(),
        queue=queue,
        history=history,
        spotify=spotify(),
        waiting=waiting,
        accounts=accounts(),
        clock=clock,
        button=Buttons(session),
    )


@page("POST", "/portal/c/<community>/music/do")
def change_music(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Skip, stop, pause or go on."""
    seat = seats.take(login, community, "music", "editor")
    check_act(session)
    path, said = DOES.get(value("do"), DOES["youtube-skip"])
    body: dict[str, Any] = {"community_id": seat.community_id}
    body |= {"track_id": value("track_id")} if value("track_id") else {}
    try:
        fleet.ask(seat, "music", "POST", path, body)
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
    else:
        flash.set(said)
    return go_to(f"{seat.path}/music")


@page("POST", "/portal/c/<community>/music/account")
def choose_account(
    community: str, login: Login, session: PageSession, flash: PageFlash, seats: Seats, fleet: FleetAPI
) -> Any:
    """Choose whose Spotify plays here, or connect one's own."""
    seat = seats.take(login, community, "music", "owner")
    check_act(session)
    own_id = seat.login.more["waddlebot_user_id"]
    try:
        if value("do") == "connect":
            if own_id is None:
                flash.set("Nobody knows who you are in chat. Type !spotify connect there instead.", "bad")
                return go_to(f"{seat.path}/music")
            body = {"community_id": seat.community_id, "own_id": own_id}
            return go_to(fleet.ask(seat, "music", "POST", "/spotify/auth/links", body)["url"])
        chosen = int(value("own_id")) if value("own_id").isdigit() else None
        body = {"community_id": seat.community_id, "own_id": chosen}
        fleet.ask(seat, "music", "PUT", "/spotify/account", body)
    except (UserError, UpstreamError) as err:
        flash.set(err.message, "bad")
    else:
        flash.set("That account plays from now on." if chosen else "Nobody's account plays any more.")
    return go_to(f"{seat.path}/music")


def _begin(seat: Seat, fleet: FleetAPI, path: str) -> Answer:
    """What a module says, or under `why` in its words why it says nothing: it may be not set up, or not there."""
    answer: Answer | None = None
    why = ""
    try:
        answer = fleet.begin(seat, "music", path, {"community_id": seat.community_id})
    except WaddleBotError as err:
        why = err.message

    def read() -> dict[str, Any]:
        try:
            return answer() if answer else {"why": why}
        except WaddleBotError as err:
            return {"why": err.message}

    return read


def clock(seconds: float | None) -> str:
    """A length of time as players show it."""
    whole = int(seconds or 0)
    return f"{whole // 60}:{whole % 60:02}"
