"""The Helm chart: linted and rendered by Helm's own code, the manifests held against the schemas of Kubernetes, and the
configuration in them read by the broker that is to run with it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import DEPLOY, TOOLS, output
from homeward import BINARIES
from machine import Machine

CHART = DEPLOY / "helm" / "homeward-broker"
SIDECAR = DEPLOY / "helm" / "agent-sidecar.yaml"

# The oldest that the chart admits, and the newest that is known here.
KUBERNETES = ("1.29", "1.37")

NAMED = {
    "publicUrl": "https://login.example.org",
    "agentUrl": "https://agents.example.org:8443",
    "trustDomain": "example.org",
    "keyEncryptionKeySecret": "homeward-kek",
}
ETCD = {
    "replicas": 3,
    "etcd": {
        "endpoints": ["https://etcd-0.etcd:2379", "https://etcd-1.etcd:2379"],
        "tlsSecret": "etcd",
        "clientCertificate": True,
        "user": "homeward",
        "passwordSecret": "etcd-user",
    },
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "login-tls"},
    "trustedProxies": ["10.244.0.0/16"],
    "audit": {"keepDays": 30, "syslog": "udp://192.0.2.1:514"},
    "settings": "[lifetimes]\nsession = 3600\n\n[outbound]\nprivate_networks = [\"10.0.0.0/8\"]\n",
    "persistence": {"storageClass": "fast"},
    "nodeSelector": {"disk": "ssd"},
}


def asked(**values: Any) -> dict:
    return json.loads(output(TOOLS / "python", Path(__file__).parent / "chart.py", CHART, stdin=json.dumps(values)))


def rendered(**values: Any) -> list[dict]:
    """What would be applied, each manifest once."""
    answer = asked(**NAMED, **values)
    assert not answer["wrong"], answer["wrong"]
    texts = [text for file, text in answer["rendered"].items() if not file.endswith("NOTES.txt")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def the(manifests: list[dict], kind: str) -> dict:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def of_kubernetes(manifests: list[dict], folder: Path) -> None:
    """Every field is one that Kubernetes knows, with a value that it takes."""
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    for version in KUBERNETES:
        output(TOOLS / "kubernetes-validate", "--strict", "--quiet", "-k", version, file)


@pytest.mark.parametrize("values", [{}, ETCD], ids=["embedded", "etcd"])
def test_kubernetes_takes_what_helm_makes_of_it(values: dict[str, Any], tmp_path: Path) -> None:
    manifests = rendered(**values)
    of_kubernetes(manifests, tmp_path)
    kinds = sorted(manifest["kind"] for manifest in manifests)
    assert kinds == sorted(["ConfigMap", "Service", "Service", "StatefulSet"] + ["Ingress", "PodDisruptionBudget"] * bool(values))


@pytest.mark.parametrize(
    "wrong",
    [
        {"publicUrl": "http://login.example.org"},
        {"publicUrl": "https://login.example.org/"},
        {"trustDomain": ""},
        {"keyEncryptionKeySecret": ""},
        {"replicas": 2},
        {"etcd": {"endpoints": ["etcd-0.etcd:2379"]}},
        # A table that the chart writes; values that nobody reads.
        {"settings": "[lifetimes]\nsession = 3600\n[audit]\nkeep_days = 30"},
        {"audit": {"keep_days": 30}},
        {"ingress": {"enable": True}},
        {"trusted_proxies": ["10.244.0.0/16"]},
    ],
)
def test_values_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    assert asked(**NAMED | wrong)["wrong"]


def kept_private(pod: dict) -> bool:
    """Without it, Kubernetes opens every file in a volume to the pod's group, at every start."""
    return pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_the_pod_is_closed() -> None:
    pod = the(rendered(), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert kept_private(pod)
    for container in pod["initContainers"] + pod["containers"]:
        closed = container["securityContext"]
        assert closed["readOnlyRootFilesystem"] and not closed["allowPrivilegeEscalation"]
        assert closed["capabilities"] == {"drop": ["ALL"]}
        usage = output(BINARIES / "homeward-broker", *container["args"], "--help")
        assert "Usage: homeward-broker" in usage


def test_the_broker_runs_with_the_configuration_in_the_chart(machine: Machine, folder: Path) -> None:
    """As the pod's user, with secret and volume as Kubernetes makes them: readable to a group, and with lost+found."""
    there = folder / "chart"
    there.mkdir()
    (there / "broker.toml").write_text(the(rendered(), "ConfigMap")["data"]["broker.toml"])
    kek = there / "kek"
    kek.write_text(output("openssl", "rand", "-base64", "32"))
    machine.says(
        f"mkdir -p /etc/homeward-broker; cp {there}/broker.toml /etc/homeward-broker/; "
        "install -d -m 2775 -g 65532 /var/lib/homeward-broker /var/lib/homeward-broker/lost+found; "
        f"install -d -m 2775 -g 65532 /run/homeward-broker; install -D -m 440 -g 65532 {kek} /run/secrets/homeward/kek"
    )
    become = "setpriv --reuid 65532 --regid 65532 --clear-groups"
    run = f"CREDENTIALS_DIRECTORY=/run/secrets/homeward {become} {BINARIES}/homeward-broker"
    assert "Made the federation" in machine.says(f"{run} init --if-needed")
    assert "There is a federation" in machine.says(f"{run} init --if-needed")
    assert "can be used" in machine.says(f"{run} config check")
    ready = "timeout 20 sh -c 'until grep -q listening /tmp/said; do sleep 0.1; done'"
    machine.says(f"{run} serve >/tmp/said 2>/tmp/log & {ready} || {{ cat /tmp/log; exit 1; }}; {run} healthcheck")


def test_the_configuration_names_what_is_mounted(machine: Machine, folder: Path) -> None:
    manifests = rendered(**ETCD)
    text = the(manifests, "ConfigMap")["data"]["broker.toml"]
    configuration = tomllib.loads(text)
    assert configuration["store"] == "etcd:https://etcd-0.etcd:2379,https://etcd-1.etcd:2379/homeward"
    assert configuration["lifetimes"] == {"session": 3600} and configuration["trusted_proxies"] == ["10.244.0.0/16"]
    assert configuration["audit"] == {"dir": "/var/lib/homeward-broker/audit", "keep_days": 30, "syslog": "udp://192.0.2.1:514"}
    (folder / "chart-etcd.toml").write_text(text)
    checked = machine.tries(f"{BINARIES}/homeward-broker --config {folder}/chart-etcd.toml config check")
    # Nothing is wrong with it but that no cluster has put the files there.
    assert checked.returncode == 1 and "cannot be read: No such file" in checked.stdout, checked.stdout
    (secrets,) = [
        volume["projected"]["sources"]
        for volume in the(manifests, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
        if "projected" in volume
    ]
    mounted = {f"/run/secrets/homeward/{item['path']}" for source in secrets for item in source["secret"]["items"]}
    named = {value for name, value in configuration["etcd"].items() if name.endswith("_file")}
    assert named | {"/run/secrets/homeward/kek"} == mounted


def test_kubernetes_takes_the_agent_beside_an_application(tmp_path: Path) -> None:
    manifests = list(yaml.safe_load_all(SIDECAR.read_text()))
    of_kubernetes([manifest for manifest in manifests if manifest], tmp_path)
    pod = the(manifests, "StatefulSet")["spec"]["template"]["spec"]
    ours = [container for container in pod["initContainers"] + pod["containers"] if container["name"] in ("enrol", "agent")]
    assert len(ours) == 2 and kept_private(pod)
    for container in ours:
        output(BINARIES / "homeward-agent", *container["args"], "--help")
    # A certificate that has expired is renewed by the agent that runs: what is asked is whether it runs.
    (agent,) = [container for container in pod["containers"] if container["name"] == "agent"]
    assert agent["livenessProbe"]["httpGet"] == {"path": "/homeward/health", "port": agent["ports"][0]["name"]}
    file = tmp_path / "agent.toml"
    file.write_text(the(manifests, "ConfigMap")["data"]["agent.toml"])
    portal = tomllib.loads(file.read_text())["portal"]
    assert portal["listen"] == f"0.0.0.0:{agent['ports'][0]['containerPort']}"
    output(BINARIES / "homeward-agent", "--config", file, "config", "check")
