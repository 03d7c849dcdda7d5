#!/usr/bin/env bash
# Pages and overlays are tested in a real browser: Debian's Chromium, installed where that is possible, and missed loudly.
set -uo pipefail

have() { command -v "$1" > /dev/null; }
is_known() { apt-cache show "$1" > /dev/null 2>&1; }

have chromium-headless-shell && exit 0
if [ "$(id -u)" = 0 ] && have apt-get; then
    found=0
    have chromium || have chromium-browser && found=1
    log=$(mktemp)
    # The engine alone opens a page in half the time; where it is not packaged, or cannot be had, the whole browser does.
    [ "$found" = 1 ] || apt-get update -qq > "$log" 2>&1
    for browser in chromium-headless-shell chromium; do
        [ "$browser$found" = chromium1 ] && exit 0
        is_known "$browser" || continue
        echo "Installing $browser for the tests of pages (a minute, the first time)"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "$browser" fonts-noto-core fonts-noto-color-emoji >> "$log" 2>&1 && exit 0
        tail -5 "$log"
    done
fi
have chromium || have chromium-browser && exit 0
cat <<'END'

  ****************************************************************************
  * No Chromium here, so pages and overlays are NOT tested in a browser.     *
  * Install it and run this again:  apt-get install chromium                 *
  ****************************************************************************

END
