"""Fetch the stores that tests run against into .cache/stores, or leave good ones alone.

    python3 tools/stores.py [--mirror URI]

Redis 6.0, 7 and 8, Valkey and Consul as Debian releases have them, and libfaketime. Nothing is installed: apt, with a
state directory of its own, downloads and checks the packages, dpkg unpacks them, and .cache/stores/<name>/bin/<program>
runs a program with the libraries of its own release, whatever this machine has. The mirror is the machine's own.
Runs before anything is installed, so: standard library only.
"""

import argparse
import collections
import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STORES = os.path.join(CHECKOUT, ".cache", "stores")
STAMP = ".openstack-zeromq"

Store = collections.namedtuple("Store", "suite packages programs libraries")
WANTED = {
    "redis6": Store("bullseye", ("redis-server", "redis-tools", "lua-cjson", "lua-bitop"), ("redis-server", "redis-cli"), ()),
    "redis7": Store("bookworm", ("redis-server", "redis-tools"), ("redis-server", "redis-cli"), ()),
    "redis8": Store("trixie", ("redis-server", "redis-tools"), ("redis-server", "redis-cli"), ()),
    "valkey": Store("trixie", ("valkey-server", "valkey-tools"), ("valkey-server", "valkey-cli"), ()),
    "consul": Store("bullseye", ("consul",), ("consul",), ()),
    "faketime": Store("bookworm", ("libfaketime",), (), ("libfaketimeMT.so.1",)),
}

# "$0" is the whole path: the kernel passes it when it starts a script.
START = """\
#!/bin/sh
tree=${{0%/bin/*}}/tree
exec "$tree/{loader}" --inhibit-cache --library-path "{libraries}" "$tree/{program}" "$@"
"""


class StoreError(Exception):
    """What went wrong and the remedy, in one line."""


def main():
    parser = argparse.ArgumentParser(description="Fetch the stores that tests run against.")
    parser.add_argument("--mirror", help="a Debian mirror to use instead of the one in this machine's apt configuration")
    arguments = parser.parse_args()
    os.makedirs(STORES, exist_ok=True)
    with open(os.path.join(STORES, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in WANTED if not is_whole(name)]
        if missing:
            fetch(missing, arguments.mirror)


def fetch(names, mirror):
    """Make the stores `names`; each one is complete or not there at all."""
    for program, package in (("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg", "dpkg")):
        if shutil.which(program) is None:
            raise StoreError(f"{program} is missing: the stores come as Debian packages, use Debian 12 or 13 (package {package})")
    uri = mirror or machine_mirror()
    suites = {suite: Apt(suite, uri) for suite in sorted({WANTED[name].suite for name in names})}
    updates = {suite: apt.begin_update() for suite, apt in suites.items()}
    failures = {suite: said for suite, update in updates.items() if (said := failure_of(update))}
    for name in names:
        if WANTED[name].suite not in failures:
            make(name, suites[WANTED[name].suite])
    shutil.rmtree(os.path.join(STORES, "apt"))
    if failures:
        raise StoreError(
            f"the Debian mirror has no usable {' and no usable '.join(failures)}: {'; '.join(failures.values())}: "
            "try tools/stores.py --mirror with another one, or a newer package debian-archive-keyring"
        )


def make(name, apt):
    """Download, unpack, try, and only then put it where tests look."""
    began, store = time.monotonic(), WANTED[name]
    place, final = os.path.join(STORES, name + ".new"), os.path.join(STORES, name)
    shutil.rmtree(place, ignore_errors=True)
    tree, packages = os.path.join(place, "tree"), os.path.join(place, "packages")
    os.makedirs(tree)
    os.makedirs(packages)
    # A library without programs is loaded into processes that bring their own libc.
    chosen = apt.with_libraries(store.packages) if store.programs else store.packages
    apt.download(chosen, packages)
    for package in sorted(os.listdir(packages)):
        run(["dpkg", "-x", os.path.join(packages, package), tree], f"{package} does not unpack; is the disk full?")
    shutil.rmtree(packages)
    for program in store.programs:
        write_start(place, program)
    for library in store.libraries:
        os.makedirs(os.path.join(place, "lib"), exist_ok=True)
        os.symlink(os.path.join("..", find(place, library)), os.path.join(place, "lib", library))
    versions = [try_out(os.path.join(place, "bin", program)) for program in store.programs[:1]]
    with open(os.path.join(place, STAMP), "w") as file:
        file.write(stamp(name))
    shutil.rmtree(final, ignore_errors=True)
    os.rename(place, final)
    said = versions[0] if versions else ", ".join(store.libraries)
    print(f"==> {name}: {said} ({len(chosen)} packages of {store.suite}, {time.monotonic() - began:.0f} s)", flush=True)


def write_start(place, program):
    """bin/<program>: the program, run by its own release's loader."""
    loader = find(place, "ld-linux*.so*", "ld64.so*")
    found = glob.glob(os.path.join(place, "tree", "**", "lib*.so.[0-9]*"), recursive=True)
    folders = {os.path.dirname(path) for path in found if not path.endswith(".py")}
    libraries = ":".join("$tree/" + os.path.relpath(folder, os.path.join(place, "tree")) for folder in sorted(folders))
    target = find(place, os.path.join("bin", program))
    start = START.format(loader=loader[len("tree/") :], libraries=libraries, program=target[len("tree/") :])
    # Debian's Redis 6.0 loads what its scripts may use (cjson) from where Lua looks.
    modules = glob.glob(os.path.join(place, "tree", "**", "lua", "5.1", "cjson.so"), recursive=True)
    if modules:
        inside = os.path.relpath(os.path.dirname(modules[0]), os.path.join(place, "tree"))
        start = start.replace("exec ", f'export LUA_CPATH="$tree/{inside}/?.so"\nexec ')
    path = os.path.join(place, "bin", program)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
        file.write(start)


def find(place, *patterns):
    """The first real file of the tree that is called so, relative to `place`."""
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(place, "tree", "**", pattern), recursive=True)):
            if os.path.isfile(path) and os.path.realpath(path).startswith(os.path.realpath(place)):
                return os.path.relpath(path, place)
    raise StoreError(f"the packages have no {patterns[0]} any more: correct WANTED in tools/stores.py")


def try_out(path):
    """The version that the program says it is."""
    argument = "version" if path.endswith("consul") else "--version"
    return run([path, argument], f"{path} does not run here").splitlines()[0]


class Apt:
    """apt with a state of its own that knows one suite, and believes that nothing is installed."""

    def __init__(self, suite, uri):
        self.suite = suite
        self.root = os.path.join(STORES, "apt", suite)
        for folder in ("state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.root, folder), exist_ok=True)
        with open(os.path.join(self.root, "status"), "w"):
            pass
        with open(os.path.join(self.root, "sources.list"), "w") as file:
            file.write(f"deb [signed-by={keyring()}] {uri} {suite} main\n")
        settings = {
            "Dir::State": f"{self.root}/state",
            "Dir::State::status": f"{self.root}/status",
            "Dir::Cache": f"{self.root}/cache",
            "Dir::Etc::sourcelist": f"{self.root}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Default-Release": "",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def begin_update(self):
        return subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            ["apt-get", *self._options, "--quiet", "update"],  # noqa: S607 - wherever apt is
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def with_libraries(self, packages):
        """The packages and all libraries below them; what only their installation scripts need is left out."""
        known, new = [], list(packages)
        while new:
            known += new
            said = run(["apt-cache", *self._options, "depends", "--important", *new], f"{self.suite} does not have {new}")
            named = re.findall(r"^ +(?:Pre)?Depends: (z?lib\S+)$", said, re.MULTILINE)
            new = [name for name in dict.fromkeys(named) if name not in known]
        return known

    def download(self, packages, folder):
        run(
            ["apt-get", *self._options, "--quiet", "download", *packages],
            f"{' '.join(packages)} of {self.suite} did not arrive; run it again",
            cwd=folder,
        )


def failure_of(update):
    """Why the lists of packages did not arrive; None when they did."""
    said = update.communicate()[0]
    return complaint(said) if update.returncode else None


def apt_sources():
    return ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]


def machine_mirror(paths=None):
    """The address of the Debian archive in this machine's apt configuration, deb822 or one-line."""
    for path in apt_sources() if paths is None else paths:
        with contextlib.suppress(OSError), open(path) as file:
            text = re.sub(r"^\s*#.*\n?", "", file.read(), flags=re.MULTILINE)
            entries = (
                deb822_entries(text) if path.endswith(".sources") else one_line_entries(text) if path.endswith(".list") else []
            )
            for uri, suites, components in entries:
                if "main" in components and is_release(suites) and not uri.startswith("cdrom:"):
                    return uri
    raise StoreError("this machine's apt configuration names no Debian mirror: name one with tools/stores.py --mirror")


def is_release(suites):
    """Is it the archive itself, not that of security updates, and Debian's?"""
    return any(suite in ("bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing") for suite in suites)


def deb822_entries(text):
    for block in re.split(r"\n\s*\n", text):
        fields = {
            name.lower(): value.split() for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", block, re.MULTILINE)
        }
        if fields.get("enabled") != ["no"] and "deb" in fields.get("types", ()):
            for uri in fields.get("uris", ()):
                yield uri, fields.get("suites", ()), fields.get("components", ())


def one_line_entries(text):
    for uri, suite, components in re.findall(r"^\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", text, re.MULTILINE):
        yield uri, [suite], components.split()


def keyring():
    for name in ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp"):
        path = os.path.join("/usr/share/keyrings", name)
        if os.path.exists(path):
            return path
    raise StoreError("Debian's keys are missing: apt-get install debian-archive-keyring")


def is_whole(name):
    try:
        with open(os.path.join(STORES, name, STAMP)) as file:
            return file.read() == stamp(name)
    except OSError:
        return False


def stamp(name):
    """Changes when a store has to be made again."""
    return hashlib.sha256("\0".join([START, repr(WANTED[name])]).encode()).hexdigest()


def run(command, otherwise, cwd=None):
    """What the command prints; `otherwise` and its last words when it fails."""
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, check=False, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise StoreError(f"{otherwise}: {complaint(done.stdout)}")
    return done.stdout


def complaint(text):
    """The first complaint of apt or dpkg, or the first line at all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "W:", "dpkg"))]
    return (errors or lines or ["it said nothing"])[0]


if __name__ == "__main__":
    try:
        main()
    except StoreError as failure:
        sys.exit(str(failure))
    except OSError as failure:
        sys.exit(f"cannot write below {STORES}: {failure}")
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again")
