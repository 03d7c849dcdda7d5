#!/bin/sh
# Bring one overlay to the cluster: REGISTRY=ghcr.io/you/ TAG=v1 roll-out.sh production. What the new code needs of the
# schema comes before it, what the old code could not do without goes after it. It may run again. `--print` at the end
# shows what is brought, and brings nothing.
set -eu
overlay=${1:?which overlay: dev or production}
here=$(cd "$(dirname "$0")" && pwd)
# Jobs run the images of the same release. What an overlay has renamed stays as it is.
made() { kubectl kustomize "$here/$1" | sed -E "s#(image: )(waddlebot/[a-z_]+)\$#\\1${REGISTRY:-}\\2:${TAG:-latest}#"; }
once() {
  made "$1" | kubectl delete --ignore-not-found -f -
  made "$1" | kubectl apply -f -
  kubectl -n waddlebot wait --for=condition=complete --timeout=15m -f "$here/$1/jobs.yaml"
}
if [ "${2:-}" = --print ]; then
  for each in before "overlays/$overlay" after; do made "$each"; echo ---; done
  exit
fi
kubectl apply -f "$here/base/namespace.yaml" -f "$here/base/settings.yaml" -n waddlebot
[ "$overlay" != dev ] || kubectl apply -k "$here/stores"
once before
made "overlays/$overlay" | kubectl apply -f -
for each in $(kubectl -n waddlebot get deployments -o name); do
  kubectl -n waddlebot rollout status --timeout=10m "$each"
done
once after
