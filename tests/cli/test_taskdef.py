"""`taskdef`: what it prints is what ECS and IAM take, and what the README and the examples show."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from discovery.cli.permissions import PERMISSIONS
from discovery.local.server import LocalECS
from tests.cli.conftest import client_of
from tests.cli.programs import run, said_in_one_sentence

TOP = Path(__file__).parents[2]
PROD = "arn:aws:ecs:eu-west-1:123456789012:cluster/prod"
ROLE = "arn:aws:iam::123456789012:role/ecs-discovery"


def printed(*words: str, env: Mapping[str, str] | None = None) -> Any:
    """The document that the command prints."""
    done = run("taskdef", *words, env=env)
    assert (done.code, done.err) == (0, "")
    return done.document


def complaints(task_definition: Mapping[str, Any]) -> str:
    """What botocore's model of RegisterTaskDefinition finds wrong with it."""
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None
    report: str = ParamValidator().validate(dict(task_definition), shape).generate_report()
    return report


def around(container: Mapping[str, Any]) -> dict[str, Any]:
    """A task definition with that container."""
    return {"family": "orders", "networkMode": "awsvpc", "containerDefinitions": [container]}


def test_ecs_takes_the_sidecar() -> None:
    """By botocore's model."""
    assert complaints(around(printed("sidecar", "--image", "us:1"))) == ""


def test_ecs_takes_the_daemon(ecs: LocalECS) -> None:
    """By botocore's model and by registering it."""
    document = printed("daemon", "--role", ROLE)
    assert complaints(document) == ""
    client = client_of(ecs.url)
    registered = client.register_task_definition(**document)["taskDefinition"]
    assert registered["taskRoleArn"] == ROLE


def test_the_model_notices_what_ecs_would_not_take() -> None:
    """So that the two tests above mean something."""
    assert complaints(around(printed("sidecar") | {"stopTimeout": "10"})) != ""


def test_the_clusters_are_handed_on() -> None:
    """As the environment variable has them."""
    sidecar = printed("sidecar", "--cluster", PROD, "--cluster", "us-east-1/stage")
    assert sidecar["environment"] == [
        {"name": "ECS_DISCOVERY_CLUSTER", "value": f"{PROD},us-east-1/stage"}
    ]


def test_what_to_print_has_to_be_said() -> None:
    """One sentence lists what there is."""
    done = run("taskdef")
    assert done.code == 2
    assert "policy" in said_in_one_sentence(done)


def test_a_cluster_that_only_a_file_can_say_is_no_sidecar(tmp_path: Path) -> None:
    """One sentence, with the way out."""
    config = tmp_path / "discovery.toml"
    config.write_text(f'clusters = [{{name = "prod", role_arn = "{ROLE}"}}]\n')
    done = run("taskdef", "sidecar", "--config", str(config))
    assert done.code == 2
    assert "ECS_DISCOVERY_CONFIG" in said_in_one_sentence(done)


def test_it_is_stopped_after_its_last_answer() -> None:
    """ECS must not kill it within the lame-duck time."""
    assert printed("sidecar", "--lame-duck", "20s")["stopTimeout"] > 20


def test_the_readme_names_what_adds_to_the_policy() -> None:
    """Each flag with the action that it adds."""
    said = " ".join((TOP / "README.md").read_text().split())
    plain = actions(printed("policy"))
    for flag in ("--ecs-anywhere", "--public-addresses"):
        (added,) = actions(printed("policy", flag)) - plain
        assert f"`{flag}` adds `{added}`" in said


def test_the_policy_of_the_readme_is_the_one_printed() -> None:
    """Word for word."""
    shown = re.search(r"```json\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert json.loads(shown[1]) == printed("policy", "--cluster", PROD)


@pytest.mark.parametrize("name", ["sidecar-daemon.json", "sidecar-awsvpc.json"])
def test_the_examples_have_the_container_that_is_printed(name: str) -> None:
    """They say no other than the command."""
    example = json.loads((TOP / "examples" / name).read_text())
    ours = next(c for c in example["containerDefinitions"] if c["name"] == "discovery")
    if "daemon" in name:
        assert example == printed("daemon", "--role", ROLE)
    else:
        assert ours == printed("sidecar")
    assert complaints(example) == ""


def test_a_cluster_by_name_is_meant_in_every_partition() -> None:
    """China's and GovCloud's, too."""
    (condition,) = printed("policy", "--cluster", "us-gov-west-1/prod")["Statement"][0][
        "Condition"
    ].values()
    assert condition == {"ecs:cluster": "arn:*:ecs:us-gov-west-1:*:cluster/prod"}


def actions(policy: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for statement in policy["Statement"]:
        listed = statement["Action"]
        found |= {listed} if isinstance(listed, str) else set(listed)
    return found


def test_settings_add_what_they_need() -> None:
    """And leave out what nobody calls."""
    plain, public = printed("policy"), printed("policy", "--public-addresses")
    assert actions(public) - actions(plain) == {"ec2:DescribeNetworkInterfaces"}
    anywhere = printed("policy", "--ecs-anywhere")
    assert actions(anywhere) - actions(plain) == {"ssm:DescribeInstanceInformation"}
    fewer = printed("policy", "--no-target-health")
    assert actions(plain) - actions(fewer) == {"elasticloadbalancing:DescribeTargetHealth"}


def test_a_queue_of_events_is_in_the_policy() -> None:
    """That queue alone, and nothing where there is none."""
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
    (statement,) = [
        each
        for each in printed("policy", "--events", queue)["Statement"]
        if each["Sid"] == "ReceiveEvents"
    ]
    assert statement["Resource"] == "arn:aws:sqs:eu-west-1:123456789012:events"
    assert "sqs:ReceiveMessage" in statement["Action"]
    assert "sqs:ReceiveMessage" not in actions(printed("policy"))


@pytest.mark.parametrize(
    ("queue", "arn"),
    [
        ("events", "arn:aws-us-gov:sqs:us-gov-west-1:*:events"),
        ("arn:aws-cn:sqs:cn-north-1:1:events", "arn:aws-cn:sqs:cn-north-1:1:events"),
        (
            "https://sqs.us-gov-east-1.amazonaws.com/1/events",
            "arn:aws-us-gov:sqs:us-gov-east-1:1:events",
        ),
    ],
)
def test_a_queue_is_named_in_its_region_and_partition(queue: str, arn: str) -> None:
    """By name it is in the first cluster's region."""
    statements = printed("policy", "--cluster", "us-gov-west-1/prod", "--events", queue)
    (resource,) = [s["Resource"] for s in statements["Statement"] if s["Sid"] == "ReceiveEvents"]
    assert resource == arn


def test_a_queue_of_events_is_in_the_sidecar_s_environment() -> None:
    """As the setting has it."""
    found = printed("sidecar", "--events", "events")["environment"]
    assert {"name": "ECS_DISCOVERY_EVENTS", "value": "events"} in found


def test_a_role_to_assume_is_in_the_policy(tmp_path: Path) -> None:
    """Of the account that assumes it."""
    config = tmp_path / "discovery.toml"
    config.write_text(f'clusters = [{{name = "prod", role_arn = "{ROLE}"}}]\n')
    policy = printed("policy", "--config", str(config))
    assert "sts:AssumeRole" in actions(policy)
    assert policy["Statement"][-1]["Resource"] == ROLE


def test_every_action_is_one_of_aws() -> None:
    """By botocore's models; the names of the services are IAM's."""
    session = botocore.session.get_session()
    services = {"elasticloadbalancing": "elbv2"}
    for permission in PERMISSIONS:
        service, _, operation = permission.action.partition(":")
        model = session.get_service_model(services.get(service, service))
        assert operation in model.operation_names


def test_the_trust_is_for_tasks() -> None:
    """Nobody else may assume the role."""
    (statement,) = printed("trust")["Statement"]
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
