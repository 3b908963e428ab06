"""Templates in `examples/`: each passes its linter, and says what `taskdef` prints."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from tests.cli.programs import run
from tests.cli.test_taskdef import complaints

EXAMPLES = Path(__file__).parents[1] / "examples"
CLOUDFORMATION = sorted(EXAMPLES.glob("*.cloudformation.yaml"))
TERRAFORM = sorted(EXAMPLES.glob("*.tf"))
OURS = "discovery"


def checked(*words: str) -> subprocess.CompletedProcess[str]:
    """A linter's run; a skip where it is not installed."""
    program = shutil.which(words[0], path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip(f"{words[0]} is not installed")
    return subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", CLOUDFORMATION, ids=lambda path: path.name)
def test_cloudformation_passes_its_linter(path: Path) -> None:
    """Types, required properties, references."""
    done = checked("cfn-lint", str(path))
    assert done.returncode == 0, done.stdout


def test_the_linter_notices_what_is_wrong(tmp_path: Path) -> None:
    """So that the test above means something."""
    broken = tmp_path / "broken.yaml"
    text = (EXAMPLES / "daemon.cloudformation.yaml").read_text()
    broken.write_text(text.replace("NetworkMode: host", "NetworkMod: host"))
    assert checked("cfn-lint", str(broken)).returncode != 0


def test_the_dockerfile_passes_its_linter() -> None:
    """hadolint knows what makes images large and builds unrepeatable."""
    done = checked("hadolint", str(EXAMPLES / "Dockerfile"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", TERRAFORM, ids=lambda path: path.name)
def test_terraform_can_be_parsed(path: Path) -> None:
    """It has resources."""
    with path.open() as file:
        assert hcl2.load(file)["resource"]


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's own tags, which stand for values that are not known here."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix}")


def resources(name: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """The properties of the resources of a kind."""
    template = yaml.load((EXAMPLES / name).read_text(), Loader)  # a SafeLoader
    for resource in template["Resources"].values():
        if resource["Type"] == kind:
            yield resource["Properties"]


def printed(*words: str) -> Any:
    """What `taskdef` prints."""
    return run("taskdef", *words).document


def lower(value: Any) -> Any:
    """Members as the ECS API has them: with a small first letter."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: lower(each) for key, each in value.items()}
    return [lower(each) for each in value] if isinstance(value, list) else value


def test_the_daemons_container_is_the_one_that_taskdef_prints() -> None:
    """But for its image and its log."""
    (definition,) = resources("daemon.cloudformation.yaml", "AWS::ECS::TaskDefinition")
    (container,) = lower(definition)["containerDefinitions"]
    (ours,) = printed("daemon")["containerDefinitions"]
    del container["logConfiguration"], container["image"], ours["image"]
    assert container == ours


def test_the_daemons_policy_is_the_one_that_taskdef_prints() -> None:
    """For the cluster that is a parameter."""
    (role,) = resources("daemon.cloudformation.yaml", "AWS::IAM::Role")
    (policy,) = role["Policies"]
    bound, free = policy["PolicyDocument"]["Statement"]
    ours_bound, ours_free = printed("policy", "--cluster", "prod")["Statement"]
    assert bound.pop("Condition") == {"ArnLike": {"ecs:cluster": "!Sub"}}
    del ours_bound["Condition"]
    assert (bound, free) == (ours_bound, ours_free)
    assert role["AssumeRolePolicyDocument"] == printed("trust")


def blocks(name: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """Terraform's resources of a kind; texts have quotes around them, expressions `${…}`."""
    with (EXAMPLES / name).open() as file:
        for resource in hcl2.load(file)["resource"]:
            yield from resource.get(f'"{kind}"', {}).values()


def containers(name: str) -> Any:
    """The container definitions of a Terraform file; expressions are left as texts."""
    (definition,) = blocks(name, "aws_ecs_task_definition")
    written = definition["container_definitions"].removeprefix("${jsonencode(").removesuffix(")}")
    keyed = re.sub(r"([{,] ?)([\w-]+) = ", r'\1"\2": ', written)
    return json.loads(re.sub(r'": ((?:var|data|aws)[\w.-]+)', r'": "\1"', keyed))


def without_expressions(value: Any) -> Any:
    """The same, with everything that stands for a value unknown here alike."""
    if isinstance(value, dict):
        return {key: without_expressions(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_expressions(each) for each in value]
    unknown = isinstance(value, str) and re.match(r"!|(var|data|aws_\w+)\.", value)
    return "?" if unknown else value


@pytest.mark.parametrize("name", ["daemon", "hubs"])
def test_terraform_runs_the_container_that_cloudformation_runs(name: str) -> None:
    """Member for member, and ECS takes it."""
    (definition,) = resources(f"{name}.cloudformation.yaml", "AWS::ECS::TaskDefinition")
    ours = containers(f"{name}.tf")
    assert without_expressions(ours) == without_expressions(
        lower(definition)["containerDefinitions"]
    )
    assert complaints({"family": name, "containerDefinitions": ours}) == ""


def unquoted(value: Any) -> str:
    """A text without Terraform's quotes."""
    return str(value).strip('"')


def test_both_kinds_of_hubs_are_checked_and_asked_alike() -> None:
    """The load balancer's check, its ports, and where the Resolver sends questions."""
    name = "hubs.cloudformation.yaml"
    (targets,) = resources(name, "AWS::ElasticLoadBalancingV2::TargetGroup")
    (block,) = blocks("hubs.tf", "aws_lb_target_group")
    (check,) = block["health_check"]
    assert (targets["HealthCheckPath"], targets["HealthCheckPort"]) == ("/ready", "8053")
    assert (unquoted(check["path"]), unquoted(check["port"])) == ("/ready", "8053")
    assert targets["HealthCheckIntervalSeconds"] == check["interval"]
    assert (targets["Protocol"], targets["Port"]) == (unquoted(block["protocol"]), block["port"])
    attributes = {each["Key"]: each["Value"] for each in targets["TargetGroupAttributes"]}
    delay = attributes["deregistration_delay.timeout_seconds"]
    assert int(delay) == block["deregistration_delay"] < 25  # the lame-duck time
    (rule,) = resources(name, "AWS::Route53Resolver::ResolverRule")
    (of_terraform,) = blocks("hubs.tf", "aws_route53_resolver_rule")
    assert rule["RuleType"] == unquoted(of_terraform["rule_type"]) == "FORWARD"
    assert len(rule["TargetIps"]) == len(of_terraform["target_ip"]) == 2


@pytest.mark.parametrize("path", TERRAFORM, ids=lambda path: path.name)
def test_terraform_refers_to_what_there_is(path: Path) -> None:
    """Every variable and resource that an expression names is declared in the file."""
    text = re.sub(r"#.*", "", path.read_text())
    declared = {f"var.{name}" for name in re.findall(r'^variable "(\w+)"', text, re.MULTILINE)}
    found = re.findall(r'^(resource|data) "(\w+)" "(\w+)"', text, re.MULTILINE)
    declared |= {
        f"{'data.' if block == 'data' else ''}{kind}.{name}" for block, kind, name in found
    }
    used = set(re.findall(r"\bvar\.\w+|(?:\bdata\.)?\baws_\w+\.\w+", text))
    assert used - declared == set()
    assert {name for name in declared if name.startswith("var.")} - used == set()


def test_terraform_grants_what_taskdef_prints() -> None:
    """The same actions, bound to the cluster where that is possible."""
    with (EXAMPLES / "daemon.tf").open() as file:
        (data,) = [d for d in hcl2.load(file)["data"] if '"aws_iam_policy_document"' in d]
    (document,) = data['"aws_iam_policy_document"'].values()
    granted = [list(map(unquoted, each["actions"])) for each in document["statement"]]
    assert granted == [each["Action"] for each in printed("policy")["Statement"]]
    (condition,) = document["statement"][0]["condition"]
    assert unquoted(condition["variable"]) == "ecs:cluster"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Where an example runs our program, and with which words."""
    for path in CLOUDFORMATION:
        for definition in resources(path.name, "AWS::ECS::TaskDefinition"):
            for container in definition["ContainerDefinitions"]:
                yield path.name, container["Command"]
    compose = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        yield f"compose.yaml {name}", service["command"]
    for path in sorted(EXAMPLES.glob("sidecar-*.json")):
        for container in json.loads(path.read_text())["containerDefinitions"]:
            if container["name"] == OURS:
                yield path.name, container["command"]


@pytest.mark.parametrize("words", [pytest.param(words, id=where) for where, words in commands()])
def test_the_program_knows_every_word(words: list[str]) -> None:
    """No flag that was renamed since."""
    program, *others = words
    assert program == "ecs-discovery"
    assert run(*others, "--help").code == 0
    known = run(others[0], "--help").out
    assert all(word in known for word in others if word.startswith("--"))


GUIDES = [EXAMPLES.parent / "README.md", *sorted(EXAMPLES.glob("*.md"))]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_link_leads_to_a_file(guide: Path) -> None:
    """Of those that stay within the project."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", guide.read_text())
    assert links
    assert [link for link in links if not (guide.parent / link).exists()] == []
