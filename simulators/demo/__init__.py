"""A Twitch, a Discord and a Slack of one's own, on one page with what the bot makes of them: `waddlebot up --demo`."""
