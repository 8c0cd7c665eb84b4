"""python -m opsybed.show --port N: prints the images and the groups of nodes of an account as tables."""

import argparse

from bedkit.client import call


def table(titles: tuple[str, ...], rows: list[tuple]) -> str:
    texts = [titles, *[tuple("-" if c in (None, "") else str(c) for c in row) for row in rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(titles))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in texts
    )


def image_rows(state: dict, every: bool) -> list[tuple]:
    used: dict[str, list[str]] = {}
    for instance in state["instances"]:
        if instance["state"] == "running":
            used.setdefault(instance["image"], []).append(instance["id"])
    return [
        (
            i["id"],
            i["name"],
            i["state"],
            i["tags"].get("status"),
            i["tags"].get("base-ami"),
            i["created"][:19],
            (i["deprecation_time"] or "")[:16],
            len(used.get(i["id"], [])),
        )
        for i in state["images"]
        if every or i["owner"] == state["account"]
    ]


def group_rows(state: dict) -> list[tuple]:
    rows = []
    for group in state["node_groups"]:
        images = sorted(
            i["image"]
            for i in state["instances"]
            if i["node_group"] == group["name"] and i["state"] == "running"
        )
        template = group["launch_template"] or {}
        nodes = ", ".join(f"{images.count(i)} on {i}" for i in dict.fromkeys(images))
        rows.append(
            (
                group["name"],
                group["status"],
                group["ami_type"],
                group["release_version"],
                f"{template['name']}:{template['version']}" if template else None,
                nodes,
            )
        )
    return rows


def scaling_rows(state: dict) -> list[tuple]:
    """Return the self-managed groups: versions of the template, and the last refresh."""
    rows = []
    for group in state["auto_scaling_groups"]:
        if "eks:nodegroup-name" in group["tags"]:
            continue
        policy = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
        spec = group.get("LaunchTemplate") or policy.get("LaunchTemplateSpecification") or {}
        last = group["refreshes"][0] if group["refreshes"] else {}
        running = [i for i in group["instances"] if not i["state"].startswith("Terminating")]
        versions = [i["version"] for i in running]
        nodes = ", ".join(f"{versions.count(v)} on {v}" for v in sorted(set(versions)))
        progress = f"{last['Status']} {last['PercentageComplete']} %" if last else None
        template = f"{spec.get('LaunchTemplateName')}:{spec.get('Version') or '$Default'}" if spec else None
        rows.append((group["name"], template, nodes, progress, last.get("StatusReason")))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="opsybed.show")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--account", default="123456789012")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--all", action="store_true", help="include images of other owners")
    asked = parser.parse_args()
    query = f"account={asked.account}&region={asked.region}"
    state = call(f"http://127.0.0.1:{asked.port}", "GET", f"state?{query}")
    titles = ("IMAGE", "NAME", "STATE", "STATUS", "BASE", "CREATED", "DEPRECATED", "NODES")
    print(table(titles, image_rows(state, asked.all)))
    print()
    titles = ("NODE GROUP", "STATUS", "AMI TYPE", "RELEASE VERSION", "LAUNCH TEMPLATE", "NODES")
    print(table(titles, group_rows(state)))
    print()
    titles = ("SELF-MANAGED GROUP", "LAUNCH TEMPLATE", "NODES", "REFRESH", "REASON")
    print(table(titles, scaling_rows(state)))


if __name__ == "__main__":
    main()
