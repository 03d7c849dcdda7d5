#!/usr/bin/env bash
# Lint, build and run the containers without a registry, and check that they do what they should: `make containers`.
#
# A Docker engine of its own is started for it, in a folder of its own, and ended again. The base images are stand-ins of
# Debian's packages under their official names (tests/containers/standins), so the shipped files are tested as they are.
# Kong has no stand-in: its services are left out (tests/containers/ci.yml), and collectors go to the router directly.
# MODULES="router inventory" builds and starts these only; KEEP=1 leaves the work folder for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
work=${CONTAINERS_WORK:-/var/tmp/waddlebot-containers}
python=${PYTHON:-$source/.venv/bin/python}
began=$(date +%s)
# What an image may be larger than its base.
MOST_MB=250
say() { printf '[%4ds] %s\n' $(($(date +%s) - began)) "$*"; }
die() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || die "Not root: no engine can be started, so nothing of the containers was checked."

mkdir -p "$work"
exec 9> "$work/lock"
flock -n 9 || die "Another run is at work in $work."
export DOCKER_CONFIG=$work/docker DOCKER_HOST=unix://$work/engine.sock DOCKER_BUILDKIT=1 COMPOSE_PROJECT_NAME=waddlebot-ci
engine=""
# What the engine makes outside of its folders, and leaves there empty.
made=()
for each in /run/docker/plugins /run/docker /run/containerd/s /run/containerd /run/runc; do [ -e "$each" ] || made+=("$each"); done
compose() { docker compose --env-file "$work/env" -f docker-compose.yml -f tests/containers/ci.yml "$@"; }
leave() {
  status=$?
  if [ -n "$engine" ]; then
    [ "$status" = 0 ] || compose ps -a --format '{{.Name}} {{.Status}}' || true
    [ "$status" = 0 ] || compose logs --tail 8 2> /dev/null | tail -120 || true
    compose down -v -t 10 > /dev/null 2>&1 || true
    kill "$engine" && wait "$engine" || true
    # What the engine may leave mounted when it is ended.
    umount "$work/exec/netns/default" "$work/data" 2> /dev/null || true
    find /sys/fs/cgroup -depth -type d -path "*/$COMPOSE_PROJECT_NAME*" -exec rmdir {} + 2> /dev/null || true
    [ ${#made[@]} = 0 ] || rmdir "${made[@]}" 2> /dev/null || true
  fi
  rm -f "$work/env"
  [ -n "${KEEP:-}" ] || rm -rf "$work"
  exit "$status"
}
trap leave EXIT

get_engine() {
  command -v dockerd > /dev/null && command -v mmdebstrap > /dev/null && [ -x "$DOCKER_CONFIG/cli-plugins/docker-compose" ] && return
  { command -v dockerd && command -v mmdebstrap; } > /dev/null \
    || apt-get install -y -qq --no-install-recommends docker.io mmdebstrap > "$work/apt.log" 2>&1
  # Compose 2 and buildx are in Debian 13: Go programs, which run anywhere. This machine's own apt is left alone.
  mkdir -p "$work"/{lists,cache/archives/partial,debs} "$DOCKER_CONFIG/cli-plugins"
  : > "$work/status"
  sed -E 's/bookworm/trixie/g' /etc/apt/sources.list.d/debian.sources > "$work/trixie.sources"
  local apt=(-o Dir::Etc::sourcelist="$work/trixie.sources" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache"
    -o APT::Sandbox::User=root)
  apt-get "${apt[@]}" update -qq
  (cd "$work/debs" && apt-get "${apt[@]}" download -qq docker-compose docker-buildx
    for deb in *.deb; do dpkg-deb -x "$deb" ../root; done)
  cp "$work"/root/usr/libexec/docker/cli-plugins/* "$DOCKER_CONFIG/cli-plugins/"
}

start_engine() {
  dockerd --data-root "$work/data" --exec-root "$work/exec" -H "$DOCKER_HOST" --pidfile "$work/pid" \
    --bridge=none --iptables=false --ip6tables=false --cgroup-parent "/$COMPOSE_PROJECT_NAME" > "$work/engine.log" 2>&1 9>&- &
  engine=$!
  until docker version > /dev/null 2>&1; do
    kill -0 "$engine" 2> /dev/null || { tail -5 "$work/engine.log"; die "The engine does not start."; }
    sleep 0.3
  done
}

size_of() { echo $(($(docker image inspect -f '{{.Size}}' "$1") / 1000000)); }

get_standins() {
  # With this machine's certificates, so that pip reaches its index; the Dockerfiles know nothing of it.
  [ -f "$work/base.tar" ] || mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --customize-hook='copy-in /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs' trixie "$work/base.tar"
  docker image inspect python:3.13-slim-trixie > /dev/null 2>&1 \
    || docker import -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
      -c 'CMD ["python3"]' "$work/base.tar" python:3.13-slim-trixie > /dev/null
  docker build -q --network host -t postgres:17 -t redis:8 tests/containers/standins > /dev/null
}

get_engine
say "engine and compose are here"
start_engine
say "engine $(docker version -f '{{.Server.Version}}') runs"
"$python" -m waddlebot.fleet.containers env > "$work/env"
echo "BASE_URL=http://127.0.0.1:9413" >> "$work/env"
compose config -q
get_standins
say "base images"

base=$(size_of python:3.13-slim-trixie)
read -r -a chosen <<< "${MODULES:-$("$python" scripts/containers/check_stack.py modules)}"
for module in "${chosen[@]}"; do
  folder=$("$python" scripts/containers/check_stack.py folder "$module")
  docker build -q --network host -f "$folder/Dockerfile" -t "waddlebot/$module:latest" . > /dev/null
  size=$(size_of "waddlebot/$module:latest")
  say "image $module: $size MB"
  [ "$size" -le $((base + MOST_MB)) ] || die "That is more than $MOST_MB MB above its base, which has $base."
done

services=()
for module in "${chosen[@]}"; do mapfile -t -O "${#services[@]}" services < <("$python" scripts/containers/check_stack.py services "$module"); done
compose up -d --no-build --pull never --wait --wait-timeout "${WAIT_S:-300}" "${services[@]}" postgres-replica \
  > "$work/up.log" 2>&1 || { grep -vE 'Creat|Start|Wait|Running|Healthy|Exited' "$work/up.log"; die "The stack does not come up."; }
say "the stack is up"
COMPOSE_FILES="docker-compose.yml:tests/containers/ci.yml" ENV_FILE=$work/env \
  "$python" scripts/containers/check_stack.py check "${chosen[@]}"
say "all holds"
compose down -v -t 10 > /dev/null 2>&1
[ -z "$(docker ps -aq)" ] || die "Containers are left: $(docker ps -a --format '{{.Names}}')"
say "down, and nothing is left"
[ -n "${MODULES:-}" ] || scripts/containers/changed.sh keep
