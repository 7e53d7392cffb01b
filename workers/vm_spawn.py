"""
A posix_spawn that nobody waits for: the new process borrows our memory until it runs its program, and we go on.

posix_spawn (as vfork) stops its caller until the program runs, for it uses the caller's stack. Here the new process
has a few bytes of its own instead, next to the table of what it is to do, and does it in some hundred bytes of machine
code: no C library, no Python. Making 500 processes so takes their parent a fifth of the time. The kernel clears a word
when a process has left our memory; its bytes are kept until then.

As long as it borrows our memory, all signals are blocked in it: a handler of ours would run there, and where a kernel
before 5.16 writes a core for it, all who share the memory would die. It unblocks nothing: what it executes must. Nor
does it become another user, who could then read and write our memory: what it executes may.

Whom the kernel kills for want of memory takes all with it who share that memory. So nobody must be born in this way
into a control group that has a limit of memory of its own: its exec alone, or whoever is left there, may overrun it,
and we would die. Where the limit is ours as well, or is the machine's, we are as likely to be chosen as our child.

It can be had on x86-64, from Linux 5.7 on, where no filter of system calls forbids clone3.

Source: clone3(2), vfork(2), execveat(2), set_tid_address(2) on the word, ptrace(2) on access modes; Linux's
kernel/fork.c (mm_release), mm/oom_kill.c (__oom_kill_process) and fs/coredump.c (zap_threads); the System V ABI.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

_CODE = bytes.fromhex(
    # spawn(call):
    "53"  # push rbx
    "55"  # push rbp
    "4889fb"  # mov rbx, rdi                        the call, for both processes
    "b80e000000"  # mov eax, 14                     rt_sigprocmask
    "bf02000000"  # mov edi, 2                      SIG_SETMASK
    "488d7338"  # lea rsi, [rbx+56]                 all of them
    "488d5340"  # lea rdx, [rbx+64]                 what was
    "41ba08000000"  # mov r10d, 8
    "0f05"  # syscall
    "b8b3010000"  # mov eax, 435                    clone3
    "488b7b08"  # mov rdi, [rbx+8]
    "488b33"  # mov rsi, [rbx]
    "0f05"  # syscall
    "4885c0"  # test rax, rax
    "7421"  # jz child
    "4889c5"  # mov rbp, rax
    "b80e000000"  # mov eax, 14                     rt_sigprocmask
    "bf02000000"  # mov edi, 2
    "488d7340"  # lea rsi, [rbx+64]
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "0f05"  # syscall
    "4889e8"  # mov rax, rbp
    "5d"  # pop rbp
    "5b"  # pop rbx
    "c3"  # ret
    # child:
    "4c8b6310"  # mov r12, [rbx+16]                 the first row
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
    "7822"  # js failed
    "4983c428"  # add r12, 40
    "ebd2"  # jmp next
    # done:
    "8b7b18"  # mov edi, [rbx+24]                   the program's descriptor
    "488d7348"  # lea rsi, [rbx+72]                 an empty path
    "488b5320"  # mov rdx, [rbx+32]                 argv
    "4c8b5328"  # mov r10, [rbx+40]                 envp
    "41b800100000"  # mov r8d, 0x1000               AT_EMPTY_PATH
    "b842010000"  # mov eax, 322                    execveat
    "0f05"  # syscall
    # failed:
    "f7d8"  # neg eax                               errno
    "48c1e020"  # shl rax, 32
    "4809e8"  # or rax, rbp
    "48894350"  # mov [rbx+80], rax                 for who has waited
    "8b7b30"  # mov edi, [rbx+48]                   the status descriptor, for who has not
    "488d7350"  # lea rsi, [rbx+80]
    "ba08000000"  # mov edx, 8
    "b801000000"  # mov eax, 1                      write
    "0f05"  # syscall
    "bf7f000000"  # mov edi, 127
    "b8e7000000"  # mov eax, 231                    exit_group
    "0f05"  # syscall
)

_CALL = struct.Struct("<QQQQQQQ8sQQQ")
"""Of the code: clone's arguments (size, place), rows, program, argv, envp, status, masks (all, old), path, failure."""

_CLONE = struct.Struct("<11Q")
"""struct clone_args, as of Linux 5.7."""

_WORD = struct.Struct("<i")
_STACK = 64
_HEAD = _CALL.size + _CLONE.size + 8 + _STACK
_FAILURE_AT, _WORD_AT, _STACK_AT = 80, _CALL.size + _CLONE.size, _HEAD - _STACK

ROW = struct.Struct("<iIQQQQ")
"""A system call: its number (negative: no more), the stage that its failure is told with, four arguments."""

_FCNTL, _SETSID, _SIGACTION, _DUP3 = 72, 112, 13, 292
DEFAULT = bytes(32)
"""The kernel's struct sigaction: SIG_DFL, without flags or a mask."""

_CLONE_VM, _CLONE_VFORK, _CLONE_PARENT_SETTID = 0x100, 0x4000, 0x100000
_CLONE_CHILD_CLEARTID, _CLONE_CLEAR_SIGHAND, _CLONE_INTO_CGROUP = 0x200000, 0x1_0000_0000, 0x2_0000_0000
_SIGCHLD = 17
_FLAGS = _CLONE_VM | _CLONE_PARENT_SETTID | _CLONE_CHILD_CLEARTID | _CLONE_CLEAR_SIGHAND

_LONGEST = 32 * mmap.PAGESIZE - 1
"""The longest string that execve takes (MAX_ARG_STRLEN)."""

_MOST = 1 << 20
"""Bytes of all strings and pointers; a longer list is for who can say why it does not fit."""

_OTHERS = 4096
"""Bytes beyond them that must fit: the kernel's own name of the program, and the first page of its stack."""

_MOST_HELD = 256
"""Processes that may be on their way at once: more are so where what they are born into is frozen."""

_MOST_HELD_BYTES = 8 << 20
"""Of memory that is kept for them."""

FAILURE = struct.Struct("<II")
"""What is written to the status descriptor by who fails: the stage, and errno."""

# PyDLL: a call keeps the interpreter lock; this process has a single thread, and nobody to hand it to.
_LIBC = ctypes.PyDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


class Stages(NamedTuple):
    """The numbers that failures are told with: of the session, the signals, the descriptors, and the exec."""

    session: int
    signals: int
    descriptors: int
    exec: int


class Birth(NamedTuple):
    """
    Of a process that executes the file open on `program_fd`.

    `placed`: which of our descriptors it has where; each may be overwritten only after its turn. `status_fd`: where a
    failure on its way there comes as a `FAILURE`, a number of ours. `group_fd`: the control group that it is born in.
    `waits`: return when the program runs.
    """

    program_fd: int
    argv: Sequence[str]
    env: Mapping[str, str]
    placed: Sequence[tuple[int, int]]
    status_fd: int
    group_fd: int = -1
    waits: bool = False


class Failed(OSError):
    """The program was not run; the process that was to run it is no more."""


class Block:
    """So many bytes that stay at their `address`."""

    __slots__ = ("_pin", "address", "bytes")

    def __init__(self, size: int) -> None:
        self.bytes = bytearray(size)
        self._pin = ctypes.c_char.from_buffer(self.bytes)  # an array of ctypes would leave a type behind for each size
        self.address = ctypes.addressof(self._pin)

    def is_borrowed(self) -> bool:
        """Whether the process that was made with it may still read it."""
        return _WORD.unpack_from(self.bytes, _WORD_AT) != (0,)


class VmSpawn:
    """
    For a process with a single thread; `ignored` are the signals that a program must not find ignored.

    Raises:
        OSError: it cannot be had here.
    """

    def __init__(self, stages: Stages, ignored: Iterable[int]) -> None:
        if os.uname().machine != "x86_64" or struct.calcsize("P") != 8:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._stages = stages
        self._code = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(_executable(_CODE))
        self._default = ctypes.create_string_buffer(DEFAULT, len(DEFAULT))
        default = ctypes.addressof(self._default)
        self._rows = ROW.pack(_SETSID, stages.session, 0, 0, 0, 0) + b"".join(
            ROW.pack(_SIGACTION, stages.signals, number, default, 0, 8) for number in ignored
        )
        self._last_row = ROW.pack(-1, stages.exec, 0, 0, 0, 0)
        self._held: list[Block] = []

    def spawn(self, birth: Birth) -> int:
        """
        Make a child of ours, in a session of its own, that executes its program with all signals blocked.

        Returns:
            Its pid.

        Raises:
            ValueError: an argument holds a zero byte, or is longer than the kernel takes, or all are.
            Failed: while we waited; there is nobody to reap.
            OSError: there is no process, as clone3(2); EAGAIN too when too many have not left our memory.
        """
        self._held = [block for block in self._held if block.is_borrowed()]
        if len(self._held) >= _MOST_HELD or sum(len(block.bytes) for block in self._held) >= _MOST_HELD_BYTES:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        block = self._block(birth)
        self._held.append(block)  # before, for an exception may come from a handler of signals right after the call
        pid: int = self._code(block.address)
        if pid < 0:
            self._held.pop()
            raise OSError(-pid, os.strerror(-pid))
        _, number = FAILURE.unpack_from(block.bytes, _FAILURE_AT)
        if birth.waits and number:
            os.waitpid(pid, 0)
            raise Failed(number, os.strerror(number))
        return pid

    def _block(self, birth: Birth) -> Block:
        """All that the new process reads: the call, clone's arguments, a word, a stack, rows, pointers, strings."""
        argv, env, group_fd = birth.argv, birth.env, birth.group_fd
        text = os.fsencode("\0".join((*argv, *map("=".join, env.items()), "")))
        strings = text.split(b"\0")[:-1]
        if len(strings) != len(argv) + len(env):
            raise ValueError("a string holds a zero byte")
        if len(text) + 8 * len(strings) > _room() or len(max(strings, key=len)) >= _LONGEST:
            raise ValueError("too long")
        rows = self._rows + b"".join(self._place(fd, at) for fd, at in birth.placed) + self._last_row
        argv_at = _HEAD + len(rows)
        envp_at = argv_at + 8 * (len(argv) + 1)
        strings_at = envp_at + 8 * (len(env) + 1)
        block = Block(strings_at + len(text))
        base = block.address
        *pointers, _ = accumulate((len(string) + 1 for string in strings), initial=base + strings_at)
        pointers.insert(len(argv), 0)
        call = _CALL.pack(
            _CLONE.size, base + _CALL.size, base + _HEAD, birth.program_fd, base + argv_at, base + envp_at,
            birth.status_fd, b"\xff" * 8, 0, 0, 0,
        )  # fmt: skip
        flags = _FLAGS | (_CLONE_VFORK if birth.waits else 0) | (_CLONE_INTO_CGROUP if group_fd >= 0 else 0)
        word = base + _WORD_AT
        clone = _CLONE.pack(flags, 0, word, word, _SIGCHLD, base + _STACK_AT, _STACK, 0, 0, 0, max(group_fd, 0))
        packed = struct.pack(f"<{len(pointers) + 1}Q", *pointers, 0)
        block.bytes[:] = b"".join((call, clone, bytes(8 + _STACK), rows, packed, text))
        return block

    def _place(self, fd: int, at: int) -> bytes:
        if fd == at:
            return ROW.pack(_FCNTL, self._stages.descriptors, fd, fcntl.F_SETFD, 0, 0)
        return ROW.pack(_DUP3, self._stages.descriptors, fd, at, 0, 0)


def _room() -> int:
    """Bytes that surely fit: the kernel takes a quarter of the stack's limit, or more (execve(2))."""
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return _MOST if limit == resource.RLIM_INFINITY else min(_MOST, limit // 4 - _OTHERS)


def _executable(code: bytes) -> int:
    """The address of a page that holds the code; it is there as long as this process."""
    fd = os.memfd_create("regrow-spawn", os.MFD_CLOEXEC)
    try:
        if os.write(fd, code) != len(code):  # RLIMIT_FSIZE
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        address = _LIBC.mmap(None, len(code), mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
    finally:
        os.close(fd)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "cannot map code")
    return int(address)
