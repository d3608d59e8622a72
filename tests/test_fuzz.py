"""A small sample of `make fuzz`."""

import json
import os
import random
import time

import pytest

from tests import fuzz


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_sample(kind):
    outcome = fuzz.fuzz(kind, 0, 150, seed=0)
    assert outcome.failures == []
    assert sum(outcome.ends.values()) == 150
    # Some are read and some are refused: else the changes are too weak, or too strong to matter.
    assert outcome.ends["read"] >= 5
    assert 150 - outcome.ends["read"] >= 5


def test_cases_are_the_same_each_time():
    content = json.dumps({"images": [{"id": 1}], "annotations": []}).encode()
    first = [fuzz.mutated(content, random.Random(f"0/coco/{number}")) for number in range(50)]
    again = [fuzz.mutated(content, random.Random(f"0/coco/{number}")) for number in range(50)]
    assert first == again
    assert len(set(first)) > 40


READS = []


def sound_once(wrong):
    """Nothing on the process's first read, of the sound file; then what is wrong."""
    READS.append(1)
    return None if len(READS) == 1 else wrong()


def crash(folder, changed):
    sound_once(lambda: os._exit(7))


def hang(folder, changed):
    sound_once(lambda: time.sleep(60))


def grow(folder, changed):
    sound_once(lambda: bytes(bytearray(1) * (fuzz.MEGABYTES + 200) * 2**20))


def leak(folder, changed):
    sound_once(lambda: {}["undocumented"])


def anonymous(folder, changed):
    sound_once(lambda: int("names no file"))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (crash, "process ended with 7"),
        (hang, "longer than 2 s"),
        (grow, "MB more than the sound files"),
        (leak, "KeyError: 'undocumented'"),
        (anonymous, "names no file"),
    ],
)
def test_every_wrong_end_is_seen(monkeypatch, read, message):
    # The others may take long where other programs run.
    monkeypatch.setattr(fuzz, "SECONDS", 2 if read is hang else 60)
    outcome = fuzz.fuzz("faulty", 0, 1, 0, functions=(fuzz.csv_files, read))
    ((number, text),) = outcome.failures
    assert number == 0
    assert message in text
