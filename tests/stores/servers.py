"""The real stores, for tests: Redis 7 and 8, Valkey, a Sentinel group, Consul. Nothing is mocked.

`make stores` fetches the programs. Every server has its own directory and its own loopback port, so that many run side
by side; the port is known before the start and stays over restarts. A server is a context manager; all that it left is
removed at the end. `start` returns when the server answers.
"""

import datetime
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.parse
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import consul
import redis
import requests
import trustme
from fabric import eventually
from ports import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

STORES = Path(__file__).parents[2] / ".cache" / "stores"
LOOPBACK = "127.0.0.1"


def program(store: str, name: str) -> str:
    """The path of a fetched program."""
    path = STORES / store / "bin" / name
    assert path.exists(), f"{path} is not here: make stores"
    return str(path)


class Authority:
    """A certificate authority of one test run; its files live in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def issue(self, name: str, *identities: str, not_after: datetime.datetime | None = None) -> tuple[Path, Path]:
        """Certificate and key file for `identities` (127.0.0.1 and localhost by default)."""
        made = self._ca.issue_cert(*(identities or (LOOPBACK, "localhost")), not_after=not_after)
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        made.cert_chain_pems[0].write_to_path(str(certificate))
        made.private_key_pem.write_to_path(str(key))
        return certificate, key


class Startable(ABC):
    """Whatever `with` starts and ends, also when it does not start."""

    @abstractmethod
    def start(self) -> None:
        """Start it; it answers when this returns."""

    @abstractmethod
    def close(self) -> None:
        """End it, whatever it does, and remove its files."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except AssertionError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Server(Startable):
    """One process with a directory of its own."""

    def __init__(self, address: str) -> None:
        self.host = address
        self.port = free_port([address])
        self.directory = Path(tempfile.mkdtemp(prefix="oz", dir="/tmp"))
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Write the configuration; what to start."""

    @abstractmethod
    def _answers(self) -> bool:
        """Is it ready? Errors of connections mean no."""

    def _environment(self) -> dict[str, str]:
        return {}

    @property
    def log(self) -> str:
        """All that the server wrote, over all its starts."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self.process is None, "it runs"
        command = self._command()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(self._ready, within=30)
        except AssertionError:
            self.process.kill()
            raise

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self} ended with {self.process.returncode}: {self.log[-2000:]}"
        try:
            return self._answers()
        except (redis.RedisError, consul.ConsulException, requests.RequestException):
            return False

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        assert self.process is not None, "it does not run"
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(15)
        self.process = None

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        assert self.process is not None, "it does not run"
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self) -> None:
        """Stop and start with the same port and the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """It accepts connections (the kernel does) and says nothing: SIGSTOP."""
        assert self.process is not None, "it does not run"
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None, "it does not run"
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever it does, and remove its files."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port}>"


class RedisServer(Server):
    """Redis or Valkey: `program` is redis6, redis7, redis8 or valkey.

    `acl_users` are rules by user name ({"nova": "on >secret ~* &* +@all"}), `settings` further lines of redis.conf.
    With a `clock_file` (redis7 only), `clock_jump` moves its wall clock.
    Without `save` the data is gone after `stop` and `kill`; with it, it is there again. `restart` keeps it in any case.
    """

    def __init__(
        self,
        program: str = "redis7",
        *,
        password: str | None = None,
        acl_users: Mapping[str, str] | None = None,
        tls: Authority | None = None,
        replica_of: "RedisServer | None" = None,
        save: bool = False,
        clock_file: Path | None = None,
        address: str = LOOPBACK,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        assert clock_file is None or program == "redis7", f"{program} needs its own malloc, which libfaketime does not bear"
        super().__init__(address)
        self.program, self.password, self.save, self.tls, self.replica_of = program, password, save, tls, replica_of
        self.acl_users, self.settings = dict(acl_users or {}), dict(settings or {})
        self._clock_file, self._clock_offset = clock_file, 0.0
        self._data, self._append = self.directory / "dump.rdb", save

    @property
    def url(self) -> str:
        """For redis-py."""
        secret = f":{urllib.parse.quote(self.password, safe='')}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{secret}{self.host}:{self.port}/0"

    @functools.cached_property
    def client(self) -> "redis.Redis[Any]":
        """A connection of the administrator; texts, not bytes."""
        tls = {"ssl": True, "ssl_ca_certs": str(self.tls.ca_file)} if self.tls else {}
        return redis.Redis(
            host=self.host,
            port=self.port,
            password=self.password,
            decode_responses=True,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 1),
            **tls,
        )

    def cli(self, *arguments: object) -> str:
        """What redis-cli prints."""
        family = "valkey" if self.program == "valkey" else "redis"
        tls = ["--tls", "--cacert", str(self.tls.ca_file)] if self.tls else []
        secret = {"REDISCLI_AUTH": self.password} if self.password else {}
        done = subprocess.run(
            [program(self.program, f"{family}-cli"), "-h", self.host, "-p", str(self.port), *tls, *map(str, arguments)],
            env={"PATH": os.environ["PATH"], **secret},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")

    def stop(self) -> None:
        super().stop()
        self._forget()

    def kill(self) -> None:
        super().kill()
        self._forget()

    def restart(self) -> None:
        self.client.save()
        super().stop()
        self.start()

    def dump(self) -> bytes:
        """All data as an RDB file, for `restore`."""
        self.client.save()
        return self._data.read_bytes()

    def restore(self, dump: bytes) -> None:
        """Come back with the data of then, as after a disaster."""
        if self.process is not None:
            super().kill()
        shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        self._data.write_bytes(dump)
        self._append = False  # with an append-only file it would not read the dump
        self.start()
        if self.save:
            self._append = True
            self.client.config_set("appendonly", "yes")
            eventually(lambda: not self.client.info("persistence")["aof_rewrite_in_progress"])

    def wipe(self) -> None:
        """Remove all data of all databases."""
        self.client.flushall()

    def clock_jump(self, seconds: float) -> None:
        """Move the server's wall clock, from where it is now."""
        before = self._seconds()
        self._clock_offset += seconds
        self._write_clock()
        eventually(lambda: abs(self._seconds() - before - seconds) < max(2, abs(seconds) / 2))

    def _seconds(self) -> float:
        seconds, microseconds = self.client.time()
        return float(seconds + microseconds / 1e6)

    def _write_clock(self) -> None:
        assert self._clock_file is not None, "start it with a clock_file"
        new = self._clock_file.with_suffix(".new")
        new.write_text(f"{self._clock_offset:+f}\n")
        new.replace(self._clock_file)

    def _forget(self) -> None:
        if not self.save:
            self._data.unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        if self._clock_file is None:
            return {}
        self._write_clock()
        faketime = STORES / "faketime" / "lib" / "libfaketimeMT.so.1"
        assert faketime.exists(), f"{faketime} is not here: make stores"
        return {
            # jemalloc asks for the time before libfaketime can tell it, and both wait for ever: so libc's malloc instead.
            "LD_PRELOAD": f"{faketime} libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _command(self) -> list[str]:
        settings = {
            "bind": self.host,
            "port": "0" if self.tls else str(self.port),
            "dir": str(self.directory),
            "save": '""',
            "appendonly": "yes" if self._append else "no",
            "protected-mode": "no",
            "repl-diskless-sync-delay": "0",
            **({} if self.program == "redis6" else {"enable-debug-command": "local"}),  # 6.0 allows it without a word
            **self.settings,
        }
        if self.password:
            settings |= {"requirepass": json.dumps(self.password), "masterauth": json.dumps(self.password)}
        if self.replica_of:
            settings["replicaof"] = f"{self.replica_of.host} {self.replica_of.port}"
        if self.tls:
            certificate, key = self.tls.issue(f"redis-{self.port}")
            settings |= {
                "tls-port": str(self.port),
                "tls-cert-file": str(certificate),
                "tls-key-file": str(key),
                "tls-ca-cert-file": str(self.tls.ca_file),
                "tls-auth-clients": "no",
                "tls-replication": "yes",
            }
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [f"user {name} {rules}" for name, rules in self.acl_users.items()]
        path = self.directory / "redis.conf"
        path.write_text("\n".join(lines) + "\n")
        family = "valkey" if self.program == "valkey" else "redis"
        return [program(self.program, f"{family}-server"), str(path)]

    def _answers(self) -> bool:
        return bool(self.client.ping())


class Sentinel(Server):
    """One watcher of a `SentinelGroup`."""

    def __init__(self, group: "SentinelGroup", address: str) -> None:
        super().__init__(address)
        self.group = group

    @functools.cached_property
    def client(self) -> "redis.Redis[Any]":
        return redis.Redis(host=self.host, port=self.port, decode_responses=True, socket_timeout=5, retry=Retry(NoBackoff(), 1))

    def _command(self) -> list[str]:
        path = self.directory / "sentinel.conf"
        if not path.exists():  # from then on it is the sentinel's own: it writes down what it learnt
            path.write_text("\n".join(self._settings()) + "\n")
        return [self.group.program("server"), str(path), "--sentinel"]

    def _settings(self) -> list[str]:
        group = self.group
        master = group.servers[0]
        settings = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {self.directory}",
            "protected-mode no",
            f"sentinel monitor {group.group} {master.host} {master.port} {group.quorum}",
            f"sentinel down-after-milliseconds {group.group} {group.down_after_ms}",
            f"sentinel failover-timeout {group.group} 6000",
        ]
        if group.password:
            settings.append(f"sentinel auth-pass {group.group} {json.dumps(group.password)}")
        return settings

    def _answers(self) -> bool:
        return bool(self.client.ping())


class SentinelGroup(Startable):
    """A master and a replica of it, watched by sentinels that elect the replica when the master is gone."""

    def __init__(
        self,
        store: str = "redis7",
        *,
        sentinels: int = 3,
        down_after_ms: int = 1000,
        password: str | None = None,
        group: str = "zmq",
        address: str = LOOPBACK,
    ) -> None:
        self.store, self.group, self.password, self.down_after_ms = store, group, password, down_after_ms
        self.quorum = sentinels // 2 + 1
        master = RedisServer(store, password=password, address=address)
        self.servers = [master, RedisServer(store, password=password, replica_of=master, address=address)]
        self.sentinels = [Sentinel(self, address) for _ in range(sentinels)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels are."""
        return [(sentinel.host, sentinel.port) for sentinel in self.sentinels]

    def program(self, part: str) -> str:
        return program(self.store, f"{'valkey' if self.store == 'valkey' else 'redis'}-{part}")

    def start(self) -> None:
        """Start all; they know each other and the replica has the master's data when this returns."""
        master, replica = self.servers
        for server in (master, replica, *self.sentinels):
            server.start()
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up", within=30)
        eventually(self._agree, within=30)

    def master(self) -> RedisServer:
        """The master, as most running sentinels see it."""
        named = [named for sentinel in self.sentinels if sentinel.process and (named := self._named(sentinel))]
        port = max(named, key=named.count)
        return next(server for server in self.servers if server.port == port)

    def kill_master(self) -> RedisServer:
        """kill -9 for the master; it can be started again, as the other's replica."""
        master = self.master()
        master.kill()
        return master

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    def _named(self, sentinel: Sentinel) -> int | None:
        answer = sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.group)
        return int(answer[1]) if answer else None

    def _agree(self) -> bool:
        """Does each sentinel know all others and the replica?"""
        for sentinel in self.sentinels:
            seen = sentinel.client.sentinel_master(self.group)
            if seen["num-other-sentinels"] != len(self.sentinels) - 1 or seen["num-slaves"] != len(self.servers) - 1:
                return False
        return True


class ConsulAgent(Server):
    """One Consul server that keeps its data over restarts; `settings` are further keys of its configuration.

    With `acl`, everything is denied but to `token_management` and the tokens of `make_token`.
    """

    def __init__(
        self,
        *,
        acl: bool = False,
        tls: Authority | None = None,
        address: str = LOOPBACK,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(address)
        self.acl, self.tls, self.settings = acl, tls, dict(settings or {})
        self.token_management = str(uuid.uuid4()) if acl else None
        self.node = "store"
        self._ports = {"server": free_port([address]), "serf_lan": free_port([address])}

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def client(self, token: str | None = None) -> consul.Consul:
        """py-consul, with the management token unless told otherwise."""
        made = consul.Consul(
            host=self.host,
            port=self.port,
            scheme="https" if self.tls else "http",
            verify=str(self.tls.ca_file) if self.tls else True,
        )
        made.token = token if token is not None else self.token_management
        return made

    def put(self, path: str, **content: Any) -> None:
        """PUT with the management token; py-consul's way to send one with a catalog entry is refused by Consul 1.8."""
        requests.put(
            f"{self.url}/v1/{path}",
            json=content,
            headers={"X-Consul-Token": self.token_management or ""},
            verify=str(self.tls.ca_file) if self.tls else True,
            timeout=10,
        ).raise_for_status()

    def register(
        self,
        service: str,
        service_id: str,
        host: str,
        *,
        meta: Mapping[str, str] | None = None,
        status: str = "passing",
        ttl: str | None = None,
        address: str = LOOPBACK,
        port: int = 0,
    ) -> None:
        """An instance of `service` with one check.

        It stands on the node `host` of the catalog, with a check that stays at `status`; with `ttl` ("10s") it belongs to
        this agent, says its host in `Meta.zmq_host`, and `beat` keeps it alive.
        """
        if ttl is None:
            self.put(
                "catalog/register",
                Node=host,
                Address=address,
                Service={"Service": service, "ID": service_id, "Port": port, "Meta": dict(meta or {})},
                Check={
                    "CheckID": f"service:{service_id}",
                    "Name": f"Service {service}",
                    "Status": status,
                    "ServiceID": service_id,
                },
            )
            return
        self.client().agent.service.register(
            service,
            service_id=service_id,
            address=address,
            port=port,
            meta={"zmq_host": host, **(meta or {})},
            check={"ttl": ttl, "status": status},
        )

    def beat(self, service_id: str, status: str = "pass") -> None:
        """What the owner of a TTL check says: pass, warn or fail."""
        check = self.client().agent.check
        {"pass": check.ttl_pass, "warn": check.ttl_warn, "fail": check.ttl_fail}[status](f"service:{service_id}")

    def deregister(self, service_id: str, host: str | None = None) -> None:
        """Remove an instance: from the catalog's node `host`, or from this agent."""
        if host is None:
            self.client().agent.service.deregister(service_id)
        else:
            self.put("catalog/deregister", Node=host, ServiceID=service_id)

    def make_token(self, rules: Mapping[str, Any]) -> str:
        """A token with these rights, for instance {"service_prefix": {"": {"policy": "read"}}}."""
        client = self.client()
        policy = client.acl.policy.create(name=f"test-{uuid.uuid4()}", rules=dict(rules))
        return str(client.acl.token.create(policies_id=[policy["ID"]])["SecretID"])

    def wipe(self) -> None:
        """The server is replaced by an empty one in the same place."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory / "data")
        self.start()

    def _command(self) -> list[str]:
        settings: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": self.node,
            "data_dir": str(self.directory / "data"),
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": {
                **self._ports,
                "http": -1 if self.tls else self.port,
                "https": self.port if self.tls else -1,
                "dns": -1,
                "grpc": -1,
                "serf_wan": -1,
            },
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "warn",
        }
        if self.acl:
            settings["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": self.token_management, "agent": self.token_management},
            }
        if self.tls:
            certificate, key = self.tls.issue(f"consul-{self.port}")
            settings |= {"ca_file": str(self.tls.ca_file), "cert_file": str(certificate), "key_file": str(key)}
        path = self.directory / "consul.json"
        path.write_text(json.dumps({**settings, **self.settings}))
        return [program("consul", "consul"), "agent", "-config-file", str(path)]

    def _answers(self) -> bool:
        """It leads, and its own service is in the catalog."""
        client = self.client()
        return bool(client.status.leader()) and bool(client.health.service("consul", passing=True)[1])
