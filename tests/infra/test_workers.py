"""A worker whose parent is killed ends by itself."""

import subprocess
import sys

import psutil

PARENT = """
import multiprocessing, time
from infra.workers import end_with_parent

def work(connection):
    end_with_parent()
    connection.send(multiprocessing.current_process().pid)
    time.sleep(60)

if __name__ == "__main__":
    here, there = multiprocessing.get_context("fork").Pipe()
    multiprocessing.get_context("fork").Process(target=work, args=(there,)).start()
    print(here.recv(), flush=True)
    time.sleep(60)
"""


def test_a_worker_ends_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs([worker], timeout=10)
    for process in left:
        process.kill()
    assert not left
