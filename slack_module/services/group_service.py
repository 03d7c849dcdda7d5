"""Puts people into user groups of a workspace and takes them out, one change of a group at a time.

Slack takes the whole list of a group's people, so it is read, changed and written under a lock of the group.
Source: https://docs.slack.dev/reference/methods/usergroups.users.update
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from waddlebot.base.errors import NotAllowed, NotFound, Refused, WaddleBotError
from waddlebot.base.logs import AAALog
from waddlebot.collecting.roles import Full, Hierarchy, MissingScope, NotThere, PaidOnly, RoleNews, RoleSeen
from waddlebot.data.database import Database

from .installations import Installations
from .slack_calls import SlackCalls

LOCK = "SELECT pg_advisory_lock(hashtextextended('slack group ' || %s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('slack group ' || %s, 0))"
# What Slack's words mean.
WORDS: dict[str, type[WaddleBotError]] = {
    "missing_scope": MissingScope,
    "no_permission": MissingScope,
    "permission_denied": Hierarchy,
    "restricted_action": Hierarchy,
    "user_is_restricted": Hierarchy,
    "user_is_ultra_restricted": Hierarchy,
    "plan_upgrade_required": PaidOnly,
    "paid_teams_only": PaidOnly,
    "no_such_subteam": NotThere,
    "subteam_not_found": NotThere,
    "invalid_users": NotThere,
    "user_not_found": NotThere,
    "subteam_max_users_exceeded": Full,
    "too_many_users": Full,
}


class GroupService:
    def __init__(
        self, db: Database, installations: Installations, calls: SlackCalls, roles: RoleNews, log: AAALog
    ) -> None:
        self._db = db
        self._installations = installations
        self._calls = calls
        self._roles = roles
        self._log = log

    def change(self, wanted: RoleSeen, *, by: str) -> bool:
        """Put somebody into a group, or take them out. Returns whether that changed anything.

        Raises: Hierarchy; MissingScope; PaidOnly; Full; NotThere; Away, Later and Unclear when Slack did not say.
        """
        team, group = wanted.server_id, wanted.role_id
        try:
            with self._roles.causing(wanted), self._db.session() as session:
                session.run(LOCK, (f"{team}:{group}",))
                try:
                    changed = self._change(team, group, wanted.platform_user_id, has=wanted.has)
                finally:
                    session.run(UNLOCK, (f"{team}:{group}",))
        except Refused as err:
            kind = WORDS.get(err.words)
            raise (kind(f"Slack refused: {err.words}.") if kind else err) from err
        what = "role_added" if wanted.has else "role_removed"
        self._log.audit(what, team=team, group=group, user=wanted.platform_user_id, changed=changed, by=by)
        return changed

    def list_people(self, team: str, group: str, _people: Sequence[str]) -> list[str]:
        """Who is in a group. Raises: as change."""
        answer = self._ask(team, lambda slack, token: slack.usergroups_users_list(token=token, usergroup=group))
        return [str(each) for each in answer.get("users") or ()]

    def _change(self, team: str, group: str, user: str, *, has: bool) -> bool:
        there = self.list_people(team, group, [user])
        if (user in there) is has:
            return False
        users = [*there, user] if has else [each for each in there if each != user]
        if not users:
            # Slack keeps no group without people; it is switched off instead, and on again with the first.
            self._ask(team, lambda slack, token: slack.usergroups_disable(token=token, usergroup=group))
            return True
        ids = ",".join(users)
        self._ask(team, lambda slack, token: slack.usergroups_users_update(token=token, usergroup=group, users=ids))
        if has and not there:
            self._ask(team, lambda slack, token: slack.usergroups_enable(token=token, usergroup=group))
        return True

    def _ask(self, team: str, call: Callable[[Any, str], Any]) -> dict[str, Any]:
        """Ask in a workspace's name, with a new token if Slack refuses the one at hand. Raises: NotThere."""
        try:
            token = self._installations.token(team, refused="")
            try:
                return self._calls.api.ask_once(lambda slack: call(slack, token))
            except Refused as err:
                if not err.is_about_token:
                    raise
            token = self._installations.token(team, refused=token)
        except (NotFound, NotAllowed) as err:
            raise NotThere(err.message) from err
        return self._calls.api.ask_once(lambda slack: call(slack, token))
