# Opsy passes these two because the builder requests a base image.

variable "ami_id" {
  type        = string
  description = "Base image."
}

variable "region" {
  type        = string
  description = "Region to build in."
  default     = "us-east-1"
}

# Opsy sets this variable in the environment of every build. If a build is interrupted, Opsy removes what
# carries these tags, so pass them on to everything that Packer makes.
variable "opsy_build_tags" {
  type        = map(string)
  description = "Tags of everything that belongs to this build."
  default     = {}
}

# Variables of this template.

variable "instance_type" {
  type        = string
  description = "Machine the image is built on."
  default     = "m6i.large"
}

variable "volume_size" {
  type        = number
  description = "GiB of the root volume; not less than the base image's."
  default     = 20
}

variable "subnet_id" {
  type        = string
  description = "Subnet to build in. Empty: one of the default VPC, if the account has one."
  default     = ""
}

variable "ssh_cidrs" {
  type        = list(string)
  description = "Addresses from which the build machine accepts SSH: those of the machine or pod that runs Packer."
  default     = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}

variable "ssh_username" {
  type    = string
  default = "ec2-user"
}

variable "ssh_host" {
  type        = string
  description = "Address of the machine, when it is not the instance's own."
  default     = ""
}

variable "ssh_port" {
  type    = number
  default = 22
}

variable "endpoint" {
  type        = string
  description = "An emulated EC2 to build on; empty for AWS."
  default     = ""
}
