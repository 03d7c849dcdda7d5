"""!cooldown <command>: how long a command rests after a use, who may use it, and when."""

from __future__ import annotations

from typing import Any

from pydal import DAL
from waddlebot.base.contracts import ModuleCall
from waddlebot.base.errors import UsageError, UserError
from waddlebot.base.terms import (
    COMMAND_IN_CHAT,
    COMMAND_USAGE,
    EVENT_LABELS,
    USAGE,
    USUAL,
    read_terms,
    terms_in_words,
)
from waddlebot.base.terms import NAMES as TERMS
from waddlebot.base.text import fold
from waddlebot.data.database import Database

from ..catalogue.cache_manager import CacheManager
from ..catalogue.catalogue import NOBODY, Command
from ..modules.switch_service import Scope, SwitchService, find_permission
from .rehearsing import changing

HOW = f"Usage: !cooldown <command> off | {COMMAND_USAGE}"


class CooldownCommand:
    def __init__(self, db: Database, lookups: CacheManager, switches: SwitchService) -> None:
        self._db = db
        self._lookups = lookups
        self._switches = switches

    def __call__(self, call: ModuleCall) -> str:
        if not call.trigger.args:
            raise UsageError(HOW)
        word, *terms = call.trigger.args
        command = self._named(call, word)
        if not terms:
            with self._db.transaction() as db:
                return _shown(command.name, self._set_here(db, call, command))
        said = changing(self._db, call, lambda db: self._change(db, call, command, terms))
        if call.mode == "live":
            self._switches.changed(call.community.id)
        return said

    def _named(self, call: ModuleCall, word: str) -> Command:
        prefix, name = (word[0], word[1:]) if word[:1] in ("!", "#") else ("!", word)
        named = prefix, fold(name), call.entity.entity_id
        catalogue = self._lookups.catalogue(call.community.id)
        found = catalogue.find(*named) or catalogue.told_only(*named)
        if not found:
            raise UserError(f"There is no {prefix}{name[:60]} here.")
        if found[0].spec.description == "alias":
            raise UserError(f"{found[0].name} is an alias: !alias set {found[0].name} {USAGE}")
        return found[0]

    def _set_here(self, db: DAL, call: ModuleCall, command: Command) -> dict[str, Any]:
        known = find_permission(db, Scope(call.community.id), command.name)
        return dict(known["config"]) if known else {}

    def _change(self, db: DAL, call: ModuleCall, command: Command, words: list[str]) -> str:
        scope = Scope(call.community.id)
        known = find_permission(db, scope, command.name)
        config = dict(known["config"]) if known else {}
        if words == ["off"]:
            config = {name: value for name, value in config.items() if name not in (*TERMS, EVENT_LABELS)}
        else:
            first = f"cooldown={words[0]}" if words[0].isdecimal() else words[0]
            given = read_terms([first, *words[1:]], HOW, fields=COMMAND_IN_CHAT)
            config |= given
            if "cooldown_exempt" in given and given["cooldown_exempt"] is None:
                config["cooldown_exempt"] = NOBODY
            config = {name: value for name, value in config.items() if value is not None}
        self._switches.set_permission_in(
            db,
            scope,
            command.name,
            is_enabled=known["is_enabled"] if known else None,
            allow=known["permissions"]["allow"] if known else (),
            deny=known["permissions"]["deny"] if known else (),
            config=config,
            by="router",
        )
        return _shown(command.name, config)


def _shown(name: str, config: dict[str, Any]) -> str:
    terms = {**USUAL, **{each: config[each] for each in (*TERMS, EVENT_LABELS) if each in config}}
    if terms["cooldown_exempt"] == NOBODY:
        terms["cooldown_exempt"] = None
    return f"Set for {name}: {', '.join(terms_in_words(terms)) or 'nothing particular'}."
