"""A small world for the faults: mounts, network and processes of its own, so nothing outside can be harmed.

With Linux namespaces (as root, or as anybody where user namespaces are allowed) the home lies on a tmpfs whose size can
be cut, connections can be refused and dropped, and everything ends with the suite, even if that is killed. Without
them the suite runs all the same, and says which faults it left out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
ROOMY = "4g"


def isolation() -> tuple[str, ...]:
    """The words of `unshare` that work here; empty when none do."""
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    words = ("unshare", *own, *NAMESPACES)
    try:
        done = subprocess.run([*words, "true"], capture_output=True, timeout=20)
    except OSError:
        return ()
    return words if done.returncode == 0 else ()


def enter(words: tuple[str, ...], arguments: list[str]) -> int:
    """Run the suite again inside; returns its exit status."""
    command = [*words, sys.executable, "-m", "bench.chaos_isolation", *arguments, "--inside"]
    return subprocess.run(command).returncode


def be_init(arguments: list[str]) -> int:
    """As the first process of the namespace: run the suite, bury all that die, end with the suite."""
    suite = subprocess.Popen([sys.executable, "-m", "bench.chaos", *arguments])
    while True:
        pid, status = os.wait()
        if pid == suite.pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


def raise_loopback() -> None:
    """The network of the namespace has only a loopback, which is down at first."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def mount(folder: Path) -> None:
    """A tmpfs with room enough for now."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY},mode=0700", "chaos", str(folder)], check=True)


def cut_size(folder: Path) -> None:
    """No room left, not for a byte."""
    used = shutil.disk_usage(folder).used
    subprocess.run(["mount", "-o", f"remount,size={max(used, 4096)}", str(folder)], check=True)


def restore_size(folder: Path) -> None:
    """Room again."""
    subprocess.run(["mount", "-o", f"remount,size={ROOMY}", str(folder)], check=True)


def firewall(action: str, port: int, target: str) -> None:
    """Add (`-I`) or remove (`-D`) a rule for what goes to and comes from a port: REJECT resets it, DROP swallows it."""
    reset = ["--reject-with", "tcp-reset"] if target == "REJECT" else []
    for side in ("--dport", "--sport"):
        rule = ["INPUT", "-p", "tcp", side, str(port), "-j", target, *reset]
        subprocess.run(["iptables", "-w", action, *rule], check=True, capture_output=True)


def has_firewall() -> bool:
    """Whether iptables is installed and may be used here."""
    return (
        shutil.which("iptables") is not None
        and not subprocess.run(["iptables", "-w", "-L", "-n"], capture_output=True).returncode
    )


def unmount(folder: Path) -> None:
    """The tmpfs goes with all that is on it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


if __name__ == "__main__":
    os._exit(be_init(sys.argv[1:]))
