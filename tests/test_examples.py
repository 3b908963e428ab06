"""The examples run as they stand."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import botocore.validate
import pytest

from discovery.local.server import LocalECS

EXAMPLES = Path(__file__).parents[1] / "examples"
BIN = Path(sys.executable).parent
TASK_DEFINITIONS = sorted(EXAMPLES.glob("sidecar-*.json"))


def environment(**more: str) -> dict[str, str]:
    """This environment, with the programs beside this Python first."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **more}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def need(program: str, fix: str) -> None:
    """Skip the test where the program is missing; where CI is set, that is a failure."""
    if shutil.which(program, path=environment()["PATH"]):
        return
    say = pytest.fail if os.environ.get("CI") else pytest.skip
    say(f"{program} is missing: {fix}")


def test_the_walkthrough_runs_to_its_end() -> None:
    """From an empty cluster to curl with the real AWS CLI, in one go, past profiles and proxies."""
    need("aws", "pip install awscli")
    need("curl", "apt-get install curl")
    elsewhere = {"AWS_PROFILE": "nobody", "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(
        ["sh", str(EXAMPLES / "walkthrough.sh")],
        env=environment(LISTEN=f"127.0.0.1:{free_port()}", **elsewhere),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("### Done")
    for line in ("$ aws ecs create-cluster", "$ ecs-discovery resolve web", "$ curl"):
        assert line in done.stdout


def test_the_walkthrough_leaves_another_local_ecs_alone() -> None:
    """The demo, say, at the same address: it would get clusters that nobody ends."""
    need("aws", "pip install awscli")
    need("curl", "apt-get install curl")
    with LocalECS(listen="127.0.0.1:0") as ecs:
        done = subprocess.run(
            ["sh", str(EXAMPLES / "walkthrough.sh")],
            env=environment(LISTEN=ecs.url.removeprefix("http://")),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "create-cluster" not in done.stdout
    assert "is in use" in done.stderr
    assert "LISTEN=" in done.stderr


@pytest.mark.parametrize("missing", ["ecs-discovery", "aws", "curl"])
def test_the_walkthrough_says_what_it_needs(tmp_path: Path, missing: str) -> None:
    """One sentence with the fix, before anything is started."""
    script = tmp_path / "examples" / "walkthrough.sh"
    script.parent.mkdir()
    script.write_text((EXAMPLES / "walkthrough.sh").read_text())
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in {"ecs-discovery", "aws", "curl", "python3"} - {missing}:
        (bin_ / name).write_text("#!/bin/sh\nexit 0\n")
        (bin_ / name).chmod(0o755)
    (bin_ / "dirname").symlink_to(str(shutil.which("dirname")))
    done = subprocess.run(
        [str(shutil.which("sh")), str(script)],
        env={"PATH": str(bin_)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{missing} is missing: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_image_is_built_of_what_there_is() -> None:
    """Every path that is copied exists, and it is the image that task definitions name."""
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert [name for name in copied if not (EXAMPLES.parent / name).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "discovery"} == set(copied)
    ignored = (EXAMPLES.parent / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    (tag,) = [word for line in lines if "docker build" in line for word in line.split()[-2:-1]]
    for path in TASK_DEFINITIONS:
        assert f'"{tag}:latest"' in path.read_text()


def test_import_and_resolve_prints_what_runs() -> None:
    """The program finds the service's tasks and calls one."""
    with LocalECS(listen="127.0.0.1:0") as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 1)
        client = boto3.client(
            "ecs",
            endpoint_url=ecs.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        client.register_task_definition(
            family="web",
            containerDefinitions=[
                {
                    "name": "web",
                    "image": "nginx",
                    "memory": 32,
                    "portMappings": [{"containerPort": 80, "hostPort": 0}],
                }
            ],
        )
        client.create_service(
            cluster="demo", serviceName="web", taskDefinition="web", desiredCount=1
        )
        client.get_waiter("services_stable").wait(
            cluster="demo", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
        client.close()
        done = run_import_and_resolve(ecs, "web")
        lost = run_import_and_resolve(ecs, "wbe")
    assert done.returncode == 0, done.stderr
    assert "127.0.0.2:" in done.stdout
    assert "-> 200" in done.stdout
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "web.demo" in lost.stderr


def run_import_and_resolve(ecs: LocalECS, service: str) -> "subprocess.CompletedProcess[str]":
    """The example as a process of its own."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "import_and_resolve.py"), "demo", service],
        env=environment(**ecs.environment()),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("path", TASK_DEFINITIONS, ids=lambda path: str(path.name))
def test_task_definitions_are_what_ecs_takes(path: Path) -> None:
    """Every member is one of RegisterTaskDefinition's, of the right type."""
    definition: dict[str, Any] = json.loads(path.read_text())
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    report = botocore.validate.ParamValidator().validate(definition, shape)
    assert not report.has_errors(), report.generate_report()
    assert definition.keys() <= shape.members.keys()


def test_the_churn_tests_pass() -> None:
    """As a user would run them, with the plugin and nothing of our own tests."""
    words = ["pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(EXAMPLES)]
    done = subprocess.run(
        [sys.executable, "-m", *words, str(EXAMPLES / "test_churn.py")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
