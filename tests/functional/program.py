"""Services as processes of their own: the programs of the folder `programs`, and what they say in JSON lines."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fabric import Fabric

PROGRAMS = Path(__file__).parent / "programs"
MODES = ("native", "eventlet")

FAR_FROM_EVER = 15.0
"""Seconds within which a program has said what it has to say, on a busy machine, too."""


class Program:
    """A program of the folder `programs`, and what it has said so far."""

    def __init__(self, name: str, mode: str, fabric: Fabric, *arguments: object, under: Sequence[str] = ()) -> None:
        """`under`: the command that starts it, in another namespace perhaps."""
        self.said: list[dict[str, Any]] = []
        self._errors = fabric.directory / f"{name}.{uuid.uuid4().hex[:6]}.log"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    *under,
                    sys.executable,
                    "-W",
                    "ignore",
                    f"{PROGRAMS / name}.py",
                    mode,
                    str(fabric.config_file("n1")),
                    *map(str, arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def hear(self, word: str, within: float = FAR_FROM_EVER, count: int = 1) -> list[Any]:
        """What it says under `word`, once it has said so `count` times."""

        def found() -> list[Any]:
            return [facts[word] for facts in list(self.said) if word in facts]

        deadline = time.monotonic() + within
        while len(found()) < count:
            assert self._reader.is_alive() or len(found()) >= count, f"it ended: {self._errors.read_text()}"
            assert time.monotonic() < deadline, f"no {count} {word} in {self.said}; {self._errors.read_text()}"
            time.sleep(0.01)
        return found()

    def ended(self, within: float = FAR_FROM_EVER) -> int:
        """Its exit status."""
        status = self.process.wait(within)
        self._reader.join(within)
        assert status == 0, f"it ended with {status}: {self._errors.read_text()}"
        return status

    def errors(self) -> str:
        """What it wrote on its standard error: its log."""
        return self._errors.read_text()

    def close(self) -> None:
        """End it and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
