"""infra/kubernetes: the manifests agree with the server that they start, and with each other."""

import json
import re
from pathlib import Path

import pytest
import yaml

from openpi_flash_server.admin.metrics import Metrics
from openpi_flash_server.config.file import parse_config
from openpi_flash_server.serving.service import DRAIN_GRACE

HERE = Path(__file__).parent.parent / "infra" / "kubernetes"
FOLDERS = sorted(path.parent for path in HERE.glob("*/kustomization.yaml"))


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def manifests():
    """Every object that kustomize would make, by kind and name, without patches."""
    found = {}
    for folder in FOLDERS:
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text()).get("resources", [])
        for name in listed:
            for one in documents(folder / name):
                found[one["kind"], one["metadata"]["name"]] = one
    return found


def patches(folder):
    """The patches of a component by kind and name, in which nothing else is said of an object."""
    found = {}
    for patch in yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]:
        for one in documents(folder / patch["path"]):
            found[one["kind"], one["metadata"]["name"]] = one
    return found


DEPLOYMENT = manifests()["Deployment", "openpi-flash"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]


@pytest.fixture
def config(tmp_path):
    """The configuration, with its secrets in a folder of this machine."""
    values = json.loads((HERE / "base" / "config.json").read_text())
    keys = tmp_path / "api_keys"
    keys.write_text("a-key\n")
    values["api_key_file"] = str(keys)
    environment = {"OPENPI_ADMIN__API_KEY": "of-the-operator"}
    return parse_config(json.dumps(values), environment, source="config.json")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_file_is_listed_and_every_listed_file_is_there(folder):
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = set(kustomization.get("resources", []))
    listed |= {patch["path"] for patch in kustomization.get("patches", [])}
    listed |= set(kustomization.get("configurations", []))
    for generator in kustomization.get("configMapGenerator", []):
        listed |= set(generator["files"])
    assert listed | {"kustomization.yaml"} == {path.name for path in folder.iterdir()}


def test_ports_are_those_of_the_configuration(config):
    ports = {one["name"]: (one["containerPort"], one["protocol"]) for one in SERVER["ports"]}
    assert ports == {
        "websocket": (config.action_transport.websocket_port, "TCP"),
        "quic": (config.action_transport.quic_port, "UDP"),
        "admin": (config.admin.port, "TCP"),
    }
    for service in ("openpi-flash", "openpi-flash-admin"):
        for port in manifests()["Service", service]["spec"]["ports"]:
            assert (port["port"], port["protocol"]) == ports[port["targetPort"]]


def test_robots_do_not_reach_the_operators_port():
    public = manifests()["Service", "openpi-flash"]["spec"]
    assert {one["name"] for one in public["ports"]} == {"websocket", "quic"}


def test_a_pod_has_longer_to_end_than_the_server_needs():
    (_, pause) = SERVER["lifecycle"]["preStop"]["exec"]["command"]
    # what it takes to close ports and processes
    assert POD["terminationGracePeriodSeconds"] >= float(pause) + DRAIN_GRACE + 10


def test_every_mounted_file_of_the_configuration_is_mounted():
    values = json.loads((HERE / "base" / "config.json").read_text())
    mounts = [mount["mountPath"] for mount in SERVER["volumeMounts"]]
    (variable,) = [one for one in SERVER["env"] if one["name"] == "INFERENCE_CONFIG_PATH"]
    files = [values["tls_certificate"], values["tls_key"], values["api_key_file"]]
    for file in (*files, variable["value"]):
        assert str(Path(file).parent) in mounts
    names = {volume["name"] for volume in POD["volumes"]}
    assert {mount["name"] for mount in SERVER["volumeMounts"]} == names


def test_the_configuration_is_closed_to_strangers(config):
    assert config.keys
    assert not config.expose_tracebacks
    assert any(one["name"] == "OPENPI_ADMIN__API_KEY" for one in SERVER["env"])


def test_the_autoscaler_asks_for_metrics_that_the_server_has():
    registry = Metrics({"server": "0"}).registry
    known = {
        name
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total" if family.type == "counter" else "")
    }
    triggers = manifests()["ScaledObject", "openpi-flash"]["spec"]["triggers"]
    queries = " ".join(trigger["metadata"]["query"] for trigger in triggers)
    asked = set(re.findall(r"openpi_flash_\w+", queries))
    assert len(asked) == len(triggers) == 2
    assert asked <= known


def test_what_selects_and_what_is_selected_agree():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    budget = manifests()["PodDisruptionBudget", "openpi-flash"]["spec"]["selector"]["matchLabels"]
    services = [manifests()["Service", f"openpi-flash{end}"]["spec"] for end in ("", "-admin")]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels == budget
    assert [service["selector"] for service in services] == [labels, labels]
    monitor = manifests()["ServiceMonitor", "openpi-flash"]["spec"]
    admin = manifests()["Service", "openpi-flash-admin"]
    assert monitor["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    assert [one["port"] for one in monitor["endpoints"]] == [
        port["name"] for port in admin["spec"]["ports"]
    ]
    target = manifests()["ScaledObject", "openpi-flash"]["spec"]["scaleTargetRef"]["name"]
    assert target == DEPLOYMENT["metadata"]["name"]


def test_the_patch_for_replicas_gives_a_gpu_to_each():
    (patch,) = documents(HERE / "replicas" / "server_patch.yaml")
    assert patch["metadata"]["name"] == DEPLOYMENT["metadata"]["name"]
    (server,) = patch["spec"]["template"]["spec"]["containers"]
    assert server["name"] == SERVER["name"]
    (variable,) = server["env"]
    config = parse_config(
        '{"action": {"model_config_name": "null"}}',
        {variable["name"]: variable["value"]},
        source="config.json",
    )
    assert config.action.replicas == server["resources"]["limits"]["nvidia.com/gpu"]


def test_objects_of_every_component_are_in_the_servers_namespace():
    for folder in FOLDERS:
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        assert not kustomization.get("resources") or kustomization["namespace"] == "openpi-flash"


RAY = HERE / "ray"
CLUSTER = manifests()["RayCluster", "openpi-flash"]
HEAD_POD = CLUSTER["spec"]["headGroupSpec"]["template"]["spec"]
(HEAD,) = HEAD_POD["containers"]
(WORKERS,) = CLUSTER["spec"]["workerGroupSpecs"]
(REPLICA,) = WORKERS["template"]["spec"]["containers"]


def test_the_head_of_a_ray_cluster_is_the_server_of_the_deployment():
    for key in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "securityContext"):
        assert HEAD[key] == SERVER[key]
    for key in ("ports", "env", "volumeMounts"):
        assert [one for one in SERVER[key] if one not in HEAD[key]] == []
    assert [one for one in POD["volumes"] if one not in HEAD_POD["volumes"]] == []
    for key in ("terminationGracePeriodSeconds", "securityContext"):
        assert HEAD_POD[key] == POD[key]
    assert patches(RAY)["Deployment", "openpi-flash"]["$patch"] == "delete"


def test_every_replica_of_a_ray_cluster_has_a_worker_with_a_gpu():
    values = {one["name"]: one["value"] for one in HEAD["env"] if "value" in one}
    action = {name: value for name, value in values.items() if name.startswith("OPENPI_ACTION")}
    config = parse_config('{"action": {"model_config_name": "null"}}', action, source="config.json")
    assert config.action.engine == "ray"
    assert config.action.replicas == WORKERS["replicas"]
    assert config.action.ray.gpus_per_replica == 1
    assert REPLICA["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert WORKERS["rayStartParams"]["num-gpus"] == "1"
    # the head offers no place: its one container needs none
    assert "--num-cpus 0 --num-gpus 0" in HEAD["args"][0]
    assert f"--port {config.action.ray.address.rpartition(':')[2]} " in HEAD["args"][0]


def test_robots_reach_the_head_and_no_worker():
    head = {"ray.io/cluster": CLUSTER["metadata"]["name"], "ray.io/node-type": "head"}
    for key, patch in patches(RAY).items():
        if key[0] == "Service":
            assert patch["spec"]["selector"] == {"$patch": "replace", **head}
        if key[0] == "PodDisruptionBudget":
            assert patch["spec"]["selector"]["matchLabels"] == {"$patch": "replace", **head}
    assert {kind for kind, _ in patches(RAY)} == {"Deployment", "Service", "PodDisruptionBudget"}


def test_a_ray_cluster_has_the_ray_that_the_image_has():
    lock = (HERE.parent.parent / "uv.lock").read_text()
    assert f'name = "ray"\nversion = "{CLUSTER["spec"]["rayVersion"]}"' in lock
