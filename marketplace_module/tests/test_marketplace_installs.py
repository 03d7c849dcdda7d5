"""From publishing to the answer in chat, and back."""

from __future__ import annotations

from market import error, new_name


def test_a_module_is_published_found_installed_answered_and_removed(market):
    name = new_name()
    done = market.publish(name)
    assert done.status == 200, done.body
    assert (done.json()["state"], done.json()["version"]) == ("approved", "1.0.0")
    assert done.json()["webhook_secret"]
    market.answers(name, "You rolled 7.")
    # Nobody has it yet.
    assert market.bot.say(f"#{name} 2d6").answer["executions"] == []
    found = market.fleet.request("GET", "/marketplace/search", key="admin", query={"q": name[:6]}).json()
    assert [each["module_id"] for each in found["suggestions"]] == [name]
    installed = market.install(name)
    assert installed.status == 200, installed.body
    said = market.bot.say(f"#{name} 2d6")
    assert (said.statuses, said.chat) == (["success"], "You rolled 7.")
    assert market.stub.paths[-1] == "/run"
    assert market.installed()[name]["enabled"] is True
    assert market.uninstall(name).status == 200
    assert market.bot.say(f"#{name} 2d6").answer["executions"] == []
    assert error(market.uninstall(name))["code"] == "not_installed"
