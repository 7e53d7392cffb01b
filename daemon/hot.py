"""
What supervisors, functions and agents run between their fork and their first rest: module and functions, first what
all of them run, then what some do. `sharing` puts the code of these side by side.

Written by `python -m benchmarks.hot`. A name too many or too few costs a little memory, and nothing else.
"""

from __future__ import annotations

RUN = """\
importlib._bootstrap ModuleSpec.__init__ _handle_fromlist _verbose_message
importlib._bootstrap_external FileFinder.find_spec PathFinder._get_spec PathFinder._path_importer_cache
importlib._bootstrap_external PathFinder.find_spec _make_relax_case.<locals>._relax_case _path_join
importlib._bootstrap_external _path_join.<locals>.<listcomp> _path_stat
os _Environ.__setitem__ _createenviron.<locals>.encode _fscodec.<locals>.fsencode
regrow.daemon.linux.identity _overwrite mark set_title
regrow.daemon.linux.kernel _close_range _has_close_range _prctl close_from close_from.<locals>.<genexpr> set_name
regrow.daemon.linux.kernel set_pdeathsig
regrow.daemon.linux.spawn Target.described _be_child _copies _copies.<locals>.<listcomp> _open _place _set_up
regrow.daemon.linux.spawn resource_limits
_weakrefset WeakSet.add _IterationGuard.__enter__ _IterationGuard.__exit__ _IterationGuard.__init__
importlib import_module
importlib._bootstrap BuiltinImporter.find_spec FrozenImporter.find_spec ModuleSpec.cached ModuleSpec.has_location
importlib._bootstrap ModuleSpec.parent _ImportLockContext.__enter__ _ImportLockContext.__exit__ _ModuleLock.__init__
importlib._bootstrap _ModuleLock.acquire _ModuleLock.release _ModuleLockManager.__enter__ _ModuleLockManager.__exit__
importlib._bootstrap _ModuleLockManager.__init__ _call_with_frames_removed _find_and_load _find_and_load_unlocked
importlib._bootstrap _find_spec _gcd_import _get_module_lock _get_module_lock.<locals>.cb _init_module_attrs
importlib._bootstrap _load_unlocked _new_module _sanity_check module_from_spec
importlib._bootstrap_external FileFinder._get_spec FileLoader.__init__ FileLoader.get_data FileLoader.get_filename
importlib._bootstrap_external SourceFileLoader._cache_bytecode SourceFileLoader.path_stats SourceFileLoader.set_data
importlib._bootstrap_external SourceLoader.get_code SourceLoader.source_to_code _LoaderBasics.create_module
importlib._bootstrap_external _LoaderBasics.exec_module _calc_mode _check_name.<locals>._check_name_wrapper
importlib._bootstrap_external _classify_pyc _code_to_timestamp_pyc _compile_bytecode _get_cached _pack_uint32
importlib._bootstrap_external _path_is_mode_type _path_isabs _path_isdir _path_isfile _path_split
importlib._bootstrap_external _path_split.<locals>.<genexpr> _unpack_uint32 _validate_timestamp_pyc _write_atomic
importlib._bootstrap_external cache_from_source spec_from_file_location
multiprocessing.context _force_start_method
multiprocessing.process BaseProcess.__init__ BaseProcess._after_fork BaseProcess._bootstrap BaseProcess.name
multiprocessing.process _ParentProcess.__init__
multiprocessing.util _run_after_forkers info
regrow.daemon.forked _become_worker _runner.<locals>.<lambda> body.<locals>.run_worker
regrow.daemon.forked body.<locals>.run_worker.<locals>.started
regrow.daemon.linux.spawn own_environ
regrow.workers.forkhooks _seed_anew restore seed
regrow.workers.function FunctionProcess.__init__ FunctionProcess.bootstrap FunctionProcess.run _leave_stdin load
regrow.workers.stacks register
threading Thread._set_native_id main_thread
weakref WeakValueDictionary._commit_removals WeakValueDictionary.items
contextlib _GeneratorContextManager.__enter__ _GeneratorContextManager.__exit__ _GeneratorContextManagerBase.__init__
contextlib contextmanager.<locals>.helper
os _Environ.__getitem__ _createenviron.<locals>.decode
posixpath _get_sep join
socket socket.__init__
_weakrefset WeakSet.__init__ WeakSet.discard
collections Counter.__init__ Counter.update
collections.abc Mapping.get
enum Enum.__new__ Enum.name EnumType.__call__ EnumType.__members__ property.__get__
functools _unwrap_partial
inspect _has_code_flag get_annotations isasyncgenfunction iscoroutinefunction isfunction isgeneratorfunction ismethod
lmdb._envid _file_key env_keys env_keys.<locals>.<genexpr>
msgspec._utils _get_class_annotations _get_class_mro_and_typevar_mappings
msgspec._utils _get_class_mro_and_typevar_mappings.<locals>.inner get_class_annotations
msgspec.inspect _Translator.__init__ _Translator._translate_inner _Translator._translate_inner.<locals>.<genexpr>
msgspec.inspect _Translator.run _Translator.run.<locals>.<genexpr> _Translator.translate _origin_args_metadata
msgspec.inspect multi_type_info type_info
multiprocessing.process _cleanup active_children current_process
multiprocessing.util _exit_function _flush_std_streams _run_finalizers _run_finalizers.<locals>.<listcomp> debug
os _fscodec.<locals>.fsdecode
posixpath abspath isabs normpath
regrow.config.readable readable
regrow.ipc.account Account.__init__ Account.close
regrow.ipc.awaited Inbox.__init__ Inbox.done Stats.__init__
regrow.ipc.bell Bell.__init__ Bell.close Bell.fileno
regrow.ipc.credit Credit.__init__
regrow.ipc.dispositions held_back
regrow.ipc.engine Engine.__init__ Engine._begin Engine._dismiss Engine._heard Engine._take_in Engine._turn Engine.bind
regrow.ipc.engine Engine.close Engine.mailbox_file Engine.unwatch Engine.wake Engine.watch
regrow.ipc.forks from_first_use.<locals>.heed
regrow.ipc.mailbox Mailbox.__init__ Mailbox.close Mailbox.close.<locals>.<listcomp>
regrow.ipc.names Names.__init__ Names._open Names._read Names._write Names.announce Names.announce.<locals>.give
regrow.ipc.names Names.change Names.change.<locals>.<lambda> Names.close Names.has_flag
regrow.ipc.names Names.has_flag.<locals>.<lambda> Names.withdraw Names.withdraw.<locals>.take _decode _encode _key
regrow.ipc.names_open Environments._find Environments._give_back Environments.give_back Environments.take _open_table
regrow.ipc.names_open inode_of
regrow.ipc.partings _fitting _place _read note note.<locals>.<lambda>
regrow.ipc.peers Peers.__init__ Peers.clear
regrow.ipc.points hit
regrow.ipc.posting Posting.__init__ Posting.close _Process.heed
regrow.ipc.process start_time stat_fields
regrow.ipc.receiver Receiver._note_parting Receiver.announce Receiver.close Receiver.last_word Receiver.leave_group
regrow.ipc.receiver Receiver.receive Receiver.refuse_all Receiver.withdraw _remove
regrow.ipc.recorder Recorder.__init__
regrow.ipc.signals Signals.__init__ Signals._begin
regrow.ipc.transaction Transaction.__init__
regrow.ipc.transport Transport.__init__ Transport._address Transport._new_monitor Transport._new_router Transport.bind
regrow.ipc.transport Transport.close Transport.has_input Transport.wake Transport.watch_connections
regrow.ipc.unclosed watch_over
regrow.ipc.waits Waits._lead Waits.wait _epoll_timeout _is_done
regrow.workers __getattr__
regrow.workers.agent Agent.__init_subclass__ _check_attributes _check_attributes.<locals>.<genexpr> _compiled
regrow.workers.agent _compiled.<locals>.<dictcomp> _compiled.<locals>.<setcomp> handler handlers_of is_async
regrow.workers.agent is_async.<locals>.<genexpr>
regrow.workers.answers Answers.__init__ Answers.release Complaints.__init__
regrow.workers.box PostBox.__init__ PostBox.begin PostBox.close
regrow.workers.box_attempts Attempts.__init__ Attempts.close Attempts.decide
regrow.workers.box_pace Pace.__init__
regrow.workers.circles Circles.__init__
regrow.workers.doorkeeper Doorkeeper.__init__ Doorkeeper.close
regrow.workers.handlers Arguments.__init__ Arguments.read Handler.__init__ _reply_check _reply_check.<locals>.<genexpr>
regrow.workers.handlers _reply_check.<locals>.<setcomp>
regrow.workers.news News.__init__ _signal_type
regrow.workers.notify notify ready stopping
regrow.workers.place admitted admitted.<locals>.<genexpr> admitted.<locals>.<listcomp> mailbox run_dir
regrow.workers.posthandling PostHandling.__init__
regrow.workers.runtime Runtime.__init__ Runtime._asked_to_stop Runtime._live Runtime.arguments Runtime.begin
regrow.workers.runtime Runtime.bind Runtime.close Runtime.end Runtime.leave Runtime.load_state Runtime.nudge
regrow.workers.runtime Runtime.refuse_rest Runtime.run Runtime.serve Runtime.until_kept init_of load_agent run
regrow.workers.runtime run.<locals>.body runtime_of
regrow.workers.signature Signature.__init__ Signature.__init__.<locals>.<genexpr>
regrow.workers.signature Signature.__init__.<locals>.<listcomp> Signature.__init__.<locals>.<setcomp>
regrow.workers.signature Signature._variable Signature._variable.<locals>.<genexpr> Signature.bind Signature.spread
regrow.workers.signature Signature.struct _check_carried _field _foreign _foreign.<locals>.<genexpr>
regrow.workers.signature _foreign.<locals>.<listcomp> foreign_type parameters parameters.<locals>.<listcomp>
regrow.workers.state_loans Loans.__init__
regrow.workers.state_type check_state declared_state
regrow.workers.state_values values_of
regrow.workers.stop_signals StopSignals.__enter__ StopSignals.__enter__.<locals>.<dictcomp> StopSignals.__exit__
regrow.workers.stop_signals StopSignals.__init__ StopSignals._handle StopSignals._restore StopSignals.dropped
regrow.workers.stop_signals StopSignals.heard
regrow.workers.unit Owner.__init__ Unit.__init__
regrow.workers.watchdog Watchdog.__init__
socket socket.__enter__ socket.__exit__ socket._real_close socket.close
threading Condition.__init__ Event.__init__ RLock Thread._stop Thread.daemon Thread.ident _maintain_shutdown_locks
threading _maintain_shutdown_locks.<locals>.<listcomp> _shutdown
typing ForwardRef.__init__ ForwardRef._evaluate _eval_type _eval_type.<locals>.<genexpr>
typing _should_unflatten_callable_args _type_check _type_convert cast get_origin get_type_hints
weakref finalize.__init__ finalize.atexit finalize.detach
zmq.error Again.__init__ ZMQError.__init__
zmq.sugar.attrsettr AttributeSetter.__setattr__
zmq.sugar.context Context.__init__ Context._add_socket Context._rm_socket Context._set_attr_opt Context.socket
zmq.sugar.context Context.term
zmq.sugar.socket Socket.__init__ Socket.__setattr__ Socket._bind_cm Socket._connect_cm Socket.bind Socket.close
zmq.sugar.socket Socket.connect Socket.disable_monitor Socket.recv_multipart _SocketContext.__init__
regrow.workers.function run run.<locals>.body
collections.abc KeysView.__iter__ Mapping.keys MappingView.__init__
importlib._bootstrap_external FileFinder._fill_cache
os _Environ.__iter__
regrow.daemon.birth _born _make _of_user _personal _sockets _sockets.<locals>.<genexpr> _target _targets environ
regrow.daemon.birth pattern streams worker worker.<locals>.make
regrow.daemon.channel Channel.__init__ Channel._send_packet Channel._try Channel.connect Channel.flush
regrow.daemon.channel Channel.flush_blocking Channel.put Channel.send Channel.send.<locals>.<listcomp>
regrow.daemon.context child_environ shared_environ
regrow.daemon.core.lifecycle _at_once _begin_end _begin_end.<locals>.<genexpr> _end_advance _init_advance _one_less
regrow.daemon.core.lifecycle _refuse_waiting _refuse_waiting.<locals>.<listcomp> begin start_concluded stop_requested
regrow.daemon.core.lifecycle stopped
regrow.daemon.core.outcomes started
regrow.daemon.core.state SupervisorState.dynamic SupervisorState.independent initial initial.<locals>.<dictcomp>
regrow.daemon.core.state initial.<locals>.<genexpr>
regrow.daemon.core.supervisor _dispatch _drain _process_event _ready _spawned _stopped event_kind step
regrow.daemon.core.turn Turn.__init__ Turn.arm Turn.begin_stop Turn.cancel Turn.cancel_start Turn.change Turn.finish
regrow.daemon.core.turn Turn.reply Turn.report Turn.signal Turn.spawn Turn.undefine
regrow.daemon.forked _runner _runner_of body load preload prepare prepare.<locals>.<genexpr>
regrow.daemon.forked prepare.<locals>.<listcomp> prepare.<locals>.<setcomp> stacks_pipe template_kinds
regrow.daemon.health Health.__init__ Health._watch_liveness Health.became_ready Health.cancel Health.killed
regrow.daemon.health Health.missing Health.progress Health.running
regrow.daemon.hearing Hearing.__init__ Hearing._failure Hearing._notice Hearing._runs Hearing._take Hearing.begin
regrow.daemon.hearing Hearing.begin.<locals>.<lambda> Hearing.born Hearing.born.<locals>.<lambda> Hearing.drain
regrow.daemon.hearing Hearing.status
regrow.daemon.linux.identity Marker.__str__ find_marker parse_marker read_marker
regrow.daemon.linux.kernel set_child_subreaper
regrow.daemon.linux.leftovers Leftovers.__init__ Leftovers._adopted Leftovers._adopted.<locals>.<listcomp>
regrow.daemon.linux.leftovers Leftovers._clear Leftovers._clear.<locals>.<genexpr> Leftovers._close_in Leftovers._hunt
regrow.daemon.linux.leftovers Leftovers._let_go Leftovers.before_reap Leftovers.close Leftovers.dead
regrow.daemon.linux.leftovers Leftovers.everything Leftovers.everything.<locals>.<genexpr>
regrow.daemon.linux.leftovers Leftovers.everything.<locals>.<listcomp> Leftovers.reaped Leftovers.started
regrow.daemon.linux.notify NotifySocket.__init__ NotifySocket.receive _sender parse
regrow.daemon.linux.owners Owners.__init__ Owners.gone Owners.gone.<locals>.<dictcomp> Owners.of Owners.reaped
regrow.daemon.linux.owners Owners.started
regrow.daemon.linux.probe_process ProbeProcesses.__init__ ProbeProcesses.reaped
regrow.daemon.linux.procfs OwnChildren.__init__ OwnChildren._listing OwnChildren.close OwnChildren.others
regrow.daemon.linux.procfs OwnChildren.pids _read_all children_of_self environ read_file
regrow.daemon.linux.rights passing
regrow.daemon.linux.shim Shims.__init__ read_failure
regrow.daemon.linux.spawn fork_call read_failure
regrow.daemon.loop Loop.__init__ Loop._deliver_signals Loop._handle_signals Loop._poll Loop._run_timers Loop._turn
regrow.daemon.loop Loop._wait_s Loop.call_at Loop.call_later Loop.now Loop.on_signals Loop.run Loop.stop Loop.unwatch
regrow.daemon.loop Loop.watch Timer.__init__ Timer.cancel _noted
regrow.daemon.nested _take_on_name make.<locals>.body run serve show status_of
regrow.daemon.pipes Output.__init__ Output.close Output.open Pipes.__init__ Pipes._tell_numbers Pipes.hand_over
regrow.daemon.pipes Pipes.several
regrow.daemon.process Process.__init__ Process._exit Process._scarcity Process.exit Process.supervises
regrow.daemon.reaping Reaper.__init__ Reaper._listen Reaper._reap Reaper._settle Reaper.born Reaper.finish Reaper.owner
regrow.daemon.reaping Reaper.sweep _next_dead
regrow.daemon.record Recorder.__init__ Recorder.step digest
regrow.daemon.recording Recording.__init__ Recording._write Recording.flush Recording.open Recording.step
regrow.daemon.reexec.renewal Renewal.__init__
regrow.daemon.relay Relay.__init__
regrow.daemon.runtime Runtime.__init__ Runtime._end Runtime._ended Runtime._ready Runtime._report Runtime._signal
regrow.daemon.runtime Runtime._step Runtime._step.<locals>.<genexpr> Runtime._tell Runtime.begin Runtime.exited
regrow.daemon.runtime Runtime.feed Runtime.listen Runtime.stop
regrow.daemon.signalling Signaller.__init__ Signaller.signal Signaller.wake_soon kill_group
regrow.daemon.spawning Spawner.__init__ Spawner._make Spawner._worker Spawner.group_of Spawner.health
regrow.daemon.spawning Spawner.health.<locals>.<lambda> Spawner.make Spawner.output Spawner.spawn
regrow.daemon.stacks Stacks.__init__ Stacks.close Stacks.text
regrow.daemon.standby Standby.__init__ Standby._look Standby._look_after Standby.begin Standby.end_all Standby.noticed
regrow.daemon.timers Timers.__init__ Timers.arm Timers.cancel
regrow.workers.function look_in
regrow.workers.shim_image Images.__init__
"""
