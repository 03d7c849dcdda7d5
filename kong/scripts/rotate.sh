#!/bin/sh
# Rotate one service's key: rotate.sh NAME [OVERLAP_SECONDS]. Prints what goes into .env; then run `docker compose up -d`.
# The database and Kong both take the old key for so long (a day), so nothing is refused meanwhile.
set -eu
name=${1:?which account, such as twitch}
overlap=${2:-86400}
setting=$(printf '%s_WADDLEBOT_API_KEY' "$name" | tr '[:lower:]' '[:upper:]')
made=$(docker compose run --rm --no-deps -T accounts waddlebot keys rotate "$name" --overlap "${overlap}s" --json)
key=$(printf '%s' "$made" | sed -n 's/.*"api_key": *"\([^"]*\)".*/\1/p')
[ -n "$key" ] || { echo "rotate: no key was made: $made" >&2; exit 1; }
docker compose run --rm --no-deps -T -e "$setting=$key" gateway-accounts python /kong/scripts/accounts.py --overlap "$overlap"
echo "$setting=$key"
