"""The local ECS as a Python object: `LocalECS`.

One thread runs the HTTP server and owns all records; methods called from other threads are carried
out there. Closing it, or the end of the process, ends every container's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Any, TypeVar

import uvicorn

from discovery.local.addresses import Addresses
from discovery.local.app import App
from discovery.local.control import Control
from discovery.local.faults import Faults
from discovery.local.pages import Pages
from discovery.local.probes import Sockets
from discovery.local.processes import Guarded
from discovery.local.region import Regions
from discovery.local.silence import fill
from discovery.local.state import Document
from discovery.local.throttle import Throttle
from discovery.local.world import Pace, Runtime

Result = TypeVar("Result")
DEFAULT_LISTEN = "127.0.0.1:8054"
DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"


class LocalECS:
    """An ECS API on loopback in which a task is a real process.

    A container's `entryPoint` and `command` are run as given when this machine has the program,
    with `HOST`, `PORT` (the first) and `PORT_<container port>` saying where to listen; otherwise
    (an `nginx` without nginx) a built-in HTTP server listens on all of its ports. Tasks are
    simulated, without any process, on simulated hosts and clusters and where a docker label
    `local.simulated` is "true"; `local.boot-seconds` is for how long a container runs before its
    program starts or its server listens. Ports below 1024 of host and awsvpc tasks need the
    privilege that the system asks for them.

    `listen` is ADDR:PORT of 127.0.0.0/8, port 0 picks one; `pace` says how fast tasks and the
    scheduler go; `throttle` is about the real API's rate limits; `log_dir` keeps the containers'
    output; `silence` cuts off the addresses of lost hosts (see `lose_zone`); with `reuse_addresses`
    an awsvpc task gets the address of the one that ended last. A context manager; `start` raises
    OSError when the address is taken. Methods may be called from any thread.
    """

    def __init__(
        self,
        listen: str = DEFAULT_LISTEN,
        *,
        region: str = DEFAULT_REGION,
        account: str = DEFAULT_ACCOUNT,
        pace: Pace | None = None,
        throttle: bool = True,
        log_dir: str | None = None,
        random: Random | None = None,
        silence: Callable[[list[str]], None] | None = None,
        reuse_addresses: bool = False,
    ) -> None:
        self._listen = listen
        self._region = region
        self._account = account
        self._pace = pace or Pace()
        self._log_dir = log_dir
        self._random = random or Random()
        self._hook = silence
        self._reuse = reuse_addresses
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._control: Control | None = None
        self._server: uvicorn.Server | None = None
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.faults = Faults()
        self.throttle = Throttle(time.monotonic, throttle)

    def __repr__(self) -> str:
        return f"<LocalECS {self.url or 'not started'}, {self.faults!r}>"

    def __enter__(self) -> LocalECS:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Listen and serve in a thread of its own; returns when calls are answered."""
        if self._thread is not None or self._loop is not None:
            raise RuntimeError("a LocalECS is started once")
        listener = _listener(self._listen)
        bound_host, bound_port = listener.getsockname()
        self.url = f"http://{bound_host}:{bound_port}"
        self._thread = threading.Thread(
            target=self._main, args=(listener,), name="local-ecs", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def close(self) -> None:
        """End every process and stop serving; a second call does nothing."""
        if self._thread is None:
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def _main(self, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listener))
        except Exception as error:
            self._failure = error
        finally:
            listener.close()
            self._ready.set()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        launcher = Guarded()
        prober = Sockets()
        addresses = Addresses(self._random, self._reuse)
        runtime = self._runtime(launcher, prober, addresses)
        try:
            await launcher.start(dict(os.environ))
            regions = Regions(self._account, self._region, runtime)
            app = App(regions, runtime, self.throttle, self.calls)
            self._control = app.control
            self._server = uvicorn.Server(
                uvicorn.Config(
                    app,
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    http="h11",
                    ws="none",
                    timeout_graceful_shutdown=1,
                )
            )
            serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.005)
            self._ready.set()
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            runtime.closing.set()
            self._server.should_exit = True
            await serving
            # Who connected in the very moment of the end was not told of it, and may stay idle.
            for connection in tuple(self._server.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)  # so that they are closed before the loop is
        finally:
            await prober.close()
            await launcher.close()
            addresses.close()

    def _runtime(self, launcher: Guarded, prober: Sockets, addresses: Addresses) -> Runtime:
        assert self._loop is not None
        environment = self.environment().items()
        return Runtime(
            clock=time.time,
            random=self._random,
            call_later=self._loop.call_later,
            launcher=launcher,
            prober=prober,
            addresses=addresses,
            pages=Pages(self._random.randbytes(16)),
            pace=self._pace,
            faults=self.faults,
            url=self.url,
            log_dir=self._log_dir,
            environment={k: v for k, v in environment if not k.endswith("REGION")},
        )

    def _do(self, act: Callable[[Control], Result]) -> Result:
        """Carry out `act` on the server's thread and return what it returns."""
        control, loop = self._control, self._loop
        if control is None or loop is None or self._thread is None:
            raise RuntimeError("the local ECS is not started")

        async def carried_out() -> Result:
            return act(control)

        return asyncio.run_coroutine_threadsafe(carried_out(), loop).result()

    def environment(self) -> dict[str, str]:
        """The variables with which the AWS SDKs and the AWS CLI talk to this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": self._region,
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ACCESS_KEY_ID": "AKIALOCALECS00000000",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def add_cluster(
        self,
        name: str = "default",
        *,
        region: str | None = None,
        account: str | None = None,
        simulated: bool = False,
    ) -> str:
        """Create a cluster, unless there is one of that name; returns its ARN.

        Tasks of a simulated cluster have no process.
        """
        return self._do(lambda control: control.add_cluster(name, region, account, simulated))

    def add_instances(
        self,
        cluster: str,
        count: int = 1,
        *,
        region: str | None = None,
        account: str | None = None,
        **options: Any,
    ) -> list[str]:
        """Add hosts on the next loopback addresses, in rotating zones; returns their ARNs.

        `options` are the fields of `HostOptions`: cpu, memory, external, simulated,
        ipv6_bindings, address, zone, ec2_id, capacity_provider, split_ranges, host_ports.
        """
        return self._do(
            lambda control: control.add_instances(cluster, count, region, account, **options)
        )

    def populate(
        self, cluster: str = "default", *, region: str | None = None, **sizes: Any
    ) -> Document:
        """Add simulated hosts, services and RUNNING tasks; returns the counts.

        `sizes`: services=100, tasks=1000, instances=50, mode="bridge" (host, awsvpc, fargate),
        prefix="svc".
        """
        return self._do(lambda control: control.populate(cluster, region, **sizes))

    def kill_process(self, task_arn: str) -> None:
        """SIGKILL a task's processes, as a crash would; KeyError for an unknown task."""
        self._do(lambda control: control.kill_process(task_arn))

    def lose_host(self, container_instance_arn: str, *, silent: bool = False) -> None:
        """A host dies: its processes are gone and its agent is disconnected.

        Its tasks stay RUNNING for `Pace.host_lost_s`, then they are STOPPED and replaced. Its
        ports refuse, as after a reboot; `silent` ones take connections no longer and answer
        nothing, as without power: see `lose_zone`.
        """
        how = self._loss(silent)
        lost = self._do(lambda control: control.lose_host(container_instance_arn, how))
        self._silence(lost, silent)

    def lose_zone(self, zone: str, *, silent: bool = True, region: str | None = None) -> None:
        """Every host and every Fargate task of a zone dies, as `lose_host` says; KeyError if none.

        What is lost in silence is a black hole: its processes are frozen and the queues of their
        listeners full, so that the kernel drops new connections and open ones never answer; this
        needs no privilege. With `LocalECS(silence=…)` that function is called instead with the
        addresses to cut off, and nothing is frozen: it may drop their packets.
        """
        how = self._loss(silent)
        lost = self._do(lambda control: control.lose_zone(zone, how, region))
        self._silence(lost, silent)

    def _loss(self, silent: bool) -> int | None:
        """The signal for the processes of what is lost."""
        if not silent:
            return signal.SIGKILL
        return None if self._hook is not None else signal.SIGSTOP

    def _silence(self, where: list[tuple[str, int, str]], silent: bool) -> None:
        if not silent:
            return
        if self._hook is not None:
            self._hook(sorted({address for address, _, _ in where}))
        else:
            fill((address, port) for address, port, kind in where if kind == "tcp")

    def disconnect_agent(self, container_instance_arn: str) -> None:
        """The agent of a host loses its connection; its tasks go on, and none is placed there."""
        self._do(lambda control: control.connect_agent(container_instance_arn, False))

    def reconnect_agent(self, container_instance_arn: str) -> None:
        """The agent is connected again."""
        self._do(lambda control: control.connect_agent(container_instance_arn, True))

    def interrupt_spot(self, arn: str) -> None:
        """A Spot interruption of a container instance or of a Fargate task.

        The instance is DRAINING at once and gone after two minutes (times `Pace.period_scale`);
        the task's `desiredStatus` is STOPPED at once, its stopCode SpotInterruption.
        """
        self._do(lambda control: control.interrupt_spot(arn))

    def hold_deployment(
        self, cluster: str, service: str, held: bool = True, *, region: str | None = None
    ) -> None:
        """Blue/green, linear and canary stages of a service go on by `next_stage` only.

        With `held` False they go on by themselves again. KeyError for an unknown service.
        """
        self._do(lambda control: control.hold_deployment(cluster, service, held, region))

    def next_stage(self, cluster: str, service: str, *, region: str | None = None) -> Document:
        """Take a deployment on to its next stage or traffic step, if its tasks are ready for it.

        Returns `stage`, `status` and `production`: the weights in percent by deployment id, which
        is what tasks carry as `startedBy`.
        """
        return self._do(lambda control: control.next_stage(cluster, service, region))

    def add_role(self, arn: str, external_id: str) -> None:
        """Declare a role that is only assumed with this external id."""
        self._do(lambda control: control.add_role(arn, external_id))


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not host.startswith("127."):
        raise ValueError(f"listen must be an address of 127.0.0.0/8 and a port, not {listen!r}")
    # the protocol is named because asyncio sets TCP_NODELAY only where it is
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener
