"""An emulated AWS for tests and the demonstration: moto, corrected and extended in-process.

A request travels: server (HTTP) -> app (faults, journal, lock) -> moto's own
application, whose response classes are replaced by the ones in ec2_*, eks*, ssm
and sts. Everything under /_bed is the control interface (control).
"""
