"""The local host of community modules, as the router calls it: real processes behind the real fence."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time

import psutil
import pytest
from waddlebot.cli import doctor
from waddlebot.testing.module_host import ModuleHost, said
from waddlebot.testing.plugin import eventually
from waddlebot.web.http import HTTPClient

MANIFEST = """
name = "dice"
title = "Dice"
version = "1.0.0"
description = "Rolls dice"
permissions = [{permissions}]
[limits]
memory_mb = 64
cpu_s = 0.5
timeout_s = {timeout_s}
[[commands]]
command = "dice"
"""


@pytest.fixture(scope="module")
def host():
    running = ModuleHost(MODULES_PARKED="2").start()
    yield running
    running.stop()


@pytest.fixture
def function(host):
    """Publish a module and name its function: `function("return 'hi'")`."""

    def publish(body: str, *, may: str = "", timeout_s: float = 2, before: str = "", **files: str) -> str:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        handler = f"# {time.monotonic()}\n{before}\ndef handler(event, context):\n{lines}\n"
        manifest = MANIFEST.format(permissions=may, timeout_s=timeout_s)
        return host.publish({"module.toml": manifest, "handler.py": handler, **files})

    return publish


def error_of(response):
    assert response.headers.get("x-amz-function-error") == "Unhandled", response.body
    return response.json()["errorType"]


def test_a_function_answers_and_its_string_is_a_reply_to_the_call(host, function):
    event = host.call_of("dice", "2d6")

    answer = host.invoke(function("return 'You rolled ' + event['trigger']['args'][0]"), event)

    assert answer.status == 200
    reply = answer.json()
    assert (reply["execution_id"], reply["session_id"]) == (event["execution_id"], event["session_id"])
    assert (reply["module_name"], reply["success"]) == ("dice", True)
    assert said(answer) == "You rolled 2d6"
    assert host.side.keys[-1] == "wbot_of_the_module_host"


def test_a_whole_reply_and_what_is_for_a_gateway_stay_what_they_are(host, function):
    whole = function("return {'success': False, 'error_message': 'No dice', 'responses': []}")
    gateway = function("return {'statusCode': 200, 'body': 'x'}")

    assert host.invoke(whole, host.call_of("dice")).json()["error_message"] == "No dice"
    assert host.invoke(gateway, host.call_of("dice")).json() == {"statusCode": 200, "body": "x"}


def test_the_context_is_lambdas(host, function):
    name = function("return f'{context.aws_request_id} {context.get_remaining_time_in_millis() > 0}'")
    event = host.call_of("dice")

    assert said(host.invoke(name, event)) == f"{event['execution_id']} True"


def test_an_error_is_told_as_lambda_tells_it(host, function):
    answer = host.invoke(function("return event['no such thing']"), host.call_of("dice"))

    assert error_of(answer) == "KeyError"
    assert "handler" in "".join(answer.json()["stackTrace"])


def test_code_that_cannot_be_loaded_is_an_error(host, function):
    answer = host.invoke(function("return 1", before="import no_such_module"), host.call_of("dice"))

    assert error_of(answer) == "Runtime.ImportModuleError"


def test_files_of_the_package_can_be_read(host, function):
    name = function(
        "return (Path(__file__).parent / 'words.txt').read_text()",
        before="from pathlib import Path",
        **{"words.txt": "inside"},
    )

    assert said(host.invoke(name, host.call_of("dice"))) == "inside"


def test_each_community_has_a_process_of_its_own_that_is_used_again(host, function):
    name = function("count.append(1)\nreturn str(len(count))", before="count = []")

    first = [said(host.invoke(name, host.call_of("dice", community=1))) for _ in range(3)]
    other = said(host.invoke(name, host.call_of("dice", community=2)))

    assert (first, other) == (["1", "2", "3"], "1")


def test_a_process_is_stopped_between_calls(host, function):
    name = function(
        "if not threads:\n    threads.append(threading.Thread(target=work, daemon=True))\n    threads[0].start()\n"
        "return str(count[0])",
        before="import threading, time\ncount, threads = [0], []\n"
        "def work():\n    while True:\n        count[0] += 1\n        time.sleep(0.01)\n",
    )
    host.invoke(name, host.call_of("dice"))
    time.sleep(0.5)  # In which a thread that goes on would count to 50.

    assert int(said(host.invoke(name, host.call_of("dice")))) < 20


def test_state_is_kept_by_the_token_of_the_call(host, function):
    name = function(
        "n = context.state.get('n', 0) + 1\ncontext.state.put('n', n)\n"
        "if n == 3:\n    context.state.delete('n')\nreturn str(n)",
        may='"state"',
    )
    host.side.state.clear()

    counted = [said(host.invoke(name, host.call_of("dice", community=n))) for n in range(4)]

    assert counted == ["1", "2", "3", "1"]
    event = host.call_of("dice")
    event["callback"]["token"] = "wcall_of_another_execution"
    assert error_of(host.invoke(name, event)) == "RuntimeError"
    assert error_of(host.invoke(name, {**event, "callback": None})) == "RuntimeError"


def test_a_simulated_call_changes_no_state(host, function):
    name = function(
        "context.state.put('n', 1)\ncontext.state.delete('m')\nreturn str(context.state.get('m'))", may='"state"'
    )
    host.side.state.clear()
    host.side.state["m"] = 7

    assert said(host.invoke(name, host.call_of("dice", mode="simulate"))) == "7"
    assert host.side.state == {"m": 7}


def test_a_module_that_takes_longer_says_so_and_answers_later(host, function):
    name = function(
        "context.reply_later(20)\ntime.sleep(0.5)\nreturn 'at last'",
        before="import time",
        timeout_s=0.3,
        may='"reply_later"',
    )
    event = host.call_of("dice")

    answer = host.invoke(name, event)

    assert answer.json() == {
        "session_id": event["session_id"],
        "execution_id": event["execution_id"],
        "module_name": "dice",
        "success": True,
        "later_s": 20,
    }
    again = host.invoke(name, event).json()
    assert 0 < again["later_s"] <= 20
    eventually(lambda: [posted for _, posted, _ in host.side.posted if posted["execution_id"] == event["execution_id"]])
    path, late, token = host.side.posted[-1]
    assert (path, token) == ("/router/responses", "Bearer wcall_test")
    assert late["responses"][0]["response_data"]["message"] == "at last"


def test_a_late_answer_that_fails_is_told_too(host, function):
    name = function(
        "context.reply_later(20)\ntime.sleep(0.3)\nraise ValueError('secret')",
        before="import time",
        may='"reply_later"',
    )
    event = host.call_of("dice")

    host.invoke(name, event)

    eventually(lambda: host.side.posted and host.side.posted[-1][1].get("execution_id") == event["execution_id"])
    late = host.side.posted[-1][1]
    assert (late["success"], late["error_message"]) == (False, "It failed.")


def test_who_did_not_declare_a_permission_does_not_have_it(host, function):
    late = host.publish(
        {
            "module.toml": MANIFEST.format(permissions="", timeout_s=1),
            "handler.py": "def handler(event, context):\n"
            "    if event['trigger']['args']:\n        return context.reply_later(5)\n"
            "    return context.state.get('n')\n",
        }
    )

    assert error_of(host.invoke(late, host.call_of("dice"))) == "RuntimeError"
    assert error_of(host.invoke(late, host.call_of("dice", "later"))) == "Runtime.Broken"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("while True: pass", "Sandbox.LimitExceeded"),
        ("time.sleep(60)", "Sandbox.Timedout"),
        ("os._exit(3)", "Runtime.ExitError"),
        ("return 'x' * 7_000_000", "Runtime.Broken"),
        ("return 'x' * 7_000_000_000", "MemoryError"),
        ("while True: print('x' * 65536)", "Sandbox.LimitExceeded"),
    ],
)
def test_what_takes_too_much_is_ended_and_begun_anew(host, function, body, kind):
    timeout_s = 15 if kind == "Sandbox.LimitExceeded" else 3
    name = function(
        f"if event['trigger']['args']:\n    {body}\nreturn 'well'", before="import os, time", timeout_s=timeout_s
    )

    assert error_of(host.invoke(name, host.call_of("dice", "harm"))) == kind
    assert said(host.invoke(name, host.call_of("dice"))) == "well"


def test_one_bad_module_does_not_slow_others(host, function):
    bad = [function("while True:\n    pass", timeout_s=2) for _ in range(3)]
    good = function("return 'well'")
    host.invoke(good, host.call_of("dice"))
    threads = [threading.Thread(target=host.invoke, args=(name, host.call_of("dice"))) for name in bad]
    for each in threads:
        each.start()

    took = []
    for _ in range(10):
        began = time.monotonic()
        assert said(host.invoke(good, host.call_of("dice"))) == "well"
        took.append(time.monotonic() - began)

    for each in threads:
        each.join()
    assert sorted(took)[5] < 0.1


def test_calls_of_one_community_run_at_once_up_to_a_number(host, function):
    name = function("time.sleep(1)\nreturn 'well'", before="import time")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(host.invoke(name, host.call_of("dice")).status))
        for _ in range(6)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(statuses) == [200, 200, 200, 200, 429, 429]


def test_what_keeps_failing_rests_for_a_while_in_that_community_alone(host, function):
    name = function("import os\nif event['community']['id'] == 66: os._exit(1)\nreturn 'well'")
    for _ in range(5):
        assert error_of(host.invoke(name, host.call_of("dice", community=66))) == "Runtime.ExitError"

    assert error_of(host.invoke(name, host.call_of("dice", community=66))) == "Sandbox.Parked"
    assert said(host.invoke(name, host.call_of("dice", community=67))) == "well"

    eventually(lambda: error_of(host.invoke(name, host.call_of("dice", community=66))) == "Runtime.ExitError")


def test_what_was_not_published_is_not_run(host, function):
    name = function("return 1")
    module, version, sha256 = name.split(":")

    assert host.invoke(f"{module}:{version}:{'0' * 64}", host.call_of("dice")).status == 404
    assert host.invoke("dice", host.call_of("dice")).status == 404
    assert host.invoke("../../etc/passwd", host.call_of("dice")).status == 404
    assert error_of(host.invoke(f"other:{version}:{sha256}", host.call_of("dice"))) == "InvalidPackage"
    host.side.packages["1" * 64] = host.side.packages[sha256]
    assert error_of(host.invoke(f"{module}:{version}:{'1' * 64}", host.call_of("dice"))) == "InvalidPackage"


@pytest.mark.parametrize("event", [None, [], {"community": 1}, {"community": {"id": "x"}, "timeout_ms": 1}, "["])
def test_an_event_that_is_no_call_is_refused(host, function, event):
    assert host.invoke(function("return 1"), event).status == 400


def test_only_who_has_the_key_may_call(host, function):
    name = function("return 1")

    assert host.invoke(name, host.call_of("dice"), key="wrong").status == 401
    assert host.request("GET", "/functions", key="").status == 401
    assert host.request("GET", "/metrics", key="").status == 401
    assert host.request("GET", "/ready", key="").status == 200


def test_health_names_the_fence_and_metrics_and_functions_what_was_done(host, function):
    name = function("print('said aloud')\nreturn 'well'")
    host.invoke(name, host.call_of("dice", community=9))

    health = host.health()

    assert (health["status"], health["is_fenced"], health["attacks"]["through"]) == ("healthy", True, [])
    assert health["attacks"]["tried"] > 30
    assert "Landlock" in health["fence"]
    listed = json.loads(host.request("GET", "/functions").body)["functions"]
    (own,) = [each for each in listed if each["function"] == name]
    assert (own["community_id"], own["calls"], own["errors"]) == (9, 1, 0)
    assert own["output"] == "said aloud\n"
    metrics = host.request("GET", "/metrics").body.decode()
    assert "waddlebot_modules_fenced 1.0" in metrics
    assert 'waddlebot_modules_calls_total{outcome="success"}' in metrics


def test_the_doctor_names_the_fence_and_what_a_module_tried(host, function):
    name = function(
        "import os, socket\nif not event['trigger']['args']: os._exit(1)\n"
        "socket.create_connection(('tracker.example.org', 443))"
    )
    host.invoke(name, host.call_of("dice", "call", community=8))
    host.invoke(name, host.call_of("dice", community=8))

    found = {each.what: each for each in doctor.community_modules(HTTPClient(), host.url, host.key)}

    assert found["community modules fence"].verdict == "ok"
    assert "Landlock" in found["community modules fence"].detail
    assert found["dice 1.0.0 in community 8"].detail == (
        "was not let to tracker.example.org:443 (1×); was ended for Runtime.ExitError (1×)"
    )


def test_it_has_nothing_that_a_stranger_could_want(host):
    environment = (f"/proc/{host.process.pid}/environ", "rb")
    with open(*environment) as file:
        names = {each.partition(b"=")[0].decode() for each in file.read().split(b"\0")}

    assert not {"DATABASE_URL", "REDIS_PASSWORD", "WADDLEBOT_ENCRYPTION_KEYS"} & names


def test_it_starts_without_the_libraries_of_a_database_that_it_does_not_have():
    """The first command of a fleet's first module waits for its start."""
    script = "import sys; import waddlebot.sandbox.host; print({'psycopg2', 'pydal', 'py4web'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout == "set()\n"


# As on a kernel that has no such calls: Landlock's three, and unshare.
WITHOUT = (
    "import os, sys; from waddlebot.sandbox import fence;"
    "fence._libc.prctl(fence.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); there = set(range(470)) - {444, 445, 446, %s};"
    "program = fence.compile_filter(there, {}, audit=fence.find_machine().audit, otherwise=fence.NO_SUCH_CALL);"
    "fence.install_filter(program);"
    "os.execv(sys.executable, [sys.executable, '-m', 'waddlebot.sandbox.host'])"
)
UNSHARE = {"x86_64": 272, "aarch64": 97}[platform.machine()]


def test_without_landlock_namespaces_hold_all_attacks_and_without_either_the_operator_has_to_say_so():
    enclosing = ModuleHost(MODULES_MAX_PROCESSES="4").start(launcher=("-c", WITHOUT % "-1"))
    refusing = ModuleHost().start(launcher=("-c", WITHOUT % UNSHARE))
    willing = ModuleHost(COMMUNITY_MODULES_UNFENCED="true").start(launcher=("-c", WITHOUT % UNSHARE))
    files = {"module.toml": MANIFEST.format(permissions="", timeout_s=1), "handler.py": "def handler(*_): return 'hi'"}
    try:
        health = enclosing.health()
        assert health["fence"].startswith("namespaces, seccomp"), health
        assert (health["is_fenced"], health["attacks"]["through"]) == (True, [])
        assert health["attacks"]["tried"] > 35
        assert said(enclosing.invoke(enclosing.publish(files), enclosing.call_of("dice"))) == "hi"
        one_module_leaves_room_for_others(enclosing, files)
        answer = refusing.invoke(refusing.publish(files), refusing.call_of("dice"))
        assert (answer.status, refusing.request("GET", "/ready").status) == (503, 503)
        assert "no Landlock" in refusing.health()["checks"]["fence"]["detail"]
        assert said(willing.invoke(willing.publish(files), willing.call_of("dice"))) == "hi"
        assert willing.health()["fence"].startswith("NONE")
        assert willing.health()["is_fenced"] is False
    finally:
        for each in (enclosing, refusing, willing):
            each.stop()


def one_module_leaves_room_for_others(host, files):
    """Of four processes it has two at once, however many communities call it."""
    greedy = host.publish({**files, "handler.py": "import time\ndef handler(*_):\n    time.sleep(0.9)"})
    other = {**files, "module.toml": files["module.toml"].replace('name = "dice"', 'name = "other"')}
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: statuses.append(host.invoke(greedy, host.call_of("dice", community=n)).status)
        )
        for n in range(5)
    ]
    for each in threads:
        each.start()
    assert said(host.invoke(host.publish(other), host.call_of("other"))) == "hi"
    for each in threads:
        each.join()
    assert sorted(statuses) == [200, 200, 429, 429, 429]


def test_processes_come_and_go_and_all_end_with_the_host():
    """After so many calls, after some time without any, when the template dies, and when the host is killed."""
    other = ModuleHost(MODULES_IDLE="0.5", MODULES_MAX_CALLS="2").start()
    try:
        files = {
            "module.toml": MANIFEST.format(permissions="", timeout_s=1),
            "handler.py": "import os\ndef handler(*_): return str(os.getpid())",
        }
        function = other.publish(files)

        def pid() -> int:
            return int(said(other.invoke(function, other.call_of("dice"))))

        first, second, third = pid(), pid(), pid()
        assert first == second != third
        eventually(lambda: not os.path.exists(f"/proc/{third}"))
        (template,) = psutil.Process(other.process.pid).children()
        template.kill()
        eventually(lambda: not template.is_running() or template.status() == psutil.STATUS_ZOMBIE)
        last = pid()
        assert last != third
        other.process.kill()
        other.process.wait()
        eventually(lambda: not os.path.exists(f"/proc/{last}"))
    finally:
        other.stop()
