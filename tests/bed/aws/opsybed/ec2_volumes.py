"""EC2 volumes: detaches them by volume ID only, as ebssurrogate builds do."""

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from .wire import AwsError


class VolumeOperations(EC2Response):
    def detach_volume(self):
        """moto requires the instance ID; EC2 finds the instance by the volume."""
        volume = self.ec2_backend.get_volume(self._get_param("VolumeId"))
        attached = volume.attachment
        if attached is None:
            raise AwsError("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
        self.error_on_dryrun()
        self.ec2_backend.detach_volume(volume.id, attached.instance.id, attached.device)
        return ActionResult(
            {
                "VolumeId": volume.id,
                "InstanceId": attached.instance.id,
                "Device": attached.device,
                "State": "detaching",
            }
        )
