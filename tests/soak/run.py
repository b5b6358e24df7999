"""Run: the long tests, `make soak`. Real load, real kills; a table at the end, and the same as JSON in `.build/soak`.

    run.py [--minutes 10] [--kills 20] [--rate 2000] [--only casts,restarts,calls,growth] [--seed N]

Exit status 1 when a promise was broken, or when this machine could not make the load that was asked for.
"""

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "functional"))

import oslo_messaging
import records
from fabric import Fabric, eventually
from growth import LIMITS, Watched, chart, sample
from population import Population, kill_and_restart
from records import Verdict
from rich.console import Console
from rich.table import Table

CONSOLE = Console(width=130)
RESULTS = Path(".build/soak")
LONGEST_GAP = 2.0
CALL_TIMEOUT = 10.0
WAVE_MOST = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    minutes: float
    kills: int
    rate: float
    only: list[str]
    seed: int


@dataclass(slots=True)
class Result:
    """One part's verdict; `charts` are lines to look at."""

    part: str
    verdict: Verdict
    seconds: float
    charts: list[str] = field(default_factory=list)


def say(text: str) -> None:
    CONSOLE.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", highlight=False)


# casts, calls: receivers are killed; restarts: services are restarted


def kills(asked: Asked, population: Population, rng: random.Random) -> dict[str, float]:
    """`kill -9` either receiver at random moments, and start it at once; how long that took at most, for the gaps contain it."""
    longest = 0.0
    for number in range(1, asked.kills + 1):
        population.run_on(rng.uniform(2.0, 5.0))
        node = rng.choice(list(population.fabric.addresses))
        seconds = kill_and_restart(population.fabric, node)
        longest = max(longest, seconds)
        say(f"kill {number} of {asked.kills}: the receiver of {node} answers after {seconds:.2f} s")
    return {"longest start s": round(longest, 3)}


def restarts(asked: Asked, population: Population, rng: random.Random) -> dict[str, float]:
    """Restart the listeners gracefully, one after the other, as often as receivers would be killed."""
    listeners, longest = population.of("listen"), 0.0
    for number in range(1, asked.kills + 1):
        population.run_on(rng.uniform(0.2, 1.0))
        service = listeners.pop(0)
        begun = time.monotonic()
        status = service.end()
        assert status == 0, f"{service.record.name} ended with {status}"
        listeners.append(population.again(service))
        population.wait_up()
        longest = max(longest, time.monotonic() - begun)
        say(f"restart {number} of {asked.kills}: {service.record.name} is replaced after {time.monotonic() - begun:.2f} s")
    return {"longest restart s": round(longest, 3)}


def casts_part(asked: Asked, disturb: Callable[[Asked, Population, random.Random], dict[str, float]]) -> Verdict:
    """Six listeners, two senders, and trouble."""
    rng = random.Random(asked.seed)  # noqa: S311
    with Population.on(Fabric(nodes=2, ring={"casts": ["n1", "n2"]})) as population:
        nodes = list(population.fabric.addresses)
        for node in nodes * 3:
            population.start("listen", node, topic="casts", server=node)
        population.wait_up()
        casters = [population.start("cast", node, topic="casts", rate=asked.rate / 2, threads=4) for node in nodes]
        population.wait_up()
        begun = time.monotonic()
        population.run_on(2.0)
        figures = disturb(asked, population, rng)
        population.run_on(2.0)
        lasted = time.monotonic() - begun
        assert [service.end(120) for service in casters] == [0] * len(casters)
        verdict = settled(population, lambda: records.judge_casts(population.lines("casts"), LONGEST_GAP))
        end_all(population, verdict)
        keep_records(population, verdict, asked)
        reached = verdict.figures["sent"] / lasted
        verdict.figures |= {**figures, "casts/s": round(reached)}
        verdict.require(
            reached >= 0.98 * asked.rate, f"{reached:.0f} casts/s instead of {asked.rate:.0f}; a lower --rate is allowed"
        )
    return verdict


def calls_part(asked: Asked) -> Verdict:
    """Calls of different lengths, with receivers killed; among a tenth of the casts."""
    rng = random.Random(asked.seed + 1)  # noqa: S311
    with Population.on(Fabric(nodes=2, ring={"casts": ["n1", "n2"], "calls": ["n1", "n2"]})) as population:
        nodes = list(population.fabric.addresses)
        for node in nodes:
            population.start("listen", node, topic="casts", server=node)
            population.start("listen", node, topic="calls", server=node)
        population.wait_up()
        senders = [population.start("cast", node, topic="casts", rate=asked.rate / 20, threads=2) for node in nodes]
        for node in nodes:
            for work, rate in ((0.0, asked.rate / 80), (0.5, 5)):
                senders.append(
                    population.start("call", node, topic="calls", rate=rate, threads=6, timeout=CALL_TIMEOUT, work=work)
                )
        population.wait_up()
        figures = kills(asked, population, rng)
        population.run_on(2.0)
        assert [service.end(120) for service in senders] == [0] * len(senders)
        verdict = settled(population, lambda: records.judge_calls(population.lines("calls"), CALL_TIMEOUT))
        casts = settled(population, lambda: records.judge_casts(population.lines("casts"), LONGEST_GAP))
        verdict.broken += casts.broken
        verdict.figures |= figures
        verdict.figures |= {f"casts {name}": casts.figures[name] for name in ("sent", "lost", "duplicated", "longest gap s")}
        end_all(population, verdict)
        keep_records(population, verdict, asked)
    return verdict


def settled(population: Population, judge: Callable[[], Verdict]) -> Verdict:
    """The verdict once everything has arrived, or after half a minute."""
    deadline = time.monotonic() + 30
    while (verdict := judge()).broken and time.monotonic() < deadline:
        population.run_on(1.0)
    return verdict


def end_all(population: Population, verdict: Verdict) -> None:
    """Services and receivers end in peace."""
    for service in population.services:
        if service.process.poll() is None:
            status = service.end()
            verdict.require(status == 0, f"{service.record.name} ended with {status}")
    for node in population.fabric.addresses:
        status = population.fabric.stop(node)
        verdict.require(status == 0, f"the receiver of {node} ended with {status}")


def keep_records(population: Population, verdict: Verdict, asked: Asked) -> None:
    """Records and logs of a run that broke a promise, for whoever has to find out why."""
    if verdict.broken:
        kept = RESULTS / f"broken-{asked.seed}-{int(time.time())}"
        kept.mkdir(parents=True)
        for file in population.fabric.directory.iterdir():
            if file.suffix in {".record", ".log"}:
                (kept / file.name).write_bytes(file.read_bytes())
        say(f"records and logs are kept in {kept}")


# growth


def growth_part(asked: Asked) -> tuple[Verdict, list[str]]:
    """Mixed load, while listeners and transports come and go; who stays must not grow."""
    with Population.on(
        Fabric(nodes=2, ring={topic: ["n1", "n2"] for topic in ("casts", "calls", "waves", "notes.info")})
    ) as population:
        fabric = population.fabric
        staying = [
            population.start("listen", node, topic=topic, server=node)
            for node in fabric.addresses
            for topic in ("casts", "calls", "waves")
        ]
        staying += [population.start("notice", node, topic="notes") for node in fabric.addresses]
        population.wait_up()
        share = asked.rate / 10
        staying += [population.start("cast", node, topic="casts", rate=share, threads=2) for node in fabric.addresses]
        staying += [
            population.start("call", node, topic="calls", rate=share / 4, threads=4, timeout=CALL_TIMEOUT)
            for node in fabric.addresses
        ]
        staying += [population.start("mix", node, topic="waves", rate=share / 10, threads=2) for node in fabric.addresses]
        population.wait_up()
        watched = [Watched(f"receiver {node}", process.pid) for node, process in fabric.processes.items()]
        watched += [Watched(service.record.stem, service.process.pid) for service in staying]
        end = time.monotonic() + 60 * asked.minutes
        waves = threading.Thread(target=come_and_go, args=(asked, population, end), daemon=True)
        waves.start()
        told = 0.0
        while (now := time.monotonic()) < end:
            for one in watched:
                one.samples.append(sample(one.pid, now))
            if now - told > 30:
                told = now
                latest = watched[0].samples[-1]
                left = f"{(end - now) / 60:.1f} min left"
                say(f"{left}; {watched[0].name}: {latest.descriptors} descriptors, {latest.rss / 1e6:.1f} MB")
            population.run_on(min(3.0, max(0.0, end - now)))
        waves.join()
        casts_end = [service.end(60) for service in staying if service.role in {"cast", "call", "mix"}]
        verdict = settled(population, lambda: records.judge_casts(population.lines("casts")))
        calls = records.judge_calls(population.lines("calls"), CALL_TIMEOUT)
        verdict.broken += calls.broken
        verdict.require(not any(casts_end), f"senders ended with {casts_end}")
        verdict.figures["calls"] = calls.figures["begun"]
        end_all(population, verdict)
        charts = judge_growth(watched, verdict)
        keep_records(population, verdict, asked)
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "growth.json").write_text(json.dumps({one.name: one.samples for one in watched}))
    return verdict, charts


def come_and_go(asked: Asked, population: Population, end: float) -> None:
    """Again and again: another listener process, a listener and a few transports in this one; all of them end again."""
    rng = random.Random(asked.seed + 2)  # noqa: S311
    fabric = population.fabric
    while time.monotonic() < end - WAVE_MOST:
        node = rng.choice(list(fabric.addresses))
        passing = population.start("listen", node, topic="waves", server=f"{node}-{rng.randrange(10**6)}")
        eventually(passing.is_up, 30)
        for _ in range(5):
            transport = oslo_messaging.get_rpc_transport(fabric.conf(node), "zmq://")
            client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic="waves"), timeout=CALL_TIMEOUT)
            client.cast({}, "note", name="0.0")
            client.prepare(fanout=True).cast({}, "note", name="0.0")
            transport.cleanup()
        time.sleep(rng.uniform(1, 5))
        if rng.random() < 0.3:
            passing.kill()
        else:
            passing.end()


def judge_growth(watched: list[Watched], verdict: Verdict) -> list[str]:
    """One line for each process and each kind of thing that could grow."""
    lines = [f"{'process':<16} {'what':<12} {'first':>8} {'last':>8} {'slope/h':>9} {'bar':>7}"]
    for one in watched:
        for limit in LIMITS:
            hourly, bar, kept = one.row(limit)
            unit = 1e6 if limit.name == "rss" else 1
            values = [getattr(entry, limit.name) / unit for entry in one.samples]
            lines.append(
                f"{one.name:<16} {limit.name + (' MB' if unit > 1 else ''):<12} {values[0]:>8.1f} {values[-1]:>8.1f}"
                f" {hourly / unit:>+9.2f} {bar / unit:>7.2f} {'ok  ' if kept else 'OVER'} {chart(values)}"
            )
            verdict.require(kept, f"{one.name} grows: {hourly / unit:+.2f} {limit.name} an hour")
    return lines


# the whole


PARTS: dict[str, Callable[[Asked], Verdict | tuple[Verdict, list[str]]]] = {
    "casts": lambda asked: casts_part(asked, kills),
    "restarts": lambda asked: casts_part(asked, restarts),
    "calls": calls_part,
    "growth": growth_part,
}


def main() -> None:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    say(f"seed {asked.seed}")
    results = []
    for part in asked.only:
        say(f"[bold]{part}[/]")
        begun = time.monotonic()
        outcome = PARTS[part](asked)
        verdict, charts = outcome if isinstance(outcome, tuple) else (outcome, [])
        results.append(Result(part, verdict, round(time.monotonic() - begun, 1), charts))
    report(asked, results)
    sys.exit(any(result.verdict.broken for result in results))


def report(asked: Asked, results: list[Result]) -> None:
    """The table, and the file."""
    table = Table("part", "took", "figures", "verdict")
    for result in results:
        figures = ", ".join(f"{name} {value:g}" for name, value in result.verdict.figures.items())
        table.add_row(result.part, f"{result.seconds:.0f} s", figures, "\n".join(result.verdict.broken) or "kept")
        for line in result.charts:
            CONSOLE.print(line, highlight=False, markup=False, soft_wrap=True)
    CONSOLE.print(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "soak.json").write_text(
        json.dumps({"asked": asdict(asked), "results": [asdict(result) for result in results]}, indent=1) + "\n"
    )


def arguments() -> Asked:
    parser = argparse.ArgumentParser(description="The long tests.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of mixed load, for growth")
    parser.add_argument("--kills", type=int, default=20, help="of receivers (casts, calls); restarts of services")
    parser.add_argument("--rate", type=float, default=2000.0, help="casts a second, of all senders")
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments and nodes")  # noqa: S311
    given = parser.parse_args()
    only = given.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    return Asked(given.minutes, given.kills, given.rate, only, given.seed)


if __name__ == "__main__":
    main()
