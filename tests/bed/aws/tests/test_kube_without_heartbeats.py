"""A node without heartbeats in a connected cluster; the name of this file makes it run after most others."""

from connected import ready

from bedkit.wait import until


def test_a_node_without_heartbeats_becomes_unknown_until_they_return(silent):
    def batch() -> tuple[str, str]:
        return ready(silent.nodes("batch")[0])

    until("Unknown", lambda: batch() == ("Unknown", "NodeStatusUnknown"))
    # the others had heartbeats meanwhile
    assert {ready(n)[0] for group in ("web", "system") for n in silent.nodes(group)} == {"True"}
    silent.bed.control("POST", "node", name=silent.known(group="batch")[0]["name"], heartbeat=True)
    silent.settle()
    assert batch()[0] == "True"
