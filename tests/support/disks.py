"""Small file systems that fill up or fail, for tests that may mount."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
_LAZILY = 2


@contextlib.contextmanager
def small_disk(path: Path, size: str = "4m") -> Iterator[Path]:
    """A file system in memory."""
    path.mkdir()
    if os.geteuid() != 0 or LIBC.mount(b"none", bytes(path), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip("cannot mount")
    try:
        yield path
    finally:
        LIBC.umount2(bytes(path), _LAZILY)


@contextlib.contextmanager
def filled(disk: Path, spare: int = 0) -> Iterator[None]:
    """No more than `spare` bytes are free meanwhile."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(max(0, file.tell() - spare))
        yield
    finally:
        filler.unlink()


class FailingDisk:
    """
    An ext4 file system of 16 MB on a loop device; `fail` makes it read-only as a broken disk does, `replace` puts it
    back as after a repair.
    """

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        self._image = image
        self._device = ""

    def attach(self) -> None:
        self._device = _output("losetup", "--find", "--show", str(self._image)).strip()
        _output("mount", "-o", "errors=remount-ro", self._device, str(self.path))

    def fail(self) -> None:
        """From now on nothing can be written; what was is on disk."""
        os.sync()
        Path("/sys/fs/ext4", Path(self._device).name, "trigger_fs_error").write_text("x")

    def detach(self) -> None:
        """Whoever has files open there keeps a file system that is in no folder."""
        LIBC.umount2(bytes(self.path), _LAZILY)
        _output("losetup", "--detach", self._device)

    def replace(self) -> None:
        """What was written is there again, on a sound disk."""
        copy = self._image.with_suffix(".copy")
        copy.write_bytes(self._image.read_bytes())
        self.detach()
        self._image = copy
        subprocess.run(["e2fsck", "-fy", str(copy)], capture_output=True, check=False)
        self.attach()


@contextlib.contextmanager
def failing_disk(folder: Path) -> Iterator[FailingDisk]:
    """One that is there, or the test is skipped."""
    image, path = folder / "image", folder / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    disk = FailingDisk(image, path)
    try:
        _output("mkfs.ext4", "-q", "-O", "^has_journal", str(image))
        disk.attach()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount: {error}")
    try:
        yield disk
    finally:
        disk.detach()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout
