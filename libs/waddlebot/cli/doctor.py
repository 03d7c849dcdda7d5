"""What a person would otherwise find out in an evening: what runs, what each module says, who can be heard."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ..base.errors import UpstreamError
from ..base.manifest import Manifest, all_manifests
from ..fleet.home import Home, Running
from ..web.http import HTTPClient

TIMEOUT_S = 10.0
MIN_FREE_BYTES = 1_000_000_000
SHOWN_CHANNELS = 20
IN_THE_LOG = "see its log in the home's logs folder"
# What to do about a check of a module's health that fails; another check of a module's own says it in its words.
ADVICE = {
    "background": f"What ends is begun again, and a minute without trouble clears this. If it stays, {IN_THE_LOG}.",
    "database": f"PostgreSQL is restarted by itself; {IN_THE_LOG}.",
    "redis": f"Valkey is restarted by itself; {IN_THE_LOG}.",
    "modules": "Start it again where it runs. A module that is not heard for a day is no trouble any more.",
    "consent": "They open /twitch/auth once more, or /twitch/auth/bot for the bot's own account.",
    "troubles": "Its owner opens /twitch/auth, the bot's /twitch/auth/bot; the page says what is missing.",
    "registration": "It is tried again by itself, and works once the router answers.",
}

Verdict = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice` says what to do about it."""

    verdict: Verdict
    what: str
    detail: str = ""
    advice: str = ""


def examine(home: Home) -> Iterator[Finding]:
    """Look at the fleet of a home. Raises: NoFleet."""
    running = home.get_running()
    yield Finding("ok", "fleet", f"runs at {running.url}, process {running.pid}, home {home.path}")
    yield _disk(home)
    yield Finding("ok", "python", sys.version.split()[0])
    http = HTTPClient()
    told: set[str] = set()
    for manifest in all_manifests():
        if manifest.name not in running.modules:
            continue
        # Names in health: a collector's own key sees those of its platform, the console's all others.
        own = home.load_secrets()[0].keys.get(manifest.name, "")
        key = own if manifest.kind == "collector" else home.console_key() or own
        for finding in _module(http, running, manifest, key):
            # What ails a process ails all modules in it.
            is_news = finding.detail not in told
            if finding.verdict == "bad":
                told.add(finding.detail)
            if is_news:
                yield finding
        yield from scopes_of(manifest)
    if where := running.environment.get("MODULE_HOST_URL"):
        yield from community_modules(http, where, home.load_secrets()[0].module_host_key)


def community_modules(http: HTTPClient, url: str, key: str) -> Iterator[Finding]:
    """What fences the code that communities install, and what it tried."""
    name = "community modules"
    try:
        health = _health(http, f"{url}/health", "")
    except UpstreamError as err:
        yield Finding(
            "bad", name, f"their host does not answer: {err.message}", f"It is restarted by itself; {IN_THE_LOG}."
        )
        return
    check = health["checks"]["fence"]
    if not check["ok"]:
        advice = "Nothing that communities install is run here; all else works. See libs/waddlebot/sandbox/README.md."
        yield Finding("bad", f"{name} fence", str(check["detail"]), advice)
    elif not health["is_fenced"]:
        yield Finding("bad", f"{name} fence", str(health["fence"]), "Unset COMMUNITY_MODULES_UNFENCED.")
    else:
        tried = health["attacks"]["tried"]
        yield Finding("ok", f"{name} fence", f"{health['fence']}; {tried} attacks of its self-test were refused")
    if not health["checks"]["background"]["ok"]:
        yield Finding("bad", f"{name} background", str(health["checks"]["background"]["detail"]), ADVICE["background"])
    answer = http.request("GET", f"{url}/functions", headers={"X-API-Key": key}, timeout_s=TIMEOUT_S)
    if answer.status == 200:
        functions = answer.json()["functions"]
        yield from (_misbehaviour(each) for each in functions if each["refused_hosts"] or each["ended"])


def _misbehaviour(record: dict[str, Any]) -> Finding:
    """What a community module tried, or had to be ended for, since its host was started."""
    module, version, _checksum = record["function"].split(":")
    found = {"was not let to": record["refused_hosts"], "was ended for": record["ended"]}
    words = [f"{what} {_counted(counts)}" for what, counts in found.items() if counts]
    if record["parked"]:
        words.append("rests now")
    advice = "Its community may remove it with !module remove, or ask its author."
    name = f"{module} {version} in community {record['community_id']}"
    return Finding("note", name, "; ".join(words), advice)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} ({count}×)" for what, count in counts.items())


def scopes_of(manifest: Manifest) -> Iterator[Finding]:
    """What a module needs of platforms, and what for."""
    for each in manifest.scopes:
        yield Finding(
            "ok", f"{manifest.name} asks for", f"{each.scope} on {each.platform}, of the {each.on}: {each.why}"
        )


def _disk(home: Home) -> Finding:
    free = shutil.disk_usage(home.path).free
    said = f"{free / 1e9:.1f} GB free where the home is"
    if free < MIN_FREE_BYTES:
        return Finding("bad", "disk", said, "PostgreSQL stops without room: free some, or move the home.")
    return Finding("ok", "disk", said)


def _module(http: HTTPClient, running: Running, manifest: Manifest, key: str) -> Iterator[Finding]:
    try:
        url = running.modules[manifest.name]
        health = _health(http, f"{url}{manifest.prefix}/health", key)
    except UpstreamError as err:
        advice = f"It is restarted by itself; {IN_THE_LOG}."
        yield Finding("bad", manifest.name, f"does not answer: {err.message}", advice)
        return
    failed = {name: each["detail"] for name, each in health["checks"].items() if not each["ok"]}
    if health["status"] == "unconfigured":
        advice = f"{manifest.package}/README.md says how to connect it."
        yield Finding("note", manifest.name, "has no credentials, so it does nothing", advice)
        if "background" in failed:
            yield Finding("bad", f"{manifest.name} background", str(failed["background"]), ADVICE["background"])
        return
    if not failed:
        yield Finding("ok", manifest.name, f"healthy, up for {_ago(health['uptime_s'])}")
    for name, detail in failed.items():
        yield Finding("bad", f"{manifest.name} {name}", str(detail), ADVICE.get(name, ""))
    if manifest.kind == "collector":
        yield from _channels(http, f"{url}{manifest.prefix}/channels", manifest, key)


def _health(http: HTTPClient, url: str, key: str) -> dict[str, Any]:
    """What a module says of itself."""
    answer = http.request("GET", url, headers={"X-API-Key": key}, timeout_s=TIMEOUT_S)
    if answer.status != 200:
        raise UpstreamError(f"HTTP {answer.status}")
    return dict(answer.json())


def _channels(http: HTTPClient, url: str, manifest: Manifest, key: str) -> Iterator[Finding]:
    answer = http.request("GET", f"{url}?limit={SHOWN_CHANNELS}", headers={"X-API-Key": key}, timeout_s=TIMEOUT_S)
    if answer.status != 200:
        yield Finding("bad", f"{manifest.name} channels", f"HTTP {answer.status}")
        return
    found = answer.json()
    for channel in found["channels"]:
        name = f"{manifest.name} {channel['name'] or channel['entity_id']}"
        if channel["state"] == "deaf":
            advice = "It is being reconnected; if it stays so, connect the channel again."
            yield Finding("bad", name, f"deaf: {channel['detail']}", advice)
        elif channel["state"] == "unheard":
            yield Finding("note", name, "nothing was heard of it yet")
        else:
            yield Finding("ok", name, f"last sign of life {_ago(channel['age_s'])} ago")
    if found["total"] > SHOWN_CHANNELS:
        yield Finding("ok", f"{manifest.name} channels", f"and {found['total'] - SHOWN_CHANNELS} more")
    for gap in found["gaps"][:3]:
        where = gap["entity_id"] or "everywhere"
        since, until = datetime.fromisoformat(gap["since"]), datetime.fromisoformat(gap["until"])
        heard = f"nothing was heard {where} from {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S}"
        yield Finding("note", f"{manifest.name} gap", heard, gap["why"])


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
