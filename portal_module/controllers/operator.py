"""The operator's area: all communities, how the modules are, service accounts, and what failed."""

from __future__ import annotations

from typing import Any

from waddlebot.base.errors import NotAllowed
from waddlebot.data.database import Database, fetch
from waddlebot.web.sessions import PageFlash, PageSession
from waddlebot.web.signin import Login
from waddlebot.web.site import go_to, page

from ..services.channels import ago
from ..services.commands import title_of
from ..services.fleet_api import FleetAPI, quoted
from ..services.seats import own_shell
from .parts import Buttons, asked, check_act, value

COMMUNITIES = """
SELECT c.slug, c.name, u.display_name AS owner, coalesce(d.members, 0) AS members,
    (SELECT count(*) FROM entities e WHERE e.community_id = c.id AND e.is_active) AS channels
FROM communities c LEFT JOIN users u ON u.id = c.owner_id
LEFT JOIN LATERAL (SELECT members FROM portal_days d WHERE d.community_id = c.id ORDER BY day DESC LIMIT 1) AS d ON true
WHERE c.is_active AND (%(text)s = '' OR lower(c.name) LIKE lower(%(like)s) OR c.slug LIKE lower(%(like)s))
ORDER BY c.is_global, lower(c.name) LIMIT 100
"""
FAILED = """
SELECT e.session_id::text AS session_id, e.command, e.module_name, e.status, e.error_message, e.created_at, c.slug
FROM command_executions e JOIN communities c ON c.id = e.community_id
WHERE e.created_at > now() - interval '1 day' AND e.status IN ('failed', 'timeout', 'unknown')
ORDER BY e.created_at DESC LIMIT 25
"""
ACCOUNTS = """
SELECT a.name, a.groups, c.name AS community, max(k.last_used) AS last_used, count(*) AS keys
FROM service_accounts a JOIN service_account_keys k ON k.account_id = a.id AND k.is_active
LEFT JOIN communities c ON c.id = a.community_id WHERE a.is_active GROUP BY 1, 2, 3 ORDER BY 1 LIMIT 100
"""
MODULES = """
SELECT module_name, module_version, status, last_heartbeat, last_heartbeat > now() - interval '90 s' AS is_alive
FROM collector_modules c WHERE NOT EXISTS (SELECT FROM marketplace_modules m WHERE m.module_id = c.module_name)
ORDER BY is_alive, module_name
"""
SUBMITTED = """
SELECT v.module_id, m.display_name, v.version, v.published_by, v.created_at, v.asks, v.hosts,
    m.latest_version, (SELECT count(*) FROM module_reports r WHERE r.module_id = v.module_id) AS reports
FROM module_versions v JOIN marketplace_modules m USING (module_id)
WHERE v.state = 'pending' ORDER BY v.created_at LIMIT 50
"""
DECISIONS = {"approve": "may be installed from now on", "reject": "stays out of the store"}
WAITING = """
SELECT (SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending')) AS replies,
    (SELECT count(*) FROM router_work) AS events
"""


@page("GET", "/portal/operator", "operator.html")
def show_fleet(login: Login, session: PageSession, database: Database) -> Any:
    """How the whole fleet is."""
    if not login.more["is_operator"]:
        raise NotAllowed("Only who runs this fleet may look at it.")
    text = asked("q")
    with database.reading() as db:
        found = {
            "communities": fetch(db, COMMUNITIES, {"text": text, "like": f"%{text}%"}),
            "failed": fetch(db, FAILED),
            "accounts": fetch(db, ACCOUNTS),
            "modules": fetch(db, MODULES),
            "submitted": fetch(db, SUBMITTED),
            "waiting": fetch(db, WAITING)[0],
        }
    shown = {"title": "The fleet", "shell": own_shell(login), "q": text, "ago": ago, "title_of": title_of}
    return {**shown, "button": Buttons(session), **found}


@page("POST", "/portal/operator/modules/<module>")
def decide(module: str, login: Login, session: PageSession, flash: PageFlash, fleet: FleetAPI) -> Any:
    """Let a version into the store, or keep it out."""
    check_act(session)
    what = value("do") if value("do") in DECISIONS else "reject"
    body = {"version": value("version"), "reason": value("reason")}
    done = fleet.ask_as_operator(login, "bot", "POST", f"/marketplace/module/{quoted(module)}/{what}", body)
    flash.set(f"{module} {done['version']} {DECISIONS[what]}.")
    return go_to("/portal/operator")
