"""`waddlebot chat`: a prompt that talks to the fleet as anybody. Late answers and announcements appear above it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from ..base.contracts import Level
from ..base.wire import for_terminal
from ..fleet.home import Home, NoFleet, open_private
from .console import Console, Outcome, Refused, Speaker

STYLE = Style.from_dict(
    {
        "name": "ansicyan bold",
        "level": "ansibrightblack",
        "bot": "ansigreen bold",
        "error": "ansired",
        "hint": "ansibrightblack",
    }
)
LOOK_EVERY_S = 1.0
HELP = "/as NAME  /level LEVEL  /channel NAME  /help  /quit — everything else is said in chat; try !help"


class Chat:
    def __init__(self, home: Home, speaker: Speaker) -> None:
        self._console = Console(home)
        self._speaker = speaker
        self._ended = threading.Event()
        history = home.path / "chat_history"
        open_private(history).close()
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)), auto_suggest=AutoSuggestFromHistory(), style=STYLE
        )

    def run(self) -> None:
        """Read lines until Ctrl-D or /quit. Raises: NoFleet when the fleet is gone for good."""
        _print(("class:hint", HELP))
        with patch_stdout():
            # not watched: it ends with the prompt
            threading.Thread(target=self._listen, daemon=True).start()
            try:
                self._read()
            finally:
                self._ended.set()

    def _read(self) -> None:
        while True:
            try:
                line = self._session.prompt(self._prompt).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if line in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                self._change(line)
            elif line:
                self._say(line)

    def _prompt(self) -> FormattedText:
        speaker = self._speaker
        where = "" if speaker.channel == "general" else f" in {speaker.channel}"
        return FormattedText(
            [("class:name", speaker.name), ("class:level", f" ({speaker.level.label}{where}) "), ("", "> ")]
        )

    def _change(self, line: str) -> None:
        command, _, value = line[1:].partition(" ")
        value = value.strip()
        if command == "as" and value:
            self._speaker = replace(self._speaker, name=value)
        elif command == "channel" and value:
            self._speaker = replace(self._speaker, channel=value)
        elif command == "level" and value.upper() in Level.__members__:
            self._speaker = replace(self._speaker, level=Level.named(value))
        elif command == "level":
            _print(("class:error", "Levels are " + ", ".join(level.label for level in reversed(Level))))
        else:
            _print(("class:hint", HELP))

    def _say(self, line: str) -> None:
        event = self._console.event(line, self._speaker)
        try:
            outcome = self._console.submit(event)
        except Refused as err:
            _print(("class:error", err.message))
            return
        self._show(outcome.answer["responses"])
        if outcome.is_pending:
            _print(("class:hint", "… still at work; the answer will appear here"))
            # not watched: it ends with its answer
            threading.Thread(target=self._wait, args=(event, outcome), daemon=True).start()

    def _wait(self, event: dict[str, Any], outcome: Outcome) -> None:
        try:
            for latest in self._console.late(event, outcome):
                self._show(latest.answer["responses"])
        except (NoFleet, Refused) as err:
            _print(("class:error", err.message))

    def _listen(self) -> None:
        """Show what is said unasked in the speaker's channel."""
        while not self._ended.wait(LOOK_EVERY_S):
            with suppress(NoFleet, Refused):  # Whoever types hears of it.
                self._show(self._console.list_unasked(self._speaker.channel))

    def _show(self, responses: Sequence[Mapping[str, Any]]) -> None:
        for response in responses:
            if response["response_action"] == "chat" and self._console.take(response):
                first, *rest = response["response_data"]["message"].splitlines() or [""]
                _print(("class:bot", "WaddleBot "), ("", first))
                for more in rest:
                    _print(("", f"          {more}"))
            elif response["response_action"] != "chat":
                _print(("class:hint", self._console.shown_on(response["response_data"]["delivered_to"])))


def _print(*parts: tuple[str, str]) -> None:
    print_formatted_text(FormattedText([(style, for_terminal(text)) for style, text in parts]), style=STYLE)
