"""What is made for Kubernetes and the workflows, held to what is asked of every container of ours.

`scripts/lint_deployment.sh` holds them to the real schemas.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from waddlebot.base.manifest import CHECKOUT, all_manifests
from waddlebot.testing.fleet import Fleet

from scripts.generate.containers import made_secrets, settings_of

MANIFESTS = all_manifests()
FILES = sorted([*CHECKOUT.glob("k8s/**/*.yaml"), *CHECKOUT.glob("*/k8s/*.yaml")])
OBJECTS = [each for path in FILES for each in yaml.safe_load_all(path.read_text()) if each and "metadata" in each]
WORK = [each for each in OBJECTS if each["kind"] in ("Deployment", "StatefulSet", "Job")]
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi)?")
MODULE = "waddlebot.io/module"


def named(each: dict[str, Any]) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def containers(work: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pod = work["spec"]["template"]["spec"]
    yield from [*pod["containers"], *pod.get("initContainers", ())]


@pytest.mark.parametrize("work", WORK, ids=named)
def test_whatever_runs_has_no_rights_and_an_end_to_what_it_takes(work: dict[str, Any]):
    pod = work["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    mounts = {volume["name"] for volume in pod["volumes"]}
    mounts |= {claim["metadata"]["name"] for claim in work["spec"].get("volumeClaimTemplates", ())}
    known = {*made_secrets(MANIFESTS), *(name for each in MANIFESTS for name in each.container.secrets)}
    for container in containers(work):
        fenced = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == fenced
        for kind in ("requests", "limits"):
            assert all(QUANTITY.fullmatch(str(container["resources"][kind][each])) for each in ("cpu", "memory"))
        assert {each["name"] for each in container["volumeMounts"]} <= mounts
        referred = {each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
        assert referred <= known
        # Secrets are referred to and never written.
        assert not [each for each in container["env"] if "value" in each and re.search("KEY|PASSWORD$", each["name"])]
    if work["kind"] != "Job":
        labels = work["spec"]["template"]["metadata"]["labels"]
        assert work["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert "readinessProbe" in pod["containers"][0]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda each: each.name)
def test_a_module_is_served_scaled_and_fenced_off(manifest: Any):
    mine = {each["kind"]: each for each in OBJECTS if each["metadata"]["name"] == manifest.host}
    deployment, service, scaler = mine["Deployment"], mine["Service"], mine["HorizontalPodAutoscaler"]

    assert service["spec"]["ports"][0]["port"] == manifest.port
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (
        manifest.container.least,
        manifest.container.most,
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == f"{manifest.prefix}/health"
    assert container["readinessProbe"]["httpGet"]["path"] == f"{manifest.prefix}/ready"
    assert "PodDisruptionBudget" in mine
    policy = next(each for each in OBJECTS if each["metadata"]["name"] == f"to-{manifest.host}")
    assert policy["spec"]["podSelector"] == {"matchLabels": {MODULE: manifest.name}}
    has_admin = any(each.get("value", "").startswith("http://kong-admin") for each in container["env"])
    assert has_admin == ("KONG_ADMIN_URL" in settings_of(manifest))


def test_the_host_of_community_modules_has_no_key_but_its_own_and_hears_the_router_only():
    mine = {each["kind"]: each for each in OBJECTS if each["metadata"]["name"] == "modules"}
    pod = mine["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    policy = next(each for each in OBJECTS if each["metadata"]["name"] == "to-modules")
    letting = {
        each["metadata"]["name"]
        for each in OBJECTS
        if each["kind"] == "NetworkPolicy"
        and any(
            caller.get("podSelector", {}).get("matchLabels") == {"app.kubernetes.io/name": "modules"}
            for rule in each["spec"].get("ingress", ())
            for caller in rule["from"]
        )
    }

    assert {"Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= mine.keys()
    secrets = {each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
    assert secrets == {"MODULE_HOST_WADDLEBOT_API_KEY", "MODULE_HOST_KEY"}
    assert [each["podSelector"]["matchLabels"] for each in policy["spec"]["ingress"][0]["from"]] == [{MODULE: "router"}]
    # It may ask for packages and hand in late answers, and has nothing to do with databases.
    assert letting == {"to-router-service", "to-marketplace-service"}
    assert MODULE not in pod["metadata"]["labels"]


def test_only_the_broker_and_the_job_reach_the_admin_api():
    (policy,) = (each for each in OBJECTS if each["metadata"]["name"] == "to-kong-admin")
    callers = [each["podSelector"]["matchLabels"] for each in policy["spec"]["ingress"][0]["from"]]

    assert callers == [{MODULE: "kong_admin_broker"}, {"app.kubernetes.io/name": "gateway-accounts"}]
    assert "nobody-else" in {each["metadata"]["name"] for each in OBJECTS}


def test_prometheus_finds_the_figures_of_every_module_and_may_see_them(fleet: Fleet):
    watched = {each["metadata"]["name"]: each["spec"] for each in OBJECTS if each["kind"] == "PodMonitor"}
    bearer = {"Authorization": f"Bearer {fleet.make_key('prometheus', 'admins')}", "Accept": "text/plain;version=0.0.4"}

    assert set(watched) == {"kong", *(manifest.host for manifest in MANIFESTS)}
    for manifest in MANIFESTS:
        (endpoint,) = watched[manifest.host]["podMetricsEndpoints"]
        assert endpoint["authorization"]["credentials"]["key"] in made_secrets(MANIFESTS)
        answer = fleet.request("GET", endpoint["path"], key=None, headers=bearer)
        assert (answer.status, b"background_alive" in answer.body) == (200, True), manifest.name
        assert fleet.request("GET", endpoint["path"], key=None).status == 401


def test_alerts_are_about_figures_that_there_are(fleet: Fleet):
    key = fleet.make_key("prometheus-too", "admins")
    names = set()
    for manifest in MANIFESTS:
        told = fleet.request("GET", f"{manifest.prefix}/metrics", key=key, headers={"Accept": "text/plain"})
        text = told.body.decode()
        names |= set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        for name in re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE):
            names |= {f"{name}_bucket", f"{name}_count"}
    # Without a platform nothing is collected.
    collecting = "".join(path.read_text() for path in CHECKOUT.glob("libs/waddlebot/collecting/*.py"))
    names |= {f"waddlebot_twitch_{name}_total" for name in re.findall(r'metrics\.counter\("(\w+)"', collecting)}
    (rules,) = (each for each in OBJECTS if each["kind"] == "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    wanted = {name for alert in alerts for name in re.findall(r"waddlebot_[\w.+]+", alert["expr"])}

    assert len(wanted) > 5
    assert [each for each in wanted if not any(re.fullmatch(each, name) for name in names)] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_a_roll_out_brings_the_images_of_one_release_its_jobs_included(overlay: str):
    command = [str(CHECKOUT / "k8s" / "roll-out.sh"), overlay, "--print"]
    release = {**os.environ, "REGISTRY": "ghcr.io/you/", "TAG": "v1"}
    shown = subprocess.run(command, env=release, capture_output=True, text=True, check=True).stdout
    work = [each for each in yaml.safe_load_all(shown) if each and each["kind"] in ("Deployment", "Job")]
    images = {container["image"] for each in work for container in containers(each)}

    assert {each["kind"] for each in work} == {"Deployment", "Job"}
    assert {each for each in images if "waddlebot/" in each} == {
        f"ghcr.io/you/waddlebot/{manifest.name}:v1" for manifest in MANIFESTS
    }


def test_every_action_is_pinned_and_no_workflow_has_rights_that_it_does_not_name():
    workflows = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
    assert [each.name for each in workflows] == ["ci-cd.yml", "containers.yml"]
    for path in workflows:
        text = path.read_text()
        used = re.findall(r"uses: (\S+)", text)
        assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each) for each in used), path
        document = yaml.safe_load(text)
        assert document["permissions"] == {}
        assert all({"permissions", "timeout-minutes"} <= job.keys() for job in document["jobs"].values())


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("*/Dockerfile")), ids=lambda each: each.parent.name)
def test_an_image_runs_as_nobody_in_particular(path: Path):
    last = path.read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 10001:10001\n" in last
    assert "\nHEALTHCHECK " in last
