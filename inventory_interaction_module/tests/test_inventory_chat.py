def test_an_item_goes_round(bot):
    assert bot.say('!inventory add "Blue Sword" "A shiny sword" weapons,rare', level="moderator").chat == (
        "Added “Blue Sword” (weapons, rare)."
    )
    assert bot.say("!inventory list").chat == "1 item: Blue Sword"
