import subprocess
import sys

# In a process of its own: one that has held more before may have kept the room.
PROGRAM = """
import torch
from mixgrpo_engine.memory.in_use import in_use

before = in_use(torch.device("cpu"))
held = torch.ones(50_000_000)  # 200 MB
during = in_use(torch.device("cpu"))
assert during["now"] - before["now"] > 100e6 and during["peak"] >= during["now"], (before, during)
del held
after = in_use(torch.device("cpu"))
assert after["now"] < during["now"] - 100e6 and after["peak"] > during["now"] - 10e6, (during, after)
"""


def test_a_process_on_the_cpu_tells_what_it_holds_and_has_held():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
