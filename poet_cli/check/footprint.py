"""Records, in the child that traces, what the user's code reads: `begin()` first, `end()` last.

    seen                                         how
    files opened through Python, found or not    audit event `open`
    modules                                      their source, by sys.modules and the .pyc opened
    files asked about (exists, stat, access)     os.stat and its like: one that exists counts as read
    folders listed                               audit events; of imports, the names asked for
    files given to native readers                torch.from_file, torch.jit.load, safetensors, ...
    environment variables                        os.environ; what native code reads, by prefix
    installed packages, the standard library     name, version and RECORD of all of them (`inputs`)

Never kept, because it cannot be seen: a socket connected, a name resolved, a process started or
forked, native code outside of installed packages or known to read files by itself, a database, a
file that changed meanwhile. Not seen, and taken not to matter: the clock, random numbers, /proc,
/sys and /dev (the machine), dates of files, and what an installed package's native code reads
unasked.

Invariant: the recorder never makes the user's code fail; what it cannot follow makes it unsure.
"""

from __future__ import annotations

import contextlib
import os
import posix
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType
from typing import Any

from poet_cli.check import footprint_watches as watches
from poet_cli.check.inputs import (
    PATH_VARIABLE,
    Footprint,
    ListedFolder,
    ReadFile,
    distributions_digest,
    has_distributions,
    names_digest,
    python_identity,
    read_file,
    variable_digest,
    variables_digest,
)

# A model that reads more than this is traced again each time; what is kept stays small.
_MOST_FILES = 20_000
_MACHINE = ("/proc/", "/sys/", "/dev/")
_NATIVE_SUFFIXES = (".so", ".pyd", ".dylib")

_Signature = tuple[int, int, int]  # size, time of change, inode


def begin() -> Recorder:
    """Starts to record, for the rest of this process: an audit hook cannot be taken away."""
    recorder = Recorder()
    sys.addaudithook(recorder.hear)
    watches.watch_environment(recorder)
    watches.watch_questions(recorder)
    watches.watch_imports(recorder)
    return recorder


class Recorder:
    """What has been read so far. Any thread may add to it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)  # what the code sets itself is no input
        self._installed = watches.Installed()
        # libtorch's compiled kernels are under a folder that torch makes wherever it runs.
        compiled = os.path.join(tempfile.gettempdir(), "torchinductor_")  # noqa: PTH118
        self._left_out: tuple[str, ...] = (*_MACHINE, compiled)
        self._read: dict[str, _Signature] = {}
        self._written: set[str] = set()
        self._missing: set[str] = set()
        self._folders: set[str] = set()
        self._listed: dict[str, ListedFolder] = {}
        self._import_folders: set[str] = set()
        self._asked: set[str] = {"__init__"}
        self._variables: set[str] = set()
        self._prefixes: set[str] = set(watches.NATIVE_PREFIXES)
        self._unsure = ""
        self._ended = False
        self._thread = threading.local()

    def leave_out(self, folder: Path) -> None:
        """What is under `folder` is the caller's own business."""
        # One after the other: to find the real path is to ask about the folder.
        self._left_out += (str(folder.absolute()).rstrip(os.sep) + os.sep,)
        self._left_out += (os.path.realpath(folder).rstrip(os.sep) + os.sep,)

    def unsure(self, why: str) -> None:
        """Nothing of this trace can be kept; the first reason is told."""
        self._unsure = self._unsure or why

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        act = _EVENTS.get(event)
        if act is not None:
            self._follow(act, event, arguments)

    def asked_about(self, raw: Any) -> None:
        """A path was looked at without being opened, or goes to native code that will open it."""
        self._follow(Recorder._look, "a path", (raw,))

    def asked_for_module(self, name: str) -> None:
        """An import asked for this module, found or not."""
        self._asked.add(name.rpartition(".")[2])

    def asked_for_variable(self, name: str) -> None:
        """The value of an environment variable was asked for, or whether there is one."""
        if not self._ended:
            self._variables.add(name)

    def asked_for_all_variables(self, frame: FrameType) -> None:
        """Somebody goes through the whole environment."""
        if not self._ended:
            # An installed package looks for variables of its own, such as TQDM_...
            package = self._installed.package_of(frame)
            self._prefixes.add(f"{package.upper()}_" if package else "")

    @contextlib.contextmanager
    def relative_to(self, folder: int | None) -> Iterator[None]:
        """While this thread opens a path that is relative to an open folder."""
        self._thread.base = folder
        try:
            yield
        finally:
            self._thread.base = None

    def _follow(self, act: _Act, what: str, arguments: tuple[Any, ...]) -> None:
        # It must not raise, nor hear of what it does itself.
        if self._ended or getattr(self._thread, "inside", False):
            return
        self._thread.inside = True
        try:
            act(self, what, arguments)
        except Exception as error:  # noqa: BLE001  See above.
            self.unsure(f"{what} could not be followed ({type(error).__name__})")
        finally:
            self._thread.inside = False

    def _path(self, raw: Any) -> str | None:
        """The absolute path, a module's source for its compiled form; None: of no interest."""
        if isinstance(raw, int):  # open already
            return None
        base = getattr(self._thread, "base", None)
        folder = os.getcwd() if base is None else os.readlink(f"/proc/self/fd/{base}")  # noqa: PTH109, PTH115
        path = os.path.join(folder, os.fsdecode(raw))  # noqa: PTH118  Plain strings: it is called often.
        # Behind a link to a folder, `..` is another folder than it looks.
        path = os.path.realpath(path) if ".." in path else os.path.normpath(path)
        if self._installed.covers(path) or f"{path}{os.sep}".startswith(self._left_out):
            return None
        return _source_of(path)

    def _is_own(self, path: str) -> bool:
        """Whether this process wrote it, or made a folder above it."""
        while path != os.sep:
            if path in self._written:
                return True
            path = os.path.dirname(path)  # noqa: PTH120
        return False

    def _look(self, _: str, arguments: tuple[Any, ...]) -> None:
        path = self._path(arguments[0])
        if path is None or self._is_own(path):
            return
        found = _stat(path)
        if found is None:
            self._missing.add(path)
        elif stat.S_ISDIR(found.st_mode):
            self._folders.add(path)
        elif stat.S_ISREG(found.st_mode):
            self._read.setdefault(path, _signature(found))
            if len(self._read) > _MOST_FILES:
                self.unsure(f"it reads more than {_MOST_FILES} files")
        else:
            self.unsure(f"{path} is no regular file")

    def _opened(self, what: str, arguments: tuple[Any, ...]) -> None:
        raw, mode, flags = arguments
        path = self._path(raw)
        if path is None:
            return
        access = flags & os.O_ACCMODE
        replaces = flags & (os.O_TRUNC | os.O_EXCL) or set(mode or "") & set("wx")
        if access != os.O_RDONLY and (replaces or _stat(path) is None):
            self._written.add(path)
        elif access != os.O_WRONLY:  # what is only added to is no input
            self._look(what, arguments)

    def _made_folder(self, _: str, arguments: tuple[Any, ...]) -> None:
        path = self._path(arguments[0])
        if path is not None and _stat(path) is None:
            self._written.add(path)

    def _moved(self, _: str, arguments: tuple[Any, ...]) -> None:
        source, target = self._path(arguments[0]), self._path(arguments[1])
        if source is None or target is None:
            return
        if self._is_own(source):
            self._written.add(target)
        else:
            self.unsure(f"it moves {source}")

    def _listing(self, _: str, arguments: tuple[Any, ...]) -> None:
        raw = "." if arguments[0] is None else arguments[0]
        if isinstance(raw, int):
            raw = os.readlink(f"/proc/self/fd/{raw}")  # noqa: PTH115
        path = self._path(raw)
        if path is None or self._is_own(path):
            return
        # This frame, _follow, hear, and then who made the event.
        if watches.by_import_system(sys._getframe(3)):
            self._import_folders.add(path)
        elif (names := _names(path)) is None:
            self._missing.add(path)
        else:
            digest = names_digest(names, frozenset(), imports=False)
            self._listed[path] = ListedFolder(path=path, imports=False, sha256=digest)

    def _loaded_library(self, _: str, arguments: tuple[Any, ...]) -> None:
        name = arguments[0]
        # None is this process itself, and a bare name a library of the system.
        if isinstance(name, str | bytes) and os.sep in os.fsdecode(name):
            path = self._path(name)
            if path is not None:
                self.unsure(f"it loads the library {path}, which may read anything")

    def _opened_database(self, event: str, arguments: tuple[Any, ...]) -> None:
        if arguments[0] not in (":memory:", b":memory:"):
            self._unseen(event, arguments)

    def _unseen(self, event: str, _: tuple[Any, ...]) -> None:
        self.unsure(f"it did what cannot be followed ({event})")

    def end(self) -> Footprint:
        """Everything so far, by content. Nothing is recorded after this."""
        self._note_modules()
        self._ended = True
        files = tuple(file for path in sorted(self._read) if (file := self._content(path)))
        folders = tuple(dict.fromkeys(part for part in sys.path if has_distributions(part)))
        listed = self._listings()
        for text in (*self._read, *self._missing, *self._folders, *self._variables):
            if not text.isascii() and not _is_text(text):
                self.unsure("the name of a file or of a variable is no Unicode text")
        return Footprint(
            files=files,
            listed=listed,
            asked_modules=tuple(sorted(self._asked)),
            missing=tuple(sorted(self._missing)),
            folders_there=tuple(sorted(self._folders)),
            variables={
                name: variable_digest(self._environment.get(name))
                for name in sorted(self._variables - {PATH_VARIABLE})
            },
            prefixes={
                prefix: variables_digest(self._environment, prefix)
                for prefix in sorted(self._prefixes)
            },
            distribution_folders=folders,
            distributions=distributions_digest(folders),
            python=python_identity(),
            unsure=self._unsure,
        )

    def _note_modules(self) -> None:
        """What was imported, and where it was looked for: also what was before this began."""
        for part in sys.path:
            path = self._path(part)
            if path is not None and not _is_folder(path):
                self.asked_about(path)  # an archive, or not there
            elif path is not None:
                self._import_folders.add(path)
        for name, module in list(sys.modules.items()):
            self.asked_for_module(name)
            package = name.partition(".")[0]
            if package in watches.NATIVE_READERS:
                self.unsure(f"{package} reads files in a way that cannot be followed")
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and (path := self._path(_outermost(file))) is not None:
                self.asked_about(path)
                if path.endswith(_NATIVE_SUFFIXES):
                    self.unsure(f"{path} is native code, which may read anything")
            for folder in _package_folders(module):
                if (path := self._path(folder)) is not None:
                    self._import_folders.add(path)

    def _content(self, path: str) -> ReadFile | None:
        file, now = read_file(path), _stat(path)
        if file is None or now is None or _signature(now) != self._read[path]:
            self.unsure(f"{path} changed meanwhile")
            return None
        return file

    def _listings(self) -> tuple[ListedFolder, ...]:
        found, asked = dict(self._listed), frozenset(self._asked)
        for path in sorted(self._import_folders - found.keys()):
            names = _names(path)
            if names is None:
                self._missing.add(path)
            else:
                digest = names_digest(names, asked, imports=True)
                found[path] = ListedFolder(path=path, imports=True, sha256=digest)
        return tuple(found[path] for path in sorted(found))


_Act = Callable[[Recorder, str, tuple[Any, ...]], None]

_EVENTS: dict[str, _Act] = {
    "open": Recorder._opened,
    "os.listdir": Recorder._listing,
    "os.scandir": Recorder._listing,
    "os.mkdir": Recorder._made_folder,
    "os.rename": Recorder._moved,
    "ctypes.dlopen": Recorder._loaded_library,
    "sqlite3.connect": Recorder._opened_database,
    **dict.fromkeys(
        (
            "builtins.input", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
            "os.system", "pty.spawn", "socket.connect", "socket.getaddrinfo",
            "socket.gethostbyaddr", "socket.gethostbyname", "socket.getnameinfo",
            "socket.sendmsg", "socket.sendto", "subprocess.Popen", "urllib.Request",
        ),
        Recorder._unseen,
    ),
}  # fmt: skip


def _signature(found: os.stat_result) -> _Signature:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _stat(path: str) -> os.stat_result | None:
    try:
        return posix.stat(path)  # not os.stat, which is watched
    except (OSError, ValueError):
        return None


def _is_folder(path: str) -> bool:
    found = _stat(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def _names(path: str) -> list[str] | None:
    try:
        return os.listdir(path)  # noqa: PTH208
    except (OSError, ValueError):
        return None


def _source_of(path: str) -> str:
    """The source for a compiled module that has one."""
    if path.endswith(".pyc"):
        with contextlib.suppress(ValueError):
            source = source_from_cache(path)
            if _stat(source) is not None:
                return source
    return path


def _outermost(file: str) -> str:
    """The file, or the archive that it is in."""
    path = file
    while _stat(path) is None and path not in ("", os.sep):
        path = os.path.dirname(path)  # noqa: PTH120
    found = _stat(path)
    return path if found is not None and stat.S_ISREG(found.st_mode) else file


def _package_folders(module: Any) -> list[str]:
    try:
        return [part for part in getattr(module, "__path__", ()) if isinstance(part, str)]
    except Exception:  # noqa: BLE001  Modules of installed packages answer with anything.
        return []


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
