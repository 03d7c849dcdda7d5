"""The pages' library, by a small module of its own (tests/pages) in a process of its own, as browsers see it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import axe_playwright_python
import psycopg2
import pytest
import redis
from mailbox_server import Mailbox
from pydal.validators import CRYPT
from waddlebot.fleet.embedded import free_port
from waddlebot.testing.browser import chromium
from waddlebot.testing.fleet import Stack
from waddlebot.testing.plugin import eventually
from waddlebot.testing.surroundings import AS_STARTED

MODULES = Path(__file__).parent / "pages"
LOOK = Path(__file__).parents[1] / "libs" / "waddlebot" / "web" / "static"
BROWSERS_ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
COOKIE = "guestbook_session"
PASSWORD, NEW_PASSWORD = "huddle-up-in-2026!", "a new one, longer & 7"
ACCOUNT = ("relay", "relay's secret")
# `auth_user` is the portal's.
TABLES = """
CREATE TABLE guestbook_entries (id serial PRIMARY KEY, community_id int, name varchar(512), text text,
  is_loud boolean DEFAULT false, written_at timestamp DEFAULT now());
INSERT INTO guestbook_entries (community_id, name, text) VALUES (1, 'Alpha', '<b>a</b>'),
  (2, 'of another community', 'no'), (1, 'Bravo', 'b'), (1, 'Charlie', 'c');
"""


@dataclass
class Answer:
    status: int
    text: str
    body: bytes
    headers: Any

    @property
    def cookies(self) -> list[str]:
        return self.headers.get_all("Set-Cookie") or []

    @property
    def key(self) -> str:
        found = re.search(r'name="_formkey"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="_formkey"', self.text)
        assert found, self.text
        return found[1] or found[2]


@dataclass
class Visitor:
    """Somebody with a browser that has no script."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Accept": BROWSERS_ACCEPT, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, urlencode(form) if form is not None else None, sent)
        got = connection.getresponse()
        body = got.read()
        connection.close()
        answer = Answer(got.status, body.decode("utf-8", "replace"), body, got.headers)
        for cookie in answer.cookies:
            name, _, value = cookie.split(";")[0].partition("=")
            if "Max-Age=-1" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def submit(self, path: str, form: str, /, **values: str) -> Answer:
        """Open a page and send the form on it."""
        key = self.get(path).key
        return self.ask("POST", path, {"_formname": form, "_formkey": key, **values})

    def sign_in(self, email: str = "pip@example.org", password: str = PASSWORD, following: str = "") -> Answer:
        path = "/guestbook/auth/login" + (f"?next={quote(following)}" if following else "")
        return self.submit(path, "login", email=email, password=password)


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox(ACCOUNT) as server:
        yield server


@pytest.fixture(scope="module")
def stack_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers of these tests' own, since the module's tables are not the fleet's."""
    with Stack.running(tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.fixture(scope="module")
def database(stack_of_pages: Stack) -> Iterator[Any]:
    connection = psycopg2.connect(stack_of_pages.postgres.owner_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        yield cursor
    connection.close()


@pytest.fixture(scope="module")
def redis_of_pages(stack_of_pages: Stack) -> Iterator[redis.Redis]:
    valkey = stack_of_pages.valkey
    with redis.Redis(port=valkey.port, password=valkey.password, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def environment(
    stack_of_pages: Stack, database: Any, mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder, port = tmp_path_factory.mktemp("guestbook"), free_port()
    return {
        **AS_STARTED,
        **stack_of_pages.environment(),
        "WADDLEBOT_MODULES_DIR": str(MODULES),
        "WADDLEBOT_MODULES": "guestbook_module",
        "WADDLEBOT_PORT": str(port),
        "WADDLEBOT_RUN_DIR": str(folder),
        "BASE_URL": f"http://127.0.0.1:{port}",
        "LOG_DIR": str(folder),
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.port),
        "SMTP_TLS": "false",
        "SMTP_USERNAME": ACCOUNT[0],
        "SMTP_PASSWORD": ACCOUNT[1],
        "FROM_EMAIL": "bot@example.org",
    }


@pytest.fixture(scope="module")
def port(environment: dict[str, str]) -> Iterator[int]:
    port = int(environment["WADDLEBOT_PORT"])
    with _serving(environment):
        yield port


@contextmanager
def _serving(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "waddlebot.fleet.serve", "web"], env=environment)
    port = int(environment["WADDLEBOT_PORT"])
    try:
        eventually(lambda: process.poll() is not None or _answers(port), within_s=60, what="the module serves")
        assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        return Visitor(port).get("/guestbook/health").status == 200
    except OSError:
        return False


@pytest.fixture
def visitor(port: int) -> Visitor:
    return Visitor(port)


@pytest.fixture
def pip(database: Any, redis_of_pages: redis.Redis) -> int:
    """An account, as if new."""
    for key in redis_of_pages.scan_iter("waddlebot:*limits*"):
        redis_of_pages.delete(key)
    database.execute(
        "INSERT INTO auth_user (email, password, first_name, action_token, last_password_change)"
        " VALUES ('pip@example.org', %s, 'Pip', '', NULL) ON CONFLICT (email) DO UPDATE"
        " SET password = excluded.password, action_token = '', last_password_change = NULL RETURNING id",
        (str(CRYPT(digest_alg="pbkdf2(1000,20,sha512)")(PASSWORD)[0]),),
    )
    return database.fetchone()[0]


def _sessions(client: redis.Redis) -> set[str]:
    return set(client.scan_iter("waddlebot:session:*"))


# Coming and going


def test_signing_in_leads_to_where_one_wanted_to_go(visitor, pip):
    first = visitor.get("/guestbook?q=a")
    assert first.status == 303
    assert parse_qs(urlsplit(first.headers["Location"]).query) == {"next": ["/guestbook?q=a"]}

    there = visitor.sign_in(following="/guestbook?q=a")

    assert (there.status, there.headers["Location"]) == (303, "/guestbook?q=a")
    page = visitor.get("/guestbook?q=a")
    assert page.status == 200
    assert "Alpha" in page.text and "Pip" in page.text


def test_the_session_changes_its_id_at_signing_in_and_the_one_of_before_is_gone(visitor, pip, redis_of_pages):
    visitor.get("/guestbook/auth/login")
    before = visitor.cookies[COOKIE]
    there = visitor.sign_in()
    after = visitor.cookies[COOKIE]

    assert before != after and len(after) == 43
    assert f"waddlebot:session:{before}" not in _sessions(redis_of_pages)
    assert f"waddlebot:session:{after}" in _sessions(redis_of_pages)
    (cookie,) = [each for each in there.cookies if each.startswith(COOKIE)]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}


def test_after_signing_out_the_old_cookie_opens_nothing(visitor, port, pip, redis_of_pages):
    visitor.sign_in()
    stolen = Visitor(port, dict(visitor.cookies))
    assert stolen.get("/guestbook").status == 200
    assert visitor.get("/guestbook/auth/logout").status == 405, "a link or picture signs nobody out"

    out = visitor.ask("POST", "/guestbook/auth/logout", {})

    assert out.status == 303
    assert stolen.get("/guestbook").status == 303
    assert f"waddlebot:session:{stolen.cookies[COOKIE]}" not in _sessions(redis_of_pages)
    assert "You are signed out." in visitor.get(out.headers["Location"]).text


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/guestbook\\@evil.example",
        "javascript:alert(1)",
        "/other",
    ],
)
def test_nobody_is_led_elsewhere_after_signing_in(visitor, pip, following):
    assert visitor.sign_in(following=following).headers["Location"] == "/guestbook"


def test_over_https_the_cookie_is_for_https_only(environment, pip, tmp_path):
    changed = {
        "WADDLEBOT_PORT": str(free_port()),
        "WADDLEBOT_RUN_DIR": str(tmp_path),
        "PORTAL_URL": "https://book.example",
    }
    with _serving({**environment, **changed}):
        visitor = Visitor(int(changed["WADDLEBOT_PORT"]))
        key = visitor.get("/guestbook/auth/login", Host="book.example").key
        form = {"_formname": "login", "_formkey": key, "email": "pip@example.org", "password": PASSWORD}
        there = visitor.ask("POST", "/guestbook/auth/login", form, Host="book.example")

    assert there.status == 303
    assert all("Secure" in cookie for cookie in there.cookies if cookie.startswith(COOKIE)) and there.cookies


def test_a_wrong_password_and_an_unknown_address_are_told_alike(visitor, port, pip):
    wrong = visitor.sign_in(password="wrong")
    unknown = Visitor(port).sign_in(email="nobody@example.org")
    nonsense = Visitor(port).sign_in(email="pip\0@example.org", password="\0")

    for answer in (wrong, unknown, nonsense):
        assert answer.status == 422
        assert "That address and password do not belong together." in answer.text
    assert 'value="wrong"' not in wrong.text and 'value="pip@example.org"' in wrong.text


def test_who_guesses_passwords_is_stopped(visitor, pip):
    assert [visitor.sign_in().status for _ in range(3)] == [303] * 3, "being right costs nothing"
    statuses = [visitor.sign_in(password=f"guess {n}").status for n in range(11)]

    assert statuses == [422] * 10 + [429]
    assert visitor.sign_in().status == 429, "the right one does not get through then either"


def test_an_account_that_was_blocked_is_out_at_once(visitor, pip, database):
    visitor.sign_in()
    database.execute("UPDATE auth_user SET action_token = 'account-blocked' WHERE id = %s", (pip,))

    assert visitor.get("/guestbook").status == 303
    assert visitor.sign_in().status == 422


def test_without_the_code_of_the_second_step_nobody_is_in(visitor, pip, database):
    database.execute("UPDATE auth_user SET email = 'careful@example.org' WHERE id = %s", (pip,))
    try:
        there = visitor.sign_in("careful@example.org", following="/guestbook?q=b")
        assert there.headers["Location"] == "/guestbook/auth/second-step"
        assert visitor.get("/guestbook").status == 303
        assert visitor.ask("POST", "/guestbook/auth/api/login", {"email": "careful@example.org"}).status == 404

        assert visitor.submit("/guestbook/auth/second-step", "second_step", code="111111").status == 422
        right = visitor.submit("/guestbook/auth/second-step", "second_step", code="246810")
        assert (right.status, right.headers["Location"]) == (303, "/guestbook?q=b")
        assert visitor.get("/guestbook").status == 200
    finally:
        database.execute("DELETE FROM auth_user WHERE id = %s", (pip,))


# A new password


def _reset_link(mailbox: Mailbox, visitor: Visitor) -> str:
    before = len(mailbox.mails)
    assert visitor.submit("/guestbook/auth/request-reset", "request_reset", email="PIP@example.org").status == 303
    eventually(lambda: len(mailbox.mails) > before)
    mail = mailbox.mails[-1]
    assert (mail["To"], mail["From"]) == ("pip@example.org", "WaddleBot <bot@example.org>")
    text = mail.get_body(("plain",)).get_content()
    (link,) = re.findall(rf"http://127\.0\.0\.1:{visitor.port}(/guestbook/auth/reset\?token=[\w-]{{43}})\s", text)
    return link


def test_a_reset_link_sets_a_password_once_and_ends_all_sessions(visitor, port, pip, mailbox, database):
    elsewhere = Visitor(port)
    elsewhere.sign_in()
    link = _reset_link(mailbox, visitor)

    weak = visitor.submit(link, "reset", new_password="short")
    assert weak.status == 422 and "Too easy to guess" in weak.text
    key = visitor.get(link).key
    assert visitor.submit(link, "reset", new_password=NEW_PASSWORD).status == 303

    again = visitor.ask("POST", link, {"_formname": "reset", "_formkey": key, "new_password": PASSWORD})
    assert again.status == 410 and "This link was used already" in again.text
    assert visitor.get(link).status == 410
    assert elsewhere.get("/guestbook").status == 303
    assert visitor.sign_in(password=PASSWORD).status == 422
    assert visitor.sign_in(password=NEW_PASSWORD).status == 303
    database.execute("SELECT password FROM auth_user WHERE id = %s", (pip,))
    assert database.fetchone()[0].startswith("pbkdf2(210000,64,sha512)$")


def test_of_two_who_use_a_reset_link_at_once_one_gets_through(visitor, port, pip, mailbox):
    link = _reset_link(mailbox, visitor)
    visitors = [Visitor(port) for _ in range(4)]
    keys = [each.get(link).key for each in visitors]
    statuses = []

    def use(each: Visitor, key: str) -> None:
        form = {"_formname": "reset", "_formkey": key, "new_password": NEW_PASSWORD}
        statuses.append(each.ask("POST", link, form).status)

    threads = [threading.Thread(target=use, args=pair) for pair in zip(visitors, keys, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [303, 410, 410, 410]


def test_a_reset_link_of_yesterday_and_a_stolen_digest_open_nothing(visitor, pip, mailbox, database):
    link = _reset_link(mailbox, visitor)
    database.execute("SELECT action_token FROM auth_user WHERE id = %s", (pip,))
    digest = database.fetchone()[0].split(":")[1]
    assert digest not in link
    assert visitor.get(f"/guestbook/auth/reset?token={digest}").status == 410

    database.execute("UPDATE auth_user SET action_token_expires_at = now() - interval '1 second' WHERE id = %s", (pip,))

    assert visitor.get(link).status == 410


def test_who_asks_for_a_link_is_not_told_whether_there_is_such_an_account(visitor, pip, mailbox):
    before = len(mailbox.mails) + 1
    known = visitor.submit("/guestbook/auth/request-reset", "request_reset", email="pip@example.org")
    eventually(lambda: len(mailbox.mails) == before)
    unknown = visitor.submit("/guestbook/auth/request-reset", "request_reset", email="nobody@example.org")

    assert (known.status, known.headers["Location"]) == (unknown.status, unknown.headers["Location"])
    assert len(mailbox.mails) == before
    said = visitor.get(known.headers["Location"])
    assert "If there is such an account" in said.text
    assert "If there is such an account" not in visitor.get(known.headers["Location"]).text


def test_a_changed_password_ends_the_other_sessions_and_not_this_one(visitor, port, pip):
    elsewhere = Visitor(port)
    elsewhere.sign_in()
    visitor.sign_in()
    path = "/guestbook/auth/change-password"

    wrong = visitor.submit(path, "change_password", old_password="wrong", new_password=NEW_PASSWORD)
    assert wrong.status == 422
    assert visitor.submit(path, "change_password", old_password=PASSWORD, new_password=NEW_PASSWORD).status == 303

    assert visitor.get("/guestbook").status == 200
    assert elsewhere.get("/guestbook").status == 303


# Forms


def test_what_a_form_took_is_kept_and_said_once_as_it_is(visitor, pip, database):
    visitor.sign_in()

    done = visitor.submit("/guestbook/write", "entry", name="Zoë O'Neill")

    assert done.status == 303
    page = visitor.get("/guestbook/write").text
    assert "Thank you, Zoë O&#x27;Neill: &quot;written&quot; &amp; &lt;kept&gt;." in page.replace("&#39;", "&#x27;")
    assert "Thank you" not in visitor.get("/guestbook/write").text
    database.execute("DELETE FROM guestbook_entries WHERE name = %s RETURNING id", ("Zoë O'Neill",))
    assert len(database.fetchall()) == 1


@pytest.mark.parametrize("how", ["none", "forged", "another's", "old"])
def test_a_form_without_its_own_key_is_refused_in_words_and_keeps_what_was_typed(visitor, port, pip, database, how):
    visitor.sign_in()
    own = visitor.get("/guestbook/write").key
    other = Visitor(port)
    other.sign_in()
    head, payload, signature = own.split(".")
    claims = {**json.loads(base64.urlsafe_b64decode(payload + "==")), "exp": 1}
    expired = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    keys = {
        "none": {},
        "forged": {"_formkey": f"{head}.{payload}.{signature[:-4]}AAAA"},
        "another's": {"_formkey": other.get("/guestbook/write").key},
        "old": {"_formkey": f"{head}.{expired}.{signature}"},
    }

    answer = visitor.ask("POST", "/guestbook/write", {"_formname": "entry", "name": "Mallory", **keys[how]})

    assert answer.status == 422
    assert "This page was open too long. Press the button again." in answer.text
    assert 'value="Mallory"' in answer.text
    database.execute("SELECT count(*) FROM guestbook_entries WHERE name = 'Mallory'")
    assert database.fetchone()[0] == 0
    assert (
        visitor.ask("POST", "/guestbook/write", {"_formname": "entry", "_formkey": answer.key, "name": ""}).status
        == 422
    )


def test_a_key_that_has_expired_is_refused_in_words(visitor, pip, redis_of_pages):
    jwt = pytest.importorskip("jwt")
    visitor.sign_in()
    visitor.get("/guestbook/write")
    secret = json.loads(redis_of_pages.get(f"waddlebot:session:{visitor.cookies[COOKIE]}"))["_formkey"]
    assert len(secret) == 43, "py4web's own is made of the time"
    old = jwt.encode({"ts": "1", "exp": 1}, secret, algorithm="HS256")

    answer = visitor.ask("POST", "/guestbook/write", {"_formname": "entry", "_formkey": old, "name": "Late"})

    assert answer.status == 422 and "open too long" in answer.text


def test_what_does_not_fit_is_said_at_its_field(visitor, pip):
    visitor.sign_in()

    answer = visitor.submit("/guestbook/write", "entry", name="", text="kept")

    assert answer.status == 422
    assert 'id="guestbook_entries_name-error"' in answer.text and "Say who you are." in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert re.search(r'aria-describedby="[^"]*guestbook_entries_name-error', answer.text)
    assert "kept</textarea>" in answer.text
    assert "style=" not in answer.text and "onclick" not in answer.text
    assert 'action="/guestbook/write"' in answer.text


def test_a_form_never_writes_by_itself(visitor, pip, database):
    visitor.sign_in()
    database.execute("SELECT count(*) FROM guestbook_entries")
    before = database.fetchone()[0]

    visitor.submit("/guestbook/write", "entry", name="Conflict", _delete="ON", id="1")

    database.execute("SELECT count(*) FROM guestbook_entries")
    assert database.fetchone()[0] == before


def test_an_error_of_a_service_is_a_page_in_words(visitor, pip):
    visitor.sign_in()

    answer = visitor.submit("/guestbook/write", "entry", name="Conflict")

    assert answer.status == 409
    assert "Somebody of that name was here." in answer.text and "waddlebot.css" in answer.text


def test_another_sites_page_changes_nothing(visitor, pip):
    visitor.sign_in()

    for site in ("cross-site", "same-site"):
        assert visitor.ask("POST", "/guestbook/auth/logout", {}, Sec_Fetch_Site=site).status == 403
    assert visitor.get("/guestbook", Sec_Fetch_Site="cross-site").status == 200


# Lists


@pytest.mark.parametrize(
    "query",
    [
        "mode=edit&id=2",
        "mode=details&id=2",
        "mode=delete&id=2",
        "mode=new",
        "id=2",
        "mode=nonsense",
        "referrer=" + base64.b16encode(b"https://evil.example/").decode(),
        "referrer=zz",
        "mode=edit&id=1&referrer=" + base64.b16encode(b"javascript:alert(1)").decode(),
        "page=0",
        "page=-1",
        "page=99999999999999999999",
        "page=x",
        "orderby=auth_user.password",
        "orderby=guestbook_entries.community_id",
        "orderby=guestbook_entries.name;drop",
        "search_string=x&search_type=9",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_list_shows_its_own_rows_whatever_the_address_says(visitor, pip, database, query, method):
    visitor.sign_in()

    answer = visitor.ask(method, f"/guestbook?{query}", {} if method == "POST" else None)

    if method == "POST":
        assert answer.status == 405
    else:
        assert answer.status == 200
        assert "Alpha" in answer.text and "another community" not in answer.text
        assert "evil.example" not in answer.text and "javascript:" not in answer.text
        assert query not in answer.text.replace("&amp;", "&")
    database.execute("SELECT count(*) FROM guestbook_entries WHERE id = 2")
    assert database.fetchone()[0] == 1


def test_a_list_has_pages_and_an_order(visitor, pip):
    visitor.sign_in()

    first = visitor.get("/guestbook?q=kept").text
    assert "Alpha" in first and "Charlie" not in first
    assert "&lt;b&gt;a&lt;/b&gt;" in first, "what people wrote is text"
    assert "3 in all" in first and "Page 1 of 2" in first
    assert re.search(r'href="/guestbook\?q=kept&amp;page=2"', first)
    assert re.search(r'<time datetime="20[0-9T:+-]+">', first)
    assert "Charlie" in visitor.get("/guestbook?page=2").text

    turned = visitor.get("/guestbook?orderby=~guestbook_entries.name").text
    assert 'aria-sort="descending"' in turned and "Charlie" in turned and "Alpha" not in turned


# What everybody gets


def test_who_only_looks_leaves_nothing_behind(visitor, redis_of_pages):
    before = _sessions(redis_of_pages)

    answers = [visitor.get("/guestbook/public") for _ in range(3)] + [visitor.get("/guestbook")]

    assert [each.status for each in answers] == [200, 200, 200, 303]
    assert [each.cookies for each in answers] == [[], [], [], []]
    assert _sessions(redis_of_pages) == before


@pytest.mark.parametrize("cookie", ["x", "A" * 43, "../../x", "waddlebot:session:x"])
def test_a_session_id_that_is_not_ours_is_nobodys(visitor, pip, cookie):
    visitor.cookies[COOKIE] = cookie

    assert visitor.get("/guestbook").status == 303
    visitor.sign_in()
    assert visitor.cookies[COOKIE] != cookie


def test_an_answer_may_set_several_cookies(visitor):
    answer = visitor.get("/guestbook/api/cookies")

    assert answer.cookies == ["one=1; Path=/", "two=2; Path=/; HttpOnly"]


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/guestbook/nowhere", 404, "There is nothing here"),
        ("GET", "/guestbook/entries/7", 404, "There is no entry 7."),
        ("POST", "/guestbook/public", 405, "That does not work here"),
        ("GET", "/guestbook/broken", 500, "Something broke"),
    ],
)
def test_errors_are_a_page_for_a_browser_and_json_for_a_program(visitor, method, path, status, words):
    page = visitor.ask(method, path)
    assert page.status == status
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"] == POLICY
    assert words in page.text and "<h1 " in page.text
    assert "Traceback" not in page.text and "secret of the traceback" not in page.text

    for accept in ("application/json", "*/*", "", "text/html;q=0.1, application/json"):
        answer = visitor.ask(method, path, Accept=accept)
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(answer.text)["success"] is False


@pytest.mark.parametrize("path", ["/guestbook/api/nothing", "/other/nothing", "/guestbook/static/x/nothing.css"])
def test_what_is_for_programs_answers_json_even_to_a_browser(visitor, path):
    answer = visitor.get(path)

    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")


def test_a_program_that_is_signed_out_is_told_in_json(visitor):
    answer = visitor.get("/guestbook", Accept="application/json")

    assert answer.status == 401
    assert json.loads(answer.text)["error"]["code"] == "signed_out"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[evil"])
def test_under_a_foreign_name_there_are_no_pages(visitor, port, host):
    answer = visitor.get("/guestbook/auth/login", Host=host)

    assert answer.status == 421
    assert f"These pages are at http://127.0.0.1:{port}." in answer.text
    assert "evil.example" not in answer.text
    assert visitor.get("/guestbook/health", Host="evil.example").status == 200


def test_a_mail_never_names_the_host_of_a_request(visitor, pip, mailbox):
    assert visitor.submit("/guestbook/auth/request-reset", "request_reset", email="pip@example.org").status == 303
    refused = visitor.ask("POST", "/guestbook/auth/request-reset", {"email": "pip@example.org"}, Host="evil.example")

    assert refused.status == 421
    assert _reset_link(mailbox, visitor).startswith("/guestbook/")


def test_every_page_has_the_policy_and_what_it_needs_is_ours(visitor, pip):
    visitor.sign_in()
    for path in ("/guestbook", "/guestbook/write", "/guestbook/public", "/guestbook/auth/login"):
        page = visitor.get(path)
        assert page.headers["Content-Security-Policy"] == POLICY
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert "<style" not in page.text and " style=" not in page.text
        assert not re.search(r"<script(?![^>]* src=)|\son\w+=", page.text)
        for url in re.findall(r'(?:href|src)="(/guestbook/static/[^"#]+)', page.text):
            assert visitor.get(url).status == 200, url


def test_the_theme_is_the_cookies(visitor):
    assert "data-theme" not in visitor.get("/guestbook/public").text

    kept = visitor.ask("POST", "/guestbook/theme/dark", {"next": "/guestbook/public"})

    assert (kept.status, kept.headers["Location"]) == (303, "/guestbook/public")
    assert '<html lang="en" data-theme="dark">' in visitor.get("/guestbook/public").text
    visitor.cookies["theme"] = '"><script>'
    assert "data-theme" not in visitor.get("/guestbook/public").text


# Files


def test_files_are_kept_for_good_and_come_compressed(visitor):
    url = re.search(r'href="(/guestbook/static/[0-9a-f]{16}/waddlebot\.css)"', visitor.get("/guestbook/public").text)[1]
    whole = (LOOK / "waddlebot.css").read_bytes()

    plain, packed = visitor.get(url), visitor.get(url, Accept_Encoding="gzip, deflate")

    assert plain.body == whole and "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip" and gzip.decompress(packed.body) == whole
    assert len(packed.body) < len(whole) / 3
    assert visitor.get(url, Accept_Encoding="gzip;q=0").body == whole
    for answer in (plain, packed):
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
        assert answer.headers["Vary"] == "Accept-Encoding"
    known = visitor.get(url, If_None_Match=plain.headers["ETag"])
    assert (known.status, known.body) == (304, b"")


def test_under_an_old_version_files_come_and_are_not_kept(visitor):
    answer = visitor.get("/guestbook/static/0000000000000000/waddlebot.css")

    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "VENDORED.md", "LICENSE-inter.txt", "%00"])
def test_nothing_else_is_served_as_a_file(visitor, name):
    assert visitor.get(f"/guestbook/static/0000000000000000/{name}").status == 404


def test_fonts_are_bytes(visitor):
    answer = visitor.get("/guestbook/static/0000000000000000/inter.woff2", Accept_Encoding="gzip")

    assert answer.body == (LOOK / "inter.woff2").read_bytes()
    assert answer.headers["Content-Type"] == "font/woff2" and "Content-Encoding" not in answer.headers


def test_what_is_not_ours_is_what_its_list_says():
    for name, digest in re.findall(
        r"^\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|$", (LOOK / "VENDORED.md").read_text(), re.M
    ):
        assert hashlib.sha256((LOOK / name).read_bytes()).hexdigest() == digest, name


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_pages_are_in_order_for_a_browser_and_for_who_cannot_see(browser, port, pip, theme, width):
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    def look(path: str) -> None:
        page.goto(f"http://127.0.0.1:{port}{path}")
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        problems.extend(f"{path}: {each['id']} {[node['html'] for node in each['nodes']]}" for each in found)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        problems.extend([f"{path}: scrolls sideways by {wide}"] if wide > 0 else [])

    look("/guestbook/auth/login")
    page.get_by_label("E-mail address").fill("pip@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Guest book").wait_for()
    for path in ("/guestbook", "/guestbook/write", "/guestbook/auth/change-password", "/guestbook/public"):
        look(path)
    context.close()

    assert problems == []


def test_the_theme_button_lasts_to_the_next_page(browser, port, pip):
    context = browser.new_context(viewport={"width": 1440, "height": 844}, color_scheme="light")
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/guestbook/auth/login")
    page.get_by_label("E-mail address").fill("pip@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    page.get_by_role("button", name="Switch between light and dark").first.click()
    page.goto(f"http://127.0.0.1:{port}/guestbook/write")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 15, 22)"
    context.close()
