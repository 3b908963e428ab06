"""Releases (“service deployments”): rolling ones, and those that shift traffic stage by stage.

BLUE_GREEN, LINEAR and CANARY start the new revision beside the old one, shift test and production
traffic by weights, bake, and clean up. Stages without a condition of their own last `Pace.stage_s`;
bake times are shortened by `Pace.period_scale`. Lambda hooks count as succeeded; PAUSE hooks wait.
"""

from __future__ import annotations

import string
from functools import partial

from discovery.local.documents import revision_arn
from discovery.local.headcount import is_healthy, wanted
from discovery.local.state import Definition, Deployment, Document, Release, Service
from discovery.local.world import World

SHIFT = "PRODUCTION_TRAFFIC_SHIFT"
STAGES = (
    "RECONCILE_SERVICE",
    "PRE_SCALE_UP",
    "SCALE_UP",
    "POST_SCALE_UP",
    "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT",
    SHIFT,
    "POST_PRODUCTION_TRAFFIC_SHIFT",
    "BAKE_TIME",
    "CLEAN_UP",
)
# a hook of a stage that is no lifecycle stage of its own
_HOOKED = {"PRE_PRODUCTION_TRAFFIC_SHIFT": "POST_TEST_TRAFFIC_SHIFT"}
_KEPT = 100
_PAUSE_LIMIT_MINUTES = 1440
_LETTERS = string.ascii_letters + string.digits


def deploy(world: World, service: Service, definition: Definition, settings: Document) -> None:
    """Put a new PRIMARY deployment before the others, and begin its release."""
    if (release := current(service)) is not None:
        end(world, service, "STOPPED", "A newer service deployment has been started.")
        release.stopped_at = release.finished_at
    before = tuple(service.deployments)
    made = _made(world, service, definition, settings)
    made.desired = 0 if service.shifts and before else service.desired
    _begin(world, service, made, before)


def _made(world: World, service: Service, definition: Definition, settings: Document) -> Deployment:
    now = world.now()
    for other in service.deployments:
        other.status, other.updated_at = "ACTIVE", now
    name = world.ids.deployment()
    made = Deployment(
        id=name,
        definition=definition,
        desired=service.desired,
        created_at=now,
        updated_at=now,
        settings=settings,
        reason=f"ECS deployment {name} in progress.",
        balancers=tuple(_balancers(service)),
    )
    service.deployments.insert(0, made)
    service.revisions[revision_arn(service, made)] = made
    while len(service.revisions) > _KEPT:
        del service.revisions[next(iter(service.revisions))]
    service.failures, service.wait_until = 0, 0.0
    service.encoded = None
    return made


def _balancers(service: Service) -> list[Document]:
    """Revisions that shift traffic use a group and its alternate in turn."""
    used = {
        balancer.get("targetGroupArn")
        for deployment in service.deployments[:1]
        for balancer in deployment.balancers
    }
    found = []
    for given in service.document.get("loadBalancers") or ():
        other = (given.get("advancedConfiguration") or {}).get("alternateTargetGroupArn")
        turn = service.shifts and other and given.get("targetGroupArn") in used
        found.append(given | {"targetGroupArn": other} if turn else given)
    return found


def _begin(
    world: World, service: Service, made: Deployment, before: tuple[Deployment, ...]
) -> None:
    now = world.now()
    name = "".join(world.run.random.choices(_LETTERS, k=21))
    last = service.releases[-1].production if service.releases else {}
    release = Release(
        arn=f"{service.arn.replace(':service/', ':service-deployment/', 1)}/{name}",
        sequence=world.state.next_sequence(),
        created_at=now,
        updated_at=now,
        configuration=dict(service.document["deploymentConfiguration"]),
        target=made,
        sources=before,
    )
    service.releases = [*service.releases, release][-_KEPT:]
    if service.shifts and not before:  # nothing to shift from
        release.production, release.test = {made.id: 100.0}, {made.id: 100.0}
    elif service.shifts:
        whole = {each.id: 100.0 for each in before[:1]}
        release.production = {each.id: last.get(each.id, 0.0) for each in before}
        if sum(release.production.values()) != 100:
            release.production = {each.id: 0.0 for each in before} | whole
        release.production[made.id] = 0.0
        release.test = {each.id: 0.0 for each in (*before, made)} | whole
        _enter(world, service, release, STAGES[0 if len(before) > 1 else 1])


def current(service: Service) -> Release | None:
    """The release that is not finished, None when there is none."""
    last = service.releases[-1] if service.releases else None
    return last if last is not None and last.open else None


def is_shifting(service: Service) -> bool:
    """Whether a release has stages before its last one still to come."""
    release = current(service)
    if release is None or release.stage is None or release.rollback is not None:
        return False
    return release.stage != STAGES[-1]


def _enter(world: World, service: Service, release: Release, stage: str) -> None:
    release.stage, release.updated_at = stage, world.now()
    release.hooks = []
    service.encoded = None
    if stage == "PRE_SCALE_UP":
        _reconcile(release)
    elif stage == "SCALE_UP":
        release.target.desired = service.desired
    elif stage == "TEST_TRAFFIC_SHIFT":
        release.test = dict.fromkeys(release.test, 0.0) | {release.target.id: 100.0}
    elif stage == SHIFT:
        release.steps = _steps(release.configuration)
        _shift(release)
    elif stage == "CLEAN_UP":
        for source in release.sources:
            source.desired = 0
    _hook(world, service, release, stage)
    _plan(world, service, release)
    world.wake(service)


def _reconcile(release: Release) -> None:
    """One old revision stays: the one that was completed last."""
    stays = _stable(release)
    for source in release.sources:
        if source is not stays:
            source.desired = 0
    if stays is not None:
        release.production = dict.fromkeys(release.production, 0.0) | {stays.id: 100.0}


def _stable(release: Release) -> Deployment | None:
    done = (each for each in release.sources if each.rollout == "COMPLETED")
    return next(done, release.sources[0] if release.sources else None)


def _steps(configuration: Document) -> list[float]:
    """The production weights of the target one after the other; the last is 100."""
    strategy = configuration.get("strategy")
    if strategy == "CANARY":
        return [_setting(configuration, "canary", "canaryPercent", 5.0), 100.0]
    if strategy == "LINEAR":
        step = _setting(configuration, "linear", "stepPercent", 10.0)
        count = int(100 / step)
        found = [round(step * number, 1) for number in range(1, count + 1)]
        return found if found[-1] == 100 else [*found, 100.0]
    return [100.0]


def _setting(configuration: Document, kind: str, name: str, default: float) -> float:
    return float((configuration.get(f"{kind}Configuration") or {}).get(name, default))


def _shift(release: Release) -> None:
    """The target takes its next share; the old ones keep the rest in proportion."""
    share = release.steps.pop(0)
    old = {i: w for i, w in release.production.items() if i != release.target.id}
    total = sum(old.values())
    rest = {i: (100 - share) * w / total if total else 0.0 for i, w in old.items()}
    release.production = rest | {release.target.id: share}


def _hook(world: World, service: Service, release: Release, stage: str) -> None:
    """A PAUSE hook of the stage waits for ContinueServiceDeployment, or for its timeout."""
    for given in release.configuration.get("lifecycleHooks") or ():
        stages = [_HOOKED.get(each, each) for each in given.get("lifecycleStages") or ()]
        if given.get("targetType") != "PAUSE" or stage not in stages:
            continue
        timeout = given.get("timeoutConfiguration") or {}
        minutes = timeout.get("timeoutInMinutes", _PAUSE_LIMIT_MINUTES)
        wait_s = 60 * float(minutes) * world.run.pace.period_scale
        hook = {
            "hookId": f"ecs-pause-{world.ids.hex(32)}",
            "targetType": "PAUSE",
            "status": "AWAITING_ACTION",
            "expiresAt": world.now() + wait_s,
            "timeoutAction": timeout.get("action", "ROLLBACK"),
        }
        release.hooks.append(hook)
        world.run.call_later(wait_s, _expired, world, service, release, hook)


def _expired(world: World, service: Service, release: Release, hook: Document) -> None:
    if release.open and hook["status"] == "AWAITING_ACTION":
        hook["status"] = "TIMED_OUT"
        _act(world, service, release, hook["timeoutAction"])


def answer_hook(
    world: World, service: Service, release: Release, hook: Document, action: str
) -> None:
    """ContinueServiceDeployment: CONTINUE or ROLLBACK."""
    hook["status"] = "SUCCEEDED" if action == "CONTINUE" else "FAILED"
    _act(world, service, release, action)


def _act(world: World, service: Service, release: Release, action: str) -> None:
    if action == "ROLLBACK":
        roll_back(world, service, "Rolled back at a pause lifecycle hook.")
    elif not release.paused:
        _plan(world, service, release)
        world.wake(service)


def _plan(world: World, service: Service, release: Release) -> None:
    """The next step comes by itself, unless it waits for tasks, for a hook or for a hand."""
    if release.timer is not None:
        release.timer.cancel()
        release.timer = None
    if release.paused or service.held or release.stage in ("SCALE_UP", "CLEAN_UP"):
        return
    delay_s = world.run.pace.stage_s
    minutes = _minutes(release)
    if minutes is not None:
        delay_s = 60 * minutes * world.run.pace.period_scale
    release.timer = world.run.call_later(delay_s, partial(advance, world, service))


def _minutes(release: Release) -> float | None:
    """How long the release bakes where it is, None where it does not."""
    given = release.configuration
    if release.stage == "BAKE_TIME":
        return float(given.get("bakeTimeInMinutes") or 0)
    if release.stage == SHIFT and release.steps:
        if given.get("strategy") == "CANARY":
            return _setting(given, "canary", "canaryBakeTimeInMinutes", 10.0)
        return _setting(given, "linear", "stepBakeTimeInMinutes", 6.0)
    return None


def advance(world: World, service: Service) -> None:
    """Go on to the next step or stage; nothing happens while one waits for tasks or a hook."""
    release = current(service)
    if release is None or release.stage is None or release.rollback is not None or release.paused:
        return
    if release.stage == "SCALE_UP" and not _is_scaled(service, release):
        return
    if release.stage == SHIFT and release.steps:
        _shift(release)
        release.updated_at = world.now()
        _plan(world, service, release)
    elif release.stage != STAGES[-1]:
        _enter(world, service, release, STAGES[STAGES.index(release.stage) + 1])


def _is_scaled(service: Service, release: Release) -> bool:
    mine = [t for t in wanted(service.tasks.values()) if t.started_by == release.target.id]
    return sum(is_healthy(task) for task in mine) >= service.desired


def proceed(world: World, service: Service) -> None:
    """The service's tasks changed: a stage that waits for them may be over."""
    release = current(service)
    if release is not None and release.stage == "SCALE_UP" and not service.held:
        advance(world, service)


def hold(world: World, service: Service, held: bool) -> None:
    """From now on stages go on by `advance` only, or by themselves again."""
    service.held = held
    release = current(service)
    if release is not None and release.stage is not None:
        _plan(world, service, release)
        world.wake(service)


def rescale(service: Service, desired: int) -> None:
    """Another desired count, of every revision that has been started."""
    release = current(service)
    to_come = release is not None and release.stage in STAGES[:2]
    service.desired = desired
    for deployment in service.deployments:
        if deployment is service.primary:
            deployment.desired = 0 if to_come else desired
        elif service.shifts and deployment.desired:
            deployment.desired = desired


def roll_back(world: World, service: Service, reason: str) -> None:
    """Return to the last completed revision; without one the release has failed."""
    release = current(service)
    if release is None or release.rollback is not None:
        return
    before = _stable(release)
    if before is None:
        end(world, service, "ROLLBACK_FAILED", "There is no service revision to roll back to.")
        return
    release.status, release.reason = "ROLLBACK_IN_PROGRESS", reason
    release.rollback = {
        "reason": reason,
        "startedAt": world.now(),
        "serviceRevisionArn": revision_arn(service, before),
    }
    _stop_timer(release)
    release.target.rollout = "FAILED"
    if service.shifts:
        _return_to(service, release, before)
    else:
        made = _made(world, service, before.definition, before.settings)
        made.reason = f"ECS deployment circuit breaker: rolling back to deploymentId {before.id}."
    service.encoded = None
    world.wake(service)


def _return_to(service: Service, release: Release, before: Deployment) -> None:
    for weights in (release.production, release.test):
        weights.update(dict.fromkeys(weights, 0.0) | {before.id: 100.0})
    for deployment in service.deployments:
        deployment.desired, deployment.status = 0, "ACTIVE"
    before.desired, before.status, before.steady = service.desired, "PRIMARY", False
    others = [each for each in service.deployments if each is not before]
    service.deployments = [before, *others]


def settled(world: World, service: Service) -> None:
    """The service is as its release wants it."""
    release = current(service)
    if release is not None:
        end(world, service, "ROLLBACK_SUCCESSFUL" if release.rollback else "SUCCESSFUL", None)


def end(world: World, service: Service, status: str, reason: str | None) -> None:
    """The release is finished."""
    release = current(service)
    if release is not None:
        _stop_timer(release)
        release.status, release.reason = status, reason or release.reason
        release.finished_at = release.updated_at = world.now()


def _stop_timer(release: Release) -> None:
    if release.timer is not None:
        release.timer.cancel()
        release.timer = None
