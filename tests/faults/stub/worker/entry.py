"""In the place of the pack's script: a worker that hears its orders and dies without a word."""

import sys

sys.stdin.buffer.read()
