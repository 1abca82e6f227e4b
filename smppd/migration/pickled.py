"""Reads a pickle as data, without running it: a store of Jasmin's can come from anywhere, and unpickling runs what it says.

The opcodes are split by the standard library's `pickletools.genops`, which runs nothing; here each builds plain data. A class
or a function is a name, and what would be called is put down as a `Thing`: its name, the arguments, the state. Opcodes:
Python's `Lib/pickletools.py`, protocols 0 to 5.
"""

from __future__ import annotations

import pickletools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

MAX_OPCODES: Final = 2_000_000
MAX_DEPTH: Final = 200_000
"""Things on the stack at one time."""
MAX_COPIED: Final = 16 << 20
"""Octets and keys that are copied in all: what stands there once can be named a million times, in two octets each."""
MAX_NAME: Final = 512
"""Characters of the name of a class."""
_KEYS: Final = sys.hash_info.modulus
"""No number is a key that is not its own hash."""


class PickleError(Exception):
    """It is no pickle, or has what no store of Jasmin's has."""


@dataclass(slots=True, eq=False, repr=False)
class Thing:
    """An object as its pickle describes it. name: `module.Class`; state: its attributes."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The class's own name."""
        return self.name.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"Thing({self.kind!r})"


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function, by name alone."""

    name: str


class _Mark:
    """Where a run of values on the stack begins."""


_PUSHED: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_VALUES: Final = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8"
    " BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 FLOAT BINFLOAT".split()
)


def read_pickle(content: bytes) -> Any:
    """The data of a pickle: None, numbers, text, octets, lists, tuples, dicts with plain keys, and Things. PickleError."""
    machine = _Machine()
    try:
        return _run(machine, content)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, UnicodeError) as error:
        raise PickleError(f"it cannot be read ({type(error).__name__})") from None


def _run(machine: _Machine, content: bytes) -> Any:
    # Texts with odd escapes are warned of by whoever takes them apart.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count >= MAX_OPCODES or len(machine.stack) > MAX_DEPTH:
                raise PickleError("it is too large")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    raise PickleError("it has no end")


class _Machine:
    """The stack and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._copied = 0

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _PUSHED:
            self.stack.append(_PUSHED[name]())
        elif name in _VALUES:
            self.stack.append(argument)
        elif name == "MARK":
            self.stack.append(_Mark())
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        else:
            done = getattr(self, f"on_{name.lower()}", None)
            if done is None:
                self.unknown(name)
            done(argument)

    def copies(self, size: int) -> None:
        """Counts what is copied, before it is."""
        self._copied += size
        if self._copied > MAX_COPIED:
            raise PickleError("it is too large")

    def unknown(self, name: str) -> NoReturn:
        raise PickleError(f"it has what no store has ({name})")

    def top(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise PickleError("it takes what is not there")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def run(self) -> list[Any]:
        """What lies above the last mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[index], _Mark):
                found = self.stack[index + 1 :]
                del self.stack[index:]
                return found
        raise PickleError("it takes what is not there")

    # -- opcodes: the method's name is the opcode's -----------------------------------------------------------------

    def on_proto(self, argument: Any) -> None:
        pass

    on_frame = on_proto

    def on_pop(self, argument: Any) -> None:
        self.pop()

    def on_dup(self, argument: Any) -> None:
        self.stack.append(self.top())

    def on_global(self, argument: Any) -> None:
        self.stack.append(_Name(str(argument).replace(" ", ".", 1)))

    def on_stack_global(self, argument: Any) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str) or len(name) + len(module) > MAX_NAME:
            raise PickleError("it names a class by what is no name")
        self.stack.append(_Name(f"{module}.{name}"))

    def on_tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self.run()))

    def on_tuple1(self, argument: Any) -> None:
        self.stack.append((self.pop(),))

    def on_tuple2(self, argument: Any) -> None:
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def on_tuple3(self, argument: Any) -> None:
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def on_list(self, argument: Any) -> None:
        self.stack.append(self.run())

    on_frozenset = on_list

    def on_dict(self, argument: Any) -> None:
        found: dict[Any, Any] = {}
        _put(found, self.run())
        self.stack.append(found)

    def on_append(self, argument: Any) -> None:
        value = self.pop()
        self.items().append(value)

    def on_appends(self, argument: Any) -> None:
        values = self.run()
        self.items().extend(values)

    on_additems = on_appends

    def items(self) -> list[Any]:
        if not isinstance(self.top(), list):
            raise PickleError("it appends to what is no list")
        return self.stack[-1]  # type: ignore[no-any-return]

    def on_setitem(self, argument: Any) -> None:
        value, key = self.pop(), self.pop()
        _put(self.mapping(), [key, value])

    def on_setitems(self, argument: Any) -> None:
        values = self.run()
        _put(self.mapping(), values)

    def mapping(self) -> dict[Any, Any]:
        if not isinstance(self.top(), dict):
            raise PickleError("it puts keys into what is no mapping")
        return self.stack[-1]  # type: ignore[no-any-return]

    def on_newobj(self, argument: Any) -> None:
        arguments, kind = self.pop(), self.pop()
        if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], str):
            self.copies(len(arguments[0]))
        self.stack.append(_made(kind, arguments))

    on_reduce = on_newobj

    def on_newobj_ex(self, argument: Any) -> None:
        self.pop()
        self.on_newobj(argument)

    def on_build(self, argument: Any) -> None:
        state = self.pop()
        thing = self.top()
        if isinstance(state, tuple) and len(state) == 2:
            state = state[1] if isinstance(state[1], dict) else state[0]  # the state of a class with slots
        if isinstance(thing, Thing) and isinstance(state, dict):
            self.copies(len(state))
            thing.state.update(state)


def _made(kind: Any, arguments: Any) -> Any:
    if not isinstance(kind, _Name) or not isinstance(arguments, tuple):
        raise PickleError("it calls what has no name")
    # Octets of Python 3 in a pickle of protocol 2 are text that is encoded again.
    if kind.name == "_codecs.encode" and len(arguments) == 2 and isinstance(arguments[0], str):
        return arguments[0].encode("latin-1", "replace")
    # How protocols 0 and 1 say "an object of this class".
    if (
        kind.name in ("copy_reg._reconstructor", "copyreg._reconstructor")
        and arguments
        and isinstance(arguments[0], _Name)
    ):
        return Thing(arguments[0].name)
    return Thing(kind.name, arguments)


def _put(mapping: dict[Any, Any], values: list[Any]) -> None:
    if len(values) % 2:
        raise PickleError("a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, (str, int, float, bytes, type(None))):
            raise PickleError("a key that is none")
        # Numbers can be chosen so that they all have one hash: then each key is compared with all others.
        if isinstance(key, int) and not -_KEYS < key < _KEYS:
            raise PickleError("a key that is too large")
        mapping[key] = value
