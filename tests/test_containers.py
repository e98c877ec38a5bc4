"""The files for more than one computer: nobody ran them here, so each is held to named rules."""

import fnmatch
import json
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from mbm_lab import place

COURSE = place.COURSE
DOCKERFILE = COURSE / "Dockerfile"
DEVCONTAINER = COURSE / ".devcontainer" / "devcontainer.json"
HELM = COURSE / "workshop" / "zero-to-jupyterhub.yaml"

# What may stand at the places of the files, and of which kind (containers.dev, z2jh.jupyter.org).
DEVCONTAINER_KEYS = {
    "name": str,
    "build": dict,
    "remoteUser": str,
    "hostRequirements": dict,
    "forwardPorts": list,
    "portsAttributes": dict,
    "postAttachCommand": str,
}
HELM_KEYS = {
    "singleuser": "image cmd defaultUrl extraEnv memory cpu storage startTimeout",
    "singleuser.image": "name tag",
    "singleuser.memory": "guarantee limit",
    "singleuser.cpu": "guarantee limit",
    "singleuser.storage": "capacity",
    "hub": "config concurrentSpawnLimit",
    "hub.config": "JupyterHub NativeAuthenticator Authenticator",
    "proxy": "https",
    "proxy.https": "enabled hosts letsencrypt",
    "cull": "enabled timeout every",
}


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, with continued lines in one."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0].upper(), line.split(None, 1)[1]) for line in lines if line.strip()]


def faults(text: str) -> list[str]:
    """The rules that a Dockerfile breaks."""
    steps = instructions(text)
    first = next((rest for name, rest in steps if name == "FROM"), "")
    users = [rest for name, rest in steps if name == "USER"]
    runs = [rest for name, rest in steps if name == "RUN"]
    broken = []
    if ":" not in first or first.endswith(":latest"):
        broken.append("the base is pinned")
    if not users or users[-1].strip() in ("root", "0"):
        broken.append("no root at the end")
    if any(" install " in run and "-c constraints.txt" not in part and "install" in part
           for run in runs for part in run.split("&&")):  # fmt: skip
        broken.append("constraints are in force")
    if any(re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", run) for run in runs):
        broken.append("nothing from the net is run unseen")
    if any(name == "ADD" for name, _ in steps):
        broken.append("files are copied, not added")
    if not any(name == "ARG" and rest.startswith("NB_UID=1000") for name, rest in steps):
        broken.append("Binder's user is number 1000")
    if not any("--torch-backend=cpu" in run for run in runs):
        broken.append("PyTorch is the one for CPUs")
    if not steps[-1][0] == "CMD" or not steps[-1][1].startswith("["):
        broken.append("it ends with a command in brackets")
    return broken


def test_the_dockerfile_breaks_no_rule():
    assert faults(DOCKERFILE.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("FROM python:3.13-slim-trixie", "FROM python:latest", "the base is pinned"),
        ("FROM python:3.13-slim-trixie", "FROM python", "the base is pinned"),
        ("USER ${NB_USER}", "USER root", "no root at the end"),
        ("USER ${NB_USER}\n", "", "no root at the end"),
        ("-c constraints.txt jupyterhub -e .", "jupyterhub -e .", "constraints are in force"),
        ("COPY . .", "RUN curl https://x.org/y | sh", "nothing from the net is run unseen"),
        ("COPY . .", "ADD . .", "files are copied, not added"),
        ("NB_UID=1000", "NB_UID=1001", "Binder's user is number 1000"),
        ("--torch-backend=cpu ", "", "PyTorch is the one for CPUs"),
        ('CMD ["mbm-lab", "lab", ', 'CMD "mbm-lab lab" ', "it ends with a command in brackets"),
    ],
)
def test_each_rule_notices_a_dockerfile_that_breaks_it(old, new, rule):
    text = DOCKERFILE.read_text()
    assert old in text
    assert faults(text.replace(old, new)) == [rule]


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (it is not made for Windows)")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0


def test_what_the_dockerfile_copies_and_calls_is_there(capsys):
    for name, rest in instructions(DOCKERFILE.read_text()):
        if name == "COPY":
            for source in rest.split()[:-1]:
                assert (COURSE / source).exists()
        if name == "CMD":
            from mbm_lab.__main__ import _parser

            assert json.loads(rest)[0] == "mbm-lab"
            options = _parser().parse_args(json.loads(rest)[1:])
            assert options.ip == "0.0.0.0"


def test_the_image_takes_the_data_and_leaves_what_is_private():
    rules = (COURSE / ".dockerignore").read_text().splitlines()
    ignored = [rule for rule in rules if rule and not rule.startswith("#")]

    def is_left_out(path):
        return any(fnmatch.fnmatch(path, rule.removeprefix("**/")) for rule in ignored)

    for path in ("my_lessons", ".venv", ".git", "secrets", "key.pem"):
        assert is_left_out(path)
    for path in ("data", "notebooks", "mbm_lab", "workshop", "constraints.txt", "pyproject.toml"):
        assert not is_left_out(path)


def test_the_devcontainer_uses_the_image_and_only_known_keys():
    told = json.loads(DEVCONTAINER.read_text())
    for key, value in told.items():
        assert isinstance(value, DEVCONTAINER_KEYS[key])
    assert (DEVCONTAINER.parent / told["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert (DEVCONTAINER.parent / told["build"]["context"]).resolve() == COURSE
    user = re.search(r"NB_USER=(\w+)", DOCKERFILE.read_text())[1]
    assert told["remoteUser"] == user
    assert set(told["portsAttributes"]) == {str(port) for port in told["forwardPorts"]}
    assert re.fullmatch(r"\d+gb", told["hostRequirements"]["memory"])
    assert told["postAttachCommand"].startswith("mbm-lab lab --port 8888")


def test_the_helm_values_have_only_known_keys_and_pinned_limited_servers():
    values = yaml.safe_load(HELM.read_text())
    assert set(values) == {"singleuser", "hub", "proxy", "cull"}
    for place_, keys in HELM_KEYS.items():
        found = values
        for step in place_.split("."):
            found = found[step]
        assert set(found) <= set(keys.split()), place_
    server = values["singleuser"]
    assert server["image"]["tag"] not in ("", "latest")
    assert server["memory"]["limit"] == "2G"
    assert server["cmd"][2] == "workshop.learner_server"
    assert (COURSE / "workshop" / "learner_server.py").exists()
    assert server["extraEnv"]["PYTHONPATH"] in DOCKERFILE.read_text()
    assert all(isinstance(value, str) for value in server["extraEnv"].values())
    assert values["proxy"]["https"]["enabled"]
    assert values["cull"]["enabled"]
    secret = ("password", "token", "secret")
    assert not re.search(rf"^\s*\w*({'|'.join(secret)})\w*: *[^\s#\d]", HELM.read_text(), re.M)


def test_what_was_only_checked_is_said_to_be_so():
    """In CONTRIBUTING.md's table, until somebody has seen it run: then change both."""
    table = (COURSE / "CONTRIBUTING.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("|")]
    for what in ("Dockerfile", "Binder", "Codespaces", "Kubernetes"):
        assert any(what in row and "not yet" in row for row in rows), what
