"""chatbed: emulated destinations of notifications on loopback, with the rules and failures of the real ones.

The path of a request: bedkit.server (HTTP) -> app (faults, journal, one lock) -> one of
slack (Web API), hooks (incoming webhooks), discord and receiver. These modules
write to world; control reads and changes it.
"""

import sys
from pathlib import Path

# this directory contains bedkit
sys.path.append(str(Path(__file__).resolve().parents[2]))
