"""The sandbox: programs run, limits hold, the escape corpus stays inside, and nothing runs where nothing isolates."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewardmodel.contract import InputError
from rewardmodel.sandbox import Limits, ProgramFault, Sandbox, SandboxUnavailable, Stopped, isolation
from rewardmodel.sandbox.inside import decode, encode, parse
from rewardmodel.sandbox.seccomp import ARCHITECTURES, REFUSED, build_filter
from tests.escape_corpus import CONTROLS, CORPUS, SECONDS, Canaries, Escape

ROOT = Path(__file__).parents[2]
POINT = """
class Point:
    def __init__(self, x): self.x = x
    def twice(self): return Point(2 * self.x)
    def __eq__(self, other): return True
    def __len__(self): return 7
def reverse(items): items.reverse()
def count():
    yield from range(3)
def fail(kind): raise getattr(__import__("builtins"), kind)("no")
number = 5
"""


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with Canaries() as made:
        yield made


def judge(sandbox: Sandbox, program: str, *tests: str, setup: str = "", names: str = "f") -> list[str]:
    with sandbox.serve(program) as served:
        return list(sandbox.judge(served, setup=setup, tests=tests, names=names.split(), modules=[]))


# --- programs ---------------------------------------------------------------------------------------------------------


def test_a_program_reads_stdin_and_prints(sandbox):
    outcome = sandbox.run("import sys\nprint(input()[::-1])\nprint('!', file=sys.stderr)\nsys.exit(3)", stdin="abc\n")
    assert (outcome.ending, outcome.exit_code, outcome.stdout, outcome.stderr) == ("exited", 3, b"cba\n", b"!\n")
    assert (outcome.isolated, outcome.memory_bound) == (True, "one process")


def test_stdin_larger_than_a_pipe_arrives_while_the_program_prints(sandbox):
    outcome = sandbox.run("import sys\nfor line in sys.stdin: print(line, end='')", stdin="0123456789\n" * 30_000)
    assert outcome.stdout == b"0123456789\n" * 30_000


def test_dev_stdin_opens_threads_run_and_temporary_files_are_written(sandbox):
    program = """
import asyncio, tempfile, concurrent.futures as futures
print(open("/dev/stdin").read())
print(sum(futures.ThreadPoolExecutor(4).map(int, "123")))
async def f(): return 4
print(asyncio.run(f()))
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("5"); file.seek(0); print(file.read())
"""
    outcome = sandbox.run(program, stdin="0")
    assert (outcome.stdout, outcome.stderr) == (b"0\n6\n4\n5\n", b"")


def test_values_come_back_as_what_they_were(sandbox):
    values = [
        None, True, 0, -(2**70), 1.5, float("inf"), 1 + 2j, "é\ud800\n", b"\0x", [1, [2]], (1,), {1, 2},
        frozenset({3}), {(1, "a"): [None]}, {},
    ]  # fmt: skip
    with sandbox.serve("def f(x): return x") as program:
        assert [program.call("f", [value]) for value in values] == values
        assert [type(program.call("f", [value])) for value in values] == [type(value) for value in values]


def test_a_fault_is_told_in_one_line(sandbox):
    with sandbox.serve(POINT) as program:
        with pytest.raises(ProgramFault, match=r"^KeyError: 'no'$"):
            program.call("fail", ["KeyError"])
        with pytest.raises(ProgramFault, match=r"^SystemExit: no$"):
            program.call("fail", ["SystemExit"])
        with pytest.raises(ProgramFault, match="no name: 'absent'"):
            program.call("absent", [])
    with pytest.raises(ProgramFault, match=r"^SyntaxError"), sandbox.serve("def"):
        pass


def test_a_program_that_ends_while_it_is_asked_is_stopped(sandbox):
    with sandbox.serve("import os\ndef f(): os._exit(0)") as program, pytest.raises(Stopped, match="ended with code 0"):
        program.call("f", [])


def test_idle_sandboxes_are_used_however_long_they_waited(sandbox, monkeypatch):
    monkeypatch.setattr("rewardmodel.sandbox.worker.START_SECONDS", 0.5)
    time.sleep(0.6)
    assert sandbox.run("print(1)").stdout == b"1\n"


# --- tests that run apart ---------------------------------------------------------------------------------------------


def test_tests_see_the_program_through_stand_ins(sandbox):
    tests = (
        "assert Point(2).twice().x == 4",
        "items = [1, 2]\nreverse(items)\nassert items == [2, 1]",
        "assert list(count()) == [0, 1, 2] and sum(count()) == 3",
        "assert len(Point(0)) == 7 and number == 5",
        "try:\n    fail('KeyError')\n    assert False\nexcept KeyError: pass",
        "assert double(number) == 10",
    )
    setup = "def double(x): return 2 * x"
    assert judge(sandbox, POINT, *tests, setup=setup, names="Point reverse count number fail") == [""] * len(tests)


def test_an_object_that_equals_everything_equals_nothing(sandbox):
    told = judge(sandbox, POINT, "assert Point(1) == 3", "assert 3 in [Point(1)]", names="Point")
    assert all("compare the program's Point" in reason for reason in told)
    assert len(told) == 2


def test_a_stop_iteration_of_the_program_does_not_end_a_loop_over_tests(sandbox):
    told = judge(sandbox, "def f(x): raise StopIteration", "assert all(map(f, [1, 2]))")
    assert told == ["raises ProgramError: StopIteration"]


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "import atexit, os; atexit.register(os._exit, 0)\ndef f(x): raise SystemExit(0)",
        "import builtins; builtins.AssertionError = builtins.NameError = StopIteration\ndef f(x): return 0",
        "import builtins; builtins.abs = lambda x: 0\nabs = lambda x: 0\ndef f(x): return 0",
        'import os\nfor fd in range(3, 64):\n try: os.write(fd, b\'\\0\\0\\0\\x0e{"verdict":""}\')\n except OSError: pass\n'
        "def f(x): return 0",
        'import sys\nm = sys.modules["__main__"]\nm.write_frame = lambda *a: None\nm._try_test = lambda *a: ""\n'
        "def f(x): return 0",
        "import sys\nprint('passed'); print('{\"verdict\": \"\"}', file=sys.stderr)\ndef f(x): return 0",
        "class T(int):\n def __eq__(self, o): return True\n def __sub__(self, o): return 0\n __rsub__ = __sub__\n"
        "def f(x): return T(0)",
        "class T:\n def __eq__(self, o): return True\n def __sub__(self, o): return 0\n __rsub__ = __sub__\n"
        "def f(x): return T()",
        "def f(x):\n import gc\n return next(o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o)['tests']",
        "import os, signal\ndef f(x): os.kill(0, signal.SIGKILL)",
    ],
)
def test_no_program_claims_to_have_passed(sandbox, program):
    try:
        told = judge(sandbox, program, "assert abs(f(20) - 41) < 1", "assert f(20) == 41")
    except (ProgramFault, Stopped):
        return
    assert len(told) == 2
    assert all(told)


def test_the_tests_and_their_results_are_not_in_the_programs_process(sandbox):
    program = "def f(x):\n    return [b'needle' + b'-9' in open('/proc/self/cmdline', 'rb').read(), search()]\n" + (
        "def search():\n    import gc\n    return any('needle' + '-9' in repr(o) for o in gc.get_objects() if type(o) in (str, list, dict))\n"
    )
    assert judge(sandbox, program, "assert f(0) == [False, False]  # needle-9") == [""]


# --- limits and escapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("escape", CORPUS, ids=lambda escape: escape.name)
def test_every_program_of_the_corpus_stays_inside(hasty_sandbox, canaries, escape: Escape):
    assert canaries.check(hasty_sandbox.run(canaries.fill_in(escape))) == ""


BY_AN_ORDINARY_USER = """
from rewardmodel.sandbox import Limits, Sandbox, SandboxUnavailable
from tests.escape_corpus import KERNEL, SECONDS, SECRETS, Canaries
try:
    sandbox = Sandbox(limits=Limits(seconds=SECONDS))
except SandboxUnavailable as error:
    raise SystemExit(f"UNAVAILABLE {error}")
with Canaries() as canaries, sandbox:
    for escape in [*SECRETS, *KERNEL]:
        way = canaries.check(sandbox.run(canaries.fill_in(escape)))
        if way: print(escape.name, way)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="the other tests run as an ordinary user already")
def test_an_ordinary_user_gets_the_same_walls():
    """With a user namespace in place of root's rights: what is inside has the rights of who started it."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        # An interpreter and a folder that others than root may read.
        path = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin") or sys.executable
        environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        return subprocess.run(
            [path, "-P", "-B", "-c", script], env=environment, user=65532, group=65532, extra_groups=[], cwd="/",
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    if run("import rewardmodel.sandbox").returncode:
        pytest.skip("no system Python 3.11 or later that another user may start here")
    done = run(BY_AN_ORDINARY_USER)
    if "UNAVAILABLE" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_corpus_tries_in_earnest(canaries):
    """What is harmless of it does get out of a plain process."""
    assert len(CORPUS) == len({escape.name for escape in CORPUS}) >= 60
    with Sandbox(limits=Limits(seconds=SECONDS), unsafe=True) as plain:
        outcomes = {
            escape.name: plain.run(canaries.fill_in(escape)).stdout for escape in CORPUS if escape.name in CONTROLS
        }
        assert {name for name, stdout in outcomes.items() if b"ESCAPED" in stdout} == CONTROLS


@pytest.mark.parametrize("make", ["open(name, 'w').close()", "os.mkdir(name)", "os.symlink('x' * 99, name)"])
def test_files_without_end_are_stopped(sandbox, make):
    """Empty files take nothing of /tmp's 16 MB; a hundred are nobody's business."""
    few = sandbox.run(f"import os\nfor n in range(100):\n name = f'/tmp/{{n}}'; {make}")
    assert (few.ending, few.exit_code) == ("exited", 0)
    many = sandbox.run(f"import os\nfor n in range(10**8):\n name = f'/tmp/{{n}}'; {make}")
    assert many.ending == "flooded"
    served = f"import os\ndef f():\n for n in range(10**8):\n  name = f'/tmp/{{n}}'; {make}"
    made = "the program made more than 5,000 files"
    with sandbox.serve(served) as program, pytest.raises(Stopped, match=made):
        program.call("f", [])


def test_nothing_is_left_running(hasty_sandbox):
    mark = f"{os.getpid()}-left-running"
    hasty_sandbox.run(f"import time\nmark = {mark!r}\ntime.sleep(60)")
    with Sandbox(limits=Limits(seconds=SECONDS), spare=1) as other:
        started = {worker.process.pid for worker in list(other._waiting.queue)}
    assert all(not os.path.exists(f"/proc/{pid}") for pid in started)


def test_the_filter_is_for_this_machine_and_no_other():
    """Eight bytes an instruction: load the architecture, compare, kill; jumps stay within 255."""
    for machine, architecture in ARCHITECTURES.items():
        program = list(struct.iter_unpack("=HBBI", build_filter(machine)))
        assert program[:3] == [(0x20, 0, 0, 4), (0x15, 1, 0, architecture.audit), (0x06, 0, 0, 0x80000000)]
        assert program[-1] == (0x06, 0, 0, 0x7FFF0000)
        assert all(
            i + 1 + max(then, other) < len(program) for i, (_code, then, other, _value) in enumerate(program[:-1])
        )
    assert {"ptrace", "mount", "unshare", "setns", "bpf", "keyctl", "io_uring_setup", "socket"} <= set(REFUSED)


# --- where nothing isolates -------------------------------------------------------------------------------------------


def test_without_bubblewrap_it_refuses_and_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        Sandbox()


def test_on_another_machine_it_refuses(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="not on linux riscv64"):
        Sandbox()


def test_where_bubblewrap_fails_it_refuses_with_its_words(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(isolation.shutil, "which", lambda name: str(broken))
    with pytest.raises(SandboxUnavailable, match=r"No permissions to create new namespace.*(CAP_SYS_ADMIN|namespaces)"):
        Sandbox()


def test_where_no_process_can_be_started_it_says_why(monkeypatch):
    def refuse(*_words, **_settings):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("rewardmodel.sandbox.worker.subprocess.Popen", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxUnavailable, match=r"it does not start \(\[Errno 24\] Too many open files\)"):
        Sandbox()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_unsafe_flag_says_so_in_every_outcome():
    with Sandbox(unsafe=True, limits=Limits(seconds=SECONDS)) as plain:
        outcome = plain.run("print(1)")
        assert (outcome.stdout, outcome.isolated, outcome.memory_bound) == (b"1\n", False, "each process")
        assert plain.run("while True: pass").ending == "timed out"


def test_limits_are_checked():
    with pytest.raises(InputError, match="seconds must be above 0"):
        Limits(seconds=0)


def test_what_a_program_claims_is_bounded():
    follow = pytest.fail
    with pytest.raises(ValueError, match="more than 10,000"):
        decode(parse(encode(set(range(10_001)), refer=str)), follow=follow)
    for text in ('{"tuple":5}', '{"set":[[1]]}', '{"dict":[[1]]}', '{"a":1,"b":2}', '{"bytes":"x"}', '{"int":"z"}'):
        with pytest.raises(ValueError, match=r"no |one key|invalid literal|hexadecimal|dictionary update"):
            decode(parse(text), follow=follow)
