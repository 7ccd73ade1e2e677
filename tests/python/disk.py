"""The disk under a run: sizes in words, what a folder takes, what of it the kernel caches, and how fast the disk is."""

import os
import subprocess
import time
from pathlib import Path

PIECE = 4 << 20


def size(text):
    """Bytes of "64MiB", "10GiB", "4096"."""
    for unit, shift in (("KiB", 10), ("MiB", 20), ("GiB", 30)):
        if text.endswith(unit):
            return int(float(text[: -len(unit)]) * (1 << shift))
    return int(text)


def files(folder):
    """Every file below a folder that lives on while it is looked at."""
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def allocated(folder, pattern="*"):
    """Bytes that the files take on the disk; those that vanish meanwhile count nothing."""
    total = 0
    for path in Path(folder).rglob(pattern):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def free(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def drop_cache(folder):
    """Writes what is dirty to the disk and has the kernel forget the files' pages. Returns the bytes still cached."""
    for path in files(folder):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return cached(folder)


def cached(folder):
    """Bytes of the folder's files in the page cache, or None where fincore is missing."""
    paths = [str(path) for path in files(folder)]
    if not paths:
        return 0
    try:
        done = subprocess.run(["fincore", "--bytes", "--noheadings", "--output", "RES", *paths], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return sum(int(line) for line in done.stdout.split())


def read_bytes(pid):
    """Bytes that a process made the disk read, or None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes:")))


def speed(folder, total):
    """MB/s of this disk now: writing with a sync each 4 MiB, reading what is not cached, and one file copied into another."""
    block = os.urandom(PIECE)
    first, second = Path(folder) / "speed-1", Path(folder) / "speed-2"
    try:
        at = time.monotonic()
        with open(first, "wb", buffering=0) as out:
            for _ in range(max(1, total // PIECE)):
                out.write(block)
                os.fdatasync(out.fileno())
        write_s = time.monotonic() - at
        _forget(first)
        at = time.monotonic()
        with open(first, "rb", buffering=0) as file:
            while file.read(PIECE):
                pass
        read_s = time.monotonic() - at
        _forget(first)
        at = time.monotonic()
        with open(first, "rb", buffering=0) as file, open(second, "wb", buffering=0) as out:
            while piece := file.read(PIECE):
                out.write(piece)
                os.fdatasync(out.fileno())
        copy_s = time.monotonic() - at
        moved = first.stat().st_size / 1e6
        return {name: round(moved / seconds, 1) for name, seconds in (("write", write_s), ("read", read_s), ("copy", copy_s))}
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)


def _forget(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
