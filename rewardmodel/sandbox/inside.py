"""The script that a sandbox runs: one job, then it ends. Nothing in here is secret, and nothing in here is trusted.

It takes a uid without rights where it was started as root, limits itself, says that it is ready, and reads its job:

- `run`: the program is the main program; the rest of stdin is its own.
- `serve`: the program is a module; requests come in (look up a name, call, read an attribute), values go out.
- `judge`: tests, without the program. Names of the program stand for it and turn into requests.

The program shares its process with this script and can make it say anything. So the script never knows an expected
result while a program runs in it, and what it says is decoded as a claim: `decode` builds only None, bool, int, float,
complex, str, bytes, list, tuple, set, frozenset and dict. Everything else stays where it is and travels as a number.
Subclasses travel as their base: a Counter is a dict.

Imports are few because every check pays for them: the parts that json is made of stand here in place of json.
Arguments: REPLY_FD UID MEMORY SECONDS FILE_SIZE OPEN_FILES TASKS. It arrives compiled, for the same reason.
"""

from __future__ import annotations

import builtins
import os
import resource
import sys
from _json import encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ModuleType = type(sys)
LONGEST_FRAME = 2**20
MOST_SAID = 500  # characters of an error
MOST_HASHED = 10_000  # elements of sets and keys of dicts in one value: colliding hashes cost their square


class ProgramError(Exception):
    """Something raised in the program that is no built-in exception, or that must not pass for one here."""


class CannotJudge(Exception):
    """A test that would have to believe the program."""


# --- values -----------------------------------------------------------------------------------------------------------


class _JSON:
    """What the scanner is told."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan = make_scanner(_JSON())  # type: ignore[arg-type]


def parse(text: str) -> Any:
    """The JSON value that the text begins with. Raises ValueError where there is none."""
    try:
        return _scan(text, 0)[0]
    except StopIteration:
        raise ValueError("not JSON") from None


def encode(value: Any, *, refer: Callable[[Any], str]) -> str:
    """The value as JSON: lists and scalars as such, the rest as an object of one key. `refer`: what is not plain."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value) if -(2**63) < value < 2**63 else f'{{"int":"{int.__format__(value, "x")}"}}'
    if isinstance(value, float):
        text = float.__repr__(value)
        return text if text[-1].isdigit() else f'{{"float":"{text}"}}'
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    if isinstance(value, bytes | bytearray):
        return f'{{"bytes":"{value.hex()}"}}'
    if isinstance(value, complex):
        return f'{{"complex":["{value.real!r}","{value.imag!r}"]}}'
    if isinstance(value, list):
        return _encode_all(value, refer=refer)
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return f'{{"{kind.__name__}":{_encode_all(value, refer=refer)}}}'
    if isinstance(value, dict):
        return f'{{"dict":{_encode_all(list(value.items()), refer=refer)}}}'
    return refer(value)


def _encode_all(values: Any, *, refer: Callable[[Any], str]) -> str:
    return "[" + ",".join([encode(value, refer=refer) for value in values]) + "]"


def decode(data: Any, *, follow: Callable[[str, Any], Any]) -> Any:
    """The value of parsed JSON. `follow(tag, content)`: what was not plain. Raises ValueError for what is no value."""
    return _Decoder(follow).decode(data)


class _Decoder:
    def __init__(self, follow: Callable[[str, Any], Any]) -> None:
        self.follow = follow
        self.hashed = 0

    def decode(self, data: Any) -> Any:
        if isinstance(data, list):
            return [self.decode(item) for item in data]
        if not isinstance(data, dict):
            return data
        if len(data) != 1:
            raise ValueError("an object of other than one key")
        [(tag, content)] = data.items()
        try:
            return self._build(tag, content)
        except (TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise ValueError(f"no {tag}: {error}") from None

    def _build(self, tag: str, content: Any) -> Any:
        if tag == "int":
            return int(content, 16)
        if tag == "float":
            return float(content)
        if tag == "bytes":
            return bytes.fromhex(content)
        if tag == "complex":
            real, imaginary = content
            return complex(float(real), float(imaginary))
        if tag == "tuple":
            return tuple([self.decode(item) for item in content])
        if tag in ("set", "frozenset", "dict"):
            self.hashed += len(content)
            if self.hashed > MOST_HASHED:
                raise ValueError(f"more than {MOST_HASHED:,} elements of sets and keys of dicts")
            items = [self.decode(item) for item in content]
            return {"set": set, "frozenset": frozenset, "dict": dict}[tag](items)
        return self.follow(tag, content)


# --- frames: four bytes of length, then JSON in ASCII -----------------------------------------------------------------


def write_frame(descriptor: int, text: str) -> None:
    body = text.encode("ascii")
    if len(body) > LONGEST_FRAME:
        raise ValueError(f"more than {LONGEST_FRAME:,} bytes")
    rest = memoryview(len(body).to_bytes(4, "big") + body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_frame(descriptor: int) -> str | None:
    """The next frame, None where the other side has closed."""
    size = _read_exactly(descriptor, 4)
    if size is None:
        return None
    body = _read_exactly(descriptor, int.from_bytes(size, "big"))
    return None if body is None else body.decode("ascii")


def _read_exactly(descriptor: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 2**20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# --- the program as a program -----------------------------------------------------------------------------------------


def run_program(source: str) -> None:
    """As `python program.py`, with this process's stdin, stdout and exit code."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    exec(compile(source, "program.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (its purpose)


# --- the program as a module that is asked ----------------------------------------------------------------------------


class Served:
    """The program's side: its names, and its objects that others hold a number of."""

    def __init__(self, source: str) -> None:
        self.module = ModuleType("program")
        self.objects: list[Any] = []
        sys.modules["program"] = self.module
        exec(compile(source, "program.py", "exec", dont_inherit=True), self.module.__dict__)  # noqa: S102 (its purpose)

    def answer(self, request: dict[str, Any]) -> str:
        what = request["do"]
        if what == "get":
            if request["name"] not in self.module.__dict__:
                return '{"missing":true}'
            return f'{{"value":{self.encode(self.module.__dict__[request["name"]])}}}'
        if what == "attribute":
            return f'{{"value":{self.encode(getattr(self.decode(request["of"]), request["name"]))}}}'
        arguments, named = self.decode(request["arguments"]), self.decode(request["named"])
        before = self.encode(arguments)
        value = self.encode(self.decode(request["of"])(*arguments, **named))
        after = self.encode(arguments)
        return f'{{"value":{value}}}' if after == before else f'{{"value":{value},"arguments":{after}}}'

    def encode(self, value: Any) -> str:
        return encode(value, refer=self._refer)

    def decode(self, data: Any) -> Any:
        return decode(data, follow=self._follow)

    def _refer(self, value: Any) -> str:
        self.objects.append(value)
        return f'{{"object":[{len(self.objects) - 1},{encode_basestring_ascii(type(value).__name__)}]}}'

    def _follow(self, tag: str, content: Any) -> Any:
        if tag == "name":
            return self.module.__dict__[content]
        return getattr(builtins, content) if tag == "builtin" else self.objects[content]


def serve_program(source: str, *, requests: int, replies: int) -> None:
    try:
        served = Served(source)
    except BaseException as error:
        write_frame(replies, _describe_fault(error))
        return
    write_frame(replies, '{"value":null}')
    while (request := read_frame(requests)) is not None:
        try:
            reply = served.answer(parse(request))
        except BaseException as error:
            reply = _describe_fault(error)
        write_frame(replies, reply if len(reply) <= LONGEST_FRAME else _describe_fault(ValueError("a huge result")))


def _describe_fault(error: BaseException) -> str:
    try:
        text = str(error)[:MOST_SAID]
    except BaseException:
        text = ""
    return f'{{"fault":[{encode_basestring_ascii(type(error).__name__)},{encode_basestring_ascii(text)}]}}'


# --- the tests, which ask the program ---------------------------------------------------------------------------------


class Remote:
    """An object of the program. It can be called, read, iterated and handed back; it cannot be compared, because only
    the program could say whether it is equal to something."""

    def __init__(self, judge: Judge, where: str, kind: str) -> None:
        self.__dict__.update(_judge=judge, _where=where, _kind=kind)

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:
        return self._judge.call(self._where, arguments, named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{name} of the program's {self._kind}")
        return self._judge.ask(f'{{"do":"attribute","of":{self._where},"name":{encode_basestring_ascii(name)}}}')

    def __setattr__(self, name: str, value: Any) -> None:
        raise CannotJudge(f"the tests set {name} of the program's {self._kind}")

    def __eq__(self, other: object) -> bool:
        raise CannotJudge(f"the tests compare the program's {self._kind}, which is no plain value")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return str(self._through("repr"))

    def __str__(self) -> str:
        return str(self._through("str"))

    def __len__(self) -> int:
        return int(self._through("len"))

    def __bool__(self) -> bool:
        return bool(self._through("bool"))

    def __iter__(self) -> Any:
        return self._through("iter")

    def __next__(self) -> Any:
        return self._through("next")

    def __getitem__(self, key: Any) -> Any:
        return self._judge.ask(f'{{"do":"attribute","of":{self._where},"name":"__getitem__"}}')(key)

    def _through(self, name: str) -> Any:
        return self._judge.call(f'{{"builtin":"{name}"}}', (self,), {})


class Judge:
    """The tests' side."""

    def __init__(self, *, replies: int, requests: int) -> None:
        self.replies, self.requests = replies, requests

    def tell(self, kind: str, text: str) -> None:
        write_frame(self.replies, f'{{"{kind}":{text}}}')

    def ask(self, request: str) -> Any:
        return self._take(self._exchange(request))

    def call(self, where: str, arguments: Any, named: dict[str, Any]) -> Any:
        reply = self._exchange(
            f'{{"do":"call","of":{where},"arguments":{self.encode(list(arguments))},"named":{self.encode(named)}}}'
        )
        if "arguments" in reply:
            _change_in_place(arguments, self.decode(reply["arguments"]))
        return self._take(reply, ends=where == '{"builtin":"next"}')

    def _exchange(self, request: str) -> dict[str, Any]:
        self.tell("ask", encode_basestring_ascii(request))
        reply = read_frame(self.requests)
        if reply is None:
            os._exit(0)
        parsed = parse(reply)
        if not isinstance(parsed, dict):
            raise ProgramError("the program's answer is no answer")
        return parsed

    def _take(self, reply: dict[str, Any], *, ends: bool = False) -> Any:
        if "fault" in reply:
            raise self._rebuild(*reply["fault"], ends=ends)
        if "missing" in reply:
            raise NameError("not defined by the program")
        return self.decode(reply["value"])

    def _rebuild(self, name: Any, text: Any, *, ends: bool) -> Exception:
        """Built-in exceptions as they are, for tests that expect one; but a StopIteration would end a loop over results
        early, as if all of them were right."""
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, UnicodeError):
            kind = ProgramError
        if issubclass(kind, StopIteration | StopAsyncIteration) and not ends:
            kind = ProgramError
        if kind is ProgramError:
            return kind(f"{name}: {text}" if text else str(name))
        return kind(text) if text else kind()

    def encode(self, value: Any) -> str:
        return encode(value, refer=self._refer)

    def decode(self, data: Any) -> Any:
        return decode(data, follow=self._follow)

    def _refer(self, value: Any) -> str:
        if type(value) is Remote:
            return str(value._where)
        name = getattr(value, "__name__", "")
        if getattr(builtins, name, None) is value:
            return f'{{"builtin":"{name}"}}'
        if isinstance(value, range):
            return _encode_all(list(value), refer=self._refer)
        raise CannotJudge(f"the tests hand the program an object of their own ({type(value).__name__})")

    def _follow(self, tag: str, content: Any) -> Remote:
        number, kind = content
        if tag != "object":
            raise ValueError(tag)
        return Remote(self, f'{{"object":{int(number)}}}', str(kind)[:50])


def _change_in_place(arguments: Any, after: Any) -> None:
    """The tests' own lists, dicts and sets, as the program left those that it was given."""
    for mine, changed in zip(arguments, after, strict=True):
        if type(mine) is not type(changed):
            continue
        if isinstance(mine, list):
            mine[:] = changed
        elif isinstance(mine, dict | set):
            mine.clear()
            mine.update(changed)


def judge_tests(job: dict[str, Any], *, requests: int, replies: int) -> None:
    judge = Judge(replies=replies, requests=requests)
    names: dict[str, Any] = {"__name__": "tests"}
    for name in job["modules"]:
        names[name] = __import__(name)
    for name in job["names"]:
        where = f'{{"name":{encode_basestring_ascii(name)}}}'
        try:
            value = judge.ask(f'{{"do":"get",{where[1:]}')
        except NameError:
            continue  # the test that needs it says so
        names[name] = Remote(judge, where, value._kind) if type(value) is Remote else value
    reason = _try_test(job["setup"], names)
    for test in job["tests"]:
        judge.tell("verdict", encode_basestring_ascii(reason or _try_test(test, names)))


def _try_test(source: str, names: dict[str, Any]) -> str:
    """Why the test fails, empty where it holds."""
    try:
        exec(compile(source, "test", "exec", dont_inherit=True), names)  # noqa: S102 (its purpose)
    except AssertionError as error:
        text = str(error)[:MOST_SAID]
        return f"is false{f' ({text})' if text else ''}"
    except BaseException as error:
        text = str(error)[:MOST_SAID]
        return f"raises {type(error).__name__}{f': {text}' if text else ''}"
    return ""


# --- the start --------------------------------------------------------------------------------------------------------


def limit_itself(*, uid: int, memory: int, seconds: int, file_size: int, open_files: int, tasks: int) -> None:
    """Give up root, then what may be used. tasks: threads of this uid, 0 for no limit; uid: 0 keeps its own."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    limits = [
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_CORE, 1),  # with 0 the kernel still starts the machine's crash handler, outside and as root
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 256),
    ]
    for kind, limit in [*limits, *([(resource.RLIMIT_NPROC, tasks)] if tasks else [])]:
        resource.setrlimit(kind, (limit, limit))


def main() -> None:
    replies, uid, memory, seconds, file_size, open_files, tasks = map(int, sys.argv[1:])
    limit_itself(uid=uid, memory=memory, seconds=seconds, file_size=file_size, open_files=open_files, tasks=tasks)
    write_frame(replies, '"ready"')
    text = read_frame(0)
    if text is None:
        return
    job = parse(text)
    if job["do"] == "run":
        os.close(replies)
        run_program(job["program"])
        return
    requests = os.dup(0)
    nothing = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    if job["do"] == "serve":
        serve_program(job["program"], requests=requests, replies=replies)
    else:
        judge_tests(job, requests=requests, replies=replies)


if __name__ == "__main__":
    main()
