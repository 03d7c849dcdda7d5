"""What modules that ask others add: their own part of a command, and what is lost of an answer that is streamed."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
from waddlebot.base.ids import new_id
from waddlebot.data.database import Database
from waddlebot.web.auth import create_account
from waddlebot.web.http import HTTPClient

from bench.common import RunningFleet, cpu_seconds, event, fleet, table
from simulators.openai import OpenAISimulator
from simulators.spotify import SpotifySimulator
from simulators.twitch import TwitchSimulator
from simulators.youtube import YouTubeSimulator

OVERHEAD_BAR_MS, FIRST_BYTE_BAR_MS, BESIDE_BAR = 20, 50, 1.5
CALLS, WARM_UP = 60, 5
STREAMS, FIRST_S = 40, 0.2
READERS, KEYS, WEBHOOKS = 64, 4, 1_000
ASKED = {"model": "default", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
TOOK = re.compile(r"action=command_executed result=(\S+) .*execution_id=(\S+) .*execution_time_ms=([\d.]+)")
SECONDS = re.compile(r"^\w*provider_seconds_sum\{[^}]*\} (\S+)", re.MULTILINE)


def main() -> None:
    with ExitStack() as stack:
        twitch, spotify = stack.enter_context(TwitchSimulator()), stack.enter_context(SpotifySimulator())
        youtube, openai = stack.enter_context(YouTubeSimulator()), stack.enter_context(OpenAISimulator())
        settings = {
            name: each for played in (twitch, spotify, youtube, openai) for name, each in played.settings().items()
        }
        with fleet(environment={**settings, "AI_PROVIDER": "openai", "MAX_QUEUE_SIZE": "100"}) as running:
            prepare(running, spotify)
            songs = [youtube.add(f"Song {number}").video_id for number in range(CALLS + WARM_UP)]
            twitch.user("pip", id="4711").game = "Celeste"
            measure_overhead(
                running,
                {
                    "ai": lambda _: "!ai hello",
                    "shoutout": lambda _: "!so pip",
                    "spotify": lambda number: f"!spotify search Fish {number}",
                    "youtube_music": lambda number: f"!ytmusic play https://youtu.be/{songs[number]}",
                },
            )
            keys = make_keys(running)
            measure_first_byte(running, openai, keys[0])
            measure_slow_readers(running, openai, keys)


def prepare(running: RunningFleet, spotify: SpotifySimulator) -> None:
    """Room for so many songs and questions, and a Spotify that is connected as a browser does it."""
    config = {"youtube_music": {"per_person": 100, "max_queue": 100}, "ai": {"context_enabled": False}}
    for module, each in config.items():
        ask(running, "PUT", f"/router/communities/demo/modules/{module}", {"config": each})
    spotify.user("skipper", devices=["Studio"])
    said = ask(running, "POST", "/router/events", json.loads(event("!spotify connect", new_id())))
    link = re.search(r"https?://\S+", said["responses"][0]["response_data"]["message"])
    assert link, said
    client = HTTPClient()
    sent = client.request("GET", link[0], keep_headers=True)
    back = spotify.accounts.authorize(sent.headers["location"], user="skipper")
    done = client.request("GET", back, headers={"Cookie": sent.headers["set-cookie"].split(";")[0]})
    if done.status != 200:
        raise SystemExit(f"Spotify was not connected: {done.body!r}")


def measure_overhead(running: RunningFleet, commands: dict[str, Callable[[int], str]]) -> None:
    """By what each module says of an execution, less what it says of its provider's tries meanwhile."""
    own: dict[str, list[float]] = {}
    for module, command in commands.items():
        parts = []
        for number in range(CALLS + WARM_UP):
            before = provider_ms(running, module)
            answer = ask(
                running, "POST", "/router/events", json.loads(event(command(number), new_id(), f"viewer{number}"))
            )
            took = wait_for(running, module, answer["executions"][0]["execution_id"])
            parts.append(took - (provider_ms(running, module) - before))
        own[module] = parts[WARM_UP:]
    rows = [(name, f"{statistics.median(each):.1f}", f"{p95(each):.1f}") for name, each in own.items()]
    table("A module's own part of a command, ms", ("module", "p50", "p95"), rows)
    worst = max(p95(each) for each in own.values())
    say_bar("the worst p95, ms", worst, OVERHEAD_BAR_MS)


def provider_ms(running: RunningFleet, module: str) -> float:
    prefix = {"youtube_music": "youtube"}.get(module, module)
    headers = {**running.headers(), "Accept": "text/plain"}
    metrics = HTTPClient().request("GET", f"{running.url}/{prefix}/metrics", headers=headers)
    if metrics.status != 200:
        raise SystemExit(f"{module} tells no metrics: {metrics.body!r}")
    return sum(map(float, SECONDS.findall(metrics.body.decode()))) * 1e3


def wait_for(running: RunningFleet, module: str, execution_id: str) -> float:
    """How long a module says that it had an execution that ended well, ms."""
    until, log = time.monotonic() + 20, running.home / "logs" / f"{module}.log"
    while time.monotonic() < until:
        for result, found, ms in reversed(TOOK.findall(log.read_text())):
            if found == execution_id:
                if result != "SUCCESS":
                    raise SystemExit(f"{module} ended with {result}: {log.read_text()[-2000:]}")
                return float(ms)
        time.sleep(0.01)
    raise SystemExit(f"{log} says nothing of {execution_id}: {log.read_text()[-2000:]}")


def measure_first_byte(running: RunningFleet, openai: OpenAISimulator, key: str) -> None:
    """The provider itself and the fleet before it, in turns."""
    openai.script.first_s = FIRST_S
    urls = {"the provider": openai.settings()["OPENAI_BASE_URL"], "by the fleet": f"{running.url}/api/ai/v1"}
    keys = {"the provider": openai.settings()["OPENAI_API_KEY"], "by the fleet": key}
    model = {"the provider": openai.models[0] if openai.models else "", "by the fleet": "default"}
    came: dict[str, list[float]] = {name: [] for name in urls}
    with httpx2.Client(timeout=30) as client:
        for _ in range(STREAMS):
            for name, url in urls.items():
                began = time.perf_counter()
                with client.stream(
                    "POST",
                    f"{url}/chat/completions",
                    json={**ASKED, "model": model[name]},
                    headers={"Authorization": f"Bearer {keys[name]}"},
                ) as answer:
                    if answer.status_code != 200:
                        raise SystemExit(f"{name}: {answer.read()!r}")
                    pieces = answer.iter_raw()
                    next(pieces)
                    came[name].append((time.perf_counter() - began) * 1e3)
                    list(pieces)
    openai.script.first_s = 0
    rows = [(name, f"{statistics.median(each):.1f}", f"{p95(each):.1f}") for name, each in came.items()]
    table("The first byte of a stream, ms", ("from", "p50", "p95"), rows)
    later = [ours - theirs for theirs, ours in zip(*came.values(), strict=True)]
    say_bar("later than the provider's, p95, ms", p95(later), FIRST_BYTE_BAR_MS)


def measure_slow_readers(running: RunningFleet, openai: OpenAISimulator, keys: Sequence[str]) -> None:
    """Each has its stream and reads nothing of it; more than the sockets hold is to come."""
    openai.script.say = lambda _: f"{'w' * 4_000} " * 1_000
    alone = webhooks(running)

    def begin(number: int) -> tuple[httpx2.Client, httpx2.Response]:
        client = httpx2.Client(timeout=60)
        headers = {"Authorization": f"Bearer {keys[number % len(keys)]}"}
        url = f"{running.url}/api/ai/v1/chat/completions"
        answer = client.send(client.build_request("POST", url, json=ASKED, headers=headers), stream=True)
        if answer.status_code != 200:
            raise SystemExit(f"a reader was refused: {answer.read()!r}")
        return client, answer

    with ThreadPoolExecutor(16) as threads:
        readers = list(threads.map(begin, range(READERS)))
    wait_until_idle(running)  # All that can be written is.
    beside = webhooks(running)
    for client, answer in readers:
        answer.close()
        client.close()
    rows = [("alone", f"{p95(alone):.1f}"), (f"beside {READERS} readers", f"{p95(beside):.1f}")]
    table("A webhook, p95 in ms", ("", "ms"), rows)
    say_bar("beside slow readers, times alone", p95(beside) / p95(alone), BESIDE_BAR)


def wait_until_idle(running: RunningFleet) -> None:
    used = cpu_seconds(running.tree)
    while True:
        time.sleep(1)
        before, used = used, cpu_seconds(running.tree)
        if used - before < 0.2:
            return


def webhooks(running: RunningFleet) -> list[float]:
    """What nobody signed is refused by the same threads that take what Twitch signed."""
    client, took = HTTPClient(), []
    for _ in range(WEBHOOKS):
        began = time.perf_counter()
        status = client.request("POST", f"{running.url}/twitch/webhook", body=b"{}").status
        took.append((time.perf_counter() - began) * 1e3)
        if status != 403:
            raise SystemExit(f"a webhook was answered {status}")
    return took


def make_keys(running: RunningFleet) -> list[str]:
    """One caller may have twenty streams."""
    database = Database(running.environment["DATABASE_URL"])
    try:
        with database.transaction() as db:
            names = [f"reader{number}" for number in range(KEYS)]
            return [create_account(db, name=name, groups=["admins"]).api_key for name in names]
    finally:
        database.close()


def ask(running: RunningFleet, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    raw = json.dumps(body).encode()
    answer = HTTPClient().request(method, f"{running.url}{path}", body=raw, headers=running.headers(), timeout_s=30)
    if answer.status != 200:
        raise SystemExit(f"{method} {path}: {answer.body!r}")
    done: dict[str, Any] = answer.json()
    return done


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def say_bar(what: str, figure: float, bar: float) -> None:
    print(f"  {what}: {figure:.2f}; the bar is {bar}: {'met' if figure <= bar else 'MISSED'}")


if __name__ == "__main__":
    main()
