#!/bin/sh
# Bring one overlay to the cluster: roll-out.sh production. What the new code needs of the schema comes before it, what
# the old code could not do without goes after it. It may run again.
set -eu
overlay=${1:?which overlay: dev or production}
here=$(cd "$(dirname "$0")" && pwd)
once() {
  kubectl delete -k "$here/$1" --ignore-not-found
  kubectl apply -k "$here/$1"
  kubectl -n waddlebot wait --for=condition=complete --timeout=15m -f "$here/$1/jobs.yaml"
}
kubectl apply -f "$here/base/namespace.yaml" -f "$here/base/settings.yaml" -n waddlebot
[ "$overlay" != dev ] || kubectl apply -k "$here/stores"
once before
kubectl apply -k "$here/overlays/$overlay"
for each in $(kubectl -n waddlebot get deployments -o name); do
  kubectl -n waddlebot rollout status --timeout=10m "$each"
done
once after
