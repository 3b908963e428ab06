"""Two more callers of the change benchmark: a Java program, and Traefik with its ECS provider."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from discovery.written import Address
from tests.change.callers import PlainCaller
from tests.change.fleet import PORT
from tests.change.stage import APP, Timing
from tests.peers.test_traefik import free_port

TRAEFIK = shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")
_PATIENCE_S = 120.0

# One request for each line read, which is its number. It takes any of the addresses that
# InetAddress gives, whose cache is the JDK's own: 30 s for what was found, 10 s for what was not.
_CLIENT = """
import java.io.*;
import java.net.*;
import java.util.concurrent.*;

public class Client {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newCachedThreadPool();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        say("ready");
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String number = line;
            pool.execute(() -> say(number + " " + asked(args)));
        }
        System.exit(0);
    }

    static String asked(String[] args) {
        try {
            InetAddress[] all = InetAddress.getAllByName(args[0]);
            InetAddress one = all[ThreadLocalRandom.current().nextInt(all.length)];
            URL url = new URL("http://" + one.getHostAddress() + ":" + args[1] + "/");
            HttpURLConnection connection = (HttpURLConnection) url.openConnection();
            connection.setRequestProperty("Connection", "close");
            connection.setConnectTimeout(1000);
            connection.setReadTimeout(Integer.parseInt(args[2]));
            try (InputStream in = connection.getInputStream()) {
                return "+" + new String(in.readAllBytes());
            }
        } catch (Exception error) {
            return "-" + error;
        }
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
"""


class JavaCaller:
    """A JVM that resolves by the system's resolver, and so by what /etc/resolv.conf names.

    `cache_s` stands in for `networkaddress.cache.ttl`, which is the JDK's own 30 s without it.
    """

    def __init__(self, timing: Timing, directory: Path, cache_s: float | None = None) -> None:
        source = directory / "Client.java"
        source.write_text(_CLIENT)
        cache = [] if cache_s is None else [f"-Dsun.net.inetaddr.ttl={cache_s:g}"]
        words = ["java", *cache, str(source), f"{APP}.demo.ecs.internal", str(PORT)]
        self._process = subprocess.Popen(
            [*words, str(round(1_000 * timing.timeout_s))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: dict[str, Future[str]] = {"ready": Future()}
        ready = self._waiting["ready"]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        ready.result(_PATIENCE_S)

    def __call__(self) -> str:
        said: Future[str] = Future()
        assert self._process.stdin is not None
        with self._lock:
            self._number += 1
            self._waiting[str(self._number)] = said
            self._process.stdin.write(f"{self._number}\n")
            self._process.stdin.flush()
        text = said.result(_PATIENCE_S)
        if text[:1] != "+":
            raise OSError(text[1:])
        return text[1:]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE_S)
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            number, _, text = line.rstrip("\n").partition(" ")
            self._waiting.pop(number).set_result(text)


def traefik(timing: Timing, environment: Mapping[str, str], stack: ExitStack) -> PlainCaller:
    """Traefik, as often as we read, and a client of its that makes a connection a request."""
    assert TRAEFIK is not None
    port = free_port()
    command = [
        TRAEFIK,
        "--providers.ecs=true",
        "--providers.ecs.clusters=demo",
        f"--providers.ecs.region={environment['AWS_REGION']}",
        f"--providers.ecs.refreshSeconds={max(1, round(timing.interval_s))}",
        f"--entryPoints.web.address=127.0.0.1:{port}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=quiet, stderr=quiet
    )
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    return PlainCaller(Address("127.0.0.1", port), timing.timeout_s)
