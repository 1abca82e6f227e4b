"""Packs the Helm chart of deploy/helm and holds it against Helm and Kubernetes: `tools/chart.py DIR` (`make chart`).

Helm's own engine (as a library) lints the chart, checks values against values.schema.json and renders it, for installations
that differ; each manifest is held against the strict schemas of Kubernetes that kubernetes-validate brings. The kinds of the
Prometheus operator have no schema there: they are parsed only. No cluster is asked.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import kubernetes_validate
import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "deploy" / "helm" / "smppd"
RELEASES: Final = ("1.27", "1.31", "1.34")
_FOREIGN: Final = frozenset({"ServiceMonitor", "PrometheusRule"})

# Installations that a chart has to serve: the least, and everything at once.
CASES: Final[dict[str, dict[str, Any]]] = {
    "least": {"secret": "smppd"},
    "all": {
        "secret": "smppd",
        "image": {"repository": "registry.example.net/smppd", "digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "persistence": {"size": "100Gi", "storageClass": "fast", "annotations": {"example.net/backup": "daily"}},
        "service": {
            "type": "LoadBalancer",
            "nodePort": 30550,
            "annotations": {"example.net/proxy-protocol": "v2"},
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        },
        "networkPolicy": {
            "smpp": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
            "http": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "egress": [
                {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 3550, "protocol": "TCP"}]}
            ],
        },
        "podDisruptionBudget": {"enabled": True},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "podAnnotations": {"example.net/owner": "messaging"},
        "podLabels": {"tier": "gateway"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "smppd", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    },
    "node port": {
        "secret": "smppd",
        "service": {"type": "NodePort"},
        "networkPolicy": {"enabled": False},
        "initKeys": False,
    },
}
# What the schema of the values has to refuse.
REFUSED: Final[dict[str, dict[str, Any]]] = {
    "no secret": {},
    "a misspelt key": {"secret": "smppd", "replicaCount": 3},
    "a port that is none": {"secret": "smppd", "service": {"port": 70_000}},
    "a time without an end": {"secret": "smppd", "terminationGracePeriodSeconds": 0},
    "a configuration that is no text": {"secret": "smppd", "config": {"listeners": []}},
}


def main(arguments: list[str]) -> int:
    """Packs into DIR; 1 when something is wrong with the chart, and it was told."""
    if len(arguments) != 1:
        print("usage: chart.py DIR", file=sys.stderr)
        return 2
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "smppd"
        shutil.copytree(CHART, copy)
        shutil.copy(ROOT / "docs" / "alerts.yml", copy / "alerts.yml")
        for case, values in CASES.items():
            report = helm.lint(str(copy), values, strict=True)
            faults += [f"{case}: lint: {one['error']}" for one in report["messages"] if one["severity"] >= 2]
            faults += [f"{case}: lint: {one}" for one in report["errors"]]
        with helm.Chart.load(str(copy)) as chart:
            for case, values in CASES.items():
                chart.validate_schema(chart.merge_values(values))
                faults += [f"{case}: {one}" for one in rendered(chart, values)]
            for case, values in REFUSED.items():
                try:
                    chart.validate_schema(chart.merge_values(values))
                except helm.HelmError:
                    continue
                faults.append(f"values.schema.json takes {case}")
        Path(arguments[0]).mkdir(exist_ok=True)
        packed = helm.package(str(copy), destination=arguments[0])
    for fault in faults:
        print(f"chart: {fault}", file=sys.stderr)
    if not faults:
        print(
            f"{packed}: {len(CASES)} installations render by Helm {helm.helm_sdk_version()}, and are what Kubernetes"
            f" {', '.join(RELEASES)} takes"
        )
    return 1 if faults else 0


def rendered(chart: Any, values: dict[str, Any]) -> list[str]:
    """What is wrong with the manifests of an installation."""
    faults = []
    for file, text in chart.render(values, name="gateway", namespace="messaging").items():
        if not file.endswith(".yaml"):
            continue
        for manifest in yaml.safe_load_all(text):
            if manifest is None:
                continue
            if manifest["kind"] in _FOREIGN:
                json.dumps(manifest["spec"])
                continue
            for release in RELEASES:
                try:
                    kubernetes_validate.validate(manifest, release, strict=True)
                except Exception as error:  # noqa: BLE001 -- its errors have no class in common
                    faults.append(f"{file} ({manifest['kind']}), Kubernetes {release}: {error}")
    return faults


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
