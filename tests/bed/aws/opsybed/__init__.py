"""An emulated AWS for tests and the demonstration: moto, corrected and extended in-process.

The path of a request: server (HTTP) -> app (faults, journal, lock) -> moto's own
application, whose response classes are replaced by those of this package (see
install). Everything under /_bed is the control interface (control).
"""

import sys
from pathlib import Path

# this directory contains bedkit
sys.path.append(str(Path(__file__).resolve().parents[2]))
