"""The service scheduler: starts, replaces and stops services' tasks until all is as wanted.

A service is looked at when something about it changed, never by a sweep. Rolling deployments keep
at least ⌈desired · minimumHealthyPercent⌉ healthy tasks and at most ⌊desired · maximumPercent⌋
tasks. What fails repeatedly is tried again after growing pauses.
"""

from __future__ import annotations

import logging
import math

from discovery.local import lifecycle, orders, releases, tasksets
from discovery.local.headcount import (
    failing,
    is_healthy,
    is_leaving,
    lower,
    stoppable,
    surplus,
    upper,
    wanted,
)
from discovery.local.placement import refusal
from discovery.local.state import (
    Cluster,
    Deployment,
    Document,
    Instance,
    Service,
    Task,
    TaskSet,
)
from discovery.local.world import World

_log = logging.getLogger(__name__)
_EVENTS_KEPT = 100
_BREAKER_MINIMUM, _BREAKER_MAXIMUM = 3, 200
_SHORT_LIFE_S = 5.0
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
        if service.controller != "ECS":
            self._task_sets(service)
            return
        if service.shifts:
            self._revisions(service)
        elif service.strategy == "DAEMON":
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
            service.task_sets = []
            service.encoded = None

    def _stop(self, task: Task, reason: str = "") -> None:
        text = reason or f"Scaling activity initiated by deployment {task.started_by}"
        lifecycle.stop(self._world, task, "ServiceSchedulerInitiated", text)

    def _move_from_draining_hosts(self, service: Service) -> None:
        """Tasks on a DRAINING host are stopped as far as minimumHealthyPercent allows."""
        now = self._world.run.clock()
        leaving = [
            task
            for task in wanted(service.tasks.values())
            if is_leaving(task) and not task.protected(now)
        ]
        if not leaving:
            return
        healthy = sum(is_healthy(task) for task in wanted(service.tasks.values()))
        spare = len(leaving) if service.strategy == "DAEMON" else healthy - lower(service)
        for task in leaving[: max(0, spare)]:
            self._stop(task, "Task stopped because its container instance is DRAINING")

    def _replace_unhealthy(self, service: Service) -> None:
        for task in wanted(service.tasks.values()):
            found = failing(task)
            if found is not None and not self._in_grace(service, task):
                event, reason = found
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
        primary, now = service.primary, self._world.run.clock()
        if primary.rollout == "FAILED":
            return
        mine = [t for t in wanted(service.tasks.values()) if t.started_by == primary.id]
        staying = [task for task in mine if not is_leaving(task)]
        old = [t for t in wanted(service.tasks.values()) if t.started_by != primary.id]
        room = upper(service) - len(mine) - len(old)
        self._start(service, primary, min(service.desired - len(staying), room))
        for task in surplus(staying, service.desired, now):
            self._stop(task)
        for task in stoppable(service, mine, old, now):
            self._stop(task)

    def _keep(self, service: Service, source: Deployment | TaskSet, count: int) -> None:
        """As many tasks of a revision as are wanted of it, whatever the others have."""
        mine = [t for t in wanted(service.tasks.values()) if t.started_by == source.id]
        staying = [task for task in mine if not is_leaving(task)]
        self._start(service, source, count - len(staying))
        for task in surplus(staying, count, self._world.run.clock()):
            self._stop(task)

    def _revisions(self, service: Service) -> None:
        """Blue and green keep their own numbers; `releases.py` moves them and the traffic."""
        for deployment in tuple(service.deployments):
            if deployment.rollout != "FAILED" or not deployment.desired:
                self._keep(service, deployment, deployment.desired)
        releases.proceed(self._world, service)

    def _task_sets(self, service: Service) -> None:
        """Each task set keeps its part of the desired count; one that was deleted goes."""
        for task_set in tuple(service.task_sets):
            self._keep(service, task_set, task_set.computed(service.desired))
            if tasksets.settle(self._world, service, task_set):
                steady = f"(service {service.name}, taskSet {task_set.id})"
                self._tell(service, f"{steady} updated state to STEADY_STATE.")
                self._event(service, "has reached a steady state.")

    def _daemon(self, service: Service) -> None:
        """One task on each ACTIVE host of the right kind."""
        primary = service.primary
        if primary.rollout == "FAILED":
            return
        on = {
            task.instance.id: task for task in service.tasks.values() if task.instance is not None
        }
        order = orders.of_service(service, primary)
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

    def _start(self, service: Service, source: Deployment | TaskSet, count: int) -> None:
        if count <= 0 or self._must_wait(service):
            return
        order = orders.of_service(service, source)
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
        if rollback:
            releases.roll_back(self._world, service, "ECS deployment circuit breaker")
        else:
            releases.end(self._world, service, "STOPPED", deployment.reason)

    def _settle(self, service: Service) -> None:
        """Finish a deployment when its tasks run and the old ones are gone."""
        primary = service.primary
        if primary.rollout == "FAILED":
            return
        mine = [t for t in wanted(service.tasks.values()) if t.started_by == primary.id]
        ready = sum(is_healthy(task) for task in mine)
        old = [task for task in service.tasks.values() if task.started_by != primary.id]
        if service.shifts and releases.is_shifting(service):
            return
        if ready != service.desired or len(mine) != service.desired or old or primary.steady:
            return
        primary.steady = True
        if primary.rollout != "COMPLETED":
            primary.rollout = "COMPLETED"
            primary.reason = f"ECS deployment {primary.id} completed."
            primary.updated_at = self._world.now()
            self._event(service, f"(deployment {primary.id}) deployment completed.")
        service.deployments = [primary]
        releases.settled(self._world, service)
        self._event(service, "has reached a steady state.")

    def _event(self, service: Service, text: str) -> None:
        self._tell(service, f"(service {service.name}) {text}")

    def _tell(self, service: Service, message: str) -> None:
        world = self._world
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
