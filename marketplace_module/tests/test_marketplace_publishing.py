"""What is taken into the store, from whom, and what never is."""

from __future__ import annotations

import base64
import importlib
import io
import stat
import zipfile
from functools import partial

import pytest
from market import HANDLER, error, manifest, new_name, package
from waddlebot.base.manifest import CHECKOUT, all_manifests
from waddlebot.data.database import fetch
from waddlebot.module.package import MANIFEST, pack, read_manifest

EXAMPLES = sorted(CHECKOUT.glob("examples/community_modules/*/module.toml"))


@pytest.fixture
def author(market):
    """A community's program: it may publish, and others have to approve."""
    return market.fleet.make_key(new_name(), "api-users", community_id=market.bot.community_id)


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return made.getvalue()


def decide(market, name, what, key="admin", **body):
    return market.fleet.request("POST", f"/marketplace/module/{name}/{what}", body, key=key)


def test_a_version_waits_for_an_admin_and_a_verified_module_for_nobody(market, author):
    name = new_name()
    done = market.publish(name, key=author)
    assert (done.status, done.json()["state"]) == (200, "pending")
    assert error(market.install(name))["code"] == "not_approved"
    assert market.fleet.request("GET", f"/marketplace/module/{name}", key=author).status == 404
    assert decide(market, name, "approve", key=author).status == 403
    assert decide(market, name, "approve").json()["version"] == "1.0.0"
    market.answers(name)
    assert market.install(name).status == 200
    # Verified: the next one needs no word unless it wants more.
    assert market.publish(name, version="1.1.0", key=author).json()["state"] == "pending"
    assert decide(market, name, "verify").json()["is_verified"] is True
    assert market.publish(name, version="1.2.0", key=author).json()["state"] == "approved"
    more = 'permissions = ["overlays"]'
    assert market.publish(name, version="1.3.0", key=author, more=more).json()["state"] == "pending"
    assert decide(market, name, "reject", reason="Why overlays?").json()["version"] == "1.3.0"
    assert market.page(name)["module"]["version"] == "1.2.0"
    # Who has a rejected version keeps it; nobody gets it any more.
    assert decide(market, name, "reject", version="1.0.0").status == 200
    assert market.bot.say(f"#{name}").statuses == ["success"]
    assert error(market.install(name, version="1.0.0"))["code"] == "not_approved"


def test_operators_read_what_waits_with_its_code_and_say_why_not(market, author):
    name, path = new_name(), "/marketplace/submissions"
    asks = 'permissions = ["private"]\nhosts = ["api.example.org"]'
    assert market.send(package(name, more=asks), key=author).json()["state"] == "pending"

    def listed(key="admin", **query):
        answer = market.fleet.request("GET", path, key=key, query={"module_id": name, **query})
        assert answer.status == 200, answer.body
        return answer.json()

    (waiting,) = listed(state="pending")["submissions"]
    assert (waiting["version"], waiting["asks_more"]) == ("1.0.0", ["private", "host:api.example.org"])
    assert waiting["asks_in_words"][0] == "write to people privately"
    seen = market.fleet.request("GET", f"{path}/{name}/1.0.0", key="admin").json()["submission"]
    assert {each["path"]: each["text"] for each in seen["files"]}["handler.py"] == HANDLER.decode()
    # In the portal that is for operators; an owner there, another author and a community's admin see nothing of it.
    as_right = partial(market.fleet.request_for, area="bot", query={"module_id": name})
    assert len(as_right("GET", path, community_id=None, right="operator").json()["submissions"]) == 1
    assert as_right("GET", path, community_id=market.bot.community_id, right="owner").json()["submissions"] == []
    stranger = market.fleet.make_key(new_name(), "api-users", community_id=market.bot.community_id)
    assert listed(stranger)["total"] == 0
    assert market.fleet.request("GET", f"{path}/{name}/1.0.0", key=stranger).status == 404
    reject = {"method": "POST", "path": f"/marketplace/module/{name}/reject", "body": {"reason": "It calls home."}}
    owner = market.fleet.request_for(**reject, community_id=market.bot.community_id, right="owner")
    assert owner.status == 403
    assert market.fleet.request_for(**reject, community_id=None, right="operator").status == 200
    # Whoever published it reads why.
    (refused,) = listed(author)["submissions"]
    assert (refused["state"], refused["reason"]) == ("rejected", "It calls home.")
    assert listed(state="pending")["total"] == 0
    assert error(market.install(name))["code"] == "not_approved"


def test_a_version_is_for_good(market):
    name = new_name()
    first = market.publish(name)
    again = market.publish(name)
    assert (again.status, again.json()["duplicate"], again.json()["sha256"]) == (200, True, first.json()["sha256"])
    changed = market.publish(name, more='license = "MIT"')
    assert (changed.status, error(changed)["code"]) == (409, "version_immutable")
    for back in ("0.9.0", "1.0.0-beta.1"):
        assert error(market.publish(name, version=back))["code"] == "version_goes_back"
    assert market.publish(name, version="1.0.1").status == 200
    assert error(market.publish(name, version="1.0.1-rc.1"))["code"] == "version_goes_back"
    assert error(market.publish(name, version="one"))["code"] == "bad_manifest"
    # One that is not finished is only for those who name it.
    assert market.publish(name, version="2.0.0-beta.1").status == 200
    assert market.page(name)["module"]["version"] == "1.0.1"


def test_a_name_is_its_first_publishers(market, author):
    name = new_name()
    market.publish(name)
    other = market.publish(name, version="2.0.0", key=author)
    assert (other.status, error(other)["code"]) == (409, "not_yours")


@pytest.mark.parametrize(
    ("name", "imitated"),
    [
        ("inventory", None),
        ("inventorry", "inventory"),
        ("invent0ry", "inventory"),
        ("in_ventory", "inventory"),
        ("inv3ntory", "inventory"),
        ("a1ias", "alias"),
    ],
)
def test_a_module_cannot_be_called_as_a_core_one(market, name, imitated):
    refused = market.publish(name, command=new_name())
    assert (refused.status, error(refused)["code"]) == (409, "name_imitates" if imitated else "name_taken")
    assert imitated is None or error(refused)["details"]["imitates"] == imitated


@pytest.mark.parametrize(
    "command",
    [
        *("inventory", "lnventory", "іnventory", "inventоry", "ｉnventory", "he1p"),
        # Letters of their own, small capitals, and words that are Cyrillic from end to end.
        *("hełp", "ʜᴇʟᴘ", "a\u0335lias", "ѕо", "аѕк", "ѕкір", "ᏂᎬᏞᏢ"),
    ],
)
def test_a_command_cannot_look_like_a_core_one(market, command):
    refused = market.publish(new_name(), command=command)
    assert (refused.status, error(refused)["code"]) == (409, "name_imitates"), refused.body


@pytest.mark.parametrize(
    "path", sorted(CHECKOUT.glob("examples/community_modules/*/module.toml")), ids=lambda path: path.parent.name
)
def test_what_we_show_as_examples_may_be_published(market, path):
    names = importlib.import_module("apps.marketplace_module.services.names")
    with market.fleet.database.transaction() as db:
        assert names.check_names(db, read_manifest(path.read_text()), "account:1") is None


@pytest.mark.parametrize("title", ["Inventory", "lnventory", "Invęntory ", "SРОТIFY", "WaddleBot R0uter"])
def test_a_title_is_not_read_as_a_core_modules(market, title):
    refused = market.send(pack({MANIFEST: titled(new_name(), title, url=market.url)}))
    assert (refused.status, error(refused)["code"]) == (409, "name_imitates"), refused.body
    name = new_name()
    stands_in = titled(name, "Inventory", url=market.url, more='replaces = "inventory"')
    assert market.send(pack({MANIFEST: stands_in})).status == 200
    assert market.send(pack({MANIFEST: titled(new_name(), "Inventory of fish", url=market.url)})).status == 200


def titled(name, title, **options):
    return manifest(name, **options).replace(f'title = "{name.title()}"', f'title = "{title}"').encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", r"a\u0000b"),
        ("title", r"\u202eyrotnevnI"),
        ("title", r"\u200b\u3164"),
        ("title", r"two\nlines"),
        ("title", r"a\u001b[31mred"),
        ("description", r"\u2066x\u2069"),
        ("description", r"\u200b"),
        ("author", r"a\u2028b"),
        ("long_description", r"a\u0000b"),
        ("changelog", r"\u0000"),
        ("changelog", r"\u202e"),
        ("website", r"https://github.com@evil.example/"),
        ("website", r"https://github.com\\@evil.example/"),
        ("icon_url", r"https://a\u202eb.example/x.png"),
    ],
)
def test_a_text_that_is_read_as_something_else_is_told_its_line(market, field, value):
    """All of it is text that TOML takes, and the first ones were a bug on our side to PostgreSQL."""
    lines = [each for each in manifest(new_name(), url=market.url).splitlines() if not each.startswith(field)]
    text = "\n".join([f'{field} = "{value}"', *lines])
    refused = market.send(pack({MANIFEST: text.encode()}))
    assert (refused.status, error(refused)["code"]) == (422, "bad_manifest"), refused.body
    assert [(each["field"], each["line"]) for each in error(refused)["details"]["problems"]] == [(field, 1)]


def test_what_a_command_or_a_setting_says_is_looked_at_as_well(market):
    text = (
        manifest(new_name(), url=market.url)
        + r"""
listen = [{match = "contains", pattern = "a\u0000"}]

[[settings]]
name = "greeting"
type = "text"
default = "a\u0000b"
"""
    )
    refused = market.send(pack({MANIFEST: text.encode()}))
    problems = error(refused)["details"]["problems"]
    lines = [text.splitlines()[each["line"] - 1].partition(" ")[0] for each in problems]
    assert (refused.status, lines) == (422, ["listen", "default"])


def test_a_version_for_a_newer_waddlebot_is_not_installed(market):
    name = new_name()
    market.publish(name, more='min_waddlebot_version = "0.1.0"')
    assert market.install(name).status == 200
    assert market.publish(name, version="1.1.0", more='min_waddlebot_version = "99.0.0"').status == 200
    refused = market.install(name, version="1.1.0")
    assert (refused.status, error(refused)["code"]) == (409, "needs_newer")
    assert "is for WaddleBot 99.0.0 or newer" in error(refused)["message"]
    assert market.installed()[name]["version"] == "1.0.0"


def test_nor_like_another_module(market, author):
    name = new_name()
    market.publish(name + "oo")
    assert error(market.publish(name + "00", key=author))["code"] == "name_imitates"
    # The same command is no imitation: a community has one of them.
    assert market.publish(new_name(), command=name + "oo", key=author).status == 200
    assert error(market.publish(new_name(), command=name + "o0", key=author))["code"] == "name_imitates"
    # Cyrillic, all of it, is a word of its own; mixed with Latin it is a mask.
    assert market.publish(new_name(), command="погода", key=author).status == 200
    assert error(market.publish(new_name(), command="pогода", key=author))["code"] == "name_imitates"


def test_no_command_of_this_checkout_looks_like_another():
    """Else a module of ours could not be told from another one of ours."""
    names = [spec.command for each in all_manifests() for spec in each.commands]
    assert len({each.casefold() for each in names}) == len(set(names))


def test_a_manifest_that_lies_is_told_the_line(market):
    text = manifest(new_name(), url=market.url) + '\n[limits]\nmemory_mb = 99999\ncolour = "red"\n'
    refused = market.send(pack({MANIFEST: text.encode()}))
    assert (refused.status, error(refused)["code"]) == (422, "bad_manifest")
    lines = text.splitlines()
    found = {(each["field"], lines[each["line"] - 1]) for each in error(refused)["details"]["problems"]}
    assert found == {("limits.memory_mb", "memory_mb = 99999"), ("limits.colour", 'colour = "red"')}


@pytest.mark.parametrize(
    "broken",
    [
        'hosts = ["127.0.0.1"]',
        'hosts = ["localhost"]',
        'hosts = ["169.254.169.254"]',
        'hosts = ["*.example.org"]',
        'hosts = ["example.org:99999"]',
        'permissions = ["everything"]',
        'price = "free"',
        "price = -1",
        "price = inf",
        "price = 0.001",
        'hosts = ["example.org:00443"]',
        'category = "no such category"',
        'category = "unheard-of"',
        'replaces = "marketplace_of_others"',
        'icon_url = "javascript:alert(1)"',
        'name = "twice"',
        "x = " + "[" * 3000,
        "]]",
        "\x00",
    ],
)
def test_a_broken_manifest_is_refused(market, broken):
    text = manifest(new_name(), url=market.url, more=broken)
    if broken.startswith("category"):
        text = text.replace('category = "minigames"\n', "")
    refused = market.send(pack({MANIFEST: text.encode()}))
    assert refused.status in (409, 422), refused.body
    assert error(refused)["message"]


def test_a_zip_that_would_do_harm_is_refused(market):
    name = new_name()
    text = manifest(name).encode()
    link = zipfile.ZipInfo("handler.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    good = (MANIFEST, text)
    bombs = {
        "not a zip": b"PK\x03\x04nonsense",
        "empty": b"",
        "no manifest": zipped(("handler.py", HANDLER)),
        "no handler": zipped(good),
        "not Python": zipped(good, ("handler.py", b"def handler(:")),
        "nested": zipped(good, ("handler.py", b"def handler(e, c):\n    return " + b"-" * 200_000 + b"1\n")),
        "a null byte": zipped(good, ("handler.py", HANDLER + b"\0")),
        "another function": zipped(good, ("handler.py", b"def other(event, context): ...")),
        "above": zipped(good, ("../handler.py", HANDLER)),
        "absolute": zipped(good, ("/handler.py", HANDLER)),
        "windows": zipped(good, ("C:\\handler.py", HANDLER)),
        "link": zipped(good, (link, b"/etc/passwd")),
        "bomb": zipped(good, ("handler.py", HANDLER), ("zeros", bytes(11 * 1024 * 1024))),
        "many": zipped(good, ("handler.py", HANDLER), *((f"f{n}", b"") for n in range(250))),
        "cut": package(name)[:-40],
    }
    for what, content in bombs.items():
        refused = market.send(content)
        assert refused.status in (413, 422), (what, refused.status, refused.body)
        assert not error(refused)["message"].endswith(": ."), what
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(good, ("handler.py", HANDLER), ("handler.py", b"import os"))
    assert error(market.send(twice))["code"] == "bad_package"
    assert market.send(bytes(3 * 1024 * 1024)).status == 413
    # None of it left anything behind.
    assert market.send(zipped(good, ("handler.py", HANDLER))).status == 200


def test_json_takes_a_package_or_a_manifest_with_files(market):
    name = new_name()
    send = lambda body: market.fleet.request("POST", "/marketplace/modules", body, key="admin")  # noqa: E731
    assert send({"package": base64.b64encode(package(name)).decode()}).status == 200
    text = manifest(name, version="1.1.0")
    assert send({"manifest": text, "files": {"handler.py": HANDLER.decode()}}).status == 200
    assert send({}).status == 422
    assert send({"package": "§"}).status == 400
    assert send(b'{"manifest": ' + b"[" * 100_000).status == 400
    assert (
        market.fleet.request("POST", "/marketplace/modules", b"x", headers={"Content-Type": "text/plain"}).status == 415
    )


def test_a_package_is_served_to_the_host_of_modules_only(market):
    name = new_name()
    sha256 = market.send(package(name)).json()["sha256"]
    host = market.fleet.make_key(new_name(), "services", module_name="module_host")
    served = market.fleet.request("GET", f"/marketplace/packages/{sha256}", key=host)
    assert (served.status, served.body) == (200, package(name))
    assert served.headers["content-type"] == "application/zip"
    assert market.fleet.request("GET", f"/marketplace/packages/{'0' * 64}", key=host).status == 404
    for key in ("admin", "router", "console"):
        assert market.fleet.request("GET", f"/marketplace/packages/{sha256}", key=key).status == 403
    # What the router calls it by.
    market.install(name)
    with market.fleet.database.transaction() as db:
        (row,) = fetch(db, "SELECT type, location_url FROM commands WHERE module_name = %s", (name,))
    assert row == {"type": "local", "location_url": f"{name}:1.0.0:{sha256}"}


def test_a_webhook_inside_the_fleet_is_refused_and_leaves_nothing(market):
    name = new_name()
    refused = market.publish(name, url="http://127.0.0.1:5432/")
    assert refused.status == 422, refused.body
    assert market.publish(name).status == 200
    renewed = market.fleet.request("POST", f"/marketplace/module/{name}/secret", key="admin")
    assert len(renewed.json()["webhook_secret"]) > 20
