variable "name" {
  description = "Name of the servers and of everything that belongs to them."
  type        = string
  default     = "openpi-flash"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "name must be 2 to 21 lowercase letters, digits and hyphens: the load balancer's name is made of it."
  }
}

variable "robot_addresses" {
  description = "IPv4 networks of the robots, such as 203.0.113.7/32. Nobody else reaches the servers; none by default."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.robot_addresses : can(cidrnetmask(address)) && !endswith(address, "/0")])
    error_message = "robot_addresses must be IPv4 networks such as 203.0.113.7/32, and not the whole internet."
  }
}

variable "subnet_id" {
  description = "Subnet of the servers; a public one if public_address is true."
  type        = string
}

variable "servers" {
  description = "How many servers, each on a machine of its own."
  type        = number
  default     = 1

  validation {
    condition     = var.servers >= 1 && var.servers <= 50 && floor(var.servers) == var.servers
    error_message = "servers must be a whole number from 1 to 50."
  }
}

variable "instance_type" {
  description = "A machine with an NVIDIA GPU; g6e.xlarge has one L40S with 48 GB."
  type        = string
  default     = "g6e.xlarge"
}

variable "machine_image_parameter" {
  description = "Public SSM parameter of the machine image: Ubuntu with NVIDIA's driver, Docker and NVIDIA's container toolkit."
  type        = string
  default     = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
}

variable "disk_gib" {
  description = "Disk for the system, the image, checkpoints and compiled programs, GiB."
  type        = number
  default     = 200
}

variable "public_address" {
  description = "Reachable from the internet by robot_addresses; false for robots on a VPN or in the VPC."
  type        = bool
  default     = true
}

variable "load_balancer" {
  description = "Put a Network Load Balancer with a QUIC listener before the servers."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "Days that CloudWatch keeps logs; 0 logs to each machine's journal only."
  type        = number
  default     = 0
}

variable "image" {
  description = "The server's image with its tag or digest, such as 1.dkr.ecr.eu-west-1.amazonaws.com/openpi-flash-server:0.1.0."
  type        = string

  validation {
    condition     = can(regex("(:|@sha256:)[A-Za-z0-9._-]+$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must name a version or a digest, and not latest: a restart would change what runs."
  }
}

variable "region" {
  description = "Region of the machine, its parameters and its logs."
  type        = string
}

variable "model_config_name" {
  description = "The named config of docs/robots.md, such as pi05_droid."
  type        = string
  default     = "pi05_aloha"
}

variable "checkpoint_dir" {
  description = "URL of the action checkpoint (gs://, hf://, https://); null makes ALOHA's from lerobot/pi05_base and openpi's statistics."
  type        = string
  default     = null
}

variable "planner_checkpoint_dir" {
  description = "URL of the planner's checkpoint; null without a planner."
  type        = string
  default     = null
}

variable "prepare_planner_checkpoint" {
  description = "Make the planner's checkpoint before the first start, and serve it."
  type        = bool
  default     = false
}

variable "default_prompt" {
  description = "The task for a request that names none."
  type        = string
  default     = null
}

variable "api_keys_parameter" {
  description = "SSM parameter (SecureString) with the API keys of the robots, one a line."
  type        = string
}

variable "certificate_parameter" {
  description = "SSM parameter with the server's certificate chain, PEM; null keeps a certificate of its own on the machine."
  type        = string
  default     = null
}

variable "certificate_key_parameter" {
  description = "SSM parameter (SecureString) with the certificate's private key, PEM."
  type        = string
  default     = null
}
