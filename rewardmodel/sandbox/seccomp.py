"""The filter of system calls for model-written code, as a classic BPF program that bubblewrap installs.

Everything that a program under test has no use for is refused: new processes and namespaces, mounts, sockets other than
a pair of local ones, tracing and the memory of other processes, shared memory that no limit counts, keys, io_uring and
its forerunner (whose contexts all users share), BPF, performance counters, the clock, modules, writing out other
people's files. Refused calls answer "not permitted", so that a program fails where it asked. Calls of another
architecture (also x32) kill the process; calls newer than this list do not exist.

Left out: signals, which reach nothing outside the namespace, and execve, which bubblewrap itself needs after the filter
is in place; without fork it only replaces the program. Numbers are those of the kernel's tables; layout: linux/filter.h
and seccomp(2).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass

# name: number on (x86_64, aarch64); None: there is no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # processes; threads are let through below
    "fork": (57, None),
    "vfork": (58, None),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "personality": (135, 92),
    # file systems
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "sysfs": (139, None),
    # network; a local socketpair is let through below
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # memory that RLIMIT_AS does not count
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "userfaultfd": (323, 282),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    # doors into the kernel
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "syslog": (103, 116),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
    "_sysctl": (156, None),
    # the machine
    "sync": (162, 81),
    "syncfs": (306, 267),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
}
NEWEST_CALL = 462  # mseal; a later call is treated as unknown

# Instructions and answers: linux/bpf_common.h, linux/seccomp.h.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_NOT_PERMITTED, _NO_SUCH_CALL = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS

_THREAD = 0x00010000  # CLONE_THREAD
_NAMESPACES = 0x7E020080  # every CLONE_NEW*
_UNIX = 1  # AF_UNIX
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG: what ends a sandbox together with its parent


@dataclass(frozen=True)
class Architecture:
    """One machine: its AUDIT_ARCH, its column in REFUSED, and the calls that are judged by an argument."""

    audit: int
    column: int
    clone: int
    clone3: int
    socketpair: int
    ioctl: int
    prctl: int


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, 0, clone=56, clone3=435, socketpair=53, ioctl=16, prctl=157),
    "aarch64": Architecture(0xC00000B7, 1, clone=220, clone3=435, socketpair=199, ioctl=29, prctl=167),
}


def build_filter(machine: str) -> bytes:
    """The program for a machine of ARCHITECTURES, as the array of struct sock_filter that --seccomp reads."""
    architecture = ARCHITECTURES[machine]
    numbers = (each[architecture.column] for each in REFUSED.values())
    refused = sorted(number for number in numbers if number is not None)
    return b"".join(
        [
            _load(_ARCHITECTURE),
            _refuse_unless(_EQUAL, architecture.audit, answer=_KILL),
            _load(_NUMBER),
            _refuse_if(_AT_LEAST, 0x40000000, answer=_KILL),  # x32
            _refuse_if(_AT_LEAST, NEWEST_CALL + 1, answer=_NO_SUCH_CALL),
            # glibc falls back to clone, whose flags can be read
            _refuse_if(_EQUAL, architecture.clone3, answer=_NO_SUCH_CALL),
            *(_refuse_if(_EQUAL, number, answer=_NOT_PERMITTED) for number in refused),
            _judge(
                architecture.clone,
                argument=0,
                checks=[_refuse_if(_ANY_BIT, _NAMESPACES), _refuse_unless(_ANY_BIT, _THREAD)],
            ),
            _judge(architecture.socketpair, argument=0, checks=[_refuse_unless(_EQUAL, _UNIX)]),
            _judge(architecture.ioctl, argument=1, checks=[_refuse_if(_EQUAL, door) for door in _TERMINAL_INPUT]),
            _judge(architecture.prctl, argument=0, checks=[_refuse_if(_EQUAL, _PARENT_DEATH_SIGNAL)]),
            _answer(_ALLOW),
        ]
    )


def _instruction(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _jump(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """then, otherwise: how many instructions to leave out where the comparison holds, and where not."""
    return _instruction(code, value, then=then, otherwise=otherwise)


def _answer(value: int) -> bytes:
    return _instruction(_RETURN, value)


def _refuse_if(code: int, value: int, *, answer: int = _NOT_PERMITTED) -> bytes:
    return _jump(code, value, otherwise=1) + _answer(answer)


def _refuse_unless(code: int, value: int, *, answer: int = _NOT_PERMITTED) -> bytes:
    return _jump(code, value, then=1) + _answer(answer)


def _judge(number: int, *, argument: int, checks: Iterable[bytes]) -> bytes:
    """Where the call is `number`: the checks of its argument's low half, then allow. Otherwise go on."""
    body = _load(16 + 8 * argument) + b"".join(checks) + _answer(_ALLOW)
    return _jump(_EQUAL, number, otherwise=len(body) // 8) + body
