#!/usr/bin/env bash
# The overlays are tested in a real browser: Debian's Chromium, installed where that is possible, and missed loudly.
set -uo pipefail

command -v chromium > /dev/null || command -v chromium-browser > /dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "Installing chromium for the overlays' tests (a minute, the first time)"
    log=$(mktemp)
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        chromium fonts-noto-core fonts-noto-color-emoji; } > "$log" 2>&1 && exit 0
    tail -5 "$log"
fi
cat <<'END'

  ****************************************************************************
  * No Chromium here, so the overlays are NOT tested in a browser.           *
  * Install it and run this again:  apt-get install chromium                 *
  ****************************************************************************

END
