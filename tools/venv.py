"""Make a virtual environment of this checkout, or leave a good one alone.

    python3 tools/venv.py --extra rollout [--dir .venv]

A stamp inside the environment names what it was made from: pyproject.toml, the interpreter and the place
(scripts carry absolute paths). While that holds, nothing happens; otherwise it is topped up or made again.
Runs before anything is installed, so: standard library only, and it must parse on an old python3 to say so.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXTRAS = ("rollout", "test", "dev")  # each one contains those before it
SOURCES = ("pyproject.toml", "setup.py", os.path.join("tools", "venv.py"))


def main():
    parser = argparse.ArgumentParser(description="Make or refresh a virtual environment of this checkout.")
    parser.add_argument("--extra", choices=EXTRAS, default="rollout")
    parser.add_argument("--dir", default=os.path.join(CHECKOUT, ".venv"))
    arguments = parser.parse_args()
    check_interpreter()
    os.makedirs(os.path.join(CHECKOUT, ".cache"), exist_ok=True)
    with open(os.path.join(CHECKOUT, ".cache", "venv.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refresh(os.path.abspath(arguments.dir), arguments.extra)


def check_interpreter():
    """End with one line that says the remedy when this python cannot carry us."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever calls with an old one gets told, not a traceback
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"python {found} is too old, openstack-zeromq needs 3.11 or newer: make PYTHON=python3.12 ...")
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError:
        sys.exit("python3 lacks its venv module: apt-get install python3-venv (or pass PYTHON=...)")


def refresh(place, extra):
    """Make `place` hold `extra`; the stamp is written last, so an interrupted run is simply repeated."""
    base, sources = base_key(place), sources_key()
    found = read_stamp(place)
    if found is None or found["base"] != base:
        print(f"==> making {os.path.relpath(place)}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        run(sys.executable, "-m", "venv", place)
    elif found["sources"] == sources and extra in contained(found["extra"]):
        return
    elif extra in contained(found["extra"]):
        extra = found["extra"]
    print(f"==> installing openstack-zeromq[{extra}]: pip fetches what it needs, a minute or two without a cache", flush=True)
    run(
        os.path.join(place, "bin", "python"),
        *("-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--editable", f"{CHECKOUT}[{extra}]"),
    )
    with open(stamp(place), "w") as file:
        json.dump({"base": base, "sources": sources, "extra": extra}, file)


def base_key(place):
    """What asks for a new environment when it changes: the interpreter, and where things lie."""
    return digest(sys.version, os.path.realpath(sys.executable), CHECKOUT, place)


def sources_key():
    """What asks for another pip install when it changes."""
    texts = []
    for name in SOURCES:
        with open(os.path.join(CHECKOUT, name)) as file:
            texts.append(file.read())
    return digest(*texts)


def read_stamp(place):
    """The stamp of the environment at `place`; None when there is none, or its interpreter does not run."""
    try:
        with open(stamp(place)) as file:
            found = json.load(file)
        run(os.path.join(place, "bin", "python"), "-c", "")
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return found


def contained(extra):
    return EXTRAS[: EXTRAS.index(extra) + 1]


def digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def stamp(place):
    return os.path.join(place, ".openstack-zeromq.json")


def run(*command):
    subprocess.run(command, check=True)  # noqa: S603 - our own arguments, no shell


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit("failed, see above: {}".format(" ".join(error.cmd)))
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again")
