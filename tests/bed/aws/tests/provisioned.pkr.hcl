variable "endpoint" { type = string }
variable "source_ami" { type = string }
variable "ami_name" { type = string }
variable "ssh_user" { type = string }
variable "ssh_port" { type = number }
variable "note" { type = string }

source "amazon-ebs" "node" {
  region              = "us-east-1"
  custom_endpoint_ec2 = var.endpoint
  source_ami          = var.source_ami
  instance_type       = "t3.micro"
  ami_name            = var.ami_name
  ssh_username        = var.ssh_user
  ssh_port            = var.ssh_port
  ssh_timeout         = "30s"
  run_tags            = { build = "b-2" }
  tags                = { build = "b-2", status = "new" }
}

build {
  sources = ["source.amazon-ebs.node"]

  provisioner "shell" {
    inline = [
      "echo provisioned as $(whoami)",
      "nohup sleep 3000 >/dev/null 2>&1 & echo $! > ${var.note}",
      "kill -0 $(cat ${var.note})",
    ]
  }
}
