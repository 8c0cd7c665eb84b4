"""chatbed: where notifications go, on loopback, with the rules and the faults of the real places.

A request goes through server (HTTP), app (faults, journal, one lock) and one of
the parts: slack (Web API), hooks (incoming webhooks), discord, receiver. They
write into world; control reads and changes it.
"""
