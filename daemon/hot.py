"""
What supervisors, functions and agents run between their fork and their first rest, first what all of them run, then
what some do: `RUN`, modules and functions, whose code `sharing` puts side by side, and `NAMES`, what these functions
call things, which `interned` does the same with.

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

NAMES = """\
name loader origin loader_state submodule_search_locations _uninitialized_submodules _set_fileattr _cached isinstance
str __name__ TypeError type hasattr _handle_fromlist __all__ format _call_with_frames_removed ModuleNotFoundError sys
modules get _NEEDS_LOADING recursive flags verbose startswith print stderr file rpartition _path_stat path _os getcwd
st_mtime OSError _path_mtime _fill_cache _relax_case _relaxed_path_cache lower _path_cache _path_join _loaders
_path_isfile _get_spec _path_isdir ValueError _bootstrap _verbose_message ModuleSpec __init__ verbosity
_path_importer_cache find_spec _legacy_get_spec ImportError extend FileNotFoundError path_importer_cache KeyError
_path_hooks _NamespacePath path_sep join <listcomp> _path_join.<locals>.<listcomp> rstrip path_separators stat
encodekey encodevalue putenv _data ctypes memmove address ljust length os environ VARIABLE _areas marker encode len
partition _overwrite title decode ignore errors _has_close_range closerange _LIBC syscall c_long _NR_CLOSE_RANGE
c_uint get_errno errno ENOSYS EPERM _raise_errno listdir int close close_range _close_range_works _MAX_FD c_ulong
prctl c_int sorted set _close_range <genexpr> close_from.<locals>.<genexpr> fsencode _COMM_BYTES _prctl _PR_SET_NAME
c_char_p PR_SET_PDEATHSIG journal JOURNAL EXEC_FAILED_STATUS gc disable _set_up _Stage write msgspec msgpack failure
BaseException Failure getattr _exit _copies.<locals>.<listcomp> fcntl F_DUPFD_CLOEXEC FIRST_SOCKET fd open O_WRONLY
O_APPEND O_CREAT O_CLOEXEC open_journal dup dup2 setsid signal set_wakeup_fd executes IGNORED HANDLED set_handler
_DEFAULT set_mask _UNBLOCK _copies sockets resource_limits limits resource setrlimit nice setpriority PRIO_PROCESS
umask credentials user _become cwd chdir stdout described _open _place stdin_fd enumerate kernel close_from keep_fds
set_pdeathsig SIGKILL getppid EINVAL enter inheritable keep NO_LIMITS RLIMIT_NOFILE open_files RLIMIT_NPROC processes
RLIMIT_CORE core_bytes RLIMIT_FSIZE file_size_bytes cpu_s getrlimit RLIMIT_CPU append RLIM_INFINITY min
resource_limits.<locals>.<listcomp> _pending_removals _commit_removals data add ref _remove weakcontainer _iterating
remove _gcd_import _imp is_builtin spec_from_loader _ORIGIN find_frozen _resolve_filename implementation insert
is_package filename origname _bootstrap_external NotImplementedError _get_cached acquire_lock release_lock _thread
allocate_lock lock wakeup owner count waiters get_ident _blocking_on has_deadlock _DeadlockError acquire release
RuntimeError _get_module_lock _name _lock _ModuleLockManager _find_and_load_unlocked _lock_unlock_module __spec__
_initializing __path__ AttributeError _ERR_MSG _find_spec _load_unlocked pop setattr _warnings warn ImportWarning
meta_path _ImportLockContext _find_spec_legacy _sanity_check _resolve_name _find_and_load _module_locks
_DummyModuleLock _ModuleLock _weakref cb _get_module_lock.<locals>.cb NamespaceLoader __new__ _path __file__
__loader__ parent __package__ has_location cached __cached__ _object_name _load_backward_compatible module_from_spec
exec_module create_module _new_module _init_module_attrs spec_from_file_location SourceLoader ExtensionFileLoader _io
open_code read FileIO r _calc_mode set_data _mode st_size mtime size _path_split reversed mkdir FileExistsError
_write_atomic get_filename cache_from_source path_stats get_data _classify_pyc memoryview check_hash_based_pycs
source_hash _RAW_MAGIC_NUMBER _validate_hash_pyc _validate_timestamp_pyc _compile_bytecode EOFError source_to_code
dont_write_bytecode _code_to_hash_pyc _code_to_timestamp_pyc _cache_bytecode never always bytecode_path source_path
compile exec dont_inherit optimize get_code __dict__ st_mode MAGIC_NUMBER _unpack_uint32 bytearray _pack_uint32
marshal dumps loads _code_type _fix_co_filename endswith tuple SOURCE_SUFFIXES BYTECODE_SUFFIXES to_bytes little
_path_is_mode_type max _path_split.<locals>.<genexpr> rfind from_bytes id O_EXCL replace unlink wb DeprecationWarning
fspath cache_tag isalnum _OPT pycache_prefix _path_isabs lstrip _PYCACHE _get_supported_file_loaders _POPULATE
_concrete_contexts _default_context _actual_context next _process_counter _current_process _identity _config copy
getpid _parent_pid _parent_name _popen _closed _target _args dict _kwargs daemon _dangling
BaseProcess.__init__.<locals>.<genexpr> util _finalizer_registry clear _run_after_forkers context _start_method
_force_start_method itertools _children _close_stdin _ParentProcess _parent_process threading _HAVE_THREAD_NATIVE_ID
main_thread _set_native_id _after_fork info run _exit_function SystemExit code traceback print_exc _shutdown
_flush_std_streams _pid _sentinel list _afterfork_registry items sort Exception _logger log INFO watchdog_s identity
mark set_title target set_name WATCHDOG_PID REGROW_CHILD LISTEN_PID _random random __self__ Random seed gauss_next
_held_back register_at_fork _seeding _seed_anew super _body pidfd_open _leave_stdin vars multiprocessing _STDIN
parent_sentinel importlib import_module split callable faulthandler register ASK all_threads chain get_native_id
_native_id _main_thread IndexError _IterationGuard args kwds func gen StopIteration throw __traceback__ __cause__
__doc__ decodevalue bytes _get_sep map BytesWarning genericpath _check_arg_types AF_INET SOCK_STREAM _socket socket
_io_refs update WeakSet.__init__.<locals>._remove discard _collections_abc Mapping _count_elements _value2member_map_
_member_map_ values _value_ _missing_ Flag issubclass _boundary_ EJECT __qualname__ __context__ _create_ module
qualname start boundary MappingProxyType fget partial ismethod __func__ functools _unwrap_partial isfunction
_signature_is_functionlike bool __code__ co_flags types GetSetDescriptorType ModuleType __wrapped__ __globals__
__annotations__ __module__ <dictcomp> get_annotations.<locals>.<dictcomp> eval _has_code_flag CO_ASYNC_GENERATOR
CO_COROUTINE FunctionType CO_GENERATOR MethodType st_ino st_dev normcase realpath ino fsdecode _file_key
env_keys.<locals>.<genexpr> GenericAlias __origin__ __mro__ inner _get_class_mro_and_typevar_mappings.<locals>.inner
typing get_origin object Generic __parameters__ get_args zip __bases__
_get_class_mro_and_typevar_mappings.<locals>.inner.<locals>.<genexpr> _apply_params __orig_bases__
_get_class_mro_and_typevar_mappings PY_312PLUS __type_params__ _get_class_annotations _forward_ref _eval_type
get_class_annotations.<locals>.<dictcomp> type_hints cache Any AnyType TypeVar __bound__ translate NoneType BoolType
IntType float FloatType StrType BytesType ByteArrayType MemoryViewType datetime DateTimeType time TimeType date
DateType timedelta TimeDeltaType uuid UUID UUIDType decimal Decimal DecimalType Raw RawType Ext ExtType ListType
SetType frozenset FrozenSetType VarTupleType TupleType DictType _PY315_PLUS frozendict FrozenDictType Union UnionType
Literal LiteralType _sort_literal_args _is_enum EnumType is_struct_type __struct_config__ StructType tag_field tag
array_like forbid_unknown_fields __struct_fields__ __struct_defaults__ __struct_encode_fields__ NODEFAULT _Factory
factory UNSET Field fields _is_typeddict TypedDictType _get_typeddict_info _is_dataclass _is_attrs DataclassType
_get_dataclass_info _is_namedtuple NamedTupleType _fields CustomType ge gt le lt multiple_of min_length max_length
pattern tz _Translator._translate_inner.<locals>.<genexpr> _UnsetType encode_name required default default_factory
_field_defaults _core MsgpackDecoder _Translator.run.<locals>.<genexpr> _origin_args_metadata extra_json_schema
_merge_json _to_builtins extra _translate_inner Metadata description examples str_keys _CONCRETE_TYPES _AnnotatedAlias
__metadata__ Final __args__ _TypeAliasType __value__ _types_UnionType _origin_args_metadata.<locals>.<genexpr> Meta
__supertype__ _Translator multi_type_info poll _cleanup _exiting terminate flush sub_debug <lambda>
_run_finalizers.<locals>.<lambda> _run_finalizers.<locals>.<listcomp> reverse DEBUG isabs getcwdb normpath
_path_normpath BYTES backslashreplace taken is_whole mailbox callback woken waiting bad unanswered MBOX _folder _file
AF_UNIX SOCK_DGRAM SOCK_NONBLOCK SOCK_CLOEXEC O_PATH O_DIRECTORY bind chmod fileno _grant _stale _count _bytes
SIG_BLOCK _LATER SIG_SETMASK abspath run_dir spec is_member limit Stats stats Names names Mailbox LIMIT record
_own_names RLock _begin _heed_forks _nodes Transport transport Peers peers links _watchers Inbox inbox closed forked
on_full _is_signed _leading _leader Event _led _attending _sent _is_glancing by_loop eventfd EFD_CLOEXEC EFD_NONBLOCK
recall_fd _followers urandom _first_id _ids Account account _strays _turns _fresh_s watch_over _held wake wait
router_fd wake_fd eventfd_read BlockingIOError monitor_fd watch_connections by_pidfd is_dead epoll unregister dies
monotonic heard has_input Pending done receive _take _take_more _say_accepted touched _take_in dying met _look_after
incarnation hex admit group _leave_to_parent ledger down monitors settle again dropped _dismiss detach
Engine.close.<locals>.<lambda> NoProcess to _begin_anew select EPOLLIN limit_bytes deque news accepted refused
refused_in_a_row handlers Mailbox.close.<locals>.<listcomp> Envelope _run_dir FOLDER _env _inode lmdb ENVIRONMENTS
take Error removeprefix isdir access R_OK W_OK X_OK owners HOW_IN Unreachable absent denied begin ReadersFullError
BadRslotError reader_check MapFullError _write _decode txn return give Names.announce.<locals>.give _key put _encode
Names.change.<locals>.<lambda> give_back _read Names.has_flag.<locals>.<lambda> Names.withdraw.<locals>.take delete
_decoder UnicodeEncodeError _NOBODY MAX_NAME_BYTES _lost _give_back popleft _find inode_of close_inherited LOCK_FILE
_open_table MAP_BYTES MAX_READERS map_size max_readers create sync metasync readahead KEPT_BYTES PREFIX PLACE
MsgspecError UnicodeDecodeError change note.<locals>.<lambda> _fitting KEPT _limit by_process by_name by_alias pidfds
forget _hook process heed _node _sender _store _known _room _timers pid _forked after_in_child stat_fields is_shortage
rb buffering partings note Parting Record start_time replicas announce _is_surely_dead SUFFIX withdraw _turn _say wire
Closing hit Point LAST_WORD_SAID MAX_TAKEN _note_parting _recall NEVER_S _heard HALF_FULL_S FRESH_S is_call closing
routing handler _names _token Lock _wanted _is_due _deliver _link _last_id _answers _patterns _subscribing Recorder
_recorder _is_up _is_greeted _queue _sizes Credit _credit last_seq Signals._begin.<locals>.<lambda> _try hub_wire puts
posts then seen counted _folder_fd zmq Context _context max_sockets _new_router _router _new_monitor _monitor _peers
Counter _connected LARGE_BYTES _large_bytes is_midway FD backend Socket send __get__ _send recv _recv _get POLLIN
_input io_threads monitor _EVENTS PAIR setsockopt RCVHWM connect ROUTER LINGER ROUTER_MANDATORY MAXMSGSIZE
MAX_MESSAGE_BYTES RECEIVE_HWM SNDHWM SEND_HWM BACKLOG RECONNECT_IVL RECONNECT_IVL_MAX IPC_FILTER_UID IPC_FILTER_GID
_address ZMQError readlink strict disable_monitor held_back term _poll eventfd_write recv_multipart DONTWAIT Again
struct unpack DISCONNECTED HANDSHAKE_SUCCEEDED _peer_pid _make_room CONNECTED weakref finalize _close atexit when_done
LONG_S _epoll_timeout EVENTS never_mind _is_done refuse_midway iter _hand_to_loop _next_s _follow _lead inf _HOMES
__init_subclass__ _check_attributes _compiled _handlers NameError concurrency max_attempts replies all
_check_attributes.<locals>.<genexpr> check_state OWN Handler <setcomp> _compiled.<locals>.<setcomp> _MARK
_compiled.<locals>.<dictcomp> method inspect isgeneratorfunction isasyncgenfunction any HOOKS handlers_of
is_async.<locals>.<genexpr> iscoroutinefunction is_async _complaints _made is_due due_s Transaction batch _posting
_incarnation _max_attempts _complain Attempts _attempts Pace _pace _fetched _done _buried _forgotten _until_s _alone
Bell mailbox_file _bell watch has_flag MAIL is_unknown _recover StoreError give_up unwatch is_undecided _begun
_is_page_seen decide rests_until_s _unripe _seen _door _look _relieved _is_closed task is_parked is_helping Signature
_signature json Decoder spread function _json_raws_by_name astuple UNREADABLE fault is_nameable _is_nameable _named
_positional _reply_check returns _returns _exact _UNCHECKED foreign_type _reply_check.<locals>.<setcomp>
_reply_check.<locals>.<genexpr> SCALARS _agent _signals _signal_type _type on_signal Agent hints readable sendto
NOTIFY_SOCKET notify _line admitted.<locals>.<listcomp> admitted.<locals>.<genexpr> u g MailboxSpec admitted
REGROW_INCARNATION REGROW_GROUP REGROW_REPLICAS REGROW_MAILBOX REGROW_RUN_DIR _replies _box _owner _life next_s kind
Node node _tell_full Signals deliver signals ending Doorkeeper Circles look relieved keeper Overtaken _foreseen ASKED
nudge Ignore exits DONE StopSignals _asked_to_stop ready serve status end text MAX_TRACEBACK init_of agent
BadArguments load_state until_kept arguments Watchdog watchdog Complaints complaints Answers answers Posting posting
Owner Unit unit PostBox make _host News PostHandling handling concurrent refuse_rest unpark reason leave last_word
declared_state of whole Whole rows limit_of load is_used stopping leave_group refuse_all SHUTDOWN _dropped CHAIN UNIT
_live _theirs report_exception handle interval_s turn_s until_due_s handle_some commit roll_back _inits Arguments init
regrow workers forkhooks restore enable FunctionProcess bootstrap None body run.<locals>.body load_agent runtime_of
place take_name exit _runtime Runtime regrow.workers.async_runtime AsyncRuntime get_type_hints parameters _reserved
_function _bound Parameter POSITIONAL_OR_KEYWORD is_plain _BY_NAME positions _variable VAR_POSITIONAL rest VAR_KEYWORD
others _title include_extras Signature.__init__.<locals>.<genexpr> POSITIONAL_ONLY
Signature.__init__.<locals>.<setcomp> Signature.__init__.<locals>.<listcomp> _BY_POSITION _field
Signature._variable.<locals>.<genexpr> too_many refuse Signature.spread.<locals>.<listcomp> call
Signature.spread.<locals>.call KEYWORD_ONLY defstruct kw_only _check_carried empty _IMMUTABLE field
_field.<locals>.<lambda> cls Struct _foreign.<locals>.<listcomp> _foreign.<locals>.<genexpr> _foreign type_info keys
signature co_varnames co_argcount co_kwonlyargcount __defaults__ co_posonlyargcount CO_VARARGS Taken __kwdefaults__
CO_VARKEYWORDS __signature__ parameters.<locals>.<listcomp> changes held replaced values_of fields_of version_of
has_default dir check_state.<locals>.<genexpr> version upgrade get_annotations Declared _evaluated State dataclasses
is_dataclass state Values pipe2 O_NONBLOCK _read_fd _write_fd STOP _before _installed warn_on_full_buffer
StopSignals.__enter__.<locals>.<dictcomp> _handle _restore _stop is_stale unrecorded forgets transaction mapping Loans
_lent _group_state _outer is_over keep_alone isdecimal _fed_s WATCHDOG_USEC _real_close _release_save _acquire_restore
_is_owned _deque _waiters Condition _cond _flag _CRLock _PyRLock _tstate_lock locked _is_stopped _shutdown_locks_lock
_maintain_shutdown_locks _initialized _daemonic _ident _shutdown_locks difference_update
_maintain_shutdown_locks.<locals>.<listcomp> _SHUTTING_DOWN _threading_atexits ident SyntaxError __forward_arg__
__forward_code__ __forward_evaluated__ __forward_value__ __forward_is_argument__ __forward_is_class__
__forward_module__ _type_check is_argument allow_special_forms ForwardRef _evaluate _GenericAlias __unpacked__
_should_unflatten_callable_args Unpack reduce operator or_ copy_with _eval_type.<locals>.<genexpr> collections abc
Callable _is_param_expr Protocol ClassVar _type_convert LiteralString NoReturn Never Self TypeAlias _SpecialForm
is_class Annotated _BaseGenericAlias ParamSpecArgs ParamSpecKwargs _allowed_types __no_type_check__
get_type_hints.<locals>.<dictcomp> _strip_annotations _registered_with_atexit _exitfunc _Info kwargs _index_iter index
_registry _dirty EAGAIN zmq.backend strerror zmq_errno __setattr__ __class__ mro upper constants _set_attr_opt _shadow
_shadow_obj underlying cast_int_addr sockopts WeakSet _sockets shadow ContextOption __members__ cast SocketOption
Errno ENOTSUP _socket_class _add_socket TYPE SocketType _type_name copy_threshold SUBSCRIBE UNSUBSCRIBE subscribe
unsubscribe utf8 LAST_ENDPOINT _SocketContext _bind_cm _rm_socket linger _connect_cm _monitor_socket getsockopt
RCVMORE track addr _mapping KeysView PermissionError NotADirectoryError platform _CASE_INSENSITIVE_PLATFORMS win
FileFinder._fill_cache.<locals>.<setcomp> decodekey stacks_pipe _targets Launch devnull Kind COMMAND SpawnError Born
env executable command plain spawn fork_exec fork_call home HOME USER LOGNAME _of_user.<locals>.<dictcomp> AGENT
internal KEEPER HUB REGROW_INDEX LISTEN_FDS LISTEN_FDNAMES EBADF _sockets.<locals>.<genexpr> OutputKind LOG Target
INHERIT PATH streams child_environ _personal _of_user probe ReadyKind LINE STDOUT LOGGER logger_fd _born launch
dump_fd worker.<locals>.make _make output _loop setblocking Up _decode_up _decode_down Down _from_above _arrived
_on_message _on_closed _partial _put on_recovered _ready Channel.__init__.<locals>.<lambda> _own EPOLLOUT MSG_NOSIGNAL
sendmsg passing GONE call_later SHORTAGE_RETRY_S _flush BatchUp POLLOUT now MAX_PUT QUEUE_LIMIT DetailUp NoteUp range
PACKET _LAST _MORE _send_packet SocketDown Channel.send.<locals>.<listcomp> token REGROW_NAME REGROW_SUPERVISOR
dynamic Start PARALLEL _refuse_waiting Phase STOPPING phase report order slots dead known_exit SlotState WAITING
undefine sum StopAll operation _end_advance outcome cause exited _begin_end.<locals>.<genexpr> HOLDS_PROCESS left
ENDED effects End begin_stop _at_once stopped Init starting pending StartFor INIT RUNNING now_s up_since_s Ready
Terminate request Code _refuse_waiting.<locals>.<listcomp> Request STARTING _init_advance Batch advance Starting scope
child _begin_end Outcome STOPPED SignalKind KILL cancel TimerKind ExitReason _one_less gone reply cancel_start
lifecycle start_concluded strategy Strategy DYNAMIC INDEPENDENT SupervisorState children initial.<locals>.<genexpr>
initial.<locals>.<dictcomp> Slot ProcessEvent _process_event Started NEW StopRequested stop_requested postpone
management _dispatch TRANSITIONS event_kind forced ignored outcomes started Spawned start_for last_pid for ChildExited
SpawnFailed TimerElapsed timer_ Turn _drain finish before restarts_s failures reports forgotten independent ArmTimer
START_FAILED shutdown ShutdownKind BRUTAL_KILL TIMEOUT timeout_s arm CancelTimer WorkerSpec START Reply Report number
event Signal restarts RESTART Spawn RETRY UNDEFINED regrow.workers runtime TASKS COMMANDS _runner.<locals>.<lambda>
args_json import_path channel_fd _runner ENOEXEC _runner_of stacks status_fd run_worker body.<locals>.run_worker
own_environ _become_worker body.<locals>.run_worker.<locals>.started body.<locals>.run_worker.<locals>.<lambda> PYTHON
isdisjoint load_random preload base_dir _read_init template_kinds fromkeys look_in shared_environ
prepare.<locals>.<listcomp> prepare.<locals>.<setcomp> prepare.<locals>.<genexpr> supervisor out_of_way template
template_kinds.<locals>.<setcomp> _spec memory_bytes _looks_at_memory _probes _on_ready _on_unhealthy _ready_wait
_liveness _over _is_ready _missed liveness LivenessWatch _around _not_live _watch_liveness progress _check_memory
missing last_failure NOTIFY _no_progress STARTED ReadyWait NotifySocket _notify shim read_failure spare exception feed
ChildIgnored upward ASIDE _event health ChildReady X_REGROW_EXCEPTION X_REGROW_IGNORE STATUS X_REGROW_EVENT
X_REGROW_TEXT WATCHDOG READY running reaper ended _notice loop Hearing.begin.<locals>.<lambda> drain
Hearing.born.<locals>.<lambda> MAX_DRAINS OF_SPARES standby _failure _runs _ASSIGNMENT find parse_marker TOKEN_DIGITS
isdigit Marker find_marker procfs _PR_SET_CHILD_SUBREAPER _strangers _watcher _changed _living _waiting Owners _owners
OwnChildren _ending _looking_again guarded mains Leftovers._adopted.<locals>.<listcomp> _hunt DYING IN_EXEC supervises
DEBRIS populated kill _let_go Leftovers._clear.<locals>.<genexpr> events_fd EPOLLPRI
Leftovers._close_in.<locals>.<lambda> _group_event _adopted _look_again _doomed _kill getpgid getpgrp killpg _close_in
_clear pids Leftovers.everything.<locals>.<genexpr> Leftovers.everything.<locals>.<listcomp> reaped Child _poller
SOL_SOCKET SO_PASSCRED BATCH recvmsg MAX_DATAGRAM CMSG_SPACE _UCRED MSG_CMSG_CLOEXEC _TRUNCATED Notice parse
SCM_CREDENTIALS SCM_RIGHTS iter_unpack i own_key aliases read_marker _marked _workers _supervisors _sessions _in_exec
Owners.gone.<locals>.<dictcomp> EXEC_LOOKS in_exec sched_yield MAX_TIMES _by_pid _settle waitstatus_to_exitcode
O_RDONLY _fd all_stats lseek SEEK_SET _read_all OwnChildren._listing.<locals>.<genexpr> ppid _listing
OwnChildren.others.<locals>.<listcomp> _CHUNK_BYTES read_file _FD pack MACHINES uname machine Images _images _quick
_is_proved FAILURE _WORDS lacking _BLOCK fork _fork_into _be_child stage subject _on_error MAX_ERRORS _errors_s _epoll
_watched _order _compact_at _soon _pending _wakeup _stops maxlen _handle_signals _wait_s heapq heappop _run_timers
MAX_WAIT_S Timer heappush _compact call_at _noted siginterrupt _deliver_signals _too_many_errors modify when_s show
regrow.daemon.runtime Loop Channel set_child_subreaper LastWordUp flush_blocking LAST_WORD_S REFUSED complain
format_exc INTERNAL run.<locals>.<lambda> relay from_parent abandon recovered on_signals SIGCHLD sweep SIGTERM stop
SIGINT SIGHUP SIGUSR2 collect freeze status_of serve.<locals>.<lambda> _pipes stream _tried _spare hand_over _way
_tell _numbers _holding NumbersUp Handed EMSGSIZE MAX_NUMBERS _tell_numbers told_to_stop event_s channel oom_kills
si_code CLD_KILLED CLD_DUMPED si_status Exit EXEC_FAILED _REASONS EXCEPTION _out_of_memory OOM SIGNAL _scarcity
normal_exit EXIT main refused_forks Process.exit.<locals>.<genexpr> SUPERVISOR _lingering _finished Leftovers
children_of_self _leftovers take_up strangers watcher changed hearing before_reap waitpid WNOHANG probes _linger pipes
several Reaper._settle.<locals>.<listcomp> everything getsid _next_dead si_pid _listen killed _reap _continue waitid
P_ALL WEXITED WNOWAIT ChildProcessError _supervisor _n _snapshot_due SNAPSHOT_EVERY _encode_line Snapshot Step digest
crc32 _encode_effects _unwritten _timer _full FLUSH_S Recording.flush.<locals>.<lambda> Stream ROTATION MAX_UNWRITTEN
lost step _inherited _incarnations initial ProbeProcesses Pipes outputs_fd own Hearing Spawner spawner Standby Reaper
Relay Signaller signaller Timers _excused timers Renewal renewal Recording recording _inbox _stepping _applied
_telling _signal _reply Refuse _refuse _report Forget _forget _end _do _ended ReadyUp ReportUp noticed became_ready
_asks_first not_made Runtime._step.<locals>.<genexpr> listen START_TIMEOUT Runtime.exited.<locals>.<genexpr> _step
TELL_S prepare _processes _asked kill_group stop_signal wake_soon WAKE_S _wake ProcessLookupError _group Shims _shims
_shortages _outputs SupervisorSpec nested _worker group_of birth worker PASSING NO_DESCRIPTORS Process stacks_fd
Stacks shims set_memory_max set_pids_max Health holds_memory Spawner.health.<locals>.<lambda> ChildUnhealthy
looks_at_memory _not_made born fault_cleared Output serves _raw _answered _why_none STACKS _groups _handed serial _on
_due_s setdefault spares Group _keep rehearse Standby._look.<locals>.<listcomp> stands SETTLE_S end_all renew reloaded
_feed after_s elapsed Timers.arm.<locals>.elapsed PathFinder _machine _fds
"""
