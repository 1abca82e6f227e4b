"""`include`: further files of the configuration, joined to the main one in a tree that knows which file a value stands in.

Lists are joined, the main file's entries first, then those of each file in the order of the files; mappings are merged. Only
some sections may stand in such a file: what concerns the daemon as a whole stands in the main file. Files are named by path or
by pattern, relative to the main file; those of one pattern come sorted by name. One level: an included file includes nothing.

A link is followed, as Kubernetes mounts files so; the same file by two ways is a fault, since its routes would stand twice.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from smppd.config.stamps import ReadFile, Stamp, stamp_of
from smppd.config.tree import MAX_OCTETS, Entry, Node, Tree, TreeError, read_tree

INCLUDE: Final = "include"
LISTS: Final = ("accounts", "upstreams", "routes")
MAPPINGS: Final = ("policies", "lists", "brands")
"""The sections that an included file may have."""
MAX_FILES: Final = 10_000
MAX_TOTAL: Final = 64 << 20
"""How many files may be included, and their octets in all. One file has at most `tree.MAX_OCTETS`, as the main one."""
Kind = TypeVar("Kind")
_WILD: Final = frozenset("*?[")


class Mistake(NamedTuple):
    """Something wrong in a file: see `loader.Fault`."""

    file: str
    line: int
    column: int
    path: str
    message: str


class IncludeError(Exception):
    """A file cannot be read at all, so that what the others name may be missing. `mistakes`: why, of each such file."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__()
        self.mistakes = mistakes


@dataclass(slots=True)
class Joined:
    """All files as one. `root`: the tree; each node's `file` names its file. `files`: the included files and their stamps when
    they were read. `digest`: SHA-256 in hexadecimal, see `digest_of`."""

    root: Node
    mistakes: list[Mistake] = field(default_factory=list)
    files: list[ReadFile] = field(default_factory=list)
    digest: str = ""
    _begins: dict[tuple[str, str], int] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)

    def rank(self, file: str) -> int:
        """The place of a file in the order of reading; the main file's is 0."""
        return self._order.get(file, 0)

    def own_index(self, section: str, file: str, index: int) -> int:
        """Of an entry of a joined list: which one it is in its own file, from 0."""
        return index - self._begins.get((section, file), 0)


def digest_of(contents: list[tuple[str, bytes]]) -> str:
    """SHA-256, in hexadecimal, of a configuration's files, (name, SHA-256 of its content) each: of one file it is its own, as
    `sha256sum FILE` says; of several that of what `sha256sum FILE ...` prints for all of them in this order."""
    if len(contents) == 1:
        return contents[0][1].hex()
    lines = "".join(f"{digest.hex()}  {name}\n" for name, digest in contents)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def joined(tree: Tree, content: bytes, path: Path) -> Joined:
    """The tree of the main file, whose content and path these are, with all that it includes. The tree itself is changed.
    IncludeError where a file cannot be read, is too long, or is no YAML."""
    main = str(path)
    result = Joined(tree.root, [Mistake(main, *each[:2], "", each[2]) for each in tree.mistakes])
    result._order[main] = 0
    contents = [(path.name, hashlib.sha256(content).digest())]
    if isinstance(tree.root.value, dict):
        # What is wrong with `include` itself is said with all other faults of the main file.
        section = tree.root.value.get(INCLUDE)
        unread: list[Mistake] = []
        files = list(_files(section.node, path, unread)) if section is not None else []
        _Joiner(result, unread, path, contents).take(files)
        if unread:
            raise IncludeError(unread)
    result.digest = digest_of(contents)
    return result


def changed(main: Path, patterns: tuple[str, ...], files: tuple[ReadFile, ...]) -> bool:
    """Whether a configuration's files are others by now: one was written again, taken away or put there. ``files``: as they
    were read, the main one included; ``patterns``: its `include`. One stat of each file."""
    if any(stamp_of(one.path) != one.stamp for one in files):
        return True
    known = {one.path for one in files}
    for pattern in patterns:
        if _WILD & set(pattern):
            for name in islice(glob.iglob(pattern, root_dir=main.parent), MAX_FILES):
                if Path(os.path.abspath(main.parent / name)) not in known:
                    return True
    return False


class _Named(NamedTuple):
    """A file to include: its name as faults show it, its path, and the entry of `include` that named it."""

    name: str
    path: Path
    node: Node
    at: str


def _files(node: Node, main: Path, wrong: list[Mistake]) -> Iterator[_Named]:
    """The files that are named, each path once. What is no text is left to the check of the whole."""
    entries = node.value if isinstance(node.value, list) else [node]
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        # A number is text here, as everywhere where text is meant.
        number = isinstance(entry.value, int | float) and not isinstance(entry.value, bool)
        pattern = str(entry.value) if number else entry.value
        at = f"{INCLUDE}[{index}]" if entry is not node else INCLUDE
        if not isinstance(pattern, str) or not pattern or "\0" in pattern:
            continue
        for name in _names(pattern, main, entry, at, wrong):
            path = main.parent / name  # `./a.yaml` is `a.yaml`
            if str(path) not in seen:
                seen.add(str(path))
                yield _Named(str(path), path, entry, at)


def _names(pattern: str, main: Path, entry: Node, at: str, wrong: list[Mistake]) -> list[str]:
    """What a path or pattern stands for, sorted. A pattern that nothing matches stands for nothing: its directory may be empty
    still. But the directory has to be there, or else a spelling mistake would take every account away."""

    def fault(message: str) -> list[str]:
        wrong.append(Mistake(str(main), entry.line, entry.column, at, message))
        return []

    if not _WILD & set(pattern):
        if _is_directory(main.parent / pattern):
            return fault(f"{pattern} is a directory: write {os.path.join(pattern, '*.yaml')}")
        return [pattern]
    directory = os.path.dirname(pattern)
    if "**" in pattern or _WILD & set(directory):
        return fault("only the last part of a path may be a pattern, such as accounts.d/*.yaml")
    place = main.parent / directory
    try:
        with os.scandir(place):
            pass
    except OSError as error:
        return fault(f"{place} cannot be looked into: {error.strerror}")
    found = list(islice(glob.iglob(pattern, root_dir=main.parent), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        return fault(f"matches more than {MAX_FILES} files")
    return sorted(found)


def _is_directory(path: Path) -> bool:
    """Whether it is one, as far as can be seen: why a path cannot be followed is said when it is read."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


class _Joiner:
    """Reads the files and puts what they have into the tree."""

    def __init__(self, result: Joined, unread: list[Mistake], main: Path, contents: list[tuple[str, bytes]]) -> None:
        self._result = result
        self._unread = unread
        self._main = main
        self._contents = contents
        self._octets = 0
        self._places: dict[tuple[int, int], str] = {}
        self._lists: dict[str, list[Node]] = {}
        self._mappings: dict[str, dict[str, Entry]] = {}

    def take(self, files: list[_Named]) -> None:
        """Joins them all."""
        root = self._result.root
        try:
            main = os.stat(self._main)
            self._places[main.st_dev, main.st_ino] = str(self._main)
        except OSError:
            pass  # the content was given and is in no file
        if len(files) > MAX_FILES:
            self._wrong(files[0], f"more than {MAX_FILES} files are included")
            return
        for one in files:
            if self._octets > MAX_TOTAL:
                self._wrong(one, f"the included files are longer than {MAX_TOTAL >> 20} MiB in all")
                break
            self._result._order[one.name] = len(self._result._order)
            tree = self._read(one)
            if tree is not None:
                self._add(tree, one.name)
        for section, items in self._lists.items():
            self._set(root, section, list(items))
        for section, entries in self._mappings.items():
            self._set(root, section, dict(entries))

    def _wrong(self, one: _Named, message: str) -> None:
        self._unread.append(Mistake(str(self._main), one.node.line, one.node.column, one.at, message))

    def _read(self, one: _Named) -> Tree | None:
        content, stamp = self._content(one)
        if content is None or stamp is None:
            return None
        self._octets += len(content)
        try:
            tree = read_tree(content, one.name)
        except TreeError as error:
            self._unread.append(Mistake(one.name, error.line, error.column, "", error.message))
            return None
        self._result.files.append(ReadFile(Path(os.path.abspath(one.path)), stamp))
        shown = os.path.relpath(one.path, self._main.parent)
        self._contents.append((shown, hashlib.sha256(content).digest()))
        self._result.mistakes += [Mistake(one.name, *each[:2], "", each[2]) for each in tree.mistakes]
        return tree

    def _content(self, one: _Named) -> tuple[bytes | None, Stamp | None]:
        """The octets of a file and its stamp. It is looked at before it is read: a pipe would never end."""
        try:
            # Opening a pipe for reading would wait for a writer without this flag.
            opened = os.open(one.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENOENT and one.path.is_symlink():
                self._wrong(one, f"{one.name} is a link to a file that does not exist")
            else:
                self._wrong(one, f"{one.name} cannot be read: {error.strerror}")
            return None, None
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            os.close(opened)
            self._wrong(one, f"{one.name} is not a file")
            return None, None
        with open(opened, "rb") as file:
            first = self._places.setdefault((found.st_dev, found.st_ino), one.name)
            if first != one.name or first == str(self._main):
                same = "the configuration itself" if first == one.name else f"the same file as {first}"
                self._wrong(one, f"{one.name} is {same}")
                return None, None
            try:
                content = file.read(MAX_OCTETS + 1)
            except OSError as error:
                self._wrong(one, f"{one.name} cannot be read: {error.strerror}")
                return None, None
        return content, Stamp(found.st_size, found.st_mtime_ns, found.st_ino)

    def _add(self, tree: Tree, file: str) -> None:
        mistake = self._result.mistakes.append
        if not isinstance(tree.root.value, dict):
            mistake(Mistake(file, tree.root.line, tree.root.column, "", "must be a mapping of sections"))
            return
        for key, entry in tree.root.value.items():
            where = (file, entry.line, entry.column, key)
            if key == INCLUDE:
                mistake(Mistake(*where, "an included file includes no other"))
            elif key in LISTS:
                items = self._value(key, entry, file, list, "must be a list in an included file")
                if items is not None:
                    self._add_list(key, items, file)
            elif key in MAPPINGS:
                entries = self._value(key, entry, file, dict, "must be a mapping")
                if entries is not None:
                    self._add_mapping(key, entries, file)
            elif not key.startswith("x-"):
                sections = ", ".join((*LISTS, *MAPPINGS))
                mistake(Mistake(*where, f"cannot stand in an included file, which may have {sections}"))

    def _value(self, section: str, entry: Entry, file: str, kind: type[Kind], wrong: str) -> Kind | None:
        """What a file has of a section; None where it is empty, or not of its kind, which is a mistake."""
        value = entry.node.value
        if value is None or isinstance(value, kind):
            return value
        self._result.mistakes.append(Mistake(file, entry.node.line, entry.node.column, section, wrong))
        return None

    def _add_list(self, section: str, value: list[Node], file: str) -> None:
        items = self._lists.get(section)
        if items is None:
            main = self._present(section)
            if not isinstance(main, list | None):
                return  # a fault of the main file, which is found with the others
            items = self._lists[section] = list(main or ())
        self._result._begins[section, file] = len(items)
        items += value

    def _add_mapping(self, section: str, value: dict[str, Entry], file: str) -> None:
        entries = self._mappings.get(section)
        if entries is None:
            main = self._present(section)
            if not isinstance(main, dict | None):
                return
            entries = self._mappings[section] = dict(main or {})
        for key, item in value.items():
            first = entries.get(key)
            if first is None:
                entries[key] = item
                continue
            place = f"{first.node.file}:{first.line}"
            self._result.mistakes.append(
                Mistake(file, item.line, item.column, f"{section}.{key}", f"{key} is given twice (first in {place})")
            )

    def _present(self, section: str) -> object:
        """What the main file has of a section."""
        entry = self._result.root.value.get(section)
        return entry.node.value if entry is not None else None

    def _set(self, root: Node, section: str, value: object) -> None:
        """Puts a joined section into the tree. In a node of its own: the present one may stand elsewhere too, by an alias."""
        before = root.value.get(section)
        line, column = (before.line, before.column) if before is not None else (root.line, root.column)
        place = before.node if before is not None else root
        root.value[section] = Entry(line, column, Node(place.line, place.column, value, file=root.file))
