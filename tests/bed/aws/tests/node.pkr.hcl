variable "endpoint" {
  type    = string
  default = ""
}

variable "source_ami" { type = string }
variable "ami_name" { type = string }

variable "communicator" {
  type    = string
  default = "none"
}

variable "ssh_user" {
  type    = string
  default = "ec2-user"
}

variable "ssh_port" {
  type    = number
  default = 22
}

source "amazon-ebs" "node" {
  region              = "us-east-1"
  custom_endpoint_ec2 = var.endpoint
  source_ami          = var.source_ami
  instance_type       = "t3.micro"
  ami_name            = var.ami_name
  communicator        = var.communicator
  ssh_username        = var.ssh_user
  ssh_port            = var.ssh_port
  ssh_timeout         = "20s"
  run_tags            = { build = "b-1" }
  tags                = { build = "b-1", status = "new" }
  snapshot_tags       = { kind = "node" }
}

build {
  sources = ["source.amazon-ebs.node"]
}
