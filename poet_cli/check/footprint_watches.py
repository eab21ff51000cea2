"""What the recorder (`footprint`) has to watch beside audit events: the environment, questions
about paths, imports by name, and native code that opens a file by itself.

Invariant: whatever is put in the place of a function of the standard library does what that does;
it only tells the recorder first.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import site
import sys
import sysconfig
from collections.abc import Callable, ItemsView, Iterator, Sequence, ValuesView
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any, Protocol

NATIVE_PREFIXES = (
    "ATEN_", "CUDA_", "GOMP_", "HF_", "KMP_", "LD_", "MKL_", "NVIDIA_", "OMP_", "PYTHON",
    "PYTORCH_", "TORCH", "TRANSFORMERS_",
)  # fmt: skip
"""Variables that the interpreter, libtorch and its libraries read with getenv, unseen."""

NATIVE_READERS = frozenset({
    "av", "cv2", "decord", "duckdb", "h5py", "lmdb", "netCDF4", "polars", "pyarrow", "rasterio",
    "sentencepiece", "soundfile", "tables", "tensorflow", "tiledb", "torchaudio",
})  # fmt: skip
"""Packages whose native code opens files by their names."""

_PATH_TAKERS = {
    "torch": ("from_file", "jit.load", "UntypedStorage.from_file"),
    "torchvision.io.image": ("read_file",),
    "safetensors._safetensors_rust": ("safe_open",),
}
"""By module: functions of native code that open the file that their first argument names."""


class Listener(Protocol):
    """What is told (`footprint.Recorder`)."""

    def asked_about(self, raw: Any) -> None: ...
    def asked_for_variable(self, name: str) -> None: ...
    def asked_for_all_variables(self, frame: FrameType) -> None: ...
    def asked_for_module(self, name: str) -> None: ...
    def relative_to(self, folder: int | None) -> contextlib.AbstractContextManager[None]: ...


class Installed:
    """The folders of the standard library and of installed packages."""

    def __init__(self) -> None:
        packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        packages += [*site.getsitepackages(), site.getusersitepackages()]
        library = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        self._packages = _prefixes(packages)
        self._all = _prefixes([*packages, *library])

    def covers(self, path: str) -> bool:
        """Whether `path` is one of those files."""
        return f"{path}{os.sep}".startswith(self._all)

    def package_of(self, frame: FrameType | None) -> str:
        """The installed package whose code is nearest up the stack; "" where that is none."""
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self._packages):
                prefix = next(prefix for prefix in self._packages if file.startswith(prefix))
                return file[len(prefix) :].partition(os.sep)[0].removesuffix(".py")
            if not file.startswith(("<frozen", *self._all)) and file != __file__:
                return ""
            frame = frame.f_back
        return ""


def _prefixes(folders: Sequence[str]) -> tuple[str, ...]:
    both = {*folders, *(os.path.realpath(folder) for folder in folders)}
    return tuple(sorted(folder.rstrip(os.sep) + os.sep for folder in both))


def by_import_system(frame: FrameType) -> bool:
    """Whether the import system itself asks, or what looks for installed distributions."""
    own = os.path.dirname(importlib.__file__) + os.sep  # noqa: PTH120
    return frame.f_code.co_filename.startswith(("<frozen importlib", own))


def watch_environment(listener: Listener) -> None:
    """Tells of each variable that is asked for through os.environ, os.environb or os.getenv."""
    decode = os.fsdecode

    class Environment(os._Environ):  # type: ignore[type-arg]
        def __getitem__(self, name: Any) -> Any:
            if isinstance(name, str | bytes):
                listener.asked_for_variable(decode(name))
            return super().__getitem__(name)

        def __iter__(self) -> Iterator[Any]:
            listener.asked_for_all_variables(sys._getframe(1))
            return super().__iter__()

        # All at once, without a question for each.
        def items(self) -> ItemsView[Any, Any]:
            listener.asked_for_all_variables(sys._getframe(1))
            return self._all().items()

        def values(self) -> ValuesView[Any]:
            listener.asked_for_all_variables(sys._getframe(1))
            return self._all().values()

        def copy(self) -> dict[Any, Any]:
            listener.asked_for_all_variables(sys._getframe(1))
            return self._all()

        def _all(self) -> dict[Any, Any]:
            get = super().__getitem__
            return {name: get(name) for name in super().__iter__()}

    # The objects stay: others have imported them by name.
    os.environ.__class__ = Environment
    os.environb.__class__ = Environment


def watch_questions(listener: Listener) -> None:
    """Tells of paths that are looked at without being opened, and of folders that paths given to
    os.open are relative to: no audit event does."""

    def told(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def asking(path: Any, *arguments: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                listener.asked_about(path)
            return function(path, *arguments, **named)

        return asking

    opened = os.open

    @functools.wraps(opened)
    def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with listener.relative_to(dir_fd):
            return opened(path, flags, mode, dir_fd=dir_fd)

    _replace("stat", told(os.stat))
    _replace("lstat", told(os.lstat))
    _replace("access", told(os.access))
    _replace("open", opening)


def _replace(name: str, function: Callable[..., Any]) -> None:
    original = getattr(os, name)
    for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks,
                 os.supports_effective_ids):  # fmt: skip
        if original in able:  # shutil asks before it uses them
            able.add(function)
    setattr(os, name, function)


def watch_imports(listener: Listener) -> None:
    """Tells of every module that is asked for, and puts a telling function before each of
    `_PATH_TAKERS` as soon as its module is there."""
    finder = _Finder(listener)
    sys.meta_path.insert(0, finder)
    for name in _PATH_TAKERS:
        if isinstance(module := sys.modules.get(name), ModuleType):
            finder.guard(module)


class _Finder:
    """Finds nothing by itself."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        self._listener.asked_for_module(name)
        if name not in _PATH_TAKERS:
            return None
        spec = self._found_by_others(name, path, target)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._guard_when_executed(spec)
        return spec

    def guard(self, module: ModuleType) -> None:
        """Puts a telling function before each of the module's that open files unseen."""
        for name in _PATH_TAKERS[module.__name__]:
            self._tell_of_first_argument(module, name)

    def _found_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None

    def _guard_when_executed(self, spec: ModuleSpec) -> None:
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.guard(module)

        loader.exec_module = exec_module

    def _tell_of_first_argument(self, module: ModuleType, dotted: str) -> None:
        holder: Any = module
        *parts, last = dotted.split(".")
        for part in parts:
            holder = getattr(holder, part, None)
        function = getattr(holder, last, None)
        if function is None:  # another version of the package
            return

        @functools.wraps(function)
        def telling(*arguments: Any, **named: Any) -> Any:
            for value in (*arguments[:1], *named.values()):
                if isinstance(value, str | bytes | os.PathLike):
                    self._listener.asked_about(value)
            return function(*arguments, **named)

        setattr(holder, last, telling)
