"""`python -m sage_peft --recipe FILE --model DIR --data FILE --output DIR`, as `sage peft` runs it."""

import argparse
import errno
import logging
import os
import signal
import sys
import traceback
import warnings

from .events import Events, Stopped, TrainingError, keep_printing
from .launch import STOPPED, launch

FAILED = 1


class Stop:
    """Turns true on SIGTERM and SIGINT. A second Ctrl-C ends the program at once."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number, _frame):
        if self.asked and number == signal.SIGINT:
            os._exit(STOPPED)
        self.asked = True

    def __bool__(self):
        return self.asked


def main() -> int:
    parser = argparse.ArgumentParser(prog="sage_peft")
    for name in ("recipe", "model", "data", "output"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    count = int(os.environ.get("SAGE_GPUS", "1"))
    rank = os.environ.get("SAGE_PEFT_RANK")
    if count > 1 and rank is None:
        return launch(count, sys.argv[1:])

    keep_printing()
    stop = Stop()
    os.makedirs(arguments.output, exist_ok=True)
    events = Events(arguments.output, speaks=rank in (None, "0"))
    # Before torch is loaded; the older name is for versions below 2.9.
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        os.environ.setdefault(name, "expandable_segments:True")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Everything is on this machine by now.
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    # What libraries will change one day is not the reader's business.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    try:
        from .train import Run

        Run(arguments, events, stop).train()
        return 0
    except Stopped:
        return STOPPED
    except TrainingError as error:
        events.error(error.code, error.zh, error.en)
    except OSError as error:
        code = "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "file-error"
        path = error.filename or arguments.output
        events.error(code, f"无法使用 {path}：{error.strerror}", f"{path} cannot be used: {error.strerror}")
    except (RuntimeError, MemoryError) as error:
        return unexpected(error, events)
    return FAILED


def unexpected(error: BaseException, events: Events) -> int:
    from . import memory

    code = memory.ran_out(error)
    if code is None:
        # Not raised further: libraries of a broken group may never let the program end by itself.
        traceback.print_exception(error)
        return FAILED
    import torch

    if torch.cuda.is_available():
        events.report("memory", **memory.peaks(torch.device("cuda", torch.cuda.current_device())))
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if code == "out-of-device-memory":
        events.error(code, f"显存不足：{said}", f"the device's memory ran out: {said}")
    else:
        events.error(code, f"内存不足：{said}", f"the host's memory ran out: {said}")
    return FAILED


if __name__ == "__main__":
    result = main()
    sys.stdout.flush()
    # Other processes may be gone, and libraries wait for them on the way out.
    os._exit(result)
