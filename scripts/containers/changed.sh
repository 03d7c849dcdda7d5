#!/usr/bin/env bash
# Whether anything that containers are made of is not as `make containers` last found it good. With `keep`: it is, now.
#
# What it found good is kept in the repository, so that a clean clone knows, wherever it was found.
set -euo pipefail
cd "$(dirname "$0")/../.."
good=scripts/containers/found_good.sha256
sum=$(git ls-files -z -- '*Dockerfile' .dockerignore '*docker-compose.yml' '*requirements*' pyproject.toml libs kong \
  tests/containers scripts/containers.sh scripts/containers | grep -zvF "$good" | xargs -0 sha256sum | sha256sum)
if [ "${1:-}" = keep ]; then
  echo "$sum" > "$good"
else
  [ "$sum" != "$(cat "$good" 2> /dev/null)" ]
fi
