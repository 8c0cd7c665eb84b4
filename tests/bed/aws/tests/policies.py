"""An account with the policies of deploy/iam: the agent, Packer and an administrator, with their usual calls."""

from awsclient import Bed
from opsybed.iam_files import documents

BUILD = {"opsy.dev/build": "b-1", "opsy.dev/owner": "me"}
TOPIC, SENDER = "opsy", "opsy@example.com"


def specs(*kinds: str, tags: dict | None = None) -> list[dict]:
    pairs = [{"Key": k, "Value": v} for k, v in (tags or BUILD).items()]
    return [{"ResourceType": kind, "Tags": pairs} for kind in kinds]


def pairs(tags: dict) -> list[dict]:
    return [{"Key": k, "Value": v} for k, v in tags.items()]


class Account:
    """Three keys of one account: `agent` and `packer` with their policies, and `root` without one."""

    def __init__(self, server: dict, root: Bed, region: str = "us-east-1") -> None:
        self.root, self.ids = root, root.control("POST", "seed", region=region)
        self.agent, self.packer = Bed(server, root.account), Bed(server, root.account)
        self.agent.access_key = f"AKIA{root.account}AGNT"
        self.packer.access_key = f"AKIA{root.account}PACK"
        self.region = region
        root.client("sns").create_topic(Name=TOPIC)
        root.client("sesv2").create_email_identity(EmailIdentity="example.com")

    def close(self) -> None:
        self.agent.release()
        self.packer.release()

    def restrict(
        self,
        agent: tuple[str, ...] = (),
        build: tuple[str, ...] = (),
        without: tuple[str, ...] = (),
        **values,
    ) -> None:
        """Attach the policies of the keys, except for the statements in `without`."""
        for bed, user, first, more in (
            (self.agent, "agent", "agent.json", agent),
            (self.packer, "packer", "build.json", build),
        ):
            files = [first, *(f"optional/{name}.json" for name in more)]
            values = {"VPC": self.ids["vpc"], **values}
            policies = documents(files, self.root.account, self.region, values)
            for policy in policies:
                policy["Statement"] = [s for s in policy["Statement"] if s["Sid"] not in without]
            bed.control("POST", "policy", access_key=bed.access_key, user=user, documents=policies)

    @property
    def topic(self) -> str:
        return f"arn:aws:sns:us-east-1:{self.root.account}:{TOPIC}"

    def snapshot_of(self, image: str) -> str:
        return next(s["id"] for s in self.root.state()["snapshots"] if s["image"] == image)

    def instance(self, bed: Bed, tags: dict | None = None, **more) -> str:
        """Launch an instance as a current Packer does, with other tags if `tags` is given."""
        asked = {"TagSpecifications": specs("instance", "volume", "network-interface", tags=tags)}
        answer = bed.client("ec2").run_instances(
            ImageId=self.ids["base_images"]["v20260801"],
            MinCount=1,
            MaxCount=1,
            InstanceType="m6i.large",
            **({} if tags == {} else asked),
            **more,
        )
        return answer["Instances"][0]["InstanceId"]

    def build(self, name: str, tags: dict | None = None) -> str:
        """Make a current Packer's calls for one image, including the deletion of its temporary resources."""
        ec2, tags = self.packer.client("ec2"), {**BUILD, **(tags or {})}
        key = ec2.create_key_pair(
            KeyName=f"packer_{name}", TagSpecifications=specs("key-pair", tags=tags)
        )["KeyName"]
        group = ec2.create_security_group(
            GroupName=f"packer_{name}",
            Description="Temporary group for Packer",
            VpcId=self.ids["vpc"],
            TagSpecifications=specs("security-group", tags=tags),
        )["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.0.0.0/8"
        )
        instance = self.instance(self.packer, tags, KeyName=key, SecurityGroupIds=[group])
        ec2.stop_instances(InstanceIds=[instance])
        image = ec2.create_image(
            InstanceId=instance, Name=name, TagSpecifications=specs("image", "snapshot", tags=tags)
        )["ImageId"]
        ec2.modify_image_attribute(ImageId=image, Description={"Value": "words"})
        snapshot = self.snapshot_of(image)
        ec2.create_tags(Resources=[image, snapshot], Tags=pairs({**tags, "Name": name}))
        ec2.create_tags(Resources=[snapshot], Tags=pairs({"kind": "root"}))
        ec2.terminate_instances(InstanceIds=[instance])
        ec2.delete_security_group(GroupId=group)
        ec2.delete_key_pair(KeyName=key)
        return image

    def roll(self, group: str, image: str) -> None:
        """Make the agent's calls that roll out an image to one node group."""
        template = self.ids["node_groups"][group]["launch_template"]["id"]
        made = self.agent.client("ec2").create_launch_template_version(
            LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
        )
        number = str(made["LaunchTemplateVersion"]["VersionNumber"])
        self.agent.client("eks").update_nodegroup_version(
            clusterName="demo", nodegroupName=group, launchTemplate={"id": template, "version": number}
        )
