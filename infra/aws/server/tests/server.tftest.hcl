# What Terraform would make, planned with a provider that is made up: `scripts/test-infra`.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-1" }
  }
}

variables {
  region             = "eu-west-1"
  subnet_id          = "subnet-1"
  image              = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/openpi-flash-server:0.1.0"
  api_keys_parameter = "/openpi-flash/api-keys"
}

run "nobody_reaches_a_server_by_default" {
  command = plan

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.robot) == 0
    error_message = "a rule lets somebody in whom nobody named"
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.health) == 0 && length(aws_lb.quic) == 0
    error_message = "there is a load balancer that nobody asked for"
  }
  assert {
    condition     = length(aws_cloudwatch_log_group.server) == 0
    error_message = "logs leave the machine although nobody asked for it"
  }
}

run "robots_reach_the_ports_of_their_slots" {
  command = plan
  variables {
    robot_addresses = ["203.0.113.7/32", "198.51.100.0/24"]
  }

  assert {
    condition = toset([for rule in aws_vpc_security_group_ingress_rule.robot : "${rule.cidr_ipv4} ${rule.ip_protocol} ${rule.from_port}-${rule.to_port}"]) == toset([
      "203.0.113.7/32 tcp 8000-8000", "203.0.113.7/32 udp 5555-5555",
      "198.51.100.0/24 tcp 8000-8000", "198.51.100.0/24 udp 5555-5555",
    ])
    error_message = "the rules are not those of the action slot's ports"
  }
}

run "a_planner_opens_its_own_ports" {
  command = plan
  variables {
    robot_addresses            = ["203.0.113.7/32"]
    prepare_planner_checkpoint = true
  }

  assert {
    condition = toset([for rule in aws_vpc_security_group_ingress_rule.robot : rule.from_port]) == toset([
      8000, 5555, 8002, 5556,
    ])
    error_message = "the planner's ports are not open"
  }
}

run "no_address_of_everybody" {
  command = plan
  variables {
    robot_addresses = ["0.0.0.0/0"]
  }
  expect_failures = [var.robot_addresses]
}

run "no_image_without_a_version" {
  command = plan
  variables {
    image = "openpi-flash-server:latest"
  }
  expect_failures = [var.image]
}

run "a_machine_keeps_its_secrets" {
  command = plan

  assert {
    condition     = alltrue([for server in aws_instance.server : server.metadata_options[0].http_tokens == "required" && server.root_block_device[0].encrypted])
    error_message = "the machine answers version 1 of the metadata service, or its disk is not encrypted"
  }
  assert {
    condition     = alltrue([for server in aws_instance.server : server.user_data_replace_on_change])
    error_message = "a changed configuration would not reach the machine"
  }
}

run "a_load_balancer_routes_by_the_servers_ids" {
  command = plan
  variables {
    load_balancer   = true
    servers         = 3
    robot_addresses = ["203.0.113.7/32"]
  }

  assert {
    condition     = length(distinct([for target in aws_lb_target_group_attachment.quic : target.quic_server_id])) == 3
    error_message = "two servers have the same id"
  }
  assert {
    condition = alltrue([
      for name, target in aws_lb_target_group_attachment.quic :
      jsondecode(module.boot[name].config).action_transport.quic_server_id == target.quic_server_id
    ])
    error_message = "a server does not write the id that the load balancer routes by"
  }
  assert {
    condition     = aws_lb_listener.quic[0].protocol == "QUIC" && aws_lb_target_group.quic[0].protocol == "QUIC"
    error_message = "the load balancer does not pass on QUIC"
  }
  assert {
    condition     = length(aws_eip.server) == 0 && aws_vpc_security_group_ingress_rule.load_balancer["203.0.113.7/32"].ip_protocol == "udp"
    error_message = "robots do not come by the load balancer"
  }
  assert {
    condition     = tonumber(aws_lb_target_group.quic[0].deregistration_delay) > 8
    error_message = "a target is gone before its server has drained"
  }
}

run "addresses_are_those_that_robots_connect_to" {
  variables {
    servers = 2
  }

  assert {
    condition     = output.addresses["openpi-flash-0"] == aws_eip.server["openpi-flash-0"].public_ip && length(output.addresses) == 2
    error_message = "the output is not the servers' public address"
  }
}
