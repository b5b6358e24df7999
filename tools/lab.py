"""Machines to roll out to: Debian with systemd in podman containers, reached over ssh.

    python3 tools/lab.py up [--name lab] [--nodes 5] [--debian 12,13] [--subnet 10.217.91.0/24]
                            [--hosts controller1.example.com,compute01.example.com]
    python3 tools/lab.py status | reboot | down [--node node4] [--name lab]

A node is what a freshly installed server is: systemd, sshd, python3, apt; nothing of ours. Images are made by
mmdebstrap from this machine's own mirror and kept in .cache/lab; keys and addresses of a lab lie in .lab/<name>:
ssh_config, hosts.yml (an inventory of the nodes without groups). Runs before anything is installed, so: standard
library only.
"""

import argparse
import collections
import fcntl
import glob
import hashlib
import ipaddress
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time

import stores

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CACHE = os.path.join(CHECKOUT, ".cache", "lab")
LABS = os.path.join(CHECKOUT, ".lab")

NAME = "lab"
DEBIAN = {"12": "bookworm", "13": "trixie"}
LAYOUT = "12,12,12,13,13"
SUBNET = "10.217.91.0/24"  # of the lab called NAME: inventories/lab has its addresses
SUBNETS = "10.217.0.0/16"  # other labs find a free /24 of this
FIRST_ADDRESS = 11
LABEL = "openstack-zeromq.lab"
BOOT_SECONDS = 90
REMOVALS = 5  # tries

Node = collections.namedtuple("Node", "name address debian")

# What a server has after Debian's installer (python3-apt: Ansible's apt needs it, cloud images have it), and tcpdump for tests.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "logrotate", "ca-certificates"),
    *("python3", "python3-apt", "procps", "iproute2", "iputils-ping", "nftables", "netbase", "tcpdump"),
)

SSHD = """\
HostKey /etc/ssh/lab/host_key
AuthorizedKeysFile /etc/ssh/lab/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
GSSAPIAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
X11Forwarding no
MaxSessions 50
MaxStartups 100
AcceptEnv LANG LC_*
"""

# apt must not start on its own while a playbook wants it; no node has another's identity.
FINISH = (
    "systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer systemd-pcrphase.service",
    "systemctl enable ssh.service",
    "rm -f /etc/ssh/ssh_host_*",
    ": >/etc/machine-id",
)

# What systemd's sandboxing, nftables and a debugger need beyond podman's own choice; those that this machine has.
CAPABILITIES = {12: "NET_ADMIN", 13: "NET_RAW", 19: "SYS_PTRACE", 21: "SYS_ADMIN", 23: "SYS_NICE", 24: "SYS_RESOURCE"}

PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "iptables": "iptables",
    "ip": "iproute2",
}


class LabError(Exception):
    """What went wrong and the remedy."""


def main():
    arguments = parse()
    refuse_without_means()
    for folder in (CACHE, LABS):
        os.makedirs(folder, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ["CONTAINERS_CONF"] = write_containers_conf()
        lab = Lab(arguments.name)
        if arguments.verb == "up":
            count = len(arguments.hosts) if arguments.hosts else arguments.nodes
            lab.up(layout(arguments.debian, count), arguments.subnet, arguments.hosts)
        elif arguments.verb == "down":
            lab.down(arguments.node)
        elif arguments.verb == "reboot":
            lab.reboot(arguments.node)
        else:
            lab.status()


def parse():
    parser = argparse.ArgumentParser(description="Machines to roll out to: Debian with systemd in podman containers.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="make the nodes that are missing, start those that are stopped or paused")
    down = verbs.add_parser("down", help="remove the nodes, and the network with the last one")
    reboot = verbs.add_parser("reboot", help="stop and start machines: /run is empty then, processes are gone")
    status = verbs.add_parser("status", help="show the nodes")
    for verb in (up, down, reboot, status):
        verb.add_argument("--name", default=NAME, type=lab_name, help=f"which lab (default: {NAME})")
    up.add_argument("--nodes", type=int, help="how many (default: as many as --debian has releases)")
    up.add_argument("--debian", default=LAYOUT, help=f"releases of node1, node2, … (default: {LAYOUT}); the last one repeats")
    up.add_argument("--subnet", type=subnet, help=f"their network (default: {SUBNET} for {NAME}, a free one for others)")
    up.add_argument("--hosts", type=host_names, help="their names, instead of node1, node2, …; with commas between")
    down.add_argument("--node", action="append", help="only this one; may be repeated")
    reboot.add_argument("--node", action="append", help="only this one; may be repeated")
    return parser.parse_args()


def lab_name(text):
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", text):
        raise argparse.ArgumentTypeError("a lab's name is made of a to z, 0 to 9 and -, and starts with a letter")
    return text


def host_names(text):
    names = text.split(",")
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)*", name):
            raise argparse.ArgumentTypeError(f"{name!r} is no name of a host")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError("two hosts have the same name")
    return names


def subnet(text):
    try:
        found = ipaddress.ip_network(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from failure
    if found.version != 4 or found.prefixlen > 24:
        raise argparse.ArgumentTypeError("an IPv4 network of /24 or larger, please")
    return found


def layout(debian, nodes=None):
    """The release of each node: `debian` as far as it goes, then its last one again and again."""
    releases = debian.split(",")
    unknown = [release for release in releases if release not in DEBIAN]
    if unknown:
        raise LabError(f"there is no image of Debian {', '.join(unknown)}: choose from {', '.join(DEBIAN)}")
    if nodes is not None and not 1 <= nodes <= 200:
        raise LabError(f"--nodes must be 1 to 200, not {nodes}")
    nodes = len(releases) if nodes is None else nodes
    return (releases + releases[-1:] * nodes)[:nodes]


def refuse_without_means():
    """End with the line that mends it when this machine cannot carry a lab."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root, for systemd and networks in containers: sudo make lab")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise LabError(f"missing: {', '.join(missing)}; install them: apt-get install --yes {' '.join(missing)} netavark")


class Lab:
    """The nodes of one name: containers <name>-node1, …, their network and the folder .lab/<name>."""

    def __init__(self, name):
        self.name = name
        self.network = f"openstack-zeromq-{name}"
        self.folder = os.path.join(LABS, name)

    def up(self, releases, wanted_subnet, names=None):
        began = time.monotonic()
        images = have_images(sorted(set(releases)))
        chosen = self.have_network(wanted_subnet)
        nodes = nodes_of(chosen, releases, names)
        here = {node.name: node for node in self.nodes()}
        for node in nodes:
            if node.name in here and here[node.name].debian != node.debian:
                found = here[node.name].debian
                raise LabError(f"{node.name} has Debian {found}, not {node.debian}: {self.again(f' --node {node.name}')}")
        everyone = sorted({**here, **{node.name: node for node in nodes}}.values(), key=by_address)
        self.write_folder(everyone)
        for node in nodes:
            if node.name not in here:
                self.make(node, images[node.debian])
            verb = "unpause" if self.state(node) == "paused" else "start"
            run(["podman", verb, self.container(node)], f"{node.name} does not start")
        for node in nodes:
            self.await_boot(node)
        fresh = len(set(nodes) - set(here.values()))
        told = f"{fresh} new" if fresh else "nothing to make"
        say(f"{len(nodes)} nodes of {chosen}, {told}, {time.monotonic() - began:.0f} s")
        say(f"look into one: ssh -F {os.path.relpath(self.folder)}/ssh_config {nodes[0].name}")

    def down(self, names):
        nodes = self.nodes()
        gone = self.chosen(nodes, names)
        if gone:
            self.remove([self.container(node) for node in gone])
        left = [node for node in nodes if node not in gone]
        if left:
            self.write_folder(left)
        else:
            if self.network in networks():
                run(["podman", "network", "rm", "--force", self.network], f"the network {self.network} does not go away")
            shutil.rmtree(self.folder, ignore_errors=True)
        say(f"{len(gone)} nodes removed, {len(left)} left")

    def remove(self, containers):
        """Gone, also those that end by themselves at that moment: podman trips over them ("container state improper")."""
        command = ["podman", "rm", "--force", "--ignore", "--time", "2", "--volumes", *containers]
        for _ in range(REMOVALS - 1):
            if attempt(command)[0] == 0:
                return
            time.sleep(0.5)
        run(command, "the nodes do not go away")

    def reboot(self, names):
        nodes = self.chosen(self.nodes(), names)
        for node in nodes:
            run(["podman", "restart", "--time", "30", self.container(node)], f"{node.name} does not restart")
        for node in nodes:
            self.await_boot(node)
        say(f"{len(nodes)} nodes rebooted")

    def chosen(self, nodes, names):
        """Those of `nodes` that are called so; all when no name is given."""
        unknown = sorted(set(names or ()) - {node.name for node in nodes})
        if unknown:
            raise LabError(f"lab {self.name} has no {', '.join(unknown)}: python3 tools/lab.py status --name {self.name}")
        return [node for node in nodes if not names or node.name in names]

    def status(self):
        nodes = self.nodes()
        if not nodes:
            say(f"there is no lab {self.name}; python3 tools/lab.py up --name {self.name}")
        for node in nodes:
            print(f"{node.name:8} {node.address:15} Debian {node.debian}  {self.state(node)}")

    def nodes(self):
        """The nodes that are there, whatever state they are in."""
        listed = run(
            ["podman", "ps", "--all", "--filter", f"label={LABEL}={self.name}", "--format", "{{.Names}}"],
            "podman does not list containers",
        ).split()
        found = [inspect(name) for name in listed]
        refuse_anothers(self.name, found)
        return sorted(map(described, found), key=by_address)

    def have_network(self, wanted):
        """The subnet of this lab's network, which is made when missing."""
        taken = networks()
        if self.network in taken:
            found = taken[self.network][0]
            if wanted not in (None, found):
                raise LabError(f"lab {self.name} is in {found}, not {wanted}: {self.again()}")
            return found
        wanted = wanted or (ipaddress.ip_network(SUBNET) if self.name == NAME else None)
        others = [*(net for nets in taken.values() for net in nets), *routes()]
        chosen = choose_subnet(self.name, others, wanted)
        run(
            [
                "podman",
                "network",
                "create",
                "--disable-dns",
                "--subnet",
                str(chosen),
                *self.label(),
                self.network,
            ],
            f"podman makes no network {chosen}",
        )
        return chosen

    def again(self, what=""):
        return f"python3 tools/lab.py down --name {self.name}{what}, then up again"

    def label(self):
        return ["--label", f"{LABEL}={self.name}"]

    def write_folder(self, nodes):
        """Keys once; addresses and names of `nodes` each time."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        have_key(os.path.join(self.folder, "key"), f"openstack-zeromq lab {self.name}")
        with open(os.path.join(self.folder, "key.pub")) as file:
            authorized = file.read()
        known = []
        for node in nodes:
            place = os.path.join(self.folder, node.name)
            os.makedirs(place, mode=0o755, exist_ok=True)
            have_key(os.path.join(place, "host_key"), node.name)
            write(os.path.join(place, "authorized_keys"), authorized)
            with open(os.path.join(place, "host_key.pub")) as file:
                known.append(f"{node.name},{node.address} {' '.join(file.read().split()[:2])}\n")
        write(os.path.join(self.folder, "known_hosts"), "".join(known))
        write(os.path.join(self.folder, "hosts"), hosts_file(nodes))
        write(os.path.join(self.folder, "ssh_config"), ssh_config(self.folder, nodes))
        write(os.path.join(self.folder, "hosts.yml"), inventory(self.folder, nodes))

    def make(self, node, image):
        mounts = {
            os.path.join(self.folder, node.name): "/etc/ssh/lab",
            os.path.join(self.folder, "hosts"): "/etc/hosts",
        }
        run(
            [
                *("podman", "create", "--name", self.container(node), "--hostname", node.name, "--systemd", "always"),
                *("--network", self.network, "--ip", node.address, "--mac-address", hardware_address(node), "--no-hosts"),
                *self.label(),
                *("--label", f"{LABEL}.debian={node.debian}", "--label", f"{LABEL}.address={node.address}"),
                *("--label", f"{LABEL}.checkout={CHECKOUT}"),
                *(word for name in capabilities() for word in ("--cap-add", name)),
                *(word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")),
                image,
            ],
            f"{node.name} cannot be made",
        )

    def await_boot(self, node):
        """Return once systemd and sshd are up; say what failed on a node that is degraded."""
        deadline = time.monotonic() + BOOT_SECONDS
        while (state := self.state(node)) not in ("running", "degraded"):
            if state == "exited" or time.monotonic() > deadline:
                raise LabError(f"{node.name} does not boot, it is {state}: podman logs {self.container(node)}")
            time.sleep(0.1)
        if state == "degraded":
            failed = attempt([*self.inside(node), "systemctl", "list-units", "--failed", "--plain", "--no-legend"])[1]
            units = ", ".join(line.split()[0] for line in failed.splitlines() if line.strip())
            say(f"{node.name} is up, but degraded: {units}; see journalctl -u there")
        login = ["ssh", "-F", os.path.join(self.folder, "ssh_config"), node.name, "true"]
        while (answer := attempt(login))[0] != 0:
            if time.monotonic() > deadline:
                raise LabError(f"{node.name} is up, but lets nobody in: {answer[1].strip()}")
            time.sleep(0.1)

    def state(self, node):
        """What systemd on the node says of itself, or podman when it does not run."""
        said = attempt([*self.inside(node), "systemctl", "is-system-running"])[1].split()
        if said and said[0] in ("initializing", "starting", "running", "degraded", "maintenance", "stopping"):
            return said[0]
        return inspect(self.container(node))["State"]["Status"]

    def inside(self, node):
        return ["podman", "exec", self.container(node)]

    def container(self, node):
        return f"{self.name}-{node.name}"


def described(facts):
    """The node that a container is, out of its labels."""
    labels = facts["Config"]["Labels"]
    return Node(facts["Config"]["Hostname"], labels[f"{LABEL}.address"], labels[f"{LABEL}.debian"])


def refuse_anothers(lab, containers):
    """A lab's keys lie in one checkout; from any other its nodes are out of reach."""
    owners = {facts["Config"]["Labels"].get(f"{LABEL}.checkout", CHECKOUT) for facts in containers}
    for owner in sorted(owners - {CHECKOUT}):
        raise LabError(f"the lab {lab} belongs to {owner}: work there, or choose another --name")


def nodes_of(network, releases, names=None):
    """The nodes of these releases, with the first addresses of the network: those that `names` names, or node1, node2, …"""
    names = names or [f"node{index}" for index in range(1, len(releases) + 1)]
    addresses = (str(network.network_address + FIRST_ADDRESS + index) for index in range(len(names)))
    return [Node(*facts) for facts in zip(names, addresses, releases, strict=True)]


def hardware_address(node):
    """Stays over a reboot, as a machine's does, so nobody sends to one that is gone."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *ipaddress.ip_address(node.address).packed))


def by_address(node):
    return ipaddress.ip_address(node.address)


# --- what a lab's folder holds -------------------------------------------------------------------------------


def hosts_file(nodes):
    """Each node's /etc/hosts: names, and their first labels, resolve without a server."""
    names = {node: dict.fromkeys([node.name, *node.name.split(".")[:1]]) for node in nodes}
    return "".join(["127.0.0.1\tlocalhost\n", *(f"{node.address}\t{' '.join(names[node])}\n" for node in nodes)])


def ssh_config(folder, nodes):
    """Everything ssh must know; host keys are known before the first connection."""
    common = {
        "User": "root",
        "IdentityFile": f'"{folder}/key"',
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": f'"{folder}/known_hosts"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PreferredAuthentications": "publickey",
        "GSSAPIAuthentication": "no",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
        "LogLevel": "ERROR",
    }
    blocks = [f"Host {node.name} {node.address}\n  HostName {node.address}\n" for node in nodes]
    return "".join([*blocks, "Host *\n", *(f"  {name} {value}\n" for name, value in common.items())])


def inventory(folder, nodes):
    """The nodes without groups, for Ansible: another inventory says what they are for. JSON, which is YAML too."""
    reached = connection(os.path.join(folder, "ssh_config"))
    hosts = {node.name: {"ansible_host": node.address, "debian": node.debian} for node in nodes}
    return json.dumps({"all": {"hosts": hosts, "vars": reached}}, indent=2) + "\n"


def connection(config):
    """How Ansible reaches nodes: one ssh connection for all tasks, no search for python."""
    return {
        "ansible_user": "root",
        # Of an inventory beside this one ansible_ssh_args may be set, too; these come in addition.
        "ansible_ssh_common_args": f"-F '{config}'",
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=300s",
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def have_key(path, comment):
    if not os.path.exists(path):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], f"ssh-keygen makes no {path}")


def write(path, text):
    """In place: containers see this very file."""
    with open(path, "w") as file:
        file.write(text)


# --- networks -------------------------------------------------------------------------------------------------


def choose_subnet(name, taken, wanted=None):
    """`wanted` when it is free, else a free /24; the search starts at a place that the name decides."""
    if wanted is not None:
        hit = [other for other in taken if other.overlaps(wanted)]
        if hit:
            raise LabError(f"the network {wanted} is taken ({hit[0]}): choose another with --subnet")
        return wanted
    candidates = list(ipaddress.ip_network(SUBNETS).subnets(new_prefix=24))
    start = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(candidates)
    for candidate in candidates[start:] + candidates[:start]:
        if candidate != ipaddress.ip_network(SUBNET) and not any(other.overlaps(candidate) for other in taken):
            return candidate
    raise LabError(f"no network of {SUBNETS} is free: choose one with --subnet")


def networks():
    """Name → subnets of podman's networks."""
    names = run(["podman", "network", "ls", "--quiet"], "podman does not list networks").split()
    found = json.loads(run(["podman", "network", "inspect", *names], "podman does not show networks")) if names else []
    return {
        net["name"]: [ipaddress.ip_network(entry["subnet"]) for entry in net.get("subnets") or () if ":" not in entry["subnet"]]
        for net in found
    }


def routes():
    """The networks that this machine has a way to."""
    said = json.loads(run(["ip", "-json", "-4", "route", "show"], "ip shows no routes") or "[]")
    return [ipaddress.ip_network(route["dst"], strict=False) for route in said if route["dst"] != "default"]


def inspect(container):
    return json.loads(run(["podman", "container", "inspect", container], f"podman does not know {container}"))[0]


def capabilities():
    """Those of CAPABILITIES that this machine may give away."""
    with open("/proc/self/status") as file:
        bound = int(re.search(r"^CapBnd:\s*(\w+)$", file.read(), re.MULTILINE).group(1), 16)
    return [name for bit, name in CAPABILITIES.items() if bound >> bit & 1]


def write_containers_conf():
    """podman's settings, whatever this machine has: runc also knows hybrid cgroups; limits are those that we have."""
    booted = os.path.isdir("/run/systemd/system")
    # podman gives itself 32768 processes, and nobody can pass on more than he has.
    files = limit(resource.RLIMIT_NOFILE, 1 << 20)
    processes = limit(resource.RLIMIT_NPROC, 1 << 15)
    path = os.path.join(CACHE, "containers.conf")
    write(
        path,
        "# Written by tools/lab.py.\n"
        f'[engine]\nruntime = "runc"\ncgroup_manager = "{"systemd" if booted else "cgroupfs"}"\nevents_logger = "file"\n'
        '[network]\nnetwork_backend = "netavark"\n'
        f'[containers]\nlog_driver = "k8s-file"\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n',
    )
    return path


def limit(kind, most):
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


# --- images ---------------------------------------------------------------------------------------------------


def have_images(releases):
    """Release → image. What is missing is made, several at once."""
    images = {release: f"localhost/openstack-zeromq-lab:{release}-{recipe_key(release)}" for release in releases}
    missing = [release for release, image in images.items() if attempt(["podman", "image", "exists", image])[0] != 0]
    archives = {release: os.path.join(CACHE, f"debian{release}-{recipe_key(release)}.tar") for release in missing}
    mirror = stores.machine_mirror() if not all(map(os.path.exists, archives.values())) else ""
    builds = [Build(release, archive, mirror) for release, archive in archives.items() if not os.path.exists(archive)]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    failures = [build.failure for build in builds if build.failure]
    if failures:
        raise LabError("; ".join(failures))
    for release, archive in archives.items():
        say(f"image of Debian {release}: into podman")
        settings = ('CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", f"LABEL {LABEL}.recipe={recipe_key(release)}")
        run(
            [
                "podman",
                "import",
                "--quiet",
                *(f"--change={setting}" for setting in settings),
                archive,
                images[release],
            ],
            f"podman does not take the image of Debian {release}",
        )
    return images


class Build(threading.Thread):
    """One run of mmdebstrap; its steps are shown as they come. The archive is complete or not there."""

    def __init__(self, release, archive, mirror):
        super().__init__()
        self.release, self.archive, self.mirror = release, archive, mirror
        self.failure = None

    def run(self):
        began, last = time.monotonic(), []
        fresh = self.archive + ".new"
        command = mmdebstrap(self.release, fresh, self.mirror, apt_settings())
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        with subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout:
                last = [*last[-20:], line.strip()]
                step = re.match(r"I: ((?:running apt-get|downloading|extracting|installing|creating).*)", line)
                if step:
                    say(f"image of Debian {self.release}: {step.group(1).rstrip('.')} ({time.monotonic() - began:.0f} s)")
        if process.returncode != 0:
            self.failure = f"the image of Debian {self.release} cannot be made: {stores.complaint(chr(10).join(last))}"
            return
        os.rename(fresh, self.archive)
        for old in glob.glob(os.path.join(CACHE, f"debian{self.release}-*")):
            if old != self.archive:
                os.unlink(old)


def mmdebstrap(release, archive, mirror, settings):
    """The command that makes an image. What decides about its content is part of recipe_key."""
    hooks = [f"echo '{line}' >>\"$1/etc/ssh/sshd_config.d/lab.conf\"" for line in SSHD.splitlines()]
    hooks += [f"chroot \"$1\" sh -c '{line}'" for line in FINISH]
    return [
        *("mmdebstrap", "--variant=minbase", "--format=tar", f"--include={','.join(PACKAGES)}", f"--keyring={stores.keyring()}"),
        *(f'--aptopt={name} "{value}"' for name, value in settings.items()),
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "doc", "locale", "info")),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(DEBIAN[release], archive, mirror),
    ]


def recipe_key(release):
    """Changes when an image has to be made again."""
    recipe = [release, DEBIAN[release], *PACKAGES, SSHD, *FINISH]
    return hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]


def apt_settings():
    """What this machine's apt needs to reach its mirror; the nodes' apt gets the same."""
    said = run(["apt-config", "dump", "--format", "%f\t%v%n", "Acquire"], "apt shows no settings")
    wanted = r"Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|Retries)"
    pairs = [line.split("\t", 1) for line in said.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1] and re.fullmatch(wanted, pair[0], re.IGNORECASE)}


# --- running programs -----------------------------------------------------------------------------------------


def attempt(command):
    """Exit status and everything that the command printed."""
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def run(command, otherwise):
    """What the command prints on stdout; `otherwise` and its last words when it fails."""
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise LabError(f"{otherwise}: {words[-1]}")
    return done.stdout


def say(text):
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (LabError, stores.StoreError) as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit("interrupted; run it again")
