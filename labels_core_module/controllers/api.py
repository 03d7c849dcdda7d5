"""Labels over HTTP, for the portal and for programs of a community."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydal import DAL
from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, field_validator
from waddlebot.base.contracts import Attributed, Colour
from waddlebot.base.errors import Invalid, WaddleBotError
from waddlebot.base.wire import is_number
from waddlebot.community.communities import Reference
from waddlebot.data.database import Database
from waddlebot.web.auth import ADMINS_OR_API_USERS, Account
from waddlebot.web.endpoint import endpoint
from waddlebot.web.lists import Page, list_answer

from ..services.communities import Communities
from ..services.label_service import MAX_BEARERS_COUNTED, LabelService, Outcome, Wish, Wished
from ..services.names import check_label
from ..services.search_service import Match, SearchService, counted_to
from ..services.subjects import SubjectType

MAX_SEARCHED = 10
MAX_METADATA_CHARS = 4000
Text = Annotated[str, StringConstraints(max_length=255)]
# A person's or group's number may come as one.
SubjectId = Annotated[str, Field(max_length=255, coerce_numbers_to_str=True)]


def _or_nothing(metadata: Any) -> Any:
    """null counts as absent."""
    return {} if metadata is None else metadata


class _Label(Attributed):
    label: Text
    subject_type: SubjectType
    community_id: Reference | None = None
    expires_at: AwareDatetime | None = None
    metadata: Annotated[dict[str, Any], BeforeValidator(_or_nothing)] = Field(default_factory=dict)

    @field_validator("metadata")
    @classmethod
    def _is_small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if metadata and len(json.dumps(metadata)) > MAX_METADATA_CHARS:
            raise ValueError(f"must be at most {MAX_METADATA_CHARS} characters of JSON")
        return metadata


class LabelChange(_Label):
    """One label of one subject. A user is a number, or `platform:platform_user_id`."""

    subject_id: SubjectId


class LabelOfMany(_Label):
    """One label of many subjects of a kind."""

    subject_ids: list[SubjectId]


class LabelChanges(Attributed):
    """Many of them; those without a community are of the one that is named for all."""

    items: list[LabelChange]
    community_id: Reference | None = None


AnyChange = LabelChange | LabelOfMany | LabelChanges | list[LabelChange]


class LabelsQuery(Page):
    """Without a subject the names that a community has for labels, else what that subject has."""

    community_id: Text | None = None
    subject_type: SubjectType | None = None
    subject_id: Text | None = None


class SearchQuery(Page):
    labels: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    match: Match = "all"
    subject_type: SubjectType = "user"
    community_id: Text | None = None


class LabelDefinition(Attributed):
    label: Text
    community_id: Reference | None = None
    colour: Colour | None = None
    description: Annotated[str, StringConstraints(max_length=500)] | None = None


@endpoint("GET", "/labels", caller=ADMINS_OR_API_USERS, area="people", query=LabelsQuery)
def list_labels(query: LabelsQuery, caller: Account, communities: Communities, labels: LabelService) -> dict[str, Any]:
    """List the labels that a subject has; without one all of a community's, and how many have each, as far as that is
    counted."""
    community_id = communities.get(caller, query.community_id)
    if query.subject_type is None:
        return list_answer("labels", labels.list_names(community_id, query), query, counted_to=MAX_BEARERS_COUNTED)
    if query.subject_id is None:
        raise Invalid("subject_id is missing.", field="subject_id")
    subject_id = query.subject_id
    if query.subject_type == "user" and not is_number(subject_id):
        subject_id = labels.number_of(community_id, subject_id)
    rows = [each.row for each in labels.read(community_id, query.subject_type, subject_id)]
    shown = rows[query.offset : query.offset + query.limit]
    return {
        "success": True,
        "labels": shown,
        "total": len(rows),
        "limit": query.limit,
        "offset": query.offset,
        "subject_type": query.subject_type,
        "subject_id": subject_id,
    }


@endpoint("PUT", "/labels", caller=ADMINS_OR_API_USERS, area="people", body=LabelDefinition)
def define_label(
    body: LabelDefinition, caller: Account, database: Database, communities: Communities, labels: LabelService
) -> dict[str, Any]:
    """Say what colour a label has, and what it is for; one that is new is made."""
    community_id = communities.get(caller, body.community_id)
    with database.transaction() as db:
        labels.define(db, community_id, body.label, colour=body.colour, description=body.description)
    return {"success": True, "label": check_label(body.label), "colour": body.colour, "description": body.description}


@endpoint("POST", "/labels/apply", caller=ADMINS_OR_API_USERS, area="people", body=AnyChange)
def apply_labels(
    body: AnyChange, caller: Account, database: Database, communities: Communities, labels: LabelService
) -> dict[str, Any]:
    """Give a label, or up to 1 000, each with a result of its own."""
    return _change(body, caller, database, communities, labels, labels.apply)


@endpoint("POST", "/labels/remove", caller=ADMINS_OR_API_USERS, area="people", body=AnyChange)
def remove_labels(
    body: AnyChange, caller: Account, database: Database, communities: Communities, labels: LabelService
) -> dict[str, Any]:
    """Take a label, or up to 1 000, each with a result of its own."""
    return _change(body, caller, database, communities, labels, labels.remove)


@endpoint("GET", "/labels/search", caller=ADMINS_OR_API_USERS, area="people", query=SearchQuery)
def search_labels(
    query: SearchQuery, caller: Account, communities: Communities, searches: SearchService, db: DAL
) -> dict[str, Any]:
    """List who or what has all, any or none of some labels."""
    community_id = communities.get(caller, query.community_id)
    names = [check_label(each) for each in query.labels.split(",") if each.strip()]
    if not 1 <= len(set(names)) <= MAX_SEARCHED:
        raise Invalid(f"Name 1 to {MAX_SEARCHED} labels, with commas between.", field="labels")
    found = searches.search(db, community_id, names, query.match, query.subject_type, query)
    return list_answer("subjects", found, query, match=query.match, searched=names, counted_to=counted_to(query))


def _change(
    body: AnyChange,
    caller: Account,
    database: Database,
    communities: Communities,
    labels: LabelService,
    change: Callable[[DAL, int, Sequence[Wished]], list[Outcome]],
) -> dict[str, Any]:
    wishes, references = _wishes(body)
    if len(wishes) > labels.most_at_once:
        raise Invalid(f"At most {labels.most_at_once} labels are taken in one call.", field="items")
    found = {each: _found(communities, caller, each) for each in dict.fromkeys(references)}
    outcomes: dict[int, Outcome] = {}
    by_community: dict[int, list[int]] = {}
    for at, reference in enumerate(references):
        community = found[reference]
        if isinstance(community, WaddleBotError):
            outcomes[at] = Outcome(wishes[at], error=community)
        else:
            by_community.setdefault(community, []).append(at)
    if wishes and not by_community:
        assert outcomes[0].error
        raise outcomes[0].error
    for community_id, places in sorted(by_community.items()):
        with database.transaction() as db:
            done = change(db, community_id, [wishes[at] for at in places])
        labels.tell(community_id, done)
        outcomes |= dict(zip(places, done, strict=True))
    results = [_result(outcomes[at]) for at in range(len(wishes))]
    if not isinstance(body, LabelChange):
        return {"success": True, "results": results, "changed": sum(each["changed"] for each in results)}
    if (error := outcomes[0].error) is not None:
        raise error
    return results[0]


def _found(communities: Communities, caller: Account, reference: Reference | None) -> int | WaddleBotError:
    try:
        return communities.get(caller, reference)
    except WaddleBotError as err:
        return err


def _wishes(body: AnyChange) -> tuple[Sequence[Wished], Sequence[Reference | None]]:
    """What is wished, and in which communities."""
    if isinstance(body, LabelOfMany):
        same = body.expires_at, body.metadata
        wishes = [Wish(body.label, body.subject_type, each, *same) for each in body.subject_ids]
        return wishes, [body.community_id] * len(wishes)
    items = [body] if isinstance(body, LabelChange) else body.items if isinstance(body, LabelChanges) else body
    default = body.community_id if isinstance(body, LabelChanges) else None
    return items, [default if each.community_id is None else each.community_id for each in items]


def _result(each: Outcome) -> dict[str, Any]:
    error = {"code": each.error.code, "message": each.error.message} if each.error else None
    return {
        "success": error is None,
        "label": each.name or each.wish.label,
        "subject_type": each.wish.subject_type,
        "subject_id": each.subject_id or each.wish.subject_id,
        "changed": each.changed,
        "expires_at": each.wish.expires_at,
        "error": error,
    }
