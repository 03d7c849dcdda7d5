"""k8s/ and each module's own k8s/: what its manifest means on Kubernetes, put together by kustomize.

Who may talk to whom is written here once, as network policies; everything else of a module is of its manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waddlebot.base.contracts import MODULE_HOST
from waddlebot.base.manifest import Manifest
from waddlebot.data.redis_users import user_of
from waddlebot.fleet.accounts import fleet_accounts
from waddlebot.fleet.containers import key_setting, password_setting

from .containers import (
    KONG,
    MODULES,
    MODULES_PORT,
    POSTGRES,
    POSTGRES_OPTIONS,
    REDIS,
    SET_HERE,
    redis_secrets,
    redis_start,
    settings_of,
)
from .text import to_yaml

SECRET, SETTINGS = "waddlebot", "waddlebot-settings"
NAME = "app.kubernetes.io/name"
PART = "app.kubernetes.io/part-of"
MODULE = "waddlebot.io/module"
USER = 10001
LOGS = "/var/log/waddlebotlog"
# Beside Kong and the router: who calls collectors and the other modules directly.
CALL_COLLECTORS = ("portal", "labels_core", "shoutout")
CALL_MODULES = ("portal", "browser_source_core")
# The least and the most hosts of community modules; a module's processes are in each.
MODULE_HOSTS = (1, 4)
KONG_SELECTOR = {NAME: "kong"}


def kubernetes_files(manifests: Sequence[Manifest]) -> dict[str, str]:
    router = next(each for each in manifests if each.name == "router")
    files = {
        "k8s/base/namespace.yaml": to_yaml(_object("v1", "Namespace", "waddlebot")),
        "k8s/base/network.yaml": to_yaml(*_policies(manifests)),
        "k8s/base/kong.yaml": to_yaml(*_kong()),
        "k8s/base/kustomization.yaml": to_yaml(
            _kustomization(
                "namespace.yaml",
                "settings.yaml",
                "network.yaml",
                "kong.yaml",
                *(f"../../{each.package}/k8s" for each in manifests),
            )
        ),
        "k8s/before/jobs.yaml": to_yaml(_prepare(router, manifests), _import(router)),
        "k8s/after/jobs.yaml": to_yaml(
            _job(router, "migrate-post", ["waddlebot", "migrate", "--post"]), _keys(router, manifests)
        ),
        "k8s/stores/stores.yaml": to_yaml(*_stores()),
        "k8s/monitoring/pods.yaml": to_yaml(*_watched(manifests)),
    }
    for folder, part in {"before": "jobs", "after": "jobs", "stores": "stores", "monitoring": "pods"}.items():
        kustomization = {**_kustomization(f"{part}.yaml"), "namespace": "waddlebot"}
        files[f"k8s/{folder}/kustomization.yaml"] = to_yaml(kustomization)
    for manifest in manifests:
        files[f"{manifest.package}/k8s/module.yaml"] = to_yaml(*_module(manifest))
        files[f"{manifest.package}/k8s/kustomization.yaml"] = to_yaml(
            {**_kustomization("module.yaml"), "namespace": "waddlebot"}
        )
    return files


def _kustomization(*resources: str) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": list(resources)}


def _object(version: str, kind: str, name: str, spec: Any = None, **labels: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": {PART: "waddlebot", **labels}},
    }
    return made if spec is None else {**made, "spec": spec}


def _module(manifest: Manifest) -> Iterator[dict[str, Any]]:
    spec = manifest.container
    labels, scale = {MODULE: manifest.name}, (spec.least, spec.most)
    alive = (f"{manifest.prefix}/health", f"{manifest.prefix}/ready")
    yield from _serving(manifest.host, manifest.port, _container(manifest.host, manifest), alive, scale, labels)
    if manifest.hub_port:
        hub, command = f"{manifest.host}-hub", ["python3", "-m", "waddlebot.fleet.serve", "hub"]
        # It has one address for both.
        alive = ("/healthz", "/healthz")
        yield from _serving(hub, manifest.hub_port, _container(hub, manifest, command), alive, scale, labels)
    if manifest.name == "marketplace":
        yield from _serving(MODULES, MODULES_PORT, _module_host(manifest), ("/health", "/ready"), MODULE_HOSTS, {})


def _module_host(marketplace: Manifest) -> dict[str, Any]:
    """Where strangers' code is run: with no database, no Redis and no key but its own. Landlock and seccomp fence it,
    which need no rights."""
    store = f"http://{marketplace.host}:{marketplace.port}{marketplace.prefix}"
    values = {
        "WADDLEBOT_PORT": str(MODULES_PORT),
        "MODULES_PACKAGES_URL": f"{store}/packages",
        "LOG_DIR": LOGS,
        "LOG_ROLE": MODULES,
    }
    return {
        **_container(MODULES, marketplace, ["python3", "-m", "waddlebot.sandbox.host"]),
        "env": [
            _secret("WADDLEBOT_API_KEY", key_setting(MODULE_HOST)),
            _secret("MODULE_HOST_KEY"),
            *({"name": each, "value": value} for each, value in values.items()),
        ],
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    }


def _serving(
    host: str,
    port: int,
    container: dict[str, Any],
    health: tuple[str, str],
    scale: tuple[int, int],
    labels: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """What serves on one port, alike in each replica. `health` is where it says that it is alive, and ready; `scale`
    how many there are at least and at most."""
    alive, ready = health
    least, most = scale
    selector, labels = {NAME: host}, {NAME: host, **labels}
    container = {
        **container,
        "ports": [{"name": "http", "containerPort": port}],
        # Nothing restarts it while its modules load; then alive is alive, and ready is whoever can work.
        "startupProbe": {**_probe(alive), "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**_probe(alive), "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**_probe(ready), "periodSeconds": 5, "failureThreshold": 2},
    }
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }
    pod = {**_pod(container), "terminationGracePeriodSeconds": 30, "topologySpreadConstraints": [spread]}
    yield _object(
        "apps/v1",
        "Deployment",
        host,
        {
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {PART: "waddlebot", **labels}}, "spec": pod},
        },
        **labels,
    )
    yield _object(
        "v1",
        "Service",
        host,
        {"selector": selector, "ports": [{"name": "http", "port": port, "targetPort": "http"}]},
        **labels,
    )
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    }
    yield _object(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        host,
        {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": host},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [metric],
        },
        **labels,
    )
    # Of one replica none could be spared, and no node be emptied: it may go for a moment then.
    budget = {"minAvailable": 1} if least > 1 else {"maxUnavailable": 1}
    yield _object("policy/v1", "PodDisruptionBudget", host, {"selector": {"matchLabels": selector}, **budget}, **labels)


def _container(name: str, manifest: Manifest, command: list[str] | None = None) -> dict[str, Any]:
    spec = manifest.container
    return {
        "name": name,
        "image": f"waddlebot/{manifest.name}",
        **({"command": command} if command else {}),
        "envFrom": [{"configMapRef": {"name": SETTINGS}}],
        "env": _environment(manifest, name),
        "resources": {
            "requests": {"cpu": f"{max(50, spec.cpu_m // 5)}m", "memory": f"{spec.memory_mb // 2}Mi"},
            "limits": {"cpu": f"{spec.cpu_m}m", "memory": f"{spec.memory_mb}Mi"},
        },
        **_fenced(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "logs", "mountPath": LOGS}],
    }


def _fenced() -> dict[str, Any]:
    return {
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    }


def _pod(*containers: dict[str, Any], user: int = USER, before: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": list(before)} if before else {}),
        "containers": list(containers),
        # Each replica has its own logs, so that none rotates another one's.
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "logs", "emptyDir": {"sizeLimit": "512Mi"}},
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 3}


def _secret(name: str, key: str | None = None, *, optional: bool = False) -> dict[str, Any]:
    reference = {"name": SECRET, "key": key or name, **({"optional": True} if optional else {})}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def _database(host: str) -> str:
    return f"postgresql://waddlebot:$(POSTGRES_PASSWORD)@{host}/waddlebot"


def _environment(manifest: Manifest, name: str) -> list[dict[str, Any]]:
    """What a module alone has; what all have alike is in the ConfigMap, with the names of .env."""
    is_portal, own = manifest.name == "portal", settings_of(manifest)
    user = "hub" if name.endswith("-hub") else user_of(manifest)
    values = {
        "DATABASE_URL": _database("postgres"),
        "READ_REPLICA_URL": _database("postgres-replica"),
        "MODULE_URL": f"http://{manifest.host}:{manifest.port}",
        "LOG_DIR": LOGS,
        "LOG_ROLE": name,
        "REDIS_USERNAME": user,
    }
    if manifest.kind == "collector":
        values["CORE_API_URL"] = "http://kong:8000"
    if "KONG_ADMIN_URL" in own:
        values["KONG_ADMIN_URL"] = "http://kong-admin:8001"
    if "MODULE_HOST_KEY" in own:
        values["MODULE_HOST_URL"] = f"http://{MODULES}:{MODULES_PORT}"
    if name.endswith("-hub"):
        values |= {"WEBSOCKET_HOST": "0.0.0.0", "WEBSOCKET_PORT": str(manifest.hub_port)}
    secrets = [
        _secret("POSTGRES_PASSWORD"),
        _secret("REDIS_PASSWORD", password_setting(user)),
        _secret("WADDLEBOT_API_KEY", key_setting(manifest.name)),
        _secret("WADDLEBOT_ENCRYPTION_KEYS"),
        _secret("WADDLEBOT_ACTOR_KEY", "PORTAL_WADDLEBOT_ACTOR_KEY" if is_portal else None),
        *(
            _secret(each, optional=each not in SET_HERE)
            for each in sorted(manifest.container.secrets)
            if "KONG" not in each
        ),
    ]
    return [*secrets, *({"name": each, "value": value} for each, value in values.items())]


def _policies(manifests: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    """Nobody is let in but who is named. What goes out is not fenced: platforms are on the Internet."""
    yield _object(
        "networking.k8s.io/v1", "NetworkPolicy", "nobody-else", {"podSelector": {}, "policyTypes": ["Ingress"]}
    )
    for manifest in manifests:
        callers: list[dict[str, Any]] = [_pods(KONG_SELECTOR)]
        if manifest.name == "router":
            callers += [{"podSelector": {"matchExpressions": [{"key": MODULE, "operator": "Exists"}]}}, HOST_OF_MODULES]
        elif manifest.kind == "admin":
            callers.append(_pods({MODULE: "portal"}))
        else:
            named = CALL_COLLECTORS if manifest.kind == "collector" else CALL_MODULES
            callers += [_pods({MODULE: each}) for each in ("router", *named) if each != manifest.name]
            callers += [HOST_OF_MODULES] if manifest.name == "marketplace" else []
        ports = [manifest.port, *([manifest.hub_port] if manifest.hub_port else [])]
        yield _let_in(manifest.host, {MODULE: manifest.name}, callers, ports)
    yield _let_in(MODULES, {NAME: MODULES}, [_pods({MODULE: "router"})], [MODULES_PORT])
    inside = [{"podSelector": {"matchExpressions": [{"key": MODULE, "operator": "Exists"}]}}]
    inside.append(_pods({"waddlebot.io/job": "yes"}))
    yield _let_in("postgres", {NAME: "postgres"}, [*inside, _pods({NAME: "postgres-replica"})], [5432])
    yield _let_in("postgres-replica", {NAME: "postgres-replica"}, inside, [5432])
    yield _let_in("redis", {NAME: "redis"}, [*inside, _pods(KONG_SELECTOR)], [6379])
    yield _let_in(
        "kong-database", {NAME: "kong-database"}, [_pods(KONG_SELECTOR), _pods({"waddlebot.io/job": "yes"})], [5432]
    )
    admin = next(each for each in manifests if each.kind == "admin")
    yield _let_in("kong-admin", KONG_SELECTOR, [_pods({MODULE: admin.name}), _pods({NAME: "gateway-accounts"})], [8001])
    collectors = [_pods({MODULE: each.name}) for each in manifests if each.kind == "collector"]
    # Whoever comes from outside comes by the ingress controller, whose namespace an overlay may name.
    yield _let_in("kong", KONG_SELECTOR, [*collectors, {"namespaceSelector": {}}], [8000])


def _watched(manifests: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    """Where Prometheus' operator finds figures, which are not for everybody: it comes with the key of account admin."""
    key = {"credentials": {"name": SECRET, "key": key_setting("admin")}}
    for manifest in manifests:
        endpoint = {"port": "http", "path": f"{manifest.prefix}/metrics", "authorization": key}
        yield _watch(manifest.host, endpoint)
    yield _watch("kong", {"port": "status", "path": "/metrics"})


def _watch(host: str, endpoint: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {NAME: host}}, "podMetricsEndpoints": [endpoint]}
    return _object("monitoring.coreos.com/v1", "PodMonitor", host, spec)


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


HOST_OF_MODULES = _pods({NAME: MODULES})


def _let_in(
    name: str, selector: dict[str, str], callers: Sequence[dict[str, Any]], ports: Sequence[int | None]
) -> dict[str, Any]:
    rule = {"from": list(callers), "ports": [{"protocol": "TCP", "port": port} for port in ports]}
    spec = {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return _object("networking.k8s.io/v1", "NetworkPolicy", f"to-{name}", spec)


def _kong() -> Iterator[dict[str, Any]]:
    labels = {NAME: "kong"}
    environment = {
        "KONG_PROXY_LISTEN": "0.0.0.0:8000 reuseport backlog=16384",
        "KONG_ADMIN_LISTEN": "0.0.0.0:8001",
        "KONG_ADMIN_GUI_LISTEN": "off",
        "KONG_STATUS_LISTEN": "0.0.0.0:8100",
        "KONG_HEADERS": "X-Kong-Request-Id",
        "KONG_ERROR_DEFAULT_TYPE": "application/json",
        "KONG_REAL_IP_HEADER": "X-Forwarded-For",
        "KONG_REAL_IP_RECURSIVE": "on",
    }
    container = {
        "name": "kong",
        "image": KONG,
        "envFrom": [{"configMapRef": {"name": "kong-settings", "optional": True}}],
        "env": [*_kong_database(), *({"name": name, "value": value} for name, value in environment.items())],
        "ports": [
            {"name": "proxy", "containerPort": 8000},
            {"name": "admin", "containerPort": 8001},
            {"name": "status", "containerPort": 8100},
        ],
        "livenessProbe": {"httpGet": {"path": "/status", "port": "status"}, "periodSeconds": 10},
        "readinessProbe": {"httpGet": {"path": "/status/ready", "port": "status"}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        **_fenced(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "prefix", "mountPath": "/var/run/kong"}],
    }
    pod = _pod(container, user=1000)
    pod["volumes"] = [{"name": "tmp", "emptyDir": {}}, {"name": "prefix", "emptyDir": {}}]
    yield _object(
        "apps/v1",
        "Deployment",
        "kong",
        {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {PART: "waddlebot", **labels}}, "spec": pod},
        },
        **labels,
    )
    yield _object("v1", "Service", "kong", {"selector": labels, "ports": [_port("proxy", 8000)]}, **labels)
    yield _object("v1", "Service", "kong-admin", {"selector": labels, "ports": [_port("admin", 8001)]}, **labels)
    yield _object(
        "policy/v1", "PodDisruptionBudget", "kong", {"selector": {"matchLabels": labels}, "minAvailable": 1}, **labels
    )


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "port": number, "targetPort": name}


def _kong_database() -> list[dict[str, Any]]:
    values = {
        "KONG_DATABASE": "postgres",
        "KONG_PG_HOST": "kong-database",
        "KONG_PG_USER": "kong",
        "KONG_PG_DATABASE": "kong",
        "KONG_PREFIX": "/var/run/kong",
    }
    named = [{"name": name, "value": value} for name, value in values.items()]
    return [*named, _secret("KONG_PG_PASSWORD"), _secret("REDIS_PASSWORD", password_setting("kong"))]


def _job(
    router: Manifest,
    name: str,
    command: list[str],
    more: Sequence[dict[str, Any]] = (),
    *,
    pod: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What is done once. Whoever applies it again deletes it before: `kubectl delete -k k8s/before`."""
    container = {**_container(name, router, command)}
    container["env"] = [
        _secret("POSTGRES_PASSWORD"),
        {"name": "DATABASE_URL", "value": _database("postgres")},
        {"name": "LOG_DIR", "value": LOGS},
        *more,
    ]
    labels = {NAME: name, "waddlebot.io/job": "yes"}
    spec = {
        "backoffLimit": 10,
        "activeDeadlineSeconds": 1800,
        "template": {
            "metadata": {"labels": {PART: "waddlebot", **labels}},
            "spec": {"restartPolicy": "OnFailure", **(pod or _pod(container))},
        },
    }
    return _object("batch/v1", "Job", name, spec, **labels)


def _account_keys(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    return [_secret(key_setting(account.name)) for account in fleet_accounts(manifests)]


def _prepare(router: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    command = ["python3", "-m", "waddlebot.fleet.containers", "prepare-before"]
    return _job(router, "prepare", command, _account_keys(manifests))


def _keys(router: Manifest, manifests: Sequence[Manifest]) -> dict[str, Any]:
    more = [{"name": "KONG_ADMIN_URL", "value": "http://kong-admin:8001"}, *_account_keys(manifests)]
    return _job(router, "gateway-accounts", ["python3", "/kong/scripts/accounts.py"], more)


def _import(router: Manifest) -> dict[str, Any]:
    """kong.yml is filled in by our image and brought into Kong's database by Kong's, before Kong starts."""
    command = "cp /kong/scripts/bootstrap.sh /tmp && python3 /kong/scripts/render.py > /tmp/kong.yml"
    render = {**_container("render", router, ["sh", "-c", command]), "env": []}
    load = {
        "name": "import",
        "image": KONG,
        "command": ["sh", "/tmp/bootstrap.sh", "/tmp/kong.yml"],
        "env": _kong_database(),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        **_fenced(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "prefix", "mountPath": "/var/run/kong"}],
    }
    pod = _pod(load, before=[render])
    pod["volumes"].append({"name": "prefix", "emptyDir": {}})
    return _job(router, "gateway-import", [], pod=pod)


def _stores() -> Iterator[dict[str, Any]]:
    """For a cluster without operators: one of each, and a replica that streams."""
    yield from _postgres("postgres", "waddlebot", "POSTGRES_PASSWORD")
    yield from _postgres("kong-database", "kong", "KONG_PG_PASSWORD")
    first = (
        "[ -s $PGDATA/PG_VERSION ] || pg_basebackup -h postgres -U waddlebot -D $PGDATA -R -X stream; "
        f"chmod 700 $PGDATA && exec postgres -c hot_standby=on {' '.join(POSTGRES_OPTIONS)}"
    )
    yield from _store(
        "postgres-replica",
        POSTGRES,
        5432,
        [_secret("PGPASSWORD", "POSTGRES_PASSWORD"), {"name": "PGDATA", "value": "/data/pgdata"}],
        ["sh", "-c", first],
        ["pg_isready", "-h", "127.0.0.1"],
    )
    ping = ["sh", "-c", 'redis-cli -a "$REDIS_PASSWORD" --no-auth-warning ping']
    start = ["sh", "-c", f"{redis_start()} --dir /data"]
    yield from _store("redis", REDIS, 6379, list(map(_secret, redis_secrets())), start, ping)
    allow = 'echo "host replication waddlebot all scram-sha-256" >> "$PGDATA/pg_hba.conf"\n'
    yield {**_object("v1", "ConfigMap", "postgres-first-start"), "data": {"replication.sh": allow}}


def _postgres(name: str, user: str, password: str) -> Iterator[dict[str, Any]]:
    environment = [
        {"name": "POSTGRES_USER", "value": user},
        {"name": "POSTGRES_DB", "value": user},
        _secret("POSTGRES_PASSWORD", password),
        {"name": "PGDATA", "value": "/data/pgdata"},
    ]
    command = ["docker-entrypoint.sh", "postgres", "-c", "wal_level=replica", *POSTGRES_OPTIONS]
    yield from _store(name, POSTGRES, 5432, environment, command, ["pg_isready", "-h", "127.0.0.1"])


def _store(
    name: str, image: str, port: int, environment: list[dict[str, Any]], command: list[str], ready: list[str]
) -> Iterator[dict[str, Any]]:
    labels = {NAME: name}
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if image == POSTGRES:
        mounts.append({"name": "run", "mountPath": "/var/run/postgresql"})
        volumes.append({"name": "run", "emptyDir": {}})
    if name == "postgres":
        mounts.append({"name": "first-start", "mountPath": "/docker-entrypoint-initdb.d"})
        volumes.append({"name": "first-start", "configMap": {"name": "postgres-first-start"}})
    container = {
        "name": name,
        "image": image,
        "command": command,
        "env": environment,
        "ports": [{"name": "store", "containerPort": port}],
        "readinessProbe": {"exec": {"command": ready}, "periodSeconds": 5, "timeoutSeconds": 3},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        **_fenced(),
        "volumeMounts": mounts,
    }
    pod = {**_pod(container, user=999), "volumes": volumes}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}
    yield _object(
        "apps/v1",
        "StatefulSet",
        name,
        {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {PART: "waddlebot", **labels}}, "spec": pod},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
        **labels,
    )
    yield _object("v1", "Service", name, {"selector": labels, "ports": [_port("store", port)]}, **labels)
