"""The service scheduler: starts, replaces and stops services' tasks until all is as wanted.

A service is looked at when something about it changed, never by a sweep. Rolling deployments keep
at least ⌈desired · minimumHealthyPercent⌉ healthy tasks and at most ⌊desired · maximumPercent⌋
tasks. What fails repeatedly is tried again after growing pauses.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from discovery.local import lifecycle, orders
from discovery.local.placement import refusal
from discovery.local.services import deploy
from discovery.local.state import (
    ENDED,
    Cluster,
    Deployment,
    Document,
    Instance,
    Service,
    Task,
)
from discovery.local.world import World

_log = logging.getLogger(__name__)
_EVENTS_KEPT = 100
_BREAKER_MINIMUM, _BREAKER_MAXIMUM = 3, 200
_SHORT_LIFE_S = 5.0
_FAILED_CHECKS = "Task failed container health checks"
_FAILURES = ("TaskFailedToStart", "EssentialContainerExited")


class Scheduler:
    """Looks after the services of one region; runs on the server's thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._due: dict[str, Service] = {}
        self._planned = False

    def wake(self, service: Service) -> None:
        """Look at the service soon."""
        self._due[service.arn] = service
        if not self._planned:
            self._planned = True
            self._world.run.call_later(self._world.run.pace.scheduler_s, self._run)

    def wake_cluster(self, cluster: Cluster) -> None:
        """Look at every service of a cluster: its instances changed."""
        for service in cluster.services.values():
            if service.status != "INACTIVE":
                service.wait_until = 0.0
                self.wake(service)

    def _run(self) -> None:
        self._planned = False
        due, self._due = self._due, {}
        for service in due.values():
            try:
                self._look_at(service)
            except Exception:  # one broken service must not stop the others
                _log.exception("the scheduler failed on service %s", service.name)

    def _look_at(self, service: Service) -> None:
        if service.status == "INACTIVE":
            return
        if service.status == "DRAINING":
            self._drain(service)
            return
        self._move_from_draining_hosts(service)
        self._replace_unhealthy(service)
        if service.strategy == "DAEMON":
            self._daemon(service)
        else:
            self._replicas(service)
        self._settle(service)

    def _drain(self, service: Service) -> None:
        for task in list(service.tasks.values()):
            self._stop(task)
        if not service.tasks:
            service.status = "INACTIVE"
            service.deployments = service.deployments[:1]
            service.encoded = None

    def _stop(self, task: Task, reason: str = "") -> None:
        text = reason or f"Scaling activity initiated by deployment {task.started_by}"
        lifecycle.stop(self._world, task, "ServiceSchedulerInitiated", text)

    def _move_from_draining_hosts(self, service: Service) -> None:
        """Tasks on a DRAINING host are stopped as far as minimumHealthyPercent allows."""
        leaving = [
            task for task in wanted(service.tasks.values()) if task.instance and _draining(task)
        ]
        if not leaving:
            return
        healthy = sum(is_healthy(task) for task in wanted(service.tasks.values()))
        spare = len(leaving) if service.strategy == "DAEMON" else healthy - _lower(service)
        for task in leaving[: max(0, spare)]:
            self._stop(task, "Task stopped because its container instance is DRAINING")

    def _replace_unhealthy(self, service: Service) -> None:
        for task in wanted(service.tasks.values()):
            failing = _failing(task) if task.status == "RUNNING" else None
            if failing is not None and not self._in_grace(service, task):
                event, reason = failing
                self._event(service, event)
                self._stop(task, reason)
                self._failed(service, task, by_checks=True)

    def _in_grace(self, service: Service, task: Task) -> bool:
        """Whether its checks are not heeded yet; the service is looked at again when they are."""
        grace_s = float(service.document.get("healthCheckGracePeriodSeconds") or 0)
        left_s = (task.started_at or 0.0) + grace_s - self._world.run.clock()
        if left_s > 0:
            self._world.run.call_later(left_s, self.wake, service)
        return left_s > 0

    def _replicas(self, service: Service) -> None:
        primary = service.primary
        if primary.rollout == "FAILED":
            return
        mine = [t for t in wanted(service.tasks.values()) if t.started_by == primary.id]
        staying = [task for task in mine if not _draining(task)]
        old = [t for t in wanted(service.tasks.values()) if t.started_by != primary.id]
        upper = max(math.floor(service.desired * _percent(service, "maximumPercent") / 100), 1)
        room = upper - len(mine) - len(old)
        self._start(service, min(service.desired - len(staying), room))
        for task in _surplus(staying, service.desired):
            self._stop(task)
        for task in _stoppable(service, mine, old):
            self._stop(task)

    def _daemon(self, service: Service) -> None:
        """One task on each ACTIVE host of the right kind."""
        primary = service.primary
        if primary.rollout == "FAILED":
            return
        on = {
            task.instance.id: task for task in service.tasks.values() if task.instance is not None
        }
        order = order_for(service, primary)
        hosts = [each for each in order.cluster.instances.values() if self._takes(each, order)]
        service.desired = primary.desired = len(hosts)
        may_start = not self._must_wait(service)
        for host in hosts:
            task = on.get(host.id)
            if task is None and may_start:
                reason = refusal(host, order.definition, order.need, order.all_constraints)
                if reason is None:
                    orders.create(self._world, order, host)
            elif task is not None and task.started_by != primary.id:
                self._stop(task)

    def _takes(self, host: Instance, order: orders.Order) -> bool:
        if host.external != (order.launch_type == "EXTERNAL") or host.status != "ACTIVE":
            return False
        reason = refusal(host, order.definition, (0, 0), order.all_constraints)
        return reason not in ("ATTRIBUTE", "INACTIVE")

    def _start(self, service: Service, count: int) -> None:
        if count <= 0 or self._must_wait(service):
            return
        order = order_for(service, service.primary)
        for _ in range(count):
            placed, failures = orders.place(self._world, order)
            if placed is None:
                self._no_place(service, order, failures)
                return

    def _must_wait(self, service: Service) -> bool:
        """Whether a start must wait; the service is looked at again when it may."""
        wait_s = service.wait_until - self._world.run.clock()
        if wait_s > 0:
            self._world.run.call_later(wait_s, self.wake, service)
        return wait_s > 0

    def _no_place(self, service: Service, order: orders.Order, failures: list[Document]) -> None:
        why = "No Container Instances were found in your cluster."
        if failures:
            closest = failures[0]
            instance = str(closest["arn"]).rsplit("/", 1)[-1]
            kind = str(closest["reason"])
            why = f"The closest matching (container-instance {instance}) {_LACKS.get(kind, kind)}."
        self._event(
            service,
            "was unable to place a task because no container instance met all of its "
            f"requirements. Reason: {why} For more information, see the Troubleshooting section of "
            "the Amazon ECS Developer Guide.",
        )
        service.wait_until = self._world.run.clock() + self._world.run.pace.retry_s
        self._world.run.call_later(self._world.run.pace.retry_s, self.wake, service)

    def ended(self, task: Task) -> None:
        """A task is STOPPED: was it one that failed to start, or ended soon?"""
        service, now = task.service, self._world.run.clock()
        if service is None or task.stop_code not in _FAILURES:
            return
        if task.started_at is not None and now - task.started_at > _SHORT_LIFE_S:
            return
        self._failed(service, task)

    def _failed(self, service: Service, task: Task, by_checks: bool = False) -> None:
        """A failure makes the scheduler wait; those that are the deployment's are counted.

        That is a task which never ran, or whose checks failed before the deployment was completed.
        """
        now = self._world.run.clock()
        lived_s = now - (task.started_at or now)
        if now - lived_s - service.wait_until > _SHORT_LIFE_S:
            service.failures = 0
        service.failures += 1
        pace = self._world.run.pace
        pause_s = min(pace.retry_s * 2 ** min(service.failures - 1, 10), pace.retry_limit_s)
        service.wait_until = now + pause_s
        deployment = next((d for d in service.deployments if d.id == task.started_by), None)
        if deployment is None:
            return
        if task.started_at is not None and not (by_checks and deployment.rollout != "COMPLETED"):
            return
        deployment.failed += 1
        breaker = service.document["deploymentConfiguration"]["deploymentCircuitBreaker"]
        limit = min(max(_BREAKER_MINIMUM, math.ceil(service.desired / 2)), _BREAKER_MAXIMUM)
        if breaker.get("enable") and deployment.failed >= limit and deployment is service.primary:
            self._break(service, deployment, bool(breaker.get("rollback")))

    def _break(self, service: Service, deployment: Deployment, rollback: bool) -> None:
        if deployment.rollout == "FAILED":
            return
        deployment.rollout = "FAILED"
        deployment.reason = (
            "ECS deployment circuit breaker: task failed to start."
            if not rollback
            else "ECS deployment circuit breaker: tasks failed to start. Rolling back."
        )
        deployment.updated_at = self._world.now()
        self._event(
            service, f"(deployment {deployment.id}) deployment failed: tasks failed to start."
        )
        before = next((d for d in service.deployments[1:] if d.rollout == "COMPLETED"), None)
        if rollback and before is not None:
            deploy(self._world, service, before.definition, before.settings)
            service.primary.reason = (
                f"ECS deployment circuit breaker: rolling back to deploymentId {before.id}."
            )

    def _settle(self, service: Service) -> None:
        """Finish a deployment when its tasks run and the old ones are gone."""
        primary = service.primary
        if primary.rollout == "FAILED":
            return
        mine = [t for t in wanted(service.tasks.values()) if t.started_by == primary.id]
        ready = sum(is_healthy(task) for task in mine)
        old = [task for task in service.tasks.values() if task.started_by != primary.id]
        if ready != service.desired or len(mine) != service.desired or old or primary.steady:
            return
        primary.steady = True
        if primary.rollout != "COMPLETED":
            primary.rollout = "COMPLETED"
            primary.reason = f"ECS deployment {primary.id} completed."
            primary.updated_at = self._world.now()
            self._event(service, f"(deployment {primary.id}) deployment completed.")
        service.deployments = [primary]
        self._event(service, "has reached a steady state.")

    def _event(self, service: Service, text: str) -> None:
        world = self._world
        message = f"(service {service.name}) {text}"
        if service.events and service.events[0]["message"] == message:
            return
        event = {"id": world.ids.uuid(), "createdAt": world.now(), "message": message}
        service.events = [event, *service.events][:_EVENTS_KEPT]
        service.encoded = None


_LACKS = {
    "AGENT": "has the agent disconnected",
    "ATTRIBUTE": "is missing an attribute required by your task",
    "RESOURCE:CPU": "has insufficient CPU units available",
    "RESOURCE:MEMORY": "has insufficient memory available",
    "RESOURCE:PORTS": "is already using a port required by your task",
}


def wanted(found: Iterable[Task]) -> list[Task]:
    """Those that should run."""
    return [task for task in found if task.desired != ENDED]


def is_healthy(task: Task) -> bool:
    """Whether a task counts for minimumHealthyPercent.

    That is RUNNING, HEALTHY where its definition checks, healthy where a load balancer does.
    """
    if task.status != "RUNNING":
        return False
    if any(target.state not in ("healthy", "unavailable") for _, target in task.targets):
        return False
    checked = [c for c in task.containers if c.essential and c.definition.get("healthCheck")]
    return all(container.health == "HEALTHY" for container in checked)


def _failing(task: Task) -> tuple[str, str] | None:
    """The event and the reason to stop a task whose checks fail, None while they do not."""
    if task.health == "UNHEALTHY":
        return f"(task {task.id}) failed container health checks.", _FAILED_CHECKS
    for group, target in task.targets:
        if target.state == "unhealthy":
            port = f"(port {target.port}) is unhealthy in (target-group {group.arn})"
            event = f"{port} due to (reason {target.description})"
            return event, f"Task failed ELB health checks in (target-group {group.arn})"
    return None


def order_for(service: Service, deployment: Deployment) -> orders.Order:
    """What a deployment's tasks are like."""
    settings = deployment.settings
    launch_type, provider = orders.launch_of(
        {k: v for k, v in settings.items() if k in ("launchType", "capacityProviderStrategy")}
    )
    tags = service.tags if service.document.get("propagateTags") == "SERVICE" else []
    if service.document.get("propagateTags") == "TASK_DEFINITION":
        tags = deployment.definition.tags
    return orders.Order(
        cluster=service.cluster,
        definition=deployment.definition,
        launch_type=launch_type,
        group=f"service:{service.name}",
        network=settings.get("networkConfiguration"),
        tags=tuple(tags),
        started_by=deployment.id,
        service=service,
        capacity_provider=provider,
        platform_version=settings.get("platformVersion"),
        constraints=tuple(service.document.get("placementConstraints") or ()),
        strategy=tuple(service.document.get("placementStrategy") or ()),
        execute_command=bool(service.document.get("enableExecuteCommand")),
        simulated=service.simulated,
        balancers=tuple(service.document.get("loadBalancers") or ()),
    )


def _draining(task: Task) -> bool:
    return task.instance is not None and task.instance.status == "DRAINING"


def _percent(service: Service, name: str) -> int:
    return int(service.document["deploymentConfiguration"][name])


def _lower(service: Service) -> int:
    return math.ceil(service.desired * _percent(service, "minimumHealthyPercent") / 100)


def _surplus(mine: list[Task], desired: int) -> list[Task]:
    """The tasks beyond `desired`: those that do not run yet first, then the newest."""
    ranked = sorted(mine, key=lambda task: (is_healthy(task), -task.sequence))
    return ranked[: max(0, len(mine) - desired)]


def _stoppable(service: Service, mine: list[Task], old: list[Task]) -> list[Task]:
    """Tasks of former deployments that may go now: unhealthy ones first, then the spare ones."""
    broken = [task for task in old if not is_healthy(task)]
    healthy = [task for task in old if is_healthy(task)]
    spare = len(healthy) + sum(is_healthy(task) for task in mine) - _lower(service)
    return broken + healthy[: max(0, spare)]
