"""Labels over HTTP: given, taken, listed, found, and never more than five."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random

import psycopg2
import pytest
from waddlebot.base.ids import new_id
from waddlebot.community.people import PEOPLE, link
from waddlebot.data.database import fetch
from waddlebot.module.service import SERVICES


def heard(bot, count: int = 1, **more) -> list[int]:
    """Numbers of people who have been heard here and nowhere else."""
    names = [f"p{new_id()}" for _ in range(count)]
    for name in names:
        bot.say("hello", by=name, **more)
    rows = bot.fleet.database.statement(
        "SELECT user_id FROM platform_identities WHERE platform_user_id = ANY(%s) ORDER BY user_id", (names,)
    )
    return [row["user_id"] for row in rows]


def change(bot, action, *labels, who, **more):
    items = [
        {"label": each, "subject_type": "user", "subject_id": person, **more}
        for person in (who if isinstance(who, list) else [who])
        for each in labels
    ]
    return bot.fleet.request("POST", f"/labels/{action}", {"community_id": bot.slug, "items": items}).json()


def codes(answer) -> list[str | None]:
    return [each["error"] and each["error"]["code"] for each in answer["results"]]


def labels_of(bot, subject_id, subject_type="user") -> list[str]:
    query = {"community_id": bot.slug, "subject_type": subject_type, "subject_id": subject_id}
    answer = bot.fleet.request("GET", "/labels", query=query)
    assert answer.status == 200, answer.body
    return [each["label"] for each in answer.json()["labels"]]


def found(bot, labels, match="all", **more) -> list[str]:
    query = {"community_id": bot.slug, "labels": labels, "match": match, "limit": 1000, **more}
    answer = bot.fleet.request("GET", "/labels/search", query=query)
    assert answer.status == 200, answer.body
    assert answer.json()["total"] == len(answer.json()["subjects"])
    return [each["subject_id"] for each in answer.json()["subjects"]]


def test_a_label_is_given_with_all_that_is_to_be_known_of_it(bot):
    (who,) = heard(bot)
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"label": "Guest", "subject_type": "user", "subject_id": who, "community_id": bot.slug, "expires_at": ends}
    given = bot.fleet.request("POST", "/labels/apply", {**body, "metadata": {"why": "raid"}, "created_by": "x"})
    assert (given.status, given.json()["changed"], given.json()["label"]) == (200, True, "guest")
    again = bot.fleet.request("POST", "/labels/apply", {**body, "metadata": {"why": "raid"}})
    assert (again.status, again.json()["changed"]) == (200, False)
    colour = {"label": "guest", "community_id": bot.slug, "colour": "#ff8800", "description": "came by raid"}
    assert bot.fleet.request("PUT", "/labels", colour).status == 200
    query = {"community_id": bot.slug, "subject_type": "user", "subject_id": who}
    (label,) = bot.fleet.request("GET", "/labels", query=query).json()["labels"]
    assert label["metadata"] == {"why": "raid"}
    assert (label["given_by"], label["colour"], label["description"]) == ("console", "#ff8800", "came by raid")
    assert datetime.fromisoformat(label["expires_at"]) == datetime.fromisoformat(ends)
    (name,) = bot.fleet.request("GET", "/labels", query={"community_id": bot.slug}).json()["labels"]
    assert (name["label"], name["people"], name["things"]) == ("guest", 1, 0)
    taken = bot.fleet.request("POST", "/labels/remove", {**body, "expires_at": None})
    assert taken.json()["changed"] is True
    assert bot.fleet.request("POST", "/labels/remove", body).json()["error"]["code"] == "not_labelled"
    assert labels_of(bot, who) == []


def test_of_a_list_each_gets_a_result_of_its_own(fleet, bot):
    a, b = heard(bot, 2)
    (stranger,) = heard(fleet.bot())
    user = {"subject_type": "user", "community_id": bot.slug}
    answer = fleet.request(
        "POST",
        "/labels/apply",
        [
            {**user, "label": "one", "subject_id": a},
            {**user, "label": "ONE", "subject_id": str(a)},
            {**user, "label": "one", "subject_id": stranger},
            {**user, "label": "one", "subject_id": 2**60},
            {**user, "label": "", "subject_id": b},
            {**user, "label": "two", "subject_id": b, "expires_at": "2020-01-01T00:00:00Z"},
            {**user, "label": "one", "subject_id": b, "community_id": "nowhere"},
            {"label": "one", "subject_type": "module", "subject_id": "inventory", "community_id": bot.slug},
            {"label": "one", "subject_type": "module", "subject_id": "nonsense", "community_id": bot.slug},
            {"label": "one", "subject_type": "community", "subject_id": bot.community_id, "community_id": bot.slug},
            {"label": "one", "subject_type": "community", "subject_id": 1, "community_id": bot.slug},
            {"label": "one", "subject_type": "group", "subject_id": 1, "community_id": bot.slug},
        ],
    ).json()
    assert codes(answer) == [
        *(None, "named_twice", "unknown_subject", "unknown_subject", "bad_label", "already_over", "unknown_community"),
        *(None, "unknown_subject", None, "unknown_subject", "unknown_subject"),
    ]
    assert answer["changed"] == 3
    assert (labels_of(bot, a), labels_of(bot, "inventory", "module")) == (["one"], ["one"])
    assert found(bot, "one", subject_type="module") == ["inventory"]
    assert "inventory" not in found(bot, "one", "none", subject_type="module")
    many = [{**user, "label": "one", "subject_id": a}] * 1001
    assert fleet.request("POST", "/labels/apply", many).status == 422


def give_many(bot, label, people, action="apply"):
    body = {"label": label, "subject_type": "user", "subject_ids": people, "community_id": bot.slug}
    answer = bot.fleet.request("POST", f"/labels/{action}", body)
    assert answer.status == 200, answer.body
    return answer.json()


def linked(fleet, own_id, with_id) -> None:
    with fleet.database.transaction() as db:
        together = link(db, own_id, with_id)
    bus = SERVICES[0].bus
    bus.invalidate(PEOPLE, *together)
    bus.invalidate("label_reads")


def test_of_many_each_gets_what_it_would_get_alone(fleet, bot):
    *plain, has_it, full, one, other = heard(bot, 24)
    (stranger,) = heard(fleet.bot())
    linked(fleet, one, other)
    change(bot, "apply", "rare", who=has_it)
    change(bot, "apply", *"abcd", who=[full, one])
    change(bot, "apply", "e", who=other)
    everybody = [*plain, has_it, stranger, one, other]
    wanted = [None] * (len(plain) + 1) + ["unknown_subject", "too_many_labels", "named_twice"]
    answer = give_many(bot, "Rare", everybody)
    assert codes(answer) == wanted
    assert [each["subject_id"] for each in answer["results"]] == [str(each) for each in everybody]
    assert answer["changed"] == len(plain)
    assert all(labels_of(bot, each) == ["rare"] for each in (*plain, has_it))
    # Who has four has room for one more, and nobody else loses theirs by who has not.
    assert codes(give_many(bot, "rarer", [*everybody, full])) == [*wanted, None]
    assert codes(give_many(bot, "rarest", [*everybody, full])) == [*wanted, "too_many_labels"]
    assert labels_of(bot, full) == [*"abcd", "rarer"]
    assert labels_of(bot, plain[0]) == ["rare", "rarer", "rarest"]
    assert codes(give_many(bot, "rarest", [*plain, plain[0]])) == [None] * len(plain) + ["named_twice"]
    assert set(codes(give_many(bot, "rarest", everybody[:20], "remove"))) == {None}
    assert labels_of(bot, plain[0]) == ["rare", "rarer"]


def test_a_label_of_many_is_taken_back_at_once(bot):
    people = heard(bot, 25)
    assert give_many(bot, "guest", people)["changed"] == 25
    assert labels_of(bot, people[0]) == ["guest"]
    undo_newest(bot)
    assert all(labels_of(bot, each) == [] for each in people)
    undo_newest(bot)
    assert all(labels_of(bot, each) == ["guest"] for each in people)


def test_names_that_nobody_got_are_not_kept(bot, fleet):
    strangers = heard(fleet.bot(), 20)
    assert set(codes(give_many(bot, "never", strangers))) == {"unknown_subject"}
    assert bot.fleet.request("GET", "/labels", query={"community_id": bot.slug}).json()["labels"] == []


def undo_newest(bot) -> None:
    (newest,) = bot.fleet.request("GET", "/router/audit", query={"community_id": bot.slug, "limit": 1}).json()["audit"]
    done = bot.fleet.request("POST", f"/router/audit/{newest['id']}/undo", {}, key="admin")
    assert done.status == 200, done.body


@pytest.mark.parametrize(
    "name",
    [
        "v\u200bip",
        "vip\ufe0f",
        "\u3164",
        "v\u0456p",
        "a,b",
        "a\nb" * 30,
        "x" * 51,
        "!",
        "\u202evip",
        "v\xadip",
        "\u0640",
    ],
)
def test_a_label_that_nobody_could_tell_apart_is_refused(bot, name):
    (who,) = heard(bot)
    assert codes(change(bot, "apply", name, who=who)) == ["bad_label"]


def test_a_name_that_looks_like_another_is_refused(bot):
    (who,) = heard(bot)
    assert codes(change(bot, "apply", "scope1", who=who)) == [None]
    others = change(bot, "apply", "ѕсоре1", "scopel", "ＳＣＯＰＥ１", who=who)
    assert codes(others) == ["looks_like_another", "looks_like_another", None]
    assert labels_of(bot, who) == ["scope1"]
    stretched = change(bot, "apply", "\u0639\u0631\u0628", "\u0639\u0640\u0631\u0628", who=who)
    assert codes(stretched) == [None, "named_twice"]


def test_five_are_the_most_for_fifty_who_come_at_once(fleet, bot):
    (who,) = heard(bot)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: change(bot, "apply", f"label {n}", who=who), range(50)))
    ends = [codes(each)[0] for each in answers]
    assert (ends.count(None), ends.count("too_many_labels")) == (5, 45)
    assert len(labels_of(bot, who)) == 5

    def insert(n: int) -> bool:
        """What the database says to whoever writes by itself."""
        sql = "INSERT INTO labels_of_people (community_id, own_id, name) VALUES (%s, %s, %s)"
        try:
            fleet.database.statement(sql, (bot.community_id, other, f"raw {n}"))
        except psycopg2.errors.CheckViolation:
            return False
        return True

    (other,) = heard(bot)
    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(insert, range(50))) == 5


@pytest.mark.parametrize("kind", ["linked", "community", "module", "group"])
def test_five_are_the_most_of_anything_for_fifty_who_come_at_once(fleet, bot, kind):
    if kind == "linked":
        subjects = [("user", each) for each in heard(bot, 2)]
        linked(fleet, *(own_id for _, own_id in subjects))
    elif kind == "group":
        made = fleet.request("POST", "/labels/groups", {"name": "all", "community_id": bot.slug}).json()
        subjects = [("group", made["group"]["id"])]
    else:
        subjects = [(kind, {"community": bot.community_id, "module": "inventory"}[kind])]

    def apply(n: int) -> int:
        subject_type, subject_id = subjects[n % len(subjects)]
        body = {"label": f"label {n}", "subject_type": subject_type, "subject_id": subject_id, "community_id": bot.slug}
        return int(fleet.request("POST", "/labels/apply", body).status)

    with ThreadPoolExecutor(50) as pool:
        ends = list(pool.map(apply, range(50)))
    assert (ends.count(200), ends.count(409)) == (5, 45)
    assert all(len(labels_of(bot, each, subject_type)) == 5 for subject_type, each in subjects)


def test_things_have_five_at_most_too(bot):
    items = [
        {"label": f"l{n}", "subject_type": "community", "subject_id": str(bot.community_id), "community_id": bot.slug}
        for n in range(7)
    ]
    answer = bot.fleet.request("POST", "/labels/apply", items).json()
    assert codes(answer) == [None] * 5 + ["too_many_labels"] * 2


def test_what_has_ended_makes_room_and_is_found_no_more(fleet, bot):
    (who,) = heard(bot)
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    change(bot, "apply", *"abcde", who=who, expires_at=ends)
    assert codes(change(bot, "apply", "f", who=who)) == ["too_many_labels"]
    with fleet.database.transaction() as db:
        fetch(db, "UPDATE labels_of_people SET expires_at = now() WHERE own_id = %s AND name = 'a'", (who,))
    assert codes(change(bot, "apply", "f", who=who)) == [None]
    assert labels_of(bot, who) == [*"bcdef"]
    assert found(bot, "a") == []


def test_people_are_found_by_several_labels_once_with_all_their_accounts(fleet, bot):
    a, b, c, d = heard(bot, 4)
    change(bot, "apply", "red", who=[a, b])
    change(bot, "apply", "blue", who=[b, c])
    assert found(bot, "red,blue") == [str(b)]
    assert found(bot, "red,blue", "any") == [str(each) for each in (a, b, c)]
    assert found(bot, "red,blue", "none") == [str(d)]
    linked(fleet, c, a)
    SERVICES[0].bus.invalidate("label_changes", bot.community_id)
    assert sorted(found(bot, "red,blue")) == sorted([str(a), str(b)])
    assert sorted(found(bot, "red,blue", "any")) == sorted([str(a), str(b)])
    assert found(bot, "red,blue", "none") == found(bot, "blue", "none") == [str(d)]
    assert found(bot, "green", "any") == found(bot, "green,red") == []
    assert sorted(found(bot, "green", "none")) == sorted(map(str, (a, b, d)))
    assert labels_of(bot, c) == labels_of(bot, a) == ["blue", "red"]
    # What one account has the person has: it is not given to the other one, and taken from the one that has it.
    assert change(bot, "apply", "red", who=c)["changed"] == 0
    assert change(bot, "remove", "red", who=c)["changed"] == 1
    assert labels_of(bot, a) == ["blue"]
    # Limits count by person.
    assert codes(change(bot, "apply", *"wxyz", who=a)) == [None] * 4
    assert codes(change(bot, "apply", "v", who=c)) == ["too_many_labels"]


def test_whatever_is_searched_for_is_what_looking_at_everybody_finds(fleet, bot):
    chance, names = Random(18), "abcdefg"
    everybody = heard(bot, 14)
    (elsewhere,) = heard(fleet.bot())
    people = [{each} for each in everybody]
    # Pairs both ways round, three together, and somebody with an account that is no member here.
    for own, other in ((0, 1), (3, 2), (6, 5), (4, 5), (13, None)):
        ids = everybody[own], elsewhere if other is None else everybody[other]
        linked(fleet, *ids)
        person = {*ids}.union(*(each for each in people if each & {*ids}))
        people = [each for each in people if not each & {*ids}] + [person]
    has = {own: set(chance.sample(names, chance.randrange(4))) for own in everybody}
    with fleet.database.transaction() as db:
        rows = [(bot.community_id, own, name) for own, labels in has.items() for name in labels]
        for row in rows:
            fetch(db, "INSERT INTO labels_of_people (community_id, own_id, name) VALUES (%s, %s, %s)", row)
    labels = [(ids, set().union(*(has.get(each, set()) for each in ids))) for ids in people]
    searches = {
        "all": lambda theirs, wanted: wanted <= theirs,
        "any": lambda theirs, wanted: bool(wanted & theirs),
        "none": lambda theirs, wanted: not wanted & theirs,
    }
    for match, fits in searches.items():
        for count in (1, 1, 2, 2, 2, 3, 4, 6, 7):
            wanted = set(chance.sample(names, count))
            got = found(bot, ",".join(wanted), match)
            expected = [ids for ids, theirs in labels if fits(theirs, wanted)]
            assert len(got) == len(set(got)) == len(expected), (match, wanted)
            assert all(any(int(each) in ids for ids in expected) for each in got), (match, wanted)


def test_a_change_is_on_record_and_can_be_taken_back(bot):
    a, b = heard(bot, 2)
    change(bot, "apply", "one", who=a)
    change(bot, "apply", "two", "three", who=[a, b])
    change(bot, "remove", "two", "three", who=a)
    undo_newest(bot)
    assert labels_of(bot, a) == ["one", "three", "two"]


def test_labels_reach_permissions_and_calls(bot, stub):
    bot.say("hello", by=(name := "z" + new_id()))
    permissions = {"command": "!stub", "permissions": {"deny": ["label:Quiet"]}}
    assert bot.fleet.request("PUT", f"/router/communities/{bot.slug}/permissions", permissions).status == 200
    assert bot.say("!stub", by=name).statuses == ["success"]
    change(bot, "apply", "other", who=f"console:{name}")
    assert bot.say("!stub", by=name).statuses == ["success"]
    assert stub.calls[-1]["user"]["labels"] == ["other"]
    change(bot, "apply", "quiet", who=f"console:{name}")
    assert bot.say("!stub", by=name).statuses == ["denied"]
