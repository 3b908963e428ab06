"""`serve --overrides`: what a person decides is what DNS, HTTP and `explain` say."""

from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype

from discovery.local.server import LocalECS
from tests.cli.programs import background, run, said_in_one_sentence
from tests.cli.test_serve import FLAGS, TIMEOUT_S, Served

ALIAS = """
[[alias]]
name = "site"
failover = ["idle", "web"]
until = "forever"
"""
EXCLUDE = """
[[exclude]]
service = "web"
task = "{task}"
until = 2100-01-01T00:00:00Z
reason = "kept for a look"
"""


def asked(
    served: Served, name: str, kind: dns.rdatatype.RdataType
) -> list[dns.rdatatype.RdataType]:
    """The types of the records in the answer section, one for each record."""
    host, _, port = served.dns.rpartition(":")
    query = dns.message.make_query(f"{name}.prod.ecs.internal.", kind)
    answer = dns.query.udp(query, host, timeout=TIMEOUT_S, port=int(port))
    return [rrset.rdtype for rrset in answer.answer for _ in rrset]


def test_a_sidecar_goes_by_the_file_while_it_runs(ecs: LocalECS, tmp_path: Path) -> None:
    """An alias that fails over, a task that is excluded, and a mistake that changes nothing."""
    file = tmp_path / "overrides.toml"
    file.write_text(ALIAS)
    aws = ecs.environment()
    words = ("serve", *FLAGS, "--cluster", "prod", "--overrides", str(file))
    with background(*words, env=aws) as running:
        served = Served(running)
        body = served.wait_until("/v1/endpoints/site", '"task_arn"')
        first, second = (e["task_arn"] for e in body["endpoints"])
        assert asked(served, "site", dns.rdatatype.SRV) == [dns.rdatatype.SRV] * 2
        assert set(asked(served, "site", dns.rdatatype.A)) == {dns.rdatatype.A}
        assert "site" in [s["name"] for s in served.get("/v1/services")[1]["services"]]

        file.write_text(ALIAS + EXCLUDE.format(task=first.rpartition("/")[2]))
        running.until("overrides: 2 in force")
        served.wait_until("/v1/explain/web", "kept for a look")
        for name in ("web", "site"):
            left = served.get(f"/v1/endpoints/{name}")[1]
            assert [e["task_arn"] for e in left["endpoints"]] == [second]
            assert [e["task_arn"] for e in left["excluded"]] == [first]
            assert asked(served, name, dns.rdatatype.SRV) == [dns.rdatatype.SRV]

        file.write_text("[[exclude]]\nservice = 'web'\n")
        running.until("the last good file stays in force")
        assert len(served.get("/v1/endpoints/web")[1]["endpoints"]) == 1

        done = run("resolve", "site", "--cluster", "prod", "--overrides", str(file), env=aws)
        assert done.code == 2
        assert "exclude[0].until" in said_in_one_sentence(done)


def test_one_command_goes_by_it_too(ecs: LocalECS, tmp_path: Path) -> None:
    """`resolve` and `ls` see what a sidecar sees, from the environment as well."""
    file = tmp_path / "overrides.toml"
    file.write_text(ALIAS)
    env = {**ecs.environment(), "ECS_DISCOVERY_OVERRIDES": str(file)}
    found = run("resolve", "site", "--cluster", "prod", "--json", env=env)
    assert len(found.document["endpoints"]) == 2
    listed = run("ls", "--cluster", "prod", "--json", env=env).document["services"]
    assert {s["name"] for s in listed} == {"idle", "site", "web"}
    none = run("resolve", "web", "--cluster", "prod", "--enable", "tagged", env=env)
    assert none.code == 1
