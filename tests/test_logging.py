"""The audit log: one line per fact, in the specification's form, never a secret, never in the way."""

from __future__ import annotations

import os
import re
import socket
import time

import pytest
from own_log import own_log
from waddlebot.base import logs as aaa
from waddlebot.base.errors import NotFound
from waddlebot.base.logs import AAALog, configure_logging, log_context, new_log_context, redact, stop_logging
from waddlebot.base.settings import Settings
from waddlebot.base.strangers import Sampled

LINE = re.compile(
    r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] (DEBUG|INFO|WARNING|ERROR) \w+:\S+ (AUTH|AUTHZ|AUDIT|ERROR|SYSTEM)"
    r" community=\S+ user=\S+ action=\S+ result=[A-Z_]+( \w+=(\"(\\.|[^\"\\])*\"|[^\s\"]+))*"
)


@pytest.fixture
def log_to(tmp_path, monkeypatch):
    """Starts logging into a folder and gives back what was written there."""

    def start(folder=tmp_path, **settings):
        for name, value in {"LOG_LEVEL": "DEBUG", "LOG_CONSOLE_LEVEL": "ERROR", **settings}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LOG_DIR", str(folder))
        configure_logging(Settings.load())

        def read(name="inventory.log"):
            stop_logging()
            return (folder / name).read_text(encoding="utf-8").splitlines()

        return read

    with own_log():
        monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@localhost/x")
        yield start


@pytest.fixture
def log():
    new_log_context()
    return AAALog("inventory", "1.0.0")


def test_a_line_has_the_specifications_form(log_to, log):
    read = log_to()
    log.audit("item_added", community=7, user=3, item_id=12, item_name="Blue Sword", execution_time_ms=1.5)

    (line,) = read()
    assert LINE.fullmatch(line)
    assert 'AUDIT community=7 user=3 action=item_added result=SUCCESS item_id=12 item_name="Blue Sword"' in line


def test_a_line_for_syslog_says_where_it_is_from_and_ends_where_it_ends(log_to, log):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        read = log_to(ENABLE_SYSLOG="true", SYSLOG_HOST="127.0.0.1", SYSLOG_PORT=str(server.getsockname()[1]))
        log.audit("item_added", item_name="Sword")
        log.audit("item_added", item_name="ü" * 10_000)
        short, long = server.recv(65_536).decode(), server.recv(65_536)
        read()

    head = rf"<\d+>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d {re.escape(os.uname().nodename)} waddlebot-inventory\[\d+\]: "
    assert re.match(head + re.escape("["), short)
    assert short.endswith("item_name=Sword")
    assert len(long) < 2100
    assert long.decode().endswith("ü…")


def test_what_is_granted_often_is_told_once_a_minute_with_how_often_it_was():
    now = [0.0]
    grants = Sampled(clock=lambda: now[0])

    assert [grants.count("console", "GET") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert grants.count("console", "POST") == 1
    now[0] = 61.0
    assert [grants.count("console", "GET") for _ in range(2)] == [5, 0]


def test_every_line_of_a_request_says_who_asks(log_to, log):
    read = log_to()
    log_context().actor = "console"
    log.audit("item_added")
    log.audit("item_moved", actor="somebody else")

    first, second = read()
    assert first.endswith("actor=console")
    assert second.endswith('actor="somebody else"')


@pytest.mark.parametrize(
    "text", ["two\nlines", "a=b", 'a "quote"', "tab\t", "\x00", "\x1b[31mred", "\u2028", "ünïcödé \U0001f5e1", ""]
)
def test_no_text_can_break_a_line(log_to, log, text):
    read = log_to()
    log.audit("item_added", item_name=text)

    lines = read()
    assert len(lines) == 1
    assert "\x00" not in lines[0]
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize(
    "secret",
    [
        "wbot_abcdefgh_" + "s" * 50,
        "Authorization: Bearer abc.def",
        "https://id.example/token?client_secret=hunter2&x=1",
        "postgresql://me:hunter2@db/x",
        "oauth:abcdef",
    ],
)
def test_secrets_are_starred_wherever_they_stand(log_to, log, secret):
    read = log_to()
    log.error("request_failed", message=f"it said {secret} to me", api_key="plain", refresh_token="plain")

    (line,) = read()
    assert "***" in line
    for part in ("hunter2", "ssss", "abc.def", "abcdef", "plain"):
        assert part not in line


def test_redacting_leaves_the_rest_of_a_text_alone():
    assert redact("see https://example.com/a?b=c for more") == "see https://example.com/a?b=c for more"
    assert redact("postgresql://me:hunter2@db:5432/x is away") == "postgresql://***@db:5432/x is away"


def test_a_traceback_is_one_line(log_to, log):
    read = log_to()
    try:
        raise ValueError("token=hunter2")
    except ValueError:
        log.error("request_failed", exc_info=True)

    (line,) = read()
    assert "ValueError" in line
    assert "hunter2" not in line


def test_the_decorator_writes_result_and_time(log_to, log):
    read = log_to()

    @log.audited("item_deleted")
    def delete(fail):
        if fail:
            raise NotFound
        return "done"

    assert delete(False) == "done"
    with pytest.raises(NotFound):
        delete(True)

    good, bad = read()
    assert re.search(r"action=item_deleted result=SUCCESS execution_time_ms=[\d.]+", good)
    assert "action=item_deleted result=NOT_FOUND" in bad


def test_a_folder_that_cannot_be_written_costs_one_warning(log_to, log, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    log_to(tmp_path / "file", LOG_CONSOLE_LEVEL="INFO")
    log.audit("item_added")
    stop_logging()

    lines = capsys.readouterr().err.splitlines()
    assert sum("LOG_DIR" in line for line in lines) == 1
    assert any("action=item_added" in line for line in lines)


def test_files_are_their_owners_alone_whatever_the_process_allows(log_to, log, tmp_path):
    mask = os.umask(0o022)
    try:
        read = log_to()
        log.audit("item_added")
        read()
    finally:
        os.umask(mask)

    assert {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {
        "inventory.log": "0o600",
        "inventory.audit.log": "0o600",
    }


def test_files_rotate_at_ten_megabytes(log_to, log, tmp_path):
    read = log_to()
    for _ in range(25):
        log.audit("item_added", description="x y " * 125_000)

    read()
    sizes = sorted(file.stat().st_size for file in tmp_path.glob("inventory.log*"))
    assert len(sizes) == 2
    assert max(sizes) <= aaa.FILE_BYTES


def test_a_line_costs_the_caller_no_write(log_to, log):
    read = log_to()
    started = time.perf_counter()
    for n in range(2000):
        log.audit("item_added", item_id=n)
    in_queue = time.perf_counter() - started

    assert len(read()) == 2000
    assert in_queue < 2
