"""What the policy may want done: a closed list, and the facts it is given to want it.

The policy returns values of these types in the order in which they are to be
carried out; the loop carries them out and notes in the fleet's notebook what
became of them. An action that fails (no memory for a slot, a port that is taken)
comes back to the policy as a fact of the next turn, never as an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from signal import Signals

from sentinel.core.machines.rollout import RolloutEvent
from sentinel.core.machines.worker import Order
from supervisor.fleet import Death, Generation, Member, Mode


@dataclass(frozen=True, slots=True)
class Prepare:
    """Bind what the generation listens on and does not have yet; nothing listens before it takes over."""

    generation: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Move a generation on its course."""

    generation: int
    event: RolloutEvent
    why: str = ""


@dataclass(frozen=True, slots=True)
class Restore:
    """Stage the content of `source` again, under a new number, in place of `failed`."""

    source: int
    failed: int


@dataclass(frozen=True, slots=True)
class Fork:
    generation: int
    lane: int


@dataclass(frozen=True, slots=True)
class ForkSweeper:
    """Fork a worker of this generation whose one task is to empty the queues of these addresses."""

    generation: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Give:
    """Give an order to a slot, and wake its worker."""

    slot: int
    order: Order
    deadline_ns: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    slot: int
    signal: Signals
    why: str


@dataclass(frozen=True, slots=True)
class Hush:
    """Let no new connection into the queues of an address, so that they can become empty."""

    address: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the sockets of an address: nobody listens there any more."""

    address: str


@dataclass(frozen=True, slots=True)
class Enter:
    mode: Mode


@dataclass(frozen=True, slots=True)
class StartControl:
    pass


@dataclass(frozen=True, slots=True)
class EndControl:
    signal: Signals


@dataclass(frozen=True, slots=True)
class KillControl:
    """It hangs: end it as a crash would, so that another one is started."""

    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin to end the whole service, which will exit with this status."""

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Everything has ended."""

    status: int


Action = (
    Prepare | Advance | Restore | Fork | ForkSweeper | Give | Kill | Hush | Close | Enter
    | StartControl | EndControl | KillControl | Stop | Exit
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An address that we listen on. `waiting`: connections in its queues that nobody has accepted yet.

    hushed_ns: since when no new ones are let in; 0: they are. is_adopted: the socket is systemd's too, which keeps
    the queue when we leave.
    """

    address: str
    waiting: int = 0
    hushed_ns: int = 0
    is_adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The control process: pid 0 when there is none; `deaths_ns` are its recent ends that nobody ordered."""

    pid: int = 0
    deaths_ns: tuple[int, ...] = ()
    ordered_ns: int = 0  # when it was told to end
    heard_ns: int = 0  # when it said something, or was started; 0: nobody watches
    last_words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the policy may know. Times are of the monotonic clock.

    awake_ns: since when the supervisor has turned without a gap. Nobody is called late for a time in which
    nobody looked: the machine may have been asleep, and the workers with it.
    """

    now_ns: int
    awake_ns: int = 0
    changed_ns: int = 0  # when something was last done or seen to happen
    mode: Mode = Mode.SERVING
    current: int = 0
    generations: tuple[Generation, ...] = ()
    members: tuple[Member, ...] = ()
    deaths: tuple[Death, ...] = ()
    doors: tuple[Door, ...] = ()
    control: Control = field(default=Control(pid=1))
    slots_max: int = 64
    stop_deadline_ns: int = 0
    stop_status: int = 0
    is_forced: bool = False
    sweepers_forked: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, and when to look again at the latest."""

    actions: tuple[Action, ...]
    look_again_ns: int
