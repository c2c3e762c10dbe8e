"""The command that starts an isolated Python, or the reason why none can be had here.

bubblewrap builds the walls: namespaces, a file system of nothing but the interpreter's standard library and the
system's libraries (read-only), /proc of the new process namespace, four devices, and a /tmp in memory with a bound. It
starts with an empty environment and reads its own arguments from a pipe, so that /proc/1 of the sandbox tells nothing.
Site packages are covered: a program has the standard library alone.

Started as root, the sandbox keeps two capabilities until inside.py has taken a uid of its own that nothing else uses;
an ordinary user gets a user namespace instead. Root is real root here: user namespaces would leave its uid, for which
the kernel counts no processes.
"""

from __future__ import annotations

import itertools
import marshal
import math
import os
import platform
import secrets
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rewardmodel.contract import InputError
from rewardmodel.sandbox.seccomp import ARCHITECTURES, build_filter

INSIDE = Path(__file__).with_name("inside.py")
LOADER = """
import marshal, os, sys
with os.fdopen(int(sys.argv.pop(1)), "rb") as script:
    code = marshal.load(script)
exec(code)
"""
PREFIX = Path("/python")  # where the interpreter stands inside, unless it is the system's
DEVICES = ("null", "zero", "full", "urandom")
STREAMS = ("stdin", "stdout", "stderr")
# The range that systemd gives to services for the time they run: no file belongs to it.
FIRST_UID, UIDS = 61184, 4336

_started = itertools.count(secrets.randbelow(UIDS))


class SandboxUnavailable(InputError):
    """Model-written code cannot be isolated on this machine; the message says what to install or allow."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use. A check of several programs may use it for each."""

    seconds: float = 10.0  # on the clock, and of CPU
    memory_mb: int = 512  # address space; there is one process
    files_mb: int = 16  # of /tmp together
    files: int = 5000  # in /tmp
    open_files: int = 64
    threads: int = 32
    output_kb: int = 1024  # of stdout, and of stderr

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InputError(f"limits of the sandbox: {name} must be above 0, got {value}")
        if self.memory_mb < 64:
            raise InputError(f"limits of the sandbox: memory_mb must be at least 64, got {self.memory_mb}")

    @property
    def processor_seconds(self) -> int:
        """Of CPU; the clock comes first where one thread works."""
        return math.ceil(self.seconds) + 1


@dataclass(frozen=True)
class Command:
    """What to start. {name} among the words stands for a descriptor to read files[name] from, {replies} and {info} for
    the ones to answer on."""

    words: list[str]
    files: dict[str, bytes]
    uid: int = 0  # which the program will have, where that is not its starter's


def find_bubblewrap() -> str:
    """Its path. Raises SandboxUnavailable where it or its machine is missing."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES or sys.maxsize < 2**32:
        raise SandboxUnavailable(
            f"model-written code runs in a sandbox on 64-bit Linux ({', '.join(ARCHITECTURES)}) only, "
            f"not on {sys.platform} {platform.machine()}"
        )
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailable(
            "model-written code needs bubblewrap, which is not installed: apt-get install bubblewrap (or dnf, pacman, "
            "apk: the package has the same name)"
        )
    return path


def explain_failure(complaint: str) -> SandboxUnavailable:
    """Why bubblewrap is there but does not isolate."""
    advice = (
        "Root in a container needs CAP_SYS_ADMIN for it; an ordinary user does not, where user namespaces are allowed"
        if os.getuid() == 0
        else "It needs user namespaces (sysctl user.max_user_namespaces above 0; Ubuntu also "
        "kernel.apparmor_restrict_unprivileged_userns=0; Docker's default seccomp profile forbids them)"
    )
    return SandboxUnavailable(
        f"bubblewrap cannot isolate model-written code here: {complaint or 'it ended without a word'}. {advice}"
    )


def build_command(*, bubblewrap: str, limits: Limits) -> Command:
    is_root = os.getuid() == 0
    uid = FIRST_UID + next(_started) % UIDS if is_root else 0
    python, interpreter = _lay_out_interpreter()
    size = limits.files_mb * 2**20
    arguments = [
        *("--unshare-ipc", "--unshare-net", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox", "--chdir", "/tmp"),
        *(
            ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
            if is_root
            else ("--unshare-user", "--uid", "65534", "--gid", "65534")
        ),
        *_lay_out_system(),
        *interpreter,
        *("--perms", "0755", "--dir", "/dev"),
        *(word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        *(word for fd, name in enumerate(STREAMS) for word in ("--symlink", f"/proc/self/fd/{fd}", f"/dev/{name}")),
        *("--proc", "/proc", "--perms", "1777", "--size", str(size), "--tmpfs", "/tmp", "--remount-ro", "/"),
        *("--setenv", "PATH", "/nonexistent", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "MALLOC_ARENA_MAX", "1", "--setenv", "LD_LIBRARY_PATH", f"{PREFIX}/lib"),
    ]
    return Command(
        words=[
            bubblewrap,
            "--args",
            "{arguments}",
            "--seccomp",
            "{seccomp}",
            "--info-fd",
            "{info}",
            python,
            *_build_script(limits, uid=uid),
        ],
        files={
            "arguments": b"".join(word.encode() + b"\0" for word in arguments),
            "seccomp": _build_filter_once(platform.machine()),
            "script": _compile_inside(),
        },
        uid=uid,
    )


def build_unsafe_command(limits: Limits) -> Command:
    """A plain process with limits and no walls. It has no limit on tasks, which would count the whole user's."""
    return Command([sys.executable, *_build_script(limits, uid=0, tasks=0)], {"script": _compile_inside()})


def _build_script(limits: Limits, *, uid: int, tasks: int | None = None) -> list[str]:
    numbers = (
        uid,
        limits.memory_mb * 2**20,
        limits.processor_seconds,
        limits.files_mb * 2**20,
        limits.open_files,
        limits.threads + 2 if tasks is None else tasks,  # bubblewrap's own process, and the first thread
    )
    return ["-I", "-S", "-B", "-X", "utf8", "-c", LOADER, "{script}", "{replies}", *map(str, numbers)]


@cache
def _compile_inside() -> bytes:
    """inside.py for the same interpreter; compiling it would be a third of a start."""
    return marshal.dumps(compile(INSIDE.read_text(encoding="utf-8"), "sandbox", "exec", dont_inherit=True))


_build_filter_once = cache(build_filter)


@cache
def _lay_out_system() -> tuple[str, ...]:
    """The system's libraries, and the links that lead to them."""
    words = ["--perms", "0755", "--dir", "/usr", "--ro-bind", "/usr/lib", "/usr/lib"]
    for name in ("lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
        if name != "lib" and Path("/usr", name).is_dir():
            words += ["--ro-bind", f"/usr/{name}", f"/usr/{name}"]
    return tuple(words)


@cache
def _lay_out_interpreter() -> tuple[str, tuple[str, ...]]:
    """The interpreter's path inside, and how it comes there. Site packages are covered by empty folders."""
    base, version = Path(sys.base_prefix).resolve(), f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = Path(sys.executable).resolve()
    is_system = base == Path("/usr")
    prefix = base if is_system else PREFIX
    words = [] if is_system else ["--perms", "0755", "--dir", str(prefix), "--ro-bind", f"{base}/lib", f"{prefix}/lib"]
    words += ["--perms", "0755", "--dir", f"{prefix}/bin", "--ro-bind", str(executable), f"{prefix}/bin/python3"]
    for folder in (f"lib/{version}/site-packages", f"lib/{version}/dist-packages", "lib/python3/dist-packages"):
        if (base / folder).is_dir():
            words += ["--tmpfs", f"{prefix}/{folder}", "--remount-ro", f"{prefix}/{folder}"]
    return f"{prefix}/bin/python3", tuple(words)
