"""Tasks as real processes: every shape answers where the API says it does."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from discovery.local.server import LocalECS
from tests.local.strict import Api
from tests.local.waiting import define, described, refused, run, settled, until

VPC = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
HIGH = {"portMappings": [{"containerPort": 18080}]}


def page(host: str, port: int) -> Any:
    """What the built-in server answers."""
    name = f"[{host}]" if ":" in host else host
    with urlopen(f"http://{name}:{port}/", timeout=5) as answer:
        return json.load(answer)


def address(api: Api, task: Any) -> str:
    """The private address of a task's host, as a client finds it."""
    hosts = api.ecs(
        "DescribeContainerInstances",
        cluster="demo",
        containerInstances=[task["containerInstanceArn"]],
    )["containerInstances"]
    name = hosts[0]["ec2InstanceId"]
    if name.startswith("mi-"):
        wanted = [{"Key": "InstanceIds", "Values": [name]}]
        found = api.call("ssm", "DescribeInstanceInformation", Filters=wanted)
        return str(found["InstanceInformationList"][0]["IPAddress"])
    found = api.ec2("DescribeInstances", Filters=[{"Name": "instance-id", "Values": [name]}])
    return str(found["Reservations"][0]["Instances"][0]["PrivateIpAddress"])


def bindings(task: Any) -> list[Any]:
    """The bindings of a task's first container."""
    found: list[Any] = task["containers"][0]["networkBindings"]
    return found


def test_bridge_task_answers_on_its_dynamic_port(api: Api) -> None:
    """Two tasks of one definition on one host have different ports, and both answer."""
    define(api)
    arns = [run(api) for _ in range(4)]
    tasks = [settled(api, arn) for arn in arns]
    where = [(address(api, task), bindings(task)[0]["hostPort"]) for task in tasks]
    assert len(set(where)) == 4
    assert [page(*each)["task"] for each in where] == [arn.rsplit("/", 1)[-1] for arn in arns]
    assert all(49153 <= port <= 65535 for _, port in where)


def test_fixed_port_is_used_as_given(api: Api) -> None:
    """The host port of the definition is the one."""
    define(api, container={"portMappings": [{"containerPort": 80, "hostPort": 18081}]})
    task = settled(api, run(api))
    assert bindings(task) == [
        {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 18081, "protocol": "tcp"}
    ]
    assert page(address(api, task), 18081)["container"] == "app"


def test_host_task_answers_on_its_container_port_without_bindings(api: Api) -> None:
    """Host mode: the instance's address and the container's port."""
    define(api, networkMode="host", container=HIGH)
    task = settled(api, run(api))
    assert bindings(task) == []
    assert page(address(api, task), 18080)["family"] == "web"


def test_awsvpc_task_has_an_address_of_its_own(api: Api) -> None:
    """Two awsvpc tasks on one host use one port on two addresses."""
    define(api, networkMode="awsvpc", container=HIGH)
    tasks = [settled(api, run(api, networkConfiguration=VPC)) for _ in range(4)]
    addresses = {
        task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for task in tasks
    }
    assert len(addresses) == 4
    assert all(page(each, 18080)["port"] == 18080 for each in addresses)


def test_fargate_task_has_an_interface_that_ec2_knows(api: Api) -> None:
    """The attachment's interface leads to the public address."""
    define(
        api,
        networkMode="awsvpc",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        container=HIGH,
    )
    task = settled(api, run(api, launchType="FARGATE", networkConfiguration=VPC))
    details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    wanted = [details["networkInterfaceId"]]
    found = api.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=wanted)
    interface = found["NetworkInterfaces"][0]
    assert interface["PrivateIpAddress"] == details["privateIPv4Address"]
    assert page(interface["Association"]["PublicIp"], 18080)["container"] == "app"
    assert "containerInstanceArn" not in task


def test_external_task_is_found_through_ssm(ecs: LocalECS, api: Api) -> None:
    """An ECS Anywhere host has its address in SSM only."""
    ecs.add_instances("demo", 1, external=True)
    define(api)
    task = settled(api, run(api, launchType="EXTERNAL"))
    assert page(address(api, task), bindings(task)[0]["hostPort"])["container"] == "app"


def test_range_is_bound_in_one_block(api: Api) -> None:
    """A range binding has only ranges, and every port of it answers."""
    mapping = {"containerPortRange": "7000-7002", "protocol": "tcp"}
    define(api, container={"portMappings": [mapping]})
    task = settled(api, run(api))
    (binding,) = bindings(task)
    assert binding.keys() == {"bindIP", "containerPortRange", "hostPortRange", "protocol"}
    first, last = (int(each) for each in binding["hostPortRange"].split("-"))
    assert last - first == 2
    for port in range(first, last + 1):
        assert page(address(api, task), port)["port"] == port


def test_split_range_arrives_as_single_bindings(ecs: LocalECS, api: Api) -> None:
    """On a host without a free block each port is bound alone."""
    (host,) = ecs.add_instances("demo", 1, split_ranges=True)
    define(api, container={"portMappings": [{"containerPortRange": "7000-7002"}]})
    answer = api.ecs("StartTask", cluster="demo", taskDefinition="web", containerInstances=[host])
    task = settled(api, answer["tasks"][0]["taskArn"])
    assert [each["containerPort"] for each in bindings(task)] == [7000, 7001, 7002]


@pytest.mark.parametrize("kind", ["same", "different"])
def test_both_address_families_are_bound(ecs: LocalECS, api: Api, kind: str) -> None:
    """Such a host binds `0.0.0.0` and `::`, and both answer."""
    (host,) = ecs.add_instances("demo", 1, ipv6_bindings=kind)
    define(api)
    answer = api.ecs("StartTask", cluster="demo", taskDefinition="web", containerInstances=[host])
    task = settled(api, answer["tasks"][0]["taskArn"])
    four, six = bindings(task)
    assert (four["bindIP"], six["bindIP"]) == ("0.0.0.0", "::")
    assert (four["hostPort"] == six["hostPort"]) is (kind == "same")
    assert (
        page(address(api, task), four["hostPort"])["task"] == page("::1", six["hostPort"])["task"]
    )


def test_udp_port_echoes(api: Api) -> None:
    """The built-in server sends datagrams back."""
    define(api, container={"portMappings": [{"containerPort": 53, "protocol": "udp"}]})
    task = settled(api, run(api))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"hello", (address(api, task), bindings(task)[0]["hostPort"]))
        assert client.recv(100) == b"hello"


def test_network_mode_none_listens_nowhere(api: Api) -> None:
    """It has neither bindings nor interfaces."""
    define(api, networkMode="none", container={"portMappings": []})
    container = settled(api, run(api))["containers"][0]
    assert container["networkBindings"] == container["networkInterfaces"] == []


def test_own_program_runs_with_its_environment(api: Api, tmp_path: Path) -> None:
    """A command of this machine is run as given, with HOST, PORT and the metadata's address."""
    out = tmp_path / "env"
    script = f'echo "$HOST $PORT $PORT_80 $COLOUR $ECS_CONTAINER_METADATA_URI_V4" > {out}; sleep 60'
    define(
        api,
        container={
            "command": ["sh", "-c", script],
            "environment": [{"name": "COLOUR", "value": "red"}],
        },
    )
    task = settled(api, run(api))
    host, port, again, colour, url = until(
        lambda: out.read_text().split() if out.exists() and out.read_text() else []
    )
    assert (host, colour) == (address(api, task), "red")
    assert port == again == str(bindings(task)[0]["hostPort"])
    with urlopen(f"{url}/task", timeout=5) as answer:
        assert json.load(answer)["TaskARN"] == task["taskArn"]


def test_sigterm_comes_before_sigkill(api: Api, tmp_path: Path) -> None:
    """A program that handles SIGTERM ends with its own exit code."""
    ready = tmp_path / "ready"
    script = f"trap 'exit 7' TERM; touch {ready}; while :; do sleep 0.05; done"
    define(api, container={"command": ["sh", "-c", script], "portMappings": []})
    arn = run(api)
    settled(api, arn)
    until(ready.exists)
    api.ecs("StopTask", cluster="demo", task=arn)
    assert settled(api, arn, "STOPPED")["containers"][0]["exitCode"] == 7


def test_sigterm_is_for_the_program_alone(api: Api, tmp_path: Path) -> None:
    """What it has started goes on until it ends, so that an entrypoint may delay the signal."""
    ready, out = tmp_path / "ready", tmp_path / "out"
    child = f"trap 'echo child >> {out}; exit' TERM; touch {ready}; while :; do sleep 0.05; done"
    script = f"sh -c \"{child}\" & trap 'echo own >> {out}; sleep 0.5; exit 7' TERM;"
    script += " while :; do sleep 0.05; done"
    define(api, container={"command": ["sh", "-c", script], "portMappings": []})
    arn = run(api)
    settled(api, arn)
    until(ready.exists, 30)
    api.ecs("StopTask", cluster="demo", task=arn)
    assert settled(api, arn, "STOPPED")["containers"][0]["exitCode"] == 7
    assert out.read_text().split() == ["own"]


def test_program_that_ignores_sigterm_is_killed(api: Api) -> None:
    """After stopTimeout its exit code is 137."""
    define(
        api,
        container={
            "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"],
            "portMappings": [],
            "stopTimeout": 2,
        },
    )
    arn = run(api)
    settled(api, arn)
    api.ecs("StopTask", cluster="demo", task=arn)
    assert settled(api, arn, "STOPPED")["containers"][0]["exitCode"] == 137


def test_health_check_is_really_executed(api: Api, tmp_path: Path) -> None:
    """The verdict follows the command's exit code."""
    flag = tmp_path / "ok"
    flag.touch()
    check = {"command": ["CMD-SHELL", f"test -e {flag}"], "interval": 5, "timeout": 2, "retries": 1}
    define(api, container={"healthCheck": check})
    arn = run(api)
    settled(api, arn)
    until(lambda: described(api, arn)["healthStatus"] == "HEALTHY")
    flag.unlink()
    until(lambda: described(api, arn)["healthStatus"] == "UNHEALTHY")
    assert described(api, arn)["lastStatus"] == "RUNNING"


def test_killed_process_is_seen_and_replaced(ecs: LocalECS, api: Api) -> None:
    """A crash stops the task; its service starts another."""
    define(api)
    api.ecs("CreateService", cluster="demo", serviceName="s", taskDefinition="web", desiredCount=1)
    (arn,) = until(lambda: api.ecs("ListTasks", cluster="demo", serviceName="s")["taskArns"])
    settled(api, arn)
    ecs.kill_process(arn)
    task = settled(api, arn, "STOPPED")
    assert (task["stopCode"], task["containers"][0]["exitCode"]) == (
        "EssentialContainerExited",
        137,
    )
    (other,) = until(lambda: api.ecs("ListTasks", cluster="demo", serviceName="s")["taskArns"])
    assert other != arn
    settled(api, other)


def test_port_in_use_fails_the_start(api: Api) -> None:
    """A fixed port that something else holds is the container's reason."""
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        define(api, container={"portMappings": [{"containerPort": 80, "hostPort": port}]})
        hosts = api.ecs("ListContainerInstances", cluster="demo")["containerInstanceArns"]
        answer = api.ecs(
            "StartTask", cluster="demo", taskDefinition="web", containerInstances=hosts[:1]
        )
        task = settled(api, answer["tasks"][0]["taskArn"], "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert f"Address already in use: 127.0.0.2:{port}" in task["containers"][0]["reason"]


def test_lost_host_stops_answering_while_its_tasks_are_running(ecs: LocalECS, api: Api) -> None:
    """The agent is disconnected, the port refuses, the API still says RUNNING."""
    define(api)
    task = settled(api, run(api))
    host, port = address(api, task), bindings(task)[0]["hostPort"]
    ecs.lose_host(task["containerInstanceArn"])
    until(lambda: refused(host, port))
    assert described(api, task["taskArn"])["lastStatus"] == "RUNNING"
    found = api.ecs(
        "DescribeContainerInstances",
        cluster="demo",
        containerInstances=[task["containerInstanceArn"]],
    )
    assert found["containerInstances"][0]["agentConnected"] is False


def test_output_is_kept_where_wanted(tmp_path: Path) -> None:
    """One file for each container."""
    with LocalECS("127.0.0.1:0", log_dir=str(tmp_path)) as ecs:
        ecs.add_cluster("demo")
        ecs.add_instances("demo", 1)
        api = Api(ecs)
        define(api, container={"command": ["sh", "-c", "echo hello; echo world >&2"]})
        arn = run(api)
        settled(api, arn, "STOPPED")
    (log,) = tmp_path.iterdir()
    assert log.name == f"{arn.rsplit('/', 1)[-1]}-app.log"
    assert log.read_text() == "hello\nworld\n"


def test_slowly_booting_task_runs_before_it_listens(api: Api) -> None:
    """RUNNING with bindings, and refused until the boot is over."""
    define(api, container={"dockerLabels": {"local.boot-seconds": "8"}})
    task = settled(api, run(api))
    host, port = address(api, task), bindings(task)[0]["hostPort"]
    assert refused(host, port)
    until(lambda: not refused(host, port), 60)
    assert page(host, port)["task"] == task["taskArn"].rsplit("/", 1)[-1]


def test_boot_may_be_slow_for_every_container(ecs: LocalECS, api: Api) -> None:
    """As long as the fault is on; a task stopped while it boots ends at once."""
    define(api)
    with ecs.faults.slow_boot(600):
        arn = run(api)
        task = settled(api, arn)
    assert refused(address(api, task), bindings(task)[0]["hostPort"])
    api.ecs("StopTask", cluster="demo", task=arn)
    settled(api, arn, "STOPPED")
    task = settled(api, run(api))
    until(lambda: not refused(address(api, task), bindings(task)[0]["hostPort"]), 30)
