"""Starts the processes that train together, one per GPU.

Not by torchrun, because a supervisor counts on the exit code and on SIGTERM leaving time to save.
"""

import os
import signal
import subprocess
import sys
import tempfile

STOPPED = 143


def launch(count: int, arguments: list[str]) -> int:
    """Runs this program `count` times and answers how it ended: the first failure ends all."""
    with tempfile.TemporaryDirectory(prefix="sage-peft-") as folder:
        processes: list[subprocess.Popen] = []

        def forward(number, _frame):
            for process in processes:
                if process.returncode is None:
                    os.kill(process.pid, number)

        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGINT, forward)
        for rank in range(count):
            environment = {
                **os.environ,
                "SAGE_PEFT_RANK": str(rank),
                "SAGE_PEFT_MEETING": os.path.join(folder, "meeting"),
                "SAGE_PEFT_FIRST_ERROR": os.path.join(folder, "first-error"),
            }
            processes.append(
                subprocess.Popen([sys.executable, "-s", "-P", "-m", "sage_peft", *arguments], env=environment)
            )
        result = 0
        while any(process.returncode is None for process in processes):
            pid, status = os.wait()
            for process in processes:
                if process.pid == pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    result = result if result not in (0, STOPPED) else process.returncode or result
            if result not in (0, STOPPED):
                for process in processes:
                    if process.returncode is None:
                        os.kill(process.pid, signal.SIGKILL)
        # A signal that killed one, as a shell says it.
        return 128 - result if result < 0 else result
