"""What each module is made of: its manifest and settings, the database, keys, logs, metrics, health and loops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from pydal import DAL

from ..base import watched
from ..base.background import Loops
from ..base.checks import Checked, Counted, ForAMoment, run_check
from ..base.contracts import Heartbeat, ModuleRegistration
from ..base.encryption import Keyring
from ..base.errors import Busy, NotAllowed, NotAuthenticated, UpstreamError, UpstreamRefused
from ..base.logs import AAALog
from ..base.manifest import Manifest, load_manifest
from ..base.metrics import CONTENT_TYPE, Metrics
from ..base.settings import Settings
from ..base.wire import to_json
from ..community.credentials import Credentials
from ..data.cache import shared_bus
from ..data.database import DatabaseUnavailable, fetch, shared_database
from ..data.jobs import Jobs
from ..data.processes import SAVE_EVERY_S, ProcessReports
from ..web.actor import ActorKey, Actors
from ..web.auth import ANYBODY, PORTAL_ONLY, Account, Accounts, Caller, figures_of
from ..web.callback import CallTokens
from ..web.clients import FleetClient, FleetTransport, RouterClient
from ..web.endpoint import JSON_HEADERS, JSON_TYPE, Bound, Endpoint, Mount, Raw, RawRequest, endpoint
from ..web.http import HTTPClient
from ..web.openapi import openapi
from ..web.provider import Providers
from ..web.site import Page, Site, SiteSettings
from ..web.static import StaticFiles
from .background_metrics import BackgroundMetrics
from .people import Erased, EraseRequest, Keeps, People, PeopleQuery, Person, Personal, confined
from .portable import ExportQuery, ImportQuery, ImportRequest, Part, Plan, Portable

HEARTBEAT_EVERY_S = 30.0
HOUSEKEEPING_EVERY_S = 60.0

# Every service of this process, in the order in which they were made.
SERVICES: list[Service] = []


class Service:
    """One module's service. `app.py` makes it first, then builds on it.

    `tables` defines the module's own tables on both sides of the database.
    """

    def __init__(self, app_file: str, settings: Settings, *, tables: Callable[[DAL], None] | None = None) -> None:
        self.settings = settings
        self.manifest: Manifest = load_manifest(Path(app_file).resolve().parent)
        self.name = settings.module_name or self.manifest.name
        self.version = settings.module_version or self.manifest.version
        self.started_at = time.time()
        self.log = AAALog(self.name, self.version)
        self.metrics = Metrics(self.manifest.name)
        self.database = shared_database(settings, self.log)
        if tables:
            self.database.define(self.manifest.tables, tables)
        self.bus = shared_bus(settings)
        self.accounts = Accounts(self.database, self.bus)
        # What communities gave this fleet for other services; it opens where WADDLEBOT_ENCRYPTION_KEYS are set.
        keyring = Keyring(settings)
        self.credentials = Credentials(self.database, self.bus, keyring, log=self.log)
        self.calls = CallTokens(keyring)
        actor_key = settings.actor_key
        self.actors = Actors(ActorKey.parse(actor_key.get_secret_value()) if actor_key else None, self.bus.client)
        self.transport = FleetTransport(HTTPClient())
        self.client = FleetClient(self.transport, settings.api_key.get_secret_value() if settings.api_key else None)
        self.router = RouterClient(
            self.client,
            core_url=settings.core_api_url,
            router_url=settings.router_url,
            timeout_s=settings.request_timeout_s,
        )
        self.loops = Loops(self.log, Jobs(self.database, self.name))
        self._reports = ProcessReports(self.database.statement, settings.log_role)
        self.checks: dict[str, Callable[[], str | Counted]] = {
            "database": self._check_database,
            "redis": self._check_redis,
        }
        self.essential = {"database"}
        self._was_ok: dict[str, bool] = {}
        self.check("background", self._check_background)
        self.metrics.registry.register(BackgroundMetrics(self._reports, self.name, self.metrics.module))
        if self.database.replica:
            self.check("replica", self.database.replica.check)
            self.metrics.registry.register(self.database.replica.lookups)
        # What of a community's it carries, once it has said so.
        self.carried: Portable | None = None
        # What a module adds to its own health and metrics.
        self.more_health: Callable[[], dict[str, Any]] = dict
        self._more_health: ForAMoment[dict[str, Any]] = ForAMoment()
        self._checked: ForAMoment[dict[str, Checked]] = ForAMoment()
        self.more_metrics: Callable[[], dict[str, Any]] = dict
        # The communities in which the module is at work, such as playing music; `activity_changed` tells the router at
        # once, else it hears with the next heartbeat. None: the module has no such state.
        self.active_in: Callable[[], Sequence[int]] | None = None
        self.activity_changed = threading.Event()
        self.configured = True
        self._mount = Mount(
            self.manifest.prefix, self.accounts, self.actors, self.database, self.log, self.metrics, self.calls
        )
        self._mount_standard_endpoints()
        self.loops.add("housekeeping", self.accounts.save_last_used, every_s=HOUSEKEEPING_EVERY_S)
        if not SERVICES:
            save, withdraw = self._report_process, self._reports.withdraw
            self.loops.add("process-report", save, every_s=SAVE_EVERY_S, kind="both", finish=withdraw)
        SERVICES.append(self)

    @property
    def url(self) -> str:
        """Where the rest of the fleet reaches this module."""
        port = self.settings.module_port or self.manifest.port
        return (self.settings.module_url or f"http://127.0.0.1:{port}").rstrip("/")

    @cached_property
    def providers(self) -> Providers:
        """Whom this module asks outside of the fleet: `service.providers.add("spotify", …)`."""
        return Providers(self.bus.client, self.log, self.metrics)

    def mount(self, *controllers: ModuleType | Callable[..., Any], using: Iterable[object] = ()) -> None:
        """Serve the endpoints of these controllers with these services."""
        self._mount.mount(*controllers, using=using)

    def mount_static(self, files: StaticFiles) -> None:
        """Serve these files, of `static_files`, below their prefix."""
        self._mount.mount_static(files)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self._mount.endpoints

    @property
    def takers(self) -> Sequence[Bound]:
        """The endpoints that take all requests that wait for them."""
        return self._mount.takers

    @property
    def statics(self) -> Sequence[StaticFiles]:
        return self._mount.statics

    def site(self, settings: SiteSettings, **options: Any) -> Site:
        """What this module's pages for people who sign in stand on; options are `Site`'s."""
        module_host = urlsplit(self.url).hostname or ""
        return Site(
            self.manifest.prefix,
            self.manifest.folder,
            settings,
            database=self.database,
            client=self.bus.client,
            log=self.log,
            metrics=self.metrics,
            hosts=[self.manifest.host, module_host],
            **options,
        )

    def check(self, name: str, run: Callable[[], str | Counted], *, essential: bool = False) -> None:
        """Add a health check: it returns a word for what it found, or raises. Essential ones decide readiness.

        Anybody may read that. Names of channels or people go into a `Counted`, or into `names` of the error.
        """
        self.checks[name] = run
        if essential:
            self.essential.add(name)

    def portable(self, *parts: Part[Any], version: int = 1, changed: Callable[[int], None] = lambda _: None) -> None:
        """Serve `<prefix>/export` and `<prefix>/import`: what of a community is this module's. `changed` is called
        with a community whose items were changed, after the commit."""
        prefix = self.manifest.prefix
        items = self.carried = Portable(self.name, version, parts, self.database, changed)

        @endpoint("GET", f"{prefix}/export", caller=PORTAL_ONLY, area="settings", query=ExportQuery)
        def export_items(query: ExportQuery, caller: Account) -> dict[str, Any]:
            """Everything of a community that this module has and another fleet can take; no secrets."""
            return items.export(query.community_id, caller)

        @endpoint(
            "POST", f"{prefix}/import", caller=PORTAL_ONLY, area="settings", body=ImportRequest, query=ImportQuery
        )
        def import_items(request: ImportRequest, query: ImportQuery, caller: Account) -> Plan:
            """Say what would become of an export's items in a community, and with `apply` do it."""
            return items.import_items(request, query.community_id, caller)

        self.mount(export_items, import_items)

    def erases(
        self,
        *personal: Personal,
        keeps: Iterable[Keeps] = (),
        forgotten: Callable[[Person], None] = lambda _: None,
    ) -> None:
        """Serve `<prefix>/people/export` and `<prefix>/people/erase`: where this module has people. `forgotten` is
        called after the commit, for what is not in the database.

        Raises: ConfigError when the manifest says otherwise.
        """
        prefix = self.manifest.prefix
        people = People(self.manifest, self.name, self.database, personal, tuple(keeps), forgotten)

        @endpoint("GET", f"{prefix}/people/export", caller=PORTAL_ONLY, area="settings", query=PeopleQuery)
        def export_person(query: PeopleQuery, caller: Account) -> dict[str, Any]:
            """Everything that this module has about somebody."""
            return people.export(confined(self.database, query, caller))

        @endpoint("POST", f"{prefix}/people/erase", caller=PORTAL_ONLY, area="settings", body=EraseRequest)
        def erase_person(request: EraseRequest, caller: Account) -> Erased:
            """Forget somebody, in a community or everywhere, and say what is kept and why."""
            return people.erase(confined(self.database, request, caller))

        self.mount(export_person, erase_person)

    def register_with_router(self, registration: ModuleRegistration) -> None:
        """Register at the start, send a heartbeat from then on, and register anew if the router has forgotten.

        What the manifest says about settings and credentials goes along.
        """
        registered = False
        own = {"settings": self.manifest.settings, "credentials": self.manifest.credentials}
        registration = registration.model_copy(update=own)

        def beat() -> None:
            nonlocal registered
            try:
                if not registered:
                    self.router.register(registration)
                    registered = True
                    self.log.system("registered", commands=len(registration.commands))
                    if self.configured and self.active_in is None:
                        return  # There is nothing to add.
                self.router.heartbeat(self._heartbeat())
            except UpstreamRefused:
                registered = False
                raise

        def check_registered() -> str:
            if not registered:
                raise UpstreamError("The router has not taken this module's registration yet.")
            return "registered"

        self.check("registration", check_registered, essential=True)
        self.loops.add("registration", beat, every_s=HEARTBEAT_EVERY_S, wake=self.activity_changed)

    def _heartbeat(self) -> Heartbeat:
        status = "healthy" if self.configured else "unconfigured"
        active_in = None if self.active_in is None else list(self.active_in())
        return Heartbeat(module_name=self.name, status=status, active_in=active_in)

    def _mount_standard_endpoints(self) -> None:
        prefix = self.manifest.prefix
        platform = self.manifest.name if self.manifest.kind == "collector" else None
        metrics_caller = ANYBODY if self.settings.metrics_public else figures_of(platform)

        @endpoint("GET", f"{prefix}/health", caller=ANYBODY)
        def health(request: RawRequest) -> dict[str, Any]:
            """Say that the process serves, and what its checks found; names only to a key that may read figures. Always
            200."""
            checks = self.run_checks(named=self._may_see_names(request, figures_of(platform)))
            ok = all(each["ok"] for each in checks.values())
            status = "unconfigured" if not self.configured else "healthy" if ok else "degraded"
            return {
                **self._identity(),
                "status": status,
                "database": checks["database"]["detail"],
                "checks": checks,
                "timestamp": datetime.now(UTC),
                **self._more_health.get(self.more_health),
            }

        @endpoint("GET", f"{prefix}/ready", caller=ANYBODY)
        def ready() -> Any:
            """Say whether requests should be sent here: 503 while something essential is missing."""
            checks = self.run_checks()
            missing = sorted(name for name in self.essential if not checks[name]["ok"])
            if missing:
                raise NotReady(f"Not ready: {', '.join(missing)}.", checks=checks)
            return {**self._identity(), "status": "ready"}

        # Prometheus can send nothing but a bearer.
        @endpoint("GET", f"{prefix}/metrics", caller=metrics_caller, key_in=("X-API-Key", "Authorization"))
        def metrics(request: RawRequest) -> Any:
            """Serve Prometheus text when Accept asks for text, else JSON."""
            accept = request.headers.get("accept", "")
            if "text/plain" in accept or "openmetrics" in accept:
                return Raw(self.metrics.as_text(), CONTENT_TYPE)
            return {**self._identity(), **self.more_metrics(), "metrics": self.metrics.as_json()}

        @endpoint("GET", f"{prefix}/openapi.json", caller=ANYBODY, pool="api")
        def api_document() -> Any:
            """Serve this document."""
            return Raw(self._api_document, JSON_TYPE, headers=JSON_HEADERS)

        self.mount(health, ready, metrics, api_document)

    def _identity(self) -> dict[str, Any]:
        uptime_s = round(time.time() - self.started_at, 1)
        return {"success": True, "module": self.name, "version": self.version, "uptime_s": uptime_s}

    def run_checks(self, *, named: bool = False) -> dict[str, dict[str, Any]]:
        """What the checks found, up to a second ago."""
        found = self._checked.get(self._run_checks)
        return {name: each.shown(named=named) for name, each in found.items()}

    def _run_checks(self) -> dict[str, Checked]:
        found = {name: run_check(run) for name, run in self.checks.items()}
        for name, each in found.items():
            if each.ok is not self._was_ok.get(name, True):
                result = "SUCCESS" if each.ok else "FAILED"
                self.log.system("health_changed", result=result, check=name, detail=each.detail)
            self._was_ok[name] = each.ok
        return found

    @cached_property
    def _api_document(self) -> str:
        """All endpoints are mounted before the first request. Pages are for people, and not in it."""
        endpoints = [each for each in self._mount.endpoints if not isinstance(each, Page)]
        return to_json(openapi(self.manifest.title, self.version, endpoints))

    def _may_see_names(self, request: RawRequest, caller: Caller) -> bool:
        try:
            account = self.accounts.authenticate(request.headers.get("x-api-key"))
            caller.check(account, area=None, right="viewer")
        except (NotAuthenticated, NotAllowed, DatabaseUnavailable):
            return False
        return True

    def _check_database(self) -> str:
        with self.database.transaction() as db:
            fetch(db, "SELECT 1")
        return "connected"

    def _report_process(self) -> None:
        self._reports.save([service.name for service in SERVICES])

    def _check_background(self) -> str:
        """Say what runs beside requests, in this process and in the module's others. Raises: BackgroundTrouble."""
        here = watched.states(self.name)
        others = self._reports.list_others(self.name)
        troubles = [f"{each.name} {each.trouble}" for each in here if each.trouble]
        troubles += [trouble for other in others for trouble in other.troubles]
        if troubles:
            raise BackgroundTrouble("; ".join(troubles))
        elsewhere = sum(len(other.states) for other in others)
        return f"{len(here)} run here, {elsewhere} in {len(others)} other processes"

    def _check_redis(self) -> str:
        self.bus.client.ping()
        return "connected"


class BackgroundTrouble(Busy):
    """Something that runs beside requests has ended or fails."""

    code = "background_trouble"


class NotReady(Busy):
    """This service is not ready."""

    code = "not_ready"


__all__ = ["SERVICES", "Account", "Service"]
