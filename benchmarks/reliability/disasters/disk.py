"""A disk that fails: real files below one folder, whose writes can be torn, refused, lost in a power cut or reordered before an fsync.

Live processes see the files as they are. What a power cut would leave is counted beside them: the content of each file at its last
fsync, the writes after it, and the names that were created, replaced or deleted since the fsync of their folder. An fsync of a file
does not write its name, although on ext4 it happens to. A power cut keeps an arbitrary part of what was not synced, in each file and
in each folder.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reliability.disasters.faults import Faults, PowerCut, ProcessKilled


@dataclass
class _File:
    """The contents that a power cut would leave of a file."""

    synced: bytes | bytearray = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since the last fsync: (offset, bytes), or (length, None) of a truncation."""
    is_whole: bool = False
    """Whether `synced` and `pending` are all of its content. Of a file that a library wrote without Python they are not."""


@dataclass
class _NameChange:
    """A name that was created, replaced or deleted since the last fsync of its folder."""

    path: str
    undo: Callable[[str], None]
    """Takes the change back, given the path that the name has now: its folder may have been renamed."""


class FailingDisk(Faults):
    """Puts itself between Python and the files below `root` while `installed`."""

    def __init__(self, root: Path, rng: random.Random, ignored_fsync: str | None = None) -> None:
        super().__init__(rng, to_delete=root)
        self._root = str(root)
        self._ignored_fsync = ignored_fsync  # a seeded bug: files whose names hold this are never synced
        self._files: dict[str, _File] = {}
        self._changes: list[_NameChange] = []
        self._open: dict[int, _File] = {}

    def cut_power(self) -> None:
        """Reduce the disk to what was synced, and an arbitrary part of the rest."""
        for folder in sorted({os.path.dirname(change.path) for change in self._changes}):
            changes = [change for change in self._changes if os.path.dirname(change.path) == folder]
            for change in reversed(changes[self._rng.randint(0, len(changes)) :]):
                with suppress(FileNotFoundError):  # its folder was deleted as a whole
                    change.undo(change.path)
        self._changes.clear()
        for path, file in list(self._files.items()):
            if not os.path.isfile(path):
                del self._files[path]
                continue
            content = self._left_of(file)
            with _REAL["open"](path, "rb") as live:
                is_same = live.read() == content
            if not is_same:  # otherwise the time of its last change would be another, which reports record
                with _REAL["open"](path, "wb") as written:
                    written.write(content)
            self._files[path] = _File(content, is_whole=True)

    def _left_of(self, file: _File) -> bytes:
        content = bytearray(file.synced)
        for offset, written in file.pending:
            fate = self._rng.random()
            if fate < 0.4:
                continue
            if written is None:
                del content[offset:]
                continue
            kept = written if fate < 0.8 else written[: self._rng.randint(0, len(written))]
            if kept:
                content.extend(b"\0" * (offset - len(content)))
                content[offset : offset + len(kept)] = kept
        return bytes(content)

    # --- what Python calls ------------------------------------------------------------------------------------------------

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Files below `root` go through this disk while the context lasts."""
        replaced = {
            (io, "open"): self._open_file,
            (builtins, "open"): self._open_file,
            (os, "fsync"): self._fsync,
            (os, "replace"): self._rename,
            (os, "rename"): self._rename,
            (os, "unlink"): self._unlink,
            (os, "remove"): self._unlink,
            (os, "truncate"): self._truncate,
            (os, "mkdir"): self._mkdir,
            (shutil, "rmtree"): self._rmtree,
        }
        before = {(module, name): getattr(module, name) for module, name in replaced}
        for (module, name), function in replaced.items():
            setattr(module, name, function)
        try:
            yield
        finally:
            for (module, name), function in before.items():
                setattr(module, name, function)

    def _inside(self, path: Any) -> str | None:
        if isinstance(path, int):
            return None
        text = path if isinstance(path, str) else os.fsdecode(path)
        # Locks are the operating system's business.
        return text if text.startswith(self._root) and not text.endswith(".lock") else None

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        reads = mode in ("r", "rb", "rt")
        if reads and not self.fails_reading:
            return _real_open(file, mode, buffering, *rest, **more)
        path = self._inside(file)
        if path is None or reads:
            if path is not None and not self.dead:
                self.step_of_reading(path)
            return _real_open(file, mode, buffering, *rest, **more)
        if self.dead:
            raise ProcessKilled
        created = not os.path.exists(path)
        if created and self.step(writes=True):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        raw = _Raw(self, path, mode.replace("b", "").replace("t", ""))
        if created:
            self._note_change(path, _REAL["unlink"])
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        encoding = more.get("encoding") or "utf-8"
        return io.TextIOWrapper(buffered, encoding=encoding, newline=more.get("newline"))

    def opened(self, fd: int, path: str, emptied: bool) -> _File:
        """The record of a file that was opened for writing."""
        file = self._files.setdefault(path, _File())
        if emptied:
            file.pending.append((0, None))
        file.is_whole = file.is_whole or os.fstat(fd).st_size == 0
        self._open[fd] = file
        return file

    def closed(self, fd: int) -> None:
        self._open.pop(fd, None)

    def _fsync(self, fd: int) -> None:
        facts = os.fstat(fd)
        if self.dead or not facts.st_nlink:  # deleted
            return
        file = self._open.get(fd)
        # The name that it has now, since a rename may have followed the opening.
        path = "" if file is not None and self._ignored_fsync is None else os.readlink(f"/proc/self/fd/{fd}")
        if file is None and self._inside(path) is None:
            return
        if self.step(writes=False):
            raise AssertionError
        if self._ignored_fsync is not None and self._ignored_fsync in os.path.basename(path):
            return
        if file is None:
            self._changes = [change for change in self._changes if os.path.dirname(change.path) != path]
            return
        content = _written(file)
        if not file.is_whole or len(content) != facts.st_size:
            with _real_open(f"/proc/self/fd/{fd}", "rb") as live:
                content = live.read()
        file.synced, file.pending, file.is_whole = content, [], True

    def _rename(self, source: Any, target: Any, **more: Any) -> None:
        src, dst = self._inside(source), self._inside(target)
        if src is None or dst is None:
            return _REAL["rename"](source, target, **more)
        if self.dead:
            return None
        self.step(writes=False)
        if os.path.isdir(src):
            self._rename_folder(src, dst)
            self._note_change(dst, lambda path: self._rename_folder(path, src))
            return None
        replaced = self._files.get(dst) if os.path.exists(dst) else None
        _REAL["rename"](src, dst)
        self._files[dst] = self._files.pop(src, _File())

        def undo(path: str) -> None:
            back = os.path.join(os.path.dirname(path), os.path.basename(src))
            _REAL["rename"](path, back)
            self._files[back] = self._files.pop(path)
            if replaced is not None:
                _REAL["open"](path, "wb").close()
                self._files[path] = replaced

        self._note_change(dst, undo)
        return None

    def _rename_folder(self, src: str, dst: str) -> None:
        _REAL["rename"](src, dst)
        prefix = src + os.sep
        for path in [path for path in self._files if path.startswith(prefix)]:
            self._files[dst + path.removeprefix(src)] = self._files.pop(path)
        for folder, _, names in os.walk(dst):
            for name in names:  # those that libraries wrote without Python
                self._files.setdefault(os.path.join(folder, name), _File())
        for change in self._changes:
            if change.path.startswith(prefix):
                change.path = dst + change.path.removeprefix(src)

    def _unlink(self, file: Any, **more: Any) -> None:
        path = self._inside(file)
        if path is None or more.get("dir_fd") is not None:
            return _REAL["unlink"](file, **more)
        if self.dead:
            return None
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.step(writes=False, kind="delete")
        _REAL["unlink"](path)
        deleted = self._files.pop(path, _File())

        def undo(path: str) -> None:
            _REAL["open"](path, "wb").close()
            self._files[path] = deleted

        self._note_change(path, undo)
        return None

    def _rmtree(self, path: Any, *rest: Any, **more: Any) -> None:
        inside = self._inside(path)
        if self.dead and inside:
            return
        _REAL["rmtree"](path, *rest, **more)
        if inside:  # a power cut does not bring it back
            prefix = inside + os.sep
            self._files = {path: file for path, file in self._files.items() if not path.startswith(prefix)}
            self._changes = [change for change in self._changes if not f"{change.path}{os.sep}".startswith(prefix)]

    def _truncate(self, file: Any, length: int) -> None:
        path = self._inside(file)
        if path is None:
            return _REAL["truncate"](file, length)
        if self.dead:
            return None
        self.step(writes=False)
        _REAL["truncate"](path, length)
        self._files.setdefault(path, _File()).pending.append((length, None))
        return None

    def _mkdir(self, path: Any, mode: int = 0o777, **more: Any) -> None:
        inside = self._inside(path)
        if inside is None or more:
            return _REAL["mkdir"](path, mode, **more)
        if self.dead:
            raise ProcessKilled
        if not os.path.exists(inside) and self.step(writes=True):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), inside)
        _REAL["mkdir"](inside, mode)
        self._note_change(inside, _REAL["rmtree"])
        return None

    def _note_change(self, path: str, undo: Callable[[str], None]) -> None:
        self._changes.append(_NameChange(path, undo))


class _Raw(io.FileIO):
    """An open file of the disk."""

    def __init__(self, disk: FailingDisk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk
        self._appends = "a" in mode
        self._file = disk.opened(self.fileno(), path, emptied="w" in mode)

    def write(self, data: Any) -> int:
        content = bytes(data)
        if self._disk.dead:
            return len(content)
        try:
            is_full = self._disk.step(writes=True, kind="append" if self._appends else "write")
        except (ProcessKilled, PowerCut):
            # A write that a process dies in is done in part, or not at all, or as a whole.
            self._write(content[: self._disk.part(len(content))])
            raise
        if is_full:
            part = self._disk.room(len(content))
            if not part:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            content = content[:part]
        return self._write(content)

    def _write(self, content: bytes) -> int:
        offset = os.fstat(self.fileno()).st_size if self._appends else self.tell()
        self._file.pending.append((offset, content))
        return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        if self._disk.dead:
            return length
        self._disk.step(writes=False)
        self._file.pending.append((length, None))
        return super().truncate(length)

    def close(self) -> None:
        if not self.closed:
            self._disk.closed(self.fileno())
        super().close()


def _written(file: _File) -> bytes | bytearray:
    """Return the content of a file after all its writes."""
    if not file.pending:
        return file.synced
    content = bytearray(file.synced)
    for offset, written in file.pending:
        if written is None:
            del content[offset:]
        else:
            content.extend(b"\0" * (offset - len(content)))
            content[offset : offset + len(written)] = written
    return content


_real_open = io.open
_REAL: dict[str, Callable[..., Any]] = {
    "open": _real_open,
    "rename": os.rename,
    "unlink": os.unlink,
    "truncate": os.truncate,
    "mkdir": os.mkdir,
    "rmtree": shutil.rmtree,
}
