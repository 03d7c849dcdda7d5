"""What is made of the manifests: kong.yml, Dockerfiles, compose files, Kubernetes' and the workflows."""

from __future__ import annotations

from collections.abc import Sequence

from waddlebot.base.manifest import Manifest

from .api import api_files
from .containers import check_secrets as check_secrets
from .containers import container_files
from .kong import kong_yml
from .kubernetes import kubernetes_files


def generated_files(manifests: Sequence[Manifest]) -> dict[str, str]:
    """What every generated file says, by its place in the checkout."""
    return {
        "kong/kong.yml": kong_yml(manifests),
        **container_files(manifests),
        **api_files(manifests),
        **kubernetes_files(manifests),
    }
