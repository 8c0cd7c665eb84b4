# A hardened Amazon Linux 2023 node for EKS, made from Amazon's EKS-optimized image.
#
# Packer 1.7 and later need the code that is commented out at the two places marked "Packer 1.7".
# Packer 1.6 does not support it. Uncomment both places unless you use Packer 1.6.

# Packer 1.7: `packer init` installs the plugins that this block names. Packer 1.6 has them built in.
#
# packer {
#   required_plugins {
#     amazon = {
#       source  = "github.com/hashicorp/amazon"
#       version = "~> 1.8"
#     }
#   }
# }

locals {
  # An emulated EC2 has no machine behind it: there, the scripts write files to a directory and apply nothing.
  on_aws = var.endpoint == ""
  stamp  = formatdate("YYYYMMDDhhmmss", timestamp())
  name   = "eks-node-al2023-1.31-${local.stamp}"

  # Opsy's own tags take precedence: it uses them to find what a build made.
  tags = merge({
    Name = local.name
    os   = "al2023"
  }, var.opsy_build_tags)
}

source "amazon-ebs" "node" {
  region              = var.region
  custom_endpoint_ec2 = var.endpoint
  source_ami          = var.ami_id
  instance_type       = var.instance_type
  subnet_id           = var.subnet_id

  # From where the build machine accepts SSH. Packer's default is everywhere.
  temporary_security_group_source_cidrs = var.ssh_cidrs

  # Packer 1.7: without these lines the plugin requests IMDSv1, and an account that enforces IMDSv2
  # refuses the build. Packer 1.6 requests nothing: the base image decides, and it requires IMDSv2.
  #
  # imds_support = "v2.0"
  # metadata_options {
  #   http_endpoint               = "enabled"
  #   http_tokens                 = "required"
  #   http_put_response_hop_limit = 1
  # }

  ami_name        = local.name
  ami_description = "Hardened EKS node, Amazon Linux 2023, Kubernetes 1.31"

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = 3000 # included in the price of gp3, as is the throughput
    throughput            = 125
    delete_on_termination = true
  }

  communicator = "ssh"
  ssh_username = var.ssh_username
  ssh_host     = var.ssh_host
  ssh_port     = var.ssh_port
  ssh_timeout  = "10m"

  run_tags        = local.tags
  run_volume_tags = local.tags
  tags            = merge(local.tags, { base_image_name = "{{ .SourceAMIName }}" })
  snapshot_tags   = local.tags
}

build {
  sources = ["source.amazon-ebs.node"]

  provisioner "shell" {
    scripts = [
      "${path.root}/scripts/10-kernel.sh",
      "${path.root}/scripts/20-modules.sh",
      "${path.root}/scripts/30-sshd.sh",
      "${path.root}/scripts/40-logging.sh",
      "${path.root}/scripts/90-clean.sh",
    ]
    environment_vars = ["ROOT=${local.on_aws ? "" : "emulated-root"}"]
    execute_command  = "chmod +x {{ .Path }}; {{ .Vars }} ${local.on_aws ? "sudo -E" : ""} {{ .Path }}"
  }
}
