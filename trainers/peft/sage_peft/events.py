"""What the trainer says: metrics.jsonl for the studio, lines of log for people, errors with a code."""

import errno
import io
import json
import math
import os
import sys
import time


class TrainingError(Exception):
    """A failure that people can meet; docs/errors/<code>.md explains it."""

    def __init__(self, code: str, zh: str, en: str):
        super().__init__(text(zh, en))
        self.code, self.zh, self.en = code, zh, en


class Stopped(Exception):
    """SIGTERM or SIGINT came."""


class LossyFile(io.FileIO):
    """What does not fit on the disk is not there; a training that could still save goes on."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return len(data)
            raise


def keep_printing():
    """Whoever prints, libraries included, need not fear a full disk."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        lossy = io.BufferedWriter(LossyFile(stream.fileno(), "wb", closefd=False))
        setattr(sys, name, io.TextIOWrapper(lossy, encoding="utf-8", errors="backslashreplace", line_buffering=True))


def text(zh: str, en: str) -> str:
    return zh if os.environ.get("SAGE_LANG", "en").lower().startswith("zh") else en


class Events:
    """Only the first of several processes reports how training goes; any may report why it fails."""

    def __init__(self, output: str, speaks: bool):
        self.path = os.path.join(output, "metrics.jsonl")
        self.speaks = speaks

    def report(self, event: str, **figures):
        if self.speaks:
            self._write({"event": event, **figures})

    def say(self, zh: str, en: str):
        if self.speaks:
            print(time.strftime("[%H:%M:%S]"), text(zh, en), flush=True)

    def error(self, code: str, zh: str, en: str):
        """Where several processes fail, the first says why; the others only lost it."""
        marker = os.environ.get("SAGE_PEFT_FIRST_ERROR")
        if marker:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        print(f"{text('错误', 'error')}[{code}]: {text(zh, en)}", flush=True)
        self._write({"event": "error", "code": code, "message": en, "message_zh": zh})

    def _write(self, event: dict):
        # JSON has no infinities.
        event = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in event.items()}
        line = json.dumps(event, ensure_ascii=False) + "\n"
        try:
            # One write, so that a line is whole or not there.
            with open(self.path, "ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            # A full disk must not end a training that could still save.
            print(f"metrics.jsonl: {error}", flush=True)
