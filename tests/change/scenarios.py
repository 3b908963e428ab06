"""What can happen to a service: each scenario is a setting and an act, on any stage.

The tests play them short, the benchmark long; an act returns when what it began has ended, and
puts what it alone can tell into the stage's `told`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any

from discovery.local.world import Pace
from tests.change.callers import fetched
from tests.change.fleet import CLUSTER, MEMORY, Shape, until
from tests.change.judging import Answer, share
from tests.change.stage import APP, DNS, LISTENER, TRANSPORT, Setting, Stage

OTHER = "other"
WITHIN = 0.05  # of a revision's share of the traffic
SLOW_START_S = 10.0  # by default; a new task has its whole share afterwards
AFTER = 20  # requests of each caller after the end


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that happens."""

    name: str
    setting: Setting
    act: Callable[[Stage], None]


def rolling(minimum: int, shape: Shape, tasks: int = 4) -> Scenario:
    """Every task is replaced by one of a new revision."""

    def act(stage: Stage) -> None:
        stage.fleet.deploy(APP)
        stage.fleet.settle(APP)
        stage.load.pass_by(AFTER)

    limits = {"minimumHealthyPercent": minimum, "maximumPercent": 200 if minimum == 100 else 100}
    service = {"deploymentConfiguration": limits}
    return Scenario(
        f"rolling deployment, minimumHealthyPercent {minimum}",
        Setting(tasks, shape=shape, service=service),
        act,
    )


def booting(boot_s: float, shape: Shape, tasks: int = 4) -> Scenario:
    """As many tasks again are started, which are RUNNING long before they listen."""

    def act(stage: Stage) -> None:
        before = {life.task for life in stage.lives().values()}
        with stage.fleet.ecs.faults.slow_boot(boot_s):
            stage.fleet.scale(APP, 2 * tasks)
            stage.fleet.settle(APP)
        new = {life.task for life in stage.lives().values()} - before
        for caller in stage.load.names:
            until(lambda c=caller: new <= {a.task for a in stage.load.of(c)})  # type: ignore[misc]

    return Scenario(
        f"boot of {boot_s:g} s without a health check", Setting(tasks, shape=shape), act
    )


def draining(hosts: int, shape: Shape) -> Scenario:
    """A task on each host; all hosts drain, and the tasks are replaced one by one."""

    def act(stage: Stage) -> None:
        old = stage.fleet.instances_with_tasks()
        stage.fleet.add_hosts(hosts)
        stage.fleet.drain(old)
        until(lambda: not set(old) & set(stage.fleet.instances_with_tasks()))
        stage.fleet.settle(APP)
        stage.load.pass_by(AFTER)

    one = ceil(100 / hosts)
    limits = {"minimumHealthyPercent": 100 - one, "maximumPercent": 100 + one}
    setting = Setting(hosts, hosts, shape=shape, service={"deploymentConfiguration": limits})
    return Scenario(f"{hosts} hosts DRAINING, tasks replaced one by one", setting, act)


def spot(tasks: int, shape: Shape, notice_s: float) -> Scenario:
    """A task on each host; three hosts of ten get the notice of a Spot interruption."""

    def act(stage: Stage) -> None:
        gone = stage.fleet.instances_with_tasks()[: ceil(0.3 * tasks)]
        stage.fleet.add_hosts(len(gone))
        for arn in gone:
            stage.fleet.ecs.interrupt_spot(arn)
        until(lambda: not set(gone) & set(_instances(stage)))
        stage.fleet.settle(APP)
        stage.load.pass_by(AFTER)

    pace = Pace(period_scale=notice_s / 120)
    return Scenario(
        "Spot: 30 % of the tasks interrupted", Setting(tasks, tasks, shape=shape, pace=pace), act
    )


def _instances(stage: Stage) -> list[str]:
    found: list[str] = stage.fleet.api.list_container_instances(cluster=CLUSTER)[
        "containerInstanceArns"
    ]
    return found


def shifting(
    strategy: str,
    shape: Shape,
    *,
    tasks: int = 3,
    window: int = 300,
    tries: int = 6,
    steps: Sequence[float] = (100.0,),
    **configuration: Any,
) -> Scenario:
    """Traffic goes to a new revision in these steps of percent, and all back again.

    Each step is measured in windows of so many requests of each caller, the first of which begins
    when nobody should go by what was before any more.
    """

    def act(stage: Stage) -> None:
        until(lambda: _release(stage)["status"] == "SUCCESSFUL")
        stage.fleet.ecs.hold_deployment(CLUSTER, APP)
        stage.fleet.deploy(APP)
        new = stage.fleet.revision(APP)
        # ECS waits for health checks before it shifts: they are left out, and what they do is here.
        until(lambda: _is_full(stage, 2 * tasks) and stage.fleet.listens(APP))
        for percent in steps:
            until(lambda p=percent: _reached(stage, p))  # type: ignore[misc]
            _measure(stage, new, percent, window, tries)
        arn = _release(stage)["serviceDeploymentArn"]
        stage.fleet.api.stop_service_deployment(serviceDeploymentArn=arn)
        _measure(stage, new, 0.0, window, tries, "rolled back")

    wanted = {"strategy": strategy, "bakeTimeInMinutes": 0, **configuration}
    setting = Setting(
        tasks,
        shape=shape,
        service={"deploymentConfiguration": wanted},
        pace=Pace(stage_s=0.1, period_scale=0.02),
    )
    return Scenario(
        f"{strategy.lower().replace('_', '/')} deployment and its rollback", setting, act
    )


def task_sets(shape: Shape, *, tasks: int = 5, window: int = 300, tries: int = 6) -> Scenario:
    """An external controller moves traffic as CodeDeploy does, back again, and then by scale."""

    def act(stage: Stage) -> None:
        fleet = stage.fleet
        (service,) = fleet.api.describe_services(cluster=CLUSTER, services=[APP])["services"]
        blue = service["taskSets"][0]["taskSetArn"]
        green = fleet.add_task_set(APP)
        new = fleet.revision(APP)
        until(lambda: _runs(stage) == 2 * tasks and fleet.listens(APP))
        _measure(stage, new, 0.0, window, tries, "beside the primary")
        fleet.make_primary(APP, green)
        _measure(stage, new, 100.0, window, tries, "primary")
        fleet.make_primary(APP, blue)
        _measure(stage, new, 0.0, window, tries, "rolled back")
        fleet.scale_task_set(APP, green, 40.0)
        fleet.scale_task_set(APP, blue, 60.0)
        until(lambda: _runs(stage) == tasks)
        _measure(stage, new, 40.0, window, tries)

    service = {"deploymentController": {"type": "EXTERNAL"}}
    return Scenario(
        "task sets of an external controller", Setting(tasks, shape=shape, service=service), act
    )


def _runs(stage: Stage) -> int:
    return sum(task["lastStatus"] == "RUNNING" for task in stage.fleet.tasks())


def protected(shape: Shape, tasks: int = 3) -> Scenario:
    """A rolling deployment leaves a protected task alone, which serves on until it is free."""

    def act(stage: Stage) -> None:
        fleet = stage.fleet
        arn = fleet.tasks()[0]["taskArn"]
        fleet.protect(arn, True)
        fleet.deploy(APP)
        until(lambda: _is_alone(stage, arn), "the others were not replaced")
        stage.load.last_for(stage.timing.grace_s)
        answers = stage.load.pass_by(2 * AFTER)
        for caller in stage.load.names:
            mine = [a for a in answers if a.caller == caller and arn.endswith(f"/{a.task}")]
            stage.told[caller] = str(len(mine))
        fleet.protect(arn, False)
        fleet.settle(APP)
        stage.load.pass_by(AFTER)

    return Scenario("rolling deployment with a protected task", Setting(tasks, shape=shape), act)


def _is_alone(stage: Stage, arn: str) -> bool:
    """Whether of the old tasks none but this one is left, and all new ones listen."""
    tasks = stage.fleet.tasks()
    (old,) = [task for task in tasks if task["taskArn"] == arn]
    same = [t for t in tasks if t["taskDefinitionArn"] == old["taskDefinitionArn"]]
    return same == [old] and len(tasks) > 1 and stage.fleet.listens(APP)


def _release(stage: Stage) -> Mapping[str, Any]:
    """The newest service deployment."""
    listed = stage.fleet.api.list_service_deployments(cluster=CLUSTER, service=APP)
    arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
    answer = stage.fleet.api.describe_service_deployments(serviceDeploymentArns=[arn])
    found: Mapping[str, Any] = answer["serviceDeployments"][0]
    return found


def _is_full(stage: Stage, tasks: int) -> bool:
    """Whether so many tasks run; one stage on where they do not."""
    if _runs(stage) == tasks:
        return True
    if _release(stage).get("lifecycleStage") in ("RECONCILE_SERVICE", "PRE_SCALE_UP"):
        stage.fleet.ecs.next_stage(CLUSTER, APP)
    return False


def _reached(stage: Stage, percent: float) -> bool:
    """Whether the new revision has that share; one stage on where it has not."""
    target = _release(stage)["targetServiceRevision"]
    if target.get("requestedProductionTrafficWeight") == percent:
        return True
    stage.fleet.ecs.next_stage(CLUSTER, APP)
    return False


def _measure(
    stage: Stage, revision: str, percent: float, window: int, tries: int, what: str = ""
) -> None:
    """Tell each caller's share, once all are as they should be or nothing is tried any more."""
    stage.load.last_for(stage.timing.grace_s + SLOW_START_S if tries == 1 else 0)
    shares: dict[str, float] = {}
    for _ in range(tries):
        answers = stage.load.pass_by(window, answered=True)
        shares = {c: _share_of(c, answers, revision) for c in stage.load.names}
        if all(is_near(found, percent) for found in shares.values()):
            break
    for caller, found in shares.items():
        name = f"{what or f'{percent:g} %'}, {caller}"
        stage.told[name] = f"{100 * found:.1f} %"
        if not is_near(found, percent):
            stage.missed.append(f"{name}: {100 * found:.1f} %")


def _share_of(caller: str, answers: Sequence[Answer], revision: str) -> float:
    return share([a for a in answers if a.caller == caller], revision)


def is_near(found: float, percent: float) -> bool:
    """Whether a share is what it should be."""
    return abs(found - percent / 100) <= WITHIN


def zone_lost(shape: Shape, after_s: float, tasks: int = 6) -> Scenario:
    """One of three zones vanishes without a word, while ECS says that its tasks run."""

    def act(stage: Stage) -> None:
        lost = stage.fleet.tasks()[0]["availabilityZone"]
        stage.mark("lost")
        stage.fleet.ecs.lose_zone(lost)
        stage.mark("silent")
        stage.load.last_for(after_s)
        until(lambda: not _failed(stage))
        stage.mark("over")

    setting = Setting(tasks, 3, shape=shape, pace=Pace(host_lost_s=600.0))
    return Scenario("zone lost without a word, one third of the tasks", setting, act)


def _failed(stage: Stage) -> list[Answer]:
    """What fails of the next requests of those who should be right by now."""
    new = stage.load.pass_by(2 * AFTER)
    return [a for a in new if a.error and a.caller in (TRANSPORT, LISTENER, DNS)]


def reused(shape: Shape, *, exchanges: int, pause_s: float, hosts: int = 3) -> Scenario:
    """Two services exchange ports: what one gives up is all that the other one can get."""

    def act(stage: Stage) -> None:
        for _ in range(0, exchanges, 2):
            _exchange(stage, _oldest(stage), 2, pause_s)
        stage.load.pass_by(AFTER)
        _tell_exchanged(stage)

    return Scenario("host-port range of two", _on_two_ports(shape, hosts), act)


def reused_unseen(
    shape: Shape, *, exchanges: int, pause_s: float, hosts: int, boot_s: float = 3.0
) -> Scenario:
    """The same, while ECS lets nobody read anything; tasks take a while before they listen."""

    def act(stage: Stage) -> None:
        faults, known = stage.fleet.ecs.faults, _oldest(stage)
        stage.mark("denied")
        with faults.deny("ecs:List*"), faults.deny("ecs:Describe*"), faults.slow_boot(boot_s):
            stage.load.last_for(2 * stage.timing.interval_s)
            _exchange(stage, known, exchanges, pause_s)
        stage.load.pass_by(AFTER)
        _tell_exchanged(stage)

    return Scenario("host-port range of two, permissions denied", _on_two_ports(shape, hosts), act)


def _on_two_ports(shape: Shape, hosts: int) -> Setting:
    """As many tasks of either service as hosts, each of which has room for two."""
    shape = replace(shape, drain_s=0.0)
    options = {"host_ports": (40_001, 40_002), "memory": 2 * MEMORY}
    pace = Pace(retry_s=0.1)
    return Setting(hosts, hosts, options, shape=shape, beside={OTHER: hosts}, pace=pace)


def _oldest(stage: Stage) -> dict[str, list[str]]:
    """The tasks of either service, the oldest first."""
    tasks = sorted(stage.fleet.tasks(), key=lambda task: task["createdAt"])
    groups = {name: f"service:{name}" for name in (APP, OTHER)}
    return {n: [t["taskArn"] for t in tasks if t["group"] == group] for n, group in groups.items()}


def _exchange(stage: Stage, known: dict[str, list[str]], times: int, pause_s: float) -> None:
    """Each time a service ends a task for good, and the other one starts one; both in turn."""
    each = {name: len(tasks) for name, tasks in known.items()}
    for n in range(times):
        less, more = (APP, OTHER) if n % 2 == 0 else (OTHER, APP)
        each[less], each[more] = each[less] - 1, each[more] + 1
        stage.fleet.stop([known[less].pop(0)])
        stage.fleet.scale(less, each[less])
        stage.fleet.scale(more, each[more])
        stage.load.last_for(pause_s)


def _tell_exchanged(stage: Stage) -> None:
    """How many times a port came from one service to the other one."""
    by_place: dict[tuple[str, int], list[tuple[float, str]]] = {}
    for task in (*stage.fleet.tasks("RUNNING"), *stage.fleet.tasks("STOPPED")):
        for binding in task["containers"][0].get("networkBindings", ()):
            place = task["containerInstanceArn"], binding["hostPort"]
            by_place.setdefault(place, []).append((task["createdAt"].timestamp(), task["group"]))
    owners = [[group for _, group in sorted(several)] for several in by_place.values()]
    exchanged = sum(a != b for of_port in owners for a, b in pairwise(of_port))
    stage.told["exchanged"] = str(exchanged)


def ended_unseen(shape: Shape) -> Scenario:
    """A task ends, and its port refuses, while ECS lets nobody read anything."""

    def act(stage: Stage) -> None:
        faults, arn = stage.fleet.ecs.faults, stage.fleet.tasks()[0]["taskArn"]
        stage.mark("denied")
        with faults.deny("ecs:List*"), faults.deny("ecs:Describe*"):
            stage.fleet.stop([arn])
            stage.load.pass_by(AFTER)
            until(lambda: not _failed(stage))

    return Scenario("permissions denied, a task ends", Setting(3, shape=shape), act)


def restarted(shape: Shape, tasks: int = 3) -> Scenario:
    """The program of a task ends, and is started again in place, with another port."""

    def act(stage: Stage) -> None:
        stage.load.last_for(3.0)  # a container is restarted only after it has run for a while
        victim = stage.resolver.endpoints(APP)[0]
        task = str(victim.task_arn).rpartition("/")[2]
        fetched(victim.host, victim.port, stage.timing.timeout_s, path="/exit")
        stage.mark("exited")

        def moved() -> bool:
            now = [e for e in stage.resolver.endpoints(APP) if e.task_arn == victim.task_arn]
            return bool(now) and now[0].port != victim.port

        until(moved, "the task never came back at another port")
        for caller in stage.load.names:
            until(lambda c=caller: _again(stage, c, task))  # type: ignore[misc]
        stage.load.pass_by(AFTER)

    policy = {"restartPolicy": {"enabled": True, "restartAttemptPeriod": 60}}
    shape = replace(shape, container={**shape.container, **policy})
    setting = Setting(tasks, shape=shape, pace=Pace(period_scale=0.03))
    return Scenario("restart in place with a new port", setting, act)


def _again(stage: Stage, caller: str, task: str) -> bool:
    """Whether the task answers, a second after its program ended."""
    ended_at = stage.marks["exited"]
    return any(a.task == task and a.at > ended_at + 1.0 for a in stage.load.of(caller))


def zero(shape: Shape, tasks: int = 3) -> Scenario:
    """Scaled to nothing, and back."""

    def act(stage: Stage) -> None:
        stage.fleet.scale(APP, 0)
        stage.fleet.settle(APP)
        stage.marks["empty"] = max(_ended(stage))
        stage.load.last_for(stage.timing.grace_s)
        until(lambda: all(not a.task for a in stage.load.pass_by(5)), "somebody still answers")
        stage.mark("back")
        stage.fleet.scale(APP, tasks)
        stage.load.pass_by(AFTER, answered=True)
        stage.fleet.settle(APP)

    return Scenario(
        "scale to zero and back", Setting(tasks, shape=replace(shape, drain_s=0.0)), act
    )


def _ended(stage: Stage) -> list[float]:
    return [task["stoppedAt"].timestamp() for task in stage.fleet.tasks("STOPPED")]
