"""EC2 launch templates: inheritance, client tokens, paging, and deletion of versions.

moto indexes versions by number, so a deleted version stays in the list, marked.
"""

import copy
import json

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec, parse_user_data

from . import staleness
from .ec2_instances import remembered
from .filters import select, tag_value, tags_of
from .paging import ec2_page
from .wire import AwsError
from .world import world

# AWS's limits for VersionDescription and for the versions in one delete call
LONGEST_DESCRIPTION = 255
MOST_DELETIONS = 200


class TemplateOperations(EC2Response):
    def create_launch_template(self):
        account = world.account(self.current_account)
        key, fingerprint = self._token("CreateLaunchTemplate")
        if key[1] and key in account.tokens:
            return ActionResult(remembered(account, key, fingerprint))
        tags = convert_tag_spec(self._get_param("TagSpecifications", []))
        self.error_on_dryrun()
        template = self.ec2_backend.create_launch_template(
            self._get_param("LaunchTemplateName"),
            self._description(),
            self._data(),
            tags,
        )
        template.create_time = template.versions[0].create_time = account.clock.now()
        result = {"LaunchTemplate": self._describe_template(template)}
        if key[1]:
            account.tokens[key] = (fingerprint, result)
        return ActionResult(result)

    def create_launch_template_version(self):
        account = world.account(self.current_account)
        template = self._template()
        key, fingerprint = self._token("CreateLaunchTemplateVersion")
        if key[1] and key in account.tokens:
            return ActionResult(remembered(account, key, fingerprint))
        data = self._data()
        source = self._get_param("SourceVersion")
        if source:
            data = inherit(template.get_version(source).data, data)
        _refuse_alias(self._get_param("ResolveAlias"), [data])
        if len(live_versions(template)) >= account.settings.template_versions_limit:
            raise AwsError(
                "VersionLimitExceeded",
                "You have reached the maximum number of versions of launch template "
                f"{template.id}. Delete versions that you do not use, and try again.",
            )
        self.error_on_dryrun()
        version = template.create_version(data, self._description())
        version.create_time = account.clock.now()
        staleness.made("versions", (template.id, version.number))
        result = {"LaunchTemplateVersion": self._describe_version(version)}
        if key[1]:
            account.tokens[key] = (fingerprint, result)
        return ActionResult(result)

    def _token(self, operation: str) -> tuple[tuple[str, str], str]:
        key = (f"ec2:{self.region}:{operation}", self._get_param("ClientToken") or "")
        return key, json.dumps(world.call.params, sort_keys=True, default=str)

    def _description(self) -> str:
        text = self._get_param("VersionDescription") or ""
        if len(text) > LONGEST_DESCRIPTION:
            raise AwsError(
                "InvalidParameterValue",
                f"The version description is longer than {LONGEST_DESCRIPTION} characters.",
            )
        return text

    def _data(self) -> dict:
        data = dict(self._get_param("LaunchTemplateData") or {})
        if data.get("UserData") is not None:
            data["UserData"] = parse_user_data(data["UserData"])
        return data

    def _template(self) -> LaunchTemplate:
        template_id, name = (
            self._get_param("LaunchTemplateId"),
            self._get_param("LaunchTemplateName"),
        )
        if bool(template_id) == bool(name):
            raise AwsError(
                "InvalidParameterCombination" if name else "MissingParameter",
                "Either provide launch template ID or launch template name in the request.",
            )
        if name:
            return self.ec2_backend.get_launch_template_by_name(name)
        return self._template_by_id(template_id)

    def _template_by_id(self, template_id: str) -> LaunchTemplate:
        if not template_id.startswith("lt-"):
            raise AwsError(
                "InvalidLaunchTemplateId.Malformed",
                f"The launch template ID '{template_id}' is not valid.",
            )
        return self.ec2_backend.get_launch_template(template_id)

    def describe_launch_templates(self):
        ids, names = (
            self._get_param("LaunchTemplateIds", []),
            self._get_param("LaunchTemplateNames", []),
        )
        templates = [self._template_by_id(i) for i in ids]
        templates += [self.ec2_backend.get_launch_template_by_name(n) for n in names]
        if not ids and not names:
            templates = list(self.ec2_backend.launch_templates.values())
        templates = select(
            templates, self._get_param("Filters", []), _template_value, "DescribeLaunchTemplates"
        )
        chosen, token = ec2_page(self, templates, 1, 200)
        self.error_on_dryrun()
        described = [self._describe_template(t) for t in chosen]
        return ActionResult({"LaunchTemplates": described, "NextToken": token})

    def describe_launch_template_versions(self):
        versions = self._requested_versions()
        versions = select(
            versions,
            self._get_param("Filters", []),
            _version_value,
            "DescribeLaunchTemplateVersions",
        )
        _refuse_alias(self._get_param("ResolveAlias"), [v.data for v in versions])
        self.error_on_dryrun()
        chosen, token = ec2_page(self, versions, 1, 200)
        described = [self._describe_version(v) for v in chosen]
        return ActionResult({"LaunchTemplateVersions": described, "NextToken": token})

    def _requested_versions(self) -> list[LaunchTemplateVersion]:
        wanted = [str(v) for v in self._get_param("Versions", [])]
        if not self._get_param("LaunchTemplateId") and not self._get_param("LaunchTemplateName"):
            if not wanted or set(wanted) - {"$Latest", "$Default"}:
                raise AwsError(
                    "InvalidParameterValue",
                    "Without a launch template, versions must be $Latest, $Default or both.",
                )
            found = [
                t.get_version(w) for t in self.ec2_backend.launch_templates.values() for w in wanted
            ]
            return list({id(v): v for v in found}.values())
        template = self._template()
        if wanted:
            return [template.get_version(w) for w in wanted]
        low = int(self._get_param("MinVersion") or 1)
        high = int(self._get_param("MaxVersion") or len(template.versions))
        return [v for v in reversed(_seen_versions(template)) if low <= v.number <= high]

    def modify_launch_template(self):
        template = self._template()
        wanted = self._get_param("DefaultVersion")
        self.error_on_dryrun()
        if wanted is not None:
            template.default_version_number = template.get_version(wanted).number
        return ActionResult({"LaunchTemplate": self._describe_template(template)})

    def delete_launch_template_versions(self):
        template = self._template()
        numbers = [str(v) for v in self._get_param("Versions", [])]
        if len(numbers) > MOST_DELETIONS:
            raise AwsError(
                "InvalidParameterValue",
                f"At most {MOST_DELETIONS} versions can be deleted at once.",
            )
        self.error_on_dryrun()
        result: dict[str, list] = {
            "SuccessfullyDeletedLaunchTemplateVersions": [],
            "UnsuccessfullyDeletedLaunchTemplateVersions": [],
        }
        for number in numbers:
            self._delete_version(template, number, result)
        return ActionResult(result)

    def _delete_version(self, template: LaunchTemplate, number: str, result: dict) -> None:
        item = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "VersionNumber": int(number) if number.isdigit() else 0,
        }
        found = next((v for v in _seen_versions(template) if str(v.number) == number), None)
        if found is not None and not template.is_default(found):
            found.deleted = True
            result["SuccessfullyDeletedLaunchTemplateVersions"].append(item)
            return
        code, message = (
            (
                "launchTemplateVersionDoesNotExist",
                f"Launch template version {number} does not exist",
            )
            if found is None
            else ("unexpectedError", "Cannot delete the default launch template version")
        )
        item["ResponseError"] = {"Code": code, "Message": message}
        result["UnsuccessfullyDeletedLaunchTemplateVersions"].append(item)

    def _describe_template(self, template: LaunchTemplate) -> dict:
        return {
            "CreateTime": template.create_time,
            "CreatedBy": f"arn:{self.partition}:iam::{self.current_account}:root",
            "DefaultVersionNumber": template.default_version_number,
            "LatestVersionNumber": template.latest_version_number,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Tags": template.get_tags(),
        }

    def _describe_version(self, version: LaunchTemplateVersion) -> dict:
        return {
            "CreateTime": version.create_time,
            "CreatedBy": f"arn:{self.partition}:iam::{self.current_account}:root",
            "DefaultVersion": version.template.is_default(version),
            "LaunchTemplateData": version.data,
            "LaunchTemplateId": version.template.id,
            "LaunchTemplateName": version.template.name,
            "VersionDescription": version.description or None,
            "VersionNumber": version.number,
        }


def inherit(source: dict, given: dict) -> dict:
    """Return the source's data overridden by the given data; AWS drops inherited snapshot IDs."""
    data = copy.deepcopy({k: v for k, v in source.items() if v is not None})
    for mapping in data.get("BlockDeviceMappings", []):
        mapping.get("Ebs", {}).pop("SnapshotId", None)
    data.update(given)
    return data


def live_versions(template: LaunchTemplate) -> list[LaunchTemplateVersion]:
    return [v for v in template.versions if not getattr(v, "deleted", False)]


def _seen_versions(template: LaunchTemplate) -> list[LaunchTemplateVersion]:
    """Return the versions that are visible to the call in progress."""
    return [
        v for v in live_versions(template) if staleness.visible("versions", (template.id, v.number))
    ]


def _refuse_alias(resolve: bool | None, datas: list[dict]) -> None:
    if resolve and any(str(d.get("ImageId", "")).startswith("resolve:ssm:") for d in datas):
        raise AwsError("UnsupportedOperation", "The test bed does not emulate ResolveAlias.")


def _template_value(template: LaunchTemplate, name: str):
    if name == "launch-template-name":
        return template.name
    if name == "create-time":
        return template.create_time.isoformat()
    return tag_value(tags_of(template), name)


def _version_value(version: LaunchTemplateVersion, name: str):
    return {
        "image-id": version.data.get("ImageId"),
        "instance-type": version.data.get("InstanceType"),
        "is-default-version": version.template.is_default(version),
        "create-time": version.create_time.isoformat(),
    }[name]


def patch() -> None:
    """Make moto's own lookups skip deleted versions and reject unknown version numbers."""

    def get_version(self, num):
        live = _seen_versions(self)
        wanted = str(num).lower()
        if wanted == "$latest":
            return live[-1]
        if wanted == "$default":
            return self.default_version()
        found = next((v for v in live if str(v.number) == wanted), None)
        if found is None:
            raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)
        return found

    LaunchTemplate.get_version = get_version
    LaunchTemplate.latest_version = lambda self: _seen_versions(self)[-1]
