"""The life of a task, from PROVISIONING to STOPPED.

Each step sets the state, touches the task and plans the next step with a timer; a step that finds
its task already stopping does nothing. `desiredStatus` goes to STOPPED first, then SIGTERM, then
after `stopTimeout` SIGKILL. A simulated task takes the same steps without processes.
"""

from __future__ import annotations

import shutil
import signal
from functools import partial
from pathlib import Path

from discovery.local import dependencies, healthchecks, registration
from discovery.local.definitions import BOOT_LABEL
from discovery.local.network import Eni
from discovery.local.ports import NoPort, bind, environment, listens
from discovery.local.processes import Program
from discovery.local.state import ENDED, Container, Task
from discovery.local.world import World

_STOP_TIMEOUT_S = 30.0
_RESTART_DELAY_S = 0.05
_RESTART_ATTEMPT_PERIOD_S = 300.0


def begin(world: World, task: Task) -> None:
    """Start a task that has just been created and placed."""
    if task.eni is not None:
        task.status = "PROVISIONING"
        world.run.call_later(world.run.pace.provisioning_s / 2, attach, world, task)
    else:
        world.run.call_later(world.run.pace.pending_s, pull, world, task)
    world.on_task(task)


def attach(world: World, task: Task) -> None:
    """The interface is being attached: its address is already known."""
    if task.desired == ENDED or task.eni is None:
        return
    task.eni.status = "ATTACHING"
    world.touch(task)
    world.run.call_later(world.run.pace.provisioning_s / 2, attached, world, task)


def attached(world: World, task: Task) -> None:
    """The interface is attached: the task is PENDING."""
    if task.desired == ENDED or task.eni is None:
        return
    task.eni.status = "ATTACHED"
    task.status = "PENDING"
    world.touch(task)
    world.run.call_later(world.run.pace.pending_s, pull, world, task)


def pull(world: World, task: Task) -> None:
    """Images are there: start every container."""
    if task.desired == ENDED:
        return
    now = world.now()
    task.pull_started_at = task.pull_stopped_at = now
    if task.launch_type != "EXTERNAL":
        task.connectivity_at = now
    start_ready(world, task)


def start_ready(world: World, task: Task) -> None:
    """Start every container whose `dependsOn` is met; the task is PENDING until all have run."""
    for container in task.containers:
        if task.desired == ENDED or task.status != "PENDING":
            return
        if not container.requested and dependencies.are_met(task, container):
            start_container(world, task, container)


def start_container(world: World, task: Task, container: Container) -> None:
    """Bind its ports and run its process."""
    container.requested = True
    try:
        container.bindings = bind(task, container)
    except NoPort as error:
        container_failed(world, task, container, str(error))
        return
    if task.simulated or container.injected:
        container_started(world, task, container, None)
        return
    container.process = f"{container.metadata_id}/{container.restarts}"
    world.run.launcher.spawn(
        container.process,
        program(world, task, container),
        partial(container_started, world, task, container),
        partial(_process_exited, world, task, container, container.process),
    )


def _process_exited(
    world: World, task: Task, container: Container, process: str, code: int
) -> None:
    """A lost host reports nothing."""
    if container.process == process:
        container_exited(world, task, container, code)


def program(world: World, task: Task, container: Container) -> Program:
    """What the container runs: its own program where this machine has it, else the built-in."""
    overrides = _override(task, container)
    definition = container.definition
    command = overrides.get("command") or definition.get("command") or []
    argv = [*(definition.get("entryPoint") or []), *command]
    cwd = definition.get("workingDirectory")
    where = listens(task, container)
    env = process_environment(world, task, container)
    known = bool(argv) and shutil.which(argv[0], path=env.get("PATH")) is not None
    page = {"task": task.id, "container": container.name, "family": task.definition.family}
    log_dir = world.run.log_dir
    return Program(
        argv=argv if known else None,
        env=env,
        listen=[] if known else [at for at, _ in where],
        page=page,
        cwd=cwd if cwd and Path(cwd).is_dir() else None,
        log=str(Path(log_dir) / f"{task.id}-{container.name}.log") if log_dir else None,
        boot_s=_boot_s(world, container),
    )


def _boot_s(world: World, container: Container) -> float:
    """For how long the container runs and does nothing yet: its label's, else the fault's."""
    label = (container.definition.get("dockerLabels") or {}).get(BOOT_LABEL)
    return float(label) if label is not None else world.run.faults.value("slow_boot")


def process_environment(world: World, task: Task, container: Container) -> dict[str, str]:
    """Variables of the container's process, the definition's own over ours."""
    own = {
        each["name"]: each["value"]
        for each in (
            *container.definition.get("environment", ()),
            *_override(task, container).get("environment", ()),
        )
    }
    fargate = task.launch_type == "FARGATE"
    given = {
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE" if fargate else "AWS_ECS_EC2",
        "ECS_CONTAINER_METADATA_URI_V4": f"{world.run.url}/v4/{container.metadata_id}",
    }
    region = {"AWS_REGION": world.state.region, "AWS_DEFAULT_REGION": world.state.region}
    return world.run.environment | region | given | environment(task, container) | own


def _override(task: Task, container: Container) -> dict[str, list[str]]:
    for each in task.overrides.get("containerOverrides", ()):
        if each.get("name") == container.name:
            return dict(each)
    return {}


def container_started(world: World, task: Task, container: Container, error: str | None) -> None:
    """The guardian's report of a start."""
    if error is not None:
        container.process = None
        container_failed(world, task, container, error)
        return
    container.status = "RUNNING"
    container.started_at = world.now()
    if task.desired == ENDED:
        terminate(world, task, container)
        return
    env = process_environment(world, task, container)
    healthchecks.begin(world, task, container, env, partial(start_ready, world, task))
    if container.injected:
        container.health = "HEALTHY"
    start_ready(world, task)
    if task.status != "PENDING":
        registration.register(world, task)
        world.touch(task)  # restarted in place
    elif all(each.started_at is not None for each in task.containers):
        activate(world, task)


def container_failed(world: World, task: Task, container: Container, error: str) -> None:
    """A container that could not be started ends its task."""
    container.status = ENDED
    container.reason = f"CannotStartContainerError: {error}"
    if task.desired != ENDED:
        stop(world, task, "TaskFailedToStart", "Task failed to start")
    else:
        finish_if_ended(world, task)


def activate(world: World, task: Task) -> None:
    """A service's task is registered with its load balancers first."""
    if task.service is not None and _registers(task):
        task.status = "ACTIVATING"
        world.touch(task)
        registration.register(world, task)
        world.run.call_later(world.run.pace.activating_s, running, world, task)
    else:
        running(world, task)


def _registers(task: Task) -> bool:
    document = task.service.document if task.service is not None else {}
    return bool(task.balancers or document.get("serviceRegistries"))


def running(world: World, task: Task) -> None:
    """The task is RUNNING."""
    if task.desired == ENDED:
        return
    task.status = "RUNNING"
    task.started_at = world.now()
    task.hide_bindings_until = task.started_at + world.run.faults.value("late_bindings")
    world.touch(task)


def stop(world: World, task: Task, code: str, reason: str) -> None:
    """Want the task stopped; a second wish changes nothing. Its targets are drained first."""
    if task.desired == ENDED:
        return
    task.desired = ENDED
    task.stop_code, task.stopped_reason = code, reason
    task.stopping_at = world.now()
    if task.status == "RUNNING" and _registers(task):
        task.status = "DEACTIVATING"
    world.touch(task)
    never_ran = task.status in ("PROVISIONING", "PENDING")
    delay_s = 0.0 if never_ran else world.run.pace.deactivating_s
    delay_s = max(delay_s, registration.deregister(world, task))
    world.run.call_later(delay_s, end_containers, world, task)


def end_containers(world: World, task: Task) -> None:
    """SIGTERM to every container; the task is STOPPING until they are gone."""
    if task.status == ENDED:
        return
    task.status = "STOPPING"
    world.touch(task)
    for container in task.containers:
        terminate(world, task, container)
    finish_if_ended(world, task)


def terminate(world: World, task: Task, container: Container) -> None:
    """SIGTERM, and SIGKILL after the container's `stopTimeout`."""
    healthchecks.end(container)
    if container.process is None:
        if task.simulated and container.started_at is not None:
            container.exit_code = 0
        container.status = ENDED
        return
    world.run.launcher.signal(container.process, signal.SIGTERM)
    timeout_s = float(container.definition.get("stopTimeout") or _STOP_TIMEOUT_S)
    world.run.call_later(timeout_s, _kill, world, container, container.process)


def _kill(world: World, container: Container, process: str) -> None:
    if container.process == process:
        world.run.launcher.signal(process, signal.SIGKILL)


def container_exited(world: World, task: Task, container: Container, code: int) -> None:
    """The guardian's report of an end."""
    container.process = None
    healthchecks.end(container)
    container.exit_code = code
    if task.desired != ENDED and _restarts(world, container, code):
        container.restarts += 1
        container.status = "PENDING"
        container.exit_code = None
        task.host_ports -= {(b.host_port or 0, b.protocol) for b in container.bindings or ()}
        registration.deregister(world, task)
        world.touch(task)
        world.run.call_later(_RESTART_DELAY_S, _restart, world, task, container)
        return
    container.status = ENDED
    alive = any(each.status != ENDED for each in task.containers)
    if task.desired == ENDED:
        finish_if_ended(world, task)
    elif task.status == "PENDING" and dependencies.are_impossible(task):
        stop(world, task, "TaskFailedToStart", "Task failed to start")
    elif container.essential or not alive:
        stop(world, task, "EssentialContainerExited", "Essential container in task exited")
    else:
        world.touch(task)
        start_ready(world, task)


def _restarts(world: World, container: Container, code: int) -> bool:
    """“If a container isn't able to run for this time period, it will not be restarted.”"""
    policy = container.definition.get("restartPolicy") or {}
    if not policy.get("enabled") or code in policy.get("ignoredExitCodes", ()):
        return False
    period_s = float(policy.get("restartAttemptPeriod", _RESTART_ATTEMPT_PERIOD_S))
    ran_s = world.run.clock() - (container.started_at or world.run.clock())
    return ran_s >= period_s * world.run.pace.period_scale


def _restart(world: World, task: Task, container: Container) -> None:
    if task.desired != ENDED:
        start_container(world, task, container)


def finish_if_ended(world: World, task: Task) -> None:
    """Once every container is gone the interface is given back and the task is STOPPED."""
    if task.status != "STOPPING" or any(each.status != ENDED for each in task.containers):
        return
    if task.pull_started_at is not None:
        task.execution_stopped_at = world.now()
    if task.eni is None:
        stopped(world, task)
        return
    task.status = "DEPROVISIONING"
    world.touch(task)
    world.run.call_later(world.run.pace.deprovisioning_s, stopped, world, task)


def stopped(world: World, task: Task) -> None:
    """The end: the task stays describable for a while."""
    if task.status == ENDED:
        return
    if task.eni is not None:
        task.eni.status = "DELETED"
        world.run.addresses.release(task.eni.address)
    task.status = ENDED
    task.stopped_at = world.now()
    world.touch(task)
    if task.instance is not None and task.id in task.instance.tasks:
        del task.instance.tasks[task.id]
        task.instance.cpu_used -= task.cpu_units
        task.instance.memory_used -= task.memory_mib
    if task.service is not None:
        task.service.tasks.pop(task.id, None)
    world.run.call_later(world.run.pace.stopped_kept_s, _forget, task)


def _forget(task: Task) -> None:
    task.cluster.tasks.pop(task.id, None)


def new_eni(world: World, subnet: str, public: bool) -> Eni:
    """An interface with an address of its own."""
    address = world.run.addresses.interface()
    return Eni(
        id=f"eni-{world.ids.hex(17)}",
        attachment_id=world.ids.uuid(),
        mac=world.ids.mac(),
        subnet=subnet,
        address=address,
        public_address=address if public else None,
    )


def lose(world: World, task: Task, how: int | None = signal.SIGKILL) -> None:
    """The task's host is gone: nobody reports it, and ECS gives up after a while.

    Its processes get the signal `how`; None leaves them to whoever cut them off.
    """
    for container in task.containers:
        healthchecks.end(container)
        if container.process is not None:
            process, container.process = container.process, None
            if how is not None:
                world.run.launcher.signal(process, how)
    reason = "Host EC2 instance is unreachable"
    world.run.call_later(
        world.run.pace.host_lost_s, stop, world, task, "InfrastructureHealth", reason
    )
