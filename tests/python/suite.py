"""Python's etcd3 package against a server on 127.0.0.1: usage: suite.py <port>

Each check uses keys of its own, prints its name when it holds, and raises otherwise. The server
must be fresh.
"""

import hashlib
import io
import queue
import sys
import threading
import time

import etcd3
from etcd3 import etcdrpc

LIMIT_SECONDS = 20


def connect():
    return etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=LIMIT_SECONDS)


def collect(client, count, key, **options):
    """Starts a watch; the returned function waits for `count` events."""
    arrived = queue.Queue()

    def callback(response):
        if isinstance(response, Exception):
            arrived.put(response)
            return
        for event in response.events:
            arrived.put(event)

    watch_id = client.add_watch_callback(key, callback, **options)

    def wait():
        events = []
        for _ in range(count):
            event = arrived.get(timeout=LIMIT_SECONDS)
            if isinstance(event, Exception):
                raise event
            events.append((type(event).__name__, event.key, event.value, event))
        client.cancel_watch(watch_id)
        return events

    return wait


def check_kv(client):
    client.put("kv/a", "1")
    client.put("kv/b", "2")
    previous = client.put("kv/a", "10", prev_kv=True)
    assert previous.prev_kv.value == b"1"
    value, meta = client.get("kv/a")
    assert value == b"10" and meta.version == 2 and meta.mod_revision == previous.header.revision
    assert [v for v, _ in client.get_prefix("kv/")] == [b"10", b"2"]
    down = client.get_prefix("kv/", sort_order="descend", sort_target="key")
    assert [m.key for _, m in down] == [b"kv/b", b"kv/a"]
    assert [m.key for _, m in client.get_range("kv/b", "kv/c")] == [b"kv/b"]
    assert client.get_prefix_response("kv/").count == 2
    assert client.get("kv/none") == (None, None)
    assert client.delete("kv/a") is True
    assert client.delete("kv/a") is False
    assert client.delete_prefix("kv/").deleted == 1


def check_txn(client):
    tx = client.transactions
    client.put("txn/k", "old")
    swap = dict(
        compare=[tx.value("txn/k") == "old", tx.version("txn/k") > 0, tx.create("txn/none") == 0],
        success=[tx.put("txn/k", "new"), tx.get("txn/k")],
        failure=[tx.delete("txn/k")],
    )
    succeeded, answers = client.transaction(**swap)
    assert succeeded and answers[1][0][0] == b"new", answers
    succeeded, _ = client.transaction(**swap)
    assert not succeeded and client.get("txn/k") == (None, None)
    assert client.put_if_not_exists("txn/k", "1") is True
    assert client.put_if_not_exists("txn/k", "2") is False
    assert client.replace("txn/k", "1", "3") is True
    assert client.get("txn/k")[0] == b"3"


def check_watch_past(client):
    first = client.put("past/a", "1").header.revision
    client.put("past/a", "2")
    wait = collect(client, 4, "past/", range_end="past0", start_revision=first + 1)
    client.put("past/b", "live")
    client.put("elsewhere", "x")
    client.delete("past/a")
    client.put("past/c", "end")
    events = [event[:3] for event in wait()]
    assert events == [
        ("PutEvent", b"past/a", b"2"),
        ("PutEvent", b"past/b", b"live"),
        ("DeleteEvent", b"past/a", b""),
        ("PutEvent", b"past/c", b"end"),
    ], events


def check_watch_prev_kv(client):
    client.put("prev/a", "1")
    wait = collect(client, 3, "prev/a", prev_kv=True)
    client.put("prev/a", "2")
    client.delete("prev/a")
    client.put("prev/a", "3")
    changed, deleted, created = [event[3] for event in wait()]
    assert changed.prev_value == b"1"
    assert deleted.prev_value == b"2" and deleted.value == b""
    assert created.prev_value == b"" and created.version == 1


def check_watch_filters(client):
    # etcd3 0.12 assigns to a repeated field when it is given filters, so its stub is used here.
    for filtered, expected in [(0, [1, 1]), (1, [0, 0])]:
        key = b"filter/%d" % filtered
        requests = queue.Queue()
        create = etcdrpc.WatchCreateRequest(key=key, filters=[filtered])
        requests.put(etcdrpc.WatchRequest(create_request=create))
        call = client.watcher._watch_stub.Watch(iter(requests.get, None), timeout=LIMIT_SECONDS)
        assert next(call).created
        for _ in range(2):
            client.put(key, "v")
            client.delete(key)
        kinds = []
        while len(kinds) < 2:
            kinds.extend(event.type for event in next(call).events)
        assert kinds == expected, kinds
        call.cancel()
        requests.put(None)


def check_watch_compacted(client):
    client.put("compacted/a", "1")
    revision = client.put("compacted/a", "2").header.revision
    client.compact(revision, physical=True)
    wait = collect(client, 1, "compacted/a", start_revision=revision - 1)
    try:
        wait()
    except etcd3.exceptions.RevisionCompactedError as error:
        assert error.compacted_revision == revision
    else:
        raise AssertionError("no compaction error")


def check_lease(client):
    lease = client.lease(3)
    client.put("lease/a", "v", lease=lease)
    assert lease.granted_ttl == 3 and list(lease.keys) == [b"lease/a"]
    wait = collect(client, 1, "lease/a")
    start = time.monotonic()
    assert [answer.TTL for answer in lease.refresh()] == [3]
    kind, key, value, _ = wait()[0]
    assert (kind, key, value) == ("DeleteEvent", b"lease/a", b"")
    assert time.monotonic() - start >= 3, "expired early"
    assert lease.remaining_ttl == -1
    assert [answer.TTL for answer in lease.refresh()] == [0]
    other = client.lease(600)
    client.put("lease/b", "v", lease=other)
    other.revoke()
    assert client.get("lease/b") == (None, None)


def check_errors(client):
    for call, text in [
        (lambda: client.put("", "v"), "key is not provided"),
        (lambda: client.revoke_lease(404), "requested lease not found"),
        (lambda: client.compact(10**9), "required revision is a future revision"),
    ]:
        try:
            call()
        except Exception as error:  # etcd3 passes most gRPC errors on as they are
            assert text in str(error), error
        else:
            raise AssertionError("no error: " + text)


def check_maintenance(client):
    status = client.status()
    assert status.version.startswith("3.") and status.db_size > 0 and status.leader.id
    assert [member.name for member in client.members] == ["default"]
    assert list(client.list_alarms()) == []
    client.defragment()
    client.hash()
    image = io.BytesIO()
    client.snapshot(image)
    body, digest = image.getvalue()[:-32], image.getvalue()[-32:]
    assert len(body) % 512 == 0 and hashlib.sha256(body).digest() == digest


def check_threads(client):
    def count_up():
        for _ in range(50):
            while True:
                value, _ = client.get("threads/n")
                if client.replace("threads/n", value, str(int(value) + 1)):
                    break

    client.put("threads/n", "0")
    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("threads/n")[0] == b"200"


def main():
    checks = [(name, check) for name, check in globals().items() if name.startswith("check_")]
    for name, check in checks:
        client = connect()
        check(client)
        print(name, "ok")
        client.close()
    print(len(checks), "checks, all passed")


main()
