"""String rules for those who manage them: add, change, list, switch off, and try out on what was said before."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from pydal import DAL
from waddlebot.base.chat import is_prefixed, parse_command, shorten
from waddlebot.base.encryption import Keyring
from waddlebot.base.errors import Conflict, Invalid, NotFound
from waddlebot.base.text import fold
from waddlebot.base.variables import ANYWHERE, OF_A_PERSON, OF_A_STREAM, remarks_on
from waddlebot.data import audit
from waddlebot.data.audit import Undo
from waddlebot.data.cache import Bus
from waddlebot.data.database import Database, fetch, fetch_one
from waddlebot.web.http import EgressGuard
from waddlebot.web.lists import Page, fetch_page, list_answer

from ..engines.webhook_client import check_webhook_url
from .filters import USUAL, Filter, Line
from .rule_book import FLEET, RuleBook, RuleSet, StringRule, list_active_rules, pattern_from
from .string_matcher import Pattern, check_pattern, check_patterns

# A community's, and the fleet's own. Contracts §7.
MAX_RULES = 2000
MAX_SCANNED = 20_000
PAGE = 1000
# A regex may be slow without being refused; who asks gets what was found by then.
MAX_DRY_RUN_S = 5.0
MAX_EXAMPLES = 20
MAX_EXAMPLE_CHARS = 500
# What the texts of rules may say, beside {message}.
IN_RULES = ANYWHERE | OF_A_STREAM | OF_A_PERSON | {"count"}
COLUMNS = (
    "string",
    "match_type",
    "case_sensitive",
    "look_alikes",
    "exempt_level",
    "action",
    "command_to_execute",
    "command_parameters",
    "webhook_url",
    "warning_message",
    "block_message",
    "priority",
    "is_active",
    "exempt_labels",
    "number",
    "share",
    "escalation",
)


class UnknownRule(NotFound):
    """There is no such rule."""

    code = "unknown_rule"


class TooManyRules(Conflict):
    """This community has 2000 rules already. Delete some first."""

    code = "too_many_rules"


class RuleService:
    """`community_id` None is the fleet: rules that hold in every community."""

    def __init__(self, db: Database, bus: Bus, book: RuleBook, keyring: Keyring, guard: EgressGuard) -> None:
        self._db = db
        self._bus = bus
        self._book = book
        self._keyring = keyring
        self._guard = guard

    def create(
        self, community_id: int | None, values: Mapping[str, Any], entity_ids: Sequence[str], *, by: str
    ) -> dict[str, Any]:
        """Add a rule and have it work at once. A webhook rule comes with the secret that its calls are signed with,
        shown this once.

        Raises: Invalid, naming the field and for a pattern the place; TooManyRules; UnknownEntity of the community.
        """
        self.check(values)
        with self._db.transaction() as db:
            made = self.create_in(db, community_id, values, entity_ids, by=by)
        self.changed(community_id)
        return made

    def create_in(
        self, db: DAL, community_id: int | None, values: Mapping[str, Any], entity_ids: Sequence[str], *, by: str
    ) -> dict[str, Any]:
        """The same, for a rule that was checked, in a transaction that is followed by `changed`."""
        secret = new_secret() if values["action"] == "webhook" else ""
        _check_room(db, community_id, pattern_of(values))
        row = fetch_one(
            db,
            f"INSERT INTO stringmatch ({', '.join(COLUMNS)}, community_id, created_by) VALUES"
            f" ({', '.join(f'%({column})s' for column in COLUMNS)}, %(community_id)s, %(by)s) RETURNING id",
            {**_as_columns(values), "community_id": community_id, "by": by},
        )
        assert row is not None
        rule_id = int(row["id"])
        if secret:
            self._keep_secret(db, rule_id, secret)
        _set_entities(db, rule_id, community_id, entity_ids)
        made = get_rule(db, rule_id)
        _record(db, "string_rule_created", None, made)
        return {**made, "webhook_secret": secret} if secret else made

    def update(self, rule_id: int, changes: Mapping[str, Any], entity_ids: Sequence[str] | None) -> dict[str, Any]:
        """Change what is named. Raises: as create does, and UnknownRule."""
        with self._db.transaction() as db:
            made = self.update_in(db, rule_id, changes, entity_ids)
        self.changed(made["community_id"])
        return made

    def update_in(
        self, db: DAL, rule_id: int, changes: Mapping[str, Any], entity_ids: Sequence[str] | None
    ) -> dict[str, Any]:
        """The same, in a transaction that is followed by `changed`."""
        before = get_rule(db, rule_id, for_update=True)
        values = {column: before[column] for column in COLUMNS}
        if changes.get("match_type", before["match_type"]) != before["match_type"]:
            # So many letters are not so many links.
            values |= {"number": None, "share": None}
        values |= changes
        check_rule(values, self._guard)
        if values["is_active"]:
            _check_room(db, before["community_id"], pattern_of(values), besides=rule_id)
        fetch(
            db,
            f"UPDATE stringmatch SET {', '.join(f'{column} = %({column})s' for column in COLUMNS)},"
            " updated_at = now() WHERE id = %(id)s",
            {**_as_columns(values), "id": rule_id},
        )
        secret = new_secret() if values["action"] == "webhook" and before["action"] != "webhook" else ""
        if secret:
            self._keep_secret(db, rule_id, secret)
        if entity_ids is not None:
            _set_entities(db, rule_id, before["community_id"], entity_ids)
        made = get_rule(db, rule_id)
        _record(db, "string_rule_changed", before, made)
        return {**made, "webhook_secret": secret} if secret else made

    def switch_off(self, rule_id: int) -> None:
        """What deleting a rule means: it stays on record for those who ask why. Raises: UnknownRule."""
        with self._db.transaction() as db:
            before = get_rule(db, rule_id, for_update=True)
            if not before["is_active"]:
                raise UnknownRule(f"There is no rule {rule_id}.")
            fetch(db, "UPDATE stringmatch SET is_active = false, updated_at = now() WHERE id = %s", (rule_id,))
            _record(db, "string_rule_deleted", before, {**before, "is_active": False})
        self.changed(before["community_id"])

    def get(self, rule_id: int) -> dict[str, Any]:
        """Raises: UnknownRule."""
        with self._db.transaction() as db:
            return get_rule(db, rule_id)

    def list(
        self, community_id: int | None, *, entity_id: str | None, is_active: bool | None, page: Page
    ) -> dict[str, Any]:
        """A community's rules in the order in which they count, or with None the rules of all."""
        with self._db.transaction() as db:
            listed = fetch_page(
                partial(fetch, db),
                f"{SELECT_RULE}, count(*) OVER () AS total FROM stringmatch r"
                " WHERE (%(community)s::bigint IS NULL OR r.community_id = %(community)s)"
                " AND (%(active)s::boolean IS NULL OR r.is_active = %(active)s)"
                " AND (%(entity)s::text IS NULL OR NOT EXISTS ("
                "  SELECT 1 FROM stringmatch_entities e WHERE e.stringmatch_id = r.id)"
                "  OR EXISTS (SELECT 1 FROM stringmatch_entities e"
                "   WHERE e.stringmatch_id = r.id AND e.entity_id = %(entity)s))"
                " ORDER BY priority, id LIMIT %(limit)s OFFSET %(offset)s",
                {"community": community_id, "active": is_active, "entity": entity_id},
                page,
            )
        return list_answer("rules", listed, page)

    def dry_run(
        self,
        community_id: int | None,
        values: Mapping[str, Any],
        entity_ids: Sequence[str],
        *,
        hours: float,
        lines: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What a rule would have hit in the newest messages that are still stored: at most MAX_SCANNED of them, and as
        many as MAX_DRY_RUN_S allows. `lines` are tried as well."""
        self.check(values)
        rule = StringRule(0, pattern_of(values), values["action"], 0, frozenset(entity_ids))
        rules, place = RuleSet.compiled([rule]), next(iter(entity_ids), "")
        until = time.monotonic() + MAX_DRY_RUN_S
        scanned, oldest = 0, None
        hit: list[dict[str, Any]] = []
        for row in self.stored_messages(community_id, entity_ids, hours=hours):
            if time.monotonic() > until:
                break
            if not _is_seen_by(rule, row["message"]):
                continue
            scanned, oldest = scanned + 1, row["received_at"]
            line = Line.of(row["message"], {"emotes": row.pop("emotes")})
            if rules.hits(line, row["entity_id"]).rules:
                hit.append({**row, "message": shorten(row["message"], MAX_EXAMPLE_CHARS)})
        return {
            "success": True,
            "scanned": scanned,
            "matched": len(hit),
            "oldest": oldest,
            "examples": hit[:MAX_EXAMPLES],
            "days": Counter(str(each["received_at"].date()) for each in hit),
            "lines": [
                {"text": line, "hit": _is_seen_by(rule, line) and bool(rules.hits(Line(line), place).rules)}
                for line in lines
            ],
        }

    def stored_messages(
        self, community_id: int | None, entity_ids: Sequence[str], *, hours: float
    ) -> Iterator[dict[str, Any]]:
        """What was said, newest first, MAX_SCANNED of them at most and never many in memory at once."""
        before = None
        for _ in range(MAX_SCANNED // PAGE):
            with self._db.lookup() as db:
                rows = fetch(
                    db,
                    "SELECT session_id::text, entity_id, event->>'message' AS message,"
                    " event->'data'->'emotes' AS emotes,"
                    " event->'user'->>'name' AS user_name, received_at FROM router_events"
                    " WHERE message_type = 'chatMessage' AND received_at > now() - %(hours)s * interval '1 hour'"
                    " AND (%(before)s::uuid IS NULL OR session_id < %(before)s::uuid)"
                    # Through the entities, which have an index.
                    " AND (%(community)s::bigint IS NULL OR entity_id IN ("
                    "  SELECT entity_id FROM entities WHERE community_id = %(community)s))"
                    " AND (%(entities)s::text[] = '{}' OR entity_id = ANY(%(entities)s))"
                    " ORDER BY session_id DESC LIMIT %(limit)s",
                    {
                        "hours": hours,
                        "before": before,
                        "community": community_id,
                        "entities": list(entity_ids),
                        "limit": PAGE,
                    },
                )
            yield from (row for row in rows if row["message"] is not None)
            if len(rows) < PAGE:
                return
            before = rows[-1]["session_id"]

    def reading(self) -> AbstractContextManager[DAL]:
        return self._db.lookup()

    def webhook_secret(self, rule_id: int) -> str:
        """Raises: UnknownRule; CannotOpen."""
        with self._db.transaction() as db:
            row = fetch_one(db, "SELECT webhook_secret FROM stringmatch WHERE id = %s", (rule_id,))
        if row is None or not row["webhook_secret"]:
            raise UnknownRule(f"There is no rule {rule_id} with a webhook.")
        return self._keyring.open(row["webhook_secret"], purpose=_purpose(rule_id))

    def _keep_secret(self, db: DAL, rule_id: int, secret: str) -> None:
        sealed = self._keyring.seal(secret, purpose=_purpose(rule_id))
        fetch(db, "UPDATE stringmatch SET webhook_secret = %s WHERE id = %s", (sealed, rule_id))

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises: Invalid, naming the field and for a pattern the place."""
        check_rule(values, self._guard)

    def changed(self, community_id: int | None) -> None:
        """Have a community's rules work as they are now."""
        self._book.changed(community_id or FLEET)


def check_rule(values: Mapping[str, Any], guard: EgressGuard) -> None:
    """Raises: Invalid, also BadPattern."""
    pattern = pattern_of(values)
    if isinstance(pattern, Pattern):
        check_pattern(pattern)
    if values["action"] == "command" and not _command_of(values):
        raise Invalid("command_to_execute is a command such as !welcome.", field="command_to_execute")
    if values["escalation"] and values["action"] not in ("warn", "block"):
        raise Invalid("Only what warns or blocks escalates.", field="escalation")
    if values["action"] == "webhook":
        check_webhook_url(values["webhook_url"], guard)


def command_of(text: str) -> tuple[str, str] | None:
    """The prefix and the name of a rule's command; without a prefix it is one of ours."""
    line = parse_command(text if is_prefixed(text) else "!" + text)
    return (line.prefix, fold(line.command)) if line and not line.rest else None


def _command_of(values: Mapping[str, Any]) -> tuple[str, str] | None:
    return command_of(values["command_to_execute"].strip())


def pattern_of(values: Mapping[str, Any]) -> Pattern | Filter:
    """What a rule looks for; a filter's number and share may be left to what is usual. Raises: Invalid."""
    return pattern_from({**values, **_thresholds(values)})


def _thresholds(values: Mapping[str, Any]) -> dict[str, int | None]:
    """Those of a filter; anything else has none."""
    usual = USUAL.get(values["match_type"])
    if usual is None:
        return {"number": None, "share": None}
    given = values.get("number"), values.get("share")
    number, share = (own if own is not None else least for own, least in zip(given, usual, strict=True))
    return {"number": number, "share": share}


def _is_seen_by(rule: StringRule, message: str) -> bool:
    """Commands are seen by `block` rules only (contracts §7)."""
    return rule.action == "block" or parse_command(message) is None


def remarks(rule: Mapping[str, Any]) -> list[str]:
    """What the author of a rule may have overlooked in its texts, a sentence each."""
    texts = [rule["warning_message"], rule["block_message"], *rule["command_parameters"]]
    return list(dict.fromkeys(said for text in texts for said in remarks_on(text, IN_RULES, also=("message",))))


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def _purpose(rule_id: int) -> str:
    return f"stringmatch:{rule_id}"


def _as_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    written = {**values, **_thresholds(values), "command_parameters": json.dumps(values["command_parameters"])}
    written["escalation"] = json.dumps(values["escalation"])
    return {column: written[column] for column in COLUMNS}


SELECT_RULE = (
    "SELECT r.id, r.community_id, string, match_type, number, share, case_sensitive, look_alikes, exempt_level, action,"
    " command_to_execute, command_parameters, webhook_url, escalation, warning_message, block_message,"
    " exempt_labels, priority, is_active,"
    " match_count, last_matched, created_by, created_at, updated_at,"
    " coalesce((SELECT array_agg(entity_id ORDER BY entity_id) FROM stringmatch_entities e"
    " WHERE e.stringmatch_id = r.id), '{}') AS enabled_entity_ids"
)


def get_rule(db: DAL, rule_id: int, *, for_update: bool = False) -> dict[str, Any]:
    """Raises: UnknownRule."""
    row = fetch_one(
        db, f"{SELECT_RULE} FROM stringmatch r WHERE r.id = %s" + (" FOR UPDATE" if for_update else ""), (rule_id,)
    )
    if row is None:
        raise UnknownRule(f"There is no rule {rule_id}.")
    return row


def _record(db: DAL, action: str, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    """Write a change into the audit log; a rule is taken back by how it was, and a new one by switching it off."""
    was, now = before and _as_recorded(before), _as_recorded(after)
    path = f"/router/string-rules/{after['id']}"
    audit.record(
        db,
        "router",
        action,
        f"string-rule/{after['id']}",
        community_id=after["community_id"],
        before=was,
        after=now,
        undo=Undo("PUT", path, was) if was else Undo("DELETE", path),
    )


def _as_recorded(rule: dict[str, Any]) -> dict[str, Any]:
    return {column: rule[column] for column in (*COLUMNS, "enabled_entity_ids")}


def _check_room(db: DAL, community_id: int | None, pattern: Pattern | Filter, *, besides: int = 0) -> None:
    """Whether a community may have one more rule, with that pattern. Two at once wait for each other here.

    Raises: TooManyRules; BadPattern when its regexes would cost too much together.
    """
    fetch(db, "SELECT pg_advisory_xact_lock(hashtext('stringmatch'), %s)", ((community_id or FLEET) % 2**31,))
    others = [rule.pattern for rule in list_active_rules(db, community_id or FLEET) if rule.id != besides]
    if len(others) >= MAX_RULES:
        raise TooManyRules()
    if isinstance(pattern, Pattern) and pattern.match_type == "regex":
        regexes = [each for each in others if isinstance(each, Pattern) and each.match_type == "regex"]
        check_patterns([*regexes, pattern])


def _set_entities(db: DAL, rule_id: int, community_id: int | None, entity_ids: Sequence[str]) -> None:
    """Raises: NotFound for an entity that is not the community's."""
    wanted = sorted(set(entity_ids))
    fetch(db, "DELETE FROM stringmatch_entities WHERE stringmatch_id = %s AND entity_id <> ALL(%s)", (rule_id, wanted))
    if not wanted:
        return
    rows = fetch(
        db,
        "SELECT entity_id FROM entities WHERE entity_id = ANY(%s) AND (%s::bigint IS NULL OR community_id = %s)",
        (wanted, community_id, community_id),
    )
    missing = sorted(set(wanted) - {row["entity_id"] for row in rows})
    if missing:
        raise NotFound(f"{missing[0]} is not a channel of this community.", field="enabled_entity_ids")
    fetch(
        db,
        "INSERT INTO stringmatch_entities (stringmatch_id, entity_id) SELECT %s, unnest(%s) ON CONFLICT DO NOTHING",
        (rule_id, wanted),
    )
