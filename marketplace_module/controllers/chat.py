"""!module: finding and having modules, from chat."""

from __future__ import annotations

from typing import Any

from waddlebot.base.chat import shorten
from waddlebot.base.errors import UsageError
from waddlebot.base.text import fold
from waddlebot.module.call import Call
from waddlebot.module.interaction import OutsideCall
from waddlebot.module.package import in_words

from ..services.installing import LATEST, Installing, list_installed
from ..services.router_calls import Where
from ..services.store import Store

SHOWN = 5
MAX_LISTED = 20
AGREED = "yes"


class ModuleChat:
    def __init__(self, store: Store, installing: Installing) -> None:
        self._store = store
        self._installing = installing

    def search(self, call: Call, *words: str) -> str:
        if not words:
            raise UsageError("Usage: !module search <words>")
        found = self._store.suggest(call.db, " ".join(words), SHOWN)
        if not found:
            return f"No module matches “{shorten(' '.join(words), 40)}”."
        return "; ".join(f"{each['module_id']}: {shorten(each['description'], 60)}" for each in found)

    def list(self, call: Call) -> str:
        modules = list_installed(call.db, Where(call.community_id, call.entity_id))
        mine = [each for each in modules if each["kind"] == "community"]
        if not mine:
            return "No modules are installed here. !module search <words> finds some."
        return "Installed: " + ", ".join(_shown(each) for each in mine[:MAX_LISTED])

    def install(self, call: OutsideCall, module_id: str, *words: str) -> str:
        """What a module may do is said before it may."""
        version, agreed = _read(words)
        name = fold(module_id)
        chosen = call.look_up("find the module", lambda _: self._installing.choose(name, version))
        if chosen.asks and not agreed:
            wanted = "; ".join(in_words(chosen.asks))
            return f"{name} {chosen.version} wants to: {wanted}. If that is fine: !module install {name} {AGREED}"
        # Done again it is the same, so it may be repeated after a crash.
        done = call.look_up(
            f"install {name} {chosen.version}",
            lambda _: self._installing.install(
                Where(call.community_id),
                name,
                chosen.version,
                replaced_by=None,
                consent=agreed,
                by=f"chat:{call.payload.user.own_id}",
            ),
        )
        commands = ", ".join(f"#{each.command}" for each in chosen.manifest.commands)
        return f"Installed {name} {done['version']}: {commands}."

    def both(self, call: OutsideCall, module_id: str, switch: str) -> str:
        """What a module of the marketplace is called here: `#` alone, or `!` as well."""
        name, state = fold(module_id), fold(switch)
        if state not in ("on", "off"):
            raise UsageError("Usage: !module both <name> on|off")
        call.look_up(f"give {name} its names", lambda _: self._answer_to_both(call.community_id, name, state == "on"))
        return f"{name} answers to {'! and #' if state == 'on' else '# alone'} now."

    def remove(self, call: OutsideCall, module_id: str) -> str:
        name = fold(module_id)
        call.look_up(f"remove {name}", lambda _: self._remove(call.community_id, name))
        return f"Removed {name}."

    def _answer_to_both(self, community_id: int, module_id: str, both: bool) -> bool:
        self._installing.answer_to_both(Where(community_id), module_id, both=both)
        return True

    def _remove(self, community_id: int, module_id: str) -> bool:
        self._installing.uninstall(Where(community_id), module_id)
        return True


def _read(words: tuple[str, ...]) -> tuple[str, bool]:
    """`[version] [yes]`. Raises: UsageError."""
    rest = [word for word in words if fold(word) != AGREED]
    if len(rest) > 1:
        raise UsageError("Usage: !module install <name> [version] [yes]")
    return (rest[0] if rest else LATEST), len(rest) < len(words)


def _shown(module: dict[str, Any]) -> str:
    state = "" if module["enabled"] else " (off)"
    parked = " (parked: it kept failing)" if module["parked_why"] else ""
    newer = module["latest_version"] and module["latest_version"] != module["version"]
    update = f" (there is {module['latest_version']})" if newer else ""
    return f"{module['module_id']} {module['version']}{parked or state}{update}"
