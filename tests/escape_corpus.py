"""Programs that try to leave the sandbox, or to take more than they may: name, program, what would prove it.

Written for this project. A program that gets out says ESCAPED; what it writes goes to canaries that the caller looks at
afterwards (`Canaries`). Words between @ are filled in: @HOME@, @CHECKOUT@ and @DATA@ are folders with a file `canary`
that holds the secret, @PORT@ is a port of the caller that listens, @PID@ the caller. PRELUDE stands before each
program. Those of CONTROLS do get out of a plain process, which shows that they try in earnest; the others could harm the
machine that runs them so.
"""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rewardmodel.sandbox import Outcome
from rewardmodel.sandbox.seccomp import REFUSED

SECRET = "preferee-canary-7f3a"
SECONDS = 2.0
PROOF = "says ESCAPED"
PRELUDE = f"""
import os, sys, time
def escaped(how=""):
    print("ESCAPED", how, flush=True)
def tell(path):
    text = open(path, "rb").read(1000)
    if text: escaped(text)
def syscall(name, *words):
    import ctypes, platform
    number = {dict(REFUSED)!r}[name][platform.machine() == "aarch64"]
    return -1 if number is None else ctypes.CDLL(None, use_errno=True).syscall(number, *words)
def succeeds(name, *words):
    if syscall(name, *words) >= 0: escaped(name)
"""


@dataclass(frozen=True)
class Escape:
    name: str
    program: str
    proof: str = PROOF


_SOCKET = "import socket\n"
_UNTIL_IT_BREAKS = "the clock runs on"

NETWORK = [
    Escape("tcp-internet", _SOCKET + "socket.create_connection(('1.1.1.1', 53), 1); escaped()"),
    Escape("tcp-loopback", _SOCKET + "socket.create_connection(('127.0.0.1', @PORT@), 1); escaped()", "connects to us"),
    Escape("tcp-ipv6", _SOCKET + "socket.create_connection(('::1', @PORT@), 1); escaped()"),
    Escape("tcp-listen", _SOCKET + "s = socket.socket(); s.bind(('', 0)); s.listen(); escaped()"),
    Escape("udp", _SOCKET + "s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('1.1.1.1', 53)); escaped()"),
    Escape("dns", _SOCKET + "socket.getaddrinfo('example.com', 80); escaped()"),
    Escape("http-metadata", "import urllib.request as u\nu.urlopen('http://169.254.169.254/', timeout=1); escaped()"),
    Escape("unix-abstract", _SOCKET + "s = socket.socket(socket.AF_UNIX); s.connect('\\x00@UNIX@'); escaped()"),
    Escape("netlink", _SOCKET + "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); escaped()"),
    Escape(
        "datagram-to-abstract",
        _SOCKET + "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "a.sendto(b'x', '\\x00@UNIX@'); escaped()",
    ),
    Escape("raw-packets", _SOCKET + "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); escaped()"),
    Escape("vsock", _SOCKET + "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); escaped()"),
    Escape("kernel-crypto", _SOCKET + "socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET); escaped()"),
    Escape("socketpair-ipv4", _SOCKET + "socket.socketpair(socket.AF_INET); escaped()"),
    Escape(
        "network-interfaces",
        "names = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]\n"
        "if set(names) - {'lo'}: escaped(names)",
    ),
]

FILES = [
    Escape("read-shadow", "tell('/etc/shadow')"),
    Escape("read-passwd", "tell('/etc/passwd')"),
    Escape("read-checkout", "tell('@CHECKOUT@/canary')"),
    Escape("read-data-dir", "tell('@DATA@/canary')"),
    Escape("read-home", "tell('@HOME@/canary')"),
    Escape("list-home", "if os.listdir('@HOME@'): escaped()"),
    Escape("write-home", "open('@HOME@/written', 'w').write('x'); escaped()", "a file at home"),
    Escape("write-root", "open('/written', 'w').write('x'); escaped()"),
    Escape("write-library", "open(os.__file__, 'a').write('#'); escaped()"),
    Escape("write-dev", "open('/dev/written', 'w').write('x'); escaped()"),
    Escape("write-dev-shm", "open('/dev/shm/written', 'w').write('x'); escaped()"),
    Escape("symlink-out", "os.symlink('@DATA@/canary', '/tmp/link-@PID@'); tell('/tmp/link-@PID@')"),
    Escape("hardlink-out", "os.link('@DATA@/canary', '/tmp/hard'); tell('/tmp/hard')"),
    Escape("hardlink-library", "os.link(os.__file__, '/tmp/hard'); escaped()"),
    Escape("dots-out", "tell('/tmp/' + '../' * 40 + '@DATA@/canary')"),
    Escape("proc-root", "tell('/proc/1/root@DATA@/canary')"),
    Escape("proc-cwd", "tell('/proc/1/cwd/../@DATA@/canary')"),
    Escape("old-root", "[escaped(p) for p in ('/oldroot', '/newroot', '/.old') if os.path.exists(p)]"),
    Escape("chmod-library", "os.chmod(os.__file__, 0o777); escaped()"),
    Escape("mknod-disk", "os.mknod('/tmp/disk', 0o60666, os.makedev(254, 0)); escaped()"),
    Escape(
        "open-by-handle",
        "import ctypes\nsucceeds('name_to_handle_at', -100, b'/usr', ctypes.create_string_buffer(200),"
        " ctypes.byref(ctypes.c_int()), 0)",
    ),
    Escape(
        "disk-filling",
        "n = 0\nfor i in range(64):\n with open(f'/tmp/{i}', 'wb') as f: n += f.write(bytes(2**20)); f.flush()\n"
        " if n > 40 * 2**20: escaped(n)",
    ),
    Escape("files-without-end", "for n in range(10**8): open(f'/tmp/{n}', 'w').close()", _UNTIL_IT_BREAKS),
    Escape("folders-without-end", "for n in range(10**8): os.mkdir(f'/tmp/{n}')", _UNTIL_IT_BREAKS),
    Escape("links-without-end", "for n in range(10**8): os.symlink('x' * 99, f'/tmp/{n}')", _UNTIL_IT_BREAKS),
    Escape(
        "attributes-of-a-file", "open('/tmp/f', 'w').close()\nos.setxattr('/tmp/f', 'user.a', bytes(60000)); escaped()"
    ),
    Escape("huge-file", "f = open('/tmp/f', 'wb'); f.truncate(2**33); escaped()"),
    Escape("huge-sparse-write", "f = open('/tmp/f', 'wb'); f.seek(2**33); f.write(b'x'); f.flush(); escaped()"),
    Escape("many-open-files", "fs = [open('/dev/null') for _ in range(2000)]; escaped()"),
    Escape("setuid-binaries", "os.execv('/usr/bin/su', ['su', '-c', 'echo ESCAPED'])"),
    Escape("setuid-own", "open('/tmp/x', 'w').close(); os.chmod('/tmp/x', 0o4755); os.setuid(0); escaped()"),
    Escape("shell", "os.execv('/bin/sh', ['sh', '-c', 'echo ESCAPED'])"),
    Escape("import-settings", "sys.path.insert(0, '@CHECKOUT@'); import config.settings; escaped()"),
    Escape("import-library", "sys.path.insert(0, '@CHECKOUT@'); import rewardmodel.contract; escaped()"),
    Escape(
        "import-packages", "sys.path.append(os.path.dirname(os.__file__) + '/site-packages')\nimport pip; escaped()"
    ),
]

SECRETS = [
    Escape("own-environment", "if '@SECRET@' in str(os.environ): escaped()"),
    Escape("environ-of-1", "if b'@SECRET@' in open('/proc/1/environ', 'rb').read(): escaped()"),
    Escape("environ-bytes-of-1", "tell('/proc/1/environ')"),
    Escape(
        "environ-of-all",
        "for p in os.listdir('/proc'):\n try:\n  if b'@SECRET@' in open(f'/proc/{p}/environ', 'rb').read(): escaped(p)\n"
        " except OSError: pass",
    ),
    Escape("cmdline-of-1", "if b'@CHECKOUT@' in open('/proc/1/cmdline', 'rb').read(): escaped()"),
    Escape("caller-in-proc", "if os.path.exists('/proc/@PID@/status') and @PID@ > 50: escaped()"),
    Escape("memory-of-1", "m = open('/proc/1/mem', 'rb'); m.seek(0x400000); escaped(m.read(8))"),
    Escape(
        "take-over-the-first-process",  # an ordinary user's program may write its memory: it must have bounds too
        "import resource as r\nopen('/proc/1/mem', 'r+b').close()\n"
        "memory, seconds = (r.prlimit(1, kind)[1] for kind in (r.RLIMIT_AS, r.RLIMIT_CPU))\n"
        "if not 0 < memory <= 2**25 or not 0 < seconds <= 11: escaped((memory, seconds))",
    ),
    Escape("kernel-memory", "tell('/proc/kcore')"),
    Escape("kernel-log", "succeeds('syslog', 3, bytes(4096), 4096)"),
    Escape("kmsg", "tell('/dev/kmsg')"),
    Escape(
        "inherited-descriptors",
        "for fd in range(3, 1024):\n try: os.fstat(fd); escaped(fd)\n except OSError: pass",
    ),
    Escape(
        "reply-descriptor", "for fd in range(3, 64):\n try: os.write(fd, b'{}'); escaped(fd)\n except OSError: pass"
    ),
    Escape("keyring", "import ctypes\nsucceeds('keyctl', 0, -3, 1)"),
    Escape("add-key", "succeeds('add_key', b'user', b'k', b'v', 1, -3)"),
    Escape("request-key", "succeeds('request_key', b'user', b'k', None, -3)"),
    Escape("sys-files", "tell('/sys/kernel/notes')"),
    Escape("terminal", "os.open('/dev/tty', os.O_RDWR); escaped()"),
    Escape("pseudo-terminal", "os.openpty(); escaped()"),
]

KERNEL = [
    Escape("ptrace", "succeeds('ptrace', 16, 1, 0, 0)"),
    Escape("ptrace-me", "succeeds('ptrace', 0, 0, 0, 0)"),
    Escape("process-vm-readv", "succeeds('process_vm_readv', os.getppid(), None, 0, None, 0, 0)"),
    Escape("process-vm-writev", "succeeds('process_vm_writev', os.getppid(), None, 0, None, 0, 0)"),
    Escape("pidfd-getfd", "f = os.pidfd_open(os.getpid()); succeeds('pidfd_getfd', f, 0, 0)"),
    Escape("mount-tmpfs", "succeeds('mount', b'x', b'/tmp', b'tmpfs', 0, None)"),
    Escape("mount-bind", "succeeds('mount', b'/', b'/tmp', None, 4096, None)"),
    Escape("remount-root", "succeeds('mount', None, b'/', None, 32 | 4096, None)"),
    Escape("unmount", "succeeds('umount2', b'/tmp', 2)"),
    Escape("pivot-root", "succeeds('pivot_root', b'/tmp', b'/tmp')"),
    Escape("chroot", "os.chroot('/tmp'); escaped()"),
    Escape("new-mount-api", "succeeds('fsopen', b'tmpfs', 0)"),
    Escape("open-tree", "succeeds('open_tree', -100, b'/tmp', 1)"),
    Escape("user-namespace", "succeeds('unshare', 0x10000000)"),
    Escape("network-namespace", "succeeds('unshare', 0x40000000)"),
    Escape(
        "clone-namespace",
        "import ctypes, platform\nn = 220 if platform.machine() == 'aarch64' else 56\n"
        "r = ctypes.CDLL(None).syscall(n, 0x10000000 | 17, 0, 0, 0, 0)\nif r >= 0: escaped()",
    ),
    Escape(
        "clone3",
        "import ctypes\nb = ctypes.create_string_buffer(88); b[32:33] = bytes([17])\n"
        "r = ctypes.CDLL(None).syscall(435, b, 88)\nif r >= 0: escaped()",
    ),
    Escape("setns", "f = os.open('/proc/1/ns/net', 0); succeeds('setns', f, 0)"),
    Escape("io-uring", "succeeds('io_uring_setup', 8, bytes(120))"),
    Escape("asynchronous-io", "import ctypes\nsucceeds('io_setup', 1000, ctypes.byref(ctypes.c_ulong()))"),
    Escape("splice", "r, w = os.pipe(); os.write(w, b'x'); s, t = os.pipe(); succeeds('splice', r, None, t, None, 1, 0)"),
    Escape("sync", "succeeds('sync')"),
    Escape("sync-file-system", "succeeds('syncfs', 0)"),
    Escape(
        "crash-handler",
        "import resource as r\nif r.getrlimit(r.RLIMIT_CORE) != (1, 1): escaped('a crash starts what handles cores')",
    ),
    Escape("bpf", "succeeds('bpf', 0, bytes(64), 64)"),
    Escape("perf-events", "succeeds('perf_event_open', bytes(112), 0, -1, -1, 0)"),
    Escape("userfaultfd", "succeeds('userfaultfd', 1)"),
    Escape("load-module", "succeeds('init_module', b'', 0, b'')"),
    Escape("kexec", "succeeds('kexec_load', 0, 0, None, 0)"),
    Escape("reboot", "succeeds('reboot', 0xfee1dead, 672274793, 0, None)"),
    Escape("set-clock", "time.clock_settime(0, 0); escaped()"),
    Escape("set-hostname", "import socket\nsocket.sethostname('x'); escaped()"),
    Escape("personality", "succeeds('personality', 0x0040000)"),
    Escape("sysrq", "open('/proc/sysrq-trigger', 'w').write('h'); escaped()"),
    Escape("core-pattern", "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x'); escaped()"),
    Escape("kernel-settings", "open('/proc/sys/vm/drop_caches', 'w').write('1'); escaped()"),
    Escape("terminal-input", "import fcntl\nfcntl.ioctl(0, 0x5412, b'x'); escaped()"),
    Escape("raise-limits", "import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1)); escaped()"),
    Escape("raise-tasks", "import resource as r\nr.setrlimit(r.RLIMIT_NPROC, (9999, 9999)); escaped()"),
    Escape("nice", "os.nice(-5); escaped()"),
    Escape("capabilities", "[escaped(l) for l in open('/proc/self/status') if l[:6] in ('CapEff', 'CapPrm') if int(l[7:], 16)]"),
    Escape(
        "outlive-the-caller",
        "import ctypes\nif ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0: escaped('no signal when the parent dies')",
    ),
    Escape("shared-memory", "succeeds('shmget', 0, 2**20, 0o1777)"),
    Escape("memory-file", "os.memfd_create('x'); escaped()"),
    Escape("semaphores", "succeeds('semget', 0, 1, 0o1777)"),
    Escape("foreign-architecture", "import mmap, ctypes, platform\n"
           "assert platform.machine() == 'x86_64'\n"
           "m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'))\n"
           "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
           "if f() > 0: escaped('getpid through int 0x80')"),
    Escape("x32-calls", "import ctypes\nif ctypes.CDLL(None).syscall(0x40000000 | 39) > 0: escaped()"),
]  # fmt: skip

GREED = [
    Escape("fork", "os.fork(); escaped()"),
    Escape("fork-bomb", "while True:\n try: os.fork(); escaped()\n except OSError: time.sleep(.001)", "ESCAPED"),
    Escape("vfork-subprocess", "import subprocess\nsubprocess.run([sys.executable, '-c', 'print(\"ESCAPED\")'])"),
    Escape("multiprocessing", "import multiprocessing as m\np = m.Process(target=escaped); p.start(); p.join()"),
    Escape("daemonised-child", "if os.fork() == 0:\n os.setsid(); time.sleep(60)\nescaped()"),
    Escape(
        "thread-bomb",
        "import threading\nthreading.stack_size(32768)\nfor n in range(5000):\n"
        " threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n if n > 64: escaped(n); break",
    ),
    Escape("memory", "x = bytearray(2**31); escaped()"),
    Escape("memory-bit-by-bit", "x = []\nwhile True:\n x.append(bytearray(2**20))\n if len(x) > 600: escaped(); break"),
    Escape(
        "memory-in-processes",
        "for _ in range(20):\n if os.fork() == 0: x = bytearray(3 * 10**8); time.sleep(9)\nescaped()",
    ),
    Escape("memory-locked", "import ctypes\nif ctypes.CDLL(None).mlockall(3) == 0: escaped()"),
    Escape("memory-mapped-file", "import mmap\nm = [mmap.mmap(-1, 2**28) for _ in range(8)]; escaped()"),
    Escape("flood-stdout", "while True: os.write(1, b'x' * 65536)", _UNTIL_IT_BREAKS),
    Escape("flood-stderr", "while True: os.write(2, b'x' * 65536)", _UNTIL_IT_BREAKS),
    Escape("flood-lines", "while True: print()", _UNTIL_IT_BREAKS),
    Escape("busy", "while True: pass", _UNTIL_IT_BREAKS),
    Escape("busy-in-c", "sum(range(10**12))", _UNTIL_IT_BREAKS),
    Escape("big-power", "9 ** 9 ** 9", _UNTIL_IT_BREAKS),
    Escape("sleep", "time.sleep(1000)", _UNTIL_IT_BREAKS),
    Escape("wait-for-input", "import select\nwhile True: select.select([], [], [], 100)", _UNTIL_IT_BREAKS),
    Escape(
        "ignore-signals",
        "import signal\nfor n in range(1, 65):\n try: signal.signal(n, signal.SIG_IGN)\n except (OSError, ValueError): pass\n"
        "while True: time.sleep(1)",
        _UNTIL_IT_BREAKS,
    ),
    Escape("catch-everything", "while True:\n try: time.sleep(100)\n except BaseException: pass", _UNTIL_IT_BREAKS),
    Escape("close-and-sleep", "os.closerange(0, 64); time.sleep(1000)", _UNTIL_IT_BREAKS),
    Escape("stop-itself", "import signal\nos.kill(os.getpid(), signal.SIGSTOP); time.sleep(1000)", _UNTIL_IT_BREAKS),
    Escape("kill-everybody", "os.kill(-1, 9); time.sleep(.1)", "the caller is gone"),
    Escape("kill-parent", "os.kill(os.getppid(), 9); os.kill(@PID@, 9); escaped()", "the caller is gone"),
    Escape("kill-group", "os.killpg(0, 9)", "the caller is gone"),
    Escape("crash", "import ctypes\nctypes.string_at(0); escaped()"),
    Escape("deep-recursion", "sys.setrecursionlimit(10**9)\nf = lambda: f()\nf(); escaped()"),
]

# One leaves something behind, the next looks for it.
PAIRS = [
    Escape("leave-a-file", "open('/tmp/left', 'w').write('x')\nos.utime('/tmp/left')"),
    Escape("find-the-file", "if os.listdir('/tmp'): escaped(os.listdir('/tmp'))"),
    Escape(
        "poison-builtins",
        "import builtins, json\nbuiltins.poisoned = json.poisoned = True\nbuiltins.print = lambda *a: None",
    ),
    Escape(
        "find-the-poison", "import json\nif hasattr(json, 'poisoned') or hasattr(__builtins__, 'poisoned'): escaped()"
    ),
    Escape(
        "poison-the-cache", "open(os.path.dirname(os.__file__) + '/__pycache__/x.pyc', 'wb').write(b'x'); escaped()"
    ),
    Escape("find-others", "if len([p for p in os.listdir('/proc') if p.isdigit()]) > 2: escaped()"),
]

CORPUS = [*NETWORK, *FILES, *SECRETS, *KERNEL, *GREED, *PAIRS]
CONTROLS = {
    "tcp-loopback", "unix-abstract", "datagram-to-abstract", "read-passwd", "read-checkout", "read-data-dir", "read-home", "list-home",
    "write-home", "symlink-out", "dots-out", "caller-in-proc", "fork", "ptrace-me", "vfork-subprocess", "shell",
    "import-library", "multiprocessing", "memory-file",
}  # fmt: skip


class Canaries:
    """What the programs reach for. Use it as a context; `check` tells what was touched."""

    def __enter__(self) -> Canaries:
        self._folder = tempfile.TemporaryDirectory(prefix="canaries-", dir="/var/tmp")
        root = Path(self._folder.name)
        self.places = {name: root / name for name in ("HOME", "CHECKOUT", "DATA")}
        for place in self.places.values():
            place.mkdir()
            (place / "canary").write_text(SECRET)
        (self.places["CHECKOUT"] / "rewardmodel").mkdir()
        (self.places["CHECKOUT"] / "rewardmodel" / "contract.py").write_text("")
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(f"\0{root.name}")
        self._unix.listen()
        self._datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._datagrams.bind(f"\0{root.name}")
        for server in (self._tcp, self._unix):
            server.setblocking(False)
        os.environ["PREFEREE_CANARY"] = SECRET
        return self

    def __exit__(self, *_error: object) -> None:
        del os.environ["PREFEREE_CANARY"]
        self._tcp.close()
        self._unix.close()
        self._datagrams.close()
        Path(f"/tmp/link-{os.getpid()}").unlink(missing_ok=True)  # what the corpus left where nothing isolated it
        self._folder.cleanup()

    def fill_in(self, escape: Escape) -> str:
        words = {name: str(place) for name, place in self.places.items()}
        words |= {"PORT": str(self._tcp.getsockname()[1]), "PID": str(os.getpid()), "SECRET": SECRET}
        words["UNIX"] = Path(self._folder.name).name
        program = PRELUDE + escape.program + "\n"
        for name, word in words.items():
            program = program.replace(f"@{name}@", word)
        return program

    def check(self, outcome: Outcome) -> str:
        """How the program got out, empty where it did not."""
        if b"ESCAPED" in outcome.stdout:
            return outcome.stdout[outcome.stdout.index(b"ESCAPED") :][:100].decode(errors="replace").strip()
        if b"SyntaxError" in outcome.stderr or b"NameError" in outcome.stderr:
            return f"did not try: {outcome.stderr.decode(errors='replace').splitlines()[-1]}"
        if outcome.seconds > SECONDS + 2:
            return f"ran for {outcome.seconds:.1f} s"
        if len(outcome.stdout) + len(outcome.stderr) > 3 * 2**20:
            return f"wrote {len(outcome.stdout) + len(outcome.stderr):,} bytes"
        if any(sorted(os.listdir(self.places[name])) != ["canary"] for name in ("HOME", "DATA")):
            return "left a file"
        for server in (self._tcp, self._unix):
            try:
                server.accept()[0].close()
            except BlockingIOError:
                continue
            return "connected to us"
        return ""
