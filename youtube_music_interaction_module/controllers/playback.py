"""What the overlay's page says of the song that it plays: the next one follows."""

from __future__ import annotations

from pydantic import ValidationError
from waddlebot.base.contracts import ModuleResponse, Playback
from waddlebot.base.errors import UserError
from waddlebot.module.call import Said
from waddlebot.module.interaction import Call, say

from ..services.house import House
from ..services.player_service import Now, PlayerService, Rules, note
from ..services.router_service import song_begins_unasked, song_is_over

# developers.google.com/youtube/iframe_api_reference#onError; 153 came in 2025.
NO_REFERRER = 153
WHY = {
    2: "YouTube does not know that video",
    5: "the player cannot play it",
    100: "it was taken down or is private",
    101: "it may only be played on YouTube itself",
    150: "it may only be played on YouTube itself",
    0: "it does not begin to play",
}


class PlaybackHandler:
    def __init__(self, house: House, player: PlayerService) -> None:
        self._house = house
        self._player = player

    def heard(self, call: Call) -> Said:
        """Go on. What is said of any other song than the one that plays is nothing new."""
        try:
            said = Playback.model_validate(call.payload.trigger.data)
        except ValidationError as err:
            raise UserError("That says nothing of a song.") from err
        rules = self._house.rules(call.settings)
        if said.state == "no_page":
            return self._wait(call, said, rules)
        if said.state == "ended":
            ended = self._player.end(call.db, call.community_id, "played", rules, track_id=said.track_id)
            return self._go_on(call, ended, rules, []) if ended else None
        if said.state == "failed":
            return self._fail(call, said, rules)
        return None

    def _wait(self, call: Call, said: Playback, rules: Rules) -> Said:
        now = self._player.find_now(call.db, call.community_id, rules)
        if now is None or now.track_id != said.track_id:
            return None
        return f"The music waits: no media overlay is open. {now.track.shown} goes on as soon as one is."

    def _fail(self, call: Call, said: Playback, rules: Rules) -> Said:
        ended = self._player.end(call.db, call.community_id, "failed", rules, track_id=said.track_id)
        if ended is None:
            return None
        note(call.db, call.community_id, None, "failed", video=ended.track.video_id, code=said.code)
        if said.code == NO_REFERRER:
            self._player.put_back(call.db, call.community_id, ended)
            return [
                say(
                    "YouTube plays nothing in this overlay (error 153): the page that it is in hides where it is."
                    " When that is mended, !ytmusic resume goes on."
                ),
                song_is_over(ended),
            ]
        why = WHY.get(said.code, f"the player says error {said.code}")
        told = [say(f"{ended.track.shown} cannot be played: {why}.")]
        if self._player.keeps_failing(call.db, call.community_id):
            return [
                *told,
                say("That were too many in a row, so the music stops. !ytmusic resume tries again."),
                song_is_over(ended),
            ]
        return self._go_on(call, ended, rules, told)

    def _go_on(self, call: Call, ended: Now, rules: Rules, told: list[ModuleResponse]) -> Said:
        following = self._player.go_on(call.db, call.community_id, rules)
        return [*told, *(song_begins_unasked(following, rules) if following else [song_is_over(ended)])]
