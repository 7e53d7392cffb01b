"""
The shim: a program of some 500 bytes, made here, that sets up its own process and becomes a command.

A process can ask for the signal at its parent's death (PR_SET_PDEATHSIG) only for itself, and posix_spawn cannot ask
for it. So what is spawned is not the command but a shim, that makes the system calls of a table, looks whether its
parent lives, and becomes the command. It costs one exec of a file of one page in memory; the fork of a Python process,
which it replaces, costs hundreds of page faults.

An image is an ELF file in a sealed memory file of the parent: code, a header (the parent's pid, the status descriptor),
rows of one system call each, and what these point to. One is made for each set-up that commands ask for, and kept. The
arguments of the shim are the executable, the working directory, and the command's own from the zeroth on; its
environment is the command's.

Source: elf(5), execve(2), prctl(2), PR_SET_PDEATHSIG(2const), memfd_create(2), F_ADD_SEALS(2const), syscall(2);
Linux's asm/unistd_64.h and asm-generic/unistd.h; the System V ABI for the stack of a new program.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Hashable, Mapping, Sequence

from msgspec import Struct

from regrow.workers.vm_spawn import DEFAULT, ROW, Stages

ENTER, EXEC, DESCRIPTORS, SIGNALS, LIMITS, NICE, UMASK, USER, BIND, SESSION, SHIM = range(1, 12)
"""The stages that failures are told with; the code itself knows the first two."""

STAGES = Stages(SESSION, SIGNALS, DESCRIPTORS, SHIM)
"""Those before the shim runs."""

PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.E2BIG})
"""What says nothing about the shim, only about this moment or this command."""

_MFD_EXEC = 0x10  # Linux 6.3; before it every memory file could be executed, and the flag is unknown
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

MAX_IMAGES = 16
"""Set-ups whose images are kept; each has a descriptor. To make one takes some 30 µs."""

_LIBRARY_SIGNALS = (32, 33)
"""Signals of glibc's own, which its posix_spawn leaves ignored, and which it lets nobody name in `setsigdef`."""

_NO_SIGNALS = bytes(8)
_PR_SET_PDEATHSIG = 1

# Of the stack of a new program: [sp] argc, [sp+8] argv[0], and so on, a zero, and the environment.
_X86_64 = bytes.fromhex(
    # _start:
    "488d1da1000000"  # lea rbx, [rip+header]       what is known at its making
    "4c8d6308"  # lea r12, [rbx+8]                  the first row
    # next:
    "418b0424"  # mov eax, [r12]
    "418b6c2404"  # mov ebp, [r12+4]                at which stage we are
    "85c0"  # test eax, eax
    "7821"  # js done                               that was the last row
    "498b7c2408"  # mov rdi, [r12+8]
    "498b742410"  # mov rsi, [r12+16]
    "498b542418"  # mov rdx, [r12+24]
    "4d8b542420"  # mov r10, [r12+32]
    "0f05"  # syscall
    "4885c0"  # test rax, rax
    "7846"  # js failed
    "4983c428"  # add r12, 40
    "ebd2"  # jmp next
    # done:
    "b86e000000"  # mov eax, 110                    getppid
    "0f05"  # syscall
    "3b03"  # cmp eax, [rbx]
    "7551"  # jne gone
    "bd01000000"  # mov ebp, 1                      enter
    "488b7c2410"  # mov rdi, [rsp+16]               argv[1]
    "b850000000"  # mov eax, 80                     chdir
    "0f05"  # syscall
    "4885c0"  # test rax, rax
    "781f"  # js failed
    "bd02000000"  # mov ebp, 2                      exec
    "488b7c2408"  # mov rdi, [rsp+8]                argv[0]
    "488d742418"  # lea rsi, [rsp+24]               &argv[2]
    "488b1424"  # mov rdx, [rsp]                    argc
    "488d54d410"  # lea rdx, [rsp+rdx*8+16]         envp
    "b83b000000"  # mov eax, 59                     execve
    "0f05"  # syscall
    # failed:
    "f7d8"  # neg eax                               errno
    "48c1e020"  # shl rax, 32
    "4809e8"  # or rax, rbp
    "50"  # push rax
    "8b7b04"  # mov edi, [rbx+4]                    the status descriptor
    "4889e6"  # mov rsi, rsp
    "ba08000000"  # mov edx, 8
    "b801000000"  # mov eax, 1                      write
    "0f05"  # syscall
    # gone:
    "bf7f000000"  # mov edi, 127
    "b8e7000000"  # mov eax, 231                    exit_group
    "0f05"  # syscall
)

_AARCH64 = bytes.fromhex(
    # _start:
    "d3040010"  # adr x19, header                   what is known at its making
    "75220091"  # add x21, x19, #8                  the first row
    # next:
    "a8524029"  # ldp w8, w20, [x21]                system call, stage
    "e800f837"  # tbnz w8, #31, done                that was the last row
    "a08640a9"  # ldp x0, x1, [x21, #8]
    "a28e41a9"  # ldp x2, x3, [x21, #24]
    "010000d4"  # svc #0
    "a002f8b7"  # tbnz x0, #63, failed
    "b5a20091"  # add x21, x21, #40
    "f9ffff17"  # b next
    # done:
    "a8158052"  # mov w8, #173                      getppid
    "010000d4"  # svc #0
    "690240b9"  # ldr w9, [x19]
    "1f00096b"  # cmp w0, w9
    "a1020054"  # b.ne gone
    "34008052"  # mov w20, #1                       enter
    "e00b40f9"  # ldr x0, [sp, #16]                 argv[1]
    "28068052"  # mov w8, #49                       chdir
    "010000d4"  # svc #0
    "2001f8b7"  # tbnz x0, #63, failed
    "54008052"  # mov w20, #2                       exec
    "e00740f9"  # ldr x0, [sp, #8]                  argv[0]
    "e1630091"  # add x1, sp, #24                   &argv[2]
    "e20340f9"  # ldr x2, [sp]                      argc
    "e26f228b"  # add x2, sp, x2, lsl #3
    "42400091"  # add x2, x2, #16                   envp
    "a81b8052"  # mov w8, #221                      execve
    "010000d4"  # svc #0
    # failed:
    "e003004b"  # neg w0, w0                        errno
    "f403be29"  # stp w20, w0, [sp, #-16]!
    "600640b9"  # ldr w0, [x19, #4]                 the status descriptor
    "e1030091"  # mov x1, sp
    "02018052"  # mov w2, #8
    "08088052"  # mov w8, #64                       write
    "010000d4"  # svc #0
    # gone:
    "e00f8052"  # mov w0, #127
    "c80b8052"  # mov w8, #94                       exit_group
    "010000d4"  # svc #0
)


class Machine(Struct, frozen=True):
    """A processor: its number in ELF, its code, and its numbers of the system calls that rows are made of."""

    elf: int
    code: bytes
    calls: Mapping[str, int]


MACHINES = {
    "x86_64": Machine(
        62,
        _X86_64,
        {
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "fcntl": 72,
            "flock": 73,
            "umask": 95,
            "setgroups": 116,
            "setresuid": 117,
            "setresgid": 119,
            "setpriority": 141,
            "prctl": 157,
            "setrlimit": 160,
        },
    ),
    "aarch64": Machine(
        183,
        _AARCH64,
        {
            "fcntl": 25,
            "flock": 32,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "setpriority": 140,
            "setresuid": 147,
            "setresgid": 149,
            "setgroups": 159,
            "setrlimit": 164,
            "umask": 166,
            "prctl": 167,
        },
    ),
}


class Row(Struct, frozen=True):
    """A system call and its arguments, four at most; those that are bytes are put into the image and pointed to."""

    stage: int
    call: str
    arguments: tuple[int | bytes, ...]


_BASE = 0x400000
_HEADERS = 64 + 2 * 56
_PAGE = 0x10000  # the largest page of either machine
_LAST_ROW = struct.pack("<q", -1)


def words(parent: str) -> dict[int, str]:
    """What each stage is called; `parent` is what the parent is."""
    return {
        ENTER: "enter",
        EXEC: "exec",
        DESCRIPTORS: "set up descriptors",
        SIGNALS: "reset signals",
        LIMITS: "set limits",
        NICE: "set nice",
        UMASK: "set umask",
        USER: "become user",
        BIND: f"bind to its {parent}",
        SESSION: "create a session",
        SHIM: "exec the shim",
    }


def begin(status_fd: int) -> list[Row]:
    """The rows that every shim begins with: nothing of its making is left."""
    made = [Row(DESCRIPTORS, "fcntl", (status_fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC))]
    made += [Row(SIGNALS, "rt_sigaction", (number, DEFAULT, 0, 8)) for number in _LIBRARY_SIGNALS]
    made.append(Row(SIGNALS, "rt_sigprocmask", (int(signal.SIG_SETMASK), _NO_SIGNALS, 0, len(_NO_SIGNALS))))
    return made


def limit(which: int, soft: int, hard: int) -> Row:
    """A row that sets a limit of resources; -1 is none."""
    return Row(LIMITS, "setrlimit", (which, struct.pack("<qq", soft, hard)))


def nice(level: int) -> list[Row]:
    """Rows that set it, unless it is as it is."""
    return [Row(NICE, "setpriority", (os.PRIO_PROCESS, 0, level))] if level else []


def become(uid: int | None, gid: int | None, groups: Sequence[int] | None) -> list[Row]:
    """Rows that change the user; what is None stays."""
    made = []
    if groups is not None:
        made.append(Row(USER, "setgroups", (len(groups), struct.pack(f"<{len(groups)}I", *groups))))
    if gid is not None:
        made.append(Row(USER, "setresgid", (gid,) * 3))
    if uid is not None:
        made.append(Row(USER, "setresuid", (uid,) * 3))
    return made


def bind() -> Row:
    """The row that asks for the end with the parent; after the change of user, which would clear it."""
    return Row(BIND, "prctl", (_PR_SET_PDEATHSIG, signal.SIGKILL))


def image(machine: Machine, table: list[Row], parent: int, status_fd: int) -> bytes:
    """
    The shim as an ELF file: a child of `parent` that tells of failures on `status_fd`.

    One segment, readable and executable, holds it all. The stack is said not to be executable, or else some kernels
    would make everything executable that is readable.
    """
    code = machine.code + bytes(-len(machine.code) % 8)
    start = _HEADERS + len(code)
    table_size = 8 + len(table) * ROW.size + len(_LAST_ROW)
    packed = [struct.pack("<II", parent, status_fd)]
    pointed = b""
    for row in table:
        numbers = [0, 0, 0, 0]
        for place, argument in enumerate(row.arguments):
            if isinstance(argument, bytes):
                numbers[place] = _BASE + start + table_size + len(pointed)
                pointed += argument + bytes(-len(argument) % 8)
            else:
                numbers[place] = argument & 0xFFFF_FFFF_FFFF_FFFF
        packed.append(ROW.pack(machine.calls[row.call], row.stage, *numbers))
    body = code + b"".join(packed) + _LAST_ROW + pointed
    size = _HEADERS + len(body)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine.elf, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, _PAGE)  # PT_LOAD, readable and executable
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, readable and writable
    return ident + header + load + stack + body


class Images:
    """
    The images of one process, made as they are needed. `status_fd` is where its shims tell of failures.

    Raises:
        OSError: as do all methods.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._fds: dict[Hashable, int] = {}
        self.status_fd = -1

    def get(self, setup: Hashable, rows: Callable[[int], list[Row]]) -> int:
        """
        The memory file for a set-up, whose rows are made with the status descriptor.

        The one that was not needed for the longest time makes room for a new one.
        """
        fd = self._fds.pop(setup, None)
        if fd is None:
            if len(self._fds) >= MAX_IMAGES:
                os.close(self._fds.pop(next(iter(self._fds))))
            fd = self._make(rows)
        self._fds[setup] = fd
        return fd

    def _make(self, rows: Callable[[int], list[Row]]) -> int:
        fd = _memory_file()
        try:
            if self.status_fd < 0:
                self.status_fd = os.dup(fd)  # a number that nothing else has, here and hence in every child
            made = image(self._machine, rows(self.status_fd), os.getpid(), self.status_fd)
            if os.write(fd, made) != len(made):  # RLIMIT_FSIZE: a part of a program must not be run
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(fd)
            raise
        return fd

    def close(self) -> None:
        """Close all descriptors."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}
        if self.status_fd >= 0:
            os.close(self.status_fd)
            self.status_fd = -1


def _memory_file() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("regrow-shim", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create("regrow-shim", flags)
