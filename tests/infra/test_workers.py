"""A worker whose parent is killed ends by itself."""

import subprocess
import sys

PARENT = """
import multiprocessing, time
from infra.workers import end_with_parent

def work(connection):
    end_with_parent()
    connection.send("begun")
    time.sleep(8)
    print("an orphan", flush=True)

if __name__ == "__main__":
    here, there = multiprocessing.get_context("fork").Pipe()
    multiprocessing.get_context("fork").Process(target=work, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(8)
"""


def test_a_worker_ends_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    assert parent.stdout.read() == ""  # closed when the worker, too, is gone
    parent.wait()
