"""Keys of a store: one function per kind of key."""

from __future__ import annotations

import hashlib
import re

from kitaru.wire.times import digits, invert

INDEX = "index/"
GARBAGE = "gc/"
REPLAYS = "replay/"
BACKUP = "backup/"
DUE = "due/"
OPEN = "open/"
MEMORY = "memory/"
ADAPTERS = "adapter/"
BUDGET = "budget/"
QUOTA = "quota/"
QUEUE = "queue/"
WAITING = "waiting/"
# Hints of executions that wait for an event.
SUBSCRIBED = "subscribed/"
AUDIT = "audit/"
NEWS = "news/"
ACCESS = "access/"
# Every wait of the store has a hint below WAITING.
WAITS_LISTED = "listed/waits"
# Every schedule of the store has a hint below it.
SCHEDULES_LISTED = "listed/schedule/"
# Every flow whose starts have waited for a place has a hint below it, which contains its name.
QUEUES_LISTED = "listed/queue/"
LAST_VERSION = 99_999_999

_LONGEST_PART = 80
# Begins the part of a hint where others have an execution id; no execution id contains a dot.
_OF_SCHEDULE = "schedule."
# That part of the hints of events.
OF_EVENTS = "events."
_UNKNOWN = "unknown"
# Begins what takes the place of a wait; no name of a wait begins with a dot.
_CANCELS = ".cancel."

_ESCAPE = re.compile(r"[^A-Za-z0-9_-]")
_UNESCAPE = re.compile(r"\.([0-9a-f]{2})")


def home(exec_id: str) -> str:
    """Return the prefix of all keys of an execution."""
    return f"x/{exec_id}/"


def execution(exec_id: str) -> str:
    return f"x/{exec_id}/execution"


def states(exec_id: str) -> str:
    return f"x/{exec_id}/state/"


def state(exec_id: str, number: int) -> str:
    return f"x/{exec_id}/state/{number:08d}"


def state_number(key: str) -> int:
    """Return the number of the state at `key`."""
    return int(key.rpartition("/")[2])


def summary(exec_id: str, number: int) -> str:
    """Return the key of the summary of an execution as of its state of that number."""
    return f"x/{exec_id}/summary/{number:08d}"


def codes(exec_id: str) -> str:
    """Return the prefix of the records of different code than at the start of an execution."""
    return f"x/{exec_id}/code/"


def code(exec_id: str, fingerprint: str) -> str:
    return f"{codes(exec_id)}{fingerprint.removeprefix('sha256:')}"


def source(digest: str) -> str:
    """Return the key of the source file of flows that run on this machine."""
    return f"source/{digest.removeprefix('sha256:')}"


def sources(exec_id: str) -> str:
    """Return the prefix of the notes that an execution continued with another source file."""
    return f"x/{exec_id}/source/"


def source_since(exec_id: str, moment: str, digest: str) -> str:
    """Return the key of one note, which has no content; `moment` is in microseconds.

    `digest` is empty if the file is not stored.
    """
    return f"{sources(exec_id)}{moment}/{digest.removeprefix('sha256:') or _UNKNOWN}"


def source_note(key: str) -> tuple[str, str]:
    """Return the moment and the digest of a note."""
    *_, moment, digest = key.split("/")
    return moment, "" if digest == _UNKNOWN else f"sha256:{digest}"


def is_source_note(key: str) -> bool:
    """Return whether a key is that of a note, see `source_since`."""
    return key.startswith("x/") and key.split("/")[2] == "source"


def processes(exec_id: str) -> str:
    return f"x/{exec_id}/process/"


def process(exec_id: str, token: str) -> str:
    """Return the key of the marker that a process runs an execution, on a machine with a local
    store.
    """
    return f"x/{exec_id}/process/{token}"


def attendants(exec_id: str) -> str:
    return f"x/{exec_id}/attending/"


def attendant(exec_id: str, token: str, number: int) -> str:
    """Return the key of the marker that a process waits for an answer, in a local store."""
    return f"x/{exec_id}/attending/{token}/{number:08d}"


def end(exec_id: str) -> str:
    return f"x/{exec_id}/end"


def invocations(exec_id: str) -> str:
    return f"x/{exec_id}/inv/"


def invocation(exec_id: str, id: str) -> str:
    return f"x/{exec_id}/inv/{id}"


def segments(exec_id: str) -> str:
    return f"x/{exec_id}/segment/"


def segment(exec_id: str, position: int, writer: str) -> str:
    """Return the key of a segment with copies of records, the first of which has `position`."""
    return f"{segments(exec_id)}{position:010d}-{writer}"


def all_attempts(exec_id: str) -> str:
    return f"x/{exec_id}/attempt/"


def attempts(exec_id: str, id: str) -> str:
    return f"x/{exec_id}/attempt/{id}/"


def attempt(exec_id: str, id: str, number: int) -> str:
    return f"x/{exec_id}/attempt/{id}/{number:06d}"


def waits(exec_id: str) -> str:
    return f"x/{exec_id}/wait/"


def wait_request(exec_id: str, name: str) -> str:
    return f"x/{exec_id}/wait/{name}/request"


def wait_revision(exec_id: str, name: str, number: int) -> str:
    """Return the key of a changed question of a wait; the first change has number 1."""
    return f"x/{exec_id}/wait/{name}/asked/{number:06d}"


def waiting(asked_at: str, exec_id: str, name: str, number: int) -> str:
    """Return the listing hint of a wait without an answer of that number; the oldest sorts first.

    It is written before the question, and before answer `number - 1` is rejected. It may be out of
    date, and only the records of the wait decide.
    """
    moment = digits(asked_at) if asked_at else "0" * 16
    return f"{WAITING}{moment}/{exec_id}/{name}/{number:06d}"


def wait_answer(exec_id: str, name: str, number: int) -> str:
    return f"x/{exec_id}/wait/{name}/answer/{number:06d}"


def wait_refusal(exec_id: str, name: str, number: int) -> str:
    return f"x/{exec_id}/wait/{name}/refusal/{number:06d}"


def wait_escalation(exec_id: str, name: str, number: int) -> str:
    return f"x/{exec_id}/wait/{name}/escalation/{number:06d}"


def inboxes(exec_id: str) -> str:
    """Return the prefix of what was sent to an execution."""
    return f"x/{exec_id}/inbox/"


def signal(exec_id: str, inbox: str, number: int) -> str:
    """Return the key of a signal. Those of an inbox are numbered from 1, without a gap."""
    return f"{inboxes(exec_id)}{inbox}/{number:08d}"


def exits(exec_id: str) -> str:
    return f"x/{exec_id}/exit/"


def exit(exec_id: str, block: str) -> str:
    return f"x/{exec_id}/exit/{block}"


def frames(exec_id: str) -> str:
    return f"x/{exec_id}/frame/"


def frame(exec_id: str, block: str) -> str:
    return f"x/{exec_id}/frame/{block}"


def blob(home: str, digest: str) -> str:
    """Return the key of a large value; `home` is the prefix of its owner's keys."""
    return f"{home}blob/{digest.removeprefix('sha256:')}"


def logs(exec_id: str) -> str:
    return f"x/{exec_id}/log/"


def log_segment(exec_id: str, segment: str) -> str:
    """Return the prefix of the chunks of one run of an execution; `segment` sorts by time."""
    return f"{logs(exec_id)}{segment}/"


def beats(exec_id: str) -> str:
    return f"x/{exec_id}/beat/"


def beat(exec_id: str, segment: str, number: int) -> str:
    """Return the key of a beat of one run of an execution. Its earlier beats are deleted."""
    return f"{beats(exec_id)}{segment}/{number:08d}"


def intent(exec_id: str, id: str) -> str:
    return f"x/{exec_id}/intent/{id}"


def downloads(exec_id: str) -> str:
    return f"x/{exec_id}/download/"


def download(exec_id: str, digest: str) -> str:
    """Return the key of a copy of a value for people, by the digest of its name and content."""
    return f"{downloads(exec_id)}{digest}"


def bundle(digest: str) -> str:
    return f"bundle/{digest.removeprefix('sha256:')}"


def deployments() -> str:
    """Return the prefix of all versions of all flows."""
    return "deployment/version/"


def deployment(flow: str, number: int) -> str:
    return f"{deployments()}{flow}/{number:08d}"


def deployed_file(digest: str) -> str:
    return f"deployment/file/{digest.removeprefix('sha256:')}"


def tags(flow: str) -> str:
    return f"deployment/tag/{flow}/"


def tag(flow: str, name: str, number: int) -> str:
    """Return the key of one move of a tag; the move with the highest number is current."""
    return f"{tags(flow)}{name}/{number:08d}"


def launch(exec_id: str) -> str:
    return f"x/{exec_id}/launch"


def submission(exec_id: str, round: int, attempt: int, what: str) -> str:
    """Return the key of a run that Kitaru 0.1 started to continue an execution; see `round_part`.

    Its rounds are numbers of states.
    """
    return f"x/{exec_id}/submission/{round:08d}/{attempt:04d}/{what}"


def rounds(exec_id: str) -> str:
    """Return the prefix of the rounds of an execution."""
    return f"x/{exec_id}/round/"


def round_part(exec_id: str, round: int, what: str) -> str:
    """Return the key of a record of a round: `run`, `taken`, `closed` or `claim/0001`."""
    return f"{rounds(exec_id)}{round:06d}/{what}"


def round_claim(exec_id: str, round: int, generation: int) -> str:
    """Return the key of the claim to start a run in a round; each generation replaces the last."""
    return round_part(exec_id, round, f"claim/{generation:04d}")


def round_number(key: str) -> int:
    """Return the number of the round that a key belongs to."""
    return int(key.split("/")[3])


def open_rounds(exec_id: str) -> str:
    """Return the prefix of the hints that a round of an execution was begun and is not closed."""
    return f"{OPEN}{exec_id}/"


def open_round(exec_id: str, round: int) -> str:
    return f"{open_rounds(exec_id)}{round:06d}"


def due_now(exec_id: str) -> str:
    """Return the prefix of the hints that an execution can continue now.

    The first segment is the due moment in microseconds. A hint that means "now" contains no
    moment: a writer whose clock is ahead would hide it.
    """
    return f"{DUE}{0:016d}/{exec_id}/"


def due_now_of_all() -> str:
    """Return the prefix of the hints of all executions that can continue now."""
    return f"{DUE}{0:016d}/"


def due(exec_id: str, cause: str) -> str:
    """Return the hint for a cause. Each cause has a hint of its own, so deleting one hint cannot
    remove another."""
    return f"{due_now(exec_id)}{cause}"


def due_launch(exec_id: str) -> str:
    return due(exec_id, "l")


def due_answer(exec_id: str, wait: str, number: int) -> str:
    return due(exec_id, f"a-{wait}-{number:06d}")


def due_closed(exec_id: str, round: int) -> str:
    return due(exec_id, f"c-{round:06d}")


def due_timer(exec_id: str, wait: str, number: int, deadline: str) -> str:
    """Return the hint that a wait expires at a deadline, with answer `number`."""
    return f"{DUE}{digits(deadline)}/{exec_id}/t-{wait}-{number:06d}"


def due_ended(exec_id: str) -> str:
    """Return the hint that an execution ended: its parent and its children must hear of it."""
    return due(exec_id, "x")


def due_copy(exec_id: str) -> str:
    """Return the hint for an execution of a store that was restored from a backup."""
    return due(exec_id, "r")


def due_wait(cause: str) -> str | None:
    """Return the wait whose deadline a hint of that cause announces; None for other causes."""
    kind, _, rest = cause.partition("-")
    return rest.rpartition("-")[0] if kind == "t" else None


def due_parts(key: str) -> tuple[int, str, str]:
    """Return the moment, the execution and the cause of a hint, which may be in a queue."""
    if key.startswith(QUEUE):
        key = key.removeprefix(QUEUE)
    _, moment, exec_id, cause = key.split("/", 3)
    return int(moment), exec_id, cause


def due_truth(exec_id: str, cause: str) -> str | None:
    """Return the key of the record that a hint announces, None if there is no such record."""
    kind, _, rest = cause.partition("-")
    if kind == "l":
        return launch(exec_id)
    if kind == "a":
        wait, _, number = rest.rpartition("-")
        return wait_answer(exec_id, wait, int(number))
    if kind == "c":
        return round_part(exec_id, int(rest), "closed")
    if kind == "t":
        return wait_request(exec_id, rest.rpartition("-")[0])
    if kind == "x":
        return end(exec_id)
    return None


def news(exec_id: str) -> str:
    """Return the prefix of the hints that people must be notified of an event of an execution."""
    return f"{NEWS}{exec_id}/"


def news_asked(exec_id: str, wait: str, number: int) -> str:
    """Return the hint that a wait has no answer of that number."""
    return f"{news(exec_id)}w-{wait}-{number:06d}"


def news_escalated(exec_id: str, wait: str, number: int) -> str:
    """Return the hint that the escalation of that number of a wait is due."""
    return f"{news(exec_id)}e-{wait}-{number:06d}"


def news_failed(exec_id: str, state: int) -> str:
    """Return the hint that the state of that number is a failure."""
    return f"{news(exec_id)}f-{state:08d}"


def news_lost(exec_id: str, round: int) -> str:
    """Return the hint that no further run is started after the lost round of that number."""
    return f"{news(exec_id)}l-{round:06d}"


def news_cost(exec_id: str, usd: str) -> str:
    """Return the hint that an execution has cost more than an amount."""
    return f"{news(exec_id)}c-{part(usd)}"


def news_parts(key: str) -> tuple[str, str, str, str]:
    """Return the execution, the event, its kind and its subject of a hint of news."""
    _, exec_id, event = key.split("/", 2)
    kind, _, subject = event.partition("-")
    return exec_id, event, kind, subject


def notices(exec_id: str) -> str:
    """Return the prefix of the notifications of an execution."""
    return f"x/{exec_id}/notice/"


def notice(exec_id: str, event: str, channel: str) -> str:
    """Return the prefix of what was sent of an event through a channel."""
    return f"{notices(exec_id)}{event}/{channel}/"


def notice_try(notice: str, number: int) -> str:
    """Return the key of the record that a process is about to send a notification."""
    return f"{notice}try/{number:06d}"


def notice_failure(notice: str, number: int) -> str:
    """Return the key of the record that the try of that number failed."""
    return f"{notice}failed/{number:06d}"


def notice_end(notice: str) -> str:
    """Return the key of the record that a notification was delivered, or given up."""
    return f"{notice}end"


def unescaped(part: str) -> str:
    """Return the short text that `part` was made from."""
    return _UNESCAPE.sub(lambda found: chr(int(found[1], 16)), part)


def schedule_log(schedule: str) -> str:
    """Return the prefix of the entries of a schedule, newest first."""
    return f"schedule/{schedule}/log/"


def schedule_entry(schedule: str, number: int) -> str:
    """Return the key of an entry of a schedule; see `numbered`."""
    return numbered(schedule_log(schedule), number)


def due_tick(schedule: str, number: int, moment: str = "") -> str:
    """Return the hint to look for the entry after `number`, at a moment; default now."""
    at = digits(moment) if moment else f"{0:016d}"
    return f"{DUE}{at}/{_OF_SCHEDULE}{schedule}/s-{number:08d}"


def due_number(key: str) -> int:
    """Return the number of the entry that a hint of a schedule follows."""
    return int(key.rpartition("-")[2])


def due_schedule(exec_id: str) -> str | None:
    """Return the schedule of a hint by its second part; None for a hint of an execution."""
    found = exec_id.removeprefix(_OF_SCHEDULE)
    return None if found == exec_id else found


def event(digest: str) -> str:
    """Return the key of an event, by the digest of its name and id."""
    return f"event/id/{digest}"


def event_place(digest: str) -> str:
    """Return the key of the number of the log's entry that contains an event."""
    return f"event/place/{digest}"


def event_log() -> str:
    """Return the prefix of the entries of the log of all events, newest first."""
    return "event/log/"


def event_entry(number: int) -> str:
    """Return the key of an entry of the log of events; see `numbered`."""
    return numbered(event_log(), number)


def due_events() -> str:
    """Return the prefix of the hints of events and of entries of their log."""
    return due(OF_EVENTS, "")


def due_event(digest: str) -> str:
    """Return the hint that an event may not be in the log yet."""
    return due(OF_EVENTS, f"n-{digest}")


def due_entry(number: int) -> str:
    """Return the hint that an entry of the log may not have had all of its effects."""
    return due(OF_EVENTS, f"e-{number:08d}")


def event_shapes(name: str) -> str:
    """Return the prefix of the sets of paths by which executions wait for events of a name."""
    return f"event/shape/{part(name)}/"


def event_shape(name: str, shape: str) -> str:
    return f"{event_shapes(name)}{shape}"


def subscribers(name: str, match: str) -> str:
    """Return the prefix of the hints of waits for events of a name with certain values."""
    return f"{SUBSCRIBED}{part(name)}/{match}/"


def subscriber(name: str, match: str, exec_id: str, wait: str) -> str:
    return f"{subscribers(name, match)}{exec_id}/{wait}"


def cancelling(number: int) -> str:
    """Return the last part of the hint that an event cancels an execution; no wait is so named."""
    return f"{_CANCELS}{number:02d}"


def cancelled_by(wait: str) -> int | None:
    """Return which of an execution's patterns of events a hint is for; None for that of a wait."""
    return int(wait.removeprefix(_CANCELS)) if wait.startswith(_CANCELS) else None


def event_triggers(digest: str) -> str:
    """Return the key of the flows that events start, which entries of the log name by digest."""
    return f"event/triggers/{digest}"


def event_effects(digest: str) -> str:
    """Return the prefix of the notes of what an event did."""
    return f"event/effect/{digest}/"


def event_effect(digest: str, exec_id: str, what: str) -> str:
    """Return the key of the note of what an event did to an execution; `what` may be a wait."""
    return f"{event_effects(digest)}{exec_id}/{what}"


def limit_log(flow: str) -> str:
    """Return the prefix of the entries of a flow's limits, newest first; see `numbered`."""
    return f"limit/{part(flow)}/log/"


def queue(flow: str) -> str:
    """Return the prefix of the starts of a flow that wait for a place."""
    return f"{QUEUE}{part(flow)}/"


def queue_note(exec_id: str, round: int) -> str:
    """Return the key of the note since when a round has waited for a place."""
    return f"x/{exec_id}/queued/{round:06d}"


def queue_listed(flow: str) -> str:
    return f"{QUEUES_LISTED}{part(flow)}"


def queued(flow: str, moment: str, exec_id: str, round: int) -> str:
    """Return the key of a start that waits for a place. Its end is that of a hint; see `due`."""
    return f"{queue(flow)}{moment}/{exec_id}/q-{round:06d}"


def children(exec_id: str) -> str:
    """Return the prefix of the notes of the child executions that an execution has started."""
    return f"x/{exec_id}/child/"


def child(exec_id: str, number: int) -> str:
    """Return the key of one note. The numbers have no gap, so exact reads find all children."""
    return f"{children(exec_id)}{number:06d}"


def inputs(digest: str) -> str:
    return f"inputs/{digest.removeprefix('sha256:')}"


def audit_entry(at: str, token: str) -> str:
    """Return the key of an entry of the audit log; the newest sorts first."""
    return f"{AUDIT}{invert(at)}/{token}/entry"


def audit_failure(entry: str) -> str:
    """Return the key of the marker that the action of an entry was refused or failed."""
    return f"{entry.removesuffix('entry')}failed"


def tokens() -> str:
    """Return the prefix of the tokens of the HTTP API, and of sessions of people."""
    return f"{ACCESS}token/"


def token(id: str) -> str:
    return f"{tokens()}{id}"


def token_revoked(id: str) -> str:
    return f"{ACCESS}revoked/{id}"


def cached(code: str) -> str:
    """Return the prefix of the hints of all results of a piece of code."""
    return f"cache/{code}/"


def cache(key: str) -> str:
    """Return the key of the hint for a cache key, which is `CODE/ARGUMENTS`."""
    return f"cache/{key}"


def cache_use(exec_id: str, key: str) -> str:
    return f"x/{exec_id}/cached/{key}"


def replays(source: str) -> str:
    """Return the prefix of the markers of all replays of an execution."""
    return f"{REPLAYS}{source}/"


def replay(source: str, exec_id: str) -> str:
    """Return the key of the first marker of a replay: `exec_id` replays `source`."""
    return f"{replays(source)}{exec_id}"


def garbage(exec_id: str) -> str:
    """Return the key of the marker that an execution is about to be removed, or was."""
    return f"{GARBAGE}{exec_id}"


def backup(number: int, what: str) -> str:
    """Return the key of the marker that a backup into the store has `begun`, or is `complete`."""
    return f"{BACKUP}{number:08d}/{what}"


def joined(exec_id: str) -> str:
    """Return the key of the marker that further processes, not only the first, run an execution."""
    return f"x/{exec_id}/joined"


def index(started_at: str, exec_id: str, number: int, status: str, flow: str) -> str:
    """Return the listing hint of one state. All states of an execution are adjacent, newest start
    first, so that a page of executions is one range scan."""
    return f"{INDEX}{invert(started_at)}/{exec_id}/{number:08d}/{status}/{flow}"


def indexed(started_at: str, exec_id: str) -> str:
    """Return the prefix of the listing hints of an execution."""
    return f"{started_before(started_at)}{exec_id}/"


def started_before(moment: str) -> str:
    """Return the key that precedes the hints of executions that started before a moment."""
    return f"{INDEX}{invert(moment)}/"


def memory(kind: str, name: str) -> str:
    """Return the prefix of a memory's scope; that of an execution is deleted with it."""
    return f"{home(name)}memory/" if kind == "execution" else f"memory/{kind}/{name}/"


def dry_run_memory(exec_id: str, kind: str, name: str) -> str:
    """Return the prefix of what a dry run wrote to a scope; it is deleted with the execution."""
    return f"{home(exec_id)}memory/dry-run/{kind}/{name}/"


def memory_origin(scope: str, key: str) -> str:
    """Return the key of the number of the version that a dry run's writes of a key follow."""
    return f"{scope}origin/{_escaped(key)}"


def memory_scope(key: str) -> tuple[str, str]:
    """Return kind and name of the scope of a key below `MEMORY`."""
    _, kind, name, _ = key.split("/", 3)
    return kind, name


def memory_keys(scope: str) -> str:
    return f"{scope}key/"


def memory_home(scope: str, key: str) -> str:
    """Return the prefix of the versions and large values of one key."""
    return f"{memory_keys(scope)}{_escaped(key)}/"


def memory_versions(scope: str, key: str) -> str:
    return f"{memory_home(scope, key)}version/"


def memory_version(scope: str, key: str, number: int) -> str:
    """Return the key of one version; newer versions sort first, so `limit=1` finds the newest."""
    return numbered(memory_versions(scope, key), number)


def memory_marks(scope: str, prefix: str) -> str:
    """Return the prefix of the marks of all keys that start with `prefix`."""
    return f"{scope}mark/{_escaped(prefix)}"


def memory_mark(scope: str, key: str, number: int, status: str) -> str:
    """Return the listing hint of a version that gave a key its first value or deleted it."""
    return f"{memory_marks(scope, key)}/{LAST_VERSION - number:08d}/{status}"


def is_version(key: str) -> bool:
    """Return whether the object at `key` is a version, not another object of a memory."""
    return key.split("/")[-2] == "version"


def version_number(key: str) -> int:
    """Return the number of the version at `key`."""
    return LAST_VERSION - int(key.rpartition("/")[2])


def marked(scope: str, mark: str) -> tuple[str, str]:
    """Return the memory's key and the status of a mark."""
    escaped, _, status = mark.removeprefix(f"{scope}mark/").split("/")
    return unescaped(escaped), status


def adapter(name: str) -> str:
    """Return the prefix of what the adapter of a harness stores outside of executions."""
    return f"{ADAPTERS}{name}/"


def budget(flow: str, day: str, unit: str) -> str:
    """Return the prefix of the chunks of a flow's budget that are taken, for a day such as
    2026-11-30.
    """
    return f"{BUDGET}{part(flow)}/{day}/{unit}/"


def budget_day(key: str) -> str:
    """Return the day of the chunk at `key`."""
    return key.split("/")[2]


def quota(model: str, window: int) -> str:
    """Return the prefix of the chunks of a model's quota that are taken in a window of time."""
    return f"{QUOTA}{part(model)}/{window}/"


def part(text: str) -> str:
    """Return any text as one segment: escaped, or its digest if it is long. No two are equal."""
    if not text:
        return ".empty"
    escaped = "".join(
        char
        if _ESCAPE.match(char) is None
        else "".join(f".{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
        for char in text
    )
    if len(escaped) <= _LONGEST_PART:
        return escaped
    return f".h{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def newest_first(id: str) -> str:
    """Return an id whose order is its age as a segment that sorts the other way round."""
    # The last letter sorts after all digits, as the shorter of two ids with one start must.
    return "".join(f"{255 - byte:02x}" for byte in id.encode()) + "z"


def numbered(home: str, number: int) -> str:
    """Return the key of a version below `home`; newer versions sort first."""
    return f"{home}{LAST_VERSION - number:08d}"


def _escaped(key: str) -> str:
    """Return an escaped key as one segment; a prefix of a key is escaped to a prefix."""
    return _ESCAPE.sub(lambda found: f".{ord(found[0]):02x}", key)
