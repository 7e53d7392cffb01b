"""
A daemon that goes on in a new program: root and supervisors exec themselves in place and keep their pids.

An exec keeps the pid, and with it children, locks, the death signal and the role of a subreaper; descriptors stay
open where they are let. What a supervisor knows is one value (`carried`), which is written into a memory file before
the exec and taken up after it. Signals are blocked over it, so none is lost and none kills. Workers notice nothing.

Source: execve(2) on what is preserved, memfd_create(2), PR_SET_CHILD_SUBREAPER(2const), fcntl_locking(2).
"""
