"""Processes that share a secret come to the same keys without a word, and cannot go back."""

from __future__ import annotations

from shm.ratchet import EPOCH_NS, SECRET_BYTES, Ratchet


def test_whoever_was_told_earlier_or_later_has_the_same_keys() -> None:
    first = Ratchet.drawn(7 * EPOCH_NS + 5)
    assert first.epoch == 7 and len(first.secret) == SECRET_BYTES
    later = first.at(8 * EPOCH_NS)
    for now_ns in (8 * EPOCH_NS, 9 * EPOCH_NS - 1, 11 * EPOCH_NS, 800 * EPOCH_NS):
        assert first.at(now_ns) == later.at(now_ns)
        assert first.at(now_ns).key("a", 80) == later.at(now_ns).key("a", 80)


def test_within_an_epoch_nothing_changes_and_time_does_not_go_back() -> None:
    first = Ratchet.drawn(7 * EPOCH_NS)
    assert first.at(8 * EPOCH_NS - 1) is first
    assert first.at(0) is first


def test_keys_differ_by_purpose_epoch_and_instance() -> None:
    first = Ratchet.drawn(0)
    keys = [
        one.key(purpose, 80) for one in (first, first.at(EPOCH_NS), Ratchet.drawn(0)) for purpose in ("a", "b", "a\0b")
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 80 for key in keys)
    assert first.secret not in keys[0] and first.at(EPOCH_NS).secret != first.key("next", SECRET_BYTES)


def test_a_secret_is_not_shown() -> None:
    ratchet = Ratchet.drawn(0)
    assert ratchet.secret.hex() not in repr(ratchet) and repr(ratchet.secret) not in repr(ratchet)
