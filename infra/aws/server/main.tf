# GPU servers in one region: machines, who may reach them, and optionally a load balancer with QUIC.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source = "hashicorp/aws"
      # QUIC listeners and server ids of targets
      version = "~> 6.22"
    }
  }
}

provider "aws" {
  region = var.region
}

locals {
  # servers by name, each with the id that a load balancer routes by
  servers   = { for number in range(var.servers) : "${var.name}-${number}" => "0x${substr(sha256("${var.name}-${number}"), 0, 16)}" }
  has_group = var.log_retention_days > 0
  ports = merge(
    { action_websocket = { protocol = "tcp", port = 8000 }, action_quic = { protocol = "udp", port = 5555 } },
    local.has_planner ? { planner_websocket = { protocol = "tcp", port = 8002 }, planner_quic = { protocol = "udp", port = 5556 } } : {},
  )
  has_planner = var.prepare_planner_checkpoint || var.planner_checkpoint_dir != null
  # one rule for each port and address: none of them, and the servers are closed
  rules = merge([
    for name, port in local.ports : { for address in var.robot_addresses : "${name} ${address}" => merge(port, { address = address }) }
  ]...)
}

module "boot" {
  source   = "./boot"
  for_each = local.servers

  image                      = var.image
  region                     = var.region
  model_config_name          = var.model_config_name
  checkpoint_dir             = var.checkpoint_dir
  planner_checkpoint_dir     = var.planner_checkpoint_dir
  prepare_planner_checkpoint = var.prepare_planner_checkpoint
  default_prompt             = var.default_prompt
  api_keys_parameter         = var.api_keys_parameter
  certificate_parameter      = var.certificate_parameter
  certificate_key_parameter  = var.certificate_key_parameter
  has_certificate            = var.certificate_parameter != null
  server_id                  = var.load_balancer ? each.value : null
  log_group                  = local.has_group ? aws_cloudwatch_log_group.server[0].name : null
}

data "aws_subnet" "server" {
  id = var.subnet_id
}

data "aws_ssm_parameter" "machine_image" {
  name = var.machine_image_parameter
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

resource "aws_security_group" "server" {
  name        = var.name
  description = "openpi-flash: robots only"
  vpc_id      = data.aws_subnet.server.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "robot" {
  for_each          = local.rules
  security_group_id = aws_security_group.server.id
  description       = each.key
  ip_protocol       = each.value.protocol
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.address
}

# health checks come from the load balancer's own addresses
resource "aws_vpc_security_group_ingress_rule" "health" {
  count                        = var.load_balancer ? 1 : 0
  security_group_id            = aws_security_group.server.id
  referenced_security_group_id = aws_security_group.load_balancer[0].id
  description                  = "the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
}

resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.server.id
  description       = "images, checkpoints, parameters"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

data "aws_iam_policy_document" "machine_may_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "server" {
  statement {
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = ["arn:${data.aws_partition.this.partition}:ecr:*:${data.aws_caller_identity.this.account_id}:repository/openpi-flash-*"]
  }
  statement {
    actions = ["ssm:GetParameter"]
    resources = [
      for name in compact([var.api_keys_parameter, var.certificate_parameter, var.certificate_key_parameter]) :
      "arn:${data.aws_partition.this.partition}:ssm:${var.region}:${data.aws_caller_identity.this.account_id}:parameter/${trimprefix(name, "/")}"
    ]
  }
  dynamic "statement" {
    for_each = aws_cloudwatch_log_group.server
    content {
      actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      resources = ["${statement.value.arn}:*"]
    }
  }
}

resource "aws_iam_role" "server" {
  name_prefix        = "${var.name}-"
  assume_role_policy = data.aws_iam_policy_document.machine_may_assume.json
}

resource "aws_iam_role_policy" "server" {
  name   = "server"
  role   = aws_iam_role.server.id
  policy = data.aws_iam_policy_document.server.json
}

# a shell through Session Manager: no SSH port, no keys of people
resource "aws_iam_role_policy_attachment" "session" {
  role       = aws_iam_role.server.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "server" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.server.name
}

resource "aws_cloudwatch_log_group" "server" {
  count             = local.has_group ? 1 : 0
  name              = "/openpi-flash/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_instance" "server" {
  for_each               = local.servers
  ami                    = data.aws_ssm_parameter.machine_image.insecure_value
  instance_type          = var.instance_type
  subnet_id              = var.subnet_id
  vpc_security_group_ids = [aws_security_group.server.id]
  iam_instance_profile   = aws_iam_instance_profile.server.name
  user_data              = module.boot[each.key].user_data
  # cloud-init reads it at the first start only: another configuration is another machine
  user_data_replace_on_change = true
  tags                        = { Name = each.key }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.disk_gib
    throughput  = 500
    encrypted   = true
  }

  lifecycle {
    # a newer machine image is a decision: terraform apply -replace
    ignore_changes = [ami]
  }
}

resource "aws_eip" "server" {
  for_each = var.public_address && !var.load_balancer ? aws_instance.server : {}
  domain   = "vpc"
  instance = each.value.id
  tags     = { Name = each.key }
}
